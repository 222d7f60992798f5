/* A world of chaos.c: drawn, played by some threads of the program, ended, and every account closed. */
#ifndef TPOOL_TESTS_CHAOS_WORLD_H
#define TPOOL_TESTS_CHAOS_WORLD_H
#include "scripts.h"

static atomic_bool world_ends;

static int pool_of_life(rng *g) {
    unsigned count = (unsigned)atomic_load(&pool_count), from = draw(g, count ? count : 1);
    for (unsigned i = 0; i < count; i++)
        if (atomic_load(&pools[(from + i) % count].alive)) return (int)((from + i) % count);
    return -1;
}
static uint64_t hook_seed(void) {
    static atomic_ulong calls;
    return mix(world_seed, atomic_fetch_add(&calls, 1));
}
static bool initializer(void *context) {
    a_pool *p = context;
    rng g = { hook_seed() };
    bool well = true;
    begin("an initializer of pool", (int)(p - pools));
    self()->hooks++;
    if (has(BUSY_HOOKS) && one_in(&g, 2)) acts(&g, IN_LIMITED, 1, 2);
    if (has(FAILING_INITIALIZERS) && one_in(&g, 4)) {
        atomic_store(&p->may_break, true);
        well = false;
    }
    if (may_end(ENDS_IN_HOOKS, &g, 8)) {
        atomic_store(&p->may_break, true);
        end_thread(&g);
    }
    self()->hooks--;
    if (well) atomic_fetch_add(&initialized[p - pools], 1);
    end();
    return well;
}
static void finalizer(void *context) {
    a_pool *p = context;
    rng g = { hook_seed() };
    begin("a finalizer of pool", (int)(p - pools));
    self()->hooks++;
    atomic_fetch_add(&finalized[p - pools], 1);
    if (has(BUSY_HOOKS) && one_in(&g, 2)) acts(&g, IN_LIMITED, 1, 2);
    if (may_end(ENDS_IN_HOOKS, &g, 8)) end_thread(&g);
    self()->hooks--;
    end();
}
static void observe_pool(const tpool_event *event, void *context) {
    long p = (a_pool *)context - pools;
    if (!(event->kind & pools[p].config.observed)) fail("told of a kind %u that is not observed", event->kind);
    if (event->kind == TPOOL_EVENT_SUBMITTED) atomic_fetch_add(&unended[p], 1);
    if (event->kind == TPOOL_EVENT_ENDED) atomic_fetch_sub(&unended[p], 1);
    if (event->kind == TPOOL_EVENT_WORKER_STARTED) atomic_fetch_add(&workers_left[p], 1);
    if (event->kind == TPOOL_EVENT_WORKER_ENDED) atomic_fetch_sub(&workers_left[p], 1);
}
static void check_observed(int p) {
    unsigned observed = pools[p].config.observed, tasks = TPOOL_EVENT_SUBMITTED | TPOOL_EVENT_ENDED,
             workers = TPOOL_EVENT_WORKER_STARTED | TPOOL_EVENT_WORKER_ENDED;
    /* each further run, or try, has an end, too */
    bool exact = !atomic_load(&pools[p].repeats);
    if ((exact && (observed & tasks) == tasks && atomic_load(&unended[p]) != 0) ||
        ((observed & workers) == workers && atomic_load(&workers_left[p]) != 0))
        fail("pool %d was observed: %ld tasks and %ld workers without an end", p, atomic_load(&unended[p]),
             atomic_load(&workers_left[p]));
}
static tpool_config draw_config(rng *g, a_pool *p) {
    tpool_config c = { .name = one_in(g, 4) ? NULL : p->name, .context = p };
    c.max_workers = 1 + (int)draw(g, 4);
    if (one_in(g, 3)) c.max_workers = 1;
    if (one_in(g, 12)) c.max_workers = 0;
    if (one_in(g, 2)) c.max_spares = (int)draw(g, 5) - 1;
    if (has(IDLE_TIMES)) {
        c.idle_timeout_ns = one_in(g, 3) ? 0 : one_in(g, 2) ? 1 + draw(g, 2000) : TPOOL_US(draw(g, 2000));
        c.min_workers = one_in(g, 2) ? 0 : (int)draw(g, (unsigned)c.max_workers + 1);
    }
    if (has(MAX_TASKS) && one_in(g, 2)) c.max_tasks_per_worker = 1 + draw(g, 4);
    if (has(FULL_QUEUES) && !one_in(g, 4)) {
        c.queue_capacity = 1 + draw(g, one_in(g, 3) ? 10 : 3);
        c.on_full = (tpool_full_policy)draw(g, 4);
    }
    if (has(INITIALIZERS) && one_in(g, 2)) c.initializer = initializer;
    if (has(INITIALIZERS) && one_in(g, 2)) c.finalizer = finalizer;
    if (has(SMALL_STACKS) && !SLOW && one_in(g, 2)) c.stack_size = (size_t)(one_in(g, 2) ? 256 : 512) << 10;
    if (has(MEASURE)) c.measure = one_in(g, 2);
    if (has(MEASURE) && one_in(g, 3)) {
        c.observer = observe_pool;
        c.observed = one_in(g, 2) ? 255 : draw(g, 256);
    }
    if (one_in(g, 2)) c.on_failure = failed;
    return c;
}
static bool create_pool(rng *g) {
    bool made = false;
    pthread_mutex_lock(&pool_making);
    int at = atomic_load(&pool_count);
    if (at < POOLS - 4) {
        a_pool *p = &pools[at];
        memset(p, 0, sizeof *p);
        snprintf(p->name, sizeof p->name, "pool%d", at);
        p->config = draw_config(g, p);
        forget_counts(at);
        tpool_status status = CALL(at, tpool_create(&p->handle, &p->config));
        if (status == TPOOL_OK) {
            atomic_store(&p->alive, true);
            atomic_store(&pool_count, at + 1);
            made = true;
        } else if (status != TPOOL_NO_MEMORY || !may_refuse()) {
            fail("tpool_create gave %s", tpool_status_name(status));
        }
    }
    pthread_mutex_unlock(&pool_making);
    return made;
}

/* ---- The threads of the program */
typedef struct program {
    pthread_t thread;
    uint64_t seed;
    int operations;
    atomic_bool runs;
} program;
enum { PROGRAMS = 4 };
static program programs[PROGRAMS];
static bool only_scripts; /* a world of these alone: many lives of pools */
static void *victim(void *arg) {
    rng g = { *(uint64_t *)arg };
    self()->program = 1;
    self()->may_end = true;
    atomic_store(&self()->name, "victim");
    acts(&g, IN_LIMITED, 3, 2);
    if (has(SELF_CANCELS) && one_in(&g, 2)) {
        pthread_cancel(pthread_self());
        self()->cancelled = true;
        mark_ended();
        if (one_in(&g, 2)) create_pool(&g);
        if (one_in(&g, 2)) (void)tpool_cpu_count();
        tpool_stats stats;
        int p = pool_of_life(&g);
        if (use(p)) {
            (void)tpool_get_stats(pools[p].handle, &stats);
            (void)tpool_drain(pools[p].handle, TPOOL_US(100));
            unuse(p);
        }
        pthread_testcancel();
        fail("a thread is not cancelled");
    }
    return NULL;
}
static void *program_main(void *arg) {
    program *me = arg;
    rng g = { me->seed };
    self()->program = 1;
    atomic_store(&self()->name, "program");
    for (int i = 0; i < me->operations; i++) {
        if ((has(SELF_CANCELS) || has(ENDS_IN_CALLBACKS) || has(ENDS_IN_FREES)) && one_in(&g, 12)) {
            uint64_t seed = draw64(&g);
            pthread_t thread;
            begin("a victim's join", -1);
            if (pthread_create(&thread, NULL, victim, &seed) == 0) pthread_join(thread, NULL);
            end();
        }
        if (only_scripts) script(&g);
        else act(&g, IN_PROGRAM, 0);
    }
    atomic_store(&me->runs, false);
    return NULL;
}
/* It never blocks: resumes what was paused, kills workers whose initializers hang, sends signals. */
static void *nurse(void *arg) {
    rng g = { *(uint64_t *)arg };
    self()->program = 1;
    atomic_store(&self()->name, "nurse");
    long lazy = one_in(&g, 3) ? 10000 : 1500;
    while (!atomic_load(&world_ends)) {
        sleep_us(500 + (long)draw(&g, (unsigned)lazy));
        for (int p = 0; p < atomic_load(&pool_count); p++) {
            if (!atomic_load(&pools[p].paused) || !use(p)) continue;
            atomic_store(&pools[p].paused, false);
            if (tpool_resume(pools[p].handle) == TPOOL_NO_THREAD) atomic_store(&pools[p].paused, true);
            unuse(p);
        }
        for (int p = 0; p < atomic_load(&pool_count); p++) { /* until its destroy, which must do so itself */
            if (!pools[p].hangs || !one_in(&g, 8) || !use(p)) continue;
            (void)tpool_kill_workers(pools[p].handle);
            unuse(p);
        }
        if (!has(SIGNALS)) continue;
        kill(getpid(), SIGUSR1);
    }
    return NULL;
}

/* ---- Its end */
static void give_back_orphans(void) {
    int count = atomic_load(&orphan_count);
    if (count > (int)(sizeof orphans / sizeof *orphans)) count = (int)(sizeof orphans / sizeof *orphans);
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < count; i++) {
            temp *t = &orphans[i];
            if ((t->kind == A_FUTURE) != (pass == 1)) continue;
            if (t->kind == A_GROUP) (void)tpool_group_release(t->what);
            if (t->kind == A_FUTURE) tpool_future_release(t->what);
            if (t->kind == AN_ITERATOR) tpool_completions_destroy(t->what);
            if (t->kind == A_MAP) close_map(((open_map *)t->what)->run, ((open_map *)t->what)->iter, true);
        }
    atomic_store(&orphan_count, 0);
}
static int joined_producers;
static void join_producers(void) {
    for (; joined_producers < atomic_load(&producers_started); joined_producers++)
        pthread_join(producers[joined_producers], NULL);
}
/* Until all that was submitted to it has ended: a drain does not wait for the next run of a periodic task. */
static void await_ends(int p) {
    tpool_stats s;
    for (int looks = 0; looks < 10000; looks++) {
        undelayed = true; /* it holds the pool's lock while it reads thousands of words */
        if (tpool_get_stats(pools[p].handle, &s) != TPOOL_OK) fail("no stats of pool %d", p);
        undelayed = false;
        if (s.submitted == s.completed + s.failed + s.cancelled + s.expired + s.dropped) return;
        sleep_us(1000);
    }
}
static void drain_all(int count) {
    for (int p = 0; p < count; p++) {
        if (!atomic_load(&pools[p].alive)) continue;
        if (atomic_load(&pools[p].repeats)) await_ends(p); /* its last run may submit to any pool */
        tpool_status status = CALL(p, tpool_drain(pools[p].handle, TPOOL_FOREVER));
        if (status != TPOOL_OK) fail("a drain gave %s", tpool_status_name(status));
    }
}
static long count_begun(int count) {
    long begun = atomic_load(&record_count);
    for (int p = 0; p < count; p++) begun += (long)atomic_load(&pools[p].others);
    return begun;
}
/* Until a round has brought nothing new: then the counts are exact. What exists before a round ends in its first
   half, unless such a task submits it only then, to a pool that was already drained: then in the second half. */
static void come_to_rest(int count) {
    join_producers();
    for (long before = -1, now = count_begun(count); before != now; now = count_begun(count)) {
        before = now;
        drain_all(count);
        drain_all(count);
    }
    for (int p = 0; p < count; p++)
        if (atomic_load(&pools[p].alive) && !has(BUSY_HOOKS)) check_rest(p); /* a worker may begin yet */
}
static void forget_world(void) {
    for (int i = 0; i < atomic_load(&record_count) && i < RECORDS; i++) {
        pthread_mutex_destroy(&records[i].lock);
        memset(&records[i], 0, sizeof records[i]);
        pthread_mutex_init(&records[i].lock, NULL);
    }
    memset(notes, 0, sizeof notes);
    memset(loops, 0, sizeof loops);
    memset(job_runs, 0, sizeof job_runs);
    atomic_store(&job_count, 0);
    memset(maps, 0, sizeof maps);
    atomic_store(&record_count, 0);
    atomic_store(&note_count, 0);
    atomic_store(&wake_count, 0);
    memset((void *)event_loops, 0, sizeof event_loops);
    atomic_store(&event_loop_count, 0);
    atomic_store(&loop_count, 0);
    atomic_store(&map_count, 0);
    atomic_store(&resources_made, 0);
    memset((void *)scopes, 0, sizeof scopes);
    memset((void *)groups, 0, sizeof groups);
    atomic_store(&scope_count, 0);
}
static void open_groups(rng *g) {
    group_count = has(GROUPS) ? (int)draw(g, GROUPS_OF_WORLD + 1) : 0;
    for (int i = 0; i < group_count; i++) {
        a_group *group = &groups[i];
        if (i > 0 && one_in(g, 2)) group->parent = &groups[draw(g, (unsigned)i)];
        tpool_group_config config = { .limit = one_in(g, 2) ? 1 + (int)draw(g, 3) : 0,
                                      .capacity = one_in(g, 4) ? 1 + draw(g, 8) : 0,
                                      .on_full = one_in(g, 2) ? TPOOL_FULL_REJECT : TPOOL_FULL_DROP_OLDEST,
                                      .on_failure =
                                          one_in(g, 5) ? (tpool_group_failure)draw(g, 2) : TPOOL_GROUP_KEEP_GOING,
                                      .waiter_runs = one_in(g, 2),
                                      .parent = group->parent ? group->parent->handle : NULL };
        group->limit = config.limit;
        group->bounded = config.capacity > 0;
        group->drops = group->bounded && config.on_full == TPOOL_FULL_DROP_OLDEST;
        group->keeps_going = config.on_failure == TPOOL_GROUP_KEEP_GOING;
        atomic_store(&group->may_cancel, !group->keeps_going);
        if (tpool_group_create(&group->handle, &config) != TPOOL_OK) fail("no group");
    }
}
static void close_groups(void) {
    for (int i = 0; i < group_count; i++) {
        if (tpool_group_count(groups[i].handle) != 0)
            fail("a group has %zu members", tpool_group_count(groups[i].handle));
        if (atomic_load(&groups[i].running)) fail("%d members of a group run", atomic_load(&groups[i].running));
        tpool_status status = CALL(-1, tpool_group_destroy(groups[i].handle));
        if (!is_end(status)) fail("the end of a group gave %s", tpool_status_name(status));
    }
    group_count = 0;
}
/* A keeper of the times that has run the program's functions (wakes of stops, on_ready, ends of held tasks) keeps what
   that took until it ends. */
static void await_blocks(void) {
    if (dual_used || manager_used || some_left) return;
    for (int looks = 0; atomic_load(&live_blocks) != 0 && looks < 200; looks++) sleep_us(10000);
    if (atomic_load(&live_blocks) != 0) fail("%ld blocks of memory are left", atomic_load(&live_blocks));
}
static void play_world(uint64_t seed, int operations) {
    rng g = { seed };
    world_seed = seed;
    features = 0;
    unsigned dense = 1 + draw(&g, 6);
    for (int f = 0; f < FEATURES; f++)
        if (draw(&g, 8) < dense) features |= UINT64_C(1) << f;
    if (!one_in(&g, 8)) features &= ~(UINT64_C(1) << DUAL);
    if (!one_in(&g, 8)) features &= ~(UINT64_C(1) << GLOBAL_MANAGER);
    if (!one_in(&g, 4)) features &= ~(UINT64_C(1) << REFUSED_MEMORY);
    if (!one_in(&g, 3)) features &= ~(UINT64_C(1) << REFUSED_THREADS);
    only_scripts = one_in(&g, 5);
    if (only_scripts) {
        features |= UINT64_C(1) << SCRIPTS;
        operations = 12;
    }
    features = (features | features_always) & ~features_never;
    only_scripts = only_scripts && has(SCRIPTS);
    static const uint32_t masks[] = { 0, 1023, 255, 63, 15, 7 };
    atomic_store(&delay_mask, masks[draw(&g, SLOW ? 4 : 6)]);
    atomic_store(&delay_hot, (uint32_t)draw64(&g));
    atomic_store(&delay_long_us, one_in(&g, 2) ? 300 : 1500);
    atomic_store(&delay_seed, (uint32_t)draw64(&g));
    atomic_store(&refused_once, 0);
    atomic_store(&threads_ended, false);
    atomic_store(&refusal_draws, draw64(&g));
    atomic_store(&refuse_threads, 0);
    atomic_store(&world_ends, false);
    atomic_store(&no_more_externals, false);
    atomic_store(&pool_count, 0);
    /* first what the pools' initializers may use */
    if (has(RESOURCES) &&
        tpool_resources_create(&resources, 1 + draw(&g, 3), make_resource, destroy_resource, NULL) != TPOOL_OK)
        fail("no resources");
    if (has(CHANNELS)) open_channels(&g);
    open_groups(&g);
    tpool_manager_config managing = { .idle_timeout_ns = one_in(&g, 2) ? 1 : 0, .max_pools = draw(&g, 3) };
    atomic_store(&manager_shut, false);
    atomic_store(&global_manager_shut, false);
    if (has(MANAGERS) && tpool_manager_create(&manager, &managing) != TPOOL_OK) fail("no manager");
    int wanted = 1 + (int)draw(&g, 4);
    for (int i = 0; i < wanted; i++) create_pool(&g);
    if (has(DUAL)) {
        if (dual_used || one_in(&g, 2)) {
            tpool_config high = { .max_workers = 1 + (int)draw(&g, 5), .idle_timeout_ns = draw(&g, 2) },
                         low = { .max_workers = (int)draw(&g, 3), .measure = one_in(&g, 2) };
            tpool_status status = tpool_dual_configure(one_in(&g, 4) ? NULL : &high, one_in(&g, 4) ? NULL : &low);
            if (status != (dual_used ? TPOOL_INVALID_STATE : TPOOL_OK))
                fail("dual_configure gave %s", tpool_status_name(status));
        }
        dual_used = true;
        for (int i = 0; i < 2; i++) {
            a_pool *p = &pools[atomic_load(&pool_count)];
            memset(p, 0, sizeof *p);
            p->dual = true;
            p->config.max_workers = 4;
            p->handle = i ? tpool_low_level() : tpool_high_level();
            if (!p->handle) fail("no dual pool");
            (void)tpool_resume(p->handle); /* an earlier world may have ended while it was paused */
            atomic_store(&p->shut, atomic_load(&dual_shut));
            atomic_store(&p->alive, true);
            atomic_fetch_add(&pool_count, 1);
        }
    }
    atomic_store(&refuse_threads, has(REFUSED_THREADS) ? 2 + draw(&g, 10) : 0);
    atomic_store(&refuse_memory, has(REFUSED_MEMORY) ? 10 + draw(&g, 100) : 0);

    uint64_t nurse_seed = draw64(&g);
    pthread_t nursing;
    if (pthread_create(&nursing, NULL, nurse, &nurse_seed) != 0) fail("no thread");
    int count = 1 + (int)draw(&g, PROGRAMS);
    for (int i = 0; i < count; i++) {
        programs[i].seed = draw64(&g);
        programs[i].operations = 5 + (int)draw(&g, (unsigned)operations);
        atomic_store(&programs[i].runs, true);
        if (pthread_create(&programs[i].thread, NULL, program_main, &programs[i]) != 0) fail("no thread");
    }
    begin("joining the program's threads", -1);
    for (int i = 0; i < count; i++) pthread_join(programs[i].thread, NULL);
    end();

    atomic_store(&refuse_threads, 0);
    atomic_store(&refuse_memory, 0);
    begin("the end of the world", -1);
    int pool_total = atomic_load(&pool_count), from = (int)draw(&g, (unsigned)pool_total + 1);
    bool together = one_in(&g, 2);
    if (together || atomic_load(&orphan_count)) come_to_rest(pool_total);
    if (atomic_load(&orphan_count)) sleep_us(3000);
    free_uses_of_orphans();
    tpool__await_detached(); /* for the account of the memory */
    for (int i = 0; i < pool_total; i++) {
        int p = (i + from) % pool_total;
        if (!atomic_load(&pools[p].alive)) continue;
        if (pools[p].dual) {
            tpool_status status = CALL(p, tpool_drain(pools[p].handle, TPOOL_FOREVER));
            if (status != TPOOL_OK) fail("a drain of a dual pool gave %s", tpool_status_name(status));
            atomic_store(&pools[p].alive, false);
            continue;
        }
        destroy_pool(p, true);
    }
    for (int p = 0; p < pool_total; p++) /* what repeats there ends by itself, and no drain waits for that */
        if (pools[p].dual && atomic_load(&pools[p].repeats)) await_ends(p);
    for (int p = 0; p < pool_total; p++)
        if (!pools[p].dual) check_observed(p);
    for (int p = 0; p < pool_total; p++) {
        if (pools[p].dual || !pools[p].config.finalizer || !pools[p].config.initializer) continue;
        if (atomic_load(&initialized[p]) != atomic_load(&finalized[p]))
            fail("pool %d: %d initializers, %d finalizers", p, atomic_load(&initialized[p]),
                 atomic_load(&finalized[p]));
    }
    atomic_store(&world_ends, true);
    pthread_join(nursing, NULL);
    close_groups();
    atomic_store(&no_more_externals, true);
    join_producers();
    joined_producers = 0;
    atomic_store(&producers_started, 0);
    atomic_store(&producer_count, 0);
    give_back_orphans();
    if (manager) tpool_manager_destroy(manager);
    manager = NULL;
    manager_used = manager_used || has(GLOBAL_MANAGER);
    if (manager_used && tpool_manager_global_shutdown() != TPOOL_OK) fail("the global manager is not shut down");
    for (int i = 0; i < atomic_load(&record_count) && i < RECORDS; i++) {
        record *r = &records[i];
        if (!r->future) continue;
        if (!is_end(observe(r, r->future, 0, IN_PROGRAM))) {
            tell(r);
            fail("task %d has no end", i);
        }
        drop(r);
    }
    give_back_orphans();
    for (int p = 0; p < pool_total; p++)
        if (pools[p].dual) CHECK_AT_REST(pools[p].handle); /* the others were checked as they were freed */
    if (resources && tpool_resources_destroy(resources) != TPOOL_OK) fail("resources are still out");
    resources = NULL;
    end_channels();
    close_accounts();
    for (int i = 0; i < atomic_load(&map_count) && i < MAPS; i++)
        for (int k = 0; maps[i].source && !maps[i].left && !atomic_load(&threads_ended) && k < maps[i].count; k++)
            if (atomic_load(&maps[i].frees[k]) != (k < atomic_load(&maps[i].asked)))
                fail("map %d: item_free of item %d did not come", i, k);
    for (int i = 0; i < atomic_load(&map_count) && i < MAPS; i++) some_left = some_left || maps[i].left;
    end();
    await_blocks();
    forget_world();
}
#endif
