/* What the scenarios share: what is expected of calls, ends and pools while something is refused; counted arguments. */
#ifndef TPOOL_TESTS_REFUSALS_SCENARIO_H
#define TPOOL_TESTS_REFUSALS_SCENARIO_H
#include "injection.h"

/* ---- What a scenario says ---- */

/* What is left of a time that is long enough for any machine: a wait that needs all of it is one that would have
   hung. */
static int64_t scenario_end;
#define CALL_LIMIT tpool_until(scenario_end)

/* The first thing that went wrong. No cmocka assertions: the rest of the scenario must still clean up. */
static pthread_mutex_t problem_lock = PTHREAD_MUTEX_INITIALIZER;
static char problem[512];

static void report(int line, const char *what, const char *detail) {
    pthread_mutex_lock(&problem_lock);
    if (!problem[0]) snprintf(problem, sizeof problem, "line %d: %s: %s", line, what, detail);
    pthread_mutex_unlock(&problem_lock);
}
#define EXPECT(condition) ((condition) ? (void)0 : report(__LINE__, #condition, "is false"))

#define BIT(status) (1u << (status))
#define NO_MEMORY BIT(TPOOL_NO_MEMORY)
#define REFUSED (BIT(TPOOL_NO_MEMORY) | BIT(TPOOL_NO_THREAD))

/* A call that a signal interrupts is repeated, and nothing fails for it. (With a short limit a server may be lost to
   the machine's load alone.) */
static bool was_refused(void) { return atomic_load(&fault->injected) > 0 && !(fault->interrupts && hang_ms == 10000); }

/* True if the call succeeded. It may fail with one of the other statuses, but only if something was refused. */
static bool succeeds(int line, const char *call, tpool_status status, unsigned also) {
    if (status == TPOOL_OK) return true;
    if (!(also & BIT(status)) || !was_refused()) report(line, call, tpool_status_name(status));
    return false;
}
#define OKAY(call, also) succeeds(__LINE__, #call, call, also)

static bool measure;
static tpool *pool_with(tpool_config config) {
    tpool *pool = NULL;
    config.measure = config.measure || measure;
    bool created = OKAY(tpool_create(&pool, &config), NO_MEMORY);
    EXPECT(created == (pool != NULL));
    return pool;
}

/* At rest every task that was taken has ended in one way. An initializer of a worker that starts late may submit one
   more after the drain. */
static void check_stats(int line, tpool *pool) {
    tpool_stats s;
    bool add_up = false;
    for (int look = 0; look < 100 && !add_up; look++) {
        if (look > 0) sleep_ms(1);
        if (look > 0) (void)!tpool_drain(pool, CALL_LIMIT);
        if (tpool_get_stats(pool, &s) != TPOOL_OK) report(line, "the statistics", "cannot be had");
        add_up = s.submitted == s.completed + s.failed + s.cancelled + s.expired + s.dropped;
    }
    if (!add_up) report(line, "the statistics", "do not add up");
    if (s.queued != 0) report(line, "the statistics", "show tasks in a pool at rest");
    while (s.active != 0 && CALL_LIMIT > 0) { /* a worker that looks around once more counts for that moment */
        sched_yield();
        (void)tpool_get_stats(pool, &s);
    }
}

/* Once the fault is over the pool works as ever, unless the scenario has ended or broken it. */
static void check_works(int line, tpool *pool) {
    enum { TASKS = 3 };
    tpool_future *futures[TASKS];
    for (int i = 0; i < TASKS; i++) {
        void *result = NULL;
        tpool_status status = tpool_submit(pool, nothing, &futures[i], &futures[i]);
        if (status == TPOOL_SHUTDOWN || (status == TPOOL_BROKEN && i == 0)) return;
        if (status != TPOOL_OK) {
            report(line, "a submit once the fault is over", tpool_status_name(status));
            return;
        }
        status = tpool_future_result(futures[i], CALL_LIMIT, &result);
        if (status != TPOOL_OK) report(line, "a task once the fault is over", tpool_status_name(status));
        else if (result != &futures[i]) report(line, "its result", "is another one");
        tpool_future_release(futures[i]);
    }
}

static void end_pool(int line, tpool *pool, bool works) {
    if (problem[0] && pool) tpool_shutdown(pool, TPOOL_CANCEL_PENDING); /* or it would wait for what was lost */
    tpool_status status = TPOOL_OK;
    if (pool && !problem[0]) {
        status = tpool_drain(pool, CALL_LIMIT);
        if (status == TPOOL_OK) check_stats(line, pool);
        else if (status != TPOOL_NO_THREAD || atomic_load(&fault->injected) == 0)
            report(line, "the drain", tpool_status_name(status));
        int mode = atomic_exchange(&fault->is, NO_FAULT);
        if (works) check_works(line, pool);
        if (tpool_drain(pool, CALL_LIMIT) == TPOOL_OK) check_stats(line, pool);
        else report(line, "the drain", "fails though the fault is over");
        atomic_store(&fault->is, mode);
    }
    status = tpool_destroy(pool);
    if (status != TPOOL_OK) report(line, "the destroy", tpool_status_name(status));
}
#define pool_end(pool) end_pool(__LINE__, pool, true)
#define broken_pool_end(pool) end_pool(__LINE__, pool, false)

/* Holds a worker at the gate, if the task was taken. */
static bool hold(tpool *pool, gate *g) {
    if (!OKAY(tpool_submit(pool, gate_task, g, NULL), REFUSED)) return false;
    while (gate_arrived(g) == 0 && CALL_LIMIT > 0) sched_yield();
    EXPECT(gate_arrived(g) == 1);
    return true;
}

/* The end of a future: OK with this value; or, if the task raises or returns something, FAILED with ENOMEM. */
static bool ends_well(int line, tpool_future *future, void *expected, bool may_want_memory) {
    void *result = &line;
    tpool_status status = tpool_future_result(future, CALL_LIMIT, &result);
    if (status == TPOOL_OK) {
        if (expected && result != expected) report(line, "the result", "is another one");
        return true;
    }
    if (result) report(line, "the result", "is not NULL without success");
    const tpool_error *error = NULL;
    if (may_want_memory && atomic_load(&fault->injected) > 0 && status == TPOOL_FAILED &&
        tpool_future_error(future, 0, &error) == TPOOL_OK && error && error->code == ENOMEM && error->message &&
        error->message[0])
        return false;
    report(line, "the task's end", tpool_status_name(status));
    return false;
}
#define ENDS_WELL(future, expected, may_want_memory) ends_well(__LINE__, future, expected, may_want_memory)

/* ---- Arguments that are counted ---- */

typedef struct item {
    atomic_int runs, frees;
    bool taken;
} item;

static void *item_run(void *arg) {
    item *i = arg;
    atomic_fetch_add(&i->runs, 1);
    return i;
}
static void item_free(void *arg) { atomic_fetch_add(&((item *)arg)->frees, 1); }

/* The same by copy: a pointer to the item, and filler up to the size. */
static item *item_of_copy(void *arg) {
    item *i = NULL;
    memcpy(&i, arg, sizeof i);
    return i;
}
static void *item_run_copy(void *arg) {
    const unsigned char *bytes = arg;
    for (size_t k = sizeof(item *); k < tpool_arg_size(); k++) EXPECT(bytes[k] == (unsigned char)(k * 3));
    return item_run(item_of_copy(arg));
}
static void item_free_copy(void *arg) { item_free(item_of_copy(arg)); }

/* Submits the item, as `like` says otherwise; size 0: by pointer. */
static bool submit_item(tpool *pool, item *i, size_t size, tpool_task like, tpool_future **future, unsigned also) {
    unsigned char *bytes = NULL;
    like.fn = size ? item_run_copy : item_run;
    like.arg_free = size ? item_free_copy : item_free;
    like.arg = i;
    if (size) {
        bytes = malloc(size);
        for (size_t k = 0; k < size; k++) bytes[k] = (unsigned char)(k * 3);
        memcpy(bytes, &i, sizeof i);
        like.arg = bytes;
        like.arg_size = size;
    }
    i->taken = OKAY(tpool_submit_task(pool, &like, future), also);
    if (future) EXPECT(i->taken == (*future != NULL));
    free(bytes);
    return i->taken;
}

/* After everything has ended: what was taken was freed once and ran as it should; the rest was not touched. */
enum { ALL_RAN, NONE_RAN, SOME_RAN };
static void check_items(int line, const item *items, int count, int which) {
    for (int k = 0; k < count; k++) {
        int runs = atomic_load(&items[k].runs), frees = atomic_load(&items[k].frees);
        if (frees != items[k].taken) report(line, "arg_free", frees ? "called too often" : "not called");
        if (runs > 1 || (runs && !items[k].taken)) report(line, "fn", "run though it should not");
        if (items[k].taken && which == ALL_RAN && runs != 1) report(line, "fn", "not run");
        if (which == NONE_RAN && runs) report(line, "fn", "run though cancelled");
    }
}
#define CHECK_ITEMS(items, count, which) check_items(__LINE__, items, count, which)
/* Ends the pool, in which all items that it took have run by now. A future is NULL where none was taken. */
static void all_have_run(int line, tpool *pool, const item *items, tpool_future **futures, int count) {
    end_pool(line, pool, true);
    for (int i = 0; i < count; i++) tpool_future_release(futures[i]);
    check_items(line, items, count, ALL_RAN);
}
#define ALL_HAVE_RUN(pool, items, futures, count) all_have_run(__LINE__, pool, items, futures, count)
#endif
