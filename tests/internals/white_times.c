/* Times: the wheel against a plain list, and the threads that keep them: they start, sleep, take turns, are refused,
   end. The implementation is included, so that its thread starts come here. */
#include "support.h"
#if !defined(_WIN32) && !defined(__STDC_NO_THREADS__)
#include <threads.h>
#endif
#include <errno.h>

static atomic_bool refusing; /* threads */
static atomic_int refusals;
static inline bool refuses(void) { return atomic_load(&refusing) && atomic_fetch_add(&refusals, 1) >= 0; }
#if defined(_WIN32)
static inline HANDLE refused_CreateThread(SECURITY_ATTRIBUTES *attributes, SIZE_T stack_size,
                                          LPTHREAD_START_ROUTINE start, void *arg, DWORD flags, DWORD *number) {
    return refuses() ? NULL : CreateThread(attributes, stack_size, start, arg, flags, number);
}
#define CreateThread refused_CreateThread
#else
static inline int refused_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
                                         void *arg) {
    return refuses() ? EAGAIN : pthread_create(thread, attributes, start, arg);
}
#define pthread_create refused_pthread_create
#if !defined(__STDC_NO_THREADS__)
__attribute__((unused)) static inline int refused_thrd_create(thrd_t *thread, thrd_start_t start, void *arg) {
    return refuses() ? thrd_error : thrd_create(thread, start, arg);
}
#define thrd_create refused_thrd_create
#endif
#endif
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
/* The one worker sleeps, or waits in its task. */
static bool worker_sleeps(tpool *pool) {
    tpool__lock(&pool->lock);
    bool sleeps = pool->sleepers && tpool__load_relaxed(&pool->sleepers->parker) == TPOOL__TOKEN_ASLEEP;
    tpool__unlock(&pool->lock);
    return sleeps;
}
static bool worker_waits(tpool *pool) {
    tpool__lock(&pool->lock);
    const tpool__waiter *waiter = pool->blocked_waiters;
    bool waits = waiter && tpool__load_relaxed(&waiter->parker) == TPOOL__TOKEN_ASLEEP;
    tpool__unlock(&pool->lock);
    return waits;
}

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
    bool runs = tpool__times.timekeeper != NULL;
    tpool__unlock(&tpool__times.lock);
    return runs;
}

static bool keeper_sleeps(void) {
    tpool__lock(&tpool__times.lock);
    const tpool__keeper *keeper = tpool__times.timekeeper;
    bool sleeps = keeper && tpool__load_relaxed(&keeper->parker) == TPOOL__TOKEN_ASLEEP;
    tpool__unlock(&tpool__times.lock);
    return sleeps;
}
static int keepers(void) {
    int count = 0;
    tpool__lock(&tpool__times.lock);
    for (int i = 0; i < TPOOL__KEEPERS; i++) count += tpool__times.keepers[i].used;
    tpool__unlock(&tpool__times.lock);
    return count;
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
    REQUIRE_EVENTUALLY(keeper_sleeps());
    arm(&soon, TPOOL_MS(1));
    REQUIRE_EVENTUALLY(atomic_load(&soon.fired) == 1);
    assert_true(tpool__timer_disarm(&late.timer));
    assert_int_equal(0, atomic_load(&late.fired));
}
/* The times of a periodic task are its first one plus n periods, whenever a run begins or ends. */
static void periods_do_not_drift(void **state) {
    (void)state;
    uint64_t seed = 1;
    for (int i = 0; i < 1000; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        int64_t first = 1 + (int64_t)(seed >> 40), period = 1 + (int64_t)(seed >> 20) % 100000, at = first;
        for (int run = 0; run < 200; run++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            int64_t now = at + (int64_t)(seed >> 33) % (run % 3 ? period : 20 * period); /* when it is over */
            int64_t next = tpool__period_next(at, period, now);
            assert_true((next - first) % period == 0);
            assert_true(next > at && next >= now);
            assert_true(next - period <= at || next - period < now); /* the first of these */
            at = next;
        }
    }
    assert_true(tpool__period_next(1, 10, 11) == 11); /* it has come, and has not passed */
    assert_true(tpool__period_next(1, TPOOL_FOREVER, 5) == TPOOL_FOREVER);
    assert_true(tpool__period_next(TPOOL_FOREVER - 5, 3, TPOOL_FOREVER - 1) == TPOOL_FOREVER);
    assert_true(tpool__period_next(5, 7, 0) == 12); /* a clock that is behind */
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

/* ---- Functions of the program */
typedef struct slow_one { /* its function passes a gate, and then may end its thread */
    tpool__timer timer;
    tpool__due due;
    gate *g;
    bool ends_thread, cancels_thread, has_destructor;
    atomic_int calls;
} slow_one;
#if !defined(_WIN32)
static pthread_key_t at_thread_end;
#endif
static void call_slowly(tpool__thread *self, tpool__due *due) {
    slow_one *slow = (slow_one *)(void *)((char *)due - offsetof(slow_one, due));
    (void)self;
    bool ends_thread = slow->ends_thread;
    gate_pass(slow->g);
    tpool__cancel_here();
#if !defined(_WIN32)
    if (slow->cancels_thread) pthread_cancel(pthread_self());
    if (slow->has_destructor) (void)pthread_setspecific(at_thread_end, slow);
#endif
    atomic_fetch_add(&slow->calls, 1);
    if (ends_thread) tpool__thread_exit();
}
static void list_slow_one(tpool__timer *timer) {
    slow_one *slow = (slow_one *)(void *)timer;
    tpool__list(tpool__self(), (uintptr_t)&slow->due | 2);
}
static void prepare_slow_one(slow_one *slow, gate *g) {
    slow->timer.fire = list_slow_one;
    slow->due.call = call_slowly;
    slow->g = g;
}
static void arm_slow_one(slow_one *slow, gate *g) {
    prepare_slow_one(slow, g);
    tpool__timer_arm(&slow->timer, 0);
}

static void a_slow_function_holds_up_no_time(void **state) {
    (void)state;
    for (int with_others = 0; with_others < 2; with_others++) { /* 1: a time waits already as the function begins */
        gate g = GATE_CLOSED;
        slow_one slow = { 0 };
        alarm_clock before = { 0 }, after = { 0 };
        if (with_others) arm(&before, TPOOL_MS(20));
        arm_slow_one(&slow, &g);
        AWAIT_ARRIVALS(&g, 1);
        arm(&after, TPOOL_MS(1));
        REQUIRE_EVENTUALLY(atomic_load(&after.fired) == 1);
        if (with_others) REQUIRE_EVENTUALLY(atomic_load(&before.fired) == 1);
        assert_int_equal(0, atomic_load(&slow.calls));
        assert_int_equal(2, keepers());
        gate_open(&g);
        REQUIRE_EVENTUALLY(atomic_load(&slow.calls) == 1);
    }
    REQUIRE_EVENTUALLY(keepers() == 0);
}
static void functions_that_come_at_once_do_not_wait_for_each_other(void **state) {
    (void)state;
    enum { MANY = TPOOL__KEEPERS };
    static gate gates[MANY];
    static slow_one slow[MANY];
    for (int i = 0; i < MANY; i++) gates[i] = (gate)GATE_CLOSED;
    tpool__lock(&tpool__times.lock); /* no thread looks before all are there */
    for (int i = 0; i < MANY; i++) {
        prepare_slow_one(&slow[i], &gates[i]);
        tpool__timer_link(&tpool__times.come, &slow[i].timer);
    }
    tpool__timekeeper_need();
    tpool__unlock(&tpool__times.lock);
    for (int i = 0; i < MANY; i++) AWAIT_ARRIVALS(&gates[i], 1);
    for (int i = 0; i < MANY; i++) gate_open(&gates[i]);
    for (int i = 0; i < MANY; i++) REQUIRE_EVENTUALLY(atomic_load(&slow[i].calls) == 1);
    REQUIRE_EVENTUALLY(keepers() == 0);
}
static void two_threads_take_turns_for_any_number_of_functions(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    gate_open(&g);
    alarm_clock late = { 0 };
    arm(&late, TPOOL_SEC(3600));
    for (int i = 0; i < 200; i++) {
        slow_one quick = { 0 };
        arm_slow_one(&quick, &g);
        REQUIRE_EVENTUALLY(atomic_load(&quick.calls) == 1);
        assert_true(keepers() <= 3); /* one may not be back when the next begins */
    }
    assert_true(tpool__timer_disarm(&late.timer));
    REQUIRE_EVENTUALLY(keepers() == 0);
}
static void a_function_that_ends_its_thread_ends_no_time(void **state) {
    (void)state;
    for (int i = 0; i < 20; i++) {
        gate g = GATE_CLOSED;
        slow_one ends = { .ends_thread = true };
        alarm_clock soon = { 0 };
        arm_slow_one(&ends, &g);
        if (i % 2) arm(&soon, TPOOL_US(100));
        gate_open(&g);
        REQUIRE_EVENTUALLY(atomic_load(&ends.calls) == 1);
        if (i % 2 == 0) arm(&soon, TPOOL_US(100));
        REQUIRE_EVENTUALLY(atomic_load(&soon.fired) == 1);
    }
    REQUIRE_EVENTUALLY(keepers() == 0);
}
/* As many slow functions as there may be threads: then the pool's worker looks at the wheel, until one comes back. */
static void when_all_threads_are_in_slow_functions_workers_keep_the_times(void **state) {
    (void)state;
    static slow_one slow[TPOOL__KEEPERS + 1];
    static gate gates[TPOOL__KEEPERS];
    alarm_clock clock = { 0 };
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    for (int i = 0; i < TPOOL__KEEPERS; i++) {
        gates[i] = (gate)GATE_CLOSED;
        arm_slow_one(&slow[i], &gates[i]);
        AWAIT_ARRIVALS(&gates[i], 1);
    }
    arm(&clock, TPOOL_MS(5));
    REQUIRE_EVENTUALLY(atomic_load(&clock.fired) == 1);
    assert_int_equal(TPOOL__KEEPERS, keepers());
    assert_status(TPOOL_OK, tpool_destroy(pool)); /* now no worker looks */
    arm(&clock, TPOOL_MS(1));
    assert_true(tpool__times_unkept());
    gate_open(&gates[3]);
    REQUIRE_EVENTUALLY(atomic_load(&clock.fired) == 2);
    assert_false(tpool__times_unkept());
    for (int i = 0; i < TPOOL__KEEPERS; i++) gate_open(&gates[i]);
    for (int i = 0; i < TPOOL__KEEPERS; i++) REQUIRE_EVENTUALLY(atomic_load(&slow[i].calls) == 1);
    REQUIRE_EVENTUALLY(keepers() == 0);
}

/* ---- Without the thread */
/* A slow function, and no other thread: the worker that sleeps already is woken, to look at the times. */
static void a_refused_thread_wakes_the_worker_that_sleeps(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    slow_one slow = { 0 };
    alarm_clock clock = { 0 };
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    REQUIRE_EVENTUALLY(worker_sleeps(pool));
    arm_slow_one(&slow, &g);
    AWAIT_ARRIVALS(&g, 1);
    atomic_store(&refusing, true);
    arm(&clock, TPOOL_MS(1));
    REQUIRE_EVENTUALLY(atomic_load(&clock.fired) == 1);
    gate_open(&g);
    atomic_store(&refusing, false);
    REQUIRE_EVENTUALLY(atomic_load(&slow.calls) == 1);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void *wait_for(void *future) {
    return (void *)(uintptr_t)(1 + tpool_future_result(future, TPOOL_FOREVER, NULL));
}
static void a_refused_thread_wakes_the_worker_that_waits(void **state) {
    (void)state;
    alarm_clock clock = { 0 };
    tpool_future *promise = NULL;
    assert_status(TPOOL_OK, tpool_future_create(&promise));
    tpool *pool = new_pool(1);
    tpool_future *waits = submitted(pool, wait_for, promise);
    REQUIRE_EVENTUALLY(worker_waits(pool));
    REQUIRE_EVENTUALLY(keepers() == 0);
    atomic_store(&refusing, true);
    arm(&clock, TPOOL_MS(1));
    REQUIRE_EVENTUALLY(atomic_load(&clock.fired) == 1);
    atomic_store(&refusing, false);
    assert_status(TPOOL_OK, tpool_future_set_result(promise, NULL));
    assert_status(TPOOL_OK, end_of(waits));
    tpool_future_release(promise);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_refused_thread_is_not_asked_for_at_each_look(void **state) {
    (void)state;
    enum { LOOKS = 10000 };
    alarm_clock clock = { 0 };
    REQUIRE_EVENTUALLY(keepers() == 0);
    atomic_store(&refusing, true);
    arm(&clock, TPOOL_SEC(3600));
    atomic_store(&refusals, 0);
    for (int i = 0; i < LOOKS; i++) (void)tpool__times_look();
    assert_true(atomic_load(&refusals) < LOOKS / 2);
    atomic_store(&refusing, false);
    assert_true(tpool__timer_disarm(&clock.timer));
}
static void forget_the_timekeeper(void) {
    REQUIRE_EVENTUALLY(keepers() == 0);
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
    sleep_ms(1); /* its tick has come */
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

/* A wait ends just as the thread that waits has noticed a time, and has listed what an iterator is to call for it. */
static tpool_future *awaited;
static atomic_int woken;
static gate notices = GATE_CLOSED, completed = GATE_CLOSED;
static tpool_completions *drained; /* by wake_up, if there is one */
static void wake_up(void *context) {
    tpool_future *given;
    (void)context;
    atomic_fetch_add(&woken, 1);
    while (drained && tpool_completions_next(drained, 0, &given) == TPOOL_OK) atomic_fetch_add(&woken, 10);
}
static void wake_nobody(void *context) { (void)context; }
static void notice(tpool__timer *timer) {
    (void)timer;
    gate_open(&notices);
    gate_pass(&completed);
}
static tpool_channel *channel; /* NULL: awaited is what is waited for */
static tpool_status complete_it(void *arg) {
    (void)arg;
    gate_pass(&notices);
    tpool_status status = channel ? tpool_channel_send(channel, &channel, 0) : tpool_future_set_result(awaited, NULL);
    gate_open(&completed);
    return status;
}
static tpool_status wait_for_item(void) {
    void *item = NULL;
    tpool_status status = tpool_channel_receive(channel, &item, TPOOL_FOREVER);
    assert_true(item == (void *)channel);
    return status;
}
static tpool_status wait_for_awaited(void) { return tpool_future_result(awaited, TPOOL_FOREVER, NULL); }
/* What its own wait calls may take what the wait was for. */
static tpool_status wait_for_next_of_drained(void) {
    tpool_future *given = NULL;
    tpool_status status = tpool_completions_next(drained, TPOOL_FOREVER, &given);
    assert_null(given);
    return status;
}
static void end_a_wait_that_notices(tpool_status expected, int wakes, tpool_status (*wait)(void)) {
    gate g = GATE_CLOSED;
    background completer;
    notices = completed = (gate)GATE_CLOSED;
    atomic_store(&woken, 0);
    forget_the_timekeeper();
    tpool *pool = new_pool(1);
    tpool_future *holder = held_at(pool, &g), *given = NULL;
    tpool_task task = { .fn = nothing, .expires_ns = TPOOL_MS(300) }; /* not before all is armed */
    tpool_future *expiring = submitted_task(pool, task);
    tpool_completions *completions = NULL;
    assert_status(TPOOL_OK, tpool_as_completed(&expiring, 1, &completions));
    assert_status(TPOOL_OK, tpool_completions_on_ready(completions, wake_up, NULL));
    assert_status(TPOOL_TIMEOUT, tpool_completions_next(completions, 0, &given));
    tpool__timer timer = { 0 };
    timer.fire = notice;
    tpool__timer_arm(&timer, tpool__expires_at(expiring)); /* in one look with the iterator's */
    background_start(&completer, complete_it, NULL);
    assert_status(expected, wait());
    assert_int_equal(wakes, atomic_load(&woken));
    assert_status(TPOOL_OK, background_join(&completer));
    gate_open(&g);
    assert_status(TPOOL_OK, tpool_completions_next(completions, 0, &given));
    assert_status(TPOOL_EXPIRED, tpool_future_result(given, 0, NULL));
    tpool_completions_destroy(completions);
    tpool_future_release(expiring);
    assert_status(TPOOL_OK, end_of(holder));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    have_a_timekeeper_again();
}
static void a_wait_that_ends_leaves_nothing_to_call(void **state) {
    (void)state;
    assert_status(TPOOL_OK, tpool_future_create(&awaited));
    end_a_wait_that_notices(TPOOL_OK, 1, wait_for_awaited);
    tpool_future_release(awaited);
}
/* Where the wait hands something over, what is called may end the thread: it runs before. */
static void a_wait_that_hands_over_leaves_nothing_to_call(void **state) {
    (void)state;
    tpool_channel_config config = { .capacity = 1, .item_size = sizeof(void *) };
    assert_status(TPOOL_OK, tpool_channel_create(&channel, &config));
    end_a_wait_that_notices(TPOOL_OK, 1, wait_for_item);
    assert_status(TPOOL_OK, tpool_channel_destroy(channel));
    channel = NULL;
}
static void a_next_whose_item_is_taken_by_what_it_calls_goes_on(void **state) {
    (void)state;
    for (int armed = 0; armed < 2; armed++) { /* 1: what takes the item arms its on_ready, too */
        assert_status(TPOOL_OK, tpool_future_create(&awaited));
        assert_status(TPOOL_OK, tpool_as_completed(&awaited, 1, &drained));
        if (armed) assert_status(TPOOL_OK, tpool_completions_on_ready(drained, wake_nobody, NULL));
        end_a_wait_that_notices(TPOOL_END, 11, wait_for_next_of_drained);
        tpool_completions_destroy(drained);
        drained = NULL;
        tpool_future_release(awaited);
    }
}

/* ---- The end of them all */
static tpool_status end_the_times(void *all) {
    tpool__times_end(all != NULL);
    return TPOOL_OK;
}
/* It is the exit handler that ends them, which a function of the program may wait for: none begins any more. */
static void a_timekeeper_that_is_to_end_begins_nothing(void **state) {
    (void)state;
    alarm_clock late = { 0 };
    gate g = GATE_CLOSED;
    slow_one slow = { 0 };
    arm(&late, TPOOL_SEC(3600));
    REQUIRE_EVENTUALLY(keeper_sleeps());
    prepare_slow_one(&slow, &g);
    tpool__lock(&tpool__times.lock); /* it wakes for a time that has come, and is to end */
    tpool__times.over = true;
    tpool__timer_link(&tpool__times.come, &slow.timer);
    tpool__parker *parker = &tpool__times.timekeeper->parker;
    tpool__unlock(&tpool__times.lock);
    tpool__unpark(parker);
    REQUIRE_EVENTUALLY(keepers() == 0);
    assert_int_equal(0, gate_arrived(&g));
    assert_true(tpool__times_unkept()); /* others know that they must look */
    assert_true(tpool__timer_disarm(&slow.timer));
    assert_true(tpool__timer_disarm(&late.timer));
    have_a_timekeeper_again();
}
#if !defined(_WIN32) /* whose threads run no destructor of the program's after the library's hook */
static atomic_int threads_gone;
static gate *end_at;
static void end_late(void *unused) {
    (void)unused;
    if (end_at) gate_pass(end_at);
    sleep_ms(50);
    atomic_fetch_add(&threads_gone, 1);
}
/* At exit nobody waits for these, which may wait for the thread that exits. */
static void an_exit_does_not_wait_for_the_destructors_of_a_thread_that_a_function_has_ended(void **state) {
    (void)state;
    gate g = GATE_CLOSED, in_destructor = GATE_CLOSED;
    slow_one slow = { .ends_thread = true, .has_destructor = true };
    end_at = &in_destructor;
    assert_int_equal(0, pthread_key_create(&at_thread_end, end_late));
    REQUIRE_EVENTUALLY(keepers() == 0);
    arm_slow_one(&slow, &g);
    gate_open(&g);
    AWAIT_ARRIVALS(&in_destructor, 1);
    background exits;
    background_start(&exits, end_the_times, NULL);
    EVENTUALLY(atomic_load(&exits.returned));
    gate_open(&in_destructor);
    assert_status(TPOOL_OK, background_join(&exits));
    assert_status(TPOOL_OK, end_the_times(&slow));
    end_at = NULL;
    assert_int_equal(0, pthread_key_delete(at_thread_end));
    have_a_timekeeper_again();
}
/* Its code goes after that. */
static void an_unloading_joins_the_thread_that_a_function_has_ended(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    slow_one slow = { .ends_thread = true, .has_destructor = true };
    assert_int_equal(0, pthread_key_create(&at_thread_end, end_late));
    REQUIRE_EVENTUALLY(keepers() == 0);
    arm_slow_one(&slow, &g);
    AWAIT_ARRIVALS(&g, 1);
    gate_open(&g);
    atomic_store(&threads_gone, 0);
    assert_status(TPOOL_OK, end_the_times(&slow));
    assert_int_equal(1, atomic_load(&threads_gone));
    assert_int_equal(0, pthread_key_delete(at_thread_end));
    have_a_timekeeper_again();
}
#endif
static void an_unloading_waits_for_a_function_and_its_thread(void **state) {
    (void)state;
    for (int ends_thread = 0; ends_thread < 2; ends_thread++) {
        gate g = GATE_CLOSED;
        slow_one slow = { .ends_thread = ends_thread };
        background ends;
        REQUIRE_EVENTUALLY(keepers() == 0);
        arm_slow_one(&slow, &g);
        AWAIT_ARRIVALS(&g, 1);
        background_start(&ends, end_the_times, &slow);
        sleep_ms(20);
        assert_false(atomic_load(&ends.returned));
        gate_open(&g);
        assert_status(TPOOL_OK, background_join(&ends));
        assert_int_equal(1, atomic_load(&slow.calls));
        assert_int_equal(0, keepers());
        have_a_timekeeper_again();
    }
}
/* A worker that sleeps without a limit, since a keeper kept the times, learns that it must look. */
static void what_no_keeper_keeps_after_an_exit_a_sleeping_worker_keeps(void **state) {
    (void)state;
    alarm_clock clock = { 0 };
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    arm(&clock, TPOOL_MS(300));
    REQUIRE_EVENTUALLY(worker_sleeps(pool));
    assert_status(TPOOL_OK, end_the_times(NULL));
    REQUIRE_EVENTUALLY(atomic_load(&clock.fired) == 1);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    have_a_timekeeper_again();
}
/* At exit nobody waits for it; and when it comes back it keeps nothing. */
static void an_exit_does_not_wait_for_a_function(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    slow_one slow = { 0 };
    alarm_clock late = { 0 };
    REQUIRE_EVENTUALLY(keepers() == 0);
    arm_slow_one(&slow, &g);
    AWAIT_ARRIVALS(&g, 1);
    arm(&late, TPOOL_SEC(3600));
    assert_status(TPOOL_OK, end_the_times(NULL));
    gate_open(&g);
    REQUIRE_EVENTUALLY(keepers() == 0);
    assert_true(tpool__times_unkept());
    assert_true(tpool__timer_disarm(&late.timer));
    have_a_timekeeper_again();
}
#if !defined(_WIN32) && !defined(__ANDROID__)
/* The thread's cancellation, which a function has asked for, ends it before the next function. */
static void a_cancellation_hits_no_other_function(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    slow_one first = { .cancels_thread = true }, second = { 0 };
    gate_open(&g);
    REQUIRE_EVENTUALLY(keepers() == 0);
    arm_slow_one(&first, &g);
    REQUIRE_EVENTUALLY(atomic_load(&first.calls) == 1);
    arm_slow_one(&second, &g);
    REQUIRE_EVENTUALLY(atomic_load(&second.calls) == 1);
    REQUIRE_EVENTUALLY(keepers() == 0);
}
#endif

/* A wait in a line: its place there is kept while the waiter looks at the times. */
static atomic_int entered;
static atomic_bool line_over;
static bool line_enter(tpool__waiter *waiter) {
    (void)waiter;
    atomic_fetch_add(&entered, 1);
    return false;
}
static bool line_look(tpool__waiter *waiter) { return atomic_load(&line_over) && tpool__wait_over(waiter, TPOOL_OK); }
static void line_leave(tpool__waiter *waiter) { (void)waiter; }
static tpool_status wait_in_line(void *unused) {
    static const tpool__wait_kind kind = { NULL, line_enter, line_look, line_leave, "its turn", false };
    tpool__waiter waiter = { 0 };
    (void)unused;
    return tpool__wait(&waiter, &kind, TPOOL_FOREVER);
}
static void who_waits_in_line_keeps_its_place_while_it_keeps_the_times(void **state) {
    (void)state;
    static alarm_clock clocks[3];
    background waits;
    forget_the_timekeeper();
    arm(&clocks[2], TPOOL_SEC(3600)); /* there are times, and nobody keeps them */
    background_start(&waits, wait_in_line, NULL);
    REQUIRE_EVENTUALLY(atomic_load(&entered) == 1);
    for (int i = 0; i < 2; i++) {
        arm(&clocks[i], TPOOL_MS(1));
        REQUIRE_EVENTUALLY(atomic_load(&clocks[i].fired) == 1);
    }
    assert_int_equal(1, atomic_load(&entered));
    atomic_store(&line_over, true);
    assert_status(TPOOL_OK, background_join(&waits));
    assert_int_equal(1, atomic_load(&entered));
    assert_true(tpool__timer_disarm(&clocks[2].timer));
    have_a_timekeeper_again();
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
        cmocka_unit_test(periods_do_not_drift),
        cmocka_unit_test(a_time_that_never_comes_can_be_armed_and_disarmed),
        cmocka_unit_test(a_million_are_armed_and_disarmed_without_memory),
        cmocka_unit_test(the_timekeeper_ends_when_there_are_no_times_and_starts_again),
        cmocka_unit_test(a_timer_may_arm_itself_as_it_fires),
        cmocka_unit_test(await_returns_after_the_firing),
        cmocka_unit_test(a_slow_function_holds_up_no_time),
        cmocka_unit_test(functions_that_come_at_once_do_not_wait_for_each_other),
        cmocka_unit_test(two_threads_take_turns_for_any_number_of_functions),
        cmocka_unit_test(a_function_that_ends_its_thread_ends_no_time),
        cmocka_unit_test(when_all_threads_are_in_slow_functions_workers_keep_the_times),
        cmocka_unit_test(a_refused_thread_wakes_the_worker_that_sleeps),
        cmocka_unit_test(a_refused_thread_wakes_the_worker_that_waits),
        cmocka_unit_test(a_refused_thread_is_not_asked_for_at_each_look),
        cmocka_unit_test(an_idle_worker_keeps_the_times_if_no_timekeeper_can),
        cmocka_unit_test(a_busy_worker_keeps_the_times_between_tasks),
        cmocka_unit_test(a_waiter_keeps_the_times_if_no_timekeeper_can),
        cmocka_unit_test(a_wait_that_ends_leaves_nothing_to_call),
        cmocka_unit_test(a_wait_that_hands_over_leaves_nothing_to_call),
        cmocka_unit_test(a_next_whose_item_is_taken_by_what_it_calls_goes_on),
        cmocka_unit_test(a_timekeeper_that_is_to_end_begins_nothing),
        cmocka_unit_test(an_unloading_waits_for_a_function_and_its_thread),
        cmocka_unit_test(what_no_keeper_keeps_after_an_exit_a_sleeping_worker_keeps),
#if !defined(_WIN32)
        cmocka_unit_test(an_exit_does_not_wait_for_the_destructors_of_a_thread_that_a_function_has_ended),
        cmocka_unit_test(an_unloading_joins_the_thread_that_a_function_has_ended),
#endif
        cmocka_unit_test(an_exit_does_not_wait_for_a_function),
#if !defined(_WIN32) && !defined(__ANDROID__)
        cmocka_unit_test(a_cancellation_hits_no_other_function),
#endif
        cmocka_unit_test(who_waits_in_line_keeps_its_place_while_it_keeps_the_times),
#if !defined(_WIN32)
        cmocka_unit_test(a_forked_child_has_a_timekeeper_of_its_own),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
