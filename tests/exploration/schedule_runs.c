/* Every interleaving of what a worker has fetched: its run, which it takes from without a spinlock, and which everybody
   else may want as well. The third fetch of a worker brings it two tasks, so the fifth and sixth lie in a run
   together. */
#include "schedule.h"

enum { TASKS = 6 };
static counter each[TASKS];
static tpool_future *futures[TASKS];
static int started_as[TASKS], started_count;

static void *note_start(void *arg) {
    int task = (int)(intptr_t)arg;
    started_as[started_count++] = task;
    each[task].runs++;
    return NULL;
}
/* Tasks that all wait until the resume. */
static tpool *filled(tpool_config config) {
    tpool *pool = new_pool(config);
    CHECK_STATUS(TPOOL_OK, tpool_pause(pool));
    for (int i = 0; i < TASKS; i++)
        CHECK_STATUS(TPOOL_OK, tpool_submit(pool, note_start, (void *)(intptr_t)i, &futures[i]));
    return pool;
}
static int ended_as(tpool_status wanted) {
    int count = 0;
    for (int i = 0; i < TASKS; i++) {
        tpool_status status = end_of(futures[i]);
        count += status == wanted;
        CHECK(status == wanted || status == TPOOL_OK);
        CHECK(each[i].runs == (status == TPOOL_OK));
    }
    return count;
}
static void in_order(void) {
    for (int i = 1; i < started_count; i++) CHECK(started_as[i] > started_as[i - 1]);
}

/* What has not started when a pause returns does not start before the resume, in a run as elsewhere. */
static void run_against_pause(void) {
    tpool *pool = filled((tpool_config){ .max_workers = 1 });
    int pending = 0;
    CHECK_STATUS(TPOOL_OK, tpool_resume(pool));
    CHECK_STATUS(TPOOL_OK, tpool_pause(pool));
    for (int i = 0; i < TASKS; i++) pending += tpool_future_state(futures[i]) == TPOOL_PENDING;
    schedule_settle();
    CHECK(started_count == TASKS - pending);
    tpool_stats stats;
    CHECK_STATUS(TPOOL_OK, tpool_get_stats(pool, &stats));
    CHECK(stats.queued == (size_t)pending);
    outcome(pending);
    CHECK_STATUS(TPOOL_OK, tpool_resume(pool));
    CHECK(ended_as(TPOOL_OK) == TASKS);
    in_order();
    end_pool(pool);
}

/* A thief beside the owner: each task runs once. */
static void run_against_thief(void) {
    tpool *pool = filled((tpool_config){ .max_workers = 2 });
    CHECK_STATUS(TPOOL_OK, tpool_resume(pool));
    CHECK(ended_as(TPOOL_OK) == TASKS);
    CHECK(started_count == TASKS);
    end_pool(pool);
}

/* A shutdown finds all that waits, wherever it lies just then. */
static void run_against_cancelling_shutdown(void) {
    tpool *pool = filled((tpool_config){ .max_workers = 1 });
    CHECK_STATUS(TPOOL_OK, tpool_resume(pool));
    CHECK_STATUS(TPOOL_OK, tpool_shutdown(pool, TPOOL_CANCEL_PENDING));
    int started_by_then = started_count;
    for (int i = 0; i < TASKS; i++) CHECK(tpool_future_state(futures[i]) != TPOOL_PENDING);
    int cancelled = ended_as(TPOOL_CANCELLED);
    CHECK(started_count <= started_by_then + 1 && started_count == TASKS - cancelled);
    in_order();
    outcome(cancelled);
    end_pool(pool);
}

/* A task of a run is cancelled beside its owner. */
static void run_against_cancel(void) {
    tpool *pool = filled((tpool_config){ .max_workers = 1 });
    CHECK_STATUS(TPOOL_OK, tpool_resume(pool));
    bool cancelled = tpool_future_cancel(futures[4]);
    CHECK_STATUS(TPOOL_OK, tpool_drain(pool, TPOOL_FOREVER));
    CHECK(ended_as(TPOOL_CANCELLED) == cancelled);
    stats_at_rest(pool);
    outcome(cancelled);
    end_pool(pool);
}

/* The owner blocks with tasks in its run: a spare worker takes them, in their order, and the owner the rest. */
static tpool_future *awaited;
static void *await_it(void *arg) {
    (void)note_start(arg);
    CHECK_STATUS(TPOOL_OK, tpool_future_result(awaited, TPOOL_FOREVER, NULL));
    return NULL;
}
static void run_against_spare(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&awaited));
    CHECK_STATUS(TPOOL_OK, tpool_pause(pool));
    for (int i = 0; i < TASKS; i++)
        CHECK_STATUS(TPOOL_OK, tpool_submit(pool, i == 3 ? await_it : note_start, (void *)(intptr_t)i, &futures[i]));
    CHECK_STATUS(TPOOL_OK, tpool_resume(pool));
    CHECK_STATUS(TPOOL_OK, tpool_future_set_result(awaited, NULL));
    CHECK(ended_as(TPOOL_OK) == TASKS);
    CHECK(started_count == TASKS);
    in_order();
    tpool_future_release(awaited);
    end_pool(pool);
}

SCHEDULES(SCENARIO(run_against_pause, .quick = 2, .preemptions = 2, .outcomes = TASKS),
          SCENARIO(run_against_thief, .quick = 1, .preemptions = 2),
          SCENARIO(run_against_cancelling_shutdown, .quick = 2, .preemptions = 2, .outcomes = TASKS),
          SCENARIO(run_against_cancel, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(run_against_spare, .quick = 1, .preemptions = 2))
