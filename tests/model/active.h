/* A pool for the programs about P13: worker 0 was the last that searched and has found a task; worker 1 puts one into
   its own lane; worker 2 sleeps, and must be woken for that. */
#include "model.h"

static tpool pool;
static tpool__worker workers[3];
static tpool__segment segments[3], injected;
static void reset_sleeper(tpool__worker *worker, tpool__worker *next) {
    worker->asleep = true;
    worker->sleep_next = next;
    worker->sleep_previous = NULL;
    if (next) next->sleep_previous = worker;
    pool.sleepers = worker;
}
static void reset_pool(uintptr_t gate, uintptr_t active, uintptr_t max_workers) {
    model_reset_lane(&pool.inject, &injected);
    for (int i = 0; i < 3; i++) {
        workers[i].pool = &pool;
        workers[i].searching = workers[i].asleep = false;
        model_reset_lane(&workers[i].lane, &segments[i]);
        tpool__store_relaxed(&workers[i].parker, 0);
        tpool__store_relaxed(&workers[i].next, i < 1 ? &workers[i + 1] : NULL); /* nobody looks at what sleeps */
    }
    tpool__store_relaxed(&pool.workers, &workers[0]);
    tpool__store_relaxed(&pool.gate, gate);
    tpool__store_relaxed(&pool.active, active);
    tpool__store_relaxed(&pool.max_workers, max_workers);
    tpool__store_relaxed(&pool.most_active, max_workers);
    pool.blocked_waiters = NULL;
    pool.blocked = 0;
    workers[0].searching = true;
    reset_sleeper(&workers[2], NULL);
}
static void *nothing(void *arg) { return arg; }
/* As tpool__enqueue does from within a task of the worker's. */
static void submit_own(tpool__worker *worker) {
    tpool__entry entry = { 0 };
    tpool_future *unreferenced = NULL;
    entry.fn = nothing;
    tpool__spin_lock(&worker->lane.lock);
    (void)tpool__place(&pool, &worker->lane, &entry, &unreferenced);
    tpool__spin_unlock(&worker->lane.lock);
    tpool__notify(&pool);
}
static void *find_a_task(void *arg) {
    tpool__stop_searching(&workers[0]);
    return arg;
}
static void model_check(void) { MODEL_CHECK(!workers[2].asleep); }
