/* Channels that processes share: what goes in comes out, once, whole and in order; no wake is lost; what a worker writes over
   the channel harms no other memory. */
#include "behaviour/shared_channels.h"

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
/* One of several is woken, and each wakes the next at once: none waits for its own look after 20 ms. Most rounds show it;
   if others want the CPUs, it takes more of them. */
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

int main(void) {
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
#ifdef __linux__
        T(a_worker_that_overwrites_it_harms_nothing_else),
        T(a_worker_that_overwrites_the_list_of_processes_harms_nothing_else),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
