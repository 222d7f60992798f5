/* Groups: members are counted, waited for, fail together, are cancelled together. */
#include "support.h"
#include "support/groups.h"
#include <sched.h>

static void *fail_with(void *arg) { return tpool_raise(*(int *)arg, "code %d", *(int *)arg); }

/* ---- Counts and waits */
static void a_wait_returns_when_no_member_is_left(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    tpool_group *group = new_group();
    const tpool_error *error;
    assert_status(TPOOL_OK, tpool_group_wait(group, LIMIT, &error));
    atomic_int ran = 0;
    for (int round = 1; round <= 3; round++) {
        for (int i = 0; i < 1000; i++) add_member(pool, group, count_up, &ran);
        assert_status(TPOOL_OK, tpool_group_wait(group, LIMIT, &error));
        assert_null(error);
        assert_int_equal(1000 * round, atomic_load(&ran));
        assert_int_equal(0, tpool_group_count(group));
    }
    assert_status(TPOOL_OK, tpool_group_destroy(group));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void members_are_counted_until_they_are_done(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    tpool_group *group = new_group();
    tpool_future *futures[3];
    for (size_t i = 0; i < 3; i++) {
        futures[i] = kept_member(h.pool, group, nothing, NULL);
        assert_int_equal(i + 1, tpool_group_count(group));
    }
    assert_status(TPOOL_TIMEOUT, tpool_group_wait(group, 0, NULL));
    assert_status(TPOOL_TIMEOUT, tpool_group_wait(group, TPOOL_MS(5), NULL));
    assert_true(tpool_future_cancel(futures[1]));
    assert_int_equal(2, tpool_group_count(group));
    gate_open(&h.gate);
    assert_status(TPOOL_CANCELLED, tpool_group_wait(group, LIMIT, NULL));
    for (int i = 0; i < 3; i++) tpool_future_release(futures[i]);
    assert_status(TPOOL_CANCELLED, tpool_group_destroy(group));
    held_destroy(&h);
}
typedef struct slow_end {
    gate free_gate, callback_gate;
} slow_end;
static void free_at_gate(void *arg) { gate_pass(&((slow_end *)arg)->free_gate); }
static void callback_at_gate(tpool_future *future, void *context) {
    (void)future;
    gate_pass(&((slow_end *)context)->callback_gate);
}
static tpool_status wait_for_group(void *context) { return tpool_group_wait((tpool_group *)context, LIMIT, NULL); }
static void a_wait_returns_after_arg_free_and_callbacks(void **state) {
    (void)state;
    slow_end slow = { GATE_CLOSED, GATE_CLOSED };
    tpool *pool = new_pool(1);
    tpool_group *group = new_group();
    gate begin = GATE_CLOSED;
    tpool_future *first = held_at(pool, &begin);
    tpool_future *member =
        submitted_task(pool, (tpool_task){ .fn = nothing, .arg = &slow, .arg_free = free_at_gate, .group = group });
    assert_status(TPOOL_OK, tpool_future_add_done_callback(member, callback_at_gate, &slow));
    background waits[2];
    for (int i = 0; i < 2; i++) background_start(&waits[i], wait_for_group, group);
    gate_open(&begin);
    AWAIT_ARRIVALS(&slow.free_gate, 1);
    for (int i = 0; i < 2; i++) background_await_block(&waits[i]);
    gate_open(&slow.free_gate);
    AWAIT_ARRIVALS(&slow.callback_gate, 1);
    assert_true(tpool_future_done(member));
    for (int i = 0; i < 2; i++) background_await_block(&waits[i]);
    assert_int_equal(0, tpool_group_count(group));
    assert_status(TPOOL_TIMEOUT, tpool_group_wait(group, 0, NULL));
    gate_open(&slow.callback_gate);
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, background_join(&waits[i]));
    tpool_future_release(member);
    tpool_future_release(first);
    assert_status(TPOOL_OK, tpool_group_destroy(group));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void *group_here(void *arg) {
    (void)arg;
    return tpool_current_group();
}
static void a_task_knows_its_group(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_group *group = new_group();
    assert_ptr_equal(group, take(kept_member(pool, group, group_here, NULL)));
    assert_null(take(submitted(pool, group_here, NULL)));
    assert_null(tpool_current_group());
    assert_status(TPOOL_OK, tpool_group_destroy(group));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void what_is_invalid(void **state) {
    (void)state;
    tpool_group *group = (tpool_group *)state;
    assert_status(TPOOL_INVALID, tpool_group_create(NULL, NULL));
    const tpool_group_config bad[] = { { .limit = -1 },
                                       { .on_full = (tpool_full_policy)4 },
                                       { .on_full = TPOOL_FULL_CALLER_RUNS },
                                       { .on_failure = (tpool_group_failure)3 },
                                       { .on_failure = (tpool_group_failure)-1 } };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_status(TPOOL_INVALID, tpool_group_create(&group, &bad[i]));
        assert_null(group);
    }
    const tpool_error *error = (const tpool_error *)state;
    assert_status(TPOOL_INVALID, tpool_group_wait(NULL, 0, &error));
    assert_null(error);
    tpool_future *future = (tpool_future *)state;
    assert_status(TPOOL_INVALID, tpool_group_future(NULL, &future));
    assert_null(future);
    assert_status(TPOOL_INVALID, tpool_group_cancel(NULL));
    assert_int_equal(0, tpool_group_count(NULL));
    assert_status(TPOOL_OK, tpool_group_release(NULL));
    assert_status(TPOOL_OK, tpool_group_destroy(NULL));
    group = new_group();
    assert_status(TPOOL_INVALID, tpool_group_future(group, NULL));
    assert_status(TPOOL_OK, tpool_group_release(group));
}
static void ten_million_members_leave_nothing(void **state) {
    (void)state;
    enum { MEMBERS = SLOW_TOOL ? 100000 : 10000000 };
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 2, .queue_capacity = 1000 });
    tpool_group *group = new_group();
    static atomic_int ran;
    long before = 0;
    for (int i = 0; i < MEMBERS; i++) {
        add_member(pool, group, count_up, &ran);
        if (i == MEMBERS / 10) before = resident_kib();
    }
    assert_status(TPOOL_OK, tpool_group_wait(group, LIMIT, NULL));
    assert_int_equal(MEMBERS, atomic_load(&ran));
    if (!SLOW_TOOL) assert_true(resident_kib() <= before + (4 << 10));
    assert_status(TPOOL_OK, tpool_group_destroy(group));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Failures */
static int codes[1000];
static void the_first_failure_wins_once(void **state) {
    (void)state;
    tpool *pool = new_pool(4);
    for (int i = 0; i < 1000; i++) codes[i] = i + 1;
    for (int round = 0; round < 50; round++) {
        tpool_group *group = new_group_as((tpool_group_config){ .on_failure = TPOOL_GROUP_KEEP_GOING });
        for (int i = 0; i < 20; i++) add_member(pool, group, fail_with, &codes[i]);
        const tpool_error *error, *again;
        assert_status(TPOOL_FAILED, tpool_group_wait(group, LIMIT, &error));
        assert_in_range(error->code, 1, 20);
        assert_status(TPOOL_FAILED, tpool_group_wait(group, LIMIT, &again));
        assert_ptr_equal(error, again);
        char text[32];
        snprintf(text, sizeof text, "code %d", error->code);
        assert_string_equal(text, error->message);
        assert_status(TPOOL_FAILED, tpool_group_destroy(group));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void *stop_or_gate(void *arg) {
    gate_pass((gate *)arg);
    return tpool_stop_requested() ? arg : NULL;
}
static void a_failure_cancels_and_stops(void **state) {
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        tpool *pool = new_pool(2);
        tpool_group *group = new_group_as((tpool_group_config){ .on_failure = (tpool_group_failure)kind });
        gate running = GATE_CLOSED, failing = GATE_CLOSED;
        tpool_future *runs = kept_member(pool, group, stop_or_gate, &running), *holder = held_at(pool, &failing);
        AWAIT_ARRIVALS(&running, 1);
        int code = 7;
        tpool_future *fails = kept_member(pool, group, fail_with, &code);
        tpool_future *waits = kept_member(pool, group, nothing, &code);
        atomic_int freed = 0;
        tpool_task task = { .fn = nothing, .arg = &freed, .arg_free = count_free, .group = group };
        assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
        gate_open(&failing);
        assert_status(TPOOL_FAILED, end_of(fails));
        bool goes_on = kind == TPOOL_GROUP_KEEP_GOING;
        EVENTUALLY(tpool_future_done(waits));
        assert_status(goes_on ? TPOOL_OK : TPOOL_CANCELLED, end_of(waits));
        EVENTUALLY(atomic_load(&freed) == 1);
        assert_status(goes_on ? TPOOL_OK : TPOOL_CANCELLED, tpool_submit_task(pool, &task, NULL));
        gate_open(&running);
        assert_ptr_equal(kind == TPOOL_GROUP_STOP ? &running : NULL, take(runs));
        const tpool_error *error;
        assert_status(TPOOL_FAILED, tpool_group_wait(group, LIMIT, &error));
        assert_int_equal(7, error->code);
        tpool_future_release(holder);
        assert_status(TPOOL_FAILED, tpool_group_destroy(group));
        assert_status(TPOOL_OK, tpool_destroy(pool));
        assert_int_equal(goes_on ? 2 : 1, atomic_load(&freed));
    }
}
static void expired_and_broken_members_fail(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    tpool_group *group = new_group();
    tpool_future *expires = submitted_task(
        pool, (tpool_task){ .fn = nothing, .delay_ns = TPOOL_MS(200), .timeout_ns = TPOOL_MS(1), .group = group });
    assert_status(TPOOL_EXPIRED, end_of(expires));
    const tpool_error *error;
    assert_status(TPOOL_EXPIRED, tpool_group_wait(group, LIMIT, &error));
    assert_int_equal(TPOOL_EXPIRED, error->status);
    assert_status(TPOOL_EXPIRED, tpool_group_destroy(group));
    group = new_group();
    add_member(pool, group, end_thread, NULL);
    assert_status(TPOOL_BROKEN, tpool_group_wait(group, LIMIT, &error));
    assert_int_equal(TPOOL_BROKEN, error->status);
    assert_status(TPOOL_BROKEN, tpool_group_destroy(group));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_failed_dependency_is_a_failure_of_its_cause(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    tpool_group *group = new_group();
    tpool_future *first = NULL;
    assert_status(TPOOL_OK, tpool_future_create(&first));
    tpool_task task = { .fn = nothing, .after = &first, .after_count = 1, .group = group };
    assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    tpool_future *other = kept_member(pool, group, nothing, NULL);
    assert_status(TPOOL_OK, end_of(other));
    assert_int_equal(1, tpool_group_count(group));
    assert_status(TPOOL_OK, tpool_future_set_error(first, 9, "no"));
    tpool_future_release(first);
    const tpool_error *error;
    assert_status(TPOOL_FAILED, tpool_group_wait(group, LIMIT, &error));
    assert_int_equal(9, error->code);
    assert_string_equal("no", error->message);
    assert_status(TPOOL_FAILED, tpool_group_destroy(group));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void count_failure(const tpool_error *error, void *context) {
    (void)error;
    atomic_fetch_add((atomic_int *)context, 1);
}
static void errors_are_the_groups_or_the_pools(void **state) {
    (void)state;
    int code = 5;
    for (int kind = 0; kind < 3; kind++) {
        atomic_int failures = 0;
        tpool *pool =
            new_pool_as((tpool_config){ .max_workers = 1, .on_failure = count_failure, .context = &failures });
        tpool_group *group = new_group_as((tpool_group_config){ .on_failure = (tpool_group_failure)kind });
        tpool_task task = { .fn = fail_with, .arg = &code, .group = group };
        for (int i = 0; i < 3; i++) (void)!tpool_submit_task(pool, &task, NULL);
        tpool_future *kept = NULL;
        tpool_status status = tpool_submit_task(pool, &task, &kept);
        assert_true(status == TPOOL_OK || status == TPOOL_CANCELLED);
        assert_status(TPOOL_FAILED, tpool_group_destroy(group));
        tpool_future_release(kept);
        assert_status(TPOOL_OK, tpool_destroy(pool));
        assert_int_equal(kind == TPOOL_GROUP_KEEP_GOING ? 3 : 0, atomic_load(&failures));
    }
}

/* The result of a member without a future is freed once its end is published: what that does ends the thread. */
static void free_and_end(void *result) {
    atomic_fetch_add((atomic_int *)result, 1);
    end_here();
}
static void *return_owned(void *arg) { return tpool_return_owned(arg, free_and_end); }
static void what_ends_its_thread_at_the_end_of_a_member(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_group *group = new_group();
    atomic_int freed = 0;
    add_member(pool, group, return_owned, &freed);
    assert_status(TPOOL_OK, tpool_group_wait(group, LIMIT, NULL));
    EVENTUALLY(atomic_load(&freed) == 1);
    assert_status(TPOOL_OK, tpool_group_destroy(group));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Cancels */
static void a_cancel_ends_what_has_not_started(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    tpool *other = new_pool(1);
    tpool_group *group = new_group();
    tpool_future *first = NULL, *futures[6];
    assert_status(TPOOL_OK, tpool_future_create(&first));
    futures[0] = kept_member(h.pool, group, nothing, NULL);
    futures[1] = submitted_task(h.pool, (tpool_task){ .fn = nothing, .priority = 3, .group = group });
    futures[2] = submitted_task(other, (tpool_task){ .fn = nothing, .delay_ns = TPOOL_SEC(1000), .group = group });
    futures[3] =
        submitted_task(other, (tpool_task){ .fn = nothing, .after = &first, .after_count = 1, .group = group });
    futures[4] = submitted_task(h.pool, (tpool_task){ .delay_ns = TPOOL_SEC(1000), .group = group });
    atomic_int called = 0;
    for (int i = 0; i < 5; i++)
        assert_status(TPOOL_OK, tpool_future_add_done_callback(futures[i], count_callback, &called));
    assert_int_equal(5, tpool_group_count(group));
    assert_status(TPOOL_OK, tpool_group_cancel(group));
    assert_int_equal(5, atomic_load(&called));
    for (int i = 0; i < 5; i++) {
        assert_true(tpool_future_cancelled(futures[i]));
        tpool_future_release(futures[i]);
    }
    assert_int_equal(0, tpool_group_count(group));
    tpool_task task = { .fn = nothing, .group = group };
    assert_status(TPOOL_CANCELLED, tpool_submit_task(other, &task, &futures[0]));
    assert_null(futures[0]);
    assert_status(TPOOL_CANCELLED, tpool_group_wait(group, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_group_cancel(group));
    tpool_future_release(first);
    assert_status(TPOOL_CANCELLED, tpool_group_destroy(group));
    assert_status(TPOOL_OK, tpool_destroy(other));
    held_destroy(&h);
}
static void a_cancel_of_a_group_whose_members_have_succeeded(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_group *group = new_group();
    assert_status(TPOOL_OK, end_of(kept_member(pool, group, nothing, NULL)));
    assert_status(TPOOL_OK, tpool_group_wait(group, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_group_cancel(group));
    assert_status(TPOOL_OK, tpool_group_destroy(group));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* Submits beside cancels: each member that was taken is ended once. */
static atomic_int racing_taken, racing_freed;
static tpool *racing_pool;
static void *submit_until_cancelled(void *arg) {
    tpool_task task = { .fn = nothing, .arg = &racing_freed, .arg_free = count_free, .group = (tpool_group *)arg };
    for (;;) {
        tpool_status status = tpool_submit_task(racing_pool, &task, NULL);
        if (status != TPOOL_OK) return (void *)(intptr_t)status;
        atomic_fetch_add(&racing_taken, 1);
    }
}
static void submits_race_with_a_cancel(void **state) {
    (void)state;
    racing_pool = new_pool(2);
    for (int round = 0; round < (SLOW_TOOL ? 20 : 200); round++) {
        tpool_group *group = new_group();
        pthread_t threads[2];
        atomic_store(&racing_taken, 0);
        atomic_store(&racing_freed, 0);
        for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, submit_until_cancelled, group);
        while (atomic_load(&racing_taken) < round) sched_yield();
        assert_status(TPOOL_OK, tpool_group_cancel(group));
        for (int i = 0; i < 2; i++) {
            void *status;
            pthread_join(threads[i], &status);
            assert_status(TPOOL_CANCELLED, (tpool_status)(intptr_t)status);
        }
        tpool_status status = tpool_group_destroy(group);
        assert_true(status == TPOOL_OK || status == TPOOL_CANCELLED);
        assert_int_equal(atomic_load(&racing_taken), atomic_load(&racing_freed));
    }
    assert_status(TPOOL_OK, tpool_destroy(racing_pool));
}

/* ---- Release and destroy */
static void a_group_is_released_while_members_run(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    tpool_group *group = new_group();
    atomic_int ran = 0;
    for (int i = 0; i < 10; i++) add_member(h.pool, group, count_up, &ran);
    assert_status(TPOOL_OK, tpool_group_release(group));
    held_destroy(&h);
    assert_int_equal(10, atomic_load(&ran));
}
static void release_group(tpool_future *future, void *context) {
    (void)future;
    tpool_group_release((tpool_group *)context);
}
static void the_last_members_callback_frees_the_group(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    tpool_group *group = new_group();
    tpool_future *member = kept_member(h.pool, group, nothing, NULL);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(member, release_group, group));
    tpool_future_release(member);
    held_destroy(&h);
}
static void *submit_into(void *arg) {
    tpool_task task = { .fn = nothing, .group = (tpool_group *)arg };
    return (void *)(intptr_t)tpool_submit_task(tpool_current(), &task, NULL);
}
static void *destroy_own_group(void *arg) {
    tpool_group *group = tpool_current_group();
    gate_pass((gate *)arg);
    bool fits = tpool_group_destroy(group) == TPOOL_DEADLOCK && tpool_group_wait(group, LIMIT, NULL) == TPOOL_DEADLOCK;
    return fits ? submit_into(group) : NULL;
}
static tpool_status destroy_group(void *context) { return tpool_group_destroy((tpool_group *)context); }
static void members_of_a_group_that_is_destroyed(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_group *group = new_group();
    gate g = GATE_CLOSED;
    tpool_future *member = kept_member(pool, group, destroy_own_group, &g);
    AWAIT_ARRIVALS(&g, 1);
    background destroys;
    background_start_blocked(&destroys, destroy_group, group);
    gate_open(&g);
    assert_int_equal(TPOOL_SHUTDOWN, (intptr_t)take(member));
    assert_status(TPOOL_OK, background_join(&destroys));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static atomic_int deadlocks;
static void wait_in_callback(tpool_future *future, void *context) {
    (void)future;
    if (tpool_group_wait((tpool_group *)context, LIMIT, NULL) == TPOOL_DEADLOCK) atomic_fetch_add(&deadlocks, 1);
}
static void wait_in_free(void *arg) {
    if (tpool_group_wait(*(tpool_group **)arg, TPOOL_FOREVER, NULL) == TPOOL_DEADLOCK) atomic_fetch_add(&deadlocks, 1);
}
static void callbacks_of_members_may_not_wait_for_the_group(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    tpool_group *group = new_group();
    tpool_future *member =
        submitted_task(h.pool, (tpool_task){ .fn = nothing, .arg = &group, .group = group, .arg_free = wait_in_free });
    assert_status(TPOOL_OK, tpool_future_add_done_callback(member, wait_in_callback, group));
    tpool_future *cancelled =
        submitted_task(h.pool, (tpool_task){ .fn = nothing, .arg = &group, .group = group, .arg_free = wait_in_free });
    assert_status(TPOOL_OK, tpool_future_add_done_callback(cancelled, wait_in_callback, group));
    assert_true(tpool_future_cancel(cancelled));
    assert_int_equal(2, atomic_load(&deadlocks));
    gate_open(&h.gate);
    assert_status(TPOOL_CANCELLED, tpool_group_destroy(group));
    assert_int_equal(4, atomic_load(&deadlocks));
    tpool_future_release(member);
    tpool_future_release(cancelled);
    held_destroy(&h);
}

/* ---- The group's future */
static void a_future_ends_as_the_wait(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    tpool_group *group = new_group_as((tpool_group_config){ .on_failure = TPOOL_GROUP_KEEP_GOING });
    tpool_future *now, *next[3], *held;
    assert_status(TPOOL_OK, tpool_group_future(group, &now));
    assert_true(tpool_future_done(now));
    assert_status(TPOOL_OK, end_of(now));
    int code = 3;
    add_member(h.pool, group, fail_with, &code);
    add_member(h.pool, group, nothing, NULL);
    for (int i = 0; i < 3; i++) assert_status(TPOOL_OK, tpool_group_future(group, &next[i]));
    assert_status(TPOOL_TIMEOUT, tpool_future_result(next[0], TPOOL_MS(2), NULL));
    assert_status(TPOOL_INVALID_STATE, tpool_future_set_result(next[0], NULL));
    assert_status(TPOOL_INVALID_STATE, tpool_future_set_running(next[0]));
    assert_true(tpool_future_cancel(next[2]));
    held = submitted_task(h.pool, (tpool_task){ .fn = nothing, .after = next, .after_count = 1 });
    gate_open(&h.gate);
    assert_status(TPOOL_CANCELLED, tpool_future_result(held, LIMIT, NULL));
    const tpool_error *error;
    assert_status(TPOOL_CANCELLED, tpool_future_error(held, 0, &error));
    assert_int_equal(TPOOL_FAILED, error->cause);
    assert_int_equal(3, error->code);
    tpool_future_release(held);
    assert_status(TPOOL_OK, tpool_future_error(next[1], LIMIT, &error));
    assert_status(TPOOL_FAILED, tpool_group_destroy(group));
    assert_int_equal(TPOOL_FAILED, error->status);
    assert_int_equal(3, error->code);
    assert_string_equal("code 3", error->message);
    for (int i = 0; i < 3; i++) tpool_future_release(next[i]);
    held_destroy(&h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_wait_returns_when_no_member_is_left),
        TEST(members_are_counted_until_they_are_done),
        TEST(a_wait_returns_after_arg_free_and_callbacks),
        TEST(a_task_knows_its_group),
        TEST(what_is_invalid),
        TEST(ten_million_members_leave_nothing),
        TEST(the_first_failure_wins_once),
        TEST(a_failure_cancels_and_stops),
        TEST(expired_and_broken_members_fail),
        TEST(a_failed_dependency_is_a_failure_of_its_cause),
        TEST(errors_are_the_groups_or_the_pools),
        TEST(what_ends_its_thread_at_the_end_of_a_member),
        TEST(a_cancel_ends_what_has_not_started),
        TEST(a_cancel_of_a_group_whose_members_have_succeeded),
        TEST(submits_race_with_a_cancel),
        TEST(a_group_is_released_while_members_run),
        TEST(the_last_members_callback_frees_the_group),
        TEST(members_of_a_group_that_is_destroyed),
        TEST(callbacks_of_members_may_not_wait_for_the_group),
        TEST(a_future_ends_as_the_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
