/* Every interleaving of managed pools: get against release, eviction and shutdown; two threads that create the same
   one. */
#include "schedule.h"

static counter first, second;
static tpool_manager *manager;
static tpool *seen_by_helper;

/* One thread gives its pool back as another asks for the same: both have a living pool. */
static void *get_and_release(void *arg) {
    CHECK_STATUS(TPOOL_OK, tpool_manager_get(manager, 1, TPOOL_THREADS, 0, &seen_by_helper));
    CHECK_STATUS(TPOOL_OK, tpool_submit(seen_by_helper, count_task, arg, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_manager_release(manager, seen_by_helper));
    return NULL;
}
static void manager_get_against_release(void) {
    tpool_manager_config config = { .max_pools = 1 };
    tpool *pool = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_manager_create(&manager, &config));
    pthread_t helper = started(get_and_release, &first);
    CHECK_STATUS(TPOOL_OK, tpool_manager_get(manager, 1, TPOOL_THREADS, 0, &pool));
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, count_task, &second, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_manager_release(manager, pool));
    join(helper);
    tpool_manager_destroy(manager);
    CHECK(first.runs == 1 && second.runs == 1);
}
/* Two threads ask for the same pool at once, and both get the same: the slower one discards what it made. */
static gate both_have_it;
static void *get_and_hold(void *arg) {
    CHECK_STATUS(TPOOL_OK, tpool_manager_get(manager, 1, TPOOL_THREADS, 0, &seen_by_helper));
    gate_pass(&both_have_it);
    CHECK_STATUS(TPOOL_OK, tpool_manager_release(manager, seen_by_helper));
    return arg;
}
static void manager_get_against_get(void) {
    tpool *pool = NULL;
    tpool_manager_stats stats;
    CHECK_STATUS(TPOOL_OK, tpool_manager_create(&manager, NULL));
    pthread_t helper = started(get_and_hold, NULL);
    CHECK_STATUS(TPOOL_OK, tpool_manager_get(manager, 1, TPOOL_THREADS, 0, &pool));
    gate_open(&both_have_it);
    join(helper);
    CHECK(pool == seen_by_helper);
    CHECK_STATUS(TPOOL_OK, tpool_manager_get_stats(manager, &stats));
    CHECK(stats.created == 1 && stats.reused == 1 && stats.pools == 1);
    CHECK_STATUS(TPOOL_OK, tpool_manager_release(manager, pool));
    tpool_manager_destroy(manager);
}
/* The manager is shut down as another thread asks: it gets a pool that lives, or is told. */
static tpool_status helper_status;
static void *get_only(void *arg) {
    helper_status = tpool_manager_get(manager, 1, TPOOL_THREADS, 0, &seen_by_helper);
    CHECK(helper_status == TPOOL_OK || helper_status == TPOOL_SHUTDOWN);
    if (helper_status == TPOOL_OK) CHECK_STATUS(TPOOL_OK, tpool_manager_release(manager, seen_by_helper));
    return arg;
}
static void manager_get_against_shutdown(void) {
    CHECK_STATUS(TPOOL_OK, tpool_manager_create(&manager, NULL));
    pthread_t helper = started(get_only, NULL);
    CHECK_STATUS(TPOOL_OK, tpool_manager_shutdown(manager, false));
    join(helper);
    outcome(helper_status == TPOOL_OK);
    tpool_manager_destroy(manager);
}

SCHEDULES(SCENARIO(manager_get_against_release, .quick = 1, .preemptions = 2),
          SCENARIO(manager_get_against_get, .quick = 1, .preemptions = 2),
          SCENARIO(manager_get_against_shutdown, .quick = 1, .preemptions = 2, .outcomes = 2))
