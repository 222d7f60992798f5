/* Held tasks: time. A task with delay_ns starts so long after its submit, or its dependencies, and never earlier. */
#include "support.h"
#include "support/held.h"

static void *note_time(void *arg) {
    *(int64_t *)arg = tpool_now();
    return arg;
}

static void it_starts_after_its_delay(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    int64_t started = 0, before = tpool_now();
    tpool_future *held =
        submitted_task(pool, (tpool_task){ .fn = note_time, .arg = &started, .delay_ns = TPOOL_MS(20) });
    assert_int_equal(1, stats_of(pool).held);
    assert_int_equal(TPOOL_PENDING, tpool_future_state(held));
    assert_status(TPOOL_OK, end_of(held));
    assert_true(started - before >= TPOOL_MS(20));
    assert_int_equal(0, stats_of(pool).held);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* Negative and 0: no delay. */
static void no_delay(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    tpool_future *task = submitted_task(h.pool, (tpool_task){ .fn = nothing, .delay_ns = -1 });
    assert_int_equal(0, stats_of(h.pool).held);
    assert_int_equal(1, stats_of(h.pool).queued);
    gate_open(&h.gate);
    assert_status(TPOOL_OK, end_of(task));
    held_destroy(&h);
}
static void the_delay_comes_after_the_dependencies(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    int64_t started = 0;
    tpool_future *first = bare();
    tpool_future *held = submitted_task(
        pool,
        (tpool_task){ .fn = note_time, .arg = &started, .after = &first, .after_count = 1, .delay_ns = TPOOL_MS(20) });
    sleep_ms(30);
    int64_t before = tpool_now();
    assert_status(TPOOL_OK, tpool_future_set_result(first, NULL));
    assert_int_equal(1, stats_of(pool).held);
    assert_status(TPOOL_OK, end_of(held));
    assert_true(started - before >= TPOOL_MS(20));
    tpool_future_release(first);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* A failed dependency ends it without a delay; its arg_free comes at once. */
static void a_failure_waits_for_no_time(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *first = bare();
    atomic_int freed = 0;
    tpool_future *held = submitted_task(pool, (tpool_task){ .fn = nothing,
                                                            .arg = &freed,
                                                            .arg_free = count_free,
                                                            .after = &first,
                                                            .after_count = 1,
                                                            .delay_ns = TPOOL_FOREVER });
    assert_status(TPOOL_OK, tpool_future_set_error(first, 1, "no"));
    assert_int_equal(1, atomic_load(&freed));
    assert_status(TPOOL_CANCELLED, end_of(held));
    tpool_future_release(first);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Never early */
typedef struct timed {
    int64_t due;
    atomic_int *early;
} timed;
static void *look_at_clock(void *arg) {
    const timed *t = (const timed *)arg;
    if (tpool_now() < t->due) atomic_fetch_add(t->early, 1);
    return NULL;
}
static void never_early(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    atomic_int early = 0;
    long n = COUNT(100000);
    unsigned seed = 1;
    for (long i = 0; i < n; i++) {
        seed = seed * 1103515245u + 12345u;
        int64_t delay = 1 + (int64_t)(seed >> 8) % TPOOL_MS(300);
        timed t = { tpool_now() + delay, &early };
        tpool_task task = { .fn = look_at_clock, .arg = &t, .arg_size = sizeof t, .delay_ns = delay };
        assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    }
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT)); /* which waits for times */
    assert_int_equal(n, stats_of(pool).completed);
    assert_int_equal(0, atomic_load(&early));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* An earlier time comes while all sleep on a later one. */
static void an_earlier_time_comes_first(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *late = submitted_task(pool, (tpool_task){ .fn = nothing, .delay_ns = TPOOL_FOREVER });
    sleep_ms(10);
    tpool_future *early = submitted_task(pool, (tpool_task){ .fn = nothing, .delay_ns = TPOOL_MS(5) });
    assert_status(TPOOL_OK, end_of(early));
    assert_false(tpool_future_done(late));
    assert_true(tpool_future_cancel(late));
    tpool_future_release(late);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_worker_stays_for_a_time(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .idle_timeout_ns = 1 });
    tpool_future *late = submitted_task(pool, (tpool_task){ .fn = nothing, .delay_ns = TPOOL_FOREVER });
    tpool_future *early = submitted_task(pool, (tpool_task){ .fn = nothing, .delay_ns = TPOOL_MS(10) });
    assert_status(TPOOL_OK, end_of(early));
    sleep_ms(10);
    assert_int_equal(1, stats_of(pool).workers);
    assert_true(tpool_future_cancel(late));
    tpool_future_release(late);
    EVENTUALLY(stats_of(pool).workers == 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* Times are kept while every worker blocks in the program's own calls: a timer's future ends by itself. */
static void times_are_kept_while_all_workers_block(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    tpool_future *timer = submitted_task(h.pool, (tpool_task){ .delay_ns = TPOOL_MS(5) });
    void *value = &h;
    assert_status(TPOOL_OK, tpool_future_result(timer, LIMIT, &value));
    assert_null(value);
    tpool_future_release(timer);
    held_destroy(&h);
}
static void a_pause_lets_time_pass(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, tpool_pause(pool));
    tpool_future *held = submitted_task(pool, (tpool_task){ .fn = nothing, .delay_ns = TPOOL_MS(1) });
    tpool_future *timer = submitted_task(pool, (tpool_task){ .delay_ns = TPOOL_MS(1) });
    EVENTUALLY(stats_of(pool).queued == 1);
    assert_status(TPOOL_OK, end_of(timer)); /* nothing runs, so a pause does not hold it */
    assert_false(tpool_future_done(held));
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_status(TPOOL_OK, end_of(held));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Cancel */
static void a_delayed_task_is_cancelled(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    atomic_int freed = 0;
    tpool_task task = { .fn = nothing, .arg = &freed, .arg_free = count_free, .delay_ns = TPOOL_FOREVER };
    tpool_future *held = submitted_task(pool, task);
    assert_true(tpool_future_cancel(held));
    assert_int_equal(1, atomic_load(&freed));
    assert_status(TPOOL_CANCELLED, end_of(held));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void cancel_against_firing(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    atomic_int freed = 0;
    int ran = 0, cancelled = 0;
    long n = COUNT(20000);
    for (long i = 0; i < n; i++) {
        tpool_task task = { .fn = nothing, .arg = &freed, .arg_free = count_free, .delay_ns = 1 + i % 100 * 1000 };
        tpool_future *held = submitted_task(pool, task);
        int64_t until = tpool_now() + i % 7 * 20000;
        while (tpool_now() < until) { }
        bool did = tpool_future_cancel(held);
        assert_status(did ? TPOOL_CANCELLED : TPOOL_OK, end_of(held));
        *(did ? &cancelled : &ran) += 1;
    }
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(n, atomic_load(&freed));
    assert_int_equal(ran, stats_of(pool).completed);
    assert_int_equal(cancelled, stats_of(pool).cancelled);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static tpool_future *armed[1000000];
static void a_million_armed_and_cancelled(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    long n = COUNT(1000000);
    long before = resident_kib();
    for (int round = 0; round < 2; round++) {
        for (long i = 0; i < n; i++)
            armed[i] = submitted_task(pool, (tpool_task){ .fn = nothing, .delay_ns = TPOOL_SEC(1000) + i });
        assert_int_equal(n, stats_of(pool).held);
        for (long i = 0; i < n; i++) {
            assert_true(tpool_future_cancel(armed[i]));
            tpool_future_release(armed[i]);
        }
        assert_int_equal(0, stats_of(pool).held);
    }
    if (!SLOW_TOOL) EVENTUALLY(resident_kib() < before + (32 << 10)); /* a worker that idles gives memory back */
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Expiry counts from the end of what holds it */
static void expiry_begins_when_it_is_ready(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    tpool_future *first = bare();
    atomic_int freed = 0;
    tpool_task task = { .fn = nothing,
                        .arg = &freed,
                        .arg_free = count_free,
                        .after = &first,
                        .after_count = 1,
                        .expires_ns = TPOOL_MS(20) };
    tpool_future *held = submitted_task(h.pool, task);
    sleep_ms(40);
    assert_false(tpool_future_done(held)); /* it waits for more than that */
    int64_t before = tpool_now();
    assert_status(TPOOL_OK, tpool_future_set_result(first, NULL));
    assert_status(TPOOL_EXPIRED, tpool_future_result(held, TPOOL_FOREVER, NULL)); /* the worker is held */
    assert_true(tpool_now() - before >= TPOOL_MS(20));
    assert_int_equal(1, atomic_load(&freed));
    tpool_future_release(held);
    held = submitted_task(h.pool, task); /* its dependency is done */
    assert_status(TPOOL_EXPIRED, end_of(held));
    task.expires_ns = TPOOL_SEC(1000);
    held = submitted_task(h.pool, task);
    gate_open(&h.gate);
    assert_status(TPOOL_OK, end_of(held)); /* and its timer is gone: see the end of the pool */
    tpool_future_release(first);
    assert_status(TPOOL_OK, tpool_drain(h.pool, LIMIT));
    assert_int_equal(2, stats_of(h.pool).expired);
    held_destroy(&h);
}
static void expiry_after_a_delay(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    int64_t before = tpool_now();
    tpool_future *held =
        submitted_task(h.pool, (tpool_task){ .fn = nothing, .delay_ns = TPOOL_MS(10), .expires_ns = TPOOL_MS(10) });
    tpool_completions *completions = NULL;
    assert_status(TPOOL_OK, tpool_as_completed(&held, 1, &completions));
    tpool_future *yielded = NULL;
    assert_status(TPOOL_OK, tpool_completions_next(completions, LIMIT, &yielded));
    assert_status(TPOOL_EXPIRED, tpool_future_result(yielded, 0, NULL));
    assert_true(tpool_now() - before >= TPOOL_MS(20));
    tpool_completions_destroy(completions);
    tpool_future_release(held);
    held_destroy(&h);
}
static void expiry_against_start(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    atomic_int freed = 0;
    long n = COUNT(20000);
    for (long i = 0; i < n; i++) {
        tpool_task task = { .fn = nothing,
                            .arg = &freed,
                            .arg_free = count_free,
                            .delay_ns = 1 + i % 50 * 1000,
                            .expires_ns = 1 + i % 11 * 10000 };
        assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    }
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    tpool_stats stats = stats_of(pool);
    assert_int_equal(n, stats.completed + stats.expired);
    assert_int_equal(n, atomic_load(&freed));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- The end of the pool */
static void destroy_cancels_what_waits_for_its_time(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    gate g = GATE_CLOSED;
    tpool_future *holder = held_at(pool, &g);
    tpool_future *timed = submitted_task(pool, (tpool_task){ .fn = nothing, .delay_ns = TPOOL_FOREVER });
    tpool_future *later = submitted_task(
        pool, (tpool_task){ .fn = nothing, .after = &holder, .after_count = 1, .delay_ns = TPOOL_FOREVER });
    tpool_future *follows = submitted_task(pool, (tpool_task){ .fn = nothing, .after = &holder, .after_count = 1 });
    background b;
    background_start(&b, (tpool_status(*)(void *))tpool_destroy, pool);
    assert_status(TPOOL_CANCELLED, tpool_future_result(timed, LIMIT, NULL));
    assert_false(tpool_future_done(later));
    gate_open(&g);
    assert_status(TPOOL_OK, background_join(&b));
    assert_status(TPOOL_CANCELLED, end_of(later));
    assert_status(TPOOL_OK, end_of(follows));
    assert_status(TPOOL_CANCELLED, end_of(timed));
    tpool_future_release(holder);
}
static void shutdown_cancels_what_waits_for_its_time(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *first = bare();
    tpool_future *timed = submitted_task(pool, (tpool_task){ .fn = nothing, .delay_ns = TPOOL_FOREVER });
    tpool_future *later =
        submitted_task(pool, (tpool_task){ .fn = nothing, .after = &first, .after_count = 1, .delay_ns = 1 });
    tpool_future *follows = submitted_task(pool, (tpool_task){ .fn = nothing, .after = &first, .after_count = 1 });
    assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
    assert_true(tpool_future_cancelled(timed));
    assert_status(TPOOL_SHUTDOWN, tpool_submit_task(pool, &(tpool_task){ .fn = nothing, .delay_ns = 1 }, NULL));
    assert_false(tpool_future_done(later));
    assert_status(TPOOL_OK, tpool_future_set_result(first, NULL));
    assert_true(tpool_future_cancelled(later));
    assert_status(TPOOL_OK, end_of(follows));
    assert_status(TPOOL_CANCELLED, end_of(timed));
    assert_status(TPOOL_CANCELLED, end_of(later));
    tpool_future_release(first);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* The wheel brings them on over levels of it, and many in one tick. Some come into the worker's own queue, before those
   that others have queued for it: while the thread that keeps the times starts, the worker looks at them too. */
typedef struct in_order {
    int ran, last, wrong; /* of the only worker */
} in_order;
static in_order order;
static void *in_turn(void *arg) {
    order.wrong += (int)(intptr_t)arg < order.last;
    order.last = (int)(intptr_t)arg;
    order.ran++;
    return NULL;
}
static void times_fire_in_their_order(void **state) {
    (void)state;
    static const int64_t delays[] = { TPOOL_US(500), TPOOL_MS(10), TPOOL_MS(200) };
    tpool *pool = new_pool(1);
    for (int i = 0; i < 3; i++) {
        order = (in_order){ 0 };
        for (intptr_t n = 0; n < 1000; n++)
            assert_status(
                TPOOL_OK,
                tpool_submit_task(pool, &(tpool_task){ .fn = in_turn, .arg = (void *)n, .delay_ns = delays[i] }, NULL));
        assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
        assert_int_equal(1000, order.ran);
        assert_in_range(order.wrong, 0, 250);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(it_starts_after_its_delay),
        TEST(no_delay),
        TEST(the_delay_comes_after_the_dependencies),
        TEST(a_failure_waits_for_no_time),
        TEST(never_early),
        TEST(an_earlier_time_comes_first),
        TEST(a_worker_stays_for_a_time),
        TEST(times_are_kept_while_all_workers_block),
        TEST(a_pause_lets_time_pass),
        TEST(a_delayed_task_is_cancelled),
        TEST(cancel_against_firing),
        TEST(a_million_armed_and_cancelled),
        TEST(expiry_begins_when_it_is_ready),
        TEST(expiry_after_a_delay),
        TEST(expiry_against_start),
        TEST(destroy_cancels_what_waits_for_its_time),
        TEST(shutdown_cancels_what_waits_for_its_time),
        TEST(times_fire_in_their_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
