/* All calls at once, by chance, on a few small pools, for a while; at rest the statistics must add up, and nothing may
 * hang. Prints its seed. Usage: stress_mix [SECONDS [SEED]] */
#include "support.h"
#include <sched.h>

enum { POOLS = 3, USERS = 3, MOST = 16 };
static tpool *pools[POOLS];
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
static void die(const char *what) {
    fprintf(stderr, "%s (seed %llu)\n", what, (unsigned long long)seed);
    abort();
}

static void count_free(void *arg) { (void)arg; atomic_fetch_sub(&frees_owed, 1); }
static void look_back(tpool_future *future, void *context) {
    (void)context;
    if (!tpool_future_done(future)) die("a callback ran before the end");
}
static void *leaf(void *arg) {
    switch (chance(30)) {
    case 0: return tpool_raise(3, "by chance");
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
    return (void *)(sum + (intptr_t)tpool_join(&job));
}
static void add_up(size_t begin, size_t end, void *context) { atomic_fetch_add((atomic_ulong *)context, end - begin); }
static void loop(tpool *pool) {
    atomic_ulong sum = 0;
    size_t count = chance(500);
    if (tpool_for(pool, 0, count, chance(10), add_up, &sum) == TPOOL_OK && atomic_load(&sum) != count)
        die("a loop left something out");
}
static void *map_item(void *item, void *context) { (void)context; return chance(40) ? item : tpool_raise(7, "item"); }
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

static tpool_status submit(tpool *pool, tpool_fn fn, intptr_t arg, tpool_future **future) {
    tpool_task task = { .fn = fn, .arg = (void *)arg };
    if (chance(3) == 0) {
        task.name = "by chance";
        task.priority = (int)chance(3) - 1;
        task.arg_free = chance(2) ? count_free : NULL;
        task.expires_ns = chance(6) ? 0 : 1 + chance(300000);
        task.run_limit_ns = chance(8) ? 0 : 1000;
    }
    if (task.arg_free) atomic_fetch_add(&frees_owed, 1);
    tpool_status status = tpool_submit_task(pool, &task, future);
    if (status != TPOOL_OK && task.arg_free) atomic_fetch_sub(&frees_owed, 1);
    return status;
}
static void wait_somehow(tpool_future **futures, size_t count) {
    tpool_completions *completions;
    tpool_future *next;
    size_t done;
    switch (chance(4)) {
    case 0:
        for (size_t i = 0; i < count; i++) tpool_future_result(futures[i], chance(3) ? TPOOL_FOREVER : chance(300000), NULL);
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
            if (chance(2)) tpool_future_cancel(futures[i]);
        break;
    }
}
static void *nest(void *arg) {
    intptr_t depth = (intptr_t)arg;
    tpool_future *futures[5];
    size_t count = 0;
    if (depth <= 0) return leaf(arg);
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
            if (chance(6) == 0) (void)!submit(some_pool(), chance(2) ? leaf : fib, (intptr_t)chance(10), NULL);
            else count += submit(some_pool(), chance(2) ? leaf : nest, (intptr_t)(1 + chance(2)), &futures[count]) == TPOOL_OK;
        }
        wait_somehow(futures, count);
        if (chance(5) == 0) loop(some_pool());
        if (chance(8) == 0) map(some_pool());
        if (chance(10) == 0) {
            tpool_task task = { .fn = leaf };
            (void)!tpool_run_with_timeout(some_pool(), &task, chance(100000), NULL);
        }
        if (chance(30) == 0) tpool_drain(some_pool(), chance(2000000));
        for (size_t i = 0; i < count; i++) tpool_future_release(futures[i]);
        atomic_fetch_add(&progress, 1);
    }
    return NULL;
}
static void *manage_pools(void *arg) {
    (void)arg;
    while (!atomic_load(&users_stop)) {
        tpool *pool = some_pool();
        switch (chance(4)) {
        case 0: tpool_pause(pool); sched_yield(); tpool_resume(pool); break;
        case 1: tpool_resize(pool, 1 + (int)chance(3)); break;
        case 2: tpool_warm_up(pool, (int)chance(4)); break;
        default: sleep_ms(1); break;
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

static void play_round(void) {
    pthread_t users[USERS], manager;
    pool_count = 1 + (int)chance(POOLS);
    for (int i = 0; i < pool_count; i++) {
        tpool_config config = { .max_workers = 1 + (int)chance(3), .queue_capacity = chance(2) ? 0 : 1 + chance(8),
                                .on_full = (tpool_full_policy)chance(4), .idle_timeout_ns = chance(3) ? 0 : 1 + chance(500000),
                                .max_tasks_per_worker = chance(3) ? 0 : 1 + chance(20) };
        if (tpool_create(&pools[i], &config) != TPOOL_OK) die("no pool");
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
    for (int i = 0; i < pool_count; i++) {
        tpool_stats s;
        if (tpool_get_stats(pools[i], &s) != TPOOL_OK || s.queued || s.active ||
            s.submitted != s.completed + s.failed + s.cancelled + s.expired + s.dropped)
            die("the statistics do not add up");
    }
    if (atomic_load(&frees_owed) != 0) die("an argument was freed twice or not at all");
    for (int i = 0; i < pool_count; i++)
        if (tpool_destroy(pools[i]) != TPOOL_OK) die("a destroy failed");
    atomic_fetch_add(&progress, 1);
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
    for (int64_t end = tpool_now() + TPOOL_SEC(seconds); tpool_now() < end; rounds++) play_round();
    printf("%lu rounds, %lu steps\n", rounds, atomic_load(&progress));
    return 0;
}
