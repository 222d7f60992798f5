/* The account of chaos.c: what each task, argument, callback and status may come to, and who is doing what for the one
   who has to find out why something hangs. */
#ifndef TPOOL_TESTS_CHAOS_ACCOUNT_H
#define TPOOL_TESTS_CHAOS_ACCOUNT_H
#include "hooks.h"
#include <spawn.h>

enum {
    POOLS = 128,
    RECORDS = 2000,
    NOTES = 1200,
    WAKES = 4000,
    THREADS = 600,
    LOOPS = 200,
    MAPS = 120,
    OWNED = 1000,
    FRAMES = 128,
    TEMPS = 256,
    MAP_ITEMS = 24,
    LOOP_CELLS = 64
};

/* ---- What a world may contain: each world leaves most of it out, so that the rest meets more often. */
typedef enum feature {
    CALLBACKS,
    ARG_FREES,
    RESULT_FREES,
    EXPIRIES,
    LIMITS,
    PRIORITIES,
    COPIES,
    CANCELS,
    STOPS,
    PAUSES,
    RESIZES,
    SHUTDOWNS,
    DESTROYS,
    FORKS,
    JOBS,
    FOR_LOOPS,
    MAP_CALLS,
    COMPLETIONS,
    WAITS,
    EXTERNALS,
    DRAINS,
    RESOURCES,
    MANAGERS,
    SIGNALS,
    REFUSED_THREADS,
    REFUSED_MEMORY,
    INITIALIZERS,
    FAILING_INITIALIZERS,
    SMALL_STACKS,
    IDLE_TIMES,
    MAX_TASKS,
    FULL_QUEUES,
    MEASURE,
    ENDS_IN_TASKS,
    ENDS_IN_JOBS,
    ENDS_IN_LOOPS,
    ENDS_IN_MAPS,
    ENDS_IN_CALLBACKS,
    ENDS_IN_FREES,
    ENDS_IN_HOOKS,
    SELF_CANCELS,
    BUSY_CALLBACKS,
    BUSY_FREES,
    BUSY_HOOKS,
    DUAL,
    TIMEOUTS,
    NESTING,
    SCRIPTS,
    CHAINS,
    GONE,
    BROODS,
    CHANNELS,
    ON_STOPS,
    EVENT_LOOPS,
    GLOBAL_MANAGER,
    HELD,
    GROUPS,
    REPEATS,
    LONG_RUNNING,
    MAPS_AUTO,
    FEATURES
} feature;
static const char *const feature_names[FEATURES] = {
    "callbacks",
    "arg_frees",
    "result_frees",
    "expiries",
    "limits",
    "priorities",
    "copies",
    "cancels",
    "stops",
    "pauses",
    "resizes",
    "shutdowns",
    "destroys",
    "forks",
    "jobs",
    "for_loops",
    "map_calls",
    "completions",
    "waits",
    "externals",
    "drains",
    "resources",
    "managers",
    "signals",
    "refused_threads",
    "refused_memory",
    "initializers",
    "failing_initializers",
    "small_stacks",
    "idle_times",
    "max_tasks",
    "full_queues",
    "measure",
    "ends_in_tasks",
    "ends_in_jobs",
    "ends_in_loops",
    "ends_in_maps",
    "ends_in_callbacks",
    "ends_in_frees",
    "ends_in_hooks",
    "self_cancels",
    "busy_callbacks",
    "busy_frees",
    "busy_hooks",
    "dual",
    "timeouts",
    "nesting",
    "scripts",
    "chains",
    "gone",
    "broods",
    "channels",
    "on_stops",
    "event_loops",
    "global_manager",
    "held",
    "groups",
    "repeats",
    "long_running",
    "maps_auto",
};
static uint64_t features, features_never, features_always;
static inline bool has(feature f) { return features >> f & 1; }

/* ---- Who does what */
typedef struct record record;
/* What an error raised, or the end of a thread, belongs to: a task or an item of a map; a loop and a job belong to
   what called or forked them, too. */
typedef enum scope_kind { A_TASK, AN_ITEM, A_LOOP, A_JOB, A_FREE } scope_kind; /* the last: an arg_free */
typedef struct scope {
    scope_kind kind;
    struct scope *outer;                  /* of a loop and a job; NULL: the program's */
    record *record;                       /* of a task */
    atomic_bool raised, ended, may_break; /* the last: a loop that it called has lost a thread */
} scope;
typedef enum temp_kind { NOTHING, A_FUTURE, AN_ITERATOR, A_MAP, A_USE, A_GROUP } temp_kind;
typedef struct temp {
    temp_kind kind;
    void *what;
} temp;
typedef struct actor {
    atomic_bool used;
    atomic_ulong ended; /* operations */
    _Atomic(const char *) name;
    struct {
        _Atomic(const char *) what;
        atomic_int on;
    } doing[32]; /* a stack: what is under way, on which pool or task */
    atomic_int depth;
    scope *frames[FRAMES]; /* on this thread's stack, the newest last */
    int frame_count;
    temp temps[TEMPS]; /* what this thread has taken and will give back */
    int temp_count;
    bool cancelled, may_end;
    tpool_completions *into; /* where the next submit adds its task */
    struct a_group *group;   /* of which the next submit makes a member */
    int hooks;               /* initializers and finalizers on this stack */
    int program;             /* > 0: a thread of the program, within no call of the library */
} actor;
static actor actors[THREADS];
static _Thread_local actor *self_storage;
static _Thread_local bool ending; /* what runs as a thread ends may not end it again */
static pthread_key_t actor_key;
static uint64_t world_seed;
static int world_number;

static _Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void dump(void);

static void actor_ends(void *which) {
    actor *a = which;
    a->frame_count = a->temp_count = 0;
    atomic_store(&a->depth, 0);
    a->cancelled = a->may_end = false;
    a->program = a->hooks = 0;
    a->into = NULL;
    self_storage = NULL;
    atomic_store(&a->used, false);
}
static actor *self(void) {
    if (self_storage) return self_storage;
    for (int i = 0; i < THREADS; i++) {
        bool is = false;
        if (atomic_load_explicit(&actors[i].used, memory_order_relaxed) ||
            !atomic_compare_exchange_strong(&actors[i].used, &is, true))
            continue;
        self_storage = &actors[i];
        atomic_store(&actors[i].name, "thread");
        if (pthread_setspecific(actor_key, self_storage) != 0) abort();
        return self_storage;
    }
    fail("more than %d threads", THREADS);
}
static inline void begin(const char *what, int on) {
    actor *a = self();
    int depth = atomic_load_explicit(&a->depth, memory_order_relaxed);
    if (depth < 32) {
        atomic_store_explicit(&a->doing[depth].what, what, memory_order_relaxed);
        atomic_store_explicit(&a->doing[depth].on, on, memory_order_relaxed);
    }
    atomic_store_explicit(&a->depth, depth + 1, memory_order_relaxed);
}
static inline void end(void) {
    actor *a = self();
    atomic_store_explicit(&a->depth, atomic_load_explicit(&a->depth, memory_order_relaxed) - 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&a->ended, 1, memory_order_relaxed);
}
/* One operation: CALL(on what, call) gives what the call gives. */
#define CALL(on, call) \
    __extension__({ \
        begin(#call, (on)); \
        __auto_type called_ = (call); \
        end(); \
        called_; \
    })
#define DO(on, call) (begin(#call, (on)), (call), end())

/* ---- Pools */
typedef struct a_pool {
    tpool *handle;
    tpool_config config;
    char name[16];
    bool hangs;                            /* its initializer, now and then */
    bool dual, is_of_script, feeds_itself; /* known to a script only; whose tasks submit to it */
    _Atomic(int) uses; /* calls under way by others than its own tasks; negative: it is being destroyed */
    atomic_bool alive, paused, may_break, may_cancel, may_stop, shut, repeats;
    atomic_bool ends;           /* its destroy has begun */
    atomic_int unsure;          /* submits that have not come back */
    atomic_ulong taken, others; /* tasks; maps and loops */
} a_pool;
static a_pool pools[POOLS];
static atomic_int pool_count;
static bool dual_used, manager_used; /* what is the whole process' outlives a world */
static atomic_bool dual_shut;
static pthread_mutex_t pool_making = PTHREAD_MUTEX_INITIALIZER;

/* ---- Groups: some that last as long as the world, and scopes. */
typedef struct a_group a_group;
struct a_group {
    tpool_group *handle;
    a_group *parent;
    int limit;
    bool bounded, drops, keeps_going;
    atomic_int running;
    atomic_bool may_cancel; /* it, or one above it, was cancelled, or may be by a failure */
};
enum { GROUPS_OF_WORLD = 4, SCOPES = 2000 };
static a_group groups[GROUPS_OF_WORLD], scopes[SCOPES];
static int group_count;
static atomic_int scope_count;
static bool group_may_cancel(const a_group *group) {
    for (; group; group = group->parent)
        if (atomic_load(&group->may_cancel)) return true;
    return false;
}
static bool group_may_be_full(const a_group *group) {
    for (; group; group = group->parent)
        if (group->bounded) return true;
    return false;
}
static bool group_may_drop(const a_group *group) {
    for (; group; group = group->parent)
        if (group->drops) return true;
    return false;
}

/* ---- Tasks */
typedef struct ticket {
    record *record;
    uint32_t mark;
} ticket; /* what a task gets as its argument */
enum { MARK = 0x7ea5e7 };
enum { UNDECIDED, GIVES_POINTER, GIVES_BYTES, GIVES_OWNED, RAISES }; /* what a task does in the end */
enum { RAISED_EARLY = 1, ENDED_EARLY };                              /* how the newest early run has failed */
struct record {
    ticket ticket;
    scope scope, free_scope;
    uint64_t seed;
    int pool, depth; /* pool -1: made by the program; -2: of a manager's */
    bool pure;       /* waits for its own children only, so that any wait for it ends */
    bool wants_free, expires, limited, has_future, by_manager, tagged, named, in_set;
    bool depends, timed, empty; /* held: a dependency may fail it, the pool's end may cancel it; without a function */
    a_group *group;             /* it is a member of; or NULL */
    bool periodic;
    int early; /* runs of a periodic task, or tries that fail, before the one that counts */
    atomic_int begun, at_once, early_end;
    size_t size; /* copied */
    char name[16];
    atomic_int taken; /* 0: not known yet, 1, 2: refused */
    atomic_int runs, frees, fate, seen, failures, left, owned_freed, last_note, over; /* the last: it has ended */
    atomic_bool cancel_tried, stop_tried, stop_asked, timeout_tried, ended_itself;
    atomic_int sets; /* external: successful completions */
    atomic_int notes;
    pthread_mutex_t lock;
    tpool_future *future;   /* the creator's reference */
    tpool_future *produced; /* that of the thread which completes it */
};
static record records[RECORDS];
static atomic_int record_count;

typedef struct note { /* a callback */
    record *record;
    int index; /* among those of the same adder, before the end; -1: no order */
    pthread_t adder;
    uint64_t seed;
    atomic_int runs, added; /* added: 1, 2: refused */
} note;
static note notes[NOTES];
static atomic_int note_count;

/* What tpool_on_stop has been given: called at most once, and not once its task, job, body or item has ended. */
typedef struct wake_note {
    record *record;
    const atomic_int *over; /* of that task, job, body or item */
    uint64_t seed;
    atomic_int withdrawn, calls;
} wake_note;
static wake_note wake_notes[WAKES];
static atomic_int wake_count;

static temp orphans[4096]; /* what threads that ended had taken: given back at the end of the world */
static atomic_int orphan_count;
static pthread_mutex_t orphan_lock = PTHREAD_MUTEX_INITIALIZER;

static int id_of(const record *r) { return r ? (int)(r - records) : -1; }

static void keep(temp_kind kind, void *what) {
    actor *a = self();
    if (a->temp_count == TEMPS) fail("too many temps");
    a->temps[a->temp_count++] = (temp){ kind, what };
}
static void unkeep(void *what) {
    actor *a = self();
    for (int i = a->temp_count; i-- > 0;)
        if (a->temps[i].what == what && a->temps[i].kind != NOTHING) {
            a->temps[i].kind = NOTHING;
            while (a->temp_count > 0 && a->temps[a->temp_count - 1].kind == NOTHING) a->temp_count--;
            return;
        }
    fail("a temp that is not there");
}
static void release(tpool_future *future) {
    unkeep(future);
    DO(-1, tpool_future_release(future));
}

/* A use of a pool by others than its own tasks; false: it is being destroyed. */
static bool own(int p) {
    actor *a = self();
    for (int i = 0; i < a->frame_count; i++)
        if (a->frames[i]->kind == A_TASK && a->frames[i]->record->pool == p) return true;
    return false;
}
static bool use(int p) {
    if (p < 0 || p >= atomic_load(&pool_count)) return false;
    if (own(p)) {
        keep(A_USE, NULL);
        return true;
    }
    if (!atomic_load(&pools[p].alive)) return false;
    int uses = atomic_load(&pools[p].uses);
    do
        if (uses < 0) return false;
    while (!atomic_compare_exchange_weak(&pools[p].uses, &uses, uses + 1));
    keep(A_USE, &pools[p]);
    return true;
}
static void unuse(int p) {
    actor *a = self();
    for (int i = a->temp_count; i-- > 0;) {
        if (a->temps[i].kind != A_USE || (a->temps[i].what && a->temps[i].what != &pools[p])) continue;
        a_pool *of = a->temps[i].what;
        a->temps[i].kind = NOTHING;
        while (a->temp_count > 0 && a->temps[a->temp_count - 1].kind == NOTHING) a->temp_count--;
        if (of) atomic_fetch_sub(&of->uses, 1);
        return;
    }
    fail("a use that is not there");
}

/* What the calling thread is within; the task that this belongs to. */
static scope *innermost(void) {
    actor *a = self();
    return a->frame_count ? a->frames[a->frame_count - 1] : NULL;
}
static record *task_of(const scope *s) {
    while (s && (s->kind == A_LOOP || s->kind == A_JOB)) s = s->outer;
    return s ? s->record : NULL;
}
static void mark(scope *s, bool raised) {
    for (bool direct = true; s;
         s = s->kind == A_LOOP || s->kind == A_JOB || (s->kind == A_FREE && !raised) ? s->outer : NULL) {
        atomic_store(raised ? &s->raised : direct ? &s->ended : &s->may_break, true);
        direct = direct && (s->kind == A_JOB || s->kind == A_FREE);
    }
}
static void enter(scope *s) {
    actor *a = self();
    if (a->frame_count == FRAMES) fail("too deep");
    a->frames[a->frame_count++] = s;
    if (a->cancelled) mark(s, false);
}
static void leave(void) { self()->frame_count--; }

static atomic_bool threads_ended; /* in this world */
/* Where a worker has ended its thread and the system refuses another, what waits is lost with it. */
static bool may_be_stranded(void) { return atomic_load(&threads_ended) && atomic_load(&refused_once); }

/* ---- What came of a task, against what it was given reason for */
static const char *fate_name(int f) {
    static const char *const names[] = { "undecided", "pointer", "bytes", "owned", "raises" };
    return names[f];
}
static void tell(const record *r) {
    fprintf(
        stderr,
        "  task %d: pool %d depth %d%s%s%s%s%s%s taken %d runs %d frees %d fate %s seen %s%s%s%s%s%s%s%s notes %d\n",
        id_of(r), r->pool, r->depth, r->pure ? " pure" : "", r->wants_free ? " arg_free" : "",
        r->expires ? " expires" : "", r->limited ? " limited" : "", r->size ? " copied" : "",
        r->has_future ? "" : " no future", atomic_load(&r->taken), atomic_load(&r->runs), atomic_load(&r->frees),
        fate_name(atomic_load(&r->fate)),
        atomic_load(&r->seen) ? tpool_status_name((tpool_status)(atomic_load(&r->seen) - 1)) : "-",
        atomic_load(&r->scope.raised) ? " raised" : "", atomic_load(&r->cancel_tried) ? " cancel" : "",
        atomic_load(&r->stop_tried) ? " stop" : "", atomic_load(&r->timeout_tried) ? " timeout" : "",
        atomic_load(&r->scope.ended) ? " ended" : "", atomic_load(&r->ended_itself) ? " itself" : "",
        atomic_load(&r->left) ? " left" : "", atomic_load(&r->notes));
}
/* Before the run, or the try, that counts. */
static bool may_be_stopped(const record *r) {
    const a_pool *p = r->pool >= 0 ? &pools[r->pool] : NULL;
    return atomic_load(&r->stop_tried) || atomic_load(&r->timeout_tried) || r->limited || r->expires || r->by_manager ||
           group_may_cancel(r->group) || (p && atomic_load(&p->may_stop));
}
static void judge(record *r, tpool_status status) {
    const char *wrong = NULL;
    int runs = atomic_load(&r->runs), fate = atomic_load(&r->fate);
    bool external = r->pool == -1, ended = atomic_load(&r->scope.ended) || atomic_load(&r->scope.may_break);
    a_pool *p = r->pool >= 0 ? &pools[r->pool] : NULL;
    bool memory = atomic_load(&refuse_memory) != 0 || atomic_load(&refused_once);
    int seen = atomic_load(&r->seen), early = atomic_load(&r->early_end);
    if (seen && seen != (int)status + 1) wrong = "two ends";
    switch (status) {
    case TPOOL_OK:
        if (external) {
            if (!atomic_load(&r->sets)) wrong = "OK without set_result";
            break;
        }
        if (r->empty) wrong = runs ? "run without a function" : NULL;
        else if (r->periodic && !runs && !early && may_be_stopped(r)) break;
        else if (runs != 1) wrong = "OK, and never run";
        else if (fate != GIVES_POINTER && fate != GIVES_BYTES && fate != GIVES_OWNED) wrong = "OK, though it failed";
        else if (atomic_load(&r->scope.raised)) wrong = "OK, though it raised";
        else if (atomic_load(&r->ended_itself)) wrong = "OK, though it ended its thread";
        break;
    case TPOOL_FAILED:
        if (external) {
            if (!atomic_load(&r->sets)) wrong = "FAILED without set_error";
            break;
        }
        if (early && !runs && (r->periodic || may_be_stopped(r))) break;
        if (runs != 1) wrong = "FAILED, and never run";
        else if (!atomic_load(&r->scope.raised) && !memory) wrong = "FAILED without raise";
        else if (atomic_load(&r->ended_itself)) wrong = "FAILED, though it ended its thread";
        break;
    case TPOOL_CANCELLED:
        if (runs) wrong = "CANCELLED, and run";
        else if (!atomic_load(&r->cancel_tried) && !atomic_load(&r->timeout_tried) && !r->by_manager && !r->depends &&
                 !group_may_cancel(r->group) && !group_may_drop(r->group) &&
                 !(r->timed && p && (atomic_load(&p->ends) || atomic_load(&p->shut) || p->dual)) &&
                 !(p && (atomic_load(&p->may_cancel) || p->config.on_full == TPOOL_FULL_DROP_OLDEST)))
            wrong = "CANCELLED without reason";
        break;
    case TPOOL_EXPIRED:
        if (runs) wrong = "EXPIRED, and run";
        else if (!r->expires) wrong = "EXPIRED without a limit";
        break;
    case TPOOL_BROKEN:
        if (runs && !ended) wrong = "BROKEN, but no thread ended";
        else if (early == ENDED_EARLY && !runs && (r->periodic || may_be_stopped(r))) break;
        else if (!runs && !ended && !(p && atomic_load(&p->may_break)) && !may_be_stranded())
            wrong = "BROKEN without reason";
        break;
    default: wrong = "no end of a task"; break;
    }
    if (!wrong && !external && atomic_load(&r->frees) != (r->wants_free ? 1 : 0))
        wrong = atomic_load(&r->frees) ? "its arg_free came too often" : "it is done before arg_free";
    if (wrong) {
        tell(r);
        fail("task %d: %s: %s", id_of(r), tpool_status_name(status), wrong);
    }
    atomic_store(&r->seen, (int)status + 1);
    atomic_store(&r->over, 1);
}
static bool is_end(tpool_status status) {
    return status == TPOOL_OK || status == TPOOL_FAILED || status == TPOOL_CANCELLED || status == TPOOL_EXPIRED ||
           status == TPOOL_BROKEN;
}
/* The value of a task that has ended well. */
static unsigned char byte_of(const record *r, size_t i) { return (unsigned char)(r->seed >> 3 ^ i * 7); }
static size_t bytes_of(const record *r) { return 1 + (size_t)(r->seed >> 11) % ((r->seed >> 30) % 8 ? 40 : 3000); }
static void judge_value(record *r, tpool_future *future, void *value) {
    if (r->pool == -1 || r->empty) return;
    if (r->periodic && !atomic_load(&r->runs)) {
        if (value) fail("task %d: it was stopped, and has a result", id_of(r));
        return;
    }
    size_t size = tpool_future_result_size(future);
    switch (atomic_load(&r->fate)) {
    case GIVES_BYTES:
        if (size != bytes_of(r)) fail("task %d: %zu bytes of %zu", id_of(r), size, bytes_of(r));
        for (size_t i = 0; i < size; i++)
            if (((unsigned char *)value)[i] != byte_of(r, i))
                fail("task %d: byte %zu of its result is wrong", id_of(r), i);
        break;
    case GIVES_OWNED:
        if (value != &r->owned_freed || atomic_load(&r->owned_freed))
            fail("task %d: its owned result is gone", id_of(r));
        break;
    default:
        if (value != (void *)r) fail("task %d: its result is another one", id_of(r));
        break;
    }
}

/* ---- The end of a world: every account is closed. */
static bool some_left; /* a submit did not come back, and its future with it */
#if ASAN
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void) { return some_left; }
#endif
/* Its failure is to go to on_failure: nobody could ask for it, or it was periodic. */
static void failed(const tpool_error *error, void *context);
static bool must_be_told(const record *r) {
    const a_pool *p = r->pool >= 0 ? &pools[r->pool] : NULL;
    if (!p || p->config.on_failure != failed || !r->named || atomic_load(&r->taken) != 1 || has(REFUSED_MEMORY) ||
        (r->group && !r->group->keeps_going))
        return false;
    if (!r->has_future && !r->in_set && atomic_load(&r->fate) == RAISES) return true;
    return r->periodic && atomic_load(&r->early_end);
}
static void close_accounts(void) {
    int count = atomic_load(&record_count), closed = atomic_load(&note_count);
    for (int i = 0; i < count && i < RECORDS; i++) {
        record *r = &records[i];
        const char *wrong = NULL;
        int runs = atomic_load(&r->runs), frees = atomic_load(&r->frees);
        if (atomic_load(&r->taken) == 2) {
            if (runs || frees) wrong = "refused, and touched";
        } else if (r->pool != -1) {
            bool left = atomic_load(&r->left) != 0; /* its submitter's thread ended in the submit: taken or not */
            if (left && r->has_future) some_left = true;
            if (runs > 1) wrong = "run twice";
            else if (frees > 1) wrong = "its arg_free came twice";
            else if (!left && !r->has_future && !runs && !frees && r->wants_free) wrong = "its arg_free never came";
            else if (!left && frees != r->wants_free) wrong = "its arg_free never came";
            else if (left && runs && frees != r->wants_free) wrong = "run, and its arg_free never came";
            else if (atomic_load(&r->fate) == GIVES_OWNED && atomic_load(&r->owned_freed) != 1 && !left)
                wrong = "its result_free did not come once";
            else if (atomic_load(&r->failures) > 1) wrong = "on_failure came twice";
            else if (atomic_load(&r->failures) && r->group && !r->group->keeps_going)
                wrong = "on_failure, of a group's";
            else if (must_be_told(r) && !atomic_load(&r->failures)) wrong = "on_failure never came";
        } else if (atomic_load(&r->sets) !=
                       (atomic_load(&r->seen) == TPOOL_OK + 1 || atomic_load(&r->seen) == TPOOL_FAILED + 1) &&
                   atomic_load(&r->seen)) {
            wrong = "completed twice";
        }
        if (wrong) {
            tell(r);
            fail("task %d: %s", i, wrong);
        }
    }
    for (int i = 0; i < closed && i < NOTES; i++) {
        int runs = atomic_load(&notes[i].runs), added = atomic_load(&notes[i].added);
        if (runs > 1 || (added == 1 && runs != 1) || (added == 2 && runs)) {
            tell(notes[i].record);
            fail("a callback of task %d: added %d, run %d times", id_of(notes[i].record), added, runs);
        }
    }
}

/* ---- What is told of a failure or of a hang */
static void dump(void) {
    for (int i = 0; i < THREADS; i++) {
        actor *a = &actors[i];
        int depth = atomic_load(&a->depth);
        if (!atomic_load(&a->used)) continue;
        fprintf(stderr, "  %s, after %lu calls:", atomic_load(&a->name), atomic_load(&a->ended));
        for (int k = 0; k < depth && k < 32; k++)
            fprintf(stderr, "%s %s [%d]", k ? " >" : "", atomic_load(&a->doing[k].what), atomic_load(&a->doing[k].on));
        if (depth == 0) fprintf(stderr, " in nothing");
        fprintf(stderr, "; tasks:");
        for (int k = 0; k < a->frame_count && k < FRAMES; k++)
            fprintf(stderr, " %c%d", "tiljf"[a->frames[k]->kind], id_of(task_of(a->frames[k])));
        fprintf(stderr, "\n");
    }
    int shown = 0;
    for (int i = 0; i < atomic_load(&record_count) && i < RECORDS && shown < 60; i++) {
        record *r = &records[i];
        if (atomic_load(&r->taken) == 2 || atomic_load(&r->seen)) continue;
        if (atomic_load(&r->runs) && atomic_load(&r->fate) && atomic_load(&r->frees) == r->wants_free) continue;
        if (r->pool == -1) continue;
        tell(r);
        shown++;
    }
    for (int i = 0; i < atomic_load(&pool_count); i++) {
        a_pool *p = &pools[i];
        fprintf(stderr,
                "  pool %d: max %d spares %d min %d capacity %zu %d idle %lld max_tasks %u%s%s%s%s%s%s%s uses %d", i,
                p->config.max_workers, p->config.max_spares, p->config.min_workers, p->config.queue_capacity,
                (int)p->config.on_full, (long long)p->config.idle_timeout_ns, p->config.max_tasks_per_worker,
                p->config.measure ? " measure" : "", p->config.initializer ? " initializer" : "",
                atomic_load(&p->alive) ? " alive" : "", atomic_load(&p->paused) ? " paused" : "",
                atomic_load(&p->shut) ? " shut" : "", atomic_load(&p->repeats) ? " repeats" : "",
                p->dual ? " dual" : "", atomic_load(&p->uses));
        tpool_stats s;
        if (p->handle && atomic_load(&p->alive) && tpool_get_stats(p->handle, &s) == TPOOL_OK)
            fprintf(stderr,
                    ": workers %d active %d idle %d queued %zu submitted %llu completed %llu failed %llu "
                    "cancelled %llu expired %llu dropped %llu spared %llu",
                    s.workers, s.active, s.idle, s.queued, (unsigned long long)s.submitted,
                    (unsigned long long)s.completed, (unsigned long long)s.failed, (unsigned long long)s.cancelled,
                    (unsigned long long)s.expired, (unsigned long long)s.dropped, (unsigned long long)s.spared);
        fprintf(stderr, "\n");
    }
}
static pthread_mutex_t failing = PTHREAD_MUTEX_INITIALIZER;
static bool quiet_dump;
static void show_stacks(void) { /* CHAOS_GDB=1: the stacks of all threads, by gdb */
    if (!getenv("CHAOS_GDB")) return;
    char pid[32];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    char *const words[] = { (char[]){ "gdb" },
                            (char[]){ "-p" },
                            pid,
                            (char[]){ "-batch" },
                            (char[]){ "-ex" },
                            (char[]){ "thread apply all bt 30" },
                            NULL };
    posix_spawn_file_actions_t actions;
    pid_t child;
    int status;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, 2, 1);
    if (posix_spawnp(&child, "gdb", &actions, NULL, words, environ) == 0) waitpid(child, &status, 0);
}
static _Noreturn void fail(const char *format, ...) {
    pthread_mutex_lock(&failing); /* for good */
    atomic_store(&delay_mask, 0);
    va_list arguments;
    fprintf(stderr, "FAILED: seed %llu, world %d: ", (unsigned long long)world_seed, world_number);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n  with");
    for (int f = 0; f < FEATURES; f++)
        if (features >> f & 1) fprintf(stderr, " %s", feature_names[f]);
    fprintf(stderr, "\n");
    if (!quiet_dump) {
        signal(SIGALRM, SIG_DFL);
        alarm(20);
        show_stacks();
        dump();
    }
    signal(SIGABRT, SIG_DFL);
    abort();
}
#endif
