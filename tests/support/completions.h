/* Sets of futures that yield them as they complete. */
#ifndef TPOOL_TESTS_COMPLETIONS_H
#define TPOOL_TESTS_COMPLETIONS_H
#include "../support.h"

static inline void create_bare(tpool_future **futures, int count) {
    for (int i = 0; i < count; i++) assert_status(TPOOL_OK, tpool_future_create(&futures[i]));
}

static inline void release_all(tpool_future **futures, int count) {
    for (int i = 0; i < count; i++) tpool_future_release(futures[i]);
}

static inline void succeed(tpool_future *future) { assert_status(TPOOL_OK, tpool_future_set_result(future, NULL)); }

static inline tpool_completions *start(tpool_future *const *futures, size_t count) {
    tpool_completions *completions = NULL;
    assert_status(TPOOL_OK, tpool_as_completed(futures, count, &completions));
    assert_non_null(completions);
    return completions;
}

/* The next that is yielded: one must be, and be done. */
static inline tpool_future *next(tpool_completions *completions) {
    tpool_future *future = NULL;
    assert_status(TPOOL_OK, tpool_completions_next(completions, LIMIT, &future));
    assert_non_null(future);
    assert_true(tpool_future_done(future));
    return future;
}

/* Nothing is yielded, with this status. */
static inline void check_none(tpool_completions *completions, int64_t timeout_ns, tpool_status expected) {
    char other;
    tpool_future *future = (tpool_future *)(void *)&other;
    assert_status(expected, tpool_completions_next(completions, timeout_ns, &future));
    assert_null(future);
}
#endif
