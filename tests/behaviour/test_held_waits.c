/* Held tasks and what looks at them: waits, the spare workers that these need, expiry, observers, on_failure. */
#include "support.h"
#include "support/held.h"

/* ---- Spare workers: a wait for a held task needs what that task waits for */
typedef struct chain {
    tpool *pool, *other;
    gate blocked;
    int length;
    int passed; /* how many others had come before it */
} chain;
static void *wait_for_the_end_of_a_chain(void *arg) {
    chain *c = (chain *)arg;
    tpool_future *blocks = submitted(c->pool, gate_task, &c->blocked), *before = submitted(c->pool, nothing, arg);
    for (int i = 0; i < c->length; i++) {
        tpool_future *next = submitted_task(i % 3 == 1 ? c->other : c->pool,
                                            after(i % 2 ? NULL : nothing, arg, &before, 1, (tpool_after)(i % 3)));
        tpool_future_release(before);
        before = next;
    }
    tpool_status status = tpool_future_result(before, TPOOL_FOREVER, NULL);
    c->passed = gate_arrived(&c->blocked);
    gate_open(&c->blocked);
    tpool_future_release(before);
    tpool_future_release(blocks);
    return status == TPOOL_OK ? arg : NULL;
}
static void a_wait_for_held_tasks_needs_what_they_wait_for(void **state) {
    (void)state;
    static const int lengths[] = { 1, 2, 3, 100 };
    for (int i = 0; i < 4; i++) {
        chain c = { new_pool_as((tpool_config){ .max_workers = 1, .max_spares = -1 }), new_pool(1), GATE_CLOSED, 0,
                    -1 };
        c.length = lengths[i];
        assert_ptr_equal(&c, take(submitted(c.pool, wait_for_the_end_of_a_chain, &c)));
        assert_int_equal(0, c.passed); /* what stands before it in the queue has not been started */
        assert_status(TPOOL_OK, tpool_destroy(c.pool));
        assert_status(TPOOL_OK, tpool_destroy(c.other));
    }
}
/* A held task that becomes ready while all workers are blocked, and no spare may replace them. */
typedef struct sleeper {
    tpool_future *target;
    atomic_int thread;
    gate *blocked;
    int passed; /* how many others had come before it */
} sleeper;
static void *wait_for_it(void *arg) {
    sleeper *s = (sleeper *)arg;
    atomic_store(&s->thread, system_thread());
    tpool_status status = tpool_future_result(s->target, TPOOL_FOREVER, NULL);
    s->passed = gate_arrived(s->blocked);
    return (void *)(intptr_t)status;
}
static void a_task_that_becomes_ready_in_a_stalled_pool_is_started(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .max_spares = -1 });
    gate g = GATE_CLOSED;
    tpool_future *first = bare();
    sleeper s = { submitted_task(pool, after(nothing, pool, &first, 1, TPOOL_AFTER_DONE)), 0, &g, -1 };
    tpool_future *waits = submitted(pool, wait_for_it, &s);
    await_thread_asleep(&s.thread);
    tpool_future *blocks = submitted(pool, gate_task, &g); /* no wait needs it */
    complete(first);
    assert_int_equal(TPOOL_OK, (intptr_t)take(waits));
    assert_int_equal(0, s.passed);
    assert_ptr_equal(pool, take(s.target));
    gate_open(&g);
    assert_status(TPOOL_OK, end_of(blocks));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* All workers wait for a task elsewhere that nothing here brings on; a thread waits for a held task. */
static tpool_status wait_for_good(void *future) {
    return tpool_future_result((tpool_future *)future, TPOOL_FOREVER, NULL);
}
static void a_thread_outside_needs_what_its_held_task_waits_for(void **state) {
    (void)state;
    for (int length = 1; length <= 100; length += 99) {
        tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .max_spares = -1 }), *other = new_pool(1);
        gate elsewhere = GATE_CLOSED, g = GATE_CLOSED;
        static background waits_outside;
        sleeper s = { submitted(other, gate_task, &elsewhere), 0, &g, -1 };
        tpool_future *waits = submitted(pool, wait_for_it, &s);
        await_thread_asleep(&s.thread);
        tpool_future *blocks = submitted(pool, gate_task, &g), *last = submitted(pool, nothing, pool);
        for (int i = 0; i < length; i++) {
            tpool_future *next = submitted_task(i % 2 ? other : pool, after(NULL, NULL, &last, 1, TPOOL_AFTER_DONE));
            tpool_future_release(last);
            last = next;
        }
        background_start(&waits_outside, wait_for_good, last);
        EVENTUALLY(tpool_future_done(last) || gate_arrived(&g) > 0);
        assert_int_equal(0, gate_arrived(&g)); /* what stands before it in the queue has not been started */
        gate_open(&g);
        assert_status(TPOOL_OK, background_join(&waits_outside));
        gate_open(&elsewhere);
        assert_int_equal(TPOOL_OK, (intptr_t)take(waits));
        tpool_future_release(s.target);
        tpool_future_release(last);
        assert_status(TPOOL_OK, end_of(blocks));
        assert_status(TPOOL_OK, tpool_destroy(pool));
        assert_status(TPOOL_OK, tpool_destroy(other));
    }
}

/* ---- Waits that would never end */
typedef struct waits_on {
    gate gate;
    tpool_future *target;
} waits_on;
static void *wait_on(void *arg) {
    waits_on *w = (waits_on *)arg;
    gate_pass(&w->gate);
    return (void *)(intptr_t)tpool_future_result(w->target, TPOOL_FOREVER, NULL);
}
static void the_first_of_one_named_thrice(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    waits_on w = { GATE_CLOSED, NULL };
    tpool_future *waits = submitted(pool, wait_on, &w), *three[3] = { waits, waits, waits };
    w.target = submitted_task(pool, after(nothing, NULL, three, 3, TPOOL_AFTER_ANY));
    gate_open(&w.gate);
    void *value = NULL;
    assert_status(TPOOL_OK, tpool_future_result(waits, LIMIT, &value));
    assert_int_equal(TPOOL_DEADLOCK, (intptr_t)value);
    assert_status(TPOOL_OK, end_of(w.target));
    tpool_future_release(waits);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Expiry */
static void any_look_ends_what_has_expired(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1, .on_full = TPOOL_FULL_REJECT });
    tpool_future *first = bare();
    assert_status(TPOOL_OK, tpool_future_set_result(first, NULL));
    assert_status(TPOOL_OK, tpool_pause(pool));
    tpool_task task = after(nothing, NULL, &first, 1, TPOOL_AFTER_DONE);
    task.expires_ns = 1;
    for (int i = 0; i < 20; i++) { /* a tick of the times is 4 ms */
        tpool_future *held = submitted_task(pool, task), *next = NULL;
        if (i % 2) EVENTUALLY(tpool_future_done(held)); /* at once, unless another thread is about to end it */
        assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, &next)); /* there is room */
        assert_true(tpool_future_cancel(next));
        tpool_future_release(next);
        assert_status(TPOOL_EXPIRED, end_of(held));
    }
    tpool_future_release(first);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static atomic_int ran_late;
static void *submits_what_has_expired(void *arg) {
    tpool_future *first = NULL, *held = NULL;
    bool submitted_all = tpool_future_create(&first) == TPOOL_OK && tpool_future_set_result(first, NULL) == TPOOL_OK;
    int expired = 0;
    for (int i = 0; i < 20 && submitted_all; i++) {
        tpool_task task = after(count_up, &ran_late, &first, 1, TPOOL_AFTER_DONE);
        task.expires_ns = 1;
        submitted_all = tpool_submit_task((tpool *)arg, &task, &held) == TPOOL_OK;
        expired += submitted_all && tpool_future_result(held, TPOOL_FOREVER, NULL) == TPOOL_EXPIRED;
        tpool_future_release(held);
    }
    tpool_future_release(first);
    return (void *)(intptr_t)expired;
}
static void what_has_expired_is_not_run_in_place(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    assert_int_equal(20, (intptr_t)take(submitted(pool, submits_what_has_expired, pool)));
    assert_int_equal(0, atomic_load(&ran_late));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* timeout_ns counts from the submit: nobody looks, and the only worker is busy. */
static void a_timeout_passes_while_it_is_held(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    tpool_future *first = bare();
    atomic_int told = 0;
    for (int i = 0; i < 4; i++) {
        tpool_task task = after(i % 2 ? NULL : nothing, NULL, &first, i < 2, TPOOL_AFTER_DONE);
        task.timeout_ns = TPOOL_MS(5);
        if (i >= 2) task.delay_ns = TPOOL_FOREVER;
        tpool_future *held = submitted_task(h.pool, task);
        assert_status(TPOOL_OK, tpool_future_add_done_callback(held, count_callback, &told));
        tpool_future_release(held);
    }
    EVENTUALLY(atomic_load(&told) == 4);
    assert_int_equal(4, stats_of(h.pool).expired);
    complete(first);
    gate_open(&h.gate);
    held_destroy(&h);
}
static void *runs_until_it_is_asked_to_stop(void *arg) {
    int64_t end = tpool_now() + LIMIT;
    while (!tpool_stop_requested() && tpool_now() < end) sleep_ms(1);
    return tpool_stop_requested() ? arg : NULL;
}
static void a_timeout_asks_what_was_held_to_stop(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *first = bare();
    tpool_task task = after(runs_until_it_is_asked_to_stop, pool, &first, 1, TPOOL_AFTER_DONE);
    task.timeout_ns = TPOOL_MS(SLOW_TOOL ? 3000 : 1000); /* not before a worker has started it */
    tpool_future *held = submitted_task(pool, task);
    complete(first);
    assert_ptr_equal(pool, take(held));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- What the caller names */
static void an_unknown_after_when_is_refused_in_each_task(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *future = NULL;
    tpool_task task = { .fn = nothing, .after_when = (tpool_after)3 };
    assert_status(TPOOL_INVALID, tpool_submit_task(pool, &task, &future));
    task.delay_ns = 1;
    assert_status(TPOOL_INVALID, tpool_submit_task(pool, &task, &future));
    assert_status(TPOOL_INVALID, tpool_run_with_timeout(pool, &task, TPOOL_FOREVER, &future));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- on_failure: nobody holds the future, whatever the library does with the task meanwhile */
static void *fails(void *arg) {
    (void)arg;
    return tpool_raise(1, "no");
}
static void count_failure(const tpool_error *error, void *context) {
    (void)error;
    atomic_fetch_add((atomic_int *)context, 1);
}
static void each_failure_that_nobody_holds_is_reported(void **state) {
    (void)state;
    atomic_int failures = 0;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 2, .on_failure = count_failure, .context = &failures });
    int n = (int)COUNT(3000);
    for (int i = 0; i < n; i++) {
        tpool_future *first = i % 3 ? bare() : NULL;
        tpool_task task = after(fails, NULL, &first, first != NULL, TPOOL_AFTER_DONE);
        task.delay_ns = i % 2 || !first ? 1 + i % 5 * 1000 : 0;
        task.expires_ns = i % 4 ? TPOOL_SEC(1000) : 0;
        if (i % 7 == 0) task.timeout_ns = TPOOL_SEC(1000);
        assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
        if (first) complete(first);
    }
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(n, atomic_load(&failures));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Observers: called where no lock is held */
typedef struct observed {
    pthread_mutex_t lock;
    gate ready;
    tpool_future *held;
} observed;
static void lock_at_ready(const tpool_event *event, void *context) {
    observed *o = (observed *)context;
    if (event->kind != TPOOL_EVENT_READY) return;
    gate_open(&o->ready);
    pthread_mutex_lock(&o->lock);
    pthread_mutex_unlock(&o->lock);
}
static tpool_status add_a_callback(void *context) {
    static atomic_int told;
    return tpool_future_add_done_callback(((observed *)context)->held, count_callback, &told);
}
static tpool_status complete_it(void *of) { return tpool_future_set_result((tpool_future *)of, NULL); }
static void an_observer_may_wait_for_a_lock_of_the_program(void **state) {
    (void)state;
    observed o = { PTHREAD_MUTEX_INITIALIZER, GATE_CLOSED, NULL };
    tpool *pool = new_pool_as(
        (tpool_config){ .max_workers = 1, .observer = lock_at_ready, .observed = TPOOL_EVENT_READY, .context = &o });
    tpool_future *first = bare();
    o.held = submitted_task(pool, after(nothing, NULL, &first, 1, TPOOL_AFTER_DONE));
    background completes, adds;
    pthread_mutex_lock(&o.lock);
    background_start(&completes, complete_it, first);
    gate_pass(&o.ready);
    background_start(&adds, add_a_callback, &o); /* by a thread that has the program's lock */
    assert_status(TPOOL_OK, background_join(&adds));
    pthread_mutex_unlock(&o.lock);
    assert_status(TPOOL_OK, background_join(&completes));
    assert_status(TPOOL_OK, end_of(o.held));
    tpool_future_release(first);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* A cancel does not wait for it: the task's end is told behind READY, by the thread that tells that. */
static struct {
    observed observed;
    atomic_int ready, ended_after;
} ordered;
static void lock_at_ready_and_note_the_end(const tpool_event *event, void *context) {
    lock_at_ready(event, context);
    if (event->kind == TPOOL_EVENT_READY) atomic_fetch_add(&ordered.ready, 1);
    if (event->kind == TPOOL_EVENT_ENDED && event->status == TPOOL_CANCELLED && atomic_load(&ordered.ready) == 1)
        atomic_fetch_add(&ordered.ended_after, 1);
}
static tpool_status cancel_it(void *of) { return tpool_future_cancel((tpool_future *)of) ? TPOOL_OK : TPOOL_FAILED; }
static void a_cancel_waits_for_no_observer(void **state) {
    (void)state;
    observed *o = &ordered.observed;
    *o = (observed){ PTHREAD_MUTEX_INITIALIZER, GATE_CLOSED, NULL };
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1,
                                              .observer = lock_at_ready_and_note_the_end,
                                              .observed = TPOOL_EVENT_READY | TPOOL_EVENT_ENDED,
                                              .context = o });
    tpool_future *first = bare();
    o->held = submitted_task(pool, after(nothing, NULL, &first, 1, TPOOL_AFTER_DONE));
    background completes, cancels;
    pthread_mutex_lock(&o->lock);
    background_start(&completes, complete_it, first);
    gate_pass(&o->ready);
    background_start(&cancels, cancel_it, o->held); /* by a thread that has the program's lock */
    tpool_status cancelled = background_join(&cancels), end = tpool_future_result(o->held, 0, NULL);
    int ended_before = atomic_load(&ordered.ended_after);
    pthread_mutex_unlock(&o->lock);
    assert_status(TPOOL_OK, cancelled);
    assert_status(TPOOL_CANCELLED, end);
    assert_int_equal(0, ended_before);
    assert_status(TPOOL_OK, background_join(&completes));
    assert_int_equal(1, atomic_load(&ordered.ended_after));
    tpool_future_release(o->held);
    tpool_future_release(first);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    pthread_mutex_destroy(&o->lock);
}
/* Nor does the end of the task's time. */
static void a_task_expires_beside_its_observer(void **state) {
    (void)state;
    observed o = { PTHREAD_MUTEX_INITIALIZER, GATE_CLOSED, NULL };
    tpool *pool = new_pool_as(
        (tpool_config){ .max_workers = 1, .observer = lock_at_ready, .observed = TPOOL_EVENT_READY, .context = &o });
    tpool_future *first = bare();
    tpool_task task = after(nothing, NULL, &first, 1, TPOOL_AFTER_DONE);
    task.expires_ns = TPOOL_MS(1);
    o.held = submitted_task(pool, task);
    background completes;
    pthread_mutex_lock(&o.lock);
    background_start(&completes, complete_it, first);
    gate_pass(&o.ready);
    tpool_status end = tpool_future_result(o.held, LIMIT, NULL);
    pthread_mutex_unlock(&o.lock);
    assert_status(TPOOL_EXPIRED, end);
    assert_status(TPOOL_OK, background_join(&completes));
    tpool_future_release(o.held);
    tpool_future_release(first);
    assert_int_equal(1, stats_of(pool).expired);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* A worker that calls it does not count as one that searches for work: another one is woken. */
static void pass_gate_at_first_ready(const tpool_event *event, void *context) {
    static atomic_int called;
    if (event->kind == TPOOL_EVENT_READY && atomic_fetch_add(&called, 1) == 1) gate_pass((gate *)context);
}
static void an_observer_holds_up_no_other_task(void **state) {
    (void)state;
    gate g = GATE_CLOSED, runs = GATE_CLOSED;
    tpool *pool = new_pool_as((tpool_config){
        .max_workers = 2, .observer = pass_gate_at_first_ready, .observed = TPOOL_EVENT_READY, .context = &g });
    tpool_future *first = submitted(pool, gate_task, &runs); /* its READY is the first */
    tpool_future *held = submitted_task(pool, after(nothing, NULL, &first, 1, TPOOL_AFTER_DONE));
    gate_open(&runs);
    AWAIT_ARRIVALS(&g, 1); /* a worker, which has ended its task */
    tpool_future *other = submitted(pool, nothing, NULL);
    tpool_status status = tpool_future_result(other, LIMIT, NULL);
    gate_open(&g);
    assert_status(TPOOL_OK, status);
    assert_status(TPOOL_OK, end_of(held));
    tpool_future_release(first);
    tpool_future_release(other);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void pass_gate_at_ready(const tpool_event *event, void *context) {
    if (event->kind == TPOOL_EVENT_READY) gate_pass((gate *)context);
}
static void an_observer_holds_up_no_time(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    tpool *pool = new_pool_as((tpool_config){
        .max_workers = 1, .observer = pass_gate_at_ready, .observed = TPOOL_EVENT_READY, .context = &g });
    tpool *other = new_pool(1);
    tpool_future *held = submitted_task(pool, (tpool_task){ .fn = nothing, .delay_ns = 1 });
    AWAIT_ARRIVALS(&g, 1);
    tpool_future *timer = submitted_task(other, (tpool_task){ .delay_ns = 1 });
    tpool_status status = tpool_future_result(timer, LIMIT, NULL);
    gate_open(&g);
    assert_status(TPOOL_OK, status);
    assert_status(TPOOL_OK, end_of(held));
    tpool_future_release(timer);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_status(TPOOL_OK, tpool_destroy(other));
}
/* A trace begins while a task is held: it has no number yet. */
static void *its_dependency(void *arg) { return tpool_dependency(0) == *(tpool_future **)arg ? arg : NULL; }
static bool find_ready(const char *bytes, size_t size, void *context) {
    char text[4096];
    snprintf(text, sizeof text, "%.*s", (int)size, bytes);
    if (strstr(text, "\"cat\":\"ready\"")) *(bool *)context = true;
    return true;
}
static void a_trace_that_begins_while_a_task_is_held(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *first = bare();
    tpool_future *held = submitted_task(pool, after(its_dependency, &first, &first, 1, TPOOL_AFTER_DONE));
    assert_status(TPOOL_OK, tpool_trace_start(pool, 0));
    tpool_future *later = submitted_task(pool, after(its_dependency, &first, &first, 1, TPOOL_AFTER_SUCCESS));
    tpool_future_retain(first);
    complete(first);
    assert_ptr_equal(&first, take(held));
    assert_ptr_equal(&first, take(later));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    bool found = false;
    assert_status(TPOOL_OK, tpool_trace_write(pool, find_ready, &found));
    assert_true(found);
    tpool_future_release(first);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_wait_for_held_tasks_needs_what_they_wait_for),
        TEST(a_task_that_becomes_ready_in_a_stalled_pool_is_started),
        TEST(a_thread_outside_needs_what_its_held_task_waits_for),
        TEST(the_first_of_one_named_thrice),
        TEST(any_look_ends_what_has_expired),
        TEST(what_has_expired_is_not_run_in_place),
        TEST(a_timeout_passes_while_it_is_held),
        TEST(a_timeout_asks_what_was_held_to_stop),
        TEST(an_unknown_after_when_is_refused_in_each_task),
        TEST(each_failure_that_nobody_holds_is_reported),
        TEST(an_observer_may_wait_for_a_lock_of_the_program),
        TEST(a_cancel_waits_for_no_observer),
        TEST(a_task_expires_beside_its_observer),
        TEST(an_observer_holds_up_no_other_task),
        TEST(an_observer_holds_up_no_time),
        TEST(a_trace_that_begins_while_a_task_is_held),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
