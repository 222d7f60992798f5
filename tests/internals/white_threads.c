/* Threads that the system refuses from a chosen moment on: nothing is taken that nobody could run, no wait hangs for
   want of a worker, and what was taken runs, or ends and says so. And each that it granted is joined. */
#include "thread_refusals.h"

static void *pass_and_end_thread(void *arg) {
    gate_pass(arg);
    pthread_exit(NULL);
}

/* ---- No thread at all ---- */

static void without_any_thread_nothing_is_taken(void **state) {
    (void)state;
    atomic_int runs = 0, freed = 0;
    for (int policy = TPOOL_FULL_BLOCK; policy <= TPOOL_FULL_DROP_OLDEST; policy++) {
        tpool *pool =
            new_pool_as((tpool_config){ .max_workers = 2, .queue_capacity = 1, .on_full = (tpool_full_policy)policy });
        tpool_future *future = (tpool_future *)pool, *many[2] = { future, future };
        tpool_task task = { .fn = count_up, .arg = &runs, .arg_free = count_free, .priority = policy, .name = "none" };
        tpool_task tasks[2] = { task, task };
        size_t taken = 9;
        tpool_map_iter *iter = (tpool_map_iter *)pool;
        int items[3] = { 0 };
        tpool_map_spec spec = { .fn = same_item, .items = items, .count = 3, .stride = sizeof *items };
        refuse();
        assert_status(TPOOL_NO_THREAD, tpool_submit(pool, count_up, &runs, &future));
        assert_null(future);
        assert_status(TPOOL_NO_THREAD, tpool_submit_task(pool, &task, NULL));
        assert_status(TPOOL_NO_THREAD, tpool_submit_copy(pool, count_up, &runs, sizeof runs, NULL));
        assert_status(TPOOL_NO_THREAD, tpool_submit_many(pool, tasks, 2, many, &taken));
        assert_int_equal(0, taken);
        assert_null(many[0]);
        assert_null(many[1]);
        future = (tpool_future *)pool;
        assert_status(TPOOL_NO_THREAD, tpool_run_with_timeout(pool, &task, CALL_LIMIT, &future));
        assert_null(future);
        assert_status(TPOOL_NO_THREAD, tpool_map(pool, &spec, &iter));
        assert_null(iter);
        assert_status(TPOOL_NO_THREAD, tpool_warm_up(pool, 1));
        atomic_int looped = 0;
        assert_status(TPOOL_OK, tpool_for(pool, 0, 1000, 1, count_range, &looped)); /* the caller can do it all */
        assert_int_equal(1000, atomic_load(&looped));
        tpool_stats stats = stats_of(pool);
        assert_int_equal(0, stats.submitted);
        assert_int_equal(0, stats.queued);
        assert_int_equal(0, stats.workers);
        assert_status(TPOOL_OK, tpool_drain(pool, 0));
        allow();
        tpool_future *now = submitted(pool, nothing, NULL);
        assert_status(TPOOL_OK, wait_for(now)); /* and once there are threads, all is well */
        tpool_future_release(now);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
    assert_int_equal(0, atomic_load(&runs));
    assert_int_equal(0, atomic_load(&freed));
}

static void a_pool_that_never_got_a_thread_ends(void **state) {
    (void)state;
    refuse();
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 2 });
    assert_status(TPOOL_NO_THREAD, tpool_submit(pool, nothing, NULL, NULL));
    assert_status(TPOOL_OK, tpool_pause(pool));
    assert_status(TPOOL_NO_THREAD, tpool_submit(pool, nothing, NULL, NULL));
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT));
    assert_status(TPOOL_SHUTDOWN, tpool_submit(pool, nothing, NULL, NULL));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_warm_up_keeps_what_could_be_started(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 4 });
    assert_status(TPOOL_OK, tpool_warm_up(pool, 2));
    refuse();
    assert_status(TPOOL_NO_THREAD, tpool_warm_up(pool, 4));
    assert_int_equal(2, stats_of(pool).workers);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 2));
    tpool_future *futures[20];
    for (int i = 0; i < 20; i++) futures[i] = submitted(pool, nothing, NULL);
    for (int i = 0; i < 20; i++) {
        assert_status(TPOOL_OK, wait_for(futures[i]));
        tpool_future_release(futures[i]);
    }
    assert_int_equal(2, stats_of(pool).workers);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* Between the moment at which a worker counts as about to look for work and the one at which its thread is refused,
   others rely on it. */
static tpool *warming;
static background submit_beside_warm_up;
static tpool_future *beside_warm_up;
static tpool_status call_submit(void *pool) { return tpool_submit(pool, nothing, NULL, &beside_warm_up); }
static void submit_elsewhere(void) {
    background_start(&submit_beside_warm_up, call_submit, warming);
    for (int i = 0; i < 1000 && !atomic_load(&submit_beside_warm_up.returned); i++) sleep_ms(1);
}
static bool has_a_sleeper(tpool *pool) {
    tpool__lock(&pool->lock);
    bool has = pool->sleepers != NULL;
    tpool__unlock(&pool->lock);
    return has;
}

static void a_refused_warm_up_loses_no_wake_of_what_was_submitted_meanwhile(void **state) {
    (void)state;
    warming = new_pool_as((tpool_config){ .max_workers = 2 });
    assert_status(TPOOL_OK, tpool_warm_up(warming, 1));
    EVENTUALLY(has_a_sleeper(warming));
    before_refusal = submit_elsewhere;
    refuse();
    assert_status(TPOOL_NO_THREAD, tpool_warm_up(warming, 2));
    before_refusal = NULL;
    assert_status(TPOOL_OK, background_join(&submit_beside_warm_up));
    tpool_status ran = wait_for(beside_warm_up);
    allow();
    tpool_future_release(beside_warm_up);
    assert_status(TPOOL_OK, ran);
    assert_status(TPOOL_OK, tpool_destroy(warming));
}

/* ---- One wait gives TPOOL_NO_THREAD ---- */

/* A task that waits, in one of many ways, for what only a queued task brings about, or for another pool. */
typedef enum wait_way {
    RESULT,
    RESULT_WITH_LIMIT,
    ERROR_OF,
    QUEUED_WITH_LIMIT,
    WAIT_ALL,
    WAIT_ALL_QUEUED_WITH_LIMIT,
    WAIT_FIRST,
    WAIT_FIRST_EXCEPTION,
    COMPLETIONS,
    OTHER_POOL,
    OTHER_DRAIN,
    OTHER_SHUTDOWN,
    OTHER_DESTROY,
    OTHER_FULL,
    LIMITED_RUN,
    MAP_WITH_LIMIT,
    WAIT_WAYS
} wait_way;
static const char *const way_names[WAIT_WAYS] = {
    "result",
    "result with a limit",
    "error",
    "a queued task's result with a limit",
    "wait for all",
    "wait for all that are queued with a limit",
    "wait for the first",
    "wait for the first exception",
    "completions",
    "another pool's task",
    "drain of another",
    "shutdown of another",
    "destroy of another",
    "another's full queue",
    "run with timeout",
    "map with a limit",
};
typedef struct waiting {
    tpool *pool, *other;
    wait_way way;
    gate begin, other_hold;
    atomic_bool waits;
    tpool_future *bare, *never, *child;
    tpool_status got;
    bool handed_out; /* something was given beside a status that is not TPOOL_OK */
} waiting;

static void *complete(void *arg) {
    waiting *w = arg;
    gate_open(&w->other_hold);
    (void)tpool_future_set_result(w->bare, NULL);
    return NULL;
}

static void wait_in_one_way(waiting *w) {
    tpool_future *both[2] = { w->bare, w->never }, *next = NULL, *future = NULL;
    tpool_completions *completions = NULL;
    tpool_map_iter *iter = NULL;
    const tpool_error *error = (const tpool_error *)(const void *)w;
    void *result = w;
    int item = 0;
    tpool_map_spec spec = { .fn = same_item, .items = &item, .count = 1, .stride = sizeof item };
    atomic_store(&w->waits, true);
    switch (w->way) {
    case RESULT: w->got = tpool_future_result(w->bare, TPOOL_FOREVER, &result); break;
    case RESULT_WITH_LIMIT: w->got = tpool_future_result(w->bare, CALL_LIMIT, &result); break;
    case ERROR_OF: w->got = tpool_future_error(w->bare, TPOOL_FOREVER, &error); break;
    case QUEUED_WITH_LIMIT: w->got = tpool_future_result(w->child ? w->child : w->bare, CALL_LIMIT, &result); break;
    case WAIT_ALL: w->got = tpool_wait(both, 1, TPOOL_ALL_COMPLETED, TPOOL_FOREVER, NULL); break;
    case WAIT_ALL_QUEUED_WITH_LIMIT:
        both[1] = w->child ? w->child : w->bare;
        w->got = tpool_wait(both, 2, TPOOL_ALL_COMPLETED, CALL_LIMIT, NULL);
        break;
    case WAIT_FIRST: w->got = tpool_wait(both, 2, TPOOL_FIRST_COMPLETED, TPOOL_FOREVER, NULL); break;
    case WAIT_FIRST_EXCEPTION: w->got = tpool_wait(both, 2, TPOOL_FIRST_EXCEPTION, CALL_LIMIT, NULL); break;
    case COMPLETIONS:
        if (tpool_as_completed(both, 2, &completions) == TPOOL_OK)
            w->got = tpool_completions_next(completions, TPOOL_FOREVER, &next);
        tpool_completions_destroy(completions);
        break;
    case OTHER_POOL:
        if (tpool_submit(w->other, gate_task, &w->other_hold, &future) == TPOOL_OK)
            w->got = tpool_future_result(future, TPOOL_FOREVER, &result);
        tpool_future_release(future);
        break;
    case OTHER_DRAIN: w->got = tpool_drain(w->other, TPOOL_FOREVER); break;
    case OTHER_SHUTDOWN: w->got = tpool_shutdown(w->other, TPOOL_WAIT); break;
    case OTHER_DESTROY: w->got = tpool_destroy(w->other); break;
    case OTHER_FULL: w->got = tpool_submit(w->other, nothing, NULL, &future); break;
    case LIMITED_RUN: {
        tpool_task task = { .fn = nothing };
        w->got = tpool_run_with_timeout(w->pool, &task, CALL_LIMIT, NULL);
        break;
    }
    case MAP_WITH_LIMIT:
        if (tpool_map(w->pool, &spec, &iter) == TPOOL_OK) w->got = tpool_map_next(iter, CALL_LIMIT, &result);
        tpool_map_close(iter);
        break;
    case WAIT_WAYS:
    default: break;
    }
    w->handed_out = (result && result != w) || next || (w->way == OTHER_FULL && future) ||
                    (error && (const void *)error != (const void *)w);
    if (w->way != ERROR_OF && (const void *)error != (const void *)w) w->handed_out = true;
}
static bool needs_other(wait_way way) { return way >= OTHER_POOL && way <= OTHER_FULL; }
static void *submit_then_wait(void *arg) {
    waiting *w = arg;
    gate_pass(&w->begin);
    if (tpool_submit(w->pool, complete, w, &w->child) == TPOOL_OK) wait_in_one_way(w);
    return NULL;
}
static void *only_wait(void *arg) {
    wait_in_one_way(arg);
    return NULL;
}

static void waiting_begin(waiting *w, wait_way way, tpool_fn fn, tpool_future **task, tpool_future **other_task,
                          tpool_future **filler) {
    *w = (waiting){ .way = way, .begin = GATE_CLOSED, .other_hold = GATE_CLOSED, .got = TPOOL_INVALID };
    *other_task = *filler = NULL;
    w->pool = new_pool_as((tpool_config){ .max_workers = 1 });
    assert_status(TPOOL_OK, tpool_future_create(&w->bare));
    assert_status(TPOOL_OK, tpool_future_create(&w->never));
    if (needs_other(way)) {
        w->other = new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1 });
        if (way == OTHER_POOL) { /* its worker is there already */
            assert_status(TPOOL_OK, tpool_warm_up(w->other, 1));
        } else {
            *other_task = submitted(w->other, gate_task, &w->other_hold);
            gate_await_arrivals(&w->other_hold, 1);
            if (way == OTHER_FULL) *filler = submitted(w->other, nothing, NULL);
        }
    }
    *task = submitted(w->pool, fn, w);
}
static void waiting_end(waiting *w, tpool_future *task, tpool_future *other_task, tpool_future *filler) {
    gate_open(&w->other_hold);
    tpool_future_release(task);
    tpool_future_release(w->child);
    if (!(w->way == OTHER_DESTROY && w->got == TPOOL_OK)) assert_status(TPOOL_OK, tpool_destroy(w->other));
    tpool_future_release(other_task);
    tpool_future_release(filler);
    assert_status(TPOOL_OK, tpool_destroy(w->pool));
    tpool_future_release(w->bare);
    tpool_future_release(w->never);
}
static void check_no_thread(const waiting *w) {
    if (w->got != TPOOL_NO_THREAD || w->handed_out)
        fail_msg("%s: gave %s%s", way_names[w->way], tpool_status_name(w->got), w->handed_out ? " and more" : "");
}

static void every_wait_whose_spare_is_refused_gives_no_thread(void **state) {
    (void)state;
    for (int way = 0; way < WAIT_WAYS; way++) {
        static waiting w;
        tpool_future *task, *other_task, *filler;
        waiting_begin(&w, (wait_way)way, submit_then_wait, &task, &other_task, &filler);
        gate_await_arrivals(&w.begin, 1);
        refuse();
        gate_open(&w.begin);
        tpool_status ended = wait_for(task);
        if (ended != TPOOL_OK) { /* it hangs: let it go */
            gate_open(&w.other_hold);
            (void)tpool_future_set_result(w.bare, NULL);
            (void)wait_for(task);
        }
        tpool_status child = wait_for(w.child); /* has its turn all the same, without another thread */
        allow();
        waiting_end(&w, task, other_task, filler);
        if (ended != TPOOL_OK) fail_msg("%s: hung", way_names[way]);
        assert_status(TPOOL_OK, child);
        check_no_thread(&w);
    }
}

static void a_wait_that_needs_a_spare_only_later_gives_no_thread_then(void **state) {
    (void)state;
    for (int way = 0; way < WAIT_WAYS; way++) {
        if (way == LIMITED_RUN || way == MAP_WITH_LIMIT) continue; /* these queue their own work before they wait */
        static waiting w;
        tpool_future *task, *other_task, *filler;
        waiting_begin(&w, (wait_way)way, only_wait, &task, &other_task, &filler);
        EVENTUALLY(atomic_load(&w.waits));
        refuse();
        tpool_future *queued = NULL;
        tpool_status submit = tpool_submit(w.pool, complete, &w, &queued);
        tpool_status ended = wait_for(task);
        if (ended != TPOOL_OK) {
            gate_open(&w.other_hold);
            (void)tpool_future_set_result(w.bare, NULL);
            (void)wait_for(task);
        }
        tpool_status ran = wait_for(queued);
        allow();
        tpool_future_release(queued);
        waiting_end(&w, task, other_task, filler);
        if (ended != TPOOL_OK) fail_msg("%s: hung", way_names[way]);
        assert_status(TPOOL_OK, submit); /* a worker lives, so the work is taken */
        assert_status(TPOOL_OK, ran);
        check_no_thread(&w);
    }
}
/* ---- A worker is lost, and none comes in its place ---- */

typedef struct lost_spare {
    tpool *pool;
    tpool_future *first, *second, *never;
    gate begin;
    tpool_status got;
} lost_spare;
static void *set_second(void *arg) {
    (void)tpool_future_set_result(((lost_spare *)arg)->second, NULL);
    return NULL;
}
static void *refuse_from_here(void *arg) {
    refuse();
    return arg;
}
static void *refuse_and_end_thread(void *arg) {
    (void)arg;
    refuse();
    pthread_exit(NULL);
}
static void *wait_for_second(void *arg) {
    lost_spare *l = arg;
    tpool_future *both[2] = { l->second, l->never };
    gate_pass(&l->begin);
    l->got = tpool_wait(both, 2, TPOOL_FIRST_COMPLETED, TPOOL_FOREVER, NULL);
    return NULL;
}
/* One task waits, its spare runs another and is gone after it, and the task that the wait needs is left. */
static void play_lost_spare(tpool_config config, tpool_fn last_of_the_spare) {
    static lost_spare l;
    l = (lost_spare){ .begin = GATE_CLOSED, .got = TPOOL_INVALID };
    l.pool = new_pool_as(config);
    assert_status(TPOOL_OK, tpool_future_create(&l.second));
    assert_status(TPOOL_OK, tpool_future_create(&l.never));
    tpool_future *waiter = submitted(l.pool, wait_for_second, &l);
    gate_await_arrivals(&l.begin, 1);
    l.first = submitted(l.pool, last_of_the_spare, NULL);
    tpool_future *needed = submitted(l.pool, set_second, &l);
    gate_open(&l.begin);
    tpool_status ended = wait_for(waiter);
    if (ended != TPOOL_OK) {
        (void)tpool_future_set_result(l.second, NULL);
        (void)wait_for(waiter);
    }
    tpool_status ran = wait_for(needed);
    int refusals = atomic_load(&starts_refused);
    allow();
    (void)tpool_future_cancel(needed);
    tpool_future_release(waiter);
    tpool_future_release(needed);
    tpool_future_release(l.first);
    assert_status(TPOOL_OK, tpool_destroy(l.pool));
    tpool_future_release(l.second);
    tpool_future_release(l.never);
    assert_true(refusals > 0);
    assert_status(TPOOL_OK, ended);
    assert_status(TPOOL_OK, ran);
    /* a spare that has only run its share may as well stay on, and then the wait is no different from any other */
    if (config.max_tasks_per_worker == 0 || l.got != TPOOL_OK) assert_status(TPOOL_NO_THREAD, l.got);
}
static void a_spare_that_may_run_no_more_tasks_and_gets_no_successor_lets_no_wait_hang(void **state) {
    (void)state;
    play_lost_spare((tpool_config){ .max_workers = 1, .max_tasks_per_worker = 1 }, refuse_from_here);
}
static void a_spare_whose_thread_is_ended_and_gets_no_successor_ends_a_wait(void **state) {
    (void)state;
    play_lost_spare((tpool_config){ .max_workers = 1 }, refuse_and_end_thread);
}

static void the_last_worker_stays_beyond_its_tasks_when_no_successor_is_to_be_had(void **state) {
    (void)state;
    atomic_int runs = 0;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .max_tasks_per_worker = 1 });
    assert_status(TPOOL_OK, tpool_pause(pool));
    tpool_future *first = submitted(pool, refuse_from_here, NULL), *last = NULL;
    for (int i = 0; i < 5; i++) assert_status(TPOOL_OK, tpool_submit(pool, count_up, &runs, i == 4 ? &last : NULL));
    assert_status(TPOOL_OK, tpool_resume(pool));
    tpool_status ended = wait_for(last);
    allow();
    tpool_future_release(first);
    tpool_future_release(last);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_status(TPOOL_OK, ended);
    assert_int_equal(5, atomic_load(&runs));
}

static void when_the_last_worker_ends_its_thread_and_none_replaces_it_the_rest_is_broken(void **state) {
    (void)state;
    atomic_int freed = 0;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    assert_status(TPOOL_OK, tpool_pause(pool));
    tpool_future *ender = submitted(pool, refuse_and_end_thread, NULL), *rest = NULL;
    tpool_task task = { .fn = count_up, .arg = &freed, .arg_free = count_free };
    rest = submitted_task(pool, task);
    assert_status(TPOOL_OK, tpool_resume(pool));
    tpool_status ended = wait_for(ender), rest_ended = wait_for(rest);
    tpool_status later = tpool_submit(pool, nothing, NULL, NULL);
    tpool_status drained = tpool_drain(pool, CALL_LIMIT);
    allow();
    tpool_future *again = submitted(pool, nothing, NULL);
    tpool_status again_ended = wait_for(again);
    tpool_future_release(again);
    tpool_future_release(ender);
    tpool_future_release(rest);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_status(TPOOL_BROKEN, ended);
    assert_status(TPOOL_BROKEN, rest_ended);
    assert_int_equal(1, atomic_load(&freed)); /* by arg_free: it has not run */
    assert_status(TPOOL_NO_THREAD, later);
    assert_status(TPOOL_OK, drained);
    assert_status(TPOOL_OK, again_ended);
}

/* What waits in a paused pool may be all that is left of it: its workers have ended meanwhile. */
static void check_resume_without_threads(tpool *pool, tpool_future *queued) {
    refuse();
    tpool_status resumed = tpool_resume(pool);
    tpool_status ended = tpool_future_result(queued, resumed == TPOOL_OK ? CALL_LIMIT : 0, NULL);
    tpool_status drained = tpool_drain(pool, CALL_LIMIT);
    allow();
    (void)tpool_future_cancel(queued);
    tpool_future_release(queued);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    /* Any answer will do that somebody hears: the resume refuses, or the task ends. */
    if (resumed == TPOOL_OK) assert_status(TPOOL_BROKEN, ended);
    else assert_status(TPOOL_NO_THREAD, resumed);
    assert_true(drained == TPOOL_OK || drained == TPOOL_NO_THREAD);
}
static void a_resume_that_finds_no_thread_for_what_waits_says_so_or_breaks_it(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .idle_timeout_ns = TPOOL_MS(1) });
    assert_status(TPOOL_OK, tpool_pause(pool));
    tpool_future *queued = submitted(pool, nothing, NULL);
    int64_t end = tpool_now() + TPOOL_SEC(1); /* it need not end, but if it does */
    while (stats_of(pool).workers > 0 && tpool_now() < end) sleep_ms(1);
    if (stats_of(pool).workers > 0) { /* then it is there to run the task */
        refuse();
        assert_status(TPOOL_OK, tpool_resume(pool));
        assert_status(TPOOL_OK, wait_for(queued));
        tpool_future_release(queued);
        assert_status(TPOOL_OK, tpool_destroy(pool));
        return;
    }
    check_resume_without_threads(pool, queued);
}
/* Its last worker has ended its thread. A task waits in it. */
static tpool *new_paused_pool_without_workers(tpool_future **queued) {
    static gate in_ender;
    in_ender = (gate)GATE_CLOSED;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    tpool_future *ender = submitted(pool, pass_and_end_thread, &in_ender);
    gate_await_arrivals(&in_ender, 1); /* the pause comes while it runs */
    assert_status(TPOOL_OK, tpool_pause(pool));
    *queued = submitted(pool, nothing, NULL);
    gate_open(&in_ender);
    assert_status(TPOOL_BROKEN, wait_for(ender));
    tpool_future_release(ender);
    EVENTUALLY(stats_of(pool).workers == 0);
    return pool;
}
static void a_resume_after_the_last_worker_ended_its_thread_says_so_or_breaks_what_waits(void **state) {
    (void)state;
    tpool_future *queued = NULL;
    tpool *pool = new_paused_pool_without_workers(&queued);
    check_resume_without_threads(pool, queued);
}

static void a_shutdown_that_finds_no_thread_for_what_waits_says_so(void **state) {
    (void)state;
    tpool_future *queued = NULL;
    tpool *pool = new_paused_pool_without_workers(&queued);
    refuse();
    tpool_status refused = tpool_shutdown(pool, 0);
    allow();
    tpool_status again = tpool_shutdown(pool, 0), ended = wait_for(queued);
    tpool_future_release(queued);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_status(TPOOL_NO_THREAD, refused);
    assert_status(TPOOL_OK, again);
    assert_status(TPOOL_OK, ended);
}

/* ---- Calls that cannot say TPOOL_NO_THREAD wait to the end ---- */

typedef struct closing {
    tpool *pool;
    tpool_future *bare;
    gate item_starts;
    atomic_bool closes, item_over;
    bool over_at_close;
    tpool_status mapped, waited;
} closing;
static void *wait_in_item(void *item, void *context) {
    closing *c = context;
    (void)item;
    gate_pass(&c->item_starts);
    c->waited = tpool_future_result(c->bare, TPOOL_FOREVER, NULL);
    atomic_store(&c->item_over, true);
    return NULL;
}
static void *map_and_close(void *arg) {
    closing *c = arg;
    int item = 0;
    tpool_map_iter *iter = NULL;
    tpool_map_spec spec = { .fn = wait_in_item, .context = c, .items = &item, .count = 1, .stride = sizeof item };
    c->mapped = tpool_map(c->pool, &spec, &iter);
    if (c->mapped != TPOOL_OK) return NULL;
    gate_await_arrivals(&c->item_starts, 1); /* the other worker has it */
    gate_open(&c->item_starts);
    sleep_ms(20); /* so that the item's wait is the first, most likely */
    atomic_store(&c->closes, true);
    tpool_map_close(iter);
    c->over_at_close = atomic_load(&c->item_over);
    return NULL;
}
/* The item may use what the closer is about to leave, so it is the item's wait that has to give way. */
static void a_close_waits_for_what_runs_though_no_spare_is_to_be_had(void **state) {
    (void)state;
    static closing c;
    c = (closing){ .item_starts = GATE_CLOSED, .mapped = TPOOL_INVALID, .waited = TPOOL_INVALID };
    c.pool = new_pool_as((tpool_config){ .max_workers = 2 });
    assert_status(TPOOL_OK, tpool_future_create(&c.bare));
    assert_status(TPOOL_OK, tpool_warm_up(c.pool, 2));
    tpool_future *closer = submitted(c.pool, map_and_close, &c);
    EVENTUALLY(atomic_load(&c.closes));
    sleep_ms(20); /* and the close's the second */
    refuse();
    tpool_future *queued = submitted(c.pool, nothing, NULL);
    tpool_status ran = wait_for(queued);
    allow();
    (void)tpool_future_set_result(c.bare, NULL);
    tpool_status closed = wait_for(closer);
    tpool_future_release(queued);
    tpool_future_release(closer);
    assert_status(TPOOL_OK, tpool_destroy(c.pool));
    tpool_future_release(c.bare);
    assert_status(TPOOL_OK, ran);
    assert_status(TPOOL_OK, closed);
    assert_status(TPOOL_OK, c.mapped);
    assert_true(c.over_at_close);
}

/* ---- More workers, refused ---- */

static void work_waits_for_the_worker_that_runs(void **state) {
    (void)state;
    static gate hold;
    atomic_int runs = 0;
    hold = (gate)GATE_CLOSED;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 4 });
    tpool_future *holder = submitted(pool, gate_task, &hold), *futures[10];
    gate_await_arrivals(&hold, 1);
    refuse();
    for (int i = 0; i < 10; i++) futures[i] = submitted(pool, count_up, &runs);
    assert_status(TPOOL_OK, tpool_resize(pool, 8));
    assert_int_equal(0, atomic_load(&runs));
    assert_int_equal(1, stats_of(pool).workers);
    gate_open(&hold);
    for (int i = 0; i < 10; i++) {
        assert_status(TPOOL_OK, wait_for(futures[i]));
        tpool_future_release(futures[i]);
    }
    tpool_future_release(holder);
    assert_true(atomic_load(&starts_refused) > 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(1, atomic_load(&starts_granted));
}

typedef struct fib {
    int n, value;
} fib;
static void *fib_run(void *arg) {
    fib *f = arg, right = { f->n - 2, 0 }, left = { f->n - 1, 0 };
    if (f->n < 2) {
        f->value = f->n;
        return NULL;
    }
    tpool_job job;
    tpool_fork(&job, fib_run, &right);
    fib_run(&left);
    tpool_join(&job);
    f->value = left.value + right.value;
    return NULL;
}
static void forks_loops_and_waits_in_place_need_no_other_thread(void **state) {
    (void)state;
    atomic_int looped = 0;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 4 });
    assert_status(TPOOL_OK, tpool_warm_up(pool, 1));
    refuse();
    fib f = { 15, 0 };
    tpool_future *future = submitted(pool, fib_run, &f);
    assert_status(TPOOL_OK, wait_for(future));
    tpool_future_release(future);
    assert_int_equal(610, f.value);
    assert_status(TPOOL_OK, tpool_for(pool, 0, 10000, 10, count_range, &looped));
    assert_int_equal(10000, atomic_load(&looped));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(1, atomic_load(&starts_granted));
}

/* ---- A destroy that gives up ---- */

static void pass_in_callback(tpool_future *future, void *g) {
    (void)future;
    gate_pass(g);
}
static tpool_status cancel(void *future) { return tpool_future_cancel(future) ? TPOOL_OK : TPOOL_INVALID_STATE; }
typedef struct left_destroy {
    tpool *pool;
    tpool_status destroyed, detached;
} left_destroy;
/* Waits for the pool's end without a spare worker for its own. */
static void *destroy_or_detach(void *of) {
    left_destroy *left = of;
    left->destroyed = tpool_destroy(left->pool);
    allow();
    left->detached = tpool_shutdown(left->pool, TPOOL_DETACH);
    return NULL;
}
/* It had no worker any more, and waited for the callback of a cancel. */
static void a_pool_that_a_late_refusal_keeps_from_its_end_can_be_detached(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    background cancels;
    left_destroy left = { .pool = new_pool(1) };
    assert_status(TPOOL_OK, tpool_pause(left.pool));
    tpool_future *future = submitted(left.pool, nothing, NULL);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(future, pass_in_callback, &g));
    background_start(&cancels, cancel, future);
    AWAIT_ARRIVALS(&g, 1);
    assert_status(TPOOL_OK, tpool_shutdown(left.pool, 0));
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 1));
    assert_status(TPOOL_OK, tpool_pause(pool));
    tpool_future *destroys = submitted(pool, destroy_or_detach, &left), *next = submitted(pool, nothing, NULL);
    refuse();
    assert_status(TPOOL_OK, tpool_resume(pool));
    take(destroys);
    take(next);
    assert_status(TPOOL_NO_THREAD, left.destroyed);
    assert_status(TPOOL_OK, left.detached);
    gate_open(&g);
    assert_status(TPOOL_OK, background_join(&cancels));
    tpool_future_release(future);
    EVENTUALLY(tpool__load_relaxed(&tpool__process.pool_count) == 1);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- What was started is joined ---- */

static void run_all(tpool *pool, tpool_fn fn, void *arg) {
    tpool_future *futures[12];
    for (int i = 0; i < 12; i++) futures[i] = submitted(pool, fn, arg);
    for (int i = 0; i < 12; i++) {
        (void)wait_for(futures[i]);
        tpool_future_release(futures[i]);
    }
}
static void each_thread_has_been_joined_when_its_pool_is_destroyed(void **state) {
    (void)state;
    gate open = GATE_CLOSED;
    gate_open(&open);
    enum { ALL_AT_ONCE, AFTER_A_SHUTDOWN, IDLE_ONES_BEFORE, EACH_AFTER_A_TASK, BY_THEIR_TASKS, WAYS };
    for (int way = 0; way < WAYS; way++) {
        allow_again(state);
        tpool_config config = { .max_workers = 4 };
        if (way == IDLE_ONES_BEFORE) config.idle_timeout_ns = TPOOL_MS(1);
        if (way == EACH_AFTER_A_TASK) config.max_tasks_per_worker = 1;
        tpool *pool = new_pool_as(config);
        assert_status(TPOOL_OK, tpool_warm_up(pool, 4));
        run_all(pool, way == BY_THEIR_TASKS ? pass_and_end_thread : nothing, &open);
        if (way == IDLE_ONES_BEFORE) EVENTUALLY(stats_of(pool).workers == 0);
        if (way == AFTER_A_SHUTDOWN) assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
        assert_status(TPOOL_OK, tpool_destroy(pool));
        assert_true(atomic_load(&starts_granted) >= 4);
#if defined(_WIN32) /* one that ends in its exit hook can wait for none there: it only gives the handle back */
        assert_int_equal(atomic_load(&starts_granted), atomic_load(&handles_closed));
        if (way == BY_THEIR_TASKS) continue;
#endif
        assert_int_equal(atomic_load(&starts_granted), atomic_load(&joins));
    }
}

static const struct CMUnitTest tests[] = {
    /* first: no thread that kept the times of another test is joined meanwhile */
    THREAD_TEST(each_thread_has_been_joined_when_its_pool_is_destroyed),
    THREAD_TEST(without_any_thread_nothing_is_taken),
    THREAD_TEST(a_pool_that_never_got_a_thread_ends),
    THREAD_TEST(a_warm_up_keeps_what_could_be_started),
    THREAD_TEST(a_refused_warm_up_loses_no_wake_of_what_was_submitted_meanwhile),
    THREAD_TEST(every_wait_whose_spare_is_refused_gives_no_thread),
    THREAD_TEST(a_wait_that_needs_a_spare_only_later_gives_no_thread_then),
    THREAD_TEST(a_spare_that_may_run_no_more_tasks_and_gets_no_successor_lets_no_wait_hang),
    THREAD_TEST(a_spare_whose_thread_is_ended_and_gets_no_successor_ends_a_wait),
    THREAD_TEST(the_last_worker_stays_beyond_its_tasks_when_no_successor_is_to_be_had),
    THREAD_TEST(when_the_last_worker_ends_its_thread_and_none_replaces_it_the_rest_is_broken),
    THREAD_TEST(a_resume_that_finds_no_thread_for_what_waits_says_so_or_breaks_it),
    THREAD_TEST(a_resume_after_the_last_worker_ended_its_thread_says_so_or_breaks_what_waits),
    THREAD_TEST(a_shutdown_that_finds_no_thread_for_what_waits_says_so),
    THREAD_TEST(a_close_waits_for_what_runs_though_no_spare_is_to_be_had),
    THREAD_TEST(work_waits_for_the_worker_that_runs),
    THREAD_TEST(forks_loops_and_waits_in_place_need_no_other_thread),
    THREAD_TEST(a_pool_that_a_late_refusal_keeps_from_its_end_can_be_detached),
};
RUN_TESTS(tests)
