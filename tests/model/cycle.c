/* P7, and how it ends: the search for cycles follows a running task to its thread's own record. That is memory which
   the thread prepared when it first called in here, and which goes with the thread; tpool__thread_ended waits for the
   search. */
#include "model.h"

static alignas(4096) tpool pool;
static tpool__worker worker;
static tpool_future block, *const blocks[] = { &block };
static tpool__record record;
static tpool__thread searcher;
static void *nothing(void *arg) { return arg; }
static void model_reset(void) {
    pool.home = (uintptr_t)&pool;
    worker.pool = &pool;
    tpool__store_relaxed(&tpool__process.pool_count, 1);
    tpool__task_init(&block, &pool, nothing, NULL, NULL,
                     TPOOL__PHASE_PENDING | TPOOL__END_RELEASED | 2 * TPOOL__REFERENCE);
    record.thread = &searcher;
    record.futures = blocks;
    record.count = 1;
    record.visited = tpool__cycles.searches = 0;
}
static void *run(void *arg) {
    tpool__thread *self = tpool__self();
    self->blocked = NULL; /* as it is made */
    self->worker = &worker;
    MODEL_CHECK(tpool__claim(&block, TPOOL__PHASE_RUNNING));
    MODEL_CHECK(tpool__execute_task(self, &block, 0));
    self->worker = NULL;
    tpool__thread_ended(self);
    self->blocked = &record; /* as it goes */
    return arg;
}
static void *search(void *arg) {
    tpool__searched searched = { .count = 0 };
    tpool__lock(&tpool__cycles.lock);
    MODEL_CHECK(!tpool__closes_cycle(&record, &searched));
    tpool__unlock(&tpool__cycles.lock);
    return arg;
}
static void model_check(void) { MODEL_CHECK(tpool__is_done(&block)); }
MODEL(run, search)
