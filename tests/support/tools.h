/* What runs the tests: sanitizers and systems that are slow, and what cannot be done under them. */
#ifndef TPOOL_TESTS_TOOLS_H
#define TPOOL_TESTS_TOOLS_H
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
#define SKIP_UNDER_TSAN() \
    do { \
        if (UNDER_TSAN) skip(); \
    } while (0)

/* Under the sanitizers, and where starting a thread takes a millisecond. */
#if SLOW_TOOL || defined(_WIN32)
#define IS_SLOW 1
#else
#define IS_SLOW 0
#endif
/* A count for plain builds, and a tenth of it where all is slow. */
#define COUNT(n) (IS_SLOW ? (n) / 10 : (n))

/* Resident memory in KiB, or -1 where the system does not tell. Without what was freed: glibc may keep that for long,
   if something small stands behind it. */
#ifdef __GLIBC__
#include <malloc.h>
#endif
static inline long resident_kib(void) {
#ifdef __GLIBC__
    (void)malloc_trim(0);
#endif
#ifdef __linux__
    long total = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL) return -1;
    int fields = fscanf(file, "%ld %ld", &total, &resident);
    fclose(file);
    return fields == 2 ? resident * (sysconf(_SC_PAGESIZE) / 1024) : -1;
#else
    return -1;
#endif
}

/* TEST_FILTER in the environment: only the tests whose name it matches (tests/planted_faults.sh). */
#if defined(__GNUC__)
__attribute__((constructor)) static void filter_tests(void) {
    if (getenv("TEST_FILTER")) cmocka_set_test_filter(getenv("TEST_FILTER"));
}
#endif
#endif
