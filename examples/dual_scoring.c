/* dual_scoring: work that starts other work and waits for it, on the two shared pools.
 *
 *     cc -std=c11 -O2 -pthread -I. examples/dual_scoring.c -o dual_scoring && ./dual_scoring
 *
 * Five samples are scored side by side. Scoring one means asking a (slow) model, then asking a (slow) judge
 * about the reply, each step under a time limit. Were all of this on one ordinary pool, the samples would take
 * its workers, and the steps that they wait for would find none. Here the samples run on the high-level pool
 * and do nothing but start steps and wait; the steps run on the low-level pool and wait for nobody. So every
 * step finds a worker, in whatever number samples come.
 *
 * The steps mostly wait, for the network, so the low-level pool may have more workers than there are CPUs.
 */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SAMPLES = 5, STEPS = 2, STEP_MS = 100 };
#define STEP_LIMIT TPOOL_SEC(5)

static void require(tpool_status status, const char *what) {
    if (status == TPOOL_OK) return;
    fprintf(stderr, "dual_scoring: %s: %s\n", what, tpool_status_text(status));
    exit(EXIT_FAILURE);
}

static void sleep_ms(int ms) {
    struct timespec left = { ms / 1000, (long)(ms % 1000) * 1000000 };
    while (nanosleep(&left, &left) != 0 && errno == EINTR) { }
}

/* -------------------------------------------------------------------------------------------------------------
 *  The steps: leaf calls, on the low-level pool
 * ---------------------------------------------------------------------------------------------------------- */

typedef struct step_input {
    int sample;
    int points; /* what the step before this one gave */
} step_input;

static int model_points(int sample) { return 10 + sample * 7 % 5; }

static void *ask_model(void *arg) {
    const step_input *step = (const step_input *)arg;
    sleep_ms(STEP_MS);
    int points = model_points(step->sample);
    return tpool_return(&points, sizeof points);
}

static void *ask_judge(void *arg) {
    const step_input *step = (const step_input *)arg;
    sleep_ms(STEP_MS);
    int points = step->points * 2;
    return tpool_return(&points, sizeof points);
}

/* A server that never answers: the step polls until it is told to stop. */
static void *ask_dead_server(void *arg) {
    (void)arg;
    while (!tpool_stop_requested()) sleep_ms(1);
    return tpool_raise(ECANCELED, "gave up on the server");
}

/* -------------------------------------------------------------------------------------------------------------
 *  Scoring: on the high-level pool, or called directly
 * ---------------------------------------------------------------------------------------------------------- */

/* Runs one step with a time limit. The step travels by value: after a time-out it may still be running. */
static tpool_status run_step(tpool_fn fn, step_input step, int64_t limit_ns, int *points) {
    tpool_task task = { .fn = fn, .arg = &step, .arg_size = sizeof step, .name = "step" };
    tpool_future *future;
    tpool_status status = tpool_run_with_timeout(tpool_low_level(), &task, limit_ns, &future);
    if (status == TPOOL_OK) {
        void *result;
        status = tpool_future_result(future, 0, &result);
        if (status == TPOOL_OK) *points = *(const int *)result;
    }
    tpool_future_release(future); /* NULL if the task was not taken */
    return status;
}

static tpool_status score(int sample, int *points) {
    tpool_status status = run_step(ask_model, (step_input){ sample, 0 }, STEP_LIMIT, points);
    if (status == TPOOL_OK) status = run_step(ask_judge, (step_input){ sample, *points }, STEP_LIMIT, points);
    return status;
}

static void *score_task(void *arg) {
    int sample = *(const int *)arg, points = 0;
    tpool_status status = score(sample, &points);
    if (status != TPOOL_OK) return tpool_raise((int)status, "sample %d: %s", sample, tpool_status_text(status));
    return tpool_return(&points, sizeof points);
}

static int64_t score_one_after_the_other(int scores[SAMPLES]) {
    int64_t start = tpool_now();
    for (int sample = 0; sample < SAMPLES; sample++) require(score(sample, &scores[sample]), "scoring");
    return tpool_now() - start;
}

static int64_t score_side_by_side(int scores[SAMPLES]) {
    int64_t start = tpool_now();
    tpool_future *futures[SAMPLES];
    for (int sample = 0; sample < SAMPLES; sample++)
        require(tpool_submit_copy(tpool_high_level(), score_task, &sample, sizeof sample, &futures[sample]),
                "submitting a sample");
    for (int sample = 0; sample < SAMPLES; sample++) {
        void *result;
        tpool_status status = tpool_future_result(futures[sample], TPOOL_FOREVER, &result);
        if (status == TPOOL_OK) scores[sample] = *(const int *)result;
        else fprintf(stderr, "dual_scoring: %s\n", tpool_future_message(futures[sample]));
        tpool_future_release(futures[sample]);
    }
    return tpool_now() - start;
}

int main(void) {
    /* Before their first use. Both have max(4, tpool_cpu_count()) workers unless told otherwise. */
    tpool_config low = { .name = "low", .max_workers = 2 * SAMPLES };
    require(tpool_dual_configure(NULL, &low), "configuring the pools");

    int serial[SAMPLES], parallel[SAMPLES];
    memset(serial, 0, sizeof serial);
    memset(parallel, 0xff, sizeof parallel);
    int64_t parallel_ns = score_side_by_side(parallel);
    int64_t serial_ns = score_one_after_the_other(serial);
    double speed_up = (double)serial_ns / (double)parallel_ns;

    bool right = true;
    for (int sample = 0; sample < SAMPLES; sample++) {
        printf("sample %d: %d points\n", sample, parallel[sample]);
        right &= parallel[sample] == serial[sample] && parallel[sample] == 2 * model_points(sample);
    }
    printf("one after the other: %.0f ms, side by side: %.0f ms, %.1f times faster\n", (double)serial_ns / 1e6,
           (double)parallel_ns / 1e6, speed_up);

    int points = 0;
    tpool_status status = run_step(ask_dead_server, (step_input){ 0, 0 }, TPOOL_MS(50), &points);
    printf("a server that never answers: %s\n", tpool_status_text(status));
    right &= status == TPOOL_TIMEOUT;

    require(tpool_dual_shutdown(TPOOL_WAIT), "shutting down"); /* would otherwise happen at exit */
    if (!right) puts("WRONG");
    if (speed_up < 3) puts("NOT 3 TIMES FASTER");
    return right && speed_up >= 3 ? EXIT_SUCCESS : EXIT_FAILURE;
}
