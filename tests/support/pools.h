/* Pools and futures with their checks, workers that are held, and what tests give to pools. */
#ifndef TPOOL_TESTS_POOLS_H
#define TPOOL_TESTS_POOLS_H
#include "gates.h"

static inline tpool *new_pool_as(tpool_config config) {
    tpool *pool = NULL;
    if (config.kind == TPOOL_PROCESSES) NO_PROCESSES();
    REQUIRE_STATUS(TPOOL_OK, tpool_create(&pool, &config));
    REQUIRE(pool != NULL);
    return pool;
}
static inline tpool *new_pool(int workers) { return new_pool_as((tpool_config){ .max_workers = workers }); }

static inline tpool_future *submitted_task(tpool *pool, tpool_task task) {
    tpool_future *future = NULL;
    REQUIRE_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, &future));
    REQUIRE(future != NULL);
    return future;
}
static inline tpool_future *submitted(tpool *pool, tpool_fn fn, void *arg) {
    tpool_future *future = NULL;
    REQUIRE_STATUS(TPOOL_OK, tpool_submit(pool, fn, arg, &future));
    REQUIRE(future != NULL);
    return future;
}
/* Waits for the end of a future, releases it, and tells the end. */
static inline tpool_status end_of(tpool_future *future) {
    tpool_status status = tpool_future_result(future, LIMIT, NULL);
    tpool_future_release(future);
    return status;
}
/* The value of a future that must succeed; releases the future. */
static inline void *take(tpool_future *future) {
    void *value = NULL;
    REQUIRE_STATUS(TPOOL_OK, tpool_future_result(future, LIMIT, &value));
    tpool_future_release(future);
    return value;
}
static inline tpool_stats stats_of(tpool *pool) {
    tpool_stats stats;
    REQUIRE_STATUS(TPOOL_OK, tpool_get_stats(pool, &stats));
    return stats;
}

/* ---- Pools whose workers are held ---- */

/* Occupies a worker of the pool until the gate opens: the task is at the gate when this returns. */
static inline tpool_future *held_at(tpool *pool, gate *g) {
    int before = gate_arrived(g);
    tpool_future *holder = submitted(pool, gate_task, g);
    AWAIT_ARRIVALS(g, before + 1);
    return holder;
}

/* A pool of one worker that a gate holds: what is submitted stays queued until the gate opens. */
typedef struct held_pool {
    tpool *pool;
    gate gate;
    tpool_future *holder;
} held_pool;

static inline void held_create(held_pool *h, const tpool_config *config) {
    tpool_config one = { 0 };
    if (config) one = *config;
    one.max_workers = 1;
    *h = (held_pool){ .gate = GATE_CLOSED };
    h->pool = new_pool_as(one);
    h->holder = held_at(h->pool, &h->gate);
}
static inline void held_destroy(held_pool *h) {
    gate_open(&h->gate);
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(h->pool));
    tpool_future_release(h->holder);
}

/* ---- What tests give to pools: functions that do nothing, count, fail, or end their thread ---- */

static inline void *nothing(void *arg) { return arg; }
/* In a task that has forked: until the condition tells that another worker has the job. A fork offers the oldest job
   only to a worker that searches or sleeps by then, so later forks offer it again. */
static inline bool offer_again(void) {
    tpool_job job;
    tpool_fork(&job, nothing, NULL);
    (void)tpool_join(&job);
    return true;
}
#define AWAIT_THEFT(condition) REQUIRE_EVENTUALLY(offer_again() && (condition))
static inline void *same_item(void *item, void *context) {
    (void)context;
    return item;
}
static inline void *count_up(void *arg) {
    atomic_fetch_add((atomic_int *)arg, 1);
    return arg;
}
static inline void count_free(void *arg) { atomic_fetch_add((atomic_int *)arg, 1); }
static inline void count_callback(tpool_future *future, void *context) {
    (void)future;
    atomic_fetch_add((atomic_int *)context, 1);
}
static inline void count_range(size_t begin, size_t end, void *context) {
    atomic_fetch_add((atomic_int *)context, (int)(end - begin));
}
static inline void *raise_code(void *arg) {
    int code = *(int *)arg;
    return tpool_raise(code, "code %d", code);
}
static inline void *end_thread(void *arg) {
    (void)arg;
    pthread_exit(NULL);
}
static inline void *return_owned_then_end_thread(void *arg) {
    tpool_return_owned(arg, count_free);
    pthread_exit(NULL);
}
/* Ends the calling thread. What runs as it ends may do so again; on Windows not (tpool.h, "The end of a thread"), and
   there returns. */
static inline void end_here(void) {
#ifdef _WIN32
    static _Thread_local bool ends;
    if (ends) return;
    ends = true;
#endif
    pthread_exit(NULL);
}
/* An initializer that fails once the gate that is its context is open. */
static inline bool pass_gate_and_fail(void *context) {
    gate_pass((gate *)context);
    return false;
}

/* Nothing has changed: the pool takes and runs work. */
static inline void assert_works(tpool *pool) {
    REQUIRE_STATUS(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    REQUIRE_STATUS(TPOOL_OK, tpool_drain(pool, LIMIT));
}
#endif
