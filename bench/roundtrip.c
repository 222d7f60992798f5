/* Round trips: submit one task, wait for its result, again. Free, with the whole process on one core, and with a pause
 * before each trip, in which everybody goes to sleep. */
#include "bench.h"
#if PEER_FUTURES && !PEER_NO_TRIPS

enum { ROUNDTRIP_FREE, ROUNDTRIP_PINNED, ROUNDTRIP_PAUSED };

/* The CPU time is that of the whole process, so it includes what a pause itself costs the caller (see the floor
 * "pause"). */
typedef struct roundtrip_data {
    size_t count;
    int64_t pause, cpu;
    int64_t *samples;
} roundtrip_data;

static uintptr_t roundtrip_once(peer_pool *pool, uintptr_t value) {
    peer_future future;
    peer_submit_future(pool, bench_tiny_value, (void *)value, &future);
    return peer_result(&future);
}

/* The first twentieth warms up. */
static void roundtrip_trips(bench_submitter *self) {
    roundtrip_data *data = (roundtrip_data *)self->context;
    size_t warm = data->count / 20;
    int64_t began = 0;
    for (size_t i = 0; i < warm + data->count; i++) {
        if (i == warm) {
            data->cpu = bench_cpu();
            began = bench_now();
        }
        if (data->pause) {
            bench_sleep(data->pause);
            began = bench_now();
        }
        bench_check(roundtrip_once(self->pool, i) == i * 3);
        int64_t ended = bench_now();
        if (i >= warm) data->samples[i - warm] = ended - began;
        began = ended;
    }
    data->cpu = bench_cpu() - data->cpu;
    peer_flush(self->pool);
}

static void roundtrip_run(const bench_case *c) {
    roundtrip_data data;
    data.pause = c->option == ROUNDTRIP_PAUSED ? 200000 : 0;
    data.count = bench_count(data.pause ? 5000 : 200000);
    data.samples = (int64_t *)bench_memory(data.count * sizeof *data.samples);
    if (c->option == ROUNDTRIP_PINNED) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(sched_getcpu(), &one);
        bench_check(sched_setaffinity(0, sizeof one, &one) == 0);
    }
    peer_pool *pool = peer_create(c->workers);
    peer_warm_up(pool, c->workers);
    bench_submit_from(1, roundtrip_trips, pool, 1, &data);
    bench_report_samples(data.samples, data.count, "ns", 1);
    bench_report("cpu", "ns/trip", (double)data.cpu / (double)data.count);
    peer_destroy(pool);
    free(data.samples);
}

static const bench_case roundtrip_cases[] = {
    { "roundtrip/free", "round trip, 200,000 times", roundtrip_run, 1, 2, ROUNDTRIP_FREE },
    { "roundtrip/pinned", "the same, the process pinned to one core", roundtrip_run, 1, 2, ROUNDTRIP_PINNED },
    { "roundtrip/paused", "round trip after a pause of 200 us", roundtrip_run, 1, 2, ROUNDTRIP_PAUSED },
};
BENCH_WORKLOAD(roundtrip_cases)
#endif
