/* "Why destroy frees nothing too early": a task is cancelled as its worker comes to the entry, and as a thread waits
   for the pool to be quiet, to free it. P4 between the canceller and the thread that drops the tombstone: the thread
   that gives up the last reference uses the block again. */
#include "model.h"

static alignas(4096) tpool pool;
static tpool__worker worker;
static tpool__segment injected, own;
static tpool_future block;
static void *nothing(void *arg) { return arg; }
static void model_reset(void) {
    tpool__entry entry = { 0 };
    tpool_future *unreferenced = NULL;
    MODEL_CHECK(tpool__process_ready()); /* blocks come to the thread that frees them */
    tpool__process.unpooled = false;     /* under a tool that checks memory too: the block is not of the allocator's */
    model_reset_lane(&pool.inject, &injected);
    model_reset_lane(&worker.lane, &own);
    pool.home = (uintptr_t)&pool;
    pool.room_end = &pool.room;
    pool.enders = 0;
    for (int i = 0; i < TPOOL__POOL_COUNTS; i++) tpool__store_relaxed(&pool.counts[i], 0);
    for (int i = 0; i < TPOOL__OWN_COUNTS; i++) tpool__store_relaxed(&worker.counts[i], 0);
    tpool__store_relaxed(&pool.max_workers, 2);
    tpool__store_relaxed(&pool.workers, &worker);
    worker.pool = &pool;
    tpool__store_relaxed(&worker.busy, true);
    tpool__store_relaxed(&tpool__process.pool_count, 1);
    tpool__task_init(&block, &pool, nothing, NULL, NULL, TPOOL__PHASE_PENDING | 2 * TPOOL__REFERENCE);
    entry.task = &block;
    MODEL_CHECK(tpool__place(&pool, &worker.lane, &entry, &unreferenced) == TPOOL_OK);
}
static void use_again(tpool__thread *self) {
    if (self->cached == 0) return;
    MODEL_CHECK(tpool__task_new(self) == &block);
    tpool__task_init(&block, NULL, NULL, NULL, NULL, TPOOL__PHASE_PENDING | TPOOL__REFERENCE);
}
static void *take(void *arg) { /* as a worker that runs out of work */
    tpool__entry entry = { 0 };
    tpool__thread *self = tpool__self();
    self->worker = &worker;
    if (tpool__take(&worker, &worker.lane, &entry)) tpool__execute_entry(self, &entry);
    tpool__set_busy(&worker, false);
    self->worker = NULL;
    use_again(self);
    return arg;
}
static void *cancel(void *arg) {
    (void)tpool_future_cancel(&block);
    tpool_future_release(&block);
    use_again(tpool__self());
    return arg;
}
static void *destroy(void *arg) {
    for (int i = 0; i < MODEL_TRIES; i++) {
        if (!tpool__is_quiet(&pool)) continue;
        atomic_init(&pool.inject.lock, 1); /* what was the pool is something else now */
        pool.enders = 100;
        break;
    }
    return arg;
}
static void model_check(void) { MODEL_CHECK(tpool__load_relaxed(&pool.inject.lock) == 1 || tpool__is_quiet(&pool)); }
MODEL(take, cancel, destroy)
