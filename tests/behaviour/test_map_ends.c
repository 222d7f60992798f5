/* Maps that end before their items: closed half-way, their pool shut down or destroyed. */
#include "maps.h"

/* ---- Closing half-way. */

static tpool_status call_close(void *iter) {
    tpool_map_close(iter);
    return TPOOL_OK;
}
static void close_cancels_what_has_not_started_and_waits_for_what_runs(void **state) {
    (void)state;
    gate held = GATE_CLOSED;
    background closing;
    tpool *pool = new_pool(1);
    source s = { .most = -1, .consumer = pthread_self(), .hold = &held, .hold_from = 1 };
    tpool_map_spec spec = source_spec(&s, 1, 20);
    tpool_map_iter *iter = start(pool, &spec);
    check_source_item(iter, 0);
    EVENTUALLY(gate_arrived(&held) == 1); /* item 1 runs, the others are queued behind it */
    background_start(&closing, call_close, iter);
    background_await_block(&closing);
    assert_int_equal(2, atomic_load(&s.ran));
    gate_open(&held);
    background_join(&closing);
    assert_int_equal(2, atomic_load(&s.ran));
    assert_int_equal(21, s.taken);
    assert_int_equal(s.taken, atomic_load(&s.freed)); /* run or not */
    assert_int_equal(0, atomic_load(&s.freed_twice));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* Each item ends only once all of them know that they shall stop, so a close may not wait for one before it asks the
   next; the odd ones ask in a forked job. */
typedef struct stoppers {
    atomic_int run, stopped;
} stoppers;
static void *stopped_in_job(void *arg) {
    stoppers *s = arg;
    int64_t end = tpool_now() + LIMIT;
    while (!tpool_stop_requested() && tpool_now() < end) sleep_ms(1);
    if (tpool_stop_requested()) atomic_fetch_add(&s->stopped, 1);
    return NULL;
}
static void *item_until_all_stop(void *item, void *context) {
    stoppers *s = context;
    int64_t end = tpool_now() + LIMIT;
    atomic_fetch_add(&s->run, 1);
    if (*(int *)item % 2) {
        tpool_job job;
        tpool_fork(&job, stopped_in_job, s);
        tpool_join(&job);
    } else {
        stopped_in_job(s);
    }
    while (atomic_load(&s->stopped) < 3 && tpool_now() < end) sleep_ms(1);
    return NULL;
}
static void close_asks_all_that_runs_to_stop(void **state) {
    (void)state;
    int numbers[40];
    for (int i = 0; i < 40; i++) numbers[i] = i;
    stoppers s = { 0, 0 };
    tpool *pool = new_pool(3);
    tpool_map_spec spec = {
        .fn = item_until_all_stop, .context = &s, .items = numbers, .count = 40, .stride = sizeof(int), .chunk_size = 1
    };
    tpool_map_iter *iter = start(pool, &spec);
    gate passage = GATE_CLOSED;
    EVENTUALLY(atomic_load(&s.run) == 3);
    assert_int_equal(0, atomic_load(&s.stopped));
    int64_t before = tpool_now();
    tpool_map_close(iter);
    assert_true(tpool_now() - before < LIMIT);
    assert_int_equal(3, atomic_load(&s.stopped));
    assert_int_equal(3, atomic_load(&s.run));
    tpool_future *next = held_at(pool, &passage); /* the next task on these workers is not asked */
    assert_false(tpool_future_stop_requested(next));
    gate_open(&passage);
    assert_status(TPOOL_OK, end_of(next));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- run_limit_ns. */

static void a_map_may_be_closed_at_any_point(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    for (int round = 0; round < COUNT(500); round++) {
        source s = { .most = round % 3 == 0 ? 12 : -1, .consumer = pthread_self() };
        tpool_map_spec spec = source_spec(&s, chunk_sizes[(size_t)round % CHUNK_SIZES], (size_t)(round % 17) + 1);
        tpool_map_iter *iter = start(pool, &spec);
        for (int i = 0; i < round % 11; i++) check_source_item(iter, i);
        tpool_map_close(iter);
        assert_int_equal(s.taken, atomic_load(&s.freed));
        assert_int_equal(0, atomic_load(&s.freed_twice));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Pools that end meanwhile. */

static void items_that_a_shutdown_cancels_are_cancelled_one_by_one(void **state) {
    (void)state;
    enum { count = 10 };
    gate gates[count];
    tpool *pool = new_pool(1);
    for (int i = 0; i < count; i++) {
        gate closed = GATE_CLOSED;
        gates[i] = closed;
    }
    gate_open(&gates[0]);
    tpool_map_spec spec = {
        .fn = pass_own_gate, .items = gates, .count = count, .stride = sizeof gates[0], .chunk_size = 1
    };
    tpool_map_iter *iter = start(pool, &spec);
    assert_ptr_equal(&gates[0], next(iter));
    EVENTUALLY(gate_arrived(&gates[1]) == 1);
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_CANCEL_PENDING));
    gate_open(&gates[1]);
    assert_ptr_equal(&gates[1], next(iter)); /* it was running */
    for (int i = 2; i < count; i++) {
        const tpool_error *error = NULL;
        check_none(iter, LIMIT, TPOOL_CANCELLED);
        tpool_map_error(iter, &error);
        assert_non_null(error);
        assert_status(TPOOL_CANCELLED, error->status);
        assert_status(error->status, error->cause);
        assert_int_equal(0, gate_arrived(&gates[i]));
    }
    check_none(iter, TPOOL_FOREVER, TPOOL_END);
    tpool_map_close(iter);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_source_whose_pool_is_shut_down_still_ends(void **state) {
    (void)state;
    gate held = GATE_CLOSED;
    tpool *pool = new_pool(1);
    source s = { .most = 40, .consumer = pthread_self(), .hold = &held, .hold_from = 1 };
    tpool_map_spec spec = source_spec(&s, 1, 5);
    tpool_map_iter *iter = start(pool, &spec);
    check_source_item(iter, 0);
    EVENTUALLY(gate_arrived(&held) == 1);
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_CANCEL_PENDING));
    gate_open(&held);
    check_source_item(iter, 1);
    int delivered = 2;
    tpool_status got;
    void *result = NULL;
    while ((got = tpool_map_next(iter, LIMIT, &result)) == TPOOL_CANCELLED) delivered++;
    assert_status(TPOOL_END, got); /* whether it asks for the rest to no avail or not at all */
    assert_int_equal(s.taken, delivered);
    tpool_map_close(iter);
    assert_int_equal(2, atomic_load(&s.ran));
    assert_int_equal(s.taken, atomic_load(&s.freed));
    assert_int_equal(0, atomic_load(&s.freed_twice));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_map_on_a_pool_that_takes_no_work_is_refused(void **state) {
    (void)state;
    int offset = 0;
    tpool *pool = new_pool(1);
    cell *cells = make_cells(5);
    source s = { .most = 40, .consumer = pthread_self() };
    tpool_map_spec array = { .fn = run_cell, .context = &offset, .items = cells, .count = 5, .stride = sizeof *cells };
    tpool_map_spec from_source = source_spec(&s, 1, 5);
    tpool_map_iter *iter = (tpool_map_iter *)(void *)&s;
    assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
    assert_status(TPOOL_SHUTDOWN, tpool_map(pool, &array, &iter));
    assert_null(iter);
    assert_status(TPOOL_SHUTDOWN, tpool_map(pool, &from_source, &iter));
    assert_null(iter);
    assert_int_equal(s.taken, atomic_load(&s.freed));
    assert_int_equal(0, atomic_load(&s.ran));
    free(cells);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *note_run(void *item, void *context) {
    atomic_fetch_add((atomic_int *)context, 1);
    return item;
}
/* ... and not as many as happen to be queued by a worker, and not by the consumer. */
static void after_a_shutdown_a_map_executes_all_items_or_those_in_its_buffer(void **state) {
    (void)state;
    enum { ITEMS = 60, ROUNDS = 60 };
    static int items[ITEMS];
    for (int round = 0; round < ROUNDS; round++) {
        atomic_int ran = 0;
        size_t buffer = (size_t)round % 3 * 4;
        tpool *pool = new_pool(2);
        tpool_map_spec spec = { .fn = note_run,
                                .context = &ran,
                                .items = items,
                                .count = ITEMS,
                                .stride = sizeof *items,
                                .chunk_size = 1,
                                .buffer_size = buffer,
                                .unordered = round % 2 != 0 };
        tpool_map_iter *iter = start(pool, &spec);
        assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, NULL));
        assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
        int wanted = buffer > 0 ? 1 + (int)buffer : ITEMS, done = 1, cancelled = 0;
        tpool_status status;
        while ((status = tpool_map_next(iter, LIMIT, NULL)) == TPOOL_OK || status == TPOOL_CANCELLED)
            status == TPOOL_OK ? done++ : cancelled++;
        assert_status(TPOOL_END, status);
        assert_int_equal(wanted, done);
        assert_int_equal(ITEMS - wanted, cancelled);
        assert_int_equal(wanted, atomic_load(&ran));
        tpool_map_close(iter);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}
static void after_a_shutdown_no_source_is_asked_for_more(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    source s = { .most = 40, .consumer = pthread_self() };
    tpool_map_spec spec = source_spec(&s, 1, 5);
    tpool_map_iter *iter = start(pool, &spec);
    assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
    int done = 1;
    tpool_status status; /* some of its items fail */
    while ((status = tpool_map_next(iter, LIMIT, NULL)) == TPOOL_OK || status == TPOOL_FAILED) done++;
    assert_status(TPOOL_END, status);
    tpool_map_close(iter);
    assert_int_equal(6, done);
    assert_int_equal(6, atomic_load(&s.ran));
    assert_int_equal(6, s.taken);
    assert_int_equal(s.taken, atomic_load(&s.freed));
    assert_int_equal(0, atomic_load(&s.freed_twice));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_map_outlives_its_pool(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    source s = { .most = 10, .consumer = pthread_self() };
    tpool_map_spec spec = source_spec(&s, 1, 10);
    tpool_map_iter *iter = start(pool, &spec);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    for (int i = 0; i < 10; i++) check_source_item(iter, i);
    check_none(iter, 0, TPOOL_END);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    check_none(iter, 0, TPOOL_END);
    tpool_map_close(iter);
    assert_int_equal(10, atomic_load(&s.freed));
}

static void *end_own_thread(void *item, void *context) {
    cell *c = item;
    if (c->value == *(const int *)context) pthread_exit(NULL);
    return item;
}

static void an_item_that_ends_its_thread_breaks_no_other(void **state) {
    (void)state;
    if (SLOW_TOOL) skip(); /* the sanitizers do not all follow a thread that ends in the middle of a task */
    enum { count = 20, ender = 10 };
    int number = ender;
    tpool *pool = new_pool(2);
    cell *cells = make_cells(count);
    for (size_t chunk = 1; chunk <= 3; chunk += 2) {
        tpool_map_spec spec = { .fn = end_own_thread,
                                .context = &number,
                                .items = cells,
                                .count = count,
                                .stride = sizeof *cells,
                                .chunk_size = chunk };
        tpool_map_iter *iter = start(pool, &spec);
        for (size_t i = 0; i < count; i++) {
            void *result = NULL;
            const tpool_error *error = NULL;
            tpool_status got = tpool_map_next(iter, LIMIT, &result);
            if (i == ender) {
                assert_status(TPOOL_BROKEN, got);
                assert_null(result);
                assert_status(TPOOL_OK, tpool_map_error(iter, &error));
                assert_non_null(error);
                assert_status(TPOOL_BROKEN, error->status);
                assert_status(error->status, error->cause);
            } else {
                assert_status(TPOOL_OK, got);
                assert_ptr_equal(&cells[i], result);
            }
        }
        check_none(iter, 0, TPOOL_END);
        tpool_map_close(iter);
    }
    free(cells);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static const struct CMUnitTest tests[] = {
    TEST(close_cancels_what_has_not_started_and_waits_for_what_runs),
    TEST(close_asks_all_that_runs_to_stop),
    TEST(a_map_may_be_closed_at_any_point),
    TEST(items_that_a_shutdown_cancels_are_cancelled_one_by_one),
    TEST(a_source_whose_pool_is_shut_down_still_ends),
    TEST(a_map_on_a_pool_that_takes_no_work_is_refused),
    TEST(after_a_shutdown_a_map_executes_all_items_or_those_in_its_buffer),
    TEST(after_a_shutdown_no_source_is_asked_for_more),
    TEST(a_map_outlives_its_pool),
    TEST(an_item_that_ends_its_thread_breaks_no_other),
};
RUN_TESTS(tests)
