/* Worlds of process pools: tasks that crash, stop themselves, exit, become another program, close everything, kill
   their group, leave grandchildren, print, are too big, share a mutex and a channel, repeat, and are members of groups;
   beside cancels, kills, limits and pools that come and go. */
#ifndef TPOOL_TESTS_CHAOS_PROCESSES_H
#define TPOOL_TESTS_CHAOS_PROCESSES_H
#include "world.h"
#include <sys/mman.h>

typedef enum deed {
    P_BYTES,
    P_POINTER,
    P_RAISES,
    P_NOTHING,
    P_SLEEPS,
    P_PRINTS,
    P_BIG,
    P_STOP_AWARE,
    P_POOL_OF_ITS_OWN,
    P_FOR,
    P_SHARES,
    P_FORKS_AND_RETURNS,
    P_GRANDCHILD, /* up to here it succeeds, unless somebody kills it */
    P_CLOSES_ALL,
    P_CRASHES,
    P_KILLS_ITSELF,
    P_ABORTS,
    P_EXITS,
    P_STOPS,
    P_BECOMES_ANOTHER,
    P_KILLS_ITS_GROUP,
    P_ENDS_ITS_THREAD,
    P_RETURNS_OWNED,
    P_SMALL_MEMORY,
    P_SMALL_FILES,
    DEEDS
} deed;
static const char *const deed_names[DEEDS] = {
    "bytes",       "pointer",      "raises",       "nothing",     "sleeps",       "prints",     "big",
    "stop_aware",  "own_pool",     "own_for",      "shares",      "fork_returns", "grandchild", "closes_all",
    "crashes",     "kills_itself", "aborts",       "exits",       "stops",        "another",    "kills_group",
    "ends_thread", "owned",        "small_memory", "small_files",
};
static uint64_t deeds_never;

/* What a pool's processes share: two numbers that are equal but within the mutex, and a channel, whose items are
   numbered. An item that was sent is received once, or left over; it is lost only with a process that was receiving. */
enum { SHARED_ITEMS = 8192 };
typedef struct p_shared {
    tpool_shared_mutex mutex;
    unsigned guarded, twin;
    atomic_int closed, items, receives_begun, receives_ended;
    atomic_uchar tried[SHARED_ITEMS + 1], sent[SHARED_ITEMS + 1], taken[SHARED_ITEMS + 1];
} p_shared;
static p_shared *p_shares[POOLS];
static tpool_channel *p_channels[POOLS];

/* The runs of an order, in memory that all processes share: what is wrong, a worker leaves here too, since the run that
   finds it may not be the last. */
typedef struct p_try {
    atomic_int begun, ended, early_end, freed, seen;
    _Atomic(const char *) wrong;
} p_try;
enum { MEMBERS_AT_ONCE = 16, PERMIT_LEVELS = 4 };
typedef struct p_members { /* of a group: the processes that run one */
    atomic_int pids[MEMBERS_AT_ONCE];
} p_members;
static p_try *p_tries;          /* RECORDS */
static p_members *p_members_of; /* the world's groups, then the scopes */

/* What travels; the record is the program's. */
typedef struct order {
    p_shared *shared; /* NULL: nothing is */
    tpool_channel *channel;
    int deed, early;
    bool periodic;
    struct {
        int group, limit; /* p_members_of; 0: no limit */
    } permits[PERMIT_LEVELS];
    uint32_t seed, size;
    record *record;
} order;
typedef struct p_record {
    deed deed;
    uint32_t seed, size;
    bool may_be_killed; /* by a limit of its own, or run_with_timeout */
} p_record;
static p_record p_records[RECORDS];
static atomic_bool workers_killed; /* tpool_kill_workers has been called in this world */
static pid_t program_pid;
static bool low_limits; /* in a worker: an earlier task of it has taken its memory or its files */

static uint32_t pattern(uint32_t seed, size_t i) { return (seed + (uint32_t)i * 2654435761u) >> 24; }
static void *nop(void *arg) { return arg; }
static void count_wake(void *wakes) { atomic_fetch_add((atomic_int *)wakes, 1); }
static void no_free(void *arg) { (void)arg; }
/* An item that was received, or found at the end. */
static const char *takes(p_shared *shared, uint32_t number) {
    if (number == 0 || number > SHARED_ITEMS || !atomic_load(&shared->tried[number])) return "an item that nobody sent";
    return atomic_fetch_add(&shared->taken[number], 1) ? "an item comes twice" : NULL;
}
/* In the program and in workers. Returns what was wrong. */
static const char *shares(p_shared *shared, tpool_channel *channel, rng *g, bool refused) {
    int64_t limit = one_in(g, 3) ? -(int64_t)draw(g, 2) : TPOOL_US(draw(g, one_in(g, 3) ? 30000 : 500));
    uint32_t item[4] = { 0 }; /* each word is the number */
    tpool_status status;
    unsigned what = draw(g, 7);
    if (what < 2) {
        status = tpool_shared_lock(&shared->mutex, limit);
        if (status == TPOOL_BROKEN) shared->twin = shared->guarded;
        else if (status != TPOOL_OK)
            return status == TPOOL_TIMEOUT || (status == TPOOL_NO_THREAD && refused) ? NULL : "a shared lock";
        if (shared->twin != shared->guarded) return "two in one mutex";
        shared->guarded++;
        if (one_in(g, 3)) sleep_us((long)draw(g, 300));
        shared->twin++;
        return tpool_shared_unlock(&shared->mutex) == TPOOL_OK ? NULL : "a shared unlock";
    }
    if (one_in(g, 100)) {
        atomic_store(&shared->closed, 1);
        return tpool_channel_close(channel) == TPOOL_OK ? NULL : "closing a shared channel";
    }
    if (what < 4) {
        int number = atomic_fetch_add(&shared->items, 1) + 1;
        if (number > SHARED_ITEMS) return NULL;
        for (int i = 0; i < 4; i++) item[i] = (uint32_t)number;
        atomic_store(&shared->tried[number], 1);
        status = tpool_channel_send(channel, item, limit);
        if (status == TPOOL_OK) atomic_store(&shared->sent[number], 1);
    } else {
        atomic_fetch_add(&shared->receives_begun, 1);
        status = tpool_channel_receive(channel, item, limit);
        const char *wrong = NULL;
        if (status == TPOOL_OK) wrong = takes(shared, item[0]);
        if (status == TPOOL_OK && (item[1] != item[0] || item[2] != item[0] || item[3] != item[0]))
            wrong = "a torn item";
        atomic_fetch_add(&shared->receives_ended, 1);
        if (wrong) return wrong;
    }
    if (tpool_channel_count(channel) > 4) return "more items than places";
    if (status == TPOOL_SHUTDOWN || status == TPOOL_END)
        return atomic_load(&shared->closed) ? NULL : "a shared channel that is not closed says so";
    bool may_be = status == TPOOL_OK || status == TPOOL_TIMEOUT ||
                  (status == TPOOL_CANCELLED && getpid() != program_pid) || (status == TPOOL_NO_THREAD && refused);
    return may_be ? NULL : "a shared channel";
}
static void begin_sharing(int p, rng *g) {
    p_shares[p] = tpool_shared_alloc(pools[p].handle, sizeof *p_shares[p]);
    if (!p_shares[p]) fail("no shared memory");
    tpool_channel_config config = { .capacity = 1 + draw(g, 4), .item_size = 16, .shared_with = pools[p].handle };
    if (tpool_channel_create(&p_channels[p], &config) != TPOOL_OK) fail("no shared channel");
}
/* All tasks have ended. */
static void end_sharing(int p) {
    p_shared *shared = p_shares[p];
    uint32_t item[4];
    const char *wrong = NULL;
    int lost = 0, dead = atomic_load(&shared->receives_begun) - atomic_load(&shared->receives_ended);
    while (tpool_channel_receive(p_channels[p], item, 0) == TPOOL_OK)
        if ((wrong = takes(shared, item[0])) != NULL) fail("shared: %s", wrong);
    for (int i = 1; i <= SHARED_ITEMS; i++) {
        if (atomic_load(&shared->taken[i]) > 1) fail("shared item %d comes twice", i);
        lost += atomic_load(&shared->sent[i]) && !atomic_load(&shared->taken[i]);
    }
    if (lost > dead) fail("%d shared items are lost with %d receivers", lost, dead);
    tpool_status status = tpool_shared_lock(&shared->mutex, TPOOL_SEC(20));
    if (status != TPOOL_OK && status != TPOOL_BROKEN) fail("a shared lock gave %s", tpool_status_name(status));
    if (status == TPOOL_OK && shared->guarded != shared->twin) fail("a death in a shared mutex is not told");
    if (tpool_shared_unlock(&shared->mutex) != TPOOL_OK) fail("a shared unlock");
    if (tpool_channel_destroy(p_channels[p]) != TPOOL_OK) fail("a shared channel is still awaited");
    tpool_shared_free(pools[p].handle, shared);
    p_shares[p] = NULL;
}
/* Is this process, which runs a member or has died in one, in a run beside the caller's? A death is known to the pool
   once the process is gone, or nearly so. */
static bool runs_beside(const atomic_int *slot, pid_t pid) {
    for (int looks = 0; looks < 100; looks++) {
        char name[40], text[200] = { 0 };
        int now = atomic_load(slot);
        if (now != (int)pid) return now == 0; /* it has left by itself; else it was dead, and another has its place */
        snprintf(name, sizeof name, "/proc/%d/stat", (int)pid);
        int file = kill(pid, 0) == 0 ? open(name, O_RDONLY | O_CLOEXEC) : -1;
        if (file < 0) return false;
        ssize_t length = read(file, text, sizeof text - 1);
        close(file);
        const char *state = length > 0 ? strrchr(text, ')') : NULL;
        if (!state || state[2] == 'Z' || state[2] == 'X') return false;
        sleep_us(5000);
    }
    return true;
}
static const char *enters_group(p_members *members, int limit, pid_t pid) {
    int others = 0, beside = 0;
    bool placed = false;
    for (int i = 0; i < MEMBERS_AT_ONCE && !placed; i++) {
        int before = atomic_load(&members->pids[i]);
        placed = (before == 0 || before == (int)pid || kill(before, 0) != 0) &&
                 atomic_compare_exchange_strong(&members->pids[i], &before, (int)pid);
    }
    for (int i = 0; i < MEMBERS_AT_ONCE; i++) {
        int other = atomic_load(&members->pids[i]);
        others += other != 0 && other != (int)pid;
    }
    for (int i = 0; i < MEMBERS_AT_ONCE && limit && others >= limit; i++) {
        int other = atomic_load(&members->pids[i]);
        beside += other != 0 && other != (int)pid && runs_beside(&members->pids[i], other);
    }
    return limit && beside >= limit ? "more members than permits" : NULL;
}
static const char *begins_run(const order *o, p_try *t, pid_t pid, int before) {
    const char *wrong = NULL;
    if (atomic_load(&t->freed)) return "it runs after its arg_free";
    if (atomic_load(&t->seen)) return "it runs after its end";
    if (before > o->early) return "it runs once too often";
    if (o->periodic && atomic_load(&t->ended) != before) return "two runs at once, or one after a failure";
    for (int i = 0; i < PERMIT_LEVELS && o->permits[i].group >= 0 && !wrong; i++)
        wrong = enters_group(&p_members_of[o->permits[i].group], o->permits[i].limit, pid);
    return wrong;
}
static void ends_run(const order *o, p_try *t, pid_t pid) {
    if (getpid() != pid) return; /* a child that it has forked */
    for (int i = 0; i < PERMIT_LEVELS && o->permits[i].group >= 0; i++)
        for (int k = 0; k < MEMBERS_AT_ONCE; k++) {
            int expected = (int)pid;
            (void)atomic_compare_exchange_strong(&p_members_of[o->permits[i].group].pids[k], &expected, 0);
        }
    atomic_fetch_add(&t->ended, 1);
}
enum { EARLY_CODE = 2000, EARLY_EXIT = 201 };
static void *order_deed(const order *travels);
static void *order_body(void *arg) {
    order o;
    memcpy(&o, arg, sizeof o);
    if (getpid() == program_pid) return tpool_raise(1000, "in the program");
    if (tpool_arg_size() != sizeof o + o.size) return tpool_raise(1001, "%zu bytes", tpool_arg_size());
    for (size_t i = 0; i < o.size; i++)
        if (((unsigned char *)arg)[sizeof o + i] != pattern(o.seed, i)) return tpool_raise(1002, "byte %zu", i);
    p_try *t = &p_tries[id_of(o.record)];
    pid_t pid = getpid();
    int before = atomic_fetch_add(&t->begun, 1);
    const char *wrong = begins_run(&o, t, pid, before);
    if (wrong) atomic_store(&t->wrong, wrong);
    void *value = arg;
    if (before >= o.early) {
        if (o.periodic) tpool_last_run();
        value = order_deed(&o);
    } else {
        rng g = { mix(o.seed, 500 + (uint64_t)before) };
        if (one_in(&g, 3)) sleep_us((long)draw(&g, 500));
        bool fails = !o.periodic || one_in(&g, 12), exits = fails && one_in(&g, 3);
        if (fails) atomic_store(&t->early_end, exits ? ENDED_EARLY : RAISED_EARLY);
        if (exits) _exit(EARLY_EXIT);
        if (fails) value = tpool_raise(EARLY_CODE, "not yet");
    }
    ends_run(&o, t, pid);
    return value;
}
static void *order_deed(const order *travels) {
    order o = *travels;
    rng g = { o.seed };
    switch ((deed)o.deed) {
    case P_BYTES:
    case P_BIG: {
        size_t size = 1 + o.seed % (o.deed == P_BIG ? 300000 : 500);
        unsigned char *bytes = malloc(size);
        if (!bytes) return tpool_raise(1003, "memory");
        for (size_t i = 0; i < size; i++) bytes[i] = (unsigned char)pattern(o.seed, i);
        void *given = tpool_return(bytes, size);
        free(bytes);
        return given;
    }
    case P_RAISES: return tpool_raise((int)o.seed, "%0*d", 1 + (int)(o.seed % 2000), 5);
    case P_NOTHING: return NULL;
    case P_SLEEPS: sleep_us((long)draw(&g, 4000)); break;
    case P_PRINTS: printf("%u and more of it\n", o.seed); break;
    case P_STOP_AWARE: {
        atomic_int wakes = 0;
        tpool_status status = tpool_on_stop(count_wake, &wakes);
        if (status != TPOOL_OK && status != TPOOL_NO_MEMORY) return tpool_raise(1008, "on_stop");
        for (int i = 0; i < 20 && !tpool_stop_requested(); i++) sleep_us(200);
        if (tpool_on_stop(NULL, NULL) != TPOOL_OK || atomic_load(&wakes) > 1) return tpool_raise(1009, "wakes");
        break;
    }
    case P_POOL_OF_ITS_OWN: {
        tpool *pool = NULL;
        tpool_future *future = NULL;
        if (tpool_create(&pool, &(tpool_config){ .max_workers = 2 }) != TPOOL_OK) break;
        if (tpool_submit(pool, nop, NULL, &future) == TPOOL_OK) {
            if (tpool_future_result(future, TPOOL_FOREVER, NULL) != TPOOL_OK) return tpool_raise(1004, "its own pool");
            tpool_future_release(future);
        }
        tpool_destroy(pool);
        break;
    }
    case P_FOR: {
        atomic_int sum = 0;
        tpool_job job;
        tpool_fork(&job, nop, &sum);
        if (tpool_join(&job) != &sum) return tpool_raise(1005, "its own join");
        break;
    }
    case P_CLOSES_ALL:
        for (int fd = 0; fd < 1024; fd++) close(fd);
        break;
    case P_SHARES:
        for (unsigned i = 0, times = 1 + draw(&g, 5); i < times && o.shared; i++) {
            const char *wrong = shares(o.shared, o.channel, &g, false);
            if (wrong) return tpool_raise(1010, "%s", wrong);
        }
        break;
    case P_FORKS_AND_RETURNS: {
        pid_t child = fork();
        int status = 0;
        if (child <= 0) break; /* the child ends as it returns */
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) { }
        break;
    }
    case P_GRANDCHILD:
        if (fork() == 0) {
            sleep_us(100000);
            _exit(0);
        }
        break;
    case P_CRASHES:
        signal(SIGSEGV, SIG_DFL);
        raise(SIGSEGV);
        break;
    case P_KILLS_ITSELF: kill(getpid(), SIGKILL); break;
    case P_ABORTS: signal(SIGABRT, SIG_DFL); abort();
    case P_EXITS: _exit((int)(o.seed % 200));
    case P_STOPS: kill(getpid(), SIGSTOP); break;
    case P_BECOMES_ANOTHER:
        if (low_limits) _exit(7); /* the other program could not even load */
        execl("/bin/sh", "sh", "-c", "exit 7", (char *)NULL);
        break;
    case P_KILLS_ITS_GROUP:
        kill(0, SIGKILL);
        sleep_us(100000);
        break;
    case P_ENDS_ITS_THREAD: pthread_exit(NULL);
    case P_RETURNS_OWNED: return tpool_return_owned(&program_pid, no_free);
    case P_SMALL_MEMORY: {
        unsigned char *bytes = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (bytes == MAP_FAILED) break;
        low_limits = true;
        if (draw(&g, 2)) setrlimit(RLIMIT_AS, &(struct rlimit){ 1 << 20, 1 << 20 });
        return tpool_return(bytes, 1 + o.seed % (1 << 20));
    }
    case P_SMALL_FILES:
        low_limits = true;
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 0, 0 });
        setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 3, 3 });
        break;
    default: break;
    }
    return (void *)(uintptr_t)(o.seed | 1);
}
/* The ends that it may have come to, by itself. */
/* Of each pool: whether an initializer has given false, in memory that all processes share. */
static atomic_int *pool_breaks;
static bool process_breaks(int p) { return atomic_load(&pool_breaks[p]) != 0; }
/* Its initializer leaves no address space: what does not fit fails, and costs no worker. (AddressSanitizer ends a
   process that has none.) */
static bool is_small(int p) {
    return !ASAN && has(LIMITS) && pools[p].config.initializer && mix(world_seed, 77 + (uint64_t)p) % 3 == 0;
}
static bool processes_refused(void) { return may_refuse() || atomic_load(&forks_shared_by_all->refused); }
static void judge_order(record *r, tpool_future *future, tpool_status status, void *value) {
    p_record *o = &p_records[id_of(r)];
    const tpool_error *error = NULL;
    int seen = atomic_load(&r->seen);
    const char *wrong = NULL;
    bool killed =
        o->may_be_killed || atomic_load(&workers_killed) || atomic_load(&r->timeout_tried) || processes_refused();
    if (status != TPOOL_OK &&
        tpool_future_error(future, 0, &error) != (status == TPOOL_CANCELLED ? TPOOL_CANCELLED : TPOOL_OK))
        wrong = "no error";
    if (status != TPOOL_OK && (!error || !error->message || !error->message[0])) wrong = "no message";
    if (seen && seen != (int)status + 1) wrong = "two ends";
    atomic_store(&r->seen, (int)status + 1);
    p_try *t = &p_tries[id_of(r)];
    const a_pool *p = &pools[r->pool];
    atomic_store(&t->seen, 1);
    if (atomic_load(&t->wrong)) wrong = atomic_load(&t->wrong);
    /* before the run that counts; tries that have not begun count, too: an argument may not fit */
    bool early = r->early && atomic_load(&t->begun) <= r->early;
    int early_end = atomic_load(&t->early_end);
    bool may_end_early = r->periodic || killed || is_small(r->pool) || process_breaks(r->pool) || may_be_stopped(r);
    switch (status) {
    case TPOOL_CANCELLED:
        if (!atomic_load(&r->cancel_tried) && !atomic_load(&r->timeout_tried) && !atomic_load(&p->may_cancel) &&
            !group_may_cancel(r->group) && !group_may_drop(r->group) &&
            !(r->timed && (atomic_load(&p->ends) || atomic_load(&p->shut))) &&
            p->config.on_full != TPOOL_FULL_DROP_OLDEST)
            wrong = "CANCELLED without reason";
        if (!early && atomic_load(&t->begun)) wrong = "CANCELLED, and run";
        break;
    case TPOOL_EXPIRED:
        if (!r->expires) wrong = "EXPIRED without a limit";
        break;
    case TPOOL_BROKEN:
        if (early) {
            bool well =
                early_end == ENDED_EARLY && error && error->code == EARLY_EXIT && (r->periodic || may_be_stopped(r));
            if (!well && !killed && !process_breaks(r->pool)) wrong = "BROKEN before the last run, without reason";
            break;
        }
        if (o->deed < P_CLOSES_ALL && !killed && !process_breaks(r->pool)) wrong = "BROKEN without reason";
        if (error && !killed && !process_breaks(r->pool)) {
            int code = o->deed == P_CRASHES                                        ? -SIGSEGV
                       : o->deed == P_KILLS_ITSELF || o->deed == P_KILLS_ITS_GROUP ? -SIGKILL
                       : o->deed == P_STOPS                                        ? -SIGSTOP
                       : o->deed == P_ABORTS                                       ? -SIGABRT
                       : o->deed == P_EXITS                                        ? (int)(o->seed % 200)
                       : o->deed == P_BECOMES_ANOTHER                              ? 7
                                                                                   : error->code;
            if (code != error->code) wrong = "BROKEN with another code";
        }
        break;
    case TPOOL_FAILED:
        if (is_small(r->pool) && error && (error->code == ENOMEM || error->code == 1003)) break;
        if (early) {
            bool well = early_end == RAISED_EARLY && error && error->code == EARLY_CODE;
            if (!well || !may_end_early) wrong = "FAILED before the last run, without reason";
            break;
        }
        if (o->deed == P_RAISES) {
            if (error && error->code != (int)o->seed) wrong = "another code";
        } else if (o->deed != P_RETURNS_OWNED && o->deed != P_SMALL_MEMORY && o->deed != P_SMALL_FILES &&
                   o->deed != P_BIG)
            wrong = "FAILED without raise";
        break;
    case TPOOL_OK: {
        size_t size = tpool_future_result_size(future);
        if (early) {
            if (!r->periodic || !may_be_stopped(r) || value || size) wrong = "OK before the last run";
            break;
        }
        if (o->deed == P_BYTES || o->deed == P_BIG) {
            if (size != 1 + o->seed % (o->deed == P_BIG ? 300000 : 500)) wrong = "bytes of another number";
            else
                for (size_t i = 0; i < size; i++)
                    if (((unsigned char *)value)[i] != pattern(o->seed, i)) wrong = "other bytes";
        } else if (o->deed == P_NOTHING) {
            if (value) wrong = "another pointer";
        } else if (o->deed >= P_CRASHES && o->deed < P_SMALL_MEMORY) wrong = "OK, and it cannot be";
        else if (o->deed == P_RAISES) wrong = "OK, though it raised";
        else if (o->deed != P_SMALL_MEMORY && value != (void *)(uintptr_t)(o->seed | 1)) wrong = "another pointer";
        break;
    }
    default: wrong = "no end"; break;
    }
    if (!wrong && atomic_load(&r->frees) != r->wants_free) wrong = "done before its arg_free";
    if (wrong) {
        tell(r);
        fail("%s, seed %u, %u bytes: %s (%d, %s): %s", deed_names[o->deed], o->seed, o->size, tpool_status_name(status),
             error ? error->code : 0, error ? error->message : "", wrong);
    }
}
static void free_order(void *arg) {
    order o;
    memcpy(&o, arg, sizeof o);
    if (getpid() != program_pid) fail("arg_free in a worker");
    if (atomic_fetch_add(&o.record->frees, 1)) fail("task %d: arg_free twice", id_of(o.record));
    atomic_store(&p_tries[id_of(o.record)].freed, 1);
}
static void order_done(tpool_future *future, void *context) {
    note *n = context;
    if (atomic_fetch_add(&n->runs, 1)) fail("a callback twice");
    void *value = NULL;
    tpool_status status = tpool_future_result(future, 0, &value);
    judge_order(n->record, future, status, value);
}
static void order_failed(const tpool_error *error, void *context) {
    if (!error || !error->message || error->status == TPOOL_OK) fail("on_failure without a failure");
    record *r = &records[(size_t)(error->task - (const char *)records) / sizeof(record)];
    if (&pools[r->pool] != context) fail("on_failure of another pool");
    if (atomic_fetch_add(&r->failures, 1)) fail("task %d: on_failure twice", id_of(r));
}
static bool process_initializer(void *context) {
    int p = (int)((a_pool *)context - pools);
    rng g = { mix(world_seed, (uint64_t)getpid()) };
    if (is_small(p)) {
        low_limits = true;
        setrlimit(RLIMIT_AS, &(struct rlimit){ 1 << 20, 1 << 20 });
    }
    if (!has(FAILING_INITIALIZERS)) return true;
    if (pools[p].hangs && one_in(&g, 3)) sleep_us(600000000);
    switch (draw(&g, 16)) {
    case 0: atomic_store(&pool_breaks[p], 1); return false;
    case 1: _exit(4);
    case 2: (void)kill(getpid(), SIGTERM); break;
    case 3: sleep_us(draw(&g, 4) ? 20000 : 400000); break;
    default: break;
    }
    return true;
}
static void process_finalizer(void *context) {
    if (context < (void *)pools || context >= (void *)(pools + POOLS)) _exit(6);
}
static deed draw_deed(rng *g) {
    for (;;) {
        deed d = one_in(g, 3) ? (deed)draw(g, DEEDS) : (deed)draw(g, P_CRASHES);
        if (!(deeds_never >> d & 1)) return d;
    }
}
static void give_order(rng *g, int p) {
    record *r = new_record(g, p, 0);
    if (!r) return;
    p_record *o = &p_records[id_of(r)];
    *o = (p_record){ .deed = draw_deed(g), .seed = (uint32_t)draw64(g) };
    o->size = one_in(g, 3) ? draw(g, one_in(g, 4) ? 200000 : 300) : 0;
    unsigned char *bytes = malloc(sizeof(order) + o->size);
    if (!bytes) return;
    order travels = { .shared = p_shares[p],
                      .channel = p_channels[p],
                      .deed = (int)o->deed,
                      .seed = o->seed,
                      .size = o->size,
                      .record = r };
    tpool_task task = { .fn = order_body, .arg = bytes, .arg_size = sizeof travels + o->size, .name = r->name };
    r->named = true;
    r->wants_free = one_in(g, 2);
    if (r->wants_free) task.arg_free = free_order;
    if (one_in(g, 6)) {
        task.expires_ns = some_expiry(g);
        r->expires = true;
    }
    if (one_in(g, 6)) {
        task.run_limit_ns = 1 + draw(g, 5000000);
        o->may_be_killed = true;
    }
    if (one_in(g, 8)) {
        task.timeout_ns = some_expiry(g);
        o->may_be_killed = r->expires = true;
    }
    if (one_in(g, 4)) task.priority = (int)draw(g, 3) - 1;
    tpool_future *future = NULL;
    tpool_status status;
    bool limited = one_in(g, 5);
    if (has(GROUPS) && group_count > 0 && one_in(g, 3)) r->group = &groups[draw(g, (unsigned)group_count)];
    if (self()->group) r->group = self()->group;
    if (r->group) task.group = r->group->handle;
    int level = 0;
    for (const a_group *group = r->group; group; group = group->parent, level++) {
        bool of_world = group >= groups && group < groups + GROUPS_OF_WORLD;
        travels.permits[level].group = of_world ? (int)(group - groups) : GROUPS_OF_WORLD + (int)(group - scopes);
        travels.permits[level].limit = group->limit;
    }
    for (; level < PERMIT_LEVELS; level++) travels.permits[level].group = -1;
    if (has(REPEATS) && one_in(g, 4)) {
        /* what shares ends before the memory does, and a drain waits for no next run */
        repeat(g, r, &task, limited || o->deed == P_SHARES);
        task.fn = order_body;
        travels.early = r->early;
        travels.periodic = r->periodic;
    }
    memcpy(bytes, &travels, sizeof travels);
    for (size_t i = 0; i < o->size; i++) bytes[sizeof travels + i] = (unsigned char)pattern(o->seed, i);
    r->has_future = limited || !one_in(g, 4);
    about_to_submit(r);
    if (limited) {
        int64_t limit = TPOOL_US(draw(g, 20000));
        atomic_store(&r->timeout_tried, true);
        status = CALL(p, tpool_run_with_timeout(pools[p].handle, &task, limit, &future));
        if (!future && status == TPOOL_OK) fail("OK, and not taken");
    } else {
        status = CALL(p, tpool_submit_task(pools[p].handle, &task, r->has_future ? &future : NULL));
    }
    free(bytes);
    bool took = limited ? future != NULL : status == TPOOL_OK;
    if (!took && status != TPOOL_TIMEOUT && status != TPOOL_SHUTDOWN &&
        !(status == TPOOL_NO_THREAD && processes_refused()) && !(status == TPOOL_BROKEN && process_breaks(p)) &&
        !(status == TPOOL_FULL && (pools[p].config.on_full == TPOOL_FULL_REJECT || group_may_be_full(r->group))) &&
        !(status == TPOOL_CANCELLED && group_may_cancel(r->group)))
        fail("a submit gave %s", tpool_status_name(status));
    taken(r, future, took ? TPOOL_OK : TPOOL_SHUTDOWN);
    if (future && one_in(g, 4)) {
        int at = atomic_fetch_add(&note_count, 1);
        if (at < NOTES) {
            notes[at].record = r;
            status = tpool_future_add_done_callback(future, order_done, &notes[at]);
            if (status != TPOOL_OK) fail("adding a callback gave %s", tpool_status_name(status));
            atomic_store(&notes[at].added, 1);
        }
    }
}
typedef struct map_order {
    uint32_t seed;
} map_order;
static size_t size_of_item(uint32_t seed) { return seed % 16 > 5 ? sizeof seed : 1 + seed % 100000; }
static bool is_result_of_item(uint32_t seed, const unsigned char *bytes, size_t size) {
    bool well = size == size_of_item(seed);
    if (seed % 16 > 5) return well && memcmp(bytes, &seed, sizeof seed) == 0;
    for (size_t i = 0; i < size && well; i++) well = bytes[i] == (unsigned char)pattern(seed, i);
    return well;
}
static void *map_order_body(void *item, void *context) {
    map_order o;
    memcpy(&o, item, sizeof o);
    if (context && memcmp(context, "context", 8) != 0) return tpool_raise(4, "another context");
    if (o.seed % 16 == 0) _exit(5);
    if (o.seed % 16 == 1) return tpool_raise(3, "item");
    if (o.seed % 16 == 2)
        for (int fd = 3; fd < 1024; fd++) close(fd);
    if (o.seed % 16 > 5) return tpool_return(&o, sizeof o);
    size_t size = size_of_item(o.seed);
    unsigned char *bytes = malloc(size);
    if (!bytes) return tpool_raise(1003, "memory");
    for (size_t i = 0; i < size; i++) bytes[i] = (unsigned char)pattern(o.seed, i);
    void *given = tpool_return(bytes, size);
    free(bytes);
    return given;
}
static void map_in_processes(rng *g, int p) {
    map_order items[12];
    char context[8] = "context";
    tpool_map_iter *iter = NULL;
    void *value = NULL;
    size_t count = draw(g, 13), delivered = 0;
    bool closes = false; /* an item, all descriptors: it costs the worker, and the item at hand by then */
    for (size_t i = 0; i < count; i++) {
        items[i].seed = (uint32_t)draw64(g);
        closes = closes || items[i].seed % 16 == 2;
    }
    tpool_map_spec spec = { .fn = map_order_body,
                            .items = items,
                            .count = count,
                            .stride = sizeof items[0],
                            .item_size = sizeof items[0],
                            .context = context,
                            .context_size = one_in(g, 2) ? sizeof context : 0,
                            .chunk_size = draw(g, 4),
                            .buffer_size = draw(g, 5),
                            .unordered = one_in(g, 2),
                            .run_limit_ns = one_in(g, 3) ? TPOOL_US(1 + draw(g, 3000)) : 0 };
    atomic_fetch_add(&pools[p].others, 1);
    tpool_status status = CALL(p, tpool_map(pools[p].handle, &spec, &iter));
    if (status != TPOOL_OK) return;
    while (!one_in(g, 30) && (status = CALL(p, tpool_map_next(iter, TPOOL_FOREVER, &value))) != TPOOL_END) {
        size_t index = tpool_map_index(iter);
        uint32_t seed = items[index < 12 ? index : 0].seed;
        bool well = delivered < count && (spec.unordered || status == TPOOL_FULL || index == delivered);
        if (status == TPOOL_OK)
            well = well && seed % 16 > 1 && is_result_of_item(seed, value, tpool_map_result_size(iter));
        else if (status == TPOOL_FAILED) well = well && (seed % 16 == 1 || is_small(p));
        else if (status == TPOOL_BROKEN)
            well = well && (seed % 16 == 0 || closes || spec.run_limit_ns || atomic_load(&workers_killed) ||
                            process_breaks(p) || processes_refused());
        else if (status == TPOOL_CANCELLED)
            well = well && (atomic_load(&pools[p].may_cancel) || atomic_load(&pools[p].shut) ||
                            pools[p].config.on_full == TPOOL_FULL_DROP_OLDEST);
        else if (status == TPOOL_NO_THREAD && processes_refused()) break;
        else if (status == TPOOL_FULL && pools[p].config.on_full == TPOOL_FULL_REJECT) {
            sleep_us(300);
            continue;
        } else well = false;
        if (!well)
            fail("item %zu of %zu of a map in processes, seed %% 16 is %u: %s", delivered, count, seed % 16,
                 tpool_status_name(status));
        delivered++;
    }
    DO(p, tpool_map_close(iter));
}
static void about_process_group(tpool_status status, int64_t limit, const tpool_error *error) {
    if (error && (error->cause != status || !error->message)) fail("another error of a group");
    if (is_end(status) || (status == TPOOL_TIMEOUT && limit != TPOOL_FOREVER) ||
        (status == TPOOL_NO_THREAD && processes_refused()))
        return;
    fail("a wait for a group gave %s", tpool_status_name(status));
}
static void over_process_group(rng *g) {
    a_group *group = &groups[draw(g, (unsigned)group_count)];
    int64_t limit = one_in(g, 3) ? TPOOL_FOREVER : TPOOL_US(draw(g, 3000));
    const tpool_error *error = NULL;
    tpool_future *future = NULL;
    tpool_status status;
    switch (draw(g, 6)) {
    case 0:
        if (!has(CANCELS) || !one_in(g, 3)) break;
        atomic_store(&group->may_cancel, true);
        if (CALL(-1, tpool_group_cancel(group->handle)) != TPOOL_OK) fail("a group is not cancelled");
        break;
    case 1:
        if (CALL(-1, tpool_group_future(group->handle, &future)) != TPOOL_OK) fail("no future of a group");
        about_process_group(CALL(-1, tpool_future_result(future, limit, NULL)), limit, NULL);
        tpool_future_release(future);
        break;
    default:
        status = CALL(-1, tpool_group_wait(group->handle, limit, &error));
        about_process_group(status, limit, error);
        break;
    }
}
/* A scope: it is OK if all its members are, and only then. */
static void process_scope(rng *g, int p) {
    int at = atomic_fetch_add(&scope_count, 1);
    if (at >= SCOPES) {
        atomic_store(&scope_count, SCOPES);
        return;
    }
    a_group *group = &scopes[at];
    tpool_group_config config = { .limit = one_in(g, 2) ? 1 + (int)draw(g, 2) : 0,
                                  .on_failure = (tpool_group_failure)draw(g, 3) };
    group->limit = config.limit;
    group->keeps_going = config.on_failure == TPOOL_GROUP_KEEP_GOING;
    atomic_store(&group->may_cancel, !group->keeps_going);
    if (CALL(-1, tpool_group_create(&group->handle, &config)) != TPOOL_OK) fail("no group");
    int first = atomic_load(&record_count);
    for (unsigned n = draw(g, 6); n > 0; n--) {
        self()->group = group;
        give_order(g, p);
        self()->group = NULL;
    }
    tpool_status status = CALL(p, tpool_group_destroy(group->handle));
    about_process_group(status, TPOOL_FOREVER, NULL);
    if (!is_end(status)) return;
    bool all_known = true, all_well = true;
    for (int i = first; i < atomic_load(&record_count) && i < RECORDS; i++) {
        record *r = &records[i];
        if (atomic_load(&r->taken) != 1 || r->group != group) continue;
        if (atomic_load(&r->frees) != r->wants_free) fail("a scope has ended before an arg_free");
        pthread_mutex_lock(&r->lock);
        tpool_future *future = r->future ? tpool_future_retain(r->future) : NULL;
        pthread_mutex_unlock(&r->lock);
        all_known = all_known && future;
        if (future) all_well = tpool_future_result(future, 0, NULL) == TPOOL_OK && all_well;
        tpool_future_release(future);
    }
    if (status == TPOOL_OK ? !all_well : all_known && all_well) fail("a scope came to %s", tpool_status_name(status));
}
static void process_act(rng *g) {
    int p = pool_of_life(g);
    record *r = NULL;
    tpool_future *future;
    if (!use(p)) return;
    tpool *pool = pools[p].handle;
    switch (draw(g, 24)) {
    case 22:
        if (group_count > 0) over_process_group(g);
        break;
    case 23:
        if (has(GROUPS)) process_scope(g, p);
        break;
    case 20:
    case 21:
        if (p_shares[p]) {
            begin("what processes share", p);
            const char *wrong = shares(p_shares[p], p_channels[p], g, processes_refused());
            if (wrong) fail("shared: %s", wrong);
            end();
        }
        break;
    case 0:
        if (has(PAUSES)) {
            CALL(p, tpool_pause(pool));
            atomic_store(&pools[p].paused, true);
        }
        break;
    case 1:
        if (has(RESIZES)) CALL(p, tpool_resize(pool, 1 + (int)draw(g, 3)));
        break;
    case 2: CALL(p, tpool_warm_up(pool, (int)draw(g, 3))); break;
    case 3:
        if (has(CANCELS) && one_in(g, 2)) {
            atomic_store(&workers_killed, true);
            CALL(p, tpool_kill_workers(pool));
        }
        break;
    case 4:
    case 5:
        if (has(MAP_CALLS)) map_in_processes(g, p);
        break;
    case 6:
        if (has(SHUTDOWNS) && one_in(g, 6)) {
            unsigned flags = draw(g, 8);
            atomic_store(&pools[p].shut, true);
            if (flags & TPOOL_CANCEL_PENDING) atomic_store(&pools[p].may_cancel, true);
            if (flags & TPOOL_STOP_RUNNING) atomic_store(&pools[p].may_stop, true);
            CALL(p, tpool_shutdown(pool, flags));
        }
        break;
    case 7:
        if (has(DRAINS)) CALL(p, tpool_drain(pool, one_in(g, 2) ? TPOOL_FOREVER : TPOOL_MS(1)));
        break;
    case 8:
    case 9:
    case 10:
    case 11:
        if ((future = pick(g, &r, false)) == NULL) break;
        switch (draw(g, 4)) {
        case 0:
            if (has(CANCELS)) {
                atomic_store(&r->cancel_tried, true);
                CALL(id_of(r), tpool_future_cancel(future));
            }
            break;
        case 1:
            atomic_store(&r->stop_tried, true);
            DO(id_of(r), tpool_future_request_stop(future));
            break;
        default: {
            void *value = NULL;
            int64_t limit = one_in(g, 2) ? TPOOL_FOREVER : TPOOL_MS(draw(g, 5));
            tpool_status status = CALL(id_of(r), tpool_future_result(future, limit, &value));
            if (is_end(status)) judge_order(r, future, status, value);
            else if ((status != TPOOL_TIMEOUT || limit == TPOOL_FOREVER) &&
                     !(status == TPOOL_NO_THREAD && processes_refused()))
                fail("a wait gave %s", tpool_status_name(status));
            break;
        }
        }
        release(future);
        break;
    default: give_order(g, p); break;
    }
    unuse(p);
}
static void *process_program(void *arg) {
    program *me = arg;
    rng g = { me->seed };
    self()->program = 1;
    atomic_store(&self()->name, "program");
    for (int i = 0; i < me->operations; i++) process_act(&g);
    return NULL;
}
static void play_processes(uint64_t seed) {
    rng g = { seed };
    world_seed = seed;
    program_pid = getpid();
    features = 0;
    for (int f = 0; f < FEATURES; f++)
        if (one_in(&g, 2)) features |= UINT64_C(1) << f;
    features = (features | features_always) & ~features_never;
    atomic_store(&delay_mask, one_in(&g, 2) ? 0 : 127);
    atomic_store(&delay_hot, (uint32_t)draw64(&g));
    atomic_store(&delay_long_us, 300);
    atomic_store(&delay_seed, (uint32_t)draw64(&g));
    atomic_store(&refused_once, 0);
    atomic_store(&world_ends, false);
    atomic_store(&workers_killed, false);
    atomic_store(&pool_count, 0);
    int wanted = 1 + (int)draw(&g, 2), count = 1 + (int)draw(&g, 3), ends[2];
    if (!pool_breaks) {
        pool_breaks =
            mmap(NULL, POOLS * sizeof *pool_breaks, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        forks_shared_by_all =
            mmap(NULL, sizeof *forks_shared_by_all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        p_tries = mmap(NULL, RECORDS * sizeof *p_tries, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        p_members_of = mmap(NULL, (GROUPS_OF_WORLD + SCOPES) * sizeof *p_members_of, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (pool_breaks == MAP_FAILED || forks_shared_by_all == MAP_FAILED || p_tries == MAP_FAILED ||
            p_members_of == MAP_FAILED)
            fail("no shared memory");
    }
    memset((void *)p_tries, 0, RECORDS * sizeof *p_tries);
    memset((void *)p_members_of, 0, (GROUPS_OF_WORLD + SCOPES) * sizeof *p_members_of);
    bool refuses_some = has(REFUSED_THREADS) && one_in(&g, 2);
    atomic_store(&refusal_draws, draw64(&g));
    atomic_store(&forks_shared_by_all->draws, (unsigned)draw64(&g));
    atomic_store(&forks_shared_by_all->refused, 0);
    atomic_store(&forks_shared_by_all->rate, refuses_some ? 2 + draw(&g, 10) : 0);
    if (pipe(ends) != 0) fail("no pipe");
    for (int i = 0; i < wanted; i++) {
        a_pool *p = &pools[i];
        memset(p, 0, sizeof *p);
        snprintf(p->name, sizeof p->name, "pool%d", i);
        p->config = (tpool_config){ .name = one_in(&g, 4) ? NULL : p->name,
                                    .kind = TPOOL_PROCESSES,
                                    .max_workers = 1 + (int)draw(&g, 3),
                                    .on_failure = order_failed };
        if (has(MAX_TASKS) && one_in(&g, 2)) p->config.max_tasks_per_worker = 1 + draw(&g, 3);
        if (has(IDLE_TIMES) && one_in(&g, 2)) p->config.idle_timeout_ns = 1 + draw(&g, 2000000);
        if (has(FULL_QUEUES) && one_in(&g, 2)) {
            p->config.queue_capacity = 1 + draw(&g, 4);
            p->config.on_full = (tpool_full_policy)draw(&g, 4);
        }
        p->config.context = p;
        if (has(INITIALIZERS) && one_in(&g, 2)) p->config.initializer = process_initializer;
        p->hangs = p->config.initializer && has(FAILING_INITIALIZERS) && has(LIMITS) && has(CANCELS) && one_in(&g, 2);
        if (p->hangs) atomic_store(&workers_killed, true); /* by the nurse */
        if (has(INITIALIZERS) && one_in(&g, 2)) p->config.finalizer = process_finalizer;
        if (has(IDLE_TIMES) && one_in(&g, 2))
            p->config.min_workers = (int)draw(&g, (unsigned)p->config.max_workers + 1);
        if (has(MEASURE) && one_in(&g, 3)) {
            p->config.observer = observe_pool;
            p->config.observed = one_in(&g, 2) ? 255 : draw(&g, 256);
        }
        p->config.descriptors = ends;
        p->config.descriptor_count = draw(&g, 3);
        if (has(CHANNELS)) p->config.shared_size = 1 << 20;
        tpool *none = NULL;
        if (one_in(&g, 4) && tpool_create(&none, &(tpool_config){ .kind = TPOOL_PROCESSES,
                                                                  .descriptors = &(int){ 1 << 20 },
                                                                  .descriptor_count = 1 }) != TPOOL_INVALID)
            fail("a descriptor that is not open is inherited");
        forget_counts(i);
        atomic_store(&pool_breaks[i], 0);
        if (has(MEASURE)) p->config.measure = one_in(&g, 2);
        if (has(SMALL_STACKS) && one_in(&g, 2)) p->config.stack_size = 512 << 10;
        tpool_status status;
        do status = CALL(i, tpool_create(&p->handle, &p->config));
        while (status == TPOOL_NO_THREAD && processes_refused());
        if (status != TPOOL_OK) fail("tpool_create gave %s", tpool_status_name(status));
        if (has(CHANNELS)) begin_sharing(i, &g);
        atomic_store(&p->alive, true);
        atomic_store(&pool_count, i + 1);
    }
    open_groups(&g);
    atomic_store(&refuse_threads, refuses_some ? 2 + draw(&g, 10) : 0);
    uint64_t nurse_seed = draw64(&g);
    pthread_t nursing;
    if (pthread_create(&nursing, NULL, nurse, &nurse_seed) != 0) fail("no thread");
    for (int i = 0; i < count; i++) {
        programs[i].seed = draw64(&g);
        programs[i].operations = 5 + (int)draw(&g, SLOW ? 15 : 40);
        if (pthread_create(&programs[i].thread, NULL, process_program, &programs[i]) != 0) fail("no thread");
    }
    begin("joining the program's threads", -1);
    for (int i = 0; i < count; i++) pthread_join(programs[i].thread, NULL);
    end();
    atomic_store(&refuse_threads, 0);
    atomic_store(&forks_shared_by_all->rate, 0);
    begin("the end of the world", -1);
    for (int i = 0; i < wanted; i++) {
        if (one_in(&g, 2) || pools[i].hangs ||
            p_shares[i]) { /* what waits for an initializer that hangs waits until it is killed */
            CALL(i, tpool_drain(pools[i].handle, TPOOL_FOREVER));
            if (atomic_load(&pools[i].repeats)) await_ends(i);
            check_rest(i);
        }
        if (p_shares[i]) end_sharing(i);
        destroy_pool(i, true);
        check_observed(i);
    }
    close(ends[0]);
    close(ends[1]);
    atomic_store(&world_ends, true);
    pthread_join(nursing, NULL);
    close_groups();
    for (int i = 0; i < RECORDS; i++)
        if (atomic_load(&p_tries[i].wrong)) fail("task %d: %s", i, atomic_load(&p_tries[i].wrong));
    for (int i = 0; i < atomic_load(&record_count) && i < RECORDS; i++) {
        record *r = &records[i];
        void *value = NULL;
        if (r->future) {
            tpool_status status = tpool_future_result(r->future, 0, &value);
            judge_order(r, r->future, status, value);
            drop(r);
        }
    }
    close_accounts();
    end();
    await_blocks();
    forget_world();
}
#endif
