/* Channels among threads and among processes, and the lock in shared memory, against what else there is, in rounds that
 * take turns; medians of the rounds. Every item is looked at: once, whole, in order.
 *
 *     cc -O2 -std=gnu11 -pthread -I. bench/channels.c -o channels
 *     ./channels [--quick] [--peer NAME COMMAND]... [CASE]
 *
 * The peers: a ring under a pthread mutex with two conditions; a pipe; a robust pthread mutex; GLib's GAsyncQueue (with
 * -DBENCH_GLIB), which has no bound; Boost's message_queue (with -DBENCH_BOOST and channels_boost.cc); TBB's bounded
 * queue (with -DBENCH_TBB and channels_tbb.cc). COMMAND CASE COUNT is a peer of another language, which prints a
 * figure, or ends with 77 if it has no such case: peers/channels.go, peers/Channels.java, peers/channels.py.
 *
 * Prints case, figure, unit, value, separated by tabs, and ends with 0 when all results were right. */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#if defined(BENCH_GLIB)
#include <glib.h>
#endif

enum { MOST_ROUNDS = 9, CAPACITY = 1024, BYTES = 64 };
static int rounds = MOST_ROUNDS;
static size_t scale = 1;

static void need(bool right, const char *what) {
    if (right) return;
    fprintf(stderr, "channels: wrong: %s\n", what);
    _exit(1); /* the others may be anywhere */
}
static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static double median(double *samples) {
    qsort(samples, (size_t)rounds, sizeof *samples, by_value);
    return samples[rounds / 2];
}
static void say(const char *name, const char *figure, const char *unit, double value) {
    printf("%s\t%s\t%s\t%.4g\n", name, figure, unit, value);
    fflush(stdout);
}

/* --- queues of numbers: ours, and the peers'. A number is never 0. */

typedef struct queue {
    const char *name;
    void *(*create)(size_t capacity);
    void (*send)(void *queue, uint64_t item);
    uint64_t (*receive)(void *queue);
    void (*destroy)(void *queue);
} queue;

static void *ours_create(size_t capacity) {
    tpool_channel *channel;
    tpool_channel_config config = { .capacity = capacity, .item_size = sizeof(uint64_t) };
    need(tpool_channel_create(&channel, &config) == TPOOL_OK, "create");
    return channel;
}
static void ours_send(void *to, uint64_t item) {
    need(tpool_channel_send((tpool_channel *)to, &item, TPOOL_FOREVER) == TPOOL_OK, "send");
}
static uint64_t ours_receive(void *from) {
    uint64_t item;
    need(tpool_channel_receive((tpool_channel *)from, &item, TPOOL_FOREVER) == TPOOL_OK, "receive");
    return item;
}
static void ours_destroy(void *channel) {
    need(tpool_channel_destroy((tpool_channel *)channel) == TPOOL_OK, "destroy");
}

typedef struct ring {
    pthread_mutex_t lock;
    pthread_cond_t items, places;
    size_t capacity, count, first;
    uint64_t all[CAPACITY];
} ring;
static void *ring_create(size_t capacity) {
    ring *r = (ring *)calloc(1, sizeof *r);
    need(r && pthread_mutex_init(&r->lock, NULL) == 0 && pthread_cond_init(&r->items, NULL) == 0 &&
             pthread_cond_init(&r->places, NULL) == 0,
         "ring");
    r->capacity = capacity;
    return r;
}
static void ring_send(void *to, uint64_t item) {
    ring *r = (ring *)to;
    pthread_mutex_lock(&r->lock);
    while (r->count == r->capacity) pthread_cond_wait(&r->places, &r->lock);
    r->all[(r->first + r->count++) % r->capacity] = item;
    pthread_mutex_unlock(&r->lock);
    pthread_cond_signal(&r->items);
}
static uint64_t ring_receive(void *from) {
    ring *r = (ring *)from;
    pthread_mutex_lock(&r->lock);
    while (r->count == 0) pthread_cond_wait(&r->items, &r->lock);
    uint64_t item = r->all[r->first];
    r->first = (r->first + 1) % r->capacity;
    r->count--;
    pthread_mutex_unlock(&r->lock);
    pthread_cond_signal(&r->places);
    return item;
}
static void ring_destroy(void *ring) { free(ring); }

#if defined(BENCH_GLIB)
static void *glib_create(size_t capacity) {
    (void)capacity;
    return g_async_queue_new();
}
static void glib_send(void *to, uint64_t item) { g_async_queue_push((GAsyncQueue *)to, (void *)(uintptr_t)item); }
static uint64_t glib_receive(void *from) { return (uint64_t)(uintptr_t)g_async_queue_pop((GAsyncQueue *)from); }
static void glib_destroy(void *queue) { g_async_queue_unref((GAsyncQueue *)queue); }
#endif

#if defined(BENCH_TBB)
void *tbb_create(size_t capacity);
void tbb_send(void *to, uint64_t item);
uint64_t tbb_receive(void *from);
void tbb_destroy(void *of);
#endif

static const queue queues[] = {
    { "channel", ours_create, ours_send, ours_receive, ours_destroy },
    { "ring under a mutex", ring_create, ring_send, ring_receive, ring_destroy },
#if defined(BENCH_GLIB)
    { "GLib, without a bound", glib_create, glib_send, glib_receive, glib_destroy },
#endif
#if defined(BENCH_TBB)
    { "TBB, bounded", tbb_create, tbb_send, tbb_receive, tbb_destroy },
#endif
};
enum { QUEUES = sizeof queues / sizeof *queues };

/* Of another language. */
enum { MOST_PEERS = 4, NOT_THERE = 77 };
static const char *peers[MOST_PEERS][2];
static int peer_count;
static double of_peers[MOST_PEERS][MOST_ROUNDS];
static void ask_peers(int round, const char *name, size_t count) {
    for (int i = 0; i < peer_count; i++) {
        char command[4096];
        snprintf(command, sizeof command, "%s %s %zu", peers[i][1], name, count);
        FILE *output = popen(command, "r");
        need(output != NULL, peers[i][0]);
        bool told = fscanf(output, "%lf", &of_peers[i][round]) == 1;
        int status = pclose(output);
        if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_THERE) of_peers[i][round] = -1;
        else need(told && status == 0, peers[i][0]);
    }
}
static void say_peers(const char *name, const char *unit) {
    for (int i = 0; i < peer_count; i++)
        if (of_peers[i][0] >= 0) say(name, peers[i][0], unit, median(of_peers[i]));
}

typedef struct party {
    const queue *kind;
    void *queue, *back;
    size_t count, sum;
    uint64_t number;
    pthread_barrier_t *begin;
    int64_t began, ended;
} party;
/* An item tells whose it is, and its number. */
static void *sender(void *arg) {
    party *p = (party *)arg;
    pthread_barrier_wait(p->begin);
    p->began = tpool_now();
    for (size_t i = 1; i <= p->count; i++) p->kind->send(p->queue, p->number << 32 | i);
    return NULL;
}
static void *receiver(void *arg) {
    party *p = (party *)arg;
    uint64_t last[2] = { 0, 0 };
    pthread_barrier_wait(p->begin);
    for (size_t i = 0; i < p->count; i++) {
        uint64_t item = p->kind->receive(p->queue), number = item & 0xffffffff;
        need(number > last[item >> 32 & 1], "order");
        last[item >> 32 & 1] = number;
        p->sum += number;
    }
    p->ended = tpool_now();
    return NULL;
}
static double stream(const queue *kind, int pairs, size_t count, double *sleeps) {
    pthread_t threads[4];
    party parties[4];
    pthread_barrier_t begin;
    struct rusage before, after;
    void *q = kind->create(CAPACITY);
    memset(parties, 0, sizeof parties);
    pthread_barrier_init(&begin, NULL, (unsigned)(2 * pairs));
    getrusage(RUSAGE_SELF, &before);
    for (int i = 0; i < 2 * pairs; i++) {
        parties[i] = (party){ .kind = kind, .queue = q, .count = count, .number = (uint64_t)i / 2, .begin = &begin };
        need(pthread_create(&threads[i], NULL, i % 2 ? receiver : sender, &parties[i]) == 0, "thread");
    }
    size_t sum = 0;
    int64_t began = INT64_MAX, ended = 0;
    for (int i = 0; i < 2 * pairs; i++) {
        pthread_join(threads[i], NULL);
        sum += parties[i].sum;
        if (i % 2 == 0 && parties[i].began < began) began = parties[i].began;
        if (parties[i].ended > ended) ended = parties[i].ended;
    }
    getrusage(RUSAGE_SELF, &after);
    need(sum == (size_t)pairs * (count * (count + 1) / 2), "an item lost or doubled");
    *sleeps = (double)(after.ru_nvcsw - before.ru_nvcsw) / (double)(count * (size_t)pairs);
    pthread_barrier_destroy(&begin);
    kind->destroy(q);
    return (double)(ended - began) / (double)(count * (size_t)pairs);
}
static void streams(int pairs, const char *name, double bar) {
    static double times[QUEUES][MOST_ROUNDS], sleeps[QUEUES][MOST_ROUNDS];
    size_t each = 2000000 / scale / (size_t)pairs;
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < QUEUES; i++) times[i][round] = stream(&queues[i], pairs, each, &sleeps[i][round]);
        ask_peers(round, name, each);
    }
    for (int i = 0; i < QUEUES; i++) {
        char figure[100];
        snprintf(figure, sizeof figure, i ? "%s" : "%s (bar: most %g)", queues[i].name, bar);
        say(name, figure, "ns an item", median(times[i]));
    }
    say_peers(name, "ns an item");
    say(name, "the channel's sleeps (bar: about none)", "an item", median(sleeps[0]));
}

static void *echoes(void *arg) {
    party *p = (party *)arg;
    for (size_t i = 1; i <= p->count; i++) p->kind->send(p->back, p->kind->receive(p->queue));
    return NULL;
}
static double trips(const queue *kind, size_t count) {
    pthread_t thread;
    party p = { .kind = kind, .queue = kind->create(1), .back = kind->create(1), .count = count };
    need(pthread_create(&thread, NULL, echoes, &p) == 0, "thread");
    int64_t began = tpool_now();
    for (size_t i = 1; i <= count; i++) {
        kind->send(p.queue, i);
        need(kind->receive(p.back) == i, "another answer");
    }
    double took = (double)(tpool_now() - began) / (double)count;
    pthread_join(thread, NULL);
    kind->destroy(p.queue);
    kind->destroy(p.back);
    return took;
}
static void ping_pong(void) {
    static double times[QUEUES][MOST_ROUNDS];
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < QUEUES; i++) times[i][round] = trips(&queues[i], 200000 / scale);
        ask_peers(round, "channels/ping-pong", 200000 / scale);
    }
    for (int i = 0; i < QUEUES; i++) {
        char figure[100];
        snprintf(figure, sizeof figure, i ? "%s" : "%s (bar: most 200)", queues[i].name);
        say("channels/ping-pong", figure, "ns", median(times[i]));
    }
    say_peers("channels/ping-pong", "ns");
}

/* --- between two processes: 64 bytes an item */

typedef struct item {
    uint64_t number, rest[BYTES / 8 - 1];
} item;
static item item_of(uint64_t number) {
    item it = { .number = number };
    for (size_t i = 0; i < BYTES / 8 - 1; i++) it.rest[i] = number * (i + 3);
    return it;
}
static void look_at(const item *it, uint64_t number) {
    item right = item_of(number);
    need(memcmp(it, &right, sizeof right) == 0, "another item, or a torn one");
}
typedef struct order {
    tpool_channel *there, *back;
    size_t count;
} order;
static void *sends_items(void *arg) {
    const order *o = (const order *)arg;
    for (size_t i = 1; i <= o->count; i++) {
        item it = item_of(i);
        need(tpool_channel_send(o->there, &it, TPOOL_FOREVER) == TPOOL_OK, "send");
    }
    return NULL;
}
static void *echoes_items(void *arg) {
    const order *o = (const order *)arg;
    for (size_t i = 1; i <= o->count; i++) {
        item it;
        need(tpool_channel_receive(o->there, &it, TPOOL_FOREVER) == TPOOL_OK, "receive");
        need(tpool_channel_send(o->back, &it, TPOOL_FOREVER) == TPOOL_OK, "send");
    }
    return NULL;
}
static tpool *pool;
static tpool_channel *shared_channel(size_t capacity) {
    tpool_channel *channel;
    tpool_channel_config config = { .capacity = capacity, .item_size = sizeof(item), .shared_with = pool };
    need(tpool_channel_create(&channel, &config) == TPOOL_OK, "create");
    return channel;
}
static tpool_future *started(tpool_fn fn, order o) {
    tpool_future *future;
    need(tpool_submit_copy(pool, fn, &o, sizeof o, &future) == TPOOL_OK, "submit");
    return future;
}
static void finish(tpool_future *future) {
    need(tpool_future_result(future, TPOOL_FOREVER, NULL) == TPOOL_OK, "the worker's end");
    tpool_future_release(future);
}
/* The time from the first item on. */
static double channel_stream(size_t count) {
    order o = { shared_channel(CAPACITY), NULL, count };
    tpool_future *future = started(sends_items, o);
    int64_t began = 0;
    for (size_t i = 1; i <= count; i++) {
        item it;
        need(tpool_channel_receive(o.there, &it, TPOOL_FOREVER) == TPOOL_OK, "receive");
        look_at(&it, i);
        if (i == 1) began = tpool_now();
    }
    double took = (double)(tpool_now() - began) / (double)count;
    finish(future);
    tpool_channel_destroy(o.there);
    return took;
}
static double channel_trips(size_t count) {
    order o = { shared_channel(1), shared_channel(1), count };
    tpool_future *future = started(echoes_items, o);
    int64_t began = 0;
    for (size_t i = 1; i <= count; i++) {
        item it = item_of(i);
        need(tpool_channel_send(o.there, &it, TPOOL_FOREVER) == TPOOL_OK, "send");
        need(tpool_channel_receive(o.back, &it, TPOOL_FOREVER) == TPOOL_OK, "receive");
        look_at(&it, i);
        if (i == 1) began = tpool_now();
    }
    double took = (double)(tpool_now() - began) / (double)count;
    finish(future);
    tpool_channel_destroy(o.there);
    tpool_channel_destroy(o.back);
    return took;
}

static void all_bytes(int fd, void *bytes, bool writes) {
    for (size_t done = 0; done < BYTES;) {
        ssize_t n =
            writes ? write(fd, (char *)bytes + done, BYTES - done) : read(fd, (char *)bytes + done, BYTES - done);
        need(n > 0, "a pipe");
        done += (size_t)n;
    }
}
/* A child sends, or echoes. */
static double pipe_stream(size_t count, bool both_ways) {
    int there[2], back[2];
    need(pipe(there) == 0 && pipe(back) == 0, "pipe");
    pid_t child = fork();
    need(child >= 0, "fork");
    if (child == 0) {
        for (size_t i = 1; i <= count; i++) {
            item it = item_of(i);
            if (both_ways) all_bytes(there[0], &it, false);
            all_bytes(back[1], &it, true);
        }
        _exit(0);
    }
    int64_t began = 0;
    for (size_t i = 1; i <= count; i++) {
        item it = item_of(i);
        if (both_ways) all_bytes(there[1], &it, true);
        all_bytes(back[0], &it, false);
        look_at(&it, i);
        if (i == 1) began = tpool_now();
    }
    double took = (double)(tpool_now() - began) / (double)count;
    waitpid(child, NULL, 0);
    for (int i = 0; i < 2; i++) {
        close(there[i]);
        close(back[i]);
    }
    return took;
}

#if defined(BENCH_BOOST)
void *boost_queue(const char *name, size_t capacity, size_t size, int create);
void boost_send(void *queue, const void *item, size_t size);
void boost_receive(void *queue, void *item, size_t size);
void boost_remove(void *queue, const char *name);
static double boost_stream(size_t count, bool both_ways) {
    static const char *names[] = { "tpool_bench_there", "tpool_bench_back" };
    void *queues_[2];
    for (int i = 0; i < 2; i++) queues_[i] = boost_queue(names[i], both_ways ? 1 : CAPACITY, sizeof(item), 1);
    pid_t child = fork();
    need(child >= 0, "fork");
    if (child == 0) {
        for (size_t i = 1; i <= count; i++) {
            item it = item_of(i);
            if (both_ways) boost_receive(queues_[0], &it, sizeof it);
            boost_send(queues_[1], &it, sizeof it);
        }
        _exit(0);
    }
    int64_t began = 0;
    for (size_t i = 1; i <= count; i++) {
        item it = item_of(i);
        if (both_ways) boost_send(queues_[0], &it, sizeof it);
        boost_receive(queues_[1], &it, sizeof it);
        look_at(&it, i);
        if (i == 1) began = tpool_now();
    }
    double took = (double)(tpool_now() - began) / (double)count;
    waitpid(child, NULL, 0);
    for (int i = 0; i < 2; i++) boost_remove(queues_[i], names[i]);
    return took;
}
#endif

static void between_processes(void) {
    static double ours[2][MOST_ROUNDS], pipes[2][MOST_ROUNDS], others[2][MOST_PEERS][MOST_ROUNDS];
    size_t counts[2] = { 500000 / scale, 50000 / scale };
    static const char *names[] = { "channels/processes", "channels/processes-trip" };
#if defined(BENCH_BOOST)
    static double boosts[2][MOST_ROUNDS];
#endif
    for (int round = 0; round < rounds; round++)
        for (int trip = 0; trip < 2; trip++) {
            ours[trip][round] = trip ? channel_trips(counts[1]) : channel_stream(counts[0]);
#if defined(BENCH_BOOST)
            boosts[trip][round] = boost_stream(counts[trip], trip);
#endif
            pipes[trip][round] = pipe_stream(counts[trip], trip);
            ask_peers(round, names[trip], counts[trip] / 10); /* the one that there is takes long */
            for (int i = 0; i < peer_count; i++) others[trip][i][round] = of_peers[i][round];
        }
    for (int trip = 0; trip < 2; trip++) {
        double mine = median(ours[trip]);
        say(names[trip], trip ? "channel (bar: most 5000)" : "channel", trip ? "ns" : "ns an item", mine);
        say(names[trip], "a pipe", trip ? "ns" : "ns an item", median(pipes[trip]));
        memcpy(of_peers, others[trip], sizeof of_peers);
        say_peers(names[trip], trip ? "ns" : "ns an item");
#if defined(BENCH_BOOST)
        double theirs = median(boosts[trip]);
        say(names[trip], "Boost message_queue", trip ? "ns" : "ns an item", theirs);
        say(names[trip], trip ? "times Boost's" : "times Boost's (bar: most 1.2)", "", mine / theirs);
#endif
    }
}

/* --- the lock, which nobody else wants */

static double shared_locks(tpool_shared_mutex *mutex, size_t count) {
    int64_t began = tpool_now();
    for (size_t i = 0; i < count; i++) {
        need(tpool_shared_lock(mutex, TPOOL_FOREVER) == TPOOL_OK, "lock");
        need(tpool_shared_unlock(mutex) == TPOOL_OK, "unlock");
    }
    return (double)(tpool_now() - began) / (double)count;
}
static double robust_locks(pthread_mutex_t *mutex, size_t count) {
    int64_t began = tpool_now();
    for (size_t i = 0; i < count; i++) {
        need(pthread_mutex_lock(mutex) == 0, "lock");
        need(pthread_mutex_unlock(mutex) == 0, "unlock");
    }
    return (double)(tpool_now() - began) / (double)count;
}
static void locks(void) {
    static double ours[MOST_ROUNDS], robust[MOST_ROUNDS];
    tpool_shared_mutex *mutex = (tpool_shared_mutex *)tpool_shared_alloc(pool, sizeof *mutex);
    pthread_mutex_t *other = (pthread_mutex_t *)tpool_shared_alloc(pool, sizeof *other);
    pthread_mutexattr_t attributes;
    need(mutex && other && pthread_mutexattr_init(&attributes) == 0 &&
             pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0 &&
             pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0 &&
             pthread_mutex_init(other, &attributes) == 0,
         "mutexes");
    for (int round = 0; round < rounds; round++) {
        ours[round] = shared_locks(mutex, 2000000 / scale);
        robust[round] = robust_locks(other, 2000000 / scale);
    }
    double mine = median(ours), theirs = median(robust);
    say("shared/lock", "lock and unlock", "ns", mine);
    say("shared/lock", "a robust pthread mutex", "ns", theirs);
    say("shared/lock", "times the robust one (bar: most 1.2)", "", mine / theirs);
}

static const char *only = "";
static bool wanted(const char *name) { return strncmp(name, only, strlen(only)) == 0; }
int main(int count, char **words) {
    for (int i = 1; i < count; i++) {
        bool quick = strcmp(words[i], "--quick") == 0;
        if (quick) {
            scale = 200;
            rounds = 3;
        } else if (strcmp(words[i], "--peer") == 0 && i + 2 < count && peer_count < MOST_PEERS) {
            peers[peer_count][0] = words[++i];
            peers[peer_count++][1] = words[++i];
        } else {
            only = words[i];
        }
    }
    setvbuf(stdout, NULL, _IOLBF, 0); /* nothing is left in it for the children to write again */
    tpool_config config = { .kind = TPOOL_PROCESSES, .max_workers = 1, .shared_size = 1 << 20 };
    need(tpool_create(&pool, &config) == TPOOL_OK && tpool_warm_up(pool, 1) == TPOOL_OK, "a pool");
    if (wanted("channels/1-1")) streams(1, "channels/1-1", 15);
    if (wanted("channels/2-2")) streams(2, "channels/2-2", 30);
    if (wanted("channels/ping-pong")) ping_pong();
    if (wanted("channels/processes")) between_processes();
    if (wanted("shared/lock")) locks();
    need(tpool_destroy(pool) == TPOOL_OK, "destroy");
    return 0;
}
