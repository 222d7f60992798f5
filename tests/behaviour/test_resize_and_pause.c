/* Pools that are resized or paused while they work. What tasks touch is static, so that it is still there when a failed
   assertion has left the test. */
#include "support.h"
#include "support/workers.h"

/* --- resize */

static void resize_up_starts_queued_work_at_once(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    tpool *pool = new_pool(1);
    for (int i = 0; i < 5; i++) assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
    AWAIT_ARRIVALS(&hold, 1);
    sleep_ms(10);
    assert_int_equal(1, gate_arrived(&hold));
    assert_status(TPOOL_OK, tpool_resize(pool, 3));
    assert_int_equal(3, stats_of(pool).max_workers);
    AWAIT_ARRIVALS(&hold, 3); /* without a further submit */
    sleep_ms(10);
    assert_int_equal(3, gate_arrived(&hold));
    assert_int_equal(2, stats_of(pool).queued);
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(5, stats_of(pool).completed);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void resize_down_takes_effect_as_workers_become_idle(void **state) {
    (void)state;
    static gate first = GATE_CLOSED, second = GATE_CLOSED;
    tpool *pool = new_counted_pool(4);
    for (int i = 0; i < 4; i++) assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &first, NULL));
    AWAIT_ARRIVALS(&first, 4);
    for (int i = 0; i < 6; i++) assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &second, NULL));
    assert_status(TPOOL_OK, tpool_resize(pool, 2));
    assert_int_equal(2, stats_of(pool).max_workers);
    assert_int_equal(4, stats_of(pool).active); /* what runs goes on */
    gate_open(&first);
    AWAIT_ARRIVALS(&second, 2);
    EVENTUALLY(stats_of(pool).workers == 2);
    sleep_ms(10);
    assert_int_equal(2, gate_arrived(&second));
    gate_open(&second);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(10, stats_of(pool).completed);
    assert_int_equal(2, stats_of(pool).workers);
    EVENTUALLY(atomic_load(&finalized) == 2);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(4, atomic_load(&finalized));
}

static void resize_down_ends_idle_workers_and_up_starts_new_ones(void **state) {
    (void)state;
    tpool *pool = new_counted_pool(4);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 4));
    EVENTUALLY(stats_of(pool).idle == 4);
    assert_status(TPOOL_OK, tpool_resize(pool, 1));
    EVENTUALLY(stats_of(pool).workers == 1);
    EVENTUALLY(atomic_load(&finalized) == 3);
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    assert_status(TPOOL_OK, tpool_warm_up(pool, 4));
    assert_int_equal(1, stats_of(pool).workers);
    assert_status(TPOOL_OK, tpool_resize(pool, 2));
    assert_status(TPOOL_OK, tpool_warm_up(pool, 4));
    assert_int_equal(2, stats_of(pool).workers);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(5, atomic_load(&finalized));
}

/* --- pause and resume */

static void between_pause_and_resume_no_task_starts(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static atomic_int runs;
    tpool *pool = new_pool(2);
    tpool_future *running = submitted(pool, gate_task, &hold);
    AWAIT_ARRIVALS(&hold, 1);
    assert_status(TPOOL_OK, tpool_resume(pool)); /* it was not paused */
    assert_status(TPOOL_OK, tpool_pause(pool));
    assert_status(TPOOL_OK, tpool_pause(pool));
    tpool_future *pending[3];
    for (int i = 0; i < 3; i++)
        pending[i] = submitted_task(pool, (tpool_task){ .fn = count_up, .arg = &runs, .priority = i - 1 });
    gate_open(&hold);
    assert_status(TPOOL_OK, end_of(running)); /* what ran goes on */
    assert_status(TPOOL_TIMEOUT, tpool_future_result(pending[2], TPOOL_MS(30), NULL));
    assert_int_equal(0, atomic_load(&runs));
    assert_int_equal(3, stats_of(pool).queued);
    for (int i = 0; i < 3; i++) assert_int_equal(TPOOL_PENDING, tpool_future_state(pending[i]));
    assert_true(tpool_future_cancel(pending[1]));
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_status(TPOOL_OK, end_of(pending[0]));
    assert_status(TPOOL_CANCELLED, end_of(pending[1]));
    assert_status(TPOOL_OK, end_of(pending[2]));
    assert_int_equal(2, atomic_load(&runs));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

typedef struct feeder {
    tpool *pool;
    atomic_int runs;
    atomic_bool stop;
    int refused;
} feeder;
static void *feed(void *arg) {
    feeder *f = arg;
    while (!atomic_load(&f->stop)) {
        if (tpool_submit(f->pool, count_up, &f->runs, NULL) != TPOOL_OK) f->refused++;
        tpool_stats stats;
        if (tpool_get_stats(f->pool, &stats) != TPOOL_OK || stats.queued > 1000) sleep_ms(1);
    }
    return NULL;
}

static void pause_holds_against_submits_from_elsewhere(void **state) {
    (void)state;
    static feeder f;
    f.pool = new_pool(2);
    pthread_t thread;
    assert_int_equal(0, pthread_create(&thread, NULL, feed, &f));
    for (int round = 0; round < COUNT(50); round++) {
        int before = atomic_load(&f.runs);
        EVENTUALLY(atomic_load(&f.runs) > before);
        assert_status(TPOOL_OK, tpool_pause(f.pool));
        EVENTUALLY(stats_of(f.pool).active == 0);
        int paused = atomic_load(&f.runs);
        sleep_ms(2);
        assert_int_equal(paused, atomic_load(&f.runs));
        assert_status(TPOOL_OK, tpool_resume(f.pool));
    }
    atomic_store(&f.stop, true);
    pthread_join(thread, NULL);
    assert_int_equal(0, f.refused);
    assert_status(TPOOL_OK, tpool_destroy(f.pool));
}

typedef struct waiting_parent {
    gate *before_wait;
    atomic_int child_runs;
    tpool_status submit, wait;
} waiting_parent;
static void *submit_and_wait_after_gate(void *arg) {
    waiting_parent *p = arg;
    tpool_future *child;
    p->submit = tpool_submit(tpool_current(), count_up, &p->child_runs, &child);
    if (p->submit != TPOOL_OK) return NULL;
    gate_pass(p->before_wait);
    p->wait = tpool_future_result(child, TPOOL_FOREVER, NULL);
    tpool_future_release(child);
    return NULL;
}

static void a_wait_runs_nothing_in_place_while_the_pool_is_paused(void **state) {
    (void)state;
    static gate before_wait = GATE_CLOSED;
    static waiting_parent p;
    p.before_wait = &before_wait;
    tpool *pool = new_pool(1);
    tpool_future *parent = submitted(pool, submit_and_wait_after_gate, &p);
    AWAIT_ARRIVALS(&before_wait, 1);
    assert_status(TPOOL_OK, tpool_pause(pool));
    gate_open(&before_wait);
    assert_status(TPOOL_TIMEOUT, tpool_future_result(parent, TPOOL_MS(30), NULL));
    assert_int_equal(0, atomic_load(&p.child_runs));
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_status(TPOOL_OK, end_of(parent));
    assert_status(TPOOL_OK, p.submit);
    assert_status(TPOOL_OK, p.wait);
    assert_int_equal(1, atomic_load(&p.child_runs));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static const struct CMUnitTest tests[] = {
    TEST(resize_up_starts_queued_work_at_once),
    TEST(resize_down_takes_effect_as_workers_become_idle),
    TEST(resize_down_ends_idle_workers_and_up_starts_new_ones),
    TEST(between_pause_and_resume_no_task_starts),
    TEST(pause_holds_against_submits_from_elsewhere),
    TEST(a_wait_runs_nothing_in_place_while_the_pool_is_paused),
};
RUN_TESTS(tests)
