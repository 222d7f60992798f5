/* Pools as a whole: status and time, creating them, statistics, sizing. What tasks touch is static, so that it is still
   there when a failed assertion has left the test. */
#include "support.h"
#include <limits.h>
#include <sched.h>

static const char *program;

/* --- names: first in the list of tests, since it expects the first two pools without a name */

static char default_names[2][32];
static void *store_thread_name(void *arg) { return thread_name(arg, 32) ? arg : NULL; }

static void pools_without_a_name_are_numbered_one_by_one(void **state) {
    (void)state;
    tpool *pools[2];
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_create(&pools[i], NULL));
    void *told = NULL;
    for (int i = 0; i < 2; i++) {
        told = take(submitted(pools[i], store_thread_name, default_names[i]));
    }
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_destroy(pools[i]));
    if (!told) skip();
    assert_string_equal("tpool1_0", default_names[0]);
    assert_string_equal("tpool2_0", default_names[1]);
}

/* --- status and time */

static void every_status_has_its_number_its_name_and_a_text(void **state) {
    (void)state;
    static const struct {
        int number;
        tpool_status status;
        const char *name;
    } all[] = {
        { 0, TPOOL_OK, "TPOOL_OK" },
        { 1, TPOOL_FAILED, "TPOOL_FAILED" },
        { 2, TPOOL_CANCELLED, "TPOOL_CANCELLED" },
        { 3, TPOOL_EXPIRED, "TPOOL_EXPIRED" },
        { 4, TPOOL_TIMEOUT, "TPOOL_TIMEOUT" },
        { 5, TPOOL_SHUTDOWN, "TPOOL_SHUTDOWN" },
        { 6, TPOOL_FULL, "TPOOL_FULL" },
        { 7, TPOOL_BROKEN, "TPOOL_BROKEN" },
        { 8, TPOOL_DEADLOCK, "TPOOL_DEADLOCK" },
        { 9, TPOOL_END, "TPOOL_END" },
        { 10, TPOOL_NO_MEMORY, "TPOOL_NO_MEMORY" },
        { 11, TPOOL_NO_THREAD, "TPOOL_NO_THREAD" },
        { 12, TPOOL_INVALID, "TPOOL_INVALID" },
        { 13, TPOOL_INVALID_STATE, "TPOOL_INVALID_STATE" },
        { 14, TPOOL_UNSUPPORTED, "TPOOL_UNSUPPORTED" },
    };
    size_t count = sizeof all / sizeof all[0];
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(all[i].number, all[i].status);
        assert_string_equal(all[i].name, tpool_status_name(all[i].status));
        const char *text = tpool_status_text(all[i].status);
        assert_non_null(text);
        assert_non_null(strchr(text, ' ')); /* a sentence: more than one word, on one line */
        assert_null(strchr(text, '\n'));
        assert_null(strstr(text, "TPOOL_")); /* plain */
        for (size_t j = 0; j < i; j++) assert_string_not_equal(text, tpool_status_text(all[j].status));
    }
    int strangers[] = { -1, 15, 1000, INT_MIN, INT_MAX };
    for (size_t i = 0; i < sizeof strangers / sizeof strangers[0]; i++) {
        assert_non_null(tpool_status_name((tpool_status)strangers[i]));
        assert_non_null(tpool_status_text((tpool_status)strangers[i]));
    }
}

static void units_of_time_take_ints_of_any_size_and_fractions(void **state) {
    (void)state;
    int big = 2000000000;
    assert_true(TPOOL_US(3) == INT64_C(3000));
    assert_true(TPOOL_MS(250) == INT64_C(250000000));
    assert_true(TPOOL_SEC(2) == INT64_C(2000000000));
    assert_true(TPOOL_US(big) == INT64_C(2000000000000)); /* these overflow an int */
    assert_true(TPOOL_MS(big) == INT64_C(2000000000000000));
    assert_true(TPOOL_SEC(big) == INT64_C(2000000000000000000));
    assert_true(TPOOL_MS((unsigned char)200) == INT64_C(200000000));
    assert_true(TPOOL_MS(INT64_C(5000000000)) == INT64_C(5000000000000000));
    assert_true(TPOOL_US(0.5) == INT64_C(500));
    assert_true(TPOOL_MS(0.5) == INT64_C(500000));
    assert_true(TPOOL_SEC(0.5) == INT64_C(500000000));
    assert_true(TPOOL_SEC(1.5f) == INT64_C(1500000000));
    assert_true(TPOOL_MS(1 + 2) == INT64_C(3000000));
    assert_true(TPOOL_MS(-1) == INT64_C(-1000000));
    assert_true(TPOOL_MS(0) == 0);
    assert_true(TPOOL_MS(1) / TPOOL_US(1) == 1000); /* one operand wherever it stands */
    assert_int_equal(1, _Generic(TPOOL_US(1), int64_t : 1, default : 0));
    assert_int_equal(1, _Generic(TPOOL_MS(0.5), int64_t : 1, default : 0));
    assert_int_equal(1, _Generic(TPOOL_SEC(1u), int64_t : 1, default : 0));
    assert_true(TPOOL_FOREVER == INT64_MAX);
    static const int64_t constant = TPOOL_MS(10); /* usable in an initializer */
    assert_true(constant == INT64_C(10000000));
}

static void now_counts_nanoseconds_and_never_goes_back(void **state) {
    (void)state;
    int64_t before = tpool_now();
    sleep_ms(10);
    int64_t after = tpool_now();
    assert_true(after - before >= TPOOL_MS(10));
    assert_true(after - before < TPOOL_SEC(60));
    for (int i = 0; i < 1000; i++) {
        int64_t later = tpool_now();
        assert_true(later >= after);
        after = later;
    }
}

static void until_is_the_time_left_and_never_negative(void **state) {
    (void)state;
    int64_t left = tpool_until(tpool_now() + TPOOL_SEC(100));
    assert_true(left > TPOOL_SEC(40) && left <= TPOOL_SEC(100));
    assert_true(tpool_until(tpool_now() - 1) == 0);
    assert_true(tpool_until(0) == 0);
    assert_true(tpool_until(-1) == 0);
    assert_true(tpool_until(INT64_MIN) == 0);
    assert_true(tpool_until(TPOOL_FOREVER) == TPOOL_FOREVER);
}

static void the_version_is_that_of_the_header(void **state) {
    (void)state;
    char expected[64];
    snprintf(expected, sizeof expected, "%d.%d.%d", TPOOL_VERSION_MAJOR, TPOOL_VERSION_MINOR, TPOOL_VERSION_PATCH);
    assert_string_equal(expected, tpool_version());
}

/* --- sizing */

static void sizing_follows_the_cpus_of_this_process(void **state) {
    (void)state;
    int cpus = tpool_cpu_count();
    assert_true(cpus >= 1);
#ifdef __linux__
    cpu_set_t allowed; /* a cgroup quota may make it fewer, nothing makes it more */
    assert_int_equal(0, sched_getaffinity(0, sizeof allowed, &allowed));
    assert_true(cpus <= CPU_COUNT(&allowed));
#elif defined(_WIN32)
    SYSTEM_INFO info;
    GetSystemInfo(&info);
    assert_in_range(cpus, 1, info.dwNumberOfProcessors);
#endif
    int most = cpus > 32 ? cpus : 32;
    assert_int_equal(cpus, tpool_workers_for(TPOOL_WORK_MIXED));
    assert_int_equal(cpus, tpool_workers_for(TPOOL_WORK_CPU));
    assert_int_equal(2 * cpus < most ? 2 * cpus : most, tpool_workers_for(TPOOL_WORK_IO));
}

/* A cgroup quota would need a cgroup that the test may write to; affinity anyone may narrow. */
static void a_process_bound_to_one_cpu_counts_one(void **state) {
    (void)state;
#ifdef __linux__
    pid_t child = fork();
    if (child == 0) {
        cpu_set_t allowed, first;
        alarm(30);
        if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) _exit(101);
        CPU_ZERO(&first);
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
            if (!CPU_ISSET(cpu, &allowed)) continue;
            CPU_SET(cpu, &first);
            break;
        }
        if (sched_setaffinity(0, sizeof first, &first) != 0) _exit(102);
        become_program(program, "cpu_count");
    }
    int ended;
    assert_true(child > 0);
    assert_int_equal(child, waitpid(child, &ended, 0));
    assert_true(WIFEXITED(ended));
    assert_int_equal(1, WEXITSTATUS(ended));
#elif defined(_WIN32)
    DWORD_PTR mine = 0, machine = 0;
    assert_true(GetProcessAffinityMask(GetCurrentProcess(), &mine, &machine));
    assert_true(SetProcessAffinityMask(GetCurrentProcess(), mine & (~mine + 1)));
    int cpus = tpool_cpu_count();
    assert_true(SetProcessAffinityMask(GetCurrentProcess(), mine));
    assert_int_equal(1, cpus);
#else
    skip();
#endif
}

/* --- creating */

static void a_new_pool_has_the_default_size_and_no_thread(void **state) {
    (void)state;
    tpool_config zeroed = { 0 };
    const tpool_config *configs[] = { NULL, &zeroed };
    for (int i = 0; i < 2; i++) {
        tpool *pool;
        assert_status(TPOOL_OK, tpool_create(&pool, configs[i]));
        assert_non_null(pool);
        tpool_stats stats = stats_of(pool);
        assert_int_equal(tpool_workers_for(TPOOL_WORK_MIXED), stats.max_workers);
        assert_int_equal(0, stats.workers);
        assert_int_equal(0, stats.active);
        assert_int_equal(0, stats.idle);
        assert_int_equal(0, stats.queued);
        assert_int_equal(0, stats.submitted);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

static void more_min_workers_than_the_default_raise_max_workers(void **state) {
    (void)state;
    int many = tpool_workers_for(TPOOL_WORK_MIXED) + 5;
    tpool *pool = new_pool_as((tpool_config){ .min_workers = many });
    assert_int_equal(many, stats_of(pool).max_workers);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_status(TPOOL_OK, tpool_create(&pool, &(tpool_config){ .min_workers = 1 }));
    assert_int_equal(tpool_workers_for(TPOOL_WORK_MIXED), stats_of(pool).max_workers);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_status(TPOOL_OK, tpool_create(&pool, &(tpool_config){ .min_workers = 3, .max_workers = 3 }));
    assert_int_equal(3, stats_of(pool).max_workers);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_task_runs_on_another_thread_and_gives_its_result(void **state) {
    (void)state;
    static atomic_int runs;
    tpool *pool = new_pool(2);
    tpool_future *future = submitted(pool, count_up, &runs);
    void *result = NULL;
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
    assert_ptr_equal(&runs, result);
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_submit(pool, count_up, &runs, NULL));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(2, atomic_load(&runs));
}

typedef struct many_submits {
    tpool *pool;
    atomic_int *runs;
    int count;
    atomic_int refused;
} many_submits;
static void *submit_count_times(void *arg) {
    many_submits *s = arg;
    for (int i = 0; i < s->count; i++) {
        if (tpool_submit(s->pool, count_up, s->runs, NULL) != TPOOL_OK) atomic_fetch_add(&s->refused, 1);
    }
    return NULL;
}

static void what_many_threads_submit_runs_exactly_once(void **state) {
    (void)state;
    static atomic_int runs;
    static many_submits submits;
    for (int workers = 1; workers <= 4; workers *= 2) {
        pthread_t threads[8];
        atomic_store(&runs, 0);
        submits.pool = new_pool(workers);
        submits.runs = &runs;
        submits.count = COUNT(3000);
        for (int i = 0; i < 8; i++) {
            assert_int_equal(0, pthread_create(&threads[i], NULL, submit_count_times, &submits));
        }
        for (int i = 0; i < 8; i++) pthread_join(threads[i], NULL);
        assert_status(TPOOL_OK, tpool_drain(submits.pool, LIMIT));
        assert_int_equal(0, atomic_load(&submits.refused));
        assert_int_equal(8 * submits.count, atomic_load(&runs));
        assert_int_equal(8 * submits.count, stats_of(submits.pool).completed);
        assert_status(TPOOL_OK, tpool_destroy(submits.pool));
        assert_int_equal(8 * submits.count, atomic_load(&runs));
    }
}

static void *raise_one(void *arg) {
    (void)arg;
    return tpool_raise(1, "one");
}

/* --- statistics */

static void statistics_add_up_at_rest_over_mixed_outcomes(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    tpool *pool;
    assert_status(
        TPOOL_OK,
        tpool_create(&pool, &(tpool_config){ .max_workers = 1, .queue_capacity = 9, .on_full = TPOOL_FULL_REJECT }));
    assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
    AWAIT_ARRIVALS(&hold, 1);
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
    for (int i = 0; i < 3; i++) assert_status(TPOOL_OK, tpool_submit(pool, raise_one, NULL, NULL));
    tpool_future *cancelled[2];
    for (int i = 0; i < 2; i++) cancelled[i] = submitted(pool, nothing, NULL);
    /* not before the queue is found full, which would end it */
    assert_status(TPOOL_OK, tpool_submit_task(pool, &(tpool_task){ .fn = nothing, .expires_ns = TPOOL_SEC(1) }, NULL));
    int64_t expired_at = tpool_now() + TPOOL_SEC(1); /* or earlier: the submit read the clock before */
    assert_status(TPOOL_OK, tpool_submit(pool, end_thread, NULL, NULL));
    for (int i = 0; i < 2; i++) assert_status(TPOOL_FULL, tpool_submit(pool, nothing, NULL, NULL));

    tpool_stats stats = stats_of(pool);
    assert_int_equal(1, stats.max_workers);
    assert_int_equal(1, stats.workers);
    assert_int_equal(1, stats.active);
    assert_int_equal(0, stats.idle);
    assert_int_equal(9, stats.queued);
    assert_int_equal(10, stats.submitted);
    assert_int_equal(0, stats.completed + stats.failed + stats.cancelled + stats.expired + stats.dropped);
    assert_int_equal(2, stats.rejected);
    for (int i = 0; i < 2; i++) assert_true(tpool_future_cancel(cancelled[i]));
    stats = stats_of(pool);
    assert_int_equal(7, stats.queued);
    assert_int_equal(2, stats.cancelled);

    while (tpool_now() <= expired_at) sleep_ms(10);
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    stats = stats_of(pool);
    assert_int_equal(10, stats.submitted);
    assert_int_equal(3, stats.completed);
    assert_int_equal(4, stats.failed); /* three raised, one broken */
    assert_int_equal(2, stats.cancelled);
    assert_int_equal(1, stats.expired);
    assert_int_equal(0, stats.dropped);
    assert_int_equal(2, stats.rejected);
    assert_int_equal(0, stats.queued);
    assert_int_equal(0, stats.active);
    assert_int_equal(stats.submitted, stats.completed + stats.failed + stats.cancelled + stats.expired + stats.dropped);
    for (int i = 0; i < 2; i++) tpool_future_release(cancelled[i]);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *wait_for_children(void *arg) {
    for (int i = 0; i < 3; i++) {
        tpool_future *child;
        if (tpool_submit(tpool_current(), nothing, NULL, &child) != TPOOL_OK) return NULL;
        if (tpool_future_result(child, TPOOL_FOREVER, NULL) != TPOOL_OK) return NULL;
        tpool_future_release(child);
    }
    return arg;
}

static void tasks_run_by_their_waiter_are_counted(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, end_of(submitted(pool, wait_for_children, NULL)));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    tpool_stats stats = stats_of(pool);
    assert_int_equal(3, stats.inlined);
    assert_int_equal(0, stats.spared);
    assert_int_equal(4, stats.submitted);
    assert_int_equal(4, stats.completed);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- what is there for processes only */

static void kill_workers_is_for_processes_only(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    assert_status(TPOOL_UNSUPPORTED, tpool_kill_workers(pool));
    assert_works(pool);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

int main(int argc, char **argv) {
    program = argv[0];
    if (argc == 2 && strcmp(argv[1], "cpu_count") == 0) return tpool_cpu_count();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pools_without_a_name_are_numbered_one_by_one),
        cmocka_unit_test(every_status_has_its_number_its_name_and_a_text),
        cmocka_unit_test(units_of_time_take_ints_of_any_size_and_fractions),
        cmocka_unit_test(now_counts_nanoseconds_and_never_goes_back),
        cmocka_unit_test(until_is_the_time_left_and_never_negative),
        cmocka_unit_test(the_version_is_that_of_the_header),
        cmocka_unit_test(sizing_follows_the_cpus_of_this_process),
        cmocka_unit_test(a_process_bound_to_one_cpu_counts_one),
        cmocka_unit_test(a_new_pool_has_the_default_size_and_no_thread),
        cmocka_unit_test(more_min_workers_than_the_default_raise_max_workers),
        cmocka_unit_test(a_task_runs_on_another_thread_and_gives_its_result),
        cmocka_unit_test(what_many_threads_submit_runs_exactly_once),
        cmocka_unit_test(statistics_add_up_at_rest_over_mixed_outcomes),
        cmocka_unit_test(tasks_run_by_their_waiter_are_counted),
        cmocka_unit_test(kill_workers_is_for_processes_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
