/* Bytes become calls of the interface, on up to four threads and three pools; what comes of them is checked against a
 * simple model. For libFuzzer, for AFL++ (both define FUZZ_ENGINE, see fuzz.sh), and as a program of its own:
 *
 *      fuzz_calls [--measure] [--random N [SEED]] [--input HEX] [FILE OR FOLDER...]
 *
 * replays the files, then N pseudo-random inputs, and one given in hexadecimal, with any compiler.
 *
 * An input is one byte for the number of threads and pools, two bytes a pool, then four bytes a call: who makes it and
 * which, and three that say with what. Every file of any length means something.
 *
 * The model. A task that was taken has one record, which tells what may become of it: it runs at most once, ends exactly
 * once, as a status that somebody has given reason for, with arg_free called before that, its callbacks after that, and
 * at rest the counts of each pool are those of the records. Where one thread works on a pool that is at rest and paused,
 * the model is exact: it is a list of tasks, and each call has one right answer. */
#include "internals/check.h"
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/stat.h>

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
static void map(int pool, unsigned a, unsigned b);
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
    case MAPS: map((r->pool + (int)r->order) % pool_count, r->order, 0xff); return r;
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

/* ---- calls ---- */
static record *new_record(int pool, behaviour does, int thread, int priority) {
    int n = atomic_fetch_add(&record_count, 1);
    if (n >= RECORDS) return NULL;
    record *r = &records[n];
    r->ticket.record = r;
    r->ticket.mark = MARK;
    r->order = (unsigned)n + 1;
    r->pool = pool;
    r->does = does;
    r->thread = thread;
    r->priority = priority;
    snprintf(r->name, sizeof r->name, "r%d", n);
    return r;
}
static int records_used(void) {
    int n = atomic_load(&record_count);
    return n < RECORDS ? n : RECORDS;
}

static tpool_future *take_slot(unsigned slot, record **r) {
    pthread_mutex_lock(&slots_lock);
    tpool_future *future = tpool_future_retain(slots[slot % SLOTS].future);
    *r = slots[slot % SLOTS].record;
    pthread_mutex_unlock(&slots_lock);
    return future;
}
static void complete_by_hand(tpool_future *future, record *r) {
    atomic_store(&r->may_be_cancelled, true);
    if (tpool_future_cancel(future)) atomic_store(&r->cancelled, true);
    else if (tpool_future_set_result(future, r) == TPOOL_OK) REQUIRE(atomic_fetch_add(&r->completions_by_hand, 1) == 0);
}
static void put_slot(unsigned slot, tpool_future *future, record *r) {
    pthread_mutex_lock(&slots_lock);
    tpool_future *earlier = slots[slot % SLOTS].future;
    record *of_earlier = slots[slot % SLOTS].record;
    slots[slot % SLOTS].future = future;
    slots[slot % SLOTS].record = r;
    pthread_mutex_unlock(&slots_lock);
    if (earlier && of_earlier->does == BY_HAND) complete_by_hand(earlier, of_earlier); /* somebody may wait for it */
    tpool_future_release(earlier);
}

static void dress(record *r, tpool_task *task, unsigned extras) {
    memset(task, 0, sizeof *task);
    task->fn = run_task;
    task->arg = &r->ticket;
    if (extras & 1) {
        task->arg_size = sizeof r->ticket;
        r->copied = true;
    }
    if (extras & 2) {
        task->arg_free = argument_free;
        r->wants_free = true;
    }
    if (extras & 4) {
        task->name = r->name;
        r->named = true;
    }
    if (extras & 8 && !pools[r->pool].quiet) {
        task->expires_ns = 1 + (extras & 0xf0) * 500;
        r->may_expire = true;
    }
    if (extras & 16) task->run_limit_ns = 1000;
    task->priority = r->priority;
}

/* One right answer: the pool is paused and at rest, and only this thread makes calls. */
static tpool_status expect_quiet(a_pool *p, record *r, record **dropped) {
    *dropped = NULL;
    if (p->fails_to_start || atomic_load(&p->shut)) fail("the model: such a pool is never quiet");
    if (p->config.queue_capacity && p->waiting_count >= (int)p->config.queue_capacity) {
        if (p->config.on_full == TPOOL_FULL_REJECT) return TPOOL_FULL;
        *dropped = p->waiting[0];
        memmove(p->waiting, p->waiting + 1, sizeof *p->waiting * (size_t)--p->waiting_count);
    }
    p->waiting[p->waiting_count++] = r;
    return TPOOL_OK;
}
static bool would_block(const a_pool *p) {
    if (p->waiting_count >= QUEUE * 8 - 4) return true;
    return p->config.queue_capacity && p->waiting_count >= (int)p->config.queue_capacity &&
           (p->config.on_full == TPOOL_FULL_BLOCK || p->config.on_full == TPOOL_FULL_CALLER_RUNS);
}

/* What a submit may give; `shut` is whether a shutdown had returned before it began. */
static void check_submit(record *r, tpool_status status, bool shut, bool broken) {
    a_pool *p = &pools[r->pool];
    switch (status) {
    case TPOOL_OK:
        REQUIRE(!shut && !broken);
        atomic_store(&r->taken, true);
        return;
    case TPOOL_SHUTDOWN: REQUIRE(atomic_load(&p->shut_asked)); return;
    case TPOOL_FULL:
        REQUIRE(p->config.queue_capacity && p->config.on_full == TPOOL_FULL_REJECT);
        atomic_fetch_add(&p->full, 1);
        return;
    case TPOOL_BROKEN:
        REQUIRE(p->fails_to_start);
        atomic_fetch_add(&p->broken, 1);
        return;
    default: UNEXPECTED("a submit", status);
    }
}
static tpool_status submit(record *r, call_kind form, unsigned extras, bool keep, tpool_future **future) {
    a_pool *p = &pools[r->pool];
    tpool_task task;
    tpool_future *given = (tpool_future *)r, **asked = keep ? &given : NULL;
    bool shut = atomic_load(&p->shut), broken = atomic_load(&p->broken) > 0;
    r->held = keep;
    if (form == SUBMIT) extras = 0;
    if (form == SUBMIT_COPY) extras = 1;
    if (form != SUBMIT_TASK) r->priority = 0;
    dress(r, &task, extras);
    record *dropped = NULL;
    tpool_status expected = p->quiet ? expect_quiet(p, r, &dropped) : TPOOL_OK;
    tpool_status status = form == SUBMIT ? tpool_submit(p->handle, run_task, &r->ticket, asked)
                          : form == SUBMIT_COPY
                              ? tpool_submit_copy(p->handle, run_task, &r->ticket, sizeof r->ticket, asked)
                              : tpool_submit_task(p->handle, &task, asked);
    check_submit(r, status, shut, broken);
    if (keep) REQUIRE((given != NULL) == (status == TPOOL_OK));
    if (p->quiet) {
        REQUIRE(status == expected);
        if (status == TPOOL_OK && keep) REQUIRE(tpool_future_state(given) == TPOOL_PENDING);
        if (dropped) REQUIRE(atomic_load(&dropped->frees) == (dropped->wants_free ? 1 : 0));
    } else if (status == TPOOL_OK && keep && thread_count == 1 && p->config.on_full == TPOOL_FULL_CALLER_RUNS &&
               atomic_load(&r->runs) == 0 && tpool_future_done(given)) {
        check_wait(tpool_future_result(given, 0, NULL), r, 0, false);
    }
    if (future) *future = given;
    return status;
}
static void submit_many(int pool, int thread, unsigned b, unsigned c) {
    a_pool *p = &pools[pool];
    tpool_task tasks[4];
    record *rs[4];
    tpool_future *futures[4] = { (tpool_future *)rs, NULL, NULL, (tpool_future *)rs };
    size_t count = 1 + b % 4, taken = 99;
    if (p->quiet) return;
    bool shut = atomic_load(&p->shut), broken = atomic_load(&p->broken) > 0, bad = c & 64;
    for (size_t i = 0; i < count; i++) {
        rs[i] = new_record(pool, (behaviour)((b >> 2) + i) % WAITS_TO_BE_STOPPED, thread, 0);
        if (!rs[i]) {
            count = i;
            break;
        }
        dress(rs[i], &tasks[i], c + (unsigned)i);
        rs[i]->held = c & 128;
    }
    if (!count) return;
    if (bad) tasks[count - 1].fn = NULL;
    tpool_status status = tpool_submit_many(p->handle, tasks, count, c & 128 ? futures : NULL, &taken);
    REQUIRE(taken <= count && (status == TPOOL_OK) == (taken == count));
    for (size_t i = 0; i < taken; i++) check_submit(rs[i], TPOOL_OK, shut, broken);
    if (status == TPOOL_INVALID) REQUIRE(bad && taken == count - 1);
    else if (status != TPOOL_OK) check_submit(rs[taken], status, shut, broken);
    for (size_t i = 0; c & 128 && i < count; i++) {
        REQUIRE((futures[i] != NULL) == (i < taken));
        if (futures[i]) put_slot((unsigned)i + b, futures[i], rs[i]);
    }
}
static void run_with_timeout(int pool, int thread, unsigned b, unsigned c) {
    a_pool *p = &pools[pool];
    record *r = p->quiet ? NULL : new_record(pool, (behaviour)(b % WAITS_TO_BE_STOPPED), thread, 0);
    if (!r) return;
    tpool_task task;
    tpool_future *future = NULL;
    bool shut = atomic_load(&p->shut), broken = atomic_load(&p->broken) > 0;
    int64_t timeout = some_time(c);
    dress(r, &task, b >> 4);
    r->held = true;
    atomic_store(&r->may_be_cancelled, true);
    tpool_status status = tpool_run_with_timeout(p->handle, &task, timeout, &future);
    if (!future) {
        if (status == TPOOL_TIMEOUT) REQUIRE(timeout != TPOOL_FOREVER && p->config.queue_capacity);
        else check_submit(r, status, shut, broken);
        REQUIRE(status != TPOOL_OK);
        return;
    }
    check_submit(r, TPOOL_OK, shut, broken);
    if (status == TPOOL_TIMEOUT) REQUIRE(timeout != TPOOL_FOREVER);
    else check_end(r, status);
    put_slot(b, future, r);
}

static void cancel(unsigned slot) {
    record *r;
    tpool_future *future = take_slot(slot, &r);
    if (!future) return;
    a_pool *p = r->pool >= 0 ? &pools[r->pool] : NULL;
    int waits = -1;
    for (int i = 0; p && p->quiet && i < p->waiting_count; i++)
        if (p->waiting[i] == r) waits = i;
    bool before = tpool_future_cancelled(future), done = tpool_future_done(future);
    atomic_store(&r->may_be_cancelled, true);
    bool cancelled = tpool_future_cancel(future);
    REQUIRE(!before || cancelled);
    if (done) REQUIRE(cancelled == before);
    if (cancelled) atomic_store(&r->cancelled, true);
    else REQUIRE(tpool_future_state(future) != TPOOL_PENDING || r->may_expire || (p && p->fails_to_start));
    if (p && p->quiet) REQUIRE(waits < 0 || (cancelled && tpool_future_state(future) == TPOOL_STATE_CANCELLED));
    if (waits >= 0) {
        memmove(p->waiting + waits, p->waiting + waits + 1,
                sizeof *p->waiting * (size_t)(p->waiting_count - waits - 1));
        p->waiting_count--;
    }
    tpool_future_release(future);
}
static bool is_waiting(const record *r) {
    const a_pool *p = r->pool >= 0 ? &pools[r->pool] : NULL;
    for (int i = 0; p && p->quiet && i < p->waiting_count; i++)
        if (p->waiting[i] == r) return true;
    return false;
}
/* Where one thread waits for what it keeps from happening itself, only a look. */
static int64_t bounded(int64_t timeout, const record *r) {
    if (is_waiting(r)) return timeout > TPOOL_US(40) ? TPOOL_US(40) : timeout;
    return timeout;
}
static void check_result(tpool_future *future, record *r, int64_t timeout) {
    void *value = r;
    bool waiting = is_waiting(r);
    tpool_status status = tpool_future_result(future, timeout, &value);
    if (waiting) REQUIRE(status == TPOOL_TIMEOUT);
    if (status == TPOOL_OK) {
        if (r->does == RETURNS_BYTES) REQUIRE(tpool_future_result_size(future) == sizeof(unsigned));
        if (r->does == RETURNS_BYTES || r->does == RETURNS_OWNED) REQUIRE(*(unsigned *)value == r->order);
        else REQUIRE(value == r);
    } else {
        REQUIRE(value == NULL);
    }
    check_wait(status, r, timeout, false);
}
static void check_error(tpool_future *future, record *r, int64_t timeout) {
    const tpool_error *error = (const tpool_error *)r;
    tpool_status status = tpool_future_error(future, timeout, &error);
    if (status == TPOOL_TIMEOUT) {
        REQUIRE(!error);
        return;
    }
    if (status == TPOOL_CANCELLED) REQUIRE(error && error->status == TPOOL_CANCELLED);
    else REQUIRE(status == TPOOL_OK);
    check_end(r, error ? error->status : TPOOL_OK);
    if (!error) return;
    REQUIRE(error->message);
    if (error->status == TPOOL_FAILED) REQUIRE(!strcmp(error->message, tpool_future_message(future)));
    if (error->status == TPOOL_FAILED && r->does != BY_HAND) REQUIRE(error->code == (int)r->order);
    REQUIRE(r->named ? error->task && !strcmp(error->task, r->name) : !error->task);
}
static void look(tpool_future *future, record *r) {
    bool done = tpool_future_done(future);
    tpool_state state = tpool_future_state(future);
    if (done) REQUIRE(state >= TPOOL_STATE_CANCELLED && !tpool_future_running(future));
    if (is_waiting(r)) REQUIRE(!done && state == TPOOL_PENDING && atomic_load(&r->runs) == 0);
    if (state >= TPOOL_STATE_CANCELLED) {
        REQUIRE(tpool_future_cancelled(future) == (state == TPOOL_STATE_CANCELLED));
        check_result(future, r, 0);
        check_error(future, r, 0);
    }
    REQUIRE(tpool_future_message(future) != NULL);
}
static void add_callback(unsigned slot, unsigned does) {
    record *r;
    tpool_future *future = take_slot(slot, &r);
    int n = future ? atomic_fetch_add(&note_count, 1) : NOTES;
    if (n < NOTES) {
        notes[n].record = r;
        notes[n].does = (int)(does % 4);
        notes[n].added = true;
        if (notes[n].does == 1) tpool_future_retain(future);
        bool done = tpool_future_done(future);
        REQUIRE(tpool_future_add_done_callback(future, call_back, &notes[n]) == TPOOL_OK);
        if (done) REQUIRE(atomic_load(&notes[n].ran) == 1);
    }
    tpool_future_release(future);
}

/* Up to `most` futures of the slots from `first` on, with a reference each. */
static size_t gather(unsigned first, unsigned most, tpool_future **futures, record **rs, bool *blocked) {
    size_t count = 0;
    *blocked = false;
    for (unsigned i = 0; i < most; i++) {
        futures[count] = take_slot(first + i, &rs[count]);
        if (!futures[count]) continue;
        *blocked |= is_waiting(rs[count]);
        count++;
    }
    return count;
}
static void wait_for(unsigned a, unsigned b, unsigned c) {
    tpool_future *futures[6] = { NULL }, *before[6];
    record *rs[6];
    bool blocked;
    size_t count = gather(a, b % 5, futures, rs, &blocked), done = 99;
    if (count && b & 8) { /* one of them twice */
        rs[count] = rs[0];
        futures[count++] = tpool_future_retain(futures[0]);
    }
    memcpy(before, futures, sizeof before);
    tpool_return_when when = (tpool_return_when)(c % 3);
    int64_t timeout = some_time(c >> 2);
    if (blocked && timeout > TPOOL_US(40)) timeout = TPOOL_US(40);
    tpool_status status = tpool_wait(futures, count, when, timeout, &done);
    REQUIRE(done <= count && (status == TPOOL_OK || (status == TPOOL_TIMEOUT && timeout <= TPOOL_US(300))));
    if (status == TPOOL_OK && when == TPOOL_ALL_COMPLETED) REQUIRE(done == count);
    if (status == TPOOL_OK && count && when == TPOOL_FIRST_COMPLETED) REQUIRE(done > 0);
    size_t front = 0, back = done;
    bool exception = false;
    for (size_t i = 0; i < count; i++) { /* each part keeps its order: a merge of the two gives the array as it was */
        if (front < done && futures[front] == before[i]) {
            REQUIRE(tpool_future_done(before[i]));
            exception |= !tpool_future_cancelled(before[i]) && tpool_future_result(before[i], 0, NULL) != TPOOL_OK;
            front++;
        } else {
            REQUIRE(back < count && futures[back] == before[i]);
            back++;
        }
    }
    if (status == TPOOL_OK && when == TPOOL_FIRST_EXCEPTION) REQUIRE(done == count || exception);
    for (size_t i = 0; i < count; i++) tpool_future_release(futures[i]);
}
static void complete(unsigned a, unsigned b, unsigned c) {
    tpool_future *futures[6], *next;
    record *rs[6];
    bool blocked, yielded[6] = { false };
    size_t count = gather(a, b % 7, futures, rs, &blocked), at_first = b & 16 ? count / 2 : count, distinct = 0;
    tpool_completions *completions;
    REQUIRE(tpool_as_completed(futures, at_first, &completions) == TPOOL_OK);
    for (size_t i = at_first; i < count; i++) REQUIRE(tpool_completions_add(completions, futures[i]) == TPOOL_OK);
    for (size_t i = 0; i < count; i++) {
        bool again = false;
        for (size_t j = 0; j < i; j++) again |= futures[j] == futures[i];
        distinct += !again;
    }
    REQUIRE(tpool_completions_remaining(completions) == distinct);
    int64_t timeout = some_time(c);
    if (blocked && timeout > TPOOL_US(40)) timeout = TPOOL_US(40);
    size_t seen = 0;
    for (;;) {
        tpool_status status = tpool_completions_next(completions, timeout, &next);
        if (status == TPOOL_TIMEOUT) {
            REQUIRE(timeout <= TPOOL_US(300) && seen < distinct);
            break;
        }
        if (status == TPOOL_END) {
            REQUIRE(seen == distinct && next == NULL);
            break;
        }
        REQUIRE(status == TPOOL_OK);
        size_t index = tpool_completions_index(completions);
        REQUIRE(index < count && futures[index] == next && !yielded[index]);
        yielded[index] = true;
        seen++;
        REQUIRE(tpool_completions_remaining(completions) == distinct - seen);
        look(next, rs[index]);
        if (c & 128 && seen == 2) break;
    }
    tpool_completions_destroy(completions);
    for (size_t i = 0; i < count; i++) tpool_future_release(futures[i]);
}

typedef struct mapping {
    unsigned count, taken, delivered, buffer, rule;
    atomic_int runs[40], frees[40];
} mapping;
static void *map_item(void *item, void *context) {
    mapping *m = context;
    size_t i = (size_t)((atomic_int *)item - m->runs);
    REQUIRE(i < m->count && atomic_fetch_add(&m->runs[i], 1) == 0 && atomic_load(&m->frees[i]) == 0);
    return m->rule && i % m->rule == 1 ? tpool_raise((int)i, "item") : item;
}
static bool map_source(void *context, void **item) {
    mapping *m = context;
    if (m->taken == m->count) return false;
    REQUIRE(m->taken < m->delivered + m->buffer);
    *item = &m->runs[m->taken++];
    return true;
}
static void map_free(void *item, void *context) {
    mapping *m = context;
    REQUIRE(atomic_fetch_add(&m->frees[(atomic_int *)item - m->runs], 1) == 0);
}
static void map(int pool, unsigned a, unsigned b) {
    a_pool *p = &pools[pool];
    mapping m = { .count = a % 40, .buffer = b & 7, .rule = b >> 3 & 3 };
    tpool_map_spec spec = { .fn = map_item, .context = &m, .chunk_size = a / 40 };
    bool source = b & 32;
    if (p->quiet) return;
    if (source) {
        m.buffer += !m.buffer;
        spec.next = map_source;
        spec.item_free = map_free;
    } else {
        spec.items = m.runs;
        spec.count = m.count;
        spec.stride = sizeof m.runs[0];
    }
    spec.buffer_size = m.buffer;
    atomic_store(&p->helpers, true);
    tpool_map_iter *iter;
    tpool_status status = tpool_map(p->handle, &spec, &iter);
    REQUIRE((iter != NULL) == (status == TPOOL_OK));
    if (status == TPOOL_SHUTDOWN) REQUIRE(atomic_load(&p->shut_asked));
    else if (status == TPOOL_BROKEN) REQUIRE(p->fails_to_start);
    else if (status == TPOOL_FULL) REQUIRE(p->config.on_full == TPOOL_FULL_REJECT);
    else REQUIRE(status == TPOOL_OK);
    bool whole = (b & 0xc0) != 0, ended = false;
    for (unsigned i = 0; iter && !ended && (whole || i < 5);) {
        int64_t timeout = b & 64 ? TPOOL_FOREVER : TPOOL_US(b);
        void *result = &m;
        if (i == m.count) REQUIRE(m.delivered == i);
        if (source) m.delivered = i + 1; /* asked for the next, it has let go of the one before */
        status = tpool_map_next(iter, timeout, &result);
        m.delivered = i;
        bool raises = m.rule && i % m.rule == 1;
        switch (status) {
        case TPOOL_OK: REQUIRE(i < m.count && result == &m.runs[i] && !raises && atomic_load(&m.runs[i]) == 1); break;
        case TPOOL_FAILED: REQUIRE(i < m.count && raises && atomic_load(&m.runs[i]) == 1); break;
        case TPOOL_CANCELLED:
            REQUIRE(i < m.count && (atomic_load(&p->cancel_asked) || atomic_load(&p->shut_asked) ||
                                    p->config.on_full == TPOOL_FULL_DROP_OLDEST));
            break;
        case TPOOL_BROKEN: REQUIRE(p->fails_to_start); break;
        case TPOOL_TIMEOUT: REQUIRE(timeout != TPOOL_FOREVER); break;
        case TPOOL_END:
            REQUIRE(i == m.count || atomic_load(&p->shut_asked) || p->fails_to_start);
            ended = true;
            break;
        default: UNEXPECTED("a map", status);
        }
        if (status != TPOOL_OK) REQUIRE(result == NULL);
        if (status == TPOOL_TIMEOUT) sched_yield();
        else if (!ended) m.delivered = ++i;
        if (status == TPOOL_TIMEOUT && !(b & 128)) break;
    }
    if (ended) REQUIRE(tpool_map_next(iter, 0, NULL) == TPOOL_END || tpool_map_next(iter, 0, NULL) == TPOOL_INVALID);
    tpool_map_close(iter);
    for (unsigned i = 0; i < m.count; i++) REQUIRE(atomic_load(&m.frees[i]) == (i < m.taken ? 1 : 0));
}

typedef struct looping {
    size_t begin, end;
    unsigned rule;
    atomic_int counts[200];
} looping;
static void loop_body(size_t begin, size_t end, void *context) {
    looping *l = context;
    REQUIRE(begin < end && begin >= l->begin && end <= l->end);
    for (size_t i = begin; i < end; i++) REQUIRE(atomic_fetch_add(&l->counts[i - l->begin], 1) == 0);
    if (l->rule && begin / l->rule % 3 == 1) tpool_raise(5, "body");
}
static void loop(int pool, unsigned a, unsigned b) {
    a_pool *p = &pools[pool];
    looping l = { .begin = a, .end = a + a % 200, .rule = b & 1 ? 1 + b / 16 : 0 };
    if (p->quiet) return;
    atomic_store(&p->helpers, true);
    bool shut = atomic_load(&p->shut);
    int failed = 0, least = 1, most = 0;
    tpool_status status = tpool_for(p->handle, l.begin, l.end, b >> 1 & 7, loop_body, &l);
    for (size_t i = 0; i < l.end - l.begin; i++) {
        int n = atomic_load(&l.counts[i]);
        if (n < least) least = n;
        if (n > most) most = n;
    }
    failed = status == TPOOL_FAILED;
    if (status == TPOOL_OK) REQUIRE(least == 1 && (!shut || l.begin == l.end));
    else if (failed) REQUIRE(l.rule && most == 1);
    else if (status == TPOOL_SHUTDOWN) REQUIRE(atomic_load(&p->shut_asked) && most == 0);
    else if (status == TPOOL_BROKEN) REQUIRE(p->fails_to_start && most == 0);
    else UNEXPECTED("a loop", status);
}

static void read_stats(int pool) {
    a_pool *p = &pools[pool];
    tpool_stats s;
    REQUIRE(tpool_get_stats(p->handle, &s) == TPOOL_OK);
    REQUIRE(s.max_workers >= 1 && s.workers >= 0 && s.active >= 0 && s.idle >= 0);
    if (p->config.queue_capacity && !atomic_load(&p->helpers)) REQUIRE(s.queued <= p->config.queue_capacity);
    if (p->quiet) REQUIRE(s.queued == (size_t)p->waiting_count && s.active == 0);
}
/* Where one thread makes all calls, and nothing runs: from here to the resume the model is exact. */
static void pause_pool(int pool) {
    a_pool *p = &pools[pool];
    tpool_status status;
    bool exact = thread_count == 1 && !p->fails_to_start && !atomic_load(&p->shut_asked) && !p->quiet;
    for (int again = 0; exact && again < 3; again++)
        for (int i = 0; i < pool_count && i < POOLS; i++)
            if (!pools[i].quiet && tpool_drain(pools[i].handle, TPOOL_SEC(20)) != TPOOL_OK) exact = false;
    if (thread_count == 1 && !exact) return; /* it would wait for itself */
    bool shut = atomic_load(&p->shut);
    status = tpool_pause(p->handle);
    if (status == TPOOL_SHUTDOWN) REQUIRE(atomic_load(&p->shut_asked));
    else if (status == TPOOL_BROKEN) REQUIRE(p->fails_to_start);
    else if (status != TPOOL_OK || shut) UNEXPECTED("a pause", status);
    if (exact && status == TPOOL_OK) {
        p->quiet = true;
        p->waiting_count = 0;
    }
}
static void resume_pool(int pool) {
    pools[pool].quiet = false;
    tpool_status status = tpool_resume(pools[pool].handle);
    REQUIRE(status == TPOOL_OK || (status == TPOOL_BROKEN && pools[pool].fails_to_start));
}
static void shut_down(int pool, unsigned a) {
    a_pool *p = &pools[pool];
    unsigned flags = a & (TPOOL_WAIT | TPOOL_CANCEL_PENDING | TPOOL_STOP_RUNNING);
    p->quiet = false;
    atomic_store(&p->shut_asked, true);
    if (flags & TPOOL_CANCEL_PENDING) atomic_store(&p->cancel_asked, true);
    REQUIRE(tpool_shutdown(p->handle, flags) == TPOOL_OK);
    atomic_store(&p->shut, true);
    REQUIRE(tpool_pause(p->handle) == TPOOL_SHUTDOWN || p->fails_to_start);
}
static void set_by_hand(call_kind kind, unsigned slot) {
    record *r;
    tpool_future *future = take_slot(slot, &r);
    if (!future) return;
    bool ours = r->does == BY_HAND, done = tpool_future_done(future);
    tpool_status status;
    if (kind == SET_RUNNING) {
        status = tpool_future_set_running(future);
        if (!ours || (done && !tpool_future_cancelled(future))) REQUIRE(status == TPOOL_INVALID_STATE);
        if (status == TPOOL_OK) REQUIRE(!atomic_load(&r->cancelled));
        REQUIRE(status == TPOOL_OK || status == TPOOL_INVALID_STATE || status == TPOOL_CANCELLED);
    } else {
        status = kind == SET_RESULT ? tpool_future_set_result(future, r)
                                    : tpool_future_set_error(future, 9, "by %s", "hand");
        REQUIRE(status == TPOOL_OK ? ours && !done : status == TPOOL_INVALID_STATE);
        if (status == TPOOL_OK) REQUIRE(atomic_fetch_add(&r->completions_by_hand, 1) == 0);
    }
    tpool_future_release(future);
}
static void call_badly(int pool, unsigned a) {
    tpool *handle = pools[pool].handle;
    tpool_future *future = (tpool_future *)handle;
    tpool_map_spec spec = { .fn = map_item };
    tpool_map_iter *iter = (tpool_map_iter *)handle;
    tpool_completions *completions = (tpool_completions *)handle;
    size_t count = 7;
    switch (a % 8) {
    case 0: REQUIRE(tpool_submit(handle, NULL, NULL, &future) == TPOOL_INVALID && !future); break;
    case 1: REQUIRE(tpool_submit(NULL, run_task, NULL, &future) == TPOOL_INVALID && !future); break;
    case 2: REQUIRE(tpool_resize(handle, 0) == TPOOL_INVALID && tpool_shutdown(handle, 64) == TPOOL_INVALID); break;
    case 3: REQUIRE(tpool_map(handle, &spec, &iter) == TPOOL_INVALID && !iter); break;
    case 4: REQUIRE(tpool_for(handle, 2, 1, 0, loop_body, NULL) == TPOOL_INVALID); break;
    case 5:
        future = NULL;
        REQUIRE(tpool_wait(&future, 1, TPOOL_ALL_COMPLETED, 0, &count) == TPOOL_INVALID);
        REQUIRE(tpool_as_completed(&future, 1, &completions) == TPOOL_INVALID && !completions);
        break;
    case 6: REQUIRE(tpool_submit_copy(handle, run_task, NULL, 4, &future) == TPOOL_INVALID && !future); break;
    default: REQUIRE(tpool_submit_many(handle, NULL, 2, NULL, &count) == TPOOL_INVALID && count == 0); break;
    }
}

static void make(int thread, const call *c) {
    int pool = (c->a >> 4) % pool_count;
    a_pool *p = &pools[pool];
    tpool_future *future;
    record *r;
    switch (c->kind) {
    case SUBMIT:
    case SUBMIT_TASK:
    case SUBMIT_COPY: {
        behaviour does = (behaviour)((c->a & 15) % BEHAVIOURS);
        if (does == ENDS_THREAD && (!orderly || p->config.on_full == TPOOL_FULL_CALLER_RUNS)) does = RETURNS;
        if (does >= NESTING && any_quiet()) does = YIELDS;
        if (p->quiet && would_block(p)) return;
        r = new_record(pool, does, thread, (int)(c->b >> 4) % 3 - 1);
        if (!r) return;
        bool keep = c->b & 128 || (c->b & 15) < SLOTS;
        if (submit(r, c->kind, c->c, keep, &future) == TPOOL_OK && keep) put_slot(c->b & 15, future, r);
        return;
    }
    case SUBMIT_MANY: submit_many(pool, thread, c->b, c->c); return;
    case RUN_WITH_TIMEOUT: run_with_timeout(pool, thread, c->b, c->c); return;
    case CANCEL: cancel(c->a); return;
    case RESULT:
    case LOOK:
    case REQUEST_STOP:
        future = take_slot(c->a, &r);
        if (!future) return;
        if (c->kind == REQUEST_STOP) tpool_future_request_stop(future);
        else if (c->kind == LOOK) look(future, r);
        else if (c->b & 1) check_error(future, r, bounded(some_time(c->c), r));
        else check_result(future, r, bounded(some_time(c->c), r));
        tpool_future_release(future);
        return;
    case ADD_CALLBACK: add_callback(c->a, c->b); return;
    case RELEASE: put_slot(c->a, NULL, NULL); return;
    case WAIT: wait_for(c->a, c->b, c->c); return;
    case COMPLETIONS: complete(c->a, c->b, c->c); return;
    case MAP:
        if (!any_quiet()) map(pool, c->b, c->c);
        return;
    case FOR: loop(pool, c->b, c->c); return;
    case PAUSE: pause_pool(pool); return;
    case RESUME: resume_pool(pool); return;
    case RESIZE: {
        atomic_store(&p->resized, true);
        tpool_status status = tpool_resize(p->handle, 1 + (int)(c->b % 4));
        REQUIRE(status == TPOOL_OK || (status == TPOOL_SHUTDOWN && atomic_load(&p->shut_asked)) ||
                (status == TPOOL_BROKEN && p->fails_to_start));
        return;
    }
    case WARM_UP: {
        tpool_status status = tpool_warm_up(p->handle, (int)(c->b % 5));
        REQUIRE(status == TPOOL_OK || (status == TPOOL_SHUTDOWN && atomic_load(&p->shut_asked)) ||
                (status == TPOOL_BROKEN && p->fails_to_start));
        return;
    }
    case DRAIN: {
        int64_t timeout = some_time(c->b);
        if (p->quiet && timeout > TPOOL_US(40)) timeout = TPOOL_US(40);
        tpool_status status = tpool_drain(p->handle, timeout);
        REQUIRE(status == TPOOL_OK || (status == TPOOL_TIMEOUT && timeout <= TPOOL_US(300)));
        if (p->quiet) REQUIRE((status == TPOOL_OK) == (p->waiting_count == 0) || timeout == 0);
        return;
    }
    case STATS: read_stats(pool); return;
    case SHUTDOWN:
        if (c->b % 4 == 0) shut_down(pool, c->c);
        return;
    case CREATE_FUTURE:
        r = new_record(-1, BY_HAND, thread, 0);
        if (!r) return;
        REQUIRE(tpool_future_create(&future) == TPOOL_OK);
        put_slot(c->a, future, r);
        return;
    case SET_RUNNING:
    case SET_RESULT:
    case SET_ERROR: set_by_hand(c->kind, c->a); return;
    default: call_badly(pool, c->a); return;
    }
}

/* ---- one input ---- */
static void *make_calls(void *arg) {
    int thread = (int)(intptr_t)arg;
    for (int i = 0; i < call_counts[thread]; i++) make(thread, &calls[thread][i]);
    return NULL;
}

static bool all_measured;
static uint8_t next_byte(size_t *at) { return *at < input_size ? input[(*at)++] : 0; }
static void decode(void) {
    size_t at = 0;
    uint8_t first = next_byte(&at);
    thread_count = 1 + (first & 3);
    pool_count = 1 + (first >> 2) % POOLS;
    memset(call_counts, 0, sizeof call_counts);
    for (int i = 0; i < pool_count; i++) {
        uint8_t a = next_byte(&at), b = next_byte(&at);
        a_pool *p = &pools[i];
        memset(p, 0, sizeof *p);
        p->config.max_workers = 1 + (a & 3) % 3;
        p->config.on_full = (tpool_full_policy)(a >> 2 & 3);
        p->config.queue_capacity = a & 16 ? 1 + (a >> 5) : 0;
        p->config.idle_timeout_ns = (b & 3) == 3 ? 1 + (b >> 2 & 3) * 50000 : 0;
        p->config.max_tasks_per_worker = b & 16 ? 1 + (b & 3) : 0;
        p->config.measure = b & 32 || all_measured;
        p->config.on_failure = on_failure;
        p->config.initializer = initialize;
        p->config.finalizer = finalize;
        p->config.context = p;
        p->fails_to_start = (b >> 6) == 3;
        atomic_init(&p->starts_left, b & 3);
    }
    orderly = first & 64;
    while (at < input_size) {
        uint8_t which = next_byte(&at);
        int thread = (which >> 5) % thread_count;
        call c = { (call_kind)((which & 31) % CALL_KINDS), next_byte(&at), next_byte(&at), next_byte(&at) };
        if (call_counts[thread] == CALLS) continue;
        if (orderly && c.kind <= SUBMIT_COPY && (c.a & 15) % BEHAVIOURS >= NESTING) c.a &= 0xf7;
        calls[thread][call_counts[thread]++] = c;
    }
}

/* What can be told of each task, and of each pool, once nothing moves any more. */
static void check_at_rest(void) {
    for (int i = 0; i < pool_count; i++) {
        a_pool *p = &pools[i];
        uint64_t taken = 0, completed = 0, failed = 0, unstarted = 0;
        for (int n = 0; n < records_used(); n++) {
            record *r = &records[n];
            if (r->pool != i) continue;
            bool was_taken = atomic_load(&r->taken);
            int runs = atomic_load(&r->runs);
            REQUIRE(runs <= (was_taken ? 1 : 0));
            REQUIRE(atomic_load(&r->frees) == (was_taken && r->wants_free ? 1 : 0));
            REQUIRE(runs == 0 || r->does == ENDS_THREAD || atomic_load(&r->ended) == 1);
            REQUIRE(runs == 0 || !atomic_load(&r->cancelled));
            taken += was_taken;
            completed += runs && !fails(r);
            failed += runs && fails(r);
            unstarted += was_taken && !runs;
            if (was_taken && !r->held && r->named && runs) REQUIRE(atomic_load(&r->failures) == (fails(r) ? 1 : 0));
            if (was_taken && !runs && !r->may_expire && !p->fails_to_start && !atomic_load(&r->may_be_cancelled) &&
                !atomic_load(&p->cancel_asked))
                REQUIRE(p->config.queue_capacity && p->config.on_full == TPOOL_FULL_DROP_OLDEST);
        }
        tpool_stats s;
        REQUIRE(tpool_get_stats(p->handle, &s) == TPOOL_OK);
        REQUIRE(s.queued == 0 && s.active == 0);
        REQUIRE(s.submitted == s.completed + s.failed + s.cancelled + s.expired + s.dropped);
        if (!(p->config.queue_capacity && p->config.on_full == TPOOL_FULL_DROP_OLDEST)) REQUIRE(s.dropped == 0);
        if (atomic_load(&p->helpers)) {
            REQUIRE(s.submitted >= taken && s.completed >= completed && s.failed >= failed);
            continue;
        }
        REQUIRE(s.submitted == taken && s.completed == completed && s.rejected == atomic_load(&p->full));
        REQUIRE(s.failed == failed || (s.failed > failed && p->fails_to_start));
        REQUIRE(s.failed - failed + s.cancelled + s.expired + s.dropped == unstarted);
    }
}

static void complete_all_by_hand(void) {
    for (unsigned i = 0; i < SLOTS; i++) {
        record *r;
        tpool_future *future = take_slot(i, &r);
        if (future && r->does == BY_HAND) complete_by_hand(future, r);
        tpool_future_release(future);
    }
}
/* The tests' own rule, so that nothing waits for ever for a good reason: as long as the threads make calls, this one
 * resumes pools and cancels futures that nobody completes. The exact model has no need of it, and must not be disturbed. */
static void *let_go(void *arg) {
    (void)arg;
    for (;;) {
        struct timespec moment;
        clock_gettime(CLOCK_REALTIME, &moment);
        moment.tv_nsec += 1000000;
        moment.tv_sec += moment.tv_nsec / 1000000000;
        moment.tv_nsec %= 1000000000;
        pthread_mutex_lock(&stopping_lock);
        if (!stopping) pthread_cond_timedwait(&stopping_changed, &stopping_lock, &moment);
        bool over = stopping;
        pthread_mutex_unlock(&stopping_lock);
        if (over) return NULL;
        if (thread_count > 1)
            for (int i = 0; i < pool_count; i++) tpool_resume(pools[i].handle);
        complete_all_by_hand();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    input = bytes;
    input_size = size;
    memset(records, 0, sizeof *records * (size_t)records_used());
    memset(notes, 0, sizeof notes);
    atomic_store(&record_count, 0);
    atomic_store(&note_count, 0);
    stopping = false;
    decode();
    for (int i = 0; i < pool_count; i++) REQUIRE(tpool_create(&pools[i].handle, &pools[i].config) == TPOOL_OK);

    pthread_t threads[THREADS], helper;
    REQUIRE(pthread_create(&helper, NULL, let_go, NULL) == 0);
    for (int i = 1; i < thread_count; i++)
        REQUIRE(pthread_create(&threads[i], NULL, make_calls, (void *)(intptr_t)i) == 0);
    make_calls(NULL);
    for (int i = 1; i < thread_count; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < pool_count; i++) resume_pool(i);
    complete_all_by_hand();                 /* their callbacks may still submit */
    for (int again = 0; again < 3; again++) /* tasks of one pool submit to others */
        for (int i = 0; i < pool_count; i++) REQUIRE(tpool_drain(pools[i].handle, TPOOL_FOREVER) == TPOOL_OK);
    pthread_mutex_lock(&stopping_lock);
    stopping = true;
    pthread_cond_signal(&stopping_changed);
    pthread_mutex_unlock(&stopping_lock);
    pthread_join(helper, NULL);

    check_at_rest();
    for (int i = 0; i < pool_count; i++) CHECK_AT_REST(pools[i].handle);
    for (unsigned i = 0; i < SLOTS; i++) {
        record *r;
        tpool_future *future = take_slot(i, &r);
        if (future && r->does != BY_HAND) REQUIRE(tpool_future_done(future));
        if (future) look(future, r);
        tpool_future_release(future);
        if (i % 2) put_slot(i, NULL, NULL);
    }
    for (int i = 0; i < pool_count; i++) {
        REQUIRE(tpool_destroy(pools[i].handle) == TPOOL_OK);
        REQUIRE(atomic_load(&pools[i].finalized) == atomic_load(&pools[i].initialized));
    }
    for (unsigned i = 0; i < SLOTS; i++) { /* futures outlive their pool */
        record *r;
        tpool_future *future = take_slot(i, &r);
        if (future) look(future, r);
        tpool_future_release(future);
        put_slot(i, NULL, NULL);
    }
    for (int n = 0; n < NOTES; n++) REQUIRE(!notes[n].added || atomic_load(&notes[n].ran) == 1);
    for (int n = 0; n < records_used(); n++)
        if (records[n].does == BY_HAND)
            REQUIRE(atomic_load(&records[n].completions_by_hand) + atomic_load(&records[n].cancelled) == 1);
    REQUIRE(atomic_load(&owned_alive) == 0); /* every future that had a result to free is gone */
    return 0;
}

#ifndef FUZZ_ENGINE
/* ---- a program of its own ---- */
static atomic_ulong inputs_done;

static void *watch(void *arg) {
    (void)arg;
    for (unsigned long before = 0, still = 0;; before = atomic_load(&inputs_done)) {
        struct timespec second = { 1, 0 };
        nanosleep(&second, NULL);
        still = atomic_load(&inputs_done) == before ? still + 1 : 0;
        if (still >= 30) fail("no end after 30 s");
    }
    return NULL;
}
static void on_crash(int number) {
    signal(number, SIG_DFL);
    fail("signal %d", number);
}
static void play(const char *from, const uint8_t *bytes, size_t size) {
    snprintf(origin, sizeof origin, "%s", from);
    LLVMFuzzerTestOneInput(bytes, size);
    atomic_fetch_add(&inputs_done, 1);
}
static bool play_path(const char *path) {
    static uint8_t bytes[1 << 16];
    struct stat status;
    if (stat(path, &status) != 0) return false;
    if (!S_ISDIR(status.st_mode)) {
        FILE *file = fopen(path, "rb");
        if (!file) return false;
        size_t size = fread(bytes, 1, sizeof bytes, file);
        fclose(file);
        play(path, bytes, size);
        return true;
    }
    DIR *folder = opendir(path);
    if (!folder) return false;
    bool well = true;
    for (struct dirent *entry; (entry = readdir(folder));) {
        char name[1000];
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (entry->d_name[0] != '.') well &= play_path(name);
    }
    closedir(folder);
    return well;
}
static void play_random(unsigned long count, uint64_t seed) {
    for (unsigned long i = 0; i < count; i++) {
        uint8_t bytes[260];
        char name[60];
        uint64_t state = (seed + i) * UINT64_C(0x9E3779B97F4A7C15) | 1;
        for (size_t at = 0; at < sizeof bytes; at++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes[at] = (uint8_t)(state >> 37);
        }
        snprintf(name, sizeof name, "--random 1 %llu", (unsigned long long)(seed + i));
        play(name, bytes, 7 + (size_t)(state >> 20) % (sizeof bytes - 7));
    }
}
int main(int argc, char **argv) {
    pthread_t watcher;
    bool well = true;
    signal(SIGSEGV, on_crash);
    signal(SIGBUS, on_crash);
    pthread_create(&watcher, NULL, watch, NULL);
    pthread_detach(watcher);
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--random") && i + 1 < argc) {
            unsigned long count = strtoul(argv[++i], NULL, 10);
            bool seeded = i + 1 < argc && argv[i + 1][0] >= '0' && argv[i + 1][0] <= '9';
            play_random(count, seeded ? strtoull(argv[++i], NULL, 10) : 1);
        } else if (!strcmp(argv[i], "--measure")) {
            all_measured = true;
        } else if (!strcmp(argv[i], "--input") && i + 1 < argc) {
            static uint8_t bytes[1 << 12];
            size_t size = 0;
            for (const char *text = argv[++i]; size < sizeof bytes && text[0] && text[1]; text += 2) {
                char pair[3] = { text[0], text[1], 0 };
                bytes[size++] = (uint8_t)strtoul(pair, NULL, 16);
            }
            play("as given", bytes, size);
        } else if (!play_path(argv[i])) {
            fprintf(stderr, "cannot read %s\n", argv[i]);
            well = false;
        }
    }
    printf("%lu inputs\n", atomic_load(&inputs_done));
    return well && atomic_load(&inputs_done) > 0 ? 0 : 1;
}
#endif
