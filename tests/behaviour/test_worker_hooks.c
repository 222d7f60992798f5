/* Initializers and finalizers of workers: once each, on their worker; when one fails; what they may wait for. What
   tasks touch is static, so that it is still there when a failed assertion has left the test. */
#include "support.h"
#include "support/submits.h"
#include "support/workers.h"

/* --- once for each worker, on it */

static whereabouts initializer_saw, finalizer_saw;
static bool look_in_initializer(void *context) {
    look_around(&initializer_saw);
    return context == &initializer_saw;
}
static void look_in_finalizer(void *context) {
    if (context == &initializer_saw) look_around(&finalizer_saw);
}

static void initializer_and_finalizer_run_on_the_worker_with_the_context(void **state) {
    (void)state;
    static look_task look;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 2,
                                              .initializer = look_in_initializer,
                                              .finalizer = look_in_finalizer,
                                              .context = &initializer_saw });
    assert_status(TPOOL_OK, end_of(submitted(pool, look_and_pass, &look)));
    assert_true(pthread_equal(look.seen.thread, initializer_saw.thread));
    assert_ptr_equal(pool, initializer_saw.pool);
    assert_int_equal(look.seen.worker, initializer_saw.worker);
    assert_null(finalizer_saw.pool);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_true(pthread_equal(look.seen.thread, finalizer_saw.thread));
    assert_ptr_equal(pool, finalizer_saw.pool);
    assert_int_equal(look.seen.worker, finalizer_saw.worker);
}

static atomic_int tasks_on_raw_workers;
static void *check_initialized(void *arg) {
    (void)arg;
    if (worker_number == 0) atomic_fetch_add(&tasks_on_raw_workers, 1);
    return NULL;
}

static void initializer_and_finalizer_run_once_per_worker(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    tpool *pool = new_counted_pool(3);
    for (int i = 0; i < 3; i++) assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
    AWAIT_ARRIVALS(&hold, 3);
    for (int i = 0; i < 200; i++) assert_status(TPOOL_OK, tpool_submit(pool, check_initialized, NULL, NULL));
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(3, atomic_load(&initialized));
    assert_int_equal(0, atomic_load(&finalized));
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT));
    assert_int_equal(3, atomic_load(&initialized));
    assert_int_equal(3, atomic_load(&finalized));
    assert_int_equal(0, atomic_load(&finalized_elsewhere));
    assert_int_equal(0, atomic_load(&tasks_on_raw_workers));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(3, atomic_load(&finalized));
}

typedef struct spare_story {
    look_task inner;
    int inner_number, outer_number;
    tpool_status submit, wait;
} spare_story;
static void *look_and_give_number(void *arg) {
    spare_story *s = arg;
    look_around(&s->inner.seen);
    s->inner_number = worker_number;
    return NULL;
}
static void *wait_with_limit(void *arg) {
    spare_story *s = arg;
    tpool_future *inner;
    s->outer_number = worker_number;
    s->submit = tpool_submit(tpool_current(), look_and_give_number, s, &inner);
    if (s->submit != TPOOL_OK) return NULL;
    s->wait = tpool_future_result(inner, LIMIT, NULL); /* with a limit: not in place, so a spare runs it */
    tpool_future_release(inner);
    return NULL;
}

static void spare_workers_have_high_indices_run_both_hooks_and_end(void **state) {
    (void)state;
    static spare_story s;
    tpool *pool = new_counted_pool(1);
    assert_status(TPOOL_OK, end_of(submitted(pool, wait_with_limit, &s)));
    assert_status(TPOOL_OK, s.submit);
    assert_status(TPOOL_OK, s.wait);
    assert_int_equal(1, s.outer_number);
    assert_int_equal(2, s.inner_number);
    assert_ptr_equal(pool, s.inner.seen.pool);
    assert_true(s.inner.seen.worker >= 1);
    assert_int_equal(1, stats_of(pool).spared);
    EVENTUALLY(atomic_load(&finalized) == 1); /* one thread is no longer needed */
    assert_int_equal(2, atomic_load(&initialized));
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(2, atomic_load(&initialized));
    assert_int_equal(2, atomic_load(&finalized));
}

/* --- an initializer that fails */

typedef struct failing_start {
    gate in_initializer;
    atomic_int calls, failures, finalized;
    int good_workers; /* the first so many start well */
    tpool_status failure_status;
    bool failure_has_message;
} failing_start;
static bool fail_after_good_workers(void *context) {
    failing_start *f = context;
    if (atomic_fetch_add(&f->calls, 1) < f->good_workers) return true;
    gate_pass(&f->in_initializer);
    return false;
}
static void count_context_finalized(void *context) { atomic_fetch_add(&((failing_start *)context)->finalized, 1); }
static void note_failure(const tpool_error *error, void *context) {
    failing_start *f = context;
    f->failure_status = error->status;
    f->failure_has_message = error->message && error->message[0];
    atomic_fetch_add(&f->failures, 1);
}

static void when_an_initializer_fails_all_that_waits_and_comes_is_broken(void **state) {
    (void)state;
    static failing_start f = { .in_initializer = GATE_CLOSED };
    static atomic_int runs, freed;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1,
                                              .initializer = fail_after_good_workers,
                                              .finalizer = count_context_finalized,
                                              .context = &f,
                                              .on_failure = note_failure });
    tpool_future *pending[5];
    for (int i = 0; i < 5; i++)
        pending[i] = submitted_task(pool, (tpool_task){ .fn = count_up, .arg = &runs, .priority = i % 3 - 1 });
    tpool_task unheld = { .fn = nothing, .arg = &freed, .arg_free = count_free };
    assert_status(TPOOL_OK, tpool_submit_task(pool, &unheld, NULL));
    AWAIT_ARRIVALS(&f.in_initializer, 1);
    for (int i = 0; i < 5; i++) assert_false(tpool_future_done(pending[i]));
    gate_open(&f.in_initializer);
    for (int i = 0; i < 5; i++) {
        const tpool_error *error = NULL;
        assert_status(TPOOL_BROKEN, tpool_future_result(pending[i], LIMIT, NULL));
        assert_status(TPOOL_OK, tpool_future_error(pending[i], 0, &error));
        assert_status(TPOOL_BROKEN, error->status);
        assert_non_null(error->message);
        assert_int_equal(TPOOL_FINISHED, tpool_future_state(pending[i]));
        tpool_future_release(pending[i]);
    }
    EVENTUALLY(atomic_load(&f.failures) == 1);
    assert_status(TPOOL_BROKEN, f.failure_status);
    assert_true(f.failure_has_message);
    assert_int_equal(1, atomic_load(&freed));

    tpool_future *refused = pending[0];
    assert_status(TPOOL_BROKEN, tpool_submit(pool, count_up, &runs, &refused));
    assert_null(refused);
    assert_status(TPOOL_BROKEN, tpool_submit_task(pool, &unheld, NULL));
    assert_int_equal(1, atomic_load(&freed)); /* not taken, not freed */
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    tpool_stats stats = stats_of(pool);
    assert_int_equal(6, stats.submitted);
    assert_int_equal(6, stats.failed);
    assert_int_equal(0, stats.queued);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(0, atomic_load(&runs));
    assert_int_equal(0, atomic_load(&f.finalized)); /* what did not start well is not finished off */
}

static void when_a_later_initializer_fails_what_runs_goes_on_and_blocked_submitters_learn(void **state) {
    (void)state;
    static failing_start f = { .in_initializer = GATE_CLOSED, .good_workers = 1 };
    static gate hold = GATE_CLOSED;
    static atomic_int runs;
    static background submitter;
    static submit_call blocked;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 2,
                                              .queue_capacity = 1,
                                              .context = &f,
                                              .initializer = fail_after_good_workers,
                                              .finalizer = count_context_finalized });
    tpool_future *running = submitted(pool, gate_task, &hold);
    AWAIT_ARRIVALS(&hold, 1);
    tpool_future *pending = submitted(pool, count_up, &runs);
    AWAIT_ARRIVALS(&f.in_initializer, 1); /* the second worker is about to fail */
    blocked = (submit_call){ .pool = pool, .task = { .fn = count_up, .arg = &runs }, .future = pending };
    background_start_blocked(&submitter, call_plain_submit, &blocked);
    gate_open(&f.in_initializer);
    assert_status(TPOOL_BROKEN, background_join(&submitter));
    assert_null(blocked.future);
    assert_status(TPOOL_BROKEN, end_of(pending));
    assert_status(TPOOL_BROKEN, tpool_submit(pool, count_up, &runs, NULL));
    assert_true(tpool_future_running(running));
    gate_open(&hold);
    assert_status(TPOOL_OK, end_of(running));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(0, atomic_load(&runs));
    assert_int_equal(1, atomic_load(&f.finalized));
}

static void warm_up_that_meets_a_failing_initializer_breaks_the_pool(void **state) {
    (void)state;
    static failing_start f = { .in_initializer = GATE_CLOSED };
    gate_open(&f.in_initializer);
    tpool *pool =
        new_pool_as((tpool_config){ .max_workers = 2, .initializer = fail_after_good_workers, .context = &f });
    tpool_status status = tpool_warm_up(pool, 2); /* it may notice or not */
    assert_true(status == TPOOL_OK || status == TPOOL_BROKEN);
    tpool_status submit = TPOOL_OK;
    for (int64_t end = tpool_now() + LIMIT; submit == TPOOL_OK && tpool_now() < end;) {
        tpool_future *future;
        submit = tpool_submit(pool, nothing, NULL, &future);
        if (submit == TPOOL_OK) assert_status(TPOOL_BROKEN, end_of(future));
    }
    assert_status(TPOOL_BROKEN, submit);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- waits in initializers and finalizers */

typedef struct hook_waits {
    gate entered;
    tpool *pool, *other;
    tpool_future *own; /* of a task of that pool */
    atomic_int hooks_run, late_runs;
    tpool_status result, result_limited, wait, submit, drain, shutdown, run, other_submit, other_result;
    tpool_future *refused;
} hook_waits;

static void wait_in_hook(hook_waits *w) {
    w->result = tpool_future_result(w->own, TPOOL_FOREVER, NULL);
    w->result_limited = tpool_future_result(w->own, TPOOL_MS(20), NULL);
    tpool_future *array[] = { w->own };
    w->wait = tpool_wait(array, 1, TPOOL_ALL_COMPLETED, TPOOL_FOREVER, NULL);
    w->refused = w->own;
    w->submit = tpool_submit(w->pool, count_up, &w->late_runs, &w->refused); /* the queue is full */
    w->drain = tpool_drain(w->pool, LIMIT);
    w->shutdown = tpool_shutdown(w->pool, TPOOL_WAIT);
    tpool_future *future;
    w->other_submit = tpool_submit(w->other, nothing, NULL, &future);
    if (w->other_submit == TPOOL_OK) {
        w->other_result = tpool_future_result(future, TPOOL_FOREVER, NULL);
        tpool_future_release(future);
    }
}

static void assert_hook_waits(const hook_waits *w) {
    assert_status(TPOOL_DEADLOCK, w->result);
    assert_status(TPOOL_DEADLOCK, w->result_limited);
    assert_status(TPOOL_DEADLOCK, w->wait);
    assert_status(TPOOL_DEADLOCK, w->submit);
    assert_null(w->refused);
    assert_status(TPOOL_DEADLOCK, w->drain);
    assert_status(TPOOL_DEADLOCK, w->shutdown);
    assert_status(TPOOL_OK, w->other_submit); /* another pool is no trouble */
    assert_status(TPOOL_OK, w->other_result);
}

static bool wait_in_initializer(void *context) {
    hook_waits *w = context;
    gate_pass(&w->entered);
    if (atomic_fetch_add(&w->hooks_run, 1) == 0) wait_in_hook(w);
    return true;
}

static void waits_for_the_own_pool_in_an_initializer_are_deadlocks(void **state) {
    (void)state;
    static hook_waits w = { .entered = GATE_CLOSED };
    w.other = new_pool(1);
    w.pool = new_pool_as(
        (tpool_config){ .max_workers = 1, .queue_capacity = 2, .initializer = wait_in_initializer, .context = &w });
    w.own = submitted(w.pool, nothing, NULL);
    AWAIT_ARRIVALS(&w.entered, 1);
    tpool_future *second = submitted(w.pool, nothing, NULL); /* now the queue is full */
    gate_open(&w.entered);
    assert_status(TPOOL_OK, end_of(second)); /* perhaps by a spare, while the initializer waits for the other pool */
    assert_status(TPOOL_OK, end_of(w.own));
    assert_status(TPOOL_OK, end_of(submitted(w.pool, nothing, NULL)));
    assert_status(TPOOL_OK, tpool_destroy(w.pool));
    assert_hook_waits(&w);
    assert_status(TPOOL_OK, tpool_destroy(w.other));
    assert_int_equal(0, atomic_load(&w.late_runs));
}

/* The third worker's initializer holds a gate: meanwhile nobody takes what is queued. */
typedef struct finalizer_story {
    hook_waits waits;
    gate third_worker;
    atomic_int workers, finalizers;
} finalizer_story;
static bool hold_third_worker(void *context) {
    finalizer_story *s = context;
    if (atomic_fetch_add(&s->workers, 1) == 2) gate_pass(&s->third_worker);
    return true;
}
static void wait_in_first_finalizer(void *context) {
    finalizer_story *s = context;
    if (atomic_fetch_add(&s->finalizers, 1) == 0) {
        wait_in_hook(&s->waits);
        atomic_store(&s->waits.hooks_run, 1);
    }
}

static void waits_for_the_own_pool_in_a_finalizer_are_deadlocks(void **state) {
    (void)state;
    static finalizer_story s = { .waits = { .entered = GATE_CLOSED }, .third_worker = GATE_CLOSED };
    static gate first = GATE_CLOSED, second = GATE_CLOSED;
    s.waits.other = new_pool(1);
    s.waits.pool = new_pool_as((tpool_config){ .max_workers = 2,
                                               .queue_capacity = 1,
                                               .max_tasks_per_worker = 1,
                                               .initializer = hold_third_worker,
                                               .context = &s,
                                               .finalizer = wait_in_first_finalizer });
    assert_status(TPOOL_OK, tpool_submit(s.waits.pool, gate_task, &first, NULL));
    AWAIT_ARRIVALS(&first, 1);
    s.waits.own = submitted(s.waits.pool, gate_task, &second);
    AWAIT_ARRIVALS(&second, 1);
    tpool_future *queued = submitted(s.waits.pool, nothing, NULL);
    gate_open(&first); /* its worker has run its one task, and ends */
    EVENTUALLY(atomic_load(&s.waits.hooks_run) == 1);
    assert_hook_waits(&s.waits);
    gate_open(&s.third_worker);
    gate_open(&second);
    assert_status(TPOOL_OK, end_of(s.waits.own));
    assert_status(TPOOL_OK, end_of(queued));
    assert_status(TPOOL_OK, tpool_destroy(s.waits.pool));
    assert_status(TPOOL_OK, tpool_destroy(s.waits.other));
    assert_int_equal(0, atomic_load(&s.waits.late_runs));
    assert_true(atomic_load(&s.workers) >= 3);
    assert_int_equal(atomic_load(&s.workers), atomic_load(&s.finalizers));
}

static atomic_int submitted_in_initializer;
static bool submit_in_initializer(void *context) {
    tpool **pool = context;
    return tpool_submit(*pool, count_up, &submitted_in_initializer, NULL) == TPOOL_OK;
}

static void an_initializer_may_submit_where_there_is_room(void **state) {
    (void)state;
    static tpool *pool;
    pool = new_pool_as((tpool_config){ .max_workers = 1, .initializer = submit_in_initializer, .context = &pool });
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(1, atomic_load(&submitted_in_initializer));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static const struct CMUnitTest tests[] = {
    TEST(initializer_and_finalizer_run_on_the_worker_with_the_context),
    TEST(initializer_and_finalizer_run_once_per_worker),
    TEST(spare_workers_have_high_indices_run_both_hooks_and_end),
    TEST(when_an_initializer_fails_all_that_waits_and_comes_is_broken),
    TEST(when_a_later_initializer_fails_what_runs_goes_on_and_blocked_submitters_learn),
    TEST(warm_up_that_meets_a_failing_initializer_breaks_the_pool),
    TEST(waits_for_the_own_pool_in_an_initializer_are_deadlocks),
    TEST(waits_for_the_own_pool_in_a_finalizer_are_deadlocks),
    TEST(an_initializer_may_submit_where_there_is_room),
};
RUN_TESTS(tests)
