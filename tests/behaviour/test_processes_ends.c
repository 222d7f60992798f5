/* How the end of a process is known: whatever a task does to what it can reach, only that task ends as TPOOL_BROKEN,
   and at once. */
#include "process_ends.h"

/* --- how an end is known */

#ifdef __linux__

/* A child that no handler of fork knows of holds what its parent held. It does not go on as a second worker when it
   returns from the task. */
static void *forks_and_both_return(void *item, void *context) {
    (void)item, (void)context;
    static char bytes[100000];
    int ends[2], how;
    if (pipe(ends) != 0) return NULL;
    pid_t worker = getpid(), child = bare_fork();
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
    pid_t child = bare_fork();
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
    pid_t child = bare_fork();
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
    gate = submitted(pool, gate_of_processes, NULL);
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

/* An item that closes everything may lose its own result, and harms no other item, be it of its chunk. */
static void *item_closes_all(void *item, void *context) {
    static char bytes[200000];
    if (*(int *)item == 3)
        for (int fd = 3; fd < 4096; fd++) close(fd);
    bool large = *(int *)context == 1 || (*(int *)context == 2 && *(int *)item != 3);
    return large ? tpool_return(bytes, sizeof bytes) : (void *)(intptr_t) * (int *)item;
}
static void an_item_that_closes_everything_harms_only_itself(void **state) {
    (void)state;
    int items[10];
    for (int i = 0; i < 10; i++) items[i] = i;
    tpool *pool = process_pool(1);
    for (int round = 0; round < 6; round++) {
        int large = round / 2, chunk_size = round % 2 ? 10 : 1; /* large: all results, or all but that of the one */
        tpool_map_spec spec = { .fn = item_closes_all,
                                .items = items,
                                .count = 10,
                                .stride = sizeof(int),
                                .item_size = sizeof(int),
                                .chunk_size = (size_t)chunk_size,
                                .context = &large,
                                .context_size = sizeof large };
        tpool_map_iter *iter;
        int lost = 0, the_lost = -1;
        assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
        for (int i = 0; i < 10; i++) {
            tpool_status status = tpool_map_next(iter, LIMIT, NULL);
            if (status == TPOOL_BROKEN) lost++, the_lost = i;
            else assert_status(TPOOL_OK, status);
        }
        tpool_map_close(iter);
        assert_true(lost == 0 || (lost == 1 && the_lost == 3));
        if (chunk_size > 1) assert_int_equal(large == 1, lost); /* what has its place already is there */
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

int main(void) {
    all = shared_memory(sizeof *all);
    const struct CMUnitTest tests[] = {
        PROCESS_TEST(a_descriptor_that_is_not_open_is_refused),
        PROCESS_TEST(no_descriptor_of_a_worker_lies_where_the_program_had_one),
        PROCESS_TEST(a_worker_has_its_descriptors_above_all_that_were_open),
        PROCESS_TEST(a_task_that_closes_everything_harms_only_itself),
        PROCESS_TEST(a_worker_that_reads_elsewhere_holds_up_nothing),
        PROCESS_TEST(an_item_that_closes_everything_harms_only_itself),
        PROCESS_TEST(the_standard_numbers_stay_free),
#ifdef __linux__
        PROCESS_TEST(a_child_of_a_bare_fork_ends_where_its_task_returns),
        PROCESS_TEST(a_death_is_known_though_a_grandchild_lives_on),
        PROCESS_TEST(a_servers_death_is_known_though_a_grandchild_lives_on),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
