/* What must not cost more the more there is, or was: each figure for a little and for much of it. By hand; README.md has
 * what came of it. Build: cc -O2 -pthread -I.. growth.c, and with another header's folder for a comparison. */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void check(bool holds) {
    if (holds) return;
    fprintf(stderr, "a call failed\n");
    exit(1);
}
static void sleep_ms(int ms) {
    struct timespec t = { ms / 1000, (long)(ms % 1000) * 1000000 };
    nanosleep(&t, NULL);
}
static double cpu_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}
static double resident_mib(void) {
    long size = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file) {
        check(fscanf(file, "%ld %ld", &size, &resident) == 2);
        fclose(file);
    }
    return (double)resident * (double)sysconf(_SC_PAGESIZE) / (1 << 20);
}
static void *nothing(void *arg) { return arg; }
static void *await(void *future) {
    check(tpool_future_result((tpool_future *)future, TPOOL_FOREVER, NULL) == TPOOL_OK);
    return NULL;
}
static tpool *create(tpool_config config) {
    tpool *pool;
    check(tpool_create(&pool, &config) == TPOOL_OK);
    return pool;
}

/* A submit to a full queue that drops the oldest. */
static void drop_oldest(size_t capacity) {
    tpool *pool =
        create((tpool_config){ .max_workers = 1, .queue_capacity = capacity, .on_full = TPOOL_FULL_DROP_OLDEST });
    size_t more = 2000;
    check(tpool_pause(pool) == TPOOL_OK);
    for (size_t i = 0; i < capacity; i++) check(tpool_submit(pool, nothing, NULL, NULL) == TPOOL_OK);
    int64_t began = tpool_now();
    for (size_t i = 0; i < more; i++) check(tpool_submit(pool, nothing, NULL, NULL) == TPOOL_OK);
    printf("a submit that drops, %7zu waiting: %.0f ns\n", capacity, (double)(tpool_now() - began) / (double)more);
    tpool_destroy(pool);
}

/* A round trip of a pool that has had so many blocked tasks once. */
static void after_blocked(int blocked) {
    tpool *pool = create((tpool_config){ .max_workers = 2 });
    tpool_future *awaited, **futures = (tpool_future **)malloc((size_t)(blocked + 1) * sizeof(tpool_future *));
    check(futures && tpool_future_create(&awaited) == TPOOL_OK);
    for (int i = 0; i < blocked; i++) check(tpool_submit(pool, await, awaited, &futures[i]) == TPOOL_OK);
    sleep_ms(blocked > 0 ? 1000 : 0);
    check(tpool_future_set_result(awaited, NULL) == TPOOL_OK);
    for (int i = 0; i < blocked; i++) {
        await(futures[i]);
        tpool_future_release(futures[i]);
    }
    sleep_ms(blocked > 0 ? 1000 : 0);
    int64_t took = 0;
    for (int i = 0; i < 200; i++) {
        tpool_future *future;
        sleep_ms(1);
        int64_t began = tpool_now();
        check(tpool_submit(pool, nothing, NULL, &future) == TPOOL_OK);
        await(future);
        took += tpool_now() - began;
        tpool_future_release(future);
    }
    printf("a round trip after %4d blocked tasks: %.1f us, %.1f MiB\n", blocked, (double)took / 200e3, resident_mib());
    tpool_future_release(awaited);
    free(futures);
    tpool_destroy(pool);
}

/* What a second of waiting costs an iterator over futures that may expire in an hour. */
static void iterate(size_t count) {
    tpool *pool = create((tpool_config){ .max_workers = 1 });
    tpool_completions *completions;
    tpool_future *future;
    check(tpool_pause(pool) == TPOOL_OK && tpool_as_completed(NULL, 0, &completions) == TPOOL_OK);
    for (size_t i = 0; i < count; i++) {
        tpool_task task = { .fn = nothing, .expires_ns = TPOOL_SEC(3600) };
        check(tpool_submit_task(pool, &task, &future) == TPOOL_OK);
        check(tpool_completions_add(completions, future) == TPOOL_OK);
        tpool_future_release(future);
    }
    double before = cpu_ms();
    check(tpool_completions_next(completions, TPOOL_SEC(1), &future) == TPOOL_TIMEOUT);
    printf("a second in next, %7zu that may expire: %.1f ms of CPU\n", count, cpu_ms() - before);
    tpool_completions_destroy(completions);
    tpool_destroy(pool);
}

/* The same in a task, where a wait is recorded: 500 waits of an iterator that holds so many. */
static void *drip(void *completions) {
    tpool_future *future;
    for (int i = 0; i < 500; i++)
        check(tpool_completions_next((tpool_completions *)completions, TPOOL_MS(1), &future) == TPOOL_TIMEOUT);
    return NULL;
}
static void iterate_in_task(size_t count) {
    tpool *paused = create((tpool_config){ .max_workers = 1 }), *pool = create((tpool_config){ .max_workers = 1 });
    tpool_completions *completions;
    tpool_future *future;
    check(tpool_pause(paused) == TPOOL_OK && tpool_as_completed(NULL, 0, &completions) == TPOOL_OK);
    for (size_t i = 0; i < count; i++) {
        tpool_task task = { .fn = nothing, .expires_ns = TPOOL_SEC(3600) };
        check(tpool_submit_task(paused, &task, &future) == TPOOL_OK);
        check(tpool_completions_add(completions, future) == TPOOL_OK);
        tpool_future_release(future);
    }
    double before = cpu_ms();
    check(tpool_submit(pool, drip, completions, &future) == TPOOL_OK);
    await(future);
    printf("500 waits of a task's iterator over %7zu: %.1f ms of CPU\n", count, cpu_ms() - before);
    tpool_future_release(future);
    tpool_completions_destroy(completions);
    tpool_destroy(pool);
    tpool_destroy(paused);
}

/* A task that waits for many futures, and sleeps for each. */
typedef struct many {
    tpool_future **futures;
    size_t count;
} many;
static void *wait_for_many(void *arg) {
    many *m = (many *)arg;
    check(tpool_wait(m->futures, m->count, TPOOL_ALL_COMPLETED, TPOOL_FOREVER, NULL) == TPOOL_OK);
    return NULL;
}
static void wait_in_task(size_t count) {
    tpool *pool = create((tpool_config){ .max_workers = 1 });
    many m = { (tpool_future **)malloc(count * sizeof(tpool_future *)), count };
    tpool_future *waits;
    check(m.futures);
    for (size_t i = 0; i < count; i++) check(tpool_future_create(&m.futures[i]) == TPOOL_OK);
    check(tpool_submit(pool, wait_for_many, &m, &waits) == TPOOL_OK);
    sleep_ms(50);
    double before = cpu_ms();
    for (size_t i = 0; i < 500; i++) { /* each wakes the task once */
        sleep_ms(1);
        check(tpool_future_set_result(m.futures[i], NULL) == TPOOL_OK);
    }
    printf("500 sleeps of a task's wait for %7zu: %.1f ms of CPU\n", count, cpu_ms() - before);
    for (size_t i = 500; i < count; i++) check(tpool_future_set_result(m.futures[i], NULL) == TPOOL_OK);
    await(waits);
    for (size_t i = 0; i < count; i++) tpool_future_release(m.futures[i]);
    tpool_future_release(waits);
    free(m.futures);
    tpool_destroy(pool);
}

/* What stays of a burst while its pool lives, besides the program's own array. */
static void burst(size_t count) {
    tpool *pool = create((tpool_config){ .max_workers = 2 });
    tpool_future **futures = (tpool_future **)malloc(count * sizeof(tpool_future *));
    check(futures);
    memset((void *)futures, 1, count * sizeof(tpool_future *));
    double before = resident_mib();
    for (size_t i = 0; i < count; i++) check(tpool_submit(pool, nothing, NULL, &futures[i]) == TPOOL_OK);
    for (size_t i = 0; i < count; i++) await(futures[i]);
    double most = resident_mib();
    for (size_t i = 0; i < count; i++) tpool_future_release(futures[i]);
    sleep_ms(2000);
    printf("a burst of %7zu futures: %.1f MiB, two seconds later %.1f\n", count, most - before,
           resident_mib() - before);
    free(futures);
    tpool_destroy(pool);
}

int main(void) {
    burst(1000000);
    after_blocked(0);
    after_blocked(1000);
    drop_oldest(100);
    drop_oldest(10000);
    drop_oldest(1000000);
    iterate(1000);
    iterate(1000000);
    iterate_in_task(1000);
    iterate_in_task(1000000);
    wait_in_task(1000);
    wait_in_task(100000);
    return 0;
}
