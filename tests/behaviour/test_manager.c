/* Managed pools: who gets which pool, what a handle is good for and for how long, what ends a pool and what never does,
   what the calls say to bad input, and what happens when everybody asks at once. Idle times, with a clock that the test
   sets, are in white_manager.c; the end of the process is in test_exit.c. */
#include "support.h"
#include "support/managers.h"

/* ---- Basics and validation ---- */

static void a_manager_lends_a_pool_that_works(void **state) {
    (void)state;
    tpool_manager *manager = NULL;
    assert_status(TPOOL_OK, tpool_manager_create(&manager, NULL));
    tpool *pool = get(manager, 3);
    tpool_stats stats;
    assert_status(TPOOL_OK, tpool_get_stats(pool, &stats));
    assert_int_equal(3, stats.max_workers);
    assert_int_equal(0, stats.workers); /* none before there is work */
    check_works(pool);
    release(manager, pool);
    tpool_manager_destroy(manager);
}

static void zero_workers_means_the_default(void **state) {
    (void)state;
    tpool_manager *manager = new_manager();
    tpool *pool = get(manager, 0);
    tpool_stats stats;
    assert_status(TPOOL_OK, tpool_get_stats(pool, &stats));
    assert_int_equal(tpool_workers_for(TPOOL_WORK_MIXED), stats.max_workers);
    assert_ptr_equal(pool, get(manager, 0));
    release(manager, pool);
    release(manager, pool);
    tpool_manager_destroy(manager);
}

static void bad_arguments_are_refused_and_change_nothing(void **state) {
    (void)state;
    tpool_manager *manager = new_manager();
    tpool *pool = (tpool *)manager;
    assert_status(TPOOL_INVALID, tpool_manager_create(NULL, NULL));
    assert_status(TPOOL_INVALID, tpool_manager_get(manager, 1, TPOOL_THREADS, 0, NULL));
    assert_status(TPOOL_INVALID, tpool_manager_get(manager, -1, TPOOL_THREADS, 0, &pool));
    assert_null(pool);
    pool = (tpool *)manager;
    assert_status(TPOOL_INVALID, tpool_manager_get(manager, 1, (tpool_kind)7, 0, &pool));
    assert_null(pool);
    assert_status(TPOOL_INVALID, tpool_manager_get(manager, 1, (tpool_kind)-1, 0, &pool));
    assert_status(TPOOL_INVALID, tpool_manager_get(manager, 1, TPOOL_THREADS, 1, &pool));
    assert_status(TPOOL_INVALID, tpool_manager_get(manager, 1, TPOOL_THREADS, TPOOL_FORCE_NEW | 32, &pool));
    assert_status(TPOOL_INVALID, tpool_manager_get_stats(manager, NULL));
    assert_status(TPOOL_INVALID, tpool_with_pool(manager, 1, TPOOL_THREADS, NULL, NULL));
    assert_int_equal(0, manager_stats_of(manager).pools);
    assert_int_equal(0, manager_stats_of(manager).created);
    assert_status(TPOOL_OK, tpool_manager_release(manager, NULL));
    tpool_manager_destroy(NULL);
    tpool_manager_destroy(manager);
}

static void what_the_system_refuses_is_handed_on(void **state) {
    (void)state;
    tpool_manager *manager = new_manager();
    tpool *pool = NULL, *own = NULL;
    tpool_status alone = tpool_create(&own, &(tpool_config){ .kind = TPOOL_PROCESSES, .max_workers = 1 });
    tpool_status managed = tpool_manager_get(manager, 1, TPOOL_PROCESSES, 0, &pool);
    assert_status(alone, managed);
    assert_true((managed == TPOOL_OK) == (pool != NULL));
    if (pool) {
        tpool *threads = get(manager, 1);
        assert_ptr_not_equal(threads, pool); /* another kind, another pool */
        release(manager, threads);
        release(manager, pool);
    } else {
        assert_int_equal(0, manager_stats_of(manager).pools);
    }
    tpool_destroy(own);
    tpool_manager_destroy(manager);
}

static void a_managed_pool_cannot_be_destroyed_by_its_user(void **state) {
    (void)state;
    tpool_manager *manager = new_manager();
    tpool *pool = get(manager, 1);
    assert_status(TPOOL_INVALID_STATE, tpool_destroy(pool));
    check_works(pool);
    release(manager, pool);
    tpool_manager_destroy(manager);
}

/* ---- Reuse ---- */

static void who_asks_for_the_same_gets_the_same(void **state) {
    (void)state;
    tpool_manager *manager = new_manager();
    tpool *one = get(manager, 1), *two = get(manager, 2);
    assert_ptr_not_equal(one, two);
    assert_ptr_equal(one, get(manager, 1));
    assert_ptr_equal(two, get(manager, 2));
    tpool_manager_stats stats = manager_stats_of(manager);
    assert_int_equal(2, stats.pools);
    assert_int_equal(2, stats.in_use);
    assert_int_equal(2, stats.created);
    assert_int_equal(2, stats.reused);
    for (int i = 0; i < 2; i++) {
        release(manager, one);
        release(manager, two);
    }
    assert_ptr_equal(one, get(manager, 1)); /* idle ones too */
    release(manager, one);
    tpool_manager_destroy(manager);
}

static void hundreds_of_configurations_are_told_apart(void **state) {
    (void)state;
    enum { POOLS = 300 };
    static tpool *pools[POOLS];
    tpool_manager *manager = new_manager();
    for (int i = 0; i < POOLS; i++) pools[i] = get(manager, i + 1);
    for (int i = 0; i < POOLS; i++) assert_ptr_equal(pools[i], get(manager, i + 1));
    assert_int_equal(POOLS, manager_stats_of(manager).pools);
    for (int i = 0; i < POOLS; i++) {
        release(manager, pools[i]);
        release(manager, pools[i]);
        assert_status(TPOOL_INVALID, tpool_manager_release(manager, pools[i]));
    }
    assert_int_equal(POOLS, manager_stats_of(manager).idle);
    tpool_manager_destroy(manager);
}

static void force_new_replaces_a_pool_that_lives_until_its_users_release_it(void **state) {
    (void)state;
    tpool_manager *manager = new_manager();
    tpool *old = get(manager, 1);
    assert_ptr_equal(old, get(manager, 1));
    tpool *fresh = get_new(manager, 1);
    assert_ptr_not_equal(old, fresh);
    assert_ptr_equal(fresh, get(manager, 1));
    check_works(old);
    check_works(fresh);
    tpool_manager_stats stats = manager_stats_of(manager);
    assert_int_equal(2, stats.pools);
    assert_int_equal(1, stats.replaced);
    assert_int_equal(2, stats.created);
    release(manager, old);
    check_works(old);
    release(manager, old);
    assert_int_equal(1, manager_stats_of(manager).pools);
    assert_status(TPOOL_INVALID, tpool_manager_release(manager, old));
    release(manager, fresh);
    release(manager, fresh);
    assert_int_equal(1, manager_stats_of(manager).idle);
    tpool_manager_destroy(manager);
}

static void force_new_where_nothing_is_just_creates(void **state) {
    (void)state;
    tpool_manager *manager = new_manager();
    tpool *pool = get_new(manager, 1);
    assert_int_equal(0, manager_stats_of(manager).replaced);
    release(manager, pool);
    tpool *fresh = get_new(manager, 1); /* and replaces an idle one, which ends at once */
    assert_int_equal(1, manager_stats_of(manager).replaced);
    assert_int_equal(1, manager_stats_of(manager).pools);
    release(manager, fresh);
    tpool_manager_destroy(manager);
}

/* ---- Aliveness ---- */

static void a_pool_that_was_shut_down_is_replaced(void **state) {
    (void)state;
    tpool_manager *manager = new_manager();
    tpool *old = get(manager, 1);
    assert_status(TPOOL_OK, tpool_shutdown(old, TPOOL_WAIT));
    tpool *fresh = get(manager, 1);
    assert_ptr_not_equal(old, fresh);
    check_works(fresh);
    assert_status(TPOOL_SHUTDOWN, tpool_submit(old, nothing, NULL, NULL)); /* still a handle */
    assert_int_equal(1, manager_stats_of(manager).replaced);
    release(manager, old);
    assert_int_equal(1, manager_stats_of(manager).pools);
    release(manager, fresh);
    tpool_manager_destroy(manager);
}

static void a_pool_that_was_shut_down_and_released_is_gone(void **state) {
    (void)state;
    tpool_manager *manager = new_manager();
    tpool *old = get(manager, 1);
    assert_status(TPOOL_OK, tpool_shutdown(old, 0));
    release(manager, old);
    assert_int_equal(0, manager_stats_of(manager).pools);
    tpool *fresh = get(manager, 1);
    check_works(fresh);
    release(manager, fresh);
    tpool_manager_destroy(manager);
}

static void a_replaced_pool_with_work_left_ends_when_that_is_done(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    tpool_manager *manager = new_manager();
    tpool *old = get(manager, 1);
    tpool_future *running = held_at(old, &g), *waiting = submitted(old, nothing, &g);
    tpool *fresh = get_new(manager, 1);
    release(manager, old); /* does not wait */
    assert_int_equal(2, manager_stats_of(manager).pools);
    gate_open(&g);
    assert_status(TPOOL_OK, tpool_future_result(waiting, LIMIT, NULL));
    EVENTUALLY((release(manager, get(manager, 1)), manager_stats_of(manager).pools == 1));
    tpool_future_release(running);
    tpool_future_release(waiting);
    release(manager, fresh);
    tpool_manager_destroy(manager);
}

/* ---- Lifecycle ---- */

static void what_is_queued_when_a_pool_is_released_runs(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    atomic_int runs = 0;
    tpool_manager *manager = new_manager();
    tpool *pool = get(manager, 1);
    tpool_future *running = held_at(pool, &g);
    for (int i = 0; i < 5; i++) assert_status(TPOOL_OK, tpool_submit(pool, count_up, &runs, NULL));
    release(manager, pool);
    gate_open(&g);
    EVENTUALLY(atomic_load(&runs) == 5);
    tpool_future_release(running);
    tpool_manager_destroy(manager);
}

static void clear_ends_idle_pools_and_no_others(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    tpool_manager *manager = new_manager();
    tpool *used = get(manager, 1), *idle = get(manager, 2), *working = get(manager, 3);
    check_works(idle);
    tpool_future *running = held_at(working, &g);
    release(manager, idle);
    release(manager, working);
    assert_status(TPOOL_OK, tpool_manager_clear(manager));
    assert_int_equal(2, manager_stats_of(manager).pools);
    assert_int_equal(0, manager_stats_of(manager).evicted);
    check_works(used);
    assert_ptr_equal(working, get(manager, 3));
    assert_status(TPOOL_INVALID, tpool_manager_release(manager, idle));
    gate_open(&g);
    assert_status(TPOOL_OK, end_of(running));
    check_works(working);
    release(manager, working);
    release(manager, used);
    assert_status(TPOOL_OK, tpool_manager_clear(manager));
    assert_int_equal(0, manager_stats_of(manager).pools);
    tpool_manager_destroy(manager);
}

static void shutdown_waits_for_the_work_and_handles_stay_valid(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    atomic_int runs = 0;
    tpool_manager *manager = new_manager();
    tpool *pool = get(manager, 1), *other = get(manager, 2), *none = pool;
    tpool_future *running = held_at(pool, &g);
    for (int i = 0; i < 5; i++) assert_status(TPOOL_OK, tpool_submit(pool, count_up, &runs, NULL));
    release(manager, other);
    gate_open(&g);
    assert_status(TPOOL_OK, tpool_manager_shutdown(manager, false));
    assert_int_equal(5, atomic_load(&runs));
    assert_status(TPOOL_SHUTDOWN, tpool_submit(pool, nothing, NULL, NULL));
    assert_status(TPOOL_SHUTDOWN, tpool_manager_get(manager, 1, TPOOL_THREADS, 0, &none));
    assert_null(none);
    assert_int_equal(1, manager_stats_of(manager).pools); /* the one that is out */
    release(manager, pool);
    assert_int_equal(0, manager_stats_of(manager).pools);
    tpool_future_release(running);
    tpool_manager_destroy(manager);
}

static void a_forced_shutdown_cancels_what_has_not_started(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    tpool_manager *manager = new_manager();
    tpool *pool = get(manager, 1);
    tpool_future *running = held_at(pool, &g), *waiting = submitted(pool, nothing, NULL);
    pthread_t opener;
    gate_open(&g); /* it may start or not: only what has not is cancelled */
    assert_int_equal(0, pthread_create(&opener, NULL, nothing, NULL));
    assert_status(TPOOL_OK, tpool_manager_shutdown(manager, true));
    pthread_join(opener, NULL);
    assert_status(TPOOL_OK, tpool_future_result(running, 0, NULL));
    tpool_status end = tpool_future_result(waiting, 0, NULL);
    assert_true(end == TPOOL_OK || end == TPOOL_CANCELLED);
    tpool_future_release(running);
    tpool_future_release(waiting);
    release(manager, pool);
    tpool_manager_destroy(manager);
}

static void *shut_down_with_force(void *manager) { return (void *)(uintptr_t)tpool_manager_shutdown(manager, true); }
static void a_forced_shutdown_cancels_before_it_waits(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    tpool_manager *manager = new_manager();
    tpool *pool = get(manager, 1);
    tpool_future *running = held_at(pool, &g), *waiting = submitted(pool, nothing, NULL);
    pthread_t thread;
    void *status = NULL;
    assert_int_equal(0, pthread_create(&thread, NULL, shut_down_with_force, manager));
    assert_status(TPOOL_CANCELLED, tpool_future_result(waiting, LIMIT, NULL)); /* while the other still runs */
    assert_int_equal(TPOOL_RUNNING, tpool_future_state(running));
    gate_open(&g);
    pthread_join(thread, &status);
    assert_status(TPOOL_OK, (tpool_status)(uintptr_t)status);
    tpool_future_release(running);
    tpool_future_release(waiting);
    release(manager, pool);
    tpool_manager_destroy(manager);
}

/* Passes a count from pool to pool until it is used up. */
typedef struct relay {
    tpool *pools[2];
    int left;
    gate *start;
    atomic_int *passed;
} relay;
static void *pass_on(void *arg) {
    relay r = *(relay *)arg;
    if (r.start) gate_pass(r.start);
    r.start = NULL;
    sleep_ms(1); /* the other pool has long been seen idle */
    atomic_fetch_add(r.passed, 1);
    if (r.left-- > 0 && tpool_submit_copy(r.pools[r.left % 2], pass_on, &r, sizeof r, NULL) != TPOOL_OK)
        atomic_fetch_add(r.passed, 1000);
    return NULL;
}
static void *shut_down_gently(void *manager) { return (void *)(uintptr_t)tpool_manager_shutdown(manager, false); }
static void a_gentle_shutdown_lets_tasks_hand_on_from_pool_to_pool_but_takes_nothing_from_outside(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    atomic_int passed = 0;
    tpool_manager *manager = new_manager();
    relay r = { { get(manager, 1), get(manager, 2) }, 20, &g, &passed };
    assert_status(TPOOL_OK, tpool_submit_copy(r.pools[0], pass_on, &r, sizeof r, NULL));
    gate_await_arrivals(&g, 1);
    pthread_t thread;
    void *status = NULL;
    assert_int_equal(0, pthread_create(&thread, NULL, shut_down_gently, manager));
    EVENTUALLY(tpool_submit(r.pools[1], nothing, NULL, NULL) == TPOOL_SHUTDOWN);
    tpool *none = NULL;
    assert_status(TPOOL_SHUTDOWN, tpool_manager_get(manager, 1, TPOOL_THREADS, 0, &none));
    gate_open(&g);
    pthread_join(thread, &status);
    assert_status(TPOOL_OK, (tpool_status)(uintptr_t)status);
    assert_int_equal(21, atomic_load(&passed));
    release(manager, r.pools[0]);
    release(manager, r.pools[1]);
    tpool_manager_destroy(manager);
}

static void a_paused_pool_does_not_hang_a_shutdown(void **state) {
    (void)state;
    atomic_int runs = 0;
    tpool_manager *manager = new_manager();
    tpool *pool = get(manager, 1);
    assert_status(TPOOL_OK, tpool_pause(pool));
    assert_status(TPOOL_OK, tpool_submit(pool, count_up, &runs, NULL));
    assert_status(TPOOL_OK, tpool_manager_shutdown(manager, false));
    assert_int_equal(1, atomic_load(&runs));
    release(manager, pool);
    tpool_manager_destroy(manager);
}

static void a_destroyed_manager_takes_releases_until_the_last_pool_is_back(void **state) {
    (void)state;
    tpool_manager *manager = new_manager();
    tpool *one = get(manager, 1), *two = get(manager, 2), *none = one;
    assert_ptr_equal(one, get(manager, 1));
    check_works(one);
    tpool_manager_destroy(manager);
    assert_status(TPOOL_SHUTDOWN, tpool_submit(one, nothing, NULL, NULL));
    assert_status(TPOOL_SHUTDOWN, tpool_manager_get(manager, 1, TPOOL_THREADS, 0, &none));
    assert_null(none);
    release(manager, one);
    release(manager, two);
    assert_status(TPOOL_INVALID, tpool_manager_release(manager, two));
    release(manager, one); /* and with it goes the manager: LeakSanitizer and valgrind look */
}

/* ---- Bounds ---- */

static void over_max_pools_the_least_recently_used_idle_pool_ends(void **state) {
    (void)state;
    tpool_manager *manager = new_manager_as((tpool_manager_config){ .max_pools = 3 });
    tpool *pools[4];
    for (int i = 0; i < 3; i++) {
        pools[i] = get(manager, i + 1);
        check_works(pools[i]);
    }
    release(manager, pools[1]);
    release(manager, pools[0]);
    release(manager, pools[2]);
    assert_ptr_equal(pools[1], get(manager, 2)); /* used again: now the first is the one used longest ago */
    release(manager, pools[1]);
    pools[3] = get(manager, 4);
    assert_int_equal(3, manager_stats_of(manager).pools);
    assert_int_equal(1, manager_stats_of(manager).evicted);
    assert_ptr_equal(pools[1], get(manager, 2));
    assert_ptr_equal(pools[2], get(manager, 3));
    assert_int_equal(4, manager_stats_of(manager).created);
    release(manager, get(manager, 1)); /* the first had ended, and is made anew */
    assert_int_equal(5, manager_stats_of(manager).created);
    release(manager, pools[1]);
    release(manager, pools[2]);
    release(manager, pools[3]);
    tpool_manager_destroy(manager);
}

static void with_all_in_use_there_is_still_one_more(void **state) {
    (void)state;
    tpool_manager *manager = new_manager_as((tpool_manager_config){ .max_pools = 2 });
    tpool *pools[4];
    for (int i = 0; i < 4; i++) pools[i] = get(manager, i + 1);
    assert_int_equal(4, manager_stats_of(manager).pools);
    for (int i = 0; i < 4; i++) {
        check_works(pools[i]);
        release(manager, pools[i]);
    }
    tpool *fifth = get(manager, 5); /* and now they make place, down to the bound */
    assert_int_equal(2, manager_stats_of(manager).pools);
    assert_int_equal(3, manager_stats_of(manager).evicted);
    release(manager, fifth);
    tpool_manager_destroy(manager);
}

static void a_pool_with_work_is_never_evicted(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    atomic_int runs = 0;
    tpool_manager *manager = new_manager_as((tpool_manager_config){ .max_pools = 1 });
    tpool *working = get(manager, 1), *paused = get(manager, 2);
    tpool_future *running = held_at(working, &g);
    assert_status(TPOOL_OK, tpool_pause(paused));
    assert_status(TPOOL_OK, tpool_submit(paused, count_up, &runs, NULL)); /* queued, not running */
    release(manager, working);
    release(manager, paused);
    tpool *third = get(manager, 3);
    assert_int_equal(3, manager_stats_of(manager).pools);
    assert_int_equal(0, manager_stats_of(manager).evicted);
    gate_open(&g);
    assert_status(TPOOL_OK, end_of(running));
    assert_ptr_equal(paused, get(manager, 2));
    assert_status(TPOOL_OK, tpool_resume(paused));
    release(manager, paused);
    release(manager, third);
    tpool_manager_destroy(manager);
    assert_int_equal(1, atomic_load(&runs));
}

static void replacing_an_idle_pool_does_not_count_twice_against_the_bound(void **state) {
    (void)state;
    tpool_manager *manager = new_manager_as((tpool_manager_config){ .max_pools = 2 });
    tpool *one = get(manager, 1), *two = get(manager, 2);
    release(manager, one);
    release(manager, two);
    release(manager, get_new(manager, 2));
    assert_int_equal(2, manager_stats_of(manager).pools);
    assert_int_equal(0, manager_stats_of(manager).evicted);
    assert_ptr_equal(one, get(manager, 1));
    release(manager, one);
    tpool_manager_destroy(manager);
}

/* ---- Waiting for oneself ---- */

typedef struct inside {
    tpool_manager *manager;
    tpool_status shutdown, forced, clear;
    tpool *other;
} inside;
static void *ask_inside(void *arg) {
    inside *i = arg;
    i->shutdown = tpool_manager_shutdown(i->manager, false);
    i->forced = tpool_manager_shutdown(i->manager, true);
    i->clear = tpool_manager_clear(i->manager);
    tpool_manager_destroy(i->manager); /* does nothing here */
    return NULL;
}
static void a_task_cannot_wait_for_itself(void **state) {
    (void)state;
    tpool_manager *manager = new_manager();
    inside i = { .manager = manager };
    tpool *pool = get(manager, 1);
    tpool_future *future = submitted(pool, ask_inside, &i);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
    assert_status(TPOOL_DEADLOCK, i.shutdown);
    assert_status(TPOOL_DEADLOCK, i.forced);
    assert_status(TPOOL_OK, i.clear); /* its pool has a user, so is not meant */
    tpool_future_release(future);
    check_works(pool);
    assert_ptr_equal(pool, get(manager, 1)); /* nothing has changed */
    release(manager, pool);
    release(manager, pool);
    tpool_manager_destroy(manager);
}

static void *ask_inside_after(void *arg) {
    void **both = arg;
    gate_pass(both[1]);
    return ask_inside(both[0]);
}
static void clear_in_a_task_of_a_pool_without_a_user_would_wait_for_it(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    tpool_manager *manager = new_manager();
    inside i = { .manager = manager };
    void *both[2] = { &i, &g };
    tpool *pool = get(manager, 1), *idle = get(manager, 2);
    tpool_future *future = submitted(pool, ask_inside_after, both);
    release(manager, pool);
    release(manager, idle);
    gate_open(&g);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
    assert_status(TPOOL_DEADLOCK, i.clear);
    assert_status(TPOOL_DEADLOCK, i.shutdown);
    assert_int_equal(2, manager_stats_of(manager).pools);
    tpool_future_release(future);
    tpool_manager_destroy(manager);
}

static void *ask_beneath(void *arg) { /* a managed pool's task runs one of the program's own pool */
    inside *i = arg;
    return submitted(i->other, ask_inside, i);
}
static void also_from_beneath_another_pools_task(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    tpool_manager *manager = new_manager();
    inside i = { .manager = manager };
    tpool *full = NULL;
    assert_status(TPOOL_OK,
                  tpool_create(&full, &(tpool_config){
                                          .max_workers = 1, .queue_capacity = 1, .on_full = TPOOL_FULL_CALLER_RUNS }));
    tpool_future *running = held_at(full, &g), *waiting = submitted(full, nothing, NULL);
    i.other = full;
    tpool *pool = get(manager, 1);
    void *ran = NULL;
    tpool_future *future = submitted(pool, ask_beneath, &i);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &ran));
    assert_status(TPOOL_DEADLOCK, i.shutdown);
    tpool_future_release(ran);
    tpool_future_release(future);
    gate_open(&g);
    tpool_future_release(running);
    tpool_future_release(waiting);
    tpool_destroy(full);
    release(manager, pool);
    tpool_manager_destroy(manager);
}

static void ask_in_callback(tpool_future *future, void *context) {
    (void)future;
    ask_inside(context);
}
static void and_in_a_callback_of_a_task_that_was_done(void **state) {
    (void)state;
    tpool_manager *manager = new_manager_as((tpool_manager_config){ .max_pools = 1 });
    inside i = { .manager = manager };
    tpool *pool = get(manager, 1);
    tpool_future *future = submitted(pool, nothing, NULL);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
    release(manager, pool);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(future, ask_in_callback, &i));
    assert_status(TPOOL_DEADLOCK, i.shutdown);
    assert_status(TPOOL_DEADLOCK, i.clear);
    tpool_future_release(future);
    tpool_manager_destroy(manager);
}

/* ---- Tasks that ask the manager ---- */

static void *ask_for_pools(void *arg) {
    tpool_manager *manager = arg;
    for (int i = 0; i < 20; i++) {
        tpool *pool = NULL;
        if (tpool_manager_get(manager, 1 + i % 5, TPOOL_THREADS, i % 7 ? 0 : TPOOL_FORCE_NEW, &pool) != TPOOL_OK)
            return tpool_raise(1, "no pool");
        if (tpool_submit(pool, nothing, NULL, NULL) != TPOOL_OK) return tpool_raise(2, "no submit");
        if (tpool_manager_release(manager, pool) != TPOOL_OK) return tpool_raise(3, "no release");
    }
    return NULL;
}
static void tasks_may_ask_while_pools_are_evicted_and_replaced(void **state) {
    (void)state;
    tpool_manager *manager = new_manager_as((tpool_manager_config){ .max_pools = 2 });
    tpool *pool = get(manager, 4);
    tpool_future *futures[10];
    for (int i = 0; i < 10; i++) futures[i] = submitted(pool, ask_for_pools, manager);
    for (int i = 0; i < 10; i++) {
        assert_status(TPOOL_OK, end_of(futures[i]));
    }
    release(manager, pool);
    tpool_manager_destroy(manager);
}

static void *release_own_pool(void *arg) {
    void **both = arg;
    gate_pass(both[1]);
    return (void *)(uintptr_t)tpool_manager_release(both[0], tpool_current());
}
static void a_task_may_release_its_own_pool_after_it_was_replaced(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    tpool_manager *manager = new_manager();
    void *both[2] = { manager, &g }, *status = both;
    tpool *pool = get(manager, 1), *fresh;
    tpool_future *future = submitted(pool, release_own_pool, both);
    fresh = get_new(manager, 1);
    gate_open(&g);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &status));
    assert_status(TPOOL_OK, (tpool_status)(uintptr_t)status);
    tpool_future_release(future);
    release(manager, fresh);
    EVENTUALLY((release(manager, get(manager, 1)), manager_stats_of(manager).pools == 1));
    tpool_manager_destroy(manager);
}

/* ---- Edge cases ---- */

static void shutdown_twice_and_everything_after_it(void **state) {
    (void)state;
    tpool_manager *manager = new_manager();
    tpool *pool = get(manager, 1);
    release(manager, pool);
    assert_status(TPOOL_OK, tpool_manager_shutdown(manager, false));
    assert_status(TPOOL_OK, tpool_manager_shutdown(manager, false));
    assert_status(TPOOL_OK, tpool_manager_shutdown(manager, true));
    assert_status(TPOOL_OK, tpool_manager_clear(manager));
    assert_status(TPOOL_INVALID, tpool_manager_release(manager, pool));
    assert_status(TPOOL_SHUTDOWN, tpool_manager_get(manager, 1, TPOOL_THREADS, TPOOL_FORCE_NEW, &pool));
    assert_int_equal(0, manager_stats_of(manager).pools);
    assert_int_equal(1, manager_stats_of(manager).created);
    tpool_manager_destroy(manager);
}

static void release_of_a_strangers_pool_is_refused(void **state) {
    (void)state;
    tpool_manager *manager = new_manager();
    tpool_manager *other = new_manager();
    tpool *own = NULL, *theirs = get(other, 1), *pool = get(manager, 1);
    assert_status(TPOOL_OK, tpool_create(&own, NULL));
    assert_status(TPOOL_INVALID, tpool_manager_release(manager, own));
    assert_status(TPOOL_INVALID, tpool_manager_release(manager, theirs));
    assert_status(TPOOL_INVALID, tpool_manager_release(manager, tpool_default()));
    assert_status(TPOOL_INVALID, tpool_manager_release(manager, (tpool *)(uintptr_t)4096)); /* never looked into */
    assert_status(TPOOL_INVALID, tpool_manager_release(NULL, pool));
    release(manager, pool);
    assert_status(TPOOL_INVALID, tpool_manager_release(manager, pool));
    assert_status(TPOOL_OK, tpool_destroy(own));
    assert_status(TPOOL_INVALID, tpool_manager_release(manager, own));
    release(other, theirs);
    tpool_manager_destroy(other);
    tpool_manager_destroy(manager);
}

static void clear_of_nothing_is_fine(void **state) {
    (void)state;
    tpool_manager *manager = new_manager();
    assert_status(TPOOL_OK, tpool_manager_clear(manager));
    assert_status(TPOOL_OK, tpool_manager_shutdown(manager, true));
    tpool_manager_destroy(manager);
}

/* ---- Everybody at once ---- */

typedef struct crowd {
    tpool_manager *manager;
    atomic_int runs, submits, refused;
    atomic_bool over;
} crowd;

static void *get_use_release(void *arg) {
    crowd *c = arg;
    for (unsigned i = (unsigned)(uintptr_t)&i >> 4; !atomic_load(&c->over); i = i * 1103515245u + 12345u) {
        tpool *pool = NULL;
        tpool_status status = tpool_manager_get(c->manager, 1 + (int)(i >> 16) % 4, TPOOL_THREADS,
                                                (i >> 20) % 16 ? 0 : TPOOL_FORCE_NEW, &pool);
        if (status == TPOOL_SHUTDOWN) return NULL;
        assert_status(TPOOL_OK, status);
        status = tpool_submit(pool, count_up, &c->runs, NULL);
        if (status == TPOOL_OK) atomic_fetch_add(&c->submits, 1);
        else assert_status(TPOOL_SHUTDOWN, status);
        if ((i >> 24) % 32 == 0) tpool_shutdown(pool, 0);
        release(c->manager, pool);
    }
    return NULL;
}
static void *clear_again_and_again(void *arg) {
    crowd *c = arg;
    tpool_manager_stats stats;
    while (!atomic_load(&c->over)) {
        assert_status(TPOOL_OK, tpool_manager_clear(c->manager));
        assert_status(TPOOL_OK, tpool_manager_get_stats(c->manager, &stats));
    }
    return NULL;
}
static void concurrent_get_release_clear_and_shutdown(void **state) {
    (void)state;
    enum { ASKERS = 6 };
    for (int round = 0; round < COUNT(40) + 1; round++) {
        tpool_manager_config config = { .max_pools = 3, .idle_timeout_ns = round % 2 ? TPOOL_US(100) : 0 };
        crowd c = { .manager = new_manager_as(config) };
        pthread_t threads[ASKERS + 1];
        for (int i = 0; i < ASKERS; i++) assert_int_equal(0, pthread_create(&threads[i], NULL, get_use_release, &c));
        assert_int_equal(0, pthread_create(&threads[ASKERS], NULL, clear_again_and_again, &c));
        EVENTUALLY(atomic_load(&c.runs) > 300);
        if (round % 3) assert_status(TPOOL_OK, tpool_manager_shutdown(c.manager, false));
        atomic_store(&c.over, true);
        for (int i = 0; i < ASKERS + 1; i++) pthread_join(threads[i], NULL);
        tpool_manager_destroy(c.manager);
        assert_int_equal(atomic_load(&c.submits), atomic_load(&c.runs));
    }
}

static void *ask_for_seven(void *arg) {
    gate_pass(&((gate *)((void **)arg)[1])[0]);
    return get(((void **)arg)[0], 7);
}
static void all_who_ask_at_once_get_the_same(void **state) {
    (void)state;
    enum { THREADS = 6 };
    for (int round = 0; round < COUNT(200) + 1; round++) {
        tpool_manager *manager = new_manager_as((tpool_manager_config){ .max_pools = 1 });
        release(manager, get(manager, 1)); /* to be evicted by one of them */
        gate start = GATE_CLOSED;
        void *both[2] = { manager, &start };
        pthread_t threads[THREADS];
        void *pools[THREADS];
        for (int i = 0; i < THREADS; i++) assert_int_equal(0, pthread_create(&threads[i], NULL, ask_for_seven, both));
        gate_await_arrivals(&start, THREADS);
        gate_open(&start);
        for (int i = 0; i < THREADS; i++) pthread_join(threads[i], &pools[i]);
        for (int i = 0; i < THREADS; i++) {
            assert_ptr_equal(pools[0], pools[i]);
            release(manager, pools[i]);
        }
        assert_int_equal(2, manager_stats_of(manager).created);
        tpool_manager_destroy(manager);
    }
}

static void *release_later(void *arg) {
    void **both = arg;
    sleep_ms(1);
    release(both[0], both[1]);
    return NULL;
}
static void the_last_release_may_come_while_the_manager_is_destroyed(void **state) {
    (void)state;
    for (int round = 0; round < COUNT(50) + 1; round++) {
        tpool_manager *manager = new_manager();
        void *both[2] = { manager, get(manager, 1) };
        check_works(both[1]);
        pthread_t thread;
        assert_int_equal(0, pthread_create(&thread, NULL, release_later, both));
        if (round % 2) sleep_ms(1);
        tpool_manager_destroy(manager);
        pthread_join(thread, NULL);
    }
}

static const struct CMUnitTest tests[] = {
    TEST(a_manager_lends_a_pool_that_works),
    TEST(zero_workers_means_the_default),
    TEST(bad_arguments_are_refused_and_change_nothing),
    TEST(what_the_system_refuses_is_handed_on),
    TEST(a_managed_pool_cannot_be_destroyed_by_its_user),
    TEST(who_asks_for_the_same_gets_the_same),
    TEST(hundreds_of_configurations_are_told_apart),
    TEST(force_new_replaces_a_pool_that_lives_until_its_users_release_it),
    TEST(force_new_where_nothing_is_just_creates),
    TEST(a_pool_that_was_shut_down_is_replaced),
    TEST(a_pool_that_was_shut_down_and_released_is_gone),
    TEST(a_replaced_pool_with_work_left_ends_when_that_is_done),
    TEST(what_is_queued_when_a_pool_is_released_runs),
    TEST(clear_ends_idle_pools_and_no_others),
    TEST(shutdown_waits_for_the_work_and_handles_stay_valid),
    TEST(a_forced_shutdown_cancels_what_has_not_started),
    TEST(a_forced_shutdown_cancels_before_it_waits),
    TEST(a_gentle_shutdown_lets_tasks_hand_on_from_pool_to_pool_but_takes_nothing_from_outside),
    TEST(a_paused_pool_does_not_hang_a_shutdown),
    TEST(a_destroyed_manager_takes_releases_until_the_last_pool_is_back),
    TEST(over_max_pools_the_least_recently_used_idle_pool_ends),
    TEST(with_all_in_use_there_is_still_one_more),
    TEST(a_pool_with_work_is_never_evicted),
    TEST(replacing_an_idle_pool_does_not_count_twice_against_the_bound),
    TEST(a_task_cannot_wait_for_itself),
    TEST(clear_in_a_task_of_a_pool_without_a_user_would_wait_for_it),
    TEST(also_from_beneath_another_pools_task),
    TEST(and_in_a_callback_of_a_task_that_was_done),
    TEST(tasks_may_ask_while_pools_are_evicted_and_replaced),
    TEST(a_task_may_release_its_own_pool_after_it_was_replaced),
    TEST(shutdown_twice_and_everything_after_it),
    TEST(release_of_a_strangers_pool_is_refused),
    TEST(clear_of_nothing_is_fine),
    TEST(concurrent_get_release_clear_and_shutdown),
    TEST(all_who_ask_at_once_get_the_same),
    TEST(the_last_release_may_come_while_the_manager_is_destroyed),
};
RUN_TESTS(tests)
