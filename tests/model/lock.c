/* P1: what one holder of the lock did is seen by the next, and there is one at a time. */
#include "model.h"

static tpool__lock_word lock;
static int count;
static void model_reset(void) {
    tpool__store_relaxed(&lock, 0);
    count = 0;
}
static void *add(void *arg) {
    tpool__lock(&lock);
    count++;
    tpool__unlock(&lock);
    return arg;
}
static void model_check(void) { MODEL_CHECK(count == 3); }
MODEL(add, add, add)
