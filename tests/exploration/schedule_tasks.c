/* Every interleaving of a task's way: submit, claim, cancel, expire, finish, wait, callbacks, release. */
#include "schedule.h"

static counter first, second, freed;
static gate opened;
static void count_free(void *arg) {
    (void)arg;
    atomic_fetch_add(&freed.runs, 1);
}

/* A submit comes as the worker, whose first task is done, goes to sleep. */
static void submit_against_park(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    CHECK_STATUS(TPOOL_OK, end_of(submitted(pool, count_task, &first)));
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, count_task, &second, NULL));
    CHECK(end_pool(pool).completed == 2);
    CHECK(first.runs == 1 && second.runs == 1);
}

/* Two threads submit at once: one or two workers, none asleep while work waits. */
static void *submit_second(void *pool) {
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, count_task, &second, NULL));
    return NULL;
}
static void submit_against_submit(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 2 });
    pthread_t helper = started(submit_second, pool);
    CHECK_STATUS(TPOOL_OK, end_of(submitted(pool, count_task, &first)));
    join(helper);
    tpool_stats stats = end_pool(pool);
    outcome(stats.workers - 1);
    CHECK(stats.completed == 2 && first.runs == 1 && second.runs == 1);
}

/* The second task must get a worker of its own, or the first never ends. */
static void *open_gate(void *arg) {
    gate_open(arg);
    return NULL;
}
static void two_tasks_side_by_side(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 2 });
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, gate_task, &opened, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, open_gate, &opened, NULL));
    CHECK(end_pool(pool).completed == 2);
}

/* A cancel comes as the worker takes the task. */
static void cancel_against_claim(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_task task = { .fn = count_task, .arg = &first, .arg_free = count_free };
    tpool_future *future = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, &future));
    bool cancelled = tpool_future_cancel(future);
    tpool_status end = tpool_future_result(future, TPOOL_FOREVER, NULL);
    CHECK(end == (cancelled ? TPOOL_CANCELLED : TPOOL_OK));
    CHECK(first.runs == (cancelled ? 0 : 1));
    CHECK(freed.runs == 1);
    tpool_future_release(future);
    outcome(cancelled);
    CHECK(end_pool(pool).cancelled == (cancelled ? 1u : 0u));
}

/* The worker takes tasks, at the lane's front and in its slots, as more come and the first is cancelled: none overtakes
   another. */
static counter turns;
static int turn_of[3];
static void *take_turn(void *turn) {
    *(int *)turn = (int)atomic_fetch_add(&turns.runs, 1) + 1;
    return NULL;
}
static void order_against_cancel(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *oldest = submitted(pool, take_turn, &turn_of[0]), *next = submitted(pool, take_turn, &turn_of[1]);
    bool cancelled = tpool_future_cancel(oldest);
    CHECK_STATUS(TPOOL_OK, end_of(submitted(pool, take_turn, &turn_of[2])));
    CHECK(tpool_future_done(next));
    CHECK_STATUS(TPOOL_OK, end_of(next));
    CHECK(end_of(oldest) == (cancelled ? TPOOL_CANCELLED : TPOOL_OK));
    for (int i = 0; i < 3; i++) CHECK(turn_of[i] == (cancelled ? i : i + 1));
    outcome(cancelled);
    CHECK(end_pool(pool).completed == (cancelled ? 2u : 3u));
}

/* Two threads cancel one task; both learn the same. */
static bool helper_cancelled;
static void *cancel(void *future) {
    helper_cancelled = tpool_future_cancel(future);
    return NULL;
}
static void cancel_against_cancel(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *future = submitted(pool, count_task, &first);
    pthread_t helper = started(cancel, future);
    bool cancelled = tpool_future_cancel(future);
    join(helper);
    CHECK(cancelled == helper_cancelled);
    CHECK(end_of(future) == (cancelled ? TPOOL_CANCELLED : TPOOL_OK) && first.runs == (cancelled ? 0 : 1));
    outcome(cancelled);
    CHECK(end_pool(pool).cancelled == (cancelled ? 1u : 0u));
}

/* One thread waits while another cancels and the worker wants to start. */
static void cancel_against_wait(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *future = submitted(pool, count_task, &first);
    pthread_t helper = started(cancel, future);
    tpool_status end = tpool_future_result(future, TPOOL_FOREVER, NULL);
    join(helper);
    CHECK(end == (helper_cancelled ? TPOOL_CANCELLED : TPOOL_OK));
    CHECK(first.runs == (helper_cancelled ? 0 : 1));
    tpool_future_release(future);
    outcome(helper_cancelled);
    end_pool(pool);
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

/* A wait with a limit ends as the task does: either is right, but not both, and the watch is gone. */
static void timed_wait_against_finish(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *future = submitted(pool, count_task, &first);
    void *result = NULL;
    tpool_status status = tpool_future_result(future, TPOOL_MS(1), &result);
    CHECK(status == TPOOL_OK || status == TPOOL_TIMEOUT);
    CHECK(result == (status == TPOOL_OK ? &first : NULL));
    outcome(status == TPOOL_OK);
    tpool_future_release(future);
    end_pool(pool);
    CHECK(first.runs == 1);
}

/* Two threads wait for one task and both give up a reference. */
static void *wait_and_release(void *future) {
    CHECK_STATUS(TPOOL_OK, end_of(future));
    return NULL;
}
static void two_waits_against_finish(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *future = submitted(pool, count_task, &first);
    pthread_t helper = started(wait_and_release, tpool_future_retain(future));
    CHECK_STATUS(TPOOL_OK, end_of(future));
    join(helper);
    end_pool(pool);
}

/* The caller gives up its reference as the task ends: the result is freed, once. */
static void *owned_result(void *arg) {
    atomic_fetch_add(&first.runs, 1);
    return tpool_return_owned(arg, count_free);
}
static void finish_against_release(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *future = submitted(pool, owned_result, &second);
    tpool_future_release(future);
    end_pool(pool);
    CHECK(first.runs == 1 && freed.runs == 1);
}

/* Futures outlive their pool, and the memory of the last goes back. */
static void destroy_against_release(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *future = submitted(pool, count_task, &first);
    pthread_t helper = started(wait_and_release, future);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    join(helper);
}

/* Callbacks are added as the task ends; the first gives up the caller's last reference. */
static void release_in_callback(tpool_future *future, void *context) {
    CHECK(tpool_future_done(future));
    atomic_fetch_add(&((counter *)context)->runs, 1);
    outcome(tpool_current() != NULL);
    tpool_future_release(future);
    CHECK(tpool_future_done(future));
}
static void note_callback(tpool_future *future, void *context) {
    CHECK(tpool_future_done(future));
    atomic_fetch_add(&((counter *)context)->runs, 1);
}
static void callbacks_against_finish(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *future = submitted(pool, gate_task, &opened);
    gate_open(&opened);
    CHECK_STATUS(TPOOL_OK, tpool_future_add_done_callback(future, note_callback, &second));
    CHECK_STATUS(TPOOL_OK, tpool_future_add_done_callback(future, release_in_callback, &first));
    end_pool(pool);
    CHECK(first.runs == 1 && second.runs == 1);
}

/* A callback is added as the task is cancelled. */
static void callback_against_cancel(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    CHECK_STATUS(TPOOL_OK, tpool_pause(pool));
    tpool_future *future = submitted(pool, count_task, &second);
    pthread_t helper = started(cancel, future);
    CHECK_STATUS(TPOOL_OK, tpool_future_add_done_callback(future, note_callback, &first));
    join(helper);
    CHECK(helper_cancelled && first.runs == 1 && second.runs == 0);
    tpool_future_release(future);
    end_pool(pool);
}

/* The iterator yields what ends and what is cancelled, each once. */
static void as_completed_against_cancel(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *futures[2] = { submitted(pool, count_task, &first), submitted(pool, count_task, &second) }, *yielded;
    tpool_completions *completions = NULL;
    pthread_t helper = started(cancel, futures[1]);
    CHECK_STATUS(TPOOL_OK, tpool_as_completed(futures, 2, &completions));
    unsigned seen = 0;
    for (int i = 0; i < 2; i++) {
        CHECK_STATUS(TPOOL_OK, tpool_completions_next(completions, TPOOL_FOREVER, &yielded));
        CHECK(tpool_future_done(yielded));
        seen |= 1u << tpool_completions_index(completions);
    }
    CHECK(seen == 3);
    CHECK_STATUS(TPOOL_END, tpool_completions_next(completions, TPOOL_FOREVER, &yielded));
    tpool_completions_destroy(completions);
    join(helper);
    CHECK(second.runs == (helper_cancelled ? 0 : 1));
    for (int i = 0; i < 2; i++) tpool_future_release(futures[i]);
    outcome(helper_cancelled);
    end_pool(pool);
}

/* The iterator is destroyed as the tasks in it end. */
static void completions_destroy_against_finish(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *future = submitted(pool, count_task, &first);
    tpool_completions *completions = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_as_completed(&future, 1, &completions));
    tpool_future_release(future);
    tpool_completions_destroy(completions);
    end_pool(pool);
    CHECK(first.runs == 1);
}

/* The limit of a call of next passes as the first task ends; the iterator is destroyed at once. */
static void next_timeout_against_finish(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *future = submitted(pool, count_task, &first), *yielded = NULL;
    tpool_completions *completions = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_as_completed(&future, 1, &completions));
    tpool_status status = tpool_completions_next(completions, TPOOL_MS(1), &yielded);
    CHECK(status == TPOOL_OK ? yielded == future && tpool_future_done(future) : status == TPOOL_TIMEOUT && !yielded);
    tpool_completions_destroy(completions);
    tpool_future_release(future);
    outcome(status == TPOOL_OK);
    end_pool(pool);
    CHECK(first.runs == 1);
}

/* The first that can expire is added as next goes to sleep, or is asleep. */
static tpool_completions *growing;
static void *add(void *future) {
    CHECK_STATUS(TPOOL_OK, tpool_completions_add(growing, future));
    return NULL;
}
static void add_what_expires_against_next(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    CHECK_STATUS(TPOOL_OK, tpool_pause(pool));
    tpool_task task = { .fn = count_task, .arg = &first, .expires_ns = TPOOL_MS(1) };
    tpool_future *pending = NULL, *future = NULL, *yielded = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&pending));
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, &future));
    CHECK_STATUS(TPOOL_OK, tpool_as_completed(&pending, 1, &growing));
    pthread_t helper = started(add, future);
    CHECK_STATUS(TPOOL_OK, tpool_completions_next(growing, TPOOL_FOREVER, &yielded));
    CHECK(yielded == future);
    join(helper);
    tpool_completions_destroy(growing);
    tpool_future_release(pending);
    tpool_future_release(future);
    CHECK(end_pool(pool).expired == 1 && first.runs == 0);
}

/* The time limit of a waiting task passes as its turn comes, as it is waited for, as it is cancelled. */
static void expiry_against_claim(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_task task = { .fn = count_task, .arg = &first, .arg_free = count_free, .expires_ns = TPOOL_MS(1) };
    tpool_future *future = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, &future));
    tpool_status end = tpool_future_result(future, TPOOL_FOREVER, NULL);
    CHECK(end == TPOOL_OK || end == TPOOL_EXPIRED);
    CHECK(first.runs == (end == TPOOL_OK) && freed.runs == 1);
    outcome(end == TPOOL_OK);
    tpool_future_release(future);
    CHECK(end_pool(pool).expired == (end == TPOOL_EXPIRED));
}
static void expiry_against_cancel(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    CHECK_STATUS(TPOOL_OK, tpool_pause(pool));
    tpool_task task = { .fn = count_task, .arg = &first, .arg_free = count_free, .expires_ns = TPOOL_MS(1) };
    tpool_future *future = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, &future));
    pthread_t helper = started(cancel, future);
    tpool_status end = tpool_future_result(future, TPOOL_FOREVER, NULL);
    join(helper);
    CHECK(end == (helper_cancelled ? TPOOL_CANCELLED : TPOOL_EXPIRED));
    CHECK(first.runs == 0 && freed.runs == 1);
    outcome(helper_cancelled);
    tpool_future_release(future);
    tpool_stats stats = end_pool(pool);
    CHECK(stats.cancelled == helper_cancelled && stats.expired == !helper_cancelled);
}

/* The first of two; the watch on the other is taken back as that one ends. */
static void wait_first_against_finish(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *futures[2] = { submitted(pool, count_task, &first), submitted(pool, count_task, &second) };
    size_t done = 0;
    CHECK_STATUS(TPOOL_OK, tpool_wait(futures, 2, TPOOL_FIRST_COMPLETED, TPOOL_FOREVER, &done));
    CHECK(done >= 1 && tpool_future_done(futures[0]));
    outcome(done == 2);
    for (int i = 0; i < 2; i++) tpool_future_release(futures[i]);
    end_pool(pool);
    CHECK(first.runs == 1 && second.runs == 1);
}

/* A task that stands in the array twice ends as somebody looks which are done. */
static void look_at_one_twice_against_finish(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *future = submitted(pool, count_task, &first), *futures[2] = { future, future };
    size_t done = 0;
    tpool_status status = tpool_wait(futures, 2, TPOOL_FIRST_COMPLETED, 0, &done);
    CHECK(status == (done == 2 ? TPOOL_OK : TPOOL_TIMEOUT));
    CHECK(done == 0 || done == 2);
    outcome(done == 2);
    tpool_future_release(future);
    end_pool(pool);
}
/* The status is that of the partition, though tasks end between the wait's last look and it, and after it. */
static void *raise_one(void *arg) {
    (void)arg;
    return tpool_raise(1, "raised");
}
static void partition_against_finish(tpool_fn fn, tpool_return_when when, size_t enough) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *futures[2] = { submitted(pool, fn, &first), submitted(pool, count_task, &second) };
    size_t done = 0;
    tpool_status status = tpool_wait(futures, 2, when, 0, &done);
    CHECK(status == (done >= enough ? TPOOL_OK : TPOOL_TIMEOUT));
    outcome((int)done);
    for (int i = 0; i < 2; i++) tpool_future_release(futures[i]);
    end_pool(pool);
}
static void partition_of_the_first_against_finish(void) {
    partition_against_finish(count_task, TPOOL_FIRST_COMPLETED, 1);
}
static void partition_of_the_first_exception_against_finish(void) {
    partition_against_finish(raise_one, TPOOL_FIRST_EXCEPTION, 1);
}
static void partition_of_all_against_finish(void) { partition_against_finish(count_task, TPOOL_ALL_COMPLETED, 2); }

/* The limit of the call passes as the task starts or ends. */
static void timeout_against_finish(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_task task = { .fn = count_task, .arg = &first, .arg_free = count_free };
    tpool_status status = tpool_run_with_timeout(pool, &task, TPOOL_MS(1), NULL);
    CHECK(status == TPOOL_OK || status == TPOOL_TIMEOUT);
    tpool_stats stats = end_pool(pool);
    outcome(status == TPOOL_OK ? 0 : stats.completed ? 1 : 2);
    CHECK(stats.completed + stats.cancelled == 1 && first.runs == stats.completed && freed.runs == 1);
    CHECK(status == TPOOL_TIMEOUT || stats.completed == 1);
}

/* A future that the program completes itself: two threads try, one cancels. */
static tpool_status helper_status;
static void *set_result(void *future) {
    helper_status = tpool_future_set_result(future, &first);
    return NULL;
}
static void complete_against_cancel(void) {
    tpool_future *future = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&future));
    pthread_t helper = started(set_result, future), other = started(cancel, future);
    tpool_status end = tpool_future_result(future, TPOOL_FOREVER, NULL);
    join(helper);
    join(other);
    CHECK(end == (helper_cancelled ? TPOOL_CANCELLED : TPOOL_OK));
    CHECK(helper_status == (helper_cancelled ? TPOOL_INVALID_STATE : TPOOL_OK));
    outcome(helper_cancelled);
    tpool_future_release(future);
}
static void complete_against_complete(void) {
    tpool_future *future = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&future));
    pthread_t helper = started(set_result, future);
    tpool_status status = tpool_future_set_error(future, 3, "not so");
    tpool_status end = tpool_future_result(future, TPOOL_FOREVER, NULL);
    join(helper);
    CHECK((status == TPOOL_OK) != (helper_status == TPOOL_OK));
    CHECK(end == (status == TPOOL_OK ? TPOOL_FAILED : TPOOL_OK));
    outcome(status == TPOOL_OK);
    tpool_future_release(future);
}

SCHEDULES(SCENARIO(submit_against_park, .quick = 1, .preemptions = 3),
          SCENARIO(submit_against_submit, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(two_tasks_side_by_side, .quick = 1, .preemptions = 2),
          SCENARIO(cancel_against_claim, .quick = 2, .preemptions = 3, .outcomes = 2),
          SCENARIO(order_against_cancel, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(cancel_against_cancel, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(cancel_against_wait, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(wait_against_finish, .quick = 2, .preemptions = 3),
          SCENARIO(timed_wait_against_finish, .quick = 2, .preemptions = 3, .outcomes = 2),
          SCENARIO(two_waits_against_finish, .quick = 1, .preemptions = 2),
          SCENARIO(finish_against_release, .quick = 2, .preemptions = 3),
          SCENARIO(destroy_against_release, .quick = 1, .preemptions = 2),
          SCENARIO(callbacks_against_finish, .quick = 2, .preemptions = 3, .outcomes = 2),
          SCENARIO(callback_against_cancel, .quick = 1, .preemptions = 3),
          SCENARIO(as_completed_against_cancel, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(completions_destroy_against_finish, .quick = 2, .preemptions = 3),
          SCENARIO(next_timeout_against_finish, .quick = 2, .preemptions = 3, .outcomes = 2),
          SCENARIO(add_what_expires_against_next, .quick = 2, .preemptions = 3),
          SCENARIO(expiry_against_claim, .quick = 2, .preemptions = 3, .outcomes = 2),
          SCENARIO(expiry_against_cancel, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(wait_first_against_finish, .quick = 2, .preemptions = 3, .outcomes = 2),
          SCENARIO(look_at_one_twice_against_finish, .quick = 2, .preemptions = 3, .outcomes = 2),
          SCENARIO(partition_of_the_first_against_finish, .quick = 2, .preemptions = 3, .outcomes = 3),
          SCENARIO(partition_of_the_first_exception_against_finish, .quick = 2, .preemptions = 3, .outcomes = 3),
          SCENARIO(partition_of_all_against_finish, .quick = 2, .preemptions = 3, .outcomes = 3),
          SCENARIO(timeout_against_finish, .quick = 2, .preemptions = 3, .outcomes = 3),
          SCENARIO(complete_against_cancel, .quick = 2, .preemptions = 3, .outcomes = 2),
          SCENARIO(complete_against_complete, .quick = 2, .preemptions = 3, .outcomes = 2))
