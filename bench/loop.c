/* An iterator in an event loop: poll on its descriptor, and next until it finds nothing.
 *
 *   burst      100,000 tasks that a worker runs beside the loop; `ratio` to a thread that waits in next instead, in
 *              turns in the same run, of the shortest turns; `empty`: how often next found nothing
 *   roundtrip  a task, and its future by the loop; `ratio` (of the medians) to what a program makes by hand: a callback
 *              that writes to an eventfd, in turns in the same run
 *   expiry     how late the loop has a task that expires in the queue while every worker is busy */
#include "bench.h"
#if PEER_OURS
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void loop_await(int descriptor) {
    struct pollfd polled = { .fd = descriptor, .events = POLLIN };
    if (poll(&polled, 1, -1) != 1) bench_fail("poll");
}
static int loop_descriptor(tpool_completions *completions) {
    intptr_t descriptor;
    PEER_MUST(tpool_completions_descriptor(completions, &descriptor));
    return (int)descriptor;
}
static uintptr_t loop_take(tpool_future *future) {
    void *result;
    PEER_MUST(tpool_future_result(future, 0, &result));
    return (uintptr_t)result;
}

/* The tasks wait in a paused pool; then workers run them beside the loop, which takes what is done. */
static double loop_turn(peer_pool *pool, size_t count, bool polls, size_t *empty) {
    tpool_completions *completions;
    tpool_future *future;
    uintptr_t sum = 0;
    PEER_MUST(tpool_as_completed(NULL, 0, &completions));
    int descriptor = polls ? loop_descriptor(completions) : -1;
    PEER_MUST(tpool_pause(pool));
    for (size_t i = 0; i < count; i++) {
        tpool_task task = { .fn = bench_tiny_value, .arg = (void *)i, .completions = completions };
        PEER_MUST(tpool_submit_task(pool, &task, NULL));
    }
    int64_t began = bench_now();
    PEER_MUST(tpool_resume(pool));
    for (size_t yielded = 0; yielded < count;) {
        tpool_status status = tpool_completions_next(completions, polls ? 0 : TPOOL_FOREVER, &future);
        if (status == TPOOL_OK) {
            sum += loop_take(future);
            yielded++;
        } else if (polls && status == TPOOL_TIMEOUT) {
            ++*empty;
            loop_await(descriptor);
        } else {
            PEER_MUST(status);
        }
    }
    double took = (double)(bench_now() - began) / (double)count;
    bench_check(sum == (uintptr_t)count * (count - 1) / 2 * 3);
    tpool_completions_destroy(completions);
    return took;
}
static void loop_burst_run(const bench_case *c) {
    enum { TURNS = 10 };
    size_t count = bench_count(100000), empty = 0;
    double least[2] = { 0, 0 };
    peer_pool *pool = peer_create(c->workers);
    peer_warm_up(pool, c->workers);
    for (int turn = 0; turn < 2 * TURNS; turn++) {
        int polls = turn % 2;
        size_t found_nothing = 0;
        double took = loop_turn(pool, count, polls, &found_nothing);
        if (turn >= 2 && took >= least[polls]) continue;
        least[polls] = took;
        if (polls) empty = found_nothing;
    }
    bench_report("time", "ns/future", least[1]);
    bench_report("ratio", "times", least[1] / least[0]);
    bench_report("empty", "times", (double)empty);
    peer_destroy(pool);
}

/* --- round trips */

typedef struct loop_trips {
    peer_pool *pool;
    tpool_completions *completions;
    int descriptor, event;
} loop_trips;

static void loop_trip_by_iterator(loop_trips *t, size_t i) {
    tpool_task task = { .fn = bench_tiny_value, .arg = (void *)i, .completions = t->completions };
    tpool_future *future;
    PEER_MUST(tpool_submit_task(t->pool, &task, NULL));
    tpool_status status;
    while ((status = tpool_completions_next(t->completions, 0, &future)) == TPOOL_TIMEOUT) loop_await(t->descriptor);
    PEER_MUST(status);
    bench_check(loop_take(future) == 3 * i);
}
static void loop_notify(tpool_future *future, void *event) {
    (void)future;
    if (write(*(int *)event, &(uint64_t){ 1 }, 8) != 8) bench_fail("write");
}
static void loop_trip_by_hand(loop_trips *t, size_t i) {
    tpool_future *future;
    uint64_t count;
    PEER_MUST(tpool_submit(t->pool, bench_tiny_value, (void *)i, &future));
    PEER_MUST(tpool_future_add_done_callback(future, loop_notify, &t->event));
    loop_await(t->event);
    if (read(t->event, &count, 8) != 8) bench_fail("read");
    bench_check(peer_result(&future) == 3 * i);
}
static void loop_trips_run(const bench_case *c) {
    size_t count = bench_count(20000);
    int64_t *samples[2];
    loop_trips t = { .pool = peer_create(c->workers), .event = eventfd(0, EFD_CLOEXEC) };
    if (t.event < 0) bench_fail("eventfd");
    PEER_MUST(tpool_as_completed(NULL, 0, &t.completions));
    t.descriptor = loop_descriptor(t.completions);
    for (int i = 0; i < 2; i++) samples[i] = (int64_t *)bench_memory(count * sizeof **samples);
    for (size_t i = 0; i < 2 * count; i++) {
        int64_t began = bench_now();
        if (i / 100 % 2) loop_trip_by_hand(&t, i);
        else loop_trip_by_iterator(&t, i);
        samples[i / 100 % 2][i / 200 * 100 + i % 100] = bench_now() - began;
    }
    qsort(samples[1], count, sizeof **samples, bench_compare);
    bench_report_samples(samples[0], count, "ns", 1);
    bench_report("ratio", "times", (double)samples[0][count / 2] / (double)samples[1][count / 2]);
    tpool_completions_destroy(t.completions);
    close(t.event);
    peer_destroy(t.pool);
    for (int i = 0; i < 2; i++) free(samples[i]);
}

/* --- expiry */

/* Each task expires after another time, so that it meets every phase of a clock that ticks. */
static int64_t loop_lateness(peer_pool *pool, tpool_completions *completions, int descriptor, size_t i) {
    int64_t after = 3000000 + (int64_t)(i % 100) * 97000;
    tpool_task task = { .fn = bench_tiny_value, .expires_ns = after, .completions = completions };
    tpool_future *future;
    PEER_MUST(tpool_submit_task(pool, &task, NULL));
    int64_t expires = bench_now() + after;
    tpool_status status;
    while ((status = tpool_completions_next(completions, 0, &future)) == TPOOL_TIMEOUT) loop_await(descriptor);
    int64_t late = bench_now() - expires;
    PEER_MUST(status);
    bench_check(tpool_future_result(future, 0, NULL) == TPOOL_EXPIRED);
    return late;
}
static void loop_expiry_run(const bench_case *c) {
    size_t count = bench_count(300);
    int64_t *samples = (int64_t *)bench_memory(count * sizeof *samples);
    peer_pool *pool = peer_create(c->workers);
    tpool_completions *completions;
    PEER_MUST(tpool_as_completed(NULL, 0, &completions));
    int descriptor = loop_descriptor(completions);
    PEER_MUST(tpool_submit(pool, bench_wait_at_gate, NULL, NULL));
    bench_gate_await(c->workers);
    for (size_t i = 0; i < count; i++) samples[i] = loop_lateness(pool, completions, descriptor, i);
    qsort(samples, count, sizeof *samples, bench_compare);
    bench_report_samples(samples, count, "ms", 1000000);
    bench_gate_open();
    tpool_completions_destroy(completions);
    peer_destroy(pool);
    free(samples);
}

static const bench_case loop_cases[] = {
    { "loop/burst", "100,000 futures in a loop that polls a descriptor", loop_burst_run, 1, 1, 0 },
    { "loop/roundtrip", "a round trip in a loop that polls a descriptor", loop_trips_run, 1, 1, 0 },
    { "loop/expiry", "lateness of an expiry in a loop that polls, the worker busy", loop_expiry_run, 1, 1, 0 },
};
BENCH_WORKLOAD(loop_cases)
#endif
