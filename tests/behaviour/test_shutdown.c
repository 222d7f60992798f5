/* The end of a pool: shutdown, drain and destroy, what they wait for and what they leave. What tasks touch is static,
   so that it is still there when a failed assertion has left the test. */
#include "support.h"
#include "support/submits.h"

static tpool_status call_drain(void *pool) { return tpool_drain(pool, LIMIT); }
static tpool_status call_destroy(void *pool) { return tpool_destroy(pool); }
static tpool_status call_shutdown_wait(void *pool) { return tpool_shutdown(pool, TPOOL_WAIT); }
static tpool_status call_cancel(void *future) { return tpool_future_cancel(future) ? TPOOL_OK : TPOOL_INVALID_STATE; }
static tpool_status call_done(void *future) { return tpool_future_done(future) ? TPOOL_OK : TPOOL_INVALID_STATE; }

/* --- shutdown */

static void shutdown_returns_at_once_and_queued_work_still_completes(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static atomic_int runs; /* arg_free would count here too */
    tpool *pool = new_pool(1);
    tpool_future *first = submitted(pool, gate_task, &hold);
    for (int i = 0; i < 10; i++) assert_status(TPOOL_OK, tpool_submit(pool, count_up, &runs, NULL));
    AWAIT_ARRIVALS(&hold, 1);
    assert_status(TPOOL_OK, tpool_shutdown(pool, 0)); /* returns, though the gate is closed */
    assert_int_equal(0, atomic_load(&runs));

    tpool_future *refused = first;
    assert_status(TPOOL_SHUTDOWN, tpool_submit(pool, count_up, &runs, &refused));
    assert_null(refused);
    tpool_task task = { .fn = count_up, .arg = &runs, .arg_free = count_free };
    assert_status(TPOOL_SHUTDOWN, tpool_submit_task(pool, &task, NULL));
    size_t taken = 7;
    assert_status(TPOOL_SHUTDOWN, tpool_submit_many(pool, &task, 1, NULL, &taken));
    assert_int_equal(0, taken);
    assert_status(TPOOL_SHUTDOWN, tpool_run_with_timeout(pool, &task, LIMIT, NULL));

    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(10, atomic_load(&runs));
    assert_status(TPOOL_OK, end_of(first));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(10, atomic_load(&runs));
}

static atomic_int initialized, finalized;
static bool count_initialized(void *context) {
    (void)context;
    atomic_fetch_add(&initialized, 1);
    return true;
}
static void count_finalized(void *context) {
    (void)context;
    atomic_fetch_add(&finalized, 1);
}

static void shutdown_with_wait_returns_when_the_workers_have_ended(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static atomic_int runs;
    static background waiters[2];
    tpool *pool;
    atomic_store(&initialized, 0);
    atomic_store(&finalized, 0);
    assert_status(TPOOL_OK, tpool_create(&pool, &(tpool_config){ .max_workers = 2,
                                                                 .initializer = count_initialized,
                                                                 .finalizer = count_finalized }));
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
    for (int i = 0; i < 10; i++) assert_status(TPOOL_OK, tpool_submit(pool, count_up, &runs, NULL));
    AWAIT_ARRIVALS(&hold, 2);
    for (int i = 0; i < 2; i++) background_start(&waiters[i], call_shutdown_wait, pool);
    for (int i = 0; i < 2; i++) background_await_block(&waiters[i]);
    assert_status(TPOOL_SHUTDOWN, tpool_submit(pool, count_up, &runs, NULL));
    gate_open(&hold);
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, background_join(&waiters[i]));
    assert_int_equal(10, atomic_load(&runs));
    assert_int_equal(2, atomic_load(&initialized));
    assert_int_equal(2, atomic_load(&finalized));
    assert_int_equal(0, stats_of(pool).workers);
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void shutdown_with_wait_of_a_pool_never_used_returns(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT));
    assert_status(TPOOL_SHUTDOWN, tpool_submit(pool, nothing, NULL, NULL));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static pthread_t callback_thread;
static void store_thread(tpool_future *future, void *context) {
    (void)future;
    callback_thread = pthread_self();
    atomic_fetch_add((atomic_int *)context, 1);
}

static void shutdown_with_cancel_pending_cancels_what_has_not_started(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static atomic_int runs, freed, called_back;
    tpool *pool = new_pool(1);
    tpool_future *running = submitted(pool, gate_task, &hold), *pending[10];
    AWAIT_ARRIVALS(&hold, 1);
    for (int i = 0; i < 10; i++) {
        /* Of every priority and kind: with bytes, with a limit, plain. */
        static int bytes = 1;
        tpool_task task = { .fn = count_up, .arg = &runs, .priority = i % 3 - 1, .expires_ns = i % 2 ? LIMIT : 0 };
        if (i % 5 == 0) {
            task.arg = &bytes;
            task.arg_size = sizeof bytes;
        }
        pending[i] = submitted_task(pool, task);
    }
    /* And one that nobody holds. */
    tpool_task unheld = { .fn = nothing, .arg = &freed, .arg_free = count_free };
    assert_status(TPOOL_OK, tpool_submit_task(pool, &unheld, NULL));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(pending[3], store_thread, &called_back));
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_CANCEL_PENDING));
    for (int i = 0; i < 10; i++) {
        assert_true(tpool_future_cancelled(pending[i]));
        assert_int_equal(TPOOL_STATE_CANCELLED, tpool_future_state(pending[i]));
        assert_status(TPOOL_CANCELLED, tpool_future_result(pending[i], 0, NULL));
        tpool_future_release(pending[i]);
    }
    assert_int_equal(1, atomic_load(&called_back));
    assert_true(pthread_equal(pthread_self(), callback_thread));
    assert_int_equal(1, atomic_load(&freed));
    assert_true(tpool_future_running(running));
    gate_open(&hold);
    assert_status(TPOOL_OK, end_of(running));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(0, atomic_load(&runs));
    assert_int_equal(11, stats_of(pool).cancelled);
    assert_int_equal(1, stats_of(pool).completed);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *arrive_and_await_stop(void *arg) {
    gate *arrived = arg;
    gate_pass(arrived);
    int64_t end = tpool_now() + LIMIT;
    while (!tpool_stop_requested()) {
        if (tpool_now() > end) return tpool_raise(1, "nobody asked this task to stop");
        sleep_ms(1);
    }
    return NULL;
}

static void shutdown_with_stop_running_asks_what_runs_to_stop(void **state) {
    (void)state;
    static gate arrived = GATE_CLOSED;
    gate_open(&arrived);
    tpool *pool = new_pool(2);
    tpool_future *first = submitted(pool, arrive_and_await_stop, &arrived);
    tpool_future *second = submitted(pool, arrive_and_await_stop, &arrived);
    AWAIT_ARRIVALS(&arrived, 2);
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_STOP_RUNNING));
    assert_status(TPOOL_OK, end_of(first));
    assert_status(TPOOL_OK, end_of(second));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void shutdown_called_again_adds_its_flags(void **state) {
    (void)state;
    static gate arrived = GATE_CLOSED;
    static atomic_int runs;
    gate_open(&arrived);
    tpool *pool = new_pool(1);
    tpool_future *running = submitted(pool, arrive_and_await_stop, &arrived);
    tpool_future *pending = submitted(pool, count_up, &runs);
    AWAIT_ARRIVALS(&arrived, 1);
    assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
    assert_false(tpool_future_done(pending));
    assert_false(tpool_future_done(running));
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_CANCEL_PENDING));
    assert_true(tpool_future_cancelled(pending));
    assert_false(tpool_future_done(running));
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_STOP_RUNNING));
    assert_status(TPOOL_OK, end_of(running));
    assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT | TPOOL_CANCEL_PENDING | TPOOL_STOP_RUNNING));
    assert_int_equal(0, stats_of(pool).workers);
    assert_int_equal(0, atomic_load(&runs));
    tpool_future_release(pending);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void shutdown_resumes_a_paused_pool_and_pause_after_it_is_refused(void **state) {
    (void)state;
    static atomic_int runs;
    tpool *pool = new_pool(2);
    assert_status(TPOOL_OK, tpool_pause(pool));
    tpool_future *future = submitted(pool, count_up, &runs);
    assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
    assert_status(TPOOL_OK, end_of(future));
    assert_int_equal(1, atomic_load(&runs));
    assert_status(TPOOL_SHUTDOWN, tpool_pause(pool));
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_status(TPOOL_SHUTDOWN, tpool_warm_up(pool, 1));
    assert_status(TPOOL_SHUTDOWN, tpool_resize(pool, 3));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

typedef struct late_submit {
    gate *before;
    tpool *pool;
    atomic_int *runs;
    tpool_status plain, with_future;
    bool null;
} late_submit;
static void *submit_after_gate(void *arg) {
    late_submit *late = arg;
    gate_pass(late->before);
    tpool_future *future = (tpool_future *)arg;
    late->plain = tpool_submit(late->pool, count_up, late->runs, NULL);
    late->with_future = tpool_submit(late->pool, count_up, late->runs, &future);
    late->null = future == NULL;
    return NULL;
}

static void after_shutdown_the_tasks_themselves_cannot_submit(void **state) {
    (void)state;
    static gate before = GATE_CLOSED;
    static atomic_int runs;
    for (int workers = 1; workers <= 2; workers++) {
        static late_submit late;
        gate_close(&before);
        late = (late_submit){ .before = &before, .pool = new_pool(workers), .runs = &runs };
        tpool_future *future = submitted(late.pool, submit_after_gate, &late);
        AWAIT_ARRIVALS(&before, 1);
        assert_status(TPOOL_OK, tpool_shutdown(late.pool, 0));
        gate_open(&before);
        assert_status(TPOOL_OK, end_of(future));
        assert_status(TPOOL_SHUTDOWN, late.plain);
        assert_status(TPOOL_SHUTDOWN, late.with_future);
        assert_true(late.null);
        assert_status(TPOOL_OK, tpool_destroy(late.pool));
    }
    assert_int_equal(0, atomic_load(&runs));
}

static void *shut_down_own_pool(void *arg) {
    static tpool_status seen;
    seen = tpool_shutdown(tpool_current(), TPOOL_CANCEL_PENDING | TPOOL_STOP_RUNNING);
    *(bool *)arg = tpool_stop_requested();
    return &seen;
}

static void a_task_may_shut_its_own_pool_down_without_waiting(void **state) {
    (void)state;
    static bool stopped;
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, tpool_pause(pool));
    tpool_future *future = submitted(pool, shut_down_own_pool, &stopped), *pending = submitted(pool, nothing, NULL);
    assert_status(TPOOL_OK, tpool_resume(pool));
    void *seen = NULL;
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &seen));
    assert_non_null(seen);
    assert_status(TPOOL_OK, *(tpool_status *)seen);
    assert_true(stopped);
    tpool_future_release(future);
    assert_status(TPOOL_CANCELLED, end_of(pending));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* Each task that stops makes place for another, which must be cancelled then and not start unasked. */
static char run_until_asked_never;
static void *run_until_asked(void *arg) {
    (void)arg;
    int64_t end = tpool_now() + TPOOL_SEC(20);
    while (!tpool_stop_requested())
        if (tpool_now() > end) return &run_until_asked_never;
    return NULL;
}

static void nothing_starts_unasked_between_stopping_and_cancelling(void **state) {
    (void)state;
    for (int round = 0; round < COUNT(50); round++) {
        tpool *pool = new_pool(2);
        tpool_future *futures[20];
        for (int i = 0; i < 20; i++) futures[i] = submitted(pool, run_until_asked, NULL);
        EVENTUALLY(stats_of(pool).active == 2);
        assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT | TPOOL_CANCEL_PENDING | TPOOL_STOP_RUNNING));
        for (int i = 0; i < 20; i++) {
            void *late = NULL;
            tpool_status status = tpool_future_result(futures[i], 0, &late);
            assert_true(status == TPOOL_OK || status == TPOOL_CANCELLED);
            assert_null(late);
            tpool_future_release(futures[i]);
        }
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

/* --- DEADLOCK for whoever would wait for himself */

static atomic_int callbacks_run;

static gate breaking, telling;
static atomic_int told;
static bool break_after_gate(void *context) {
    (void)context;
    gate_pass(&breaking);
    return false;
}
static void pass_gate_when_told(const tpool_error *error, void *context) {
    (void)context;
    if (error->status == TPOOL_BROKEN) atomic_fetch_add(&told, 1);
    gate_pass(&telling);
}

/* The task has no future inside, so nothing but this call is left of it when the pool breaks. */
static void drain_waits_for_on_failure_of_what_a_broken_pool_had_queued(void **state) {
    (void)state;
    static background drain;
    breaking = telling = (gate)GATE_CLOSED;
    atomic_store(&told, 0);
    tpool *pool = NULL;
    assert_status(TPOOL_OK, tpool_create(&pool, &(tpool_config){ .max_workers = 1,
                                                                 .initializer = break_after_gate,
                                                                 .on_failure = pass_gate_when_told }));
    assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
    gate_open(&breaking);
    AWAIT_ARRIVALS(&telling, 1);
    assert_status(TPOOL_TIMEOUT, tpool_drain(pool, 0));
    background_start_blocked(&drain, call_drain, pool);
    gate_open(&telling);
    assert_status(TPOOL_OK, background_join(&drain));
    assert_int_equal(1, atomic_load(&told));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- drain */

static void drain_gives_timeout_until_nothing_is_queued_or_running(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static atomic_int runs;
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, tpool_drain(pool, 0));
    assert_status(TPOOL_OK, tpool_drain(pool, -1));
    assert_status(TPOOL_OK, tpool_drain(pool, TPOOL_FOREVER));
    assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
    assert_status(TPOOL_OK, tpool_submit(pool, count_up, &runs, NULL));
    AWAIT_ARRIVALS(&hold, 1);
    assert_status(TPOOL_TIMEOUT, tpool_drain(pool, 0));
    assert_status(TPOOL_TIMEOUT, tpool_drain(pool, -TPOOL_SEC(1)));
    assert_status(TPOOL_TIMEOUT, tpool_drain(pool, INT64_MIN));
    int64_t before = tpool_now();
    assert_status(TPOOL_TIMEOUT, tpool_drain(pool, TPOOL_MS(30)));
    assert_true(tpool_now() - before >= TPOOL_MS(30));
    assert_int_equal(0, atomic_load(&runs));
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(1, atomic_load(&runs));
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL))); /* a drain ends nothing */
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_status(TPOOL_OK, tpool_drain(pool, TPOOL_FOREVER));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void drain_of_a_paused_pool_waits_for_a_resume(void **state) {
    (void)state;
    static atomic_int runs;
    static background drains[3];
    tpool *pool = new_pool(2);
    assert_status(TPOOL_OK, tpool_pause(pool));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT)); /* nothing is queued */
    for (int i = 0; i < 5; i++) assert_status(TPOOL_OK, tpool_submit(pool, count_up, &runs, NULL));
    assert_status(TPOOL_TIMEOUT, tpool_drain(pool, 0));
    assert_status(TPOOL_TIMEOUT, tpool_drain(pool, TPOOL_MS(10)));
    for (int i = 0; i < 3; i++) background_start(&drains[i], call_drain, pool);
    for (int i = 0; i < 3; i++) background_await_block(&drains[i]);
    assert_int_equal(0, atomic_load(&runs));
    assert_status(TPOOL_OK, tpool_resume(pool));
    for (int i = 0; i < 3; i++) assert_status(TPOOL_OK, background_join(&drains[i]));
    assert_int_equal(5, atomic_load(&runs));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void drain_of_a_paused_pool_ends_when_its_work_is_cancelled(void **state) {
    (void)state;
    static atomic_int runs;
    static background drain;
    tpool *pool = new_pool(2);
    assert_status(TPOOL_OK, tpool_pause(pool));
    tpool_future *futures[3];
    for (int i = 0; i < 3; i++)
        futures[i] = submitted_task(pool, (tpool_task){ .fn = count_up, .arg = &runs, .priority = i - 1 });
    background_start_blocked(&drain, call_drain, pool);
    assert_true(tpool_future_cancel(futures[0]));
    assert_true(tpool_future_cancel(futures[1]));
    background_await_block(&drain);
    assert_true(tpool_future_cancel(futures[2]));
    assert_status(TPOOL_OK, background_join(&drain));
    assert_int_equal(0, atomic_load(&runs));
    for (int i = 0; i < 3; i++) tpool_future_release(futures[i]);
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_works(pool);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* A tree of tasks: each submits two until the depth is used up. */
typedef struct tree {
    tpool *pool;
    atomic_int left, runs, refused;
} tree;
static void *grow(void *arg) {
    tree *t = arg;
    for (int i = 0; i < 2; i++) {
        if (atomic_fetch_sub(&t->left, 1) > 0) {
            if (tpool_submit(t->pool, grow, t, NULL) != TPOOL_OK) atomic_fetch_add(&t->refused, 1);
        }
    }
    atomic_fetch_add(&t->runs, 1);
    return NULL;
}

static void drain_and_destroy_let_tasks_finish_spreading(void **state) {
    (void)state;
    for (int round = 0; round < 8; round++) {
        static tree t;
        int size = COUNT(1000);
        atomic_store(&t.left, size);
        atomic_store(&t.runs, 0);
        t.pool = new_pool(round % 4 < 2 ? 1 : 3);
        assert_status(TPOOL_OK, tpool_submit(t.pool, grow, &t, NULL));
        if (round % 2) {
            assert_status(TPOOL_OK, tpool_drain(t.pool, LIMIT));
            assert_int_equal(size + 1, atomic_load(&t.runs));
        }
        assert_status(TPOOL_OK, tpool_destroy(t.pool));
        assert_int_equal(size + 1, atomic_load(&t.runs));
        assert_int_equal(0, atomic_load(&t.refused));
    }
}

static void pass_gate_in_callback(tpool_future *future, void *context) {
    (void)future;
    gate_pass((gate *)context);
    atomic_fetch_add(&callbacks_run, 1);
}

/* The future ends in another thread, which stays in its callback; drain and destroy must wait for that. */
static void waits_for_callbacks_of(tpool_status (*ending)(void *future), int64_t expires_ns) {
    static gate in_callback = GATE_CLOSED;
    static background ender, destroyer;
    gate_close(&in_callback);
    atomic_store(&callbacks_run, 0);
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, tpool_pause(pool));
    tpool_future *future = submitted_task(pool, (tpool_task){ .fn = nothing, .expires_ns = expires_ns });
    /* Adding a callback looks at the future too: it must not have expired yet, and must have when the other looks. */
    assert_status(TPOOL_OK, tpool_future_add_done_callback(future, pass_gate_in_callback, &in_callback));
    sleep_ms((int)(expires_ns / TPOOL_MS(1)) + 2);
    background_start(&ender, ending, future);
    AWAIT_ARRIVALS(&in_callback, 1);
    /* It counts already, and makes room. */
    tpool_stats stats = stats_of(pool);
    assert_int_equal(0, stats.queued);
    assert_int_equal(1, stats.cancelled + stats.expired);
    assert_int_equal(expires_ns ? 1 : 0, stats.expired);
    assert_status(TPOOL_TIMEOUT, tpool_drain(pool, 0));
    assert_status(TPOOL_TIMEOUT, tpool_drain(pool, TPOOL_MS(10)));
    background_start_blocked(&destroyer, call_destroy, pool);
    gate_open(&in_callback);
    assert_status(TPOOL_OK, background_join(&destroyer));
    assert_int_equal(1, atomic_load(&callbacks_run));
    assert_status(TPOOL_OK, background_join(&ender));
    tpool_future_release(future);
}

static void drain_and_destroy_wait_for_the_callbacks_of_a_cancel_elsewhere(void **state) {
    (void)state;
    waits_for_callbacks_of(call_cancel, 0);
}

static void drain_and_destroy_wait_for_the_callbacks_of_an_expiry_noticed_elsewhere(void **state) {
    (void)state;
    waits_for_callbacks_of(call_done, TPOOL_MS(300));
}

static void drain_waits_for_the_callbacks_of_a_finished_task(void **state) {
    (void)state;
    static gate in_callback = GATE_CLOSED, hold = GATE_CLOSED;
    static background drain;
    atomic_store(&callbacks_run, 0);
    tpool *pool = new_pool(2);
    tpool_future *future = submitted(pool, gate_task, &hold);
    AWAIT_ARRIVALS(&hold, 1);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(future, pass_gate_in_callback, &in_callback));
    gate_open(&hold);
    AWAIT_ARRIVALS(&in_callback, 1);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, NULL)); /* a waiter need not wait for them */
    assert_status(TPOOL_TIMEOUT, tpool_drain(pool, TPOOL_MS(10)));
    background_start_blocked(&drain, call_drain, pool);
    gate_open(&in_callback);
    assert_status(TPOOL_OK, background_join(&drain));
    assert_int_equal(1, atomic_load(&callbacks_run));
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- destroy */

static void destroy_resumes_a_paused_pool_and_runs_what_is_queued(void **state) {
    (void)state;
    static atomic_int runs;
    tpool *pool = new_pool(2);
    assert_status(TPOOL_OK, tpool_pause(pool));
    for (int i = 0; i < 20; i++) assert_status(TPOOL_OK, tpool_submit(pool, count_up, &runs, NULL));
    assert_int_equal(0, atomic_load(&runs));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(20, atomic_load(&runs));
}

static void *pause_until_refused(void *pool) {
    int64_t end = tpool_now() + TPOOL_MS(200); /* a destroy that is held up must begin meanwhile */
    while (tpool_pause(pool) == TPOOL_OK && tpool_now() < end) {
        (void)tpool_resume(pool); /* destroy has not begun */
        sleep_ms(1);
    }
    return NULL;
}
static tpool_status destroy_in_background(void *pool) { return tpool_destroy(pool); }
static void no_task_pauses_a_pool_that_is_being_destroyed(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *pausing = submitted(pool, pause_until_refused, pool), *behind = submitted(pool, nothing, NULL);
    background destroying;
    background_start(&destroying, destroy_in_background, pool);
    assert_status(TPOOL_OK, background_join(&destroying));
    assert_status(TPOOL_OK, end_of(pausing));
    assert_status(TPOOL_OK, end_of(behind));
}

static void drains_that_are_under_way_have_left_when_destroy_frees(void **state) {
    (void)state;
    for (int round = 0; round < COUNT(10) + 1; round++) {
        static gate hold = GATE_CLOSED;
        static background drains[3], destroyer;
        gate_close(&hold);
        tpool *pool = new_pool(1);
        assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
        for (int i = 0; i < 3; i++) background_start(&drains[i], call_drain, pool);
        for (int i = 0; i < 3; i++) background_await_block(&drains[i]);
        background_start_blocked(&destroyer, call_destroy, pool);
        gate_open(&hold);
        assert_status(TPOOL_OK, background_join(&destroyer));
        for (int i = 0; i < 3; i++) assert_status(TPOOL_OK, background_join(&drains[i]));
    }
}

static void submitters_blocked_on_a_full_queue_have_left_when_destroy_frees(void **state) {
    (void)state;
    for (int round = 0; round < COUNT(10) + 1; round++) {
        static gate hold = GATE_CLOSED;
        static atomic_int runs;
        static submit_call submits[3];
        static background submitters[3], destroyer;
        gate_close(&hold);
        atomic_store(&runs, 0);
        tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1 });
        assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
        AWAIT_ARRIVALS(&hold, 1);
        assert_status(TPOOL_OK, tpool_submit(pool, count_up, &runs, NULL));
        for (int i = 0; i < 3; i++) {
            submits[i] = (submit_call){ .pool = pool, .task = { .fn = count_up, .arg = &runs } };
            background_start(&submitters[i], call_plain_submit, &submits[i]);
        }
        for (int i = 0; i < 3; i++) background_await_block(&submitters[i]);
        background_start_blocked(&destroyer, call_destroy, pool);
        gate_open(&hold);
        assert_status(TPOOL_OK, background_join(&destroyer));
        int taken = 0;
        for (int i = 0; i < 3; i++) {
            /* The drain makes room, the shutdown turns them away: either may come first. */
            tpool_status status = background_join(&submitters[i]);
            if (status == TPOOL_OK) {
                taken++;
                assert_status(TPOOL_OK, tpool_future_result(submits[i].future, 0, NULL));
            } else {
                assert_status(TPOOL_SHUTDOWN, status);
                assert_null(submits[i].future);
            }
            tpool_future_release(submits[i].future);
        }
        assert_int_equal(1 + taken, atomic_load(&runs));
    }
}

static void *return_bytes(void *arg) {
    (void)arg;
    return tpool_return("some bytes", 11);
}
static void *raise_long(void *arg) {
    (void)arg;
    return tpool_raise(-7, "%s and %d", "text", 42);
}

static void futures_stay_valid_after_their_pool_is_destroyed(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static atomic_int called_back;
    tpool *pool = new_pool(1);
    tpool_future *gated = submitted(pool, gate_task, &hold);
    tpool_future *bytes = submitted(pool, return_bytes, NULL);
    tpool_future *raised = submitted_task(pool, (tpool_task){ .fn = raise_long, .name = "raiser" });
    tpool_future *cancelled = submitted(pool, nothing, NULL);
    tpool_future *expired = submitted_task(pool, (tpool_task){ .fn = nothing, .expires_ns = 1 });
    AWAIT_ARRIVALS(&hold, 1);
    assert_true(tpool_future_cancel(cancelled));
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_destroy(pool));

    void *result = NULL;
    const tpool_error *error = NULL;
    assert_status(TPOOL_OK, tpool_future_result(gated, TPOOL_FOREVER, &result));
    assert_ptr_equal(&hold, result);
    assert_false(tpool_future_cancel(gated));
    assert_status(TPOOL_OK, tpool_future_result(bytes, 0, &result));
    assert_string_equal("some bytes", result);
    assert_int_equal(11, tpool_future_result_size(bytes));
    assert_status(TPOOL_FAILED, tpool_future_result(raised, 0, &result));
    assert_null(result);
    assert_status(TPOOL_OK, tpool_future_error(raised, 0, &error));
    assert_int_equal(-7, error->code);
    assert_string_equal("text and 42", error->message);
    assert_string_equal("raiser", error->task);
    assert_string_equal("text and 42", tpool_future_message(raised));
    assert_true(tpool_future_cancelled(cancelled));
    assert_status(TPOOL_CANCELLED, tpool_future_error(cancelled, 0, &error));
    assert_status(TPOOL_EXPIRED, tpool_future_result(expired, 0, NULL));
    assert_int_equal(TPOOL_FINISHED, tpool_future_state(expired));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(bytes, store_thread, &called_back));
    assert_int_equal(1, atomic_load(&called_back));
    tpool_future *all[] = { gated, bytes, raised, cancelled, expired };
    size_t done = 0;
    assert_status(TPOOL_OK, tpool_wait(all, 5, TPOOL_ALL_COMPLETED, 0, &done));
    assert_int_equal(5, done);
    tpool_future_release(tpool_future_retain(raised));
    for (int i = 0; i < 5; i++) tpool_future_release(all[i]);
}

static const struct CMUnitTest tests[] = {
    TEST(nothing_starts_unasked_between_stopping_and_cancelling),
    TEST(shutdown_returns_at_once_and_queued_work_still_completes),
    TEST(shutdown_with_wait_returns_when_the_workers_have_ended),
    TEST(shutdown_with_wait_of_a_pool_never_used_returns),
    TEST(shutdown_with_cancel_pending_cancels_what_has_not_started),
    TEST(shutdown_with_stop_running_asks_what_runs_to_stop),
    TEST(shutdown_called_again_adds_its_flags),
    TEST(shutdown_resumes_a_paused_pool_and_pause_after_it_is_refused),
    TEST(after_shutdown_the_tasks_themselves_cannot_submit),
    TEST(a_task_may_shut_its_own_pool_down_without_waiting),
    TEST(drain_waits_for_on_failure_of_what_a_broken_pool_had_queued),
    TEST(drain_gives_timeout_until_nothing_is_queued_or_running),
    TEST(drain_of_a_paused_pool_waits_for_a_resume),
    TEST(drain_of_a_paused_pool_ends_when_its_work_is_cancelled),
    TEST(drain_and_destroy_let_tasks_finish_spreading),
    TEST(drain_and_destroy_wait_for_the_callbacks_of_a_cancel_elsewhere),
    TEST(drain_and_destroy_wait_for_the_callbacks_of_an_expiry_noticed_elsewhere),
    TEST(drain_waits_for_the_callbacks_of_a_finished_task),
    TEST(destroy_resumes_a_paused_pool_and_runs_what_is_queued),
    TEST(no_task_pauses_a_pool_that_is_being_destroyed),
    TEST(drains_that_are_under_way_have_left_when_destroy_frees),
    TEST(submitters_blocked_on_a_full_queue_have_left_when_destroy_frees),
    TEST(futures_stay_valid_after_their_pool_is_destroyed),
};
RUN_TESTS(tests)
