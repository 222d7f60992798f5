/* Pools of processes: what is as with threads, and what is not. */
#include "support/children.h"

/* What the program and its workers share: made before any pool, so that each worker inherits it. */
typedef struct common {
    shared_gate gate;
    _Atomic(int) count, second, order_next;
    _Atomic(long) pid;
    _Atomic(int) order[64];
} common;
static common *all;

static int set_up(void **state) {
    (void)state;
    memset((void *)all, 0, sizeof *all);
    return 0;
}

/* In a worker: waits at a gate that the program opens. */
static void *gate_of_processes(void *arg) {
    shared_gate_pass(&all->gate);
    return arg;
}
static void *count_task(void *arg) {
    (void)arg;
    atomic_fetch_add(&all->count, 1);
    return NULL;
}

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
    tpool *pool = process_pool_as(
        (tpool_config){ .max_workers = 1, .initializer = initialize, .finalizer = finalize, .context = &one });
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

static void *square(void *arg) {
    int n = *(int *)arg * *(int *)arg;
    return tpool_return(&n, sizeof n);
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

static void *until_stopped(void *arg) {
    atomic_fetch_add(&all->gate.arrived, 1);
    while (!tpool_stop_requested()) sleep_ms(1);
    return tpool_return(arg, tpool_arg_size());
}
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
    atomic_int *begun = shared_memory(2 * sizeof *begun), *items[8];
    assert_non_null(begun);
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
    munmap(begun, 2 * sizeof *begun);
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

/* --- managed pools */

static void a_managed_pool_of_processes(void **state) {
    (void)state;
    tpool_manager *manager;
    tpool *pool, *same, *threads, *next;
    tpool_manager_config config = { .idle_timeout_ns = TPOOL_MS(1) };
    assert_status(TPOOL_OK, tpool_manager_create(&manager, &config));
    assert_status(TPOOL_OK, tpool_manager_get(manager, 2, TPOOL_PROCESSES, 0, &pool));
    assert_status(TPOOL_OK, tpool_manager_get(manager, 2, TPOOL_PROCESSES, 0, &same));
    assert_status(TPOOL_OK, tpool_manager_get(manager, 2, TPOOL_THREADS, 0, &threads));
    assert_ptr_equal(pool, same);
    assert_ptr_not_equal(pool, threads);
    intptr_t pid = value_of(pool, getpid_task);
    assert_int_not_equal(pid, getpid());
    assert_int_equal(getpid(), value_of(threads, getpid_task));
    assert_status(TPOOL_OK, tpool_manager_release(manager, same));
    assert_int_equal(pid, value_of(pool, getpid_task)); /* one user is left */
    assert_status(TPOOL_OK, tpool_manager_release(manager, pool));
    assert_status(TPOOL_INVALID, tpool_manager_release(manager, pool));
    /* idle for longer than its limit, it ends at a later get, its processes too */
    for (int64_t end = tpool_now() + LIMIT;; sleep_ms(1)) {
        assert_status(TPOOL_OK, tpool_manager_get(manager, 3, TPOOL_PROCESSES, 0, &next));
        if (kill((pid_t)pid, 0) != 0 && errno == ESRCH) break;
        assert_status(TPOOL_OK, tpool_manager_release(manager, next));
        assert_true(tpool_now() < end);
    }
    /* one that is broken is replaced */
    assert_status(TPOOL_OK, tpool_shutdown(next, TPOOL_WAIT));
    assert_status(TPOOL_OK, tpool_manager_get(manager, 3, TPOOL_PROCESSES, 0, &same));
    assert_ptr_not_equal(next, same);
    pid = value_of(same, getpid_task);
    assert_status(TPOOL_OK, tpool_manager_release(manager, next));
    assert_status(TPOOL_OK, tpool_manager_release(manager, same));
    assert_status(TPOOL_OK, tpool_manager_release(manager, threads));
    assert_status(TPOOL_OK, tpool_manager_shutdown(manager, false));
    tpool_manager_destroy(manager);
    EVENTUALLY(kill((pid_t)pid, 0) != 0 && errno == ESRCH);
}

static void *slow_count(void *arg) {
    sleep_ms(2);
    atomic_fetch_add(&all->count, 1);
    atomic_store(&all->pid, getpid());
    return arg;
}
/* A program that leaves main with work in a managed pool of processes: it is done, and no process stays. */
static void at_exit_a_managed_pool_is_drained(void **state) {
    (void)state;
    SKIP_UNDER_TSAN();
    enum { TASKS = 30 };
    int how;
    pid_t child = fork();
    if (child == 0) {
        tpool *pool;
        if (tpool_manager_get(NULL, 2, TPOOL_PROCESSES, 0, &pool) != TPOOL_OK) _exit(1);
        for (int i = 0; i < TASKS; i++)
            if (tpool_submit(pool, slow_count, NULL, NULL) != TPOOL_OK) _exit(2);
        exit(0);
    }
    assert_int_equal(child, waitpid(child, &how, 0));
    assert_int_equal(0, how);
    assert_int_equal(TASKS, atomic_load(&all->count));
    EVENTUALLY(kill((pid_t)atomic_load(&all->pid), 0) != 0 && errno == ESRCH);
}

static void *for_ever(void *arg) {
    (void)arg;
    atomic_fetch_add(&all->gate.arrived, 1);
    for (;;) sleep_ms(1000);
    return NULL;
}
static void a_run_limit_kills_the_process_and_only_that_task(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    tpool_future *future, *next;
    const tpool_error *error;
    tpool_task task = { .fn = for_ever, .run_limit_ns = TPOOL_MS(20), .name = "slow" };
    future = submitted_task(pool, task);
    next = submitted(pool, getpid_task, NULL);
    assert_status(TPOOL_BROKEN, tpool_future_result(future, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_future_error(future, 0, &error));
    assert_int_equal(-SIGKILL, error->code);
    assert_status(TPOOL_BROKEN, error->cause);
    assert_non_null(strstr(error->message, "SIGKILL"));
    assert_non_null(strstr(error->message, "run_limit_ns"));
    assert_string_equal("slow", error->task);
    assert_status(TPOOL_OK, tpool_future_result(next, LIMIT, NULL));
    tpool_future_release(future);
    tpool_future_release(next);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void run_with_timeout_kills_the_process_and_only_that_task(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    tpool_future *future, *next;
    tpool_task task = { .fn = for_ever };
    assert_true(value_of(pool, getpid_task) > 0); /* the process is there */
    tpool_status end = TPOOL_CANCELLED;           /* again and longer where it had not even started */
    for (int64_t limit = TPOOL_MS(20); end == TPOOL_CANCELLED && limit < LIMIT; limit *= 2) {
        assert_status(TPOOL_TIMEOUT, tpool_run_with_timeout(pool, &task, limit, &future));
        end = tpool_future_result(future, LIMIT, NULL);
        if (end == TPOOL_CANCELLED) tpool_future_release(future);
    }
    assert_status(TPOOL_BROKEN, end);
    next = submitted(pool, getpid_task, NULL);
    assert_non_null(strstr(tpool_future_message(future), "tpool_run_with_timeout"));
    assert_status(TPOOL_OK, tpool_future_result(next, LIMIT, NULL));
    tpool_future_release(future);
    tpool_future_release(next);
    tpool_stats stats;
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_status(TPOOL_OK, tpool_get_stats(pool, &stats));
    assert_int_equal(1, stats.failed);
    assert_int_equal(2, stats.completed);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void kill_workers_breaks_what_runs_and_nothing_else(void **state) {
    (void)state;
    enum { RUNNING = 2, WAITING = 10 };
    tpool *pool = process_pool_as((tpool_config){ .max_workers = RUNNING });
    tpool_future *running[RUNNING], *waiting[WAITING];
    assert_status(TPOOL_OK, tpool_kill_workers(pool)); /* none yet */
    for (int i = 0; i < RUNNING; i++) assert_status(TPOOL_OK, tpool_submit(pool, for_ever, NULL, &running[i]));
    EVENTUALLY(atomic_load(&all->gate.arrived) == RUNNING);
    for (int i = 0; i < WAITING; i++) assert_status(TPOOL_OK, tpool_submit(pool, getpid_task, NULL, &waiting[i]));
    assert_status(TPOOL_OK, tpool_kill_workers(pool));
    for (int i = 0; i < RUNNING; i++) {
        assert_status(TPOOL_BROKEN, tpool_future_result(running[i], LIMIT, NULL));
        assert_non_null(strstr(tpool_future_message(running[i]), "tpool_kill_workers"));
        tpool_future_release(running[i]);
    }
    for (int i = 0; i < WAITING; i++) {
        assert_status(TPOOL_OK, end_of(waiting[i]));
    }
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_status(TPOOL_OK, tpool_kill_workers(pool)); /* idle ones */
    assert_true(value_of(pool, getpid_task) > 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void every_shutdown_ends(void **state) {
    (void)state;
    for (unsigned flags = 0; flags < 8; flags++) {
        tpool *pool = process_pool_as((tpool_config){ .max_workers = 2 });
        tpool_future *futures[6];
        set_up(NULL);
        tpool_fn runs = flags & TPOOL_STOP_RUNNING ? until_stopped : gate_of_processes;
        for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_submit(pool, runs, NULL, &futures[i]));
        EVENTUALLY(atomic_load(&all->gate.arrived) == 2);
        for (int i = 2; i < 6; i++) assert_status(TPOOL_OK, tpool_submit(pool, count_task, NULL, &futures[i]));
        if (flags & TPOOL_STOP_RUNNING) atomic_store(&all->gate.open, 0);
        else atomic_store(&all->gate.open, 1);
        assert_status(TPOOL_OK, tpool_shutdown(pool, flags));
        assert_status(TPOOL_SHUTDOWN, tpool_submit(pool, count_task, NULL, NULL));
        for (int i = 0; i < 6; i++) {
            tpool_status end = tpool_future_result(futures[i], LIMIT, NULL);
            if (i < 2 || !(flags & TPOOL_CANCEL_PENDING)) assert_status(TPOOL_OK, end);
            else assert_true(end == TPOOL_CANCELLED || end == TPOOL_OK); /* a worker may have been faster */
            tpool_future_release(futures[i]);
        }
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

/* --- map */

static void *add_context(void *item, void *context) { return (void *)(intptr_t)(*(int *)item + *(int *)context); }
static void map_over_an_array(void **state) {
    (void)state;
    enum { ITEMS = 1000 };
    static const size_t chunks[] = { 0, 1, 7, 1000 };
    int items[ITEMS], context = 5;
    for (int i = 0; i < ITEMS; i++) items[i] = i;
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 2 });
    for (int c = 0; c < 4; c++) {
        tpool_map_spec spec = { .fn = add_context,
                                .context = &context,
                                .context_size = sizeof context,
                                .items = items,
                                .count = ITEMS,
                                .stride = sizeof(int),
                                .item_size = sizeof(int),
                                .chunk_size = chunks[c] };
        tpool_map_iter *iter;
        void *result;
        assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
        for (int i = 0; i < ITEMS; i++) {
            assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, &result));
            assert_int_equal(i + 5, (intptr_t)result);
        }
        assert_status(TPOOL_END, tpool_map_next(iter, LIMIT, &result));
        tpool_map_close(iter);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

typedef struct record {
    char pad[5];
    unsigned char n;
    char rest[94];
} record;
static void *bytes_or_error(void *item, void *context) {
    record *r = item;
    unsigned char bytes[10000];
    (void)context;
    if (r->n % 10 == 3) return tpool_raise(r->n, "item %d", r->n);
    if (r->n % 10 == 5) return tpool_return_owned(malloc(1), free);
    memset(bytes, r->n, sizeof bytes);
    return tpool_return(bytes, (size_t)r->n * 40);
}
static void each_item_has_its_own_result_bytes_and_error(void **state) {
    (void)state;
    enum { ITEMS = 200 }; /* their results are more than fits at once */
    record items[ITEMS];
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 2 });
    memset(items, 0, sizeof items);
    for (int i = 0; i < ITEMS; i++) items[i].n = (unsigned char)i;
    tpool_map_spec spec = {
        .fn = bytes_or_error, .items = items, .count = ITEMS, .stride = sizeof *items, .item_size = 6, .chunk_size = 100
    };
    tpool_map_iter *iter;
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    for (int i = 0; i < ITEMS; i++) {
        void *result;
        const tpool_error *error;
        tpool_status status = tpool_map_next(iter, LIMIT, &result);
        assert_status(TPOOL_OK, tpool_map_error(iter, &error));
        if (i % 10 == 3 || i % 10 == 5) {
            assert_status(TPOOL_FAILED, status);
            assert_int_equal(i % 10 == 3 ? i : EINVAL, error->code);
        } else {
            assert_status(TPOOL_OK, status);
            assert_null(error);
            assert_int_equal(i * 40, tpool_map_result_size(iter));
            if (i) assert_int_equal(i, ((unsigned char *)result)[i * 40 - 1]);
        }
    }
    tpool_map_close(iter);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

typedef struct source {
    int next, end;
} source;
static bool next_item(void *context, void **item) {
    source *s = context;
    if (s->next == s->end) return false;
    int *n = malloc(sizeof *n);
    *n = s->next++;
    *item = n;
    return true;
}
static void free_item(void *item, void *context) {
    (void)context;
    free(item);
    atomic_fetch_add(&all->second, 1);
}
static void *twice(void *item, void *context) { return context ? NULL : (void *)(intptr_t)(2 * *(int *)item); }
static void map_over_a_source(void **state) {
    (void)state;
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 2 });
    source s = { 0, 300 };
    tpool_map_spec spec = { .fn = twice,
                            .context = &s,
                            .next = next_item,
                            .buffer_size = 16,
                            .item_free = free_item,
                            .item_size = sizeof(int),
                            .chunk_size = 4 };
    tpool_map_iter *iter;
    void *result;
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    for (int i = 0; i < 200; i++) {
        assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, &result));
        assert_int_equal(2 * i, (intptr_t)result);
        assert_int_equal(i, *(int *)tpool_map_item(iter));
        assert_int_equal(i, atomic_load(&all->second)); /* freed in the next call */
    }
    tpool_map_close(iter);
    assert_int_equal(s.next, atomic_load(&all->second));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* An item beyond its limit is killed, and is the only one that ends so; the others' times do not add up to it. */
static void *sleep_item(void *item, void *context) {
    (void)context;
    sleep_ms(*(int *)item);
    return tpool_return(item, sizeof(int));
}
static void an_item_that_runs_too_long_is_killed_alone(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    int items[] = { 250, 250, 100000, 0, 250, 100000, 0 };
    for (size_t chunk = 1; chunk <= 7; chunk += 6) {
        tpool_map_spec spec = { .fn = sleep_item,
                                .items = items,
                                .count = 7,
                                .stride = sizeof(int),
                                .item_size = sizeof(int),
                                .chunk_size = chunk,
                                .run_limit_ns = TPOOL_MS(700) };
        tpool_map_iter *iter;
        void *result;
        const tpool_error *error;
        assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
        for (int i = 0; i < 7; i++) {
            tpool_status status = tpool_map_next(iter, LIMIT, &result);
            assert_ptr_equal(&items[i], tpool_map_item(iter));
            assert_status(items[i] > 1000 ? TPOOL_BROKEN : TPOOL_OK, status);
            if (status == TPOOL_OK) assert_int_equal(items[i], *(int *)result);
            if (status == TPOOL_OK) continue;
            assert_status(TPOOL_OK, tpool_map_error(iter, &error));
            assert_int_equal(-SIGKILL, error->code);
            assert_non_null(strstr(error->message, "run_limit_ns"));
        }
        assert_status(TPOOL_END, tpool_map_next(iter, LIMIT, &result));
        tpool_map_close(iter);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *gate_item(void *item, void *context) {
    (void)context;
    shared_gate_pass(&all->gate);
    atomic_fetch_add(&all->count, 1);
    return item;
}
static tpool_status call_close(void *iter) {
    tpool_map_close(iter);
    return TPOOL_OK;
}
static void closing_a_map_leaves_out_the_rest_of_a_chunk(void **state) {
    (void)state;
    int items[50] = { 0 };
    background closing;
    tpool *pool = process_pool(1);
    tpool_map_iter *iter = map_over_ints(pool, gate_item, items, 50, 50);
    EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
    background_start(&closing, call_close, iter);
    background_await_block(&closing); /* it has told the process, and waits for the item that runs */
    atomic_store(&all->gate.open, 1);
    background_join(&closing);
    assert_int_equal(1, atomic_load(&all->count));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void map_needs_sizes(void **state) {
    (void)state;
    int items[2] = { 0 };
    tpool *pool = process_pool(1);
    tpool_map_iter *iter = (tpool_map_iter *)items;
    tpool_map_spec spec = { .fn = twice, .items = items, .count = 2, .stride = sizeof(int) };
    assert_status(TPOOL_INVALID, tpool_map(pool, &spec, &iter));
    assert_null(iter);
    spec.item_size = sizeof(int);
    spec.context_size = 1;
    assert_status(TPOOL_INVALID, tpool_map(pool, &spec, &iter));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- inside a worker */

static void add_part(size_t begin, size_t end, void *context) {
    for (size_t i = begin; i < end; i++) atomic_fetch_add((_Atomic(long) *)context, (long)i);
}
static void *job(void *arg) { return (void *)((intptr_t)arg * 2); }
static void *nested_work(void *arg) {
    tpool *threads = NULL, *processes = NULL;
    tpool_future *future;
    tpool_job forked;
    void *result = NULL;
    _Atomic(long) sum = 0;
    int n = *(int *)arg, bad = 0;
    tpool_fork(&forked, job, (void *)(intptr_t)21);
    bad |= (intptr_t)tpool_join(&forked) != 42;
    bad |= 2 * (tpool_for(tpool_default(), 0, 100, 1, add_part, &sum) != TPOOL_OK || atomic_load(&sum) != 4950);
    bad |= 4 * (tpool_create(&threads, NULL) != TPOOL_OK);
    bad |= 8 * (tpool_submit_copy(threads, square, &n, sizeof n, &future) != TPOOL_OK);
    bad |= 16 * (tpool_future_result(future, LIMIT, &result) != TPOOL_OK || *(int *)result != n * n);
    tpool_future_release(future);
    tpool_destroy(threads);
    bad |= 32 * (tpool_create(&processes, &(tpool_config){ .kind = TPOOL_PROCESSES, .max_workers = 1 }) != TPOOL_OK);
    bad |= 64 * (tpool_submit_copy(processes, square, &n, sizeof n, &future) != TPOOL_OK);
    bad |= 128 * (tpool_future_result(future, LIMIT, &result) != TPOOL_OK || *(int *)result != n * n);
    tpool_future_release(future);
    tpool_destroy(processes);
    return (void *)(intptr_t)bad;
}
static void a_worker_process_may_have_pools_of_its_own(void **state) {
    (void)state;
    SKIP_UNDER_TSAN();
    int n = 9;
    tpool_future *future;
    assert_status(TPOOL_OK, tpool_submit(tpool_default(), count_task, NULL, &future)); /* the program has threads */
    assert_status(TPOOL_OK, end_of(future));
    tpool *pool = process_pool(1);
    assert_int_equal(0, value_of_copy(pool, nested_work, &n, sizeof n));
    assert_int_equal(0, value_of_copy(pool, nested_work, &n, sizeof n));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void *use_parents_pool(void *arg) {
    tpool *pool = *(tpool **)arg;
    size_t nothing = 0;
    return (void *)(intptr_t)(tpool_submit(pool, count_task, NULL, NULL) == TPOOL_BROKEN &&
                              tpool_for(pool, 0, 1, 1, add_part, &nothing) == TPOOL_BROKEN &&
                              tpool_destroy(pool) == TPOOL_BROKEN);
}
static void the_programs_pools_are_broken_in_a_worker(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    assert_int_equal(1, value_of_copy(pool, use_parents_pool, &pool, sizeof pool));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_loop_from_outside_is_unsupported(void **state) {
    (void)state;
    size_t sum = 0;
    tpool *pool = process_pool(1);
    assert_status(TPOOL_UNSUPPORTED, tpool_for(pool, 0, 10, 1, add_part, &sum));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *forks_and_returns(void *arg) {
    pid_t child = fork();
    if (child == 0) return arg; /* ends the child, and disturbs nobody */
    int how;
    return waitpid(child, &how, 0) == child && WIFEXITED(how) ? (void *)1 : NULL;
}
static void a_task_may_fork(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    assert_int_equal(1, value_of(pool, forks_and_returns));
    assert_int_equal(1, value_of(pool, forks_and_returns));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *open_descriptors(void *arg) {
    int count = 0;
    (void)arg;
    for (int fd = 3; fd < 1000; fd++) {
        char byte;
        if (fcntl(fd, F_GETFD) < 0) continue;
        if (read(fd, &byte, 1) == 1 && byte == '!') return (void *)-1; /* a file of the program's */
        count++;
    }
    return (void *)(intptr_t)count;
}
static void *read_from(void *arg) {
    char text[4] = "";
    ssize_t n = pread(*(int *)arg, text, 3, 0);
    return (void *)(intptr_t)(n == 3 && strcmp(text, "!!!") == 0);
}
static void only_listed_descriptors_are_inherited(void **state) {
    (void)state;
    char path[] = "/tmp/test_processesXXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 3);
    unlink(path);
    assert_int_equal(3, pwrite(fd, "!!!", 3, 0));
    tpool *without = process_pool(1),
          *with = process_pool_as((tpool_config){ .max_workers = 1, .descriptors = &fd, .descriptor_count = 1 });
    assert_int_equal(0, value_of_copy(without, read_from, &fd, sizeof fd));
    assert_int_equal(1, value_of_copy(with, read_from, &fd, sizeof fd));
    (void)open_descriptors;
    assert_status(TPOOL_OK, tpool_destroy(without));
    assert_status(TPOOL_OK, tpool_destroy(with));
    close(fd);
    tpool *pool = NULL;
    tpool_config none_listed = { .kind = TPOOL_PROCESSES, .descriptor_count = 1 };
    assert_status(TPOOL_INVALID, tpool_create(&pool, &none_listed));
}

/* --- beside the rest of the program */

static void the_programs_own_waitpid_sees_its_own_children_only(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    assert_true(value_of(pool, getpid_task) > 0);
    int how;
    assert_int_equal(-1, waitpid(-1, &how, WNOHANG));
    assert_int_equal(ECHILD, errno);
    pid_t child = fork();
    if (child == 0) _exit(3);
    assert_int_equal(child, waitpid(-1, &how, 0));
    assert_int_equal(3, WEXITSTATUS(how));
    assert_int_equal(-1, waitpid(-1, &how, 0));
    assert_true(value_of(pool, getpid_task) > 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(-1, waitpid(-1, &how, 0));
}

/* A child of the program's that outlives it must not hold the pool's descriptors. */
static void a_child_of_fork_is_no_user_of_the_pool(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    intptr_t worker = value_of(pool, getpid_task);
    tpool_future *running = submitted(pool, gate_of_processes, NULL);
    pid_t child = fork();
    if (child == 0) {
        tpool_status a = tpool_submit(pool, count_task, NULL, NULL), b = tpool_kill_workers(pool),
                     c = tpool_destroy(pool);
        _exit(a == TPOOL_BROKEN && b == TPOOL_BROKEN && c == TPOOL_BROKEN ? 0 : 1);
    }
    int how;
    assert_int_equal(child, waitpid(child, &how, 0));
    assert_int_equal(0, how);
    atomic_store(&all->gate.open, 1);
    assert_status(TPOOL_OK, tpool_future_result(running, LIMIT, NULL)); /* the child's end has killed nothing */
    assert_int_equal(worker, value_of(pool, getpid_task));
    tpool_future_release(running);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *prints(void *arg) {
    printf("%s", (char *)arg);
    return NULL;
}
static void what_a_task_prints_appears_once(void **state) {
    (void)state;
    SKIP_UNDER_TSAN();
    int ends[2], how;
    char text[200] = "";
    assert_int_equal(0, pipe(ends));
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 1);
        setvbuf(stdout, NULL, _IOFBF, 4096);
        printf("before ");
        tpool *pool = NULL;
        if (tpool_create(&pool, &(tpool_config){ .kind = TPOOL_PROCESSES, .max_workers = 1 }) != TPOOL_OK) _exit(1);
        for (int i = 0; i < 2; i++)
            if (tpool_submit_copy(pool, prints, "task ", 6, NULL) != TPOOL_OK) _exit(1);
        if (tpool_drain(pool, LIMIT) != TPOOL_OK) _exit(1);
        tpool_destroy(pool);
        printf("after");
        fflush(stdout);
        _exit(0);
    }
    close(ends[1]);
    size_t size = 0;
    for (ssize_t n; (n = read(ends[0], text + size, sizeof text - 1 - size)) > 0;) size += (size_t)n;
    close(ends[0]);
    assert_int_equal(child, waitpid(child, &how, 0));
    assert_int_equal(0, how);
    if (strcmp("before task task after", text) != 0) /* where it is written at create */
        assert_string_equal("task task before after", text);
}

/* Whoever has the stream's lock while the pool is made. */
static atomic_bool prints_no_more;
static void *prints_all_the_time(void *arg) {
    while (!atomic_load(&prints_no_more)) printf("%*d\n", 3000, 1);
    return arg;
}
static void a_pool_made_beside_threads_that_print_has_tasks_that_print(void **state) {
    (void)state;
    SKIP_UNDER_TSAN();
    int how;
    pid_t child = fork();
    if (child == 0) {
        pthread_t threads[2];
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 1);
        for (int i = 0; i < 2; i++)
            if (pthread_create(&threads[i], NULL, prints_all_the_time, NULL) != 0) _exit(1);
        for (int i = 0; i < 5; i++) {
            tpool *pool = NULL;
            tpool_config config = { .kind = TPOOL_PROCESSES, .max_workers = 1 };
            tpool_future *future;
            if (tpool_create(&pool, &config) != TPOOL_OK) _exit(2);
            if (tpool_submit_copy(pool, prints, "task ", 6, &future) != TPOOL_OK) _exit(3);
            if (tpool_future_result(future, TPOOL_SEC(20), NULL) != TPOOL_OK) _exit(4);
            tpool_future_release(future);
            tpool_destroy(pool);
        }
        _exit(0);
    }
    assert_int_equal(child, waitpid(child, &how, 0));
    assert_int_equal(0, how);
}

static void a_shared_pool_may_be_one_of_processes(void **state) {
    (void)state;
    SKIP_UNDER_TSAN();
    int how;
    pid_t child = fork(); /* where no shared pool has been used */
    if (child == 0) {
        tpool_config low = { .kind = TPOOL_PROCESSES, .max_workers = 1 };
        tpool_future *future;
        void *result;
        int n = 6;
        if (tpool_dual_configure(NULL, &low) != TPOOL_OK) _exit(1);
        if (tpool_submit_copy(tpool_default(), square, &n, sizeof n, &future) != TPOOL_OK) _exit(2);
        if (tpool_future_result(future, LIMIT, &result) != TPOOL_OK || *(int *)result != 36) _exit(3);
        tpool_future_release(future);
        for (int i = 0; i < 20; i++)
            if (tpool_submit(tpool_default(), count_task, NULL, NULL) != TPOOL_OK) _exit(4);
        exit(0); /* drains it */
    }
    assert_int_equal(child, waitpid(child, &how, 0));
    assert_int_equal(0, how);
    assert_int_equal(20, atomic_load(&all->count));
}

static void *stack_eater(void *arg) {
    char bytes[3 << 20];
    memset(bytes, *(int *)arg, sizeof bytes);
    return (void *)(intptr_t) * (volatile char *)(bytes + 12345);
}
static void the_stack_is_as_large_as_asked(void **state) {
    (void)state;
    SKIP_UNDER_TSAN();
    int n = 5;
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .stack_size = 16 << 20 });
    assert_int_equal(5, value_of_copy(pool, stack_eater, &n, sizeof n));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* By default it is that of a main thread, whatever the thread has that creates the pool. */
static void *on_a_small_stack(void *pool) {
    *(tpool **)pool = process_pool(1);
    return NULL;
}
static void the_stack_is_not_that_of_the_creator(void **state) {
    (void)state;
    SKIP_UNDER_TSAN();
    int n = 5;
    pthread_t thread;
    pthread_attr_t attributes;
    tpool *pool = NULL;
    assert_int_equal(0, pthread_attr_init(&attributes));
    assert_int_equal(0, pthread_attr_setstacksize(&attributes, SLOW_TOOL ? 1 << 20 : 128 << 10));
    assert_int_equal(0, pthread_create(&thread, &attributes, on_a_small_stack, &pool));
    assert_int_equal(0, pthread_join(thread, NULL));
    pthread_attr_destroy(&attributes);
    assert_int_equal(5, value_of_copy(pool, stack_eater, &n, sizeof n));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_task_may_end_its_thread_whatever_the_stack(void **state) {
    (void)state;
    SKIP_UNDER_TSAN();
    for (size_t size = 0; size <= 1 << 20; size += 1 << 20) {
        tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .stack_size = size });
        assert_status(TPOOL_BROKEN, end_of(submitted(pool, end_thread, NULL)));
        assert_true(value_of(pool, getpid_task) > 0);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

static void create_and_destroy_leave_nothing_open(void **state) {
    (void)state;
    int before = -1;
    for (int i = 0; i < 20; i++) {
        int lowest = open("/dev/null", O_RDONLY), count = 0;
        close(lowest);
        for (int fd = 0; fd < 1000; fd++) count += fcntl(fd, F_GETFD) >= 0;
        if (before < 0) before = count;
        assert_int_equal(before, count);
        tpool *pool = process_pool_as((tpool_config){ .max_workers = 2 });
        assert_true(value_of(pool, getpid_task) > 0);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

int main(void) {
    all = shared_memory(sizeof *all);
#define T(name) cmocka_unit_test_setup(name, set_up)
    const struct CMUnitTest tests[] = {
        T(a_task_runs_in_another_process),
        T(arguments_and_results_travel_by_value),
        T(what_fn_returns_is_kept_apart_from_the_bytes),
        T(an_error_arrives_with_code_message_and_name),
        T(owned_results_fail_the_task),
        T(an_argument_by_pointer_is_refused),
        T(bytes_of_any_size_travel),
        T(both_directions_full_are_no_deadlock),
        T(arg_free_runs_once_in_the_program),
        T(workers_start_when_needed_and_stay),
        T(an_idle_worker_ends_with_its_process),
        T(a_worker_is_replaced_after_its_tasks),
        T(initializer_and_finalizer_run_in_the_process),
        T(a_failed_initializer_breaks_the_pool),
        T(priorities_cancel_expiry_and_pause),
        T(callbacks_wait_and_as_completed),
        T(a_callback_may_wait_for_a_task_of_the_same_pool),
        T(caller_runs_blocks_instead),
        T(a_running_task_is_asked_to_stop),
        T(an_item_is_asked_to_stop_when_its_map_is_closed),
        T(a_task_asked_to_stop_while_it_waited_knows_from_the_start),
        T(a_run_limit_kills_the_process_and_only_that_task),
        T(run_with_timeout_kills_the_process_and_only_that_task),
        T(kill_workers_breaks_what_runs_and_nothing_else),
        T(every_shutdown_ends),
        T(a_pool_is_resized),
        T(statistics_count_what_became_of_tasks),
        T(workers_replaced_after_each_task_stall_nobody),
        T(a_managed_pool_of_processes),
        T(at_exit_a_managed_pool_is_drained),
        T(map_over_an_array),
        T(each_item_has_its_own_result_bytes_and_error),
        T(map_over_a_source),
        T(an_item_that_runs_too_long_is_killed_alone),
        T(closing_a_map_leaves_out_the_rest_of_a_chunk),
        T(map_needs_sizes),
        T(a_worker_process_may_have_pools_of_its_own),
        T(the_programs_pools_are_broken_in_a_worker),
        T(a_loop_from_outside_is_unsupported),
        T(a_task_may_fork),
        T(only_listed_descriptors_are_inherited),
        T(the_programs_own_waitpid_sees_its_own_children_only),
        T(a_child_of_fork_is_no_user_of_the_pool),
        T(what_a_task_prints_appears_once),
        T(a_pool_made_beside_threads_that_print_has_tasks_that_print),
        T(a_shared_pool_may_be_one_of_processes),
        T(the_stack_is_as_large_as_asked),
        T(the_stack_is_not_that_of_the_creator),
        T(a_task_may_end_its_thread_whatever_the_stack),
        T(create_and_destroy_leave_nothing_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
