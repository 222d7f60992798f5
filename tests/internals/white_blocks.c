/* Slabs of blocks go back when nobody has needed them for a while, and the others stay whole. */
#include "support.h"
#define TPOOL__KEPT_TASKS ((size_t)1024)
#define TPOOL__KEPT_TIME TPOOL_MS(20)
#include "internals/check.h"

/* More slabs of a thousand than any test here leaves; under ThreadSanitizer a submit takes some 20 times as long. One
   of STAYING is kept. */
enum { BURST = UNDER_TSAN ? 40000 : 100000, STAYING = 5000 };
static tpool_future *futures[BURST];

static size_t blocks_cut(void) { return tpool__load_relaxed(&tpool__depot.total); }
/* What a few threads may have in their caches, what is kept anyway, and slabs that a block or two keep. */
static bool few_are_left(size_t slabs) {
    tpool__lock(&tpool__depot.lock);
    size_t count = 0;
    for (tpool__slab *slab = tpool__depot.slabs; slab; slab = slab->next) count++;
    assert_int_equal(count, tpool__depot.slab_count);
    bool few = tpool__depot.slab_count <= slabs && !tpool__depot.tidied;
    tpool__unlock(&tpool__depot.lock);
    return few;
}
/* Each block in the depot is there once, and in a slab that is there. */
static void assert_depot_is_whole(void) {
    tpool_future *blocks[TPOOL__MAGAZINE], *again = NULL;
    size_t home = 0, cut = 0;
    for (bool tidied = true; tidied;) {
        tpool__lock(&tpool__depot.lock);
        tidied = tpool__depot.tidied;
        if (tidied) tpool__unlock(&tpool__depot.lock);
    }
    for (tpool__slab *slab = tpool__depot.slabs; slab; slab = slab->next) {
        cut += slab->cut;
        slab->whole = 0;
    }
    while (tpool__depot.magazines) {
        tpool__magazine_pop(&tpool__depot.magazines, blocks);
        for (unsigned i = 0; i < TPOOL__MAGAZINE; i++, home++) {
            tpool__slab *slab = tpool__depot.slabs;
            while (slab && (blocks[i] < slab->tasks || blocks[i] >= slab->tasks + slab->cut)) slab = slab->next;
            assert_non_null(slab);
            assert_true(++slab->whole <= slab->cut);
        }
        tpool__magazine_push(&again, blocks);
    }
    tpool__depot.magazines = again;
    for (tpool_future *block = tpool__depot.loose; block; block = block->u.next) home++;
    assert_int_equal(home, tpool__depot.home);
    assert_int_equal(cut, blocks_cut());
    tpool__unlock(&tpool__depot.lock);
}

static void submit_burst(tpool *pool) {
    for (size_t i = 0; i < BURST; i++) assert_status(TPOOL_OK, tpool_submit(pool, nothing, &futures[i], &futures[i]));
    for (size_t i = 0; i < BURST; i++) assert_status(TPOOL_OK, tpool_future_result(futures[i], LIMIT, NULL));
    assert_true(blocks_cut() >= BURST);
}
/* In an order in which the last ones released are of all slabs, and slowly. */
static void release_scattered(void) {
    for (size_t i = 0; i < BURST; i++) {
        tpool_future_release(futures[i * 7919 % BURST]);
        if (i % (BURST / 10) == 0) sleep_ms(25);
    }
    tpool__cache_flush(tpool__self()); /* as at the end of this thread */
}
static void release_burst(bool all) {
    for (size_t i = 0; i < BURST; i++) {
        if (!all && i % STAYING == 0) continue;
        tpool_future_release(futures[i]);
        futures[i] = NULL;
    }
}

static void after_a_burst_the_slabs_go_back(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 2 });
    for (int round = 0; round < 3; round++) {
        submit_burst(pool);
        release_burst(true);
        REQUIRE_EVENTUALLY(few_are_left(16));
        assert_depot_is_whole();
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* No worker does anything any more when the futures are released. */
static void what_is_released_while_the_workers_sleep_goes_back_too(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 2 });
    submit_burst(pool);
    sleep_ms(100);
    assert_true(blocks_cut() >= BURST);
    release_burst(true);
    REQUIRE_EVENTUALLY(few_are_left(16));
    assert_depot_is_whole();
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void the_order_in_which_futures_are_released_does_not_matter(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 2 });
    submit_burst(pool);
    release_scattered();
    REQUIRE_EVENTUALLY(few_are_left(20));
    assert_depot_is_whole();
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_slab_with_a_future_in_it_stays(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 2 });
    submit_burst(pool);
    release_burst(false);
    REQUIRE_EVENTUALLY(few_are_left(BURST / STAYING + 16));
    assert_depot_is_whole();
    for (size_t i = 0; i < BURST; i += STAYING) {
        void *result = NULL;
        assert_status(TPOOL_OK, tpool_future_result(futures[i], 0, &result));
        assert_ptr_equal(&futures[i], result);
        tpool_future_release(futures[i]);
    }
    submit_burst(pool); /* what was left is used again */
    release_burst(true);
    REQUIRE_EVENTUALLY(few_are_left(16));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* Sooner than the keeper would have looked; or they are released when it has gone. */
static void where_no_worker_lives_slabs_go_back_too(void **state) {
    (void)state;
    for (int late = 0; late < 2; late++) {
        tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .idle_timeout_ns = TPOOL_MS(5) });
        submit_burst(pool);
        if (!late) release_burst(true);
        REQUIRE_EVENTUALLY(stats_of(pool).workers == 0);
        REQUIRE_EVENTUALLY(!tpool__load_relaxed(&tpool__depot.tidier));
        if (late) release_burst(true);
        REQUIRE_EVENTUALLY(few_are_left(16));
        assert_depot_is_whole();
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

/* Nobody is told of them as they come, since the depot is being looked through. */
static void what_is_released_while_another_looks_through_the_depot_goes_back_too(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .idle_timeout_ns = TPOOL_MS(5) });
    submit_burst(pool);
    REQUIRE_EVENTUALLY(stats_of(pool).workers == 0);
    REQUIRE_EVENTUALLY(!tpool__load_relaxed(&tpool__depot.tidier));
    tpool__stock nothing_taken = { 0 };
    tpool__lock(&tpool__depot.lock);
    tpool__depot.tidied = true;
    tpool__unlock(&tpool__depot.lock);
    release_burst(true);
    assert_true(tpool__stock_return(&nothing_taken, true, NULL)); /* who looked through it looks again */
    tpool__depot_tidy(NULL);
    assert_true(few_are_left(16));
    assert_depot_is_whole();
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* Work goes on while slabs go, whatever the moment. */
static void a_keeper_that_is_wanted_comes(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    for (int round = 0; round < 10; round++) {
        submit_burst(pool);
        release_burst(true);
        sleep_ms(15 + round % 10);
        assert_depot_is_whole();
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(0, blocks_cut());
}

int main(void) {
    assert_true(tpool__process_ready());
    tpool__process.unpooled = false; /* also where a tool nodes, which each block for itself would hide from this */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(after_a_burst_the_slabs_go_back),
        cmocka_unit_test(what_is_released_while_the_workers_sleep_goes_back_too),
        cmocka_unit_test(the_order_in_which_futures_are_released_does_not_matter),
        cmocka_unit_test(a_slab_with_a_future_in_it_stays),
        cmocka_unit_test(where_no_worker_lives_slabs_go_back_too),
        cmocka_unit_test(what_is_released_while_another_looks_through_the_depot_goes_back_too),
        cmocka_unit_test(a_keeper_that_is_wanted_comes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
