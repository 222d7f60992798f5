/* A thread that is to be cancelled calls in, and leaves as it came: no call is a cancellation point, none leaves a lock
   held, and the thread ends where the program lets it. */
#include "support.h"

static void *add_one(void *arg) { return tpool_return(&(int){ *(int *)arg + 1 }, sizeof(int)); }
static void *sleep_a_little(void *arg) {
    sleep_ms(5);
    return arg;
}
static tpool_status use_pool(tpool *pool, void *context) {
    (void)context;
    return end_of(submitted(pool, nothing, NULL));
}
static void *make_thing(void *context) { return context; }

static tpool_future *one_more(tpool *pool, int *number) {
    return submitted_task(pool, (tpool_task){ .fn = add_one, .arg = number, .arg_size = sizeof *number });
}
/* Every way to wait, such that the thread sleeps there. */
static void wait_in_every_way(tpool *pool, tpool_fn slow) {
    int items[8] = { 0 };
    size_t done = 0;
    void *result;
    atomic_int ended = 0;
    tpool_completions *completions;
    tpool_map_iter *iter;
    REQUIRE_STATUS(TPOOL_OK, end_of(one_more(pool, items)));
    tpool_future *futures[2] = { submitted(pool, slow, NULL), submitted(pool, slow, NULL) };
    REQUIRE_STATUS(TPOOL_OK, tpool_future_add_done_callback(futures[0], count_callback, &ended));
    REQUIRE_STATUS(TPOOL_OK, tpool_wait(futures, 2, TPOOL_FIRST_COMPLETED, LIMIT, &done));
    REQUIRE_STATUS(TPOOL_OK, tpool_wait(futures, 2, TPOOL_ALL_COMPLETED, LIMIT, &done));
    tpool_future_release(futures[0]);
    tpool_future_release(futures[1]);
    for (int i = 0; i < 2; i++) futures[i] = submitted(pool, slow, NULL);
    REQUIRE_STATUS(TPOOL_OK, tpool_as_completed(futures, 2, &completions));
    for (int i = 0; i < 2; i++) {
        tpool_future *future;
        REQUIRE_STATUS(TPOOL_OK, tpool_completions_next(completions, LIMIT, &future));
    }
    tpool_completions_destroy(completions);
    for (int i = 0; i < 2; i++) tpool_future_release(futures[i]);
    tpool_map_spec spec = {
        .fn = same_item, .items = items, .count = 8, .stride = sizeof *items, .item_size = sizeof *items
    };
    REQUIRE_STATUS(TPOOL_OK, tpool_map(pool, &spec, &iter));
    for (int i = 0; i < 8; i++) REQUIRE_STATUS(TPOOL_OK, tpool_map_next(iter, LIMIT, &result));
    tpool_map_close(iter);
    tpool_future *late = submitted(pool, slow, NULL);
    tpool_status status = tpool_future_result(late, TPOOL_MS(1), NULL);
    REQUIRE(status == TPOOL_TIMEOUT || status == TPOOL_OK); /* on a busy machine the task is faster than the limit */
    tpool_future_request_stop(late);
    (void)tpool_future_cancel(late);
    tpool_future_release(late);
    tpool_task task = { .fn = slow };
    REQUIRE_STATUS(TPOOL_OK, tpool_run_with_timeout(pool, &task, LIMIT, NULL));
    REQUIRE_STATUS(TPOOL_OK, tpool_drain(pool, LIMIT));
    REQUIRE(stats_of(pool).queued == 0);
    REQUIRE(atomic_load(&ended) == 1);
}

static void use_a_pool(tpool_config config) {
    atomic_int counted = 0;
    config.max_workers = 2;
    config.queue_capacity = 1;
    tpool *pool = new_pool_as(config);
    REQUIRE_STATUS(TPOOL_OK, tpool_warm_up(pool, 2));
    wait_in_every_way(pool, sleep_a_little);
    for (int i = 0; i < 5; i++) REQUIRE_STATUS(TPOOL_OK, tpool_submit(pool, sleep_a_little, NULL, NULL)); /* blocks */
    REQUIRE_STATUS(TPOOL_OK, tpool_pause(pool));
    REQUIRE_STATUS(TPOOL_OK, tpool_resume(pool));
    REQUIRE_STATUS(TPOOL_OK, tpool_resize(pool, 1));
    if (config.kind == TPOOL_PROCESSES) {
        tpool_task task = { .fn = sleep_a_little };
        REQUIRE_STATUS(TPOOL_TIMEOUT, tpool_run_with_timeout(pool, &task, TPOOL_MS(1), NULL));
        REQUIRE_STATUS(TPOOL_OK, tpool_kill_workers(pool));
    } else {
        REQUIRE_STATUS(TPOOL_OK, tpool_for(pool, 0, 100, 1, count_range, &counted));
        REQUIRE(atomic_load(&counted) == 100);
    }
    REQUIRE_STATUS(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT | TPOOL_CANCEL_PENDING | TPOOL_STOP_RUNNING));
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
}
static void use_the_rest(void) {
    tpool_manager *manager;
    tpool_manager_stats stats;
    tpool_resources *resources;
    void *resource;
    int thing = 0;
    REQUIRE(tpool_cpu_count() > 0);
    REQUIRE_STATUS(TPOOL_OK, end_of(submitted(tpool_high_level(), sleep_a_little, NULL)));
    REQUIRE_STATUS(TPOOL_OK, end_of(submitted(tpool_low_level(), sleep_a_little, NULL)));
    REQUIRE_STATUS(TPOOL_OK, tpool_with_pool(NULL, 1, TPOOL_THREADS, use_pool, NULL));
    REQUIRE_STATUS(TPOOL_OK, tpool_manager_create(&manager, NULL));
    REQUIRE_STATUS(TPOOL_OK, tpool_with_pool(manager, 1, TPOOL_PROCESSES, use_pool, NULL));
    REQUIRE_STATUS(TPOOL_OK, tpool_manager_get_stats(manager, &stats));
    REQUIRE_STATUS(TPOOL_OK, tpool_manager_clear(manager));
    tpool_manager_destroy(manager);
    REQUIRE_STATUS(TPOOL_OK, tpool_resources_create(&resources, 1, make_thing, NULL, &thing));
    REQUIRE_STATUS(TPOOL_OK, tpool_resources_get(resources, LIMIT, &resource));
    REQUIRE_STATUS(TPOOL_TIMEOUT, tpool_resources_get(resources, TPOOL_MS(1), &resource));
    REQUIRE_STATUS(TPOOL_OK, tpool_resources_put(resources, &thing));
    REQUIRE_STATUS(TPOOL_OK, tpool_resources_destroy(resources));
    REQUIRE_STATUS(TPOOL_OK, tpool_manager_global_shutdown());
}

/* What looks at descriptors, and what shares memory with processes. */
static void use_descriptors(void) {
    tpool_completions *completions;
    tpool_future *future;
    intptr_t descriptor;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    REQUIRE_STATUS(TPOOL_OK, tpool_as_completed(NULL, 0, &completions));
    REQUIRE_STATUS(TPOOL_OK, tpool_completions_descriptor(completions, &descriptor));
    for (int i = 0; i < 2; i++) {
        tpool_task task = { .fn = sleep_a_little, .completions = completions };
        REQUIRE_STATUS(TPOOL_END, tpool_completions_next(completions, 0, &future));
        REQUIRE_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
        REQUIRE_STATUS(TPOOL_OK, tpool_completions_next(completions, LIMIT, &future));
    }
    /* the thread itself completes one, and so writes to the descriptor */
    REQUIRE_STATUS(TPOOL_END, tpool_completions_next(completions, 0, &future));
    REQUIRE_STATUS(TPOOL_OK, tpool_future_create(&future));
    REQUIRE_STATUS(TPOOL_OK, tpool_completions_add(completions, future));
    REQUIRE_STATUS(TPOOL_OK, tpool_future_set_result(future, NULL));
    tpool_future_release(future);
    tpool_completions_destroy(completions);
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
}
static void use_shared_memory(void) {
    int item = 1;
    tpool_channel *channel;
    tpool *pool = new_pool_as((tpool_config){ .kind = TPOOL_PROCESSES, .max_workers = 1, .shared_size = 1 << 20 });
    tpool_shared_mutex *mutex = tpool_shared_alloc(pool, sizeof *mutex);
    REQUIRE(mutex != NULL);
    REQUIRE_STATUS(TPOOL_OK, tpool_shared_lock(mutex, LIMIT));
    REQUIRE_STATUS(TPOOL_OK, tpool_shared_unlock(mutex));
    tpool_shared_free(pool, mutex);
    tpool_channel_config config = { .capacity = 1, .item_size = sizeof item, .shared_with = pool };
    REQUIRE_STATUS(TPOOL_OK, tpool_channel_create(&channel, &config));
    REQUIRE_STATUS(TPOOL_OK, tpool_channel_send(channel, &item, LIMIT));
    REQUIRE_STATUS(TPOOL_TIMEOUT, tpool_channel_send(channel, &item, TPOOL_MS(1)));
    REQUIRE_STATUS(TPOOL_OK, tpool_channel_receive(channel, &item, LIMIT));
    REQUIRE_STATUS(TPOOL_TIMEOUT, tpool_channel_receive(channel, &item, TPOOL_MS(1)));
    REQUIRE_STATUS(TPOOL_OK, tpool_channel_destroy(channel));
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
}

static atomic_bool came_through;
static void *be_cancelled(void *use) {
    atomic_store(&came_through, false);
    pthread_cancel(pthread_self());
    (*(void (**)(void))use)();
    atomic_store(&came_through, true);
    pthread_testcancel();
    return NULL;
}
/* What it does, it does to the end; then the thread ends, and others go on. */
static void cancelled(void (*use)(void)) {
    /* A cancellation point in ThreadSanitizer itself ends the thread while it holds that tool's lock, for ever. */
    if (UNDER_TSAN) skip();
    pthread_t thread;
    void *result = NULL;
    assert_int_equal(0, pthread_create(&thread, NULL, be_cancelled, &use));
    assert_int_equal(0, pthread_join(thread, &result));
    assert_true(atomic_load(&came_through));
    assert_true(result == PTHREAD_CANCELED);
    use();
}

/* The sleeps are the program's: where it sleeps it may be cancelled, so a thread that is to be does not. */
static void use_threads(void) { use_a_pool((tpool_config){ 0 }); }
static void use_threads_with_stacks(void) {
    use_a_pool((tpool_config){ .stack_size = 1 << 20, .max_tasks_per_worker = 2 });
}
static void use_processes(void) { use_a_pool((tpool_config){ .kind = TPOOL_PROCESSES }); }

static void in_calls_about_pools_of_threads(void **state) {
    (void)state;
    cancelled(use_threads);
}
static void in_calls_about_pools_that_replace_their_threads(void **state) {
    (void)state;
    cancelled(use_threads_with_stacks);
}
static void in_calls_about_pools_of_processes(void **state) {
    (void)state;
    cancelled(use_processes);
}
static void in_calls_about_descriptors(void **state) {
    (void)state;
    cancelled(use_descriptors);
}
static void in_calls_about_shared_memory(void **state) {
    (void)state;
    cancelled(use_shared_memory);
}
static void in_calls_about_pools_of_all(void **state) {
    (void)state;
    cancelled(use_the_rest);
}

/* The program's function that a call runs in the caller's thread runs as that was: there it is cancelled. */
static atomic_bool reached;
static void *test_cancel(void *arg) {
    pthread_testcancel();
    atomic_store(&reached, true);
    return arg;
}
static void *run_in_caller(void *pool) {
    pthread_cancel(pthread_self());
    (void)!tpool_submit((tpool *)pool, test_cancel, NULL, NULL);
    atomic_store(&reached, true);
    return NULL;
}
static void what_the_caller_runs_may_be_cancelled(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    pthread_t thread;
    void *result = NULL;
    tpool *pool =
        new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1, .on_full = TPOOL_FULL_CALLER_RUNS });
    assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &g, NULL));
    AWAIT_ARRIVALS(&g, 1);
    assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
    assert_int_equal(0, pthread_create(&thread, NULL, run_in_caller, pool));
    assert_int_equal(0, pthread_join(thread, &result));
    assert_true(result == PTHREAD_CANCELED);
    assert_false(atomic_load(&reached));
    gate_open(&g);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* A task that cancels its own thread, and returns without having met a cancellation point, has done what it should; the
   thread ends before the next one, whose cancellation points are another's. */
static void *cancel_own_thread(void *arg) {
    pthread_cancel(pthread_self());
    return arg;
}
static void cancel_in_callback(tpool_future *future, void *context) {
    (void)future;
    (void)cancel_own_thread(context);
}
static void cancel_in_arg_free(void *arg) { (void)cancel_own_thread(arg); }
static atomic_int finalized;
static void count_finalizer(void *context) {
    (void)context;
    atomic_fetch_add(&finalized, 1);
}
static void a_task_that_cancels_its_thread_and_returns_harms_no_other(void **state) {
    (void)state;
    enum { PAIRS = 20, KINDS = 4 };
    static int argument;
    tpool_future *cancelling[PAIRS], *innocent[PAIRS];
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .finalizer = count_finalizer });
    assert_status(TPOOL_OK, tpool_pause(pool));
    for (int i = 0; i < PAIRS; i++) {
        tpool_task task = { .fn = i % KINDS < 2 ? cancel_own_thread : nothing };
        if (i % KINDS == 2) task.arg_free = cancel_in_arg_free;
        if (i % KINDS == 1) assert_status(TPOOL_OK, tpool_submit(pool, task.fn, NULL, NULL));
        cancelling[i] = submitted_task(pool, task);
        if (i % KINDS == 3)
            assert_status(TPOOL_OK, tpool_future_add_done_callback(cancelling[i], cancel_in_callback, NULL));
        innocent[i] = submitted(pool, test_cancel, &argument);
    }
    assert_status(TPOOL_OK, tpool_resume(pool));
    for (int i = 0; i < PAIRS; i++) {
        assert_status(TPOOL_OK, end_of(innocent[i]));
        assert_status(TPOOL_OK, end_of(cancelling[i]));
    }
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(0, stats_of(pool).failed);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(1 + PAIRS + PAIRS / KINDS, atomic_load(&finalized));
}
/* The items of a chunk run one after the other on one thread. */
static void *cancel_if_even(void *item, void *context) {
    const char *items = context;
    if (((char *)item - items) % 2 == 0) pthread_cancel(pthread_self());
    else pthread_testcancel();
    return item;
}
static void an_item_that_cancels_its_thread_and_returns_harms_no_other(void **state) {
    (void)state;
    enum { ITEMS = 20 };
    static char items[ITEMS];
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    tpool_map_iter *iter = NULL;
    tpool_map_spec spec = {
        .fn = cancel_if_even, .context = items, .items = items, .count = ITEMS, .stride = 1, .chunk_size = ITEMS
    };
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    for (int i = 0; i < ITEMS; i++) {
        void *value = NULL;
        assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, &value));
        assert_ptr_equal(&items[i], value);
    }
    tpool_map_close(iter);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static bool cancel_in_initializer(void *context) {
    (void)cancel_own_thread(context);
    return true;
}
static void an_initializer_that_cancels_its_thread_has_failed(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .initializer = cancel_in_initializer });
    assert_status(TPOOL_BROKEN, end_of(submitted(pool, nothing, NULL)));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* An observer is the program's function, too: a thread that is cancelled in it ends there. A task is then as if its own
   function had ended the thread, or as it has ended already, and its end is told once; no other task is harmed. */
static _Atomic unsigned cancels_in; /* the kind of event in which it asks for the thread's end, once */
static atomic_int told[9];          /* by kind */
static atomic_int last_end;
static void observe_and_cancel(const tpool_event *event, void *context) {
    unsigned kind = (unsigned)event->kind;
    (void)context;
    if (kind <= TPOOL_EVENT_ENDED) atomic_fetch_add(&told[kind], 1);
    if (kind == TPOOL_EVENT_ENDED) atomic_store(&last_end, (int)event->status);
    if (!atomic_compare_exchange_strong(&cancels_in, &kind, 0)) return;
    pthread_cancel(pthread_self());
    pthread_testcancel();
}
static tpool *observed_pool(unsigned kind) {
    for (int i = 0; i < 9; i++) atomic_store(&told[i], 0);
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .observer = observe_and_cancel, .observed = 255 });
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    atomic_store(&cancels_in, kind);
    return pool;
}
static void end_observed(tpool *pool, int tasks, int runs) {
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    tpool_stats stats = stats_of(pool);
    assert_true(stats.queued == 0 && stats.submitted == stats.completed + stats.failed + stats.cancelled);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(0, atomic_load(&cancels_in));
    assert_int_equal(tasks + 2, atomic_load(&told[TPOOL_EVENT_SUBMITTED]));
    assert_int_equal(runs + 2, atomic_load(&told[TPOOL_EVENT_STARTED]));
    assert_int_equal(tasks + 2, atomic_load(&told[TPOOL_EVENT_ENDED]));
}
static atomic_int freed_args;
static void count_freed(void *arg) {
    (void)arg;
    atomic_fetch_add(&freed_args, 1);
}
static void *submits_to(void *pool) {
    (void)!tpool_submit((tpool *)pool, nothing, NULL, NULL);
    atomic_store(&reached, true);
    return NULL;
}
static void an_observer_may_be_cancelled_in_a_submit(void **state) {
    (void)state;
    for (int in_task = 0; in_task < 2; in_task++) {
        tpool *pool = observed_pool(0);
        pthread_t thread;
        void *result = NULL;
        atomic_store(&reached, false);
        if (in_task) {
            tpool *other = new_pool(1);
            atomic_store(&cancels_in, TPOOL_EVENT_SUBMITTED);
            assert_status(TPOOL_BROKEN, end_of(submitted(other, submits_to, pool)));
            assert_status(TPOOL_OK, tpool_destroy(other));
        } else {
            atomic_store(&cancels_in, TPOOL_EVENT_SUBMITTED);
            assert_int_equal(0, pthread_create(&thread, NULL, submits_to, pool));
            assert_int_equal(0, pthread_join(thread, &result));
            assert_true(result == PTHREAD_CANCELED);
        }
        assert_false(atomic_load(&reached));
        assert_int_equal(TPOOL_BROKEN, atomic_load(&last_end));
        assert_int_equal(1, stats_of(pool).submitted);
        end_observed(pool, 1, 0);
    }
}
static void an_observer_may_be_cancelled_at_a_start(void **state) {
    (void)state;
    tpool *pool = observed_pool(TPOOL_EVENT_STARTED);
    atomic_store(&reached, false);
    atomic_store(&freed_args, 0);
    assert_status(TPOOL_BROKEN,
                  end_of(submitted_task(pool, (tpool_task){ .fn = test_cancel, .arg_free = count_freed })));
    assert_int_equal(1, atomic_load(&freed_args));
    atomic_store(&cancels_in, TPOOL_EVENT_STARTED);
    assert_status(TPOOL_BROKEN, end_of(submitted(pool, test_cancel, NULL)));
    assert_false(atomic_load(&reached));
    end_observed(pool, 2, 2);
}
static void *raises(void *arg) { return tpool_raise((int)(intptr_t)arg, "on purpose"); }
static void an_observer_may_be_cancelled_at_an_end(void **state) {
    (void)state;
    tpool *pool = observed_pool(TPOOL_EVENT_ENDED);
    static int number = 41;
    void *result = NULL;
    tpool_future *future = one_more(pool, &number);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
    assert_int_equal(42, *(int *)result);
    tpool_future_release(future);
    atomic_store(&cancels_in, TPOOL_EVENT_ENDED);
    assert_status(TPOOL_FAILED, end_of(submitted(pool, raises, (void *)7)));
    atomic_store(&cancels_in, TPOOL_EVENT_ENDED);
    atomic_store(&freed_args, 0);
    assert_status(TPOOL_OK, end_of(submitted_task(pool, (tpool_task){ .fn = nothing, .arg_free = count_freed })));
    assert_int_equal(1, atomic_load(&freed_args));
    end_observed(pool, 3, 3);
}
static void count_failures(const tpool_error *error, void *context) {
    (void)error;
    atomic_fetch_add((atomic_int *)context, 1);
}
static void an_observer_may_be_cancelled_at_the_end_of_a_plain_task(void **state) {
    (void)state;
    atomic_int failures = 0;
    atomic_store(&cancels_in, 0);
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1,
                                              .observer = observe_and_cancel,
                                              .observed = TPOOL_EVENT_ENDED,
                                              .on_failure = count_failures,
                                              .context = &failures });
    for (int i = 0; i < 4; i++) {
        atomic_store(&cancels_in, TPOOL_EVENT_ENDED);
        assert_status(TPOOL_OK, tpool_submit(pool, i % 2 ? nothing : raises, (void *)7, NULL));
        assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    }
    assert_int_equal(2, stats_of(pool).failed);
    assert_int_equal(2, stats_of(pool).completed);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(2, atomic_load(&failures));
}
/* A map, whose chunks are the library's own tasks: a submit of one ends no thread; a start breaks its items. */
static void *takes_a_map(void *pool) {
    static char items[6];
    tpool_map_spec spec = {
        .fn = same_item, .items = items, .count = 6, .stride = 1, .item_size = 1, .chunk_size = 2, .buffer_size = 2
    };
    tpool_map_iter *iter = NULL;
    int good = 0, broken = 0;
    void *value;
    REQUIRE_STATUS(TPOOL_OK, tpool_map((tpool *)pool, &spec, &iter));
    for (tpool_status status; (status = tpool_map_next(iter, LIMIT, &value)) != TPOOL_END;) {
        REQUIRE(status == TPOOL_OK || status == TPOOL_BROKEN);
        good += status == TPOOL_OK;
        broken += status == TPOOL_BROKEN;
    }
    tpool_map_close(iter);
    return (void *)(intptr_t)(good * 10 + broken);
}
static void an_observer_may_be_cancelled_in_a_map(void **state) {
    (void)state;
    static const unsigned kinds[] = { TPOOL_EVENT_SUBMITTED, TPOOL_EVENT_STARTED, TPOOL_EVENT_ENDED };
    for (int i = 0; i < 3; i++) {
        pthread_t thread;
        void *result = NULL;
        tpool *pool = observed_pool(kinds[i]);
        assert_int_equal(0, pthread_create(&thread, NULL, takes_a_map, pool));
        assert_int_equal(0, pthread_join(thread, &result));
        if (kinds[i] != TPOOL_EVENT_STARTED) assert_int_equal(60, (intptr_t)result);
        else assert_true((intptr_t)result % 10 > 0);
        assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
        assert_status(TPOOL_OK, tpool_destroy(pool));
        assert_int_equal(atomic_load(&told[TPOOL_EVENT_SUBMITTED]), atomic_load(&told[TPOOL_EVENT_ENDED]));
    }
}

int main(void) {
    alarm(2 * LIMIT_SECONDS);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_calls_about_pools_of_threads),
        cmocka_unit_test(in_calls_about_pools_that_replace_their_threads),
        cmocka_unit_test(in_calls_about_pools_of_processes),
        cmocka_unit_test(in_calls_about_descriptors),
        cmocka_unit_test(in_calls_about_shared_memory),
        cmocka_unit_test(in_calls_about_pools_of_all),
        cmocka_unit_test(what_the_caller_runs_may_be_cancelled),
        cmocka_unit_test(a_task_that_cancels_its_thread_and_returns_harms_no_other),
        cmocka_unit_test(an_item_that_cancels_its_thread_and_returns_harms_no_other),
        cmocka_unit_test(an_initializer_that_cancels_its_thread_has_failed),
        cmocka_unit_test(an_observer_may_be_cancelled_in_a_submit),
        cmocka_unit_test(an_observer_may_be_cancelled_at_a_start),
        cmocka_unit_test(an_observer_may_be_cancelled_at_an_end),
        cmocka_unit_test(an_observer_may_be_cancelled_at_the_end_of_a_plain_task),
        cmocka_unit_test(an_observer_may_be_cancelled_in_a_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
