/* Tiny tasks with a future each: outside threads submit them, then read every result and release. */
#include "bench.h"
#if PEER_FUTURES

typedef struct futures_run_data {
    peer_future *futures;
    uint64_t sum;
} futures_run_data;

static void futures_submit_and_read(bench_submitter *self) {
    futures_run_data *data = (futures_run_data *)self->context;
    uint64_t sum = 0;
    for (size_t i = self->begin; i < self->end; i++)
        peer_submit_future(self->pool, bench_tiny_value, (void *)i, &data->futures[i]);
    for (size_t i = self->begin; i < self->end; i++) sum += peer_result(&data->futures[i]);
    peer_flush(self->pool);
    __atomic_fetch_add(&data->sum, sum, __ATOMIC_RELAXED);
}

static void futures_run_on(const bench_case *c, peer_pool *pool) {
    size_t count = bench_count(1000000);
    uint64_t wanted = (uint64_t)count * (count - 1) / 2 * 3;
    futures_run_data data;
#ifdef __cplusplus
    data.futures = new peer_future[count]();
#else
    data.futures = (peer_future *)bench_memory(count * sizeof *data.futures);
#endif
    peer_warm_up(pool, c->workers);
    data.sum = 0;
    bench_submit_from(c->submitters, futures_submit_and_read, pool, count, &data);
    bench_check(data.sum == wanted);
    bench_sleep(20000000);

    data.sum = 0;
    int64_t began = bench_submit_from(c->submitters, futures_submit_and_read, pool, count, &data);
    int64_t ended = bench_now();
    bench_check(data.sum == wanted);
    bench_report("time", "ns/task", (double)(ended - began) / (double)count);
#ifdef __cplusplus
    delete[] data.futures;
#else
    free(data.futures);
#endif
}
static void futures_run(const bench_case *c) {
    peer_pool *pool = peer_create(c->workers);
    futures_run_on(c, pool);
    peer_destroy(pool);
}
#if PEER_OURS
static void futures_run_measured(const bench_case *c) {
    peer_pool *pool = peer_create_configured(c->workers, true);
    futures_run_on(c, pool);
    peer_destroy(pool);
}
#endif

static const bench_case futures_cases[] = {
    { "futures/1", "1,000,000 tiny tasks with a future each, read and released, 1 thread submits", futures_run, 1, 2,
      0 },
    { "futures/4", "the same, 4 threads submit", futures_run, 4, 2, 0 },
#if PEER_OURS
    { "futures/1-measured", "1 thread submits, with config.measure", futures_run_measured, 1, 2, 0 },
#endif
};
BENCH_WORKLOAD(futures_cases)
#endif
