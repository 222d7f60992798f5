/* Futures that the program itself makes and completes. */
#include "support.h"
#include "support/futures.h"
#include <limits.h>

/* ---- The producing side ---- */

static void a_bare_future_is_completed_by_the_program(void **unused) {
    (void)unused;
    int value = 0;
    answers pending = { TPOOL_PENDING, TPOOL_TIMEOUT, TPOOL_TIMEOUT, TPOOL_OK, NULL, NULL };
    answers running = { TPOOL_RUNNING, TPOOL_TIMEOUT, TPOOL_TIMEOUT, TPOOL_OK, NULL, NULL };
    answers success = { TPOOL_FINISHED, TPOOL_OK, TPOOL_OK, TPOOL_OK, &value, tpool_status_text(TPOOL_OK) };
    answers nothing = { TPOOL_FINISHED, TPOOL_OK, TPOOL_OK, TPOOL_OK, NULL, tpool_status_text(TPOOL_OK) };
    answers failure = { TPOOL_FINISHED, TPOOL_FAILED, TPOOL_OK, TPOOL_FAILED, NULL, "broke at 7 of 9" };
    for (int with_running = 0; with_running < 2; with_running++) {
        for (int how = 0; how < 3; how++) {
            tpool_future *future = NULL;
            assert_status(TPOOL_OK, tpool_future_create(&future));
            assert_non_null(future);
            check_answers(future, &pending);
            if (with_running) {
                assert_status(TPOOL_OK, tpool_future_set_running(future));
                check_answers(future, &running);
                assert_false(tpool_future_cancel(future)); /* from now on it cannot be */
                assert_status(TPOOL_INVALID_STATE, tpool_future_set_running(future));
                check_answers(future, &running);
            }
            tpool_future_request_stop(future); /* nobody listens */
            assert_int_equal(0, tpool_future_result_size(future));
            if (how == 0) assert_status(TPOOL_OK, tpool_future_set_result(future, &value));
            else if (how == 1) assert_status(TPOOL_OK, tpool_future_set_result(future, NULL));
            else assert_status(TPOOL_OK, tpool_future_set_error(future, -3, "broke at %d of %s", 7, "9"));
            check_answers(future, how == 0 ? &success : how == 1 ? &nothing : &failure);
            assert_int_equal(0, tpool_future_result_size(future));
            assert_false(tpool_future_cancel(future));
            assert_status(TPOOL_INVALID_STATE, tpool_future_set_running(future));
            check_answers(future, how == 0 ? &success : how == 1 ? &nothing : &failure);
            tpool_future_release(future);
        }
    }
}

static void the_error_of_a_bare_future_has_any_code_and_a_message_of_any_length(void **unused) {
    (void)unused;
    int codes[] = { 0, 1, -1, INT_MAX, INT_MIN };
    for (int i = 0; i < 5; i++) {
        size_t length = i == 4 ? 100 * 1024 : (size_t)i * 70;
        char *text = malloc(length + 1);
        memset(text, 'm', length);
        text[length] = 0;
        tpool_future *future = NULL;
        assert_status(TPOOL_OK, tpool_future_create(&future));
        assert_status(TPOOL_OK, tpool_future_set_error(future, codes[i], "%s", text));
        const tpool_error *error = NULL;
        assert_status(TPOOL_OK, tpool_future_error(future, 0, &error));
        assert_non_null(error);
        assert_status(TPOOL_FAILED, error->status);
        assert_true(error->code == codes[i]);
        assert_string_equal(text, error->message);
        assert_null(error->task);
        free(text);
        tpool_future_release(future);
    }
}

static void a_second_completion_is_refused_and_the_first_stays(void **unused) {
    (void)unused;
    int first = 0, second = 0;
    answers success = { TPOOL_FINISHED, TPOOL_OK, TPOOL_OK, TPOOL_OK, &first, NULL };
    answers failure = { TPOOL_FINISHED, TPOOL_FAILED, TPOOL_OK, TPOOL_FAILED, NULL, "the first" };
    for (int failed = 0; failed < 2; failed++) {
        tpool_future *future = NULL;
        atomic_int callbacks = 0;
        assert_status(TPOOL_OK, tpool_future_create(&future));
        assert_status(TPOOL_OK, tpool_future_add_done_callback(future, count_callback, &callbacks));
        if (failed) assert_status(TPOOL_OK, tpool_future_set_error(future, 1, "the first"));
        else assert_status(TPOOL_OK, tpool_future_set_result(future, &first));
        assert_int_equal(1, atomic_load(&callbacks));
        assert_status(TPOOL_INVALID_STATE, tpool_future_set_result(future, &second));
        check_answers(future, failed ? &failure : &success);
        assert_status(TPOOL_INVALID_STATE, tpool_future_set_error(future, 2, "the second"));
        check_answers(future, failed ? &failure : &success);
        assert_int_equal(1, atomic_load(&callbacks));
        tpool_future_release(future);
    }
}

static void a_cancelled_bare_future_takes_nothing(void **unused) {
    (void)unused;
    int value = 0;
    tpool_future *future = NULL;
    atomic_int callbacks = 0;
    answers cancelled = { TPOOL_STATE_CANCELLED,
                          TPOOL_CANCELLED,
                          TPOOL_CANCELLED,
                          TPOOL_CANCELLED,
                          NULL,
                          tpool_status_text(TPOOL_CANCELLED) };
    assert_status(TPOOL_OK, tpool_future_create(&future));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(future, count_callback, &callbacks));
    assert_true(tpool_future_cancel(future));
    assert_int_equal(1, atomic_load(&callbacks));
    check_answers(future, &cancelled);
    assert_true(tpool_future_cancel(future));
    for (int i = 0; i < 2; i++) {
        assert_status(TPOOL_CANCELLED, tpool_future_set_running(future));
        assert_status(TPOOL_INVALID_STATE, tpool_future_set_result(future, &value));
        assert_status(TPOOL_INVALID_STATE, tpool_future_set_error(future, 1, "too late"));
        check_answers(future, &cancelled);
    }
    assert_int_equal(1, atomic_load(&callbacks));
    tpool_future_release(future);
}

static void a_pools_own_future_cannot_be_completed_from_outside(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    int value = 0, other = 0;
    tpool_future *future = submitted(h.pool, nothing, &value);
    tpool_future *both[] = { future, h.holder }; /* one pending, one running */
    for (int i = 0; i < 2; i++) {
        assert_status(TPOOL_INVALID_STATE, tpool_future_set_running(both[i]));
        assert_status(TPOOL_INVALID_STATE, tpool_future_set_result(both[i], &other));
        assert_status(TPOOL_INVALID_STATE, tpool_future_set_error(both[i], 1, "no"));
    }
    assert_int_equal(TPOOL_PENDING, tpool_future_state(future));
    assert_int_equal(TPOOL_RUNNING, tpool_future_state(h.holder));
    gate_open(&h.gate);
    void *result = NULL;
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
    assert_ptr_equal(&value, result);
    assert_status(TPOOL_INVALID_STATE, tpool_future_set_running(future));
    assert_status(TPOOL_INVALID_STATE, tpool_future_set_result(future, &other));
    assert_status(TPOOL_INVALID_STATE, tpool_future_set_error(future, 1, "no"));
    assert_status(TPOOL_OK, tpool_future_result(future, 0, &result));
    assert_ptr_equal(&value, result);
    held_destroy(&h);
    tpool_future_release(future);

    /* Nor a cancelled one. */
    held_create(&h, NULL);
    future = submitted(h.pool, nothing, &value);
    assert_true(tpool_future_cancel(future));
    assert_status(TPOOL_INVALID_STATE, tpool_future_set_result(future, &other));
    assert_status(TPOOL_INVALID_STATE, tpool_future_set_error(future, 1, "no"));
    assert_status(TPOOL_CANCELLED, tpool_future_result(future, 0, NULL));
    tpool_future_release(future);
    held_destroy(&h);
}

static void a_bare_futures_waiters_in_several_threads_are_woken(void **unused) {
    (void)unused;
    enum { WAITERS = 4, ENDS = 3 };
    int value = 0;
    tpool_status statuses[ENDS] = { TPOOL_OK, TPOOL_FAILED, TPOOL_CANCELLED };
    for (int end = 0; end < ENDS; end++) {
        tpool_future *future = NULL;
        waiter waiters[WAITERS];
        assert_status(TPOOL_OK, tpool_future_create(&future));
        for (int i = 0; i < WAITERS; i++) {
            waiter_start(&waiters[i], future, i % 2 ? 2 * LIMIT : TPOOL_FOREVER);
        }
        sleep_ms(10); /* so that most are asleep */
        for (int i = 0; i < WAITERS; i++) assert_false(atomic_load(&waiters[i].woken));
        if (end == 0) {
            /* To be running is no end. */
            assert_status(TPOOL_OK, tpool_future_set_running(future));
            sleep_ms(5);
            for (int i = 0; i < WAITERS; i++) assert_false(atomic_load(&waiters[i].woken));
            assert_status(TPOOL_OK, tpool_future_set_result(future, &value));
        } else if (end == 1) {
            assert_status(TPOOL_OK, tpool_future_set_error(future, 1, "an error"));
        } else {
            assert_true(tpool_future_cancel(future));
        }
        for (int i = 0; i < WAITERS; i++) {
            EVENTUALLY(atomic_load(&waiters[i].woken));
            pthread_join(waiters[i].thread, NULL);
            assert_status(statuses[end], waiters[i].status);
            assert_ptr_equal(end == 0 ? &value : NULL, waiters[i].result);
        }
        tpool_future_release(future);
    }
}

static void *wait_inside_a_task(void *arg) {
    void *result = NULL;
    return tpool_future_result(arg, TPOOL_FOREVER, &result) == TPOOL_OK ? result : NULL;
}

static void a_task_can_wait_for_a_bare_future(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    int value = 0;
    tpool_future *bare = NULL, *task = NULL;
    assert_status(TPOOL_OK, tpool_future_create(&bare));
    task = submitted(pool, wait_inside_a_task, bare);
    EVENTUALLY(tpool_future_running(task));
    assert_status(TPOOL_TIMEOUT, tpool_future_result(task, TPOOL_MS(5), NULL));
    assert_status(TPOOL_OK, tpool_future_set_result(bare, &value));
    void *result = NULL;
    assert_status(TPOOL_OK, tpool_future_result(task, LIMIT, &result));
    assert_ptr_equal(&value, result);
    tpool_future_release(bare);
    tpool_future_release(task);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void bare_futures_mix_with_a_pools_in_waits_and_iterators(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    int value = 0;
    tpool_future *bare = NULL, *late = NULL, *queued = NULL, *next = NULL;
    assert_status(TPOOL_OK, tpool_future_create(&bare));
    assert_status(TPOOL_OK, tpool_future_create(&late));
    queued = submitted(h.pool, nothing, NULL);
    tpool_future *set[] = { queued, late, bare };
    tpool_completions *completions = NULL;
    assert_status(TPOOL_OK, tpool_as_completed(set, 3, &completions));
    assert_status(TPOOL_TIMEOUT, tpool_completions_next(completions, TPOOL_MS(1), &next));
    size_t done = 1;
    assert_status(TPOOL_TIMEOUT, tpool_wait(set, 3, TPOOL_FIRST_COMPLETED, TPOOL_MS(1), &done));
    assert_int_equal(0, done);
    assert_status(TPOOL_OK, tpool_future_set_result(bare, &value));
    assert_status(TPOOL_OK, tpool_wait(set, 3, TPOOL_FIRST_COMPLETED, TPOOL_FOREVER, &done));
    assert_int_equal(1, done);
    assert_ptr_equal(bare, set[0]);
    assert_status(TPOOL_OK, tpool_completions_next(completions, LIMIT, &next));
    assert_ptr_equal(bare, next);
    gate_open(&h.gate);
    assert_status(TPOOL_OK, tpool_completions_next(completions, LIMIT, &next));
    assert_ptr_equal(queued, next);
    assert_status(TPOOL_OK, tpool_future_set_error(late, 1, "late"));
    assert_status(TPOOL_OK, tpool_completions_next(completions, LIMIT, &next));
    assert_ptr_equal(late, next);
    assert_status(TPOOL_END, tpool_completions_next(completions, 0, &next));
    tpool_completions_destroy(completions);
    held_destroy(&h);
    tpool_future_release(bare);
    tpool_future_release(late);
    tpool_future_release(queued);
}

static void a_bare_future_can_be_released_without_being_completed(void **unused) {
    (void)unused;
    atomic_int callbacks = 0;
    for (int how = 0; how < 4; how++) {
        tpool_future *future = NULL;
        assert_status(TPOOL_OK, tpool_future_create(&future));
        if (how & 1) {
            assert_status(TPOOL_OK, tpool_future_set_running(future));
        }
        if (how & 2) {
            for (int i = 0; i < 10; i++) {
                assert_status(TPOOL_OK, tpool_future_add_done_callback(future, count_callback, &callbacks));
            }
        }
        tpool_future_retain(future);
        tpool_future_release(future);
        tpool_future_release(future); /* whatever it held shows as a leak */
    }
    assert_int_equal(0, atomic_load(&callbacks)); /* it was never done */
}

/* ---- Texts, memory that is handed over, and a stop, on the producing side ---- */

static void an_error_text_of_a_bare_future_is_taken_as_it_is(void **state) {
    (void)state;
    tpool_future *future;
    const tpool_error *error = NULL;
    char text[] = "%s%n";
    assert_status(TPOOL_INVALID, tpool_future_set_error_text(NULL, 1, text));
    assert_status(TPOOL_OK, tpool_future_create(&future));
    assert_status(TPOOL_OK, tpool_future_set_error_text(future, 0, text));
    assert_status(TPOOL_INVALID_STATE, tpool_future_set_error_text(future, 1, "second"));
    text[0] = 'x';
    assert_status(TPOOL_FAILED, tpool_future_result(future, 0, NULL));
    assert_status(TPOOL_OK, tpool_future_error(future, 0, &error));
    assert_int_equal(0, error->code);
    assert_string_equal("%s%n", error->message);
    assert_null(error->task);
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_future_create(&future));
    assert_status(TPOOL_OK, tpool_future_set_error_text(future, 5, NULL));
    assert_string_equal("", tpool_future_message(future));
    tpool_future_release(future);
}

static void an_owned_result_of_a_bare_future_is_freed_with_its_last_reference(void **state) {
    (void)state;
    atomic_int freed = 0;
    tpool_future *future, *second;
    void *result = NULL;
    assert_status(TPOOL_INVALID, tpool_future_set_result_owned(NULL, &freed, count_free));
    assert_status(TPOOL_OK, tpool_future_create(&future));
    assert_status(TPOOL_OK, tpool_future_set_result_owned(future, &freed, count_free));
    assert_status(TPOOL_OK, tpool_future_result(future, 0, &result));
    assert_ptr_equal(&freed, result);
    assert_int_equal(0, tpool_future_result_size(future));
    tpool_future_retain(future);
    tpool_future_release(future);
    assert_int_equal(0, atomic_load(&freed));
    tpool_future_release(future);
    assert_int_equal(1, atomic_load(&freed));

    /* What is not taken stays the caller's. */
    assert_status(TPOOL_OK, tpool_future_create(&future));
    assert_true(tpool_future_cancel(future));
    assert_status(TPOOL_INVALID_STATE, tpool_future_set_result_owned(future, &freed, count_free));
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_future_create(&future));
    assert_status(TPOOL_OK, tpool_future_set_result(future, &result));
    assert_status(TPOOL_INVALID_STATE, tpool_future_set_result_owned(future, &freed, count_free));
    tpool_future_release(future);
    tpool *pool = new_pool(1);
    second = submitted(pool, nothing, NULL);
    assert_status(TPOOL_INVALID_STATE, tpool_future_set_result_owned(second, &freed, count_free));
    tpool_future_release(second);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(1, atomic_load(&freed));

    /* Without a function it is a plain result. */
    assert_status(TPOOL_OK, tpool_future_create(&future));
    assert_status(TPOOL_OK, tpool_future_set_result_owned(future, &freed, NULL));
    assert_ptr_equal(&freed, take(future));
}

static void a_producer_sees_that_its_future_is_asked_to_stop(void **state) {
    (void)state;
    tpool_future *asked, *late, *cancelled;
    assert_false(tpool_future_stop_requested(NULL));
    assert_status(TPOOL_OK, tpool_future_create(&asked));
    assert_status(TPOOL_OK, tpool_future_create(&late));
    assert_status(TPOOL_OK, tpool_future_create(&cancelled));
    assert_false(tpool_future_stop_requested(asked));
    tpool_future_request_stop(asked);
    assert_true(tpool_future_stop_requested(asked));
    assert_status(TPOOL_OK, tpool_future_set_running(asked)); /* it is asked, and nothing is forced */
    assert_true(tpool_future_stop_requested(asked));
    assert_status(TPOOL_OK, tpool_future_set_result(asked, NULL));
    assert_true(tpool_future_stop_requested(asked));
    assert_status(TPOOL_OK, tpool_future_set_result(late, NULL));
    tpool_future_request_stop(late); /* does nothing on a done one */
    assert_false(tpool_future_stop_requested(late));
    assert_true(tpool_future_cancel(cancelled));
    assert_false(tpool_future_stop_requested(cancelled));
    tpool_future_release(asked);
    tpool_future_release(late);
    tpool_future_release(cancelled);
}

static const struct CMUnitTest tests[] = {
    TEST(a_bare_future_is_completed_by_the_program),
    TEST(the_error_of_a_bare_future_has_any_code_and_a_message_of_any_length),
    TEST(a_second_completion_is_refused_and_the_first_stays),
    TEST(a_cancelled_bare_future_takes_nothing),
    TEST(a_pools_own_future_cannot_be_completed_from_outside),
    TEST(a_bare_futures_waiters_in_several_threads_are_woken),
    TEST(a_task_can_wait_for_a_bare_future),
    TEST(bare_futures_mix_with_a_pools_in_waits_and_iterators),
    TEST(a_bare_future_can_be_released_without_being_completed),
    TEST(an_error_text_of_a_bare_future_is_taken_as_it_is),
    TEST(an_owned_result_of_a_bare_future_is_freed_with_its_last_reference),
    TEST(a_producer_sees_that_its_future_is_asked_to_stop),
};
RUN_TESTS(tests)
