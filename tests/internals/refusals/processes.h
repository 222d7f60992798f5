/* Scenarios about the process: shared pools, a forked child, threads without exit hooks, and pools of processes. */
#ifndef TPOOL_TESTS_REFUSALS_PROCESSES_H
#define TPOOL_TESTS_REFUSALS_PROCESSES_H
#include "scenario.h"

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
    if (i->taken) EXPECT(tpool_future_result(future, CALL_LIMIT, NULL) == TPOOL_OK);
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
    direct.taken = OKAY(tpool_run_with_timeout(NULL, &task, CALL_LIMIT, NULL), REFUSED);
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

/* Without its exit hook a thread could not give back what it holds, nor a worker be missed: the call that needs one
   gives TPOOL_NO_MEMORY, and a worker that cannot have one leaves, as if its thread had been refused. If no other is
   there, what waits ends as TPOOL_BROKEN, since its submit has returned. */
static void scenario_threads_without_exit_hooks(void) {
    enum { TASKS = 12, CAPACITY = 2 };
    item items[TASKS] = { 0 };
    tpool_future *futures[TASKS] = { NULL }, *bare = NULL, *ender = NULL;
    tpool *pool =
        pool_with((tpool_config){ .max_workers = 2, .queue_capacity = CAPACITY, .on_full = TPOOL_FULL_CALLER_RUNS });
    if (!pool) return;
    /* that a task ends its thread is seen by that hook alone */
    if (OKAY(tpool_warm_up(pool, 1), REFUSED) && OKAY(tpool_submit(pool, end_thread, NULL, &ender), REFUSED))
        EXPECT(tpool_future_result(ender, CALL_LIMIT, NULL) == TPOOL_BROKEN);
    tpool_future_release(ender);
    for (int i = 0; i < TASKS; i++) {
        if (i % 3 == 2) items[i].taken = OKAY(tpool_submit(pool, item_run, &items[i], NULL), REFUSED);
        else submit_item(pool, &items[i], i % 3 ? 40 : 0, (tpool_task){ 0 }, &futures[i], REFUSED);
    }
    if (OKAY(tpool_future_create(&bare), NO_MEMORY)) EXPECT(tpool_future_set_result(bare, NULL) == TPOOL_OK);
    tpool_future_release(bare);
    for (int i = 0; i < TASKS; i++) {
        /* a worker went, or none could be had in place of the one whose thread was ended */
        if (futures[i]) OKAY(tpool_future_result(futures[i], CALL_LIMIT, NULL), BIT(TPOOL_BROKEN));
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
    tpool_status status = tpool_future_result(future, CALL_LIMIT, NULL);
    const tpool_error *error = NULL;
    if (status == TPOOL_OK) return true;
    if (tpool_future_error(future, 0, &error) != TPOOL_OK || !error || !error->message)
        report(line, "a failed task's error", "is not told");
    else if (status == TPOOL_FAILED && error->code != ENOMEM) report(line, "the task's error", error->message);
    if ((status != TPOOL_BROKEN && status != TPOOL_FAILED) || !was_refused())
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
    if (status == TPOOL_OK) status = tpool_future_result(future, CALL_LIMIT, &number);
    bool served = lives(tpool__server_of(pool)->pid); /* else it is gone, and so is its spare, if it could have one */
    if (status == TPOOL_OK ? number == NULL || (intptr_t)number == getpid()
                           : status != TPOOL_BROKEN && !(status == TPOOL_NO_THREAD && !served))
        report(line, "a task once the fault is over", tpool_status_name(status));
    if (status != TPOOL_OK && !was_refused()) report(line, "a pool without a fault", tpool_status_name(status));
    tpool_future_release(future);
    if (tpool_drain(pool, CALL_LIMIT) == TPOOL_OK) check_stats(line, pool);
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
    if (hang_ms == 10000 && tpool_now() - began >= TPOOL_MS(hang_ms)) report(__LINE__, "the server", "was silent");
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
        tpool_status status = tpool_map_next(iter, CALL_LIMIT, &result);
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
#if defined(__linux__) && !defined(TPOOL__PLAIN_POSIX) /* the plainest systems have no such programs */
/* In a program that adopts orphans, as the first process of a container does, what the pool leaves behind is its own to
   reap. */
static void scenario_processes_of_a_program_that_adopts(void) {
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    play_with_processes(map_over_processes, (tpool_config){ .max_workers = 1 });
    prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
}
#endif

/* Shared memory, mutexes and a channel in it. What is left there ends with the pool. */
typedef struct shared_order {
    tpool_shared_mutex *mutex;
    tpool_channel *channel;
} shared_order;
static void *lock_and_send(void *arg) {
    const shared_order *o = arg;
    int thing = 23;
    if (tpool_shared_lock(o->mutex, CALL_LIMIT) != TPOOL_OK) return tpool_raise(ENOMEM, "no lock");
    if (tpool_shared_unlock(o->mutex) != TPOOL_OK) return tpool_raise(1, "no unlock");
    if (tpool_channel_send(o->channel, &thing, CALL_LIMIT) != TPOOL_OK) return tpool_raise(ENOMEM, "no send");
    return NULL;
}
enum { MUTEXES = 6 }; /* more than a thread remembers without memory, which it keeps until its end */
static void *lock_all(void *arg) {
    tpool_shared_mutex *mutexes = arg;
    bool has[MUTEXES];
    for (int i = 0; i < MUTEXES; i++) has[i] = OKAY(tpool_shared_lock(&mutexes[i], CALL_LIMIT), REFUSED);
    for (int i = 0; i < MUTEXES; i++)
        EXPECT(tpool_shared_unlock(&mutexes[i]) == (has[i] ? TPOOL_OK : TPOOL_INVALID_STATE));
    return NULL;
}
static void share_with_processes(tpool *pool) {
    enum { PIECES = 20 }; /* likewise the program, of pieces */
    char *pieces[PIECES] = { NULL };
    for (int i = 0; i < PIECES; i++) {
        pieces[i] = tpool_shared_alloc(pool, 100);
        EXPECT(pieces[i] ? !pieces[i][0] && !pieces[i][99] : was_refused());
        if (pieces[i]) memset(pieces[i], 1, 100);
    }
    tpool_shared_mutex *mutexes = tpool_shared_alloc(pool, MUTEXES * sizeof *mutexes);
    EXPECT(mutexes || was_refused());
    pthread_t thread;
    if (mutexes && pthread_create(&thread, NULL, lock_all, mutexes) == 0) pthread_join(thread, NULL);
    shared_order o = { mutexes, NULL };
    tpool_channel_config config = { .capacity = 2, .item_size = sizeof(int), .shared_with = pool };
    bool created = OKAY(tpool_channel_create(&o.channel, &config), NO_MEMORY);
    EXPECT(created == (o.channel != NULL));
    tpool_future *future = NULL;
    if (mutexes && created && OKAY(tpool_submit_copy(pool, lock_and_send, &o, sizeof o, &future), REFUSED) &&
        ENDS_HERE(future)) {
        int thing = 0;
        OKAY(tpool_channel_send(o.channel, &thing, CALL_LIMIT), REFUSED);
        EXPECT(tpool_channel_receive(o.channel, &thing, CALL_LIMIT) == TPOOL_OK && thing == 23);
    }
    tpool_future_release(future);
    for (int i = 0; i < PIECES / 2; i++) tpool_shared_free(pool, pieces[i]);
}
static void scenario_memory_that_processes_share(void) {
    play_with_processes(share_with_processes, (tpool_config){ .max_workers = 1, .shared_size = 1 << 20 });
}

/* A worker that dies is replaced; so is one that is killed, and its server. */
static void *abort_here(void *arg) {
    (void)arg;
    abort();
}
static void lose_processes(tpool *pool) {
    tpool_future *lost = NULL, *after = NULL;
    if (OKAY(tpool_submit(pool, abort_here, NULL, &lost), REFUSED)) {
        tpool_status status = tpool_future_result(lost, CALL_LIMIT, NULL);
        EXPECT(status == TPOOL_BROKEN || (status == TPOOL_FAILED && was_refused()));
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
    if (OKAY(tpool_submit(pool, own_number, NULL, &first), REFUSED)) (void)tpool_future_result(first, CALL_LIMIT, NULL);
    hang_ms = SLOW_TOOL ? 200 : 20;
    EXPECT(kill(tpool__server_of(pool)->pid, SIGSTOP) == 0);
    OKAY(tpool_kill_workers(pool), REFUSED);
    if (OKAY(tpool_submit(pool, own_number, NULL, &after), REFUSED)) (void)tpool_future_result(after, CALL_LIMIT, NULL);
    hang_ms = 300;
    tpool_future_release(first);
    tpool_future_release(after);
}
static void scenario_a_server_that_is_stopped(void) {
    play_with_processes(lose_the_server, (tpool_config){ .max_workers = 1 });
    hang_ms = 10000;
}
#endif
