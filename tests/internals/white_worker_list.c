/* The list of a pool's workers: what has ended costs no look any more, and nothing of what it did is forgotten. */
#include "support.h"
#include "internals/check.h"

static size_t listed(tpool *pool) {
    size_t count = 0;
    int index = -1;
    for (tpool__worker *w = tpool__first_worker(pool); w; w = tpool__next_worker(w), count++) {
        assert_true(w->index > index); /* who stands at one that leaves goes on upwards */
        index = w->index;
    }
    return count;
}
static size_t made(tpool *pool) { return pool->newest ? (size_t)pool->newest->index + 1 : 0; }

static void free_workers(tpool *pool) {
    for (tpool__worker *worker = pool->newest, *before; worker; worker = before) {
        before = worker->before;
        tpool__lane_free(&worker->lane);
        tpool__free_aligned(worker);
    }
    TPOOL_FREE(pool->unused);
}

/* No worker is about to end. */
static bool has_workers(tpool *pool, int workers) {
    tpool__lock(&pool->lock);
    bool has = tpool__load_relaxed(&pool->live) == (uintptr_t)workers && pool->ending == 0;
    tpool__unlock(&pool->lock);
    return has;
}

static bool lists_only_the_living(tpool *pool) {
    tpool__lock(&pool->lock);
    bool so = !pool->leftovers && listed(pool) == tpool__load_relaxed(&pool->live) + pool->ending;
    tpool__unlock(&pool->lock);
    return so;
}

/* Each blocks, and so a spare worker is started for the next. */
static void *block(void *future) { return tpool_future_result((tpool_future *)future, LIMIT, NULL) ? future : NULL; }
enum { BURST = 60 };
static void run_burst(tpool *pool) {
    tpool_future *awaited, *futures[BURST];
    assert_status(TPOOL_OK, tpool_future_create(&awaited));
    for (int i = 0; i < BURST; i++) assert_status(TPOOL_OK, tpool_submit(pool, block, awaited, &futures[i]));
    REQUIRE_EVENTUALLY(has_workers(pool, BURST));
    assert_status(TPOOL_OK, tpool_future_set_result(awaited, NULL));
    for (int i = 0; i < BURST; i++) {
        assert_status(TPOOL_OK, end_of(futures[i]));
    }
    tpool_future_release(awaited);
}
static void spare_workers_that_have_ended_are_walked_no_more(void **state) {
    (void)state;
    tpool_config config = { .max_workers = 2, .max_spares = BURST, .measure = true };
    tpool *pool = new_pool_as(config);
    for (uint64_t burst = 1; burst <= 2; burst++) {
        run_burst(pool);
        REQUIRE_EVENTUALLY(has_workers(pool, 2));
        assert_int_equal(2, listed(pool));
        assert_true(lists_only_the_living(pool));
        assert_true(made(pool) <= BURST + 2); /* their places are used again */
        for (tpool__worker *w = pool->newest; w; w = w->before) {
            if (w->listed) continue;
            assert_null(w->lane.batch_segment);
            assert_null(w->lane.head);
            assert_null(w->lane.spare);
            assert_null(w->measures);
        }
        tpool_stats stats = stats_of(pool);
        assert_int_equal(burst * BURST, stats.completed);
        assert_int_equal(burst * BURST, stats.submitted);
        assert_int_equal(2, stats.workers);
        assert_true(stats.run_p99_ns > 0);
        uint64_t ran = 0;
        for (unsigned i = 0; i < TPOOL__BUCKETS; i++) ran += tpool__in_bucket(pool, false, i);
        assert_int_equal(burst * BURST, ran);
        assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* The lowest index that no worker has is the next one's. */
static void the_lowest_index_that_is_free_is_taken_next(void **state) {
    (void)state;
    tpool pool;
    tpool__worker *workers[40];
    memset(&pool, 0, sizeof pool);
    tpool__lock(&pool.lock);
    for (int i = 0; i < 40; i++) {
        workers[i] = tpool__worker_slot(&pool, 0);
        assert_non_null(workers[i]);
        assert_int_equal(i, workers[i]->index);
    }
    static const int gone[] = { 20, 3, 39, 0, 21, 7, 38 }, back[] = { 0, 3, 7, 20, 21, 38, 39, 40 };
    for (size_t i = 0; i < 7; i++) {
        tpool__worker_put_away(&pool, workers[gone[i]]);
        assert_int_equal(40 - (i + 1), listed(&pool));
    }
    for (size_t i = 0; i < 8; i++) {
        tpool__worker *worker = tpool__worker_slot(&pool, 0);
        assert_int_equal(back[i], worker->index);
        assert_int_equal(34 + i, listed(&pool));
        if (worker->previous) assert_int_equal(back[i] - 1, worker->previous->index);
    }
    tpool__unlock(&pool.lock);
    free_workers(&pool);
}

/* One that is apart has an index that is not below those of the workers, whichever of these there are. */
static void one_from_an_index_up_leaves_the_lower_ones(void **state) {
    (void)state;
    tpool pool;
    memset(&pool, 0, sizeof pool);
    tpool__lock(&pool.lock);
    tpool__worker *apart = tpool__worker_slot(&pool, 20), *other = tpool__worker_slot(&pool, 20);
    assert_int_equal(20, apart->index);
    assert_int_equal(21, other->index);
    assert_int_equal(2, listed(&pool));
    for (int i = 0; i < 20; i++) {
        tpool__worker *worker = tpool__worker_slot(&pool, 0);
        assert_int_equal(i, worker->index);
        if (i > 0) assert_int_equal(i - 1, worker->previous->index);
        assert_ptr_equal(apart, tpool__next_worker(worker));
    }
    assert_int_equal(22, tpool__worker_slot(&pool, 0)->index);
    tpool__worker_put_away(&pool, apart);
    tpool__worker_put_away(&pool, other);
    tpool__worker_put_away(&pool, pool.workers);
    assert_ptr_equal(other, tpool__worker_slot(&pool, 21));
    assert_ptr_equal(apart, tpool__worker_slot(&pool, 1));
    assert_int_equal(0, tpool__worker_slot(&pool, 0)->index);
    assert_int_equal(23, listed(&pool));
    tpool__unlock(&pool.lock);
    free_workers(&pool);
}

/* A walk that stands at a worker while it leaves still comes to those behind it, also to one that came back there. */
static void who_stands_at_a_worker_that_leaves_misses_none_behind_it(void **state) {
    (void)state;
    tpool pool;
    tpool__worker *workers[6];
    memset(&pool, 0, sizeof pool);
    tpool__lock(&pool.lock);
    for (int i = 0; i < 6; i++) assert_non_null(workers[i] = tpool__worker_slot(&pool, 0));
    tpool__worker *at = workers[1];
    tpool__worker_put_away(&pool, workers[2]);
    tpool__worker_put_away(&pool, workers[1]);
    tpool__worker_put_away(&pool, workers[4]);
    assert_ptr_equal(workers[3], at = tpool__next_worker(at));
    tpool__worker_put_away(&pool, workers[3]);
    assert_ptr_equal(workers[5], tpool__next_worker(at));
    for (int i = 1; i < 5; i++) assert_ptr_equal(workers[i], tpool__worker_slot(&pool, 0));
    assert_ptr_equal(workers[4], tpool__next_worker(at));
    assert_int_equal(6, listed(&pool));
    tpool__unlock(&pool.lock);
    free_workers(&pool);
}

/* What an ended worker has left in its lane is still found, and then it goes. */
static atomic_int ran_left;
static void *count_left(void *arg) {
    atomic_fetch_add(&ran_left, 1);
    return arg;
}
static void *submit_and_end(void *pool) {
    for (int i = 0; i < 3; i++) assert_status(TPOOL_OK, tpool_submit((tpool *)pool, count_left, NULL, NULL));
    tpool__thread_exit();
    return NULL;
}
static void a_worker_that_leaves_tasks_goes_once_they_are_taken(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    gate_close(&hold);
    atomic_store(&ran_left, 0);
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 2 });
    assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
    AWAIT_ARRIVALS(&hold, 1);
    assert_status(TPOOL_BROKEN, end_of(submitted(pool, submit_and_end, pool)));
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(3, atomic_load(&ran_left));
    REQUIRE_EVENTUALLY(lists_only_the_living(pool));
    tpool_stats stats = stats_of(pool);
    assert_int_equal(5, stats.submitted);
    assert_int_equal(4, stats.completed);
    assert_int_equal(1, stats.failed);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static const struct CMUnitTest tests[] = {
    TEST(spare_workers_that_have_ended_are_walked_no_more),
    TEST(the_lowest_index_that_is_free_is_taken_next),
    TEST(one_from_an_index_up_leaves_the_lower_ones),
    TEST(who_stands_at_a_worker_that_leaves_misses_none_behind_it),
    TEST(a_worker_that_leaves_tasks_goes_once_they_are_taken),
};
RUN_TESTS(tests)
