/* Process pools, against what the system itself takes in the same run: a round trip against a ping-pong over two pipes,
 * the start of a worker against fork and exit, large arguments against memcpy; and against Python's ProcessPoolExecutor
 * (bench/processes.py), side by side. Rounds alternate between ours and the floor; medians of the rounds.
 *
 *     cc -O2 -std=gnu11 -pthread -I. bench/processes.c -o processes && ./processes [python3 bench/processes.py]
 *
 * Prints case, figure, unit, value, separated by tabs, and ends with 0 when all results were right. */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { ROUNDS = 7, TRIPS = 5000, WORKERS = 2 };

static void need(bool right, const char *what) {
    if (right) return;
    fprintf(stderr, "processes: wrong: %s\n", what);
    exit(1);
}
static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static double part(double *samples, size_t count, double share) {
    qsort(samples, count, sizeof *samples, by_value);
    return samples[(size_t)((double)(count - 1) * share)];
}
static void say(const char *name, const char *figure, const char *unit, double value) {
    printf("%s\t%s\t%s\t%.6g\n", name, figure, unit, value);
    fflush(stdout);
}

static tpool *create(int workers, size_t capacity) {
    tpool_config config = { .kind = TPOOL_PROCESSES, .max_workers = workers, .queue_capacity = capacity };
    tpool *pool;
    need(tpool_create(&pool, &config) == TPOOL_OK, "create");
    need(tpool_warm_up(pool, workers) == TPOOL_OK, "warm_up");
    return pool;
}

/* --- round trips */

static void *triple(void *arg) {
    int n = *(int *)arg * 3;
    return tpool_return(&n, sizeof n);
}
static void *nothing(void *arg) { return arg; }

static double trips_of_pool(tpool *pool, double *p99) {
    static double samples[TRIPS];
    for (int i = 0; i < TRIPS; i++) {
        tpool_future *future;
        void *result;
        int64_t begin = tpool_now();
        need(tpool_submit_copy(pool, triple, &i, sizeof i, &future) == TPOOL_OK, "submit");
        need(tpool_future_result(future, TPOOL_FOREVER, &result) == TPOOL_OK && *(int *)result == 3 * i, "result");
        tpool_future_release(future);
        samples[i] = (double)(tpool_now() - begin);
    }
    *p99 = part(samples, TRIPS, 0.99);
    return part(samples, TRIPS, 0.5);
}
static double trips_of_pipes(void) {
    static double samples[TRIPS];
    int there[2], back[2];
    char byte = 'x';
    need(pipe(there) == 0 && pipe(back) == 0, "pipe");
    pid_t child = fork();
    if (child == 0) {
        close(there[1]);
        while (read(there[0], &byte, 1) == 1)
            if (write(back[1], &byte, 1) != 1) break;
        _exit(0);
    }
    close(there[0]);
    close(back[1]);
    for (int i = 0; i < TRIPS; i++) {
        int64_t begin = tpool_now();
        need(write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1, "ping-pong");
        samples[i] = (double)(tpool_now() - begin);
    }
    close(there[1]);
    close(back[0]);
    need(waitpid(child, NULL, 0) == child, "waitpid");
    return part(samples, TRIPS, 0.5);
}
static void round_trips_as(const char *name, const char *floor_name) {
    double ours[ROUNDS], tails[ROUNDS], floor_[ROUNDS], ratios[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        tpool *pool = create(1, 0);
        (void)trips_of_pool(pool, tails); /* warm */
        floor_[i] = trips_of_pipes();
        ours[i] = trips_of_pool(pool, &tails[i]);
        ratios[i] = ours[i] / floor_[i];
        tpool_destroy(pool);
    }
    say(name, "p50", "ns", part(ours, ROUNDS, 0.5));
    say(name, "p99", "ns", part(tails, ROUNDS, 0.5));
    say(floor_name, "p50", "ns", part(floor_, ROUNDS, 0.5));
    say(name, "times the floor (bar: most 3)", "", part(ratios, ROUNDS, 0.5));
}
/* Where two CPUs are idle, the system hands a pipe's message to the same CPU, in 2 us, or to the other, in 50, as it
 * likes, the floor's or ours; pinned to one CPU both are the same in each run. */
static void round_trip(void) {
    round_trips_as("processes/roundtrip", "processes/floor-pipes");
#if defined(__linux__)
    cpu_set_t all, one;
    need(sched_getaffinity(0, sizeof all, &all) == 0, "sched_getaffinity");
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &all)) CPU_SET(i, &one);
    need(sched_setaffinity(0, sizeof one, &one) == 0, "sched_setaffinity");
    round_trips_as("processes/roundtrip-pinned", "processes/floor-pipes-pinned");
    need(sched_setaffinity(0, sizeof all, &all) == 0, "sched_setaffinity");
#endif
}

/* --- many small tasks, and many small items */

static double tasks_per_second(tpool *pool) {
    enum { TASKS = 50000 };
    static tpool_future *futures[TASKS];
    int64_t begin = tpool_now();
    for (int i = 0; i < TASKS; i++)
        need(tpool_submit_copy(pool, triple, &i, sizeof i, &futures[i]) == TPOOL_OK, "submit");
    for (int i = 0; i < TASKS; i++) {
        void *result;
        need(tpool_future_result(futures[i], TPOOL_FOREVER, &result) == TPOOL_OK && *(int *)result == 3 * i, "result");
        tpool_future_release(futures[i]);
    }
    return TASKS * 1e9 / (double)(tpool_now() - begin);
}
static void *triple_item(void *item, void *context) {
    (void)context;
    return (void *)(intptr_t)(*(int *)item * 3);
}
static void *give_item(void *item, void *context) {
    int n = *(int *)item * 3;
    (void)context;
    return tpool_return(&n, sizeof n);
}
static double items_per_second(tpool *pool, size_t chunk, bool by_bytes) {
    enum { ITEMS = 2000000 };
    static int items[ITEMS];
    tpool_map_spec spec = { .fn = by_bytes ? give_item : triple_item,
                            .items = items,
                            .count = ITEMS,
                            .stride = sizeof(int),
                            .item_size = sizeof(int),
                            .chunk_size = chunk };
    tpool_map_iter *iter;
    void *result;
    for (int i = 0; i < ITEMS; i++) items[i] = i;
    int64_t begin = tpool_now();
    need(tpool_map(pool, &spec, &iter) == TPOOL_OK, "map");
    for (int i = 0; i < ITEMS; i++)
        need(tpool_map_next(iter, TPOOL_FOREVER, &result) == TPOOL_OK &&
                 (by_bytes ? *(int *)result : (intptr_t)result) == 3 * (intptr_t)i,
             "map_next");
    tpool_map_close(iter);
    return ITEMS * 1e9 / (double)(tpool_now() - begin);
}
/* Python runs the same case and prints how many it did in a second. 0: there is none. */
static double python_per_second(int count, char **words, int chunk) {
    char command[2000] = "", line[100] = "";
    if (count < 3) return 0;
    for (int i = 1; i < count; i++)
        snprintf(command + strlen(command), sizeof command - strlen(command), "%s ", words[i]);
    snprintf(command + strlen(command), sizeof command - strlen(command), "%d %d", WORKERS, chunk);
    FILE *python = popen(command, "r");
    if (!python) return 0;
    if (!fgets(line, sizeof line, python)) line[0] = 0;
    pclose(python);
    return strtod(line, NULL);
}
static void throughput(int count, char **words) {
    static const int chunks[] = { 1, 100, 1000, 10000 };
    for (int c = 0; c < 4; c++) {
        double ours[ROUNDS], bytes[ROUNDS], python[ROUNDS];
        char name[64];
        snprintf(name, sizeof name, chunks[c] == 1 ? "processes/tasks" : "processes/map-%d", chunks[c]);
        for (int i = 0; i < ROUNDS;
             i++) { /* new processes each, as Python's: where the system puts them decides much */
            tpool *pool = create(WORKERS, 0);
            ours[i] = chunks[c] == 1 ? tasks_per_second(pool) : items_per_second(pool, (size_t)chunks[c], false);
            bytes[i] = chunks[c] == 1 ? 0 : items_per_second(pool, (size_t)chunks[c], true);
            tpool_destroy(pool);
            python[i] = python_per_second(count, words, chunks[c]);
        }
        double mine = part(ours, ROUNDS, 0.5), theirs = part(python, ROUNDS, 0.5);
        say(name, "rate", "/s", mine);
        double given = part(bytes, ROUNDS, 0.5);
        if (given > 0) say(name, "rate with tpool_return", "/s", given);
        if (theirs <= 0) continue;
        say(name, "rate of Python", "/s", theirs);
        say(name, "times Python (bar: least 20)", "", mine / theirs);
        if (given > 0) say(name, "times Python with tpool_return", "", given / theirs);
    }
}

/* --- 1 GiB as arguments of 16 MiB */

enum { LARGE = 16 << 20, LARGE_COUNT = 64 };
static void *touch(void *arg) { return (void *)(intptr_t)(((char *)arg)[0] + ((char *)arg)[LARGE - 1]); }
static double gib_by_pool(tpool *pool, const char *bytes) {
    tpool_future *futures[LARGE_COUNT];
    int64_t begin = tpool_now();
    for (int i = 0; i < LARGE_COUNT; i++)
        need(tpool_submit_copy(pool, touch, bytes, LARGE, &futures[i]) == TPOOL_OK, "submit");
    for (int i = 0; i < LARGE_COUNT; i++) {
        void *result;
        need(tpool_future_result(futures[i], TPOOL_FOREVER, &result) == TPOOL_OK && (intptr_t)result == 2, "bytes");
        tpool_future_release(futures[i]);
    }
    return (double)(tpool_now() - begin);
}
static double gib_by_memcpy(const char *bytes, char *to) {
    int64_t begin = tpool_now();
    for (int i = 0; i < LARGE_COUNT; i++) {
        memcpy(to, bytes, LARGE);
        __asm__ __volatile__("" : : "r"(to) : "memory");
    }
    return (double)(tpool_now() - begin);
}
static void bandwidth(void) {
    double ours[ROUNDS], floor_[ROUNDS], ratios[ROUNDS];
    char *bytes = malloc(LARGE), *to = malloc(LARGE);
    need(bytes && to, "memory");
    memset(bytes, 1, LARGE);
    memset(to, 2, LARGE);
    tpool *pool = create(WORKERS, 2);
    (void)gib_by_pool(pool, bytes);
    for (int i = 0; i < ROUNDS; i++) {
        floor_[i] = gib_by_memcpy(bytes, to);
        ours[i] = gib_by_pool(pool, bytes);
        ratios[i] = floor_[i] / ours[i];
    }
    say("processes/1GiB", "rate", "GB/s", (double)LARGE * LARGE_COUNT / part(ours, ROUNDS, 0.5));
    say("processes/floor-memcpy", "rate", "GB/s", (double)LARGE * LARGE_COUNT / part(floor_, ROUNDS, 0.5));
    say("processes/1GiB", "of the floor (bar: least 0.5)", "", part(ratios, ROUNDS, 0.5));
    tpool_destroy(pool);
    free(bytes);
    free(to);
}

/* --- how bytes travel: behind the message in the pipe, or in memory that both have, with the message alone in the
 * pipe. The first question is at what size the second pays; the library uses it at every size. */

enum { MESSAGE = 200, MOST = 16 << 20 };
static void all_of(int fd, char *bytes, size_t size, bool out) {
    while (size > 0) {
        ssize_t n = out ? write(fd, bytes, size) : read(fd, bytes, size);
        if (n <= 0) _exit(1);
        bytes += n;
        size -= (size_t)n;
    }
}
static double trips_with(size_t size, bool shared, char *window, const char *bytes) {
    enum { MANY = 2000 };
    static double samples[MANY];
    static char packet[MESSAGE + MOST];
    int there[2], back[2], trips = size >= 1 << 20 ? 40 : size >= 65536 ? 400 : MANY;
    size_t piped = MESSAGE + (shared ? 0 : size);
    need(pipe(there) == 0 && pipe(back) == 0, "pipe");
    pid_t child = fork();
    if (child == 0) {
        close(there[1]);
        close(back[0]);
        for (int i = 0; i < trips; i++) {
            all_of(there[0], packet, piped, false);
            const volatile char *at = shared ? window : packet + MESSAGE;
            packet[0] = (char)(at[0] + at[size - 1]);
            all_of(back[1], packet, MESSAGE, true);
        }
        _exit(0);
    }
    close(there[0]);
    close(back[1]);
    for (int i = 0; i < trips; i++) {
        int64_t begin = tpool_now();
        memcpy(shared ? window : packet + MESSAGE, bytes, size); /* the argument lies elsewhere at first */
        all_of(there[1], packet, piped, true);
        all_of(back[0], packet, MESSAGE, false);
        samples[i] = (double)(tpool_now() - begin);
        need(packet[0] == 2, "bytes");
    }
    close(there[1]);
    close(back[0]);
    need(waitpid(child, NULL, 0) == child, "waitpid");
    return part(samples, (size_t)trips, 0.5);
}
static void transport(void) {
    static const size_t sizes[] = {
        64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20
    };
    char *bytes = malloc(MOST);
    char *window = mmap(NULL, MOST, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    need(bytes && window != MAP_FAILED, "memory");
    memset(bytes, 1, MOST);
    memset(window, 1, MOST);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        double by_pipe[ROUNDS], by_window[ROUNDS];
        char name[64];
        snprintf(name, sizeof name, "processes/bytes-%zu", sizes[s]);
        for (int i = 0; i < ROUNDS; i++) {
            by_pipe[i] = trips_with(sizes[s], false, window, bytes);
            by_window[i] = trips_with(sizes[s], true, window, bytes);
        }
        double pipes = part(by_pipe, ROUNDS, 0.5), windows = part(by_window, ROUNDS, 0.5);
        say(name, "by pipe, p50", "ns", pipes);
        say(name, "by shared memory, p50", "ns", windows);
        say(name, "by pipe, times that", "", pipes / windows);
    }
    free(bytes);
    munmap(window, MOST);
}

/* --- the start of a worker, up to the end of its first task */

static double one_start(tpool *pool) {
    tpool_future *future;
    int64_t begin = tpool_now();
    need(tpool_submit(pool, nothing, NULL, &future) == TPOOL_OK, "submit");
    need(tpool_future_result(future, TPOOL_FOREVER, NULL) == TPOOL_OK, "result");
    double took = (double)(tpool_now() - begin);
    tpool_future_release(future);
    return took;
}
static double one_fork(void) {
    int64_t begin = tpool_now();
    pid_t child = fork();
    if (child == 0) _exit(0);
    need(waitpid(child, NULL, 0) == child, "waitpid");
    return (double)(tpool_now() - begin);
}
static void start(void) {
    enum { STARTS = 101 };
    static double ours[STARTS], floor_[STARTS];
    /* every task needs a new process */
    tpool_config config = { .kind = TPOOL_PROCESSES, .max_workers = 1, .max_tasks_per_worker = 1 };
    tpool *pool;
    need(tpool_create(&pool, &config) == TPOOL_OK, "create");
    for (int i = 0; i < STARTS; i++) {
        floor_[i] = one_fork();
        ours[i] = one_start(pool);
        need(tpool_drain(pool, TPOOL_FOREVER) == TPOOL_OK, "drain");
        struct timespec pause = { 0, 2000000 }; /* the last one's end is not part of the next one's start */
        nanosleep(&pause, NULL);
    }
    double mine = part(ours, STARTS, 0.5), least = part(floor_, STARTS, 0.5);
    say("processes/start", "p50", "ns", mine);
    say("processes/floor-fork", "p50", "ns", least);
    say("processes/start", "times the floor (bar: most 2)", "", mine / least);
    tpool_destroy(pool);
}

int main(int count, char **words) {
    setvbuf(stdout, NULL, _IOLBF, 0); /* nothing is left in it for the children to write again */
    round_trip();
    start();
    bandwidth();
    transport();
    throughput(count, words);
    return 0;
}
