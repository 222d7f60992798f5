/* Lines for permits, beside walks and ends of their pools. The implementation is included. */
#include "support.h"
#include "internals/check.h"
#include "support/held.h"

typedef struct lined_up {
    tpool *pool, *other; /* the member's; the one of the member that has the permit */
    tpool_group *group;
    gate gate; /* keeps the permit */
} lined_up;
static void begin(lined_up *l) {
    *l = (lined_up){ .pool = new_pool(1), .other = new_pool(1), .gate = GATE_CLOSED };
    assert_status(TPOOL_OK, tpool_group_create(&l->group, &(tpool_group_config){ .limit = 1 }));
    tpool_task task = { .fn = gate_task, .arg = &l->gate, .group = l->group };
    assert_status(TPOOL_OK, tpool_submit_task(l->other, &task, NULL));
    AWAIT_ARRIVALS(&l->gate, 1);
}
static void end(lined_up *l, tpool_status status) {
    gate_open(&l->gate);
    assert_status(status, tpool_group_destroy(l->group));
    assert_status(TPOOL_OK, tpool_destroy(l->pool));
    assert_status(TPOOL_OK, tpool_destroy(l->other));
}
static uint32_t in_line(lined_up *l) {
    tpool__spin_lock(&l->group->lock);
    uint32_t count = l->group->in_line;
    tpool__spin_unlock(&l->group->lock);
    return count;
}

/* A walk of what is held is in the first list as the time of a member comes, which is in the second one, and goes in
 * line. */
static lined_up beside;
static tpool_future *timed;
static atomic_int seen;
static void visit(tpool_future *task) {
    if (task == timed) {
        atomic_fetch_add(&seen, 1);
        return;
    }
    tpool__edge *edge = (tpool__edge *)(void *)tpool__hold_timer(tpool__hold_in(timed));
    (void)tpool__timer_arm(&edge->u.timer, tpool__clock());
    REQUIRE_EVENTUALLY(in_line(&beside) == 1);
}
static void a_walk_finds_what_goes_in_line(void **state) {
    (void)state;
    begin(&beside);
    tpool_future *first = bare();
    tpool_future *held = submitted_task(beside.pool, after(nothing, NULL, &first, 1, TPOOL_AFTER_DONE));
    tpool_task task = { .fn = nothing, .delay_ns = TPOOL_SEC(3600), .group = beside.group };
    timed = submitted_task(beside.pool, task);
    atomic_store(&seen, 0);
    tpool__held_each(beside.pool, visit);
    assert_int_equal(1, atomic_load(&seen));
    complete(first);
    assert_status(TPOOL_OK, end_of(held));
    end(&beside, TPOOL_OK);
    assert_status(TPOOL_OK, end_of(timed));
}

/* The end of a pool has walked through what it holds as a member becomes ready, for which no permit is free. */
static void nothing_joins_the_line_of_a_pool_that(void (*ends)(tpool *pool)) {
    lined_up l;
    begin(&l);
    tpool_future *first = bare();
    tpool_task task = after(nothing, NULL, &first, 1, TPOOL_AFTER_DONE);
    task.group = l.group;
    tpool_future *future = submitted_task(l.pool, task);
    tpool__spin_lock(&l.pool->inject.lock);
    ends(l.pool);
    tpool__spin_unlock(&l.pool->inject.lock);
    complete(first);
    assert_int_equal(0, in_line(&l));
    assert_status(TPOOL_CANCELLED, end_of(future));
    end(&l, TPOOL_CANCELLED);
}
static void ends_what_it_holds(tpool *pool) { pool->ends_held = true; }
static void cancels_all(tpool *pool) { tpool__or_relaxed(&pool->flags, TPOOL__CANCELLED); }
static void what_an_exit_cancels_joins_no_line(void **state) {
    (void)state;
    nothing_joins_the_line_of_a_pool_that(ends_what_it_holds);
}
static void what_a_shutdown_cancels_joins_no_line(void **state) {
    (void)state;
    nothing_joins_the_line_of_a_pool_that(cancels_all);
}

static const struct CMUnitTest tests[] = {
    TEST(a_walk_finds_what_goes_in_line),
    TEST(what_an_exit_cancels_joins_no_line),
    TEST(what_a_shutdown_cancels_joins_no_line),
};
RUN_TESTS(tests)
