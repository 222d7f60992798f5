/* Channels that processes share: items that show whether they are whole, and what workers do with them. */
#ifndef TPOOL_TESTS_SHARED_CHANNELS_H
#define TPOOL_TESTS_SHARED_CHANNELS_H
#include "support/children.h"

enum { MIB = 1 << 20, WORKERS = 3, MOST = 1 << 16 };

/* An item, which shows whether it is whole. */
typedef struct letter {
    int from, number;
    unsigned char body[56];
} letter;
static inline letter letter_of(int from, int number) {
    letter l = { .from = from, .number = number };
    memset(l.body, (from * 31 + number) & 0xff, sizeof l.body);
    return l;
}
static inline bool is_whole(const letter *l) {
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
static inline int set_up(void **state) {
    (void)state;
    pool = process_pool_as((tpool_config){ .max_workers = WORKERS, .shared_size = 4 * MIB });
    all = tpool_shared_alloc(pool, sizeof *all);
    return all ? 0 : 1;
}
static inline int tear_down(void **state) {
    (void)state;
    (void)tpool_kill_workers(pool);
    return tpool_destroy(pool) != TPOOL_OK;
}

static inline tpool_channel *channel_as(tpool_channel_config config) {
    tpool_channel *channel = NULL;
    config.shared_with = pool;
    assert_status(TPOOL_OK, tpool_channel_create(&channel, &config));
    assert_non_null(channel);
    return channel;
}
static inline tpool_channel *letters(size_t capacity) {
    return channel_as((tpool_channel_config){ .capacity = capacity, .item_size = sizeof(letter) });
}
static inline void end_channel(tpool_channel *channel) { assert_status(TPOOL_OK, tpool_channel_destroy(channel)); }
static inline tpool_status post(tpool_channel *channel, int from, int number, int64_t limit) {
    letter l = letter_of(from, number);
    return tpool_channel_send(channel, &l, limit);
}
static inline void posted(tpool_channel *channel, int from, int number) {
    assert_status(TPOOL_OK, post(channel, from, number, LIMIT));
}
/* The number of the next letter; -1: none. */
static inline int fetched(tpool_channel *channel, int64_t limit) {
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
static inline tpool_future *ordered(tpool_fn fn, order o) {
    tpool_future *future = NULL;
    o.all = all;
    assert_status(TPOOL_OK, tpool_submit_copy(pool, fn, &o, sizeof o, &future));
    return future;
}
static inline tpool_status status_of(tpool_future *future) { return (tpool_status)(intptr_t)take(future); }
#define ENDS(status) return (void *)(intptr_t)(status)

static inline void *sends(void *arg) {
    const order *o = arg;
    atomic_fetch_add(&o->all->begun, 1);
    for (int i = 0; i < o->count; i++) {
        tpool_status status = post(o->channel, o->from, o->first + i, o->limit);
        if (status != TPOOL_OK) ENDS(status);
    }
    ENDS(TPOOL_OK);
}
/* The number of a letter, or -1. */
static inline void *receives_one(void *arg) {
    const order *o = arg;
    letter l;
    atomic_fetch_add(&o->all->begun, 1);
    tpool_status status = tpool_channel_receive(o->channel, &l, o->limit);
    return (void *)(intptr_t)(status == TPOOL_OK && is_whole(&l) ? l.number : -(int)status);
}
static inline void *closes(void *arg) { ENDS(tpool_channel_close(((const order *)arg)->channel)); }
static inline void *destroys(void *arg) { ENDS(tpool_channel_destroy(((const order *)arg)->channel)); }
static inline void *counts(void *arg) { return (void *)(intptr_t)tpool_channel_count(((const order *)arg)->channel); }
static inline void await_begun(int n) { EVENTUALLY(atomic_load(&all->begun) >= n); }
static inline tpool_status receives_here(void *context) {
    letter l;
    tpool_status status = tpool_channel_receive((tpool_channel *)context, &l, 2 * LIMIT); /* longer than a join waits */
    return status == TPOOL_OK && !is_whole(&l) ? TPOOL_FAILED : status;
}
static inline tpool_status sends_here(void *context) { return post((tpool_channel *)context, 9, 9, 2 * LIMIT); }
static _Atomic(int64_t) last_returned;
static inline tpool_status receives_and_notes_when(void *context) {
    tpool_status status = receives_here(context);
    atomic_store(&last_returned, tpool_now());
    return status;
}
static inline tpool_status sends_and_notes_when(void *context) {
    tpool_status status = sends_here(context);
    atomic_store(&last_returned, tpool_now());
    return status;
}
#endif
