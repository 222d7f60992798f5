/* Expiry is noticed by every look: waits for many and for the first, cancels, adds, callbacks, limited runs. */
#include "support.h"

/* ---- Expiry, noticed by a look at many ---- */

/* Two futures that are not done for long, around two whose time passes: what a wait tells of them. */
typedef struct expiring {
    tpool *pool;
    gate hold;
    tpool_future *all[4];
    atomic_int callbacks;
} expiring;
static void expiring_begin(expiring *l, int64_t expires_ns) {
    *l = (expiring){ .hold = GATE_CLOSED };
    l->pool = new_pool_as((tpool_config){ .max_workers = 1 });
    l->all[0] = held_at(l->pool, &l->hold);
    l->all[1] = submitted_task(l->pool, (tpool_task){ .fn = nothing, .expires_ns = expires_ns });
    l->all[2] = submitted(l->pool, nothing, NULL);
    l->all[3] = submitted_task(l->pool, (tpool_task){ .fn = nothing, .expires_ns = expires_ns });
    assert_status(TPOOL_OK, tpool_future_add_done_callback(l->all[1], count_callback, &l->callbacks));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(l->all[3], count_callback, &l->callbacks));
}
static void expiring_end(expiring *l) {
    gate_open(&l->hold);
    for (int i = 0; i < 4; i++) tpool_future_release(l->all[i]);
    assert_status(TPOOL_OK, tpool_destroy(l->pool));
}

static void a_look_ends_every_one_whose_time_has_passed(tpool_return_when when, tpool_status expected) {
    static expiring l;
    expiring_begin(&l, TPOOL_MS(20));
    tpool_future *futures[4];
    memcpy(futures, l.all, sizeof futures);
    sleep_ms(30);
    size_t done = 9;
    tpool_status waited = tpool_wait(futures, 4, when, 0, &done);
    int callbacks = atomic_load(&l.callbacks);
    tpool_future *expected_first = l.all[1], *expected_second = l.all[3];
    expiring_end(&l);
    assert_status(expected, waited);
    assert_int_equal(2, done);
    assert_int_equal(2, callbacks);
    assert_ptr_equal(expected_first, futures[0]);
    assert_ptr_equal(expected_second, futures[1]);
}
static void a_look_at_all_of_many_ends_every_one_whose_time_has_passed(void **state) {
    (void)state;
    a_look_ends_every_one_whose_time_has_passed(TPOOL_ALL_COMPLETED, TPOOL_TIMEOUT);
}
static void a_look_for_the_first_of_many_ends_every_one_whose_time_has_passed(void **state) {
    (void)state;
    a_look_ends_every_one_whose_time_has_passed(TPOOL_FIRST_COMPLETED, TPOOL_OK);
}

typedef struct wait_for_all {
    tpool_future **futures;
    atomic_bool over;
} wait_for_all;
static void *wait_for_all_four(void *arg) {
    wait_for_all *w = arg;
    (void)tpool_wait(w->futures, 4, TPOOL_ALL_COMPLETED, LIMIT, NULL);
    atomic_store(&w->over, true);
    return NULL;
}
static void a_wait_for_all_notices_an_expiry_when_it_passes_while_others_go_on(void **state) {
    (void)state;
    static expiring l;
    static wait_for_all w;
    expiring_begin(&l, TPOOL_MS(40));
    w.futures = l.all;
    pthread_t thread;
    assert_int_equal(0, pthread_create(&thread, NULL, wait_for_all_four, &w));
    int64_t end = tpool_now() + TPOOL_SEC(20); /* nobody else looks */
    while (atomic_load(&l.callbacks) < 2 && tpool_now() < end) sleep_ms(1);
    int callbacks = atomic_load(&l.callbacks);
    bool over = atomic_load(&w.over);
    gate_open(&l.hold);
    pthread_join(thread, NULL);
    expiring_end(&l);
    assert_false(over);
    assert_int_equal(2, callbacks);
}

static void cancels_adds_and_callbacks_notice_an_expiry_too(void **state) {
    (void)state;
    static gate hold;
    static atomic_int callbacks, late;
    hold = (gate)GATE_CLOSED;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    tpool_future *holder = submitted(pool, gate_task, &hold), *expiring[3] = { NULL };
    gate_await_arrivals(&hold, 1);
    int expires_ms = 5;
    for (;; expires_ms *= 2) { /* until each has its callback before its time passes */
        atomic_store(&callbacks, 0);
        for (int i = 0; i < 3; i++) {
            tpool_future_release(expiring[i]);
            expiring[i] = submitted_task(pool, (tpool_task){ .fn = nothing, .expires_ns = TPOOL_MS(expires_ms) });
            assert_status(TPOOL_OK, tpool_future_add_done_callback(expiring[i], count_callback, &callbacks));
        }
        if (atomic_load(&callbacks) == 0) break;
    }
    sleep_ms(2 * expires_ms);
    bool cancelled = tpool_future_cancel(expiring[0]);
    int after_cancel = atomic_load(&callbacks);
    tpool_status added = tpool_future_add_done_callback(expiring[1], count_callback, &late);
    int after_callback = atomic_load(&callbacks), ran_late = atomic_load(&late);
    tpool_completions *completions = NULL;
    tpool_status created = tpool_as_completed(NULL, 0, &completions);
    tpool_status completions_added = tpool_completions_add(completions, expiring[2]);
    int after_add = atomic_load(&callbacks);
    tpool_completions_destroy(completions);
    gate_open(&hold);
    for (int i = 0; i < 3; i++) assert_status(TPOOL_EXPIRED, end_of(expiring[i]));
    assert_status(TPOOL_OK, end_of(holder));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_false(cancelled);
    assert_int_equal(1, after_cancel);
    assert_status(TPOOL_OK, added);
    assert_int_equal(2, after_callback);
    assert_int_equal(1, ran_late);
    assert_status(TPOOL_OK, created);
    assert_status(TPOOL_OK, completions_added);
    assert_int_equal(3, after_add);
}

/* ---- Time limits of a task ---- */

static void a_task_that_expires_in_a_limited_run_tells_so_and_not_the_limit(void **state) {
    (void)state;
    static gate hold;
    hold = (gate)GATE_CLOSED;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    tpool_future *holder = submitted(pool, gate_task, &hold), *future = NULL, *late = NULL;
    gate_await_arrivals(&hold, 1);
    tpool_task task = { .fn = nothing, .expires_ns = TPOOL_MS(10) };
    tpool_status expired = tpool_run_with_timeout(pool, &task, LIMIT, &future);
    task.expires_ns = LIMIT;
    tpool_status timeout = tpool_run_with_timeout(pool, &task, TPOOL_MS(10), &late);
    gate_open(&hold);
    assert_status(TPOOL_OK, end_of(holder));
    assert_status(TPOOL_EXPIRED, end_of(future));
    assert_status(TPOOL_CANCELLED, end_of(late));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_status(TPOOL_EXPIRED, expired);
    assert_status(TPOOL_TIMEOUT, timeout);
}

static void a_limited_run_with_no_time_at_all_is_cancelled_or_done(void **state) {
    (void)state;
    static gate hold;
    static atomic_int runs;
    hold = (gate)GATE_CLOSED;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    tpool_future *holder = submitted(pool, gate_task, &hold), *future = NULL;
    gate_await_arrivals(&hold, 1);
    tpool_status status = tpool_run_with_timeout(pool, &(tpool_task){ .fn = count_up, .arg = &runs }, -1, &future);
    gate_open(&hold);
    assert_status(TPOOL_OK, end_of(holder));
    assert_status(TPOOL_CANCELLED, end_of(future));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_status(TPOOL_TIMEOUT, status);
    assert_int_equal(0, atomic_load(&runs));
}

static const struct CMUnitTest tests[] = {
    TEST(a_look_at_all_of_many_ends_every_one_whose_time_has_passed),
    TEST(a_look_for_the_first_of_many_ends_every_one_whose_time_has_passed),
    TEST(a_wait_for_all_notices_an_expiry_when_it_passes_while_others_go_on),
    TEST(cancels_adds_and_callbacks_notice_an_expiry_too),
    TEST(a_task_that_expires_in_a_limited_run_tells_so_and_not_the_limit),
    TEST(a_limited_run_with_no_time_at_all_is_cancelled_or_done),
};
RUN_TESTS(tests)
