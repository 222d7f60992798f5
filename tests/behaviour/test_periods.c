/* Periodic tasks: their times, which do not drift; what ends them; one future, argument and arg_free for all runs. */
#include "support.h"
#include "support/no_thread_leaks.h"
#include "behaviour/periods.h"

/* ---- Its times */
static void it_runs_again_and_again(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    runner r = { .last = 10 };
    int64_t period = TPOOL_MS(2), before = tpool_now();
    tpool_future *future = submitted_task(pool, every(period, &r));
    assert_ptr_equal(&r, take(future));
    assert_ran(10, &r);
    for (int i = 0; i < 10; i++) assert_true(r.started[i] - before >= i * period); /* never early */
    tpool_stats stats = stats_of(pool);
    assert_int_equal(1, stats.submitted);
    assert_int_equal(1, stats.completed);
    assert_int_equal(0, stats.held);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void the_first_time_comes_after_what_holds_it(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    runner r = { .last = 3 };
    tpool_future *first = bare();
    tpool_task task = every(TPOOL_MS(1), &r);
    task.after = &first;
    task.after_count = 1;
    task.delay_ns = TPOOL_MS(10);
    tpool_future *future = submitted_task(pool, task);
    assert_status(TPOOL_TIMEOUT, tpool_future_result(future, TPOOL_MS(20), NULL));
    assert_int_equal(0, atomic_load(&r.runs));
    int64_t before = tpool_now();
    complete(first);
    assert_ptr_equal(&r, take(future));
    for (int i = 0; i < 3; i++) assert_true(r.started[i] - before >= TPOOL_MS(10) + i * TPOOL_MS(1));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* Times that pass during a run are skipped: the runs behind it are a period apart, as ever. */
static void an_overrun_is_followed_by_no_burst(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    gate g = GATE_CLOSED;
    runner r = { .gate = &g, .last = 5 };
    int64_t period = TPOOL_MS(3);
    tpool_future *future = at_gate(pool, period, &r);
    int64_t until = tpool_now() + 10 * period;
    while (tpool_now() < until) sleep_ms(1);
    int64_t opened = tpool_now();
    gate_open(&g);
    assert_ptr_equal(&r, take(future));
    for (int i = 1; i < 5; i++) assert_true(r.started[i] - opened >= (i - 1) * period);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void runs_never_overlap(void **state) {
    (void)state;
    tpool *pool = new_pool(4);
    runner r = { .last = 300, .lasts = TPOOL_US(20) };
    tpool_future *future = submitted_task(pool, every(1, &r)); /* each run takes many periods */
    assert_ptr_equal(&r, take(future));
    assert_int_equal(300, atomic_load(&r.runs));
    assert_int_equal(0, atomic_load(&r.overlaps));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_period_beyond_the_end_of_time(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    runner r = { 0 };
    tpool_future *future = submitted_task(pool, every(TPOOL_FOREVER, &r));
    await_between(pool, &r, 1);
    assert_true(tpool_future_cancel(future));
    assert_status(TPOOL_CANCELLED, end_of(future));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void what_is_invalid(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    runner r = { 0 };
    tpool_task task = every(1, &r);
    task.fn = NULL;
    assert_status(TPOOL_INVALID, tpool_submit_task(pool, &task, NULL));
    task.delay_ns = 1;
    assert_status(TPOOL_INVALID, tpool_submit_task(pool, &task, NULL));
    task = every(1, &r);
    task.expires_ns = 1;
    assert_status(TPOOL_INVALID, tpool_submit_task(pool, &task, NULL));
    task = every(1, &r);
    task.timeout_ns = 1;
    assert_status(TPOOL_INVALID, tpool_submit_task(pool, &task, NULL));
    task = every(1, &r);
    task.retries = 1;
    tpool_future *future = (tpool_future *)&r;
    assert_status(TPOOL_INVALID, tpool_submit_task(pool, &task, &future));
    assert_null(future);
    task = every(-1, &r); /* not periodic: that holds for 0 and less */
    task.expires_ns = TPOOL_SEC(1000);
    assert_ptr_equal(&r, take(submitted_task(pool, task)));
    assert_ran(1, &r);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- What ends it */
static void it_is_cancelled_between_two_runs(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    runner r = { 0 };
    atomic_int told = 0;
    tpool_future *future = submitted_task(pool, every(NEVER, &r));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(future, count_callback, &told));
    await_between(pool, &r, 1);
    assert_int_equal(TPOOL_PENDING, tpool_future_state(future));
    assert_false(tpool_future_done(future));
    assert_int_equal(0, atomic_load(&r.freed));
    assert_int_equal(0, atomic_load(&told));
    assert_true(tpool_future_cancel(future));
    assert_int_equal(1, atomic_load(&r.freed));
    assert_int_equal(1, atomic_load(&told));
    assert_status(TPOOL_CANCELLED, end_of(future));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(1, stats_of(pool).cancelled);
    assert_int_equal(0, stats_of(pool).completed);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void it_is_not_cancelled_in_a_run(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    gate g = GATE_CLOSED;
    runner r = { .gate = &g };
    tpool_future *future = at_gate(pool, NEVER, &r);
    assert_false(tpool_future_cancel(future));
    assert_true(tpool_future_running(future));
    gate_open(&g);
    await_between(pool, &r, 1);
    assert_false(tpool_future_running(future));
    assert_true(tpool_future_cancel(future));
    assert_true(tpool_future_cancel(future));
    assert_status(TPOOL_CANCELLED, end_of(future));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void cancel_against_firing(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    long n = COUNT(3000);
    atomic_int freed = 0, ran = 0;
    for (long i = 0; i < n; i++) {
        tpool_task task = {
            .fn = count_up, .arg = i % 2 ? &ran : &freed, .period_ns = 1 + i % 40 * 1000, .delay_ns = i % 3
        };
        task.arg_free = i % 2 ? NULL : count_free;
        tpool_future *future = submitted_task(pool, task);
        int64_t until = tpool_now() + i % 7 * 20000;
        while (tpool_now() < until) { }
        while (!tpool_future_cancel(future)) { }
        assert_status(TPOOL_CANCELLED, end_of(future));
    }
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(n, stats_of(pool).cancelled);
    assert_int_equal(0, stats_of(pool).completed);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_stop_between_two_runs(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    runner r = { 0 };
    for (int i = 0; i < 2; i++) { /* after the first run, and before it */
        tpool_task task = every(NEVER, &r);
        task.delay_ns = i ? NEVER : 0;
        tpool_future *future = submitted_task(pool, task);
        await_between(pool, &r, 1);
        tpool_future_request_stop(future);
        void *value = &r;
        assert_status(TPOOL_OK, tpool_future_result(future, 0, &value));
        assert_null(value);
        assert_int_equal(TPOOL_FINISHED, tpool_future_state(future));
        assert_int_equal(1 + i, atomic_load(&r.freed));
        tpool_future_release(future);
    }
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(1, atomic_load(&r.runs));
    assert_int_equal(2, stats_of(pool).completed);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void *owned_at_gate(void *arg) {
    runner *r = (runner *)arg;
    atomic_fetch_add(&r->runs, 1);
    if (r->gate) gate_pass(r->gate);
    return tpool_return_owned(arg, free_runner);
}
/* With a stop the run at hand is the last, and what it returns is nobody's. */
static void a_stop_in_a_run(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    gate g = GATE_CLOSED;
    runner r = { .gate = &g };
    tpool_future *future =
        submitted_task(pool, (tpool_task){ .fn = owned_at_gate, .arg = &r, .period_ns = TPOOL_US(1) });
    AWAIT_ARRIVALS(&g, 1);
    tpool_future_request_stop(future);
    assert_false(tpool_future_done(future));
    gate_open(&g);
    void *value = &r;
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &value));
    assert_null(value);
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_ran(1, &r);
}
static void stop_against_firing(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    long n = COUNT(3000);
    runner r = { 0 };
    for (long i = 0; i < n; i++) {
        tpool_future *future = submitted_task(pool, every(1 + i % 40 * 1000, &r));
        int64_t until = tpool_now() + i % 7 * 20000;
        while (tpool_now() < until) { }
        tpool_future_request_stop(future);
        assert_null(take(future));
    }
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(n, atomic_load(&r.freed));
    assert_int_equal(n, stats_of(pool).completed);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void stop_of_what_the_pool_runs(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    gate g = GATE_CLOSED;
    runner r = { .gate = &g };
    tpool_future *future = at_gate(pool, TPOOL_US(1), &r);
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_STOP_RUNNING));
    gate_open(&g);
    assert_null(take(future));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(1, atomic_load(&r.runs));
}
static atomic_int reports;
static void count_report(const tpool_error *error, void *context) {
    *(tpool_error *)context = *error;
    ((tpool_error *)context)->message = NULL;
    atomic_fetch_add(&reports, 1);
}
/* A failure is reported although the future is held. */
static void a_run_that_fails(void **state) {
    (void)state;
    tpool_error seen = { 0 };
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .on_failure = count_report, .context = &seen });
    atomic_store(&reports, 0);
    for (int i = 0; i < 2; i++) {
        runner r = { .fails = 3 };
        tpool_task task = every(TPOOL_US(100), &r);
        task.name = "sampler";
        tpool_future *future = NULL;
        assert_status(TPOOL_OK, tpool_submit_task(pool, &task, i ? NULL : &future));
        EVENTUALLY(atomic_load(&reports) == 1 + i);
        assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
        assert_int_equal(TPOOL_FAILED, seen.status);
        assert_int_equal(3, seen.code);
        assert_string_equal("sampler", seen.task);
        if (future) assert_string_equal("run 3", tpool_future_message(future));
        if (future) assert_status(TPOOL_FAILED, end_of(future));
        assert_ran(3, &r);
    }
    assert_int_equal(2, stats_of(pool).failed);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_run_that_ends_its_thread(void **state) {
    (void)state;
    tpool_error seen = { 0 };
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .on_failure = count_report, .context = &seen });
    atomic_store(&reports, 0);
    runner r = { .ends = 2 };
    tpool_future *future = submitted_task(pool, every(TPOOL_US(100), &r));
    assert_status(TPOOL_BROKEN, end_of(future));
    EVENTUALLY(atomic_load(&reports) == 1);
    assert_works(pool);
    assert_int_equal(TPOOL_BROKEN, seen.status);
    assert_ran(2, &r);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void *end_itself(void *arg) {
    runner *r = (runner *)arg;
    gate_pass(r->gate);
    if (atomic_fetch_add(&r->runs, 1) < 1) return tpool_future_cancel(r->itself) ? NULL : arg;
    tpool_future_request_stop(r->itself);
    return tpool_stop_requested() ? arg : tpool_raise(1, "no stop");
}
static void it_stops_itself(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    gate g = GATE_CLOSED;
    runner r = { .gate = &g };
    r.itself = submitted_task(
        pool, (tpool_task){ .fn = end_itself, .arg = &r, .arg_free = free_runner, .period_ns = TPOOL_US(100) });
    gate_open(&g);
    assert_null(take(r.itself));
    assert_ran(2, &r);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void *wait_for_itself(void *arg) {
    runner *r = (runner *)arg;
    gate_pass(r->gate);
    if (tpool_future_result(r->itself, TPOOL_FOREVER, NULL) == TPOOL_DEADLOCK) atomic_fetch_add(&r->runs, 1);
    if (atomic_load(&r->runs) == 2) tpool_last_run();
    return NULL;
}
static void it_waits_for_itself(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    gate g = GATE_CLOSED;
    runner r = { .gate = &g };
    r.itself = submitted_task(pool, (tpool_task){ .fn = wait_for_itself, .arg = &r, .period_ns = TPOOL_US(100) });
    gate_open(&g);
    assert_null(take(r.itself));
    assert_int_equal(2, atomic_load(&r.runs));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* Results of the runs before the last are freed, each once. */
static void *owned(void *arg) {
    runner *r = (runner *)arg;
    if (atomic_fetch_add(&r->runs, 1) == 3) {
        tpool_last_run();
        return tpool_return("last", 5);
    }
    return tpool_return_owned(arg, free_runner);
}
static void the_last_runs_result_is_the_tasks(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    runner r = { 0 };
    tpool_future *future = submitted_task(pool, (tpool_task){ .fn = owned, .arg = &r, .period_ns = TPOOL_US(100) });
    void *value = NULL;
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &value));
    assert_string_equal("last", value);
    assert_int_equal(5, tpool_future_result_size(future));
    assert_int_equal(3, atomic_load(&r.freed));
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void *last_in_a_job(void *arg) {
    tpool_last_run();
    return arg;
}
static void *last_by_a_job(void *arg) {
    tpool_job job;
    tpool_fork(&job, last_in_a_job, arg);
    return tpool_join(&job);
}
static void last_run_elsewhere(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    tpool_last_run(); /* in no task: nothing */
    assert_ptr_equal(pool, take(submitted(pool, last_in_a_job, pool)));
    tpool_task named = { .fn = last_in_a_job, .arg = pool, .name = "plain" };
    assert_ptr_equal(pool, take(submitted_task(pool, named)));
    tpool_task task = { .fn = last_by_a_job, .arg = pool, .period_ns = 1 };
    assert_ptr_equal(pool, take(submitted_task(pool, task)));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* A run limit is each run's, and does not end the task. */
static void *run_to_the_limit(void *arg) {
    runner *r = (runner *)arg;
    if (tpool_stop_requested()) return tpool_raise(1, "at the start");
    while (!tpool_stop_requested()) sleep_ms(1);
    if (atomic_fetch_add(&r->runs, 1) == 2) tpool_last_run();
    return arg;
}
static void a_run_limit_is_each_runs(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    runner r = { 0 };
    tpool_task task = { .fn = run_to_the_limit,
                        .arg = &r,
                        .period_ns = TPOOL_MS(1),
                        .run_limit_ns = IS_SLOW ? TPOOL_SEC(1) : TPOOL_MS(200) };
    assert_ptr_equal(&r, take(submitted_task(pool, task)));
    assert_int_equal(3, atomic_load(&r.runs));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void *count_in_copy(void *arg) {
    int *count = (int *)arg;
    if (++*count == 5) tpool_last_run();
    return (void *)(intptr_t)*count;
}
static void a_copy_keeps_what_a_run_leaves_in_it(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    int count = 0;
    tpool_task task = { .fn = count_in_copy, .arg = &count, .arg_size = sizeof count, .period_ns = 1 };
    assert_int_equal(5, (intptr_t)take(submitted_task(pool, task)));
    assert_int_equal(0, count);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void *see_dependency(void *arg) {
    runner *r = (runner *)arg;
    if (tpool_dependency(0) != r->itself || tpool_dependency(1)) return tpool_raise(1, "not there");
    if (atomic_fetch_add(&r->runs, 1) == 3) tpool_last_run();
    return arg;
}
static void each_run_sees_its_dependencies(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    static const tpool_after whens[] = { TPOOL_AFTER_SUCCESS, TPOOL_AFTER_DONE, TPOOL_AFTER_ANY };
    for (int i = 0; i < 3; i++) {
        runner r = { .itself = bare() };
        tpool_task task = after(see_dependency, &r, &r.itself, 1, whens[i]);
        task.period_ns = TPOOL_US(50);
        tpool_future *future = submitted_task(pool, task);
        complete(r.itself);
        assert_ptr_equal(&r, take(future));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_dependency_that_fails(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    runner r = { 0 };
    tpool_future *first = bare();
    tpool_task task = every(1, &r);
    task.after = &first;
    task.after_count = 1;
    tpool_future *future = submitted_task(pool, task);
    assert_status(TPOOL_OK, tpool_future_set_error(first, 5, "no"));
    tpool_future_release(first);
    assert_status(TPOOL_CANCELLED, end_of(future));
    assert_ran(0, &r);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(it_runs_again_and_again),
        TEST(the_first_time_comes_after_what_holds_it),
        TEST(an_overrun_is_followed_by_no_burst),
        TEST(runs_never_overlap),
        TEST(a_period_beyond_the_end_of_time),
        TEST(what_is_invalid),
        TEST(it_is_cancelled_between_two_runs),
        TEST(it_is_not_cancelled_in_a_run),
        TEST(cancel_against_firing),
        TEST(a_stop_between_two_runs),
        TEST(a_stop_in_a_run),
        TEST(stop_against_firing),
        TEST(stop_of_what_the_pool_runs),
        TEST(a_run_that_fails),
        TEST(a_run_that_ends_its_thread),
        TEST(it_stops_itself),
        TEST(it_waits_for_itself),
        TEST(the_last_runs_result_is_the_tasks),
        TEST(last_run_elsewhere),
        TEST(a_run_limit_is_each_runs),
        TEST(a_copy_keeps_what_a_run_leaves_in_it),
        TEST(each_run_sees_its_dependencies),
        TEST(a_dependency_that_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
