/* Threads that the system refuses from a chosen moment on. The implementation is included, so that its thread starts
   and joins come here. */
#ifndef TPOOL_TESTS_THREAD_REFUSALS_H
#define TPOOL_TESTS_THREAD_REFUSALS_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#elif !defined(__STDC_NO_THREADS__)
#include <threads.h>
#endif

static atomic_bool refusing;
static atomic_int starts_refused, starts_granted, joins;
#if defined(_WIN32)
static atomic_int handles_closed;
#endif

static void (*before_refusal)(void); /* what happens while the system thinks about it */

/* Above so many threads, those included that have ended and are not joined yet, the system refuses another one. */
enum { NO_LIMIT = 1 << 30 };
static atomic_int most_at_once = NO_LIMIT;

static bool refuse_this_one(void) {
    bool refuse =
        atomic_load(&refusing) || atomic_load(&starts_granted) - atomic_load(&joins) >= atomic_load(&most_at_once);
    if (refuse && before_refusal) before_refusal();
    atomic_fetch_add(refuse ? &starts_refused : &starts_granted, 1);
    return refuse;
}
static inline int counted_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
                                         void *arg) {
    return refuse_this_one() ? EAGAIN : pthread_create(thread, attributes, start, arg);
}
/* The exit hook of a thread, without which it cannot begin. */
static atomic_bool refusing_hooks;
__attribute__((unused)) /* where threads are C11's */
static inline int
counted_pthread_setspecific(pthread_key_t key, const void *value) {
    return value && atomic_load(&refusing_hooks) ? ENOMEM : pthread_setspecific(key, value);
}
static inline int counted_pthread_join(pthread_t thread, void **result) {
    atomic_fetch_add(&joins, 1);
    return pthread_join(thread, result);
}
#if defined(_WIN32)
static inline DWORD counted_WaitForSingleObject(HANDLE thread, DWORD limit) {
    atomic_fetch_add(&joins, 1);
    return WaitForSingleObject(thread, limit);
}
#define WaitForSingleObject counted_WaitForSingleObject
static inline BOOL counted_CloseHandle(HANDLE thread) {
    atomic_fetch_add(&handles_closed, 1);
    return CloseHandle(thread);
}
#define CloseHandle counted_CloseHandle
static inline HANDLE counted_CreateThread(SECURITY_ATTRIBUTES *attributes, SIZE_T stack_size,
                                          LPTHREAD_START_ROUTINE start, void *arg, DWORD flags, DWORD *number) {
    return refuse_this_one() ? NULL : CreateThread(attributes, stack_size, start, arg, flags, number);
}
#define CreateThread counted_CreateThread
static inline BOOL counted_FlsSetValue(DWORD key, void *value) {
    return value && atomic_load(&refusing_hooks) ? FALSE : FlsSetValue(key, value);
}
#define FlsSetValue counted_FlsSetValue
#elif !defined(__STDC_NO_THREADS__)
__attribute__((unused)) static inline int counted_thrd_create(thrd_t *thread, thrd_start_t start, void *arg) {
    return refuse_this_one() ? thrd_error : thrd_create(thread, start, arg);
}
__attribute__((unused)) static inline int counted_tss_set(tss_t key, void *value) {
    return value && atomic_load(&refusing_hooks) ? thrd_error : tss_set(key, value);
}
__attribute__((unused)) static inline int counted_thrd_join(thrd_t thread, int *result) {
    atomic_fetch_add(&joins, 1);
    return thrd_join(thread, result);
}
#endif

#define pthread_create counted_pthread_create
#define pthread_join counted_pthread_join
#define thrd_create counted_thrd_create
#define thrd_join counted_thrd_join
#define pthread_setspecific counted_pthread_setspecific
#define tss_set counted_tss_set
#define TPOOL__REFUSAL_STALL_LIMIT TPOOL_MS(100)
#include "internals/check.h"
#undef pthread_create
#undef pthread_join
#undef thrd_create
#undef thrd_join
#undef pthread_setspecific
#undef tss_set
#undef FlsSetValue
#undef CreateThread
#undef WaitForSingleObject
#undef CloseHandle

#include "support.h"

/* A wait that reaches this limit is taken for one that hangs. */
#define CALL_LIMIT TPOOL_SEC(15)

static int allow_again(void **state) {
    (void)state;
    atomic_store(&refusing, false);
    atomic_store(&refusing_hooks, false);
    atomic_store(&most_at_once, NO_LIMIT);
    atomic_store(&starts_refused, 0);
    atomic_store(&starts_granted, 0);
    atomic_store(&joins, 0);
#if defined(_WIN32)
    atomic_store(&handles_closed, 0);
#endif
    return 0;
}
static void refuse(void) { atomic_store(&refusing, true); }
static void allow(void) { atomic_store(&refusing, false); }

/* How it ends within the test's limit. */
static tpool_status wait_for(tpool_future *future) { return tpool_future_result(future, CALL_LIMIT, NULL); }

#define THREAD_TEST(test) cmocka_unit_test_setup_teardown(test, allow_again, allow_again)
#endif
