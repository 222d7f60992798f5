/* What the interface promises beside the main road: where two of its rules meet, which status comes first when several
   could, and that a look really notices what a look is to notice. Each test gathers what it saw, lets everything go,
   and checks then, so that a broken promise fails and does not hang. */
#include "support.h"

/* ---- Expiry, noticed by a look at many ---- */

/* Two futures that are not done for long, around two whose time passes: what a wait tells of them. */
typedef struct lapsing {
    tpool *pool;
    gate hold;
    tpool_future *all[4];
    atomic_int callbacks;
} lapsing;
static void lapsing_begin(lapsing *l, int64_t expires_ns) {
    *l = (lapsing){ .hold = GATE_CLOSED };
    l->pool = new_pool_as((tpool_config){ .max_workers = 1 });
    l->all[0] = held_at(l->pool, &l->hold);
    l->all[1] = submitted_task(l->pool, (tpool_task){ .fn = nothing, .expires_ns = expires_ns });
    l->all[2] = submitted(l->pool, nothing, NULL);
    l->all[3] = submitted_task(l->pool, (tpool_task){ .fn = nothing, .expires_ns = expires_ns });
    assert_status(TPOOL_OK, tpool_future_add_done_callback(l->all[1], count_callback, &l->callbacks));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(l->all[3], count_callback, &l->callbacks));
}
static void lapsing_end(lapsing *l) {
    gate_open(&l->hold);
    for (int i = 0; i < 4; i++) tpool_future_release(l->all[i]);
    assert_status(TPOOL_OK, tpool_destroy(l->pool));
}

static void a_look_ends_every_one_whose_time_has_passed(tpool_return_when when, tpool_status expected) {
    static lapsing l;
    lapsing_begin(&l, TPOOL_MS(20));
    tpool_future *futures[4];
    memcpy(futures, l.all, sizeof futures);
    sleep_ms(30);
    size_t done = 9;
    tpool_status waited = tpool_wait(futures, 4, when, 0, &done);
    int callbacks = atomic_load(&l.callbacks);
    tpool_future *expected_first = l.all[1], *expected_second = l.all[3];
    lapsing_end(&l);
    assert_status(expected, waited);
    assert_int_equal(2, done);
    assert_int_equal(2, callbacks);
    assert_ptr_equal(expected_first, futures[0]);
    assert_ptr_equal(expected_second, futures[1]);
}
static void a_look_at_all_of_many_ends_every_one_whose_time_has_passed(void **state) {
    (void)state;
    a_look_ends_every_one_whose_time_has_passed(TPOOL_ALL_COMPLETED, TPOOL_TIMEOUT);
}
static void a_look_for_the_first_of_many_ends_every_one_whose_time_has_passed(void **state) {
    (void)state;
    a_look_ends_every_one_whose_time_has_passed(TPOOL_FIRST_COMPLETED, TPOOL_OK);
}

typedef struct wait_for_all {
    tpool_future **futures;
    atomic_bool over;
} wait_for_all;
static void *wait_for_all_four(void *arg) {
    wait_for_all *w = arg;
    (void)tpool_wait(w->futures, 4, TPOOL_ALL_COMPLETED, LIMIT, NULL);
    atomic_store(&w->over, true);
    return NULL;
}
static void a_wait_for_all_notices_an_expiry_when_it_passes_while_others_go_on(void **state) {
    (void)state;
    static lapsing l;
    static wait_for_all w;
    lapsing_begin(&l, TPOOL_MS(40));
    w.futures = l.all;
    pthread_t thread;
    assert_int_equal(0, pthread_create(&thread, NULL, wait_for_all_four, &w));
    int64_t end = tpool_now() + TPOOL_SEC(2); /* nobody else looks */
    while (atomic_load(&l.callbacks) < 2 && tpool_now() < end) sleep_ms(1);
    int callbacks = atomic_load(&l.callbacks);
    bool over = atomic_load(&w.over);
    gate_open(&l.hold);
    pthread_join(thread, NULL);
    lapsing_end(&l);
    assert_false(over);
    assert_int_equal(2, callbacks);
}

static void cancels_adds_and_callbacks_notice_an_expiry_too(void **state) {
    (void)state;
    static gate hold;
    static atomic_int callbacks, late;
    hold = (gate)GATE_CLOSED;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    tpool_future *holder = submitted(pool, gate_task, &hold), *expiring[3];
    gate_await_arrivals(&hold, 1);
    for (int i = 0; i < 3; i++) {
        expiring[i] = submitted_task(pool, (tpool_task){ .fn = nothing, .expires_ns = TPOOL_MS(5) });
        assert_status(TPOOL_OK, tpool_future_add_done_callback(expiring[i], count_callback, &callbacks));
    }
    sleep_ms(10);
    bool cancelled = tpool_future_cancel(expiring[0]);
    int after_cancel = atomic_load(&callbacks);
    tpool_status added = tpool_future_add_done_callback(expiring[1], count_callback, &late);
    int after_callback = atomic_load(&callbacks), ran_late = atomic_load(&late);
    tpool_completions *completions = NULL;
    tpool_status created = tpool_as_completed(NULL, 0, &completions);
    tpool_status completions_added = tpool_completions_add(completions, expiring[2]);
    int after_add = atomic_load(&callbacks);
    tpool_completions_destroy(completions);
    gate_open(&hold);
    for (int i = 0; i < 3; i++) assert_status(TPOOL_EXPIRED, end_of(expiring[i]));
    assert_status(TPOOL_OK, end_of(holder));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_false(cancelled);
    assert_int_equal(1, after_cancel);
    assert_status(TPOOL_OK, added);
    assert_int_equal(2, after_callback);
    assert_int_equal(1, ran_late);
    assert_status(TPOOL_OK, created);
    assert_status(TPOOL_OK, completions_added);
    assert_int_equal(3, after_add);
}

/* ---- Where a task runs ---- */

typedef struct place {
    tpool *pool;
    int worker;
} place;
typedef struct two_pools {
    tpool *outer, *inner;
    gate hold;
    place in_outer, in_inner, in_place, in_inner_again, in_outer_again;
    tpool_future *wanted;
    tpool_status submitted, result;
} two_pools;
static void look(place *p) {
    p->pool = tpool_current();
    p->worker = tpool_current_worker();
}
static void *look_in_place(void *arg) {
    look(&((two_pools *)arg)->in_place);
    return arg;
}
static void *wait_inside_the_callers_run(void *arg) {
    two_pools *t = arg;
    look(&t->in_inner);
    t->result = tpool_future_result(t->wanted, TPOOL_FOREVER, NULL);
    look(&t->in_inner_again);
    return NULL;
}
static void *run_anothers_task_by_caller(void *arg) {
    two_pools *t = arg;
    look(&t->in_outer);
    t->submitted = tpool_submit(t->outer, look_in_place, t, &t->wanted);
    if (t->submitted == TPOOL_OK) t->submitted = tpool_submit(t->inner, wait_inside_the_callers_run, t, NULL);
    look(&t->in_outer_again);
    return NULL;
}
/* A worker runs a full pool's task as its caller, and in there waits for a task of its own pool: three places. */
static void a_task_in_place_within_a_callers_run_is_its_own_pools(void **state) {
    (void)state;
    static two_pools t;
    t = (two_pools){ .hold = GATE_CLOSED };
    t.outer = new_pool_as((tpool_config){ .max_workers = 1 });
    t.inner = new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1, .on_full = TPOOL_FULL_CALLER_RUNS });
    tpool_future *holder = submitted(t.inner, gate_task, &t.hold);
    gate_await_arrivals(&t.hold, 1);
    tpool_future *filler = submitted(t.inner, nothing, NULL);
    tpool_status ended = end_of(submitted(t.outer, run_anothers_task_by_caller, &t));
    gate_open(&t.hold);
    assert_status(TPOOL_OK, end_of(holder));
    assert_status(TPOOL_OK, end_of(filler));
    assert_status(TPOOL_OK, tpool_destroy(t.outer));
    assert_status(TPOOL_OK, tpool_destroy(t.inner));
    tpool_future_release(t.wanted);
    assert_status(TPOOL_OK, ended);
    assert_status(TPOOL_OK, t.submitted);
    assert_status(TPOOL_OK, t.result);
    assert_ptr_equal(t.outer, t.in_outer.pool);
    assert_int_equal(0, t.in_outer.worker);
    assert_ptr_equal(t.inner, t.in_inner.pool);
    assert_int_equal(-1, t.in_inner.worker);
    assert_ptr_equal(t.outer, t.in_place.pool);
    assert_int_equal(0, t.in_place.worker);
    assert_ptr_equal(t.inner, t.in_inner_again.pool);
    assert_int_equal(-1, t.in_inner_again.worker);
    assert_ptr_equal(t.outer, t.in_outer_again.pool);
    assert_int_equal(0, t.in_outer_again.worker);
}

/* ---- Initializers and finalizers may wait for what is not their pool's ---- */

typedef struct slow_hook {
    tpool_future *awaited;
    atomic_int entered;
    tpool_status waited;
} slow_hook;
static void wait_in_finalizer(void *context) {
    slow_hook *hook = context;
    if (atomic_fetch_add(&hook->entered, 1) == 0) hook->waited = tpool_future_result(hook->awaited, LIMIT, NULL);
}
static void a_finalizer_that_waits_keeps_no_other_worker_from_working(void **state) {
    (void)state;
    static slow_hook hook;
    static gate both;
    hook = (slow_hook){ .waited = TPOOL_INVALID };
    both = (gate)GATE_CLOSED;
    assert_status(TPOOL_OK, tpool_future_create(&hook.awaited));
    tpool *pool = new_pool_as((tpool_config){
        .max_workers = 2, .max_tasks_per_worker = 2, .finalizer = wait_in_finalizer, .context = &hook });
    /* Each of the two workers runs one task, then one of them its second and last. */
    tpool_future *first = submitted(pool, gate_task, &both), *second = submitted(pool, gate_task, &both);
    gate_await_arrivals(&both, 2);
    gate_open(&both);
    tpool_status ended[4];
    ended[0] = end_of(first);
    ended[1] = end_of(second);
    ended[2] = end_of(submitted(pool, nothing, NULL));
    int64_t end = tpool_now() + LIMIT;
    while (atomic_load(&hook.entered) == 0 && tpool_now() < end) sleep_ms(1);
    int entered = atomic_load(&hook.entered);
    sleep_ms(20); /* time to fall asleep, for both */
    tpool_future *next = submitted(pool, nothing, NULL);
    ended[3] = tpool_future_result(next, TPOOL_SEC(2), NULL);
    (void)tpool_future_cancel(next); /* if it has not started, destroy need not wait for it */
    tpool_status set = tpool_future_set_result(hook.awaited, NULL);
    tpool_future_release(next);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    tpool_future_release(hook.awaited);
    for (int i = 0; i < 4; i++) assert_status(TPOOL_OK, ended[i]);
    assert_int_equal(1, entered);
    assert_status(TPOOL_OK, set);
    assert_status(TPOOL_OK, hook.waited);
}

static void a_finalizer_may_wait_for_work_that_its_own_pool_does_elsewhere(void **state) {
    (void)state;
    static slow_hook hook;
    hook = (slow_hook){ .waited = TPOOL_INVALID };
    assert_status(TPOOL_OK, tpool_future_create(&hook.awaited));
    tpool *pool = new_pool_as((tpool_config){
        .max_workers = 1, .max_tasks_per_worker = 1, .finalizer = wait_in_finalizer, .context = &hook });
    tpool_status ended = end_of(submitted(pool, nothing, NULL));
    EVENTUALLY(atomic_load(&hook.entered) == 1);
    tpool_future *following = submitted(pool, nothing, NULL);
    tpool_status next = tpool_future_result(following, TPOOL_SEC(2), NULL);
    (void)tpool_future_cancel(following);
    tpool_future_release(following);
    tpool_status drained = tpool_drain(pool, TPOOL_SEC(2)); /* nothing is queued or running */
    tpool_status set = tpool_future_set_result(hook.awaited, NULL);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    tpool_future_release(hook.awaited);
    assert_status(TPOOL_OK, ended);
    assert_status(TPOOL_OK, next);
    assert_status(TPOOL_OK, drained);
    assert_status(TPOOL_OK, set);
    assert_status(TPOOL_OK, hook.waited);
}

/* ---- Draining ---- */

/* The worker may still be leaving its task when the result is there, but it is not long about it. */
static void drain_without_time_tells_soon_that_a_used_pool_is_at_rest(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 2 });
    for (int i = 0; i < 20; i++) {
        assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
        EVENTUALLY(tpool_drain(pool, 0) == TPOOL_OK);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void drain_tells_at_once_that_a_warm_pool_is_at_rest(void **state) {
    (void)state;
    int untrue = 0;
    for (int i = 0; i < 10; i++) {
        tpool *pool = new_pool_as((tpool_config){ .max_workers = 2 });
        assert_status(TPOOL_OK, tpool_warm_up(pool, 2));
        if (tpool_drain(pool, 0) != TPOOL_OK) untrue++;
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
    assert_int_equal(0, untrue);
}

/* What the three calls that wait for a whole pool say in one place or another. */
typedef struct ending {
    tpool *pool;
    tpool_status drain, shutdown, destroy;
    atomic_int asked;
} ending;
static void try_to_end(ending *e) {
    e->drain = tpool_drain(e->pool, TPOOL_MS(200));
    if (e->drain == TPOOL_DEADLOCK) { /* else these might hang */
        e->shutdown = tpool_shutdown(e->pool, TPOOL_WAIT | TPOOL_CANCEL_PENDING | TPOOL_STOP_RUNNING);
        e->destroy = tpool_destroy(e->pool);
    }
    atomic_fetch_add(&e->asked, 1);
}
static void end_in_free(void *arg) { try_to_end(*(ending **)arg); }
static void end_in_result_free(void *arg) { try_to_end(arg); }
static void end_in_callback(tpool_future *future, void *context) {
    (void)future;
    try_to_end(context);
}
static void *return_owned(void *arg) { return tpool_return_owned(arg, end_in_result_free); }
static void *return_owned_and_raise(void *arg) {
    tpool_return_owned(arg, end_in_result_free);
    return tpool_raise(1, "no");
}
static void check_deadlock(ending *e) {
    assert_int_equal(1, atomic_load(&e->asked));
    assert_status(TPOOL_DEADLOCK, e->drain);
    assert_status(TPOOL_DEADLOCK, e->shutdown);
    assert_status(TPOOL_DEADLOCK, e->destroy);
}

static void ending_its_pool_from_arg_free_is_a_deadlock(void **state) {
    (void)state;
    static ending run, cancelled;
    static gate hold;
    hold = (gate)GATE_CLOSED;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    run = cancelled = (ending){ .pool = pool };
    ending *run_at = &run, *cancelled_at = &cancelled;
    tpool_task task = { .fn = nothing, .arg = &run_at, .arg_size = sizeof run_at, .arg_free = end_in_free };
    assert_status(TPOOL_OK, end_of(submitted_task(pool, task)));
    tpool_future *holder = submitted(pool, gate_task, &hold);
    gate_await_arrivals(&hold, 1);
    task.arg = &cancelled_at;
    tpool_future *pending = submitted_task(pool, task);
    bool cancel = tpool_future_cancel(pending); /* here arg_free runs on this thread */
    gate_open(&hold);
    assert_status(TPOOL_OK, end_of(holder));
    assert_status(TPOOL_CANCELLED, end_of(pending));
    assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL)); /* nothing has changed */
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_true(cancel);
    check_deadlock(&run);
    check_deadlock(&cancelled);
}

static void ending_its_pool_from_the_free_of_a_result_that_nobody_holds_is_a_deadlock(void **state) {
    (void)state;
    static ending kept, failed;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    kept = failed = (ending){ .pool = pool };
    assert_status(TPOOL_OK, tpool_submit(pool, return_owned, &kept, NULL));
    assert_status(TPOOL_OK, tpool_submit(pool, return_owned_and_raise, &failed, NULL));
    EVENTUALLY(atomic_load(&kept.asked) == 1 && atomic_load(&failed.asked) == 1);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    check_deadlock(&failed);
    check_deadlock(&kept);
}

static void *end_from_task(void *arg) {
    try_to_end(arg);
    return NULL;
}
static void ending_its_pool_from_a_callers_run_outside_is_a_deadlock(void **state) {
    (void)state;
    static ending task, callback;
    static gate hold;
    hold = (gate)GATE_CLOSED;
    tpool *pool =
        new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1, .on_full = TPOOL_FULL_CALLER_RUNS });
    task = callback = (ending){ .pool = pool };
    tpool_future *holder = submitted(pool, gate_task, &hold);
    gate_await_arrivals(&hold, 1);
    tpool_future *filler = submitted(pool, nothing, NULL);
    tpool_future *run = submitted(pool, end_from_task, &task);
    bool done = tpool_future_done(run);
    tpool_status added = tpool_future_add_done_callback(run, end_in_callback, &callback);
    gate_open(&hold);
    assert_status(TPOOL_OK, end_of(holder));
    assert_status(TPOOL_OK, end_of(filler));
    assert_status(TPOOL_OK, end_of(run));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_true(done);
    assert_status(TPOOL_OK, added);
    check_deadlock(&task);
    check_deadlock(&callback);
}

static void *end_from_item(void *item, void *context) {
    (void)item;
    try_to_end(context);
    return NULL;
}
static void end_from_body(size_t begin, size_t end, void *context) {
    (void)begin;
    (void)end;
    try_to_end(context);
}
static void *end_from_job(void *arg) {
    try_to_end(arg);
    return NULL;
}
static void *fork_and_join_end(void *arg) {
    tpool_job job;
    tpool_fork(&job, end_from_job, arg);
    return tpool_join(&job);
}
static void ending_its_pool_from_an_item_a_body_or_a_job_is_a_deadlock(void **state) {
    (void)state;
    static ending item, body, job;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    item = body = job = (ending){ .pool = pool };
    int one = 1;
    tpool_map_iter *iter = NULL;
    tpool_map_spec spec = { .fn = end_from_item, .context = &item, .items = &one, .count = 1, .stride = sizeof one };
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, NULL));
    tpool_map_close(iter);
    assert_status(TPOOL_OK, tpool_for(pool, 0, 1, 1, end_from_body, &body));
    assert_status(TPOOL_OK, end_of(submitted(pool, fork_and_join_end, &job)));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    check_deadlock(&item);
    check_deadlock(&body);
    check_deadlock(&job);
}

/* The memory of a pool that is gone may be another's by now: its futures' callbacks are not that one's. */
static void a_callback_of_a_pool_that_is_gone_may_end_a_new_one(void **state) {
    (void)state;
    static ending e;
    int deadlocks = 0;
    for (int i = 0; i < 10; i++) {
        tpool *old = new_pool_as((tpool_config){ .max_workers = 1 });
        tpool_future *future = submitted(old, nothing, NULL);
        assert_status(TPOOL_OK, tpool_destroy(old));
        e = (ending){ .pool = new_pool_as((tpool_config){ .max_workers = 1 }) };
        assert_status(TPOOL_OK, tpool_future_add_done_callback(future, end_in_callback, &e));
        deadlocks += e.drain == TPOOL_DEADLOCK;
        tpool_future_release(future);
        assert_status(TPOOL_OK, tpool_destroy(e.pool));
    }
    assert_int_equal(0, deadlocks);
}

/* ---- A pause ---- */

typedef struct paused_loop {
    tpool *pool;
    pthread_t looper;
    gate in_callers_part, in_workers_part;
    atomic_int by_others, by_caller;
    tpool_status loop;
} paused_loop;
static void tell_part(size_t begin, size_t end, void *context) {
    paused_loop *p = context;
    (void)begin;
    (void)end;
    bool own = pthread_equal(pthread_self(), p->looper);
    if (atomic_fetch_add(own ? &p->by_caller : &p->by_others, 1) > 0) return;
    gate_pass(own ? &p->in_callers_part : &p->in_workers_part);
}
static void *loop_in_thread(void *arg) {
    paused_loop *p = arg;
    p->looper = pthread_self();
    p->loop = tpool_for(p->pool, 0, 1000, 1, tell_part, p);
    return NULL;
}
static void during_a_pause_a_loop_goes_on_and_others_take_no_more_of_it(void **state) {
    (void)state;
    static paused_loop p;
    p = (paused_loop){ .in_callers_part = GATE_CLOSED, .in_workers_part = GATE_CLOSED };
    p.pool = new_pool_as((tpool_config){ .max_workers = 1 });
    pthread_t thread;
    assert_int_equal(0, pthread_create(&thread, NULL, loop_in_thread, &p));
    gate_await_arrivals(&p.in_callers_part, 1);
    gate_await_arrivals(&p.in_workers_part, 1);
    assert_status(TPOOL_OK, tpool_pause(p.pool));
    gate_open(&p.in_workers_part);
    EVENTUALLY(stats_of(p.pool).active == 0 || atomic_load(&p.by_others) > 1);
    int by_others = atomic_load(&p.by_others);
    gate_open(&p.in_callers_part);
    pthread_join(thread, NULL); /* without a resume */
    int by_caller = atomic_load(&p.by_caller);
    assert_status(TPOOL_OK, tpool_destroy(p.pool));
    assert_status(TPOOL_OK, p.loop);
    assert_int_equal(1, by_others);
    assert_true(by_caller > 1);
}

/* ---- Which status comes first ---- */

static void a_shut_pool_is_shut_before_it_is_full(void **state) {
    (void)state;
    for (int policy = TPOOL_FULL_BLOCK; policy <= TPOOL_FULL_DROP_OLDEST; policy++) {
        static gate hold;
        static atomic_int runs;
        hold = (gate)GATE_CLOSED;
        tpool *pool =
            new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1, .on_full = (tpool_full_policy)policy });
        tpool_future *holder = submitted(pool, gate_task, &hold);
        gate_await_arrivals(&hold, 1);
        tpool_future *filler = submitted(pool, nothing, NULL), *none = filler;
        assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
        tpool_status late = tpool_submit(pool, count_up, &runs, &none);
        tpool_status limited = tpool_run_with_timeout(pool, &(tpool_task){ .fn = count_up, .arg = &runs }, 0, NULL);
        tpool_status paused = tpool_pause(pool), resumed = tpool_resume(pool), resized = tpool_resize(pool, 2);
        tpool_status warmed = tpool_warm_up(pool, 2);
        gate_open(&hold);
        assert_status(TPOOL_OK, end_of(holder));
        assert_status(TPOOL_OK, end_of(filler));
        tpool_stats stats = stats_of(pool);
        assert_status(TPOOL_OK, tpool_destroy(pool));
        assert_status(TPOOL_SHUTDOWN, late);
        assert_null(none);
        assert_status(TPOOL_SHUTDOWN, limited);
        assert_status(TPOOL_SHUTDOWN, paused);
        assert_status(TPOOL_OK, resumed);
        assert_status(TPOOL_SHUTDOWN, resized);
        assert_status(TPOOL_SHUTDOWN, warmed);
        assert_int_equal(0, atomic_load(&runs));
        assert_int_equal(2, stats.submitted);
        assert_int_equal(0, stats.rejected);
        assert_int_equal(0, stats.dropped);
    }
}

static void a_bad_argument_is_invalid_whatever_state_the_pool_is_in(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 2, .min_workers = 2 });
    assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
    tpool_future *future = (tpool_future *)pool;
    assert_status(TPOOL_INVALID, tpool_submit(pool, NULL, NULL, &future));
    assert_null(future);
    future = (tpool_future *)pool;
    assert_status(TPOOL_INVALID, tpool_submit_task(pool, &(tpool_task){ .fn = nothing, .arg_size = 1 }, &future));
    assert_null(future);
    assert_status(TPOOL_INVALID, tpool_resize(pool, 1));
    assert_status(TPOOL_INVALID, tpool_warm_up(pool, -1));
    assert_status(TPOOL_INVALID, tpool_shutdown(pool, 16u));
    tpool_map_iter *iter = (tpool_map_iter *)pool;
    assert_status(TPOOL_INVALID, tpool_map(pool, &(tpool_map_spec){ .fn = NULL }, &iter));
    assert_null(iter);
    assert_status(TPOOL_INVALID, tpool_for(pool, 2, 1, 1, end_from_body, NULL));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static bool fail_to_start(void *context) {
    (void)context;
    return false;
}
static void a_broken_pool_stays_broken_after_a_shutdown(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .initializer = fail_to_start });
    tpool_future *first = NULL, *future = (tpool_future *)pool;
    tpool_status status = tpool_submit(pool, nothing, NULL, &first); /* it starts the worker, which may be faster */
    assert_status(TPOOL_BROKEN, status == TPOOL_OK ? end_of(first) : status);
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT));
    assert_status(TPOOL_BROKEN, tpool_submit(pool, nothing, NULL, &future));
    assert_null(future);
    assert_status(TPOOL_BROKEN, tpool_warm_up(pool, 1));
    assert_status(TPOOL_BROKEN, tpool_for(pool, 0, 1, 1, end_from_body, NULL));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void what_is_done_is_told_before_any_reason_not_to_wait(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    tpool_future *done = submitted(pool, nothing, pool);
    assert_status(TPOOL_OK, tpool_future_result(done, LIMIT, NULL));
    void *result = NULL;
    assert_status(TPOOL_OK, tpool_future_result(done, 0, &result));
    assert_ptr_equal(pool, result);
    result = NULL;
    assert_status(TPOOL_OK, tpool_future_result(done, INT64_MIN, &result));
    assert_ptr_equal(pool, result);
    tpool_future *cancelled = NULL;
    assert_status(TPOOL_OK, tpool_future_create(&cancelled));
    assert_true(tpool_future_cancel(cancelled));
    assert_status(TPOOL_CANCELLED, tpool_future_result(cancelled, INT64_MIN, &result));
    assert_null(result);
    tpool_future_release(cancelled);
    tpool_future_release(done);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* A pointer to fill holds NULL afterwards on every status but the one that gives something. */
static void every_refusal_hands_out_null(void **state) {
    (void)state;
    static gate hold;
    hold = (gate)GATE_CLOSED;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    void *junk = &hold;
    tpool_future *holder = submitted(pool, gate_task, &hold);
    gate_await_arrivals(&hold, 1);
    void *result = junk;
    tpool_status timeout = tpool_future_result(holder, 0, &result);
    void *no_future = junk;
    tpool_status without = tpool_future_result(NULL, 0, &no_future);
    const tpool_error *error = junk, *no_error = junk;
    tpool_status error_timeout = tpool_future_error(holder, 0, &error);
    tpool_status error_without = tpool_future_error(NULL, 0, &no_error);
    tpool_completions *completions = NULL;
    assert_status(TPOOL_OK, tpool_as_completed(&holder, 1, &completions));
    tpool_future *next = junk, *no_next = junk;
    tpool_status next_timeout = tpool_completions_next(completions, 0, &next);
    tpool_status next_without = tpool_completions_next(NULL, 0, &no_next);
    int item = 1;
    tpool_map_spec spec = { .fn = end_from_item, .items = &item, .count = 1, .stride = sizeof item };
    tpool_map_iter *iter = NULL;
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    void *mapped = junk, *no_mapped = junk;
    tpool_status map_timeout = tpool_map_next(iter, 0, &mapped);
    tpool_status map_without = tpool_map_next(NULL, 0, &no_mapped);
    tpool_map_close(iter);
    tpool_completions_destroy(completions);
    gate_open(&hold);
    assert_status(TPOOL_OK, end_of(holder));
    assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
    tpool_future *future = junk, *copied = junk, *tasked = junk, *limited = junk, *many[2] = { junk, junk };
    tpool_task tasks[2] = { { .fn = nothing }, { .fn = nothing } };
    size_t taken = 7;
    tpool_status refused[6] = {
        tpool_submit(pool, nothing, NULL, &future),      tpool_submit_copy(pool, nothing, &item, sizeof item, &copied),
        tpool_submit_task(pool, &tasks[0], &tasked),     tpool_run_with_timeout(pool, &tasks[0], LIMIT, &limited),
        tpool_submit_many(pool, tasks, 2, many, &taken), TPOOL_SHUTDOWN
    };
    iter = junk;
    refused[5] = tpool_map(pool, &spec, &iter);
    tpool *none = junk;
    tpool_status bad = tpool_create(&none, &(tpool_config){ .max_workers = -1 });
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_status(TPOOL_TIMEOUT, timeout);
    assert_status(TPOOL_INVALID, without);
    assert_status(TPOOL_TIMEOUT, error_timeout);
    assert_status(TPOOL_INVALID, error_without);
    assert_status(TPOOL_TIMEOUT, next_timeout);
    assert_status(TPOOL_INVALID, next_without);
    assert_status(TPOOL_TIMEOUT, map_timeout);
    assert_status(TPOOL_INVALID, map_without);
    assert_status(TPOOL_INVALID, bad);
    for (int i = 0; i < 6; i++) assert_status(TPOOL_SHUTDOWN, refused[i]);
    assert_int_equal(0, taken);
    const void *all[] = { result, no_future, error,  no_error, next,    no_next, mapped, no_mapped,
                          future, copied,    tasked, limited,  many[0], many[1], iter,   none };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) assert_null(all[i]);
}

/* ---- Tasks that end their thread ---- */

typedef struct told {
    atomic_int count;
    tpool_status status;
    char task[32];
} told;
static void note_failure(const tpool_error *error, void *context) {
    told *t = context;
    t->status = error->status;
    snprintf(t->task, sizeof t->task, "%s", error->task ? error->task : "");
    atomic_fetch_add(&t->count, 1);
}
typedef struct outside {
    tpool *pool;
    tpool_task task;
    atomic_bool came_back;
    tpool_future *future;
    bool wants;
} outside;
static void *submit_outside(void *arg) {
    outside *o = arg;
    (void)!tpool_submit_task(o->pool, &o->task, o->wants ? &o->future : NULL);
    atomic_store(&o->came_back, true);
    return NULL;
}
static void a_callers_run_that_ends_an_outside_thread_is_broken_and_the_pool_goes_on(void **state) {
    (void)state;
    static told t;
    static outside o;
    static gate hold;
    static atomic_int freed;
    hold = (gate)GATE_CLOSED;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1,
                                              .queue_capacity = 1,
                                              .on_full = TPOOL_FULL_CALLER_RUNS,
                                              .on_failure = note_failure,
                                              .context = &t });
    tpool_future *holder = submitted(pool, gate_task, &hold);
    gate_await_arrivals(&hold, 1);
    tpool_future *filler = submitted(pool, nothing, NULL);
    o.pool = pool;
    for (int round = 0; round < 3; round++) { /* with all the trimmings, with a future that is lost, plain */
        o.wants = round == 1;
        o.task = (tpool_task){ .fn = end_thread };
        if (round == 0) {
            o.task.arg = &freed;
            o.task.arg_free = count_free;
            o.task.name = "ender";
        }
        pthread_t thread;
        assert_int_equal(0, pthread_create(&thread, NULL, submit_outside, &o));
        pthread_join(thread, NULL);
    }
    bool current = tpool_current() != NULL;
    tpool_status early = tpool_drain(pool, 0);
    gate_open(&hold);
    assert_status(TPOOL_OK, end_of(holder));
    assert_status(TPOOL_OK, end_of(filler));
    tpool_status drained = tpool_drain(pool, LIMIT);
    tpool_stats stats = stats_of(pool);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_false(current);
    assert_false(atomic_load(&o.came_back));
    assert_status(TPOOL_TIMEOUT, early);
    assert_status(TPOOL_OK, drained);
    assert_int_equal(1, atomic_load(&freed));
    assert_int_equal(2, atomic_load(&t.count)); /* the lost future counts as held */
    assert_status(TPOOL_BROKEN, t.status);
    assert_int_equal(5, stats.submitted);
    assert_int_equal(2, stats.completed);
    assert_int_equal(3, stats.failed);
}

typedef struct crossing {
    tpool *full;
    atomic_int freed, survived;
    tpool_status submitted;
} crossing;
static void *submit_an_end(void *arg) {
    crossing *c = arg;
    tpool_task task = { .fn = end_thread, .arg = &c->freed, .arg_free = count_free };
    c->submitted = tpool_submit_task(c->full, &task, NULL);
    atomic_fetch_add(&c->survived, 1);
    return NULL;
}
static void a_callers_run_that_ends_a_worker_breaks_that_workers_task_too(void **state) {
    (void)state;
    static crossing c;
    static gate hold;
    hold = (gate)GATE_CLOSED;
    c.full = new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1, .on_full = TPOOL_FULL_CALLER_RUNS });
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    tpool_future *holder = submitted(c.full, gate_task, &hold);
    gate_await_arrivals(&hold, 1);
    tpool_future *filler = submitted(c.full, nothing, NULL);
    tpool_future *beneath = submitted(pool, submit_an_end, &c), *after = submitted(pool, nothing, NULL);
    tpool_status beneath_ended = end_of(beneath), after_ended = end_of(after);
    gate_open(&hold);
    assert_status(TPOOL_OK, end_of(holder));
    assert_status(TPOOL_OK, end_of(filler));
    assert_status(TPOOL_OK, tpool_drain(c.full, LIMIT));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    tpool_stats full = stats_of(c.full), own = stats_of(pool);
    assert_status(TPOOL_OK, tpool_destroy(c.full));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_status(TPOOL_BROKEN, beneath_ended);
    assert_status(TPOOL_OK, after_ended);
    assert_int_equal(0, atomic_load(&c.survived));
    assert_int_equal(1, atomic_load(&c.freed));
    assert_int_equal(1, full.failed);
    assert_int_equal(2, full.completed);
    assert_int_equal(1, own.failed);
    assert_int_equal(1, own.completed);
}

static void *raise_and_end(void *arg) {
    tpool_return_owned(arg, count_free);
    tpool_raise(7, "before the end");
    pthread_exit(NULL);
}
static void *return_and_end(void *arg) {
    tpool_return_owned(arg, count_free);
    pthread_exit(NULL);
}
static void a_thread_that_ends_after_a_raise_or_a_result_leaves_a_broken_task(void **state) {
    (void)state;
    static atomic_int freed[2];
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    tpool_future *raised = submitted(pool, raise_and_end, &freed[0]);
    tpool_future *returned = submitted(pool, return_and_end, &freed[1]);
    assert_status(TPOOL_BROKEN, tpool_future_result(raised, LIMIT, NULL));
    assert_status(TPOOL_BROKEN, tpool_future_result(returned, LIMIT, NULL));
    assert_int_equal(1, atomic_load(&freed[0]));
    assert_int_equal(1, atomic_load(&freed[1]));
    const tpool_error *error = NULL;
    assert_status(TPOOL_OK, tpool_future_error(raised, 0, &error));
    assert_status(TPOOL_BROKEN, error->status);
    assert_string_equal(tpool_status_text(TPOOL_BROKEN), tpool_future_message(returned));
    assert_int_equal(0, tpool_future_result_size(returned));
    tpool_future_release(raised);
    tpool_future_release(returned);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Map ---- */

typedef struct source {
    int next, ends_at, given, freed, asked;
} source;
static bool next_number(void *context, void **item) {
    source *s = context;
    s->asked++;
    if (s->next == s->ends_at) return false;
    *item = (void *)(intptr_t)++s->next;
    s->given++;
    return true;
}
static void count_item_free(void *item, void *context) {
    (void)item;
    ((source *)context)->freed++;
}

/* After a shutdown in the middle every item taken still has its own end, and after the last comes TPOOL_END. */
static void a_source_shut_down_in_the_middle_ends_with_what_was_taken(void **state) {
    (void)state;
    for (unsigned flags = 0; flags <= TPOOL_CANCEL_PENDING; flags += TPOOL_CANCEL_PENDING) {
        static source s;
        s = (source){ .ends_at = 1000000 };
        tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
        tpool_map_spec spec = { .fn = same_item,
                                .context = &s,
                                .next = next_number,
                                .chunk_size = 1,
                                .buffer_size = 4,
                                .item_free = count_item_free };
        tpool_map_iter *iter = NULL;
        assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
        assert_int_equal(4, s.given);
        void *result = NULL;
        for (intptr_t i = 1; i <= 10; i++) {
            assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, &result));
            assert_int_equal(i, (intptr_t)result);
            assert_int_equal(i + 4, s.given); /* exactly four ahead */
        }
        assert_status(TPOOL_OK, tpool_shutdown(pool, flags));
        int taken = s.given, ok = 0, cancelled = 0, other = 0;
        tpool_status status;
        while ((status = tpool_map_next(iter, LIMIT, &result)) != TPOOL_END && other == 0) {
            if (status == TPOOL_OK && cancelled == 0) ok++;
            else if (status == TPOOL_CANCELLED && !result) cancelled++;
            else other++;
        }
        assert_status(TPOOL_END, tpool_map_next(iter, LIMIT, &result));
        assert_null(result);
        tpool_map_close(iter);
        assert_status(TPOOL_OK, tpool_destroy(pool));
        assert_int_equal(0, other);
        assert_int_equal(s.given, 10 + ok + cancelled); /* one end for each item taken */
        assert_true(s.given < s.ends_at);               /* and no run on to the source's end */
        if (flags == 0) assert_true(ok >= taken - 10);  /* what was taken before completes */
        assert_int_equal(s.given, s.freed);
    }
}

static void a_timeout_of_map_next_takes_nothing_from_the_source(void **state) {
    (void)state;
    static source s;
    static gate hold;
    s = (source){ .ends_at = 9 };
    hold = (gate)GATE_CLOSED;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    tpool_future *holder = submitted(pool, gate_task, &hold);
    gate_await_arrivals(&hold, 1);
    tpool_map_spec spec = { .fn = same_item, .context = &s, .next = next_number, .buffer_size = 3 };
    tpool_map_iter *iter = NULL;
    tpool_status mapped = tpool_map(pool, &spec, &iter);
    int asked = s.asked;
    tpool_status timeouts[2] = { tpool_map_next(iter, 0, NULL), tpool_map_next(iter, TPOOL_MS(5), NULL) };
    int asked_after = s.asked;
    const tpool_error *error = NULL;
    tpool_status before_any = tpool_map_error(iter, &error);
    gate_open(&hold);
    int ok = 0;
    while (tpool_map_next(iter, LIMIT, NULL) == TPOOL_OK) ok++;
    tpool_map_close(iter);
    assert_status(TPOOL_OK, end_of(holder));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_status(TPOOL_OK, mapped);
    assert_int_equal(3, asked);
    assert_int_equal(3, asked_after);
    for (int i = 0; i < 2; i++) assert_status(TPOOL_TIMEOUT, timeouts[i]);
    assert_status(TPOOL_INVALID_STATE, before_any);
    assert_int_equal(9, ok);
}

/* ---- Submit many, on a shutdown in between ---- */

typedef struct many_in_back {
    tpool *pool;
    tpool_task tasks[5];
    tpool_future *futures[5];
    size_t taken;
    tpool_status got;
} many_in_back;
static void *submit_many_in_back(void *arg) {
    many_in_back *m = arg;
    m->got = tpool_submit_many(m->pool, m->tasks, 5, m->futures, &m->taken);
    return NULL;
}
static void submit_many_that_waits_for_room_tells_what_a_shutdown_left(void **state) {
    (void)state;
    static many_in_back m;
    static gate hold;
    static atomic_int freed;
    hold = (gate)GATE_CLOSED;
    m.pool = new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 2 });
    tpool_future *holder = submitted(m.pool, gate_task, &hold);
    gate_await_arrivals(&hold, 1);
    for (int i = 0; i < 5; i++) {
        m.tasks[i] = (tpool_task){ .fn = nothing, .arg = &freed, .arg_free = count_free };
        m.futures[i] = holder;
    }
    pthread_t thread;
    assert_int_equal(0, pthread_create(&thread, NULL, submit_many_in_back, &m));
    EVENTUALLY(stats_of(m.pool).queued == 2);
    assert_status(TPOOL_OK, tpool_shutdown(m.pool, 0));
    pthread_join(thread, NULL);
    gate_open(&hold);
    assert_status(TPOOL_OK, end_of(holder));
    assert_status(TPOOL_OK, tpool_drain(m.pool, LIMIT));
    int frees = atomic_load(&freed);
    assert_status(TPOOL_SHUTDOWN, m.got);
    assert_int_equal(2, m.taken);
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, end_of(m.futures[i]));
    for (int i = 2; i < 5; i++) assert_null(m.futures[i]);
    assert_int_equal(2, frees);
    assert_status(TPOOL_OK, tpool_destroy(m.pool));
}

/* ---- Priorities and a full queue ---- */

typedef struct line {
    int at;
    int order[8];
} line;
typedef struct numbered {
    line *line;
    int number;
} numbered;
static void *note_number(void *arg) {
    numbered *n = arg;
    n->line->order[n->line->at++] = n->number; /* one worker: one at a time */
    return NULL;
}
typedef struct blocked_task {
    tpool *pool;
    tpool_task task;
    tpool_status got;
} blocked_task;
static void *submit_blocked(void *arg) {
    blocked_task *b = arg;
    b->got = tpool_submit_task(b->pool, &b->task, NULL);
    return NULL;
}
/* A submitter that waited for room is late to the queue, but its task's priority holds from then on. */
static void a_task_that_waited_for_room_has_its_priority(void **state) {
    (void)state;
    static gate hold, second;
    static line l;
    static numbered n[4];
    static blocked_task b;
    hold = second = (gate)GATE_CLOSED;
    l.at = 0;
    for (int i = 0; i < 4; i++) n[i] = (numbered){ &l, i };
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 3 });
    tpool_future *holder = submitted(pool, gate_task, &hold);
    gate_await_arrivals(&hold, 1);
    tpool_future *next = submitted_task(pool, (tpool_task){ .fn = gate_task, .arg = &second, .priority = 9 });
    tpool_future *normal = submitted_task(pool, (tpool_task){ .fn = note_number, .arg = &n[0] });
    tpool_future *low = submitted_task(pool, (tpool_task){ .fn = note_number, .arg = &n[1], .priority = -1 });
    b = (blocked_task){ pool, { .fn = note_number, .arg = &n[2], .priority = 5 }, TPOOL_INVALID };
    pthread_t thread;
    assert_int_equal(0, pthread_create(&thread, NULL, submit_blocked, &b));
    sleep_ms(20);     /* it is about to wait; were it not, it would be taken all the same */
    gate_open(&hold); /* the second gate's task starts, and makes room */
    gate_await_arrivals(&second, 1);
    pthread_join(thread, NULL);
    gate_open(&second);
    assert_status(TPOOL_OK, end_of(holder));
    assert_status(TPOOL_OK, end_of(next));
    assert_status(TPOOL_OK, end_of(normal));
    assert_status(TPOOL_OK, end_of(low));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_status(TPOOL_OK, b.got);
    assert_int_equal(3, l.at);
    assert_int_equal(2, l.order[0]);
    assert_int_equal(0, l.order[1]);
    assert_int_equal(1, l.order[2]);
}

/* ---- Time limits of a task ---- */

static void a_task_that_expires_in_a_limited_run_tells_so_and_not_the_limit(void **state) {
    (void)state;
    static gate hold;
    hold = (gate)GATE_CLOSED;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    tpool_future *holder = submitted(pool, gate_task, &hold), *future = NULL, *late = NULL;
    gate_await_arrivals(&hold, 1);
    tpool_task task = { .fn = nothing, .expires_ns = TPOOL_MS(10) };
    tpool_status expired = tpool_run_with_timeout(pool, &task, LIMIT, &future);
    task.expires_ns = LIMIT;
    tpool_status timeout = tpool_run_with_timeout(pool, &task, TPOOL_MS(10), &late);
    gate_open(&hold);
    assert_status(TPOOL_OK, end_of(holder));
    assert_status(TPOOL_EXPIRED, end_of(future));
    assert_status(TPOOL_CANCELLED, end_of(late));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_status(TPOOL_EXPIRED, expired);
    assert_status(TPOOL_TIMEOUT, timeout);
}

static void a_limited_run_with_no_time_at_all_is_cancelled_or_done(void **state) {
    (void)state;
    static gate hold;
    static atomic_int runs;
    hold = (gate)GATE_CLOSED;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    tpool_future *holder = submitted(pool, gate_task, &hold), *future = NULL;
    gate_await_arrivals(&hold, 1);
    tpool_status status = tpool_run_with_timeout(pool, &(tpool_task){ .fn = count_up, .arg = &runs }, -1, &future);
    gate_open(&hold);
    assert_status(TPOOL_OK, end_of(holder));
    assert_status(TPOOL_CANCELLED, end_of(future));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_status(TPOOL_TIMEOUT, status);
    assert_int_equal(0, atomic_load(&runs));
}

/* ---- fork ---- */

static void after_a_fork_even_calls_that_threads_do_not_know_give_broken(void **state) {
    (void)state;
#if HAVE_FORK
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int wrong = 0;
        wrong |= tpool_kill_workers(pool) != TPOOL_BROKEN;
        wrong |= (tpool_run_with_timeout(pool, &(tpool_task){ .fn = nothing }, 0, NULL) != TPOOL_BROKEN) << 1;
        wrong |= (tpool_resume(pool) != TPOOL_BROKEN) << 2;
        _exit(wrong);
    }
    int status = 0;
    assert_int_equal(child, waitpid(child, &status, 0));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_true(WIFEXITED(status));
    assert_int_equal(0, WEXITSTATUS(status));
#else
    skip();
#endif
}

static const struct CMUnitTest tests[] = {
    TEST(a_look_at_all_of_many_ends_every_one_whose_time_has_passed),
    TEST(a_look_for_the_first_of_many_ends_every_one_whose_time_has_passed),
    TEST(a_wait_for_all_notices_an_expiry_when_it_passes_while_others_go_on),
    TEST(cancels_adds_and_callbacks_notice_an_expiry_too),
    TEST(a_task_in_place_within_a_callers_run_is_its_own_pools),
    TEST(a_finalizer_that_waits_keeps_no_other_worker_from_working),
    TEST(a_finalizer_may_wait_for_work_that_its_own_pool_does_elsewhere),
    TEST(drain_without_time_tells_soon_that_a_used_pool_is_at_rest),
    TEST(drain_tells_at_once_that_a_warm_pool_is_at_rest),
    TEST(ending_its_pool_from_arg_free_is_a_deadlock),
    TEST(ending_its_pool_from_the_free_of_a_result_that_nobody_holds_is_a_deadlock),
    TEST(ending_its_pool_from_a_callers_run_outside_is_a_deadlock),
    TEST(ending_its_pool_from_an_item_a_body_or_a_job_is_a_deadlock),
    TEST(a_callback_of_a_pool_that_is_gone_may_end_a_new_one),
    TEST(during_a_pause_a_loop_goes_on_and_others_take_no_more_of_it),
    TEST(a_shut_pool_is_shut_before_it_is_full),
    TEST(a_bad_argument_is_invalid_whatever_state_the_pool_is_in),
    TEST(a_broken_pool_stays_broken_after_a_shutdown),
    TEST(what_is_done_is_told_before_any_reason_not_to_wait),
    TEST(every_refusal_hands_out_null),
    TEST(a_callers_run_that_ends_an_outside_thread_is_broken_and_the_pool_goes_on),
    TEST(a_callers_run_that_ends_a_worker_breaks_that_workers_task_too),
    TEST(a_thread_that_ends_after_a_raise_or_a_result_leaves_a_broken_task),
    TEST(a_source_shut_down_in_the_middle_ends_with_what_was_taken),
    TEST(a_timeout_of_map_next_takes_nothing_from_the_source),
    TEST(submit_many_that_waits_for_room_tells_what_a_shutdown_left),
    TEST(a_task_that_waited_for_room_has_its_priority),
    TEST(a_task_that_expires_in_a_limited_run_tells_so_and_not_the_limit),
    TEST(a_limited_run_with_no_time_at_all_is_cancelled_or_done),
    TEST(after_a_fork_even_calls_that_threads_do_not_know_give_broken),
};
RUN_TESTS(tests)
