/* A full queue whose policy is CALLER_RUNS: the submitter runs the task. What tasks touch is static, so that it is
   still there when a failed assertion has left the test. */
#include "support.h"
#include "support/full.h"

/* --- CALLER_RUNS */

typedef struct seen_by_task {
    pthread_t thread;
    tpool *pool;
    int worker, runs;
    bool stop_requested;
} seen_by_task;
static void *look_around(void *arg) {
    seen_by_task *seen = arg;
    seen->thread = pthread_self();
    seen->pool = tpool_current();
    seen->worker = tpool_current_worker();
    seen->stop_requested = tpool_stop_requested();
    seen->runs++;
    return arg;
}

static atomic_int initialized;
static bool count_initialized(void *context) {
    (void)context;
    atomic_fetch_add(&initialized, 1);
    return true;
}

/* A pool that is busy and full, so that every submit runs in the caller. */
static tpool *new_full_caller_runs_pool(gate *hold) {
    atomic_store(&initialized, 0);
    atomic_store(&failures, 0);
    tpool_config config = { .queue_capacity = 1,
                            .on_full = TPOOL_FULL_CALLER_RUNS,
                            .initializer = count_initialized,
                            .on_failure = note_failure };
    tpool *pool = new_busy_pool_as(config, hold);
    assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
    return pool;
}

static void caller_runs_runs_the_task_in_the_submitting_thread(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static seen_by_task seen;
    tpool *pool = new_full_caller_runs_pool(&hold);
    tpool_future *future = submitted(pool, look_around, &seen);
    assert_int_equal(1, seen.runs);
    assert_true(pthread_equal(pthread_self(), seen.thread));
    assert_ptr_equal(pool, seen.pool);
    assert_int_equal(-1, seen.worker);
    assert_true(tpool_future_done(future));
    void *result = NULL;
    assert_status(TPOOL_OK, tpool_future_result(future, 0, &result));
    assert_ptr_equal(&seen, result);
    tpool_future_release(future);
    assert_null(tpool_current());
    assert_int_equal(-1, tpool_current_worker());
    assert_status(TPOOL_OK, tpool_submit(pool, look_around, &seen, NULL));
    assert_int_equal(2, seen.runs);
    assert_int_equal(1, atomic_load(&initialized)); /* the worker's, none here */
    assert_int_equal(2, stats_of(pool).completed);
    assert_int_equal(0, stats_of(pool).rejected);
    gate_open(&hold);
    end_pool(pool);
}

static void *raise_five(void *arg) {
    (void)arg;
    return tpool_raise(5, "five at %d", 17);
}
static void *return_text(void *arg) {
    (void)arg;
    return tpool_return("text", 5);
}
static size_t size_seen;
static bool copy_seen;
static void *read_copy(void *arg) {
    size_seen = tpool_arg_size();
    copy_seen = memcmp(arg, "copied", 7) == 0 && (uintptr_t)arg % _Alignof(max_align_t) == 0;
    return NULL;
}

static void raise_return_and_copies_work_in_a_task_run_by_the_caller(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static atomic_int freed, called_back;
    tpool *pool = new_full_caller_runs_pool(&hold);
    const tpool_error *error = NULL;
    void *result = NULL;

    tpool_future *future =
        submitted_task(pool, (tpool_task){ .fn = raise_five, .name = "five", .arg = &freed, .arg_free = count_free });
    assert_int_equal(1, atomic_load(&freed));
    assert_status(TPOOL_FAILED, tpool_future_result(future, 0, NULL));
    assert_status(TPOOL_OK, tpool_future_error(future, 0, &error));
    assert_int_equal(5, error->code);
    assert_string_equal("five at 17", error->message);
    assert_string_equal("five", error->task);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(future, count_callback, &called_back));
    assert_int_equal(1, atomic_load(&called_back));
    tpool_future_release(future);

    future = submitted(pool, return_text, NULL);
    assert_status(TPOOL_OK, tpool_future_result(future, 0, &result));
    assert_string_equal("text", result);
    assert_int_equal(5, tpool_future_result_size(future));
    tpool_future_release(future);

    assert_status(TPOOL_OK, tpool_submit_copy(pool, read_copy, "copied", 7, NULL));
    assert_int_equal(7, size_seen);
    assert_true(copy_seen);

    assert_int_equal(0, atomic_load(&failures));
    assert_status(TPOOL_OK, tpool_submit(pool, raise_five, NULL, NULL));
    assert_int_equal(1, atomic_load(&failures));
    assert_int_equal(5, failure_code);
    assert_true(pthread_equal(pthread_self(), failure_thread));
    assert_int_equal(2, stats_of(pool).failed);
    assert_null(tpool_raise(1, "outside a task")); /* and all of it has ended here */
    assert_null(tpool_return("x", 1));
    gate_open(&hold);
    end_pool(pool);
}

static void run_with_timeout_and_submit_many_run_in_the_caller_too(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static seen_by_task seen;
    tpool *pool = new_full_caller_runs_pool(&hold);
    tpool_task task = { .fn = look_around, .arg = &seen }, tasks[] = { task, task, task };
    assert_status(TPOOL_OK, tpool_run_with_timeout(pool, &task, LIMIT, NULL));
    assert_int_equal(1, seen.runs);
    size_t taken = 0;
    tpool_future *futures[3];
    assert_status(TPOOL_OK, tpool_submit_many(pool, tasks, 3, futures, &taken));
    assert_int_equal(3, taken);
    assert_int_equal(4, seen.runs);
    assert_true(pthread_equal(pthread_self(), seen.thread));
    for (int i = 0; i < 3; i++) {
        assert_true(tpool_future_done(futures[i]));
        tpool_future_release(futures[i]);
    }
    gate_open(&hold);
    end_pool(pool);
}

typedef struct nested_caller {
    tpool *full;
    seen_by_task before, inner, after;
    tpool_status submit, raise_submit, raise_result;
} nested_caller;
static void *submit_from_worker(void *arg) {
    nested_caller *n = arg;
    tpool_future *future;
    while (!tpool_stop_requested()) sleep_ms(1);
    look_around(&n->before);
    n->submit = tpool_submit(n->full, look_around, &n->inner, NULL);
    n->raise_submit = tpool_submit(n->full, raise_five, NULL, &future);
    if (n->raise_submit != TPOOL_OK) return NULL;
    n->raise_result = tpool_future_result(future, 0, NULL);
    tpool_future_release(future);
    look_around(&n->after);
    return n;
}

static void a_worker_that_runs_its_own_submit_is_itself_again_afterwards(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static nested_caller n;
    n.full = new_full_caller_runs_pool(&hold);
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    tpool_future *future = submitted(pool, submit_from_worker, &n);
    tpool_future_request_stop(future);
    void *result = NULL;
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result)); /* what it ran raised, not itself */
    assert_ptr_equal(&n, result);
    tpool_future_release(future);
    assert_status(TPOOL_OK, n.submit);
    assert_status(TPOOL_OK, n.raise_submit);
    assert_status(TPOOL_FAILED, n.raise_result);
    assert_true(pthread_equal(n.before.thread, n.inner.thread));
    assert_ptr_equal(pool, n.before.pool);
    assert_int_equal(0, n.before.worker);
    assert_true(n.before.stop_requested);
    assert_ptr_equal(n.full, n.inner.pool);
    assert_int_equal(-1, n.inner.worker);
    assert_false(n.inner.stop_requested); /* of the innermost task */
    assert_ptr_equal(pool, n.after.pool);
    assert_int_equal(0, n.after.worker);
    assert_true(n.after.stop_requested);
    gate_open(&hold);
    end_pool(n.full);
    end_pool(pool);
}

typedef struct self_caller {
    gate *hold;
    seen_by_task inner, after;
    tpool_status queue, run;
} self_caller;
static void *fill_own_pool(void *arg) {
    self_caller *s = arg;
    s->queue = tpool_submit(tpool_current(), nothing, NULL, NULL);
    s->run = tpool_submit(tpool_current(), look_around, &s->inner, NULL);
    look_around(&s->after);
    return NULL;
}

static void a_worker_may_run_a_task_of_its_own_full_pool(void **state) {
    (void)state;
    static self_caller s;
    tpool *pool =
        new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1, .on_full = TPOOL_FULL_CALLER_RUNS });
    assert_status(TPOOL_OK, end_of(submitted(pool, fill_own_pool, &s)));
    assert_status(TPOOL_OK, s.queue);
    assert_status(TPOOL_OK, s.run);
    assert_int_equal(1, s.inner.runs);
    assert_true(pthread_equal(s.after.thread, s.inner.thread));
    assert_ptr_equal(pool, s.inner.pool);
    assert_int_equal(-1, s.inner.worker);
    assert_ptr_equal(pool, s.after.pool);
    assert_int_equal(0, s.after.worker);
    end_pool(pool);
}

typedef struct doomed_submit {
    tpool *pool;
    atomic_int freed, survived;
    tpool_status status;
} doomed_submit;
static void *submit_end_thread(void *arg) {
    doomed_submit *d = arg;
    tpool_task task = { .fn = end_thread, .arg = &d->freed, .arg_free = count_free };
    d->status = tpool_submit_task(d->pool, &task, NULL);
    atomic_fetch_add(&d->survived, 1);
    return NULL;
}

static void a_task_that_ends_the_thread_of_its_submitter_is_broken_too(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static doomed_submit d;
    pthread_t thread;
    d.pool = new_full_caller_runs_pool(&hold);
    assert_int_equal(0, pthread_create(&thread, NULL, submit_end_thread, &d));
    pthread_join(thread, NULL);
    assert_int_equal(0, atomic_load(&d.survived));
    assert_int_equal(1, atomic_load(&d.freed));
    assert_int_equal(1, atomic_load(&failures)); /* nobody holds it, so on_failure learns of it */
    assert_int_equal(1, stats_of(d.pool).failed);
    gate_open(&hold);
    end_pool(d.pool);
}

static void caller_runs_blocks_while_the_pool_is_paused(void **state) {
    (void)state;
    static seen_by_task seen;
    static background submitter;
    static submit_call call;
    tpool *pool =
        new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1, .on_full = TPOOL_FULL_CALLER_RUNS });
    assert_status(TPOOL_OK, tpool_pause(pool));
    tpool_future *queued = submitted(pool, nothing, NULL);
    call = (submit_call){ .pool = pool, .task = { .fn = look_around, .arg = &seen } };
    background_start(&submitter, call_submit, &call);
    background_await_block(&submitter);
    assert_true(tpool_future_cancel(queued));
    assert_status(TPOOL_OK, background_join(&submitter)); /* there is room: it is queued, and nothing has run */
    assert_int_equal(TPOOL_PENDING, tpool_future_state(call.future));
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_status(TPOOL_OK, end_of(call.future));
    assert_int_equal(1, seen.runs);
    assert_int_equal(0, seen.worker);
    tpool_future_release(queued);
    end_pool(pool);
}

static void caller_runs_goes_on_when_a_paused_pool_is_resumed_or_shut_down(void **state) {
    (void)state;
    for (int shut_down = 0; shut_down < 2; shut_down++) {
        static atomic_int runs;
        static background submitter;
        static submit_call call;
        atomic_store(&runs, 0);
        tpool *pool =
            new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1, .on_full = TPOOL_FULL_CALLER_RUNS });
        assert_status(TPOOL_OK, tpool_pause(pool));
        assert_status(TPOOL_OK, tpool_submit(pool, count_up, &runs, NULL));
        call = (submit_call){ .pool = pool, .task = { .fn = count_up, .arg = &runs } };
        background_start(&submitter, call_submit, &call);
        background_await_block(&submitter);
        assert_int_equal(0, atomic_load(&runs));
        assert_status(TPOOL_OK, shut_down ? tpool_shutdown(pool, 0) : tpool_resume(pool));
        assert_status(shut_down ? TPOOL_SHUTDOWN : TPOOL_OK, background_join(&submitter));
        if (shut_down) assert_null(call.future);
        else assert_status(TPOOL_OK, end_of(call.future));
        end_pool(pool);
        assert_int_equal(shut_down ? 1 : 2, atomic_load(&runs));
    }
}

static const struct CMUnitTest tests[] = {
    TEST(caller_runs_runs_the_task_in_the_submitting_thread),
    TEST(raise_return_and_copies_work_in_a_task_run_by_the_caller),
    TEST(run_with_timeout_and_submit_many_run_in_the_caller_too),
    TEST(a_worker_that_runs_its_own_submit_is_itself_again_afterwards),
    TEST(a_worker_may_run_a_task_of_its_own_full_pool),
    TEST(a_task_that_ends_the_thread_of_its_submitter_is_broken_too),
    TEST(caller_runs_blocks_while_the_pool_is_paused),
    TEST(caller_runs_goes_on_when_a_paused_pool_is_resumed_or_shut_down),
};
RUN_TESTS(tests)
