/* What callbacks may do: submit, wait, cancel, add, complete, release the last reference. */
#include "support.h"
#include "support/callbacks.h"

/* ---- What they may do ---- */

typedef struct submits {
    tpool *pool;
    atomic_int runs;
    tpool_status status[3];
    tpool_future *future;
} submits;
static void *count_runs(void *arg) {
    atomic_fetch_add(&((submits *)arg)->runs, 1);
    return arg;
}
static void submit_from_callback(tpool_future *future, void *context) {
    (void)future;
    submits *s = context;
    tpool_task task = { .fn = count_runs, .arg = s };
    s->status[0] = tpool_submit(s->pool, count_runs, s, NULL);
    s->status[1] = tpool_submit_task(s->pool, &task, &s->future);
    s->status[2] = tpool_submit_many(s->pool, &task, 1, NULL, NULL);
}

static void they_may_submit(void **unused) {
    (void)unused;
    for (int workers = 1; workers <= 2; workers++) {
        tpool *pool = new_pool(workers);
        submits s = { .pool = pool };
        gate g = GATE_CLOSED;
        tpool_future *future = submitted(pool, gate_task, &g);
        assert_status(TPOOL_OK, tpool_future_add_done_callback(future, submit_from_callback, &s));
        gate_open(&g);
        assert_status(TPOOL_OK, tpool_drain(pool, LIMIT)); /* work submitted meanwhile counts */
        assert_int_equal(3, atomic_load(&s.runs));
        for (int i = 0; i < 3; i++) assert_status(TPOOL_OK, s.status[i]);
        assert_status(TPOOL_OK, tpool_future_result(s.future, 0, NULL));
        tpool_future_release(s.future);
        tpool_future_release(future);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

typedef struct waits {
    tpool *pool;
    int64_t timeout;
    tpool_future *existing; /* another future to wait for, or NULL */
    tpool_status submitted, waited, waited_for_own;
    void *result;
    atomic_int count;
} waits;
static void wait_from_callback(tpool_future *future, void *context) {
    waits *w = context;
    w->waited_for_own = tpool_future_result(future, TPOOL_FOREVER, NULL);
    if (w->existing) {
        w->waited = tpool_future_result(w->existing, w->timeout, &w->result);
    } else {
        tpool_future *other = NULL;
        w->submitted = tpool_submit(w->pool, nothing, w, &other);
        w->waited = tpool_future_result(other, w->timeout, &w->result);
        tpool_future_release(other);
    }
    atomic_fetch_add(&w->count, 1);
}

static void they_may_wait_for_a_task_that_they_submit_even_with_one_worker(void **unused) {
    (void)unused;
    int64_t timeouts[] = { LIMIT, TPOOL_FOREVER };
    for (int i = 0; i < 2; i++) {
        tpool *pool = new_pool(1);
        waits w = { .pool = pool, .timeout = timeouts[i] };
        gate g = GATE_CLOSED;
        tpool_future *future = submitted(pool, gate_task, &g);
        assert_status(TPOOL_OK, tpool_future_add_done_callback(future, wait_from_callback, &w));
        gate_open(&g);
        EVENTUALLY(atomic_load(&w.count) == 1);
        assert_status(TPOOL_OK, w.waited_for_own);
        assert_status(TPOOL_OK, w.submitted);
        assert_status(TPOOL_OK, w.waited);
        assert_ptr_equal(&w, w.result);
        tpool_future_release(future);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

static void they_may_wait_for_a_future_that_something_else_completes(void **unused) {
    (void)unused;
    int64_t timeouts[] = { LIMIT, TPOOL_FOREVER };
    for (int i = 0; i < 2; i++) {
        held_pool h;
        held_create(&h, NULL);
        tpool_future *bare = NULL, *behind = NULL;
        assert_status(TPOOL_OK, tpool_future_create(&bare));
        waits w = { .pool = h.pool, .timeout = timeouts[i], .existing = bare };
        assert_status(TPOOL_OK, tpool_future_add_done_callback(h.holder, wait_from_callback, &w));
        behind = submitted(h.pool, nothing, NULL);
        gate_open(&h.gate);
        /* A callback that blocks its worker holds up nobody: a spare worker takes over. */
        assert_status(TPOOL_OK, tpool_future_result(behind, LIMIT, NULL));
        assert_int_equal(0, atomic_load(&w.count));
        assert_status(TPOOL_OK, tpool_future_set_result(bare, &w));
        EVENTUALLY(atomic_load(&w.count) == 1);
        assert_status(TPOOL_OK, w.waited);
        assert_ptr_equal(&w, w.result);
        held_destroy(&h);
        tpool_future_release(bare);
        tpool_future_release(behind);
    }
}

typedef struct cancels {
    tpool_future *others[3];
    bool answers[3];
} cancels;
static void cancel_from_callback(tpool_future *future, void *context) {
    (void)future;
    cancels *c = context;
    for (int i = 0; i < 3; i++) c->answers[i] = tpool_future_cancel(c->others[i]);
}

static void they_may_cancel_others_whose_callbacks_then_run_in_the_same_thread(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    journal j = JOURNAL_EMPTY;
    line lines[3];
    lines_init(lines, 3, &j);
    pthread_t worker;
    cancels c = { { NULL }, { false } };
    tpool_future *first = submitted(h.pool, tell_thread, &worker);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(first, cancel_from_callback, &c));
    for (int i = 0; i < 3; i++) {
        c.others[i] = submitted(h.pool, nothing, NULL);
        add_lines(c.others[i], lines, i, i + 1);
    }
    held_destroy(&h);
    assert_int_equal(3, journal_count(&j));
    for (int i = 0; i < 3; i++) {
        assert_true(c.answers[i]);
        check_lines(&j, i, i + 1, c.others[i], worker);
        assert_status(TPOOL_CANCELLED, tpool_future_result(c.others[i], 0, NULL));
        tpool_future_release(c.others[i]);
    }
    tpool_future_release(first);
}

typedef struct adds {
    journal *journal;
    line *inner;
    tpool_future *other;
    tpool_status same_status, other_status;
} adds;
static void add_from_callback(tpool_future *future, void *context) {
    adds *a = context;
    journal_write(a->journal, 100, future);
    a->same_status = tpool_future_add_done_callback(future, write_line, &a->inner[0]);
    a->other_status = tpool_future_add_done_callback(a->other, write_line, &a->inner[1]);
    journal_write(a->journal, 200, future);
}

static void they_may_add_callbacks_which_run_at_once_if_that_future_is_done(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    journal j = JOURNAL_EMPTY;
    line lines[3];
    lines_init(lines, 3, &j);
    tpool_future *future = NULL, *pending = NULL;
    future = submitted(h.pool, nothing, NULL);
    pending = submitted(h.pool, nothing, NULL);
    adds a = {
        .journal = &j, .inner = lines, .other = pending, .same_status = TPOOL_INVALID, .other_status = TPOOL_INVALID
    };
    assert_status(TPOOL_OK, tpool_future_add_done_callback(future, add_from_callback, &a));
    add_lines(future, lines, 2, 3);
    held_destroy(&h);
    assert_status(TPOOL_OK, a.same_status);
    assert_status(TPOOL_OK, a.other_status);
    /* The future is done when its callbacks run: what they add to it runs within them, before those yet to come. */
    int expected[] = { 100, 0, 200, 2, 1 };
    assert_int_equal(5, journal_count(&j));
    for (int i = 0; i < 5; i++) {
        assert_int_equal(expected[i], j.ids[i]);
        assert_ptr_equal(i == 4 ? pending : future, j.futures[i]);
    }
    tpool_future_release(future);
    tpool_future_release(pending);
}

/* Each callback completes the next future, whose callback does the same. */
enum { CHAIN = 100 };
typedef struct chain {
    tpool_future *futures[CHAIN];
    atomic_int next, refused;
} chain;
static void complete_next(tpool_future *future, void *context) {
    chain *c = context;
    int i = atomic_fetch_add(&c->next, 1);
    void *result = NULL;
    if (tpool_future_result(future, 0, &result) != TPOOL_OK) atomic_fetch_add(&c->refused, 1);
    if (i < CHAIN && tpool_future_set_result(c->futures[i], result) != TPOOL_OK) atomic_fetch_add(&c->refused, 1);
}

static void they_may_complete_other_futures_one_after_another(void **unused) {
    (void)unused;
    chain c = { .next = 1 };
    int value = 0;
    for (int i = 0; i < CHAIN; i++) {
        assert_status(TPOOL_OK, tpool_future_create(&c.futures[i]));
        assert_status(TPOOL_OK, tpool_future_add_done_callback(c.futures[i], complete_next, &c));
    }
    assert_status(TPOOL_OK, tpool_future_set_result(c.futures[0], &value));
    assert_int_equal(0, atomic_load(&c.refused));
    for (int i = 0; i < CHAIN; i++) {
        void *result = NULL;
        assert_status(TPOOL_OK, tpool_future_result(c.futures[i], 0, &result));
        assert_ptr_equal(&value, result);
        tpool_future_release(c.futures[i]);
    }
}

/* ---- The last reference ---- */

typedef struct last {
    atomic_int count, freed, intact;
    tpool_status expected;
} last;
static void *return_owned_last(void *arg) { return tpool_return_owned(&((last *)arg)->freed, count_free); }

static void release_and_look(tpool_future *future, void *context) {
    last *l = context;
    tpool_future_release(future); /* the caller's, which was the last one */
    /* Valid until the callback returns all the same. */
    bool intact =
        tpool_future_done(future) && tpool_future_result(future, 0, NULL) == l->expected && atomic_load(&l->freed) == 0;
    if (intact) atomic_fetch_add(&l->intact, 1);
    atomic_fetch_add(&l->count, 1);
}
static void just_look(tpool_future *future, void *context) {
    last *l = context;
    bool intact =
        tpool_future_done(future) && tpool_future_result(future, 0, NULL) == l->expected && atomic_load(&l->freed) == 0;
    if (intact) atomic_fetch_add(&l->intact, 1);
    atomic_fetch_add(&l->count, 1);
}
static void add_last_callbacks(tpool_future *future, last *l) {
    assert_status(TPOOL_OK, tpool_future_add_done_callback(future, just_look, l));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(future, release_and_look, l));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(future, just_look, l));
}
static void check_last(last *l, int callbacks) {
    assert_int_equal(callbacks, atomic_load(&l->count));
    assert_int_equal(callbacks, atomic_load(&l->intact));
}

static void they_may_release_the_last_reference(void **unused) {
    (void)unused;
    tpool_future *future = NULL;
    held_pool h;

    last finished = { .expected = TPOOL_OK }; /* at the end of its task */
    held_create(&h, NULL);
    future = submitted(h.pool, return_owned_last, &finished);
    add_last_callbacks(future, &finished);
    held_destroy(&h);
    check_last(&finished, 3);
    assert_int_equal(1, atomic_load(&finished.freed));

    last cancelled = { .expected = TPOOL_CANCELLED }; /* within a cancel */
    held_create(&h, NULL);
    future = submitted(h.pool, nothing, NULL);
    add_last_callbacks(future, &cancelled);
    assert_true(tpool_future_cancel(future));
    check_last(&cancelled, 3);

    last shut_down = { .expected = TPOOL_CANCELLED }; /* within a shutdown */
    future = submitted(h.pool, nothing, NULL);
    add_last_callbacks(future, &shut_down);
    assert_status(TPOOL_OK, tpool_shutdown(h.pool, TPOOL_CANCEL_PENDING));
    held_destroy(&h);
    check_last(&shut_down, 3);

    last expired = { .expected = TPOOL_EXPIRED }; /* within a look that notices the expiry */
    held_create(&h, NULL);
    tpool_task task = { .fn = nothing, .expires_ns = TPOOL_MS(500) }; /* not before they are added */
    future = submitted_task(h.pool, task);
    add_last_callbacks(future, &expired);
    sleep_ms(510);
    assert_true(tpool_future_done(future));
    check_last(&expired, 3);
    held_destroy(&h);

    last produced = { .expected = TPOOL_OK }; /* within set_result and set_error */
    assert_status(TPOOL_OK, tpool_future_create(&future));
    add_last_callbacks(future, &produced);
    assert_status(TPOOL_OK, tpool_future_set_result(future, NULL));
    check_last(&produced, 3);
    last failed = { .expected = TPOOL_FAILED };
    assert_status(TPOOL_OK, tpool_future_create(&future));
    add_last_callbacks(future, &failed);
    assert_status(TPOOL_OK, tpool_future_set_error(future, 1, "an error of some length, kept aside"));
    check_last(&failed, 3);

    last late = { .expected = TPOOL_OK }; /* within adding to a done future */
    assert_status(TPOOL_OK, tpool_future_create(&future));
    assert_status(TPOOL_OK, tpool_future_set_result(future, NULL));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(future, release_and_look, &late));
    check_last(&late, 1);
}

static const struct CMUnitTest tests[] = {
    TEST(they_may_submit),
    TEST(they_may_wait_for_a_task_that_they_submit_even_with_one_worker),
    TEST(they_may_wait_for_a_future_that_something_else_completes),
    TEST(they_may_cancel_others_whose_callbacks_then_run_in_the_same_thread),
    TEST(they_may_add_callbacks_which_run_at_once_if_that_future_is_done),
    TEST(they_may_complete_other_futures_one_after_another),
    TEST(they_may_release_the_last_reference),
};
RUN_TESTS(tests)
