/* tpool_wait: for all, for the first, for the first exception; its time limits and its partition of the array. */
#include "support.h"

#define UNTOUCHED ((size_t)12345)

static void *raise_error(void *arg) {
    (void)arg;
    return tpool_raise(1, "failed");
}

/* ---- Bare futures, which the tests complete in the order they want. */

enum { FEW = 5 };

static void create_few(tpool_future *futures[FEW]) {
    for (int i = 0; i < FEW; i++) assert_status(TPOOL_OK, tpool_future_create(&futures[i]));
}

static void release_few(tpool_future *futures[FEW]) {
    for (int i = 0; i < FEW; i++) tpool_future_release(futures[i]);
}

static void succeed(tpool_future *future) { assert_status(TPOOL_OK, tpool_future_set_result(future, NULL)); }

static void fail_bare(tpool_future *future) { assert_status(TPOOL_OK, tpool_future_set_error(future, 1, "failed")); }

/* Checks a look, or a wait that must end, at the few futures: what it gives, how many are done, and the order (given by
   their numbers) in which it leaves the array, whose copy it works on. */
static void check(tpool_future *const futures[FEW], tpool_return_when when, int64_t timeout_ns, tpool_status expected,
                  size_t expected_done, const char *expected_order) {
    tpool_future *array[FEW];
    size_t done = UNTOUCHED;
    memcpy(array, futures, sizeof array);
    assert_status(expected, tpool_wait(array, FEW, when, timeout_ns, &done));
    assert_int_equal(expected_done, done);
    for (int i = 0; i < FEW; i++) assert_ptr_equal(futures[expected_order[i] - '0'], array[i]);
}

static void all_completed_waits_for_the_last(void **state) {
    (void)state;
    tpool_future *f[FEW];
    create_few(f);
    check(f, TPOOL_ALL_COMPLETED, 0, TPOOL_TIMEOUT, 0, "01234");
    succeed(f[3]);
    check(f, TPOOL_ALL_COMPLETED, 0, TPOOL_TIMEOUT, 1, "30124");
    succeed(f[1]);
    check(f, TPOOL_ALL_COMPLETED, 0, TPOOL_TIMEOUT, 2, "13024");
    fail_bare(f[4]);
    check(f, TPOOL_ALL_COMPLETED, 0, TPOOL_TIMEOUT, 3, "13402");
    assert_true(tpool_future_cancel(f[0]));
    check(f, TPOOL_ALL_COMPLETED, 0, TPOOL_TIMEOUT, 4, "01342");
    succeed(f[2]);
    check(f, TPOOL_ALL_COMPLETED, 0, TPOOL_OK, 5, "01234");
    check(f, TPOOL_ALL_COMPLETED, TPOOL_FOREVER, TPOOL_OK, 5, "01234");
    release_few(f);
}

static void first_completed_waits_for_any(void **state) {
    (void)state;
    tpool_future *f[FEW];
    create_few(f);
    check(f, TPOOL_FIRST_COMPLETED, 0, TPOOL_TIMEOUT, 0, "01234");
    succeed(f[2]);
    check(f, TPOOL_FIRST_COMPLETED, 0, TPOOL_OK, 1, "20134");
    check(f, TPOOL_FIRST_COMPLETED, TPOOL_FOREVER, TPOOL_OK, 1, "20134");
    fail_bare(f[0]);
    check(f, TPOOL_FIRST_COMPLETED, 0, TPOOL_OK, 2, "02134"); /* all that are done, not only the first */
    release_few(f);
}

static void first_completed_is_content_with_a_failed_or_a_cancelled_one(void **state) {
    (void)state;
    tpool_future *f[FEW];
    create_few(f);
    fail_bare(f[4]);
    check(f, TPOOL_FIRST_COMPLETED, 0, TPOOL_OK, 1, "40123");
    release_few(f);
    create_few(f);
    assert_true(tpool_future_cancel(f[1]));
    check(f, TPOOL_FIRST_COMPLETED, 0, TPOOL_OK, 1, "10234");
    release_few(f);
}

static void first_exception_waits_for_a_failure_or_for_all(void **state) {
    (void)state;
    tpool_future *f[FEW];
    create_few(f);
    check(f, TPOOL_FIRST_EXCEPTION, 0, TPOOL_TIMEOUT, 0, "01234");
    succeed(f[1]);
    succeed(f[4]);
    check(f, TPOOL_FIRST_EXCEPTION, 0, TPOOL_TIMEOUT, 2, "14023");
    fail_bare(f[3]);
    check(f, TPOOL_FIRST_EXCEPTION, 0, TPOOL_OK, 3, "13402");
    check(f, TPOOL_FIRST_EXCEPTION, TPOOL_FOREVER, TPOOL_OK, 3, "13402");
    release_few(f);
    create_few(f);
    for (int i = 0; i < FEW - 1; i++) succeed(f[i]);
    check(f, TPOOL_FIRST_EXCEPTION, 0, TPOOL_TIMEOUT, 4, "01234");
    succeed(f[FEW - 1]);
    check(f, TPOOL_FIRST_EXCEPTION, 0, TPOOL_OK, 5, "01234");
    release_few(f);
}

static void a_cancelled_future_is_done_and_no_exception(void **state) {
    (void)state;
    tpool_future *f[FEW];
    create_few(f);
    for (int i = 0; i < FEW - 1; i++) {
        assert_true(tpool_future_cancel(f[i]));
        check(f, TPOOL_FIRST_EXCEPTION, 0, TPOOL_TIMEOUT, (size_t)i + 1, "01234");
    }
    assert_true(tpool_future_cancel(f[FEW - 1]));
    check(f, TPOOL_FIRST_EXCEPTION, 0, TPOOL_OK, FEW, "01234");
    check(f, TPOOL_ALL_COMPLETED, 0, TPOOL_OK, FEW, "01234");
    release_few(f);
}

static void an_expired_task_is_an_exception(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_task short_lived = { .fn = nothing, .expires_ns = 1 };
    tpool_future *f[2];
    size_t done = UNTOUCHED;
    assert_status(TPOOL_OK, tpool_pause(pool));
    f[0] = submitted(pool, nothing, NULL);
    f[1] = submitted_task(pool, short_lived);
    tpool_future *expired = f[1];
    assert_status(TPOOL_OK, tpool_wait(f, 2, TPOOL_FIRST_EXCEPTION, LIMIT, &done));
    assert_int_equal(1, done);
    assert_ptr_equal(expired, f[0]);
    assert_status(TPOOL_EXPIRED, tpool_future_result(expired, 0, NULL));
    assert_status(TPOOL_OK, tpool_resume(pool));
    for (int i = 0; i < 2; i++) tpool_future_release(f[i]);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_wait_notices_an_expiry_at_the_moment_it_passes(void **state) {
    (void)state;
    static const tpool_return_when modes[] = { TPOOL_ALL_COMPLETED, TPOOL_FIRST_COMPLETED, TPOOL_FIRST_EXCEPTION };
    for (int m = 0; m < 3; m++) {
        tpool *pool = new_pool(1);
        tpool_task short_lived = { .fn = nothing, .expires_ns = TPOOL_MS(20) };
        tpool_future *f[2];
        size_t done = UNTOUCHED;
        assert_status(TPOOL_OK, tpool_pause(pool)); /* nobody's turn comes: only the waiter can notice */
        for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_submit_task(pool, &short_lived, &f[i]));
        assert_status(TPOOL_OK, tpool_wait(f, 2, modes[m], LIMIT, &done));
        assert_true(done == 2 || (m > 0 && done == 1));
        for (int i = 0; i < 2; i++) {
            assert_status(TPOOL_EXPIRED, end_of(f[i]));
        }
        assert_status(TPOOL_OK, tpool_resume(pool));
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

static bool refuse_to_start(void *context) {
    gate_pass((gate *)context);
    return false;
}

static void a_broken_task_is_an_exception(void **state) {
    (void)state;
    gate started = GATE_CLOSED;
    tpool_config config = { .max_workers = 1, .initializer = refuse_to_start, .context = &started };
    tpool *pool = NULL;
    tpool_future *f[2], *bare = NULL;
    size_t done = UNTOUCHED;
    assert_status(TPOOL_OK, tpool_create(&pool, &config));
    assert_status(TPOOL_OK, tpool_future_create(&bare));
    f[0] = bare;
    f[1] = submitted(pool, nothing, NULL);
    tpool_future *broken = f[1];
    assert_status(TPOOL_TIMEOUT, tpool_wait(f, 2, TPOOL_FIRST_EXCEPTION, 0, &done));
    assert_int_equal(0, done);
    gate_open(&started);
    assert_status(TPOOL_OK, tpool_wait(f, 2, TPOOL_FIRST_EXCEPTION, LIMIT, &done));
    assert_int_equal(1, done);
    assert_ptr_equal(broken, f[0]);
    assert_status(TPOOL_BROKEN, tpool_future_result(broken, 0, NULL));
    for (int i = 0; i < 2; i++) tpool_future_release(f[i]);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void without_done_the_array_stays_as_it_is(void **state) {
    (void)state;
    tpool_future *f[FEW], *array[FEW];
    create_few(f);
    memcpy(array, f, sizeof array);
    succeed(f[3]);
    assert_status(TPOOL_TIMEOUT, tpool_wait(array, FEW, TPOOL_ALL_COMPLETED, 0, NULL));
    assert_memory_equal(f, array, sizeof array);
    assert_status(TPOOL_OK, tpool_wait(array, FEW, TPOOL_FIRST_COMPLETED, 0, NULL));
    assert_memory_equal(f, array, sizeof array);
    fail_bare(f[1]);
    assert_status(TPOOL_OK, tpool_wait(array, FEW, TPOOL_FIRST_EXCEPTION, TPOOL_FOREVER, NULL));
    assert_memory_equal(f, array, sizeof array);
    release_few(f);
}

static void a_future_that_appears_twice_counts_twice(void **state) {
    (void)state;
    tpool_future *f[FEW];
    create_few(f);
    size_t done = UNTOUCHED;
    tpool_future *array[4] = { f[0], f[1], f[0], f[1] };
    assert_status(TPOOL_TIMEOUT, tpool_wait(array, 4, TPOOL_FIRST_COMPLETED, 0, &done));
    assert_int_equal(0, done);
    succeed(f[1]);
    assert_status(TPOOL_OK, tpool_wait(array, 4, TPOOL_FIRST_COMPLETED, 0, &done));
    assert_int_equal(2, done);
    tpool_future *expected[4] = { f[1], f[1], f[0], f[0] };
    assert_memory_equal(expected, array, sizeof array);
    assert_status(TPOOL_TIMEOUT, tpool_wait(array, 4, TPOOL_ALL_COMPLETED, TPOOL_MS(5), &done));
    assert_int_equal(2, done);
    succeed(f[0]);
    assert_status(TPOOL_OK, tpool_wait(array, 4, TPOOL_ALL_COMPLETED, 0, &done));
    assert_int_equal(4, done);
    release_few(f);
}

static void an_empty_array_is_done_at_once(void **state) {
    (void)state;
    static const tpool_return_when modes[] = { TPOOL_ALL_COMPLETED, TPOOL_FIRST_COMPLETED, TPOOL_FIRST_EXCEPTION };
    tpool_future *none[1] = { NULL };
    for (int m = 0; m < 3; m++) {
        size_t done = UNTOUCHED;
        assert_status(TPOOL_OK, tpool_wait(none, 0, modes[m], 0, &done));
        assert_int_equal(0, done);
        done = UNTOUCHED;
        assert_status(TPOOL_OK, tpool_wait(NULL, 0, modes[m], TPOOL_FOREVER, &done));
        assert_int_equal(0, done);
        assert_status(TPOOL_OK, tpool_wait(none, 0, modes[m], TPOOL_FOREVER, NULL));
    }
}

static void bad_arguments_are_invalid_and_change_nothing(void **state) {
    (void)state;
    tpool_future *f[FEW];
    create_few(f);
    succeed(f[2]);
    for (int hole = 0; hole < 3; hole++) {
        tpool_future *array[3] = { f[0], f[1], f[2] }, *before[3];
        array[hole] = NULL;
        memcpy(before, array, sizeof before);
        assert_status(TPOOL_INVALID, tpool_wait(array, 3, TPOOL_ALL_COMPLETED, 0, NULL));
        assert_status(TPOOL_INVALID, tpool_wait(array, 3, TPOOL_FIRST_COMPLETED, TPOOL_FOREVER, NULL));
        assert_status(TPOOL_INVALID, tpool_wait(array, 3, TPOOL_FIRST_EXCEPTION, 0, NULL));
        assert_memory_equal(before, array, sizeof array);
        size_t done = UNTOUCHED;
        assert_status(TPOOL_INVALID, tpool_wait(array, 3, TPOOL_ALL_COMPLETED, 0, &done));
        assert_memory_equal(before, array, sizeof array);
    }
    tpool_future *array[3] = { f[0], f[1], f[2] }, *before[3];
    memcpy(before, array, sizeof before);
    size_t done = UNTOUCHED;
    assert_status(TPOOL_INVALID, tpool_wait(array, 3, (tpool_return_when)3, 0, &done));
    assert_status(TPOOL_INVALID, tpool_wait(array, 3, (tpool_return_when)-1, TPOOL_FOREVER, &done));
    assert_memory_equal(before, array, sizeof array);
    assert_status(TPOOL_INVALID, tpool_wait(NULL, 1, TPOOL_ALL_COMPLETED, 0, NULL));
    release_few(f);
}

/* ---- Time limits. */

static void a_wait_takes_its_time_limit_and_no_less(void **state) {
    (void)state;
    static const tpool_return_when modes[] = { TPOOL_ALL_COMPLETED, TPOOL_FIRST_COMPLETED, TPOOL_FIRST_EXCEPTION };
    tpool_future *f[FEW];
    create_few(f);
    for (int m = 0; m < 3; m++) {
        int64_t begin = tpool_now();
        check(f, modes[m], TPOOL_MS(20), TPOOL_TIMEOUT, 0, "01234");
        assert_true(tpool_now() - begin >= TPOOL_MS(20));
        check(f, modes[m], -1, TPOOL_TIMEOUT, 0, "01234");
        check(f, modes[m], INT64_MIN, TPOOL_TIMEOUT, 0, "01234");
    }
    succeed(f[4]);
    check(f, TPOOL_FIRST_COMPLETED, -1, TPOOL_OK, 1, "40123");
    /* Limits that pass the end of the clock are none. */
    for (int i = 0; i < 4; i++) succeed(f[i]);
    check(f, TPOOL_ALL_COMPLETED, INT64_MAX - 1, TPOOL_OK, 5, "01234");
    release_few(f);
}

/* ---- Waits that really wait: other threads complete the futures meanwhile. */

enum { WAITERS = 6 };

typedef struct waiter {
    gate *start;
    tpool_future **futures;
    size_t count;
    tpool_return_when when;
    int64_t timeout_ns;
    tpool_status got;
    size_t done, looked_done; /* as told, and as looked up afterwards */
} waiter;

static void *wait_in_thread(void *arg) {
    waiter *w = arg;
    tpool_future **array = malloc(w->count * sizeof *array);
    if (array == NULL) abort();
    memcpy(array, w->futures, w->count * sizeof *array);
    gate_pass(w->start);
    w->got = tpool_wait(array, w->count, w->when, w->timeout_ns, &w->done);
    for (size_t i = 0; i < w->done; i++) w->looked_done += tpool_future_done(array[i]);
    free(array);
    return NULL;
}

static void waiters_of_every_kind_on_the_same_futures_wake(void **state) {
    (void)state;
    for (int round = 0; round < COUNT(200); round++) {
        gate start = GATE_CLOSED;
        tpool_future *f[FEW];
        pthread_t threads[WAITERS];
        waiter waiters[WAITERS];
        create_few(f);
        for (int i = 0; i < WAITERS; i++) {
            waiters[i] = (waiter){ .start = &start,
                                   .futures = f,
                                   .count = FEW,
                                   .when = (tpool_return_when)(i % 3),
                                   .timeout_ns = i < 3 ? LIMIT : TPOOL_FOREVER };
            assert_int_equal(0, pthread_create(&threads[i], NULL, wait_in_thread, &waiters[i]));
        }
        gate_await_arrivals(&start, WAITERS);
        gate_open(&start);
        succeed(f[round % FEW]);
        fail_bare(f[(round + 1) % FEW]);
        assert_true(tpool_future_cancel(f[(round + 2) % FEW]));
        succeed(f[(round + 3) % FEW]);
        succeed(f[(round + 4) % FEW]);
        for (int i = 0; i < WAITERS; i++) {
            assert_int_equal(0, pthread_join(threads[i], NULL));
            assert_status(TPOOL_OK, waiters[i].got);
            assert_int_equal(waiters[i].done, waiters[i].looked_done);
            size_t at_least = waiters[i].when == TPOOL_ALL_COMPLETED     ? FEW
                              : waiters[i].when == TPOOL_FIRST_EXCEPTION ? 2
                                                                         : 1;
            assert_true(waiters[i].done >= at_least);
        }
        release_few(f);
    }
}

/* Futures that end after a wait on them has given up must not touch what the waiter left behind. */
static void futures_that_end_after_the_wait_are_fine(void **state) {
    (void)state;
    tpool_future *f[FEW];
    for (int round = 0; round < COUNT(100); round++) {
        create_few(f);
        check(f, TPOOL_ALL_COMPLETED, TPOOL_US(10), TPOOL_TIMEOUT, 0, "01234");
        check(f, TPOOL_FIRST_COMPLETED, TPOOL_US(10), TPOOL_TIMEOUT, 0, "01234");
        check(f, TPOOL_FIRST_EXCEPTION, TPOOL_US(10), TPOOL_TIMEOUT, 0, "01234");
        succeed(f[0]);
        check(f, TPOOL_FIRST_COMPLETED, LIMIT, TPOOL_OK, 1, "01234");
        for (int i = 1; i < FEW; i++) succeed(f[i]);
        release_few(f);
    }
}

static void first_exception_returns_while_the_others_still_run(void **state) {
    (void)state;
    gate held = GATE_CLOSED;
    tpool *pool = new_pool(3);
    tpool_future *f[3] = { submitted(pool, gate_task, &held), submitted(pool, gate_task, &held), NULL };
    size_t done = UNTOUCHED;
    EVENTUALLY(gate_arrived(&held) == 2);
    f[2] = submitted(pool, raise_error, NULL);
    tpool_future *failed = f[2];
    assert_status(TPOOL_OK, tpool_wait(f, 3, TPOOL_FIRST_EXCEPTION, LIMIT, &done));
    assert_int_equal(1, done);
    assert_ptr_equal(failed, f[0]);
    assert_status(TPOOL_FAILED, tpool_future_result(failed, 0, NULL));
    gate_open(&held);
    assert_status(TPOOL_OK, tpool_wait(f, 3, TPOOL_ALL_COMPLETED, LIMIT, &done));
    assert_int_equal(3, done);
    for (int i = 0; i < 3; i++) tpool_future_release(f[i]);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void first_completed_returns_while_the_others_still_run(void **state) {
    (void)state;
    gate held = GATE_CLOSED;
    tpool *pool = new_pool(2);
    tpool_future *f[2] = { submitted(pool, gate_task, &held), NULL };
    size_t done = UNTOUCHED;
    EVENTUALLY(gate_arrived(&held) == 1);
    f[1] = submitted(pool, nothing, NULL);
    tpool_future *finished = f[1];
    assert_status(TPOOL_OK, tpool_wait(f, 2, TPOOL_FIRST_COMPLETED, LIMIT, &done));
    assert_int_equal(1, done);
    assert_ptr_equal(finished, f[0]);
    gate_open(&held);
    take(f[0]);
    take(f[1]);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Many futures, of several pools and of none. */

static void ten_thousand_futures_of_two_pools_and_of_none(void **state) {
    (void)state;
    size_t count = COUNT(10000);
    tpool *pools[2] = { new_pool(2), new_pool(1) };
    tpool_future **f = calloc(count, sizeof *f), **before = calloc(count, sizeof *before);
    size_t done = UNTOUCHED;
    assert_non_null(f);
    assert_non_null(before);
    for (size_t i = 0; i < count; i++) {
        if (i % 3 == 2) assert_status(TPOOL_OK, tpool_future_create(&f[i]));
        else f[i] = submitted(pools[i % 3], nothing, NULL);
    }
    memcpy(before, f, count * sizeof *f);
    size_t bare = count / 3;
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_drain(pools[i], LIMIT));
    assert_status(TPOOL_TIMEOUT, tpool_wait(f, count, TPOOL_ALL_COMPLETED, TPOOL_MS(1), &done));
    assert_int_equal(count - bare, done);
    /* Stable: within each part the array's order. */
    size_t front = 0, back = done;
    for (size_t i = 0; i < count; i++) {
        if (i % 3 == 2) assert_ptr_equal(before[i], f[back++]);
        else assert_ptr_equal(before[i], f[front++]);
    }
    assert_status(TPOOL_TIMEOUT, tpool_wait(f, count, TPOOL_FIRST_EXCEPTION, TPOOL_MS(1), &done));
    assert_int_equal(count - bare, done);
    assert_status(TPOOL_OK, tpool_wait(f, count, TPOOL_FIRST_COMPLETED, LIMIT, &done));
    assert_int_equal(count - bare, done);
    for (size_t i = 2; i < count; i += 3) succeed(before[i]);
    assert_status(TPOOL_OK, tpool_wait(f, count, TPOOL_ALL_COMPLETED, LIMIT, &done));
    assert_int_equal(count, done);
    for (size_t i = 0; i < count; i++) tpool_future_release(f[i]);
    free(f);
    free(before);
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_destroy(pools[i]));
}

static void every_wait_for_many_running_tasks_ends(void **state) {
    (void)state;
    enum { many = 64 };
    tpool *pool = new_pool(2);
    for (int round = 0; round < COUNT(300); round++) {
        tpool_future *f[many];
        size_t done = UNTOUCHED;
        for (int i = 0; i < many; i++) f[i] = submitted(pool, i == many / 2 ? raise_error : nothing, NULL);
        assert_status(TPOOL_OK, tpool_wait(f, many, (tpool_return_when)(round % 3), LIMIT, &done));
        for (size_t i = 0; i < done; i++) assert_true(tpool_future_done(f[i]));
        assert_true(done >= 1);
        if (round % 3 == TPOOL_ALL_COMPLETED) assert_int_equal(many, done);
        assert_status(TPOOL_OK, tpool_wait(f, many, TPOOL_ALL_COMPLETED, LIMIT, &done));
        assert_int_equal(many, done);
        for (int i = 0; i < many; i++) tpool_future_release(f[i]);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Inside a task. */

typedef struct inside {
    tpool *pool, *other_pool;
    tpool_return_when when;
    int64_t timeout_ns;
    tpool_status got;
    size_t done;
    int wrongly_done;
    tpool_future *bare;
} inside;

static void *complete_bare(void *arg) {
    inside *in = arg;
    if (tpool_future_set_result(in->bare, NULL) != TPOOL_OK) abort();
    return NULL;
}

/* Waits for two tasks of its own pool, two of another one, and a bare future that one of the latter completes. */
static void *wait_inside(void *arg) {
    inside *in = arg;
    tpool_future *f[FEW] = { NULL };
    tpool_fn first = in->when == TPOOL_FIRST_EXCEPTION ? raise_error : nothing;
    if (tpool_submit(in->pool, first, NULL, &f[0]) != TPOOL_OK) abort();
    if (tpool_submit(in->other_pool, nothing, NULL, &f[1]) != TPOOL_OK) abort();
    f[2] = tpool_future_retain(in->bare);
    if (tpool_submit(in->other_pool, complete_bare, in, &f[3]) != TPOOL_OK) abort();
    if (tpool_submit(in->pool, nothing, NULL, &f[4]) != TPOOL_OK) abort();
    in->got = tpool_wait(f, FEW, in->when, in->timeout_ns, &in->done);
    for (size_t i = 0; i < FEW; i++) {
        if (i < in->done && !tpool_future_done(f[i])) in->wrongly_done++;
    }
    if (tpool_wait(f, FEW, TPOOL_ALL_COMPLETED, TPOOL_FOREVER, NULL) != TPOOL_OK) in->wrongly_done++;
    for (int i = 0; i < FEW; i++) tpool_future_release(f[i]);
    return NULL;
}

static void waits_of_every_kind_inside_a_task_end(void **state) {
    (void)state;
    tpool *other_pool = new_pool(1);
    for (int workers = 1; workers <= 2; workers++) {
        tpool *pool = new_pool(workers);
        for (int round = 0; round < COUNT(100); round++) {
            for (int when = 0; when < 3; when++) {
                inside in = { .pool = pool,
                              .other_pool = other_pool,
                              .when = (tpool_return_when)when,
                              .timeout_ns = round % 2 == 0 ? TPOOL_FOREVER : LIMIT };
                assert_status(TPOOL_OK, tpool_future_create(&in.bare));
                take(submitted(pool, wait_inside, &in));
                assert_status(TPOOL_OK, in.got);
                assert_int_equal(0, in.wrongly_done);
                assert_true(in.done >= 1);
                if (when == TPOOL_ALL_COMPLETED) assert_int_equal(FEW, in.done);
                tpool_future_release(in.bare);
            }
        }
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
    assert_status(TPOOL_OK, tpool_destroy(other_pool));
}

typedef struct inside_limit {
    tpool_future *done, *pending;
    tpool_status for_all, for_first, for_exception;
    size_t counts[3];
    int64_t waited_ns;
} inside_limit;

static void *time_out_inside(void *arg) {
    inside_limit *in = arg;
    tpool_future *f[2] = { in->pending, in->done };
    int64_t begin = tpool_now();
    in->for_all = tpool_wait(f, 2, TPOOL_ALL_COMPLETED, TPOOL_MS(20), &in->counts[0]);
    in->waited_ns = tpool_now() - begin;
    if (f[0] != in->done || f[1] != in->pending) in->counts[0] = UNTOUCHED;
    in->for_first = tpool_wait(f, 2, TPOOL_FIRST_COMPLETED, 0, &in->counts[1]);
    in->for_exception = tpool_wait(f, 2, TPOOL_FIRST_EXCEPTION, TPOOL_MS(1), &in->counts[2]);
    return NULL;
}

static void a_wait_inside_a_task_times_out_with_the_same_partition(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    inside_limit in = { .done = NULL };
    assert_status(TPOOL_OK, tpool_future_create(&in.done));
    assert_status(TPOOL_OK, tpool_future_create(&in.pending));
    succeed(in.done);
    take(submitted(pool, time_out_inside, &in));
    assert_status(TPOOL_TIMEOUT, in.for_all);
    assert_status(TPOOL_OK, in.for_first);
    assert_status(TPOOL_TIMEOUT, in.for_exception);
    for (int i = 0; i < 3; i++) assert_int_equal(1, in.counts[i]);
    assert_true(in.waited_ns >= TPOOL_MS(20));
    tpool_future_release(in.done);
    tpool_future_release(in.pending);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static const struct CMUnitTest tests[] = {
    TEST(all_completed_waits_for_the_last),
    TEST(first_completed_waits_for_any),
    TEST(first_completed_is_content_with_a_failed_or_a_cancelled_one),
    TEST(first_exception_waits_for_a_failure_or_for_all),
    TEST(a_cancelled_future_is_done_and_no_exception),
    TEST(an_expired_task_is_an_exception),
    TEST(a_wait_notices_an_expiry_at_the_moment_it_passes),
    TEST(a_broken_task_is_an_exception),
    TEST(without_done_the_array_stays_as_it_is),
    TEST(a_future_that_appears_twice_counts_twice),
    TEST(an_empty_array_is_done_at_once),
    TEST(bad_arguments_are_invalid_and_change_nothing),
    TEST(a_wait_takes_its_time_limit_and_no_less),
    TEST(waiters_of_every_kind_on_the_same_futures_wake),
    TEST(futures_that_end_after_the_wait_are_fine),
    TEST(first_exception_returns_while_the_others_still_run),
    TEST(first_completed_returns_while_the_others_still_run),
    TEST(ten_thousand_futures_of_two_pools_and_of_none),
    TEST(every_wait_for_many_running_tasks_ends),
    TEST(waits_of_every_kind_inside_a_task_end),
    TEST(a_wait_inside_a_task_times_out_with_the_same_partition),
};
RUN_TESTS(tests)
