/* What a test asks: that something holds, or comes to hold within a limit. */
#ifndef TPOOL_TESTS_CHECKS_H
#define TPOOL_TESTS_CHECKS_H
#include "clock.h"

/* For what ends at once unless something is broken: long enough for any machine and tool. */
#ifndef LIMIT_SECONDS
#define LIMIT_SECONDS 60
#endif
#define LIMIT TPOOL_SEC(LIMIT_SECONDS)

/* Polls until the condition holds; fails the test when it never does. */
#define EVENTUALLY(condition) \
    do { \
        int64_t eventually_end = tpool_now() + LIMIT; \
        while (!(condition)) { \
            if (tpool_now() > eventually_end) fail_msg("never became true: %s", #condition); \
            sleep_ms(1); \
        } \
    } while (0)

/* A look at a process in which there is no cmocka, a story or a child: it ends where something is not as it must be. */
#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            _exit(102); \
        } \
    } while (0)
#define CHECK_STATUS(expected, call) \
    do { \
        tpool_status check_got = (call); \
        if (check_got != (expected)) { \
            fprintf(stderr, "%s:%d: %s gave %s\n", __FILE__, __LINE__, #call, tpool_status_name(check_got)); \
            _exit(102); \
        } \
    } while (0)
#define CHECK_EVENTUALLY(condition) \
    do { \
        int64_t check_end = tpool_now() + LIMIT; \
        while (!(condition)) { \
            CHECK(tpool_now() < check_end); \
            sleep_ms(1); \
        } \
    } while (0)

#define assert_status(expected, call) assert_string_equal(tpool_status_name(expected), tpool_status_name(call))

/* The program's main: runs these tests. */
#define TEST(name) cmocka_unit_test(name)
#define RUN_TESTS(tests) \
    int main(void) { return cmocka_run_group_tests(tests, NULL, NULL); }

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
#endif
