/* A fork inside each function that the library calls, at a moment when other threads hold every lock of the pool that
   there is. In the child they hold them for ever, so that it hangs, and is killed, if it asks for one on its way out of
   the call: a worker's thread ends there, any other comes back to the program. The implementation is included for its
   locks. */
#include "support.h"
#include "support/children.h"
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

/* A thread that makes something new for the whole library waits here, if it is to, under the lock that guards it. */
static gate half_way = GATE_CLOSED;
static atomic_bool stops_half_way;
static void be_half_way(void) {
    if (atomic_exchange(&stops_half_way, false)) gate_pass(&half_way);
}
static bool key_is_slow;
static size_t slow_size = SIZE_MAX;
static void *slow_malloc(size_t size) {
    if (size >= slow_size) be_half_way();
    return malloc(size);
}
/* While the handlers of a fork run: an allocator with handlers of its own may be locked then. */
static _Thread_local bool handlers_run;
static atomic_int frees_in_handlers;
static void handlers_begin(void) { handlers_run = true; }
static void handlers_end(void) { handlers_run = false; }
static void checked_free(void *memory) {
    if (handlers_run) atomic_fetch_add(&frees_in_handlers, 1);
    free(memory);
}
#if !defined(__STDC_NO_THREADS__)
#include <threads.h>
#endif
#define tss_create(key, ended) (key_is_slow ? be_half_way() : (void)0, tss_create(key, ended))
#define pthread_key_create(key, ended) (key_is_slow ? be_half_way() : (void)0, pthread_key_create(key, ended))
static atomic_bool refuses_threads;
#define pthread_create(thread, attributes, start, arg) \
    (atomic_load(&refuses_threads) ? EAGAIN : pthread_create(thread, attributes, start, arg))
#define thrd_create(thread, start, arg) (atomic_load(&refuses_threads) ? thrd_error : thrd_create(thread, start, arg))
#define TPOOL_MALLOC(size) slow_malloc(size)
#define TPOOL_FREE(memory) checked_free(memory)
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
#undef tss_create
#undef pthread_key_create
#undef pthread_create
#undef thrd_create

#if SLOW_TOOL /* what the parent's threads had in hand is no leak of the child's */
static bool leaves_things_behind;
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void) { return leaves_things_behind; }
#endif

static tpool *pool;
static atomic_bool forks;           /* the next function called does so */
static tpool_future *with_lock_bit; /* a future whose list of nodes another thread is changing, too */
static tpool_map_iter *iterator;
static atomic_int child_process;
static pid_t parent_process;

static bool is_child(void) { return getpid() != parent_process; }

static void hold_all_locks(bool hold) {
    void (*spinlock)(tpool__spinlock *) = hold ? tpool__spin_lock : tpool__spin_unlock;
    void (*lock)(tpool__lock_word *) = hold ? tpool__lock : tpool__unlock;
    if (iterator) lock(&iterator->lock);
    lock(&pool->lock);
    spinlock(&pool->inject.lock);
    for (tpool__worker *worker = tpool__first_worker(pool); worker; worker = tpool__next_worker(worker)) {
        spinlock(&worker->lane.lock);
        spinlock(&worker->jobs_lock);
    }
    if (!with_lock_bit) return;
    if (hold) (void)tpool__nodes_lock(with_lock_bit);
    else tpool__and_release(&with_lock_bit->state, ~TPOOL__LOCKED);
}

static void fork_here(void) {
    if (!atomic_exchange(&forks, false)) {
        CHECK(!is_child()); /* nothing more of the program's is called in the child */
        return;
    }
    fflush(NULL);
    hold_all_locks(true);
    pid_t child = fork();
    if (child == 0) {
        sigset_t alarm_only;
        sigemptyset(&alarm_only);
        sigaddset(&alarm_only, SIGALRM);
        signal(SIGALRM, SIG_DFL);
        pthread_sigmask(SIG_UNBLOCK, &alarm_only, NULL);
        alarm(SLOW_TOOL ? LIMIT_SECONDS : 20);
#if SLOW_TOOL
        leaves_things_behind = true;
#endif
        return;
    }
    hold_all_locks(false);
    atomic_store(&child_process, (int)child);
}

static void begin(tpool_config config) {
    parent_process = getpid();
    atomic_store(&child_process, 0);
    atomic_store(&forks, true);
    with_lock_bit = NULL;
    iterator = NULL;
    pool = new_pool_as(config);
}
/* A thread of the program's own comes by here after each call, and in the child goes no further. */
static void leave_if_child(void) {
    if (is_child()) child_ends();
}
static void assert_the_child_has_ended(void) {
    int ended = 0;
    leave_if_child();
    EVENTUALLY(atomic_load(&child_process) != 0);
    pid_t child = (pid_t)atomic_exchange(&child_process, -1);
    if (child == -1) return; /* looked at already */
    assert_int_equal(child, waitpid(child, &ended, 0));
    if (WIFSIGNALED(ended)) fail_msg("the child ended by signal %d", WTERMSIG(ended));
    assert_int_equal(0, WEXITSTATUS(ended));
}
static void end(void) {
    assert_the_child_has_ended();
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- The functions */

static void *fork_in_task(void *arg) {
    fork_here();
    return arg;
}
static void fork_in_free(void *arg) {
    (void)arg;
    fork_here();
}
static void fork_in_callback(tpool_future *future, void *context) {
    (void)future;
    (void)context;
    fork_here();
}
static void fork_in_on_failure(const tpool_error *error, void *context) {
    (void)error;
    (void)context;
    fork_here();
}
static bool fork_in_initializer(void *context) {
    (void)context;
    fork_here();
    return true;
}
static void fork_in_finalizer(void *context) {
    (void)context;
    fork_here();
}
static void *fork_in_item(void *item, void *context) {
    (void)context;
    fork_here();
    return item;
}
static void fork_in_item_free(void *item, void *context) {
    (void)item;
    (void)context;
    fork_here();
}
static void *return_owned(void *arg) { return tpool_return_owned(arg, fork_in_free); }
static void *return_owned_twice(void *arg) {
    (void)return_owned(arg);
    return tpool_return("x", 1);
}
static void *raise_something(void *arg) {
    (void)arg;
    return tpool_raise(1, "something");
}

/* ---- Beside a thread that is half way through what others need */

static void *use_futures(void *arg) {
    tpool *own = NULL;
    tpool_future *futures[300];
    CHECK_STATUS(TPOOL_OK, tpool_create(&own, NULL));
    for (int i = 0; i < 300; i++) CHECK_STATUS(TPOOL_OK, tpool_submit(own, nothing, NULL, &futures[i]));
    for (int i = 0; i < 300; i++) {
        CHECK_STATUS(TPOOL_OK, tpool_future_result(futures[i], LIMIT, NULL));
        tpool_future_release(futures[i]);
    }
    CHECK_STATUS(TPOOL_OK, tpool_destroy(own));
    return arg;
}
/* As many again without a pool: they need the same of the library, and no thread. */
static void use_own_futures(void) {
    tpool_future *futures[300];
    for (int i = 0; i < 300; i++) CHECK_STATUS(TPOOL_OK, tpool_future_create(&futures[i]));
    for (int i = 0; i < 300; i++) {
        CHECK_STATUS(TPOOL_OK, tpool_future_set_result(futures[i], NULL));
        CHECK_STATUS(TPOOL_OK, end_of(futures[i]));
    }
}
/* In a process that has not used the library yet, whose child must not wait for what the parent's thread is at. */
static void fork_half_way(bool in_allocation) {
    fflush(NULL);
    pid_t process = fork();
    if (process == 0) {
        pthread_t thread;
        alarm(2 * LIMIT_SECONDS);
        if (in_allocation) slow_size = tpool__memory_is_checked() ? sizeof(tpool_future) : TPOOL__SLAB_SIZE;
        key_is_slow = !in_allocation;
        atomic_store(&stops_half_way, true);
        CHECK(pthread_create(&thread, NULL, use_futures, NULL) == 0);
        CHECK_EVENTUALLY(gate_arrived(&half_way) == 1);
        pid_t child = fork();
        if (child == 0) {
            alarm(LIMIT_SECONDS);
            use_own_futures();
            if (CHILD_MAY_START_THREADS) use_futures(NULL);
            child_ends();
        }
        int ended = -1;
        CHECK(child > 0 && waitpid(child, &ended, 0) == child && WIFEXITED(ended) && WEXITSTATUS(ended) == 0);
        gate_open(&half_way);
        CHECK(pthread_join(thread, NULL) == 0);
        child_ends();
    }
    int ended = -1;
    assert_true(process > 0 && waitpid(process, &ended, 0) == process);
    assert_true(WIFEXITED(ended));
    assert_int_equal(0, WEXITSTATUS(ended));
}
static void beside_the_first_use_of_all(void **state) {
    (void)state;
    fork_half_way(false);
}
static void beside_the_making_of_blocks(void **state) {
    (void)state;
    fork_half_way(true);
}

/* ---- On a worker */

/* Submits it behind a gate, so that what is named holds when it runs; with_lock_bit: its future is being watched. */
static void run_on_worker(tpool_config config, tpool_task task, bool with_future, bool with_callback) {
    gate g = GATE_CLOSED;
    tpool_future *future = NULL;
    config.max_workers = 1;
    begin(config);
    bool at_first = config.initializer != NULL;
    if (!at_first) {
        assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &g, NULL));
        AWAIT_ARRIVALS(&g, 1);
    }
    assert_status(TPOOL_OK, tpool_submit_task(pool, &task, with_future ? &future : NULL));
    if (with_callback) assert_status(TPOOL_OK, tpool_future_add_done_callback(future, fork_in_callback, NULL));
    with_lock_bit = future;
    if (task.expires_ns) sleep_ms(2);
    gate_open(&g);
    assert_the_child_has_ended();
    with_lock_bit = NULL;
    if (future) (void)tpool_future_result(future, LIMIT, NULL);
    tpool_future_release(future);
    end();
}

static void in_a_task(void **state) {
    (void)state;
    tpool_config config = { 0 };
    run_on_worker(config, (tpool_task){ .fn = fork_in_task }, false, false);
    run_on_worker(config, (tpool_task){ .fn = fork_in_task }, true, false);
}
static void in_arg_free(void **state) {
    (void)state;
    tpool_config config = { 0 };
    tpool_task task = { .fn = nothing, .arg_free = fork_in_free };
    run_on_worker(config, task, false, false);
    run_on_worker(config, task, true, false);
    task.expires_ns = 1;
    run_on_worker(config, task, false, false);
}
static void in_on_failure(void **state) {
    (void)state;
    tpool_config config = { .on_failure = fork_in_on_failure };
    run_on_worker(config, (tpool_task){ .fn = raise_something }, false, false);
    run_on_worker(config, (tpool_task){ .fn = raise_something, .name = "named" }, false, false);
    run_on_worker(config, (tpool_task){ .fn = nothing, .expires_ns = 1 }, false, false);
}
static void in_result_free(void **state) {
    (void)state;
    tpool_config config = { 0 };
    run_on_worker(config, (tpool_task){ .fn = return_owned }, false, false);
    run_on_worker(config, (tpool_task){ .fn = return_owned, .name = "named" }, false, false);
    run_on_worker(config, (tpool_task){ .fn = return_owned_twice }, true, false);
}
static void in_a_callback(void **state) {
    (void)state;
    run_on_worker((tpool_config){ 0 }, (tpool_task){ .fn = nothing }, true, true);
}
static void in_an_initializer(void **state) {
    (void)state;
    run_on_worker((tpool_config){ .initializer = fork_in_initializer }, (tpool_task){ .fn = nothing }, true, false);
}

static void in_a_finalizer(void **state) {
    (void)state;
    begin((tpool_config){ .max_workers = 1, .max_tasks_per_worker = 1, .finalizer = fork_in_finalizer });
    assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
    end();
}

/* Of a thread that a task ends, beneath its exit hook. */
static void in_what_is_called_as_a_thread_ends(void **state) {
    (void)state;
    tpool_config config = { .finalizer = fork_in_finalizer };
    run_on_worker(config, (tpool_task){ .fn = end_thread }, false, false);
    config = (tpool_config){ .on_failure = fork_in_on_failure };
    run_on_worker(config, (tpool_task){ .fn = end_thread }, false, false);
    run_on_worker(config, (tpool_task){ .fn = end_thread, .name = "named" }, false, false);
    config = (tpool_config){ 0 };
    run_on_worker(config, (tpool_task){ .fn = end_thread, .arg_free = fork_in_free }, true, false);
    run_on_worker(config, (tpool_task){ .fn = end_thread }, true, true);
}

/* The queue held the last reference to a future whose task was run in place; behind it another task waits. */
static void *leave_tombstone(void *arg) {
    tpool_future *future = NULL;
    (void)arg;
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, return_owned, NULL, &future));
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, fork_in_task, NULL, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_future_result(future, TPOOL_FOREVER, NULL));
    tpool_future_release(future);
    return NULL;
}
static void in_result_free_while_a_worker_takes_the_next_task(void **state) {
    (void)state;
    begin((tpool_config){ .max_workers = 1 });
    assert_status(TPOOL_OK, tpool_submit(pool, leave_tombstone, NULL, NULL));
    end();
}

/* A task that waits in place for another: in the child both have an end. */
static void *wait_in_place(void *arg) {
    tpool_task task = { .fn = nothing, .arg_free = fork_in_free };
    tpool_future *future = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, &future));
    with_lock_bit = future;
    tpool_status status = tpool_future_result(future, TPOOL_FOREVER, NULL);
    CHECK(status == (is_child() ? TPOOL_BROKEN : TPOOL_OK));
    CHECK(!is_child() || !tpool_current());
    with_lock_bit = NULL;
    tpool_future_release(future);
    return arg;
}
static void in_a_task_that_another_runs_in_place(void **state) {
    (void)state;
    begin((tpool_config){ .max_workers = 1 });
    assert_status(TPOOL_OK, end_of(submitted(pool, wait_in_place, NULL)));
    end();
}

/* A job that another worker has stolen. */
static gate at_thief;
static void *pass_gate_and_fork(void *arg) {
    gate_pass((gate *)arg);
    fork_here();
    return arg;
}
static void *fork_and_join(void *arg) {
    tpool_job job;
    tpool_fork(&job, pass_gate_and_fork, arg);
    AWAIT_THEFT(gate_arrived((gate *)arg) == 1);
    gate_open((gate *)arg);
    CHECK(tpool_join(&job) == arg);
    return arg;
}
static void in_a_stolen_job(void **state) {
    (void)state;
    at_thief = (gate)GATE_CLOSED;
    begin((tpool_config){ .max_workers = 2 });
    assert_status(TPOOL_OK, end_of(submitted(pool, fork_and_join, &at_thief)));
    end();
}

/* A job that was forked beneath a stolen one, and runs within the join for that. */
static void *fork_and_release_thief(void *arg) {
    fork_here();
    if (!is_child()) gate_open((gate *)arg);
    return arg;
}
static void *offer_another(void *arg) {
    tpool_job job;
    tpool_fork(&job, fork_and_release_thief, arg);
    tpool__worker *worker = tpool__self()->worker;
    if (worker->oldest_private_job) tpool__publish_job(worker);
    gate_pass((gate *)arg);
    CHECK(tpool_join(&job) == arg);
    return arg;
}
static void *help_thief(void *arg) {
    tpool_job job;
    tpool_fork(&job, offer_another, arg);
    AWAIT_THEFT(gate_arrived((gate *)arg) == 1);
    void *result = tpool_join(&job);
    CHECK(result == (is_child() ? NULL : arg));
    return arg;
}
static void in_a_job_that_a_join_helps_with(void **state) {
    (void)state;
    at_thief = (gate)GATE_CLOSED;
    begin((tpool_config){ .max_workers = 2 });
    assert_status(TPOOL_OK, end_of(submitted(pool, help_thief, &at_thief)));
    end();
}

/* ---- In maps and loops */

static int numbers[4];
static bool give_number(void *context, void **item) {
    int *given = context;
    *item = &numbers[*given];
    return (*given)++ < 4;
}
static bool give_number_and_fork(void *context, void **item) {
    if (*(int *)context == 3) fork_here();
    return give_number(context, item);
}

static void map_all(tpool_map_spec spec, bool by_consumer) {
    int given = 0;
    begin((tpool_config){ .max_workers = 1 });
    atomic_store(&forks, false);
    spec.context = &given;
    assert_status(TPOOL_OK, tpool_pause(pool));
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iterator));
    atomic_store(&forks, true);
    assert_status(TPOOL_OK, tpool_resume(pool));
    for (int i = 0; i < 4; i++) {
        tpool_status status = tpool_map_next(iterator, LIMIT, NULL);
        leave_if_child();
        assert_status(TPOOL_OK, status);
    }
    tpool_map_iter *closing = iterator;
    if (!by_consumer) assert_the_child_has_ended();
    iterator = NULL;
    tpool_map_close(closing);
    end();
}
static void in_the_function_of_a_map(void **state) {
    (void)state;
    map_all((tpool_map_spec){ .fn = fork_in_item, .items = numbers, .count = 4, .stride = sizeof *numbers }, false);
}
static void in_item_free(void **state) {
    (void)state;
    map_all((tpool_map_spec){ .fn = same_item, .next = give_number, .item_free = fork_in_item_free, .buffer_size = 2 },
            false);
}
static void in_the_source_of_a_map(void **state) {
    (void)state;
    map_all((tpool_map_spec){ .fn = same_item, .next = give_number_and_fork, .buffer_size = 2 }, true);
}

static bool in_caller;
static void fork_in_body(size_t first, size_t last, void *context) {
    (void)first;
    (void)last;
    bool is_worker = tpool_current() != NULL;
    if (is_worker != in_caller) fork_here();
    else gate_await_arrivals((gate *)context, 1); /* until the other has begun */
    if (is_worker != in_caller && !is_child()) gate_pass((gate *)context);
}
static void in_the_body_of_a_loop(void **state) {
    (void)state;
    for (int caller = CHILD_MAY_END_THREADS ? 0 : 1; caller < 2; caller++) {
        gate begun = GATE_CLOSED;
        in_caller = caller == 1;
        gate_open(&begun);
        begin((tpool_config){ .max_workers = 1 });
        tpool_status status = tpool_for(pool, 0, 2, 1, fork_in_body, &begun);
        leave_if_child();
        assert_status(TPOOL_OK, status);
        end();
    }
}

/* ---- In a thread of the program's own, which comes back from the call */

static void begin_held(tpool_config config, gate *g) {
    config.max_workers = 1;
    begin(config);
    assert_status(TPOOL_OK, tpool_submit(pool, gate_task, g, NULL));
    AWAIT_ARRIVALS(g, 1);
}

static void in_arg_free_of_a_cancel(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    begin_held((tpool_config){ 0 }, &g);
    tpool_future *future = submitted_task(pool, (tpool_task){ .fn = nothing, .arg_free = fork_in_free });
    with_lock_bit = future;
    (void)tpool_future_cancel(future);
    leave_if_child();
    gate_open(&g);
    tpool_future_release(future);
    end();
}
static void in_arg_free_of_a_shutdown_that_cancels(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    begin_held((tpool_config){ 0 }, &g);
    for (int i = 0; i < 2; i++)
        with_lock_bit = submitted_task(pool, (tpool_task){ .fn = nothing, .arg_free = fork_in_free, .name = "free" });
    tpool_future_release(with_lock_bit); /* the queue still holds it */
    with_lock_bit = NULL;
    tpool_status status = tpool_shutdown(pool, TPOOL_CANCEL_PENDING);
    if (is_child()) CHECK(status == TPOOL_BROKEN);
    assert_the_child_has_ended();
    assert_status(TPOOL_OK, status);
    gate_open(&g);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* The wait of a destroy runs what its thread has listed. */
static tpool_future *completed_next;
static void open_gate_and_fork(tpool_future *future, void *g) {
    (void)future;
    fork_here();
    if (!is_child()) gate_open(g);
}
static void complete_and_destroy(tpool_future *future, void *context) {
    (void)future;
    (void)context;
    assert_status(TPOOL_OK, tpool_future_set_result(completed_next, NULL));
    tpool_status status = tpool_destroy(pool);
    if (is_child()) CHECK(status == TPOOL_BROKEN);
    leave_if_child();
    assert_status(TPOOL_OK, status);
}
static void in_a_callback_that_a_destroy_runs(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    tpool_future *first = NULL;
    begin_held((tpool_config){ 0 }, &g);
    assert_status(TPOOL_OK, tpool_future_create(&first));
    assert_status(TPOOL_OK, tpool_future_create(&completed_next));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(first, complete_and_destroy, NULL));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(completed_next, open_gate_and_fork, &g));
    assert_status(TPOOL_OK, tpool_future_set_result(first, NULL));
    assert_the_child_has_ended();
    tpool_future_release(first);
    tpool_future_release(completed_next);
}
static void in_arg_free_of_what_a_submit_drops(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    begin_held((tpool_config){ .queue_capacity = 1, .on_full = TPOOL_FULL_DROP_OLDEST }, &g);
    tpool_future *future = submitted_task(pool, (tpool_task){ .fn = nothing, .arg_free = fork_in_free });
    with_lock_bit = future;
    assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
    leave_if_child();
    gate_open(&g);
    tpool_future_release(future);
    end();
}
static void in_arg_free_of_a_task_that_its_submitter_runs(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    begin_held((tpool_config){ .queue_capacity = 1, .on_full = TPOOL_FULL_CALLER_RUNS }, &g);
    assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
    tpool_task task = { .fn = nothing, .arg_free = fork_in_free };
    assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    leave_if_child();
    gate_open(&g);
    end();
}
static void in_on_failure_of_an_expiry_that_an_asker_notices(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    begin_held((tpool_config){ .on_failure = fork_in_on_failure }, &g);
    tpool_future *future =
        submitted_task(pool, (tpool_task){ .fn = nothing, .expires_ns = 1, .arg_free = fork_in_free });
    sleep_ms(1);
    (void)tpool_future_done(future);
    leave_if_child();
    gate_open(&g);
    tpool_future_release(future);
    end();
}
static void *end_thread_for_good(void *arg) {
    atomic_store(&refuses_threads, true);
    pthread_exit(arg);
}
static void in_arg_free_of_a_long_running_task_that_gets_no_other_thread(void **state) {
    (void)state;
    SKIP_UNDER_TSAN(); /* the child ends its thread */
    begin((tpool_config){ .max_workers = 1 });
    tpool_task task = { .fn = end_thread_for_good, .arg_free = fork_in_free, .retries = 1, .long_running = true };
    tpool_future *future = submitted_task(pool, task);
    assert_status(TPOOL_BROKEN, end_of(future));
    atomic_store(&refuses_threads, false);
    end();
}
static void fork_in_observer(const tpool_event *event, void *context) {
    (void)context;
    if (event->kind == TPOOL_EVENT_WORKER_STARTED && !is_child() && atomic_load(&forks)) fork_here();
}
static void in_the_observer_of_a_worker_that_starts(void **state) {
    (void)state;
    SKIP_UNDER_TSAN(); /* the child ends its thread */
    for (int long_running = 0; long_running < 2; long_running++) {
        begin((tpool_config){ .max_workers = 1, .observer = fork_in_observer, .observed = TPOOL_EVENT_WORKER_STARTED });
        tpool_future *future = submitted_task(pool, (tpool_task){ .fn = nothing, .long_running = long_running });
        assert_status(TPOOL_OK, end_of(future));
        end();
    }
}
static void in_a_callback_of_what_a_submit_drops(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    begin_held((tpool_config){ .queue_capacity = 1, .on_full = TPOOL_FULL_DROP_OLDEST }, &g);
    tpool_future *future = submitted(pool, nothing, NULL);
    with_lock_bit = future;
    assert_status(TPOOL_OK, tpool_future_add_done_callback(future, fork_in_callback, NULL));
    assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
    leave_if_child();
    gate_open(&g);
    tpool_future_release(future);
    end();
}

/* Another thread's exit hook runs at the fork. The unloading of a plug-in waits for such threads, and would wait for
   ever in the child. */
static void beside_a_thread_that_ends(void **state) {
    (void)state;
    tpool__add_relaxed(&tpool__process.ending, 1);
    pid_t child = fork();
    if (child == 0) _exit(tpool__load_relaxed(&tpool__process.ending) == 0 ? 0 : 1);
    tpool__sub_relaxed(&tpool__process.ending, 1);
    int how = 0;
    assert_int_equal(child, waitpid(child, &how, 0));
    assert_true(WIFEXITED(how));
    assert_int_equal(0, WEXITSTATUS(how));
}

static void never_called(void *unused) { CHECK(unused != NULL); }
static void *fork_and_count_frees(void *arg) {
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(never_called, NULL));
    pid_t child = fork();
    if (child == 0) _exit(atomic_load(&frees_in_handlers));
    *(pid_t *)arg = child;
    return NULL;
}
/* These handlers run around the library's own. */
static void and_frees_nothing_in_its_handlers(void **state) {
    (void)state;
    assert_int_equal(0, pthread_atfork(NULL, handlers_end, handlers_end));
    handlers_end(); /* after the forks of the tests before */
    atomic_store(&frees_in_handlers, 0);
    pid_t child = -1;
    pool = new_pool(1);
    assert_status(TPOOL_OK, end_of(submitted(pool, fork_and_count_frees, &child)));
    assert_child_succeeds(child);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(0, atomic_load(&frees_in_handlers));
}
__attribute__((constructor)) static void watch_handlers(void) {
    if (pthread_atfork(handlers_begin, NULL, NULL) != 0) abort();
}

/* Two parts of a loop wait, one of them in a worker for another's task, with a limit: their threads are not in the
   child. */
static gate parts = GATE_CLOSED;
static void wait_in_part(size_t begin, size_t end, void *bare) {
    (void)begin;
    (void)end;
    gate_pass(&parts);
    if (tpool_future_result(bare, LIMIT, NULL) != TPOOL_OK) abort();
}
static void *wait_in_parts(void *bare) {
    if (tpool_for(pool, 0, 2, 1, wait_in_part, bare) != TPOOL_OK) abort();
    return NULL;
}
static bool waits_in_part(void) {
    tpool__lock(&tpool__cycles.lock);
    bool waits = tpool__cycles.foreign != NULL;
    tpool__unlock(&tpool__cycles.lock);
    return waits;
}
static void beside_a_wait_in_a_part_of_a_loop(void **state) {
    (void)state;
    tpool_future *bare = NULL;
    pool = new_pool(2);
    assert_status(TPOOL_OK, tpool_future_create(&bare));
    tpool_future *loop = submitted(pool, wait_in_parts, bare);
    gate_await_arrivals(&parts, 2);
    gate_open(&parts);
    EVENTUALLY(waits_in_part());
    pid_t child = fork();
    if (child == 0) _exit(waits_in_part());
    int how = 0;
    assert_int_equal(child, waitpid(child, &how, 0));
    assert_status(TPOOL_OK, tpool_future_set_result(bare, NULL));
    take(loop);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    tpool_future_release(bare);
    assert_true(WIFEXITED(how));
    assert_int_equal(0, WEXITSTATUS(how));
}

/* The waits of threads that the child lacks are none of its own. */
static void *wait_for_bare_outside(void *bare) {
    CHECK(tpool_future_result(bare, TPOOL_FOREVER, NULL) == TPOOL_OK);
    return NULL;
}
static bool any_wait_recorded(void) {
    tpool__lock(&tpool__cycles.lock);
    bool any = tpool__cycles.unlimited != NULL;
    tpool__unlock(&tpool__cycles.lock);
    return any;
}
static void see_no_wait(void *arg) { CHECK(!any_wait_recorded() && !arg); }
static void beside_a_wait_without_a_limit(void **state) {
    (void)state;
    pthread_t waiter;
    tpool_future *bare = NULL;
    assert_status(TPOOL_OK, tpool_future_create(&bare));
    assert_int_equal(0, pthread_create(&waiter, NULL, wait_for_bare_outside, bare));
    EVENTUALLY(any_wait_recorded());
    in_child(see_no_wait, NULL);
    assert_status(TPOOL_OK, tpool_future_set_result(bare, NULL));
    assert_int_equal(0, pthread_join(waiter, NULL));
    assert_true(!any_wait_recorded());
    tpool_future_release(bare);
}

static const struct CMUnitTest tests[] = {
    TEST(beside_the_first_use_of_all), /* these two first: before there was any pool here */
    TEST(beside_the_making_of_blocks),
    TEST(beside_a_thread_that_ends),
    TEST(beside_a_wait_in_a_part_of_a_loop),
    TEST(beside_a_wait_without_a_limit),
#if CHILD_MAY_END_THREADS
    TEST(in_a_task),
    TEST(in_arg_free),
    TEST(in_on_failure),
    TEST(in_result_free),
    TEST(in_a_callback),
    TEST(in_an_initializer),
    TEST(in_a_finalizer),
    TEST(in_what_is_called_as_a_thread_ends),
    TEST(in_result_free_while_a_worker_takes_the_next_task),
    TEST(in_a_task_that_another_runs_in_place),
    TEST(in_a_stolen_job),
    TEST(in_a_job_that_a_join_helps_with),
    TEST(in_the_function_of_a_map),
    TEST(in_item_free),
#endif
    TEST(in_the_source_of_a_map),
    TEST(in_the_body_of_a_loop),
    TEST(in_arg_free_of_a_cancel),
    TEST(in_arg_free_of_a_shutdown_that_cancels),
    TEST(in_a_callback_that_a_destroy_runs),
    TEST(in_arg_free_of_what_a_submit_drops),
    TEST(in_arg_free_of_a_task_that_its_submitter_runs),
    TEST(in_on_failure_of_an_expiry_that_an_asker_notices),
    TEST(in_arg_free_of_a_long_running_task_that_gets_no_other_thread),
    TEST(in_the_observer_of_a_worker_that_starts),
    TEST(in_a_callback_of_what_a_submit_drops),
    TEST(and_frees_nothing_in_its_handlers),
};
RUN_TESTS(tests)
