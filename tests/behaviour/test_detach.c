/* tpool_shutdown with TPOOL_DETACH: the handle is given up, and the pool frees itself when its work is done. Finalizers
   tell that it has ended; tests/internals/white_faults.c tells that all its memory is given back. */
#include "support.h"
#if HAVE_FORK
#include "support/children.h"
#endif

static void *nothing_owned(void *arg) { return tpool_return_owned(arg, count_free); }
static bool count_begin(void *context) {
    atomic_fetch_add((atomic_int *)context, 1);
    return true;
}
static void count_end(void *context) { atomic_fetch_sub((atomic_int *)context, 1); }

/* A pool that counts its workers. An initializer that is late counts after the test: the count must be static. */
static tpool *counting_pool(tpool_config config, atomic_int *workers) {
    config.initializer = count_begin;
    config.finalizer = count_end;
    config.context = workers;
    return new_pool_as(config);
}
/* What a test has detached ends after it: at exit ThreadSanitizer would take its threads for lost that are still to be
   joined. */
static int threads_before;
static int note_threads(void **state) {
    (void)state;
    threads_before = threads_of_this_process();
    if (threads_before < 2) threads_before = 2; /* the sanitizer starts one with the first */
    return 0;
}
static int await_threads(void **state) {
    (void)state;
    if (UNDER_TSAN) EVENTUALLY(threads_of_this_process() <= threads_before);
    return 0;
}

static tpool_status detach(tpool *pool) { return tpool_shutdown(pool, TPOOL_DETACH); }

static void a_detached_pool_finishes_its_work_and_ends(void **state) {
    (void)state;
    enum { tasks = 100 };
    for (int workers = 1; workers <= 3; workers += 2) {
        gate g = GATE_CLOSED;
        static atomic_int alive;
        atomic_int runs = 0;
        tpool *pool = counting_pool((tpool_config){ .max_workers = workers }, &alive);
        tpool_future *holder = held_at(pool, &g), *futures[tasks];
        for (int i = 0; i < tasks; i++) futures[i] = submitted(pool, count_up, &runs);
        assert_status(TPOOL_OK, detach(pool)); /* at once, though the work is held */
        gate_open(&g);
        for (int i = 0; i < tasks; i++) assert_ptr_equal(&runs, take(futures[i]));
        EVENTUALLY(atomic_load(&alive) == 0);
        assert_int_equal(tasks, atomic_load(&runs));
        assert_ptr_equal(&g, take(holder)); /* futures outlive the pool */
    }
}

static void an_idle_pool_and_one_without_workers_end_too(void **state) {
    (void)state;
    static atomic_int alive;
    assert_status(TPOOL_OK, detach(new_pool(2)));
    tpool *pool = counting_pool((tpool_config){ .max_workers = 2 }, &alive);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 2));
    EVENTUALLY(atomic_load(&alive) == 2);
    assert_status(TPOOL_OK, detach(pool));
    EVENTUALLY(atomic_load(&alive) == 0);
}

/* ---- From inside. */

typedef struct inside {
    tpool *pool;
    unsigned flags;
    atomic_int later;
    tpool_status detached, again, submitted, drained, destroyed, waited;
} inside;
static void detach_inside(inside *i) {
    i->detached = tpool_shutdown(i->pool, TPOOL_DETACH | i->flags);
    i->again = tpool_shutdown(i->pool, TPOOL_DETACH);
    i->submitted = tpool_submit(i->pool, nothing, NULL, NULL);
    i->drained = tpool_drain(i->pool, TPOOL_FOREVER);
    i->destroyed = tpool_destroy(i->pool);
    i->waited = tpool_shutdown(i->pool, TPOOL_WAIT);
}
static void check_inside(const inside *i) {
    assert_status(TPOOL_OK, i->detached);
    assert_status(TPOOL_OK, i->again);
    assert_status(TPOOL_SHUTDOWN, i->submitted);
    assert_status(TPOOL_DEADLOCK, i->drained);
    assert_status(TPOOL_DEADLOCK, i->destroyed);
    assert_status(TPOOL_DEADLOCK, i->waited);
}
static void *detach_in_task(void *arg) {
    inside *i = arg;
    tpool_status status = TPOOL_OK;
    for (int n = 0; n < 10 && status == TPOOL_OK; n++) status = tpool_submit(i->pool, count_up, &i->later, NULL);
    detach_inside(i);
    return arg;
}
static void detach_in_callback(tpool_future *future, void *context) {
    (void)future;
    detach_inside(context);
}
static void detach_in_free(void *arg) { detach_inside(arg); }

static void its_own_tasks_callbacks_and_frees_may_detach_it(void **state) {
    (void)state;
    for (int way = 0; way < 3; way++)
        for (int workers = 1; workers <= 2; workers++) {
            gate g = GATE_CLOSED;
            static atomic_int alive;
            inside i = { .pool = counting_pool((tpool_config){ .max_workers = workers }, &alive) };
            tpool_future *holder = held_at(i.pool, &g);
            tpool_task task = { .fn = way ? nothing : detach_in_task, .arg = &i };
            if (way == 2) task.arg_free = detach_in_free;
            tpool_future *future = submitted_task(i.pool, task);
            if (way == 1) assert_status(TPOOL_OK, tpool_future_add_done_callback(future, detach_in_callback, &i));
            gate_open(&g);
            assert_ptr_equal(&i, take(future));
            EVENTUALLY(atomic_load(&alive) == 0);
            check_inside(&i);
            assert_int_equal(way ? 0 : 10, atomic_load(&i.later));
            (void)take(holder);
        }
}

/* The callback runs in the thread that cancels, and the pool stays until it has returned. */
static gate outside_gate = GATE_CLOSED;
static atomic_int outside_alive;
static void detach_and_outlast_the_work(tpool_future *future, void *context) {
    detach_in_callback(future, context);
    gate_open(&outside_gate);
    EVENTUALLY(atomic_load(&outside_alive) == 0);
    (void)stats_of(((inside *)context)->pool);
}
static void a_cancelled_tasks_callback_outside_may_detach_it(void **state) {
    (void)state;
    inside i = { .pool = counting_pool((tpool_config){ .max_workers = 1 }, &outside_alive) };
    tpool_future *holder = held_at(i.pool, &outside_gate), *queued = submitted(i.pool, nothing, NULL);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(queued, detach_and_outlast_the_work, &i));
    assert_true(tpool_future_cancel(queued));
    check_inside(&i);
    tpool_future_release(queued);
    tpool_future_release(holder);
}

/* ---- With other flags, and where it is refused. */

static void it_adds_to_the_other_flags(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    static atomic_int alive;
    inside i = { .pool = counting_pool((tpool_config){ .max_workers = 1 }, &alive), .flags = TPOOL_CANCEL_PENDING };
    tpool_future *holder = held_at(i.pool, &g), *detaches = submitted(i.pool, detach_in_task, &i);
    tpool_future *queued = submitted(i.pool, nothing, NULL);
    gate_open(&g);
    assert_ptr_equal(&i, take(detaches));
    EVENTUALLY(atomic_load(&alive) == 0);
    check_inside(&i);
    assert_status(TPOOL_CANCELLED, end_of(queued));
    assert_int_equal(0, atomic_load(&i.later));
    (void)take(holder);
}

static void *until_stopped(void *arg) {
    gate_pass((gate *)arg);
    while (!tpool_stop_requested()) sleep_ms(1);
    return arg;
}
static void what_runs_is_asked_to_stop_with_the_flag_for_it(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    gate_open(&g);
    static atomic_int alive;
    tpool *pool = counting_pool((tpool_config){ .max_workers = 1 }, &alive);
    tpool_future *running = submitted(pool, until_stopped, &g);
    AWAIT_ARRIVALS(&g, 1);
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_DETACH | TPOOL_STOP_RUNNING));
    (void)take(running);
    EVENTUALLY(atomic_load(&alive) == 0);
}

static void a_pool_that_is_shut_down_already_can_be_detached(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    static atomic_int alive;
    tpool *pool = counting_pool((tpool_config){ .max_workers = 1 }, &alive);
    tpool_future *holder = held_at(pool, &g), *queued = submitted(pool, nothing, NULL);
    assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
    assert_status(TPOOL_OK, detach(pool));
    gate_open(&g);
    assert_status(TPOOL_OK, end_of(queued));
    EVENTUALLY(atomic_load(&alive) == 0);
    (void)take(holder);
}

static void a_paused_pool_is_resumed(void **state) {
    (void)state;
    static atomic_int alive;
    tpool *pool = counting_pool((tpool_config){ .max_workers = 1 }, &alive);
    assert_status(TPOOL_OK, tpool_pause(pool));
    tpool_future *queued = submitted(pool, nothing, NULL);
    assert_status(TPOOL_OK, detach(pool));
    assert_status(TPOOL_OK, end_of(queued));
    EVENTUALLY(atomic_load(&alive) == 0);
}

static tpool_status submit_one(void *context) { return tpool_submit(context, nothing, NULL, NULL); }
static tpool_status drain_it(void *context) { return tpool_drain(context, TPOOL_FOREVER); }
static void who_waits_in_it_leaves_before_it_is_freed(void **state) {
    (void)state;
    static background submitter, drainer;
    gate g = GATE_CLOSED;
    static atomic_int alive;
    tpool *pool = counting_pool((tpool_config){ .max_workers = 1, .queue_capacity = 1 }, &alive);
    tpool_future *holder = held_at(pool, &g);
    assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
    background_start(&submitter, submit_one, pool);
    background_start(&drainer, drain_it, pool);
    background_await_block(&submitter);
    background_await_block(&drainer);
    assert_status(TPOOL_OK, detach(pool));
    assert_status(TPOOL_SHUTDOWN, background_join(&submitter));
    gate_open(&g);
    assert_status(TPOOL_OK, background_join(&drainer));
    EVENTUALLY(atomic_load(&alive) == 0);
    (void)take(holder);
}

static void where_it_is_refused_nothing_changes(void **state) {
    (void)state;
    tpool *pool = new_pool(1), *managed = NULL;
    assert_status(TPOOL_INVALID, tpool_shutdown(pool, TPOOL_DETACH | TPOOL_WAIT));
    assert_status(TPOOL_INVALID, detach(NULL));
    (void)take(submitted(pool, nothing, NULL));
    assert_status(TPOOL_OK, detach(pool));
    assert_status(TPOOL_INVALID_STATE, detach(tpool_high_level()));
    assert_status(TPOOL_INVALID_STATE, detach(tpool_low_level()));
    (void)take(submitted(tpool_low_level(), nothing, NULL));
    assert_status(TPOOL_INVALID, tpool_dual_shutdown(TPOOL_DETACH));
    assert_status(TPOOL_OK, tpool_manager_get(NULL, 1, TPOOL_THREADS, 0, &managed));
    assert_status(TPOOL_INVALID_STATE, detach(managed));
    (void)take(submitted(managed, nothing, NULL));
    assert_status(TPOOL_OK, tpool_manager_release(NULL, managed));
}

/* ---- Threads that end. */

static void *detach_and_end_thread(void *arg) {
    inside *i = arg;
    i->detached = tpool_shutdown(i->pool, TPOOL_DETACH);
    return end_thread(NULL);
}
static void a_task_may_detach_it_and_end_its_thread(void **state) {
    (void)state;
    static atomic_int alive;
    inside i = { .pool = counting_pool((tpool_config){ .max_workers = 2 }, &alive) };
    assert_status(TPOOL_BROKEN, end_of(submitted(i.pool, detach_and_end_thread, &i)));
    EVENTUALLY(atomic_load(&alive) == 0);
    assert_status(TPOOL_OK, i.detached);
}

static void *cancel_and_detach(void *arg) {
    (void)tpool_shutdown(arg, TPOOL_DETACH | TPOOL_CANCEL_PENDING);
    fail_msg("the shutdown returned");
    return NULL;
}
static void end_thread_in_callback(tpool_future *future, void *context) {
    (void)future;
    (void)end_thread(context);
}
static void it_is_detached_though_a_callback_of_the_shutdown_ends_the_thread(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    static atomic_int alive;
    tpool *pool = counting_pool((tpool_config){ .max_workers = 1 }, &alive);
    tpool_future *holder = held_at(pool, &g), *queued = submitted(pool, nothing, NULL);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(queued, end_thread_in_callback, NULL));
    in_own_thread(cancel_and_detach, pool);
    gate_open(&g);
    EVENTUALLY(atomic_load(&alive) == 0);
    assert_status(TPOOL_CANCELLED, end_of(queued));
    (void)take(holder);
}

/* ---- Many, beside each other. */
static void *detach_and_return(void *arg) {
    inside *i = arg;
    i->detached = tpool_shutdown(i->pool, TPOOL_DETACH);
    return arg;
}
static void many_pools_may_be_detached_at_once(void **state) {
    (void)state;
    enum { pools = 100 };
    static inside all[pools];
    static atomic_int alive, freed;
    for (int n = 0; n < pools; n++) {
        all[n].pool = counting_pool((tpool_config){ .max_workers = 1 + n % 3 }, &alive);
        assert_status(TPOOL_OK, tpool_submit(all[n].pool, n % 2 ? detach_and_return : nothing_owned,
                                             n % 2 ? (void *)&all[n] : (void *)&freed, NULL));
        if (n % 2 == 0) assert_status(TPOOL_OK, detach(all[n].pool));
    }
    EVENTUALLY(atomic_load(&freed) == pools / 2);
    EVENTUALLY(atomic_load(&alive) == 0);
}

#if HAVE_FORK
static void use_in_child(void *context) { CHECK_STATUS(TPOOL_BROKEN, tpool_shutdown(context, TPOOL_DETACH)); }
static void a_child_has_no_part_in_it(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    static atomic_int alive;
    tpool *pool = counting_pool((tpool_config){ .max_workers = 1 }, &alive);
    in_child(use_in_child, pool);
    tpool_future *holder = held_at(pool, &g);
    assert_status(TPOOL_OK, detach(pool));
    in_child(use_in_child, pool); /* while the thread that frees it waits */
    gate_open(&g);
    EVENTUALLY(atomic_load(&alive) == 0);
    (void)take(holder);
}

static void *process_id(void *arg) {
    (void)arg;
    pid_t id = getpid();
    return tpool_return(&id, sizeof id);
}
static void a_pool_of_processes_ends_its_workers(void **state) {
    (void)state;
    tpool *pool = NULL;
    tpool_config config = { .kind = TPOOL_PROCESSES, .max_workers = 1 };
    tpool_status status = tpool_create(&pool, &config);
    if (status == TPOOL_UNSUPPORTED) return;
    assert_status(TPOOL_OK, status);
    tpool_future *future = submitted(pool, process_id, NULL);
    assert_status(TPOOL_OK, detach(pool));
    void *id = NULL;
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &id));
    EVENTUALLY(kill(*(pid_t *)id, 0) != 0);
    tpool_future_release(future);
}
#endif

#define T(name) cmocka_unit_test_setup_teardown(name, note_threads, await_threads)
static const struct CMUnitTest tests[] = {
    T(a_detached_pool_finishes_its_work_and_ends),
    T(an_idle_pool_and_one_without_workers_end_too),
    T(its_own_tasks_callbacks_and_frees_may_detach_it),
    T(a_cancelled_tasks_callback_outside_may_detach_it),
    T(it_adds_to_the_other_flags),
    T(what_runs_is_asked_to_stop_with_the_flag_for_it),
    T(a_pool_that_is_shut_down_already_can_be_detached),
    T(a_paused_pool_is_resumed),
    T(who_waits_in_it_leaves_before_it_is_freed),
    TEST(where_it_is_refused_nothing_changes), /* which leaves shared pools */
    T(a_task_may_detach_it_and_end_its_thread),
    T(it_is_detached_though_a_callback_of_the_shutdown_ends_the_thread),
    T(many_pools_may_be_detached_at_once),
#if HAVE_FORK
    T(a_child_has_no_part_in_it),
    T(a_pool_of_processes_ends_its_workers),
#endif
};
RUN_TESTS(tests)
