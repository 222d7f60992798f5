/* on_failure: it gets each failure that no future shows. */
#include "support.h"

/* ---- on_failure ---- */

typedef struct failures {
    gate *gate; /* the initializer waits here, if there is one */
    atomic_int count;
    tpool_status status;
    int code;
    char message[64], task[64];
    pthread_t thread;
} failures;

static void note_failure(const tpool_error *error, void *context) {
    failures *f = context;
    f->status = error->status;
    f->code = error->code;
    snprintf(f->message, sizeof f->message, "%s", error->message);
    snprintf(f->task, sizeof f->task, "%s", error->task ? error->task : "(none)");
    f->thread = pthread_self();
    atomic_fetch_add(&f->count, 1);
}

static void on_failure_hears_of_a_failure_that_nobody_can_ask_for(void **unused) {
    (void)unused;
    failures f = { 0 };
    held_pool h;
    held_create(&h, &(tpool_config){ .on_failure = note_failure, .context = &f });
    int code = 77;
    tpool_task task = { .fn = raise_code, .arg = &code, .name = "unwatched" };
    assert_status(TPOOL_OK, tpool_submit_task(h.pool, &task, NULL));
    held_destroy(&h);
    assert_int_equal(1, atomic_load(&f.count));
    assert_status(TPOOL_FAILED, f.status);
    assert_int_equal(77, f.code);
    assert_string_equal("code 77", f.message);
    assert_string_equal("unwatched", f.task);
    assert_false(pthread_equal(pthread_self(), f.thread));
}

static void on_failure_hears_of_a_future_given_up_before_the_end(void **unused) {
    (void)unused;
    failures f = { 0 };
    held_pool h;
    held_create(&h, &(tpool_config){ .on_failure = note_failure, .context = &f });
    int code = 78;
    tpool_future *given_up = NULL, *kept = NULL;
    given_up = submitted(h.pool, raise_code, &code);
    kept = submitted(h.pool, raise_code, &code);
    tpool_future_retain(kept);
    tpool_future_release(given_up);
    tpool_future_release(kept); /* one of two references: somebody still holds it */
    held_destroy(&h);
    assert_int_equal(1, atomic_load(&f.count));
    assert_string_equal("code 78", f.message);
    assert_string_equal("(none)", f.task);
    tpool_future_release(kept);
    assert_int_equal(1, atomic_load(&f.count));
}

static void on_failure_is_silent_about_the_rest(void **unused) {
    (void)unused;
    failures f = { 0 };
    held_pool h;
    held_create(
        &h, &(tpool_config){
                .on_failure = note_failure, .context = &f, .queue_capacity = 3, .on_full = TPOOL_FULL_DROP_OLDEST });
    int code = 79;
    tpool_future *asked = NULL, *cancelled = NULL;
    assert_status(TPOOL_OK, tpool_submit(h.pool, raise_code, &code, NULL)); /* is dropped, by the fourth */
    assert_status(TPOOL_OK, tpool_submit(h.pool, raise_code, &code, NULL));
    asked = submitted(h.pool, raise_code, &code);
    cancelled = submitted(h.pool, raise_code, &code);
    assert_true(tpool_future_cancel(cancelled));
    tpool_future_release(cancelled);
    assert_status(TPOOL_OK, tpool_shutdown(h.pool, TPOOL_CANCEL_PENDING)); /* cancels the other two */
    held_destroy(&h);
    assert_status(TPOOL_CANCELLED, tpool_future_result(asked, 0, NULL));
    tpool_future_release(asked);
    assert_int_equal(0, atomic_load(&f.count));

    held_create(&h, &(tpool_config){ .on_failure = note_failure, .context = &f });
    assert_status(TPOOL_OK, tpool_submit(h.pool, nothing, NULL, NULL));
    asked = submitted(h.pool, raise_code, &code);
    held_destroy(&h);
    assert_status(TPOOL_FAILED, tpool_future_result(asked, 0, NULL));
    tpool_future_release(asked);
    assert_int_equal(0, atomic_load(&f.count));
}

static void on_failure_hears_of_expiry_and_of_broken_workers(void **unused) {
    (void)unused;
    failures f = { 0 };
    held_pool h;
    held_create(&h, &(tpool_config){ .on_failure = note_failure, .context = &f });
    tpool_task expires = { .fn = nothing, .name = "expires", .expires_ns = TPOOL_US(1) };
    assert_status(TPOOL_OK, tpool_submit_task(h.pool, &expires, NULL));
    sleep_ms(2);
    held_destroy(&h);
    assert_int_equal(1, atomic_load(&f.count));
    assert_status(TPOOL_EXPIRED, f.status);
    assert_string_equal("expires", f.task);
    assert_true(strlen(f.message) > 0);

    f = (failures){ 0 };
    held_create(&h, &(tpool_config){ .on_failure = note_failure, .context = &f });
    atomic_int owned = 0;
    tpool_task ends_thread = { .fn = return_owned_then_end_thread, .arg = &owned, .name = "ends its thread" };
    assert_status(TPOOL_OK, tpool_submit_task(h.pool, &ends_thread, NULL));
    held_destroy(&h);
    assert_int_equal(1, atomic_load(&f.count));
    assert_status(TPOOL_BROKEN, f.status);
    assert_string_equal("ends its thread", f.task);
    assert_int_equal(1, atomic_load(&owned));
}

static bool pass_failures_gate_and_fail(void *context) {
    gate_pass(((failures *)context)->gate);
    return false;
}

static void on_failure_hears_of_what_a_broken_initializer_left(void **unused) {
    (void)unused;
    gate g = GATE_CLOSED;
    failures f = { .gate = &g };
    tpool_config config = {
        .max_workers = 1, .initializer = pass_failures_gate_and_fail, .context = &f, .on_failure = note_failure
    };
    tpool *pool = new_pool_as(config);
    tpool_future *asked = NULL;
    tpool_task unasked = { .fn = nothing, .name = "never ran" };
    assert_status(TPOOL_OK, tpool_submit_task(pool, &unasked, NULL));
    asked = submitted(pool, nothing, NULL);
    gate_await_arrivals(&g, 1);
    gate_open(&g);
    assert_status(TPOOL_BROKEN, tpool_future_result(asked, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(1, atomic_load(&f.count));
    assert_status(TPOOL_BROKEN, f.status);
    assert_string_equal("never ran", f.task);
    tpool_future_release(asked);
}

static const struct CMUnitTest tests[] = {
    TEST(on_failure_hears_of_a_failure_that_nobody_can_ask_for),
    TEST(on_failure_hears_of_a_future_given_up_before_the_end),
    TEST(on_failure_is_silent_about_the_rest),
    TEST(on_failure_hears_of_expiry_and_of_broken_workers),
    TEST(on_failure_hears_of_what_a_broken_initializer_left),
};
RUN_TESTS(tests)
