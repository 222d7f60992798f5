/* Held tasks and the ends of pools and processes: drain, shutdown, destroy, detach, fork, pools of processes; and waits
   that would never end. */
#include "support.h"
#include "support/held.h"
#include "support/no_thread_leaks.h"
#if HAVE_FORK
#include "support/children.h"
#endif

/* A task that counts up once `first` is done. */
static void submit_held(tpool *pool, tpool_future *first, atomic_int *ran) {
    tpool_task task = after(count_up, ran, &first, 1, TPOOL_AFTER_DONE);
    assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
}

/* ---- The ends of a pool */
static void drain_waits_for_held_tasks(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *first = bare();
    atomic_int ran = 0;
    submit_held(pool, first, &ran);
    assert_status(TPOOL_TIMEOUT, tpool_drain(pool, TPOOL_MS(10)));
    complete(first);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(1, atomic_load(&ran));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void destroy_waits_for_what_dependencies_hold(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *first = bare();
    atomic_int ran = 0;
    submit_held(pool, first, &ran);
    background b;
    background_start(&b, (tpool_status(*)(void *))tpool_destroy, pool);
    background_await_block(&b);
    complete(first);
    assert_status(TPOOL_OK, background_join(&b));
    assert_int_equal(1, atomic_load(&ran));
}
static void shutdown_lets_what_dependencies_hold_run(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *first = bare();
    tpool_future *held = submitted_task(pool, after(nothing, pool, &first, 1, TPOOL_AFTER_DONE));
    assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
    tpool_task task = after(nothing, NULL, &first, 1, TPOOL_AFTER_DONE);
    assert_status(TPOOL_SHUTDOWN, tpool_submit_task(pool, &task, NULL));
    complete(first);
    assert_ptr_equal(pool, take(held));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void cancel_pending_cancels_all_that_is_held(void **state) {
    (void)state;
    tpool *pool = new_pool(1), *other = new_pool(1);
    tpool_future *first = bare(), *held[5];
    atomic_int freed = 0;
    for (int i = 0; i < 5; i++) {
        tpool_task task = after(i == 1 ? NULL : nothing, &freed, i ? &first : NULL, i ? 1 : 0, (tpool_after)(i % 3));
        task.arg_free = count_free;
        task.delay_ns = i == 0 || i == 2 ? TPOOL_SEC(1000) : 0;
        held[i] = submitted_task(pool, task);
    }
    tpool_future *next = submitted_task(other, after(nothing, pool, held, 5, TPOOL_AFTER_DONE));
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT | TPOOL_CANCEL_PENDING));
    assert_int_equal(5, atomic_load(&freed));
    for (int i = 0; i < 5; i++) assert_status(TPOOL_CANCELLED, end_of(held[i]));
    assert_ptr_equal(pool, take(next));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_status(TPOOL_OK, tpool_destroy(other));
    complete(first);
}
static void a_detached_pool_ends_after_its_held_tasks(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *first = bare();
    tpool_future *held = submitted_task(pool, after(nothing, &state, &first, 1, TPOOL_AFTER_DONE));
    tpool_future *timed = submitted_task(pool, (tpool_task){ .fn = nothing, .delay_ns = TPOOL_FOREVER });
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_DETACH));
    assert_status(TPOOL_CANCELLED, end_of(timed));
    sleep_ms(5);
    complete(first);
    assert_ptr_equal(&state, take(held));
}
static void a_failed_initializer_ends_held_tasks(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    atomic_int told = 0;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .initializer = pass_gate_and_fail, .context = &g });
    tpool_future *first = bare();
    tpool_future *held = submitted_task(pool, after(nothing, NULL, &first, 1, TPOOL_AFTER_DONE));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(held, count_callback, &told));
    gate_open(&g);
    assert_status(TPOOL_BROKEN, end_of(held));
    EVENTUALLY(atomic_load(&told) == 1);
    complete(first);
    tpool_task task = (tpool_task){ .fn = nothing, .delay_ns = 1 };
    assert_status(TPOOL_BROKEN, tpool_submit_task(pool, &task, NULL));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* A dependency lies in a pool that is being destroyed; and in one that is cancelled. */
static void a_dependency_in_a_pool_that_ends(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    for (int i = 0; i < 200; i++) {
        held_pool h;
        held_create(&h, NULL);
        tpool_future *queued = submitted(h.pool, nothing, NULL);
        tpool_future *held = submitted_task(pool, after(nothing, pool, &queued, 1, TPOOL_AFTER_SUCCESS));
        bool cancels = i % 2;
        if (cancels) assert_status(TPOOL_OK, tpool_shutdown(h.pool, TPOOL_CANCEL_PENDING));
        tpool_future_release(queued);
        held_destroy(&h);
        assert_status(cancels ? TPOOL_CANCELLED : TPOOL_OK, end_of(held));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void submits_held_to_its_own_pool(tpool_future *future, void *context) {
    tpool_task task = after(nothing, NULL, &future, 1, TPOOL_AFTER_DONE);
    assert_status(TPOOL_OK, tpool_submit_task((tpool *)context, &task, NULL));
}
static void a_callback_submits_after_its_future(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    gate g = GATE_CLOSED;
    tpool_future *holder = held_at(pool, &g);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(holder, submits_held_to_its_own_pool, pool));
    gate_open(&g);
    assert_status(TPOOL_OK, end_of(holder));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(2, stats_of(pool).completed);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* The task that holds it ends its thread. */
static void a_dependency_that_ends_its_thread(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    gate g = GATE_CLOSED;
    tpool_future *holder = held_at(pool, &g);
    tpool_future *ends = submitted(pool, end_thread, NULL);
    tpool_future *held = submitted_task(pool, after(nothing, NULL, &ends, 1, TPOOL_AFTER_SUCCESS));
    tpool_future *done = submitted_task(pool, after(end_thread, NULL, &ends, 1, TPOOL_AFTER_DONE));
    tpool_future *last = submitted_task(pool, after(nothing, pool, &done, 1, TPOOL_AFTER_DONE));
    gate_open(&g);
    const tpool_error *error = NULL;
    assert_status(TPOOL_CANCELLED, tpool_future_error(held, LIMIT, &error));
    assert_status(TPOOL_BROKEN, error->cause);
    assert_status(TPOOL_BROKEN, end_of(done));
    assert_ptr_equal(pool, take(last));
    tpool_future_release(held);
    tpool_future_release(ends);
    tpool_future_release(holder);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Waits that would never end */
typedef struct waits_on {
    gate gate;
    tpool_future *target;
    tpool_status status;
} waits_on;
static void *wait_on(void *arg) {
    waits_on *w = (waits_on *)arg;
    gate_pass(&w->gate);
    w->status = tpool_future_result(w->target, TPOOL_FOREVER, NULL);
    return NULL;
}
static void a_wait_for_ones_own_successor(void **state) {
    (void)state;
    tpool *pool = new_pool(1), *other = new_pool(1);
    for (int length = 1; length <= 100; length += 33) {
        waits_on w = { GATE_CLOSED, NULL, TPOOL_OK };
        tpool_future *waits = submitted(pool, wait_on, &w), *chain[100];
        for (int i = 0; i < length; i++)
            chain[i] = submitted_task(i % 2 ? other : pool, after(nothing, pool, i ? &chain[i - 1] : &waits, 1,
                                                                  i % 3 ? TPOOL_AFTER_SUCCESS : TPOOL_AFTER_DONE));
        w.target = chain[length - 1];
        gate_open(&w.gate);
        assert_status(TPOOL_OK, end_of(waits));
        assert_status(TPOOL_DEADLOCK, w.status);
        for (int i = 0; i < length; i++) assert_ptr_equal(pool, take(chain[i]));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_status(TPOOL_OK, tpool_destroy(other));
}
/* Over another task that waits: first waits for what second holds, second for first. */
static void a_cycle_over_a_held_task_and_a_wait(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    for (int round = 0; round < 200; round++) {
        waits_on first = { GATE_CLOSED, NULL, TPOOL_OK }, second = { GATE_CLOSED, NULL, TPOOL_OK };
        tpool_future *a = submitted(pool, wait_on, &first), *b = submitted(pool, wait_on, &second);
        tpool_future *held = submitted_task(pool, after(nothing, pool, &b, 1, TPOOL_AFTER_DONE));
        first.target = held;
        second.target = a;
        gate_open(&first.gate);
        gate_open(&second.gate);
        assert_status(TPOOL_OK, tpool_future_result(a, LIMIT, NULL));
        assert_status(TPOOL_OK, end_of(b));
        tpool_future_release(a);
        assert_true((first.status == TPOOL_DEADLOCK) != (second.status == TPOOL_DEADLOCK)); /* the one that closes it */
        assert_ptr_equal(pool, take(held));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* A diamond of many paths is no cycle, and searching it takes no time. */
static void many_paths_are_searched_once(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *first = bare(), *pair[2] = { first, first };
    enum { DEEP = 200 };
    static tpool_future *all[DEEP][2];
    for (int i = 0; i < DEEP; i++) {
        for (int k = 0; k < 2; k++) all[i][k] = submitted_task(pool, after(nothing, pool, pair, 2, TPOOL_AFTER_DONE));
        for (int k = 0; k < 2; k++) pair[k] = all[i][k];
    }
    waits_on w = { GATE_CLOSED, all[DEEP - 1][0], TPOOL_DEADLOCK };
    tpool_future *waits = submitted(pool, wait_on, &w);
    gate_open(&w.gate);
    EVENTUALLY(stats_of(pool).workers == 1 && stats_of(pool).queued == 0);
    sleep_ms(20);
    complete(first);
    assert_status(TPOOL_OK, end_of(waits));
    assert_status(TPOOL_OK, w.status);
    for (int i = 0; i < DEEP; i++)
        for (int k = 0; k < 2; k++) assert_ptr_equal(pool, take(all[i][k]));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* A worker of the only one that waits for a held task runs what frees it. */
static void *wait_for_target(void *arg) {
    void *value = NULL;
    return tpool_future_result((tpool_future *)arg, TPOOL_FOREVER, &value) == TPOOL_OK ? value : NULL;
}
static void a_held_task_is_not_run_in_place(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    tpool_future *first = bare();
    tpool_future *held = submitted_task(h.pool, after(nothing, &h, &first, 1, TPOOL_AFTER_DONE));
    tpool_future *waits = submitted(h.pool, wait_for_target, held);
    gate_open(&h.gate);
    assert_status(TPOOL_TIMEOUT, tpool_future_result(waits, TPOOL_MS(20), NULL));
    assert_int_equal(TPOOL_PENDING, tpool_future_state(held));
    complete(first);
    assert_ptr_equal(&h, take(waits));
    assert_ptr_equal(&h, take(held));
    held_destroy(&h);
}

/* ---- Fork, processes */
#if HAVE_FORK
typedef struct inherited {
    tpool *pool;
    tpool_future *first, *held;
} inherited;
static void look_in_child(void *context) {
    inherited *i = (inherited *)context;
    tpool *pool = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_create(&pool, NULL));
    tpool_task task = after(nothing, pool, &i->first, 1, TPOOL_AFTER_DONE);
    CHECK_STATUS(TPOOL_BROKEN, tpool_submit_task(pool, &task, NULL)); /* the parent's, and pending */
    task.after = &i->held;
    CHECK_STATUS(TPOOL_BROKEN, tpool_submit_task(pool, &task, NULL));
    CHECK_STATUS(TPOOL_BROKEN, tpool_submit_task(i->pool, &task, NULL));
    CHECK(!tpool_future_cancel(i->held));
    CHECK_STATUS(TPOOL_BROKEN, tpool_future_result(i->held, TPOOL_FOREVER, NULL));
    tpool_future *own = NULL, *held = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&own));
    task.after = &own;
    task.delay_ns = TPOOL_MS(1);
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, &held)); /* its own work as ever */
    CHECK_STATUS(TPOOL_OK, tpool_future_set_result(own, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_future_result(held, TPOOL_FOREVER, NULL));
    tpool_future_release(held);
    tpool_future_release(own);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
}
static void a_child_of_fork(void **state) {
    (void)state;
    if (UNDER_TSAN) skip();
    inherited i = { new_pool(1), bare(), NULL };
    i.held = submitted_task(i.pool, after(nothing, NULL, &i.first, 1, TPOOL_AFTER_DONE));
    in_child(look_in_child, &i);
    complete(i.first);
    assert_status(TPOOL_OK, end_of(i.held));
    assert_status(TPOOL_OK, tpool_destroy(i.pool));
}
static void *dependency_there(void *arg) {
    (void)arg;
    return (void *)(intptr_t)(tpool_dependency(0) == NULL ? 1 : 0);
}
/* A worker whose process has died gets another one for what is held, though the pool is shut down. */
static void a_shut_pool_of_processes_waits_for_what_is_held(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    tpool_future *gate = bare(), *first = bare();
    tpool_future *dies = submitted_task(pool, after(aborts, NULL, &gate, 1, TPOOL_AFTER_SUCCESS));
    tpool_future *held = submitted_task(pool, after(nothing, NULL, &first, 1, TPOOL_AFTER_SUCCESS));
    assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
    complete(gate);
    assert_status(TPOOL_BROKEN, end_of(dies));
    assert_status(TPOOL_TIMEOUT, tpool_future_result(held, TPOOL_MS(100), NULL));
    complete(first);
    assert_status(TPOOL_OK, end_of(held));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_held_task_keeps_no_process_for_good(void **state) {
    (void)state;
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .max_tasks_per_worker = 1 });
    tpool_future *first = bare();
    tpool_future *held = submitted_task(pool, after(nothing, NULL, &first, 1, TPOOL_AFTER_SUCCESS));
    intptr_t one = value_of(pool, getpid_task), two = value_of(pool, getpid_task), three = value_of(pool, getpid_task);
    assert_true(one != two && two != three);
    complete(first);
    assert_status(TPOOL_OK, end_of(held));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void in_a_pool_of_processes(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    tpool_future *first = bare();
    tpool_future *held = submitted_task(pool, after(dependency_there, NULL, &first, 1, TPOOL_AFTER_SUCCESS));
    tpool_future *dies = submitted_task(pool, after(aborts, NULL, &held, 1, TPOOL_AFTER_SUCCESS));
    tpool_future *next = submitted_task(pool, after(nothing, NULL, &dies, 1, TPOOL_AFTER_SUCCESS));
    tpool_future *last = submitted_task(pool, after(nothing, NULL, &next, 1, TPOOL_AFTER_DONE));
    tpool_future *timed = submitted_task(pool, (tpool_task){ .fn = nothing, .delay_ns = TPOOL_MS(5) });
    assert_int_equal(5, stats_of(pool).held);
    complete(first);
    assert_int_equal(1, (intptr_t)take(held));
    const tpool_error *error = NULL;
    assert_status(TPOOL_CANCELLED, tpool_future_error(next, LIMIT, &error)); /* its dependency's process has died */
    assert_status(TPOOL_BROKEN, error->cause);
    assert_int_equal(-SIGABRT, error->code);
    assert_status(TPOOL_OK, end_of(last));
    assert_status(TPOOL_OK, end_of(timed));
    assert_status(TPOOL_BROKEN, end_of(dies));
    tpool_future_release(next);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(drain_waits_for_held_tasks),
        TEST(destroy_waits_for_what_dependencies_hold),
        TEST(shutdown_lets_what_dependencies_hold_run),
        TEST(cancel_pending_cancels_all_that_is_held),
        TEST(a_detached_pool_ends_after_its_held_tasks),
        TEST(a_failed_initializer_ends_held_tasks),
        TEST(a_dependency_in_a_pool_that_ends),
        TEST(a_callback_submits_after_its_future),
        TEST(a_dependency_that_ends_its_thread),
        TEST(a_wait_for_ones_own_successor),
        TEST(a_cycle_over_a_held_task_and_a_wait),
        TEST(many_paths_are_searched_once),
        TEST(a_held_task_is_not_run_in_place),
#if HAVE_FORK
        TEST(a_child_of_fork),
        TEST(in_a_pool_of_processes),
        TEST(a_shut_pool_of_processes_waits_for_what_is_held),
        TEST(a_held_task_keeps_no_process_for_good),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
