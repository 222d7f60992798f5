/* Ending a pool from within: whoever would wait for himself is told of the deadlock, and another pool's end is no
   deadlock. What tasks touch is static, so that it is still there when a failed assertion has left the test. */
#include "support.h"

/* --- DEADLOCK for whoever would wait for himself */

typedef struct endings {
    tpool_status drain, drain_look, shutdown, shutdown_all, destroy;
} endings;

static void try_to_end(tpool *pool, endings *seen) {
    seen->drain = tpool_drain(pool, LIMIT);
    seen->drain_look = tpool_drain(pool, 0);
    seen->shutdown = tpool_shutdown(pool, TPOOL_WAIT);
    seen->shutdown_all = tpool_shutdown(pool, TPOOL_WAIT | TPOOL_CANCEL_PENDING | TPOOL_STOP_RUNNING);
    seen->destroy = tpool_destroy(pool);
}

static void assert_deadlocks(const endings *seen) {
    assert_status(TPOOL_DEADLOCK, seen->drain);
    assert_status(TPOOL_DEADLOCK, seen->drain_look);
    assert_status(TPOOL_DEADLOCK, seen->shutdown);
    assert_status(TPOOL_DEADLOCK, seen->shutdown_all);
    assert_status(TPOOL_DEADLOCK, seen->destroy);
}

typedef struct end_attempt {
    tpool *pool, *other;
    endings seen, seen_other;
    bool stop_requested;
    tpool_future *wanted;
} end_attempt;

static void *end_own_pool(void *arg) {
    end_attempt *attempt = arg;
    try_to_end(attempt->pool, &attempt->seen);
    attempt->stop_requested = tpool_stop_requested();
    return NULL;
}

static void ending_its_pool_from_a_task_is_a_deadlock(void **state) {
    (void)state;
    static end_attempt attempt;
    static atomic_int runs;
    attempt.pool = new_pool(1);
    assert_status(TPOOL_OK, tpool_pause(attempt.pool));
    tpool_future *future = submitted(attempt.pool, end_own_pool, &attempt);
    tpool_future *pending = submitted(attempt.pool, count_up, &runs);
    assert_status(TPOOL_OK, tpool_resume(attempt.pool));
    assert_status(TPOOL_OK, end_of(future));
    assert_deadlocks(&attempt.seen);
    assert_false(attempt.stop_requested);
    assert_status(TPOOL_OK, end_of(pending)); /* nothing was cancelled */
    assert_int_equal(1, atomic_load(&runs));
    assert_works(attempt.pool);
    assert_status(TPOOL_OK, tpool_destroy(attempt.pool));
}

static atomic_int callbacks_run;
static void end_pools_in_callback(tpool_future *future, void *context) {
    (void)future;
    end_attempt *attempt = context;
    try_to_end(attempt->pool, &attempt->seen);
    if (attempt->other) try_to_end(attempt->other, &attempt->seen_other);
    atomic_fetch_add(&callbacks_run, 1);
}

static void ending_its_pool_from_a_callback_is_a_deadlock_on_any_thread(void **state) {
    (void)state;
    static end_attempt on_worker, in_cancel;
    static gate hold = GATE_CLOSED;
    atomic_store(&callbacks_run, 0);
    tpool *pool = new_pool(1);
    on_worker.pool = in_cancel.pool = pool;

    /* On the worker that finishes the task. */
    tpool_future *running = submitted(pool, gate_task, &hold), *pending = submitted(pool, nothing, NULL);
    AWAIT_ARRIVALS(&hold, 1);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(running, end_pools_in_callback, &on_worker));
    /* In the thread that cancels it: this one. */
    assert_status(TPOOL_OK, tpool_future_add_done_callback(pending, end_pools_in_callback, &in_cancel));
    assert_true(tpool_future_cancel(pending));
    assert_int_equal(1, atomic_load(&callbacks_run));
    assert_deadlocks(&in_cancel.seen);
    gate_open(&hold);
    EVENTUALLY(atomic_load(&callbacks_run) == 2);
    assert_deadlocks(&on_worker.seen);
    tpool_future_release(running);
    tpool_future_release(pending);
    assert_works(pool); /* and this thread, out of its callbacks, may drain and destroy */
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void ending_its_pool_from_a_callback_that_runs_at_once_is_a_deadlock_too(void **state) {
    (void)state;
    static end_attempt attempt;
    atomic_store(&callbacks_run, 0);
    attempt.pool = new_pool(1);
    tpool_future *done = submitted(attempt.pool, nothing, NULL);
    assert_status(TPOOL_OK, tpool_future_result(done, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(done, end_pools_in_callback, &attempt));
    assert_int_equal(1, atomic_load(&callbacks_run));
    assert_deadlocks(&attempt.seen);
    tpool_future_release(done);
    assert_works(attempt.pool);
    assert_status(TPOOL_OK, tpool_destroy(attempt.pool));
}

static void end_pool_in_on_failure(const tpool_error *error, void *context) {
    (void)error;
    end_attempt *attempt = context;
    try_to_end(attempt->pool, &attempt->seen);
    atomic_fetch_add(&callbacks_run, 1);
}
static void *raise_one(void *arg) {
    (void)arg;
    return tpool_raise(1, "one");
}

static void ending_its_pool_from_on_failure_is_a_deadlock(void **state) {
    (void)state;
    static end_attempt attempt;
    atomic_store(&callbacks_run, 0);
    assert_status(TPOOL_OK, tpool_create(&attempt.pool, &(tpool_config){ .max_workers = 1,
                                                                         .context = &attempt,
                                                                         .on_failure = end_pool_in_on_failure }));
    assert_status(TPOOL_OK, tpool_submit(attempt.pool, raise_one, NULL, NULL));
    EVENTUALLY(atomic_load(&callbacks_run) == 1);
    assert_deadlocks(&attempt.seen);
    assert_works(attempt.pool);
    assert_status(TPOOL_OK, tpool_destroy(attempt.pool));
}

static void *end_both_pools(void *arg) {
    end_attempt *attempt = arg;
    try_to_end(attempt->pool, &attempt->seen);
    try_to_end(attempt->other, &attempt->seen_other);
    return NULL;
}
/* A task of attempt->pool: the other pool is full, so that end_both_pools runs right here, above this task. */
static void *submit_to_full_other_pool(void *arg) {
    end_attempt *attempt = arg;
    tpool_future *inner;
    if (tpool_submit(attempt->other, end_both_pools, attempt, &inner) != TPOOL_OK) return NULL;
    bool here = tpool_future_done(inner);
    tpool_future_release(inner);
    return here ? attempt : NULL;
}

static void ending_a_pool_from_above_its_task_is_a_deadlock(void **state) {
    (void)state;
    static end_attempt attempt;
    static gate hold = GATE_CLOSED;
    attempt.pool = new_pool(1);
    assert_status(TPOOL_OK, tpool_create(&attempt.other, &(tpool_config){ .max_workers = 1,
                                                                          .queue_capacity = 1,
                                                                          .on_full = TPOOL_FULL_CALLER_RUNS }));
    tpool_future *busy = submitted(attempt.other, gate_task, &hold);
    AWAIT_ARRIVALS(&hold, 1);
    tpool_future *queued = submitted(attempt.other, nothing, NULL);
    tpool_future *outer = submitted(attempt.pool, submit_to_full_other_pool, &attempt);
    void *ran_here = NULL;
    assert_status(TPOOL_OK, tpool_future_result(outer, LIMIT, &ran_here));
    assert_ptr_equal(&attempt, ran_here);
    assert_deadlocks(&attempt.seen);       /* the pool whose task lies beneath */
    assert_deadlocks(&attempt.seen_other); /* the pool whose task called */
    tpool_future_release(outer);
    gate_open(&hold);
    assert_status(TPOOL_OK, end_of(busy));
    assert_status(TPOOL_OK, end_of(queued));
    assert_works(attempt.pool);
    assert_works(attempt.other);
    assert_status(TPOOL_OK, tpool_destroy(attempt.pool));
    assert_status(TPOOL_OK, tpool_destroy(attempt.other));
}

static void *cancel_wanted(void *arg) {
    end_attempt *attempt = arg;
    return tpool_future_cancel(attempt->wanted) ? arg : NULL;
}

static void ending_a_pool_from_a_callback_above_its_task_is_a_deadlock(void **state) {
    (void)state;
    static end_attempt attempt;
    atomic_store(&callbacks_run, 0);
    attempt.pool = new_pool(1);
    attempt.other = new_pool(1);
    assert_status(TPOOL_OK, tpool_pause(attempt.other));
    attempt.wanted = submitted(attempt.other, nothing, NULL);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(attempt.wanted, end_pools_in_callback, &attempt));
    tpool_future *canceller = submitted(attempt.pool, cancel_wanted, &attempt);
    void *cancelled = NULL;
    assert_status(TPOOL_OK, tpool_future_result(canceller, LIMIT, &cancelled));
    assert_ptr_equal(&attempt, cancelled);
    assert_int_equal(1, atomic_load(&callbacks_run));
    assert_deadlocks(&attempt.seen);
    assert_deadlocks(&attempt.seen_other);
    tpool_future_release(canceller);
    tpool_future_release(attempt.wanted);
    assert_status(TPOOL_OK, tpool_resume(attempt.other));
    assert_works(attempt.pool);
    assert_works(attempt.other);
    assert_status(TPOOL_OK, tpool_destroy(attempt.pool));
    assert_status(TPOOL_OK, tpool_destroy(attempt.other));
}

typedef struct whole_life {
    tpool_status create, submit, drain, shutdown, destroy;
    atomic_int runs;
} whole_life;
static void *live_through_a_pool(void *arg) {
    whole_life *life = arg;
    tpool *pool;
    life->create = tpool_create(&pool, &(tpool_config){ .max_workers = 1 });
    if (life->create != TPOOL_OK) return NULL;
    life->submit = tpool_submit(pool, count_up, &life->runs, NULL);
    life->drain = tpool_drain(pool, LIMIT);
    life->shutdown = tpool_shutdown(pool, TPOOL_WAIT);
    life->destroy = tpool_destroy(pool);
    return NULL;
}

static void a_task_may_drain_and_destroy_another_pool(void **state) {
    (void)state;
    static whole_life life;
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, end_of(submitted(pool, live_through_a_pool, &life)));
    assert_status(TPOOL_OK, life.create);
    assert_status(TPOOL_OK, life.submit);
    assert_status(TPOOL_OK, life.drain);
    assert_status(TPOOL_OK, life.shutdown);
    assert_status(TPOOL_OK, life.destroy);
    assert_int_equal(1, atomic_load(&life.runs));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

typedef struct crossing {
    tpool *mine, *other;
    tpool_status submit, result, drain;
} crossing;
static void *submit_back_and_wait(void *arg) {
    crossing *c = arg;
    tpool_future *future;
    c->submit = tpool_submit(c->mine, nothing, c, &future);
    if (c->submit != TPOOL_OK) return NULL;
    c->result = tpool_future_result(future, LIMIT, NULL);
    tpool_future_release(future);
    return NULL;
}
static void *drain_other(void *arg) {
    crossing *c = arg;
    if (tpool_submit(c->other, submit_back_and_wait, c, NULL) != TPOOL_OK) return NULL;
    c->drain = tpool_drain(c->other, TPOOL_SEC(60));
    return c;
}

static void a_task_that_drains_another_pool_gives_its_own_pool_a_spare(void **state) {
    (void)state;
    static crossing c;
    c.mine = new_pool(1);
    c.other = new_pool(1);
    tpool_future *future = submitted(c.mine, drain_other, &c);
    void *result = NULL;
    assert_status(TPOOL_OK, tpool_future_result(future, TPOOL_SEC(60), &result));
    assert_ptr_equal(&c, result);
    assert_status(TPOOL_OK, c.submit);
    assert_status(TPOOL_OK, c.result); /* it ran while the only worker was draining */
    assert_status(TPOOL_OK, c.drain);
    tpool_future_release(future);
    assert_true(stats_of(c.mine).spared >= 1);
    assert_status(TPOOL_OK, tpool_destroy(c.mine));
    assert_status(TPOOL_OK, tpool_destroy(c.other));
}

static const struct CMUnitTest tests[] = {
    TEST(ending_its_pool_from_a_task_is_a_deadlock),
    TEST(ending_its_pool_from_a_callback_is_a_deadlock_on_any_thread),
    TEST(ending_its_pool_from_a_callback_that_runs_at_once_is_a_deadlock_too),
    TEST(ending_its_pool_from_on_failure_is_a_deadlock),
    TEST(ending_a_pool_from_above_its_task_is_a_deadlock),
    TEST(ending_a_pool_from_a_callback_above_its_task_is_a_deadlock),
    TEST(a_task_may_drain_and_destroy_another_pool),
    TEST(a_task_that_drains_another_pool_gives_its_own_pool_a_spare),
};
RUN_TESTS(tests)
