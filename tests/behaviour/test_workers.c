/* The workers of a pool: when they start and end, how many there are, what they are called, what runs on them first
   and last, what happens when they cannot start or when a task ends its thread. What tasks touch is static, so that
   it is still there when a failed assertion has left the test. */
#include "support.h"
#include <signal.h>
#ifdef __linux__
#include <sys/resource.h>
#endif
#if defined(__has_include)
#if __has_include(<threads.h>) && !SLOW_TOOL /* ThreadSanitizer does not know C11 threads */
#include <threads.h>
#define HAVE_THRD_EXIT 1
#endif
#endif
#ifndef HAVE_THRD_EXIT
#define HAVE_THRD_EXIT 0
#endif

/* Initializer and finalizer that number the workers from 1 and count. */
static atomic_int initialized, finalized, finalized_elsewhere;
static _Thread_local int worker_number;
static bool number_worker(void *context) {
    (void)context;
    worker_number = atomic_fetch_add(&initialized, 1) + 1;
    return true;
}
static void count_finalized(void *context) {
    (void)context;
    if (worker_number == 0) atomic_fetch_add(&finalized_elsewhere, 1);
    atomic_fetch_add(&finalized, 1);
}
static void *give_worker_number(void *arg) {
    (void)arg;
    return (void *)(intptr_t)worker_number;
}

static void reset_counts(void) {
    atomic_store(&initialized, 0);
    atomic_store(&finalized, 0);
    atomic_store(&finalized_elsewhere, 0);
}

static tpool *new_counted_pool(int workers) {
    reset_counts();
    return new_pool_as(
        (tpool_config){ .max_workers = workers, .initializer = number_worker, .finalizer = count_finalized });
}

static int number_from(tpool_future *future) {
    void *result = take(future);
    return (int)(intptr_t)result;
}

/* --- workers start when they are needed */

static void three_submits_each_awaited_use_one_thread(void **state) {
    (void)state;
    for (int round = 0; round < COUNT(100); round++) {
        tpool *pool = new_counted_pool(4);
        for (int i = 0; i < 3; i++) {
            tpool_future *future = submitted(pool, give_worker_number, NULL);
            if (round % 2) {
                while (!tpool_future_done(future)) { } /* learns it without a wait, at the first moment */
            }
            assert_int_equal(1, number_from(future));
        }
        assert_int_equal(1, stats_of(pool).workers);
        assert_int_equal(1, atomic_load(&initialized));
        assert_status(TPOOL_OK, tpool_destroy(pool));
        assert_int_equal(1, atomic_load(&initialized));
        assert_int_equal(1, atomic_load(&finalized));
    }
}

static void a_submit_starts_a_worker_only_when_none_is_free(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    tpool *pool = new_counted_pool(3);
    assert_int_equal(0, stats_of(pool).workers);
    for (int i = 1; i <= 3; i++) {
        assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
        AWAIT_ARRIVALS(&hold, i);
        assert_int_equal(i, stats_of(pool).workers);
        assert_int_equal(i, stats_of(pool).active);
    }
    assert_int_equal(3, atomic_load(&initialized));
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    EVENTUALLY(stats_of(pool).idle == 3);
    assert_int_equal(0, stats_of(pool).active);
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    assert_int_equal(3, atomic_load(&initialized));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* A worker counts as looking for work as soon as its task's end is decided; but not while it still runs the program's
   code, here to free what a task that nobody asks for has returned. */
static void pass_gate_in_free(void *result) { gate_pass(result); }
static void *return_owned_gate(void *arg) { return tpool_return_owned(arg, pass_gate_in_free); }

static void while_a_worker_frees_a_result_another_runs_the_next_task(void **state) {
    (void)state;
    static gate freeing;
    freeing = (gate)GATE_CLOSED;
    tpool *pool = new_pool(2);
    tpool_task task = { .fn = return_owned_gate, .arg = &freeing, .name = "named, so that it has a future inside" };
    assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    AWAIT_ARRIVALS(&freeing, 1);
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    gate_open(&freeing);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static atomic_int first_initialized; /* the system's number of the first worker's thread */
static gate slow_initializer;
static bool be_slow_after_the_first(void *context) {
    (void)context;
    if (atomic_exchange(&first_initialized, system_thread()) != 0) gate_pass(&slow_initializer);
    return true;
}

static void beside_a_slow_initializer_a_sleeper_runs_what_comes(void **state) {
    (void)state;
    slow_initializer = (gate)GATE_CLOSED;
    atomic_store(&first_initialized, 0);
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 2, .initializer = be_slow_after_the_first });
    assert_status(TPOOL_OK, tpool_warm_up(pool, 1));
    int looks = 0;
    EVENTUALLY((looks = thread_sleeps(atomic_load(&first_initialized)) ? looks + 1 : 0) >= 5);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 2));
    AWAIT_ARRIVALS(&slow_initializer, 1);
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    gate_open(&slow_initializer);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static atomic_int at_once, most_at_once;
static void *note_how_many_at_once(void *arg) {
    int now = atomic_fetch_add(&at_once, 1) + 1, most = atomic_load(&most_at_once);
    while (now > most && !atomic_compare_exchange_weak(&most_at_once, &most, now)) { }
    if (arg) sleep_ms(1);
    atomic_fetch_sub(&at_once, 1);
    return NULL;
}

static void never_more_than_max_workers_run_at_once(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    atomic_store(&most_at_once, 0);
    tpool *pool = new_pool(3);
    for (int i = 0; i < 20; i++) assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
    AWAIT_ARRIVALS(&hold, 3);
    sleep_ms(20);
    assert_int_equal(3, gate_arrived(&hold));
    tpool_stats stats = stats_of(pool);
    assert_int_equal(3, stats.workers);
    assert_int_equal(3, stats.active);
    assert_int_equal(0, stats.idle);
    assert_int_equal(17, stats.queued);
    for (int i = 0; i < 500; i++) {
        assert_status(TPOOL_OK, tpool_submit(pool, note_how_many_at_once, i % 20 ? NULL : &hold, NULL));
    }
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_in_range(atomic_load(&most_at_once), 1, 3);
    assert_int_equal(3, stats_of(pool).workers);
    assert_int_equal(0, stats_of(pool).spared);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void all_workers_are_used_when_there_is_work_for_them(void **state) {
    (void)state;
    for (int round = 0; round < COUNT(50); round++) {
        static gate hold = GATE_CLOSED;
        gate_close(&hold);
        tpool *pool = new_pool(4);
        for (int i = 0; i < 4; i++) assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
        AWAIT_ARRIVALS(&hold, 4); /* fails if two of them share a worker */
        gate_open(&hold);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

static void warm_up_starts_workers_up_to_max_workers(void **state) {
    (void)state;
    tpool *pool = new_counted_pool(4);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 0));
    assert_int_equal(0, stats_of(pool).workers);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 3));
    assert_int_equal(3, stats_of(pool).workers);
    EVENTUALLY(atomic_load(&initialized) == 3);
    EVENTUALLY(stats_of(pool).idle == 3);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 2)); /* there are more already */
    assert_int_equal(3, stats_of(pool).workers);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 1000));
    assert_int_equal(4, stats_of(pool).workers);
    EVENTUALLY(atomic_load(&initialized) == 4); /* one whose thread has not come that far counts as idle too */
    EVENTUALLY(stats_of(pool).idle == 4);
    for (int i = 0; i < 10; i++) assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    assert_int_equal(4, atomic_load(&initialized));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(4, atomic_load(&finalized));
}

/* --- idle workers */

static void idle_workers_end_down_to_min_workers(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    reset_counts();
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 4,
                                              .min_workers = 1,
                                              .idle_timeout_ns = TPOOL_MS(20),
                                              .initializer = number_worker,
                                              .finalizer = count_finalized });
    for (int i = 0; i < 4; i++) assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
    AWAIT_ARRIVALS(&hold, 4);
    sleep_ms(60);
    assert_int_equal(4, stats_of(pool).workers); /* busy is not idle */
    gate_open(&hold);
    EVENTUALLY(stats_of(pool).workers == 1);
    EVENTUALLY(atomic_load(&finalized) == 3);
    sleep_ms(100);
    assert_int_equal(1, stats_of(pool).workers);
    assert_int_equal(3, atomic_load(&finalized));
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    assert_int_equal(4, atomic_load(&initialized)); /* the one that stayed ran it */
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(4, atomic_load(&finalized));
}

static void without_min_workers_all_idle_ones_end_and_new_ones_start(void **state) {
    (void)state;
    reset_counts();
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 3,
                                              .idle_timeout_ns = TPOOL_MS(10),
                                              .initializer = number_worker,
                                              .finalizer = count_finalized });
    for (int i = 1; i <= 3; i++) {
        assert_status(TPOOL_OK, tpool_warm_up(pool, 3));
        EVENTUALLY(stats_of(pool).workers == 0);
        EVENTUALLY(atomic_load(&finalized) == atomic_load(&initialized));
        assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(atomic_load(&initialized), atomic_load(&finalized));
}

static void without_an_idle_timeout_workers_stay(void **state) {
    (void)state;
    tpool *pool = new_counted_pool(3);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 3));
    EVENTUALLY(stats_of(pool).idle == 3);
    sleep_ms(60);
    assert_int_equal(3, stats_of(pool).workers);
    assert_int_equal(0, atomic_load(&finalized));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* Work that arrives just as workers end must not be lost. */
static void submits_that_meet_ending_workers_are_run(void **state) {
    (void)state;
    static atomic_int runs;
    atomic_store(&runs, 0);
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 2, .idle_timeout_ns = TPOOL_US(50) });
    int count = COUNT(500);
    for (int i = 0; i < count; i++) {
        int64_t until = tpool_now() + TPOOL_US(30 + i % 50);
        while (tpool_now() < until) { }
        assert_status(TPOOL_OK, end_of(submitted(pool, count_up, &runs)));
    }
    assert_int_equal(count, atomic_load(&runs));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- resize */

static void resize_up_starts_queued_work_at_once(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    tpool *pool = new_pool(1);
    for (int i = 0; i < 5; i++) assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
    AWAIT_ARRIVALS(&hold, 1);
    sleep_ms(10);
    assert_int_equal(1, gate_arrived(&hold));
    assert_status(TPOOL_OK, tpool_resize(pool, 3));
    assert_int_equal(3, stats_of(pool).max_workers);
    AWAIT_ARRIVALS(&hold, 3); /* without a further submit */
    sleep_ms(10);
    assert_int_equal(3, gate_arrived(&hold));
    assert_int_equal(2, stats_of(pool).queued);
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(5, stats_of(pool).completed);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void resize_down_takes_effect_as_workers_become_idle(void **state) {
    (void)state;
    static gate first = GATE_CLOSED, second = GATE_CLOSED;
    tpool *pool = new_counted_pool(4);
    for (int i = 0; i < 4; i++) assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &first, NULL));
    AWAIT_ARRIVALS(&first, 4);
    for (int i = 0; i < 6; i++) assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &second, NULL));
    assert_status(TPOOL_OK, tpool_resize(pool, 2));
    assert_int_equal(2, stats_of(pool).max_workers);
    assert_int_equal(4, stats_of(pool).active); /* what runs goes on */
    gate_open(&first);
    AWAIT_ARRIVALS(&second, 2);
    EVENTUALLY(stats_of(pool).workers == 2);
    sleep_ms(10);
    assert_int_equal(2, gate_arrived(&second));
    gate_open(&second);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(10, stats_of(pool).completed);
    assert_int_equal(2, stats_of(pool).workers);
    EVENTUALLY(atomic_load(&finalized) == 2);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(4, atomic_load(&finalized));
}

static void resize_down_ends_idle_workers_and_up_starts_new_ones(void **state) {
    (void)state;
    tpool *pool = new_counted_pool(4);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 4));
    EVENTUALLY(stats_of(pool).idle == 4);
    assert_status(TPOOL_OK, tpool_resize(pool, 1));
    EVENTUALLY(stats_of(pool).workers == 1);
    EVENTUALLY(atomic_load(&finalized) == 3);
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    assert_status(TPOOL_OK, tpool_warm_up(pool, 4));
    assert_int_equal(1, stats_of(pool).workers);
    assert_status(TPOOL_OK, tpool_resize(pool, 2));
    assert_status(TPOOL_OK, tpool_warm_up(pool, 4));
    assert_int_equal(2, stats_of(pool).workers);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(5, atomic_load(&finalized));
}

/* --- pause and resume */

static void between_pause_and_resume_no_task_starts(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static atomic_int runs;
    tpool *pool = new_pool(2);
    tpool_future *running = submitted(pool, gate_task, &hold);
    AWAIT_ARRIVALS(&hold, 1);
    assert_status(TPOOL_OK, tpool_resume(pool)); /* it was not paused */
    assert_status(TPOOL_OK, tpool_pause(pool));
    assert_status(TPOOL_OK, tpool_pause(pool));
    tpool_future *pending[3];
    for (int i = 0; i < 3; i++)
        pending[i] = submitted_task(pool, (tpool_task){ .fn = count_up, .arg = &runs, .priority = i - 1 });
    gate_open(&hold);
    assert_status(TPOOL_OK, end_of(running)); /* what ran goes on */
    assert_status(TPOOL_TIMEOUT, tpool_future_result(pending[2], TPOOL_MS(30), NULL));
    assert_int_equal(0, atomic_load(&runs));
    assert_int_equal(3, stats_of(pool).queued);
    for (int i = 0; i < 3; i++) assert_int_equal(TPOOL_PENDING, tpool_future_state(pending[i]));
    assert_true(tpool_future_cancel(pending[1]));
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_status(TPOOL_OK, end_of(pending[0]));
    assert_status(TPOOL_CANCELLED, end_of(pending[1]));
    assert_status(TPOOL_OK, end_of(pending[2]));
    assert_int_equal(2, atomic_load(&runs));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

typedef struct feeder {
    tpool *pool;
    atomic_int runs;
    atomic_bool stop;
    int refused;
} feeder;
static void *feed(void *arg) {
    feeder *f = arg;
    while (!atomic_load(&f->stop)) {
        if (tpool_submit(f->pool, count_up, &f->runs, NULL) != TPOOL_OK) f->refused++;
        tpool_stats stats;
        if (tpool_get_stats(f->pool, &stats) != TPOOL_OK || stats.queued > 1000) sleep_ms(1);
    }
    return NULL;
}

static void pause_holds_against_submits_from_elsewhere(void **state) {
    (void)state;
    static feeder f;
    f.pool = new_pool(2);
    pthread_t thread;
    assert_int_equal(0, pthread_create(&thread, NULL, feed, &f));
    for (int round = 0; round < COUNT(50); round++) {
        int before = atomic_load(&f.runs);
        EVENTUALLY(atomic_load(&f.runs) > before);
        assert_status(TPOOL_OK, tpool_pause(f.pool));
        EVENTUALLY(stats_of(f.pool).active == 0);
        int paused = atomic_load(&f.runs);
        sleep_ms(2);
        assert_int_equal(paused, atomic_load(&f.runs));
        assert_status(TPOOL_OK, tpool_resume(f.pool));
    }
    atomic_store(&f.stop, true);
    pthread_join(thread, NULL);
    assert_int_equal(0, f.refused);
    assert_status(TPOOL_OK, tpool_destroy(f.pool));
}

typedef struct waiting_parent {
    gate *before_wait;
    atomic_int child_runs;
    tpool_status submit, wait;
} waiting_parent;
static void *submit_and_wait_after_gate(void *arg) {
    waiting_parent *p = arg;
    tpool_future *child;
    p->submit = tpool_submit(tpool_current(), count_up, &p->child_runs, &child);
    if (p->submit != TPOOL_OK) return NULL;
    gate_pass(p->before_wait);
    p->wait = tpool_future_result(child, TPOOL_FOREVER, NULL);
    tpool_future_release(child);
    return NULL;
}

static void a_wait_runs_nothing_in_place_while_the_pool_is_paused(void **state) {
    (void)state;
    static gate before_wait = GATE_CLOSED;
    static waiting_parent p;
    p.before_wait = &before_wait;
    tpool *pool = new_pool(1);
    tpool_future *parent = submitted(pool, submit_and_wait_after_gate, &p);
    AWAIT_ARRIVALS(&before_wait, 1);
    assert_status(TPOOL_OK, tpool_pause(pool));
    gate_open(&before_wait);
    assert_status(TPOOL_TIMEOUT, tpool_future_result(parent, TPOOL_MS(30), NULL));
    assert_int_equal(0, atomic_load(&p.child_runs));
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_status(TPOOL_OK, end_of(parent));
    assert_status(TPOOL_OK, p.submit);
    assert_status(TPOOL_OK, p.wait);
    assert_int_equal(1, atomic_load(&p.child_runs));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- who and where */

typedef struct whereabouts {
    tpool *pool;
    int worker;
    pthread_t thread;
    char name[96];
    bool has_name;
} whereabouts;
static void look_around(whereabouts *w) {
    w->pool = tpool_current();
    w->worker = tpool_current_worker();
    w->thread = pthread_self();
    w->has_name = thread_name(w->name, sizeof w->name);
}
typedef struct look_task {
    whereabouts seen;
    gate *hold;
} look_task;
static void *look_and_pass(void *arg) {
    look_task *look = arg;
    look_around(&look->seen);
    if (look->hold) gate_pass(look->hold);
    return NULL;
}

static whereabouts initializer_saw, finalizer_saw;
static bool look_in_initializer(void *context) {
    look_around(&initializer_saw);
    return context == &initializer_saw;
}
static void look_in_finalizer(void *context) {
    if (context == &initializer_saw) look_around(&finalizer_saw);
}

static void current_tells_pool_and_index_of_the_worker(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static look_task looks[2][3];
    tpool *pools[2];
    assert_null(tpool_current());
    assert_int_equal(-1, tpool_current_worker());
    for (int p = 0; p < 2; p++) {
        pools[p] = new_pool(3);
        for (int i = 0; i < 3; i++) {
            looks[p][i].hold = &hold;
            assert_status(TPOOL_OK, tpool_submit(pools[p], look_and_pass, &looks[p][i], NULL));
        }
    }
    AWAIT_ARRIVALS(&hold, 6);
    gate_open(&hold);
    for (int p = 0; p < 2; p++) {
        assert_status(TPOOL_OK, tpool_drain(pools[p], LIMIT));
        int seen = 0;
        for (int i = 0; i < 3; i++) {
            assert_ptr_equal(pools[p], looks[p][i].seen.pool);
            assert_in_range(looks[p][i].seen.worker, 0, 2);
            seen |= 1 << looks[p][i].seen.worker;
            assert_false(pthread_equal(pthread_self(), looks[p][i].seen.thread));
        }
        assert_int_equal(7, seen); /* each index once */
        assert_status(TPOOL_OK, tpool_destroy(pools[p]));
    }
    assert_null(tpool_current());
    assert_int_equal(-1, tpool_current_worker());
}

static void initializer_and_finalizer_run_on_the_worker_with_the_context(void **state) {
    (void)state;
    static look_task look;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 2,
                                              .initializer = look_in_initializer,
                                              .finalizer = look_in_finalizer,
                                              .context = &initializer_saw });
    assert_status(TPOOL_OK, end_of(submitted(pool, look_and_pass, &look)));
    assert_true(pthread_equal(look.seen.thread, initializer_saw.thread));
    assert_ptr_equal(pool, initializer_saw.pool);
    assert_int_equal(look.seen.worker, initializer_saw.worker);
    assert_null(finalizer_saw.pool);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_true(pthread_equal(look.seen.thread, finalizer_saw.thread));
    assert_ptr_equal(pool, finalizer_saw.pool);
    assert_int_equal(look.seen.worker, finalizer_saw.worker);
}

static atomic_int tasks_on_raw_workers;
static void *check_initialized(void *arg) {
    (void)arg;
    if (worker_number == 0) atomic_fetch_add(&tasks_on_raw_workers, 1);
    return NULL;
}

static void initializer_and_finalizer_run_once_per_worker(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    tpool *pool = new_counted_pool(3);
    for (int i = 0; i < 3; i++) assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
    AWAIT_ARRIVALS(&hold, 3);
    for (int i = 0; i < 200; i++) assert_status(TPOOL_OK, tpool_submit(pool, check_initialized, NULL, NULL));
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(3, atomic_load(&initialized));
    assert_int_equal(0, atomic_load(&finalized));
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT));
    assert_int_equal(3, atomic_load(&initialized));
    assert_int_equal(3, atomic_load(&finalized));
    assert_int_equal(0, atomic_load(&finalized_elsewhere));
    assert_int_equal(0, atomic_load(&tasks_on_raw_workers));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(3, atomic_load(&finalized));
}

typedef struct spare_story {
    look_task inner;
    int inner_number, outer_number;
    tpool_status submit, wait;
} spare_story;
static void *look_and_give_number(void *arg) {
    spare_story *s = arg;
    look_around(&s->inner.seen);
    s->inner_number = worker_number;
    return NULL;
}
static void *wait_with_limit(void *arg) {
    spare_story *s = arg;
    tpool_future *inner;
    s->outer_number = worker_number;
    s->submit = tpool_submit(tpool_current(), look_and_give_number, s, &inner);
    if (s->submit != TPOOL_OK) return NULL;
    s->wait = tpool_future_result(inner, LIMIT, NULL); /* with a limit: not in place, so a spare runs it */
    tpool_future_release(inner);
    return NULL;
}

static void spare_workers_have_high_indices_run_both_hooks_and_end(void **state) {
    (void)state;
    static spare_story s;
    tpool *pool = new_counted_pool(1);
    assert_status(TPOOL_OK, end_of(submitted(pool, wait_with_limit, &s)));
    assert_status(TPOOL_OK, s.submit);
    assert_status(TPOOL_OK, s.wait);
    assert_int_equal(1, s.outer_number);
    assert_int_equal(2, s.inner_number);
    assert_ptr_equal(pool, s.inner.seen.pool);
    assert_true(s.inner.seen.worker >= 1);
    assert_int_equal(1, stats_of(pool).spared);
    EVENTUALLY(atomic_load(&finalized) == 1); /* one thread is no longer needed */
    assert_int_equal(2, atomic_load(&initialized));
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(2, atomic_load(&initialized));
    assert_int_equal(2, atomic_load(&finalized));
}

static void workers_carry_the_name_of_the_pool_and_their_index(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static look_task looks[12];
    static const char *const names[] = { "crunch", "a-name-that-no-system-takes-whole", "exactly-15-long" };
    for (int n = 0; n < 3; n++) {
        char name[64], expected[96];
        snprintf(name, sizeof name, "%s", names[n]);
        gate_close(&hold);
        tpool *pool = new_pool_as((tpool_config){ .name = name, .max_workers = 12 });
        memset(name, 'x', sizeof name - 1); /* the pool has a copy */
        for (int i = 0; i < 12; i++) {
            looks[i].hold = &hold;
            assert_status(TPOOL_OK, tpool_submit(pool, look_and_pass, &looks[i], NULL));
        }
        AWAIT_ARRIVALS(&hold, 12);
        gate_open(&hold);
        assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
        int seen = 0;
        for (int i = 0; i < 12; i++) {
            int index = looks[i].seen.worker;
            assert_in_range(index, 0, 11);
            seen |= 1 << index;
            char ending[16];
            int ending_length = snprintf(ending, sizeof ending, "_%d", index);
#ifdef __linux__
            int kept = 15 - ending_length; /* it takes 15 characters */
#else
            int kept = 80 - ending_length;
#endif
            snprintf(expected, sizeof expected, "%.*s%s", kept, names[n], ending);
            if (looks[i].seen.has_name) assert_string_equal(expected, looks[i].seen.name);
        }
        assert_int_equal((1 << 12) - 1, seen);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
    if (!looks[0].seen.has_name) skip();
}

/* --- replacement after so many tasks */

static void a_worker_is_replaced_after_max_tasks_per_worker(void **state) {
    (void)state;
    for (int round = 0; round < COUNT(60) + 2; round++) {
        bool awaited = round % 2;
        reset_counts();
        tpool *pool = new_pool_as((tpool_config){
            .max_workers = 1, .max_tasks_per_worker = 3, .initializer = number_worker, .finalizer = count_finalized });
        tpool_future *futures[10];
        if (!awaited) assert_status(TPOOL_OK, tpool_pause(pool));
        for (int i = 0; i < 10; i++) {
            futures[i] = submitted(pool, give_worker_number, NULL);
            if (awaited) assert_status(TPOOL_OK, tpool_future_result(futures[i], LIMIT, NULL));
        }
        assert_status(TPOOL_OK, tpool_resume(pool));
        for (int i = 0; i < 10; i++) assert_int_equal(1 + i / 3, number_from(futures[i]));
        EVENTUALLY(atomic_load(&finalized) == 3);
        EVENTUALLY(stats_of(pool).workers == 1);
        assert_int_equal(4, atomic_load(&initialized));
        assert_int_equal(0, stats_of(pool).spared); /* a replacement is no spare */
        assert_status(TPOOL_OK, tpool_destroy(pool));
        assert_int_equal(4, atomic_load(&initialized));
        assert_int_equal(4, atomic_load(&finalized));
    }
}

static void with_one_task_per_worker_each_task_has_a_fresh_thread(void **state) {
    (void)state;
    reset_counts();
    int count = COUNT(200);
    tpool *pool = new_pool_as((tpool_config){
        .max_workers = 3, .max_tasks_per_worker = 1, .initializer = number_worker, .finalizer = count_finalized });
    int most = count + 3; /* up to three may have started for nothing at the end */
    static bool seen[204];
    tpool_future *futures[200];
    for (int i = 0; i < count; i++) futures[i] = submitted(pool, give_worker_number, NULL);
    for (int i = 0; i < count; i++) {
        int number = number_from(futures[i]);
        assert_in_range(number, 1, most);
        assert_false(seen[number]);
        seen[number] = true;
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_in_range(atomic_load(&initialized), count, most);
    assert_int_equal(atomic_load(&initialized), atomic_load(&finalized));
}

/* A task waits for one that it runs itself, of which only the entry in the queue is left then. The worker comes upon
   that on its way to its last task. */
static atomic_int owned_freed;
static void count_owned(void *owned) {
    (void)owned;
    atomic_fetch_add(&owned_freed, 1);
}
static void *return_counted(void *arg) { return tpool_return_owned(arg, count_owned); }
static tpool_future *awaited_last;
static void *await_and_let_go(void *arg) {
    tpool_status status = tpool_future_result(awaited_last, TPOOL_FOREVER, NULL);
    tpool_future_release(awaited_last);
    return status == TPOOL_OK ? arg : tpool_raise(status, "not run");
}
static void a_worker_that_is_replaced_frees_first_what_its_last_look_let_go(void **state) {
    (void)state;
    static int counted;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .max_tasks_per_worker = 2 });
    tpool_task first = { .fn = await_and_let_go, .priority = 1 };
    tpool_task awaited = { .fn = return_counted, .arg = &counted, .priority = 1 };
    tpool_future *future = NULL;
    atomic_store(&owned_freed, 0);
    assert_status(TPOOL_OK, tpool_pause(pool));
    future = submitted_task(pool, first);
    awaited_last = submitted_task(pool, awaited);
    assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_status(TPOOL_OK, end_of(future));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(1, atomic_load(&owned_freed));
}

/* --- an initializer that fails */

typedef struct failing_start {
    gate in_initializer;
    atomic_int calls, failures, finalized;
    int good_workers; /* the first so many start well */
    tpool_status failure_status;
    bool failure_has_message;
} failing_start;
static bool fail_after_good_workers(void *context) {
    failing_start *f = context;
    if (atomic_fetch_add(&f->calls, 1) < f->good_workers) return true;
    gate_pass(&f->in_initializer);
    return false;
}
static void count_context_finalized(void *context) { atomic_fetch_add(&((failing_start *)context)->finalized, 1); }
static void note_failure(const tpool_error *error, void *context) {
    failing_start *f = context;
    f->failure_status = error->status;
    f->failure_has_message = error->message && error->message[0];
    atomic_fetch_add(&f->failures, 1);
}

static void when_an_initializer_fails_all_that_waits_and_comes_is_broken(void **state) {
    (void)state;
    static failing_start f = { .in_initializer = GATE_CLOSED };
    static atomic_int runs, freed;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1,
                                              .initializer = fail_after_good_workers,
                                              .finalizer = count_context_finalized,
                                              .context = &f,
                                              .on_failure = note_failure });
    tpool_future *pending[5];
    for (int i = 0; i < 5; i++)
        pending[i] = submitted_task(pool, (tpool_task){ .fn = count_up, .arg = &runs, .priority = i % 3 - 1 });
    tpool_task unheld = { .fn = nothing, .arg = &freed, .arg_free = count_free };
    assert_status(TPOOL_OK, tpool_submit_task(pool, &unheld, NULL));
    AWAIT_ARRIVALS(&f.in_initializer, 1);
    for (int i = 0; i < 5; i++) assert_false(tpool_future_done(pending[i]));
    gate_open(&f.in_initializer);
    for (int i = 0; i < 5; i++) {
        const tpool_error *error = NULL;
        assert_status(TPOOL_BROKEN, tpool_future_result(pending[i], LIMIT, NULL));
        assert_status(TPOOL_OK, tpool_future_error(pending[i], 0, &error));
        assert_status(TPOOL_BROKEN, error->status);
        assert_non_null(error->message);
        assert_int_equal(TPOOL_FINISHED, tpool_future_state(pending[i]));
        tpool_future_release(pending[i]);
    }
    EVENTUALLY(atomic_load(&f.failures) == 1);
    assert_status(TPOOL_BROKEN, f.failure_status);
    assert_true(f.failure_has_message);
    assert_int_equal(1, atomic_load(&freed));

    tpool_future *refused = pending[0];
    assert_status(TPOOL_BROKEN, tpool_submit(pool, count_up, &runs, &refused));
    assert_null(refused);
    assert_status(TPOOL_BROKEN, tpool_submit_task(pool, &unheld, NULL));
    assert_int_equal(1, atomic_load(&freed)); /* not taken, not freed */
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    tpool_stats stats = stats_of(pool);
    assert_int_equal(6, stats.submitted);
    assert_int_equal(6, stats.failed);
    assert_int_equal(0, stats.queued);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(0, atomic_load(&runs));
    assert_int_equal(0, atomic_load(&f.finalized)); /* what did not start well is not finished off */
}

typedef struct blocked_submit {
    tpool *pool;
    atomic_int *runs;
    tpool_future *future;
} blocked_submit;
static tpool_status call_submit(void *context) {
    blocked_submit *s = context;
    return tpool_submit(s->pool, count_up, s->runs, &s->future);
}

static void when_a_later_initializer_fails_what_runs_goes_on_and_blocked_submitters_learn(void **state) {
    (void)state;
    static failing_start f = { .in_initializer = GATE_CLOSED, .good_workers = 1 };
    static gate hold = GATE_CLOSED;
    static atomic_int runs;
    static background submitter;
    static blocked_submit blocked;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 2,
                                              .queue_capacity = 1,
                                              .context = &f,
                                              .initializer = fail_after_good_workers,
                                              .finalizer = count_context_finalized });
    tpool_future *running = submitted(pool, gate_task, &hold);
    AWAIT_ARRIVALS(&hold, 1);
    tpool_future *pending = submitted(pool, count_up, &runs);
    AWAIT_ARRIVALS(&f.in_initializer, 1); /* the second worker is about to fail */
    blocked = (blocked_submit){ .pool = pool, .runs = &runs, .future = pending };
    background_start(&submitter, call_submit, &blocked);
    background_await_block(&submitter);
    gate_open(&f.in_initializer);
    assert_status(TPOOL_BROKEN, background_join(&submitter));
    assert_null(blocked.future);
    assert_status(TPOOL_BROKEN, end_of(pending));
    assert_status(TPOOL_BROKEN, tpool_submit(pool, count_up, &runs, NULL));
    assert_true(tpool_future_running(running));
    gate_open(&hold);
    assert_status(TPOOL_OK, end_of(running));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(0, atomic_load(&runs));
    assert_int_equal(1, atomic_load(&f.finalized));
}

static void warm_up_that_meets_a_failing_initializer_breaks_the_pool(void **state) {
    (void)state;
    static failing_start f = { .in_initializer = GATE_CLOSED };
    gate_open(&f.in_initializer);
    tpool *pool =
        new_pool_as((tpool_config){ .max_workers = 2, .initializer = fail_after_good_workers, .context = &f });
    tpool_status status = tpool_warm_up(pool, 2); /* it may notice or not */
    assert_true(status == TPOOL_OK || status == TPOOL_BROKEN);
    tpool_status submit = TPOOL_OK;
    for (int64_t end = tpool_now() + LIMIT; submit == TPOOL_OK && tpool_now() < end;) {
        tpool_future *future;
        submit = tpool_submit(pool, nothing, NULL, &future);
        if (submit == TPOOL_OK) assert_status(TPOOL_BROKEN, end_of(future));
    }
    assert_status(TPOOL_BROKEN, submit);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- waits in initializers and finalizers */

typedef struct hook_waits {
    gate entered;
    tpool *pool, *other;
    tpool_future *own; /* of a task of that pool */
    atomic_int hooks_run, late_runs;
    tpool_status result, result_limited, wait, submit, drain, shutdown, run, other_submit, other_result;
    tpool_future *refused;
} hook_waits;

static void wait_in_hook(hook_waits *w) {
    w->result = tpool_future_result(w->own, TPOOL_FOREVER, NULL);
    w->result_limited = tpool_future_result(w->own, TPOOL_MS(20), NULL);
    tpool_future *array[] = { w->own };
    w->wait = tpool_wait(array, 1, TPOOL_ALL_COMPLETED, TPOOL_FOREVER, NULL);
    w->refused = w->own;
    w->submit = tpool_submit(w->pool, count_up, &w->late_runs, &w->refused); /* the queue is full */
    w->drain = tpool_drain(w->pool, LIMIT);
    w->shutdown = tpool_shutdown(w->pool, TPOOL_WAIT);
    tpool_future *future;
    w->other_submit = tpool_submit(w->other, nothing, NULL, &future);
    if (w->other_submit == TPOOL_OK) {
        w->other_result = tpool_future_result(future, TPOOL_FOREVER, NULL);
        tpool_future_release(future);
    }
}

static void assert_hook_waits(const hook_waits *w) {
    assert_status(TPOOL_DEADLOCK, w->result);
    assert_status(TPOOL_DEADLOCK, w->result_limited);
    assert_status(TPOOL_DEADLOCK, w->wait);
    assert_status(TPOOL_DEADLOCK, w->submit);
    assert_null(w->refused);
    assert_status(TPOOL_DEADLOCK, w->drain);
    assert_status(TPOOL_DEADLOCK, w->shutdown);
    assert_status(TPOOL_OK, w->other_submit); /* another pool is no trouble */
    assert_status(TPOOL_OK, w->other_result);
}

static bool wait_in_initializer(void *context) {
    hook_waits *w = context;
    gate_pass(&w->entered);
    if (atomic_fetch_add(&w->hooks_run, 1) == 0) wait_in_hook(w);
    return true;
}

static void waits_for_the_own_pool_in_an_initializer_are_deadlocks(void **state) {
    (void)state;
    static hook_waits w = { .entered = GATE_CLOSED };
    w.other = new_pool(1);
    w.pool = new_pool_as(
        (tpool_config){ .max_workers = 1, .queue_capacity = 2, .initializer = wait_in_initializer, .context = &w });
    w.own = submitted(w.pool, nothing, NULL);
    AWAIT_ARRIVALS(&w.entered, 1);
    tpool_future *second = submitted(w.pool, nothing, NULL); /* now the queue is full */
    gate_open(&w.entered);
    assert_status(TPOOL_OK, end_of(second)); /* perhaps by a spare, while the initializer waits for the other pool */
    assert_status(TPOOL_OK, end_of(w.own));
    assert_status(TPOOL_OK, end_of(submitted(w.pool, nothing, NULL)));
    assert_status(TPOOL_OK, tpool_destroy(w.pool));
    assert_hook_waits(&w);
    assert_status(TPOOL_OK, tpool_destroy(w.other));
    assert_int_equal(0, atomic_load(&w.late_runs));
}

/* The third worker's initializer holds a gate: meanwhile nobody takes what is queued. */
typedef struct finalizer_story {
    hook_waits waits;
    gate third_worker;
    atomic_int workers, finalizers;
} finalizer_story;
static bool hold_third_worker(void *context) {
    finalizer_story *s = context;
    if (atomic_fetch_add(&s->workers, 1) == 2) gate_pass(&s->third_worker);
    return true;
}
static void wait_in_first_finalizer(void *context) {
    finalizer_story *s = context;
    if (atomic_fetch_add(&s->finalizers, 1) == 0) {
        wait_in_hook(&s->waits);
        atomic_store(&s->waits.hooks_run, 1);
    }
}

static void waits_for_the_own_pool_in_a_finalizer_are_deadlocks(void **state) {
    (void)state;
    static finalizer_story s = { .waits = { .entered = GATE_CLOSED }, .third_worker = GATE_CLOSED };
    static gate first = GATE_CLOSED, second = GATE_CLOSED;
    s.waits.other = new_pool(1);
    s.waits.pool = new_pool_as((tpool_config){ .max_workers = 2,
                                               .queue_capacity = 1,
                                               .max_tasks_per_worker = 1,
                                               .initializer = hold_third_worker,
                                               .context = &s,
                                               .finalizer = wait_in_first_finalizer });
    assert_status(TPOOL_OK, tpool_submit(s.waits.pool, gate_task, &first, NULL));
    AWAIT_ARRIVALS(&first, 1);
    s.waits.own = submitted(s.waits.pool, gate_task, &second);
    AWAIT_ARRIVALS(&second, 1);
    tpool_future *queued = submitted(s.waits.pool, nothing, NULL);
    gate_open(&first); /* its worker has run its one task, and ends */
    EVENTUALLY(atomic_load(&s.waits.hooks_run) == 1);
    assert_hook_waits(&s.waits);
    gate_open(&s.third_worker);
    gate_open(&second);
    assert_status(TPOOL_OK, end_of(s.waits.own));
    assert_status(TPOOL_OK, end_of(queued));
    assert_status(TPOOL_OK, tpool_destroy(s.waits.pool));
    assert_status(TPOOL_OK, tpool_destroy(s.waits.other));
    assert_int_equal(0, atomic_load(&s.waits.late_runs));
    assert_true(atomic_load(&s.workers) >= 3);
    assert_int_equal(atomic_load(&s.workers), atomic_load(&s.finalizers));
}

static atomic_int submitted_in_initializer;
static bool submit_in_initializer(void *context) {
    tpool **pool = context;
    return tpool_submit(*pool, count_up, &submitted_in_initializer, NULL) == TPOOL_OK;
}

static void an_initializer_may_submit_where_there_is_room(void **state) {
    (void)state;
    static tpool *pool;
    pool = new_pool_as((tpool_config){ .max_workers = 1, .initializer = submit_in_initializer, .context = &pool });
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(1, atomic_load(&submitted_in_initializer));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- signals and stacks */

#if !defined(_WIN32)
static sigset_t worker_mask;
static void *read_mask(void *arg) {
    (void)arg;
    pthread_sigmask(SIG_SETMASK, NULL, &worker_mask);
    return NULL;
}

static void workers_block_asynchronous_signals_and_no_others(void **state) {
    (void)state;
    static const int asynchronous[] = { SIGHUP,  SIGINT,  SIGQUIT, SIGTERM,  SIGUSR1, SIGUSR2,
                                        SIGALRM, SIGCHLD, SIGTSTP, SIGWINCH, SIGURG,  SIGIO };
    static const int synchronous[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
    sigset_t before, after;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, end_of(submitted(pool, read_mask, NULL)));
    for (size_t i = 0; i < sizeof asynchronous / sizeof asynchronous[0]; i++) {
        assert_int_equal(1, sigismember(&worker_mask, asynchronous[i]));
    }
    for (size_t i = 0; i < sizeof synchronous / sizeof synchronous[0]; i++) {
        assert_int_equal(0, sigismember(&worker_mask, synchronous[i]));
    }
    pthread_sigmask(SIG_SETMASK, NULL, &after); /* that of the submitting thread is as it was */
    for (int signal_number = 1; signal_number < 32; signal_number++) {
        assert_int_equal(sigismember(&before, signal_number), sigismember(&after, signal_number));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static pthread_t main_thread;
static volatile sig_atomic_t handled_on_main, handled_elsewhere;
static void note_thread_of_signal(int signal_number) {
    (void)signal_number;
    if (pthread_equal(pthread_self(), main_thread)) handled_on_main++;
    else handled_elsewhere++;
}

static void handlers_run_on_the_threads_of_the_program(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    main_thread = pthread_self();
    struct sigaction action, old;
    memset(&action, 0, sizeof action);
    action.sa_handler = note_thread_of_signal;
    assert_int_equal(0, sigaction(SIGUSR1, &action, &old));
    tpool *pool = new_pool(4);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 4));
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
    AWAIT_ARRIVALS(&hold, 2);
    for (int i = 1; i <= 10; i++) {
        assert_int_equal(0, kill(getpid(), SIGUSR1));
        EVENTUALLY(handled_on_main + handled_elsewhere == i);
    }
    assert_int_equal(10, handled_on_main);
    assert_int_equal(0, handled_elsewhere);
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(0, sigaction(SIGUSR1, &old, NULL));
}
#endif

static void *give_stack_size(void *arg) {
    size_t *size = arg;
#ifdef __linux__
    pthread_attr_t attributes;
    void *lowest;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        pthread_attr_getstack(&attributes, &lowest, size);
        pthread_attr_destroy(&attributes);
    }
#elif defined(_WIN32)
    ULONG_PTR low = 0, high = 0;
    GetCurrentThreadStackLimits(&low, &high);
    *size = (size_t)(high - low);
#else
    (void)size;
#endif
    return NULL;
}

static void workers_get_the_stack_size_asked_for(void **state) {
    (void)state;
#if defined(__linux__) || defined(_WIN32)
    static const size_t sizes[] = { (size_t)512 << 10, (size_t)24 << 20 };
    for (int i = 0; i < 2; i++) {
        static size_t got;
        got = 0;
        tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .stack_size = sizes[i] });
        assert_status(TPOOL_OK, end_of(submitted(pool, give_stack_size, &got)));
        /* The C library may take some pages of it, or use up a left-over stack of up to four times the size. */
        assert_in_range(got, sizes[i] - 65536, 4 * sizes[i]);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
#else
    skip();
#endif
}

/* --- threads refused */

/* A stack that fits into no address space: the system refuses every thread. */
#if SIZE_MAX > UINT32_MAX
#define ABSURD_STACK ((size_t)1 << 60)
#else
#define ABSURD_STACK ((size_t)4000 << 20)
#endif

static void when_every_thread_is_refused_nothing_is_taken(void **state) {
    (void)state;
    static atomic_int runs, freed;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 4, .stack_size = ABSURD_STACK });
    for (int i = 0; i < 3; i++) {
        tpool_future *futures[3] = { (tpool_future *)pool, (tpool_future *)pool, (tpool_future *)pool };
        assert_status(TPOOL_NO_THREAD, tpool_submit(pool, count_up, &runs, &futures[0]));
        assert_null(futures[0]);
        assert_status(TPOOL_NO_THREAD, tpool_submit(pool, count_up, &runs, NULL));
        tpool_task task = { .fn = count_up, .arg = &freed, .arg_free = count_free };
        futures[0] = (tpool_future *)pool;
        assert_status(TPOOL_NO_THREAD, tpool_submit_task(pool, &task, &futures[0]));
        assert_null(futures[0]);
        task.priority = -1;
        task.expires_ns = 1;
        assert_status(TPOOL_NO_THREAD, tpool_submit_task(pool, &task, NULL));
        task.arg_size = sizeof freed;
        assert_status(TPOOL_NO_THREAD, tpool_submit_task(pool, &task, NULL));
        tpool_task tasks[3] = { { .fn = count_up, .arg = &runs },
                                { .fn = count_up, .arg = &runs },
                                { .fn = count_up, .arg = &runs } };
        size_t taken = 9;
        assert_status(TPOOL_NO_THREAD, tpool_submit_many(pool, tasks, 3, futures, &taken));
        assert_int_equal(0, taken);
        for (int j = 0; j < 3; j++) assert_null(futures[j]);
        assert_status(TPOOL_NO_THREAD, tpool_run_with_timeout(pool, &tasks[0], LIMIT, &futures[0]));
        assert_null(futures[0]);
        assert_status(TPOOL_NO_THREAD, tpool_warm_up(pool, 2));
    }
    tpool_stats stats = stats_of(pool);
    assert_int_equal(0, stats.submitted);
    assert_int_equal(0, stats.queued);
    assert_int_equal(0, stats.workers);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(0, atomic_load(&runs));
    assert_int_equal(0, atomic_load(&freed));
}

static void when_at_least_one_worker_runs_the_work_waits_for_it(void **state) {
    (void)state;
#if defined(__linux__) && !SLOW_TOOL
    static gate hold = GATE_CLOSED;
    static atomic_int runs;
    /* Huge stacks, and after the first of them no address space for another; the sanitizers need theirs. */
    size_t stack = (size_t)512 << 20;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 4, .stack_size = stack });
    tpool_future *running = submitted(pool, gate_task, &hold), *waiting[3];
    AWAIT_ARRIVALS(&hold, 1);
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    assert_non_null(file);
    assert_int_equal(1, fscanf(file, "%lu", &pages));
    fclose(file);
    struct rlimit old, tight;
    assert_int_equal(0, getrlimit(RLIMIT_AS, &old));
    tight = old;
    tight.rlim_cur = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + stack / 2;
    assert_int_equal(0, setrlimit(RLIMIT_AS, &tight));
    tpool_status statuses[3];
    for (int i = 0; i < 3; i++) statuses[i] = tpool_submit(pool, count_up, &runs, &waiting[i]);
    tpool_status warm_up = tpool_warm_up(pool, 2);
    assert_int_equal(0, setrlimit(RLIMIT_AS, &old));
    for (int i = 0; i < 3; i++) assert_status(TPOOL_OK, statuses[i]);
    assert_status(TPOOL_NO_THREAD, warm_up);
    assert_int_equal(1, stats_of(pool).workers);
    assert_int_equal(0, atomic_load(&runs));
    gate_open(&hold);
    for (int i = 0; i < 3; i++) assert_status(TPOOL_OK, end_of(waiting[i]));
    assert_status(TPOOL_OK, end_of(running));
    assert_int_equal(3, atomic_load(&runs));
    assert_status(TPOOL_OK, tpool_warm_up(pool, 2)); /* and now there is room again */
    assert_int_equal(2, stats_of(pool).workers);
    assert_status(TPOOL_OK, tpool_destroy(pool));
#else
    skip();
#endif
}

/* --- a task that ends its thread */

#if defined(_WIN32)
static void *end_by_ExitThread(void *arg) {
    (void)arg;
    ExitThread(3);
}
#endif
#if HAVE_THRD_EXIT
static void *end_by_thrd_exit(void *arg) {
    (void)arg;
    thrd_exit(3);
}
#endif

static void a_task_that_ends_its_thread_breaks_only_itself(void **state) {
    (void)state;
    static const tpool_fn ways[] = {
        end_thread,
#if defined(_WIN32)
        end_by_ExitThread,
#endif
#if HAVE_THRD_EXIT
        end_by_thrd_exit,
#endif
    };
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        static atomic_int runs, freed;
        atomic_store(&runs, 0);
        atomic_store(&freed, 0);
        tpool *pool = new_counted_pool(1);
        assert_status(TPOOL_OK, tpool_pause(pool));
        tpool_future *before = submitted(pool, give_worker_number, NULL);
        tpool_future *broken =
            submitted_task(pool, (tpool_task){ .fn = ways[i], .arg = &freed, .name = "ender", .arg_free = count_free });
        tpool_future *after = submitted(pool, give_worker_number, NULL);
        for (int j = 0; j < 5; j++) assert_status(TPOOL_OK, tpool_submit(pool, count_up, &runs, NULL));
        assert_status(TPOOL_OK, tpool_resume(pool));

        const tpool_error *error = NULL;
        void *result = &freed;
        assert_status(TPOOL_BROKEN, tpool_future_result(broken, LIMIT, &result));
        assert_null(result);
        assert_int_equal(1, atomic_load(&freed));
        assert_int_equal(TPOOL_FINISHED, tpool_future_state(broken));
        assert_status(TPOOL_OK, tpool_future_error(broken, 0, &error));
        assert_status(TPOOL_BROKEN, error->status);
        assert_non_null(error->message);
        assert_string_equal("ender", error->task);
        assert_int_equal(1, number_from(before));
        assert_int_equal(2, number_from(after)); /* the worker was replaced */
        assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
        assert_int_equal(5, atomic_load(&runs));
        EVENTUALLY(atomic_load(&finalized) == 1);
        EVENTUALLY(stats_of(pool).workers == 1);
        tpool_stats stats = stats_of(pool);
        assert_int_equal(8, stats.submitted);
        assert_int_equal(7, stats.completed);
        assert_int_equal(1, stats.failed);
        tpool_future_release(broken);
        assert_status(TPOOL_OK, tpool_destroy(pool));
        assert_int_equal(2, atomic_load(&initialized));
        assert_int_equal(2, atomic_load(&finalized));
        assert_int_equal(0, atomic_load(&finalized_elsewhere));
        assert_int_equal(1, atomic_load(&freed));
    }
}

/* Each level waits for the next, which its waiter runs in place; the deepest ends the thread beneath all. */
typedef struct level {
    int depth;
    struct levels *all;
} level;
typedef struct levels {
    tpool *pool;
    level each[4];
    tpool_future *futures[4];
    atomic_int freed, survived;
} levels;
static void *descend(void *arg) {
    level *here = arg;
    levels *all = here->all;
    if (here->depth == 3) pthread_exit(NULL);
    level *next = &all->each[here->depth + 1];
    tpool_task task = { .fn = descend, .arg = next };
    if (tpool_submit_task(all->pool, &task, &all->futures[next->depth]) == TPOOL_OK) {
        (void)tpool_future_result(all->futures[next->depth], TPOOL_FOREVER, NULL);
    }
    atomic_fetch_add(&all->survived, 1); /* never reached: the stack is gone */
    return NULL;
}

static void the_tasks_beneath_one_that_ends_its_thread_break_too(void **state) {
    (void)state;
    static levels all;
    all.pool = new_counted_pool(1);
    for (int i = 0; i < 4; i++) all.each[i] = (level){ .depth = i, .all = &all };
    all.futures[0] = submitted_task(all.pool, (tpool_task){ .fn = descend, .arg = &all.each[0] });
    tpool_future *other = submitted(all.pool, give_worker_number, NULL);
    assert_status(TPOOL_BROKEN, tpool_future_result(all.futures[0], LIMIT, NULL));
    assert_int_equal(2, number_from(other));
    assert_status(TPOOL_OK, tpool_drain(all.pool, LIMIT));
    assert_int_equal(0, atomic_load(&all.survived));
    for (int i = 0; i < 4; i++) {
        assert_status(TPOOL_BROKEN, tpool_future_result(all.futures[i], 0, NULL));
        tpool_future_release(all.futures[i]);
    }
    assert_int_equal(4, stats_of(all.pool).failed);
    assert_int_equal(1, stats_of(all.pool).completed);
    EVENTUALLY(atomic_load(&finalized) == 1);
    assert_status(TPOOL_OK, tpool_destroy(all.pool));
    assert_int_equal(2, atomic_load(&finalized));
}

typedef struct told {
    atomic_int count;
    tpool_status status;
    char task[32];
    bool has_message;
} told;
static void note_told(const tpool_error *error, void *context) {
    told *t = context;
    t->status = error->status;
    t->has_message = error->message != NULL;
    snprintf(t->task, sizeof t->task, "%s", error->task ? error->task : "");
    atomic_fetch_add(&t->count, 1);
}

static void on_failure_learns_of_a_task_that_ended_its_thread_when_nobody_holds_it(void **state) {
    (void)state;
    static told t;
    static atomic_int freed;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .on_failure = note_told, .context = &t });
    tpool_task task = { .fn = end_thread, .arg = &freed, .arg_free = count_free, .name = "unheld" };
    assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(1, atomic_load(&t.count));
    assert_status(TPOOL_BROKEN, t.status);
    assert_string_equal("unheld", t.task);
    assert_true(t.has_message);
    assert_int_equal(1, atomic_load(&freed));
    /* A held one is its holder's affair. */
    task.name = "held";
    assert_status(TPOOL_BROKEN, end_of(submitted_task(pool, task)));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(1, atomic_load(&t.count));
    assert_int_equal(2, atomic_load(&freed));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void many_tasks_that_end_their_threads_leave_a_working_pool(void **state) {
    (void)state;
    static atomic_int runs;
    tpool *pool = new_counted_pool(3);
    int count = COUNT(100);
    for (int i = 0; i < count; i++) {
        assert_status(TPOOL_OK, tpool_submit(pool, end_thread, NULL, NULL));
        assert_status(TPOOL_OK, tpool_submit(pool, count_up, &runs, NULL));
    }
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(count, atomic_load(&runs));
    assert_int_equal(count, stats_of(pool).failed);
    EVENTUALLY(stats_of(pool).workers <= 3);
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(atomic_load(&initialized), atomic_load(&finalized));
}

static const struct CMUnitTest tests[] = {
    TEST(three_submits_each_awaited_use_one_thread),
    TEST(a_submit_starts_a_worker_only_when_none_is_free),
    TEST(while_a_worker_frees_a_result_another_runs_the_next_task),
    TEST(beside_a_slow_initializer_a_sleeper_runs_what_comes),
    TEST(never_more_than_max_workers_run_at_once),
    TEST(all_workers_are_used_when_there_is_work_for_them),
    TEST(warm_up_starts_workers_up_to_max_workers),
    TEST(idle_workers_end_down_to_min_workers),
    TEST(without_min_workers_all_idle_ones_end_and_new_ones_start),
    TEST(without_an_idle_timeout_workers_stay),
    TEST(submits_that_meet_ending_workers_are_run),
    TEST(resize_up_starts_queued_work_at_once),
    TEST(resize_down_takes_effect_as_workers_become_idle),
    TEST(resize_down_ends_idle_workers_and_up_starts_new_ones),
    TEST(between_pause_and_resume_no_task_starts),
    TEST(pause_holds_against_submits_from_elsewhere),
    TEST(a_wait_runs_nothing_in_place_while_the_pool_is_paused),
    TEST(current_tells_pool_and_index_of_the_worker),
    TEST(initializer_and_finalizer_run_on_the_worker_with_the_context),
    TEST(initializer_and_finalizer_run_once_per_worker),
    TEST(spare_workers_have_high_indices_run_both_hooks_and_end),
    TEST(workers_carry_the_name_of_the_pool_and_their_index),
    TEST(a_worker_is_replaced_after_max_tasks_per_worker),
    TEST(with_one_task_per_worker_each_task_has_a_fresh_thread),
    TEST(a_worker_that_is_replaced_frees_first_what_its_last_look_let_go),
    TEST(when_an_initializer_fails_all_that_waits_and_comes_is_broken),
    TEST(when_a_later_initializer_fails_what_runs_goes_on_and_blocked_submitters_learn),
    TEST(warm_up_that_meets_a_failing_initializer_breaks_the_pool),
    TEST(waits_for_the_own_pool_in_an_initializer_are_deadlocks),
    TEST(waits_for_the_own_pool_in_a_finalizer_are_deadlocks),
    TEST(an_initializer_may_submit_where_there_is_room),
#if !defined(_WIN32) /* there are no signals between processes */
    TEST(workers_block_asynchronous_signals_and_no_others),
    TEST(handlers_run_on_the_threads_of_the_program),
#endif
    TEST(workers_get_the_stack_size_asked_for),
    TEST(when_every_thread_is_refused_nothing_is_taken),
    TEST(when_at_least_one_worker_runs_the_work_waits_for_it),
    TEST(a_task_that_ends_its_thread_breaks_only_itself),
    TEST(the_tasks_beneath_one_that_ends_its_thread_break_too),
    TEST(on_failure_learns_of_a_task_that_ended_its_thread_when_nobody_holds_it),
    TEST(many_tasks_that_end_their_threads_leave_a_working_pool),
};
RUN_TESTS(tests)
