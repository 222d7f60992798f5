/* Bad arguments: each function gives TPOOL_INVALID or TPOOL_INVALID_STATE, hands out NULL, changes nothing and leaks
   nothing (the sanitizers watch that); what may be NULL is taken. */
#include "support.h"
#include <limits.h>

static atomic_int runs, freed;
static void *count_run(void *arg) {
    atomic_fetch_add(&runs, 1);
    return arg;
}
static void count_one_free(void *arg) {
    (void)arg;
    atomic_fetch_add(&freed, 1);
}
static void count_owned(void *result) {
    (void)result;
    atomic_fetch_add(&freed, 1);
}
static void no_callback(tpool_future *future, void *context) {
    (void)future;
    (void)context;
    atomic_fetch_add(&runs, 1);
}

/* Something that is not NULL and not valid either, to see it overwritten. */
static char poison_place;
#define POISON ((void *)&poison_place)

static tpool *new_untouched_pool(void) {
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 4, .min_workers = 2 });
    return pool;
}

static tpool_future *new_pending_future(void) {
    tpool_future *future;
    assert_status(TPOOL_OK, tpool_future_create(&future));
    assert_non_null(future);
    return future;
}

static void reset_counts(void) {
    atomic_store(&runs, 0);
    atomic_store(&freed, 0);
}

/* The pool is as if nothing had been asked of it, works, and ends well. */
static void assert_untouched_and_end(tpool *pool) {
    tpool_stats stats;
    assert_status(TPOOL_OK, tpool_get_stats(pool, &stats));
    assert_int_equal(4, stats.max_workers);
    assert_int_equal(0, stats.workers);
    assert_int_equal(0, stats.submitted);
    assert_int_equal(0, stats.queued);
    assert_int_equal(0, stats.rejected);
    assert_int_equal(0, atomic_load(&runs));
    assert_int_equal(0, atomic_load(&freed));
    tpool_future *future = submitted(pool, count_run, NULL);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
    assert_int_equal(1, atomic_load(&runs));
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(1, atomic_load(&runs));
}

/* --- pools */

static void create_refuses_bad_configurations(void **state) {
    (void)state;
    static const tpool_config bad[] = {
        { .max_workers = -1 },
        { .max_workers = INT_MIN },
        { .min_workers = -1 },
        { .min_workers = INT_MIN },
        { .max_workers = 2, .min_workers = 3 },
        { .max_workers = 1, .min_workers = INT_MAX },
        { .max_workers = -1, .min_workers = -1 },
        { .idle_timeout_ns = -1 },
        { .kind = (tpool_kind)3 },
        { .kind = (tpool_kind)99 },
        { .on_full = (tpool_full_policy)4 },
        { .on_full = (tpool_full_policy)99 },
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        tpool *pool = POISON;
        assert_status(TPOOL_INVALID, tpool_create(&pool, &bad[i]));
        assert_null(pool);
    }
    assert_status(TPOOL_INVALID, tpool_create(NULL, NULL));
    assert_status(TPOOL_INVALID, tpool_create(NULL, &(tpool_config){ .max_workers = 1 }));
}
#if !defined(TPOOL_MPI)
static void pools_over_ranks_without_mpi(void **state) {
    (void)state;
    tpool_config config = { .kind = TPOOL_MPI_RANKS };
    tpool *pool = POISON;
    assert_status(TPOOL_UNSUPPORTED, tpool_create(&pool, &config));
    assert_null(pool);
    pool = POISON;
    assert_status(TPOOL_UNSUPPORTED, tpool_manager_get(NULL, 1, TPOOL_MPI_RANKS, 0, &pool));
    assert_null(pool);
}
#endif

/* Where there are no pools of processes, the kind is known and not supported; on Windows it wants a tpool_main. */
static void create_knows_the_kind_processes(void **state) {
    (void)state;
    tpool *pool = POISON;
    tpool_status status = tpool_create(&pool, &(tpool_config){ .kind = TPOOL_PROCESSES, .max_workers = 1 });
#ifdef _WIN32
    if (status == TPOOL_INVALID_STATE) status = TPOOL_UNSUPPORTED;
#endif
    if (status == TPOOL_UNSUPPORTED) {
        assert_null(pool);
    } else {
        assert_status(TPOOL_OK, status);
        assert_non_null(pool);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

static void calls_on_no_pool_are_invalid(void **state) {
    (void)state;
    assert_status(TPOOL_INVALID, tpool_shutdown(NULL, 0));
    assert_status(TPOOL_INVALID, tpool_shutdown(NULL, TPOOL_WAIT | TPOOL_CANCEL_PENDING | TPOOL_STOP_RUNNING));
    assert_status(TPOOL_OK, tpool_destroy(NULL));
    assert_status(TPOOL_INVALID, tpool_drain(NULL, 0));
    assert_status(TPOOL_INVALID, tpool_drain(NULL, TPOOL_FOREVER));
    assert_status(TPOOL_INVALID, tpool_warm_up(NULL, 1));
    assert_status(TPOOL_INVALID, tpool_resize(NULL, 1));
    assert_status(TPOOL_INVALID, tpool_pause(NULL));
    assert_status(TPOOL_INVALID, tpool_resume(NULL));
    assert_status(TPOOL_INVALID, tpool_kill_workers(NULL));
    tpool_stats stats;
    assert_status(TPOOL_INVALID, tpool_get_stats(NULL, &stats));
    assert_status(TPOOL_INVALID, tpool_get_stats(NULL, NULL));
}

static void pool_calls_refuse_bad_numbers_and_change_nothing(void **state) {
    (void)state;
    reset_counts();
    tpool *pool = new_untouched_pool();
    static const unsigned bad_flags[] = { 16,          32,      TPOOL_DETACH | TPOOL_WAIT, 16 | TPOOL_CANCEL_PENDING,
                                          0x80000000u, UINT_MAX };
    for (size_t i = 0; i < sizeof bad_flags / sizeof bad_flags[0]; i++) {
        assert_status(TPOOL_INVALID, tpool_shutdown(pool, bad_flags[i]));
    }
    static const int bad_sizes[] = { 0, -1, INT_MIN, 1 }; /* 1 is below min_workers */
    for (size_t i = 0; i < sizeof bad_sizes / sizeof bad_sizes[0]; i++) {
        assert_status(TPOOL_INVALID, tpool_resize(pool, bad_sizes[i]));
    }
    assert_status(TPOOL_INVALID, tpool_warm_up(pool, -1));
    assert_status(TPOOL_INVALID, tpool_warm_up(pool, INT_MIN));
    assert_status(TPOOL_INVALID, tpool_get_stats(pool, NULL));
    assert_untouched_and_end(pool);

    /* Without min_workers only a size below 1 is bad. */
    assert_status(TPOOL_OK, tpool_create(&pool, &(tpool_config){ .max_workers = 4 }));
    assert_status(TPOOL_INVALID, tpool_resize(pool, 0));
    assert_status(TPOOL_OK, tpool_resize(pool, 1));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- submitting */

static void submits_refuse_bad_arguments_and_take_nothing(void **state) {
    (void)state;
    reset_counts();
    tpool *pool = new_untouched_pool();
    tpool_task good = { .fn = count_run, .arg = POISON, .arg_free = count_one_free };
    tpool_task without_fn = { .arg = POISON, .arg_free = count_one_free };
    tpool_task without_bytes = { .fn = count_run, .arg_size = 4, .arg_free = count_one_free };

#define REFUSED(call) \
    do { \
        tpool_future *future = POISON; \
        assert_status(TPOOL_INVALID, call); \
        assert_null(future); \
    } while (0)
    REFUSED(tpool_submit(NULL, count_run, NULL, &future));
    REFUSED(tpool_submit(pool, NULL, NULL, &future));
    REFUSED(tpool_submit(pool, NULL, POISON, &future));
    REFUSED(tpool_submit_task(NULL, &good, &future));
    REFUSED(tpool_submit_task(pool, NULL, &future));
    REFUSED(tpool_submit_task(pool, &without_fn, &future));
    REFUSED(tpool_submit_task(pool, &without_bytes, &future));
    REFUSED(tpool_submit_copy(NULL, count_run, "bytes", 5, &future));
    REFUSED(tpool_submit_copy(pool, NULL, "bytes", 5, &future));
    REFUSED(tpool_submit_copy(pool, count_run, NULL, 5, &future));
    REFUSED(tpool_run_with_timeout(pool, NULL, LIMIT, &future));
    REFUSED(tpool_run_with_timeout(pool, &without_fn, LIMIT, &future));
    REFUSED(tpool_run_with_timeout(pool, &without_bytes, LIMIT, &future));
    REFUSED(tpool_run_with_timeout(pool, &without_fn, 0, &future));
    /* And without a future to set. */
    assert_status(TPOOL_INVALID, tpool_submit(NULL, count_run, NULL, NULL));
    assert_status(TPOOL_INVALID, tpool_submit(pool, NULL, NULL, NULL));
    assert_status(TPOOL_INVALID, tpool_submit_task(NULL, &good, NULL));
    assert_status(TPOOL_INVALID, tpool_submit_task(pool, NULL, NULL));
    assert_status(TPOOL_INVALID, tpool_submit_task(pool, &without_fn, NULL));
    assert_status(TPOOL_INVALID, tpool_submit_task(pool, &without_bytes, NULL));
    assert_status(TPOOL_INVALID, tpool_submit_copy(pool, count_run, NULL, 5, NULL));
    assert_status(TPOOL_INVALID, tpool_run_with_timeout(pool, NULL, LIMIT, NULL));
    assert_untouched_and_end(pool);
}

static void submit_many_refuses_bad_arguments(void **state) {
    (void)state;
    reset_counts();
    tpool *pool = new_untouched_pool();
    tpool_task good[2] = { { .fn = count_run, .arg = POISON, .arg_free = count_one_free }, { .fn = count_run } };
    tpool_future *futures[2] = { POISON, POISON };
    size_t taken = 9;
    assert_status(TPOOL_INVALID, tpool_submit_many(NULL, good, 2, futures, &taken));
    assert_int_equal(0, taken);
    for (int i = 0; i < 2; i++) {
        assert_null(futures[i]);
        futures[i] = POISON;
    }
    taken = 9;
    assert_status(TPOOL_INVALID, tpool_submit_many(pool, NULL, 2, futures, &taken));
    assert_int_equal(0, taken);
    for (int i = 0; i < 2; i++) assert_null(futures[i]);
    assert_status(TPOOL_INVALID, tpool_submit_many(NULL, good, 2, NULL, NULL));
    assert_status(TPOOL_INVALID, tpool_submit_many(pool, NULL, 2, NULL, NULL));
    taken = 9;
    assert_status(TPOOL_OK, tpool_submit_many(pool, good, 0, NULL, &taken));
    assert_int_equal(0, taken);
    assert_untouched_and_end(pool);
}

static void submit_many_stops_at_the_first_bad_task(void **state) {
    (void)state;
    reset_counts();
    tpool *pool = new_untouched_pool();
    tpool_task tasks[4] = {
        { .fn = count_run },
        { .fn = NULL, .arg_free = count_one_free },
        { .fn = count_run, .arg_free = count_one_free },
        { .fn = count_run },
    };
    tpool_future *futures[4] = { POISON, POISON, POISON, POISON };
    size_t taken = 9;
    assert_status(TPOOL_INVALID, tpool_submit_many(pool, tasks, 4, futures, &taken));
    assert_int_equal(1, taken);
    assert_status(TPOOL_OK, tpool_future_result(futures[0], LIMIT, NULL));
    for (int i = 1; i < 4; i++) assert_null(futures[i]);
    tpool_future_release(futures[0]);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(1, atomic_load(&runs));
    assert_int_equal(0, atomic_load(&freed));
}

static void what_may_be_null_or_zero_is_taken(void **state) {
    (void)state;
    reset_counts();
    tpool *pool = new_untouched_pool();
    tpool_task plain = { .fn = count_run, .expires_ns = -1, .run_limit_ns = -1 }; /* not above 0: no limit */
    assert_status(TPOOL_OK, tpool_submit(pool, count_run, NULL, NULL));
    assert_status(TPOOL_OK, tpool_submit_task(pool, &plain, NULL));
    assert_status(TPOOL_OK, tpool_submit_copy(pool, count_run, NULL, 0, NULL));
    assert_status(TPOOL_OK, tpool_submit_many(pool, &plain, 1, NULL, NULL));
    assert_status(TPOOL_OK, tpool_run_with_timeout(pool, &plain, LIMIT, NULL));
    assert_status(TPOOL_OK, end_of(submitted_task(pool, plain)));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(6, atomic_load(&runs));
}

static void task_functions_do_nothing_outside_a_task(void **state) {
    (void)state;
    reset_counts();
    char mine[4] = "own";
    assert_null(tpool_raise(1, "nobody %d", 1));
    assert_null(tpool_return("bytes", 5));
    assert_null(tpool_return(NULL, 0));
    assert_null(tpool_return_owned(mine, count_owned));
    assert_int_equal(0, atomic_load(&freed)); /* still the caller's */
    assert_false(tpool_stop_requested());
    assert_int_equal(0, tpool_arg_size());
    assert_null(tpool_current());
    assert_int_equal(-1, tpool_current_worker());
}

/* --- futures */

static void calls_on_no_future_are_harmless(void **state) {
    (void)state;
    void *result = POISON;
    const tpool_error *error = POISON;
    assert_status(TPOOL_INVALID, tpool_future_result(NULL, 0, &result));
    assert_null(result);
    result = POISON;
    assert_status(TPOOL_INVALID, tpool_future_result(NULL, TPOOL_FOREVER, &result));
    assert_null(result);
    assert_status(TPOOL_INVALID, tpool_future_result(NULL, TPOOL_FOREVER, NULL));
    assert_status(TPOOL_INVALID, tpool_future_error(NULL, TPOOL_FOREVER, &error));
    assert_null(error);
    assert_status(TPOOL_INVALID, tpool_future_error(NULL, 0, NULL));
    assert_int_equal(0, tpool_future_result_size(NULL));
    assert_int_equal(TPOOL_PENDING, tpool_future_state(NULL));
    assert_non_null(tpool_future_message(NULL));
    assert_false(tpool_future_done(NULL));
    assert_false(tpool_future_running(NULL));
    assert_false(tpool_future_cancelled(NULL));
    assert_false(tpool_future_cancel(NULL));
    tpool_future_request_stop(NULL);
    assert_status(TPOOL_INVALID, tpool_future_add_done_callback(NULL, no_callback, NULL));
    assert_status(TPOOL_INVALID, tpool_future_add_done_callback(NULL, NULL, NULL));
    assert_null(tpool_future_retain(NULL));
    tpool_future_release(NULL);
    assert_status(TPOOL_INVALID, tpool_future_create(NULL));
    assert_status(TPOOL_INVALID, tpool_future_set_running(NULL));
    assert_status(TPOOL_INVALID, tpool_future_set_result(NULL, NULL));
    assert_status(TPOOL_INVALID, tpool_future_set_error(NULL, 1, "nothing"));
}

static void future_calls_refuse_missing_pointers(void **state) {
    (void)state;
    reset_counts();
    tpool_future *future = new_pending_future();
    assert_status(TPOOL_INVALID, tpool_future_error(future, 0, NULL));
    assert_status(TPOOL_INVALID, tpool_future_add_done_callback(future, NULL, NULL));
    assert_int_equal(TPOOL_PENDING, tpool_future_state(future));
    assert_status(TPOOL_TIMEOUT, tpool_future_result(future, 0, NULL)); /* this one may be NULL */
    assert_status(TPOOL_OK, tpool_future_set_result(future, NULL));
    assert_status(TPOOL_INVALID, tpool_future_error(future, 0, NULL));
    assert_status(TPOOL_INVALID, tpool_future_add_done_callback(future, NULL, NULL));
    assert_status(TPOOL_OK, tpool_future_result(future, 0, NULL));
    tpool_future_release(future);
}

static void a_future_is_completed_only_once(void **state) {
    (void)state;
    void *result = NULL;
    const tpool_error *error = NULL;
    tpool_future *set = new_pending_future(), *failed = new_pending_future(), *cancelled = new_pending_future();

    assert_status(TPOOL_OK, tpool_future_set_result(set, &result));
    assert_status(TPOOL_INVALID_STATE, tpool_future_set_result(set, &error));
    assert_status(TPOOL_INVALID_STATE, tpool_future_set_error(set, 1, "late"));
    assert_status(TPOOL_INVALID_STATE, tpool_future_set_running(set));
    assert_status(TPOOL_OK, tpool_future_result(set, 0, &result));
    assert_ptr_equal(&result, result);
    assert_false(tpool_future_cancel(set));

    assert_status(TPOOL_OK, tpool_future_set_running(failed));
    assert_status(TPOOL_INVALID_STATE, tpool_future_set_running(failed));
    assert_false(tpool_future_cancel(failed));
    assert_status(TPOOL_OK, tpool_future_set_error(failed, 4, "first"));
    assert_status(TPOOL_INVALID_STATE, tpool_future_set_error(failed, 5, "second"));
    assert_status(TPOOL_INVALID_STATE, tpool_future_set_result(failed, NULL));
    assert_status(TPOOL_INVALID_STATE, tpool_future_set_running(failed));
    assert_status(TPOOL_OK, tpool_future_error(failed, 0, &error));
    assert_int_equal(4, error->code);
    assert_string_equal("first", error->message);

    assert_true(tpool_future_cancel(cancelled));
    assert_status(TPOOL_CANCELLED, tpool_future_set_running(cancelled));
    assert_status(TPOOL_INVALID_STATE, tpool_future_set_result(cancelled, NULL));
    assert_status(TPOOL_INVALID_STATE, tpool_future_set_error(cancelled, 1, "late"));
    assert_true(tpool_future_cancelled(cancelled));
    tpool_future_release(set);
    tpool_future_release(failed);
    tpool_future_release(cancelled);
}

static void a_pools_own_future_cannot_be_completed_from_outside(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    tpool *pool = new_pool(1);
    tpool_future *futures[2]; /* one that runs, one that waits; and later both done */
    futures[0] = submitted(pool, gate_task, &hold);
    gate_await_arrivals(&hold, 1);
    futures[1] = submitted(pool, nothing, &hold);
    for (int done = 0; done < 2; done++) {
        for (int i = 0; i < 2; i++) {
            assert_status(TPOOL_INVALID_STATE, tpool_future_set_running(futures[i]));
            assert_status(TPOOL_INVALID_STATE, tpool_future_set_result(futures[i], &pool));
            assert_status(TPOOL_INVALID_STATE, tpool_future_set_error(futures[i], 1, "not yours"));
        }
        if (!done) {
            assert_int_equal(TPOOL_RUNNING, tpool_future_state(futures[0]));
            assert_int_equal(TPOOL_PENDING, tpool_future_state(futures[1]));
        }
        gate_open(&hold);
        for (int i = 0; i < 2; i++) {
            void *result = NULL;
            assert_status(TPOOL_OK, tpool_future_result(futures[i], LIMIT, &result));
            assert_ptr_equal(&hold, result);
        }
    }
    for (int i = 0; i < 2; i++) tpool_future_release(futures[i]);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- many futures */

static void wait_refuses_missing_futures_and_unknown_conditions(void **state) {
    (void)state;
    tpool_future *pending = new_pending_future(), *done = new_pending_future();
    assert_status(TPOOL_OK, tpool_future_set_result(done, NULL));
    size_t count = 0;
    tpool_future *with_null[] = { pending, NULL, done };
    for (int when = TPOOL_ALL_COMPLETED; when <= TPOOL_FIRST_EXCEPTION; when++) {
        assert_status(TPOOL_INVALID, tpool_wait(NULL, 1, (tpool_return_when)when, 0, &count));
        assert_status(TPOOL_INVALID, tpool_wait(NULL, 2, (tpool_return_when)when, TPOOL_FOREVER, NULL));
        assert_status(TPOOL_INVALID, tpool_wait(with_null, 3, (tpool_return_when)when, 0, &count));
        assert_status(TPOOL_INVALID, tpool_wait(with_null, 3, (tpool_return_when)when, TPOOL_FOREVER, NULL));
        assert_status(TPOOL_OK, tpool_wait(with_null, 0, (tpool_return_when)when, TPOOL_FOREVER, &count));
        assert_int_equal(0, count);
    }
    assert_ptr_equal(pending, with_null[0]);
    assert_null(with_null[1]);
    assert_ptr_equal(done, with_null[2]);
    tpool_future *both[] = { pending, done };
    static const int unknown[] = { -1, 3, 99 };
    for (int i = 0; i < 3; i++) {
        assert_status(TPOOL_INVALID, tpool_wait(both, 2, (tpool_return_when)unknown[i], 0, &count));
        assert_status(TPOOL_INVALID, tpool_wait(both, 0, (tpool_return_when)unknown[i], 0, &count));
        assert_status(TPOOL_INVALID, tpool_wait(both, 2, (tpool_return_when)unknown[i], TPOOL_FOREVER, NULL));
    }
    assert_ptr_equal(pending, both[0]);
    assert_ptr_equal(done, both[1]);
    tpool_future_release(pending);
    tpool_future_release(done);
}

static void completions_refuse_missing_pointers(void **state) {
    (void)state;
    tpool_future *done = new_pending_future(), *yielded = POISON;
    assert_status(TPOOL_OK, tpool_future_set_result(done, NULL));
    tpool_future *with_null[] = { done, NULL };
    tpool_completions *completions = POISON;
    assert_status(TPOOL_INVALID, tpool_as_completed(with_null, 2, &completions));
    assert_null(completions);
    completions = POISON;
    assert_status(TPOOL_INVALID, tpool_as_completed(NULL, 1, &completions));
    assert_null(completions);
    assert_status(TPOOL_INVALID, tpool_as_completed(with_null, 1, NULL));
    assert_status(TPOOL_INVALID, tpool_completions_add(NULL, done));
    assert_status(TPOOL_INVALID, tpool_completions_add(NULL, NULL));
    assert_status(TPOOL_INVALID, tpool_completions_next(NULL, 0, &yielded));
    assert_null(yielded);
    assert_status(TPOOL_INVALID, tpool_completions_next(NULL, TPOOL_FOREVER, NULL));
    assert_int_equal(0, tpool_completions_index(NULL));
    assert_int_equal(0, tpool_completions_remaining(NULL));
    tpool_completions_destroy(NULL);

    assert_status(TPOOL_OK, tpool_as_completed(with_null, 1, &completions));
    assert_status(TPOOL_INVALID, tpool_completions_add(completions, NULL));
    assert_status(TPOOL_INVALID, tpool_completions_next(completions, 0, NULL));
    assert_int_equal(1, tpool_completions_remaining(completions)); /* nothing consumed, nothing added */
    assert_status(TPOOL_OK, tpool_completions_next(completions, 0, &yielded));
    assert_ptr_equal(done, yielded);
    assert_status(TPOOL_END, tpool_completions_next(completions, 0, &yielded));
    assert_null(yielded);
    tpool_completions_destroy(completions);
    tpool_future_release(done);
}

/* --- map, loops, fork and join */

static void *count_item(void *item, void *context) {
    (void)context;
    return count_run(item);
}
static bool give_poison(void *context, void **item) {
    (void)context;
    *item = POISON;
    return true;
}
static void free_item(void *item, void *context) {
    (void)context;
    count_one_free(item);
}

static void map_refuses_bad_specifications(void **state) {
    (void)state;
    reset_counts();
    tpool *pool = new_untouched_pool();
    int items[3] = { 1, 2, 3 };
    tpool_map_spec good = { .fn = count_item, .items = items, .count = 3, .stride = sizeof items[0] };
    tpool_map_spec bad[] = {
        { .items = items, .count = 3, .stride = sizeof items[0] }, /* no fn */
        { .fn = count_item },                                      /* neither */
        { .fn = count_item, .buffer_size = 4 },
        { .fn = count_item, .count = 3, .stride = sizeof items[0] }, /* no array */
        { .fn = count_item,
          .items = items,
          .count = 3,
          .stride = sizeof items[0],
          .next = give_poison,
          .buffer_size = 4 },                                              /* both */
        { .fn = count_item, .next = give_poison, .item_free = free_item }, /* no buffer */
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        tpool_map_iter *iter = POISON;
        assert_status(TPOOL_INVALID, tpool_map(pool, &bad[i], &iter));
        assert_null(iter);
    }
    tpool_map_iter *iter = POISON;
    assert_status(TPOOL_INVALID, tpool_map(NULL, &good, &iter));
    assert_null(iter);
    iter = POISON;
    assert_status(TPOOL_INVALID, tpool_map(pool, NULL, &iter));
    assert_null(iter);
    assert_status(TPOOL_INVALID, tpool_map(pool, &good, NULL));
    assert_untouched_and_end(pool);
}

static void calls_on_no_map_are_harmless(void **state) {
    (void)state;
    void *result = POISON;
    const tpool_error *error = POISON;
    assert_status(TPOOL_INVALID, tpool_map_next(NULL, 0, &result));
    assert_null(result);
    assert_status(TPOOL_INVALID, tpool_map_next(NULL, TPOOL_FOREVER, NULL));
    assert_int_equal(0, tpool_map_result_size(NULL));
    assert_status(TPOOL_INVALID, tpool_map_error(NULL, &error));
    assert_null(error);
    tpool_map_close(NULL);
}

static void map_error_refuses_what_it_cannot_tell(void **state) {
    (void)state;
    reset_counts();
    tpool *pool = new_untouched_pool();
    int items[2] = { 1, 2 };
    tpool_map_spec spec = { .fn = count_item, .items = items, .count = 2, .stride = sizeof items[0] };
    tpool_map_iter *iter;
    const tpool_error *error = POISON;
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    assert_status(TPOOL_INVALID_STATE, tpool_map_error(iter, &error)); /* nothing delivered yet */
    assert_null(error);
    assert_status(TPOOL_INVALID, tpool_map_error(iter, NULL));
    assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_map_error(iter, &error));
    assert_null(error);
    tpool_map_close(iter);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void count_body(size_t begin, size_t end, void *context) {
    (void)context;
    atomic_fetch_add(&runs, (int)(end - begin));
}

static void for_refuses_bad_arguments(void **state) {
    (void)state;
    reset_counts();
    tpool *pool = new_untouched_pool();
    assert_status(TPOOL_INVALID, tpool_for(NULL, 0, 10, 1, count_body, NULL));
    assert_status(TPOOL_INVALID, tpool_for(pool, 0, 10, 1, NULL, NULL));
    assert_status(TPOOL_INVALID, tpool_for(pool, 1, 0, 1, count_body, NULL));
    assert_status(TPOOL_INVALID, tpool_for(pool, SIZE_MAX, 0, 0, count_body, NULL));
    assert_status(TPOOL_INVALID, tpool_for(pool, 11, 10, 0, count_body, NULL));
    assert_int_equal(0, atomic_load(&runs));
    assert_status(TPOOL_OK, tpool_for(pool, 0, 0, 0, count_body, NULL));
    assert_status(TPOOL_OK, tpool_for(pool, SIZE_MAX, SIZE_MAX, 1, count_body, NULL));
    assert_untouched_and_end(pool);
}

static void fork_and_join_of_nothing_do_nothing(void **state) {
    (void)state;
    reset_counts();
    tpool_job job;
    memset(&job, 0, sizeof job);
    tpool_fork(NULL, count_run, NULL);
    assert_null(tpool_join(NULL));
    tpool_fork(&job, NULL, POISON);
    assert_null(tpool_join(&job));
    assert_int_equal(0, atomic_load(&runs));
}

/* --- the dual pools, sizing */

static void dual_calls_refuse_bad_arguments(void **state) {
    (void)state;
    static const tpool_config bad[] = {
        { .max_workers = -1 },
        { .min_workers = -1 },
        { .max_workers = 1, .min_workers = 2 },
        { .kind = (tpool_kind)99 },
        { .on_full = (tpool_full_policy)99 },
        { .idle_timeout_ns = -1 },
    };
    tpool_config good = { .max_workers = 7 };
    /* On the low-level pool, which a bad argument does not create. */
    assert_status(TPOOL_INVALID, tpool_run_with_timeout(NULL, NULL, LIMIT, NULL));
    assert_status(TPOOL_INVALID, tpool_run_with_timeout(NULL, &(tpool_task){ .arg = POISON }, LIMIT, NULL));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_status(TPOOL_INVALID, tpool_dual_configure(&bad[i], NULL));
        assert_status(TPOOL_INVALID, tpool_dual_configure(NULL, &bad[i]));
        assert_status(TPOOL_INVALID, tpool_dual_configure(&good, &bad[i])); /* none of it holds */
        assert_status(TPOOL_INVALID, tpool_dual_configure(&bad[i], &good));
    }
    assert_status(TPOOL_OK, tpool_dual_configure(NULL, NULL));
    assert_status(TPOOL_INVALID, tpool_dual_shutdown(8));
    assert_status(TPOOL_INVALID, tpool_dual_shutdown(UINT_MAX));
    int expected = tpool_cpu_count() > 4 ? tpool_cpu_count() : 4;
    tpool *pools[] = { tpool_high_level(), tpool_low_level() };
    for (int i = 0; i < 2; i++) {
        tpool_stats stats;
        assert_non_null(pools[i]);
        assert_status(TPOOL_OK, tpool_get_stats(pools[i], &stats));
        assert_int_equal(expected, stats.max_workers);
        assert_status(TPOOL_INVALID_STATE, tpool_destroy(pools[i]));
        assert_status(TPOOL_OK, tpool_run_with_timeout(pools[i], &(tpool_task){ .fn = nothing }, LIMIT, NULL));
    }
    assert_status(TPOOL_INVALID_STATE, tpool_dual_configure(&good, NULL));
    assert_status(TPOOL_INVALID_STATE, tpool_dual_configure(NULL, &good));
}

static void sizing_knows_no_unknown_work(void **state) {
    (void)state;
    static const int unknown[] = { -1, 3, 99 };
    for (int i = 0; i < 3; i++) assert_int_equal(tpool_cpu_count(), tpool_workers_for((tpool_work)unknown[i]));
}

static const struct CMUnitTest tests[] = {
    TEST(create_refuses_bad_configurations),
    TEST(create_knows_the_kind_processes),
#if !defined(TPOOL_MPI)
    TEST(pools_over_ranks_without_mpi),
#endif
    TEST(calls_on_no_pool_are_invalid),
    TEST(pool_calls_refuse_bad_numbers_and_change_nothing),
    TEST(submits_refuse_bad_arguments_and_take_nothing),
    TEST(submit_many_refuses_bad_arguments),
    TEST(submit_many_stops_at_the_first_bad_task),
    TEST(what_may_be_null_or_zero_is_taken),
    TEST(task_functions_do_nothing_outside_a_task),
    TEST(calls_on_no_future_are_harmless),
    TEST(future_calls_refuse_missing_pointers),
    TEST(a_future_is_completed_only_once),
    TEST(a_pools_own_future_cannot_be_completed_from_outside),
    TEST(wait_refuses_missing_futures_and_unknown_conditions),
    TEST(completions_refuse_missing_pointers),
    TEST(map_refuses_bad_specifications),
    TEST(calls_on_no_map_are_harmless),
    TEST(map_error_refuses_what_it_cannot_tell),
    TEST(for_refuses_bad_arguments),
    TEST(fork_and_join_of_nothing_do_nothing),
    TEST(dual_calls_refuse_bad_arguments),
    TEST(sizing_knows_no_unknown_work),
};
RUN_TESTS(tests)
