// oneTBB's task_group: one for each submitting thread, within one arena. Waiting for the group, the thread runs tasks
// itself, so there are no round trips: see tbb_enqueue.h.
#include "tbb.h"
#define PEER_DRAIN 1
#define PEER_WITHIN 1
#define PEER_NO_TRIPS 1
#define PEER_TREE 1
#define PEER_SCOPES 1
#define PEER_FORK_JOIN 1
#define PEER_FOR 1

static thread_local oneapi::tbb::task_group *tbb_my_group;

static BENCH_UNUSED peer_pool *peer_create(int workers) { return new peer_pool(workers, 4); }
static BENCH_UNUSED void peer_within(peer_pool *pool, void (*body)(void *arg), void *arg) {
    pool->outside.execute([=] {
        oneapi::tbb::task_group group;
        tbb_my_group = &group;
        body(arg);
        group.wait();
        tbb_my_group = nullptr;
    });
}
static inline void peer_submit(peer_pool *pool, bench_fn fn, void *arg) {
    (void)pool;
    tbb_my_group->run([=] { fn(arg); });
}
// oneTBB promises no progress to a thread that does not wait for its group, but starts what is enqueued.
static inline void tbb_enqueue(peer_pool *pool, bench_fn fn, void *arg) {
    pool->outside.enqueue([=] { fn(arg); });
}
#define PEER_SUBMIT_SURELY tbb_enqueue
static inline void peer_flush(peer_pool *pool) {
    (void)pool;
    tbb_my_group->wait();
}
static BENCH_UNUSED void peer_drain(peer_pool *pool) { (void)pool; } // each thread has waited for its group
static inline void peer_submit_future(peer_pool *pool, bench_fn fn, void *arg, peer_future *future) {
    tbb_promised task{ {}, fn, arg };
    (void)pool;
    *future = task.promise.get_future();
    tbb_my_group->run(std::move(task));
}
// So the thread waits for its group, not for the future (round trips that did have hung).
static inline uintptr_t peer_result(peer_future *future) {
    if (future->wait_for(std::chrono::seconds(0)) != std::future_status::ready) tbb_my_group->wait();
    return (uintptr_t)future->get();
}

static inline uintptr_t peer_children(peer_pool *pool, bench_fn fn, void **args, int count) {
    uintptr_t results[16], sum = 0;
    oneapi::tbb::task_group group;
    (void)pool;
    // Each child is a task: run_and_wait for the last one would be a plain call.
    for (int i = 0; i < count; i++) group.run([=, &results] { results[i] = (uintptr_t)fn(args[i]); });
    group.wait();
    for (int i = 0; i < count; i++) sum += results[i];
    return sum;
}
static BENCH_UNUSED uintptr_t peer_root(peer_pool *pool, bench_fn fn, void *arg) {
    return pool->inside.execute([=] { return (uintptr_t)fn(arg); });
}

// From outside, the caller enters the arena once a scope (peer_outside).
static inline void peer_scope(peer_pool *pool, bench_fn fn, void **args, int count) {
    (void)pool;
    oneapi::tbb::task_group group;
    for (int i = 0; i < count; i++) {
        void *arg = args[i];
        group.run([=] { fn(arg); });
    }
    group.wait();
}
#define PEER_OUTSIDE 1
static inline void peer_outside(peer_pool *pool, void (*body)(void *arg), void *arg) {
    pool->inside.execute([=] { body(arg); });
}

static BENCH_UNUSED long tbb_fib(int n) {
    long left, right;
    if (n < 2) return n;
    oneapi::tbb::task_group group;
    group.run([=, &left] { left = tbb_fib(n - 1); });
    right = tbb_fib(n - 2);
    group.wait();
    return left + right;
}
static BENCH_UNUSED long peer_fib(peer_pool *pool, int n) {
    return pool->inside.execute([=] { return tbb_fib(n); });
}

static BENCH_UNUSED void peer_for(peer_pool *pool, size_t begin, size_t end,
                                  void (*body)(size_t begin, size_t end, void *context), void *context) {
    pool->inside.execute([=] {
        oneapi::tbb::parallel_for(
            oneapi::tbb::blocked_range<size_t>(begin, end),
            [=](const oneapi::tbb::blocked_range<size_t> &range) { body(range.begin(), range.end(), context); });
    });
}
