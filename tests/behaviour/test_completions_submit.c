/* Submits that add their future to a set (task.completions). */
#include "support.h"
#include "support/completions.h"
#include "support/submits.h"
#if HAVE_FORK
#include "support/children.h"
#endif

/* ---- task.completions: the submit adds. */

static void *raise_three(void *arg) {
    (void)arg;
    return tpool_raise(3, "three");
}
static tpool_task into(tpool_completions *completions, tpool_fn fn, void *arg) {
    return (tpool_task){ .fn = fn, .arg = arg, .completions = completions };
}

/* All that was added has been yielded. */
static void destroy_at_end(tpool_completions *completions) {
    check_none(completions, TPOOL_FOREVER, TPOOL_END);
    tpool_completions_destroy(completions);
}

static void a_submit_adds_its_future_with_and_without_a_handle(void **state) {
    (void)state;
    int values[4];
    held_pool h;
    held_create(&h, NULL);
    tpool_completions *completions = start(NULL, 0);
    tpool_future *kept = NULL, *bare = NULL, *got;
    tpool_task task = into(completions, nothing, &values[0]);
    assert_status(TPOOL_OK, tpool_submit_task(h.pool, &task, &kept));
    assert_int_equal(1, tpool_completions_remaining(completions));
    task.arg = &values[1];
    assert_status(TPOOL_OK, tpool_submit_task(h.pool, &task, NULL));
    assert_status(TPOOL_OK, tpool_future_create(&bare));
    assert_status(TPOOL_OK, tpool_completions_add(completions, bare)); /* both ways number in one row */
    task = into(completions, raise_three, &values[3]);
    task.priority = -1;
    assert_status(TPOOL_OK, tpool_submit_within(h.pool, &task, 0, NULL));
    assert_int_equal(4, tpool_completions_remaining(completions));
    check_none(completions, 0, TPOOL_TIMEOUT);
    gate_open(&h.gate);
    for (int i = 0; i < 4; i++) {
        if (i == 3) succeed(bare);
        got = next(completions);
        void *value = NULL;
        static const size_t indices[4] = { 0, 1, 3, 2 };
        assert_int_equal(indices[i], tpool_completions_index(completions));
        if (i == 0) assert_ptr_equal(kept, got);
        assert_status(i == 2 ? TPOOL_FAILED : TPOOL_OK, tpool_future_result(got, 0, &value));
        if (i < 2) assert_ptr_equal(&values[i], value);
    }
    destroy_at_end(completions);
    release_all(&kept, 1);
    release_all(&bare, 1);
    held_destroy(&h);
}

static void many_and_timed_submits_add_too(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    tpool_completions *completions = start(NULL, 0);
    tpool_task tasks[3];
    size_t submitted_count = 0;
    for (int i = 0; i < 3; i++) tasks[i] = into(completions, nothing, NULL);
    assert_status(TPOOL_OK, tpool_submit_many(pool, tasks, 3, NULL, &submitted_count));
    assert_status(TPOOL_OK, tpool_run_with_timeout(pool, &tasks[0], TPOOL_FOREVER, NULL));
    for (int i = 0; i < 4; i++) assert_status(TPOOL_OK, tpool_future_result(next(completions), 0, NULL));
    destroy_at_end(completions);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_refused_submit_adds_nothing_and_leaves_no_gap(void **state) {
    (void)state;
    held_pool h;
    tpool_config config = { .queue_capacity = 1, .on_full = TPOOL_FULL_REJECT };
    held_create(&h, &config);
    tpool_completions *completions = start(NULL, 0);
    tpool_future *refused = NULL;
    tpool_task task = into(completions, nothing, NULL), bad = into(completions, NULL, NULL);
    task.expires_ns = TPOOL_SEC(1000);
    assert_status(TPOOL_INVALID, tpool_submit_task(h.pool, &bad, &refused));
    assert_status(TPOOL_OK, tpool_submit_task(h.pool, &task, NULL));
    for (int i = 0; i < 40; i++) {
        assert_status(TPOOL_FULL, tpool_submit_task(h.pool, &task, i % 2 ? &refused : NULL));
        assert_status(TPOOL_TIMEOUT, tpool_submit_within(h.pool, &task, 0, &refused));
        assert_null(refused);
    }
    assert_int_equal(1, tpool_completions_remaining(completions));
    gate_open(&h.gate);
    (void)next(completions);
    check_none(completions, TPOOL_FOREVER, TPOOL_END);
    EVENTUALLY(stats_of(h.pool).queued == 0);
    assert_status(TPOOL_OK, tpool_submit_task(h.pool, &task, NULL));
    (void)next(completions);
    assert_int_equal(1, tpool_completions_index(completions));
    assert_status(TPOOL_OK, tpool_shutdown(h.pool, 0));
    assert_status(TPOOL_SHUTDOWN, tpool_submit_task(h.pool, &task, NULL));
    destroy_at_end(completions);
    held_destroy(&h);
}

/* As long as a submitter waits for room its task is not in the set: next does not wait for it. */
static void a_submitter_that_waits_for_room_has_not_added_yet(void **state) {
    (void)state;
    for (int shuts = 0; shuts < 2; shuts++) {
        static background submitter;
        static submit_call call;
        held_pool h;
        tpool_config config = { .queue_capacity = 1 };
        held_create(&h, &config);
        tpool_future *queued = submitted(h.pool, nothing, NULL);
        tpool_completions *completions = start(NULL, 0);
        call = (submit_call){ .pool = h.pool, .task = into(completions, nothing, NULL) };
        call.task.expires_ns = TPOOL_SEC(1000);
        background_start_blocked(&submitter, call_submit, &call);
        assert_int_equal(0, tpool_completions_remaining(completions));
        check_none(completions, TPOOL_FOREVER, TPOOL_END);
        if (shuts) {
            assert_status(TPOOL_OK, tpool_shutdown(h.pool, 0));
            assert_status(TPOOL_SHUTDOWN, background_join(&submitter));
            assert_null(call.future);
        } else {
            assert_true(tpool_future_cancel(queued)); /* makes room */
            assert_status(TPOOL_OK, background_join(&submitter));
            assert_int_equal(1, tpool_completions_remaining(completions));
            gate_open(&h.gate);
            assert_ptr_equal(call.future, next(completions));
            tpool_future_release(call.future);
        }
        destroy_at_end(completions);
        tpool_future_release(queued);
        held_destroy(&h);
    }
}

/* next sleeps until a time that the submit brings. */
static tpool_status call_next(void *context) {
    tpool_future *future = NULL;
    tpool_status status = tpool_completions_next(context, TPOOL_FOREVER, &future);
    return status == TPOOL_OK ? tpool_future_result(future, 0, NULL) : status;
}
static void what_a_submit_adds_expires_while_next_waits(void **state) {
    (void)state;
    static background consumer;
    held_pool h;
    held_create(&h, NULL);
    tpool_future *bare = NULL;
    assert_status(TPOOL_OK, tpool_future_create(&bare));
    tpool_completions *completions = start(&bare, 1);
    background_start_blocked(&consumer, call_next, completions);
    tpool_task task = into(completions, nothing, NULL);
    task.expires_ns = TPOOL_MS(20);
    assert_status(TPOOL_OK, tpool_submit_task(h.pool, &task, NULL));
    assert_status(TPOOL_EXPIRED, background_join(&consumer));
    succeed(bare);
    assert_ptr_equal(bare, next(completions));
    destroy_at_end(completions);
    tpool_future_release(bare);
    held_destroy(&h);
}

/* Its own place among the times is kept for a submit, whatever is added beside it. */
static void places_for_times_are_kept_for_those_who_wait_for_room(void **state) {
    (void)state;
    enum { submitters = 20, adds = 12 }; /* both are more than what was room for at first */
    static background threads[submitters];
    static submit_call calls[submitters];
    held_pool bounded, other;
    tpool_config config = { .queue_capacity = 1 };
    held_create(&bounded, &config);
    held_create(&other, NULL);
    tpool_future *queued = submitted(bounded.pool, nothing, NULL);
    tpool_completions *completions = start(NULL, 0);
    for (int i = 0; i < submitters; i++) {
        calls[i] = (submit_call){ .pool = bounded.pool, .task = into(completions, nothing, NULL) };
        calls[i].task.expires_ns = TPOOL_SEC(1000);
        background_start_blocked(&threads[i], call_submit, &calls[i]);
    }
    tpool_task late = { .fn = nothing, .expires_ns = TPOOL_SEC(2000) };
    for (int i = 0; i < adds; i++) {
        tpool_future *added = submitted_task(other.pool, late);
        assert_status(TPOOL_OK, tpool_completions_add(completions, added));
        tpool_future_release(added);
    }
    assert_int_equal(adds, tpool_completions_remaining(completions));
    gate_open(&bounded.gate);
    gate_open(&other.gate);
    for (int i = 0; i < submitters; i++) {
        assert_status(TPOOL_OK, background_join(&threads[i]));
        tpool_future_release(calls[i].future);
    }
    for (int i = 0; i < adds + submitters; i++) (void)next(completions);
    destroy_at_end(completions);
    tpool_future_release(queued);
    held_destroy(&bounded);
    held_destroy(&other);
}

static void *count_remaining(void *arg) { return (void *)tpool_completions_remaining(arg); }
static void a_task_that_its_submitter_runs_is_in_the_set_before(void **state) {
    (void)state;
    held_pool h;
    tpool_config config = { .queue_capacity = 1, .on_full = TPOOL_FULL_CALLER_RUNS };
    held_create(&h, &config);
    tpool_future *queued = submitted(h.pool, nothing, NULL);
    tpool_completions *completions = start(NULL, 0);
    tpool_task task = into(completions, count_remaining, completions);
    task.expires_ns = TPOOL_SEC(1000);
    void *remaining = NULL;
    assert_status(TPOOL_OK, tpool_submit_task(h.pool, &task, NULL));
    assert_int_equal(1, tpool_completions_remaining(completions));
    assert_status(TPOOL_OK, tpool_future_result(next(completions), 0, &remaining));
    assert_int_equal(1, (uintptr_t)remaining);
    destroy_at_end(completions);
    tpool_future_release(queued);
    held_destroy(&h);
}

static void *submit_one_that_ends_its_thread(void *arg) {
    submit_call *call = arg;
    tpool_status status = tpool_submit_task(call->pool, &call->task, NULL);
    fail_msg("the submit returned: %s", tpool_status_name(status));
    return NULL;
}
static void one_that_ends_the_thread_of_its_submitter_is_yielded_as_broken(void **state) {
    (void)state;
    held_pool h;
    tpool_config config = { .queue_capacity = 1, .on_full = TPOOL_FULL_CALLER_RUNS };
    held_create(&h, &config);
    tpool_future *queued = submitted(h.pool, nothing, NULL);
    tpool_completions *completions = start(NULL, 0);
    submit_call call = { .pool = h.pool, .task = into(completions, end_thread, NULL) };
    in_own_thread(submit_one_that_ends_its_thread, &call);
    tpool_future *others[200];
    create_bare(others, 200); /* where its memory is, if it was given back */
    assert_status(TPOOL_BROKEN, tpool_future_result(next(completions), 0, NULL));
    release_all(others, 200);
    destroy_at_end(completions);
    tpool_future_release(queued);
    held_destroy(&h);
}

/* The end of what has expired in a full queue runs in the submitter, before its own task is placed. */
static void end_thread_in_callback(tpool_future *future, void *context) {
    (void)future;
    (void)end_thread(context);
}
static void a_submitter_whose_thread_ends_before_it_has_room_adds_nothing(void **state) {
    (void)state;
    held_pool h;
    tpool_config config = { .queue_capacity = 1 };
    held_create(&h, &config);
    tpool_task short_lived = { .fn = nothing, .expires_ns = TPOOL_MS(300) }; /* not before its callback is added */
    tpool_future *expiring = submitted_task(h.pool, short_lived);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(expiring, end_thread_in_callback, NULL));
    sleep_ms(310);
    tpool_completions *completions = start(NULL, 0);
    submit_call call = { .pool = h.pool, .task = into(completions, nothing, NULL) };
    call.task.expires_ns = TPOOL_SEC(1000);
    in_own_thread(submit_one_that_ends_its_thread, &call);
    assert_status(TPOOL_EXPIRED, end_of(expiring));
    assert_int_equal(0, tpool_completions_remaining(completions));
    destroy_at_end(completions);
    held_destroy(&h);
}

static void what_is_dropped_and_what_drops_it_are_yielded(void **state) {
    (void)state;
    held_pool h;
    tpool_config config = { .queue_capacity = 1, .on_full = TPOOL_FULL_DROP_OLDEST };
    held_create(&h, &config);
    tpool_completions *completions = start(NULL, 0);
    tpool_task task = into(completions, nothing, NULL);
    for (int i = 0; i < 2; i++) {
        task.expires_ns = i ? TPOOL_SEC(1000) : 0;
        assert_status(TPOOL_OK, tpool_submit_task(h.pool, &task, NULL));
    }
    assert_status(TPOOL_CANCELLED, tpool_future_result(next(completions), 0, NULL));
    assert_int_equal(0, tpool_completions_index(completions));
    gate_open(&h.gate);
    assert_status(TPOOL_OK, tpool_future_result(next(completions), 0, NULL));
    destroy_at_end(completions);
    held_destroy(&h);
}

/* A task is in the set until it ends, and those that it submits are in it before: the end of the set is that of all. */
typedef struct crawl {
    tpool *pool;
    tpool_completions *completions;
    atomic_int pages;
} crawl;
typedef struct page {
    crawl *of;
    int depth;
} page;
static void *visit(void *arg) {
    page *p = arg, deeper = { p->of, p->depth - 1 };
    atomic_fetch_add(&p->of->pages, 1);
    for (int i = 0; i < 3 && p->depth > 0; i++) {
        tpool_task task = into(p->of->completions, visit, &deeper);
        task.arg_size = sizeof deeper;
        if (tpool_submit_task(p->of->pool, &task, NULL) != TPOOL_OK) return tpool_raise(1, "refused");
    }
    return NULL;
}
static void a_tree_of_submits_is_at_its_end_when_next_says_so(void **state) {
    (void)state;
    for (int workers = 1; workers <= 4; workers++) {
        crawl all = { .pool = new_pool(workers), .completions = start(NULL, 0) };
        page root = { &all, 6 };
        tpool_task task = into(all.completions, visit, &root);
        assert_status(TPOOL_OK, tpool_submit_task(all.pool, &task, NULL));
        int yielded = 0;
        tpool_future *future = NULL;
        tpool_status status;
        while ((status = tpool_completions_next(all.completions, LIMIT, &future)) == TPOOL_OK) {
            assert_status(TPOOL_OK, tpool_future_result(future, 0, NULL));
            yielded++;
        }
        assert_status(TPOOL_END, status);
        assert_int_equal((3 * 3 * 3 * 3 * 3 * 3 * 3 - 1) / 2, yielded);
        assert_int_equal(yielded, atomic_load(&all.pages));
        tpool_completions_destroy(all.completions); /* perhaps before the last submit has returned */
        assert_status(TPOOL_OK, tpool_destroy(all.pool));
    }
}

/* Once its task is yielded, a submit touches the iterator no more, though it may not have returned. */
static void a_set_may_be_destroyed_once_it_has_yielded_what_is_being_submitted(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    for (int i = 0; i < 3000; i++) {
        static background submitter;
        static submit_call call;
        tpool_completions *completions = start(NULL, 0);
        call = (submit_call){ .pool = pool, .task = into(completions, nothing, NULL) };
        call.task.expires_ns = i % 2 ? TPOOL_SEC(1000) : 0;
        background_start(&submitter, call_submit, &call);
        tpool_future *future = NULL;
        while (tpool_completions_next(completions, LIMIT, &future) == TPOOL_END) { }
        assert_non_null(future);
        tpool_completions_destroy(completions);
        assert_status(TPOOL_OK, background_join(&submitter));
        tpool_future_release(call.future);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

#if HAVE_FORK
static void submit_in_child(void *context) {
    submit_call *call = context;
    tpool *own = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_create(&own, NULL));
    CHECK_STATUS(TPOOL_BROKEN, tpool_submit_task(own, &call->task, &call->future));
    CHECK(!call->future);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(own));
}
static void a_set_of_the_parent_takes_nothing_in_a_child(void **state) {
    (void)state;
    tpool_completions *completions = start(NULL, 0);
    submit_call call = { .task = into(completions, nothing, NULL) };
    in_child(submit_in_child, &call);
    destroy_at_end(completions);
}
#endif

static const struct CMUnitTest tests[] = {
    TEST(a_submit_adds_its_future_with_and_without_a_handle),
    TEST(many_and_timed_submits_add_too),
    TEST(a_refused_submit_adds_nothing_and_leaves_no_gap),
    TEST(a_submitter_that_waits_for_room_has_not_added_yet),
    TEST(what_a_submit_adds_expires_while_next_waits),
    TEST(places_for_times_are_kept_for_those_who_wait_for_room),
    TEST(a_task_that_its_submitter_runs_is_in_the_set_before),
    TEST(one_that_ends_the_thread_of_its_submitter_is_yielded_as_broken),
    TEST(a_submitter_whose_thread_ends_before_it_has_room_adds_nothing),
    TEST(what_is_dropped_and_what_drops_it_are_yielded),
    TEST(a_tree_of_submits_is_at_its_end_when_next_says_so),
    TEST(a_set_may_be_destroyed_once_it_has_yielded_what_is_being_submitted),
#if HAVE_FORK
    TEST(a_set_of_the_parent_takes_nothing_in_a_child),
#endif
};
RUN_TESTS(tests)
