/* Periodic tasks in their pool: drains, shutdowns, pauses, full queues, observers, children of fork, processes. */
#include "support.h"
#include "support/no_thread_leaks.h"
#include "behaviour/periods.h"
#if HAVE_FORK
#include "support/children.h"
#endif

/* ---- The pool */
static void drain_waits_for_the_run_at_hand_only(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    gate g = GATE_CLOSED;
    runner r = { .gate = &g };
    tpool_future *future = at_gate(pool, NEVER, &r);
    assert_status(TPOOL_TIMEOUT, tpool_drain(pool, TPOOL_MS(10)));
    gate_open(&g);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(1, atomic_load(&r.runs));
    assert_int_equal(1, stats_of(pool).held);
    tpool_task task = every(NEVER, &r); /* nor for the first one, if that has a time */
    task.delay_ns = NEVER;
    tpool_future *later = submitted_task(pool, task);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_true(tpool_future_cancel(future));
    assert_true(tpool_future_cancel(later));
    tpool_future_release(future);
    tpool_future_release(later);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* Its runs have no time between them, and each passes a gate of its own. */
typedef struct turns {
    gate gates[3];
    int runs;
    gate *executes; /* the second run executes a task in place that has a callback, which passes this gate */
} turns;
#define TURNS \
    { \
        .gates = { GATE_CLOSED, GATE_CLOSED, GATE_CLOSED } \
    }
static void pass_gate(tpool_future *future, void *context) {
    (void)future;
    gate_pass((gate *)context);
}
static tpool_future *submitted_with_callback(tpool *pool, tpool_fn fn, void *arg, gate *g) {
    tpool_future *future = submitted(pool, fn, arg);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(future, pass_gate, g));
    return future;
}
static void *take_turn(void *arg) {
    turns *t = (turns *)arg;
    int run = t->runs++;
    if (run == 1 && t->executes) { /* in place: without a limit */
        tpool_future *future = submitted_with_callback(tpool_current(), nothing, NULL, t->executes);
        (void)tpool_future_result(future, TPOOL_FOREVER, NULL);
        tpool_future_release(future);
    }
    if (run == 2) tpool_last_run();
    gate_pass(&t->gates[run]);
    return NULL;
}
static tpool_status drain_it(void *pool) { return tpool_drain((tpool *)pool, LIMIT); }
static void further_runs_that_begin_at_once_hold_up_no_drain(void **state) {
    (void)state;
    for (int apart = 0; apart < 2; apart++) {
        tpool *pool = new_pool(2);
        turns first = TURNS, second = TURNS;
        tpool_task task = { .fn = take_turn, .arg = &first, .period_ns = 1, .long_running = apart };
        tpool_future *futures[2] = { submitted_task(pool, task), NULL };
        task.arg = &second;
        futures[1] = submitted_task(pool, task);
        AWAIT_ARRIVALS(&first.gates[0], 1);
        AWAIT_ARRIVALS(&second.gates[0], 1);
        background drains[2];
        for (int i = 0; i < 2; i++) background_start(&drains[i], drain_it, pool);
        for (int i = 0; i < 2; i++) background_await_block(&drains[i]);
        gate_open(&first.gates[0]);
        AWAIT_ARRIVALS(&first.gates[1], 1); /* one is always running */
        assert_status(TPOOL_TIMEOUT, tpool_drain(pool, TPOOL_MS(10)));
        for (int i = 0; i < 2; i++) assert_false(atomic_load(&drains[i].returned)); /* the second one's run at hand */
        gate_open(&second.gates[0]);
        AWAIT_ARRIVALS(&second.gates[1], 1);
        for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, background_join(&drains[i]));
        assert_status(TPOOL_TIMEOUT, tpool_drain(pool, 0)); /* for another drain these are at hand */
        for (int i = 1; i < 3; i++) {
            gate_open(&first.gates[i]);
            gate_open(&second.gates[i]);
        }
        for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, end_of(futures[i]));
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}
/* The second run executes a task with retries of another pool, as a member of a group, and then waits. */
typedef struct elsewhere {
    turns turns;
    tpool *other;
} elsewhere;
static void *execute_elsewhere(void *arg) {
    elsewhere *e = (elsewhere *)arg;
    if (e->turns.runs == 1) {
        tpool_group *group;
        tpool_group_config config = { .waiter_runs = true };
        REQUIRE_STATUS(TPOOL_OK, tpool_group_create(&group, &config));
        tpool_task task = { .fn = nothing, .retries = 1, .group = group };
        REQUIRE_STATUS(TPOOL_OK, tpool_submit_task(e->other, &task, NULL));
        REQUIRE_STATUS(TPOOL_OK, tpool_group_wait(group, TPOOL_FOREVER, NULL));
        tpool_group_release(group);
    }
    return take_turn(&e->turns);
}
static void a_drain_ends_beside_a_further_run_that_executes_a_task_of_another_pool(void **state) {
    (void)state;
    gate keeps = GATE_CLOSED;
    elsewhere e = { .turns = TURNS, .other = new_pool_as((tpool_config){ .max_workers = 1, .max_spares = -1 }) };
    tpool *pool = new_pool(2);
    tpool_future *kept = submitted(e.other, gate_task, &keeps);
    AWAIT_ARRIVALS(&keeps, 1);
    gate awaited = GATE_CLOSED; /* of a task for which the drain waits until the second run is under way */
    tpool_future *other = submitted(pool, gate_task, &awaited);
    tpool_task task = { .fn = execute_elsewhere, .arg = &e, .period_ns = 1 };
    tpool_future *future = submitted_task(pool, task);
    AWAIT_ARRIVALS(&e.turns.gates[0], 1);
    background drain;
    background_start(&drain, drain_it, pool);
    background_await_block(&drain);
    gate_open(&e.turns.gates[0]);
    AWAIT_ARRIVALS(&e.turns.gates[1], 1);
    gate_open(&awaited);
    assert_status(TPOOL_OK, background_join(&drain));
    for (int i = 1; i < 3; i++) gate_open(&e.turns.gates[i]);
    assert_status(TPOOL_OK, end_of(future));
    assert_status(TPOOL_OK, end_of(other));
    gate_open(&keeps);
    assert_status(TPOOL_OK, end_of(kept));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_status(TPOOL_OK, tpool_destroy(e.other));
}
/* The callback of a task that another worker executes; or of a periodic one that ends there; or of one that the further
 * run executes in place; or that another thread cancels. */
enum { EXECUTED, LAST_RUN, BROKEN_RUN, IN_PLACE, CANCELLED, WAYS };
static void *last_run(void *arg) {
    tpool_last_run();
    return gate_task(arg);
}
static void *broken_run(void *arg) {
    gate_pass((gate *)arg);
    end_here();
    return arg;
}
static tpool_status cancel_it(void *future) {
    return tpool_future_cancel((tpool_future *)future) ? TPOOL_OK : TPOOL_FAILED;
}
static void a_drain_waits_for_callbacks_beside_further_runs(void **state) {
    (void)state;
    for (int way = 0; way < WAYS; way++) {
        tpool *pool = new_pool(way == CANCELLED ? 1 : 2);
        gate callback = GATE_CLOSED, held = GATE_CLOSED;
        turns t = TURNS;
        if (way == IN_PLACE) t.executes = &callback;
        tpool_task task = { .fn = take_turn, .arg = &t, .period_ns = 1 };
        tpool_future *future = submitted_task(pool, task);
        AWAIT_ARRIVALS(&t.gates[0], 1);
        tpool_task behind = { .fn = gate_task, .arg = &held, .priority = -1 }; /* with one worker, all further runs */
        if (way == LAST_RUN || way == BROKEN_RUN) {
            behind.fn = way == LAST_RUN ? last_run : broken_run;
            behind.period_ns = 1;
        }
        tpool_future *other = submitted_task(pool, behind);
        if (way != IN_PLACE) assert_status(TPOOL_OK, tpool_future_add_done_callback(other, pass_gate, &callback));
        background drains, cancels;
        background_start(&drains, drain_it, pool);
        background_await_block(&drains);
        gate_open(&t.gates[0]);
        if (way != IN_PLACE) AWAIT_ARRIVALS(&t.gates[1], 1); /* a further run is at work */
        if (way == CANCELLED) background_start(&cancels, cancel_it, other);
        if (way < IN_PLACE) gate_open(&held);
        AWAIT_ARRIVALS(&callback, 1);
        gate_open(&held);
        if (way == IN_PLACE) EVENTUALLY(tpool_future_done(other));
        sleep_ms(20); /* the drain looks; if it does not, the test finds less */
        assert_false(atomic_load(&drains.returned));
        gate_open(&callback);
        assert_status(TPOOL_OK, background_join(&drains));
        assert_int_equal(2, t.runs);
        if (way == CANCELLED) assert_status(TPOOL_OK, background_join(&cancels));
        for (int i = 1; i < 3; i++) gate_open(&t.gates[i]);
        assert_status(TPOOL_OK, end_of(future));
        tpool_future_release(other);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}
/* Each run waits for a task that it submits: only between two runs is there none. And where all runs are short, some
 * worker is between two at almost any time. */
static void *submit_and_wait(void *arg) {
    tpool_future *future = submitted(tpool_current(), nothing, NULL);
    (void)tpool_future_result(future, TPOOL_FOREVER, NULL);
    tpool_future_release(future);
    return arg;
}
static void a_drain_ends_beside_short_further_runs(void **state) {
    (void)state;
    tpool_fn fns[] = { submit_and_wait, nothing };
    for (int i = 0; i < 2; i++) {
        tpool *pool = new_pool(4);
        tpool_future *futures[4];
        int n = i == 0 ? 1 : 4;
        for (int j = 0; j < n; j++) futures[j] = submitted_task(pool, (tpool_task){ .fn = fns[i], .period_ns = 1 });
        for (int j = 0; j < 5; j++) assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
        for (int j = 0; j < n; j++) {
            tpool_future_request_stop(futures[j]);
            assert_status(TPOOL_OK, end_of(futures[j]));
        }
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}
/* Members that pass on one permit; in worker processes; a task with retries, for all of which a drain waits. */
static void *fail_at_once(void *arg) {
    atomic_fetch_add((atomic_int *)arg, 1);
    return tpool_raise(1, "no");
}
static void a_drain_ends_beside_further_runs_of_any_kind(void **state) {
    (void)state;
    for (int processes = 0; processes <= HAVE_FORK; processes++) {
        tpool_group_config serial = { .limit = 1 };
        tpool_group *group = NULL;
        tpool_future *futures[3];
        tpool *pool =
            new_pool_as((tpool_config){ .max_workers = 2, .kind = processes ? TPOOL_PROCESSES : TPOOL_THREADS });
        assert_status(TPOOL_OK, tpool_group_create(&group, &serial));
        for (int i = 0; i < 3; i++) {
            tpool_task task = { .fn = nothing, .period_ns = 1, .group = i < 2 ? group : NULL };
            futures[i] = submitted_task(pool, task);
        }
        for (int i = 0; i < 5; i++) assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
        atomic_int tries = 0;
        if (!processes) {
            tpool_task task = { .fn = fail_at_once, .arg = &tries, .retries = 5, .retry_ns = TPOOL_US(100) };
            tpool_future *tried = submitted_task(pool, task);
            assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
            assert_int_equal(6, atomic_load(&tries));
            assert_status(TPOOL_FAILED, end_of(tried));
        }
        assert_status(TPOOL_OK, tpool_pause(pool)); /* their runs are at hand */
        assert_status(TPOOL_TIMEOUT, tpool_drain(pool, TPOOL_MS(10)));
        assert_status(TPOOL_OK, tpool_resume(pool));
        background drains;
        background_start(&drains, drain_it, pool);
        if (processes) { /* which ends them */
            assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT));
        } else {
            for (int i = 0; i < 3; i++) tpool_future_request_stop(futures[i]);
        }
        assert_status(TPOOL_OK, background_join(&drains));
        for (int i = 0; i < 3; i++) assert_status(processes ? TPOOL_CANCELLED : TPOOL_OK, end_of(futures[i]));
        assert_status(TPOOL_OK, tpool_group_release(group));
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}
static void shutdown_and_destroy_cancel_it_between_two_runs(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        tpool *pool = new_pool(1);
        runner r = { 0 };
        tpool_future *future = submitted_task(pool, every(NEVER, &r));
        await_between(pool, &r, 1);
        if (i) assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
        if (i) assert_true(tpool_future_done(future));
        assert_status(TPOOL_OK, tpool_destroy(pool));
        assert_status(TPOOL_CANCELLED, end_of(future));
        assert_int_equal(1, atomic_load(&r.freed));
    }
}
/* The run at hand comes to its end; then the task is cancelled. However short the period: it does not go on. */
static void shutdown_and_destroy_in_a_run(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        tpool *pool = new_pool(1);
        gate g = GATE_CLOSED;
        runner r = { .gate = &g };
        tpool_future *future = at_gate(pool, i % 2 ? 1 : NEVER, &r);
        if (i / 2) assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
        destroy_at_gate(pool, &g);
        assert_status(TPOOL_CANCELLED, end_of(future));
        assert_ran(1, &r);
    }
}
static void a_detached_pool_ends(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    gate g = GATE_CLOSED;
    static runner r;
    r = (runner){ .gate = &g };
    tpool_future *future = at_gate(pool, TPOOL_US(1), &r);
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_DETACH));
    gate_open(&g);
    assert_status(TPOOL_CANCELLED, end_of(future));
}
/* In a pause time passes, but nothing runs: so it is due once, however many periods that lasts. */
static void a_pause(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    runner r = { 0 };
    tpool_future *future = submitted_task(pool, every(TPOOL_MS(1), &r));
    EVENTUALLY(atomic_load(&r.runs) > 0);
    assert_status(TPOOL_OK, tpool_pause(pool));
    EVENTUALLY(stats_of(pool).queued == 1);
    int runs = atomic_load(&r.runs);
    sleep_ms(10);
    assert_int_equal(runs, atomic_load(&r.runs));
    assert_int_equal(1, stats_of(pool).queued);
    assert_int_equal(0, stats_of(pool).held);
    int64_t resumed = tpool_now();
    assert_status(TPOOL_OK, tpool_resume(pool));
    EVENTUALLY(atomic_load(&r.runs) > runs + 3);
    for (int i = runs + 1; i < runs + 4 && i < 64; i++)
        assert_true(r.started[i] - resumed >= (i - runs - 1) * TPOOL_MS(1));
    tpool_future_request_stop(future);
    assert_null(take(future));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* Not by a worker that waits for it, nor by its submitter. */
static void it_is_never_run_in_place(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    runner r = { .last = 2 };
    r.itself = submitted_task(h.pool, every(TPOOL_MS(1), &r));
    tpool_task first = { .fn = wait_for_future, .arg = &r.itself, .priority = 1 };
    tpool_future *waits = submitted_task(h.pool, first);
    EVENTUALLY(stats_of(h.pool).queued == 2);
    gate_open(&h.gate);
    assert_ptr_equal(&r.itself, take(waits));
    assert_int_equal(0, stats_of(h.pool).inlined);
    tpool_future_release(r.itself);
    held_destroy(&h);
}
static void it_goes_past_a_full_queue(void **state) {
    (void)state;
    static const tpool_full_policy policies[] = { TPOOL_FULL_BLOCK, TPOOL_FULL_REJECT, TPOOL_FULL_CALLER_RUNS };
    for (int i = 0; i < 3; i++) {
        held_pool h;
        held_create(&h, &(tpool_config){ .queue_capacity = 1, .on_full = policies[i] });
        tpool_future *fills = submitted(h.pool, nothing, NULL);
        runner r = { .last = 3 };
        tpool_future *future = submitted_task(h.pool, every(TPOOL_US(10), &r));
        assert_int_equal(0, atomic_load(&r.runs));
        assert_int_equal(2, stats_of(h.pool).queued);
        gate_open(&h.gate);
        assert_ptr_equal(&r, take(future));
        tpool_future_release(fills);
        held_destroy(&h);
    }
}
/* Ready, it is a task of the queue like any other. */
static void it_is_dropped_from_a_full_queue(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, &(tpool_config){ .queue_capacity = 1, .on_full = TPOOL_FULL_DROP_OLDEST });
    runner r = { 0 };
    tpool_future *future = submitted_task(h.pool, every(TPOOL_US(10), &r));
    assert_int_equal(1, stats_of(h.pool).queued);
    assert_status(TPOOL_OK, tpool_submit(h.pool, nothing, NULL, NULL));
    assert_status(TPOOL_CANCELLED, end_of(future));
    assert_int_equal(1, atomic_load(&r.freed));
    assert_int_equal(1, stats_of(h.pool).dropped);
    held_destroy(&h);
}
static void many_at_once(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    enum { MANY = 200 };
    static runner all[MANY];
    tpool_future *futures[MANY];
    tpool_completions *completions = NULL;
    assert_status(TPOOL_OK, tpool_as_completed(NULL, 0, &completions));
    for (int i = 0; i < MANY; i++) {
        all[i] = (runner){ .last = 1 + i % 7 };
        tpool_task task = every(1 + i * 997, &all[i]);
        task.completions = completions;
        task.priority = i % 3 - 1;
        task.tag = &all[i];
        futures[i] = submitted_task(pool, task);
    }
    tpool_future *future = NULL;
    int seen = 0;
    while (tpool_completions_next(completions, LIMIT, &future) == TPOOL_OK) {
        const runner *r = (const runner *)tpool_future_tag(future);
        assert_int_equal(r->last, atomic_load(&r->runs));
        assert_int_equal(1, atomic_load(&r->freed));
        seen++;
    }
    assert_int_equal(MANY, seen);
    for (int i = 0; i < MANY; i++) tpool_future_release(futures[i]);
    tpool_completions_destroy(completions);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(MANY, stats_of(pool).completed);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* Each worker serves one task, and is replaced; an idle one ends at once, but one stays for what is held. */
static void workers_come_and_go(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        tpool *pool = new_pool_as(
            (tpool_config){ .max_workers = 2, .max_tasks_per_worker = i ? 1 : 0, .idle_timeout_ns = i ? 0 : 1 });
        runner r = { .last = 20 };
        assert_ptr_equal(&r, take(submitted_task(pool, every(TPOOL_US(500), &r))));
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}
static void a_failed_initializer_ends_it(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .initializer = pass_gate_and_fail, .context = &g });
    runner r = { 0 };
    tpool_task task = every(1, &r);
    task.delay_ns = NEVER;
    tpool_future *future = submitted_task(pool, task);
    gate_open(&g);
    assert_status(TPOOL_BROKEN, end_of(future));
    assert_ran(0, &r);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- The observer: each run has its READY, STARTED and ENDED */
static void each_run_is_observed(void **state) {
    (void)state;
    tpool *pool = new_noted_pool();
    runner r = { .last = 3 };
    assert_ptr_equal(&r, take(submitted_task(pool, every(TPOOL_MS(1), &r))));
    assert_noted_runs(3);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void end_thread_at_end(const tpool_event *event, void *context) {
    (void)context;
    if (event->kind == TPOOL_EVENT_ENDED && atomic_fetch_add(&events, 1) == 1) end_here();
}
/* The observer of a run's end ends the thread: the run is over, and the next ones come. */
static void an_observer_that_ends_the_thread(void **state) {
    (void)state;
    tpool *pool =
        new_pool_as((tpool_config){ .max_workers = 1, .observer = end_thread_at_end, .observed = TPOOL_EVENT_ENDED });
    atomic_store(&events, 0);
    runner r = { .last = 4 };
    assert_ptr_equal(&r, take(submitted_task(pool, every(TPOOL_US(100), &r))));
    assert_ran(4, &r);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Fork, processes */
#if HAVE_FORK
typedef struct inherited {
    tpool *pool;
    tpool_future *future;
} inherited;
static void look_in_child(void *context) {
    const inherited *i = (const inherited *)context;
    CHECK(!tpool_future_cancel(i->future));
    tpool_future_request_stop(i->future);
    CHECK(!tpool_future_done(i->future));
    CHECK_STATUS(TPOOL_BROKEN, tpool_future_result(i->future, TPOOL_FOREVER, NULL));
    tpool *pool = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_create(&pool, NULL));
    runner r = { .last = 3 };
    tpool_task task = every(TPOOL_US(100), &r);
    tpool_future *future = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, &future)); /* its own work as ever */
    CHECK_STATUS(TPOOL_OK, tpool_future_result(future, TPOOL_FOREVER, NULL));
    CHECK(atomic_load(&r.runs) == 3);
    tpool_future_release(future);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
}
static void a_child_of_fork(void **state) {
    (void)state;
    if (UNDER_TSAN) skip();
    tpool *pool = new_pool(1);
    runner r = { 0 };
    inherited i = { pool, submitted_task(pool, every(NEVER, &r)) };
    await_between(pool, &r, 1);
    in_child(look_in_child, &i);
    assert_true(tpool_future_cancel(i.future));
    tpool_future_release(i.future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void *run_there(void *arg) {
    atomic_int *runs = *(atomic_int **)arg;
    if (atomic_fetch_add(runs, 1) == 4) tpool_last_run();
    return tpool_return(runs, sizeof *runs);
}
static void *dies_there(void *arg) {
    if (atomic_fetch_add(*(atomic_int **)arg, 1) == 2) abort();
    return NULL;
}
static void *stopped_there(void *arg) {
    atomic_fetch_add(*(atomic_int **)arg, 1);
    while (!tpool_stop_requested()) sleep_ms(1);
    return *(void **)arg;
}
static void in_a_pool_of_processes(void **state) {
    (void)state;
    atomic_int *runs = (atomic_int *)shared_memory(sizeof *runs);
    assert_non_null(runs);
    tpool *pool = process_pool(1);
    tpool_task task = { .fn = run_there, .arg = (void *)&runs, .arg_size = sizeof runs, .period_ns = TPOOL_MS(1) };
    tpool_future *future = submitted_task(pool, task);
    void *value = NULL;
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &value));
    assert_int_equal(5, *(int *)value);
    tpool_future_release(future);
    task.fn = dies_there;
    atomic_store(runs, 0);
    assert_status(TPOOL_BROKEN, end_of(submitted_task(pool, task)));
    assert_int_equal(3, atomic_load(runs));
    task.fn = stopped_there;
    atomic_store(runs, 0);
    future = submitted_task(pool, task);
    EVENTUALLY(atomic_load(runs) == 1);
    tpool_future_request_stop(future);
    assert_null(take(future));
    assert_int_equal(1, atomic_load(runs));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    munmap(runs, sizeof *runs);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(drain_waits_for_the_run_at_hand_only),
        TEST(further_runs_that_begin_at_once_hold_up_no_drain),
        TEST(a_drain_ends_beside_a_further_run_that_executes_a_task_of_another_pool),
        TEST(a_drain_waits_for_callbacks_beside_further_runs),
        TEST(a_drain_ends_beside_short_further_runs),
        TEST(a_drain_ends_beside_further_runs_of_any_kind),
        TEST(shutdown_and_destroy_cancel_it_between_two_runs),
        TEST(shutdown_and_destroy_in_a_run),
        TEST(a_detached_pool_ends),
        TEST(a_pause),
        TEST(it_is_never_run_in_place),
        TEST(it_goes_past_a_full_queue),
        TEST(it_is_dropped_from_a_full_queue),
        TEST(many_at_once),
        TEST(workers_come_and_go),
        TEST(a_failed_initializer_ends_it),
        TEST(each_run_is_observed),
        TEST(an_observer_that_ends_the_thread),
#if HAVE_FORK
        TEST(a_child_of_fork),
        TEST(in_a_pool_of_processes),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
