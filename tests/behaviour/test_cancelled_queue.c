/* Long queues in which many tasks have been cancelled: what is left keeps its order, whatever gaps are closed. */
#include "support.h"

enum { TASKS = 6000 };
static intptr_t ran[TASKS];
static size_t ran_count; /* one worker at a time */

static void *note(void *arg) {
    ran[ran_count++] = (intptr_t)arg;
    return NULL;
}

/* Queues TASKS on a paused pool of one worker, those with i % 5 == 4 without a future, cancels those of the others that
 * `cancelled` names each time that `burst` more are queued, and checks what runs. */
static void queue_and_cancel(bool (*cancelled)(size_t i), size_t burst) {
    static tpool_future *futures[TASKS];
    tpool_config config = { .max_workers = 1 };
    tpool *pool;
    tpool_stats stats;
    size_t done = 0, left = TASKS;
    ran_count = 0;
    assert_status(TPOOL_OK, tpool_create(&pool, &config));
    assert_status(TPOOL_OK, tpool_pause(pool));
    for (size_t i = 0; i < TASKS; i++) {
        futures[i] = NULL;
        assert_status(TPOOL_OK, tpool_submit(pool, note, (void *)(intptr_t)i, i % 5 == 4 ? NULL : &futures[i]));
        for (; (i + 1) % burst == 0 && done <= i; done++) {
            if (!futures[done] || !cancelled(done)) continue;
            assert_true(tpool_future_cancel(futures[done]));
            left--;
        }
    }
    assert_status(TPOOL_OK, tpool_get_stats(pool, &stats));
    assert_int_equal(left, stats.queued);
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_status(TPOOL_OK, tpool_drain(pool, TPOOL_FOREVER));
    assert_int_equal(left, ran_count);
    for (size_t i = 0, at = 0; i < TASKS; i++) {
        if (at < ran_count && ran[at] == (intptr_t)i) at++;
        else assert_true(futures[i] && tpool_future_cancelled(futures[i]));
        tpool_future_release(futures[i]);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static bool most(size_t i) { return i % 16 != 0; }
static bool the_older(size_t i) { return i % 1000 < 700; }
static bool every_one(size_t i) {
    (void)i;
    return true;
}

static void the_few_that_are_left_keep_their_order(void **state) {
    (void)state;
    queue_and_cancel(most, 1500);
}
static void what_is_cancelled_one_by_one_keeps_the_order(void **state) {
    (void)state;
    queue_and_cancel(most, 1);
}
static void whole_stretches_can_go(void **state) {
    (void)state;
    queue_and_cancel(the_older, 1000);
}
static void all_with_a_future_can_go(void **state) {
    (void)state;
    queue_and_cancel(every_one, 900);
}

static const struct CMUnitTest tests[] = {
    TEST(the_few_that_are_left_keep_their_order),
    TEST(what_is_cancelled_one_by_one_keeps_the_order),
    TEST(whole_stretches_can_go),
    TEST(all_with_a_future_can_go),
};
RUN_TESTS(tests)
