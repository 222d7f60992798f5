/* All that a future answers, and a thread that waits for one. */
#ifndef TPOOL_TESTS_FUTURES_H
#define TPOOL_TESTS_FUTURES_H
#include "../support.h"

typedef struct answers {
    tpool_state state;
    tpool_status result;       /* what result(0) gives, and result(FOREVER) if the future is done */
    tpool_status error;        /* what error(0) gives */
    tpool_status error_status; /* in *error; TPOOL_OK: *error is NULL */
    void *value;
    const char *message; /* NULL: any that is not empty */
} answers;

static inline void check_answers(tpool_future *future, const answers *expected) {
    static int junk;
    static const tpool_error junk_error;
    bool done = expected->state == TPOOL_FINISHED || expected->state == TPOOL_STATE_CANCELLED;
    for (int i = 0; i < 2; i++) { /* asking changes nothing */
        assert_int_equal(expected->state, tpool_future_state(future));
        assert_true(tpool_future_done(future) == done);
        assert_true(tpool_future_running(future) == (expected->state == TPOOL_RUNNING));
        assert_true(tpool_future_cancelled(future) == (expected->state == TPOOL_STATE_CANCELLED));
        int64_t timeouts[] = { 0, -1, INT64_MIN, TPOOL_MS(1), LIMIT, TPOOL_FOREVER };
        for (int t = 0; t < (done ? 6 : 4); t++) {
            void *result = &junk;
            assert_status(expected->result, tpool_future_result(future, timeouts[t], &result));
            assert_ptr_equal(expected->value, result);
            assert_status(expected->result, tpool_future_result(future, timeouts[t], NULL));
            const tpool_error *error = &junk_error;
            assert_status(expected->error, tpool_future_error(future, timeouts[t], &error));
            if (expected->error_status == TPOOL_OK) {
                assert_null(error);
            } else {
                assert_non_null(error);
                assert_status(expected->error_status, error->status);
                assert_status(error->status, error->cause);
                assert_non_null(error->message);
                assert_true(strlen(error->message) > 0);
            }
        }
        const char *message = tpool_future_message(future);
        assert_non_null(message);
        if (expected->message) assert_string_equal(expected->message, message);
        else assert_true(strlen(message) > 0);
    }
}

typedef struct waiter {
    pthread_t thread;
    tpool_future *future;
    int64_t timeout;
    atomic_bool waiting, woken;
    tpool_status status;
    void *result;
} waiter;

static inline void *wait_for_result(void *arg) {
    waiter *w = arg;
    atomic_store(&w->waiting, true);
    w->status = tpool_future_result(w->future, w->timeout, &w->result);
    atomic_store(&w->woken, true);
    return NULL;
}
static inline void waiter_start(waiter *w, tpool_future *future, int64_t timeout) {
    *w = (waiter){ .future = future, .timeout = timeout };
    assert_int_equal(0, pthread_create(&w->thread, NULL, wait_for_result, w));
    EVENTUALLY(atomic_load(&w->waiting));
}
#endif
