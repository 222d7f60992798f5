/* An idle pool of 8 workers, all started and used before: the CPU time of the workers within 10 s, that is, of the
 * process without the calling thread, which sleeps meanwhile. */
#include "bench.h"
#if PEER_PLAIN && !PEER_NO_POOL

static void idle_submit(bench_submitter *self) {
    for (size_t i = self->begin; i < self->end; i++) peer_submit(self->pool, bench_tiny, (void *)i);
    peer_flush(self->pool);
}
static void idle_run(const bench_case *c) {
    size_t count = bench_count(100000);
    peer_pool *pool = peer_create(c->workers);
    peer_warm_up(pool, c->workers);
    bench_submit_from(1, idle_submit, pool, count, NULL);
    bench_drain(pool, count);
    bench_tally_verify(count);
    bench_sleep(100000000); /* whoever looks for work a little longer has given up */

    int64_t cpu = bench_cpu() - bench_clock(CLOCK_THREAD_CPUTIME_ID);
    bench_sleep(bench_quick ? 200000000 : INT64_C(10000000000));
    cpu = bench_cpu() - bench_clock(CLOCK_THREAD_CPUTIME_ID) - cpu;
    bench_report("cpu", "us", cpu > 0 ? (double)cpu / 1000 : 0); /* the two clocks are not read at one instant */
    peer_destroy(pool);
}

static const bench_case idle_cases[] = {
    { "idle/8", "an idle pool of 8 workers for 10 s", idle_run, 1, 8, 0 },
};
BENCH_WORKLOAD(idle_cases)
#endif
