/* Waits inside what a caller executes for a pool, and inside initializers and finalizers. */
#include "support.h"

/* ---- Where a task runs ---- */

typedef struct place {
    tpool *pool;
    int worker;
} place;
typedef struct two_pools {
    tpool *outer, *inner;
    gate hold;
    place in_outer, in_inner, in_place, in_inner_again, in_outer_again;
    tpool_future *wanted;
    tpool_status submitted, result;
} two_pools;
static void look(place *p) {
    p->pool = tpool_current();
    p->worker = tpool_current_worker();
}
static void *look_in_place(void *arg) {
    look(&((two_pools *)arg)->in_place);
    return arg;
}
static void *wait_inside_the_callers_run(void *arg) {
    two_pools *t = arg;
    look(&t->in_inner);
    t->result = tpool_future_result(t->wanted, TPOOL_FOREVER, NULL);
    look(&t->in_inner_again);
    return NULL;
}
static void *run_anothers_task_by_caller(void *arg) {
    two_pools *t = arg;
    look(&t->in_outer);
    t->submitted = tpool_submit(t->outer, look_in_place, t, &t->wanted);
    if (t->submitted == TPOOL_OK) t->submitted = tpool_submit(t->inner, wait_inside_the_callers_run, t, NULL);
    look(&t->in_outer_again);
    return NULL;
}
/* A worker runs a full pool's task as its caller, and in there waits for a task of its own pool: three places. */
static void a_task_in_place_within_a_callers_run_is_its_own_pools(void **state) {
    (void)state;
    static two_pools t;
    t = (two_pools){ .hold = GATE_CLOSED };
    t.outer = new_pool_as((tpool_config){ .max_workers = 1 });
    t.inner = new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1, .on_full = TPOOL_FULL_CALLER_RUNS });
    tpool_future *holder = submitted(t.inner, gate_task, &t.hold);
    gate_await_arrivals(&t.hold, 1);
    tpool_future *filler = submitted(t.inner, nothing, NULL);
    tpool_status ended = end_of(submitted(t.outer, run_anothers_task_by_caller, &t));
    gate_open(&t.hold);
    assert_status(TPOOL_OK, end_of(holder));
    assert_status(TPOOL_OK, end_of(filler));
    assert_status(TPOOL_OK, tpool_destroy(t.outer));
    assert_status(TPOOL_OK, tpool_destroy(t.inner));
    tpool_future_release(t.wanted);
    assert_status(TPOOL_OK, ended);
    assert_status(TPOOL_OK, t.submitted);
    assert_status(TPOOL_OK, t.result);
    assert_ptr_equal(t.outer, t.in_outer.pool);
    assert_int_equal(0, t.in_outer.worker);
    assert_ptr_equal(t.inner, t.in_inner.pool);
    assert_int_equal(-1, t.in_inner.worker);
    assert_ptr_equal(t.outer, t.in_place.pool);
    assert_int_equal(0, t.in_place.worker);
    assert_ptr_equal(t.inner, t.in_inner_again.pool);
    assert_int_equal(-1, t.in_inner_again.worker);
    assert_ptr_equal(t.outer, t.in_outer_again.pool);
    assert_int_equal(0, t.in_outer_again.worker);
}

/* ---- Initializers and finalizers may wait for what is not their pool's ---- */

typedef struct slow_hook {
    tpool_future *awaited;
    atomic_int entered;
    tpool_status waited;
} slow_hook;
static void wait_in_finalizer(void *context) {
    slow_hook *hook = context;
    if (atomic_fetch_add(&hook->entered, 1) == 0) hook->waited = tpool_future_result(hook->awaited, LIMIT, NULL);
}
static void a_finalizer_that_waits_keeps_no_other_worker_from_working(void **state) {
    (void)state;
    static slow_hook hook;
    static gate both;
    hook = (slow_hook){ .waited = TPOOL_INVALID };
    both = (gate)GATE_CLOSED;
    assert_status(TPOOL_OK, tpool_future_create(&hook.awaited));
    tpool *pool = new_pool_as((tpool_config){
        .max_workers = 2, .max_tasks_per_worker = 2, .finalizer = wait_in_finalizer, .context = &hook });
    /* Each of the two workers runs one task, then one of them its second and last. */
    tpool_future *first = submitted(pool, gate_task, &both), *second = submitted(pool, gate_task, &both);
    gate_await_arrivals(&both, 2);
    gate_open(&both);
    tpool_status ended[4];
    ended[0] = end_of(first);
    ended[1] = end_of(second);
    ended[2] = end_of(submitted(pool, nothing, NULL));
    int64_t end = tpool_now() + LIMIT;
    while (atomic_load(&hook.entered) == 0 && tpool_now() < end) sleep_ms(1);
    int entered = atomic_load(&hook.entered);
    sleep_ms(20); /* time to fall asleep, for both */
    tpool_future *next = submitted(pool, nothing, NULL);
    ended[3] = tpool_future_result(next, TPOOL_SEC(20), NULL);
    (void)tpool_future_cancel(next); /* if it has not started, destroy need not wait for it */
    tpool_status set = tpool_future_set_result(hook.awaited, NULL);
    tpool_future_release(next);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    tpool_future_release(hook.awaited);
    for (int i = 0; i < 4; i++) assert_status(TPOOL_OK, ended[i]);
    assert_int_equal(1, entered);
    assert_status(TPOOL_OK, set);
    assert_status(TPOOL_OK, hook.waited);
}

static void a_finalizer_may_wait_for_work_that_its_own_pool_does_elsewhere(void **state) {
    (void)state;
    static slow_hook hook;
    hook = (slow_hook){ .waited = TPOOL_INVALID };
    assert_status(TPOOL_OK, tpool_future_create(&hook.awaited));
    tpool *pool = new_pool_as((tpool_config){
        .max_workers = 1, .max_tasks_per_worker = 1, .finalizer = wait_in_finalizer, .context = &hook });
    tpool_status ended = end_of(submitted(pool, nothing, NULL));
    EVENTUALLY(atomic_load(&hook.entered) == 1);
    tpool_future *following = submitted(pool, nothing, NULL);
    tpool_status next = tpool_future_result(following, TPOOL_SEC(20), NULL);
    (void)tpool_future_cancel(following);
    tpool_future_release(following);
    tpool_status drained = tpool_drain(pool, TPOOL_SEC(20)); /* nothing is queued or running */
    tpool_status set = tpool_future_set_result(hook.awaited, NULL);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    tpool_future_release(hook.awaited);
    assert_status(TPOOL_OK, ended);
    assert_status(TPOOL_OK, next);
    assert_status(TPOOL_OK, drained);
    assert_status(TPOOL_OK, set);
    assert_status(TPOOL_OK, hook.waited);
}

static const struct CMUnitTest tests[] = {
    TEST(a_task_in_place_within_a_callers_run_is_its_own_pools),
    TEST(a_finalizer_that_waits_keeps_no_other_worker_from_working),
    TEST(a_finalizer_may_wait_for_work_that_its_own_pool_does_elsewhere),
};
RUN_TESTS(tests)
