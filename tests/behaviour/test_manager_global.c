/* The global manager, and a pool for the time of a call (tpool_with_pool). */
#include "support.h"
#include "support/managers.h"

/* ---- Scope ---- */

static tpool_status use_and_fail(tpool *pool, void *context) {
    *(tpool **)context = pool;
    check_works(pool);
    return TPOOL_FAILED;
}
static void with_pool_gives_what_the_body_gives_and_releases(void **state) {
    (void)state;
    tpool_manager *manager = new_manager();
    tpool *used = NULL;
    assert_status(TPOOL_FAILED, tpool_with_pool(manager, 2, TPOOL_THREADS, use_and_fail, &used));
    assert_non_null(used);
    assert_int_equal(1, manager_stats_of(manager).idle);
    assert_status(TPOOL_INVALID, tpool_manager_release(manager, used));
    used = NULL;
    assert_status(TPOOL_INVALID, tpool_with_pool(manager, -2, TPOOL_THREADS, use_and_fail, &used));
    assert_null(used); /* not called */
    assert_status(TPOOL_OK, tpool_manager_shutdown(manager, false));
    assert_status(TPOOL_SHUTDOWN, tpool_with_pool(manager, 2, TPOOL_THREADS, use_and_fail, &used));
    assert_null(used);
    tpool_manager_destroy(manager);
}

#if HAVE_FORK /* POSIX: on Windows a loan whose thread ends stays out, as the header says */
static tpool_status end_the_thread(tpool *pool, void *context) {
    (void)pool;
    (void)context;
    pthread_exit(NULL);
}
static void *with_pool_and_end(void *manager) {
    (void)tpool_with_pool(manager, 2, TPOOL_THREADS, end_the_thread, NULL);
    return NULL;
}
static void with_pool_releases_also_when_the_body_ends_its_thread(void **state) {
    (void)state;
    tpool_manager *manager = new_manager();
    pthread_t thread;
    assert_int_equal(0, pthread_create(&thread, NULL, with_pool_and_end, manager));
    pthread_join(thread, NULL);
    assert_int_equal(1, manager_stats_of(manager).idle);
    tpool *pool = get(manager, 1); /* and likewise in a task */
    assert_status(TPOOL_BROKEN, end_of(submitted(pool, with_pool_and_end, manager)));
    release(manager, pool);
    EVENTUALLY(manager_stats_of(manager).in_use == 0);
    tpool_manager_destroy(manager);
}
#endif

static tpool_status nest(tpool *pool, void *context) {
    (void)pool;
    int *depth = context;
    return --*depth > 0 ? tpool_with_pool(NULL, 1 + *depth % 3, TPOOL_THREADS, nest, depth) : TPOOL_END;
}
static void scopes_nest(void **state) {
    (void)state;
    int depth = 10;
    assert_status(TPOOL_END, tpool_with_pool(NULL, 1, TPOOL_THREADS, nest, &depth));
    assert_int_equal(0, manager_stats_of(NULL).in_use);
    assert_status(TPOOL_OK, tpool_manager_global_shutdown());
}

/* ---- The global manager ---- */

static gate race = GATE_CLOSED;
static void *ask_for_global(void *arg) {
    gate_pass(&race);
    *(tpool **)arg = get(NULL, 3);
    return tpool_manager_global();
}
static void the_global_manager_is_created_once_under_a_race(void **state) { /* the first test: nobody has asked yet */
    (void)state;
    enum { THREADS = 8 };
    pthread_t threads[THREADS];
    tpool *pools[THREADS];
    for (int i = 0; i < THREADS; i++) assert_int_equal(0, pthread_create(&threads[i], NULL, ask_for_global, &pools[i]));
    gate_await_arrivals(&race, THREADS);
    gate_open(&race);
    for (int i = 0; i < THREADS; i++) {
        void *manager = NULL;
        pthread_join(threads[i], &manager);
        assert_ptr_equal(tpool_manager_global(), manager);
        assert_ptr_equal(pools[0], pools[i]);
    }
    assert_int_equal(1, manager_stats_of(NULL).created);
    assert_int_equal(THREADS - 1, manager_stats_of(NULL).reused);
    for (int i = 0; i < THREADS; i++) release(i % 2 ? NULL : tpool_manager_global(), pools[i]);
    assert_status(TPOOL_OK, tpool_manager_global_shutdown());
}

static void the_global_manager_comes_back_after_its_shutdown(void **state) {
    (void)state;
    tpool *before = get(NULL, 2);
    assert_status(TPOOL_OK, tpool_manager_global_shutdown());
    assert_status(TPOOL_OK, tpool_manager_global_shutdown());
    assert_status(TPOOL_SHUTDOWN, tpool_submit(before, nothing, NULL, NULL));
    tpool *after = get(NULL, 2);
    assert_ptr_not_equal(before, after);
    check_works(after);
    assert_int_equal(1, manager_stats_of(NULL).created);
    release(NULL, before); /* of the time before, and still good */
    assert_status(TPOOL_INVALID, tpool_manager_release(NULL, before));
    release(NULL, after);
    tpool_manager_destroy(tpool_manager_global()); /* the nothing as its shutdown */
    after = get(NULL, 2);
    check_works(after);
    release(NULL, after);
    assert_status(TPOOL_OK, tpool_manager_shutdown(NULL, false)); /* this one stays shut ... */
    assert_status(TPOOL_SHUTDOWN, tpool_manager_get(NULL, 2, TPOOL_THREADS, 0, &after));
    assert_status(TPOOL_OK, tpool_manager_global_shutdown());     /* ... until that ... */
    assert_status(TPOOL_OK, tpool_manager_shutdown(NULL, false)); /* ... unless it is used again for this */
    assert_status(TPOOL_SHUTDOWN, tpool_manager_get(NULL, 2, TPOOL_THREADS, 0, &after));
    assert_status(TPOOL_OK, tpool_manager_global_shutdown());
    release(NULL, get(NULL, 2));
    assert_status(TPOOL_OK, tpool_manager_clear(NULL));
    assert_int_equal(0, manager_stats_of(NULL).pools);
    assert_status(TPOOL_OK, tpool_manager_global_shutdown());
}

#if HAVE_FORK
static int in_child(tpool_manager *own, tpool *lent, tpool *global_lent) {
    tpool *pool = lent;
    tpool_manager_stats stats;
    if (tpool_manager_get(own, 1, TPOOL_THREADS, 0, &pool) != TPOOL_BROKEN || pool) return 1;
    if (tpool_manager_release(own, lent) != TPOOL_BROKEN) return 2;
    if (tpool_manager_clear(own) != TPOOL_BROKEN || tpool_manager_shutdown(own, true) != TPOOL_BROKEN) return 3;
    if (tpool_manager_get_stats(own, &stats) != TPOOL_BROKEN) return 4;
    tpool_manager_destroy(own);
    if (tpool_submit(lent, nothing, NULL, NULL) != TPOOL_BROKEN || tpool_destroy(lent) != TPOOL_BROKEN) return 5;
    if (tpool_manager_get_stats(NULL, &stats) != TPOOL_OK || stats.pools || stats.created) return 6;
    if (tpool_manager_get(NULL, 2, TPOOL_THREADS, 0, &pool) != TPOOL_OK || pool == global_lent) return 7;
    if (tpool_run_with_timeout(pool, &(tpool_task){ .fn = nothing }, LIMIT, NULL) != TPOOL_OK) return 8;
    if (tpool_manager_release(NULL, global_lent) != TPOOL_INVALID) return 9;
    if (tpool_manager_release(NULL, pool) != TPOOL_OK) return 10;
    if (tpool_manager_global_shutdown() != TPOOL_OK) return 11;
    return 0;
}
#endif
static void after_fork_the_global_manager_is_fresh_and_others_are_the_parents(void **state) {
    (void)state;
#if HAVE_FORK
    tpool_manager *own = new_manager();
    tpool *lent = get(own, 1), *global_lent = get(NULL, 2);
    if (!SLOW_TOOL) { /* ThreadSanitizer ends a child whose threads take the places of the parent's */
        check_works(lent);
        check_works(global_lent);
    }
    pid_t child = fork();
    if (child == 0) {
        alarm(60);
        _exit(in_child(own, lent, global_lent));
    }
    int ended = 0;
    assert_true(child > 0 && waitpid(child, &ended, 0) == child);
    assert_true(WIFEXITED(ended));
    assert_int_equal(0, WEXITSTATUS(ended));
    check_works(global_lent); /* the parent's are as they were */
    release(NULL, global_lent);
    release(own, lent);
    tpool_manager_destroy(own);
    assert_status(TPOOL_OK, tpool_manager_global_shutdown());
#else
    skip();
#endif
}

static const struct CMUnitTest tests[] = {
    TEST(the_global_manager_is_created_once_under_a_race),
    TEST(with_pool_gives_what_the_body_gives_and_releases),
#if HAVE_FORK
    TEST(with_pool_releases_also_when_the_body_ends_its_thread),
#endif
    TEST(scopes_nest),
    TEST(the_global_manager_comes_back_after_its_shutdown),
    TEST(after_fork_the_global_manager_is_fresh_and_others_are_the_parents),
};
RUN_TESTS(tests)
