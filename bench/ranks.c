/* Pools over MPI's ranks, and what the MPI library itself takes: a round trip against a ping-pong, tasks and chunks of
 * items against a farm of the plainest kind, in which rank 0 keeps one message on its way to each other rank. Run by
 * ranks.py, which holds both against mpi4py.futures:
 *
 *     mpicc -O2 -std=gnu11 -pthread -DTPOOL_MPI -I. bench/ranks.c -o ranks && bench/ranks.py ranks
 *
 * Under mpiexec, `ranks ours` and `ranks floor` print case, unit, value, separated by tabs, and end with 0 when all
 * results were right. */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TRIPS = 3000, TASKS = 20000, ITEMS = 1000000, CHUNK_MOST = 10000 };
static const int chunks[] = { 1, 100, 1000, 10000 };
enum { CHUNKS = sizeof chunks / sizeof *chunks };
static pid_t host; /* of a rank's own process, and of its workers' */

static void need(bool right, const char *what) {
    if (right) return;
    fprintf(stderr, "ranks: wrong: %s\n", what);
    MPI_Abort(MPI_COMM_WORLD, 1);
}
static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static void say(const char *name, const char *unit, double value) {
    printf("%s\t%s\t%.6g\n", name, unit, value);
    fflush(stdout);
}
static void say_rate(int chunk, int count, int64_t began) {
    char name[40];
    snprintf(name, sizeof name, "items in chunks of %d", chunk);
    say(name, "/s", count / ((double)(tpool_now() - began) / 1e9));
}
static int count_of(int chunk) { return chunk == 1 ? TASKS : chunk == 100 ? ITEMS / 5 : ITEMS; }
static void say_trips(double *samples) {
    qsort(samples, TRIPS, sizeof *samples, by_value);
    say("round trip", "us", samples[TRIPS / 2] / 1e3);
}

/* --- ours */

static void *triple(void *arg) {
    int n = *(int *)arg * 3;
    return tpool_return(&n, sizeof n);
}
static void *triple_item(void *item, void *unused) {
    (void)unused;
    return (void *)(intptr_t)(*(int *)item * 3);
}
static void *host_of(void *unused) {
    (void)unused;
    return (void *)(intptr_t)host;
}
static tpool_future *sent(tpool *pool, tpool_fn fn, const int *arg) {
    tpool_future *future;
    need((arg ? tpool_submit_copy(pool, fn, arg, sizeof *arg, &future) : tpool_submit(pool, fn, NULL, &future)) ==
             TPOOL_OK,
         "submit");
    return future;
}
static void *result_of(tpool_future *future) {
    void *result;
    need(tpool_future_result(future, TPOOL_FOREVER, &result) == TPOOL_OK, "result");
    return result;
}
static double cpu_ns_of(pid_t pid) {
    clockid_t clock;
    struct timespec used;
    need(clock_getcpuclockid(pid, &clock) == 0 && clock_gettime(clock, &used) == 0, "CPU time");
    return (double)used.tv_sec * 1e9 + (double)used.tv_nsec;
}
static void trips_of_pool(tpool *pool) {
    static double samples[TRIPS];
    for (int i = 0; i < TRIPS; i++) {
        int64_t began = tpool_now();
        tpool_future *future = sent(pool, triple, &i);
        need(*(int *)result_of(future) == 3 * i, "a trip");
        tpool_future_release(future);
        samples[i] = (double)(tpool_now() - began);
    }
    say_trips(samples);
}
static void tasks_of_pool(tpool *pool) {
    static tpool_future *futures[TASKS];
    int64_t began = tpool_now();
    for (int i = 0; i < TASKS; i++) futures[i] = sent(pool, triple, &i);
    for (int i = 0; i < TASKS; i++) {
        need(*(int *)result_of(futures[i]) == 3 * i, "a task");
        tpool_future_release(futures[i]);
    }
    say("tasks", "/s", TASKS / ((double)(tpool_now() - began) / 1e9));
}
static void map_of_pool(tpool *pool, int chunk, int *items) {
    int count = count_of(chunk);
    tpool_map_spec spec = { .fn = triple_item,
                            .items = items,
                            .count = (size_t)count,
                            .stride = sizeof *items,
                            .item_size = sizeof *items,
                            .chunk_size = (size_t)chunk };
    tpool_map_iter *iter;
    void *value;
    int64_t began = tpool_now();
    need(tpool_map(pool, &spec, &iter) == TPOOL_OK, "map");
    for (int i = 0; i < count; i++)
        need(tpool_map_next(iter, TPOOL_FOREVER, &value) == TPOOL_OK && (intptr_t)value == (intptr_t)i * 3, "an item");
    tpool_map_close(iter);
    say_rate(chunk, count, began);
}
static void idle_rank(tpool *pool) {
    tpool_future *future = sent(pool, host_of, NULL);
    pid_t there = (pid_t)(intptr_t)result_of(future);
    tpool_future_release(future);
    struct timespec second = { 1, 0 }, three = { 3, 0 };
    nanosleep(&second, NULL);
    double before = cpu_ns_of(there), here = cpu_ns_of(getpid());
    int64_t began = tpool_now();
    nanosleep(&three, NULL);
    double whole = (double)(tpool_now() - began) / 100;
    say("CPU of an idle rank", "%", (cpu_ns_of(there) - before) / whole);
    say("CPU of rank 0 meanwhile", "%", (cpu_ns_of(getpid()) - here) / whole);
}
static int ours(int argc, char **argv, int *items) {
    tpool *pool;
    host = getpid();
    need(tpool_main(&argc, &argv) == TPOOL_OK, "main");
    need(tpool_create(&pool, &(tpool_config){ .kind = TPOOL_MPI_RANKS }) == TPOOL_OK, "create");
    need(tpool_warm_up(pool, 1) == TPOOL_OK, "warm_up");
    trips_of_pool(pool);
    int size = 0;
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    need(tpool_warm_up(pool, size - 1) == TPOOL_OK, "warm_up");
    tasks_of_pool(pool);
    for (int i = 0; i < CHUNKS; i++) map_of_pool(pool, chunks[i], items);
    idle_rank(pool);
    need(tpool_destroy(pool) == TPOOL_OK, "destroy");
    return 0;
}

/* --- the farm */

static void works(void) {
    static int buffer[CHUNK_MOST];
    for (;;) {
        MPI_Status status;
        int count = 0;
        MPI_Recv(buffer, CHUNK_MOST, MPI_INT, 0, 0, MPI_COMM_WORLD, &status);
        MPI_Get_count(&status, MPI_INT, &count);
        if (count == 0) return;
        for (int i = 0; i < count; i++) buffer[i] *= 3;
        MPI_Send(buffer, count, MPI_INT, 0, 0, MPI_COMM_WORLD);
    }
}
static void farm(int ranks, int chunk, const int *items, int *results) {
    int at[64], sent_to = 0, received = 0, count = count_of(chunk);
    int64_t began = tpool_now();
    for (int rank = 1; rank < ranks; rank++, sent_to += chunk) {
        at[rank] = sent_to;
        MPI_Send(items + sent_to, chunk, MPI_INT, rank, 0, MPI_COMM_WORLD);
    }
    while (received < count) {
        MPI_Status status;
        MPI_Probe(MPI_ANY_SOURCE, 0, MPI_COMM_WORLD, &status);
        int rank = status.MPI_SOURCE;
        MPI_Recv(results + at[rank], chunk, MPI_INT, rank, 0, MPI_COMM_WORLD, &status);
        received += chunk;
        if (sent_to == count) continue;
        at[rank] = sent_to;
        MPI_Send(items + sent_to, chunk, MPI_INT, rank, 0, MPI_COMM_WORLD);
        sent_to += chunk;
    }
    for (int i = 0; i < count; i++) need(results[i] == 3 * i, "a result");
    say_rate(chunk, count, began);
}
static int floor_of_mpi(int argc, char **argv, const int *items) {
    static int results[ITEMS];
    static double samples[TRIPS];
    int self = 0, ranks = 0;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &self);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    if (self != 0) works();
    for (int i = 0; self == 0 && i < TRIPS; i++) {
        int64_t began = tpool_now();
        MPI_Send(&items[i], 1, MPI_INT, 1, 0, MPI_COMM_WORLD);
        MPI_Recv(&results[i], 1, MPI_INT, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        samples[i] = (double)(tpool_now() - began);
    }
    if (self == 0) say_trips(samples);
    for (int i = 0; self == 0 && i < CHUNKS; i++) farm(ranks, chunks[i], items, results);
    for (int rank = 1; self == 0 && rank < ranks; rank++) MPI_Send(results, 0, MPI_INT, rank, 0, MPI_COMM_WORLD);
    MPI_Finalize();
    return 0;
}

int main(int argc, char **argv) {
    static int items[ITEMS];
    for (int i = 0; i < ITEMS; i++) items[i] = i;
    return argc > 1 && strcmp(argv[1], "floor") == 0 ? floor_of_mpi(argc, argv, items) : ours(argc, argv, items);
}
