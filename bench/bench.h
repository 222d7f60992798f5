/* What the workloads share: cases and their command line, clocks, counts, results to verify, percentiles.
 *
 * A workload is one file. It is written once, against the few functions of a contestant (see peers/ours.h, which
 * explains them), and compiled for each of them, as C or as C++: so this file and the workloads keep to what both have.
 *
 *     cc -O2 -std=gnu11 -pthread -I. bench/plain.c -o plain && ./plain             one workload, ours
 *     cc -O2 -std=gnu11 -pthread -I. bench/all.c -o all && ./all --list            all of them
 *     c++ -O2 -std=c++17 -pthread -DBENCH_PEER='"peers/tbb_group.h"' -x c++ bench/plain.c -ltbb
 *
 * A program prints one line for each figure: case, figure, unit, value, separated by tabs. It ends with 0 when all
 * results were right, with 77 when the contestant does not have such a workload, else with 1. */
#ifndef BENCH_H
#define BENCH_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#define BENCH_UNUSED __attribute__((unused))
/* A function whose body the callers in the same file may not look into, as if it lay in another file. */
#if defined(__clang__)
#define BENCH_OPAQUE __attribute__((noinline))
#else
#define BENCH_OPAQUE __attribute__((noipa))
#endif

/* The contestant comes first: ours asks for more of the system headers than plain C does. */
#ifndef BENCH_PEER
#define BENCH_PEER "peers/ours.h"
#endif
typedef void *(*bench_fn)(void *arg);
#include BENCH_PEER

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A contestant that costs microseconds a task runs a part of the tasks; figures are by the task, so they compare. */
#ifndef PEER_FEWER_TASKS
#define PEER_FEWER_TASKS 1
#endif
#ifndef PEER_DRAIN
#define PEER_DRAIN 0
#endif

/* --- cases */

typedef struct bench_case {
    const char *name;  /* workload/variant; the same word in the programs of other languages */
    const char *title; /* for the table */
    void (*run)(const struct bench_case *c);
    int submitters; /* outside threads that submit */
    int workers;
    int option; /* what the workload makes of it */
} bench_case;

/* Stands after a workload's array of cases, and makes them known. */
#define BENCH_WORKLOAD(cases) \
    __attribute__((constructor)) static void cases##_known(void) { bench_add(cases, sizeof cases / sizeof cases[0]); }

enum { BENCH_MOST_CASES = 256 };
static const bench_case *bench_known[BENCH_MOST_CASES];
static size_t bench_known_count;
static const bench_case *bench_current; /* the case that runs */
static bool bench_quick;                /* see that everything runs and is right; the figures mean nothing */

static BENCH_UNUSED void bench_add(const bench_case *cases, size_t count) {
    for (size_t i = 0; i < count && bench_known_count < BENCH_MOST_CASES; i++)
        bench_known[bench_known_count++] = &cases[i];
}

/* The given count, or less in a quick run or for a slow contestant. */
static BENCH_UNUSED size_t bench_count(size_t full) {
    size_t count = full / PEER_FEWER_TASKS;
    if (bench_quick) count /= 100;
    return count < 8 ? 8 : count;
}

/* --- results */

static BENCH_UNUSED void bench_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static BENCH_UNUSED void bench_fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s: ", bench_current ? bench_current->name : "bench");
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    fflush(stdout);
    _exit(1); /* the contestant's threads may be anywhere */
}
#define bench_check(condition) \
    do { \
        if (!(condition)) bench_fail("%s:%d: %s", __FILE__, __LINE__, #condition); \
    } while (0)

/* One figure of the case that runs. */
static BENCH_UNUSED void bench_report(const char *figure, const char *unit, double value) {
    printf("%s\t%s\t%s\t%.6g\n", bench_current->name, figure, unit, value);
}

/* --- clocks, in nanoseconds */

static BENCH_UNUSED int64_t bench_clock(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
static BENCH_UNUSED int64_t bench_now(void) { return bench_clock(CLOCK_MONOTONIC); }
/* CPU time of all threads of this process. */
static BENCH_UNUSED int64_t bench_cpu(void) { return bench_clock(CLOCK_PROCESS_CPUTIME_ID); }

static BENCH_UNUSED void bench_sleep_until(int64_t when) {
    struct timespec t;
    t.tv_sec = (time_t)(when / 1000000000);
    t.tv_nsec = (long)(when % 1000000000);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR) { }
}
static BENCH_UNUSED void bench_sleep(int64_t ns) { bench_sleep_until(bench_now() + ns); }

/* In a loop that waits for another CPU. */
static inline void bench_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* --- memory and samples */

/* Zeroed and touched, so that the first use costs no page fault. */
static BENCH_UNUSED void *bench_memory(size_t size) {
    void *memory = NULL;
    if (posix_memalign(&memory, 4096, size ? size : 1) != 0) bench_fail("no memory");
    memset(memory, 0, size);
    return memory;
}

/* Bytes of this process that are in memory. */
static BENCH_UNUSED long bench_resident(void) {
    char line[256];
    long kib = -1;
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    bench_check(file != NULL);
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "Rss: %ld kB", &kib) == 1) break;
    fclose(file);
    bench_check(kib > 0);
    return kib * 1024;
}

static BENCH_UNUSED int bench_compare(const void *left, const void *right) {
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}
/* Sorts the samples, and reports the mean and the given percentiles in units of so many nanoseconds. */
static BENCH_UNUSED void bench_report_samples(int64_t *samples, size_t count, const char *unit, double unit_ns) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += (double)samples[i];
    qsort(samples, count, sizeof *samples, bench_compare);
    bench_report("mean", unit, sum / (double)count / unit_ns);
    bench_report("p50", unit, (double)samples[count / 2] / unit_ns);
    bench_report("p99", unit, (double)samples[count * 99 / 100] / unit_ns);
}

/* --- the tiny task, and how it is verified
 *
 * It adds its argument to a tally of the thread that runs it, on a cache line of its own: any word that the workers
 * share would cost more than the task. Count and sum must be right in the end. */

typedef struct bench_tally {
    uint64_t count, sum;
    char rest[112]; /* two lines: neighbours are fetched in pairs */
} bench_tally;
enum { BENCH_TALLIES = 1024 };
/* [0] is shared by all further threads. */
static bench_tally bench_tallies[BENCH_TALLIES] __attribute__((aligned(128)));
static int bench_tallies_taken = 1;
static __thread bench_tally *bench_my_tally;

static BENCH_UNUSED BENCH_OPAQUE void bench_tally_first(uint64_t value) {
    int taken = __atomic_load_n(&bench_tallies_taken, __ATOMIC_RELAXED);
    if (taken < BENCH_TALLIES) taken = __atomic_fetch_add(&bench_tallies_taken, 1, __ATOMIC_RELAXED);
    if (taken < BENCH_TALLIES) bench_my_tally = &bench_tallies[taken];
    bench_tally *tally = bench_my_tally ? bench_my_tally : &bench_tallies[0];
    __atomic_fetch_add(&tally->sum, value, __ATOMIC_RELAXED);
    __atomic_fetch_add(&tally->count, 1, __ATOMIC_RELEASE);
}
static inline void bench_tally_add(uint64_t value) {
    bench_tally *tally = bench_my_tally;
    if (__builtin_expect(!tally, 0)) {
        bench_tally_first(value);
        return;
    }
    /* Only this thread writes them; others may look. */
    __atomic_store_n(&tally->sum, tally->sum + value, __ATOMIC_RELAXED);
    __atomic_store_n(&tally->count, tally->count + 1, __ATOMIC_RELEASE);
}
static BENCH_UNUSED uint64_t bench_tally_count(void) {
    uint64_t count = 0;
    for (int i = 0; i < BENCH_TALLIES; i++) count += __atomic_load_n(&bench_tallies[i].count, __ATOMIC_ACQUIRE);
    return count;
}
static BENCH_UNUSED uint64_t bench_tally_sum(void) {
    uint64_t sum = 0;
    for (int i = 0; i < BENCH_TALLIES; i++) sum += __atomic_load_n(&bench_tallies[i].sum, __ATOMIC_RELAXED);
    return sum;
}
static BENCH_UNUSED void bench_tally_reset(void) { /* while nothing runs */
    for (int i = 0; i < BENCH_TALLIES; i++) bench_tallies[i].count = bench_tallies[i].sum = 0;
}
/* Waits until so many tasks have run, at next to no cost to them: by looking every half millisecond, where a million
 * tasks take a hundred and more. */
static BENCH_UNUSED void bench_tally_await(uint64_t count) {
    while (bench_tally_count() < count) bench_sleep(500000);
}
/* The tasks with arguments 0 .. count-1 have each run once. */
static BENCH_UNUSED void bench_tally_verify(uint64_t count) {
    uint64_t ran = bench_tally_count(), sum = bench_tally_sum(), wanted = count * (count - 1) / 2;
    if (ran != count || sum != wanted)
        bench_fail("%llu tasks ran instead of %llu, and their sum is %llu instead of %llu", (unsigned long long)ran,
                   (unsigned long long)count, (unsigned long long)sum, (unsigned long long)wanted);
}

static BENCH_UNUSED void *bench_tiny(void *arg) {
    bench_tally_add((uint64_t)(uintptr_t)arg);
    return NULL;
}
/* The same for tasks with a future: what comes back must be what went in, times 3. */
static BENCH_UNUSED void *bench_tiny_value(void *arg) { return (void *)((uintptr_t)arg * 3); }

/* --- waiting for the last of a few tasks, for contestants that cannot: the last one wakes the waiter */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t ended;
    long left;
} bench_latch = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0 };

static BENCH_UNUSED void bench_latch_arm(long count) { __atomic_store_n(&bench_latch.left, count, __ATOMIC_RELEASE); }
static BENCH_UNUSED void *bench_tiny_latched(void *arg) {
    bench_tally_add((uint64_t)(uintptr_t)arg);
    if (__atomic_sub_fetch(&bench_latch.left, 1, __ATOMIC_ACQ_REL) == 0) {
        pthread_mutex_lock(&bench_latch.lock);
        pthread_cond_broadcast(&bench_latch.ended);
        pthread_mutex_unlock(&bench_latch.lock);
    }
    return NULL;
}
static BENCH_UNUSED void bench_latch_await(void) {
    pthread_mutex_lock(&bench_latch.lock);
    while (__atomic_load_n(&bench_latch.left, __ATOMIC_ACQUIRE) > 0)
        pthread_cond_wait(&bench_latch.ended, &bench_latch.lock);
    pthread_mutex_unlock(&bench_latch.lock);
}

/* A contestant that can wait for all tasks so far does so itself; else the tasks are counted. */
static BENCH_UNUSED void bench_drain(peer_pool *pool, uint64_t count) {
#if PEER_DRAIN
    (void)count;
    peer_drain(pool);
#else
    (void)pool;
    bench_tally_await(count);
#endif
}

/* The same for a burst that the latch was armed for. */
static BENCH_UNUSED void bench_drain_few(peer_pool *pool) {
#if PEER_DRAIN
    peer_drain(pool);
#else
    (void)pool;
    bench_latch_await();
#endif
}

/* --- a gate that tasks wait at */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int arrived;
    bool open;
} bench_gate = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, false };

static BENCH_UNUSED void *bench_wait_at_gate(void *arg) {
    pthread_mutex_lock(&bench_gate.lock);
    bench_gate.arrived++;
    pthread_cond_broadcast(&bench_gate.changed);
    while (!bench_gate.open) pthread_cond_wait(&bench_gate.changed, &bench_gate.lock);
    pthread_mutex_unlock(&bench_gate.lock);
    return arg;
}
static BENCH_UNUSED void bench_gate_await(int count) {
    pthread_mutex_lock(&bench_gate.lock);
    while (bench_gate.arrived < count) pthread_cond_wait(&bench_gate.changed, &bench_gate.lock);
    pthread_mutex_unlock(&bench_gate.lock);
}
static BENCH_UNUSED void bench_gate_open(void) {
    pthread_mutex_lock(&bench_gate.lock);
    bench_gate.open = true;
    pthread_cond_broadcast(&bench_gate.changed);
    pthread_mutex_unlock(&bench_gate.lock);
}

/* --- several submitting threads that begin together */

typedef struct bench_submitter {
    pthread_t thread;
    pthread_barrier_t *start;
    void (*body)(struct bench_submitter *self);
    peer_pool *pool;
    size_t begin, end; /* its share of the tasks */
    void *context;
} bench_submitter;

static BENCH_UNUSED void bench_submitter_body(void *arg) {
    bench_submitter *self = (bench_submitter *)arg;
    self->body(self);
}
/* Some contestants take tasks only from within a region of theirs. */
static BENCH_UNUSED void bench_submitter_run(bench_submitter *self) {
#if PEER_WITHIN
    peer_within(self->pool, bench_submitter_body, self);
#else
    bench_submitter_body(self);
#endif
}
static BENCH_UNUSED void *bench_submitter_main(void *arg) {
    bench_submitter *self = (bench_submitter *)arg;
    pthread_barrier_wait(self->start);
    bench_submitter_run(self);
    return NULL;
}
/* All submitting is done from here. Shares 0 .. count-1 out to the threads; with one it is the calling thread. Gives
 * the time at which they began. */
static BENCH_UNUSED int64_t bench_submit_from(int threads, void (*body)(bench_submitter *self), peer_pool *pool,
                                              size_t count, void *context) {
    bench_submitter submitters[64];
    pthread_barrier_t start;
    int64_t began;
    bench_check(threads >= 1 && threads <= 64);
    for (int i = 0; i < threads; i++) {
        submitters[i].start = &start;
        submitters[i].body = body;
        submitters[i].pool = pool;
        submitters[i].begin = count * (size_t)i / (size_t)threads;
        submitters[i].end = count * (size_t)(i + 1) / (size_t)threads;
        submitters[i].context = context;
    }
    if (threads == 1) {
        began = bench_now();
        bench_submitter_run(&submitters[0]);
        return began;
    }
    pthread_barrier_init(&start, NULL, (unsigned)threads + 1);
    for (int i = 0; i < threads; i++)
        bench_check(pthread_create(&submitters[i].thread, NULL, bench_submitter_main, &submitters[i]) == 0);
    bench_sleep(1000000); /* they stand at the start */
    began = bench_now();
    pthread_barrier_wait(&start);
    for (int i = 0; i < threads; i++) pthread_join(submitters[i].thread, NULL);
    pthread_barrier_destroy(&start);
    return began;
}

/* --- the command line */

static BENCH_UNUSED bool bench_wanted(const bench_case *c, int argc, char **argv) {
    bool any = false;
    for (int i = 1; i < argc; i++) {
        size_t length = strlen(argv[i]);
        if (argv[i][0] == '-') continue;
        any = true;
        if (strcmp(c->name, argv[i]) == 0) return true;
        if (strncmp(c->name, argv[i], length) == 0 && c->name[length] == '/') return true;
    }
    return !any;
}
static BENCH_UNUSED int bench_run(const bench_case *c) {
    bench_current = c;
    c->run(c);
    fflush(stdout);
    return 0;
}

int main(int argc, char **argv) {
    bool list = false;
    size_t wanted = 0;
    int status, worst = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--list") == 0) list = true;
        else if (strcmp(argv[i], "--quick") == 0) bench_quick = true;
        else if (argv[i][0] == '-') {
            fprintf(stderr, "usage: %s [--list] [--quick] [WORKLOAD | WORKLOAD/VARIANT]...\n", argv[0]);
            return 2;
        }
    }
    for (size_t i = 0; i < bench_known_count; i++) {
        if (!bench_wanted(bench_known[i], argc, argv)) continue;
        wanted++;
        if (list) printf("%s\t%s\n", bench_known[i]->name, bench_known[i]->title);
    }
    if (list) return 0;
    if (wanted == 0) return 77;
    for (size_t i = 0; i < bench_known_count; i++) {
        if (!bench_wanted(bench_known[i], argc, argv)) continue;
        if (wanted == 1) return bench_run(bench_known[i]);
        /* Of several, each in a process of its own: no case finds the memory or the threads of another. */
        pid_t child = fork();
        if (child < 0) return 1;
        if (child == 0) {
            status = bench_run(bench_known[i]);
            exit(status);
        }
        if (waitpid(child, &status, 0) != child || status != 0) worst = 1;
    }
    return worst;
}

#endif
