/* What a task may do inside its process, what the rest of the program sees of it, and shared pools. */
#include "processes.h"

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

#if HAVE_FORK
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
#endif

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
#if HAVE_FORK
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
#endif
static void a_loop_from_outside_is_unsupported(void **state) {
    (void)state;
    size_t sum = 0;
    tpool *pool = process_pool(1);
    assert_status(TPOOL_UNSUPPORTED, tpool_for(pool, 0, 10, 1, add_part, &sum));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

#if HAVE_FORK
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

/* The thread that has the stream's lock while the pool is made. */
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
#endif

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

#if HAVE_FORK
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
#endif
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

#if HAVE_FORK
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
#endif

static const struct CMUnitTest tests[] = {
    PROCESS_TEST(every_shutdown_ends),
    PROCESS_TEST(a_managed_pool_of_processes),
#if HAVE_FORK
    PROCESS_TEST(at_exit_a_managed_pool_is_drained),
#endif
    PROCESS_TEST(a_worker_process_may_have_pools_of_its_own),
#if HAVE_FORK
    PROCESS_TEST(the_programs_pools_are_broken_in_a_worker),
#endif
    PROCESS_TEST(a_loop_from_outside_is_unsupported),
#if HAVE_FORK
    PROCESS_TEST(a_task_may_fork),
    PROCESS_TEST(only_listed_descriptors_are_inherited),
    PROCESS_TEST(the_programs_own_waitpid_sees_its_own_children_only),
    PROCESS_TEST(a_child_of_fork_is_no_user_of_the_pool),
    PROCESS_TEST(what_a_task_prints_appears_once),
    PROCESS_TEST(a_pool_made_beside_threads_that_print_has_tasks_that_print),
    PROCESS_TEST(a_shared_pool_may_be_one_of_processes),
#endif
    PROCESS_TEST(the_stack_is_as_large_as_asked),
#if HAVE_FORK
    PROCESS_TEST(the_stack_is_not_that_of_the_creator),
#endif
    PROCESS_TEST(a_task_may_end_its_thread_whatever_the_stack),
#if HAVE_FORK
    PROCESS_TEST(create_and_destroy_leave_nothing_open),
#endif
};
RUN_PROCESS_TESTS(tests)
