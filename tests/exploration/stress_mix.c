/* All calls at once, by chance, on a few small pools that come and go and one that stays for long, for a while: every
 * policy, cancels, time limits, pauses, resizes, shutdowns, forks. Nothing may hang, what the pools count must be exactly
 * what the tasks count themselves, and in a run of 8 seconds or more the memory must not grow: it is measured whenever
 * no pool but the lasting one is there, and the median of the last quarter of the time may be above that of the second
 * by a twentieth and a mebibyte (what malloc keeps varies by less; not under sanitizers, which keep freed memory).
 *
 * Prints its seed, and how often it did what; a run of 20,000 steps or more, which are some seconds, fails if any of that
 * was never done. Usage: stress_mix [SECONDS [SEED]]; a soak is stress_mix 300 */
#include "internals/check.h"
#include "support.h"
#include <sched.h>
#include <sys/wait.h>

enum { POOLS = 3, USERS = 3, MOST = 16 };
static tpool *pools[POOLS]; /* the first one lasts */
/* What the tasks themselves count, of each pool. With `plain`, nothing else runs there: maps and loops are tasks of the
 * library's own beside these. */
static struct ledger {
    atomic_ulong taken, refused_full, ran, raised;
    bool plain;
} ledgers[POOLS];
static atomic_ulong tasks_made, cancels_made, timeouts_seen, resizes_made, shutdowns_made, forks_made, pools_made;
static atomic_ulong pools_measured;
static atomic_ulong joins_made,
    full_pools[4];        /* forked jobs that were joined; bounded pools, by what they do when full */
static tpool_stats ended; /* of all pools that are gone */
static int pool_count;
static atomic_bool users_stop;
static atomic_ulong progress, frees_owed;
static uint64_t seed;

static unsigned chance(unsigned below) {
    static _Thread_local uint64_t state;
    static atomic_ulong threads;
    if (!state) state = (seed + atomic_fetch_add(&threads, 1)) * UINT64_C(0x9E3779B97F4A7C15) | 1;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned)(state >> 33) % below;
}
static tpool *some_pool(void) { return pools[chance((unsigned)pool_count)]; }
static int index_of(const tpool *pool) {
    for (int i = 0; i < pool_count; i++)
        if (pools[i] == pool) return i;
    return -1;
}
static void die(const char *what) {
    fprintf(stderr, "FAILED: %s (seed %llu)\n", what, (unsigned long long)seed);
    abort();
}
/* Every task begins here. */
static struct ledger *enter(void) {
    int i = index_of(tpool_current());
    if (i < 0) die("a task runs in no pool");
    atomic_fetch_add(&ledgers[i].ran, 1);
    return &ledgers[i];
}

static void count_one_free(void *arg) {
    (void)arg;
    atomic_fetch_sub(&frees_owed, 1);
}
static void look_back(tpool_future *future, void *context) {
    (void)context;
    if (!tpool_future_done(future)) die("a callback ran before the end");
}
static void *leaf(void *arg) {
    struct ledger *ledger = enter();
    switch (chance(30)) {
    case 0: atomic_fetch_add(&ledger->raised, 1); return tpool_raise(3, "by chance");
    case 1: return tpool_return("bytes", 6);
    case 2: return tpool_return_owned(malloc(8), free);
    case 3: sched_yield(); break;
    default: break;
    }
    return arg;
}
static void *fib(void *arg) {
    intptr_t n = (intptr_t)arg;
    if (n < 2) return arg;
    tpool_job job;
    tpool_fork(&job, fib, (void *)(n - 1));
    intptr_t sum = (intptr_t)fib((void *)(n - 2));
    sum += (intptr_t)tpool_join(&job);
    if (n >= 5) atomic_fetch_add(&joins_made, 1);
    return (void *)sum;
}
static void *count_fib(void *arg) {
    enter();
    return fib(arg);
}
static void add_up(size_t begin, size_t end, void *context) { atomic_fetch_add((atomic_ulong *)context, end - begin); }
static void loop(tpool *pool) {
    atomic_ulong sum = 0;
    size_t count = chance(500);
    if (ledgers[index_of(pool)].plain) return;
    if (tpool_for(pool, 0, count, chance(10), add_up, &sum) == TPOOL_OK && atomic_load(&sum) != count)
        die("a loop left something out");
}
static void *map_item(void *item, void *context) {
    (void)context;
    return chance(40) ? item : tpool_raise(7, "item");
}
static bool count_down(void *context, void **item) {
    int *left = context;
    *item = left;
    return (*left)-- > 0;
}
static void map(tpool *pool) {
    int left = (int)chance(40);
    char array[40];
    tpool_map_iter *iter;
    tpool_map_spec spec = { .fn = map_item, .chunk_size = chance(4) };
    if (ledgers[index_of(pool)].plain) return;
    if (chance(2)) {
        spec.next = count_down;
        spec.context = &left;
        spec.buffer_size = 1 + chance(8);
    } else {
        spec.items = array;
        spec.count = (size_t)left;
        spec.stride = 1;
        spec.buffer_size = chance(8);
    }
    if (tpool_map(pool, &spec, &iter) != TPOOL_OK) return;
    for (unsigned most = chance(60); most > 0; most--) {
        void *result;
        if (tpool_map_next(iter, chance(3) ? TPOOL_FOREVER : chance(50000), &result) == TPOOL_END) break;
    }
    tpool_map_close(iter);
}

static void note_submit(tpool *pool, tpool_status status) {
    struct ledger *ledger = &ledgers[index_of(pool)];
    if (status == TPOOL_OK) {
        atomic_fetch_add(&ledger->taken, 1);
        atomic_fetch_add(&tasks_made, 1);
    } else if (status == TPOOL_FULL) {
        atomic_fetch_add(&ledger->refused_full, 1);
    } else if (status != TPOOL_SHUTDOWN) {
        die(tpool_status_name(status));
    }
}
static tpool_status submit(tpool *pool, tpool_fn fn, intptr_t arg, tpool_future **future) {
    tpool_task task = { .fn = fn, .arg = (void *)arg };
    if (chance(3) == 0) {
        task.name = "by chance";
        task.priority = (int)chance(3) - 1;
        task.arg_free = chance(2) ? count_one_free : NULL;
        *(chance(3) ? &task.expires_ns : &task.timeout_ns) = chance(6) ? 0 : 1 + chance(300000);
        task.run_limit_ns = chance(8) ? 0 : 1000;
    }
    if (task.arg_free) atomic_fetch_add(&frees_owed, 1);
    tpool_status status = tpool_submit_task(pool, &task, future);
    if (status != TPOOL_OK && task.arg_free) atomic_fetch_sub(&frees_owed, 1);
    note_submit(pool, status);
    return status;
}
/* Many at once, for which nobody asks. */
static void storm(tpool *pool) {
    tpool_task tasks[200];
    size_t count = chance(sizeof tasks / sizeof *tasks), submitted = 0;
    memset(tasks, 0, sizeof tasks);
    for (size_t i = 0; i < count; i++) tasks[i].fn = leaf;
    tpool_status status = tpool_submit_many(pool, tasks, count, NULL, &submitted);
    for (size_t i = 0; i < submitted; i++) note_submit(pool, TPOOL_OK);
    if (status != TPOOL_OK) note_submit(pool, status);
}
static void wait_somehow(tpool_future **futures, size_t count) {
    tpool_completions *completions;
    tpool_future *next;
    size_t done;
    switch (chance(4)) {
    case 0:
        for (size_t i = 0; i < count; i++)
            if (tpool_future_result(futures[i], chance(3) ? TPOOL_FOREVER : chance(300000), NULL) == TPOOL_TIMEOUT)
                atomic_fetch_add(&timeouts_seen, 1);
        break;
    case 1:
        tpool_wait(futures, count, (tpool_return_when)chance(3), chance(2) ? TPOOL_FOREVER : chance(300000), &done);
        break;
    case 2:
        if (tpool_as_completed(futures, count, &completions) != TPOOL_OK) break;
        while (chance(20) && tpool_completions_next(completions, chance(300000), &next) == TPOOL_OK) { }
        tpool_completions_destroy(completions);
        break;
    default:
        for (size_t i = 0; i < count; i++)
            if (chance(2) && tpool_future_cancel(futures[i])) atomic_fetch_add(&cancels_made, 1);
        break;
    }
}
static void *nest(void *arg) {
    intptr_t depth = (intptr_t)arg;
    tpool_future *futures[5];
    size_t count = 0;
    if (depth <= 0) return leaf(arg);
    enter();
    for (unsigned wanted = 1 + chance(5); wanted > 0; wanted--) {
        tpool *pool = chance(2) && tpool_current() ? tpool_current() : some_pool();
        count += submit(pool, chance(2) ? leaf : nest, depth - 1, &futures[count]) == TPOOL_OK;
    }
    if (chance(6) == 0) fib((void *)(intptr_t)(5 + chance(5)));
    if (chance(10) == 0) loop(some_pool());
    if (chance(20) == 0) map(some_pool());
    for (size_t i = 0; i < count; i++)
        if (chance(8) == 0) tpool_future_add_done_callback(futures[i], look_back, NULL);
    if (chance(6)) wait_somehow(futures, count);
    for (size_t i = 0; i < count; i++) tpool_future_release(futures[i]);
    atomic_fetch_add(&progress, 1);
    return NULL;
}

static void *use_pools(void *arg) {
    (void)arg;
    while (!atomic_load(&users_stop)) {
        tpool_future *futures[MOST];
        size_t count = 0;
        for (unsigned wanted = 1 + chance(MOST); wanted > 0; wanted--) {
            if (chance(6) == 0) (void)!submit(some_pool(), chance(2) ? leaf : count_fib, (intptr_t)chance(10), NULL);
            else
                count += submit(some_pool(), chance(2) ? leaf : nest, (intptr_t)(1 + chance(2)), &futures[count]) ==
                         TPOOL_OK;
        }
        wait_somehow(futures, count);
        if (chance(5) == 0) loop(some_pool());
        if (chance(8) == 0) map(some_pool());
        if (chance(3) == 0) storm(some_pool());
        if (chance(10) == 0) {
            tpool_task task = { .fn = leaf };
            tpool_future *future;
            tpool *pool = some_pool();
            tpool_status status = tpool_run_with_timeout(pool, &task, chance(100000), &future);
            if (status == TPOOL_TIMEOUT) atomic_fetch_add(&timeouts_seen, 1);
            if (future) note_submit(pool, TPOOL_OK);
            else if (status != TPOOL_TIMEOUT) note_submit(pool, status);
            tpool_future_release(future);
        }
        if (chance(30) == 0) tpool_drain(some_pool(), chance(2000000));
        for (size_t i = 0; i < count; i++) tpool_future_release(futures[i]);
        atomic_fetch_add(&progress, 1);
    }
    return NULL;
}
static void *square(void *arg) { return (void *)((intptr_t)arg * (intptr_t)arg); }
/* The child finds the parent's pools broken, and works with one of its own. */
static int be_a_child(void) {
    tpool *own;
    tpool_future *future = NULL;
    void *result;
    if (tpool_submit(pools[0], square, NULL, &future) != TPOOL_BROKEN || future) return 2;
    if (tpool_drain(pools[0], TPOOL_FOREVER) != TPOOL_BROKEN || tpool_create(&own, NULL) != TPOOL_OK) return 3;
    for (intptr_t i = 0; i < 20; i++) {
        if (tpool_submit(own, square, (void *)i, &future) != TPOOL_OK) return 4;
        if (tpool_future_result(future, TPOOL_FOREVER, &result) != TPOOL_OK || result != (void *)(i * i)) return 5;
        tpool_future_release(future);
    }
    return tpool_destroy(own) == TPOOL_OK ? 0 : 6;
}
static void fork_once(void) {
    int status;
    pid_t child = fork();
    if (child < 0) return;
    if (child == 0) {
        alarm(60);
        _exit(be_a_child());
    }
    if (waitpid(child, &status, 0) != child || status != 0) die("a forked child failed");
    atomic_fetch_add(&forks_made, 1);
}
static void *manage_pools(void *arg) {
    (void)arg;
    while (!atomic_load(&users_stop)) {
        tpool *pool = some_pool();
        switch (chance(4)) {
        case 0:
            tpool_pause(pool);
            sched_yield();
            tpool_resume(pool);
            break;
        case 1:
            tpool_resize(pool, 1 + (int)chance(3));
            atomic_fetch_add(&resizes_made, 1);
            break;
        case 2: tpool_warm_up(pool, (int)chance(4)); break;
        default:
            if (chance(20) == 0 && pool != pools[0]) {
                tpool_shutdown(pool, chance(2) ? TPOOL_CANCEL_PENDING | TPOOL_STOP_RUNNING : 0);
                atomic_fetch_add(&shutdowns_made, 1);
            } else if (chance(20) == 0 && !SLOW_TOOL) { /* sanitizers may be forked in the middle of a lock of theirs */
                fork_once();
            }
            sleep_ms(1);
            break;
        }
    }
    return NULL;
}
/* What hangs is found here, before Meson's time limit, with the seed. */
static void *watch(void *arg) {
    (void)arg;
    for (unsigned long before = 0, still = 0;; before = atomic_load(&progress)) {
        sleep_ms(1000);
        still = atomic_load(&progress) == before ? still + 1 : 0;
        if (still >= 60) die("no progress for a minute");
    }
    return NULL;
}

static void check_at_rest(int i) {
    struct ledger *l = &ledgers[i];
    unsigned long taken = atomic_load(&l->taken), ran = atomic_load(&l->ran), raised = atomic_load(&l->raised);
    tpool_stats s;
    if (tpool_get_stats(pools[i], &s) != TPOOL_OK || s.queued || s.active ||
        s.submitted != s.completed + s.failed + s.cancelled + s.expired + s.dropped)
        die("the statistics do not add up");
    if (s.submitted < taken || s.completed < ran - raised || s.failed < raised ||
        s.rejected < atomic_load(&l->refused_full))
        die("a task was not counted, or lost");
    if (l->plain && (s.submitted != taken || s.completed != ran - raised || s.failed != raised ||
                     s.cancelled + s.expired + s.dropped != taken - ran || s.rejected != atomic_load(&l->refused_full)))
        die("the statistics are not those of the tasks");
}
static void note_end(int i) {
    tpool_stats s;
    if (tpool_get_stats(pools[i], &s) != TPOOL_OK) die("no statistics");
    ended.submitted += s.submitted;
    ended.completed += s.completed;
    ended.failed += s.failed;
    ended.cancelled += s.cancelled;
    ended.expired += s.expired;
    ended.rejected += s.rejected;
    ended.dropped += s.dropped;
    ended.inlined += s.inlined;
    ended.spared += s.spared;
    ended.stolen += s.stolen;
}
static void open_pool(int i, const tpool_config *config) {
    memset(&ledgers[i], 0, sizeof ledgers[i]);
    ledgers[i].plain = i == 0 || chance(2);
    if (tpool_create(&pools[i], config) != TPOOL_OK) die("no pool");
    if (config->queue_capacity) atomic_fetch_add(&full_pools[config->on_full], 1);
    if (config->measure) atomic_fetch_add(&pools_measured, 1);
    atomic_fetch_add(&pools_made, 1);
}
static void play_round(void) {
    pthread_t users[USERS], manager;
    pool_count = 1 + (int)chance(POOLS);
    for (int i = 1; i < pool_count; i++) {
        tpool_config config = { .max_workers = 1 + (int)chance(3),
                                .queue_capacity = chance(2) ? 0 : 1 + chance(8),
                                .on_full = (tpool_full_policy)chance(4),
                                .idle_timeout_ns = chance(3) ? 0 : 1 + chance(500000),
                                .max_tasks_per_worker = chance(3) ? 0 : 1 + chance(20),
                                .measure = chance(2) };
        open_pool(i, &config);
    }
    atomic_store(&users_stop, false);
    pthread_create(&manager, NULL, manage_pools, NULL);
    for (int i = 0; i < USERS; i++) pthread_create(&users[i], NULL, use_pools, NULL);
    sleep_ms(20 + (int)chance(60));
    atomic_store(&users_stop, true);
    pthread_join(manager, NULL);
    for (int i = 0; i < pool_count; i++) tpool_resume(pools[i]);
    for (int i = 0; i < USERS; i++) pthread_join(users[i], NULL);
    for (int again = 0; again < 5; again++) /* tasks of one pool submit to others */
        for (int i = 0; i < pool_count; i++)
            if (tpool_drain(pools[i], TPOOL_FOREVER) != TPOOL_OK) die("a drain failed");
    for (int i = 0; i < pool_count; i++) check_at_rest(i);
    for (int i = 0; i < pool_count; i++) CHECK_AT_REST(pools[i]);
    if (atomic_load(&frees_owed) != 0) die("an argument was freed twice or not at all");
    for (int i = 1; i < pool_count; i++) {
        note_end(i);
        if (tpool_destroy(pools[i]) != TPOOL_OK) die("a destroy failed");
    }
    atomic_fetch_add(&progress, 1);
}

/* ---- memory ---- */
enum { QUARTERS = 4, MOST_SAMPLES = 4096 };
static long samples[QUARTERS][MOST_SAMPLES];
static size_t sample_counts[QUARTERS];

static int compare(const void *a, const void *b) {
    long x = *(const long *)a, y = *(const long *)b;
    return (x > y) - (x < y);
}
static long median(int quarter) {
    size_t count = sample_counts[quarter];
    qsort(samples[quarter], count, sizeof samples[quarter][0], compare);
    return count ? samples[quarter][count / 2] : 0;
}
static void check_memory(int seconds) {
    long second = median(1), last = median(3);
    printf("resident KiB, medians of the quarters: %ld %ld %ld %ld\n", median(0), second, median(2), last);
    if (seconds >= 8 && !SLOW_TOOL && last > second + second / 20 + 1024) die("the memory grows");
}

/* What was done how often. */
static void report(unsigned long rounds) {
    const struct {
        const char *name;
        unsigned long count;
    } done[] = {
        { "rounds", rounds },
        { "steps", atomic_load(&progress) },
        { "pools", atomic_load(&pools_made) },
        { "measured ones", atomic_load(&pools_measured) },
        { "tasks", atomic_load(&tasks_made) },
        { "cancels", atomic_load(&cancels_made) },
        { "timeouts", atomic_load(&timeouts_seen) },
        { "resizes", atomic_load(&resizes_made) },
        { "shutdowns", atomic_load(&shutdowns_made) },
        { "joins", atomic_load(&joins_made) },
        { "forks", SLOW_TOOL ? 1 : atomic_load(&forks_made) },
        { "pools that block", atomic_load(&full_pools[TPOOL_FULL_BLOCK]) },
        { "that reject", atomic_load(&full_pools[TPOOL_FULL_REJECT]) },
        { "whose callers run", atomic_load(&full_pools[TPOOL_FULL_CALLER_RUNS]) },
        { "that drop", atomic_load(&full_pools[TPOOL_FULL_DROP_OLDEST]) },
        { "completed", (unsigned long)ended.completed },
        { "failed", (unsigned long)ended.failed },
        { "cancelled", (unsigned long)ended.cancelled },
        { "expired", (unsigned long)ended.expired },
        { "rejected", (unsigned long)ended.rejected },
        { "dropped", (unsigned long)ended.dropped },
        { "inlined", (unsigned long)ended.inlined },
        { "spared", (unsigned long)ended.spared },
        { "stolen", (unsigned long)ended.stolen },
    };
    for (size_t i = 0; i < sizeof done / sizeof *done; i++)
        printf("%s%lu %s", i ? ", " : "", done[i].count, done[i].name);
    printf("\n");
    fflush(stdout);
    for (size_t i = 0; i < sizeof done / sizeof *done; i++)
        if (atomic_load(&progress) >= 20000 && !done[i].count) die(done[i].name); /* never done */
    if (ended.submitted != ended.completed + ended.failed + ended.cancelled + ended.expired + ended.dropped)
        die("the sums do not add up");
}

int main(int argc, char **argv) {
    int seconds = argc > 1 ? atoi(argv[1]) : 5;
    pthread_t watcher;
    seed = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t)tpool_now();
    printf("seed %llu\n", (unsigned long long)seed);
    fflush(stdout);
    pthread_create(&watcher, NULL, watch, NULL);
    pthread_detach(watcher);
    unsigned long rounds = 0;
    tpool_config lasting = { .max_workers = 2, .measure = chance(2) };
    pool_count = 1;
    open_pool(0, &lasting);
    int64_t began = tpool_now(), whole = TPOOL_SEC(seconds);
    for (int64_t passed = 0; passed < whole; passed = tpool_now() - began, rounds++) {
        play_round();
        size_t quarter = (size_t)((tpool_now() - began) * QUARTERS / whole);
        if (quarter < QUARTERS && sample_counts[quarter] < MOST_SAMPLES)
            samples[quarter][sample_counts[quarter]++] = resident_kib();
    }
    pool_count = 1;
    check_at_rest(0);
    note_end(0);
    if (tpool_destroy(pools[0]) != TPOOL_OK) die("a destroy failed");
    report(rounds);
    check_memory(seconds);
    return 0;
}
