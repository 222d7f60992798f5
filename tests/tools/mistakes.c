/* Makes one mistake with a future, in the function of that name, for tools that must tell of it: mistakes.sh. */
#define _GNU_SOURCE
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
static void none(void) {
    tpool_future_release(done());
    tpool_future_release(submitted());
}

static const struct { const char *name; void (*make)(void); } mistakes[] = {
    {"none", none}, {"leak", leak}, {"leak_of_a_promise", leak_of_a_promise}, {"use_after_release", use_after_release},
    {"release_too_often", release_too_often}, {"release_of_a_waiting_one", release_of_a_waiting_one},
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
