/* What the machine itself costs, measured in the same run as everything else: no pool can be below these. */
#define BENCH_PEER "peers/none.h"
#include "bench.h"
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>

enum { FLOOR_FREE, FLOOR_PINNED };

static void floor_pin(void) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    bench_check(sched_setaffinity(0, sizeof one, &one) == 0); /* threads and children started later inherit it */
}
static void floor_report_each(int64_t began, size_t count) {
    bench_report("time", "ns", (double)(bench_now() - began) / (double)count);
}

/* The C library leaves its locks out while there is only one thread, which no program with a pool has. */
static void *floor_bystander_main(void *arg) {
    for (;;) pause();
    return arg;
}
static void floor_bystander(void) {
    pthread_t thread;
    bench_check(pthread_create(&thread, NULL, floor_bystander_main, NULL) == 0);
    pthread_detach(thread);
}

/* --- one thread at work */

static void floor_rmw(const bench_case *c) {
    size_t count = bench_count(20000000);
    uint64_t word = 0;
    (void)c;
    floor_bystander();
    int64_t began = bench_now();
    for (size_t i = 0; i < count; i++) __atomic_fetch_add(&word, 1, __ATOMIC_RELAXED);
    floor_report_each(began, count);
    bench_check(word == count);
}
static void floor_mutex(const bench_case *c) {
    size_t count = bench_count(10000000);
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    (void)c;
    floor_bystander();
    int64_t began = bench_now();
    for (size_t i = 0; i < count; i++) {
        pthread_mutex_lock(&lock);
        pthread_mutex_unlock(&lock);
    }
    floor_report_each(began, count);
}
static void floor_malloc_hot(const bench_case *c) {
    size_t count = bench_count(10000000);
    (void)c;
    floor_bystander();
    int64_t began = bench_now();
    for (size_t i = 0; i < count; i++) {
        void *volatile block = malloc(64);
        free(block);
    }
    floor_report_each(began, count);
}
/* All are there before the first is freed, and freed in the order of allocation, as futures are. */
static void floor_malloc_cold(const bench_case *c) {
    size_t count = bench_count(1000000);
    void **blocks = (void **)bench_memory(count * sizeof *blocks);
    (void)c;
    floor_bystander();
    for (int pass = 0; pass < 2; pass++) {
        int64_t began = bench_now();
        for (size_t i = 0; i < count; i++) {
            blocks[i] = malloc(64);
            *(char *)blocks[i] = 1;
        }
        for (size_t i = 0; i < count; i++) free(blocks[i]);
        if (pass == 1) floor_report_each(began, count);
    }
    free(blocks);
}
static void floor_clock(const bench_case *c) {
    size_t count = bench_count(10000000);
    int64_t began = bench_now();
    (void)c;
    for (size_t i = 0; i < count; i++) bench_now();
    floor_report_each(began, count);
}
static void floor_page(const bench_case *c) {
    size_t count = bench_count(20000);
    (void)c;
    char *memory = (char *)mmap(NULL, count * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bench_check(memory != MAP_FAILED);
    madvise(memory, count * 4096, MADV_NOHUGEPAGE);
    int64_t began = bench_now();
    for (size_t i = 0; i < count; i++) memory[i * 4096] = 1;
    floor_report_each(began, count);
    munmap(memory, count * 4096);
}
static void floor_memcpy(const bench_case *c) {
    size_t size = bench_quick ? 1 << 20 : 16 << 20, times = bench_quick ? 4 : 64;
    char *from = (char *)bench_memory(size), *to = (char *)bench_memory(size);
    (void)c;
    memset(from, 1, size);
    int64_t began = bench_now();
    for (size_t i = 0; i < times; i++) {
        memcpy(to, from, size);
        __asm__ volatile("" : : "r"(to) : "memory");
    }
    bench_report("speed", "GB/s", (double)size * (double)times / (double)(bench_now() - began));
    bench_check(to[size - 1] == 1);
    free(from);
    free(to);
}
static void floor_pause(const bench_case *c) {
    size_t count = bench_count(5000);
    (void)c;
    int64_t cpu = bench_cpu();
    for (size_t i = 0; i < count; i++) bench_sleep(200000);
    bench_report("cpu", "ns", (double)(bench_cpu() - cpu) / (double)count);
}

/* --- two threads that answer each other. Even values are this side's turn, odd ones the partner's. */

typedef struct floor_pair {
    unsigned turn;
    char rest[124];
    size_t count;
    pthread_mutex_t lock;
    pthread_cond_t changed;
} floor_pair;

/* A sample for each batch of trips: where a trip is short, the clock would cost as much. */
static void floor_pair_run(size_t count, size_t batch, void *(*partner)(void *pair),
                           void (*trip)(floor_pair *pair, unsigned turn), int64_t *samples) {
    static floor_pair pair __attribute__((aligned(128)));
    pthread_t thread;
    pair.turn = 0;
    pair.count = count;
    pthread_mutex_init(&pair.lock, NULL);
    pthread_cond_init(&pair.changed, NULL);
    bench_check(pthread_create(&thread, NULL, partner, &pair) == 0);
    int64_t last = bench_now();
    for (size_t i = 0, taken = 0; i < count;) {
        for (size_t j = 0; j < batch; j++) trip(&pair, (unsigned)i++ * 2);
        int64_t now = bench_now();
        samples[taken++] = (now - last) / (int64_t)batch;
        last = now;
    }
    pthread_join(thread, NULL);
    bench_check(pair.turn == (unsigned)count * 2);
}

static void *floor_line_partner(void *arg) {
    floor_pair *pair = (floor_pair *)arg;
    for (size_t i = 0; i < pair->count; i++) {
        while (__atomic_load_n(&pair->turn, __ATOMIC_ACQUIRE) != (unsigned)i * 2 + 1) bench_relax();
        __atomic_store_n(&pair->turn, (unsigned)i * 2 + 2, __ATOMIC_RELEASE);
    }
    return NULL;
}
static void floor_line_trip(floor_pair *pair, unsigned turn) {
    __atomic_store_n(&pair->turn, turn + 1, __ATOMIC_RELEASE);
    while (__atomic_load_n(&pair->turn, __ATOMIC_ACQUIRE) != turn + 2) bench_relax();
}

static void floor_futex_wait(unsigned *word, unsigned seen) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}
static void floor_futex_wake(unsigned *word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0); }
static void floor_futex_await(unsigned *word, unsigned wanted) {
    unsigned seen;
    while ((seen = __atomic_load_n(word, __ATOMIC_ACQUIRE)) != wanted) floor_futex_wait(word, seen);
}
static void floor_futex_pass(unsigned *word, unsigned turn) {
    __atomic_store_n(word, turn, __ATOMIC_RELEASE);
    floor_futex_wake(word);
}
static void *floor_futex_partner(void *arg) {
    floor_pair *pair = (floor_pair *)arg;
    for (size_t i = 0; i < pair->count; i++) {
        floor_futex_await(&pair->turn, (unsigned)i * 2 + 1);
        floor_futex_pass(&pair->turn, (unsigned)i * 2 + 2);
    }
    return NULL;
}
static void floor_futex_trip(floor_pair *pair, unsigned turn) {
    floor_futex_pass(&pair->turn, turn + 1);
    floor_futex_await(&pair->turn, turn + 2);
}

static void floor_condition_await(floor_pair *pair, unsigned wanted) {
    pthread_mutex_lock(&pair->lock);
    while (pair->turn != wanted) pthread_cond_wait(&pair->changed, &pair->lock);
    pthread_mutex_unlock(&pair->lock);
}
static void floor_condition_pass(floor_pair *pair, unsigned turn) {
    pthread_mutex_lock(&pair->lock);
    pair->turn = turn;
    pthread_mutex_unlock(&pair->lock);
    pthread_cond_signal(&pair->changed);
}
static void *floor_condition_partner(void *arg) {
    floor_pair *pair = (floor_pair *)arg;
    for (size_t i = 0; i < pair->count; i++) {
        floor_condition_await(pair, (unsigned)i * 2 + 1);
        floor_condition_pass(pair, (unsigned)i * 2 + 2);
    }
    return NULL;
}
static void floor_condition_trip(floor_pair *pair, unsigned turn) {
    floor_condition_pass(pair, turn + 1);
    floor_condition_await(pair, turn + 2);
}

static void floor_pingpong(const bench_case *c, size_t full, size_t batch, void *(*partner)(void *),
                           void (*trip)(floor_pair *, unsigned)) {
    size_t count = bench_count(full) / batch * batch;
    int64_t *samples = (int64_t *)bench_memory(count * sizeof *samples);
    if (c->option == FLOOR_PINNED) floor_pin();
    floor_pair_run(count, batch, partner, trip, samples);
    bench_report_samples(samples, count / batch, "ns", 1);
    free(samples);
}
static void floor_line(const bench_case *c) { floor_pingpong(c, 2000000, 100, floor_line_partner, floor_line_trip); }
static void floor_futex(const bench_case *c) { floor_pingpong(c, 50000, 1, floor_futex_partner, floor_futex_trip); }
static void floor_condition(const bench_case *c) {
    floor_pingpong(c, 50000, 1, floor_condition_partner, floor_condition_trip);
}

/* What FUTEX_WAKE costs its caller when there is somebody to wake, who sleeps for certain: the wake says so. */
static void *floor_sleeper(void *arg) {
    floor_pair *pair = (floor_pair *)arg;
    while (__atomic_load_n(&pair->turn, __ATOMIC_ACQUIRE) == 0) floor_futex_wait(&pair->turn, 0);
    return NULL;
}
static void floor_wake(const bench_case *c) {
    static floor_pair pair;
    size_t count = bench_count(2000);
    int64_t *samples = (int64_t *)bench_memory(count * sizeof *samples);
    pthread_t thread;
    (void)c;
    bench_check(pthread_create(&thread, NULL, floor_sleeper, &pair) == 0);
    for (size_t i = 0; i < count;) {
        bench_sleep(200000);
        int64_t began = bench_now();
        long woken = syscall(SYS_futex, &pair.turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
        samples[i] = bench_now() - began;
        i += woken == 1;
    }
    __atomic_store_n(&pair.turn, 1, __ATOMIC_RELEASE);
    floor_futex_wake(&pair.turn);
    pthread_join(thread, NULL);
    bench_report_samples(samples, count, "ns", 1);
    free(samples);
}

/* From a wake to the first store of the thread that has slept meanwhile for c->option ns, while the waker, which has
 * computed, looks for that: a loop or a map that needs a sleeping worker begins so late there. */
static void *floor_woken(void *arg) {
    floor_pair *pair = (floor_pair *)arg;
    for (size_t i = 0; i < pair->count; i++) {
        floor_futex_await(&pair->turn, (unsigned)i * 2 + 1);
        __atomic_store_n(&pair->turn, (unsigned)i * 2 + 2, __ATOMIC_RELEASE);
    }
    return NULL;
}
static void floor_wake_late(const bench_case *c) {
    static floor_pair pair;
    size_t count = bench_count(2000);
    int64_t *samples = (int64_t *)bench_memory(count * sizeof *samples);
    pthread_t thread;
    pair.count = count;
    bench_check(pthread_create(&thread, NULL, floor_woken, &pair) == 0);
    for (size_t i = 0; i < count; i++) {
        int64_t began = bench_now();
        while (bench_now() - began < c->option) { }
        began = bench_now();
        floor_futex_pass(&pair.turn, (unsigned)i * 2 + 1);
        while (__atomic_load_n(&pair.turn, __ATOMIC_ACQUIRE) != (unsigned)i * 2 + 2) { }
        samples[i] = bench_now() - began;
    }
    pthread_join(thread, NULL);
    bench_report_samples(samples, count, "ns", 1);
    free(samples);
}

/* --- threads and processes */

static void *floor_nothing(void *arg) { return arg; }
static void floor_thread(const bench_case *c) {
    size_t count = bench_count(10000);
    int64_t *samples = (int64_t *)bench_memory(count * sizeof *samples);
    (void)c;
    for (size_t i = 0; i < count; i++) {
        pthread_t thread;
        int64_t began = bench_now();
        bench_check(pthread_create(&thread, NULL, floor_nothing, NULL) == 0);
        pthread_join(thread, NULL);
        samples[i] = bench_now() - began;
    }
    bench_report_samples(samples, count, "ns", 1);
    free(samples);
}
/* As many as all workers of a pool are: all are there before the first is joined. */
static void floor_threads(const bench_case *c) {
    enum { MOST = 8 };
    size_t count = bench_count(2000), threads_count = (size_t)c->option;
    int64_t *samples = (int64_t *)bench_memory(count * sizeof *samples);
    bench_check(threads_count <= MOST);
    for (size_t i = 0; i < count; i++) {
        pthread_t threads[MOST];
        int64_t began = bench_now();
        for (size_t k = 0; k < threads_count; k++)
            bench_check(pthread_create(&threads[k], NULL, floor_nothing, NULL) == 0);
        for (size_t k = 0; k < threads_count; k++) pthread_join(threads[k], NULL);
        samples[i] = bench_now() - began;
    }
    bench_report_samples(samples, count, "ns", 1);
    free(samples);
}
static void floor_fork(const bench_case *c) {
    size_t count = bench_count(2000);
    int64_t *samples = (int64_t *)bench_memory(count * sizeof *samples);
    (void)c;
    for (size_t i = 0; i < count; i++) {
        int status = -1;
        int64_t began = bench_now();
        pid_t child = fork();
        if (child == 0) _exit(0);
        bench_check(child > 0 && waitpid(child, &status, 0) == child && status == 0);
        samples[i] = bench_now() - began;
    }
    bench_report_samples(samples, count, "ns", 1);
    free(samples);
}
static void floor_pipe(const bench_case *c) {
    size_t count = bench_count(50000);
    int64_t *samples = (int64_t *)bench_memory(count * sizeof *samples);
    int there[2], back[2], status = -1;
    char byte = 0;
    if (c->option == FLOOR_PINNED) floor_pin();
    bench_check(pipe(there) == 0 && pipe(back) == 0);
    pid_t child = fork();
    bench_check(child >= 0);
    if (child == 0) {
        close(there[1]);
        close(back[0]);
        while (read(there[0], &byte, 1) == 1)
            if (write(back[1], &byte, 1) != 1) _exit(1);
        _exit(0);
    }
    int64_t last = bench_now();
    for (size_t i = 0; i < count; i++) {
        byte = (char)i;
        bench_check(write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1 && byte == (char)i);
        int64_t now = bench_now();
        samples[i] = now - last;
        last = now;
    }
    close(there[1]);
    bench_check(waitpid(child, &status, 0) == child && status == 0);
    bench_report_samples(samples, count, "ns", 1);
    free(samples);
}

static const bench_case floor_cases[] = {
    { "floor/rmw", "uncontended atomic read-modify-write", floor_rmw, 0, 0, 0 },
    { "floor/line", "cache-line ping-pong between two threads, round trip", floor_line, 0, 0, FLOOR_FREE },
    { "floor/mutex", "mutex lock and unlock, uncontended", floor_mutex, 0, 0, 0 },
    { "floor/malloc-hot", "malloc and free of 64 bytes, hot", floor_malloc_hot, 0, 0, 0 },
    { "floor/malloc-cold", "the same, 1,000,000 before the first free", floor_malloc_cold, 0, 0, 0 },
    { "floor/clock", "read of the monotonic clock", floor_clock, 0, 0, 0 },
    { "floor/page", "first touch of a page", floor_page, 0, 0, 0 },
    { "floor/memcpy", "memcpy of 16 MiB", floor_memcpy, 0, 0, 0 },
    { "floor/futex-wake", "FUTEX_WAKE with a sleeper, for the waker", floor_wake, 0, 0, 0 },
    { "floor/wake-100us", "from a wake until a thread runs that has slept for 100 us", floor_wake_late, 0, 0, 100000 },
    { "floor/wake-1ms", "the same, 1 ms", floor_wake_late, 0, 0, 1000000 },
    { "floor/futex", "futex ping-pong, round trip", floor_futex, 0, 0, FLOOR_FREE },
    { "floor/futex-pinned", "the same, both threads pinned to one core", floor_futex, 0, 0, FLOOR_PINNED },
    { "floor/condition", "condition-variable ping-pong, round trip", floor_condition, 0, 0, FLOOR_FREE },
    { "floor/thread", "pthread_create and join", floor_thread, 0, 0, 0 },
    { "floor/threads-2", "the same, 2 at once: both created, both joined", floor_threads, 0, 0, 2 },
    { "floor/threads-8", "the same, 8 at once", floor_threads, 0, 0, 8 },
    { "floor/pipe", "pipe ping-pong between two processes, round trip", floor_pipe, 0, 0, FLOOR_FREE },
    { "floor/pipe-pinned", "the same, both processes pinned to one core", floor_pipe, 0, 0, FLOOR_PINNED },
    { "floor/fork", "fork, exit and wait", floor_fork, 0, 0, 0 },
    { "floor/pause", "a pause of 200 us, CPU time", floor_pause, 0, 0, 0 },
};
BENCH_WORKLOAD(floor_cases)
