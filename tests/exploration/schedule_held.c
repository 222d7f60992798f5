/* Every interleaving of a held task's way: submit, the ends of its dependencies, its time, cancel, shutdown,
   destroy. */
#define TPOOL__HELD_LOOKS 1u
#include "schedule/held.h"

static tpool_task counted_after(tpool_future *const *futures, size_t count, tpool_after when) {
    return (tpool_task){ .fn = count_task,
                         .arg = &ran,
                         .arg_free = count_free,
                         .after = futures,
                         .after_count = count,
                         .after_when = when };
}
static bool helper_cancelled;
static void *cancel(void *future) {
    helper_cancelled = tpool_future_cancel(future);
    tpool_future_release(future);
    return NULL;
}

/* The dependency ends as the task that waits for it is submitted. */
static void end_against_submit(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *before = bare();
    pthread_t helper = started(complete, tpool_future_retain(before));
    tpool_task task = counted_after(&before, 1, TPOOL_AFTER_SUCCESS);
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    tpool_future_release(before);
    join(helper);
    CHECK(end_pool(pool).completed == 1);
    CHECK(ran.runs == 1 && freed.runs == 1);
}
/* The same with a dependency that the pool runs. */
static void run_against_submit(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *before = submitted(pool, count_task, &ran);
    tpool_future *held = submitted_task(pool, counted_after(&before, 1, TPOOL_AFTER_DONE));
    tpool_future_release(before);
    CHECK_STATUS(TPOOL_OK, end_of(held));
    CHECK(end_pool(pool).completed == 2);
    CHECK(ran.runs == 2 && freed.runs == 1);
}
/* Two dependencies end at once: the task starts once. */
static void end_against_end(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *before[2] = { bare(), bare() };
    tpool_future *held = submitted_task(pool, counted_after(before, 2, TPOOL_AFTER_SUCCESS));
    pthread_t helper = started(complete, before[0]);
    complete(before[1]);
    CHECK_STATUS(TPOOL_OK, end_of(held));
    join(helper);
    CHECK(end_pool(pool).completed == 1);
    CHECK(ran.runs == 1 && freed.runs == 1);
}
/* Two tasks wait for any of the same two futures, named in both orders. */
static void any_against_any(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *before[2] = { bare(), bare() }, *swapped[2] = { before[1], before[0] };
    tpool_task task = counted_after(before, 2, TPOOL_AFTER_ANY);
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    task.after = swapped;
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    pthread_t helper = started(complete, before[0]);
    complete(before[1]);
    join(helper);
    CHECK(end_pool(pool).completed == 2);
    CHECK(ran.runs == 2 && freed.runs == 2);
}

/* Both end as a task that waits for any of them is submitted. */
static void ends_against_submit_of_any(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *before[2] = { bare(), bare() };
    pthread_t helper = started(complete, tpool_future_retain(before[0]));
    pthread_t other = started(complete, tpool_future_retain(before[1]));
    tpool_task task = counted_after(before, 2, TPOOL_AFTER_ANY);
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    for (int i = 0; i < 2; i++) tpool_future_release(before[i]);
    join(helper);
    join(other);
    CHECK(end_pool(pool).completed == 1);
    CHECK(ran.runs == 1 && freed.runs == 1);
}

/* A cancel comes as the last dependency of a task ends. */
static bool cancel_beside_last_end(tpool *pool) {
    tpool_future *before = bare();
    tpool_future *held = submitted_task(pool, counted_after(&before, 1, TPOOL_AFTER_DONE));
    pthread_t helper = started(complete, before);
    bool cancelled = tpool_future_cancel(held);
    CHECK(end_of(held) == (cancelled ? TPOOL_CANCELLED : TPOOL_OK));
    join(helper);
    return cancelled;
}
static void cancel_against_ready(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    bool cancelled = cancel_beside_last_end(pool);
    CHECK(end_pool(pool).cancelled == (cancelled ? 1u : 0u));
    CHECK(ran.runs == !cancelled && freed.runs == 1);
    outcome(cancelled);
}
/* The same, and the pool is destroyed at once: who has freed the task of its last hold touches the pool no more. */
static void cancel_and_destroy_against_ready(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *before[2] = { bare(), bare() };
    tpool_future *held = submitted_task(pool, counted_after(before, 2, TPOOL_AFTER_ANY));
    pthread_t helper = started(complete, before[0]);
    bool cancelled = tpool_future_cancel(held);
    tpool_future_release(held);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    CHECK(ran.runs == !cancelled && freed.runs == 1);
    join(helper);
    tpool_future_release(before[1]);
    outcome(cancelled);
}
/* A destroy waits for a held task, whose dependency ends meanwhile. */
static void destroy_against_ready(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *before = bare();
    tpool_task task = counted_after(&before, 1, TPOOL_AFTER_DONE);
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    pthread_t helper = started(complete, before);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    join(helper);
    CHECK(ran.runs == 1 && freed.runs == 1);
}
/* The task has no function: the thread that ends its dependency ends it, and the pool may go at once. */
static void destroy_against_end_of_nothing(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *before[2] = { bare(), bare() };
    tpool_task task = counted_after(before, 2, TPOOL_AFTER_ANY);
    task.fn = NULL;
    tpool_future *held = submitted_task(pool, task);
    pthread_t helper = started(complete, tpool_future_retain(before[0]));
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    void *value = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_future_result(held, 0, &value));
    CHECK(value == before[0] && freed.runs == 1);
    tpool_future_release(before[0]);
    tpool_future_release(before[1]);
    join(helper);
    CHECK(tpool_future_done(value)); /* it lives as long as the reference to the task */
    tpool_future_release(held);
}
/* A shutdown cancels what is held as a dependency ends. */
static void shutdown_against_ready(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *before = bare();
    tpool_future *held = submitted_task(pool, counted_after(&before, 1, TPOOL_AFTER_DONE));
    pthread_t helper = started(complete, before);
    CHECK_STATUS(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT | TPOOL_CANCEL_PENDING));
    tpool_status end = end_of(held);
    CHECK(end == TPOOL_OK || end == TPOOL_CANCELLED);
    CHECK(ran.runs == (end == TPOOL_OK) && freed.runs == 1);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    join(helper);
    outcome(end == TPOOL_OK);
}
/* The pool is shut down: its last worker stays until nothing is held any more. */
static void last_worker_against_cancel(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *before = bare();
    tpool_future *held = submitted_task(pool, counted_after(&before, 1, TPOOL_AFTER_DONE));
    CHECK_STATUS(TPOOL_OK, tpool_shutdown(pool, 0));
    pthread_t helper = started(cancel, held);
    complete(before);
    CHECK_STATUS(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT));
    join(helper);
    CHECK(ran.runs == !helper_cancelled && freed.runs == 1);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    outcome(helper_cancelled);
}
/* The last worker is about to end by its idle time as a held task comes, and becomes ready. */
static void idle_end_against_held(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1, .idle_timeout_ns = 1 });
    tpool_future *before = bare();
    CHECK_STATUS(TPOOL_OK, end_of(submitted(pool, count_task, &ran)));
    tpool_future *held = submitted_task(pool, counted_after(&before, 1, TPOOL_AFTER_DONE));
    CHECK(tpool_future_state(held) == TPOOL_PENDING);
    complete(before);
    CHECK_STATUS(TPOOL_OK, end_of(held));
    CHECK(ran.runs == 2 && freed.runs == 1);
    end_pool(pool);
}

/* A dependency fails as its dependants are cancelled. */
static void *fails(void *arg) { return tpool_raise(5, "%s", (const char *)arg); }
static void failure_against_cancel(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *before = submitted(pool, fails, (void *)"gone");
    tpool_future *held = submitted_task(pool, counted_after(&before, 1, TPOOL_AFTER_SUCCESS));
    tpool_future *last = submitted_task(pool, counted_after(&held, 1, TPOOL_AFTER_SUCCESS));
    tpool_future_release(before);
    pthread_t helper = started(cancel, held);
    const tpool_error *error = NULL;
    CHECK_STATUS(TPOOL_CANCELLED, tpool_future_error(last, TPOOL_FOREVER, &error));
    CHECK(error->cause == TPOOL_CANCELLED || (error->code == 5 && !strcmp(error->message, "gone")));
    outcome(error->cause == TPOOL_FAILED);
    tpool_future_release(last);
    join(helper);
    CHECK(end_pool(pool).cancelled == 2);
    CHECK(ran.runs == 0 && freed.runs == 2);
}

/* A worker that waits for a held task executes it in place as soon as that is ready. */
static gate opened;
static tpool_future *awaited;
static void *wait_for_failure(void *arg) {
    gate_pass(&opened);
    *(tpool_status *)arg = tpool_future_result(awaited, TPOOL_FOREVER, NULL);
    return NULL;
}
static void in_place_against_ready(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 2, .measure = true });
    tpool_future *before = bare();
    tpool_status status = TPOOL_OK;
    tpool_future *waits = submitted(pool, wait_for_failure, &status);
    tpool_task task = counted_after(&before, 1, TPOOL_AFTER_DONE);
    task.fn = fails;
    task.arg = (void *)"no";
    awaited = submitted_task(pool, task);
    gate_open(&opened);
    complete(before);
    CHECK_STATUS(TPOOL_OK, end_of(waits));
    CHECK_STATUS(TPOOL_FAILED, status);
    tpool_future_release(awaited);
    CHECK(end_pool(pool).failed == 1);
}

/* A task waits for what it holds itself, and that is cancelled: it learns of the one or of the other. */
static tpool_future *successor;
static void *wait_for_successor(void *arg) {
    gate_pass(&opened);
    *(tpool_status *)arg = tpool_future_result(successor, TPOOL_FOREVER, NULL);
    return NULL;
}
static void wait_for_successor_against_cancel(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_status status = TPOOL_OK;
    tpool_future *waits = submitted(pool, wait_for_successor, &status);
    tpool_future *between = submitted_task(pool, counted_after(&waits, 1, TPOOL_AFTER_DONE));
    successor = submitted_task(pool, counted_after(&between, 1, TPOOL_AFTER_DONE));
    gate_open(&opened);
    pthread_t helper = started(cancel, between);
    CHECK_STATUS(TPOOL_OK, end_of(waits));
    join(helper);
    CHECK_STATUS(TPOOL_OK, end_of(successor)); /* AFTER_DONE */
    if (status != TPOOL_DEADLOCK) CHECK(status == TPOOL_OK && helper_cancelled);
    outcome(status == TPOOL_DEADLOCK);
    CHECK(end_pool(pool).submitted == 3);
    CHECK(freed.runs == 2);
}

/* An iterator has a held task, which becomes ready and ends as the iterator is asked. */
static void next_against_ready(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_completions *completions = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_as_completed(NULL, 0, &completions));
    tpool_future *before = bare(), *yielded = NULL;
    tpool_task task = counted_after(&before, 1, TPOOL_AFTER_DONE);
    task.completions = completions;
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    pthread_t helper = started(complete, before);
    CHECK_STATUS(TPOOL_OK, tpool_completions_next(completions, TPOOL_FOREVER, &yielded));
    CHECK_STATUS(TPOOL_OK, tpool_future_result(yielded, 0, NULL));
    CHECK_STATUS(TPOOL_END, tpool_completions_next(completions, 0, &yielded));
    tpool_completions_destroy(completions);
    join(helper);
    end_pool(pool);
    CHECK(ran.runs == 1);
}

/* The observer hears READY before ENDED, or not at all. Atomic: the threads that tell it share these words. */
static atomic_uint heard, wrong;
static void observe(const tpool_event *event, void *context) {
    (void)context;
    if (atomic_fetch_or(&heard, (unsigned)event->kind) >= (unsigned)event->kind) atomic_store(&wrong, 1);
}
static void observer_against_cancel(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1, .observer = observe, .observed = 15 });
    bool cancelled = cancel_beside_last_end(pool);
    end_pool(pool);
    CHECK(!wrong && heard & TPOOL_EVENT_ENDED && heard & TPOOL_EVENT_SUBMITTED);
    CHECK(cancelled || heard & TPOOL_EVENT_READY);
    outcome(cancelled);
}
/* The same, and the pool is destroyed at once: the observer hears the end before that returns. */
static void observer_against_destroy(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1, .observer = observe, .observed = 15 });
    tpool_future *before = bare();
    tpool_future *held = submitted_task(pool, counted_after(&before, 1, TPOOL_AFTER_DONE));
    pthread_t helper = started(complete, before);
    bool cancelled = tpool_future_cancel(held);
    tpool_future_release(held);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    CHECK(!wrong && heard & TPOOL_EVENT_ENDED);
    join(helper);
    outcome(cancelled);
}

/* A task's time comes as it is cancelled. */
static void cancel_against_time(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_task task = counted_after(NULL, 0, TPOOL_AFTER_SUCCESS);
    task.delay_ns = TPOOL_MS(1);
    tpool_future *held = submitted_task(pool, task);
    (void)tpool_future_result(held, TPOOL_MS(1), NULL);
    bool cancelled = tpool_future_cancel(held);
    CHECK(end_of(held) == (cancelled ? TPOOL_CANCELLED : TPOOL_OK));
    end_pool(pool);
    CHECK(ran.runs == !cancelled && freed.runs == 1);
    outcome(cancelled);
}
/* A cancel comes as the time of a task begins, since its dependency has ended. */
static void cancel_against_begin_of_time(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *before = bare();
    tpool_task task = counted_after(&before, 1, TPOOL_AFTER_SUCCESS);
    task.delay_ns = TPOOL_MS(1);
    tpool_future *held = submitted_task(pool, task);
    pthread_t helper = started(complete, before);
    bool cancelled = tpool_future_cancel(held);
    CHECK(end_of(held) == (cancelled ? TPOOL_CANCELLED : TPOOL_OK));
    join(helper);
    end_pool(pool);
    CHECK(ran.runs == !cancelled && freed.runs == 1);
}
/* A destroy cancels what waits for its time, and what would begin to. */
static void destroy_against_time(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *before = bare();
    tpool_task task = counted_after(&before, 1, TPOOL_AFTER_SUCCESS);
    task.delay_ns = TPOOL_MS(1);
    tpool_future *held = submitted_task(pool, task);
    pthread_t helper = started(complete, before);
    (void)tpool_future_result(held, TPOOL_MS(1), NULL);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    join(helper);
    tpool_status end = end_of(held);
    CHECK(end == TPOOL_OK || end == TPOOL_CANCELLED);
    CHECK(ran.runs == (end == TPOOL_OK) && freed.runs == 1);
    outcome(end == TPOOL_CANCELLED);
}
/* The pool's end cancels a task with a time limit as that is submitted, or as its time begins. */
static tpool *ended_pool;
static void *shut_down(void *flags) {
    CHECK_STATUS(TPOOL_OK, tpool_shutdown(ended_pool, (unsigned)(uintptr_t)flags));
    return NULL;
}
static void shutdown_against_submit_with_limit(void) {
    ended_pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *before = bare();
    pthread_t helper = started(shut_down, (void *)(uintptr_t)TPOOL_CANCEL_PENDING);
    tpool_task task = counted_after(&before, 1, TPOOL_AFTER_SUCCESS);
    task.timeout_ns = TPOOL_SEC(4000); /* which never passes here */
    tpool_status status = tpool_submit_task(ended_pool, &task, NULL);
    CHECK(status == TPOOL_OK || status == TPOOL_SHUTDOWN);
    join(helper);
    complete(before);
    CHECK(end_pool(ended_pool).cancelled == (status == TPOOL_OK));
    CHECK(ran.runs == 0 && freed.runs == (status == TPOOL_OK));
    outcome(status == TPOOL_OK);
}
static void shutdown_against_begin_of_time_with_limit(void) {
    ended_pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *before = bare();
    tpool_task task = counted_after(&before, 1, TPOOL_AFTER_SUCCESS);
    task.delay_ns = TPOOL_SEC(1);
    task.timeout_ns = TPOOL_SEC(4000); /* likewise */
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(ended_pool, &task, NULL));
    pthread_t helper = started(shut_down, NULL);
    complete(before);
    join(helper);
    CHECK(end_pool(ended_pool).cancelled + (unsigned)ran.runs == 1);
    CHECK(freed.runs == 1);
}

/* The program ends as a task becomes ready for which a thread waits: nothing starts it, and that thread learns so. */
static void *wait_for_awaited(void *status) {
    *(tpool_status *)status = tpool_future_result(awaited, TPOOL_FOREVER, NULL);
    return NULL;
}
static void exit_against_ready(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *before = bare();
    tpool_status status = TPOOL_OK;
    awaited = submitted_task(pool, counted_after(&before, 1, TPOOL_AFTER_DONE));
    pthread_t waits = started(wait_for_awaited, &status);
    schedule_settle();
    pthread_t helper = started(complete, before);
    schedule_run_exit();
    join(helper);
    join(waits);
    CHECK(status == TPOOL_OK || status == TPOOL_BROKEN);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool)); /* it finishes the work */
    CHECK(ran.runs == 1 && freed.runs == 1);
    tpool_future_release(awaited);
}

/* The same with a task whose time passes, in an observed pool. */
static void exit_against_time(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1, .observer = observe, .observed = TPOOL_EVENT_READY });
    tpool_status status = TPOOL_OK;
    tpool_task task = counted_after(NULL, 0, TPOOL_AFTER_SUCCESS);
    task.delay_ns = TPOOL_MS(1);
    awaited = submitted_task(pool, task);
    pthread_t waits = started(wait_for_awaited, &status);
    (void)tpool_future_result(awaited, TPOOL_MS(1), NULL);
    schedule_run_exit();
    join(waits);
    CHECK(status == TPOOL_OK || status == TPOOL_BROKEN);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool)); /* it finishes the work, or cancels what waits for its time */
    tpool_status end = end_of(awaited);
    CHECK(end == TPOOL_OK || end == TPOOL_CANCELLED);
    CHECK(ran.runs == (end == TPOOL_OK) && freed.runs == 1);
    outcome(end == TPOOL_OK);
}

/* A pool's end cancels all that is held while the exit comes to the same tasks. */
static void exit_against_shutdown(void) {
    ended_pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *before = bare(), *held[2];
    for (int i = 0; i < 2; i++) held[i] = submitted_task(ended_pool, counted_after(&before, 1, TPOOL_AFTER_DONE));
    pthread_t helper = started(shut_down, (void *)(uintptr_t)TPOOL_CANCEL_PENDING);
    schedule_run_exit();
    join(helper);
    for (int i = 0; i < 2; i++) CHECK_STATUS(TPOOL_CANCELLED, end_of(held[i]));
    CHECK_STATUS(TPOOL_OK, tpool_destroy(ended_pool));
    CHECK(ran.runs == 0 && freed.runs == 2);
    tpool_future_release(before);
}

/* What is measured is how long it waits once it is ready. */
static void the_wait_begins_when_it_is_ready(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1, .measure = true });
    tpool_task task = counted_after(NULL, 0, TPOOL_AFTER_SUCCESS);
    task.delay_ns = TPOOL_SEC(1000);
    CHECK_STATUS(TPOOL_OK, end_of(submitted_task(pool, task)));
    CHECK(end_pool(pool).wait_p99_ns < TPOOL_SEC(500));
    CHECK(ran.runs == 1);
}

SCHEDULES(SCENARIO(end_against_submit, .quick = 2, .preemptions = 3),
          SCENARIO(run_against_submit, .quick = 1, .preemptions = 3),
          SCENARIO(end_against_end, .quick = 1, .preemptions = 2),
          SCENARIO(any_against_any, .quick = 1, .preemptions = 2),
          SCENARIO(ends_against_submit_of_any, .quick = 1, .preemptions = 2),
          SCENARIO(cancel_against_ready, .quick = 2, .preemptions = 3, .outcomes = 2),
          SCENARIO(cancel_and_destroy_against_ready, .quick = 2, .preemptions = 3, .outcomes = 2),
          SCENARIO(destroy_against_ready, .quick = 1, .preemptions = 2),
          SCENARIO(destroy_against_end_of_nothing, .quick = 2, .preemptions = 3),
          SCENARIO(shutdown_against_ready, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(last_worker_against_cancel, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(idle_end_against_held, .quick = 1, .preemptions = 2),
          SCENARIO(failure_against_cancel, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(in_place_against_ready, .preemptions = 1),
          SCENARIO(wait_for_successor_against_cancel, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(next_against_ready, .quick = 1, .preemptions = 2),
          SCENARIO(observer_against_cancel, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(observer_against_destroy, .quick = 2, .preemptions = 2, .outcomes = 2),
          SCENARIO(cancel_against_time, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(cancel_against_begin_of_time, .quick = 1, .preemptions = 3),
          SCENARIO(destroy_against_time, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(shutdown_against_submit_with_limit, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(shutdown_against_begin_of_time_with_limit, .quick = 1, .preemptions = 2),
          SCENARIO(exit_against_ready, .quick = 1, .preemptions = 2),
          SCENARIO(exit_against_time, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(exit_against_shutdown, .quick = 1, .preemptions = 2), SCENARIO(the_wait_begins_when_it_is_ready))
