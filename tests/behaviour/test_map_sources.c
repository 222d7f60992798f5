/* tpool_map over a source: what is taken ahead, when it ends, what an item is valid for. */
#include "maps.h"

/* ---- Sources. */

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

/* ---- run_limit_ns. */

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

static const struct CMUnitTest tests[] = {
    TEST(a_source_is_asked_until_its_end),
    TEST(exactly_as_many_as_the_buffer_holds_are_taken_ahead),
    TEST(nothing_is_taken_while_nothing_is_delivered),
    TEST(an_endless_source_may_be_read_for_long),
    TEST(an_empty_source_ends_at_once),
    TEST(bad_sources_are_invalid_and_not_asked),
    TEST(items_of_one_task_each_may_wait_for_the_consumer),
    TEST(an_item_of_a_source_is_valid_until_the_next_call_or_the_close),
};
RUN_TESTS(tests)
