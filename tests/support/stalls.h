/* Programs whose pools grew by the thousand while their workers were blocked, and how many threads they have. */
#ifndef TPOOL_TESTS_SUPPORT_STALLS_H
#define TPOOL_TESTS_SUPPORT_STALLS_H
#include "../support.h"

/* Threads of this process, but those that were there before the first pool: the test itself, and a sanitizer's. */
static int threads_before;
static int threads_now(void) {
    int threads = threads_of_this_process();
    return threads ? threads - threads_before : 0;
}
static atomic_int most_threads, waits_refused, tasks_ended;
/* Of one pool alone: its workers. Their threads take a while to end, and another thread keeps times. */
static tpool *_Atomic counted;
static void count_threads(void) {
    tpool *pool = atomic_load(&counted);
    int now = pool ? stats_of(pool).workers : threads_now(), most = atomic_load(&most_threads);
    while (now > most && !atomic_compare_exchange_weak(&most_threads, &most, now)) { }
}
static void begin_counts(void) {
    if (!threads_before) threads_before = threads_now();
    atomic_store(&most_threads, 0);
    atomic_store(&waits_refused, 0);
    atomic_store(&tasks_ended, 0);
    atomic_store(&counted, NULL);
}
static void note(tpool_status status) {
    count_threads();
    if (status == TPOOL_NO_THREAD) atomic_fetch_add(&waits_refused, 1);
    else if (status != TPOOL_OK && status != TPOOL_TIMEOUT) abort();
}
/* All pools together have `workers`; while nothing moves, more come after 10, 20, 40 ms and so on, then one a second.
   Under a sanitizer beside others nothing moves for 10 ms more than once in a run, and what was to come later does. */
static void check_threads(int workers, int tasks, int64_t began) {
    int more = 1 + 8 * SLOW_TOOL + (int)((tpool_now() - began) / TPOOL_SEC(1));
    for (int64_t after = TPOOL_MS(10); after < TPOOL_SEC(1) && tpool_now() - began > 2 * after - TPOOL_MS(10);
         after *= 2)
        more++;
    assert_int_equal(tasks, atomic_load(&tasks_ended));
    assert_int_equal(0, atomic_load(&waits_refused));
    if (atomic_load(&most_threads) > 2 * workers + more) print_error("%d threads\n", atomic_load(&most_threads));
    assert_true(atomic_load(&most_threads) <= 2 * workers + more);
}

#define MANY (SLOW_TOOL ? 300 : 3000)

static tpool_resources *resources;
static void *make_handle(void *context) {
    static int one;
    (void)context;
    return &one;
}
static void *use_the_resource(void *arg) {
    void *handle = NULL;
    tpool_status status = tpool_resources_get(resources, TPOOL_FOREVER, &handle);
    note(status);
    if (status == TPOOL_OK && tpool_resources_put(resources, handle) != TPOOL_OK) abort();
    atomic_fetch_add(&tasks_ended, 1);
    return arg;
}
static void many_tasks_that_want_one_resource_get_few_threads(void **state) {
    (void)state;
    begin_counts();
    void *handle = NULL;
    tpool *pool = new_pool(4);
    assert_status(TPOOL_OK, tpool_resources_create(&resources, 1, make_handle, NULL, NULL));
    assert_status(TPOOL_OK, tpool_resources_get(resources, LIMIT, &handle)); /* all of them meet */
    int64_t began = tpool_now();
    for (int i = 0; i < MANY; i++) assert_status(TPOOL_OK, tpool_submit(pool, use_the_resource, NULL, NULL));
    EVENTUALLY(stats_of(pool).queued <= MANY - 8);
    assert_status(TPOOL_OK, tpool_resources_put(resources, handle));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    check_threads(4, MANY, began);
    assert_status(TPOOL_OK, tpool_resources_destroy(resources));
}

static tpool *low;
static gate low_gate;
static void *pass_low_gate(void *arg) {
    gate_pass(&low_gate);
    return arg;
}
static void *step_with_a_limit(void *arg) {
    tpool_task task = { .fn = pass_low_gate };
    note(tpool_run_with_timeout(low, &task, TPOOL_US(200), NULL));
    atomic_fetch_add(&tasks_ended, 1);
    return arg;
}
static void many_steps_with_a_limit_on_another_pool_get_few_threads(void **state) {
    (void)state;
    begin_counts();
    low_gate = (gate)GATE_CLOSED;
    tpool *high = new_pool(4);
    low = new_pool(4);
    int64_t began = tpool_now();
    for (int i = 0; i < MANY; i++) assert_status(TPOOL_OK, tpool_submit(high, step_with_a_limit, NULL, NULL));
    assert_status(TPOOL_OK, tpool_drain(high, LIMIT));
    gate_open(&low_gate);
    assert_status(TPOOL_OK, tpool_destroy(high));
    assert_status(TPOOL_OK, tpool_destroy(low));
    check_threads(8, MANY, began);
}

static tpool_future *load;
static gate load_gate;
static void *pass_load_gate(void *arg) {
    gate_pass(&load_gate);
    return arg;
}
static void *wait_for_the_load(void *arg) {
    note(tpool_future_result(load, LIMIT, NULL));
    atomic_fetch_add(&tasks_ended, 1);
    return arg;
}
static void many_tasks_that_wait_for_one_load_get_few_threads(void **state) {
    (void)state;
    begin_counts();
    load_gate = (gate)GATE_CLOSED;
    tpool *pool = new_pool(1);
    atomic_store(&counted, pool);
    int64_t began = tpool_now();
    assert_status(TPOOL_OK, tpool_pause(pool));
    for (int i = 0; i < MANY / 2; i++) assert_status(TPOOL_OK, tpool_submit(pool, wait_for_the_load, NULL, NULL));
    load = submitted(pool, pass_load_gate, NULL);
    for (int i = 0; i < MANY / 2; i++) assert_status(TPOOL_OK, tpool_submit(pool, wait_for_the_load, NULL, NULL));
    assert_status(TPOOL_OK, tpool_resume(pool));
    gate_await_arrivals(&load_gate, 1); /* at once, although a thousand tasks are queued before it */
    int64_t took = tpool_now() - began;
    assert_true(took < TPOOL_SEC(30));
    count_threads();
    int more = (int)(took / TPOOL_SEC(1));                       /* by time, where one is late */
    assert_true(atomic_load(&most_threads) <= 1 + 1 + 1 + more); /* a worker, a spare, and the one for the load */
    gate_open(&load_gate);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    tpool_future_release(load);
    check_threads(1, MANY / 2 * 2, began);
}

static tpool *second_stage;
static void *end_one(void *arg) {
    count_threads();
    atomic_fetch_add(&tasks_ended, 1);
    return arg;
}
static void *hand_on(void *arg) {
    note(tpool_submit(second_stage, end_one, NULL, NULL));
    return arg;
}
static void a_stage_before_a_full_queue_gets_few_threads(void **state) {
    (void)state;
    begin_counts();
    tpool *stage = new_pool(2);
    second_stage = new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 8 });
    gate closed = GATE_CLOSED;
    tpool_future *held = held_at(second_stage, &closed);
    int64_t began = tpool_now();
    for (int i = 0; i < MANY; i++) assert_status(TPOOL_OK, tpool_submit(stage, hand_on, NULL, NULL));
    EVENTUALLY(stats_of(second_stage).queued == 8 && stats_of(stage).queued <= MANY - 8 - 4);
    gate_open(&closed);
    assert_status(TPOOL_OK, tpool_destroy(stage));
    take(held);
    assert_status(TPOOL_OK, tpool_destroy(second_stage));
    check_threads(3, MANY, began);
}

static tpool *crawler;
static atomic_int pages;
static void *crawl(void *arg) {
    void *handle = NULL;
    tpool_status status = tpool_resources_get(resources, TPOOL_FOREVER, &handle);
    note(status);
    for (int i = 0; i < 3 && atomic_fetch_add(&pages, 1) < MANY - 1; i++)
        note(tpool_submit(crawler, crawl, NULL, NULL));
    if (status == TPOOL_OK && tpool_resources_put(resources, handle) != TPOOL_OK) abort();
    atomic_fetch_add(&tasks_ended, 1);
    return arg;
}
static void a_crawler_with_fewer_handles_than_workers_gets_few_threads(void **state) {
    (void)state;
    begin_counts();
    atomic_store(&pages, 0);
    crawler = new_pool(16);
    assert_status(TPOOL_OK, tpool_resources_create(&resources, 8, make_handle, NULL, NULL));
    int64_t began = tpool_now();
    take(submitted(crawler, crawl, NULL));
    assert_status(TPOOL_OK, tpool_destroy(crawler));
    check_threads(16, MANY, began);
    assert_status(TPOOL_OK, tpool_resources_destroy(resources));
}

#endif
