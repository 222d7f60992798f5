/* Expiry: a task that has not started within expires_ns of its submit ends as TPOOL_EXPIRED, and everyone who looks
   at its future or waits for it notices, though the only worker that could start it is held by a gate. */
#include "support.h"
#include "support/submits.h"

/* A wait must notice an expiry by itself long before this. */
#define NOTICED_BY TPOOL_SEC(10)

/* ---- What is seen of a task that waits behind a held worker ---- */

typedef struct watched {
    atomic_int runs, frees, callbacks;
    pthread_t free_thread, callback_thread;
    tpool_status seen_in_callback;
    tpool_future *future;
    int64_t submitted_by, expires_ns; /* the clock when submit had returned: the limit counts from before that */
} watched;

static void *watched_run(void *arg) {
    watched *w = arg;
    atomic_fetch_add(&w->runs, 1);
    return w;
}
static void watched_free(void *arg) {
    watched *w = arg;
    w->free_thread = pthread_self();
    atomic_fetch_add(&w->frees, 1);
}
static void watched_callback(tpool_future *future, void *context) {
    watched *w = context;
    w->callback_thread = pthread_self();
    w->seen_in_callback = tpool_future_result(future, 0, NULL);
    atomic_fetch_add(&w->callbacks, 1);
}

/* Submits a task that expires, and adds its callback. Where it matters that this is before the limit, that is long. */
static void watched_submit(watched *w, tpool *pool, int64_t expires_ns, const char *name) {
    *w = (watched){ .expires_ns = expires_ns };
    tpool_task task = { .fn = watched_run, .arg = w, .arg_free = watched_free, .name = name, .expires_ns = expires_ns };
    w->future = submitted_task(pool, task);
    w->submitted_by = tpool_now();
    assert_status(TPOOL_OK, tpool_future_add_done_callback(w->future, watched_callback, w));
}

/* Submits it into a pool whose worker is held. */
static void watched_hold(watched *w, held_pool *h, int64_t expires_ns) {
    held_create(h, NULL);
    watched_submit(w, h->pool, expires_ns, NULL);
}

/* Waits without looking at the future until its limit has passed for certain. */
static void sleep_beyond(const watched *w) {
    while (tpool_now() <= w->submitted_by + w->expires_ns) sleep_ms(1);
}

static void check_expired_here(watched *w) {
    assert_int_equal(0, atomic_load(&w->runs));
    assert_int_equal(1, atomic_load(&w->frees));
    assert_int_equal(1, atomic_load(&w->callbacks));
    assert_true(pthread_equal(pthread_self(), w->free_thread));
    assert_true(pthread_equal(pthread_self(), w->callback_thread));
    assert_status(TPOOL_EXPIRED, w->seen_in_callback);
    assert_status(TPOOL_EXPIRED, tpool_future_result(w->future, 0, NULL));
    assert_int_equal(TPOOL_FINISHED, tpool_future_state(w->future));
}

/* ---- What an expired future looks like, whoever looks first ---- */

typedef bool looker(tpool_future *future); /* true: it was seen as expired */

static bool by_state(tpool_future *future) { return tpool_future_state(future) == TPOOL_FINISHED; }
static bool by_done(tpool_future *future) { return tpool_future_done(future); }
static bool by_result(tpool_future *future) {
    void *result = future;
    return tpool_future_result(future, 0, &result) == TPOOL_EXPIRED && !result;
}
static bool by_result_of_the_past(tpool_future *future) {
    return tpool_future_result(future, -5, NULL) == TPOOL_EXPIRED;
}
static bool by_result_with_a_limit(tpool_future *future) {
    return tpool_future_result(future, LIMIT, NULL) == TPOOL_EXPIRED;
}
static bool by_error(tpool_future *future) {
    const tpool_error *error = NULL;
    return tpool_future_error(future, 0, &error) == TPOOL_OK && error && error->status == TPOOL_EXPIRED;
}
static bool by_message(tpool_future *future) {
    return strcmp(tpool_future_message(future), tpool_status_text(TPOOL_EXPIRED)) == 0;
}
static bool by_wait(tpool_future *future) {
    size_t done = 0;
    return tpool_wait(&future, 1, TPOOL_ALL_COMPLETED, 0, &done) == TPOOL_OK && done == 1;
}
static bool by_wait_for_the_first(tpool_future *future) {
    size_t done = 0;
    return tpool_wait(&future, 1, TPOOL_FIRST_COMPLETED, 0, &done) == TPOOL_OK && done == 1;
}
static bool by_as_completed(tpool_future *future) {
    tpool_completions *completions = NULL;
    tpool_future *next = NULL;
    bool seen = tpool_as_completed(&future, 1, &completions) == TPOOL_OK &&
                tpool_completions_next(completions, LIMIT, &next) == TPOOL_OK && next == future;
    tpool_completions_destroy(completions);
    return seen;
}
/* These answer false either way, and must have noticed all the same. */
static bool by_running(tpool_future *future) { return !tpool_future_running(future); }
static bool by_cancelled(tpool_future *future) { return !tpool_future_cancelled(future); }
static bool by_result_size(tpool_future *future) { return tpool_future_result_size(future) == 0; }

static looker *const lookers[] = {
    by_state,   by_done,      by_result,      by_result_of_the_past, by_result_with_a_limit,
    by_error,   by_message,   by_wait,        by_wait_for_the_first, by_as_completed,
    by_running, by_cancelled, by_result_size,
};
#define LOOKERS (sizeof lookers / sizeof lookers[0])

static void whoever_looks_first_ends_it_with_its_callbacks_in_that_thread(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    watched all[LOOKERS];
    for (size_t i = 0; i < LOOKERS; i++) watched_submit(&all[i], h.pool, TPOOL_MS(100), NULL);
    sleep_beyond(&all[LOOKERS - 1]);
    for (size_t i = 0; i < LOOKERS; i++) {
        assert_int_equal(0, atomic_load(&all[i].callbacks)); /* nobody has looked, so nobody has noticed */
        assert_true(lookers[i](all[i].future));
        if (atomic_load(&all[i].callbacks) != 1) fail_msg("looker %zu did not notice", i);
        check_expired_here(&all[i]);
        for (size_t k = 0; k < LOOKERS; k++) assert_true(lookers[k](all[i].future));
    }
    held_destroy(&h);
    for (size_t i = 0; i < LOOKERS; i++) {
        assert_int_equal(0, atomic_load(&all[i].runs));
        assert_int_equal(1, atomic_load(&all[i].frees));
        assert_int_equal(1, atomic_load(&all[i].callbacks));
        tpool_future_release(all[i].future);
    }
}

static void an_expired_future_is_finished_with_an_error(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    watched w, nameless;
    watched_submit(&w, h.pool, TPOOL_MS(1), "too late");
    watched_submit(&nameless, h.pool, TPOOL_MS(1), NULL);
    sleep_beyond(&nameless);
    assert_int_equal(TPOOL_FINISHED, tpool_future_state(w.future));
    assert_true(tpool_future_done(w.future));
    assert_false(tpool_future_running(w.future));
    assert_false(tpool_future_cancelled(w.future));
    assert_false(tpool_future_cancel(w.future));
    assert_status(TPOOL_EXPIRED, tpool_future_result(w.future, TPOOL_FOREVER, NULL));
    assert_string_equal(tpool_status_text(TPOOL_EXPIRED), tpool_future_message(w.future));
    const tpool_error *error = NULL;
    assert_status(TPOOL_OK, tpool_future_error(w.future, 0, &error));
    assert_non_null(error);
    assert_status(TPOOL_EXPIRED, error->status);
    assert_true(error->message && strlen(error->message) > 0);
    assert_string_equal("too late", error->task);
    error = NULL;
    assert_status(TPOOL_OK, tpool_future_error(nameless.future, 0, &error));
    assert_non_null(error);
    assert_null(error->task);
    held_destroy(&h);
    /* The error outlives the pool. */
    assert_status(TPOOL_OK, tpool_future_error(w.future, 0, &error));
    assert_string_equal("too late", error->task);
    tpool_future_release(w.future);
    tpool_future_release(nameless.future);
}

static void a_cancel_after_the_limit_leaves_exactly_one_end(void **unused) {
    (void)unused;
    held_pool h;
    watched w;
    watched_hold(&w, &h, TPOOL_MS(1));
    sleep_beyond(&w);
    bool cancelled = tpool_future_cancel(w.future);
    assert_status(cancelled ? TPOOL_CANCELLED : TPOOL_EXPIRED, tpool_future_result(w.future, 0, NULL));
    assert_true(tpool_future_cancelled(w.future) == cancelled);
    assert_int_equal(1, atomic_load(&w.frees));
    assert_int_equal(1, atomic_load(&w.callbacks));
    held_destroy(&h);
    assert_int_equal(0, atomic_load(&w.runs));
    tpool_future_release(w.future);
}

static void a_callback_added_after_the_limit_runs_once(void **unused) {
    (void)unused;
    held_pool h;
    watched w, late;
    watched_hold(&w, &h, TPOOL_MS(1));
    late = (watched){ 0 };
    sleep_beyond(&w);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(w.future, watched_callback, &late));
    assert_int_equal(TPOOL_FINISHED, tpool_future_state(w.future));
    check_expired_here(&w);
    assert_int_equal(1, atomic_load(&late.callbacks));
    assert_status(TPOOL_EXPIRED, late.seen_in_callback);
    held_destroy(&h);
    assert_int_equal(1, atomic_load(&late.callbacks));
    tpool_future_release(w.future);
}

static void nothing_expires_early_or_without_a_limit(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    int64_t limits[] = { 0, -1, INT64_MIN, TPOOL_SEC(1000), TPOOL_FOREVER - 1, TPOOL_FOREVER };
    enum { TASKS = sizeof limits / sizeof limits[0] };
    watched all[TASKS];
    for (int i = 0; i < TASKS; i++) watched_submit(&all[i], h.pool, limits[i], NULL);
    sleep_ms(5);
    for (int i = 0; i < TASKS; i++) {
        assert_int_equal(TPOOL_PENDING, tpool_future_state(all[i].future));
        assert_status(TPOOL_TIMEOUT, tpool_future_result(all[i].future, TPOOL_MS(1), NULL));
    }
    gate_open(&h.gate);
    for (int i = 0; i < TASKS; i++) {
        assert_status(TPOOL_OK, tpool_future_result(all[i].future, LIMIT, NULL));
        assert_int_equal(1, atomic_load(&all[i].runs));
        assert_int_equal(1, atomic_load(&all[i].frees));
    }
    held_destroy(&h);
    for (int i = 0; i < TASKS; i++) tpool_future_release(all[i].future);
}

static void a_task_that_has_started_does_not_expire(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    int64_t expires_ns = TPOOL_MS(40);
    /* A busy machine may not start it in time; then it expires, rightly, and a longer limit is tried. */
    for (int attempt = 0;; attempt++, expires_ns *= 2) {
        assert_true(attempt < 10);
        gate g = GATE_CLOSED;
        tpool_task task = { .fn = gate_task, .arg = &g, .expires_ns = expires_ns };
        tpool_future *future = submitted_task(pool, task);
        int64_t passed = tpool_now() + expires_ns;
        EVENTUALLY(gate_arrived(&g) == 1 || tpool_future_done(future));
        if (tpool_future_done(future)) {
            assert_status(TPOOL_EXPIRED, tpool_future_result(future, 0, NULL));
            tpool_future_release(future);
            continue;
        }
        while (tpool_now() <= passed) sleep_ms(1);
        assert_int_equal(TPOOL_RUNNING, tpool_future_state(future));
        assert_status(TPOOL_TIMEOUT, tpool_future_result(future, TPOOL_MS(5), NULL));
        gate_open(&g);
        assert_status(TPOOL_OK, end_of(future));
        break;
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Noticed when its turn comes ---- */

static void nobody_looks_and_its_turn_ends_it_in_the_worker(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    watched expired, next;
    watched_submit(&expired, h.pool, TPOOL_MS(50), NULL);
    watched_submit(&next, h.pool, 0, NULL);
    sleep_beyond(&expired);
    assert_int_equal(0, atomic_load(&expired.callbacks));
    gate_open(&h.gate);
    EVENTUALLY(atomic_load(&next.callbacks) == 1);
    assert_int_equal(1, atomic_load(&expired.callbacks)); /* one worker: in the order submitted */
    assert_int_equal(1, atomic_load(&expired.frees));
    assert_int_equal(0, atomic_load(&expired.runs));
    assert_false(pthread_equal(pthread_self(), expired.callback_thread));
    assert_true(pthread_equal(next.callback_thread, expired.callback_thread));
    assert_true(pthread_equal(next.callback_thread, expired.free_thread));
    assert_status(TPOOL_EXPIRED, expired.seen_in_callback);
    assert_status(TPOOL_EXPIRED, tpool_future_result(expired.future, 0, NULL));
    assert_status(TPOOL_OK, tpool_future_result(next.future, 0, NULL));
    held_destroy(&h);
    tpool_future_release(expired.future);
    tpool_future_release(next.future);
}

static void a_task_without_a_future_expires_at_its_turn(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    watched w = { 0 };
    tpool_task task = { .fn = watched_run, .arg = &w, .arg_free = watched_free, .expires_ns = TPOOL_US(1) };
    assert_status(TPOOL_OK, tpool_submit_task(h.pool, &task, NULL));
    sleep_ms(2);
    gate_open(&h.gate);
    assert_status(TPOOL_OK, tpool_drain(h.pool, LIMIT));
    assert_int_equal(1, stats_of(h.pool).expired);
    assert_int_equal(0, atomic_load(&w.runs));
    assert_int_equal(1, atomic_load(&w.frees));
    held_destroy(&h);
}

/* ---- Noticed by a wait at the moment it passes ---- */

/* Opens a gate after a while, so that a wait which misses the expiry comes to an end all the same, and is caught. */
typedef struct rescue {
    pthread_t thread;
    gate *gate;
    atomic_bool not_needed;
    atomic_bool came;
} rescue;

static void *rescue_later(void *arg) {
    rescue *r = arg;
    int64_t end = tpool_now() + NOTICED_BY;
    while (!atomic_load(&r->not_needed)) {
        if (tpool_now() > end) {
            atomic_store(&r->came, true);
            gate_open(r->gate);
            break;
        }
        sleep_ms(1);
    }
    return NULL;
}
static void rescue_start(rescue *r, gate *g) {
    *r = (rescue){ .gate = g };
    assert_int_equal(0, pthread_create(&r->thread, NULL, rescue_later, r));
}
static void rescue_end(rescue *r) {
    atomic_store(&r->not_needed, true);
    pthread_join(r->thread, NULL);
    assert_false(atomic_load(&r->came));
}

typedef bool waiter(tpool_future *future, int64_t timeout_ns); /* true: it ended with the expiry */

static bool waits_for_result(tpool_future *future, int64_t timeout_ns) {
    return tpool_future_result(future, timeout_ns, NULL) == TPOOL_EXPIRED;
}
static bool waits_for_error(tpool_future *future, int64_t timeout_ns) {
    const tpool_error *error = NULL;
    tpool_status status = tpool_future_error(future, timeout_ns, &error);
    return status == TPOOL_OK && error && error->status == TPOOL_EXPIRED;
}
static bool waits_for_all(tpool_future *future, int64_t timeout_ns) {
    return tpool_wait(&future, 1, TPOOL_ALL_COMPLETED, timeout_ns, NULL) == TPOOL_OK;
}
static bool waits_for_first(tpool_future *future, int64_t timeout_ns) {
    return tpool_wait(&future, 1, TPOOL_FIRST_COMPLETED, timeout_ns, NULL) == TPOOL_OK;
}
static bool waits_for_exception(tpool_future *future, int64_t timeout_ns) {
    return tpool_wait(&future, 1, TPOOL_FIRST_EXCEPTION, timeout_ns, NULL) == TPOOL_OK;
}
static bool waits_for_next(tpool_future *future, int64_t timeout_ns) {
    tpool_completions *completions = NULL;
    tpool_future *next = NULL;
    bool seen = tpool_as_completed(&future, 1, &completions) == TPOOL_OK &&
                tpool_completions_next(completions, timeout_ns, &next) == TPOOL_OK && next == future;
    tpool_completions_destroy(completions);
    return seen;
}
static waiter *const waiters[] = {
    waits_for_result, waits_for_error, waits_for_all, waits_for_first, waits_for_exception, waits_for_next,
};
#define WAITERS (sizeof waiters / sizeof waiters[0])

static void a_wait_with_or_without_a_limit_ends_when_the_expiry_passes(void **unused) {
    (void)unused;
    int64_t timeouts[] = { LIMIT, TPOOL_FOREVER };
    for (size_t t = 0; t < 2; t++) {
        for (size_t i = 0; i < WAITERS; i++) {
            held_pool h;
            held_create(&h, NULL);
            watched w;
            rescue r;
            int64_t before = tpool_now();
            watched_submit(&w, h.pool, TPOOL_MS(30), NULL);
            rescue_start(&r, &h.gate);
            assert_true(waiters[i](w.future, timeouts[t]));
            int64_t took = tpool_now() - before;
            if (took < TPOOL_MS(30)) fail_msg("waiter %zu woke before the limit", i);
            rescue_end(&r);
            assert_int_equal(1, atomic_load(&w.frees));
            EVENTUALLY(atomic_load(&w.callbacks) == 1); /* a waiter may return before the callbacks */
            assert_int_equal(0, atomic_load(&w.runs));
            held_destroy(&h);
            tpool_future_release(w.future);
        }
    }
}

static void a_wait_whose_limit_comes_first_ends_there(void **unused) {
    (void)unused;
    held_pool h;
    watched w;
    watched_hold(&w, &h, TPOOL_SEC(1000));
    for (size_t i = 0; i < WAITERS; i++) assert_false(waiters[i](w.future, TPOOL_MS(5)));
    assert_int_equal(TPOOL_PENDING, tpool_future_state(w.future));
    assert_true(tpool_future_cancel(w.future));
    held_destroy(&h);
    tpool_future_release(w.future);
}

typedef struct waiting {
    pthread_t thread;
    tpool_future *future;
    waiter *how;
    bool saw_expiry;
} waiting;
static void *wait_in_thread(void *arg) {
    waiting *w = arg;
    w->saw_expiry = w->how(w->future, TPOOL_FOREVER);
    return NULL;
}

static void all_threads_that_wait_wake_and_it_ends_once(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    watched w;
    rescue r;
    waiting threads[WAITERS];
    watched_submit(&w, h.pool, TPOOL_MS(30), NULL);
    rescue_start(&r, &h.gate);
    for (size_t i = 0; i < WAITERS; i++) {
        threads[i] = (waiting){ .future = w.future, .how = waiters[i] };
        assert_int_equal(0, pthread_create(&threads[i].thread, NULL, wait_in_thread, &threads[i]));
    }
    for (size_t i = 0; i < WAITERS; i++) {
        pthread_join(threads[i].thread, NULL);
        assert_true(threads[i].saw_expiry);
    }
    rescue_end(&r);
    held_destroy(&h);
    assert_int_equal(1, atomic_load(&w.callbacks));
    assert_int_equal(1, atomic_load(&w.frees));
    assert_int_equal(0, atomic_load(&w.runs));
    tpool_future_release(w.future);
}

static void a_wait_for_many_ends_with_the_latest_expiry(void **unused) {
    (void)unused;
    enum { TASKS = 20 };
    held_pool h;
    held_create(&h, NULL);
    rescue r;
    watched all[TASKS];
    tpool_future *futures[TASKS];
    int64_t before = tpool_now();
    for (int i = 0; i < TASKS; i++) {
        watched_submit(&all[i], h.pool, TPOOL_MS(5 * (TASKS - i)), NULL); /* the first one lasts longest */
        futures[i] = all[i].future;
    }
    rescue_start(&r, &h.gate);
    assert_status(TPOOL_OK, tpool_wait(futures, TASKS, TPOOL_ALL_COMPLETED, TPOOL_FOREVER, NULL));
    assert_true(tpool_now() - before >= TPOOL_MS(5 * TASKS));
    rescue_end(&r);
    for (int i = 0; i < TASKS; i++) assert_status(TPOOL_EXPIRED, tpool_future_result(all[i].future, 0, NULL));
    held_destroy(&h);
    for (int i = 0; i < TASKS; i++) {
        assert_int_equal(1, atomic_load(&all[i].callbacks));
        assert_int_equal(1, atomic_load(&all[i].frees));
        tpool_future_release(all[i].future);
    }
}

static void the_first_of_many_may_be_an_expired_one(void **unused) {
    (void)unused;
    enum { TASKS = 20, EXPIRES = 13 };
    tpool_return_when whens[] = { TPOOL_FIRST_COMPLETED, TPOOL_FIRST_EXCEPTION };
    for (int k = 0; k < 2; k++) {
        held_pool h;
        held_create(&h, NULL);
        rescue r;
        watched all[TASKS];
        tpool_future *futures[TASKS];
        for (int i = 0; i < TASKS; i++) {
            watched_submit(&all[i], h.pool, i == EXPIRES ? TPOOL_MS(30) : TPOOL_SEC(1000), NULL);
            futures[i] = all[i].future;
        }
        rescue_start(&r, &h.gate);
        size_t done = 0;
        assert_status(TPOOL_OK, tpool_wait(futures, TASKS, whens[k], TPOOL_FOREVER, &done));
        assert_int_equal(1, done);
        assert_ptr_equal(all[EXPIRES].future, futures[0]);
        rescue_end(&r);
        held_destroy(&h);
        for (int i = 0; i < TASKS; i++) {
            tpool_status end = i == EXPIRES ? TPOOL_EXPIRED : TPOOL_OK;
            assert_status(end, tpool_future_result(all[i].future, 0, NULL));
            tpool_future_release(all[i].future);
        }
    }
}

static void as_completed_yields_what_expires_while_it_waits(void **unused) {
    (void)unused;
    enum { TASKS = 50, EXPIRING = 10 };
    held_pool h;
    held_create(&h, NULL);
    rescue r;
    watched all[TASKS];
    tpool_future *futures[TASKS];
    for (int i = 0; i < TASKS; i++) {
        bool expires = i % (TASKS / EXPIRING) == 3;
        watched_submit(&all[i], h.pool, expires ? TPOOL_MS(20 + i) : TPOOL_SEC(1000), NULL);
        futures[i] = all[i].future;
    }
    tpool_completions *completions = NULL;
    assert_status(TPOOL_OK, tpool_as_completed(futures, TASKS, &completions));
    rescue_start(&r, &h.gate);
    bool yielded[TASKS] = { false };
    for (int n = 0; n < EXPIRING; n++) {
        tpool_future *future = NULL;
        assert_status(TPOOL_OK, tpool_completions_next(completions, n % 2 ? TPOOL_FOREVER : LIMIT, &future));
        int64_t now = tpool_now();
        size_t i = tpool_completions_index(completions);
        assert_true(i < TASKS);
        assert_ptr_equal(all[i].future, future);
        assert_status(TPOOL_EXPIRED, tpool_future_result(future, 0, NULL));
        assert_false(yielded[i]);
        yielded[i] = true;
        /* 10 ms are promised, and some are left to a busy machine; but not as much as to the rescue. */
        assert_true(now - (all[i].submitted_by + all[i].expires_ns) < NOTICED_BY);
        EVENTUALLY(atomic_load(&all[i].callbacks) == 1);
    }
    assert_int_equal(TASKS - EXPIRING, tpool_completions_remaining(completions));
    rescue_end(&r);
    gate_open(&h.gate);
    for (int n = EXPIRING; n < TASKS; n++) {
        tpool_future *future = NULL;
        assert_status(TPOOL_OK, tpool_completions_next(completions, LIMIT, &future));
        assert_status(TPOOL_OK, tpool_future_result(future, 0, NULL));
    }
    tpool_future *none = h.holder;
    assert_status(TPOOL_END, tpool_completions_next(completions, 0, &none));
    assert_null(none);
    tpool_completions_destroy(completions);
    held_destroy(&h);
    for (int i = 0; i < TASKS; i++) tpool_future_release(all[i].future);
}

/* ---- The pool's side: room, counts, pause, drain, on_failure ---- */

static void an_expiry_noticed_by_an_asker_makes_room_and_counts_at_once(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, &(tpool_config){ .queue_capacity = 2, .on_full = TPOOL_FULL_REJECT });
    watched w, stays;
    tpool_stats stats = { 0 };
    watched_submit(&stays, h.pool, 0, NULL);
    watched_submit(&w, h.pool, TPOOL_MS(500), NULL);
    assert_status(TPOOL_FULL, tpool_submit(h.pool, watched_run, &w, NULL));
    sleep_beyond(&w);
    assert_int_equal(TPOOL_FINISHED, tpool_future_state(w.future));
    assert_status(TPOOL_OK, tpool_get_stats(h.pool, &stats));
    assert_int_equal(1, stats.expired);
    assert_int_equal(1, stats.queued);
    assert_int_equal(0, stats.cancelled);
    watched second;
    watched_submit(&second, h.pool, 0, NULL); /* asserts that it was taken */
    held_destroy(&h);
    assert_status(TPOOL_OK, tpool_future_result(second.future, 0, NULL));
    assert_status(TPOOL_OK, tpool_future_result(stays.future, 0, NULL));
    assert_int_equal(0, atomic_load(&w.runs));
    tpool_future_release(w.future);
    tpool_future_release(stays.future);
    tpool_future_release(second.future);
}

typedef struct blocked_submit {
    pthread_t thread;
    tpool *pool;
    watched *watched;
    atomic_int status; /* -1: not returned yet */
} blocked_submit;
static void *submit_in_thread(void *arg) {
    blocked_submit *b = arg;
    tpool_status status = tpool_submit(b->pool, watched_run, b->watched, NULL);
    atomic_store(&b->status, (int)status);
    return NULL;
}

static void an_expiry_noticed_by_an_asker_lets_a_blocked_submitter_in(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, &(tpool_config){ .queue_capacity = 1, .on_full = TPOOL_FULL_BLOCK });
    watched w, blocked = { 0 };
    watched_submit(&w, h.pool, TPOOL_MS(50), NULL);
    blocked_submit b = { .pool = h.pool, .watched = &blocked, .status = -1 };
    assert_int_equal(0, pthread_create(&b.thread, NULL, submit_in_thread, &b));
    sleep_beyond(&w);
    sleep_ms(20); /* most likely it is blocked by now; if it comes later it finds room, which is right too */
    assert_true(tpool_future_done(w.future));
    EVENTUALLY(atomic_load(&b.status) != -1);
    assert_status(TPOOL_OK, (tpool_status)atomic_load(&b.status));
    pthread_join(b.thread, NULL);
    held_destroy(&h);
    assert_int_equal(1, atomic_load(&blocked.runs));
    assert_int_equal(0, atomic_load(&w.runs));
    tpool_future_release(w.future);
}

static void a_wait_notices_while_the_pool_is_paused_and_drain_takes_it_as_gone(void **unused) {
    (void)unused;
    tpool *pool = new_pool(2);
    assert_status(TPOOL_OK, tpool_pause(pool));
    watched w;
    watched_submit(&w, pool, TPOOL_MS(20), NULL);
    assert_status(TPOOL_EXPIRED, tpool_future_result(w.future, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(0, atomic_load(&w.runs));
    assert_int_equal(1, atomic_load(&w.frees));
    tpool_future_release(w.future);
}

static void statistics_count_the_expired_apart(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    enum { EXPIRING = 5, RUNNING = 3 };
    watched expiring[EXPIRING], running[RUNNING];
    for (int i = 0; i < EXPIRING; i++) watched_submit(&expiring[i], h.pool, TPOOL_MS(500), NULL);
    for (int i = 0; i < RUNNING; i++) watched_submit(&running[i], h.pool, 0, NULL);
    sleep_beyond(&expiring[EXPIRING - 1]);
    assert_true(tpool_future_done(expiring[0].future));
    assert_true(tpool_future_done(expiring[3].future));
    assert_int_equal(2, stats_of(h.pool).expired);
    gate_open(&h.gate);
    assert_status(TPOOL_OK, tpool_drain(h.pool, LIMIT));
    tpool_stats stats = stats_of(h.pool);
    assert_int_equal(EXPIRING, stats.expired);
    assert_int_equal(RUNNING + 1, stats.completed);
    assert_int_equal(0, stats.failed + stats.cancelled + stats.dropped + stats.rejected);
    assert_int_equal(EXPIRING + RUNNING + 1, stats.submitted);
    assert_int_equal(0, stats.queued);
    held_destroy(&h);
    for (int i = 0; i < EXPIRING; i++) tpool_future_release(expiring[i].future);
    for (int i = 0; i < RUNNING; i++) tpool_future_release(running[i].future);
}

typedef struct failures {
    atomic_int count;
    tpool_status status;
    char task[32];
    pthread_t thread;
} failures;
static void note_failure(const tpool_error *error, void *context) {
    failures *f = context;
    f->status = error->status;
    snprintf(f->task, sizeof f->task, "%s", error->task ? error->task : "(none)");
    f->thread = pthread_self();
    atomic_fetch_add(&f->count, 1);
}

static void on_failure_hears_only_of_what_nobody_can_ask_for(void **unused) {
    (void)unused;
    failures f = { 0 };
    held_pool h;
    held_create(&h, &(tpool_config){ .on_failure = note_failure, .context = &f });
    watched asked, given_up;
    watched_submit(&asked, h.pool, TPOOL_MS(50), "asked");
    watched_submit(&given_up, h.pool, TPOOL_MS(50), "given up");
    tpool_future_release(given_up.future);
    sleep_beyond(&given_up);
    assert_status(TPOOL_EXPIRED, tpool_future_result(asked.future, 0, NULL));
    assert_int_equal(0, atomic_load(&f.count));
    held_destroy(&h);
    assert_int_equal(1, atomic_load(&f.count));
    assert_status(TPOOL_EXPIRED, f.status);
    assert_string_equal("given up", f.task);
    assert_false(pthread_equal(pthread_self(), f.thread));
    assert_int_equal(1, atomic_load(&given_up.callbacks));
    assert_int_equal(1, atomic_load(&given_up.frees));
    assert_int_equal(0, atomic_load(&given_up.runs));
    tpool_future_release(asked.future);
}

/* ---- Races ---- */

static void *look_until_done(void *arg) {
    tpool_future *future = arg;
    int64_t end = tpool_now() + LIMIT;
    while (!tpool_future_done(future) && tpool_now() < end) sched_yield();
    return (void *)(intptr_t)tpool_future_result(future, 0, NULL);
}

static void stress_many_lookers_end_it_once(void **unused) {
    (void)unused;
    enum { THREADS = 3 };
    held_pool h;
    held_create(&h, NULL);
    int rounds = COUNT(200);
    for (int i = 0; i < rounds; i++) {
        watched w;
        pthread_t threads[THREADS];
        watched_submit(&w, h.pool, TPOOL_US(200 + 10 * (i % 50)), NULL);
        for (int t = 0; t < THREADS; t++) {
            assert_int_equal(0, pthread_create(&threads[t], NULL, look_until_done, w.future));
        }
        for (int t = 0; t < THREADS; t++) {
            void *status = NULL;
            pthread_join(threads[t], &status);
            assert_status(TPOOL_EXPIRED, (tpool_status)(intptr_t)status);
        }
        assert_int_equal(1, atomic_load(&w.frees));
        /* One of them runs the callback, but the others may have seen the end before that. */
        EVENTUALLY(atomic_load(&w.callbacks) == 1);
        tpool_future_release(w.future);
    }
    held_destroy(&h);
}

/* The limit passes at about the moment a wait begins: no wait may take it for one that is still to come, or for
   none. */
static void stress_a_wait_that_begins_as_the_limit_passes_ends(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    int rounds = COUNT(1000);
    for (int i = 0; i < rounds; i++) {
        watched w;
        watched_submit(&w, h.pool, 1 + i * 7 % 20000, NULL);
        int64_t before = tpool_now();
        if (!waiters[(size_t)i % WAITERS](w.future, LIMIT)) fail_msg("waiter %d did not end", i % (int)WAITERS);
        if (tpool_now() - before > NOTICED_BY) fail_msg("waiter %d missed the expiry", i % (int)WAITERS);
        assert_int_equal(1, atomic_load(&w.frees));
        EVENTUALLY(atomic_load(&w.callbacks) == 1);
        tpool_future_release(w.future);
    }
    held_destroy(&h);
}

/* The limit passes at about the moment the worker comes by. It grows when it was too short and shrinks when it was
   long enough, so that it stays where both happen. */
static void stress_expiry_against_start_has_one_outcome(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    int rounds = COUNT(2000), ran = 0, expired = 0;
    int64_t limit = TPOOL_US(30), begin = tpool_now();
    for (int i = 0; i < rounds; i++) {
        /* Enough of it: on a busy machine its rounds may last long. */
        if (ran > 0 && expired > 0 && tpool_now() - begin > TPOOL_MS(700)) break;
        watched w;
        watched_submit(&w, pool, limit, NULL);
        void *result = NULL;
        tpool_status status;
        if (i % 2) {
            status = tpool_future_result(w.future, LIMIT, &result);
        } else {
            status = (tpool_status)(intptr_t)look_until_done(w.future);
        }
        if (status == TPOOL_OK) {
            ran++;
            limit -= limit / 4;
            if (limit < 1) limit = 1;
        } else {
            assert_status(TPOOL_EXPIRED, status);
            expired++;
            limit += limit / 4 + 100;
        }
        assert_int_equal(status == TPOOL_OK, atomic_load(&w.runs));
        assert_int_equal(1, atomic_load(&w.frees));
        EVENTUALLY(atomic_load(&w.callbacks) == 1);
        assert_status(status, w.seen_in_callback);
        tpool_future_release(w.future);
    }
    print_message("%d ran, %d expired\n", ran, expired);
    assert_true(ran > 0 && expired > 0);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(ran, stats_of(pool).completed);
    assert_int_equal(expired, stats_of(pool).expired);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_full_queue_of_expired_tasks_takes_the_next(void **state) {
    (void)state;
    for (int i = 1; i <= 4; i++) { /* the policy that blocks comes last: it would wait for the gate */
        int policy = i % 4;
        tpool_config config = { 0 };
        held_pool h;
        tpool_future *last = NULL;
        tpool_task task = { 0 };
        config.queue_capacity = 3;
        config.on_full = (tpool_full_policy)policy;
        task.fn = nothing;
        task.expires_ns = TPOOL_MS(1);
        held_create(&h, &config); /* no worker is idle */
        for (int k = 0; k < 3; k++) assert_status(TPOOL_OK, tpool_submit_task(h.pool, &task, NULL));
        sleep_ms(5);
        last = submitted(h.pool, nothing, NULL);
        assert_false(tpool_future_done(last));
        assert_int_equal(3, stats_of(h.pool).expired);
        assert_int_equal(0, stats_of(h.pool).dropped);
        gate_open(&h.gate);
        assert_status(TPOOL_OK, end_of(last));
        held_destroy(&h);
    }
}

/* The newest under DROP_OLDEST expires too, and the full queue knows. */
static void a_task_that_took_the_place_of_a_dropped_one_expires_in_the_full_queue(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, &(tpool_config){ .queue_capacity = 1, .on_full = TPOOL_FULL_DROP_OLDEST });
    assert_status(TPOOL_OK, tpool_submit(h.pool, nothing, NULL, NULL));
    tpool_task task = { .fn = nothing, .expires_ns = TPOOL_MS(1) };
    assert_status(TPOOL_OK, tpool_submit_task(h.pool, &task, NULL)); /* drops the first */
    sleep_ms(5);
    assert_status(TPOOL_OK, tpool_submit(h.pool, nothing, NULL, NULL));
    assert_int_equal(1, stats_of(h.pool).dropped);
    assert_int_equal(1, stats_of(h.pool).expired);
    held_destroy(&h);
}

/* ---- Noticed by submitters that are blocked on the full queue ---- */

static void blocked_submitters_get_their_places_as_queued_tasks_expire(void **state) {
    (void)state;
    enum { MANY = 3 };
    static submit_call calls[MANY];
    static background submitters[MANY];
    static watched queued[MANY];
    held_pool h;
    rescue r;
    held_create(&h, &(tpool_config){ .queue_capacity = MANY });
    for (int i = 0; i < MANY; i++) watched_submit(&queued[i], h.pool, TPOOL_MS(300 + 50 * i), NULL);
    rescue_start(&r, &h.gate);
    for (int i = 0; i < MANY; i++) {
        calls[i] = (submit_call){ .pool = h.pool, .task = { .fn = nothing } };
        background_start(&submitters[i], call_submit_without_future, &calls[i]);
    }
    for (int i = 0; i < MANY; i++) assert_status(TPOOL_OK, background_join(&submitters[i]));
    rescue_end(&r);
    for (int i = 0; i < MANY; i++) {
        EVENTUALLY(atomic_load(&queued[i].callbacks) == 1);
        assert_int_equal(0, atomic_load(&queued[i].runs));
        assert_status(TPOOL_EXPIRED, queued[i].seen_in_callback);
        assert_false(pthread_equal(pthread_self(), queued[i].callback_thread)); /* a submitter's */
        tpool_future_release(queued[i].future);
    }
    assert_int_equal(MANY, stats_of(h.pool).expired);
    held_destroy(&h);
}

/* The submitters' own tasks expire likewise: each that gets a place tells the next in line when to look. */
static void blocked_submitters_follow_each_other_as_their_tasks_expire(void **state) {
    (void)state;
    enum { MANY = 5 };
    static submit_call calls[MANY];
    static background submitters[MANY];
    static watched queued;
    held_pool h;
    rescue r;
    held_create(&h, &(tpool_config){ .queue_capacity = 1 });
    watched_submit(&queued, h.pool, TPOOL_MS(300), NULL);
    rescue_start(&r, &h.gate);
    for (int i = 0; i < MANY; i++) {
        calls[i] = (submit_call){ .pool = h.pool, .task = { .fn = nothing, .expires_ns = TPOOL_MS(500 + 20 * i) } };
        background_start(&submitters[i], call_submit_without_future, &calls[i]);
    }
    for (int i = 0; i < MANY; i++) assert_status(TPOOL_OK, background_join(&submitters[i]));
    rescue_end(&r);
    EVENTUALLY(atomic_load(&queued.callbacks) == 1);
    tpool_future_release(queued.future);
    held_destroy(&h);
}

/* ---- Noticed by an idle worker ---- */

static void idle_workers_of_a_paused_pool_end_what_expires(void **state) {
    (void)state;
    for (int variant = 0; variant < 8; variant++) {
        bool bounded = variant & 1, early_second = variant & 2, pause_last = variant & 4;
        static gate hold;
        static watched late, early;
        tpool_config config = { 0 };
        tpool *pool = NULL;
        tpool_future *holder = NULL;
        hold = (gate)GATE_CLOSED;
        config.max_workers = pause_last ? 1 : 3;
        if (bounded) config.queue_capacity = 10;
        assert_status(TPOOL_OK, tpool_create(&pool, &config));
        if (pause_last) { /* the worker comes to its sleep after the pause */
            holder = submitted(pool, gate_task, &hold);
            gate_await_arrivals(&hold, 1);
        } else {
            assert_status(TPOOL_OK, tpool_warm_up(pool, 3));
            sleep_ms(5);
            assert_status(TPOOL_OK, tpool_pause(pool));
        }
        watched_submit(&late, pool, early_second ? TPOOL_MS(150) : TPOOL_MS(100), NULL);
        if (!pause_last) sleep_ms(5); /* a worker sleeps until then */
        watched_submit(&early, pool, early_second ? TPOOL_MS(100) : TPOOL_MS(150), NULL);
        if (pause_last) {
            assert_status(TPOOL_OK, tpool_pause(pool));
            gate_open(&hold);
            tpool_future_release(holder);
        }
        assert_status(TPOOL_OK, tpool_drain(pool, NOTICED_BY)); /* looks at no future */
        assert_int_equal(1, atomic_load(&late.callbacks));
        assert_int_equal(1, atomic_load(&early.callbacks));
        assert_int_equal(0, atomic_load(&late.runs) + atomic_load(&early.runs));
        assert_false(pthread_equal(pthread_self(), late.callback_thread));
        assert_true(tpool_now() >= late.submitted_by); /* never early: the future says so itself */
        assert_status(TPOOL_EXPIRED, late.seen_in_callback);
        assert_status(TPOOL_EXPIRED, early.seen_in_callback);
        assert_status(TPOOL_OK, tpool_resume(pool));
        assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
        tpool_future_release(late.future);
        tpool_future_release(early.future);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

/* The worker that watches ends because it is idle only once nothing is left to watch. */
static void an_idle_worker_stays_as_long_as_tasks_may_expire(void **state) {
    (void)state;
    static watched w;
    tpool_config config = { 0 };
    tpool *pool = NULL;
    config.max_workers = 2;
    config.idle_timeout_ns = TPOOL_MS(20);
    assert_status(TPOOL_OK, tpool_create(&pool, &config));
    assert_status(TPOOL_OK, tpool_pause(pool));
    watched_submit(&w, pool, TPOOL_MS(200), NULL);
    assert_status(TPOOL_OK, tpool_drain(pool, NOTICED_BY));
    assert_int_equal(1, atomic_load(&w.callbacks));
    tpool_stats stats;
    EVENTUALLY(tpool_get_stats(pool, &stats) == TPOOL_OK && stats.workers == 0);
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    tpool_future_release(w.future);
}

static const struct CMUnitTest tests[] = {
    TEST(whoever_looks_first_ends_it_with_its_callbacks_in_that_thread),
    TEST(an_expired_future_is_finished_with_an_error),
    TEST(a_cancel_after_the_limit_leaves_exactly_one_end),
    TEST(a_callback_added_after_the_limit_runs_once),
    TEST(nothing_expires_early_or_without_a_limit),
    TEST(a_task_that_has_started_does_not_expire),
    TEST(nobody_looks_and_its_turn_ends_it_in_the_worker),
    TEST(a_task_without_a_future_expires_at_its_turn),
    TEST(a_wait_with_or_without_a_limit_ends_when_the_expiry_passes),
    TEST(a_wait_whose_limit_comes_first_ends_there),
    TEST(all_threads_that_wait_wake_and_it_ends_once),
    TEST(a_wait_for_many_ends_with_the_latest_expiry),
    TEST(the_first_of_many_may_be_an_expired_one),
    TEST(as_completed_yields_what_expires_while_it_waits),
    TEST(an_expiry_noticed_by_an_asker_makes_room_and_counts_at_once),
    TEST(an_expiry_noticed_by_an_asker_lets_a_blocked_submitter_in),
    TEST(a_wait_notices_while_the_pool_is_paused_and_drain_takes_it_as_gone),
    TEST(statistics_count_the_expired_apart),
    TEST(on_failure_hears_only_of_what_nobody_can_ask_for),
    TEST(stress_many_lookers_end_it_once),
    TEST(stress_a_wait_that_begins_as_the_limit_passes_ends),
    TEST(stress_expiry_against_start_has_one_outcome),
    TEST(a_full_queue_of_expired_tasks_takes_the_next),
    TEST(a_task_that_took_the_place_of_a_dropped_one_expires_in_the_full_queue),
    TEST(blocked_submitters_get_their_places_as_queued_tasks_expire),
    TEST(blocked_submitters_follow_each_other_as_their_tasks_expire),
    TEST(idle_workers_of_a_paused_pool_end_what_expires),
    TEST(an_idle_worker_stays_as_long_as_tasks_may_expire),
};
RUN_TESTS(tests)
