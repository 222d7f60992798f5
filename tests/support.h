/* Shared by the tests: gates that force an interleaving, and little helpers. POSIX threads are used here, not C11
   ones, because ThreadSanitizer sees through them. */
#ifndef TPOOL_TESTS_SUPPORT_H
#define TPOOL_TESTS_SUPPORT_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "tpool.h"

/* A gate is closed at first: who passes waits until it is opened, and others can wait until n have arrived. */
typedef struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool open;
    int arrived;
} gate;
#define GATE_CLOSED { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0 }

static inline void gate_pass(gate *g) {
    pthread_mutex_lock(&g->lock);
    g->arrived++;
    pthread_cond_broadcast(&g->changed);
    while (!g->open) pthread_cond_wait(&g->changed, &g->lock);
    pthread_mutex_unlock(&g->lock);
}
static inline void gate_open(gate *g) {
    pthread_mutex_lock(&g->lock);
    g->open = true;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}
static inline void gate_await_arrivals(gate *g, int n) {
    pthread_mutex_lock(&g->lock);
    while (g->arrived < n) pthread_cond_wait(&g->changed, &g->lock);
    pthread_mutex_unlock(&g->lock);
}
static inline int gate_arrived(gate *g) {
    pthread_mutex_lock(&g->lock);
    int n = g->arrived;
    pthread_mutex_unlock(&g->lock);
    return n;
}
/* A task that passes the gate given as its argument and returns it. */
static inline void *gate_task(void *arg) { gate_pass((gate *)arg); return arg; }

static inline void sleep_ms(int ms) {
    struct timespec t = { ms / 1000, (long)(ms % 1000) * 1000000L };
    while (nanosleep(&t, &t) != 0) { }
}

/* Polls until the condition holds; fails the test after a minute. */
#define EVENTUALLY(condition) do { \
        int64_t eventually_end = tpool_now() + TPOOL_SEC(60); \
        while (!(condition)) { \
            if (tpool_now() > eventually_end) fail_msg("never became true: %s", #condition); \
            sleep_ms(1); \
        } \
    } while (0)

#define assert_status(expected, call) assert_string_equal(tpool_status_name(expected), tpool_status_name(call))

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SLOW_TOOL 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define SLOW_TOOL 1
#endif
#endif
#ifndef SLOW_TOOL
#define SLOW_TOOL 0
#endif
/* This ThreadSanitizer cannot start threads in a child of fork when the program had threads, or has had them. */
#if defined(__SANITIZE_THREAD__)
#define SKIP_UNDER_TSAN() skip()
#else
#define SKIP_UNDER_TSAN() ((void)0)
#endif
/* A count for plain builds, and a tenth of it under the sanitizers. */
#define COUNT(n) (SLOW_TOOL ? (n) / 10 : (n))
#endif
