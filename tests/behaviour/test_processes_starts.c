/* Process pools before a task has begun: initializers that hang or fail, limits, pools that break. */
#include "process_ends.h"
#include "support/no_thread_leaks.h"

/* --- before a task has begun */

static bool hangs_if_told(void *context) {
    (void)context;
    atomic_store(&all->pid, getpid());
    atomic_fetch_add(&all->gate.arrived, 1);
    while (atomic_load(&all->hang)) sleep_ms(1);
    return true;
}
static tpool *create_hanging(int workers) {
    atomic_store(&all->hang, 1);
    return process_pool_as((tpool_config){ .max_workers = workers, .initializer = hangs_if_told });
}
static void a_run_limit_holds_in_the_initializer(void **state) {
    (void)state;
    atomic_store(&all->hang, 0);
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .initializer = hangs_if_told });
    pid_t first = (pid_t)value_of(pool, getpid_task);
    tpool_future *future;
    tpool_task task = { .fn = getpid_task, .run_limit_ns = TPOOL_MS(50), .name = "limited" };
    atomic_store(&all->hang, 1);
    assert_int_equal(0, kill(first, SIGKILL)); /* the task is taken, and its worker found to be dead */
    EVENTUALLY(!is_alive(first));
    future = submitted_task(pool, task);
    assert_status(TPOOL_BROKEN, tpool_future_result(future, TPOOL_SEC(10), NULL));
    assert_non_null(strstr(tpool_future_message(future), "run_limit_ns"));
    tpool_future_release(future);
    atomic_store(&all->hang, 0);
    assert_true(value_of(pool, getpid_task) > 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* Where the machine is busy, such a time may pass before a worker has taken the task: again, with more of it. */
static bool was_not_taken(tpool_future **future, int64_t *limit) {
    tpool_status status = tpool_future_result(*future, LIMIT, NULL);
    if (status != TPOOL_EXPIRED && status != TPOOL_CANCELLED) return false;
    tpool_future_release(*future);
    *future = NULL;
    *limit *= 4;
    atomic_store(&all->hang, 0);
    return true;
}
static void a_timeout_holds_in_the_initializer_and_in_the_task(void **state) {
    (void)state;
    atomic_store(&all->hang, 0);
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .initializer = hangs_if_told });
    for (int i = 0; i < 2; i++) {
        tpool_task task = { .fn = i == 0 ? getpid_task : gate_of_processes, .timeout_ns = TPOOL_MS(50) };
        tpool_future *future = NULL;
        do {
            pid_t first = (pid_t)value_of(pool, getpid_task);
            if (i == 0) {
                atomic_store(&all->hang, 1);
                assert_int_equal(0, kill(first, SIGKILL));
                EVENTUALLY(!is_alive(first));
            }
            future = submitted_task(pool, task);
        } while (was_not_taken(&future, &task.timeout_ns));
        assert_status(TPOOL_BROKEN, tpool_future_result(future, 0, NULL));
        assert_non_null(strstr(tpool_future_message(future), "timeout_ns"));
        tpool_future_release(future);
        atomic_store(&all->hang, 0);
        assert_true(value_of(pool, getpid_task) > 0);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* Each limit tells its own end, whichever of them comes first. */
static void the_first_of_three_limits_kills_the_worker_and_says_so(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    struct {
        int64_t run_limit, timeout, within;
        tpool_status status;
        const char *says;
    } cases[] = {
        { TPOOL_MS(50), TPOOL_SEC(90), TPOOL_SEC(80), TPOOL_BROKEN, "run_limit_ns" },
        { TPOOL_SEC(90), TPOOL_MS(50), TPOOL_SEC(80), TPOOL_BROKEN, "timeout_ns" },
        { TPOOL_SEC(90), TPOOL_SEC(80), TPOOL_MS(50), TPOOL_TIMEOUT, "tpool_run_with_timeout" },
    };
    int64_t *first[] = { &cases[0].run_limit, &cases[1].timeout, &cases[2].within };
    for (int i = 0; i < 3; i++) {
        tpool_future *future = NULL;
        tpool_status status;
        do {
            tpool_task task = { .fn = gate_of_processes,
                                .run_limit_ns = cases[i].run_limit,
                                .timeout_ns = cases[i].timeout };
            assert_true(value_of(pool, getpid_task) > 0);
            status = tpool_run_with_timeout(pool, &task, cases[i].within, &future);
        } while (was_not_taken(&future, first[i]));
        assert_status(cases[i].status, status);
        assert_status(TPOOL_BROKEN, tpool_future_result(future, 0, NULL));
        assert_non_null(strstr(tpool_future_message(future), cases[i].says));
        tpool_future_release(future);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* What waits for a worker that is busy has not started: it expires, and nobody is killed. */
static void a_timeout_of_what_waits_kills_nobody(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    tpool_future *held = submitted(pool, gate_of_processes, NULL);
    EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
    tpool_task task = { .fn = getpid_task, .timeout_ns = TPOOL_MS(20) };
    assert_status(TPOOL_EXPIRED, end_of(submitted_task(pool, task)));
    atomic_store(&all->gate.open, 1);
    assert_status(TPOOL_OK, end_of(held));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void run_with_timeout_holds_in_the_initializer(void **state) {
    (void)state;
    atomic_store(&all->hang, 0);
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .initializer = hangs_if_told });
    tpool_future *future;
    tpool_task task = { .fn = getpid_task };
    int64_t limit = TPOOL_MS(50);
    do {
        pid_t first = (pid_t)value_of(pool, getpid_task);
        atomic_store(&all->hang, 1);
        assert_int_equal(0, kill(first, SIGKILL));
        EVENTUALLY(!is_alive(first));
        assert_status(TPOOL_TIMEOUT, tpool_run_with_timeout(pool, &task, limit, &future));
    } while (was_not_taken(&future, &limit));
    assert_status(TPOOL_BROKEN, tpool_future_result(future, 0, NULL));
    tpool_future_release(future);
    atomic_store(&all->hang, 0);
    assert_true(value_of(pool, getpid_task) > 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void what_waits_for_an_initializer_that_hangs_has_an_end(void **state) {
    (void)state;
    tpool *pool = create_hanging(1);
    tpool_future *future;
    tpool_task task = { .fn = getpid_task, .expires_ns = TPOOL_MS(50), .run_limit_ns = TPOOL_MS(1) };
    future = submitted_task(pool, task);
    EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
    assert_status(TPOOL_EXPIRED, tpool_future_result(future, TPOOL_SEC(10), NULL));
    tpool_future_release(future);
    task.expires_ns = 0;
    assert_status(TPOOL_TIMEOUT, tpool_run_with_timeout(pool, &task, TPOOL_MS(50), &future));
    assert_status(TPOOL_CANCELLED, tpool_future_result(future, TPOOL_SEC(10), NULL));
    tpool_future_release(future);
    future = submitted(pool, getpid_task, NULL);
    assert_true(tpool_future_cancel(future));
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* A shutdown, unlike a destroy, does not drain the pool first. */
static void what_was_cancelled_keeps_no_worker_whose_initializer_hangs(void **state) {
    (void)state;
    tpool *pool = create_hanging(1);
    tpool_future *future = submitted(pool, getpid_task, NULL);
    EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
    assert_true(tpool_future_cancel(future));
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
    EVENTUALLY(stats_of(pool).workers == 0);
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void kill_workers_ends_an_initializer_that_hangs(void **state) {
    (void)state;
    tpool *pool = create_hanging(1);
    tpool_future *future = submitted(pool, getpid_task, NULL);
    EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
    long first = atomic_load(&all->pid);
    for (int i = 0; i < 20; i++) { /* more often than a worker may die by itself */
        int before = atomic_load(&all->gate.arrived);
        assert_status(TPOOL_OK, tpool_kill_workers(pool));
        EVENTUALLY(atomic_load(&all->gate.arrived) > before);
    }
    atomic_store(&all->hang, 0);
    assert_status(TPOOL_OK, end_of(future));
    assert_false(is_alive(first));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void destroy_ends_an_initializer_that_hangs(void **state) {
    (void)state;
    tpool *pool = create_hanging(2);
    tpool_future *future;
    assert_status(TPOOL_OK, tpool_warm_up(pool, 2));
    EVENTUALLY(atomic_load(&all->gate.arrived) == 2);
    future = submitted(pool, getpid_task, NULL);
    assert_true(tpool_future_cancel(future));
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    EVENTUALLY(!is_alive(atomic_load(&all->pid)));
}
/* The worker that replaces one that has died with its task: nobody waits for its initializer but what it could run. */
static void *hangs_the_next(void *arg) {
    atomic_store(&all->hang, 1);
    kill(getpid(), SIGKILL);
    return arg;
}
static void a_replacement_whose_initializer_hangs_holds_nobody_up(void **state) {
    (void)state;
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 2, .initializer = hangs_if_told });
    tpool_future *gate;
    gate = submitted(pool, gate_of_processes, NULL);
    EVENTUALLY(atomic_load(&all->gate.arrived) == 2); /* the initializer, and the task */
    assert_status(TPOOL_BROKEN, end_of(submitted(pool, hangs_the_next, NULL)));
    EVENTUALLY(atomic_load(&all->gate.arrived) == 4);
    atomic_store(&all->gate.open, 1);
    assert_status(TPOOL_OK, end_of(gate));
    assert_status(TPOOL_OK, tpool_drain(pool, TPOOL_SEC(10)));
    for (int i = 0; i < 10; i++) assert_true(value_of(pool, getpid_task) > 0);
    assert_int_equal(1, atomic_load(&all->hang));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_shutdown_that_cancels_ends_an_initializer_that_hangs(void **state) {
    (void)state;
    tpool *pool = create_hanging(1);
    tpool_future *future = submitted(pool, getpid_task, NULL);
    EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT | TPOOL_CANCEL_PENDING));
    assert_status(TPOOL_CANCELLED, tpool_future_result(future, 0, NULL));
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void *item_task(void *item, void *context) {
    (void)context;
    return (void *)(intptr_t) * (int *)item;
}
static void closing_a_map_does_not_wait_for_an_initializer_that_hangs(void **state) {
    (void)state;
    int items[10] = { 0 };
    atomic_store(&all->hang, 0);
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .initializer = hangs_if_told });
    pid_t first = (pid_t)value_of(pool, getpid_task);
    atomic_store(&all->hang, 1);
    assert_int_equal(0, kill(first, SIGKILL));
    EVENTUALLY(!is_alive(first));
    tpool_map_iter *iter = map_over_ints(pool, item_task, items, 10, 5);
    EVENTUALLY(atomic_load(&all->gate.arrived) == 2); /* the chunk is taken, and the next worker being started for it */
    assert_status(TPOOL_TIMEOUT, tpool_map_next(iter, TPOOL_MS(1), NULL));
    tpool_map_close(iter);
    assert_int_equal(1, atomic_load(&all->hang));
    atomic_store(&all->hang, 0);
    assert_true(value_of(pool, getpid_task) > 0);
    assert_int_equal(2, atomic_load(&all->gate.arrived)); /* that worker was not lost */
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* It holds for whatever waits for a pool's first worker, too. What has no limit waits, and can be cancelled. */
static void a_run_limit_holds_in_the_initializer_of_the_first_worker(void **state) {
    (void)state;
    tpool *pool = create_hanging(1);
    const tpool_task tasks[] = { { .fn = getpid_task },
                                 { .fn = getpid_task, .period_ns = TPOOL_MS(1) },
                                 { .fn = getpid_task, .delay_ns = TPOOL_MS(1) },
                                 { .fn = getpid_task, .retries = 1 },
                                 { .fn = getpid_task, .priority = 1 },
                                 { .fn = getpid_task, .priority = -1 } };
    enum { TASKS = sizeof tasks / sizeof *tasks };
    tpool_future *futures[TASKS], *unlimited = submitted(pool, getpid_task, NULL);
    assert_true(tpool_future_cancel(unlimited));
    tpool_future_release(unlimited);
    for (int i = 0; i < TASKS; i++) {
        tpool_task task = tasks[i];
        task.run_limit_ns = TPOOL_MS(50);
        futures[i] = submitted_task(pool, task);
    }
    for (int i = 0; i < TASKS; i++) {
        assert_status(TPOOL_BROKEN, tpool_future_result(futures[i], LIMIT, NULL));
        assert_non_null(strstr(tpool_future_message(futures[i]), "run_limit_ns"));
        tpool_future_release(futures[i]);
    }
    unlimited = submitted(pool, getpid_task, NULL);
    assert_status(TPOOL_TIMEOUT, tpool_future_result(unlimited, TPOOL_MS(1500), NULL));
    assert_int_equal(TPOOL_PENDING, tpool_future_state(unlimited));
    atomic_store(&all->hang, 0);
    assert_status(TPOOL_OK, end_of(unlimited));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* What was taken, or cancelled, keeps no worker. */
static void a_shutdown_after_a_run_limit_ends_an_initializer_that_hangs(void **state) {
    (void)state;
    for (int priority = 0; priority < 2; priority++) {
        tpool *pool = create_hanging(1);
        const tpool_task task = { .fn = getpid_task, .run_limit_ns = TPOOL_MS(50), .priority = priority };
        tpool_future *limited = submitted_task(pool, task), *cancelled = submitted_task(pool, task);
        assert_true(tpool_future_cancel(cancelled));
        assert_status(TPOOL_CANCELLED, end_of(cancelled));
        assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
        assert_status(TPOOL_BROKEN, end_of(limited));
        EVENTUALLY(stats_of(pool).workers == 0);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}
static void an_items_run_limit_holds_in_the_initializer_of_the_first_worker(void **state) {
    (void)state;
    int items[4] = { 0 };
    for (size_t chunk_size = 1; chunk_size <= 4; chunk_size += 3) {
        tpool *pool = create_hanging(1);
        tpool_map_iter *iter = NULL;
        tpool_map_spec spec = { .fn = item_task,
                                .items = items,
                                .count = 4,
                                .stride = sizeof *items,
                                .item_size = sizeof *items,
                                .chunk_size = chunk_size,
                                .run_limit_ns = TPOOL_MS(50) };
        int64_t begin = tpool_now();
        assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
        for (int i = 0; i < 4; i++) assert_status(TPOOL_BROKEN, tpool_map_next(iter, LIMIT, NULL));
        if (!SLOW_TOOL) assert_true(tpool_now() - begin < TPOOL_SEC(9)); /* each chunk waits a second */
        tpool_map_close(iter);
        atomic_store(&all->hang, 0);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}
/* A worker that starts leaves the tasks to one that runs them, however long its initializer takes. */
static bool hangs_as_the_second(void *context) {
    (void)context;
    if (atomic_fetch_add(&all->gate.arrived, 1) == 0) return true;
    while (atomic_load(&all->hang)) sleep_ms(1);
    return true;
}
static void *takes_100_ms(void *arg) {
    sleep_ms(100);
    return arg;
}
static void a_worker_that_starts_leaves_limited_tasks_to_others(void **state) {
    (void)state;
    enum { TASKS = 25 }; /* they take longer than a worker that starts waits */
    tpool_future *futures[TASKS];
    atomic_store(&all->hang, 1);
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 2, .initializer = hangs_as_the_second });
    assert_true(value_of(pool, getpid_task) > 0);
    for (int i = 0; i < TASKS; i++)
        futures[i] = submitted_task(pool, (tpool_task){ .fn = takes_100_ms, .run_limit_ns = TPOOL_SEC(2) });
    EVENTUALLY(atomic_load(&all->gate.arrived) == 2);
    for (int i = 0; i < TASKS; i++) assert_status(TPOOL_OK, end_of(futures[i]));
    assert_int_equal(2, atomic_load(&all->gate.arrived)); /* nor was it killed */
    atomic_store(&all->hang, 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* So does one that has been starting for long beside one that has just begun to. */
static bool hangs_as_the_second_and_takes_300_ms(void *context) {
    (void)context;
    if (atomic_fetch_add(&all->gate.arrived, 1) != 1) sleep_ms(300);
    else
        while (atomic_load(&all->hang)) sleep_ms(1);
    return true;
}
static void *exits_when_let(void *arg) {
    while (atomic_load(&all->count) == 0) sleep_ms(1);
    (void)arg;
    _exit(3);
}
static void a_worker_that_starts_leaves_limited_tasks_to_a_later_one(void **state) {
    (void)state;
    atomic_store(&all->hang, 1);
    tpool *pool =
        process_pool_as((tpool_config){ .max_workers = 2, .initializer = hangs_as_the_second_and_takes_300_ms });
    tpool_future *exits = submitted(pool, exits_when_let, NULL);
    tpool_future *unlimited = submitted(pool, getpid_task, NULL); /* for which the second worker starts */
    EVENTUALLY(atomic_load(&all->gate.arrived) == 2);
    assert_true(tpool_future_cancel(unlimited));
    tpool_future_release(unlimited);
    sleep_ms(1200);
    const tpool_task limited = { .fn = getpid_task, .run_limit_ns = TPOOL_MS(100) };
    tpool_future *after = submitted_task(pool, limited);
    atomic_store(&all->count, 1);
    assert_status(TPOOL_BROKEN, end_of(exits));
    assert_status(TPOOL_OK, end_of(after));
    assert_int_equal(3, atomic_load(&all->gate.arrived));
    atomic_store(&all->hang, 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static bool hangs_as_the_first_and_takes_300_ms(void *context) {
    (void)context;
    if (atomic_fetch_add(&all->gate.arrived, 1) == 0)
        for (;;) sleep_ms(1000);
    sleep_ms(300);
    return true;
}
static void a_process_that_has_just_begun_to_start_has_its_time(void **state) {
    (void)state;
    tpool *pool =
        process_pool_as((tpool_config){ .max_workers = 1, .initializer = hangs_as_the_first_and_takes_300_ms });
    tpool_future *unlimited = submitted(pool, getpid_task, NULL);
    EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
    sleep_ms(1200);
    assert_status(TPOOL_OK, tpool_kill_workers(pool));
    EVENTUALLY(atomic_load(&all->gate.arrived) == 2);
    assert_true(tpool_future_cancel(unlimited));
    tpool_future_release(unlimited);
    const tpool_task limited = { .fn = getpid_task, .run_limit_ns = TPOOL_MS(100) };
    assert_status(TPOOL_OK, end_of(submitted_task(pool, limited)));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* Also if the same task is the next one whenever that worker looks: a run of each of two periodic tasks in turn. */
static void *takes_20_ms(void *arg) {
    sleep_ms(20);
    return arg;
}
static void a_worker_that_starts_sees_that_another_goes_on(void **state) {
    (void)state;
    atomic_store(&all->hang, 1);
    tpool *pool = process_pool_as(
        (tpool_config){ .max_workers = 2, .queue_capacity = 8, .initializer = hangs_as_the_second }); /* no batches */
    assert_true(value_of(pool, getpid_task) > 0);
    tpool_future *busy = submitted_task(pool, (tpool_task){ .fn = takes_20_ms, .period_ns = 1 });
    tpool_task task = { .fn = getpid_task, .period_ns = 1, .run_limit_ns = TPOOL_SEC(1) };
    tpool_future *limited = submitted_task(pool, task);
    EVENTUALLY(atomic_load(&all->gate.arrived) == 2);
    assert_status(TPOOL_TIMEOUT, tpool_future_result(limited, TPOOL_MS(3500), NULL));
    tpool_future_request_stop(busy);
    tpool_future_request_stop(limited);
    assert_status(TPOOL_OK, end_of(busy));
    assert_status(TPOOL_OK, end_of(limited));
    assert_int_equal(2, atomic_load(&all->gate.arrived));
    atomic_store(&all->hang, 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* What a worker saw in one start does not count in the next, where another task may have that address. */
static bool takes_300_ms(void *context) {
    (void)context;
    sleep_ms(300);
    return true;
}
static void *exits_after_100_ms(void *arg) {
    sleep_ms(100);
    _exit(3);
    return arg;
}
static void a_worker_that_starts_anew_waits_anew(void **state) {
    (void)state;
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .initializer = takes_300_ms });
    const tpool_task limited = { .fn = getpid_task, .run_limit_ns = TPOOL_MS(100) };
    tpool_future *first = submitted_task(pool, limited), *second = submitted_task(pool, limited);
    assert_status(TPOOL_OK, tpool_future_result(first, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_future_result(second, LIMIT, NULL));
    sleep_ms(1100); /* more than a second since that start */
    tpool_future_release(first);
    tpool_future_release(second);
    second = submitted_task(pool, (tpool_task){ .fn = exits_after_100_ms, .name = "exits" });
    first = submitted_task(pool, limited);
    assert_status(TPOOL_BROKEN, end_of(second));
    assert_status(TPOOL_OK, end_of(first));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* No process is killed before it has had ten seconds. */
static bool takes_longer_than_the_limit(void *context) {
    (void)context;
    atomic_fetch_add(&all->gate.arrived, 1);
    sleep_ms(1800);
    return true;
}
static void an_initializer_that_takes_longer_than_a_limit_ends(void **state) {
    (void)state;
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .initializer = takes_longer_than_the_limit });
    tpool_status status = TPOOL_BROKEN;
    int tasks = 0;
    for (; status == TPOOL_BROKEN && tasks < 20; tasks++)
        status = end_of(submitted_task(pool, (tpool_task){ .fn = getpid_task, .run_limit_ns = TPOOL_MS(50) }));
    assert_status(TPOOL_OK, status);
    assert_true(tasks > 1);
    assert_int_equal(1, atomic_load(&all->gate.arrived));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* Once it is known how long the initializer takes, a process that must be replaced costs its own task only. */
static bool takes_1300_ms(void *context) {
    (void)context;
    sleep_ms(1300);
    return true;
}
static void *exits_at_once(void *arg) {
    _exit(3);
    return arg;
}
static void replacements_whose_initializers_are_slow_cost_no_task(void **state) {
    (void)state;
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .initializer = takes_1300_ms });
    const tpool_task limited = { .fn = getpid_task, .run_limit_ns = TPOOL_MS(100) };
    assert_true(value_of(pool, getpid_task) > 0);
    for (int i = 0; i < 2; i++) {
        tpool_future *exits = submitted(pool, exits_at_once, NULL), *after = submitted_task(pool, limited);
        assert_status(TPOOL_BROKEN, end_of(exits));
        assert_status(TPOOL_OK, end_of(after));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static int number_of_this_process; /* 1: the first that was started */
static bool counts_for_1300_ms(void *context) {
    number_of_this_process = 1 + atomic_fetch_add(&all->gate.arrived, 1);
    return takes_1300_ms(context);
}
static void *number_of_process(void *arg) {
    (void)arg;
    return (void *)(intptr_t)number_of_this_process;
}
static void a_worker_that_took_a_task_early_executes_another(void **state) {
    (void)state;
    tpool *pool = process_pool_as(
        (tpool_config){ .max_workers = 1, .initializer = counts_for_1300_ms, .max_tasks_per_worker = 1 });
    const tpool_task limited = { .fn = number_of_process, .run_limit_ns = TPOOL_MS(100) };
    void *number = NULL;
    assert_status(TPOOL_BROKEN, end_of(submitted_task(pool, limited)));
    tpool_future *next = submitted(pool, number_of_process, NULL);
    assert_status(TPOOL_OK, tpool_future_result(next, LIMIT, &number));
    assert_int_equal(1, (intptr_t)number);
    tpool_future_release(next);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* The callback submits into the lane of the worker, which ends after this task. */
static void *returns_when_let(void *arg) {
    while (atomic_load(&all->count) == 0) sleep_ms(1);
    return arg;
}
static _Atomic(tpool_future *) left[2];
static void submits_two(tpool_future *future, void *pool) {
    (void)future;
    for (int i = 0; i < 2; i++)
        atomic_store(&left[i], submitted_task(pool, (tpool_task){ .fn = getpid_task, .run_limit_ns = TPOOL_MS(100) }));
}
static void a_run_limit_holds_for_what_an_ended_worker_has_left(void **state) {
    (void)state;
    atomic_store(&all->hang, 1);
    tpool *pool = process_pool_as(
        (tpool_config){ .max_workers = 2, .initializer = hangs_as_the_second, .max_tasks_per_worker = 1 });
    tpool_future *first = submitted(pool, returns_when_let, NULL);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(first, submits_two, pool));
    atomic_store(&all->count, 1);
    assert_status(TPOOL_OK, end_of(first));
    EVENTUALLY(atomic_load(&all->gate.arrived) >= 2);
    for (int i = 0; i < 2; i++) {
        EVENTUALLY(atomic_load(&left[i])); /* the callback runs after the result is there */
        assert_status(TPOOL_BROKEN, end_of(atomic_load(&left[i])));
    }
    atomic_store(&all->hang, 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* The limit passes while a large argument is being copied for the worker, which takes longer than that. */
static void *too_late(void *arg) {
    atomic_fetch_add(&all->count, 1);
    for (;;) sleep_ms(1000);
    return arg;
}
static void a_limit_that_passes_while_the_argument_is_on_its_way_is_not_forgotten(void **state) {
    (void)state;
    size_t size = SLOW_TOOL ? (size_t)8 << 20 : (size_t)64 << 20;
    char *large = malloc(size);
    memset(large, 1, size);
    tpool *pool = process_pool(1);
    assert_true(value_of(pool, getpid_task) > 0);
    for (int64_t limit = TPOOL_MS(1); limit < TPOOL_MS(200); limit = limit * 5 / 4) {
        tpool_future *future = NULL;
        tpool_task task = { .fn = too_late, .arg = large, .arg_size = size };
        assert_status(TPOOL_TIMEOUT, tpool_run_with_timeout(pool, &task, limit, &future));
        assert_non_null(future);
        tpool_status end = tpool_future_result(future, TPOOL_SEC(10), NULL);
        assert_true(end == TPOOL_BROKEN || end == TPOOL_CANCELLED);
        tpool_future_release(future);
        if (atomic_load(&all->count) > 1) break; /* longer than the copy takes: enough */
    }
    free(large);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static bool dies_some_times(void *context) {
    if (atomic_fetch_sub(&all->deaths, 1) > 0) kill(getpid(), *(int *)context);
    return true;
}
static void workers_that_a_signal_takes_before_they_are_ready_are_replaced(void **state) {
    (void)state;
    static const int signals[] = { SIGTERM, SIGKILL, SIGSEGV };
    for (int i = 0; i < 3; i++) {
        int number = signals[i];
        atomic_store(&all->deaths, 3);
        tpool *pool = process_pool_as((tpool_config){
            .max_workers = 1, .initializer = dies_some_times, .context = &number, .context_size = sizeof number });
        assert_true(value_of(pool, getpid_task) > 0);
        assert_true(atomic_load(&all->deaths) < 0);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}
static void workers_that_always_die_before_they_are_ready_break_the_pool(void **state) {
    (void)state;
    int number = SIGTERM;
    tpool_future *future;
    atomic_store(&all->deaths, 1000);
    tpool *pool = process_pool_as((tpool_config){
        .max_workers = 2, .initializer = dies_some_times, .context = &number, .context_size = sizeof number });
    assert_status(TPOOL_BROKEN, end_of(submitted(pool, getpid_task, NULL)));
    assert_true(atomic_load(&all->deaths) > 900);
    assert_status(TPOOL_BROKEN, tpool_submit(pool, getpid_task, NULL, &future));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* A task finds that the worker is dead, and that the initializer of the next one fails. A further one would hang. */
static bool succeeds_once(void *context) {
    (void)context;
    int before = atomic_fetch_add(&all->count, 1);
    while (before > 1) sleep_ms(1000);
    return before == 0;
}
static tpool *paused_before_its_initializer_fails(void) {
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .initializer = succeeds_once });
    pid_t first = (pid_t)value_of(pool, getpid_task);
    assert_status(TPOOL_OK, tpool_pause(pool));
    assert_int_equal(0, kill(first, SIGKILL));
    EVENTUALLY(!is_alive(first));
    return pool;
}
static tpool_future *found_it;
static tpool_status end_of_what_found_it;
static int cancel_state = -1;
static void look_from_outside(tpool_future *future, void *context) {
    int unused;
    (void)future;
    (void)context;
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &cancel_state);
    pthread_setcancelstate(cancel_state, &unused);
    end_of_what_found_it = tpool_future_result(found_it, TPOOL_SEC(10), NULL);
}
static void what_a_broken_pool_ends_runs_outside_the_task_that_found_it(void **state) {
    (void)state;
    tpool *pool = paused_before_its_initializer_fails();
    found_it = submitted(pool, getpid_task, NULL);
    tpool_future *waits = submitted(pool, getpid_task, NULL);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(waits, look_from_outside, NULL));
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_status(TPOOL_BROKEN, end_of(waits));
    assert_status(TPOOL_BROKEN, tpool_submit(pool, getpid_task, NULL, &waits));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_status(TPOOL_BROKEN, end_of_what_found_it);
    assert_int_equal(PTHREAD_CANCEL_ENABLE, cancel_state);
    tpool_future_release(found_it);
}
static void end_in_callback(tpool_future *future, void *context) {
    (void)future;
    (void)context;
    pthread_exit(NULL);
}
static void what_waits_in_a_broken_pool_ends_though_the_thread_that_found_it_has_ended(void **state) {
    (void)state;
    tpool *pool = paused_before_its_initializer_fails();
    tpool_future *first = submitted(pool, getpid_task, NULL), *waits = submitted(pool, getpid_task, NULL);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(first, end_in_callback, NULL));
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_status(TPOOL_BROKEN, end_of(waits));
    assert_status(TPOOL_BROKEN, end_of(first));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void an_initializer_that_fails_fails_for_all_items_of_a_chunk(void **state) {
    (void)state;
    enum { ITEMS = 8 };
    int items[ITEMS] = { 0 }, broken = 0;
    tpool *pool = paused_before_its_initializer_fails();
    tpool_map_iter *iter = map_over_ints(pool, item_task, items, ITEMS, ITEMS);
    assert_status(TPOOL_OK, tpool_resume(pool));
    for (void *value; broken < ITEMS; broken++) assert_status(TPOOL_BROKEN, tpool_map_next(iter, LIMIT, &value));
    tpool_map_close(iter);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(2, atomic_load(&all->count)); /* it has not been tried for each item */
}

static const struct CMUnitTest tests[] = {
    PROCESS_TEST(what_waits_for_an_initializer_that_hangs_has_an_end),
    PROCESS_TEST(what_was_cancelled_keeps_no_worker_whose_initializer_hangs),
    PROCESS_TEST(a_replacement_whose_initializer_hangs_holds_nobody_up),
    PROCESS_TEST(a_run_limit_holds_in_the_initializer),
    PROCESS_TEST(a_run_limit_holds_in_the_initializer_of_the_first_worker),
    PROCESS_TEST(a_shutdown_after_a_run_limit_ends_an_initializer_that_hangs),
    PROCESS_TEST(an_items_run_limit_holds_in_the_initializer_of_the_first_worker),
    PROCESS_TEST(a_worker_that_starts_leaves_limited_tasks_to_others),
    PROCESS_TEST(a_worker_that_starts_leaves_limited_tasks_to_a_later_one),
    PROCESS_TEST(a_process_that_has_just_begun_to_start_has_its_time),
    PROCESS_TEST(a_worker_that_starts_sees_that_another_goes_on),
    PROCESS_TEST(a_worker_that_starts_anew_waits_anew),
    PROCESS_TEST(an_initializer_that_takes_longer_than_a_limit_ends),
    PROCESS_TEST(replacements_whose_initializers_are_slow_cost_no_task),
    PROCESS_TEST(a_worker_that_took_a_task_early_executes_another),
    PROCESS_TEST(a_run_limit_holds_for_what_an_ended_worker_has_left),
    PROCESS_TEST(a_timeout_holds_in_the_initializer_and_in_the_task),
    PROCESS_TEST(the_first_of_three_limits_kills_the_worker_and_says_so),
    PROCESS_TEST(a_timeout_of_what_waits_kills_nobody),
    PROCESS_TEST(run_with_timeout_holds_in_the_initializer),
    PROCESS_TEST(kill_workers_ends_an_initializer_that_hangs),
    PROCESS_TEST(destroy_ends_an_initializer_that_hangs),
    PROCESS_TEST(a_shutdown_that_cancels_ends_an_initializer_that_hangs),
    PROCESS_TEST(closing_a_map_does_not_wait_for_an_initializer_that_hangs),
    PROCESS_TEST(a_limit_that_passes_while_the_argument_is_on_its_way_is_not_forgotten),
    PROCESS_TEST(workers_that_a_signal_takes_before_they_are_ready_are_replaced),
    PROCESS_TEST(workers_that_always_die_before_they_are_ready_break_the_pool),
    PROCESS_TEST(what_a_broken_pool_ends_runs_outside_the_task_that_found_it),
    PROCESS_TEST(what_waits_in_a_broken_pool_ends_though_the_thread_that_found_it_has_ended),
    PROCESS_TEST(an_initializer_that_fails_fails_for_all_items_of_a_chunk),
};
RUN_PROCESS_TESTS(tests)
