/* Held tasks, and the futures that hold them. */
#ifndef TPOOL_TESTS_HELD_H
#define TPOOL_TESTS_HELD_H
#include "../support.h"

/* A future that the test completes. */
static inline tpool_future *bare(void) {
    tpool_future *future = NULL;
    assert_status(TPOOL_OK, tpool_future_create(&future));
    return future;
}
static inline void complete(tpool_future *future) {
    assert_status(TPOOL_OK, tpool_future_set_result(future, NULL));
    tpool_future_release(future);
}
static inline tpool_task after(tpool_fn fn, void *arg, tpool_future *const *futures, size_t count, tpool_after when) {
    return (tpool_task){ .fn = fn, .arg = arg, .after = futures, .after_count = count, .after_when = when };
}

#endif
