/* What a waiting task takes: 1,000,000 of them behind workers that stand at a gate. By the resident memory of the
 * process, and by what malloc says is in use (contestants may have memory that malloc does not know). */
#include "bench.h"
#if PEER_PLAIN && !PEER_NO_POOL && !PEER_BOUNDED

enum { MEMORY_PLAIN, MEMORY_FUTURES };

static long memory_resident(void) {
    char line[256];
    long kib = -1;
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    bench_check(file != NULL);
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "Rss: %ld kB", &kib) == 1) break;
    fclose(file);
    bench_check(kib > 0);
    return kib * 1024;
}
static long memory_allocated(void) {
    struct mallinfo2 info = mallinfo2();
    return (long)(info.uordblks + info.hblkhd);
}

static void memory_run(const bench_case *c) {
    size_t count = bench_count(1000000);
    peer_pool *pool = peer_create(c->workers);
#if PEER_FUTURES
#ifdef __cplusplus
    peer_future *futures = c->option == MEMORY_FUTURES ? new peer_future[count]() : NULL;   /* not counted */
#else
    peer_future *futures =
        c->option == MEMORY_FUTURES ? (peer_future *)bench_memory(count * sizeof *futures) : NULL;
#endif
#endif
    peer_warm_up(pool, c->workers);
    for (int i = 0; i < c->workers; i++) peer_submit(pool, bench_wait_at_gate, NULL);
    bench_gate_await(c->workers);
    memory_resident();   /* what stdio allocates is allocated */

    long resident = memory_resident(), allocated = memory_allocated();
    for (size_t i = 0; i < count; i++) {
#if PEER_FUTURES
        if (futures) { peer_submit_future(pool, bench_tiny_value, (void *)i, &futures[i]); continue; }
#endif
        peer_submit(pool, bench_tiny, (void *)i);
    }
    resident = memory_resident() - resident;
    allocated = memory_allocated() - allocated;

    bench_gate_open();
    peer_flush(pool);
#if PEER_FUTURES
    if (futures) {
        uint64_t sum = 0;
        for (size_t i = 0; i < count; i++) sum += peer_result(&futures[i]);
        bench_check(sum == (uint64_t)count * (count - 1) / 2 * 3);
#ifdef __cplusplus
        delete[] futures;
#else
        free(futures);
#endif
    } else
#endif
    {
        bench_drain(pool, count);
        bench_tally_verify(count);
    }
    bench_report("resident", "bytes/task", (double)resident / (double)count);
    bench_report("malloc", "bytes/task", (double)allocated / (double)count);
    peer_destroy(pool);
}

static const bench_case memory_cases[] = {
    { "memory/plain", "memory of 1,000,000 waiting tasks", memory_run, 1, 2, MEMORY_PLAIN },
#if PEER_FUTURES
    { "memory/futures", "the same with a future each", memory_run, 1, 2, MEMORY_FUTURES },
#endif
};
BENCH_WORKLOAD(memory_cases)
#endif
