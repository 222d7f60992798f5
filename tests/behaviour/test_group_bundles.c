/* Plain members of a serial group, of which one may stand for several in a row: each counts, is cancelled, stopped and
 * paused by itself. */
#include "support.h"

static tpool_group *new_serial(void) {
    tpool_group *group = NULL;
    assert_status(TPOOL_OK, tpool_group_create(&group, &(tpool_group_config){ .limit = 1 }));
    return group;
}
static void add(tpool *pool, tpool_group *group, tpool_fn fn, void *arg) {
    tpool_task task = { .fn = fn, .arg = arg, .group = group };
    assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
}

/* A pool, a serial group, and a member at a gate before what the test adds. */
typedef struct bundled {
    tpool *pool;
    tpool_group *group;
    gate gate;
    atomic_int ran;
} bundled;
static void begin(bundled *b, tpool_config config) {
    *b = (bundled){ .gate = GATE_CLOSED };
    b->pool = new_pool_as(config);
    b->group = new_serial();
    add(b->pool, b->group, gate_task, &b->gate);
    AWAIT_ARRIVALS(&b->gate, 1);
}
static void end(bundled *b, tpool_status status) {
    gate_open(&b->gate);
    assert_status(status, tpool_group_destroy(b->group));
    assert_status(TPOOL_OK, tpool_destroy(b->pool));
}
static void add_many(bundled *b, tpool_fn fn, void *arg, int count) {
    for (int i = 0; i < count; i++) add(b->pool, b->group, fn, arg);
}

static atomic_int order_next, order_wrong;
static void *in_order(void *arg) {
    if (atomic_fetch_add(&order_next, 1) != (int)(intptr_t)arg) atomic_fetch_add(&order_wrong, 1);
    return NULL;
}
/* Some have futures, and so an object of their own. */
static void each_comes_in_its_turn(void **state) {
    (void)state;
    bundled b;
    begin(&b, (tpool_config){ .max_workers = 2 });
    atomic_store(&order_next, 0);
    atomic_store(&order_wrong, 0);
    int count = COUNT(20000);
    for (int i = 0; i < count; i++) {
        if (i == count / 2) gate_open(&b.gate);
        tpool_task task = { .fn = in_order, .arg = (void *)(intptr_t)i, .group = b.group };
        tpool_future *future = NULL;
        assert_status(TPOOL_OK, tpool_submit_task(b.pool, &task, i % 7 == 3 ? &future : NULL));
        tpool_future_release(future);
    }
    assert_status(TPOOL_OK, tpool_group_wait(b.group, LIMIT, NULL));
    assert_int_equal(count, atomic_load(&order_next));
    assert_int_equal(0, atomic_load(&order_wrong));
    assert_int_equal(count + 1, stats_of(b.pool).submitted);
    assert_int_equal(count + 1, stats_of(b.pool).completed);
    end(&b, TPOOL_OK);
}
static void each_counts(void **state) {
    (void)state;
    bundled b;
    begin(&b, (tpool_config){ .max_workers = 2 });
    gate second = GATE_CLOSED;
    add_many(&b, count_up, &b.ran, 3);
    add(b.pool, b.group, gate_task, &second);
    add_many(&b, count_up, &b.ran, 5);
    assert_int_equal(10, tpool_group_count(b.group));
    assert_int_equal(9, stats_of(b.pool).held);
    assert_int_equal(10, stats_of(b.pool).submitted);
    gate_open(&b.gate);
    AWAIT_ARRIVALS(&second, 1);
    assert_int_equal(3, atomic_load(&b.ran));
    assert_int_equal(6, tpool_group_count(b.group));
    assert_int_equal(5, stats_of(b.pool).held);
    assert_int_equal(4, stats_of(b.pool).completed);
    add(b.pool, b.group, count_up, &b.ran);
    assert_int_equal(7, tpool_group_count(b.group));
    gate_open(&second);
    assert_status(TPOOL_OK, tpool_group_wait(b.group, LIMIT, NULL));
    assert_int_equal(9, atomic_load(&b.ran));
    assert_int_equal(0, tpool_group_count(b.group));
    assert_int_equal(0, stats_of(b.pool).held);
    assert_int_equal(11, stats_of(b.pool).completed);
    end(&b, TPOOL_OK);
}
static void a_cancel_ends_what_has_not_begun(void **state) {
    (void)state;
    bundled b;
    begin(&b, (tpool_config){ .max_workers = 2 });
    add_many(&b, count_up, &b.ran, 20);
    assert_status(TPOOL_OK, tpool_group_cancel(b.group));
    assert_int_equal(1, tpool_group_count(b.group));
    tpool_task task = { .fn = count_up, .arg = &b.ran, .group = b.group };
    assert_status(TPOOL_CANCELLED, tpool_submit_task(b.pool, &task, NULL));
    gate_open(&b.gate);
    assert_status(TPOOL_CANCELLED, tpool_group_wait(b.group, LIMIT, NULL));
    assert_int_equal(0, atomic_load(&b.ran));
    assert_int_equal(20, stats_of(b.pool).cancelled);
    assert_int_equal(0, stats_of(b.pool).held);
    end(&b, TPOOL_CANCELLED);
}
static void *gate_and_raise(void *arg) {
    gate_pass((gate *)arg);
    tpool_raise(7, "raised");
    return NULL;
}
static void *gate_and_exit(void *arg) {
    gate_pass((gate *)arg);
    pthread_exit(NULL);
}
static void the_first_failure_cancels_the_rest(void **state) {
    (void)state;
    for (int exits = 0; exits < 2; exits++) {
        bundled b;
        begin(&b, (tpool_config){ .max_workers = 2 });
        gate second = GATE_CLOSED;
        add_many(&b, count_up, &b.ran, 3);
        add(b.pool, b.group, exits ? gate_and_exit : gate_and_raise, &second);
        add_many(&b, count_up, &b.ran, 20);
        gate_open(&b.gate);
        AWAIT_ARRIVALS(&second, 1);
        gate_open(&second);
        const tpool_error *error = NULL;
        tpool_status status = exits ? TPOOL_BROKEN : TPOOL_FAILED;
        assert_status(status, tpool_group_wait(b.group, LIMIT, &error));
        assert_int_equal(exits ? 0 : 7, error->code);
        assert_int_equal(3, atomic_load(&b.ran));
        assert_int_equal(1, stats_of(b.pool).failed);
        assert_int_equal(20, stats_of(b.pool).cancelled);
        assert_int_equal(4, stats_of(b.pool).completed);
        end(&b, status);
    }
}
static void none_begins_in_a_paused_pool(void **state) {
    (void)state;
    bundled b;
    begin(&b, (tpool_config){ .max_workers = 2 });
    gate second = GATE_CLOSED;
    add(b.pool, b.group, gate_task, &second);
    add_many(&b, count_up, &b.ran, 20);
    gate_open(&b.gate);
    AWAIT_ARRIVALS(&second, 1);
    assert_status(TPOOL_OK, tpool_pause(b.pool));
    gate_open(&second);
    EVENTUALLY(stats_of(b.pool).active == 0);
    assert_int_equal(0, atomic_load(&b.ran));
    assert_int_equal(20, tpool_group_count(b.group));
    assert_int_equal(20, stats_of(b.pool).held + stats_of(b.pool).queued);
    assert_status(TPOOL_OK, tpool_resume(b.pool));
    assert_status(TPOOL_OK, tpool_group_wait(b.group, LIMIT, NULL));
    assert_int_equal(20, atomic_load(&b.ran));
    end(&b, TPOOL_OK);
}
static void a_shutdown_cancels_what_has_not_begun(void **state) {
    (void)state;
    bundled b;
    begin(&b, (tpool_config){ .max_workers = 2 });
    add_many(&b, count_up, &b.ran, 20);
    assert_status(TPOOL_OK, tpool_shutdown(b.pool, TPOOL_CANCEL_PENDING));
    tpool_task task = { .fn = count_up, .arg = &b.ran, .group = b.group };
    tpool_status status = tpool_submit_task(b.pool, &task, NULL);
    assert_true(status == TPOOL_SHUTDOWN || status == TPOOL_CANCELLED);
    gate_open(&b.gate);
    assert_status(TPOOL_CANCELLED, tpool_group_wait(b.group, LIMIT, NULL));
    assert_int_equal(0, atomic_load(&b.ran));
    assert_int_equal(20, stats_of(b.pool).cancelled);
    end(&b, TPOOL_CANCELLED);
}
static void a_destroy_waits_for_each(void **state) {
    (void)state;
    bundled b;
    begin(&b, (tpool_config){ .max_workers = 2 });
    add_many(&b, count_up, &b.ran, 500);
    gate_open(&b.gate);
    assert_status(TPOOL_OK, tpool_destroy(b.pool));
    assert_int_equal(500, atomic_load(&b.ran));
    assert_status(TPOOL_OK, tpool_group_destroy(b.group));
}
static void *note_place(void *arg) {
    atomic_store((atomic_int *)arg, atomic_fetch_add(&order_next, 1));
    return NULL;
}
/* Another task comes between them: at once if it has a priority, else soon. Gives its place among the 500. */
static int place_of_another(int priority) {
    bundled b;
    begin(&b, (tpool_config){ .max_workers = 1 });
    gate second = GATE_CLOSED;
    atomic_int place = 0, places[500];
    atomic_store(&order_next, 0);
    add(b.pool, b.group, gate_task, &second);
    for (int i = 0; i < 500; i++) add(b.pool, b.group, note_place, &places[i]);
    gate_open(&b.gate);
    AWAIT_ARRIVALS(&second, 1);
    tpool_task task = { .fn = note_place, .arg = &place, .priority = priority };
    assert_status(TPOOL_OK, tpool_submit_task(b.pool, &task, NULL));
    gate_open(&second);
    assert_status(TPOOL_OK, tpool_group_wait(b.group, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_drain(b.pool, LIMIT));
    end(&b, TPOOL_OK);
    return atomic_load(&place);
}
static void others_get_their_turn(void **state) {
    (void)state;
    assert_in_range(place_of_another(0), 0, 200);
}
static void a_priority_comes_next(void **state) {
    (void)state;
    assert_int_equal(0, place_of_another(1));
}
/* A request to stop what runs concerns the one that runs. */
static void *note_stop(void *arg) {
    if (tpool_stop_requested()) atomic_fetch_add((atomic_int *)arg, 1);
    return NULL;
}
static void a_stop_is_for_the_one_that_runs(void **state) {
    (void)state;
    bundled b;
    begin(&b, (tpool_config){ .max_workers = 2 });
    gate second = GATE_CLOSED;
    add(b.pool, b.group, gate_task, &second);
    add_many(&b, note_stop, &b.ran, 20);
    gate_open(&b.gate);
    AWAIT_ARRIVALS(&second, 1);
    assert_status(TPOOL_OK, tpool_shutdown(b.pool, TPOOL_STOP_RUNNING));
    gate_open(&second);
    assert_status(TPOOL_OK, tpool_group_wait(b.group, LIMIT, NULL));
    assert_int_equal(0, atomic_load(&b.ran));
    end(&b, TPOOL_OK);
}
static atomic_int freed;
static void count_freed(void *payload) {
    (void)payload;
    atomic_fetch_add(&freed, 1);
}
static void *return_owned(void *arg) {
    (void)tpool_return_owned(arg, count_freed);
    return NULL;
}
static void what_each_returns_is_freed(void **state) {
    (void)state;
    bundled b;
    begin(&b, (tpool_config){ .max_workers = 2 });
    atomic_store(&freed, 0);
    add_many(&b, return_owned, &b, 50);
    gate_open(&b.gate);
    assert_status(TPOOL_OK, tpool_group_wait(b.group, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_drain(b.pool, LIMIT));
    EVENTUALLY(atomic_load(&freed) == 50);
    end(&b, TPOOL_OK);
}
/* A task of a pool of one worker waits for them: it executes them itself. */
static void *add_and_wait(void *arg) {
    bundled *b = (bundled *)arg;
    for (int i = 0; i < 100; i++) {
        tpool_task task = { .fn = count_up, .arg = &b->ran, .group = b->group };
        if (tpool_submit_task(b->pool, &task, NULL) != TPOOL_OK) return NULL;
    }
    return tpool_group_wait(b->group, TPOOL_FOREVER, NULL) == TPOOL_OK ? arg : NULL;
}
static void a_task_that_waits_executes_them(void **state) {
    (void)state;
    bundled b = { .pool = new_pool(1), .group = new_serial() };
    tpool_future *future = submitted(b.pool, add_and_wait, &b);
    void *result = NULL;
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
    assert_ptr_equal(&b, result);
    assert_int_equal(100, atomic_load(&b.ran));
    tpool_future_release(future);
    end(&b, TPOOL_OK);
}
static void *own_group(void *arg) {
    if (tpool_current_group() == (tpool_group *)arg) atomic_fetch_add(&order_next, 1);
    if (tpool_group_wait((tpool_group *)arg, 0, NULL) == TPOOL_DEADLOCK) atomic_fetch_add(&order_next, 1);
    return NULL;
}
static void each_knows_its_group(void **state) {
    (void)state;
    bundled b;
    begin(&b, (tpool_config){ .max_workers = 2 });
    atomic_store(&order_next, 0);
    add_many(&b, own_group, b.group, 20);
    gate_open(&b.gate);
    assert_status(TPOOL_OK, tpool_group_wait(b.group, LIMIT, NULL));
    assert_int_equal(40, atomic_load(&order_next));
    end(&b, TPOOL_OK);
}
/* A member of another pool ends the row. */
static void pools_take_turns(void **state) {
    (void)state;
    bundled b;
    begin(&b, (tpool_config){ .max_workers = 2 });
    tpool *other = new_pool(1);
    atomic_store(&order_next, 0);
    atomic_store(&order_wrong, 0);
    for (int i = 0; i < 100; i++) add(i / 5 % 2 ? other : b.pool, b.group, in_order, (void *)(intptr_t)i);
    gate_open(&b.gate);
    assert_status(TPOOL_OK, tpool_group_wait(b.group, LIMIT, NULL));
    assert_int_equal(100, atomic_load(&order_next));
    assert_int_equal(0, atomic_load(&order_wrong));
    assert_int_equal(50, stats_of(other).completed);
    assert_status(TPOOL_OK, tpool_destroy(other));
    end(&b, TPOOL_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(each_comes_in_its_turn),
        TEST(each_counts),
        TEST(a_cancel_ends_what_has_not_begun),
        TEST(the_first_failure_cancels_the_rest),
        TEST(none_begins_in_a_paused_pool),
        TEST(a_shutdown_cancels_what_has_not_begun),
        TEST(a_destroy_waits_for_each),
        TEST(others_get_their_turn),
        TEST(a_priority_comes_next),
        TEST(a_stop_is_for_the_one_that_runs),
        TEST(what_each_returns_is_freed),
        TEST(a_task_that_waits_executes_them),
        TEST(each_knows_its_group),
        TEST(pools_take_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
