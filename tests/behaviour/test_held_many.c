/* Held tasks without a function, which are when-all, when-any and timers as futures; and graphs of a million tasks,
   which need no stack. */
#include "support.h"
#include "support/held.h"
#ifndef _WIN32
#include <sys/mman.h>
#endif

/* ---- Without a function */
static void when_all(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, tpool_pause(pool)); /* which does not hold it */
    tpool_future *firsts[3] = { bare(), bare(), bare() };
    atomic_int freed = 0;
    tpool_task task = after(NULL, &freed, firsts, 3, TPOOL_AFTER_DONE);
    task.arg_free = count_free;
    tpool_future *all = submitted_task(pool, task);
    for (int i = 0; i < 3; i++) {
        assert_false(tpool_future_done(all));
        complete(firsts[i]);
    }
    assert_true(tpool_future_done(all));
    assert_int_equal(1, atomic_load(&freed));
    assert_null(take(all));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(1, stats_of(pool).completed);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void when_all_fails_with_the_first(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *firsts[2] = { bare(), bare() };
    tpool_future *all = submitted_task(pool, after(NULL, NULL, firsts, 2, TPOOL_AFTER_SUCCESS));
    assert_status(TPOOL_OK, tpool_future_set_error(firsts[0], 6, "six"));
    complete(firsts[1]);
    const tpool_error *error = NULL;
    assert_status(TPOOL_CANCELLED, tpool_future_error(all, 0, &error));
    assert_int_equal(6, error->code);
    assert_status(TPOOL_FAILED, error->cause);
    tpool_future_release(firsts[0]);
    assert_string_equal("six", error->message);
    tpool_future_release(all);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void when_any_tells_which_was_first(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *firsts[3] = { bare(), bare(), bare() };
    tpool_future *any = submitted_task(pool, after(NULL, NULL, firsts, 3, TPOOL_AFTER_ANY));
    assert_status(TPOOL_OK, tpool_future_set_error(firsts[1], 2, "whatever"));
    tpool_future *second = submitted_task(pool, after(NULL, NULL, firsts, 3, TPOOL_AFTER_ANY)); /* done already */
    void *value = NULL, *expected = firsts[1];
    for (int i = 0; i < 3; i++) tpool_future_release(firsts[i]);
    assert_status(TPOOL_OK, tpool_future_result(any, 0, &value));
    assert_ptr_equal(expected, value);
    assert_string_equal("whatever", tpool_future_message(value)); /* it lives as long as `any` */
    assert_status(TPOOL_OK, tpool_future_result(second, 0, &value));
    assert_ptr_equal(expected, value);
    tpool_future_release(any);
    assert_string_equal("whatever", tpool_future_message(value));
    tpool_future_release(second);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_timer(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    int64_t before = tpool_now();
    tpool_future *timer = submitted_task(pool, (tpool_task){ .delay_ns = TPOOL_MS(20) });
    assert_null(take(timer));
    assert_true(tpool_now() - before >= TPOOL_MS(20));
    assert_int_equal(0, stats_of(pool).workers); /* nothing runs */
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* First of a result and a timer: a limit for anything that is a future. */
static void any_with_a_timer(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *pair[2] = { bare(), submitted_task(pool, (tpool_task){ .delay_ns = TPOOL_MS(5) }) };
    tpool_future *any = submitted_task(pool, after(NULL, NULL, pair, 2, TPOOL_AFTER_ANY));
    void *value = NULL;
    assert_status(TPOOL_OK, tpool_future_result(any, LIMIT, &value));
    assert_ptr_equal(pair[1], value);
    tpool_future_release(any);
    for (int i = 0; i < 2; i++) tpool_future_release(pair[i]);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* Its callbacks run in the thread that ends its last dependency, and see the result. */
static void callbacks_of_what_has_no_function(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *first = bare();
    atomic_int called = 0;
    tpool_future *all = submitted_task(pool, after(NULL, NULL, &first, 1, TPOOL_AFTER_DONE));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(all, count_callback, &called));
    complete(first);
    assert_int_equal(1, atomic_load(&called));
    tpool_future_release(all);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- A million */
#define STACK_SIZE ((size_t)(SLOW_TOOL ? 1024 : 64) * 1024)
static void on_small_stack(void *(*fn)(void *), void *arg) {
    pthread_attr_t attr;
    pthread_t thread;
    void *result = NULL;
    assert_int_equal(0, pthread_attr_init(&attr));
    assert_int_equal(0, pthread_attr_setstacksize(&attr, STACK_SIZE));
    assert_int_equal(0, pthread_create(&thread, &attr, fn, arg));
    assert_int_equal(0, pthread_join(thread, &result));
    pthread_attr_destroy(&attr);
    assert_non_null(result);
}
enum { MANY = 1000000 };
static tpool_future *links[MANY];
static void *complete_it(void *arg) {
    return tpool_future_set_result((tpool_future *)arg, NULL) == TPOOL_OK ? arg : NULL;
}
static void *fail_it(void *arg) {
    return tpool_future_set_error((tpool_future *)arg, 3, "%s", "far away") == TPOOL_OK ? arg : NULL;
}
static void *release_it(void *arg) {
    tpool_future_release((tpool_future *)arg);
    return arg;
}
static tpool *new_small_pool(void) {
    return new_pool_as((tpool_config){ .max_workers = 2, .stack_size = SLOW_TOOL ? 0 : 64 * 1024 });
}
static void make_chain(tpool *pool, tpool_future *first, long n, tpool_fn fn, tpool_after when) {
    for (long i = 0; i < n; i++) {
        tpool_task task = after(fn, NULL, i ? &links[i - 1] : &first, 1, when);
        assert_status(TPOOL_OK, tpool_submit_task(pool, &task, &links[i]));
    }
}
static void a_chain_of_a_million_runs(void **state) {
    (void)state;
    tpool *pool = new_small_pool();
    tpool_future *first = bare();
    long n = COUNT(MANY);
    make_chain(pool, first, n, nothing, TPOOL_AFTER_SUCCESS);
    on_small_stack(complete_it, first);
    assert_status(TPOOL_OK, tpool_future_result(links[n - 1], LIMIT, NULL));
    for (long i = 0; i < n; i++) assert_status(TPOOL_OK, end_of(links[i]));
    tpool_future_release(first);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_chain_of_a_million_fails(void **state) {
    (void)state;
    tpool *pool = new_small_pool();
    tpool_future *first = bare();
    long n = COUNT(MANY);
    make_chain(pool, first, n, nothing, TPOOL_AFTER_SUCCESS);
    on_small_stack(fail_it, first);
    tpool_future_release(first);
    for (long i = 0; i < n; i++) assert_true(tpool_future_cancelled(links[i]));
    for (long i = 0; i + 1 < n; i++) tpool_future_release(links[i]);
    const tpool_error *error = NULL;
    assert_status(TPOOL_CANCELLED, tpool_future_error(links[n - 1], 0, &error));
    assert_string_equal("far away", error->message);
    assert_status(TPOOL_FAILED, error->cause);
    tpool_future_release(links[n - 1]);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* Each keeps the one before it: the last release frees them all. */
static void a_chain_of_a_million_first_ones(void **state) {
    (void)state;
    tpool *pool = new_small_pool();
    tpool_future *first = bare();
    long n = COUNT(MANY);
    make_chain(pool, first, n, NULL, TPOOL_AFTER_ANY);
    on_small_stack(complete_it, first);
    tpool_future_release(first);
    for (long i = 0; i + 1 < n; i++) tpool_future_release(links[i]);
    void *value = NULL;
    assert_status(TPOOL_OK, tpool_future_result(links[n - 1], 0, &value));
    assert_ptr_equal(links[n - 2], value);
    on_small_stack(release_it, links[n - 1]);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_chain_of_a_million_is_cancelled(void **state) {
    (void)state;
    tpool *pool = new_small_pool();
    tpool_future *first = bare();
    long n = COUNT(MANY);
    make_chain(pool, first, n, nothing, TPOOL_AFTER_SUCCESS);
    assert_true(tpool_future_cancel(first));
    tpool_future_release(first);
    for (long i = 0; i < n; i++) assert_status(TPOOL_CANCELLED, end_of(links[i]));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_fan_out_of_a_million(void **state) {
    (void)state;
    tpool *pool = new_small_pool();
    tpool_future *first = bare();
    atomic_int ran = 0;
    int n = (int)COUNT(MANY);
    for (int i = 0; i < n; i++) {
        tpool_task task = after(i % 2 ? count_up : NULL, &ran, &first, 1, TPOOL_AFTER_DONE);
        assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    }
    assert_int_equal(n, stats_of(pool).held);
    on_small_stack(complete_it, first);
    tpool_future_release(first);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(n / 2, atomic_load(&ran));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_fan_in_of_a_million(void **state) {
    (void)state;
    tpool *pool = new_small_pool();
    long n = COUNT(MANY);
    for (long i = 0; i < n; i++) links[i] = i % 2 ? bare() : submitted(pool, nothing, NULL);
    tpool_future *all = submitted_task(pool, after(nothing, pool, links, (size_t)n, TPOOL_AFTER_SUCCESS));
    tpool_future *cancelled = submitted_task(pool, after(nothing, pool, links, (size_t)n, TPOOL_AFTER_SUCCESS));
    assert_true(tpool_future_cancel(cancelled));
    tpool_future_release(cancelled);
    for (long i = 1; i < n; i += 2) assert_status(TPOOL_OK, tpool_future_set_result(links[i], NULL));
    assert_ptr_equal(pool, take(all));
    for (long i = 0; i < n; i++) tpool_future_release(links[i]);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* More than a thread looks at in one hold of the lock. */
static void an_end_of_many(void **state) {
    (void)state;
    enum { TASKS = 3000 };
    tpool *pool = new_pool(1);
    tpool_future *first = bare();
    tpool_task task = after(nothing, NULL, &first, 1, TPOOL_AFTER_SUCCESS);
    for (int i = 0; i < TASKS; i++) {
        task.after_count = i % 2;
        task.delay_ns = i % 2 ? 0 : TPOOL_FOREVER;
        assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    }
    assert_int_equal(TASKS, stats_of(pool).held);
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_CANCEL_PENDING));
    size_t held = stats_of(pool).held;
    complete(first);
    assert_int_equal(0, held);
    assert_int_equal(TASKS, stats_of(pool).cancelled);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(when_all),
        TEST(when_all_fails_with_the_first),
        TEST(when_any_tells_which_was_first),
        TEST(a_timer),
        TEST(any_with_a_timer),
        TEST(callbacks_of_what_has_no_function),
        TEST(a_chain_of_a_million_runs),
        TEST(a_chain_of_a_million_fails),
        TEST(a_chain_of_a_million_first_ones),
        TEST(a_chain_of_a_million_is_cancelled),
        TEST(a_fan_out_of_a_million),
        TEST(a_fan_in_of_a_million),
        TEST(an_end_of_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
