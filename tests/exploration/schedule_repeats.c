/* Every interleaving of a periodic task's way, and of one with retries: from one run to the next, against a cancel, a
 * stop, an expiry, a look, and the end of the pool. */
#include "schedule/held.h"

static tpool_task periodic(void) {
    return (tpool_task){ .fn = counted_run, .arg_free = count_free, .period_ns = TPOOL_MS(1) };
}
static tpool_task tried(unsigned retries) {
    return (tpool_task){ .fn = counted_run, .arg_free = count_free, .retries = retries };
}
static void *stop(void *future) {
    tpool_future_request_stop(future);
    tpool_future_release(future);
    return NULL;
}
static void *cancel(void *future) {
    (void)tpool_future_cancel(future);
    tpool_future_release(future);
    return NULL;
}

/* A cancel comes as a run ends, between two, or as the next one begins. */
static void cancel_against_runs(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *future = submitted_task(pool, periodic());
    (void)tpool_future_result(future, TPOOL_MS(1), NULL);
    bool cancelled = tpool_future_cancel(future);
    if (!cancelled) tpool_future_request_stop(future);
    CHECK(end_of(future) == (cancelled ? TPOOL_CANCELLED : TPOOL_OK));
    tpool_stats stats = end_pool(pool);
    CHECK(stats.cancelled == cancelled && stats.completed == !cancelled);
    CHECK(freed.runs == 1);
    outcome(cancelled);
}
/* A stop comes so: whichever sees it ends the task. */
static void stop_against_runs(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_task task = periodic();
    task.period_ns = TPOOL_SEC(4000); /* no further run comes */
    tpool_future *future = submitted_task(pool, task);
    pthread_t helper = started(stop, tpool_future_retain(future));
    CHECK_STATUS(TPOOL_OK, end_of(future));
    join(helper);
    CHECK(end_pool(pool).completed == 1);
    CHECK(freed.runs == 1);
}
static void cancel_against_stop(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *future = submitted_task(pool, periodic());
    pthread_t helper = started(cancel, tpool_future_retain(future));
    tpool_future_request_stop(future);
    tpool_status end = end_of(future);
    CHECK(end == TPOOL_OK || end == TPOOL_CANCELLED);
    join(helper);
    end_pool(pool);
    CHECK(freed.runs == 1);
    outcome(end == TPOOL_OK);
}
/* The pool's end comes so, and cancels it. */
static void destroy_against_runs(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *future = submitted_task(pool, periodic());
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    CHECK_STATUS(TPOOL_CANCELLED, end_of(future));
    CHECK(ran.runs <= 2 && freed.runs == 1);
    outcome(ran.runs == 1);
}
static void drain_against_runs(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *future = submitted_task(pool, periodic());
    CHECK_STATUS(TPOOL_OK, tpool_drain(pool, TPOOL_FOREVER));
    CHECK(ran.runs > 0);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    CHECK_STATUS(TPOOL_CANCELLED, end_of(future));
    CHECK(freed.runs == 1);
}
/* Each run takes longer than its period, so one is always at hand. */
static tpool_future *never;
static void *long_run(void *arg) {
    CHECK_STATUS(TPOOL_TIMEOUT, tpool_future_result(never, TPOOL_MS(2), NULL));
    return counted_run(arg);
}
static tpool_future *submitted_without_end(tpool *pool) {
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&never));
    return submitted_task(pool, (tpool_task){ .fn = long_run, .arg_free = count_free, .period_ns = TPOOL_MS(1) });
}
static void end_without_end(tpool *pool, tpool_future *future) {
    tpool_future_request_stop(future);
    CHECK_STATUS(TPOOL_OK, end_of(future));
    tpool_future_release(never);
    end_pool(pool);
    CHECK(freed.runs == 1);
}
static counter called;
static void count_call(tpool_future *future, void *context) {
    (void)future;
    (void)context;
    atomic_fetch_add(&called.runs, 1);
}
static void drain_beside_further_runs(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *future = submitted_without_end(pool);
    tpool_task task = { .fn = long_run };
    tpool_future *other = submitted_task(pool, task);
    CHECK_STATUS(TPOOL_OK, tpool_future_add_done_callback(other, count_call, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_drain(pool, TPOOL_FOREVER));
    CHECK(ran.runs >= 2 && called.runs == 1);
    tpool_future_release(other);
    end_without_end(pool, future);
}
/* As the drain begins, it waits for its time. */
static void drain_beside_a_run_that_comes_due(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *future = submitted_without_end(pool);
    tpool_task task = periodic();
    task.delay_ns = TPOOL_MS(1);
    tpool_future *other = submitted_task(pool, task);
    CHECK_STATUS(TPOOL_OK, tpool_drain(pool, TPOOL_FOREVER));
    CHECK(ran.runs >= 1);
    tpool_future_request_stop(other);
    CHECK_STATUS(TPOOL_OK, end_of(other));
    freed.runs = 0;
    end_without_end(pool, future);
}
/* Its tombstone is in the queue, among further runs, or is dropped, while the callback has not returned. */
static void drain_beside_further_runs_against_cancel(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *future = submitted_without_end(pool);
    tpool_future *other = submitted_task(pool, (tpool_task){ .fn = long_run, .priority = -1 });
    CHECK_STATUS(TPOOL_OK, tpool_future_add_done_callback(other, count_call, NULL));
    pthread_t helper = started(cancel, other);
    CHECK_STATUS(TPOOL_OK, tpool_drain(pool, TPOOL_FOREVER));
    CHECK(ran.runs >= 1 && called.runs == 1);
    join(helper);
    end_without_end(pool, future);
}
/* A try fails as it is cancelled, stopped, or looked at. */
static void cancel_against_tries(void) {
    failures = 9;
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *future = submitted_task(pool, tried(1));
    bool cancelled = tpool_future_cancel(future);
    CHECK(end_of(future) == (cancelled ? TPOOL_CANCELLED : TPOOL_FAILED));
    end_pool(pool);
    CHECK(ran.runs == 2 || cancelled);
    CHECK(freed.runs == 1);
    outcome(cancelled);
}
static void stop_against_tries(void) {
    failures = 9;
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_task task = tried(1);
    task.retry_ns = TPOOL_MS(1);
    tpool_future *future = submitted_task(pool, task);
    tpool_future_request_stop(future);
    CHECK_STATUS(TPOOL_FAILED, end_of(future));
    CHECK(end_pool(pool).failed == 1);
    CHECK(ran.runs >= 1 && freed.runs == 1);
    outcome(ran.runs == 1);
}
/* A try expires in the queue, which leaves a stale entry there, as the worker takes it or the next one. */
static void expiry_against_start(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_task task = tried(1);
    task.expires_ns = TPOOL_MS(1);
    tpool_future *future = submitted_task(pool, task);
    (void)tpool_future_result(future, TPOOL_MS(1), NULL);
    tpool_status end = end_of(future);
    CHECK(end == TPOOL_OK || end == TPOOL_EXPIRED);
    end_pool(pool);
    CHECK(ran.runs == (end == TPOOL_OK) && freed.runs == 1);
    outcome(end == TPOOL_OK);
}
static void *look(void *future) {
    (void)tpool_future_result(future, 0, NULL);
    tpool_future_release(future);
    return NULL;
}
static void expiry_against_look_and_cancel(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_task task = tried(3);
    task.expires_ns = 1;
    tpool_future *future = submitted_task(pool, task);
    pthread_t helper = started(look, tpool_future_retain(future));
    bool cancelled = tpool_future_cancel(future);
    tpool_status end = end_of(future);
    CHECK(cancelled ? end == TPOOL_CANCELLED : end == TPOOL_OK || end == TPOOL_EXPIRED);
    join(helper);
    end_pool(pool);
    CHECK(ran.runs <= 1 && freed.runs == 1);
    outcome(cancelled);
}
/* A worker runs a try in place; its entry is still in the queue as the next one comes there. */
static tpool_future *awaited;
static void *wait_for_awaited(void *arg) {
    CHECK_STATUS(TPOOL_OK, tpool_future_result(awaited, TPOOL_FOREVER, NULL));
    return arg;
}
static void a_try_in_place(void) {
    failures = 1;
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    CHECK_STATUS(TPOOL_OK, tpool_pause(pool));
    tpool_future *waits = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, wait_for_awaited, NULL, &waits));
    awaited = submitted_task(pool, tried(1));
    CHECK_STATUS(TPOOL_OK, tpool_resume(pool));
    CHECK_STATUS(TPOOL_OK, end_of(waits));
    CHECK_STATUS(TPOOL_OK, end_of(awaited));
    CHECK(end_pool(pool).completed == 2);
    CHECK(ran.runs == 2 && freed.runs == 1);
}
/* A waiter runs a try of which the entry is in a worker's own lane, as that worker comes to it. */
static tpool_group *group_of_member;
static void *submit_member(void *pool) {
    tpool_task task = tried(1);
    task.group = group_of_member;
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    return NULL;
}
static void a_try_of_a_waiter_against_its_worker(void) {
    failures = 1;
    tpool *pool = new_pool((tpool_config){ .max_workers = 2 });
    tpool_group_config config = { .waiter_runs = true };
    tpool_future *submits = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_group_create(&group_of_member, &config));
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, submit_member, pool, &submits));
    CHECK_STATUS(TPOOL_OK, end_of(submits));
    CHECK_STATUS(TPOOL_OK, tpool_group_destroy(group_of_member));
    CHECK(end_pool(pool).completed == 2);
    CHECK(ran.runs == 2 && freed.runs == 1);
}
/* The observer of READY is told where the program's code may run. */
static unsigned heard;
static void observe(const tpool_event *event, void *context) {
    (void)context;
    heard += event->kind == TPOOL_EVENT_READY;
}
static void observed_tries_against_cancel(void) {
    failures = 9;
    tpool *pool = new_pool((tpool_config){ .max_workers = 1, .observer = observe, .observed = TPOOL_EVENT_READY });
    tpool_future *future = submitted_task(pool, tried(1));
    bool cancelled = tpool_future_cancel(future);
    CHECK(end_of(future) == (cancelled ? TPOOL_CANCELLED : TPOOL_FAILED));
    end_pool(pool);
    CHECK(freed.runs == 1 && heard <= 2);
    outcome(cancelled);
}

SCHEDULES(SCENARIO(cancel_against_runs, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(stop_against_runs, .preemptions = 1), SCENARIO(cancel_against_stop, .preemptions = 1, .outcomes = 2),
          SCENARIO(destroy_against_runs, .quick = 1, .preemptions = 2), SCENARIO(drain_against_runs, .preemptions = 1),
          SCENARIO(drain_beside_further_runs, .quick = 1, .preemptions = 1),
          SCENARIO(drain_beside_a_run_that_comes_due, .preemptions = 1),
          SCENARIO(drain_beside_further_runs_against_cancel, .quick = 1, .preemptions = 1),
          SCENARIO(cancel_against_tries, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(stop_against_tries, .quick = 1, .preemptions = 2),
          SCENARIO(expiry_against_start, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(expiry_against_look_and_cancel, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(a_try_in_place, .preemptions = 1),
          SCENARIO(a_try_of_a_waiter_against_its_worker, .quick = 1, .preemptions = 2),
          SCENARIO(observed_tries_against_cancel, .quick = 1, .preemptions = 2, .outcomes = 2))
