/* sum_ranges: the same CPU-bound sum over several ranges, one after the other, on threads, on processes and on the
 * ranks of an MPI program, with the time that each took.
 *
 *     cc -std=c11 -O2 -pthread -I. examples/sum_ranges.c -o sum_ranges && ./sum_ranges
 *     ./sum_ranges threads       # or processes, or ranks: that way only, beside the serial one
 *
 * Over ranks, on one machine and on four nodes of a cluster with Slurm:
 *
 *     mpicc -std=c11 -O2 -pthread -DTPOOL_MPI -I. examples/sum_ranges.c -o sum_ranges
 *     mpiexec -n 4 ./sum_ranges ranks
 *     srun --mpi=pmix --nodes=4 --ntasks-per-node=32 ./sum_ranges ranks    # with MPICH --mpi=pmi2
 *
 * The task is the same for all: it takes its range by value and gives its sum by value, and so it does not matter to it
 * where it runs.
 */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        tpool_kind kind;
    } ways[] = { { "processes", TPOOL_PROCESSES }, { "threads", TPOOL_THREADS }, { "ranks", TPOOL_MPI_RANKS } };
    range ranges[RANGES];
    int wrong = 0;
    require(tpool_main(&argc, &argv), "main"); /* on MPI's other ranks the program goes no further */
    const char *only = argc > 1 ? argv[1] : "";
    for (int i = 0; i < RANGES; i++) ranges[i] = (range){ 1 + i * (long)NUMBERS, 1 + (i + 1) * (long)NUMBERS };
    int64_t begin = tpool_now();
    long serial = sum_serial(ranges);
    int64_t serial_ns = tpool_now() - begin;
    printf("%-10s %ld in %.1f ms\n", "serial", serial, (double)serial_ns / 1e6);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) { /* processes before there are threads, as is best */
        tpool *pool = NULL;
        if (*only && strcmp(only, ways[i].name) != 0) continue;
        tpool_status status = tpool_create(&pool, &(tpool_config){ .kind = ways[i].kind });
        if (status == TPOOL_UNSUPPORTED) continue; /* none of this kind on this system, or without TPOOL_MPI */
        require(status, "create");
        require(tpool_warm_up(pool, ways[i].kind == TPOOL_MPI_RANKS ? RANGES : tpool_cpu_count()), "warm_up");
        begin = tpool_now();
        long sum = sum_pooled(pool, ranges);
        int64_t time = tpool_now() - begin;
        printf("%-10s %ld in %.1f ms, %.2f times serial\n", ways[i].name, sum, (double)time / 1e6,
               (double)serial_ns / (double)time);
        wrong += sum != serial;
        require(tpool_destroy(pool), "destroy");
    }
    return wrong ? EXIT_FAILURE : EXIT_SUCCESS;
}
