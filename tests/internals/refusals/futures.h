/* Scenarios about callbacks, futures of the program, and many futures. */
#ifndef TPOOL_TESTS_REFUSALS_FUTURES_H
#define TPOOL_TESTS_REFUSALS_FUTURES_H
#include "scenario.h"

/* ---- Scenarios: callbacks and futures of the program ---- */

typedef struct calls {
    bool in_order; /* all are added before the future is done, and so run one after the other */
    atomic_int last;
} calls;
typedef struct call {
    calls *calls;
    int number;
    bool added;
    atomic_int ran;
} call;
static void note_call(tpool_future *future, void *context) {
    call *c = context;
    EXPECT(tpool_future_done(future));
    int last = atomic_exchange(&c->calls->last, c->number);
    EXPECT(!c->calls->in_order || c->number > last);
    atomic_fetch_add(&c->ran, 1);
}
enum { CALLS = 20 };
static void add_calls(tpool_future *future, bool in_order, calls *all, call *each) {
    all->in_order = in_order;
    atomic_store(&all->last, -1);
    for (int i = 0; i < CALLS; i++) {
        each[i] = (call){ .calls = all, .number = i };
        each[i].added = OKAY(tpool_future_add_done_callback(future, note_call, &each[i]), NO_MEMORY);
    }
}
static void check_calls(int line, const call *each) {
    for (int i = 0; i < CALLS; i++) {
        bool added = each[i].added;
        if (atomic_load(&each[i].ran) != added) report(line, "a callback", added ? "was not run once" : "was run");
    }
}

static void scenario_callbacks(void) {
    enum { RUNS, CANCELS, BARE, WAYS };
    calls all[WAYS] = { { 0 } };
    call each[WAYS][CALLS] = { 0 };
    tpool_future *runs = NULL, *cancels = NULL, *bare = NULL, *never = NULL;
    gate g = GATE_CLOSED;
    item items[2] = { 0 };
    tpool *pool = pool_with((tpool_config){ .max_workers = 1 });
    if (!pool) return;
    bool held = hold(pool, &g);
    if (submit_item(pool, &items[0], 0, (tpool_task){ 0 }, &runs, REFUSED)) {
        add_calls(runs, held, &all[RUNS], each[RUNS]);
    }
    if (submit_item(pool, &items[1], 50, (tpool_task){ 0 }, &cancels, REFUSED)) {
        add_calls(cancels, held, &all[CANCELS], each[CANCELS]);
        if (tpool_future_cancel(cancels)) EXPECT(atomic_load(&items[1].runs) == 0);
    }
    if (OKAY(tpool_future_create(&bare), NO_MEMORY)) {
        add_calls(bare, true, &all[BARE], each[BARE]);
        EXPECT(tpool_future_set_result(bare, NULL) == TPOOL_OK);
    }
    if (OKAY(tpool_future_create(&never), NO_MEMORY)) { /* released with its callbacks, which never run */
        call unused[CALLS];
        calls none = { 0 };
        add_calls(never, true, &none, unused);
        tpool_future_release(never);
        for (int i = 0; i < CALLS; i++) EXPECT(atomic_load(&unused[i].ran) == 0);
    }
    gate_open(&g);
    pool_end(pool);
    for (int way = 0; way < WAYS; way++) check_calls(__LINE__, each[way]);
    CHECK_ITEMS(items, 2, SOME_RAN);
    tpool_future_release(runs);
    tpool_future_release(cancels);
    tpool_future_release(bare);
}

static void count_owned(void *result) { atomic_fetch_add((atomic_int *)result, 1); }
static void scenario_futures_of_the_program(void) {
    tpool_future *good = NULL, *bad = NULL, *unused = NULL;
    if (OKAY(tpool_future_create(&good), NO_MEMORY)) {
        EXPECT(tpool_future_set_running(good) == TPOOL_OK);
        EXPECT(tpool_future_set_result(good, &good) == TPOOL_OK);
        ENDS_WELL(good, &good, false);
    } else {
        EXPECT(!good);
    }
    if (OKAY(tpool_future_create(&bad), NO_MEMORY)) {
        const tpool_error *error = NULL;
        bool told = OKAY(tpool_future_set_error(bad, 5, "%0*d", 5000, 1), NO_MEMORY);
        EXPECT(tpool_future_result(bad, 0, NULL) == TPOOL_FAILED); /* completed all the same */
        EXPECT(tpool_future_error(bad, 0, &error) == TPOOL_OK && error);
        if (error)
            EXPECT(error->code == (told ? 5 : ENOMEM) &&
                   (told ? strlen(error->message) == 5000 || unformatted(error) : error->message[0] != 0));
        EXPECT(tpool_future_set_result(bad, NULL) == TPOOL_INVALID_STATE);
    }
    OKAY(tpool_future_create(&unused), NO_MEMORY);
    if (unused) {
        bool told = OKAY(tpool_future_set_error_text(unused, 6, "%s"), NO_MEMORY);
        EXPECT(tpool_future_result(unused, 0, NULL) == TPOOL_FAILED);
        EXPECT(told ? strcmp(tpool_future_message(unused), "%s") == 0 : tpool_future_message(unused)[0] != 0);
    }
    tpool_future_release(unused);
    unused = NULL;
    OKAY(tpool_future_create(&unused), NO_MEMORY);
    if (unused) { /* the result is freed once, and a future without memory for it has failed */
        static atomic_int freed;
        void *result = &result;
        atomic_store(&freed, 0);
        bool told = OKAY(tpool_future_set_result_owned(unused, &freed, count_owned), NO_MEMORY);
        EXPECT(tpool_future_result(unused, 0, &result) == (told ? TPOOL_OK : TPOOL_FAILED));
        EXPECT(result == (told ? (void *)&freed : NULL) && atomic_load(&freed) == (told ? 0 : 1));
        tpool_future_release(unused);
        EXPECT(atomic_load(&freed) == 1);
        unused = NULL;
    }
    OKAY(tpool_future_create(&unused), NO_MEMORY);
    tpool_future_release(good);
    tpool_future_release(bad);
    tpool_future_release(unused);
}

/* ---- Scenarios: many futures ---- */

static int submit_some(tpool *pool, item *items, int count, tpool_future **futures) {
    int taken = 0;
    memset(items, 0, (size_t)count * sizeof *items);
    for (int i = 0; i < count; i++) {
        tpool_future *future = NULL;
        if (submit_item(pool, &items[i], 0, (tpool_task){ 0 }, &future, REFUSED)) futures[taken++] = future;
    }
    return taken;
}

static void scenario_wait(void) {
    enum { TASKS = 40 };
    static item items[TASKS];
    tpool_return_when whens[] = { TPOOL_FIRST_COMPLETED, TPOOL_FIRST_EXCEPTION, TPOOL_ALL_COMPLETED };
    tpool_future *futures[TASKS] = { NULL };
    gate g = GATE_CLOSED;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1 });
    if (!pool) return;
    bool held = hold(pool, &g);
    int taken = submit_some(pool, items, TASKS, futures);
    /* First while nothing can end, so that each wait must be set up and taken down again. */
    for (int k = 0; k < 3 && held && taken > 0; k++) {
        size_t done = 1;
        unsigned also = whens[k] == TPOOL_ALL_COMPLETED ? 0 : NO_MEMORY; /* to wait for all needs none */
        tpool_status status = tpool_wait(futures, (size_t)taken, whens[k], TPOOL_US(200), &done);
        if (status != TPOOL_TIMEOUT) {
            EXPECT(status != TPOOL_OK);
            OKAY(status, also);
        }
        if (status == TPOOL_TIMEOUT) EXPECT(done == 0);
    }
    gate_open(&g);
    for (int k = 0; k < 3 && taken > 0; k++) {
        size_t done = 0;
        unsigned also = whens[k] == TPOOL_ALL_COMPLETED ? 0 : NO_MEMORY;
        if (OKAY(tpool_wait(futures, (size_t)taken, whens[k], CALL_LIMIT, &done), also)) EXPECT(done >= 1);
    }
    pool_end(pool);
    for (int i = 0; i < taken; i++) {
        EXPECT(tpool_future_result(futures[i], 0, NULL) == TPOOL_OK);
        tpool_future_release(futures[i]);
    }
    CHECK_ITEMS(items, TASKS, ALL_RAN);
}

static void scenario_as_completed(void) {
    enum { TASKS = 100 };
    static item items[TASKS];
    tpool_future *futures[2 * TASKS] = { NULL };
    gate g = GATE_CLOSED;
    tpool *pool = pool_with((tpool_config){ .max_workers = 2 });
    if (!pool) return;
    hold(pool, &g);
    int taken = submit_some(pool, items, TASKS, futures);
    for (int i = 0; i < taken; i++) futures[taken + i] = futures[i]; /* each twice, and yielded once */
    tpool_completions *completions = NULL;
    bool started = OKAY(tpool_as_completed(futures, 2 * (size_t)taken, &completions), NO_MEMORY);
    EXPECT(started == (completions != NULL));
    gate_open(&g);
    if (started) {
        static bool yielded[TASKS];
        memset(yielded, 0, sizeof yielded);
        EXPECT(tpool_completions_remaining(completions) == (size_t)taken);
        for (int n = 0; n < taken; n++) {
            tpool_future *next = NULL;
            if (!OKAY(tpool_completions_next(completions, CALL_LIMIT, &next), 0)) break;
            size_t index = tpool_completions_index(completions);
            EXPECT(index < (size_t)taken && futures[index] == next && !yielded[index] && tpool_future_done(next));
            if (index < (size_t)taken) yielded[index] = true;
        }
        tpool_future *none = NULL;
        EXPECT(tpool_completions_next(completions, 0, &none) == TPOOL_END && !none);
        tpool_completions_destroy(completions);
    }
    /* One that is given up while most are still to come. */
    completions = NULL;
    if (OKAY(tpool_as_completed(futures, (size_t)taken, &completions), NO_MEMORY)) {
        tpool_future *next = NULL;
        if (taken > 0) OKAY(tpool_completions_next(completions, CALL_LIMIT, &next), 0);
        tpool_completions_destroy(completions);
    }
    pool_end(pool);
    for (int i = 0; i < taken; i++) tpool_future_release(futures[i]);
    CHECK_ITEMS(items, TASKS, ALL_RAN);
}

/* Each submit adds its task, or is refused and adds nothing. */
static void scenario_submits_that_add_to_completions(void) {
    enum { TASKS = 80, CAPACITY = 50 };
    static item items[3 * TASKS];
    memset(items, 0, sizeof items);
    static const tpool_full_policy policies[3] = { TPOOL_FULL_REJECT, TPOOL_FULL_CALLER_RUNS, TPOOL_FULL_DROP_OLDEST };
    for (int p = 0; p < 3; p++) {
        gate g = GATE_CLOSED;
        tpool_completions *completions = NULL;
        tpool *pool = pool_with((tpool_config){ .max_workers = 1, .queue_capacity = CAPACITY, .on_full = policies[p] });
        if (!pool) continue;
        (void)hold(pool, &g);
        if (OKAY(tpool_as_completed(NULL, 0, &completions), NO_MEMORY)) {
            size_t added = 0;
            for (int i = 0; i < TASKS; i++) {
                item *address = &items[p * TASKS + i];
                tpool_future *future = NULL;
                tpool_task task = {
                    .fn = item_run_copy,
                    .arg = &address,
                    .arg_size = sizeof address,
                    .arg_free = item_free_copy,
                    .expires_ns = i % 3 ? 0 : TPOOL_SEC(10000),
                    .completions = completions,
                };
                tpool_status status = tpool_submit_task(pool, &task, i % 2 ? &future : NULL);
                address->taken = status == TPOOL_OK;
                if (policies[p] != TPOOL_FULL_REJECT || status != TPOOL_FULL) OKAY(status, REFUSED);
                EXPECT((status == TPOOL_OK && i % 2) == (future != NULL));
                added += status == TPOOL_OK;
                EXPECT(tpool_completions_remaining(completions) == added);
                tpool_future_release(future);
            }
            gate_open(&g);
            for (size_t n = 0; n < added; n++) {
                tpool_future *next = NULL;
                if (!OKAY(tpool_completions_next(completions, CALL_LIMIT, &next), 0)) break;
                tpool_status end = tpool_future_result(next, 0, NULL);
                EXPECT(end == TPOOL_OK || (policies[p] == TPOOL_FULL_DROP_OLDEST && end == TPOOL_CANCELLED));
            }
            tpool_future *none = NULL;
            EXPECT(tpool_completions_next(completions, 0, &none) == TPOOL_END && !none);
            tpool_completions_destroy(completions);
        }
        gate_open(&g);
        pool_end(pool);
    }
    CHECK_ITEMS(items, 3 * TASKS, SOME_RAN);
}

static void scenario_completions_that_grow(void) {
    enum { TASKS = 80 };
    static item items[TASKS];
    tpool_future *futures[TASKS] = { NULL };
    gate g = GATE_CLOSED;
    tpool_completions *completions = NULL;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1 });
    if (!pool) return;
    hold(pool, &g);
    int taken = submit_some(pool, items, TASKS, futures);
    if (OKAY(tpool_as_completed(NULL, 0, &completions), NO_MEMORY)) {
        size_t added = 0;
        for (int i = 0; i < taken; i++) {
            if (OKAY(tpool_completions_add(completions, futures[i]), NO_MEMORY)) added++;
            EXPECT(tpool_completions_remaining(completions) == added);
            tpool_future_release(futures[i]); /* what it was given, it holds itself */
        }
        gate_open(&g);
        for (size_t n = 0; n < added; n++) {
            tpool_future *next = NULL;
            if (!OKAY(tpool_completions_next(completions, CALL_LIMIT, &next), 0)) break;
            EXPECT(tpool_future_result(next, 0, NULL) == TPOOL_OK);
        }
        EXPECT(tpool_completions_remaining(completions) == 0);
        tpool_completions_destroy(completions);
    } else {
        gate_open(&g);
        for (int i = 0; i < taken; i++) tpool_future_release(futures[i]);
    }
    pool_end(pool);
    CHECK_ITEMS(items, TASKS, ALL_RAN);
}
#endif
