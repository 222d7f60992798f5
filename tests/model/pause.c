/* A flag in `flags`, set without an order: once whoever set it has passed the lanes' spinlocks (tpool__fence_lanes),
   nobody takes a task any more who has not seen it. */
#include "model.h"

static tpool pool;
static tpool__worker worker;
static tpool__segment segment, own;
static tpool_future block;
static bool taken, still_pending;
static void model_reset(void) {
    tpool__entry entry = { 0 };
    tpool_future *unreferenced = NULL;
    model_reset_lane(&pool.inject, &segment);
    pool.inject.front = 0;
    tpool__store_relaxed(&pool.flags, 0);
    tpool__store_relaxed(&pool.max_workers, 2);
    tpool__store_relaxed(&pool.workers, &worker);
    worker.pool = &pool;
    worker.lane.head = worker.lane.tail = &own;
    tpool__store_relaxed(&worker.lane.batch, 0);
    tpool__task_init(&block, NULL, NULL, NULL, NULL, TPOOL__PHASE_PENDING | 2 * TPOOL__REFERENCE);
    entry.task = &block;
    MODEL_CHECK(tpool__place(&pool, &pool.inject, &entry, &unreferenced) == TPOOL_OK);
    taken = still_pending = false;
}
static void *take(void *arg) {
    tpool__entry entry = { 0 };
    taken = tpool__take(&worker, &pool.inject, &entry);
    return arg;
}
static void *pause_it(void *arg) { /* as tpool_pause */
    tpool__or_relaxed(&pool.flags, TPOOL__PAUSED);
    tpool__fence_lanes(&pool);
    still_pending = !tpool__is_claimed(&block);
    return arg;
}
static void model_check(void) { MODEL_CHECK(taken != still_pending); }
MODEL(take, pause_it)
