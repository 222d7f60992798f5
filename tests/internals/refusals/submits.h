/* Scenarios about submitting, full queues, and what tasks leave. */
#ifndef TPOOL_TESTS_REFUSALS_SUBMITS_H
#define TPOOL_TESTS_REFUSALS_SUBMITS_H
#include "scenario.h"

/* ---- Scenarios: submitting ---- */

static void scenario_submit_and_result(void) {
    enum { TASKS = 5 };
    item items[TASKS] = { 0 };
    tpool_future *futures[TASKS] = { NULL };
    tpool *pool = pool_with((tpool_config){ .max_workers = 2 });
    if (!pool) return;
    for (int i = 0; i < TASKS; i++) {
        items[i].taken = OKAY(tpool_submit(pool, item_run, &items[i], &futures[i]), REFUSED);
        EXPECT(items[i].taken == (futures[i] != NULL));
        if (items[i].taken) ENDS_WELL(futures[i], &items[i], false);
    }
    pool_end(pool);
    for (int i = 0; i < TASKS; i++) {
        EXPECT(atomic_load(&items[i].runs) == items[i].taken);
        tpool_future_release(futures[i]);
    }
}

static void scenario_many_without_futures(void) {
    enum { TASKS = 300 };
    static item items[TASKS];
    memset(items, 0, sizeof items);
    tpool *pool = pool_with((tpool_config){ .max_workers = 2 });
    if (!pool) return;
    for (int i = 0; i < TASKS; i++) {
        if (i % 2) submit_item(pool, &items[i], 0, (tpool_task){ 0 }, NULL, REFUSED);
        else items[i].taken = OKAY(tpool_submit(pool, item_run, &items[i], NULL), REFUSED);
    }
    pool_end(pool);
    for (int i = 0; i < TASKS; i++) {
        EXPECT(atomic_load(&items[i].runs) == items[i].taken);
        EXPECT(atomic_load(&items[i].frees) == (items[i].taken && i % 2));
    }
}

static void scenario_copies_names_and_expiry(void) {
    static const size_t sizes[] = { 0, 8, 24, 100, 300, 5000 };
    enum { SIZES = sizeof sizes / sizeof sizes[0], TASKS = 4 * SIZES };
    item items[TASKS] = { 0 }, late[2] = { 0 };
    tpool_future *futures[TASKS] = { NULL }, *expired = NULL;
    gate g = GATE_CLOSED;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1 });
    if (!pool) return;
    bool held = hold(pool, &g);
    for (int i = 0; i < TASKS; i++) {
        tpool_task like = { .name = i % 2 ? "named" : NULL, .expires_ns = i % 3 ? TPOOL_SEC(1000) : 0 };
        submit_item(pool, &items[i], sizes[i % SIZES], like, i < TASKS / 2 ? &futures[i] : NULL, REFUSED);
    }
    if (held) { /* one expires by a wait for it, one at its turn */
        tpool_task like = { .name = "expires", .expires_ns = TPOOL_US(100) };
        if (submit_item(pool, &late[0], 100, like, &expired, REFUSED)) {
            EXPECT(tpool_future_result(expired, CALL_LIMIT, NULL) == TPOOL_EXPIRED);
            const tpool_error *error = NULL;
            EXPECT(tpool_future_error(expired, 0, &error) == TPOOL_OK && error && error->status == TPOOL_EXPIRED);
        }
        submit_item(pool, &late[1], 0, like, NULL, REFUSED);
        int64_t end = tpool_now() + TPOOL_MS(1);
        while (tpool_now() < end) sched_yield();
    }
    gate_open(&g);
    for (int i = 0; i < TASKS / 2; i++)
        if (items[i].taken) ENDS_WELL(futures[i], &items[i], false);
    pool_end(pool);
    for (int i = 0; i < TASKS; i++) tpool_future_release(futures[i]);
    tpool_future_release(expired);
    CHECK_ITEMS(items, TASKS, ALL_RAN);
    CHECK_ITEMS(late, 2, NONE_RAN);
}

static void scenario_submit_many(void) {
    enum { TASKS = 150 };
    static item items[TASKS];
    tpool_task tasks[TASKS];
    tpool_future *futures[TASKS];
    item *addresses[TASKS];
    memset(items, 0, sizeof items);
    for (int i = 0; i < TASKS; i++) {
        addresses[i] = &items[i];
        tasks[i] = (tpool_task){
            .fn = item_run_copy, .arg = &addresses[i], .arg_size = sizeof addresses[i], .arg_free = item_free_copy
        };
        futures[i] = (tpool_future *)&items[i];
    }
    tpool *pool = pool_with((tpool_config){ .max_workers = 2 });
    if (!pool) return;
    size_t submitted = 12345;
    bool all = OKAY(tpool_submit_many(pool, tasks, TASKS, futures, &submitted), REFUSED);
    EXPECT(all ? submitted == TASKS : submitted < TASKS);
    for (size_t i = 0; i < TASKS; i++) {
        items[i].taken = i < submitted;
        EXPECT((futures[i] != NULL) == items[i].taken);
        if (items[i].taken) ENDS_WELL(futures[i], &items[i], false);
    }
    ALL_HAVE_RUN(pool, items, futures, TASKS);
}

static void scenario_run_with_timeout(void) {
    item good = { 0 }, queued = { 0 };
    item *good_address = &good;
    gate g = GATE_CLOSED;
    tpool_future *future = NULL;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1 });
    if (!pool) return;
    tpool_task task = { .fn = item_run_copy,
                        .arg = &good_address,
                        .arg_size = sizeof good_address,
                        .arg_free = item_free_copy,
                        .name = "in time" };
    good.taken = OKAY(tpool_run_with_timeout(pool, &task, CALL_LIMIT, &future), REFUSED);
    EXPECT(good.taken == (future != NULL));
    if (future) ENDS_WELL(future, &good, false);
    tpool_future_release(future);
    future = NULL;
    if (hold(pool, &g)) {
        task = (tpool_task){ .fn = item_run, .arg = &queued, .arg_free = item_free };
        tpool_status status = tpool_run_with_timeout(pool, &task, TPOOL_MS(1), &future);
        queued.taken = future != NULL;
        if (queued.taken) EXPECT(status == TPOOL_TIMEOUT && tpool_future_cancelled(future));
        else OKAY(status, REFUSED);
        tpool_future_release(future);
    }
    gate_open(&g);
    pool_end(pool);
    CHECK_ITEMS(&good, 1, ALL_RAN);
    CHECK_ITEMS(&queued, 1, NONE_RAN);
}

static void scenario_priorities(void) {
    enum { TASKS = 100 };
    static item items[TASKS];
    memset(items, 0, sizeof items);
    tpool_future *futures[TASKS] = { NULL };
    gate g = GATE_CLOSED;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1 });
    if (!pool) return;
    hold(pool, &g);
    for (int i = 0; i < TASKS; i++) {
        tpool_task like = { .priority = i % 7 - 3 };
        submit_item(pool, &items[i], i % 5 ? 0 : 64, like, i % 2 ? &futures[i] : NULL, REFUSED);
    }
    gate_open(&g);
    for (int i = 1; i < TASKS; i += 2)
        if (items[i].taken) ENDS_WELL(futures[i], &items[i], false);
    ALL_HAVE_RUN(pool, items, futures, TASKS);
}

/* ---- Scenarios: full queues ---- */

static void full_queue(tpool_full_policy policy) {
    enum { TASKS = 12, CAPACITY = 3 };
    item items[TASKS] = { 0 };
    tpool_future *futures[TASKS] = { NULL };
    gate g = GATE_CLOSED;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1, .queue_capacity = CAPACITY, .on_full = policy });
    if (!pool) return;
    bool held = policy != TPOOL_FULL_BLOCK && hold(pool, &g); /* a submitter that waits needs a worker at work */
    int taken = 0, full = 0;
    for (int i = 0; i < TASKS; i++) {
        item *address = &items[i];
        tpool_task task = {
            .fn = item_run_copy, .arg = &address, .arg_size = sizeof address, .arg_free = item_free_copy
        };
        tpool_status status = tpool_submit_task(pool, &task, &futures[i]);
        items[i].taken = status == TPOOL_OK;
        EXPECT(items[i].taken == (futures[i] != NULL));
        if (status == TPOOL_FULL) full++;
        else if (OKAY(status, REFUSED)) taken++;
        if (!items[i].taken) EXPECT(atomic_load(&items[i].frees) == 0);
        if (held && policy == TPOOL_FULL_CALLER_RUNS && taken > CAPACITY && items[i].taken) {
            EXPECT(tpool_future_done(futures[i]));
        }
    }
    if (policy == TPOOL_FULL_REJECT) EXPECT(!held || taken <= CAPACITY);
    else EXPECT(full == 0);
    gate_open(&g);
    pool_end(pool);
    int cancelled = 0;
    for (int i = 0; i < TASKS; i++) {
        if (!items[i].taken) continue;
        tpool_status status = tpool_future_result(futures[i], 0, NULL);
        if (status == TPOOL_CANCELLED) cancelled++;
        EXPECT(status == (atomic_load(&items[i].runs) ? TPOOL_OK : TPOOL_CANCELLED));
        tpool_future_release(futures[i]);
    }
    if (policy == TPOOL_FULL_DROP_OLDEST && held) EXPECT(taken - cancelled <= CAPACITY);
    if (policy != TPOOL_FULL_DROP_OLDEST) EXPECT(cancelled == 0);
    CHECK_ITEMS(items, TASKS, SOME_RAN);
}
static void scenario_full_queue_that_blocks(void) { full_queue(TPOOL_FULL_BLOCK); }
static void scenario_full_queue_that_rejects(void) { full_queue(TPOOL_FULL_REJECT); }
static void scenario_full_queue_whose_caller_runs(void) { full_queue(TPOOL_FULL_CALLER_RUNS); }
static void scenario_full_queue_that_drops(void) { full_queue(TPOOL_FULL_DROP_OLDEST); }

/* ---- Scenarios: what tasks leave ---- */

enum { LONG = 10000 };
static void *raise_of_length(void *arg) {
    int length = *(int *)arg;
    char *text = malloc((size_t)length + 1);
    memset(text, 'e', (size_t)length);
    text[length] = 0;
    tpool_raise(7, "%s", text);
    free(text);
    return arg;
}
static void count_failure(const tpool_error *error, void *context) {
    EXPECT(error->status == TPOOL_FAILED && (error->code == 7 || error->code == ENOMEM) && error->message);
    atomic_fetch_add((atomic_int *)context, 1);
}

/* The system could not format the text; it is an error all the same. */
static bool unformatted(const tpool_error *error) {
    return error->code != ENOMEM && !error->message[0] && fault->is >= ONE_QUESTION &&
           atomic_load(&fault->injected) > 0;
}

static void scenario_raise(void) {
    static int lengths[] = { 0, 10, 200, LONG };
    enum { TASKS = sizeof lengths / sizeof lengths[0] };
    tpool_future *futures[TASKS] = { NULL };
    atomic_int failures = 0;
    int unasked = 0;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1, .on_failure = count_failure, .context = &failures });
    if (!pool) return;
    for (int i = 0; i < TASKS; i++) {
        tpool_task task = { .fn = raise_of_length, .arg = &lengths[i], .name = "raises" };
        unasked += OKAY(tpool_submit_task(pool, &task, NULL), REFUSED);
        if (!OKAY(tpool_submit_task(pool, &task, &futures[i]), REFUSED)) continue;
        const tpool_error *error = NULL;
        EXPECT(tpool_future_result(futures[i], CALL_LIMIT, NULL) == TPOOL_FAILED);
        EXPECT(tpool_future_error(futures[i], 0, &error) == TPOOL_OK);
        if (!error) {
            report(__LINE__, "the error", "is NULL");
            continue;
        }
        EXPECT(error->status == TPOOL_FAILED && error->message && tpool_future_message(futures[i]));
        if (error->code == 7 && !unformatted(error)) {
            EXPECT(strlen(error->message) == (size_t)lengths[i]);
            EXPECT(strspn(error->message, "e") == (size_t)lengths[i]);
            EXPECT(error->task && strcmp(error->task, "raises") == 0);
        } else {
            EXPECT((error->code == ENOMEM && error->message[0] && atomic_load(&fault->injected) > 0) ||
                   unformatted(error));
        }
    }
    pool_end(pool);
    EXPECT(atomic_load(&failures) == unasked);
    for (int i = 0; i < TASKS; i++) tpool_future_release(futures[i]);
}

static void *return_twice(void *arg) {
    (void)arg;
    unsigned char bytes[LONG];
    memset(bytes, 'r', sizeof bytes);
    tpool_return(bytes, 4000);
    return tpool_return(bytes, sizeof bytes);
}
static void *return_few(void *arg) { return tpool_return(&arg, sizeof arg); }
static void *return_owned(void *arg) { return tpool_return_owned(arg, count_free); }
static void *return_owned_and_bytes(void *arg) {
    tpool_return_owned(arg, count_free);
    return tpool_return("bytes", 6);
}

static void scenario_return(void) {
    tpool_future *few = NULL, *twice = NULL, *owned = NULL, *both = NULL;
    atomic_int owned_freed = 0, unasked_freed = 0, both_freed = 0;
    void *result = NULL;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1 });
    if (!pool) return;
    if (OKAY(tpool_submit(pool, return_few, pool, &few), REFUSED) && ENDS_WELL(few, NULL, true)) {
        EXPECT(tpool_future_result(few, 0, &result) == TPOOL_OK && memcmp(result, &pool, sizeof pool) == 0);
        EXPECT(tpool_future_result_size(few) == sizeof pool);
    }
    if (OKAY(tpool_submit(pool, return_twice, NULL, &twice), REFUSED) && ENDS_WELL(twice, NULL, true)) {
        EXPECT(tpool_future_result(twice, 0, &result) == TPOOL_OK && tpool_future_result_size(twice) == LONG);
        const unsigned char *bytes = result;
        for (int i = 0; i < LONG; i++) EXPECT(bytes[i] == 'r');
    }
    bool owned_taken = OKAY(tpool_submit(pool, return_owned, &owned_freed, &owned), REFUSED);
    if (owned_taken) {
        bool ended_well = ENDS_WELL(owned, &owned_freed, true);
        EXPECT(atomic_load(&owned_freed) == !ended_well); /* at once on failure, else with the future */
    }
    bool both_taken = OKAY(tpool_submit(pool, return_owned_and_bytes, &both_freed, &both), REFUSED);
    if (both_taken) {
        ENDS_WELL(both, NULL, true);
        EXPECT(atomic_load(&both_freed) == 1);
    }
    bool unasked_taken = OKAY(tpool_submit(pool, return_owned, &unasked_freed, NULL), REFUSED);
    pool_end(pool);
    tpool_future_release(few);
    tpool_future_release(twice);
    tpool_future_release(owned);
    tpool_future_release(both);
    EXPECT(atomic_load(&owned_freed) == owned_taken);
    EXPECT(atomic_load(&unasked_freed) == unasked_taken);
    EXPECT(atomic_load(&both_freed) == both_taken);
}
#endif
