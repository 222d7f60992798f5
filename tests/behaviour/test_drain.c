/* Draining, and ending a pool from inside it: from arg_free, a result's free, a loop, a callback; and loops during a
   pause. */
#include "support.h"

/* ---- Draining ---- */

/* The worker may still be leaving its task when the result is there, but it is not long about it. */
static void drain_without_time_tells_soon_that_a_used_pool_is_at_rest(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 2 });
    for (int i = 0; i < 20; i++) {
        assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
        EVENTUALLY(tpool_drain(pool, 0) == TPOOL_OK);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* What the three calls that wait for a whole pool say in one place or another. */
typedef struct ending {
    tpool *pool;
    tpool_status drain, shutdown, destroy;
    atomic_int asked;
} ending;
static void try_to_end(ending *e) {
    e->drain = tpool_drain(e->pool, TPOOL_MS(200));
    if (e->drain == TPOOL_DEADLOCK) { /* else these might hang */
        e->shutdown = tpool_shutdown(e->pool, TPOOL_WAIT | TPOOL_CANCEL_PENDING | TPOOL_STOP_RUNNING);
        e->destroy = tpool_destroy(e->pool);
    }
    atomic_fetch_add(&e->asked, 1);
}

static void *end_from_item(void *item, void *context) {
    (void)item;
    try_to_end(context);
    return NULL;
}
static void end_from_body(size_t begin, size_t end, void *context) {
    (void)begin;
    (void)end;
    try_to_end(context);
}

static void drain_tells_at_once_that_a_warm_pool_is_at_rest(void **state) {
    (void)state;
    int untrue = 0;
    for (int i = 0; i < 10; i++) {
        tpool *pool = new_pool_as((tpool_config){ .max_workers = 2 });
        assert_status(TPOOL_OK, tpool_warm_up(pool, 2));
        if (tpool_drain(pool, 0) != TPOOL_OK) untrue++;
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
    assert_int_equal(0, untrue);
}
static void end_in_free(void *arg) { try_to_end(*(ending **)arg); }
static void end_in_result_free(void *arg) { try_to_end(arg); }
static void end_in_callback(tpool_future *future, void *context) {
    (void)future;
    try_to_end(context);
}
static void *return_owned(void *arg) { return tpool_return_owned(arg, end_in_result_free); }
static void *return_owned_and_raise(void *arg) {
    tpool_return_owned(arg, end_in_result_free);
    return tpool_raise(1, "no");
}
static void check_deadlock(ending *e) {
    assert_int_equal(1, atomic_load(&e->asked));
    assert_status(TPOOL_DEADLOCK, e->drain);
    assert_status(TPOOL_DEADLOCK, e->shutdown);
    assert_status(TPOOL_DEADLOCK, e->destroy);
}

static void ending_its_pool_from_arg_free_is_a_deadlock(void **state) {
    (void)state;
    static ending run, cancelled;
    static gate hold;
    hold = (gate)GATE_CLOSED;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    run = cancelled = (ending){ .pool = pool };
    ending *run_at = &run, *cancelled_at = &cancelled;
    tpool_task task = { .fn = nothing, .arg = &run_at, .arg_size = sizeof run_at, .arg_free = end_in_free };
    assert_status(TPOOL_OK, end_of(submitted_task(pool, task)));
    tpool_future *holder = submitted(pool, gate_task, &hold);
    gate_await_arrivals(&hold, 1);
    task.arg = &cancelled_at;
    tpool_future *pending = submitted_task(pool, task);
    bool cancel = tpool_future_cancel(pending); /* here arg_free runs on this thread */
    gate_open(&hold);
    assert_status(TPOOL_OK, end_of(holder));
    assert_status(TPOOL_CANCELLED, end_of(pending));
    assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL)); /* nothing has changed */
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_true(cancel);
    check_deadlock(&run);
    check_deadlock(&cancelled);
}

static void ending_its_pool_from_the_free_of_a_result_that_nobody_holds_is_a_deadlock(void **state) {
    (void)state;
    static ending kept, failed;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    kept = failed = (ending){ .pool = pool };
    assert_status(TPOOL_OK, tpool_submit(pool, return_owned, &kept, NULL));
    assert_status(TPOOL_OK, tpool_submit(pool, return_owned_and_raise, &failed, NULL));
    EVENTUALLY(atomic_load(&kept.asked) == 1 && atomic_load(&failed.asked) == 1);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    check_deadlock(&failed);
    check_deadlock(&kept);
}

static void *end_from_task(void *arg) {
    try_to_end(arg);
    return NULL;
}
static void ending_its_pool_from_a_callers_run_outside_is_a_deadlock(void **state) {
    (void)state;
    static ending task, callback;
    static gate hold;
    hold = (gate)GATE_CLOSED;
    tpool *pool =
        new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1, .on_full = TPOOL_FULL_CALLER_RUNS });
    task = callback = (ending){ .pool = pool };
    tpool_future *holder = submitted(pool, gate_task, &hold);
    gate_await_arrivals(&hold, 1);
    tpool_future *filler = submitted(pool, nothing, NULL);
    tpool_future *run = submitted(pool, end_from_task, &task);
    bool done = tpool_future_done(run);
    tpool_status added = tpool_future_add_done_callback(run, end_in_callback, &callback);
    gate_open(&hold);
    assert_status(TPOOL_OK, end_of(holder));
    assert_status(TPOOL_OK, end_of(filler));
    assert_status(TPOOL_OK, end_of(run));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_true(done);
    assert_status(TPOOL_OK, added);
    check_deadlock(&task);
    check_deadlock(&callback);
}
static void *end_from_job(void *arg) {
    try_to_end(arg);
    return NULL;
}
static void *fork_and_join_end(void *arg) {
    tpool_job job;
    tpool_fork(&job, end_from_job, arg);
    return tpool_join(&job);
}
static void ending_its_pool_from_an_item_a_body_or_a_job_is_a_deadlock(void **state) {
    (void)state;
    static ending item, body, job;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    item = body = job = (ending){ .pool = pool };
    int one = 1;
    tpool_map_iter *iter = NULL;
    tpool_map_spec spec = { .fn = end_from_item, .context = &item, .items = &one, .count = 1, .stride = sizeof one };
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, NULL));
    tpool_map_close(iter);
    assert_status(TPOOL_OK, tpool_for(pool, 0, 1, 1, end_from_body, &body));
    assert_status(TPOOL_OK, end_of(submitted(pool, fork_and_join_end, &job)));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    check_deadlock(&item);
    check_deadlock(&body);
    check_deadlock(&job);
}

/* The memory of a pool that is gone may be another's by now: its futures' callbacks are not that one's. */
static void a_callback_of_a_pool_that_is_gone_may_end_a_new_one(void **state) {
    (void)state;
    static ending e;
    int deadlocks = 0;
    for (int i = 0; i < 10; i++) {
        tpool *old = new_pool_as((tpool_config){ .max_workers = 1 });
        tpool_future *future = submitted(old, nothing, NULL);
        assert_status(TPOOL_OK, tpool_destroy(old));
        e = (ending){ .pool = new_pool_as((tpool_config){ .max_workers = 1 }) };
        assert_status(TPOOL_OK, tpool_future_add_done_callback(future, end_in_callback, &e));
        deadlocks += e.drain == TPOOL_DEADLOCK;
        tpool_future_release(future);
        assert_status(TPOOL_OK, tpool_destroy(e.pool));
    }
    assert_int_equal(0, deadlocks);
}

/* ---- A pause ---- */

typedef struct paused_loop {
    tpool *pool;
    pthread_t looper;
    gate in_callers_part, in_workers_part;
    atomic_int by_others, by_caller;
    tpool_status loop;
} paused_loop;
static void tell_part(size_t begin, size_t end, void *context) {
    paused_loop *p = context;
    (void)end;
    if (begin == 0) { /* alone */
        compute_for(TPOOL_US(200));
        return;
    }
    bool own = pthread_equal(pthread_self(), p->looper);
    if (atomic_fetch_add(own ? &p->by_caller : &p->by_others, 1) > 0) return;
    gate_pass(own ? &p->in_callers_part : &p->in_workers_part);
}
static void *loop_in_thread(void *arg) {
    paused_loop *p = arg;
    p->looper = pthread_self();
    p->loop = tpool_for(p->pool, 0, 1000, 1, tell_part, p);
    return NULL;
}
static void during_a_pause_a_loop_goes_on_and_others_take_no_more_of_it(void **state) {
    (void)state;
    static paused_loop p;
    p = (paused_loop){ .in_callers_part = GATE_CLOSED, .in_workers_part = GATE_CLOSED };
    p.pool = new_pool_as((tpool_config){ .max_workers = 1 });
    pthread_t thread;
    assert_int_equal(0, pthread_create(&thread, NULL, loop_in_thread, &p));
    gate_await_arrivals(&p.in_callers_part, 1);
    gate_await_arrivals(&p.in_workers_part, 1);
    assert_status(TPOOL_OK, tpool_pause(p.pool));
    gate_open(&p.in_workers_part);
    EVENTUALLY(stats_of(p.pool).active == 0 || atomic_load(&p.by_others) > 1);
    int by_others = atomic_load(&p.by_others);
    gate_open(&p.in_callers_part);
    pthread_join(thread, NULL); /* without a resume */
    int by_caller = atomic_load(&p.by_caller);
    assert_status(TPOOL_OK, tpool_destroy(p.pool));
    assert_status(TPOOL_OK, p.loop);
    assert_int_equal(1, by_others);
    assert_true(by_caller > 1);
}

static const struct CMUnitTest tests[] = {
    TEST(drain_without_time_tells_soon_that_a_used_pool_is_at_rest),
    TEST(drain_tells_at_once_that_a_warm_pool_is_at_rest),
    TEST(ending_its_pool_from_arg_free_is_a_deadlock),
    TEST(ending_its_pool_from_the_free_of_a_result_that_nobody_holds_is_a_deadlock),
    TEST(ending_its_pool_from_a_callers_run_outside_is_a_deadlock),
    TEST(ending_its_pool_from_an_item_a_body_or_a_job_is_a_deadlock),
    TEST(a_callback_of_a_pool_that_is_gone_may_end_a_new_one),
    TEST(during_a_pause_a_loop_goes_on_and_others_take_no_more_of_it),
};
RUN_TESTS(tests)
