/* P12: two threads ask for the global manager first: it is made once, and both see it whole. */
#define MODEL_FRESH_MEMORY
#include "model.h"

static tpool_manager *seen[2];
MODEL_ZERO(fresh, size) { /* what follows the memset will do */
    (void)fresh;
    (void)size;
}
static void model_reset(void) {
    tpool__store_relaxed(&tpool__process.ready, 1);
    tpool__store_relaxed(&tpool__global_manager, NULL);
}
static tpool_manager *ask(void) {
    tpool_manager *manager = tpool_manager_global();
    MODEL_CHECK(manager && manager->chains == TPOOL__MANAGED_FEW && !manager->by_key[0] && !manager->shut);
    return manager;
}
static void *ask_first(void *arg) {
    seen[0] = ask();
    return arg;
}
static void *ask_second(void *arg) {
    seen[1] = ask();
    return arg;
}
static void model_check(void) {
    MODEL_CHECK(seen[0] == seen[1]);
    TPOOL_FREE(seen[0]);
}
MODEL(ask_first, ask_second)
