/* P10 for what ends outside a worker: a pool breaks, and whoever ends its tasks tells on_failure of them before they
   are counted. A drain that finds the pool quiet sees what on_failure did. */
#include "model.h"

static alignas(4096) tpool pool;
static tpool__segment injected;
static int reported;
static void note_failure(const tpool_error *error, void *context) {
    (void)error;
    (void)context;
    reported = 1;
}
static void *nothing(void *arg) { return arg; }
static void model_reset(void) {
    tpool__entry entry = { 0 };
    tpool_future *unreferenced = NULL;
    reported = 0;
    model_reset_lane(&pool.inject, &injected);
    pool.inject.submitted = 0;
    tpool__store_relaxed(&pool.own_counts[TPOOL__FAILED_COUNT], 0);
    tpool__store_relaxed(&pool.flags, TPOOL__BREAK);
    pool.home = (uintptr_t)&pool;
    pool.config.on_failure = note_failure;
    entry.fn = nothing;
    MODEL_CHECK(tpool__place(&pool, &pool.inject, &entry, &unreferenced) == TPOOL_OK);
}
static void *end_all(void *arg) { /* as tpool__break */
    tpool__end_waiting(&pool, TPOOL__SETUP_FAILED);
    return arg;
}
static void *drain(void *arg) {
    for (int i = 0; i < MODEL_TRIES; i++) {
        if (!tpool__is_quiet(&pool)) continue;
        MODEL_CHECK(reported == 1);
        break;
    }
    return arg;
}
static void model_check(void) { MODEL_CHECK(reported == 1 && tpool__is_quiet(&pool)); }
MODEL(end_all, drain)
