/* P1, of the lock with the lighter unlock: what one holder did is seen by the next, and there is one at a time. */
#include "model.h"

static tpool__lock_word lock;
static _Atomic(bool) awaited;
static int count;
static void model_reset(void) {
    tpool__store_relaxed(&lock, 0);
    tpool__store_relaxed(&awaited, false);
    count = 0;
}
static void *add(void *arg) {
    tpool__light_lock(&lock, &awaited);
    count++;
    tpool__light_unlock(&lock, &awaited);
    return arg;
}
static void model_check(void) { MODEL_CHECK(count == 3); }
MODEL(add, add, add)
