/* P6: who finds a worker in the pool's list, the first or a later one, without the pool's lock, finds it whole: its
   spinlock, its lane, its run. */
#define MODEL_FRESH_MEMORY
#include "model.h"

static tpool pool;
static tpool__worker thief;
static tpool__segment run;
static int argument, stolen;
MODEL_ZERO(fresh, size) {
    tpool__worker *worker = (tpool__worker *)fresh;
    if (size != sizeof *worker) return;
    atomic_init(&worker->lane.lock, 0);
    atomic_init(&worker->lane.count, 0);
    atomic_init(&worker->lane.batch, 0);
    atomic_init(&worker->jobs_lock, 0);
    atomic_init(&worker->public_jobs, 0);
    atomic_init(&worker->next, NULL);
    worker->offer.job = NULL;
}
static void *nothing(void *arg) { return arg; }
static void model_reset(void) {
    thief.pool = &pool;
    thief.lane.batch_segment = &run;
    tpool__store_relaxed(&thief.next, NULL);
    tpool__store_relaxed(&pool.workers, NULL);
    tpool__store_relaxed(&pool.max_workers, 3);
    pool.newest = NULL;
    pool.unused = NULL;
    pool.unused_count = pool.unused_size = 0;
    argument = stolen = 0;
}
static void *start(void *arg) {
    tpool__entry entry = { 0 };
    tpool_future *unreferenced = NULL;
    tpool__lock(&pool.lock);
    tpool__worker *first = tpool__worker_slot(&pool, 0);
    MODEL_CHECK(first);
    tpool__worker *worker = tpool__worker_slot(&pool, 0);
    tpool__unlock(&pool.lock);
    MODEL_CHECK(worker && worker != first);
    argument = 1;
    entry.fn = nothing;
    entry.arg = &argument;
    tpool__spin_lock(&worker->lane.lock);
    MODEL_CHECK(tpool__place(&pool, &worker->lane, &entry, &unreferenced) == TPOOL_OK);
    tpool__spin_unlock(&worker->lane.lock);
    return arg;
}
static void *steal(void *arg) {
    tpool__entry entry = { 0 };
    bool hinted = false;
    for (int i = 0; i < MODEL_TRIES && !hinted; i++) hinted = tpool__work_hinted(&pool);
    if (hinted && tpool__steal(&thief, &entry)) {
        MODEL_CHECK(entry.fn == nothing && *(int *)entry.arg == 1);
        stolen++;
    }
    (void)tpool__work_visible(&pool); /* passes its spinlocks whether or not there seems to be work */
    return arg;
}
static void model_check(void) {
    tpool__worker *first = tpool__first_worker(&pool), *worker = tpool__next_worker(first);
    MODEL_CHECK(tpool__lane_count(&worker->lane) + (size_t)stolen == 1);
    tpool__lane_free(&first->lane);
    tpool__lane_free(&worker->lane);
    tpool__free_aligned(first);
    tpool__free_aligned(worker);
    TPOOL_FREE(pool.unused);
}
MODEL(start, steal)
