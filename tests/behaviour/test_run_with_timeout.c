/* run_with_timeout: whose end it tells, and what it leaves behind when the time is up. */
#include "support.h"
#include "support/box.h"

/* ---- run_with_timeout ---- */

static void run_with_timeout_gives_the_tasks_own_end(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    int value = 0, code = 12;
    int64_t limits[] = { LIMIT, TPOOL_FOREVER };
    for (int i = 0; i < 2; i++) {
        tpool_task good = { .fn = nothing, .arg = &value }, bad = { .fn = raise_code, .arg = &code };
        tpool_future *future = NULL;
        void *result = NULL;
        assert_status(TPOOL_OK, tpool_run_with_timeout(pool, &good, limits[i], &future));
        assert_status(TPOOL_OK, tpool_future_result(future, 0, &result));
        assert_ptr_equal(&value, result);
        tpool_future_release(future);
        assert_status(TPOOL_OK, tpool_run_with_timeout(pool, &good, limits[i], NULL));

        future = NULL;
        assert_status(TPOOL_FAILED, tpool_run_with_timeout(pool, &bad, limits[i], &future));
        assert_string_equal("code 12", tpool_future_message(future));
        tpool_future_release(future);
        assert_status(TPOOL_FAILED, tpool_run_with_timeout(pool, &bad, limits[i], NULL));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void run_with_timeout_tells_of_expiry(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    box b;
    box_init(&b);
    tpool_task task = box_task(box_run, &b, false);
    task.expires_ns = TPOOL_MS(5);
    tpool_future *future = NULL;
    assert_status(TPOOL_EXPIRED, tpool_run_with_timeout(h.pool, &task, LIMIT, &future));
    assert_status(TPOOL_EXPIRED, tpool_future_result(future, 0, NULL));
    tpool_future_release(future);
    held_destroy(&h);
    check_freed_once(&b, false, false);
}

/* It counts from the submit, which comes after the call: so its time is the later one. The caller wakes after both. */
static void a_limit_comes_before_an_expiry_just_behind_it(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    for (int i = 0; i < 20; i++) {
        tpool_task task = { .fn = nothing, .expires_ns = TPOOL_MS(1) + 1 };
        tpool_future *future = NULL;
        assert_status(TPOOL_TIMEOUT, tpool_run_with_timeout(h.pool, &task, TPOOL_MS(1), &future));
        assert_status(TPOOL_CANCELLED, end_of(future));
    }
    held_destroy(&h);
}

static void *cancel_what_is_queued(void *arg) {
    tpool *pool = arg;
    tpool_stats stats = { 0 };
    int64_t end = tpool_now() + LIMIT;
    while (tpool_now() < end && !(tpool_get_stats(pool, &stats) == TPOOL_OK && stats.queued == 1)) sleep_ms(1);
    tpool_shutdown(pool, TPOOL_CANCEL_PENDING);
    return NULL;
}

static void run_with_timeout_tells_of_a_cancel(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    pthread_t canceller;
    assert_int_equal(0, pthread_create(&canceller, NULL, cancel_what_is_queued, h.pool));
    tpool_task task = { .fn = nothing };
    tpool_future *future = NULL;
    assert_status(TPOOL_CANCELLED, tpool_run_with_timeout(h.pool, &task, 2 * LIMIT, &future));
    assert_true(tpool_future_cancelled(future));
    tpool_future_release(future);
    pthread_join(canceller, NULL);
    held_destroy(&h);
}

static void run_with_timeout_cancels_a_task_still_queued(void **unused) {
    (void)unused;
    int64_t limits[] = { TPOOL_MS(20), TPOOL_US(1), 0, -1, INT64_MIN };
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        for (int copied = 0; copied < 2; copied++) {
            held_pool h;
            held_create(&h, NULL);
            box asked, alone;
            box_init(&asked);
            box_init(&alone);
            tpool_task task = box_task(box_run, &asked, copied);
            int64_t begin = tpool_now();
            tpool_future *future = NULL;
            assert_status(TPOOL_TIMEOUT, tpool_run_with_timeout(h.pool, &task, limits[i], &future));
            assert_true(tpool_now() - begin >= limits[i]);
            assert_non_null(future);
            assert_status(TPOOL_CANCELLED, tpool_future_result(future, 0, NULL));
            check_freed_once(&asked, copied, false);
            tpool_future_release(future);

            task = box_task(box_run, &alone, copied);
            assert_status(TPOOL_TIMEOUT, tpool_run_with_timeout(h.pool, &task, limits[i], NULL));
            check_freed_once(&alone, copied, false);
            held_destroy(&h);
            assert_int_equal(1, atomic_load(&asked.frees));
            assert_int_equal(1, atomic_load(&alone.frees));
        }
    }
}

/* A task that goes on until it is asked to stop, and then until its gate opens, using its copied argument. */
typedef struct lasting {
    payload payload;
    atomic_int *started;
    atomic_int *stop_seen;
    gate *gate;
} lasting;

static void *last_beyond_the_stop(void *arg) {
    lasting *l = arg;
    atomic_fetch_add(l->started, 1);
    int64_t end = tpool_now() + LIMIT;
    while (!tpool_stop_requested() && tpool_now() < end) sleep_ms(1);
    if (tpool_stop_requested()) atomic_store(l->stop_seen, 1);
    gate_pass(l->gate);
    return box_run(&l->payload);
}

static void run_with_timeout_asks_a_running_task_to_stop_and_leaves_it(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 1));
    atomic_int started = 0;
    int64_t limit = TPOOL_MS(20);
    /* A busy machine may not start it in time; then it is cancelled, which is not what this test is about. */
    for (int attempt = 0;; attempt++, limit *= 2) {
        assert_true(attempt < 10);
        gate g = GATE_CLOSED;
        atomic_int stop_seen = 0;
        box b = { 0 };
        lasting given = { .started = &started, .stop_seen = &stop_seen, .gate = &g };
        payload_fill(&given.payload, &b);
        tpool_task task = { .fn = last_beyond_the_stop, .arg = &given, .arg_size = sizeof given, .arg_free = box_free };
        tpool_future *future = NULL;
        assert_status(TPOOL_TIMEOUT, tpool_run_with_timeout(pool, &task, limit, &future));
        memset(&given, 0xA5, sizeof given);
        assert_non_null(future);
        if (tpool_future_cancelled(future)) {
            tpool_future_release(future);
            continue;
        }
        gate_await_arrivals(&g, 1); /* it has seen the stop, or has waited for it too long */
        assert_int_equal(1, atomic_load(&stop_seen));
        assert_int_equal(TPOOL_RUNNING, tpool_future_state(future));
        assert_int_equal(0, atomic_load(&b.frees));
        gate_open(&g);
        void *result = NULL;
        assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
        assert_ptr_equal(&b, result);
        assert_true(b.intact_at_run && b.intact_at_free);
        assert_int_equal(1, atomic_load(&b.frees));
        tpool_future_release(future);
        break;
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(1, atomic_load(&started));
}

static void *take_a_while(void *arg) {
    sleep_ms(30);
    return arg;
}

static void run_with_timeout_of_a_task_that_has_ended_when_it_is_stopped_gives_its_end(void **unused) {
    (void)unused;
    /* Run by the caller, the task takes longer than the limit and has ended before anyone could stop it. */
    held_pool h;
    held_create(&h, &(tpool_config){ .queue_capacity = 1, .on_full = TPOOL_FULL_CALLER_RUNS });
    assert_status(TPOOL_OK, tpool_submit(h.pool, nothing, NULL, NULL));
    int value = 0;
    tpool_task task = { .fn = take_a_while, .arg = &value };
    tpool_future *future = NULL;
    void *result = NULL;
    assert_status(TPOOL_OK, tpool_run_with_timeout(h.pool, &task, TPOOL_MS(2), &future));
    assert_status(TPOOL_OK, tpool_future_result(future, 0, &result));
    assert_ptr_equal(&value, result);
    tpool_future_release(future);
    held_destroy(&h);
}

/* The task ends at about the time limit: whichever came first, the answer and the future agree. The limit grows
   when it was too short and shrinks when it was long enough, so that it stays where both happen. */
static void stress_run_with_timeout_agrees_with_its_future(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    int rounds = COUNT(1000), in_time = 0, late = 0;
    int64_t limit = TPOOL_US(50), begin = tpool_now();
    for (int i = 0; i < rounds; i++) {
        /* Enough of it: on a busy machine its rounds may last long. */
        if (in_time > 0 && late > 0 && tpool_now() - begin > TPOOL_MS(700)) break;
        /* On one CPU the worker may be through before its waker goes on, however short the limit. */
        if (i % 20 == 19) assert_status(TPOOL_OK, tpool_submit(pool, take_a_while, NULL, NULL));
        box b;
        box_init(&b);
        tpool_task task = box_task(box_run, &b, true);
        tpool_future *future = NULL;
        tpool_status status = tpool_run_with_timeout(pool, &task, limit, &future);
        assert_non_null(future);
        if (status == TPOOL_OK) {
            in_time++;
            limit /= 2;
            assert_status(TPOOL_OK, tpool_future_result(future, 0, NULL));
            assert_int_equal(1, atomic_load(&b.runs));
        } else {
            assert_status(TPOOL_TIMEOUT, status);
            late++;
            limit = limit * 2 + 500;
            tpool_status end = tpool_future_result(future, LIMIT, NULL);
            assert_true(end == TPOOL_OK || end == TPOOL_CANCELLED);
            assert_int_equal(end == TPOOL_OK, atomic_load(&b.runs));
        }
        assert_int_equal(1, atomic_load(&b.frees));
        tpool_future_release(future);
    }
    print_message("%d in time, %d late\n", in_time, late);
    assert_true(in_time > 0 && late > 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void run_with_timeout_takes_nothing_while_the_queue_stays_full(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, &(tpool_config){ .queue_capacity = 1, .on_full = TPOOL_FULL_BLOCK });
    atomic_int fillers = 0;
    assert_status(TPOOL_OK, tpool_submit(h.pool, count_up, &fillers, NULL));
    int64_t limits[] = { TPOOL_MS(20), 0, -1 };
    box b;
    box_init(&b);
    tpool_task task = box_task(box_run, &b, true);
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        tpool_future *future = h.holder;
        int64_t begin = tpool_now();
        assert_status(TPOOL_TIMEOUT, tpool_run_with_timeout(h.pool, &task, limits[i], &future));
        assert_true(tpool_now() - begin >= limits[i]);
        assert_null(future);
        assert_status(TPOOL_TIMEOUT, tpool_run_with_timeout(h.pool, &task, limits[i], NULL));
    }
    held_destroy(&h);
    assert_int_equal(0, atomic_load(&b.frees));
    assert_int_equal(0, atomic_load(&b.runs));
    assert_int_equal(1, atomic_load(&fillers));
}

static void run_with_timeout_tells_why_a_task_was_not_taken(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, &(tpool_config){ .queue_capacity = 1, .on_full = TPOOL_FULL_REJECT });
    assert_status(TPOOL_OK, tpool_submit(h.pool, nothing, NULL, NULL));
    box b;
    box_init(&b);
    tpool_task task = box_task(box_run, &b, true), nothing = { .fn = NULL };
    tpool_future *future = h.holder;
    assert_status(TPOOL_FULL, tpool_run_with_timeout(h.pool, &task, LIMIT, &future));
    assert_null(future);
    future = h.holder;
    assert_status(TPOOL_INVALID, tpool_run_with_timeout(h.pool, &nothing, LIMIT, &future));
    assert_null(future);
    future = h.holder;
    assert_status(TPOOL_INVALID, tpool_run_with_timeout(h.pool, NULL, LIMIT, &future));
    assert_null(future);
    assert_status(TPOOL_OK, tpool_shutdown(h.pool, 0));
    future = h.holder;
    assert_status(TPOOL_SHUTDOWN, tpool_run_with_timeout(h.pool, &task, LIMIT, &future));
    assert_null(future);
    held_destroy(&h);
    assert_int_equal(0, atomic_load(&b.frees));
}

static void *tell_pool(void *arg) {
    (void)arg;
    return tpool_current();
}

static void run_with_timeout_without_a_pool_means_the_low_level_pool(void **unused) {
    (void)unused;
    tpool_task task = { .fn = tell_pool };
    tpool_future *future = NULL;
    void *where = NULL;
    assert_status(TPOOL_OK, tpool_run_with_timeout(NULL, &task, LIMIT, &future));
    assert_status(TPOOL_OK, tpool_future_result(future, 0, &where));
    assert_non_null(where);
    assert_ptr_equal(tpool_low_level(), where);
    tpool_future_release(future);
}

static const struct CMUnitTest tests[] = {
    TEST(run_with_timeout_gives_the_tasks_own_end),
    TEST(run_with_timeout_tells_of_expiry),
    TEST(a_limit_comes_before_an_expiry_just_behind_it),
    TEST(run_with_timeout_tells_of_a_cancel),
    TEST(run_with_timeout_cancels_a_task_still_queued),
    TEST(run_with_timeout_asks_a_running_task_to_stop_and_leaves_it),
    TEST(run_with_timeout_of_a_task_that_has_ended_when_it_is_stopped_gives_its_end),
    TEST(stress_run_with_timeout_agrees_with_its_future),
    TEST(run_with_timeout_takes_nothing_while_the_queue_stays_full),
    TEST(run_with_timeout_tells_why_a_task_was_not_taken),
    TEST(run_with_timeout_without_a_pool_means_the_low_level_pool),
};
RUN_TESTS(tests)
