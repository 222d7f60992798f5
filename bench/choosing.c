/* tpool_map_auto against what a program would have chosen that knew its items: a plain loop, a map on 2 workers, a map
 * on as many as wait well (tpool_workers_for(TPOOL_WORK_IO)).
 *
 * Each total is measured with 20 to 100 items (less if they would be shorter than 200 ns) that are equal, skewed (item
 * i costs in proportion to i) and random (a few cost most of it), computing and sleeping. `worst` and `mean`: of the
 * ratio to the best of the three, over these; `left`: what the worst costs beyond 1.1 times the best, in us. All four
 * take turns; each figure is a lower quartile, since other programs only add. With BENCH_CHOOSING_SHOWS in the
 * environment all are printed. What the items return is verified. */
#include "bench.h"
#if PEER_OURS

enum { CHOOSING_ITEMS = 100, CHOOSING_ROUNDS = 201, CHOOSING_WAYS = 4 };
typedef enum choosing_shape { CHOOSING_EQUAL, CHOOSING_SKEWED, CHOOSING_RANDOM, CHOOSING_SHAPES } choosing_shape;

typedef struct choosing_item {
    double cost_ns;
    uint64_t steps, expected;
    bool sleeps;
} choosing_item;

static double choosing_steps_a_ns;

static BENCH_OPAQUE uint64_t choosing_compute(uint64_t x, uint64_t steps) {
    x = x * 2 + 1;
    for (uint64_t i = 0; i < steps; i++) {
        x *= UINT64_C(0x9E3779B97F4A7C15);
        x ^= x >> 29;
    }
    return x;
}
static BENCH_OPAQUE void *choosing_fn(void *argument, void *context) {
    const choosing_item *item = (const choosing_item *)argument;
    (void)context;
    if (!item->sleeps) return (void *)(uintptr_t)choosing_compute((uintptr_t)item, item->steps);
    struct timespec t = { (time_t)(item->cost_ns / 1e9), (long)(item->cost_ns) % 1000000000 };
    clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
    return (void *)(uintptr_t)item->expected;
}

static void choosing_make(choosing_item *items, size_t count, double total_ns, choosing_shape shape, bool sleeps) {
    double sum = 0;
    uint64_t seed = 12345;
    for (size_t i = 0; i < count; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        double chance = (double)(seed >> 40) / 16777216.0;
        items[i].cost_ns = shape == CHOOSING_EQUAL    ? 1
                           : shape == CHOOSING_SKEWED ? (double)i + 0.5
                                                      : 0.02 + chance * chance * chance;
        sum += items[i].cost_ns;
    }
    for (size_t i = 0; i < count; i++) {
        items[i].cost_ns *= total_ns / sum;
        items[i].sleeps = sleeps;
        items[i].steps = (uint64_t)(items[i].cost_ns * choosing_steps_a_ns) + 1;
        items[i].expected = sleeps ? i + 1 : choosing_compute((uintptr_t)&items[i], items[i].steps);
    }
}

static double choosing_run(int way, tpool *const *pools, choosing_item *items, size_t count, tpool_choice *choice) {
    static void *results[CHOOSING_ITEMS];
    tpool_map_spec spec;
    tpool_map_iter *iter = NULL;
    memset(&spec, 0, sizeof spec);
    spec.fn = choosing_fn;
    spec.items = items;
    spec.count = count;
    spec.stride = sizeof *items;
    int64_t began = bench_now();
    if (way == 0) {
        for (size_t i = 0; i < count; i++) results[i] = choosing_fn(&items[i], NULL);
    } else {
        if (way < 3) bench_check(tpool_map(pools[way], &spec, &iter) == TPOOL_OK);
        else bench_check(tpool_map_auto(NULL, &spec, 0, &iter, choice) == TPOOL_OK);
        for (size_t i = 0; i < count; i++) bench_check(tpool_map_next(iter, TPOOL_FOREVER, &results[i]) == TPOOL_OK);
        tpool_map_close(iter);
    }
    double took = (double)(bench_now() - began);
    for (size_t i = 0; i < count; i++) bench_check(results[i] == (void *)(uintptr_t)items[i].expected);
    return took;
}
static int choosing_compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void choosing_measure(const bench_case *c) {
    static const double totals[] = { 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6, 1e7, 1e8 };
    static double times[CHOOSING_WAYS][CHOOSING_ROUNDS];
    static choosing_item items[CHOOSING_ITEMS];
    bool sleeps = c->option, shows = getenv("BENCH_CHOOSING_SHOWS") != NULL;
    for (int i = 0; i < 20; i++) {
        int64_t began = bench_now();
        bench_check(choosing_compute(1, 100000) != 0);
        double steps = 1e5 / (double)(bench_now() - began);
        if (steps > choosing_steps_a_ns) choosing_steps_a_ns = steps;
    }
    tpool *pools[3] = { NULL, peer_create(2), peer_create(tpool_workers_for(TPOOL_WORK_IO)) };
    double worst = 0, sum = 0, beyond = 0;
    size_t measured = 0;
    for (size_t t = 0; t < sizeof totals / sizeof totals[0]; t++) {
        double total = totals[t], least = sleeps ? 1e5 : 200;
        if (total < 20 * least && sleeps) continue;
        size_t count = total / least > CHOOSING_ITEMS ? CHOOSING_ITEMS : (size_t)(total / least);
        int rounds = bench_quick ? 1 : total > 2e7 ? 5 : total > 2e6 ? 21 : sleeps ? 41 : CHOOSING_ROUNDS;
        for (int shape = 0; shape < CHOOSING_SHAPES; shape++) {
            tpool_choice choice;
            choosing_make(items, count, total, (choosing_shape)shape, sleeps);
            for (int warm = 0; warm < CHOOSING_WAYS; warm++) (void)choosing_run(warm, pools, items, count, &choice);
            for (int i = 0; i < rounds; i++)
                for (int way = 0; way < CHOOSING_WAYS; way++)
                    times[way][i] = choosing_run(way, pools, items, count, &choice);
            double best = 1e300, median[CHOOSING_WAYS];
            for (int way = 0; way < CHOOSING_WAYS; way++) {
                qsort(times[way], (size_t)rounds, sizeof times[way][0], choosing_compare);
                median[way] = times[way][rounds / 4];
                if (way < 3 && median[way] < best) best = median[way];
            }
            double ratio = median[3] / best;
            if (shows)
                printf("%9.0f ns, shape %d: loop %.0f, 2 workers %.0f, io %.0f, auto %.0f: %.3f  (%s)\n", total, shape,
                       median[0], median[1], median[2], median[3], ratio, choice.reason);
            if (ratio > worst) worst = ratio;
            if (median[3] - 1.1 * best > beyond) beyond = median[3] - 1.1 * best;
            sum += ratio;
            measured++;
        }
    }
    bench_report("worst", "times", worst);
    bench_report("mean", "times", sum / (double)measured);
    bench_report("left", "us", beyond / 1000);
    peer_destroy(pools[1]);
    peer_destroy(pools[2]);
}

static const bench_case choosing_cases[] = {
    { "choosing/compute", "tpool_map_auto to the best of a loop, 2 workers and many", choosing_measure, 1, 2, 0 },
    { "choosing/sleep", "the same, items that sleep", choosing_measure, 1, 2, 1 },
};
BENCH_WORKLOAD(choosing_cases)
#endif
