/* What chaos.c puts beneath tpool.h, and the header itself: delays at every atomic access, memory that is counted and
   refused by chance, threads that are refused by chance. Without cmocka, so that it builds for any target. */
#ifndef TPOOL_TESTS_CHAOS_HOOKS_H
#define TPOOL_TESTS_CHAOS_HOOKS_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#if !defined(__STDC_NO_THREADS__)
#include <threads.h>
#endif

#if defined(__SANITIZE_THREAD__)
#define TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TSAN 1
#endif
#endif
#ifndef TSAN
#define TSAN 0
#endif
#if defined(__SANITIZE_ADDRESS__)
#define ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ASAN 1
#endif
#endif
#ifndef ASAN
#define ASAN 0
#endif
#define SLOW (TSAN || ASAN)

/* ---- Chance: each thread, task and callback has a generator of its own, seeded by who made it, so that what it does
   depends on the seed and not on who comes first. */
typedef struct rng {
    uint64_t state;
} rng;
static inline uint64_t mix(uint64_t a, uint64_t b) { /* splitmix64 */
    uint64_t x = a * UINT64_C(0x9E3779B97F4A7C15) + b + UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
    return x ^ x >> 31;
}
static inline uint64_t draw64(rng *g) { return g->state = mix(g->state, 1); }
static inline unsigned draw(rng *g, unsigned below) { return (unsigned)((draw64(g) >> 20) % below); }
static inline bool one_in(rng *g, unsigned n) { return draw(g, n) == 0; }

/* ---- Delays. At most accesses nothing; now and then a pause, a yield, rarely a short sleep. Besides, each life has its
   own few lines of the header at which threads dally: so a window of two instructions stays open for long. */
static _Atomic(uint32_t) delay_mask, delay_hot, delay_long_us;
static _Atomic(uint32_t) delay_seed;
static _Thread_local uint32_t delay_state;
static _Thread_local bool undelayed; /* for a call that the harness repeats until others have gone on */

static void sleep_us(long us) { /* not a cancellation point; a signal may end it */
    int saved = errno;
#if defined(SYS_nanosleep)
    struct {
        long sec, nsec;
    } t = { us / 1000000, us % 1000000 * 1000 };
    syscall(SYS_nanosleep, &t, NULL);
#else
    (void)us;
    sched_yield();
#endif
    errno = saved;
}
__attribute__((noinline, cold)) static void dally(uint32_t x) {
    int saved = errno;
    unsigned kind = (x >> 8) % 32;
    if (kind < 12)
        for (volatile uint32_t i = 0; i < (x >> 16) % 600; i++) { }
    else if (kind < 24) sched_yield();
    else if (kind < 31) sleep_us((long)((x >> 16) % 50));
    else sleep_us((long)((x >> 16) % (atomic_load_explicit(&delay_long_us, memory_order_relaxed) + 1)));
    errno = saved;
}
static inline void delay_point(uint32_t line) {
    uint32_t mask = atomic_load_explicit(&delay_mask, memory_order_relaxed);
    if (mask == 0 || undelayed) return;
    uint32_t x = delay_state;
    if (x == 0) x = (uint32_t)mix(atomic_fetch_add_explicit(&delay_seed, 1, memory_order_relaxed), 7) | 1;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    delay_state = x;
    bool hot = (line * 2654435761u ^ atomic_load_explicit(&delay_hot, memory_order_relaxed)) * 2246822519u >> 26 == 0;
    if ((x & (hot ? 3u : mask)) != 0) return;
    static _Thread_local uint32_t last, times; /* a loop over many words, a few lines long, is passed some time */
    times = line - last + 8 < 16 ? times + 1 : 0;
    last = line;
    if (times < 20 || times % 256 == 0) dally(x * 2654435761u);
}
#define TPOOL__SCHEDULE_POINT() delay_point(__LINE__)
#define TPOOL__DRAINER_LOOKS TPOOL_FOREVER /* a wake that is lost is a hang */

/* ---- Memory: counted, overwritten before and after, refused one time in refuse_memory. */
static atomic_long live_blocks;
static atomic_uint refuse_memory, refuse_threads; /* one in so many; 0: none */
static _Atomic(uint64_t) refusal_draws;
static atomic_uint refused_once; /* something has been refused in this world */
static bool refuses(atomic_uint *rate) {
    unsigned n = atomic_load_explicit(rate, memory_order_relaxed);
    if (n == 0) return false;
    uint64_t x = mix(atomic_fetch_add_explicit(&refusal_draws, 1, memory_order_relaxed), atomic_load(&delay_hot));
    if (x % n != 0) return false;
    atomic_store(&refused_once, 1);
    return true;
}
typedef union block_head {
    size_t size;
    max_align_t alignment;
} block_head;
static void *chaos_malloc(size_t size) {
    if (refuses(&refuse_memory)) return NULL;
    block_head *head = malloc(sizeof *head + size);
    if (!head) return NULL;
    head->size = size;
    memset(head + 1, 0xA5, size < 4096 ? size : 4096);
    atomic_fetch_add_explicit(&live_blocks, 1, memory_order_relaxed);
    return head + 1;
}
static void chaos_free(void *memory) {
    if (!memory) return;
    block_head *head = (block_head *)memory - 1;
    memset(memory, 0xDD, head->size < 4096 ? head->size : 4096);
    atomic_fetch_sub_explicit(&live_blocks, 1, memory_order_relaxed);
    free(head);
}
#define TPOOL_MALLOC(size) chaos_malloc(size)
#define TPOOL_FREE(pointer) chaos_free(pointer)

/* Forks of a pool of processes, by its server too: in memory that all of them share. */
typedef struct forks_shared {
    atomic_uint rate, draws, refused;
} forks_shared;
static forks_shared *forks_shared_by_all;
static pid_t chaos_fork(void) {
    forks_shared *of = forks_shared_by_all;
    unsigned n = of ? atomic_load(&of->rate) : 0;
    if (n == 0 || mix(atomic_fetch_add(&of->draws, 1), 11) % n != 0) return fork();
    atomic_store(&of->refused, 1);
    errno = EAGAIN;
    return -1;
}
#define TPOOL__FORK() chaos_fork()

#define pthread_create(thread, attributes, start, arg) \
    (refuses(&refuse_threads) ? EAGAIN : pthread_create(thread, attributes, start, arg))
#define thrd_create(thread, start, arg) (refuses(&refuse_threads) ? thrd_error : thrd_create(thread, start, arg))

static _Noreturn void fail(const char *format, ...);
#define TPOOL_ASSERT(x) ((x) ? (void)0 : fail("tpool.h:%d: not true: %s", __LINE__, #x))
#define CHECK_FAILURE(what) fail("%s", what)
#include "internals/check.h"
#undef pthread_create
#undef thrd_create
#endif
