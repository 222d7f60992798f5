/* Fork and join: a public job is run by its owner or by the thief, once; the owner sees what the thief did. */
#include "model.h"

static tpool pool;
static tpool__worker workers[2];
static tpool_future task, block; /* block: where the thief keeps the job */
static tpool__context context;
static int argument, runs;
static void model_reset(void) {
    tpool__store_relaxed(&pool.gate, TPOOL__ROOM | TPOOL__SEARCHER); /* somebody searches: the job becomes public */
    tpool__store_relaxed(&pool.flags, 0);
    tpool__store_relaxed(&pool.max_workers, 2);
    for (int i = 0; i < 2; i++) {
        workers[i].pool = &pool;
        workers[i].newest_job = workers[i].oldest_private_job = NULL;
        workers[i].offer.job = NULL;
        workers[i].stolen = NULL;
        tpool__store_relaxed(&workers[i].public_jobs, 0);
        tpool__store_relaxed(&workers[i].jobs_lock, 0);
    }
    context.task = &task;
    context.pool = &pool;
    tpool__store_relaxed(&tpool__process.pool_count, 1);
    argument = runs = 0;
}
static void *run(void *arg) {
    MODEL_CHECK(*(int *)arg == 1);
    runs++;
    return arg;
}
static void *own(void *arg) {
    tpool__thread *self = tpool__self();
    tpool_job job;
    self->worker = &workers[0];
    self->context = &context;
    self->armed = true;
    self->cached = 0;
    self->cacheable = 2 * TPOOL__MAGAZINE; /* it frees the block into its cache */
    argument = 1;
    tpool_fork(&job, run, &argument);
    MODEL_CHECK(tpool_join(&job) == &argument);
    MODEL_CHECK(runs == 1);
    self->worker = NULL;
    self->context = NULL;
    self->cached = 0;
    self->armed = false;
    return arg;
}
static void *steal(void *arg) {
    tpool__thread *self = tpool__self();
    tpool__entry entry = { 0 };
    self->worker = &workers[1];
    self->armed = true;
    self->cache[0] = &block;
    self->cached = 1;
    self->cacheable = 2 * TPOOL__MAGAZINE;
    if (tpool__steal_job(&workers[0], NULL, 0, &entry)) (void)tpool__execute_stolen_job(self, &entry);
    self->worker = NULL;
    self->cached = 0;
    self->armed = false;
    return arg;
}
static void model_check(void) { MODEL_CHECK(runs == 1); }
MODEL(own, steal)
