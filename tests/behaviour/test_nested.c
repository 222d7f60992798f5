/* Waiting inside a task: a wanted task runs in place on the waiter's stack, for everything else the pool gets a spare
   worker, and no unrelated task ever runs inside a wait. */
#include "support.h"
#include "support/waits.h"
#ifdef __linux__
#include <sys/resource.h>
#endif

/* Runs a task from outside. With every worker of the pool busy this ends only once one of them has begun to block. */
static void probe(tpool *pool) { take(submitted(pool, nothing, NULL)); }

/* ---- Which waits run the wanted task in place, and which get a spare worker. */

typedef enum way {
    BY_RESULT,
    BY_ERROR,
    BY_WAIT_FOR_ALL,
    BY_RESULT_TIMED,
    BY_ERROR_TIMED,
    BY_WAIT_FOR_ALL_TIMED,
    BY_WAIT_FOR_FIRST,
    BY_WAIT_FOR_FIRST_TIMED,
    BY_WAIT_FOR_EXCEPTION,
    BY_WAIT_FOR_EXCEPTION_TIMED,
    BY_COMPLETIONS,
    BY_COMPLETIONS_TIMED,
    WAYS
} way;

/* Waits for a future that fails, in the given way; `never` is one that is not completed meanwhile. True: it waited
   until the end. */
static bool wait_this_way(way how, tpool_future *future, tpool_future *never) {
    tpool_future *one[1] = { future }, *both[2] = { never, future }, *yielded = NULL;
    tpool_completions *completions = NULL;
    const tpool_error *error = NULL;
    size_t done = 0;
    bool ended = false;
    switch (how) {
    case BY_RESULT: return tpool_future_result(future, TPOOL_FOREVER, NULL) == TPOOL_FAILED;
    case BY_ERROR: return tpool_future_error(future, TPOOL_FOREVER, &error) == TPOOL_OK && error != NULL;
    case BY_WAIT_FOR_ALL: return tpool_wait(one, 1, TPOOL_ALL_COMPLETED, TPOOL_FOREVER, &done) == TPOOL_OK && done == 1;
    case BY_RESULT_TIMED: return tpool_future_result(future, LIMIT, NULL) == TPOOL_FAILED;
    case BY_ERROR_TIMED: return tpool_future_error(future, LIMIT, &error) == TPOOL_OK && error != NULL;
    case BY_WAIT_FOR_ALL_TIMED: return tpool_wait(one, 1, TPOOL_ALL_COMPLETED, LIMIT, &done) == TPOOL_OK && done == 1;
    case BY_WAIT_FOR_FIRST:
        return tpool_wait(both, 2, TPOOL_FIRST_COMPLETED, TPOOL_FOREVER, &done) == TPOOL_OK && done == 1;
    case BY_WAIT_FOR_FIRST_TIMED:
        return tpool_wait(both, 2, TPOOL_FIRST_COMPLETED, LIMIT, &done) == TPOOL_OK && done == 1;
    case BY_WAIT_FOR_EXCEPTION:
        return tpool_wait(both, 2, TPOOL_FIRST_EXCEPTION, TPOOL_FOREVER, &done) == TPOOL_OK && done == 1;
    case BY_WAIT_FOR_EXCEPTION_TIMED:
        return tpool_wait(both, 2, TPOOL_FIRST_EXCEPTION, LIMIT, &done) == TPOOL_OK && done == 1;
    case BY_COMPLETIONS:
    case BY_COMPLETIONS_TIMED:
        if (tpool_as_completed(both, 2, &completions) != TPOOL_OK) return false;
        ended =
            tpool_completions_next(completions, how == BY_COMPLETIONS ? TPOOL_FOREVER : LIMIT, &yielded) == TPOOL_OK &&
            yielded == future;
        tpool_completions_destroy(completions);
        return ended;
    default: return false;
    }
}

typedef struct nested_wait {
    tpool *pool;
    way how;
    bool for_bare; /* wait for a bare future that the child completes, else for the child itself */
    tpool_future *bare, *never;
    pthread_t parent_thread, child_thread;
    int parent_worker, child_worker;
    tpool_status submitted;
    bool waited;
} nested_wait;

static void *fail_or_complete(void *arg) {
    nested_wait *n = arg;
    n->child_thread = pthread_self();
    n->child_worker = tpool_current_worker();
    if (n->for_bare) {
        if (tpool_future_set_error(n->bare, 7, "as expected") != TPOOL_OK) abort();
        return NULL;
    }
    return tpool_raise(7, "as expected");
}

static void *submit_and_wait(void *arg) {
    nested_wait *n = arg;
    tpool_future *child = NULL;
    n->parent_thread = pthread_self();
    n->parent_worker = tpool_current_worker();
    n->submitted = tpool_submit(n->pool, fail_or_complete, n, &child);
    if (n->submitted == TPOOL_OK) n->waited = wait_this_way(n->how, n->for_bare ? n->bare : child, n->never);
    tpool_future_release(child);
    return NULL;
}

static void check_nested_wait(way how, bool for_bare, bool in_place) {
    tpool *pool = create_pool(1, 0);
    nested_wait n = { .pool = pool, .how = how, .for_bare = for_bare };
    assert_status(TPOOL_OK, tpool_future_create(&n.bare));
    assert_status(TPOOL_OK, tpool_future_create(&n.never));
    take(submitted(pool, submit_and_wait, &n));
    assert_status(TPOOL_OK, n.submitted);
    assert_true(n.waited);
    assert_int_equal(0, n.parent_worker);
    tpool_stats stats = stats_at_rest(pool);
    if (in_place) {
        assert_true(pthread_equal(n.parent_thread, n.child_thread));
        assert_int_equal(0, n.child_worker);
        assert_int_equal(1, stats.inlined);
        assert_int_equal(0, stats.spared);
    } else {
        assert_false(pthread_equal(n.parent_thread, n.child_thread));
        assert_true(n.child_worker >= 1);
        assert_int_equal(0, stats.inlined);
        assert_true(stats.spared >= 1);
    }
    EVENTUALLY(stats_of(pool).workers <= 1);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    tpool_future_release(n.bare);
    tpool_future_release(n.never);
}

static void waits_without_limit_for_one_or_all_run_the_wanted_task_in_place(void **state) {
    (void)state;
    check_nested_wait(BY_RESULT, false, true);
    check_nested_wait(BY_ERROR, false, true);
    check_nested_wait(BY_WAIT_FOR_ALL, false, true);
}

static void waits_with_a_limit_get_a_spare_worker(void **state) {
    (void)state;
    check_nested_wait(BY_RESULT_TIMED, false, false);
    check_nested_wait(BY_ERROR_TIMED, false, false);
    check_nested_wait(BY_WAIT_FOR_ALL_TIMED, false, false);
}

static void waits_for_the_first_of_several_get_a_spare_worker(void **state) {
    (void)state;
    check_nested_wait(BY_WAIT_FOR_FIRST, false, false);
    check_nested_wait(BY_WAIT_FOR_FIRST_TIMED, false, false);
    check_nested_wait(BY_WAIT_FOR_EXCEPTION, false, false);
    check_nested_wait(BY_WAIT_FOR_EXCEPTION_TIMED, false, false);
    check_nested_wait(BY_COMPLETIONS, false, false);
    check_nested_wait(BY_COMPLETIONS_TIMED, false, false);
}

static void every_wait_for_what_a_queued_task_completes_gets_a_spare_worker(void **state) {
    (void)state;
    for (int how = 0; how < WAYS; how++) check_nested_wait((way)how, true, false);
}

/* A task of `home` waits for one of `away`, which waits for another of `home`. */
typedef struct detour {
    tpool *home, *away;
    tpool_future *last;
    pthread_t first_thread, middle_thread, last_thread;
    tpool *middle_pool, *last_pool;
    int last_worker;
    tpool_status first_got, middle_got;
} detour;

static void *detour_last(void *arg) {
    detour *d = arg;
    d->last_thread = pthread_self();
    d->last_pool = tpool_current();
    d->last_worker = tpool_current_worker();
    return NULL;
}

static void *detour_middle(void *arg) {
    detour *d = arg;
    d->middle_thread = pthread_self();
    d->middle_pool = tpool_current();
    d->middle_got = tpool_future_result(d->last, TPOOL_FOREVER, NULL);
    return NULL;
}

static void *detour_first(void *arg) {
    detour *d = arg;
    tpool_future *middle = NULL;
    d->first_thread = pthread_self();
    if (tpool_submit(d->home, detour_last, d, &d->last) != TPOOL_OK) abort();
    if (tpool_submit(d->away, detour_middle, d, &middle) != TPOOL_OK) abort();
    d->first_got = tpool_future_result(middle, TPOOL_FOREVER, NULL);
    tpool_future_release(middle);
    tpool_future_release(d->last);
    return NULL;
}

static void a_wait_for_another_pools_task_gets_a_spare_worker(void **state) {
    (void)state;
    detour d = { .home = create_pool(1, 0), .away = create_pool(1, 0) };
    take(submitted(d.home, detour_first, &d));
    assert_status(TPOOL_OK, d.first_got);
    assert_status(TPOOL_OK, d.middle_got);
    assert_ptr_equal(d.away, d.middle_pool);
    assert_ptr_equal(d.home, d.last_pool);
    assert_false(pthread_equal(d.first_thread, d.middle_thread));
    assert_false(pthread_equal(d.first_thread, d.last_thread));
    assert_false(pthread_equal(d.middle_thread, d.last_thread));
    assert_true(d.last_worker >= 1);
    assert_int_equal(0, stats_at_rest(d.home).inlined);
    assert_int_equal(0, stats_at_rest(d.away).inlined);
    assert_status(TPOOL_OK, tpool_destroy(d.home));
    assert_status(TPOOL_OK, tpool_destroy(d.away));
}

/* A waiter that has the other pool's queued task at hand still leaves it to that pool. */
typedef struct stranger {
    tpool *away;
    pthread_t waiter, ran_on;
    tpool *ran_in;
    tpool_status got;
    atomic_bool ran;
} stranger;

static void *note_where(void *arg) {
    stranger *s = arg;
    s->ran_on = pthread_self();
    s->ran_in = tpool_current();
    atomic_store(&s->ran, true);
    return NULL;
}

static void *wait_for_stranger(void *arg) {
    stranger *s = arg;
    tpool_future *future = NULL;
    s->waiter = pthread_self();
    if (tpool_submit(s->away, note_where, s, &future) != TPOOL_OK) abort();
    s->got = tpool_future_result(future, TPOOL_FOREVER, NULL);
    tpool_future_release(future);
    return NULL;
}

static void a_task_never_runs_on_another_pools_thread(void **state) {
    (void)state;
    gate held = GATE_CLOSED;
    tpool *home = create_pool(1, 0);
    stranger s = { .away = create_pool(1, 0) };
    tpool_future *holder = submitted(s.away, gate_task, &held);
    EVENTUALLY(gate_arrived(&held) == 1); /* its own pool cannot run the wanted task now */
    tpool_future *waiter = submitted(home, wait_for_stranger, &s);
    probe(home); /* queued behind the waiter: done once that one blocks, or wrongly has run it itself */
    assert_false(atomic_load(&s.ran));
    gate_open(&held);
    take(holder);
    take(waiter);
    assert_status(TPOOL_OK, s.got);
    assert_ptr_equal(s.away, s.ran_in);
    assert_false(pthread_equal(s.waiter, s.ran_on));
    assert_status(TPOOL_OK, tpool_destroy(home));
    assert_status(TPOOL_OK, tpool_destroy(s.away));
}

/* ---- Other calls that can wait. */

typedef struct busy_drain {
    tpool *home, *away;
    tpool_future *needed;
    tpool_status drained, middle_got;
} busy_drain;

static void *complete_needed(void *arg) {
    busy_drain *b = arg;
    if (tpool_future_set_result(b->needed, NULL) != TPOOL_OK) abort();
    return NULL;
}

static void *await_needed(void *arg) {
    busy_drain *b = arg;
    b->middle_got = tpool_future_result(b->needed, TPOOL_FOREVER, NULL);
    return NULL;
}

static void *drain_other_pool(void *arg) {
    busy_drain *b = arg;
    if (tpool_submit(b->away, await_needed, b, NULL) != TPOOL_OK) abort();
    if (tpool_submit(b->home, complete_needed, b, NULL) != TPOOL_OK) abort();
    b->drained = tpool_drain(b->away, TPOOL_FOREVER);
    return NULL;
}

static void a_task_that_drains_another_pool_gets_a_spare_worker(void **state) {
    (void)state;
    busy_drain b = { .home = create_pool(1, 0), .away = create_pool(1, 0) };
    assert_status(TPOOL_OK, tpool_future_create(&b.needed));
    take(submitted(b.home, drain_other_pool, &b));
    assert_status(TPOOL_OK, b.drained);
    assert_status(TPOOL_OK, b.middle_got);
    assert_true(stats_at_rest(b.home).spared >= 1);
    assert_status(TPOOL_OK, tpool_destroy(b.home));
    assert_status(TPOOL_OK, tpool_destroy(b.away));
    tpool_future_release(b.needed);
}

typedef struct flood {
    tpool *pool;
    int count, refused;
    atomic_int ran;
} flood;

static void *count_run(void *arg) {
    atomic_fetch_add(&((flood *)arg)->ran, 1);
    return NULL;
}

static void *flood_own_queue(void *arg) {
    flood *f = arg;
    for (int i = 0; i < f->count; i++) {
        if (tpool_submit(f->pool, count_run, f, NULL) != TPOOL_OK) f->refused++;
    }
    return NULL;
}

static void a_task_that_blocks_on_its_own_pools_full_queue_gets_a_spare_worker(void **state) {
    (void)state;
    tpool_config config = { .max_workers = 1, .queue_capacity = 2 };
    flood f = { .count = COUNT(1000) };
    assert_status(TPOOL_OK, tpool_create(&f.pool, &config));
    take(submitted(f.pool, flood_own_queue, &f));
    assert_status(TPOOL_OK, tpool_drain(f.pool, LIMIT));
    assert_int_equal(0, f.refused);
    assert_int_equal(f.count, atomic_load(&f.ran));
    assert_true(stats_at_rest(f.pool).spared >= 1);
    assert_status(TPOOL_OK, tpool_destroy(f.pool));
}

typedef struct limited {
    tpool *pool;
    tpool_status got;
    pthread_t parent, child;
} limited;

static void *note_thread(void *arg) {
    ((limited *)arg)->child = pthread_self();
    return NULL;
}

static void *run_limited(void *arg) {
    limited *l = arg;
    tpool_task task = { .fn = note_thread, .arg = l };
    l->parent = pthread_self();
    l->got = tpool_run_with_timeout(l->pool, &task, LIMIT, NULL);
    return NULL;
}

static void a_task_that_runs_another_with_a_time_limit_gets_a_spare_worker(void **state) {
    (void)state;
    limited l = { .pool = create_pool(1, 0) };
    take(submitted(l.pool, run_limited, &l));
    assert_status(TPOOL_OK, l.got);
    assert_false(pthread_equal(l.parent, l.child));
    assert_status(TPOOL_OK, tpool_destroy(l.pool));
}

/* ---- What running in place means. */

static _Thread_local int thread_mark;

typedef struct sharing {
    tpool *pool;
    int child_saw, parent_saw;
} sharing;

static void *look_at_mark(void *arg) {
    ((sharing *)arg)->child_saw = thread_mark;
    thread_mark = 2;
    return NULL;
}

static void *share_mark(void *arg) {
    sharing *s = arg;
    tpool_future *child = NULL;
    thread_mark = 1;
    if (tpool_submit(s->pool, look_at_mark, s, &child) != TPOOL_OK) abort();
    if (tpool_future_result(child, TPOOL_FOREVER, NULL) != TPOOL_OK) abort();
    tpool_future_release(child);
    s->parent_saw = thread_mark;
    return NULL;
}

static void a_task_run_in_place_shares_the_waiters_thread_local_state(void **state) {
    (void)state;
    sharing s = { .pool = create_pool(1, 0) };
    take(submitted(s.pool, share_mark, &s));
    assert_int_equal(1, s.child_saw);
    assert_int_equal(2, s.parent_saw);
    assert_status(TPOOL_OK, tpool_destroy(s.pool));
}

typedef struct layers {
    tpool *pool;
    gate started;
    tpool_future *parent;
    bool parent_before, child_saw, parent_after;
    tpool_status child_status;
    int child_code;
} layers;

static void *child_layer(void *arg) {
    layers *l = arg;
    l->child_saw = tpool_stop_requested();
    return tpool_raise(5, "the child's own");
}

static void *parent_layer(void *arg) {
    layers *l = arg;
    tpool_future *child = NULL;
    const tpool_error *error = NULL;
    gate_pass(&l->started);
    l->parent_before = tpool_stop_requested();
    if (tpool_submit(l->pool, child_layer, l, &child) != TPOOL_OK) abort();
    l->child_status = tpool_future_result(child, TPOOL_FOREVER, NULL);
    if (tpool_future_error(child, 0, &error) == TPOOL_OK && error != NULL) l->child_code = error->code;
    tpool_future_release(child);
    l->parent_after = tpool_stop_requested();
    return l;
}

static void stop_requests_and_errors_belong_to_the_innermost_task(void **state) {
    (void)state;
    layers l = { .pool = create_pool(1, 0), .started = GATE_CLOSED };
    l.parent = submitted(l.pool, parent_layer, &l);
    EVENTUALLY(gate_arrived(&l.started) == 1);
    tpool_future_request_stop(l.parent);
    gate_open(&l.started);
    assert_ptr_equal(&l, take(l.parent)); /* the child's error is not the parent's */
    assert_true(l.parent_before);
    assert_false(l.child_saw);
    assert_true(l.parent_after);
    assert_status(TPOOL_FAILED, l.child_status);
    assert_int_equal(5, l.child_code);
    assert_int_equal(1, stats_at_rest(l.pool).inlined);
    assert_status(TPOOL_OK, tpool_destroy(l.pool));
}

/* ---- While the pool is paused. */

typedef struct paused_wait {
    tpool *pool;
    gate started;
    bool all;
    atomic_int waiter;
    atomic_bool waiting, paused;
    bool child_ran_in_pause;
    tpool_status got;
} paused_wait;

static void *note_pause(void *arg) {
    paused_wait *p = arg;
    p->child_ran_in_pause = atomic_load(&p->paused);
    return NULL;
}

static void *wait_in_pause(void *arg) {
    paused_wait *p = arg;
    tpool_future *child = NULL;
    atomic_store(&p->waiter, system_thread());
    gate_pass(&p->started);
    if (tpool_submit(p->pool, note_pause, p, &child) != TPOOL_OK) abort();
    atomic_store(&p->waiting, true);
    p->got = p->all ? tpool_wait(&child, 1, TPOOL_ALL_COMPLETED, TPOOL_FOREVER, NULL)
                    : tpool_future_result(child, TPOOL_FOREVER, NULL);
    tpool_future_release(child);
    return NULL;
}

static void nothing_runs_in_place_while_the_pool_is_paused(void **state) {
    (void)state;
    for (int all = 0; all <= 1; all++) {
        paused_wait p = { .pool = create_pool(1, 0), .started = GATE_CLOSED, .all = all == 1 };
        tpool_future *waiter = submitted(p.pool, wait_in_pause, &p);
        EVENTUALLY(gate_arrived(&p.started) == 1);
        assert_status(TPOOL_OK, tpool_pause(p.pool));
        atomic_store(&p.paused, true);
        gate_open(&p.started);
        EVENTUALLY(atomic_load(&p.waiting));
        await_thread_asleep(&p.waiter);
        assert_int_equal(1, stats_of(p.pool).queued);
        assert_false(tpool_future_done(waiter));
        atomic_store(&p.paused, false);
        assert_status(TPOOL_OK, tpool_resume(p.pool));
        take(waiter);
        assert_status(TPOOL_OK, p.got);
        assert_false(p.child_ran_in_pause);
        assert_status(TPOOL_OK, tpool_destroy(p.pool));
    }
}

/* ---- No unrelated task inside a wait: a user's lock that is held across the wait would not let it through. The lock
   checks for errors, so that the mistake shows as EDEADLK and not as a hang. */

typedef struct locked {
    tpool *pool;
    pthread_mutex_t lock;
    bool all;
    gate held; /* for the wanted task that runs elsewhere */
    tpool_future *elsewhere;
    int waiter_lock, bystander_lock;
    tpool_status got;
    pthread_t waiter, bystander;
    atomic_bool bystander_started;
    tpool_future *bystander_future;
} locked;

static void make_error_checking(pthread_mutex_t *lock) {
    pthread_mutexattr_t attributes;
    assert_int_equal(0, pthread_mutexattr_init(&attributes));
    assert_int_equal(0, pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK));
    assert_int_equal(0, pthread_mutex_init(lock, &attributes));
    pthread_mutexattr_destroy(&attributes);
}

static void *take_lock(void *arg) {
    locked *l = arg;
    l->bystander = pthread_self();
    atomic_store(&l->bystander_started, true);
    l->bystander_lock = pthread_mutex_lock(&l->lock);
    if (l->bystander_lock == 0) pthread_mutex_unlock(&l->lock);
    return NULL;
}

static void *hold_lock_and_wait(void *arg) {
    locked *l = arg;
    tpool_future *wanted[2] = { NULL, NULL };
    l->waiter = pthread_self();
    l->waiter_lock = pthread_mutex_lock(&l->lock);
    if (tpool_submit(l->pool, take_lock, l, &l->bystander_future) != TPOOL_OK) abort();
    if (l->elsewhere != NULL) {
        l->got = tpool_future_result(l->elsewhere, TPOOL_FOREVER, NULL);
    } else {
        for (int i = 0; i < 2; i++) {
            if (tpool_submit(l->pool, nothing, NULL, &wanted[i]) != TPOOL_OK) abort();
        }
        l->got = l->all ? tpool_wait(wanted, 2, TPOOL_ALL_COMPLETED, TPOOL_FOREVER, NULL)
                        : tpool_future_result(wanted[1], TPOOL_FOREVER, NULL);
        for (int i = 0; i < 2; i++) tpool_future_release(wanted[i]);
    }
    if (l->waiter_lock == 0) pthread_mutex_unlock(&l->lock);
    return NULL;
}

static void a_task_queued_before_the_wanted_one_does_not_run_inside_the_wait(void **state) {
    (void)state;
    for (int all = 0; all <= 1; all++) {
        locked l = { .pool = create_pool(1, 0), .all = all == 1 };
        make_error_checking(&l.lock);
        take(submitted(l.pool, hold_lock_and_wait, &l));
        take(l.bystander_future);
        assert_status(TPOOL_OK, l.got);
        assert_int_equal(0, l.waiter_lock);
        assert_int_equal(0, l.bystander_lock);
        assert_status(TPOOL_OK, tpool_destroy(l.pool));
        pthread_mutex_destroy(&l.lock);
    }
}

static void a_waiter_whose_task_runs_elsewhere_leaves_the_queue_to_a_spare(void **state) {
    (void)state;
    locked l = { .pool = create_pool(2, 0), .held = GATE_CLOSED };
    make_error_checking(&l.lock);
    l.elsewhere = submitted(l.pool, gate_task, &l.held);
    EVENTUALLY(gate_arrived(&l.held) == 1);
    tpool_future *waiter = submitted(l.pool, hold_lock_and_wait, &l);
    EVENTUALLY(atomic_load(&l.bystander_started)); /* both workers are taken: a spare runs it, while the lock is held */
    assert_false(tpool_future_done(waiter));
    gate_open(&l.held);
    take(waiter);
    take(l.bystander_future);
    take(l.elsewhere);
    assert_status(TPOOL_OK, l.got);
    assert_int_equal(0, l.bystander_lock);
    assert_false(pthread_equal(l.waiter, l.bystander));
    assert_status(TPOOL_OK, tpool_destroy(l.pool));
    pthread_mutex_destroy(&l.lock);
}

/* ---- The life of spare workers. */

static void *await_future(void *arg) {
    return (void *)(intptr_t)tpool_future_result((tpool_future *)arg, TPOOL_FOREVER, NULL);
}

typedef struct lone_waiter {
    tpool_future *bare;
    atomic_int thread; /* 0 until it is about to wait */
} lone_waiter;

static void *await_alone(void *arg) {
    lone_waiter *w = arg;
    atomic_store(&w->thread, system_thread());
    return await_future(w->bare);
}

static void no_spare_starts_without_queued_work(void **state) {
    (void)state;
    tpool *pool = create_pool(1, 0);
    lone_waiter w = { .bare = NULL };
    assert_status(TPOOL_OK, tpool_future_create(&w.bare));
    tpool_future *waiter = submitted(pool, await_alone, &w);
    EVENTUALLY(atomic_load(&w.thread) != 0);
    await_thread_asleep(&w.thread);
    tpool_stats stats = stats_of(pool);
    assert_int_equal(0, stats.spared);
    assert_int_equal(1, stats.workers);
    assert_status(TPOOL_OK, tpool_future_set_result(w.bare, NULL));
    assert_int_equal(TPOOL_OK, (intptr_t)take(waiter));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    tpool_future_release(w.bare);
}

static void a_spare_finishes_its_task_beside_the_waiter_and_then_ends(void **state) {
    (void)state;
    gate held = GATE_CLOSED;
    tpool *pool = create_pool(1, 0);
    tpool_future *bare = NULL;
    assert_status(TPOOL_OK, tpool_future_create(&bare));
    tpool_future *waiter = submitted(pool, await_future, bare);
    tpool_future *other = submitted(pool, gate_task, &held);
    EVENTUALLY(gate_arrived(&held) == 1); /* on a spare, as the waiter blocks */
    tpool_stats stats = stats_of(pool);
    assert_int_equal(1, stats.max_workers);
    assert_true(stats.workers >= 2);
    EVENTUALLY(stats_of(pool).spared >= 1);
    assert_status(TPOOL_OK, tpool_future_set_result(bare, NULL));
    assert_int_equal(TPOOL_OK, (intptr_t)take(waiter)); /* the waiter goes on while the spare is in its task */
    assert_true(tpool_future_running(other));
    gate_open(&held);
    assert_ptr_equal(&held, take(other));
    EVENTUALLY(stats_of(pool).workers <= 1);
    probe(pool);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    tpool_future_release(bare);
}

static void many_blocked_tasks_get_as_many_spares_which_end_again(void **state) {
    (void)state;
    enum { waiters = 50 };
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 2, .max_spares = waiters });
    tpool_future *bare = NULL, *futures[waiters];
    assert_status(TPOOL_OK, tpool_future_create(&bare));
    for (int i = 0; i < waiters; i++) futures[i] = submitted(pool, await_future, bare);
    for (int i = 0; i < waiters; i++) EVENTUALLY(tpool_future_running(futures[i]));
    probe(pool);
    EVENTUALLY(stats_of(pool).spared >= waiters - 2);
    assert_status(TPOOL_OK, tpool_future_set_result(bare, NULL));
    for (int i = 0; i < waiters; i++) assert_int_equal(TPOOL_OK, (intptr_t)take(futures[i]));
    EVENTUALLY(stats_of(pool).workers <= 2);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    tpool_future_release(bare);
}

typedef struct life {
    atomic_int initialized, finalized;
} life;

static bool note_initialized(void *context) {
    atomic_fetch_add(&((life *)context)->initialized, 1);
    return true;
}

static void note_finalized(void *context) { atomic_fetch_add(&((life *)context)->finalized, 1); }

static void spares_run_initializer_and_finalizer(void **state) {
    (void)state;
    life l = { 0 };
    tpool_config config = {
        .max_workers = 1, .initializer = note_initialized, .finalizer = note_finalized, .context = &l
    };
    tpool *pool = NULL;
    tpool_future *bare = NULL;
    assert_status(TPOOL_OK, tpool_create(&pool, &config));
    assert_status(TPOOL_OK, tpool_future_create(&bare));
    tpool_future *waiter = submitted(pool, await_future, bare);
    probe(pool);
    assert_true(atomic_load(&l.initialized) >= 2);
    assert_status(TPOOL_OK, tpool_future_set_result(bare, NULL));
    take(waiter);
    EVENTUALLY(stats_of(pool).workers <= 1);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(atomic_load(&l.initialized), atomic_load(&l.finalized));
    tpool_future_release(bare);
}

/* ---- When the system refuses a spare worker. */

/* Huge stacks, and no address space for another one; the sanitizers need theirs for themselves. */
#if defined(__linux__) && !SLOW_TOOL
#define CAN_REFUSE_THREADS 1
#else
#define CAN_REFUSE_THREADS 0
#endif

#if CAN_REFUSE_THREADS
#define HUGE_STACK ((size_t)512 << 20)

static struct rlimit address_space;

static void refuse_threads(void) {
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    assert_non_null(file);
    assert_int_equal(1, fscanf(file, "%lu", &pages));
    fclose(file);
    assert_int_equal(0, getrlimit(RLIMIT_AS, &address_space));
    struct rlimit tight = address_space;
    tight.rlim_cur = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + HUGE_STACK / 2;
    assert_int_equal(0, setrlimit(RLIMIT_AS, &tight));
}

static void allow_threads(void) { assert_int_equal(0, setrlimit(RLIMIT_AS, &address_space)); }

/* A task that waits, in one of four ways, for what a queued task completes. */
typedef struct refused {
    tpool *pool;
    int way;
    gate started;
    tpool_future *bare, *never, *child;
    tpool_status got;
    atomic_int thread; /* its number, once it is about to wait */
} refused;

static void *complete_refused(void *arg) {
    if (tpool_future_set_result(((refused *)arg)->bare, NULL) != TPOOL_OK) abort();
    return NULL;
}

static void wait_refused(refused *r) {
    tpool_future *both[2] = { r->never, r->bare }, *yielded = NULL;
    tpool_completions *completions = NULL;
    atomic_store(&r->thread, system_thread());
    switch (r->way) {
    case 0: r->got = tpool_future_result(r->bare, TPOOL_FOREVER, NULL); break;
    case 1: r->got = tpool_future_result(r->bare, LIMIT, NULL); break;
    case 2: r->got = tpool_wait(both, 2, TPOOL_FIRST_COMPLETED, TPOOL_FOREVER, NULL); break;
    default:
        if (tpool_as_completed(both, 2, &completions) != TPOOL_OK) abort();
        r->got = tpool_completions_next(completions, TPOOL_FOREVER, &yielded);
        tpool_completions_destroy(completions);
    }
}

static void *submit_and_wait_refused(void *arg) {
    refused *r = arg;
    gate_pass(&r->started);
    if (tpool_submit(r->pool, complete_refused, r, &r->child) != TPOOL_OK) abort();
    wait_refused(r);
    return NULL;
}

static void *only_wait_refused(void *arg) {
    wait_refused(arg);
    return NULL;
}
#endif

static void a_wait_whose_spare_is_refused_gives_no_thread(void **state) {
    (void)state;
#if CAN_REFUSE_THREADS
    for (int manner = 0; manner < 4; manner++) {
        refused r = { .pool = create_pool(1, HUGE_STACK), .way = manner, .started = GATE_CLOSED, .got = TPOOL_INVALID };
        assert_status(TPOOL_OK, tpool_future_create(&r.bare));
        assert_status(TPOOL_OK, tpool_future_create(&r.never));
        tpool_future *future = submitted(r.pool, submit_and_wait_refused, &r);
        EVENTUALLY(gate_arrived(&r.started) == 1);
        refuse_threads();
        gate_open(&r.started);
        tpool_status got = tpool_future_result(future, LIMIT, NULL);
        allow_threads();
        assert_status(TPOOL_OK, got);
        tpool_future_release(future);
        assert_status(TPOOL_NO_THREAD, r.got);
        take(r.child); /* it has its turn all the same */
        assert_true(tpool_future_done(r.bare));
        assert_status(TPOOL_OK, tpool_destroy(r.pool));
        tpool_future_release(r.bare);
        tpool_future_release(r.never);
    }
#else
    skip();
#endif
}

static void when_a_spare_is_refused_later_one_of_the_waits_gives_no_thread(void **state) {
    (void)state;
#if CAN_REFUSE_THREADS
    for (int manner = 0; manner < 4; manner++) {
        enum { waiters = 2 };
        tpool *pool = create_pool(waiters, HUGE_STACK);
        refused r[waiters];
        tpool_future *futures[waiters];
        for (int i = 0; i < waiters; i++) {
            r[i] = (refused){ .pool = pool, .way = manner, .got = TPOOL_INVALID };
            assert_status(TPOOL_OK, tpool_future_create(&r[i].bare));
            assert_status(TPOOL_OK, tpool_future_create(&r[i].never));
            futures[i] = submitted(pool, only_wait_refused, &r[i]);
        }
        for (int i = 0; i < waiters; i++) {
            EVENTUALLY(atomic_load(&r[i].thread) != 0);
            await_thread_asleep(&r[i].thread);
        }
        refuse_threads();
        tpool_future *queued = NULL;
        tpool_status submitted = tpool_submit(pool, nothing, NULL, &queued);
        tpool_status got = submitted == TPOOL_OK ? tpool_future_result(queued, LIMIT, NULL) : submitted;
        allow_threads();
        assert_status(TPOOL_OK, submitted); /* workers run, so the work is taken */
        assert_status(TPOOL_OK, got);       /* by the one that has given up its wait */
        tpool_future_release(queued);
        for (int i = 0; i < waiters; i++) assert_status(TPOOL_OK, tpool_future_set_result(r[i].bare, NULL));
        int gave_up = 0;
        for (int i = 0; i < waiters; i++) {
            take(futures[i]);
            if (r[i].got == TPOOL_NO_THREAD) gave_up++;
            else assert_status(TPOOL_OK, r[i].got);
            tpool_future_release(r[i].bare);
            tpool_future_release(r[i].never);
        }
        assert_int_equal(1, gave_up);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
#else
    skip();
#endif
}

#if CAN_REFUSE_THREADS
/* A worker of one pool waits in a way that cannot be refused, for what waits in another pool for a task of the
   first. */
typedef struct crosswise {
    tpool *pool, *other;
    gate waits;
    tpool_status got;
} crosswise;
static void wait_crosswise(size_t begin, size_t end, void *arg) {
    crosswise *c = arg;
    tpool_future *future = NULL;
    (void)begin;
    (void)end;
    if (tpool_current() == c->pool) { /* the looping task's own part */
        gate_pass(&c->waits);
        return;
    }
    if (tpool_submit(c->pool, nothing, NULL, &future) != TPOOL_OK) abort();
    gate_pass(&c->waits);
    c->got = tpool_future_result(future, TPOOL_FOREVER, NULL);
    tpool_future_release(future);
}
static void *loop_crosswise(void *arg) {
    crosswise *c = arg;
    if (tpool_for(c->other, 0, 2, 1, wait_crosswise, c) != TPOOL_OK) abort();
    return NULL;
}
static void *wait_in_item(void *item, void *arg) {
    wait_crosswise(0, 1, arg);
    return item;
}
static void *close_crosswise(void *arg) {
    crosswise *c = arg;
    int item = 0;
    tpool_map_iter *iter = NULL;
    tpool_map_spec spec = {
        .fn = wait_in_item, .context = c, .items = &item, .count = 1, .stride = 1, .chunk_size = 1
    };
    if (tpool_map(c->other, &spec, &iter) != TPOOL_OK) abort();
    gate_pass(&c->waits);
    tpool_map_close(iter);
    return NULL;
}
#endif
static void a_refused_spare_ends_the_wait_for_its_task_in_another_pool(void **state) {
    (void)state;
#if CAN_REFUSE_THREADS
    for (int closes = 0; closes < 2; closes++) {
        crosswise c = { create_pool(1, HUGE_STACK), create_pool(1, 0), GATE_CLOSED, TPOOL_INVALID };
        tpool_future *future = submitted(c.pool, closes ? close_crosswise : loop_crosswise, &c);
        AWAIT_ARRIVALS(&c.waits, 2);
        refuse_threads();
        gate_open(&c.waits);
        tpool_status got = tpool_future_result(future, LIMIT, NULL);
        allow_threads();
        assert_status(TPOOL_OK, got);
        assert_status(TPOOL_NO_THREAD, c.got);
        tpool_future_release(future);
        assert_status(TPOOL_OK, tpool_destroy(c.pool));
        assert_status(TPOOL_OK, tpool_destroy(c.other));
    }
#else
    skip();
#endif
}

static const struct CMUnitTest tests[] = {
    TEST(waits_without_limit_for_one_or_all_run_the_wanted_task_in_place),
    TEST(waits_with_a_limit_get_a_spare_worker),
    TEST(waits_for_the_first_of_several_get_a_spare_worker),
    TEST(every_wait_for_what_a_queued_task_completes_gets_a_spare_worker),
    TEST(a_wait_for_another_pools_task_gets_a_spare_worker),
    TEST(a_task_never_runs_on_another_pools_thread),
    TEST(a_task_that_drains_another_pool_gets_a_spare_worker),
    TEST(a_task_that_blocks_on_its_own_pools_full_queue_gets_a_spare_worker),
    TEST(a_task_that_runs_another_with_a_time_limit_gets_a_spare_worker),
    TEST(a_task_run_in_place_shares_the_waiters_thread_local_state),
    TEST(stop_requests_and_errors_belong_to_the_innermost_task),
    TEST(nothing_runs_in_place_while_the_pool_is_paused),
    TEST(a_task_queued_before_the_wanted_one_does_not_run_inside_the_wait),
    TEST(a_waiter_whose_task_runs_elsewhere_leaves_the_queue_to_a_spare),
    TEST(no_spare_starts_without_queued_work),
    TEST(a_spare_finishes_its_task_beside_the_waiter_and_then_ends),
    TEST(many_blocked_tasks_get_as_many_spares_which_end_again),
    TEST(spares_run_initializer_and_finalizer),
    TEST(a_wait_whose_spare_is_refused_gives_no_thread),
    TEST(when_a_spare_is_refused_later_one_of_the_waits_gives_no_thread),
    TEST(a_refused_spare_ends_the_wait_for_its_task_in_another_pool),
};
RUN_TESTS(tests)
