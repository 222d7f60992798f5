// Boost.Asio's thread_pool: post, packaged_task for futures, and strands. Its join ends the pool, so tasks are counted.
#define PEER_PLAIN 1
#define PEER_FUTURES 1
#define PEER_STRANDS 1

#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <future>

typedef boost::asio::thread_pool peer_pool;
typedef std::future<void *> peer_future;

static BENCH_UNUSED peer_pool *peer_create(int workers) { return new peer_pool((std::size_t)workers); }
static BENCH_UNUSED void peer_warm_up(peer_pool *pool, int workers) {
    (void)pool;
    (void)workers;
}
static BENCH_UNUSED void peer_destroy(peer_pool *pool) {
    pool->join();
    delete pool;
}
static inline void peer_submit(peer_pool *pool, bench_fn fn, void *arg) {
    boost::asio::post(*pool, [=] { fn(arg); });
}
static inline void peer_flush(peer_pool *pool) { (void)pool; }
static inline void peer_submit_future(peer_pool *pool, bench_fn fn, void *arg, peer_future *future) {
    std::packaged_task<void *()> task([=] { return fn(arg); });
    *future = task.get_future();
    boost::asio::post(*pool, std::move(task));
}
static inline uintptr_t peer_result(peer_future *future) { return (uintptr_t)future->get(); }

typedef boost::asio::strand<peer_pool::executor_type> *peer_strand;
static BENCH_UNUSED void peer_strand_create(peer_pool *pool, peer_strand *strand) {
    *strand = new boost::asio::strand<peer_pool::executor_type>(pool->get_executor());
}
static inline void peer_strand_submit(peer_pool *pool, peer_strand *strand, bench_fn fn, void *arg) {
    (void)pool;
    boost::asio::post(**strand, [=] { fn(arg); });
}
static BENCH_UNUSED void peer_strand_destroy(peer_strand *strand) { delete *strand; }
