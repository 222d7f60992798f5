/* Callbacks: when they run, in which thread and order, and exactly once; what they may do; who waits for them. */
#include "support.h"
#include "support/callbacks.h"
#include <sched.h>

static void *raise_33(void *arg) {
    (void)arg;
    return tpool_raise(33, "thirty three");
}

/* ---- When, where, in which order ---- */

static void added_before_they_run_in_order_in_the_thread_that_finishes(void **unused) {
    (void)unused;
    enum { LINES = 1000 };
    held_pool h;
    held_create(&h, NULL);
    static journal j;
    static line lines[LINES];
    j = (journal)JOURNAL_EMPTY;
    lines_init(lines, LINES, &j);
    pthread_t worker;
    tpool_future *future = submitted(h.pool, tell_thread, &worker);
    add_lines(future, lines, 0, LINES);
    assert_int_equal(0, journal_count(&j));
    held_destroy(&h);
    assert_int_equal(LINES, journal_count(&j));
    assert_false(pthread_equal(pthread_self(), worker));
    check_lines(&j, 0, LINES, future, worker);
    tpool_future_release(future);
    assert_int_equal(LINES, journal_count(&j));
}

typedef struct told_gate {
    gate gate;
    pthread_t thread;
} told_gate;
static void *tell_thread_and_pass(void *arg) {
    told_gate *t = arg;
    t->thread = pthread_self();
    gate_pass(&t->gate);
    return t;
}

static void added_before_during_and_after_each_runs_once_and_in_order(void **unused) {
    (void)unused;
    enum { BEFORE = 3, DURING = 6, AFTER = 9 };
    held_pool h;
    held_create(&h, NULL);
    journal j = JOURNAL_EMPTY;
    line lines[AFTER];
    lines_init(lines, AFTER, &j);
    told_gate t = { .gate = GATE_CLOSED };
    tpool_future *future = submitted(h.pool, tell_thread_and_pass, &t);
    add_lines(future, lines, 0, BEFORE);
    gate_open(&h.gate);
    gate_await_arrivals(&t.gate, 1);
    assert_int_equal(TPOOL_RUNNING, tpool_future_state(future));
    add_lines(future, lines, BEFORE, DURING);
    assert_int_equal(0, journal_count(&j));
    gate_open(&t.gate);
    assert_status(TPOOL_OK, tpool_drain(h.pool, LIMIT));
    assert_int_equal(DURING, journal_count(&j));
    for (int i = DURING; i < AFTER; i++) {
        add_lines(future, lines, i, i + 1);
        assert_int_equal(i + 1, journal_count(&j)); /* at once */
    }
    held_destroy(&h);
    assert_int_equal(AFTER, journal_count(&j));
    check_lines(&j, 0, DURING, future, t.thread);
    check_lines(&j, DURING, AFTER, future, pthread_self());
    tpool_future_release(future);
}

static void one_callback_may_be_added_many_times_and_runs_as_often(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    journal j = JOURNAL_EMPTY;
    line same = { &j, 5 };
    tpool_future *future = submitted(h.pool, nothing, NULL);
    for (int i = 0; i < 7; i++) {
        assert_status(TPOOL_OK, tpool_future_add_done_callback(future, write_line, &same));
    }
    held_destroy(&h);
    assert_int_equal(7, journal_count(&j));
    tpool_future_release(future);
}

typedef struct cancel_thread {
    pthread_t thread;
    tpool_future *future;
    journal *j;
    bool answer;
    int count_at_return;
} cancel_thread;
static void *cancel_there(void *arg) {
    cancel_thread *c = arg;
    c->answer = tpool_future_cancel(c->future);
    c->count_at_return = journal_count(c->j);
    return NULL;
}

static void on_cancel_they_run_in_the_cancelling_thread_before_cancel_returns(void **unused) {
    (void)unused;
    enum { LINES = 5 };
    held_pool h;
    held_create(&h, NULL);
    for (int here = 0; here < 2; here++) {
        journal j = JOURNAL_EMPTY;
        line lines[LINES];
        lines_init(lines, LINES, &j);
        tpool_future *future = submitted(h.pool, nothing, NULL);
        add_lines(future, lines, 0, LINES);
        cancel_thread c = { .future = future, .j = &j };
        if (here) {
            c.thread = pthread_self();
            cancel_there(&c);
        } else {
            assert_int_equal(0, pthread_create(&c.thread, NULL, cancel_there, &c));
            pthread_join(c.thread, NULL);
        }
        assert_true(c.answer);
        assert_int_equal(LINES, c.count_at_return);
        check_lines(&j, 0, LINES, future, c.thread);
        assert_true(tpool_future_cancel(future));
        assert_int_equal(LINES, journal_count(&j));
        tpool_future_release(future);
    }
    held_destroy(&h);
}

static void they_run_once_however_the_task_ends(void **unused) {
    (void)unused;
    enum { FAILED, ENDED_THREAD, DROPPED, SHUT_DOWN, EXPIRED, BROKEN_INITIALIZER, WAYS };
    tpool_status ends[WAYS] = { TPOOL_FAILED,    TPOOL_BROKEN,  TPOOL_CANCELLED,
                                TPOOL_CANCELLED, TPOOL_EXPIRED, TPOOL_BROKEN };
    for (int way = 0; way < WAYS; way++) {
        journal j = JOURNAL_EMPTY;
        line lines[2];
        lines_init(lines, 2, &j);
        tpool_future *future = NULL;
        if (way == BROKEN_INITIALIZER) {
            gate g = GATE_CLOSED;
            tpool *pool = NULL;
            tpool_config config = { .max_workers = 1, .initializer = pass_gate_and_fail, .context = &g };
            assert_status(TPOOL_OK, tpool_create(&pool, &config));
            future = submitted(pool, nothing, NULL);
            add_lines(future, lines, 0, 2);
            gate_open(&g);
            assert_status(TPOOL_OK, tpool_destroy(pool));
        } else {
            held_pool h;
            held_create(&h, &(tpool_config){ .queue_capacity = 1, .on_full = TPOOL_FULL_DROP_OLDEST });
            tpool_task task = { .fn = way == FAILED         ? raise_33
                                      : way == ENDED_THREAD ? end_thread
                                                            : nothing,
                                .expires_ns = way == EXPIRED ? TPOOL_MS(20) : 0 };
            future = submitted_task(h.pool, task);
            add_lines(future, lines, 0, 2);
            if (way == DROPPED) assert_status(TPOOL_OK, tpool_submit(h.pool, nothing, NULL, NULL));
            if (way == SHUT_DOWN) assert_status(TPOOL_OK, tpool_shutdown(h.pool, TPOOL_CANCEL_PENDING));
            if (way == EXPIRED) assert_status(TPOOL_EXPIRED, tpool_future_result(future, LIMIT, NULL));
            held_destroy(&h);
        }
        assert_status(ends[way], tpool_future_result(future, 0, NULL));
        assert_int_equal(2, journal_count(&j));
        check_lines(&j, 0, 2, future, j.threads[0]);
        tpool_future_release(future);
        assert_int_equal(2, journal_count(&j));
    }
}

/* ---- What they see ---- */

typedef struct view {
    atomic_int count;
    tpool_future *future;
    tpool_state state;
    bool done, running, cancelled, cancel;
    tpool_status result_status, error_status, patient_status;
    void *result;
    size_t size;
    tpool_status error_in;
    int code;
    char message[64];
    bool stop;
    size_t arg_size;
} view;

static void look_at_all(tpool_future *future, void *context) {
    view *v = context;
    const tpool_error *error = NULL;
    v->future = future;
    v->state = tpool_future_state(future);
    v->done = tpool_future_done(future);
    v->running = tpool_future_running(future);
    v->cancelled = tpool_future_cancelled(future);
    v->cancel = tpool_future_cancel(future);
    v->result_status = tpool_future_result(future, 0, &v->result);
    v->patient_status = tpool_future_result(future, TPOOL_FOREVER, NULL); /* done: nothing to wait for */
    v->size = tpool_future_result_size(future);
    v->error_status = tpool_future_error(future, TPOOL_FOREVER, &error);
    v->error_in = error ? error->status : TPOOL_OK;
    v->code = error ? error->code : 0;
    snprintf(v->message, sizeof v->message, "%s", tpool_future_message(future));
    v->stop = tpool_stop_requested();
    v->arg_size = tpool_arg_size();
    tpool_future_release(tpool_future_retain(future));
    atomic_fetch_add(&v->count, 1);
}

static void *return_word(void *arg) {
    (void)arg;
    return tpool_return("word", 5);
}

static void they_see_the_end_of_the_task(void **unused) {
    (void)unused;
    enum { SUCCESS, FAILURE, CANCEL, TASKS };
    held_pool h;
    held_create(&h, NULL);
    view views[TASKS] = { 0 };
    tpool_future *futures[TASKS] = { NULL };
    char bytes[100] = "an argument by copy, which no callback has";
    assert_status(TPOOL_OK, tpool_submit_copy(h.pool, return_word, bytes, sizeof bytes, &futures[SUCCESS]));
    futures[FAILURE] = submitted(h.pool, raise_33, NULL);
    futures[CANCEL] = submitted(h.pool, nothing, NULL);
    for (int i = 0; i < TASKS; i++) {
        assert_status(TPOOL_OK, tpool_future_add_done_callback(futures[i], look_at_all, &views[i]));
    }
    tpool_future_request_stop(futures[SUCCESS]);
    assert_true(tpool_future_cancel(futures[CANCEL]));
    held_destroy(&h);
    for (int i = 0; i < TASKS; i++) {
        view *v = &views[i];
        assert_int_equal(1, atomic_load(&v->count));
        assert_ptr_equal(futures[i], v->future);
        assert_int_equal(i == CANCEL ? TPOOL_STATE_CANCELLED : TPOOL_FINISHED, v->state);
        assert_true(v->done);
        assert_false(v->running);
        assert_true(v->cancelled == (i == CANCEL));
        assert_true(v->cancel == (i == CANCEL));
        tpool_status end = i == SUCCESS ? TPOOL_OK : i == FAILURE ? TPOOL_FAILED : TPOOL_CANCELLED;
        assert_status(end, v->result_status);
        assert_status(end, v->patient_status);
        assert_status(end, v->error_in);
        assert_status(i == CANCEL ? TPOOL_CANCELLED : TPOOL_OK, v->error_status);
        assert_int_equal(i == SUCCESS ? 5 : 0, v->size);
        assert_int_equal(i == FAILURE ? 33 : 0, i == FAILURE ? v->code : 0);
        if (i == SUCCESS) assert_string_equal("word", v->result);
        else assert_null(v->result);
        assert_string_equal(i == FAILURE ? "thirty three" : tpool_status_text(end), v->message);
        assert_false(v->stop); /* in a callback no task is the innermost one */
        assert_int_equal(0, v->arg_size);
        tpool_future_release(futures[i]);
    }
}

typedef struct refusals {
    atomic_int count, owned;
    bool all_null;
} refusals;
static void try_to_raise_and_return(tpool_future *future, void *context) {
    (void)future;
    refusals *r = context;
    void *raised = tpool_raise(99, "from a callback %d", 1);
    void *returned = tpool_return("from a callback", 16);
    void *owned = tpool_return_owned(&r->owned, count_free);
    r->all_null = !raised && !returned && !owned;
    atomic_fetch_add(&r->count, 1);
}

typedef struct cancel_inside {
    gate gate;
    tpool_future *other;
} cancel_inside;
static void *cancel_inside_a_task(void *arg) {
    cancel_inside *c = arg;
    gate_pass(&c->gate);
    void *bytes = tpool_return("of the task", 12);
    tpool_future_cancel(c->other); /* runs the callbacks of the other here, in the midst of this task */
    return bytes;
}

static void raise_and_return_do_nothing_in_them(void **unused) {
    (void)unused;
    /* At the end of a task: neither it nor the next one of the worker is touched. */
    held_pool h;
    held_create(&h, NULL);
    refusals r = { 0 }, inside = { 0 }, here = { 0 };
    tpool_future *first = NULL, *next = NULL;
    first = submitted(h.pool, return_word, NULL);
    next = submitted(h.pool, nothing, &h);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(first, try_to_raise_and_return, &r));
    held_destroy(&h);
    void *result = NULL;
    assert_status(TPOOL_OK, tpool_future_result(first, 0, &result));
    assert_string_equal("word", result);
    assert_int_equal(5, tpool_future_result_size(first));
    assert_status(TPOOL_OK, tpool_future_result(next, 0, &result));
    assert_ptr_equal(&h, result);
    tpool_future_release(first);
    tpool_future_release(next);

    /* In the midst of another task, which cancels the future: that task is not touched either. */
    tpool *pool = new_pool(1);
    cancel_inside c = { .gate = GATE_CLOSED };
    tpool_future *canceller = submitted(pool, cancel_inside_a_task, &c);
    gate_await_arrivals(&c.gate, 1);
    c.other = submitted(pool, nothing, NULL);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(c.other, try_to_raise_and_return, &inside));
    gate_open(&c.gate);
    assert_status(TPOOL_OK, tpool_future_result(canceller, LIMIT, &result));
    assert_string_equal("of the task", result);
    assert_int_equal(12, tpool_future_result_size(canceller));
    assert_status(TPOOL_CANCELLED, tpool_future_result(c.other, 0, NULL));

    /* In a thread that runs no task. */
    assert_status(TPOOL_OK, tpool_future_add_done_callback(canceller, try_to_raise_and_return, &here));
    tpool_future_release(canceller);
    tpool_future_release(c.other);
    assert_status(TPOOL_OK, tpool_destroy(pool));

    refusals *all[] = { &r, &inside, &here };
    for (int i = 0; i < 3; i++) {
        assert_int_equal(1, atomic_load(&all[i]->count));
        assert_true(all[i]->all_null);
        assert_int_equal(0, atomic_load(&all[i]->owned)); /* still the caller's */
    }
}

/* ---- While one runs ---- */

typedef struct blocked {
    gate gate;
    atomic_int ended;
} blocked;
static void block_callback(tpool_future *future, void *context) {
    (void)future;
    blocked *b = context;
    gate_pass(&b->gate);
    atomic_fetch_add(&b->ended, 1);
}

static void while_one_runs_no_lock_is_held_and_the_future_is_done(void **unused) {
    (void)unused;
    tpool *pool = new_pool(2);
    blocked b = { .gate = GATE_CLOSED };
    gate g = GATE_CLOSED;
    journal j = JOURNAL_EMPTY;
    line lines[3];
    lines_init(lines, 3, &j);
    tpool_future *future = NULL, *other = NULL;
    future = submitted(pool, gate_task, &g);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(future, block_callback, &b));
    add_lines(future, lines, 2, 3);
    gate_open(&g);
    gate_await_arrivals(&b.gate, 1);

    void *result = NULL;
    assert_int_equal(TPOOL_FINISHED, tpool_future_state(future));
    assert_status(TPOOL_OK, tpool_future_result(future, TPOOL_FOREVER, &result));
    assert_ptr_equal(&g, result);
    const tpool_error *error = NULL;
    assert_status(TPOOL_OK, tpool_future_error(future, TPOOL_FOREVER, &error));
    assert_null(error);
    assert_status(TPOOL_OK, tpool_wait(&future, 1, TPOOL_ALL_COMPLETED, TPOOL_FOREVER, NULL));
    assert_false(tpool_future_cancel(future));
    tpool_future_release(tpool_future_retain(future));
    /* One added now runs at once and does not wait for those still to run elsewhere. */
    assert_int_equal(0, journal_count(&j));
    add_lines(future, lines, 0, 2);
    assert_int_equal(2, journal_count(&j));
    check_lines(&j, 0, 2, future, pthread_self());
    /* The pool is as usable as ever. */
    other = submitted(pool, nothing, &g);
    assert_status(TPOOL_OK, tpool_future_result(other, LIMIT, NULL));
    tpool_stats stats = { 0 };
    assert_status(TPOOL_OK, tpool_get_stats(pool, &stats));

    assert_int_equal(0, atomic_load(&b.ended));
    gate_open(&b.gate);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(1, atomic_load(&b.ended));
    assert_int_equal(3, journal_count(&j));
    check_lines(&j, 2, 3, future, j.threads[2]);
    assert_false(pthread_equal(pthread_self(), j.threads[2]));
    tpool_future_release(future);
    tpool_future_release(other);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void drain_returns_after_them(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    blocked b = { .gate = GATE_CLOSED };
    assert_status(TPOOL_OK, tpool_future_add_done_callback(h.holder, block_callback, &b));
    gate_open(&h.gate);
    gate_await_arrivals(&b.gate, 1);
    assert_true(tpool_future_done(h.holder));
    assert_status(TPOOL_TIMEOUT, tpool_drain(h.pool, TPOOL_MS(20)));
    assert_status(TPOOL_TIMEOUT, tpool_drain(h.pool, 0));
    gate_open(&b.gate);
    assert_status(TPOOL_OK, tpool_drain(h.pool, LIMIT));
    assert_int_equal(1, atomic_load(&b.ended));
    held_destroy(&h);
}

typedef struct call_thread {
    pthread_t thread;
    tpool *pool;
    tpool_future *future;
    atomic_bool returned;
    int status;
} call_thread;
static void *destroy_there(void *arg) {
    call_thread *c = arg;
    c->status = (int)tpool_destroy(c->pool);
    atomic_store(&c->returned, true);
    return NULL;
}
static void *cancel_for_callback(void *arg) {
    call_thread *c = arg;
    c->status = tpool_future_cancel(c->future);
    atomic_store(&c->returned, true);
    return NULL;
}

static void destroy_returns_after_them(void **unused) {
    (void)unused;
    tpool *pool = new_pool(2);
    blocked b = { .gate = GATE_CLOSED };
    gate g = GATE_CLOSED;
    tpool_future *future = submitted(pool, gate_task, &g);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(future, block_callback, &b));
    gate_open(&g);
    gate_await_arrivals(&b.gate, 1);
    call_thread c = { .pool = pool };
    assert_int_equal(0, pthread_create(&c.thread, NULL, destroy_there, &c));
    sleep_ms(30); /* time for a destroy that does not wait to return */
    assert_false(atomic_load(&c.returned));
    gate_open(&b.gate);
    pthread_join(c.thread, NULL);
    assert_status(TPOOL_OK, (tpool_status)c.status);
    assert_int_equal(1, atomic_load(&b.ended));
    tpool_future_release(future);
}

static void drain_and_destroy_return_after_those_of_a_cancelled_task(void **unused) {
    (void)unused;
    for (int destroys = 0; destroys < 2; destroys++) {
        held_pool h;
        held_create(&h, NULL);
        blocked b = { .gate = GATE_CLOSED };
        call_thread canceller = { .pool = h.pool }, destroyer = { .pool = h.pool };
        canceller.future = submitted(h.pool, nothing, NULL);
        assert_status(TPOOL_OK, tpool_future_add_done_callback(canceller.future, block_callback, &b));
        assert_int_equal(0, pthread_create(&canceller.thread, NULL, cancel_for_callback, &canceller));
        gate_await_arrivals(&b.gate, 1);
        assert_int_equal(TPOOL_STATE_CANCELLED, tpool_future_state(canceller.future));
        gate_open(&h.gate);
        assert_status(TPOOL_OK, tpool_future_result(h.holder, LIMIT, NULL));
        assert_status(TPOOL_TIMEOUT, tpool_drain(h.pool, TPOOL_MS(20)));
        if (destroys) {
            assert_int_equal(0, pthread_create(&destroyer.thread, NULL, destroy_there, &destroyer));
            sleep_ms(20); /* time for a destroy that does not wait to return */
            assert_false(atomic_load(&destroyer.returned));
        }
        gate_open(&b.gate);
        if (destroys) {
            pthread_join(destroyer.thread, NULL);
            assert_status(TPOOL_OK, (tpool_status)destroyer.status);
            assert_int_equal(1, atomic_load(&b.ended));
            tpool_future_release(h.holder);
        } else {
            assert_status(TPOOL_OK, tpool_drain(h.pool, LIMIT));
            assert_int_equal(1, atomic_load(&b.ended));
            held_destroy(&h);
        }
        pthread_join(canceller.thread, NULL);
        assert_true(canceller.status);
        tpool_future_release(canceller.future);
    }
}

/* ---- Futures that no pool runs ---- */

typedef struct setter {
    pthread_t thread;
    tpool_future *future;
    journal *j;
    int how, count_at_return;
} setter;
static void *set_there(void *arg) {
    setter *s = arg;
    if (s->how == 0) tpool_future_set_result(s->future, s);
    else if (s->how == 1) tpool_future_set_error(s->future, 1, "an error");
    else tpool_future_cancel(s->future);
    s->count_at_return = journal_count(s->j);
    return NULL;
}

static void those_of_a_bare_future_run_in_the_thread_that_completes_it(void **unused) {
    (void)unused;
    enum { LINES = 6 };
    for (int how = 0; how < 3; how++) {
        journal j = JOURNAL_EMPTY;
        line lines[LINES];
        lines_init(lines, LINES, &j);
        tpool_future *future = NULL;
        assert_status(TPOOL_OK, tpool_future_create(&future));
        add_lines(future, lines, 0, 2);
        if (how < 2) assert_status(TPOOL_OK, tpool_future_set_running(future));
        assert_int_equal(0, journal_count(&j));
        add_lines(future, lines, 2, 4);
        setter s = { .future = future, .j = &j, .how = how };
        assert_int_equal(0, pthread_create(&s.thread, NULL, set_there, &s));
        pthread_join(s.thread, NULL);
        assert_int_equal(4, s.count_at_return);
        check_lines(&j, 0, 4, future, s.thread);
        add_lines(future, lines, 4, LINES);
        check_lines(&j, 4, LINES, future, pthread_self());
        assert_int_equal(LINES, journal_count(&j));
        tpool_future_release(future);
    }
}

/* ---- Stress: several threads add while the future is finished ---- */

enum { ADDERS = 3, EACH = 20, TASK_ENDS = 0, SET_RESULT, CANCELS, ENDINGS };

typedef struct mark {
    atomic_int count;
    pthread_t thread;
    int sequence;
    atomic_int *clock;
} mark;
static void make_mark(tpool_future *future, void *context) {
    (void)future;
    mark *m = context;
    m->thread = pthread_self();
    m->sequence = atomic_fetch_add(m->clock, 1);
    atomic_fetch_add(&m->count, 1);
}

typedef struct adder {
    pthread_t thread;
    pthread_barrier_t *barrier;
    tpool_future **future;
    mark (*marks)[EACH]; /* those of this adder, this round */
    atomic_int *begun;   /* adders whose first callback is added: it comes before the end */
    int rounds, refused;
} adder;

static void *add_each_round(void *arg) {
    adder *a = arg;
    for (int r = 0; r < a->rounds; r++) {
        pthread_barrier_wait(a->barrier);
        for (int i = 0; i < EACH; i++) {
            if (i == EACH - 1) { /* the last one comes after the end */
                while (!tpool_future_done(*a->future)) sched_yield();
            }
            if (tpool_future_add_done_callback(*a->future, make_mark, &(*a->marks)[i]) != TPOOL_OK) a->refused++;
            if (i == 0) atomic_fetch_add(a->begun, 1);
        }
        pthread_barrier_wait(a->barrier);
    }
    return NULL;
}

static void *spin_until_set(void *arg) {
    atomic_bool *go = arg;
    while (!atomic_load(go)) sched_yield();
    return NULL;
}

static void stress_added_by_many_while_it_finishes_each_runs_once(void **unused) {
    (void)unused;
    int rounds = COUNT(600), wrong = 0;
    tpool *pool = new_pool(1);
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, ADDERS + 1);
    static mark marks[ADDERS][EACH];
    tpool_future *future = NULL;
    atomic_int begun = 0;
    adder adders[ADDERS];
    for (int t = 0; t < ADDERS; t++) {
        adders[t] =
            (adder){ .barrier = &barrier, .future = &future, .marks = &marks[t], .begun = &begun, .rounds = rounds };
        assert_int_equal(0, pthread_create(&adders[t].thread, NULL, add_each_round, &adders[t]));
    }
    int at_once = 0, by_finisher = 0;
    for (int r = 0; r < rounds; r++) {
        /* No assertion here: the adders would wait at their barrier for ever. */
        int ending = r % ENDINGS;
        atomic_int clock = 0;
        atomic_bool go = false;
        for (int t = 0; t < ADDERS; t++) {
            for (int i = 0; i < EACH; i++) {
                atomic_store(&marks[t][i].count, 0);
                marks[t][i].clock = &clock;
            }
        }
        tpool_future *holder = NULL;
        if (ending == SET_RESULT) {
            if (tpool_future_create(&future) != TPOOL_OK) wrong++;
        } else {
            /* A task that spins; or, to be cancelled, one that waits behind it. */
            tpool_future **spinning = ending == TASK_ENDS ? &future : &holder;
            if (tpool_submit(pool, spin_until_set, &go, spinning) != TPOOL_OK) wrong++;
            if (ending == CANCELS && tpool_submit(pool, nothing, NULL, &future) != TPOOL_OK) wrong++;
        }
        atomic_store(&begun, 0);
        pthread_barrier_wait(&barrier);
        while (atomic_load(&begun) < ADDERS) sched_yield();
        for (volatile int spin = 0; spin < r % 50 * 40; spin++) { }
        if (ending == TASK_ENDS) atomic_store(&go, true);
        else if (ending == SET_RESULT) {
            if (tpool_future_set_result(future, NULL) != TPOOL_OK) wrong++;
        } else if (!tpool_future_cancel(future)) wrong++;
        pthread_barrier_wait(&barrier);
        atomic_store(&go, true);
        if (tpool_drain(pool, LIMIT) != TPOOL_OK) wrong++;
        for (int t = 0; t < ADDERS; t++) {
            bool own_thread = false;
            int sequence = -1;
            for (int i = 0; i < EACH; i++) {
                mark *m = &marks[t][i];
                if (atomic_load(&m->count) != 1) {
                    wrong++;
                    continue;
                }
                if (pthread_equal(m->thread, adders[t].thread)) {
                    own_thread = true; /* added to a done future, at once */
                    at_once++;
                } else {
                    /* By the thread that finished it: in the order added, and none after one that ran at once. */
                    if (own_thread || m->sequence < sequence) wrong++;
                    sequence = m->sequence;
                    by_finisher++;
                }
            }
        }
        tpool_future_release(future);
        tpool_future_release(holder);
    }
    for (int t = 0; t < ADDERS; t++) {
        pthread_join(adders[t].thread, NULL);
        assert_int_equal(0, adders[t].refused);
    }
    pthread_barrier_destroy(&barrier);
    print_message("%d ran at once, %d in the thread that finished\n", at_once, by_finisher);
    assert_int_equal(0, wrong);
    assert_true(at_once >= ADDERS * rounds && by_finisher >= ADDERS * rounds);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* A waiter that sleeps until the end is woken before the callbacks run, however long they take. */
static atomic_int waiter_returned;
static int returned_meanwhile;
static void wait_for_the_waiter(tpool_future *future, void *context) {
    (void)future;
    (void)context;
    int64_t limit = tpool_now() + TPOOL_SEC(10);
    while (!atomic_load(&waiter_returned) && tpool_now() < limit) sched_yield();
    returned_meanwhile = atomic_load(&waiter_returned);
}
static void *complete_later(void *future) {
    sleep_ms(50); /* so that the other sleeps; else this tests less */
    (void)tpool_future_set_result(future, NULL);
    return NULL;
}
static void a_waiter_that_sleeps_returns_before_callbacks_have_run(void **state) {
    (void)state;
    tpool_future *future;
    pthread_t thread;
    assert_status(TPOOL_OK, tpool_future_create(&future));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(future, wait_for_the_waiter, NULL));
    assert_int_equal(0, pthread_create(&thread, NULL, complete_later, future));
    assert_status(TPOOL_OK, tpool_future_result(future, TPOOL_FOREVER, NULL));
    atomic_store(&waiter_returned, 1);
    assert_int_equal(0, pthread_join(thread, NULL));
    assert_int_equal(1, returned_meanwhile);
    tpool_future_release(future);
}

static const struct CMUnitTest tests[] = {
    TEST(added_before_they_run_in_order_in_the_thread_that_finishes),
    TEST(added_before_during_and_after_each_runs_once_and_in_order),
    TEST(one_callback_may_be_added_many_times_and_runs_as_often),
    TEST(on_cancel_they_run_in_the_cancelling_thread_before_cancel_returns),
    TEST(they_run_once_however_the_task_ends),
    TEST(they_see_the_end_of_the_task),
    TEST(raise_and_return_do_nothing_in_them),
    TEST(while_one_runs_no_lock_is_held_and_the_future_is_done),
    TEST(drain_returns_after_them),
    TEST(destroy_returns_after_them),
    TEST(drain_and_destroy_return_after_those_of_a_cancelled_task),
    TEST(those_of_a_bare_future_run_in_the_thread_that_completes_it),
    TEST(a_waiter_that_sleeps_returns_before_callbacks_have_run),
    TEST(stress_added_by_many_while_it_finishes_each_runs_once),
};
RUN_TESTS(tests)
