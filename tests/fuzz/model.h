/* The model that fuzz_calls.c checks the pools against: what the input asks for, what is known of each task and pool,
   and what tasks and callbacks do and look at. */
#ifndef TPOOL_TESTS_FUZZ_MODEL_H
#define TPOOL_TESTS_FUZZ_MODEL_H
#include "internals/check.h"
#include <pthread.h>
#include <sched.h>
#include <stdint.h>

enum { POOLS = 3, THREADS = 4, CALLS = 80, RECORDS = 400, SLOTS = 12, NOTES = 200, QUEUE = 8 };

/* ---- what the input asks for ---- */

/* What a task does. Those before NESTING wait for nothing; those from NESTING on may. */
typedef enum behaviour {
    RETURNS,
    RAISES,
    RETURNS_BYTES,
    RETURNS_OWNED,
    YIELDS,
    RAISES_TWICE,
    WAITS_TO_BE_STOPPED,
    ENDS_THREAD,
    NESTING,
    AWAITS_CHILD = NESTING,
    AWAITS_CHILDREN,
    AWAITS_CHILD_ELSEWHERE,
    AWAITS_A_SLOT,
    FORKS,
    LOOPS,
    MAPS,
    SHUTS_ITS_POOL,
    BEHAVIOURS,
    BY_HAND = BEHAVIOURS
} behaviour;

typedef enum call_kind {
    SUBMIT,
    SUBMIT_TASK,
    SUBMIT_COPY,
    SUBMIT_MANY,
    RUN_WITH_TIMEOUT,
    CANCEL,
    RESULT,
    LOOK,
    ADD_CALLBACK,
    RELEASE,
    WAIT,
    COMPLETIONS,
    MAP,
    FOR,
    PAUSE,
    RESUME,
    RESIZE,
    WARM_UP,
    DRAIN,
    STATS,
    SHUTDOWN,
    CREATE_FUTURE,
    SET_RUNNING,
    SET_RESULT,
    SET_ERROR,
    REQUEST_STOP,
    BAD_CALL,
    SCOPE,
    CALL_KINDS
} call_kind;
typedef struct call {
    call_kind kind;
    uint8_t a, b, c;
} call;

/* ---- the model ---- */
struct record;
typedef struct ticket {
    struct record *record;
    uint32_t mark;
} ticket; /* what a task gets as its argument */
enum { MARK = 0x7ea5e7 };

typedef struct record {
    ticket ticket;
    behaviour does;
    int pool, thread, priority; /* thread: who submitted it, -1: a task or a callback */
    unsigned order;
    bool copied, wants_free, may_expire, held, named; /* held: somebody had its future at the submit */
    char name[16];
    atomic_bool taken, may_be_cancelled, cancelled; /* cancelled: a cancel gave true */
    atomic_int runs, ended, frees, failures, completions_by_hand;
} record;

typedef struct a_pool {
    tpool *handle;
    tpool_config config;
    bool fails_to_start; /* its initializer will give false */
    atomic_int starts_left, initialized, finalized;
    atomic_bool shut_asked, shut, cancel_asked, resized;
    atomic_bool drops;   /* a group here did */
    atomic_bool helpers; /* a map or a loop ran here: the library's own tasks count too */
    atomic_uint full, broken;
    atomic_int running;
    atomic_uint last_order[THREADS][3];
    atomic_bool quiet; /* the exact model holds: paused, nothing running, waiting[] is all */
    record *waiting[QUEUE * 8];
    int waiting_count;
} a_pool;

typedef struct note {
    record *record;
    int does;
    atomic_int ran;
    bool added;
} note; /* of a callback */

static a_pool pools[POOLS];
static int pool_count, thread_count;
static bool orderly; /* nothing waits inside tasks, so that their order can be told */
static call calls[THREADS][CALLS];
static int call_counts[THREADS];
static record records[RECORDS];
static atomic_int record_count;
static note notes[NOTES];
static atomic_int note_count;
static struct {
    tpool_future *future;
    record *record;
} slots[SLOTS];
static pthread_mutex_t slots_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_long owned_alive;
static bool stopping; /* the threads have made their calls */
static pthread_mutex_t stopping_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t stopping_changed = PTHREAD_COND_INITIALIZER;

static const uint8_t *input;
static size_t input_size;
static char origin[300];

#if defined(__GNUC__)
__attribute__((format(printf, 1, 2), noreturn))
#endif
static void
fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    flockfile(stderr);
    fprintf(stderr, "FAILED: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, " (%s; --input ", origin);
    for (size_t i = 0; i < input_size; i++) fprintf(stderr, "%02x", input[i]);
    fprintf(stderr, ")\n");
    funlockfile(stderr);
    va_end(arguments);
    abort();
}
#define REQUIRE(condition) \
    do { \
        if (!(condition)) fail("line %d: %s", __LINE__, #condition); \
    } while (0)
static void unexpected(int line, const char *what, tpool_status status) {
    fail("line %d: %s gives %s", line, what, tpool_status_name(status));
}
#define UNEXPECTED(what, status) unexpected(__LINE__, what, status)

static int64_t some_time(unsigned n) {
    static const int64_t times[] = {
        0, 1, TPOOL_US(3), TPOOL_US(40), TPOOL_US(300), TPOOL_FOREVER, TPOOL_FOREVER, TPOOL_SEC(20)
    };
    return times[n % 8];
}

/* ---- what tasks and callbacks do, and what is looked at there ---- */
static bool any_quiet(void) {
    for (int i = 0; i < pool_count; i++)
        if (pools[i].quiet) return true;
    return false;
}
static bool fails(const record *r) { return r->does == RAISES || r->does == RAISES_TWICE || r->does == ENDS_THREAD; }

/* The end of a task, as somebody was told. */
static void check_end(record *r, tpool_status status) {
    a_pool *p = r->pool >= 0 ? &pools[r->pool] : NULL;
    int runs = atomic_load(&r->runs);
    REQUIRE(atomic_load(&r->frees) == (r->wants_free ? 1 : 0));
    if (atomic_load(&r->cancelled)) REQUIRE(status == TPOOL_CANCELLED);
    switch (status) {
    case TPOOL_OK: REQUIRE(r->does == BY_HAND || (runs == 1 && !fails(r) && atomic_load(&r->ended) == 1)); break;
    case TPOOL_FAILED: REQUIRE(r->does == BY_HAND || (runs == 1 && fails(r) && r->does != ENDS_THREAD)); break;
    case TPOOL_CANCELLED:
        REQUIRE(runs == 0);
        REQUIRE(atomic_load(&r->may_be_cancelled) || (p && atomic_load(&p->cancel_asked)) ||
                (p && p->config.queue_capacity && p->config.on_full == TPOOL_FULL_DROP_OLDEST));
        break;
    case TPOOL_EXPIRED: REQUIRE(runs == 0 && r->may_expire); break;
    case TPOOL_BROKEN: REQUIRE((runs == 1 && r->does == ENDS_THREAD) || (runs == 0 && p && p->fails_to_start)); break;
    default: UNEXPECTED("a task's end", status);
    }
}

static void argument_free(void *arg) {
    ticket *t = arg;
    REQUIRE(t->mark == MARK);
    REQUIRE(atomic_fetch_add(&t->record->frees, 1) == 0);
    REQUIRE(atomic_load(&t->record->runs) == atomic_load(&t->record->ended) || t->record->does == ENDS_THREAD);
}
static void owned_free(void *owned) {
    atomic_fetch_sub(&owned_alive, 1);
    free(owned);
}

static void on_failure(const tpool_error *error, void *context) {
    a_pool *p = context;
    REQUIRE(error->message && error->status != TPOOL_CANCELLED);
    if (error->status == TPOOL_BROKEN) REQUIRE(p->fails_to_start || orderly);
    if (!error->task) return;
    record *r = &records[atoi(error->task + 1)];
    REQUIRE(&pools[r->pool] == p && atomic_fetch_add(&r->failures, 1) == 0);
    check_end(r, error->status);
}
static bool initialize(void *context) {
    a_pool *p = context;
    if (p->fails_to_start && atomic_fetch_sub(&p->starts_left, 1) <= 0) return false;
    atomic_fetch_add(&p->initialized, 1);
    return true;
}
static void finalize(void *context) { atomic_fetch_add(&((a_pool *)context)->finalized, 1); }

static tpool_status submit(record *r, call_kind form, unsigned extras, bool keep, tpool_future **future);
static record *new_record(int pool, behaviour does, int thread, int priority);
static tpool_future *take_slot(unsigned slot, record **r);
static void map(int pool, unsigned a, unsigned b, unsigned d);
static void loop(int pool, unsigned a, unsigned b);

static void check_wait(tpool_status status, record *r, int64_t timeout, bool may_deadlock) {
    if (status == TPOOL_TIMEOUT) REQUIRE(timeout != TPOOL_FOREVER && timeout != TPOOL_SEC(20));
    else if (status == TPOOL_DEADLOCK) REQUIRE(may_deadlock && timeout == TPOOL_FOREVER);
    else check_end(r, status);
}
static void await_children(record *parent, int count, int pool) {
    tpool_future *futures[4], *each[4];
    record *children[4];
    int taken = 0;
    for (int i = 0; i < count; i++) {
        record *child = new_record(pool, (behaviour)((parent->order + (unsigned)i) % WAITS_TO_BE_STOPPED), -1, 0);
        if (!child) break;
        if (submit(child, i % 2 ? SUBMIT_TASK : SUBMIT, parent->order, true, &futures[taken]) == TPOOL_OK)
            children[taken++] = child;
    }
    size_t done;
    memcpy(each, futures, sizeof each);
    if (taken > 1) {
        REQUIRE(tpool_wait(futures, (size_t)taken, TPOOL_ALL_COMPLETED, TPOOL_FOREVER, &done) == TPOOL_OK);
        REQUIRE(done == (size_t)taken);
    }
    for (int i = 0; i < taken; i++) {
        check_wait(tpool_future_result(each[i], TPOOL_FOREVER, NULL), children[i], TPOOL_FOREVER, false);
        tpool_future_release(each[i]);
    }
}
static void *fib(void *arg) {
    intptr_t n = (intptr_t)arg;
    if (n < 2) return arg;
    tpool_job job;
    tpool_fork(&job, fib, (void *)(n - 1));
    intptr_t sum = (intptr_t)fib((void *)(n - 2));
    return (void *)(sum + (intptr_t)tpool_join(&job));
}

static void *act(record *r) {
    tpool_future *future;
    record *other;
    switch (r->does) {
    case RAISES: return tpool_raise((int)r->order, "record %u", r->order);
    case RAISES_TWICE:
        tpool_return(r, 40);
        tpool_raise((int)r->order, "record %u", r->order);
        return tpool_raise(-1, "no");
    case RETURNS_BYTES: tpool_return("earlier", 8); return tpool_return(&r->order, sizeof r->order);
    case RETURNS_OWNED: {
        unsigned *owned = malloc(sizeof *owned);
        *owned = r->order;
        atomic_fetch_add(&owned_alive, 1);
        return tpool_return_owned(owned, owned_free);
    }
    case YIELDS:
        for (int i = 0; i < 20; i++) sched_yield();
        return r;
    case WAITS_TO_BE_STOPPED:
        for (int i = 0; i < 300 && !tpool_stop_requested(); i++) sched_yield();
        return r;
    case ENDS_THREAD: pthread_exit(NULL);
    case AWAITS_CHILD: await_children(r, 1, r->pool); return r;
    case AWAITS_CHILDREN: await_children(r, 4, r->pool); return r;
    case AWAITS_CHILD_ELSEWHERE: await_children(r, 2, (r->pool + 1) % pool_count); return r;
    case AWAITS_A_SLOT:
        future = take_slot(r->order, &other);
        if (future) check_wait(tpool_future_result(future, TPOOL_FOREVER, NULL), other, TPOOL_FOREVER, true);
        tpool_future_release(future);
        return r;
    case FORKS: REQUIRE(fib((void *)(intptr_t)8) == (void *)(intptr_t)21); return r;
    case LOOPS: loop(r->pool, 20, r->order * 2); return r; /* even: no body raises */
    case MAPS: map((r->pool + (int)r->order) % pool_count, r->order, 0xff, r->order >> 2); return r;
    case SHUTS_ITS_POOL:
        REQUIRE(tpool_shutdown(pools[r->pool].handle, TPOOL_WAIT) == TPOOL_DEADLOCK);
        REQUIRE(tpool_drain(pools[r->pool].handle, TPOOL_FOREVER) == TPOOL_DEADLOCK);
        REQUIRE(tpool_destroy(pools[r->pool].handle) == TPOOL_DEADLOCK);
        return r;
    default: return r;
    }
}
static void *run_task(void *arg) {
    ticket *t = arg;
    REQUIRE(t->mark == MARK);
    record *r = t->record;
    a_pool *p = &pools[r->pool];
    REQUIRE(r->copied == (t != &r->ticket) && tpool_arg_size() == (r->copied ? sizeof *t : 0));
    REQUIRE(atomic_fetch_add(&r->runs, 1) == 0 && atomic_load(&r->frees) == 0 && !atomic_load(&r->cancelled));
    REQUIRE(tpool_current() == p->handle);
    REQUIRE(!p->quiet); /* stays false where several threads are; else its one writer has submitted or resumed since */
    bool alone = orderly && tpool_current_worker() >= 0 && p->config.max_workers == 1 && !atomic_load(&p->resized);
    if (alone) { /* one worker: one task at a time, in the order of the submits */
        REQUIRE(atomic_fetch_add(&p->running, 1) == 0);
        if (r->thread >= 0) REQUIRE(atomic_exchange(&p->last_order[r->thread][r->priority + 1], r->order) < r->order);
    }
    if (alone) sched_yield();
    if (alone) atomic_fetch_sub(&p->running, 1);
    void *result = act(r);
    atomic_fetch_add(&r->ended, 1);
    return result;
}

static void call_back(tpool_future *future, void *context) {
    note *n = context;
    REQUIRE(atomic_fetch_add(&n->ran, 1) == 0 && tpool_future_done(future));
    check_wait(tpool_future_result(future, 0, NULL), n->record, TPOOL_FOREVER, false);
    REQUIRE(tpool_raise(1, "nobody is here") == NULL && tpool_return("", 1) == NULL);
    record *r;
    tpool_future *other;
    switch (n->does) {
    case 1: tpool_future_release(future); break; /* the reference that was retained for it */
    case 2:
        r = orderly || any_quiet() ? NULL : new_record(n->record->pool >= 0 ? n->record->pool : 0, RETURNS, -1, 0);
        if (r) (void)!submit(r, SUBMIT, 0, false, NULL);
        break;
    case 3:
        other = orderly || any_quiet() ? NULL : take_slot(n->record->order, &r);
        if (!other) break;
        atomic_store(&r->may_be_cancelled, true);
        if (tpool_future_cancel(other)) atomic_store(&r->cancelled, true);
        tpool_future_release(other);
        break;
    default: break;
    }
}
#endif
