/* libuv's uv_queue_work, with a loop for each submitting thread, since a loop is of one thread. A request is a block of
 * malloc's that the callback frees. The threads are the process' and stay, so pools cannot be created and destroyed. */
#define PEER_PLAIN 1
#define PEER_DRAIN 1
#define PEER_FUTURES 1
#define PEER_SHARED_THREADS 1

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

typedef struct libuv_task {
    uv_work_t request;
    bench_fn fn;
    void *arg, *result;
    int done;
} libuv_task;
typedef libuv_task *peer_future;
typedef int peer_pool;

static __thread uv_loop_t *libuv_loop;

static BENCH_UNUSED peer_pool *peer_create(int workers) {
    static int only;
    char text[16];
    snprintf(text, sizeof text, "%d", workers);
    setenv("UV_THREADPOOL_SIZE", text, 1); /* read at the first request */
    return &only;
}
static BENCH_UNUSED void peer_warm_up(peer_pool *pool, int workers) {
    (void)pool;
    (void)workers;
}
static BENCH_UNUSED void peer_destroy(peer_pool *pool) { (void)pool; }

static void libuv_run(uv_work_t *request) {
    libuv_task *task = (libuv_task *)request;
    task->result = task->fn(task->arg);
}
static void libuv_free(uv_work_t *request, int status) {
    (void)status;
    free(request);
}
static void libuv_keep(uv_work_t *request, int status) {
    (void)status;
    ((libuv_task *)request)->done = 1;
}

static inline libuv_task *libuv_submit(bench_fn fn, void *arg, uv_after_work_cb after) {
    libuv_task *task = (libuv_task *)malloc(sizeof *task);
    if (!libuv_loop) {
        libuv_loop = (uv_loop_t *)malloc(sizeof *libuv_loop);
        if (uv_loop_init(libuv_loop) != 0) abort();
    }
    task->fn = fn;
    task->arg = arg;
    task->done = 0;
    if (uv_queue_work(libuv_loop, &task->request, libuv_run, after) != 0) abort();
    return task;
}
static inline void peer_submit(peer_pool *pool, bench_fn fn, void *arg) {
    (void)pool;
    libuv_submit(fn, arg, libuv_free);
}
/* Runs the loop until all that this thread has submitted is done. */
static inline void peer_flush(peer_pool *pool) {
    (void)pool;
    if (libuv_loop) uv_run(libuv_loop, UV_RUN_DEFAULT);
}
static BENCH_UNUSED void peer_drain(peer_pool *pool) { peer_flush(pool); }

static inline void peer_submit_future(peer_pool *pool, bench_fn fn, void *arg, peer_future *future) {
    (void)pool;
    *future = libuv_submit(fn, arg, libuv_keep);
}
static inline uintptr_t peer_result(peer_future *future) {
    while (!(*future)->done) uv_run(libuv_loop, UV_RUN_ONCE);
    uintptr_t result = (uintptr_t)(*future)->result;
    free(*future);
    return result;
}
