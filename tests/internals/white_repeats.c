/* Entries, times and workers of tasks that are held again. The implementation is included. */
#include "support.h"
#include "internals/check.h"
#include "support/held.h"

static uint32_t stale_entries_of(tpool_future *task) {
    tpool *pool = tpool__pool_of(task);
    tpool__spin_lock(&pool->inject.lock);
    uint32_t stale = tpool__repeat_of(task)->stale;
    tpool__spin_unlock(&pool->inject.lock);
    return stale;
}

/* One worker runs a try in place, whose entry is in the lane of the other one. That comes to the entry meanwhile. */
static struct in_place {
    tpool *pool;
    gate submitted, goes_on;
    tpool_future *_Atomic tried;
    atomic_int runs, others, stale;
} in_place;
static void *tried_in_place(void *arg) {
    if (atomic_fetch_add(&in_place.runs, 1) > 0) {
        atomic_store(&in_place.stale, (int)stale_entries_of(atomic_load(&in_place.tried)));
        return arg;
    }
    gate_open(&in_place.goes_on);
    /* what was submitted before it and after it */
    for (int64_t until = tpool_now() + LIMIT; atomic_load(&in_place.others) < 2 && tpool_now() < until;) sleep_ms(1);
    return tpool_raise(1, "no");
}
static void *submit_in_place(void *arg) {
    tpool_future *tried = NULL;
    if (tpool_submit(in_place.pool, count_up, &in_place.others, NULL) != TPOOL_OK) abort();
    tpool_task task = { .fn = tried_in_place, .retries = 1 };
    if (tpool_submit_task(in_place.pool, &task, &tried) != TPOOL_OK) abort();
    atomic_store(&in_place.tried, tried);
    if (tpool_submit(in_place.pool, count_up, &in_place.others, NULL) != TPOOL_OK) abort();
    gate_open(&in_place.submitted);
    gate_pass(&in_place.goes_on);
    return arg;
}
static void *wait_in_place(void *arg) {
    gate_pass(&in_place.submitted);
    return (void *)(intptr_t)(tpool_future_result(atomic_load(&in_place.tried), TPOOL_FOREVER, arg) == TPOOL_OK);
}
static void a_try_in_place_is_not_stale_once_its_entry_is_popped(void **state) {
    (void)state;
    tpool *pool = in_place.pool = new_pool_as((tpool_config){ .max_workers = 2, .max_spares = -1 });
    in_place.submitted = in_place.goes_on = (gate)GATE_CLOSED;
    atomic_store(&in_place.stale, -1);
    tpool_future *waits = submitted(pool, wait_in_place, NULL);
    AWAIT_ARRIVALS(&in_place.submitted, 1);
    tpool_future *submits = submitted(pool, submit_in_place, NULL);
    assert_non_null(take(waits));
    assert_status(TPOOL_OK, end_of(submits));
    assert_int_equal(0, atomic_load(&in_place.stale));
    tpool_future_release(atomic_load(&in_place.tried));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* For ThreadSanitizer. A worker is about to execute a queued try in place when another one takes it; it gets the later
   try instead, and only the task's own word orders that after the thread that has made it ready. So this thread looks
   at that word relaxed, and passes nothing on but the spinlock. */
static struct later_try {
    tpool_future *tried;
    tpool__word tries, waits;
    tpool__worker *_Atomic worker;
    gate begins;
} later_try;
static void *fails_as_the_first(void *arg) {
    return tpool__add_relaxed(&later_try.tries, 1) == 0 ? tpool_raise(1, "no") : arg;
}
static void *awaits_later_try(void *arg) {
    atomic_store(&later_try.worker, tpool__self()->worker);
    gate_pass(&later_try.begins);
    tpool__store_relaxed(&later_try.waits, 1);
    return (void *)(intptr_t)(tpool_future_result(later_try.tried, TPOOL_FOREVER, arg) == TPOOL_OK);
}
static void a_later_try_in_place_sees_what_made_it_ready(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 2, .max_spares = -1 });
    gate before = GATE_CLOSED, behind = GATE_CLOSED;
    later_try.begins = (gate)GATE_CLOSED;
    tpool_future *waits = submitted(pool, awaits_later_try, NULL);
    AWAIT_ARRIVALS(&later_try.begins, 1);
    tpool_future *first = held_at(pool, &before);
    later_try.tried = submitted_task(
        pool, (tpool_task){ .fn = fails_as_the_first, .retries = 1, .retry_ns = 1, .run_limit_ns = LIMIT });
    tpool_future *last = submitted(pool, gate_task, &behind);
    tpool__spinlock *lock = &atomic_load(&later_try.worker)->lane.lock;
    tpool__spin_lock(lock);
    gate_open(&later_try.begins);
    EVENTUALLY(tpool__load_relaxed(&later_try.waits) == 1);
    sleep_ms(20); /* until it wants the lock; else this finds nothing */
    gate_open(&before);
    EVENTUALLY(tpool__load_relaxed(&later_try.tries) == 1 &&
               (tpool__load_relaxed(&later_try.tried->state) & (TPOOL__PHASE | TPOOL__POPPED)) == TPOOL__PHASE_PENDING);
    tpool__spin_unlock(lock);
    assert_non_null(take(waits));
    assert_int_equal(2, tpool__load_relaxed(&later_try.tries));
    gate_open(&behind);
    assert_status(TPOOL_OK, end_of(first));
    assert_status(TPOOL_OK, end_of(last));
    tpool_future_release(later_try.tried);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* A try that waits in the queue is there with its own time, not with that of the first one. */
static void *fails_at_gate(void *arg) {
    gate_pass(arg);
    return tpool_raise(1, "no");
}
static void a_later_try_expires_at_its_own_time(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    gate g = GATE_CLOSED;
    tpool_future *future = submitted_task(
        pool, (tpool_task){ .fn = fails_at_gate, .arg = &g, .retries = 1, .expires_ns = TPOOL_SEC(1000) });
    AWAIT_ARRIVALS(&g, 1);
    assert_status(TPOOL_OK, tpool_pause(pool));
    gate_open(&g);
    EVENTUALLY(stats_of(pool).queued == 1);
    tpool__spin_lock(&pool->expiring_lock);
    assert_int_equal(1, pool->expiring.count);
    int64_t at = pool->expiring.heap[0].at;
    tpool__spin_unlock(&pool->expiring_lock);
    assert_true(at > tpool__expires_at(future)); /* the first one's */
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_status(TPOOL_FAILED, end_of(future));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* Wherever they wait: for their time, for a future, in the queue. */
static void a_pool_counts_its_periodic_tasks(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *holds = bare(), *all[3];
    assert_status(TPOOL_OK, tpool_pause(pool));
    tpool_task task = { .fn = nothing, .period_ns = 1 };
    all[0] = submitted_task(pool, task);
    EVENTUALLY(stats_of(pool).queued == 1);
    task.period_ns = TPOOL_SEC(1000);
    all[1] = submitted_task(pool, task);
    task.after = &holds;
    task.after_count = 1;
    all[2] = submitted_task(pool, task);
    CHECK_AT_REST(pool);
    for (int i = 0; i < 3; i++) {
        assert_true(tpool_future_cancel(all[i]));
        CHECK_AT_REST(pool);
        tpool_future_release(all[i]);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
    tpool_future_release(holds);
}

static const struct CMUnitTest tests[] = {
    TEST(a_try_in_place_is_not_stale_once_its_entry_is_popped),
    TEST(a_later_try_in_place_sees_what_made_it_ready),
    TEST(a_later_try_expires_at_its_own_time),
    TEST(a_pool_counts_its_periodic_tasks),
};
RUN_TESTS(tests)
