/* unsized: a batch of jobs of very different cost, without a word on pools, workers or chunks.
 *
 *     cc -std=c11 -O2 -pthread -I. examples/unsized.c -o unsized && ./unsized
 *
 * The jobs are those of batch.c. tpool_map_auto runs the first of them here, sees what they take, and then goes on here
 * or with as many threads as pay: what it has chosen, and why, is printed. Those that fail for a passing reason are
 * mapped once more, until none is left or all tries are used up.
 */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { JOBS = 40, MOST_TRIES = 3 };

typedef struct job_attempt {
    int job;
    int try; /* 1, 2, ... */
} job_attempt;

static void require(tpool_status status, const char *what) {
    if (status == TPOOL_OK) return;
    fprintf(stderr, "unsized: %s: %s\n", what, tpool_status_text(status));
    exit(EXIT_FAILURE);
}

/* Job n counts the primes below a limit of its own, the costliest a thousand times the cheapest. */
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

static void *run_job(void *item, void *context) {
    const job_attempt *attempt = (const job_attempt *)item;
    (void)context;
    if (is_impossible(attempt->job)) return tpool_raise(EINVAL, "job %d asks for the impossible", attempt->job);
    if (attempt->try <= failures_of(attempt->job)) return tpool_raise(EAGAIN, "the server is busy");
    int primes = count_primes_below(limit_of(attempt->job));
    return tpool_return(&primes, sizeof primes);
}

/* One try of each: those that are to be tried again stand in `attempts` afterwards. */
static int run_round(job_attempt *attempts, int count, int *succeeded, int *given_up, int *refused, int *wrong) {
    tpool_map_iter *iter;
    tpool_choice choice;
    tpool_map_spec spec = { .fn = run_job, .items = attempts, .count = (size_t)count, .stride = sizeof attempts[0] };
    require(tpool_map_auto(NULL, &spec, 0, &iter, &choice), "beginning the jobs");
    printf("%d jobs, %s\n", count, choice.reason);

    job_attempt again[JOBS];
    int again_count = 0;
    void *result;
    const tpool_error *error;
    for (tpool_status status; (status = tpool_map_next(iter, TPOOL_FOREVER, &result)) != TPOOL_END;) {
        job_attempt current = *(const job_attempt *)tpool_map_item(iter);
        if (status == TPOOL_OK) {
            int primes = *(const int *)result;
            printf("job %2d: %d primes below %d (try %d)\n", current.job, primes, limit_of(current.job), current.try);
            if (primes != count_primes_below(limit_of(current.job))) ++*wrong;
            ++*succeeded;
            continue;
        }
        if (status != TPOOL_FAILED) require(status, "waiting for a job");
        require(tpool_map_error(iter, &error), "asking for the error");
        if (error->code == EAGAIN && current.try < MOST_TRIES) {
            again[again_count++] = (job_attempt){ current.job, current.try + 1 };
            continue;
        }
        printf("job %2d: %s (code %d, try %d)\n", current.job, error->message, error->code, current.try);
        ++*(error->code == EAGAIN ? given_up : refused);
    }
    tpool_map_close(iter);
    for (int i = 0; i < again_count; i++) attempts[i] = again[i];
    return again_count;
}

int main(void) {
    job_attempt attempts[JOBS];
    int succeeded = 0, given_up = 0, refused = 0, retries = 0, wrong = 0, expected_retries = 0;
    for (int job = 0; job < JOBS; job++) attempts[job] = (job_attempt){ job, 1 };
    for (int count = JOBS; count > 0;) {
        count = run_round(attempts, count, &succeeded, &given_up, &refused, &wrong);
        retries += count;
    }
    printf("%d succeeded, %d given up after %d tries, %d refused; %d retries\n", succeeded, given_up, MOST_TRIES,
           refused, retries);
    for (int job = 0; job < JOBS; job++)
        if (!is_impossible(job)) expected_retries += failures_of(job) < MOST_TRIES ? failures_of(job) : MOST_TRIES - 1;
    if (succeeded != JOBS - 2 || given_up != 1 || refused != 1 || retries != expected_retries) wrong++;
    if (wrong > 0) puts("WRONG");
    return wrong > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
