/* Tiny tasks without futures: outside threads submit them, and all have run. */
#include "bench.h"
#if PEER_PLAIN

static void plain_submit(bench_submitter *self) {
    for (size_t i = self->begin; i < self->end; i++) peer_submit(self->pool, bench_tiny, (void *)i);
    peer_flush(self->pool);
}

/* Once to warm up, so that every thread, and what they allocate, is there; once timed. */
static void plain_run_on(const bench_case *c, peer_pool *pool) {
    size_t count = bench_count(1000000);
    peer_warm_up(pool, c->workers);
    bench_submit_from(c->submitters, plain_submit, pool, count, NULL);
    bench_drain(pool, count);
    bench_tally_verify(count);
    bench_sleep(20000000); /* what the tasks leave behind may settle */
    bench_tally_reset();

    int64_t began = bench_submit_from(c->submitters, plain_submit, pool, count, NULL);
    bench_drain(pool, count);
    int64_t ended = bench_now();
    bench_tally_verify(count);
    bench_report("time", "ns/task", (double)(ended - began) / (double)count);
}
static void plain_run(const bench_case *c) {
    peer_pool *pool = peer_create(c->workers);
    plain_run_on(c, pool);
    peer_destroy(pool);
}
#if PEER_OURS
static void plain_run_measured(const bench_case *c) {
    peer_pool *pool = peer_create_configured(c->workers, true);
    plain_run_on(c, pool);
    peer_destroy(pool);
}
#endif

static const bench_case plain_cases[] = {
    { "plain/1", "1,000,000 tiny tasks, no futures, 1 thread submits", plain_run, 1, 2, 0 },
#if !PEER_ONE_SUBMITTER
    { "plain/4", "the same, 4 threads submit", plain_run, 4, 2, 0 },
#endif
#if !PEER_NO_POOL
    { "plain/1-workers-1", "the same, 1 thread submits, 1 worker", plain_run, 1, 1, 0 },
    { "plain/1-workers-8", "the same, 8 workers", plain_run, 1, 8, 0 },
    { "plain/1-workers-64", "the same, 64 workers", plain_run, 1, 64, 0 },
#endif
#if PEER_OURS
    { "plain/1-measured", "the first with config.measure", plain_run_measured, 1, 2, 0 },
#endif
};
BENCH_WORKLOAD(plain_cases)
#endif
