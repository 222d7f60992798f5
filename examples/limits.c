/* limits: errors and time limits, on tasks that look for the smallest prime factor of a number.
 *
 *     cc -std=c11 -O2 -pthread -I. examples/limits.c -o limits && ./limits
 *
 * There are five limits, and they mean different things:
 *  - of a wait (tpool_future_result and others): the wait ends, the task goes on;
 *  - of a call (tpool_run_with_timeout): a task still queued is cancelled, a running one is asked to stop;
 *  - of the queue (expires_ns): a task that has not started by then never does;
 *  - of the run (run_limit_ns): a task that runs longer is asked to stop;
 *  - of both (timeout_ns): what a call's limit does, but nobody waits in a call.
 * A thread cannot be stopped from outside: "asked" means that tpool_stop_requested() turns true, and the task must
 * look. Until it does, it uses its argument, which is why arguments travel by value here (arg_size).
 */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EASY UINT64_C(1000036000099)       /* 1000003 * 1000033: found in milliseconds */
#define HARD UINT64_C(4611685975477714963) /* 2147483647 * 2147483629: takes many seconds */

static int failures;

static void check(bool right, const char *what) {
    printf("  %s: %s\n", what, right ? "yes" : "NO");
    if (!right) failures++;
}

static void require(tpool_status status, const char *what) {
    if (status == TPOOL_OK) return;
    fprintf(stderr, "limits: %s: %s\n", what, tpool_status_text(status));
    exit(EXIT_FAILURE);
}

/* The task: gives the smallest prime factor of a number. Looks every few thousand steps whether to stop. */
static void *smallest_factor(void *arg) {
    uint64_t number = *(const uint64_t *)arg;
    if (number < 2) return tpool_raise(EDOM, "%" PRIu64 " has no prime factor", number);
    uint64_t factor = number % 2 == 0 ? 2 : number;
    for (uint64_t d = 3; factor == number && d <= number / d; d += 2) {
        if (number % d == 0) factor = d;
        if (d % 8192 == 1 && tpool_stop_requested())
            return tpool_raise(ECANCELED, "stopped at %" PRIu64 ", no factor of %" PRIu64 " so far", d, number);
    }
    return tpool_return(&factor, sizeof factor);
}

/* number is the caller's and must live until the task has been submitted, no longer. */
static tpool_task factor_task(uint64_t *number) {
    return (tpool_task){ .fn = smallest_factor, .arg = number, .arg_size = sizeof *number, .name = "factor" };
}

/* The value of a future that is done, or 0. */
static uint64_t factor_of(tpool_future *future) {
    void *result;
    return tpool_future_result(future, 0, &result) == TPOOL_OK ? *(const uint64_t *)result : 0;
}

static void call_with_a_limit(tpool *pool) {
    uint64_t number = EASY;
    tpool_task task = factor_task(&number);
    tpool_future *future;

    puts("A call that ends in time:");
    tpool_status status = tpool_run_with_timeout(pool, &task, TPOOL_SEC(30), &future);
    check(status == TPOOL_OK && factor_of(future) == 1000003, "it gives the factor");
    tpool_future_release(future);

    puts("A call that takes too long:");
    number = HARD;
    status = tpool_run_with_timeout(pool, &task, TPOOL_MS(50), &future);
    check(status == TPOOL_TIMEOUT, "it gives up after 50 ms");
    if (future != NULL) { /* NULL: the task was not taken; its status says why */
        status = tpool_future_result(future, TPOOL_SEC(30), NULL);
        check(status == TPOOL_FAILED || status == TPOOL_CANCELLED, "the task was stopped, or never started");
        printf("  (%s)\n", tpool_future_message(future));
        tpool_future_release(future);
    }
}

static void an_error(tpool *pool) {
    uint64_t number = 1;
    tpool_task task = factor_task(&number);
    tpool_future *future;
    const tpool_error *error;

    puts("A task that fails:");
    require(tpool_submit_task(pool, &task, &future), "submitting");
    check(tpool_future_result(future, TPOOL_FOREVER, NULL) == TPOOL_FAILED, "its status says so");
    tpool_status status = tpool_future_error(future, TPOOL_FOREVER, &error);
    check(status == TPOOL_OK && error != NULL && error->code == EDOM, "its error has the code");
    check(strcmp(tpool_future_message(future), "1 has no prime factor") == 0, "the message");
    check(error != NULL && error->task != NULL && strcmp(error->task, "factor") == 0, "and the task's name");
    tpool_future_release(future);
}

static void a_wait_with_a_limit(tpool *pool) {
    uint64_t number = HARD;
    tpool_task task = factor_task(&number);
    tpool_future *future;

    puts("A wait with a limit, and one deadline for several waits:");
    require(tpool_submit_task(pool, &task, &future), "submitting");
    check(tpool_future_result(future, 0, NULL) == TPOOL_TIMEOUT, "a look does not wait");
    int64_t deadline = tpool_now() + TPOOL_MS(40);
    check(tpool_future_result(future, TPOOL_MS(20), NULL) == TPOOL_TIMEOUT, "the first wait ends");
    tpool_status status = tpool_future_result(future, tpool_until(deadline), NULL);
    check(status == TPOOL_TIMEOUT, "the second at the deadline");
    check(tpool_until(deadline) == 0 && tpool_now() >= deadline, "which has passed");
    check(!tpool_future_done(future), "the task goes on");
    tpool_future_request_stop(future);
    check(tpool_future_result(future, TPOOL_FOREVER, NULL) == TPOOL_FAILED, "until it is asked to stop");
    tpool_future_release(future);
}

static void a_run_with_a_limit(tpool *pool) {
    uint64_t number = HARD;
    tpool_task task = factor_task(&number);
    task.run_limit_ns = TPOOL_MS(30);
    tpool_future *future;

    puts("A task with a limit of its own:");
    require(tpool_submit_task(pool, &task, &future), "submitting");
    check(tpool_future_result(future, TPOOL_FOREVER, NULL) == TPOOL_FAILED, "it is asked to stop by itself");
    printf("  (%s)\n", tpool_future_message(future));
    tpool_future_release(future);

    task.run_limit_ns = 0;
    task.timeout_ns = TPOOL_MS(30);
    require(tpool_submit_task(pool, &task, &future), "submitting");
    check(tpool_future_result(future, TPOOL_FOREVER, NULL) == TPOOL_FAILED, "and where its time in the queue counts");
    tpool_future_release(future);
}

static int freed;
static void count_free(void *arg) { (void)arg, freed++; }

static void a_queue_with_limits(void) {
    tpool *pool;
    tpool_config config = {
        .name = "narrow",
        .max_workers = 1,
        .queue_capacity = 1,
        .on_full = TPOOL_FULL_REJECT,
    };
    require(tpool_create(&pool, &config), "creating a pool");

    puts("A queue behind a busy worker:");
    uint64_t hard = HARD, easy = EASY;
    tpool_task long_task = factor_task(&hard), short_task = factor_task(&easy);
    tpool_future *running, *waiting, *refused;
    require(tpool_submit_task(pool, &long_task, &running), "submitting");
    while (!tpool_future_running(running)) (void)tpool_future_result(running, TPOOL_MS(1), NULL);

    short_task.expires_ns = TPOOL_MS(200);
    short_task.arg_free = count_free;
    require(tpool_submit_task(pool, &short_task, &waiting), "submitting");
    tpool_status status = tpool_submit_task(pool, &short_task, &refused);
    check(status == TPOOL_FULL && refused == NULL, "a second task finds it full, and is not taken");
    check(tpool_future_result(waiting, TPOOL_FOREVER, NULL) == TPOOL_EXPIRED, "the first expires");
    check(freed == 1, "and its argument is freed once, the refused one's is not");
    tpool_future_release(waiting);

    short_task.expires_ns = 0;
    require(tpool_submit_task(pool, &short_task, &waiting), "submitting");
    check(tpool_future_cancel(waiting), "a waiting task can be cancelled");
    check(tpool_future_result(waiting, 0, NULL) == TPOOL_CANCELLED && freed == 2, "its argument is freed too");
    check(!tpool_future_cancel(running), "a running one cannot");
    tpool_future_release(waiting);

    require(tpool_shutdown(pool, TPOOL_WAIT | TPOOL_STOP_RUNNING), "shutting down");
    check(tpool_future_result(running, 0, NULL) == TPOOL_FAILED, "the shutdown stops it");
    check(tpool_submit_task(pool, &short_task, &refused) == TPOOL_SHUTDOWN && freed == 2, "and takes no more");
    tpool_future_release(running);
    require(tpool_destroy(pool), "destroying a pool");
}

int main(void) {
    tpool *pool;
    require(tpool_create(&pool, &(tpool_config){ .name = "limits", .max_workers = 2 }), "creating the pool");
    call_with_a_limit(pool);
    an_error(pool);
    a_wait_with_a_limit(pool);
    a_run_with_a_limit(pool);
    require(tpool_destroy(pool), "destroying the pool");
    a_queue_with_limits();
    puts(failures == 0 ? "all as expected" : "WRONG");
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
