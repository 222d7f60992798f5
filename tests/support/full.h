/* Pools that are busy, so that what is submitted stays queued. */
#ifndef TPOOL_TESTS_FULL_H
#define TPOOL_TESTS_FULL_H
#include "submits.h"

/* A pool whose one worker is in a task that holds the gate, so that what is submitted stays queued. */
static inline tpool *new_busy_pool_as(tpool_config config, gate *hold) {
    config.max_workers = 1;
    tpool *pool = new_pool_as(config);
    assert_status(TPOOL_OK, tpool_submit(pool, gate_task, hold, NULL));
    AWAIT_ARRIVALS(hold, 1);
    return pool;
}

/* Runs what is queued, checks that every task is accounted for, and destroys the pool. */
static inline void end_pool(tpool *pool) {
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    tpool_stats stats = stats_of(pool);
    assert_int_equal(0, stats.queued);
    assert_int_equal(stats.submitted, stats.completed + stats.failed + stats.cancelled + stats.expired + stats.dropped);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static atomic_int failures;
static pthread_t failure_thread;
static int failure_code;
static inline void note_failure(const tpool_error *error, void *context) {
    (void)context;
    failure_thread = pthread_self();
    failure_code = error->code;
    atomic_fetch_add(&failures, 1);
}
#endif
