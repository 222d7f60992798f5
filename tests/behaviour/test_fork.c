/* fork() in a program that has pools: what the child may do with them, and that it never hangs. The child reports by
   its exit code and says on stderr what was wrong; it is killed if it hangs. Under ThreadSanitizer the parts of a child
   that need threads of its own are left out, by CHILD_MAY_START_THREADS (support/tools.h); the rest runs. */
#include "support/children.h"

static atomic_int runs, freed, callbacks_run;
static void *count_one_run(void *arg) {
    atomic_fetch_add(&runs, 1);
    return arg;
}
static void count_one_free(void *arg) {
    (void)arg;
    atomic_fetch_add(&freed, 1);
}
static void count_one_callback(tpool_future *future, void *context) {
    (void)future;
    (void)context;
    atomic_fetch_add(&callbacks_run, 1);
}
static void *raise_nine(void *arg) {
    (void)arg;
    return tpool_raise(9, "nine");
}
static void *return_text(void *arg) {
    (void)arg;
    return tpool_return("text", 5);
}

/* --- the parent's pools in the child */

static void count_body(size_t begin, size_t end, void *context) {
    (void)context;
    atomic_fetch_add(&runs, (int)(end - begin));
}
static void *count_item(void *item, void *context) {
    (void)context;
    return count_one_run(item);
}

/* Each call on its own, each at once. */
static void calls_give_broken(void *context) {
    tpool *pool = context;
    tpool_task task = { .fn = count_one_run, .arg = &runs, .arg_free = count_one_free };
    tpool_task tasks[2] = { task, task };
    tpool_future *future, *futures[2];
    int runs_before = atomic_load(&runs);

    for (int again = 0; again < 2; again++) {
        future = (tpool_future *)&task;
        CHECK_STATUS(TPOOL_BROKEN, tpool_submit(pool, count_one_run, NULL, &future));
        CHECK(!future);
        CHECK_STATUS(TPOOL_BROKEN, tpool_submit(pool, count_one_run, NULL, NULL));
        future = (tpool_future *)&task;
        CHECK_STATUS(TPOOL_BROKEN, tpool_submit_task(pool, &task, &future));
        CHECK(!future);
        future = (tpool_future *)&task;
        CHECK_STATUS(TPOOL_BROKEN, tpool_submit_copy(pool, count_one_run, "bytes", 5, &future));
        CHECK(!future);
        size_t taken = 9;
        futures[0] = futures[1] = (tpool_future *)&task;
        CHECK_STATUS(TPOOL_BROKEN, tpool_submit_many(pool, tasks, 2, futures, &taken));
        CHECK(taken == 0 && !futures[0] && !futures[1]);
        future = (tpool_future *)&task;
        CHECK_STATUS(TPOOL_BROKEN, tpool_run_with_timeout(pool, &task, TPOOL_FOREVER, &future));
        CHECK(!future);
        CHECK_STATUS(TPOOL_BROKEN, tpool_drain(pool, 0));
        CHECK_STATUS(TPOOL_BROKEN, tpool_drain(pool, TPOOL_FOREVER));
        CHECK_STATUS(TPOOL_BROKEN, tpool_warm_up(pool, 2));
        CHECK_STATUS(TPOOL_BROKEN, tpool_resize(pool, 2));
        CHECK_STATUS(TPOOL_BROKEN, tpool_pause(pool));
        CHECK_STATUS(TPOOL_BROKEN, tpool_resume(pool));
        tpool_stats stats;
        CHECK_STATUS(TPOOL_BROKEN, tpool_get_stats(pool, &stats));
        CHECK_STATUS(TPOOL_BROKEN, tpool_for(pool, 0, 10, 1, count_body, NULL));
        int items[2] = { 1, 2 };
        tpool_map_spec spec = { .fn = count_item, .items = items, .count = 2, .stride = sizeof items[0] };
        tpool_map_iter *iter = (tpool_map_iter *)&spec;
        CHECK_STATUS(TPOOL_BROKEN, tpool_map(pool, &spec, &iter));
        CHECK(!iter);
        CHECK_STATUS(TPOOL_BROKEN, tpool_shutdown(pool, 0));
        CHECK_STATUS(TPOOL_BROKEN, tpool_shutdown(pool, TPOOL_CANCEL_PENDING | TPOOL_STOP_RUNNING));
        CHECK_STATUS(TPOOL_BROKEN, tpool_shutdown(pool, TPOOL_WAIT));
        /* It frees nothing: the second round still finds the pool, and the sanitizers would tell. */
        CHECK_STATUS(TPOOL_BROKEN, tpool_destroy(pool));
    }
    CHECK(atomic_load(&runs) == runs_before);
    CHECK(atomic_load(&freed) == 0);
}

static void the_childs_calls_on_the_parents_pools_give_broken(void **state) {
    (void)state;
    atomic_store(&freed, 0);
    static gate hold = GATE_CLOSED;
    tpool *fresh = new_pool_as((tpool_config){ .max_workers = 2 });
    tpool *idle = new_pool_as((tpool_config){ .max_workers = 2 });
    assert_status(TPOOL_OK, tpool_warm_up(idle, 2));
    assert_status(TPOOL_OK, end_of(submitted(idle, nothing, NULL)));
    tpool *paused = new_pool_as((tpool_config){ .max_workers = 2 });
    assert_status(TPOOL_OK, tpool_pause(paused));
    assert_status(TPOOL_OK, tpool_submit(paused, nothing, NULL, NULL));
    tpool *full[4]; /* of each policy; the blocking one would be the worst to hang on */
    for (int i = 0; i < 4; i++) {
        full[i] = new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1, .on_full = (tpool_full_policy)i });
        assert_status(TPOOL_OK, tpool_submit(full[i], gate_task, &hold, NULL));
        AWAIT_ARRIVALS(&hold, i + 1);
        assert_status(TPOOL_OK, tpool_submit(full[i], nothing, NULL, NULL));
    }
    tpool *all[] = { fresh, idle, paused, full[0], full[1], full[2], full[3] };
    for (size_t i = 0; i < 7; i++) in_child(calls_give_broken, all[i]);

    /* The parent's pools have noticed nothing. */
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_resume(paused));
    for (size_t i = 0; i < 7; i++) {
        assert_status(TPOOL_OK, tpool_drain(all[i], LIMIT)); /* one that was full takes a task again */
        assert_status(TPOOL_OK, end_of(submitted(all[i], nothing, NULL)));
        assert_status(TPOOL_OK, tpool_drain(all[i], LIMIT));
        assert_status(TPOOL_OK, tpool_destroy(all[i]));
    }
}

/* --- the parent's futures in the child */

typedef struct inherited {
    tpool_future *text, *failed, *cancelled, *expired; /* done */
    tpool_future *running, *pending, *bare;            /* and not */
    tpool_completions *completions;
    tpool_resources *resources;
} inherited;

static void done_futures_can_be_read_and_released(void *context) {
    inherited *f = context;
    void *result = NULL;
    const tpool_error *error = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_future_result(f->text, TPOOL_FOREVER, &result));
    CHECK(result && strcmp(result, "text") == 0);
    CHECK(tpool_future_result_size(f->text) == 5);
    CHECK(tpool_future_done(f->text) && tpool_future_state(f->text) == TPOOL_FINISHED);
    CHECK_STATUS(TPOOL_OK, tpool_future_error(f->text, TPOOL_FOREVER, &error));
    CHECK(!error);
    CHECK_STATUS(TPOOL_FAILED, tpool_future_result(f->failed, LIMIT, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_future_error(f->failed, 0, &error));
    CHECK(error && error->code == 9 && strcmp(error->message, "nine") == 0);
    CHECK(strcmp(tpool_future_message(f->failed), "nine") == 0);
    CHECK_STATUS(TPOOL_CANCELLED, tpool_future_result(f->cancelled, TPOOL_FOREVER, NULL));
    CHECK(tpool_future_cancelled(f->cancelled) && tpool_future_cancel(f->cancelled));
    CHECK_STATUS(TPOOL_EXPIRED, tpool_future_result(f->expired, TPOOL_FOREVER, NULL));
    CHECK(!tpool_future_cancel(f->text));
    tpool_future *all[] = { f->text, f->failed, f->cancelled, f->expired };
    size_t done = 0;
    CHECK_STATUS(TPOOL_OK, tpool_wait(all, 4, TPOOL_ALL_COMPLETED, TPOOL_FOREVER, &done));
    CHECK(done == 4);
    CHECK(tpool_future_retain(f->text) == f->text);
    tpool_future_release(f->text);
    for (int i = 0; i < 4; i++) tpool_future_release(all[i]);
}

static void unfinished_futures_give_broken(void *context) {
    inherited *f = context;
    tpool_future *unfinished[] = { f->running, f->pending };
    for (int i = 0; i < 2; i++) {
        tpool_future *future = unfinished[i];
        void *result = &f;
        const tpool_error *error = (const tpool_error *)&f;
        CHECK_STATUS(TPOOL_BROKEN, tpool_future_result(future, TPOOL_FOREVER, &result));
        CHECK(!result);
        CHECK_STATUS(TPOOL_BROKEN, tpool_future_result(future, TPOOL_MS(1), NULL));
        CHECK_STATUS(TPOOL_BROKEN, tpool_future_error(future, TPOOL_FOREVER, &error));
        CHECK(!error);
        CHECK_STATUS(TPOOL_BROKEN, tpool_future_error(future, TPOOL_MS(1), &error));
        CHECK(!tpool_future_cancel(future));
        CHECK(!tpool_future_cancelled(future));
        CHECK(!tpool_future_done(future));
        CHECK_STATUS(TPOOL_BROKEN, tpool_future_add_done_callback(future, count_one_callback, NULL));
        CHECK(atomic_load(&callbacks_run) == 0);
        for (int when = TPOOL_ALL_COMPLETED; when <= TPOOL_FIRST_EXCEPTION; when++) {
            tpool_future *array[] = { future };
            CHECK_STATUS(TPOOL_BROKEN, tpool_wait(array, 1, (tpool_return_when)when, TPOOL_FOREVER, NULL));
        }
        tpool_completions *completions = (tpool_completions *)&f;
        CHECK_STATUS(TPOOL_BROKEN, tpool_as_completed(&future, 1, &completions));
        CHECK(!completions);
        tpool_future_request_stop(future); /* asks nobody, harms nobody */
        CHECK(tpool_future_message(future) != NULL);
        CHECK(tpool_future_retain(future) == future);
        tpool_future_release(future);
        tpool_future_release(future);
    }
    tpool_future *yielded = f->pending;
    CHECK_STATUS(TPOOL_BROKEN, tpool_completions_next(f->completions, TPOOL_FOREVER, &yielded));
    CHECK(!yielded);
    CHECK_STATUS(TPOOL_BROKEN, tpool_completions_add(f->completions, f->text));
    CHECK(tpool_completions_remaining(f->completions) == 0);
    tpool_completions_destroy(f->completions); /* frees nothing of the parent's */
    CHECK_STATUS(TPOOL_BROKEN, tpool_completions_next(f->completions, 0, &yielded));
}

/* What the child completes there would be the parent's to complete. */
static void the_parents_own_future_gives_broken(void *context) {
    tpool_future *bare = ((inherited *)context)->bare, *mine = NULL;
    CHECK_STATUS(TPOOL_BROKEN, tpool_future_set_running(bare));
    CHECK_STATUS(TPOOL_BROKEN, tpool_future_set_result(bare, NULL));
    CHECK_STATUS(TPOOL_BROKEN, tpool_future_set_error(bare, 1, "one"));
    CHECK_STATUS(TPOOL_BROKEN, tpool_future_set_error_text(bare, 1, "one"));
    CHECK_STATUS(TPOOL_BROKEN, tpool_future_set_result_owned(bare, bare, free));
    tpool_future_request_stop(bare);
    CHECK(tpool_future_stop_requested(bare)); /* in the child */
    CHECK(!tpool_future_done(bare));
    tpool_completions *completions = NULL; /* one of the child's own takes none of the parent's that has no end */
    CHECK_STATUS(TPOOL_OK, tpool_as_completed(NULL, 0, &completions));
    CHECK_STATUS(TPOOL_BROKEN, tpool_completions_add(completions, bare));
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&mine));
    CHECK_STATUS(TPOOL_OK, tpool_completions_add(completions, mine));
    CHECK_STATUS(TPOOL_OK, tpool_future_set_error(mine, 1, "one"));
    CHECK_STATUS(TPOOL_OK, tpool_completions_next(completions, LIMIT, &bare));
    CHECK(bare == mine);
    tpool_completions_destroy(completions);
    tpool_future_release(mine);
}

static void the_parents_resources_give_broken(void *context) {
    inherited *f = context;
    void *resource = context;
    CHECK_STATUS(TPOOL_BROKEN, tpool_resources_get(f->resources, TPOOL_FOREVER, &resource));
    CHECK(!resource);
    CHECK_STATUS(TPOOL_BROKEN, tpool_resources_put(f->resources, context));
    CHECK_STATUS(TPOOL_BROKEN, tpool_resources_destroy(f->resources));
}

static void of_the_parents_futures_the_child_can_read_the_done_ones_only(void **state) {
    (void)state;
    static inherited f;
    static gate hold = GATE_CLOSED;
    atomic_store(&callbacks_run, 0);
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    f.text = submitted(pool, return_text, NULL);
    f.failed = submitted(pool, raise_nine, NULL);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    f.running = submitted(pool, gate_task, &hold);
    AWAIT_ARRIVALS(&hold, 1);
    f.cancelled = submitted(pool, nothing, NULL);
    assert_true(tpool_future_cancel(f.cancelled));
    f.expired = submitted_task(pool, (tpool_task){ .fn = nothing, .expires_ns = 1 });
    sleep_ms(1);
    assert_true(tpool_future_done(f.expired));
    f.pending = submitted(pool, nothing, NULL);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(f.pending, count_one_callback, NULL));
    assert_status(TPOOL_OK, tpool_as_completed(&f.pending, 1, &f.completions));
    assert_status(TPOOL_OK, tpool_future_create(&f.bare));
    assert_status(TPOOL_OK, tpool_resources_create(&f.resources, 1, nothing, NULL, &f));

    in_child(done_futures_can_be_read_and_released, &f);
    in_child(unfinished_futures_give_broken, &f);
    in_child(the_parents_own_future_gives_broken, &f);
    in_child(the_parents_resources_give_broken, &f);

    assert_status(TPOOL_OK, tpool_resources_destroy(f.resources));
    assert_status(TPOOL_OK, tpool_future_set_result(f.bare, NULL));
    tpool_future_release(f.bare);

    tpool_completions_destroy(f.completions);
    gate_open(&hold);
    assert_status(TPOOL_OK, end_of(f.running));
    assert_status(TPOOL_OK, end_of(f.pending));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(1, atomic_load(&callbacks_run));
    tpool_future_release(f.text);
    tpool_future_release(f.failed);
    tpool_future_release(f.cancelled);
    tpool_future_release(f.expired);
}

/* --- what is new in the child */

#if CHILD_MAY_START_THREADS
static void live_through_a_pool(void) {
    tpool *pool;
    tpool_future *future;
    atomic_store(&runs, 0);
    CHECK_STATUS(TPOOL_OK, tpool_create(&pool, &(tpool_config){ .max_workers = 2 }));
    for (int i = 0; i < 20; i++) CHECK_STATUS(TPOOL_OK, tpool_submit(pool, count_one_run, NULL, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, return_text, NULL, &future));
    CHECK_STATUS(TPOOL_OK, end_of(future));
    CHECK_STATUS(TPOOL_OK, tpool_drain(pool, LIMIT));
    CHECK(atomic_load(&runs) == 20);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
}
#endif

static void use_new_pools(void *context) {
    (void)context;
    /* A pool with no thread yet, even where threads cannot be started. */
    tpool *pool;
    CHECK_STATUS(TPOOL_OK, tpool_create(&pool, &(tpool_config){ .max_workers = 2 }));
    CHECK_STATUS(TPOOL_OK, tpool_drain(pool, TPOOL_FOREVER));
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    /* A future that no pool runs. */
    tpool_future *future;
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&future));
    CHECK_STATUS(TPOOL_OK, tpool_future_set_result(future, &pool));
    CHECK_STATUS(TPOOL_OK, end_of(future));
#if CHILD_MAY_START_THREADS
    live_through_a_pool();
#endif
}

static void the_child_can_make_pools_of_its_own(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 2 });
    assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
    AWAIT_ARRIVALS(&hold, 1);
    in_child(use_new_pools, NULL);
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void fork_again_with_a_pool_of_its_own(void *context) {
    (void)context;
#if CHILD_MAY_START_THREADS
    static gate hold = GATE_CLOSED;
    tpool *pool;
    CHECK_STATUS(TPOOL_OK, tpool_create(&pool, &(tpool_config){ .max_workers = 2 }));
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
    while (gate_arrived(&hold) < 1) sleep_ms(1);
    pid_t grandchild = fork();
    if (grandchild == 0) {
        child_begin(LIMIT_SECONDS);
        calls_give_broken(pool);
        live_through_a_pool();
        child_ends();
    }
    int ended;
    CHECK(grandchild > 0 && waitpid(grandchild, &ended, 0) == grandchild);
    CHECK(WIFEXITED(ended) && WEXITSTATUS(ended) == 0);
    gate_open(&hold);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
#endif
}

static void a_grandchild_is_to_the_child_as_the_child_is_to_the_parent(void **state) {
    (void)state;
    if (!CHILD_MAY_START_THREADS) skip();
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 2 });
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    in_child(fork_again_with_a_pool_of_its_own, NULL);
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *run_on_low_and_wait(void *arg) {
    (void)arg;
    void *own = tpool_current();
    tpool_status status = tpool_run_with_timeout(NULL, &(tpool_task){ .fn = count_one_run }, LIMIT, NULL);
    return status == TPOOL_OK && own == tpool_high_level() ? own : NULL;
}

static void use_shared_pools(void *context) {
    (void)context;
    atomic_store(&runs, 0);
    tpool *high = tpool_high_level(), *low = tpool_low_level();
    CHECK(high && low && high != low);
    CHECK(tpool_default() == low);
    tpool_stats stats; /* afresh: nothing of what the parent has done and left */
    tpool *both[] = { high, low };
    for (int i = 0; i < 2; i++) {
        CHECK_STATUS(TPOOL_OK, tpool_get_stats(both[i], &stats));
        CHECK(stats.workers == 0 && stats.queued == 0 && stats.submitted == 0);
        CHECK_STATUS(TPOOL_OK, tpool_drain(both[i], LIMIT));
    }
#if CHILD_MAY_START_THREADS
    tpool_future *future;
    void *result = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_submit(high, run_on_low_and_wait, NULL, &future));
    CHECK_STATUS(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
    CHECK(result == high);
    tpool_future_release(future);
    CHECK(atomic_load(&runs) == 1);
    CHECK_STATUS(TPOOL_OK, tpool_dual_shutdown(TPOOL_WAIT));
    CHECK_STATUS(TPOOL_SHUTDOWN, tpool_submit(low, nothing, NULL, NULL));
#else
    (void)run_on_low_and_wait;
    CHECK_STATUS(TPOOL_OK, tpool_dual_shutdown(TPOOL_WAIT));
#endif
}

static void the_shared_pools_start_afresh_in_the_child(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    in_child(use_shared_pools, NULL); /* before the parent has used them */
    tpool *high = tpool_high_level(), *low = tpool_low_level();
    tpool_future *in_high = submitted(high, gate_task, &hold), *in_low = submitted(low, gate_task, &hold);
    AWAIT_ARRIVALS(&hold, 2);
    in_child(use_shared_pools, NULL); /* while they are at work */
    assert_ptr_equal(high, tpool_high_level());
    assert_ptr_equal(low, tpool_low_level());
    gate_open(&hold);
    assert_status(TPOOL_OK, end_of(in_high));
    assert_status(TPOOL_OK, end_of(in_low));
    assert_status(TPOOL_OK, end_of(submitted(high, run_on_low_and_wait, NULL)));
    in_child(use_shared_pools, NULL); /* while they are idle */
}

static void use_shut_down_shared_pools(void *context) {
    (void)context;
    CHECK_STATUS(TPOOL_OK, tpool_drain(tpool_low_level(), LIMIT));
    /* The child's are new: the parent's shutdown does not hold for them. */
    CHECK_STATUS(TPOOL_OK, tpool_pause(tpool_low_level()));
    CHECK_STATUS(TPOOL_OK, tpool_resume(tpool_low_level()));
#if CHILD_MAY_START_THREADS
    CHECK_STATUS(TPOOL_OK, tpool_run_with_timeout(NULL, &(tpool_task){ .fn = nothing }, LIMIT, NULL));
#endif
}

/* The last test: the shared pools are at an end after it. */
static void the_shared_pools_start_afresh_after_a_shutdown_in_the_parent(void **state) {
    (void)state;
    assert_status(TPOOL_OK, tpool_dual_shutdown(TPOOL_WAIT));
    in_child(use_shut_down_shared_pools, NULL);
    assert_status(TPOOL_SHUTDOWN, tpool_submit(tpool_low_level(), nothing, NULL, NULL));
}

/* --- a fork inside a task */

typedef struct forking_task {
    tpool *pool;
    tpool_future *done, *pending;
    int depth;
} forking_task;

static void *add_one(void *arg) { return (char *)arg + 1; }

static void be_no_worker(forking_task *f) {
    CHECK(tpool_current() == NULL);
    CHECK(tpool_current_worker() == -1);
    CHECK(tpool_raise(1, "nobody") == NULL);
    CHECK(tpool_return("x", 1) == NULL);
    CHECK(!tpool_stop_requested());
    CHECK(tpool_arg_size() == 0);
    void *result = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_future_result(f->done, TPOOL_FOREVER, &result));
    CHECK(result == f);
    CHECK_STATUS(TPOOL_BROKEN, tpool_future_result(f->pending, TPOOL_FOREVER, NULL)); /* and not in place */
    CHECK(!tpool_future_cancel(f->pending));
    tpool_job job; /* outside a worker fork defers to join */
    char place[2];
    tpool_fork(&job, add_one, place);
    CHECK(tpool_join(&job) == place + 1);
    calls_give_broken(f->pool); /* BROKEN, not DEADLOCK: it is no longer a task of that pool */
    use_new_pools(NULL);
}

static void *fork_in_task(void *arg) {
    forking_task *f = arg;
    if (f->depth > 0) { /* once more, above a task that waits for it in place */
        f->depth--;
        tpool_future *inner;
        void *child = NULL;
        if (tpool_submit(f->pool, fork_in_task, f, &inner) != TPOOL_OK) return NULL;
        if (tpool_future_result(inner, TPOOL_FOREVER, &child) != TPOOL_OK) child = NULL;
        tpool_future_release(inner);
        return child;
    }
    pid_t child = fork();
    if (child == 0) {
        child_begin(LIMIT_SECONDS);
        be_no_worker(f);
        child_ends();
    }
    return (void *)(intptr_t)child;
}

static void a_thread_forked_inside_a_task_is_no_worker(void **state) {
    (void)state;
    for (int depth = 0; depth < 2; depth++) {
        static forking_task f;
        f.depth = depth;
        f.pool = new_pool_as((tpool_config){ .max_workers = 1 });
        f.done = submitted(f.pool, nothing, &f);
        assert_status(TPOOL_OK, tpool_future_result(f.done, LIMIT, NULL));
        assert_status(TPOOL_OK, tpool_pause(f.pool));
        tpool_future *forker = submitted(f.pool, fork_in_task, &f);
        f.pending = submitted(f.pool, nothing, NULL);
        assert_status(TPOOL_OK, tpool_resume(f.pool));
        void *child = NULL;
        assert_status(TPOOL_OK, tpool_future_result(forker, LIMIT, &child));
        assert_child_succeeds((pid_t)(intptr_t)child);
        tpool_future_release(forker);
        tpool_future_release(f.done);
        assert_status(TPOOL_OK, end_of(f.pending));
        assert_status(TPOOL_OK, tpool_destroy(f.pool));
    }
}

static atomic_int child_of_callback;
static void fork_in_callback(tpool_future *future, void *context) {
    (void)future;
    pid_t child = fork();
    if (child == 0) {
        child_begin(LIMIT_SECONDS);
        CHECK(tpool_current() == NULL);
        CHECK(tpool_current_worker() == -1);
        calls_give_broken(context);
        child_ends();
    }
    atomic_store(&child_of_callback, (int)child);
}

static void a_thread_forked_inside_a_callback_is_no_worker(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    tpool_future *future = submitted(pool, gate_task, &hold);
    AWAIT_ARRIVALS(&hold, 1);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(future, fork_in_callback, pool));
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_child_succeeds((pid_t)atomic_load(&child_of_callback));
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* The submitter of `queued` waits for room. It notices that the task before has expired, places its own, and runs the
   callback of the other: that forks, and the child returns into the submit. */
static bool in_forked_child;
static void fork_and_return(tpool_future *future, void *context) {
    (void)future, (void)context;
    fflush(NULL);
    pid_t child = fork();
    in_forked_child = child == 0;
    if (in_forked_child) child_begin(LIMIT_SECONDS);
    else atomic_store(&child_of_callback, (int)child);
}
static void a_task_that_was_placed_stays_whole_in_the_child(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1 });
    tpool_future *first = held_at(pool, &hold), *expiring = NULL, *queued = NULL;
    int64_t expired_at = tpool_now() + TPOOL_MS(300);
    tpool_task task = { .fn = nothing, .expires_ns = TPOOL_MS(300) };
    assert_status(TPOOL_OK, tpool_submit_task(pool, &task, &expiring));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(expiring, fork_and_return, NULL));
    bool early = tpool_now() < expired_at; /* else the callback may come before the task is placed */
    tpool_status status = tpool_submit(pool, nothing, NULL, &queued);
    if (in_forked_child) {
        CHECK(status == TPOOL_OK || (status == TPOOL_BROKEN && !early));
        CHECK((queued != NULL) == (status == TPOOL_OK));
        if (queued) CHECK_STATUS(TPOOL_BROKEN, tpool_future_result(queued, 0, NULL));
        tpool_future_release(queued);
        use_new_pools(NULL);
        child_ends();
    }
    gate_open(&hold);
    assert_status(TPOOL_OK, status);
    assert_status(TPOOL_OK, end_of(queued));
    assert_status(TPOOL_EXPIRED, end_of(expiring));
    assert_status(TPOOL_OK, end_of(first));
    assert_child_succeeds((pid_t)atomic_load(&child_of_callback));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- a fork in each place where the library calls the program */

/* The child of each ends in two ways: by itself, and by returning to where it was called from, which must end it too,
   since in the child that thread is no worker and has nothing to return to. */
static tpool *forked_pool;
static bool child_returns;
static atomic_int child_of_hook;

#if SLOW_TOOL /* what the parent's other threads had in hand is no leak of such a child's */
static bool leaves_things_behind;
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void) { return leaves_things_behind; }
#endif

/* True in a child that is to return. */
static bool fork_in_hook(void) {
    fflush(NULL);
    pid_t child = fork();
    if (child != 0) {
        atomic_store(&child_of_hook, (int)child);
        return false;
    }
    child_begin(LIMIT_SECONDS);
#if SLOW_TOOL
    leaves_things_behind = true;
#endif
    CHECK(tpool_current() == NULL);
    CHECK(tpool_current_worker() == -1);
    calls_give_broken(forked_pool);
    if (!child_returns) child_ends();
    return true;
}
static void fork_in_arg_free(void *arg) {
    (void)arg;
    (void)fork_in_hook();
}
static void fork_in_result_free(void *result) {
    (void)result;
    (void)fork_in_hook();
}
static void fork_in_on_failure(const tpool_error *error, void *context) {
    (void)error;
    (void)context;
    (void)fork_in_hook();
}
static bool fork_in_initializer(void *context) {
    (void)context;
    return !fork_in_hook();
}
static void *return_owned(void *arg) { return tpool_return_owned(arg, fork_in_result_free); }
static void *raise_something(void *arg) {
    (void)arg;
    return tpool_raise(1, "something");
}

static gate stolen_job;
static void *pass_and_give_arg(void *arg) {
    gate_pass(&stolen_job);
    return arg;
}
static void *fork_beside_stolen_job(void *arg) {
    tpool_job job;
    tpool_fork(&job, pass_and_give_arg, arg);
    AWAIT_THEFT(gate_arrived(&stolen_job) == 1); /* another worker has it, and in the child nobody */
    bool returns = fork_in_hook();
    if (!returns) gate_open(&stolen_job);
    void *result = tpool_join(&job);
    CHECK(result == (returns ? NULL : arg));
    return result;
}
/* Submits the task to a pool with these hooks. The child ends as it should, and so does the parent's
   task, and the pool goes on. */
static void fork_in_a_hook_of(tpool_config config, tpool_task task, bool with_future) {
    for (int way = 0; way < 1 + CHILD_MAY_END_THREADS; way++) {
        child_returns = way == 1;
        stolen_job = (gate)GATE_CLOSED;
        atomic_store(&child_of_hook, 0);
        forked_pool = new_pool_as(config);
        tpool_future *future = NULL;
        assert_status(TPOOL_OK, tpool_submit_task(forked_pool, &task, with_future ? &future : NULL));
        if (with_future) assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
        EVENTUALLY(atomic_load(&child_of_hook) != 0);
        assert_child_succeeds((pid_t)atomic_load(&child_of_hook));
        tpool_future_release(future);
        assert_status(TPOOL_OK, tpool_drain(forked_pool, LIMIT));
        assert_status(TPOOL_OK, end_of(submitted(forked_pool, nothing, NULL)));
        assert_status(TPOOL_OK, tpool_destroy(forked_pool));
    }
}

static void a_fork_in_arg_free_hangs_neither_side(void **state) {
    (void)state;
    tpool_task task = { .fn = nothing, .arg_free = fork_in_arg_free };
    for (int with_future = 0; with_future < 2; with_future++)
        fork_in_a_hook_of((tpool_config){ .max_workers = 1 }, task, with_future);
}
static void a_fork_in_on_failure_hangs_neither_side(void **state) {
    (void)state;
    tpool_config config = { .max_workers = 1, .on_failure = fork_in_on_failure };
    for (int named = 0; named < 2; named++) /* with a future inside, and without */
        fork_in_a_hook_of(config, (tpool_task){ .fn = raise_something, .name = named ? "named" : NULL }, false);
}
static void a_fork_in_result_free_hangs_neither_side(void **state) {
    (void)state;
    for (int named = 0; named < 2; named++)
        fork_in_a_hook_of((tpool_config){ .max_workers = 1 },
                          (tpool_task){ .fn = return_owned, .name = named ? "named" : NULL }, false);
}
static void a_fork_in_an_initializer_hangs_neither_side(void **state) {
    (void)state;
    fork_in_a_hook_of((tpool_config){ .max_workers = 1, .initializer = fork_in_initializer },
                      (tpool_task){ .fn = nothing }, true);
}
static void a_fork_between_fork_and_join_of_a_stolen_job_hangs_neither_side(void **state) {
    (void)state;
    fork_in_a_hook_of((tpool_config){ .max_workers = 2 },
                      (tpool_task){ .fn = fork_beside_stolen_job, .arg = &stolen_job }, true);
}

/* --- a fork at any moment */

typedef struct traffic {
    tpool *pool;
    atomic_bool stop;
    atomic_int refused, ended;
} traffic;
static void *make_traffic(void *arg) {
    traffic *t = arg;
    for (int i = 0; !atomic_load(&t->stop); i++) {
        tpool_future *future;
        if (tpool_submit(t->pool, nothing, NULL, &future) != TPOOL_OK) {
            atomic_fetch_add(&t->refused, 1);
            continue;
        }
        if (i % 3 == 0) (void)tpool_future_cancel(future);
        else if (i % 3 == 1) (void)tpool_future_result(future, LIMIT, NULL);
        tpool_future_release(future);
        tpool_status drained = i % 100 == 0 ? tpool_drain(t->pool, 0) : TPOOL_OK;
        if (drained != TPOOL_OK && drained != TPOOL_TIMEOUT) atomic_fetch_add(&t->refused, 1);
        atomic_fetch_add(&t->ended, 1);
    }
    return NULL;
}

static void use_pool_forked_in_traffic(void *context) {
    calls_give_broken(context);
#if CHILD_MAY_START_THREADS && !SLOW_TOOL /* AddressSanitizer's allocator may be locked for ever in such a child */
    live_through_a_pool();
#endif
}

/* Whatever locks the other threads hold at that moment, the child does not hang on them. */
static void a_fork_amid_traffic_leaves_a_child_that_does_not_hang(void **state) {
    (void)state;
    for (int workers = 1; workers <= 2; workers++) {
        static traffic t;
        pthread_t threads[2];
        atomic_store(&t.stop, false);
        t.pool = new_pool_as((tpool_config){ .max_workers = workers });
        for (int i = 0; i < 2; i++) assert_int_equal(0, pthread_create(&threads[i], NULL, make_traffic, &t));
        for (int i = 0; i < COUNT(40) + 1; i++) {
            int before = atomic_load(&t.ended);
            EVENTUALLY(atomic_load(&t.ended) > before);
            in_child(use_pool_forked_in_traffic, t.pool);
        }
        atomic_store(&t.stop, true);
        for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
        assert_int_equal(0, atomic_load(&t.refused));
        assert_status(TPOOL_OK, tpool_destroy(t.pool));
    }
}

/* A pool whose only worker waits, with a task behind it that ends the wait once a spare has come by time. */
static void *wait_for_bare(void *bare) {
    CHECK_STATUS(TPOOL_OK, tpool_future_result(bare, TPOOL_FOREVER, NULL));
    return NULL;
}
static void *set_bare(void *bare) {
    CHECK_STATUS(TPOOL_OK, tpool_future_set_result(bare, NULL));
    return NULL;
}
static void stall_and_end(void (*meanwhile)(void *), void *context) {
    tpool *pool = NULL;
    tpool_future *bare = NULL, *waits = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_create(&pool, &(tpool_config){ .max_workers = 1, .max_spares = -1 }));
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&bare));
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, wait_for_bare, bare, &waits));
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, set_bare, bare, NULL));
    if (meanwhile) meanwhile(context);
    CHECK_STATUS(TPOOL_OK, end_of(waits));
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    tpool_future_release(bare);
}
static void stall_in_the_child(void *context) {
    (void)context;
#if CHILD_MAY_START_THREADS
    stall_and_end(NULL, NULL);
#endif
}
static void fork_amid_the_stall(void *context) {
    (void)context;
    in_child(stall_in_the_child, NULL);
}
static void a_fork_while_a_pool_is_stalled_hangs_neither_side(void **state) {
    (void)state;
    for (int i = 0; i < 10; i++) stall_and_end(fork_amid_the_stall, NULL);
}

static const struct CMUnitTest tests[] = {
    TEST(the_childs_calls_on_the_parents_pools_give_broken),
    TEST(of_the_parents_futures_the_child_can_read_the_done_ones_only),
    TEST(the_child_can_make_pools_of_its_own),
    TEST(a_grandchild_is_to_the_child_as_the_child_is_to_the_parent),
    TEST(a_thread_forked_inside_a_task_is_no_worker),
    TEST(a_thread_forked_inside_a_callback_is_no_worker),
    TEST(a_task_that_was_placed_stays_whole_in_the_child),
    TEST(a_fork_in_arg_free_hangs_neither_side),
    TEST(a_fork_in_on_failure_hangs_neither_side),
    TEST(a_fork_in_result_free_hangs_neither_side),
    TEST(a_fork_in_an_initializer_hangs_neither_side),
    TEST(a_fork_between_fork_and_join_of_a_stolen_job_hangs_neither_side),
    TEST(a_fork_amid_traffic_leaves_a_child_that_does_not_hang),
    TEST(a_fork_while_a_pool_is_stalled_hangs_neither_side),
    TEST(the_shared_pools_start_afresh_in_the_child),
    TEST(the_shared_pools_start_afresh_after_a_shutdown_in_the_parent),
};
RUN_TESTS(tests)
