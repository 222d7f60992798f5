// What the two contestants from oneTBB share: arenas, nested work, loops. The threads are the library's and stay, so
// pools cannot be created and destroyed. Where the calling thread takes part (nested work and loops), it is one of the
// workers.
#define PEER_PLAIN 1
#define PEER_FUTURES 1
#define PEER_SHARED_THREADS 1

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <memory>
#include <oneapi/tbb/blocked_range.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>
#include <oneapi/tbb/task_group.h>

typedef std::future<void *> peer_future;

struct peer_pool {
    oneapi::tbb::global_control control;
    oneapi::tbb::task_arena outside; // callers have places of their own in it
    oneapi::tbb::task_arena inside;  // the caller has one of the workers' places
    peer_pool(int workers, int callers)
        : control(oneapi::tbb::global_control::max_allowed_parallelism, (std::size_t)workers + 1),
          outside(workers + callers, callers), inside(workers, 1) { }
};
// A task with a future. A packaged_task would do the same with an allocation more; and oneTBB calls tasks as constants.
struct tbb_promised {
    mutable std::promise<void *> promise;
    bench_fn fn;
    void *arg;
    void operator()() const { promise.set_value(fn(arg)); }
};
static BENCH_UNUSED void peer_warm_up(peer_pool *pool, int workers) {
    (void)pool;
    (void)workers;
}
static BENCH_UNUSED void peer_destroy(peer_pool *pool) { delete pool; }
