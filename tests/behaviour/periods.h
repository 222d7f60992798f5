/* Periodic tasks whose runs note what the tests see of them. */
#ifndef TPOOL_TESTS_PERIODS_H
#define TPOOL_TESTS_PERIODS_H
#include "support.h"
#include "support/held.h"
#include "support/repeats.h"

/* What a run does, and what the test sees of it. */
typedef struct runner {
    atomic_int runs, freed, at_once;
    int last, fails, ends; /* in which run, from 1 on */
    int64_t started[64];   /* of the first runs */
    int64_t lasts;         /* how long each run computes */
    atomic_int overlaps;
    gate *gate; /* that each run passes */
    tpool_future *itself;
} runner;
static inline void *run(void *arg) {
    runner *r = (runner *)arg;
    int64_t now = tpool_now();
    if (atomic_fetch_add(&r->at_once, 1) > 0) atomic_fetch_add(&r->overlaps, 1);
    int n = atomic_load(&r->runs) + 1;
    if (n <= 64) r->started[n - 1] = now;
    if (r->lasts) compute_for(r->lasts);
    atomic_fetch_sub(&r->at_once, 1);
    atomic_store(&r->runs, n);
    if (r->gate) gate_pass(r->gate);
    if (n == r->last) tpool_last_run();
    if (n == r->fails) return tpool_raise(n, "run %d", n);
    if (n == r->ends) end_here();
    return arg;
}
static inline void free_runner(void *arg) { atomic_fetch_add(&((runner *)arg)->freed, 1); }
/* It has run so often, and arg_free was called once. */
static inline void assert_ran(int times, const runner *r) {
    assert_int_equal(times, atomic_load(&r->runs));
    assert_int_equal(1, atomic_load(&r->freed));
}
static inline tpool_task every(int64_t period, runner *r) {
    return (tpool_task){ .fn = run, .arg = r, .arg_free = free_runner, .period_ns = period };
}
/* A periodic task of which a run is at the gate. */
static inline tpool_future *at_gate(tpool *pool, int64_t period, runner *r) {
    tpool_future *future = submitted_task(pool, every(period, r));
    AWAIT_ARRIVALS(r->gate, 1);
    return future;
}
static inline void await_between(tpool *pool, runner *r, int runs) { await_runs(pool, &r->runs, runs); }
#endif
