/* A parallel loop of 10,000,000 items of about 25 ns, alike and skewed, against the same loop in one thread. */
#include "bench.h"
#if PEER_FOR

enum { FOR_EVEN, FOR_SKEWED };
enum { FOR_STEPS = 19 }; /* a dependent multiplication and a shift each, together about 25 ns */

typedef struct for_data {
    size_t count;
    uint64_t sum;
} for_data;

static inline uint64_t for_item(uint64_t x, uint64_t steps) {
    x = x * 2 + 1;
    for (uint64_t i = 0; i < steps; i++) {
        x *= UINT64_C(0x9E3779B97F4A7C15);
        x ^= x >> 29;
    }
    return x;
}
/* Adds an item's result to the sum, which stays even, and gives the next item a bit of it that is 0: so its start waits
 * for the end of this one, as if each were a call of something long. The compiler must not see it. */
static inline uint64_t for_add(uint64_t *sum, uint64_t x) {
    *sum += x >> 8 & 0xFFFFFFFE;
    __asm__("" : "+r"(*sum));
    return *sum & 1;
}
static BENCH_OPAQUE void for_even(size_t begin, size_t end, void *context) {
    uint64_t sum = 0, zero = 0;
    for (size_t i = begin; i < end; i++) zero = for_add(&sum, for_item(i + zero, FOR_STEPS));
    __atomic_fetch_add(&((for_data *)context)->sum, sum, __ATOMIC_RELAXED);
}
/* Item i costs in proportion to i, and all of them as much as above. */
static BENCH_OPAQUE void for_skewed(size_t begin, size_t end, void *context) {
    uint64_t sum = 0, zero = 0, count = ((for_data *)context)->count;
    for (size_t i = begin; i < end; i++) zero = for_add(&sum, for_item(i + zero, 2 * FOR_STEPS * (uint64_t)i / count));
    __atomic_fetch_add(&((for_data *)context)->sum, sum, __ATOMIC_RELAXED);
}

static void for_run(const bench_case *c) {
    void (*body)(size_t, size_t, void *) = c->option == FOR_SKEWED ? for_skewed : for_even;
    for_data serial, parallel;
    serial.count = parallel.count = bench_count(10000000);
    serial.sum = 0;
    peer_pool *pool = peer_create(c->workers);
    peer_warm_up(pool, c->workers);
    parallel.sum = 0;
    peer_for(pool, 0, parallel.count / 10, body, &parallel); /* the threads are there */

    int64_t began = bench_now();
    body(0, serial.count, &serial);
    int64_t serial_ns = bench_now() - began;

    parallel.sum = 0;
    began = bench_now();
    peer_for(pool, 0, parallel.count, body, &parallel);
    int64_t parallel_ns = bench_now() - began;
    bench_check(parallel.sum == serial.sum);
    bench_report("speedup", "times", (double)serial_ns / (double)parallel_ns);
    bench_report("time", "ns/item", (double)parallel_ns / (double)parallel.count);
    bench_report("serial", "ns/item", (double)serial_ns / (double)serial.count);
    peer_destroy(pool);
}

/* 100 equal items that together take c->option ns, again and again: the loop and the plain loop in turn. The median of
 * the ratios, since a CPU that is taken away for a moment would count more than everything else. */
enum { SMALL_ITEMS = 100, SMALL_MOST = 2000 };
typedef struct for_small {
    uint64_t sum, steps;
} for_small;
static BENCH_OPAQUE void for_small_body(size_t begin, size_t end, void *context) {
    for_small *data = (for_small *)context;
    uint64_t sum = 0, zero = 0;
    for (size_t i = begin; i < end; i++) zero = for_add(&sum, for_item(i + zero, data->steps));
    __atomic_fetch_add(&data->sum, sum, __ATOMIC_RELAXED);
}
static int for_compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static void for_small_run(const bench_case *c) {
    static double ratios[SMALL_MOST], times[SMALL_MOST];
    int rounds = c->option >= 1000000 ? SMALL_MOST / 20 : SMALL_MOST;
    for_small data = { 0, 1000 };
    int64_t began = bench_now();
    for (int i = 0; i < 100; i++) for_small_body(0, SMALL_ITEMS, &data);
    data.steps = 100 * 1000 * (uint64_t)c->option / (uint64_t)(bench_now() - began); /* what 1,000 steps took */
    if (data.steps == 0) data.steps = 1;
    peer_pool *pool = peer_create(c->workers);
    peer_warm_up(pool, c->workers);
    for (int i = 0; i < rounds; i++) {
        data.sum = 0;
        began = bench_now();
        for_small_body(0, SMALL_ITEMS, &data);
        int64_t between = bench_now();
        uint64_t serial = data.sum;
        data.sum = 0;
        peer_for(pool, 0, SMALL_ITEMS, for_small_body, &data);
        int64_t ended = bench_now();
        bench_check(data.sum == serial);
        ratios[i] = (double)(between - began) / (double)(ended - between);
        times[i] = (double)(ended - between);
    }
    qsort(ratios, (size_t)rounds, sizeof ratios[0], for_compare);
    qsort(times, (size_t)rounds, sizeof times[0], for_compare);
    bench_report("speedup", "times", ratios[rounds / 2]);
    bench_report("time", "ns", times[rounds / 2]);
    peer_destroy(pool);
}

static const bench_case for_cases[] = {
    { "for/1us", "a loop of 100 equal items that together take 1 us", for_small_run, 1, 2, 1000 },
    { "for/5us", "the same, 5 us", for_small_run, 1, 2, 5000 },
    { "for/20us", "the same, 20 us", for_small_run, 1, 2, 20000 },
    { "for/100us", "the same, 100 us", for_small_run, 1, 2, 100000 },
    { "for/1ms", "the same, 1 ms", for_small_run, 1, 2, 1000000 },
    { "for/even", "a loop of 10,000,000 items of about 25 ns", for_run, 1, 2, FOR_EVEN },
    { "for/skewed", "the same, item i costing in proportion to i", for_run, 1, 2, FOR_SKEWED },
};
BENCH_WORKLOAD(for_cases)
#endif
