/* Tasks: submitting them, one or many; tasks within tasks; how they are asked to stop; their names. */
#include "support.h"
#include "support/box.h"
#include <errno.h>

/* ---- Submitting ---- */

static void fn_gets_the_pointer_and_its_result_is_the_futures(void **unused) {
    (void)unused;
    tpool *pool = new_pool(2);
    int value = 0;
    void *result = NULL;
    tpool_future *future = submitted(pool, nothing, &value);
    assert_non_null(future);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
    assert_ptr_equal(&value, result);
    tpool_future_release(future);

    future = submitted(pool, nothing, NULL);
    result = &value;
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
    assert_null(result);
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_task_without_a_future_runs(void **unused) {
    (void)unused;
    tpool *pool = new_pool(2);
    atomic_int count = 0;
    tpool_task task = { .fn = count_up, .arg = &count };
    atomic_int *address = &count;
    assert_status(TPOOL_OK, tpool_submit(pool, count_up, &count, NULL));
    assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    assert_status(TPOOL_OK, tpool_submit_copy(pool, nothing, &address, sizeof address, NULL));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(2, atomic_load(&count));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* The task struct itself may die with the submit, whatever of it is used later. */
static void the_task_struct_is_copied(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    box b;
    box_init(&b);
    tpool_task task = box_task(box_fail, &b, false);
    task.name = "short lived";
    tpool_future *future = submitted_task(h.pool, task);
    memset(&task, 0xA5, sizeof task);
    b.future = future;
    gate_open(&h.gate);
    const tpool_error *error = NULL;
    assert_status(TPOOL_OK, tpool_future_error(future, LIMIT, &error));
    assert_string_equal("short lived", error->task);
    check_freed_once(&b, false, true);
    tpool_future_release(future);
    held_destroy(&h);
}

/* ---- submit_many ---- */

typedef struct order {
    atomic_int next;
} order;
typedef struct place {
    order *order;
    int at;
} place;
static void *note_place(void *arg) {
    place *p = arg;
    p->at = atomic_fetch_add(&p->order->next, 1);
    return p;
}

static void submit_many_takes_all_in_order(void **unused) {
    (void)unused;
    enum { TASKS = 100 };
    tpool *pool = new_pool(1);
    order o = { 0 };
    place places[TASKS];
    tpool_task tasks[TASKS] = { 0 };
    tpool_future *futures[TASKS] = { NULL };
    for (int i = 0; i < TASKS; i++) {
        places[i] = (place){ &o, -1 };
        tasks[i] = (tpool_task){ .fn = note_place, .arg = &places[i] };
    }
    size_t submitted = 12345;
    assert_status(TPOOL_OK, tpool_submit_many(pool, tasks, TASKS, futures, &submitted));
    assert_int_equal(TASKS, submitted);
    for (int i = 0; i < TASKS; i++) {
        void *result = NULL;
        assert_status(TPOOL_OK, tpool_future_result(futures[i], LIMIT, &result));
        assert_ptr_equal(&places[i], result);
        assert_int_equal(i, places[i].at);
        tpool_future_release(futures[i]);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void submit_many_needs_neither_futures_nor_a_count(void **unused) {
    (void)unused;
    tpool *pool = new_pool(2);
    atomic_int count = 0;
    tpool_task tasks[3] = { { .fn = count_up, .arg = &count },
                            { .fn = count_up, .arg = &count },
                            { .fn = count_up, .arg = &count } };
    size_t submitted = 12345;
    assert_status(TPOOL_OK, tpool_submit_many(pool, tasks, 3, NULL, &submitted));
    assert_int_equal(3, submitted);
    assert_status(TPOOL_OK, tpool_submit_many(pool, tasks, 3, NULL, NULL));
    tpool_future *futures[3] = { NULL };
    assert_status(TPOOL_OK, tpool_submit_many(pool, tasks, 3, futures, NULL));
    submitted = 12345;
    assert_status(TPOOL_OK, tpool_submit_many(pool, tasks, 0, futures + 3, &submitted));
    assert_int_equal(0, submitted);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(9, atomic_load(&count));
    for (int i = 0; i < 3; i++) {
        assert_true(tpool_future_done(futures[i]));
        tpool_future_release(futures[i]);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void submit_many_stops_at_the_first_that_finds_the_queue_full(void **unused) {
    (void)unused;
    for (int copied = 0; copied < 2; copied++) {
        held_pool h;
        held_create(&h, &(tpool_config){ .queue_capacity = 3, .on_full = TPOOL_FULL_REJECT });
        enum { TASKS = 5, TAKEN = 3 };
        box boxes[TASKS] = { 0 };
        tpool_task tasks[TASKS];
        tpool_future *futures[TASKS];
        for (int i = 0; i < TASKS; i++) {
            box_init(&boxes[i]);
            tasks[i] = box_task(box_run, &boxes[i], copied);
            futures[i] = h.holder;
        }
        size_t submitted = 12345;
        assert_status(TPOOL_FULL, tpool_submit_many(h.pool, tasks, TASKS, futures, &submitted));
        assert_int_equal(TAKEN, submitted);
        for (int i = 0; i < TAKEN; i++) assert_non_null(futures[i]);
        for (int i = TAKEN; i < TASKS; i++) assert_null(futures[i]);
        gate_open(&h.gate);
        for (int i = 0; i < TAKEN; i++) {
            assert_status(TPOOL_OK, tpool_future_result(futures[i], LIMIT, NULL));
            check_freed_once(&boxes[i], copied, true);
            tpool_future_release(futures[i]);
        }
        held_destroy(&h);
        for (int i = TAKEN; i < TASKS; i++) {
            assert_int_equal(0, atomic_load(&boxes[i].frees));
            assert_int_equal(0, atomic_load(&boxes[i].runs));
        }
    }
}

static void submit_many_stops_at_a_bad_task_and_at_a_shutdown(void **unused) {
    (void)unused;
    tpool *pool = new_pool(2);
    atomic_int count = 0;
    tpool_task tasks[4] = { { .fn = count_up, .arg = &count },
                            { .fn = count_up, .arg = &count },
                            { .fn = NULL, .arg = &count },
                            { .fn = count_up, .arg = &count } };
    tpool_future *futures[4] = { NULL };
    size_t submitted = 12345;
    assert_status(TPOOL_INVALID, tpool_submit_many(pool, tasks, 4, futures, &submitted));
    assert_int_equal(2, submitted);
    assert_null(futures[2]);
    assert_null(futures[3]);
    for (int i = 0; i < 2; i++) {
        assert_status(TPOOL_OK, end_of(futures[i]));
    }
    assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
    submitted = 12345;
    assert_status(TPOOL_SHUTDOWN, tpool_submit_many(pool, tasks, 2, futures, &submitted));
    assert_int_equal(0, submitted);
    assert_null(futures[0]);
    assert_null(futures[1]);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(2, atomic_load(&count));
}

static void submit_many_follows_the_policy_of_a_full_queue(void **unused) {
    (void)unused;
    enum { TASKS = 5 };
    atomic_int count = 0;
    tpool_task tasks[TASKS];
    for (int i = 0; i < TASKS; i++) tasks[i] = (tpool_task){ .fn = count_up, .arg = &count };
    tpool_future *futures[TASKS] = { NULL };
    size_t submitted = 0;
    held_pool h;

    /* One fits, the caller runs the other four. */
    held_create(&h, &(tpool_config){ .queue_capacity = 1, .on_full = TPOOL_FULL_CALLER_RUNS });
    assert_status(TPOOL_OK, tpool_submit_many(h.pool, tasks, TASKS, futures, &submitted));
    assert_int_equal(TASKS, submitted);
    assert_int_equal(TASKS - 1, atomic_load(&count));
    assert_int_equal(TPOOL_PENDING, tpool_future_state(futures[0]));
    for (int i = 1; i < TASKS; i++) assert_int_equal(TPOOL_FINISHED, tpool_future_state(futures[i]));
    held_destroy(&h);
    for (int i = 0; i < TASKS; i++) {
        assert_status(TPOOL_OK, tpool_future_result(futures[i], 0, NULL));
        tpool_future_release(futures[i]);
    }
    assert_int_equal(TASKS, atomic_load(&count));

    /* Two fit, and the newest win. */
    atomic_store(&count, 0);
    held_create(&h, &(tpool_config){ .queue_capacity = 2, .on_full = TPOOL_FULL_DROP_OLDEST });
    assert_status(TPOOL_OK, tpool_submit_many(h.pool, tasks, TASKS, futures, &submitted));
    assert_int_equal(TASKS, submitted);
    held_destroy(&h);
    for (int i = 0; i < TASKS; i++) {
        assert_status(i < TASKS - 2 ? TPOOL_CANCELLED : TPOOL_OK, tpool_future_result(futures[i], 0, NULL));
        tpool_future_release(futures[i]);
    }
    assert_int_equal(2, atomic_load(&count));
}

/* ---- Tasks within tasks: raise, return, arg_size and stop_requested speak of the innermost ---- */

typedef struct nest {
    tpool *pool;
    gate asked_to_stop;
    pthread_t outer_thread, inner_thread;
    tpool_status inner_submit, inner_end;
    bool outer_stop_before, inner_stop, outer_stop_after;
    size_t outer_size_before, inner_size, outer_size_after;
} nest;

static void *inner_task(void *arg) {
    nest *n = *(nest **)(void *)((char *)arg + 8);
    n->inner_thread = pthread_self();
    n->inner_stop = tpool_stop_requested();
    n->inner_size = tpool_arg_size();
    tpool_return("inner", 6);
    return tpool_raise(31, "the inner one failed");
}
static void *outer_task(void *arg) {
    nest *n = *(nest **)arg;
    n->outer_thread = pthread_self();
    gate_pass(&n->asked_to_stop);
    n->outer_stop_before = tpool_stop_requested();
    n->outer_size_before = tpool_arg_size();
    void *bytes = tpool_return("outer", 6);
    struct {
        char pad[8];
        nest *nest;
    } inner_arg = { "", n };
    tpool_future *inner = NULL;
    n->inner_submit = tpool_submit_copy(n->pool, inner_task, &inner_arg, sizeof inner_arg, &inner);
    n->inner_end = tpool_future_result(inner, TPOOL_FOREVER, NULL);
    tpool_future_release(inner);
    n->outer_stop_after = tpool_stop_requested();
    n->outer_size_after = tpool_arg_size();
    return bytes;
}

static void a_task_run_in_place_by_another_has_its_own_error_result_size_and_stop(void **unused) {
    (void)unused;
    nest n = { .pool = new_pool(1), .asked_to_stop = GATE_CLOSED, .inner_stop = true };
    nest *address = &n;
    tpool_future *future = NULL;
    void *result = NULL;
    assert_status(TPOOL_OK, tpool_submit_copy(n.pool, outer_task, &address, sizeof address, &future));
    gate_await_arrivals(&n.asked_to_stop, 1);
    tpool_future_request_stop(future);
    gate_open(&n.asked_to_stop);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
    assert_string_equal("outer", result);
    assert_int_equal(6, tpool_future_result_size(future));
    assert_status(TPOOL_OK, n.inner_submit);
    assert_status(TPOOL_FAILED, n.inner_end);
    assert_true(pthread_equal(n.outer_thread, n.inner_thread));
    assert_true(n.outer_stop_before);
    assert_false(n.inner_stop);
    assert_true(n.outer_stop_after);
    assert_int_equal(sizeof address, n.outer_size_before);
    assert_int_equal(8 + sizeof address, n.inner_size);
    assert_int_equal(sizeof address, n.outer_size_after);
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(n.pool));
}

static void *job_raises(void *arg) {
    (void)arg;
    return tpool_raise(41, "raised in a job");
}
static void *fork_and_join(void *arg) {
    tpool_job job;
    tpool_fork(&job, job_raises, NULL);
    tpool_join(&job);
    return arg;
}
static void body_raises(size_t begin, size_t end, void *context) {
    (void)context;
    for (size_t i = begin; i < end; i++)
        if (i == 5) tpool_raise(42, "raised at %zu", i);
}
static void *loop_over(void *arg) {
    tpool_status *status = arg;
    *status = tpool_for(tpool_current(), 0, 100, 1, body_raises, NULL);
    return arg;
}

static void what_a_job_or_a_loop_body_raises_is_the_error_of_the_task_around_it(void **unused) {
    (void)unused;
    for (int workers = 1; workers <= 2; workers++) {
        tpool *pool = new_pool(workers);
        tpool_future *future = NULL;
        const tpool_error *error = NULL;
        tpool_status loop_status = TPOOL_OK;
        future = submitted(pool, fork_and_join, &loop_status);
        assert_status(TPOOL_OK, tpool_future_error(future, LIMIT, &error));
        assert_non_null(error);
        assert_int_equal(41, error->code);
        assert_string_equal("raised in a job", error->message);
        tpool_future_release(future);

        future = submitted(pool, loop_over, &loop_status);
        assert_status(TPOOL_OK, tpool_future_error(future, LIMIT, &error));
        assert_status(TPOOL_FAILED, loop_status);
        assert_non_null(error);
        assert_int_equal(42, error->code);
        assert_string_equal("raised at 5", error->message);
        tpool_future_release(future);

        /* Without a task around it the error is the loop's alone. */
        assert_status(TPOOL_FAILED, tpool_for(pool, 0, 100, 1, body_raises, NULL));
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

/* ---- Asking to stop ---- */

/* Runs until it is asked to stop, or fails the test by telling that it was not. */
typedef struct stoppable {
    gate *started;
    int64_t stopped_at; /* 0: never asked */
} stoppable;

static void *run_until_stopped(void *arg) {
    stoppable *s = arg;
    int64_t end = tpool_now() + LIMIT;
    s->stopped_at = 0;
    if (s->started) gate_pass(s->started);
    while (tpool_now() < end) {
        if (tpool_stop_requested()) {
            s->stopped_at = tpool_now();
            break;
        }
        sleep_ms(1);
    }
    return arg;
}
static void *tell_stop(void *arg) {
    *(bool *)arg = tpool_stop_requested();
    return arg;
}

static void request_stop_reaches_the_running_task_and_only_it(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    gate started = GATE_CLOSED;
    stoppable s = { .started = &started };
    bool next_stopped = true;
    tpool_future *future = NULL, *next = NULL;
    future = submitted(pool, run_until_stopped, &s);
    next = submitted(pool, tell_stop, &next_stopped);
    gate_await_arrivals(&started, 1);
    gate_open(&started);
    tpool_future_request_stop(future);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, NULL)); /* to stop early is no failure */
    assert_true(s.stopped_at > 0);
    assert_status(TPOOL_OK, tpool_future_result(next, LIMIT, NULL));
    assert_false(next_stopped);
    tpool_future_request_stop(next); /* done: it does not care */
    assert_status(TPOOL_OK, tpool_future_result(next, 0, NULL));
    tpool_future_release(future);
    tpool_future_release(next);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_stop_asked_of_a_queued_task_is_seen_when_it_runs(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    bool first_stopped = false, second_stopped = true;
    tpool_future *first = NULL, *second = NULL;
    first = submitted(h.pool, tell_stop, &first_stopped);
    second = submitted(h.pool, tell_stop, &second_stopped);
    tpool_future_request_stop(first);
    assert_int_equal(TPOOL_PENDING, tpool_future_state(first));
    gate_open(&h.gate);
    assert_status(TPOOL_OK, tpool_future_result(first, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_future_result(second, LIMIT, NULL));
    assert_true(first_stopped);
    assert_false(second_stopped);
    tpool_future_release(first);
    tpool_future_release(second);
    held_destroy(&h);
}

static atomic_int parts_told, parts_not_told;
static void *job_tells_stop(void *arg) {
    atomic_fetch_add(tpool_stop_requested() ? &parts_told : &parts_not_told, 1);
    return arg;
}
static void body_tells_stop(size_t begin, size_t end, void *context) {
    for (size_t i = begin; i < end; i++) job_tells_stop(context);
}
static void *pass_stop_on(void *arg) {
    run_until_stopped(arg);
    tpool_job job;
    tpool_fork(&job, job_tells_stop, NULL);
    tpool_join(&job);
    tpool_status looped = tpool_for(tpool_current(), 0, 50, 1, body_tells_stop, NULL);
    if (looped != TPOOL_OK) atomic_fetch_add(&parts_not_told, 1);
    return arg;
}

static void jobs_and_loop_bodies_inherit_the_stop(void **unused) {
    (void)unused;
    tpool *pool = new_pool(2);
    stoppable s = { 0 };
    tpool_future *future = NULL;
    atomic_store(&parts_told, 0);
    atomic_store(&parts_not_told, 0);
    future = submitted(pool, pass_stop_on, &s);
    tpool_future_request_stop(future);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
    assert_int_equal(51, atomic_load(&parts_told));
    assert_int_equal(0, atomic_load(&parts_not_told));
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void run_limit_asks_the_task_to_stop(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    stoppable s = { 0 };
    bool next_stopped = true;
    tpool_task limited = { .fn = run_until_stopped, .arg = &s, .run_limit_ns = TPOOL_MS(30) };
    for (int round = 0; round < 2; round++) {
        /* The worker's next task has no limit, and inherits none. */
        int64_t begin = tpool_now();
        assert_status(TPOOL_OK, tpool_submit_task(pool, &limited, NULL));
        tpool_future *next = submitted(pool, tell_stop, &next_stopped);
        assert_status(TPOOL_OK, tpool_future_result(next, LIMIT, NULL));
        assert_true(s.stopped_at - begin >= TPOOL_MS(30));
        assert_false(next_stopped);
        tpool_future_release(next);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void run_limit_counts_from_the_start_and_not_from_the_submit(void **unused) {
    (void)unused;
    /* The first thing the task does is to look. That it loses the processor for the whole limit just there is
       possible, ten times in a row it is not. */
    bool stopped = true;
    for (int attempt = 0; attempt < 10 && stopped; attempt++) {
        held_pool h;
        held_create(&h, NULL);
        tpool_task task = { .fn = tell_stop, .arg = &stopped, .run_limit_ns = TPOOL_MS(100) };
        assert_status(TPOOL_OK, tpool_submit_task(h.pool, &task, NULL));
        sleep_ms(120);
        held_destroy(&h);
    }
    assert_false(stopped);
}

static void shutdown_can_ask_what_runs_to_stop(void **unused) {
    (void)unused;
    tpool *pool = new_pool(2);
    gate started = GATE_CLOSED;
    stoppable both[2] = { { .started = &started }, { .started = &started } };
    tpool_future *futures[2] = { NULL };
    for (int i = 0; i < 2; i++) {
        futures[i] = submitted(pool, run_until_stopped, &both[i]);
    }
    gate_await_arrivals(&started, 2);
    gate_open(&started);
    assert_status(TPOOL_OK, tpool_shutdown(pool, 0)); /* without the flag they go on; it can be added */
    sleep_ms(20);
    assert_true(tpool_future_running(futures[0]) && tpool_future_running(futures[1]));
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_STOP_RUNNING | TPOOL_WAIT));
    for (int i = 0; i < 2; i++) {
        assert_status(TPOOL_OK, tpool_future_result(futures[i], 0, NULL));
        assert_true(both[i].stopped_at > 0);
        tpool_future_release(futures[i]);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Names ---- */

static void errors_carry_the_tasks_name(void **unused) {
    (void)unused;
    enum { FAILS, EXPIRES, IS_CANCELLED, IS_DROPPED, BREAKS, NAMELESS, TASKS };
    held_pool h;
    held_create(&h, &(tpool_config){ .queue_capacity = 5, .on_full = TPOOL_FULL_DROP_OLDEST });
    int code = 1;
    atomic_int freed = 0;
    tpool_task tasks[TASKS] = {
        [IS_DROPPED] = { .fn = nothing, .name = "is dropped" },
        [FAILS] = { .fn = raise_code, .arg = &code, .name = "fails" },
        [EXPIRES] = { .fn = nothing, .name = "expires", .expires_ns = TPOOL_MS(50) },
        [IS_CANCELLED] = { .fn = nothing, .name = "is cancelled" },
        [BREAKS] = { .fn = return_owned_then_end_thread, .arg = &freed, .name = "breaks" },
        [NAMELESS] = { .fn = raise_code, .arg = &code },
    };
    tpool_status ends[TASKS] = {
        [IS_DROPPED] = TPOOL_CANCELLED,   [FAILS] = TPOOL_FAILED,  [EXPIRES] = TPOOL_EXPIRED,
        [IS_CANCELLED] = TPOOL_CANCELLED, [BREAKS] = TPOOL_BROKEN, [NAMELESS] = TPOOL_FAILED,
    };
    tpool_future *futures[TASKS] = { NULL };
    /* The oldest, for which there is no room in the end. */
    futures[IS_DROPPED] = submitted_task(h.pool, tasks[IS_DROPPED]);
    for (int i = 0; i < TASKS; i++) {
        if (i != IS_DROPPED) assert_status(TPOOL_OK, tpool_submit_task(h.pool, &tasks[i], &futures[i]));
    }
    assert_true(tpool_future_cancel(futures[IS_CANCELLED]));
    assert_status(TPOOL_EXPIRED, tpool_future_result(futures[EXPIRES], LIMIT, NULL));
    held_destroy(&h);
    for (int i = 0; i < TASKS; i++) {
        const tpool_error *error = NULL;
        tpool_status asked = ends[i] == TPOOL_CANCELLED ? TPOOL_CANCELLED : TPOOL_OK;
        assert_status(asked, tpool_future_error(futures[i], 0, &error));
        assert_non_null(error);
        assert_status(ends[i], error->status);
        assert_status(error->status, error->cause);
        assert_non_null(error->message);
        if (i == NAMELESS) {
            assert_null(error->task);
        } else {
            assert_non_null(error->task);
            assert_string_equal(tasks[i].name, error->task);
        }
        tpool_future_release(futures[i]);
    }
}

static const struct CMUnitTest tests[] = {
    TEST(fn_gets_the_pointer_and_its_result_is_the_futures),
    TEST(a_task_without_a_future_runs),
    TEST(the_task_struct_is_copied),
    TEST(submit_many_takes_all_in_order),
    TEST(submit_many_needs_neither_futures_nor_a_count),
    TEST(submit_many_stops_at_the_first_that_finds_the_queue_full),
    TEST(submit_many_stops_at_a_bad_task_and_at_a_shutdown),
    TEST(submit_many_follows_the_policy_of_a_full_queue),
    TEST(a_task_run_in_place_by_another_has_its_own_error_result_size_and_stop),
    TEST(what_a_job_or_a_loop_body_raises_is_the_error_of_the_task_around_it),
    TEST(request_stop_reaches_the_running_task_and_only_it),
    TEST(a_stop_asked_of_a_queued_task_is_seen_when_it_runs),
    TEST(jobs_and_loop_bodies_inherit_the_stop),
    TEST(run_limit_asks_the_task_to_stop),
    TEST(run_limit_counts_from_the_start_and_not_from_the_submit),
    TEST(shutdown_can_ask_what_runs_to_stop),
    TEST(errors_carry_the_tasks_name),
};
RUN_TESTS(tests)
