/* Held tasks: dependencies. A task with `after` starts once the futures there are done, of whatever pool they are. */
#include "support.h"
#include "support/held.h"

static tpool_future *fail_bare(tpool_future *future, int code, const char *text) {
    assert_status(TPOOL_OK, tpool_future_set_error(future, code, "%s", text));
    return future;
}

/* ---- Dependencies that are done before, during and after the submit */
static void done_before_the_submit(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    static const tpool_after whens[] = { TPOOL_AFTER_SUCCESS, TPOOL_AFTER_DONE, TPOOL_AFTER_ANY };
    for (int i = 0; i < 3; i++) {
        tpool_future *first = bare();
        assert_status(TPOOL_OK, tpool_future_set_result(first, NULL));
        int ran = 0;
        assert_ptr_equal(&ran, take(submitted_task(pool, after(nothing, &ran, &first, 1, whens[i]))));
        tpool_future_release(first);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void done_after_the_submit(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    static const tpool_after whens[] = { TPOOL_AFTER_SUCCESS, TPOOL_AFTER_DONE, TPOOL_AFTER_ANY };
    for (int i = 0; i < 3; i++) {
        tpool_future *first = bare();
        atomic_int ran = 0;
        tpool_future *held = submitted_task(pool, after(count_up, &ran, &first, 1, whens[i]));
        assert_status(TPOOL_TIMEOUT, tpool_future_result(held, TPOOL_MS(5), NULL));
        assert_int_equal(TPOOL_PENDING, tpool_future_state(held));
        assert_int_equal(1, stats_of(pool).held);
        assert_int_equal(0, stats_of(pool).queued);
        assert_int_equal(0, atomic_load(&ran));
        assert_status(TPOOL_OK, tpool_future_set_result(first, NULL));
        tpool_future_release(first);
        assert_ptr_equal(&ran, take(held));
        assert_int_equal(1, atomic_load(&ran));
        assert_int_equal(0, stats_of(pool).held);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* Submits race with ends: each held task runs once. */
static tpool_future *racing[2000];
static void *complete_all(void *arg) {
    (void)arg;
    for (int i = 0; i < 2000; i++) tpool_future_set_result(racing[i], NULL);
    return NULL;
}
static void done_during_the_submit(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    atomic_int ran = 0;
    pthread_t other;
    for (int i = 0; i < 2000; i++) racing[i] = bare();
    assert_int_equal(0, pthread_create(&other, NULL, complete_all, NULL));
    for (int i = 1; i < 2000; i++) {
        tpool_task task = after(count_up, &ran, racing + i - 1, 2, i % 2 ? TPOOL_AFTER_DONE : TPOOL_AFTER_ANY);
        assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    }
    pthread_join(other, NULL);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(1999, atomic_load(&ran));
    for (int i = 0; i < 2000; i++) tpool_future_release(racing[i]);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void all_of_several_must_be_done(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    tpool_future *firsts[5];
    for (int i = 0; i < 5; i++) firsts[i] = bare();
    tpool_future *held = submitted_task(pool, after(nothing, pool, firsts, 5, TPOOL_AFTER_SUCCESS));
    static const int order[] = { 3, 0, 4, 1, 2 };
    for (int i = 0; i < 5; i++) {
        assert_status(TPOOL_TIMEOUT, tpool_future_result(held, TPOOL_MS(1), NULL));
        assert_status(TPOOL_OK, tpool_future_set_result(firsts[order[i]], NULL));
    }
    assert_ptr_equal(pool, take(held));
    for (int i = 0; i < 5; i++) tpool_future_release(firsts[i]);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void one_that_stands_twice_counts_once(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *first = bare(), *twice[] = { first, first, first };
    tpool_future *held[3];
    for (int i = 0; i < 3; i++) held[i] = submitted_task(pool, after(nothing, pool, twice, 3, (tpool_after)i));
    assert_status(TPOOL_OK, tpool_future_set_result(first, NULL));
    for (int i = 0; i < 3; i++) assert_ptr_equal(pool, take(held[i]));
    tpool_future_release(first);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void what_is_invalid(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *first = bare(), *with_null[] = { first, NULL }, *future = first;
    tpool_task task = after(nothing, NULL, with_null, 2, TPOOL_AFTER_DONE);
    assert_status(TPOOL_INVALID, tpool_submit_task(pool, &task, &future));
    assert_null(future);
    task = after(nothing, NULL, NULL, 2, TPOOL_AFTER_DONE);
    assert_status(TPOOL_INVALID, tpool_submit_task(pool, &task, NULL));
    task = after(nothing, NULL, &first, 1, (tpool_after)3);
    assert_status(TPOOL_INVALID, tpool_submit_task(pool, &task, NULL));
    task = after(nothing, NULL, &first, 1, (tpool_after)-1);
    assert_status(TPOOL_INVALID, tpool_submit_task(pool, &task, NULL));
    task = (tpool_task){ 0 };
    assert_status(TPOOL_INVALID, tpool_submit_task(pool, &task, NULL));
    tpool_future_release(first);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- What the task sees */
static tpool_future *given[3];
static void *look_at_dependencies(void *arg) {
    (void)arg;
    for (size_t i = 0; i < 3; i++)
        if (tpool_dependency(i) != given[i]) return NULL;
    void *value = NULL;
    bool fits = tpool_future_result(tpool_dependency(0), 0, &value) == TPOOL_OK && value == (void *)given;
    fits = fits && tpool_future_result(tpool_dependency(1), 0, NULL) == TPOOL_FAILED;
    fits = fits && tpool_future_cancelled(tpool_dependency(2)) && !tpool_dependency(3) && !tpool_dependency(SIZE_MAX);
    return fits ? (void *)given : NULL;
}
static void a_task_looks_at_its_dependencies(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    for (int i = 0; i < 3; i++) given[i] = bare();
    tpool_future *held = submitted_task(pool, after(look_at_dependencies, NULL, given, 3, TPOOL_AFTER_DONE));
    assert_status(TPOOL_OK, tpool_future_set_result(given[0], (void *)given));
    fail_bare(given[1], 7, "no");
    assert_true(tpool_future_cancel(given[2]));
    for (int i = 0; i < 3; i++) tpool_future_release(given[i]); /* the task has references */
    assert_ptr_equal((void *)given, take(held));
    assert_null(tpool_dependency(0));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void *no_dependency(void *arg) {
    (void)arg;
    return tpool_dependency(0);
}
static void other_tasks_have_none(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    assert_null(take(submitted(pool, no_dependency, NULL)));
    assert_null(take(submitted_task(pool, (tpool_task){ .fn = no_dependency, .name = "named" })));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Failure */
static void assert_passed_on(tpool_future *held, tpool_status cause, int code, const char *message, const char *task) {
    const tpool_error *error = NULL;
    assert_status(TPOOL_CANCELLED, tpool_future_error(held, LIMIT, &error));
    assert_non_null(error);
    assert_status(TPOOL_CANCELLED, error->status);
    assert_status(cause, error->cause);
    assert_int_equal(code, error->code);
    assert_string_equal(message, error->message);
    assert_string_equal(message, tpool_future_message(held));
    if (task) assert_string_equal(task, error->task);
    else assert_null(error->task);
    assert_int_equal(TPOOL_STATE_CANCELLED, tpool_future_state(held));
    void *value = held;
    assert_status(TPOOL_CANCELLED, tpool_future_result(held, 0, &value));
    assert_null(value);
}
static void *fails(void *arg) { return tpool_raise(42, "the %s is gone", (const char *)arg); }
static void a_failure_is_passed_on_along_a_chain(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    gate g = GATE_CLOSED;
    tpool_future *holder = held_at(pool, &g);
    atomic_int ran = 0, freed = 0;
    tpool_future *first = submitted_task(
        pool, (tpool_task){ .fn = fails, .arg = (void *)"disk", .name = "root", .after = &holder, .after_count = 1 });
    tpool_future *chain[10];
    for (int i = 0; i < 10; i++) {
        tpool_task task = after(count_up, &ran, i ? &chain[i - 1] : &first, 1, TPOOL_AFTER_SUCCESS);
        task.arg_free = count_free;
        task.arg = i == 9 ? (void *)&freed : (void *)&ran;
        task.arg_free = i == 9 ? count_free : NULL;
        task.name = i % 2 ? "link" : NULL;
        chain[i] = submitted_task(pool, task);
    }
    gate_open(&g);
    assert_passed_on(chain[9], TPOOL_FAILED, 42, "the disk is gone", "root");
    assert_int_equal(1, atomic_load(&freed));
    assert_int_equal(0, atomic_load(&ran));
    tpool_future_release(first);
    for (int i = 0; i < 9; i++) tpool_future_release(chain[i]);
    assert_passed_on(chain[9], TPOOL_FAILED, 42, "the disk is gone", "root"); /* the root's message stays */
    tpool_future_release(chain[9]);
    tpool_future_release(holder);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    tpool_stats stats = stats_of(pool);
    assert_int_equal(10, stats.cancelled);
    assert_int_equal(1, stats.failed);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void the_first_in_the_array_is_the_cause(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *firsts[3];
    for (int i = 0; i < 3; i++) firsts[i] = bare();
    tpool_future *held = submitted_task(pool, after(nothing, NULL, firsts, 3, TPOOL_AFTER_SUCCESS));
    fail_bare(firsts[2], 3, "third");
    fail_bare(firsts[1], 2, "second");
    assert_status(TPOOL_TIMEOUT, tpool_future_result(held, TPOOL_MS(5), NULL)); /* it ends only when all are done */
    assert_int_equal(TPOOL_PENDING, tpool_future_state(held));
    assert_status(TPOOL_OK, tpool_future_set_result(firsts[0], NULL));
    for (int i = 0; i < 3; i++) tpool_future_release(firsts[i]);
    assert_passed_on(held, TPOOL_FAILED, 2, "second", NULL);
    tpool_future_release(held);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_failure_before_the_submit(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *first = fail_bare(bare(), 9, "early");
    atomic_int ran = 0;
    tpool_future *held = submitted_task(pool, after(count_up, &ran, &first, 1, TPOOL_AFTER_SUCCESS));
    assert_true(tpool_future_done(held)); /* at once */
    assert_passed_on(held, TPOOL_FAILED, 9, "early", NULL);
    tpool_future_release(held);
    tpool_task task = after(count_up, &ran, &first, 1, TPOOL_AFTER_SUCCESS); /* and nobody asks */
    task.arg_free = count_free;
    assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    assert_int_equal(1, atomic_load(&ran)); /* its arg_free */
    tpool_future_release(first);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_cancelled_dependency_is_a_cause(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *first = bare();
    tpool_future *held = submitted_task(pool, after(nothing, NULL, &first, 1, TPOOL_AFTER_SUCCESS));
    tpool_future *next = submitted_task(pool, after(nothing, NULL, &held, 1, TPOOL_AFTER_SUCCESS));
    tpool_future *done = submitted_task(pool, after(nothing, pool, &held, 1, TPOOL_AFTER_DONE));
    assert_true(tpool_future_cancel(first));
    assert_passed_on(held, TPOOL_CANCELLED, 0, tpool_future_message(first), NULL);
    assert_passed_on(next, TPOOL_CANCELLED, 0, tpool_future_message(first), NULL);
    assert_ptr_equal(pool, take(done));
    tpool_future_release(first);
    tpool_future_release(held);
    tpool_future_release(next);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Any */
static void the_first_of_any_starts_it(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *firsts[3];
    for (int i = 0; i < 3; i++) firsts[i] = bare();
    tpool_future *held = submitted_task(pool, after(nothing, pool, firsts, 3, TPOOL_AFTER_ANY));
    fail_bare(firsts[1], 1, "whatever it came to");
    assert_ptr_equal(pool, take(held));
    for (int i = 0; i < 3; i++) tpool_future_release(firsts[i]);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* The others forget a task that no longer waits for them: else this would take 100 MB and more. */
static void any_with_one_that_never_ends_keeps_no_memory(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *pair[2] = { bare(), NULL };
    long rounds = COUNT(1000000);
    long before = 0;
    for (long i = 0; i < rounds; i++) {
        pair[1] = bare();
        tpool_task task = after(nothing, NULL, pair, 2, TPOOL_AFTER_ANY);
        assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
        assert_status(TPOOL_OK, tpool_future_set_result(pair[1], NULL));
        tpool_future_release(pair[1]);
        if (i % 1024 == 0) assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
        if (i == rounds / 10) before = resident_kib();
    }
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    if (!SLOW_TOOL) assert_true(resident_kib() < before + (16 << 10));
    assert_status(TPOOL_OK, tpool_future_set_result(pair[0], NULL));
    tpool_future_release(pair[0]);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Cancel */
static void a_held_task_is_cancelled_at_once(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *firsts[2] = { bare(), bare() };
    for (int when = 0; when < 3; when++) {
        atomic_int freed = 0, called = 0;
        tpool_task task = after(nothing, &freed, firsts, 2, (tpool_after)when);
        task.arg_free = count_free;
        tpool_future *held = submitted_task(pool, task);
        assert_status(TPOOL_OK, tpool_future_add_done_callback(held, count_callback, &called));
        assert_true(tpool_future_cancel(held));
        assert_int_equal(1, atomic_load(&freed));
        assert_int_equal(1, atomic_load(&called));
        assert_true(tpool_future_cancelled(held));
        assert_int_equal(0, stats_of(pool).held);
        assert_true(tpool_future_cancel(held));
        tpool_future_release(held);
    }
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    for (int i = 0; i < 2; i++) {
        assert_status(TPOOL_OK, tpool_future_set_result(firsts[i], NULL));
        tpool_future_release(firsts[i]);
    }
    assert_int_equal(3, stats_of(pool).cancelled);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void cancelled_tasks_leave_no_memory(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *never[2] = { bare(), bare() };
    long rounds = COUNT(500000);
    long before = 0;
    for (long i = 0; i < rounds; i++) {
        tpool_future *held = submitted_task(pool, after(nothing, NULL, never, 1 + (size_t)i % 2, (tpool_after)(i % 3)));
        assert_true(tpool_future_cancel(held));
        tpool_future_release(held);
        if (i == rounds / 10) before = resident_kib();
    }
    if (!SLOW_TOOL) assert_true(resident_kib() < before + (16 << 10));
    for (int i = 0; i < 2; i++) {
        assert_status(TPOOL_OK, tpool_future_set_result(never[i], NULL));
        tpool_future_release(never[i]);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* A cancel comes as a task becomes ready: it runs or is cancelled, and its arg_free comes once. */
static tpool_future *to_cancel[2000];
static void *cancel_all(void *arg) {
    (void)arg;
    for (int i = 0; i < 2000; i++) tpool_future_cancel(to_cancel[i]);
    return NULL;
}
static void cancel_against_becoming_ready(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    atomic_int ran = 0, freed = 0;
    pthread_t other;
    for (int i = 0; i < 2000; i++) {
        racing[i] = bare();
        tpool_task task = after(nothing, &freed, &racing[i], 1, (tpool_after)(i % 3));
        task.arg_free = count_free;
        to_cancel[i] = submitted_task(pool, task);
    }
    assert_int_equal(0, pthread_create(&other, NULL, cancel_all, NULL));
    complete_all(NULL);
    pthread_join(other, NULL);
    for (int i = 0; i < 2000; i++) {
        tpool_status end = end_of(to_cancel[i]);
        assert_true(end == TPOOL_OK || end == TPOOL_CANCELLED);
        ran += end == TPOOL_OK;
        tpool_future_release(racing[i]);
    }
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(2000, atomic_load(&freed));
    assert_int_equal(atomic_load(&ran), stats_of(pool).completed);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Queues, pauses */
static void it_goes_into_a_full_queue(void **state) {
    (void)state;
    static const tpool_full_policy policies[] = { TPOOL_FULL_BLOCK, TPOOL_FULL_REJECT, TPOOL_FULL_CALLER_RUNS,
                                                  TPOOL_FULL_DROP_OLDEST };
    for (int i = 0; i < 4; i++) {
        held_pool h;
        held_create(&h, &(tpool_config){ .queue_capacity = 1, .on_full = policies[i] });
        tpool_future *first = bare(), *queued = submitted(h.pool, nothing, &h);
        tpool_future *held[3];
        for (int k = 0; k < 3; k++)
            held[k] = submitted_task(h.pool, after(nothing, &held[k], &first, 1, TPOOL_AFTER_DONE));
        assert_int_equal(3, stats_of(h.pool).held);
        assert_status(TPOOL_OK, tpool_future_set_result(first, NULL));
        assert_int_equal(0, stats_of(h.pool).held);
        assert_int_equal(4, stats_of(h.pool).queued);
        gate_open(&h.gate);
        assert_ptr_equal(&h, take(queued));
        for (int k = 0; k < 3; k++) assert_ptr_equal(&held[k], take(held[k]));
        tpool_future_release(first);
        held_destroy(&h);
    }
}
static void a_paused_pool_lets_it_become_ready(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, tpool_pause(pool));
    tpool_future *first = bare();
    tpool_future *held = submitted_task(pool, after(nothing, pool, &first, 1, TPOOL_AFTER_DONE));
    assert_status(TPOOL_OK, tpool_future_set_result(first, NULL));
    assert_int_equal(1, stats_of(pool).queued);
    assert_int_equal(0, stats_of(pool).held);
    assert_status(TPOOL_TIMEOUT, tpool_future_result(held, TPOOL_MS(5), NULL));
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_ptr_equal(pool, take(held));
    tpool_future_release(first);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void priorities_hold(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    tpool_future *first = bare();
    atomic_int turns = 0;
    tpool_task low = after(count_up, &turns, &first, 1, TPOOL_AFTER_DONE), high = low;
    low.priority = -1;
    high.priority = 1;
    tpool_future *last = submitted_task(h.pool, low), *next = submitted_task(h.pool, high);
    assert_status(TPOOL_OK, tpool_future_set_result(first, NULL));
    assert_int_equal(2, stats_of(h.pool).queued);
    gate_open(&h.gate);
    assert_status(TPOOL_OK, end_of(next));
    assert_status(TPOOL_OK, end_of(last));
    tpool_future_release(first);
    held_destroy(&h);
}

/* ---- Workers stay for held tasks */
static void a_worker_stays(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 2, .idle_timeout_ns = 1 });
    tpool_future *first = bare();
    tpool_future *held = submitted_task(pool, after(nothing, pool, &first, 1, TPOOL_AFTER_DONE));
    sleep_ms(20);
    assert_int_equal(1, stats_of(pool).workers);
    assert_status(TPOOL_OK, tpool_future_set_result(first, NULL));
    assert_ptr_equal(pool, take(held));
    EVENTUALLY(stats_of(pool).workers == 0);
    held = submitted_task(pool, after(nothing, pool, &first, 1, TPOOL_AFTER_DONE));
    assert_ptr_equal(pool, take(held));
    EVENTUALLY(stats_of(pool).workers == 0);
    tpool_future_release(first);
    first = bare();
    held = submitted_task(pool, after(nothing, pool, &first, 1, TPOOL_AFTER_DONE));
    sleep_ms(5);
    assert_true(tpool_future_cancel(held));
    EVENTUALLY(stats_of(pool).workers == 0);
    tpool_future_release(held);
    tpool_future_release(first);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(done_before_the_submit),
        TEST(done_after_the_submit),
        TEST(done_during_the_submit),
        TEST(all_of_several_must_be_done),
        TEST(one_that_stands_twice_counts_once),
        TEST(what_is_invalid),
        TEST(a_task_looks_at_its_dependencies),
        TEST(other_tasks_have_none),
        TEST(a_failure_is_passed_on_along_a_chain),
        TEST(the_first_in_the_array_is_the_cause),
        TEST(a_failure_before_the_submit),
        TEST(a_cancelled_dependency_is_a_cause),
        TEST(the_first_of_any_starts_it),
        TEST(any_with_one_that_never_ends_keeps_no_memory),
        TEST(a_held_task_is_cancelled_at_once),
        TEST(cancelled_tasks_leave_no_memory),
        TEST(cancel_against_becoming_ready),
        TEST(it_goes_into_a_full_queue),
        TEST(a_paused_pool_lets_it_become_ready),
        TEST(priorities_hold),
        TEST(a_worker_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
