/* tpool_map: results in the order of the items, with errors that belong to one item. */
#include "maps.h"

/* ---- Arrays. */

static void check_array(tpool *pool, size_t count, size_t chunk_size, size_t buffer_size) {
    int offset = 7;
    cell *cells = make_cells(count);
    tpool_map_spec spec = { .fn = run_cell,
                            .context = &offset,
                            .items = cells,
                            .count = count,
                            .stride = sizeof *cells,
                            .chunk_size = chunk_size,
                            .buffer_size = buffer_size };
    tpool_map_iter *iter = start(pool, &spec);
    for (size_t i = 0; i < count; i++) assert_int_equal(2 * i + 7, (intptr_t)next(iter));
    check_none(iter, TPOOL_FOREVER, TPOOL_END);
    for (size_t i = 0; i < count; i++) assert_int_equal(1, atomic_load(&cells[i].runs));
    tpool_map_close(iter);
    free(cells);
}

static void an_arrays_results_come_in_the_order_of_its_items(void **state) {
    (void)state;
    for (int workers = 1; workers <= 4; workers += 3) {
        tpool *pool = new_pool(workers);
        for (size_t c = 0; c < CHUNK_SIZES; c++) {
            check_array(pool, COUNT(5000), chunk_sizes[c], 0);
            check_array(pool, COUNT(2000), chunk_sizes[c], 10);
            check_array(pool, 1, chunk_sizes[c], 0);
            check_array(pool, 100, chunk_sizes[c], 1);
        }
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

static void a_hundred_thousand_cheap_items_come_in_order(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    check_array(pool, COUNT(100000), 0, 0);
    check_array(pool, COUNT(20000), 1, 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void results_come_in_order_also_when_later_items_end_first(void **state) {
    (void)state;
    enum { count = 4 };
    gate gates[count] = { GATE_CLOSED, GATE_CLOSED, GATE_CLOSED, GATE_CLOSED };
    tpool *pool = new_pool(count);
    tpool_map_spec spec = {
        .fn = pass_own_gate, .items = gates, .count = count, .stride = sizeof gates[0], .chunk_size = 1
    };
    tpool_map_iter *iter = start(pool, &spec);
    for (int i = 0; i < count; i++) EVENTUALLY(gate_arrived(&gates[i]) == 1);
    for (int i = count - 1; i > 0; i--) {
        gate_open(&gates[i]);
        check_none(iter, 0, TPOOL_TIMEOUT);
    }
    gate_open(&gates[0]);
    for (int i = 0; i < count; i++) assert_ptr_equal(&gates[i], next(iter));
    check_none(iter, 0, TPOOL_END);
    tpool_map_close(iter);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void an_array_is_submitted_before_map_returns(void **state) {
    (void)state;
    enum { count = 50, buffer = 8 };
    int offset = 0;
    tpool *pool = new_pool(2);
    for (int buffered = 0; buffered <= 1; buffered++) {
        cell *cells = make_cells(count);
        int expected = buffered == 1 ? buffer : count;
        tpool_map_spec spec = { .fn = run_cell,
                                .context = &offset,
                                .items = cells,
                                .count = count,
                                .stride = sizeof *cells,
                                .chunk_size = 1,
                                .buffer_size = buffered == 1 ? buffer : 0 };
        tpool_map_iter *iter = start(pool, &spec);
        for (int i = 0; i < expected; i++) EVENTUALLY(atomic_load(&cells[i].runs) == 1);
        assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
        for (int i = expected; i < count; i++) assert_int_equal(0, atomic_load(&cells[i].runs));
        for (int i = 0; i < count; i++) {
            assert_int_equal(2 * i, (intptr_t)next(iter));
            if (i + 1 + expected < count) assert_int_equal(0, atomic_load(&cells[i + 1 + expected].runs));
        }
        tpool_map_close(iter);
        free(cells);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void an_empty_array_ends_at_once(void **state) {
    (void)state;
    int offset = 0;
    cell c = { .value = 0 };
    tpool *pool = new_pool(1);
    tpool_map_spec spec = { .fn = run_cell, .context = &offset, .items = &c, .count = 0, .stride = sizeof c };
    for (size_t i = 0; i < CHUNK_SIZES; i++) {
        spec.chunk_size = chunk_sizes[i];
        spec.buffer_size = i;
        tpool_map_iter *iter = start(pool, &spec);
        for (int again = 0; again < 3; again++) check_none(iter, TPOOL_FOREVER, TPOOL_END);
        tpool_map_close(iter);
    }
    assert_int_equal(0, atomic_load(&c.runs));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void bad_specs_are_invalid(void **state) {
    (void)state;
    int offset = 0;
    cell c = { .value = 0 };
    tpool *pool = new_pool(1);
    tpool_map_spec good = { .fn = run_cell, .context = &offset, .items = &c, .count = 1, .stride = sizeof c };
    tpool_map_spec spec;
    tpool_map_iter *iter = (tpool_map_iter *)(void *)&c;
    void *result = NULL;
    assert_status(TPOOL_INVALID, tpool_map(pool, NULL, &iter));
    assert_null(iter);
    assert_status(TPOOL_INVALID, tpool_map(NULL, &good, &iter));
    assert_status(TPOOL_INVALID, tpool_map(pool, &good, NULL));
    spec = good;
    spec.fn = NULL;
    iter = (tpool_map_iter *)(void *)&c;
    assert_status(TPOOL_INVALID, tpool_map(pool, &spec, &iter));
    assert_null(iter);
    spec = good;
    spec.items = NULL; /* neither array nor source */
    assert_status(TPOOL_INVALID, tpool_map(pool, &spec, &iter));
    assert_status(TPOOL_INVALID, tpool_map_next(NULL, 0, &result));
    assert_int_equal(0, atomic_load(&c.runs));
    tpool_stats stats;
    assert_status(TPOOL_OK, tpool_get_stats(pool, &stats));
    assert_int_equal(0, stats.submitted);
    tpool_map_close(NULL);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Errors and results that belong to one item. */

static void *raise_now_and_then(void *item, void *context) {
    cell *c = item;
    (void)context;
    if (c->value % EVERY == 0) return tpool_raise(c->value, "item %d", c->value);
    return item;
}

static void an_items_error_is_its_own_and_later_ones_still_come(void **state) {
    (void)state;
    size_t count = 100;
    tpool *pool = new_pool(2);
    cell *cells = make_cells(count);
    for (size_t c = 0; c < CHUNK_SIZES; c++) {
        tpool_map_spec spec = { .fn = raise_now_and_then,
                                .items = cells,
                                .count = count,
                                .stride = sizeof *cells,
                                .chunk_size = chunk_sizes[c] };
        tpool_map_iter *iter = start(pool, &spec);
        for (size_t i = 0; i < count; i++) {
            const tpool_error *error = NULL;
            if (i % EVERY != 0) {
                assert_ptr_equal(&cells[i], next(iter));
                error = (const tpool_error *)(const void *)cells;
                assert_status(TPOOL_OK, tpool_map_error(iter, &error));
                assert_null(error);
                continue;
            }
            char message[32];
            snprintf(message, sizeof message, "item %d", (int)i);
            check_none(iter, LIMIT, TPOOL_FAILED);
            for (int again = 0; again < 2; again++) {
                error = NULL;
                assert_status(TPOOL_OK, tpool_map_error(iter, &error));
                assert_non_null(error);
                assert_status(TPOOL_FAILED, error->status);
                assert_status(error->status, error->cause);
                assert_int_equal((int)i, error->code);
                assert_string_equal(message, error->message);
            }
            assert_int_equal(0, tpool_map_result_size(iter));
        }
        check_none(iter, TPOOL_FOREVER, TPOOL_END);
        tpool_map_close(iter);
    }
    free(cells);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* A text of 1 to 64 bytes, by the item's number; but each fifth gives the item itself. */
static void *return_text(void *item, void *context) {
    cell *c = item;
    char text[64];
    (void)context;
    if (c->value % 5 == 4) return item;
    memset(text, 'a' + c->value % 26, sizeof text);
    return tpool_return(text, (size_t)c->value % sizeof text + 1);
}

static void result_bytes_are_each_items_own(void **state) {
    (void)state;
    size_t count = 200;
    tpool *pool = new_pool(2);
    cell *cells = make_cells(count);
    for (size_t c = 0; c < CHUNK_SIZES; c++) {
        tpool_map_spec spec = {
            .fn = return_text, .items = cells, .count = count, .stride = sizeof *cells, .chunk_size = chunk_sizes[c]
        };
        tpool_map_iter *iter = start(pool, &spec);
        for (size_t i = 0; i < count; i++) {
            const char *text = next(iter);
            if (i % 5 == 4) {
                assert_ptr_equal(&cells[i], text);
                assert_int_equal(0, tpool_map_result_size(iter));
                continue;
            }
            size_t size = i % 64 + 1;
            assert_int_equal(size, tpool_map_result_size(iter));
            for (size_t b = 0; b < size; b++) assert_int_equal('a' + (int)i % 26, text[b]);
        }
        check_none(iter, 0, TPOOL_END);
        tpool_map_close(iter);
    }
    free(cells);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static atomic_int owned_made, owned_freed;

static void free_owned(void *result) {
    atomic_fetch_add(&owned_freed, 1);
    free(result);
}

static void *return_owned(void *item, void *context) {
    int *copy = malloc(sizeof *copy);
    (void)context;
    if (copy == NULL) abort();
    *copy = ((cell *)item)->value;
    atomic_fetch_add(&owned_made, 1);
    return tpool_return_owned(copy, free_owned);
}

static void owned_results_live_until_the_next_call_or_the_close(void **state) {
    (void)state;
    size_t count = 60;
    tpool *pool = new_pool(2);
    cell *cells = make_cells(count);
    for (size_t c = 0; c < CHUNK_SIZES; c++) {
        for (size_t taken = 0; taken <= count; taken += count / 2) { /* none, half, all of them */
            tpool_map_spec spec = { .fn = return_owned,
                                    .items = cells,
                                    .count = count,
                                    .stride = sizeof *cells,
                                    .chunk_size = chunk_sizes[c] };
            atomic_store(&owned_made, 0);
            atomic_store(&owned_freed, 0);
            tpool_map_iter *iter = start(pool, &spec);
            for (size_t i = 0; i < taken; i++) {
                int *result = next(iter);
                assert_int_equal(i, *result); /* not freed yet: a sanitizer would tell */
                assert_true(atomic_load(&owned_freed) <= (int)i);
            }
            tpool_map_close(iter);
            assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
            assert_true(atomic_load(&owned_made) >= (int)taken);
            assert_int_equal(atomic_load(&owned_made), atomic_load(&owned_freed));
        }
    }
    free(cells);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Time limits. */

static void a_timeout_consumes_nothing(void **state) {
    (void)state;
    gate gates[2] = { GATE_CLOSED, GATE_CLOSED };
    tpool *pool = new_pool(1);
    tpool_map_spec spec = {
        .fn = pass_own_gate, .items = gates, .count = 2, .stride = sizeof gates[0], .chunk_size = 1
    };
    tpool_map_iter *iter = start(pool, &spec);
    for (int i = 0; i < 2; i++) {
        check_none(iter, 0, TPOOL_TIMEOUT);
        check_none(iter, -1, TPOOL_TIMEOUT);
        int64_t begin = tpool_now();
        check_none(iter, TPOOL_MS(10), TPOOL_TIMEOUT);
        assert_true(tpool_now() - begin >= TPOOL_MS(10));
        gate_open(&gates[i]);
        assert_ptr_equal(&gates[i], next(iter));
    }
    for (int i = 0; i < 3; i++) check_none(iter, TPOOL_FOREVER, TPOOL_END);
    tpool_map_close(iter);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- run_limit_ns. */

static void *until_asked(void *arg) {
    const asked *a = (const asked *)arg;
    while (!tpool_stop_requested() && tpool_now() < a->begin + LIMIT) sleep_ms(1);
    return (void *)(intptr_t)(tpool_stop_requested() && tpool_now() - a->begin >= a->least);
}
static void *item_until_asked(void *item, void *context) {
    int number = *(int *)item;
    asked a = { tpool_now(), *(const int64_t *)context / 2 }; /* its thread may have lost its CPU before this line */
    if (number % 4 == 0) return (void *)(intptr_t)!tpool_stop_requested();
    if (number % 2 == 0) return until_asked(&a);
    tpool_job job;
    tpool_fork(&job, until_asked, &a);
    return tpool_join(&job);
}
static void each_item_has_the_run_limit_for_itself(void **state) {
    (void)state;
    int numbers[8];
    for (int i = 0; i < 8; i++) numbers[i] = i;
    tpool *pool = new_pool(2);
    for (size_t chunk = 1; chunk <= 8; chunk += 7) {
        int64_t limit = TPOOL_MS(100);
        tpool_map_spec spec = { .fn = item_until_asked,
                                .context = &limit,
                                .items = numbers,
                                .count = 8,
                                .stride = sizeof(int),
                                .chunk_size = chunk,
                                .run_limit_ns = limit };
        tpool_map_iter *iter = start(pool, &spec);
        for (int i = 0; i < 8; i++) assert_int_equal(1, (intptr_t)next(iter));
        check_none(iter, 0, TPOOL_END);
        tpool_map_close(iter);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void map_index_tells_which_item_was_delivered(void **state) {
    (void)state;
    int numbers[100];
    for (int i = 0; i < 100; i++) numbers[i] = i;
    tpool *pool = new_pool(2);
    for (size_t buffer = 0; buffer < 20; buffer += 7) {
        tpool_map_spec spec = {
            .fn = same_item, .items = numbers, .count = 100, .stride = sizeof(int), .buffer_size = buffer
        };
        tpool_map_iter *iter = start(pool, &spec);
        assert_int_equal(0, tpool_map_index(iter));
        for (size_t i = 0; i < 100; i++) {
            void *value = NULL;
            assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, &value));
            assert_int_equal(i, tpool_map_index(iter));
            assert_ptr_equal(&numbers[i], value);
        }
        assert_status(TPOOL_END, tpool_map_next(iter, LIMIT, NULL));
        assert_int_equal(99, tpool_map_index(iter));
        tpool_map_close(iter);
    }
    assert_int_equal(0, tpool_map_index(NULL));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void map_item_gives_the_item_that_was_delivered(void **state) {
    (void)state;
    cell *cells = make_cells(100);
    tpool *pool = new_pool(2);
    for (size_t buffer = 0; buffer < 20; buffer += 7) {
        tpool_map_spec spec = {
            .fn = raise_now_and_then, .items = cells, .count = 100, .stride = sizeof *cells, .buffer_size = buffer
        };
        tpool_map_iter *iter = start(pool, &spec);
        assert_null(tpool_map_item(iter));
        for (size_t i = 0; i < 100; i++) {
            tpool_status status = tpool_map_next(iter, LIMIT, NULL);
            assert_status(i % EVERY == 0 ? TPOOL_FAILED : TPOOL_OK, status);
            assert_ptr_equal(&cells[i], tpool_map_item(iter)); /* also of one that failed */
        }
        assert_status(TPOOL_END, tpool_map_next(iter, LIMIT, NULL));
        assert_null(tpool_map_item(iter));
        tpool_map_close(iter);
    }
    assert_null(tpool_map_item(NULL));
    free(cells);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Inside a task, and several at once. */

typedef struct nested_map {
    tpool *pool;
    cell *cells;
    size_t count, chunk_size, buffer_size;
    int64_t timeout_ns;
    int troubles;
    pthread_t thread;
    atomic_int elsewhere; /* items that ran on another thread than the consumer's */
} nested_map;

static void *run_nested_item(void *item, void *context) {
    nested_map *n = context;
    if (!pthread_equal(pthread_self(), n->thread)) atomic_fetch_add(&n->elsewhere, 1);
    return item;
}

static void *consume_inside(void *arg) {
    nested_map *n = arg;
    tpool_map_spec spec = { .fn = run_nested_item,
                            .context = n,
                            .items = n->cells,
                            .count = n->count,
                            .stride = sizeof *n->cells,
                            .chunk_size = n->chunk_size,
                            .buffer_size = n->buffer_size };
    tpool_map_iter *iter = NULL;
    void *result = NULL;
    n->thread = pthread_self();
    if (tpool_map(n->pool, &spec, &iter) != TPOOL_OK) {
        n->troubles++;
        return NULL;
    }
    for (size_t i = 0; i < n->count; i++) {
        if (tpool_map_next(iter, n->timeout_ns, &result) != TPOOL_OK || result != &n->cells[i]) n->troubles++;
    }
    if (tpool_map_next(iter, n->timeout_ns, &result) != TPOOL_END || result != NULL) n->troubles++;
    tpool_map_close(iter);
    return NULL;
}

static void a_task_maps_in_its_own_pool_of_one(void **state) {
    (void)state;
    size_t count = COUNT(1000);
    tpool *pool = new_pool(1);
    cell *cells = make_cells(count);
    for (size_t c = 0; c < CHUNK_SIZES; c++) {
        for (int timed = 0; timed <= 1; timed++) {
            nested_map n = { .pool = pool,
                             .cells = cells,
                             .count = count,
                             .chunk_size = chunk_sizes[c],
                             .buffer_size = timed == 1 ? 20 : 0,
                             .timeout_ns = timed == 1 ? LIMIT : TPOOL_FOREVER };
            take(submitted(pool, consume_inside, &n));
            assert_int_equal(0, n.troubles);
            /* Without a limit map_next runs its items in place, with one it leaves them to a spare worker. */
            assert_int_equal(timed == 1 ? count : 0, atomic_load(&n.elsewhere));
        }
    }
    free(cells);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void two_maps_at_once_do_not_mix(void **state) {
    (void)state;
    enum { count = 300 };
    int offsets[2] = { 1000, 2000 };
    tpool *pool = new_pool(2);
    cell *cells = make_cells(count);
    tpool_map_iter *iters[2];
    for (int m = 0; m < 2; m++) {
        tpool_map_spec spec = { .fn = run_cell,
                                .context = &offsets[m],
                                .items = cells,
                                .count = count,
                                .stride = sizeof *cells,
                                .chunk_size = m == 0 ? 1 : 0,
                                .buffer_size = m == 0 ? 5 : 0 };
        iters[m] = start(pool, &spec);
    }
    for (int i = 0; i < count; i++) {
        for (int m = 0; m < 2; m++) assert_int_equal(2 * i + offsets[m], (intptr_t)next(iters[m]));
    }
    for (int m = 0; m < 2; m++) {
        check_none(iters[m], 0, TPOOL_END);
        tpool_map_close(iters[m]);
    }
    for (int i = 0; i < count; i++) assert_int_equal(2, atomic_load(&cells[i].runs));
    free(cells);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void maps_from_several_tasks_of_one_pool_all_end(void **state) {
    (void)state;
    enum { tasks = 8, count = 200 };
    for (int workers = 1; workers <= 3; workers += 2) {
        tpool *pool = new_pool(workers);
        tpool_future *futures[tasks];
        nested_map maps[tasks];
        cell *cells = make_cells(count);
        for (int t = 0; t < tasks; t++) {
            maps[t] = (nested_map){ .pool = pool,
                                    .cells = cells,
                                    .count = count,
                                    .chunk_size = chunk_sizes[(size_t)t % CHUNK_SIZES],
                                    .buffer_size = t % 2 == 0 ? 0 : 16,
                                    .timeout_ns = t % 3 == 0 ? LIMIT : TPOOL_FOREVER };
            futures[t] = submitted(pool, consume_inside, &maps[t]);
        }
        for (int t = 0; t < tasks; t++) {
            take(futures[t]);
            assert_int_equal(0, maps[t].troubles);
        }
        free(cells);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

static void a_map_fits_through_a_small_queue(void **state) {
    (void)state;
    tpool_config config = { .max_workers = 1, .queue_capacity = 2 };
    tpool *pool = NULL;
    size_t count = 200;
    assert_status(TPOOL_OK, tpool_create(&pool, &config));
    check_array(pool, count, 1, 0);
    check_array(pool, count, 1, 10);
    cell *cells = make_cells(count);
    nested_map n = { .pool = pool, .cells = cells, .count = count, .chunk_size = 1, .timeout_ns = TPOOL_FOREVER };
    take(submitted(pool, consume_inside, &n));
    assert_int_equal(0, n.troubles);
    free(cells);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static const struct CMUnitTest tests[] = {
    TEST(an_arrays_results_come_in_the_order_of_its_items),
    TEST(a_hundred_thousand_cheap_items_come_in_order),
    TEST(results_come_in_order_also_when_later_items_end_first),
    TEST(an_array_is_submitted_before_map_returns),
    TEST(an_empty_array_ends_at_once),
    TEST(bad_specs_are_invalid),
    TEST(an_items_error_is_its_own_and_later_ones_still_come),
    TEST(result_bytes_are_each_items_own),
    TEST(owned_results_live_until_the_next_call_or_the_close),
    TEST(a_timeout_consumes_nothing),
    TEST(each_item_has_the_run_limit_for_itself),
    TEST(map_index_tells_which_item_was_delivered),
    TEST(map_item_gives_the_item_that_was_delivered),
    TEST(a_task_maps_in_its_own_pool_of_one),
    TEST(two_maps_at_once_do_not_mix),
    TEST(maps_from_several_tasks_of_one_pool_all_end),
    TEST(a_map_fits_through_a_small_queue),
};
RUN_TESTS(tests)
