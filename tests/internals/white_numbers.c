/* Numbers that are smaller than what they count: bits that come round, words that wrap, counts that a forked child
   inherits; and waits of which one number less than the smallest is left: for oneself. */
#include "support.h"
#if !defined(_WIN32)
#include <sys/wait.h>
#include <unistd.h>
#endif
#include "internals/check.h"

static tpool *pool_of(int workers) {
    tpool_config config = { 0 };
    tpool *pool = NULL;
    config.max_workers = workers;
    assert_status(TPOOL_OK, tpool_create(&pool, &config));
    return pool;
}

/* ---- A pool that is gone, and others at its address */
static int deadlocks;
static void make_pools(tpool_future *future, void *context) {
    (void)future;
    (void)context;
    for (int i = 0; i < 200; i++) {
        tpool *pool = pool_of(1);
        deadlocks += tpool_drain(pool, TPOOL_FOREVER) == TPOOL_DEADLOCK;
        if (tpool_destroy(pool) == TPOOL_DEADLOCK) deadlocks++;
    }
}
static void a_callback_of_a_pool_that_is_gone_is_within_no_later_one(void **state) {
    (void)state;
    tpool *pool = pool_of(1);
    tpool_future *future = submitted(pool, nothing, NULL);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(future, make_pools, NULL));
    tpool_future_release(future);
    assert_int_equal(0, deadlocks);
}
static tpool_status within;
static void drain_own(tpool_future *future, void *pool) {
    (void)future;
    within = tpool_drain(pool, TPOOL_FOREVER);
}
static void a_callback_on_a_done_future_is_within_its_pool(void **state) {
    (void)state;
    tpool *pool = pool_of(1);
    tpool_future *future = submitted(pool, nothing, NULL);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(future, drain_own, pool));
    assert_status(TPOOL_DEADLOCK, within);
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Items and parts */
static bool next_item(void *context, void **item) {
    intptr_t *next = (intptr_t *)context;
    if (*next == 20) return false;
    *item = (void *)(*next)++;
    return true;
}
static void a_source_may_give_more_items_than_a_word_counts(void **state) {
    (void)state;
    tpool *pool = pool_of(1);
    tpool_map_spec spec = { 0 };
    tpool_map_iter *iter = NULL;
    intptr_t next = 0;
    spec.fn = same_item;
    spec.next = next_item;
    spec.context = &next;
    spec.buffer_size = 3;
    spec.chunk_size = 3;
    assert_status(TPOOL_OK, tpool_pause(pool));
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    const size_t before = SIZE_MAX - 5; /* as if so many had come before */
    iter->available += before;
    iter->taken += before;
    iter->delivered += before;
    assert_status(TPOOL_OK, tpool_resume(pool));
    for (intptr_t i = 0; i < 20; i++) {
        void *result = NULL;
        assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, &result));
        assert_int_equal(i, (intptr_t)result);
    }
    assert_status(TPOOL_END, tpool_map_next(iter, LIMIT, NULL));
    tpool_map_close(iter);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void add_up(size_t begin, size_t end, void *context) { *(size_t *)context += end - begin; }
static void a_loop_on_a_billion_workers_has_parts(void **state) {
    (void)state;
    tpool *pool = pool_of(1 << 30);
    size_t sum = 0;
    assert_status(TPOOL_OK, tpool_for(pool, 0, 10, 10, add_up, &sum));
    assert_int_equal(10, sum);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void what_is_done_is_delivered_after_the_pool_is_gone(void **state) {
    (void)state;
    for (size_t buffer = 0; buffer <= 4; buffer += 2) {
        tpool *pool = pool_of(2);
        char items[6] = { 0, 1, 2, 3, 4, 5 };
        tpool_map_spec spec = { 0 };
        tpool_map_iter *iter = NULL;
        spec.fn = same_item;
        spec.items = items;
        spec.count = sizeof items;
        spec.stride = 1;
        spec.chunk_size = 1;
        spec.buffer_size = buffer;
        assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
        assert_status(TPOOL_OK, tpool_destroy(pool));
        for (size_t i = 0; i < sizeof items; i++) {
            void *result = NULL;
            assert_status(!buffer || i < buffer ? TPOOL_OK : TPOOL_CANCELLED, tpool_map_next(iter, LIMIT, &result));
            if (result) assert_ptr_equal(&items[i], result);
        }
        assert_status(TPOOL_END, tpool_map_next(iter, LIMIT, NULL));
        tpool_map_close(iter);
    }
}

/* ---- Children of fork */
static void a_future_from_64_forks_ago_is_of_another_process(void **state) {
    (void)state;
    tpool_future *future = NULL;
    assert_status(TPOOL_OK, tpool_future_create(&future));
    for (int forks = 1; forks <= 2048; forks *= 2) {
        tpool__add_relaxed(&tpool__process.generation, (uintptr_t)forks);
        assert_true(tpool__is_orphan(future));
        tpool__sub_relaxed(&tpool__process.generation, (uintptr_t)forks);
    }
    assert_false(tpool__is_orphan(future));
    tpool_future_release(future);
}
#if !defined(_WIN32)
static void a_child_counts_its_own_spinners(void **state) {
    (void)state;
    tpool *pool = pool_of(1);
    uint32_t spinning = tpool__load_relaxed(&tpool__spinning);
    tpool__store_relaxed(&tpool__spinning, 3);
    pid_t child = fork();
    if (child == 0) _exit(tpool__load_relaxed(&tpool__spinning) == 0 ? 0 : 1);
    tpool__store_relaxed(&tpool__spinning, spinning);
    int status = -1;
    assert_int_equal(child, waitpid(child, &status, 0));
    assert_int_equal(0, status);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
#endif

/* ---- Waits for oneself */
static tpool_future *own[2];
static gate own_known = GATE_CLOSED;
static tpool_status first_of_own[2];
static void *wait_for_first_of_own(void *arg) {
    gate_pass(&own_known);
    first_of_own[0] = tpool_wait(own, 1, TPOOL_FIRST_COMPLETED, TPOOL_FOREVER, NULL);
    first_of_own[1] = tpool_wait(own, 2, TPOOL_FIRST_COMPLETED, TPOOL_FOREVER, NULL);
    return arg;
}
static void the_first_of_a_task_and_itself_never_comes(void **state) {
    (void)state;
    tpool *pool = pool_of(1);
    own[0] = submitted(pool, wait_for_first_of_own, NULL);
    own[1] = own[0];
    gate_open(&own_known);
    assert_status(TPOOL_OK, tpool_future_result(own[0], LIMIT, NULL));
    assert_status(TPOOL_DEADLOCK, first_of_own[0]);
    assert_status(TPOOL_DEADLOCK, first_of_own[1]);
    tpool_future_release(own[0]);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static tpool_future *freed_own;
static tpool_status freeing;
static void wait_for_own(void *arg) {
    (void)arg;
    freeing = tpool_future_result(freed_own, TPOOL_FOREVER, NULL);
}
static void an_argument_is_freed_before_its_future_is_done(void **state) {
    (void)state;
    tpool *pool = pool_of(1);
    tpool_task task = { 0 };
    task.fn = nothing;
    task.arg_free = wait_for_own;
    for (int cancelled = 0; cancelled < 2; cancelled++) {
        freeing = TPOOL_OK;
        assert_status(TPOOL_OK, tpool_pause(pool));
        freed_own = submitted_task(pool, task);
        if (cancelled) assert_true(tpool_future_cancel(freed_own));
        assert_status(TPOOL_OK, tpool_resume(pool));
        assert_status(cancelled ? TPOOL_CANCELLED : TPOOL_OK, tpool_future_result(freed_own, LIMIT, NULL));
        assert_status(TPOOL_DEADLOCK, freeing);
        tpool_future_release(freed_own);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static const struct CMUnitTest tests[] = {
    TEST(a_callback_of_a_pool_that_is_gone_is_within_no_later_one),
    TEST(a_callback_on_a_done_future_is_within_its_pool),
    TEST(a_source_may_give_more_items_than_a_word_counts),
    TEST(a_loop_on_a_billion_workers_has_parts),
    TEST(what_is_done_is_delivered_after_the_pool_is_gone),
    TEST(a_future_from_64_forks_ago_is_of_another_process),
#if !defined(_WIN32)
    TEST(a_child_counts_its_own_spinners),
#endif
    TEST(the_first_of_a_task_and_itself_never_comes),
    TEST(an_argument_is_freed_before_its_future_is_done),
};
RUN_TESTS(tests)
