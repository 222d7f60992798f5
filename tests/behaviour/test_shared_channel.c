/* Channels that processes share: what goes in comes out, once, whole and in order, whoever is killed at whatever
   instant; nobody waits for the dead, no wake is lost; what a worker writes over the channel harms nobody's memory.
   test_shared_channel [KILLS] */
#include "support/children.h"
#if defined(__linux__) && (defined(__x86_64__) || defined(__i386__))
#include <sys/ptrace.h>
#define CAN_STEP (!SLOW_TOOL)
#else
#define CAN_STEP 0
#endif

enum { MIB = 1 << 20, WORKERS = 3, MOST = 1 << 16 };
static int kills = 200, stride = 3,
           far = 12; /* a process is killed at every so many instructions; where it takes long */

/* An item, which shows whether it is whole. */
typedef struct letter {
    int from, number;
    unsigned char body[56];
} letter;
static letter letter_of(int from, int number) {
    letter l = { .from = from, .number = number };
    memset(l.body, (from * 31 + number) & 0xff, sizeof l.body);
    return l;
}
static bool is_whole(const letter *l) {
    letter expected = letter_of(l->from, l->number);
    return memcmp(l, &expected, sizeof *l) == 0;
}

/* What a test shares with its workers. */
typedef struct shared {
    tpool_shared_mutex mutex;
    shared_gate gate;
    atomic_int stage, begun, done, bad;
    atomic_int tried[WORKERS]; /* by each sender: the number that it was about to send */
    unsigned char sent[WORKERS][MOST];
    atomic_uchar got[MOST];
} shared;
static tpool *pool;
static shared *all;
static int set_up(void **state) {
    (void)state;
    pool = process_pool_as((tpool_config){ .max_workers = WORKERS, .shared_size = 4 * MIB });
    all = tpool_shared_alloc(pool, sizeof *all);
    return all ? 0 : 1;
}
static int tear_down(void **state) {
    (void)state;
    (void)tpool_kill_workers(pool);
    return tpool_destroy(pool) != TPOOL_OK;
}

static tpool_channel *channel_as(tpool_channel_config config) {
    tpool_channel *channel = NULL;
    config.shared_with = pool;
    assert_status(TPOOL_OK, tpool_channel_create(&channel, &config));
    assert_non_null(channel);
    return channel;
}
static tpool_channel *letters(size_t capacity) {
    return channel_as((tpool_channel_config){ .capacity = capacity, .item_size = sizeof(letter) });
}
static void end_channel(tpool_channel *channel) { assert_status(TPOOL_OK, tpool_channel_destroy(channel)); }
static tpool_status post(tpool_channel *channel, int from, int number, int64_t limit) {
    letter l = letter_of(from, number);
    return tpool_channel_send(channel, &l, limit);
}
static void posted(tpool_channel *channel, int from, int number) {
    assert_status(TPOOL_OK, post(channel, from, number, LIMIT));
}
/* The number of the next letter; -1: none. */
static int fetched(tpool_channel *channel, int64_t limit) {
    letter l;
    tpool_status status = tpool_channel_receive(channel, &l, limit);
    if (status != TPOOL_OK) return -1;
    assert_true(is_whole(&l));
    return l.number;
}

/* What a worker does. */
typedef struct order {
    shared *all;
    tpool_channel *channel;
    int64_t limit;
    int from, first, count;
} order;
static tpool_future *ordered(tpool_fn fn, order o) {
    tpool_future *future = NULL;
    o.all = all;
    assert_status(TPOOL_OK, tpool_submit_copy(pool, fn, &o, sizeof o, &future));
    return future;
}
static tpool_status status_of(tpool_future *future) { return (tpool_status)(intptr_t)take(future); }
#define ENDS(status) return (void *)(intptr_t)(status)

static void *sends(void *arg) {
    const order *o = arg;
    atomic_fetch_add(&o->all->begun, 1);
    for (int i = 0; i < o->count; i++) {
        tpool_status status = post(o->channel, o->from, o->first + i, o->limit);
        if (status != TPOOL_OK) ENDS(status);
    }
    ENDS(TPOOL_OK);
}
/* The number of a letter, or -1. */
static void *receives_one(void *arg) {
    const order *o = arg;
    letter l;
    atomic_fetch_add(&o->all->begun, 1);
    tpool_status status = tpool_channel_receive(o->channel, &l, o->limit);
    return (void *)(intptr_t)(status == TPOOL_OK && is_whole(&l) ? l.number : -(int)status);
}
static void *closes(void *arg) { ENDS(tpool_channel_close(((const order *)arg)->channel)); }
static void *destroys(void *arg) { ENDS(tpool_channel_destroy(((const order *)arg)->channel)); }
static void *counts(void *arg) { return (void *)(intptr_t)tpool_channel_count(((const order *)arg)->channel); }
static void await_begun(int n) { EVENTUALLY(atomic_load(&all->begun) >= n); }

/* ---- In one process ---- */

static void first_in_is_first_out_round_and_round(void **s) {
    (void)s;
    for (size_t capacity = 1; capacity <= 9; capacity++) {
        tpool_channel *channel = letters(capacity);
        int in = 0, out = 0;
        for (size_t lead = 1; lead <= capacity; lead++) {
            for (int i = 0; i < 50; i++) {
                while (in - out < (int)lead) posted(channel, 1, in++);
                assert_int_equal(lead, tpool_channel_count(channel));
                assert_int_equal(out, fetched(channel, 0));
                out++;
            }
        }
        while (out < in) assert_int_equal(out++, fetched(channel, 0));
        assert_int_equal(0, tpool_channel_count(channel));
        assert_status(TPOOL_TIMEOUT, tpool_channel_receive(channel, &(letter){ 0 }, TPOOL_MS(10)));
        for (size_t i = 0; i < capacity; i++) posted(channel, 1, 1);
        assert_status(TPOOL_TIMEOUT, post(channel, 1, 1, 0));
        assert_status(TPOOL_TIMEOUT, post(channel, 1, 1, TPOOL_MS(10)));
        end_channel(channel);
    }
}
static void odd_sizes_and_pointers(void **s) {
    (void)s;
    static const size_t sizes[] = { 1, 3, 7, 1000, 70000 };
    static unsigned char in[70000], out[70000];
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        tpool_channel *channel = channel_as((tpool_channel_config){ .capacity = 3, .item_size = sizes[i] });
        for (int n = 0; n < 10; n++) {
            memset(in, n + 1, sizeof in);
            memset(out, 0, sizeof out);
            assert_status(TPOOL_OK, tpool_channel_send(channel, in, 0));
            assert_status(TPOOL_OK, tpool_channel_receive(channel, out, 0));
            assert_memory_equal(in, out, sizes[i]);
            if (sizes[i] < sizeof out) assert_int_equal(0, out[sizes[i]]);
        }
        assert_status(TPOOL_INVALID, tpool_channel_send(channel, NULL, 0));
        assert_status(TPOOL_INVALID, tpool_channel_receive(channel, NULL, 0));
        end_channel(channel);
    }
    tpool_channel *channel = channel_as((tpool_channel_config){ 0 });
    void *item = &item;
    assert_status(TPOOL_TIMEOUT, tpool_channel_receive(channel, &item, 0));
    assert_null(item);
    assert_status(TPOOL_OK, tpool_channel_send(channel, all, 0));
    assert_status(TPOOL_TIMEOUT, tpool_channel_send(channel, NULL, 0));
    assert_status(TPOOL_OK, tpool_channel_receive(channel, &item, 0));
    assert_ptr_equal(all, item);
    end_channel(channel);
}
static int freed_count;
static void free_letter(void *item) {
    assert_true(is_whole(item));
    assert_int_equal(freed_count++, ((letter *)item)->number);
}
static void what_is_left_is_freed_once(void **s) {
    (void)s;
    tpool_channel *channel =
        channel_as((tpool_channel_config){ .capacity = 5, .item_size = sizeof(letter), .item_free = free_letter });
    freed_count = 0;
    for (int i = -4; i < 0; i++) posted(channel, 1, i);
    for (int i = -4; i < 0; i++) (void)fetched(channel, 0);
    for (int i = 0; i < 4; i++) posted(channel, 1, i);
    end_channel(channel);
    assert_int_equal(4, freed_count);
    assert_int_equal(0, tpool_channel_count(channel)); /* nothing is there any more */
    end_channel(letters(1));
}
static void where_there_is_no_room(void **s) {
    (void)s;
    static tpool_channel *channels[2000];
    tpool *others[] = { new_pool_as((tpool_config){ .max_workers = 1, .shared_size = MIB }), process_pool(1) };
    tpool_channel *channel = (tpool_channel *)(void *)&others;
    for (int i = 0; i < 2; i++) {
        assert_status(TPOOL_INVALID,
                      tpool_channel_create(&channel, &(tpool_channel_config){ .shared_with = others[i] }));
        assert_null(channel);
        assert_status(TPOOL_OK, tpool_destroy(others[i]));
    }
    tpool_channel_config config = { .capacity = 100, .item_size = MIB, .shared_with = pool };
    assert_status(TPOOL_NO_MEMORY, tpool_channel_create(&channel, &config));
    assert_null(channel);
    config.capacity = SIZE_MAX;
    assert_status(TPOOL_NO_MEMORY, tpool_channel_create(&channel, &config));
    config.capacity = 1;
    config.item_size = 1;
    int count = 0;
    while (count < 2000 && tpool_channel_create(&channels[count], &config) == TPOOL_OK) count++;
    assert_true(count >= 500);
    for (int i = 0; i < count; i++) {
        char byte = (char)i;
        assert_status(TPOOL_OK, tpool_channel_send(channels[i], &byte, 0));
    }
    for (int i = 0; i < count; i++) {
        char byte = 0;
        assert_status(TPOOL_OK, tpool_channel_receive(channels[i], &byte, 0));
        assert_int_equal((char)i, byte);
        end_channel(channels[i]);
    }
    for (int i = 0; i < 10; i++) end_channel(channel_as((tpool_channel_config){ .capacity = 3, .item_size = MIB }));
    channel = letters(1);
    posted(channel, 1, 1);
    assert_int_equal(1, fetched(channel, 0));
    end_channel(channel);
}

/* ---- Among processes ---- */

static void a_channel_is_an_argument(void **s) {
    (void)s;
    assert_status(TPOOL_OK, tpool_resize(pool, 1));
    for (int i = 0; i < 3; i++) { /* made before there is a worker, then after, then for that of another server */
        tpool_channel *channel = letters(4);
        assert_status(TPOOL_OK, status_of(ordered(sends, (order){ .channel = channel, .count = 4 })));
        assert_int_equal(4, (int)(intptr_t)take(ordered(counts, (order){ .channel = channel })));
        for (int n = 0; n < 3; n++) assert_int_equal(n, fetched(channel, 0));
        assert_int_equal(3, (int)(intptr_t)take(ordered(receives_one, (order){ .channel = channel })));
        assert_status(TPOOL_INVALID_STATE, status_of(ordered(destroys, (order){ .channel = channel })));
        assert_status(TPOOL_OK, status_of(ordered(closes, (order){ .channel = channel })));
        assert_status(TPOOL_END, tpool_channel_receive(channel, &(letter){ 0 }, 0));
        assert_status(TPOOL_SHUTDOWN, post(channel, 1, 1, 0));
        assert_status(TPOOL_SHUTDOWN, status_of(ordered(sends, (order){ .channel = channel, .count = 1 })));
        end_channel(channel);
        if (i != 1) continue;
        pid_t server = living_server_of(pool);
        assert_int_equal(0, kill(server, SIGKILL));
        (void)other_server_of(pool, server);
    }
}
static void sleepers_are_woken(void **s) {
    (void)s;
    tpool_channel *channel = letters(1);
    for (int i = 0; i < COUNT(50); i++) {
        tpool_future *workers[WORKERS];
        atomic_store(&all->begun, 0);
        for (int j = 0; j < WORKERS; j++)
            workers[j] = ordered(receives_one, (order){ .channel = channel, .limit = LIMIT });
        await_begun(WORKERS);
        if (i % 2) sleep_ms(3); /* they sleep by then, or spin */
        for (int j = 0; j < WORKERS; j++) posted(channel, 0, 1 << (4 * j));
        int sum = 0;
        for (int j = 0; j < WORKERS; j++) sum += (int)(intptr_t)take(workers[j]);
        assert_int_equal(0x111, sum);
        posted(channel, 0, 0); /* full */
        atomic_store(&all->begun, 0);
        for (int j = 0; j < WORKERS; j++)
            workers[j] =
                ordered(sends, (order){ .channel = channel, .limit = LIMIT, .first = 1 << (4 * j), .count = 1 });
        await_begun(WORKERS);
        if (i % 2) sleep_ms(3);
        sum = 0;
        for (int j = 0; j <= WORKERS; j++) sum += fetched(channel, LIMIT);
        assert_int_equal(0x111, sum);
        for (int j = 0; j < WORKERS; j++) assert_status(TPOOL_OK, status_of(workers[j]));
    }
    end_channel(channel);
}
static tpool_status receives_here(void *context) {
    letter l;
    tpool_status status = tpool_channel_receive((tpool_channel *)context, &l, 2 * LIMIT); /* longer than a join waits */
    return status == TPOOL_OK && !is_whole(&l) ? TPOOL_FAILED : status;
}
static tpool_status sends_here(void *context) { return post((tpool_channel *)context, 9, 9, 2 * LIMIT); }
/* Threads in no task look at nothing by themselves. One of them is woken, and passes it on. */
/* Each wakes the next at once: none waits for its own look after 20 ms. Most rounds show it; if others want the CPUs, it
   takes more of them. */
static _Atomic(int64_t) last_returned;
static tpool_status receives_and_notes_when(void *context) {
    tpool_status status = receives_here(context);
    atomic_store(&last_returned, tpool_now());
    return status;
}
static tpool_status sends_and_notes_when(void *context) {
    tpool_status status = sends_here(context);
    atomic_store(&last_returned, tpool_now());
    return status;
}
static void sleepers_wake_each_other(void **s) {
    (void)s;
    enum { LEAD = 5, MOST_ROUNDS = 200 };
    const int64_t limit = TPOOL_MS(10) * (IS_SLOW ? 10 : 1);
    tpool_channel *channel = letters(4);
    for (int full = 0; full < 2; full++) {
        int lead = 0, rounds = 0;
        for (int i = 0; i < 4 * full; i++) posted(channel, 0, i);
        for (; lead < LEAD && rounds < MOST_ROUNDS; rounds++) {
            background threads[3];
            for (int i = 0; i < 3; i++) {
                background_start(&threads[i], full ? sends_and_notes_when : receives_and_notes_when, channel);
                background_await_block(&threads[i]);
            }
            int64_t began = tpool_now();
            letter l;
            for (int i = 0; i < 3; i++) {
                if (full) assert_status(TPOOL_OK, tpool_channel_receive(channel, &l, LIMIT));
                else posted(channel, 0, i);
            }
            for (int i = 0; i < 3; i++) assert_status(TPOOL_OK, background_join(&threads[i]));
            lead += atomic_load(&last_returned) - began < limit ? 1 : -1;
            assert_int_equal(4 * full, tpool_channel_count(channel));
        }
        if (lead < LEAD) fail_msg("full %d: %d of %d rounds took long", full, (rounds - lead) / 2, rounds);
    }
    end_channel(channel);
}
static void close_wakes_all(void **s) {
    (void)s;
    for (int full = 0; full < 2; full++) {
        tpool_channel *channel = letters(1);
        background threads[2];
        tpool_future *workers[WORKERS];
        if (full) posted(channel, 0, 7);
        atomic_store(&all->begun, 0);
        for (int i = 0; i < 2; i++) {
            background_start(&threads[i], full ? sends_here : receives_here, channel);
            background_await_block(&threads[i]);
        }
        for (int i = 0; i < WORKERS - 1; i++)
            workers[i] =
                ordered(full ? sends : receives_one, (order){ .channel = channel, .limit = TPOOL_FOREVER, .count = 1 });
        await_begun(WORKERS - 1);
        sleep_ms(3);
        assert_status(TPOOL_OK, status_of(ordered(closes, (order){ .channel = channel })));
        for (int i = 0; i < 2; i++) assert_status(full ? TPOOL_SHUTDOWN : TPOOL_END, background_join(&threads[i]));
        for (int i = 0; i < WORKERS - 1; i++)
            assert_int_equal(full ? TPOOL_SHUTDOWN : -TPOOL_END, (int)(intptr_t)take(workers[i]));
        if (full) assert_int_equal(7, fetched(channel, 0));
        for (int i = 0; i < 3; i++) assert_status(TPOOL_END, tpool_channel_receive(channel, &(letter){ 0 }, 0));
        end_channel(channel);
    }
}

/* That a thread of the program waits is known; that one of a worker does, is not. */
static void a_channel_that_is_awaited_is_not_destroyed(void **s) {
    (void)s;
    tpool_channel *channel = letters(1);
    background waiter;
    background_start(&waiter, receives_here, channel);
    background_await_block(&waiter);
    assert_status(TPOOL_INVALID_STATE, tpool_channel_destroy(channel));
    posted(channel, 0, 1);
    assert_status(TPOOL_OK, background_join(&waiter));
    posted(channel, 0, 2);
    background_start(&waiter, sends_here, channel);
    background_await_block(&waiter);
    assert_status(TPOOL_INVALID_STATE, tpool_channel_destroy(channel));
    assert_int_equal(2, fetched(channel, 0));
    assert_status(TPOOL_OK, background_join(&waiter));
    end_channel(channel);
}

/* Many senders and receivers, in the program and in workers. */
static void *drains(void *arg) {
    const order *o = arg;
    letter l;
    int last[8] = { 0 };
    for (;;) {
        tpool_status status = tpool_channel_receive(o->channel, &l, LIMIT);
        if (status == TPOOL_END) ENDS(TPOOL_OK);
        if (status != TPOOL_OK) ENDS(status);
        if (!is_whole(&l) || l.number <= last[l.from]) atomic_fetch_add(&o->all->bad, 1);
        last[l.from] = l.number;
        atomic_fetch_add(&o->all->got[l.number], 1);
        atomic_fetch_add(&o->all->done, 1);
    }
}
static tpool_status drains_here(void *context) { return (tpool_status)(intptr_t)drains(context); }
static tpool_status sends_many_here(void *context) { return (tpool_status)(intptr_t)sends(context); }
static void nothing_is_lost_doubled_or_out_of_order(void **s) {
    (void)s;
    SKIP_UNDER_TSAN(); /* it sees no order between threads here that comes about in other processes */
    enum { EACH = COUNT(20000) };
    static const size_t capacities[] = { 1, 7, 1024 };
    for (int i = 0; i < 3; i++) {
        memset((void *)all, 0, sizeof *all);
        tpool_channel *channel = letters(capacities[i]);
        order o = { .all = all, .channel = channel, .limit = LIMIT, .first = 1, .count = EACH }, here = o;
        background sender, receiver;
        tpool_future *workers[3];
        background_start(&receiver, drains_here, &here);
        workers[2] = ordered(drains, o);
        background_start(&sender, sends_many_here, &here);
        for (int j = 0; j < 2; j++) {
            o.from = j + 1;
            workers[j] = ordered(sends, o);
        }
        assert_status(TPOOL_OK, background_join(&sender));
        for (int j = 0; j < 2; j++) assert_status(TPOOL_OK, status_of(workers[j]));
        assert_status(TPOOL_OK, tpool_channel_close(channel));
        assert_status(TPOOL_OK, background_join(&receiver));
        assert_status(TPOOL_OK, status_of(workers[2]));
        assert_int_equal(3 * EACH, atomic_load(&all->done));
        assert_int_equal(0, atomic_load(&all->bad));
        for (int n = 1; n <= EACH; n++) assert_int_equal(3, atomic_load(&all->got[n]));
        end_channel(channel);
    }
}

/* ---- Stops, limits, forks ---- */

typedef struct in_task {
    tpool_channel *channel;
    tpool_status status;
    gate gate;
} in_task;
static void *receives_in_task(void *arg) {
    in_task *t = arg;
    gate_open(&t->gate);
    t->status = receives_here(t->channel);
    return NULL;
}
static void a_stop_ends_the_wait(void **s) {
    (void)s;
    tpool_channel *channel = letters(1);
    tpool *threads = new_pool(1), *timed = new_pool(1);
    gate g = GATE_CLOSED; /* a limit is kept meanwhile, by a thread of its own: so waiters do not look at times */
    tpool_future *limited = submitted_task(timed, (tpool_task){ .fn = gate_task, .arg = &g, .run_limit_ns = LIMIT });
    AWAIT_ARRIVALS(&g, 1);
    in_task t = { .channel = channel, .gate = GATE_CLOSED };
    tpool_future *here = submitted(threads, receives_in_task, &t);
    tpool_future *there = ordered(receives_one, (order){ .channel = channel, .limit = LIMIT });
    gate_pass(&t.gate);
    assert_ptr_equal(&t, take(submitted(threads, nothing, &t))); /* by a spare worker */
    await_begun(1);
    tpool_future_request_stop(here);
    tpool_future_request_stop(there);
    (void)take(here);
    assert_status(TPOOL_CANCELLED, t.status);
    assert_int_equal(-TPOOL_CANCELLED, (int)(intptr_t)take(there));
    there = ordered(receives_one, (order){ .channel = channel, .limit = TPOOL_MS(20) });
    assert_int_equal(-TPOOL_TIMEOUT, (int)(intptr_t)take(there));
    assert_status(TPOOL_OK, tpool_destroy(threads));
    gate_open(&g);
    (void)take(limited);
    assert_status(TPOOL_OK, tpool_destroy(timed));
    end_channel(channel);
}
/* What can be done at once is done, with any limit, and nothing waits. */
static void *goes_on_though_stopped(void *arg) {
    in_task *t = arg;
    letter l;
    gate_pass(&t->gate);
    if (!tpool_stop_requested()) return tpool_raise(1, "not stopped");
    for (int i = 0; i < 2; i++) {
        int64_t limit = i ? TPOOL_FOREVER : 0;
        if (tpool_channel_receive(t->channel, &l, limit) != TPOOL_CANCELLED) return tpool_raise(2, "empty");
        if (post(t->channel, 1, 4, limit) != TPOOL_OK) return tpool_raise(3, "room");
        if (post(t->channel, 1, 5, limit) != TPOOL_CANCELLED) return tpool_raise(4, "full");
        if (tpool_channel_receive(t->channel, &l, limit) != TPOOL_OK) return tpool_raise(5, "item");
        if (l.number != 4) return tpool_raise(6, "another item");
    }
    if (tpool_channel_close(t->channel) != TPOOL_OK) return tpool_raise(7, "close");
    if (post(t->channel, 1, 6, TPOOL_FOREVER) != TPOOL_SHUTDOWN) return tpool_raise(8, "closed");
    if (tpool_channel_receive(t->channel, &l, TPOOL_FOREVER) != TPOOL_END) return tpool_raise(9, "end");
    return arg;
}
static void a_stopped_task_does_what_needs_no_wait(void **s) {
    (void)s;
    tpool *threads = new_pool(1);
    in_task t = { .channel = letters(1), .gate = GATE_CLOSED };
    tpool_future *future = submitted(threads, goes_on_though_stopped, &t);
    AWAIT_ARRIVALS(&t.gate, 1);
    tpool_future_request_stop(future);
    gate_open(&t.gate);
    assert_status(TPOOL_OK, end_of(future));
    assert_status(TPOOL_OK, tpool_destroy(threads));
    end_channel(t.channel);
}
static void in_forked(void *context) {
    tpool_channel *channel = context;
    letter l;
    CHECK_STATUS(TPOOL_BROKEN, post(channel, 1, 1, LIMIT));
    CHECK_STATUS(TPOOL_BROKEN, tpool_channel_receive(channel, &l, LIMIT));
    CHECK_STATUS(TPOOL_BROKEN, tpool_channel_close(channel));
    CHECK(tpool_channel_count(channel) == 0);
    CHECK_STATUS(TPOOL_BROKEN, tpool_channel_destroy(channel));
}
static void in_forked_program(void *context) {
    tpool_channel *fresh = NULL;
    in_forked(context);
    CHECK_STATUS(TPOOL_BROKEN, tpool_channel_create(&fresh, &(tpool_channel_config){ .shared_with = pool }));
}
static void *forks(void *arg) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        in_forked(((const order *)arg)->channel);
        _exit(0);
    }
    int ended = -1;
    waitpid(child, &ended, 0);
    return (void *)(intptr_t)ended;
}
static void a_child_of_fork_has_no_part_in_it(void **s) {
    (void)s;
    tpool_channel *channel = letters(2);
    posted(channel, 1, 5);
    in_child(in_forked_program, channel);
    assert_int_equal(0, (int)(intptr_t)take(ordered(forks, (order){ .channel = channel })));
    assert_int_equal(5, fetched(channel, 0));
    end_channel(channel);
}

/* ---- Deaths ---- */

static void all_are_killed_at_a_full_channel(void **s) {
    (void)s;
    tpool_channel *channel = letters(2);
    for (int round = 0; round < COUNT(20); round++) {
        tpool_future *workers[WORKERS];
        posted(channel, 8, 1);
        posted(channel, 8, 2);
        atomic_store(&all->begun, 0);
        for (int i = 0; i < WORKERS; i++)
            workers[i] = ordered(sends, (order){ .channel = channel, .limit = TPOOL_FOREVER, .count = 1 });
        await_begun(WORKERS);
        if (round % 2) sleep_ms(3);
        assert_status(TPOOL_OK, tpool_kill_workers(pool));
        for (int i = 0; i < WORKERS; i++) assert_status(TPOOL_BROKEN, end_of(workers[i]));
        assert_int_equal(1, fetched(channel, LIMIT));
        assert_int_equal(2, fetched(channel, LIMIT));
        assert_int_equal(0, tpool_channel_count(channel));
    }
    end_channel(channel);
}
static void *getpid_and_receive(void *arg) {
    const order *o = arg;
    atomic_store(&o->all->stage, (int)getpid());
    return receives_one(arg);
}
/* A receiver is killed, or stopped, as it is woken: the item is another's. */
static void a_killed_sleepers_wake_goes_to_another(void **s) {
    (void)s;
    SKIP_UNDER_TSAN(); /* as above: the worker may have seen the item, and have said so, before it was killed */
    tpool_channel *channel = letters(4);
    for (int round = 0; round < COUNT(40); round++) {
        background waiter;
        atomic_store(&all->begun, 0);
        tpool_future *worker = ordered(getpid_and_receive, (order){ .channel = channel, .limit = TPOOL_FOREVER });
        await_begun(1);
        pid_t pid = (pid_t)atomic_load(&all->stage);
        sleep_ms(2); /* it comes first in line */
        background_start(&waiter, receives_here, channel);
        background_await_block(&waiter);
        int number = round % 4 == 3 ? SIGSTOP : SIGKILL;
        if (round % 2) assert_int_equal(0, kill(pid, number));
        posted(channel, 1, 1);
        if (round % 2 == 0) assert_int_equal(0, kill(pid, number));
        if (end_of(worker) == TPOOL_OK) posted(channel, 1, 2); /* it had received before the kill came */
        tpool_status status = TPOOL_TIMEOUT;
        for (int i = 0; i < 400 && !atomic_load(&waiter.returned); i++) sleep_ms(5);
        if (!atomic_load(&waiter.returned) && tpool_channel_count(channel) == 0)
            posted(channel, 1, 3); /* died with it */
        status = background_join(&waiter);
        assert_status(TPOOL_OK, status);
        while (fetched(channel, 0) >= 0) { }
    }
    end_channel(channel);
}

/* Numbered letters from workers that are killed at random: those that they knew to be sent have come, in order, no one
   twice, all whole. */
static void *sends_on(void *arg) {
    const order *o = arg;
    atomic_store(&o->all->tried[o->from], atomic_load(&o->all->tried[o->from]) + 1); /* what a dead one was about */
    atomic_fetch_add(&o->all->begun, 1);
    for (;;) {
        int number = atomic_load(&o->all->tried[o->from]);
        if (number >= MOST - 1) ENDS(TPOOL_OK);
        tpool_status status = post(o->channel, o->from, number, LIMIT);
        if (status != TPOOL_OK) ENDS(status);
        o->all->sent[o->from][number] = 1;
        atomic_store(&o->all->tried[o->from], number + 1);
    }
}
static unsigned seed = 1;
static unsigned by_chance(unsigned below) {
    seed = seed * 1103515245u + 12345u;
    return (seed >> 16) % below;
}
/* Lets a moment pass, of up to 200 us. */
static void a_moment(void) {
    int64_t until = tpool_now() + by_chance(200) * 1000;
    while (tpool_now() < until) { }
}
typedef struct account {
    tpool_channel *channel;
    unsigned char came[WORKERS][MOST];
    int last[WORKERS];
    atomic_int bad, letters;
} account;
static tpool_status takes_account(void *context) {
    account *a = context;
    letter l;
    for (;;) {
        tpool_status status = tpool_channel_receive(a->channel, &l, LIMIT);
        if (status != TPOOL_OK) return status;
        if (!is_whole(&l) || l.from < 0 || l.from >= WORKERS || l.number < 0 || l.number >= MOST ||
            l.number <= a->last[l.from]) {
            atomic_fetch_add(&a->bad, 1);
            continue;
        }
        a->last[l.from] = l.number;
        a->came[l.from][l.number] = 1;
        atomic_fetch_add(&a->letters, 1);
    }
}
static bool most_is_sent(void) {
    bool most = false;
    for (int i = 0; i < WORKERS; i++) most = most || atomic_load(&all->tried[i]) >= MOST / 2;
    return most;
}
/* A kill counts if it ends a task that sends. */
static void a_storm_of_kills_in_send(void **s) {
    (void)s;
    for (int left = COUNT(kills); left > 0;) {
        static account a;
        memset(&a, 0, sizeof a);
        memset((void *)all, 0, sizeof *all);
        a.channel = letters(1 + by_chance(8));
        background reader;
        tpool_future *workers[WORKERS];
        background_start(&reader, takes_account, &a);
        int begun = WORKERS;
        for (int i = 0; i < WORKERS; i++) workers[i] = ordered(sends_on, (order){ .channel = a.channel, .from = i });
        for (int round = 0; round < 100 && left > 0 && !most_is_sent(); round++) {
            EVENTUALLY(atomic_load(&all->begun) == begun);
            a_moment();
            assert_status(TPOOL_OK, tpool_kill_workers(pool));
            for (int i = 0; i < WORKERS; i++) {
                tpool_status status = end_of(workers[i]);
                assert_true(status == TPOOL_BROKEN || status == TPOOL_OK);
                left -= status == TPOOL_BROKEN;
                workers[i] = ordered(sends_on, (order){ .channel = a.channel, .from = i });
            }
            begun += WORKERS;
        }
        EVENTUALLY(atomic_load(&all->begun) == begun);
        int before = atomic_load(&a.letters);
        bool over = true;
        for (int i = 0; i < WORKERS; i++) over = over && atomic_load(&all->tried[i]) >= MOST - 1;
        if (!over) EVENTUALLY(atomic_load(&a.letters) > before + 10 || atomic_load(&all->tried[0]) >= MOST - 1);
        assert_status(TPOOL_OK, tpool_kill_workers(pool));
        for (int i = 0; i < WORKERS; i++) (void)end_of(workers[i]);
        assert_status(TPOOL_OK, tpool_channel_close(a.channel));
        assert_status(TPOOL_END, background_join(&reader));
        assert_int_equal(0, atomic_load(&a.bad));
        for (int i = 0; i < WORKERS; i++)
            for (int n = 0; n < MOST; n++)
                if (all->sent[i][n] && !a.came[i][n]) fail_msg("letter %d of %d is lost", n, i);
        end_channel(a.channel);
    }
}
/* The program sends, and the receivers are killed: no letter comes twice, and at most one is lost with each. */
static void *receives_on(void *arg) {
    const order *o = arg;
    letter l;
    atomic_fetch_add(&o->all->begun, 1);
    for (;;) {
        tpool_status status = tpool_channel_receive(o->channel, &l, LIMIT);
        if (status != TPOOL_OK) ENDS(status);
        if (!is_whole(&l) || l.number < 0 || l.number >= MOST) atomic_fetch_add(&o->all->bad, 1);
        else atomic_fetch_add(&o->all->got[l.number], 1);
        atomic_fetch_add(&o->all->done, 1);
    }
}
typedef struct flow {
    tpool_channel *channel;
    atomic_int next;
} flow;
static tpool_status sends_letters(void *context) {
    flow *f = context;
    for (;;) {
        int number = atomic_load(&f->next);
        if (number >= MOST) return TPOOL_OK;
        tpool_status status = post(f->channel, 0, number, LIMIT);
        if (status != TPOOL_OK) return status;
        atomic_store(&f->next, number + 1);
    }
}
static void a_storm_of_kills_in_receive(void **s) {
    (void)s;
    for (int left = COUNT(kills); left > 0;) {
        memset((void *)all, 0, sizeof *all);
        flow f = { letters(1 + by_chance(8)), 0 };
        background writer;
        tpool_future *workers[WORKERS];
        int killed = 0, begun = WORKERS;
        for (int i = 0; i < WORKERS; i++) workers[i] = ordered(receives_on, (order){ .channel = f.channel });
        background_start(&writer, sends_letters, &f);
        for (int round = 0; round < 100 && left > 0 && atomic_load(&f.next) < MOST / 2; round++) {
            EVENTUALLY(atomic_load(&all->begun) == begun);
            a_moment();
            assert_status(TPOOL_OK, tpool_kill_workers(pool));
            left -= WORKERS;
            killed += WORKERS;
            begun += WORKERS;
            for (int i = 0; i < WORKERS; i++) {
                assert_status(TPOOL_BROKEN, end_of(workers[i]));
                workers[i] = ordered(receives_on, (order){ .channel = f.channel });
            }
        }
        EVENTUALLY(atomic_load(&all->begun) == begun);
        int done = atomic_load(&all->done);
        EVENTUALLY(atomic_load(&all->done) > done + 10 || atomic_load(&f.next) >= MOST);
        assert_status(TPOOL_OK, tpool_channel_close(f.channel));
        tpool_status status = background_join(&writer);
        assert_true(status == TPOOL_SHUTDOWN || status == TPOOL_OK);
        for (int i = 0; i < WORKERS; i++) assert_status(TPOOL_END, status_of(workers[i]));
        int sent = atomic_load(&f.next), lost = 0;
        assert_int_equal(0, atomic_load(&all->bad));
        for (int n = 0; n < sent; n++) {
            if (atomic_load(&all->got[n]) > 1) fail_msg("letter %d came twice", n);
            lost += atomic_load(&all->got[n]) == 0;
        }
        if (lost > killed) fail_msg("%d letters are lost with %d receivers", lost, killed);
        end_channel(f.channel);
    }
}

#if CAN_STEP
/* ---- Killed after each instruction ---- */

static void *steps_into_send(void *arg) {
    const order *o = arg;
    letter l = letter_of(1, 1);
    atomic_store(&o->all->begun, (int)getpid());
    while (!atomic_load(&o->all->gate.open)) { }
    atomic_store(&o->all->stage, 1);
    tpool_status status = tpool_channel_send(o->channel, &l, LIMIT);
    atomic_store(&o->all->done, (int)status + 1);
    atomic_store(&o->all->stage, 2);
    for (;;) pause();
    ENDS(status);
}
static void *steps_into_receive(void *arg) {
    const order *o = arg;
    letter l;
    atomic_store(&o->all->begun, (int)getpid());
    while (!atomic_load(&o->all->gate.open)) { }
    atomic_store(&o->all->stage, 1);
    tpool_status status = tpool_channel_receive(o->channel, &l, LIMIT);
    atomic_store(&o->all->stage, 2);
    for (;;) pause();
    ENDS(status);
}
static bool step(pid_t pid) {
    int status = 0;
    return ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == 0 && waitpid(pid, &status, __WALL) == pid &&
           WIFSTOPPED(status);
}
static bool attach(pid_t pid) {
    int status = 0;
    return ptrace(PTRACE_ATTACH, pid, NULL, NULL) == 0 && waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status);
}
static void kill_traced(pid_t pid) {
    int status = 0;
    kill(pid, SIGKILL);
    while (waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status)) ptrace(PTRACE_CONT, pid, NULL, NULL);
}
/* A worker that stands after so many instructions of the call. 1: within it; 0: it has returned; -1: may not be traced.
   The future is its task's. */
static int stopped_after(tpool_fn fn, tpool_channel *channel, int steps, pid_t *pid, tpool_future **future) {
    memset((void *)all, 0, sizeof *all);
    *future = ordered(fn, (order){ .channel = channel });
    EVENTUALLY(atomic_load(&all->begun) > 0);
    *pid = (pid_t)atomic_load(&all->begun);
    int found = 1;
    if (!attach(*pid)) {
        kill(*pid, SIGKILL);
        (void)end_of(*future);
        return -1;
    }
    atomic_store(&all->gate.open, 1);
    while (atomic_load(&all->stage) == 0) assert_true(step(*pid));
    for (int i = 0; i < steps && found; i++) {
        assert_true(step(*pid));
        found = atomic_load(&all->stage) == 1;
    }
    return found;
}
/* The same, and it is killed there. */
static int killed_after(tpool_fn fn, tpool_channel *channel, int steps) {
    pid_t pid;
    tpool_future *future;
    int found = stopped_after(fn, channel, steps, &pid, &future);
    if (found < 0) return -1;
    kill_traced(pid);
    assert_status(TPOOL_BROKEN, end_of(future));
    return found;
}
static void assert_goes_on(tpool_channel *channel) {
    posted(channel, 3, 77);
    assert_int_equal(77, fetched(channel, LIMIT));
    assert_int_equal(0, tpool_channel_count(channel));
}
static void killed_after_each_instruction_of_send(void **s) {
    (void)s;
    tpool_channel *channel = letters(3);
    int found = 1, came = 0, steps = 0;
    while (found && (steps += stride) < 20000) {
        found = killed_after(steps_into_send, channel, steps);
        if (found < 0) skip();
        size_t count = tpool_channel_count(channel);
        assert_true(count <= 1);
        came = (int)count; /* the number of steps to it differs a little, with the place in the ring */
        if (count) assert_int_equal(1, fetched(channel, LIMIT));
        assert_goes_on(channel);
    }
    assert_int_equal(1, came);
    assert_true(steps > 20 && steps < 20000);
    end_channel(channel);
}
static void killed_after_each_instruction_of_receive(void **s) {
    (void)s;
    tpool_channel *channel = letters(3);
    int found = 1, taken = 0, steps = 0;
    while (found && (steps += stride) < 20000) {
        posted(channel, 1, 1);
        posted(channel, 1, 2);
        found = killed_after(steps_into_receive, channel, steps);
        if (found < 0) skip();
        size_t count = tpool_channel_count(channel);
        assert_true(count == 1 || count == 2);
        taken = count == 1;
        if (!taken) assert_int_equal(1, fetched(channel, LIMIT));
        assert_int_equal(2, fetched(channel, LIMIT));
        assert_goes_on(channel);
    }
    assert_int_equal(1, taken);
    end_channel(channel);
}
/* A thread sleeps at the other end: if the item is sent, or taken, it is told, also where the wake did not come. */
static void killed_before_the_wake(void **s) {
    (void)s;
    tpool_channel *channel = letters(1);
    for (int full = 0; full < 2; full++) {
        int found = 1;
        for (int steps = 1; found && steps < 20000; steps += far) {
            background sleeper;
            if (full) posted(channel, 1, 2);
            background_start(&sleeper, full ? sends_here : receives_here, channel);
            background_await_block(&sleeper);
            found = killed_after(full ? steps_into_receive : steps_into_send, channel, steps);
            if (found < 0) {
                assert_status(TPOOL_OK, tpool_channel_close(channel));
                (void)background_join(&sleeper);
                skip();
            }
            if (full && tpool_channel_count(channel) == 1 && !atomic_load(&sleeper.returned)) {
                /* it is the first item that is there, or the sleeper's */
                sleep_ms(1);
                if (!atomic_load(&sleeper.returned)) (void)fetched(channel, LIMIT);
            } else if (!full && tpool_channel_count(channel) == 0 && !atomic_load(&sleeper.returned)) {
                sleep_ms(1);
                if (!atomic_load(&sleeper.returned)) posted(channel, 1, 3);
            }
            assert_status(TPOOL_OK, background_join(&sleeper));
            while (fetched(channel, 0) >= 0) { }
        }
    }
    end_channel(channel);
}
/* The same, and how long it takes. The process may have died with the lock, or with the wake. Every other time the server
   stands still, so that the system has to tell of the death. If others want the CPUs, a try may take longer. */
static void killed_it_holds_up_the_others_for_50_ms_at_most(void **s) {
    (void)s;
#if defined(TPOOL__PLAIN_POSIX)
    enum { MOST_TRIES = 8, CAN_ASK = false };
#else
    enum { MOST_TRIES = 8, CAN_ASK = true };
#endif
    tpool_channel *channel = letters(1);
    pid_t server = living_server_of(pool);
    for (int full = 0; full < 2; full++) {
        int found = 1, tries = 1;
        for (int steps = 1; found && steps < 20000;) {
            background sleeper;
            pid_t pid;
            tpool_future *future;
            if (full) posted(channel, 1, 2);
            background_start(&sleeper, full ? sends_and_notes_when : receives_and_notes_when, channel);
            background_await_block(&sleeper);
            found = stopped_after(full ? steps_into_receive : steps_into_send, channel, steps, &pid, &future);
            bool asks = CAN_ASK && found >= 0 && steps / far % 2;
            if (asks) assert_int_equal(0, kill(server, SIGSTOP));
            int64_t began = tpool_now();
            if (found >= 0) kill_traced(pid);
            /* not sent, or not taken (or the sleeper has been faster): this call needs the lock that the dead may have */
            if (full && tpool_channel_count(channel) == 1) (void)fetched(channel, LIMIT);
            else if (!full && tpool_channel_count(channel) == 0) posted(channel, 1, 3);
            tpool_status status = background_join(&sleeper);
            if (asks) assert_int_equal(0, kill(server, SIGCONT));
            assert_status(TPOOL_OK, status);
            if (found < 0) skip();
            assert_status(TPOOL_BROKEN, end_of(future));
            while (fetched(channel, 0) >= 0) { }
            bool soon = atomic_load(&last_returned) - began < TPOOL_MS(50);
            if (!soon && tries++ == MOST_TRIES) fail_msg("full %d, after %d steps: too late", full, steps);
            if (!soon) continue;
            steps += far;
            tries = 1;
        }
    }
    end_channel(channel);
}
/* One that has slept in its call goes on, since what it waits for has come, or to look about; and is killed there. What it
   has not taken is another's, which is told of what comes later, too. */
static void killed_after_each_instruction_of_a_wait(void **s) {
    (void)s;
    tpool_channel *channel = letters(1);
    for (int kind = 0; kind < 4; kind++) {
        bool full = kind & 1, comes = kind & 2;
        int found = 1;
        for (int steps = 1; found && steps < (comes ? 20000 : 400); steps += 2 * far) {
            background sleeper;
            process_stat stat = { 0 };
            if (full) posted(channel, 1, 2);
            memset((void *)all, 0, sizeof *all);
            tpool_future *future = ordered(full ? steps_into_send : steps_into_receive, (order){ .channel = channel });
            EVENTUALLY(atomic_load(&all->begun) > 0);
            pid_t pid = (pid_t)atomic_load(&all->begun);
            atomic_store(&all->gate.open, 1);
            EVENTUALLY(atomic_load(&all->stage) == 1 && read_process_stat(pid, &stat) && stat.state == 'S');
            if (attach(pid)) {
                if (comes && full) assert_int_equal(2, fetched(channel, LIMIT));
                else if (comes) posted(channel, 1, 3);
                for (int i = 0; i < steps && found; i++) {
                    assert_true(step(pid));
                    found = atomic_load(&all->stage) == 1;
                }
            } else {
                found = -1;
            }
            kill_traced(pid);
            assert_status(TPOOL_BROKEN, end_of(future));
            if (found < 0) skip();
            size_t count = tpool_channel_count(channel);
            if (!comes) assert_int_equal(full, count);
            background_start(&sleeper, full ? sends_here : receives_here, channel);
            if (full && count == 1) assert_int_equal(comes ? 1 : 2, fetched(channel, LIMIT));
            else if (!full && count == 0) posted(channel, 1, 4);
            assert_status(TPOOL_OK, background_join(&sleeper));
            assert_int_equal(full ? 9 : -1, fetched(channel, 0));
            assert_goes_on(channel);
        }
        assert_int_equal(!comes, found);
    }
    end_channel(channel);
}
/* One stands still anywhere in its call: the calls of others end as the channel allows, or with their limits. Then it goes
   on, and all that was sent is received. */
static void one_that_stands_still_keeps_nobody_beyond_a_limit(void **s) {
    (void)s;
    for (int receives = 0; receives < 2; receives++) {
        for (int steps = 1, found = 1; found && steps < 20000; steps += far) {
            tpool_channel *channel = letters(3);
            pid_t pid;
            tpool_future *future;
            int in = 0, out = 0;
            bool as_they_should = true;
            for (; receives && in < 2; in++) posted(channel, 3, in);
            found = stopped_after(receives ? steps_into_receive : steps_into_send, channel, steps, &pid, &future);
            if (found < 0) skip();
            int64_t began = tpool_now();
            for (int i = 0; i < 4; i++) {
                letter l;
                int64_t limit = i < 2 ? 0 : TPOOL_MS(5);
                tpool_status status = i % 2 ? tpool_channel_receive(channel, &l, limit) : post(channel, 2, i, limit);
                as_they_should = as_they_should && (status == TPOOL_OK || status == TPOOL_TIMEOUT);
                if (status == TPOOL_OK && i % 2) out++;
                else if (status == TPOOL_OK) in++;
            }
            int64_t took = tpool_now() - began;
            ptrace(PTRACE_DETACH, pid, NULL, NULL); /* before anything fails */
            for (int64_t end = tpool_now() + LIMIT; atomic_load(&all->stage) != 2 && tpool_now() < end;) sleep_ms(1);
            kill(pid, SIGKILL);
            assert_status(TPOOL_BROKEN, end_of(future));
            assert_true(as_they_should);
            assert_true(took < TPOOL_SEC(2));
            assert_int_equal(2, atomic_load(&all->stage));
            while (fetched(channel, 0) >= 0) out++;
            assert_int_equal(in + !receives, out + receives);
            end_channel(channel);
        }
    }
}
/* A sender stands still anywhere in its call, and the channel is closed, at once: what it sends is received before the
   END, or is not sent. */
static void no_item_comes_after_an_end(void **s) {
    (void)s;
    for (int steps = 1, found = 1; found && steps < 20000; steps += 2 * stride) {
        tpool_channel *channel = letters(3);
        pid_t pid;
        tpool_future *future;
        found = stopped_after(steps_into_send, channel, steps, &pid, &future);
        if (found < 0) skip();
        tpool_status closed = tpool_channel_close(channel), status = TPOOL_OK; /* does not wait for that one */
        int came = 0;
        for (letter l; (status = tpool_channel_receive(channel, &l, TPOOL_SEC(20))) == TPOOL_OK; came++)
            (void)is_whole(&l);
        tpool_status later = post(channel, 2, 2, TPOOL_SEC(20)); /* the lock that it needs may be that one's */
        ptrace(PTRACE_DETACH, pid, NULL, NULL);                  /* before anything fails */
        for (int64_t end = tpool_now() + LIMIT; atomic_load(&all->stage) != 2 && tpool_now() < end;) sleep_ms(1);
        kill(pid, SIGKILL);
        assert_status(TPOOL_BROKEN, end_of(future));
        assert_status(TPOOL_OK, closed);
        assert_true(came <= 1);
        assert_status(TPOOL_END, status);
        assert_status(TPOOL_SHUTDOWN, later);
        assert_int_equal(1 + (int)(came ? TPOOL_OK : TPOOL_SHUTDOWN), atomic_load(&all->done));
        assert_int_equal(-1, fetched(channel, 0));
        assert_int_equal(0, tpool_channel_count(channel));
        end_channel(channel);
    }
}
/* A receiver stands still anywhere in its call, and the empty channel is closed: the others learn of it. */
static void a_close_is_known_beside_a_receiver_that_stands_still(void **s) {
    (void)s;
    for (int steps = 1, found = 1; found && steps < 200; steps += 2 * stride) {
        tpool_channel *channel = letters(3);
        letter l;
        pid_t pid;
        tpool_future *future;
        found = stopped_after(steps_into_receive, channel, steps, &pid, &future);
        if (found < 0) skip();
        tpool_status closed = tpool_channel_close(channel);
        tpool_status ends = tpool_channel_receive(channel, &l, TPOOL_SEC(20));
        kill_traced(pid);
        assert_status(TPOOL_BROKEN, end_of(future));
        assert_status(TPOOL_OK, closed);
        assert_status(TPOOL_END, ends);
        end_channel(channel);
    }
}
#if !defined(TPOOL__PLAIN_POSIX)
/* The server is killed at any instruction after it has learned of the death of a worker, which has a mutex. */
static void *locks_and_tells(void *arg) {
    shared *at = ((const order *)arg)->all;
    (void)!tpool_shared_lock(&at->mutex, LIMIT);
    atomic_store(&at->begun, (int)getpid());
    for (;;) pause();
    return NULL;
}
/* The next instruction, with the signal that came before it. False: it sleeps in the system. */
static bool step_with(pid_t pid, int *number) {
    int status = 0;
    assert_int_equal(0, ptrace(PTRACE_SINGLESTEP, pid, NULL, (void *)(intptr_t)*number));
    for (int i = 0; i < 100; i++) {
        pid_t changed = waitpid(pid, &status, __WALL | WNOHANG);
        if (changed == 0 && i < 90) sched_yield();
        else if (changed == 0) sleep_ms(1);
        if (changed != pid) continue;
        assert_true(WIFSTOPPED(status));
        *number = WSTOPSIG(status) == SIGTRAP || WSTOPSIG(status) == SIGSTOP ? 0 : WSTOPSIG(status);
        return true;
    }
    return false;
}
static void the_server_is_killed_as_it_notes_a_death(void **s) {
    (void)s;
    assert_status(TPOOL_OK, tpool_resize(pool, 1));
    bool found = true;
    int steps = 1;
    pid_t server = 0;
    for (; found && steps < 20000; steps += 30 * stride) {
        server = other_server_of(pool, server);
        atomic_store(&all->begun, 0);
        tpool_future *holder = ordered(locks_and_tells, (order){ 0 });
        EVENTUALLY(atomic_load(&all->begun) > 0);
        if (!attach(server)) {
            kill((pid_t)atomic_load(&all->begun), SIGKILL);
            (void)end_of(holder);
            skip();
        }
        kill((pid_t)atomic_load(&all->begun), SIGKILL);
        EVENTUALLY(!is_alive(atomic_load(&all->begun)));
        int number = 0;
        for (int i = 0; i < steps && found; i++) found = step_with(server, &number);
        kill_traced(server);
        int64_t began = tpool_now();
        tpool_status status = tpool_shared_lock(&all->mutex, LIMIT);
        assert_status(TPOOL_BROKEN, status);
        assert_true(tpool_now() - began < TPOOL_SEC(8));
        assert_status(TPOOL_OK, tpool_shared_unlock(&all->mutex));
        assert_status(TPOOL_BROKEN, end_of(holder));
    }
    assert_true(steps > 150); /* else the server has hardly begun */
}
#endif
#endif

/* ---- What a worker writes over it ---- */

#ifdef __linux__
/* Random bytes over all that is shared and may be written, but for what the test itself needs. With `limit` over what may
   only be read, too, once that is undone: the list of all processes, whose lengths bound the program's searches. */
static void *overwrites(void *arg) {
    const order *o = arg;
    unsigned next = (unsigned)o->first;
    char line[1024];
    FILE *file = fopen("/proc/self/maps", "r");
    if (!file) ENDS(TPOOL_FAILED);
    int found = 0;
    while (fgets(line, sizeof line, file)) {
        unsigned long from, to;
        char kind[8];
        if (sscanf(line, "%lx-%lx %7s", &from, &to, kind) != 3 || !strstr(line, "/dev/zero")) continue;
        bool only_read = o->limit && strcmp(kind, "r--s") == 0;
        if (!only_read && strcmp(kind, "rw-s") != 0) continue;
        if (only_read && mprotect((void *)from, to - from, PROT_READ | PROT_WRITE) != 0) ENDS(TPOOL_FAILED);
        found += only_read == (o->limit != 0);
        for (unsigned char *at = (unsigned char *)from; at < (unsigned char *)(only_read ? to : from + 4096); at++) {
            next = next * 1103515245u + 12345u;
            *at = (unsigned char)(next >> 16);
        }
    }
    fclose(file);
    ENDS(found ? TPOOL_OK : TPOOL_FAILED);
}
static tpool_status uses_what_is_overwritten(tpool_channel *channel) {
    letter l;
    for (int i = 0; i < 5; i++) {
        (void)post(channel, 1, 1, i % 2 ? TPOOL_MS(1) : 0);
        tpool_status status = tpool_channel_receive(channel, &l, i % 2 ? TPOOL_MS(1) : 0);
        if (status == TPOOL_BROKEN || tpool_channel_count(channel) > 3) return TPOOL_FAILED;
    }
    (void)tpool_channel_close(channel);
    return tpool_channel_destroy(channel);
}
static void a_worker_that_overwrites_it_harms_nothing_else(void **s) {
    (void)s;
    for (int i = 0; i < COUNT(100); i++) {
        tpool_channel *channel = letters(3);
        posted(channel, 1, 1);
        assert_status(TPOOL_OK, status_of(ordered(overwrites, (order){ .first = i })));
        assert_status(TPOOL_OK, uses_what_is_overwritten(channel)); /* each of its calls has its limit */
        channel = letters(3);
        posted(channel, 1, 4);
        assert_int_equal(4, fetched(channel, 0));
        end_channel(channel);
    }
}
/* After that the pool may have no workers any more. */
static void a_worker_that_overwrites_the_list_of_processes_harms_nothing_else(void **s) {
    for (int i = 0; i < COUNT(20); i++) {
        tpool_channel *channel = letters(3);
        posted(channel, 1, 1);
        assert_status(TPOOL_OK, status_of(ordered(overwrites, (order){ .first = i, .limit = 1 })));
        for (uint32_t owner = 2; owner < 20; owner++) { /* one that has to be looked for, in all of the list */
            memcpy(&all->mutex, &owner, sizeof owner);
            (void)!tpool_shared_lock(&all->mutex, 0);
            (void)tpool_shared_unlock(&all->mutex);
        }
        assert_status(TPOOL_OK, uses_what_is_overwritten(channel));
        channel = letters(3);
        posted(channel, 1, 4);
        assert_int_equal(4, fetched(channel, 0));
        end_channel(channel);
        assert_int_equal(0, tear_down(s));
        assert_int_equal(0, set_up(s));
    }
}
#endif

int main(int argc, char **argv) {
    if (argc > 1) {
        kills = atoi(argv[1]);
        stride = far = 1;
    }
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(first_in_is_first_out_round_and_round),
        T(odd_sizes_and_pointers),
        T(what_is_left_is_freed_once),
        T(where_there_is_no_room),
        T(a_channel_is_an_argument),
        T(sleepers_are_woken),
        T(sleepers_wake_each_other),
        T(close_wakes_all),
        T(a_channel_that_is_awaited_is_not_destroyed),
        T(nothing_is_lost_doubled_or_out_of_order),
        T(a_stop_ends_the_wait),
        T(a_stopped_task_does_what_needs_no_wait),
        T(a_child_of_fork_has_no_part_in_it),
        T(all_are_killed_at_a_full_channel),
        T(a_killed_sleepers_wake_goes_to_another),
        T(a_storm_of_kills_in_send),
        T(a_storm_of_kills_in_receive),
#if CAN_STEP
        T(killed_after_each_instruction_of_send),
        T(killed_after_each_instruction_of_receive),
        T(killed_before_the_wake),
        T(killed_it_holds_up_the_others_for_50_ms_at_most),
        T(killed_after_each_instruction_of_a_wait),
        T(one_that_stands_still_keeps_nobody_beyond_a_limit),
        T(no_item_comes_after_an_end),
        T(a_close_is_known_beside_a_receiver_that_stands_still),
#if !defined(TPOOL__PLAIN_POSIX)
        T(the_server_is_killed_as_it_notes_a_death),
#endif
#endif
#ifdef __linux__
        T(a_worker_that_overwrites_it_harms_nothing_else),
        T(a_worker_that_overwrites_the_list_of_processes_harms_nothing_else),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
