/* Pithikos' C-Thread-Pool, as Debian ships it: a file to compile in. */
#define PEER_PLAIN 1
#define PEER_DRAIN 1
#define PEER_FUTURES 1

#include <cthreadpool/thpool.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct thpool_ peer_pool;

static BENCH_UNUSED peer_pool *peer_create(int workers) { return thpool_init(workers); }
static BENCH_UNUSED void peer_warm_up(peer_pool *pool, int workers) {
    (void)pool;
    (void)workers;
}
static BENCH_UNUSED void peer_destroy(peer_pool *pool) {
    thpool_wait(pool);
    thpool_destroy(pool);
}
/* Its tasks give nothing back; by the calling conventions that Debian's architectures have, that may be ignored. */
static inline void (*thpool_fn(bench_fn fn))(void *) { return (void (*)(void *))(void (*)(void))fn; }
static inline void peer_submit(peer_pool *pool, bench_fn fn, void *arg) {
    if (thpool_add_work(pool, thpool_fn(fn), arg) != 0) abort();
}
static inline void peer_flush(peer_pool *pool) { (void)pool; }
static BENCH_UNUSED void peer_drain(peer_pool *pool) { thpool_wait(pool); }
#include "own_future.h"
