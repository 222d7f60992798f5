/* Tasks that sleep until their wake comes (tpool_on_stop). */
#ifndef TPOOL_TESTS_SUPPORT_SLEEPERS_H
#define TPOOL_TESTS_SUPPORT_SLEEPERS_H
#include "../support.h"

/* A task that waits in a call of the program's own, which its wake ends. */
typedef struct sleeper {
    gate at;          /* it passes this once it has registered; wake opens it */
    atomic_int wakes; /* calls of wake */
    pthread_t woken_by;
    gate *slow;       /* wake waits here; NULL: nowhere */
    bool ends_thread; /* wake does */
    bool replaces;    /* the task calls tpool_on_stop again */
    atomic_int replaced_by;
    tpool *pool;              /* of which wake asks */
    struct sleeper *neighbor; /* another task's */
    atomic_bool returns;
    _Atomic(tpool_future *) own; /* its future, once the submit has returned, if the task asks for it */
    long child;                  /* that it has forked */
} sleeper;
static inline void sleeper_init(sleeper *s) { *s = (sleeper){ .at = GATE_CLOSED }; }
static inline void wake_sleeper(void *context) {
    sleeper *s = context;
    s->woken_by = pthread_self();
    atomic_fetch_add(&s->wakes, 1);
    gate_open(&s->at);
    if (s->slow) gate_pass(s->slow);
    if (s->ends_thread) (void)end_thread(NULL);
}
static inline void *sleep_until_stopped(void *arg) {
    sleeper *s = arg;
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(wake_sleeper, s));
    gate_pass(&s->at);
    CHECK(tpool_stop_requested());
    atomic_store(&s->returns, true);
    return NULL;
}
static inline tpool_future *asleep(tpool *pool, sleeper *s) {
    sleeper_init(s);
    tpool_future *future = submitted(pool, sleep_until_stopped, s);
    gate_await_arrivals(&s->at, 1);
    return future;
}
static inline void count_wake(void *context) { atomic_fetch_add((atomic_int *)context, 1); }
static inline void *register_only(void *arg) {
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(count_wake, arg));
    return NULL;
}
static inline void *item_sleeps(void *item, void *context) {
    (void)context;
    return sleep_until_stopped(item);
}
static inline tpool_status ask(void *future) {
    tpool_future_request_stop(future);
    return TPOOL_OK;
}
#endif
