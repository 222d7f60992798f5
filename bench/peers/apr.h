/* The Apache Portable Runtime's apr_thread_pool. It has no futures and cannot wait for its tasks. A hundredth of
 * the tasks: a push walks past all that wait, so that a million of them would take hours. */
#define PEER_PLAIN 1
#define PEER_FEWER_TASKS 100
#define PEER_FUTURES 1

#include <apr_general.h>
#include <apr_thread_pool.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include "packed.h"

typedef struct peer_pool {
    apr_pool_t *memory;
    apr_thread_pool_t *threads;
} peer_pool;

static void *APR_THREAD_FUNC apr_run(apr_thread_t *thread, void *task) {
    (void)thread;
    packed_run(task);
    return NULL;
}
static void *own_future_run(void *arg);
static BENCH_UNUSED peer_pool *peer_create(int workers) {
    static int initialized;
    peer_pool *pool = (peer_pool *)malloc(sizeof *pool);
    packed_functions[0] = own_future_run;
    if (!initialized++ && apr_initialize() != APR_SUCCESS) abort();
    if (apr_pool_create(&pool->memory, NULL) != APR_SUCCESS) abort();
    if (apr_thread_pool_create(&pool->threads, (apr_size_t)workers, (apr_size_t)workers, pool->memory) != APR_SUCCESS)
        abort();
    return pool;
}
static BENCH_UNUSED void peer_warm_up(peer_pool *pool, int workers) {
    (void)pool;
    (void)workers;
}
static BENCH_UNUSED void peer_destroy(peer_pool *pool) {
    apr_thread_pool_destroy(pool->threads);
    apr_pool_destroy(pool->memory);
    free(pool);
}
static inline void peer_submit(peer_pool *pool, bench_fn fn, void *arg) {
    if (apr_thread_pool_push(pool->threads, apr_run, packed(fn, arg), 0, NULL) != APR_SUCCESS) abort();
}
static inline void peer_flush(peer_pool *pool) { (void)pool; }
#include "own_future.h"
