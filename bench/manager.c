/* Managed pools: what it costs to ask for one that is there, alone, with many asking and among many, what the manager
 * keeps for each, and data sets that share a pool against those that make one each. */
#include "bench.h"
#if PEER_OURS

enum { MANAGER_CONFIGURATIONS = 500 };

static tpool_manager *manager_new(void) {
    tpool_manager *manager = NULL;
    bench_check(tpool_manager_create(&manager, NULL) == TPOOL_OK);
    return manager;
}
static inline tpool *manager_get(tpool_manager *manager, int workers) {
    tpool *pool = NULL;
    bench_check(tpool_manager_get(manager, workers, TPOOL_THREADS, 0, &pool) == TPOOL_OK);
    return pool;
}
static inline void manager_release(tpool_manager *manager, tpool *pool) {
    bench_check(tpool_manager_release(manager, pool) == TPOOL_OK);
}

/* With the given number of configurations, asked for in an order that no cache guesses. get: of pools that others use;
 * idle: of pools that nobody uses, so that the clock has to be looked at; release: of those. (Of one pool every get but
 * the first finds it used; so there `idle-pair` is a get of the idle one, and its release.) */
static void manager_alone(const bench_case *c) {
    size_t rounds = bench_count(2000000) / MANAGER_CONFIGURATIONS + 1, asked = rounds * MANAGER_CONFIGURATIONS;
    tpool_manager *manager = manager_new();
    int order[MANAGER_CONFIGURATIONS];
    tpool *held[MANAGER_CONFIGURATIONS], *got[MANAGER_CONFIGURATIONS];
    int64_t used = 0, idle = 0, releases = 0;
    for (int i = 0; i < c->option; i++) held[i] = manager_get(manager, i + 1);
    for (int i = 0; i < MANAGER_CONFIGURATIONS; i++) order[i] = i % c->option + 1;
    for (int i = MANAGER_CONFIGURATIONS - 1; i > 0; i--) {
        int with = (int)((unsigned)(i * 7919 + 104729) % (unsigned)(i + 1)), kept = order[i];
        order[i] = order[with];
        order[with] = kept;
    }
    for (int idle_ones = 0; idle_ones < 2; idle_ones++) {
        for (size_t round = 0; round < rounds; round++) {
            int64_t began = bench_now();
            for (int i = 0; i < MANAGER_CONFIGURATIONS; i++) {
                got[i] = manager_get(manager, order[i]);
                if (idle_ones && c->option == 1) manager_release(manager, got[i]);
            }
            int64_t between = bench_now();
            if (!idle_ones || c->option > 1)
                for (int i = 0; i < MANAGER_CONFIGURATIONS; i++) manager_release(manager, got[i]);
            *(idle_ones ? &idle : &used) += between - began;
            if (idle_ones) releases += bench_now() - between;
            for (int i = 0; i < MANAGER_CONFIGURATIONS; i++) bench_check(got[i] == held[order[i] - 1]);
        }
        if (!idle_ones)
            for (int i = 0; i < c->option; i++) manager_release(manager, held[i]);
    }
    tpool_manager_stats stats;
    bench_check(tpool_manager_get_stats(manager, &stats) == TPOOL_OK);
    bench_check(stats.reused == 2 * asked && stats.created == (uint64_t)c->option && stats.in_use == 0);
    bench_report("get", "ns", (double)used / (double)asked);
    bench_report(c->option == 1 ? "idle-pair" : "idle", "ns", (double)idle / (double)asked);
    if (c->option > 1) bench_report("release", "ns", (double)releases / (double)asked);
    tpool_manager_destroy(manager);
}

/* Many threads ask for the same, and give it back. Of every 64th get the time is taken, the rest makes the crowd. */
typedef struct manager_crowd {
    tpool_manager *manager;
    int64_t *samples;
    size_t stride;
} manager_crowd;
static void manager_ask(bench_submitter *self) {
    manager_crowd *crowd = (manager_crowd *)self->context;
    for (size_t i = self->begin; i < self->end; i++) {
        int64_t began = i % crowd->stride ? 0 : bench_now();
        tpool *pool = manager_get(crowd->manager, 2);
        if (began) crowd->samples[i / crowd->stride] = bench_now() - began;
        manager_release(crowd->manager, pool);
    }
}
static void manager_many(const bench_case *c) {
    size_t count = bench_count(4000000);
    manager_crowd crowd = { manager_new(), NULL, 64 };
    size_t samples = (count + crowd.stride - 1) / crowd.stride;
    crowd.samples = (int64_t *)bench_memory(samples * sizeof *crowd.samples);
    manager_release(crowd.manager, manager_get(crowd.manager, 2));
    int64_t began = bench_submit_from(c->submitters, manager_ask, NULL, count, &crowd);
    double elapsed = (double)(bench_now() - began);
    tpool_manager_stats stats;
    bench_check(tpool_manager_get_stats(crowd.manager, &stats) == TPOOL_OK);
    bench_check(stats.reused == count && stats.created == 1 && stats.in_use == 0);
    bench_report("pair", "ns", elapsed / (double)count);
    bench_report_samples(crowd.samples, samples, "ns", 1);
    free(crowd.samples);
    tpool_manager_destroy(crowd.manager);
}

/* What malloc has given for each pool, beyond what a pool takes that no manager knows. */
static double manager_allocated(void) {
    struct mallinfo2 info = mallinfo2();
    return (double)(info.uordblks + info.hblkhd);
}
static void manager_memory(const bench_case *c) {
    tpool *alone[MANAGER_CONFIGURATIONS];
    tpool_config config;
    memset(&config, 0, sizeof config);
    tpool_manager *manager = manager_new();
    double before = manager_allocated();
    for (int i = 0; i < c->option; i++) {
        config.max_workers = i + 1;
        bench_check(tpool_create(&alone[i], &config) == TPOOL_OK);
    }
    double of_pools = manager_allocated() - before;
    before = manager_allocated();
    for (int i = 0; i < c->option; i++) (void)manager_get(manager, i + 1);
    double of_managed = manager_allocated() - before;
    bench_report("entry", "bytes", (of_managed - of_pools) / c->option);
    for (int i = 0; i < c->option; i++) bench_check(tpool_destroy(alone[i]) == TPOOL_OK);
}

/* 10 data sets of a few tasks, each on a pool of 2: on one that is there, on one that the manager lends, and on a new
 * one. The first is what the work itself takes; what the others take beyond it is their overhead. */
enum { MANAGER_SETS = 10, MANAGER_TASKS = 100 };
static void *manager_triple(void *arg) { return (void *)((uintptr_t)arg * 3); }
static void manager_data_set(tpool *pool) {
    tpool_future *futures[MANAGER_TASKS];
    uintptr_t sum = 0;
    for (uintptr_t i = 0; i < MANAGER_TASKS; i++)
        bench_check(tpool_submit(pool, manager_triple, (void *)i, &futures[i]) == TPOOL_OK);
    for (int i = 0; i < MANAGER_TASKS; i++) {
        void *result = NULL;
        bench_check(tpool_future_result(futures[i], TPOOL_FOREVER, &result) == TPOOL_OK);
        sum += (uintptr_t)result;
        tpool_future_release(futures[i]);
    }
    bench_check(sum == (uintptr_t)MANAGER_TASKS * (MANAGER_TASKS - 1) / 2 * 3);
}
static int64_t manager_sets(int how, tpool_manager *manager, tpool *there, int64_t *getting) {
    int64_t began = bench_now();
    tpool_config config;
    memset(&config, 0, sizeof config);
    config.max_workers = 2;
    for (int i = 0; i < MANAGER_SETS; i++) {
        tpool *pool = there;
        int64_t asked = bench_now();
        if (how == 1) pool = manager_get(manager, 2);
        if (how == 2) bench_check(tpool_create(&pool, &config) == TPOOL_OK && tpool_warm_up(pool, 2) == TPOOL_OK);
        int64_t got = bench_now();
        manager_data_set(pool);
        int64_t done = bench_now();
        if (how == 1) manager_release(manager, pool);
        if (how == 2) bench_check(tpool_destroy(pool) == TPOOL_OK);
        *getting += got - asked + bench_now() - done;
    }
    return bench_now() - began;
}
static void manager_data_sets(const bench_case *c) {
    size_t rounds = bench_quick ? 3 : 201;
    (void)c;
    tpool_manager *manager = manager_new();
    tpool_config config;
    tpool *there = NULL;
    static const char *const names[3] = { "there", "managed", "new" };
    int64_t *samples[3], *getting[3];
    memset(&config, 0, sizeof config);
    config.max_workers = 2;
    bench_check(tpool_create(&there, &config) == TPOOL_OK && tpool_warm_up(there, 2) == TPOOL_OK);
    for (int how = 0; how < 3; how++) {
        samples[how] = (int64_t *)bench_memory(rounds * sizeof *samples[how]);
        getting[how] = (int64_t *)bench_memory(rounds * sizeof *getting[how]);
    }
    for (size_t round = 0; round < rounds; round++) /* they take turns */
        for (int how = 0; how < 3; how++) samples[how][round] = manager_sets(how, manager, there, &getting[how][round]);
    double beyond[3];
    for (int how = 0; how < 3; how++) {
        qsort(samples[how], rounds, sizeof *samples[how], bench_compare);
        qsort(getting[how], rounds, sizeof *getting[how], bench_compare);
        bench_report(names[how], "us", (double)samples[how][rounds / 2] / 1000);
        beyond[how] = (double)(getting[how][rounds / 2] - getting[0][rounds / 2]) / 1000;
    }
    bench_report("overhead-managed", "us", beyond[1]);
    bench_report("overhead-new", "us", beyond[2]);
    bench_report("ratio", "times", beyond[2] / beyond[1]);
    bench_check(tpool_destroy(there) == TPOOL_OK);
    tpool_manager_destroy(manager);
    for (int how = 0; how < 3; how++) {
        free(samples[how]);
        free(getting[how]);
    }
}

static const bench_case manager_cases[] = {
    { "manager/1", "get a managed pool that is there, one configuration", manager_alone, 1, 0, 1 },
    { "manager/500", "the same among 500 configurations", manager_alone, 1, 0, MANAGER_CONFIGURATIONS },
    { "manager/8-threads", "get and release, 8 threads ask for the same", manager_many, 8, 0, 0 },
    { "manager/memory", "what the manager keeps for each of 500 pools", manager_memory, 1, 0, MANAGER_CONFIGURATIONS },
    { "manager/10-data-sets", "10 data sets of 100 tasks on a pool that is there, is lent, is new", manager_data_sets,
      1, 2, 0 },
};
BENCH_WORKLOAD(manager_cases)
#endif
