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

/* Equal items that together take c->option ns, again and again: the plain loop and the loop in turn, so that the other
 * threads have had nothing to do for that long when a loop begins; in a row, all plain loops come first. The median of
 * the ratios, since a CPU that is taken away for a moment would count more than everything else. */
enum { SMALL_ITEMS = 100, SMALL_INNER = 10, SMALL_MOST = 2000 };
/* The last three bits of c->option. */
enum { SMALL_PLAIN, SMALL_NESTED, SMALL_BUSY, SMALL_MAP, SMALL_IN_A_ROW, SMALL_KIND = 7 };
#define SMALL(ns, kind) ((ns) << 3 | (kind))
typedef struct for_small {
    uint64_t sum, plain_sum, steps;
    peer_pool *pool;
} for_small;
static BENCH_OPAQUE void for_small_body(size_t begin, size_t end, void *context) {
    for_small *data = (for_small *)context;
    uint64_t sum = 0, zero = 0;
    for (size_t i = begin; i < end; i++) zero = for_add(&sum, for_item(i + zero, data->steps));
    __atomic_fetch_add(&data->sum, sum, __ATOMIC_RELAXED);
}
/* Each item is a loop itself. */
static void for_outer(size_t begin, size_t end, void *context) {
    for_small *data = (for_small *)context;
    for (size_t i = begin; i < end; i++)
        peer_for(data->pool, i * SMALL_INNER, (i + 1) * SMALL_INNER, for_small_body, data);
}
static void for_outer_plain(size_t begin, size_t end, void *context) {
    for (size_t i = begin; i < end; i++) for_small_body(i * SMALL_INNER, (i + 1) * SMALL_INNER, context);
}
static int for_compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
/* So many steps make `count` items take `total_ns`. */
static uint64_t for_steps(double total_ns, size_t count) {
    for_small data = { 0, 0, 1000, NULL };
    double best = 1e300;
    for (int tries = 0; tries < 20; tries++) {
        int64_t began = bench_now();
        for (int i = 0; i < 20; i++) for_small_body(0, 10, &data);
        double took = (double)(bench_now() - began) / (20 * 10 * 1000);
        if (took < best) best = took;
    }
    uint64_t steps = (uint64_t)(total_ns / (double)count / best);
    return steps ? steps : 1;
}

#if PEER_OURS
/* Tasks of 20 us that are always queued: each submits the next one. */
typedef struct for_others {
    tpool *pool;
    uint64_t steps;
    int left; /* atomic: 0 ends them */
} for_others;
static void *for_other(void *arg) {
    for_others *others = (for_others *)arg;
    (void)!for_item(1, others->steps);
    if (__atomic_load_n(&others->left, __ATOMIC_RELAXED))
        PEER_MUST(tpool_submit(others->pool, for_other, others, NULL));
    return NULL;
}
static void *for_map_item(void *item, void *context) {
    for_small *data = (for_small *)context;
    return (void *)(uintptr_t)(for_item((uint64_t)((char *)item - (char *)context), data->steps) >> 8 & 0xFFFFFFFE);
}
static void for_map(for_small *data) {
    tpool_map_spec spec;
    tpool_map_iter *iter;
    memset(&spec, 0, sizeof spec);
    spec.fn = for_map_item;
    spec.context = spec.items = data; /* the items are numbers: the distances from it */
    spec.stride = 1;
    spec.count = SMALL_ITEMS;
    PEER_MUST(tpool_map(data->pool, &spec, &iter));
    for (int i = 0; i < SMALL_ITEMS; i++) {
        void *result;
        PEER_MUST(tpool_map_next(iter, TPOOL_FOREVER, &result));
        data->sum += (uintptr_t)result;
    }
    tpool_map_close(iter);
}
#endif

/* How long the loop takes, or the plain one, in ns. */
static double for_time(for_small *data, int kind, bool in_pool) {
    data->sum = 0;
    int64_t began = bench_now();
    if (!in_pool && kind == SMALL_NESTED) for_outer_plain(0, SMALL_ITEMS / SMALL_INNER, data);
    else if (!in_pool) for_small_body(0, SMALL_ITEMS, data);
    else if (kind == SMALL_NESTED) peer_for(data->pool, 0, SMALL_ITEMS / SMALL_INNER, for_outer, data);
#if PEER_OURS
    else if (kind == SMALL_MAP) for_map(data);
#endif
    else peer_for(data->pool, 0, SMALL_ITEMS, for_small_body, data);
    double took = (double)(bench_now() - began);
    if (!in_pool) data->plain_sum = data->sum;
    bench_check(data->sum == data->plain_sum);
    return took;
}
static void for_small_run(const bench_case *c) {
    static double ratios[SMALL_MOST], times[SMALL_MOST];
    int kind = c->option & SMALL_KIND, ns = c->option >> 3;
    int rounds = ns >= 100000000 ? 9 : ns >= 10000000 ? 31 : ns >= 1000000 ? SMALL_MOST / 20 : SMALL_MOST;
    if (bench_quick) rounds = 9;
    for_small data = { 0, 0, for_steps(ns, SMALL_ITEMS), peer_create(c->workers) };
    peer_warm_up(data.pool, c->workers);
#if PEER_OURS
    for_others others = { data.pool, for_steps(20000, 1), 1 };
    for (int i = 0; i < 2 * c->workers && kind == SMALL_BUSY; i++) for_other(&others);
#endif
    for (int i = 0; i < rounds && kind == SMALL_IN_A_ROW; i++) ratios[i] = for_time(&data, kind, false);
    for (int i = 0; i < rounds; i++) {
        if (kind != SMALL_IN_A_ROW) ratios[i] = for_time(&data, kind, false);
        times[i] = for_time(&data, kind, true);
        ratios[i] /= times[i];
    }
    qsort(ratios, (size_t)rounds, sizeof ratios[0], for_compare);
    qsort(times, (size_t)rounds, sizeof times[0], for_compare);
    bench_report("speedup", "times", ratios[rounds / 2]);
    bench_report("time", "ns", times[rounds / 2]);
#if PEER_OURS
    __atomic_store_n(&others.left, 0, __ATOMIC_RELAXED);
#endif
    peer_destroy(data.pool);
}

/* Totals of 1 us to 1 s, of 2 to 100,000 items (none shorter than 5 ns). `worst`: of the loop's speedups from 5 us on.
 * `left`: what it takes beyond 1.1 times the plain loop, in us, at worst. */
static void for_range_run(const bench_case *c) {
    static const double totals[] = { 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 1e6, 1e7, 1e8, 1e9 };
    static const size_t counts[] = { 2, 10, 100, 1000, 100000 };
    static double ratios[SMALL_MOST], beyond[SMALL_MOST];
    peer_pool *pool = peer_create(c->workers);
    peer_warm_up(pool, c->workers);
    double worst = 1e300, left = 0;
    bool shows = getenv("BENCH_FOR_SHOWS") != NULL;
    for (size_t t = 0; t < sizeof totals / sizeof totals[0]; t++)
        for (size_t n = 0; n < sizeof counts / sizeof counts[0]; n++) {
            if (totals[t] / (double)counts[n] < 5 || (bench_quick && totals[t] > 1e7)) continue;
            for_small data = { 0, 0, for_steps(totals[t], counts[n]), pool };
            int rounds = bench_quick ? 3 : totals[t] > 5e8 ? 3 : totals[t] > 5e7 ? 5 : totals[t] > 5e5 ? 51 : 501;
            for (int i = 0; i < rounds; i++) {
                data.sum = 0;
                int64_t began = bench_now();
                for_small_body(0, counts[n], &data);
                int64_t between = bench_now();
                uint64_t serial = data.sum;
                data.sum = 0;
                peer_for(pool, 0, counts[n], for_small_body, &data);
                int64_t ended = bench_now();
                bench_check(data.sum == serial);
                ratios[i] = (double)(between - began) / (double)(ended - between);
                beyond[i] = (double)(ended - between) - 1.1 * (double)(between - began);
            }
            qsort(ratios, (size_t)rounds, sizeof ratios[0], for_compare);
            qsort(beyond, (size_t)rounds, sizeof beyond[0], for_compare);
            if (shows)
                printf("%10.0f ns, %6zu items: speedup %.2f, left %.0f ns\n", totals[t], counts[n], ratios[rounds / 2],
                       beyond[rounds / 2]);
            if (totals[t] >= 5e3 && ratios[rounds / 2] < worst) worst = ratios[rounds / 2];
            if (beyond[rounds / 2] / 1000 > left) left = beyond[rounds / 2] / 1000;
        }
    bench_report("worst", "times", worst);
    bench_report("left", "us", left);
    peer_destroy(pool);
}

static const bench_case for_cases[] = {
    { "for/1us", "a loop of 100 equal items that together take 1 us, after a plain loop each", for_small_run, 1, 2,
      SMALL(1000, SMALL_PLAIN) },
    { "for/5us", "the same, 5 us", for_small_run, 1, 2, SMALL(5000, SMALL_PLAIN) },
    { "for/20us", "the same, 20 us", for_small_run, 1, 2, SMALL(20000, SMALL_PLAIN) },
    { "for/100us", "the same, 100 us", for_small_run, 1, 2, SMALL(100000, SMALL_PLAIN) },
    { "for/1ms", "the same, 1 ms", for_small_run, 1, 2, SMALL(1000000, SMALL_PLAIN) },
    { "for/100us-row", "loops of 100 us in a row", for_small_run, 1, 2, SMALL(100000, SMALL_IN_A_ROW) },
    { "for/1ms-row", "the same, 1 ms", for_small_run, 1, 2, SMALL(1000000, SMALL_IN_A_ROW) },
    { "for/range", "loops of 2 to 100,000 items that together take 1 us to 1 s", for_range_run, 1, 2, 0 },
    { "for/nested-1us", "a loop of 10 loops of 10 items, together 1 us", for_small_run, 1, 2,
      SMALL(1000, SMALL_NESTED) },
    { "for/nested-20us", "the same, 20 us", for_small_run, 1, 2, SMALL(20000, SMALL_NESTED) },
    { "for/nested-100us", "the same, 100 us", for_small_run, 1, 2, SMALL(100000, SMALL_NESTED) },
    { "for/nested-1ms", "the same, 1 ms", for_small_run, 1, 2, SMALL(1000000, SMALL_NESTED) },
#if PEER_OURS
    { "for/busy-5us", "a loop of 5 us, and other tasks are always queued", for_small_run, 1, 2,
      SMALL(5000, SMALL_BUSY) },
    { "for/busy-20us", "the same, 20 us", for_small_run, 1, 2, SMALL(20000, SMALL_BUSY) },
    { "for/busy-100us", "the same, 100 us", for_small_run, 1, 2, SMALL(100000, SMALL_BUSY) },
    { "for/busy-1ms", "the same, 1 ms", for_small_run, 1, 2, SMALL(1000000, SMALL_BUSY) },
    { "for/map-100us", "a map from outside over 100 items that together take 100 us", for_small_run, 1, 2,
      SMALL(100000, SMALL_MAP) },
    { "for/map-1ms", "the same, 1 ms", for_small_run, 1, 2, SMALL(1000000, SMALL_MAP) },
#endif
    { "for/even", "a loop of 10,000,000 items of about 25 ns", for_run, 1, 2, FOR_EVEN },
    { "for/skewed", "the same, item i costing in proportion to i", for_run, 1, 2, FOR_SKEWED },
};
BENCH_WORKLOAD(for_cases)
#endif
