/* as_completed over 100,000 futures: from the first submit to the last one yielded, each result read. */
#include "bench.h"
#if PEER_COMPLETIONS

static void completed_run(const bench_case *c) {
    size_t count = bench_count(100000);
    uintptr_t wanted = (uintptr_t)count * (count - 1) / 2 * 3;
    peer_future *futures = (peer_future *)bench_memory(count * sizeof *futures);
    tpool_completions *completions;
    peer_pool *pool = peer_create(c->workers);
    peer_warm_up(pool, c->workers);
    for (int i = 0; i < 2; i++) { /* once to warm up */
        int64_t began = bench_now();
        uintptr_t sum = peer_as_completed(pool, bench_tiny_value, count, futures, &completions);
        int64_t yielded = bench_now();
        peer_completed_release(count, futures, completions);
        int64_t released = bench_now();
        bench_check(sum == wanted);
        if (i == 0) continue;
        bench_report("time", "ns/future", (double)(yielded - began) / (double)count);
        bench_report("with release", "ns/future", (double)(released - began) / (double)count);
    }
    peer_destroy(pool);
    free(futures);
}

static const bench_case completed_cases[] = {
    { "completed/100000", "as_completed over 100,000 futures, submit to last yield", completed_run, 1, 2, 0 },
};
BENCH_WORKLOAD(completed_cases)
#endif
