/* A plain pool as one writes it in an afternoon: a bounded ring under one mutex, and conditions. */
#define PEER_PLAIN 1
#define PEER_DRAIN 1
#define PEER_FUTURES 1
#define PEER_BOUNDED 1 /* a million tasks cannot wait in it */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { RING_SIZE = 4096 };

typedef struct peer_pool {
    pthread_mutex_t lock;
    pthread_cond_t not_empty, not_full, quiet;
    unsigned head, tail;        /* the tasks in between wait */
    int workers, idle, blocked; /* blocked: submitters */
    bool ending;
    struct {
        bench_fn fn;
        void *arg;
    } ring[RING_SIZE];
    pthread_t threads[];
} peer_pool;

static void *ring_worker(void *arg) {
    peer_pool *pool = (peer_pool *)arg;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (pool->head == pool->tail && !pool->ending) {
            if (++pool->idle == pool->workers) pthread_cond_broadcast(&pool->quiet);
            pthread_cond_wait(&pool->not_empty, &pool->lock);
            pool->idle--;
        }
        if (pool->head == pool->tail) break;
        bench_fn fn = pool->ring[pool->head % RING_SIZE].fn;
        void *task_arg = pool->ring[pool->head % RING_SIZE].arg;
        pool->head++;
        if (pool->blocked) pthread_cond_signal(&pool->not_full);
        pthread_mutex_unlock(&pool->lock);
        fn(task_arg);
        pthread_mutex_lock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}
static BENCH_UNUSED peer_pool *peer_create(int workers) {
    peer_pool *pool = (peer_pool *)calloc(1, sizeof *pool + (size_t)workers * sizeof pool->threads[0]);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->not_empty, NULL);
    pthread_cond_init(&pool->not_full, NULL);
    pthread_cond_init(&pool->quiet, NULL);
    pool->workers = workers;
    for (int i = 0; i < workers; i++) pthread_create(&pool->threads[i], NULL, ring_worker, pool);
    return pool;
}
static BENCH_UNUSED void peer_warm_up(peer_pool *pool, int workers) {
    (void)pool;
    (void)workers;
}
static BENCH_UNUSED void peer_destroy(peer_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    pool->ending = true;
    pthread_cond_broadcast(&pool->not_empty);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < pool->workers; i++) pthread_join(pool->threads[i], NULL);
    free(pool);
}
static BENCH_UNUSED void peer_submit(peer_pool *pool, bench_fn fn, void *arg) {
    pthread_mutex_lock(&pool->lock);
    while (pool->tail - pool->head == RING_SIZE) {
        pool->blocked++;
        pthread_cond_wait(&pool->not_full, &pool->lock);
        pool->blocked--;
    }
    pool->ring[pool->tail % RING_SIZE].fn = fn;
    pool->ring[pool->tail % RING_SIZE].arg = arg;
    pool->tail++;
    bool wake = pool->idle > 0;
    pthread_mutex_unlock(&pool->lock);
    if (wake) pthread_cond_signal(&pool->not_empty);
}
static BENCH_UNUSED void peer_flush(peer_pool *pool) { (void)pool; }
static BENCH_UNUSED void peer_drain(peer_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    while (pool->head != pool->tail || pool->idle < pool->workers) pthread_cond_wait(&pool->quiet, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

#include "own_future.h"
