// oneTBB's task_arena::enqueue: fire and forget, from outside the arena. It cannot wait for its tasks.
#include "tbb.h"

static BENCH_UNUSED peer_pool *peer_create(int workers) { return new peer_pool(workers, 0); }
static inline void peer_submit(peer_pool *pool, bench_fn fn, void *arg) {
    pool->outside.enqueue([=] { fn(arg); });
}
static inline void peer_flush(peer_pool *pool) { (void)pool; }
static inline void peer_submit_future(peer_pool *pool, bench_fn fn, void *arg, peer_future *future) {
    tbb_promised task{ {}, fn, arg };
    *future = task.promise.get_future();
    pool->outside.enqueue(std::move(task));
}
static inline uintptr_t peer_result(peer_future *future) { return (uintptr_t)future->get(); }
