/* Round trips: submit one task, wait for its result, again. Free, with the whole process on one core, and with a pause
 * before each trip, in which everybody goes to sleep. */
#include "bench.h"
#if PEER_FUTURES

enum { ROUNDTRIP_FREE, ROUNDTRIP_PINNED };

static uintptr_t roundtrip_once(peer_pool *pool, uintptr_t value) {
    peer_future future;
    peer_submit_future(pool, bench_tiny_value, (void *)value, &future);
    return peer_result(&future);
}

static void roundtrip_run(const bench_case *c) {
    size_t count = bench_count(200000);
    int64_t *samples = (int64_t *)bench_memory(count * sizeof *samples);
    if (c->option == ROUNDTRIP_PINNED) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(sched_getcpu(), &one);
        bench_check(sched_setaffinity(0, sizeof one, &one) == 0);
    }
    peer_pool *pool = peer_create(c->workers);
    peer_warm_up(pool, c->workers);
    for (size_t i = 0; i < count / 20; i++) bench_check(roundtrip_once(pool, i) == i * 3);

    int64_t cpu = bench_cpu(), last = bench_now();
    for (size_t i = 0; i < count; i++) {
        bench_check(roundtrip_once(pool, i) == i * 3);
        int64_t now = bench_now();
        samples[i] = now - last;
        last = now;
    }
    cpu = bench_cpu() - cpu;
    bench_report_samples(samples, count, "ns", 1);
    bench_report("cpu", "ns/trip", (double)cpu / (double)count);
    peer_destroy(pool);
    free(samples);
}

/* The CPU time is that of the whole process, so it includes what the pause itself costs the caller (see the floor
 * "pause"). */
static void roundtrip_run_paused(const bench_case *c) {
    size_t count = bench_count(5000);
    int64_t *samples = (int64_t *)bench_memory(count * sizeof *samples);
    peer_pool *pool = peer_create(c->workers);
    peer_warm_up(pool, c->workers);
    for (size_t i = 0; i < count / 20; i++) {
        bench_sleep(200000);
        bench_check(roundtrip_once(pool, i) == i * 3);
    }

    int64_t cpu = bench_cpu();
    for (size_t i = 0; i < count; i++) {
        bench_sleep(200000);
        int64_t began = bench_now();
        bench_check(roundtrip_once(pool, i) == i * 3);
        samples[i] = bench_now() - began;
    }
    cpu = bench_cpu() - cpu;
    bench_report_samples(samples, count, "ns", 1);
    bench_report("cpu", "ns/trip", (double)cpu / (double)count);
    peer_destroy(pool);
    free(samples);
}

static const bench_case roundtrip_cases[] = {
    { "roundtrip/free", "round trip, 200,000 times", roundtrip_run, 1, 2, ROUNDTRIP_FREE },
    { "roundtrip/pinned", "the same, the process pinned to one core", roundtrip_run, 1, 2, ROUNDTRIP_PINNED },
    { "roundtrip/paused", "round trip after a pause of 200 us", roundtrip_run_paused, 1, 2, 0 },
};
BENCH_WORKLOAD(roundtrip_cases)
#endif
