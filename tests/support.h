/* Shared by the tests: gates that force an interleaving, threads that block, and little helpers. POSIX threads are used here, not C11
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
#ifdef __linux__
#include <sys/syscall.h>
#endif
#if defined(_WIN32)
#define HAVE_FORK 0
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#else
#define HAVE_FORK 1
#include <sys/types.h>
#include <sys/wait.h>
#endif
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
static inline void gate_close(gate *g) {
    pthread_mutex_lock(&g->lock);
    g->open = false;
    g->arrived = 0;
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

#if defined(_WIN32)
/* As that of POSIX, for a test that hangs. */
static inline VOID CALLBACK alarm_rings(PVOID unused, BOOLEAN fired) {
    (void)unused;
    (void)fired;
    TerminateProcess(GetCurrentProcess(), 142);   /* as a shell tells of SIGALRM */
}
static inline void alarm(unsigned seconds) {
    static HANDLE timer;
    if (timer) (void)DeleteTimerQueueTimer(NULL, timer, NULL);
    timer = NULL;
    if (seconds) (void)CreateTimerQueueTimer(&timer, NULL, alarm_rings, NULL, seconds * 1000, 0, WT_EXECUTEINTIMERTHREAD);
}
#endif

#if HAVE_FORK
/* This program anew, by the emulator that TEST_RUNNER names, if it needs one (tests/platforms.sh). */
static inline _Noreturn void become_program(const char *program, const char *argument) {
    const char *runner = getenv("TEST_RUNNER");
    if (runner && *runner) execlp(runner, runner, program, argument, (char *)NULL);
    else execl(program, program, argument, (char *)NULL);
    _exit(127);
}
#endif

/* The name that the system knows the calling thread by. False: it does not tell. */
static inline bool thread_name(char *name, size_t size) {
#if defined(__linux__)
    return pthread_getname_np(pthread_self(), name, size) == 0;
#elif defined(_WIN32)
    typedef HRESULT(WINAPI * get_description)(HANDLE, PWSTR *);   /* since Windows 10 */
    FARPROC found = GetProcAddress(GetModuleHandleA("kernel32.dll"), "GetThreadDescription");
    get_description get;
    PWSTR wide = NULL;
    memcpy(&get, &found, sizeof get);
    if (!found || FAILED(get(GetCurrentThread(), &wide))) return false;
    int length = WideCharToMultiByte(CP_UTF8, 0, wide, -1, name, (int)size, NULL, NULL);
    LocalFree(wide);
    return length > 0;
#else
    (void)name;
    (void)size;
    return false;
#endif
}

/* A look at a process in which there is no cmocka, a story or a child: it ends where something is not as it must be. */
#define CHECK(condition) do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            _exit(102); \
        } \
    } while (0)
#define CHECK_STATUS(expected, call) do { \
        tpool_status check_got = (call); \
        if (check_got != (expected)) { \
            fprintf(stderr, "%s:%d: %s gave %s\n", __FILE__, __LINE__, #call, tpool_status_name(check_got)); \
            _exit(102); \
        } \
    } while (0)
#define CHECK_EVENTUALLY(condition) do { \
        int64_t check_end = tpool_now() + 2 * LIMIT; \
        while (!(condition)) { \
            CHECK(tpool_now() < check_end); \
            sleep_ms(1); \
        } \
    } while (0)

/* For what ends at once unless something is broken. */
#ifndef LIMIT_SECONDS
#define LIMIT_SECONDS 30
#endif
#define LIMIT TPOOL_SEC(LIMIT_SECONDS)

/* Polls until the condition holds; fails the test when it never does. */
#define EVENTUALLY(condition) do { \
        int64_t eventually_end = tpool_now() + 2 * LIMIT; \
        while (!(condition)) { \
            if (tpool_now() > eventually_end) fail_msg("never became true: %s", #condition); \
            sleep_ms(1); \
        } \
    } while (0)

#define assert_status(expected, call) assert_string_equal(tpool_status_name(expected), tpool_status_name(call))

/* The helpers below stand in tests of cmocka and in stories. */
#ifdef IN_STORIES
#define REQUIRE CHECK
#define REQUIRE_STATUS CHECK_STATUS
#define REQUIRE_EVENTUALLY CHECK_EVENTUALLY
#else
#define REQUIRE assert_true
#define REQUIRE_STATUS assert_status
#define REQUIRE_EVENTUALLY EVENTUALLY
#endif
#define AWAIT_ARRIVALS(g, n) REQUIRE_EVENTUALLY(gate_arrived(g) >= (n))

static inline tpool *new_pool_as(tpool_config config) {
    tpool *pool = NULL;
    REQUIRE_STATUS(TPOOL_OK, tpool_create(&pool, &config));
    REQUIRE(pool != NULL);
    return pool;
}
static inline tpool *new_pool(int workers) { return new_pool_as((tpool_config){ .max_workers = workers }); }

static inline tpool_future *submitted_task(tpool *pool, tpool_task task) {
    tpool_future *future = NULL;
    REQUIRE_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, &future));
    REQUIRE(future != NULL);
    return future;
}
static inline tpool_future *submitted(tpool *pool, tpool_fn fn, void *arg) {
    tpool_future *future = NULL;
    REQUIRE_STATUS(TPOOL_OK, tpool_submit(pool, fn, arg, &future));
    REQUIRE(future != NULL);
    return future;
}
/* Waits for the end of a future, releases it, and tells the end. */
static inline tpool_status end_of(tpool_future *future) {
    tpool_status status = tpool_future_result(future, LIMIT, NULL);
    tpool_future_release(future);
    return status;
}
static inline tpool_stats stats_of(tpool *pool) {
    tpool_stats stats;
    REQUIRE_STATUS(TPOOL_OK, tpool_get_stats(pool, &stats));
    return stats;
}
static inline void *nothing(void *arg) { return arg; }

/* The system's number of the calling thread, for thread_sleeps; elsewhere than on Linux just not 0. */
static inline int system_thread(void) {
#ifdef __linux__
    return (int)syscall(SYS_gettid);
#else
    return 1;
#endif
}
/* The system says that the thread of this number (0: not known yet) sleeps. Where it does not tell, a pause must do. */
static inline bool thread_sleeps(int id) {
    if (id == 0) return false;
#ifdef __linux__
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", id);
    FILE *file = fopen(path, "r");
    if (!file) return false;
    char *got = fgets(line, sizeof line, file);
    fclose(file);
    char *name_end = got ? strrchr(line, ')') : NULL;
    return name_end && name_end[1] == ' ' && name_end[2] == 'S';
#else
    sleep_ms(20);
    return true;
#endif
}
/* Waits until it sleeps: at several looks in a row, so that a short sleep on a lock does not count. */
static inline void await_thread_asleep(const atomic_int *id) {
    int looks = 0;
    REQUIRE_EVENTUALLY((looks = thread_sleeps(atomic_load(id)) ? looks + 1 : 0) >= 5);
}

/* A call that may block, made by a thread of its own. */
typedef struct background {
    pthread_t thread;
    tpool_status (*call)(void *context);
    void *context;
    atomic_int thread_id;   /* the system's number; 0 until it is about to call */
    atomic_bool returned;
    tpool_status status;
} background;

static inline void *background_main(void *arg) {
    background *b = (background *)arg;
    atomic_store(&b->thread_id, system_thread());
    b->status = b->call(b->context);
    atomic_store(&b->returned, true);
    return NULL;
}
static inline void background_start(background *b, tpool_status (*call)(void *context), void *context) {
    b->call = call;
    b->context = context;
    atomic_store(&b->thread_id, 0);
    atomic_store(&b->returned, false);
    REQUIRE(pthread_create(&b->thread, NULL, background_main, b) == 0);
}

/* Returns once the call blocks: asleep at several looks in a row, so that a short sleep on a lock does not count. */
static inline void background_await_block(background *b) {
    int looks = 0;
    REQUIRE_EVENTUALLY((looks = thread_sleeps(atomic_load(&b->thread_id)) ? looks + 1 : 0) >= 5 ||
                       atomic_load(&b->returned));
    REQUIRE(!atomic_load(&b->returned));
}
static inline tpool_status background_join(background *b) {
    REQUIRE_EVENTUALLY(atomic_load(&b->returned));
    pthread_join(b->thread, NULL);
    return b->status;
}

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#elif defined(__SANITIZE_ADDRESS__)
#define SLOW_TOOL 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#elif __has_feature(address_sanitizer)
#define SLOW_TOOL 1
#endif
#endif
#ifndef UNDER_TSAN
#define UNDER_TSAN 0
#endif
#ifndef SLOW_TOOL
#define SLOW_TOOL UNDER_TSAN
#endif
/* This ThreadSanitizer cannot start threads in a child of fork when the program had threads, or has had them: it dies
   of a "dup thread", whatever die_after_fork says, since the C library gives the child's threads the stacks, and with
   them the names, of the parent's. And it crashes in pthread_exit of a child's only thread. */
#define CHILD_MAY_START_THREADS (!UNDER_TSAN)
#define CHILD_MAY_END_THREADS (!UNDER_TSAN)
#define SKIP_UNDER_TSAN() do { if (UNDER_TSAN) skip(); } while (0)

/* TEST_FILTER in the environment: only the tests whose name it matches (tests/planted_faults.sh). */
#if defined(__GNUC__)
__attribute__((constructor)) static void filter_tests(void) {
    if (getenv("TEST_FILTER")) cmocka_set_test_filter(getenv("TEST_FILTER"));
}
#endif

/* Under the sanitizers, and where starting a thread takes a millisecond. */
#if SLOW_TOOL || defined(_WIN32)
#define IS_SLOW 1
#else
#define IS_SLOW 0
#endif
/* A count for plain builds, and a tenth of it where all is slow. */
#define COUNT(n) (IS_SLOW ? (n) / 10 : (n))
#endif
