/* Waits of the program's code that a wait runs: what ends in a wait because its time is over has callbacks, an arg_free
   and an on_failure, and these wait too. No worker counts as blocked twice, no cycle is missed, nothing claimed stays
   behind. */
#include "support.h"

static tpool *pool, *other;
static tpool_future *wanted; /* completed by a task of `pool`, which needs a spare worker */

typedef enum wait_kind { BY_RESULT, BY_ERROR, FOR_ALL, FOR_FIRST, FOR_EXCEPTION, BY_ITERATOR, KINDS } wait_kind;
typedef struct run {
    wait_kind kind;
    atomic_bool in_callback;
    tpool_status inner, outer;
} run;

static void wait_for_wanted(tpool_future *future, void *context) {
    run *r = (run *)context;
    (void)future;
    atomic_store(&r->in_callback, true);
    r->inner = tpool_future_result(wanted, LIMIT, NULL);
}
static tpool_status wait_as(wait_kind kind, tpool_future *expiring, tpool_future *never) {
    tpool_future *both[] = { never, expiring }, *one = NULL;
    const tpool_error *error = NULL;
    tpool_completions *completions = NULL;
    tpool_status status = TPOOL_INVALID;
    switch (kind) {
    case BY_RESULT: return tpool_future_result(expiring, TPOOL_FOREVER, NULL);
    case BY_ERROR:
        status = tpool_future_error(expiring, TPOOL_FOREVER, &error);
        return status == TPOOL_OK && error ? error->status : status;
    case FOR_ALL: status = tpool_wait(&expiring, 1, TPOOL_ALL_COMPLETED, TPOOL_FOREVER, NULL); break;
    case FOR_FIRST: status = tpool_wait(both, 2, TPOOL_FIRST_COMPLETED, TPOOL_FOREVER, NULL); break;
    case FOR_EXCEPTION: status = tpool_wait(both, 2, TPOOL_FIRST_EXCEPTION, TPOOL_FOREVER, NULL); break;
    case BY_ITERATOR:
        status = tpool_as_completed(both, 2, &completions);
        if (status == TPOOL_OK) status = tpool_completions_next(completions, TPOOL_FOREVER, &one);
        if (one != expiring) status = TPOOL_INVALID;
        tpool_completions_destroy(completions);
        break;
    case KINDS:
    default: break;
    }
    return status == TPOOL_OK ? tpool_future_result(expiring, 0, NULL) : status;
}
static void *wait_for_what_expires(void *arg) {
    run *r = (run *)arg;
    tpool_future *expiring = NULL, *never = NULL;
    tpool_task task = { .fn = nothing, .expires_ns = TPOOL_MS(20) };
    if (tpool_submit_task(other, &task, &expiring) != TPOOL_OK || tpool_future_create(&never) != TPOOL_OK ||
        tpool_future_add_done_callback(expiring, wait_for_wanted, r) != TPOOL_OK)
        return tpool_raise(1, "not set up");
    r->outer = wait_as(r->kind, expiring, never);
    tpool_future_release(expiring);
    tpool_future_release(never);
    return NULL;
}
static void *complete_wanted(void *arg) {
    (void)arg;
    return tpool_future_set_result(wanted, NULL) == TPOOL_OK ? NULL : tpool_raise(1, "completed before");
}
static void a_callback_of_what_expires_in_a_wait_may_wait_itself(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    for (wait_kind kind = BY_RESULT; kind < KINDS; kind++) {
        run r = { .kind = kind, .inner = TPOOL_INVALID, .outer = TPOOL_INVALID };
        pool = new_pool(1);
        other = new_pool(1);
        gate_close(&hold); /* no worker is idle there: the wait alone notices */
        assert_status(TPOOL_OK, tpool_submit(other, gate_task, &hold, NULL));
        AWAIT_ARRIVALS(&hold, 1);
        assert_status(TPOOL_OK, tpool_future_create(&wanted));
        tpool_future *task = submitted(pool, wait_for_what_expires, &r);
        EVENTUALLY(atomic_load(&r.in_callback));
        assert_status(TPOOL_OK, end_of(submitted(pool, complete_wanted, NULL)));
        assert_status(TPOOL_OK, end_of(task));
        assert_status(TPOOL_OK, r.inner);
        assert_status(TPOOL_EXPIRED, r.outer);
        assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL))); /* the pool goes on */
        gate_open(&hold);
        assert_status(TPOOL_OK, tpool_destroy(pool));
        assert_status(TPOOL_OK, tpool_destroy(other));
        tpool_future_release(wanted);
    }
}

/* A waits for X and for what expires, whose callback waits for something else. Then X waits for A. */
static gate go = GATE_CLOSED;
static atomic_bool callback_done;
static tpool_future *a, *x;
static tpool_status of_a, of_x;
static void wait_for_wanted_once(tpool_future *future, void *context) {
    (void)future;
    (void)context;
    (void)tpool_future_result(wanted, TPOOL_FOREVER, NULL); /* without a limit, so that it is searched, too */
    atomic_store(&callback_done, true);
}
static void *wait_for_a(void *arg) {
    (void)arg;
    gate_pass(&go);
    of_x = tpool_future_result(a, TPOOL_FOREVER, NULL);
    return NULL;
}
static void *wait_for_x_and_what_expires(void *arg) {
    (void)arg;
    tpool_future *expiring = NULL;
    tpool_task task = { .fn = nothing, .expires_ns = TPOOL_MS(20) };
    if (tpool_submit_task(other, &task, &expiring) != TPOOL_OK ||
        tpool_future_add_done_callback(expiring, wait_for_wanted_once, NULL) != TPOOL_OK)
        return tpool_raise(1, "not set up");
    tpool_future *both[] = { x, expiring };
    of_a = tpool_wait(both, 2, TPOOL_ALL_COMPLETED, TPOOL_FOREVER, NULL);
    tpool_future_release(expiring);
    return NULL;
}
static void a_cycle_that_closes_after_a_callback_waited_within_the_wait_gives_deadlock(void **state) {
    (void)state;
    gate_close(&go);
    tpool *pools[2] = { new_pool(1), new_pool(1) };
    other = new_pool(1);
    assert_status(TPOOL_OK, tpool_pause(other));
    assert_status(TPOOL_OK, tpool_future_create(&wanted));
    x = submitted(pools[0], wait_for_a, NULL);
    a = submitted(pools[1], wait_for_x_and_what_expires, NULL);
    assert_status(TPOOL_TIMEOUT, tpool_future_result(a, TPOOL_MS(50), NULL));
    assert_status(TPOOL_OK, tpool_future_set_result(wanted, NULL));
    EVENTUALLY(atomic_load(&callback_done));
    assert_status(TPOOL_TIMEOUT, tpool_future_result(a, TPOOL_MS(20), NULL)); /* it blocks again */
    gate_open(&go);
    assert_status(TPOOL_OK, tpool_future_result(x, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_future_result(a, LIMIT, NULL));
    tpool_future_release(x);
    tpool_future_release(a);
    assert_status(TPOOL_DEADLOCK, of_x);
    assert_status(TPOOL_OK, of_a);
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_destroy(pools[i]));
    assert_status(TPOOL_OK, tpool_destroy(other));
    tpool_future_release(wanted);
}

/* ---- A result whose last reference is a tombstone's is freed by whoever comes across that, and may wait, too */
static tpool_status freed;
static tpool_future *awaited;
static void wait_in_result_free(void *result) {
    (void)result;
    freed = tpool_future_result(awaited, TPOOL_SEC(20), NULL);
}
static void *own_what_waits(void *arg) { return tpool_return_owned(arg, wait_in_result_free); }
static char owned;

/* Awaits a task in place that is neither the first nor among the last of its lane, so that its entry stays behind. */
static bool leave_a_tombstone(tpool_future *fillers[], int count) {
    tpool_future *dead = NULL;
    bool all = tpool_submit(other, nothing, NULL, &fillers[count - 1]) == TPOOL_OK &&
               tpool_submit(other, own_what_waits, &owned, &dead) == TPOOL_OK;
    for (int i = 0; i < count - 1; i++) all = tpool_submit(other, nothing, NULL, &fillers[i]) == TPOOL_OK && all;
    all = tpool_future_result(dead, TPOOL_FOREVER, NULL) == TPOOL_OK && all;
    tpool_future_release(dead);
    return all;
}

/* The worker takes the tombstone out, and the task behind it. */
static void *leave_a_tombstone_before_what_is_awaited(void *arg) {
    enum { FILLERS = 40 };
    tpool_future *fillers[FILLERS];
    (void)arg;
    freed = TPOOL_INVALID;
    if (!leave_a_tombstone(fillers, FILLERS)) return tpool_raise(1, "not set up");
    awaited = tpool_future_retain(fillers[0]);
    for (int i = 0; i < FILLERS; i++) tpool_future_release(fillers[i]);
    return NULL;
}
static void a_result_free_may_wait_for_the_task_behind_the_tombstone(void **state) {
    (void)state;
    other = new_pool(1);
    assert_status(TPOOL_OK, end_of(submitted(other, leave_a_tombstone_before_what_is_awaited, NULL)));
    assert_status(TPOOL_OK, tpool_destroy(other));
    assert_status(TPOOL_OK, freed);
    tpool_future_release(awaited);
}

/* A task drains a pool, and its look finds the tombstone. */
static gate tombstone_left = GATE_CLOSED;
static void *leave_a_tombstone_and_pause(void *arg) {
    enum { FILLERS = 40 };
    tpool_future *fillers[FILLERS];
    (void)arg;
    bool all = leave_a_tombstone(fillers, FILLERS);
    for (int i = 0; i < FILLERS; i++) {
        all = tpool_future_cancel(fillers[i]) && all;
        tpool_future_release(fillers[i]);
    }
    all = tpool_pause(other) == TPOOL_OK && all; /* so that it is left to the drain */
    gate_pass(&tombstone_left);
    return all ? NULL : tpool_raise(1, "not set up");
}
static void *drain_other(void *arg) {
    *(tpool_status *)arg = tpool_drain(other, TPOOL_FOREVER);
    return NULL;
}
static void a_result_free_may_wait_in_a_drain_that_comes_across_it(void **state) {
    (void)state;
    tpool_status drained = TPOOL_INVALID;
    gate_close(&tombstone_left);
    freed = TPOOL_INVALID;
    assert_status(TPOOL_OK, tpool_future_create(&awaited));
    wanted = awaited;
    pool = new_pool(1);
    other = new_pool(1);
    tpool_future *leaves = submitted(other, leave_a_tombstone_and_pause, NULL);
    gate_await_arrivals(&tombstone_left, 1);
    tpool_future *drains = submitted(pool, drain_other, &drained);
    EVENTUALLY(stats_of(pool).active == 1);
    assert_status(TPOOL_TIMEOUT, tpool_future_result(drains, TPOOL_MS(20), NULL)); /* it blocks */
    gate_open(&tombstone_left);
    assert_status(TPOOL_OK, end_of(leaves));
    assert_status(TPOOL_TIMEOUT, tpool_future_result(drains, TPOOL_MS(50), NULL)); /* its result_free does */
    assert_status(TPOOL_OK, end_of(submitted(pool, complete_wanted, NULL)));
    assert_status(TPOOL_OK, end_of(drains));
    assert_status(TPOOL_OK, drained);
    assert_status(TPOOL_OK, freed);
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_status(TPOOL_OK, tpool_destroy(other));
    tpool_future_release(awaited);
}

static const struct CMUnitTest tests[] = {
    TEST(a_callback_of_what_expires_in_a_wait_may_wait_itself),
    TEST(a_cycle_that_closes_after_a_callback_waited_within_the_wait_gives_deadlock),
    TEST(a_result_free_may_wait_for_the_task_behind_the_tombstone),
    TEST(a_result_free_may_wait_in_a_drain_that_comes_across_it),
};
RUN_TESTS(tests)
