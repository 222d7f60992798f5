/* Fork and join without cut-off: fib(30), by the spawn. */
#include "bench.h"
#if PEER_FORK_JOIN

static void forkjoin_run(const bench_case *c) {
    /* fib(n) spawns fib(n + 1) - 1 times. */
    int n = bench_quick ? 18 : 30, repeats = 0;
    long fib[32] = { 0, 1 };
    for (int i = 2; i < 32; i++) fib[i] = fib[i - 1] + fib[i - 2];
    peer_pool *pool = peer_create(c->workers);
    peer_warm_up(pool, c->workers);
    bench_check(peer_fib(pool, n) == fib[n]);

    int64_t began = bench_now(), ended;
    do {
        bench_check(peer_fib(pool, n) == fib[n]);
        ended = bench_now();
    } while (++repeats < 10 && ended - began < 300000000);
    bench_report("time", "ns/spawn", (double)(ended - began) / repeats / (double)(fib[n + 1] - 1));
    peer_destroy(pool);
}

static const bench_case forkjoin_cases[] = {
    { "forkjoin/2", "fork and join, fib(30) without cut-off, 2 workers", forkjoin_run, 1, 2, 0 },
    { "forkjoin/1", "the same, 1 worker", forkjoin_run, 1, 1, 0 },
};
BENCH_WORKLOAD(forkjoin_cases)
#endif
