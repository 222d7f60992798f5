/* Channels: what goes in comes out, once and in order; who waits, who is woken, and what ends a wait; what a task, a
   stop, a limit, the end of a thread, a fork and a refusal do to that. */
#include "support.h"
#if HAVE_FORK
#include "support/children.h"
#endif

static tpool_channel *channel_as(tpool_channel_config config) {
    tpool_channel *channel = NULL;
    assert_status(TPOOL_OK, tpool_channel_create(&channel, &config));
    assert_non_null(channel);
    return channel;
}
static tpool_channel *numbers(size_t capacity) {
    return channel_as((tpool_channel_config){ .capacity = capacity, .item_size = sizeof(int) });
}
static tpool_status put(tpool_channel *channel, int number, int64_t limit) {
    return tpool_channel_send(channel, &number, limit);
}
static void put_now(tpool_channel *channel, int number) { assert_status(TPOOL_OK, put(channel, number, 0)); }
/* -1: nothing has come. */
static int got(tpool_channel *channel, int64_t limit) {
    int number = -1;
    tpool_status status = tpool_channel_receive(channel, &number, limit);
    if (status != TPOOL_OK) assert_int_equal(-1, number); /* nothing is written then */
    return number;
}
static void end_channel(tpool_channel *channel) { assert_status(TPOOL_OK, tpool_channel_destroy(channel)); }

/* A call of another thread or of a task, and what it has come to. */
typedef struct caller {
    tpool_channel *channel;
    int64_t limit;
    int number; /* sent, or received */
    background thread;
    atomic_int system_number; /* of the thread that runs the task */
    tpool_status status;
} caller;
static tpool_status sends(void *context) {
    caller *c = context;
    return put(c->channel, c->number, c->limit);
}
static tpool_status receives(void *context) {
    caller *c = context;
    c->number = -1;
    return tpool_channel_receive(c->channel, &c->number, c->limit);
}
static void *sends_in_task(void *arg) {
    caller *c = arg;
    atomic_store(&c->system_number, system_thread());
    c->status = sends(c);
    return arg;
}
static void *receives_in_task(void *arg) {
    caller *c = arg;
    atomic_store(&c->system_number, system_thread());
    c->status = receives(c);
    return arg;
}
static caller *begin_to_receive(caller *c, tpool_channel *channel, int64_t limit) {
    *c = (caller){ .channel = channel, .limit = limit };
    background_start(&c->thread, receives, c);
    background_await_block(&c->thread);
    return c;
}
static caller *begin_to_send(caller *c, tpool_channel *channel, int number, int64_t limit) {
    *c = (caller){ .channel = channel, .limit = limit, .number = number };
    background_start(&c->thread, sends, c);
    background_await_block(&c->thread);
    return c;
}
#define ENDS_AS(expected, caller) assert_status(expected, background_join(&(caller)->thread))

/* ---- One thread ---- */

static void first_in_is_first_out_round_and_round(void **state) {
    (void)state;
    for (size_t capacity = 1; capacity <= 9; capacity++) {
        tpool_channel *channel = numbers(capacity);
        int in = 0, out = 0;
        for (size_t lead = 1; lead <= capacity; lead++) { /* wraps around with each number of items inside */
            for (int i = 0; i < 50; i++) {
                while (in - out < (int)lead) put_now(channel, in++);
                assert_int_equal(lead, tpool_channel_count(channel));
                assert_int_equal(out, got(channel, 0));
                out++;
            }
        }
        while (out < in) assert_int_equal(out++, got(channel, 0));
        assert_int_equal(0, tpool_channel_count(channel));
        end_channel(channel);
    }
}

static void full_and_empty_time_out(void **state) {
    (void)state;
    tpool_channel *channel = numbers(2);
    assert_int_equal(-1, got(channel, 0));
    assert_int_equal(-1, got(channel, -3));
    put_now(channel, 1);
    put_now(channel, 2);
    assert_status(TPOOL_TIMEOUT, put(channel, 3, 0));
    int64_t began = tpool_now();
    assert_status(TPOOL_TIMEOUT, put(channel, 3, TPOOL_MS(20)));
    assert_true(tpool_now() - began >= TPOOL_MS(20));
    assert_int_equal(2, tpool_channel_count(channel));
    assert_int_equal(1, got(channel, LIMIT));
    assert_int_equal(2, got(channel, LIMIT));
    began = tpool_now();
    assert_int_equal(-1, got(channel, TPOOL_MS(20)));
    assert_true(tpool_now() - began >= TPOOL_MS(20));
    end_channel(channel);
}

static void the_default_is_one_place_for_a_pointer(void **state) {
    (void)state;
    tpool_channel *channels[2] = { channel_as((tpool_channel_config){ 0 }), NULL };
    assert_status(TPOOL_OK, tpool_channel_create(&channels[1], NULL));
    for (int i = 0; i < 2; i++) {
        void *item = &channels;
        assert_status(TPOOL_TIMEOUT, tpool_channel_receive(channels[i], &item, 0));
        assert_null(item);
        assert_status(TPOOL_OK, tpool_channel_send(channels[i], &item, 0));
        assert_status(TPOOL_TIMEOUT, tpool_channel_send(channels[i], &item, 0));
        assert_status(TPOOL_OK, tpool_channel_receive(channels[i], &item, 0));
        assert_ptr_equal(&item, item);
        assert_status(TPOOL_OK, tpool_channel_send(channels[i], NULL, 0)); /* a pointer like any other */
        assert_status(TPOOL_OK, tpool_channel_receive(channels[i], &item, 0));
        assert_null(item);
        end_channel(channels[i]);
    }
}

static void items_may_have_any_size(void **state) {
    (void)state;
    static const size_t sizes[] = { 1, 2, 3, 5, 7, 8, 9, 13, 24, 64, 65, 1000, 100001 };
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        size_t size = sizes[s];
        unsigned char *item = malloc(size + 2), *copy = malloc(size + 2);
        tpool_channel *channel = channel_as((tpool_channel_config){ .capacity = 3, .item_size = size });
        for (unsigned n = 0; n < 20; n++) {
            for (unsigned k = 0; k < 2; k++) {
                memset(item, (int)(n * 2 + k + 1), size + 2);
                assert_status(TPOOL_OK, tpool_channel_send(channel, item + 1, 0));
            }
            for (unsigned k = 0; k < 2; k++) {
                memset(item, (int)(n * 2 + k + 1), size + 2);
                memset(copy, 0xEE, size + 2);
                assert_status(TPOOL_OK, tpool_channel_receive(channel, copy + 1, 0));
                assert_memory_equal(item + 1, copy + 1, size);
                assert_true(copy[0] == 0xEE && copy[size + 1] == 0xEE);
            }
        }
        end_channel(channel);
        free(item);
        free(copy);
    }
}

static void bad_arguments_are_refused(void **state) {
    (void)state;
    tpool_channel *channel = (tpool_channel *)(void *)&state;
    tpool *pool = new_pool(1);
    int number = 7;
    assert_status(TPOOL_INVALID, tpool_channel_create(NULL, NULL));
    assert_status(TPOOL_INVALID, tpool_channel_create(&channel, &(tpool_channel_config){ .shared_with = pool }));
    assert_null(channel);
    static const tpool_channel_config too_large[] = { { .capacity = SIZE_MAX },
                                                      { .capacity = SIZE_MAX / 4 },
                                                      { .item_size = SIZE_MAX },
                                                      { .capacity = SIZE_MAX / 8, .item_size = 8 },
                                                      { .capacity = (size_t)1 << (sizeof(size_t) * 4),
                                                        .item_size = (size_t)1 << (sizeof(size_t) * 4) } };
    for (size_t i = 0; i < sizeof too_large / sizeof *too_large; i++) {
        channel = (tpool_channel *)(void *)&state;
        assert_status(TPOOL_NO_MEMORY, tpool_channel_create(&channel, &too_large[i]));
        assert_null(channel);
    }
    assert_status(TPOOL_INVALID, put(NULL, 1, 0));
    assert_status(TPOOL_INVALID, tpool_channel_receive(NULL, &number, 0));
    assert_int_equal(7, number);
    assert_status(TPOOL_INVALID, tpool_channel_close(NULL));
    assert_int_equal(0, tpool_channel_count(NULL));
    assert_status(TPOOL_OK, tpool_channel_destroy(NULL));
    channel = numbers(1);
    assert_status(TPOOL_INVALID, tpool_channel_send(channel, NULL, 0));
    assert_status(TPOOL_INVALID, tpool_channel_receive(channel, NULL, 0));
    end_channel(channel);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Close ---- */

static void a_closed_channel_is_drained_then_ends_for_ever(void **state) {
    (void)state;
    tpool_channel *channel = numbers(4);
    int number;
    for (int i = 0; i < 3; i++) put_now(channel, i);
    assert_status(TPOOL_OK, tpool_channel_close(channel));
    assert_status(TPOOL_SHUTDOWN, put(channel, 3, 0));
    assert_status(TPOOL_SHUTDOWN, put(channel, 3, TPOOL_FOREVER));
    assert_int_equal(3, tpool_channel_count(channel));
    for (int i = 0; i < 3; i++) assert_int_equal(i, got(channel, i % 2 ? TPOOL_FOREVER : 0));
    for (int i = 0; i < 3; i++) {
        assert_status(TPOOL_END, tpool_channel_receive(channel, &number, i ? TPOOL_FOREVER : 0));
        assert_status(TPOOL_OK, tpool_channel_close(channel));
        assert_status(TPOOL_SHUTDOWN, put(channel, 3, 0));
    }
    end_channel(channel);
}

static void a_closed_full_channel_takes_no_sender_in_line(void **state) {
    (void)state;
    tpool_channel *channel = numbers(1);
    caller senders[2];
    int number;
    put_now(channel, 0);
    for (int i = 0; i < 2; i++) begin_to_send(&senders[i], channel, i + 1, TPOOL_FOREVER);
    assert_status(TPOOL_OK, tpool_channel_close(channel));
    assert_int_equal(0, got(channel, 0));
    assert_status(TPOOL_END, tpool_channel_receive(channel, &number, 0));
    for (int i = 0; i < 2; i++) ENDS_AS(TPOOL_SHUTDOWN, &senders[i]);
    end_channel(channel);
}

static void close_wakes_all_on_both_sides(void **state) {
    (void)state;
    enum { WAITERS = 6 };
    caller waiters[WAITERS];
    tpool_channel *channel = numbers(2);
    for (int i = 0; i < WAITERS; i++) begin_to_receive(&waiters[i], channel, i % 2 ? LIMIT : TPOOL_FOREVER);
    assert_status(TPOOL_OK, tpool_channel_close(channel));
    for (int i = 0; i < WAITERS; i++) {
        ENDS_AS(TPOOL_END, &waiters[i]);
        assert_int_equal(-1, waiters[i].number);
    }
    end_channel(channel);
    channel = numbers(2);
    put_now(channel, 8);
    put_now(channel, 9);
    for (int i = 0; i < WAITERS; i++) begin_to_send(&waiters[i], channel, i, i % 2 ? LIMIT : TPOOL_FOREVER);
    assert_status(TPOOL_OK, tpool_channel_close(channel));
    for (int i = 0; i < WAITERS; i++) ENDS_AS(TPOOL_SHUTDOWN, &waiters[i]);
    assert_int_equal(2, tpool_channel_count(channel));
    end_channel(channel);
}

/* ---- Who comes first ---- */

static void the_receiver_that_waits_longest_gets_the_item(void **state) {
    (void)state;
    enum { WAITERS = 8 };
    caller waiters[WAITERS];
    tpool_channel *channel = numbers(3);
    for (int i = 0; i < WAITERS; i++) begin_to_receive(&waiters[i], channel, i % 2 ? LIMIT : TPOOL_FOREVER);
    for (int i = 0; i < WAITERS; i++) put_now(channel, i); /* more than the channel has places for */
    assert_int_equal(0, tpool_channel_count(channel));
    assert_int_equal(-1, got(channel, 0)); /* they are theirs, even before they wake */
    for (int i = 0; i < WAITERS; i++) {
        ENDS_AS(TPOOL_OK, &waiters[i]);
        assert_int_equal(i, waiters[i].number);
    }
    end_channel(channel);
}

static void the_sender_that_waits_longest_gets_the_place(void **state) {
    (void)state;
    enum { WAITERS = 8 };
    caller waiters[WAITERS];
    tpool_channel *channel = numbers(2);
    put_now(channel, 0);
    put_now(channel, 1);
    for (int i = 0; i < WAITERS; i++) begin_to_send(&waiters[i], channel, i + 2, i % 2 ? LIMIT : TPOOL_FOREVER);
    for (int i = 0; i < WAITERS; i++) {
        assert_int_equal(i, got(channel, 0));
        assert_status(TPOOL_TIMEOUT, put(channel, 99, 0)); /* the place is taken, even before its sender wakes */
        ENDS_AS(TPOOL_OK, &waiters[i]);
    }
    assert_int_equal(WAITERS, got(channel, 0));
    put_now(channel, WAITERS + 2);
    assert_int_equal(WAITERS + 1, got(channel, 0));
    assert_int_equal(WAITERS + 2, got(channel, 0));
    end_channel(channel);
}

static void one_that_gives_up_leaves_the_line_to_the_others(void **state) {
    (void)state;
    enum { WAITERS = 5 };
    caller waiters[WAITERS];
    for (int sending = 0; sending < 2; sending++) {
        tpool_channel *channel = numbers(1);
        if (sending) put_now(channel, 9);
        for (int i = 0; i < WAITERS; i++) { /* the first, one in the middle and the last give up */
            int64_t limit = i % 2 ? TPOOL_FOREVER : TPOOL_MS(1500);
            if (sending) begin_to_send(&waiters[i], channel, i, limit);
            else begin_to_receive(&waiters[i], channel, limit);
        }
        for (int i = 0; i < WAITERS; i += 2) ENDS_AS(TPOOL_TIMEOUT, &waiters[i]);
        caller late;
        if (sending) begin_to_send(&late, channel, 7, TPOOL_FOREVER);
        else begin_to_receive(&late, channel, TPOOL_FOREVER);
        if (sending) assert_int_equal(9, got(channel, 0));
        for (int i = 1; i < WAITERS; i += 2) {
            if (sending) assert_int_equal(i, got(channel, LIMIT));
            else put_now(channel, i);
        }
        if (sending) assert_int_equal(7, got(channel, LIMIT));
        else put_now(channel, 7);
        for (int i = 1; i < WAITERS; i += 2) {
            ENDS_AS(TPOOL_OK, &waiters[i]);
            assert_int_equal(i, waiters[i].number);
        }
        ENDS_AS(TPOOL_OK, &late);
        assert_int_equal(7, late.number);
        end_channel(channel);
    }
}

/* ---- Nothing is lost, nothing comes twice ---- */

static tpool_channel *there, *back;
static tpool_status answers(void *context) {
    int number;
    tpool_status status;
    (void)context;
    while ((status = tpool_channel_receive(there, &number, LIMIT)) == TPOOL_OK)
        if (put(back, number + 1, LIMIT) != TPOOL_OK) return TPOOL_FAILED;
    return status;
}
static void two_pass_a_number_to_and_fro(void **state) {
    (void)state;
    background b;
    there = numbers(1);
    back = numbers(1);
    background_start(&b, answers, NULL);
    for (int number = 0; number < COUNT(20000);) {
        assert_status(TPOOL_OK, put(there, number, LIMIT));
        assert_int_equal(number + 1, got(back, LIMIT));
        number++;
    }
    assert_status(TPOOL_OK, tpool_channel_close(there));
    assert_status(TPOOL_END, background_join(&b));
    end_channel(there);
    end_channel(back);
}

enum { PRODUCERS = 4, CONSUMERS = 4 };
typedef struct parcel {
    int producer, number;
} parcel;
typedef struct crowd {
    tpool_channel *channel;
    int each, next_producer;
    bool impatient;
    atomic_int producers_left, received, seen[PRODUCERS];
    char *taken;
} crowd;
typedef struct member {
    crowd *of;
    int number;
} member;
static void *produces(void *arg) {
    const member *m = arg;
    crowd *c = m->of;
    for (int i = 0; i < c->each; i++) {
        parcel p = { m->number, i };
        tpool_status status;
        do status = tpool_channel_send(c->channel, &p, c->impatient ? (i % 5) * TPOOL_US(3) : LIMIT);
        while (c->impatient && status == TPOOL_TIMEOUT);
        if (status != TPOOL_OK) return tpool_raise((int)status, "send");
    }
    if (atomic_fetch_sub(&c->producers_left, 1) == 1 && tpool_channel_close(c->channel) != TPOOL_OK)
        return tpool_raise(1, "close");
    return arg;
}
static void *consumes(void *arg) {
    const member *m = arg;
    crowd *c = m->of;
    int last[PRODUCERS];
    for (int i = 0; i < PRODUCERS; i++) last[i] = -1;
    for (int i = 0;; i++) {
        parcel p;
        tpool_status status = tpool_channel_receive(c->channel, &p, c->impatient ? (i % 5) * TPOOL_US(3) : LIMIT);
        if (status == TPOOL_END) return arg;
        if (c->impatient && status == TPOOL_TIMEOUT) continue;
        if (status != TPOOL_OK) return tpool_raise((int)status, "receive");
        if (p.number <= last[p.producer]) return tpool_raise(1, "out of order");
        last[p.producer] = p.number;
        c->taken[p.producer * c->each + p.number]++; /* only one has it, or TSan tells */
        atomic_fetch_add(&c->received, 1);
    }
}
static void pass_through(size_t capacity, bool impatient) {
    crowd c = { .each = COUNT(20000), .impatient = impatient, .producers_left = PRODUCERS };
    member producers[PRODUCERS], consumers[CONSUMERS];
    tpool_future *futures[PRODUCERS + CONSUMERS];
    tpool *pool = new_pool(PRODUCERS + CONSUMERS);
    c.channel = channel_as((tpool_channel_config){ .capacity = capacity, .item_size = sizeof(parcel) });
    c.taken = calloc((size_t)(c.each * PRODUCERS), 1);
    for (int i = 0; i < PRODUCERS; i++) {
        producers[i] = (member){ &c, i };
        futures[i] = submitted(pool, produces, &producers[i]);
    }
    for (int i = 0; i < CONSUMERS; i++) {
        consumers[i] = (member){ &c, i };
        futures[PRODUCERS + i] = submitted(pool, consumes, &consumers[i]);
    }
    for (int i = 0; i < PRODUCERS + CONSUMERS; i++) assert_status(TPOOL_OK, end_of(futures[i]));
    assert_int_equal(c.each * PRODUCERS, atomic_load(&c.received));
    for (int i = 0; i < c.each * PRODUCERS; i++) assert_int_equal(1, c.taken[i]);
    assert_int_equal(0, tpool_channel_count(c.channel));
    end_channel(c.channel);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    free(c.taken);
}
static void many_producers_and_consumers_keep_each_ones_order(void **state) {
    (void)state;
    pass_through(1, false);
    pass_through(7, false);
    pass_through(1024, false);
}
static void none_is_lost_when_limits_pass_as_items_come(void **state) {
    (void)state;
    pass_through(1, true);
    pass_through(3, true);
}

/* ---- In tasks ---- */

static void producer_and_consumer_share_one_worker(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_channel *channel = numbers(1);
    caller consumer = { .channel = channel, .limit = TPOOL_FOREVER }, producer = consumer;
    producer.number = 42;
    tpool_future *first = submitted(pool, receives_in_task, &consumer); /* waits; a spare worker runs the other */
    tpool_future *second = submitted(pool, sends_in_task, &producer);
    assert_status(TPOOL_OK, end_of(first));
    assert_status(TPOOL_OK, end_of(second));
    assert_int_equal(42, consumer.number);
    put_now(channel, 1);
    first = submitted(pool, sends_in_task, &producer); /* and the other way round */
    second = submitted(pool, receives_in_task, &consumer);
    assert_status(TPOOL_OK, end_of(first));
    assert_status(TPOOL_OK, end_of(second));
    assert_int_equal(1, consumer.number);
    assert_int_equal(42, got(channel, 0));
    assert_true(stats_of(pool).spared > 0);
    end_channel(channel);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* A task that waits in send or receive, or would. */
typedef struct stopped {
    tpool *pool;
    caller caller;
    tpool_future *future;
    gate gate;
} stopped;
static void wait_in_task(stopped *s, tpool_channel *channel, bool sending, int64_t limit, int64_t run_limit) {
    *s = (stopped){ .pool = new_pool(1), .caller = { .channel = channel, .limit = limit }, .gate = GATE_CLOSED };
    s->future = submitted_task(
        s->pool,
        (tpool_task){ .fn = sending ? sends_in_task : receives_in_task, .arg = &s->caller, .run_limit_ns = run_limit });
    await_thread_asleep(&s->caller.system_number);
}
static void end_wait(stopped *s, tpool_status expected) {
    assert_status(TPOOL_OK, end_of(s->future));
    assert_status(expected, s->caller.status);
    assert_status(TPOOL_OK, tpool_destroy(s->pool));
}

static void a_stop_ends_the_wait(void **state) {
    (void)state;
    stopped s;
    for (int sending = 0; sending < 2; sending++) {
        for (int limited = 0; limited < 2; limited++) {
            tpool_channel *channel = numbers(1);
            if (sending) put_now(channel, 5);
            wait_in_task(&s, channel, sending, limited ? LIMIT : TPOOL_FOREVER, 0);
            tpool_future_request_stop(s.future);
            end_wait(&s, TPOOL_CANCELLED);
            /* it is in no line any more, and nothing was sent or received */
            if (sending) assert_int_equal(5, got(channel, 0));
            put_now(channel, 6);
            assert_int_equal(6, got(channel, 0));
            assert_int_equal(-1, got(channel, 0));
            end_channel(channel);
        }
    }
}
static void a_shutdown_that_stops_ends_the_wait(void **state) {
    (void)state;
    stopped s;
    tpool_channel *channel = numbers(1);
    wait_in_task(&s, channel, false, TPOOL_FOREVER, 0);
    assert_status(TPOOL_OK, tpool_shutdown(s.pool, TPOOL_STOP_RUNNING | TPOOL_WAIT));
    end_wait(&s, TPOOL_CANCELLED);
    end_channel(channel);
}
static void a_cancel_of_its_group_ends_the_wait(void **state) {
    (void)state;
    for (int sending = 0; sending < 2; sending++) {
        tpool *pool = new_pool(1);
        tpool_group *group = NULL;
        tpool_channel *channel = numbers(1);
        caller c = { .channel = channel, .limit = TPOOL_FOREVER, .number = 5 };
        if (sending) put_now(channel, 4);
        assert_status(TPOOL_OK, tpool_group_create(&group, NULL));
        tpool_task task = { .fn = sending ? sends_in_task : receives_in_task, .arg = &c, .group = group };
        tpool_future *future = submitted_task(pool, task);
        await_thread_asleep(&c.system_number);
        assert_status(TPOOL_OK, tpool_group_cancel(group));
        assert_status(TPOOL_OK, end_of(future));
        assert_status(TPOOL_OK, tpool_group_destroy(group)); /* which may wake it, too */
        assert_status(TPOOL_CANCELLED, c.status);
        assert_int_equal(sending ? 4 : -1, got(channel, 0));
        assert_int_equal(-1, got(channel, 0));
        end_channel(channel);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}
static void a_run_limit_ends_the_wait(void **state) {
    (void)state;
    stopped s;
    tpool_channel *channel = numbers(1);
    int64_t began = tpool_now();
    wait_in_task(&s, channel, false, TPOOL_FOREVER, TPOOL_MS(300));
    end_wait(&s, TPOOL_CANCELLED);
    assert_true(tpool_now() - began >= TPOOL_MS(300));
    end_channel(channel);
}
static void a_stop_of_one_task_leaves_the_others_waiting(void **state) {
    (void)state;
    stopped s, other;
    tpool_channel *channel = numbers(1);
    wait_in_task(&other, channel, false, TPOOL_FOREVER, 0);
    wait_in_task(&s, channel, false, TPOOL_FOREVER, 0);
    tpool_future_request_stop(s.future);
    end_wait(&s, TPOOL_CANCELLED);
    put_now(channel, 3);
    end_wait(&other, TPOOL_OK);
    assert_int_equal(3, other.caller.number);
    end_channel(channel);
}
static void *receives_as_item(void *item, void *context) {
    (void)context;
    return receives_in_task(item);
}
static void the_close_of_a_map_ends_the_waits_of_its_items(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_channel *channel = numbers(1);
    caller c = { .channel = channel, .limit = TPOOL_FOREVER };
    tpool_map_iter *iter = NULL;
    tpool_map_spec spec = { .fn = receives_as_item, .items = &c, .count = 1, .stride = sizeof c };
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    await_thread_asleep(&c.system_number);
    tpool_map_close(iter); /* returns when no item runs any more */
    assert_status(TPOOL_CANCELLED, c.status);
    end_channel(channel);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void *waits_in_job(void *arg) { return receives_in_task(arg); }
static void *forks_and_waits(void *arg) {
    tpool_job job;
    tpool_fork(&job, waits_in_job, arg);
    AWAIT_THEFT(atomic_load(&((caller *)arg)->system_number) != 0);
    return tpool_join(&job);
}
static void a_stop_reaches_the_wait_of_a_job(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    tpool_channel *channel = numbers(1);
    caller c = { .channel = channel, .limit = TPOOL_FOREVER };
    tpool_future *future = submitted(pool, forks_and_waits, &c);
    await_thread_asleep(&c.system_number);
    tpool_future_request_stop(future);
    assert_status(TPOOL_OK, end_of(future));
    assert_status(TPOOL_CANCELLED, c.status);
    end_channel(channel);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* In a task that has been asked to stop: what can be done at once is done, and nothing waits. */
static void *goes_on_though_stopped(void *arg) {
    stopped *s = arg;
    gate_pass(&s->gate);
    tpool_channel *channel = s->caller.channel;
    int number = -1;
    if (!tpool_stop_requested()) return tpool_raise(1, "not stopped");
    for (int i = 0; i < 2; i++) {
        int64_t limit = i ? TPOOL_FOREVER : 0;
        if (tpool_channel_receive(channel, &number, limit) != TPOOL_CANCELLED) return tpool_raise(2, "empty");
        if (put(channel, 4, limit) != TPOOL_OK) return tpool_raise(3, "room");
        if (put(channel, 5, limit) != TPOOL_CANCELLED) return tpool_raise(4, "full");
        if (tpool_channel_receive(channel, &number, limit) != TPOOL_OK) return tpool_raise(5, "item");
        if (number != 4) return tpool_raise(6, "another item");
    }
    if (tpool_channel_close(channel) != TPOOL_OK) return tpool_raise(7, "close");
    if (put(channel, 5, TPOOL_FOREVER) != TPOOL_SHUTDOWN) return tpool_raise(8, "closed");
    if (tpool_channel_receive(channel, &number, TPOOL_FOREVER) != TPOOL_END) return tpool_raise(9, "end");
    return arg;
}
static void a_stopped_task_does_what_needs_no_wait(void **state) {
    (void)state;
    stopped s = { .pool = new_pool(1), .caller = { .channel = numbers(1) }, .gate = GATE_CLOSED };
    s.future = submitted(s.pool, goes_on_though_stopped, &s);
    AWAIT_ARRIVALS(&s.gate, 1);
    tpool_future_request_stop(s.future);
    gate_open(&s.gate);
    assert_status(TPOOL_OK, end_of(s.future));
    assert_status(TPOOL_OK, tpool_destroy(s.pool));
    end_channel(s.caller.channel);
}

/* Stops against items: each task has received one, or none; together with what is left, that is all. */
static void a_stop_as_an_item_comes_loses_none(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    for (int round = 0; round < COUNT(2000); round++) {
        tpool_channel *channel = numbers(1);
        caller c = { .channel = channel, .limit = TPOOL_FOREVER };
        tpool_future *future = submitted(pool, receives_in_task, &c);
        if (round % 3 == 0) EVENTUALLY(atomic_load(&c.system_number));
        caller sender = { .channel = channel, .number = 77 };
        background_start(&sender.thread, sends, &sender);
        tpool_future_request_stop(future);
        ENDS_AS(TPOOL_OK, &sender);
        tpool_status end = end_of(future);
        assert_status(TPOOL_OK, end);
        if (c.status == TPOOL_OK) assert_int_equal(77, c.number);
        else assert_status(TPOOL_CANCELLED, c.status);
        assert_int_equal(c.status == TPOOL_OK ? -1 : 77, got(channel, 0));
        end_channel(channel);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- The end ---- */

static int freed[64], freed_count;
static void free_number(void *item) { freed[freed_count++] = *(int *)item; }
static void free_pointer(void *item) { freed[freed_count++] = (int)(intptr_t)item; }

static void what_is_left_is_freed_once_and_in_order(void **state) {
    (void)state;
    tpool_channel *channel =
        channel_as((tpool_channel_config){ .capacity = 5, .item_size = sizeof(int), .item_free = free_number });
    freed_count = 0;
    for (int i = 0; i < 8; i++) { /* what was received is the receiver's */
        put_now(channel, i);
        if (i >= 3) assert_int_equal(i - 3, got(channel, 0));
    }
    assert_int_equal(0, freed_count);
    end_channel(channel);
    assert_int_equal(3, freed_count);
    for (int i = 0; i < 3; i++) assert_int_equal(5 + i, freed[i]);
    channel = channel_as((tpool_channel_config){ .capacity = 3, .item_free = free_pointer });
    freed_count = 0;
    for (intptr_t i = 0; i < 3; i++) assert_status(TPOOL_OK, tpool_channel_send(channel, (void *)i, 0));
    assert_status(TPOOL_OK, tpool_channel_close(channel));
    end_channel(channel);
    assert_int_equal(3, freed_count);
    for (int i = 0; i < 3; i++) assert_int_equal(i, freed[i]);
    end_channel(channel_as((tpool_channel_config){ .capacity = 3 })); /* nothing left, nothing to free it with */
    channel = channel_as((tpool_channel_config){ .capacity = 3 });
    assert_status(TPOOL_OK, tpool_channel_send(channel, &channel, 0));
    end_channel(channel);
}

static void a_channel_that_is_awaited_is_not_destroyed(void **state) {
    (void)state;
    tpool_channel *channel = numbers(1);
    caller c;
    begin_to_receive(&c, channel, TPOOL_FOREVER);
    assert_status(TPOOL_INVALID_STATE, tpool_channel_destroy(channel));
    put_now(channel, 1);
    ENDS_AS(TPOOL_OK, &c);
    put_now(channel, 2);
    begin_to_send(&c, channel, 3, TPOOL_FOREVER);
    assert_status(TPOOL_INVALID_STATE, tpool_channel_destroy(channel));
    assert_int_equal(2, got(channel, 0));
    ENDS_AS(TPOOL_OK, &c);
    end_channel(channel);
}

static void end_thread_at_second(void *item) {
    freed[freed_count++] = (int)(intptr_t)item;
    if (freed_count == 2) pthread_exit(NULL);
}
static void *destroys(void *arg) {
    (void)tpool_channel_destroy(arg);
    return NULL;
}
static void what_is_left_is_freed_though_the_thread_ends(void **state) {
    (void)state;
    tpool_channel *channel = channel_as((tpool_channel_config){ .capacity = 4, .item_free = end_thread_at_second });
    freed_count = 0;
    for (intptr_t i = 1; i <= 4; i++) assert_status(TPOOL_OK, tpool_channel_send(channel, (void *)i, 0));
    in_own_thread(destroys, channel);
    assert_int_equal(4, freed_count);
    for (int i = 0; i < 4; i++) assert_int_equal(i + 1, freed[i]);
}

/* A wait runs what the thread has listed (a callback that was held back); if that ends the thread, nobody stands in
   line for it. */
static tpool_channel *empty;
static void ends_the_thread(tpool_future *future, void *context) {
    (void)future;
    (void)context;
    pthread_exit(NULL);
}
static void completes_and_waits(tpool_future *future, void *context) {
    int number;
    (void)future;
    (void)tpool_future_set_result(context, NULL); /* its callback comes when this one returns, or waits */
    tpool_status status = tpool_channel_receive(empty, &number, TPOOL_FOREVER);
    freed_count = -1 - (int)status; /* not reached */
}
static void *completes_first(void *arg) {
    (void)tpool_future_set_result(arg, NULL);
    return NULL;
}
static void a_thread_that_ends_within_the_wait_leaves_no_place_in_line(void **state) {
    (void)state;
    tpool_future *first, *second;
    empty = numbers(1);
    freed_count = 0;
    assert_status(TPOOL_OK, tpool_future_create(&first));
    assert_status(TPOOL_OK, tpool_future_create(&second));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(first, completes_and_waits, second));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(second, ends_the_thread, NULL));
    in_own_thread(completes_first, first);
    assert_int_equal(0, freed_count);
    put_now(empty, 1);
    assert_int_equal(1, got(empty, 0));
    end_channel(empty);
    tpool_future_release(first);
    tpool_future_release(second);
}

/* ---- A thread that is cancelled, a child of fork, refused threads ---- */

#if HAVE_FORK
static void *waits_while_cancelled(void *arg) {
    caller *c = arg;
    pthread_cancel(pthread_self());
    c->status = receives(c);
    pthread_testcancel();
    return NULL;
}
static void no_call_is_a_cancellation_point(void **state) {
    (void)state;
    caller c = { .channel = numbers(1), .limit = TPOOL_MS(5), .status = TPOOL_FAILED };
    in_own_thread(waits_while_cancelled, &c);
    assert_status(TPOOL_TIMEOUT, c.status);
    end_channel(c.channel);
}

static void the_parents_channel_gives_broken(void *context) {
    tpool_channel **channels = context;
    void *item = context;
    int number = 1;
    CHECK_STATUS(TPOOL_BROKEN, put(channels[0], 1, TPOOL_FOREVER));
    CHECK_STATUS(TPOOL_BROKEN, tpool_channel_receive(channels[0], &number, TPOOL_FOREVER));
    CHECK_STATUS(TPOOL_BROKEN, tpool_channel_receive(channels[1], &item, TPOOL_FOREVER));
    CHECK(!item && number == 1);
    CHECK_STATUS(TPOOL_BROKEN, tpool_channel_close(channels[0]));
    CHECK(tpool_channel_count(channels[0]) == 0);
    CHECK_STATUS(TPOOL_BROKEN, tpool_channel_destroy(channels[0]));
    CHECK(freed_count == 0);
    tpool_channel *own = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_channel_create(&own, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_channel_send(own, context, 0));
    CHECK_STATUS(TPOOL_OK, tpool_channel_receive(own, &item, 0));
    CHECK(item == context);
    CHECK_STATUS(TPOOL_TIMEOUT, tpool_channel_receive(own, &item, TPOOL_MS(2)));
    CHECK_STATUS(TPOOL_OK, tpool_channel_destroy(own));
}
static void in_a_child_of_fork_it_is_the_parents(void **state) {
    (void)state;
    tpool_channel *channels[2] = { channel_as((tpool_channel_config){ .item_size = 4, .item_free = free_number }),
                                   channel_as((tpool_channel_config){ 0 }) };
    caller waiter;
    freed_count = 0;
    put_now(channels[0], 3);
    begin_to_send(&waiter, channels[0], 4, TPOOL_FOREVER); /* a place in line that the child does not have */
    in_child(the_parents_channel_gives_broken, channels);
    assert_int_equal(3, got(channels[0], 0));
    ENDS_AS(TPOOL_OK, &waiter);
    end_channel(channels[0]);
    end_channel(channels[1]);
    assert_int_equal(1, freed_count);
}
static void *stops_in_child(void *arg) {
    void *item;
    while (!tpool_stop_requested()) sleep_ms(1);
    return tpool_channel_receive(arg, &item, TPOOL_FOREVER) == TPOOL_CANCELLED ? arg : NULL;
}
static void a_child_of_a_stopped_wait_has_stops_of_its_own(void *context) {
    (void)context;
    tpool *pool = new_pool(1);
    tpool_channel *own = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_channel_create(&own, NULL));
    tpool_future *future = submitted(pool, stops_in_child, own);
    tpool_future_request_stop(future);
    CHECK(take(future) == own);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    CHECK_STATUS(TPOOL_OK, tpool_channel_destroy(own));
}
static void stops_in_a_child_know_nothing_of_the_parents_waits(void **state) {
    (void)state;
    if (!CHILD_MAY_START_THREADS) skip();
    stopped s;
    tpool_channel *channel = numbers(1);
    wait_in_task(&s, channel, false, TPOOL_FOREVER, 0);
    in_child(a_child_of_a_stopped_wait_has_stops_of_its_own, NULL);
    put_now(channel, 1);
    end_wait(&s, TPOOL_OK);
    end_channel(channel);
}
#endif

static const struct CMUnitTest tests[] = {
    TEST(first_in_is_first_out_round_and_round),
    TEST(full_and_empty_time_out),
    TEST(the_default_is_one_place_for_a_pointer),
    TEST(items_may_have_any_size),
    TEST(bad_arguments_are_refused),
    TEST(a_closed_channel_is_drained_then_ends_for_ever),
    TEST(a_closed_full_channel_takes_no_sender_in_line),
    TEST(close_wakes_all_on_both_sides),
    TEST(the_receiver_that_waits_longest_gets_the_item),
    TEST(the_sender_that_waits_longest_gets_the_place),
    TEST(one_that_gives_up_leaves_the_line_to_the_others),
    TEST(two_pass_a_number_to_and_fro),
    TEST(many_producers_and_consumers_keep_each_ones_order),
    TEST(none_is_lost_when_limits_pass_as_items_come),
    TEST(producer_and_consumer_share_one_worker),
    TEST(a_stop_ends_the_wait),
    TEST(a_shutdown_that_stops_ends_the_wait),
    TEST(a_cancel_of_its_group_ends_the_wait),
    TEST(a_run_limit_ends_the_wait),
    TEST(a_stop_of_one_task_leaves_the_others_waiting),
    TEST(the_close_of_a_map_ends_the_waits_of_its_items),
    TEST(a_stop_reaches_the_wait_of_a_job),
    TEST(a_stopped_task_does_what_needs_no_wait),
    TEST(a_stop_as_an_item_comes_loses_none),
    TEST(what_is_left_is_freed_once_and_in_order),
    TEST(a_channel_that_is_awaited_is_not_destroyed),
    TEST(what_is_left_is_freed_though_the_thread_ends),
    TEST(a_thread_that_ends_within_the_wait_leaves_no_place_in_line),
#if HAVE_FORK
    TEST(no_call_is_a_cancellation_point),
    TEST(in_a_child_of_fork_it_is_the_parents),
    TEST(stops_in_a_child_know_nothing_of_the_parents_waits),
#endif
};
RUN_TESTS(tests)
