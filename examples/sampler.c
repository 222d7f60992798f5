/* sampler: something taken at fixed times until Ctrl-C, and a report that is sent again until it arrives.
 *
 *     cc -std=c11 -O2 -pthread -I. examples/sampler.c -o sampler && ./sampler [SECONDS_BETWEEN_SAMPLES]
 *
 * The sampling is one periodic task. Its times do not drift, and if one sample takes too long, the times that pass
 * meanwhile are skipped. At Ctrl-C it is asked to stop: a sample that is being taken comes to its end, and no other
 * begins. Then a report is sent. That is one task with retries, which waits twice as long before each try.
 *
 * Without an argument it takes 20 samples, 5 ms apart, interrupts itself, and checks what came of it. */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t interrupted;
static void on_interrupt(int number) {
    (void)number;
    interrupted = 1;
}

/* What is sampled: the CPU time of this program. The runs of a periodic task never overlap, so they need no lock for
 * what only they use; whoever waits for the task's end sees all of it. */
typedef struct samples {
    long count;
    int64_t begins_at, last_at; /* when */
    double last;                /* seconds of CPU */
    long interrupt_after;       /* 0: a user does it */
    bool freed;
} samples;

static void *take_sample(void *arg) {
    samples *s = (samples *)arg;
    s->last_at = tpool_now();
    s->last = (double)clock() / CLOCKS_PER_SEC;
    s->count++;
    if (s->interrupt_after == 0) printf("%ld: %.6f s of CPU\n", s->count, s->last);
    if (s->count == s->interrupt_after) (void)kill(getpid(), SIGINT); /* not raise: a worker gets no signals */
    return NULL;
}
/* Once, when the last sample has been taken. */
static void close_samples(void *arg) { ((samples *)arg)->freed = true; }

/* The report: its server is away at first. A failure is what makes the pool try again. */
typedef struct report {
    const samples *samples;
    int tries, fails; /* it fails so many times */
} report;
static void *send_report(void *arg) {
    report *r = (report *)arg;
    if (++r->tries <= r->fails) return tpool_raise(1, "the server does not answer (try %d)", r->tries);
    printf("report, at try %d: %ld samples, %.6f s of CPU\n", r->tries, r->samples->count, r->samples->last);
    return NULL;
}

static int fail(const char *what) {
    fprintf(stderr, "sampler: %s\n", what);
    return EXIT_FAILURE;
}

int main(int argc, char **argv) {
    samples taken = { .interrupt_after = argc > 1 ? 0 : 20 };
    double seconds = argc > 1 ? atof(argv[1]) : 0.005;
    if (!(seconds > 0) || seconds > 1e6) return fail("the time between two samples, in seconds");
    signal(SIGINT, on_interrupt);

    tpool *pool = NULL;
    if (tpool_create(&pool, &(tpool_config){ .max_workers = 2 }) != TPOOL_OK) return fail("no pool");
    tpool_task sample = {
        .fn = take_sample, .arg = &taken, .arg_free = close_samples, .name = "sample", .period_ns = TPOOL_SEC(seconds)
    };
    tpool_future *sampling = NULL, *sending = NULL;
    taken.begins_at = tpool_now();
    if (tpool_submit_task(pool, &sample, &sampling) != TPOOL_OK) return fail("no sampling");

    /* Until Ctrl-C, or the sampling fails: then its future is done. */
    tpool_status status = TPOOL_TIMEOUT;
    while (!interrupted && status == TPOOL_TIMEOUT) status = tpool_future_result(sampling, TPOOL_MS(100), NULL);
    tpool_future_request_stop(sampling);
    status = tpool_future_result(sampling, TPOOL_FOREVER, NULL); /* with the sample at hand */
    if (status != TPOOL_OK) return fail(tpool_future_message(sampling));
    tpool_future_release(sampling);

    report r = { .samples = &taken, .fails = 2 };
    tpool_task send = { .fn = send_report, .arg = &r, .name = "report", .retries = 5, .retry_ns = TPOOL_MS(10) };
    int64_t before = tpool_now();
    if (tpool_submit_task(pool, &send, &sending) != TPOOL_OK) return fail("no report");
    if (tpool_future_result(sending, TPOOL_FOREVER, NULL) != TPOOL_OK) return fail(tpool_future_message(sending));
    int64_t took = tpool_now() - before;
    tpool_future_release(sending);
    if (tpool_destroy(pool) != TPOOL_OK) return fail("the pool did not end");

    if (!taken.freed) return fail("the samples are still open");
    if (r.tries != 3 || took < TPOOL_MS(10 + 20)) return fail("the report came too early");
    if (taken.interrupt_after && taken.count < taken.interrupt_after) return fail("samples are missing");
    if (taken.interrupt_after && taken.last_at - taken.begins_at < (taken.interrupt_after - 1) * TPOOL_MS(5))
        return fail("samples came too early");
    return EXIT_SUCCESS;
}
