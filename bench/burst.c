/* Bursts: 1,000 tiny tasks every 2 ms for 2 s. From the first submit of a burst until all of it has run, and the CPU
 * time that all of it took. */
#include "bench.h"
#if PEER_PLAIN && !PEER_NO_POOL

enum { BURST_TASKS = 1000 };

static void burst_submit(bench_submitter *self) {
    size_t first = *(const size_t *)self->context;
    for (size_t i = self->begin; i < self->end; i++)
        peer_submit(self->pool, PEER_DRAIN ? bench_tiny : bench_tiny_latched, (void *)(first + i));
    peer_flush(self->pool);
}
static void burst_once(peer_pool *pool, size_t first) {
    bench_latch_arm(BURST_TASKS);
    bench_submit_from(1, burst_submit, pool, BURST_TASKS, &first);
    bench_drain_few(pool);
}

static void burst_run(const bench_case *c) {
    size_t bursts = bench_quick ? 20 : 1000, warm = 50;
    int64_t *samples = (int64_t *)bench_memory(bursts * sizeof *samples);
    peer_pool *pool = peer_create(c->workers);
    peer_warm_up(pool, c->workers);
    for (size_t i = 0; i < warm; i++) burst_once(pool, i * BURST_TASKS);
    bench_tally_verify(warm * BURST_TASKS);
    bench_sleep(20000000);
    bench_tally_reset();

    int64_t cpu = bench_cpu(), next = bench_now();
    for (size_t i = 0; i < bursts; i++) {
        next += 2000000;
        bench_sleep_until(next);
        int64_t began = bench_now();
        burst_once(pool, i * BURST_TASKS);
        samples[i] = bench_now() - began;
    }
    cpu = bench_cpu() - cpu;
    bench_tally_verify(bursts * BURST_TASKS);
    bench_report_samples(samples, bursts, "us", 1000);
    bench_report("cpu", "s", (double)cpu / 1e9);
    peer_destroy(pool);
    free(samples);
}

static const bench_case burst_cases[] = {
    { "burst/1000", "bursts of 1,000 tasks every 2 ms for 2 s", burst_run, 1, 2, 0 },
};
BENCH_WORKLOAD(burst_cases)
#endif
