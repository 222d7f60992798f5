/* GLib's GThreadPool, exclusive, whose threads are all there from the start. It has no futures and cannot wait for its
 * tasks without ending. */
#define PEER_PLAIN 1
#define PEER_FUTURES 1

#include <glib.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include "packed.h"

typedef GThreadPool peer_pool;

static void glib_run(gpointer task, gpointer user_data) {
    (void)user_data;
    packed_run(task);
}
static void *own_future_run(void *arg);
static BENCH_UNUSED peer_pool *peer_create(int workers) {
    packed_functions[0] = own_future_run;
    GThreadPool *pool = g_thread_pool_new(glib_run, NULL, workers, TRUE, NULL);
    if (!pool) abort();
    return pool;
}
static BENCH_UNUSED void peer_warm_up(peer_pool *pool, int workers) {
    (void)pool;
    (void)workers;
}
static BENCH_UNUSED void peer_destroy(peer_pool *pool) { g_thread_pool_free(pool, FALSE, TRUE); }
static inline void peer_submit(peer_pool *pool, bench_fn fn, void *arg) {
    if (!g_thread_pool_push(pool, packed(fn, arg), NULL)) abort();
}
static inline void peer_flush(peer_pool *pool) { (void)pool; }
#include "own_future.h"
