/* A manager's calls run the program's code: arg_free of what a shutdown cancels, result_free that a look finds, fork
   handlers. A thread that ends there leaves no pool, loan or shutdown behind. Releases beside a shutdown hide no pool
   from it, and no pause holds it up. */
#include "support.h"
#include "support/managers.h"

static atomic_int ended;
static void end_once(void *arg) {
    (void)arg;
    if (atomic_fetch_add(&ended, 1) == 0) pthread_exit(NULL);
}

/* Leaves a done task in the queue of the only worker, and pauses the pool: the next look at the queue drops the task,
   and so calls end_once for its result. It lies among many, or its waiter would take it out of the queue. */
enum { OTHERS = 100 };
static void *own_result(void *arg) { return tpool_return_owned(arg, end_once); }
static void *leave_a_tombstone(void *pool) {
    tpool_future *future = NULL, *others[OTHERS];
    for (int i = 0; i < OTHERS; i++) {
        others[i] = submitted(pool, nothing, NULL);
        if (i == 0) future = submitted(pool, own_result, &ended);
    }
    assert_status(TPOOL_OK, tpool_future_result(future, TPOOL_FOREVER, NULL));
    assert_status(TPOOL_OK, tpool_pause(pool));
    tpool_future_release(future);
    for (int i = 0; i < OTHERS; i++) {
        assert_true(tpool_future_cancel(others[i]));
        tpool_future_release(others[i]);
    }
    return pool;
}
static tpool *get_with_tombstone(tpool_manager *manager, int workers) {
    tpool *pool = get(manager, workers);
    atomic_store(&ended, 0);
    assert_status(TPOOL_OK, end_of(submitted(pool, leave_a_tombstone, pool)));
    EVENTUALLY(stats_of(pool).active == 0);
    assert_int_equal(0, atomic_load(&ended));
    return pool;
}

static void *clear(void *manager) {
    (void)tpool_manager_clear(manager);
    return NULL;
}
static void a_pool_ends_though_the_thread_that_looked_at_it_has_ended(void **state) {
    (void)state;
    tpool_manager *manager = new_manager();
    release(manager, get_with_tombstone(manager, 1));
    in_own_thread(clear, manager);
    assert_int_equal(1, atomic_load(&ended));
    assert_status(TPOOL_OK, tpool_manager_clear(manager));
    assert_int_equal(0, manager_stats_of(manager).pools);
    tpool_manager_destroy(manager);
}

static tpool *handed_out;
static void *replace(void *manager) {
    assert_status(TPOOL_BROKEN, tpool_manager_get(manager, 1, TPOOL_THREADS, TPOOL_FORCE_NEW, &handed_out));
    return NULL;
}
static void a_get_whose_thread_ends_leaves_no_loan(void **state) {
    (void)state;
    tpool_manager *manager = new_manager();
    release(manager, get_with_tombstone(manager, 1));
    in_own_thread(replace, manager);
    assert_int_equal(1, atomic_load(&ended));
    tpool_manager_stats stats = manager_stats_of(manager);
    assert_int_equal(0, stats.in_use);
    assert_status(TPOOL_OK, tpool_manager_clear(manager));
    assert_int_equal(0, manager_stats_of(manager).pools); /* the replaced one has ended too */
    tpool_manager_destroy(manager);
}

static void *release_last(void *arg) {
    void **both = arg;
    (void)tpool_manager_release(both[0], both[1]);
    return NULL;
}
static void a_replaced_pool_ends_though_its_last_release_ends_the_thread(void **state) {
    (void)state;
    tpool_manager *manager = new_manager();
    tpool *old = get_with_tombstone(manager, 1), *fresh = NULL;
    assert_status(TPOOL_OK, tpool_manager_get(manager, 1, TPOOL_THREADS, TPOOL_FORCE_NEW, &fresh));
    in_own_thread(release_last, (void *[]){ manager, old });
    assert_int_equal(1, atomic_load(&ended));
    assert_status(TPOOL_OK, tpool_manager_clear(manager));
    assert_int_equal(1, manager_stats_of(manager).pools);
    release(manager, fresh);
    tpool_manager_destroy(manager);
}

static void *shut_down_by_force(void *manager) {
    (void)tpool_manager_shutdown(manager, true);
    return NULL;
}
static void a_global_manager_comes_back_though_a_shutdown_has_ended_its_thread(void **state) {
    (void)state;
    gate busy = GATE_CLOSED;
    tpool *pool = get(NULL, 1);
    atomic_store(&ended, 0);
    tpool_future *blocker = submitted(pool, gate_task, &busy);
    AWAIT_ARRIVALS(&busy, 1);
    tpool_future *waiting = submitted_task(pool, (tpool_task){ .fn = nothing, .arg = &ended, .arg_free = end_once });
    in_own_thread(shut_down_by_force, NULL);
    assert_status(TPOOL_CANCELLED, end_of(waiting));
    assert_int_equal(1, atomic_load(&ended));
    gate_open(&busy);
    assert_status(TPOOL_OK, end_of(blocker));
    release(NULL, pool);
    assert_status(TPOOL_OK, tpool_manager_global_shutdown());
    release(NULL, get(NULL, 1));
    assert_status(TPOOL_OK, tpool_manager_global_shutdown());
}

/* A worker that ends waits at this gate: a shutdown waits for it, and walks on from its pool. */
static gate at_end = GATE_CLOSED;
static pthread_key_t key;
static void pass_at_end(void *arg) { gate_pass(arg); }
static void *end_slowly(void *arg) {
    pthread_setspecific(key, &at_end);
    return arg;
}
static tpool_status shut_down(void *manager) { return tpool_manager_shutdown(manager, false); }
static void a_release_hides_no_pool_from_a_shutdown(void **state) {
    (void)state;
    tpool_manager *manager = new_manager();
    tpool *first = get(manager, 1), *second = get(manager, 2);
    background shutdown;
    gate_close(&at_end);
    assert_status(TPOOL_OK, end_of(submitted(first, end_slowly, NULL)));
    assert_status(TPOOL_OK, tpool_warm_up(second, 2));
    background_start(&shutdown, shut_down, manager);
    AWAIT_ARRIVALS(&at_end, 1);
    release(manager, first); /* the least recently released is now the second */
    gate_open(&at_end);
    assert_status(TPOOL_OK, background_join(&shutdown));
    assert_int_equal(0, stats_of(second).workers);
    release(manager, second);
    tpool_manager_destroy(manager);
}

/* A task of one pool waits for a task of another, which is paused. */
static tpool *paused;
static void *wait_for_paused(void *arg) {
    tpool_future *future = submitted(paused, nothing, NULL);
    (void)tpool_future_result(future, TPOOL_FOREVER, NULL);
    tpool_future_release(future);
    return arg;
}
static void a_paused_pool_holds_up_no_shutdown_of_others(void **state) {
    (void)state;
    tpool_manager *manager = new_manager();
    tpool *first = get(manager, 1);
    paused = get(manager, 2);
    assert_status(TPOOL_OK, tpool_pause(paused));
    tpool_future *future = submitted(first, wait_for_paused, NULL);
    background shutdown;
    background_start(&shutdown, shut_down, manager);
    assert_status(TPOOL_OK, background_join(&shutdown));
    assert_status(TPOOL_OK, end_of(future));
    release(manager, first);
    release(manager, paused);
    tpool_manager_destroy(manager);
}
static void *pause_own_and_wait(void *pool) {
    while (tpool_pause(pool) != TPOOL_SHUTDOWN) sleep_ms(1);
    return pool;
}
static void no_pool_is_paused_while_its_manager_shuts_down(void **state) {
    (void)state;
    tpool_manager *manager = new_manager();
    tpool *pool = get(manager, 1);
    tpool_future *future = submitted(pool, pause_own_and_wait, pool);
    assert_status(TPOOL_OK, tpool_manager_shutdown(manager, false));
    assert_status(TPOOL_OK, end_of(future));
    release(manager, pool);
    tpool_manager_destroy(manager);
}

#if HAVE_FORK
/* The program's fork handler takes a lock, under which another thread asks the manager. */
static pthread_mutex_t programs_lock = PTHREAD_MUTEX_INITIALIZER;
static gate under_lock = GATE_CLOSED;
static atomic_bool handlers_take_it;
static gate in_create = GATE_CLOSED; /* a thread that creates a pool of processes waits there, if they wait */
static atomic_bool handlers_wait;
static void prepare(void) {
    if (atomic_load(&handlers_wait)) gate_pass(&in_create);
    if (!atomic_load(&handlers_take_it)) return;
    gate_open(&under_lock);
    pthread_mutex_lock(&programs_lock);
}
static void resume_after(void) {
    if (atomic_load(&handlers_take_it)) pthread_mutex_unlock(&programs_lock);
}
static void *ask_under_lock(void *manager) {
    pthread_mutex_lock(&programs_lock);
    gate_pass(&under_lock); /* until the fork has begun */
    release(manager, get(manager, 2));
    pthread_mutex_unlock(&programs_lock);
    return NULL;
}
static tpool *lent;
static tpool_status get_process_pool(void *manager) { return tpool_manager_get(manager, 1, TPOOL_PROCESSES, 0, &lent); }
static void fork_handlers_run_without_the_managers_lock(void **state) {
    (void)state;
    tpool_manager *manager = new_manager();
    pthread_t asker;
    background getter;
    gate_close(&under_lock);
    assert_int_equal(0, pthread_create(&asker, NULL, ask_under_lock, manager));
    gate_await_arrivals(&under_lock, 1);
    atomic_store(&handlers_take_it, true);
    background_start(&getter, get_process_pool, manager);
    tpool_status status = background_join(&getter);
    atomic_store(&handlers_take_it, false);
    gate_open(&under_lock);
    assert_int_equal(0, pthread_join(asker, NULL));
    assert_true(status == TPOOL_OK || status == TPOOL_UNSUPPORTED);
    release(manager, lent);
    tpool_manager_destroy(manager);
}

/* Calls get in another thread, for a pool of processes, and returns as that is being created. */
static void begin_get(background *getter, tpool_manager *manager) {
    gate_close(&in_create);
    atomic_store(&handlers_wait, true);
    background_start(getter, get_process_pool, manager);
    AWAIT_ARRIVALS(&in_create, 1);
    atomic_store(&handlers_wait, false);
}
static void pools_that_others_create_count_against_the_bound(void **state) {
    (void)state;
    tpool_manager *manager = NULL;
    background getter;
    assert_status(TPOOL_OK, tpool_manager_create(&manager, &(tpool_manager_config){ .max_pools = 2 }));
    if (get_process_pool(manager) == TPOOL_UNSUPPORTED) skip();
    release(manager, lent);
    assert_status(TPOOL_OK, tpool_manager_clear(manager));
    release(manager, get(manager, 1));
    begin_get(&getter, manager);
    tpool *pool = get(manager, 2); /* ends the idle one, whose place the other get takes */
    assert_int_equal(1, manager_stats_of(manager).evicted);
    gate_open(&in_create);
    assert_status(TPOOL_OK, background_join(&getter));
    assert_int_equal(2, manager_stats_of(manager).pools);
    release(manager, pool);
    release(manager, lent);
    tpool_manager_destroy(manager);
}
#endif

int main(void) {
#if HAVE_FORK
    if (pthread_atfork(prepare, resume_after, resume_after) != 0) return 1;
#endif
    if (pthread_key_create(&key, pass_at_end) != 0) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pool_ends_though_the_thread_that_looked_at_it_has_ended),
        cmocka_unit_test(a_get_whose_thread_ends_leaves_no_loan),
        cmocka_unit_test(a_replaced_pool_ends_though_its_last_release_ends_the_thread),
        cmocka_unit_test(a_global_manager_comes_back_though_a_shutdown_has_ended_its_thread),
        cmocka_unit_test(a_release_hides_no_pool_from_a_shutdown),
        cmocka_unit_test(a_paused_pool_holds_up_no_shutdown_of_others),
        cmocka_unit_test(no_pool_is_paused_while_its_manager_shuts_down),
#if HAVE_FORK
        cmocka_unit_test(fork_handlers_run_without_the_managers_lock),
        cmocka_unit_test(pools_that_others_create_count_against_the_bound),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
