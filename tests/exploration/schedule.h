/* Schedule exploration: tpool.h's real code, run under a scheduler that decides at every atomic access, every wait on a
   word, every thread's start and end, and every look at the clock, who goes on. Include this in place of tpool.h, write
   scenarios (functions that use the public interface and pthread_create, which is ours here), and end with

       SCHEDULES(SCENARIO(name, .preemptions = 2), ...)

   HOW. The POSIX calls of tpool.h's platform section are replaced beneath it, by macros that stand before the header:
   futexes, threads, thread-specific data, the clock; so is <stdatomic.h>. Nothing else of the header is known here, but
   TPOOL__PER_THREAD. Threads are coroutines of one thread, so a switch costs some nanoseconds. Before every execution
   all static data of the program (the scenarios' too) is put back as it was when main began, so every execution of the
   same choices is the same. The clock stands still until every thread waits; or goes on to the next time limit as a
   choice, like a preemption. A scenario runs on one CPU as far as tpool_cpu_count knows, unless it has .cpus.

   EXHAUSTIVE. Every execution with at most .preemptions preemptions, depth first, by running again from the start
   (Musuvathi and Qadeer, "Iterative context bounding", PLDI 2007, and CHESS). A switch where a thread blocks, ends or
   yields is free, and all of them are tried. A thread that yields or pauses is not chosen again before everyone who could
   run then has made a step or blocked ("Fair stateless model checking", PLDI 2008). Two reductions, both sound:
     - no preemption before an access to a word that no two living threads share in any execution seen: commuting it
       with the others' steps changes nothing. Words that turn out to be shared later begin the search again.
     - an execution is cut short where the accesses so far have the same happens-before graph as at a point seen before
       with as many preemptions left: the states are equal, since threads communicate only by these accesses. The graph
       is known by a 64-bit hash. ("Partial-order reduction for context-bounded state exploration", MSR-TR-2007-12.)
       So what a scenario's own functions tell each other must be atomic, too, where the order counts.
   Only sequentially consistent executions: weak memory is the business of tests/model and of ThreadSanitizer.

   BY CHANCE. PCT (Burckhardt, Kothari, Musuvathi, Nagarakatti, ASPLOS 2010) with .depth - 1 priority changes, for
   scenarios that are too large. Each run prints on failure the seed that replays it.

   WHAT IS FOUND. All blocked; no end after many steps (a livelock); a CHECK of the scenario that fails; a crash; memory
   not freed at the end; freed twice; written after it was freed or past its end; an atomic access to freed memory, to
   the stack of a thread that has ended, or to a part of a stack that is not in use (a wake touches only the address, and
   does not count).
   Memory is never used twice within an execution, and what is freed is overwritten.

   A program takes the names of scenarios to run (default: all), and
       --preemptions N   instead of the scenario's own bound       --chance N   N runs by chance instead
       --replay C        the execution that a failure printed      --seed S     the run by chance that it printed
       --quick           at most .quick preemptions                --trace      print every step (with the last two)
       --plain           without the reductions: slow, and with as many different ends
       --part N          one in N of the scenario's runs by chance (with --quick one in 50)
       --measure         all pools that new_pool makes collect latency figures
       --warm-up N       only the Nth run of those by chance with which a search begins
       --seconds N       at most so much CPU time a scenario (then it is not exhausted, which fails) */
#ifndef TPOOL_TESTS_SCHEDULE_H
#define TPOOL_TESTS_SCHEDULE_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    SCHEDULE_THREADS = 24, /* in one execution, ended ones too */
    SCHEDULE_STACK = 256 * 1024,
    SCHEDULE_ARENA = 8 * 1024 * 1024,
    SCHEDULE_GRAIN = 32,      /* of allocations */
    SCHEDULE_WORDS = 1 << 18, /* atomic words in all executions of a scenario: a hash table */
    SCHEDULE_ALLOCATIONS = 1 << 14,
    SCHEDULE_PATH = 1 << 16,     /* choices in one execution */
    SCHEDULE_STEPS = 250 * 1000, /* after so many it does not end */
    SCHEDULE_CLOCK = 250,        /* the choice of letting time pass, beside the threads' numbers */
    SCHEDULE_RED_ZONE = 32
};
#define SCHEDULE_NS_A_LONG_TIME (INT64_C(3600) * 1000000000) /* time limits from here on never pass */

typedef struct schedule_scenario {
    const char *name;
    void (*run)(void);
    int quick;         /* preemptions in the quick suite, ... */
    int preemptions;   /* ... and in the thorough one */
    int cpus;          /* 0: 1 */
    unsigned chance;   /* > 0: not exhaustive, but so many runs by chance */
    unsigned depth;    /* of PCT */
    int outcomes;      /* outcome(0) to outcome(n - 1) must each be reached by some schedule */
    const char *fails; /* it must fail, with this among what is told (to test the explorer) */
    bool keeps;        /* memory that static data leads to may be left at the end (shared pools) */
} schedule_scenario;

/* ---- The threads, and switching between them */
typedef enum schedule_status {
    SCHEDULE_NEVER,
    SCHEDULE_READY,
    SCHEDULE_ASLEEP,
    SCHEDULE_JOINING,
    SCHEDULE_ENDED
} schedule_status;
typedef struct schedule_thread {
    void *stack_pointer;
    schedule_status status;
    uint32_t behind; /* it yielded: who must make a step first */
    bool timed_out;
    const void *asleep_on; /* a word, or a thread in `threads` */
    int64_t wake_at;
    uint64_t queued;          /* who slept first is woken first */
    uint64_t past;            /* hash of all that it did, and of all that happened before that */
    const char *functions[5]; /* where its last steps were made, newest first */
    int line;
    void *(*fn)(void *);
    void *arg, *result;
    const void *specific[4];
    char name[16];
} schedule_thread;

typedef struct schedule_word {
    uintptr_t address;
    uint32_t execution; /* what follows is of this execution */
    uint32_t readers;   /* threads that touched it while others lived */
    bool written;
    bool shared, found_shared;  /* in this search; in the next */
    uint64_t last_write, reads; /* hashes */
} schedule_word;

typedef struct schedule_choice {
    uint8_t count, free, chosen, used;
    uint8_t who[SCHEDULE_THREADS + 1];
} schedule_choice;
typedef struct schedule_seen {
    uint64_t state;
    uint32_t used, search;
} schedule_seen;
typedef struct schedule_block {
    char *begin;
    size_t size;
    bool freed;
} schedule_block;

typedef enum schedule_mode { SCHEDULE_DEPTH_FIRST, SCHEDULE_AT_RANDOM, SCHEDULE_PCT } schedule_mode;
typedef enum schedule_end { SCHEDULE_OVER, SCHEDULE_CUT, SCHEDULE_FAILED } schedule_end;

/* Everything that lives longer than one execution; not among the static data. */
typedef struct schedule_state {
    schedule_thread threads[SCHEDULE_THREADS];
    int current, started;
    uint32_t alive, ready, timed, yielded, settling; /* sets of threads */
    void *explorer;                                  /* its stack pointer */
    char *stacks, *arena;
    uint8_t *live; /* by grain of the arena */
    size_t arena_used, arena_most;
    schedule_block *blocks;
    size_t block_count, live_blocks;
    int64_t now;
    uint64_t queue_count, steps, clock_steps;
    uint64_t state; /* hash: all threads' pasts */
    schedule_word *words;
    uint32_t execution;
    size_t word_count;
    int cpus;
    unsigned refused_allocation, refused_thread; /* the nth from now on; 0: none */
    void (*exit_handlers[8])(void);
    int exit_handler_count;
    int key_count;
    void (*key_destructors[4])(void *);
    /* the search */
    schedule_mode mode;
    int preemptions;
    schedule_choice *path;
    size_t depth, replayed, deepest;
    unsigned used;
    bool caching, more_shared, all_shared;
    schedule_seen *seen;
    size_t seen_count, seen_size;
    uint32_t search;
    uint64_t random;
    uint32_t priorities[SCHEDULE_THREADS];
    uint64_t changes[16];
    unsigned change_count;
    uint32_t lowest;
    uint64_t longest;
    int most_threads;
    bool clock_due;
    bool measure;
    /* what came of it */
    schedule_end end;
    const schedule_scenario *scenario;
    uint32_t outcomes; /* reached, in all executions */
    char failure[2048];
    bool tracing;
    char *first_data, *data_copy;
    size_t data_size;
    sigjmp_buf crash;
} schedule_state;
static schedule_state *S;

void schedule_switch(void **from, void *to);
#if defined(__x86_64__)
__asm__(".text\n.globl schedule_switch\n.type schedule_switch,@function\nschedule_switch:\n"
        "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
        "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
        "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n"
        ".size schedule_switch,.-schedule_switch\n");
static void *schedule_new_stack(char *end, void (*entry)(void)) {
    void **top = (void **)(void *)end;
    *--top = NULL; /* where entry would return to: it never does */
    *--top = (void *)(uintptr_t)entry;
    for (int i = 0; i < 6; i++) *--top = NULL;
    return top;
}
#elif defined(__aarch64__)
__asm__(".text\n.globl schedule_switch\n.type schedule_switch,%function\nschedule_switch:\n"
        "sub sp,sp,#160\nstp x19,x20,[sp]\nstp x21,x22,[sp,#16]\nstp x23,x24,[sp,#32]\nstp x25,x26,[sp,#48]\n"
        "stp x27,x28,[sp,#64]\nstp x29,x30,[sp,#80]\nstp d8,d9,[sp,#96]\nstp d10,d11,[sp,#112]\n"
        "stp d12,d13,[sp,#128]\nstp d14,d15,[sp,#144]\nmov x9,sp\nstr x9,[x0]\nmov sp,x1\n"
        "ldp x19,x20,[sp]\nldp x21,x22,[sp,#16]\nldp x23,x24,[sp,#32]\nldp x25,x26,[sp,#48]\n"
        "ldp x27,x28,[sp,#64]\nldp x29,x30,[sp,#80]\nldp d8,d9,[sp,#96]\nldp d10,d11,[sp,#112]\n"
        "ldp d12,d13,[sp,#128]\nldp d14,d15,[sp,#144]\nadd sp,sp,#160\nret\n"
        ".size schedule_switch,.-schedule_switch\n");
static void *schedule_new_stack(char *end, void (*entry)(void)) {
    void **top = (void **)(void *)(end - 160);
    memset(top, 0, 160);
    top[11] = (void *)(uintptr_t)entry; /* x30 */
    return top;
}
#else
#error "schedule.h: no switch of stacks for this processor"
#endif

static inline uint64_t schedule_mix(uint64_t a, uint64_t b) {
    uint64_t x = a * UINT64_C(0x9E3779B97F4A7C15) + b;
    x ^= x >> 29;
    x *= UINT64_C(0xBF58476D1CE4E5B9);
    return x ^ x >> 32;
}
static inline uint64_t schedule_random(void) { /* splitmix64 */
    uint64_t x = S->random += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
    return x ^ x >> 31;
}
static inline uint32_t schedule_bit(int thread) { return UINT32_C(1) << thread; }
static inline schedule_thread *schedule_self(void) { return &S->threads[S->current]; }
static inline void schedule_is_at(schedule_thread *self, const char *function, int line) {
    self->line = line;
    if (self->functions[0] == function) return;
    for (int i = 4; i > 0; i--) self->functions[i] = self->functions[i - 1];
    self->functions[0] = function;
}
/* "function:line", and the functions that took a step before, since most waits are in the same few. */
static const char *schedule_place(const schedule_thread *thread) {
    static char text[256];
    size_t length = 0;
    text[0] = 0;
    for (int i = 0; i < 5 && thread->functions[i] && length < sizeof text; i++) {
        length += (size_t)snprintf(text + length, sizeof text - length, "%s%s", i ? " < " : "", thread->functions[i]);
        if (i == 0 && length < sizeof text)
            length += (size_t)snprintf(text + length, sizeof text - length, ":%d", thread->line);
    }
    return text;
}

/* ---- Failures: the execution ends where it is, and the explorer goes on. */
static void schedule_leave(schedule_end end) {
    S->end = end;
    void *lost;
    schedule_switch(&lost, S->explorer);
    abort();
}
__attribute__((format(printf, 1, 2), noinline)) static void schedule_fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(S->failure, sizeof S->failure, format, arguments);
    va_end(arguments);
    if (S->current >= 0 && length >= 0 && (size_t)length < sizeof S->failure)
        snprintf(S->failure + length, sizeof S->failure - (size_t)length, "\n    T%d %s in %s", S->current,
                 schedule_self()->name, schedule_place(schedule_self()));
    if (S->current < 0) { /* in the explorer, after the end */
        S->end = SCHEDULE_FAILED;
        return;
    }
    schedule_leave(SCHEDULE_FAILED);
}
#define CHECK(condition) ((condition) ? (void)0 : schedule_fail("%s:%d: CHECK(%s)", __FILE__, __LINE__, #condition))
#define CHECK_STATUS(expected, call) \
    do { \
        tpool_status schedule_status_is = (call), schedule_status_expected = (expected); \
        if (schedule_status_is != schedule_status_expected) \
            schedule_fail("%s:%d: %s gave %s, not %s", __FILE__, __LINE__, #call, \
                          tpool_status_name(schedule_status_is), tpool_status_name(schedule_status_expected)); \
    } while (0)

__attribute__((format(printf, 1, 2))) static void schedule_tell(const char *format, ...) {
    va_list arguments;
    fprintf(stderr, "  %7llu %9lld us  T%d %-12s ", (unsigned long long)S->steps, (long long)(S->now / 1000),
            S->current, schedule_self()->name);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "   in %s:%d\n", schedule_self()->functions[0] ? schedule_self()->functions[0] : "?",
            schedule_self()->line);
}

/* ---- Memory: nothing is used twice in one execution, what is freed is overwritten, all of it looked at at the end */
static void *schedule_malloc(size_t size) {
    if (S->refused_allocation && --S->refused_allocation == 0) return NULL;
    size_t need = (size + SCHEDULE_RED_ZONE + SCHEDULE_GRAIN - 1) / SCHEDULE_GRAIN * SCHEDULE_GRAIN;
    if (S->block_count == SCHEDULE_ALLOCATIONS || need > SCHEDULE_ARENA - S->arena_used) {
        schedule_fail("the scenario needs more memory than the explorer has");
        return NULL;
    }
    char *begin = S->arena + S->arena_used;
    memset(begin, 0xCD, size);
    memset(begin + size, 0xFE, need - size);
    memset(S->live + S->arena_used / SCHEDULE_GRAIN, 1, (size + SCHEDULE_GRAIN - 1) / SCHEDULE_GRAIN);
    S->arena_used += need;
    S->blocks[S->block_count++] = (schedule_block){ begin, size, false };
    S->live_blocks++;
    return begin;
}
static void schedule_free(void *pointer) {
    if (!pointer) return;
    for (size_t i = S->block_count; i > 0; i--) {
        schedule_block *block = &S->blocks[i - 1];
        if (block->begin != pointer) continue;
        if (block->freed) schedule_fail("freed twice: %zu bytes", block->size);
        block->freed = true;
        S->live_blocks--;
        memset(block->begin, 0xDD, block->size);
        memset(S->live + (size_t)(block->begin - S->arena) / SCHEDULE_GRAIN, 0,
               (block->size + SCHEDULE_GRAIN - 1) / SCHEDULE_GRAIN);
        return;
    }
    schedule_fail("freed, but never allocated: %p", pointer);
}
static bool schedule_all_are(const char *begin, size_t size, unsigned char value) {
    if (size == 0) return true;
    return (unsigned char)begin[0] == value && memcmp(begin, begin + 1, size - 1) == 0;
}
/* Marks what is reachable from [begin, end), by whatever looks like an address. */
static void schedule_reach(const char *begin, const char *end, bool *reached) {
    for (const char *at = begin; at + sizeof(void *) <= end; at += sizeof(void *)) {
        uintptr_t word;
        memcpy(&word, at, sizeof word);
        word &= ~(uintptr_t)1;
        if (word < (uintptr_t)S->arena || word >= (uintptr_t)S->arena + S->arena_used) continue;
        for (size_t i = 0; i < S->block_count; i++) {
            schedule_block *block = &S->blocks[i];
            if (block->freed || reached[i] || word < (uintptr_t)block->begin ||
                word >= (uintptr_t)block->begin + block->size)
                continue;
            reached[i] = true;
            schedule_reach(block->begin, block->begin + block->size, reached);
            break;
        }
    }
}
static void schedule_check_memory(void) {
    static const char *const was[] = { "written past its end", "written after it was freed", "never freed" };
    bool *reached = NULL;
    if (S->scenario->keeps && S->live_blocks) {
        reached = calloc(S->block_count, sizeof *reached);
        schedule_reach(S->first_data, S->first_data + S->data_size, reached);
    }
    for (size_t i = 0; i < S->block_count && S->end == SCHEDULE_OVER; i++) {
        schedule_block *block = &S->blocks[i];
        char *end = i + 1 < S->block_count ? S->blocks[i + 1].begin : S->arena + S->arena_used;
        int wrong = -1;
        if (!schedule_all_are(block->begin + block->size, (size_t)(end - block->begin) - block->size, 0xFE)) wrong = 0;
        else if (block->freed && !schedule_all_are(block->begin, block->size, 0xDD)) wrong = 1;
        else if (!block->freed && !(reached && reached[i])) wrong = 2;
        if (wrong >= 0) schedule_fail("memory: allocation %zu, of %zu bytes, was %s", i, block->size, was[wrong]);
    }
    free(reached);
}
/* An atomic access must be to memory that is there. */
static inline void schedule_check_address(const volatile void *address) {
    uintptr_t at = (uintptr_t)address, offset = at - (uintptr_t)S->arena;
    if (offset < SCHEDULE_ARENA) {
        if (!S->live[offset / SCHEDULE_GRAIN]) schedule_fail("an access to memory that was freed, or never allocated");
        return;
    }
    offset = at - (uintptr_t)S->stacks;
    if (offset < (uintptr_t)SCHEDULE_THREADS * SCHEDULE_STACK) {
        schedule_thread *owner = &S->threads[offset / SCHEDULE_STACK];
        if (owner != schedule_self() && (owner->status == SCHEDULE_ENDED || at < (uintptr_t)owner->stack_pointer))
            schedule_fail("an access to what thread %d has left of its stack", (int)(owner - S->threads));
    }
}

/* ---- What happened before what */
static schedule_word *schedule_find_word(const volatile void *address) {
    uintptr_t a = (uintptr_t)address;
    size_t i = (size_t)((a ^ a >> 12) >> 2) * 0x9E37u % SCHEDULE_WORDS;
    while (S->words[i].address != a) {
        if (!S->words[i].address) {
            if (++S->word_count > SCHEDULE_WORDS / 2) {
                fprintf(stderr, "schedule.h: more atomic words than SCHEDULE_WORDS allows\n");
                exit(2);
            }
            S->words[i].address = a;
            break;
        }
        i = (i + 1) % SCHEDULE_WORDS;
    }
    schedule_word *word = &S->words[i];
    if (word->execution != S->execution) {
        word->execution = S->execution;
        word->readers = 0;
        word->written = false;
        word->last_write = word->reads = 0;
    }
    return word;
}
static inline void schedule_happened(schedule_word *word, bool write) {
    if (S->started == 1) return; /* until a second thread starts, all executions are one */
    schedule_thread *self = schedule_self();
    uint64_t before = self->past;
    self->past = schedule_mix(schedule_mix(before, word->last_write), (uint64_t)word->address * 2 + write) +
                 (write ? word->reads * 31 : 0);
    S->state ^= before ^ self->past;
    if (write) {
        word->last_write = self->past;
        word->reads = 0;
    } else {
        word->reads += self->past;
    }
    if (S->alive == schedule_bit(S->current)) return;
    word->readers |= schedule_bit(S->current);
    word->written |= write;
    if (word->written && !word->found_shared && (word->readers & (word->readers - 1))) {
        word->found_shared = true;
        S->more_shared = true;
    }
}

/* ---- Who goes on */
static uint32_t schedule_choosable(void) {
    if (!S->yielded) return S->ready;
    uint32_t able = S->ready;
    for (uint32_t left = S->yielded & S->ready; left; left &= left - 1) {
        int i = __builtin_ctz(left);
        if (S->threads[i].behind & S->ready & ~schedule_bit(i)) able &= ~schedule_bit(i);
    }
    if (able) return able;
    for (int i = 0; i < S->started; i++) S->threads[i].behind = 0; /* all wait for each other to go first */
    S->yielded = 0;
    return S->ready;
}
static int schedule_next_timer(void) {
    int next = -1;
    for (uint32_t left = S->timed; left; left &= left - 1) {
        int i = __builtin_ctz(left);
        if (next < 0 || S->threads[i].wake_at < S->threads[next].wake_at) next = i;
    }
    return next;
}
static void schedule_make_ready(int i, bool timed_out) {
    schedule_thread *thread = &S->threads[i];
    thread->status = SCHEDULE_READY;
    thread->timed_out = timed_out;
    thread->asleep_on = NULL;
    S->ready |= schedule_bit(i);
    S->timed &= ~schedule_bit(i);
}
/* Time passes, to the next time limit: everybody whose limit that is wakes. Tells the first of them. */
static int schedule_pass_time(void) {
    int next = schedule_next_timer();
    if (++S->clock_steps > 2000) schedule_fail("time passes, and nothing else happens: it never ends");
    S->now = S->threads[next].wake_at;
    schedule_word *clock = schedule_find_word(&S->now); /* as if a thread wrote it that does nothing else */
    S->state ^= clock->last_write;
    clock->last_write = schedule_mix(clock->last_write + clock->reads * 31, (uint64_t)S->now);
    clock->reads = 0;
    S->state ^= clock->last_write;
    clock->written = true;
    clock->readers |= schedule_bit(next) | (S->current >= 0 ? schedule_bit(S->current) : 0);
    if (!clock->found_shared) clock->found_shared = S->more_shared = true;
    for (uint32_t left = S->timed; left; left &= left - 1) {
        int i = __builtin_ctz(left);
        if (S->threads[i].wake_at <= S->now) schedule_make_ready(i, true);
    }
    if (S->tracing) fprintf(stderr, "          time passes\n");
    return next;
}

static void schedule_grow_seen(void) {
    schedule_seen *old = S->seen;
    size_t old_size = S->seen_size;
    S->seen_size *= 2;
    S->seen = calloc(S->seen_size, sizeof *S->seen);
    if (!S->seen) {
        fprintf(stderr, "schedule.h: out of memory\n");
        exit(2);
    }
    for (size_t i = 0; i < old_size; i++) {
        if (old[i].search != S->search) continue;
        size_t at = old[i].state & (S->seen_size - 1);
        while (S->seen[at].search == S->search) at = (at + 1) & (S->seen_size - 1);
        S->seen[at] = old[i];
    }
    free(old);
}

/* True: this state was seen with as many preemptions left, so that all that can follow is known. Where there is nothing
   to choose, one state in four is looked up (the same ones each time): each costs a cache miss, and the next will
   do. */
static bool schedule_was_seen(bool runs, bool chooses) {
    if (!S->caching || S->depth < S->replayed) return false;
    uint64_t key = schedule_mix(S->state, (uint64_t)S->current * 2 + runs);
    for (uint32_t left = S->yielded; left; left &= left - 1)
        key = schedule_mix(key, (uint64_t)__builtin_ctz(left) << 32 | S->threads[__builtin_ctz(left)].behind);
    if (!chooses && key >> 62) return false;
    for (size_t i = key & (S->seen_size - 1);; i = (i + 1) & (S->seen_size - 1)) {
        schedule_seen *seen = &S->seen[i];
        if (seen->search != S->search) {
            *seen = (schedule_seen){ key, S->used, S->search };
            if (++S->seen_count > S->seen_size / 2) schedule_grow_seen();
            return false;
        }
        if (seen->state != key) continue;
        if (seen->used <= S->used) return true;
        seen->used = S->used;
        return false;
    }
}

static void schedule_report_hang(void) {
    size_t length = (size_t)snprintf(S->failure, sizeof S->failure, "a hang: nobody can go on;");
    for (int i = 0; i < S->started && length < sizeof S->failure; i++) {
        schedule_thread *t = &S->threads[i];
        if (t->status == SCHEDULE_ENDED) continue;
        length += (size_t)snprintf(S->failure + length, sizeof S->failure - length, "\n    T%d %s %s in %s", i, t->name,
                                   t->status == SCHEDULE_JOINING ? "joins" : "sleeps", schedule_place(t));
    }
    schedule_leave(SCHEDULE_FAILED);
}

/* Whose turn it is. `runs`: the current thread could go on. */
static int schedule_decide(bool runs) {
    uint32_t able = schedule_choosable();
    if (runs && !(able & schedule_bit(S->current))) runs = false; /* it has yielded */
    if (!able) {
        if (S->settling) {
            for (; S->settling; S->settling &= S->settling - 1) schedule_make_ready(__builtin_ctz(S->settling), false);
            return schedule_decide(false);
        }
        if (S->timed) {
            int next = schedule_pass_time();
            (void)next;
            return schedule_decide(false);
        }
        if (!S->alive) schedule_leave(SCHEDULE_OVER);
        schedule_report_hang();
    }
    if (able == schedule_bit(S->current) && runs && !S->timed) return S->current;

    if (S->mode == SCHEDULE_DEPTH_FIRST) {
        bool may_preempt = S->used < (unsigned)S->preemptions;
        bool chooses = runs ? may_preempt : (able & (able - 1)) || (S->timed && may_preempt);
        if (schedule_was_seen(runs, chooses)) schedule_leave(SCHEDULE_CUT);
        if (!chooses) return runs ? S->current : __builtin_ctz(able);
        schedule_choice *choice = &S->path[S->depth];
        if (S->depth >= S->replayed) {
            if (S->depth + 1 >= SCHEDULE_PATH) schedule_fail("no end after %d choices", SCHEDULE_PATH);
            choice->count = choice->chosen = 0;
            choice->used = (uint8_t)S->used;
            if (runs) {
                choice->who[choice->count++] = (uint8_t)S->current;
                able &= ~schedule_bit(S->current);
                choice->free = 1;
            }
            for (; able; able &= able - 1) choice->who[choice->count++] = (uint8_t)__builtin_ctz(able);
            if (!runs) choice->free = choice->count;
            if (S->timed && may_preempt) choice->who[choice->count++] = SCHEDULE_CLOCK;
        }
        S->depth++;
        S->used += choice->chosen >= choice->free;
        int who = choice->who[choice->chosen];
        return who == SCHEDULE_CLOCK ? schedule_pass_time() : who;
    }

    bool time_may_pass = S->timed && schedule_random() % 64 == 0;
    if (time_may_pass) return schedule_pass_time();
    if (S->mode == SCHEDULE_AT_RANDOM) {
        if (runs && schedule_random() % 8) return S->current;
        int nth = (int)(schedule_random() % (unsigned)__builtin_popcount(able));
        while (nth-- > 0) able &= able - 1;
        return __builtin_ctz(able);
    }
    for (unsigned i = 0; i < S->change_count; i++)
        if (S->changes[i] <= S->steps && S->current >= 0) {
            S->priorities[S->current] = --S->lowest;
            S->changes[i] = UINT64_MAX;
        }
    int best = -1;
    for (; able; able &= able - 1) {
        int i = __builtin_ctz(able);
        if (best < 0 || S->priorities[i] > S->priorities[best]) best = i;
    }
    return best;
}
static void schedule_go_to(int next) {
    schedule_thread *self = S->current >= 0 ? schedule_self() : NULL;
    if (S->current == next) return;
    S->current = next;
    if (S->tracing) fprintf(stderr, "          -> T%d %s\n", next, S->threads[next].name);
    schedule_switch(&self->stack_pointer, S->threads[next].stack_pointer);
}

/* Before a step that others can see. */
static schedule_word *schedule_step(const volatile void *address, bool is_memory, const char *function, int line) {
    schedule_thread *self = schedule_self();
    schedule_is_at(self, function, line);
    if (++S->steps > SCHEDULE_STEPS) schedule_fail("no end after %d steps", SCHEDULE_STEPS);
    if (S->started == 1) {
        if (is_memory) schedule_check_address(address);
        return NULL;
    }
    schedule_word *word = schedule_find_word(address);
    if (S->ready != schedule_bit(S->current) || S->timed) {
        if (S->mode != SCHEDULE_DEPTH_FIRST || word->shared || S->all_shared) {
            schedule_go_to(schedule_decide(true));
        }
    }
    if (S->yielded) {
        S->yielded = 0;
        self->behind = 0;
        for (int i = 0; i < S->started; i++) {
            S->threads[i].behind &= ~schedule_bit(S->current);
            if (S->threads[i].behind) S->yielded |= schedule_bit(i);
        }
    }
    if (is_memory) schedule_check_address(address);
    return word;
}
static void schedule_block_here(void) {
    S->ready &= ~schedule_bit(S->current);
    schedule_go_to(schedule_decide(false));
}
static void schedule_yield_here(const char *function, int line) {
    if (S->started == 1) return; /* it measures how long a pause takes */
    schedule_thread *self = schedule_self();
    schedule_is_at(self, function, line);
    uint32_t others = S->ready & ~schedule_bit(S->current);
    if (++S->steps > SCHEDULE_STEPS) schedule_fail("no end after %d steps", SCHEDULE_STEPS);
    if (!others) {
        if (S->timed && S->mode == SCHEDULE_DEPTH_FIRST) schedule_go_to(schedule_decide(true));
        return;
    }
    self->behind = others;
    S->yielded |= schedule_bit(S->current);
    if (S->mode == SCHEDULE_PCT) S->priorities[S->current] = --S->lowest;
    schedule_go_to(schedule_decide(true));
}

#include "schedule/system.h"

#include "internals/check.h"

/* ---- For scenarios */
/* Notes that the scenario can end this way too; those named by .outcomes must all be reached. */
__attribute__((unused)) static void outcome(int i) { S->outcomes |= UINT32_C(1) << i; }
/* The nth allocation, or start of a thread, from here on is refused, once. */
__attribute__((unused)) static void refuse_allocation(unsigned n) { S->refused_allocation = n; }
__attribute__((unused)) static void refuse_thread(unsigned n) { S->refused_thread = n; }
/* One of so many, from 0: for scenarios that are run by chance. */
__attribute__((unused)) static unsigned chance_of(unsigned count) { return (unsigned)(schedule_random() % count); }
/* A gate is closed at first: who passes waits until it is opened. */
typedef struct gate {
    _Atomic(uint32_t) open;
} gate;
__attribute__((unused)) static void gate_pass(gate *g) {
    while (!atomic_load(&g->open)) (void)schedule_futex_wait(&g->open, 0, -1, __func__, __LINE__);
}
__attribute__((unused)) static void gate_open(gate *g) {
    atomic_store(&g->open, 1);
    (void)schedule_futex_wake(&g->open, 100, __func__, __LINE__);
}
__attribute__((unused)) static void *gate_task(void *arg) {
    gate_pass(arg);
    return arg;
}
/* A task that counts its runs. */
typedef struct counter {
    _Atomic(uint32_t) runs;
} counter;
__attribute__((unused)) static void *count_task(void *arg) {
    atomic_fetch_add(&((counter *)arg)->runs, 1);
    return arg;
}
__attribute__((unused)) static pthread_t started(void *(*fn)(void *), void *arg) {
    pthread_t thread = 0;
    CHECK(pthread_create(&thread, NULL, fn, arg) == 0);
    return thread;
}
__attribute__((unused)) static void join(pthread_t thread) { CHECK(pthread_join(thread, NULL) == 0); }
__attribute__((unused)) static tpool *new_pool(tpool_config config) {
    tpool *pool = NULL;
    config.measure = config.measure || S->measure;
    CHECK_STATUS(TPOOL_OK, tpool_create(&pool, &config));
    return pool;
}
__attribute__((unused)) static tpool_future *submitted(tpool *pool, tpool_fn fn, void *arg) {
    tpool_future *future = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, fn, arg, &future));
    CHECK(future != NULL);
    return future;
}
/* Waits for the end of a future, releases it, and tells the end. */
__attribute__((unused)) static tpool_status end_of(tpool_future *future) {
    tpool_status status = tpool_future_result(future, TPOOL_FOREVER, NULL);
    tpool_future_release(future);
    return status;
}
/* At rest the statistics add up. */
__attribute__((unused)) static tpool_stats stats_at_rest(tpool *pool) {
    tpool_stats s;
    CHECK_STATUS(TPOOL_OK, tpool_get_stats(pool, &s));
    if (s.queued || s.submitted != s.completed + s.failed + s.cancelled + s.expired + s.dropped)
        schedule_fail(
            "statistics: queued %zu, submitted %llu, completed %llu, failed %llu, cancelled %llu, expired %llu, "
            "dropped %llu",
            s.queued, (unsigned long long)s.submitted, (unsigned long long)s.completed, (unsigned long long)s.failed,
            (unsigned long long)s.cancelled, (unsigned long long)s.expired, (unsigned long long)s.dropped);
    return s;
}
/* Its invariants hold, if it is at rest in this schedule. No step of this thread: what can happen stays the same. */
static void check_if_at_rest(tpool *pool) {
    const char *wrong = check_is_at_rest(pool) ? tpool__check_alone(pool) : NULL;
    if (wrong) schedule_fail("%s", wrong);
}
/* Drains it, looks at it, and destroys it. */
__attribute__((unused)) static tpool_stats end_pool(tpool *pool) {
    CHECK_STATUS(TPOOL_OK, tpool_drain(pool, TPOOL_FOREVER));
    check_if_at_rest(pool);
    tpool_stats stats = stats_at_rest(pool);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    return stats;
}

#include "schedule/search.h"
#endif
