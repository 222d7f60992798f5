/* Part of white_processes: what one item leaves to the next, and limits and ends of other items and tasks. */
#include "processes.h"

/* --- what one item leaves to the next */

enum { INITIALIZER_MS = SLOW_TOOL ? 5000 : 2000 }; /* longer than an item may take */
static bool slow_after_the_first(void *context) {
    if (atomic_fetch_add(&all->begun, 1) > 0) sleep_ms(INITIALIZER_MS);
    return context == NULL;
}
static void *aborts_as_the_first(void *item, void *context) {
    (void)context;
    if (*(int *)item == 0) abort();
    return NULL;
}
static void a_slow_initializer_does_not_cost_the_next_items_their_time(void **state) {
    (void)state;
    int items[] = { 0, 1, 2 };
    tpool_map_iter *iter = NULL;
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .initializer = slow_after_the_first });
    tpool_map_spec spec = { .fn = aborts_as_the_first,
                            .items = items,
                            .count = 3,
                            .stride = sizeof(int),
                            .item_size = sizeof(int),
                            .chunk_size = 3,
                            .run_limit_ns = TPOOL_MS(INITIALIZER_MS - 500) };
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    assert_status(TPOOL_BROKEN, tpool_map_next(iter, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, NULL));
    tpool_map_close(iter);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static bool hangs_after_the_first(void *context) {
    while (atomic_load(&all->begun) > 0) sleep_ms(10);
    atomic_fetch_add(&all->begun, 1);
    return context == NULL;
}
static void an_initializer_that_hangs_does_not_hold_up_items_for_ever(void **state) {
    (void)state;
    int items[] = { 0, 1, 2, 3 };
    tpool_map_iter *iter = NULL;
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .initializer = hangs_after_the_first });
    assert_status(TPOOL_OK, end_of(submitted(pool, getpid_task, NULL)));
    hang_ms = 500;
    tpool_map_spec spec = { .fn = aborts_as_the_first,
                            .items = items,
                            .count = 4,
                            .stride = sizeof(int),
                            .item_size = sizeof(int),
                            .chunk_size = 4,
                            .run_limit_ns = TPOOL_MS(100) };
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    for (int i = 0; i < 4; i++) assert_status(TPOOL_BROKEN, tpool_map_next(iter, TPOOL_SEC(20), NULL));
    assert_status(TPOOL_END, tpool_map_next(iter, LIMIT, NULL));
    tpool_map_close(iter);
    atomic_store(&all->begun, 0);
    hang_ms = 60000;
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* Each process that a limit kills leaves the next one more time. */
static bool takes_2500_ms(void *context) {
    atomic_fetch_add(&all->begun, 1);
    sleep_ms(2500);
    return context == NULL;
}
static void limits_do_not_kill_each_process_that_starts_slowly(void **state) {
    (void)state;
    hang_ms = 300;
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .initializer = takes_2500_ms });
    tpool_status status = TPOOL_BROKEN;
    for (int tasks = 0; status == TPOOL_BROKEN && tasks < 12; tasks++)
        status = end_of(submitted_task(pool, (tpool_task){ .fn = getpid_task, .run_limit_ns = TPOOL_MS(20) }));
    assert_status(TPOOL_OK, status);
    assert_true(atomic_load(&all->begun) > 1); /* the first was killed */
    hang_ms = 60000;
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* For a chunk the system is asked for a while, not for a while for each item; then once more, before the next task. */
static void a_process_that_is_refused_is_asked_for_once_for_a_chunk(void **state) {
    (void)state;
    enum { ITEMS = 8, REFUSED = 1000000, FOR_A_WHILE = 6 };
    int items[ITEMS];
    for (int i = 0; i < ITEMS; i++) items[i] = i;
    tpool *pool = process_pool(1);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 1));
    atomic_store(&all->refused, REFUSED);
    tpool_map_iter *iter = map_over_ints(pool, aborts_as_the_first, items, ITEMS, ITEMS);
    for (int i = 0; i < ITEMS; i++) assert_status(TPOOL_BROKEN, tpool_map_next(iter, LIMIT, NULL));
    tpool_map_close(iter);
    assert_in_range(REFUSED - atomic_load(&all->refused), FOR_A_WHILE, 3 * FOR_A_WHILE);
    atomic_store(&all->refused, 0);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- limits and ends of others */

/* A worker that is to be killed, by a server that stands still, holds up the next task no longer than that permits. */
static void a_run_limit_holds_while_the_last_process_is_awaited(void **state) {
    (void)state;
    SKIP_UNDER_TSAN(); /* this thread stands in for the proxy, which sleeps */
    tpool *pool = process_pool(1);
    tpool_task task = { .fn = getpid_task, .run_limit_ns = TPOOL_MS(100) };
    assert_status(TPOOL_OK, tpool_warm_up(pool, 1));
    tpool__child *child = tpool__child_of(tpool__first_worker(pool));
    assert_int_equal(0, kill(tpool__server_of(pool)->pid, SIGSTOP));
    int64_t begin = tpool_now();
    tpool__worker *worker = tpool__first_worker(pool);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    tpool__lock(&child->lock);
    tpool__child_kill(child, TPOOL__KILLED_ALL);
    tpool__unlock(&child->lock);
    assert_status(TPOOL_TIMEOUT, tpool__child_ensure_until(worker, tpool__deadline(task.run_limit_ns)));
    assert_true(tpool_now() - begin < TPOOL_SEC(20));
    assert_int_equal(0, kill(tpool__server_of(pool)->pid, SIGCONT));
    assert_status(TPOOL_OK, end_of(submitted_task(pool, (tpool_task){ .fn = getpid_task })));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* The worker has taken a task and not begun it when its limit passes. It finds the request revoked and ends itself,
   while the server stands still that is to kill it. The task ends for its limit all the same. */
static bool is_to_be_killed(tpool *pool) {
    tpool__child *child = tpool__child_of(tpool__first_worker(pool));
    tpool__lock(&child->lock);
    bool condemned = child->killed_for != TPOOL__NOT_KILLED;
    tpool__unlock(&child->lock);
    return condemned;
}
static void a_limit_that_passes_before_the_task_begins_is_told(void **state) {
    (void)state;
    const tpool_error *error = NULL;
    tpool *pool = process_pool(1);
    pid_t server = server_of(pool);
    atomic_store(&all->holding, 1);
    tpool_future *future =
        submitted_task(pool, (tpool_task){ .fn = count_and_getpid, .run_limit_ns = TPOOL_MS(SLOW_TOOL ? 1000 : 300) });
    EVENTUALLY(atomic_load(&all->gate.arrived) == 1 || tpool_future_done(future));
    assert_int_equal(0, kill(server, SIGSTOP));
    EVENTUALLY(is_to_be_killed(pool) || tpool_future_done(future)); /* done: the machine was that late */
    atomic_store(&all->gate.open, 1);
    EVENTUALLY(!is_alive(atomic_load(&all->held)));
    assert_int_equal(0, kill(server, SIGCONT));
    assert_status(TPOOL_BROKEN, tpool_future_result(future, LIMIT, NULL));
    assert_non_null(strstr(tpool_future_message(future), "run_limit_ns"));
    assert_status(TPOOL_OK, tpool_future_error(future, 0, &error));
    assert_int_equal(-SIGKILL, error->code);
    tpool_future_release(future);
    assert_int_equal(0, atomic_load(&all->begun));
    assert_true(value_of(pool, getpid_task) > 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* The initializer of a process fails beneath a task whose callback holds the worker up afterwards. */
static bool fails_behind_the_gate(void *context) {
    (void)context;
    if (atomic_fetch_add(&all->begun, 1) == 0) return true;
    shared_gate_pass(&all->gate);
    return false;
}
static gate in_callback = GATE_CLOSED;
static void hold_in_callback(tpool_future *future, void *context) {
    (void)future;
    (void)context;
    gate_pass(&in_callback);
}
static void *submit_to_the_full_queue(void *pool) {
    return (void *)(intptr_t)tpool_submit(pool, getpid_task, NULL, NULL);
}
static bool somebody_waits_for_room(tpool *pool) {
    tpool__spin_lock(&pool->inject.lock);
    bool waits = pool->room != NULL;
    tpool__spin_unlock(&pool->inject.lock);
    return waits;
}
static void a_blocked_submitter_learns_at_once_that_an_initializer_failed(void **state) {
    (void)state;
    pthread_t submitter;
    void *status = NULL;
    tpool *pool =
        process_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1, .initializer = fails_behind_the_gate });
    pid_t first = (pid_t)value_of(pool, getpid_task);
    assert_int_equal(0, kill(first, SIGKILL)); /* the task is taken, and its worker found to be dead */
    EVENTUALLY(!is_alive(first));
    tpool_future *taken = submitted(pool, getpid_task, NULL);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(taken, hold_in_callback, NULL));
    EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
    assert_status(TPOOL_OK, tpool_submit(pool, getpid_task, NULL, NULL));
    assert_int_equal(0, pthread_create(&submitter, NULL, submit_to_the_full_queue, pool));
    EVENTUALLY(somebody_waits_for_room(pool));
    atomic_store(&all->gate.open, 1);
    assert_status(TPOOL_BROKEN, tpool_future_result(taken, LIMIT, NULL));
    EVENTUALLY(!somebody_waits_for_room(pool));
    gate_open(&in_callback);
    assert_int_equal(0, pthread_join(submitter, &status));
    assert_status(TPOOL_BROKEN, (tpool_status)(intptr_t)status);
    tpool_future_release(taken);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void on_alarm(int number) { (void)number; }
/* A timer that interrupts each wait does not make it begin anew. */
static int destroy_amid_signals(int who) {
    struct sigaction action;
    struct itimerval each = { { 0, 20000 }, { 0, 20000 } };
    memset(&action, 0, sizeof action);
    action.sa_handler = on_alarm;
    tpool *pool = process_pool(1);
    pid_t server = server_of(pool), keeper = tpool__server_of(pool)->keeper_pid;
    hang_ms = 300;
    if ((who & 1 && kill(server, SIGSTOP) != 0) || (who & 2 && kill(keeper, SIGSTOP) != 0)) return 1;
    if (sigaction(SIGALRM, &action, NULL) != 0 || setitimer(ITIMER_REAL, &each, NULL) != 0) return 2;
    if (tpool_destroy(pool) != TPOOL_OK) return 3;
    EVENTUALLY(is_gone(server) && is_gone(keeper));
    return 0;
}
static void destroy_ends_whoever_stands_still_amid_signals(void **state) {
    (void)state;
    SKIP_UNDER_TSAN();
    for (int who = 1; who < 4; who++) {
        int how = -1;
        pid_t ended = 0, child = fork();
        if (child == 0) _exit(destroy_amid_signals(who));
        for (int64_t end = tpool_now() + TPOOL_SEC(20); ended == 0 && tpool_now() < end; sleep_ms(10))
            ended = waitpid(child, &how, WNOHANG);
        if (ended == 0) {
            kill(child, SIGKILL);
            waitpid(child, NULL, 0);
        }
        assert_int_equal(child, ended);
        assert_int_equal(0, how);
    }
}
/* A worker may say that it has ended: it is killed for that, and no caller waits for it. */
static void *says_that_it_is_gone(void *arg) {
    tpool__message message = well();
    message.kind = TPOOL__GONE;
    say(message);
    return arg;
}
static void who_says_that_it_is_gone_is_not_believed(void **state) {
    (void)state;
    tpool_future *future;
    tpool *pool = process_pool(1);
    pid_t server = server_of(pool);
    future = submitted(pool, says_that_it_is_gone, NULL);
    assert_status(TPOOL_BROKEN, tpool_future_result(future, TPOOL_SEC(10), NULL));
    assert_non_null(strstr(tpool_future_message(future), "damaged"));
    tpool_future_release(future);
    assert_int_equal(server, server_of(pool));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
