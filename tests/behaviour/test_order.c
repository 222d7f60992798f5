/* The order in which tasks start: priorities, first come first served, and nothing behind a task that is merely
   fetched. What tasks touch is static, so that it is still there when a failed assertion has left the test. */
#include "support.h"
#include <limits.h>

/* --- order */

static struct {
    atomic_int count;
    int values[4096];
} order;
static void *record(void *arg) {
    int at = atomic_fetch_add(&order.count, 1);
    if (at < (int)(sizeof order.values / sizeof order.values[0])) order.values[at] = (int)(intptr_t)arg;
    return NULL;
}
static void *number(int n) { return (void *)(intptr_t)n; }

static void higher_priorities_start_first_and_equal_ones_in_order(void **state) {
    (void)state;
    static const int priorities[] = { 0, -5, 3, 0, INT_MIN, 3, INT_MAX, -5 };
    static const int expected[] = { 6, 2, 5, 0, 3, 1, 7, 4 };
    for (int with_gate = 0; with_gate < 2; with_gate++) {
        static gate hold = GATE_CLOSED;
        gate_close(&hold);
        atomic_store(&order.count, 0);
        tpool *pool = new_pool(1);
        if (with_gate) {
            assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
            AWAIT_ARRIVALS(&hold, 1);
        } else {
            assert_status(TPOOL_OK, tpool_pause(pool));
        }
        for (int i = 0; i < 8; i++) {
            assert_status(TPOOL_OK,
                          tpool_submit_task(
                              pool, &(tpool_task){ .fn = record, .arg = number(i), .priority = priorities[i] }, NULL));
        }
        if (with_gate) gate_open(&hold);
        else assert_status(TPOOL_OK, tpool_resume(pool));
        assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
        assert_int_equal(8, atomic_load(&order.count));
        for (int i = 0; i < 8; i++) assert_int_equal(expected[i], order.values[i]);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

/* Tasks that submit their successors, so that some of their priority are always waiting. */
typedef struct chain {
    tpool *pool;
    atomic_int next_priority;
    int step;
    atomic_bool stop;
    atomic_long links;
} chain;
static void *chain_link(void *arg) {
    chain *c = arg;
    atomic_fetch_add(&c->links, 1);
    if (atomic_load(&c->stop)) return NULL;
    tpool_task next = { .fn = chain_link, .arg = c, .priority = atomic_fetch_add(&c->next_priority, c->step) };
    if (tpool_submit_task(c->pool, &next, NULL) != TPOOL_OK) atomic_store(&c->stop, true);
    return NULL;
}

static void chain_start(chain *c, int workers, int priority, int step) {
    c->pool = new_pool(workers);
    atomic_store(&c->next_priority, priority);
    c->step = step;
    atomic_store(&c->stop, false);
    atomic_store(&c->links, 0);
    for (int i = 0; i < 8; i++) {
        tpool_task first = { .fn = chain_link, .arg = c, .priority = atomic_fetch_add(&c->next_priority, step) };
        assert_status(TPOOL_OK, tpool_submit_task(c->pool, &first, NULL));
    }
    EVENTUALLY(atomic_load(&c->links) > 100);
}

static void chain_end(chain *c) {
    assert_false(atomic_load(&c->stop)); /* it never broke */
    atomic_store(&c->stop, true);
    assert_status(TPOOL_OK, tpool_destroy(c->pool));
}

static void a_task_of_any_priority_starts_beside_endless_work_of_any_other(void **state) {
    (void)state;
    static const int priorities[] = { -5, 0, 5 };
    static chain c;
    for (int workers = 1; workers <= 2; workers++) {
        for (int busy = 0; busy < 3; busy++) {
            for (int waiting = 0; waiting < 3; waiting++) {
                chain_start(&c, workers, priorities[busy], 0);
                for (int i = 0; i < 3; i++) {
                    assert_status(
                        TPOOL_OK,
                        end_of(submitted_task(c.pool, (tpool_task){ .fn = nothing, .priority = priorities[waiting] })));
                }
                chain_end(&c);
            }
        }
    }
}

static void a_task_starts_beside_endless_work_of_ever_new_priorities(void **state) {
    (void)state;
    static chain c;
    static const struct { int first, step; } busy[] = { { 1, 1 }, { -1, -1 }, { 1000000000, -1 } };
    static const int waiting[] = { INT_MIN, -5, 0, 5, INT_MAX };
    for (int i = 0; i < 3; i++) {
        chain_start(&c, 1, busy[i].first, busy[i].step);
        for (int j = 0; j < 5; j++) {
            assert_status(TPOOL_OK,
                          end_of(submitted_task(c.pool, (tpool_task){ .fn = nothing, .priority = waiting[j] })));
        }
        chain_end(&c);
    }
}

static void many_tasks_of_distinct_priorities_all_start_beside_endless_urgent_work(void **state) {
    (void)state;
    static chain c;
    tpool_future *futures[100];
    chain_start(&c, 1, INT_MAX, 0);
    for (int i = 0; i < 100; i++) {
        futures[i] = submitted_task(c.pool, (tpool_task){ .fn = nothing, .priority = i == 50 ? INT_MIN : i - 50 });
    }
    for (int i = 0; i < 100; i++) assert_status(TPOOL_OK, end_of(futures[i]));
    chain_end(&c);
}

static void urgent_tasks_are_not_held_up_by_a_backlog(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    atomic_store(&order.count, 0);
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
    AWAIT_ARRIVALS(&hold, 1);
    for (int i = 0; i < 1000; i++) assert_status(TPOOL_OK, tpool_submit(pool, record, number(0), NULL));
    tpool_task urgent = { .fn = record, .arg = number(1), .priority = 1 };
    assert_status(TPOOL_OK, tpool_submit_task(pool, &urgent, NULL));
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(1, order.values[0]);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

typedef struct ordered_spawn {
    tpool *pool;
    gate *before, *after;
    int first, count;
    atomic_int refused;
} ordered_spawn;
static void *spawn_in_order(void *arg) {
    ordered_spawn *s = arg;
    if (s->before) gate_pass(s->before);
    for (int i = 0; i < s->count; i++) {
        if (tpool_submit(s->pool, record, number(s->first + i), NULL) != TPOOL_OK) atomic_fetch_add(&s->refused, 1);
    }
    if (s->after) gate_pass(s->after);
    return NULL;
}

static void one_worker_starts_tasks_in_the_order_submitted_whoever_submits(void **state) {
    (void)state;
    static gate before = GATE_CLOSED, after = GATE_CLOSED;
    static ordered_spawn first, late;
    atomic_store(&order.count, 0);
    tpool *pool = new_pool(1);
    first = (ordered_spawn){ .pool = pool, .before = &before, .after = &after, .first = 100, .count = 100 };
    late = (ordered_spawn){ .pool = pool, .first = 300, .count = 100 };
    assert_status(TPOOL_OK, tpool_submit(pool, spawn_in_order, &first, NULL));
    AWAIT_ARRIVALS(&before, 1);
    /* 0 to 99 from here, 100 to 199 from the running task, then 200 to 299 from here, and 300 to 399 from a task that
       comes before these. */
    for (int i = 0; i < 100; i++) assert_status(TPOOL_OK, tpool_submit(pool, record, number(i), NULL));
    gate_open(&before);
    AWAIT_ARRIVALS(&after, 1);
    assert_status(TPOOL_OK, tpool_submit(pool, spawn_in_order, &late, NULL));
    for (int i = 200; i < 300; i++) assert_status(TPOOL_OK, tpool_submit(pool, record, number(i), NULL));
    gate_open(&after);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(0, atomic_load(&first.refused) + atomic_load(&late.refused));
    assert_int_equal(400, atomic_load(&order.count));
    for (int i = 0; i < 400; i++) assert_int_equal(i, order.values[i]);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *record_and_follow(void *arg) {
    record(arg);
    void *follower = number(1000 + (int)(intptr_t)arg);
    if (tpool_submit(tpool_current(), record, follower, NULL) != TPOOL_OK) record(number(-1));
    return NULL;
}

static void one_worker_mixes_tasks_with_and_without_futures_in_order(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    atomic_store(&order.count, 0);
    tpool *pool = new_pool(1);
    tpool_future *futures[1000] = { NULL };
    assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
    AWAIT_ARRIVALS(&hold, 1);
    for (int i = 0; i < 1000; i++) {
        tpool_task task = { .fn = record_and_follow, .arg = number(i), .expires_ns = i % 7 ? 0 : LIMIT };
        if (i % 3 == 0) futures[i] = submitted_task(pool, task);
        else assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    }
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(2000, atomic_load(&order.count));
    for (int i = 0; i < 2000; i++) assert_int_equal(i, order.values[i]);
    for (int i = 0; i < 1000; i++) tpool_future_release(futures[i]);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* Whichever thread is the one worker at the moment: replaced after so many tasks, or after idling. */
static void the_order_survives_the_replacement_of_the_worker(void **state) {
    (void)state;
    static const unsigned most_tasks[] = { 1, 3, 0 };
    for (int i = 0; i < 3; i++) {
        atomic_store(&order.count, 0);
        tpool *pool;
        assert_status(TPOOL_OK, tpool_create(&pool, &(tpool_config){ .max_workers = 1,
                                                                     .idle_timeout_ns = 1,
                                                                     .max_tasks_per_worker = most_tasks[i] }));
        assert_status(TPOOL_OK, tpool_pause(pool));
        for (int j = 0; j < 100; j++) assert_status(TPOOL_OK, tpool_submit(pool, record, number(j), NULL));
        assert_status(TPOOL_OK, tpool_resume(pool));
        for (int j = 100; j < 200; j++) assert_status(TPOOL_OK, tpool_submit(pool, record, number(j), NULL));
        assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
        assert_int_equal(200, atomic_load(&order.count));
        for (int j = 0; j < 200; j++) assert_int_equal(j, order.values[j]);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

static void *record_and_end_thread(void *arg) {
    record(arg);
    pthread_exit(NULL);
}

static void the_order_survives_tasks_that_end_their_thread(void **state) {
    (void)state;
    atomic_store(&order.count, 0);
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, tpool_pause(pool));
    for (int i = 0; i < 100; i++) {
        tpool_fn fn = i % 10 == 4 ? record_and_end_thread : record;
        assert_status(TPOOL_OK, tpool_submit(pool, fn, number(i), NULL));
    }
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(100, atomic_load(&order.count));
    for (int i = 0; i < 100; i++) assert_int_equal(i, order.values[i]);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* The first task waits for a future that a later one completes, so that a spare runs those in between; when the first
   has returned the later one ends, and the rest is for one worker again. */
static struct {
    tpool_future *wanted;
    tpool_status waited;
    atomic_bool returned;
} interlude;
static void *await_interlude(void *arg) {
    record(arg);
    interlude.waited = tpool_future_result(interlude.wanted, LIMIT, NULL);
    atomic_store(&interlude.returned, true);
    return NULL;
}
static void *end_interlude(void *arg) {
    record(arg);
    (void)tpool_future_set_result(interlude.wanted, NULL);
    while (!atomic_load(&interlude.returned)) sleep_ms(1);
    return NULL;
}

static void the_order_survives_a_spare_worker(void **state) {
    (void)state;
    for (int round = 0; round < COUNT(20) + 1; round++) {
        atomic_store(&order.count, 0);
        atomic_store(&interlude.returned, false);
        assert_status(TPOOL_OK, tpool_future_create(&interlude.wanted));
        tpool *pool = new_pool(1);
        assert_status(TPOOL_OK, tpool_pause(pool));
        for (int i = 0; i < 200; i++) {
            tpool_fn fn = i == 3 ? await_interlude : i == 10 + round ? end_interlude : record;
            assert_status(TPOOL_OK, tpool_submit(pool, fn, number(i), NULL));
        }
        assert_status(TPOOL_OK, tpool_resume(pool));
        assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
        assert_status(TPOOL_OK, interlude.waited);
        assert_int_equal(200, atomic_load(&order.count));
        for (int i = 0; i < 200; i++) assert_int_equal(i, order.values[i]);
        tpool_future_release(interlude.wanted);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

/* --- nothing waits behind a task that another worker has merely fetched */

static void short_tasks_finish_while_a_long_one_holds_a_gate(void **state) {
    (void)state;
    for (int round = 0; round < COUNT(40); round++) {
        static gate hold = GATE_CLOSED;
        static atomic_int runs;
        tpool_future *futures[100] = { NULL };
        gate_close(&hold);
        atomic_store(&runs, 0);
        tpool *pool = new_pool(2);
        assert_status(TPOOL_OK, tpool_pause(pool));
        for (int i = 0; i < 100; i++) {
            if (i == round % 50) assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
            if (round % 2) futures[i] = submitted(pool, count_up, &runs);
            else assert_status(TPOOL_OK, tpool_submit(pool, count_up, &runs, NULL));
        }
        assert_status(TPOOL_OK, tpool_resume(pool));
        EVENTUALLY(atomic_load(&runs) == 100);
        AWAIT_ARRIVALS(&hold, 1);
        gate_open(&hold);
        for (int i = 0; i < 100; i++) tpool_future_release(futures[i]);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

typedef struct spread {
    tpool *pool;
    gate *hold;
    atomic_int runs, refused;
    bool itself_long, with_futures;
} spread;
static void *spread_from_worker(void *arg) {
    spread *s = arg;
    for (int i = 0; i < 100; i++) {
        if (i == 10 && !s->itself_long && tpool_submit(s->pool, gate_task, s->hold, NULL) != TPOOL_OK) {
            atomic_fetch_add(&s->refused, 1);
        }
        tpool_future *future = NULL;
        if (tpool_submit(s->pool, count_up, &s->runs, s->with_futures ? &future : NULL) != TPOOL_OK) {
            atomic_fetch_add(&s->refused, 1);
        }
        tpool_future_release(future);
    }
    if (s->itself_long) gate_pass(s->hold);
    return NULL;
}

static void short_tasks_that_a_worker_submitted_finish_while_a_long_one_holds_a_gate(void **state) {
    (void)state;
    for (int round = 0; round < COUNT(40); round++) {
        static gate hold = GATE_CLOSED;
        static spread s;
        gate_close(&hold);
        atomic_store(&s.runs, 0);
        s.hold = &hold;
        s.itself_long = round % 2;
        s.with_futures = round % 4 < 2;
        s.pool = new_pool(2);
        assert_status(TPOOL_OK, tpool_submit(s.pool, spread_from_worker, &s, NULL));
        EVENTUALLY(atomic_load(&s.runs) == 100);
        AWAIT_ARRIVALS(&hold, 1);
        gate_open(&hold);
        assert_status(TPOOL_OK, tpool_destroy(s.pool));
        assert_int_equal(0, atomic_load(&s.refused));
    }
}

static const struct CMUnitTest tests[] = {
    TEST(higher_priorities_start_first_and_equal_ones_in_order),
    TEST(a_task_of_any_priority_starts_beside_endless_work_of_any_other),
    TEST(a_task_starts_beside_endless_work_of_ever_new_priorities),
    TEST(many_tasks_of_distinct_priorities_all_start_beside_endless_urgent_work),
    TEST(urgent_tasks_are_not_held_up_by_a_backlog),
    TEST(one_worker_starts_tasks_in_the_order_submitted_whoever_submits),
    TEST(one_worker_mixes_tasks_with_and_without_futures_in_order),
    TEST(the_order_survives_the_replacement_of_the_worker),
    TEST(the_order_survives_tasks_that_end_their_thread),
    TEST(the_order_survives_a_spare_worker),
    TEST(short_tasks_finish_while_a_long_one_holds_a_gate),
    TEST(short_tasks_that_a_worker_submitted_finish_while_a_long_one_holds_a_gate),
};
RUN_TESTS(tests)
