/* Scenarios about held tasks: memory is had at the submit; becoming ready cannot fail. */
#ifndef TPOOL_TESTS_REFUSALS_HELD_H
#define TPOOL_TESTS_REFUSALS_HELD_H
#include "scenario.h"

static tpool_future *bare_future(void) {
    tpool_future *future = NULL;
    bool created = OKAY(tpool_future_create(&future), NO_MEMORY);
    EXPECT(created == (future != NULL));
    return future;
}
static void complete_bare(tpool_future *future) {
    if (future) OKAY(tpool_future_set_result(future, NULL), 0);
    tpool_future_release(future);
}

static void scenario_held_tasks(void) {
    enum { TASKS = 24 };
    item items[TASKS] = { 0 };
    tpool_future *futures[TASKS] = { NULL }, *before[2] = { bare_future(), bare_future() };
    tpool *pool = pool_with((tpool_config){ .max_workers = 2 });
    tpool_completions *completions = NULL;
    OKAY(tpool_as_completed(NULL, 0, &completions), NO_MEMORY);
    for (int i = 0; i < TASKS && pool && before[0] && before[1]; i++) {
        tpool_task like = { .after = before, .after_count = (size_t)i % 3, .after_when = (tpool_after)(i / 3 % 3) };
        like.delay_ns = i % 4 == 0 || like.after_count == 0 ? TPOOL_US(200) : 0;
        like.name = i % 5 == 0 ? "named" : NULL;
        like.priority = i % 7 == 0;
        like.expires_ns = i % 6 == 0 ? TPOOL_SEC(1000) : 0;
        like.completions = i % 8 == 0 ? completions : NULL;
        submit_item(pool, &items[i], i % 9 == 0 ? 24 : 0, like, &futures[i], REFUSED);
    }
    tpool_task none = { .after = before, .after_count = 2, .after_when = TPOOL_AFTER_ANY };
    tpool_future *any = NULL, *cancelled = NULL;
    if (pool && before[0] && before[1]) {
        OKAY(tpool_submit_task(pool, &none, &any), REFUSED);
        none.delay_ns = TPOOL_SEC(1000);
        OKAY(tpool_submit_task(pool, &none, &cancelled), REFUSED);
    }
    if (cancelled) EXPECT(tpool_future_cancel(cancelled));
    complete_bare(before[0]);
    complete_bare(before[1]);
    for (int i = 0; i < TASKS; i++)
        if (items[i].taken) ENDS_WELL(futures[i], i % 9 ? &items[i] : NULL, false);
    if (any) ENDS_WELL(any, before[0], false);
    if (pool) pool_end(pool);
    tpool_completions_destroy(completions);
    for (int i = 0; i < TASKS; i++) tpool_future_release(futures[i]);
    tpool_future_release(any);
    tpool_future_release(cancelled);
    CHECK_ITEMS(items, TASKS, ALL_RAN);
}

/* What repeats has its memory from the submit on: neither a next run nor a next try can be refused. */
static void *fail_twice(void *arg) {
    atomic_int *tries = (atomic_int *)arg;
    return atomic_fetch_add(tries, 1) < 2 ? tpool_raise_text(1, "no") : NULL;
}
static void *run_three_times(void *arg) {
    if (atomic_fetch_add((atomic_int *)arg, 1) == 2) tpool_last_run();
    return NULL;
}
static void scenario_repeating_tasks(void) {
    atomic_int runs[8];
    tpool_future *futures[8] = { NULL };
    tpool *pool = pool_with((tpool_config){ .max_workers = 2 });
    for (int i = 0; i < 8 && pool; i++) {
        atomic_store(&runs[i], 0);
        tpool_task task = { .fn = i % 2 ? fail_twice : run_three_times, .arg = &runs[i] };
        task.name = i % 3 ? NULL : "named";
        if (i % 2) task.retries = 2;
        else task.period_ns = TPOOL_US(20);
        if (i % 4 == 1) task.expires_ns = TPOOL_SEC(1000);
        if (i / 4) task.delay_ns = 1;
        if (!OKAY(tpool_submit_task(pool, &task, &futures[i]), REFUSED)) futures[i] = NULL;
    }
    for (int i = 0; i < 8; i++) {
        if (!futures[i]) continue;
        EXPECT(tpool_future_result(futures[i], CALL_LIMIT, NULL) == TPOOL_OK);
        EXPECT(atomic_load(&runs[i]) == 3);
        tpool_future_release(futures[i]);
    }
    if (pool) pool_end(pool);
}

/* A long-running task has its thread, and all else, from the submit on. */
static void scenario_long_running_tasks(void) {
    enum { TASKS = 8 };
    item items[TASKS] = { 0 };
    tpool_future *futures[TASKS] = { NULL }, *before = bare_future();
    atomic_int runs[2];
    tpool *pool = pool_with((tpool_config){ .max_workers = 2 });
    for (int i = 0; i < TASKS && pool && before; i++) {
        tpool_task like = { .long_running = true, .after = &before, .after_count = (size_t)i % 2 };
        like.delay_ns = i % 3 == 0 ? TPOOL_US(200) : 0;
        like.name = i % 4 == 0 ? "named" : NULL;
        submit_item(pool, &items[i], i == 5 ? 24 : 0, like, &futures[i], REFUSED);
    }
    for (int i = 0; i < 2 && pool; i++) {
        tpool_future *future = NULL;
        atomic_store(&runs[i], 0);
        tpool_task task = { .fn = i ? fail_twice : run_three_times, .arg = &runs[i], .long_running = true };
        if (i) task.retries = 2;
        else task.period_ns = TPOOL_US(20);
        if (!OKAY(tpool_submit_task(pool, &task, &future), REFUSED)) continue;
        EXPECT(tpool_future_result(future, CALL_LIMIT, NULL) == TPOOL_OK);
        EXPECT(atomic_load(&runs[i]) == 3);
        tpool_future_release(future);
    }
    complete_bare(before);
    for (int i = 0; i < TASKS; i++)
        if (items[i].taken) ENDS_WELL(futures[i], i != 5 ? &items[i] : NULL, false);
    if (pool) pool_end(pool);
    for (int i = 0; i < TASKS; i++) tpool_future_release(futures[i]);
    CHECK_ITEMS(items, TASKS, ALL_RAN);
}

/* More become ready at once than the queue has memory for, in its lane and in its heap. The last one is cancelled, or
 * expires: also if it is ready, and in no queue. */
static void fill_the_queue_with_held_tasks(tpool_status last_end) {
    enum { TASKS = 1200 };
    static item items[TASKS];
    memset(items, 0, sizeof items);
    gate g = GATE_CLOSED;
    tpool_future *before = bare_future(), *last = NULL;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1 });
    if (pool && before) {
        bool held = hold(pool, &g);
        for (int i = 0; i < TASKS && held; i++) {
            tpool_task like = { .after = &before,
                                .after_count = 1,
                                .after_when = (tpool_after)(i % 3), /* the last: AFTER_ANY */
                                .priority = i % 2,
                                .expires_ns = i == TASKS - 1 && last_end == TPOOL_EXPIRED ? TPOOL_MS(1) : 0 };
            submit_item(pool, &items[i], 0, like, i == TASKS - 1 ? &last : NULL, REFUSED);
        }
        complete_bare(tpool_future_retain(before));
        if (last && held) EXPECT(atomic_load(&items[TASKS - 1].runs) == 0);
        if (last && last_end == TPOOL_CANCELLED) EXPECT(tpool_future_cancel(last));
        if (last) EXPECT(tpool_future_result(last, TPOOL_FOREVER, NULL) == last_end);
    }
    gate_open(&g);
    if (pool) pool_end(pool);
    tpool_future_release(last);
    tpool_future_release(before);
    CHECK_ITEMS(items, TASKS, SOME_RAN);
    for (int i = 0; i < TASKS - 1; i++) EXPECT(atomic_load(&items[i].runs) == items[i].taken);
}

static void scenario_held_tasks_fill_the_queue(void) { fill_the_queue_with_held_tasks(TPOOL_CANCELLED); }
static void scenario_held_tasks_expire_beside_the_queue(void) { fill_the_queue_with_held_tasks(TPOOL_EXPIRED); }

/* A task waits for a long chain that its program frees: the search for a cycle wants memory. */
static void *wait_for_chain(void *arg) {
    EXPECT(tpool_future_result((tpool_future *)arg, TPOOL_FOREVER, NULL) == TPOOL_OK);
    return NULL;
}
static void scenario_a_wait_for_a_chain_of_held_tasks(void) {
    enum { LINKS = 100 };
    tpool_future *links[LINKS] = { bare_future() }, *waits = NULL;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1 });
    int taken = 1;
    while (pool && links[0] && taken < LINKS) {
        tpool_task task = { .after = &links[taken - 1], .after_count = 1 };
        if (!OKAY(tpool_submit_task(pool, &task, &links[taken]), REFUSED)) break;
        taken++;
    }
    if (pool && links[0] && OKAY(tpool_submit(pool, wait_for_chain, links[taken - 1], &waits), REFUSED)) {
        while (blocked_of(pool) == 0 && CALL_LIMIT > 0) continue; /* once it is blocked, it has searched */
    }
    if (links[0]) OKAY(tpool_future_set_result(links[0], NULL), 0);
    if (waits) ENDS_WELL(waits, NULL, false);
    if (pool) pool_end(pool);
    for (int i = 0; i < taken; i++) tpool_future_release(links[i]);
    tpool_future_release(waits);
}
#endif
