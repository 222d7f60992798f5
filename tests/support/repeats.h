/* Tasks that run again and again, by a period or by retries, and what an observer sees of their runs. */
#ifndef TPOOL_TESTS_REPEATS_H
#define TPOOL_TESTS_REPEATS_H
#include "../support.h"

#define NEVER TPOOL_SEC(100000) /* between two runs, for as long as a test lasts */

/* Waits until a task has run so often, and waits for its time again. */
static inline void await_runs(tpool *pool, const atomic_int *runs, int n) {
    EVENTUALLY(atomic_load(runs) >= n && stats_of(pool).held == 1);
}
/* Destroys the pool while a task is at the gate, which then opens. */
static inline void destroy_at_gate(tpool *pool, gate *g) {
    background b;
    background_start(&b, (tpool_status(*)(void *))tpool_destroy, pool);
    background_await_block(&b);
    gate_open(g);
    REQUIRE_STATUS(TPOOL_OK, background_join(&b));
}
/* Waits, in a worker, for the future that is in *arg. */
static inline void *wait_for_future(void *arg) {
    return tpool_future_result(*(tpool_future **)arg, TPOOL_FOREVER, NULL) == TPOOL_OK ? arg : NULL;
}

/* ---- What an observer sees ---- */
enum { MOST_EVENTS = 64 };
static tpool_event noted[MOST_EVENTS];
static atomic_int events;
static inline void note_event(const tpool_event *event, void *context) {
    (void)context;
    int n = atomic_fetch_add(&events, 1);
    if (n < MOST_EVENTS) noted[n] = *event;
}
/* A pool of one worker that notes what is submitted and runs. */
static inline tpool *new_noted_pool(void) {
    unsigned observed = TPOOL_EVENT_SUBMITTED | TPOOL_EVENT_READY | TPOOL_EVENT_STARTED | TPOOL_EVENT_ENDED;
    atomic_store(&events, 0);
    return new_pool_as(
        (tpool_config){ .max_workers = 1, .observer = note_event, .observed = observed, .measure = true });
}
/* It was submitted once; each run was READY, STARTED and ENDED. */
static inline void assert_noted_runs(int runs) {
    static const tpool_event_kind each[] = { TPOOL_EVENT_READY, TPOOL_EVENT_STARTED, TPOOL_EVENT_ENDED };
    assert_int_equal(1 + 3 * runs, atomic_load(&events));
    assert_int_equal(TPOOL_EVENT_SUBMITTED, noted[0].kind);
    for (int i = 0; i < 3 * runs; i++) assert_int_equal(each[i % 3], noted[1 + i].kind);
}
#endif
