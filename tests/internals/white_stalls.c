/* Threads that the system refuses to a pool that stalls, since all its workers are blocked: a wait ends that would
   hang, and no other; and a refused spare is asked for again. */
#include "thread_refusals.h"
#include "support/stalls.h"

static void few_threads_are_enough_for_pools_whose_workers_block(void **state) {
    atomic_store(&most_at_once, 64);
    many_tasks_that_want_one_resource_get_few_threads(state); /* each checks that no wait gave NO_THREAD */
    many_steps_with_a_limit_on_another_pool_get_few_threads(state);
    many_tasks_that_wait_for_one_load_get_few_threads(state);
    a_stage_before_a_full_queue_gets_few_threads(state);
    a_crawler_with_fewer_handles_than_workers_gets_few_threads(state);
    atomic_store(&most_at_once, NO_LIMIT);
    assert_int_equal(0, atomic_load(&starts_refused));
}

/* A thread keeps the times from now on. */
static atomic_bool times_are_kept;
static void come_again(tpool__timer *timer) {
    tpool__timer_arm(timer, tpool_now() + 100 * LIMIT);
    atomic_store(&times_are_kept, true);
}
static tpool__timer kept = { .fire = come_again };
static void keep_times(void) {
    atomic_store(&times_are_kept, false);
    tpool__timer_arm(&kept, tpool_now());
    EVENTUALLY(atomic_load(&times_are_kept));
}

/* The system refuses the spare again and again, before the wait that this ends has left its lists: a thread holds the
 * lock of one. */
static void *wait_or_be_refused(void *bare) {
    if (tpool_future_result(bare, TPOOL_FOREVER, NULL) == TPOOL_NO_THREAD) atomic_fetch_add(&waits_refused, 1);
    return NULL;
}
static atomic_bool holds;
static void *hold_up_what_leaves(void *bare) {
    int64_t limit = tpool_now() + 5 * TPOOL__REFUSAL_STALL_LIMIT;
    uintptr_t clear = tpool__nodes_lock(bare);
    atomic_store(&holds, true);
    while (tpool_now() < limit) sleep_ms(1);
    tpool__nodes_unlock(bare, clear);
    return NULL;
}
static void spares_refused_in_a_row_end_one_wait(void **state) {
    (void)state;
    enum { workers = 4 };
    pthread_t holder;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = workers, .max_spares = -1 });
    tpool_future *bare = NULL;
    atomic_store(&waits_refused, 0);
    atomic_store(&holds, false);
    assert_status(TPOOL_OK, tpool_future_create(&bare));
    for (int i = 0; i < workers; i++) assert_status(TPOOL_OK, tpool_submit(pool, wait_or_be_refused, bare, NULL));
    EVENTUALLY(blocked_of(pool) == workers);
    keep_times();
    refuse();
    assert_int_equal(0, pthread_create(&holder, NULL, hold_up_what_leaves, bare));
    EVENTUALLY(atomic_load(&holds));
    for (int i = 0; i < 25; i++) assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
    assert_int_equal(0, pthread_join(holder, NULL));
    EVENTUALLY(stats_of(pool).completed >= 25 + 1);
    int refused = atomic_load(&starts_refused);
    allow();
    (void)tpool__timer_disarm(&kept);
    assert_int_equal(1, atomic_load(&waits_refused));
    assert_true(refused >= 4);
    assert_status(TPOOL_OK, tpool_future_set_result(bare, NULL));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    tpool_future_release(bare);
}

/* The spare that a wait needs is refused while another worker waits for what comes on its own. */
static void *wait_for_queued(void *of) {
    tpool_future *queued = NULL;
    if (tpool_submit(of, nothing, NULL, &queued) != TPOOL_OK) abort();
    tpool_future *both[2] = { queued, queued };
    tpool_status got = tpool_wait(both, 2, TPOOL_FIRST_COMPLETED, TPOOL_FOREVER, NULL);
    if (got == TPOOL_NO_THREAD) atomic_fetch_add(&waits_refused, 1);
    tpool_future_release(queued);
    return NULL;
}
static void a_refused_spare_ends_no_wait_while_others_may_go_on(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 2, .max_spares = -1 });
    tpool_future *bare = NULL;
    atomic_store(&waits_refused, 0);
    assert_status(TPOOL_OK, tpool_future_create(&bare));
    assert_status(TPOOL_OK, tpool_submit(pool, wait_or_be_refused, bare, NULL));
    EVENTUALLY(blocked_of(pool) == 1);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 2));
    keep_times();
    refuse();
    tpool_future *waits = submitted(pool, wait_for_queued, pool);
    EVENTUALLY(atomic_load(&starts_refused) > 0);
    int64_t since = tpool_now();
    sleep_ms(20);
    assert_status(TPOOL_OK, tpool_future_set_result(bare, NULL));
    bool hung = tpool_now() - since > TPOOL__REFUSAL_STALL_LIMIT / 2; /* this thread was held up */
    assert_status(TPOOL_OK, end_of(waits));
    allow();
    (void)tpool__timer_disarm(&kept);
    if (!hung) assert_int_equal(0, atomic_load(&waits_refused));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    tpool_future_release(bare);
}

/* The spare is refused, and the wait that this ends cannot go yet: the system is asked again now and then. */
typedef struct slow_leave {
    tpool *pool, *other;
    tpool_future *step;
    gate begin;
} slow_leave;
static void *wait_back(void *arg) {
    slow_leave *s = arg;
    tpool_future *needed = NULL;
    gate_pass(&s->begin);
    if (tpool_submit(s->pool, nothing, NULL, &needed) != TPOOL_OK) abort();
    if (tpool_future_result(needed, TPOOL_FOREVER, NULL) != TPOOL_OK) abort();
    tpool_future_release(needed);
    return NULL;
}
static void *wait_for_the_step(void *arg) { return wait_or_be_refused(((slow_leave *)arg)->step); }
static void a_refused_spare_is_asked_for_again_now_and_then(void **state) {
    (void)state;
    pthread_t holder;
    slow_leave s = { .begin = GATE_CLOSED };
    s.pool = new_pool_as((tpool_config){ .max_workers = 1, .max_spares = -1 });
    s.other = new_pool(1);
    atomic_store(&waits_refused, 0);
    atomic_store(&holds, false);
    s.step = submitted(s.other, wait_back, &s);
    tpool_future *waits = submitted(s.pool, wait_for_the_step, &s);
    gate_await_arrivals(&s.begin, 1);
    EVENTUALLY(blocked_of(s.pool) == 1);
    keep_times();
    refuse();
    assert_int_equal(0, pthread_create(&holder, NULL, hold_up_what_leaves, s.step));
    EVENTUALLY(atomic_load(&holds));
    gate_open(&s.begin);
    assert_int_equal(0, pthread_join(holder, NULL)); /* after half a second */
    int refused = atomic_load(&starts_refused);
    tpool_status ended = wait_for(waits), step = wait_for(s.step);
    allow();
    (void)tpool__timer_disarm(&kept);
    tpool_future_release(waits);
    tpool_future_release(s.step);
    assert_status(TPOOL_OK, tpool_destroy(s.pool));
    assert_status(TPOOL_OK, tpool_destroy(s.other));
    assert_status(TPOOL_OK, ended);
    assert_status(TPOOL_OK, step);
    assert_int_equal(1, atomic_load(&waits_refused));
    assert_in_range(refused, 2, 60); /* once in ten milliseconds */
}

/* A pool without spares whose one worker waits for a future of the program. */
static tpool *pool_blocked_on(tpool_future **bare) {
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .max_spares = -1 });
    assert_status(TPOOL_OK, tpool_future_create(bare));
    assert_status(TPOOL_OK, tpool_submit(pool, wait_or_be_refused, *bare, NULL));
    EVENTUALLY(blocked_of(pool) == 1);
    return pool;
}
/* Time has come for a spare, and the system refuses it: then none has come. */
static void a_refused_spare_is_none_that_time_has_brought(void **state) {
    (void)state;
    tpool_future *bare = NULL;
    tpool *pool = pool_blocked_on(&bare);
    keep_times();
    refuse();
    tpool_future *queued = submitted(pool, nothing, NULL);
    EVENTUALLY(atomic_load(&starts_refused) > 0);
    tpool__lock(&pool->lock);
    uintptr_t granted = pool->granted, blocked = pool->blocked;
    unsigned level = pool->stall.level;
    bool used_up = tpool__spares_used_up(pool);
    tpool__unlock(&pool->lock);
    assert_status(TPOOL_OK, tpool_future_set_result(bare, NULL));
    tpool_status ended = wait_for(queued);
    allow();
    (void)tpool__timer_disarm(&kept);
    tpool_future_release(queued);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    tpool_future_release(bare);
    assert_status(TPOOL_OK, ended);
    assert_int_equal(0, granted);
    assert_int_equal(0, level);
    assert_true(used_up || blocked == 0); /* this thread was held up */
}

/* A cancelled task stays in the queue for a while. It needs no spare, and no timer. */
static bool stall_is_timed(tpool *pool) {
    tpool__lock(&tpool__times.lock);
    bool timed = pool->stall.timer.link || tpool__times.fires == &pool->stall.timer;
    tpool__unlock(&tpool__times.lock);
    return timed;
}
static void a_cancelled_task_keeps_no_timer_armed(void **state) {
    (void)state;
    tpool_future *bare = NULL, *queued = NULL;
    tpool *pool = NULL;
    for (;;) { /* until it comes before a spare does, which is after 10 ms */
        pool = pool_blocked_on(&bare);
        int64_t began = tpool_now();
        queued = submitted(pool, nothing, NULL);
        bool cancelled = tpool_future_cancel(queued);
        if (cancelled && tpool_now() - began < TPOOL_MS(5)) break;
        assert_status(TPOOL_OK, tpool_future_set_result(bare, NULL));
        tpool_future_release(queued);
        assert_status(TPOOL_OK, tpool_destroy(pool));
        tpool_future_release(bare);
    }
    EVENTUALLY(!stall_is_timed(pool));
    assert_int_equal(1, stats_of(pool).workers);
    assert_status(TPOOL_OK, tpool_future_set_result(bare, NULL));
    tpool_future_release(queued);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    tpool_future_release(bare);
}

/* The spare's thread starts, but cannot begin, and the wait cannot be refused. */
typedef struct late_close {
    tpool *pool, *other;
    gate item;
} late_close;
static void *pass_item(void *item, void *held) {
    gate_pass(held);
    return item;
}
static void *close_while_an_item_runs(void *arg) {
    late_close *c = arg;
    int item = 0;
    tpool_map_iter *iter = NULL;
    tpool_map_spec spec = { .fn = pass_item, .context = &c->item, .items = &item, .count = 1, .stride = sizeof item };
    if (tpool_map(c->other, &spec, &iter) != TPOOL_OK) abort();
    gate_await_arrivals(&c->item, 1);
    tpool_map_close(iter);
    return NULL;
}
static void a_spare_that_cannot_begin_is_tried_again_now_and_then(void **state) {
    (void)state;
    late_close c = { new_pool(1), new_pool(1), GATE_CLOSED };
    tpool_future *closes = submitted(c.pool, close_while_an_item_runs, &c);
    EVENTUALLY(blocked_of(c.pool) == 1);
    keep_times();
    int before = atomic_load(&starts_granted);
    atomic_store(&refusing_hooks, true);
    tpool_future *task = submitted(c.pool, nothing, NULL);
    EVENTUALLY(atomic_load(&starts_granted) - before >= 3);
    sleep_ms(100);
    int starts = atomic_load(&starts_granted) - before; /* after 10 ms, 20, 40 and so on, and with a timekeeper's */
    atomic_store(&refusing_hooks, false);
    (void)tpool__timer_disarm(&kept);
    tpool_status status = wait_for(task);
    gate_open(&c.item);
    assert_status(TPOOL_OK, end_of(closes));
    tpool_future_release(task);
    assert_status(TPOOL_OK, tpool_destroy(c.pool));
    assert_status(TPOOL_OK, tpool_destroy(c.other));
    assert_status(TPOOL_OK, status);
    assert_true(starts <= 30);
}

static const struct CMUnitTest tests[] = {
    THREAD_TEST(few_threads_are_enough_for_pools_whose_workers_block),
    THREAD_TEST(spares_refused_in_a_row_end_one_wait),
    THREAD_TEST(a_refused_spare_ends_no_wait_while_others_may_go_on),
    THREAD_TEST(a_refused_spare_is_asked_for_again_now_and_then),
    THREAD_TEST(a_refused_spare_is_none_that_time_has_brought),
    THREAD_TEST(a_cancelled_task_keeps_no_timer_armed),
    THREAD_TEST(a_spare_that_cannot_begin_is_tried_again_now_and_then),
};
RUN_TESTS(tests)
