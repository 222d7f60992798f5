/* What a task leaves: the code and the message that it raises, the bytes or the memory that it returns. */
#include "support.h"
#include "support/bytes.h"
#include <limits.h>

/* ---- raise ---- */

static void any_code_raised_is_a_failure(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    int codes[] = { 0, 1, -1, 42, INT_MAX, INT_MIN };
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        tpool_future *future = submitted(pool, raise_code, &codes[i]);
        int junk = 0;
        void *result = &junk;
        assert_status(TPOOL_FAILED, tpool_future_result(future, LIMIT, &result));
        assert_null(result);
        const tpool_error *error = NULL;
        assert_status(TPOOL_OK, tpool_future_error(future, 0, &error));
        assert_non_null(error);
        assert_int_equal(TPOOL_FAILED, error->status);
        assert_true(error->code == codes[i]);
        char expected[32];
        snprintf(expected, sizeof expected, "code %d", codes[i]);
        assert_string_equal(expected, error->message);
        assert_string_equal(expected, tpool_future_message(future));
        assert_null(error->task);
        assert_int_equal(TPOOL_FINISHED, tpool_future_state(future));
        tpool_future_release(future);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *raise_text(void *arg) {
    /* From memory that is gone when the message is read: the message must be a copy. */
    char *text = strdup(arg);
    tpool_raise(1, "%s", text);
    memset(text, 'x', strlen(text));
    free(text);
    return NULL;
}

static void a_message_may_have_any_length(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    size_t lengths[] = {
        0, 1, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256, 511, 512, 1023, 1024, 4095, 4096, 100 * 1024
    };
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        char *text = malloc(lengths[i] + 1);
        for (size_t k = 0; k < lengths[i]; k++) text[k] = (char)('a' + (k * 7 + k / 26) % 26);
        text[lengths[i]] = 0;
        tpool_future *future = NULL;
        const tpool_error *error = NULL;
        future = submitted(pool, raise_text, text);
        assert_status(TPOOL_OK, tpool_future_error(future, LIMIT, &error));
        assert_string_equal(text, error->message);
        assert_string_equal(text, tpool_future_message(future));
        tpool_future_release(future);
        /* Nobody asks, and nothing of it stays. */
        assert_status(TPOOL_OK, tpool_submit(pool, raise_text, text, NULL));
        assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
        free(text);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

#define FORMAT "%s: %d of %zu, %.3f, %c, %% and %5d|%-5s|%lld"
#define FORMATTED "text", -7, (size_t)9, 2.5, 'q', 42, "ab", -1234567890123LL
static void *raise_formats(void *arg) {
    (void)arg;
    return tpool_raise(2, FORMAT, FORMATTED);
}

static void a_message_is_formatted_like_printf(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    tpool_future *future = submitted(pool, raise_formats, NULL);
    assert_status(TPOOL_FAILED, tpool_future_result(future, LIMIT, NULL));
    char expected[128];
    snprintf(expected, sizeof expected, FORMAT, FORMATTED);
    assert_string_equal(expected, tpool_future_message(future));
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static bool raise_gave_null;
static void *raise_twice_and_return(void *arg) {
    void *first = tpool_raise(3, "the first");
    void *second = tpool_raise(4, "the second, which is longer than the first and would not fit in its place");
    raise_gave_null = first == NULL && second == NULL;
    return arg;
}
static void *raise_and_return_bytes(void *arg) {
    tpool_raise(5, "no good");
    tpool_return("bytes", 6);
    return arg;
}
static void *return_bytes_and_raise(void *arg) {
    (void)arg;
    void *bytes = tpool_return("bytes", 6);
    tpool_raise(6, "too late");
    return bytes;
}

static void *raise_as_text(void *arg) { return tpool_raise_text(-4, arg); }
static void *raise_text_twice(void *arg) {
    tpool_raise_text(1, arg);
    tpool_raise(2, "the second");
    return tpool_raise_text(3, "the third");
}
static void check_raised(tpool *pool, tpool_fn fn, void *arg, int code, const char *message) {
    tpool_future *future = submitted_task(pool, (tpool_task){ .fn = fn, .arg = arg, .name = "raiser" });
    const tpool_error *error = NULL;
    assert_status(TPOOL_FAILED, tpool_future_result(future, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_future_error(future, LIMIT, &error));
    assert_status(TPOOL_FAILED, error->status);
    assert_status(error->status, error->cause);
    assert_int_equal(code, error->code);
    assert_string_equal(message, error->message);
    assert_string_equal("raiser", error->task);
    tpool_future_release(future);
}
static void a_text_is_raised_as_it_is(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    char text[] = "100 %d of %%, %d", longest[100001];
    memset(longest, '%', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    check_raised(pool, raise_as_text, text, -4, "100 %d of %%, %d");
    check_raised(pool, raise_as_text, longest, -4, longest);
    check_raised(pool, raise_as_text, NULL, -4, "");
    char first[] = "the first";
    check_raised(pool, raise_text_twice, first, 1, "the first");
    tpool_future *future = submitted(pool, raise_as_text, text);
    assert_status(TPOOL_FAILED, tpool_future_result(future, LIMIT, NULL));
    memset(text, 'x', sizeof text - 1); /* it is a copy */
    assert_string_equal("100 %d of %%, %d", tpool_future_message(future));
    tpool_future_release(future);
    assert_null(tpool_raise_text(1, "outside"));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void raised_twice_the_first_counts_and_raised_and_returned_it_failed(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    int value = 0;
    struct {
        tpool_fn fn;
        int code;
        const char *message;
    } cases[] = {
        { raise_twice_and_return, 3, "the first" },
        { raise_and_return_bytes, 5, "no good" },
        { return_bytes_and_raise, 6, "too late" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tpool_future *future = NULL;
        const tpool_error *error = NULL;
        void *result = &value;
        future = submitted(pool, cases[i].fn, &value);
        assert_status(TPOOL_FAILED, tpool_future_result(future, LIMIT, &result));
        assert_null(result);
        assert_int_equal(0, tpool_future_result_size(future));
        assert_status(TPOOL_OK, tpool_future_error(future, 0, &error));
        assert_int_equal(cases[i].code, error->code);
        assert_string_equal(cases[i].message, error->message);
        tpool_future_release(future);
    }
    assert_true(raise_gave_null);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}


static void outside_a_task_raise_and_return_do_nothing(void **unused) {
    (void)unused;
    atomic_int freed = 0;
    assert_null(tpool_raise(1, "nobody %s", "listens"));
    assert_null(tpool_return("bytes", 6));
    assert_null(tpool_return_owned(&freed, count_free));
    assert_false(tpool_stop_requested());
    assert_int_equal(0, tpool_arg_size());

    /* Nor does it reach a task that this very thread runs next. */
    held_pool h;
    held_create(&h, &(tpool_config){ .queue_capacity = 1, .on_full = TPOOL_FULL_CALLER_RUNS });
    assert_status(TPOOL_OK, tpool_submit(h.pool, nothing, NULL, NULL));
    tpool_future *future = NULL;
    void *result = NULL;
    assert_null(tpool_raise(1, "nobody listens"));
    future = submitted(h.pool, nothing, &freed);
    assert_status(TPOOL_OK, tpool_future_result(future, 0, &result));
    assert_ptr_equal(&freed, result);
    tpool_future_release(future);
    /* Nor does what a task raised here stay with the thread. */
    int code = 8;
    future = submitted(h.pool, raise_code, &code);
    assert_status(TPOOL_FAILED, tpool_future_result(future, 0, NULL));
    tpool_future_release(future);
    assert_null(tpool_return("bytes", 6));
    held_destroy(&h);
    assert_int_equal(0, atomic_load(&freed));
}

static void a_failure_does_not_reach_the_workers_next_task(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    int code = 9;
    for (int i = 0; i < 3; i++) {
        assert_status(TPOOL_OK, tpool_submit(pool, raise_code, &code, NULL));
        assert_status(TPOOL_OK, end_of(submitted(pool, nothing, &code)));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- return ---- */

typedef struct returning {
    size_t size;
    void *address; /* what tpool_return gave */
} returning;

static void *return_pattern(void *arg) {
    returning *r = arg;
    unsigned char *bytes = pattern(r->size);
    r->address = tpool_return(bytes, r->size);
    memset(bytes, 0, r->size);
    free(bytes);
    return r->address;
}

static void returned_bytes_of_any_size_are_a_copy_that_the_future_owns(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    tpool_future *futures[SIZES] = { NULL };
    returning returned[SIZES];
    for (size_t i = 0; i < SIZES; i++) {
        returned[i] = (returning){ .size = sizes[i] };
        futures[i] = submitted(pool, return_pattern, &returned[i]);
    }
    /* They outlive the pool. */
    assert_status(TPOOL_OK, tpool_destroy(pool));
    for (size_t i = 0; i < SIZES; i++) {
        void *result = NULL;
        assert_status(TPOOL_OK, tpool_future_result(futures[i], 0, &result));
        assert_non_null(result);
        assert_ptr_equal(returned[i].address, result);
        assert_int_equal(sizes[i], tpool_future_result_size(futures[i]));
        assert_true(has_pattern(result, sizes[i]));
        assert_int_equal(0, (uintptr_t)result % _Alignof(max_align_t));
        tpool_future_release(futures[i]);
    }
}

static void *return_no_bytes(void *arg) {
    tpool_return(arg, 0);
    return NULL;
}

static void no_bytes_can_be_returned(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    char here = 'x';
    char *bytes[] = { &here, NULL };
    for (int i = 0; i < 2; i++) {
        tpool_future *future = submitted(pool, return_no_bytes, bytes[i]);
        assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
        assert_int_equal(0, tpool_future_result_size(future));
        tpool_future_release(future);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *return_small_then_large(void *arg) {
    size_t *last_size = arg;
    returning small = { .size = 3 }, middle = { .size = 500 }, large = { .size = 5000 };
    return_pattern(&small);
    return_pattern(&middle);
    *last_size = large.size;
    return return_pattern(&large);
}
static void *return_large_then_small(void *arg) {
    size_t *last_size = arg;
    returning small = { .size = 3 }, large = { .size = 5000 };
    return_pattern(&large);
    *last_size = small.size;
    return return_pattern(&small);
}

static void of_several_returned_payloads_the_last_counts(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    tpool_fn both[] = { return_small_then_large, return_large_then_small };
    for (int i = 0; i < 2; i++) {
        size_t last_size = 0;
        tpool_future *future = NULL;
        void *result = NULL;
        future = submitted(pool, both[i], &last_size);
        assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
        assert_int_equal(last_size, tpool_future_result_size(future));
        assert_true(has_pattern(result, last_size));
        tpool_future_release(future);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *return_bytes_but_give_arg(void *arg) {
    tpool_return("kept all the same", 18);
    return arg;
}

static void the_result_is_what_fn_returns_whatever_payload_it_gave(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    int value = 0;
    void *result = NULL;
    tpool_future *future = submitted(pool, return_bytes_but_give_arg, &value);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
    assert_ptr_equal(&value, result);
    assert_int_equal(18, tpool_future_result_size(future));
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *return_then_wait(void *arg) {
    void *bytes = tpool_return("twelve bytes", 12);
    gate_pass(arg);
    return bytes;
}

static void result_size_is_zero_but_for_a_success_with_bytes(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    gate g = GATE_CLOSED;
    tpool_future *bytes = NULL, *plain = NULL, *cancelled = NULL;
    bytes = submitted(h.pool, return_then_wait, &g);
    plain = submitted(h.pool, nothing, &g);
    cancelled = submitted(h.pool, nothing, &g);
    assert_int_equal(0, tpool_future_result_size(bytes));
    assert_true(tpool_future_cancel(cancelled));
    assert_int_equal(0, tpool_future_result_size(cancelled));
    gate_open(&h.gate);
    gate_await_arrivals(&g, 1);
    assert_int_equal(TPOOL_RUNNING, tpool_future_state(bytes));
    assert_int_equal(0, tpool_future_result_size(bytes));
    gate_open(&g);
    assert_status(TPOOL_OK, tpool_future_result(bytes, LIMIT, NULL));
    assert_int_equal(12, tpool_future_result_size(bytes));
    assert_status(TPOOL_OK, tpool_future_result(plain, LIMIT, NULL));
    assert_int_equal(0, tpool_future_result_size(plain));
    tpool_future_release(bytes);
    tpool_future_release(plain);
    tpool_future_release(cancelled);
    held_destroy(&h);
}

static void *return_owned(void *arg) { return tpool_return_owned(arg, count_free); }
static void *return_owned_at_gate(void *arg) {
    void **both = arg; /* what is owned, and the gate */
    tpool_return_owned(both[0], count_free);
    gate_pass(both[1]);
    return both[0];
}

static void an_owned_result_is_freed_once_with_the_last_reference(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    atomic_int freed = 0;
    tpool_future *future = NULL;
    void *result = NULL;
    future = submitted(pool, return_owned, &freed);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
    assert_ptr_equal(&freed, result);
    assert_int_equal(0, tpool_future_result_size(future));
    assert_ptr_equal(future, tpool_future_retain(future));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    tpool_future_release(future);
    assert_int_equal(0, atomic_load(&freed));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(0, atomic_load(&freed));
    tpool_future_release(future);
    assert_int_equal(1, atomic_load(&freed));
}

static void an_owned_result_that_nobody_asks_for_is_freed_once(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    atomic_int never_asked = 0, given_up = 0;
    assert_status(TPOOL_OK, tpool_submit(pool, return_owned, &never_asked, NULL));
    gate g = GATE_CLOSED;
    void *both[] = { &given_up, &g };
    tpool_future *future = submitted(pool, return_owned_at_gate, both);
    gate_await_arrivals(&g, 1);
    tpool_future_release(future);
    assert_int_equal(0, atomic_load(&given_up));
    gate_open(&g);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(1, atomic_load(&never_asked));
    assert_int_equal(1, atomic_load(&given_up));
}

typedef struct three_owned {
    atomic_int first, second, third;
    int first_after_second, second_after_bytes, third_at_end;
} three_owned;

static void *return_owned_over_and_over(void *arg) {
    three_owned *o = arg;
    tpool_return_owned(&o->first, count_free);
    tpool_return_owned(&o->second, count_free);
    o->first_after_second = atomic_load(&o->first);
    tpool_return("bytes", 6);
    o->second_after_bytes = atomic_load(&o->second);
    tpool_return_owned(&o->third, count_free);
    o->third_at_end = atomic_load(&o->third);
    return &o->third;
}

static void an_earlier_owned_result_is_freed_at_once(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    three_owned o = { 0 };
    tpool_future *future = NULL;
    void *result = NULL;
    future = submitted(pool, return_owned_over_and_over, &o);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
    assert_ptr_equal(&o.third, result);
    assert_int_equal(0, tpool_future_result_size(future));
    assert_int_equal(1, o.first_after_second);
    assert_int_equal(1, o.second_after_bytes);
    assert_int_equal(0, o.third_at_end);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(0, atomic_load(&o.third));
    tpool_future_release(future);
    assert_int_equal(1, atomic_load(&o.first));
    assert_int_equal(1, atomic_load(&o.second));
    assert_int_equal(1, atomic_load(&o.third));
}

static void *return_owned_then_raise(void *arg) {
    void *owned = tpool_return_owned(arg, count_free);
    tpool_raise(1, "after all");
    return owned;
}
static void *raise_then_return_owned(void *arg) {
    tpool_raise(1, "before");
    tpool_return_owned(arg, count_free);
    return NULL;
}
static void *return_bytes_then_end_thread(void *arg) {
    (void)arg;
    returning large = { .size = 5000 };
    return_pattern(&large); /* a leak if it is not freed */
    pthread_exit(NULL);
}

static void on_failure_an_owned_result_is_freed_before_the_last_reference(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    struct {
        tpool_fn fn;
        tpool_status end;
        int freed;
    } cases[] = {
        { return_owned_then_raise, TPOOL_FAILED, 1 },
        { raise_then_return_owned, TPOOL_FAILED, 1 },
        { return_owned_then_end_thread, TPOOL_BROKEN, 1 },
        { return_bytes_then_end_thread, TPOOL_BROKEN, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        atomic_int freed = 0;
        tpool_future *future = NULL;
        void *result = &freed;
        future = submitted(pool, cases[i].fn, &freed);
        assert_status(cases[i].end, tpool_future_result(future, LIMIT, &result));
        assert_null(result);
        assert_int_equal(0, tpool_future_result_size(future));
        assert_int_equal(cases[i].freed, atomic_load(&freed));
        tpool_future_release(future);
        assert_int_equal(cases[i].freed, atomic_load(&freed));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static const struct CMUnitTest tests[] = {
    TEST(any_code_raised_is_a_failure),
    TEST(a_message_may_have_any_length),
    TEST(a_message_is_formatted_like_printf),
    TEST(a_text_is_raised_as_it_is),
    TEST(raised_twice_the_first_counts_and_raised_and_returned_it_failed),
    TEST(outside_a_task_raise_and_return_do_nothing),
    TEST(a_failure_does_not_reach_the_workers_next_task),
    TEST(returned_bytes_of_any_size_are_a_copy_that_the_future_owns),
    TEST(no_bytes_can_be_returned),
    TEST(of_several_returned_payloads_the_last_counts),
    TEST(the_result_is_what_fn_returns_whatever_payload_it_gave),
    TEST(result_size_is_zero_but_for_a_success_with_bytes),
    TEST(an_owned_result_is_freed_once_with_the_last_reference),
    TEST(an_owned_result_that_nobody_asks_for_is_freed_once),
    TEST(an_earlier_owned_result_is_freed_at_once),
    TEST(on_failure_an_owned_result_is_freed_before_the_last_reference),
};
RUN_TESTS(tests)
