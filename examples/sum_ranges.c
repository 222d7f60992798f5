/* sum_ranges: the same CPU-bound sum over several ranges, one after the other, on threads and on processes, with the
 * time that each took.
 *
 *     cc -std=c11 -O2 -pthread -I. examples/sum_ranges.c -o sum_ranges && ./sum_ranges
 *
 * The task is the same for all three: it takes its range by value and gives its sum by value, and so it does not matter
 * to it where it runs.
 */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"

#include <stdio.h>
#include <stdlib.h>

enum { RANGES = 8 };
#define NUMBERS 1500000

typedef struct range {
    long begin, end;
} range;

static void require(tpool_status status, const char *what) {
    if (status == TPOOL_OK) return;
    fprintf(stderr, "sum_ranges: %s: %s\n", what, tpool_status_text(status));
    exit(EXIT_FAILURE);
}

/* The sum of the numbers' largest odd divisors, slowly. */
static long sum_of(range r) {
    long sum = 0;
    for (long n = r.begin; n < r.end; n++) {
        long odd = n;
        while (odd > 1 && odd % 2 == 0) odd /= 2;
        long digits = 0;
        for (long rest = odd; rest > 0; rest /= 10) digits += rest % 10;
        sum += odd + digits;
    }
    return sum;
}
static void *sum_task(void *arg) {
    long sum = sum_of(*(const range *)arg);
    return tpool_return(&sum, sizeof sum);
}

static long sum_serial(const range *ranges) {
    long sum = 0;
    for (int i = 0; i < RANGES; i++) sum += sum_of(ranges[i]);
    return sum;
}
static long sum_pooled(tpool *pool, const range *ranges) {
    tpool_future *futures[RANGES];
    long sum = 0;
    for (int i = 0; i < RANGES; i++)
        require(tpool_submit_copy(pool, sum_task, &ranges[i], sizeof ranges[i], &futures[i]), "submit");
    for (int i = 0; i < RANGES; i++) {
        void *result;
        require(tpool_future_result(futures[i], TPOOL_FOREVER, &result), "result");
        sum += *(const long *)result;
        tpool_future_release(futures[i]);
    }
    return sum;
}

int main(void) {
    range ranges[RANGES];
    long sums[3];
    int64_t times[3];
    static const char *const names[3] = { "serial", "threads", "processes" };
    tpool *pools[3] = { NULL, NULL, NULL };
    for (int i = 0; i < RANGES; i++) ranges[i] = (range){ 1 + i * (long)NUMBERS, 1 + (i + 1) * (long)NUMBERS };
    tpool_config processes = { .kind = TPOOL_PROCESSES };
    tpool_status status = tpool_create(&pools[2], &processes); /* before there are threads, as is best */
    if (status == TPOOL_UNSUPPORTED) return EXIT_SUCCESS;      /* no processes on this system */
    require(status, "create");
    require(tpool_create(&pools[1], NULL), "create");
    for (int way = 0; way < 3; way++) {
        if (pools[way]) require(tpool_warm_up(pools[way], tpool_cpu_count()), "warm_up");
        int64_t begin = tpool_now();
        sums[way] = pools[way] ? sum_pooled(pools[way], ranges) : sum_serial(ranges);
        times[way] = tpool_now() - begin;
        printf("%-10s %ld in %.1f ms, %.2f times serial\n", names[way], sums[way], (double)times[way] / 1e6,
               (double)times[0] / (double)times[way]);
    }
    for (int way = 1; way < 3; way++) require(tpool_destroy(pools[way]), "destroy");
    return sums[0] == sums[1] && sums[0] == sums[2] ? EXIT_SUCCESS : EXIT_FAILURE;
}
