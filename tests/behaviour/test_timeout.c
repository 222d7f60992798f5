/* timeout_ns: a limit from the submit on. What has not started by then expires; what runs is asked to stop. */
#include "support.h"
#include "support/box.h"
#include "support/sleepers.h"

static void what_has_not_started_by_then_expires(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    box b;
    box_init(&b);
    tpool_task task = box_task(box_run, &b, true);
    task.timeout_ns = TPOOL_MS(5);
    int64_t begin = tpool_now();
    tpool_future *future = submitted_task(h.pool, task);
    assert_status(TPOOL_EXPIRED, tpool_future_result(future, LIMIT, NULL));
    assert_true(tpool_now() - begin >= TPOOL_MS(5));
    tpool_future_release(future);
    assert_int_equal(1, stats_of(h.pool).expired);
    held_destroy(&h);
    check_freed_once(&b, true, false);
}

static void the_earlier_of_two_limits_ends_what_waits(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    const int64_t limits[][2] = { { TPOOL_MS(5), TPOOL_SEC(1000) },
                                  { TPOOL_SEC(1000), TPOOL_MS(5) },
                                  { TPOOL_MS(5), TPOOL_FOREVER },
                                  { TPOOL_FOREVER, TPOOL_MS(5) } };
    for (int i = 0; i < 4; i++) {
        tpool_task task = { .fn = nothing, .expires_ns = limits[i][0], .timeout_ns = limits[i][1] };
        assert_status(TPOOL_EXPIRED, end_of(submitted_task(h.pool, task)));
    }
    held_destroy(&h);
}

/* Where the machine is busy, such a time may pass before a worker has started the task: again, with more of it. */
static tpool_status end_of_started(tpool *pool, tpool_task task) {
    tpool_status status = end_of(submitted_task(pool, task));
    for (; status == TPOOL_EXPIRED && task.timeout_ns < LIMIT; status = end_of(submitted_task(pool, task)))
        task.timeout_ns *= 4;
    return status;
}
static void what_runs_is_asked_to_stop_and_its_wake_comes(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    sleeper s;
    sleeper_init(&s);
    int64_t begin = tpool_now();
    tpool_task task = { .fn = sleep_until_stopped, .arg = &s, .timeout_ns = TPOOL_MS(20) };
    assert_status(TPOOL_OK, end_of_started(pool, task)); /* its end is its own */
    assert_true(tpool_now() - begin >= TPOOL_MS(20));
    assert_int_equal(1, s.wakes);
    assert_works(pool);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *is_stopped_after(void *arg) { /* one look first: then it waits for the request */
    atomic_int *looks = arg;
    while (!tpool_stop_requested()) {
        atomic_fetch_add(looks, 1);
        sleep_ms(1);
    }
    return NULL;
}
static void the_earlier_of_two_limits_stops_what_runs(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    const int64_t limits[][2] = { { TPOOL_MS(10), TPOOL_SEC(1000) },
                                  { TPOOL_SEC(1000), TPOOL_MS(10) },
                                  { INT64_MAX, TPOOL_MS(10) },
                                  { TPOOL_MS(10), INT64_MAX } };
    for (int i = 0; i < 4; i++) {
        atomic_int looks = 0;
        tpool_task task = {
            .fn = is_stopped_after, .arg = &looks, .run_limit_ns = limits[i][0], .timeout_ns = limits[i][1]
        };
        int64_t begin = tpool_now();
        assert_status(TPOOL_OK, end_of_started(pool, task));
        assert_true(tpool_now() - begin >= TPOOL_MS(10));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *tells_stop(void *arg) {
    *(bool *)arg = tpool_stop_requested();
    return arg;
}
static void one_that_is_not_above_0_or_far_away_is_no_limit(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    const int64_t none[] = { 0, -1, INT64_MIN, INT64_MAX, INT64_MAX - 1 };
    for (int i = 0; i < 5; i++) {
        bool stopped = true;
        tpool_task task = { .fn = tells_stop, .arg = &stopped, .timeout_ns = none[i] };
        assert_status(TPOOL_OK, end_of(submitted_task(pool, task)));
        assert_false(stopped);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void the_workers_next_task_has_none(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    for (int round = 0; round < 3; round++) {
        atomic_int looks = 0;
        bool stopped = true;
        tpool_task task = { .fn = is_stopped_after, .arg = &looks, .timeout_ns = TPOOL_MS(3) };
        assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
        assert_status(TPOOL_OK, end_of(submitted(pool, tells_stop, &stopped)));
        assert_false(stopped);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- what it reaches ---- */

static void *job_waits_for_the_stop(void *arg) {
    atomic_int looks = 0;
    (void)is_stopped_after(&looks);
    return arg;
}
static void range_waits_for_the_stop(size_t begin, size_t end, void *context) {
    (void)begin, (void)end;
    (void)job_waits_for_the_stop(context);
}
static void *jobs_and_parts_wait(void *arg) {
    tpool_job job;
    tpool_fork(&job, job_waits_for_the_stop, arg);
    CHECK(tpool_join(&job) == arg);
    CHECK_STATUS(TPOOL_OK, tpool_for(tpool_current(), 0, 8, 1, range_waits_for_the_stop, arg));
    return arg;
}
static void jobs_and_loop_bodies_inherit_it(void **unused) {
    (void)unused;
    tpool *pool = new_pool(2);
    tpool_task task = { .fn = jobs_and_parts_wait, .arg = pool, .timeout_ns = TPOOL_MS(5) };
    assert_status(TPOOL_OK, end_of_started(pool, task));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *receives(void *arg) {
    void *item;
    CHECK_STATUS(TPOOL_CANCELLED, tpool_channel_receive(arg, &item, TPOOL_FOREVER));
    return arg;
}
static void it_ends_a_wait_at_a_channel(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    tpool_channel *channel = NULL;
    assert_status(TPOOL_OK, tpool_channel_create(&channel, NULL));
    tpool_task task = { .fn = receives, .arg = channel, .timeout_ns = TPOOL_MS(10) };
    assert_status(TPOOL_OK, end_of_started(pool, task));
    assert_status(TPOOL_OK, tpool_channel_destroy(channel));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_full_queue_of_such_tasks_takes_the_next(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, &(tpool_config){ .queue_capacity = 2, .on_full = TPOOL_FULL_REJECT });
    tpool_task task = { .fn = nothing, .timeout_ns = TPOOL_MS(1) };
    assert_status(TPOOL_OK, tpool_submit_task(h.pool, &task, NULL));
    assert_status(TPOOL_OK, tpool_submit_task(h.pool, &task, NULL));
    sleep_ms(2);
    assert_status(TPOOL_OK, tpool_submit_task(h.pool, &task, NULL));
    held_destroy(&h);
}

/* The time in a full queue counts: it is over when there is room, and the task does not start. */
static void *submits_one(void *arg) {
    held_pool *h = arg;
    tpool_task task = { .fn = nothing, .timeout_ns = TPOOL_MS(5) };
    return submitted_task(h->pool, task);
}
static void the_time_in_line_for_room_counts(void **unused) {
    (void)unused;
    tpool_status status = TPOOL_OK;
    for (int wait = 10; status == TPOOL_OK && wait < 3000; wait *= 2) { /* longer where its thread came too late */
        held_pool h;
        held_create(&h, &(tpool_config){ .queue_capacity = 1 });
        assert_status(TPOOL_OK, tpool_submit(h.pool, nothing, NULL, NULL));
        pthread_t submitter;
        void *future = NULL;
        assert_int_equal(0, pthread_create(&submitter, NULL, submits_one, &h));
        sleep_ms(wait);
        gate_open(&h.gate);
        assert_int_equal(0, pthread_join(submitter, &future));
        status = end_of(future);
        held_destroy(&h);
    }
    assert_status(TPOOL_EXPIRED, status);
}

static void what_has_expired_by_then_the_submitter_does_not_run(void **unused) {
    (void)unused;
    for (int i = 0; i < 4; i++) {
        held_pool h;
        held_create(&h, &(tpool_config){ .queue_capacity = 1, .on_full = TPOOL_FULL_CALLER_RUNS });
        assert_status(TPOOL_OK, tpool_submit(h.pool, nothing, NULL, NULL));
        box b;
        box_init(&b);
        tpool_task task = box_task(box_run, &b, i % 2);
        *(i / 2 ? &task.timeout_ns : &task.expires_ns) = 1;
        tpool_future *future = submitted_task(h.pool, task);
        assert_status(TPOOL_EXPIRED, tpool_future_result(future, 0, NULL));
        tpool_future_release(future);
        check_freed_once(&b, i % 2, false);
        assert_int_equal(1, stats_of(h.pool).expired);
        held_destroy(&h);
    }
}

static void a_run_with_timeout_that_is_longer_tells_of_its_end(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    tpool_task task = { .fn = nothing, .timeout_ns = TPOOL_MS(5) };
    assert_status(TPOOL_EXPIRED, tpool_run_with_timeout(h.pool, &task, LIMIT, NULL));
    held_destroy(&h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_has_not_started_by_then_expires),
        cmocka_unit_test(the_earlier_of_two_limits_ends_what_waits),
        cmocka_unit_test(what_runs_is_asked_to_stop_and_its_wake_comes),
        cmocka_unit_test(the_earlier_of_two_limits_stops_what_runs),
        cmocka_unit_test(one_that_is_not_above_0_or_far_away_is_no_limit),
        cmocka_unit_test(the_workers_next_task_has_none),
        cmocka_unit_test(jobs_and_loop_bodies_inherit_it),
        cmocka_unit_test(it_ends_a_wait_at_a_channel),
        cmocka_unit_test(a_full_queue_of_such_tasks_takes_the_next),
        cmocka_unit_test(the_time_in_line_for_room_counts),
        cmocka_unit_test(what_has_expired_by_then_the_submitter_does_not_run),
        cmocka_unit_test(a_run_with_timeout_that_is_longer_tells_of_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
