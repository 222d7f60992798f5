/* Every interleaving of tpool_on_stop: stops and times against registrations, withdrawals and ends. A task sleeps until
   its wake comes: one that is lost is a task that sleeps for ever. */
#include "schedule.h"

static gate woken;
static _Atomic(uint32_t) wakes, withdrawn;
static void wake(void *unused) {
    (void)unused;
    CHECK(!atomic_load(&withdrawn));
    atomic_fetch_add(&wakes, 1);
    gate_open(&woken);
}
static void *sleep_until_woken(void *arg) {
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(wake, NULL));
    gate_pass(&woken);
    return arg;
}
static void *register_and_end(void *arg) {
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(wake, NULL));
    return arg;
}
static void *register_and_withdraw(void *arg) {
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(wake, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(NULL, NULL));
    atomic_store(&withdrawn, 1);
    return arg;
}
static void *request_stop(void *future) {
    tpool_future_request_stop(future);
    return NULL;
}

static void stop_against_registration(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *future = submitted(pool, sleep_until_woken, NULL);
    tpool_future_request_stop(future);
    CHECK_STATUS(TPOOL_OK, end_of(future));
    CHECK(wakes == 1);
    end_pool(pool);
}

static void stop_against_the_end(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *future = submitted(pool, register_and_end, NULL);
    pthread_t asker = started(request_stop, future);
    CHECK_STATUS(TPOOL_OK, tpool_future_result(future, TPOOL_FOREVER, NULL));
    atomic_store(&withdrawn, 1);
    join(asker);
    tpool_future_release(future);
    outcome(wakes == 1);
    CHECK(wakes <= 1);
    end_pool(pool);
}

/* The wake is listed in the asker's thread when the task withdraws it, and ends. */
static void withdrawal_against_a_listed_wake(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *future = submitted(pool, register_and_withdraw, NULL);
    tpool_future_request_stop(future);
    CHECK_STATUS(TPOOL_OK, end_of(future));
    outcome(wakes == 1);
    CHECK(wakes <= 1);
    end_pool(pool);
}

static void two_stops_at_once(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *future = submitted(pool, sleep_until_woken, NULL);
    pthread_t asker = started(request_stop, future);
    tpool_future_request_stop(future);
    CHECK_STATUS(TPOOL_OK, tpool_future_result(future, TPOOL_FOREVER, NULL));
    join(asker);
    tpool_future_release(future);
    CHECK(wakes == 1);
    end_pool(pool);
}

/* Its time passes as the task ends: what is then freed is no timer any more. */
static void *register_and_end_in_time(void *arg) {
    tpool__u32 nothing = 0;
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(wake, NULL));
    tpool__word_wait(&nothing, 0, TPOOL__STOP_LOOKS);
    return arg;
}
static void limit_against_the_end(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_task task = { .fn = register_and_end_in_time, .run_limit_ns = TPOOL__STOP_LOOKS };
    tpool_future *future = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, &future));
    CHECK_STATUS(TPOOL_OK, end_of(future));
    atomic_store(&withdrawn, 1);
    outcome(wakes == 1);
    end_pool(pool);
    tpool__times_end(false);
}
/* In a worker process the timer looks again and again. */
static bool never(const tpool_future *task) {
    (void)task;
    return false;
}
static void ignore_thread(tpool__thread *self) { (void)self; }
static void poll_against_the_end(void) {
    static const tpool__backend backend = { .should_stop = never, .thread_ends = ignore_thread };
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool__process.works_for = &backend;
    CHECK_STATUS(TPOOL_OK, end_of(submitted(pool, register_and_end_in_time, NULL)));
    CHECK(wakes == 0);
    CHECK(!tpool__times.come && tpool__times.count == 0);
    end_pool(pool);
    tpool__times_end(false);
    tpool__process.works_for = NULL;
}
static void limit_against_a_stop(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_task task = { .fn = sleep_until_woken, .run_limit_ns = TPOOL__STOP_LOOKS };
    tpool_future *future = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, &future));
    tpool_future_request_stop(future);
    CHECK_STATUS(TPOOL_OK, end_of(future));
    CHECK(wakes == 1);
    end_pool(pool);
    tpool__times_end(false);
}

/* Both wakes are due in the thread that shuts the pool down, and the first waits until the other's task has ended. */
static tpool_future *tasks[2];
static gate registered[2], ended[2];
static void wake_awaits_the_other(void *other) {
    atomic_fetch_add(&wakes, 1);
    gate_open(&woken);
    gate_pass(other);
}
static void *register_awaiting(void *other) {
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(wake_awaits_the_other, other));
    gate_open(&registered[other == &ended[0]]);
    gate_pass(&woken);
    return NULL;
}
static void *open_when_ended(void *task) {
    CHECK_STATUS(TPOOL_OK, tpool_future_result(*(tpool_future **)task, TPOOL_FOREVER, NULL));
    gate_open(&ended[(tpool_future **)task - tasks]);
    return NULL;
}
static void no_end_waits_for_the_wake_of_another_task(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 2 });
    for (int i = 0; i < 2; i++) tasks[i] = submitted(pool, register_awaiting, &ended[!i]);
    for (int i = 0; i < 2; i++) gate_pass(&registered[i]);
    pthread_t helpers[2];
    for (int i = 0; i < 2; i++) helpers[i] = started(open_when_ended, &tasks[i]);
    CHECK_STATUS(TPOOL_OK, tpool_shutdown(pool, TPOOL_STOP_RUNNING));
    for (int i = 0; i < 2; i++) join(helpers[i]);
    for (int i = 0; i < 2; i++) tpool_future_release(tasks[i]);
    CHECK(wakes == 1);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
}

/* destroy comes as a stop's wake is about to run. */
static void destroy_against_a_wake(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *future = submitted(pool, register_and_end, NULL);
    pthread_t asker = started(request_stop, future);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    atomic_store(&withdrawn, 1);
    join(asker);
    tpool_future_release(future);
    outcome(wakes == 1);
}

SCHEDULES(SCENARIO(stop_against_registration, .quick = 2, .preemptions = 3),
          SCENARIO(stop_against_the_end, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(withdrawal_against_a_listed_wake, .quick = 2, .preemptions = 3, .outcomes = 2),
          SCENARIO(two_stops_at_once, .quick = 1, .preemptions = 2),
          SCENARIO(limit_against_the_end, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(poll_against_the_end, .quick = 1, .preemptions = 2),
          SCENARIO(limit_against_a_stop, .quick = 1, .preemptions = 2),
          SCENARIO(no_end_waits_for_the_wake_of_another_task, .quick = 0, .preemptions = 1),
          SCENARIO(destroy_against_a_wake, .quick = 1, .preemptions = 2, .outcomes = 2))
