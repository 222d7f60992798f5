/* Scenarios that are too large to exhaust, by chance (PCT): more workers, more tasks, everything at once. */
#include "schedule.h"

enum { TASKS = 6 };
static counter runs[TASKS], freed[TASKS], spread;
static tpool *pool;
static tpool_future *futures[TASKS];
static bool was_cancelled[TASKS];

static void count_free(void *arg) { atomic_fetch_add(&freed[*(int *)arg].runs, 1); }
static void *spread_and_wait(void *arg) {
    int i = *(int *)arg;
    atomic_fetch_add(&runs[i].runs, 1);
    tpool_future *future = NULL;
    if (tpool_submit(pool, count_task, &spread, &future) != TPOOL_OK) return NULL; /* shut down meanwhile */
    tpool_status end = end_of(future);
    CHECK(end == TPOOL_OK || end == TPOOL_CANCELLED);
    return arg;
}
static void *cancel_every_other(void *arg) {
    for (int i = 0; i < TASKS; i += 2) was_cancelled[i] = futures[i] && tpool_future_cancel(futures[i]);
    return arg;
}
static void submit_all(void) {
    static int numbers[TASKS] = { 0, 1, 2, 3, 4, 5 };
    for (int i = 0; i < TASKS; i++) {
        tpool_task task = { .fn = spread_and_wait, .arg = &numbers[i], .arg_free = count_free, .priority = i % 3 - 1 };
        CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, &futures[i]));
    }
}
/* Every task ends once and as its future says, whatever else goes on. */
static void check_all(void) {
    for (int i = 0; i < TASKS; i++) {
        tpool_status end = tpool_future_result(futures[i], TPOOL_FOREVER, NULL);
        CHECK(end == TPOOL_OK || end == TPOOL_CANCELLED);
        CHECK(runs[i].runs == (end == TPOOL_OK) && freed[i].runs == 1);
        CHECK(!was_cancelled[i] || end == TPOOL_CANCELLED);
    }
}
static void release_all(void) {
    for (int i = 0; i < TASKS; i++) tpool_future_release(futures[i]);
}

static void tasks_that_wait_beside_cancels(void) {
    pool = new_pool((tpool_config){ .max_workers = 2 });
    submit_all();
    pthread_t helper = started(cancel_every_other, NULL);
    check_all();
    join(helper);
    release_all();
    end_pool(pool);
}
static void *pause_and_resize(void *arg) {
    CHECK_STATUS(TPOOL_OK, tpool_pause(pool));
    CHECK_STATUS(TPOOL_OK, tpool_resize(pool, 1));
    CHECK_STATUS(TPOOL_OK, tpool_resume(pool));
    CHECK_STATUS(TPOOL_OK, tpool_resize(pool, 3));
    return arg;
}
static void pause_and_resize_beside_tasks(void) {
    pool = new_pool((tpool_config){ .max_workers = 3, .idle_timeout_ns = TPOOL_MS(1) });
    pthread_t helper = started(pause_and_resize, NULL);
    submit_all();
    check_all();
    join(helper);
    release_all();
    end_pool(pool);
}
static void *shut_down(void *flags) {
    CHECK_STATUS(TPOOL_OK, tpool_shutdown(pool, (unsigned)(uintptr_t)flags));
    return NULL;
}
static void cancelling_shutdown_beside_tasks(void) {
    pool = new_pool((tpool_config){ .max_workers = 2 });
    submit_all();
    pthread_t helpers[2] = { started(shut_down, (void *)(uintptr_t)(TPOOL_WAIT | TPOOL_CANCEL_PENDING)),
                             started(cancel_every_other, NULL) };
    check_all();
    for (int i = 0; i < 2; i++) join(helpers[i]);
    release_all();
    end_pool(pool);
}
/* Sums a tree by fork and join; thieves take what they can. */
static void *sum_tree(void *arg) {
    int depth = *(int *)arg, below = depth - 1;
    if (depth == 0) return (void *)1;
    tpool_job job;
    tpool_fork(&job, sum_tree, &below);
    intptr_t here = (intptr_t)sum_tree(&below);
    return (void *)(here + (intptr_t)tpool_join(&job));
}
static void tree_of_forks(void) {
    static int depth = 3;
    void *sum = NULL;
    pool = new_pool((tpool_config){ .max_workers = 3 });
    CHECK_STATUS(TPOOL_OK, tpool_warm_up(pool, 3));
    tpool_future *future = submitted(pool, sum_tree, &depth);
    CHECK_STATUS(TPOOL_OK, tpool_future_result(future, TPOOL_FOREVER, &sum));
    CHECK((intptr_t)sum == 8);
    tpool_future_release(future);
    end_pool(pool);
}
/* Full queues with submitters that come, go and are served in turn. */
static void *submit_three(void *arg) {
    for (int i = 0; i < 3; i++) CHECK_STATUS(TPOOL_OK, tpool_submit(pool, count_task, arg, NULL));
    return NULL;
}
static void submitters_of_a_full_queue(void) {
    pool = new_pool((tpool_config){ .max_workers = 2, .queue_capacity = 1 });
    pthread_t helpers[2] = { started(submit_three, &runs[0]), started(submit_three, &runs[1]) };
    (void)submit_three(&runs[2]);
    for (int i = 0; i < 2; i++) join(helpers[i]);
    end_pool(pool);
    for (int i = 0; i < 3; i++) CHECK(runs[i].runs == 3);
}
/* On two CPUs workers and waiters look around before they sleep. */
static void spinners_of_two_cpus(void) {
    pool = new_pool((tpool_config){ .max_workers = 2 });
    pthread_t helper = started(submit_three, &runs[0]);
    for (int i = 0; i < 3; i++) CHECK_STATUS(TPOOL_OK, end_of(submitted(pool, count_task, &runs[1])));
    join(helper);
    end_pool(pool);
    CHECK(runs[0].runs == 3 && runs[1].runs == 3);
}

/* What a task of a worker's submits and waits for, while memory or a thread is refused once. */
enum { CHILDREN = 5 };
static bool is_refusal(tpool_status status) { return status == TPOOL_NO_MEMORY || status == TPOOL_NO_THREAD; }
static void *submit_children_and_wait(void *arg) {
    tpool_future *children[CHILDREN];
    size_t taken = 0, done = 0;
    for (int i = 0; i < CHILDREN; i++) {
        tpool_task task = { .fn = count_task, .arg = &runs[0], .name = i % 2 ? "child" : NULL };
        tpool_status status = tpool_submit_task(pool, &task, i == 2 ? NULL : &children[taken]);
        CHECK(status == TPOOL_OK || is_refusal(status));
        if (status == TPOOL_OK) atomic_fetch_add(&spread.runs, 1);
        taken += status == TPOOL_OK && i != 2;
    }
    tpool_status status = taken ? tpool_wait(children, taken, TPOOL_ALL_COMPLETED, TPOOL_FOREVER, &done) : TPOOL_OK;
    CHECK(is_refusal(status) || (status == TPOOL_OK && done == taken));
    for (size_t i = 0; i < taken; i++) tpool_future_release(children[i]);
    return arg;
}
static void refusals(unsigned allocations, unsigned threads) {
    pool = new_pool((tpool_config){ .max_workers = 2 });
    if (chance_of(2)) refuse_allocation(1 + chance_of(allocations));
    else refuse_thread(1 + chance_of(threads));
    for (int i = 0; i < 2; i++) {
        tpool_status status = tpool_submit(pool, submit_children_and_wait, NULL, &futures[i]);
        CHECK(status == TPOOL_OK || is_refusal(status));
        if (status != TPOOL_OK) futures[i] = NULL;
    }
    for (int i = 0; i < 2; i++)
        if (futures[i]) CHECK_STATUS(TPOOL_OK, end_of(futures[i]));
    tpool_status status = tpool_drain(pool, TPOOL_FOREVER);
    if (status != TPOOL_OK) CHECK_STATUS(TPOOL_OK, tpool_drain(pool, TPOOL_FOREVER));
    CHECK(runs[0].runs == spread.runs);
    refuse_allocation(0);
    refuse_thread(0);
    end_pool(pool);
}
static void refusals_beside_waiting_tasks(void) { refusals(40, 4); }
static void refusals_beside_spinners(void) { refusals(40, 4); }

SCHEDULES(SCENARIO(tasks_that_wait_beside_cancels, .chance = 100000, .depth = 4),
          SCENARIO(pause_and_resize_beside_tasks, .chance = 100000, .depth = 4),
          SCENARIO(cancelling_shutdown_beside_tasks, .chance = 100000, .depth = 4),
          SCENARIO(tree_of_forks, .chance = 100000, .depth = 4),
          SCENARIO(submitters_of_a_full_queue, .chance = 100000, .depth = 4),
          SCENARIO(spinners_of_two_cpus, .chance = 50000, .depth = 4, .cpus = 2),
          SCENARIO(refusals_beside_waiting_tasks, .chance = 200000, .depth = 5),
          SCENARIO(refusals_beside_spinners, .chance = 100000, .depth = 5, .cpus = 2))
