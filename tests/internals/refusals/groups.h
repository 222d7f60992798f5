/* Scenarios about groups: what a member needs is had at its submit; a permit that goes on, and the end of a member, ask
   for nothing. A submit that is refused gives back its place and its permits. */
#ifndef TPOOL_TESTS_REFUSALS_GROUPS_H
#define TPOOL_TESTS_REFUSALS_GROUPS_H
#include "held.h"

static tpool_group *group_with(tpool_group_config config) {
    tpool_group *group = NULL;
    bool created = OKAY(tpool_group_create(&group, &config), NO_MEMORY);
    EXPECT(created == (group != NULL));
    return group;
}
/* All members are done, and this is what they have come to. */
static void end_group(int line, tpool_group *group, tpool_status expected) {
    const tpool_error *error = NULL;
    if (!group) return;
    tpool_status status = tpool_group_wait(group, CALL_LIMIT, &error);
    if (status != expected) report(line, "the end of a group", tpool_status_name(status));
    if ((expected == TPOOL_FAILED) != (error != NULL)) report(line, "the error of a group", "is there, or is not");
    if (tpool_group_count(group) != 0) report(line, "a group that is waited for", "has members");
    status = tpool_group_destroy(group);
    if (status != expected) report(line, "the destroy of a group", tpool_status_name(status));
}
#define group_end(group, expected) end_group(__LINE__, group, expected)

/* Members of a tree, which wait for nothing, for a permit, for a future, for a time; and futures of the groups. */
static void scenario_groups(void) {
    enum { TASKS = 36 };
    item items[TASKS] = { 0 };
    tpool_future *before = bare_future(), *ends = NULL, *cancelled = NULL, *futures[TASKS] = { NULL };
    tpool *pool = pool_with((tpool_config){ .max_workers = 2 });
    tpool_group *root = group_with((tpool_group_config){ .limit = 2, .capacity = TASKS });
    tpool_group *serial = root ? group_with((tpool_group_config){ .limit = 1, .parent = root }) : NULL;
    tpool_completions *completions = NULL;
    OKAY(tpool_as_completed(NULL, 0, &completions), NO_MEMORY);
    for (int i = 0; i < TASKS && pool && before && serial; i++) {
        tpool_task like = { .group = i % 2 ? serial : root };
        like.after = &before;
        like.after_count = i % 3 == 0;
        like.delay_ns = i % 7 == 0 ? TPOOL_US(200) : 0;
        like.priority = i % 5 == 0;
        like.expires_ns = i % 6 == 0 ? TPOOL_SEC(1000) : 0;
        like.completions = i % 4 == 0 ? completions : NULL;
        submit_item(pool, &items[i], i % 9 == 0 ? 24 : 0, like, i % 8 ? NULL : &futures[i], REFUSED);
    }
    if (root && OKAY(tpool_group_future(root, &ends), NO_MEMORY)) EXPECT(ends != NULL);
    if (serial && OKAY(tpool_group_future(serial, &cancelled), NO_MEMORY)) {
        bool is = tpool_future_cancel(cancelled); /* unless it has ended */
        EXPECT(is == tpool_future_cancelled(cancelled));
    }
    complete_bare(before);
    if (ends) ENDS_WELL(ends, NULL, false);
    group_end(serial, TPOOL_OK);
    group_end(root, TPOOL_OK);
    if (pool) pool_end(pool);
    tpool_completions_destroy(completions);
    tpool_future_release(ends);
    tpool_future_release(cancelled);
    for (int i = 0; i < TASKS; i++) tpool_future_release(futures[i]);
    CHECK_ITEMS(items, TASKS, ALL_RAN);
}

/* Full groups that refuse, or drop the oldest; a full pool besides. */
static void scenario_groups_that_are_full(void) {
    enum { TASKS = 20, CAPACITY = 4 };
    for (int drops = 0; drops < 2; drops++) {
        item items[TASKS] = { 0 };
        int taken = 0;
        gate g = GATE_CLOSED;
        tpool *pool = pool_with(
            (tpool_config){ .max_workers = 1, .queue_capacity = CAPACITY - 1, .on_full = TPOOL_FULL_CALLER_RUNS });
        tpool_group *group = group_with((tpool_group_config){
            .capacity = CAPACITY, .on_full = drops ? TPOOL_FULL_DROP_OLDEST : TPOOL_FULL_REJECT });
        if (pool && group && hold(pool, &g)) {
            for (int i = 0; i < TASKS; i++) {
                tpool_task task = { .fn = item_run, .arg = &items[i], .arg_free = item_free, .group = group };
                tpool_status status = tpool_submit_task(pool, &task, NULL);
                items[i].taken = status == TPOOL_OK;
                taken += items[i].taken;
                if (drops || status != TPOOL_FULL) OKAY(status, REFUSED);
                EXPECT(tpool_group_count(group) <= CAPACITY);
                EXPECT(tpool_group_count(group) <= (size_t)taken);
            }
        }
        gate_open(&g);
        tpool_status status = tpool_group_destroy(group);
        EXPECT(status == TPOOL_OK || (drops && status == TPOOL_CANCELLED));
        if (pool) pool_end(pool);
        CHECK_ITEMS(items, TASKS, drops ? SOME_RAN : ALL_RAN);
    }
}

/* A serial queue that is longer than the memory of its pool's lane and heap; and whose members are cancelled. */
static void scenario_a_long_line(void) {
    enum { TASKS = 300 };
    for (int cancels = 0; cancels < 2; cancels++) {
        static item items[TASKS];
        memset(items, 0, sizeof items);
        gate g = GATE_CLOSED;
        tpool *pool = pool_with((tpool_config){ .max_workers = 1 });
        tpool_group *group = group_with((tpool_group_config){ .limit = 100 });
        if (pool && group && hold(pool, &g)) {
            for (int i = 0; i < TASKS; i++) {
                tpool_task like = { .group = group, .priority = i % 3 == 0, .expires_ns = i % 4 ? 0 : TPOOL_SEC(1000) };
                submit_item(pool, &items[i], 0, like, NULL, REFUSED);
            }
            CHECK_GROUP(group);
            if (cancels) OKAY(tpool_group_cancel(group), 0);
            tpool_task late = { .fn = nothing, .group = group };
            if (cancels) EXPECT(tpool_submit_task(pool, &late, NULL) == TPOOL_CANCELLED);
            CHECK_GROUP(group);
        }
        gate_open(&g);
        bool any = false;
        for (int i = 0; i < TASKS; i++) any = any || items[i].taken;
        group_end(group, cancels && any ? TPOOL_CANCELLED : TPOOL_OK);
        if (pool) pool_end(pool);
        CHECK_ITEMS(items, TASKS, cancels ? NONE_RAN : ALL_RAN);
    }
}

/* The first failure cancels the others, of those above too; what keeps going tells each failure. */
static atomic_int failures_told;
static void tell_failure(const tpool_error *error, void *context) {
    (void)context;
    EXPECT(error->message != NULL);
    atomic_fetch_add(&failures_told, 1);
}
static void *raise_and_count(void *arg) {
    atomic_fetch_add(&((item *)arg)->runs, 1);
    return tpool_raise(7, "the member of a group has failed, with a message of some length");
}
static void scenario_groups_that_fail(void) {
    enum { TASKS = 8 };
    item items[2 * TASKS] = { 0 };
    int told = 0;
    atomic_store(&failures_told, 0);
    tpool_future *ends = NULL;
    tpool *pool = pool_with((tpool_config){ .max_workers = 2, .on_failure = tell_failure });
    tpool_group *root = group_with((tpool_group_config){ .on_failure = TPOOL_GROUP_STOP });
    tpool_group *stops = root ? group_with((tpool_group_config){ .limit = 1, .parent = root }) : NULL;
    tpool_group *goes = group_with((tpool_group_config){ .limit = 1, .on_failure = TPOOL_GROUP_KEEP_GOING });
    for (int i = 0; i < 2 * TASKS && pool && stops && goes; i++) {
        bool keeps = i >= TASKS;
        tpool_task task = {
            .fn = raise_and_count, .arg = &items[i], .arg_free = item_free, .group = keeps ? goes : stops
        };
        tpool_status status = tpool_submit_task(pool, &task, NULL);
        items[i].taken = status == TPOOL_OK;
        told += keeps && items[i].taken;
        if (keeps || status != TPOOL_CANCELLED) OKAY(status, REFUSED);
    }
    if (root) OKAY(tpool_group_future(root, &ends), NO_MEMORY);
    tpool_status expected[2] = { TPOOL_OK, TPOOL_OK };
    for (int i = 0; i < 2 * TASKS; i++)
        if (items[i].taken) expected[i >= TASKS] = TPOOL_FAILED;
    if (ends) {
        const tpool_error *error = NULL;
        EXPECT(tpool_future_result(ends, CALL_LIMIT, NULL) == expected[0]);
        OKAY(tpool_future_error(ends, 0, &error), 0);
        EXPECT((error != NULL) == (expected[0] == TPOOL_FAILED));
    }
    group_end(stops, expected[0]);
    group_end(root, expected[0]);
    group_end(goes, expected[1]);
    if (pool) pool_end(pool);
    EXPECT(atomic_load(&failures_told) == told);
    tpool_future_release(ends);
    CHECK_ITEMS(items, TASKS, SOME_RAN);
    CHECK_ITEMS(items + TASKS, TASKS, ALL_RAN);
}

/* Tasks with a scope each, whose members they execute, and a scope in one of these. The wait keeps its promise to stop
 * whether it has had memory for that or not. */
typedef struct scope_of_items {
    item items[3];
    int number, depth;
} scope_of_items;
static void *run_scope(void *arg);
static scope_of_items inner_scopes[4];
static void *run_inner_scope(void *arg) { return run_scope(arg); }
static void *run_scope(void *arg) {
    scope_of_items *its = (scope_of_items *)arg;
    tpool_group *group = group_with((tpool_group_config){ .waiter_runs = its->depth > 0 });
    if (!group) return NULL;
    if (its->depth == 0) {
        scope_of_items *inner = &inner_scopes[its->number];
        tpool_task task = { .fn = run_inner_scope, .arg = inner, .group = group };
        inner->depth = 1;
        OKAY(tpool_submit_task(tpool_current(), &task, NULL), REFUSED);
    }
    for (int i = 0; i < 3; i++)
        submit_item(tpool_current(), &its->items[i], 0, (tpool_task){ .group = group }, NULL, REFUSED);
    tpool_status status = tpool_group_wait(group, TPOOL_FOREVER, NULL);
    EXPECT(status == TPOOL_OK || (status == TPOOL_NO_THREAD && atomic_load(&fault->injected) > 0));
    /* a wait that was refused its spare worker has left members behind */
    while (tpool_group_count(group) > 0 && CALL_LIMIT > 0) (void)!tpool_group_wait(group, TPOOL_MS(1), NULL);
    EXPECT(tpool_group_destroy(group) == TPOOL_OK);
    return NULL;
}
static void scenario_scopes_in_tasks(void) {
    enum { SCOPES = 4 };
    static scope_of_items scopes[SCOPES];
    tpool_future *futures[SCOPES] = { NULL };
    memset(scopes, 0, sizeof scopes);
    memset(inner_scopes, 0, sizeof inner_scopes);
    tpool *pool = pool_with((tpool_config){ .max_workers = 2 });
    for (int i = 0; i < SCOPES && pool; i++) {
        scopes[i].number = i;
        OKAY(tpool_submit(pool, run_scope, &scopes[i], &futures[i]), REFUSED);
    }
    for (int i = 0; i < SCOPES; i++)
        if (futures[i]) ENDS_WELL(futures[i], NULL, false);
    if (pool) pool_end(pool);
    for (int i = 0; i < SCOPES; i++) {
        tpool_future_release(futures[i]);
        CHECK_ITEMS(scopes[i].items, 3, ALL_RAN);
        CHECK_ITEMS(inner_scopes[i].items, 3, ALL_RAN);
    }
}

/* A task that waits for its group is asked to stop while a member runs: in place; or, if there is no memory to hear of
 * stops meanwhile, in a spare worker. If that is refused too, in place, and the stop is noticed after it. */
static gate stop_gate;
static void *spin_until_stopped(void *arg) {
    gate_pass((gate *)arg);
    bool refused = atomic_load(&fault->is) == ALLOCATIONS_FROM && atomic_load(&fault->injected) > 0;
    while (!tpool_stop_requested() && !refused && CALL_LIMIT > 0) sched_yield();
    EXPECT(refused || tpool_stop_requested());
    return NULL;
}
static void *wait_for_stopped(void *arg) {
    (void)arg;
    tpool_group *group = group_with((tpool_group_config){ 0 });
    if (!group) {
        gate_pass(&stop_gate);
        return NULL;
    }
    tpool_task task = { .fn = spin_until_stopped, .arg = &stop_gate, .group = group };
    if (!OKAY(tpool_submit_task(tpool_current(), &task, NULL), REFUSED)) gate_pass(&stop_gate);
    EXPECT(tpool_group_destroy(group) == TPOOL_OK); /* also if a spare worker was refused */
    return NULL;
}
static void scenario_a_stop_beside_a_member_in_place(void) {
    tpool_future *waits = NULL;
    gate closed = GATE_CLOSED;
    stop_gate = closed;
    gate_open(&stop_gate);
    tpool *pool = pool_with((tpool_config){ .max_workers = 1 });
    if (pool && OKAY(tpool_submit(pool, wait_for_stopped, NULL, &waits), REFUSED)) {
        while (gate_arrived(&stop_gate) == 0 && CALL_LIMIT > 0) sched_yield();
        tpool_future_request_stop(waits);
        ENDS_WELL(waits, NULL, false);
    }
    if (pool) pool_end(pool);
    tpool_future_release(waits);
}

/* The search for a cycle goes through a group's members, their permits, and its future. */
static void *wait_for_group_of(void *arg) {
    EXPECT(tpool_group_wait((tpool_group *)arg, TPOOL_FOREVER, NULL) == TPOOL_OK);
    return NULL;
}
static void scenario_a_wait_for_a_group_of_held_tasks(void) {
    enum { TASKS = 100 };
    tpool_future *before = bare_future(), *waits = NULL;
    item items[TASKS] = { 0 };
    tpool *pool = pool_with((tpool_config){ .max_workers = 1 });
    tpool_group *group = group_with((tpool_group_config){ .limit = 1 });
    for (int i = 0; i < TASKS && pool && group && before; i++) {
        tpool_task like = { .group = group, .after = &before, .after_count = i < TASKS / 2 };
        submit_item(pool, &items[i], 0, like, NULL, REFUSED);
    }
    bool any = false;
    for (int i = 0; i < TASKS / 2; i++) any = any || items[i].taken;
    if (any && OKAY(tpool_submit(pool, wait_for_group_of, group, &waits), REFUSED)) {
        while (blocked_of(pool) == 0 && CALL_LIMIT > 0) continue; /* once it is blocked, it has searched */
    }
    complete_bare(before);
    if (waits) ENDS_WELL(waits, NULL, false);
    group_end(group, TPOOL_OK);
    if (pool) pool_end(pool);
    tpool_future_release(waits);
    CHECK_ITEMS(items, TASKS, ALL_RAN);
}

/* Members with nothing but a function, which come one after the other with one task, while others of the pool wait. */
static void *count_member(void *arg) {
    atomic_fetch_add((atomic_int *)arg, 1);
    return NULL;
}
static void scenario_members_of_one_carrier(void) {
    atomic_int ran = 0, others = 0;
    int members = 0, wanted = 0;
    gate g = GATE_CLOSED;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1 });
    tpool_group *serial = group_with((tpool_group_config){ .limit = 1, .waiter_runs = true });
    if (pool && serial && hold(pool, &g)) {
        for (int i = 0; i < 30; i++) {
            tpool_task task = { .fn = count_member, .arg = &ran, .group = serial };
            members += OKAY(tpool_submit_task(pool, &task, NULL), REFUSED);
            if (i % 4 == 0) wanted += OKAY(tpool_submit(pool, count_member, &others, NULL), REFUSED);
        }
        EXPECT(tpool_group_count(serial) == (size_t)members);
        gate_open(&g);
    }
    group_end(serial, TPOOL_OK);
    if (pool) pool_end(pool);
    EXPECT(ran == members && others == wanted);
}
#endif
