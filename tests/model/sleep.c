/* "Why no wake is lost": a submitter puts a task in under the spinlock of the lane and then looks at the gate (N); the
   last searcher changes the gate (C) and then looks under that spinlock (L). Neither may miss the other, by relaxed
   accesses to the gate alone. */
#include "model.h"

static tpool pool;
static tpool__worker worker;
static tpool__segment segment;
static int wakes, sees;
static void model_reset(void) {
    model_reset_lane(&pool.inject, &segment);
    tpool__store_relaxed(&pool.gate, TPOOL__ROOM | TPOOL__SEARCHER);
    worker.pool = &pool;
    wakes = sees = 0;
}
static void *nothing(void *arg) { return arg; }
static void *submit(void *arg) {
    tpool__entry entry = { 0 };
    tpool_future *unreferenced = NULL;
    entry.fn = nothing;
    tpool__spin_lock(&pool.inject.lock);
    (void)tpool__place(&pool, &pool.inject, &entry, &unreferenced);
    tpool__spin_unlock(&pool.inject.lock);
    wakes = tpool__load_relaxed(&pool.gate) == TPOOL__ROOM; /* what tpool__notify looks at */
    return arg;
}
static void *go_to_sleep(void *arg) {
    (void)tpool__leave_search(&worker);
    sees = tpool__work_visible(&pool);
    return arg;
}
static void model_check(void) { MODEL_CHECK(wakes || sees); }
MODEL(submit, go_to_sleep)
