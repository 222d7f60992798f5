/* Every interleaving of tasks that wait for tasks: in place, spare workers, cycles, fork and join, loops, maps. */
#include "schedule.h"

static counter first;
static gate opened, both;
static tpool *pool;
static tpool_future *futures[2];
static tpool_status statuses[2];

/* A task waits for what only a spare worker can run. */
static void *complete(void *future) {
    CHECK_STATUS(TPOOL_OK, tpool_future_set_result(future, &first));
    return NULL;
}
static void *wait_for_spare(void *arg) {
    tpool_future *bare = NULL;
    void *result = NULL;
    (void)arg;
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&bare));
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, complete, bare, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_future_result(bare, TPOOL_FOREVER, &result));
    CHECK(result == &first);
    tpool_future_release(bare);
    return NULL;
}
static void nested_wait_with_spare(void) {
    pool = new_pool((tpool_config){ .max_workers = 1 });
    CHECK_STATUS(TPOOL_OK, end_of(submitted(pool, wait_for_spare, NULL)));
    end_pool(pool);
}
/* One blocks as another thread submits: work never waits while all workers are blocked. */
static void *wait_for_gate_future(void *bare) {
    CHECK_STATUS(TPOOL_OK, tpool_future_result(bare, TPOOL_FOREVER, NULL));
    return NULL;
}
static void block_against_submit_with(int spares) {
    tpool_future *bare = NULL;
    pool = new_pool((tpool_config){ .max_workers = 1, .max_spares = spares });
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&bare));
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, wait_for_gate_future, bare, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, complete, bare, NULL));
    CHECK(end_pool(pool).completed == 2);
    tpool_future_release(bare);
}
static void block_against_submit(void) { block_against_submit_with(0); }
/* The spare comes by time. */
static void block_without_spares_against_submit(void) { block_against_submit_with(-1); }

/* What stalls a pool ends as its time comes, or just before the pool is destroyed, with its timer armed. */
static void stall_ends_against_its_time(void) {
    tpool_future *bare = NULL;
    counter rest = { 0 };
    pool = new_pool((tpool_config){ .max_workers = 1, .max_spares = -1 });
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&bare));
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, wait_for_gate_future, bare, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, count_task, &rest, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_future_set_result(bare, NULL));
    CHECK(end_pool(pool).completed == 2);
    CHECK(rest.runs == 1);
    tpool_future_release(bare);
}
/* The same where the worker waits for a task: the timer is armed again as it fires, beside the pool's end. */
static gate other_task;
static void *pass_other_task(void *arg) {
    gate_pass(&other_task);
    return arg;
}
static void *wait_for_task(void *task) {
    CHECK_STATUS(TPOOL_OK, tpool_future_result(task, TPOOL_FOREVER, NULL));
    return NULL;
}
static void stall_over_a_task_ends_against_its_time(void) {
    counter rest = { 0 };
    tpool *other = new_pool((tpool_config){ .max_workers = 1 });
    pool = new_pool((tpool_config){ .max_workers = 1, .max_spares = -1 });
    tpool_future *task = submitted(other, pass_other_task, NULL);
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, wait_for_task, task, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, count_task, &rest, NULL));
    gate_open(&other_task);
    end_pool(pool);
    CHECK(rest.runs == 1);
    tpool_future_release(task);
    end_pool(other);
}
/* Waits that end by their limits stall it; what is behind them comes all the same. */
static tpool_future *polled;
static void *poll_future(void *arg) {
    while (tpool_future_result(polled, TPOOL_MS(4), NULL) == TPOOL_TIMEOUT) { }
    return arg;
}
static void polls_hold_no_spare_off(void) {
    pool = new_pool((tpool_config){ .max_workers = 1, .max_spares = -1 });
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&polled));
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, poll_future, NULL, NULL));
    int64_t began = tpool_now();
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, complete, polled, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_future_result(polled, TPOOL_FOREVER, NULL));
    CHECK(tpool_now() - began < TPOOL_SEC(3)); /* the clock may go on to when the timekeeper ends */
    CHECK(end_pool(pool).completed == 2);
    tpool_future_release(polled);
}

/* The waiter wants to run its task in place as another worker takes it, or as it is cancelled. */
static void *wait_in_place(void *arg) {
    (void)arg;
    tpool_future *future = submitted(pool, count_task, &first);
    CHECK_STATUS(TPOOL_OK, end_of(future));
    return NULL;
}
static void in_place_against_claim(void) {
    pool = new_pool((tpool_config){ .max_workers = 2 });
    CHECK_STATUS(TPOOL_OK, tpool_warm_up(pool, 2));
    CHECK_STATUS(TPOOL_OK, end_of(submitted(pool, wait_in_place, NULL)));
    outcome(end_pool(pool).inlined == 1);
    CHECK(first.runs == 1);
}
static void *wait_for_cancelled(void *arg) {
    (void)arg;
    futures[0] = submitted(pool, count_task, &first);
    futures[1] = tpool_future_retain(futures[0]); /* the other thread's */
    gate_open(&opened);
    statuses[0] = end_of(futures[0]);
    return NULL;
}
static void in_place_against_cancel(void) {
    pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *outer = submitted(pool, wait_for_cancelled, NULL);
    gate_pass(&opened);
    bool cancelled = tpool_future_cancel(futures[1]);
    CHECK_STATUS(TPOOL_OK, end_of(outer));
    CHECK(statuses[0] == (cancelled ? TPOOL_CANCELLED : TPOOL_OK) && first.runs == !cancelled);
    tpool_future_release(futures[1]);
    outcome(cancelled);
    end_pool(pool);
}

/* Two tasks wait for each other: the one that closes the cycle learns it, and only that one. */
static void *wait_for_each_other(void *arg) {
    int other = (int)(intptr_t)arg;
    gate_pass(&both);
    statuses[1 - other] = tpool_future_result(futures[other], TPOOL_FOREVER, NULL);
    return NULL;
}
static void deadlock_from_both_sides(void) {
    pool = new_pool((tpool_config){ .max_workers = 2 });
    futures[0] = submitted(pool, wait_for_each_other, (void *)1);
    futures[1] = submitted(pool, wait_for_each_other, (void *)0);
    gate_open(&both);
    for (int i = 0; i < 2; i++) CHECK_STATUS(TPOOL_OK, tpool_future_result(futures[i], TPOOL_FOREVER, NULL));
    CHECK((statuses[0] == TPOOL_DEADLOCK) + (statuses[1] == TPOOL_DEADLOCK) == 1);
    CHECK((statuses[0] == TPOOL_OK) + (statuses[1] == TPOOL_OK) == 1);
    outcome(statuses[0] == TPOOL_DEADLOCK);
    for (int i = 0; i < 2; i++) tpool_future_release(futures[i]);
    end_pool(pool);
}
/* The same across two pools, where neither can run the other's in place. */
static void deadlock_across_pools(void) {
    tpool *other = new_pool((tpool_config){ .max_workers = 1 });
    pool = new_pool((tpool_config){ .max_workers = 1 });
    futures[0] = submitted(pool, wait_for_each_other, (void *)1);
    futures[1] = submitted(other, wait_for_each_other, (void *)0);
    gate_open(&both);
    for (int i = 0; i < 2; i++) CHECK_STATUS(TPOOL_OK, tpool_future_result(futures[i], TPOOL_FOREVER, NULL));
    CHECK((statuses[0] == TPOOL_DEADLOCK) + (statuses[1] == TPOOL_DEADLOCK) == 1);
    outcome(statuses[0] == TPOOL_DEADLOCK);
    for (int i = 0; i < 2; i++) tpool_future_release(futures[i]);
    end_pool(pool);
    end_pool(other);
}

/* A job is joined as a thief takes it, runs it, or ends it. */
static pthread_t forker;
static void *add_one(void *arg) {
    outcome(pthread_self() != forker);
    ((int *)arg)[0] += 1;
    return arg;
}
static void *fork_one(void *arg) {
    int sum = 0;
    tpool_job job;
    (void)arg;
    forker = pthread_self();
    tpool_fork(&job, add_one, &sum);
    CHECK(tpool_join(&job) == &sum && sum == 1);
    return NULL;
}
static void fork_join_against_thief(void) {
    pool = new_pool((tpool_config){ .max_workers = 2 });
    CHECK_STATUS(TPOOL_OK, tpool_warm_up(pool, 2));
    CHECK_STATUS(TPOOL_OK, end_of(submitted(pool, fork_one, NULL)));
    end_pool(pool);
}
static void *fork_two(void *arg) {
    int sums[2] = { 0, 0 };
    tpool_job jobs[2];
    (void)arg;
    forker = pthread_self();
    tpool_fork(&jobs[0], add_one, &sums[0]);
    tpool_fork(&jobs[1], add_one, &sums[1]);
    CHECK(tpool_join(&jobs[1]) == &sums[1]);
    CHECK(tpool_join(&jobs[0]) == &sums[0]);
    CHECK(sums[0] == 1 && sums[1] == 1);
    return NULL;
}
static void two_forks_against_thief(void) {
    pool = new_pool((tpool_config){ .max_workers = 2 });
    CHECK_STATUS(TPOOL_OK, tpool_warm_up(pool, 2));
    CHECK_STATUS(TPOOL_OK, end_of(submitted(pool, fork_two, NULL)));
    end_pool(pool);
}
/* The stolen job waits for something that only a spare worker can bring. */
static void *pass_gate_of_fork(void *arg) {
    outcome(pthread_self() != forker);
    CHECK_STATUS(TPOOL_OK, tpool_future_result(arg, TPOOL_FOREVER, NULL));
    return NULL;
}
static void *fork_and_complete(void *arg) {
    tpool_future *bare = NULL;
    tpool_job job;
    (void)arg;
    forker = pthread_self();
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&bare));
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, complete, bare, NULL));
    tpool_fork(&job, pass_gate_of_fork, bare);
    (void)tpool_join(&job);
    tpool_future_release(bare);
    return NULL;
}
static void join_against_blocked_job(void) {
    pool = new_pool((tpool_config){ .max_workers = 2 });
    CHECK_STATUS(TPOOL_OK, tpool_warm_up(pool, 2));
    CHECK_STATUS(TPOOL_OK, end_of(submitted(pool, fork_and_complete, NULL)));
    end_pool(pool);
}

/* The thread that forked ends as a thief takes the job, runs it, or ends it. */
static atomic_int jobs_run;
static void *count_one(void *arg) {
    CHECK(pthread_self() != forker); /* nobody joins it */
    (void)tpool_raise(1, "raised");  /* the task is still there */
    atomic_fetch_add(&jobs_run, 1);
    return arg;
}
static void *fork_and_end(void *arg) {
    tpool_job job;
    forker = pthread_self();
    tpool_fork(&job, count_one, arg);
    pthread_exit(NULL);
    return arg;
}
static void forker_ends_against_thief(void) {
    pool = new_pool((tpool_config){ .max_workers = 2 });
    CHECK_STATUS(TPOOL_OK, tpool_warm_up(pool, 2));
    tpool_future *future = submitted(pool, fork_and_end, NULL);
    CHECK_STATUS(TPOOL_BROKEN, end_of(future));
    outcome(atomic_load(&jobs_run));
    CHECK(end_pool(pool).failed == 1);
    CHECK(atomic_load(&jobs_run) <= 1);
    atomic_store(&jobs_run, 0);
}
/* A thief ends its thread as its job is joined. */
static void *end_elsewhere(void *arg) {
    bool stolen = pthread_self() != forker;
    outcome(stolen);
    if (stolen) pthread_exit(NULL);
    return arg;
}
static void *join_what_ends(void *arg) {
    int here = 0;
    tpool_job job;
    (void)arg;
    forker = pthread_self();
    tpool_fork(&job, end_elsewhere, &here);
    return tpool_join(&job);
}
static void thief_ends_against_join(void) {
    void *result = NULL;
    pool = new_pool((tpool_config){ .max_workers = 2 });
    CHECK_STATUS(TPOOL_OK, tpool_warm_up(pool, 2));
    tpool_future *future = submitted(pool, join_what_ends, NULL);
    tpool_status status = tpool_future_result(future, TPOOL_FOREVER, &result);
    CHECK(status == (result ? TPOOL_OK : TPOOL_BROKEN));
    tpool_future_release(future);
    end_pool(pool);
}

/* A loop's parts are taken by the caller and by a worker. */
static counter parts[2];
static void count_part(size_t begin, size_t end, void *context) {
    (void)context;
    outcome(tpool_current() != NULL);
    for (size_t i = begin; i < end; i++) atomic_fetch_add(&parts[i].runs, 1);
}
static void loop_against_worker(void) {
    pool = new_pool((tpool_config){ .max_workers = 1 });
    CHECK_STATUS(TPOOL_OK, tpool_for(pool, 0, 2, 1, count_part, NULL));
    CHECK(parts[0].runs == 1 && parts[1].runs == 1);
    end_pool(pool);
}
/* A map's consumer closes it as its chunks run. */
static void *twice(void *item, void *context) {
    (void)context;
    return (void *)(*(intptr_t *)item * 2);
}
static void map_against_worker(void) {
    static intptr_t items[2] = { 10, 20 };
    tpool_map_spec spec = { .fn = twice, .items = items, .count = 2, .stride = sizeof *items, .chunk_size = 1 };
    tpool_map_iter *iter = NULL;
    void *result = NULL;
    pool = new_pool((tpool_config){ .max_workers = 1 });
    CHECK_STATUS(TPOOL_OK, tpool_map(pool, &spec, &iter));
    for (int i = 0; i < 2; i++) {
        CHECK_STATUS(TPOOL_OK, tpool_map_next(iter, TPOOL_FOREVER, &result));
        CHECK((intptr_t)result == 2 * items[i]);
    }
    CHECK_STATUS(TPOOL_END, tpool_map_next(iter, TPOOL_FOREVER, &result));
    tpool_map_close(iter);
    end_pool(pool);
}
/* Unordered: the two chunks end in either order, and each result comes with its own number. */
static void unordered_map_against_workers(void) {
    static intptr_t items[2] = { 10, 20 };
    tpool_map_spec spec = {
        .fn = twice, .items = items, .count = 2, .stride = sizeof *items, .chunk_size = 1, .unordered = true
    };
    tpool_map_iter *iter = NULL;
    void *result = NULL;
    size_t first = 2;
    pool = new_pool((tpool_config){ .max_workers = 2 });
    CHECK_STATUS(TPOOL_OK, tpool_map(pool, &spec, &iter));
    for (int i = 0; i < 2; i++) {
        CHECK_STATUS(TPOOL_OK, tpool_map_next(iter, TPOOL_FOREVER, &result));
        size_t index = tpool_map_index(iter);
        CHECK(index < 2 && index != first && tpool_map_item(iter) == &items[index]);
        CHECK((intptr_t)result == 2 * items[index]);
        if (i == 0) first = index;
    }
    CHECK_STATUS(TPOOL_END, tpool_map_next(iter, TPOOL_FOREVER, &result));
    tpool_map_close(iter);
    outcome((int)first);
    end_pool(pool);
}
static void map_close_against_worker(void) {
    static intptr_t items[2] = { 10, 20 };
    tpool_map_spec spec = { .fn = twice, .items = items, .count = 2, .stride = sizeof *items, .chunk_size = 1 };
    tpool_map_iter *iter = NULL;
    pool = new_pool((tpool_config){ .max_workers = 1 });
    CHECK_STATUS(TPOOL_OK, tpool_map(pool, &spec, &iter));
    tpool_map_close(iter);
    end_pool(pool);
}
/* A cancelling shutdown comes while a map is consumed. */
static void *shut_down(void *arg) {
    (void)arg;
    CHECK_STATUS(TPOOL_OK, tpool_shutdown(pool, TPOOL_CANCEL_PENDING));
    return NULL;
}
static void map_against_cancelling_shutdown(void) {
    static intptr_t items[2] = { 10, 20 };
    tpool_map_spec spec = { .fn = twice, .items = items, .count = 2, .stride = sizeof *items, .chunk_size = 1 };
    tpool_map_iter *iter = NULL;
    int cancelled = 0;
    void *result = NULL;
    pool = new_pool((tpool_config){ .max_workers = 1 });
    CHECK_STATUS(TPOOL_OK, tpool_map(pool, &spec, &iter));
    pthread_t helper = started(shut_down, NULL);
    for (int i = 0; i < 2; i++) {
        tpool_status status = tpool_map_next(iter, TPOOL_FOREVER, &result);
        cancelled += status == TPOOL_CANCELLED;
        CHECK(status == TPOOL_OK || status == TPOOL_CANCELLED);
        CHECK((intptr_t)result == (status == TPOOL_OK ? 2 * items[i] : 0));
    }
    CHECK_STATUS(TPOOL_END, tpool_map_next(iter, TPOOL_FOREVER, &result));
    tpool_map_close(iter);
    join(helper);
    outcome(cancelled);
    end_pool(pool);
}

/* A task waits for what expires in a busy pool's queue, with a callback that waits for what only a spare brings. */
static tpool *paused;
static tpool_future *brought, *expiring, *never;
static void wait_for_what_is_brought(tpool_future *future, void *context) {
    (void)context;
    CHECK_STATUS(TPOOL_EXPIRED, tpool_future_result(future, 0, NULL));
    gate_open(&opened);
    CHECK_STATUS(TPOOL_OK, tpool_future_result(brought, TPOOL_FOREVER, NULL));
}
static gate is_held, let_go;
static void *hold_worker(void *arg) {
    gate_open(&is_held);
    gate_pass(&let_go);
    return arg;
}
static void expire_in_a_wait(tpool_fn waits) {
    tpool_task task = { .fn = count_task, .arg = &first, .expires_ns = TPOOL_MS(1) };
    paused = new_pool((tpool_config){ .max_workers = 1 });
    CHECK_STATUS(TPOOL_OK, tpool_submit(paused, hold_worker, NULL, NULL)); /* an idle one would end what expires */
    gate_pass(&is_held);
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(paused, &task, &expiring));
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&brought));
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&never));
    CHECK_STATUS(TPOOL_OK, tpool_future_add_done_callback(expiring, wait_for_what_is_brought, NULL));
    pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *waiter = submitted(pool, waits, NULL);
    gate_pass(&opened);
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, complete, brought, NULL));
    CHECK_STATUS(TPOOL_OK, end_of(waiter));
    CHECK(end_pool(pool).completed == 2);
    tpool_future_release(expiring);
    tpool_future_release(brought);
    tpool_future_release(never);
    gate_open(&let_go);
    CHECK(end_pool(paused).expired == 1 && first.runs == 0);
}
static void *wait_for_the_end(void *arg) {
    (void)arg;
    CHECK_STATUS(TPOOL_EXPIRED, tpool_future_result(expiring, TPOOL_FOREVER, NULL));
    return NULL;
}
static void *wait_for_the_first(void *arg) {
    tpool_future *both[2] = { never, expiring };
    (void)arg;
    CHECK_STATUS(TPOOL_OK, tpool_wait(both, 2, TPOOL_FIRST_COMPLETED, TPOOL_FOREVER, NULL));
    return NULL;
}
static void *wait_for_the_next(void *arg) {
    tpool_completions *completions = NULL;
    tpool_future *both[2] = { never, expiring }, *next = NULL;
    (void)arg;
    CHECK_STATUS(TPOOL_OK, tpool_as_completed(both, 2, &completions));
    CHECK_STATUS(TPOOL_OK, tpool_completions_next(completions, TPOOL_FOREVER, &next));
    CHECK(next == expiring);
    tpool_completions_destroy(completions);
    return NULL;
}
static void expiry_in_a_wait_for_one(void) { expire_in_a_wait(wait_for_the_end); }
static void expiry_in_a_wait_for_the_first(void) { expire_in_a_wait(wait_for_the_first); }
static void expiry_in_an_iterator(void) { expire_in_a_wait(wait_for_the_next); }

/* A callback cancels a pool's task, whose callback is still to come as the pool is destroyed. */
static counter late;
static void count_callback(tpool_future *future, void *context) {
    (void)future;
    atomic_fetch_add(&((counter *)context)->runs, 1);
}
static void cancel_and_wait(tpool_future *future, void *context) {
    (void)future;
    bool cancelled = tpool_future_cancel(context);
    outcome(cancelled);
    CHECK(late.runs == 0 || !cancelled);
}
static void *set_result(void *future) {
    CHECK_STATUS(TPOOL_OK, tpool_future_set_result(future, NULL));
    return NULL;
}
static void listed_callback_against_destroy(void) {
    tpool_future *bare = NULL;
    pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *task = submitted(pool, count_task, &first);
    CHECK_STATUS(TPOOL_OK, tpool_future_add_done_callback(task, count_callback, &late));
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&bare));
    CHECK_STATUS(TPOOL_OK, tpool_future_add_done_callback(bare, cancel_and_wait, task));
    pthread_t helper = started(set_result, bare);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    CHECK(late.runs == 1);
    join(helper);
    tpool_future_release(task);
    tpool_future_release(bare);
}

SCHEDULES(SCENARIO(nested_wait_with_spare, .quick = 1, .preemptions = 2),
          SCENARIO(block_against_submit, .quick = 1, .preemptions = 2),
          SCENARIO(block_without_spares_against_submit, .quick = 1, .preemptions = 2),
          SCENARIO(stall_ends_against_its_time, .quick = 1, .preemptions = 2),
          SCENARIO(stall_over_a_task_ends_against_its_time, .quick = 1, .preemptions = 2),
          SCENARIO(polls_hold_no_spare_off, .quick = 1, .preemptions = 1),
          SCENARIO(in_place_against_claim, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(in_place_against_cancel, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(deadlock_from_both_sides, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(deadlock_across_pools, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(fork_join_against_thief, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(two_forks_against_thief, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(join_against_blocked_job, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(forker_ends_against_thief, .quick = 1, .preemptions = 2),
          SCENARIO(thief_ends_against_join, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(loop_against_worker, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(map_against_worker, .quick = 1, .preemptions = 2),
          SCENARIO(unordered_map_against_workers, .quick = 1, .preemptions = 1, .outcomes = 2),
          SCENARIO(map_close_against_worker, .quick = 1, .preemptions = 2),
          SCENARIO(map_against_cancelling_shutdown, .quick = 1, .preemptions = 2, .outcomes = 3),
          SCENARIO(expiry_in_a_wait_for_one, .quick = 1, .preemptions = 1),
          SCENARIO(expiry_in_a_wait_for_the_first, .quick = 1, .preemptions = 1),
          SCENARIO(expiry_in_an_iterator, .quick = 1, .preemptions = 1),
          SCENARIO(listed_callback_against_destroy, .quick = 1, .preemptions = 2, .outcomes = 2))
