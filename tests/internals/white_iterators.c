/* Interleavings inside calls of iterators, and of what follows the end of a future. */
#include "internals/interleavings.h"

/* ---- Iterators. A future is done, and the thread that ends it is about to put it into one. */

static bool is_told_by_result(tpool_future *future) { return tpool_future_result(future, LIMIT, NULL) == TPOOL_OK; }
static bool is_told_by_error(tpool_future *future) {
    const tpool_error *error;
    return tpool_future_error(future, LIMIT, &error) == TPOOL_OK;
}
static bool is_told_by_state(tpool_future *future) { return tpool_future_state(future) == TPOOL_FINISHED; }
static bool is_told_by_size(tpool_future *future) { return tpool_future_result_size(future) == 0; }
static bool is_told_by_wait(tpool_future *future) {
    return tpool_wait(&future, 1, TPOOL_ALL_COMPLETED, LIMIT, NULL) == TPOOL_OK;
}
static bool is_told_by_partition(tpool_future *future) {
    size_t done = 0;
    return tpool_wait(&future, 1, TPOOL_ALL_COMPLETED, 0, &done) == TPOOL_OK && done == 1;
}
static bool is_told_by_first(tpool_future *future) {
    tpool_future *both[] = { future, future };
    return tpool_wait(both, 2, TPOOL_FIRST_COMPLETED, LIMIT, NULL) == TPOOL_OK;
}
static void note_callback(tpool_future *future, void *called) {
    (void)future;
    *(bool *)called = true;
}
static bool is_told_by_callback(tpool_future *future) {
    bool called = false;
    assert_status(TPOOL_OK, tpool_future_add_done_callback(future, note_callback, &called));
    return called;
}
static tpool_completions *other_iterator;
static bool is_told_by_other(tpool_future *future) {
    tpool_future *yielded = NULL;
    return tpool_completions_next(other_iterator, LIMIT, &yielded) == TPOOL_OK && yielded == future;
}

static tpool *other_pool;
/* What follows it has run. */
static bool is_told_by_successor(tpool_future *future) {
    return end_of(submitted_task(other_pool, (tpool_task){ .fn = nothing, .after = &future, .after_count = 1 })) ==
           TPOOL_OK;
}
static bool is_told_by_first_dependency(tpool_future *future) {
    tpool_future *of[] = { NULL, future };
    assert_status(TPOOL_OK, tpool_future_create(&of[0]));
    tpool_task task = { .fn = nothing, .after = of, .after_count = 2, .after_when = TPOOL_AFTER_ANY };
    bool told = end_of(submitted_task(other_pool, task)) == TPOOL_OK;
    assert_true(tpool_future_cancel(of[0]));
    tpool_future_release(of[0]);
    return told;
}

/* A thread that learns of the end, and then asks the iterator. */
typedef struct viewer {
    bool (*is_told)(tpool_future *future);
    tpool_future *future;
    tpool_completions *completions;
    stop waits;
    bool told;
    tpool_status next;
    atomic_bool over;
} viewer;
static void *view(void *arg) {
    viewer *v = arg;
    tpool_future *yielded = NULL;
    armed_stop = &v->waits;
    v->told = v->is_told(v->future);
    armed_stop = NULL;
    v->next = tpool_completions_next(v->completions, 0, &yielded);
    atomic_store(&v->over, true);
    return NULL;
}
static bool has_not_come(void) { return !tpool__has_arrived(other_iterator); }
static void an_iterator_has_what_any_call_tells_as_done(void **state) {
    (void)state;
    bool (*const ways[])(tpool_future *) = {
        is_told_by_result,    is_told_by_error, is_told_by_state,    is_told_by_size,      is_told_by_wait,
        is_told_by_partition, is_told_by_first, is_told_by_callback, is_told_by_successor, is_told_by_first_dependency,
        is_told_by_other, /* the last: it is in both iterators, and has come to this one */
    };
    tpool *pool = new_pool(1);
    other_pool = new_pool(1);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        bool both = ways[i] == is_told_by_other;
        gate begin = GATE_CLOSED;
        stop before_item = { .at = "tpool__item_done", .unless = both ? has_not_come : NULL, .gate = GATE_CLOSED };
        viewer v = { .is_told = ways[i], .waits = STOP_AT("tpool__await_notify") };
        tpool_future *holder = submitted(pool, gate_task, &begin);
        v.future = submitted(pool, arm_at, &before_item);
        assert_status(TPOOL_OK, tpool_as_completed(&v.future, 1, &v.completions));
        if (both) assert_status(TPOOL_OK, tpool_as_completed(&v.future, 1, &other_iterator));
        gate_open(&begin);
        AWAIT_ARRIVALS(&before_item.gate, 1);
        pthread_t thread = started(view, &v);
        EVENTUALLY(atomic_load(&v.over) || gate_arrived(&v.waits.gate) > 0);
        gate_open(&before_item.gate);
        gate_open(&v.waits.gate);
        pthread_join(thread, NULL);
        assert_true(v.told);
        assert_status(TPOOL_OK, v.next);
        assert_status(TPOOL_OK, end_of(holder));
        if (both) tpool_completions_destroy(other_iterator);
        tpool_completions_destroy(v.completions);
        tpool_future_release(v.future);
    }
    assert_status(TPOOL_OK, tpool_destroy(other_pool));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* What an end lets end comes after it. */
static stop before_first_item = STOP_AT("tpool__item_done");
static void *complete_and_stop(void *future) {
    armed_stop = &before_first_item;
    REQUIRE_STATUS(TPOOL_OK, tpool_future_set_result(future, NULL));
    armed_stop = NULL;
    return NULL;
}
static void an_iterator_yields_an_end_before_what_it_lets_end(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *futures[2], *both = NULL, *yielded[2] = { NULL, NULL };
    tpool_completions *completions = NULL;
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_future_create(&futures[i]));
    tpool_task task = { .after = futures, .after_count = 2 }; /* first, so that its edge is older than the item */
    both = submitted_task(pool, task);
    assert_status(TPOOL_OK, tpool_as_completed((tpool_future *[]){ futures[0], both }, 2, &completions));
    pthread_t thread = started(complete_and_stop, futures[0]);
    AWAIT_ARRIVALS(&before_first_item.gate, 1);
    assert_status(TPOOL_OK, tpool_future_set_result(futures[1], NULL));
    gate_open(&before_first_item.gate);
    pthread_join(thread, NULL);
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_completions_next(completions, LIMIT, &yielded[i]));
    assert_ptr_equal(futures[0], yielded[0]);
    assert_ptr_equal(both, yielded[1]);
    tpool_completions_destroy(completions);
    for (int i = 0; i < 2; i++) tpool_future_release(futures[i]);
    tpool_future_release(both);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* Something ends at the front of an array, behind the thread that goes through it: it is not the first. */
static stop between_two_edges = STOP_AT_AFTER("tpool__edges_enter", "tpool__nodes_unlock");
typedef struct any_submit {
    tpool *pool;
    tpool_future *futures[2], *any;
    atomic_bool over;
} any_submit;
static void *submit_any(void *arg) {
    any_submit *a = arg;
    tpool_task task = { .after = a->futures, .after_count = 2, .after_when = TPOOL_AFTER_ANY };
    armed_stop = &between_two_edges;
    a->any = submitted_task(a->pool, task);
    armed_stop = NULL;
    atomic_store(&a->over, true);
    return NULL;
}
static void the_first_of_several_is_one_that_was_done_before(void **state) {
    (void)state;
    any_submit a = { .pool = new_pool(1) };
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_future_create(&a.futures[i]));
    assert_status(TPOOL_OK, tpool_future_set_result(a.futures[1], NULL));
    pthread_t thread = started(submit_any, &a);
    EVENTUALLY(atomic_load(&a.over) || gate_arrived(&between_two_edges.gate) > 0);
    assert_status(TPOOL_OK, tpool_future_set_result(a.futures[0], NULL));
    gate_open(&between_two_edges.gate);
    pthread_join(thread, NULL);
    assert_ptr_equal(a.futures[1], take(a.any));
    for (int i = 0; i < 2; i++) tpool_future_release(a.futures[i]);
    assert_status(TPOOL_OK, tpool_destroy(a.pool));
}

static const struct CMUnitTest tests[] = {
    TEST(an_iterator_has_what_any_call_tells_as_done),
    TEST(an_iterator_yields_an_end_before_what_it_lets_end),
    TEST(the_first_of_several_is_one_that_was_done_before),
};
RUN_TESTS(tests)
