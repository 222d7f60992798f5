/* Scenarios about ends of every kind, and about sets of futures, maps and loops that fail. */
#ifndef TPOOL_TESTS_REFUSALS_ENDS_H
#define TPOOL_TESTS_REFUSALS_ENDS_H
#include "scenario.h"

/* ---- Scenarios: ends of every kind ---- */

static void *raise_now(void *arg) {
    (void)arg;
    return tpool_raise(7, "%s", "it cannot be done");
}
static void *return_then_raise(void *arg) {
    tpool_return_owned(arg, count_free);
    return tpool_raise(7, NULL);
}
static void *return_then_end_thread(void *arg) {
    tpool_return_owned(arg, count_free);
    pthread_exit(NULL);
}
static void count_any_failure(const tpool_error *error, void *context) {
    EXPECT(error && error->message);
    atomic_fetch_add((atomic_int *)context, 1);
}
static void scenario_failures_that_nobody_asks_for(void) {
    atomic_int failures = 0, freed = 0;
    gate g = GATE_CLOSED;
    item late = { 0 };
    int fail = 0, own = 0;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1, .on_failure = count_any_failure, .context = &failures });
    if (!pool) return;
    tpool_task named = { .fn = return_then_raise, .arg = &freed, .name = "named" };
    fail += OKAY(tpool_submit(pool, raise_now, NULL, NULL), REFUSED);
    own += OKAY(tpool_submit(pool, return_owned, &freed, NULL), REFUSED);
    own += OKAY(tpool_submit_task(pool, &named, NULL), REFUSED);
    fail += own == 2;
    if (hold(pool, &g)) {
        fail += submit_item(pool, &late, 300, (tpool_task){ .expires_ns = TPOOL_US(50) }, NULL, REFUSED);
        int64_t end = tpool_now() + TPOOL_US(200);
        while (tpool_now() < end) sched_yield();
    }
    gate_open(&g);
    bool drained = OKAY(tpool_drain(pool, CALL_LIMIT), BIT(TPOOL_NO_THREAD));
    named.fn = return_then_end_thread;
    bool ends = OKAY(tpool_submit_task(pool, &named, NULL), REFUSED);
    own += ends;
    fail += ends;
    pool_end(pool);
    EXPECT(!drained || atomic_load(&failures) >= fail); /* more: out of memory while returning is a failure too */
    EXPECT(atomic_load(&freed) == own);
    CHECK_ITEMS(&late, 1, SOME_RAN);
}

typedef struct buried {
    tpool *pool;
    atomic_int freed;
    int owned;
    tpool_future *inner;
} buried;
static void *end_thread_owning(void *arg) {
    buried *b = arg;
    b->owned++;
    tpool_return_owned(&b->freed, count_free);
    pthread_exit(NULL);
}
static void *wait_for_ender(void *arg) {
    buried *b = arg;
    b->owned++;
    tpool_return_owned(&b->freed, count_free);
    if (OKAY(tpool_submit(b->pool, end_thread_owning, b, &b->inner), REFUSED))
        (void)tpool_future_result(b->inner, TPOOL_FOREVER, NULL); /* in place, so that both end */
    return NULL;
}
static void scenario_a_thread_ends_beneath_two_tasks(void) {
    buried b = { .owned = 0 };
    tpool_future *outer = NULL;
    b.pool = pool_with((tpool_config){ .max_workers = 1 });
    if (!b.pool) return;
    if (OKAY(tpool_submit(b.pool, wait_for_ender, &b, &outer), REFUSED)) {
        tpool_status status = tpool_future_result(outer, CALL_LIMIT, NULL);
        EXPECT(status == TPOOL_BROKEN || atomic_load(&fault->injected) > 0);
        if (b.inner) EXPECT(tpool_future_result(b.inner, CALL_LIMIT, NULL) == TPOOL_BROKEN);
    }
    pool_end(b.pool);
    tpool_future_release(b.inner);
    tpool_future_release(outer);
    EXPECT(atomic_load(&b.freed) == b.owned);
}

static void count_stop(void *woken) { atomic_fetch_add((atomic_int *)woken, 1); }
static void *run_until_stopped(void *arg) {
    atomic_int woken = 0;
    bool registered = OKAY(tpool_on_stop(count_stop, &woken), NO_MEMORY);
    /* where the system refuses the thread that keeps times, wake comes with the next call that waits: here is none */
    while (registered && !atomic_load(&woken) && CALL_LIMIT > 0 &&
           !(tpool_stop_requested() && atomic_load(&fault->injected) > 0))
        sched_yield();
    if (registered) OKAY(tpool_on_stop(count_stop, &woken), NO_MEMORY);
    while (!tpool_stop_requested() && CALL_LIMIT > 0) sched_yield();
    return item_run(arg);
}
static void scenario_limits_stops_and_cancels(void) {
    item limited = { 0 }, stopped = { 0 }, cancelled = { 0 };
    tpool_future *limit = NULL, *stop = NULL, *cancel = NULL;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1 });
    if (!pool) return;
    tpool_task task = { .fn = run_until_stopped, .arg = &limited, .arg_free = item_free, .run_limit_ns = TPOOL_US(10) };
    limited.taken = OKAY(tpool_submit_task(pool, &task, &limit), REFUSED);
    task = (tpool_task){ .fn = run_until_stopped, .arg = &stopped, .arg_free = item_free };
    stopped.taken = OKAY(tpool_submit_task(pool, &task, &stop), REFUSED);
    submit_item(pool, &cancelled, 30, (tpool_task){ .priority = -1 }, &cancel, REFUSED);
    if (cancel) {
        tpool_future *again = tpool_future_retain(cancel);
        if (tpool_future_cancel(cancel)) EXPECT(tpool_future_cancelled(again));
        tpool_future_release(again);
    }
    tpool_future_request_stop(stop);
    if (limit) ENDS_WELL(limit, &limited, false);
    if (stop) ENDS_WELL(stop, &stopped, false);
    pool_end(pool);
    tpool_future_release(limit);
    tpool_future_release(stop);
    tpool_future_release(cancel);
    CHECK_ITEMS(&limited, 1, ALL_RAN);
    CHECK_ITEMS(&stopped, 1, ALL_RAN);
    CHECK_ITEMS(&cancelled, 1, SOME_RAN);
}

/* ---- Scenarios: sets of futures in tasks, maps and loops that fail ---- */

static void *yield_all(void *arg) {
    parent *p = arg;
    tpool_completions *completions = NULL;
    p->taken = submit_some(p->pool, p->items, 40, p->futures);
    if (!OKAY(tpool_as_completed(p->futures, (size_t)p->taken, &completions), NO_MEMORY)) return p;
    tpool_future *bare = NULL;
    size_t left = (size_t)p->taken;
    if (OKAY(tpool_future_create(&bare), NO_MEMORY)) {
        left += OKAY(tpool_completions_add(completions, bare), NO_MEMORY);
        EXPECT(tpool_future_set_result(bare, NULL) == TPOOL_OK);
        tpool_future_release(bare);
    }
    for (; left > 0; left--) {
        tpool_future *next = NULL;
        if (!OKAY(tpool_completions_next(completions, CALL_LIMIT, &next), BIT(TPOOL_NO_THREAD))) break;
    }
    tpool_completions_destroy(completions);
    return p;
}
static void scenario_completions_in_a_task(void) {
    static parent p;
    memset(&p, 0, sizeof p);
    tpool_future *future = NULL;
    p.pool = pool_with((tpool_config){ .max_workers = 1 });
    if (!p.pool) return;
    if (OKAY(tpool_submit(p.pool, yield_all, &p, &future), REFUSED)) ENDS_WELL(future, &p, false);
    pool_end(p.pool);
    for (int i = 0; i < p.taken; i++) tpool_future_release(p.futures[i]);
    tpool_future_release(future);
    CHECK_ITEMS(p.items, 40, ALL_RAN);
}

static void *raise_or_own(void *arg, void *context) {
    int number = *(int *)arg;
    if (number % 3 == 0) return tpool_raise(7, "number %d", number);
    if (number % 3 == 1) return tpool_return_owned(context, count_free);
    return context;
}
static void *map_in_task(void *arg) {
    parent *p = arg;
    enum { NUMBERS = 20 };
    int numbers[NUMBERS];
    atomic_int freed = 0;
    for (int i = 0; i < NUMBERS; i++) numbers[i] = i;
    tpool_map_spec spec = { .fn = raise_or_own,
                            .context = &freed,
                            .items = numbers,
                            .count = NUMBERS,
                            .stride = sizeof *numbers,
                            .chunk_size = 3,
                            .buffer_size = 7 };
    tpool_map_iter *iter = NULL;
    if (!OKAY(tpool_map(p->pool, &spec, &iter), REFUSED)) return p;
    for (int i = 0; i < NUMBERS;) {
        void *result = NULL;
        const tpool_error *error = NULL;
        tpool_status status = tpool_map_next(iter, TPOOL_FOREVER, &result);
        if (status == TPOOL_FAILED)
            EXPECT(tpool_map_error(iter, &error) == TPOOL_OK && error && (error->code == 7 || error->code == ENOMEM));
        else if (status != TPOOL_OK && !OKAY(status, REFUSED)) break;
        i += status == TPOOL_OK || status == TPOOL_FAILED;
        if (status == TPOOL_NO_MEMORY && fault->is == ALLOCATIONS_FROM) break;
    }
    tpool_map_close(iter);
    return p;
}
static void scenario_a_map_in_a_task_whose_items_fail(void) {
    static parent p;
    memset(&p, 0, sizeof p);
    tpool_future *future = NULL;
    p.pool = pool_with((tpool_config){ .max_workers = 2 });
    if (!p.pool) return;
    if (OKAY(tpool_submit(p.pool, map_in_task, &p, &future), REFUSED)) ENDS_WELL(future, &p, false);
    pool_end(p.pool);
    tpool_future_release(future);
}

static void raise_in_part(size_t begin, size_t end, void *context) {
    if (begin == 0) compute_for(TPOOL_US(200)); /* so the rest is shared */
    if (begin <= 100 && 100 < end) tpool_raise(7, "at %d", 100);
    atomic_fetch_add((atomic_int *)context, (int)(end - begin));
}
static void scenario_a_loop_that_fails(void) {
    atomic_int counts = 0;
    tpool *pool = pool_with((tpool_config){ .max_workers = 2 });
    if (!pool) return;
    for (int grain = 0; grain < 10; grain += 5) {
        tpool_status status = tpool_for(pool, 0, RANGE, (size_t)grain, raise_in_part, &counts);
        if (status != TPOOL_FAILED) EXPECT(!OKAY(status, REFUSED)); /* it is never taken for a success */
    }
    OKAY(tpool_drain(pool, CALL_LIMIT), BIT(TPOOL_NO_THREAD));
    pool_end(pool);
    EXPECT(atomic_load(&counts) <= 2 * RANGE);
}

/* A helper of a loop in a loop ends its thread, while the task's own thread is in both. */
typedef struct loops {
    tpool *pool;
    pthread_t own;
    atomic_bool helped;
} loops;
static void end_if_helper(size_t begin, size_t end, void *context) {
    loops *l = context;
    (void)begin, (void)end;
    if (!pthread_equal(pthread_self(), l->own)) {
        atomic_store(&l->helped, true);
        pthread_exit(NULL);
    }
    while (!atomic_load(&l->helped) && atomic_load(&fault->injected) == 0) sched_yield();
}
static void loop_within(size_t begin, size_t end, void *context) {
    loops *l = context;
    (void)begin, (void)end;
    tpool_status status = tpool_for(l->pool, 0, 2, 1, end_if_helper, l);
    EXPECT(status == TPOOL_BROKEN || atomic_load(&fault->injected) > 0);
}
static void *loop_in_loop(void *arg) {
    loops *l = arg;
    l->own = pthread_self();
    tpool_status status = tpool_for(l->pool, 0, 1, 1, loop_within, l);
    EXPECT(status == TPOOL_BROKEN || atomic_load(&fault->injected) > 0);
    return arg;
}
static void scenario_a_helper_of_a_loop_in_a_loop_ends_its_thread(void) {
    loops l = { .pool = NULL };
    tpool_future *future = NULL;
    l.pool = pool_with((tpool_config){ .max_workers = 2 });
    if (!l.pool) return;
    tpool_task task = { .fn = loop_in_loop, .arg = &l, .name = "loops" };
    if (OKAY(tpool_submit_task(l.pool, &task, &future), REFUSED)) {
        tpool_status status = tpool_future_result(future, CALL_LIMIT, NULL);
        EXPECT(status == TPOOL_BROKEN || atomic_load(&fault->injected) > 0);
    }
    pool_end(l.pool);
    tpool_future_release(future);
}
#endif
