/* Groups: who waits for one runs its members; stops go down the tree; waits that could never end. */
#include "support.h"
#include "support/groups.h"
#if HAVE_FORK
#include "support/children.h"
#endif


/* ---- In place */
static void *note_thread(void *arg) {
    *(pthread_t *)arg = pthread_self();
    return tpool_current();
}
static void *scope_of_ten(void *arg) {
    tpool *pool = tpool_current();
    tpool_group *group = new_group();
    atomic_int *ran = (atomic_int *)arg;
    for (int i = 0; i < 10; i++) {
        tpool_task task = { .fn = count_up, .arg = ran, .group = group };
        if (tpool_submit_task(pool, &task, NULL) != TPOOL_OK) return NULL;
    }
    return tpool_group_destroy(group) == TPOOL_OK ? arg : NULL;
}
static void a_scope_in_a_pool_of_one(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .max_spares = -1 });
    atomic_int ran = 0;
    for (int i = 0; i < 100; i++) assert_ptr_equal(&ran, take(submitted(pool, scope_of_ten, &ran)));
    assert_int_equal(1000, atomic_load(&ran));
    assert_int_equal(1000, stats_of(pool).inlined);
    assert_int_equal(1, stats_of(pool).workers);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_waiter_runs_members(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, &(tpool_config){ .queue_capacity = 3 });
    for (int runs = 0; runs < 2; runs++) {
        tpool_group *group = new_group_as((tpool_group_config){ .waiter_runs = runs });
        pthread_t thread = 0;
        tpool_future *member = kept_member(h.pool, group, note_thread, &thread);
        assert_status(TPOOL_TIMEOUT, tpool_group_wait(group, TPOOL_MS(2), NULL));
        if (!runs) gate_open(&h.gate);
        assert_status(TPOOL_OK, tpool_group_wait(group, TPOOL_FOREVER, NULL));
        assert_int_equal(runs, pthread_equal(thread, pthread_self()) != 0);
        assert_ptr_equal(h.pool, take(member));
        assert_status(TPOOL_OK, tpool_group_destroy(group));
        if (!runs) {
            gate_close(&h.gate);
            tpool_future_release(h.holder);
            h.holder = held_at(h.pool, &h.gate);
        }
    }
    assert_null(tpool_current());
    held_destroy(&h);
}
/* A member that becomes ready while its group is waited for is run by the waiter. */
static tpool_status wait_for_ever(void *context) {
    return tpool_group_wait((tpool_group *)context, TPOOL_FOREVER, NULL);
}
static void a_waiter_runs_what_becomes_ready(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    tpool_group *group = new_group_as((tpool_group_config){ .waiter_runs = true });
    tpool_future *first = NULL, *second = NULL;
    assert_status(TPOOL_OK, tpool_future_create(&first));
    assert_status(TPOOL_OK, tpool_future_create(&second));
    tpool_future *held =
        submitted_task(h.pool, (tpool_task){ .fn = nothing, .after = &first, .after_count = 1, .group = group });
    tpool_future *last =
        submitted_task(h.pool, (tpool_task){ .fn = nothing, .after = &second, .after_count = 1, .group = group });
    background waits;
    background_start_blocked(&waits, wait_for_ever, group);
    tpool_future *direct = kept_member(h.pool, group, nothing, NULL);
    assert_status(TPOOL_OK, end_of(direct));
    background_await_block(&waits);
    assert_status(TPOOL_OK, tpool_future_set_result(first, NULL));
    assert_status(TPOOL_OK, end_of(held));
    background_await_block(&waits);
    assert_status(TPOOL_OK, tpool_future_set_result(second, NULL));
    assert_status(TPOOL_OK, end_of(last));
    assert_status(TPOOL_OK, background_join(&waits));
    tpool_future_release(first);
    tpool_future_release(second);
    assert_status(TPOOL_OK, tpool_group_destroy(group));
    held_destroy(&h);
}
static void a_waiter_runs_nothing_of_a_paused_pool(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_group *group = new_group_as((tpool_group_config){ .waiter_runs = true });
    assert_status(TPOOL_OK, tpool_pause(pool));
    atomic_int ran = 0;
    add_member(pool, group, count_up, &ran);
    background waits;
    background_start_blocked(&waits, wait_for_ever, group);
    assert_int_equal(0, atomic_load(&ran));
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_status(TPOOL_OK, background_join(&waits));
    assert_status(TPOOL_OK, tpool_group_destroy(group));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* A tree: each member makes a group and waits for it. */
static atomic_int leaves;
static void *tree(void *arg) {
    int depth = (int)(intptr_t)arg;
    if (depth == 0) {
        atomic_fetch_add(&leaves, 1);
        return arg;
    }
    tpool_group *group = new_group_as(
        (tpool_group_config){ .parent = depth % 2 ? tpool_current_group() : NULL, .waiter_runs = depth % 3 == 0 });
    tpool_task task = { .fn = tree, .arg = (void *)(intptr_t)(depth - 1), .group = group };
    for (int i = 0; i < 3; i++)
        if (tpool_submit_task(tpool_current(), &task, NULL) != TPOOL_OK) abort();
    if (tpool_group_destroy(group) != TPOOL_OK) abort();
    return arg;
}
static void a_tree_of_groups(void **state) {
    (void)state;
    for (int workers = 1; workers <= 3; workers++) {
        tpool *pool = new_pool(workers);
        atomic_store(&leaves, 0);
        tpool_group *group = new_group_as((tpool_group_config){ .waiter_runs = true });
        add_member(pool, group, tree, (void *)(intptr_t)8);
        assert_status(TPOOL_OK, tpool_group_destroy(group));
        assert_int_equal(6561, atomic_load(&leaves));
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

/* The group is empty, and has a member again before its waiter, which runs members, can look. */
static tpool_group *refilled;
static atomic_int refills;
static atomic_bool waited;
static void refill(tpool_future *future, void *context) {
    (void)future;
    if (atomic_load(&waited) || atomic_fetch_add(&refills, 1) == 1000) return;
    tpool_future *again = NULL;
    add_member((tpool *)context, refilled, nothing, NULL);
    if (tpool_group_future(refilled, &again) != TPOOL_OK) abort();
    if (tpool_future_add_done_callback(again, refill, context) != TPOOL_OK) abort();
    tpool_future_release(again);
}
static void *wait_until_empty(void *arg) {
    refilled = new_group();
    refill(NULL, arg);
    tpool_status status = tpool_group_wait(refilled, TPOOL_FOREVER, NULL);
    atomic_store(&waited, true);
    return (void *)(intptr_t)status;
}
static void a_waiter_sees_that_the_group_was_empty(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    atomic_store(&refills, 0);
    atomic_store(&waited, false);
    assert_int_equal(TPOOL_OK, (intptr_t)take(submitted(pool, wait_until_empty, pool)));
    assert_in_range(atomic_load(&refills), 1, 2);
    assert_status(TPOOL_OK, tpool_group_destroy(refilled));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *raise_one(void *arg) { return tpool_raise(1, "%s", (const char *)arg); }
static void *scope_of_failures(void *arg) {
    tpool_group *group = new_group_as((tpool_group_config){ .on_failure = TPOOL_GROUP_KEEP_GOING });
    tpool_task task = { .fn = raise_one, .arg = "raised", .group = group };
    for (int i = 0; i < 3; i++)
        if (tpool_submit_task(tpool_current(), &task, NULL) != TPOOL_OK) abort();
    return tpool_group_destroy(group) == TPOOL_FAILED ? arg : NULL;
}
static atomic_int reported;
static void report(const tpool_error *error, void *context) {
    (void)context;
    if (error->code == 1 || error->status == TPOOL_EXPIRED) atomic_fetch_add(&reported, 1);
}
static void failures_in_place_are_reported(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .on_failure = report });
    assert_ptr_equal(&reported, take(submitted(pool, scope_of_failures, &reported)));
    assert_int_equal(3, atomic_load(&reported)); /* also of the last one, before the wait returns */
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static tpool_group *others_group;
static void *wait_for_others_group(void *arg) {
    gate_pass((gate *)arg);
    return (void *)(intptr_t)tpool_group_wait(others_group, TPOOL_FOREVER, NULL);
}
/* Members that others have submitted: they lie in the inject lane, come from a line, have a priority, or expire. */
static void failures_in_place_of_what_others_submit_are_reported(void **state) {
    (void)state;
    for (int how = 0; how < 4; how++) {
        tpool *pool = new_pool_as((tpool_config){ .max_workers = 2, .on_failure = report });
        gate begin = GATE_CLOSED, g = GATE_CLOSED;
        atomic_store(&reported, 0);
        others_group = new_group_as((tpool_group_config){ .limit = how == 1, .on_failure = TPOOL_GROUP_KEEP_GOING });
        tpool_future *waits = submitted(pool, wait_for_others_group, &begin);
        AWAIT_ARRIVALS(&begin, 1);
        tpool_future *holder = held_at(pool, &g);
        tpool_task task = { .fn = raise_one, .arg = "raised", .group = others_group, .priority = how == 2 };
        if (how == 3) task.expires_ns = 1;
        for (int i = 0; i < 3; i++) assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
        gate_open(&begin);
        assert_int_equal(how == 3 ? TPOOL_EXPIRED : TPOOL_FAILED, (intptr_t)take(waits));
        assert_int_equal(3, atomic_load(&reported));
        assert_int_equal(how == 3 ? 0 : 3, stats_of(pool).inlined);
        gate_open(&g);
        assert_status(TPOOL_OK, end_of(holder));
        (void)tpool_group_destroy(others_group);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

/* ---- In an initializer or finalizer */
static tpool_group *setup_group;
static int64_t setup_limit;
static atomic_int setup_status;
static _Thread_local bool set_up;
static gate setup_gate = GATE_CLOSED; /* until the member is there */
static void wait_in_setup(void) {     /* in the first; a replacement's finds no member */
    int none = -1;
    (void)atomic_compare_exchange_strong(&setup_status, &none, tpool_group_wait(setup_group, setup_limit, NULL));
}
static bool wait_in_initializer(void *context) {
    if (context) gate_pass(&setup_gate);
    if (context) wait_in_setup();
    set_up = true;
    return true;
}
static void wait_in_finalizer(void *context) {
    set_up = false;
    if (!context) wait_in_setup();
}
static void *is_set_up(void *arg) { /* a replacement may begin before the finalizer has come to its wait */
    if (!set_up) return NULL;
    while (atomic_load(&setup_status) == -1) sleep_ms(1);
    return arg;
}
static void a_wait_in_a_setup(void **state) {
    (void)state;
    for (int how = 0; how < 6; how++) {
        bool first = how < 3;
        setup_limit = how % 3 == 2 ? TPOOL_SEC(1000) : TPOOL_FOREVER;
        setup_group = new_group_as((tpool_group_config){ .waiter_runs = how % 3 == 1 });
        atomic_store(&setup_status, -1);
        gate_close(&setup_gate);
        tpool *pool = new_pool_as((tpool_config){ .max_workers = 1,
                                                  .max_tasks_per_worker = 1,
                                                  .initializer = wait_in_initializer,
                                                  .finalizer = wait_in_finalizer,
                                                  .context = first ? &setup_status : NULL });
        gate g = GATE_CLOSED;
        tpool_future *holder = first ? NULL : held_at(pool, &g);
        tpool_future *member = kept_member(pool, setup_group, is_set_up, &g);
        gate_open(&setup_gate);
        gate_open(&g);
        if (holder) assert_status(TPOOL_OK, end_of(holder));
        assert_ptr_equal(&g, take(member));
        assert_int_equal(TPOOL_DEADLOCK, atomic_load(&setup_status));
        assert_status(TPOOL_OK, tpool_destroy(pool));
        assert_status(TPOOL_OK, tpool_group_destroy(setup_group));
    }
}

/* ---- Stops */
typedef struct level {
    gate *leaf;
    int depth;
} level;
static atomic_int stopped;
static void *nested_scope(void *arg) {
    level *of = (level *)arg;
    if (of->depth == 0) {
        gate_pass(of->leaf);
        while (!tpool_stop_requested()) sleep_ms(1);
        atomic_fetch_add(&stopped, 1);
        return NULL;
    }
    level next = { of->leaf, of->depth - 1 };
    tpool_group *group = new_group();
    tpool_task task = { .fn = nested_scope, .arg = &next, .group = group };
    if (tpool_submit_task(tpool_current(), &task, NULL) != TPOOL_OK) abort();
    task.delay_ns = TPOOL_SEC(1000);
    task.fn = nothing;
    if (tpool_submit_task(tpool_current(), &task, NULL) != TPOOL_OK) abort();
    tpool_status status = tpool_group_destroy(group);
    if (status == TPOOL_CANCELLED) atomic_fetch_add(&stopped, 1);
    return NULL;
}
static void a_stop_goes_down_the_tree(void **state) {
    (void)state;
    tpool *pool = new_pool(4);
    for (int how = 0; how < 2; how++) {
        gate leaf = GATE_CLOSED;
        level top = { &leaf, 4 };
        atomic_store(&stopped, 0);
        tpool_group *group = new_group();
        tpool_future *task = kept_member(pool, group, nested_scope, &top);
        AWAIT_ARRIVALS(&leaf, 1);
        gate_open(&leaf);
        if (how == 0) tpool_future_request_stop(task);
        else assert_status(TPOOL_OK, tpool_group_cancel(group));
        assert_status(TPOOL_OK, end_of(task));
        assert_int_equal(5, atomic_load(&stopped));
        assert_status(TPOOL_OK, tpool_group_destroy(group));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* A member that the waiter runs waits for one that runs elsewhere, which looks for the stop. */
static void *until_stopped(void *arg) {
    gate_pass((gate *)arg);
    while (!tpool_stop_requested()) sleep_ms(1);
    return arg;
}
typedef struct pair {
    gate begun;
    tpool_future *elsewhere;
    atomic_int waits;
} pair;
static void *wait_for_elsewhere(void *arg) {
    pair *of = (pair *)arg;
    atomic_store(&of->waits, system_thread());
    return (void *)(intptr_t)tpool_future_result(of->elsewhere, TPOOL_FOREVER, NULL);
}
static void *scope_of_a_pair(void *arg) {
    pair *of = (pair *)arg;
    tpool_group *group = new_group();
    of->elsewhere = kept_member(tpool_current(), group, until_stopped, &of->begun);
    gate_await_arrivals(&of->begun, 1);
    add_member(tpool_current(), group, wait_for_elsewhere, of);
    tpool_status status = tpool_group_destroy(group);
    tpool_future_release(of->elsewhere);
    return (void *)(intptr_t)status;
}
static void a_stop_reaches_what_runs_elsewhere(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    pair of = { .begun = GATE_CLOSED };
    gate_open(&of.begun);
    tpool_future *task = submitted(pool, scope_of_a_pair, &of);
    await_thread_asleep(&of.waits);
    tpool_future_request_stop(task);
    assert_int_equal(TPOOL_OK, (intptr_t)take(task)); /* both had started */
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* A task that only waits, and one whose time to run passes while its member runs in place. */
static void *wait_for_a_delay(void *arg) {
    tpool_group *group = new_group();
    tpool_task task = { .fn = nothing, .delay_ns = TPOOL_SEC(1000), .group = group };
    if (tpool_submit_task(tpool_current(), &task, NULL) != TPOOL_OK) abort();
    gate_pass((gate *)arg);
    tpool_status status = tpool_group_wait(group, TPOOL_SEC(1000), NULL);
    return (void *)(intptr_t)(tpool_group_destroy(group) == status ? status : TPOOL_INVALID);
}
static void *scope_until_stopped(void *arg) {
    tpool_group *group = new_group();
    add_member(tpool_current(), group, until_stopped, arg);
    return (void *)(intptr_t)tpool_group_destroy(group);
}
static void a_stop_of_one_that_only_waits(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    gate g = GATE_CLOSED;
    tpool_future *task = submitted(pool, wait_for_a_delay, &g);
    AWAIT_ARRIVALS(&g, 1);
    gate_open(&g);
    sleep_ms(2);
    tpool_future_request_stop(task);
    assert_int_equal(TPOOL_CANCELLED, (intptr_t)take(task));
    task = submitted_task(pool, (tpool_task){ .fn = scope_until_stopped, .arg = &g, .run_limit_ns = TPOOL_MS(20) });
    assert_status(TPOOL_OK, end_of(task));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* A task that executes a member of its group in place, beside one that waits for its time. */
typedef struct scope_of_two {
    gate executes;
    _Atomic(tpool_future *) delayed;
} scope_of_two;
static void *wait_for_two(void *arg) {
    scope_of_two *of = arg;
    tpool_group *group = new_group();
    tpool_future *delayed = NULL;
    tpool_task task = { .fn = nothing, .delay_ns = TPOOL_SEC(1000), .group = group };
    REQUIRE_STATUS(TPOOL_OK, tpool_submit_task(tpool_current(), &task, &delayed));
    atomic_store(&of->delayed, delayed);
    add_member(tpool_current(), group, gate_task, &of->executes);
    return (void *)(intptr_t)tpool_group_destroy(group);
}
static void a_stop_cancels_the_others_while_the_waiter_executes_one(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    scope_of_two of = { .executes = GATE_CLOSED };
    tpool_future *task = submitted(pool, wait_for_two, &of);
    AWAIT_ARRIVALS(&of.executes, 1);
    tpool_future_request_stop(task);
    tpool_status other = tpool_future_result(atomic_load(&of.delayed), LIMIT, NULL);
    gate_open(&of.executes);
    assert_status(TPOOL_CANCELLED, other);
    assert_int_equal(TPOOL_CANCELLED, (intptr_t)take(task));
    tpool_future_release(atomic_load(&of.delayed));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* The wait stands in a map's item, or in a loop's body. */
static void *item_scope(void *item, void *context) {
    (void)scope_until_stopped(context);
    return item;
}
static tpool_status close_map(void *context) {
    tpool_map_close((tpool_map_iter *)context);
    return TPOOL_OK;
}
static void body_scope(size_t begin, size_t end, void *context) {
    (void)end;
    if (begin == 0) (void)scope_until_stopped(context);
}
static void *loop_task(void *arg) { return (void *)(intptr_t)tpool_for(tpool_current(), 0, 2, 1, body_scope, arg); }
static void a_stop_reaches_an_item_and_a_body(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    gate g = GATE_CLOSED;
    gate_open(&g);
    void *items[1] = { &g };
    tpool_map_iter *iter = NULL;
    tpool_map_spec spec = { .fn = item_scope, .context = &g, .items = items, .count = 1 };
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    AWAIT_ARRIVALS(&g, 1);
    background closes;
    background_start(&closes, close_map, iter);
    assert_status(TPOOL_OK, background_join(&closes));
    tpool_future *task = submitted(pool, loop_task, &g);
    AWAIT_ARRIVALS(&g, 2);
    tpool_future_request_stop(task);
    (void)take(task);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_stop_leaves_a_group_that_others_have_made(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    gate g = GATE_CLOSED, begin = GATE_CLOSED;
    others_group = new_group();
    add_member(pool, others_group, gate_task, &g);
    tpool_future *waits = submitted(pool, wait_for_others_group, &begin);
    AWAIT_ARRIVALS(&begin, 1);
    tpool_future_request_stop(waits);
    gate_open(&begin);
    assert_status(TPOOL_TIMEOUT, tpool_future_result(waits, TPOOL_MS(10), NULL));
    add_member(pool, others_group, nothing, NULL);
    gate_open(&g);
    assert_int_equal(TPOOL_OK, (intptr_t)take(waits));
    assert_status(TPOOL_OK, tpool_group_destroy(others_group));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void wake_gate(void *context) { gate_open((gate *)context); }
static void *on_stop_task(void *arg) {
    if (tpool_on_stop(wake_gate, arg) != TPOOL_OK) return NULL;
    gate_pass((gate *)arg);
    return arg;
}
static void a_cancel_calls_on_stop(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    tpool_group *top = new_group();
    tpool_group *group = new_subgroup(top);
    gate g = GATE_CLOSED;
    tpool_future *member = kept_member(pool, group, on_stop_task, &g);
    AWAIT_ARRIVALS(&g, 1);
    assert_status(TPOOL_OK, tpool_group_cancel(top));
    assert_ptr_equal(&g, take(member));
    assert_status(TPOOL_OK, tpool_group_destroy(group));
    assert_status(TPOOL_OK, tpool_group_destroy(top));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Waits that could never end */
static tpool_group *cycle_group;
static void *wait_for_next_of_own(void *arg) {
    tpool_future *next = kept_member((tpool *)arg, tpool_current_group(), nothing, NULL);
    tpool_status status = tpool_future_result(next, TPOOL_FOREVER, NULL);
    tpool_future_release(next);
    return (void *)(intptr_t)status;
}
static void a_member_that_waits_for_the_next_of_its_serial_group(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    tpool_group *group = new_serial();
    tpool_group *beneath = new_subgroup(group);
    assert_int_equal(TPOOL_DEADLOCK, (intptr_t)take(kept_member(pool, group, wait_for_next_of_own, pool)));
    assert_int_equal(TPOOL_DEADLOCK, (intptr_t)take(kept_member(pool, beneath, wait_for_next_of_own, pool)));
    assert_status(TPOOL_OK, tpool_group_destroy(beneath));
    assert_status(TPOOL_OK, tpool_group_destroy(group));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* A waits for a group, of which B waits for A. */
static tpool_future *cycle_future, *kept_future;
static gate cycle_gate = GATE_CLOSED;
static atomic_int group_thread, member_thread;
static void *wait_for_cycle_future(void *arg) {
    gate_pass(&cycle_gate);
    atomic_store(&member_thread, system_thread());
    (void)arg;
    return (void *)(intptr_t)tpool_future_result(cycle_future, TPOOL_FOREVER, NULL);
}
static void *wait_for_cycle_group(void *arg) {
    gate_pass((gate *)arg);
    atomic_store(&group_thread, system_thread());
    return (void *)(intptr_t)tpool_group_wait(cycle_group, TPOOL_FOREVER, NULL);
}
static void begin_cycle(void) {
    gate_close(&cycle_gate);
    atomic_store(&group_thread, 0);
    atomic_store(&member_thread, 0);
}
/* Two wait for each other once their gates open: the task of cycle_future, at `g`, for the group, and its member, at
 * cycle_gate. The later one, with `member_last` the member, finds the circle. */
static void check_that_the_later_wait_finds_it(gate *g, tpool_future *member, bool member_last) {
    gate_open(member_last ? g : &cycle_gate);
    await_thread_asleep(member_last ? &group_thread : &member_thread);
    gate_open(member_last ? &cycle_gate : g);
    void *group_end = NULL, *member_end = NULL;
    assert_status(TPOOL_OK, tpool_future_result(cycle_future, LIMIT, &group_end));
    assert_status(TPOOL_OK, tpool_future_result(member, LIMIT, &member_end));
    assert_int_equal(member_last ? TPOOL_OK : TPOOL_DEADLOCK, (intptr_t)group_end);
    assert_int_equal(member_last ? TPOOL_DEADLOCK : TPOOL_OK, (intptr_t)member_end);
    tpool_future_release(member);
    tpool_future_release(cycle_future);
}
static void a_circle_through_a_group(void **state) {
    (void)state;
    for (int last = 0; last < 2; last++) {
        tpool *pool = new_pool(2);
        gate g = GATE_CLOSED;
        begin_cycle();
        tpool_group *top = cycle_group = new_group();
        tpool_group *group = new_subgroup(top);
        cycle_future = submitted(pool, wait_for_cycle_group, &g);
        tpool_future *member = kept_member(pool, group, wait_for_cycle_future, NULL);
        AWAIT_ARRIVALS(&g, 1);
        AWAIT_ARRIVALS(&cycle_gate, 1);
        check_that_the_later_wait_finds_it(&g, member, last);
        assert_status(TPOOL_OK, tpool_group_destroy(group));
        assert_status(TPOOL_OK, tpool_group_destroy(top));
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}
/* A member waits for a future of its own group, for a task that waits for one, or that is held for one. */
static void *wait_at_gate(void *arg) {
    gate_pass(&cycle_gate);
    atomic_store(&member_thread, system_thread());
    return (void *)(intptr_t)tpool_future_result(*(tpool_future **)arg, TPOOL_FOREVER, NULL);
}
static void a_circle_through_a_groups_future(void **state) {
    (void)state;
    for (int how = 0; how < 8; how++) {
        tpool *pool = new_pool(2);
        begin_cycle();
        tpool_group *top = new_group();
        tpool_group *group = new_subgroup(top);
        tpool_future *ends = NULL, *awaited = NULL;
        tpool_future *member = kept_member(pool, how & 1 ? group : top, wait_at_gate, &awaited);
        AWAIT_ARRIVALS(&cycle_gate, 1);
        assert_status(TPOOL_OK, tpool_group_future(how & 4 ? group : top, &ends));
        if (how & 2) awaited = submitted_task(pool, (tpool_task){ .fn = nothing, .after = &ends, .after_count = 1 });
        else awaited = tpool_future_retain(ends);
        if (how == 4) assert_status(TPOOL_OK, end_of(tpool_future_retain(ends))); /* no member of it is left */
        gate_open(&cycle_gate);
        void *end = NULL;
        assert_status(TPOOL_OK, tpool_future_result(member, LIMIT, &end));
        bool circle = how < 4 || how == 5 || how == 7;
        assert_int_equal(circle ? TPOOL_DEADLOCK : TPOOL_OK, (intptr_t)end);
        assert_status(TPOOL_OK, tpool_group_destroy(group));
        assert_status(TPOOL_OK, tpool_group_destroy(top));
        assert_status(TPOOL_OK, end_of(ends));
        assert_status(TPOOL_OK, end_of(awaited));
        tpool_future_release(member);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}
/* A task waits for the future of a group, of which a member waits for the task: the later of the two finds it. */
static void *wait_for_kept(void *arg) {
    gate_pass((gate *)arg);
    atomic_store(&group_thread, system_thread());
    return (void *)(intptr_t)tpool_future_result(kept_future, TPOOL_FOREVER, NULL);
}
static void a_circle_of_two_through_a_groups_future(void **state) {
    (void)state;
    for (int last = 0; last < 2; last++) {
        tpool *pool = new_pool(2);
        gate g = GATE_CLOSED;
        begin_cycle();
        tpool_group *group = new_group();
        tpool_future *member = kept_member(pool, group, wait_for_cycle_future, NULL);
        AWAIT_ARRIVALS(&cycle_gate, 1);
        assert_status(TPOOL_OK, tpool_group_future(group, &kept_future));
        cycle_future = submitted(pool, wait_for_kept, &g);
        AWAIT_ARRIVALS(&g, 1);
        check_that_the_later_wait_finds_it(&g, member, last);
        assert_status(TPOOL_OK, end_of(kept_future));
        assert_status(TPOOL_OK, tpool_group_destroy(group));
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}
static atomic_int callback_status;
static void wait_in_callback(tpool_future *future, void *context) {
    (void)future;
    atomic_store(&callback_status, tpool_future_result((tpool_future *)context, TPOOL_FOREVER, NULL));
}
static void a_callback_of_a_member_and_its_groups_future(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    gate g = GATE_CLOSED;
    atomic_store(&callback_status, -1);
    tpool_group *group = new_group();
    tpool_future *member = kept_member(pool, group, gate_task, &g), *ends = NULL;
    assert_status(TPOOL_OK, tpool_group_future(group, &ends));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(member, wait_in_callback, ends));
    gate_open(&g);
    assert_ptr_equal(&g, take(member));
    assert_status(TPOOL_OK, end_of(ends));
    assert_int_equal(TPOOL_DEADLOCK, atomic_load(&callback_status));
    assert_status(TPOOL_OK, tpool_group_destroy(group));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* All workers wait for what is in line behind a member that is queued. */
static void *wait_for_future(void *arg) {
    return (void *)(intptr_t)tpool_future_result((tpool_future *)arg, TPOOL_FOREVER, NULL);
}
static void what_is_in_line_brings_its_holder(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .max_spares = -1 });
    tpool_group *group = new_serial();
    gate g = GATE_CLOSED;
    tpool_future *holder = held_at(pool, &g);
    tpool_future *first = NULL, *waits[2];
    assert_status(TPOOL_OK, tpool_future_create(&first));
    tpool_future *in_line = NULL, *ready = NULL;
    tpool_task task = { .fn = nothing, .priority = -5, .group = group };
    ready = submitted_task(pool, task);
    in_line = submitted_task(pool, task);
    for (int i = 0; i < 2; i++) waits[i] = submitted(pool, wait_for_future, in_line);
    gate_open(&g);
    for (int i = 0; i < 2; i++) assert_int_equal(TPOOL_OK, (intptr_t)take(waits[i]));
    assert_status(TPOOL_OK, end_of(ready));
    assert_status(TPOOL_OK, end_of(in_line));
    assert_status(TPOOL_OK, end_of(holder));
    tpool_future_release(first);
    assert_status(TPOOL_OK, tpool_group_destroy(group));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* The same holder has no future, and fails. */
static void what_is_taken_for_the_line_is_reported(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .max_spares = -1, .on_failure = report });
    tpool_group *group = new_group_as((tpool_group_config){ .limit = 1, .on_failure = TPOOL_GROUP_KEEP_GOING });
    gate g = GATE_CLOSED;
    atomic_store(&reported, 0);
    tpool_future *holder = held_at(pool, &g);
    tpool_task task = { .fn = raise_one, .arg = "raised", .priority = -5, .group = group };
    assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    task.fn = nothing;
    tpool_future *in_line = submitted_task(pool, task), *waits[2];
    for (int i = 0; i < 2; i++) waits[i] = submitted(pool, wait_for_future, in_line);
    gate_open(&g);
    for (int i = 0; i < 2; i++) assert_int_equal(TPOOL_OK, (intptr_t)take(waits[i]));
    assert_int_equal(1, atomic_load(&reported));
    assert_status(TPOOL_OK, end_of(in_line));
    assert_status(TPOOL_OK, end_of(holder));
    assert_status(TPOOL_FAILED, tpool_group_destroy(group));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* A pool of one whose worker waits for a group with members in another pool, whose worker waits for a task of the
   first. */
static void *wait_across(void *arg) {
    tpool *other = (tpool *)arg;
    tpool_group *group = new_group();
    tpool_future *back = submitted(tpool_current(), nothing, NULL);
    tpool_task task = { .fn = wait_for_future, .arg = back, .group = group };
    if (tpool_submit_task(other, &task, NULL) != TPOOL_OK) abort();
    tpool_status status = tpool_group_destroy(group);
    tpool_future_release(back);
    return (void *)(intptr_t)status;
}
static void waits_over_two_pools(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .max_spares = -1 });
    tpool *other = new_pool_as((tpool_config){ .max_workers = 1, .max_spares = -1 });
    for (int i = 0; i < 20; i++) assert_int_equal(TPOOL_OK, (intptr_t)take(submitted(pool, wait_across, other)));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_status(TPOOL_OK, tpool_destroy(other));
}
/* A member ends the thread that waits for its group: that of a worker, and one of the program's. */
static void *scope_that_ends(void *arg) {
    tpool_group *group = new_group();
    *(tpool_group **)arg = group;
    tpool_task task = { .fn = end_thread, .group = group };
    if (tpool_submit_task(tpool_current(), &task, NULL) != TPOOL_OK) abort();
    tpool_group_wait(group, TPOOL_FOREVER, NULL);
    abort();
}
static void *thread_that_ends(void *arg) {
    tpool_group_wait((tpool_group *)arg, TPOOL_FOREVER, NULL);
    abort();
}
static void a_member_ends_the_thread_that_waits(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    tpool_group *group = new_group_as((tpool_group_config){ .waiter_runs = true });
    tpool_future *member = kept_member(h.pool, group, end_thread, NULL);
    pthread_t thread;
    assert_int_equal(0, pthread_create(&thread, NULL, thread_that_ends, group));
    assert_status(TPOOL_BROKEN, end_of(member));
    pthread_join(thread, NULL);
    assert_status(TPOOL_BROKEN, tpool_group_destroy(group));
    gate_open(&h.gate);
    assert_status(TPOOL_BROKEN, end_of(submitted(h.pool, scope_that_ends, &group)));
    assert_status(TPOOL_BROKEN, tpool_group_destroy(group));
    held_destroy(&h);
}
#if HAVE_FORK
static void a_child_of_fork(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    tpool_group *group = new_serial();
    for (int i = 0; i < 3; i++) add_member(h.pool, group, nothing, NULL);
    pid_t child = fork();
    if (child == 0) {
        tpool_future *future = NULL;
        tpool_task task = { .fn = nothing, .group = group };
        CHECK_STATUS(TPOOL_BROKEN, tpool_submit_task(h.pool, &task, NULL));
        CHECK_STATUS(TPOOL_BROKEN, tpool_group_wait(group, TPOOL_FOREVER, NULL));
        CHECK_STATUS(TPOOL_BROKEN, tpool_group_future(group, &future));
        CHECK_STATUS(TPOOL_BROKEN, tpool_group_cancel(group));
        CHECK(tpool_group_count(group) == 0);
        tpool_group_config config = { .parent = group };
        tpool_group *beneath;
        CHECK_STATUS(TPOOL_BROKEN, tpool_group_create(&beneath, &config));
        CHECK_STATUS(TPOOL_BROKEN, tpool_group_destroy(group));
        if (CHILD_MAY_START_THREADS) {
            tpool *pool = NULL;
            CHECK_STATUS(TPOOL_OK, tpool_create(&pool, NULL));
            CHECK_STATUS(TPOOL_BROKEN, tpool_submit_task(pool, &task, NULL));
            tpool_group *own = NULL;
            CHECK_STATUS(TPOOL_OK, tpool_group_create(&own, NULL));
            task.group = own;
            CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
            CHECK_STATUS(TPOOL_OK, tpool_group_destroy(own));
            CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
        }
        _exit(0);
    }
    int status = 0;
    assert_int_equal(child, waitpid(child, &status, 0));
    assert_int_equal(0, status);
    gate_open(&h.gate);
    assert_status(TPOOL_OK, tpool_group_destroy(group));
    held_destroy(&h);
}
static void *die(void *arg) {
    (void)arg;
    _exit(7);
}
static void *no_group_there(void *arg) {
    bool none = tpool_current_group() == NULL;
    (void)arg;
    return tpool_return(&none, sizeof none);
}
static void members_in_processes(void **state) {
    (void)state;
    SKIP_UNDER_TSAN();
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 2, .kind = TPOOL_PROCESSES });
    tpool_group *group = new_group_as((tpool_group_config){ .limit = 1, .on_failure = TPOOL_GROUP_KEEP_GOING });
    tpool_future *member = kept_member(pool, group, no_group_there, NULL);
    bool *none = NULL;
    assert_status(TPOOL_OK, tpool_future_result(member, LIMIT, (void **)&none));
    assert_true(*none);
    tpool_future_release(member);
    add_member(pool, group, die, NULL);
    add_member(pool, group, nothing, NULL); /* the place is given back by a process that dies */
    const tpool_error *error;
    assert_status(TPOOL_BROKEN, tpool_group_wait(group, LIMIT, &error));
    assert_int_equal(7, error->code);
    assert_status(TPOOL_BROKEN, tpool_group_destroy(group));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
#endif

/* It keeps its group from having no members, and so itself from being ready. */
static void a_member_held_for_its_own_groups_future_is_held_until_it_is_cancelled(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    tpool *pool = new_pool(1);
    tpool_group *group = new_group();
    tpool_future *of_group = NULL,
                 *other = submitted_task(pool, (tpool_task){ .fn = gate_task, .arg = &g, .group = group });
    assert_status(TPOOL_OK, tpool_group_future(group, &of_group));
    tpool_future *held =
        submitted_task(pool, (tpool_task){ .fn = nothing, .after = &of_group, .after_count = 1, .group = group });
    gate_open(&g);
    assert_status(TPOOL_OK, end_of(other));
    assert_status(TPOOL_TIMEOUT, tpool_group_wait(group, TPOOL_MS(10), NULL));
    assert_status(TPOOL_TIMEOUT, tpool_drain(pool, TPOOL_MS(10)));
    assert_int_equal(1, tpool_group_count(group));
    assert_true(tpool_future_cancel(held));
    assert_status(TPOOL_CANCELLED, end_of(held));
    assert_status(TPOOL_CANCELLED, end_of(of_group));
    assert_status(TPOOL_CANCELLED, tpool_group_destroy(group));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_scope_in_a_pool_of_one),
        TEST(a_waiter_runs_members),
        TEST(a_waiter_runs_what_becomes_ready),
        TEST(a_waiter_runs_nothing_of_a_paused_pool),
        TEST(a_tree_of_groups),
        TEST(a_waiter_sees_that_the_group_was_empty),
        TEST(failures_in_place_are_reported),
        TEST(failures_in_place_of_what_others_submit_are_reported),
        TEST(a_wait_in_a_setup),
        TEST(a_stop_goes_down_the_tree),
        TEST(a_stop_reaches_what_runs_elsewhere),
        TEST(a_stop_of_one_that_only_waits),
        TEST(a_stop_cancels_the_others_while_the_waiter_executes_one),
        TEST(a_stop_reaches_an_item_and_a_body),
        TEST(a_stop_leaves_a_group_that_others_have_made),
        TEST(a_cancel_calls_on_stop),
        TEST(a_member_that_waits_for_the_next_of_its_serial_group),
        TEST(a_circle_through_a_group),
        TEST(a_circle_through_a_groups_future),
        TEST(a_circle_of_two_through_a_groups_future),
        TEST(a_callback_of_a_member_and_its_groups_future),
        TEST(what_is_in_line_brings_its_holder),
        TEST(what_is_taken_for_the_line_is_reported),
        TEST(waits_over_two_pools),
        TEST(a_member_ends_the_thread_that_waits),
        TEST(a_member_held_for_its_own_groups_future_is_held_until_it_is_cancelled),
#if HAVE_FORK
        TEST(a_child_of_fork),
        TEST(members_in_processes),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
