/* Ours, and what a contestant consists of.
 *
 * Each file beside this one gives the workloads the same functions, by the fastest way that the contestant's own
 * documentation shows. What it cannot do it leaves out, and the table then shows "-":
 *
 *   PEER_PLAIN       peer_create, peer_destroy, peer_warm_up, peer_submit: a task that nobody asks for.
 *                    peer_flush: called by each submitting thread after its last submit (most need nothing there).
 *   PEER_DRAIN       peer_drain: until all tasks have ended; the pool goes on. Else the workloads count the tasks.
 *   PEER_FUTURES     peer_future, peer_submit_future, peer_result: waits, reads, releases.
 *   PEER_TREE        peer_children: from within a task, run tasks, await them all, give the sum of their results.
 *                    peer_root: run one task from outside, give its result.
 *   PEER_SCOPES      peer_scope: create a group, run tasks in it, await them all, end the group. Inside and outside of
 *                    tasks; PEER_SCOPES_INSIDE: only inside.
 *   PEER_STRANDS     peer_strand, peer_strand_create, peer_strand_submit, peer_strand_destroy: tasks that execute one
 *                    after the other, beside those of other strands.
 *   PEER_FORK_JOIN   peer_fib: fork and join without cut-off.
 *   PEER_FOR         peer_for: a parallel loop over a range.
 *   PEER_COMPLETIONS peer_as_completed: submits tasks, gives the sum of the results as they were completed.
 *
 * And what is peculiar to some, which keeps them out of workloads or changes how these go about it:
 *
 *   PEER_WITHIN          peer_within: tasks are submitted from within a region of the contestant's.
 *   PEER_ONE_SUBMITTER   there cannot be several outside threads that submit.
 *   PEER_BOUNDED         a million tasks cannot wait.
 *   PEER_SHARED_THREADS  the threads are the process' and stay: no pools to create and destroy.
 *   PEER_NO_POOL         no workers at all.
 *   PEER_NO_TRIPS        who waits for a task runs it.
 *   PEER_FEWER_TASKS     by what to divide the number of tasks.
 *   PEER_SUBMIT_SURELY   in place of peer_submit for a task that must start before anybody waits for it.
 *
 * The workloads see the public functions as a program does whose other files call the implementation: BENCH_OPAQUE
 * keeps the compiler from inlining them into the loop that is timed. */
#define PEER_OURS 1
#define PEER_PLAIN 1
#define PEER_DRAIN 1
#define PEER_FUTURES 1
#define PEER_TREE 1
#define PEER_SCOPES 1
#define PEER_STRANDS 1
#define PEER_FORK_JOIN 1
#define PEER_FOR 1
#define PEER_COMPLETIONS 1

#define TPOOL_API BENCH_UNUSED BENCH_OPAQUE __attribute__((visibility("hidden"))) extern
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
#include <stdio.h>
#include <stdlib.h>

static void peer_must(tpool_status status, int line) {
    if (status == TPOOL_OK) return;
    fprintf(stderr, "ours: %s in line %d\n", tpool_status_name(status), line);
    exit(1);
}
/* In the path that is timed a comparison and a branch not taken, as in any program. */
#define PEER_MUST(call) \
    do { \
        tpool_status peer_status = (call); \
        if (__builtin_expect(peer_status != TPOOL_OK, 0)) peer_must(peer_status, __LINE__); \
    } while (0)

typedef tpool peer_pool;
typedef tpool_future *peer_future;

static BENCH_UNUSED peer_pool *peer_create_configured(int workers, bool measure) {
    tpool_config config = { .max_workers = workers, .measure = measure };
    tpool *pool;
    PEER_MUST(tpool_create(&pool, &config));
    return pool;
}
static BENCH_UNUSED peer_pool *peer_create(int workers) { return peer_create_configured(workers, false); }
static BENCH_UNUSED void peer_warm_up(peer_pool *pool, int workers) { PEER_MUST(tpool_warm_up(pool, workers)); }
static BENCH_UNUSED void peer_destroy(peer_pool *pool) { PEER_MUST(tpool_destroy(pool)); }
static inline void peer_submit(peer_pool *pool, bench_fn fn, void *arg) {
    PEER_MUST(tpool_submit(pool, fn, arg, NULL));
}
static inline void peer_flush(peer_pool *pool) { (void)pool; }
static BENCH_UNUSED void peer_drain(peer_pool *pool) { PEER_MUST(tpool_drain(pool, TPOOL_FOREVER)); }

static inline void peer_submit_future(peer_pool *pool, bench_fn fn, void *arg, peer_future *future) {
    PEER_MUST(tpool_submit(pool, fn, arg, future));
}
static inline uintptr_t peer_result(peer_future *future) {
    void *result;
    PEER_MUST(tpool_future_result(*future, TPOOL_FOREVER, &result));
    tpool_future_release(*future);
    return (uintptr_t)result;
}

static inline uintptr_t peer_children(peer_pool *pool, bench_fn fn, void **args, int count) {
    tpool_future *futures[16];
    uintptr_t sum = 0;
    for (int i = 0; i < count; i++) PEER_MUST(tpool_submit(pool, fn, args[i], &futures[i]));
    for (int i = 0; i < count; i++) sum += peer_result(&futures[i]);
    return sum;
}
static BENCH_UNUSED uintptr_t peer_root(peer_pool *pool, bench_fn fn, void *arg) {
    tpool_future *future;
    PEER_MUST(tpool_submit(pool, fn, arg, &future));
    return peer_result(&future);
}

static inline void peer_scope(peer_pool *pool, bench_fn fn, void **args, int count) {
    tpool_group_config config = { .waiter_runs = true };
    tpool_group *group;
    PEER_MUST(tpool_group_create(&group, &config));
    for (int i = 0; i < count; i++) {
        tpool_task task = { .fn = fn, .arg = args[i], .group = group };
        PEER_MUST(tpool_submit_task(pool, &task, NULL));
    }
    PEER_MUST(tpool_group_destroy(group));
}

typedef tpool_group *peer_strand;
static BENCH_UNUSED void peer_strand_create(peer_pool *pool, peer_strand *strand) {
    tpool_group_config config = { .limit = 1 };
    (void)pool;
    PEER_MUST(tpool_group_create(strand, &config));
}
static inline void peer_strand_submit(peer_pool *pool, peer_strand *strand, bench_fn fn, void *arg) {
    tpool_task task = { .fn = fn, .arg = arg, .group = *strand };
    PEER_MUST(tpool_submit_task(pool, &task, NULL));
}
static BENCH_UNUSED void peer_strand_destroy(peer_strand *strand) { PEER_MUST(tpool_group_destroy(*strand)); }

static BENCH_UNUSED void *peer_fib_task(void *arg) {
    intptr_t n = (intptr_t)arg, left, right;
    tpool_job job;
    if (n < 2) return arg;
    tpool_fork(&job, peer_fib_task, (void *)(n - 1));
    right = (intptr_t)peer_fib_task((void *)(n - 2));
    left = (intptr_t)tpool_join(&job);
    return (void *)(left + right);
}
static BENCH_UNUSED long peer_fib(peer_pool *pool, int n) {
    return (long)peer_root(pool, peer_fib_task, (void *)(intptr_t)n);
}

static BENCH_UNUSED void peer_for(peer_pool *pool, size_t begin, size_t end,
                                  void (*body)(size_t begin, size_t end, void *context), void *context) {
    PEER_MUST(tpool_for(pool, begin, end, 0, body, context));
}

/* To the last one yielded; the references are given back afterwards, by peer_completed_release. */
static BENCH_UNUSED uintptr_t peer_as_completed(peer_pool *pool, bench_fn fn, size_t count, peer_future *futures,
                                                tpool_completions **completions) {
    tpool_future *future;
    void *result;
    uintptr_t sum = 0;
    size_t yielded = 0;
    for (size_t i = 0; i < count; i++) PEER_MUST(tpool_submit(pool, fn, (void *)i, &futures[i]));
    PEER_MUST(tpool_as_completed(futures, count, completions));
    while (yielded < count) {
        PEER_MUST(tpool_completions_next(*completions, TPOOL_FOREVER, &future));
        PEER_MUST(tpool_future_result(future, 0, &result));
        sum += (uintptr_t)result;
        yielded++;
    }
    return sum;
}
static BENCH_UNUSED void peer_completed_release(size_t count, peer_future *futures, tpool_completions *completions) {
    tpool_future *none;
    if (tpool_completions_next(completions, TPOOL_FOREVER, &none) != TPOOL_END) peer_must(TPOOL_END, __LINE__);
    tpool_completions_destroy(completions);
    for (size_t i = 0; i < count; i++) tpool_future_release(futures[i]);
}
