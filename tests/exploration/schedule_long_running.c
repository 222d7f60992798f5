/* Every interleaving of the start and the end of a long-running task, whose thread waits for it in no queue: against a
 * cancel, a dependency, an expiry, a pause, a shutdown, the end of the pool, a run before, a refusal. */
#include "schedule/held.h"

static void *run_apart(void *arg) {
    CHECK(tpool_current_worker() >= 1);
    return counted_run(arg);
}
static tpool_task long_running(void) {
    return (tpool_task){ .fn = run_apart, .arg_free = count_free, .long_running = true };
}
static tpool_task long_running_after(tpool_future *const *before) {
    tpool_task task = long_running();
    task.after = before;
    task.after_count = 1;
    return task;
}
static tpool *new_pool_of_one(void) { return new_pool((tpool_config){ .max_workers = 1 }); }
/* It has run, or has not, as its end says. */
static void check_once(tpool *pool, tpool_status end, tpool_status otherwise) {
    CHECK(end == TPOOL_OK || end == otherwise);
    tpool_stats stats = end_pool(pool);
    CHECK(stats.completed == (end == TPOOL_OK) && stats.submitted == 1);
    CHECK(ran.runs == (end == TPOOL_OK) && freed.runs == 1);
    outcome(end == TPOOL_OK);
}

static void cancel_against_start(void) {
    tpool *pool = new_pool_of_one();
    tpool_future *future = submitted_task(pool, long_running());
    bool cancelled = tpool_future_cancel(future);
    tpool_status end = end_of(future);
    CHECK(cancelled == (end == TPOOL_CANCELLED));
    check_once(pool, end, TPOOL_CANCELLED);
}
/* It becomes ready in one thread, and is cancelled in another. */
static void cancel_against_ready(void) {
    tpool *pool = new_pool_of_one();
    tpool_future *before = bare();
    tpool_future *future = submitted_task(pool, long_running_after(&before));
    pthread_t helper = started(complete, before);
    (void)tpool_future_cancel(future);
    tpool_status end = end_of(future);
    join(helper);
    check_once(pool, end, TPOOL_CANCELLED);
}
/* Nobody has the future: the end of the task is all that its thread waits for. */
static void drain_against_ready(void) {
    tpool *pool = new_pool_of_one();
    tpool_future *before = bare();
    tpool_task task = long_running_after(&before);
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    pthread_t helper = started(complete, before);
    CHECK_STATUS(TPOOL_OK, tpool_drain(pool, TPOOL_FOREVER));
    CHECK(ran.runs == 1 && freed.runs == 1);
    join(helper);
    CHECK(end_pool(pool).completed == 1);
}
static void expiry_against_start(void) {
    tpool *pool = new_pool_of_one();
    tpool_task task = long_running();
    task.expires_ns = TPOOL_MS(1);
    tpool_future *future = submitted_task(pool, task);
    (void)tpool_future_result(future, TPOOL_MS(1), NULL);
    check_once(pool, end_of(future), TPOOL_EXPIRED);
}
static void *pause_and_resume(void *pool) {
    CHECK_STATUS(TPOOL_OK, tpool_pause(pool));
    CHECK_STATUS(TPOOL_OK, tpool_resume(pool));
    return NULL;
}
static void resume_against_start(void) {
    tpool *pool = new_pool_of_one();
    pthread_t helper = started(pause_and_resume, pool);
    tpool_future *future = submitted_task(pool, long_running());
    CHECK_STATUS(TPOOL_OK, end_of(future));
    join(helper);
    check_once(pool, TPOOL_OK, TPOOL_OK);
}
/* After the pause nothing starts. */
static void pause_against_start(void) {
    tpool *pool = new_pool_of_one();
    tpool_future *future = submitted_task(pool, long_running());
    CHECK_STATUS(TPOOL_OK, tpool_pause(pool));
    bool begun = tpool_future_state(future) != TPOOL_PENDING;
    schedule_settle();
    CHECK(begun == (ran.runs == 1));
    outcome(begun);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    CHECK_STATUS(TPOOL_OK, end_of(future));
    CHECK(freed.runs == 1);
}
static void shutdown_against_start(void) {
    tpool *pool = new_pool_of_one();
    tpool_future *future = submitted_task(pool, long_running());
    CHECK_STATUS(TPOOL_OK, tpool_shutdown(pool, TPOOL_CANCEL_PENDING | TPOOL_WAIT));
    check_once(pool, end_of(future), TPOOL_CANCELLED);
}
/* From a task of the pool, which ends meanwhile. */
static tpool *pool_of_task;
static void *submit_one(void *arg) {
    tpool_task task = long_running();
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool_of_task, &task, NULL));
    return arg;
}
static void destroy_against_a_submit_inside(void) {
    pool_of_task = new_pool_of_one();
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool_of_task, submit_one, NULL, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool_of_task));
    CHECK(ran.runs == 1 && freed.runs == 1);
}
static void detach_against_its_end(void) {
    tpool *pool = new_pool_of_one();
    tpool_future *future = submitted_task(pool, long_running());
    CHECK_STATUS(TPOOL_OK, tpool_shutdown(pool, TPOOL_DETACH));
    CHECK_STATUS(TPOOL_OK, end_of(future));
    schedule_settle();
    CHECK(ran.runs == 1 && freed.runs == 1);
}
static void destroy_between_runs(void) {
    tpool *pool = new_pool_of_one();
    tpool_task task = long_running();
    task.period_ns = TPOOL_MS(1);
    tpool_future *future = submitted_task(pool, task);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    CHECK_STATUS(TPOOL_CANCELLED, end_of(future));
    CHECK(ran.runs <= 2 && freed.runs == 1);
}
static void cancel_between_tries(void) {
    failures = 9;
    tpool *pool = new_pool_of_one();
    tpool_task task = long_running();
    task.retries = 1;
    tpool_future *future = submitted_task(pool, task);
    bool cancelled = tpool_future_cancel(future);
    CHECK(end_of(future) == (cancelled ? TPOOL_CANCELLED : TPOOL_FAILED));
    end_pool(pool);
    CHECK((ran.runs == 2 || cancelled) && freed.runs == 1);
    outcome(cancelled);
}
/* Each try ends its thread: another takes its place, if the pool is to be had for that. */
static void *end_thread(void *arg) {
    atomic_fetch_add(&ran.runs, 1);
    pthread_exit(arg);
    return arg;
}
static void a_thread_that_ends_against_a_cancel(void) {
    tpool *pool = new_pool_of_one();
    tpool_task task = long_running();
    task.fn = end_thread;
    task.retries = 1;
    task.retry_ns = TPOOL_MS(1);
    tpool_future *future = submitted_task(pool, task);
    bool cancelled = tpool_future_cancel(future);
    CHECK(end_of(future) == (cancelled ? TPOOL_CANCELLED : TPOOL_BROKEN));
    end_pool(pool);
    CHECK((ran.runs == 2 || cancelled) && freed.runs == 1);
    outcome(cancelled);
}
static void a_thread_that_ends_and_is_the_last(void) {
    tpool *pool = new_pool_of_one();
    tpool_task task = long_running();
    task.fn = end_thread;
    task.retries = 9;
    refuse_thread(2);
    tpool_future *future = submitted_task(pool, task);
    CHECK_STATUS(TPOOL_BROKEN, end_of(future));
    refuse_thread(0);
    CHECK(end_pool(pool).failed == 1);
    CHECK(ran.runs == 1 && freed.runs == 1);
}
static bool fail_to_begin(void *context) {
    (void)context;
    return false;
}
static void an_initializer_against_its_submit(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1, .initializer = fail_to_begin });
    tpool_future *future = submitted_task(pool, long_running());
    CHECK_STATUS(TPOOL_BROKEN, end_of(future));
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    CHECK(ran.runs == 0 && freed.runs == 1);
}
static void two_of_which_one_is_refused(void) {
    tpool *pool = new_pool_of_one();
    refuse_thread(2);
    tpool_future *future = submitted_task(pool, long_running()), *other = NULL;
    tpool_task task = long_running();
    CHECK_STATUS(TPOOL_NO_THREAD, tpool_submit_task(pool, &task, &other));
    CHECK(!other);
    check_once(pool, end_of(future), TPOOL_OK);
}
static tpool_future *awaited;
static void *wait_for_awaited(void *arg) {
    (void)arg;
    CHECK_STATUS(TPOOL_OK, tpool_future_result(awaited, TPOOL_FOREVER, NULL));
    return NULL;
}
/* It waits for what the one worker may take at this moment. */
static void a_wait_inside_against_the_worker(void) {
    tpool *pool = new_pool_of_one();
    tpool_task task = long_running();
    task.fn = wait_for_awaited;
    awaited = submitted(pool, count_task, &ran);
    tpool_future *future = submitted_task(pool, task);
    CHECK_STATUS(TPOOL_OK, end_of(future));
    CHECK(ran.runs == 1);
    tpool_stats stats = end_pool(pool);
    CHECK(stats.completed == 2 && stats.spared == 0);
    outcome((int)stats.inlined);
    tpool_future_release(awaited);
}

SCHEDULES(SCENARIO(cancel_against_start, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(cancel_against_ready, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(drain_against_ready, .quick = 1, .preemptions = 1),
          SCENARIO(expiry_against_start, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(resume_against_start, .quick = 1, .preemptions = 2),
          SCENARIO(pause_against_start, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(shutdown_against_start, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(destroy_against_a_submit_inside, .quick = 1, .preemptions = 1),
          SCENARIO(detach_against_its_end, .quick = 1, .preemptions = 1),
          SCENARIO(destroy_between_runs, .quick = 1, .preemptions = 2),
          SCENARIO(cancel_between_tries, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(a_thread_that_ends_against_a_cancel, .quick = 1, .preemptions = 1, .outcomes = 2),
          SCENARIO(a_thread_that_ends_and_is_the_last, .quick = 1, .preemptions = 1),
          SCENARIO(an_initializer_against_its_submit, .quick = 1, .preemptions = 2),
          SCENARIO(two_of_which_one_is_refused, .quick = 1, .preemptions = 1),
          SCENARIO(a_wait_inside_against_the_worker, .quick = 1, .preemptions = 2, .outcomes = 2))
