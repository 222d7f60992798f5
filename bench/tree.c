/* Tasks submitted by tasks: a tree of 1,000,000, each parent awaiting its children's futures. */
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

static const bench_case tree_cases[] = {
    { "tree/2", "a tree of 1,000,000 tasks awaiting their children, 2 each", tree_run, 1, 2, 2 },
    { "tree/10", "the same, 10 each", tree_run, 1, 2, 10 },
};
BENCH_WORKLOAD(tree_cases)
#endif
