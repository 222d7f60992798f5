/* Create a pool, run one task, destroy it: with the workers that the contestant starts for that, and with all. */
#include "bench.h"
#if PEER_PLAIN && !PEER_NO_POOL && !PEER_SHARED_THREADS

enum { LIFECYCLE_LAZY, LIFECYCLE_WARM };

static void lifecycle_submit(bench_submitter *self) {
    peer_submit(self->pool, PEER_DRAIN ? bench_tiny : bench_tiny_latched, NULL);
    peer_flush(self->pool);
}
/* Where destroying a pool finishes its tasks nothing else is waited for. */
static void lifecycle_once(const bench_case *c) {
    peer_pool *pool = peer_create(c->workers);
    if (c->option == LIFECYCLE_WARM) peer_warm_up(pool, c->workers);
    bench_latch_arm(1);
    bench_submit_from(1, lifecycle_submit, pool, 1, NULL);
    if (!PEER_DRAIN) bench_drain_few(pool);
    peer_destroy(pool);
}

static void lifecycle_run(const bench_case *c) {
    size_t count = bench_quick ? 10 : 1000;
    int64_t *samples = (int64_t *)bench_memory(count * sizeof *samples);
    for (int i = 0; i < 10; i++) lifecycle_once(c);
    bench_check(bench_tally_count() == 10);
    for (size_t i = 0; i < count; i++) {
        int64_t began = bench_now();
        lifecycle_once(c);
        samples[i] = bench_now() - began;
    }
    bench_check(bench_tally_count() == 10 + count);
    bench_report_samples(samples, count, "us", 1000);
    free(samples);
}

static const bench_case lifecycle_cases[] = {
    { "lifecycle/2", "create a pool of 2, one task, destroy", lifecycle_run, 1, 2, LIFECYCLE_LAZY },
    { "lifecycle/8", "the same, a pool of 8", lifecycle_run, 1, 8, LIFECYCLE_LAZY },
    { "lifecycle/2-warm", "the same, a pool of 2, all workers started first", lifecycle_run, 1, 2, LIFECYCLE_WARM },
    { "lifecycle/8-warm", "the same, a pool of 8, all workers started first", lifecycle_run, 1, 8, LIFECYCLE_WARM },
};
BENCH_WORKLOAD(lifecycle_cases)
#endif
