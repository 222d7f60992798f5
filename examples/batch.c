/* batch: a batch of jobs of very different cost, reported as they complete; those that fail for a passing
 * reason are tried again.
 *
 *     cc -std=c11 -O2 -pthread -I. examples/batch.c -o batch && ./batch
 *
 * tpool_as_completed yields futures in the order in which they end, with their position in the array. A retry
 * is one more future added to the same iterator: its position counts on from the end of the array, so an array
 * of attempts, one entry per future in the order added, tells what each one was.
 */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { JOBS = 40, MOST_TRIES = 3 };

/* Travels to the task by value. */
typedef struct job_attempt {
    int job;
    int try; /* 1, 2, ... */
} job_attempt;

/* Comes back by value. */
typedef struct job_answer {
    int job;
    int primes;
} job_answer;

static void require(tpool_status status, const char *what) {
    if (status == TPOOL_OK) return;
    fprintf(stderr, "batch: %s: %s\n", what, tpool_status_text(status));
    exit(EXIT_FAILURE);
}

/* -------------------------------------------------------------------------------------------------------------
 *  The jobs: job n counts the primes below a limit of its own, the costliest a thousand times the cheapest
 * ---------------------------------------------------------------------------------------------------------- */

static int limit_of(int job) { return 100 + job * job * 60; }

static int count_primes_below(int limit) {
    int primes = 0;
    for (int n = 2; n < limit; n++) {
        bool prime = true;
        for (int d = 2; prime && d <= n / d; d++) prime = n % d != 0;
        primes += prime;
    }
    return primes;
}

/* How often a job fails before it works, as with a flaky server; job 37 asks for something impossible. */
static int failures_of(int job) { return job == 20 ? MOST_TRIES : job % 10 == 0 ? 2 : job % 5 == 0 ? 1 : 0; }
static bool is_impossible(int job) { return job == 37; }

static void *run_job(void *arg) {
    const job_attempt *attempt = (const job_attempt *)arg;
    if (is_impossible(attempt->job)) return tpool_raise(EINVAL, "job %d asks for the impossible", attempt->job);
    if (attempt->try <= failures_of(attempt->job)) return tpool_raise(EAGAIN, "the server is busy");
    job_answer answer = { attempt->job, count_primes_below(limit_of(attempt->job)) };
    return tpool_return(&answer, sizeof answer);
}

static tpool_future *submit_attempt(tpool *pool, job_attempt attempt) {
    tpool_task task = { .fn = run_job, .arg = &attempt, .arg_size = sizeof attempt, .name = "count primes" };
    tpool_future *future;
    require(tpool_submit_task(pool, &task, &future), "submitting a job");
    return future;
}

int main(void) {
    tpool *pool;
    require(tpool_create(&pool, &(tpool_config){ .name = "batch", .max_workers = 4 }), "creating the pool");

    job_attempt attempts[JOBS * MOST_TRIES];
    size_t attempt_count = 0;
    tpool_future *futures[JOBS];
    for (int job = 0; job < JOBS; job++) {
        attempts[attempt_count] = (job_attempt){ job, 1 };
        futures[job] = submit_attempt(pool, attempts[attempt_count++]);
    }
    tpool_completions *completions;
    require(tpool_as_completed(futures, JOBS, &completions), "as_completed");
    for (int job = 0; job < JOBS; job++) tpool_future_release(futures[job]); /* the iterator holds its own */

    int ended = 0, succeeded = 0, given_up = 0, refused = 0, retries = 0, wrong = 0;
    int ends_of_job[JOBS] = { 0 };
    for (;;) {
        tpool_future *future;
        tpool_status status = tpool_completions_next(completions, TPOOL_FOREVER, &future);
        if (status == TPOOL_END) break;
        require(status, "waiting for a job");
        job_attempt current = attempts[tpool_completions_index(completions)];

        void *result;
        const tpool_error *error;
        status = tpool_future_result(future, 0, &result);
        switch (status) {
        case TPOOL_OK: {
            const job_answer *answer = (const job_answer *)result;
            printf("[%2d/%d] job %2d: %d primes below %d (try %d)\n", ++ended, JOBS, current.job, answer->primes,
                   limit_of(current.job), current.try);
            if (answer->job != current.job || current.try != failures_of(current.job) + 1) wrong++;
            if (answer->primes != count_primes_below(limit_of(current.job))) wrong++;
            ends_of_job[current.job]++;
            succeeded++;
            break;
        }
        case TPOOL_FAILED:
            require(tpool_future_error(future, 0, &error), "asking for the error");
            if (error->code == EAGAIN && current.try < MOST_TRIES) {
                attempts[attempt_count] = (job_attempt){ current.job, current.try + 1 };
                tpool_future *retry = submit_attempt(pool, attempts[attempt_count++]);
                require(tpool_completions_add(completions, retry), "adding a retry");
                tpool_future_release(retry);
                retries++;
                break;
            }
            printf("[%2d/%d] job %2d: %s: %s (code %d, try %d)\n", ++ended, JOBS, current.job, error->task,
                   error->message, error->code, current.try);
            if (error->code == EAGAIN) given_up++;
            else refused++;
            ends_of_job[current.job]++;
            break;
        default: /* nothing here cancels a job, lets it expire or kills its worker */
            fprintf(stderr, "job %d: %s\n", current.job, tpool_future_message(future));
            wrong++;
        }
    }
    tpool_completions_destroy(completions);
    require(tpool_destroy(pool), "destroying the pool");

    printf("%d succeeded, %d given up after %d tries, %d refused; %d retries\n", succeeded, given_up, MOST_TRIES,
           refused, retries);
    int expected_retries = 0;
    for (int job = 0; job < JOBS; job++) {
        if (ends_of_job[job] != 1) wrong++;
        if (!is_impossible(job)) expected_retries += failures_of(job) < MOST_TRIES ? failures_of(job) : MOST_TRIES - 1;
    }
    if (succeeded != JOBS - 2 || given_up != 1 || refused != 1 || retries != expected_retries) wrong++;
    if (wrong > 0) puts("WRONG");
    return wrong > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
