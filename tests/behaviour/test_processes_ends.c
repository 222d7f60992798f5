/* How the end of a process is known, who ends with whom, and what holds before a task has begun: whatever a task does to
   what it can reach, only that task ends as TPOOL_BROKEN, and at once. */
#include "support/children.h"
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif
#if defined(__linux__) && defined(__has_include)
#if __has_include(<linux/seccomp.h>) && __has_include(<linux/filter.h>)
#define HAVE_SECCOMP 1
#include <linux/filter.h>
#include <linux/seccomp.h>
#endif
#endif

typedef struct common {
    shared_gate gate;
    _Atomic(int) count, hang, deaths;
    _Atomic(long) pid, other, server, pids[4];
} common;
static common *all;

static int set_up(void **state) {
    (void)state;
    memset((void *)all, 0, sizeof *all);
    return 0;
}
static void *waits_for_ever(void *arg) {
    atomic_store(&all->pid, getpid());
    atomic_store(&all->server, getppid());
    atomic_fetch_add(&all->gate.arrived, 1);
    for (;;) sleep_ms(1000);
    return arg;
}
static void *waits_for_gate(void *arg) {
    shared_gate_pass(&all->gate);
    return arg;
}
/* In a process of its own, with whatever it does to itself. */
static int in_a_child(int (*story)(void)) {
    int how = -1;
    pid_t child = fork();
    if (child == 0) {
        alarm(100);
        _exit(story());
    }
    assert_int_equal(child, waitpid(child, &how, 0));
    return WIFEXITED(how) ? WEXITSTATUS(how) : 1000 + how;
}

/* --- how an end is known */

#ifdef __linux__
/* A child that no handler of fork knows of holds what its parent held. */
static pid_t raw_fork(void) { return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }

/* Nor does it go on as a second worker, when it returns from the task. */
static void *forks_and_both_return(void *item, void *context) {
    (void)item, (void)context;
    static char bytes[100000];
    int ends[2], how;
    if (pipe(ends) != 0) return NULL;
    pid_t worker = getpid(), child = raw_fork();
    if (child == 0) { /* after its parent */
        char byte;
        return read(ends[0], &byte, 1) == 1 ? tpool_return(bytes, sizeof bytes) : NULL;
    }
    void *result = tpool_return(&worker, sizeof worker);
    bool ended = write(ends[1], "", 1) == 1 && waitpid(child, &how, 0) == child && WIFEXITED(how);
    close(ends[0]);
    close(ends[1]);
    return ended && WEXITSTATUS(how) == 0 ? result : tpool_raise(1, "no end of the child");
}
static void *forks_once(void *arg) { return forks_and_both_return(arg, NULL); }
static void a_child_of_a_bare_fork_ends_where_its_task_returns(void **state) {
    (void)state;
    static char page[2 * 65536];
    uintptr_t at = ((uintptr_t)page + 65535) / 65536 * 65536;
    bool can_tell = madvise((void *)at, 65536, MADV_WIPEONFORK) == 0 || errno != EINVAL; /* since Linux 4.14 */
#ifdef TPOOL__PLAIN_POSIX
    can_tell = false; /* what only POSIX has does not tell a process that it is a copy */
#endif
    if (!can_tell) skip();
    tpool *pool = process_pool(1);
    pid_t worker = (pid_t)value_of(pool, getpid_task);
    int items[6] = { 0 };
    tpool_map_spec spec = { .fn = forks_and_both_return,
                            .items = items,
                            .count = 6,
                            .stride = sizeof(int),
                            .item_size = sizeof(int),
                            .chunk_size = 3 };
    tpool_map_iter *iter;
    void *result;
    for (int i = 0; i < 3; i++) {
        tpool_future *future = submitted(pool, forks_once, NULL);
        assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
        assert_int_equal(sizeof worker, tpool_future_result_size(future));
        assert_int_equal(worker, *(pid_t *)result);
        tpool_future_release(future);
    }
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    for (int i = 0; i < 6; i++) {
        assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, &result));
        assert_int_equal(worker, *(pid_t *)result);
    }
    tpool_map_close(iter);
    assert_int_equal(worker, value_of(pool, getpid_task));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *crashes_beside_a_grandchild(void *arg) {
    pid_t child = raw_fork();
    if (child == 0) { /* out of the group, too, so that nobody kills it with its parent */
        setsid();
        sleep_ms(20000);
        _exit(0);
    }
    atomic_store(&all->other, child);
    while (getsid(child) != child) sleep_ms(1);
    raise(SIGKILL);
    return arg;
}
static void a_death_is_known_though_a_grandchild_lives_on(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    tpool_future *future;
    const tpool_error *error;
    future = submitted(pool, crashes_beside_a_grandchild, NULL);
    assert_status(TPOOL_BROKEN, tpool_future_result(future, TPOOL_SEC(10), NULL));
    assert_status(TPOOL_OK, tpool_future_error(future, 0, &error));
    assert_int_equal(-SIGKILL, error->code);
    tpool_future_release(future);
    assert_true(is_alive(atomic_load(&all->other)));
    assert_true(value_of(pool, getpid_task) > 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    kill((pid_t)atomic_load(&all->other), SIGKILL);
}

/* Nor does it matter when the server is lost with the worker, so that nobody says in its place that it has ended. */
static void *waits_beside_a_grandchild(void *arg) {
    pid_t child = raw_fork();
    if (child == 0) {
        setsid();
        sleep_ms(20000);
        _exit(0);
    }
    atomic_store(&all->other, child);
    while (getsid(child) != child) sleep_ms(1);
    return waits_for_ever(arg);
}
static void *waits_as_an_item(void *item, void *context) {
    (void)item;
    return waits_beside_a_grandchild(context);
}
static void a_servers_death_is_known_though_a_grandchild_lives_on(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    for (int in_a_map = 0; in_a_map < 2; in_a_map++) {
        tpool_future *future = NULL;
        tpool_map_iter *iter = NULL;
        int item = 0;
        tpool_map_spec spec = {
            .fn = waits_as_an_item, .items = &item, .count = 1, .stride = sizeof item, .item_size = sizeof item
        };
        set_up(NULL);
        if (in_a_map) assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
        else assert_status(TPOOL_OK, tpool_submit(pool, waits_beside_a_grandchild, NULL, &future));
        EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
        assert_int_equal(0, kill((pid_t)atomic_load(&all->server), SIGKILL));
        EVENTUALLY(!is_alive(atomic_load(&all->pid)));
        assert_status(TPOOL_BROKEN, in_a_map ? tpool_map_next(iter, TPOOL_SEC(10), NULL)
                                             : tpool_future_result(future, TPOOL_SEC(10), NULL));
        tpool_map_close(iter);
        tpool_future_release(future);
        assert_true(is_alive(atomic_load(&all->other)));
        assert_true(value_of(pool, getpid_task) > 0);
        kill((pid_t)atomic_load(&all->other), SIGKILL);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
#endif

static void a_descriptor_that_is_not_open_is_refused(void **state) {
    (void)state;
    tpool *pool = NULL;
    for (int fd = 3; fd < 40; fd++) {
        if (fcntl(fd, F_GETFD) >= 0) continue;
        tpool_config config = { .kind = TPOOL_PROCESSES, .descriptors = &fd, .descriptor_count = 1 };
        assert_status(TPOOL_INVALID, tpool_create(&pool, &config));
        assert_null(pool);
    }
}

/* What the program has open at create, its code in a worker may believe to be open still. */
enum { BELIEVED = 60 };
static void *closes_what_it_believes_to_be_its_own(void *arg) {
    int found = 0;
    for (int fd = 3; fd < 3 + BELIEVED; fd++) found += close(fd) == 0;
    return found == 0 ? arg : tpool_raise(1, "%d were open", found);
}
static void no_descriptor_of_a_worker_lies_where_the_program_had_one(void **state) {
    (void)state;
    int fds[BELIEVED], highest = 0;
    for (int i = 0; i < BELIEVED; i++) {
        fds[i] = open("/dev/null", O_RDONLY);
        if (fds[i] > highest) highest = fds[i];
    }
    int far = fcntl(fds[0], F_DUPFD, 700); /* above where the pool's begin */
    assert_true(highest >= 0);
    tpool *pool = process_pool(1);
    for (int round = 0; round < 3; round++) {
        assert_status(TPOOL_OK, end_of(submitted(pool, closes_what_it_believes_to_be_its_own, NULL)));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
    for (int i = 0; i < BELIEVED; i++) close(fds[i]);
    if (far >= 0) close(far);
}
static void *counts_descriptors(void *arg) {
    intptr_t lowest = 100000;
    (void)arg;
    for (int fd = 3; fd < 100000 && lowest == 100000; fd++)
        if (fcntl(fd, F_GETFD) >= 0) lowest = fd;
    return (void *)lowest;
}
static void a_worker_has_its_descriptors_above_all_that_were_open(void **state) {
    (void)state;
    struct rlimit limit;
    assert_int_equal(0, getrlimit(RLIMIT_NOFILE, &limit));
    int null = open("/dev/null", O_RDONLY), far = fcntl(null, F_DUPFD, 700);
    close(null);
    if (far < 0) far = 0; /* a small table: there they only begin in its middle */
    tpool *pool = process_pool(1);
    assert_true(value_of(pool, counts_descriptors) > (far ? far : 3));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    if (far) close(far);
}

static void *closes_all_and_opens_files(void *arg) {
    char path[64];
    for (int fd = 3; fd < 4096; fd++) close(fd);
    snprintf(path, sizeof path, "/tmp/test_endsXXXXXX");
    int fd = mkstemp(path);
    unlink(path);
    for (int i = 0; i < 8; i++) (void)dup(fd);
    return fd >= 0 ? arg : NULL;
}
static void a_task_that_closes_everything_harms_only_itself(void **state) {
    (void)state;
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 2 });
    tpool_future *gate;
    gate = submitted(pool, waits_for_gate, NULL);
    EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
    for (int i = 0; i < 5; i++) {
        assert_status(TPOOL_BROKEN, end_of(submitted(pool, closes_all_and_opens_files, NULL)));
    }
    atomic_store(&all->gate.open, 1);
    assert_status(TPOOL_OK, end_of(gate));
    assert_true(value_of(pool, getpid_task) > 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* From now on the worker reads its requests from a pipe of the task's own, where none comes. It lives. */
static void *has_requests_read_elsewhere(void *arg) {
    int ends[2];
    struct stat is;
    if (pipe(ends) != 0) return NULL;
    for (int fd = 3; fd < 4096; fd++)
        if (fd != ends[0] && fstat(fd, &is) == 0 && S_ISFIFO(is.st_mode) &&
            (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY)
            dup2(ends[0], fd);
    return arg;
}
static void a_worker_that_reads_elsewhere_holds_up_nothing(void **state) {
    (void)state;
    tpool *pool = process_pool(1), *other = process_pool(1);
    assert_status(TPOOL_OK, end_of(submitted(pool, has_requests_read_elsewhere, NULL)));
    assert_status(TPOOL_OK, end_of(submitted(other, has_requests_read_elsewhere, NULL)));
    tpool_future *next = submitted(pool, getpid_task, NULL);
    assert_status(TPOOL_OK, tpool_destroy(other));
    assert_status(TPOOL_OK, end_of(next)); /* the worker had not begun it */
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* An item that closes everything: what comes after it in its chunk is lost at most once, and nothing else. */
static void *item_closes_all(void *item, void *context) {
    static char bytes[200000];
    if (*(int *)item == 3)
        for (int fd = 3; fd < 4096; fd++) close(fd);
    return *(int *)context ? tpool_return(bytes, sizeof bytes) : (void *)(intptr_t) * (int *)item;
}
static void an_item_that_closes_everything_costs_one_item(void **state) {
    (void)state;
    int items[10];
    for (int i = 0; i < 10; i++) items[i] = i;
    tpool *pool = process_pool(1);
    for (int large = 0; large < 2; large++) {
        tpool_map_spec spec = { .fn = item_closes_all,
                                .items = items,
                                .count = 10,
                                .stride = sizeof(int),
                                .item_size = sizeof(int),
                                .chunk_size = 10,
                                .context = &large,
                                .context_size = sizeof large };
        tpool_map_iter *iter;
        int lost = 0;
        assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
        for (int i = 0; i < 10; i++) {
            tpool_status status = tpool_map_next(iter, LIMIT, NULL);
            if (status == TPOOL_BROKEN) lost++;
            else assert_status(TPOOL_OK, status);
        }
        tpool_map_close(iter);
        assert_int_equal(large, lost); /* what has its place already is there */
        assert_true(value_of(pool, getpid_task) > 0);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* Without its standard descriptors the program has none of ours in their place, and a worker nothing but /dev/null. */
static void *looks_at_standard_descriptors(void *arg) {
    struct stat null, own;
    (void)arg;
    if (stat("/dev/null", &null) != 0) return NULL;
    for (int fd = 0; fd < 3; fd++)
        if (fstat(fd, &own) != 0 || own.st_rdev != null.st_rdev || own.st_ino != null.st_ino) return NULL;
    return (void *)1;
}
static int without_standard_descriptors(void) {
    for (int fd = 0; fd < 3; fd++) close(fd);
    tpool *pool = NULL;
    tpool_future *future;
    tpool_config config = { .kind = TPOOL_PROCESSES, .max_workers = 1 };
    if (tpool_create(&pool, &config) != TPOOL_OK) return 1;
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) >= 0) return 2;
    void *result;
    if (tpool_submit(pool, looks_at_standard_descriptors, NULL, &future) != TPOOL_OK) return 3;
    if (tpool_future_result(future, LIMIT, &result) != TPOOL_OK) return 4;
    if (!result) return 7;
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) >= 0) return 5;
    tpool_future_release(future);
    return tpool_destroy(pool) == TPOOL_OK ? 0 : 6;
}
static void the_standard_numbers_stay_free(void **state) {
    (void)state;
    SKIP_UNDER_TSAN();
    assert_int_equal(0, in_a_child(without_standard_descriptors));
}

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
static void run_with_timeout_holds_in_the_initializer(void **state) {
    (void)state;
    atomic_store(&all->hang, 0);
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .initializer = hangs_if_told });
    pid_t first = (pid_t)value_of(pool, getpid_task);
    tpool_future *future;
    tpool_task task = { .fn = getpid_task };
    atomic_store(&all->hang, 1);
    assert_int_equal(0, kill(first, SIGKILL));
    EVENTUALLY(!is_alive(first));
    assert_status(TPOOL_TIMEOUT, tpool_run_with_timeout(pool, &task, TPOOL_MS(50), &future));
    assert_status(TPOOL_BROKEN, tpool_future_result(future, TPOOL_SEC(10), NULL));
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
    raise(SIGKILL);
    return arg;
}
static void a_replacement_whose_initializer_hangs_holds_nobody_up(void **state) {
    (void)state;
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 2, .initializer = hangs_if_told });
    tpool_future *gate;
    gate = submitted(pool, waits_for_gate, NULL);
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
        tpool *pool =
            process_pool_as((tpool_config){ .max_workers = 1, .initializer = dies_some_times, .context = &number });
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
    tpool *pool =
        process_pool_as((tpool_config){ .max_workers = 2, .initializer = dies_some_times, .context = &number });
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
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_submit(pool, waits_for_gate, NULL, &others[i]));
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
        sleep_ms(60000);
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
#endif

#ifdef __linux__
/* --- a task that takes the rights of another user, as a set-uid program does: the pool may not kill it */

static void become_root(void) {
    long n = atomic_fetch_add(&all->count, 1);
    if (setresuid(0, 0, 0) != 0) _exit(9);
    alarm(LIMIT_SECONDS); /* nothing else ends it if the test fails */
    atomic_store(&all->pids[n], getpid());
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
static void check_given_up(tpool *pool, tpool_future *future, const char *why) {
    CHECK_STATUS(TPOOL_BROKEN, tpool_future_result(future, TPOOL_SEC(20), NULL));
    CHECK(strstr(tpool_future_message(future), "may not be killed") && strstr(tpool_future_message(future), why));
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
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, &future));
    check_given_up(pool, future, "run_limit_ns");
    task.run_limit_ns = 0;
    CHECK_STATUS(TPOOL_TIMEOUT, tpool_run_with_timeout(pool, &task, TPOOL_MS(300), &future));
    check_given_up(pool, future, "tpool_run_with_timeout");
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, &future));
    CHECK_EVENTUALLY(atomic_load(&all->gate.arrived) == 3);
    CHECK_STATUS(TPOOL_OK, tpool_kill_workers(pool));
    check_given_up(pool, future, "tpool_kill_workers");
    task.fn = becomes_root_and_stops;
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, &future));
    check_given_up(pool, future, "was stopped");
    int64_t began = tpool_now();
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    CHECK(tpool_now() - began < TPOOL_SEC(8)); /* less than the patience with a server that hangs */
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

#if defined(__linux__) && !defined(TPOOL__PLAIN_POSIX)
/* --- a program that adopts orphans, as the first process of a container does */

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
    assert_status(TPOOL_OK, tpool_submit(pool, waits_for_gate, NULL, &gate)); /* its first worker is dead */
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
    CHECK(tpool_now() - began < TPOOL_SEC(8)); /* less than the patience with a server that hangs */
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
#define T(name) cmocka_unit_test_setup(name, set_up)
    const struct CMUnitTest tests[] = {
        T(a_descriptor_that_is_not_open_is_refused),
        T(no_descriptor_of_a_worker_lies_where_the_program_had_one),
        T(a_worker_has_its_descriptors_above_all_that_were_open),
        T(a_task_that_closes_everything_harms_only_itself),
        T(a_worker_that_reads_elsewhere_holds_up_nothing),
        T(an_item_that_closes_everything_costs_one_item),
        T(the_standard_numbers_stay_free),
        T(what_waits_for_an_initializer_that_hangs_has_an_end),
        T(a_replacement_whose_initializer_hangs_holds_nobody_up),
        T(a_run_limit_holds_in_the_initializer),
        T(run_with_timeout_holds_in_the_initializer),
        T(kill_workers_ends_an_initializer_that_hangs),
        T(destroy_ends_an_initializer_that_hangs),
        T(a_shutdown_that_cancels_ends_an_initializer_that_hangs),
        T(closing_a_map_does_not_wait_for_an_initializer_that_hangs),
        T(a_limit_that_passes_while_the_argument_is_on_its_way_is_not_forgotten),
        T(workers_that_a_signal_takes_before_they_are_ready_are_replaced),
        T(workers_that_always_die_before_they_are_ready_break_the_pool),
        T(what_a_broken_pool_ends_runs_outside_the_task_that_found_it),
        T(what_waits_in_a_broken_pool_ends_though_the_thread_that_found_it_has_ended),
        T(an_initializer_that_fails_fails_for_all_items_of_a_chunk),
        T(a_signal_to_a_tasks_group_reaches_no_other_worker),
        T(who_is_killed_takes_its_children_along),
        T(no_signal_stays_pending_in_the_program),
        T(a_program_that_may_open_no_descriptor_loses_no_task),
        T(create_tells_that_workers_have_no_room),
#ifdef __linux__
        T(a_child_of_a_bare_fork_ends_where_its_task_returns),
        T(a_death_is_known_though_a_grandchild_lives_on),
        T(a_servers_death_is_known_though_a_grandchild_lives_on),
        T(who_has_other_credentials_ends_with_the_server_too),
        T(a_task_that_changes_its_credentials_ends_with_the_server_too),
        T(a_worker_that_may_not_be_killed_is_given_up),
#endif
#if defined(__linux__) && !defined(TPOOL__PLAIN_POSIX)
        T(no_zombie_is_left_to_a_program_that_adopts),
        T(create_ruins_no_namespace),
#endif
#if defined(HAVE_SECCOMP) && !defined(TPOOL__PLAIN_POSIX)
        T(a_sandbox_without_memfd_has_pools),
        T(without_dev_null_no_other_file_becomes_a_standard_one),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
