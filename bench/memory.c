/* What a waiting task takes: 1,000,000 of them behind workers that stand at a gate. By the resident memory of the
 * process, and by what malloc says is in use (contestants may have memory that malloc does not know). */
#include "bench.h"
#if PEER_PLAIN && !PEER_NO_POOL && !PEER_BOUNDED

/* A task that starts although nobody waits for it yet. */
#ifndef PEER_SUBMIT_SURELY
#define PEER_SUBMIT_SURELY peer_submit
#endif

enum { MEMORY_PLAIN, MEMORY_FUTURES };

/* 0 where the C library does not tell. */
static long memory_allocated(void) {
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 33)
    struct mallinfo2 info = mallinfo2();
    return (long)(info.uordblks + info.hblkhd);
#else
    return 0;
#endif
}

typedef struct memory_data {
    int workers;
    bool with_futures;
#if PEER_FUTURES
    peer_future *futures;
#endif
    long resident, allocated; /* what the tasks took */
} memory_data;

static void memory_submit(bench_submitter *self) {
    memory_data *data = (memory_data *)self->context;
    for (int i = 0; i < data->workers; i++) PEER_SUBMIT_SURELY(self->pool, bench_wait_at_gate, NULL);
    bench_gate_await(data->workers);
    bench_resident(); /* what stdio allocates is allocated */

    data->resident = bench_resident();
    data->allocated = memory_allocated();
    for (size_t i = self->begin; i < self->end; i++) {
#if PEER_FUTURES
        if (data->with_futures) {
            peer_submit_future(self->pool, bench_tiny_value, (void *)i, &data->futures[i]);
            continue;
        }
#endif
        peer_submit(self->pool, bench_tiny, (void *)i);
    }
    data->resident = bench_resident() - data->resident;
    data->allocated = memory_allocated() - data->allocated;
    bench_gate_open();
#if PEER_FUTURES
    if (data->with_futures) {
        uint64_t sum = 0, count = self->end;
        for (size_t i = 0; i < count; i++) sum += peer_result(&data->futures[i]);
        bench_check(sum == count * (count - 1) / 2 * 3);
    }
#endif
    peer_flush(self->pool);
}

static void memory_run(const bench_case *c) {
    size_t count = bench_count(1000000);
    peer_pool *pool = peer_create(c->workers);
    memory_data data;
    data.workers = c->workers;
    data.with_futures = c->option == MEMORY_FUTURES;
    /* The handles are the program's own and not counted. */
#if PEER_FUTURES && defined(__cplusplus)
    data.futures = data.with_futures ? new peer_future[count]() : NULL;
#elif PEER_FUTURES
    data.futures = (peer_future *)bench_memory(count * sizeof *data.futures);
#endif
    peer_warm_up(pool, c->workers);
    bench_submit_from(1, memory_submit, pool, count, &data);
    if (!data.with_futures) {
        bench_drain(pool, count);
        bench_tally_verify(count);
    }
    bench_report("resident", "bytes/task", (double)data.resident / (double)count);
    if (data.allocated) bench_report("malloc", "bytes/task", (double)data.allocated / (double)count);
    peer_destroy(pool);
#if PEER_FUTURES && defined(__cplusplus)
    delete[] data.futures;
#elif PEER_FUTURES
    free(data.futures);
#endif
}

static const bench_case memory_cases[] = {
    { "memory/plain", "memory of 1,000,000 waiting tasks", memory_run, 1, 2, MEMORY_PLAIN },
#if PEER_FUTURES
    { "memory/futures", "the same with a future each", memory_run, 1, 2, MEMORY_FUTURES },
#endif
};
BENCH_WORKLOAD(memory_cases)
#endif
