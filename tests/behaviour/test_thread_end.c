/* A thread that ends wherever the library calls the program: each object concerned ends with a status, the rest goes
   on, nothing hangs, and nothing is touched on the stack that was left. */
#include "support.h"

enum { WORKERS = 2 };

static void *end_in_task(void *arg) {
    (void)arg;
    end_here();
    return NULL;
}

static tpool *warm_pool_as(tpool_config config) {
    tpool *pool = new_pool_as(config);
    assert_status(TPOOL_OK, tpool_warm_up(pool, config.max_workers));
    return pool;
}
static tpool *warm_pool(int workers) { return warm_pool_as((tpool_config){ .max_workers = workers }); }
/* All went on: tasks run, the counts add up, and the pool ends. */
static void check_and_destroy(tpool *pool) {
    for (int i = 0; i < 8; i++) assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    tpool_stats stats = stats_of(pool);
    assert_int_equal(stats.submitted, stats.completed + stats.failed + stats.cancelled + stats.expired + stats.dropped);
    assert_int_equal(0, stats.active);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Fork and join. */

static gate in_job = GATE_CLOSED;
static atomic_int jobs_run;
static tpool_future *awaited;
static void *pass_gate(void *arg) {
    gate_pass(&in_job);
    atomic_fetch_add(&jobs_run, 1);
    return arg;
}
static void *count_job(void *arg) {
    atomic_fetch_add(&jobs_run, 1);
    return arg;
}
/* Ends its thread, by a task that it awaits in place, beneath a fork whose job another worker runs. */
static void *end_beneath_a_stolen_job(void *pool) {
    tpool_job job;
    tpool_fork(&job, pass_gate, NULL);
    AWAIT_THEFT(gate_arrived(&in_job) == 1);
    awaited = submitted(pool, end_in_task, NULL);
    (void)tpool_future_result(awaited, TPOOL_FOREVER, NULL);
    tpool_join(&job);
    return pool;
}
static void a_stolen_job_outlives_the_stack_that_forked_it(void **state) {
    (void)state;
    /* such stacks the system takes away at once */
    tpool *pool = warm_pool_as((tpool_config){ .max_workers = WORKERS, .stack_size = (size_t)64 << 20 });
    gate_close(&in_job);
    atomic_store(&jobs_run, 0);
    tpool_future *future = submitted(pool, end_beneath_a_stolen_job, pool);
    AWAIT_ARRIVALS(&in_job, 1);
    EVENTUALLY(stats_of(pool).failed >= 1);
    assert_status(TPOOL_BROKEN, end_of(awaited));
    assert_status(TPOOL_TIMEOUT, tpool_future_result(future, TPOOL_MS(20), NULL)); /* the job belongs to the task */
    gate_open(&in_job);
    assert_status(TPOOL_BROKEN, end_of(future));
    assert_int_equal(1, atomic_load(&jobs_run));
    check_and_destroy(pool);
}

/* The jobs that nobody has taken go with the stack. */
static void *end_beneath_public_jobs(void *arg) {
    tpool_job first, second, third;
    tpool_fork(&first, count_job, NULL);
    tpool_fork(&second, count_job, NULL);
    tpool_fork(&third, count_job, NULL);
    end_here();
    tpool_join(&third);
    tpool_join(&second);
    tpool_join(&first);
    return arg;
}
static void a_job_that_nobody_has_taken_is_not_run(void **state) {
    (void)state;
    gate busy = GATE_CLOSED;
    tpool *pool = warm_pool(WORKERS);
    tpool_future *blocker = submitted(pool, gate_task, &busy); /* the only other worker */
    AWAIT_ARRIVALS(&busy, 1);
    atomic_store(&jobs_run, 0);
    assert_status(TPOOL_BROKEN, end_of(submitted(pool, end_beneath_public_jobs, NULL)));
    gate_open(&busy);
    assert_status(TPOOL_OK, end_of(blocker));
    check_and_destroy(pool);
    assert_int_equal(0, atomic_load(&jobs_run));
}

static gate in_first = GATE_CLOSED;
static void *end_after_gate(void *arg) {
    gate_pass(&in_first);
    end_here();
    return arg;
}
static void *join_one_that_ends_its_thread(void *arg) {
    tpool_job ends, good;
    tpool_fork(&ends, end_after_gate, arg);
    AWAIT_THEFT(gate_arrived(&in_first) == 1);
    tpool_fork(&good, count_job, arg);
    gate_open(&in_first);
    assert_ptr_equal(arg, tpool_join(&good));
    assert_null(tpool_join(&ends));
    return arg;
}
static void a_stolen_job_that_ends_its_thread_breaks_the_task_that_joins_it(void **state) {
    (void)state;
    atomic_int finalized = 0;
    tpool *pool =
        warm_pool_as((tpool_config){ .max_workers = WORKERS, .finalizer = count_free, .context = &finalized });
    gate_close(&in_first);
    tpool_future *future =
        submitted_task(pool, (tpool_task){ .fn = join_one_that_ends_its_thread, .arg = &finalized, .name = "joiner" });
    const tpool_error *error = NULL;
    assert_status(TPOOL_BROKEN, tpool_future_result(future, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_future_error(future, 0, &error));
    assert_string_equal("joiner", error->task);
    tpool_future_release(future);
    EVENTUALLY(atomic_load(&finalized) == 1); /* of the thread that ended */
    check_and_destroy(pool);
}

/* A job that has raised before breaks all the same: part of the work was left undone. */
static void *raise_and_end(void *arg) {
    (void)tpool_raise(3, "before");
    return end_after_gate(arg);
}
static void *join_one_that_raises_and_ends(void *arg) {
    tpool_job job;
    tpool_fork(&job, raise_and_end, arg);
    AWAIT_THEFT(gate_arrived(&in_first) == 1);
    gate_open(&in_first);
    return tpool_join(&job);
}
static void a_job_that_raised_and_ended_its_thread_breaks_the_task(void **state) {
    (void)state;
    tpool *pool = warm_pool(WORKERS);
    gate_close(&in_first);
    assert_status(TPOOL_BROKEN, end_of(submitted(pool, join_one_that_raises_and_ends, NULL)));
    check_and_destroy(pool);
}

/* Each waits in place for the next, deeper than any fixed number of contexts. */
enum { DEEP = 100 };
typedef struct level {
    tpool *pool;
    int depth;
    struct level *levels;
    tpool_future **futures;
} level;
static void *descend(void *arg) {
    level *here = arg;
    if (here->depth == DEEP - 1) end_here();
    level *next = &here->levels[here->depth + 1];
    next->futures[next->depth] = submitted(here->pool, descend, next);
    (void)tpool_future_result(next->futures[next->depth], TPOOL_FOREVER, NULL);
    return arg;
}
static void many_tasks_on_one_stack_break_together(void **state) {
    (void)state;
    static level levels[DEEP];
    static tpool_future *futures[DEEP];
    tpool *pool = new_pool(1);
    for (int i = 0; i < DEEP; i++) levels[i] = (level){ pool, i, levels, futures };
    futures[0] = submitted(pool, descend, &levels[0]);
    assert_status(TPOOL_BROKEN, tpool_future_result(futures[0], LIMIT, NULL));
    for (int i = 0; i < DEEP; i++) assert_status(TPOOL_BROKEN, end_of(futures[i]));
    assert_true(stats_of(pool).inlined >= 1);
    check_and_destroy(pool);
}

/* ---- Loops. */

typedef struct loop {
    tpool *pool;
    pthread_t caller;
    bool caller_ends;
    atomic_int ended, done;
    gate both; /* the caller and the helper */
    tpool_status status;
} loop;
static void body(size_t begin, size_t end, void *context) {
    loop *l = context;
    bool is_caller = pthread_equal(pthread_self(), l->caller);
    if (begin == 0) { /* alone */
        compute_for(TPOOL_US(200));
        return;
    }
    gate_pass(&l->both);
    if (is_caller == l->caller_ends && atomic_fetch_add(&l->ended, 1) == 0) end_here();
    atomic_fetch_add(&l->done, (int)(end - begin));
}
static void *run_loop(void *context) {
    loop *l = context;
    l->caller = pthread_self();
    l->status = tpool_for(l->pool, 0, 100, 1, body, l);
    return context;
}
static void play_loop(bool in_task, bool caller_ends) {
    loop l = { .caller_ends = caller_ends, .both = GATE_CLOSED };
    l.pool = warm_pool(WORKERS);
    pthread_t thread;
    tpool_future *future = NULL;
    if (in_task) future = submitted(l.pool, run_loop, &l);
    else assert_int_equal(0, pthread_create(&thread, NULL, run_loop, &l));
    AWAIT_ARRIVALS(&l.both, 2);
    gate_open(&l.both);
    if (in_task) assert_status(TPOOL_BROKEN, end_of(future));
    else assert_int_equal(0, pthread_join(thread, NULL));
    assert_true(atomic_load(&l.ended) > 0);
    assert_status(caller_ends ? TPOOL_OK : TPOOL_BROKEN, l.status); /* the caller's end leaves it as it was */
    assert_true(atomic_load(&l.done) < 100);
    check_and_destroy(l.pool);
}
static void a_body_that_ends_a_helpers_thread_breaks_the_loop(void **state) {
    (void)state;
    play_loop(false, false);
}
static void a_body_that_ends_a_helpers_thread_breaks_the_task(void **state) {
    (void)state;
    play_loop(true, false);
}
static void a_body_may_end_the_thread_that_loops(void **state) {
    (void)state;
    play_loop(false, true);
}
static void a_body_may_end_the_task_that_loops(void **state) {
    (void)state;
    play_loop(true, true);
}

/* ---- Ends: arg_free, callbacks, on_failure, result_free. */

static void end_by_free(void *arg) {
    count_up(arg);
    end_here();
}
static void end_by_callback(tpool_future *future, void *context) {
    assert_true(tpool_future_done(future));
    count_up(context);
    end_here();
}
static void note(tpool_future *future, void *context) {
    (void)future;
    count_up(context);
}
static void *cancel_it(void *future) {
    assert_true(tpool_future_cancel(future));
    return NULL;
}
static void *set_it(void *future) {
    assert_status(TPOOL_OK, tpool_future_set_result(future, NULL));
    return NULL;
}

static void an_arg_free_that_ends_its_thread_leaves_an_end(void **state) {
    (void)state;
    atomic_int freed = 0, finalized = 0;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .finalizer = count_free, .context = &finalized });
    tpool_task task = { .fn = nothing, .arg = &freed, .arg_free = end_by_free };
    assert_status(TPOOL_BROKEN, end_of(submitted_task(pool, task)));
    EVENTUALLY(atomic_load(&finalized) == 1);
    assert_int_equal(1, atomic_load(&freed));
    /* of one that is cancelled it ends the canceller's */
    assert_status(TPOOL_OK, tpool_pause(pool));
    tpool_future *future = submitted_task(pool, task);
    in_own_thread(cancel_it, future);
    assert_status(TPOOL_CANCELLED, end_of(future));
    assert_status(TPOOL_OK, tpool_resume(pool));
    /* of one whose function has ended the thread, the thread ends once more */
    assert_status(TPOOL_BROKEN, end_of(submitted_task(
                                    pool, (tpool_task){ .fn = end_in_task, .arg = &freed, .arg_free = end_by_free })));
    assert_int_equal(3, atomic_load(&freed));
    check_and_destroy(pool);
}

static void callbacks_after_one_that_ends_its_thread_run_once(void **state) {
    (void)state;
    atomic_int calls = 0;
    gate hold = GATE_CLOSED;
    tpool *pool = new_pool(1);
    for (int bare = 0; bare < 2; bare++) {
        tpool_future *future = NULL;
        atomic_store(&calls, 0);
        gate_close(&hold);
        if (bare) assert_status(TPOOL_OK, tpool_future_create(&future));
        else future = submitted(pool, gate_task, &hold);
        assert_status(TPOOL_OK, tpool_future_add_done_callback(future, note, &calls));
        assert_status(TPOOL_OK, tpool_future_add_done_callback(future, end_by_callback, &calls));
        assert_status(TPOOL_OK, tpool_future_add_done_callback(future, note, &calls));
        assert_status(TPOOL_OK, tpool_future_add_done_callback(future, end_by_callback, &calls));
        assert_status(TPOOL_OK, tpool_future_add_done_callback(future, note, &calls));
        gate_open(&hold);
        if (bare) in_own_thread(set_it, future);
        assert_status(TPOOL_OK, end_of(future));
        EVENTUALLY(atomic_load(&calls) == 5);
    }
    check_and_destroy(pool);
}

static void *add_one_that_ends(void *future) {
    static atomic_int calls;
    assert_status(TPOOL_OK, tpool_future_add_done_callback(future, end_by_callback, &calls));
    return NULL;
}
static void a_callback_on_a_done_future_may_end_its_thread(void **state) {
    (void)state;
    tpool_future *future = NULL;
    assert_status(TPOOL_OK, tpool_future_create(&future));
    assert_status(TPOOL_OK, tpool_future_set_result(future, NULL));
    in_own_thread(add_one_that_ends, future);
    tpool_future_release(future); /* the last reference: leak checkers see it */
}

/* Others' ends that came up meanwhile are not lost with the thread. */
static void cancel_others_and_end(tpool_future *future, void *context) {
    tpool_future **others = context;
    (void)future;
    for (int i = 0; i < 3; i++) assert_true(tpool_future_cancel(others[i]));
    end_here();
}
static void what_a_callback_has_ended_before_its_thread_is_told_of(void **state) {
    (void)state;
    atomic_int calls = 0;
    tpool *pool = new_pool(1);
    tpool_future *others[3], *first = NULL;
    assert_status(TPOOL_OK, tpool_pause(pool));
    for (int i = 0; i < 3; i++) {
        others[i] = submitted(pool, nothing, NULL);
        assert_status(TPOOL_OK, tpool_future_add_done_callback(others[i], note, &calls));
    }
    assert_status(TPOOL_OK, tpool_future_create(&first));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(first, cancel_others_and_end, others));
    in_own_thread(set_it, first);
    assert_int_equal(3, atomic_load(&calls));
    for (int i = 0; i < 3; i++) assert_status(TPOOL_CANCELLED, end_of(others[i]));
    tpool_future_release(first);
    assert_status(TPOOL_OK, tpool_resume(pool));
    check_and_destroy(pool);
}

static void end_on_failure(const tpool_error *error, void *context) {
    assert_status(TPOOL_FAILED, error->status);
    count_up(context);
    end_here();
}
static void *raise_one(void *arg) {
    (void)arg;
    return tpool_raise(1, "raised");
}
static void on_failure_may_end_its_thread(void **state) {
    (void)state;
    atomic_int reported = 0, freed = 0;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .on_failure = end_on_failure, .context = &reported });
    tpool_task with_block = { .fn = raise_one, .arg = &freed, .arg_free = count_free };
    assert_status(TPOOL_OK, tpool_submit(pool, raise_one, NULL, NULL));
    assert_status(TPOOL_OK, tpool_submit_task(pool, &with_block, NULL));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(2, atomic_load(&reported));
    assert_int_equal(1, atomic_load(&freed));
    assert_int_equal(2, stats_of(pool).failed);
    check_and_destroy(pool);
}

static void *return_what_ends(void *arg) { return tpool_return_owned(arg, end_by_free); }
static void *release_it(void *future) {
    tpool_future_release(future);
    return NULL;
}
static void a_result_free_may_end_its_thread(void **state) {
    (void)state;
    atomic_int freed = 0;
    tpool *pool = new_pool(1);
    tpool_future *future = submitted(pool, return_what_ends, &freed);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
    in_own_thread(release_it, future);
    assert_int_equal(1, atomic_load(&freed));
    assert_status(TPOOL_OK, tpool_submit(pool, return_what_ends, &freed, NULL)); /* the worker's */
    EVENTUALLY(atomic_load(&freed) == 2);
    check_and_destroy(pool);
}
static void *destroy_completions(void *completions) {
    tpool_completions_destroy(completions);
    return NULL;
}
static void completions_let_go_of_all_though_the_thread_ends(void **state) {
    (void)state;
#if defined(__SANITIZE_THREAD__)
    enum { FUTURES = 2 }; /* it crashes where a thread ends again and again */
#else
    enum { FUTURES = 100 };
#endif
    atomic_int freed = 0;
    tpool *pool = new_pool(1);
    tpool_completions *completions = NULL;
    assert_status(TPOOL_OK, tpool_as_completed(NULL, 0, &completions));
    for (int i = 0; i < FUTURES; i++) {
        tpool_future *future = submitted(pool, return_what_ends, &freed);
        assert_status(TPOOL_OK, tpool_completions_add(completions, future));
        tpool_future_release(future);
    }
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    in_own_thread(destroy_completions, completions);
    assert_int_equal(FUTURES, atomic_load(&freed));
    check_and_destroy(pool);
}

static void *shut_down(void *pool) {
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_CANCEL_PENDING));
    return NULL;
}
static void *shut_down_and_stop(void *pool) {
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_CANCEL_PENDING | TPOOL_STOP_RUNNING));
    return NULL;
}
static void *await_stop(void *arg) {
    gate_pass(arg);
    while (!tpool_stop_requested()) sleep_ms(1);
    return arg;
}
static void a_shutdown_that_stops_tells_what_runs_though_its_thread_ends(void **state) {
    (void)state;
    atomic_int freed = 0;
    gate running = GATE_CLOSED;
    tpool *pool = new_pool(1);
    gate_open(&running);
    tpool_future *runs = submitted(pool, await_stop, &running);
    AWAIT_ARRIVALS(&running, 1);
    tpool_future *waits = submitted_task(pool, (tpool_task){ .fn = nothing, .arg = &freed, .arg_free = end_by_free });
    in_own_thread(shut_down_and_stop, pool);
    assert_status(TPOOL_CANCELLED, end_of(waits));
    assert_status(TPOOL_OK, end_of(runs));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_shutdown_cancels_all_though_its_thread_ends(void **state) {
    (void)state;
    atomic_int freed = 0;
    tpool_future *futures[5];
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, tpool_pause(pool));
    for (int i = 0; i < 5; i++)
        futures[i] = submitted_task(
            pool, (tpool_task){ .fn = nothing, .arg = &freed, .arg_free = i % 2 ? end_by_free : count_free });
    in_own_thread(shut_down, pool);
    assert_int_equal(5, atomic_load(&freed));
    for (int i = 0; i < 5; i++) assert_status(TPOOL_CANCELLED, end_of(futures[i]));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Initializers and finalizers. */

typedef struct setup {
    atomic_int began, ended;
    bool initializer_ends, finalizer_ends;
} setup;
static bool begin(void *context) {
    setup *s = context;
    atomic_fetch_add(&s->began, 1);
    if (s->initializer_ends) end_here();
    return true;
}
static void end(void *context) {
    setup *s = context;
    atomic_fetch_add(&s->ended, 1);
    if (s->finalizer_ends) end_here();
}
static void an_initializer_that_ends_its_thread_has_failed(void **state) {
    (void)state;
    setup s = { .initializer_ends = true };
    tpool *pool =
        new_pool_as((tpool_config){ .max_workers = 1, .initializer = begin, .finalizer = end, .context = &s });
    tpool_future *future = NULL;
    tpool_status status =
        tpool_submit(pool, nothing, NULL, &future); /* BROKEN: the worker that it started was faster */
    if (status == TPOOL_OK) status = end_of(future);
    assert_status(TPOOL_BROKEN, status);
    EVENTUALLY(tpool_submit(pool, nothing, NULL, NULL) == TPOOL_BROKEN);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(1, atomic_load(&s.began));
    assert_int_equal(0, atomic_load(&s.ended));
}
/* What waits in a pool that breaks is reported, though each report ends the thread. */
typedef struct breaking {
    gate begun;
    atomic_int reported;
} breaking;
static bool fail_after_gate(void *context) {
    gate_pass(&((breaking *)context)->begun);
    return false;
}
static void count_and_end(const tpool_error *error, void *context) {
    assert_status(TPOOL_BROKEN, error->status);
    atomic_fetch_add(&((breaking *)context)->reported, 1);
    end_here();
}
static void all_that_a_broken_pool_held_is_reported_though_threads_end(void **state) {
    (void)state;
    breaking b = { .begun = GATE_CLOSED };
    tpool *pool = new_pool_as(
        (tpool_config){ .max_workers = 1, .initializer = fail_after_gate, .on_failure = count_and_end, .context = &b });
    for (int i = 0; i < 5; i++) assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
    AWAIT_ARRIVALS(&b.begun, 1);
    gate_open(&b.begun);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(5, atomic_load(&b.reported));
    assert_int_equal(5, stats_of(pool).failed);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_finalizer_that_ends_its_thread_runs_once(void **state) {
    (void)state;
    setup s = { .finalizer_ends = true };
    tpool *pool = new_pool_as((tpool_config){
        .max_workers = 1, .max_tasks_per_worker = 1, .initializer = begin, .finalizer = end, .context = &s });
    for (int i = 0; i < 4; i++) assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    assert_status(TPOOL_BROKEN, end_of(submitted(pool, end_in_task, NULL)));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(5, atomic_load(&s.began));
    assert_int_equal(5, atomic_load(&s.ended));
}

/* ---- Maps, resources, full queues. */

typedef struct source {
    tpool *pool;
    int given, ends_at;
    atomic_int freed;
    int numbers[10];
} source;
static bool give(void *context, void **item) {
    source *s = context;
    if (s->given == s->ends_at) end_here();
    *item = &s->numbers[s->given++];
    return true;
}
static void free_item(void *item, void *context) {
    source *s = context;
    assert_true(item >= (void *)s->numbers && item < (void *)(s->numbers + 10));
    atomic_fetch_add(&s->freed, 1);
}
static void *map_from(void *context) {
    source *s = context;
    tpool_map_spec spec = {
        .fn = same_item, .context = s, .next = give, .buffer_size = 4, .chunk_size = 1, .item_free = free_item
    };
    tpool_map_iter *iter = NULL;
    assert_status(TPOOL_OK, tpool_map(s->pool, &spec, &iter));
    void *result = NULL;
    for (int i = 0; i < 10; i++) assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, &result));
    tpool_map_close(iter);
    return NULL;
}
static void a_source_may_end_the_consumers_thread(void **state) {
    (void)state;
    source s = { .ends_at = 3 };
    s.pool = new_pool(1);
    in_own_thread(map_from, &s);
    assert_int_equal(3, atomic_load(&s.freed)); /* the iterator, which nobody has, is gone: leak checkers see it */
    check_and_destroy(s.pool);
}

typedef struct shop {
    int made, ends_at;
    atomic_int destroyed;
    char things[5];
    tpool_resources *resources;
} shop;
static void *make_thing(void *context) {
    shop *s = context;
    if (s->made == s->ends_at) end_here();
    return &s->things[s->made++];
}
static void destroy_thing(void *thing, void *context) {
    shop *s = context;
    (void)thing;
    if (atomic_fetch_add(&s->destroyed, 1) == 1) end_here();
}
static void *open_shop(void *context) {
    shop *s = context;
    assert_status(TPOOL_OK, tpool_resources_create(&s->resources, 5, make_thing, destroy_thing, s));
    return NULL;
}
static void *close_shop(void *context) {
    assert_status(TPOOL_OK, tpool_resources_destroy(((shop *)context)->resources));
    return NULL;
}
static void resources_are_destroyed_though_the_thread_ends(void **state) {
    (void)state;
    shop half = { .ends_at = 3 }, whole = { .ends_at = -1 };
    in_own_thread(open_shop, &half);
    assert_int_equal(3, atomic_load(&half.destroyed));
    in_own_thread(open_shop, &whole);
    in_own_thread(close_shop, &whole);
    assert_int_equal(5, atomic_load(&whole.destroyed));
}

typedef struct submitter {
    tpool *pool;
    tpool_task task;
    tpool_future *future;
} submitter;
static void *submit_it(void *context) {
    submitter *s = context;
    s->future = submitted_task(s->pool, s->task);
    return NULL;
}
/* The submit never returns, and its reference is not left behind. */
static void a_submit_whose_thread_ends_leaves_nothing(void **state) {
    (void)state;
    atomic_int freed = 0;
    for (int drops = 0; drops < 2; drops++) {
        tpool *pool = new_pool_as((tpool_config){ .max_workers = 1,
                                                  .queue_capacity = 1,
                                                  .on_full = drops ? TPOOL_FULL_DROP_OLDEST : TPOOL_FULL_CALLER_RUNS });
        tpool_task ends = { .fn = nothing, .arg = &freed, .arg_free = end_by_free };
        submitter s = { .pool = pool, .task = { .fn = drops ? nothing : end_in_task } };
        assert_status(TPOOL_OK, tpool_pause(pool));
        tpool_future *oldest = drops ? submitted_task(pool, ends) : NULL;
        if (!drops) {
            gate busy = GATE_CLOSED;
            assert_status(TPOOL_OK, tpool_resume(pool));
            tpool_future *running = submitted(pool, gate_task, &busy);
            AWAIT_ARRIVALS(&busy, 1);
            tpool_future *waiting = submitted(pool, nothing, NULL);
            in_own_thread(submit_it, &s);
            gate_open(&busy);
            assert_status(TPOOL_OK, end_of(running));
            assert_status(TPOOL_OK, end_of(waiting));
            assert_int_equal(1, stats_of(pool).failed);
        } else {
            in_own_thread(submit_it, &s);
            assert_status(TPOOL_CANCELLED, end_of(oldest));
            assert_status(TPOOL_OK, tpool_resume(pool));
        }
        assert_null(s.future);
        assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

/* A wait runs what its thread has listed, and that may end it: here while it is about to block at a full queue. */
typedef struct blocked_submit {
    tpool *pool;
    tpool_future *other;
} blocked_submit;
static void cancel_and_submit(tpool_future *future, void *context) {
    blocked_submit *b = context;
    (void)future;
    assert_true(tpool_future_cancel(b->other));
    assert_status(TPOOL_INVALID, tpool_submit(b->pool, nothing, NULL, NULL)); /* it does not return */
}
static void a_blocked_submit_whose_thread_ends_holds_nothing_up(void **state) {
    (void)state;
    atomic_int calls = 0;
    tpool_future *first = NULL;
    blocked_submit b = { .pool = new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1 }) };
    tpool *paused = new_pool(1);
    assert_status(TPOOL_OK, tpool_pause(b.pool));
    assert_status(TPOOL_OK, tpool_submit(b.pool, nothing, NULL, NULL));
    assert_status(TPOOL_OK, tpool_pause(paused));
    b.other = submitted(paused, nothing, NULL);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(b.other, end_by_callback, &calls));
    assert_status(TPOOL_OK, tpool_future_create(&first));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(first, cancel_and_submit, &b));
    in_own_thread(set_it, first);
    assert_int_equal(1, atomic_load(&calls));
    assert_status(TPOOL_CANCELLED, end_of(b.other));
    tpool_future_release(first);
    assert_status(TPOOL_OK, tpool_resume(b.pool));
    check_and_destroy(b.pool);
    assert_status(TPOOL_OK, tpool_destroy(paused));
}

/* ---- Destructors of thread-local variables, which the system calls on the stack that was left. */

static pthread_key_t key; /* older than the library's own, and therefore first */
static atomic_int destructors;
static void call_in(void *pool) {
    tpool_job job;
    tpool_fork(&job, count_job, pool);
    assert_ptr_equal(pool, tpool_join(&job));
    (void)tpool_raise(1, "too late");
    assert_false(tpool_stop_requested());
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    atomic_fetch_add(&destructors, 1);
}
static void *end_with_a_destructor(void *pool) {
    tpool_job job;
    assert_int_equal(0, pthread_setspecific(key, pool));
    tpool_fork(&job, count_job, NULL);
    end_here();
    tpool_join(&job);
    return NULL;
}
static void destructors_of_thread_local_variables_may_call_in(void **state) {
    (void)state;
    tpool *pool = warm_pool(WORKERS);
    assert_status(TPOOL_BROKEN, end_of(submitted(pool, end_with_a_destructor, pool)));
    EVENTUALLY(atomic_load(&destructors) == 1);
    check_and_destroy(pool);
}
/* The worker that runs the destructor's task takes the place of the one that the destructor is called in. */
static void a_destructor_may_wait_for_a_task_of_a_pool_of_one_worker(void **state) {
    (void)state;
    int before = atomic_load(&destructors);
    tpool *pool = warm_pool(1);
    for (int i = 0; i < 4; i++) assert_status(TPOOL_BROKEN, end_of(submitted(pool, end_with_a_destructor, pool)));
    EVENTUALLY(atomic_load(&destructors) == before + 4);
    check_and_destroy(pool);
}

/* ---- A submitter that waits for room ends the task that has expired there, whose callback ends its thread. */

static void end_in_callback(tpool_future *future, void *context) {
    (void)future, (void)context;
    end_here();
}
static void *submit_for_room(void *pool) {
    (void)!tpool_submit(pool, nothing, NULL, NULL);
    return NULL;
}
static atomic_bool destroyed;
static void *destroy_it(void *pool) {
    if (tpool_destroy(pool) == TPOOL_OK) atomic_store(&destroyed, true);
    return NULL;
}
static void a_submitter_that_ends_after_its_wait_counts_no_more(void **state) {
    (void)state;
    gate hold = GATE_CLOSED;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1 });
    tpool_task short_lived = { .fn = nothing, .expires_ns = TPOOL_MS(300) }; /* not before its callback is added */
    tpool_future *expires = NULL;
    assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
    AWAIT_ARRIVALS(&hold, 1);
    expires = submitted_task(pool, short_lived);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(expires, end_in_callback, NULL));
    in_own_thread(submit_for_room, pool);
    assert_status(TPOOL_EXPIRED, end_of(expires));
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    pthread_t destroys;
    assert_int_equal(0, pthread_create(&destroys, NULL, destroy_it, pool));
    EVENTUALLY(atomic_load(&destroyed));
    assert_int_equal(0, pthread_join(destroys, NULL));
}

/* ---- What a callback has ended runs within the end of a pool, and ends the thread. */

typedef struct left_end {
    tpool *pool;
    tpool_future *first, *other;
} left_end;
static void complete_other_and_destroy(tpool_future *future, void *context) {
    left_end *left = context;
    (void)future;
    (void)!tpool_future_set_result(left->other, NULL); /* its callback runs in the next wait */
    if (left->pool) (void)tpool_destroy(left->pool);
    else (void)!tpool_dual_shutdown(TPOOL_WAIT | TPOOL_CANCEL_PENDING);
    fail_msg("the thread has not ended");
}
static void *complete_first(void *of) {
    (void)!tpool_future_set_result(((left_end *)of)->first, NULL);
    return NULL;
}
static void end_a_thread_that_ends(tpool *pool) {
    left_end left = { .pool = pool };
    assert_status(TPOOL_OK, tpool_future_create(&left.first));
    assert_status(TPOOL_OK, tpool_future_create(&left.other));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(left.first, complete_other_and_destroy, &left));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(left.other, end_in_callback, NULL));
    in_own_thread(complete_first, &left);
    tpool_future_release(left.first);
    tpool_future_release(left.other);
}
static void a_pool_goes_on_when_the_thread_of_its_destroy_has_ended(void **state) {
    (void)state;
    gate hold = GATE_CLOSED;
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
    AWAIT_ARRIVALS(&hold, 1);
    end_a_thread_that_ends(pool);
    assert_status(TPOOL_OK, tpool_pause(pool));
    assert_status(TPOOL_OK, tpool_resume(pool));
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    check_and_destroy(pool);
}
static void the_dual_pools_go_on_when_the_thread_of_their_shutdown_has_ended(void **state) {
    (void)state;
    gate hold = GATE_CLOSED;
    int items[3] = { 0 };
    tpool_map_spec spec = { .fn = same_item, .items = items, .count = 3, .stride = sizeof *items, .chunk_size = 1 };
    tpool_map_iter *iter = NULL;
    tpool_status ends[3];
    assert_status(TPOOL_OK, tpool_submit(tpool_high_level(), gate_task, &hold, NULL));
    AWAIT_ARRIVALS(&hold, 1);
    end_a_thread_that_ends(NULL);
    tpool_status high = tpool_pause(tpool_high_level()), low = tpool_pause(tpool_low_level());
    gate_open(&hold); /* first, or a failure would leave the program's exit to wait */
    assert_status(TPOOL_OK, tpool_resume(tpool_high_level()));
    assert_status(TPOOL_OK, tpool_map(tpool_high_level(), &spec, &iter));
    for (int i = 0; i < 3; i++) ends[i] = tpool_map_next(iter, LIMIT, NULL);
    tpool_map_close(iter);
    assert_status(TPOOL_OK, tpool_dual_shutdown(TPOOL_WAIT));
    for (int i = 0; i < 3; i++) assert_status(TPOOL_OK, ends[i]); /* its further chunks are not cancelled either */
    assert_status(TPOOL_OK, high);
    assert_status(TPOOL_OK, low);
}

/* ---- An item_free, and what it ends, run in the consumer's next call. */

enum { GIVEN = 4 };
static atomic_int given_runs[GIVEN], given_frees[GIVEN];
typedef struct giver {
    int at, next;
    tpool_future *other;
    tpool_map_iter *iter;
} giver;
static bool next_given(void *context, void **item) {
    giver *g = context;
    if (g->at == GIVEN) return false;
    *item = &given_runs[g->at++];
    return true;
}
static void *run_given(void *item, void *context) {
    (void)context;
    atomic_fetch_add((atomic_int *)item, 1);
    return item;
}
static void free_given(void *item, void *context) {
    giver *g = context;
    ptrdiff_t number = (atomic_int *)item - given_runs;
    atomic_fetch_add(&given_frees[number], 1);
    if (number == 0) assert_true(tpool_future_cancel(g->other)); /* its callback ends the thread */
    if (number == 1) end_here();
}
static void *take_given(void *context) {
    giver *g = context;
    void *item = NULL;
    while (tpool_map_next(g->iter, LIMIT, &item) == TPOOL_OK) {
        assert_ptr_equal(&given_runs[g->next++], item);
        assert_ptr_equal(item, tpool_map_item(g->iter));
    }
    return g;
}
static void an_item_free_may_end_the_consumers_thread(void **state) {
    (void)state;
    giver g = { 0 };
    tpool *pool = new_pool(1);
    tpool_map_spec spec = { .fn = run_given,
                            .next = next_given,
                            .item_free = free_given,
                            .context = &g,
                            .chunk_size = GIVEN,
                            .buffer_size = GIVEN };
    assert_status(TPOOL_OK, tpool_future_create(&g.other));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(g.other, end_in_callback, NULL));
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &g.iter));
    for (int ends = 1; ends <= 2; ends++) { /* another thread goes on with the iterator */
        in_own_thread(take_given, &g);
        assert_int_equal(ends, g.next);
    }
    assert_ptr_equal(&g, take_given(&g));
    assert_int_equal(GIVEN, g.next);
    assert_null(tpool_map_item(g.iter));
    tpool_map_close(g.iter);
    for (int i = 0; i < GIVEN; i++) assert_int_equal(1, atomic_load(&given_runs[i]));
    for (int i = 0; i < GIVEN; i++) assert_int_equal(1, atomic_load(&given_frees[i]));
    tpool_future_release(g.other);
    check_and_destroy(pool);
}

int main(void) {
    if (pthread_key_create(&key, call_in) != 0) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_submitter_that_ends_after_its_wait_counts_no_more),
        cmocka_unit_test(an_item_free_may_end_the_consumers_thread),
        cmocka_unit_test(a_pool_goes_on_when_the_thread_of_its_destroy_has_ended),
        cmocka_unit_test(the_dual_pools_go_on_when_the_thread_of_their_shutdown_has_ended),
        cmocka_unit_test(a_stolen_job_outlives_the_stack_that_forked_it),
        cmocka_unit_test(a_job_that_nobody_has_taken_is_not_run),
        cmocka_unit_test(a_stolen_job_that_ends_its_thread_breaks_the_task_that_joins_it),
        cmocka_unit_test(a_job_that_raised_and_ended_its_thread_breaks_the_task),
        cmocka_unit_test(many_tasks_on_one_stack_break_together),
        cmocka_unit_test(a_body_that_ends_a_helpers_thread_breaks_the_loop),
        cmocka_unit_test(a_body_that_ends_a_helpers_thread_breaks_the_task),
        cmocka_unit_test(a_body_may_end_the_thread_that_loops),
        cmocka_unit_test(a_body_may_end_the_task_that_loops),
        cmocka_unit_test(an_arg_free_that_ends_its_thread_leaves_an_end),
        cmocka_unit_test(callbacks_after_one_that_ends_its_thread_run_once),
        cmocka_unit_test(a_callback_on_a_done_future_may_end_its_thread),
        cmocka_unit_test(what_a_callback_has_ended_before_its_thread_is_told_of),
        cmocka_unit_test(on_failure_may_end_its_thread),
        cmocka_unit_test(a_result_free_may_end_its_thread),
        cmocka_unit_test(completions_let_go_of_all_though_the_thread_ends),
        cmocka_unit_test(a_shutdown_cancels_all_though_its_thread_ends),
        cmocka_unit_test(a_shutdown_that_stops_tells_what_runs_though_its_thread_ends),
        cmocka_unit_test(an_initializer_that_ends_its_thread_has_failed),
        cmocka_unit_test(all_that_a_broken_pool_held_is_reported_though_threads_end),
        cmocka_unit_test(a_finalizer_that_ends_its_thread_runs_once),
        cmocka_unit_test(a_source_may_end_the_consumers_thread),
        cmocka_unit_test(resources_are_destroyed_though_the_thread_ends),
        cmocka_unit_test(a_submit_whose_thread_ends_leaves_nothing),
        cmocka_unit_test(a_blocked_submit_whose_thread_ends_holds_nothing_up),
        cmocka_unit_test(destructors_of_thread_local_variables_may_call_in),
        cmocka_unit_test(a_destructor_may_wait_for_a_task_of_a_pool_of_one_worker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
