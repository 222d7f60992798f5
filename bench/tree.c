/* Tasks submitted by tasks.
 *
 *   a tree of 1,000,000, each parent awaiting its children's futures
 *   few    a task submits ten and awaits them, again and again: empty ones, and such of about 5 us; `speedup` to the
 *          same work in one thread */
#include "bench.h"
#if PEER_TREE

static peer_pool *tree_pool;
static size_t tree_count;
static size_t tree_fan_out;

/* The children of task i are i * fan_out + 1 and the following; each gives the sum of the numbers of its subtree. */
static void *tree_task(void *arg) {
    size_t number = (size_t)arg, child = number * tree_fan_out + 1, children = 0;
    void *args[16];
    while (children < tree_fan_out && child < tree_count) args[children++] = (void *)child++;
    if (children == 0) return arg;
    return (void *)(number + peer_children(tree_pool, tree_task, args, (int)children));
}

static void tree_run(const bench_case *c) {
    tree_count = bench_count(1000000);
    tree_fan_out = (size_t)c->option;
    uintptr_t wanted = (uintptr_t)tree_count * (tree_count - 1) / 2;
    tree_pool = peer_create(c->workers);
    peer_warm_up(tree_pool, c->workers);
    bench_check(peer_root(tree_pool, tree_task, NULL) == wanted);
    bench_sleep(20000000);

    int64_t began = bench_now();
    uintptr_t sum = peer_root(tree_pool, tree_task, NULL);
    int64_t ended = bench_now();
    bench_check(sum == wanted);
    bench_report("time", "ns/task", (double)(ended - began) / (double)tree_count);
    peer_destroy(tree_pool);
}

enum { FEW = 10 };
typedef struct few_data {
    peer_pool *pool;
    size_t scopes;
    int64_t took;
} few_data;

static uint64_t few_steps;
static BENCH_OPAQUE uint64_t few_work(uint64_t x) {
    for (uint64_t i = 0; i < few_steps; i++) {
        x *= UINT64_C(0x9E3779B97F4A7C15);
        x ^= x >> 29;
    }
    return x;
}
static void *few_item(void *arg) { return (void *)(uintptr_t)(few_work((uintptr_t)arg) & 0xffff); }
static void *few_root(void *of) {
    few_data *data = (few_data *)of;
    void *args[FEW];
    uintptr_t sum = 0, wanted = 0;
    for (size_t k = 0; k < FEW; k++) {
        args[k] = (void *)(k + 1);
        wanted += (uintptr_t)few_item(args[k]);
    }
    int64_t began = bench_now();
    for (size_t i = 0; i < data->scopes; i++) sum += peer_children(data->pool, few_item, args, FEW);
    data->took = bench_now() - began;
    bench_check(sum == wanted * data->scopes);
    return NULL;
}
static void few_run(const bench_case *c) {
    few_data data;
    int64_t item = 0;
    few_steps = 0;
    if (c->option > 0) { /* as many steps as take so many ns */
        few_steps = 1000000;
        int64_t began = bench_now();
        uint64_t x = few_work(1);
        item = bench_now() - began;
        bench_check(x != 0);
        few_steps = few_steps * (uint64_t)c->option / (uint64_t)item;
        item = c->option;
    }
    data.scopes = bench_count(c->option > 0 ? 4000 : 100000);
    data.pool = peer_create(c->workers);
    peer_warm_up(data.pool, c->workers);
    for (int pass = 0; pass < 2; pass++) (void)peer_root(data.pool, few_root, &data);
    double took = (double)data.took / (double)data.scopes;
    bench_report("time", "ns/scope", took);
    if (item > 0) bench_report("speedup", "times", (double)item * FEW / took);
    peer_destroy(data.pool);
}

static const bench_case tree_cases[] = {
    { "tree/2", "a tree of 1,000,000 tasks awaiting their children, 2 each", tree_run, 1, 2, 2 },
    { "tree/10", "the same, 10 each", tree_run, 1, 2, 10 },
    { "tree/few", "a task awaits ten empty ones", few_run, 1, 2, 0 },
    { "tree/few-5us", "the same, 5 us each", few_run, 1, 2, 5000 },
};
BENCH_WORKLOAD(tree_cases)
#endif
