/* Two workers that help each other in turn: each runs a job that the other's has forked, beneath the join for its
   own. */
#include "support.h"
#include "internals/check.h"

enum { TURNS = 100 };
static tpool pools[3];
static tpool_future first_task, other_task;
static tpool__context turns[TURNS];

static bool within(const tpool *pool) { return tpool__any_context(&turns[TURNS - 1], tpool__is_in_pool, pool); }
static bool of_task(const tpool_future *task) { return tpool__any_context(&turns[TURNS - 1], tpool__is_of_task, task); }

static void a_walk_over_helpers_of_helpers_ends(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++) pools[i].tag = (uintptr_t)(2 * i + 1);
    for (int i = 0; i < TURNS; i++) {
        turns[i].kind = i == 0 ? TPOOL__IN_TASK : TPOOL__IN_JOB;
        turns[i].pool = &pools[0];
        turns[i].task = &first_task;
        turns[i].outer = i < 2 ? NULL : &turns[i - 2];
        turns[i].origin = i < 1 ? NULL : &turns[i - 1];
    }
    assert_true(within(&pools[0]));
    assert_false(within(&pools[1]));
    assert_true(of_task(&first_task));
    assert_false(of_task(&other_task));
}

/* What lies beneath on either stack is found, also where a stack leads elsewhere than the origin. */
static void nothing_is_passed_by(void **state) {
    (void)state;
    tpool__context beneath = { 0 }, loop = { 0 }, helper = { 0 }, part = { 0 };
    beneath.pool = &pools[1]; /* a callback of another pool, in which the first worker has begun the task */
    turns[0].outer = &beneath;
    assert_true(within(&pools[1]));
    assert_false(within(&pools[2]));
    loop.pool = &pools[2];
    loop.task = &other_task;
    helper.pool = &pools[1];
    part.outer = &helper; /* a part of a loop, in a helper's thread */
    part.origin = &loop;
    turns[0].outer = &part;
    assert_true(within(&pools[1]));
    assert_true(within(&pools[2]));
    assert_true(of_task(&other_task));
}

/* In WebAssembly the address of a function is an index, and may be any small number. */
static void a_function_at_a_small_address_is_shown_as_one(void **state) {
    (void)state;
    static tpool__context context; /* of a task without a name */
    for (uintptr_t function = 1; function < 10; function++) {
        tpool__text shown = { 0 };
        char expected[32];
        tpool__put_context(&shown, &context, function, 0);
        snprintf(expected, sizeof expected, "task at 0x%x", (unsigned)function);
        assert_string_equal(expected, shown.bytes);
    }
}

static const struct CMUnitTest tests[] = {
    TEST(a_walk_over_helpers_of_helpers_ends),
    TEST(nothing_is_passed_by),
    TEST(a_function_at_a_small_address_is_shown_as_one),
};
RUN_TESTS(tests)
