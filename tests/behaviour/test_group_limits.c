/* Groups: permits and serial queues, capacities, parents. */
#include "support.h"
#include "support/serial.h"
#include "support/submits.h"
#include <sched.h>


/* ---- Permits */
enum { SUBMITTERS = 8, EACH = SLOW_TOOL ? 300 : 3000 };
static atomic_int running, most, disorder, last_of[SUBMITTERS];
static tpool *shared_pools[2];
static tpool_group *shared_group;
static bool in_order;
static void *count_running(void *arg) {
    int number = (int)(intptr_t)arg, submitter = number / EACH, n = number % EACH;
    int now = atomic_fetch_add(&running, 1) + 1, seen = atomic_load(&most);
    while (now > seen && !atomic_compare_exchange_weak(&most, &seen, now)) { }
    if (in_order && atomic_exchange(&last_of[submitter], n) != n - 1) atomic_fetch_add(&disorder, 1);
    if (n % 64 == 0) sched_yield();
    if (n % 97 == 0) tpool_raise(1, "raised");
    atomic_fetch_sub(&running, 1);
    return NULL;
}
static void *count_ended(void *arg) {
    if ((intptr_t)arg % 251 == 250) {
        pthread_exit(NULL);
    }
    return count_running(arg);
}
static void *submit_each(void *arg) {
    int submitter = (int)(intptr_t)arg;
    for (int i = 0; i < EACH; i++) {
        tpool_task task = { .fn = in_order ? count_running : count_ended,
                            .arg = (void *)(intptr_t)(submitter * EACH + i),
                            .priority = in_order ? 0 : i % 3 - 1,
                            .group = shared_group };
        tpool_future *future = NULL;
        if (tpool_submit_task(shared_pools[in_order ? 0 : i % 2], &task, i % 2 ? &future : NULL) != TPOOL_OK) abort();
        if (i % 5 == 1 && !in_order) tpool_future_cancel(future);
        tpool_future_release(future);
    }
    return NULL;
}
static void submit_from_eight(int limit) {
    in_order = limit == 1;
    for (int i = 0; i < 2; i++) shared_pools[i] = new_pool(3);
    shared_group = new_group_as((tpool_group_config){ .limit = limit, .on_failure = TPOOL_GROUP_KEEP_GOING });
    atomic_store(&most, 0);
    atomic_store(&disorder, 0);
    pthread_t threads[SUBMITTERS];
    for (int i = 0; i < SUBMITTERS; i++) {
        atomic_store(&last_of[i], -1);
        pthread_create(&threads[i], NULL, submit_each, (void *)(intptr_t)i);
    }
    for (int i = 0; i < SUBMITTERS; i++) pthread_join(threads[i], NULL);
    tpool_status status = tpool_group_destroy(shared_group);
    assert_true(status == TPOOL_FAILED || status == TPOOL_BROKEN);
    assert_in_range(atomic_load(&most), 1, limit);
    assert_int_equal(0, atomic_load(&disorder));
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_destroy(shared_pools[i]));
}
static void one_permit_under_eight_submitters(void **state) {
    (void)state;
    submit_from_eight(1);
}
static void three_permits_under_eight_submitters(void **state) {
    (void)state;
    submit_from_eight(3);
}
static void members_in_line_are_held(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 2, .queue_capacity = 1 });
    tpool_group *group = new_serial();
    gate g = GATE_CLOSED;
    tpool_future *first = kept_member(pool, group, gate_task, &g), *next[4];
    AWAIT_ARRIVALS(&g, 1);
    for (int i = 0; i < 4; i++) next[i] = kept_member(pool, group, nothing, NULL); /* past the queue's capacity */
    assert_int_equal(4, stats_of(pool).held);
    assert_int_equal(0, stats_of(pool).queued);
    assert_int_equal(5, tpool_group_count(group));
    assert_int_equal(TPOOL_PENDING, tpool_future_state(next[0]));
    assert_true(tpool_future_cancel(next[1]));
    assert_int_equal(3, stats_of(pool).held);
    gate_open(&g);
    assert_status(TPOOL_CANCELLED, tpool_group_wait(group, LIMIT, NULL));
    assert_status(TPOOL_OK, end_of(first));
    for (int i = 0; i < 4; i++) assert_status(i == 1 ? TPOOL_CANCELLED : TPOOL_OK, end_of(next[i]));
    assert_status(TPOOL_CANCELLED, tpool_group_destroy(group));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* The permit is had while arg_free runs. */
static void free_at_gate(void *arg) { gate_pass((gate *)arg); }
static void a_permit_is_had_until_arg_free_has_run(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    tpool_group *group = new_serial();
    gate g = GATE_CLOSED;
    tpool_task task = { .fn = nothing, .arg = &g, .arg_free = free_at_gate, .group = group };
    tpool_future *first = submitted_task(pool, task), *next = kept_member(pool, group, nothing, NULL);
    AWAIT_ARRIVALS(&g, 1);
    assert_status(TPOOL_TIMEOUT, tpool_future_result(next, TPOOL_MS(5), NULL));
    gate_open(&g);
    assert_status(TPOOL_OK, end_of(next));
    assert_status(TPOOL_OK, end_of(first));
    assert_status(TPOOL_OK, tpool_group_destroy(group));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void tombstones_of_a_line_leave(void **state) {
    (void)state;
    serial b;
    serial_begin(&b, (tpool_config){ .max_workers = 1 });
    serial_add(&b, count_up, &b.ran, 1);
    long before = resident_kib();
    for (int i = 0; i < COUNT(200000); i++) {
        tpool_future *next = kept_member(b.pool, b.group, count_up, &b.ran);
        assert_true(tpool_future_cancel(next));
        tpool_future_release(next);
    }
    serial_add(&b, count_up, &b.ran, 1);
    /* each is some 200 bytes. The sanitizers' allocators keep freed memory for a while. */
    if (!SLOW_TOOL && before > 0) assert_in_range(resident_kib() - before + 4096, 0, 8192);
    assert_int_equal(2, stats_of(b.pool).held);
    serial_end(&b, TPOOL_CANCELLED);
    assert_int_equal(2, atomic_load(&b.ran));
}
/* What has ended by its time leaves the others to come. */
static void serial_begin_keeping_on(serial *b) {
    serial_begin_as(b, (tpool_config){ .max_workers = 2 },
                    (tpool_group_config){ .on_failure = TPOOL_GROUP_KEEP_GOING });
}
static void what_is_in_line_expires(void **state) {
    (void)state;
    serial b;
    serial_begin_keeping_on(&b);
    tpool_future *first = NULL;
    assert_status(TPOOL_OK, tpool_future_create(&first));
    tpool_task task = { .fn = nothing, .expires_ns = TPOOL_MS(5), .group = b.group };
    tpool_future *expires = submitted_task(b.pool, task);
    task.after = &first;
    task.after_count = 1;
    tpool_future *later = submitted_task(b.pool, task), *never = NULL;
    assert_status(TPOOL_EXPIRED, tpool_future_result(expires, LIMIT, NULL));
    assert_int_equal(TPOOL_PENDING, tpool_future_state(later));
    task.expires_ns = TPOOL_SEC(1000);
    never = submitted_task(b.pool, task);
    assert_status(TPOOL_OK, tpool_future_set_result(first, NULL));
    assert_status(TPOOL_EXPIRED, tpool_future_result(later, LIMIT, NULL));
    gate_open(&b.gate);
    assert_status(TPOOL_OK, end_of(never));
    tpool_future_release(expires);
    tpool_future_release(later);
    tpool_future_release(first);
    serial_end(&b, TPOOL_EXPIRED);
}
/* The timer of a delay is the timer of its time, too; nobody looks at its future. */
static void what_is_in_line_after_its_delay_has_its_time(void **state) {
    (void)state;
    serial b;
    serial_begin_keeping_on(&b);
    tpool_task task = { .fn = nothing, .delay_ns = TPOOL_US(1), .timeout_ns = TPOOL_MS(20), .group = b.group };
    assert_status(TPOOL_OK, tpool_submit_task(b.pool, &task, NULL));
    EVENTUALLY(tpool_group_count(b.group) == 1);
    serial_end(&b, TPOOL_EXPIRED);
}
/* Serial groups that are flooded starve neither others nor plain tasks. */
static atomic_bool flood_over;
static void *flood(void *arg) {
    if (!atomic_load(&flood_over)) {
        tpool_task task = { .fn = flood, .arg = arg, .group = (tpool_group *)arg };
        (void)!tpool_submit_task(tpool_current(), &task, NULL);
    }
    return NULL;
}
static void flooded_groups_starve_nobody(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_group *groups[4], *other = new_serial();
    atomic_store(&flood_over, false);
    for (int i = 0; i < 4; i++) {
        groups[i] = new_serial();
        for (int j = 0; j < 10; j++) add_member(pool, groups[i], flood, groups[i]);
    }
    for (int i = 0; i < 100; i++) {
        assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
        assert_status(TPOOL_OK, end_of(kept_member(pool, other, nothing, NULL)));
    }
    atomic_store(&flood_over, true);
    for (int i = 0; i < 4; i++) assert_status(TPOOL_OK, tpool_group_destroy(groups[i]));
    assert_status(TPOOL_OK, tpool_group_destroy(other));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_paused_pool_keeps_the_permit(void **state) {
    (void)state;
    tpool *paused = new_pool(1), *other = new_pool(1);
    tpool_group *group = new_serial();
    assert_status(TPOOL_OK, tpool_pause(paused));
    tpool_future *first = kept_member(paused, group, nothing, NULL), *next = kept_member(other, group, nothing, NULL);
    assert_status(TPOOL_TIMEOUT, tpool_future_result(next, TPOOL_MS(5), NULL));
    assert_status(TPOOL_OK, tpool_resume(paused));
    assert_status(TPOOL_OK, end_of(next));
    assert_status(TPOOL_OK, end_of(first));
    assert_status(TPOOL_OK, tpool_group_destroy(group));
    assert_status(TPOOL_OK, tpool_destroy(paused));
    assert_status(TPOOL_OK, tpool_destroy(other));
}
static void a_submit_that_is_refused_gives_its_permit_back(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, &(tpool_config){ .queue_capacity = 1, .on_full = TPOOL_FULL_REJECT });
    tpool *other = new_pool(1);
    tpool_group *group = new_serial();
    tpool_future *queued = submitted(h.pool, nothing, NULL), *refused;
    tpool_task task = { .fn = nothing, .group = group };
    assert_status(TPOOL_FULL, tpool_submit_task(h.pool, &task, &refused));
    assert_int_equal(0, tpool_group_count(group));
    assert_status(TPOOL_OK, end_of(kept_member(other, group, nothing, NULL)));
    tpool_future_release(queued);
    assert_status(TPOOL_OK, tpool_group_destroy(group));
    assert_status(TPOOL_OK, tpool_destroy(other));
    held_destroy(&h);
}

/* ---- Pools that end */
static void one_of_two_pools_is_shut_down(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    tpool *other = new_pool(1);
    tpool_group *group = new_serial();
    tpool_future *first = kept_member(h.pool, group, nothing, NULL),
                 *in_line = kept_member(other, group, nothing, NULL);
    tpool_future *last = kept_member(h.pool, group, nothing, NULL);
    assert_status(TPOOL_OK, tpool_shutdown(other, TPOOL_CANCEL_PENDING));
    assert_true(tpool_future_cancelled(in_line));
    tpool_task task = { .fn = nothing, .group = group };
    assert_status(TPOOL_SHUTDOWN, tpool_submit_task(other, &task, NULL));
    assert_int_equal(2, tpool_group_count(group));
    gate_open(&h.gate);
    assert_status(TPOOL_OK, end_of(first));
    assert_status(TPOOL_CANCELLED, end_of(in_line));
    assert_status(TPOOL_OK, end_of(last));
    assert_status(TPOOL_CANCELLED, tpool_group_destroy(group));
    assert_status(TPOOL_OK, tpool_destroy(other));
    held_destroy(&h);
}
static tpool_status destroy_pool(void *context) { return tpool_destroy((tpool *)context); }
static void a_pool_that_is_destroyed_waits_for_what_is_in_line(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    tpool *other = new_pool(1);
    tpool_group *group = new_serial();
    atomic_int ran = 0;
    add_member(h.pool, group, count_up, &ran);
    add_member(other, group, count_up, &ran);
    background destroys;
    background_start_blocked(&destroys, destroy_pool, other);
    gate_open(&h.gate);
    assert_status(TPOOL_OK, background_join(&destroys));
    assert_int_equal(2, atomic_load(&ran));
    assert_status(TPOOL_OK, tpool_group_destroy(group));
    held_destroy(&h);
}

/* Time holds it no more: it is the group that does. */
static void a_shutdown_leaves_what_is_in_line_after_its_delay(void **state) {
    (void)state;
    serial b;
    serial_begin(&b, (tpool_config){ .max_workers = 2 });
    tpool_task task = { .fn = count_up, .arg = &b.ran, .delay_ns = TPOOL_US(1), .group = b.group };
    assert_status(TPOOL_OK, tpool_submit_task(b.pool, &task, NULL));
    task.fn = NULL;
    task.group = NULL;
    task.delay_ns = TPOOL_MS(5); /* once this timer has ended, the task before is in line */
    assert_status(TPOOL_OK, end_of(submitted_task(b.pool, task)));
    assert_status(TPOOL_OK, tpool_shutdown(b.pool, 0));
    serial_end(&b, TPOOL_OK);
    assert_int_equal(1, atomic_load(&b.ran));
}
/* A submit waits for room in its pool while the next member is waited for: the search does not find what is not
   taken. */
static gate permit_gate = GATE_CLOSED;
static void *pass_and_wait(void *arg) {
    gate_pass(&permit_gate);
    return (void *)(intptr_t)tpool_future_result(*(tpool_future **)arg, TPOOL_FOREVER, NULL);
}
static void a_permit_of_a_submit_that_waits_for_room(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .max_spares = -1, .queue_capacity = 1 });
    tpool_group *group = new_serial();
    atomic_int ran = 0;
    tpool_future *next = NULL, *waits = submitted(pool, pass_and_wait, &next);
    AWAIT_ARRIVALS(&permit_gate, 1);
    tpool_future *filler = submitted(pool, nothing, NULL);
    submit_call call = { .pool = pool, .task = { .fn = count_up, .arg = &ran, .group = group } };
    background blocked;
    background_start_blocked(&blocked, call_submit_without_future, &call); /* it has the permit, and no place */
    next = kept_member(pool, group, count_up, &ran);
    gate_open(&permit_gate);
    assert_status(TPOOL_OK, background_join(&blocked));
    assert_int_equal(TPOOL_OK, (intptr_t)take(waits));
    assert_status(TPOOL_OK, end_of(next));
    assert_status(TPOOL_OK, end_of(filler));
    assert_status(TPOOL_OK, tpool_group_wait(group, LIMIT, NULL));
    assert_int_equal(0, tpool_group_count(group));
    assert_int_equal(2, atomic_load(&ran));
    assert_status(TPOOL_OK, tpool_group_destroy(group));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* For ThreadSanitizer: members in line are cancelled, the last first, while the line moves. */
static void members_in_line_are_cancelled_beside_those_that_begin(void **state) {
    (void)state;
    enum { MEMBERS = 8 };
    tpool *pool = new_pool(2);
    for (int round = 0; round < 100; round++) {
        tpool_group *group = new_serial();
        tpool_future *members[MEMBERS];
        for (int i = 0; i < MEMBERS; i++) members[i] = kept_member(pool, group, nothing, NULL);
        for (int i = MEMBERS - 1; i >= 0; i--) {
            (void)tpool_future_cancel(members[i]);
            tpool_future_release(members[i]);
        }
        (void)tpool_group_destroy(group);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Capacity */
static void a_full_group_blocks(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    tpool_group *group = new_group_as((tpool_group_config){ .capacity = 2 });
    tpool_future *first = kept_member(h.pool, group, nothing, NULL);
    add_member(h.pool, group, nothing, NULL);
    submit_call call = { .pool = h.pool, .task = { .fn = nothing, .group = group } };
    assert_status(TPOOL_TIMEOUT, tpool_submit_within(h.pool, &call.task, TPOOL_MS(5), NULL));
    assert_status(TPOOL_TIMEOUT, tpool_submit_within(h.pool, &call.task, 0, NULL));
    background blocked[3];
    for (int i = 0; i < 3; i++) {
        background_start_blocked(&blocked[i], call_submit_without_future, &call);
    }
    assert_true(tpool_future_cancel(first));
    assert_status(TPOOL_OK, background_join(&blocked[0]));
    background_await_block(&blocked[1]);
    assert_int_equal(2, tpool_group_count(group));
    assert_status(TPOOL_OK, tpool_group_cancel(group));
    for (int i = 1; i < 3; i++) assert_status(TPOOL_CANCELLED, background_join(&blocked[i]));
    tpool_future_release(first);
    assert_status(TPOOL_CANCELLED, tpool_group_destroy(group));
    held_destroy(&h);
}
static void a_full_group_rejects(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    tpool_group *group = new_group_as((tpool_group_config){ .capacity = 2, .on_full = TPOOL_FULL_REJECT });
    for (int i = 0; i < 2; i++) add_member(h.pool, group, nothing, NULL);
    tpool_task task = { .fn = nothing, .group = group };
    assert_status(TPOOL_FULL, tpool_submit_task(h.pool, &task, NULL));
    assert_status(TPOOL_TIMEOUT, tpool_submit_within(h.pool, &task, TPOOL_MS(2), NULL));
    gate_open(&h.gate);
    assert_status(TPOOL_OK, tpool_submit_within(h.pool, &task, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_group_destroy(group));
    held_destroy(&h);
}
static void a_full_group_drops_the_oldest(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    for (int limit = 0; limit < 2; limit++) {
        tpool_group *group =
            new_group_as((tpool_group_config){ .capacity = 3, .on_full = TPOOL_FULL_DROP_OLDEST, .limit = limit });
        tpool_future *members[6];
        for (int i = 0; i < 6; i++) {
            members[i] = kept_member(h.pool, group, nothing, NULL);
            assert_int_equal(i < 3 ? i + 1 : 3, tpool_group_count(group));
        }
        for (int i = 0; i < 6; i++) assert_int_equal(i < 3, tpool_future_cancelled(members[i]));
        const tpool_error *error;
        assert_status(TPOOL_CANCELLED, tpool_future_error(members[0], 0, &error));
        assert_non_null(strstr(error->message, "dropped"));
        assert_status(TPOOL_OK, tpool_group_cancel(group));
        for (int i = 0; i < 6; i++) tpool_future_release(members[i]);
        assert_status(TPOOL_CANCELLED, tpool_group_destroy(group));
    }
    tpool_group *group = new_group_as((tpool_group_config){ .capacity = 1, .on_full = TPOOL_FULL_DROP_OLDEST });
    tpool *other = new_pool(1);
    gate g = GATE_CLOSED;
    add_member_at(other, group, &g);
    tpool_task task = { .fn = nothing, .group = group };
    assert_status(TPOOL_FULL, tpool_submit_task(other, &task, NULL));
    gate_open(&g);
    assert_status(TPOOL_OK, tpool_group_destroy(group));
    assert_status(TPOOL_OK, tpool_destroy(other));
    assert_int_equal(6, stats_of(h.pool).dropped);
    held_destroy(&h);
}
/* What has expired in the queue of the submit's pool makes room before any policy applies, also in subgroups. (What was
 * held has a timer.) */
static void fill_with_what_expires(tpool *pool, tpool_group *group, tpool_group *beneath, int64_t expires) {
    assert_status(TPOOL_OK, tpool_submit_task(pool, &(tpool_task){ .fn = nothing, .group = group }, NULL));
    tpool_task task = { .fn = nothing, .group = beneath ? beneath : group, .expires_ns = expires };
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
}
static tpool_group *group_for_what_expires(tpool_full_policy policy) {
    return new_group_as((tpool_group_config){ .capacity = 3, .on_full = policy, .on_failure = TPOOL_GROUP_KEEP_GOING });
}
static tpool_status submit_into_full(tpool *pool, const tpool_task *task, bool blocks) {
    if (blocks) return tpool_submit_within(pool, task, LIMIT, NULL);
    return tpool_submit_task(pool, task, NULL);
}
static void a_full_group_ends_what_has_expired(void **state) {
    (void)state;
    static const tpool_full_policy policies[] = { TPOOL_FULL_BLOCK, TPOOL_FULL_REJECT, TPOOL_FULL_DROP_OLDEST };
    held_pool h;
    held_create(&h, NULL);
    for (int i = 0; i < 6; i++) {
        tpool_group *group = group_for_what_expires(policies[i / 2]), *beneath = NULL;
        if (i % 2 > 0)
            beneath = new_group_as((tpool_group_config){ .parent = group, .on_failure = TPOOL_GROUP_KEEP_GOING });
        fill_with_what_expires(h.pool, group, beneath, TPOOL_MS(2));
        sleep_ms(3);
        assert_int_equal(3, tpool_group_count(group)); /* no thread has looked */
        bool blocks = policies[i / 2] == TPOOL_FULL_BLOCK;
        tpool_task task = { .fn = nothing, .group = group };
        assert_status(TPOOL_OK, submit_into_full(h.pool, &task, blocks));
        assert_int_equal(2, tpool_group_count(group));
        assert_status(TPOOL_OK, submit_into_full(h.pool, &task, blocks));
        assert_status(TPOOL_TIMEOUT, tpool_submit_within(h.pool, &task, 1, NULL));
        assert_status(TPOOL_OK, tpool_group_cancel(group));
        if (beneath) assert_status(TPOOL_OK, tpool_group_release(beneath));
        assert_status(TPOOL_EXPIRED, tpool_group_destroy(group));
    }
    assert_int_equal(0, stats_of(h.pool).dropped);
    held_destroy(&h);
}
/* By default the first that expires cancels the group, and so the submit that has noticed it. */
static void a_member_that_expires_in_a_full_group_fails(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    tpool_group *group = new_group_as((tpool_group_config){ .capacity = 1, .on_full = TPOOL_FULL_REJECT });
    tpool_task task = { .fn = nothing, .expires_ns = TPOOL_MS(2), .group = group };
    assert_status(TPOOL_OK, tpool_submit_task(h.pool, &task, NULL));
    sleep_ms(3);
    assert_status(TPOOL_CANCELLED, tpool_submit_task(h.pool, &task, NULL));
    assert_int_equal(0, tpool_group_count(group));
    assert_status(TPOOL_EXPIRED, tpool_group_destroy(group));
    held_destroy(&h);
}
static void a_submit_in_line_learns_of_the_end_of_its_group(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    for (int how = 0; how < 2; how++) {
        tpool_group *top = new_group_as((tpool_group_config){ .capacity = 1 });
        tpool_group *group = new_subgroup(top);
        tpool_future *member = kept_member(h.pool, top, nothing, NULL);
        submit_call call = { .pool = h.pool, .task = { .fn = nothing, .group = group } };
        background blocked;
        background_start_blocked(&blocked, call_submit_without_future, &call);
        if (how == 0) assert_status(TPOOL_OK, tpool_group_cancel(group));
        assert_status(TPOOL_OK, tpool_group_release(group));
        assert_status(how == 0 ? TPOOL_CANCELLED : TPOOL_SHUTDOWN, background_join(&blocked));
        assert_true(tpool_future_cancel(member));
        tpool_future_release(member);
        assert_status(TPOOL_CANCELLED, tpool_group_destroy(top));
    }
    held_destroy(&h);
}
static void a_refused_submit_drops_nothing(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    tpool *shut = new_pool(1);
    assert_status(TPOOL_OK, tpool_shutdown(shut, 0));
    tpool_group *group = new_group_as((tpool_group_config){ .capacity = 1, .on_full = TPOOL_FULL_DROP_OLDEST });
    tpool_future *member = kept_member(h.pool, group, nothing, NULL);
    tpool_task task = { .fn = nothing, .group = group };
    assert_status(TPOOL_SHUTDOWN, tpool_submit_task(shut, &task, NULL));
    gate_open(&h.gate);
    assert_status(TPOOL_OK, end_of(member));
    assert_status(TPOOL_OK, tpool_group_destroy(group));
    assert_status(TPOOL_OK, tpool_destroy(shut));
    held_destroy(&h);
}
/* ---- A group that takes nothing more, and a queue that is full */
static void a_cancelled_group_refuses_before_the_queue_does(void **state) {
    (void)state;
    for (int policy = TPOOL_FULL_BLOCK; policy <= TPOOL_FULL_REJECT; policy++) {
        held_pool h;
        held_create(&h, &(tpool_config){ .queue_capacity = 1, .on_full = (tpool_full_policy)policy });
        tpool_future *queued = submitted(h.pool, nothing, NULL);
        for (int how = 0; how < 3; how++) {
            tpool_group *top = new_group_as((tpool_group_config){ .capacity = how == 1 });
            tpool_group *group =
                new_group_as((tpool_group_config){ .parent = how == 2 ? top : NULL, .limit = how == 1 });
            assert_status(TPOOL_OK, tpool_group_cancel(how == 2 ? top : group));
            submit_call call = { .pool = h.pool, .task = { .fn = nothing, .group = group } };
            background submits;
            background_start(&submits, call_submit_without_future, &call);
            assert_status(TPOOL_CANCELLED, background_join(&submits));
            assert_status(TPOOL_OK, tpool_group_destroy(group));
            assert_status(TPOOL_OK, tpool_group_destroy(top));
        }
        gate_open(&h.gate);
        assert_status(TPOOL_OK, end_of(queued));
        held_destroy(&h);
    }
}
static void *raise_after(void *arg) {
    gate_pass((gate *)arg);
    return tpool_raise(1, "raised");
}
/* It waits for room in its pool's queue as its group, or one above it, is cancelled, fails or is released. */
static void a_cancel_ends_a_submit_at_a_full_queue(void **state) {
    (void)state;
    for (int how = 0; how < 5; how++) {
        held_pool h;
        tpool *other = new_pool(1);
        gate g = GATE_CLOSED;
        held_create(&h, &(tpool_config){ .queue_capacity = 1 });
        tpool_future *queued = submitted(h.pool, nothing, NULL);
        tpool_group *top = new_group_as(
            (tpool_group_config){ .on_failure = how == 3 ? TPOOL_GROUP_CANCEL_PENDING : TPOOL_GROUP_STOP });
        tpool_group *group = new_group_as((tpool_group_config){
            .parent = how == 1 || how == 3 ? top : NULL, .limit = how == 0, .capacity = how == 2 ? 5 : 0 });
        submit_call call = { .pool = h.pool, .task = { .fn = nothing, .group = group } };
        if (how >= 2) add_member(other, how == 3 ? top : group, raise_after, &g);
        background submits;
        background_start_blocked(&submits, call_submit_without_future, &call);
        if (how < 2) assert_status(TPOOL_OK, tpool_group_cancel(how == 1 ? top : group));
        else if (how == 4) assert_status(TPOOL_OK, tpool_group_release(group));
        else gate_open(&g);
        assert_status(how == 4 ? TPOOL_SHUTDOWN : TPOOL_CANCELLED, background_join(&submits));
        gate_open(&g);
        tpool_status end = how < 2 ? TPOOL_OK : TPOOL_FAILED;
        if (how != 4) assert_status(how == 3 ? TPOOL_OK : end, tpool_group_destroy(group));
        assert_status(how == 3 ? end : TPOOL_OK, tpool_group_destroy(top));
        gate_open(&h.gate);
        assert_status(TPOOL_OK, end_of(queued));
        held_destroy(&h);
        assert_status(TPOOL_OK, tpool_destroy(other));
    }
}
/* The last handle is given up meanwhile: the submit keeps the group. */
static void a_submit_at_a_full_queue_keeps_its_group(void **state) {
    (void)state;
    for (int how = 0; how < 4; how++) {
        held_pool h;
        held_create(&h, &(tpool_config){ .queue_capacity = 1 });
        tpool_future *queued = submitted(h.pool, nothing, NULL);
        tpool_group *top = new_group();
        tpool_group *group = new_group_as((tpool_group_config){ .parent = how & 1 ? top : NULL, .limit = how / 2 });
        submit_call call = { .pool = h.pool, .task = { .fn = nothing, .group = group } };
        background submits;
        background_start_blocked(&submits, call_submit_without_future, &call);
        assert_status(TPOOL_OK, tpool_group_release(top));
        assert_status(TPOOL_OK, tpool_group_destroy(group));
        assert_status(TPOOL_SHUTDOWN, background_join(&submits));
        gate_open(&h.gate);
        assert_status(TPOOL_OK, end_of(queued));
        held_destroy(&h);
    }
}
static _Thread_local bool in_submit;
static void *note_submitter(void *arg) {
    if (in_submit) atomic_fetch_add((atomic_int *)arg, 1);
    return arg;
}
static tpool_group *cousins; /* or NULL: it submits into its own group */
static void *submit_sibling(void *arg) {
    tpool_task task = { .fn = note_submitter, .arg = arg, .group = cousins ? cousins : tpool_current_group() };
    in_submit = true;
    bool taken = tpool_submit_task(tpool_current(), &task, NULL) == TPOOL_OK;
    in_submit = false;
    return taken ? arg : NULL;
}
static void *submit_ten_siblings(void *arg) {
    for (int i = 0; i < 10; i++)
        if (!submit_sibling(arg)) return NULL;
    return arg;
}
static void no_member_runs_within_a_submit_of_another(void **state) {
    (void)state;
    for (int how = 0; how < 2; how++) {
        tpool *pool =
            new_pool_as((tpool_config){ .max_workers = 2, .queue_capacity = 1, .on_full = TPOOL_FULL_CALLER_RUNS });
        tpool_group *top = new_group();
        tpool_group *group = new_subgroup(top);
        tpool_group *other = new_subgroup(top);
        gate g = GATE_CLOSED;
        atomic_int within = 0;
        cousins = how ? other : NULL;
        tpool_future *holder = held_at(pool, &g), *member = NULL;
        member = kept_member(pool, group, submit_ten_siblings, &within);
        assert_ptr_equal(&within, take(member));
        gate_open(&g);
        assert_status(TPOOL_OK, end_of(holder));
        assert_status(TPOOL_OK, tpool_group_destroy(other));
        assert_status(TPOOL_OK, tpool_group_destroy(group));
        assert_status(TPOOL_OK, tpool_group_destroy(top));
        assert_int_equal(0, atomic_load(&within));
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
    cousins = NULL;
}
static void *fill_own_group(void *arg) {
    tpool_task task = { .fn = nothing, .group = tpool_current_group() };
    tpool_status status = TPOOL_OK;
    for (int i = 0; i < 10 && status == TPOOL_OK; i++) status = tpool_submit_task((tpool *)arg, &task, NULL);
    return (void *)(intptr_t)status;
}
static void a_member_into_its_own_full_group(void **state) {
    (void)state;
    for (int policy = 0; policy < 4; policy++) {
        if (policy == TPOOL_FULL_CALLER_RUNS || policy == TPOOL_FULL_DROP_OLDEST) continue;
        for (int plain = 0; plain < 2; plain++) {
            tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = plain ? 2 : 0 });
            tpool_group *group =
                new_group_as((tpool_group_config){ .capacity = 4, .on_full = (tpool_full_policy)policy });
            tpool_future *member = kept_member(pool, group, fill_own_group, pool);
            tpool_status status = (tpool_status)(intptr_t)take(member);
            if (!plain) assert_status(TPOOL_FULL, status);
            assert_status(TPOOL_OK, tpool_group_destroy(group));
            assert_status(TPOOL_OK, tpool_destroy(pool));
        }
    }
}

/* ---- Parents */
static void a_parent_counts_and_waits(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    tpool_group *top = new_group();
    tpool_group *middle = new_subgroup(top);
    tpool_group *low = new_subgroup(middle);
    add_member(h.pool, top, nothing, NULL);
    for (int i = 0; i < 2; i++) add_member(h.pool, middle, nothing, NULL);
    for (int i = 0; i < 3; i++) add_member(h.pool, low, nothing, NULL);
    assert_int_equal(3, tpool_group_count(low));
    assert_int_equal(5, tpool_group_count(middle));
    assert_int_equal(6, tpool_group_count(top));
    assert_status(TPOOL_OK, tpool_group_release(top)); /* it outlives those beneath it */
    assert_status(TPOOL_OK, tpool_group_release(middle));
    gate_open(&h.gate);
    assert_status(TPOOL_OK, tpool_group_wait(low, LIMIT, NULL));
    add_member(h.pool, low, nothing, NULL);
    assert_status(TPOOL_OK, tpool_group_destroy(low));
    held_destroy(&h);
}
static void *fail_with_text(void *arg) { return tpool_raise(4, "%s", (const char *)arg); }
static void a_failure_goes_up(void **state) {
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        tpool *pool = new_pool(2);
        tpool_group *top = new_group_as((tpool_group_config){ .on_failure = (tpool_group_failure)kind });
        tpool_group *middle = new_group_as((tpool_group_config){ .parent = top, .on_failure = TPOOL_GROUP_KEEP_GOING });
        tpool_group *low = new_group_as((tpool_group_config){ .parent = middle, .on_failure = TPOOL_GROUP_STOP });
        tpool_group *beside = new_subgroup(top);
        tpool_future *waits = submitted_task(
            pool,
            (tpool_task){ .fn = nothing, .delay_ns = kind == 2 ? TPOOL_MS(5) : TPOOL_SEC(1000), .group = beside });
        add_member(pool, low, fail_with_text, "up");
        const tpool_error *error;
        assert_status(TPOOL_FAILED, tpool_group_wait(low, LIMIT, &error));
        assert_string_equal("up", error->message);
        assert_status(TPOOL_FAILED, tpool_group_wait(middle, LIMIT, NULL));
        assert_status(TPOOL_FAILED, tpool_group_wait(top, LIMIT, &error));
        assert_string_equal("up", error->message);
        assert_status(kind == 2 ? TPOOL_OK : TPOOL_CANCELLED, end_of(waits));
        tpool_task task = { .fn = nothing, .group = low };
        assert_status(TPOOL_CANCELLED, tpool_submit_task(pool, &task, NULL));
        task.group = middle;
        assert_status(kind == 2 ? TPOOL_OK : TPOOL_CANCELLED, tpool_submit_task(pool, &task, NULL));
        assert_status(kind == 2 ? TPOOL_OK : TPOOL_CANCELLED, tpool_group_destroy(beside));
        assert_status(TPOOL_FAILED, tpool_group_destroy(low));
        assert_status(TPOOL_FAILED, tpool_group_destroy(middle));
        assert_status(TPOOL_FAILED, tpool_group_destroy(top));
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}
static void a_cancel_goes_down(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    tpool_group *top = new_group();
    tpool_group *middle = new_group_as((tpool_group_config){ .parent = top, .limit = 1 });
    tpool_group *low = new_group_as((tpool_group_config){ .parent = middle, .limit = 2 });
    tpool_group *beside = new_subgroup(top);
    for (int i = 0; i < 4; i++) add_member(h.pool, low, nothing, NULL);
    tpool_future *stays = kept_member(h.pool, beside, nothing, NULL);
    assert_status(TPOOL_OK, tpool_group_cancel(middle));
    assert_int_equal(0, tpool_group_count(low));
    assert_int_equal(1, tpool_group_count(top));
    tpool_task task = { .fn = nothing, .group = low };
    assert_status(TPOOL_CANCELLED, tpool_submit_task(h.pool, &task, NULL));
    gate_open(&h.gate);
    assert_status(TPOOL_OK, end_of(stays));
    assert_status(TPOOL_CANCELLED, tpool_group_destroy(top));
    assert_status(TPOOL_CANCELLED, tpool_group_destroy(middle));
    assert_status(TPOOL_CANCELLED, tpool_group_destroy(low));
    assert_status(TPOOL_OK, tpool_group_destroy(beside));
    held_destroy(&h);
}
/* Two serial queues beneath one of two permits, and four others. */
static atomic_int in_top, top_most, in_low[6], low_most;
static void *count_levels(void *arg) {
    int which = (int)(intptr_t)arg, now = atomic_fetch_add(&in_top, 1) + 1, seen = atomic_load(&top_most);
    while (now > seen && !atomic_compare_exchange_weak(&top_most, &seen, now)) { }
    now = atomic_fetch_add(&in_low[which], 1) + 1;
    seen = atomic_load(&low_most);
    while (now > seen && !atomic_compare_exchange_weak(&low_most, &seen, now)) { }
    sched_yield();
    atomic_fetch_sub(&in_low[which], 1);
    atomic_fetch_sub(&in_top, 1);
    return NULL;
}
static void limits_hold_over_levels(void **state) {
    (void)state;
    tpool *pool = new_pool(4);
    tpool_group *top = new_group_as((tpool_group_config){ .limit = 2 }), *low[6];
    tpool_group *middle = new_subgroup(top);
    for (int i = 0; i < 6; i++)
        low[i] = new_group_as((tpool_group_config){ .parent = i % 2 ? middle : top, .limit = 1 });
    for (int i = 0; i < COUNT(6000); i++) {
        tpool_future *future = kept_member(pool, low[i % 6], count_levels, (void *)(intptr_t)(i % 6));
        if (i % 7 == 0) tpool_future_cancel(future);
        tpool_future_release(future);
    }
    assert_status(TPOOL_CANCELLED, tpool_group_wait(top, LIMIT, NULL));
    assert_in_range(atomic_load(&top_most), 1, 2);
    assert_int_equal(1, atomic_load(&low_most));
    for (int i = 0; i < 6; i++) (void)tpool_group_destroy(low[i]);
    assert_status(TPOOL_CANCELLED, tpool_group_destroy(middle));
    assert_status(TPOOL_CANCELLED, tpool_group_destroy(top));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_parents_capacity_counts_all_beneath(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    tpool_group *top = new_group_as((tpool_group_config){ .capacity = 3, .on_full = TPOOL_FULL_REJECT });
    tpool_group *low = new_group_as((tpool_group_config){ .parent = top, .capacity = 2 });
    add_member(h.pool, top, nothing, NULL);
    for (int i = 0; i < 2; i++) add_member(h.pool, low, nothing, NULL);
    tpool_task task = { .fn = nothing, .group = top };
    assert_status(TPOOL_FULL, tpool_submit_task(h.pool, &task, NULL));
    task.group = low;
    assert_status(TPOOL_TIMEOUT, tpool_submit_within(h.pool, &task, TPOOL_MS(2), NULL));
    gate_open(&h.gate);
    assert_status(TPOOL_OK, tpool_group_destroy(low));
    assert_status(TPOOL_OK, tpool_group_destroy(top));
    held_destroy(&h);
}
static void a_million_serial_queues(void **state) {
    (void)state;
    enum { QUEUES = SLOW_TOOL ? 10000 : 1000000 };
    tpool *pool = new_pool(2);
    tpool_group **queues = malloc(QUEUES * sizeof *queues);
    assert_non_null(queues);
    atomic_int ran = 0;
    for (int i = 0; i < QUEUES; i++) queues[i] = new_serial();
    for (int i = 0; i < QUEUES; i++) add_member(pool, queues[i], count_up, &ran);
    for (int i = 0; i < QUEUES; i++) assert_status(TPOOL_OK, tpool_group_release(queues[i]));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(QUEUES, atomic_load(&ran));
    free(queues);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(one_permit_under_eight_submitters),
        TEST(three_permits_under_eight_submitters),
        TEST(members_in_line_are_held),
        TEST(a_permit_is_had_until_arg_free_has_run),
        TEST(tombstones_of_a_line_leave),
        TEST(what_is_in_line_expires),
        TEST(what_is_in_line_after_its_delay_has_its_time),
        TEST(flooded_groups_starve_nobody),
        TEST(a_paused_pool_keeps_the_permit),
        TEST(a_submit_that_is_refused_gives_its_permit_back),
        TEST(one_of_two_pools_is_shut_down),
        TEST(a_pool_that_is_destroyed_waits_for_what_is_in_line),
        TEST(a_shutdown_leaves_what_is_in_line_after_its_delay),
        TEST(a_permit_of_a_submit_that_waits_for_room),
        TEST(members_in_line_are_cancelled_beside_those_that_begin),
        TEST(a_full_group_blocks),
        TEST(a_submit_in_line_learns_of_the_end_of_its_group),
        TEST(a_refused_submit_drops_nothing),
        TEST(a_cancelled_group_refuses_before_the_queue_does),
        TEST(a_cancel_ends_a_submit_at_a_full_queue),
        TEST(a_submit_at_a_full_queue_keeps_its_group),
        TEST(no_member_runs_within_a_submit_of_another),
        TEST(a_full_group_rejects),
        TEST(a_full_group_drops_the_oldest),
        TEST(a_full_group_ends_what_has_expired),
        TEST(a_member_that_expires_in_a_full_group_fails),
        TEST(a_member_into_its_own_full_group),
        TEST(a_parent_counts_and_waits),
        TEST(a_failure_goes_up),
        TEST(a_cancel_goes_down),
        TEST(limits_hold_over_levels),
        TEST(a_parents_capacity_counts_all_beneath),
        TEST(a_million_serial_queues),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
