/* Managers of pools, and the pools that they lend, with their checks. */
#ifndef TPOOL_TESTS_MANAGERS_H
#define TPOOL_TESTS_MANAGERS_H
#include "../support.h"

static inline tpool_manager *new_manager_as(tpool_manager_config config) {
    tpool_manager *manager = NULL;
    assert_status(TPOOL_OK, tpool_manager_create(&manager, &config));
    assert_non_null(manager);
    return manager;
}
static inline tpool_manager *new_manager(void) { return new_manager_as((tpool_manager_config){ 0 }); }
static inline tpool *get(tpool_manager *manager, int workers) {
    tpool *pool = NULL;
    assert_status(TPOOL_OK, tpool_manager_get(manager, workers, TPOOL_THREADS, 0, &pool));
    assert_non_null(pool);
    return pool;
}
static inline void release(tpool_manager *manager, tpool *pool) {
    assert_status(TPOOL_OK, tpool_manager_release(manager, pool));
}
static inline tpool_manager_stats manager_stats_of(tpool_manager *manager) {
    tpool_manager_stats stats;
    assert_status(TPOOL_OK, tpool_manager_get_stats(manager, &stats));
    assert_int_equal(stats.pools, stats.in_use + stats.idle);
    return stats;
}
static inline tpool *get_new(tpool_manager *manager, int workers) {
    tpool *pool = NULL;
    assert_status(TPOOL_OK, tpool_manager_get(manager, workers, TPOOL_THREADS, TPOOL_FORCE_NEW, &pool));
    return pool;
}

/* A pool that works: a task comes back with its argument. Then the pool is idle: after the end of its last task a
   worker may still be about to leave that. */
static inline void check_works(tpool *pool) {
    int anything;
    void *result = NULL;
    tpool_future *future = submitted(pool, nothing, &anything);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
    assert_ptr_equal(&anything, result);
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
}
#endif
