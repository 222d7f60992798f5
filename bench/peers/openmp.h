/* OpenMP tasks. A team of as many threads as there are workers, of which the one that submits is a member: it also runs
 * tasks, at the latest at the end of the region. So there are neither futures nor submitters outside. */
#define PEER_PLAIN 1
#define PEER_DRAIN 1
#define PEER_WITHIN 1
#define PEER_ONE_SUBMITTER 1
#define PEER_BOUNDED 1 /* beyond some number of waiting tasks it runs them at once */
#define PEER_SHARED_THREADS 1
#define PEER_TREE 1
#define PEER_FORK_JOIN 1
#define PEER_FOR 1

#include <omp.h>
#include <stddef.h>
#include <stdint.h>

typedef struct peer_pool {
    int workers;
} peer_pool;

static BENCH_UNUSED peer_pool *peer_create(int workers) {
    static peer_pool only;
    only.workers = workers;
    return &only;
}
static BENCH_UNUSED void peer_destroy(peer_pool *pool) { (void)pool; }
static BENCH_UNUSED void peer_warm_up(peer_pool *pool, int workers) {
    (void)pool;
#pragma omp parallel num_threads(workers)
    { }
}
static BENCH_UNUSED void peer_within(peer_pool *pool, void (*body)(void *arg), void *arg) {
#pragma omp parallel num_threads(pool->workers)
#pragma omp single
    body(arg);
}
static inline void peer_submit(peer_pool *pool, bench_fn fn, void *arg) {
    (void)pool;
#pragma omp task firstprivate(fn, arg)
    fn(arg);
}
static inline void peer_flush(peer_pool *pool) { (void)pool; }
static BENCH_UNUSED void peer_drain(peer_pool *pool) { (void)pool; } /* the region's end was that */

static inline uintptr_t peer_children(peer_pool *pool, bench_fn fn, void **args, int count) {
    uintptr_t results[16], sum = 0;
    (void)pool;
    for (int i = 0; i < count; i++) {
#pragma omp task firstprivate(fn, i) shared(results, args)
        results[i] = (uintptr_t)fn(args[i]);
    }
#pragma omp taskwait
    for (int i = 0; i < count; i++) sum += results[i];
    return sum;
}
static BENCH_UNUSED uintptr_t peer_root(peer_pool *pool, bench_fn fn, void *arg) {
    uintptr_t result = 0;
#pragma omp parallel num_threads(pool->workers) shared(result)
#pragma omp single
    result = (uintptr_t)fn(arg);
    return result;
}

static BENCH_UNUSED long openmp_fib(int n) {
    long left, right;
    if (n < 2) return n;
#pragma omp task shared(left) firstprivate(n)
    left = openmp_fib(n - 1);
    right = openmp_fib(n - 2);
#pragma omp taskwait
    return left + right;
}
static BENCH_UNUSED long peer_fib(peer_pool *pool, int n) {
    long result = 0;
#pragma omp parallel num_threads(pool->workers) shared(result)
#pragma omp single
    result = openmp_fib(n);
    return result;
}

/* A dynamic schedule in chunks of a thousandth: it must fit items that differ as well as those that do not. */
static BENCH_UNUSED void peer_for(peer_pool *pool, size_t begin, size_t end,
                                  void (*body)(size_t begin, size_t end, void *context), void *context) {
    size_t chunk = (end - begin) / 1000 + 1, chunks = (end - begin + chunk - 1) / chunk;
#pragma omp parallel for schedule(dynamic) num_threads(pool->workers)
    for (size_t i = 0; i < chunks; i++) {
        size_t from = begin + i * chunk, to = from + chunk;
        body(from, to < end ? to : end, context);
    }
}
