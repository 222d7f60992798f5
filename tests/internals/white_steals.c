/* A worker steals seldom where it does not pay; and the wait of a group spins for what another worker executes. */
#include "support.h"
#define TPOOL_IMPLEMENTATION
#include "tpool.h"

/* ---- How long a thief waits before it steals again */
static void the_delay_grows_while_steals_do_not_pay(void **state) {
    (void)state;
    static tpool__worker worker;
    tpool__set_steal_delay(&worker);
    assert_int_equal(0, worker.steal_delay); /* nothing was stolen yet */
    for (int i = 0; i < 20; i++) {
        uint32_t before = worker.steal_delay;
        worker.stolen_at = tpool__clock() + TPOOL_SEC(100); /* whatever a loaded machine takes until the look */
        tpool__set_steal_delay(&worker);
        assert_int_equal(0, worker.stolen_at);
        assert_true(worker.steal_delay > before || before == TPOOL__LONGEST_STEAL_DELAY);
    }
    assert_int_equal(TPOOL__LONGEST_STEAL_DELAY, worker.steal_delay);
    tpool__set_steal_delay(&worker); /* a look that has stolen nothing says nothing */
    assert_int_equal(TPOOL__LONGEST_STEAL_DELAY, worker.steal_delay);
    for (int i = 0; i < 20; i++) {
        worker.stolen_at = tpool__clock() - TPOOL__STEAL_PAYS;
        tpool__set_steal_delay(&worker);
    }
    assert_int_equal(0, worker.steal_delay);
}

static void the_delay_shrinks_beside_a_worker_that_executes_nothing(void **state) {
    (void)state;
    static tpool__worker worker, victim;
    worker.steal_delay = TPOOL__LONGEST_STEAL_DELAY;
    for (int i = 0; i < 20; i++) tpool__delay_steal(&worker, &victim);
    assert_int_equal(0, worker.steal_delay);
}
/* A pool of one worker, and its spare: the worker is blocked, so that no delay leaves anything to it. */
static void *blocks(void *bare) {
    assert_status(TPOOL_OK, tpool_future_result(bare, TPOOL_FOREVER, NULL));
    return NULL;
}
static void a_spare_of_a_pool_of_one_worker_does_not_wait(void **state) {
    (void)state;
    tpool_future *bare = NULL;
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 1));
    assert_status(TPOOL_OK, tpool_future_create(&bare));
    assert_status(TPOOL_OK, tpool_pause(pool));
    tpool__first_worker(pool)->fetch_size = TPOOL__SEGMENT_WORDS; /* as after many tiny tasks */
    tpool_future *first = submitted(pool, blocks, bare);
    for (int i = 0; i < 100; i++) assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
    tpool_future *last = submitted(pool, nothing, NULL);
    assert_status(TPOOL_OK, tpool_resume(pool)); /* the worker fetches all behind the first */
    assert_status(TPOOL_OK, end_of(last));
    tpool_stats stats;
    assert_status(TPOOL_OK, tpool_get_stats(pool, &stats));
    assert_true(stats.stolen > 0);
    for (tpool__worker *w = tpool__first_worker(pool); w; w = tpool__next_worker(w))
        assert_int_equal(0, w->steal_delay);
    assert_status(TPOOL_OK, tpool_future_set_result(bare, NULL));
    assert_status(TPOOL_OK, end_of(first));
    tpool_future_release(bare);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- The wait of a group */
static gate member_runs = GATE_CLOSED;
static void *waits_for_the_group(void *group) {
    AWAIT_ARRIVALS(&member_runs, 1);
    uint32_t before = tpool__self()->failed_spins;
    tpool_status status = tpool_group_wait(group, TPOOL_MS(1), NULL);
    assert_status(TPOOL_TIMEOUT, status);
    return (void *)(uintptr_t)(tpool__self()->failed_spins - before);
}
static void a_wait_for_a_group_spins(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    tpool_group *group = NULL;
    void *spins = NULL;
    assert_status(TPOOL_OK, tpool_group_create(&group, NULL));
    tpool_task member = { .fn = gate_task, .arg = &member_runs, .group = group };
    assert_status(TPOOL_OK, tpool_submit_task(pool, &member, NULL));
    tpool_future *waiter = submitted(pool, waits_for_the_group, group);
    assert_status(TPOOL_OK, tpool_future_result(waiter, LIMIT, &spins));
    assert_true((uintptr_t)spins > 0);
    tpool_future_release(waiter);
    gate_open(&member_runs);
    assert_status(TPOOL_OK, tpool_group_destroy(group));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static const struct CMUnitTest tests[] = {
    TEST(the_delay_grows_while_steals_do_not_pay),
    TEST(the_delay_shrinks_beside_a_worker_that_executes_nothing),
    TEST(a_spare_of_a_pool_of_one_worker_does_not_wait),
    TEST(a_wait_for_a_group_spins),
};
RUN_TESTS(tests)
