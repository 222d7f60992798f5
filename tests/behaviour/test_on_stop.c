/* tpool_on_stop: when wake is called, where, how often, and when it is not any more. */
#include "support.h"
#include "support/sleepers.h"

/* ---- who calls it ---- */

static void a_stop_request_calls_it_once_in_its_own_thread(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    sleeper s;
    tpool_future *future = asleep(pool, &s);
    assert_int_equal(0, s.wakes);
    tpool_future_request_stop(future);
    tpool_future_request_stop(future);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
    assert_int_equal(1, s.wakes);
    assert_true(pthread_equal(pthread_self(), s.woken_by));
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_stopping_shutdown_calls_those_of_all_its_tasks(void **unused) {
    (void)unused;
    tpool *pool = new_pool(3), *other = new_pool(1);
    sleeper s[3], apart;
    tpool_future *futures[3], *spared = asleep(other, &apart);
    for (int i = 0; i < 3; i++) futures[i] = asleep(pool, &s[i]);
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT | TPOOL_STOP_RUNNING));
    for (int i = 0; i < 3; i++) {
        assert_status(TPOOL_OK, tpool_future_result(futures[i], 0, NULL));
        assert_int_equal(1, s[i].wakes);
        tpool_future_release(futures[i]);
    }
    assert_int_equal(0, apart.wakes);
    tpool_future_request_stop(spared);
    assert_status(TPOOL_OK, end_of(spared));
    assert_status(TPOOL_OK, tpool_destroy(other));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_passed_run_limit_calls_it(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    sleeper s;
    sleeper_init(&s);
    tpool_future *future =
        submitted_task(pool, (tpool_task){ .fn = sleep_until_stopped, .arg = &s, .run_limit_ns = TPOOL_MS(20) });
    assert_status(TPOOL_OK, end_of(future));
    assert_int_equal(1, s.wakes);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_run_that_times_out_calls_it(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    sleeper s;
    sleeper_init(&s);
    tpool_task task = { .fn = sleep_until_stopped, .arg = &s };
    tpool_future *future = NULL;
    tpool_status status = tpool_run_with_timeout(pool, &task, TPOOL_MS(20), &future);
    assert_true(status == TPOOL_TIMEOUT || status == TPOOL_OK || status == TPOOL_CANCELLED);
    if (status != TPOOL_CANCELLED) (void)end_of(future);
    else tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_true(s.wakes == 1 || !s.returns);
}

static void it_is_called_at_once_in_a_task_that_was_asked_before(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    sleeper s;
    sleeper_init(&s);
    tpool_future *future = submitted(h.pool, sleep_until_stopped, &s);
    tpool_future_request_stop(future);
    assert_int_equal(0, s.wakes);
    held_destroy(&h);
    assert_status(TPOOL_OK, end_of(future));
    assert_int_equal(1, s.wakes);
    assert_false(pthread_equal(pthread_self(), s.woken_by));
}

static void *ask_itself(void *arg) {
    sleeper *s = arg;
    while (!s->own) sleep_ms(1);
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(count_wake, &s->wakes));
    tpool_future_request_stop(s->own);
    if (s->wakes != 1) return s;
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(count_wake, &s->wakes)); /* a new one, and it is asked still */
    return NULL;
}
static void a_task_that_asks_itself_is_called_at_once(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    sleeper s;
    sleeper_init(&s);
    tpool_future *future = submitted(pool, ask_itself, &s);
    atomic_store(&s.own, future);
    assert_null(take(future));
    assert_int_equal(2, s.wakes);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void close_channel(void *channel) { CHECK_STATUS(TPOOL_OK, tpool_channel_close(channel)); }
static void *wake_a_waiting_task(void *arg) {
    tpool_channel *channel = arg;
    void *item;
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(close_channel, channel));
    tpool_status status = tpool_channel_receive(channel, &item, TPOOL_FOREVER);
    CHECK(status == TPOOL_END || status == TPOOL_CANCELLED); /* a stop alone ends this wait, too ... */
    while (tpool_channel_receive(channel, &item, 0) != TPOOL_END) sleep_ms(1); /* ... and wake may come later */
    CHECK_STATUS(TPOOL_SHUTDOWN, tpool_channel_send(channel, NULL, 0));
    return NULL;
}
static void complete(void *context) { CHECK_STATUS(TPOOL_OK, tpool_future_set_result(context, context)); }
static void *await_a_future(void *arg) {
    void *result = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(complete, arg));
    CHECK_STATUS(TPOOL_OK, tpool_future_result(arg, LIMIT, &result));
    return result;
}
static void it_may_complete_what_the_task_waits_for(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    tpool_future *bare;
    assert_status(TPOOL_OK, tpool_future_create(&bare));
    tpool_future *future = submitted(pool, await_a_future, bare);
    EVENTUALLY(tpool_future_running(future));
    tpool_future_request_stop(future);
    assert_ptr_equal(bare, take(future));
    tpool_future_release(bare);
    tpool_channel *channel;
    assert_status(TPOOL_OK, tpool_channel_create(&channel, NULL));
    future = submitted(pool, wake_a_waiting_task, channel);
    EVENTUALLY(tpool_future_running(future));
    tpool_future_request_stop(future);
    assert_status(TPOOL_OK, end_of(future));
    assert_status(TPOOL_OK, tpool_channel_destroy(channel));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* The thread that asks is in a callback: wake comes as it waits there for the task. */
static void ask_and_await(tpool_future *future, void *context) {
    (void)future;
    tpool_future_request_stop(context);
    CHECK_STATUS(TPOOL_OK, tpool_future_result(context, LIMIT, NULL));
}
static void a_callback_may_ask_and_wait(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    sleeper s;
    tpool_future *future = asleep(pool, &s), *bare;
    assert_status(TPOOL_OK, tpool_future_create(&bare));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(bare, ask_and_await, future));
    assert_status(TPOOL_OK, tpool_future_set_result(bare, NULL));
    assert_true(tpool_future_done(future));
    assert_int_equal(1, s.wakes);
    tpool_future_release(bare);
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

typedef struct asking {
    tpool *pool;
    tpool_future *future;
    tpool_map_iter *iter;
    tpool_status (*call)(struct asking *a);
    tpool_status gave;
} asking;
static tpool_status ask_and_drain(asking *a) {
    tpool_future_request_stop(a->future);
    return tpool_drain(a->pool, LIMIT);
}
static tpool_status ask_and_wait(asking *a) {
    tpool_future_request_stop(a->future);
    return tpool_wait(&a->future, 1, TPOOL_ALL_COMPLETED, LIMIT, NULL);
}
static tpool_status ask_and_iterate(asking *a) {
    tpool_completions *completions;
    tpool_future *future;
    CHECK_STATUS(TPOOL_OK, tpool_as_completed(&a->future, 1, &completions));
    tpool_future_request_stop(a->future);
    tpool_status status = tpool_completions_next(completions, LIMIT, &future);
    tpool_completions_destroy(completions);
    return status;
}
static tpool_status ask_and_submit(asking *a) { /* waits for room */
    CHECK_STATUS(TPOOL_OK, tpool_submit(a->pool, nothing, NULL, NULL));
    tpool_future_request_stop(a->future);
    return tpool_submit(a->pool, nothing, NULL, NULL);
}
static tpool_status ask_and_destroy(asking *a) {
    tpool_future_request_stop(a->future);
    tpool *pool = a->pool;
    a->pool = NULL;
    return tpool_destroy(pool);
}
static tpool_status shut_down(asking *a) { return tpool_shutdown(a->pool, TPOOL_STOP_RUNNING | TPOOL_WAIT); }
static tpool_status close_map(asking *a) {
    tpool_map_close(a->iter);
    return TPOOL_OK;
}
static void call_in_callback(tpool_future *future, void *context) {
    asking *a = context;
    (void)future;
    a->gave = a->call(a);
}
static void it_is_called_before_a_callback_waits_wherever_it_does(void **unused) {
    (void)unused;
    tpool_status (*const calls[])(asking *) = { ask_and_drain,   ask_and_wait, ask_and_iterate, ask_and_submit,
                                                ask_and_destroy, shut_down,    close_map };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        asking a = { .call = calls[i], .gave = TPOOL_INVALID };
        a.pool = new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1 });
        sleeper s;
        sleeper_init(&s);
        if (a.call == close_map) {
            tpool_map_spec spec = { .fn = item_sleeps, .items = &s, .count = 1, .stride = sizeof s };
            assert_status(TPOOL_OK, tpool_map(a.pool, &spec, &a.iter));
            gate_await_arrivals(&s.at, 1);
        } else {
            a.future = asleep(a.pool, &s);
        }
        tpool_future *bare;
        assert_status(TPOOL_OK, tpool_future_create(&bare));
        assert_status(TPOOL_OK, tpool_future_add_done_callback(bare, call_in_callback, &a));
        assert_status(TPOOL_OK, tpool_future_set_result(bare, NULL));
        assert_status(TPOOL_OK, a.gave);
        if (a.future) assert_status(TPOOL_OK, end_of(a.future));
        assert_int_equal(1, s.wakes);
        tpool_future_release(bare);
        assert_status(TPOOL_OK, tpool_destroy(a.pool));
    }
}

/* Each wake stops the next task, the last one the first again. */
typedef struct in_ring {
    sleeper s;
    _Atomic(tpool_future *) next;
} in_ring;
static void stop_next(void *context) {
    in_ring *r = context;
    tpool_future_request_stop(r->next);
    wake_sleeper(&r->s);
}
static void *sleep_in_ring(void *arg) {
    in_ring *r = arg;
    while (!r->next) sleep_ms(1);
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(stop_next, r));
    gate_pass(&r->s.at);
    return NULL;
}
static void wakes_that_stop_each_others_tasks_are_called_once_each(void **unused) {
    (void)unused;
    enum { TASKS = 4 };
    tpool *pool = new_pool(TASKS);
    in_ring ring[TASKS];
    tpool_future *futures[TASKS];
    for (int i = 0; i < TASKS; i++) {
        sleeper_init(&ring[i].s);
        atomic_init(&ring[i].next, NULL);
        futures[i] = submitted(pool, sleep_in_ring, &ring[i]);
    }
    for (int i = 0; i < TASKS; i++) atomic_store(&ring[i].next, futures[(i + 1) % TASKS]);
    for (int i = 0; i < TASKS; i++) gate_await_arrivals(&ring[i].s.at, 1);
    tpool_future_request_stop(futures[1]);
    for (int i = 0; i < TASKS; i++) assert_status(TPOOL_OK, tpool_future_result(futures[i], LIMIT, NULL));
    for (int i = 0; i < TASKS; i++) {
        assert_int_equal(1, ring[i].s.wakes);
        tpool_future_release(futures[i]);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void wake_asks_of_its_own_pool(void *context) {
    sleeper *s = context;
    tpool *pool = s->pool;
    CHECK_STATUS(TPOOL_DEADLOCK, tpool_shutdown(pool, TPOOL_WAIT));
    CHECK_STATUS(TPOOL_DEADLOCK, tpool_drain(pool, LIMIT));
    CHECK_STATUS(TPOOL_DEADLOCK, tpool_destroy(pool));
    wake_sleeper(s);
}
static void *register_one_that_asks(void *arg) {
    sleeper *s = arg;
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(wake_asks_of_its_own_pool, s));
    gate_pass(&s->at);
    return NULL;
}
static void it_may_not_wait_for_its_own_pool(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    for (int timed = 0; timed < 2; timed++) {
        sleeper s;
        sleeper_init(&s);
        s.pool = pool;
        tpool_future *future = submitted_task(
            pool, (tpool_task){ .fn = register_one_that_asks, .arg = &s, .run_limit_ns = timed ? TPOOL_MS(5) : 0 });
        gate_await_arrivals(&s.at, 1);
        if (!timed) tpool_future_request_stop(future);
        assert_status(TPOOL_OK, end_of(future));
        assert_int_equal(1, s.wakes);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- how long it stays ---- */

typedef struct replaced {
    gate at;
    atomic_int first, second;
    bool withdrawn;
} replaced;
static void *replace(void *arg) {
    replaced *r = arg;
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(count_wake, &r->first));
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(r->withdrawn ? NULL : count_wake, &r->second));
    gate_pass(&r->at);
    return NULL;
}
static void a_second_call_replaces_it_and_null_withdraws_it(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    for (int i = 0; i < 2; i++) {
        replaced r = { .at = GATE_CLOSED, .withdrawn = i == 1 };
        tpool_future *future = submitted(pool, replace, &r);
        gate_await_arrivals(&r.at, 1);
        tpool_future_request_stop(future);
        assert_int_equal(0, r.first);
        assert_int_equal(!r.withdrawn, r.second);
        gate_open(&r.at);
        assert_status(TPOOL_OK, end_of(future));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void it_is_not_called_after_the_tasks_end(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    atomic_int wakes = 0;
    tpool_future *plain = submitted(pool, register_only, &wakes);
    tpool_future *limited =
        submitted_task(pool, (tpool_task){ .fn = register_only, .arg = &wakes, .run_limit_ns = TPOOL_MS(5) });
    assert_status(TPOOL_OK, tpool_future_result(limited, LIMIT, NULL));
    int before = wakes; /* the limit may have passed in time */
    tpool_future_request_stop(plain);
    tpool_future_request_stop(limited);
    sleep_ms(20);
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT | TPOOL_STOP_RUNNING));
    assert_int_equal(before, wakes);
    tpool_future_release(plain);
    tpool_future_release(limited);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void the_tasks_end_waits_for_a_wake_under_way(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    gate slow = GATE_CLOSED;
    sleeper s;
    tpool_future *future = asleep(pool, &s);
    s.slow = &slow;
    background asker;
    background_start(&asker, ask, future);
    gate_await_arrivals(&slow, 1);
    EVENTUALLY(s.returns);
    assert_status(TPOOL_TIMEOUT, tpool_future_result(future, TPOOL_MS(20), NULL));
    gate_open(&slow);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
    assert_status(TPOOL_OK, background_join(&asker));
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *withdraw_or_replace(void *arg) {
    sleeper *s = arg;
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(wake_sleeper, s));
    gate_pass(&s->at);
    CHECK_STATUS(TPOOL_OK, tpool_on_stop(s->replaces ? count_wake : NULL, &s->replaced_by));
    atomic_store(&s->returns, true);
    return NULL;
}
static void a_withdrawal_waits_for_a_wake_under_way(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    for (int replaces = 0; replaces < 2; replaces++) {
        gate slow = GATE_CLOSED;
        sleeper s;
        sleeper_init(&s);
        s.replaces = replaces == 1;
        s.slow = &slow;
        tpool_future *future = submitted(pool, withdraw_or_replace, &s);
        gate_await_arrivals(&s.at, 1);
        background asker;
        background_start(&asker, ask, future);
        gate_await_arrivals(&slow, 1);
        sleep_ms(10);
        assert_false(s.returns);
        gate_open(&slow);
        assert_status(TPOOL_OK, end_of(future));
        assert_status(TPOOL_OK, background_join(&asker));
        assert_int_equal(1, s.wakes);
        assert_int_equal(replaces, s.replaced_by); /* at once: its task is asked */
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static tpool_status stop_all(void *pool) { return tpool_shutdown(pool, TPOOL_STOP_RUNNING); }
/* Two wakes are due in one thread, and the first is slow. The other task ends meanwhile: its wake never comes. */
static void no_end_waits_for_the_wake_of_another_task(void **unused) {
    (void)unused;
    tpool *pool = new_pool(2);
    gate slow = GATE_CLOSED;
    sleeper s[2];
    tpool_future *futures[2];
    for (int i = 0; i < 2; i++) {
        futures[i] = asleep(pool, &s[i]);
        s[i].slow = &slow;
    }
    background asker;
    background_start(&asker, stop_all, pool);
    gate_await_arrivals(&slow, 1);
    int other = s[0].wakes ? 1 : 0;
    gate_open(&s[other].at);
    assert_status(TPOOL_OK, tpool_future_result(futures[other], LIMIT, NULL));
    gate_open(&slow);
    assert_status(TPOOL_OK, background_join(&asker));
    assert_status(TPOOL_OK, tpool_future_result(futures[!other], LIMIT, NULL));
    assert_int_equal(1, s[!other].wakes);
    assert_int_equal(0, s[other].wakes);
    for (int i = 0; i < 2; i++) tpool_future_release(futures[i]);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void destroy_waits_for_the_wakes_too(void **unused) {
    (void)unused;
    for (int i = 0; i < 50; i++) {
        tpool *pool = new_pool(2);
        sleeper s;
        tpool_future *future = asleep(pool, &s);
        background asker;
        background_start(&asker, ask, future);
        assert_status(TPOOL_OK, tpool_destroy(pool));
        assert_int_equal(1, s.wakes);
        assert_status(TPOOL_OK, background_join(&asker));
        tpool_future_release(future);
    }
}

static void a_detached_pool_stays_until_its_wakes_have_returned(void **unused) {
    (void)unused;
    for (int i = 0; i < 20; i++) {
        tpool *pool = new_pool(2);
        gate slow = GATE_CLOSED;
        sleeper stopped, asked;
        tpool_future *futures[] = { asleep(pool, &stopped), asleep(pool, &asked) };
        background asker;
        asked.slow = &slow;
        background_start(&asker, ask, futures[1]);
        gate_await_arrivals(&slow, 1);
        assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_DETACH | TPOOL_STOP_RUNNING));
        assert_status(TPOOL_OK, end_of(futures[0]));
        gate_open(&slow);
        assert_status(TPOOL_OK, end_of(futures[1]));
        assert_status(TPOOL_OK, background_join(&asker));
        assert_int_equal(1, stopped.wakes);
        assert_int_equal(1, asked.wakes);
    }
}

/* ---- everything at once ---- */

static void *register_many_times(void *arg) {
    sleeper *s = arg;
    for (int i = 0; i < 20; i++) {
        CHECK_STATUS(TPOOL_OK, tpool_on_stop(count_wake, &s->wakes));
        if (i % 3 == 0) CHECK_STATUS(TPOOL_OK, tpool_on_stop(NULL, NULL));
    }
    return NULL;
}
static void stress_stops_against_registrations_and_ends(void **unused) {
    (void)unused;
    enum { ROUNDS = COUNT(400), TASKS = 16 };
    for (int round = 0; round < ROUNDS; round++) {
        tpool *pool = new_pool(3);
        sleeper s[TASKS];
        tpool_future *futures[TASKS];
        for (int i = 0; i < TASKS; i++) {
            sleeper_init(&s[i]);
            futures[i] = submitted_task(
                pool, (tpool_task){ .fn = register_many_times, .arg = &s[i], .run_limit_ns = i % 4 == 0 ? 20000 : 0 });
        }
        for (int i = 0; i < TASKS; i++) tpool_future_request_stop(futures[i]);
        if (round % 2) assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_STOP_RUNNING));
        for (int i = 0; i < TASKS; i++) assert_status(TPOOL_OK, end_of(futures[i]));
        for (int i = 0; i < TASKS; i++) assert_true(s[i].wakes <= 20);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

static const struct CMUnitTest tests[] = {
    TEST(a_stop_request_calls_it_once_in_its_own_thread),
    TEST(a_stopping_shutdown_calls_those_of_all_its_tasks),
    TEST(a_passed_run_limit_calls_it),
    TEST(a_run_that_times_out_calls_it),
    TEST(it_is_called_at_once_in_a_task_that_was_asked_before),
    TEST(a_task_that_asks_itself_is_called_at_once),
    TEST(it_may_complete_what_the_task_waits_for),
    TEST(a_callback_may_ask_and_wait),
    TEST(it_is_called_before_a_callback_waits_wherever_it_does),
    TEST(wakes_that_stop_each_others_tasks_are_called_once_each),
    TEST(it_may_not_wait_for_its_own_pool),
    TEST(a_second_call_replaces_it_and_null_withdraws_it),
    TEST(it_is_not_called_after_the_tasks_end),
    TEST(the_tasks_end_waits_for_a_wake_under_way),
    TEST(a_withdrawal_waits_for_a_wake_under_way),
    TEST(no_end_waits_for_the_wake_of_another_task),
    TEST(destroy_waits_for_the_wakes_too),
    TEST(a_detached_pool_stays_until_its_wakes_have_returned),
    TEST(stress_stops_against_registrations_and_ends),
};
RUN_TESTS(tests)
