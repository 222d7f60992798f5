/* Plain members of a serial group, which come one after the other with one task, their carrier: each counts, is
 * cancelled, stopped, traced and paused by itself, and gives others their turn. */
#include "support.h"
#include "support/serial.h"

static atomic_int order_next, order_wrong;
static void *in_order(void *arg) {
    if (atomic_fetch_add(&order_next, 1) != (int)(intptr_t)arg) atomic_fetch_add(&order_wrong, 1);
    return NULL;
}
/* Some have futures, and so an object of their own. */
static void each_comes_in_its_turn(void **state) {
    (void)state;
    serial b;
    serial_begin(&b, (tpool_config){ .max_workers = 2 });
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
    serial_end(&b, TPOOL_OK);
}
/* Behind one that has an object of its own, and runs. */
static void those_behind_a_future_come_after_it(void **state) {
    (void)state;
    serial b = { .pool = new_pool(2), .group = new_serial(), .gate = GATE_CLOSED };
    tpool_task task = { .fn = gate_task, .arg = &b.gate, .group = b.group };
    tpool_future *future = submitted_task(b.pool, task);
    AWAIT_ARRIVALS(&b.gate, 1);
    serial_add(&b, count_up, &b.ran, 10);
    assert_int_equal(11, tpool_group_count(b.group));
    assert_int_equal(0, atomic_load(&b.ran));
    serial_finish(&b);
    assert_int_equal(10, atomic_load(&b.ran));
    tpool_future_release(future);
    serial_end(&b, TPOOL_OK);
}
static void each_counts(void **state) {
    (void)state;
    serial b;
    serial_begin(&b, (tpool_config){ .max_workers = 2 });
    serial_add(&b, count_up, &b.ran, 3);
    assert_int_equal(4, tpool_group_count(b.group));
    assert_int_equal(3, stats_of(b.pool).held);
    assert_int_equal(4, stats_of(b.pool).submitted);
    serial_reach_second(&b, count_up, &b.ran, 5);
    assert_int_equal(3, atomic_load(&b.ran));
    assert_int_equal(10, stats_of(b.pool).submitted);
    assert_int_equal(6, tpool_group_count(b.group));
    assert_int_equal(5, stats_of(b.pool).held);
    assert_int_equal(4, stats_of(b.pool).completed);
    serial_add(&b, count_up, &b.ran, 1);
    assert_int_equal(7, tpool_group_count(b.group));
    gate_open(&b.second);
    assert_status(TPOOL_OK, tpool_group_wait(b.group, LIMIT, NULL));
    assert_int_equal(9, atomic_load(&b.ran));
    assert_int_equal(0, tpool_group_count(b.group));
    assert_int_equal(0, stats_of(b.pool).held);
    assert_int_equal(11, stats_of(b.pool).completed);
    serial_end(&b, TPOOL_OK);
}
/* At once, also when the one that runs was an entry itself. */
static void check_that_what_has_not_begun_is_cancelled(bool by_shutdown) {
    for (int before = 0; before < 2; before++) {
        serial b;
        serial_begin(&b, (tpool_config){ .max_workers = 2 });
        if (before) serial_reach_second(&b, count_up, &b.ran, 10);
        serial_add(&b, count_up, &b.ran, before ? 10 : 20);
        if (by_shutdown) assert_status(TPOOL_OK, tpool_shutdown(b.pool, TPOOL_CANCEL_PENDING));
        else assert_status(TPOOL_OK, tpool_group_cancel(b.group));
        assert_int_equal(1, tpool_group_count(b.group));
        assert_int_equal(20, stats_of(b.pool).cancelled);
        assert_int_equal(0, stats_of(b.pool).held);
        tpool_task task = { .fn = count_up, .arg = &b.ran, .group = b.group };
        tpool_status status = tpool_submit_task(b.pool, &task, NULL);
        assert_true(status == TPOOL_CANCELLED || (by_shutdown && status == TPOOL_SHUTDOWN));
        gate_open(&b.second);
        gate_open(&b.gate);
        assert_status(TPOOL_CANCELLED, tpool_group_wait(b.group, LIMIT, NULL));
        assert_int_equal(0, atomic_load(&b.ran));
        assert_int_equal(20, stats_of(b.pool).cancelled);
        serial_end(&b, TPOOL_CANCELLED);
    }
}
static void a_cancel_ends_what_has_not_begun(void **state) {
    (void)state;
    check_that_what_has_not_begun_is_cancelled(false);
}
static void a_shutdown_cancels_what_has_not_begun(void **state) {
    (void)state;
    check_that_what_has_not_begun_is_cancelled(true);
}
/* ... and when none has: the carrier is in the queue of a paused pool. */
static void a_cancel_ends_a_carrier_that_waits(void **state) {
    (void)state;
    serial b = { .pool = new_pool(2), .group = new_serial(), .gate = GATE_CLOSED };
    assert_status(TPOOL_OK, tpool_pause(b.pool));
    serial_add(&b, count_up, &b.ran, 10);
    assert_int_equal(10, tpool_group_count(b.group));
    assert_int_equal(9, stats_of(b.pool).held);
    assert_int_equal(1, stats_of(b.pool).queued);
    assert_status(TPOOL_OK, tpool_group_cancel(b.group));
    assert_int_equal(0, tpool_group_count(b.group));
    assert_int_equal(10, stats_of(b.pool).cancelled);
    assert_int_equal(0, stats_of(b.pool).held + stats_of(b.pool).queued);
    assert_status(TPOOL_OK, tpool_drain(b.pool, LIMIT));
    serial_end(&b, TPOOL_CANCELLED);
    assert_int_equal(0, atomic_load(&b.ran));
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
        serial b;
        serial_begin(&b, (tpool_config){ .max_workers = 2 });
        gate second = GATE_CLOSED;
        serial_add(&b, count_up, &b.ran, 3);
        serial_add(&b, exits ? gate_and_exit : gate_and_raise, &second, 1);
        serial_add(&b, count_up, &b.ran, 20);
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
        serial_end(&b, status);
    }
}
static void none_begins_in_a_paused_pool(void **state) {
    (void)state;
    serial b;
    serial_begin(&b, (tpool_config){ .max_workers = 2 });
    serial_reach_second(&b, count_up, &b.ran, 20);
    assert_status(TPOOL_OK, tpool_pause(b.pool));
    gate_open(&b.second);
    EVENTUALLY(stats_of(b.pool).active == 0);
    assert_int_equal(0, atomic_load(&b.ran));
    assert_int_equal(20, tpool_group_count(b.group));
    assert_int_equal(20, stats_of(b.pool).held + stats_of(b.pool).queued);
    assert_status(TPOOL_OK, tpool_resume(b.pool));
    assert_status(TPOOL_OK, tpool_group_wait(b.group, LIMIT, NULL));
    assert_int_equal(20, atomic_load(&b.ran));
    serial_end(&b, TPOOL_OK);
}
/* Another worker's initializer fails: those that wait are to end as broken, so the one that runs is asked to stop. */
static atomic_int setups;
static bool only_one_begins(void *context) {
    (void)context;
    return atomic_fetch_add(&setups, 1) == 0;
}
static void wake(void *of) { gate_open((gate *)of); }
static void *until_stopped(void *arg) {
    gate_pass((gate *)arg);
    gate woken = GATE_CLOSED;
    if (tpool_on_stop(wake, &woken) != TPOOL_OK) return tpool_raise(1, "refused");
    gate_pass(&woken);
    return NULL;
}
static void a_break_stops_what_runs(void **state) {
    (void)state;
    serial b = { .gate = GATE_CLOSED, .group = new_serial() };
    atomic_store(&setups, 0);
    b.pool = new_pool_as((tpool_config){ .max_workers = 2, .initializer = only_one_begins });
    serial_add(&b, until_stopped, &b.gate, 1);
    AWAIT_ARRIVALS(&b.gate, 1);
    serial_add(&b, count_up, &b.ran, 5);
    gate_open(&b.gate);
    assert_status(TPOOL_OK, tpool_submit(b.pool, nothing, NULL, NULL));
    assert_status(TPOOL_BROKEN, tpool_group_wait(b.group, LIMIT, NULL));
    assert_int_equal(0, atomic_load(&b.ran));
    assert_int_equal(1, stats_of(b.pool).completed);
    serial_end(&b, TPOOL_BROKEN);
}
/* At once, although the one that runs goes on; also when that was an entry itself, and when another is in line behind
 * them. That of a group which does not stop what runs is not asked to. */
static void *stays_until_open(void *arg) {
    gate_pass((gate *)arg);
    if (tpool_stop_requested()) atomic_fetch_add(&order_next, 1);
    return NULL;
}
static void a_break_ends_what_has_not_begun(void **state) {
    (void)state;
    for (int way = 0; way < 8; way++) {
        bool before = way & 1, in_line = way & 2, stops = way & 4;
        serial b = { .gate = GATE_CLOSED, .second = GATE_CLOSED };
        tpool_future *future = NULL, *last = NULL;
        tpool_group_config config = { .limit = 1, .on_failure = stops ? TPOOL_GROUP_STOP : TPOOL_GROUP_CANCEL_PENDING };
        b.group = new_group_as(config);
        atomic_store(&setups, 0);
        atomic_store(&order_next, 0);
        b.pool = new_pool_as((tpool_config){ .max_workers = 2, .initializer = only_one_begins });
        serial_add(&b, before ? gate_task : stays_until_open, &b.gate, 1);
        AWAIT_ARRIVALS(&b.gate, 1);
        if (before) serial_add(&b, stays_until_open, &b.second, 1);
        serial_add(&b, count_up, &b.ran, 10);
        if (before) gate_open(&b.gate);
        if (before) AWAIT_ARRIVALS(&b.second, 1);
        serial_add(&b, count_up, &b.ran, 10);
        if (in_line) {
            tpool_task task = { .fn = count_up, .arg = &b.ran, .group = b.group };
            assert_status(TPOOL_OK, tpool_submit_task(b.pool, &task, &last));
        }
        assert_status(TPOOL_OK, tpool_group_future(b.group, &future));
        assert_status(TPOOL_OK, tpool_submit(b.pool, nothing, NULL, NULL));
        EVENTUALLY(tpool_group_count(b.group) == 1);
        EVENTUALLY(stats_of(b.pool).failed == (in_line ? 22u : 21u));
        assert_int_equal(0, stats_of(b.pool).cancelled);
        assert_int_equal(0, stats_of(b.pool).held);
        if (last) assert_status(TPOOL_BROKEN, tpool_future_result(last, LIMIT, NULL));
        tpool_task task = { .fn = count_up, .arg = &b.ran, .group = b.group };
        tpool *other = new_pool(1);
        assert_status(TPOOL_CANCELLED, tpool_submit_task(other, &task, NULL));
        gate_open(&b.second);
        gate_open(&b.gate);
        const tpool_error *error = NULL, *same = NULL;
        assert_status(TPOOL_BROKEN, tpool_group_wait(b.group, LIMIT, &error));
        assert_status(TPOOL_BROKEN, error->status);
        assert_status(TPOOL_BROKEN, tpool_future_result(future, LIMIT, NULL));
        assert_status(TPOOL_OK, tpool_future_error(future, LIMIT, &same));
        assert_string_equal(error->message, same->message);
        assert_int_equal(stops, atomic_load(&order_next));
        assert_int_equal(0, atomic_load(&b.ran));
        assert_int_equal(before + 1, stats_of(b.pool).completed);
        tpool_future_release(last);
        tpool_future_release(future);
        assert_status(TPOOL_OK, tpool_destroy(other));
        serial_end(&b, TPOOL_BROKEN);
    }
}
static void a_destroy_waits_for_each(void **state) {
    (void)state;
    serial b;
    serial_begin(&b, (tpool_config){ .max_workers = 2 });
    serial_add(&b, count_up, &b.ran, 500);
    gate_open(&b.gate);
    assert_status(TPOOL_OK, tpool_destroy(b.pool));
    assert_int_equal(500, atomic_load(&b.ran));
    assert_status(TPOOL_OK, tpool_group_destroy(b.group));
}
/* Each run of a periodic task waits for a task that it submits: the pool is quiet only between two runs. */
static void *submit_and_wait(void *arg) {
    tpool_future *future = submitted(tpool_current(), nothing, NULL);
    (void)tpool_future_result(future, TPOOL_FOREVER, NULL);
    tpool_future_release(future);
    return arg;
}
static void a_drain_ends_beside_runs_of_a_periodic_task(void **state) {
    (void)state;
    serial b;
    serial_begin(&b, (tpool_config){ .max_workers = 4 });
    serial_add(&b, count_up, &b.ran, 20);
    tpool_future *future = submitted_task(b.pool, (tpool_task){ .fn = submit_and_wait, .period_ns = 1 });
    gate_open(&b.gate);
    for (int i = 0; i < 5; i++) {
        assert_status(TPOOL_OK, tpool_drain(b.pool, LIMIT));
        assert_int_equal(20 * (i + 1), atomic_load(&b.ran));
        serial_add(&b, count_up, &b.ran, 20);
    }
    tpool_future_request_stop(future);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
    tpool_future_release(future);
    serial_end(&b, TPOOL_OK);
}
/* In a pool of one worker all start in the order of the submits, except members behind others of their group. */
static char written[8];
static void *write_down(void *arg) {
    written[atomic_fetch_add(&order_next, 1)] = (char)(intptr_t)arg;
    return NULL;
}
static void one_worker_keeps_the_order(void **state) {
    (void)state;
    gate first = GATE_CLOSED;
    tpool *pool = new_pool(1);
    tpool_group *group = new_serial();
    tpool_future_release(submitted(pool, gate_task, &first));
    atomic_store(&order_next, 0);
    add_member(pool, group, write_down, (void *)(intptr_t)'1');
    tpool_future_release(submitted(pool, write_down, (void *)(intptr_t)'P'));
    add_member(pool, group, write_down, (void *)(intptr_t)'2');
    tpool_future_release(submitted(pool, write_down, (void *)(intptr_t)'Q'));
    add_member(pool, group, write_down, (void *)(intptr_t)'3');
    gate_open(&first);
    assert_status(TPOOL_OK, tpool_group_destroy(group));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(5, atomic_load(&order_next));
    assert_memory_equal("1PQ23", written, 5);
}
/* A task that comes while a member runs is next, however long the members before were. */
static void others_get_their_turn(void **state) {
    (void)state;
    for (int workers = 1; workers <= 2; workers++) {
        serial b;
        serial_begin(&b, (tpool_config){ .max_workers = workers });
        gate busy = GATE_CLOSED, third = GATE_CLOSED;
        atomic_int other = 0;
        if (workers == 2) tpool_future_release(held_at(b.pool, &busy));
        serial_add(&b, count_up, &b.ran, 400);
        serial_reach_second(&b, gate_task, &third, 1);
        serial_add(&b, count_up, &b.ran, 400);
        assert_int_equal(400, atomic_load(&b.ran));
        assert_status(TPOOL_OK, tpool_submit(b.pool, count_up, &other, NULL));
        gate_open(&b.second);
        AWAIT_ARRIVALS(&third, 1);
        assert_int_equal(1, atomic_load(&other));
        gate_open(&third);
        assert_status(TPOOL_OK, tpool_group_wait(b.group, LIMIT, NULL));
        gate_open(&busy);
        serial_end(&b, TPOOL_OK);
    }
}
static char description[2000];
static bool describes(const char *bytes, size_t size, void *used) {
    size_t *at = used;
    if (size > sizeof description - 1 - *at) return false;
    memcpy(description + *at, bytes, size);
    *at += size;
    description[*at] = 0;
    return true;
}
static void a_description_has_each(void **state) {
    (void)state;
    serial b;
    serial_begin(&b, (tpool_config){ .max_workers = 2 });
    serial_add(&b, count_up, &b.ran, 5);
    size_t used = 0;
    assert_status(TPOOL_OK, tpool_describe(b.pool, describes, &used));
    assert_non_null(strstr(description, " 5 held\n"));
    assert_non_null(strstr(description, "\nheld for other futures: 5 without a name\n"));
    serial_end(&b, TPOOL_OK);
}

static void a_priority_comes_next(void **state) {
    (void)state;
    serial b;
    serial_begin(&b, (tpool_config){ .max_workers = 1 });
    gate third = GATE_CLOSED;
    atomic_int other = 0;
    serial_reach_second(&b, gate_task, &third, 1);
    tpool_task task = { .fn = count_up, .arg = &other, .priority = 1 };
    assert_status(TPOOL_OK, tpool_submit_task(b.pool, &task, NULL));
    gate_open(&b.second);
    AWAIT_ARRIVALS(&third, 1);
    assert_int_equal(1, atomic_load(&other));
    gate_open(&third);
    serial_end(&b, TPOOL_OK);
}
/* Two groups that are always busy share one worker, and neither waits for the other's end. */
static serial pair[2];
static atomic_int most_ahead;
static void *run_beside(void *arg) {
    serial *own = (serial *)arg, *other = own == &pair[0] ? &pair[1] : &pair[0];
    int ahead = atomic_fetch_add(&own->ran, 1) - atomic_load(&other->ran);
    if (ahead > atomic_load(&most_ahead)) atomic_store(&most_ahead, ahead);
    return NULL;
}
static void busy_groups_share_a_worker(void **state) {
    (void)state;
    enum { EACH = 2000, MOST_AHEAD = 200 };
    gate first = GATE_CLOSED, busy = GATE_CLOSED;
    tpool *pool = new_pool(2);
    tpool_future_release(held_at(pool, &busy));
    tpool_future_release(held_at(pool, &first));
    atomic_store(&most_ahead, 0);
    for (int i = 0; i < 2; i++) pair[i] = (serial){ .pool = pool, .group = new_serial() };
    for (int i = 0; i < EACH; i++)
        for (int k = 0; k < 2; k++) add_member(pool, pair[k].group, run_beside, &pair[k]);
    gate_open(&first);
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_group_destroy(pair[i].group));
    assert_in_range(atomic_load(&most_ahead), 0, MOST_AHEAD);
    gate_open(&busy);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* A group that is always busy, by members that each add the next one, until another task has run. */
enum { MOST_FED = 20000, MOST_BEFORE = 200 };
typedef struct feeds {
    serial serial;
    atomic_int other;
} feeds;
static void *feed(void *arg) {
    feeds *f = (feeds *)arg;
    tpool_task task = { .fn = feed, .arg = f, .group = f->serial.group };
    bool goes_on = !atomic_load(&f->other) && atomic_fetch_add(&f->serial.ran, 1) < MOST_FED;
    if (goes_on && tpool_submit_task(f->serial.pool, &task, NULL) != TPOOL_OK) return tpool_raise(1, "refused");
    return NULL;
}
static void end_fed(feeds *f) {
    assert_status(TPOOL_OK, tpool_group_wait(f->serial.group, LIMIT, NULL));
    assert_in_range(atomic_load(&f->serial.ran), 1, MOST_FED - 1);
    assert_int_equal(1, atomic_load(&f->other));
}
/* ... which lies in the queue of another worker, behind a long one. */
typedef struct submits_beside {
    feeds *feeds;
    gate *gate;
} submits_beside;
static void *submit_and_block(void *arg) {
    submits_beside *s = (submits_beside *)arg;
    tpool_status status = tpool_submit(s->feeds->serial.pool, count_up, &s->feeds->other, NULL);
    if (status != TPOOL_OK) return tpool_raise(1, "refused");
    gate_pass(s->gate);
    return NULL;
}
static void a_busy_group_lets_its_worker_steal(void **state) {
    (void)state;
    feeds f = { .other = 0 };
    gate busy = GATE_CLOSED;
    submits_beside s = { &f, &busy };
    serial_begin(&f.serial, (tpool_config){ .max_workers = 2 });
    add_member(f.serial.pool, f.serial.group, feed, &f);
    tpool_future *future = submitted(f.serial.pool, submit_and_block, &s);
    AWAIT_ARRIVALS(&busy, 1);
    gate_open(&f.serial.gate);
    end_fed(&f);
    gate_open(&busy);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
    tpool_future_release(future);
    serial_end(&f.serial, TPOOL_OK);
}
/* ... which waits in the queue, under a trace, too. */
static void *count_before(void *arg) {
    feeds *f = (feeds *)arg;
    if (!atomic_load(&f->other)) atomic_fetch_add(&f->serial.ran, 1);
    return NULL;
}
static void a_turn_ends(void **state) {
    (void)state;
    for (int traces = 0; traces < 2; traces++) {
        feeds f = { .other = 0 };
        gate busy = GATE_CLOSED, first = GATE_CLOSED;
        tpool *pool = new_pool(2);
        f.serial = (serial){ .pool = pool, .group = new_serial(), .gate = GATE_CLOSED };
        tpool_future_release(held_at(pool, &busy));
        tpool_future_release(held_at(pool, &first));
        serial_add(&f.serial, count_before, &f, COUNT(20000));
        assert_status(TPOOL_OK, tpool_submit(pool, count_up, &f.other, NULL));
        if (traces) assert_status(TPOOL_OK, tpool_trace_start(pool, 1 << 12));
        gate_open(&first);
        assert_status(TPOOL_OK, tpool_group_wait(f.serial.group, LIMIT, NULL));
        assert_in_range(atomic_load(&f.serial.ran), 1, MOST_BEFORE);
        gate_open(&busy);
        serial_end(&f.serial, TPOOL_OK);
    }
}
/* Nor do more run than max_workers: a worker whose wait is over, beside a spare, goes on with no further member. */
static atomic_int beside;
static gate spare_gate;
static void *wait_for(void *arg) {
    (void)tpool_future_result((tpool_future *)arg, TPOOL_FOREVER, NULL);
    return NULL;
}
static void *note_beside(void *arg) {
    if (gate_arrived((gate *)arg)) atomic_fetch_add(&beside, 1);
    return NULL;
}
static void no_more_run_than_may(void **state) {
    (void)state;
    spare_gate = (gate)GATE_CLOSED;
    atomic_store(&beside, 0);
    gate first = GATE_CLOSED;
    tpool *pool = new_pool(1);
    tpool_group *group = new_serial();
    tpool_future *future = NULL;
    assert_status(TPOOL_OK, tpool_future_create(&future));
    tpool_future_release(submitted(pool, gate_task, &first));
    add_member(pool, group, wait_for, future);
    for (int i = 0; i < 20; i++) add_member(pool, group, note_beside, &spare_gate);
    tpool_future_release(submitted(pool, gate_task, &spare_gate));
    gate_open(&first);
    AWAIT_ARRIVALS(&spare_gate, 1); /* a spare executes it */
    assert_status(TPOOL_OK, tpool_future_set_result(future, NULL));
    EVENTUALLY(stats_of(pool).completed == 2); /* the first member is over; the next one is not to begin */
    EVENTUALLY(stats_of(pool).active == 1);
    assert_int_equal(0, atomic_load(&beside));
    gate_open(&spare_gate);
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_group_wait(group, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_group_destroy(group));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* A pool that is full executes the submitter's own member in its submit, and no other's. */
static pthread_t submitter;
static void *note_thread(void *arg) {
    if (pthread_equal(pthread_self(), submitter)) atomic_fetch_add((atomic_int *)arg, 1);
    return NULL;
}
typedef struct others_of_full {
    serial *serial;
    gate *within;
} others_of_full;
static tpool_status add_others(void *context) {
    others_of_full *of = (others_of_full *)context;
    AWAIT_ARRIVALS(of->within, 1);
    serial_add(of->serial, note_thread, &of->serial->ran, 50);
    gate_open(of->within);
    return TPOOL_OK;
}
static void none_runs_within_anothers_submit(void **state) {
    (void)state;
    serial b = { .gate = GATE_CLOSED, .group = new_serial() };
    gate within = GATE_CLOSED;
    b.pool = new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1, .on_full = TPOOL_FULL_CALLER_RUNS });
    submitter = pthread_self();
    tpool_future_release(held_at(b.pool, &b.gate));
    tpool_future_release(submitted(b.pool, nothing, NULL));
    background other;
    others_of_full of = { &b, &within };
    background_start(&other, add_others, &of);
    serial_add(&b, gate_task, &within, 1); /* runs here, until the other thread has added its own */
    assert_status(TPOOL_OK, background_join(&other));
    assert_int_equal(0, atomic_load(&b.ran));
    serial_end(&b, TPOOL_OK);
}
/* A thread that is no worker executes members while it waits. Meanwhile the pool ends: with CANCEL_PENDING none begins
 * any more, else a worker stays for the rest. */
typedef struct ends_beside {
    serial *serial;
    unsigned flags;
    gate *worker;
    size_t left;
    int workers;
} ends_beside;
static tpool_status shut_down_beside(void *context) {
    ends_beside *e = (ends_beside *)context;
    AWAIT_ARRIVALS(&e->serial->gate, 1);
    assert_status(TPOOL_OK, tpool_shutdown(e->serial->pool, e->flags));
    gate_open(e->worker);
    EVENTUALLY(stats_of(e->serial->pool).active == 0);
    sleep_ms(20); /* mostly a worker that does not stay ends by then */
    e->left = tpool_group_count(e->serial->group);
    e->workers = stats_of(e->serial->pool).workers;
    gate_open(&e->serial->gate);
    EVENTUALLY(stats_of(e->serial->pool).workers == 0);
    return TPOOL_OK;
}
static void a_waiter_ends_after_the_shutdown(void **state) {
    (void)state;
    for (int cancels = 0; cancels < 2; cancels++) {
        serial b = { .gate = GATE_CLOSED, .pool = new_pool(1) };
        gate worker = GATE_CLOSED;
        tpool_group_config config = { .limit = 1, .waiter_runs = true };
        b.group = new_group_as(config);
        tpool_future_release(held_at(b.pool, &worker));
        serial_add(&b, gate_task, &b.gate, 1);
        serial_add(&b, count_up, &b.ran, 20);
        ends_beside e = { &b, cancels ? TPOOL_CANCEL_PENDING : 0, &worker, 0, 0 };
        background other;
        background_start(&other, shut_down_beside, &e);
        tpool_status status = cancels ? TPOOL_CANCELLED : TPOOL_OK;
        assert_status(status, tpool_group_wait(b.group, TPOOL_FOREVER, NULL));
        assert_status(TPOOL_OK, background_join(&other));
        assert_int_equal(cancels ? 1 : 21, e.left);
        assert_int_equal(1, e.workers);
        assert_int_equal(cancels ? 0 : 20, atomic_load(&b.ran));
        assert_int_equal(cancels ? 20 : 0, stats_of(b.pool).cancelled);
        serial_end(&b, status);
    }
}
/* Its thread's cancellation, and an end of the thread in what a member has returned, are that member's. */
#if !defined(_WIN32) && !defined(__ANDROID__) /* they cancel no threads */
static void *cancel_itself(void *arg) {
    atomic_fetch_add((atomic_int *)arg, 1);
    pthread_cancel(pthread_self());
    return NULL;
}
static void *count_and_nap(void *arg) {
    struct timespec moment = { 0, 1000 };
    nanosleep(&moment, NULL); /* a cancellation point */
    return count_up(arg);
}
static void a_cancel_of_its_thread_strikes_no_other(void **state) {
    (void)state;
    serial b;
    serial_begin(&b, (tpool_config){ .max_workers = 1 });
    serial_add(&b, cancel_itself, &b.ran, 1);
    serial_add(&b, count_and_nap, &b.ran, 20);
    serial_finish(&b);
    assert_int_equal(21, atomic_load(&b.ran));
    serial_end(&b, TPOOL_OK);
}
#endif
static void end_thread_in_free(void *payload) {
    (void)payload;
    end_here();
}
static void *return_end(void *arg) {
    atomic_fetch_add((atomic_int *)arg, 1);
    (void)tpool_return_owned(arg, end_thread_in_free);
    return NULL;
}
static void an_end_in_result_free_loses_none(void **state) {
    (void)state;
    serial b;
    serial_begin(&b, (tpool_config){ .max_workers = 2 });
    for (int i = 0; i < 30; i++) serial_add(&b, i % 3 ? count_up : return_end, &b.ran, 1);
    serial_finish(&b);
    assert_int_equal(30, atomic_load(&b.ran));
    serial_end(&b, TPOOL_OK);
}
/* A trace that begins while they wait has each of them. */
typedef struct trace_text {
    size_t size;
    char text[1 << 16];
} trace_text;
static bool keep_text(const char *text, size_t size, void *context) {
    trace_text *kept = (trace_text *)context;
    if (size >= sizeof kept->text - kept->size) return false;
    memcpy(kept->text + kept->size, text, size);
    kept->size += size;
    return true;
}
static void a_trace_has_each(void **state) {
    (void)state;
    serial b;
    serial_begin(&b, (tpool_config){ .max_workers = 1 });
    serial_add(&b, count_up, &b.ran, 10);
    assert_status(TPOOL_OK, tpool_trace_start(b.pool, 1 << 16));
    serial_finish(&b);
    assert_status(TPOOL_OK, tpool_drain(b.pool, LIMIT));
    assert_status(TPOOL_OK, tpool_trace_stop(b.pool));
    static trace_text trace;
    trace.size = 0;
    assert_status(TPOOL_OK, tpool_trace_write(b.pool, keep_text, &trace));
    int begins = 0;
    for (const char *at = trace.text; (at = strstr(at, "\"ph\":\"B\"")) != NULL; at++) begins++;
    assert_in_range(begins, 10, 12);
    serial_end(&b, TPOOL_OK);
}
/* A request to stop what runs concerns the one that runs. */
static void *note_stop(void *arg) {
    if (tpool_stop_requested()) atomic_fetch_add((atomic_int *)arg, 1);
    return NULL;
}
static void a_stop_is_for_the_one_that_runs(void **state) {
    (void)state;
    serial b;
    serial_begin(&b, (tpool_config){ .max_workers = 2 });
    serial_reach_second(&b, note_stop, &b.ran, 20);
    assert_status(TPOOL_OK, tpool_shutdown(b.pool, TPOOL_STOP_RUNNING));
    gate_open(&b.second);
    assert_status(TPOOL_OK, tpool_group_wait(b.group, LIMIT, NULL));
    assert_int_equal(0, atomic_load(&b.ran));
    serial_end(&b, TPOOL_OK);
}
/* What frees a result may wait for a later member. */
static gate later;
static void free_after(void *payload) {
    (void)payload;
    gate_pass(&later);
}
static void *return_free_after(void *arg) {
    (void)tpool_return_owned(arg, free_after);
    return NULL;
}
static void *open_gate(void *arg) {
    gate_open((gate *)arg);
    return arg;
}
static void a_result_free_may_wait_for_the_next(void **state) {
    (void)state;
    for (int before = 0; before < 3; before++) {
        serial b;
        later = (gate)GATE_CLOSED;
        serial_begin(&b, (tpool_config){ .max_workers = 2 });
        serial_add(&b, count_up, &b.ran, before);
        serial_add(&b, return_free_after, &b, 1);
        serial_add(&b, open_gate, &later, 1);
        serial_finish(&b);
        serial_end(&b, TPOOL_OK);
    }
}
/* ... also in a thread that executes it while it waits for the group. */
static tpool_status wait_beside(void *context) { return tpool_group_wait((tpool_group *)context, TPOOL_FOREVER, NULL); }
static void a_waiters_result_free_may_wait(void **state) {
    (void)state;
    serial b = { .gate = GATE_CLOSED, .pool = new_pool(1) };
    gate worker = GATE_CLOSED;
    later = (gate)GATE_CLOSED;
    tpool_group_config config = { .limit = 1, .waiter_runs = true };
    b.group = new_group_as(config);
    tpool_future_release(held_at(b.pool, &worker));
    serial_add(&b, return_free_after, &b, 1);
    serial_add(&b, open_gate, &later, 1);
    background other;
    background_start(&other, wait_beside, b.group);
    AWAIT_ARRIVALS(&later, 1);
    gate_open(&worker);
    assert_status(TPOOL_OK, background_join(&other));
    serial_end(&b, TPOOL_OK);
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
    serial b;
    serial_begin(&b, (tpool_config){ .max_workers = 2 });
    atomic_store(&freed, 0);
    serial_add(&b, return_owned, &b, 50);
    serial_finish(&b);
    assert_status(TPOOL_OK, tpool_drain(b.pool, LIMIT));
    EVENTUALLY(atomic_load(&freed) == 50);
    serial_end(&b, TPOOL_OK);
}
/* A task of a pool of one worker waits for them: it executes them itself, also out of the middle of the queue. */
typedef struct waits_for {
    serial serial;
    int others;
    atomic_int other;
} waits_for;
static void *add_and_wait(void *arg) {
    waits_for *w = (waits_for *)arg;
    tpool_task task = { .fn = count_up, .arg = &w->serial.ran, .group = w->serial.group };
    tpool_future *first = NULL, *future = NULL;
    if (tpool_submit(w->serial.pool, nothing, NULL, &first) != TPOOL_OK) return NULL;
    for (int i = 0; i < 100; i++)
        if (tpool_submit_task(w->serial.pool, &task, NULL) != TPOOL_OK) return NULL;
    for (int i = 0; i < w->others; i++) {
        if (tpool_submit(w->serial.pool, count_up, &w->other, &future) != TPOOL_OK) return NULL;
        tpool_future_release(future);
    }
    tpool_future_release(first);
    return tpool_group_wait(w->serial.group, TPOOL_FOREVER, NULL) == TPOOL_OK ? arg : NULL;
}
static void a_task_that_waits_executes_them(void **state) {
    (void)state;
    for (int others = 0; others <= 50; others += 50) {
        waits_for w = { { .pool = new_pool_as((tpool_config){ .max_workers = 1, .max_spares = -1 }),
                          .group = new_serial(),
                          .gate = GATE_CLOSED },
                        others,
                        0 };
        tpool_future *future = submitted(w.serial.pool, add_and_wait, &w);
        void *result = NULL;
        assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
        assert_ptr_equal(&w, result);
        assert_int_equal(100, atomic_load(&w.serial.ran));
        tpool_future_release(future);
        assert_status(TPOOL_OK, tpool_drain(w.serial.pool, LIMIT));
        assert_int_equal(others, atomic_load(&w.other));
        serial_end(&w.serial, TPOOL_OK);
    }
}
static void *own_group(void *arg) {
    if (tpool_current_group() == (tpool_group *)arg) atomic_fetch_add(&order_next, 1);
    if (tpool_group_wait((tpool_group *)arg, 0, NULL) == TPOOL_DEADLOCK) atomic_fetch_add(&order_next, 1);
    return NULL;
}
static void each_knows_its_group(void **state) {
    (void)state;
    serial b;
    serial_begin(&b, (tpool_config){ .max_workers = 2 });
    atomic_store(&order_next, 0);
    serial_add(&b, own_group, b.group, 20);
    serial_finish(&b);
    assert_int_equal(40, atomic_load(&order_next));
    serial_end(&b, TPOOL_OK);
}
/* A wait for a later member would never end. */
static void *wait_for_a_later(void *arg) {
    serial *b = (serial *)arg;
    tpool_task task = { .fn = count_up, .arg = &b->ran, .group = b->group };
    tpool_future *future = NULL;
    if (tpool_submit_task(b->pool, &task, &future) != TPOOL_OK) return tpool_raise(1, "refused");
    if (tpool_future_result(future, TPOOL_FOREVER, NULL) == TPOOL_DEADLOCK) atomic_fetch_add(&order_next, 1);
    tpool_future_release(future);
    return NULL;
}
static void a_wait_for_a_later_one_is_a_deadlock(void **state) {
    (void)state;
    serial b;
    serial_begin(&b, (tpool_config){ .max_workers = 2 });
    atomic_store(&order_next, 0);
    serial_add(&b, wait_for_a_later, &b, 3);
    serial_finish(&b);
    assert_int_equal(3, atomic_load(&order_next));
    assert_int_equal(3, atomic_load(&b.ran));
    serial_end(&b, TPOOL_OK);
}
/* A member of another pool joins the line, and so do those behind it. */
static void pools_take_turns(void **state) {
    (void)state;
    serial b;
    serial_begin(&b, (tpool_config){ .max_workers = 2 });
    tpool *other = new_pool(1);
    atomic_store(&order_next, 0);
    atomic_store(&order_wrong, 0);
    for (int i = 0; i < 100; i++) add_member(i / 5 % 2 ? other : b.pool, b.group, in_order, (void *)(intptr_t)i);
    serial_finish(&b);
    assert_int_equal(100, atomic_load(&order_next));
    assert_int_equal(0, atomic_load(&order_wrong));
    assert_int_equal(50, stats_of(other).completed);
    assert_status(TPOOL_OK, tpool_destroy(other));
    serial_end(&b, TPOOL_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(each_comes_in_its_turn),
        TEST(those_behind_a_future_come_after_it),
        TEST(each_counts),
        TEST(a_cancel_ends_what_has_not_begun),
        TEST(a_cancel_ends_a_carrier_that_waits),
        TEST(the_first_failure_cancels_the_rest),
        TEST(none_begins_in_a_paused_pool),
        TEST(a_shutdown_cancels_what_has_not_begun),
        TEST(a_break_stops_what_runs),
        TEST(a_break_ends_what_has_not_begun),
        TEST(a_destroy_waits_for_each),
        TEST(a_drain_ends_beside_runs_of_a_periodic_task),
        TEST(one_worker_keeps_the_order),
        TEST(others_get_their_turn),
        TEST(a_description_has_each),
        TEST(a_priority_comes_next),
        TEST(busy_groups_share_a_worker),
        TEST(a_busy_group_lets_its_worker_steal),
        TEST(a_turn_ends),
        TEST(no_more_run_than_may),
        TEST(none_runs_within_anothers_submit),
        TEST(a_waiter_ends_after_the_shutdown),
#if !defined(_WIN32) && !defined(__ANDROID__)
        TEST(a_cancel_of_its_thread_strikes_no_other),
#endif
        TEST(an_end_in_result_free_loses_none),
        TEST(a_trace_has_each),
        TEST(a_stop_is_for_the_one_that_runs),
        TEST(what_each_returns_is_freed),
        TEST(a_result_free_may_wait_for_the_next),
        TEST(a_waiters_result_free_may_wait),
        TEST(a_task_that_waits_executes_them),
        TEST(each_knows_its_group),
        TEST(a_wait_for_a_later_one_is_a_deadlock),
        TEST(pools_take_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
