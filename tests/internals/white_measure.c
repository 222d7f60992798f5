/* What config.measure collects. The clock is the test's own, and stands still but where a task or the test moves it, so
   every time is known exactly; the implementation is included, so that its looks at the clock come here. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdatomic.h>
#include <time.h>

static _Atomic(long long) now_ns = 5000000000;
static _Thread_local int looks; /* of this thread */
#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
static inline BOOL test_counter(LARGE_INTEGER *count) {
    looks++;
    count->QuadPart = atomic_load(&now_ns);
    return TRUE;
}
static inline BOOL test_rate(LARGE_INTEGER *rate) {
    rate->QuadPart = 1000000000;
    return TRUE;
}
#define QueryPerformanceCounter test_counter
#define QueryPerformanceFrequency test_rate
#endif
static inline int test_clock_gettime(clockid_t clock, struct timespec *t) {
    (void)clock;
    long long ns = atomic_load(&now_ns);
    looks++;
    t->tv_sec = (time_t)(ns / 1000000000);
    t->tv_nsec = (long)(ns % 1000000000);
    return 0;
}

#define clock_gettime test_clock_gettime
#include "internals/check.h"
#undef clock_gettime
#undef QueryPerformanceCounter
#undef QueryPerformanceFrequency

#include "support.h"

static void let_pass(int64_t ns) { atomic_fetch_add(&now_ns, (long long)ns); }

static tpool *measured(tpool_config config) {
    tpool *pool = NULL;
    config.measure = true;
    assert_status(TPOOL_OK, tpool_create(&pool, &config));
    return pool;
}
static void drained(tpool *pool) { assert_status(TPOOL_OK, tpool_drain(pool, TPOOL_FOREVER)); }

#define assert_about(expected, got) \
    do { \
        int64_t about = (expected), told = (got); \
        if (told < about - about / 20 || told > about + about / 20) \
            fail_msg("%s: %lld is not within 5 %% of %lld", #got, (long long)told, (long long)about); \
    } while (0)

/* A task that takes as long as its argument says. */
static void *take_time(void *arg) {
    let_pass(*(int64_t *)arg);
    return arg;
}
static void *fail_after(void *arg) {
    let_pass(*(int64_t *)arg);
    return tpool_raise(3, "failed");
}
static void submit(tpool *pool, tpool_fn fn, int64_t ns) {
    assert_status(TPOOL_OK, tpool_submit_copy(pool, fn, &ns, sizeof ns, NULL));
}

/* How many tasks are in the histograms. */
static uint64_t counted(tpool *pool, bool waits) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < TPOOL__BUCKETS; i++) sum += tpool__in_bucket(pool, waits, i);
    return sum;
}

static void every_time_is_told_within_five_percent(void **state) {
    (void)state;
    unsigned before = 0;
    for (int64_t ns = 0; ns < INT64_MAX / 2; ns += ns / 100 + 1) {
        unsigned bucket = tpool__bucket_of(ns);
        int64_t middle = tpool__middle_of(bucket);
        assert_true(bucket < TPOOL__BUCKETS);
        assert_true(bucket == before || bucket == before + 1); /* none is left out, and they are in order */
        assert_true(middle >= ns - ns / 20 && middle <= ns + ns / 20);
        before = bucket;
    }
    assert_int_equal(TPOOL__BUCKETS - 1, tpool__bucket_of(INT64_MAX));
    assert_true(tpool__middle_of(TPOOL__BUCKETS - 1) > INT64_MAX / 20 * 19);
    assert_int_equal(0, tpool__bucket_of(-1));
}

static void without_measure_there_are_no_times(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    submit(pool, take_time, TPOOL_MS(1));
    drained(pool);
    tpool_stats stats = stats_of(pool);
    assert_true(stats.wait_p50_ns == 0 && stats.wait_p99_ns == 0 && stats.run_p50_ns == 0 && stats.run_p99_ns == 0);
    assert_int_equal(0, stats.busy_ns);
    assert_int_equal(1, stats.completed);
    tpool_destroy(pool);
}

static void before_the_first_task_all_is_zero(void **state) {
    (void)state;
    tpool *pool = measured((tpool_config){ .max_workers = 1 });
    tpool_stats stats = stats_of(pool);
    assert_true(stats.wait_p50_ns == 0 && stats.wait_p99_ns == 0 && stats.run_p50_ns == 0 && stats.run_p99_ns == 0);
    tpool_destroy(pool);
}

static void run_times_and_busy_time(void **state) {
    (void)state;
    tpool *pool = measured((tpool_config){ .max_workers = 1 });
    for (int i = 0; i < 100; i++)
        submit(pool, i % 10 ? take_time : fail_after, i % 50 == 7 ? TPOOL_MS(50) : TPOOL_US(700));
    drained(pool);
    tpool_stats stats = stats_of(pool);
    assert_about(TPOOL_US(700), stats.run_p50_ns);
    assert_about(TPOOL_MS(50), stats.run_p99_ns); /* two of a hundred */
    assert_int_equal(98 * TPOOL_US(700) + 2 * TPOOL_MS(50), stats.busy_ns);
    assert_int_equal(90, stats.completed);
    assert_int_equal(10, stats.failed);
    assert_int_equal(100, counted(pool, false));
    assert_int_equal(100, counted(pool, true));
    tpool_destroy(pool);
}

static void one_in_a_hundred_does_not_make_p99(void **state) {
    (void)state;
    tpool *pool = measured((tpool_config){ .max_workers = 1 });
    for (int i = 0; i < 100; i++) submit(pool, take_time, i == 7 ? TPOOL_MS(50) : TPOOL_US(700));
    drained(pool);
    assert_about(TPOOL_US(700), stats_of(pool).run_p99_ns);
    tpool_destroy(pool);
}

static void waits_count_from_the_submit_to_the_start(void **state) {
    (void)state;
    static const bool with_future[] = { false, true };
    for (int k = 0; k < 2; k++) {
        tpool *pool = measured((tpool_config){ .max_workers = 1 });
        tpool_future *futures[100] = { NULL };
        int64_t ms = TPOOL_MS(1);
        assert_status(TPOOL_OK, tpool_pause(pool));
        for (int i = 0; i < 100; i++) /* each runs for a millisecond, and makes the next wait so much longer */
            assert_status(TPOOL_OK, tpool_submit(pool, take_time, &ms, with_future[k] ? &futures[i] : NULL));
        let_pass(TPOOL_SEC(3));
        assert_status(TPOOL_OK, tpool_resume(pool));
        drained(pool);
        tpool_stats stats = stats_of(pool);
        assert_about(TPOOL_MS(3049), stats.wait_p50_ns);
        assert_about(TPOOL_MS(3098), stats.wait_p99_ns);
        assert_about(TPOOL_MS(1), stats.run_p99_ns);
        assert_int_equal(TPOOL_MS(100), stats.busy_ns);
        for (int i = 0; i < 100; i++) tpool_future_release(futures[i]);
        tpool_destroy(pool);
    }
}

static void *count_looks(void *arg) {
    *(int *)arg = looks;
    return NULL;
}
static void from_one_task_to_the_next_the_clock_is_looked_at_once(void **state) {
    (void)state;
    int first = 0, last = 0;
    tpool *pool = measured((tpool_config){ .max_workers = 1 });
    assert_status(TPOOL_OK, tpool_pause(pool));
    assert_status(TPOOL_OK, tpool_submit(pool, count_looks, &first, NULL));
    for (int i = 1; i < 1000; i++) assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
    assert_status(TPOOL_OK, tpool_submit(pool, count_looks, &last, NULL));
    assert_status(TPOOL_OK, tpool_resume(pool));
    drained(pool);
    assert_true(last - first >= 1000 && last - first < 1200); /* not two a task; and now and then for a batch */
    tpool_destroy(pool);
}

/* So it is for an observer of starts, or of ends. Of both it is looked at twice: the observer runs in between. */
static void ignores(const tpool_event *event, void *context) {
    (void)event;
    (void)context;
}
static void an_observer_has_the_clock_looked_at_once_for_each_end_or_start(void **state) {
    static const unsigned kinds[] = { TPOOL_EVENT_STARTED, TPOOL_EVENT_ENDED, TPOOL_EVENT_STARTED | TPOOL_EVENT_ENDED };
    (void)state;
    for (int k = 0; k < 3; k++) {
        int first = 0, last = 0, times = k == 2 ? 2 : 1;
        tpool *pool = NULL;
        assert_status(TPOOL_OK, tpool_create(&pool, &(tpool_config){
                                                        .max_workers = 1, .observer = ignores, .observed = kinds[k] }));
        assert_status(TPOOL_OK, tpool_pause(pool));
        assert_status(TPOOL_OK, tpool_submit(pool, count_looks, &first, NULL));
        for (int i = 1; i < 1000; i++) assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
        assert_status(TPOOL_OK, tpool_submit(pool, count_looks, &last, NULL));
        assert_status(TPOOL_OK, tpool_resume(pool));
        drained(pool);
        assert_in_range(last - first, 1000 * times, 1000 * times + 199);
        tpool_destroy(pool);
    }
}

/* Nobody wanted to know when it began; then a trace begins. */
static char trace_text[4000];
static bool keeps_text(const char *bytes, size_t size, void *used) {
    size_t *end = used;
    memcpy(trace_text + *end, bytes, size);
    *end += size;
    return true;
}
static void *begins_before_a_trace(void *arg) {
    tpool__thread *self = tpool__self();
    tpool__stopwatch stopwatch;
    tpool *pool = arg;
    if (tpool_trace_start(pool, 0) != TPOOL_OK) return arg;
    (void)tpool__observe_begin(self, pool, self->context->task, self->context, 0, TPOOL__OBSERVED, &stopwatch);
    return NULL;
}
static void a_start_without_a_time_is_in_no_trace(void **state) {
    (void)state;
    size_t used = 0;
    tpool *pool = NULL;
    assert_status(
        TPOOL_OK,
        tpool_create(&pool, &(tpool_config){ .max_workers = 1, .observer = ignores, .observed = TPOOL_EVENT_ENDED }));
    tpool_future *future = NULL;
    assert_status(TPOOL_OK, tpool_submit(pool, begins_before_a_trace, pool, &future));
    void *result = pool;
    assert_status(TPOOL_OK, tpool_future_result(future, TPOOL_FOREVER, &result));
    assert_null(result);
    assert_status(TPOOL_OK, tpool_trace_write(pool, keeps_text, &used));
    trace_text[used] = 0;
    assert_null(strstr(trace_text, "\"ts\":0.000"));
    tpool_future_release(future);
    tpool_destroy(pool);
}

/* What runs between one task and the next belongs to neither. */
static void slow_callback(tpool_future *future, void *context) {
    (void)future;
    (void)context;
    let_pass(TPOOL_MS(300));
}
static void slow_free(void *arg) {
    (void)arg;
    let_pass(TPOOL_MS(300));
}
static void *own_slowly(void *arg) {
    let_pass(TPOOL_MS(1));
    return tpool_return_owned(arg, slow_free);
}
static void slow_report(const tpool_error *error, void *context) {
    (void)error;
    (void)context;
    let_pass(TPOOL_MS(300));
}
static void *fail_after_1ms(void *arg) {
    (void)arg;
    let_pass(TPOOL_MS(1));
    return tpool_raise(1, "x");
}
static void callbacks_and_what_frees_are_no_tasks(void **state) {
    (void)state;
    tpool *pool = measured((tpool_config){ .max_workers = 1, .on_failure = slow_report });
    tpool_future *future = NULL;
    int64_t ms = TPOOL_MS(1);
    assert_status(TPOOL_OK, tpool_pause(pool));
    future = submitted(pool, take_time, &ms);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(future, slow_callback, NULL));
    assert_status(TPOOL_OK, tpool_submit(pool, take_time, &ms, NULL));
    tpool_task task = { .fn = take_time, .arg = &ms, .arg_free = slow_free };
    assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    assert_status(TPOOL_OK, tpool_submit(pool, take_time, &ms, NULL));
    assert_status(TPOOL_OK, tpool_submit(pool, own_slowly, &ms, NULL));
    assert_status(TPOOL_OK, tpool_submit(pool, take_time, &ms, NULL));
    assert_status(TPOOL_OK, tpool_submit(pool, fail_after_1ms, &ms, NULL));
    assert_status(TPOOL_OK, tpool_submit(pool, take_time, &ms, NULL));
    assert_status(TPOOL_OK, tpool_resume(pool));
    drained(pool);
    assert_about(TPOOL_MS(1), stats_of(pool).run_p99_ns);
    assert_int_equal(TPOOL_MS(8), stats_of(pool).busy_ns);
    tpool_future_release(future);
    tpool_destroy(pool);
}

static void *run_one_in_place(void *arg) {
    tpool *pool = arg;
    tpool_future *future = NULL;
    int64_t ms = TPOOL_MS(20);
    let_pass(TPOOL_MS(5));
    if (tpool_submit(pool, take_time, &ms, &future) != TPOOL_OK) return NULL;
    let_pass(TPOOL_MS(5));
    tpool_future_result(future, TPOOL_FOREVER, NULL);
    tpool_future_release(future);
    return NULL;
}
static void a_task_within_anothers_wait_is_busy_time_only_once(void **state) {
    (void)state;
    tpool *pool = measured((tpool_config){ .max_workers = 1 });
    assert_status(TPOOL_OK, tpool_submit(pool, run_one_in_place, pool, NULL));
    drained(pool);
    tpool_stats stats = stats_of(pool);
    assert_int_equal(TPOOL_MS(30), stats.busy_ns);
    assert_about(TPOOL_MS(20), stats.run_p50_ns);
    assert_about(TPOOL_MS(30), stats.run_p99_ns);
    assert_about(TPOOL_MS(5), stats.wait_p99_ns);
    assert_int_equal(1, stats.inlined);
    tpool_destroy(pool);
}

static void what_the_submitter_runs_counts_too(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    tpool *pool = measured((tpool_config){ .max_workers = 1, .queue_capacity = 1, .on_full = TPOOL_FULL_CALLER_RUNS });
    assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &g, NULL));
    gate_await_arrivals(&g, 1);
    submit(pool, take_time, TPOOL_MS(4)); /* waits */
    submit(pool, take_time, TPOOL_MS(4)); /* runs here */
    assert_int_equal(1, counted(pool, false));
    assert_int_equal(TPOOL_MS(4), stats_of(pool).busy_ns);
    gate_open(&g);
    drained(pool);
    assert_int_equal(3, counted(pool, false));
    assert_int_equal(3, counted(pool, true));
    assert_int_equal(TPOOL_MS(12), stats_of(pool).busy_ns); /* one task held the worker while another ran here */
    tpool_destroy(pool);
}

static void *give_bytes(void *arg) { return tpool_return(arg, 8); }
static void results_and_errors_are_as_without(void **state) {
    (void)state;
    tpool *pool = measured((tpool_config){ .max_workers = 2 });
    for (int i = 0; i < 300; i++) {
        tpool_future *good = NULL, *bad = NULL, *cancelled = NULL;
        void *result = NULL;
        const tpool_error *error = NULL;
        let_pass(i); /* the stamp takes every low bit */
        good = submitted(pool, give_bytes, (void *)(uintptr_t) "1234567");
        assert_status(TPOOL_OK, tpool_submit_copy(pool, fail_after, &(int64_t){ 1 }, 8, &bad));
        assert_status(TPOOL_OK, tpool_pause(pool));
        cancelled = submitted(pool, nothing, NULL);
        assert_true(tpool_future_cancel(cancelled));
        assert_int_equal(0, tpool_future_result_size(cancelled));
        assert_status(TPOOL_OK, tpool_resume(pool));
        assert_status(TPOOL_OK, tpool_future_result(good, TPOOL_FOREVER, &result));
        assert_string_equal("1234567", result);
        assert_int_equal(8, tpool_future_result_size(good));
        assert_status(TPOOL_OK, tpool_future_error(bad, TPOOL_FOREVER, &error));
        assert_int_equal(3, error->code);
        assert_status(TPOOL_CANCELLED, tpool_future_result(cancelled, TPOOL_FOREVER, NULL));
        tpool_future_release(good);
        tpool_future_release(bad);
        tpool_future_release(cancelled);
    }
    drained(pool);
    assert_int_equal(600, counted(pool, true)); /* the cancelled ones never ran */
    tpool_destroy(pool);
}

static void what_is_refused_dropped_or_expired_leaves_no_times(void **state) {
    (void)state;
    tpool *rejects = measured((tpool_config){ .max_workers = 1, .queue_capacity = 1, .on_full = TPOOL_FULL_REJECT });
    tpool *drops = measured((tpool_config){ .max_workers = 1, .queue_capacity = 1, .on_full = TPOOL_FULL_DROP_OLDEST });
    tpool *both[2] = { rejects, drops };
    for (int k = 0; k < 2; k++) {
        assert_status(TPOOL_OK, tpool_pause(both[k]));
        tpool_task expires = { .fn = nothing, .expires_ns = TPOOL_MS(1) };
        assert_status(TPOOL_OK, tpool_submit_task(both[k], &expires, NULL));
        for (int i = 0; i < 10; i++)
            assert_status(k ? TPOOL_OK : TPOOL_FULL, tpool_submit(both[k], nothing, NULL, NULL));
        let_pass(TPOOL_MS(2));
        assert_status(TPOOL_OK, tpool_resume(both[k]));
        drained(both[k]);
        assert_int_equal(k, counted(both[k], true)); /* of the dropping one the last ran */
        assert_int_equal(k, counted(both[k], false));
        assert_status(TPOOL_OK, tpool_shutdown(both[k], TPOOL_WAIT));
        assert_status(TPOOL_SHUTDOWN, tpool_submit(both[k], nothing, NULL, NULL));
        tpool_destroy(both[k]);
    }
}

static void *submit_many(void *pool) {
    for (int i = 0; i < COUNT(5000); i++) {
        tpool_future *future = NULL;
        assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, i % 3 ? NULL : &future));
        if (i % 9 == 0) tpool_future_result(future, TPOOL_FOREVER, NULL);
        tpool_future_release(future);
    }
    return NULL;
}
static void at_rest_every_task_is_counted_exactly_once(void **state) {
    (void)state;
    tpool *pool = measured((tpool_config){ .max_workers = 4 });
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) assert_int_equal(0, pthread_create(&threads[i], NULL, submit_many, pool));
    for (int i = 0; i < 50; i++) stats_of(pool); /* beside it */
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    drained(pool);
    tpool_stats stats = stats_of(pool);
    assert_int_equal(4 * COUNT(5000), stats.completed);
    assert_int_equal(stats.submitted, stats.completed);
    assert_int_equal(stats.completed, counted(pool, true));
    assert_int_equal(stats.completed, counted(pool, false));
    tpool_destroy(pool);
}

static void *doubled(void *item, void *context) {
    (void)context;
    return item;
}
static void nop(size_t begin, size_t end, void *context) {
    (void)begin;
    (void)end;
    (void)context;
}
static void maps_and_loops_are_measured_by_their_tasks(void **state) {
    (void)state;
    tpool *pool = measured((tpool_config){ .max_workers = 2 });
    int items[100];
    tpool_map_iter *iter = NULL;
    tpool_map_spec spec = { .fn = doubled, .items = items, .count = 100, .stride = sizeof *items, .chunk_size = 10 };
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    for (int i = 0; i < 100; i++) assert_status(TPOOL_OK, tpool_map_next(iter, TPOOL_FOREVER, NULL));
    tpool_map_close(iter);
    assert_status(TPOOL_OK, tpool_for(pool, 0, 1000, 10, nop, NULL));
    drained(pool);
    tpool_stats stats = stats_of(pool);
    assert_int_equal(stats.completed, counted(pool, false));
    assert_true(stats.completed >= 10);
    tpool_destroy(pool);
}

int main(void) {
    alarm(100); /* with a clock that stands still no wait gives up by itself */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_time_is_told_within_five_percent),
        cmocka_unit_test(without_measure_there_are_no_times),
        cmocka_unit_test(before_the_first_task_all_is_zero),
        cmocka_unit_test(run_times_and_busy_time),
        cmocka_unit_test(one_in_a_hundred_does_not_make_p99),
        cmocka_unit_test(waits_count_from_the_submit_to_the_start),
        cmocka_unit_test(from_one_task_to_the_next_the_clock_is_looked_at_once),
        cmocka_unit_test(an_observer_has_the_clock_looked_at_once_for_each_end_or_start),
        cmocka_unit_test(a_start_without_a_time_is_in_no_trace),
        cmocka_unit_test(callbacks_and_what_frees_are_no_tasks),
        cmocka_unit_test(a_task_within_anothers_wait_is_busy_time_only_once),
        cmocka_unit_test(what_the_submitter_runs_counts_too),
        cmocka_unit_test(results_and_errors_are_as_without),
        cmocka_unit_test(what_is_refused_dropped_or_expired_leaves_no_times),
        cmocka_unit_test(at_rest_every_task_is_counted_exactly_once),
        cmocka_unit_test(maps_and_loops_are_measured_by_their_tasks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
