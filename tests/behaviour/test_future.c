/* Futures: every state and what it answers, results and errors asked by many, cancelling against start, against
   finish and while arg_free blocks, time limits, references, futures without their pool, and the producing side. */
#include "support.h"

#include <limits.h>
#include <sched.h>

static void *raise_21(void *arg) {
    (void)arg;
    return tpool_raise(21, "failed on purpose");
}
static void *return_text(void *arg) { return tpool_return(arg, strlen(arg) + 1); }

/* ---- All that a future answers, for each state that it can be in ---- */

typedef struct answers {
    tpool_state state;
    tpool_status result;       /* what result(0) gives, and result(FOREVER) if the future is done */
    tpool_status error;        /* what error(0) gives */
    tpool_status error_status; /* in *error; TPOOL_OK: *error is NULL */
    void *value;
    const char *message; /* NULL: any that is not empty */
} answers;

static void check_answers(tpool_future *future, const answers *expected) {
    static int junk;
    static const tpool_error junk_error;
    bool done = expected->state == TPOOL_FINISHED || expected->state == TPOOL_STATE_CANCELLED;
    for (int i = 0; i < 2; i++) { /* asking changes nothing */
        assert_int_equal(expected->state, tpool_future_state(future));
        assert_true(tpool_future_done(future) == done);
        assert_true(tpool_future_running(future) == (expected->state == TPOOL_RUNNING));
        assert_true(tpool_future_cancelled(future) == (expected->state == TPOOL_STATE_CANCELLED));
        int64_t timeouts[] = { 0, -1, INT64_MIN, TPOOL_MS(1), LIMIT, TPOOL_FOREVER };
        for (int t = 0; t < (done ? 6 : 4); t++) {
            void *result = &junk;
            assert_status(expected->result, tpool_future_result(future, timeouts[t], &result));
            assert_ptr_equal(expected->value, result);
            assert_status(expected->result, tpool_future_result(future, timeouts[t], NULL));
            const tpool_error *error = &junk_error;
            assert_status(expected->error, tpool_future_error(future, timeouts[t], &error));
            if (expected->error_status == TPOOL_OK) {
                assert_null(error);
            } else {
                assert_non_null(error);
                assert_status(expected->error_status, error->status);
                assert_status(error->status, error->cause);
                assert_non_null(error->message);
                assert_true(strlen(error->message) > 0);
            }
        }
        const char *message = tpool_future_message(future);
        assert_non_null(message);
        if (expected->message) assert_string_equal(expected->message, message);
        else assert_true(strlen(message) > 0);
    }
}

static void each_state_of_a_pools_future_has_its_answers(void **unused) {
    (void)unused;
    enum { SUCCESS, FAILURE, CANCEL, EXPIRY, BREAK, TASKS };
    held_pool h;
    held_create(&h, NULL);
    int value = 0;
    tpool_task tasks[TASKS] = {
        [SUCCESS] = { .fn = nothing, .arg = &value },
        [FAILURE] = { .fn = raise_21 },
        [CANCEL] = { .fn = raise_21 },
        [EXPIRY] = { .fn = raise_21, .expires_ns = TPOOL_MS(50) },
        [BREAK] = { .fn = end_thread },
    };
    answers ends[TASKS] = {
        [SUCCESS] = { TPOOL_FINISHED, TPOOL_OK, TPOOL_OK, TPOOL_OK, &value, tpool_status_text(TPOOL_OK) },
        [FAILURE] = { TPOOL_FINISHED, TPOOL_FAILED, TPOOL_OK, TPOOL_FAILED, NULL, "failed on purpose" },
        [CANCEL] = { TPOOL_STATE_CANCELLED, TPOOL_CANCELLED, TPOOL_CANCELLED, TPOOL_CANCELLED, NULL,
                     tpool_status_text(TPOOL_CANCELLED) },
        [EXPIRY] = { TPOOL_FINISHED, TPOOL_EXPIRED, TPOOL_OK, TPOOL_EXPIRED, NULL, tpool_status_text(TPOOL_EXPIRED) },
        [BREAK] = { TPOOL_FINISHED, TPOOL_BROKEN, TPOOL_OK, TPOOL_BROKEN, NULL, NULL },
    };
    answers pending = { TPOOL_PENDING, TPOOL_TIMEOUT, TPOOL_TIMEOUT, TPOOL_OK, NULL, NULL };
    answers running = { TPOOL_RUNNING, TPOOL_TIMEOUT, TPOOL_TIMEOUT, TPOOL_OK, NULL, NULL };
    tpool_future *futures[TASKS] = { NULL };
    for (int i = 0; i < TASKS; i++) {
        futures[i] = submitted_task(h.pool, tasks[i]);
        if (i != EXPIRY) check_answers(futures[i], &pending);
    }
    check_answers(h.holder, &running);
    assert_true(tpool_future_cancel(futures[CANCEL]));
    check_answers(futures[CANCEL], &ends[CANCEL]);
    assert_status(TPOOL_EXPIRED, tpool_future_result(futures[EXPIRY], LIMIT, NULL));
    check_answers(futures[EXPIRY], &ends[EXPIRY]);
    gate_open(&h.gate);
    for (int i = 0; i < TASKS; i++) {
        assert_status(ends[i].result, tpool_future_result(futures[i], LIMIT, NULL));
        check_answers(futures[i], &ends[i]);
    }
    held_destroy(&h);
    for (int i = 0; i < TASKS; i++) {
        check_answers(futures[i], &ends[i]); /* the pool is gone */
        tpool_future_release(futures[i]);
    }
}

static void errors_tell_status_code_message_and_task(void **unused) {
    (void)unused;
    enum { FAILURE, CANCEL, DROP, TASKS };
    held_pool h;
    held_create(&h, &(tpool_config){ .queue_capacity = 2, .on_full = TPOOL_FULL_DROP_OLDEST });
    tpool_task dropped = { .fn = nothing, .name = "drops" }, failed = { .fn = raise_21, .name = "fails" },
               cancelled = { .fn = nothing, .name = "gives way" };
    tpool_future *futures[TASKS] = { NULL };
    futures[DROP] = submitted_task(h.pool, dropped);
    futures[FAILURE] = submitted_task(h.pool, failed);
    futures[CANCEL] = submitted_task(h.pool, cancelled);
    assert_true(tpool_future_cancel(futures[CANCEL]));
    held_destroy(&h);

    const tpool_error *error = NULL;
    assert_status(TPOOL_OK, tpool_future_error(futures[FAILURE], 0, &error));
    assert_status(TPOOL_FAILED, error->status);
    assert_int_equal(21, error->code);
    assert_string_equal("failed on purpose", error->message);
    assert_string_equal("fails", error->task);
    const tpool_error *again = NULL;
    assert_status(TPOOL_OK, tpool_future_error(futures[FAILURE], 0, &again));
    assert_string_equal(again->message, error->message);

    assert_status(TPOOL_CANCELLED, tpool_future_error(futures[CANCEL], 0, &error));
    assert_status(TPOOL_CANCELLED, error->status);
    assert_string_equal("gives way", error->task);
    char cancel_message[256];
    snprintf(cancel_message, sizeof cancel_message, "%s", error->message);

    /* A dropped one is a cancelled one that says why. */
    assert_status(TPOOL_CANCELLED, tpool_future_error(futures[DROP], 0, &error));
    assert_status(TPOOL_CANCELLED, error->status);
    assert_string_equal("drops", error->task);
    assert_non_null(strstr(error->message, "drop"));
    assert_string_not_equal(cancel_message, error->message);
    assert_true(tpool_future_cancelled(futures[DROP]));
    assert_true(tpool_future_cancel(futures[DROP]));
    for (int i = 0; i < TASKS; i++) tpool_future_release(futures[i]);
}

static void what_a_broken_initializer_leaves_is_finished_and_broken(void **unused) {
    (void)unused;
    gate g = GATE_CLOSED;
    tpool_config config = { .max_workers = 1, .initializer = pass_gate_and_fail, .context = &g };
    tpool *pool = new_pool_as(config);
    tpool_task task = { .fn = nothing, .name = "never starts" };
    tpool_future *future = submitted_task(pool, task);
    gate_await_arrivals(&g, 1);
    assert_int_equal(TPOOL_PENDING, tpool_future_state(future)); /* it is the initializer that runs */
    gate_open(&g);
    assert_status(TPOOL_BROKEN, tpool_future_result(future, LIMIT, NULL));
    answers broken = { TPOOL_FINISHED, TPOOL_BROKEN, TPOOL_OK, TPOOL_BROKEN, NULL, NULL };
    check_answers(future, &broken);
    const tpool_error *error = NULL;
    assert_status(TPOOL_OK, tpool_future_error(future, 0, &error));
    assert_string_equal("never starts", error->task);
    assert_false(tpool_future_cancel(future));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    check_answers(future, &broken);
    tpool_future_release(future);
}

/* ---- Asked by many, again and again ---- */

typedef struct asker {
    pthread_t thread;
    tpool_future *good, *bad;
    void *value;
    int rounds, wrong;
    bool patient; /* waits without a limit; the others poll */
} asker;

static void *ask_over_and_over(void *arg) {
    asker *a = arg;
    int64_t end = tpool_now() + LIMIT;
    if (!a->patient) {
        while (tpool_future_result(a->good, TPOOL_US(50), NULL) == TPOOL_TIMEOUT && tpool_now() < end) { }
        while (!tpool_future_done(a->bad) && tpool_now() < end) sched_yield();
    }
    for (int i = 0; i < a->rounds; i++) {
        int64_t timeout = a->patient ? TPOOL_FOREVER : i % 2 ? 0 : LIMIT;
        void *result = NULL;
        const tpool_error *error = NULL;
        if (tpool_future_result(a->good, timeout, &result) != TPOOL_OK || result != a->value) a->wrong++;
        if (tpool_future_error(a->good, timeout, &error) != TPOOL_OK || error) a->wrong++;
        if (tpool_future_result(a->bad, timeout, &result) != TPOOL_FAILED || result) a->wrong++;
        if (tpool_future_error(a->bad, timeout, &error) != TPOOL_OK || !error || error->code != 21 ||
            strcmp(error->message, "failed on purpose") != 0)
            a->wrong++;
        if (strcmp(tpool_future_message(a->bad), "failed on purpose") != 0) a->wrong++;
        if (tpool_future_state(a->good) != TPOOL_FINISHED || tpool_future_cancel(a->bad)) a->wrong++;
    }
    return NULL;
}

static void many_threads_ask_many_times_and_get_the_same(void **unused) {
    (void)unused;
    enum { THREADS = 6 };
    held_pool h;
    held_create(&h, NULL);
    int value = 0;
    tpool_future *good = NULL, *bad = NULL;
    good = submitted(h.pool, nothing, &value);
    bad = submitted(h.pool, raise_21, NULL);
    asker askers[THREADS];
    for (int t = 0; t < THREADS; t++) {
        askers[t] = (asker){ .good = good, .bad = bad, .value = &value, .patient = t % 2 };
        askers[t].rounds = COUNT(5000);
        assert_int_equal(0, pthread_create(&askers[t].thread, NULL, ask_over_and_over, &askers[t]));
    }
    gate_open(&h.gate);
    for (int t = 0; t < THREADS; t++) {
        pthread_join(askers[t].thread, NULL);
        assert_int_equal(0, askers[t].wrong);
    }
    held_destroy(&h);
    tpool_future_release(good);
    tpool_future_release(bad);
}

/* ---- Time limits ---- */

static void a_wait_lasts_as_long_as_its_limit_and_not_less(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    tpool_future *queued = submitted(h.pool, nothing, &h);
    tpool_future *both[] = { queued, h.holder };
    for (int i = 0; i < 2; i++) {
        int64_t limits[] = { TPOOL_MS(20), TPOOL_US(300), 1, 0, -1 };
        for (int t = 0; t < 5; t++) {
            void *result = &h;
            const tpool_error *error = NULL;
            int64_t begin = tpool_now();
            assert_status(TPOOL_TIMEOUT, tpool_future_result(both[i], limits[t], &result));
            int64_t middle = tpool_now();
            assert_status(TPOOL_TIMEOUT, tpool_future_error(both[i], limits[t], &error));
            assert_true(middle - begin >= limits[t]);
            assert_true(tpool_now() - middle >= limits[t]);
            assert_null(result);
            assert_null(error);
        }
    }
    held_destroy(&h);
    tpool_future_release(queued);
}

typedef struct waiter {
    pthread_t thread;
    tpool_future *future;
    int64_t timeout;
    atomic_bool waiting, woken;
    tpool_status status;
    void *result;
} waiter;

static void *wait_for_result(void *arg) {
    waiter *w = arg;
    atomic_store(&w->waiting, true);
    w->status = tpool_future_result(w->future, w->timeout, &w->result);
    atomic_store(&w->woken, true);
    return NULL;
}
static void waiter_start(waiter *w, tpool_future *future, int64_t timeout) {
    *w = (waiter){ .future = future, .timeout = timeout };
    assert_int_equal(0, pthread_create(&w->thread, NULL, wait_for_result, w));
    EVENTUALLY(atomic_load(&w->waiting));
}

static void a_wait_ends_with_the_task_whatever_its_limit(void **unused) {
    (void)unused;
    int64_t timeouts[] = { TPOOL_FOREVER, TPOOL_FOREVER - 1, INT64_MAX / 2, TPOOL_SEC(3600) };
    enum { WAITERS = sizeof timeouts / sizeof timeouts[0] };
    held_pool h;
    held_create(&h, NULL);
    int value = 0;
    tpool_future *future = submitted(h.pool, nothing, &value);
    waiter waiters[WAITERS];
    for (int i = 0; i < WAITERS; i++) waiter_start(&waiters[i], future, timeouts[i]);
    sleep_ms(10); /* so that most are asleep; those that are not find it done, which must be right as well */
    for (int i = 0; i < WAITERS; i++) assert_false(atomic_load(&waiters[i].woken));
    gate_open(&h.gate);
    for (int i = 0; i < WAITERS; i++) {
        EVENTUALLY(atomic_load(&waiters[i].woken));
        pthread_join(waiters[i].thread, NULL);
        assert_status(TPOOL_OK, waiters[i].status);
        assert_ptr_equal(&value, waiters[i].result);
    }
    held_destroy(&h);
    tpool_future_release(future);
}

/* ---- Cancel ---- */

static void cancelling_a_pending_task_keeps_it_from_running(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    atomic_int runs = 0, callbacks = 0;
    tpool_future *first = NULL, *second = NULL, *third = NULL;
    first = submitted(h.pool, count_up, &runs);
    second = submitted(h.pool, count_up, &runs);
    third = submitted(h.pool, count_up, &runs);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(second, count_callback, &callbacks));
    assert_true(tpool_future_cancel(second));
    assert_int_equal(1, atomic_load(&callbacks));
    assert_true(tpool_future_cancel(second)); /* it is, since before */
    assert_int_equal(1, atomic_load(&callbacks));
    tpool_stats stats = { 0 };
    assert_status(TPOOL_OK, tpool_get_stats(h.pool, &stats));
    assert_int_equal(1, stats.cancelled);
    assert_int_equal(2, stats.queued);
    gate_open(&h.gate);
    assert_status(TPOOL_OK, tpool_future_result(third, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_future_result(first, LIMIT, NULL));
    assert_int_equal(2, atomic_load(&runs));
    assert_status(TPOOL_CANCELLED, tpool_future_result(second, 0, NULL));
    held_destroy(&h);
    assert_int_equal(2, atomic_load(&runs));
    tpool_future_release(first);
    tpool_future_release(second);
    tpool_future_release(third);
}

static void cancelling_what_runs_or_has_ended_changes_nothing(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    tpool_future *failed = NULL;
    atomic_int callbacks = 0;
    failed = submitted(h.pool, raise_21, NULL);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(h.holder, count_callback, &callbacks));
    assert_false(tpool_future_cancel(h.holder));
    assert_int_equal(TPOOL_RUNNING, tpool_future_state(h.holder));
    assert_int_equal(0, atomic_load(&callbacks));
    gate_open(&h.gate);
    void *result = NULL;
    assert_status(TPOOL_OK, tpool_future_result(h.holder, LIMIT, &result));
    assert_ptr_equal(&h.gate, result);
    assert_false(tpool_future_cancel(h.holder));
    assert_status(TPOOL_OK, tpool_future_result(h.holder, 0, &result));
    assert_ptr_equal(&h.gate, result);
    assert_int_equal(TPOOL_FINISHED, tpool_future_state(h.holder));
    assert_status(TPOOL_FAILED, tpool_future_result(failed, LIMIT, NULL));
    assert_false(tpool_future_cancel(failed));
    assert_false(tpool_future_cancelled(failed));
    assert_string_equal("failed on purpose", tpool_future_message(failed));
    held_destroy(&h);
    assert_int_equal(1, atomic_load(&callbacks));
    tpool_future_release(failed);
}

typedef struct own {
    gate gate;
    tpool_future *future;
    bool cancelled;
    tpool_state state;
} own;
static void *cancel_myself(void *arg) {
    own *o = arg;
    gate_pass(&o->gate);
    o->cancelled = tpool_future_cancel(o->future);
    o->state = tpool_future_state(o->future);
    return o;
}

static void a_task_cannot_cancel_itself(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    own o = { .gate = GATE_CLOSED, .cancelled = true };
    o.future = submitted(pool, cancel_myself, &o);
    gate_open(&o.gate);
    assert_status(TPOOL_OK, tpool_future_result(o.future, LIMIT, NULL));
    assert_false(o.cancelled);
    assert_int_equal(TPOOL_RUNNING, o.state);
    tpool_future_release(o.future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

typedef struct mixed_wait {
    pthread_t thread;
    tpool_future *future;
    int how;
    bool right;
} mixed_wait;

static void *wait_in_some_way(void *arg) {
    mixed_wait *m = arg;
    const tpool_error *error = NULL;
    size_t done = 0;
    tpool_future *array[1] = { m->future }, *next = NULL;
    tpool_completions *completions = NULL;
    switch (m->how % 6) {
    case 0: m->right = tpool_future_result(m->future, TPOOL_FOREVER, NULL) == TPOOL_CANCELLED; break;
    case 1: m->right = tpool_future_result(m->future, LIMIT, NULL) == TPOOL_CANCELLED; break;
    case 2:
        m->right = tpool_future_error(m->future, TPOOL_FOREVER, &error) == TPOOL_CANCELLED && error &&
                   error->status == TPOOL_CANCELLED;
        break;
    case 3: m->right = tpool_wait(array, 1, TPOOL_ALL_COMPLETED, TPOOL_FOREVER, &done) == TPOOL_OK && done == 1; break;
    case 4: m->right = tpool_wait(array, 1, TPOOL_FIRST_COMPLETED, LIMIT, &done) == TPOOL_OK && done == 1; break;
    default:
        m->right = tpool_as_completed(array, 1, &completions) == TPOOL_OK &&
                   tpool_completions_next(completions, TPOOL_FOREVER, &next) == TPOOL_OK && next == m->future;
        tpool_completions_destroy(completions);
        break;
    }
    return NULL;
}

static void a_cancel_wakes_whoever_waits_though_the_worker_is_held(void **unused) {
    (void)unused;
    enum { WAITS = 12 };
    held_pool h;
    held_create(&h, NULL);
    tpool_future *future = submitted(h.pool, nothing, NULL);
    mixed_wait waits[WAITS];
    for (int i = 0; i < WAITS; i++) {
        waits[i] = (mixed_wait){ .future = future, .how = i };
        assert_int_equal(0, pthread_create(&waits[i].thread, NULL, wait_in_some_way, &waits[i]));
    }
    sleep_ms(10); /* so that most are asleep */
    assert_true(tpool_future_cancel(future));
    for (int i = 0; i < WAITS; i++) {
        pthread_join(waits[i].thread, NULL);
        assert_true(waits[i].right);
    }
    held_destroy(&h);
    tpool_future_release(future);
}

/* While arg_free runs inside a cancel, nothing has happened yet for everybody else. */
typedef struct slow_free {
    gate in_free;
    atomic_int runs, frees;
    pthread_t free_thread;
} slow_free;

static void *slow_free_run(void *arg) {
    slow_free *s = arg;
    atomic_fetch_add(&s->runs, 1);
    return s;
}
static void free_slowly(void *arg) {
    slow_free *s = arg;
    s->free_thread = pthread_self();
    gate_pass(&s->in_free);
    atomic_fetch_add(&s->frees, 1);
}

typedef struct canceller {
    pthread_t thread;
    tpool_future *future;
    atomic_int answer;
} canceller;
static void *cancel_in_thread(void *arg) {
    canceller *c = arg;
    bool answer = tpool_future_cancel(c->future);
    atomic_store(&c->answer, answer);
    return NULL;
}
static void canceller_start(canceller *c, tpool_future *future) {
    c->future = future;
    atomic_store(&c->answer, -1);
    assert_int_equal(0, pthread_create(&c->thread, NULL, cancel_in_thread, c));
}

typedef struct threaded_count {
    atomic_int count;
    pthread_t thread;
} threaded_count;
static void note_thread(tpool_future *future, void *context) {
    (void)future;
    threaded_count *t = context;
    t->thread = pthread_self();
    atomic_fetch_add(&t->count, 1);
}

static void until_arg_free_returns_the_state_stays_pending_and_waits_go_on(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    slow_free s = { .in_free = GATE_CLOSED };
    tpool_task task = { .fn = slow_free_run, .arg = &s, .arg_free = free_slowly };
    tpool_future *future = NULL;
    threaded_count before = { 0 }, during = { 0 };
    future = submitted_task(h.pool, task);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(future, note_thread, &before));
    waiter patient, limited;
    waiter_start(&patient, future, TPOOL_FOREVER);
    waiter_start(&limited, future, 2 * LIMIT);
    canceller first, second;
    canceller_start(&first, future);
    gate_await_arrivals(&s.in_free, 1);

    answers pending = { TPOOL_PENDING, TPOOL_TIMEOUT, TPOOL_TIMEOUT, TPOOL_OK, NULL, NULL };
    check_answers(future, &pending);
    assert_status(TPOOL_TIMEOUT, tpool_future_result(future, TPOOL_MS(10), NULL));
    size_t done = 1;
    assert_status(TPOOL_TIMEOUT, tpool_wait(&future, 1, TPOOL_ALL_COMPLETED, TPOOL_MS(5), &done));
    assert_int_equal(0, done);
    assert_false(atomic_load(&patient.woken));
    assert_false(atomic_load(&limited.woken));
    canceller_start(&second, future); /* another cancel does not wait for the first */
    EVENTUALLY(atomic_load(&second.answer) != -1);
    assert_int_equal(1, atomic_load(&second.answer));
    assert_int_equal(-1, atomic_load(&first.answer));
    assert_int_equal(TPOOL_PENDING, tpool_future_state(future));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(future, note_thread, &during));
    assert_int_equal(0, atomic_load(&before.count) + atomic_load(&during.count));

    /* The worker comes by and must not start it; and the pool is not empty while the cancel goes on. */
    tpool_future *behind = submitted(h.pool, nothing, NULL);
    gate_open(&h.gate);
    assert_status(TPOOL_OK, tpool_future_result(behind, LIMIT, NULL));
    assert_int_equal(0, atomic_load(&s.runs));
    assert_status(TPOOL_TIMEOUT, tpool_drain(h.pool, TPOOL_MS(10)));
    assert_int_equal(TPOOL_PENDING, tpool_future_state(future));

    gate_open(&s.in_free);
    EVENTUALLY(atomic_load(&first.answer) != -1);
    assert_int_equal(1, atomic_load(&first.answer));
    EVENTUALLY(atomic_load(&patient.woken) && atomic_load(&limited.woken));
    pthread_join(patient.thread, NULL);
    pthread_join(limited.thread, NULL);
    assert_status(TPOOL_CANCELLED, patient.status);
    assert_status(TPOOL_CANCELLED, limited.status);
    assert_int_equal(TPOOL_STATE_CANCELLED, tpool_future_state(future));
    assert_int_equal(1, atomic_load(&s.frees));
    assert_int_equal(1, atomic_load(&before.count));
    assert_int_equal(1, atomic_load(&during.count));
    assert_true(pthread_equal(first.thread, before.thread));
    assert_true(pthread_equal(first.thread, during.thread));
    assert_true(pthread_equal(first.thread, s.free_thread));
    pthread_join(first.thread, NULL);
    pthread_join(second.thread, NULL);
    assert_status(TPOOL_OK, tpool_drain(h.pool, LIMIT));
    held_destroy(&h);
    assert_int_equal(0, atomic_load(&s.runs));
    assert_int_equal(1, atomic_load(&s.frees));
    tpool_future_release(future);
    tpool_future_release(behind);
}

/* ---- Races of cancel ---- */

typedef struct racer {
    atomic_int runs, frees, callbacks;
    tpool_status seen_in_callback;
} racer;
static void *racer_run(void *arg) {
    racer *r = arg;
    atomic_fetch_add(&r->runs, 1);
    return r;
}
static void racer_free(void *arg) { atomic_fetch_add(&((racer *)arg)->frees, 1); }
static void racer_callback(tpool_future *future, void *context) {
    racer *r = context;
    r->seen_in_callback = tpool_future_result(future, 0, NULL);
    atomic_fetch_add(&r->callbacks, 1);
}
static void *spin_until_set(void *arg) {
    atomic_bool *go = arg;
    while (!atomic_load_explicit(go, memory_order_acquire)) sched_yield();
    return NULL;
}
/* Enough of a stress: on a busy machine its rounds may last long. */
static bool enough(int64_t begin, int some, int others) {
    return some > 0 && others > 0 && tpool_now() - begin > TPOOL_MS(700);
}
static void spin(int rounds) {
    for (volatile int i = 0; i < rounds; i++) { }
}

/* The worker leaves a task and takes up the next one while the main thread cancels that. The canceller's delay
   grows when it came first and shrinks when it came too late, so that it stays where both happen. */
static void stress_cancel_against_start_has_one_outcome(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    int rounds = COUNT(1000), cancelled = 0, ran = 0, delay = 0;
    int64_t begin = tpool_now();
    while (cancelled + ran < rounds && !enough(begin, cancelled, ran)) {
        racer r = { 0 };
        atomic_bool go = false;
        tpool_task task = { .fn = racer_run, .arg = &r, .arg_free = racer_free };
        tpool_future *future = NULL;
        assert_status(TPOOL_OK, tpool_submit(pool, spin_until_set, &go, NULL));
        future = submitted_task(pool, task);
        assert_status(TPOOL_OK, tpool_future_add_done_callback(future, racer_callback, &r));
        atomic_store_explicit(&go, true, memory_order_release);
        spin(delay);
        bool answer = tpool_future_cancel(future);
        void *result = NULL;
        tpool_status status = tpool_future_result(future, LIMIT, &result);
        assert_status(answer ? TPOOL_CANCELLED : TPOOL_OK, status);
        assert_ptr_equal(answer ? NULL : &r, result);
        assert_int_equal(answer ? 0 : 1, atomic_load(&r.runs));
        assert_int_equal(1, atomic_load(&r.frees));
        EVENTUALLY(atomic_load(&r.callbacks) == 1);
        assert_status(status, r.seen_in_callback);
        assert_true(tpool_future_cancel(future) == answer);
        /* The task that spins must be gone before its flag is. */
        assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
        assert_int_equal(answer ? 0 : 1, atomic_load(&r.runs));
        assert_int_equal(1, atomic_load(&r.callbacks));
        tpool_future_release(future);
        if (answer) {
            cancelled++;
            if (delay < 1 << 24) delay += delay / 4 + 16;
        } else {
            ran++;
            delay -= delay / 4;
        }
    }
    print_message("%d cancelled, %d ran\n", cancelled, ran);
    assert_true(cancelled > 0 && ran > 0);
    tpool_stats stats = { 0 };
    assert_status(TPOOL_OK, tpool_get_stats(pool, &stats));
    assert_int_equal(cancelled, stats.cancelled);
    assert_int_equal(cancelled + 2 * ran, stats.completed);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

typedef struct flags {
    atomic_bool started, go;
} flags;
static void *start_and_spin(void *arg) {
    flags *f = arg;
    atomic_store(&f->started, true);
    while (!atomic_load_explicit(&f->go, memory_order_acquire)) sched_yield();
    return f;
}

/* The task ends while it is cancelled, which must always be too late. */
static void stress_cancel_against_finish_is_always_too_late(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    int rounds = COUNT(800), before = 0, after = 0, delay = 0;
    int64_t begin = tpool_now();
    while (before + after < rounds && !enough(begin, before, after)) {
        flags f = { false, false };
        atomic_int callbacks = 0;
        tpool_future *future = submitted(pool, start_and_spin, &f);
        assert_status(TPOOL_OK, tpool_future_add_done_callback(future, count_callback, &callbacks));
        while (!atomic_load(&f.started)) sched_yield();
        atomic_store_explicit(&f.go, true, memory_order_release);
        spin(delay);
        bool early = !tpool_future_done(future);
        assert_false(tpool_future_cancel(future));
        void *result = NULL;
        assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
        assert_ptr_equal(&f, result);
        assert_false(tpool_future_cancel(future));
        assert_false(tpool_future_cancelled(future));
        EVENTUALLY(atomic_load(&callbacks) == 1);
        tpool_future_release(future);
        if (early) {
            before++;
            if (delay < 1 << 24) delay += delay / 4 + 16;
        } else {
            after++;
            delay -= delay / 4;
        }
    }
    print_message("%d before the end, %d after it\n", before, after);
    assert_true(before > 0 && after > 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

typedef struct rival {
    pthread_t thread;
    pthread_barrier_t *barrier;
    tpool_future **future;
    bool *answers;
    int rounds;
} rival;
static void *cancel_each_round(void *arg) {
    rival *r = arg;
    for (int i = 0; i < r->rounds; i++) {
        pthread_barrier_wait(r->barrier); /* the future is there */
        r->answers[i] = tpool_future_cancel(*r->future);
        pthread_barrier_wait(r->barrier); /* done with it */
    }
    return NULL;
}

static void stress_rival_cancels_agree_with_each_other_and_with_the_end(void **unused) {
    (void)unused;
    enum { RIVALS = 2 };
    int rounds = COUNT(1000);
    tpool *pool = new_pool(1);
    tpool_future *future = NULL;
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, RIVALS + 1);
    rival rivals[RIVALS];
    for (int k = 0; k < RIVALS; k++) {
        rivals[k] = (rival){
            .barrier = &barrier, .future = &future, .rounds = rounds, .answers = calloc((size_t)rounds, sizeof(bool))
        };
        assert_int_equal(0, pthread_create(&rivals[k].thread, NULL, cancel_each_round, &rivals[k]));
    }
    int wrong = 0;
    for (int i = 0; i < rounds; i++) {
        racer r = { 0 };
        atomic_bool go = false;
        tpool_task task = { .fn = racer_run, .arg = &r, .arg_free = racer_free };
        tpool_status spinning = tpool_submit(pool, spin_until_set, &go, NULL);
        tpool_status submitted = tpool_submit_task(pool, &task, &future);
        tpool_status added = tpool_future_add_done_callback(future, racer_callback, &r);
        pthread_barrier_wait(&barrier);
        spin(i % 64 * 8);
        atomic_store_explicit(&go, true, memory_order_release);
        pthread_barrier_wait(&barrier);
        tpool_status status = tpool_future_result(future, LIMIT, NULL);
        tpool_status drained = tpool_drain(pool, LIMIT);
        bool cancelled = status == TPOOL_CANCELLED;
        /* No assertion here: the rivals would wait at their barrier for ever. */
        if (spinning != TPOOL_OK || submitted != TPOOL_OK || added != TPOOL_OK || drained != TPOOL_OK ||
            (!cancelled && status != TPOOL_OK) || rivals[0].answers[i] != cancelled ||
            rivals[1].answers[i] != cancelled || atomic_load(&r.runs) != !cancelled || atomic_load(&r.frees) != 1 ||
            atomic_load(&r.callbacks) != 1 || r.seen_in_callback != status)
            wrong++;
        tpool_future_release(future);
    }
    for (int k = 0; k < RIVALS; k++) {
        pthread_join(rivals[k].thread, NULL);
        free(rivals[k].answers);
    }
    pthread_barrier_destroy(&barrier);
    assert_int_equal(0, wrong);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- References ---- */

static void null_references_are_nothing(void **unused) {
    (void)unused;
    tpool_future_release(NULL);
    assert_null(tpool_future_retain(NULL));
}

static void a_task_whose_future_is_released_at_once_still_runs(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    atomic_int runs = 0, frees = 0, callbacks = 0;
    tpool_task task = { .fn = count_up, .arg = &runs };
    tpool_future *future = submitted_task(h.pool, task);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(future, count_callback, &callbacks));
    tpool_future_release(future);
    task = (tpool_task){ .fn = nothing, .arg = &frees, .arg_free = count_free };
    future = submitted_task(h.pool, task);
    assert_ptr_equal(future, tpool_future_retain(future));
    tpool_future_release(future);
    tpool_future_release(future);
    held_destroy(&h);
    assert_int_equal(1, atomic_load(&runs));
    assert_int_equal(1, atomic_load(&frees));
    assert_int_equal(1, atomic_load(&callbacks));
}

static void the_result_and_the_error_live_as_long_as_the_last_reference(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    char text[] = "bytes that must stay";
    tpool_future *good = NULL, *bad = NULL;
    good = submitted(pool, return_text, text);
    bad = submitted(pool, raise_21, NULL);
    void *result = NULL;
    const tpool_error *error = NULL;
    assert_status(TPOOL_OK, tpool_future_result(good, LIMIT, &result));
    assert_status(TPOOL_OK, tpool_future_error(bad, LIMIT, &error));
    tpool_future_retain(good);
    tpool_future_retain(bad);
    tpool_future_release(good);
    tpool_future_release(bad);
    /* Enough comes and goes to take the place of anything given back too early. */
    for (int i = 0; i < 200; i++) {
        char other[] = "something else, now!";
        assert_status(TPOOL_OK, end_of(submitted(pool, return_text, other)));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_string_equal("bytes that must stay", result);
    assert_string_equal("failed on purpose", error->message);
    tpool_future_release(good);
    tpool_future_release(bad);
}

typedef struct holder {
    pthread_t thread;
    tpool_future *future;
    void *value;
    int rounds, wrong;
} holder;
static void *retain_and_release(void *arg) {
    holder *k = arg;
    for (int i = 0; i < k->rounds; i++) {
        if (tpool_future_retain(k->future) != k->future) k->wrong++;
        void *result = NULL;
        tpool_status status = tpool_future_result(k->future, 0, &result);
        if (status != TPOOL_TIMEOUT && (status != TPOOL_OK || result != k->value)) k->wrong++;
        tpool_future_release(k->future);
    }
    tpool_future_release(k->future); /* the reference that it was handed */
    return NULL;
}

static void *give_owned_at_gate(void *arg) {
    void **both = arg;
    gate_pass(both[0]);
    return tpool_return_owned(both[1], count_free);
}

static void many_threads_retain_and_release_and_the_last_one_frees(void **unused) {
    (void)unused;
    enum { THREADS = 4 };
    tpool *pool = new_pool(1);
    gate g = GATE_CLOSED;
    atomic_int freed = 0;
    void *both[] = { &g, &freed };
    tpool_future *future = submitted(pool, give_owned_at_gate, both);
    holder holders[THREADS];
    for (int t = 0; t < THREADS; t++) {
        holders[t] = (holder){ .future = tpool_future_retain(future), .value = &freed, .rounds = COUNT(10000) };
        assert_int_equal(0, pthread_create(&holders[t].thread, NULL, retain_and_release, &holders[t]));
    }
    gate_open(&g);
    for (int t = 0; t < THREADS; t++) {
        pthread_join(holders[t].thread, NULL);
        assert_int_equal(0, holders[t].wrong);
    }
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(0, atomic_load(&freed));
    tpool_future_release(future);
    assert_int_equal(1, atomic_load(&freed));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* The caller's release against the end of the task: whoever is last frees, once. */
static void *give_owned(void *arg) { return tpool_return_owned(arg, count_free); }

static void stress_release_against_the_end_frees_once(void **unused) {
    (void)unused;
    tpool *pool = new_pool(2);
    int rounds = COUNT(10000);
    atomic_int *freed = calloc((size_t)rounds, sizeof *freed);
    for (int i = 0; i < rounds; i++) {
        tpool_future *future = submitted(pool, give_owned, &freed[i]);
        spin(i % 100 * 10);
        if (i % 3 == 0) assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
        tpool_future_release(future);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
    for (int i = 0; i < rounds; i++) assert_int_equal(1, atomic_load(&freed[i]));
    free(freed);
}

/* ---- Futures that outlive their pool ---- */

static void done_futures_can_be_asked_after_their_pool(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    char text[] = "still here";
    tpool_future *good = NULL, *bad = NULL;
    good = submitted(pool, return_text, text);
    bad = submitted(pool, raise_21, NULL);
    assert_status(TPOOL_OK, tpool_destroy(pool)); /* which lets both run first */
    void *result = NULL;
    assert_status(TPOOL_OK, tpool_future_result(good, TPOOL_FOREVER, &result));
    assert_string_equal("still here", result);
    assert_int_equal(sizeof text, tpool_future_result_size(good));
    answers failed = { TPOOL_FINISHED, TPOOL_FAILED, TPOOL_OK, TPOOL_FAILED, NULL, "failed on purpose" };
    check_answers(bad, &failed);
    atomic_int callbacks = 0;
    assert_status(TPOOL_OK, tpool_future_add_done_callback(good, count_callback, &callbacks));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(bad, count_callback, &callbacks));
    assert_int_equal(2, atomic_load(&callbacks));
    assert_false(tpool_future_cancel(good));
    tpool_future_request_stop(good);
    tpool_future *both[] = { good, bad };
    size_t done = 0;
    assert_status(TPOOL_OK, tpool_wait(both, 2, TPOOL_ALL_COMPLETED, TPOOL_FOREVER, &done));
    assert_int_equal(2, done);
    tpool_future_retain(good);
    tpool_future_release(good);
    tpool_future_release(good);
    tpool_future_release(bad);
}

static void futures_cancelled_by_a_shutdown_outlive_their_pool(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    atomic_int callbacks = 0;
    tpool_future *future = submitted(h.pool, nothing, NULL);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(future, count_callback, &callbacks));
    waiter w;
    waiter_start(&w, future, TPOOL_FOREVER);
    assert_status(TPOOL_OK, tpool_shutdown(h.pool, TPOOL_CANCEL_PENDING));
    EVENTUALLY(atomic_load(&w.woken));
    pthread_join(w.thread, NULL);
    assert_status(TPOOL_CANCELLED, w.status);
    held_destroy(&h);
    assert_int_equal(1, atomic_load(&callbacks));
    answers cancelled = { TPOOL_STATE_CANCELLED,
                          TPOOL_CANCELLED,
                          TPOOL_CANCELLED,
                          TPOOL_CANCELLED,
                          NULL,
                          tpool_status_text(TPOOL_CANCELLED) };
    check_answers(future, &cancelled);
    assert_true(tpool_future_cancel(future));
    tpool_future_release(future);
}

/* ---- The producing side ---- */

static void a_bare_future_is_completed_by_the_program(void **unused) {
    (void)unused;
    int value = 0;
    answers pending = { TPOOL_PENDING, TPOOL_TIMEOUT, TPOOL_TIMEOUT, TPOOL_OK, NULL, NULL };
    answers running = { TPOOL_RUNNING, TPOOL_TIMEOUT, TPOOL_TIMEOUT, TPOOL_OK, NULL, NULL };
    answers success = { TPOOL_FINISHED, TPOOL_OK, TPOOL_OK, TPOOL_OK, &value, tpool_status_text(TPOOL_OK) };
    answers nothing = { TPOOL_FINISHED, TPOOL_OK, TPOOL_OK, TPOOL_OK, NULL, tpool_status_text(TPOOL_OK) };
    answers failure = { TPOOL_FINISHED, TPOOL_FAILED, TPOOL_OK, TPOOL_FAILED, NULL, "broke at 7 of 9" };
    for (int with_running = 0; with_running < 2; with_running++) {
        for (int how = 0; how < 3; how++) {
            tpool_future *future = NULL;
            assert_status(TPOOL_OK, tpool_future_create(&future));
            assert_non_null(future);
            check_answers(future, &pending);
            if (with_running) {
                assert_status(TPOOL_OK, tpool_future_set_running(future));
                check_answers(future, &running);
                assert_false(tpool_future_cancel(future)); /* from now on it cannot be */
                assert_status(TPOOL_INVALID_STATE, tpool_future_set_running(future));
                check_answers(future, &running);
            }
            tpool_future_request_stop(future); /* nobody listens */
            assert_int_equal(0, tpool_future_result_size(future));
            if (how == 0) assert_status(TPOOL_OK, tpool_future_set_result(future, &value));
            else if (how == 1) assert_status(TPOOL_OK, tpool_future_set_result(future, NULL));
            else assert_status(TPOOL_OK, tpool_future_set_error(future, -3, "broke at %d of %s", 7, "9"));
            check_answers(future, how == 0 ? &success : how == 1 ? &nothing : &failure);
            assert_int_equal(0, tpool_future_result_size(future));
            assert_false(tpool_future_cancel(future));
            assert_status(TPOOL_INVALID_STATE, tpool_future_set_running(future));
            check_answers(future, how == 0 ? &success : how == 1 ? &nothing : &failure);
            tpool_future_release(future);
        }
    }
}

static void the_error_of_a_bare_future_has_any_code_and_a_message_of_any_length(void **unused) {
    (void)unused;
    int codes[] = { 0, 1, -1, INT_MAX, INT_MIN };
    for (int i = 0; i < 5; i++) {
        size_t length = i == 4 ? 100 * 1024 : (size_t)i * 70;
        char *text = malloc(length + 1);
        memset(text, 'm', length);
        text[length] = 0;
        tpool_future *future = NULL;
        assert_status(TPOOL_OK, tpool_future_create(&future));
        assert_status(TPOOL_OK, tpool_future_set_error(future, codes[i], "%s", text));
        const tpool_error *error = NULL;
        assert_status(TPOOL_OK, tpool_future_error(future, 0, &error));
        assert_non_null(error);
        assert_status(TPOOL_FAILED, error->status);
        assert_true(error->code == codes[i]);
        assert_string_equal(text, error->message);
        assert_null(error->task);
        free(text);
        tpool_future_release(future);
    }
}

static void a_second_completion_is_refused_and_the_first_stays(void **unused) {
    (void)unused;
    int first = 0, second = 0;
    answers success = { TPOOL_FINISHED, TPOOL_OK, TPOOL_OK, TPOOL_OK, &first, NULL };
    answers failure = { TPOOL_FINISHED, TPOOL_FAILED, TPOOL_OK, TPOOL_FAILED, NULL, "the first" };
    for (int failed = 0; failed < 2; failed++) {
        tpool_future *future = NULL;
        atomic_int callbacks = 0;
        assert_status(TPOOL_OK, tpool_future_create(&future));
        assert_status(TPOOL_OK, tpool_future_add_done_callback(future, count_callback, &callbacks));
        if (failed) assert_status(TPOOL_OK, tpool_future_set_error(future, 1, "the first"));
        else assert_status(TPOOL_OK, tpool_future_set_result(future, &first));
        assert_int_equal(1, atomic_load(&callbacks));
        assert_status(TPOOL_INVALID_STATE, tpool_future_set_result(future, &second));
        check_answers(future, failed ? &failure : &success);
        assert_status(TPOOL_INVALID_STATE, tpool_future_set_error(future, 2, "the second"));
        check_answers(future, failed ? &failure : &success);
        assert_int_equal(1, atomic_load(&callbacks));
        tpool_future_release(future);
    }
}

static void a_cancelled_bare_future_takes_nothing(void **unused) {
    (void)unused;
    int value = 0;
    tpool_future *future = NULL;
    atomic_int callbacks = 0;
    answers cancelled = { TPOOL_STATE_CANCELLED,
                          TPOOL_CANCELLED,
                          TPOOL_CANCELLED,
                          TPOOL_CANCELLED,
                          NULL,
                          tpool_status_text(TPOOL_CANCELLED) };
    assert_status(TPOOL_OK, tpool_future_create(&future));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(future, count_callback, &callbacks));
    assert_true(tpool_future_cancel(future));
    assert_int_equal(1, atomic_load(&callbacks));
    check_answers(future, &cancelled);
    assert_true(tpool_future_cancel(future));
    for (int i = 0; i < 2; i++) {
        assert_status(TPOOL_CANCELLED, tpool_future_set_running(future));
        assert_status(TPOOL_INVALID_STATE, tpool_future_set_result(future, &value));
        assert_status(TPOOL_INVALID_STATE, tpool_future_set_error(future, 1, "too late"));
        check_answers(future, &cancelled);
    }
    assert_int_equal(1, atomic_load(&callbacks));
    tpool_future_release(future);
}

static void a_pools_own_future_cannot_be_completed_from_outside(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    int value = 0, other = 0;
    tpool_future *future = submitted(h.pool, nothing, &value);
    tpool_future *both[] = { future, h.holder }; /* one pending, one running */
    for (int i = 0; i < 2; i++) {
        assert_status(TPOOL_INVALID_STATE, tpool_future_set_running(both[i]));
        assert_status(TPOOL_INVALID_STATE, tpool_future_set_result(both[i], &other));
        assert_status(TPOOL_INVALID_STATE, tpool_future_set_error(both[i], 1, "no"));
    }
    assert_int_equal(TPOOL_PENDING, tpool_future_state(future));
    assert_int_equal(TPOOL_RUNNING, tpool_future_state(h.holder));
    gate_open(&h.gate);
    void *result = NULL;
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
    assert_ptr_equal(&value, result);
    assert_status(TPOOL_INVALID_STATE, tpool_future_set_running(future));
    assert_status(TPOOL_INVALID_STATE, tpool_future_set_result(future, &other));
    assert_status(TPOOL_INVALID_STATE, tpool_future_set_error(future, 1, "no"));
    assert_status(TPOOL_OK, tpool_future_result(future, 0, &result));
    assert_ptr_equal(&value, result);
    held_destroy(&h);
    tpool_future_release(future);

    /* Nor a cancelled one. */
    held_create(&h, NULL);
    future = submitted(h.pool, nothing, &value);
    assert_true(tpool_future_cancel(future));
    assert_status(TPOOL_INVALID_STATE, tpool_future_set_result(future, &other));
    assert_status(TPOOL_INVALID_STATE, tpool_future_set_error(future, 1, "no"));
    assert_status(TPOOL_CANCELLED, tpool_future_result(future, 0, NULL));
    tpool_future_release(future);
    held_destroy(&h);
}

static void a_bare_futures_waiters_in_several_threads_are_woken(void **unused) {
    (void)unused;
    enum { WAITERS = 4, ENDS = 3 };
    int value = 0;
    tpool_status statuses[ENDS] = { TPOOL_OK, TPOOL_FAILED, TPOOL_CANCELLED };
    for (int end = 0; end < ENDS; end++) {
        tpool_future *future = NULL;
        waiter waiters[WAITERS];
        assert_status(TPOOL_OK, tpool_future_create(&future));
        for (int i = 0; i < WAITERS; i++) {
            waiter_start(&waiters[i], future, i % 2 ? 2 * LIMIT : TPOOL_FOREVER);
        }
        sleep_ms(10); /* so that most are asleep */
        for (int i = 0; i < WAITERS; i++) assert_false(atomic_load(&waiters[i].woken));
        if (end == 0) {
            /* To be running is no end. */
            assert_status(TPOOL_OK, tpool_future_set_running(future));
            sleep_ms(5);
            for (int i = 0; i < WAITERS; i++) assert_false(atomic_load(&waiters[i].woken));
            assert_status(TPOOL_OK, tpool_future_set_result(future, &value));
        } else if (end == 1) {
            assert_status(TPOOL_OK, tpool_future_set_error(future, 1, "an error"));
        } else {
            assert_true(tpool_future_cancel(future));
        }
        for (int i = 0; i < WAITERS; i++) {
            EVENTUALLY(atomic_load(&waiters[i].woken));
            pthread_join(waiters[i].thread, NULL);
            assert_status(statuses[end], waiters[i].status);
            assert_ptr_equal(end == 0 ? &value : NULL, waiters[i].result);
        }
        tpool_future_release(future);
    }
}

static void *wait_inside_a_task(void *arg) {
    void *result = NULL;
    return tpool_future_result(arg, TPOOL_FOREVER, &result) == TPOOL_OK ? result : NULL;
}

static void a_task_can_wait_for_a_bare_future(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    int value = 0;
    tpool_future *bare = NULL, *task = NULL;
    assert_status(TPOOL_OK, tpool_future_create(&bare));
    task = submitted(pool, wait_inside_a_task, bare);
    EVENTUALLY(tpool_future_running(task));
    assert_status(TPOOL_TIMEOUT, tpool_future_result(task, TPOOL_MS(5), NULL));
    assert_status(TPOOL_OK, tpool_future_set_result(bare, &value));
    void *result = NULL;
    assert_status(TPOOL_OK, tpool_future_result(task, LIMIT, &result));
    assert_ptr_equal(&value, result);
    tpool_future_release(bare);
    tpool_future_release(task);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void bare_futures_mix_with_a_pools_in_waits_and_iterators(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    int value = 0;
    tpool_future *bare = NULL, *late = NULL, *queued = NULL, *next = NULL;
    assert_status(TPOOL_OK, tpool_future_create(&bare));
    assert_status(TPOOL_OK, tpool_future_create(&late));
    queued = submitted(h.pool, nothing, NULL);
    tpool_future *set[] = { queued, late, bare };
    tpool_completions *completions = NULL;
    assert_status(TPOOL_OK, tpool_as_completed(set, 3, &completions));
    assert_status(TPOOL_TIMEOUT, tpool_completions_next(completions, TPOOL_MS(1), &next));
    size_t done = 1;
    assert_status(TPOOL_TIMEOUT, tpool_wait(set, 3, TPOOL_FIRST_COMPLETED, TPOOL_MS(1), &done));
    assert_int_equal(0, done);
    assert_status(TPOOL_OK, tpool_future_set_result(bare, &value));
    assert_status(TPOOL_OK, tpool_wait(set, 3, TPOOL_FIRST_COMPLETED, TPOOL_FOREVER, &done));
    assert_int_equal(1, done);
    assert_ptr_equal(bare, set[0]);
    assert_status(TPOOL_OK, tpool_completions_next(completions, LIMIT, &next));
    assert_ptr_equal(bare, next);
    gate_open(&h.gate);
    assert_status(TPOOL_OK, tpool_completions_next(completions, LIMIT, &next));
    assert_ptr_equal(queued, next);
    assert_status(TPOOL_OK, tpool_future_set_error(late, 1, "late"));
    assert_status(TPOOL_OK, tpool_completions_next(completions, LIMIT, &next));
    assert_ptr_equal(late, next);
    assert_status(TPOOL_END, tpool_completions_next(completions, 0, &next));
    tpool_completions_destroy(completions);
    held_destroy(&h);
    tpool_future_release(bare);
    tpool_future_release(late);
    tpool_future_release(queued);
}

static void a_bare_future_can_be_released_without_being_completed(void **unused) {
    (void)unused;
    atomic_int callbacks = 0;
    for (int how = 0; how < 4; how++) {
        tpool_future *future = NULL;
        assert_status(TPOOL_OK, tpool_future_create(&future));
        if (how & 1) {
            assert_status(TPOOL_OK, tpool_future_set_running(future));
        }
        if (how & 2) {
            for (int i = 0; i < 10; i++) {
                assert_status(TPOOL_OK, tpool_future_add_done_callback(future, count_callback, &callbacks));
            }
        }
        tpool_future_retain(future);
        tpool_future_release(future);
        tpool_future_release(future); /* whatever it held shows as a leak */
    }
    assert_int_equal(0, atomic_load(&callbacks)); /* it was never done */
}

/* ---- Races of the producing side ---- */

typedef struct producer {
    pthread_t thread;
    pthread_barrier_t *barrier;
    tpool_future **future;
    int number, rounds;
    tpool_status *statuses; /* of each round */
} producer;

static void *complete_each_round(void *arg) {
    producer *p = arg;
    for (int i = 0; i < p->rounds; i++) {
        pthread_barrier_wait(p->barrier);
        if (p->number == 0) {
            p->statuses[i] = tpool_future_cancel(*p->future) ? TPOOL_CANCELLED : TPOOL_INVALID_STATE;
        } else if (p->number == 1) {
            p->statuses[i] = tpool_future_set_error(*p->future, 1, "by the first producer");
        } else {
            p->statuses[i] = tpool_future_set_result(*p->future, &p->statuses[i]);
        }
        pthread_barrier_wait(p->barrier);
    }
    return NULL;
}

static void stress_of_rival_producers_and_a_canceller_one_wins(void **unused) {
    (void)unused;
    enum { PRODUCERS = 4 }; /* one cancels, one sets an error, the others set results */
    int rounds = COUNT(1000), wrong = 0;
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, PRODUCERS + 1);
    tpool_future *future = NULL;
    producer producers[PRODUCERS];
    for (int k = 0; k < PRODUCERS; k++) {
        producers[k] = (producer){ .barrier = &barrier,
                                   .future = &future,
                                   .number = k,
                                   .rounds = rounds,
                                   .statuses = calloc((size_t)rounds, sizeof(tpool_status)) };
        assert_int_equal(0, pthread_create(&producers[k].thread, NULL, complete_each_round, &producers[k]));
    }
    for (int i = 0; i < rounds; i++) {
        /* No assertion here: the producers would wait at their barrier for ever. */
        racer r = { 0 };
        if (tpool_future_create(&future) != TPOOL_OK) wrong++;
        if (tpool_future_add_done_callback(future, racer_callback, &r) != TPOOL_OK) wrong++;
        bool running = i % 3 == 0 && tpool_future_set_running(future) == TPOOL_OK;
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        void *result = NULL;
        tpool_status end = tpool_future_result(future, 0, &result);
        int winners = 0;
        for (int k = 0; k < PRODUCERS; k++) {
            tpool_status its = producers[k].statuses[i];
            if (its == TPOOL_INVALID_STATE) continue;
            winners++;
            if (k == 0 && (its != TPOOL_CANCELLED || end != TPOOL_CANCELLED || running)) wrong++;
            if (k == 1 && (its != TPOOL_OK || end != TPOOL_FAILED)) wrong++;
            if (k > 1 && (its != TPOOL_OK || end != TPOOL_OK || result != &producers[k].statuses[i])) wrong++;
        }
        if (winners != 1 || atomic_load(&r.callbacks) != 1 || r.seen_in_callback != end) wrong++;
        tpool_future_release(future);
    }
    for (int k = 0; k < PRODUCERS; k++) {
        pthread_join(producers[k].thread, NULL);
        free(producers[k].statuses);
    }
    pthread_barrier_destroy(&barrier);
    assert_int_equal(0, wrong);
}

static void stress_set_running_against_cancel_has_one_winner(void **unused) {
    (void)unused;
    int rounds = COUNT(1000), wrong = 0;
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, 2);
    tpool_future *future = NULL;
    rival canceller_thread = {
        .barrier = &barrier, .future = &future, .rounds = rounds, .answers = calloc((size_t)rounds, sizeof(bool))
    };
    assert_int_equal(0, pthread_create(&canceller_thread.thread, NULL, cancel_each_round, &canceller_thread));
    for (int i = 0; i < rounds; i++) {
        if (tpool_future_create(&future) != TPOOL_OK) wrong++;
        pthread_barrier_wait(&barrier);
        spin(i % 64);
        tpool_status status = tpool_future_set_running(future);
        pthread_barrier_wait(&barrier);
        bool cancelled = canceller_thread.answers[i];
        if (status != (cancelled ? TPOOL_CANCELLED : TPOOL_OK)) wrong++;
        if (tpool_future_state(future) != (cancelled ? TPOOL_STATE_CANCELLED : TPOOL_RUNNING)) wrong++;
        if (tpool_future_set_result(future, NULL) != (cancelled ? TPOOL_INVALID_STATE : TPOOL_OK)) wrong++;
        tpool_future_release(future);
    }
    pthread_join(canceller_thread.thread, NULL);
    free(canceller_thread.answers);
    pthread_barrier_destroy(&barrier);
    assert_int_equal(0, wrong);
}

static void an_error_text_of_a_bare_future_is_taken_as_it_is(void **state) {
    (void)state;
    tpool_future *future;
    const tpool_error *error = NULL;
    char text[] = "%s%n";
    assert_status(TPOOL_INVALID, tpool_future_set_error_text(NULL, 1, text));
    assert_status(TPOOL_OK, tpool_future_create(&future));
    assert_status(TPOOL_OK, tpool_future_set_error_text(future, 0, text));
    assert_status(TPOOL_INVALID_STATE, tpool_future_set_error_text(future, 1, "second"));
    text[0] = 'x';
    assert_status(TPOOL_FAILED, tpool_future_result(future, 0, NULL));
    assert_status(TPOOL_OK, tpool_future_error(future, 0, &error));
    assert_int_equal(0, error->code);
    assert_string_equal("%s%n", error->message);
    assert_null(error->task);
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_future_create(&future));
    assert_status(TPOOL_OK, tpool_future_set_error_text(future, 5, NULL));
    assert_string_equal("", tpool_future_message(future));
    tpool_future_release(future);
}

static void an_owned_result_of_a_bare_future_is_freed_with_its_last_reference(void **state) {
    (void)state;
    atomic_int freed = 0;
    tpool_future *future, *second;
    void *result = NULL;
    assert_status(TPOOL_INVALID, tpool_future_set_result_owned(NULL, &freed, count_free));
    assert_status(TPOOL_OK, tpool_future_create(&future));
    assert_status(TPOOL_OK, tpool_future_set_result_owned(future, &freed, count_free));
    assert_status(TPOOL_OK, tpool_future_result(future, 0, &result));
    assert_ptr_equal(&freed, result);
    assert_int_equal(0, tpool_future_result_size(future));
    tpool_future_retain(future);
    tpool_future_release(future);
    assert_int_equal(0, atomic_load(&freed));
    tpool_future_release(future);
    assert_int_equal(1, atomic_load(&freed));

    /* What is not taken stays the caller's. */
    assert_status(TPOOL_OK, tpool_future_create(&future));
    assert_true(tpool_future_cancel(future));
    assert_status(TPOOL_INVALID_STATE, tpool_future_set_result_owned(future, &freed, count_free));
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_future_create(&future));
    assert_status(TPOOL_OK, tpool_future_set_result(future, &result));
    assert_status(TPOOL_INVALID_STATE, tpool_future_set_result_owned(future, &freed, count_free));
    tpool_future_release(future);
    tpool *pool = new_pool(1);
    second = submitted(pool, nothing, NULL);
    assert_status(TPOOL_INVALID_STATE, tpool_future_set_result_owned(second, &freed, count_free));
    tpool_future_release(second);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(1, atomic_load(&freed));

    /* Without a function it is a plain result. */
    assert_status(TPOOL_OK, tpool_future_create(&future));
    assert_status(TPOOL_OK, tpool_future_set_result_owned(future, &freed, NULL));
    assert_ptr_equal(&freed, take(future));
}

static void a_producer_sees_that_its_future_is_asked_to_stop(void **state) {
    (void)state;
    tpool_future *asked, *late, *cancelled;
    assert_false(tpool_future_stop_requested(NULL));
    assert_status(TPOOL_OK, tpool_future_create(&asked));
    assert_status(TPOOL_OK, tpool_future_create(&late));
    assert_status(TPOOL_OK, tpool_future_create(&cancelled));
    assert_false(tpool_future_stop_requested(asked));
    tpool_future_request_stop(asked);
    assert_true(tpool_future_stop_requested(asked));
    assert_status(TPOOL_OK, tpool_future_set_running(asked)); /* it is asked, and nothing is forced */
    assert_true(tpool_future_stop_requested(asked));
    assert_status(TPOOL_OK, tpool_future_set_result(asked, NULL));
    assert_true(tpool_future_stop_requested(asked));
    assert_status(TPOOL_OK, tpool_future_set_result(late, NULL));
    tpool_future_request_stop(late); /* does nothing on a done one */
    assert_false(tpool_future_stop_requested(late));
    assert_true(tpool_future_cancel(cancelled));
    assert_false(tpool_future_stop_requested(cancelled));
    tpool_future_release(asked);
    tpool_future_release(late);
    tpool_future_release(cancelled);
}

static void the_stop_of_a_tasks_future_is_seen_from_outside(void **state) {
    (void)state;
    gate passage = GATE_CLOSED;
    tpool *pool = new_pool(1);
    tpool_future *running = held_at(pool, &passage), *queued = submitted(pool, nothing, NULL);
    assert_false(tpool_future_stop_requested(running));
    tpool_future_request_stop(running);
    assert_true(tpool_future_stop_requested(running));
    assert_false(tpool_future_stop_requested(queued));
    gate_open(&passage);
    assert_status(TPOOL_OK, end_of(running));
    assert_status(TPOOL_OK, end_of(queued));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- The program's own tag ---- */

static tpool_future *tagged_future;
static void *tag_from_within(void *arg) {
    gate_pass(arg);
    return tpool_future_tag(tagged_future);
}
static void *tag_seen_by_callback;
static void note_tag(tpool_future *future, void *context) {
    (void)context;
    tag_seen_by_callback = tpool_future_tag(future);
}

static void the_tag_of_a_task_can_be_asked_at_any_time(void **state) {
    (void)state;
    static int tag;
    gate passage = GATE_CLOSED;
    held_pool h;
    held_create(&h, NULL);
    tagged_future = submitted_task(h.pool, (tpool_task){ .fn = tag_from_within, .arg = &passage, .tag = &tag });
    tpool_future *cancelled = submitted_task(h.pool, (tpool_task){ .fn = nothing, .tag = &passage, .priority = 3 });
    assert_ptr_equal(&tag, tpool_future_tag(tagged_future)); /* queued */
    assert_true(tpool_future_cancel(cancelled));
    assert_ptr_equal(&passage, tpool_future_tag(cancelled));
    tag_seen_by_callback = NULL;
    assert_status(TPOOL_OK, tpool_future_add_done_callback(tagged_future, note_tag, NULL));
    gate_open(&h.gate);
    AWAIT_ARRIVALS(&passage, 1);
    assert_ptr_equal(&tag, tpool_future_tag(tagged_future)); /* running */
    gate_open(&passage);
    void *from_within = NULL;
    assert_status(TPOOL_OK, tpool_future_result(tagged_future, LIMIT, &from_within));
    assert_ptr_equal(&tag, from_within);
    held_destroy(&h);
    assert_ptr_equal(&tag, tag_seen_by_callback);
    assert_ptr_equal(&tag, tpool_future_tag(tagged_future)); /* and after its pool */
    assert_ptr_equal(&passage, tpool_future_tag(cancelled));
    tpool_future_release(tagged_future);
    tpool_future_release(cancelled);
}

static void what_has_no_tag_has_none(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *bare, *plain = submitted(pool, nothing, NULL);
    tpool_future *named = submitted_task(pool, (tpool_task){ .fn = nothing, .name = "named" });
    assert_status(TPOOL_OK, tpool_future_create(&bare));
    assert_null(tpool_future_tag(NULL));
    assert_null(tpool_future_tag(bare));
    assert_null(tpool_future_tag(plain));
    assert_null(tpool_future_tag(named));
    tpool_future_release(bare);
    assert_status(TPOOL_OK, end_of(plain));
    assert_status(TPOOL_OK, end_of(named));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static const struct CMUnitTest tests[] = {
    TEST(each_state_of_a_pools_future_has_its_answers),
    TEST(errors_tell_status_code_message_and_task),
    TEST(what_a_broken_initializer_leaves_is_finished_and_broken),
    TEST(many_threads_ask_many_times_and_get_the_same),
    TEST(a_wait_lasts_as_long_as_its_limit_and_not_less),
    TEST(a_wait_ends_with_the_task_whatever_its_limit),
    TEST(cancelling_a_pending_task_keeps_it_from_running),
    TEST(cancelling_what_runs_or_has_ended_changes_nothing),
    TEST(a_task_cannot_cancel_itself),
    TEST(a_cancel_wakes_whoever_waits_though_the_worker_is_held),
    TEST(until_arg_free_returns_the_state_stays_pending_and_waits_go_on),
    TEST(stress_cancel_against_start_has_one_outcome),
    TEST(stress_cancel_against_finish_is_always_too_late),
    TEST(stress_rival_cancels_agree_with_each_other_and_with_the_end),
    TEST(null_references_are_nothing),
    TEST(a_task_whose_future_is_released_at_once_still_runs),
    TEST(the_result_and_the_error_live_as_long_as_the_last_reference),
    TEST(many_threads_retain_and_release_and_the_last_one_frees),
    TEST(stress_release_against_the_end_frees_once),
    TEST(done_futures_can_be_asked_after_their_pool),
    TEST(futures_cancelled_by_a_shutdown_outlive_their_pool),
    TEST(a_bare_future_is_completed_by_the_program),
    TEST(the_error_of_a_bare_future_has_any_code_and_a_message_of_any_length),
    TEST(a_second_completion_is_refused_and_the_first_stays),
    TEST(a_cancelled_bare_future_takes_nothing),
    TEST(a_pools_own_future_cannot_be_completed_from_outside),
    TEST(a_bare_futures_waiters_in_several_threads_are_woken),
    TEST(a_task_can_wait_for_a_bare_future),
    TEST(bare_futures_mix_with_a_pools_in_waits_and_iterators),
    TEST(a_bare_future_can_be_released_without_being_completed),
    TEST(stress_of_rival_producers_and_a_canceller_one_wins),
    TEST(stress_set_running_against_cancel_has_one_winner),
    TEST(the_tag_of_a_task_can_be_asked_at_any_time),
    TEST(what_has_no_tag_has_none),
    TEST(an_error_text_of_a_bare_future_is_taken_as_it_is),
    TEST(an_owned_result_of_a_bare_future_is_freed_with_its_last_reference),
    TEST(a_producer_sees_that_its_future_is_asked_to_stop),
    TEST(the_stop_of_a_tasks_future_is_seen_from_outside),
};
RUN_TESTS(tests)
