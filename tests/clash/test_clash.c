/* A program that uses tpool.h is linked with a library that exports a tpool_create of its own, and with libraries
   that carry their own copies of tpool.h. Each must reach its own functions.

   Built a second time with CLASH_VISIBLE, which exports our functions from the program: then the other library
   reaches ours, and the test must fail. That shows that it can. */
#ifdef CLASH_VISIBLE
#define TPOOL_API __attribute__((visibility("default")))
#endif
#define _GNU_SOURCE /* RTLD_DEFAULT */
#define TPOOL_IMPLEMENTATION
#include "support.h"
#include "clash.h"
#include <dlfcn.h>

static int am_i_in_a_pool(void) { return tpool_current() != NULL; }

static void *am_i_in_a_pool_task(void *arg) {
    *(int *)arg = am_i_in_a_pool();
    return arg;
}

static void the_program_reaches_its_own_functions(void **state) {
    (void)state;
    int before = other_times_created();
    int in_a_pool = 0;
    void *result = NULL;
    tpool *pool;
    tpool_future *future;
    assert_status(TPOOL_OK, tpool_create(&pool, NULL));
    assert_status(TPOOL_OK, tpool_submit(pool, am_i_in_a_pool_task, &in_a_pool, &future));
    assert_status(TPOOL_OK, tpool_future_result(future, TPOOL_FOREVER, &result));
    assert_ptr_equal(&in_a_pool, result);
    assert_true(in_a_pool);
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(before, other_times_created());
}

static void the_other_library_reaches_its_own_functions(void **state) {
    (void)state;
    int before = other_times_created();
    other_pool *pool = other_open();
    assert_int_equal(before + 1, other_times_created());
    assert_non_null(pool);
    assert_int_equal(OTHER_MAGIC, pool->magic);
}

static void check_copy(const copy_report *report) {
    assert_status(TPOOL_OK, (tpool_status)report->status);
    assert_int_equal(1, report->in_own_pool);
    assert_int_equal(0, report->in_callers_pool); /* its worker belongs to the other copy */
    assert_false(report->create_address == (void (*)(void))tpool_create);
}

static void a_library_with_a_copy_inside_reaches_its_copy(void **state) {
    (void)state;
    copy_report report;
    copy_run(&report, am_i_in_a_pool);
    check_copy(&report);
}

static void a_library_with_a_static_copy_inside_reaches_its_copy(void **state) {
    (void)state;
    copy_report report;
    static_run(&report, am_i_in_a_pool);
    check_copy(&report);
}

static void nothing_of_ours_is_exported_by_anyone(void **state) {
    (void)state;
    /* The lookup itself works: this one is the other library's. */
    assert_non_null(dlsym(RTLD_DEFAULT, "tpool_create"));
    assert_non_null(dlsym(RTLD_DEFAULT, "copy_run"));
    assert_null(dlsym(RTLD_DEFAULT, "tpool_submit"));
    assert_null(dlsym(RTLD_DEFAULT, "tpool_future_result"));
    assert_null(dlsym(RTLD_DEFAULT, "tpool_version"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_program_reaches_its_own_functions),
        cmocka_unit_test(the_other_library_reaches_its_own_functions),
        cmocka_unit_test(a_library_with_a_copy_inside_reaches_its_copy),
        cmocka_unit_test(a_library_with_a_static_copy_inside_reaches_its_copy),
        cmocka_unit_test(nothing_of_ours_is_exported_by_anyone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
