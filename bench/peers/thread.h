/* No pool: a thread per task, detached, or joined where the result is wanted. A fiftieth of the tasks. */
#define PEER_PLAIN 1
#define PEER_FUTURES 1
#define PEER_NO_POOL 1
#define PEER_FEWER_TASKS 50

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct peer_pool {
    pthread_attr_t detached, joined;
} peer_pool;
typedef pthread_t peer_future;

typedef struct thread_task {
    bench_fn fn;
    void *arg;
} thread_task;

static BENCH_UNUSED peer_pool *peer_create(int workers) {
    peer_pool *pool = (peer_pool *)malloc(sizeof *pool);
    (void)workers;
    pthread_attr_init(&pool->detached);
    pthread_attr_setstacksize(&pool->detached, 65536);
    pthread_attr_init(&pool->joined);
    pthread_attr_setstacksize(&pool->joined, 65536);
    pthread_attr_setdetachstate(&pool->detached, PTHREAD_CREATE_DETACHED);
    return pool;
}
static BENCH_UNUSED void peer_warm_up(peer_pool *pool, int workers) {
    (void)pool;
    (void)workers;
}
static BENCH_UNUSED void peer_destroy(peer_pool *pool) { free(pool); }

static void thread_start(const pthread_attr_t *attributes, bench_fn fn, void *arg, pthread_t *thread) {
    int error;
    while ((error = pthread_create(thread, attributes, fn, arg)) == EAGAIN) sched_yield(); /* too many: they end */
    if (error == 0) return;
    fprintf(stderr, "thread: refused\n");
    exit(1);
}
static void *thread_run(void *arg) {
    thread_task task = *(thread_task *)arg;
    free(arg);
    return task.fn(task.arg);
}
static BENCH_UNUSED void peer_submit(peer_pool *pool, bench_fn fn, void *arg) {
    pthread_t thread;
    thread_task *task = (thread_task *)malloc(sizeof *task);
    task->fn = fn;
    task->arg = arg;
    thread_start(&pool->detached, thread_run, task, &thread);
}
static BENCH_UNUSED void peer_flush(peer_pool *pool) { (void)pool; }
static BENCH_UNUSED void peer_submit_future(peer_pool *pool, bench_fn fn, void *arg, peer_future *future) {
    thread_start(&pool->joined, fn, arg, future);
}
static BENCH_UNUSED uintptr_t peer_result(peer_future *future) {
    void *result;
    pthread_join(*future, &result);
    return (uintptr_t)result;
}
