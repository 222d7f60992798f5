/* Every interleaving of what a stalled pool needs: the spare for the task that is waited for comes at once. No spare
 * comes by time here: the timer counts as armed and never fires, so that a pool whose need goes unnoticed stays so. */
#define TPOOL__FIRST_STALL_LIMIT TPOOL_FOREVER
#define TPOOL__LAST_STALL_LIMIT TPOOL_FOREVER
#include "schedule.h"

static counter first;
static tpool *pool, *other;
static tpool_future *bare, *wanted;
static gate is_submitted;

static tpool *pool_without_spares(void) { return new_pool((tpool_config){ .max_workers = 1, .max_spares = -1 }); }

/* A wait that runs nothing in place, and ends only with the task. */
static void wait_outside(tpool_future *task) {
    tpool_future *never = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&never));
    tpool_future *both[2] = { never, task };
    CHECK_STATUS(TPOOL_OK, tpool_wait(both, 2, TPOOL_FIRST_COMPLETED, TPOOL_FOREVER, NULL));
    tpool_future_release(never);
}

/* Another task is queued before the one that is waited for. */
static void *wait_for_counted(void *arg) {
    (void)arg;
    tpool_future *future = submitted(pool, count_task, &first);
    wait_outside(future);
    CHECK_STATUS(TPOOL_OK, end_of(future));
    return NULL;
}
static void *never_ends_first(void *arg) {
    CHECK_STATUS(TPOOL_OK, tpool_future_result(arg, TPOOL_FOREVER, NULL));
    return NULL;
}
static void wanted_task_before_others(void) {
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&bare));
    pool = pool_without_spares();
    tpool_future *waits = submitted(pool, wait_for_counted, NULL);
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, never_ends_first, bare, NULL));
    CHECK_STATUS(TPOOL_OK, end_of(waits));
    CHECK(first.runs == 1);
    CHECK_STATUS(TPOOL_OK, tpool_future_set_result(bare, NULL));
    CHECK(end_pool(pool).spared <= 1); /* the one that the wanted task needed */
    tpool_future_release(bare);
}

/* A task waits for one of another pool, which waits for one of the first: that begins as the first one blocks. */
static void *wait_for_first_pool(void *arg) {
    (void)arg;
    tpool_future *future = submitted(pool, count_task, &first);
    CHECK_STATUS(TPOOL_OK, end_of(future));
    return NULL;
}
static void *wait_for_other_pool(void *arg) {
    (void)arg;
    tpool_future *future = submitted(other, wait_for_first_pool, NULL);
    CHECK_STATUS(TPOOL_OK, end_of(future));
    return NULL;
}
static void need_over_another_pool(void) {
    pool = pool_without_spares();
    other = pool_without_spares();
    CHECK_STATUS(TPOOL_OK, end_of(submitted(pool, wait_for_other_pool, NULL)));
    CHECK(first.runs == 1);
    end_pool(pool);
    end_pool(other);
}
static void wait_in_part(size_t begin, size_t end, void *context) {
    (void)begin;
    (void)end;
    (void)context;
    if (tpool_current() == other) (void)wait_for_first_pool(NULL);
}
static void *loop_in_other_pool(void *arg) {
    (void)arg;
    CHECK_STATUS(TPOOL_OK, tpool_for(other, 0, 2, 1, wait_in_part, NULL));
    return NULL;
}
static void need_of_a_loop_over_another_pool(void) {
    pool = pool_without_spares();
    other = pool_without_spares();
    CHECK_STATUS(TPOOL_OK, end_of(submitted(pool, loop_in_other_pool, NULL)));
    outcome(first.runs);
    end_pool(pool);
    end_pool(other);
}

/* The wanted task is cancelled as a spare comes for it. */
static void *wait_for_wanted(void *arg) {
    (void)arg;
    wanted = submitted(pool, count_task, &first);
    tpool_future *future = tpool_future_retain(wanted);
    gate_open(&is_submitted);
    wait_outside(future);
    tpool_status status = tpool_future_result(future, 0, NULL);
    CHECK(status == TPOOL_OK || status == TPOOL_CANCELLED);
    tpool_future_release(future);
    return NULL;
}
static void need_against_cancel(void) {
    pool = pool_without_spares();
    tpool_future *waits = submitted(pool, wait_for_wanted, NULL);
    gate_pass(&is_submitted);
    bool cancelled = tpool_future_cancel(wanted);
    CHECK_STATUS(TPOOL_OK, end_of(waits));
    outcome(cancelled);
    CHECK(first.runs == !cancelled);
    tpool_future_release(wanted);
    end_pool(pool);
}

/* The wait for the first of two ends otherwise as a spare comes for the task. */
static void *wait_for_either(void *arg) {
    (void)arg;
    tpool_future *both[2] = { bare, submitted(pool, count_task, &first) };
    gate_open(&is_submitted);
    CHECK_STATUS(TPOOL_OK, tpool_wait(both, 2, TPOOL_FIRST_COMPLETED, TPOOL_FOREVER, NULL));
    outcome(first.runs);
    for (int i = 0; i < 2; i++)
        if (both[i] != bare) tpool_future_release(both[i]);
    return NULL;
}
static void need_against_another_end(void) {
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&bare));
    pool = pool_without_spares();
    tpool_future *waits = submitted(pool, wait_for_either, NULL);
    gate_pass(&is_submitted);
    CHECK_STATUS(TPOOL_OK, tpool_future_set_result(bare, NULL));
    CHECK_STATUS(TPOOL_OK, end_of(waits));
    end_pool(pool);
    CHECK(first.runs == 1);
    tpool_future_release(bare);
}

/* The same in an iterator. */
static void *wait_for_next(void *arg) {
    (void)arg;
    tpool_completions *completions = NULL;
    tpool_future *task = submitted(pool, count_task, &first), *next = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_as_completed(&task, 1, &completions));
    CHECK_STATUS(TPOOL_OK, tpool_completions_next(completions, TPOOL_FOREVER, &next));
    CHECK(next == task);
    tpool_completions_destroy(completions);
    tpool_future_release(task);
    return NULL;
}
static void need_of_an_iterator(void) {
    pool = pool_without_spares();
    CHECK_STATUS(TPOOL_OK, end_of(submitted(pool, wait_for_next, NULL)));
    CHECK(first.runs == 1);
    end_pool(pool);
}

/* Two blocked workers of a pool: the one that blocks last is asked, the other one's task is needed. */
static void *wait_for_bare(void *arg) {
    (void)arg;
    CHECK_STATUS(TPOOL_OK, tpool_future_result(bare, TPOOL_FOREVER, NULL));
    return NULL;
}
static void *wait_and_set(void *arg) {
    (void)wait_for_counted(arg);
    CHECK_STATUS(TPOOL_OK, tpool_future_set_result(bare, NULL));
    return NULL;
}
static void need_of_the_one_that_blocked_first(void) {
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&bare));
    pool = new_pool((tpool_config){ .max_workers = 2, .max_spares = -1 });
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, wait_and_set, NULL, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, wait_for_bare, NULL, NULL));
    CHECK(end_pool(pool).completed == 3);
    tpool_future_release(bare);
}

/* The chain closes in its middle: a task of a third pool begins to wait for one that runs, and waits already for a task
 * of the first pool. Neither end begins a wait then. */
static tpool *third;
static gate third_waits;
static int64_t third_limit;
static void *wait_for_first_pool_first(void *arg) {
    tpool_future *future = submitted(pool, count_task, &first);
    gate_open(&third_waits);
    tpool_status status = tpool_future_result(future, third_limit, NULL);
    CHECK(status == TPOOL_OK || (status == TPOOL_TIMEOUT && third_limit != TPOOL_FOREVER));
    outcome(status != TPOOL_OK);
    tpool_future_release(future);
    return arg;
}
static void *wait_for_the_third(void *arg) {
    tpool_future *future = submitted(third, wait_for_first_pool_first, NULL);
    gate_pass(&third_waits);
    CHECK_STATUS(TPOOL_OK, end_of(future));
    return arg;
}
static void *wait_for_the_other(void *arg) {
    CHECK_STATUS(TPOOL_OK, end_of(submitted(other, wait_for_the_third, NULL)));
    return arg;
}
static void wait_in_between_closes(int64_t limit) {
    third_limit = limit;
    pool = pool_without_spares();
    other = pool_without_spares();
    third = pool_without_spares();
    CHECK_STATUS(TPOOL_OK, end_of(submitted(pool, wait_for_the_other, NULL)));
    end_pool(pool);
    CHECK(first.runs == 1);
    end_pool(other);
    end_pool(third);
}
static void need_that_a_wait_in_between_closes(void) { wait_in_between_closes(TPOOL_FOREVER); }
/* What waits with a limit is no need by itself, only in such a chain. The limit passes if nobody can go on. */
static void need_of_a_limited_wait(void) { wait_in_between_closes(TPOOL_SEC(100)); }

/* The worker that a need brought finds the next one, and leaves the rest of the queue alone. */
static void *wait_for_two(void *arg) {
    (void)wait_for_counted(NULL);
    (void)wait_for_counted(NULL);
    CHECK_STATUS(TPOOL_OK, tpool_future_set_result(bare, NULL));
    return arg;
}
static void two_needs_of_one_worker(void) {
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&bare));
    pool = pool_without_spares();
    tpool_future *waits = submitted(pool, wait_for_two, NULL);
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, never_ends_first, bare, NULL));
    CHECK_STATUS(TPOOL_OK, end_of(waits));
    CHECK(first.runs == 2);
    CHECK(end_pool(pool).spared <= 2); /* one at a time */
    tpool_future_release(bare);
}

/* A worker of the first pool waits for a task that is queued in it, as that pool is paused and resumed. */
static void need_against_pause(void) {
    pool = pool_without_spares();
    tpool_future *waits = submitted(pool, wait_for_counted, NULL);
    CHECK_STATUS(TPOOL_OK, tpool_pause(pool));
    CHECK_STATUS(TPOOL_OK, tpool_resume(pool));
    CHECK_STATUS(TPOOL_OK, end_of(waits));
    end_pool(pool);
}

/* Its worker has waited before, so that the timer is armed; it blocks while the pool is paused, or as it is resumed. */
static gate is_paused, is_counted;
static void *wait_once_and_then_for_counted(void *arg) {
    gate_open(&is_submitted);
    (void)wait_for_bare(arg);
    gate_pass(&is_paused);
    (void)wait_for_counted(arg);
    gate_open(&is_counted);
    return NULL;
}
static void need_against_resume(void) {
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&bare));
    pool = pool_without_spares();
    tpool_future *waits = submitted(pool, wait_once_and_then_for_counted, NULL);
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, never_ends_first, bare, NULL));
    gate_pass(&is_submitted);
    CHECK_STATUS(TPOOL_OK, tpool_future_set_result(bare, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_pause(pool));
    gate_open(&is_paused);
    CHECK_STATUS(TPOOL_OK, tpool_resume(pool));
    gate_pass(&is_counted); /* a wait of ours would ask the pool */
    CHECK_STATUS(TPOOL_OK, end_of(waits));
    end_pool(pool);
    tpool_future_release(bare);
}

/* Two workers need a task each, at the same time, and these need each other. */
static gate begins[2], meets[2];
static void meet(gate *gates, void *me) {
    gate_open(&gates[(intptr_t)me]);
    gate_pass(&gates[!(intptr_t)me]);
}
static void *meet_the_other(void *me) {
    meet(meets, me);
    return NULL;
}
static void *wait_for_meeting(void *me) {
    meet(begins, me);
    tpool_future *future = submitted(pool, meet_the_other, me);
    wait_outside(future);
    CHECK_STATUS(TPOOL_OK, end_of(future));
    return NULL;
}
static void two_needs_at_once(void) {
    pool = new_pool((tpool_config){ .max_workers = 2, .max_spares = -1 });
    for (intptr_t i = 0; i < 2; i++) CHECK_STATUS(TPOOL_OK, tpool_submit(pool, wait_for_meeting, (void *)i, NULL));
    CHECK(end_pool(pool).spared <= 2);
}

/* A spare is under way, since it blocks in its initializer, as others ask: the same need brings no second one. */
static tpool__u32 initialized;
static bool wait_in_initializer(void *context) {
    (void)context;
    return tpool__add_relaxed(&initialized, 1) == 0 || tpool_future_result(bare, TPOOL_FOREVER, NULL) == TPOOL_OK;
}
static void need_while_its_spare_begins(void) {
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&bare));
    pool = new_pool((tpool_config){ .max_workers = 1, .max_spares = -1, .initializer = wait_in_initializer });
    tpool_future *waits = submitted(pool, wait_for_counted, NULL);
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, count_task, &first, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_future_set_result(bare, NULL));
    CHECK_STATUS(TPOOL_OK, end_of(waits));
    CHECK(end_pool(pool).spared <= 1);
    CHECK(first.runs == 2);
    tpool_future_release(bare);
}

/* A task submits into the full queue of its own pool: the spare takes what it submits from it, or that comes into the
 * queue as a task ends, or the limit passes. */
static int64_t submit_limit;
static void *submit_three(void *arg) {
    tpool_task task = { .fn = count_task, .arg = &first, .name = "one of three" }; /* so it has an extra block */
    tpool_future *future = NULL;
    for (int i = 0; i < 3; i++) {
        tpool_status status = tpool_submit_within(pool, &task, submit_limit, i == 2 ? &future : NULL);
        CHECK(status == TPOOL_OK || (status == TPOOL_TIMEOUT && submit_limit != TPOOL_FOREVER));
        if (status == TPOOL_TIMEOUT) tpool__add_relaxed(&initialized, 1);
    }
    if (future) tpool_future_release(future);
    return arg;
}
static void submit_into_own_full_queue_within(int64_t limit) {
    submit_limit = limit;
    pool = new_pool((tpool_config){ .max_workers = 1, .max_spares = -1, .queue_capacity = 1 });
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, submit_three, NULL, NULL));
    end_pool(pool);
    CHECK(first.runs + (int)tpool__load_relaxed(&initialized) == 3);
}
static void submit_into_own_full_queue(void) { submit_into_own_full_queue_within(TPOOL_FOREVER); }
static void submit_into_own_full_queue_against_its_limit(void) { submit_into_own_full_queue_within(TPOOL_MS(1)); }

/* A worker searches as the other one blocks, and finds what computes until the blocked one has what it needs. */
static gate computes;
static void *pass_computes(void *arg) {
    gate_pass(&computes);
    return arg;
}
static void need_beside_a_searcher(void) {
    pool = new_pool((tpool_config){ .max_workers = 2, .max_spares = -1 });
    tpool_future *waits = submitted(pool, wait_for_counted, NULL);
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, pass_computes, NULL, NULL));
    CHECK_STATUS(TPOOL_OK, end_of(waits));
    gate_open(&computes);
    CHECK(first.runs == 1);
    end_pool(pool);
}

/* A worker in its initializer is one that comes; it then takes what computes. */
static bool pass_initializer(void *context) {
    (void)context;
    if (tpool__add_relaxed(&initialized, 1) == 1) gate_pass(&is_submitted);
    return true;
}
static void *wait_for_counted_at_once(void *arg) {
    gate_open(&is_counted);
    return wait_for_counted(arg);
}
static void need_beside_an_initializer(void) {
    pool = new_pool((tpool_config){ .max_workers = 2, .max_spares = -1, .initializer = pass_initializer });
    tpool_future *waits = submitted(pool, wait_for_counted_at_once, NULL);
    gate_pass(&is_counted);
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, pass_computes, NULL, NULL));
    gate_open(&is_submitted);
    CHECK_STATUS(TPOOL_OK, end_of(waits));
    gate_open(&computes);
    CHECK(first.runs == 1);
    end_pool(pool);
}

/* A stalled pool has settled: what comes now starts nobody, unless it goes to an iterator that is waited for. */
static tpool_completions *iterated;
static gate is_iterated;
static void *wait_for_what_comes(void *arg) {
    tpool_future *next = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_as_completed(&bare, 1, &iterated));
    gate_open(&is_iterated);
    CHECK_STATUS(TPOOL_OK, tpool_completions_next(iterated, TPOOL_FOREVER, &next));
    CHECK(next != bare);
    tpool_completions_destroy(iterated);
    return arg;
}
static void need_of_an_iterator_that_gets_a_task(void) {
    tpool_task task = { .fn = count_task, .arg = &first };
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&bare));
    pool = pool_without_spares();
    tpool_future *waits = submitted(pool, wait_for_what_comes, NULL);
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, never_ends_first, bare, NULL));
    gate_pass(&is_iterated);
    task.completions = iterated;
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    CHECK_STATUS(TPOOL_OK, end_of(waits));
    CHECK_STATUS(TPOOL_OK, tpool_future_set_result(bare, NULL));
    end_pool(pool);
    CHECK(first.runs == 1);
    tpool_future_release(bare);
}

/* A thread that runs no task waits for one that is queued behind others, before or after all workers are blocked. */
static void need_of_a_thread_outside(void) {
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&bare));
    pool = pool_without_spares();
    for (int i = 0; i < 2; i++) CHECK_STATUS(TPOOL_OK, tpool_submit(pool, never_ends_first, bare, NULL));
    CHECK_STATUS(TPOOL_OK, end_of(submitted(pool, count_task, &first)));
    CHECK_STATUS(TPOOL_OK, tpool_future_set_result(bare, NULL));
    CHECK(end_pool(pool).spared <= 1);
    tpool_future_release(bare);
}

/* The pool is freed as the thread that waited for its last task goes. */
static void *wait_for_wanted_outside(void *arg) {
    CHECK_STATUS(TPOOL_OK, tpool_future_result(wanted, TPOOL_FOREVER, NULL));
    tpool_future_release(wanted);
    return arg;
}
static void wait_outside_against_destroy(void) {
    pool = new_pool((tpool_config){ .max_workers = 1 });
    wanted = submitted(pool, count_task, &first);
    pthread_t waiter = started(wait_for_wanted_outside, NULL);
    end_pool(pool);
    join(waiter);
    CHECK(first.runs == 1);
}

/* A long-running task fills its own pool's queue, and waits for room there; the pool's worker waits, too. */
static void *submit_two(void *arg) {
    for (int i = 0; i < 2; i++) CHECK_STATUS(TPOOL_OK, tpool_submit(pool, count_task, &first, NULL));
    return arg;
}
static void submit_of_a_long_running_task_into_its_full_queue(void) {
    pool = new_pool((tpool_config){ .max_workers = 1, .max_spares = -1, .queue_capacity = 1 });
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&bare));
    tpool_future *waits = submitted(pool, never_ends_first, bare);
    tpool_task task = { .fn = submit_two, .long_running = true };
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, &wanted));
    CHECK_STATUS(TPOOL_OK, end_of(wanted));
    CHECK_STATUS(TPOOL_OK, tpool_future_set_result(bare, NULL));
    CHECK_STATUS(TPOOL_OK, end_of(waits));
    end_pool(pool);
    CHECK(first.runs == 2);
    tpool_future_release(bare);
}

SCHEDULES(SCENARIO(wanted_task_before_others, .quick = 1, .preemptions = 2),
          SCENARIO(need_over_another_pool, .quick = 1, .preemptions = 2),
          SCENARIO(need_of_a_loop_over_another_pool, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(need_against_cancel, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(need_against_another_end, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(need_of_an_iterator, .quick = 1, .preemptions = 2),
          SCENARIO(need_of_the_one_that_blocked_first, .quick = 1, .preemptions = 2),
          SCENARIO(need_that_a_wait_in_between_closes, .quick = 1, .preemptions = 2),
          SCENARIO(need_of_a_limited_wait, .quick = 1, .preemptions = 1, .outcomes = 1),
          SCENARIO(two_needs_of_one_worker, .quick = 1, .preemptions = 2),
          SCENARIO(need_against_pause, .quick = 1, .preemptions = 2),
          SCENARIO(need_against_resume, .quick = 1, .preemptions = 2),
          SCENARIO(two_needs_at_once, .quick = 0, .preemptions = 1),
          SCENARIO(need_while_its_spare_begins, .quick = 1, .preemptions = 2),
          SCENARIO(submit_into_own_full_queue, .quick = 1, .preemptions = 2),
          SCENARIO(submit_into_own_full_queue_against_its_limit, .quick = 1, .preemptions = 2),
          SCENARIO(submit_of_a_long_running_task_into_its_full_queue, .quick = 1, .preemptions = 2),
          SCENARIO(need_beside_a_searcher, .quick = 1, .preemptions = 2),
          SCENARIO(need_beside_an_initializer, .quick = 1, .preemptions = 2),
          SCENARIO(need_of_an_iterator_that_gets_a_task, .quick = 1, .preemptions = 2),
          SCENARIO(need_of_a_thread_outside, .quick = 1, .preemptions = 2),
          SCENARIO(wait_outside_against_destroy, .quick = 1, .preemptions = 2))
