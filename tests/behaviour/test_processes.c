/* Pools of processes: what is as with threads, and what is not. */
#include "processes.h"

/* --- a task's way there and back */

static void *runs_elsewhere(void *arg) {
    return (void *)(intptr_t)(getpid() != (pid_t) * (long *)arg && tpool_current() == NULL &&
                              tpool_current_worker() == -1);
}
static void a_task_runs_in_another_process(void **state) {
    (void)state;
    long own = getpid();
    tpool *pool = process_pool(1);
    assert_int_equal(1, value_of_copy(pool, runs_elsewhere, &own, sizeof own));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

typedef struct point {
    int x, y;
    char text[20];
} point;
static void *swapped(void *arg) {
    point *p = arg;
    if (tpool_arg_size() != sizeof *p || (uintptr_t)p % _Alignof(max_align_t) != 0)
        return tpool_raise(1, "size or place");
    int x = p->x;
    p->x = p->y;
    p->y = x;
    return tpool_return(p, sizeof *p);
}
static void arguments_and_results_travel_by_value(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    point p = { 1, 2, "as it was" };
    tpool_future *future;
    void *result;
    assert_status(TPOOL_OK, tpool_submit_copy(pool, swapped, &p, sizeof p, &future));
    p.x = 77; /* the task has its copy */
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
    assert_int_equal(2, ((point *)result)->x);
    assert_int_equal(1, ((point *)result)->y);
    assert_string_equal("as it was", ((point *)result)->text);
    assert_int_equal(sizeof p, tpool_future_result_size(future));
    assert_int_equal(77, p.x);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(2, ((point *)result)->x); /* lives with the future, not with the pool */
    tpool_future_release(future);
}

static void *beside_the_bytes(void *arg) {
    (void)tpool_return(arg, 8);
    return (void *)(intptr_t)5;
}
static void *within_the_bytes(void *arg) { return (char *)tpool_return(arg, 8) + 3; }
static void *returned_twice(void *arg) {
    (void)tpool_return("first, and longer", 18);
    return tpool_return(arg, 8);
}
static void *returned_nothing(void *arg) {
    (void)arg;
    return tpool_return(NULL, 0);
}
static void what_fn_returns_is_kept_apart_from_the_bytes(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    tpool_future *future;
    void *result;
    assert_int_equal(5, value_of_copy(pool, beside_the_bytes, "abcdefg", 8));
    assert_status(TPOOL_OK, tpool_submit_copy(pool, within_the_bytes, "abcdefg", 8, &future));
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
    assert_string_equal("defg", result);
    assert_int_equal(8, tpool_future_result_size(future));
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_submit_copy(pool, returned_twice, "abcdefg", 8, &future));
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
    assert_string_equal("abcdefg", result);
    tpool_future_release(future);
    future = submitted(pool, returned_nothing, NULL);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
    assert_non_null(result);
    assert_int_equal(0, tpool_future_result_size(future));
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *raises(void *arg) { return tpool_raise(*(int *)arg, "%d is too %s", *(int *)arg, "many"); }
static void *raises_at_length(void *arg) { return tpool_raise(-1, "%*s|", *(int *)arg, "x"); }
static void an_error_arrives_with_code_message_and_name(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    tpool_future *future;
    const tpool_error *error;
    int n = 42;
    tpool_task task = { .fn = raises, .arg = &n, .arg_size = sizeof n, .name = "counting" };
    future = submitted_task(pool, task);
    assert_status(TPOOL_FAILED, tpool_future_result(future, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_future_error(future, 0, &error));
    assert_int_equal(42, error->code);
    assert_status(TPOOL_FAILED, error->cause);
    assert_string_equal("42 is too many", error->message);
    assert_string_equal("counting", error->task);
    tpool_future_release(future);
    n = 300000; /* longer than what a worker has for results at first */
    assert_status(TPOOL_OK, tpool_submit_copy(pool, raises_at_length, &n, sizeof n, &future));
    assert_status(TPOOL_FAILED, tpool_future_result(future, LIMIT, NULL));
    assert_int_equal(300001, strlen(tpool_future_message(future)));
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void free_nothing(void *arg) { (void)arg; }
static void *owned(void *arg) {
    (void)arg;
    return tpool_return_owned(malloc(3), free);
}
static void owned_results_fail_the_task(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    tpool_future *future = submitted(pool, owned, NULL);
    assert_status(TPOOL_FAILED, tpool_future_result(future, LIMIT, NULL));
    assert_non_null(strstr(tpool_future_message(future), "tpool_return_owned"));
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void an_argument_by_pointer_is_refused(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    int n = 1;
    tpool_future *future = (tpool_future *)&n;
    assert_status(TPOOL_INVALID, tpool_submit(pool, count_task, &n, &future));
    assert_null(future);
    tpool_task task = { .fn = count_task, .arg = &n, .arg_free = free_nothing };
    assert_status(TPOOL_INVALID, tpool_submit_task(pool, &task, NULL));
    assert_status(TPOOL_INVALID, tpool_run_with_timeout(pool, &task, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(0, atomic_load(&all->count));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *sum_of(void *arg) {
    const unsigned char *bytes = arg;
    uintptr_t sum = 0;
    for (size_t i = 0; i < tpool_arg_size(); i++) sum = sum * 31 + bytes[i];
    return (void *)sum;
}
static void bytes_of_any_size_travel(void **state) {
    (void)state;
    static const size_t sizes[] = { 1, 63, 64, 4096, 65535, 65536, 65537, 1000003, 30000001, 70000000, 5, 100000 };
    tpool *pool = process_pool(1);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t size = SLOW_TOOL && sizes[i] > 10000000 ? 10000000 : sizes[i];
        unsigned char *bytes = malloc(size);
        uintptr_t sum = 0;
        for (size_t k = 0; k < size; k++) sum = sum * 31 + (bytes[k] = (unsigned char)(k * 7 + k / 251 + i));
        assert_true((intptr_t)sum == value_of_copy(pool, sum_of, bytes, size));
        tpool_future *future;
        void *result;
        assert_status(TPOOL_OK, tpool_submit_copy(pool, echo, bytes, size, &future));
        assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
        assert_int_equal(size, tpool_future_result_size(future));
        assert_memory_equal(bytes, result, size);
        assert_int_equal(0, (uintptr_t)result % _Alignof(max_align_t));
        tpool_future_release(future);
        free(bytes);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* Large ones both ways, many at a time: nobody waits for somebody who cannot write. */
static void both_directions_full_are_no_deadlock(void **state) {
    (void)state;
    enum { TASKS = 40, SIZE = 1 << 20 };
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 3 });
    tpool_future *futures[TASKS];
    unsigned char *bytes = malloc(SIZE);
    for (int i = 0; i < TASKS; i++) {
        memset(bytes, i, SIZE);
        assert_status(TPOOL_OK, tpool_submit_copy(pool, echo, bytes, SIZE, &futures[i]));
    }
    for (int i = 0; i < TASKS; i++) {
        void *result;
        assert_status(TPOOL_OK, tpool_future_result(futures[i], LIMIT, &result));
        assert_int_equal(i, ((unsigned char *)result)[SIZE - 1]);
        assert_int_equal(i, ((unsigned char *)result)[0]);
        tpool_future_release(futures[i]);
    }
    free(bytes);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *freed;
static void remember_freed(void *arg) {
    freed = arg;
    atomic_fetch_add(&all->count, 1);
}
static void arg_free_runs_once_in_the_program(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    int n = 7;
    tpool_future *future;
    tpool_task task = { .fn = echo, .arg = &n, .arg_size = sizeof n, .arg_free = remember_freed };
    freed = NULL;
    future = submitted_task(pool, task);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
    assert_non_null(freed);
    assert_int_equal(1, atomic_load(&all->count));
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- workers */

static void workers_start_when_needed_and_stay(void **state) {
    (void)state;
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 3 });
    tpool_stats stats;
    assert_status(TPOOL_OK, tpool_get_stats(pool, &stats));
    assert_int_equal(0, stats.workers);
    intptr_t pid = value_of(pool, getpid_task);
    for (int i = 0; i < 5; i++) assert_int_equal(pid, value_of(pool, getpid_task));
    assert_status(TPOOL_OK, tpool_get_stats(pool, &stats));
    assert_int_equal(1, stats.workers);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 3));
    assert_status(TPOOL_OK, tpool_get_stats(pool, &stats));
    assert_int_equal(3, stats.workers);
    assert_int_equal(6, stats.completed);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(-1, kill((pid_t)pid, 0)); /* gone, and reaped */
    assert_int_equal(ESRCH, errno);
}

static void an_idle_worker_ends_with_its_process(void **state) {
    (void)state;
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .idle_timeout_ns = TPOOL_MS(5) });
    intptr_t pid = value_of(pool, getpid_task);
    EVENTUALLY(kill((pid_t)pid, 0) != 0);
    assert_int_not_equal(pid, value_of(pool, getpid_task));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_worker_is_replaced_after_its_tasks(void **state) {
    (void)state;
    enum { TASKS = 12 };
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .max_tasks_per_worker = 3 });
    intptr_t pids[TASKS];
    tpool_future *futures[TASKS];
    for (int i = 0; i < TASKS; i++) assert_status(TPOOL_OK, tpool_submit(pool, getpid_task, NULL, &futures[i]));
    for (int i = 0; i < TASKS; i++) pids[i] = (intptr_t)take(futures[i]);
    for (int i = 0; i < TASKS; i++)
        for (int k = 0; k < TASKS; k++) assert_int_equal(i / 3 == k / 3, pids[i] == pids[k]);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static bool initialize(void *context) {
    atomic_fetch_add(&all->count, *(int *)context);
    atomic_store(&all->pid, getpid());
    return true;
}
static void finalize(void *context) {
    atomic_fetch_add(&all->second, getpid() == atomic_load(&all->pid) ? *(int *)context : 99);
}
static void initializer_and_finalizer_run_in_the_process(void **state) {
    (void)state;
    int one = 1;
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 1,
                                                  .initializer = initialize,
                                                  .finalizer = finalize,
                                                  .context = &one,
                                                  .context_size = sizeof one });
    assert_int_equal(0, atomic_load(&all->count));
    intptr_t pid = value_of(pool, getpid_task);
    assert_int_equal(1, atomic_load(&all->count));
    assert_int_equal(pid, atomic_load(&all->pid));
    assert_int_equal(0, atomic_load(&all->second));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(1, atomic_load(&all->count));
    assert_int_equal(1, atomic_load(&all->second));
}

static bool refuse(void *context) {
    (void)context;
    shared_gate_pass(&all->gate);
    return false;
}
static bool crash_early(void *context) {
    (void)context;
    shared_gate_pass(&all->gate);
    abort();
}
static void a_failed_initializer_breaks_the_pool(void **state) {
    (void)state;
    bool (*initializers[])(void *) = { refuse, crash_early };
    for (int i = 0; i < 2; i++) {
        tpool *pool = process_pool_as((tpool_config){ .max_workers = 2, .initializer = initializers[i] });
        tpool_future *future;
        set_up(NULL);
        future = submitted(pool, count_task, NULL);
        atomic_store(&all->gate.open, 1); /* it fails with the task in the queue */
        assert_status(TPOOL_BROKEN, tpool_future_result(future, LIMIT, NULL));
        assert_status(TPOOL_BROKEN, tpool_submit(pool, count_task, NULL, NULL));
        tpool_future_release(future);
        assert_status(TPOOL_OK, tpool_destroy(pool));
        assert_int_equal(0, atomic_load(&all->count));
    }
}

/* --- the queue and the futures are those of every pool */

static void *note_order(void *arg) {
    int at = atomic_fetch_add(&all->order_next, 1);
    atomic_store(&all->order[at], *(int *)arg);
    return NULL;
}
static void priorities_cancel_expiry_and_pause(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    tpool_future *cancelled, *expired;
    int numbers[] = { 0, 1, 2, 3 };
    assert_status(TPOOL_OK, tpool_pause(pool));
    for (int i = 0; i < 3; i++) {
        tpool_task task = { .fn = note_order, .arg = &numbers[i], .arg_size = sizeof(int), .priority = i };
        assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    }
    assert_status(TPOOL_OK, tpool_submit_copy(pool, note_order, &numbers[3], sizeof(int), &cancelled));
    tpool_task late = { .fn = note_order, .arg = &numbers[3], .arg_size = sizeof(int), .expires_ns = 1 };
    expired = submitted_task(pool, late);
    assert_true(tpool_future_cancel(cancelled));
    assert_status(TPOOL_EXPIRED, tpool_future_result(expired, LIMIT, NULL));
    assert_status(TPOOL_TIMEOUT, tpool_drain(pool, 0));
    assert_int_equal(0, atomic_load(&all->order_next));
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(3, atomic_load(&all->order_next));
    for (int i = 0; i < 3; i++) assert_int_equal(2 - i, atomic_load(&all->order[i]));
    tpool_stats stats;
    assert_status(TPOOL_OK, tpool_get_stats(pool, &stats));
    assert_int_equal(5, stats.submitted);
    assert_int_equal(3, stats.completed);
    assert_int_equal(1, stats.cancelled);
    assert_int_equal(1, stats.expired);
    tpool_future_release(cancelled);
    tpool_future_release(expired);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void called_back(tpool_future *future, void *context) {
    void *result;
    assert_status(TPOOL_OK, tpool_future_result(future, 0, &result));
    *(int *)context += *(int *)result;
}
static void callbacks_wait_and_as_completed(void **state) {
    (void)state;
    enum { TASKS = 20 };
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 2 });
    tpool_future *futures[TASKS], *future;
    tpool_completions *completions;
    size_t done = 0;
    int sum = 0, seen = 0;
    for (int i = 0; i < TASKS; i++) {
        assert_status(TPOOL_OK, tpool_submit_copy(pool, square, &i, sizeof i, &futures[i]));
    }
    assert_status(TPOOL_OK, tpool_future_add_done_callback(futures[4], called_back, &sum));
    assert_status(TPOOL_OK, tpool_as_completed(futures, TASKS, &completions));
    while (tpool_completions_next(completions, LIMIT, &future) == TPOOL_OK) {
        int i = (int)tpool_completions_index(completions);
        void *result;
        assert_status(TPOOL_OK, tpool_future_result(future, 0, &result));
        assert_int_equal(i * i, *(int *)result);
        seen++;
    }
    assert_int_equal(TASKS, seen);
    tpool_completions_destroy(completions);
    assert_status(TPOOL_OK, tpool_wait(futures, TASKS, TPOOL_ALL_COMPLETED, LIMIT, &done));
    assert_int_equal(TASKS, done);
    for (int i = 0; i < TASKS; i++) tpool_future_release(futures[i]);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(16, sum);
}

/* A callback runs in the program, on the proxy: it may wait for another task of its pool, which a spare worker runs. */
static tpool *callback_pool;
static void wait_in_callback(tpool_future *future, void *context) {
    (void)future;
    *(intptr_t *)context = value_of(callback_pool, getpid_task);
}
static void a_callback_may_wait_for_a_task_of_the_same_pool(void **state) {
    (void)state;
    intptr_t pid = 0;
    tpool_future *future;
    callback_pool = process_pool(1);
    future = submitted(callback_pool, gate_of_processes, NULL);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(future, wait_in_callback, &pid));
    atomic_store(&all->gate.open, 1);
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_drain(callback_pool, LIMIT));
    assert_true(pid > 0 && pid != getpid());
    assert_status(TPOOL_OK, tpool_destroy(callback_pool));
}

/* A thread that only ever sleeps in the call that it is to block in. */
static atomic_int sleeper;

static void *submit_when_full(void *arg) {
    int n = 3;
    atomic_store(&sleeper, system_thread());
    tpool_future *future = NULL;
    if (tpool_submit_copy(arg, square, &n, sizeof n, &future) != TPOOL_OK) return NULL;
    atomic_fetch_add(&all->second, 1);
    return future;
}
static void caller_runs_blocks_instead(void **state) {
    (void)state;
    pthread_t thread;
    void *future, *result;
    tpool *pool =
        process_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1, .on_full = TPOOL_FULL_CALLER_RUNS });
    assert_status(TPOOL_OK, tpool_submit(pool, gate_of_processes, NULL, NULL));
    EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
    assert_status(TPOOL_OK, tpool_submit(pool, count_task, NULL, NULL)); /* fills the queue */
    atomic_store(&sleeper, 0);
    assert_int_equal(0, pthread_create(&thread, NULL, submit_when_full, pool));
    await_thread_asleep(&sleeper);
    assert_int_equal(0, atomic_load(&all->second));
    atomic_store(&all->gate.open, 1);
    assert_int_equal(0, pthread_join(thread, &future));
    assert_non_null(future);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
    assert_int_equal(9, *(int *)result);
    tpool_future_release(future);
    tpool_stats stats;
    assert_status(TPOOL_OK, tpool_get_stats(pool, &stats));
    assert_int_equal(3, stats.submitted);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- asking to stop, limits, killing */

static void a_running_task_is_asked_to_stop(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    tpool_future *future = submitted(pool, until_stopped, NULL);
    EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
    tpool_future_request_stop(future);
    assert_status(TPOOL_OK, end_of(future));
    assert_status(TPOOL_OK, tpool_submit(pool, until_stopped, NULL, &future)); /* the next one is not */
    EVENTUALLY(atomic_load(&all->gate.arrived) == 2);
    assert_status(TPOOL_TIMEOUT, tpool_future_result(future, TPOOL_MS(10), NULL));
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_STOP_RUNNING));
    assert_status(TPOOL_OK, end_of(future));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void *item_until_stopped(void *item, void *context) {
    (void)context;
    atomic_int *begun = *(atomic_int **)item;
    int64_t end = tpool_now() + LIMIT;
    atomic_fetch_add(&begun[0], 1);
    while (!tpool_stop_requested() && tpool_now() < end) sleep_ms(1);
    if (tpool_stop_requested()) atomic_fetch_add(&begun[1], 1);
    return NULL;
}
static void an_item_is_asked_to_stop_when_its_map_is_closed(void **state) {
    (void)state;
    atomic_int *begun = all->order, *items[8];
    for (int i = 0; i < 8; i++) items[i] = begun;
    tpool *pool = new_pool_as((tpool_config){ .kind = TPOOL_PROCESSES, .max_workers = 2 });
    tpool_map_spec spec = { .fn = item_until_stopped,
                            .items = items,
                            .count = 8,
                            .stride = sizeof *items,
                            .item_size = sizeof *items,
                            .chunk_size = 4 };
    tpool_map_iter *iter = NULL;
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    EVENTUALLY(atomic_load(&begun[0]) == 2);
    tpool_map_close(iter);
    assert_int_equal(2, atomic_load(&begun[1]));
    assert_int_equal(2, atomic_load(&begun[0])); /* and the rest of their chunks is left out */
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_task_asked_to_stop_while_it_waited_knows_from_the_start(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    tpool_future *future;
    assert_status(TPOOL_OK, tpool_pause(pool));
    future = submitted(pool, until_stopped, NULL);
    tpool_future_request_stop(future);
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
    tpool_future_request_stop(future); /* done: it does not care */
    assert_status(TPOOL_OK, tpool_destroy(pool));
    tpool_future_request_stop(future); /* nor with its pool gone */
    tpool_future_release(future);
}

/* Up at once; down as workers become idle; below what runs, nothing that runs is lost. */
static void a_pool_is_resized(void **state) {
    (void)state;
    enum { MANY = 4 };
    tpool *pool = process_pool(1);
    tpool_future *running[MANY], *waiting;
    tpool_stats stats;
    for (int i = 0; i < MANY; i++) assert_status(TPOOL_OK, tpool_submit(pool, gate_of_processes, NULL, &running[i]));
    EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
    assert_status(TPOOL_OK, tpool_resize(pool, MANY));
    EVENTUALLY(atomic_load(&all->gate.arrived) == MANY);
    assert_status(TPOOL_OK, tpool_get_stats(pool, &stats));
    assert_int_equal(MANY, stats.workers);
    assert_status(TPOOL_OK, tpool_resize(pool, 1));
    assert_status(TPOOL_OK, tpool_get_stats(pool, &stats));
    assert_int_equal(1, stats.max_workers);
    assert_int_equal(MANY, stats.active);
    waiting = submitted(pool, getpid_task, NULL);
    atomic_store(&all->gate.open, 1);
    for (int i = 0; i < MANY; i++) {
        assert_status(TPOOL_OK, end_of(running[i]));
    }
    assert_status(TPOOL_OK, end_of(waiting));
    EVENTUALLY(tpool_get_stats(pool, &stats) == TPOOL_OK && stats.workers == 1);
    intptr_t pid = value_of(pool, getpid_task);
    for (int i = 0; i < 10; i++) assert_int_equal(pid, value_of(pool, getpid_task));
    assert_status(TPOOL_INVALID, tpool_resize(pool, 0));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *nap(void *arg) {
    sleep_ms(*(int *)arg);
    return NULL;
}
static void statistics_count_what_became_of_tasks(void **state) {
    (void)state;
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 2, .measure = true });
    tpool_stats stats;
    int ms = 20;
    tpool_future *future;
    assert_status(TPOOL_OK, tpool_submit(pool, gate_of_processes, NULL, NULL));
    EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
    assert_status(TPOOL_OK, tpool_get_stats(pool, &stats));
    assert_int_equal(2, stats.max_workers);
    assert_int_equal(1, stats.active);
    assert_int_equal(1, stats.submitted);
    assert_int_equal(0, stats.completed);
    atomic_store(&all->gate.open, 1);
    for (int i = 0; i < 4; i++) assert_status(TPOOL_OK, tpool_submit_copy(pool, nap, &ms, sizeof ms, NULL));
    assert_status(TPOOL_OK, tpool_submit_copy(pool, raises, &ms, sizeof ms, &future));
    assert_status(TPOOL_FAILED, end_of(future));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_status(TPOOL_OK, tpool_get_stats(pool, &stats));
    assert_int_equal(6, stats.submitted);
    assert_int_equal(5, stats.completed);
    assert_int_equal(1, stats.failed);
    assert_int_equal(0, stats.active);
    assert_int_equal(0, stats.queued);
    assert_true(stats.run_p50_ns >= TPOOL_MS(19) && stats.run_p99_ns >= stats.run_p50_ns);
    assert_true(stats.busy_ns >= TPOOL_MS(4 * 20 - 4));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* However often a worker is replaced, each by one that is asked for no more than that: nothing stands still. */
static void workers_replaced_after_each_task_stall_nobody(void **state) {
    (void)state;
    enum { TASKS = 60 };
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 3, .max_tasks_per_worker = 1 });
    tpool_future *futures[TASKS];
    intptr_t pids[TASKS];
    for (int i = 0; i < TASKS; i++) assert_status(TPOOL_OK, tpool_submit(pool, getpid_task, NULL, &futures[i]));
    for (int i = 0; i < TASKS; i++) {
        pids[i] = (intptr_t)take(futures[i]);
        for (int k = 0; k < i; k++) assert_int_not_equal(pids[k], pids[i]);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static const struct CMUnitTest tests[] = {
    PROCESS_TEST(a_task_runs_in_another_process),
    PROCESS_TEST(arguments_and_results_travel_by_value),
    PROCESS_TEST(what_fn_returns_is_kept_apart_from_the_bytes),
    PROCESS_TEST(an_error_arrives_with_code_message_and_name),
    PROCESS_TEST(owned_results_fail_the_task),
    PROCESS_TEST(an_argument_by_pointer_is_refused),
    PROCESS_TEST(bytes_of_any_size_travel),
    PROCESS_TEST(both_directions_full_are_no_deadlock),
    PROCESS_TEST(arg_free_runs_once_in_the_program),
    PROCESS_TEST(workers_start_when_needed_and_stay),
    PROCESS_TEST(an_idle_worker_ends_with_its_process),
    PROCESS_TEST(a_worker_is_replaced_after_its_tasks),
    PROCESS_TEST(initializer_and_finalizer_run_in_the_process),
    PROCESS_TEST(a_failed_initializer_breaks_the_pool),
    PROCESS_TEST(priorities_cancel_expiry_and_pause),
    PROCESS_TEST(callbacks_wait_and_as_completed),
    PROCESS_TEST(a_callback_may_wait_for_a_task_of_the_same_pool),
    PROCESS_TEST(caller_runs_blocks_instead),
    PROCESS_TEST(a_running_task_is_asked_to_stop),
    PROCESS_TEST(an_item_is_asked_to_stop_when_its_map_is_closed),
    PROCESS_TEST(a_task_asked_to_stop_while_it_waited_knows_from_the_start),
    PROCESS_TEST(a_pool_is_resized),
    PROCESS_TEST(statistics_count_what_became_of_tasks),
    PROCESS_TEST(workers_replaced_after_each_task_stall_nobody),
};
RUN_PROCESS_TESTS(tests)
