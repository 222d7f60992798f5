/* Held tasks and the ends of pools: which worker stays, what a shutdown cancels, and what a thread leaves that ends in
   the midst of it. */
#include "support.h"
#include "support/held.h"
#include "support/managers.h"

static tpool_task after_end(tpool_fn fn, void *arg, tpool_future *const *futures, size_t count) {
    return after(fn, arg, futures, count, TPOOL_AFTER_DONE);
}
static tpool_task timed(tpool_fn fn, void *arg) {
    return (tpool_task){ .fn = fn, .arg = arg, .delay_ns = TPOOL_FOREVER };
}

/* ---- A worker stays */
static void count_end(void *context) { atomic_fetch_add((atomic_int *)context, 1); }
/* A worker that is to be replaced ends in a pause, in which no other would start. */
static void a_paused_pool_keeps_a_worker_for_what_is_held(void **state) {
    (void)state;
    atomic_int ended = 0, ran = 0;
    tpool *pool = new_pool_as(
        (tpool_config){ .max_workers = 1, .max_tasks_per_worker = 1, .finalizer = count_end, .context = &ended });
    gate g = GATE_CLOSED;
    tpool_future *holder = held_at(pool, &g), *first = bare();
    tpool_future *held = submitted_task(pool, after_end(count_up, &ran, &first, 1));
    assert_status(TPOOL_OK, tpool_pause(pool));
    gate_open(&g);
    assert_status(TPOOL_OK, end_of(holder));
    EVENTUALLY(atomic_load(&ended) == 1);
    assert_int_equal(1, stats_of(pool).workers);
    assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
    background b;
    background_start(&b, (tpool_status(*)(void *))tpool_destroy, pool);
    background_await_block(&b);
    complete(first);
    assert_status(TPOOL_OK, background_join(&b));
    assert_int_equal(1, atomic_load(&ran));
    assert_status(TPOOL_OK, end_of(held));
}
/* No worker stays for what needs none. */
static void no_worker_stays_for_a_task_without_a_function(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .idle_timeout_ns = 1 });
    tpool_future *first = bare(), *all = submitted_task(pool, after_end(NULL, NULL, &first, 1));
    assert_int_equal(0, stats_of(pool).workers);
    tpool_future *run = submitted(pool, nothing, NULL);
    assert_status(TPOOL_OK, end_of(run));
    EVENTUALLY(stats_of(pool).workers == 0);
    complete(first);
    assert_status(TPOOL_OK, end_of(all));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void destroy_waits_for_a_task_without_a_function(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *first = bare(), *all = submitted_task(pool, after_end(NULL, NULL, &first, 1));
    background b;
    background_start(&b, (tpool_status(*)(void *))tpool_destroy, pool);
    background_await_block(&b);
    complete(first);
    assert_status(TPOOL_OK, background_join(&b));
    assert_status(TPOOL_OK, end_of(all));
}

/* ---- Times */
static tpool_status shut_manager_down(void *of) { return tpool_manager_shutdown((tpool_manager *)of, false); }
static void a_managers_end_waits_for_no_time(void **state) {
    (void)state;
    tpool_manager *manager = NULL;
    tpool *pool = NULL;
    assert_status(TPOOL_OK, tpool_manager_create(&manager, NULL));
    assert_status(TPOOL_OK, tpool_manager_get(manager, 1, TPOOL_THREADS, 0, &pool));
    tpool_future *first = bare(), *waits = submitted_task(pool, timed(nothing, NULL));
    tpool_task task = after_end(nothing, NULL, &first, 1);
    task.delay_ns = 1;
    tpool_future *later = submitted_task(pool, task); /* its time begins when the end has begun */
    assert_status(TPOOL_OK, tpool_manager_release(manager, pool));
    background b;
    background_start(&b, shut_manager_down, manager);
    assert_status(TPOOL_CANCELLED, tpool_future_result(waits, LIMIT, NULL));
    background_await_block(&b);
    complete(first);
    assert_status(TPOOL_CANCELLED, tpool_future_result(later, LIMIT, NULL));
    assert_status(TPOOL_OK, background_join(&b));
    tpool_future_release(waits);
    tpool_future_release(later);
    tpool_manager_destroy(manager);
}
/* Two destroys' worth: one of several ends that gives up does not let times begin again. */
static void ends_the_thread(void *arg) {
    atomic_fetch_add((atomic_int *)arg, 1);
    (void)end_thread(NULL);
}
static void *shuts_down(void *arg) {
    (void)tpool_shutdown((tpool *)arg, 0);
    return NULL;
}
static void a_thread_that_ends_as_it_cancels_times(void **state) {
    (void)state;
#ifdef _WIN32 /* what is called as a thread ends may not end it again there */
    const int again = 1;
#else
    const int again = 3;
#endif
    tpool *pool = new_pool(1);
    atomic_int freed = 0;
    tpool_future *futures[5];
    for (int i = 0; i < 5; i++) {
        tpool_task task = timed(nothing, &freed);
        task.arg_free = i == 1 || i == again ? ends_the_thread : count_free;
        futures[i] = submitted_task(pool, task);
    }
    in_own_thread(shuts_down, pool);
    for (int i = 0; i < 5; i++) assert_status(TPOOL_CANCELLED, tpool_future_result(futures[i], 0, NULL));
    for (int i = 0; i < 5; i++) tpool_future_release(futures[i]);
    assert_int_equal(5, atomic_load(&freed));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_paused_pool_keeps_a_worker_for_what_is_held), TEST(no_worker_stays_for_a_task_without_a_function),
        TEST(destroy_waits_for_a_task_without_a_function),   TEST(a_managers_end_waits_for_no_time),
        TEST(a_thread_that_ends_as_it_cancels_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
