/* Pools as a whole: status and time, creating and ending them, draining, priorities, the order of tasks, statistics,
   sizing. What tasks touch is static, so that it is still there when a failed assertion has left the test. */
#include "support.h"
#include <limits.h>
#include <sched.h>

static const char *program;

static tpool_status call_drain(void *pool) { return tpool_drain(pool, LIMIT); }
static tpool_status call_destroy(void *pool) { return tpool_destroy(pool); }
static tpool_status call_shutdown_wait(void *pool) { return tpool_shutdown(pool, TPOOL_WAIT); }
static tpool_status call_cancel(void *future) { return tpool_future_cancel(future) ? TPOOL_OK : TPOOL_INVALID_STATE; }
static tpool_status call_done(void *future) { return tpool_future_done(future) ? TPOOL_OK : TPOOL_INVALID_STATE; }

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

/* --- shutdown */

static void shutdown_returns_at_once_and_queued_work_still_completes(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static atomic_int runs; /* arg_free would count here too */
    tpool *pool = new_pool(1);
    tpool_future *first = submitted(pool, gate_task, &hold);
    for (int i = 0; i < 10; i++) assert_status(TPOOL_OK, tpool_submit(pool, count_up, &runs, NULL));
    AWAIT_ARRIVALS(&hold, 1);
    assert_status(TPOOL_OK, tpool_shutdown(pool, 0)); /* returns, though the gate is closed */
    assert_int_equal(0, atomic_load(&runs));

    tpool_future *refused = first;
    assert_status(TPOOL_SHUTDOWN, tpool_submit(pool, count_up, &runs, &refused));
    assert_null(refused);
    tpool_task task = { .fn = count_up, .arg = &runs, .arg_free = count_free };
    assert_status(TPOOL_SHUTDOWN, tpool_submit_task(pool, &task, NULL));
    size_t taken = 7;
    assert_status(TPOOL_SHUTDOWN, tpool_submit_many(pool, &task, 1, NULL, &taken));
    assert_int_equal(0, taken);
    assert_status(TPOOL_SHUTDOWN, tpool_run_with_timeout(pool, &task, LIMIT, NULL));

    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(10, atomic_load(&runs));
    assert_status(TPOOL_OK, end_of(first));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(10, atomic_load(&runs));
}

static atomic_int initialized, finalized;
static bool count_initialized(void *context) {
    (void)context;
    atomic_fetch_add(&initialized, 1);
    return true;
}
static void count_finalized(void *context) {
    (void)context;
    atomic_fetch_add(&finalized, 1);
}

static void shutdown_with_wait_returns_when_the_workers_have_ended(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static atomic_int runs;
    static background waiters[2];
    tpool *pool;
    atomic_store(&initialized, 0);
    atomic_store(&finalized, 0);
    assert_status(TPOOL_OK, tpool_create(&pool, &(tpool_config){ .max_workers = 2,
                                                                 .initializer = count_initialized,
                                                                 .finalizer = count_finalized }));
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
    for (int i = 0; i < 10; i++) assert_status(TPOOL_OK, tpool_submit(pool, count_up, &runs, NULL));
    AWAIT_ARRIVALS(&hold, 2);
    for (int i = 0; i < 2; i++) background_start(&waiters[i], call_shutdown_wait, pool);
    for (int i = 0; i < 2; i++) background_await_block(&waiters[i]);
    assert_status(TPOOL_SHUTDOWN, tpool_submit(pool, count_up, &runs, NULL));
    gate_open(&hold);
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, background_join(&waiters[i]));
    assert_int_equal(10, atomic_load(&runs));
    assert_int_equal(2, atomic_load(&initialized));
    assert_int_equal(2, atomic_load(&finalized));
    assert_int_equal(0, stats_of(pool).workers);
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void shutdown_with_wait_of_a_pool_never_used_returns(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT));
    assert_status(TPOOL_SHUTDOWN, tpool_submit(pool, nothing, NULL, NULL));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static pthread_t callback_thread;
static void store_thread(tpool_future *future, void *context) {
    (void)future;
    callback_thread = pthread_self();
    atomic_fetch_add((atomic_int *)context, 1);
}

static void shutdown_with_cancel_pending_cancels_what_has_not_started(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static atomic_int runs, freed, called_back;
    tpool *pool = new_pool(1);
    tpool_future *running = submitted(pool, gate_task, &hold), *pending[10];
    AWAIT_ARRIVALS(&hold, 1);
    for (int i = 0; i < 10; i++) {
        /* Of every priority and kind: with bytes, with a limit, plain. */
        static int bytes = 1;
        tpool_task task = { .fn = count_up, .arg = &runs, .priority = i % 3 - 1, .expires_ns = i % 2 ? LIMIT : 0 };
        if (i % 5 == 0) {
            task.arg = &bytes;
            task.arg_size = sizeof bytes;
        }
        pending[i] = submitted_task(pool, task);
    }
    /* And one that nobody holds. */
    tpool_task unheld = { .fn = nothing, .arg = &freed, .arg_free = count_free };
    assert_status(TPOOL_OK, tpool_submit_task(pool, &unheld, NULL));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(pending[3], store_thread, &called_back));
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_CANCEL_PENDING));
    for (int i = 0; i < 10; i++) {
        assert_true(tpool_future_cancelled(pending[i]));
        assert_int_equal(TPOOL_STATE_CANCELLED, tpool_future_state(pending[i]));
        assert_status(TPOOL_CANCELLED, tpool_future_result(pending[i], 0, NULL));
        tpool_future_release(pending[i]);
    }
    assert_int_equal(1, atomic_load(&called_back));
    assert_true(pthread_equal(pthread_self(), callback_thread));
    assert_int_equal(1, atomic_load(&freed));
    assert_true(tpool_future_running(running));
    gate_open(&hold);
    assert_status(TPOOL_OK, end_of(running));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(0, atomic_load(&runs));
    assert_int_equal(11, stats_of(pool).cancelled);
    assert_int_equal(1, stats_of(pool).completed);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *arrive_and_await_stop(void *arg) {
    gate *arrived = arg;
    gate_pass(arrived);
    int64_t end = tpool_now() + LIMIT;
    while (!tpool_stop_requested()) {
        if (tpool_now() > end) return tpool_raise(1, "nobody asked this task to stop");
        sleep_ms(1);
    }
    return NULL;
}

static void shutdown_with_stop_running_asks_what_runs_to_stop(void **state) {
    (void)state;
    static gate arrived = GATE_CLOSED;
    gate_open(&arrived);
    tpool *pool = new_pool(2);
    tpool_future *first = submitted(pool, arrive_and_await_stop, &arrived);
    tpool_future *second = submitted(pool, arrive_and_await_stop, &arrived);
    AWAIT_ARRIVALS(&arrived, 2);
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_STOP_RUNNING));
    assert_status(TPOOL_OK, end_of(first));
    assert_status(TPOOL_OK, end_of(second));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void shutdown_called_again_adds_its_flags(void **state) {
    (void)state;
    static gate arrived = GATE_CLOSED;
    static atomic_int runs;
    gate_open(&arrived);
    tpool *pool = new_pool(1);
    tpool_future *running = submitted(pool, arrive_and_await_stop, &arrived);
    tpool_future *pending = submitted(pool, count_up, &runs);
    AWAIT_ARRIVALS(&arrived, 1);
    assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
    assert_false(tpool_future_done(pending));
    assert_false(tpool_future_done(running));
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_CANCEL_PENDING));
    assert_true(tpool_future_cancelled(pending));
    assert_false(tpool_future_done(running));
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_STOP_RUNNING));
    assert_status(TPOOL_OK, end_of(running));
    assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT | TPOOL_CANCEL_PENDING | TPOOL_STOP_RUNNING));
    assert_int_equal(0, stats_of(pool).workers);
    assert_int_equal(0, atomic_load(&runs));
    tpool_future_release(pending);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void shutdown_resumes_a_paused_pool_and_pause_after_it_is_refused(void **state) {
    (void)state;
    static atomic_int runs;
    tpool *pool = new_pool(2);
    assert_status(TPOOL_OK, tpool_pause(pool));
    tpool_future *future = submitted(pool, count_up, &runs);
    assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
    assert_status(TPOOL_OK, end_of(future));
    assert_int_equal(1, atomic_load(&runs));
    assert_status(TPOOL_SHUTDOWN, tpool_pause(pool));
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_status(TPOOL_SHUTDOWN, tpool_warm_up(pool, 1));
    assert_status(TPOOL_SHUTDOWN, tpool_resize(pool, 3));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

typedef struct late_submit {
    gate *before;
    tpool *pool;
    atomic_int *runs;
    tpool_status plain, with_future;
    bool null;
} late_submit;
static void *submit_after_gate(void *arg) {
    late_submit *late = arg;
    gate_pass(late->before);
    tpool_future *future = (tpool_future *)arg;
    late->plain = tpool_submit(late->pool, count_up, late->runs, NULL);
    late->with_future = tpool_submit(late->pool, count_up, late->runs, &future);
    late->null = future == NULL;
    return NULL;
}

static void after_shutdown_the_tasks_themselves_cannot_submit(void **state) {
    (void)state;
    static gate before = GATE_CLOSED;
    static atomic_int runs;
    for (int workers = 1; workers <= 2; workers++) {
        static late_submit late;
        gate_close(&before);
        late = (late_submit){ .before = &before, .pool = new_pool(workers), .runs = &runs };
        tpool_future *future = submitted(late.pool, submit_after_gate, &late);
        AWAIT_ARRIVALS(&before, 1);
        assert_status(TPOOL_OK, tpool_shutdown(late.pool, 0));
        gate_open(&before);
        assert_status(TPOOL_OK, end_of(future));
        assert_status(TPOOL_SHUTDOWN, late.plain);
        assert_status(TPOOL_SHUTDOWN, late.with_future);
        assert_true(late.null);
        assert_status(TPOOL_OK, tpool_destroy(late.pool));
    }
    assert_int_equal(0, atomic_load(&runs));
}

static void *shut_down_own_pool(void *arg) {
    static tpool_status seen;
    seen = tpool_shutdown(tpool_current(), TPOOL_CANCEL_PENDING | TPOOL_STOP_RUNNING);
    *(bool *)arg = tpool_stop_requested();
    return &seen;
}

static void a_task_may_shut_its_own_pool_down_without_waiting(void **state) {
    (void)state;
    static bool stopped;
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, tpool_pause(pool));
    tpool_future *future = submitted(pool, shut_down_own_pool, &stopped), *pending = submitted(pool, nothing, NULL);
    assert_status(TPOOL_OK, tpool_resume(pool));
    void *seen = NULL;
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &seen));
    assert_non_null(seen);
    assert_status(TPOOL_OK, *(tpool_status *)seen);
    assert_true(stopped);
    tpool_future_release(future);
    assert_status(TPOOL_CANCELLED, end_of(pending));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* Each task that stops makes place for another, which must be cancelled then and not start unasked. */
static char run_until_asked_never;
static void *run_until_asked(void *arg) {
    (void)arg;
    int64_t end = tpool_now() + TPOOL_SEC(2);
    while (!tpool_stop_requested())
        if (tpool_now() > end) return &run_until_asked_never;
    return NULL;
}

static void nothing_starts_unasked_between_stopping_and_cancelling(void **state) {
    (void)state;
    for (int round = 0; round < COUNT(50); round++) {
        tpool *pool = new_pool(2);
        tpool_future *futures[20];
        for (int i = 0; i < 20; i++) futures[i] = submitted(pool, run_until_asked, NULL);
        EVENTUALLY(stats_of(pool).active == 2);
        assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT | TPOOL_CANCEL_PENDING | TPOOL_STOP_RUNNING));
        for (int i = 0; i < 20; i++) {
            void *late = NULL;
            tpool_status status = tpool_future_result(futures[i], 0, &late);
            assert_true(status == TPOOL_OK || status == TPOOL_CANCELLED);
            assert_null(late);
            tpool_future_release(futures[i]);
        }
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

/* --- DEADLOCK for whoever would wait for himself */

typedef struct endings {
    tpool_status drain, drain_look, shutdown, shutdown_all, destroy;
} endings;

static void try_to_end(tpool *pool, endings *seen) {
    seen->drain = tpool_drain(pool, LIMIT);
    seen->drain_look = tpool_drain(pool, 0);
    seen->shutdown = tpool_shutdown(pool, TPOOL_WAIT);
    seen->shutdown_all = tpool_shutdown(pool, TPOOL_WAIT | TPOOL_CANCEL_PENDING | TPOOL_STOP_RUNNING);
    seen->destroy = tpool_destroy(pool);
}

static void assert_deadlocks(const endings *seen) {
    assert_status(TPOOL_DEADLOCK, seen->drain);
    assert_status(TPOOL_DEADLOCK, seen->drain_look);
    assert_status(TPOOL_DEADLOCK, seen->shutdown);
    assert_status(TPOOL_DEADLOCK, seen->shutdown_all);
    assert_status(TPOOL_DEADLOCK, seen->destroy);
}

/* Nothing has changed: the pool takes and runs work. */
static void assert_works(tpool *pool) {
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
}

typedef struct end_attempt {
    tpool *pool, *other;
    endings seen, seen_other;
    bool stop_requested;
    tpool_future *wanted;
} end_attempt;

static void *end_own_pool(void *arg) {
    end_attempt *attempt = arg;
    try_to_end(attempt->pool, &attempt->seen);
    attempt->stop_requested = tpool_stop_requested();
    return NULL;
}

static void ending_its_pool_from_a_task_is_a_deadlock(void **state) {
    (void)state;
    static end_attempt attempt;
    static atomic_int runs;
    attempt.pool = new_pool(1);
    assert_status(TPOOL_OK, tpool_pause(attempt.pool));
    tpool_future *future = submitted(attempt.pool, end_own_pool, &attempt);
    tpool_future *pending = submitted(attempt.pool, count_up, &runs);
    assert_status(TPOOL_OK, tpool_resume(attempt.pool));
    assert_status(TPOOL_OK, end_of(future));
    assert_deadlocks(&attempt.seen);
    assert_false(attempt.stop_requested);
    assert_status(TPOOL_OK, end_of(pending)); /* nothing was cancelled */
    assert_int_equal(1, atomic_load(&runs));
    assert_works(attempt.pool);
    assert_status(TPOOL_OK, tpool_destroy(attempt.pool));
}

static atomic_int callbacks_run;
static void end_pools_in_callback(tpool_future *future, void *context) {
    (void)future;
    end_attempt *attempt = context;
    try_to_end(attempt->pool, &attempt->seen);
    if (attempt->other) try_to_end(attempt->other, &attempt->seen_other);
    atomic_fetch_add(&callbacks_run, 1);
}

static void ending_its_pool_from_a_callback_is_a_deadlock_on_any_thread(void **state) {
    (void)state;
    static end_attempt on_worker, in_cancel;
    static gate hold = GATE_CLOSED;
    atomic_store(&callbacks_run, 0);
    tpool *pool = new_pool(1);
    on_worker.pool = in_cancel.pool = pool;

    /* On the worker that finishes the task. */
    tpool_future *running = submitted(pool, gate_task, &hold), *pending = submitted(pool, nothing, NULL);
    AWAIT_ARRIVALS(&hold, 1);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(running, end_pools_in_callback, &on_worker));
    /* In the thread that cancels it: this one. */
    assert_status(TPOOL_OK, tpool_future_add_done_callback(pending, end_pools_in_callback, &in_cancel));
    assert_true(tpool_future_cancel(pending));
    assert_int_equal(1, atomic_load(&callbacks_run));
    assert_deadlocks(&in_cancel.seen);
    gate_open(&hold);
    EVENTUALLY(atomic_load(&callbacks_run) == 2);
    assert_deadlocks(&on_worker.seen);
    tpool_future_release(running);
    tpool_future_release(pending);
    assert_works(pool); /* and this thread, out of its callbacks, may drain and destroy */
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void ending_its_pool_from_a_callback_that_runs_at_once_is_a_deadlock_too(void **state) {
    (void)state;
    static end_attempt attempt;
    atomic_store(&callbacks_run, 0);
    attempt.pool = new_pool(1);
    tpool_future *done = submitted(attempt.pool, nothing, NULL);
    assert_status(TPOOL_OK, tpool_future_result(done, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(done, end_pools_in_callback, &attempt));
    assert_int_equal(1, atomic_load(&callbacks_run));
    assert_deadlocks(&attempt.seen);
    tpool_future_release(done);
    assert_works(attempt.pool);
    assert_status(TPOOL_OK, tpool_destroy(attempt.pool));
}

static void end_pool_in_on_failure(const tpool_error *error, void *context) {
    (void)error;
    end_attempt *attempt = context;
    try_to_end(attempt->pool, &attempt->seen);
    atomic_fetch_add(&callbacks_run, 1);
}
static void *raise_one(void *arg) {
    (void)arg;
    return tpool_raise(1, "one");
}

static void ending_its_pool_from_on_failure_is_a_deadlock(void **state) {
    (void)state;
    static end_attempt attempt;
    atomic_store(&callbacks_run, 0);
    assert_status(TPOOL_OK, tpool_create(&attempt.pool, &(tpool_config){ .max_workers = 1,
                                                                         .context = &attempt,
                                                                         .on_failure = end_pool_in_on_failure }));
    assert_status(TPOOL_OK, tpool_submit(attempt.pool, raise_one, NULL, NULL));
    EVENTUALLY(atomic_load(&callbacks_run) == 1);
    assert_deadlocks(&attempt.seen);
    assert_works(attempt.pool);
    assert_status(TPOOL_OK, tpool_destroy(attempt.pool));
}

static gate breaking, telling;
static atomic_int told;
static bool break_after_gate(void *context) {
    (void)context;
    gate_pass(&breaking);
    return false;
}
static void pass_gate_when_told(const tpool_error *error, void *context) {
    (void)context;
    if (error->status == TPOOL_BROKEN) atomic_fetch_add(&told, 1);
    gate_pass(&telling);
}

/* The task has no future inside, so nothing but this call is left of it when the pool breaks. */
static void drain_waits_for_on_failure_of_what_a_broken_pool_had_queued(void **state) {
    (void)state;
    static background drain;
    breaking = telling = (gate)GATE_CLOSED;
    atomic_store(&told, 0);
    tpool *pool = NULL;
    assert_status(TPOOL_OK, tpool_create(&pool, &(tpool_config){ .max_workers = 1,
                                                                 .initializer = break_after_gate,
                                                                 .on_failure = pass_gate_when_told }));
    assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
    gate_open(&breaking);
    AWAIT_ARRIVALS(&telling, 1);
    assert_status(TPOOL_TIMEOUT, tpool_drain(pool, 0));
    background_start(&drain, call_drain, pool);
    background_await_block(&drain);
    gate_open(&telling);
    assert_status(TPOOL_OK, background_join(&drain));
    assert_int_equal(1, atomic_load(&told));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *end_both_pools(void *arg) {
    end_attempt *attempt = arg;
    try_to_end(attempt->pool, &attempt->seen);
    try_to_end(attempt->other, &attempt->seen_other);
    return NULL;
}
/* A task of attempt->pool: the other pool is full, so that end_both_pools runs right here, above this task. */
static void *submit_to_full_other_pool(void *arg) {
    end_attempt *attempt = arg;
    tpool_future *inner;
    if (tpool_submit(attempt->other, end_both_pools, attempt, &inner) != TPOOL_OK) return NULL;
    bool here = tpool_future_done(inner);
    tpool_future_release(inner);
    return here ? attempt : NULL;
}

static void ending_a_pool_from_above_its_task_is_a_deadlock(void **state) {
    (void)state;
    static end_attempt attempt;
    static gate hold = GATE_CLOSED;
    attempt.pool = new_pool(1);
    assert_status(TPOOL_OK, tpool_create(&attempt.other, &(tpool_config){ .max_workers = 1,
                                                                          .queue_capacity = 1,
                                                                          .on_full = TPOOL_FULL_CALLER_RUNS }));
    tpool_future *busy = submitted(attempt.other, gate_task, &hold);
    AWAIT_ARRIVALS(&hold, 1);
    tpool_future *queued = submitted(attempt.other, nothing, NULL);
    tpool_future *outer = submitted(attempt.pool, submit_to_full_other_pool, &attempt);
    void *ran_here = NULL;
    assert_status(TPOOL_OK, tpool_future_result(outer, LIMIT, &ran_here));
    assert_ptr_equal(&attempt, ran_here);
    assert_deadlocks(&attempt.seen);       /* the pool whose task lies beneath */
    assert_deadlocks(&attempt.seen_other); /* the pool whose task called */
    tpool_future_release(outer);
    gate_open(&hold);
    assert_status(TPOOL_OK, end_of(busy));
    assert_status(TPOOL_OK, end_of(queued));
    assert_works(attempt.pool);
    assert_works(attempt.other);
    assert_status(TPOOL_OK, tpool_destroy(attempt.pool));
    assert_status(TPOOL_OK, tpool_destroy(attempt.other));
}

static void *cancel_wanted(void *arg) {
    end_attempt *attempt = arg;
    return tpool_future_cancel(attempt->wanted) ? arg : NULL;
}

static void ending_a_pool_from_a_callback_above_its_task_is_a_deadlock(void **state) {
    (void)state;
    static end_attempt attempt;
    atomic_store(&callbacks_run, 0);
    attempt.pool = new_pool(1);
    attempt.other = new_pool(1);
    assert_status(TPOOL_OK, tpool_pause(attempt.other));
    attempt.wanted = submitted(attempt.other, nothing, NULL);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(attempt.wanted, end_pools_in_callback, &attempt));
    tpool_future *canceller = submitted(attempt.pool, cancel_wanted, &attempt);
    void *cancelled = NULL;
    assert_status(TPOOL_OK, tpool_future_result(canceller, LIMIT, &cancelled));
    assert_ptr_equal(&attempt, cancelled);
    assert_int_equal(1, atomic_load(&callbacks_run));
    assert_deadlocks(&attempt.seen);
    assert_deadlocks(&attempt.seen_other);
    tpool_future_release(canceller);
    tpool_future_release(attempt.wanted);
    assert_status(TPOOL_OK, tpool_resume(attempt.other));
    assert_works(attempt.pool);
    assert_works(attempt.other);
    assert_status(TPOOL_OK, tpool_destroy(attempt.pool));
    assert_status(TPOOL_OK, tpool_destroy(attempt.other));
}

typedef struct whole_life {
    tpool_status create, submit, drain, shutdown, destroy;
    atomic_int runs;
} whole_life;
static void *live_through_a_pool(void *arg) {
    whole_life *life = arg;
    tpool *pool;
    life->create = tpool_create(&pool, &(tpool_config){ .max_workers = 1 });
    if (life->create != TPOOL_OK) return NULL;
    life->submit = tpool_submit(pool, count_up, &life->runs, NULL);
    life->drain = tpool_drain(pool, LIMIT);
    life->shutdown = tpool_shutdown(pool, TPOOL_WAIT);
    life->destroy = tpool_destroy(pool);
    return NULL;
}

static void a_task_may_drain_and_destroy_another_pool(void **state) {
    (void)state;
    static whole_life life;
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, end_of(submitted(pool, live_through_a_pool, &life)));
    assert_status(TPOOL_OK, life.create);
    assert_status(TPOOL_OK, life.submit);
    assert_status(TPOOL_OK, life.drain);
    assert_status(TPOOL_OK, life.shutdown);
    assert_status(TPOOL_OK, life.destroy);
    assert_int_equal(1, atomic_load(&life.runs));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

typedef struct crossing {
    tpool *mine, *other;
    tpool_status submit, result, drain;
} crossing;
static void *submit_back_and_wait(void *arg) {
    crossing *c = arg;
    tpool_future *future;
    c->submit = tpool_submit(c->mine, nothing, c, &future);
    if (c->submit != TPOOL_OK) return NULL;
    c->result = tpool_future_result(future, LIMIT, NULL);
    tpool_future_release(future);
    return NULL;
}
static void *drain_other(void *arg) {
    crossing *c = arg;
    if (tpool_submit(c->other, submit_back_and_wait, c, NULL) != TPOOL_OK) return NULL;
    c->drain = tpool_drain(c->other, TPOOL_SEC(60));
    return c;
}

static void a_task_that_drains_another_pool_gives_its_own_pool_a_spare(void **state) {
    (void)state;
    static crossing c;
    c.mine = new_pool(1);
    c.other = new_pool(1);
    tpool_future *future = submitted(c.mine, drain_other, &c);
    void *result = NULL;
    assert_status(TPOOL_OK, tpool_future_result(future, TPOOL_SEC(60), &result));
    assert_ptr_equal(&c, result);
    assert_status(TPOOL_OK, c.submit);
    assert_status(TPOOL_OK, c.result); /* it ran while the only worker was draining */
    assert_status(TPOOL_OK, c.drain);
    tpool_future_release(future);
    assert_true(stats_of(c.mine).spared >= 1);
    assert_status(TPOOL_OK, tpool_destroy(c.mine));
    assert_status(TPOOL_OK, tpool_destroy(c.other));
}

/* --- drain */

static void drain_gives_timeout_until_nothing_is_queued_or_running(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static atomic_int runs;
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, tpool_drain(pool, 0));
    assert_status(TPOOL_OK, tpool_drain(pool, -1));
    assert_status(TPOOL_OK, tpool_drain(pool, TPOOL_FOREVER));
    assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
    assert_status(TPOOL_OK, tpool_submit(pool, count_up, &runs, NULL));
    AWAIT_ARRIVALS(&hold, 1);
    assert_status(TPOOL_TIMEOUT, tpool_drain(pool, 0));
    assert_status(TPOOL_TIMEOUT, tpool_drain(pool, -TPOOL_SEC(1)));
    assert_status(TPOOL_TIMEOUT, tpool_drain(pool, INT64_MIN));
    int64_t before = tpool_now();
    assert_status(TPOOL_TIMEOUT, tpool_drain(pool, TPOOL_MS(30)));
    assert_true(tpool_now() - before >= TPOOL_MS(30));
    assert_int_equal(0, atomic_load(&runs));
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(1, atomic_load(&runs));
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL))); /* a drain ends nothing */
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_status(TPOOL_OK, tpool_drain(pool, TPOOL_FOREVER));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void drain_of_a_paused_pool_waits_for_a_resume(void **state) {
    (void)state;
    static atomic_int runs;
    static background drains[3];
    tpool *pool = new_pool(2);
    assert_status(TPOOL_OK, tpool_pause(pool));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT)); /* nothing is queued */
    for (int i = 0; i < 5; i++) assert_status(TPOOL_OK, tpool_submit(pool, count_up, &runs, NULL));
    assert_status(TPOOL_TIMEOUT, tpool_drain(pool, 0));
    assert_status(TPOOL_TIMEOUT, tpool_drain(pool, TPOOL_MS(10)));
    for (int i = 0; i < 3; i++) background_start(&drains[i], call_drain, pool);
    for (int i = 0; i < 3; i++) background_await_block(&drains[i]);
    assert_int_equal(0, atomic_load(&runs));
    assert_status(TPOOL_OK, tpool_resume(pool));
    for (int i = 0; i < 3; i++) assert_status(TPOOL_OK, background_join(&drains[i]));
    assert_int_equal(5, atomic_load(&runs));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void drain_of_a_paused_pool_ends_when_its_work_is_cancelled(void **state) {
    (void)state;
    static atomic_int runs;
    static background drain;
    tpool *pool = new_pool(2);
    assert_status(TPOOL_OK, tpool_pause(pool));
    tpool_future *futures[3];
    for (int i = 0; i < 3; i++)
        futures[i] = submitted_task(pool, (tpool_task){ .fn = count_up, .arg = &runs, .priority = i - 1 });
    background_start(&drain, call_drain, pool);
    background_await_block(&drain);
    assert_true(tpool_future_cancel(futures[0]));
    assert_true(tpool_future_cancel(futures[1]));
    background_await_block(&drain);
    assert_true(tpool_future_cancel(futures[2]));
    assert_status(TPOOL_OK, background_join(&drain));
    assert_int_equal(0, atomic_load(&runs));
    for (int i = 0; i < 3; i++) tpool_future_release(futures[i]);
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_works(pool);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* A tree of tasks: each submits two until the depth is used up. */
typedef struct tree {
    tpool *pool;
    atomic_int left, runs, refused;
} tree;
static void *grow(void *arg) {
    tree *t = arg;
    for (int i = 0; i < 2; i++) {
        if (atomic_fetch_sub(&t->left, 1) > 0) {
            if (tpool_submit(t->pool, grow, t, NULL) != TPOOL_OK) atomic_fetch_add(&t->refused, 1);
        }
    }
    atomic_fetch_add(&t->runs, 1);
    return NULL;
}

static void drain_and_destroy_let_tasks_finish_spreading(void **state) {
    (void)state;
    for (int round = 0; round < 8; round++) {
        static tree t;
        int size = COUNT(1000);
        atomic_store(&t.left, size);
        atomic_store(&t.runs, 0);
        t.pool = new_pool(round % 4 < 2 ? 1 : 3);
        assert_status(TPOOL_OK, tpool_submit(t.pool, grow, &t, NULL));
        if (round % 2) {
            assert_status(TPOOL_OK, tpool_drain(t.pool, LIMIT));
            assert_int_equal(size + 1, atomic_load(&t.runs));
        }
        assert_status(TPOOL_OK, tpool_destroy(t.pool));
        assert_int_equal(size + 1, atomic_load(&t.runs));
        assert_int_equal(0, atomic_load(&t.refused));
    }
}

static void pass_gate_in_callback(tpool_future *future, void *context) {
    (void)future;
    gate_pass((gate *)context);
    atomic_fetch_add(&callbacks_run, 1);
}

/* The future ends in another thread, which stays in its callback; drain and destroy must wait for that. */
static void waits_for_callbacks_of(tpool_status (*ending)(void *future), int64_t expires_ns) {
    static gate in_callback = GATE_CLOSED;
    static background ender, destroyer;
    gate_close(&in_callback);
    atomic_store(&callbacks_run, 0);
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, tpool_pause(pool));
    tpool_future *future = submitted_task(pool, (tpool_task){ .fn = nothing, .expires_ns = expires_ns });
    /* Adding a callback looks at the future too: it must not have expired yet, and must have when the other looks. */
    assert_status(TPOOL_OK, tpool_future_add_done_callback(future, pass_gate_in_callback, &in_callback));
    sleep_ms((int)(expires_ns / TPOOL_MS(1)) + 2);
    background_start(&ender, ending, future);
    AWAIT_ARRIVALS(&in_callback, 1);
    /* It counts already, and makes room. */
    tpool_stats stats = stats_of(pool);
    assert_int_equal(0, stats.queued);
    assert_int_equal(1, stats.cancelled + stats.expired);
    assert_int_equal(expires_ns ? 1 : 0, stats.expired);
    assert_status(TPOOL_TIMEOUT, tpool_drain(pool, 0));
    assert_status(TPOOL_TIMEOUT, tpool_drain(pool, TPOOL_MS(10)));
    background_start(&destroyer, call_destroy, pool);
    background_await_block(&destroyer);
    gate_open(&in_callback);
    assert_status(TPOOL_OK, background_join(&destroyer));
    assert_int_equal(1, atomic_load(&callbacks_run));
    assert_status(TPOOL_OK, background_join(&ender));
    tpool_future_release(future);
}

static void drain_and_destroy_wait_for_the_callbacks_of_a_cancel_elsewhere(void **state) {
    (void)state;
    waits_for_callbacks_of(call_cancel, 0);
}

static void drain_and_destroy_wait_for_the_callbacks_of_an_expiry_noticed_elsewhere(void **state) {
    (void)state;
    waits_for_callbacks_of(call_done, TPOOL_MS(300));
}

static void drain_waits_for_the_callbacks_of_a_finished_task(void **state) {
    (void)state;
    static gate in_callback = GATE_CLOSED, hold = GATE_CLOSED;
    static background drain;
    atomic_store(&callbacks_run, 0);
    tpool *pool = new_pool(2);
    tpool_future *future = submitted(pool, gate_task, &hold);
    AWAIT_ARRIVALS(&hold, 1);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(future, pass_gate_in_callback, &in_callback));
    gate_open(&hold);
    AWAIT_ARRIVALS(&in_callback, 1);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, NULL)); /* a waiter need not wait for them */
    assert_status(TPOOL_TIMEOUT, tpool_drain(pool, TPOOL_MS(10)));
    background_start(&drain, call_drain, pool);
    background_await_block(&drain);
    gate_open(&in_callback);
    assert_status(TPOOL_OK, background_join(&drain));
    assert_int_equal(1, atomic_load(&callbacks_run));
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- destroy */

static void destroy_resumes_a_paused_pool_and_runs_what_is_queued(void **state) {
    (void)state;
    static atomic_int runs;
    tpool *pool = new_pool(2);
    assert_status(TPOOL_OK, tpool_pause(pool));
    for (int i = 0; i < 20; i++) assert_status(TPOOL_OK, tpool_submit(pool, count_up, &runs, NULL));
    assert_int_equal(0, atomic_load(&runs));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(20, atomic_load(&runs));
}

static void *pause_until_refused(void *pool) {
    int64_t end = tpool_now() + TPOOL_MS(200); /* a destroy that is held up must begin meanwhile */
    while (tpool_pause(pool) == TPOOL_OK && tpool_now() < end) {
        (void)tpool_resume(pool); /* destroy has not begun */
        sleep_ms(1);
    }
    return NULL;
}
static tpool_status destroy_in_background(void *pool) { return tpool_destroy(pool); }
static void no_task_pauses_a_pool_that_is_being_destroyed(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *pausing = submitted(pool, pause_until_refused, pool), *behind = submitted(pool, nothing, NULL);
    background destroying;
    background_start(&destroying, destroy_in_background, pool);
    assert_status(TPOOL_OK, background_join(&destroying));
    assert_status(TPOOL_OK, end_of(pausing));
    assert_status(TPOOL_OK, end_of(behind));
}

static void drains_that_are_under_way_have_left_when_destroy_frees(void **state) {
    (void)state;
    for (int round = 0; round < COUNT(10) + 1; round++) {
        static gate hold = GATE_CLOSED;
        static background drains[3], destroyer;
        gate_close(&hold);
        tpool *pool = new_pool(1);
        assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
        for (int i = 0; i < 3; i++) background_start(&drains[i], call_drain, pool);
        for (int i = 0; i < 3; i++) background_await_block(&drains[i]);
        background_start(&destroyer, call_destroy, pool);
        background_await_block(&destroyer);
        gate_open(&hold);
        assert_status(TPOOL_OK, background_join(&destroyer));
        for (int i = 0; i < 3; i++) assert_status(TPOOL_OK, background_join(&drains[i]));
    }
}

typedef struct blocked_submit {
    tpool *pool;
    atomic_int *runs;
    tpool_future *future;
} blocked_submit;
static tpool_status call_submit(void *context) {
    blocked_submit *s = context;
    return tpool_submit(s->pool, count_up, s->runs, &s->future);
}

static void submitters_blocked_on_a_full_queue_have_left_when_destroy_frees(void **state) {
    (void)state;
    for (int round = 0; round < COUNT(10) + 1; round++) {
        static gate hold = GATE_CLOSED;
        static atomic_int runs;
        static blocked_submit submits[3];
        static background submitters[3], destroyer;
        gate_close(&hold);
        atomic_store(&runs, 0);
        tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1 });
        assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
        AWAIT_ARRIVALS(&hold, 1);
        assert_status(TPOOL_OK, tpool_submit(pool, count_up, &runs, NULL));
        for (int i = 0; i < 3; i++) {
            submits[i] = (blocked_submit){ .pool = pool, .runs = &runs };
            background_start(&submitters[i], call_submit, &submits[i]);
        }
        for (int i = 0; i < 3; i++) background_await_block(&submitters[i]);
        background_start(&destroyer, call_destroy, pool);
        background_await_block(&destroyer);
        gate_open(&hold);
        assert_status(TPOOL_OK, background_join(&destroyer));
        int taken = 0;
        for (int i = 0; i < 3; i++) {
            /* The drain makes room, the shutdown turns them away: either may come first. */
            tpool_status status = background_join(&submitters[i]);
            if (status == TPOOL_OK) {
                taken++;
                assert_status(TPOOL_OK, tpool_future_result(submits[i].future, 0, NULL));
            } else {
                assert_status(TPOOL_SHUTDOWN, status);
                assert_null(submits[i].future);
            }
            tpool_future_release(submits[i].future);
        }
        assert_int_equal(1 + taken, atomic_load(&runs));
    }
}

static void *return_bytes(void *arg) {
    (void)arg;
    return tpool_return("some bytes", 11);
}
static void *raise_long(void *arg) {
    (void)arg;
    return tpool_raise(-7, "%s and %d", "text", 42);
}

static void futures_stay_valid_after_their_pool_is_destroyed(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static atomic_int called_back;
    tpool *pool = new_pool(1);
    tpool_future *gated = submitted(pool, gate_task, &hold);
    tpool_future *bytes = submitted(pool, return_bytes, NULL);
    tpool_future *raised = submitted_task(pool, (tpool_task){ .fn = raise_long, .name = "raiser" });
    tpool_future *cancelled = submitted(pool, nothing, NULL);
    tpool_future *expired = submitted_task(pool, (tpool_task){ .fn = nothing, .expires_ns = 1 });
    AWAIT_ARRIVALS(&hold, 1);
    assert_true(tpool_future_cancel(cancelled));
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_destroy(pool));

    void *result = NULL;
    const tpool_error *error = NULL;
    assert_status(TPOOL_OK, tpool_future_result(gated, TPOOL_FOREVER, &result));
    assert_ptr_equal(&hold, result);
    assert_false(tpool_future_cancel(gated));
    assert_status(TPOOL_OK, tpool_future_result(bytes, 0, &result));
    assert_string_equal("some bytes", result);
    assert_int_equal(11, tpool_future_result_size(bytes));
    assert_status(TPOOL_FAILED, tpool_future_result(raised, 0, &result));
    assert_null(result);
    assert_status(TPOOL_OK, tpool_future_error(raised, 0, &error));
    assert_int_equal(-7, error->code);
    assert_string_equal("text and 42", error->message);
    assert_string_equal("raiser", error->task);
    assert_string_equal("text and 42", tpool_future_message(raised));
    assert_true(tpool_future_cancelled(cancelled));
    assert_status(TPOOL_CANCELLED, tpool_future_error(cancelled, 0, &error));
    assert_status(TPOOL_EXPIRED, tpool_future_result(expired, 0, NULL));
    assert_int_equal(TPOOL_FINISHED, tpool_future_state(expired));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(bytes, store_thread, &called_back));
    assert_int_equal(1, atomic_load(&called_back));
    tpool_future *all[] = { gated, bytes, raised, cancelled, expired };
    size_t done = 0;
    assert_status(TPOOL_OK, tpool_wait(all, 5, TPOOL_ALL_COMPLETED, 0, &done));
    assert_int_equal(5, done);
    tpool_future_release(tpool_future_retain(raised));
    for (int i = 0; i < 5; i++) tpool_future_release(all[i]);
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
    int64_t expired_at = tpool_now() + TPOOL_SEC(1); /* not before the queue is found full, which would end it */
    assert_status(TPOOL_OK, tpool_submit_task(pool, &(tpool_task){ .fn = nothing, .expires_ns = TPOOL_SEC(1) }, NULL));
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

/* --- order */

static struct {
    atomic_int count;
    int values[4096];
} order;
static void *record(void *arg) {
    int at = atomic_fetch_add(&order.count, 1);
    if (at < (int)(sizeof order.values / sizeof order.values[0])) order.values[at] = (int)(intptr_t)arg;
    return NULL;
}
static void *number(int n) { return (void *)(intptr_t)n; }

static void higher_priorities_start_first_and_equal_ones_in_order(void **state) {
    (void)state;
    static const int priorities[] = { 0, -5, 3, 0, INT_MIN, 3, INT_MAX, -5 };
    static const int expected[] = { 6, 2, 5, 0, 3, 1, 7, 4 };
    for (int with_gate = 0; with_gate < 2; with_gate++) {
        static gate hold = GATE_CLOSED;
        gate_close(&hold);
        atomic_store(&order.count, 0);
        tpool *pool = new_pool(1);
        if (with_gate) {
            assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
            AWAIT_ARRIVALS(&hold, 1);
        } else {
            assert_status(TPOOL_OK, tpool_pause(pool));
        }
        for (int i = 0; i < 8; i++) {
            assert_status(TPOOL_OK,
                          tpool_submit_task(
                              pool, &(tpool_task){ .fn = record, .arg = number(i), .priority = priorities[i] }, NULL));
        }
        if (with_gate) gate_open(&hold);
        else assert_status(TPOOL_OK, tpool_resume(pool));
        assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
        assert_int_equal(8, atomic_load(&order.count));
        for (int i = 0; i < 8; i++) assert_int_equal(expected[i], order.values[i]);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

/* Tasks that submit their successors, so that some of their priority are always waiting. */
typedef struct chain {
    tpool *pool;
    atomic_int next_priority;
    int step;
    atomic_bool stop;
    atomic_long links;
} chain;
static void *chain_link(void *arg) {
    chain *c = arg;
    atomic_fetch_add(&c->links, 1);
    if (atomic_load(&c->stop)) return NULL;
    tpool_task next = { .fn = chain_link, .arg = c, .priority = atomic_fetch_add(&c->next_priority, c->step) };
    if (tpool_submit_task(c->pool, &next, NULL) != TPOOL_OK) atomic_store(&c->stop, true);
    return NULL;
}

static void chain_start(chain *c, int workers, int priority, int step) {
    c->pool = new_pool(workers);
    atomic_store(&c->next_priority, priority);
    c->step = step;
    atomic_store(&c->stop, false);
    atomic_store(&c->links, 0);
    for (int i = 0; i < 8; i++) {
        tpool_task first = { .fn = chain_link, .arg = c, .priority = atomic_fetch_add(&c->next_priority, step) };
        assert_status(TPOOL_OK, tpool_submit_task(c->pool, &first, NULL));
    }
    EVENTUALLY(atomic_load(&c->links) > 100);
}

static void chain_end(chain *c) {
    assert_false(atomic_load(&c->stop)); /* it never broke */
    atomic_store(&c->stop, true);
    assert_status(TPOOL_OK, tpool_destroy(c->pool));
}

static void a_task_of_any_priority_starts_beside_endless_work_of_any_other(void **state) {
    (void)state;
    static const int priorities[] = { -5, 0, 5 };
    static chain c;
    for (int workers = 1; workers <= 2; workers++) {
        for (int busy = 0; busy < 3; busy++) {
            for (int waiting = 0; waiting < 3; waiting++) {
                chain_start(&c, workers, priorities[busy], 0);
                for (int i = 0; i < 3; i++) {
                    assert_status(
                        TPOOL_OK,
                        end_of(submitted_task(c.pool, (tpool_task){ .fn = nothing, .priority = priorities[waiting] })));
                }
                chain_end(&c);
            }
        }
    }
}

static void a_task_starts_beside_endless_work_of_ever_new_priorities(void **state) {
    (void)state;
    static chain c;
    static const struct { int first, step; } busy[] = { { 1, 1 }, { -1, -1 }, { 1000000000, -1 } };
    static const int waiting[] = { INT_MIN, -5, 0, 5, INT_MAX };
    for (int i = 0; i < 3; i++) {
        chain_start(&c, 1, busy[i].first, busy[i].step);
        for (int j = 0; j < 5; j++) {
            assert_status(TPOOL_OK,
                          end_of(submitted_task(c.pool, (tpool_task){ .fn = nothing, .priority = waiting[j] })));
        }
        chain_end(&c);
    }
}

static void many_tasks_of_distinct_priorities_all_start_beside_endless_urgent_work(void **state) {
    (void)state;
    static chain c;
    tpool_future *futures[100];
    chain_start(&c, 1, INT_MAX, 0);
    for (int i = 0; i < 100; i++) {
        futures[i] = submitted_task(c.pool, (tpool_task){ .fn = nothing, .priority = i == 50 ? INT_MIN : i - 50 });
    }
    for (int i = 0; i < 100; i++) assert_status(TPOOL_OK, end_of(futures[i]));
    chain_end(&c);
}

static void urgent_tasks_are_not_held_up_by_a_backlog(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    atomic_store(&order.count, 0);
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
    AWAIT_ARRIVALS(&hold, 1);
    for (int i = 0; i < 1000; i++) assert_status(TPOOL_OK, tpool_submit(pool, record, number(0), NULL));
    tpool_task urgent = { .fn = record, .arg = number(1), .priority = 1 };
    assert_status(TPOOL_OK, tpool_submit_task(pool, &urgent, NULL));
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(1, order.values[0]);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

typedef struct ordered_spawn {
    tpool *pool;
    gate *before, *after;
    int first, count;
    atomic_int refused;
} ordered_spawn;
static void *spawn_in_order(void *arg) {
    ordered_spawn *s = arg;
    if (s->before) gate_pass(s->before);
    for (int i = 0; i < s->count; i++) {
        if (tpool_submit(s->pool, record, number(s->first + i), NULL) != TPOOL_OK) atomic_fetch_add(&s->refused, 1);
    }
    if (s->after) gate_pass(s->after);
    return NULL;
}

static void one_worker_starts_tasks_in_the_order_submitted_whoever_submits(void **state) {
    (void)state;
    static gate before = GATE_CLOSED, after = GATE_CLOSED;
    static ordered_spawn first, late;
    atomic_store(&order.count, 0);
    tpool *pool = new_pool(1);
    first = (ordered_spawn){ .pool = pool, .before = &before, .after = &after, .first = 100, .count = 100 };
    late = (ordered_spawn){ .pool = pool, .first = 300, .count = 100 };
    assert_status(TPOOL_OK, tpool_submit(pool, spawn_in_order, &first, NULL));
    AWAIT_ARRIVALS(&before, 1);
    /* 0 to 99 from here, 100 to 199 from the running task, then 200 to 299 from here, and 300 to 399 from a task that
       comes before these. */
    for (int i = 0; i < 100; i++) assert_status(TPOOL_OK, tpool_submit(pool, record, number(i), NULL));
    gate_open(&before);
    AWAIT_ARRIVALS(&after, 1);
    assert_status(TPOOL_OK, tpool_submit(pool, spawn_in_order, &late, NULL));
    for (int i = 200; i < 300; i++) assert_status(TPOOL_OK, tpool_submit(pool, record, number(i), NULL));
    gate_open(&after);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(0, atomic_load(&first.refused) + atomic_load(&late.refused));
    assert_int_equal(400, atomic_load(&order.count));
    for (int i = 0; i < 400; i++) assert_int_equal(i, order.values[i]);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *record_and_follow(void *arg) {
    record(arg);
    void *follower = number(1000 + (int)(intptr_t)arg);
    if (tpool_submit(tpool_current(), record, follower, NULL) != TPOOL_OK) record(number(-1));
    return NULL;
}

static void one_worker_mixes_tasks_with_and_without_futures_in_order(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    atomic_store(&order.count, 0);
    tpool *pool = new_pool(1);
    tpool_future *futures[1000] = { NULL };
    assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
    AWAIT_ARRIVALS(&hold, 1);
    for (int i = 0; i < 1000; i++) {
        tpool_task task = { .fn = record_and_follow, .arg = number(i), .expires_ns = i % 7 ? 0 : LIMIT };
        if (i % 3 == 0) futures[i] = submitted_task(pool, task);
        else assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    }
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(2000, atomic_load(&order.count));
    for (int i = 0; i < 2000; i++) assert_int_equal(i, order.values[i]);
    for (int i = 0; i < 1000; i++) tpool_future_release(futures[i]);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* Whichever thread is the one worker at the moment: replaced after so many tasks, or after idling. */
static void the_order_survives_the_replacement_of_the_worker(void **state) {
    (void)state;
    static const unsigned most_tasks[] = { 1, 3, 0 };
    for (int i = 0; i < 3; i++) {
        atomic_store(&order.count, 0);
        tpool *pool;
        assert_status(TPOOL_OK, tpool_create(&pool, &(tpool_config){ .max_workers = 1,
                                                                     .idle_timeout_ns = 1,
                                                                     .max_tasks_per_worker = most_tasks[i] }));
        assert_status(TPOOL_OK, tpool_pause(pool));
        for (int j = 0; j < 100; j++) assert_status(TPOOL_OK, tpool_submit(pool, record, number(j), NULL));
        assert_status(TPOOL_OK, tpool_resume(pool));
        for (int j = 100; j < 200; j++) assert_status(TPOOL_OK, tpool_submit(pool, record, number(j), NULL));
        assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
        assert_int_equal(200, atomic_load(&order.count));
        for (int j = 0; j < 200; j++) assert_int_equal(j, order.values[j]);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

static void *record_and_end_thread(void *arg) {
    record(arg);
    pthread_exit(NULL);
}

static void the_order_survives_tasks_that_end_their_thread(void **state) {
    (void)state;
    atomic_store(&order.count, 0);
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, tpool_pause(pool));
    for (int i = 0; i < 100; i++) {
        tpool_fn fn = i % 10 == 4 ? record_and_end_thread : record;
        assert_status(TPOOL_OK, tpool_submit(pool, fn, number(i), NULL));
    }
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(100, atomic_load(&order.count));
    for (int i = 0; i < 100; i++) assert_int_equal(i, order.values[i]);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* The first task waits for a future that a later one completes, so that a spare runs those in between; when the first
   has returned the later one ends, and the rest is for one worker again. */
static struct {
    tpool_future *wanted;
    tpool_status waited;
    atomic_bool returned;
} interlude;
static void *await_interlude(void *arg) {
    record(arg);
    interlude.waited = tpool_future_result(interlude.wanted, LIMIT, NULL);
    atomic_store(&interlude.returned, true);
    return NULL;
}
static void *end_interlude(void *arg) {
    record(arg);
    (void)tpool_future_set_result(interlude.wanted, NULL);
    while (!atomic_load(&interlude.returned)) sleep_ms(1);
    return NULL;
}

static void the_order_survives_a_spare_worker(void **state) {
    (void)state;
    for (int round = 0; round < COUNT(20) + 1; round++) {
        atomic_store(&order.count, 0);
        atomic_store(&interlude.returned, false);
        assert_status(TPOOL_OK, tpool_future_create(&interlude.wanted));
        tpool *pool = new_pool(1);
        assert_status(TPOOL_OK, tpool_pause(pool));
        for (int i = 0; i < 200; i++) {
            tpool_fn fn = i == 3 ? await_interlude : i == 10 + round ? end_interlude : record;
            assert_status(TPOOL_OK, tpool_submit(pool, fn, number(i), NULL));
        }
        assert_status(TPOOL_OK, tpool_resume(pool));
        assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
        assert_status(TPOOL_OK, interlude.waited);
        assert_int_equal(200, atomic_load(&order.count));
        for (int i = 0; i < 200; i++) assert_int_equal(i, order.values[i]);
        tpool_future_release(interlude.wanted);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

/* --- nothing waits behind a task that another worker has merely fetched */

static void short_tasks_finish_while_a_long_one_holds_a_gate(void **state) {
    (void)state;
    for (int round = 0; round < COUNT(40); round++) {
        static gate hold = GATE_CLOSED;
        static atomic_int runs;
        tpool_future *futures[100] = { NULL };
        gate_close(&hold);
        atomic_store(&runs, 0);
        tpool *pool = new_pool(2);
        assert_status(TPOOL_OK, tpool_pause(pool));
        for (int i = 0; i < 100; i++) {
            if (i == round % 50) assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
            if (round % 2) futures[i] = submitted(pool, count_up, &runs);
            else assert_status(TPOOL_OK, tpool_submit(pool, count_up, &runs, NULL));
        }
        assert_status(TPOOL_OK, tpool_resume(pool));
        EVENTUALLY(atomic_load(&runs) == 100);
        AWAIT_ARRIVALS(&hold, 1);
        gate_open(&hold);
        for (int i = 0; i < 100; i++) tpool_future_release(futures[i]);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

typedef struct spread {
    tpool *pool;
    gate *hold;
    atomic_int runs, refused;
    bool itself_long, with_futures;
} spread;
static void *spread_from_worker(void *arg) {
    spread *s = arg;
    for (int i = 0; i < 100; i++) {
        if (i == 10 && !s->itself_long && tpool_submit(s->pool, gate_task, s->hold, NULL) != TPOOL_OK) {
            atomic_fetch_add(&s->refused, 1);
        }
        tpool_future *future = NULL;
        if (tpool_submit(s->pool, count_up, &s->runs, s->with_futures ? &future : NULL) != TPOOL_OK) {
            atomic_fetch_add(&s->refused, 1);
        }
        tpool_future_release(future);
    }
    if (s->itself_long) gate_pass(s->hold);
    return NULL;
}

static void short_tasks_that_a_worker_submitted_finish_while_a_long_one_holds_a_gate(void **state) {
    (void)state;
    for (int round = 0; round < COUNT(40); round++) {
        static gate hold = GATE_CLOSED;
        static spread s;
        gate_close(&hold);
        atomic_store(&s.runs, 0);
        s.hold = &hold;
        s.itself_long = round % 2;
        s.with_futures = round % 4 < 2;
        s.pool = new_pool(2);
        assert_status(TPOOL_OK, tpool_submit(s.pool, spread_from_worker, &s, NULL));
        EVENTUALLY(atomic_load(&s.runs) == 100);
        AWAIT_ARRIVALS(&hold, 1);
        gate_open(&hold);
        assert_status(TPOOL_OK, tpool_destroy(s.pool));
        assert_int_equal(0, atomic_load(&s.refused));
    }
}

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
        cmocka_unit_test(nothing_starts_unasked_between_stopping_and_cancelling),
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
        cmocka_unit_test(shutdown_returns_at_once_and_queued_work_still_completes),
        cmocka_unit_test(shutdown_with_wait_returns_when_the_workers_have_ended),
        cmocka_unit_test(shutdown_with_wait_of_a_pool_never_used_returns),
        cmocka_unit_test(shutdown_with_cancel_pending_cancels_what_has_not_started),
        cmocka_unit_test(shutdown_with_stop_running_asks_what_runs_to_stop),
        cmocka_unit_test(shutdown_called_again_adds_its_flags),
        cmocka_unit_test(shutdown_resumes_a_paused_pool_and_pause_after_it_is_refused),
        cmocka_unit_test(after_shutdown_the_tasks_themselves_cannot_submit),
        cmocka_unit_test(a_task_may_shut_its_own_pool_down_without_waiting),
        cmocka_unit_test(ending_its_pool_from_a_task_is_a_deadlock),
        cmocka_unit_test(ending_its_pool_from_a_callback_is_a_deadlock_on_any_thread),
        cmocka_unit_test(ending_its_pool_from_a_callback_that_runs_at_once_is_a_deadlock_too),
        cmocka_unit_test(ending_its_pool_from_on_failure_is_a_deadlock),
        cmocka_unit_test(drain_waits_for_on_failure_of_what_a_broken_pool_had_queued),
        cmocka_unit_test(ending_a_pool_from_above_its_task_is_a_deadlock),
        cmocka_unit_test(ending_a_pool_from_a_callback_above_its_task_is_a_deadlock),
        cmocka_unit_test(a_task_may_drain_and_destroy_another_pool),
        cmocka_unit_test(a_task_that_drains_another_pool_gives_its_own_pool_a_spare),
        cmocka_unit_test(drain_gives_timeout_until_nothing_is_queued_or_running),
        cmocka_unit_test(drain_of_a_paused_pool_waits_for_a_resume),
        cmocka_unit_test(drain_of_a_paused_pool_ends_when_its_work_is_cancelled),
        cmocka_unit_test(drain_and_destroy_let_tasks_finish_spreading),
        cmocka_unit_test(drain_and_destroy_wait_for_the_callbacks_of_a_cancel_elsewhere),
        cmocka_unit_test(drain_and_destroy_wait_for_the_callbacks_of_an_expiry_noticed_elsewhere),
        cmocka_unit_test(drain_waits_for_the_callbacks_of_a_finished_task),
        cmocka_unit_test(destroy_resumes_a_paused_pool_and_runs_what_is_queued),
        cmocka_unit_test(no_task_pauses_a_pool_that_is_being_destroyed),
        cmocka_unit_test(drains_that_are_under_way_have_left_when_destroy_frees),
        cmocka_unit_test(submitters_blocked_on_a_full_queue_have_left_when_destroy_frees),
        cmocka_unit_test(futures_stay_valid_after_their_pool_is_destroyed),
        cmocka_unit_test(statistics_add_up_at_rest_over_mixed_outcomes),
        cmocka_unit_test(tasks_run_by_their_waiter_are_counted),
        cmocka_unit_test(higher_priorities_start_first_and_equal_ones_in_order),
        cmocka_unit_test(a_task_of_any_priority_starts_beside_endless_work_of_any_other),
        cmocka_unit_test(a_task_starts_beside_endless_work_of_ever_new_priorities),
        cmocka_unit_test(many_tasks_of_distinct_priorities_all_start_beside_endless_urgent_work),
        cmocka_unit_test(urgent_tasks_are_not_held_up_by_a_backlog),
        cmocka_unit_test(one_worker_starts_tasks_in_the_order_submitted_whoever_submits),
        cmocka_unit_test(one_worker_mixes_tasks_with_and_without_futures_in_order),
        cmocka_unit_test(the_order_survives_the_replacement_of_the_worker),
        cmocka_unit_test(the_order_survives_tasks_that_end_their_thread),
        cmocka_unit_test(the_order_survives_a_spare_worker),
        cmocka_unit_test(short_tasks_finish_while_a_long_one_holds_a_gate),
        cmocka_unit_test(short_tasks_that_a_worker_submitted_finish_while_a_long_one_holds_a_gate),
        cmocka_unit_test(kill_workers_is_for_processes_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
