/* Scenarios about map, loops and jobs, and about waits inside tasks. */
#ifndef TPOOL_TESTS_REFUSALS_LOOPS_H
#define TPOOL_TESTS_REFUSALS_LOOPS_H
#include "scenario.h"

/* ---- Scenarios: map, loops, jobs ---- */

static void *square(void *arg, void *context) {
    atomic_fetch_add((atomic_int *)context, 1);
    int value = *(int *)arg * *(int *)arg;
    return tpool_return(&value, sizeof value);
}

/* Takes results until the end, or until nothing but refusals come; checks that each comes once, and in order unless
 * the map is unordered. */
static void take_squares(tpool_map_iter *iter, int count, int most, bool unordered) {
    int delivered = 0, refusals = 0, sum = 0;
    while (delivered < most) {
        void *result = NULL;
        tpool_status status = tpool_map_next(iter, CALL_LIMIT, &result);
        if (status == TPOOL_END) {
            EXPECT(delivered == count && sum == count * (count - 1) / 2);
            break;
        }
        int number = (int)tpool_map_index(iter);
        if (status == TPOOL_OK || status == TPOOL_FAILED) {
            EXPECT(unordered || number == delivered);
            EXPECT(*(int *)tpool_map_item(iter) == number);
            sum += number;
        }
        if (status == TPOOL_OK) {
            EXPECT(result && *(int *)result == number * number);
            EXPECT(tpool_map_result_size(iter) == sizeof(int));
            delivered++;
        } else if (status == TPOOL_FAILED) {
            const tpool_error *error = NULL;
            EXPECT(!result && tpool_map_error(iter, &error) == TPOOL_OK && error && error->code == ENOMEM);
            EXPECT(atomic_load(&fault->injected) > 0);
            delivered++;
        } else { /* about this wait: nothing is consumed, and once the fault is over it goes on */
            OKAY(status, REFUSED);
            if (++refusals == 3) break;
        }
    }
    EXPECT(delivered <= count);
}

static void scenario_map_over_an_array(void) {
    enum { COUNT_OF_ITEMS = 30 };
    int numbers[COUNT_OF_ITEMS];
    atomic_int calls_made = 0;
    for (int i = 0; i < COUNT_OF_ITEMS; i++) numbers[i] = i;
    tpool *pool = pool_with((tpool_config){ .max_workers = 2 });
    if (!pool) return;
    static const struct {
        size_t chunk_size, buffer_size;
        int most;
        bool unordered;
    } ways[] = {
        { 0, 0, COUNT_OF_ITEMS + 1, false }, { 1, 5, COUNT_OF_ITEMS + 1, false },
        { 7, 0, COUNT_OF_ITEMS + 1, false }, { 3, 10, COUNT_OF_ITEMS / 2, false }, /* closed half-way */
        { 3, 10, COUNT_OF_ITEMS + 1, true }, { 1, 0, COUNT_OF_ITEMS / 2, true },
    };
    enum { WAYS = sizeof ways / sizeof ways[0] };
    for (int k = 0; k < WAYS; k++) {
        tpool_map_spec spec = { .fn = square,
                                .context = &calls_made,
                                .items = numbers,
                                .count = COUNT_OF_ITEMS,
                                .stride = sizeof numbers[0],
                                .chunk_size = ways[k].chunk_size,
                                .buffer_size = ways[k].buffer_size,
                                .unordered = ways[k].unordered };
        tpool_map_iter *iter = NULL;
        if (OKAY(tpool_map(pool, &spec, &iter), REFUSED)) {
            take_squares(iter, COUNT_OF_ITEMS, ways[k].most, ways[k].unordered);
            tpool_map_close(iter);
        } else {
            EXPECT(!iter);
        }
    }
    pool_end(pool);
    EXPECT(atomic_load(&calls_made) <= WAYS * COUNT_OF_ITEMS);
}

typedef struct source {
    int produced, limit;
    atomic_int calls_made, freed;
} source;
static bool source_next(void *context, void **given) {
    source *s = context;
    if (s->produced == s->limit) return false;
    int *number = malloc(sizeof *number);
    *number = s->produced++;
    *given = number;
    return true;
}
static void source_free(void *given, void *context) {
    atomic_fetch_add(&((source *)context)->freed, 1);
    free(given);
}
static void *square_of_source(void *arg, void *context) { return square(arg, &((source *)context)->calls_made); }

static void scenario_map_over_a_source(void) {
    enum { ITEMS = 24 };
    tpool *pool = pool_with((tpool_config){ .max_workers = 2 });
    if (!pool) return;
    for (int k = 0; k < 4; k++) {
        source s = { .limit = ITEMS };
        tpool_map_spec spec = { .fn = square_of_source,
                                .context = &s,
                                .next = source_next,
                                .item_free = source_free,
                                .chunk_size = k % 2 ? 1 : 4,
                                .buffer_size = 6,
                                .unordered = k == 1 || k == 2 };
        tpool_map_iter *iter = NULL;
        if (OKAY(tpool_map(pool, &spec, &iter), REFUSED)) {
            take_squares(iter, ITEMS, k < 2 ? ITEMS + 1 : ITEMS / 2, spec.unordered);
            tpool_map_close(iter);
        } else {
            EXPECT(!iter);
        }
        EXPECT(atomic_load(&s.freed) == s.produced); /* each item taken, once, run or not */
        EXPECT(atomic_load(&s.calls_made) <= s.produced);
    }
    pool_end(pool);
}

/* The first items run in the caller; the others there too, if they are short, or elsewhere. */
static void *slow_square_of_source(void *arg, void *context) {
    sleep_ms(2);
    return square_of_source(arg, context);
}
static void scenario_a_map_that_chooses(void) {
    enum { ITEMS = 30, SLOW_ITEMS = 8 };
    tpool_manager *manager = NULL;
    if (!OKAY(tpool_manager_create(&manager, NULL), NO_MEMORY)) return;
    for (int k = 0; k < 4; k++) {
        bool slow = k >= 2;
        int count = slow ? SLOW_ITEMS : ITEMS;
        source s = { .limit = count };
        tpool_map_spec spec = { .fn = slow ? slow_square_of_source : square_of_source,
                                .context = &s,
                                .next = source_next,
                                .item_free = source_free,
                                .buffer_size = 20,
                                .unordered = k % 2 };
        tpool_map_iter *iter = NULL;
        tpool_choice choice;
        if (OKAY(tpool_map_auto(manager, &spec, 0, &iter, &choice), REFUSED)) {
            take_squares(iter, count, k % 2 ? count / 2 : count + 1, spec.unordered);
            tpool_map_close(iter);
        } else {
            EXPECT(!iter && atomic_load(&s.calls_made) == 0); /* what has run is delivered */
        }
        EXPECT(atomic_load(&s.freed) == s.produced);
        EXPECT(atomic_load(&s.calls_made) <= s.produced);
    }
    tpool_manager_stats stats;
    OKAY(tpool_manager_get_stats(manager, &stats), 0);
    EXPECT(stats.in_use == 0);
    tpool_manager_destroy(manager);
}

enum { RANGE = 500 };
static void count_each(size_t begin, size_t end, void *context) {
    atomic_int *counts = context;
    if (begin == 0) compute_for(TPOOL_US(200)); /* so the rest is shared */
    for (size_t i = begin; i < end; i++) atomic_fetch_add(&counts[i], 1);
}
static void loop_and_check(tpool *pool, size_t grain) {
    atomic_int *counts = calloc(RANGE, sizeof *counts);
    tpool_status status = tpool_for(pool, 0, RANGE, grain, count_each, counts);
    OKAY(status, REFUSED);
    for (int i = 0; i < RANGE; i++) {
        int count = atomic_load(&counts[i]);
        if (status == TPOOL_OK) EXPECT(count == 1);
        else if (status == TPOOL_NO_MEMORY) EXPECT(count == 0); /* nothing was run */
    }
    /* After NO_THREAD parts may still run, and need the array: it stays until the pool is gone. */
    if (status == TPOOL_NO_THREAD) tpool_drain(pool, CALL_LIMIT);
    free(counts);
}
static void *loop_in_task(void *arg) {
    atomic_int *counts = arg;
    tpool_status status = tpool_for(tpool_current(), 0, RANGE, 10, count_each, counts);
    OKAY(status, REFUSED);
    return status == TPOOL_OK ? arg : NULL;
}

static void scenario_loops(void) {
    tpool *pool = pool_with((tpool_config){ .max_workers = 2 });
    if (!pool) return;
    loop_and_check(pool, 0);
    loop_and_check(pool, 7);
    atomic_int *counts = calloc(RANGE, sizeof *counts);
    tpool_future *future = NULL;
    void *looped = NULL;
    if (OKAY(tpool_submit(pool, loop_in_task, counts, &future), REFUSED)) {
        EXPECT(tpool_future_result(future, CALL_LIMIT, &looped) == TPOOL_OK);
    }
    pool_end(pool);
    for (int i = 0; i < RANGE && looped; i++) EXPECT(atomic_load(&counts[i]) == 1);
    tpool_future_release(future);
    free(counts);
}

static void *fibonacci(void *arg) {
    intptr_t n = (intptr_t)arg;
    if (n < 2) return (void *)n;
    tpool_job job;
    tpool_fork(&job, fibonacci, (void *)(n - 1));
    intptr_t smaller = (intptr_t)fibonacci((void *)(n - 2));
    return (void *)((intptr_t)tpool_join(&job) + smaller);
}

static void scenario_fork_and_join(void) {
    tpool *pool = pool_with((tpool_config){ .max_workers = 2 });
    if (!pool) return;
    tpool_future *futures[3] = { NULL };
    for (int i = 0; i < 3; i++) {
        if (OKAY(tpool_submit(pool, fibonacci, (void *)(intptr_t)12, &futures[i]), REFUSED)) {
            ENDS_WELL(futures[i], (void *)(intptr_t)144, false);
        }
    }
    pool_end(pool);
    for (int i = 0; i < 3; i++) tpool_future_release(futures[i]);
}

/* ---- Scenarios: waits inside tasks ---- */

typedef struct nested {
    tpool *pool;
    item item;
    int depth;
    int64_t timeout;
    tpool_future *never; /* if there is one: the wait is for the first of several, this among them */
} nested;

static void *nested_run(void *arg) {
    nested *n = arg;
    atomic_fetch_add(&n->item.runs, 1);
    if (n->depth == 0) return n;
    nested *inner = n - 1; /* the array holds the deepest first */
    tpool_task task = { .fn = nested_run, .arg = inner };
    tpool_future *future = NULL;
    inner->item.taken = OKAY(tpool_submit_task(n->pool, &task, &future), REFUSED);
    if (!inner->item.taken) return n;
    tpool_future *several[] = { n->never, future };
    tpool_status status = n->never ? tpool_wait(several, 2, TPOOL_FIRST_COMPLETED, n->timeout, NULL)
                                   : tpool_future_result(future, n->timeout, NULL);
    OKAY(status, BIT(TPOOL_NO_THREAD)); /* no spare worker could be had; the inner task runs after this one */
    if (status == TPOOL_OK) EXPECT(atomic_load(&inner->item.runs) == 1);
    tpool_future_release(future);
    return n;
}

static void nest_tasks(int64_t timeout, tpool_future *never) {
    enum { DEPTH = 5 };
    nested all[DEPTH] = { 0 };
    tpool_future *future = NULL;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1 });
    if (!pool) return;
    for (int i = 0; i < DEPTH; i++) all[i] = (nested){ .pool = pool, .depth = i, .timeout = timeout, .never = never };
    nested *outermost = &all[DEPTH - 1];
    outermost->item.taken = OKAY(tpool_submit(pool, nested_run, outermost, &future), REFUSED);
    if (outermost->item.taken) ENDS_WELL(future, outermost, false);
    pool_end(pool);
    for (int i = 0; i < DEPTH; i++) EXPECT(atomic_load(&all[i].item.runs) == all[i].item.taken);
    tpool_future_release(future);
}
static void scenario_waits_in_place(void) { nest_tasks(TPOOL_FOREVER, NULL); }
static void scenario_waits_with_spare_workers(void) { nest_tasks(CALL_LIMIT, NULL); }
static void scenario_waits_for_the_first(void) {
    tpool_future *never = NULL;
    if (!OKAY(tpool_future_create(&never), NO_MEMORY)) return;
    nest_tasks(TPOOL_FOREVER, never);
    tpool_future_release(never);
}

/* A task that waits for what its pool does not run, and must not hold up what its pool has queued. */
typedef struct outside {
    tpool_future *bare;
    tpool_status status;
    gate started;
} outside;
static void *wait_for_outside(void *arg) {
    outside *o = arg;
    gate_pass(&o->started);
    o->status = tpool_future_result(o->bare, TPOOL_FOREVER, NULL);
    return o;
}

static void scenario_a_wait_for_something_outside(void) {
    outside o = { .started = GATE_CLOSED };
    item behind = { 0 };
    tpool_future *waits = NULL, *runs = NULL;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1 });
    if (!pool) return;
    gate_open(&o.started);
    if (OKAY(tpool_future_create(&o.bare), NO_MEMORY)) {
        if (OKAY(tpool_submit(pool, wait_for_outside, &o, &waits), REFUSED)) {
            /* Either a spare worker runs it, or the wait gives NO_THREAD, and its own worker does. */
            if (submit_item(pool, &behind, 0, (tpool_task){ 0 }, &runs, REFUSED)) ENDS_WELL(runs, &behind, false);
            EXPECT(tpool_future_set_result(o.bare, NULL) == TPOOL_OK);
            ENDS_WELL(waits, &o, false);
            OKAY(o.status, BIT(TPOOL_NO_THREAD));
        }
    }
    pool_end(pool);
    CHECK_ITEMS(&behind, 1, ALL_RAN);
    tpool_future_release(o.bare);
    tpool_future_release(waits);
    tpool_future_release(runs);
}
#endif
