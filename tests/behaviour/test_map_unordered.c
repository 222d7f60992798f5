/* tpool_map with unordered results: they come as their items end. */
#include "maps.h"

/* ---- Unordered. */

typedef struct nested_sum {
    tpool *pool;
    size_t chunk_size;
    int64_t limit;
    int sum;
} nested_sum;
typedef struct cyclic {
    tpool *pool;
    gate known; /* open once `consumer` is set */
    tpool_future *consumer;
    atomic_int begun; /* the item */
    int deadlocks, workers;
} cyclic;

static void unordered_results_come_as_their_items_end(void **state) {
    (void)state;
    enum { count = 4 };
    static const int order[count] = { 2, 0, 3, 1 };
    tpool *pool = new_pool(count);
    for (size_t buffer = 0; buffer <= count; buffer += count) {
        gate gates[count] = { GATE_CLOSED, GATE_CLOSED, GATE_CLOSED, GATE_CLOSED };
        tpool_map_spec spec = { .fn = pass_own_gate,
                                .items = gates,
                                .count = count,
                                .stride = sizeof gates[0],
                                .chunk_size = 1,
                                .buffer_size = buffer,
                                .unordered = true };
        tpool_map_iter *iter = start(pool, &spec);
        for (int i = 0; i < count; i++) EVENTUALLY(gate_arrived(&gates[i]) == 1);
        check_none(iter, 0, TPOOL_TIMEOUT);
        assert_null(tpool_map_item(iter));
        for (int i = 0; i < count; i++) {
            gate_open(&gates[order[i]]);
            assert_ptr_equal(&gates[order[i]], next(iter));
            assert_ptr_equal(&gates[order[i]], tpool_map_item(iter));
            assert_int_equal(order[i], tpool_map_index(iter));
        }
        for (int i = 0; i < 2; i++) check_none(iter, TPOOL_FOREVER, TPOOL_END);
        tpool_map_close(iter);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* One item stands still; all others come, whatever lies between, and the source is asked on. */
static void an_unordered_map_goes_on_past_an_item_that_stands_still(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    for (size_t c = 0; c < CHUNK_SIZES - 1; c++) {
        gate held = GATE_CLOSED;
        source s = { .most = COUNT(400), .consumer = pthread_self(), .hold = &held, .hold_only = true, .hold_from = 3 };
        tpool_map_spec spec = source_spec(&s, chunk_sizes[c], 12);
        spec.unordered = true;
        tpool_map_iter *iter = start(pool, &spec);
        bool *came = calloc((size_t)s.most, sizeof *came);
        assert_non_null(came);
        int delivered = 0;
        for (; delivered < s.most; delivered++) {
            if (delivered == s.most - 4) gate_open(&held); /* at most four are in its chunk */
            void *result = NULL;
            tpool_status status = tpool_map_next(iter, LIMIT, &result);
            const source_item *item = tpool_map_item(iter);
            assert_non_null(item);
            assert_status(item->number % EVERY == 3 ? TPOOL_FAILED : TPOOL_OK, status);
            if (status == TPOOL_OK) assert_int_equal(item->number, (intptr_t)result);
            assert_int_equal(item->number, tpool_map_index(iter));
            assert_false(came[item->number]);
            came[item->number] = true;
            assert_int_equal(delivered, atomic_load(&s.freed));
            assert_true(s.taken - (delivered + 1) <= 12);
        }
        check_none(iter, TPOOL_FOREVER, TPOOL_END);
        tpool_map_close(iter);
        free(came);
        assert_int_equal(s.most, atomic_load(&s.freed));
        assert_int_equal(0, atomic_load(&s.freed_twice));
        assert_false(s.strange_thread);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void an_unordered_map_may_be_closed_at_any_point(void **state) {
    (void)state;
    tpool *pool = new_pool(3);
    for (int round = 0; round < COUNT(500); round++) {
        source s = { .most = round % 3 == 0 ? 12 : -1, .consumer = pthread_self() };
        tpool_map_spec spec = source_spec(&s, chunk_sizes[(size_t)round % CHUNK_SIZES], (size_t)(round % 17) + 1);
        spec.unordered = true;
        tpool_map_iter *iter = start(pool, &spec);
        for (int i = 0; i < round % 11; i++) {
            void *result;
            tpool_status status = tpool_map_next(iter, LIMIT, &result);
            assert_true(status == TPOOL_OK || status == TPOOL_FAILED);
        }
        tpool_map_close(iter);
        assert_int_equal(s.taken, atomic_load(&s.freed));
        assert_int_equal(0, atomic_load(&s.freed_twice));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* In a pool of one worker the consumer's own task runs the items, or a spare worker does. */
static void *consume_unordered(void *arg) {
    nested_sum *n = arg;
    int numbers[50];
    for (int i = 0; i < 50; i++) numbers[i] = i;
    tpool_map_spec spec = { .fn = same_item,
                            .items = numbers,
                            .count = 50,
                            .stride = sizeof(int),
                            .chunk_size = n->chunk_size,
                            .unordered = true };
    tpool_map_iter *iter = NULL;
    void *result = NULL;
    if (tpool_map(n->pool, &spec, &iter) != TPOOL_OK) return NULL;
    while (tpool_map_next(iter, n->limit, &result) == TPOOL_OK) n->sum += *(int *)result;
    tpool_map_close(iter);
    return n;
}
static void a_task_maps_unordered_in_its_own_pool_of_one(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    for (size_t c = 0; c < CHUNK_SIZES; c++) {
        for (int timed = 0; timed <= 1; timed++) {
            nested_sum n = { pool, chunk_sizes[c], timed == 1 ? LIMIT : TPOOL_FOREVER, 0 };
            take(submitted(pool, consume_unordered, &n));
            assert_int_equal(49 * 50 / 2, n.sum);
        }
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* The last item waits for the task that consumes: that wait, or the consumer's, would close a cycle. */
static void *wait_for_consumer(void *item, void *context) {
    cyclic *c = context;
    (void)item;
    atomic_store(&c->begun, 1);
    tpool_status status = tpool_future_result(c->consumer, TPOOL_FOREVER, NULL);
    return (void *)(intptr_t)status;
}
static void *consume_what_waits(void *arg) {
    cyclic *c = arg;
    int number = 0;
    gate_pass(&c->known);
    tpool_map_spec spec = {
        .fn = wait_for_consumer, .context = c, .items = &number, .count = 1, .stride = sizeof number, .unordered = true
    };
    tpool_map_iter *iter = NULL;
    if (tpool_map(c->pool, &spec, &iter) != TPOOL_OK) return NULL;
    void *result = NULL;
    while (c->workers > 1 && !atomic_load(&c->begun)) sleep_ms(1); /* else it runs in place, in this task */
    tpool_status status = tpool_map_next(iter, TPOOL_FOREVER, &result);
    c->deadlocks = (status == TPOOL_DEADLOCK) + (status == TPOOL_OK && (intptr_t)result == TPOOL_DEADLOCK);
    tpool_map_close(iter);
    return NULL;
}
static void a_cycle_through_the_last_item_of_an_unordered_map_is_reported(void **state) {
    (void)state;
    for (int workers = 1; workers <= 2; workers++) {
        cyclic c = { .pool = new_pool(workers), .known = GATE_CLOSED, .workers = workers };
        c.consumer = submitted(c.pool, consume_what_waits, &c);
        gate_open(&c.known);
        take(tpool_future_retain(c.consumer)); /* the item may still wait for it */
        assert_int_equal(1, c.deadlocks);
        assert_status(TPOOL_OK, tpool_destroy(c.pool));
        tpool_future_release(c.consumer);
    }
}

static void what_is_done_of_an_unordered_map_is_delivered_after_the_destroy(void **state) {
    (void)state;
    for (size_t buffer = 0; buffer <= 4; buffer += 2) {
        tpool *pool = new_pool(2);
        cell *cells = make_cells(6);
        tpool_map_spec spec = { .fn = same_item,
                                .items = cells,
                                .count = 6,
                                .stride = sizeof *cells,
                                .chunk_size = 1,
                                .buffer_size = buffer,
                                .unordered = true };
        tpool_map_iter *iter = start(pool, &spec);
        (void)next(iter);
        assert_status(TPOOL_OK, tpool_destroy(pool));
        size_t done = buffer ? buffer + 1 : 6;
        for (size_t i = 1; i < 6; i++) {
            void *result = NULL;
            assert_status(i < done ? TPOOL_OK : TPOOL_CANCELLED, tpool_map_next(iter, LIMIT, &result));
            assert_ptr_equal(&cells[tpool_map_index(iter)], tpool_map_item(iter));
            if (i < done) assert_ptr_equal(result, tpool_map_item(iter));
        }
        check_none(iter, TPOOL_FOREVER, TPOOL_END);
        tpool_map_close(iter);
        free(cells);
    }
}

static const struct CMUnitTest tests[] = {
    TEST(unordered_results_come_as_their_items_end),
    TEST(an_unordered_map_goes_on_past_an_item_that_stands_still),
    TEST(an_unordered_map_may_be_closed_at_any_point),
    TEST(a_task_maps_unordered_in_its_own_pool_of_one),
    TEST(a_cycle_through_the_last_item_of_an_unordered_map_is_reported),
    TEST(what_is_done_of_an_unordered_map_is_delivered_after_the_destroy),
};
RUN_TESTS(tests)
