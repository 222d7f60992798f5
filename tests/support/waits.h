/* Pools whose tasks wait for other tasks, and the ways to wait. */
#ifndef TPOOL_TESTS_WAITS_H
#define TPOOL_TESTS_WAITS_H
#include "../support.h"

static inline tpool *create_pool(int workers, size_t stack_size) {
    tpool_config config = { .max_workers = workers, .stack_size = stack_size };
    tpool *pool = new_pool_as(config);
    return pool;
}

/* The figures at rest, where they are exact. */
static inline tpool_stats stats_at_rest(tpool *pool) {
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    return stats_of(pool);
}
#endif
