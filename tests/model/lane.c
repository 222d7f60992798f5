/* The injection queue: a task put in is taken once, and its taker sees what the submitter wrote; a canceller that got
   the handle may claim it first, never both. */
#include "model.h"

static tpool pool;
static tpool__worker worker;
static tpool__segment segment, own;
static tpool_future block;
static tpool__word handle;
static int argument, taken, cancelled;
static void model_reset(void) {
    model_reset_lane(&pool.inject, &segment);
    pool.inject.front = 0;
    pool.inject.dead = 0;
    tpool__store_relaxed(&pool.max_workers, 2);
    worker.pool = &pool;
    worker.lane.head = worker.lane.tail = &own;
    tpool__store_relaxed(&handle, 0);
    argument = taken = cancelled = 0;
}
static void *submit(void *arg) {
    tpool__entry entry = { 0 };
    tpool_future *unreferenced = NULL;
    argument = 1;
    tpool__task_init(&block, NULL, NULL, &argument, NULL,
                     TPOOL__PHASE_PENDING | TPOOL__END_RELEASED | 9 * TPOOL__REFERENCE);
    entry.task = &block;
    tpool__spin_lock(&pool.inject.lock);
    MODEL_CHECK(tpool__place(&pool, &pool.inject, &entry, &unreferenced) == TPOOL_OK);
    tpool__spin_unlock(&pool.inject.lock);
    tpool__store_release(&handle, (uintptr_t)&block); /* as the program passes it on */
    return arg;
}
static void *take(void *arg) {
    tpool__entry entry = { 0 };
    for (int i = 0; i < MODEL_TRIES && !tpool__lane_count(&pool.inject); i++) { }
    if (tpool__take(&worker, &pool.inject, &entry)) {
        MODEL_CHECK(entry.task == &block && *(int *)entry.task->value == 1);
        taken++;
    }
    return arg;
}
static void *cancel(void *arg) {
    tpool_future *future = (tpool_future *)tpool__load_acquire(&handle);
    if (future && tpool__claim(future, TPOOL__PHASE_CANCELLING + TPOOL__REFERENCE)) {
        MODEL_CHECK(*(int *)future->value == 1);
        cancelled++;
    }
    return arg;
}
static void model_check(void) {
    MODEL_CHECK(taken + cancelled <= 1);
    MODEL_CHECK(taken + cancelled == (int)((tpool__load_relaxed(&block.state) & TPOOL__PHASE) != TPOOL__PHASE_PENDING));
}
MODEL(submit, take, cancel)
