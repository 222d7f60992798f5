/* Every interleaving of a task's way: submit, claim, cancel, finish, wait, release. */
#include "schedule.h"

/* A submit comes as the worker goes to sleep. */
static counter first, second;
static void submit_against_park(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, count_task, &first, NULL));
    tpool_future *future = submitted(pool, count_task, &second);
    CHECK_STATUS(TPOOL_OK, end_of(future));
    CHECK(first.runs == 1 && second.runs == 1);
    tpool_stats stats = end_pool(pool);
    CHECK(stats.completed == 2);
}

/* A cancel comes as the worker takes the task. */
static void cancel_against_claim(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *future = submitted(pool, count_task, &first);
    bool cancelled = tpool_future_cancel(future);
    tpool_status end = tpool_future_result(future, TPOOL_FOREVER, NULL);
    CHECK(end == (cancelled ? TPOOL_CANCELLED : TPOOL_OK));
    CHECK(first.runs == (cancelled ? 0 : 1));
    tpool_future_release(future);
    tpool_stats stats = end_pool(pool);
    CHECK(stats.cancelled == (cancelled ? 1u : 0u));
}

/* The waiter looks, sleeps and gives up its reference as the task ends. */
static void wait_against_finish(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    void *result = NULL;
    tpool_future *future = submitted(pool, count_task, &first);
    CHECK_STATUS(TPOOL_OK, tpool_future_result(future, TPOOL_FOREVER, &result));
    CHECK(result == &first && first.runs == 1);
    tpool_future_release(future);
    end_pool(pool);
}

SCHEDULES(
    SCENARIO(submit_against_park, .quick = 2, .preemptions = 3),
    SCENARIO(cancel_against_claim, .quick = 2, .preemptions = 3),
    SCENARIO(wait_against_finish, .quick = 2, .preemptions = 3))
