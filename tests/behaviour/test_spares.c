/* Spare workers: how many of the blocked workers of a pool are replaced, and what a pool gets beyond that. */
#include "support.h"
#include "support/stalls.h"

/* ---- Beyond max_spares. */

static void *wait_for_bare(void *bare) {
    note(tpool_future_result(bare, TPOOL_FOREVER, NULL));
    return NULL;
}
static void *set_bare(void *bare) {
    if (tpool_future_set_result(bare, NULL) != TPOOL_OK) abort();
    return NULL;
}
/* Ten tasks wait for what only the eleventh brings, and no search can tell that. */
static void a_pool_that_waits_for_no_task_gets_more_spares_after_a_while(void **state) {
    (void)state;
    for (int spares = -1; spares <= 2; spares++) {
        begin_counts();
        tpool_future *bare = NULL;
        tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .max_spares = spares });
        int at_once = spares < 0 ? 1 : spares == 0 ? 2 : 1 + spares;
        assert_status(TPOOL_OK, tpool_future_create(&bare));
        int64_t began = tpool_now();
        for (int i = 0; i < at_once + 3; i++) assert_status(TPOOL_OK, tpool_submit(pool, wait_for_bare, bare, NULL));
        assert_status(TPOOL_OK, tpool_submit(pool, set_bare, bare, NULL));
        assert_status(TPOOL_OK, tpool_future_result(bare, LIMIT, NULL));
        assert_true(tpool_now() - began >=
                    TPOOL_MS(10 + 20 + 40 + 80)); /* for the last three, and for what brings it */
        assert_int_equal(at_once + 3 + 1, stats_of(pool).spared + 1);
        assert_status(TPOOL_OK, tpool_destroy(pool));
        tpool_future_release(bare);
    }
}

static atomic_int about_to_wait, waiting[3];
static void *wait_and_count(void *arg) {
    atomic_store(&waiting[atomic_fetch_add(&about_to_wait, 1)], system_thread());
    note(tpool_future_result(arg, TPOOL_FOREVER, NULL));
    atomic_fetch_add(&tasks_ended, 1);
    return NULL;
}
/* Two workers of four may be replaced. */
static void no_more_than_max_spares_replace_blocked_workers(void **state) {
    (void)state;
    begin_counts();
    tpool_future *bare = NULL;
    gate closed = GATE_CLOSED;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 4, .max_spares = 2 });
    assert_status(TPOOL_OK, tpool_future_create(&bare));
    for (int i = 0; i < 3; i++) assert_status(TPOOL_OK, tpool_submit(pool, wait_and_count, bare, NULL));
    EVENTUALLY(stats_of(pool).queued == 0);
    EVENTUALLY(atomic_load(&about_to_wait) == 3);
    for (int i = 0; i < 3; i++) await_thread_asleep(&waiting[i]);
    for (int i = 0; i < 8; i++) assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &closed, NULL));
    gate_await_arrivals(&closed, 3); /* 3 blocked, of which 2 are replaced: 4 - 1 at work */
    assert_int_equal(5, stats_of(pool).queued);
    assert_int_equal(6, stats_of(pool).workers);
    gate_open(&closed);
    assert_status(TPOOL_OK, tpool_future_set_result(bare, NULL));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(3, atomic_load(&tasks_ended));
    tpool_future_release(bare);
}

/* ---- What came by need does not go on with the queue; what ends by its limit is no progress. */

/* Each task's step is on its own pool, so that each wait needs a worker at once. */
static tpool *own_pool;
static void *return_it(void *arg) {
    count_threads();
    return arg;
}
static void *step_on_the_own_pool(void *arg) {
    tpool_task task = { .fn = return_it };
    note(tpool_run_with_timeout(own_pool, &task, TPOOL_SEC(60), NULL));
    atomic_fetch_add(&tasks_ended, 1);
    return arg;
}
static void many_steps_with_a_limit_on_their_own_pool_get_few_threads(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++) {
        int workers = i == 2 ? 4 : 1;
        begin_counts();
        own_pool = new_pool_as((tpool_config){ .max_workers = workers, .max_tasks_per_worker = i == 1 });
        atomic_store(&counted, own_pool);
        int64_t began = tpool_now();
        for (int j = 0; j < MANY; j++)
            assert_status(TPOOL_OK, tpool_submit(own_pool, step_on_the_own_pool, NULL, NULL));
        assert_status(TPOOL_OK, tpool_destroy(own_pool));
        check_threads(workers + 1, MANY, began); /* a step needs one more */
    }
}

/* One task alternates: it submits what blocks, and needs a worker. */
static void *wait_for_gate_future(void *bare) {
    note(tpool_future_result(bare, TPOOL_FOREVER, NULL));
    return NULL;
}
static void *block_one_and_run_a_step(void *bare) {
    for (int i = 0; i < MANY / 4; i++) {
        tpool_task task = { .fn = return_it };
        note(tpool_submit(own_pool, wait_for_gate_future, bare, NULL));
        note(tpool_run_with_timeout(own_pool, &task, TPOOL_SEC(60), NULL));
        atomic_fetch_add(&tasks_ended, 1);
    }
    return NULL;
}
static void a_worker_that_a_step_needed_leaves_the_queue_alone(void **state) {
    (void)state;
    tpool_future *bare = NULL;
    begin_counts();
    own_pool = new_pool(1);
    atomic_store(&counted, own_pool);
    assert_status(TPOOL_OK, tpool_future_create(&bare));
    int64_t began = tpool_now();
    take(submitted(own_pool, block_one_and_run_a_step, bare));
    check_threads(2, MANY / 4, began);
    assert_status(TPOOL_OK, tpool_future_set_result(bare, NULL));
    assert_status(TPOOL_OK, tpool_destroy(own_pool));
    tpool_future_release(bare);
}

/* Consumers that look now and then hold all workers; what they look for is brought by a task behind them. */
typedef struct polling {
    tpool_channel *channel;
    int64_t limit;
} polling;
static void *poll_the_channel(void *arg) {
    polling *p = arg;
    int item = 0;
    tpool_status status;
    while ((status = tpool_channel_receive(p->channel, &item, p->limit)) == TPOOL_TIMEOUT) { }
    note(status);
    atomic_fetch_add(&tasks_ended, 1);
    return NULL;
}
static void *send_to_the_channel(void *arg) {
    polling *p = arg;
    int item = 1;
    for (int i = 0; i < 2; i++) note(tpool_channel_send(p->channel, &item, TPOOL_FOREVER));
    return NULL;
}
static void waits_that_end_by_their_limit_hold_no_spare_off(void **state) {
    (void)state;
    static const int64_t limits[] = { TPOOL_MS(5), TPOOL_MS(30), TPOOL_MS(300) };
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        begin_counts();
        polling p = { NULL, limits[i] };
        tpool *pool = new_pool(1);
        assert_status(TPOOL_OK, tpool_channel_create(
                                    &p.channel, &(tpool_channel_config){ .item_size = sizeof(int), .capacity = 2 }));
        for (int j = 0; j < 2; j++) assert_status(TPOOL_OK, tpool_submit(pool, poll_the_channel, &p, NULL));
        tpool_future *sends = submitted(pool, send_to_the_channel, &p);
        assert_status(TPOOL_OK, tpool_future_result(sends, LIMIT, NULL));
        tpool_future_release(sends);
        assert_status(TPOOL_OK, tpool_destroy(pool));
        assert_int_equal(2, atomic_load(&tasks_ended));
        assert_status(TPOOL_OK, tpool_channel_destroy(p.channel));
    }
}

/* Two tasks hand one item to and fro, for ever: their waits end, but no task does. */
typedef struct ping_pong {
    tpool_channel *ways[2];
    atomic_int stops, players;
} ping_pong;
static void *play(void *arg) {
    ping_pong *p = arg;
    int item = 0, me = atomic_fetch_add(&p->players, 1);
    while (!atomic_load(&p->stops)) {
        if (tpool_channel_receive(p->ways[me], &item, TPOOL_MS(50)) != TPOOL_OK) continue;
        note(tpool_channel_send(p->ways[!me], &item, TPOOL_FOREVER));
    }
    return NULL;
}
static void *stop_playing(void *arg) {
    atomic_store(&((ping_pong *)arg)->stops, 1);
    return NULL;
}
static void waits_that_go_on_for_ever_hold_the_queue_up_for_a_second_at_most(void **state) {
    (void)state;
    begin_counts();
    int item = 0;
    ping_pong p = { { NULL, NULL }, 0, 0 };
    tpool *pool = new_pool(1);
    for (int i = 0; i < 2; i++)
        assert_status(TPOOL_OK, tpool_channel_create(
                                    &p.ways[i], &(tpool_channel_config){ .item_size = sizeof(int), .capacity = 2 }));
    assert_status(TPOOL_OK, tpool_channel_send(p.ways[0], &item, LIMIT));
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_submit(pool, play, &p, NULL));
    take(submitted(pool, stop_playing, &p));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_channel_destroy(p.ways[i]));
}

/* Long waits have used up all spares. One more came by time: it stays, and tasks that come later need no other one. */
static void a_spare_that_time_brought_stays_while_it_is_needed(void **state) {
    (void)state;
    begin_counts();
    tpool_future *bare = NULL;
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, tpool_future_create(&bare));
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_submit(pool, wait_for_gate_future, bare, NULL));
    for (int i = 0; i < 20; i++) {
        take(submitted(pool, nothing, NULL));
        if (i % 4 == 3) sleep_ms(25); /* longer than a spare lingers */
    }
    assert_int_equal(2, stats_of(pool).spared);
    assert_status(TPOOL_OK, tpool_future_set_result(bare, NULL));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    tpool_future_release(bare);
}

/* ---- At once: the very task that is waited for, at any depth, in every kind of wait. */

typedef enum manner { TIMED, FIRST, NEXT, MANNERS } manner;
typedef struct nest {
    tpool *pools[2];
    manner manner;
    tpool_future *decoy;
} nest;
static nest the_nest;
static void *descend(void *arg) {
    intptr_t level = (intptr_t)arg;
    tpool_completions *completions = NULL;
    tpool_future *below = NULL, *next = NULL;
    if (level == 0) return arg;
    if (tpool_submit(the_nest.pools[level % 2], descend, (void *)(level - 1), &below) != TPOOL_OK) abort();
    switch (the_nest.manner) {
    case TIMED: note(tpool_future_result(below, LIMIT, NULL)); break;
    case FIRST: {
        tpool_future *two[2] = { the_nest.decoy, below };
        note(tpool_wait(two, 2, TPOOL_FIRST_COMPLETED, TPOOL_FOREVER, NULL));
        break;
    }
    default:
        if (tpool_as_completed(&below, 1, &completions) != TPOOL_OK) abort();
        note(tpool_completions_next(completions, TPOOL_FOREVER, &next));
        tpool_completions_destroy(completions);
        break;
    }
    tpool_future_release(below);
    return arg;
}
static void nested_waits_of_each_kind_get_their_spares_at_once(void **state) {
    (void)state;
    for (int two = 0; two < 2; two++)
        for (manner m = TIMED; m < MANNERS; m++) {
            begin_counts();
            tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .stack_size = 256 << 10 });
            tpool *other = new_pool_as((tpool_config){ .max_workers = 1, .stack_size = 256 << 10 });
            the_nest = (nest){ { pool, two ? other : pool }, m, NULL };
            assert_status(TPOOL_OK, tpool_future_create(&the_nest.decoy));
            int64_t began = tpool_now();
            take(submitted(pool, descend, (void *)(intptr_t)200));
            assert_true(SLOW_TOOL || tpool_now() - began < TPOOL_SEC(20)); /* a second each otherwise */
            assert_int_equal(0, atomic_load(&waits_refused));
            assert_status(TPOOL_OK, tpool_future_set_result(the_nest.decoy, NULL));
            tpool_future_release(the_nest.decoy);
            assert_status(TPOOL_OK, tpool_destroy(pool));
            assert_status(TPOOL_OK, tpool_destroy(other));
        }
}

static const struct CMUnitTest tests[] = {
    TEST(many_tasks_that_want_one_resource_get_few_threads),
    TEST(many_steps_with_a_limit_on_another_pool_get_few_threads),
    TEST(many_tasks_that_wait_for_one_load_get_few_threads),
    TEST(a_stage_before_a_full_queue_gets_few_threads),
    TEST(a_crawler_with_fewer_handles_than_workers_gets_few_threads),
    TEST(a_pool_that_waits_for_no_task_gets_more_spares_after_a_while),
    TEST(no_more_than_max_spares_replace_blocked_workers),
    TEST(many_steps_with_a_limit_on_their_own_pool_get_few_threads),
    TEST(a_worker_that_a_step_needed_leaves_the_queue_alone),
    TEST(waits_that_end_by_their_limit_hold_no_spare_off),
    TEST(waits_that_go_on_for_ever_hold_the_queue_up_for_a_second_at_most),
    TEST(a_spare_that_time_brought_stays_while_it_is_needed),
    TEST(nested_waits_of_each_kind_get_their_spares_at_once),
};
RUN_TESTS(tests)
