/* A lane gives back its first entry, or one of its last, to whoever has put it there and awaits it, and nothing of it
 * stays. */
#include "support.h"
#define TPOOL_IMPLEMENTATION
#include "tpool.h"

enum { BLOCKS = 2 * TPOOL__LOOK_BACK };
static tpool_future blocks[BLOCKS];
static tpool no_pool;

static void push_block(tpool__lane *lane, int i) {
    tpool__entry entry = { 0 };
    tpool_future *unreferenced = NULL;
    entry.task = &blocks[i];
    tpool__store_relaxed(&blocks[i].state, TPOOL__PHASE_PENDING + TPOOL__REFERENCE);
    assert_true(tpool__lane_reserve(&no_pool, lane, &unreferenced));
    tpool__lane_push(lane, &entry);
}
static void push_plain(tpool__lane *lane, void *arg) {
    tpool__entry entry = { 0 };
    tpool_future *unreferenced = NULL;
    entry.fn = nothing;
    entry.arg = arg;
    assert_true(tpool__lane_reserve(&no_pool, lane, &unreferenced));
    tpool__lane_push(lane, &entry);
}
static void assert_popped(tpool__lane *lane, int i) {
    tpool__entry entry = { 0 };
    assert_true(tpool__lane_pop(lane, &entry));
    assert_ptr_equal(&blocks[i], entry.task);
}
static bool is_found(tpool__lane *lane, int i) { return tpool__lane_find(lane, &blocks[i]) != NULL; }
static void remove_found(tpool__lane *lane, int i) {
    assert_true(is_found(lane, i));
    tpool__lane_remove(lane, tpool__lane_find(lane, &blocks[i]));
}
static void assert_empty(tpool__lane *lane) {
    tpool__entry entry = { 0 };
    assert_int_equal(0, tpool__lane_count(lane));
    assert_false(tpool__lane_pop(lane, &entry));
}

static void the_others_keep_their_order(void **state) {
    (void)state;
    tpool__lane lane = { 0 };
    for (int i = 0; i < 5; i++) push_block(&lane, i);
    assert_popped(&lane, 0);
    remove_found(&lane, 2); /* from between */
    remove_found(&lane, 4); /* from the end */
    push_block(&lane, 5);
    assert_false(is_found(&lane, 0));
    assert_false(is_found(&lane, 2));
    assert_int_equal(3, tpool__lane_count(&lane));
    assert_popped(&lane, 1);
    assert_popped(&lane, 3);
    assert_popped(&lane, 5);
    assert_empty(&lane);
    tpool__lane_free(&lane);
}

static void the_last_of_all_can_go(void **state) {
    (void)state;
    tpool__lane lane = { 0 };
    assert_false(is_found(&lane, 0)); /* before anything ever was in it */
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 3; i++) push_block(&lane, i);
        assert_popped(&lane, 0);
        assert_popped(&lane, 1);
        remove_found(&lane, 2);
        assert_false(is_found(&lane, 1)); /* its word still lies there */
        assert_empty(&lane);
    }
    tpool__lane_free(&lane);
}

static void an_argument_that_looks_like_a_block_is_none(void **state) {
    (void)state;
    tpool__lane lane = { 0 };
    push_block(&lane, 0);
    push_block(&lane, 1);
    push_plain(&lane, (char *)&blocks[1] + 1);
    assert_false(is_found(&lane, 1));
    assert_popped(&lane, 0);
    assert_popped(&lane, 1);
    assert_false(is_found(&lane, 1));
    tpool__lane_free(&lane);
}

static void the_look_back_is_short(void **state) {
    (void)state;
    tpool__lane lane = { 0 };
    for (int i = 0; i < BLOCKS; i++) push_block(&lane, i);
    for (int i = 0; i < BLOCKS; i++)
        assert_int_equal(i == 0 || i >= BLOCKS - (int)TPOOL__LOOK_BACK, is_found(&lane, i));
    tpool__lane_free(&lane);
}

static void a_second_segment_is_looked_through_alone(void **state) {
    (void)state;
    tpool__lane lane = { 0 };
    int last = 0;
    while (lane.head == lane.tail) push_block(&lane, last++ % BLOCKS); /* the last is the first of the second */
    last = (last - 1) % BLOCKS;
    size_t count = tpool__lane_count(&lane);
    assert_false(is_found(&lane, (last + BLOCKS - 1) % BLOCKS));
    remove_found(&lane, last);
    assert_int_equal(count - 1, tpool__lane_count(&lane));
    for (size_t i = 0; i < count - 1; i++) assert_popped(&lane, (int)(i % BLOCKS));
    assert_empty(&lane);
    tpool__lane_free(&lane);
}

/* ---- What comes into an empty lane, and stands in its first line. */
static void the_front_comes_first_and_is_filled_of_an_empty_lane_only(void **state) {
    (void)state;
    tpool__lane lane = { 0 };
    for (int round = 0; round < 3; round++) {
        push_block(&lane, 0);
        assert_true(lane.front != 0);
        push_block(&lane, 1);
        assert_popped(&lane, 0);
        assert_true(lane.front == 0);
        push_block(&lane, 2); /* behind the one in its slot */
        assert_true(lane.front == 0);
        assert_popped(&lane, 1);
        assert_popped(&lane, 2);
        assert_empty(&lane);
    }
    push_plain(&lane, NULL); /* two words */
    assert_true(lane.front == 0);
    tpool__entry entry = { 0 };
    assert_true(tpool__lane_pop(&lane, &entry));
    assert_empty(&lane);
    tpool__lane_free(&lane);
}

static void the_front_can_be_taken_back_from_before_the_others(void **state) {
    (void)state;
    tpool__lane lane = { 0 };
    for (int i = 0; i < 3; i++) push_block(&lane, i);
    remove_found(&lane, 0);
    assert_true(lane.front == 0);
    assert_int_equal(2, tpool__lane_count(&lane));
    assert_popped(&lane, 1);
    assert_popped(&lane, 2);
    assert_empty(&lane);
    push_block(&lane, 3);
    remove_found(&lane, 3);
    assert_empty(&lane);
    tpool__lane_free(&lane);
}

static void a_tombstone_at_the_front_is_swept(void **state) {
    (void)state;
    tpool__lane lane = { 0 };
    tpool_future *unreferenced = NULL;
    for (int i = 0; i < 3; i++) push_block(&lane, i);
    tpool__lane_sweep(&no_pool, &lane, &unreferenced); /* nothing to drop */
    assert_int_equal(3, tpool__lane_count(&lane));
    for (int i = 0; i < 3; i += 2) { /* claimed elsewhere, by somebody who holds a reference */
        tpool__add_relaxed(&blocks[i].state, TPOOL__PHASE_RUNNING + TPOOL__END_RELEASED + TPOOL__REFERENCE);
        lane.dead++;
    }
    tpool__lane_sweep(&no_pool, &lane, &unreferenced);
    assert_int_equal(0, lane.dead);
    assert_null(unreferenced);
    assert_true(lane.front == 0);
    assert_int_equal(1, tpool__lane_count(&lane));
    assert_popped(&lane, 1);
    assert_empty(&lane);
    tpool__lane_free(&lane);
}

static void a_run_is_filled_with_what_stands_behind_the_front(void **state) {
    (void)state;
    tpool__lane from = { 0 }, lane = { 0 };
    lane.batch_segment = calloc(1, sizeof(tpool__segment));
    for (int i = 0; i < 4; i++) push_block(&from, i);
    assert_popped(&from, 0);
    assert_int_equal(3, tpool__batch_fill(&lane, &from, 8));
    for (int i = 1; i < 4; i++) assert_popped(&lane, i);
    push_block(&lane, 4); /* a lane with a run has no front */
    assert_true(lane.front == 0);
    assert_popped(&lane, 4);
    assert_empty(&lane);
    assert_empty(&from);
    tpool__lane_free(&from);
    tpool__lane_free(&lane);
}

/* ---- What a sweep takes for a block, and what not: each first word that an entry may have, in a run and behind it. */
static void push_stamped(tpool__lane *lane, tpool_fn fn, uintptr_t stamp) {
    tpool__entry entry = { 0 };
    tpool_future *unreferenced = NULL;
    entry.fn = fn;
    entry.stamp = stamp;
    assert_true(tpool__lane_reserve(&no_pool, lane, &unreferenced));
    tpool__lane_push(lane, &entry);
}
static void assert_popped_plain(tpool__lane *lane, tpool_fn fn, uintptr_t stamp) {
    tpool__entry entry = { 0 };
    assert_true(tpool__lane_pop(lane, &entry));
    assert_null(entry.task);
    assert_true(entry.fn == fn);
    assert_true(entry.stamp == stamp);
}
static void a_sweep_tells_blocks_from_every_kind_of_plain_task(void **state) {
    (void)state;
    const tpool_fn odd = (tpool_fn)((uintptr_t)nothing | 1);
    const uintptr_t stamps[] = { 0, tpool__stamp(0), tpool__stamp(1), tpool__stamp(TPOOL_SEC(123456789)) };
    for (int kind = 0; kind < 8; kind++) {
        tpool_fn fn = kind & 4 ? odd : nothing;
        uintptr_t stamp = stamps[kind & 3];
        tpool__lane from = { 0 }, lane = { 0 };
        tpool_future *unreferenced = NULL;
        lane.batch_segment = calloc(1, sizeof(tpool__segment));
        push_block(&from, BLOCKS - 1);            /* at the front, so that what follows is not */
        for (int round = 0; round < 2; round++) { /* into the run, and behind it */
            tpool__lane *to = round == 0 ? &from : &lane;
            push_block(to, 2 * round);
            if (round == 0) assert_popped(&from, BLOCKS - 1);
            push_stamped(to, fn, stamp);
            push_block(to, 2 * round + 1);
            if (round == 0) assert_int_equal(3, tpool__batch_fill(&lane, &from, 8));
        }
        for (int i = 0; i < 4; i++) {
            tpool__add_relaxed(&blocks[i].state, TPOOL__PHASE_RUNNING + TPOOL__END_RELEASED + TPOOL__REFERENCE);
            lane.dead++;
        }
        tpool__lane_sweep(&no_pool, &lane, &unreferenced);
        assert_null(unreferenced);
        assert_int_equal(1, lane.dead); /* in a run only what comes first can be dropped */
        assert_int_equal(3, tpool__lane_count(&lane));
        assert_popped_plain(&lane, fn, stamp);
        assert_popped(&lane, 1);
        assert_popped_plain(&lane, fn, stamp);
        assert_empty(&lane);
        tpool__lane_free(&from);
        tpool__lane_free(&lane);
    }
}

/* ---- A sweep of another's lane closes its batch, and waits for what the owner takes. */
static tpool other;
static tpool__worker owner;
static tpool_status sweep_all(void *arg) {
    (void)tpool__is_quiet((tpool *)arg);
    return TPOOL_OK;
}
static bool is_closed(void) {
    return tpool__load_relaxed(&owner.lane.batch) & TPOOL__BATCH_CLOSED; /* relaxed: tests only */
}
static void a_sweep_looks_at_no_entry_that_its_owner_takes(void **state) {
    (void)state;
    static background sweeper;
    static tpool__lane from;
    owner.pool = &other;
    owner.lane.batch_segment = calloc(1, sizeof(tpool__segment));
    tpool__store_relaxed(&other.workers, &owner); /* relaxed: tests only */
    for (int i = 0; i < 4; i++) push_block(&from, i);
    assert_popped(&from, 0);
    assert_int_equal(3, tpool__batch_fill(&owner.lane, &from, 8));
    tpool__store_relaxed(&owner.taking, 1); /* relaxed: tests only. It has swapped, and has not claimed */
    background_start(&sweeper, sweep_all, &other);
    REQUIRE_EVENTUALLY(is_closed() || atomic_load(&sweeper.returned));
    assert_true(is_closed()); /* and remains so as long as it takes */
    assert_false(atomic_load(&sweeper.returned));
    tpool__store_release(&owner.taking, 0);
    assert_status(TPOOL_OK, background_join(&sweeper));
    assert_false(is_closed());
    for (int i = 1; i < 4; i++) assert_popped(&owner.lane, i);
    assert_empty(&owner.lane);
    tpool__lane_free(&from);
    tpool__lane_free(&owner.lane);
}

/* ---- The same through the interface: of children awaited in place no tombstone is left. */
enum { CHILDREN = 10 };
static int tombstones, waiting;

static void *parent(void *arg) {
    tpool *pool = (tpool *)arg;
    tpool_future *children[CHILDREN];
    for (int i = 0; i < CHILDREN; i++) assert_status(TPOOL_OK, tpool_submit(pool, nothing, &blocks[i], &children[i]));
    for (int i = 0; i < CHILDREN; i++) {
        void *result;
        assert_status(TPOOL_OK, tpool_future_result(children[i], TPOOL_FOREVER, &result));
        assert_ptr_equal(&blocks[i], result);
        tpool_future_release(children[i]);
    }
    const tpool__lane *lane = tpool__lane_of(tpool__self()->worker);
    tombstones = (int)lane->dead;
    waiting = (int)tpool__lane_count(lane);
    return NULL;
}
static void children_awaited_in_place_leave_nothing(void **state) {
    (void)state;
    for (int workers = 1; workers <= 2; workers++) { /* one has the inject lane only */
        tpool_config config = { 0 };
        tpool *pool;
        tpool_future *future;
        gate held = GATE_CLOSED;
        config.max_workers = workers;
        assert_status(TPOOL_OK, tpool_create(&pool, &config));
        if (workers == 2) assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &held, NULL)); /* no thief */
        future = submitted(pool, parent, pool);
        assert_status(TPOOL_OK, tpool_future_result(future, TPOOL_FOREVER, NULL));
        tpool_future_release(future);
        assert_int_equal(0, tombstones);
        assert_int_equal(0, waiting);
        gate_open(&held);
        assert_status(TPOOL_OK, tpool_drain(pool, TPOOL_FOREVER));
        tpool_stats stats;
        tpool_get_stats(pool, &stats);
        assert_int_equal(CHILDREN + workers, stats.submitted);
        assert_int_equal(CHILDREN + workers, stats.completed);
        assert_int_equal(CHILDREN, stats.inlined);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

/* ---- The heap against a search: the highest priority, and the task that has waited longest. Numbers stand for blocks.
 * Those of equal priority leave in the order in which they came. */
enum { RANKED = 3000 };
static tpool_future ranked_blocks[RANKED];
static struct {
    int priority;
    bool waits;
} ranked[RANKED];

static size_t number_of(const tpool_future *block) { return (size_t)(block - ranked_blocks); }
static size_t expected_at(const tpool *pool, bool oldest) {
    size_t best = SIZE_MAX, waiting_now = 0;
    for (size_t i = 0; i < RANKED; i++) {
        if (!ranked[i].waits) continue;
        waiting_now++;
        if (best == SIZE_MAX || (!oldest && ranked[i].priority > ranked[best].priority)) best = i;
    }
    assert_int_equal(waiting_now, pool->heap_count);
    return best;
}
/* Puts in RANKED tasks, and takes out whenever more than `most` wait: `oldest` of a hundred times the oldest. */
static void run_heap(int priorities, size_t most, uint32_t oldest) {
    static tpool pool;
    uint32_t drawn = 1;
    tpool_future *unreferenced = NULL;
    memset(&pool, 0, sizeof pool);
    memset(ranked, 0, sizeof ranked);
    for (size_t i = 0; i < RANKED; i++) {
        assert_true(tpool__heap_reserve(&pool, &unreferenced));
        drawn = drawn * 1664525 + 1013904223;
        ranked[i].priority = (int)(drawn >> 16) % priorities;
        ranked[i].waits = true;
        tpool__heap_push(&pool, &ranked_blocks[i], ranked[i].priority);
        while (pool.heap_count > most || (i == RANKED - 1 && pool.heap_count > 0)) {
            drawn = drawn * 1664525 + 1013904223;
            bool old = (drawn >> 16) % 100 < oldest;
            size_t expected = expected_at(&pool, old);
            size_t found = number_of(tpool__heap_remove(&pool, old ? tpool__heap_oldest(&pool) : 0));
            assert_int_equal(expected, found);
            ranked[found].waits = false;
        }
    }
    assert_true(pool.heap_size < 4 * most + 64);
    TPOOL_FREE(pool.heap);
}
static void the_heap_knows_its_highest_and_its_oldest(void **state) {
    (void)state;
    run_heap(1, 100, 100);
    run_heap(5, 100, 50);
    run_heap(1000, 1000, 10);
}
/* One of low priority stays, while many others come and go: their places are used again. */
static void a_task_that_stays_does_not_make_the_heap_grow(void **state) {
    (void)state;
    run_heap(2, 40, 0);
    run_heap(50, 63, 1);
}

static const struct CMUnitTest tests[] = {
    TEST(the_others_keep_their_order),
    TEST(the_last_of_all_can_go),
    TEST(an_argument_that_looks_like_a_block_is_none),
    TEST(the_look_back_is_short),
    TEST(a_second_segment_is_looked_through_alone),
    TEST(the_front_comes_first_and_is_filled_of_an_empty_lane_only),
    TEST(the_front_can_be_taken_back_from_before_the_others),
    TEST(a_tombstone_at_the_front_is_swept),
    TEST(a_run_is_filled_with_what_stands_behind_the_front),
    TEST(a_sweep_tells_blocks_from_every_kind_of_plain_task),
    TEST(a_sweep_looks_at_no_entry_that_its_owner_takes),
    TEST(children_awaited_in_place_leave_nothing),
    TEST(the_heap_knows_its_highest_and_its_oldest),
    TEST(a_task_that_stays_does_not_make_the_heap_grow),
};
RUN_TESTS(tests)
