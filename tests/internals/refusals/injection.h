/* The faults: each allocation, thread start and system call of the header comes here first, and is refused when it is
   its turn. The implementation is included. */
#ifndef TPOOL_TESTS_REFUSALS_INJECTION_H
#define TPOOL_TESTS_REFUSALS_INJECTION_H
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
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#if !defined(__STDC_NO_THREADS__)
#include <threads.h>
#endif
#if defined(__linux__)
#include <sys/prctl.h>
#include <sys/syscall.h>
#endif

/* ---- The faults ---- */

typedef enum fault_mode {
    NO_FAULT,
    ONE_ALLOCATION,
    ALLOCATIONS_FROM,
    ONE_THREAD,
    THREADS_FROM,
    ONE_KEY,
    KEYS_FROM,
    ONE_QUESTION,
    QUESTIONS_FROM,
    ONE_SLEEP,
    ALL_SLEEPS,
    ONE_CALL,
    CALLS_FROM,
    ONE_INTERRUPT,
    ONE_PLACE,
    SETUP_FROM,
    FAULT_MODES
} fault_mode;
static const char *const fault_names[FAULT_MODES] = {
    "nothing",
    "only allocation",
    "allocations from",
    "only thread start",
    "thread starts from",
    "only exit hook of a thread",
    "exit hooks of threads from",
    "only question to the system",
    "questions to the system from",
    "only sleep",
    "sleeps from",
    "only call about processes",
    "calls about processes from",
    "only call about processes that a signal interrupts",
    "first time at place",
    "steps of the process' own setup from",
};

/* What all processes share. */
enum { MOST_PLACES = 400 };
static struct fault_state {
    atomic_int is;    /* the mode; set while no pool lives, cleared when the fault is over */
    long at;          /* which one fails, from 1 */
    int place;        /* or where */
    bool interrupts;  /* it is a signal's, not a refusal */
    atomic_long seen; /* of the kind that may fail */
    atomic_long injected;
    struct {
        atomic_long passed, failed;
        atomic_int once;
    } places[MOST_PLACES];
} * fault;
static atomic_long allocations, live_blocks, live_bytes, peak_bytes;

/* A place in the header that may fail. All that the compiler has seen are known, also those that nothing comes to. */
typedef struct fault_place {
    const char *call;
    int line, number;
} fault_place;
#if defined(__GNUC__) && defined(__ELF__)
#define FAULT_PLACES 1
#if __has_attribute(retain) /* or a linker that collects what nothing refers to takes them all away */
#define FAULT_KEPT used, retain
#else
#define FAULT_KEPT used
#endif
#define FAULT_HERE(call) \
    (__extension__({ \
        static const fault_place here = { call, __LINE__, __COUNTER__ }; \
        static const fault_place *const fault_link __attribute__((section("fault_places"), FAULT_KEPT)) = &here; \
        &here; \
    }))
#else
#define FAULT_PLACES 0
static const fault_place fault_somewhere;
#define FAULT_HERE(call) (&fault_somewhere)
#endif

static void (*before_hook_fails)(void);

static bool fault_strikes(const fault_place *here, fault_mode once, fault_mode from) {
    atomic_fetch_add(&fault->places[here->number].passed, 1);
    atomic_store(&fault->places[here->number].once, (int)once);
    int mode = atomic_load(&fault->is);
    if (mode == ONE_PLACE) {
        if (here->number != fault->place || atomic_fetch_add(&fault->seen, 1) > 0) return false;
        atomic_fetch_add(&fault->injected, 1);
        atomic_fetch_add(&fault->places[here->number].failed, 1);
        return true;
    }
    if (mode != (int)once && mode != (int)from) return false;
    long n = atomic_fetch_add(&fault->seen, 1) + 1;
    if (mode == (int)once ? n != fault->at : n < fault->at) return false;
    if (once == ONE_KEY && before_hook_fails) before_hook_fails();
    atomic_fetch_add(&fault->injected, 1);
    atomic_fetch_add(&fault->places[here->number].failed, 1);
    return true;
}

typedef union fault_head {
    size_t size;
    max_align_t alignment;
} fault_head;

static void *fault_malloc(const fault_place *here, size_t size) {
    if (fault_strikes(here, ONE_ALLOCATION, ALLOCATIONS_FROM)) return NULL;
    fault_head *head = malloc(sizeof *head + size);
    if (!head) return NULL;
    head->size = size;
    memset(head + 1, 0xA5, size); /* nobody may count on zeroes */
    atomic_fetch_add(&allocations, 1);
    atomic_fetch_add(&live_blocks, 1);
    long bytes = atomic_fetch_add(&live_bytes, (long)size) + (long)size;
    long peak = atomic_load(&peak_bytes);
    while (bytes > peak && !atomic_compare_exchange_weak(&peak_bytes, &peak, bytes)) { }
    return head + 1;
}
static void fault_free(void *memory) {
    if (!memory) return;
    fault_head *head = (fault_head *)memory - 1;
    atomic_fetch_sub(&live_blocks, 1);
    atomic_fetch_sub(&live_bytes, (long)head->size);
    memset(head + 1, 0x5A, head->size);
    free(head);
}

/* What the header asks about quotas is answered by files of this test's own, so that each question comes up. */
static char fault_folder[64];
static char fault_groups[96];
#define TPOOL__CGROUP_ROOT fault_folder
#define TPOOL__CGROUP_SELF fault_groups

#define FAILS(call, once, from) fault_strikes(FAULT_HERE(call), once, from)
#define TPOOL_MALLOC(size) fault_malloc(FAULT_HERE("an allocation"), size)
#define TPOOL_FREE(ptr) fault_free(ptr)

/* Thread starts. */
#define pthread_create(thread, attributes, start, arg) \
    (FAILS("pthread_create", ONE_THREAD, THREADS_FROM) ? EAGAIN : pthread_create(thread, attributes, start, arg))
#define thrd_create(thread, start, arg) \
    (FAILS("thrd_create", ONE_THREAD, THREADS_FROM) ? thrd_error : thrd_create(thread, start, arg))
#define pthread_attr_init(attributes) \
    (FAILS("pthread_attr_init", ONE_THREAD, THREADS_FROM) ? ENOMEM : pthread_attr_init(attributes))
#define pthread_attr_setstacksize(attributes, size) \
    (FAILS("pthread_attr_setstacksize", ONE_THREAD, THREADS_FROM) ? EINVAL \
                                                                  : pthread_attr_setstacksize(attributes, size))

/* A thread's exit hook, and what the process sets up once. */
#define tss_set(key, value) (FAILS("tss_set", ONE_KEY, KEYS_FROM) ? thrd_error : tss_set(key, value))
#define pthread_setspecific(key, value) \
    (FAILS("pthread_setspecific", ONE_KEY, KEYS_FROM) ? ENOMEM : pthread_setspecific(key, value))
#define tss_create(key, ended) (FAILS("tss_create", FAULT_MODES, SETUP_FROM) ? thrd_error : tss_create(key, ended))
#define pthread_key_create(key, ended) \
    (FAILS("pthread_key_create", FAULT_MODES, SETUP_FROM) ? EAGAIN : pthread_key_create(key, ended))
#define pthread_atfork(prepare, parent, child) \
    (FAILS("pthread_atfork", FAULT_MODES, SETUP_FROM) ? ENOMEM : pthread_atfork(prepare, parent, child))
#define atexit(handler) (FAILS("atexit", FAULT_MODES, SETUP_FROM) ? 1 : atexit(handler))

/* Questions: where there is no answer, the library must do without, and nobody notices. (Not here: clock_gettime,
   pthread_sigmask, pthread_join and a futex' wake, which fail only when they are called wrongly.) */
#define FAILS_QUESTION(call) FAILS(call, ONE_QUESTION, QUESTIONS_FROM)
#define pthread_getattr_np(thread, attributes) \
    (FAILS_QUESTION("pthread_getattr_np") ? ENOMEM : pthread_getattr_np(thread, attributes))
#define pthread_attr_getstack(attributes, base, size) \
    (FAILS_QUESTION("pthread_attr_getstack") ? EINVAL : pthread_attr_getstack(attributes, base, size))
#define prctl(...) (FAILS_QUESTION("prctl") ? -1 : prctl(__VA_ARGS__))
#define sysconf(name) (FAILS_QUESTION("sysconf") ? -1L : sysconf(name))
#define fopen(path, mode) (FAILS_QUESTION("fopen") ? NULL : fopen(path, mode))
#define fgets(text, size, file) (FAILS_QUESTION("fgets") ? NULL : fgets(text, size, file))
#define fscanf(...) (FAILS_QUESTION("fscanf") ? EOF : fscanf(__VA_ARGS__))
#define vsnprintf(...) (FAILS_QUESTION("vsnprintf") ? -1 : vsnprintf(__VA_ARGS__))
#if defined(__linux__)
static bool fault_strikes_call(const fault_place *here, long number, long second) {
    if (number == SYS_sched_getaffinity || number == SYS_sched_setaffinity || number == SYS_sched_getscheduler ||
        number == SYS_sched_getparam || number == SYS_sched_getattr)
        return fault_strikes(here, ONE_QUESTION, QUESTIONS_FROM);
    if (number != SYS_futex) return fault_strikes(here, ONE_CALL, CALLS_FROM);
    if ((second & 127) == 0) return fault_strikes(here, ONE_SLEEP, ALL_SLEEPS); /* FUTEX_WAIT, ended by a signal */
    atomic_store(&fault->places[here->number].failed, 1);                       /* FUTEX_WAKE cannot */
    return false;
}
#define FAULT_SECOND(first, second, ...) (long)(second)
#define syscall(number, ...) \
    (fault_strikes_call(FAULT_HERE("syscall"), number, FAULT_SECOND(__VA_ARGS__, 0, 0)) \
         ? (errno = (number) == SYS_futex ? EINTR : ENOSYS, sched_yield(), -1L) \
         : syscall(number, __VA_ARGS__))
#endif

static bool fault_strikes_wait(const fault_place *here, bool waits) {
    if (waits) return fault_strikes(here, ONE_INTERRUPT, FAULT_MODES);
    atomic_store(&fault->places[here->number].failed, 1); /* what does not wait is not interrupted */
    return false;
}
/* Pools of processes: what the system may refuse, and what a signal may interrupt. (Not here: close, munmap, kill,
   sigaction and their like.) */
#define FAILS_CALL(call, error) (FAILS(call, ONE_CALL, CALLS_FROM) ? (errno = (error), true) : false)
#define INTERRUPTED(call) (FAILS(call, ONE_INTERRUPT, FAULT_MODES) ? (errno = EINTR, true) : false)
#define TPOOL__FORK() (FAILS_CALL("fork", EAGAIN) ? (pid_t)-1 : fork())
#define socketpair(domain, type, protocol, ends) \
    (FAILS_CALL("socketpair", EMFILE) ? -1 : socketpair(domain, type, protocol, ends))
#define pipe2(ends, flags) (FAILS_CALL("pipe2", EMFILE) ? -1 : pipe2(ends, flags))
#define ftruncate(fd, size) (FAILS_CALL("ftruncate", ENOSPC) ? -1 : ftruncate(fd, size))
#define pwrite(fd, bytes, size, at) \
    (FAILS_CALL("pwrite", ENOSPC) || INTERRUPTED("pwrite") ? -1 : pwrite(fd, bytes, size, at))
#define pread(fd, bytes, size, at) (INTERRUPTED("pread") ? -1 : pread(fd, bytes, size, at))
#define mmap(at, size, protection, flags, fd, offset) \
    (FAILS_CALL("mmap", ENOMEM) ? MAP_FAILED : mmap(at, size, protection, flags, fd, offset))
#define sendmsg(fd, message, flags) \
    (FAILS_CALL("sendmsg", ENOBUFS) || INTERRUPTED("sendmsg") ? -1 : sendmsg(fd, message, flags))
#define recvmsg(fd, message, flags) (INTERRUPTED("recvmsg") ? -1 : recvmsg(fd, message, flags))
#define poll(polled, count, limit) (INTERRUPTED("poll") ? -1 : poll(polled, count, limit))
#define read(fd, bytes, size) (INTERRUPTED("read") ? -1 : read(fd, bytes, size))
#define write(fd, bytes, size) (INTERRUPTED("write") ? -1 : write(fd, bytes, size))
#define send(fd, bytes, size, flags) (INTERRUPTED("send") ? -1 : send(fd, bytes, size, flags))
#define recv(fd, bytes, size, flags) \
    (fault_strikes_wait(FAULT_HERE("recv"), !((flags)&MSG_DONTWAIT)) ? (errno = EINTR, -1) \
                                                                     : recv(fd, bytes, size, flags))
#define waitpid(pid, how, flags) \
    (fault_strikes_wait(FAULT_HERE("waitpid"), !((flags)&WNOHANG)) ? (errno = EINTR, -1) : waitpid(pid, how, flags))

static atomic_int hang_ms = 10000;
#define TPOOL__REFUSAL_STALL_LIMIT TPOOL_MS(50)
#define TPOOL__HANG_MS hang_ms
#define TPOOL__BARE_ALLOCATOR /* else all allocations would be one place */
#define TPOOL__NOT_AT_LOAD    /* nothing of it has run before main */
#include "internals/check.h"
#undef pthread_create
#undef thrd_create
#undef pthread_attr_init
#undef pthread_attr_setstacksize
#undef tss_set
#undef pthread_setspecific
#undef tss_create
#undef pthread_key_create
#undef pthread_atfork
#undef atexit
#undef pthread_getattr_np
#undef pthread_attr_getstack
#undef prctl
#undef sysconf
#undef fopen
#undef fgets
#undef fscanf
#undef vsnprintf
#undef syscall
#undef socketpair
#undef pipe2
#undef ftruncate
#undef pwrite
#undef pread
#undef mmap
#undef sendmsg
#undef recvmsg
#undef poll
#undef read
#undef write
#undef send
#undef recv
#undef waitpid

#include "support.h"
#endif
