/* A plug-in with a private copy of tpool.h inside, for test_unload and for windows.c. */
#if defined(__SANITIZE_THREAD__)
/* ThreadSanitizer's own atexit forgets whose handler it is, and calls it at exit when the library has been unloaded.
   With this one, which it knows too, the handler is a library's. */
#define _GNU_SOURCE
#include <stdlib.h>
extern int __cxa_atexit(void (*handler)(void *), void *arg, void *library);
extern void *__dso_handle;
static void (*handler_at_exit)(void);
static void call_handler(void *unused) {
    (void)unused;
    handler_at_exit();
}
static int atexit_here(void (*handler)(void)) {
    handler_at_exit = handler;
    return __cxa_atexit(call_handler, NULL, &__dso_handle);
}
#define atexit atexit_here
#endif
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
#include "plugin.h"

static void *count(void *arg) {
    (void)__atomic_add_fetch((int *)arg, 1, __ATOMIC_RELAXED);
    return NULL;
}
static void *count_late(void *arg) {
    int64_t end = tpool_now() + TPOOL_MS(2);
    while (tpool_now() < end) { }
    return count(arg);
}

PLUGIN_FUNCTION int plugin_call_in(void) {
    tpool_future *future;
    if (tpool_future_create(&future) != TPOOL_OK) return 1;
    tpool_future_release(future);
    return 0;
}
PLUGIN_FUNCTION int plugin_use_own(int *counter, int tasks) {
    tpool *pool;
    tpool_config config = { .max_workers = 2 };
    if (tpool_create(&pool, &config) != TPOOL_OK) return 1;
    for (int i = 0; i < tasks; i++) {
        tpool_future *future;
        if (tpool_submit(pool, count, counter, &future) != TPOOL_OK) return 2;
        if (i % 2 && tpool_future_result(future, TPOOL_FOREVER, NULL) != TPOOL_OK) return 3;
        tpool_future_release(future);
    }
    return tpool_destroy(pool) == TPOOL_OK ? 0 : 4;
}
static void *count_on_the_low_level(void *counter) {
    tpool_future *future;
    if (tpool_submit(tpool_low_level(), count_late, counter, &future) != TPOOL_OK) return NULL;
    (void)tpool_future_result(future, TPOOL_FOREVER, NULL);
    tpool_future_release(future);
    return counter;
}
PLUGIN_FUNCTION int plugin_detach(int *counter, int tasks) {
    for (int pools = 0; pools < 2; pools++) {
        tpool *pool;
        tpool_config config = { .max_workers = 2 };
        if (tpool_create(&pool, &config) != TPOOL_OK) return 1;
        for (int i = 0; i < tasks; i++)
            if (tpool_submit(pool, i % 2 ? count_late : count_on_the_low_level, counter, NULL) != TPOOL_OK) return 2;
        if (tpool_shutdown(pool, TPOOL_DETACH) != TPOOL_OK) return 3;
    }
    return 0;
}
/* A task of the shared pool detaches a pool after the other, with work. */
typedef struct detaching {
    int *counter, pools;
} detaching;
static void *detach_many(void *arg) {
    detaching *of = arg;
    for (int i = 0; i < of->pools; i++) {
        tpool *pool;
        if (tpool_create(&pool, NULL) != TPOOL_OK) break;
        if (tpool_submit(pool, count, of->counter, NULL) != TPOOL_OK) break;
        if (tpool_shutdown(pool, TPOOL_DETACH) != TPOOL_OK) break;
        for (int late = 0; late < 5; late++) (void)count_late(of->counter); /* by now the pool is mostly gone */
    }
    return of;
}
PLUGIN_FUNCTION int plugin_detach_in_task(int *counter, int pools) {
    detaching of = { counter, pools };
    return tpool_submit_copy(tpool_high_level(), detach_many, &of, sizeof of, NULL) == TPOOL_OK ? 0 : 1;
}
/* What a timer calls takes its time, and then uses a shared pool, which is there for the first time or ended. */
static void submit_late(void *counter) {
    int64_t end = tpool_now() + TPOOL_MS(50);
    while (tpool_now() < end) { }
    (void)count(counter);
    /* refused, once the unloading has ended them */
    tpool_status high = tpool_submit(tpool_high_level(), count, counter, NULL);
    tpool_status low = tpool_submit(tpool_low_level(), count, counter, NULL);
    (void)high;
    (void)low;
}
PLUGIN_FUNCTION int plugin_time_shared(int *counter) {
    static tpool_completions *never_destroyed;
    tpool_task task = { .fn = count, .arg = counter, .expires_ns = TPOOL_MS(10) };
    if (tpool_as_completed(NULL, 0, &never_destroyed) != TPOOL_OK) return 1;
    task.completions = never_destroyed;
    if (tpool_pause(tpool_low_level()) != TPOOL_OK) return 2;
    if (tpool_submit_task(tpool_low_level(), &task, NULL) != TPOOL_OK) return 3;
    return tpool_completions_on_ready(never_destroyed, submit_late, counter) == TPOOL_OK ? 0 : 4;
}
PLUGIN_FUNCTION int plugin_use_shared(int *counter, int tasks) {
    tpool *managed;
    if (tpool_manager_get(NULL, 1, TPOOL_THREADS, 0, &managed) != TPOOL_OK) return 1;
    for (int i = 0; i < tasks; i++)
        if (tpool_submit(tpool_high_level(), count_late, counter, NULL) != TPOOL_OK ||
            tpool_submit(tpool_low_level(), count_late, counter, NULL) != TPOOL_OK ||
            tpool_submit(managed, count_late, counter, NULL) != TPOOL_OK)
            return 2;
    return tpool_manager_release(NULL, managed) == TPOOL_OK ? 0 : 3;
}

/* What a program does on Windows before it unloads the plug-in, and before it exits. */
PLUGIN_FUNCTION int plugin_end_shared(void) {
    if (tpool_dual_shutdown(TPOOL_WAIT) != TPOOL_OK) return 1;
    return tpool_manager_global_shutdown() == TPOOL_OK ? 0 : 2;
}

static void *hold(void *may_end) {
    while (!__atomic_load_n((int *)may_end, __ATOMIC_ACQUIRE)) tpool__yield();
    return NULL;
}
static void wake(void *counter) { (void)count_late(counter); }
static void wake_and_end(void *counter) {
    wake(counter);
#if defined(_WIN32)
    ExitThread(0);
#else
    pthread_exit(NULL);
#endif
}
/* Tasks expire behind one that holds the only worker: a thread of the library's own notices it, and calls wake. */
static int use_times(int *counter, int times, void (*function)(void *)) {
    enum { MOST = 8 };
    tpool_completions *iterators[MOST];
    tpool_config config = { .max_workers = 1 };
    tpool *pool;
    int may_end = 0, before = __atomic_load_n(counter, __ATOMIC_RELAXED);
    if (times > MOST || tpool_create(&pool, &config) != TPOOL_OK) return 1;
    if (tpool_submit(pool, hold, &may_end, NULL) != TPOOL_OK) return 2;
    for (int i = 0; i < times; i++) {
        tpool_task task = { .fn = count, .arg = counter, .expires_ns = TPOOL_MS(1) };
        if (tpool_as_completed(NULL, 0, &iterators[i]) != TPOOL_OK) return 3;
        task.completions = iterators[i];
        if (tpool_submit_task(pool, &task, NULL) != TPOOL_OK) return 4;
        if (tpool_completions_on_ready(iterators[i], function, counter) != TPOOL_OK) return 5;
    }
    while (__atomic_load_n(counter, __ATOMIC_RELAXED) < before + times) tpool__yield();
    __atomic_store_n(&may_end, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < times; i++) tpool_completions_destroy(iterators[i]);
    return tpool_destroy(pool) == TPOOL_OK ? 0 : 6;
}
PLUGIN_FUNCTION int plugin_use_times(int *counter, int times) { return use_times(counter, times, wake); }
/* Each of these functions ends the thread that calls it. */
PLUGIN_FUNCTION int plugin_end_times(int *counter, int times) { return use_times(counter, times, wake_and_end); }
