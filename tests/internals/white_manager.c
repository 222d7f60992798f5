/* Managed pools by the clock, which the test sets: the implementation is included, so that its looks at the clock come
   here. Nothing sleeps; time passes when the test says so. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>

static _Atomic(long long) passed; /* nanoseconds that have passed at a word of the test's */
#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
static inline BOOL test_counter(LARGE_INTEGER *count) {
    LARGE_INTEGER rate;
    QueryPerformanceFrequency(&rate);
    BOOL told = QueryPerformanceCounter(count);
    long long ns = atomic_load(&passed);
    count->QuadPart += ns / 1000000000 * rate.QuadPart + ns % 1000000000 * rate.QuadPart / 1000000000;
    return told;
}
#define QueryPerformanceCounter test_counter
#endif
static inline int test_clock_gettime(clockid_t clock, struct timespec *t) {
    int failed = clock_gettime(clock, t);
    long long ns = t->tv_nsec + atomic_load(&passed);
    t->tv_sec += (time_t)(ns / 1000000000);
    t->tv_nsec = (long)(ns % 1000000000);
    return failed;
}
#if !defined(_WIN32)
/* Where there are no futexes: a limit by this clock, for a condition that knows the system's. */
#include <pthread.h>
__attribute__((unused)) static int test_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                                                       const struct timespec *end) {
    long long ns = end->tv_nsec - atomic_load(&passed) % 1000000000;
    struct timespec real = { end->tv_sec - (time_t)(atomic_load(&passed) / 1000000000), (long)ns };
    if (ns < 0) {
        real.tv_sec--;
        real.tv_nsec += 1000000000;
    }
    return pthread_cond_timedwait(condition, mutex, &real);
}
#define pthread_cond_timedwait test_cond_timedwait
#endif
static atomic_long held_bytes;
static _Thread_local void (*instead_of_memory)(void); /* called by the next allocation, which then fails */
static inline void *counting_malloc(size_t size) {
    void (*instead)(void) = instead_of_memory;
    instead_of_memory = NULL;
    if (instead) {
        instead();
        return NULL;
    }
    size_t *memory = malloc(size + 16);
    if (!memory) return NULL;
    *memory = size;
    atomic_fetch_add(&held_bytes, (long)size);
    return (char *)memory + 16;
}
static inline void counting_free(void *memory) {
    size_t *whole = (size_t *)(void *)((char *)memory - 16);
    atomic_fetch_sub(&held_bytes, (long)*whole);
    free(whole);
}

/* At a chosen point of a call, counted by its looks at shared words, somebody else comes in: see "Beside each
   other". */
static void intrusion_point(void);
#define TPOOL__SCHEDULE_POINT() intrusion_point()
#define clock_gettime test_clock_gettime
#define TPOOL_MALLOC(size) counting_malloc(size)
#define TPOOL_FREE(ptr) counting_free(ptr)
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
#undef clock_gettime
#undef pthread_cond_timedwait
#undef QueryPerformanceCounter

#include "support.h"
#include "support/managers.h"

static void let_pass(int64_t ns) { atomic_fetch_add(&passed, (long long)ns); }

static tpool_manager *new_idle_manager(int64_t idle_timeout_ns) {
    tpool_manager *manager = NULL;
    tpool_manager_config config = { .idle_timeout_ns = idle_timeout_ns };
    assert_status(TPOOL_OK, tpool_manager_create(&manager, &config));
    return manager;
}
static void run_one(tpool *pool) {
    tpool_task task = { .fn = nothing };
    assert_status(TPOOL_OK, tpool_run_with_timeout(pool, &task, TPOOL_SEC(3600), NULL));
}
/* Its worker has gone to sleep: from now on it does not look at the clock any more. */
static bool is_asleep(tpool *pool) {
    tpool__lock(&pool->lock);
    bool asleep = tpool__load_relaxed(&pool->active) == 0;
    tpool__unlock(&pool->lock);
    return asleep;
}

static void an_idle_pool_ends_at_a_get_after_its_time(void **state) {
    (void)state;
    tpool_manager *manager = new_idle_manager(TPOOL_SEC(1000));
    tpool *pool = get(manager, 1);
    run_one(pool);
    EVENTUALLY(is_asleep(pool));
    release(manager, pool);
    let_pass(TPOOL_SEC(900));
    release(manager, get(manager, 2));
    assert_int_equal(2, manager_stats_of(manager).pools);
    let_pass(TPOOL_SEC(200));
    assert_int_equal(2, manager_stats_of(manager).pools); /* nothing ends by itself */
    release(manager, get(manager, 2));
    assert_int_equal(1, manager_stats_of(manager).pools);
    assert_int_equal(1, manager_stats_of(manager).evicted);
    let_pass(TPOOL_SEC(1100));
    release(manager, get(manager, 2)); /* also the one that is asked for */
    assert_int_equal(2, manager_stats_of(manager).evicted);
    assert_int_equal(3, manager_stats_of(manager).created);
    tpool_manager_destroy(manager);
}

static void the_time_counts_from_the_last_release(void **state) {
    (void)state;
    tpool_manager *manager = new_idle_manager(TPOOL_SEC(1000));
    tpool *pool = get(manager, 1);
    for (int i = 0; i < 5; i++) {
        release(manager, pool);
        let_pass(TPOOL_SEC(800));
        assert_ptr_equal(pool, get(manager, 1));
        let_pass(TPOOL_SEC(800)); /* in use */
    }
    assert_int_equal(0, manager_stats_of(manager).evicted);
    release(manager, pool);
    tpool_manager_destroy(manager);
}

static void a_pool_in_use_never_ends(void **state) {
    (void)state;
    tpool_manager *manager = new_idle_manager(1);
    tpool *pool = get(manager, 1);
    let_pass(TPOOL_SEC(100000));
    release(manager, get(manager, 2));
    run_one(pool);
    assert_ptr_equal(pool, get(manager, 1));
    release(manager, pool);
    release(manager, pool);
    tpool_manager_destroy(manager);
}

static void a_pool_with_work_does_not_end_and_its_time_counts_from_the_end_of_the_work(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    tpool_manager *manager = new_idle_manager(TPOOL_SEC(1000));
    tpool *pool = get(manager, 1);
    tpool_future *running = submitted(pool, gate_task, &g);
    gate_await_arrivals(&g, 1);
    release(manager, pool);
    for (int i = 0; i < 3; i++) {
        let_pass(TPOOL_SEC(10000));
        assert_true(tpool__idle_until(manager, tpool__find_key(manager, 1, TPOOL_THREADS)) > tpool_now());
        release(manager, get(manager, 2));
        assert_ptr_equal(pool, get(manager, 1));
        release(manager, pool);
    }
    let_pass(TPOOL_SEC(900));
    gate_open(&g);
    assert_status(TPOOL_OK, tpool_future_result(running, TPOOL_SEC(3600), NULL));
    tpool_future_release(running);
    EVENTUALLY(is_asleep(pool));
    let_pass(TPOOL_SEC(900)); /* 1800 since the release, 900 since the work */
    uint64_t evicted = manager_stats_of(manager).evicted;
    release(manager, get(manager, 3));
    assert_int_equal(evicted + 1, manager_stats_of(manager).evicted); /* the second, which had no work */
    assert_int_equal(2, manager_stats_of(manager).pools);
    assert_non_null(tpool__find_key(manager, 1, TPOOL_THREADS));
    let_pass(TPOOL_SEC(200));
    release(manager, get(manager, 3));
    assert_int_equal(1, manager_stats_of(manager).pools); /* only 3 */
    tpool_manager_destroy(manager);
}

static void by_default_it_is_five_minutes_and_a_negative_time_is_never(void **state) {
    (void)state;
    tpool_manager *manager = new_idle_manager(0), *never = new_idle_manager(-1);
    release(manager, get(manager, 1));
    release(never, get(never, 1));
    let_pass(TPOOL_SEC(280)); /* beside what the test takes */
    release(manager, get(manager, 2));
    assert_int_equal(0, manager_stats_of(manager).evicted);
    let_pass(TPOOL_SEC(21));
    release(manager, get(manager, 2));
    assert_int_equal(1, manager_stats_of(manager).evicted);
    let_pass(TPOOL_SEC(86400) * 365);
    release(never, get(never, 2));
    assert_int_equal(0, manager_stats_of(never).evicted);
    tpool_manager_destroy(manager);
    tpool_manager_destroy(never);
}

static void each_pool_has_its_own_time(void **state) {
    (void)state;
    tpool_manager *manager = new_idle_manager(TPOOL_SEC(1000));
    tpool *pools[5];
    for (int i = 0; i < 5; i++) pools[i] = get(manager, i + 1);
    for (int i = 0; i < 5; i++) {
        release(manager, pools[i]);
        let_pass(TPOOL_SEC(100));
    }
    let_pass(TPOOL_SEC(450)); /* the first has been idle for 950 s, beside what the test takes */
    for (int i = 0; i < 5; i++) {
        release(manager, get(manager, 9));
        assert_int_equal(i, manager_stats_of(manager).evicted);
        let_pass(TPOOL_SEC(100));
    }
    release(manager, get(manager, 9));
    assert_int_equal(5, manager_stats_of(manager).evicted);
    tpool_manager_destroy(manager);
}

static void a_broken_pool_is_replaced(void **state) {
    (void)state;
    tpool_manager *manager = new_idle_manager(0);
    tpool *old = get(manager, 1);
    run_one(old);
    tpool__break(old); /* as a failed initializer would */
    assert_status(TPOOL_BROKEN, tpool_submit(old, nothing, NULL, NULL));
    tpool *fresh = get(manager, 1);
    assert_ptr_not_equal(old, fresh);
    run_one(fresh);
    assert_int_equal(1, manager_stats_of(manager).replaced);
    assert_status(TPOOL_OK, tpool_manager_shutdown(manager, false)); /* with the broken one still out */
    release(manager, old);
    release(manager, fresh);
    tpool_manager_destroy(manager);
}

static void an_entry_takes_less_than_200_bytes(void **state) {
    (void)state;
    enum { POOLS = 500 };
    tpool_manager *manager = new_idle_manager(0);
    tpool *own = NULL;
    assert_status(TPOOL_OK, tpool_create(&own, NULL));
    long before = atomic_load(&held_bytes);
    tpool *second = NULL;
    assert_status(TPOOL_OK, tpool_create(&second, NULL));
    long bytes_of_a_pool = atomic_load(&held_bytes) - before;
    before = atomic_load(&held_bytes);
    for (int i = 0; i < POOLS; i++) {
        (void)get(manager, i + 1);
        long per_entry = (atomic_load(&held_bytes) - before) / (i + 1) - bytes_of_a_pool;
        assert_true(per_entry + 16 < 200); /* with what malloc itself needs */
    }
    while (manager->oldest->users) release(manager, manager->oldest->pool); /* which makes it the newest */
    tpool_manager_destroy(manager);
    tpool_destroy(own);
    tpool_destroy(second);
    assert_int_equal(0, atomic_load(&held_bytes));
}

/* Two threads ask for the same pool, and the system refuses the slower one what the faster one got. */
static tpool_manager *asked;
static tpool *got_first;
static void *get_first(void *unused) {
    (void)unused;
    got_first = get(asked, 1);
    return NULL;
}
static void let_another_get_first(void) { in_own_thread(get_first, NULL); }
static void a_get_that_is_refused_memory_takes_what_another_has_created(void **state) {
    (void)state;
    asked = new_idle_manager(0);
    tpool *fresh = NULL;
    instead_of_memory = let_another_get_first;
    tpool *pool = get(asked, 1);
    assert_ptr_equal(got_first, pool);
    assert_int_equal(1, manager_stats_of(asked).created);
    instead_of_memory = let_another_get_first; /* but not if it must be another one */
    assert_status(TPOOL_NO_MEMORY, tpool_manager_get(asked, 1, TPOOL_THREADS, TPOOL_FORCE_NEW, &fresh));
    assert_null(fresh);
    assert_int_equal(0, manager_stats_of(asked).replaced);
    for (int i = 0; i < 3; i++) release(asked, pool);
    tpool_manager_destroy(asked);
}

/* Threads hold two pools, which are released meanwhile, and let go of the one that was released first. */
static void pools_let_go_of_in_any_order_are_listed_by_their_release(void **state) {
    (void)state;
    enum { POOLS = 5 };
    tpool_manager *manager = new_idle_manager(0);
    tpool__managed *entries[POOLS];
    for (int first = 0; first < 2; first++) {
        for (int i = 0; i < POOLS; i++) release(manager, get(manager, i + 1));
        for (int i = 0; i < POOLS; i++) {
            tpool__lock(&manager->lock);
            entries[i] = tpool__find_key(manager, i + 1, TPOOL_THREADS);
            if (i < 2) entries[i]->holds++;
            tpool__unlock(&manager->lock);
        }
        for (int i = 0; i < 2; i++) {
            let_pass(1000000);
            release(manager, get(manager, i + 1));
        }
        tpool__lock(&manager->lock);
        tpool__let_go(manager, entries[first]);
        tpool__let_go(manager, entries[!first]);
        for (tpool__managed *entry = manager->oldest; entry->newer; entry = entry->newer)
            assert_true(entry->released_at <= entry->newer->released_at);
        tpool__unlock(&manager->lock);
    }
    tpool_manager_destroy(manager);
}

/* A waiter whose time passes as it is handed a resource has it: by the clock, which has passed it when it looks. */
static void *made(void *context) { return context; }
typedef struct taker {
    tpool_resources *resources;
    tpool_status status;
    void *got;
    atomic_bool asks;
} taker;
static void *take_within_a_minute(void *arg) {
    taker *t = arg;
    atomic_store(&t->asks, true);
    t->status = tpool_resources_get(t->resources, TPOOL_SEC(60), &t->got);
    return NULL;
}
static bool has_waiter(tpool_resources *resources) {
    tpool__lock(&resources->lock);
    bool waits = resources->first != NULL;
    tpool__unlock(&resources->lock);
    return waits;
}
static void a_resource_handed_over_as_the_limit_passes_is_not_lost(void **state) {
    (void)state;
    int thing;
    void *out = NULL;
    taker t = { .status = TPOOL_INVALID };
    assert_status(TPOOL_OK, tpool_resources_create(&t.resources, 1, made, NULL, &thing));
    assert_status(TPOOL_OK, tpool_resources_get(t.resources, 0, &out));
    pthread_t thread;
    assert_int_equal(0, pthread_create(&thread, NULL, take_within_a_minute, &t));
    EVENTUALLY(has_waiter(t.resources));
    let_pass(TPOOL_SEC(61)); /* passed, and it has not noticed yet */
    assert_status(TPOOL_OK, tpool_resources_put(t.resources, out));
    pthread_join(thread, NULL);
    assert_status(TPOOL_OK, t.status);
    assert_ptr_equal(&thing, t.got);
    assert_status(TPOOL_OK, tpool_resources_put(t.resources, t.got));
    assert_status(TPOOL_OK, tpool_resources_destroy(t.resources));
}

/* ---- A dual pool that is being created reads its config without a lock */
static tpool_status configured_meanwhile;
static void configure_meanwhile(void) {
    const tpool_config config = { .max_workers = 3, .name = "second" };
    configured_meanwhile = tpool_dual_configure(&config, NULL);
}
static void a_dual_pool_that_is_being_created_has_its_config(void **state) {
    (void)state;
    const tpool_config config = { .max_workers = 2, .name = "first" };
    assert_status(TPOOL_OK, tpool_dual_configure(&config, NULL));
    instead_of_memory = configure_meanwhile;
    assert_null(tpool_high_level());
    assert_null(instead_of_memory);
    assert_status(TPOOL_INVALID_STATE, configured_meanwhile);
    assert_status(TPOOL_OK, tpool_dual_configure(&config, NULL)); /* there is none */
}

/* ---- Beside each other: at each point of a call that ends pools, another thread gets one and gives it work ---- */

static _Thread_local long points_left; /* of the thread that calls; 0: it is not watched */
static struct {
    tpool_manager *manager;
    gate begin, done, work;
    tpool_status got, taken;
    tpool_future *future;
    tpool *pool;
    bool came;
} intruder;

static void *intrude(void *unused) {
    (void)unused;
    tpool *pool = NULL;
    gate_pass(&intruder.begin);
    intruder.got = tpool_manager_get(intruder.manager, 1, TPOOL_THREADS, 0, &pool);
    if (intruder.got == TPOOL_OK) {
        intruder.taken = tpool_submit(pool, gate_task, &intruder.work, &intruder.future);
        intruder.pool = pool;
        release(intruder.manager, pool);
    }
    gate_open(&intruder.done);
    return NULL;
}
/* Lets the intruder in, and waits until it is through, or for a moment if a lock that is held here keeps it out. */
static void intrusion_point(void) {
    if (points_left == 0 || --points_left > 0) return;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    now.tv_nsec += 3000000;
    now.tv_sec += now.tv_nsec / 1000000000;
    now.tv_nsec %= 1000000000;
    intruder.came = true;
    gate_open(&intruder.begin);
    pthread_mutex_lock(&intruder.done.lock);
    while (!intruder.done.open && pthread_cond_timedwait(&intruder.done.changed, &intruder.done.lock, &now) == 0) { }
    pthread_mutex_unlock(&intruder.done.lock);
}

enum { EVICTING, SWEEPING, CLEARING, RELEASING, REPLACING, SHUTTING };

static void call_that_ends_pools(int which, tpool_manager *manager, tpool *old) {
    tpool *pool = NULL;
    switch (which) {
    case EVICTING:
    case SWEEPING: release(manager, get(manager, 2)); break;
    case CLEARING: assert_status(TPOOL_OK, tpool_manager_clear(manager)); break;
    case RELEASING: release(manager, old); break;
    case REPLACING:
        assert_status(TPOOL_OK, tpool_manager_get(manager, 1, TPOOL_THREADS, TPOOL_FORCE_NEW, &pool));
        release(manager, pool);
        break;
    default: assert_status(TPOOL_OK, tpool_manager_shutdown(manager, true)); break;
    }
}
/* False: the call was over before the point. */
static bool intruded_at(int which, long point) {
    const gate closed = GATE_CLOSED;
    intruder.begin = intruder.done = intruder.work = closed;
    intruder.work.open = which == SHUTTING; /* which would wait for the work */
    intruder.future = NULL;
    intruder.came = false;
    tpool_manager_config config = { .max_pools = which == EVICTING, .idle_timeout_ns = TPOOL_SEC(10) };
    assert_status(TPOOL_OK, tpool_manager_create(&intruder.manager, &config));
    tpool *old = get(intruder.manager, 1);
    run_one(old);
    EVENTUALLY(is_asleep(old));
    if (which == RELEASING) assert_status(TPOOL_OK, tpool_shutdown(old, 0));
    else release(intruder.manager, old);
    if (which == SWEEPING) let_pass(TPOOL_SEC(11));
    pthread_t thread;
    assert_int_equal(0, pthread_create(&thread, NULL, intrude, NULL));
    points_left = point;
    call_that_ends_pools(which, intruder.manager, old);
    points_left = 0;
    bool came = intruder.came;
    gate_open(&intruder.begin);
    pthread_join(thread, NULL);
    if (which == EVICTING || which == SWEEPING || which == CLEARING) { /* never one that has work */
        assert_ptr_equal(intruder.pool, get(intruder.manager, 1));
        release(intruder.manager, intruder.pool);
    }
    gate_open(&intruder.work);
    if (which != SHUTTING) { /* it has got a pool that lives, and what it submitted runs */
        assert_status(TPOOL_OK, intruder.got);
        assert_status(TPOOL_OK, intruder.taken);
    }
    if (intruder.future) {
        tpool_status end = tpool_future_result(intruder.future, TPOOL_SEC(3600), NULL);
        assert_true(end == TPOOL_OK || (which == SHUTTING && end == TPOOL_CANCELLED));
        tpool_future_release(intruder.future);
    }
    assert_int_equal(0, manager_stats_of(intruder.manager).in_use);
    tpool_manager_destroy(intruder.manager);
    return came;
}
static void who_comes_in_at_any_point_of(int which) {
    long points = 1;
    alarm(100); /* a pool that ends with work in it waits for ever */
    while (intruded_at(which, points)) points += IS_SLOW ? 7 : 1;
    alarm(0);
    print_message("%ld points\n", points - 1);
    assert_true(points > 20);
}
static void a_get_that_evicts(void **state) {
    (void)state;
    who_comes_in_at_any_point_of(EVICTING);
}
static void a_get_that_ends_what_was_idle_for_long(void **state) {
    (void)state;
    who_comes_in_at_any_point_of(SWEEPING);
}
static void a_clear(void **state) {
    (void)state;
    who_comes_in_at_any_point_of(CLEARING);
}
static void the_last_release_of_a_pool_that_is_shut_down(void **state) {
    (void)state;
    who_comes_in_at_any_point_of(RELEASING);
}
static void a_get_that_replaces(void **state) {
    (void)state;
    who_comes_in_at_any_point_of(REPLACING);
}
static void a_shutdown(void **state) {
    (void)state;
    who_comes_in_at_any_point_of(SHUTTING);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_get_that_evicts),
        cmocka_unit_test(a_get_that_ends_what_was_idle_for_long),
        cmocka_unit_test(a_clear),
        cmocka_unit_test(the_last_release_of_a_pool_that_is_shut_down),
        cmocka_unit_test(a_get_that_replaces),
        cmocka_unit_test(a_shutdown),
        cmocka_unit_test(an_idle_pool_ends_at_a_get_after_its_time),
        cmocka_unit_test(the_time_counts_from_the_last_release),
        cmocka_unit_test(a_pool_in_use_never_ends),
        cmocka_unit_test(a_pool_with_work_does_not_end_and_its_time_counts_from_the_end_of_the_work),
        cmocka_unit_test(by_default_it_is_five_minutes_and_a_negative_time_is_never),
        cmocka_unit_test(each_pool_has_its_own_time),
        cmocka_unit_test(a_broken_pool_is_replaced),
        cmocka_unit_test(an_entry_takes_less_than_200_bytes),
        cmocka_unit_test(a_get_that_is_refused_memory_takes_what_another_has_created),
        cmocka_unit_test(pools_let_go_of_in_any_order_are_listed_by_their_release),
        cmocka_unit_test(a_resource_handed_over_as_the_limit_passes_is_not_lost),
        cmocka_unit_test(a_dual_pool_that_is_being_created_has_its_config),
    };
    return cmocka_run_group_tests_name("manager by the clock", tests, NULL, NULL);
}
