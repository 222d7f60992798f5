/* P1, where there are CPUs to spare: who finds the lock held looks again before it sleeps. */
#include "model.h"

static tpool__lock_word lock;
static int count;
static void model_reset(void) {
    tpool__store_relaxed(&tpool__spare_cpus, 1);
    tpool__store_relaxed(&lock, 0);
    count = 0;
}
static void *add(void *arg) {
    tpool__lock(&lock);
    count++;
    tpool__unlock(&lock);
    return arg;
}
static void model_check(void) { MODEL_CHECK(count == 2); }
MODEL(add, add)
