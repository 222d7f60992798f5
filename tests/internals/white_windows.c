/* Worker processes on Windows: what the system refuses them, and what they may claim. */
#include "support/children.h"

#if !HAVE_FORK
static size_t refused_from; /* 0: none; else views of so many bytes and more */
static void *mapped_or_refused(HANDLE section, DWORD access, DWORD high, DWORD low, SIZE_T size) {
    if (refused_from && size >= refused_from) {
        SetLastError(ERROR_NOT_ENOUGH_MEMORY);
        return NULL;
    }
    return MapViewOfFile(section, access, high, low, size);
}
#define MapViewOfFile mapped_or_refused
#define TPOOL_IMPLEMENTATION
#include "tpool.h"

enum { LARGE = 5000000 };
static void *returns_the_old(void *arg) {
    char bytes[2000] = "of the task before";
    (void)arg;
    return tpool_return(bytes, sizeof bytes);
}
static void *returns_without_room(void *arg) {
    static char bytes[LARGE];
    (void)arg;
    refused_from = 100000;
    return tpool_return(bytes, sizeof bytes);
}
/* The program has replaced its view of the results by the time at which the worker fails to map the new one. */
static void a_task_whose_result_cannot_be_mapped_is_broken(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    tpool_future *future = submitted(pool, returns_the_old, NULL);
    assert_string_equal("of the task before", take(future));
    tpool_future_release(future);
    future = submitted(pool, returns_without_room, NULL);
    assert_status(TPOOL_BROKEN, tpool_future_result(future, LIMIT, NULL));
    assert_null(strstr(tpool_future_message(future), "of the task before"));
    tpool_future_release(future);
    assert_true(value_of(pool, getpid_task) > 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *item_without_room(void *item, void *context) {
    static char bytes[LARGE];
    int i;
    (void)context;
    memcpy(&i, item, sizeof i);
    if (i == 3) return (void *)0x4242;
    memset(bytes, i, 3000);
    if (i < 1003) return tpool_return(bytes, 3000);
    refused_from = 100000;
    return tpool_return(bytes, sizeof bytes);
}
static void no_item_has_the_answer_of_an_earlier_one(void **state) {
    (void)state;
    enum { COUNT = 8 };
    tpool *pool = process_pool(1);
    for (int first = 0; first <= 1000; first += 1000) {
        int items[COUNT];
        for (int i = 0; i < COUNT; i++) items[i] = first + i;
        tpool_map_iter *iter = map_over_ints(pool, item_without_room, items, COUNT, COUNT);
        for (int i = 0; i < COUNT; i++) {
            void *value = NULL;
            tpool_status status = tpool_map_next(iter, LIMIT, &value);
            assert_status(items[i] < 1003 ? TPOOL_OK : TPOOL_BROKEN, status);
            if (items[i] == 3) assert_ptr_equal((void *)0x4242, value);
            else if (items[i] < 1003) assert_int_equal((char)items[i], *(char *)value);
        }
        tpool_map_close(iter);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
#endif

int main(int argc, char **argv) {
#if HAVE_FORK
    (void)argc, (void)argv;
    return 77;
#else
    if (tpool_main(&argc, &argv) != TPOOL_OK) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_task_whose_result_cannot_be_mapped_is_broken),
        cmocka_unit_test(no_item_has_the_answer_of_an_earlier_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
#endif
}
