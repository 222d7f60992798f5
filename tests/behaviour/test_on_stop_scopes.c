/* Whose the wake of tpool_on_stop is: a task, a job, a body or an item, which may end its thread, fork, or run in a
   process. */
#include "support.h"
#include "support/no_thread_leaks.h" /* a worker process ends beside its timekeeper */
#include "support/sleepers.h"
#if HAVE_FORK
#include "support/children.h"
#endif

/* ---- whose it is ---- */

typedef struct family {
    atomic_int outer, inner;
    gate at;
    bool at_gate;
} family;
static void *job_registers(void *arg) {
    family *f = arg;
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(count_wake, &f->inner));
    if (f->at_gate) gate_pass(&f->at);
    return NULL;
}
static void *join_a_job_that_registers(void *arg) {
    family *f = arg;
    tpool_job job;
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(NULL, NULL));
    for (int i = 0; i < 2; i++) { /* without one of its own, then with one */
        tpool_fork(&job, job_registers, f);
        if (i == 1) CHECK_STATUS(TPOOL_OK, tpool_on_stop(count_wake, &f->outer));
        (void)tpool_join(&job);
    }
    gate_pass(&f->at);
    return NULL;
}
static void a_job_that_its_join_executes_leaves_none_and_keeps_the_tasks(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    family f = { .at = GATE_CLOSED };
    tpool_future *future = submitted(pool, join_a_job_that_registers, &f);
    gate_await_arrivals(&f.at, 1);
    tpool_future_request_stop(future);
    assert_int_equal(0, f.inner);
    assert_int_equal(1, f.outer);
    gate_open(&f.at);
    assert_status(TPOOL_OK, end_of(future));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* The first test: the process has not called it before. */
static void *join_two_jobs_that_register(void *arg) {
    family *f = arg;
    for (int i = 0; i < 2; i++) {
        tpool_job job;
        tpool_fork(&job, job_registers, f);
        (void)tpool_join(&job);
    }
    gate_pass(&f->at);
    return NULL;
}
static void a_first_call_outside_a_task_is_enough_for_jobs(void **unused) {
    (void)unused;
    assert_status(TPOOL_INVALID_STATE, tpool_on_stop(NULL, NULL));
    tpool *pool = new_pool(1);
    family f = { .at = GATE_CLOSED };
    tpool_future *future = submitted(pool, join_two_jobs_that_register, &f);
    gate_await_arrivals(&f.at, 1);
    tpool_future_request_stop(future);
    assert_int_equal(0, f.inner);
    gate_open(&f.at);
    assert_status(TPOOL_OK, end_of(future));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *join_a_stolen_job_that_registers(void *arg) {
    family *f = arg;
    tpool_job job;
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(count_wake, &f->outer));
    tpool_fork(&job, job_registers, f);
    AWAIT_THEFT(gate_arrived(&f->at) == 1);
    (void)tpool_join(&job);
    return NULL;
}
static void a_stolen_job_has_its_own_and_so_has_its_task(void **unused) {
    (void)unused;
    tpool *pool = new_pool(2);
    family f = { .at = GATE_CLOSED, .at_gate = true };
    tpool_future *future = submitted(pool, join_a_stolen_job_that_registers, &f);
    gate_await_arrivals(&f.at, 1);
    tpool_future_request_stop(future);
    assert_int_equal(1, f.inner);
    assert_int_equal(1, f.outer);
    gate_open(&f.at);
    assert_status(TPOOL_OK, end_of(future));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void body_registers(size_t begin, size_t end, void *context) {
    family *f = context;
    (void)begin;
    (void)end;
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(count_wake, &f->inner));
    if (f->at_gate) gate_pass(&f->at);
}
static void *loop_over_bodies(void *arg) {
    family *f = arg;
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(count_wake, &f->outer));
    CHECK_STATUS(TPOOL_OK, tpool_for(tpool_current(), 0, 2, 1, body_registers, f));
    f->at_gate = false;
    CHECK_STATUS(TPOOL_OK, tpool_for(tpool_current(), 0, 2, 1, body_registers, f)); /* asked already */
    return NULL;
}
static void each_body_of_a_loop_has_its_own(void **unused) {
    (void)unused;
    tpool *pool = new_pool(2);
    family f = { .at = GATE_CLOSED, .at_gate = true };
    tpool_future *future = submitted(pool, loop_over_bodies, &f);
    gate_await_arrivals(&f.at, 2); /* one in the task, one in a helper */
    tpool_future_request_stop(future);
    assert_int_equal(2, f.inner);
    assert_int_equal(1, f.outer);
    gate_open(&f.at);
    assert_status(TPOOL_OK, end_of(future));
    assert_int_equal(4, f.inner);
    assert_int_equal(1, f.outer);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_closing_map_calls_those_of_its_running_items(void **unused) {
    (void)unused;
    tpool *pool = new_pool(2);
    sleeper s[2];
    for (int i = 0; i < 2; i++) sleeper_init(&s[i]);
    tpool_map_iter *iter;
    tpool_map_spec spec = { .fn = item_sleeps, .items = s, .count = 2, .stride = sizeof *s, .chunk_size = 1 };
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    for (int i = 0; i < 2; i++) gate_await_arrivals(&s[i].at, 1);
    tpool_map_close(iter);
    for (int i = 0; i < 2; i++) assert_true(s[i].returns && s[i].wakes == 1);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void each_item_has_its_own_time(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    sleeper s[3];
    for (int i = 0; i < 3; i++) sleeper_init(&s[i]);
    tpool_map_iter *iter;
    tpool_map_spec spec = {
        .fn = item_sleeps, .items = s, .count = 3, .stride = sizeof *s, .chunk_size = 3, .run_limit_ns = TPOOL_MS(10)
    };
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    for (int i = 0; i < 3; i++) {
        void *result;
        assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, &result));
        assert_int_equal(1, s[i].wakes);
    }
    tpool_map_close(iter);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

typedef struct nest {
    sleeper outer, inner;
    tpool *pool; /* whose queue is full: the inner task runs in the outer one's thread */
} nest;
static void *run_in_place(void *arg) {
    nest *n = arg;
    for (int i = 0; i < 3; i++) {
        tpool_future *future = submitted(tpool_current(), register_only, &n->inner.wakes);
        CHECK_STATUS(TPOOL_OK, tpool_future_result(future, TPOOL_FOREVER, NULL));
        tpool_future_release(future);
        if (i == 1) CHECK_STATUS(TPOOL_OK, tpool_on_stop(wake_sleeper, &n->outer)); /* before the third */
    }
    gate_pass(&n->outer.at);
    return NULL;
}
static void a_task_that_another_runs_in_place_has_its_own(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    nest n = { .pool = NULL };
    sleeper_init(&n.outer);
    sleeper_init(&n.inner);
    tpool_future *future = submitted(pool, run_in_place, &n);
    gate_await_arrivals(&n.outer.at, 1);
    tpool_future_request_stop(future);
    assert_int_equal(1, n.outer.wakes);
    assert_int_equal(0, n.inner.wakes);
    assert_status(TPOOL_OK, end_of(future));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *submit_to_a_full_queue(void *arg) {
    nest *n = arg;
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(wake_sleeper, &n->outer));
    CHECK_STATUS(TPOOL_OK, tpool_submit(n->pool, sleep_until_stopped, &n->inner, NULL));
    CHECK(n->inner.returns);
    gate_pass(&n->outer.at);
    return NULL;
}
static void a_task_that_its_submitter_runs_has_its_own(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    nest n = { .pool = new_pool_as(
                   (tpool_config){ .max_workers = 1, .queue_capacity = 1, .on_full = TPOOL_FULL_CALLER_RUNS }) };
    sleeper first;
    tpool_future *running = asleep(n.pool, &first);
    assert_status(TPOOL_OK, tpool_submit(n.pool, nothing, NULL, NULL));
    sleeper_init(&n.outer);
    sleeper_init(&n.inner);
    tpool_future *future = submitted(pool, submit_to_a_full_queue, &n);
    gate_await_arrivals(&n.inner.at, 1);
    tpool_future_request_stop(future);
    assert_int_equal(1, n.outer.wakes);
    assert_int_equal(0, n.inner.wakes);
    assert_status(TPOOL_OK, tpool_shutdown(n.pool, TPOOL_STOP_RUNNING));
    assert_status(TPOOL_OK, end_of(future));
    assert_int_equal(1, n.outer.wakes);
    assert_int_equal(1, n.inner.wakes);
    assert_status(TPOOL_OK, end_of(running));
    assert_int_equal(1, first.wakes);
    assert_status(TPOOL_OK, tpool_destroy(n.pool));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* Six bodies, one after the other in the same thread: the first leaves one, the last waits. */
static void first_body_registers(size_t begin, size_t end, void *context) {
    family *f = context;
    (void)end;
    if (begin == 0) CHECK_STATUS(TPOOL_OK, tpool_on_stop(count_wake, &f->inner));
    if (begin == 5 && f->at_gate) gate_pass(&f->at);
}
static void *loop_in_one_thread(void *arg) {
    CHECK_STATUS(TPOOL_OK, tpool_for(tpool_current(), 0, 6, 1, first_body_registers, arg));
    return NULL;
}
static void no_body_keeps_that_of_the_one_before(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    family f = { .at = GATE_CLOSED, .at_gate = true };
    tpool_future *future = submitted(pool, loop_in_one_thread, &f);
    gate_await_arrivals(&f.at, 1);
    tpool_future_request_stop(future);
    assert_int_equal(0, f.inner);
    gate_open(&f.at);
    assert_status(TPOOL_OK, end_of(future));
    f.at_gate = false;
    assert_status(TPOOL_OK, tpool_for(pool, 0, 6, 1, first_body_registers, &f)); /* in no task: OK, and never called */
    assert_int_equal(0, f.inner);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static atomic_int refused;
static void expect_none(void *unused) {
    (void)unused;
    refused += tpool_on_stop(count_wake, &refused) == TPOOL_INVALID_STATE;
    refused += tpool_on_stop(NULL, NULL) == TPOOL_INVALID_STATE;
}
static bool expect_none_in_setup(void *unused) {
    expect_none(unused);
    return true;
}
static void expect_none_in_callback(tpool_future *future, void *unused) {
    (void)future;
    expect_none(unused);
}
static void *call_at_once(void *arg) {
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(expect_none, arg));
    return NULL;
}
static void outside_a_task_there_is_none(void **unused) {
    (void)unused;
    expect_none(NULL);
    assert_int_equal(2, refused);
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .initializer = expect_none_in_setup });
    tpool_future *future = submitted_task(pool, (tpool_task){ .fn = nothing, .arg_free = expect_none });
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
    assert_int_equal(6, refused);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(future, expect_none_in_callback, NULL));
    assert_int_equal(8, refused);
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_pause(pool));
    future = submitted(pool, call_at_once, NULL);
    tpool_future_request_stop(future);
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_status(TPOOL_OK, end_of(future));
    assert_int_equal(10, refused); /* in wake itself */
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- threads that end, and children ---- */

static void *ask_in_a_thread(void *future) {
    tpool_future_request_stop(future);
    return NULL;
}
static void a_wake_may_end_its_thread(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    sleeper s;
    tpool_future *future = asleep(pool, &s);
    s.ends_thread = true;
    in_own_thread(ask_in_a_thread, future);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
    assert_int_equal(1, s.wakes);
    tpool_future_release(future);
    sleeper_init(&s); /* that thread is the timekeeper; another one comes after it */
    s.ends_thread = true;
    for (int i = 0; i < 2; i++) {
        tpool_task task = { .fn = sleep_until_stopped, .arg = &s, .run_limit_ns = TPOOL_MS(5) };
        gate_close(&s.at);
        assert_status(TPOOL_OK, end_of(submitted_task(pool, task)));
        assert_int_equal(1 + i, s.wakes);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *register_and_end_thread(void *arg) {
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(count_wake, arg));
    return end_thread(NULL);
}
/* The first item ends its thread, the others run as it ends. */
static void *item_ends_thread(void *item, void *wakes) {
    (void)item;
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(count_wake, wakes));
    end_here();
    return NULL;
}
static void a_task_that_ends_its_thread_leaves_none(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    atomic_int wakes = 0;
    tpool_future *future = submitted(pool, register_and_end_thread, &wakes);
    assert_status(TPOOL_BROKEN, tpool_future_result(future, LIMIT, NULL));
    tpool_map_iter *iter;
    int items[3] = { 0 };
    tpool_map_spec spec = {
        .fn = item_ends_thread, .items = items, .count = 3, .stride = sizeof *items, .context = &wakes, .chunk_size = 3
    };
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    void *result;
    for (int i = 0; i < 3; i++) {
        tpool_status status = tpool_map_next(iter, LIMIT, &result);
        if (i == 0 || status != TPOOL_OK) assert_status(TPOOL_BROKEN, status);
    }
    tpool_map_close(iter);
    tpool_future_request_stop(future);
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT | TPOOL_STOP_RUNNING));
    assert_int_equal(0, wakes);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *join_one_that_ends_its_thread(void *arg) {
    tpool_job job;
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(count_wake, arg));
    tpool_fork(&job, register_and_end_thread, arg);
    return tpool_join(&job);
}
static void a_job_that_ends_its_thread_leaves_none(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    atomic_int wakes = 0;
    tpool_future *future = submitted(pool, join_one_that_ends_its_thread, &wakes);
    assert_status(TPOOL_BROKEN, tpool_future_result(future, LIMIT, NULL));
    tpool_future_request_stop(future);
    tpool_future_release(future);
    assert_int_equal(0, wakes);
    assert_works(pool);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *end_thread_when_woken(void *arg) {
    sleeper *s = arg;
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(wake_sleeper, s));
    gate_pass(&s->at);
    atomic_store(&s->returns, true);
    return end_thread(NULL);
}
static void the_end_of_its_thread_waits_for_a_wake_under_way(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    gate slow = GATE_CLOSED;
    sleeper s;
    sleeper_init(&s);
    s.slow = &slow;
    tpool_future *future = submitted(pool, end_thread_when_woken, &s);
    gate_await_arrivals(&s.at, 1);
    background asker;
    background_start(&asker, ask, future);
    gate_await_arrivals(&slow, 1);
    EVENTUALLY(s.returns);
    assert_status(TPOOL_TIMEOUT, tpool_future_result(future, TPOOL_MS(20), NULL));
    gate_open(&slow);
    assert_status(TPOOL_BROKEN, end_of(future));
    assert_status(TPOOL_OK, background_join(&asker));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

#if HAVE_FORK
static void *fork_within(void *arg) {
    sleeper *s = arg;
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(wake_sleeper, s));
    while (!s->own) sleep_ms(1);
    pid_t child = fork();
    if (child == 0) {
        child_begin(LIMIT_SECONDS);
        bool none = tpool_on_stop(wake_sleeper, s) == TPOOL_INVALID_STATE;
        tpool_future_request_stop(s->own); /* finds nothing of the parent's */
        tpool_future_request_stop(s->neighbor->own);
        _exit(none && s->wakes == 0 && s->neighbor->wakes == 0 ? 0 : 1);
    }
    s->child = child;
    gate_pass(&s->at);
    return NULL;
}
static void a_child_of_fork_has_none(void **unused) {
    (void)unused;
    NO_PROCESSES();
    tpool *pool = new_pool(2);
    sleeper s, neighbor;
    tpool_future *next = asleep(pool, &neighbor);
    atomic_store(&neighbor.own, next);
    sleeper_init(&s);
    s.neighbor = &neighbor;
    tpool_future *future = submitted(pool, fork_within, &s);
    atomic_store(&s.own, future);
    gate_await_arrivals(&s.at, 1);
    tpool_future_request_stop(future);
    assert_status(TPOOL_OK, end_of(future));
    assert_int_equal(1, s.wakes);
    assert_child_succeeds((pid_t)s.child);
    tpool_future_request_stop(next);
    assert_status(TPOOL_OK, end_of(next));
    assert_int_equal(1, neighbor.wakes);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void fork_in_wake(void *context) {
    pid_t *child = context;
    *child = fork();
    if (*child == 0) child_begin(LIMIT_SECONDS);
}
static void *wait_for_fork(void *arg) {
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(fork_in_wake, arg));
    while (!tpool_stop_requested()) sleep_ms(1);
    return NULL;
}
static void a_wake_may_fork(void **unused) {
    (void)unused;
    pid_t child = -1;
    tpool *pool = new_pool(1);
    tpool_future *future = submitted(pool, wait_for_fork, &child);
    EVENTUALLY(tpool_future_running(future));
    sleep_ms(2);
    tpool_future_request_stop(future);
    if (child == 0) _exit(tpool_future_result(future, LIMIT, NULL) == TPOOL_BROKEN ? 0 : 1);
    tpool_status status = end_of(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_status(TPOOL_OK, status);
    if (child > 0) assert_child_succeeds(child);
}

/* ---- processes ---- */

static void mark(void *context) { atomic_fetch_add((atomic_int *)context, 1); }
static void *await_wake_in_process(void *arg) {
    atomic_int marked = 0;
    (void)arg;
    if (tpool_on_stop(mark, &marked) != TPOOL_OK) return (void *)1;
    for (int i = 0; i < LIMIT_SECONDS * 1000 && !marked; i++) sleep_ms(1);
    return (void *)(uintptr_t)(marked == 1 && tpool_stop_requested() ? 2 : 3);
}
/* The first item leaves one, which would count, too. */
static void *item_awaits_wake(void *item, void *context) {
    atomic_int *count = *(atomic_int **)context;
    atomic_fetch_add(count, 1);
    if (*(int *)item == 0) return tpool_on_stop(mark, count) == TPOOL_OK ? NULL : (void *)4;
    while (!tpool_stop_requested()) sleep_ms(1);
    sleep_ms(50); /* time for the first item's, if there were one */
    return NULL;
}
static void a_stop_reaches_it_in_a_worker_process(void **unused) {
    (void)unused;
    tpool *pool = process_pool(1);
    tpool_future *future = submitted(pool, await_wake_in_process, NULL);
    EVENTUALLY(tpool_future_running(future));
    tpool_future_request_stop(future);
    assert_int_equal(2, (intptr_t)take(future));
    future = submitted(pool, await_wake_in_process, NULL); /* the process serves on */
    EVENTUALLY(tpool_future_running(future));
    tpool_future_request_stop(future);
    assert_int_equal(2, (intptr_t)take(future));
    atomic_int *count = shared_memory(sizeof *count);
    int items[2] = { 0, 1 };
    assert_status(TPOOL_OK, tpool_destroy(pool));
    pool = process_pool(1);
    tpool_map_iter *iter;
    tpool_map_spec spec = { .fn = item_awaits_wake,
                            .items = items,
                            .count = 2,
                            .stride = sizeof *items,
                            .item_size = sizeof *items,
                            .context = &count,
                            .context_size = sizeof count,
                            .chunk_size = 2 };
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    EVENTUALLY(*count == 2);
    tpool_map_close(iter);
    assert_int_equal(2, *count);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void end_process(void *unused) {
    (void)unused;
    _exit(7);
}
static void *await_end_of_process(void *arg) {
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(end_process, NULL));
    for (int i = 0; i < LIMIT_SECONDS * 1000; i++) sleep_ms(1);
    return arg;
}
static void mark_and_end_thread(void *context) {
    mark(context);
    (void)end_thread(NULL);
}
static void *await_wakes(void *arg) {
    atomic_int marked = 0, *has_registered = *(atomic_int **)arg;
    if (tpool_on_stop(mark_and_end_thread, &marked) != TPOOL_OK) return NULL;
    atomic_store(has_registered, 1);
    CHECK_EVENTUALLY(marked == 1);
    if (tpool_on_stop(mark, &marked) != TPOOL_OK) return NULL; /* in this thread, at once */
    return (void *)(uintptr_t)marked;
}
static void a_wake_in_a_worker_process_may_end_its_thread_and_the_process(void **unused) {
    (void)unused;
    atomic_int *has_registered = shared_memory(sizeof *has_registered);
    tpool *pool = process_pool(1);
    tpool_task task = { .fn = await_wakes, .arg = &has_registered, .arg_size = sizeof has_registered };
    tpool_future *future = submitted_task(pool, task);
    EVENTUALLY(*has_registered);
    tpool_future_request_stop(future);
    assert_int_equal(2, (intptr_t)take(future));
    future = submitted(pool, await_end_of_process, NULL);
    EVENTUALLY(tpool_future_running(future));
    tpool_future_request_stop(future);
    const tpool_error *error;
    assert_status(TPOOL_OK, tpool_future_error(future, LIMIT, &error));
    assert_non_null(error);
    assert_status(TPOOL_BROKEN, error->status);
    assert_int_equal(7, error->code);
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
#endif

/* What runs in a task's wait has ended the thread, and the end of that comes first: its callback runs where the task's
   frames were. */
typedef struct beneath {
    tpool *pool;
    tpool_future *inner;
    atomic_int wakes;
    gate in_callback;
} beneath;
static void pass_in_callback(tpool_future *future, void *g) {
    (void)future;
    gate_pass(g);
}
static void *await_what_ends_the_thread(void *arg) {
    beneath *b = arg;
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(count_wake, &b->wakes));
    tpool_future *inner = submitted(b->pool, end_thread, NULL);
    CHECK_STATUS(TPOOL_OK, tpool_future_add_done_callback(inner, pass_in_callback, &b->in_callback));
    b->inner = inner;
    (void)tpool_future_result(inner, TPOOL_FOREVER, NULL); /* in place */
    return NULL;
}
static void none_is_called_on_the_frames_that_an_ended_thread_has_left(void **unused) {
    (void)unused;
    beneath b = { .pool = new_pool(1), .in_callback = GATE_CLOSED };
    tpool_future *future = submitted(b.pool, await_what_ends_the_thread, &b);
    AWAIT_ARRIVALS(&b.in_callback, 1);
    tpool_future_request_stop(future);
    assert_int_equal(0, b.wakes);
    gate_open(&b.in_callback);
    assert_status(TPOOL_BROKEN, end_of(future));
    assert_status(TPOOL_BROKEN, end_of(b.inner));
    assert_status(TPOOL_OK, tpool_destroy(b.pool));
}

#if !defined(_WIN32) /* where one thread's end holds up the other's */
/* Two threads that end in each other's wakes. */
typedef struct mutual {
    gate *both_run;
    _Atomic(tpool_future *) other;
    atomic_int registered;
} mutual;
static void end_when_both_run(void *context) {
    gate_pass(context);
    (void)end_thread(NULL);
}
static void *stop_the_other(void *arg) {
    mutual *m = arg;
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(end_when_both_run, m->both_run));
    atomic_store(&m->registered, 1);
    while (!atomic_load(&m->other)) sleep_ms(1);
    tpool_future_request_stop(atomic_load(&m->other)); /* runs the other's wake, which does not return */
    return NULL;
}
static void threads_that_end_in_each_others_wakes_end(void **unused) {
    (void)unused;
    gate both_run = GATE_CLOSED;
    mutual each[2] = { { .both_run = &both_run }, { .both_run = &both_run } };
    tpool *pool = new_pool(2);
    tpool_future *futures[2];
    for (int i = 0; i < 2; i++) futures[i] = submitted(pool, stop_the_other, &each[i]);
    for (int i = 0; i < 2; i++) EVENTUALLY(atomic_load(&each[i].registered));
    for (int i = 0; i < 2; i++) atomic_store(&each[i].other, futures[1 - i]);
    AWAIT_ARRIVALS(&both_run, 2);
    gate_open(&both_run);
    for (int i = 0; i < 2; i++) assert_status(TPOOL_BROKEN, end_of(futures[i]));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
#endif

static const struct CMUnitTest tests[] = {
    TEST(a_first_call_outside_a_task_is_enough_for_jobs),
    TEST(a_job_that_its_join_executes_leaves_none_and_keeps_the_tasks),
    TEST(a_stolen_job_has_its_own_and_so_has_its_task),
    TEST(a_task_that_another_runs_in_place_has_its_own),
    TEST(a_task_that_its_submitter_runs_has_its_own),
    TEST(each_body_of_a_loop_has_its_own),
    TEST(no_body_keeps_that_of_the_one_before),
    TEST(a_closing_map_calls_those_of_its_running_items),
    TEST(each_item_has_its_own_time),
    TEST(outside_a_task_there_is_none),
    TEST(a_wake_may_end_its_thread),
    TEST(a_task_that_ends_its_thread_leaves_none),
    TEST(a_job_that_ends_its_thread_leaves_none),
#if !defined(_WIN32)
    TEST(threads_that_end_in_each_others_wakes_end),
#endif
    TEST(none_is_called_on_the_frames_that_an_ended_thread_has_left),
    TEST(the_end_of_its_thread_waits_for_a_wake_under_way),
#if HAVE_FORK
    TEST(a_child_of_fork_has_none),
    TEST(a_wake_may_fork),
    TEST(a_stop_reaches_it_in_a_worker_process),
    TEST(a_wake_in_a_worker_process_may_end_its_thread_and_the_process),
#endif
};
RUN_TESTS(tests)
