/* E3: the last worker ends as a task comes. It lowers `live` and then looks under the spinlock; the submitter looks at
   `live` within the spinlock: either the worker sees the task, or the submitter that nobody lives. No order but the
   spinlock's. */
#include "model.h"

static tpool pool;
static tpool__segment segment;
static bool ended, placed;
static void model_reset(void) {
    model_reset_lane(&pool.inject, &segment);
    tpool__store_relaxed(&pool.gate, 0);
    tpool__store_relaxed(&pool.live, 1);
    tpool__store_relaxed(&pool.active, 1);
    tpool__store_relaxed(&pool.max_workers, 1);
    ended = placed = false;
}
static void *nothing(void *arg) { return arg; }
static void *submit(void *arg) { /* as tpool__enqueue */
    tpool__entry entry = { 0 };
    tpool_future *unreferenced = NULL;
    entry.fn = nothing;
    tpool__spin_lock(&pool.inject.lock);
    if (tpool__load_relaxed(&pool.live) > 0)
        placed = tpool__place(&pool, &pool.inject, &entry, &unreferenced) == TPOOL_OK;
    tpool__spin_unlock(&pool.inject.lock);
    return arg;
}
static void *retire(void *arg) {
    tpool__lock(&pool.lock);
    ended = tpool__retire(&pool);
    tpool__unlock(&pool.lock);
    return arg;
}
static void model_check(void) { MODEL_CHECK(!ended || !placed); }
MODEL(submit, retire)
