/* long_running: a task with a thread of its own, besides max_workers, in no queue. */
#include "support.h"
#include "support/held.h"
#include "support/no_thread_leaks.h"
#if HAVE_FORK
#include "support/children.h"
#endif

#define NEVER TPOOL_SEC(100000) /* for as long as a test lasts */

static tpool_future *long_running(tpool *pool, tpool_fn fn, void *arg) {
    return submitted_task(pool, (tpool_task){ .fn = fn, .arg = arg, .long_running = true });
}
static tpool_future *long_running_after(tpool *pool, tpool_fn fn, void *arg, tpool_future *const *before) {
    tpool_task task = after(fn, arg, before, 1, TPOOL_AFTER_SUCCESS);
    task.long_running = true;
    return submitted_task(pool, task);
}
/* One that is at the gate when this returns. */
static tpool_future *long_running_at(tpool *pool, gate *g) {
    int before = gate_arrived(g);
    tpool_future *future = long_running(pool, gate_task, g);
    AWAIT_ARRIVALS(g, before + 1);
    return future;
}
static void *wait_for_stop(void *arg) {
    atomic_fetch_add((atomic_int *)arg, 1);
    while (!tpool_stop_requested()) sleep_ms(1);
    return arg;
}
/* The thread that executes the task. */
typedef struct seen {
    pthread_t thread;
    tpool *pool;
    int worker;
    tpool_status status, detached;
    gate *gate;
    tpool_future *wanted;
    tpool_fn fn;
    atomic_int runs;
} seen;
static void *see(void *arg) {
    seen *s = (seen *)arg;
    s->thread = pthread_self();
    s->pool = tpool_current();
    s->worker = tpool_current_worker();
    atomic_fetch_add(&s->runs, 1);
    if (s->gate) gate_pass(s->gate);
    return arg;
}

/* ---- Its thread */

static void it_runs_beside_all_workers(void **state) {
    (void)state;
    gate g = GATE_CLOSED, workers = GATE_CLOSED;
    tpool *pool = new_pool(2);
    tpool_future *busy[2] = { held_at(pool, &workers), held_at(pool, &workers) };
    tpool_future *own[3];
    for (int i = 0; i < 3; i++) own[i] = long_running_at(pool, &g); /* though no worker is free */
    assert_int_equal(5, stats_of(pool).workers);
    assert_int_equal(5, stats_of(pool).active);
    assert_int_equal(0, stats_of(pool).idle);
    gate_open(&workers);
    for (int i = 0; i < 2; i++) assert_ptr_equal(&workers, take(busy[i]));
    assert_ptr_equal(pool, take(submitted(pool, nothing, pool))); /* and they take no worker away */
    EVENTUALLY(stats_of(pool).active == 3);
    assert_int_equal(2, stats_of(pool).idle);
    gate_open(&g);
    for (int i = 0; i < 3; i++) assert_ptr_equal(&g, take(own[i]));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    EVENTUALLY(stats_of(pool).workers == 2); /* each thread ends with its task */
    assert_int_equal(6, stats_of(pool).completed);
    assert_int_equal(0, stats_of(pool).spared);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void it_starts_no_worker(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    tpool *pool = new_pool(1);
    tpool_future *own = long_running_at(pool, &g);
    assert_int_equal(1, stats_of(pool).workers);
    assert_int_equal(0, stats_of(pool).idle);
    gate_open(&g);
    assert_ptr_equal(&g, take(own));
    EVENTUALLY(stats_of(pool).workers == 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void its_thread_is_a_worker_with_a_higher_index(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    tpool *pool = new_pool(3);
    seen seen_there[3] = { 0 }, worker = { 0 };
    tpool_future *own[3];
    for (int i = 0; i < 3; i++) {
        seen_there[i].gate = &g;
        own[i] = long_running(pool, see, &seen_there[i]);
    }
    AWAIT_ARRIVALS(&g, 3);
    (void)take(submitted(pool, see, &worker)); /* the first worker, started later, has the first index */
    gate_open(&g);
    for (int i = 0; i < 3; i++) (void)take(own[i]);
    for (int i = 0; i < 3; i++) {
        assert_ptr_equal(pool, seen_there[i].pool);
        assert_in_range(seen_there[i].worker, 3, 5);
        for (int j = 0; j < i; j++) assert_int_not_equal(seen_there[i].worker, seen_there[j].worker);
    }
    assert_int_equal(0, worker.worker);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void in_a_huge_pool_the_index_is_not_huge(void **state) {
    (void)state;
    tpool *pool = new_pool(1000000);
    seen there = { 0 };
    (void)take(long_running(pool, see, &there));
    assert_int_equal(1024, there.worker);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

typedef struct hooks {
    atomic_int begun, ended;
    bool fails;
} hooks;
static bool begin(void *context) {
    hooks *h = (hooks *)context;
    atomic_fetch_add(&h->begun, 1);
    return !h->fails;
}
static void end(void *context) { atomic_fetch_add(&((hooks *)context)->ended, 1); }
static tpool *hooked_pool(hooks *h) {
    return new_pool_as((tpool_config){ .max_workers = 1, .initializer = begin, .finalizer = end, .context = h });
}

static void initializer_and_finalizer_run_on_it(void **state) {
    (void)state;
    hooks h = { 0 };
    gate g = GATE_CLOSED;
    tpool *pool = hooked_pool(&h);
    tpool_future *own = long_running_at(pool, &g);
    assert_int_equal(1, atomic_load(&h.begun));
    gate_open(&g);
    assert_ptr_equal(&g, take(own));
    EVENTUALLY(atomic_load(&h.ended) == 1);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(1, atomic_load(&h.begun));
}

static void its_initializer_that_fails_breaks_the_pool(void **state) {
    (void)state;
    hooks h = { .fails = true };
    tpool *pool = hooked_pool(&h);
    tpool_future *own = long_running(pool, nothing, NULL);
    assert_status(TPOOL_BROKEN, end_of(own));
    tpool_task task = { .fn = nothing, .long_running = true };
    assert_status(TPOOL_BROKEN, tpool_submit_task(pool, &task, NULL));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(0, atomic_load(&h.ended));
}

static void many_come_and_go(void **state) {
    (void)state;
    enum { rounds = 20, at_once = 8 };
    atomic_int runs = 0;
    tpool *pool = new_pool(2);
    for (int i = 0; i < rounds; i++) {
        tpool_future *own[at_once];
        for (int j = 0; j < at_once; j++) own[j] = long_running(pool, count_up, &runs);
        for (int j = 0; j < at_once; j++) assert_ptr_equal(&runs, take(own[j]));
    }
    assert_int_equal(rounds * at_once, atomic_load(&runs));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- What refuses it */

static void a_pool_of_processes_has_none(void **state) {
    (void)state;
    tpool *pool = NULL;
    tpool_config config = { .kind = TPOOL_PROCESSES, .max_workers = 1 };
    if (tpool_create(&pool, &config) != TPOOL_OK) skip(); /* unsupported, or it wants a tpool_main */
    tpool_task task = { .fn = nothing, .long_running = true };
    tpool_future *future = (tpool_future *)pool;
    assert_status(TPOOL_UNSUPPORTED, tpool_submit_task(pool, &task, &future));
    assert_null(future);
    assert_int_equal(0, stats_of(pool).submitted);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void without_a_function_it_is_a_held_task_like_others(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_task none = { .long_running = true };
    assert_status(TPOOL_INVALID, tpool_submit_task(pool, &none, NULL));
    none.delay_ns = 1;
    assert_null(take(submitted_task(pool, none)));
    assert_int_equal(0, stats_of(pool).workers);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_pool_that_takes_no_more_takes_none(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_task task = { .fn = nothing, .long_running = true };
    assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
    assert_status(TPOOL_SHUTDOWN, tpool_submit_task(pool, &task, NULL));
    assert_int_equal(0, stats_of(pool).submitted);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* No capacity bounds it, whatever the policy. */
static void a_full_queue_does_not_concern_it(void **state) {
    (void)state;
    for (int policy = TPOOL_FULL_BLOCK; policy <= TPOOL_FULL_DROP_OLDEST; policy++) {
        held_pool h;
        held_create(&h, &(tpool_config){ .queue_capacity = 1, .on_full = (tpool_full_policy)policy });
        tpool_future *queued = submitted(h.pool, nothing, NULL);
        seen there = { 0 };
        (void)take(long_running(h.pool, see, &there));
        assert_ptr_equal(h.pool, there.pool);
        tpool_task task = { .fn = see, .arg = &there, .long_running = true };
        tpool_future *within = NULL;
        assert_status(TPOOL_OK, tpool_submit_within(h.pool, &task, 0, &within));
        (void)take(within);
        assert_int_equal(1, stats_of(h.pool).queued);
        assert_int_equal(TPOOL_PENDING, tpool_future_state(queued));
        gate_open(&h.gate);
        (void)take(queued);
        held_destroy(&h);
    }
}

/* ---- Held first */

static void what_it_depends_on_comes_first(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *before = bare();
    seen there = { 0 };
    tpool_future *own = long_running_after(pool, see, &there, &before);
    assert_int_equal(1, stats_of(pool).held);
    assert_int_equal(1, stats_of(pool).workers); /* its thread is there, and waits */
    assert_int_equal(0, stats_of(pool).active);
    assert_status(TPOOL_TIMEOUT, tpool_drain(pool, 0));
    assert_int_equal(TPOOL_PENDING, tpool_future_state(own));
    complete(before);
    assert_ptr_equal(&there, take(own));
    assert_int_equal(1, there.worker);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_dependency_that_fails_cancels_it(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *before = NULL;
    atomic_int freed = 0;
    assert_status(TPOOL_OK, tpool_future_create(&before));
    tpool_future *own = submitted_task(pool, (tpool_task){ .fn = nothing,
                                                           .arg = &freed,
                                                           .arg_free = count_free,
                                                           .after = &before,
                                                           .after_count = 1,
                                                           .long_running = true });
    assert_status(TPOOL_OK, tpool_future_set_error(before, 7, "no"));
    const tpool_error *error = NULL;
    assert_status(TPOOL_CANCELLED, tpool_future_error(own, LIMIT, &error));
    assert_int_equal(7, error->code);
    assert_int_equal(1, atomic_load(&freed));
    EVENTUALLY(stats_of(pool).workers == 0); /* its thread has gone */
    tpool_future_release(own);
    tpool_future_release(before);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_delay_is_waited_for(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    int64_t from = tpool_now();
    seen there = { 0 };
    (void)take(
        submitted_task(pool, (tpool_task){ .fn = see, .arg = &there, .delay_ns = TPOOL_MS(10), .long_running = true }));
    assert_true(tpool_now() - from >= TPOOL_MS(10));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* Cancelled, expired, or cancelled with its pool, while it is held: its thread goes, and the program learns of it. */
static void what_is_held_can_be_cancelled(void **state) {
    (void)state;
    atomic_int freed = 0;
    tpool *pool = new_pool(1);
    tpool_task task = { .fn = nothing, .arg = &freed, .arg_free = count_free, .delay_ns = NEVER, .long_running = true };
    tpool_future *own = submitted_task(pool, task);
    assert_true(tpool_future_cancel(own));
    assert_status(TPOOL_CANCELLED, end_of(own));
    EVENTUALLY(stats_of(pool).workers == 0);
    task.timeout_ns = 1;
    assert_status(TPOOL_EXPIRED, end_of(submitted_task(pool, task)));
    EVENTUALLY(stats_of(pool).workers == 0);
    task.timeout_ns = 0;
    own = submitted_task(pool, task);
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT)); /* what waits for its time */
    assert_status(TPOOL_CANCELLED, end_of(own));
    assert_int_equal(3, atomic_load(&freed));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- A pause */

static void a_pause_holds_it(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    seen there[3] = { 0 };
    tpool_future *own[3];
    assert_status(TPOOL_OK, tpool_pause(pool));
    for (int i = 0; i < 3; i++) own[i] = long_running(pool, see, &there[i]);
    assert_true(tpool_future_cancel(own[1]));
    assert_status(TPOOL_CANCELLED, end_of(own[1]));
    EVENTUALLY(stats_of(pool).workers == 2); /* the threads that wait; that of the third has gone */
    assert_status(TPOOL_TIMEOUT, tpool_drain(pool, 0));
    assert_int_equal(0, atomic_load(&there[0].runs) + atomic_load(&there[2].runs));
    tpool_task task = { .fn = see, .arg = &there[1], .expires_ns = 1, .long_running = true };
    assert_status(TPOOL_EXPIRED, end_of(submitted_task(pool, task)));
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_ptr_equal(&there[0], take(own[0]));
    assert_ptr_equal(&there[2], take(own[2]));
    assert_int_equal(0, atomic_load(&there[1].runs));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_destroy_resumes_it(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    seen there = { 0 };
    assert_status(TPOOL_OK, tpool_pause(pool));
    tpool_future *own = long_running(pool, see, &there);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_ptr_equal(&there, take(own));
}

static void a_cancelling_shutdown_ends_it_in_a_pause(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    seen there = { 0 };
    assert_status(TPOOL_OK, tpool_pause(pool));
    tpool_future *own = long_running(pool, see, &there);
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_CANCEL_PENDING | TPOOL_WAIT));
    assert_status(TPOOL_CANCELLED, end_of(own));
    assert_int_equal(0, atomic_load(&there.runs));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- The end of the pool */

static tpool_status drain_it(void *context) { return tpool_drain((tpool *)context, TPOOL_FOREVER); }
static tpool_status destroy_it(void *context) { return tpool_destroy((tpool *)context); }
static tpool_status shut_it_down(void *context) { return tpool_shutdown((tpool *)context, TPOOL_WAIT); }

static void drain_and_destroy_wait_for_it(void **state) {
    (void)state;
    tpool_status (*const waits[])(void *) = { drain_it, shut_it_down, destroy_it };
    for (int i = 0; i < 3; i++) {
        gate g = GATE_CLOSED;
        tpool *pool = new_pool(1);
        tpool_future *own = long_running_at(pool, &g);
        background b;
        background_start(&b, waits[i], pool);
        background_await_block(&b);
        gate_open(&g);
        assert_status(TPOOL_OK, background_join(&b));
        assert_true(tpool_future_done(own));
        assert_ptr_equal(&g, take(own));
        if (i < 2) assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

static void a_stop_reaches_it(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++) {
        atomic_int begun = 0;
        tpool *pool = new_pool(1);
        tpool_task task = { .fn = wait_for_stop, .arg = &begun, .long_running = true };
        if (i == 2) task.run_limit_ns = TPOOL_MS(1);
        tpool_future *own = submitted_task(pool, task);
        EVENTUALLY(atomic_load(&begun) == 1);
        if (i == 0) tpool_future_request_stop(own);
        if (i == 1) assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_STOP_RUNNING));
        assert_ptr_equal(&begun, take(own));
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

static void a_shutdown_lets_what_is_held_by_futures_run(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *before = bare();
    seen there = { 0 };
    tpool_future *own = long_running_after(pool, see, &there, &before);
    assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
    complete(before);
    assert_ptr_equal(&there, take(own));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *detach(void *arg) {
    seen *s = (seen *)arg;
    s->detached = tpool_shutdown(tpool_current(), TPOOL_DETACH);
    return see(arg);
}
static void it_may_give_its_pool_up(void **state) {
    (void)state;
    static hooks h; /* the pool outlives the test */
    tpool *pool = hooked_pool(&h);
    seen there = { 0 };
    (void)take(long_running(pool, detach, &there));
    assert_status(TPOOL_OK, there.detached);
    EVENTUALLY(atomic_load(&h.ended) == 1);
#ifdef __linux__
    if (UNDER_TSAN) EVENTUALLY(threads_of_this_process() <= 2);
#endif
}

/* From one of its own pool's tasks, which is the last besides. */
static void *submit_one(void *arg) {
    seen *s = (seen *)arg;
    tpool_task task = { .fn = s->fn, .arg = arg, .long_running = true };
    s->status = tpool_submit_task(tpool_current(), &task, NULL);
    return arg;
}
static void a_task_may_submit_one(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    seen there = { .fn = see };
    (void)take(submitted(pool, submit_one, &there));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_status(TPOOL_OK, there.status);
    assert_int_equal(1, atomic_load(&there.runs));
    (void)take(long_running(pool, submit_one, &there)); /* and so may one that is long-running itself */
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_status(TPOOL_OK, there.status);
    assert_int_equal(2, atomic_load(&there.runs));
}

static void the_shared_pools_wait_for_it(void **state) {
    (void)state;
    seen there[2] = { { .fn = NULL }, { .fn = NULL } };
    tpool_future *own[2] = { long_running(tpool_high_level(), see, &there[0]),
                             long_running(tpool_low_level(), see, &there[1]) };
    assert_status(TPOOL_OK, tpool_dual_shutdown(0));
    assert_status(TPOOL_OK, tpool_dual_shutdown(TPOOL_WAIT));
    for (int i = 0; i < 2; i++) assert_ptr_equal(&there[i], take(own[i]));
}

/* ---- What it may do */

static void *wait_for(void *arg) {
    seen *s = (seen *)arg;
    s->status = tpool_future_result(s->wanted, s->gate ? LIMIT : TPOOL_FOREVER, NULL);
    return arg;
}
/* While it waits no spare worker comes for it, and none is needed. */
static void its_wait_needs_no_spare(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    tpool *pool = new_pool(1);
    seen waits[4];
    tpool_future *own[4], *wanted = held_at(pool, &g);
    for (int i = 0; i < 4; i++) {
        waits[i] = (seen){ .wanted = wanted };
        own[i] = long_running(pool, wait_for, &waits[i]);
    }
    tpool_future *queued = submitted(pool, nothing, NULL);
    EVENTUALLY(stats_of(pool).active == 5);
    assert_int_equal(TPOOL_PENDING, tpool_future_state(queued));
    gate_open(&g);
    for (int i = 0; i < 4; i++) (void)take(own[i]);
    for (int i = 0; i < 4; i++) assert_status(TPOOL_OK, waits[i].status);
    assert_null(take(queued));
    (void)take(wanted);
    assert_int_equal(0, stats_of(pool).spared);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void what_it_waits_for_may_run_on_its_thread(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    seen there = { 0 }, waits = { .wanted = submitted(h.pool, see, &there) };
    (void)take(long_running(h.pool, wait_for, &waits));
    assert_status(TPOOL_OK, waits.status);
    assert_int_equal(1, there.worker);
    assert_int_equal(1, stats_of(h.pool).inlined);
    tpool_future_release(waits.wanted);
    held_destroy(&h);
}

/* A worker that waits for it does not run it: it is in no queue. */
static void no_wait_runs_it_in_place(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    seen there = { 0 }, waits = { 0 };
    assert_status(TPOOL_OK, tpool_pause(pool));
    waits.wanted = long_running(pool, see, &there);
    tpool_future *waiter = submitted(pool, wait_for, &waits);
    assert_status(TPOOL_OK, tpool_resume(pool));
    (void)take(waiter);
    assert_status(TPOOL_OK, waits.status);
    assert_int_equal(1, there.worker);
    assert_int_equal(0, stats_of(pool).inlined);
    tpool_future_release(waits.wanted);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_circle_is_found(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    seen waits = { .gate = NULL };
    tpool_future *start = NULL;
    assert_status(TPOOL_OK, tpool_future_create(&start));
    tpool_task task = { .fn = wait_for, .arg = &waits, .after = &start, .after_count = 1, .long_running = true };
    waits.wanted = submitted_task(pool, task); /* itself */
    assert_status(TPOOL_OK, tpool_future_set_result(start, NULL));
    (void)take(tpool_future_retain(waits.wanted));
    assert_status(TPOOL_DEADLOCK, waits.status);
    tpool_future_release(waits.wanted);
    tpool_future_release(start);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *submit_many_here(void *arg) {
    enum { tasks = 200 };
    seen *s = (seen *)arg;
    tpool_future *futures[tasks];
    s->status = TPOOL_OK;
    for (int i = 0; i < tasks && s->status == TPOOL_OK; i++)
        s->status = tpool_submit(tpool_current(), count_up, &s->runs, &futures[i]);
    for (int i = 0; i < tasks; i++) {
        if (i % 2) (void)!tpool_future_result(futures[i], TPOOL_FOREVER, NULL);
        tpool_future_release(futures[i]);
    }
    return arg;
}
static void what_it_submits_runs_on_the_workers(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    seen there = { 0 };
    (void)take(long_running(pool, submit_many_here, &there));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT)); /* also what its thread has left behind */
    assert_status(TPOOL_OK, there.status);
    assert_int_equal(200, atomic_load(&there.runs));
    assert_works(pool);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *job_and_loop(void *arg) {
    seen *s = (seen *)arg;
    tpool_job job;
    tpool_fork(&job, count_up, &s->runs);
    s->status = tpool_for(tpool_current(), 0, 100, 1, count_range, &s->runs);
    (void)tpool_join(&job);
    return arg;
}
static void jobs_and_loops_work_in_it(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    seen there = { 0 };
    (void)take(long_running(pool, job_and_loop, &there));
    assert_status(TPOOL_OK, there.status);
    assert_int_equal(101, atomic_load(&there.runs));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* The end of its thread is that of the task, or of the try: the next one has another thread. */
static void *end_thread_twice(void *arg) {
    seen *s = (seen *)arg;
    (void)see(arg);
    if (atomic_load(&s->runs) < 3) end_here();
    return arg;
}
static void a_thread_that_ends_in_it_breaks_it(void **state) {
    (void)state;
    hooks h = { 0 };
    tpool *pool = hooked_pool(&h);
    seen there = { 0 };
    tpool_task task = { .fn = end_thread, .long_running = true };
    assert_status(TPOOL_BROKEN, end_of(submitted_task(pool, task)));
    task.retries = 1;
    assert_status(TPOOL_BROKEN, end_of(submitted_task(pool, task)));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    EVENTUALLY(atomic_load(&h.ended) == 3);
    assert_int_equal(2, stats_of(pool).failed);
    task.fn = end_thread_twice;
    task.arg = &there;
    task.retries = 5;
    assert_ptr_equal(&there, take(submitted_task(pool, task)));
    assert_int_equal(3, atomic_load(&there.runs));
    assert_works(pool);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(7, atomic_load(&h.begun)); /* with the worker */
    assert_int_equal(7, atomic_load(&h.ended));
}

/* ---- Again and again */

static void *run_thrice(void *arg) {
    seen *s = (seen *)arg;
    pthread_t before = s->thread;
    int n = atomic_load(&s->runs);
    if (n > 0 && !pthread_equal(before, pthread_self())) s->status = TPOOL_BROKEN;
    (void)see(arg);
    if (n == 2) tpool_last_run();
    return arg;
}
static void all_runs_are_on_one_thread(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    seen there = { 0 };
    tpool_task task = { .fn = run_thrice, .arg = &there, .period_ns = TPOOL_MS(1), .long_running = true };
    (void)take(submitted_task(pool, task));
    assert_int_equal(3, atomic_load(&there.runs));
    assert_status(TPOOL_OK, there.status);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_drain_and_a_destroy_end_between_two_runs(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    seen there = { 0 };
    tpool_task task = { .fn = see, .arg = &there, .period_ns = NEVER, .long_running = true };
    tpool_future *own = submitted_task(pool, task);
    EVENTUALLY(atomic_load(&there.runs) == 1);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(1, stats_of(pool).workers);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_status(TPOOL_CANCELLED, end_of(own));
}
static void *fail_twice(void *arg) {
    seen *s = (seen *)arg;
    (void)see(arg);
    return atomic_load(&s->runs) < 3 ? tpool_raise(1, "no") : arg;
}
static void it_is_tried_again(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    seen there = { 0 };
    tpool_task task = { .fn = fail_twice, .arg = &there, .retries = 5, .retry_ns = 1, .long_running = true };
    assert_ptr_equal(&there, take(submitted_task(pool, task)));
    assert_int_equal(3, atomic_load(&there.runs));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* Also in a pool that was shut down and has no worker: its own thread is there. */
static void it_is_tried_again_after_a_shutdown(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    tpool *pool = new_pool(1);
    seen there = { .gate = &g };
    tpool_task task = { .fn = fail_twice, .arg = &there, .retries = 5, .long_running = true };
    tpool_future *own = submitted_task(pool, task);
    AWAIT_ARRIVALS(&g, 1);
    assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
    gate_open(&g);
    assert_ptr_equal(&there, take(own));
    assert_int_equal(3, atomic_load(&there.runs));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* The next try is on another thread, while the one that has ended still passes the task on: it is none that could
   ask. */
static atomic_int told, freed;
static void count_told(const tpool_error *error, void *context) {
    (void)context;
    if (error->status == TPOOL_FAILED) atomic_fetch_add(&told, 1);
}
static void count_freed(void *bytes) {
    atomic_fetch_add(&freed, 1);
    free(bytes);
}
typedef struct two_tries {
    atomic_int runs;
    bool fails;
} two_tries;
static void *break_then_end(void *arg) {
    two_tries *t = (two_tries *)arg;
    if (atomic_fetch_add(&t->runs, 1) == 0) (void)end_thread(NULL);
    if (t->fails) return tpool_raise(1, "no");
    return tpool_return_owned(malloc(1), count_freed);
}
static void what_comes_after_a_try_that_ended_its_thread_is_told_and_freed(void **state) {
    (void)state;
    enum { ROUNDS = COUNT(400) };
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .on_failure = count_told });
    for (int i = 0; i < ROUNDS; i++) {
        two_tries t = { .fails = i % 2 != 0 };
        tpool_task task = { .fn = break_then_end, .arg = &t, .retries = 1, .long_running = true };
        assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
        assert_status(TPOOL_OK, tpool_drain(pool, TPOOL_FOREVER));
        assert_int_equal(2, atomic_load(&t.runs));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(ROUNDS / 2, atomic_load(&told));
    assert_int_equal(ROUNDS - ROUNDS / 2, atomic_load(&freed));
}

/* ---- Groups, iterators, what learns of its failure */

static void a_group_limits_and_cancels_it(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    tpool *pool = new_pool(1);
    tpool_group *group = NULL;
    assert_status(TPOOL_OK, tpool_group_create(&group, &(tpool_group_config){ .limit = 1, .waiter_runs = true }));
    seen there[3] = { { .gate = &g }, { .gate = NULL }, { .gate = NULL } };
    tpool_future *own[3];
    for (int i = 0; i < 3; i++) {
        tpool_task task = { .fn = see, .arg = &there[i], .group = group, .long_running = true };
        own[i] = submitted_task(pool, task);
        if (i == 0) AWAIT_ARRIVALS(&g, 1);
    }
    assert_int_equal(0, atomic_load(&there[1].runs)); /* in line for the permit */
    assert_true(tpool_future_cancel(own[1]));
    gate_open(&g);
    const tpool_error *error = NULL;
    assert_status(TPOOL_CANCELLED, tpool_group_wait(group, LIMIT, &error));
    assert_ptr_equal(&there[0], take(own[0]));
    assert_status(TPOOL_CANCELLED, end_of(own[1]));
    assert_ptr_equal(&there[2], take(own[2]));
    assert_int_equal(1, atomic_load(&there[2].runs));
    assert_true(there[2].worker >= 1); /* the waiter does not run it */
    atomic_int begun = 0;
    tpool_task task = { .fn = wait_for_stop, .arg = &begun, .group = group, .long_running = true };
    tpool_future *stopped = submitted_task(pool, task);
    EVENTUALLY(atomic_load(&begun) == 1);
    assert_status(TPOOL_OK, tpool_group_cancel(group)); /* which asks it to stop */
    assert_ptr_equal(&begun, take(stopped));
    (void)!tpool_group_destroy(group);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void count_failure(const tpool_error *error, void *context) {
    if (error->status == TPOOL_FAILED || error->status == TPOOL_EXPIRED) atomic_fetch_add((atomic_int *)context, 1);
}
static void *fail_there(void *arg) { return tpool_raise(1, "%s", arg ? "on purpose" : ""); }
static void on_failure_learns_of_one_that_nobody_holds(void **state) {
    (void)state;
    atomic_int failures = 0;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .on_failure = count_failure, .context = &failures });
    tpool_task task = { .fn = fail_there, .long_running = true };
    assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(1, atomic_load(&failures));
    task.delay_ns = NEVER;
    task.timeout_ns = 1;
    assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(2, atomic_load(&failures));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void an_iterator_gets_it(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_completions *completions = NULL;
    assert_status(TPOOL_OK, tpool_as_completed(NULL, 0, &completions));
    seen there[4];
    tpool_task tasks[4] = { { 0 } };
    for (int i = 0; i < 4; i++) {
        there[i] = (seen){ .gate = NULL };
        tasks[i] = (tpool_task){ .fn = see, .arg = &there[i], .completions = completions };
        tasks[i].long_running = i % 2;
    }
    size_t taken = 0;
    assert_status(TPOOL_OK, tpool_submit_many(pool, tasks, 4, NULL, &taken));
    assert_int_equal(4, taken);
    tpool_future *future = NULL;
    for (int i = 0; i < 4; i++) assert_status(TPOOL_OK, tpool_completions_next(completions, LIMIT, &future));
    assert_status(TPOOL_END, tpool_completions_next(completions, LIMIT, &future));
    for (int i = 0; i < 4; i++) assert_int_equal(i % 2, there[i].worker >= 1);
    tpool_completions_destroy(completions);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_limit_on_both_stops_it(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    atomic_int begun = 0;
    tpool_task task = { .fn = wait_for_stop, .arg = &begun, .long_running = true };
    tpool_future *own = NULL;
    tpool_status status = tpool_run_with_timeout(pool, &task, TPOOL_MS(1), &own), ended = end_of(own);
    assert_true(status == TPOOL_TIMEOUT || status == ended);    /* it may end just as it is asked to */
    assert_true(ended == TPOOL_OK || ended == TPOOL_CANCELLED); /* it had begun, or not */
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- What is seen of it */

typedef struct text {
    char bytes[4096];
    size_t size;
} text;
static bool keep(const char *bytes, size_t size, void *context) {
    text *t = (text *)context;
    if (t->size + size >= sizeof t->bytes) return false;
    memcpy(t->bytes + t->size, bytes, size);
    t->size += size;
    return true;
}
static bool is_described(tpool *pool, const char *what) {
    text t = { .size = 0 };
    assert_status(TPOOL_OK, tpool_describe(pool, keep, &t));
    return strstr(t.bytes, what) != NULL;
}
static void it_is_described(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .name = "own" });
    tpool_future *running =
        submitted_task(pool, (tpool_task){ .fn = gate_task, .arg = &g, .name = "listener", .long_running = true });
    AWAIT_ARRIVALS(&g, 1);
    EVENTUALLY(is_described(pool, "own_1 (long-running): task \"listener\""));
    tpool_future *held =
        submitted_task(pool, (tpool_task){ .fn = nothing, .name = "later", .delay_ns = NEVER, .long_running = true });
    EVENTUALLY(is_described(pool, "held for their time: \"later\" x 1"));
    EVENTUALLY(stats_of(pool).workers == 2);
    seen waits = { .wanted = running };
    tpool_future *waiter = long_running(pool, wait_for, &waits);
    EVENTUALLY(is_described(pool, "waits for task \"listener\""));
    assert_true(tpool_future_cancel(held));
    gate_open(&g);
    (void)take(waiter); /* first: it waits for the other future */
    (void)take(running);
    tpool_future_release(held);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

typedef struct events {
    pthread_mutex_t lock;
    unsigned kinds[32];
    unsigned count;
    int started_on;
} events;
static void note_event(const tpool_event *event, void *context) {
    events *e = (events *)context;
    pthread_mutex_lock(&e->lock);
    if (event->kind == TPOOL_EVENT_STARTED) e->started_on = event->worker;
    if (e->count < 32) e->kinds[e->count++] = event->kind;
    pthread_mutex_unlock(&e->lock);
}
static void the_observer_sees_it(void **state) {
    (void)state;
    events e = { .lock = PTHREAD_MUTEX_INITIALIZER };
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1,
                                              .observer = note_event,
                                              .context = &e,
                                              .observed = TPOOL_EVENT_SUBMITTED | TPOOL_EVENT_READY |
                                                          TPOOL_EVENT_STARTED | TPOOL_EVENT_ENDED });
    seen there = { 0 };
    (void)take(long_running(pool, see, &there));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    const unsigned expected[] = { TPOOL_EVENT_SUBMITTED, TPOOL_EVENT_READY, TPOOL_EVENT_STARTED, TPOOL_EVENT_ENDED };
    assert_int_equal(4, e.count);
    for (int i = 0; i < 4; i++) assert_int_equal(expected[i], e.kinds[i]);
    assert_int_equal(there.worker, e.started_on);
}

#if HAVE_FORK
/* ---- fork and exit */

static void child_of_one(void *context) {
    seen *s = (seen *)context;
    CHECK(tpool_current() == NULL);
    CHECK(tpool_current_worker() == -1);
    CHECK_STATUS(TPOOL_BROKEN, tpool_drain(s->pool, 0));
}
static void *fork_there(void *arg) {
    seen *s = (seen *)arg;
    (void)see(arg);
    pid_t child = fork();
    if (child == 0) {
        child_of_one(s);
        _exit(0);
    }
    int status = -1;
    if (child > 0 && waitpid(child, &status, 0) == child && status == 0) s->status = TPOOL_OK;
    else s->status = TPOOL_BROKEN;
    return arg;
}
static void a_child_of_it_is_no_worker(void **state) {
    (void)state;
    NO_PROCESSES();
    tpool *pool = new_pool(1);
    seen there = { 0 };
    (void)take(long_running(pool, fork_there, &there));
    assert_status(TPOOL_OK, there.status);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
#endif

static const struct CMUnitTest tests[] = {
    TEST(it_runs_beside_all_workers),
    TEST(it_starts_no_worker),
    TEST(its_thread_is_a_worker_with_a_higher_index),
    TEST(in_a_huge_pool_the_index_is_not_huge),
    TEST(initializer_and_finalizer_run_on_it),
    TEST(its_initializer_that_fails_breaks_the_pool),
    TEST(many_come_and_go),
    TEST(a_pool_of_processes_has_none),
    TEST(without_a_function_it_is_a_held_task_like_others),
    TEST(a_pool_that_takes_no_more_takes_none),
    TEST(a_full_queue_does_not_concern_it),
    TEST(what_it_depends_on_comes_first),
    TEST(a_dependency_that_fails_cancels_it),
    TEST(a_delay_is_waited_for),
    TEST(what_is_held_can_be_cancelled),
    TEST(a_pause_holds_it),
    TEST(a_destroy_resumes_it),
    TEST(a_cancelling_shutdown_ends_it_in_a_pause),
    TEST(drain_and_destroy_wait_for_it),
    TEST(a_stop_reaches_it),
    TEST(a_shutdown_lets_what_is_held_by_futures_run),
    TEST(it_may_give_its_pool_up),
    TEST(a_task_may_submit_one),
    TEST(its_wait_needs_no_spare),
    TEST(what_it_waits_for_may_run_on_its_thread),
    TEST(no_wait_runs_it_in_place),
    TEST(a_circle_is_found),
    TEST(what_it_submits_runs_on_the_workers),
    TEST(jobs_and_loops_work_in_it),
    TEST(a_thread_that_ends_in_it_breaks_it),
    TEST(all_runs_are_on_one_thread),
    TEST(a_drain_and_a_destroy_end_between_two_runs),
    TEST(it_is_tried_again),
    TEST(it_is_tried_again_after_a_shutdown),
    TEST(what_comes_after_a_try_that_ended_its_thread_is_told_and_freed),
    TEST(a_group_limits_and_cancels_it),
    TEST(on_failure_learns_of_one_that_nobody_holds),
    TEST(an_iterator_gets_it),
    TEST(a_limit_on_both_stops_it),
    TEST(it_is_described),
    TEST(the_observer_sees_it),
#if HAVE_FORK
    TEST(a_child_of_it_is_no_worker),
#endif
    TEST(the_shared_pools_wait_for_it),
};
RUN_TESTS(tests)
