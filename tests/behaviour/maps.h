/* What the tests of tpool_map share: iterators, and cells to map over. */
#ifndef TPOOL_TESTS_MAPS_H
#define TPOOL_TESTS_MAPS_H
#include "support.h"

static inline tpool_map_iter *start(tpool *pool, const tpool_map_spec *spec) {
    tpool_map_iter *iter = NULL;
    assert_status(TPOOL_OK, tpool_map(pool, spec, &iter));
    assert_non_null(iter);
    return iter;
}

/* The next item's result; it must have one. */
static inline void *next(tpool_map_iter *iter) {
    void *result = NULL;
    assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, &result));
    return result;
}

/* No result comes, but this status. */
static inline void check_none(tpool_map_iter *iter, int64_t timeout_ns, tpool_status expected) {
    char other;
    void *result = &other;
    assert_status(expected, tpool_map_next(iter, timeout_ns, &result));
    assert_null(result);
}

typedef struct cell {
    int value;
    atomic_int runs;
    char padding[20]; /* a stride that is no power of two */
} cell;

static const size_t chunk_sizes[] = { 0, 1, 3, 1000 };
#define CHUNK_SIZES (sizeof chunk_sizes / sizeof chunk_sizes[0])

/* Gives a number made of the item's and the context's. */
static inline void *run_cell(void *item, void *context) {
    cell *c = item;
    atomic_fetch_add(&c->runs, 1);
    return (void *)((intptr_t)c->value * 2 + *(const int *)context);
}

static inline cell *make_cells(size_t count) {
    cell *cells = calloc(count, sizeof *cells);
    assert_non_null(cells);
    for (size_t i = 0; i < count; i++) cells[i].value = (int)i;
    return cells;
}

/* The earlier items end last. */
static inline void *pass_own_gate(void *item, void *context) {
    (void)context;
    gate_pass(item);
    return item;
}

enum { EVERY = 7 }; /* every so many-th item raises */

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

static inline bool take_from_source(void *context, void **item) {
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

static inline void *run_source_item(void *item, void *context) {
    source_item *si = item;
    source *s = context;
    atomic_fetch_add(&s->ran, 1);
    if (s->hold != NULL && (s->hold_only ? si->number == s->hold_from : si->number >= s->hold_from)) gate_pass(s->hold);
    if (si->number % EVERY == 3) return tpool_raise(si->number, "item %d", si->number);
    return (void *)(intptr_t)si->number;
}

static inline void free_source_item(void *item, void *context) {
    source_item *si = item;
    source *s = context;
    if (!pthread_equal(pthread_self(), s->consumer)) s->strange_thread = true;
    if (si->from != s || atomic_fetch_add(&si->freed, 1) != 0) atomic_fetch_add(&s->freed_twice, 1);
    atomic_fetch_add(&s->freed, 1);
    free(si);
}

static inline tpool_map_spec source_spec(source *s, size_t chunk_size, size_t buffer_size) {
    return (tpool_map_spec){ .fn = run_source_item,
                             .context = s,
                             .next = take_from_source,
                             .item_free = free_source_item,
                             .chunk_size = chunk_size,
                             .buffer_size = buffer_size };
}

/* The next item of a source: its number, or its error. */
static inline void check_source_item(tpool_map_iter *iter, int number) {
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

/* Until it shall stop, the odd ones in a forked job; each fourth ends at once, and has not been asked. */
typedef struct asked {
    int64_t begin, least; /* when the item began, about; how long it must go on */
} asked;

#endif
