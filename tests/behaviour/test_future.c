/* Futures: every state and what it answers, results and errors asked by many, cancelling, also while arg_free blocks,
   time limits, references, futures without their pool, tags. */
#include "support.h"
#include "support/futures.h"
#include <sched.h>

static void *raise_21(void *arg) {
    (void)arg;
    return tpool_raise(21, "failed on purpose");
}
static void *return_text(void *arg) { return tpool_return(arg, strlen(arg) + 1); }

/* ---- All that a future answers, for each state that it can be in ---- */

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

/* ---- A stop that is seen from outside ---- */

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
    TEST(null_references_are_nothing),
    TEST(a_task_whose_future_is_released_at_once_still_runs),
    TEST(the_result_and_the_error_live_as_long_as_the_last_reference),
    TEST(many_threads_retain_and_release_and_the_last_one_frees),
    TEST(done_futures_can_be_asked_after_their_pool),
    TEST(futures_cancelled_by_a_shutdown_outlive_their_pool),
    TEST(the_tag_of_a_task_can_be_asked_at_any_time),
    TEST(what_has_no_tag_has_none),
    TEST(the_stop_of_a_tasks_future_is_seen_from_outside),
};
RUN_TESTS(tests)
