/* Makes one mistake with a future, in the function of that name, for tools that must tell of it: mistakes.sh. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef WITH_ASSERT
static const char *mistake;
#define TPOOL_ASSERT(x) ((x) ? (void)0 : (printf("asserted in %s: %s\n", mistake, #x), exit(3)))
#endif
#define TPOOL_IMPLEMENTATION
#include "tpool.h"

static tpool *pool;
static void *task(void *arg) { return arg; }

static tpool_future *submitted(void) {
    tpool_future *future;
    if (tpool_submit(pool, task, NULL, &future) != TPOOL_OK) exit(2);
    return future;
}
static tpool_future *done(void) {
    tpool_future *future = submitted();
    if (tpool_future_result(future, TPOOL_FOREVER, NULL) != TPOOL_OK) exit(2);
    return future;
}

__attribute__((noinline)) static void leak(void) {
    tpool_future *future;
    if (tpool_submit(pool, task, NULL, &future) != TPOOL_OK) exit(2);
    if (tpool_future_result(future, TPOOL_FOREVER, NULL) != TPOOL_OK) exit(2);
}
__attribute__((noinline)) static void leak_of_a_promise(void) {
    tpool_future *future;
    if (tpool_future_create(&future) != TPOOL_OK) exit(2);
}
__attribute__((noinline)) static void use_after_release(void) {
    tpool_future *future = done();
    tpool_future_release(future);
    printf("%d\n", tpool_future_done(future));
}
__attribute__((noinline)) static void release_too_often(void) {
    tpool_future *future = done();
    tpool_future_release(future);
    tpool_future_release(future);
}
/* The pool still has its own reference, which is not the caller's to give up. */
__attribute__((noinline)) static void release_of_a_waiting_one(void) {
    if (tpool_pause(pool) != TPOOL_OK) exit(2);
    tpool_future *future = submitted();
    tpool_future_release(future);
    tpool_future_release(future);
    if (tpool_resume(pool) != TPOOL_OK) exit(2);
}
/* A thread is cancelled many frames deep, each with arrays; the callback runs as it ends, on the stack that it left. */
static int cancelled_deep(unsigned depth) {
    char some[40];
    memset(some, (int)depth, sizeof some);
    if (depth > 0) return cancelled_deep(depth - 1) + some[depth % sizeof some];
    pthread_cancel(pthread_self());
    pthread_testcancel();
    return some[0];
}
static void *be_cancelled(void *told) {
    while (!atomic_load((atomic_int *)told)) { }
    return cancelled_deep(200) ? told : NULL;
}
static void use_stack(tpool_future *future, void *context) {
    char much[8000];
    memset(much, tpool_future_done(future), sizeof much);
    *(int *)context = much[4000];
}
static void none(void) {
    tpool_future_release(done());
    tpool_future_release(submitted());
    atomic_int told = 0;
    int called = 0;
    tpool_future *future;
    if (tpool_submit(pool, be_cancelled, &told, &future) != TPOOL_OK) exit(2);
    if (tpool_future_add_done_callback(future, use_stack, &called) != TPOOL_OK) exit(2);
    atomic_store(&told, 1);
    if (tpool_future_result(future, TPOOL_FOREVER, NULL) != TPOOL_BROKEN) exit(2);
    tpool_future_release(future);
    if (tpool_drain(pool, TPOOL_FOREVER) != TPOOL_OK || called != 1) exit(2);
}

/* The pools of all stay to the end, and are not lost. */
static void shared(void) {
    tpool *all[] = { tpool_low_level(), tpool_high_level(), NULL };
    if (tpool_manager_get(tpool_manager_global(), 2, TPOOL_THREADS, 0, &all[2]) != TPOOL_OK) exit(2);
    for (int i = 0; i < 3; i++) {
        tpool_future *future;
        if (tpool_submit(all[i], task, NULL, &future) != TPOOL_OK) exit(2);
        if (tpool_future_result(future, TPOOL_FOREVER, NULL) != TPOOL_OK) exit(2);
        tpool_future_release(future);
    }
    if (tpool_manager_release(tpool_manager_global(), all[2]) != TPOOL_OK) exit(2);
}

static const struct {
    const char *name;
    void (*make)(void);
} mistakes[] = {
    { "none", none },
    { "shared", shared },
    { "leak", leak },
    { "leak_of_a_promise", leak_of_a_promise },
    { "use_after_release", use_after_release },
    { "release_too_often", release_too_often },
    { "release_of_a_waiting_one", release_of_a_waiting_one },
};

int main(int argc, char **argv) {
    tpool_config config;
    memset(&config, 0, sizeof config);
    config.max_workers = 1;
    if (argc != 2 || tpool_create(&pool, &config) != TPOOL_OK) return 2;
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        if (strcmp(mistakes[i].name, argv[1]) != 0) continue;
#ifdef WITH_ASSERT
        mistake = mistakes[i].name;
#endif
        mistakes[i].make();
        return tpool_destroy(pool) == TPOOL_OK ? 0 : 2;
    }
    return 2;
}
