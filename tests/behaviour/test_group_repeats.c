/* Members of groups that are periodic, or have retries: what their groups, permits and waits make of what runs
   again. */
#include "support.h"
#include "support/held.h"
#include "support/repeats.h"

typedef struct runner {
    atomic_int runs, freed;
    int last, fails_before; /* fails in all runs before that */
    gate *begun, *gate;     /* opens the one, then passes the other, in each run */
} runner;
static void *run(void *arg) {
    runner *r = (runner *)arg;
    int n = atomic_fetch_add(&r->runs, 1) + 1;
    if (r->begun) gate_open(r->begun);
    if (r->gate) gate_pass(r->gate);
    if (n == r->last) tpool_last_run();
    return n < r->fails_before ? tpool_raise(n, "run %d", n) : arg;
}
static void free_runner(void *arg) { atomic_fetch_add(&((runner *)arg)->freed, 1); }
/* It has run so often, and arg_free was called once. */
static void assert_ran(int times, const runner *r) {
    assert_int_equal(times, atomic_load(&r->runs));
    assert_int_equal(1, atomic_load(&r->freed));
}
static tpool_group *group_as(tpool_group_config config) {
    tpool_group *group = NULL;
    assert_status(TPOOL_OK, tpool_group_create(&group, &config));
    return group;
}
static tpool_task every(tpool_group *group, int64_t period, runner *r) {
    return (tpool_task){ .fn = run, .arg = r, .arg_free = free_runner, .period_ns = period, .group = group };
}
static tpool_task tries(tpool_group *group, unsigned retries, int64_t after, runner *r) {
    return (tpool_task){
        .fn = run, .arg = r, .arg_free = free_runner, .retries = retries, .retry_ns = after, .group = group
    };
}
static void add(tpool *pool, tpool_task task) { assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL)); }
static void await_between(tpool *pool, runner *r) { await_runs(pool, &r->runs, 1); }
static void end(tpool *pool, tpool_group *group, tpool_status comes_to) {
    assert_status(comes_to, tpool_group_destroy(group));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_group_waits_for_all_runs(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    tpool_group *group = group_as((tpool_group_config){ 0 });
    runner r = { .last = 5 };
    add(pool, every(group, TPOOL_MS(1), &r));
    assert_int_equal(1, tpool_group_count(group) + (size_t)(atomic_load(&r.runs) == 5)); /* it may be over by then */
    assert_status(TPOOL_OK, tpool_group_wait(group, LIMIT, NULL));
    assert_ran(5, &r);
    end(pool, group, TPOOL_OK);
}
static void between_two_runs_others_have_its_permit(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_group *group = group_as((tpool_group_config){ .limit = 1 });
    runner periodic = { 0 }, tried = { .fails_before = 1000 };
    add(pool, every(group, NEVER, &periodic));
    await_between(pool, &periodic);
    atomic_int ran = 0;
    for (int i = 0; i < 3; i++) add(pool, (tpool_task){ .fn = count_up, .arg = &ran, .group = group });
    EVENTUALLY(atomic_load(&ran) == 3);
    add(pool, tries(group, 5, NEVER, &tried));
    EVENTUALLY(atomic_load(&tried.runs) == 1 && stats_of(pool).held == 2);
    add(pool, (tpool_task){ .fn = count_up, .arg = &ran, .group = group });
    EVENTUALLY(atomic_load(&ran) == 4);
    assert_status(TPOOL_OK, tpool_group_cancel(group));
    end(pool, group, TPOOL_CANCELLED);
    assert_int_equal(1, atomic_load(&periodic.freed));
    assert_int_equal(1, atomic_load(&tried.freed));
}
static void each_run_waits_in_line_for_its_permit(void **state) {
    (void)state;
    tpool *pool = new_pool(4);
    tpool_group *group = group_as((tpool_group_config){ .limit = 1 });
    runner all[8];
    for (int i = 0; i < 8; i++) {
        all[i] = (runner){ .last = 100 };
        add(pool, every(group, TPOOL_US(100), &all[i]));
    }
    atomic_int ran = 0;
    for (int i = 0; i < 1000; i++) add(pool, (tpool_task){ .fn = count_up, .arg = &ran, .group = group });
    assert_status(TPOOL_OK, tpool_group_wait(group, LIMIT, NULL));
    for (int i = 0; i < 8; i++) assert_int_equal(100, atomic_load(&all[i].runs));
    assert_int_equal(1000, atomic_load(&ran));
    end(pool, group, TPOOL_OK);
}
/* The member between two runs, or in one, as its group is cancelled. */
static void a_cancel_between_two_runs_ends_it(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_group *group = group_as((tpool_group_config){ 0 });
    runner r = { 0 };
    tpool_task task = every(group, NEVER, &r);
    tpool_future *future = submitted_task(pool, task);
    await_between(pool, &r);
    assert_status(TPOOL_OK, tpool_group_cancel(group));
    assert_status(TPOOL_CANCELLED, end_of(future));
    end(pool, group, TPOOL_CANCELLED);
    assert_int_equal(1, atomic_load(&r.freed));
}
static void a_cancel_beside_a_run_ends_it_with_that(tpool_group_failure on_failure, tpool_task task, gate *begun,
                                                    gate *go, tpool_status comes_to) {
    tpool *pool = new_pool(2);
    tpool_group *group = group_as((tpool_group_config){ .on_failure = on_failure, .limit = 2 });
    task.group = group;
    tpool_future *future = submitted_task(pool, task);
    gate_pass(begun);
    static runner fails = { .fails_before = 2 };
    atomic_store(&fails.runs, 0);
    add(pool, (tpool_task){ .fn = run, .arg = &fails, .group = group });
    EVENTUALLY(tpool_group_count(group) == 1); /* the failure has cancelled the rest */
    gate_open(go);
    assert_status(comes_to, end_of(future));
    end(pool, group, TPOOL_FAILED);
}
static void a_failure_that_cancels_what_waits_ends_it_after_its_run(void **state) {
    (void)state;
    gate begun = GATE_CLOSED, go = GATE_CLOSED;
    runner r = { .begun = &begun, .gate = &go };
    a_cancel_beside_a_run_ends_it_with_that(TPOOL_GROUP_CANCEL_PENDING, every(NULL, TPOOL_US(10), &r), &begun, &go,
                                            TPOOL_CANCELLED);
    assert_ran(1, &r);
}
static void a_failure_that_cancels_what_waits_ends_its_tries(void **state) {
    (void)state;
    gate begun = GATE_CLOSED, go = GATE_CLOSED;
    runner r = { .begun = &begun, .gate = &go, .fails_before = 1000 };
    a_cancel_beside_a_run_ends_it_with_that(TPOOL_GROUP_CANCEL_PENDING, tries(NULL, 100, 0, &r), &begun, &go,
                                            TPOOL_CANCELLED);
    assert_ran(1, &r);
}
static void a_failure_that_stops_what_runs_ends_it_with_its_run(void **state) {
    (void)state;
    gate begun = GATE_CLOSED, go = GATE_CLOSED;
    runner r = { .begun = &begun, .gate = &go };
    a_cancel_beside_a_run_ends_it_with_that(TPOOL_GROUP_STOP, every(NULL, TPOOL_US(10), &r), &begun, &go, TPOOL_OK);
    assert_int_equal(1, atomic_load(&r.runs));
}
/* Its further run waits in line as its pool is shut down: time and line are alike between two runs. */
static void a_shutdown_cancels_what_is_in_line_for_a_further_run(void **state) {
    (void)state;
    tpool *pool = new_pool(1), *other = new_pool(1);
    tpool_group *group = group_as((tpool_group_config){ .limit = 1 });
    gate begun = GATE_CLOSED, go = GATE_CLOSED, keeps = GATE_CLOSED;
    runner r = { .begun = &begun, .gate = &go };
    tpool_future *future = submitted_task(pool, every(group, 1, &r));
    gate_pass(&begun);
    add(other, (tpool_task){ .fn = gate_task, .arg = &keeps, .group = group });
    gate_open(&go);
    AWAIT_ARRIVALS(&keeps, 1);
    sleep_ms(2); /* it goes in line; if it has not yet, the shutdown finds it before */
    assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
    gate_open(&keeps);
    assert_status(TPOOL_CANCELLED, end_of(future));
    assert_int_equal(1, atomic_load(&r.runs));
    end(pool, group, TPOOL_CANCELLED);
    assert_status(TPOOL_OK, tpool_destroy(other));
}
static atomic_int failures_told;
static void tell_failure(const tpool_error *error, void *context) {
    (void)error;
    (void)context;
    atomic_fetch_add(&failures_told, 1);
}
static void a_periodic_members_failure_goes_to_on_failure_though_its_future_is_held(void **state) {
    (void)state;
    atomic_store(&failures_told, 0);
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .on_failure = tell_failure });
    tpool_group *group = group_as((tpool_group_config){ .on_failure = TPOOL_GROUP_KEEP_GOING });
    runner r = { .fails_before = 1000 };
    tpool_future *future = submitted_task(pool, every(group, 1, &r));
    assert_status(TPOOL_FAILED, tpool_group_wait(group, LIMIT, NULL));
    assert_int_equal(1, atomic_load(&failures_told));
    assert_status(TPOOL_FAILED, end_of(future));
    end(pool, group, TPOOL_FAILED);
}
/* The waiter's try keeps no worker: it is the last one, once all have ended. */
static tpool_status wait_for_group(void *group) { return tpool_group_wait(group, TPOOL_FOREVER, NULL); }
static void a_try_of_a_waiter_outlasts_the_workers(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_group *group = group_as((tpool_group_config){ .waiter_runs = true });
    gate busy = GATE_CLOSED, begun = GATE_CLOSED, go = GATE_CLOSED;
    runner r = { .fails_before = 1000, .begun = &begun, .gate = &go };
    background waits;
    add(pool, (tpool_task){ .fn = gate_task, .arg = &busy });
    AWAIT_ARRIVALS(&busy, 1);
    add(pool, tries(group, 5, 0, &r));
    background_start(&waits, wait_for_group, group);
    gate_pass(&begun);
    gate_open(&busy);
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT));
    gate_open(&go);
    assert_status(TPOOL_FAILED, background_join(&waits));
    assert_int_equal(1, atomic_load(&r.runs));
    end(pool, group, TPOOL_FAILED);
}
static void a_try_that_fails_is_no_failure_of_the_group(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    tpool_group *group = group_as((tpool_group_config){ .limit = 1 });
    runner r = { .fails_before = 5 }, in_vain = { .fails_before = 1000 };
    add(pool, tries(group, 10, TPOOL_US(10), &r));
    assert_status(TPOOL_OK, tpool_group_wait(group, LIMIT, NULL));
    assert_int_equal(5, atomic_load(&r.runs));
    add(pool, tries(group, 3, 0, &in_vain));
    const tpool_error *error = NULL;
    assert_status(TPOOL_FAILED, tpool_group_wait(group, LIMIT, &error));
    assert_int_equal(4, error->code);
    assert_int_equal(4, atomic_load(&in_vain.runs));
    end(pool, group, TPOOL_FAILED);
}
static tpool_status destroy_group(void *group) { return tpool_group_destroy((tpool_group *)group); }
/* A thread of the program that waits runs tries, and never a periodic member. */
static void a_waiter_runs_tries_and_nothing_periodic(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    tpool_group *group = group_as((tpool_group_config){ .waiter_runs = true });
    runner r = { .fails_before = 20 }, periodic = { .last = 1 };
    add(h.pool, tries(group, 100, 0, &r));
    assert_status(TPOOL_OK,
                  tpool_group_wait(group, TPOOL_FOREVER, NULL)); /* the worker is held: so this thread has run it */
    assert_int_equal(20, atomic_load(&r.runs));
    add(h.pool, every(group, NEVER, &periodic));
    assert_status(TPOOL_TIMEOUT, tpool_group_wait(group, TPOOL_MS(2), NULL));
    background wait;
    background_start(&wait, destroy_group, group);
    sleep_ms(20); /* long enough for a mistake; what is right does not depend on it */
    assert_int_equal(0, atomic_load(&periodic.runs));
    gate_open(&h.gate);
    assert_status(TPOOL_OK, background_join(&wait));
    assert_int_equal(1, atomic_load(&periodic.runs));
    held_destroy(&h);
}
static void a_full_group_drops_what_has_not_started_yet(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_group *group = group_as((tpool_group_config){ .capacity = 2, .on_full = TPOOL_FULL_DROP_OLDEST });
    runner r = { 0 };
    add(pool, every(group, NEVER, &r));
    await_between(pool, &r);
    tpool_future *never = bare(),
                 *oldest = submitted_task(
                     pool, (tpool_task){ .fn = nothing, .after = &never, .after_count = 1, .group = group });
    add(pool, (tpool_task){ .fn = nothing, .after = &never, .after_count = 1, .group = group });
    assert_status(TPOOL_CANCELLED, end_of(oldest));
    assert_int_equal(0, atomic_load(&r.freed));
    complete(never);
    EVENTUALLY(tpool_group_count(group) == 1);
    assert_status(TPOOL_OK, tpool_group_cancel(group));
    end(pool, group, TPOOL_CANCELLED);
}
/* Its try expires behind others in the queue, with a permit, or in line, without one. */
static void a_try_that_expires_gives_its_permit_on(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    tpool_group *group = group_as((tpool_group_config){ .limit = 1 });
    runner r = { 0 }, in_line = { 0 };
    tpool_task task = tries(group, 1, NEVER, &r);
    task.expires_ns = TPOOL_MS(1);
    add(h.pool, task);
    task = tries(group, 1, TPOOL_US(1), &in_line);
    task.expires_ns = TPOOL_MS(1);
    add(h.pool, task);
    atomic_int ran = 0;
    add(h.pool, (tpool_task){ .fn = count_up, .arg = &ran, .group = group });
    sleep_ms(20); /* both have expired: by the worker that is held, by nobody */
    gate_open(&h.gate);
    EVENTUALLY(atomic_load(&ran) == 1);
    EVENTUALLY(tpool_group_count(group) == 1);
    assert_int_equal(0, atomic_load(&r.runs));
    assert_status(TPOOL_OK, tpool_group_cancel(group));
    tpool_status comes_to = tpool_group_destroy(group);
    assert_true(comes_to == TPOOL_CANCELLED || comes_to == TPOOL_EXPIRED); /* in_line has had its second try, or not */
    held_destroy(&h);
}
static atomic_int told;
static void note_failure(const tpool_error *error, void *context) {
    (void)error, (void)context;
    atomic_fetch_add(&told, 1);
}
static void the_failure_of_a_periodic_member_is_told(void **state) {
    (void)state;
    tpool *pool = NULL;
    tpool_config config = { .max_workers = 1, .on_failure = note_failure };
    assert_status(TPOOL_OK, tpool_create(&pool, &config));
    tpool_group *group = group_as((tpool_group_config){ .on_failure = TPOOL_GROUP_KEEP_GOING });
    runner r = { .fails_before = 2 };
    atomic_store(&told, 0);
    tpool_future *future = submitted_task(pool, every(group, NEVER, &r)); /* held, and told all the same */
    assert_status(TPOOL_FAILED, end_of(future));
    assert_int_equal(1, atomic_load(&told));
    end(pool, group, TPOOL_FAILED);
}
/* A waiter runs all tries, whose entries stay in the queue: these could not ask. */
static void a_failure_is_told_though_entries_of_tries_are_left(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .on_failure = note_failure });
    tpool_group *group = group_as((tpool_group_config){ .on_failure = TPOOL_GROUP_KEEP_GOING, .waiter_runs = true });
    runner r = { .fails_before = 1000 };
    atomic_store(&told, 0);
    assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &g, NULL));
    AWAIT_ARRIVALS(&g, 1);
    add(pool, tries(group, 2, 0, &r));
    assert_status(TPOOL_FAILED, tpool_group_wait(group, TPOOL_FOREVER, NULL));
    assert_int_equal(3, atomic_load(&r.runs));
    assert_int_equal(1, atomic_load(&told));
    gate_open(&g);
    end(pool, group, TPOOL_FAILED);
}
static void a_try_in_line_costs_no_time(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    tpool_group *group = group_as((tpool_group_config){ .limit = 1 });
    enum { LINE = 2000 };
    static runner all[LINE];
    for (int i = 0; i < LINE; i++) {
        all[i] = (runner){ 0 };
        tpool_task task = tries(group, 1, NEVER, &all[i]);
        task.expires_ns = TPOOL_US(100);
        add(h.pool, task);
    }
    int64_t least = TPOOL_FOREVER; /* in one of three, for the timekeeper has something to do at first */
    for (int i = 0; i < 3; i++) {
        int64_t before = cpu_of_process();
        sleep_ms(100);
        int64_t spent = cpu_of_process() - before;
        if (spent < least) least = spent;
    }
    assert_status(TPOOL_OK, tpool_group_cancel(group));
    assert_status(TPOOL_CANCELLED, tpool_group_destroy(group));
    held_destroy(&h);
    assert_in_range(least, 0, TPOOL_MS(20)); /* 200,000 looks of the timekeeper would take all of it */
}
static void cancels_beside_all_runs(void **state) {
    (void)state;
    for (int round = 0; round < (SLOW_TOOL ? 50 : 300); round++) {
        tpool *pool = new_pool(2);
        tpool_group *group =
            group_as((tpool_group_config){ .limit = 1 + round % 2, .on_failure = (tpool_group_failure)(round % 3) });
        runner all[6];
        for (int i = 0; i < 6; i++) {
            all[i] = (runner){ .fails_before = i < 3 ? 0 : 1000 };
            add(pool, i < 3 ? every(group, TPOOL_US(20), &all[i]) : tries(group, 1000000, TPOOL_US(1), &all[i]));
        }
        if (round % 4) EVENTUALLY(atomic_load(&all[round % 6].runs) >= round % 4);
        assert_status(TPOOL_OK, tpool_group_cancel(group));
        assert_status(TPOOL_OK, tpool_destroy(pool));
        (void)tpool_group_destroy(group);
        for (int i = 0; i < 6; i++) assert_int_equal(1, atomic_load(&all[i].freed));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_group_waits_for_all_runs),
        TEST(between_two_runs_others_have_its_permit),
        TEST(each_run_waits_in_line_for_its_permit),
        TEST(a_cancel_between_two_runs_ends_it),
        TEST(a_failure_that_cancels_what_waits_ends_it_after_its_run),
        TEST(a_failure_that_cancels_what_waits_ends_its_tries),
        TEST(a_failure_that_stops_what_runs_ends_it_with_its_run),
        TEST(a_try_of_a_waiter_outlasts_the_workers),
        TEST(a_shutdown_cancels_what_is_in_line_for_a_further_run),
        TEST(a_periodic_members_failure_goes_to_on_failure_though_its_future_is_held),
        TEST(a_try_that_fails_is_no_failure_of_the_group),
        TEST(a_waiter_runs_tries_and_nothing_periodic),
        TEST(a_full_group_drops_what_has_not_started_yet),
        TEST(a_try_that_expires_gives_its_permit_on),
        TEST(the_failure_of_a_periodic_member_is_told),
        TEST(a_failure_is_told_though_entries_of_tries_are_left),
        TEST(a_try_in_line_costs_no_time),
        TEST(cancels_beside_all_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
