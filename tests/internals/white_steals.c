/* What a worker steals from another: the newest of it first, and seldom where it does not pay; and that the wait of a
 * group spins for what another worker executes. */
#include "support.h"
#define TPOOL_IMPLEMENTATION
#include "tpool.h"

/* ---- What a thief has taken comes newest first */
enum { TASKS = 9 };
static tpool_future blocks[TASKS];
static tpool no_pool;

static void push(tpool__lane *lane, tpool_future *task, tpool_fn fn, uintptr_t stamp, void *arg) {
    tpool__entry entry = { .task = task, .fn = fn, .stamp = stamp, .arg = arg };
    tpool_future *unreferenced = NULL;
    assert_true(tpool__lane_reserve(&no_pool, lane, &unreferenced));
    tpool__lane_push(lane, &entry);
}
static unsigned steal_from(tpool__lane *lane, tpool__lane *from, size_t most) {
    tpool__spin_lock(&lane->lock);
    tpool__spin_lock(&from->lock);
    unsigned taken = tpool__batch_fill_newest_first(lane, from, most);
    tpool__spin_unlock(&from->lock);
    tpool__spin_unlock(&lane->lock);
    return taken;
}
static tpool__entry popped(tpool__lane *lane) {
    tpool__entry entry = { 0 };
    assert_true(tpool__lane_count(lane) > 0);
    tpool__spin_lock(&lane->lock);
    assert_true(tpool__lane_pop(lane, &entry));
    tpool__spin_unlock(&lane->lock);
    return entry;
}
/* Entries of one, two and three words. */
static void what_is_taken_comes_newest_first(void **state) {
    (void)state;
    const tpool_fn odd = (tpool_fn)((uintptr_t)nothing | 1);
    tpool__lane from = { 0 }, lane = { 0 };
    from.batch_segment = calloc(1, sizeof(tpool__segment));
    lane.batch_segment = calloc(1, sizeof(tpool__segment));
    push(&from, &blocks[0], NULL, 0, NULL);
    push(&from, NULL, nothing, 0, &blocks[1]);
    push(&from, NULL, odd, 0, &blocks[2]);
    push(&from, NULL, nothing, tpool__stamp(5), &blocks[3]);
    push(&from, &blocks[4], NULL, 0, NULL);
    assert_int_equal(4, steal_from(&lane, &from, 4));
    tpool__entry entry = popped(&lane);
    assert_true(!entry.task && entry.fn == nothing && entry.stamp == tpool__stamp(5) && entry.arg == &blocks[3]);
    entry = popped(&lane);
    assert_true(!entry.task && entry.fn == odd && entry.stamp == 0 && entry.arg == &blocks[2]);
    entry = popped(&lane);
    assert_true(!entry.task && entry.fn == nothing && entry.stamp == 0 && entry.arg == &blocks[1]);
    assert_ptr_equal(&blocks[0], popped(&lane).task);
    assert_int_equal(0, tpool__lane_count(&lane));
    assert_int_equal(1, tpool__lane_count(&from));
    assert_ptr_equal(&blocks[4], popped(&from).task);
    tpool__lane_free(&from);
    tpool__lane_free(&lane);
}
static void a_batch_holds_what_fits_into_its_segment(void **state) {
    (void)state;
    enum { MANY = 2 * TPOOL__SEGMENT_WORDS / 3, FIT = TPOOL__SEGMENT_WORDS / 3 };
    tpool__lane from = { 0 }, lane = { 0 };
    from.batch_segment = calloc(1, sizeof(tpool__segment));
    lane.batch_segment = calloc(1, sizeof(tpool__segment));
    for (uintptr_t i = 0; i < MANY; i++) push(&from, NULL, nothing, tpool__stamp(1), (void *)i);
    assert_int_equal(FIT, steal_from(&lane, &from, MANY));
    for (uintptr_t i = FIT; i-- > 0;) assert_ptr_equal((void *)i, popped(&lane).arg);
    for (uintptr_t i = FIT; i < MANY; i++) assert_ptr_equal((void *)i, popped(&from).arg);
    assert_int_equal(0, tpool__lane_count(&lane));
    tpool__lane_free(&from);
    tpool__lane_free(&lane);
}

/* ---- A task submits some, of which another worker takes a batch, and awaits them in the order submitted. */
static gate stolen = GATE_CLOSED;
static pthread_t waiter_s;
static pthread_t started_on[TASKS];
static void *note_start(void *arg) {
    started_on[(intptr_t)arg] = pthread_self();
    if (!pthread_equal(pthread_self(), waiter_s)) gate_pass(&stolen);
    return arg;
}
static tpool_future *futures[TASKS];
static void *submits_and_awaits(void *pool) {
    waiter_s = pthread_self();
    assert_status(TPOOL_OK, tpool_pause(pool)); /* the other worker sees all at once */
    for (intptr_t i = 0; i < TASKS; i++) futures[i] = submitted(pool, note_start, (void *)i);
    assert_status(TPOOL_OK, tpool_resume(pool));
    AWAIT_ARRIVALS(&stolen, 1); /* one of them has started there, and stays at the gate */
    intptr_t here = 0;
    while (here < TASKS && tpool__is_pending(futures[here])) here++;
    for (int i = 0; i < here; i++) assert_status(TPOOL_OK, tpool_future_result(futures[i], TPOOL_FOREVER, NULL));
    gate_open(&stolen);
    return (void *)here;
}
static void a_thief_leaves_the_oldest_to_the_worker_that_awaits_them(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 2));
    for (tpool__worker *w = tpool__first_worker(pool); w; w = tpool__next_worker(w))
        w->fetch_size = TPOOL__SEGMENT_WORDS; /* as after many tiny tasks */
    tpool_future *root = submitted(pool, submits_and_awaits, pool);
    void *here = NULL;
    assert_status(TPOOL_OK, tpool_future_result(root, LIMIT, &here));
    assert_true((intptr_t)here > 0); /* the oldest had not started */
    for (intptr_t i = 0; i < (intptr_t)here; i++) assert_true(pthread_equal(started_on[i], waiter_s));
    for (int i = 0; i < TASKS; i++) assert_status(TPOOL_OK, end_of(futures[i]));
    tpool_future_release(root);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- How long a thief waits before it steals again */
static void the_delay_grows_while_steals_do_not_pay(void **state) {
    (void)state;
    static tpool__worker worker;
    tpool__delay_steal(&worker);
    assert_int_equal(0, worker.steal_delay); /* nothing was stolen yet */
    for (int i = 0; i < 20; i++) {
        uint32_t before = worker.steal_delay;
        worker.stolen_at = tpool__clock() + TPOOL_SEC(100); /* whatever a loaded machine takes until the look */
        tpool__delay_steal(&worker);
        assert_int_equal(0, worker.stolen_at);
        assert_true(worker.steal_delay > before || before == TPOOL__LONGEST_STEAL_DELAY);
    }
    assert_int_equal(TPOOL__LONGEST_STEAL_DELAY, worker.steal_delay);
    tpool__delay_steal(&worker); /* a look that has stolen nothing says nothing */
    assert_int_equal(TPOOL__LONGEST_STEAL_DELAY, worker.steal_delay);
    for (int i = 0; i < 20; i++) {
        worker.stolen_at = tpool__clock() - TPOOL__STEAL_PAYS;
        tpool__delay_steal(&worker);
    }
    assert_int_equal(0, worker.steal_delay);
}

/* ---- The wait of a group */
static gate member_runs = GATE_CLOSED;
static void *waits_for_the_group(void *group) {
    AWAIT_ARRIVALS(&member_runs, 1);
    uint32_t before = tpool__self()->failed_spins;
    tpool_status status = tpool_group_wait(group, TPOOL_MS(1), NULL);
    assert_status(TPOOL_TIMEOUT, status);
    return (void *)(uintptr_t)(tpool__self()->failed_spins - before);
}
static void a_wait_for_a_group_spins(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    tpool_group *group = NULL;
    void *spins = NULL;
    assert_status(TPOOL_OK, tpool_group_create(&group, NULL));
    tpool_task member = { .fn = gate_task, .arg = &member_runs, .group = group };
    assert_status(TPOOL_OK, tpool_submit_task(pool, &member, NULL));
    tpool_future *waiter = submitted(pool, waits_for_the_group, group);
    assert_status(TPOOL_OK, tpool_future_result(waiter, LIMIT, &spins));
    assert_true((uintptr_t)spins > 0);
    tpool_future_release(waiter);
    gate_open(&member_runs);
    assert_status(TPOOL_OK, tpool_group_destroy(group));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static const struct CMUnitTest tests[] = {
    TEST(what_is_taken_comes_newest_first),
    TEST(a_batch_holds_what_fits_into_its_segment),
    TEST(a_thief_leaves_the_oldest_to_the_worker_that_awaits_them),
    TEST(the_delay_grows_while_steals_do_not_pay),
    TEST(a_wait_for_a_group_spins),
};
RUN_TESTS(tests)
