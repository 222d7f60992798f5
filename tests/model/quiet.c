/* P10: a drain that finds a pool quiet sees all that its tasks did, those too which these submitted, and what ran after
   a task had been counted: on_failure. */
#include "model.h"

static alignas(4096) tpool pool;
static tpool__worker worker;
static tpool__segment injected, own;
static int first, second, reported, found_quiet;
static void note_failure(const tpool_error *error, void *context) {
    (void)error;
    (void)context;
    reported = 1;
}
static void *fail(void *arg) {
    second = 1;
    MODEL_CHECK(tpool__set_outcome(tpool__current_task(), tpool__fixed(TPOOL__OUT_OF_MEMORY)));
    return arg;
}
static void *spread(void *arg) {
    tpool__entry entry = { 0 };
    tpool_future *unreferenced = NULL;
    first = 1;
    entry.fn = fail;
    tpool__spin_lock(&worker.lane.lock);
    MODEL_CHECK(tpool__place(&pool, &worker.lane, &entry, &unreferenced) == TPOOL_OK);
    tpool__spin_unlock(&worker.lane.lock);
    return arg;
}
static void model_reset(void) {
    tpool__entry entry = { 0 };
    tpool_future *unreferenced = NULL;
    first = second = reported = found_quiet = 0;
    model_reset_lane(&pool.inject, &injected);
    model_reset_lane(&worker.lane, &own);
    pool.home = (uintptr_t)&pool;
    pool.config.on_failure = note_failure;
    tpool__store_relaxed(&pool.max_workers, 2);
    tpool__store_relaxed(&pool.workers, &worker);
    worker.pool = &pool;
    tpool__store_relaxed(&worker.busy, false);
    for (int i = 0; i < TPOOL__OWN_COUNTS; i++) tpool__store_relaxed(&worker.counts[i], 0);
    entry.fn = spread;
    MODEL_CHECK(tpool__place(&pool, &pool.inject, &entry, &unreferenced) == TPOOL_OK);
}
static void take_and_run(tpool__thread *self, tpool__lane *lane) {
    tpool__entry entry = { 0 };
    MODEL_CHECK(tpool__take(&worker, lane, &entry));
    tpool__execute_entry(self, &entry);
}
static void *work(void *arg) {
    tpool__thread *self = tpool__self();
    self->worker = &worker;
    tpool__set_busy(&worker, true);
    take_and_run(self, &pool.inject);
    take_and_run(self, &worker.lane);
    tpool__set_busy(&worker, false);
    self->worker = NULL;
    return arg;
}
static void *drain(void *arg) {
    for (int i = 0; i < MODEL_TRIES && !found_quiet; i++) {
        if (!tpool__is_quiet(&pool)) continue;
        MODEL_CHECK(first == 1 && second == 1 && reported == 1);
        found_quiet = 1;
    }
    return arg;
}
static void model_check(void) { MODEL_CHECK(tpool__is_quiet(&pool)); }
MODEL(work, drain)
