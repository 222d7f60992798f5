/* Retries: a task that fails, breaks or expires is tried again; one future, argument and arg_free for all tries. */
#include "support.h"
#include "support/held.h"
#include "support/no_thread_leaks.h"
#include "support/repeats.h"
#include <limits.h>
#if HAVE_FORK
#include "support/children.h"
#endif

/* A task that fails in its first tries. */
typedef struct trier {
    atomic_int tries, freed;
    int fails; /* so many times */
    bool ends; /* its thread, instead */
    int64_t began[16], ended[16];
    gate *gate; /* that each try passes */
    tpool_future *itself;
} trier;
static void *try_it(void *arg) {
    trier *t = (trier *)arg;
    int n = atomic_load(&t->tries) + 1;
    if (n <= 16) t->began[n - 1] = tpool_now();
    if (n <= 16) t->ended[n - 1] = tpool_now();
    atomic_store(&t->tries, n);
    if (t->gate) gate_pass(t->gate);
    if (n > t->fails) return arg;
    if (t->ends) end_here();
    return tpool_raise(n, "try %d", n);
}
static void free_trier(void *arg) { atomic_fetch_add(&((trier *)arg)->freed, 1); }
/* It has run so often, and arg_free was called once. */
static void assert_ran(int times, const trier *t) {
    assert_int_equal(times, atomic_load(&t->tries));
    assert_int_equal(1, atomic_load(&t->freed));
}
static tpool_task tries(unsigned retries, int64_t wait, trier *t) {
    return (tpool_task){ .fn = try_it, .arg = t, .arg_free = free_trier, .retries = retries, .retry_ns = wait };
}
/* A task of which a try is at the gate. */
static tpool_future *at_gate(tpool *pool, tpool_task task) {
    tpool_future *future = submitted_task(pool, task);
    AWAIT_ARRIVALS(((trier *)task.arg)->gate, 1);
    return future;
}
static void await_between(tpool *pool, trier *t, int n) { await_runs(pool, &t->tries, n); }

/* ---- How it ends */
static void a_try_that_ends_its_thread_after_a_stop_is_the_last(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    gate g = GATE_CLOSED;
    trier t = { .fails = 1000, .ends = true, .gate = &g };
    tpool_future *future = at_gate(pool, tries(5, 0, &t));
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_STOP_RUNNING));
    gate_open(&g);
    assert_status(TPOOL_BROKEN, end_of(future));
    assert_int_equal(1, atomic_load(&t.tries));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void it_succeeds_in_the_end(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    for (int i = 0; i < 3; i++) {
        trier t = { .fails = i };
        atomic_int told = 0;
        tpool_future *future = submitted_task(pool, tries(2, TPOOL_US(100), &t));
        assert_status(TPOOL_OK, tpool_future_add_done_callback(future, count_callback, &told));
        assert_ptr_equal(&t, take(future));
        assert_ran(i + 1, &t);
        EVENTUALLY(atomic_load(&told) == 1);
    }
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    tpool_stats stats = stats_of(pool);
    assert_int_equal(3, stats.submitted);
    assert_int_equal(3, stats.completed);
    assert_int_equal(0, stats.failed);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static atomic_int reports;
static void count_report(const tpool_error *error, void *context) {
    *(int *)context = error->code;
    atomic_fetch_add(&reports, 1);
}
static void it_fails_in_the_end(void **state) {
    (void)state;
    int code = 0;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 2, .on_failure = count_report, .context = &code });
    for (int i = 0; i < 4; i++) {
        trier t = { .fails = 100, .ends = i % 2 == 1 };
        tpool_task task = tries(3, 0, &t);
        if (i / 2) task.name = "tried";
        tpool_future *future = submitted_task(pool, task);
        const tpool_error *error = NULL;
        assert_status(TPOOL_OK, tpool_future_error(future, LIMIT, &error));
        assert_int_equal(i % 2 ? TPOOL_BROKEN : TPOOL_FAILED, error->status);
        if (!t.ends) assert_string_equal("try 4", error->message);
        if (i / 2) assert_string_equal("tried", error->task);
        tpool_future_release(future);
        assert_ran(4, &t);
    }
    assert_int_equal(0, atomic_load(&reports)); /* the futures were held */
    trier t = { .fails = 100 };
    tpool_task task = tries(3, 0, &t);
    assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(1, atomic_load(&reports)); /* once, and of the last try */
    assert_int_equal(4, code);
    assert_int_equal(5, stats_of(pool).failed);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void each_wait_is_twice_as_long(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    trier t = { .fails = 4 };
    int64_t wait = TPOOL_MS(2);
    assert_ptr_equal(&t, take(submitted_task(pool, tries(4, wait, &t))));
    for (int i = 1; i < 5; i++, wait *= 2) assert_true(t.began[i] - t.ended[i - 1] >= wait);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* A wait that does not double any more lasts for ever; negative ones are none. */
static void waits_at_the_limits(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    trier t = { .fails = 3 };
    assert_ptr_equal(&t, take(submitted_task(pool, tries(UINT_MAX, -1, &t))));
    static const int64_t waits[] = { TPOOL_FOREVER, TPOOL_FOREVER - 1, TPOOL_FOREVER / 2 + 1 };
    for (int i = 0; i < 3; i++) {
        trier never = { .fails = 3 };
        tpool_future *future = submitted_task(pool, tries(UINT_MAX, waits[i], &never));
        await_between(pool, &never, 1);
        assert_true(tpool_future_cancel(future));
        assert_status(TPOOL_CANCELLED, end_of(future));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void it_does_nothing_without_a_function(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_task task = { .retries = 3, .retry_ns = 1 };
    assert_status(TPOOL_INVALID, tpool_submit_task(pool, &task, NULL));
    task.delay_ns = 1;
    assert_null(take(submitted_task(pool, task)));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void *count_in_copy(void *arg) {
    int *count = (int *)arg;
    return ++*count < 4 ? tpool_raise(*count, "again") : (void *)(intptr_t)*count;
}
static void a_copy_keeps_what_a_try_leaves_in_it(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    int count = 0;
    tpool_task task = { .fn = count_in_copy, .arg = &count, .arg_size = sizeof count, .retries = 5 };
    assert_int_equal(4, (intptr_t)take(submitted_task(pool, task)));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void it_begins_when_nothing_holds_it(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *first = bare();
    trier t = { .fails = 2 };
    tpool_task task = tries(2, TPOOL_US(10), &t);
    task.after = &first;
    task.after_count = 1;
    task.delay_ns = TPOOL_MS(1);
    tpool_future *future = submitted_task(pool, task);
    tpool_future *next = submitted_task(pool, after(nothing, pool, &future, 1, TPOOL_AFTER_SUCCESS));
    complete(first);
    assert_ptr_equal(pool, take(next)); /* which waits for all tries together */
    assert_int_equal(3, atomic_load(&t.tries));
    assert_ptr_equal(&t, take(future));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* arg_free ends the thread: that is the end, although there are tries left. */
static void free_and_end(void *arg) {
    free_trier(arg);
    (void)end_thread(NULL);
}
static void an_arg_free_that_ends_the_thread(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    trier t = { 0 };
    tpool_task task = tries(5, 0, &t);
    task.arg_free = free_and_end;
    assert_status(TPOOL_BROKEN, end_of(submitted_task(pool, task)));
    assert_works(pool);
    assert_ran(1, &t);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Cancel, stop, limits */
static void a_cancel_between_two_tries(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    trier t = { .fails = 9 };
    tpool_future *future = submitted_task(pool, tries(9, NEVER, &t));
    await_between(pool, &t, 1);
    assert_int_equal(TPOOL_PENDING, tpool_future_state(future));
    assert_true(tpool_future_cancel(future));
    assert_status(TPOOL_CANCELLED, end_of(future));
    assert_int_equal(1, atomic_load(&t.freed));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_stop_between_two_tries(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    trier t = { .fails = 9 };
    tpool_future *future = submitted_task(pool, tries(9, NEVER, &t));
    await_between(pool, &t, 1);
    tpool_future_request_stop(future);
    assert_status(TPOOL_FAILED, tpool_future_result(future, 0, NULL));
    assert_string_equal("try 1", tpool_future_message(future));
    assert_int_equal(1, atomic_load(&t.freed));
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(1, stats_of(pool).failed);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* Before the first try a stop is only a request; the try that it reaches is the last. */
static void a_stop_before_and_in_a_try(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    for (int i = 0; i < 2; i++) {
        gate g = GATE_CLOSED;
        trier t = { .fails = 9, .gate = &g };
        tpool_task task = tries(9, 0, &t);
        task.delay_ns = i ? 0 : TPOOL_MS(20);
        tpool_future *future = submitted_task(pool, task);
        if (i) AWAIT_ARRIVALS(&g, 1);
        tpool_future_request_stop(future);
        gate_open(&g);
        assert_status(TPOOL_FAILED, tpool_future_result(future, LIMIT, NULL));
        assert_string_equal("try 1", tpool_future_message(future));
        tpool_future_release(future);
        assert_int_equal(1, atomic_load(&t.tries));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void cancel_and_stop_against_tries(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    long n = COUNT(4000);
    trier *all = calloc((size_t)n, sizeof *all);
    assert_non_null(all);
    for (long i = 0; i < n; i++) {
        trier *t = &all[i];
        t->fails = 1000000;
        tpool_future *future = submitted_task(pool, tries(i % 3 ? UINT_MAX : 3, i % 20 * 1000, t));
        int64_t until = tpool_now() + i % 7 * 20000;
        while (tpool_now() < until) { }
        if (i % 2) {
            tpool_future_request_stop(future);
            assert_status(TPOOL_FAILED, end_of(future));
        } else {
            while (!tpool_future_cancel(future) && !tpool_future_done(future)) { }
            tpool_status status = end_of(future);
            assert_true(status == TPOOL_CANCELLED || status == TPOOL_FAILED);
        }
    }
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    for (long i = 0; i < n; i++) assert_int_equal(1, atomic_load(&all[i].freed));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    free(all);
}
/* timeout_ns is for all tries together: between two the task expires; a try that it reaches is asked to stop, and is
   the last. */
static void a_timeout_between_two_tries(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    trier t = { .fails = 9 };
    tpool_task task = tries(9, NEVER, &t);
    task.timeout_ns = TPOOL_MS(20);
    int64_t before = tpool_now();
    tpool_future *future = submitted_task(pool, task);
    assert_status(TPOOL_EXPIRED, end_of(future));
    assert_true(tpool_now() - before >= TPOOL_MS(20));
    assert_int_equal(1, atomic_load(&t.freed));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(1, stats_of(pool).expired);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void *fail_when_stopped(void *arg) {
    atomic_fetch_add(&((trier *)arg)->tries, 1);
    while (!tpool_stop_requested()) sleep_ms(1);
    return tpool_raise(1, "stopped");
}
static void a_timeout_in_a_try(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    trier t = { 0 };
    tpool_task task = tries(9, 0, &t);
    task.fn = fail_when_stopped;
    task.timeout_ns = TPOOL_MS(20);
    tpool_status status = end_of(submitted_task(pool, task));
    for (; status == TPOOL_EXPIRED; status = end_of(submitted_task(pool, task))) {
        assert_int_equal(0, atomic_load(&t.tries)); /* no worker came in that time */
        task.timeout_ns *= 2;
    }
    assert_status(TPOOL_FAILED, status);
    assert_int_equal(1, atomic_load(&t.tries));
    task.timeout_ns = 0; /* a run limit is each try's */
    task.run_limit_ns = TPOOL_MS(1);
    task.retries = 3;
    assert_status(TPOOL_FAILED, end_of(submitted_task(pool, task)));
    assert_int_equal(1 + 4, atomic_load(&t.tries));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Expiry counts anew for each try */
static void each_try_may_expire(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        held_pool h;
        held_create(&h, NULL);
        trier t = { 0 };
        tpool_task task = tries(2, i % 2 ? TPOOL_MS(5) : 0, &t);
        if (i / 2) task.delay_ns = 1;
        task.expires_ns = TPOOL_MS(10);
        int64_t before = tpool_now();
        tpool_future *future = submitted_task(h.pool, task);
        assert_status(TPOOL_EXPIRED, tpool_future_result(future, LIMIT, NULL)); /* the worker is held */
        assert_true(tpool_now() - before >= TPOOL_MS(i % 2 ? 3 * 10 + 5 + 10 : 3 * 10));
        assert_ran(0, &t);
        tpool_future_release(future);
        gate_open(&h.gate);
        assert_status(TPOOL_OK, tpool_drain(h.pool, LIMIT));
        assert_int_equal(1, stats_of(h.pool).expired);
        held_destroy(&h);
    }
}
/* One try expires in the queue, and leaves its entry there; a later one is run, once. */
static void a_try_after_one_that_expired(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++) {
        held_pool h;
        held_create(&h, &(tpool_config){ .queue_capacity = i == 2 ? 8 : 0 });
        trier t = { 0 };
        tpool_task task = tries(1000000, i ? TPOOL_MS(1) : 0, &t);
        task.expires_ns = TPOOL_MS(2);
        tpool_future *future = submitted_task(h.pool, task);
        sleep_ms(20); /* some expire */
        assert_false(tpool_future_done(future));
        gate_open(&h.gate);
        assert_ptr_equal(&t, take(future));
        assert_status(TPOOL_OK, tpool_drain(h.pool, LIMIT));
        assert_ran(1, &t);
        assert_int_equal(2, stats_of(h.pool).completed);
        held_destroy(&h);
    }
}
static void a_cancel_between_tries_that_expire(void **state) {
    (void)state;
    for (int i = 0; i < 20; i++) {
        held_pool h;
        held_create(&h, NULL);
        trier t = { 0 };
        tpool_task task = tries(1000000, TPOOL_US(50), &t);
        task.expires_ns = TPOOL_US(100);
        tpool_future *future = submitted_task(h.pool, task);
        compute_for(i * TPOOL_US(100));
        if (i % 2) tpool_future_request_stop(future);
        if (i % 4 == 3) gate_open(&h.gate);
        bool cancelled = tpool_future_cancel(future);
        if (i % 2) assert_true(cancelled || tpool_future_result(future, LIMIT, NULL) != TPOOL_TIMEOUT);
        else assert_true(cancelled);
        tpool_future_release(future);
        gate_open(&h.gate);
        assert_status(TPOOL_OK, tpool_drain(h.pool, LIMIT));
        assert_int_equal(1, atomic_load(&t.freed));
        held_destroy(&h);
    }
}
/* A callback submits into a full queue, which makes room: a try has expired there. What follows of that comes once the
   callback has returned. */
typedef struct in_callback {
    held_pool h;
    tpool_future *future; /* that has expired */
    tpool_group *group;
    bool cancelled;
} in_callback;
static void make_room_and_cancel(tpool_future *future, void *context) {
    (void)future;
    in_callback *c = context;
    REQUIRE_STATUS(TPOOL_OK, tpool_submit(c->h.pool, nothing, NULL, NULL));
    if (!c->group) c->cancelled = tpool_future_cancel(c->future);
    else c->cancelled = tpool_group_cancel(c->group) == TPOOL_OK;
    REQUIRE(!tpool_future_done(c->future));
}
static void a_cancel_in_the_callback_that_finds_a_try_expired(void **state) {
    (void)state;
    for (int grouped = 0; grouped < 2; grouped++) {
        in_callback c = { 0 };
        tpool_future *caller = NULL;
        trier t = { 0 };
        held_create(&c.h, &(tpool_config){ .queue_capacity = 1,
                                           .on_full = TPOOL_FULL_REJECT,
                                           .observer = note_event,
                                           .observed = TPOOL_EVENT_READY });
        if (grouped) assert_status(TPOOL_OK, tpool_group_create(&c.group, NULL));
        tpool_task task = tries(1, 0, &t);
        task.expires_ns = 1;
        task.group = c.group;
        c.future = submitted_task(c.h.pool, task);
        assert_status(TPOOL_OK, tpool_future_create(&caller));
        assert_status(TPOOL_OK, tpool_future_add_done_callback(caller, make_room_and_cancel, &c));
        assert_status(TPOOL_OK, tpool_future_set_result(caller, NULL));
        tpool_future_release(caller);
        gate_open(&c.h.gate);
        assert_true(c.cancelled);
        assert_status(TPOOL_CANCELLED, end_of(c.future));
        assert_ran(0, &t);
        held_destroy(&c.h);
        assert_status(grouped ? TPOOL_CANCELLED : TPOOL_OK, tpool_group_destroy(c.group));
    }
}
static void expiry_against_start(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    long n = COUNT(10000);
    trier *all = calloc((size_t)n, sizeof *all);
    assert_non_null(all);
    for (long i = 0; i < n; i++) {
        tpool_task task = tries((unsigned)(i % 5), i % 3 * 1000, &all[i]);
        all[i].fails = (int)(i % 4);
        task.expires_ns = 1 + i % 11 * 10000;
        task.timeout_ns = i % 7 ? 0 : 1 + i % 13 * 20000;
        task.priority = (int)(i % 2);
        tpool_future *future = NULL;
        assert_status(TPOOL_OK, tpool_submit_task(pool, &task, i % 8 ? NULL : &future));
        if (future && i % 16) (void)tpool_future_result(future, TPOOL_US(30), NULL);
        tpool_future_release(future);
    }
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    tpool_stats stats = stats_of(pool);
    assert_int_equal(n, stats.completed + stats.failed + stats.expired);
    for (long i = 0; i < n; i++) assert_int_equal(1, atomic_load(&all[i].freed));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    free(all);
}

/* ---- The pool */
static void drain_waits_for_all_tries(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    trier t = { .fails = 3 };
    tpool_task task = tries(3, TPOOL_MS(2), &t);
    assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(4, atomic_load(&t.tries));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void the_end_of_the_pool(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        tpool *pool = new_pool(1);
        gate g = GATE_CLOSED;
        trier t = { .fails = 99, .gate = &g };
        tpool_future *future = at_gate(pool, tries(9, i % 2 ? 0 : NEVER, &t));
        if (i / 2) assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
        destroy_at_gate(pool, &g);
        /* what waits for no time goes on */
        assert_status(i % 2 ? TPOOL_FAILED : TPOOL_CANCELLED, end_of(future));
        assert_ran(i % 2 ? 10 : 1, &t);
    }
}
static void cancel_pending_in_a_try(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    gate g = GATE_CLOSED;
    trier t = { .fails = 9, .gate = &g };
    tpool_future *future = at_gate(pool, tries(9, 0, &t));
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_CANCEL_PENDING));
    gate_open(&g);
    assert_status(TPOOL_CANCELLED, end_of(future));
    assert_int_equal(1, atomic_load(&t.tries));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* The first try is a task like any other: a full queue refuses it. Later ones are past that. */
static void a_full_queue(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, &(tpool_config){ .queue_capacity = 1, .on_full = TPOOL_FULL_REJECT });
    trier t = { .fails = 2 }, other = { 0 };
    tpool_future *future = submitted_task(h.pool, tries(2, 0, &t));
    tpool_task task = tries(2, 0, &other);
    assert_status(TPOOL_FULL, tpool_submit_task(h.pool, &task, NULL));
    assert_status(TPOOL_TIMEOUT, tpool_submit_within(h.pool, &task, TPOOL_MS(1), NULL));
    assert_int_equal(0, atomic_load(&other.freed));
    gate_open(&h.gate);
    assert_ptr_equal(&t, take(future));
    held_destroy(&h);
}
static tpool_status submit_tries(void *of) {
    held_pool *h = (held_pool *)of;
    static trier t;
    t.fails = 1;
    tpool_future *future = NULL;
    tpool_task task = tries(1, 0, &t);
    tpool_status status = tpool_submit_task(h->pool, &task, &future);
    if (status == TPOOL_OK) status = end_of(future);
    return status == TPOOL_OK && atomic_load(&t.tries) == 2 ? TPOOL_OK : TPOOL_FAILED;
}
static void a_caller_that_would_run_it_waits(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, &(tpool_config){ .queue_capacity = 1, .on_full = TPOOL_FULL_CALLER_RUNS });
    assert_status(TPOOL_OK, tpool_submit(h.pool, nothing, NULL, NULL));
    background b;
    background_start(&b, submit_tries, &h);
    background_await_block(&b);
    gate_open(&h.gate);
    assert_status(TPOOL_OK, background_join(&b));
    held_destroy(&h);
}
/* A worker that waits for it runs the first try in place; the entry stays in the queue, and the next try comes. */
static void a_try_in_place(void **state) {
    (void)state;
    for (int workers = 1; workers < 3; workers++) {
        tpool *pool = new_pool(workers);
        gate g = GATE_CLOSED;
        tpool_future *holders[2] = { held_at(pool, &g), workers == 2 ? held_at(pool, &g) : NULL };
        trier t = { .fails = 2 };
        t.itself = submitted_task(pool, tries(2, TPOOL_US(100), &t));
        tpool_future *waits =
            submitted_task(pool, (tpool_task){ .fn = wait_for_future, .arg = &t.itself, .priority = 1 });
        gate_open(&g);
        assert_ptr_equal(&t.itself, take(waits));
        assert_int_equal(3, atomic_load(&t.tries));
        tpool_future_release(t.itself);
        tpool_future_release(holders[0]);
        tpool_future_release(holders[1]);
        assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
        assert_int_equal(1, atomic_load(&t.freed));
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}
static void run_with_a_timeout(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    trier t = { .fails = 2 }, never = { .fails = 2 };
    tpool_task task = tries(2, TPOOL_US(10), &t);
    assert_status(TPOOL_OK, tpool_run_with_timeout(pool, &task, LIMIT, NULL));
    task = tries(2, NEVER, &never);
    assert_status(TPOOL_TIMEOUT, tpool_run_with_timeout(pool, &task, TPOOL_MS(20), NULL));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(1, atomic_load(&never.freed));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* For ThreadSanitizer. Tasks await what they submit, so they execute tries in place, and leave the entries of these in
   the queues, where a worker may take one for a later try. */
enum { AWAITED = 500 };
typedef struct try_in_place {
    tpool *pool;
    atomic_int tries[AWAITED];
} try_in_place;
static void *fail_three_times(void *arg) {
    return atomic_fetch_add((atomic_int *)arg, 1) < 3 ? tpool_raise_text(1, "not yet") : NULL;
}
static void *await_tries(void *arg) {
    try_in_place *of = arg;
    tpool_future *futures[AWAITED];
    for (int i = 0; i < AWAITED; i++) {
        tpool_task task = { .fn = fail_three_times, .arg = &of->tries[i], .retries = 3, .retry_ns = 1 };
        task.run_limit_ns = LIMIT;
        REQUIRE_STATUS(TPOOL_OK, tpool_submit_task(of->pool, &task, &futures[i]));
    }
    for (int i = AWAITED - 1; i >= 0; i--) {
        REQUIRE_STATUS(TPOOL_OK, tpool_future_result(futures[i], TPOOL_FOREVER, NULL));
        tpool_future_release(futures[i]);
    }
    return NULL;
}
static void a_later_try_is_taken_from_where_an_earlier_one_was_queued(void **state) {
    (void)state;
    enum { TASKS = 4, ROUNDS = 5 };
    static try_in_place of[TASKS];
    tpool *pool = new_pool(3);
    tpool_future *tasks[TASKS];
    for (int round = 0; round < ROUNDS; round++) {
        memset((void *)of, 0, sizeof of);
        for (int i = 0; i < TASKS; i++) {
            of[i].pool = pool;
            tasks[i] = submitted(pool, await_tries, &of[i]);
        }
        for (int i = 0; i < TASKS; i++) assert_status(TPOOL_OK, end_of(tasks[i]));
        for (int i = 0; i < TASKS * AWAITED; i++) assert_int_equal(4, atomic_load(&of[i / AWAITED].tries[i % AWAITED]));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- The observer: each try has its READY, STARTED and ENDED */
static void each_try_is_observed(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        tpool *pool = new_noted_pool();
        trier t = { .fails = 2 };
        assert_ptr_equal(&t, take(submitted_task(pool, tries(2, i ? TPOOL_MS(1) : 0, &t))));
        assert_status(TPOOL_OK, tpool_destroy(pool));
        assert_noted_runs(3);
        for (int k = 0; k < 3; k++) assert_int_equal(k < 2 ? TPOOL_FAILED : TPOOL_OK, noted[3 + 3 * k].status);
    }
}
/* Tries that expire while an observer listens: READY is told where the program's code may run. */
static void tries_that_expire_are_observed(void **state) {
    (void)state;
    unsigned observed = TPOOL_EVENT_READY | TPOOL_EVENT_ENDED;
    held_pool h;
    held_create(&h, &(tpool_config){ .observer = note_event, .observed = observed });
    atomic_store(&events, 0);
    trier t = { 0 };
    tpool_task task = tries(3, 0, &t);
    task.expires_ns = TPOOL_MS(2);
    assert_status(TPOOL_EXPIRED, end_of(submitted_task(h.pool, task)));
    held_destroy(&h);
    int ready = 0;
    for (int i = 0; i < atomic_load(&events) && i < MOST_EVENTS; i++) ready += noted[i].kind == TPOOL_EVENT_READY;
    assert_int_equal(4, ready);
}

/* ---- Processes */
#if HAVE_FORK
static void *dies_twice(void *arg) {
    atomic_int *tries_there = *(atomic_int **)arg;
    int n = atomic_fetch_add(tries_there, 1);
    if (n == 0) abort();
    if (n == 1) return tpool_raise(2, "in a process");
    return tpool_return(&n, sizeof n);
}
static void *hangs_twice(void *arg) {
    if (atomic_fetch_add(*(atomic_int **)arg, 1) < 2)
        for (;;) sleep_ms(1000);
    return NULL;
}
static void in_a_pool_of_processes(void **state) {
    (void)state;
    atomic_int *there = (atomic_int *)shared_memory(sizeof *there);
    assert_non_null(there);
    tpool *pool = process_pool(1);
    tpool_task task = {
        .fn = dies_twice, .arg = (void *)&there, .arg_size = sizeof there, .retries = 2, .retry_ns = TPOOL_MS(1)
    };
    tpool_future *future = submitted_task(pool, task);
    void *value = NULL;
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &value));
    assert_int_equal(2, *(int *)value);
    tpool_future_release(future);
    atomic_store(there, 0);
    task.retries = 0;
    assert_status(TPOOL_BROKEN, end_of(submitted_task(pool, task)));
    atomic_store(there, 0);
    task.fn = hangs_twice;
    task.retries = 2;
    task.run_limit_ns = TPOOL_MS(200); /* each try's, and it kills */
    assert_status(TPOOL_OK, end_of(submitted_task(pool, task)));
    assert_int_equal(3, atomic_load(there));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    munmap(there, sizeof *there);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(it_succeeds_in_the_end),
        TEST(a_try_that_ends_its_thread_after_a_stop_is_the_last),
        TEST(it_fails_in_the_end),
        TEST(each_wait_is_twice_as_long),
        TEST(waits_at_the_limits),
        TEST(it_does_nothing_without_a_function),
        TEST(a_copy_keeps_what_a_try_leaves_in_it),
        TEST(it_begins_when_nothing_holds_it),
        TEST(an_arg_free_that_ends_the_thread),
        TEST(a_cancel_between_two_tries),
        TEST(a_stop_between_two_tries),
        TEST(a_stop_before_and_in_a_try),
        TEST(cancel_and_stop_against_tries),
        TEST(a_timeout_between_two_tries),
        TEST(a_timeout_in_a_try),
        TEST(each_try_may_expire),
        TEST(a_try_after_one_that_expired),
        TEST(a_cancel_between_tries_that_expire),
        TEST(a_cancel_in_the_callback_that_finds_a_try_expired),
        TEST(expiry_against_start),
        TEST(drain_waits_for_all_tries),
        TEST(the_end_of_the_pool),
        TEST(cancel_pending_in_a_try),
        TEST(a_full_queue),
        TEST(a_caller_that_would_run_it_waits),
        TEST(a_try_in_place),
        TEST(run_with_a_timeout),
        TEST(a_later_try_is_taken_from_where_an_earlier_one_was_queued),
        TEST(each_try_is_observed),
        TEST(tries_that_expire_are_observed),
#if HAVE_FORK
        TEST(in_a_pool_of_processes),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
