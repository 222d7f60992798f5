/* Faults: each allocation, each thread start and each system call that can fail does so once, at every position of
   every scenario, and from there on. Each call must answer with a status that its documentation names, no task that was
   taken may be lost, none that was refused may be touched, the statistics must add up, the pool must work again once the
   fault is over, it must be destroyed in the end, and all memory must have been given back.
   The implementation is included, so that its allocations and calls come here, and each of their places in the header is
   known by its line: at the end each must have failed. In pools of processes that goes for each process of theirs. Run as
   `white_faults --coarse` it leaves out positions, for slow tools; `--coarse NAME` plays one scenario only, `--all` all
   positions of those with processes too, of which a quick run leaves some out. With `--measure` besides, all pools of
   the scenarios collect latency figures. */
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
#define FAULT_HERE(call) \
    (__extension__({ \
        static const fault_place here = { call, __LINE__, __COUNTER__ }; \
        static const fault_place *const fault_link __attribute__((section("fault_places"), used)) = &here; \
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
#define posix_fallocate(fd, from, size) \
    (FAILS_CALL("posix_fallocate", ENOSPC) ? ENOSPC : posix_fallocate(fd, from, size))
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

static atomic_int patience_ms = 10000;
#define TPOOL__PATIENCE_MS patience_ms
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
#undef posix_fallocate
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

/* ---- What a scenario says ---- */

/* What is left of a time that is long enough for any machine: a wait that needs all of it is one that would have hung. */
static int64_t scenario_end;
#define PATIENCE tpool_until(scenario_end)

/* The first thing that went wrong. No cmocka assertions: the rest of the scenario must still clean up. */
static pthread_mutex_t problem_lock = PTHREAD_MUTEX_INITIALIZER;
static char problem[512];

static void report(int line, const char *what, const char *detail) {
    pthread_mutex_lock(&problem_lock);
    if (!problem[0]) snprintf(problem, sizeof problem, "line %d: %s: %s", line, what, detail);
    pthread_mutex_unlock(&problem_lock);
}
#define EXPECT(condition) ((condition) ? (void)0 : report(__LINE__, #condition, "is false"))

#define BIT(status) (1u << (status))
#define NO_MEMORY BIT(TPOOL_NO_MEMORY)
#define REFUSED (BIT(TPOOL_NO_MEMORY) | BIT(TPOOL_NO_THREAD))

/* True if the call succeeded. It may fail with one of the other statuses, but only if something was refused. */
static bool succeeds(int line, const char *call, tpool_status status, unsigned also) {
    if (status == TPOOL_OK) return true;
    if (!(also & BIT(status)) || atomic_load(&fault->injected) == 0) report(line, call, tpool_status_name(status));
    return false;
}
#define OKAY(call, also) succeeds(__LINE__, #call, call, also)

static bool measure;
static tpool *pool_with(tpool_config config) {
    tpool *pool = NULL;
    config.measure = config.measure || measure;
    bool created = OKAY(tpool_create(&pool, &config), NO_MEMORY);
    EXPECT(created == (pool != NULL));
    return pool;
}

/* At rest every task that was taken has ended in one way. */
static void check_stats(int line, tpool *pool) {
    tpool_stats s;
    if (tpool_get_stats(pool, &s) != TPOOL_OK) report(line, "the statistics", "cannot be had");
    if (s.submitted != s.completed + s.failed + s.cancelled + s.expired + s.dropped)
        report(line, "the statistics", "do not add up");
    if (s.queued != 0) report(line, "the statistics", "show tasks in a pool at rest");
    while (s.active != 0 && PATIENCE > 0) { /* a worker that looks around once more counts for that moment */
        sched_yield();
        (void)tpool_get_stats(pool, &s);
    }
}

/* Once the fault is over the pool works as ever, unless the scenario has ended or broken it. */
static void check_works(int line, tpool *pool) {
    enum { TASKS = 3 };
    tpool_future *futures[TASKS];
    for (int i = 0; i < TASKS; i++) {
        void *result = NULL;
        tpool_status status = tpool_submit(pool, nothing, &futures[i], &futures[i]);
        if (status == TPOOL_SHUTDOWN || (status == TPOOL_BROKEN && i == 0)) return;
        if (status != TPOOL_OK) {
            report(line, "a submit once the fault is over", tpool_status_name(status));
            return;
        }
        status = tpool_future_result(futures[i], PATIENCE, &result);
        if (status != TPOOL_OK) report(line, "a task once the fault is over", tpool_status_name(status));
        else if (result != &futures[i]) report(line, "its result", "is another one");
        tpool_future_release(futures[i]);
    }
}

static void end_pool(int line, tpool *pool, bool works) {
    if (problem[0] && pool) tpool_shutdown(pool, TPOOL_CANCEL_PENDING); /* or it would wait for what was lost */
    tpool_status status = TPOOL_OK;
    if (pool && !problem[0]) {
        status = tpool_drain(pool, PATIENCE);
        if (status == TPOOL_OK) check_stats(line, pool);
        else if (status != TPOOL_NO_THREAD || atomic_load(&fault->injected) == 0)
            report(line, "the drain", tpool_status_name(status));
        int mode = atomic_exchange(&fault->is, NO_FAULT);
        if (works) check_works(line, pool);
        if (tpool_drain(pool, PATIENCE) == TPOOL_OK) check_stats(line, pool);
        else report(line, "the drain", "fails though the fault is over");
        atomic_store(&fault->is, mode);
    }
    status = tpool_destroy(pool);
    if (status != TPOOL_OK) report(line, "the destroy", tpool_status_name(status));
}
#define pool_end(pool) end_pool(__LINE__, pool, true)
#define broken_pool_end(pool) end_pool(__LINE__, pool, false)

/* Holds a worker at the gate, if the task was taken. */
static bool hold(tpool *pool, gate *g) {
    if (!OKAY(tpool_submit(pool, gate_task, g, NULL), REFUSED)) return false;
    while (gate_arrived(g) == 0 && PATIENCE > 0) sched_yield();
    EXPECT(gate_arrived(g) == 1);
    return true;
}

/* The end of a future: OK with this value; or, if the task raises or returns something, FAILED with ENOMEM. */
static bool ends_well(int line, tpool_future *future, void *expected, bool may_want_memory) {
    void *result = &line;
    tpool_status status = tpool_future_result(future, PATIENCE, &result);
    if (status == TPOOL_OK) {
        if (expected && result != expected) report(line, "the result", "is another one");
        return true;
    }
    if (result) report(line, "the result", "is not NULL without success");
    const tpool_error *error = NULL;
    if (may_want_memory && atomic_load(&fault->injected) > 0 && status == TPOOL_FAILED &&
        tpool_future_error(future, 0, &error) == TPOOL_OK && error && error->code == ENOMEM && error->message &&
        error->message[0])
        return false;
    report(line, "the task's end", tpool_status_name(status));
    return false;
}
#define ENDS_WELL(future, expected, may_want_memory) ends_well(__LINE__, future, expected, may_want_memory)

/* ---- Arguments that are counted ---- */

typedef struct item {
    atomic_int runs, frees;
    bool taken;
} item;

static void *item_run(void *arg) {
    item *i = arg;
    atomic_fetch_add(&i->runs, 1);
    return i;
}
static void item_free(void *arg) { atomic_fetch_add(&((item *)arg)->frees, 1); }

/* The same by copy: a pointer to the item, and filler up to the size. */
static item *item_of_copy(void *arg) {
    item *i = NULL;
    memcpy(&i, arg, sizeof i);
    return i;
}
static void *item_run_copy(void *arg) {
    const unsigned char *bytes = arg;
    for (size_t k = sizeof(item *); k < tpool_arg_size(); k++) EXPECT(bytes[k] == (unsigned char)(k * 3));
    return item_run(item_of_copy(arg));
}
static void item_free_copy(void *arg) { item_free(item_of_copy(arg)); }

/* Submits the item, as `like` says otherwise; size 0: by pointer. */
static bool submit_item(tpool *pool, item *i, size_t size, tpool_task like, tpool_future **future, unsigned also) {
    unsigned char *bytes = NULL;
    like.fn = size ? item_run_copy : item_run;
    like.arg_free = size ? item_free_copy : item_free;
    like.arg = i;
    if (size) {
        bytes = malloc(size);
        for (size_t k = 0; k < size; k++) bytes[k] = (unsigned char)(k * 3);
        memcpy(bytes, &i, sizeof i);
        like.arg = bytes;
        like.arg_size = size;
    }
    i->taken = OKAY(tpool_submit_task(pool, &like, future), also);
    if (future) EXPECT(i->taken == (*future != NULL));
    free(bytes);
    return i->taken;
}

/* After everything has ended: what was taken was freed once and ran as it should; the rest was not touched. */
enum { ALL_RAN, NONE_RAN, SOME_RAN };
static void check_items(int line, const item *items, int count, int which) {
    for (int k = 0; k < count; k++) {
        int runs = atomic_load(&items[k].runs), frees = atomic_load(&items[k].frees);
        if (frees != items[k].taken) report(line, "arg_free", frees ? "called too often" : "not called");
        if (runs > 1 || (runs && !items[k].taken)) report(line, "fn", "run though it should not");
        if (items[k].taken && which == ALL_RAN && runs != 1) report(line, "fn", "not run");
        if (which == NONE_RAN && runs) report(line, "fn", "run though cancelled");
    }
}
#define CHECK_ITEMS(items, count, which) check_items(__LINE__, items, count, which)

/* ---- Scenarios: submitting ---- */

static void scenario_submit_and_result(void) {
    enum { TASKS = 5 };
    item items[TASKS] = { 0 };
    tpool_future *futures[TASKS] = { NULL };
    tpool *pool = pool_with((tpool_config){ .max_workers = 2 });
    if (!pool) return;
    for (int i = 0; i < TASKS; i++) {
        items[i].taken = OKAY(tpool_submit(pool, item_run, &items[i], &futures[i]), REFUSED);
        EXPECT(items[i].taken == (futures[i] != NULL));
        if (items[i].taken) ENDS_WELL(futures[i], &items[i], false);
    }
    pool_end(pool);
    for (int i = 0; i < TASKS; i++) {
        EXPECT(atomic_load(&items[i].runs) == items[i].taken);
        tpool_future_release(futures[i]);
    }
}

static void scenario_many_without_futures(void) {
    enum { TASKS = 300 };
    static item items[TASKS];
    memset(items, 0, sizeof items);
    tpool *pool = pool_with((tpool_config){ .max_workers = 2 });
    if (!pool) return;
    for (int i = 0; i < TASKS; i++) {
        if (i % 2) submit_item(pool, &items[i], 0, (tpool_task){ 0 }, NULL, REFUSED);
        else items[i].taken = OKAY(tpool_submit(pool, item_run, &items[i], NULL), REFUSED);
    }
    pool_end(pool);
    for (int i = 0; i < TASKS; i++) {
        EXPECT(atomic_load(&items[i].runs) == items[i].taken);
        EXPECT(atomic_load(&items[i].frees) == (items[i].taken && i % 2));
    }
}

static void scenario_copies_names_and_expiry(void) {
    static const size_t sizes[] = { 0, 8, 24, 100, 300, 5000 };
    enum { SIZES = sizeof sizes / sizeof sizes[0], TASKS = 4 * SIZES };
    item items[TASKS] = { 0 }, late[2] = { 0 };
    tpool_future *futures[TASKS] = { NULL }, *expired = NULL;
    gate g = GATE_CLOSED;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1 });
    if (!pool) return;
    bool held = hold(pool, &g);
    for (int i = 0; i < TASKS; i++) {
        tpool_task like = { .name = i % 2 ? "named" : NULL, .expires_ns = i % 3 ? TPOOL_SEC(1000) : 0 };
        submit_item(pool, &items[i], sizes[i % SIZES], like, i < TASKS / 2 ? &futures[i] : NULL, REFUSED);
    }
    if (held) { /* one expires by a wait for it, one at its turn */
        tpool_task like = { .name = "expires", .expires_ns = TPOOL_US(100) };
        if (submit_item(pool, &late[0], 100, like, &expired, REFUSED)) {
            EXPECT(tpool_future_result(expired, PATIENCE, NULL) == TPOOL_EXPIRED);
            const tpool_error *error = NULL;
            EXPECT(tpool_future_error(expired, 0, &error) == TPOOL_OK && error && error->status == TPOOL_EXPIRED);
        }
        submit_item(pool, &late[1], 0, like, NULL, REFUSED);
        int64_t end = tpool_now() + TPOOL_MS(1);
        while (tpool_now() < end) sched_yield();
    }
    gate_open(&g);
    for (int i = 0; i < TASKS / 2; i++)
        if (items[i].taken) ENDS_WELL(futures[i], &items[i], false);
    pool_end(pool);
    for (int i = 0; i < TASKS; i++) tpool_future_release(futures[i]);
    tpool_future_release(expired);
    CHECK_ITEMS(items, TASKS, ALL_RAN);
    CHECK_ITEMS(late, 2, NONE_RAN);
}

static void scenario_submit_many(void) {
    enum { TASKS = 150 };
    static item items[TASKS];
    tpool_task tasks[TASKS];
    tpool_future *futures[TASKS];
    item *addresses[TASKS];
    memset(items, 0, sizeof items);
    for (int i = 0; i < TASKS; i++) {
        addresses[i] = &items[i];
        tasks[i] = (tpool_task){
            .fn = item_run_copy, .arg = &addresses[i], .arg_size = sizeof addresses[i], .arg_free = item_free_copy
        };
        futures[i] = (tpool_future *)&items[i];
    }
    tpool *pool = pool_with((tpool_config){ .max_workers = 2 });
    if (!pool) return;
    size_t submitted = 12345;
    bool all = OKAY(tpool_submit_many(pool, tasks, TASKS, futures, &submitted), REFUSED);
    EXPECT(all ? submitted == TASKS : submitted < TASKS);
    for (size_t i = 0; i < TASKS; i++) {
        items[i].taken = i < submitted;
        EXPECT((futures[i] != NULL) == items[i].taken);
        if (items[i].taken) ENDS_WELL(futures[i], &items[i], false);
    }
    pool_end(pool);
    for (int i = 0; i < TASKS; i++) tpool_future_release(futures[i]);
    CHECK_ITEMS(items, TASKS, ALL_RAN);
}

static void scenario_run_with_timeout(void) {
    item good = { 0 }, queued = { 0 };
    item *good_address = &good;
    gate g = GATE_CLOSED;
    tpool_future *future = NULL;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1 });
    if (!pool) return;
    tpool_task task = { .fn = item_run_copy,
                        .arg = &good_address,
                        .arg_size = sizeof good_address,
                        .arg_free = item_free_copy,
                        .name = "in time" };
    good.taken = OKAY(tpool_run_with_timeout(pool, &task, PATIENCE, &future), REFUSED);
    EXPECT(good.taken == (future != NULL));
    if (future) ENDS_WELL(future, &good, false);
    tpool_future_release(future);
    future = NULL;
    if (hold(pool, &g)) {
        task = (tpool_task){ .fn = item_run, .arg = &queued, .arg_free = item_free };
        tpool_status status = tpool_run_with_timeout(pool, &task, TPOOL_MS(1), &future);
        queued.taken = future != NULL;
        if (queued.taken) EXPECT(status == TPOOL_TIMEOUT && tpool_future_cancelled(future));
        else OKAY(status, REFUSED);
        tpool_future_release(future);
    }
    gate_open(&g);
    pool_end(pool);
    CHECK_ITEMS(&good, 1, ALL_RAN);
    CHECK_ITEMS(&queued, 1, NONE_RAN);
}

static void scenario_priorities(void) {
    enum { TASKS = 100 };
    static item items[TASKS];
    memset(items, 0, sizeof items);
    tpool_future *futures[TASKS] = { NULL };
    gate g = GATE_CLOSED;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1 });
    if (!pool) return;
    hold(pool, &g);
    for (int i = 0; i < TASKS; i++) {
        tpool_task like = { .priority = i % 7 - 3 };
        submit_item(pool, &items[i], i % 5 ? 0 : 64, like, i % 2 ? &futures[i] : NULL, REFUSED);
    }
    gate_open(&g);
    for (int i = 1; i < TASKS; i += 2)
        if (items[i].taken) ENDS_WELL(futures[i], &items[i], false);
    pool_end(pool);
    for (int i = 0; i < TASKS; i++) tpool_future_release(futures[i]);
    CHECK_ITEMS(items, TASKS, ALL_RAN);
}

/* ---- Scenarios: full queues ---- */

static void full_queue(tpool_full_policy policy) {
    enum { TASKS = 12, CAPACITY = 3 };
    item items[TASKS] = { 0 };
    tpool_future *futures[TASKS] = { NULL };
    gate g = GATE_CLOSED;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1, .queue_capacity = CAPACITY, .on_full = policy });
    if (!pool) return;
    bool held = policy != TPOOL_FULL_BLOCK && hold(pool, &g); /* a submitter that waits needs a worker at work */
    int taken = 0, full = 0;
    for (int i = 0; i < TASKS; i++) {
        item *address = &items[i];
        tpool_task task = {
            .fn = item_run_copy, .arg = &address, .arg_size = sizeof address, .arg_free = item_free_copy
        };
        tpool_status status = tpool_submit_task(pool, &task, &futures[i]);
        items[i].taken = status == TPOOL_OK;
        EXPECT(items[i].taken == (futures[i] != NULL));
        if (status == TPOOL_FULL) full++;
        else if (OKAY(status, REFUSED)) taken++;
        if (!items[i].taken) EXPECT(atomic_load(&items[i].frees) == 0);
        if (held && policy == TPOOL_FULL_CALLER_RUNS && taken > CAPACITY && items[i].taken) {
            EXPECT(tpool_future_done(futures[i]));
        }
    }
    if (policy == TPOOL_FULL_REJECT) EXPECT(!held || taken <= CAPACITY);
    else EXPECT(full == 0);
    gate_open(&g);
    pool_end(pool);
    int cancelled = 0;
    for (int i = 0; i < TASKS; i++) {
        if (!items[i].taken) continue;
        tpool_status status = tpool_future_result(futures[i], 0, NULL);
        if (status == TPOOL_CANCELLED) cancelled++;
        EXPECT(status == (atomic_load(&items[i].runs) ? TPOOL_OK : TPOOL_CANCELLED));
        tpool_future_release(futures[i]);
    }
    if (policy == TPOOL_FULL_DROP_OLDEST && held) EXPECT(taken - cancelled <= CAPACITY);
    if (policy != TPOOL_FULL_DROP_OLDEST) EXPECT(cancelled == 0);
    CHECK_ITEMS(items, TASKS, SOME_RAN);
}
static void scenario_full_queue_that_blocks(void) { full_queue(TPOOL_FULL_BLOCK); }
static void scenario_full_queue_that_rejects(void) { full_queue(TPOOL_FULL_REJECT); }
static void scenario_full_queue_whose_caller_runs(void) { full_queue(TPOOL_FULL_CALLER_RUNS); }
static void scenario_full_queue_that_drops(void) { full_queue(TPOOL_FULL_DROP_OLDEST); }

/* ---- Scenarios: what tasks leave ---- */

enum { LONG = 10000 };
static void *raise_of_length(void *arg) {
    int length = *(int *)arg;
    char *text = malloc((size_t)length + 1);
    memset(text, 'e', (size_t)length);
    text[length] = 0;
    tpool_raise(7, "%s", text);
    free(text);
    return arg;
}
static void count_failure(const tpool_error *error, void *context) {
    EXPECT(error->status == TPOOL_FAILED && (error->code == 7 || error->code == ENOMEM) && error->message);
    atomic_fetch_add((atomic_int *)context, 1);
}

/* The system could not format the text; it is an error all the same. */
static bool unformatted(const tpool_error *error) {
    return error->code != ENOMEM && !error->message[0] && fault->is >= ONE_QUESTION &&
           atomic_load(&fault->injected) > 0;
}

static void scenario_raise(void) {
    static int lengths[] = { 0, 10, 200, LONG };
    enum { TASKS = sizeof lengths / sizeof lengths[0] };
    tpool_future *futures[TASKS] = { NULL };
    atomic_int failures = 0;
    int unasked = 0;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1, .on_failure = count_failure, .context = &failures });
    if (!pool) return;
    for (int i = 0; i < TASKS; i++) {
        tpool_task task = { .fn = raise_of_length, .arg = &lengths[i], .name = "raises" };
        unasked += OKAY(tpool_submit_task(pool, &task, NULL), REFUSED);
        if (!OKAY(tpool_submit_task(pool, &task, &futures[i]), REFUSED)) continue;
        const tpool_error *error = NULL;
        EXPECT(tpool_future_result(futures[i], PATIENCE, NULL) == TPOOL_FAILED);
        EXPECT(tpool_future_error(futures[i], 0, &error) == TPOOL_OK);
        if (!error) {
            report(__LINE__, "the error", "is NULL");
            continue;
        }
        EXPECT(error->status == TPOOL_FAILED && error->message && tpool_future_message(futures[i]));
        if (error->code == 7 && !unformatted(error)) {
            EXPECT(strlen(error->message) == (size_t)lengths[i]);
            EXPECT(strspn(error->message, "e") == (size_t)lengths[i]);
            EXPECT(error->task && strcmp(error->task, "raises") == 0);
        } else {
            EXPECT((error->code == ENOMEM && error->message[0] && atomic_load(&fault->injected) > 0) ||
                   unformatted(error));
        }
    }
    pool_end(pool);
    EXPECT(atomic_load(&failures) == unasked);
    for (int i = 0; i < TASKS; i++) tpool_future_release(futures[i]);
}

static void *return_twice(void *arg) {
    (void)arg;
    unsigned char bytes[LONG];
    memset(bytes, 'r', sizeof bytes);
    tpool_return(bytes, 4000);
    return tpool_return(bytes, sizeof bytes);
}
static void *return_few(void *arg) { return tpool_return(&arg, sizeof arg); }
static void *return_owned(void *arg) { return tpool_return_owned(arg, count_free); }
static void *return_owned_and_bytes(void *arg) {
    tpool_return_owned(arg, count_free);
    return tpool_return("bytes", 6);
}

static void scenario_return(void) {
    tpool_future *few = NULL, *twice = NULL, *owned = NULL, *both = NULL;
    atomic_int owned_freed = 0, unasked_freed = 0, both_freed = 0;
    void *result = NULL;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1 });
    if (!pool) return;
    if (OKAY(tpool_submit(pool, return_few, pool, &few), REFUSED) && ENDS_WELL(few, NULL, true)) {
        EXPECT(tpool_future_result(few, 0, &result) == TPOOL_OK && memcmp(result, &pool, sizeof pool) == 0);
        EXPECT(tpool_future_result_size(few) == sizeof pool);
    }
    if (OKAY(tpool_submit(pool, return_twice, NULL, &twice), REFUSED) && ENDS_WELL(twice, NULL, true)) {
        EXPECT(tpool_future_result(twice, 0, &result) == TPOOL_OK && tpool_future_result_size(twice) == LONG);
        const unsigned char *bytes = result;
        for (int i = 0; i < LONG; i++) EXPECT(bytes[i] == 'r');
    }
    bool owned_taken = OKAY(tpool_submit(pool, return_owned, &owned_freed, &owned), REFUSED);
    if (owned_taken) {
        bool ended_well = ENDS_WELL(owned, &owned_freed, true);
        EXPECT(atomic_load(&owned_freed) == !ended_well); /* at once on failure, else with the future */
    }
    bool both_taken = OKAY(tpool_submit(pool, return_owned_and_bytes, &both_freed, &both), REFUSED);
    if (both_taken) {
        ENDS_WELL(both, NULL, true);
        EXPECT(atomic_load(&both_freed) == 1);
    }
    bool unasked_taken = OKAY(tpool_submit(pool, return_owned, &unasked_freed, NULL), REFUSED);
    pool_end(pool);
    tpool_future_release(few);
    tpool_future_release(twice);
    tpool_future_release(owned);
    tpool_future_release(both);
    EXPECT(atomic_load(&owned_freed) == owned_taken);
    EXPECT(atomic_load(&unasked_freed) == unasked_taken);
    EXPECT(atomic_load(&both_freed) == both_taken);
}

/* ---- Scenarios: callbacks and futures of the program ---- */

typedef struct calls {
    bool in_order; /* all are added before the future is done, and so run one after the other */
    atomic_int last;
} calls;
typedef struct call {
    calls *calls;
    int number;
    bool added;
    atomic_int ran;
} call;
static void note_call(tpool_future *future, void *context) {
    call *c = context;
    EXPECT(tpool_future_done(future));
    int last = atomic_exchange(&c->calls->last, c->number);
    EXPECT(!c->calls->in_order || c->number > last);
    atomic_fetch_add(&c->ran, 1);
}
enum { CALLS = 20 };
static void add_calls(tpool_future *future, bool in_order, calls *all, call *each) {
    all->in_order = in_order;
    atomic_store(&all->last, -1);
    for (int i = 0; i < CALLS; i++) {
        each[i] = (call){ .calls = all, .number = i };
        each[i].added = OKAY(tpool_future_add_done_callback(future, note_call, &each[i]), NO_MEMORY);
    }
}
static void check_calls(int line, const call *each) {
    for (int i = 0; i < CALLS; i++) {
        bool added = each[i].added;
        if (atomic_load(&each[i].ran) != added) report(line, "a callback", added ? "was not run once" : "was run");
    }
}

static void scenario_callbacks(void) {
    enum { RUNS, CANCELS, BARE, WAYS };
    calls all[WAYS] = { { 0 } };
    call each[WAYS][CALLS] = { 0 };
    tpool_future *runs = NULL, *cancels = NULL, *bare = NULL, *never = NULL;
    gate g = GATE_CLOSED;
    item items[2] = { 0 };
    tpool *pool = pool_with((tpool_config){ .max_workers = 1 });
    if (!pool) return;
    bool held = hold(pool, &g);
    if (submit_item(pool, &items[0], 0, (tpool_task){ 0 }, &runs, REFUSED)) {
        add_calls(runs, held, &all[RUNS], each[RUNS]);
    }
    if (submit_item(pool, &items[1], 50, (tpool_task){ 0 }, &cancels, REFUSED)) {
        add_calls(cancels, held, &all[CANCELS], each[CANCELS]);
        if (tpool_future_cancel(cancels)) EXPECT(atomic_load(&items[1].runs) == 0);
    }
    if (OKAY(tpool_future_create(&bare), NO_MEMORY)) {
        add_calls(bare, true, &all[BARE], each[BARE]);
        EXPECT(tpool_future_set_result(bare, NULL) == TPOOL_OK);
    }
    if (OKAY(tpool_future_create(&never), NO_MEMORY)) { /* released with its callbacks, which never run */
        call unused[CALLS];
        calls none = { 0 };
        add_calls(never, true, &none, unused);
        tpool_future_release(never);
        for (int i = 0; i < CALLS; i++) EXPECT(atomic_load(&unused[i].ran) == 0);
    }
    gate_open(&g);
    pool_end(pool);
    for (int way = 0; way < WAYS; way++) check_calls(__LINE__, each[way]);
    CHECK_ITEMS(items, 2, SOME_RAN);
    tpool_future_release(runs);
    tpool_future_release(cancels);
    tpool_future_release(bare);
}

static void count_owned(void *result) { atomic_fetch_add((atomic_int *)result, 1); }
static void scenario_futures_of_the_program(void) {
    tpool_future *good = NULL, *bad = NULL, *unused = NULL;
    if (OKAY(tpool_future_create(&good), NO_MEMORY)) {
        EXPECT(tpool_future_set_running(good) == TPOOL_OK);
        EXPECT(tpool_future_set_result(good, &good) == TPOOL_OK);
        ENDS_WELL(good, &good, false);
    } else {
        EXPECT(!good);
    }
    if (OKAY(tpool_future_create(&bad), NO_MEMORY)) {
        const tpool_error *error = NULL;
        bool told = OKAY(tpool_future_set_error(bad, 5, "%0*d", 5000, 1), NO_MEMORY);
        EXPECT(tpool_future_result(bad, 0, NULL) == TPOOL_FAILED); /* completed all the same */
        EXPECT(tpool_future_error(bad, 0, &error) == TPOOL_OK && error);
        if (error)
            EXPECT(error->code == (told ? 5 : ENOMEM) &&
                   (told ? strlen(error->message) == 5000 || unformatted(error) : error->message[0] != 0));
        EXPECT(tpool_future_set_result(bad, NULL) == TPOOL_INVALID_STATE);
    }
    OKAY(tpool_future_create(&unused), NO_MEMORY);
    if (unused) {
        bool told = OKAY(tpool_future_set_error_text(unused, 6, "%s"), NO_MEMORY);
        EXPECT(tpool_future_result(unused, 0, NULL) == TPOOL_FAILED);
        EXPECT(told ? strcmp(tpool_future_message(unused), "%s") == 0 : tpool_future_message(unused)[0] != 0);
    }
    tpool_future_release(unused);
    unused = NULL;
    OKAY(tpool_future_create(&unused), NO_MEMORY);
    if (unused) { /* the result is freed once, and a future without memory for it has failed */
        static atomic_int freed;
        void *result = &result;
        atomic_store(&freed, 0);
        bool told = OKAY(tpool_future_set_result_owned(unused, &freed, count_owned), NO_MEMORY);
        EXPECT(tpool_future_result(unused, 0, &result) == (told ? TPOOL_OK : TPOOL_FAILED));
        EXPECT(result == (told ? (void *)&freed : NULL) && atomic_load(&freed) == (told ? 0 : 1));
        tpool_future_release(unused);
        EXPECT(atomic_load(&freed) == 1);
        unused = NULL;
    }
    OKAY(tpool_future_create(&unused), NO_MEMORY);
    tpool_future_release(good);
    tpool_future_release(bad);
    tpool_future_release(unused);
}

/* ---- Scenarios: many futures ---- */

static int submit_some(tpool *pool, item *items, int count, tpool_future **futures) {
    int taken = 0;
    memset(items, 0, (size_t)count * sizeof *items);
    for (int i = 0; i < count; i++) {
        tpool_future *future = NULL;
        if (submit_item(pool, &items[i], 0, (tpool_task){ 0 }, &future, REFUSED)) futures[taken++] = future;
    }
    return taken;
}

static void scenario_wait(void) {
    enum { TASKS = 40 };
    static item items[TASKS];
    tpool_return_when whens[] = { TPOOL_FIRST_COMPLETED, TPOOL_FIRST_EXCEPTION, TPOOL_ALL_COMPLETED };
    tpool_future *futures[TASKS] = { NULL };
    gate g = GATE_CLOSED;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1 });
    if (!pool) return;
    bool held = hold(pool, &g);
    int taken = submit_some(pool, items, TASKS, futures);
    /* First while nothing can end, so that each wait must be set up and taken down again. */
    for (int k = 0; k < 3 && held && taken > 0; k++) {
        size_t done = 1;
        unsigned also = whens[k] == TPOOL_ALL_COMPLETED ? 0 : NO_MEMORY; /* to wait for all needs none */
        tpool_status status = tpool_wait(futures, (size_t)taken, whens[k], TPOOL_US(200), &done);
        if (status != TPOOL_TIMEOUT) {
            EXPECT(status != TPOOL_OK);
            OKAY(status, also);
        }
        if (status == TPOOL_TIMEOUT) EXPECT(done == 0);
    }
    gate_open(&g);
    for (int k = 0; k < 3 && taken > 0; k++) {
        size_t done = 0;
        unsigned also = whens[k] == TPOOL_ALL_COMPLETED ? 0 : NO_MEMORY;
        if (OKAY(tpool_wait(futures, (size_t)taken, whens[k], PATIENCE, &done), also)) EXPECT(done >= 1);
    }
    pool_end(pool);
    for (int i = 0; i < taken; i++) {
        EXPECT(tpool_future_result(futures[i], 0, NULL) == TPOOL_OK);
        tpool_future_release(futures[i]);
    }
    CHECK_ITEMS(items, TASKS, ALL_RAN);
}

static void scenario_as_completed(void) {
    enum { TASKS = 100 };
    static item items[TASKS];
    tpool_future *futures[2 * TASKS] = { NULL };
    gate g = GATE_CLOSED;
    tpool *pool = pool_with((tpool_config){ .max_workers = 2 });
    if (!pool) return;
    hold(pool, &g);
    int taken = submit_some(pool, items, TASKS, futures);
    for (int i = 0; i < taken; i++) futures[taken + i] = futures[i]; /* each twice, and yielded once */
    tpool_completions *completions = NULL;
    bool started = OKAY(tpool_as_completed(futures, 2 * (size_t)taken, &completions), NO_MEMORY);
    EXPECT(started == (completions != NULL));
    gate_open(&g);
    if (started) {
        static bool yielded[TASKS];
        memset(yielded, 0, sizeof yielded);
        EXPECT(tpool_completions_remaining(completions) == (size_t)taken);
        for (int n = 0; n < taken; n++) {
            tpool_future *next = NULL;
            if (!OKAY(tpool_completions_next(completions, PATIENCE, &next), 0)) break;
            size_t index = tpool_completions_index(completions);
            EXPECT(index < (size_t)taken && futures[index] == next && !yielded[index] && tpool_future_done(next));
            if (index < (size_t)taken) yielded[index] = true;
        }
        tpool_future *none = NULL;
        EXPECT(tpool_completions_next(completions, 0, &none) == TPOOL_END && !none);
        tpool_completions_destroy(completions);
    }
    /* One that is given up while most are still to come. */
    completions = NULL;
    if (OKAY(tpool_as_completed(futures, (size_t)taken, &completions), NO_MEMORY)) {
        tpool_future *next = NULL;
        if (taken > 0) OKAY(tpool_completions_next(completions, PATIENCE, &next), 0);
        tpool_completions_destroy(completions);
    }
    pool_end(pool);
    for (int i = 0; i < taken; i++) tpool_future_release(futures[i]);
    CHECK_ITEMS(items, TASKS, ALL_RAN);
}

/* Each submit adds its task, or is refused and adds nothing. */
static void scenario_submits_that_add_to_completions(void) {
    enum { TASKS = 80, CAPACITY = 50 };
    static item items[3 * TASKS];
    memset(items, 0, sizeof items);
    static const tpool_full_policy policies[3] = { TPOOL_FULL_REJECT, TPOOL_FULL_CALLER_RUNS, TPOOL_FULL_DROP_OLDEST };
    for (int p = 0; p < 3; p++) {
        gate g = GATE_CLOSED;
        tpool_completions *completions = NULL;
        tpool *pool = pool_with((tpool_config){ .max_workers = 1, .queue_capacity = CAPACITY, .on_full = policies[p] });
        if (!pool) continue;
        (void)hold(pool, &g);
        if (OKAY(tpool_as_completed(NULL, 0, &completions), NO_MEMORY)) {
            size_t added = 0;
            for (int i = 0; i < TASKS; i++) {
                item *address = &items[p * TASKS + i];
                tpool_future *future = NULL;
                tpool_task task = {
                    .fn = item_run_copy,
                    .arg = &address,
                    .arg_size = sizeof address,
                    .arg_free = item_free_copy,
                    .expires_ns = i % 3 ? 0 : TPOOL_SEC(10000),
                    .completions = completions,
                };
                tpool_status status = tpool_submit_task(pool, &task, i % 2 ? &future : NULL);
                address->taken = status == TPOOL_OK;
                if (policies[p] != TPOOL_FULL_REJECT || status != TPOOL_FULL) OKAY(status, REFUSED);
                EXPECT((status == TPOOL_OK && i % 2) == (future != NULL));
                added += status == TPOOL_OK;
                EXPECT(tpool_completions_remaining(completions) == added);
                tpool_future_release(future);
            }
            gate_open(&g);
            for (size_t n = 0; n < added; n++) {
                tpool_future *next = NULL;
                if (!OKAY(tpool_completions_next(completions, PATIENCE, &next), 0)) break;
                tpool_status end = tpool_future_result(next, 0, NULL);
                EXPECT(end == TPOOL_OK || (policies[p] == TPOOL_FULL_DROP_OLDEST && end == TPOOL_CANCELLED));
            }
            tpool_future *none = NULL;
            EXPECT(tpool_completions_next(completions, 0, &none) == TPOOL_END && !none);
            tpool_completions_destroy(completions);
        }
        gate_open(&g);
        pool_end(pool);
    }
    CHECK_ITEMS(items, 3 * TASKS, SOME_RAN);
}

static void scenario_completions_that_grow(void) {
    enum { TASKS = 80 };
    static item items[TASKS];
    tpool_future *futures[TASKS] = { NULL };
    gate g = GATE_CLOSED;
    tpool_completions *completions = NULL;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1 });
    if (!pool) return;
    hold(pool, &g);
    int taken = submit_some(pool, items, TASKS, futures);
    if (OKAY(tpool_as_completed(NULL, 0, &completions), NO_MEMORY)) {
        size_t added = 0;
        for (int i = 0; i < taken; i++) {
            if (OKAY(tpool_completions_add(completions, futures[i]), NO_MEMORY)) added++;
            EXPECT(tpool_completions_remaining(completions) == added);
            tpool_future_release(futures[i]); /* what it was given, it holds itself */
        }
        gate_open(&g);
        for (size_t n = 0; n < added; n++) {
            tpool_future *next = NULL;
            if (!OKAY(tpool_completions_next(completions, PATIENCE, &next), 0)) break;
            EXPECT(tpool_future_result(next, 0, NULL) == TPOOL_OK);
        }
        EXPECT(tpool_completions_remaining(completions) == 0);
        tpool_completions_destroy(completions);
    } else {
        gate_open(&g);
        for (int i = 0; i < taken; i++) tpool_future_release(futures[i]);
    }
    pool_end(pool);
    CHECK_ITEMS(items, TASKS, ALL_RAN);
}

/* ---- Scenarios: map, loops, jobs ---- */

static void *square(void *arg, void *context) {
    atomic_fetch_add((atomic_int *)context, 1);
    int value = *(int *)arg * *(int *)arg;
    return tpool_return(&value, sizeof value);
}

/* Takes results until the end, or until nothing but refusals come; checks that each comes once, and in order unless
 * the map is unordered. */
static void take_squares(tpool_map_iter *iter, int count, int most, bool unordered) {
    int delivered = 0, refusals = 0, sum = 0;
    while (delivered < most) {
        void *result = NULL;
        tpool_status status = tpool_map_next(iter, PATIENCE, &result);
        if (status == TPOOL_END) {
            EXPECT(delivered == count && sum == count * (count - 1) / 2);
            break;
        }
        int number = (int)tpool_map_index(iter);
        if (status == TPOOL_OK || status == TPOOL_FAILED) {
            EXPECT(unordered || number == delivered);
            EXPECT(*(int *)tpool_map_item(iter) == number);
            sum += number;
        }
        if (status == TPOOL_OK) {
            EXPECT(result && *(int *)result == number * number);
            EXPECT(tpool_map_result_size(iter) == sizeof(int));
            delivered++;
        } else if (status == TPOOL_FAILED) {
            const tpool_error *error = NULL;
            EXPECT(!result && tpool_map_error(iter, &error) == TPOOL_OK && error && error->code == ENOMEM);
            EXPECT(atomic_load(&fault->injected) > 0);
            delivered++;
        } else { /* about this wait: nothing is consumed, and once the fault is over it goes on */
            OKAY(status, REFUSED);
            if (++refusals == 3) break;
        }
    }
    EXPECT(delivered <= count);
}

static void scenario_map_over_an_array(void) {
    enum { COUNT_OF_ITEMS = 30 };
    int numbers[COUNT_OF_ITEMS];
    atomic_int calls_made = 0;
    for (int i = 0; i < COUNT_OF_ITEMS; i++) numbers[i] = i;
    tpool *pool = pool_with((tpool_config){ .max_workers = 2 });
    if (!pool) return;
    static const struct {
        size_t chunk_size, buffer_size;
        int most;
        bool unordered;
    } ways[] = {
        { 0, 0, COUNT_OF_ITEMS + 1, false }, { 1, 5, COUNT_OF_ITEMS + 1, false },
        { 7, 0, COUNT_OF_ITEMS + 1, false }, { 3, 10, COUNT_OF_ITEMS / 2, false }, /* closed half-way */
        { 3, 10, COUNT_OF_ITEMS + 1, true }, { 1, 0, COUNT_OF_ITEMS / 2, true },
    };
    enum { WAYS = sizeof ways / sizeof ways[0] };
    for (int k = 0; k < WAYS; k++) {
        tpool_map_spec spec = { .fn = square,
                                .context = &calls_made,
                                .items = numbers,
                                .count = COUNT_OF_ITEMS,
                                .stride = sizeof numbers[0],
                                .chunk_size = ways[k].chunk_size,
                                .buffer_size = ways[k].buffer_size,
                                .unordered = ways[k].unordered };
        tpool_map_iter *iter = NULL;
        if (OKAY(tpool_map(pool, &spec, &iter), REFUSED)) {
            take_squares(iter, COUNT_OF_ITEMS, ways[k].most, ways[k].unordered);
            tpool_map_close(iter);
        } else {
            EXPECT(!iter);
        }
    }
    pool_end(pool);
    EXPECT(atomic_load(&calls_made) <= WAYS * COUNT_OF_ITEMS);
}

typedef struct source {
    int produced, limit;
    atomic_int calls_made, freed;
} source;
static bool source_next(void *context, void **given) {
    source *s = context;
    if (s->produced == s->limit) return false;
    int *number = malloc(sizeof *number);
    *number = s->produced++;
    *given = number;
    return true;
}
static void source_free(void *given, void *context) {
    atomic_fetch_add(&((source *)context)->freed, 1);
    free(given);
}
static void *square_of_source(void *arg, void *context) { return square(arg, &((source *)context)->calls_made); }

static void scenario_map_over_a_source(void) {
    enum { ITEMS = 24 };
    tpool *pool = pool_with((tpool_config){ .max_workers = 2 });
    if (!pool) return;
    for (int k = 0; k < 4; k++) {
        source s = { .limit = ITEMS };
        tpool_map_spec spec = { .fn = square_of_source,
                                .context = &s,
                                .next = source_next,
                                .item_free = source_free,
                                .chunk_size = k % 2 ? 1 : 4,
                                .buffer_size = 6,
                                .unordered = k == 1 || k == 2 };
        tpool_map_iter *iter = NULL;
        if (OKAY(tpool_map(pool, &spec, &iter), REFUSED)) {
            take_squares(iter, ITEMS, k < 2 ? ITEMS + 1 : ITEMS / 2, spec.unordered);
            tpool_map_close(iter);
        } else {
            EXPECT(!iter);
        }
        EXPECT(atomic_load(&s.freed) == s.produced); /* each item taken, once, run or not */
        EXPECT(atomic_load(&s.calls_made) <= s.produced);
    }
    pool_end(pool);
}

enum { RANGE = 500 };
static void count_each(size_t begin, size_t end, void *context) {
    atomic_int *counts = context;
    for (size_t i = begin; i < end; i++) atomic_fetch_add(&counts[i], 1);
}
static void loop_and_check(tpool *pool, size_t grain) {
    atomic_int *counts = calloc(RANGE, sizeof *counts);
    tpool_status status = tpool_for(pool, 0, RANGE, grain, count_each, counts);
    OKAY(status, REFUSED);
    for (int i = 0; i < RANGE; i++) {
        int count = atomic_load(&counts[i]);
        if (status == TPOOL_OK) EXPECT(count == 1);
        else if (status == TPOOL_NO_MEMORY) EXPECT(count == 0); /* nothing was run */
    }
    /* After NO_THREAD parts may still run, and need the array: it stays until the pool is gone. */
    if (status == TPOOL_NO_THREAD) tpool_drain(pool, PATIENCE);
    free(counts);
}
static void *loop_in_task(void *arg) {
    atomic_int *counts = arg;
    tpool_status status = tpool_for(tpool_current(), 0, RANGE, 10, count_each, counts);
    OKAY(status, REFUSED);
    return status == TPOOL_OK ? arg : NULL;
}

static void scenario_loops(void) {
    tpool *pool = pool_with((tpool_config){ .max_workers = 2 });
    if (!pool) return;
    loop_and_check(pool, 0);
    loop_and_check(pool, 7);
    atomic_int *counts = calloc(RANGE, sizeof *counts);
    tpool_future *future = NULL;
    void *looped = NULL;
    if (OKAY(tpool_submit(pool, loop_in_task, counts, &future), REFUSED)) {
        EXPECT(tpool_future_result(future, PATIENCE, &looped) == TPOOL_OK);
    }
    pool_end(pool);
    for (int i = 0; i < RANGE && looped; i++) EXPECT(atomic_load(&counts[i]) == 1);
    tpool_future_release(future);
    free(counts);
}

static void *fibonacci(void *arg) {
    intptr_t n = (intptr_t)arg;
    if (n < 2) return (void *)n;
    tpool_job job;
    tpool_fork(&job, fibonacci, (void *)(n - 1));
    intptr_t smaller = (intptr_t)fibonacci((void *)(n - 2));
    return (void *)((intptr_t)tpool_join(&job) + smaller);
}

static void scenario_fork_and_join(void) {
    tpool *pool = pool_with((tpool_config){ .max_workers = 2 });
    if (!pool) return;
    tpool_future *futures[3] = { NULL };
    for (int i = 0; i < 3; i++) {
        if (OKAY(tpool_submit(pool, fibonacci, (void *)(intptr_t)12, &futures[i]), REFUSED)) {
            ENDS_WELL(futures[i], (void *)(intptr_t)144, false);
        }
    }
    pool_end(pool);
    for (int i = 0; i < 3; i++) tpool_future_release(futures[i]);
}

/* ---- Scenarios: waits inside tasks ---- */

typedef struct nested {
    tpool *pool;
    item item;
    int depth;
    int64_t timeout;
    tpool_future *never; /* if there is one: the wait is for the first of several, this among them */
} nested;

static void *nested_run(void *arg) {
    nested *n = arg;
    atomic_fetch_add(&n->item.runs, 1);
    if (n->depth == 0) return n;
    nested *inner = n - 1; /* the array holds the deepest first */
    tpool_task task = { .fn = nested_run, .arg = inner };
    tpool_future *future = NULL;
    inner->item.taken = OKAY(tpool_submit_task(n->pool, &task, &future), REFUSED);
    if (!inner->item.taken) return n;
    tpool_future *several[] = { n->never, future };
    tpool_status status = n->never ? tpool_wait(several, 2, TPOOL_FIRST_COMPLETED, n->timeout, NULL)
                                   : tpool_future_result(future, n->timeout, NULL);
    OKAY(status, BIT(TPOOL_NO_THREAD)); /* no spare worker could be had; the inner task runs after this one */
    if (status == TPOOL_OK) EXPECT(atomic_load(&inner->item.runs) == 1);
    tpool_future_release(future);
    return n;
}

static void nest_tasks(int64_t timeout, tpool_future *never) {
    enum { DEPTH = 5 };
    nested all[DEPTH] = { 0 };
    tpool_future *future = NULL;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1 });
    if (!pool) return;
    for (int i = 0; i < DEPTH; i++) all[i] = (nested){ .pool = pool, .depth = i, .timeout = timeout, .never = never };
    nested *outermost = &all[DEPTH - 1];
    outermost->item.taken = OKAY(tpool_submit(pool, nested_run, outermost, &future), REFUSED);
    if (outermost->item.taken) ENDS_WELL(future, outermost, false);
    pool_end(pool);
    for (int i = 0; i < DEPTH; i++) EXPECT(atomic_load(&all[i].item.runs) == all[i].item.taken);
    tpool_future_release(future);
}
static void scenario_waits_in_place(void) { nest_tasks(TPOOL_FOREVER, NULL); }
static void scenario_waits_with_spare_workers(void) { nest_tasks(PATIENCE, NULL); }
static void scenario_waits_for_the_first(void) {
    tpool_future *never = NULL;
    if (!OKAY(tpool_future_create(&never), NO_MEMORY)) return;
    nest_tasks(TPOOL_FOREVER, never);
    tpool_future_release(never);
}

/* A task that waits for what its pool does not run, and must not hold up what its pool has queued. */
typedef struct outside {
    tpool_future *bare;
    tpool_status status;
    gate started;
} outside;
static void *wait_for_outside(void *arg) {
    outside *o = arg;
    gate_pass(&o->started);
    o->status = tpool_future_result(o->bare, TPOOL_FOREVER, NULL);
    return o;
}

static void scenario_a_wait_for_something_outside(void) {
    outside o = { .started = GATE_CLOSED };
    item behind = { 0 };
    tpool_future *waits = NULL, *runs = NULL;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1 });
    if (!pool) return;
    gate_open(&o.started);
    if (OKAY(tpool_future_create(&o.bare), NO_MEMORY)) {
        if (OKAY(tpool_submit(pool, wait_for_outside, &o, &waits), REFUSED)) {
            /* Either a spare worker runs it, or the wait gives NO_THREAD, and its own worker does. */
            if (submit_item(pool, &behind, 0, (tpool_task){ 0 }, &runs, REFUSED)) ENDS_WELL(runs, &behind, false);
            EXPECT(tpool_future_set_result(o.bare, NULL) == TPOOL_OK);
            ENDS_WELL(waits, &o, false);
            OKAY(o.status, BIT(TPOOL_NO_THREAD));
        }
    }
    pool_end(pool);
    CHECK_ITEMS(&behind, 1, ALL_RAN);
    tpool_future_release(o.bare);
    tpool_future_release(waits);
    tpool_future_release(runs);
}

/* ---- Scenarios: the life of pools ---- */

static void scenario_warm_up_resize_and_pause(void) {
    enum { TASKS = 20 };
    item items[TASKS] = { 0 };
    tpool_future *futures[TASKS] = { NULL };
    tpool *pool = pool_with((tpool_config){ .max_workers = 3, .name = "a name of its own" });
    if (!pool) return;
    OKAY(tpool_warm_up(pool, 3), REFUSED);
    OKAY(tpool_pause(pool), 0);
    int taken = submit_some(pool, items, TASKS, futures);
    OKAY(tpool_resize(pool, 4), 0);
    OKAY(tpool_resume(pool), 0);
    for (int i = 0; i < taken; i++) ENDS_WELL(futures[i], NULL, false);
    OKAY(tpool_drain(pool, PATIENCE), 0);
    OKAY(tpool_resize(pool, 1), 0);
    pool_end(pool);
    for (int i = 0; i < taken; i++) tpool_future_release(futures[i]);
    CHECK_ITEMS(items, TASKS, ALL_RAN);
}

static void scenario_workers_are_replaced(void) {
    enum { TASKS = 10 };
    item items[TASKS] = { 0 };
    tpool_future *futures[TASKS] = { NULL };
    gate g = GATE_CLOSED;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1, .max_tasks_per_worker = 1 });
    if (!pool) return;
    hold(pool, &g);
    int taken = submit_some(pool, items, TASKS, futures);
    gate_open(&g);
    for (int i = 0; i < taken; i++) ENDS_WELL(futures[i], NULL, false);
    pool_end(pool);
    for (int i = 0; i < taken; i++) tpool_future_release(futures[i]);
    CHECK_ITEMS(items, TASKS, ALL_RAN);
}

/* The only worker dies, with work queued. Whether or not another can be started, each future must have its end. */
static void scenario_a_task_ends_its_thread(void) {
    enum { TASKS = 10 };
    item items[TASKS] = { 0 };
    tpool_future *futures[TASKS] = { NULL }, *ended = NULL;
    gate g = GATE_CLOSED;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1 });
    if (!pool) return;
    hold(pool, &g);
    bool ends = OKAY(tpool_submit(pool, end_thread, NULL, &ended), REFUSED);
    int taken = submit_some(pool, items, TASKS, futures);
    gate_open(&g);
    if (ends) EXPECT(tpool_future_result(ended, PATIENCE, NULL) == TPOOL_BROKEN);
    for (int i = 0; i < taken; i++) {
        tpool_status status = tpool_future_result(futures[i], PATIENCE, NULL);
        OKAY(status, BIT(TPOOL_BROKEN));
    }
    pool_end(pool);
    for (int i = 0; i < taken; i++) tpool_future_release(futures[i]);
    tpool_future_release(ended);
    CHECK_ITEMS(items, TASKS, SOME_RAN);
}

static void scenario_shutdown_cancels(void) {
    enum { TASKS = 200 };
    static item items[TASKS];
    memset(items, 0, sizeof items);
    tpool_future *futures[TASKS] = { NULL };
    gate g = GATE_CLOSED;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1 });
    if (!pool) return;
    bool held = hold(pool, &g);
    for (int i = 0; i < TASKS; i++) {
        tpool_task like = { .priority = i % 3 };
        submit_item(pool, &items[i], i % 4 ? 0 : 32, like, i % 2 ? &futures[i] : NULL, REFUSED);
    }
    OKAY(tpool_shutdown(pool, TPOOL_CANCEL_PENDING | TPOOL_STOP_RUNNING), 0); /* needs no memory */
    gate_open(&g);
    pool_end(pool);
    for (int i = 1; i < TASKS; i += 2) {
        if (items[i].taken && held) EXPECT(tpool_future_result(futures[i], 0, NULL) == TPOOL_CANCELLED);
        tpool_future_release(futures[i]);
    }
    CHECK_ITEMS(items, TASKS, held ? NONE_RAN : SOME_RAN);
}

static void scenario_a_broken_initializer(void) {
    enum { TASKS = 30 };
    static item items[TASKS];
    tpool_future *futures[TASKS] = { NULL };
    gate g = GATE_CLOSED;
    tpool *pool = pool_with((tpool_config){ .max_workers = 2, .initializer = pass_gate_and_fail, .context = &g });
    if (!pool) return;
    int taken = submit_some(pool, items, TASKS, futures);
    gate_open(&g);
    for (int i = 0; i < taken; i++) {
        EXPECT(tpool_future_result(futures[i], PATIENCE, NULL) == TPOOL_BROKEN);
        tpool_future_release(futures[i]);
    }
    broken_pool_end(pool);
    CHECK_ITEMS(items, TASKS, NONE_RAN);
}

static void scenario_futures_released_after_their_pool(void) {
    enum { TASKS = 300 }; /* more than fit into the memory that is taken at once */
    static item items[TASKS];
    tpool_future *futures[TASKS] = { NULL };
    tpool *first = pool_with((tpool_config){ .max_workers = 1 });
    tpool *second = pool_with((tpool_config){ .max_workers = 2 });
    int taken = 0;
    memset(items, 0, sizeof items);
    for (int i = 0; i < TASKS; i++) {
        tpool *pool = i % 2 ? first : second;
        if (pool && submit_item(pool, &items[i], 0, (tpool_task){ 0 }, &futures[taken], REFUSED)) taken++;
    }
    pool_end(first);
    pool_end(second);
    for (int i = 0; i < taken; i++) {
        EXPECT(tpool_future_result(futures[i], 0, NULL) == TPOOL_OK);
        tpool_future_release(futures[i]);
    }
    CHECK_ITEMS(items, TASKS, ALL_RAN);
}

/* ---- Scenarios: managed pools, resources, measuring ---- */

static tpool *lent(tpool_manager *manager, int workers, unsigned flags) {
    tpool *pool = (tpool *)manager;
    bool got = OKAY(tpool_manager_get(manager, workers, TPOOL_THREADS, flags, &pool), NO_MEMORY);
    EXPECT(got == (pool != NULL));
    return pool;
}
static void scenario_managed_pools(void) {
    enum { POOLS = 18 }; /* more than the tables have places for at first */
    item items[POOLS + 3] = { 0 };
    tpool *pools[POOLS + 3] = { NULL };
    tpool_manager *manager = NULL;
    bool created = OKAY(tpool_manager_create(&manager, &(tpool_manager_config){ .max_pools = POOLS }), NO_MEMORY);
    EXPECT(created == (manager != NULL));
    if (!manager) return;
    for (int i = 0; i < POOLS; i++) pools[i] = lent(manager, i + 1, 0);
    pools[POOLS] = lent(manager, 1, TPOOL_FORCE_NEW);
    pools[POOLS + 1] = lent(manager, 2, 0);
    if (pools[1] && pools[POOLS + 1]) EXPECT(pools[1] == pools[POOLS + 1]);
    for (int i = 0; i <= POOLS; i += 3)
        if (pools[i]) submit_item(pools[i], &items[i], 0, (tpool_task){ 0 }, NULL, REFUSED);
    for (int i = 0; i < POOLS; i += 2) {
        OKAY(tpool_manager_release(manager, pools[i]), 0);
        pools[i] = NULL;
    }
    pools[POOLS + 2] = lent(manager, POOLS + 1, 0); /* evicts one */
    for (int i = 0; i < POOLS + 3; i++) OKAY(tpool_manager_release(manager, pools[i]), 0);
    tpool_manager_stats stats;
    OKAY(tpool_manager_get_stats(manager, &stats), 0);
    EXPECT(stats.in_use == 0);
    tpool_manager_destroy(manager);
    CHECK_ITEMS(items, POOLS + 3, ALL_RAN);
}

static tpool_status run_in_scope(tpool *pool, void *context) {
    submit_item(pool, context, 0, (tpool_task){ 0 }, NULL, REFUSED);
    return TPOOL_OK;
}
static void scenario_a_managed_scope(void) {
    item items[1] = { 0 };
    tpool_manager *manager = NULL;
    if (!OKAY(tpool_manager_create(&manager, NULL), NO_MEMORY)) return;
    OKAY(tpool_with_pool(manager, 2, TPOOL_THREADS, run_in_scope, &items[0]), NO_MEMORY);
    OKAY(tpool_manager_shutdown(manager, false), BIT(TPOOL_NO_THREAD));
    tpool_manager_destroy(manager);
    CHECK_ITEMS(items, 1, ALL_RAN);
}

typedef struct workshop {
    tpool_resources *tools;
    int made, destroyed;
    atomic_int uses;
    gate *g;
} workshop;
static void *make_tool(void *context) {
    workshop *w = context;
    static int tools[2];
    return &tools[w->made++ % 2];
}
static void destroy_tool(void *tool, void *context) {
    (void)tool;
    ((workshop *)context)->destroyed++;
}
static void *use_tool(void *arg) {
    workshop *w = arg;
    void *tool = NULL;
    if (!OKAY(tpool_resources_get(w->tools, PATIENCE, &tool), BIT(TPOOL_NO_THREAD))) {
        EXPECT(!tool);
        return NULL;
    }
    atomic_fetch_add(&w->uses, 1);
    OKAY(tpool_resources_put(w->tools, tool), 0);
    return NULL;
}
static void *give_tool(void *arg) {
    workshop *w = ((void **)arg)[0];
    OKAY(tpool_resources_put(w->tools, ((void **)arg)[1]), 0);
    return NULL;
}
static void scenario_resources(void) {
    workshop w = { 0 };
    bool created = OKAY(tpool_resources_create(&w.tools, 1, make_tool, destroy_tool, &w), NO_MEMORY);
    EXPECT(created == (w.tools != NULL) && w.made == (int)created);
    if (!created) return;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1 });
    void *both[2] = { &w, NULL };
    if (pool && OKAY(tpool_resources_get(w.tools, 0, &both[1]), 0)) {
        OKAY(tpool_submit(pool, use_tool, &w, NULL), REFUSED); /* waits, and a spare worker runs the next */
        if (!OKAY(tpool_submit(pool, give_tool, both, NULL), REFUSED)) give_tool(both);
    }
    pool_end(pool);
    OKAY(tpool_resources_destroy(w.tools), 0);
    EXPECT(w.made == w.destroyed);
}

typedef struct belt {
    tpool_channel *channel;
    atomic_int sent, received;
} belt;
static void *unload_belt(void *arg) {
    belt *b = arg;
    int thing = 0;
    if (!OKAY(tpool_channel_receive(b->channel, &thing, PATIENCE), BIT(TPOOL_NO_THREAD))) return NULL;
    EXPECT(thing == 17);
    atomic_fetch_add(&b->received, 1);
    return NULL;
}
static void *load_belt(void *arg) {
    belt *b = arg;
    int thing = 17;
    if (OKAY(tpool_channel_send(b->channel, &thing, PATIENCE), BIT(TPOOL_NO_THREAD))) atomic_fetch_add(&b->sent, 1);
    return NULL;
}
static atomic_int *freed_from_belt;
static void free_from_belt(void *thing) {
    (void)thing;
    atomic_fetch_add(freed_from_belt, 1);
}
static void scenario_channels(void) {
    belt b = { 0 };
    atomic_int freed = 0;
    freed_from_belt = &freed;
    tpool_channel_config config = { .item_size = sizeof(int), .item_free = free_from_belt };
    bool created = OKAY(tpool_channel_create(&b.channel, &config), NO_MEMORY);
    EXPECT(created == (b.channel != NULL));
    if (!created) return;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1 });
    if (pool && OKAY(tpool_submit(pool, unload_belt, &b, NULL), REFUSED)) { /* waits; a spare worker runs the next */
        if (!OKAY(tpool_submit(pool, load_belt, &b, NULL), REFUSED)) load_belt(&b);
    }
    pool_end(pool);
    OKAY(tpool_channel_close(b.channel), 0);
    OKAY(tpool_channel_destroy(b.channel), 0);
    EXPECT(atomic_load(&b.sent) == atomic_load(&b.received) + atomic_load(&freed));
}

static void scenario_measuring(void) {
    enum { TASKS = 40 };
    item items[TASKS] = { 0 };
    tpool_future *futures[TASKS] = { NULL };
    tpool *pool = pool_with((tpool_config){ .max_workers = 2, .measure = true });
    if (!pool) return;
    for (int i = 0; i < TASKS; i++)
        submit_item(pool, &items[i], i % 4 ? 0 : 24, (tpool_task){ 0 }, i % 2 ? &futures[i] : NULL, REFUSED);
    tpool_stats stats;
    OKAY(tpool_get_stats(pool, &stats), 0);
    pool_end(pool);
    for (int i = 0; i < TASKS; i++) tpool_future_release(futures[i]);
    CHECK_ITEMS(items, TASKS, ALL_RAN);
}

/* ---- Scenarios: pools of every kind ---- */

static int submit_some_plain(tpool *pool, atomic_int *runs, int count) {
    int taken = 0;
    for (int i = 0; i < count; i++) taken += OKAY(tpool_submit(pool, count_up, runs, NULL), REFUSED);
    return taken;
}

static void scenario_a_pool_with_all_defaults(void) {
    atomic_int runs = 0;
    tpool *pool = NULL;
    EXPECT(tpool_cpu_count() >= 1 && tpool_workers_for(TPOOL_WORK_IO) >= 2);
    if (!OKAY(tpool_create(&pool, NULL), NO_MEMORY)) return;
    int taken = submit_some_plain(pool, &runs, 10);
    OKAY(tpool_warm_up(pool, 1), REFUSED);
    OKAY(tpool_shutdown(pool, 0), 0);
    OKAY(tpool_shutdown(pool, TPOOL_WAIT), 0);
    pool_end(pool);
    EXPECT(atomic_load(&runs) == taken);
}

/* An initializer that uses the library itself. */
static bool make_a_future(void *context) {
    tpool_future *bare = NULL;
    if (OKAY(tpool_future_create(&bare), NO_MEMORY)) EXPECT(tpool_future_set_result(bare, context) == TPOOL_OK);
    tpool_future_release(bare);
    tpool_status status = tpool_submit(tpool_current(), count_up, context, NULL);
    if (status != TPOOL_SHUTDOWN) OKAY(status, REFUSED); /* a worker may start as late as that */
    return true;
}
static void scenario_workers_with_stacks_hooks_and_idle_ends(void) {
    atomic_int runs = 0, in_hooks = 0;
    int taken = 0;
    tpool *pool = pool_with((tpool_config){ .max_workers = 3,
                                            .min_workers = 1,
                                            .idle_timeout_ns = TPOOL_US(200),
                                            .stack_size = 256 * 1024,
                                            .initializer = make_a_future,
                                            .finalizer = count_free,
                                            .context = &in_hooks });
    if (!pool) return;
    for (int burst = 0; burst < 3; burst++) {
        taken += submit_some_plain(pool, &runs, 4);
        OKAY(tpool_drain(pool, PATIENCE), BIT(TPOOL_NO_THREAD));
        int64_t end = tpool_now() + TPOOL_US(500);
        while (tpool_now() < end) sched_yield();
    }
    pool_end(pool);
    EXPECT(atomic_load(&runs) == taken);
}

/* More than fits into a segment of a worker's own lane, and taken from there by others. */
enum { CHILDREN = 700 };
typedef struct parent {
    tpool *pool;
    item items[CHILDREN];
    tpool_future *futures[CHILDREN];
    int taken;
} parent;
static void *submit_children(void *arg) {
    parent *p = arg;
    for (int i = 0; i < CHILDREN; i++) {
        if (i % 3 == 0) submit_item(p->pool, &p->items[i], 0, (tpool_task){ 0 }, NULL, REFUSED);
        else if (submit_item(p->pool, &p->items[i], i % 3 == 1 ? 0 : 40, (tpool_task){ .name = "child" },
                             &p->futures[p->taken], REFUSED))
            p->taken++;
    }
    size_t done = 0;
    OKAY(tpool_wait(p->futures, (size_t)p->taken, TPOOL_ALL_COMPLETED, TPOOL_FOREVER, &done), BIT(TPOOL_NO_THREAD));
    return p;
}
static void scenario_many_from_a_worker(void) {
    static parent p;
    memset(&p, 0, sizeof p);
    tpool_future *future = NULL;
    p.pool = pool_with((tpool_config){ .max_workers = 2 });
    if (!p.pool) return;
    if (OKAY(tpool_submit(p.pool, submit_children, &p, &future), REFUSED)) ENDS_WELL(future, &p, false);
    pool_end(p.pool);
    for (int i = 0; i < p.taken; i++) tpool_future_release(p.futures[i]);
    tpool_future_release(future);
    CHECK_ITEMS(p.items, CHILDREN, ALL_RAN);
}

/* Without futures, and with a queue that needs more than its first memory. */
static void full_queue_of_plain_tasks(tpool_full_policy policy) {
    enum { CAPACITY = 70, TASKS = 200 };
    atomic_int runs = 0;
    int taken = 0;
    gate g = GATE_CLOSED;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1, .queue_capacity = CAPACITY, .on_full = policy });
    if (!pool) return;
    bool held = policy != TPOOL_FULL_BLOCK && hold(pool, &g);
    for (int i = 0; i < TASKS; i++) {
        tpool_task task = { .fn = count_up, .arg = &runs, .priority = i % 10 == 0 ? i % 3 : 0 };
        tpool_status status = i % 2 ? tpool_submit(pool, count_up, &runs, NULL) : tpool_submit_task(pool, &task, NULL);
        if (status == TPOOL_FULL) EXPECT(policy == TPOOL_FULL_REJECT);
        else taken += OKAY(status, REFUSED);
    }
    gate_open(&g);
    OKAY(tpool_drain(pool, PATIENCE), 0);
    tpool_stats s;
    OKAY(tpool_get_stats(pool, &s), 0);
    EXPECT(s.submitted == (uint64_t)taken + held && s.dropped == (uint64_t)(taken - atomic_load(&runs)));
    pool_end(pool);
    EXPECT(policy == TPOOL_FULL_DROP_OLDEST ? atomic_load(&runs) <= taken : atomic_load(&runs) == taken);
}
static void scenario_full_queue_of_plain_tasks(void) {
    for (int policy = TPOOL_FULL_BLOCK; policy <= TPOOL_FULL_DROP_OLDEST; policy++)
        full_queue_of_plain_tasks((tpool_full_policy)policy);
}

/* Whoever makes room queues what a blocked submitter has brought, and that may want memory. */
typedef struct brought {
    tpool *pool;
    item item;
    tpool_future *future;
} brought;
static tpool_status bring_ranked(void *context) {
    brought *b = context;
    submit_item(b->pool, &b->item, 0, (tpool_task){ .priority = 1 }, &b->future, REFUSED);
    return TPOOL_OK;
}
static void scenario_a_blocked_submitter(void) {
    brought b = { .future = NULL };
    background submitter;
    gate g = GATE_CLOSED;
    item filler = { 0 };
    b.pool = pool_with((tpool_config){ .max_workers = 1, .queue_capacity = 1 });
    if (!b.pool) return;
    if (hold(b.pool, &g) && submit_item(b.pool, &filler, 0, (tpool_task){ 0 }, NULL, REFUSED)) {
        pthread_t *thread = &submitter.thread;
        submitter.call = bring_ranked;
        submitter.context = &b;
        atomic_store(&submitter.thread_id, 0);
        atomic_store(&submitter.returned, false);
        EXPECT(pthread_create(thread, NULL, background_main, &submitter) == 0);
        int64_t end = tpool_now() + TPOOL_MS(2); /* by then it is blocked, most likely */
        while (tpool_now() < end || !atomic_load(&submitter.thread_id)) sched_yield();
        gate_open(&g);
        pthread_join(*thread, NULL);
        if (b.future) ENDS_WELL(b.future, &b.item, false);
    }
    gate_open(&g);
    pool_end(b.pool);
    tpool_future_release(b.future);
    CHECK_ITEMS(&b.item, 1, ALL_RAN);
    CHECK_ITEMS(&filler, 1, ALL_RAN);
}

/* A task that fills its own pool's queue blocks like any wait: a spare worker makes room. */
static void *fill_own_queue(void *arg) {
    nested *n = arg;
    for (int i = 0; i < 6; i++) n->depth += OKAY(tpool_submit(n->pool, item_run, &n->item, NULL), REFUSED);
    return n;
}
static void scenario_a_task_fills_its_own_queue(void) {
    nested n = { .depth = 0 };
    tpool_future *future = NULL;
    n.pool = pool_with((tpool_config){ .max_workers = 1, .queue_capacity = 2 });
    if (!n.pool) return;
    if (OKAY(tpool_submit(n.pool, fill_own_queue, &n, &future), REFUSED)) ENDS_WELL(future, &n, false);
    pool_end(n.pool);
    tpool_future_release(future);
    EXPECT(atomic_load(&n.item.runs) == n.depth);
}

/* ---- Scenarios: ends of every kind ---- */

static void *raise_now(void *arg) {
    (void)arg;
    return tpool_raise(7, "%s", "it cannot be done");
}
static void *return_then_raise(void *arg) {
    tpool_return_owned(arg, count_free);
    return tpool_raise(7, NULL);
}
static void *return_then_end_thread(void *arg) {
    tpool_return_owned(arg, count_free);
    pthread_exit(NULL);
}
static void count_any_failure(const tpool_error *error, void *context) {
    EXPECT(error && error->message);
    atomic_fetch_add((atomic_int *)context, 1);
}
static void scenario_failures_that_nobody_asks_for(void) {
    atomic_int failures = 0, freed = 0;
    gate g = GATE_CLOSED;
    item late = { 0 };
    int fail = 0, own = 0;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1, .on_failure = count_any_failure, .context = &failures });
    if (!pool) return;
    tpool_task named = { .fn = return_then_raise, .arg = &freed, .name = "named" };
    fail += OKAY(tpool_submit(pool, raise_now, NULL, NULL), REFUSED);
    own += OKAY(tpool_submit(pool, return_owned, &freed, NULL), REFUSED);
    own += OKAY(tpool_submit_task(pool, &named, NULL), REFUSED);
    fail += own == 2;
    if (hold(pool, &g)) {
        fail += submit_item(pool, &late, 300, (tpool_task){ .expires_ns = TPOOL_US(50) }, NULL, REFUSED);
        int64_t end = tpool_now() + TPOOL_US(200);
        while (tpool_now() < end) sched_yield();
    }
    gate_open(&g);
    bool drained = OKAY(tpool_drain(pool, PATIENCE), BIT(TPOOL_NO_THREAD));
    named.fn = return_then_end_thread;
    bool ends = OKAY(tpool_submit_task(pool, &named, NULL), REFUSED);
    own += ends;
    fail += ends;
    pool_end(pool);
    EXPECT(!drained || atomic_load(&failures) >= fail); /* more: out of memory while returning is a failure too */
    EXPECT(atomic_load(&freed) == own);
    CHECK_ITEMS(&late, 1, SOME_RAN);
}

typedef struct buried {
    tpool *pool;
    atomic_int freed;
    int owned;
    tpool_future *inner;
} buried;
static void *end_thread_owning(void *arg) {
    buried *b = arg;
    b->owned++;
    tpool_return_owned(&b->freed, count_free);
    pthread_exit(NULL);
}
static void *wait_for_ender(void *arg) {
    buried *b = arg;
    b->owned++;
    tpool_return_owned(&b->freed, count_free);
    if (OKAY(tpool_submit(b->pool, end_thread_owning, b, &b->inner), REFUSED))
        (void)tpool_future_result(b->inner, TPOOL_FOREVER, NULL); /* in place, so that both end */
    return NULL;
}
static void scenario_a_thread_ends_beneath_two_tasks(void) {
    buried b = { .owned = 0 };
    tpool_future *outer = NULL;
    b.pool = pool_with((tpool_config){ .max_workers = 1 });
    if (!b.pool) return;
    if (OKAY(tpool_submit(b.pool, wait_for_ender, &b, &outer), REFUSED)) {
        tpool_status status = tpool_future_result(outer, PATIENCE, NULL);
        EXPECT(status == TPOOL_BROKEN || atomic_load(&fault->injected) > 0);
        if (b.inner) EXPECT(tpool_future_result(b.inner, PATIENCE, NULL) == TPOOL_BROKEN);
    }
    pool_end(b.pool);
    tpool_future_release(b.inner);
    tpool_future_release(outer);
    EXPECT(atomic_load(&b.freed) == b.owned);
}

static void *run_until_stopped(void *arg) {
    while (!tpool_stop_requested() && PATIENCE > 0) sched_yield();
    return item_run(arg);
}
static void scenario_limits_stops_and_cancels(void) {
    item limited = { 0 }, stopped = { 0 }, cancelled = { 0 };
    tpool_future *limit = NULL, *stop = NULL, *cancel = NULL;
    tpool *pool = pool_with((tpool_config){ .max_workers = 1 });
    if (!pool) return;
    tpool_task task = { .fn = run_until_stopped, .arg = &limited, .arg_free = item_free, .run_limit_ns = TPOOL_US(10) };
    limited.taken = OKAY(tpool_submit_task(pool, &task, &limit), REFUSED);
    task = (tpool_task){ .fn = run_until_stopped, .arg = &stopped, .arg_free = item_free };
    stopped.taken = OKAY(tpool_submit_task(pool, &task, &stop), REFUSED);
    submit_item(pool, &cancelled, 30, (tpool_task){ .priority = -1 }, &cancel, REFUSED);
    if (cancel) {
        tpool_future *again = tpool_future_retain(cancel);
        if (tpool_future_cancel(cancel)) EXPECT(tpool_future_cancelled(again));
        tpool_future_release(again);
    }
    tpool_future_request_stop(stop);
    if (limit) ENDS_WELL(limit, &limited, false);
    if (stop) ENDS_WELL(stop, &stopped, false);
    pool_end(pool);
    tpool_future_release(limit);
    tpool_future_release(stop);
    tpool_future_release(cancel);
    CHECK_ITEMS(&limited, 1, ALL_RAN);
    CHECK_ITEMS(&stopped, 1, ALL_RAN);
    CHECK_ITEMS(&cancelled, 1, SOME_RAN);
}

/* ---- Scenarios: sets of futures in tasks, maps and loops that fail ---- */

static void *yield_all(void *arg) {
    parent *p = arg;
    tpool_completions *completions = NULL;
    p->taken = submit_some(p->pool, p->items, 40, p->futures);
    if (!OKAY(tpool_as_completed(p->futures, (size_t)p->taken, &completions), NO_MEMORY)) return p;
    tpool_future *bare = NULL;
    size_t left = (size_t)p->taken;
    if (OKAY(tpool_future_create(&bare), NO_MEMORY)) {
        left += OKAY(tpool_completions_add(completions, bare), NO_MEMORY);
        EXPECT(tpool_future_set_result(bare, NULL) == TPOOL_OK);
        tpool_future_release(bare);
    }
    for (; left > 0; left--) {
        tpool_future *next = NULL;
        if (!OKAY(tpool_completions_next(completions, PATIENCE, &next), BIT(TPOOL_NO_THREAD))) break;
    }
    tpool_completions_destroy(completions);
    return p;
}
static void scenario_completions_in_a_task(void) {
    static parent p;
    memset(&p, 0, sizeof p);
    tpool_future *future = NULL;
    p.pool = pool_with((tpool_config){ .max_workers = 1 });
    if (!p.pool) return;
    if (OKAY(tpool_submit(p.pool, yield_all, &p, &future), REFUSED)) ENDS_WELL(future, &p, false);
    pool_end(p.pool);
    for (int i = 0; i < p.taken; i++) tpool_future_release(p.futures[i]);
    tpool_future_release(future);
    CHECK_ITEMS(p.items, 40, ALL_RAN);
}

static void *raise_or_own(void *arg, void *context) {
    int number = *(int *)arg;
    if (number % 3 == 0) return tpool_raise(7, "number %d", number);
    if (number % 3 == 1) return tpool_return_owned(context, count_free);
    return context;
}
static void *map_in_task(void *arg) {
    parent *p = arg;
    enum { NUMBERS = 20 };
    int numbers[NUMBERS];
    atomic_int freed = 0;
    for (int i = 0; i < NUMBERS; i++) numbers[i] = i;
    tpool_map_spec spec = { .fn = raise_or_own,
                            .context = &freed,
                            .items = numbers,
                            .count = NUMBERS,
                            .stride = sizeof *numbers,
                            .chunk_size = 3,
                            .buffer_size = 7 };
    tpool_map_iter *iter = NULL;
    if (!OKAY(tpool_map(p->pool, &spec, &iter), REFUSED)) return p;
    for (int i = 0; i < NUMBERS;) {
        void *result = NULL;
        const tpool_error *error = NULL;
        tpool_status status = tpool_map_next(iter, TPOOL_FOREVER, &result);
        if (status == TPOOL_FAILED)
            EXPECT(tpool_map_error(iter, &error) == TPOOL_OK && error && (error->code == 7 || error->code == ENOMEM));
        else if (status != TPOOL_OK && !OKAY(status, REFUSED)) break;
        i += status == TPOOL_OK || status == TPOOL_FAILED;
        if (status == TPOOL_NO_MEMORY && fault->is == ALLOCATIONS_FROM) break;
    }
    tpool_map_close(iter);
    return p;
}
static void scenario_a_map_in_a_task_whose_items_fail(void) {
    static parent p;
    memset(&p, 0, sizeof p);
    tpool_future *future = NULL;
    p.pool = pool_with((tpool_config){ .max_workers = 2 });
    if (!p.pool) return;
    if (OKAY(tpool_submit(p.pool, map_in_task, &p, &future), REFUSED)) ENDS_WELL(future, &p, false);
    pool_end(p.pool);
    tpool_future_release(future);
}

static void raise_in_part(size_t begin, size_t end, void *context) {
    if (begin <= 100 && 100 < end) tpool_raise(7, "at %d", 100);
    atomic_fetch_add((atomic_int *)context, (int)(end - begin));
}
static void scenario_a_loop_that_fails(void) {
    atomic_int counts = 0;
    tpool *pool = pool_with((tpool_config){ .max_workers = 2 });
    if (!pool) return;
    for (int grain = 0; grain < 10; grain += 5) {
        tpool_status status = tpool_for(pool, 0, RANGE, (size_t)grain, raise_in_part, &counts);
        if (status != TPOOL_FAILED) EXPECT(!OKAY(status, REFUSED)); /* it is never taken for a success */
    }
    OKAY(tpool_drain(pool, PATIENCE), BIT(TPOOL_NO_THREAD));
    pool_end(pool);
    EXPECT(atomic_load(&counts) <= 2 * RANGE);
}

/* A helper of a loop in a loop ends its thread, while the task's own thread is in both. */
typedef struct loops {
    tpool *pool;
    pthread_t own;
    atomic_bool helped;
} loops;
static void end_if_helper(size_t begin, size_t end, void *context) {
    loops *l = context;
    (void)begin, (void)end;
    if (!pthread_equal(pthread_self(), l->own)) {
        atomic_store(&l->helped, true);
        pthread_exit(NULL);
    }
    while (!atomic_load(&l->helped) && atomic_load(&fault->injected) == 0) sched_yield();
}
static void loop_within(size_t begin, size_t end, void *context) {
    loops *l = context;
    (void)begin, (void)end;
    tpool_status status = tpool_for(l->pool, 0, 2, 1, end_if_helper, l);
    EXPECT(status == TPOOL_BROKEN || atomic_load(&fault->injected) > 0);
}
static void *loop_in_loop(void *arg) {
    loops *l = arg;
    l->own = pthread_self();
    tpool_status status = tpool_for(l->pool, 0, 1, 1, loop_within, l);
    EXPECT(status == TPOOL_BROKEN || atomic_load(&fault->injected) > 0);
    return arg;
}
static void scenario_a_helper_of_a_loop_in_a_loop_ends_its_thread(void) {
    loops l = { .pool = NULL };
    tpool_future *future = NULL;
    l.pool = pool_with((tpool_config){ .max_workers = 2 });
    if (!l.pool) return;
    tpool_task task = { .fn = loop_in_loop, .arg = &l, .name = "loops" };
    if (OKAY(tpool_submit_task(l.pool, &task, &future), REFUSED)) {
        tpool_status status = tpool_future_result(future, PATIENCE, NULL);
        EXPECT(status == TPOOL_BROKEN || atomic_load(&fault->injected) > 0);
    }
    pool_end(l.pool);
    tpool_future_release(future);
}

/* ---- Scenarios: the shared pools, a forked child, threads without exit hooks ---- */

static void *use_low_level(void *arg) {
    item *i = arg;
    tpool_future *future = NULL;
    tpool *low = tpool_low_level();
    if (!low) {
        EXPECT(atomic_load(&fault->injected) > 0);
        return i;
    }
    i->taken = OKAY(tpool_submit(low, item_run, i, &future), REFUSED);
    if (i->taken) EXPECT(tpool_future_result(future, PATIENCE, NULL) == TPOOL_OK);
    tpool_future_release(future);
    return i;
}
static void scenario_the_shared_pools(void) {
    item leaf = { 0 }, direct = { 0 };
    tpool_future *future = NULL;
    OKAY(tpool_dual_configure(&(tpool_config){ .max_workers = 1 },
                              &(tpool_config){ .max_workers = 2, .name = "leaves" }),
         0);
    tpool *high = tpool_high_level();
    if (!high) EXPECT(atomic_load(&fault->injected) > 0);
    if (high && OKAY(tpool_submit(high, use_low_level, &leaf, &future), REFUSED)) ENDS_WELL(future, &leaf, false);
    tpool_future_release(future);
    tpool_task task = { .fn = item_run, .arg = &direct };
    direct.taken = OKAY(tpool_run_with_timeout(NULL, &task, PATIENCE, NULL), REFUSED);
    tpool_status status = tpool_dual_shutdown(TPOOL_WAIT);
    if (!OKAY(status, NO_MEMORY)) { /* nothing has been shut down, and it can be repeated */
        atomic_store(&fault->is, NO_FAULT);
        OKAY(tpool_dual_shutdown(TPOOL_WAIT), 0);
    }
    EXPECT(!high || tpool_submit(high, nothing, NULL, NULL) == TPOOL_SHUTDOWN);
    for (int i = 0; i < 2; i++) { /* as in a new process */
        tpool *pool = tpool__dual.pool[i];
        if (pool) check_stats(__LINE__, pool);
        if (pool) pool->shared = false;
        OKAY(tpool_destroy(pool), 0);
        tpool__dual.pool[i] = NULL;
        tpool__dual.configured[i] = false;
    }
    tpool__dual.shut = false;
    EXPECT(atomic_load(&leaf.runs) == leaf.taken && atomic_load(&direct.runs) == direct.taken);
}

#if !SLOW_TOOL /* AddressSanitizer's allocator may be locked for ever in such a child; ThreadSanitizer: see test_fork.c */
#define FORKS 1
typedef struct child_report {
    long injected, kept;
    char problem[sizeof problem / 2];
} child_report;
static void scenario_pools_of_a_forked_child(void) {
    child_report *told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    tpool *inherited = pool_with((tpool_config){ .max_workers = 1 });
    bool taken = inherited && OKAY(tpool_submit(inherited, nothing, NULL, NULL), REFUSED);
    long kept_before = atomic_load(&live_blocks);
    (void)taken;
    pid_t child = inherited ? fork() : -1;
    if (child == 0) {
        signal(SIGALRM, SIG_DFL);
        alarm(LIMIT_SECONDS);
        if (inherited) EXPECT(tpool_submit(inherited, nothing, NULL, NULL) == TPOOL_BROKEN);
        scenario_copies_names_and_expiry();
        told->injected = atomic_load(&fault->injected);
        told->kept = atomic_load(&live_blocks) - kept_before;
        memcpy(told->problem, problem, sizeof told->problem - 1);
        _exit(0);
    }
    int ended = 0;
    if (child > 0) EXPECT(waitpid(child, &ended, 0) == child && WIFEXITED(ended) && WEXITSTATUS(ended) == 0);
    if (told->injected > atomic_load(&fault->injected)) atomic_store(&fault->injected, told->injected);
    if (told->problem[0]) report(__LINE__, "in the child", told->problem);
    /* the cache of the thread that forks may hold blocks of the parent's, so that the child gives back less or more */
    EXPECT(told->kept <= 0);
    munmap(told, sizeof *told);
    if (inherited) pool_end(inherited);
}
#endif

/* Without its exit hook a thread could not give back what it holds, nor a worker be missed: the call that needs one gives
   TPOOL_NO_MEMORY, and a worker that cannot have one leaves, as if its thread had been refused. If no other is there, what
   waits ends as TPOOL_BROKEN, since its submit has returned. */
static void scenario_threads_without_exit_hooks(void) {
    enum { TASKS = 12, CAPACITY = 2 };
    item items[TASKS] = { 0 };
    tpool_future *futures[TASKS] = { NULL }, *bare = NULL, *ender = NULL;
    tpool *pool =
        pool_with((tpool_config){ .max_workers = 2, .queue_capacity = CAPACITY, .on_full = TPOOL_FULL_CALLER_RUNS });
    if (!pool) return;
    /* that a task ends its thread is seen by that hook alone */
    if (OKAY(tpool_warm_up(pool, 1), REFUSED) && OKAY(tpool_submit(pool, end_thread, NULL, &ender), REFUSED))
        EXPECT(tpool_future_result(ender, PATIENCE, NULL) == TPOOL_BROKEN);
    tpool_future_release(ender);
    for (int i = 0; i < TASKS; i++) {
        if (i % 3 == 2) items[i].taken = OKAY(tpool_submit(pool, item_run, &items[i], NULL), REFUSED);
        else submit_item(pool, &items[i], i % 3 ? 40 : 0, (tpool_task){ 0 }, &futures[i], REFUSED);
    }
    if (OKAY(tpool_future_create(&bare), NO_MEMORY)) EXPECT(tpool_future_set_result(bare, NULL) == TPOOL_OK);
    tpool_future_release(bare);
    for (int i = 0; i < TASKS; i++) {
        /* a worker went, or none could be had in place of the one whose thread was ended */
        if (futures[i]) OKAY(tpool_future_result(futures[i], PATIENCE, NULL), BIT(TPOOL_BROKEN));
    }
    pool_end(pool);
    for (int i = 0; i < TASKS; i++) {
        tpool_future_release(futures[i]);
        EXPECT(i % 3 == 2 || atomic_load(&items[i].frees) == items[i].taken);
        EXPECT(atomic_load(&items[i].runs) <= items[i].taken);
    }
}

/* ---- Scenarios: pools of processes ---- */

static void *double_it(void *arg) { return (void *)(intptr_t)(2 * *(int *)arg); }
static void *return_it(void *arg) { return tpool_return(arg, tpool_arg_size()); }
static void *own_number(void *arg) {
    (void)arg;
    return (void *)(intptr_t)getpid();
}

static int descriptors_open(void) {
    int count = 0;
    for (int fd = 0; fd < 200; fd++) count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* The task's own end, or, if something was refused, BROKEN, or FAILED for want of memory. */
static bool ends_here(int line, tpool_future *future) {
    tpool_status status = tpool_future_result(future, PATIENCE, NULL);
    const tpool_error *error = NULL;
    if (status == TPOOL_OK) return true;
    if (tpool_future_error(future, 0, &error) != TPOOL_OK || !error || !error->message)
        report(line, "a failed task's error", "is not told");
    else if (status == TPOOL_FAILED && error->code != ENOMEM) report(line, "the task's error", error->message);
    if ((status != TPOOL_BROKEN && status != TPOOL_FAILED) || atomic_load(&fault->injected) == 0)
        report(line, "the task's end", tpool_status_name(status));
    return false;
}
#define ENDS_HERE(future) ends_here(__LINE__, future)

/* One that has died is there until somebody reaps it, which the first process of a container may put off. */
static bool lives(pid_t pid) {
    bool there = kill(pid, 0) == 0;
#if defined(__linux__)
    char path[64], state = 0;
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    FILE *file = fopen(path, "r");
    if (file && fscanf(file, "%*d (%*[^)]) %c", &state) == 1 && state == 'Z') there = false;
    if (file) fclose(file);
#endif
    return there;
}

/* Once the fault is over: it has workers, and they are other processes. Unless the fault has left it broken, as when a
   worker never came so far as its first task. */
static void process_pool_end(int line, tpool *pool) {
    int mode = atomic_exchange(&fault->is, NO_FAULT);
    tpool_future *future = NULL;
    void *number = NULL;
    tpool_status status = problem[0] ? TPOOL_BROKEN : tpool_submit(pool, own_number, NULL, &future);
    if (status == TPOOL_OK) status = tpool_future_result(future, PATIENCE, &number);
    bool served = lives(tpool__server_of(pool)->pid); /* else it is gone, and so is its spare, if it could have one */
    if (status == TPOOL_OK ? number == NULL || (intptr_t)number == getpid()
                           : status != TPOOL_BROKEN && !(status == TPOOL_NO_THREAD && !served))
        report(line, "a task once the fault is over", tpool_status_name(status));
    if (status != TPOOL_OK && atomic_load(&fault->injected) == 0)
        report(line, "a pool without a fault", tpool_status_name(status));
    tpool_future_release(future);
    if (tpool_drain(pool, PATIENCE) == TPOOL_OK) check_stats(line, pool);
    else report(line, "the drain", "fails though the fault is over");
    atomic_store(&fault->is, mode);
    status = tpool_destroy(pool);
    if (status != TPOOL_OK) report(line, "the destroy", tpool_status_name(status));
}
/* After it no child is left, and no descriptor. */
static void play_with_processes(void (*scenario)(tpool *pool), tpool_config config) {
    int before = descriptors_open();
    int64_t began = tpool_now();
    config.kind = TPOOL_PROCESSES;
    tpool *pool = NULL;
    if (OKAY(tpool_create(&pool, &config), REFUSED)) {
        scenario(pool);
        process_pool_end(__LINE__, pool);
    } else {
        EXPECT(!pool);
    }
    /* Nobody has stopped the server for good: what it was to be told, or to tell, was lost. */
    if (patience_ms == 10000 && tpool_now() - began >= TPOOL_MS(patience_ms))
        report(__LINE__, "the server", "was silent");
    if (descriptors_open() != before)
        report(__LINE__, "descriptors", descriptors_open() > before ? "left open" : "closed");
    if (atomic_load(&fault->injected) > 0) /* a server that could not even say its number, where orphans are adopted */
        while (waitpid(-1, NULL, 0) > 0) { }
    EXPECT(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
}

static void submit_to_processes(tpool *pool) {
    enum { TASKS = 4, LARGE = (1 << 20) + 1 };
    tpool_future *futures[TASKS] = { NULL }, *large = NULL;
    void *result = NULL;
    for (int i = 0; i < TASKS; i++) {
        tpool_task task = { .fn = i % 2 ? double_it : return_it,
                            .arg = &i,
                            .arg_size = sizeof i,
                            .run_limit_ns = i < 2 ? TPOOL_SEC(1000) : 0 };
        bool taken = OKAY(tpool_submit_task(pool, &task, &futures[i]), REFUSED);
        EXPECT(taken == (futures[i] != NULL));
    }
    for (int i = 0; i < TASKS; i++) {
        if (!futures[i] || !ENDS_HERE(futures[i])) continue;
        EXPECT(tpool_future_result(futures[i], 0, &result) == TPOOL_OK);
        EXPECT(i % 2 ? (intptr_t)result == 2 * i
                     : result && *(int *)result == i && tpool_future_result_size(futures[i]) == sizeof i);
    }
    char *bytes = calloc(1, LARGE); /* both ways in memory of its own */
    bytes[LARGE - 1] = 'z';
    if (OKAY(tpool_submit_copy(pool, return_it, bytes, LARGE, &large), REFUSED) && ENDS_HERE(large)) {
        EXPECT(tpool_future_result(large, 0, &result) == TPOOL_OK && tpool_future_result_size(large) == LARGE);
        EXPECT(((char *)result)[LARGE - 1] == 'z');
    }
    free(bytes);
    tpool_future_release(large);
    for (int i = 0; i < TASKS; i++) tpool_future_release(futures[i]);
}
static void scenario_tasks_in_processes(void) {
    int keep[40]; /* more than there is room for without memory */
    for (int i = 0; i < 40; i++) keep[i] = STDERR_FILENO;
    play_with_processes(submit_to_processes,
                        (tpool_config){ .max_workers = 1, .descriptors = keep, .descriptor_count = 40 });
}

static void *square_here(void *at, void *context) {
    int square = *(int *)at * *(int *)at + *(int *)context;
    return tpool_return(&square, sizeof square);
}
static void map_over_processes(tpool *pool) {
    enum { NUMBERS = 12 };
    int numbers[NUMBERS], one = 1;
    for (int i = 0; i < NUMBERS; i++) numbers[i] = i;
    tpool_map_spec spec = { .fn = square_here,
                            .context = &one,
                            .context_size = sizeof one,
                            .items = numbers,
                            .count = NUMBERS,
                            .stride = sizeof *numbers,
                            .item_size = sizeof *numbers,
                            .chunk_size = 5 };
    tpool_map_iter *iter = NULL;
    if (!OKAY(tpool_map(pool, &spec, &iter), REFUSED)) return;
    for (int i = 0, refusals = 0; i < NUMBERS && refusals < 3;) {
        void *result = NULL;
        tpool_status status = tpool_map_next(iter, PATIENCE, &result);
        if (status == TPOOL_OK) EXPECT(result && *(int *)result == i * i + 1);
        else OKAY(status, REFUSED | BIT(TPOOL_BROKEN) | BIT(TPOOL_FAILED));
        if (REFUSED & BIT(status)) refusals++;
        else i++;
    }
    tpool_map_close(iter);
}
static void scenario_a_map_over_processes(void) {
    play_with_processes(map_over_processes, (tpool_config){ .max_workers = 1 });
}
#if defined(__linux__)
/* In a program that adopts orphans, as the first process of a container does, what the pool leaves behind is its own to
   reap. */
static void scenario_processes_of_a_program_that_adopts(void) {
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    play_with_processes(map_over_processes, (tpool_config){ .max_workers = 1 });
    prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
}
#endif

/* A worker that dies is replaced; so is one that is killed, and its server. */
static void *abort_here(void *arg) {
    (void)arg;
    abort();
}
static void lose_processes(tpool *pool) {
    tpool_future *lost = NULL, *after = NULL;
    if (OKAY(tpool_submit(pool, abort_here, NULL, &lost), REFUSED)) {
        tpool_status status = tpool_future_result(lost, PATIENCE, NULL);
        EXPECT(status == TPOOL_BROKEN || (status == TPOOL_FAILED && atomic_load(&fault->injected) > 0));
    }
    if (OKAY(tpool_submit(pool, own_number, NULL, &after), REFUSED)) ENDS_HERE(after);
    OKAY(tpool_kill_workers(pool), REFUSED);
    tpool_future_release(lost);
    tpool_future_release(after);
}
static void scenario_processes_that_die(void) {
    play_with_processes(lose_processes, (tpool_config){ .max_workers = 1, .stack_size = 256 * 1024 });
}

/* A server that has stopped answers nobody, until it is killed for it and its spare takes its place. */
static void lose_the_server(tpool *pool) {
    tpool_future *first = NULL, *after = NULL;
    if (OKAY(tpool_submit(pool, own_number, NULL, &first), REFUSED)) (void)tpool_future_result(first, PATIENCE, NULL);
    patience_ms = SLOW_TOOL ? 200 : 20;
    EXPECT(kill(tpool__server_of(pool)->pid, SIGSTOP) == 0);
    OKAY(tpool_kill_workers(pool), REFUSED);
    if (OKAY(tpool_submit(pool, own_number, NULL, &after), REFUSED)) (void)tpool_future_result(after, PATIENCE, NULL);
    patience_ms = 300;
    tpool_future_release(first);
    tpool_future_release(after);
}
static void scenario_a_server_that_is_stopped(void) {
    play_with_processes(lose_the_server, (tpool_config){ .max_workers = 1 });
    patience_ms = 10000;
}

/* ---- Each scenario with each fault in each place ---- */

/* STARTS_NO_THREAD: there is none to fail. WITHOUT_HOOKS: it expects what happens when threads cannot have their exit
   hooks. WITH_PROCESSES: it has a pool of them. SLOW: it waits for time to pass. */
enum { STARTS_NO_THREAD = 1, WITHOUT_HOOKS = 2, WITH_PROCESSES = 4, SLOW = 8 };

/* A call without a limit may hang for all its caller's patience, and then nothing can be cleaned up. */
static const char *volatile playing;
static void tell_hang(int signal_number) {
    static const char told[] = "FAILED: this scenario hangs: ";
    (void)signal_number;
    if (write(STDERR_FILENO, told, sizeof told - 1) < 0 || write(STDERR_FILENO, playing, strlen(playing)) < 0 ||
        write(STDERR_FILENO, "\n", 1) < 0)
        _exit(2);
    _exit(1);
}

static bool coarse = SLOW_TOOL, all;
static const char *only_scenario;

/* One run, with this fault. False: it did not come to it. */
static bool play(void (*scenario)(void), const char *name, int mode, long at) {
    tpool__self()->armed = false; /* as in a thread that comes to the library for the first time */
    fault->at = at;
    atomic_store(&fault->seen, 0);
    atomic_store(&fault->injected, 0);
    problem[0] = 0;
    scenario_end = tpool_now() + LIMIT / 2;
    playing = name;
    signal(SIGALRM, tell_hang);
    alarm(3 * LIMIT_SECONDS / 2);
    atomic_store(&fault->is, mode);
    scenario();
    atomic_store(&fault->is, NO_FAULT);
    alarm(0);
    /* A wait may have missed its wakeup and found the end only when its time was up. */
    if (PATIENCE == 0) report(__LINE__, "a wait", "lasted as long as it could");
    long kept = atomic_exchange(&live_blocks, 0);
    atomic_store(&live_bytes, 0);
    if (problem[0]) fail_msg("%s (%s %ld refused): %s", name, fault_names[mode], at, problem);
    if (kept) fail_msg("%s (%s %ld refused): %ld allocations kept", name, fault_names[mode], at, kept);
    return atomic_load(&fault->injected) > 0;
}

#if FAULT_PLACES
extern const fault_place *const __start_fault_places[], *const __stop_fault_places[];
/* How many positions there are varies, and so does what is there: where nothing has failed yet that this scenario passes,
   it fails once more, there. */
static void explore_places(void (*scenario)(void), const char *name, int flags, const long *passed) {
    for (const fault_place *const *at = __start_fault_places; at < __stop_fault_places; at++) {
        int number = (*at)->number, once = atomic_load(&fault->places[number].once);
        if (atomic_load(&fault->places[number].failed) ||
            atomic_load(&fault->places[number].passed) == passed[number] || once == FAULT_MODES ||
            (once == ONE_KEY && !(flags & WITHOUT_HOOKS)) || (once == ONE_SLEEP && flags & WITH_PROCESSES))
            continue;
        fault->place = number;
        (void)play(scenario, name, ONE_PLACE, (*at)->line);
    }
}
#endif
static void explore(void (*scenario)(void), const char *name, int flags) {
    long places[FAULT_MODES] = { 0 }, passed[MOST_PLACES];
    if (only_scenario && strcmp(only_scenario, name) != 0) skip();
    for (int i = 0; i < MOST_PLACES; i++) passed[i] = atomic_load(&fault->places[i].passed);
    for (int mode = NO_FAULT; mode < ONE_PLACE; mode++) {
        if ((mode == ONE_KEY || mode == KEYS_FROM) && !(flags & WITHOUT_HOOKS)) continue;
        bool about_processes = mode == ONE_CALL || mode == CALLS_FROM || mode == ONE_INTERRUPT;
        if (about_processes && !(flags & WITH_PROCESSES)) continue;
        if ((mode == ONE_SLEEP || mode == ALL_SLEEPS) && flags & WITH_PROCESSES) continue;
        /* Here what is refused again and again is tried again and again, after pauses. */
        bool again = mode == ALLOCATIONS_FROM || mode == THREADS_FROM || mode == QUESTIONS_FROM || mode == CALLS_FROM;
        bool some = coarse || (flags & WITH_PROCESSES && (again || flags & SLOW) && !all);
        long share = !(flags & WITH_PROCESSES) ? 12 : coarse || flags & SLOW ? 2 : 6;
        if (UNDER_TSAN) share = flags & WITH_PROCESSES ? 1 : 3; /* each play takes it seconds */
        /* Any sleep may end early, so some will do; and if all do, nobody sleeps, which takes its time. */
        long most = mode == ALL_SLEEPS ? 1 : mode == ONE_SLEEP ? 6 : 100000;
        /* Every place; but with slow tools, after the first ones, only some of them. */
        int misses = 0; /* how many positions there are may vary by a few */
        for (long at = 1; at <= most && misses < 3; at += some ? 1 + at / share : 1) {
            misses = play(scenario, name, mode, at) ? 0 : misses + 1;
            if (mode == NO_FAULT) break;
            if (misses > 0) continue;
            if (at == 100000) fail_msg("%s: no end of faults", name);
            places[mode] = at;
        }
    }
#if FAULT_PLACES
    if (!coarse) explore_places(scenario, name, flags, passed);
#endif
    print_message(
        "%s: of each alone, and of all from there on: %ld and %ld allocations, %ld and %ld thread starts, %ld and "
        "%ld questions to the system; %ld sleeps ended early\n",
        name, places[ONE_ALLOCATION], places[ALLOCATIONS_FROM], places[ONE_THREAD], places[THREADS_FROM],
        places[ONE_QUESTION], places[QUESTIONS_FROM], places[ONE_SLEEP]);
    if (flags & WITH_PROCESSES)
        print_message("    and with processes %ld and %ld calls, %ld interrupted\n", places[ONE_CALL],
                      places[CALLS_FROM], places[ONE_INTERRUPT]);
    if (flags & WITH_PROCESSES) assert_true(places[ONE_CALL] > (UNDER_TSAN ? 10 : 20) && places[CALLS_FROM] > 0);
    if (flags & WITH_PROCESSES) assert_true(places[ONE_INTERRUPT] > (UNDER_TSAN ? 10 : 20));
    assert_true(places[ONE_ALLOCATION] > 0 && places[ALLOCATIONS_FROM] > 0);
    if (!(flags & STARTS_NO_THREAD)) assert_true(places[ONE_THREAD] > 0 && places[THREADS_FROM] > 0);
    if (flags & WITHOUT_HOOKS) assert_true(places[ONE_KEY] > 0 && places[KEYS_FROM] > 0);
}

#define SCENARIO(name, flags) \
    static void refusals_in_##name(void **unused) { \
        (void)unused; \
        explore(scenario_##name, #name, flags); \
    }
SCENARIO(submit_and_result, 0)
SCENARIO(many_without_futures, 0)
SCENARIO(copies_names_and_expiry, 0)
SCENARIO(submit_many, 0)
SCENARIO(run_with_timeout, 0)
SCENARIO(priorities, 0)
SCENARIO(full_queue_that_blocks, 0)
SCENARIO(full_queue_that_rejects, 0)
SCENARIO(full_queue_whose_caller_runs, 0)
SCENARIO(full_queue_that_drops, 0)
SCENARIO(raise, 0)
SCENARIO(return, 0)
SCENARIO(callbacks, 0)
SCENARIO(futures_of_the_program, STARTS_NO_THREAD)
SCENARIO(wait, 0)
SCENARIO(as_completed, 0)
SCENARIO(submits_that_add_to_completions, 0)
SCENARIO(completions_that_grow, 0)
SCENARIO(map_over_an_array, 0)
SCENARIO(map_over_a_source, 0)
SCENARIO(loops, 0)
SCENARIO(fork_and_join, 0)
SCENARIO(waits_in_place, 0)
SCENARIO(waits_with_spare_workers, 0)
SCENARIO(waits_for_the_first, 0)
SCENARIO(a_wait_for_something_outside, 0)
SCENARIO(warm_up_resize_and_pause, 0)
SCENARIO(workers_are_replaced, 0)
SCENARIO(a_task_ends_its_thread, 0)
SCENARIO(shutdown_cancels, 0)
SCENARIO(a_broken_initializer, 0)
SCENARIO(futures_released_after_their_pool, 0)
SCENARIO(managed_pools, 0)
SCENARIO(a_managed_scope, 0)
SCENARIO(resources, 0)
SCENARIO(channels, 0)
SCENARIO(measuring, 0)
SCENARIO(a_pool_with_all_defaults, 0)
SCENARIO(workers_with_stacks_hooks_and_idle_ends, 0)
SCENARIO(many_from_a_worker, 0)
SCENARIO(full_queue_of_plain_tasks, 0)
SCENARIO(a_blocked_submitter, 0)
SCENARIO(a_task_fills_its_own_queue, 0)
SCENARIO(failures_that_nobody_asks_for, 0)
SCENARIO(a_thread_ends_beneath_two_tasks, 0)
SCENARIO(limits_stops_and_cancels, 0)
SCENARIO(completions_in_a_task, 0)
SCENARIO(a_map_in_a_task_whose_items_fail, 0)
SCENARIO(a_loop_that_fails, 0)
SCENARIO(a_helper_of_a_loop_in_a_loop_ends_its_thread, 0)
SCENARIO(the_shared_pools, 0)
SCENARIO(threads_without_exit_hooks, WITHOUT_HOOKS)
SCENARIO(tasks_in_processes, WITH_PROCESSES)
SCENARIO(a_map_over_processes, WITH_PROCESSES)
SCENARIO(processes_that_die, WITH_PROCESSES)
SCENARIO(a_server_that_is_stopped, WITH_PROCESSES + SLOW)
#if defined(__linux__)
SCENARIO(processes_of_a_program_that_adopts, WITH_PROCESSES)
#endif
#ifdef FORKS
SCENARIO(pools_of_a_forked_child, 0)
#endif

/* The first use of the library in a process. Each step that succeeded is not done again. */
static void what_the_process_needs_once_is_tried_again(void **unused) {
    (void)unused;
    static const long from[] = { 1, 2,
                                 2 }; /* the first step; having done that, the second; having done that, the third */
    tpool *pool = NULL;
    if (only_scenario) skip();
    for (size_t i = 0; i < sizeof from / sizeof *from; i++) {
        fault->at = from[i];
        atomic_store(&fault->seen, 0);
        atomic_store(&fault->is, SETUP_FROM);
        for (int again = 0; again < 2; again++) {
            tpool_future *future = (tpool_future *)&pool;
            tpool_task task = { .fn = nothing };
            pool = (tpool *)&future;
            assert_status(TPOOL_NO_MEMORY, tpool_create(&pool, NULL));
            assert_null(pool);
            assert_status(TPOOL_NO_MEMORY, tpool_future_create(&future));
            assert_null(future);
            future = (tpool_future *)&pool;
            assert_status(TPOOL_NO_MEMORY, tpool_run_with_timeout(NULL, &task, TPOOL_FOREVER, &future));
            assert_null(future);
            assert_null(tpool_high_level());
            assert_null(tpool_low_level());
            assert_null(tpool_default());
            assert_status(TPOOL_NO_MEMORY, tpool_dual_configure(NULL, NULL));
            assert_status(TPOOL_NO_MEMORY, tpool_dual_shutdown(TPOOL_WAIT));
        }
        atomic_store(&fault->is, NO_FAULT);
    }
    scenario_end = tpool_now() + TPOOL_SEC(20);
    assert_status(TPOOL_OK, tpool_create(&pool, NULL));
    check_works(__LINE__, pool);
    assert_string_equal("", problem);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(0, atomic_exchange(&live_blocks, 0));
}

/* The next worker cannot have its exit hook. Others find what it was to do, or it ends, or a wait for a spare worker. */
static void fail_next_hook(void) {
    fault->at = 1;
    atomic_store(&fault->seen, 0);
    atomic_store(&fault->injected, 0);
    atomic_store(&fault->is, ONE_KEY);
}
static void await_hook_failed(void) {
    while (!atomic_load(&fault->injected) && PATIENCE > 0) sched_yield();
    atomic_store(&fault->is, NO_FAULT);
    assert_int_equal(1, atomic_load(&fault->injected));
}
/* Until then it would be refused before there is anything to do, and another worker started for what comes. */
static tpool *hooked_pool;
static void await_a_task(void) {
    while (tpool__lane_count(&hooked_pool->inject) == 0 && PATIENCE > 0) sched_yield();
}
static void *submit_and_wait_with_limit(void *arg) {
    tpool_future *inner = NULL;
    if (tpool_submit(tpool_current(), nothing, NULL, &inner) != TPOOL_OK) return NULL;
    fail_next_hook(); /* the spare worker's */
    *(tpool_status *)arg = tpool_future_result(inner, PATIENCE, NULL);
    tpool_future_release(inner);
    return arg;
}
static void a_worker_without_its_exit_hook_is_like_one_whose_thread_was_refused(void **unused) {
    (void)unused;
    if (only_scenario) skip();
    tpool *pool = NULL;
    tpool_future *held = NULL, *waits = NULL;
    const tpool_error *error = NULL;
    tpool_status inner = TPOOL_OK;
    gate g = GATE_CLOSED;
    problem[0] = 0;
    scenario_end = tpool_now() + LIMIT / 2;
    assert_status(TPOOL_OK, tpool_create(&pool, &(tpool_config){ .max_workers = 2 }));
    assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &g, &held));
    while (gate_arrived(&g) == 0) sched_yield();
    fail_next_hook();
    assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, &waits));
    await_hook_failed();
    assert_int_equal(TPOOL_PENDING, tpool_future_state(waits)); /* for the worker that is busy */
    gate_open(&g);
    assert_status(TPOOL_OK, end_of(held));
    assert_status(TPOOL_OK, end_of(waits));
    assert_status(TPOOL_OK, tpool_destroy(pool));

    assert_status(TPOOL_OK, tpool_create(&pool, &(tpool_config){ .max_workers = 1 }));
    hooked_pool = pool;
    before_hook_fails = await_a_task;
    fail_next_hook();
    assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, &waits));
    assert_status(TPOOL_BROKEN, tpool_future_result(waits, PATIENCE, NULL));
    before_hook_fails = NULL;
    assert_status(TPOOL_OK, tpool_future_error(waits, 0, &error));
    assert_string_equal("No worker is left, and none could be started.", error->message);
    tpool_future_release(waits);
    await_hook_failed();
    check_works(__LINE__, pool);
    assert_string_equal("", problem);
    assert_status(TPOOL_OK, tpool_submit(pool, submit_and_wait_with_limit, &inner, &waits));
    assert_status(TPOOL_OK, tpool_future_result(waits, PATIENCE, NULL));
    tpool_future_release(waits);
    await_hook_failed();
    assert_status(TPOOL_NO_THREAD, inner);
    check_works(__LINE__, pool);
    assert_string_equal("", problem);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(0, atomic_exchange(&live_blocks, 0));
}

/* The thread that is refused ends what waits. Meanwhile the program, or what it calls, submits again. */
static atomic_int added_callback;
static void await_the_callback(void) {
    while (!atomic_load(&added_callback) && PATIENCE > 0) sched_yield();
}
static void submit_again(tpool_future *future, void *again) {
    (void)future;
    atomic_store(&fault->is, NO_FAULT);
    if (tpool_submit(hooked_pool, nothing, NULL, (tpool_future **)again) != TPOOL_OK) *(tpool_future **)again = NULL;
}
static void what_comes_after_the_last_worker_was_refused_has_a_worker(void **unused) {
    (void)unused;
    if (only_scenario) skip();
    scenario_end = tpool_now() + LIMIT / 2;
    for (int max_workers = 1; max_workers <= 2; max_workers++) {
        tpool *pool = NULL;
        tpool_future *stranded = NULL, *again = NULL;
        assert_status(TPOOL_OK, tpool_create(&pool, &(tpool_config){ .max_workers = max_workers }));
        hooked_pool = pool;
        atomic_store(&added_callback, 0);
        before_hook_fails = await_the_callback;
        fail_next_hook();
        assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, &stranded));
        assert_status(TPOOL_OK, tpool_future_add_done_callback(stranded, submit_again, &again));
        atomic_store(&added_callback, 1);
        assert_status(TPOOL_BROKEN, end_of(stranded));
        before_hook_fails = NULL;
        await_hook_failed();
        assert_status(TPOOL_OK, tpool_drain(pool, PATIENCE));
        assert_non_null(again);
        assert_status(TPOOL_OK, end_of(again));
        assert_status(TPOOL_OK, tpool_destroy(pool));
        assert_int_equal(0, atomic_exchange(&live_blocks, 0));
    }
}

/* ---- What only the allocator sees ---- */

static void *return_megabytes(void *arg) {
    size_t size = 1u << 20;
    unsigned char *bytes = calloc(1, size);
    void *last = NULL;
    long before = atomic_load(&live_bytes);
    for (int i = 0; i < 10; i++) last = tpool_return(bytes, size);
    *(long *)arg = atomic_load(&live_bytes) - before;
    free(bytes);
    return last;
}
static void *raise_after_megabyte(void *arg) {
    size_t size = 1u << 20;
    unsigned char *bytes = calloc(1, size);
    tpool_return(bytes, size);
    free(bytes);
    tpool_raise(1, "it was all for nothing");
    return arg;
}

static void an_earlier_payload_is_freed_at_once_and_all_are_on_failure(void **unused) {
    (void)unused;
    tpool *pool = NULL;
    tpool_future *future = NULL;
    long growth = 0, megabyte = 1L << 20;
    scenario_end = tpool_now() + TPOOL_SEC(20);
    assert_status(TPOOL_OK, tpool_create(&pool, &(tpool_config){ .max_workers = 1 }));
    assert_status(TPOOL_OK, tpool_submit(pool, return_megabytes, &growth, &future));
    assert_status(TPOOL_OK, tpool_future_result(future, PATIENCE, NULL));
    assert_true(growth >= megabyte && growth < 2 * megabyte);
    assert_true(atomic_load(&live_bytes) >= megabyte);
    tpool_future_release(future);
    assert_true(atomic_load(&live_bytes) < megabyte);
    assert_status(TPOOL_OK, tpool_submit(pool, raise_after_megabyte, NULL, &future));
    assert_status(TPOOL_FAILED, tpool_future_result(future, PATIENCE, NULL));
    assert_true(atomic_load(&live_bytes) < megabyte); /* though the future is held */
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(0, atomic_load(&live_blocks));
}

static void *count_allocations_of_jobs(void *arg) {
    long before = atomic_load(&allocations);
    void *result = fibonacci((void *)(intptr_t)15);
    *(long *)arg = atomic_load(&allocations) - before;
    return result;
}

static void fork_and_join_allocate_nothing(void **unused) {
    (void)unused;
    tpool *pool = NULL;
    tpool_future *future = NULL;
    void *result = NULL;
    long made = -1;
    scenario_end = tpool_now() + TPOOL_SEC(20);
    assert_status(TPOOL_OK, tpool_create(&pool, &(tpool_config){ .max_workers = 1 }));
    assert_status(TPOOL_OK, tpool_submit(pool, count_allocations_of_jobs, &made, &future));
    assert_status(TPOOL_OK, tpool_future_result(future, PATIENCE, &result));
    assert_int_equal(610, (intptr_t)result);
    assert_int_equal(0, made);
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *return_small(void *arg) { return tpool_return(&arg, sizeof arg); }

static void memory_does_not_grow_with_the_number_of_tasks(void **unused) {
    (void)unused;
    tpool *pool = NULL;
    assert_status(TPOOL_OK, tpool_create(&pool, &(tpool_config){ .max_workers = 2 }));
    int rounds = COUNT(20000);
    long early = 0;
    scenario_end = tpool_now() + TPOOL_SEC(60);
    for (int i = 0; i < rounds; i++) {
        tpool_future *future = NULL;
        assert_status(TPOOL_OK, tpool_submit_copy(pool, return_small, &i, sizeof i, &future));
        assert_status(TPOOL_OK, tpool_future_result(future, PATIENCE, NULL));
        tpool_future_release(future);
        if (i == rounds / 10) {
            early = atomic_load(&live_bytes);
            atomic_store(&peak_bytes, early);
        }
    }
    assert_true(atomic_load(&peak_bytes) <= early + 64 * 1024);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(0, atomic_load(&live_blocks));
}

#if FAULT_PLACES
static void each_place_in_the_header_has_failed(void **unused) {
    (void)unused;
    int places = 0, missed = 0;
    if (only_scenario || coarse) skip();
    for (const fault_place *const *at = __start_fault_places; at < __stop_fault_places; at++, places++) {
        if (atomic_load(&fault->places[(*at)->number].failed)) continue;
        missed++;
        print_message("line %d: %s never failed, in %ld passes\n", (*at)->line, (*at)->call,
                      atomic_load(&fault->places[(*at)->number].passed));
    }
    print_message("%d places in the header can fail\n", places);
    assert_true(places > 20);
    assert_int_equal(0, missed);
}
#endif

/* Groups of both versions, with quotas. */
static void write_file(const char *name, const char *text) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", fault_folder, name);
    FILE *file = fopen(path, "w");
    if (!file || fputs(text, file) < 0 || fclose(file) != 0) abort();
}
static const char *const quota_folders[] = { "", "/a", "/cpu", "/cpu/b" };
static const char *const quota_files[] = { "cgroup", "a/cpu.max", "cpu/b/cpu.cfs_quota_us", "cpu/b/cpu.cfs_period_us" };
static void write_quotas(void) {
    static const char *const texts[] = { "0::/a\n4:cpuset,cpu:/b\n", "250000 100000\n", "600000\n", "100000\n" };
    strcpy(fault_folder, "/tmp/white_faults_XXXXXX");
    if (!mkdtemp(fault_folder)) abort();
    snprintf(fault_groups, sizeof fault_groups, "%s/cgroup", fault_folder);
    for (int i = 1; i < 4; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s%s", fault_folder, quota_folders[i]);
        if (mkdir(path, 0700) != 0) abort();
    }
    for (int i = 0; i < 4; i++) write_file(quota_files[i], texts[i]);
}
static void remove_quotas(void) {
    char path[128];
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", fault_folder, quota_files[i]);
        remove(path);
    }
    for (int i = 3; i >= 0; i--) {
        snprintf(path, sizeof path, "%s%s", fault_folder, quota_folders[i]);
        remove(path);
    }
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--coarse") == 0) coarse = true;
        else if (strcmp(argv[i], "--all") == 0) all = true;
        else if (strcmp(argv[i], "--measure") == 0) measure = true;
        else only_scenario = argv[i];
    }
    fault = mmap(NULL, sizeof *fault, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (fault == MAP_FAILED || __COUNTER__ > MOST_PLACES) abort();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_process_needs_once_is_tried_again), /* the first: nothing has used the library */
        cmocka_unit_test(refusals_in_submit_and_result),
        cmocka_unit_test(refusals_in_many_without_futures),
        cmocka_unit_test(refusals_in_copies_names_and_expiry),
        cmocka_unit_test(refusals_in_submit_many),
        cmocka_unit_test(refusals_in_run_with_timeout),
        cmocka_unit_test(refusals_in_priorities),
        cmocka_unit_test(refusals_in_full_queue_that_blocks),
        cmocka_unit_test(refusals_in_full_queue_that_rejects),
        cmocka_unit_test(refusals_in_full_queue_whose_caller_runs),
        cmocka_unit_test(refusals_in_full_queue_that_drops),
        cmocka_unit_test(refusals_in_raise),
        cmocka_unit_test(refusals_in_return),
        cmocka_unit_test(refusals_in_callbacks),
        cmocka_unit_test(refusals_in_futures_of_the_program),
        cmocka_unit_test(refusals_in_wait),
        cmocka_unit_test(refusals_in_as_completed),
        cmocka_unit_test(refusals_in_submits_that_add_to_completions),
        cmocka_unit_test(refusals_in_completions_that_grow),
        cmocka_unit_test(refusals_in_map_over_an_array),
        cmocka_unit_test(refusals_in_map_over_a_source),
        cmocka_unit_test(refusals_in_loops),
        cmocka_unit_test(refusals_in_fork_and_join),
        cmocka_unit_test(refusals_in_waits_in_place),
        cmocka_unit_test(refusals_in_waits_with_spare_workers),
        cmocka_unit_test(refusals_in_waits_for_the_first),
        cmocka_unit_test(refusals_in_a_wait_for_something_outside),
        cmocka_unit_test(refusals_in_warm_up_resize_and_pause),
        cmocka_unit_test(refusals_in_workers_are_replaced),
        cmocka_unit_test(refusals_in_a_task_ends_its_thread),
        cmocka_unit_test(refusals_in_shutdown_cancels),
        cmocka_unit_test(refusals_in_a_broken_initializer),
        cmocka_unit_test(refusals_in_futures_released_after_their_pool),
        cmocka_unit_test(refusals_in_managed_pools),
        cmocka_unit_test(refusals_in_a_managed_scope),
        cmocka_unit_test(refusals_in_resources),
        cmocka_unit_test(refusals_in_channels),
        cmocka_unit_test(refusals_in_measuring),
        cmocka_unit_test(refusals_in_a_pool_with_all_defaults),
        cmocka_unit_test(refusals_in_workers_with_stacks_hooks_and_idle_ends),
        cmocka_unit_test(refusals_in_many_from_a_worker),
        cmocka_unit_test(refusals_in_full_queue_of_plain_tasks),
        cmocka_unit_test(refusals_in_a_blocked_submitter),
        cmocka_unit_test(refusals_in_a_task_fills_its_own_queue),
        cmocka_unit_test(refusals_in_failures_that_nobody_asks_for),
        cmocka_unit_test(refusals_in_a_thread_ends_beneath_two_tasks),
        cmocka_unit_test(refusals_in_limits_stops_and_cancels),
        cmocka_unit_test(refusals_in_completions_in_a_task),
        cmocka_unit_test(refusals_in_a_map_in_a_task_whose_items_fail),
        cmocka_unit_test(refusals_in_a_loop_that_fails),
        cmocka_unit_test(refusals_in_a_helper_of_a_loop_in_a_loop_ends_its_thread),
        cmocka_unit_test(refusals_in_the_shared_pools),
        cmocka_unit_test(refusals_in_threads_without_exit_hooks),
        cmocka_unit_test(refusals_in_tasks_in_processes),
        cmocka_unit_test(refusals_in_a_map_over_processes),
        cmocka_unit_test(refusals_in_processes_that_die),
        cmocka_unit_test(refusals_in_a_server_that_is_stopped),
#if defined(__linux__)
        cmocka_unit_test(refusals_in_processes_of_a_program_that_adopts),
#endif
#ifdef FORKS
        cmocka_unit_test(refusals_in_pools_of_a_forked_child),
#endif
        cmocka_unit_test(a_worker_without_its_exit_hook_is_like_one_whose_thread_was_refused),
        cmocka_unit_test(what_comes_after_the_last_worker_was_refused_has_a_worker),
        cmocka_unit_test(an_earlier_payload_is_freed_at_once_and_all_are_on_failure),
        cmocka_unit_test(fork_and_join_allocate_nothing),
        cmocka_unit_test(memory_does_not_grow_with_the_number_of_tasks),
#if FAULT_PLACES
        cmocka_unit_test(each_place_in_the_header_has_failed),
#endif
    };
    write_quotas();
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    remove_quotas();
    return failures;
}
