/* tpool_map: results in the order of the items, from an array or a source, with errors that belong to one item. */
#include "support.h"

static tpool_map_iter *start(tpool *pool, const tpool_map_spec *spec) {
    tpool_map_iter *iter = NULL;
    assert_status(TPOOL_OK, tpool_map(pool, spec, &iter));
    assert_non_null(iter);
    return iter;
}

/* The next item's result; it must have one. */
static void *next(tpool_map_iter *iter) {
    void *result = NULL;
    assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, &result));
    return result;
}

/* No result comes, but this status. */
static void check_none(tpool_map_iter *iter, int64_t timeout_ns, tpool_status expected) {
    char other;
    void *result = &other;
    assert_status(expected, tpool_map_next(iter, timeout_ns, &result));
    assert_null(result);
}

/* ---- Arrays. */

typedef struct cell {
    int value;
    atomic_int runs;
    char padding[20]; /* a stride that is no power of two */
} cell;

static const size_t chunk_sizes[] = { 0, 1, 3, 1000 };
#define CHUNK_SIZES (sizeof chunk_sizes / sizeof chunk_sizes[0])

/* Gives a number made of the item's and the context's. */
static void *run_cell(void *item, void *context) {
    cell *c = item;
    atomic_fetch_add(&c->runs, 1);
    return (void *)((intptr_t)c->value * 2 + *(const int *)context);
}

static cell *make_cells(size_t count) {
    cell *cells = calloc(count, sizeof *cells);
    assert_non_null(cells);
    for (size_t i = 0; i < count; i++) cells[i].value = (int)i;
    return cells;
}

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

/* The earlier items end last. */
static void *pass_own_gate(void *item, void *context) {
    (void)context;
    gate_pass(item);
    return item;
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

enum { EVERY = 7 }; /* every so many-th item raises */

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

/* ---- Sources. */

typedef struct source {
    int taken, asked, most; /* most < 0: endless */
    pthread_t consumer;
    bool strange_thread; /* asked, or an item freed, on another thread than the consumer's */
    atomic_int ran, freed, freed_twice;
    gate *hold;     /* items pass it, if there is one */
    int hold_from;  /* ... from this one on */
    bool hold_only; /* ... or it alone */
} source;

typedef struct source_item {
    source *from;
    int number;
    atomic_int freed;
} source_item;

static bool take_from_source(void *context, void **item) {
    source *s = context;
    if (!pthread_equal(pthread_self(), s->consumer)) s->strange_thread = true;
    s->asked++;
    if (s->most >= 0 && s->taken == s->most) return false;
    source_item *made = calloc(1, sizeof *made);
    if (made == NULL) abort();
    made->from = s;
    made->number = s->taken++;
    *item = made;
    return true;
}

static void *run_source_item(void *item, void *context) {
    source_item *si = item;
    source *s = context;
    atomic_fetch_add(&s->ran, 1);
    if (s->hold != NULL && (s->hold_only ? si->number == s->hold_from : si->number >= s->hold_from)) gate_pass(s->hold);
    if (si->number % EVERY == 3) return tpool_raise(si->number, "item %d", si->number);
    return (void *)(intptr_t)si->number;
}

static void free_source_item(void *item, void *context) {
    source_item *si = item;
    source *s = context;
    if (!pthread_equal(pthread_self(), s->consumer)) s->strange_thread = true;
    if (si->from != s || atomic_fetch_add(&si->freed, 1) != 0) atomic_fetch_add(&s->freed_twice, 1);
    atomic_fetch_add(&s->freed, 1);
    free(si);
}

static tpool_map_spec source_spec(source *s, size_t chunk_size, size_t buffer_size) {
    return (tpool_map_spec){ .fn = run_source_item,
                             .context = s,
                             .next = take_from_source,
                             .item_free = free_source_item,
                             .chunk_size = chunk_size,
                             .buffer_size = buffer_size };
}

/* The next item of a source: its number, or its error. */
static void check_source_item(tpool_map_iter *iter, int number) {
    void *result = NULL;
    const tpool_error *error = NULL;
    tpool_status got = tpool_map_next(iter, LIMIT, &result);
    if (number % EVERY == 3) {
        assert_status(TPOOL_FAILED, got);
        assert_status(TPOOL_OK, tpool_map_error(iter, &error));
        assert_non_null(error);
        assert_int_equal(number, error->code);
    } else {
        assert_status(TPOOL_OK, got);
        assert_int_equal(number, (intptr_t)result);
    }
}

static void a_source_is_asked_until_its_end(void **state) {
    (void)state;
    static const size_t buffers[] = { 1, 2, 5, 64, 5000 };
    tpool *pool = new_pool(2);
    for (size_t b = 0; b < sizeof buffers / sizeof buffers[0]; b++) {
        for (size_t c = 0; c < CHUNK_SIZES; c++) {
            source s = { .most = COUNT(500), .consumer = pthread_self() };
            tpool_map_spec spec = source_spec(&s, chunk_sizes[c], buffers[b]);
            tpool_map_iter *iter = start(pool, &spec);
            for (int i = 0; i < s.most; i++) {
                check_source_item(iter, i);
                assert_true(s.taken - (i + 1) <= (int)buffers[b]);
            }
            for (int i = 0; i < 3; i++) check_none(iter, TPOOL_FOREVER, TPOOL_END);
            tpool_map_close(iter);
            assert_int_equal(s.most, s.taken);
            assert_int_equal(s.most, atomic_load(&s.ran));
            assert_int_equal(s.most, atomic_load(&s.freed));
            assert_int_equal(0, atomic_load(&s.freed_twice));
            assert_false(s.strange_thread);
        }
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void exactly_as_many_as_the_buffer_holds_are_taken_ahead(void **state) {
    (void)state;
    static const int buffers[] = { 1, 2, 7, 100 };
    tpool *pool = new_pool(2);
    for (size_t b = 0; b < sizeof buffers / sizeof buffers[0]; b++) {
        source s = { .most = -1, .consumer = pthread_self() };
        tpool_map_spec spec = source_spec(&s, 1, (size_t)buffers[b]);
        tpool_map_iter *iter = start(pool, &spec);
        assert_int_equal(buffers[b], s.taken);
        for (int i = 0; i < 200; i++) {
            check_source_item(iter, i);
            assert_int_equal(buffers[b] + i + 1, s.taken);
        }
        tpool_map_close(iter);
        assert_int_equal(buffers[b] + 200, s.taken);
        assert_int_equal(s.taken, atomic_load(&s.freed));
        assert_int_equal(0, atomic_load(&s.freed_twice));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void nothing_is_taken_while_nothing_is_delivered(void **state) {
    (void)state;
    gate held = GATE_CLOSED;
    tpool *pool = new_pool(2);
    source s = { .most = -1, .consumer = pthread_self(), .hold = &held };
    tpool_map_spec spec = source_spec(&s, 1, 10);
    tpool_map_iter *iter = start(pool, &spec);
    EVENTUALLY(gate_arrived(&held) == 2);
    for (int i = 0; i < 5; i++) check_none(iter, TPOOL_MS(i), TPOOL_TIMEOUT);
    assert_int_equal(10, s.taken);
    gate_open(&held);
    check_source_item(iter, 0);
    assert_int_equal(11, s.taken);
    tpool_map_close(iter);
    assert_int_equal(s.taken, atomic_load(&s.freed));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void an_endless_source_may_be_read_for_long(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    for (size_t c = 0; c < CHUNK_SIZES; c++) {
        source s = { .most = -1, .consumer = pthread_self() };
        tpool_map_spec spec = source_spec(&s, chunk_sizes[c], 64);
        tpool_map_iter *iter = start(pool, &spec);
        assert_int_equal(64, s.taken);
        for (int i = 0; i < COUNT(20000); i++) {
            check_source_item(iter, i);
            assert_true(s.taken - (i + 1) <= 64);
            assert_true(s.taken - atomic_load(&s.freed) <= 4 * 64); /* what was delivered is not kept for ever */
        }
        tpool_map_close(iter);
        assert_int_equal(s.taken, atomic_load(&s.freed));
        assert_int_equal(0, atomic_load(&s.freed_twice));
        assert_false(s.strange_thread);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void an_empty_source_ends_at_once(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    source s = { .most = 0, .consumer = pthread_self() };
    tpool_map_spec spec = source_spec(&s, 0, 4);
    tpool_map_iter *iter = start(pool, &spec);
    for (int i = 0; i < 3; i++) check_none(iter, TPOOL_FOREVER, TPOOL_END);
    tpool_map_close(iter);
    assert_int_equal(0, atomic_load(&s.freed));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void bad_sources_are_invalid_and_not_asked(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_map_iter *iter = NULL;
    source s = { .most = 10, .consumer = pthread_self() };
    tpool_map_spec spec = source_spec(&s, 0, 0); /* no buffer */
    assert_status(TPOOL_INVALID, tpool_map(pool, &spec, &iter));
    assert_null(iter);
    spec = source_spec(&s, 0, 4);
    spec.items = &s; /* both */
    spec.count = 1;
    spec.stride = sizeof s;
    assert_status(TPOOL_INVALID, tpool_map(pool, &spec, &iter));
    spec = source_spec(&s, 0, 4);
    spec.fn = NULL;
    assert_status(TPOOL_INVALID, tpool_map(pool, &spec, &iter));
    assert_int_equal(0, s.asked);
    assert_int_equal(0, atomic_load(&s.freed));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* Items of one task each may wait for the consumer: item i waits for a future that is completed once item i - 1 has
   been delivered. */
enum { PATIENT = 30 };

static void *await_item_future(void *item, void *context) {
    (void)context;
    return tpool_future_result(*(tpool_future **)item, TPOOL_FOREVER, NULL) == TPOOL_OK ? item : NULL;
}

static void items_of_one_task_each_may_wait_for_the_consumer(void **state) {
    (void)state;
    for (int workers = 1; workers <= 2; workers++) {
        tpool *pool = new_pool(workers);
        tpool_future *waits[PATIENT];
        for (int i = 0; i < PATIENT; i++) assert_status(TPOOL_OK, tpool_future_create(&waits[i]));
        tpool_map_spec spec = {
            .fn = await_item_future, .items = waits, .count = PATIENT, .stride = sizeof waits[0], .chunk_size = 1
        };
        tpool_map_iter *iter = start(pool, &spec);
        for (int i = 0; i < PATIENT; i++) {
            check_none(iter, 0, TPOOL_TIMEOUT);
            assert_status(TPOOL_OK, tpool_future_set_result(waits[i], NULL));
            assert_ptr_equal(&waits[i], next(iter));
        }
        check_none(iter, 0, TPOOL_END);
        tpool_map_close(iter);
        for (int i = 0; i < PATIENT; i++) tpool_future_release(waits[i]);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

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

/* Until it shall stop, the odd ones in a forked job; each fourth ends at once, and has not been asked. */
typedef struct asked {
    int64_t begin, least; /* when the item began, about; how long it must go on */
} asked;
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

/* item_free comes on the consumer's thread, in the next call or in the close, whatever that call gives. */
static void an_item_of_a_source_is_valid_until_the_next_call_or_the_close(void **state) {
    (void)state;
    gate held = GATE_CLOSED;
    tpool *pool = new_pool(2);
    for (size_t c = 0; c < CHUNK_SIZES; c++) {
        source s = { .most = 40, .consumer = pthread_self() };
        tpool_map_spec spec = source_spec(&s, chunk_sizes[c], 5);
        tpool_map_iter *iter = start(pool, &spec);
        assert_null(tpool_map_item(iter));
        for (int i = 0; i < 30; i++) {
            check_source_item(iter, i);
            assert_int_equal(i, atomic_load(&s.freed)); /* all before it, and it is not */
            const source_item *item = tpool_map_item(iter);
            assert_int_equal(i, item->number);
            assert_int_equal(i + 1 + 5 < 40 ? i + 1 + 5 : 40, s.taken); /* it takes no place in the buffer */
        }
        tpool_map_close(iter);
        assert_int_equal(s.taken, atomic_load(&s.freed));
        assert_int_equal(0, atomic_load(&s.freed_twice));
        assert_false(s.strange_thread);
    }
    source s = { .most = 40, .consumer = pthread_self(), .hold = &held, .hold_from = 1 };
    tpool_map_spec spec = source_spec(&s, 1, 5);
    tpool_map_iter *iter = start(pool, &spec);
    check_source_item(iter, 0);
    assert_int_equal(0, atomic_load(&s.freed));
    check_none(iter, 0, TPOOL_TIMEOUT);
    assert_int_equal(1, atomic_load(&s.freed));
    assert_null(tpool_map_item(iter));
    gate_open(&held);
    check_source_item(iter, 1);
    assert_non_null(tpool_map_item(iter));
    tpool_map_close(iter);
    assert_int_equal(s.taken, atomic_load(&s.freed));
    assert_int_equal(0, atomic_load(&s.freed_twice));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

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
    TEST(a_source_is_asked_until_its_end),
    TEST(exactly_as_many_as_the_buffer_holds_are_taken_ahead),
    TEST(nothing_is_taken_while_nothing_is_delivered),
    TEST(an_endless_source_may_be_read_for_long),
    TEST(an_empty_source_ends_at_once),
    TEST(bad_sources_are_invalid_and_not_asked),
    TEST(items_of_one_task_each_may_wait_for_the_consumer),
    TEST(close_cancels_what_has_not_started_and_waits_for_what_runs),
    TEST(close_asks_all_that_runs_to_stop),
    TEST(each_item_has_the_run_limit_for_itself),
    TEST(map_index_tells_which_item_was_delivered),
    TEST(map_item_gives_the_item_that_was_delivered),
    TEST(an_item_of_a_source_is_valid_until_the_next_call_or_the_close),
    TEST(a_map_may_be_closed_at_any_point),
    TEST(unordered_results_come_as_their_items_end),
    TEST(an_unordered_map_goes_on_past_an_item_that_stands_still),
    TEST(an_unordered_map_may_be_closed_at_any_point),
    TEST(a_task_maps_unordered_in_its_own_pool_of_one),
    TEST(a_cycle_through_the_last_item_of_an_unordered_map_is_reported),
    TEST(what_is_done_of_an_unordered_map_is_delivered_after_the_destroy),
    TEST(items_that_a_shutdown_cancels_are_cancelled_one_by_one),
    TEST(a_source_whose_pool_is_shut_down_still_ends),
    TEST(a_map_on_a_pool_that_takes_no_work_is_refused),
    TEST(a_map_outlives_its_pool),
    TEST(an_item_that_ends_its_thread_breaks_no_other),
    TEST(a_task_maps_in_its_own_pool_of_one),
    TEST(two_maps_at_once_do_not_mix),
    TEST(maps_from_several_tasks_of_one_pool_all_end),
    TEST(a_map_fits_through_a_small_queue),
};
RUN_TESTS(tests)
