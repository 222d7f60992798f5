/* Times: the wheel against a plain list, and the timekeeper's thread: it starts, sleeps, is refused, ends. */
#include "support.h"
#include "internals/check.h"
#if !defined(_WIN32)
#include <sys/wait.h>
#include <unistd.h>
#endif

/* ---- The wheel alone: no thread turns it but the test */
enum { TIMERS = 3000 };
static tpool__timer timers[TIMERS];

static void empty_the_wheel(uint64_t now) {
    memset((void *)&tpool__times, 0, sizeof tpool__times);
    memset(timers, 0, sizeof timers);
    tpool__times.now = now;
}
/* Takes out what has come; each must have been due, and not before the turn. */
static int take_come(uint64_t before, uint64_t now) {
    int taken = 0;
    while (tpool__times.come) {
        tpool__timer *timer = tpool__times.come;
        assert_true(timer->tick <= now);
        assert_true(timer->tick > before || before == 0);
        tpool__timer_unlink(timer);
        taken++;
    }
    return taken;
}
static int due(uint64_t after, uint64_t now) {
    int count = 0;
    for (int i = 0; i < TIMERS; i++) count += timers[i].tick > after && timers[i].tick <= now && timers[i].tick != 0;
    return count;
}
static uint64_t chance_state = 88172645463325252u;
static uint64_t chance(void) {
    chance_state ^= chance_state << 13;
    chance_state ^= chance_state >> 7;
    return chance_state ^= chance_state << 17;
}
static void nothing_is_used(void) {
    assert_int_equal(0, tpool__times.count);
    for (int level = 0; level < TPOOL__WHEEL_LEVELS; level++) {
        assert_true(tpool__times.used[level] == 0);
        for (int slot = 0; slot < TPOOL__WHEEL_SLOTS; slot++) assert_null(tpool__times.slots[level][slot]);
    }
}

static void each_timer_comes_at_its_tick_and_none_before(void **state) {
    (void)state;
    for (int round = 0; round < 40; round++) {
        uint64_t now = chance() >> (16 + chance() % 40), span = (uint64_t)1 << (1 + chance() % 40);
        if (now == 0) now = 1;
        empty_the_wheel(now);
        for (int i = 0; i < TIMERS; i++) {
            timers[i].tick = now + 1 + chance() % span;
            tpool__wheel_add(&timers[i]);
        }
        assert_int_equal(TIMERS, tpool__times.count);
        int taken = 0;
        while (tpool__times.count > 0) {
            unsigned level;
            uint64_t before = tpool__times.now, next = tpool__wheel_next(&level);
            assert_true(next > before);
            uint64_t then = chance() % 2 ? next : next + chance() % span; /* late, as threads are */
            int expected = due(before, then);
            (void)tpool__wheel_turn(then);
            assert_int_equal(expected, take_come(before, then));
            taken += expected;
        }
        assert_int_equal(TIMERS, taken);
        nothing_is_used();
    }
}
static void what_is_disarmed_leaves_no_trace(void **state) {
    (void)state;
    empty_the_wheel(12345);
    for (int i = 0; i < TIMERS; i++) {
        timers[i].tick = 12346 + chance() % ((uint64_t)1 << (1 + chance() % 35));
        tpool__wheel_add(&timers[i]);
    }
    for (int left = TIMERS; left > 0;) {
        tpool__timer *timer = &timers[chance() % TIMERS];
        if (!timer->link) continue;
        tpool__wheel_remove(timer);
        assert_null(timer->link);
        assert_int_equal(--left, tpool__times.count);
        if (left % 100 == 0) { /* what is left moves down meanwhile */
            (void)tpool__wheel_turn(tpool__times.now + ((uint64_t)1 << 10));
            left -= take_come(0, UINT64_MAX);
        }
    }
    nothing_is_used();
}
static void a_timer_that_has_come_can_still_be_disarmed(void **state) {
    (void)state;
    empty_the_wheel(100);
    for (int i = 0; i < 3; i++) {
        timers[i].tick = 101;
        tpool__wheel_add(&timers[i]);
    }
    (void)tpool__wheel_turn(101);
    assert_true(tpool__timer_disarm(&timers[1]));
    assert_false(tpool__timer_disarm(&timers[1]));
    assert_int_equal(2, take_come(100, 101));
    nothing_is_used();
}

/* ---- The timekeeper */
typedef struct alarm_clock {
    tpool__timer timer;
    int64_t at;
    atomic_int fired;
    atomic_int early;
} alarm_clock;
static void ring(tpool__timer *timer) {
    alarm_clock *clock = (alarm_clock *)(void *)timer;
    if (tpool__clock() < clock->at) atomic_fetch_add(&clock->early, 1);
    atomic_fetch_add(&clock->fired, 1);
}
static void arm(alarm_clock *clock, int64_t after) {
    clock->timer.fire = ring;
    clock->at = after == INT64_MAX ? INT64_MAX : tpool__clock() + after;
    tpool__timer_arm(&clock->timer, clock->at);
}
static bool keeper_runs(void) {
    tpool__lock(&tpool__times.lock);
    bool runs = tpool__times.runs;
    tpool__unlock(&tpool__times.lock);
    return runs;
}

static void a_thousand_times_come_once_and_not_early(void **state) {
    (void)state;
    empty_the_wheel(0);
    static alarm_clock clocks[1000];
    for (int i = 0; i < 1000; i++) arm(&clocks[i], (int64_t)(chance() % TPOOL_MS(30)));
    for (int i = 0; i < 1000; i++) REQUIRE_EVENTUALLY(atomic_load(&clocks[i].fired) == 1);
    for (int i = 0; i < 1000; i++) assert_int_equal(0, atomic_load(&clocks[i].early));
}
static void an_earlier_time_wakes_the_sleeping_timekeeper(void **state) {
    (void)state;
    alarm_clock late = { 0 }, soon = { 0 };
    arm(&late, TPOOL_SEC(3600));
    REQUIRE_EVENTUALLY(tpool__load_relaxed(&tpool__times.parker) == TPOOL__TOKEN_ASLEEP);
    arm(&soon, TPOOL_MS(1));
    REQUIRE_EVENTUALLY(atomic_load(&soon.fired) == 1);
    assert_true(tpool__timer_disarm(&late.timer));
    assert_int_equal(0, atomic_load(&late.fired));
}
static void a_time_that_never_comes_can_be_armed_and_disarmed(void **state) {
    (void)state;
    alarm_clock never = { 0 }, past = { 0 };
    arm(&never, INT64_MAX);
    arm(&past, -TPOOL_SEC(1));
    REQUIRE_EVENTUALLY(atomic_load(&past.fired) == 1);
    assert_true(tpool__timer_disarm(&never.timer));
}
static void a_million_are_armed_and_disarmed_without_memory(void **state) {
    (void)state;
    static alarm_clock clocks[1000];
    for (int round = 0; round < 1000; round++) {
        for (int i = 0; i < 1000; i++) arm(&clocks[i], TPOOL_SEC(60) + (int64_t)(chance() % TPOOL_SEC(1000)));
        for (int i = 0; i < 1000; i++) assert_true(tpool__timer_disarm(&clocks[i].timer));
    }
    assert_int_equal(0, tpool__times.count);
}
static void the_timekeeper_ends_when_there_are_no_times_and_starts_again(void **state) {
    (void)state;
    alarm_clock clock = { 0 };
    REQUIRE_EVENTUALLY(!keeper_runs());
    arm(&clock, TPOOL_MS(1));
    assert_true(keeper_runs());
    REQUIRE_EVENTUALLY(atomic_load(&clock.fired) == 1);
    REQUIRE_EVENTUALLY(!keeper_runs());
    arm(&clock, TPOOL_MS(1));
    REQUIRE_EVENTUALLY(atomic_load(&clock.fired) == 2);
}

/* Arms itself again while it fires. */
static atomic_int rounds;
static void again(tpool__timer *timer) {
    if (atomic_fetch_add(&rounds, 1) < 20) tpool__timer_arm(timer, tpool__clock() + TPOOL_US(100));
}
static void a_timer_may_arm_itself_as_it_fires(void **state) {
    (void)state;
    tpool__timer timer = { .fire = again };
    tpool__timer_arm(&timer, 0);
    REQUIRE_EVENTUALLY(atomic_load(&rounds) == 21);
    tpool__timer_await(&timer);
}

static gate firing = GATE_CLOSED;
static void fire_at_gate(tpool__timer *timer) {
    (void)timer;
    gate_pass(&firing);
}
static tpool_status await_timer(void *timer) {
    tpool__timer_await(timer);
    return TPOOL_OK;
}
static void await_returns_after_the_firing(void **state) {
    (void)state;
    tpool__timer timer = { .fire = fire_at_gate };
    tpool__timer_arm(&timer, 0);
    AWAIT_ARRIVALS(&firing, 1);
    assert_false(tpool__timer_disarm(&timer));
    background waits;
    background_start(&waits, await_timer, &timer);
    sleep_ms(20);
    assert_false(atomic_load(&waits.returned));
    gate_open(&firing);
    assert_int_equal(TPOOL_OK, background_join(&waits));
}

/* ---- Without the thread */
static void forget_the_timekeeper(void) {
    REQUIRE_EVENTUALLY(!keeper_runs());
    tpool__lock(&tpool__times.lock);
    tpool__times.over = true; /* as if the system refused: no thread is started */
    tpool__unlock(&tpool__times.lock);
}
static void have_a_timekeeper_again(void) {
    tpool__lock(&tpool__times.lock);
    tpool__times.over = false;
    tpool__unlock(&tpool__times.lock);
}
static void an_idle_worker_keeps_the_times_if_no_timekeeper_can(void **state) {
    (void)state;
    alarm_clock clock = { 0 };
    forget_the_timekeeper();
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    arm(&clock, TPOOL_MS(20));
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL))); /* it may have been asleep before */
    REQUIRE_EVENTUALLY(atomic_load(&clock.fired) == 1);
    assert_int_equal(0, atomic_load(&clock.early));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    have_a_timekeeper_again();
}
static void a_busy_worker_keeps_the_times_between_tasks(void **state) {
    (void)state;
    alarm_clock clock = { 0 };
    forget_the_timekeeper();
    tpool *pool = new_pool(1);
    gate g = GATE_CLOSED;
    tpool_future *first = held_at(pool, &g), *last = submitted(pool, nothing, NULL);
    arm(&clock, 0);
    gate_open(&g);
    assert_status(TPOOL_OK, end_of(last));
    assert_int_equal(1, atomic_load(&clock.fired));
    assert_status(TPOOL_OK, end_of(first));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    have_a_timekeeper_again();
}
static void a_waiter_keeps_the_times_if_no_timekeeper_can(void **state) {
    (void)state;
    alarm_clock clock = { 0 };
    forget_the_timekeeper();
    tpool_future *promise = NULL;
    assert_status(TPOOL_OK, tpool_future_create(&promise));
    arm(&clock, TPOOL_MS(5));
    assert_status(TPOOL_TIMEOUT, tpool_future_result(promise, TPOOL_MS(60), NULL));
    assert_int_equal(1, atomic_load(&clock.fired));
    assert_status(TPOOL_OK, tpool_future_set_result(promise, NULL));
    tpool_future_release(promise);
    have_a_timekeeper_again();
    arm(&clock, TPOOL_MS(1)); /* the next timer tries again */
    REQUIRE_EVENTUALLY(atomic_load(&clock.fired) == 2);
    assert_false(tpool__times_unkept());
}

#if !defined(_WIN32)
static void a_forked_child_has_a_timekeeper_of_its_own(void **state) {
    (void)state;
    if (UNDER_TSAN) skip(); /* it starts no threads in a child of fork where there were threads */
    alarm_clock parents = { 0 };
    assert_true(tpool_high_level() != NULL); /* the fork handlers are there */
    arm(&parents, TPOOL_SEC(3600));
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        static alarm_clock own;
        arm(&own, TPOOL_MS(1));
        while (!atomic_load(&own.fired)) sleep_ms(1);
        _exit(atomic_load(&parents.fired) == 0 ? 0 : 1);
    }
    int ended = 0;
    assert_true(waitpid(child, &ended, 0) == child);
    assert_true(WIFEXITED(ended) && WEXITSTATUS(ended) == 0);
    assert_true(tpool__timer_disarm(&parents.timer));
}
#endif

int main(void) {
    if (!tpool__process_ready()) return 1; /* as whatever arms a timer has found it */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_timer_comes_at_its_tick_and_none_before),
        cmocka_unit_test(what_is_disarmed_leaves_no_trace),
        cmocka_unit_test(a_timer_that_has_come_can_still_be_disarmed),
        cmocka_unit_test(a_thousand_times_come_once_and_not_early),
        cmocka_unit_test(an_earlier_time_wakes_the_sleeping_timekeeper),
        cmocka_unit_test(a_time_that_never_comes_can_be_armed_and_disarmed),
        cmocka_unit_test(a_million_are_armed_and_disarmed_without_memory),
        cmocka_unit_test(the_timekeeper_ends_when_there_are_no_times_and_starts_again),
        cmocka_unit_test(a_timer_may_arm_itself_as_it_fires),
        cmocka_unit_test(await_returns_after_the_firing),
        cmocka_unit_test(an_idle_worker_keeps_the_times_if_no_timekeeper_can),
        cmocka_unit_test(a_busy_worker_keeps_the_times_between_tasks),
        cmocka_unit_test(a_waiter_keeps_the_times_if_no_timekeeper_can),
#if !defined(_WIN32)
        cmocka_unit_test(a_forked_child_has_a_timekeeper_of_its_own),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
