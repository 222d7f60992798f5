/* Process pools in unusual programs: who ends with whom, other credentials, a program that adopts orphans or lowers its
   own limits. */
#include "process_ends.h"

/* --- who ends with whom */

static void *kills_its_group(void *arg) {
    kill(0, SIGTERM);
    sleep_ms(10000);
    return arg;
}
static void a_signal_to_a_tasks_group_reaches_no_other_worker(void **state) {
    (void)state;
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 3 });
    tpool_future *others[2];
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_submit(pool, gate_of_processes, NULL, &others[i]));
    EVENTUALLY(atomic_load(&all->gate.arrived) == 2);
    assert_status(TPOOL_BROKEN, end_of(submitted(pool, kills_its_group, NULL)));
    atomic_store(&all->gate.open, 1);
    for (int i = 0; i < 2; i++) {
        assert_status(TPOOL_OK, end_of(others[i]));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *waits_beside_a_child(void *arg) {
    pid_t child = fork();
    if (child == 0) {
        sleep_ms(3 * 1000 * LIMIT_SECONDS);
        _exit(0);
    }
    atomic_store(&all->other, child);
    return waits_for_ever(arg);
}
static void who_is_killed_takes_its_children_along(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    for (int how = 0; how < 4; how++) {
        tpool_future *future;
        set_up(NULL);
        tpool_task task = { .fn = waits_beside_a_child, .run_limit_ns = how == 0 ? TPOOL_MS(200) : 0 };
        future = submitted_task(pool, task);
        EVENTUALLY(atomic_load(&all->gate.arrived) == 1 || how == 0);
        if (how == 1) assert_status(TPOOL_OK, tpool_kill_workers(pool));
        if (how == 2) assert_int_equal(0, kill((pid_t)atomic_load(&all->pid), SIGSEGV));
        if (how == 3) assert_int_equal(0, kill((pid_t)atomic_load(&all->server), SIGKILL));
        assert_status(TPOOL_BROKEN, end_of(future));
        if (atomic_load(&all->other)) EVENTUALLY(!is_alive(atomic_load(&all->other)));
    }
    assert_true(value_of(pool, getpid_task) > 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
#ifdef __linux__

static bool becomes_nobody(void *context) {
    (void)context;
    return setgid(65534) == 0 && setuid(65534) == 0;
}
/* The kernel's promise to kill a worker with its server does not outlive a change of credentials. */
static void who_has_other_credentials_ends_with_the_server_too(void **state) {
    (void)state;
    if (geteuid() != 0) skip(); /* only root may become another */
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 2, .initializer = becomes_nobody });
    tpool_future *future = submitted(pool, waits_for_ever, NULL);
    EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
    assert_int_equal(0, kill((pid_t)atomic_load(&all->server), SIGKILL));
    EVENTUALLY(!is_alive(atomic_load(&all->pid)));
    assert_status(TPOOL_BROKEN, end_of(future));
    assert_true(value_of(pool, getpid_task) > 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void *becomes_nobody_and_waits(void *arg) {
    if (!becomes_nobody(arg)) return tpool_raise(1, "refused");
    return waits_for_ever(arg);
}
static void a_task_that_changes_its_credentials_ends_with_the_server_too(void **state) {
    (void)state;
    if (geteuid() != 0) skip();
    tpool *pool = process_pool(1);
    tpool_future *future = submitted(pool, becomes_nobody_and_waits, NULL);
    EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
    assert_int_equal(0, kill((pid_t)atomic_load(&all->server), SIGKILL));
    EVENTUALLY(!is_alive(atomic_load(&all->pid)));
    assert_status(TPOOL_BROKEN, end_of(future));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- a task that takes the rights of another user, as a set-uid program does: the pool may not kill it */

static void become_root(void) {
    if (setresuid(0, 0, 0) != 0) _exit(9);
    alarm(LIMIT_SECONDS); /* nothing else ends it if the test fails */
    atomic_store(&all->pids[atomic_load(&all->count)], getpid());
    atomic_fetch_add(&all->count, 1);
}
static void *becomes_root(void *arg) {
    become_root();
    shared_gate_pass(&all->gate);
    return arg;
}
static void *becomes_root_and_stops(void *arg) {
    become_root(); /* the gate stays closed: the three before it must live on */
    raise(SIGSTOP);
    return arg;
}
/* The task was ended so early that it had not yet become another: its limit passed while its process began. */
static bool was_killed(tpool_future *future) {
    CHECK_STATUS(TPOOL_BROKEN, tpool_future_result(future, LIMIT, NULL));
    if (strstr(tpool_future_message(future), "may not be killed")) return false;
    tpool_future_release(future);
    return true;
}
static void check_given_up(tpool *pool, tpool_future *future, const char *why, int count) {
    CHECK_STATUS(TPOOL_BROKEN, tpool_future_result(future, TPOOL_SEC(20), NULL));
    CHECK(strstr(tpool_future_message(future), "may not be killed") && strstr(tpool_future_message(future), why));
    CHECK_EVENTUALLY(atomic_load(&all->count) == count);
    CHECK(is_alive(atomic_load(&all->pids[atomic_load(&all->count) - 1])));
    tpool_future_release(future);
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, getpid_task, NULL, &future));
    CHECK_STATUS(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
    tpool_future_release(future);
}
static int who_may_not_be_killed(void) {
    tpool *pool = NULL;
    tpool_future *future = NULL;
    tpool_config config = { .kind = TPOOL_PROCESSES, .max_workers = 1 };
    CHECK(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 0) == 0);
    CHECK_STATUS(TPOOL_OK, tpool_create(&pool, &config));
    tpool_task task = { .fn = becomes_root, .run_limit_ns = TPOOL_MS(300) };
    do {
        CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, &future));
        task.run_limit_ns *= 2;
    } while (was_killed(future));
    check_given_up(pool, future, "run_limit_ns", 1);
    task.run_limit_ns = 0;
    int64_t limit = TPOOL_MS(300);
    do {
        CHECK_STATUS(TPOOL_TIMEOUT, tpool_run_with_timeout(pool, &task, limit, &future));
        limit *= 2;
    } while (was_killed(future));
    check_given_up(pool, future, "tpool_run_with_timeout", 2);
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, &future));
    CHECK_EVENTUALLY(atomic_load(&all->gate.arrived) == 3);
    CHECK_STATUS(TPOOL_OK, tpool_kill_workers(pool));
    check_given_up(pool, future, "tpool_kill_workers", 3);
    task.fn = becomes_root_and_stops;
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, &future));
    check_given_up(pool, future, "was stopped", 4);
    int64_t began = tpool_now();
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    CHECK(tpool_now() - began < TPOOL_SEC(10)); /* less than the limit for a server that hangs */
    CHECK(atomic_load(&all->count) == 4 && setresuid(0, 0, 0) == 0);
    for (int i = 0; i < 4; i++) CHECK(kill((pid_t)atomic_load(&all->pids[i]), SIGKILL) == 0);
    return 0;
}
static void a_worker_that_may_not_be_killed_is_given_up(void **state) {
    (void)state;
    if (geteuid() != 0 || UNDER_TSAN) skip(); /* only root may become another */
    assert_int_equal(0, in_a_child(who_may_not_be_killed));
}
#endif

/* --- a program that adopts orphans, as the first process of a container does */

#if defined(__linux__) && !defined(TPOOL__PLAIN_POSIX)

static int adopts(void) {
    tpool *pool = NULL;
    tpool_future *future;
    prctl(PR_SET_CHILD_SUBREAPER, 1ul, 0ul, 0ul, 0ul);
    for (int round = 0; round < 3; round++) {
        tpool_config config = { .kind = TPOOL_PROCESSES, .max_workers = 2 };
        atomic_store(&all->gate.arrived, 0);
        if (tpool_create(&pool, &config) != TPOOL_OK) return 1;
        if (tpool_submit(pool, waits_for_ever, NULL, &future) != TPOOL_OK) return 2;
        while (!atomic_load(&all->gate.arrived)) sleep_ms(1);
        if (round > 0) kill((pid_t)atomic_load(&all->server), SIGKILL);
        else if (tpool_kill_workers(pool) != TPOOL_OK) return 3;
        if (tpool_future_result(future, LIMIT, NULL) != TPOOL_BROKEN) return 4;
        tpool_future_release(future);
        if (round == 2) { /* it sees one process of the pool's, and no dead one */
            int how;
            if (waitpid(-1, &how, WNOHANG) != 0) return 5;
        }
        if (tpool_destroy(pool) != TPOOL_OK) return 6;
        if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD) return 7;
    }
    return 0;
}
static void no_zombie_is_left_to_a_program_that_adopts(void **state) {
    (void)state;
    SKIP_UNDER_TSAN();
    assert_int_equal(0, in_a_child(adopts));
}

/* The first process in a new namespace of numbers ends it with itself, and there are no further forks then: create must
   not be the one to fork that. */
static int in_a_new_namespace(void) {
    tpool *pool = NULL;
    if (unshare(CLONE_NEWPID) != 0) return 77;
    tpool_config config = { .kind = TPOOL_PROCESSES, .max_workers = 1 };
    if (tpool_create(&pool, &config) != TPOOL_NO_THREAD || pool) return 1;
    pid_t first = fork();
    if (first < 0) return 2;
    if (first == 0)
        for (;;) sleep_ms(1000);
    pid_t second = fork();
    if (second == 0) _exit(0);
    int end = second < 0 || waitpid(second, NULL, 0) != second ? 3 : 0;
    kill(first, SIGKILL);
    return waitpid(first, NULL, 0) == first ? end : 4;
}
#if defined(HAVE_SECCOMP)
static int in_a_sandbox(void) {
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_memfd_create, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof rules / sizeof *rules, rules };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1ul, 0ul, 0ul, 0ul) != 0 ||
        prctl(PR_SET_SECCOMP, (unsigned long)SECCOMP_MODE_FILTER, &program) != 0)
        return 77;
    if (syscall(SYS_memfd_create, "none", 0u) >= 0) return 1;
    tpool *pool = NULL;
    tpool_future *future;
    void *result;
    tpool_config config = { .kind = TPOOL_PROCESSES, .max_workers = 1 };
    if (tpool_create(&pool, &config) != TPOOL_OK) return 2;
    if (tpool_submit_copy(pool, echo, "bytes", 6, &future) != TPOOL_OK) return 3;
    if (tpool_future_result(future, LIMIT, &result) != TPOOL_OK || strcmp(result, "bytes") != 0) return 4;
    tpool_future_release(future);
    return tpool_destroy(pool) == TPOOL_OK ? 0 : 5;
}
/* One in which nothing can be opened, and a program without standard descriptors: what would take their place? */
static int without_null(void) {
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
#if defined(SYS_open)
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_open, 1, 0),
#else
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 1, 0),
#endif
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOENT),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof rules / sizeof *rules, rules };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1ul, 0ul, 0ul, 0ul) != 0 ||
        prctl(PR_SET_SECCOMP, (unsigned long)SECCOMP_MODE_FILTER, &program) != 0)
        return 77;
    tpool *pool = NULL;
    tpool_config config = { .kind = TPOOL_PROCESSES, .max_workers = 1 };
    if (tpool_create(&pool, &config) != TPOOL_OK) return 1; /* with them it needs none */
    if (tpool_destroy(pool) != TPOOL_OK) return 2;
    close(0);
    if (tpool_create(&pool, &config) != TPOOL_NO_THREAD || pool) return 3;
    return fcntl(0, F_GETFD) < 0 ? 0 : 4;
}
static void without_dev_null_no_other_file_becomes_a_standard_one(void **state) {
    (void)state;
    SKIP_UNDER_TSAN();
    int end = in_a_child(without_null);
    if (end == 77) skip();
    assert_int_equal(0, end);
}
static void a_sandbox_without_memfd_has_pools(void **state) {
    (void)state;
    SKIP_UNDER_TSAN();
    int end = in_a_child(in_a_sandbox);
    if (end == 77) skip(); /* no such sandboxes here */
    assert_int_equal(0, end);
}
#endif
static void create_ruins_no_namespace(void **state) {
    (void)state;
    SKIP_UNDER_TSAN();
    int end = in_a_child(in_a_new_namespace);
    if (end == 77) skip(); /* not allowed here */
    assert_int_equal(0, end);
}
#endif

/* A proxy that writes to a worker that has died leaves no SIGPIPE pending on itself, for callbacks to find. */
static void look_for_pipe(tpool_future *future, void *context) {
    sigset_t pending;
    (void)future;
    sigpending(&pending);
    *(int *)context = sigismember(&pending, SIGPIPE);
}
static void no_signal_stays_pending_in_the_program(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    int pending = -1;
    pid_t first = (pid_t)value_of(pool, getpid_task);
    assert_int_equal(0, kill(first, SIGKILL));
    EVENTUALLY(!is_alive(first));
    tpool_future *gate;
    assert_status(TPOOL_OK, tpool_submit(pool, gate_of_processes, NULL, &gate)); /* its first worker is dead */
    assert_status(TPOOL_OK, tpool_future_add_done_callback(gate, look_for_pipe, &pending));
    EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
    atomic_store(&all->gate.open, 1);
    assert_status(TPOOL_OK, tpool_future_result(gate, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    tpool_future_release(gate);
    assert_int_equal(0, pending);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- a program that lowers its own limit of descriptors, as a sandbox does: poll then refuses to look at so many */

static void *takes_a_moment(void *arg) {
    sleep_ms(50);
    return arg;
}
static void *exits_with_three(void *arg) {
    (void)arg;
    _exit(3);
}
static int below_its_descriptors(rlim_t most) {
    tpool *pool = NULL;
    tpool_future *future = NULL;
    const tpool_error *error = NULL;
    struct rlimit before, low;
    tpool_config config = { .kind = TPOOL_PROCESSES, .max_workers = 1 };
    CHECK_STATUS(TPOOL_OK, tpool_create(&pool, &config));
    CHECK_STATUS(TPOOL_OK, tpool_warm_up(pool, 1));
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    low = before;
    low.rlim_cur = most;
    CHECK(setrlimit(RLIMIT_NOFILE, &low) == 0);
    clock_t cpu = clock();
    tpool_task task = { .fn = takes_a_moment, .run_limit_ns = TPOOL_SEC(10) };
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, &future));
    CHECK_STATUS(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
    tpool_future_release(future);
    task.fn = exits_with_three;
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, &future));
    CHECK_STATUS(TPOOL_BROKEN, tpool_future_result(future, LIMIT, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_future_error(future, 0, &error));
    CHECK(error->code == 3);
    tpool_future_release(future);
    CHECK(clock() - cpu < CLOCKS_PER_SEC); /* no wait spins */
    /* the dead worker cannot be replaced before there is room for its descriptors */
    CHECK_EVENTUALLY(tpool_submit_task(pool, &task, NULL) == TPOOL_NO_THREAD);
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, takes_a_moment, NULL, &future));
    CHECK_STATUS(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
    tpool_future_release(future);
    CHECK(setrlimit(RLIMIT_NOFILE, &low) == 0);
    int64_t began = tpool_now();
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    CHECK(tpool_now() - began < TPOOL_SEC(10)); /* less than the limit for a server that hangs */
    return 0;
}
/* Files of a few bytes, as a sandbox may allow them, leave no room for what a worker shares with the program. */
static int with_small_files(void) {
    tpool *pool = NULL;
    struct rlimit small = { 100 << 10, 100 << 10 };
    tpool_config config = { .kind = TPOOL_PROCESSES, .max_workers = 1 };
    CHECK(setrlimit(RLIMIT_FSIZE, &small) == 0);
    CHECK_STATUS(TPOOL_NO_MEMORY, tpool_create(&pool, &config));
    CHECK(pool == NULL);
    return 0;
}
static void create_tells_that_workers_have_no_room(void **state) {
    (void)state;
    assert_int_equal(0, in_a_child(with_small_files));
}
static int with_no_descriptor(void) { return below_its_descriptors(0); }
static int with_one_descriptor(void) { return below_its_descriptors(1); }
static void a_program_that_may_open_no_descriptor_loses_no_task(void **state) {
    (void)state;
    SKIP_UNDER_TSAN();
    assert_int_equal(0, in_a_child(with_no_descriptor));
    assert_int_equal(0, in_a_child(with_one_descriptor));
}

int main(void) {
    all = shared_memory(sizeof *all);
    const struct CMUnitTest tests[] = {
        PROCESS_TEST(a_signal_to_a_tasks_group_reaches_no_other_worker),
        PROCESS_TEST(who_is_killed_takes_its_children_along),
        PROCESS_TEST(no_signal_stays_pending_in_the_program),
        PROCESS_TEST(a_program_that_may_open_no_descriptor_loses_no_task),
        PROCESS_TEST(create_tells_that_workers_have_no_room),
#ifdef __linux__
        PROCESS_TEST(who_has_other_credentials_ends_with_the_server_too),
        PROCESS_TEST(a_task_that_changes_its_credentials_ends_with_the_server_too),
        PROCESS_TEST(a_worker_that_may_not_be_killed_is_given_up),
#endif
#if defined(__linux__) && !defined(TPOOL__PLAIN_POSIX)
        PROCESS_TEST(no_zombie_is_left_to_a_program_that_adopts),
        PROCESS_TEST(create_ruins_no_namespace),
#endif
#if defined(HAVE_SECCOMP) && !defined(TPOOL__PLAIN_POSIX)
        PROCESS_TEST(a_sandbox_without_memfd_has_pools),
        PROCESS_TEST(without_dev_null_no_other_file_becomes_a_standard_one),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
