/* Scenarios about the life of pools, managed pools, resources, measuring, and pools of every kind. */
#ifndef TPOOL_TESTS_REFUSALS_POOLS_H
#define TPOOL_TESTS_REFUSALS_POOLS_H
#include "scenario.h"

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
    OKAY(tpool_drain(pool, CALL_LIMIT), 0);
    OKAY(tpool_resize(pool, 1), 0);
    ALL_HAVE_RUN(pool, items, futures, TASKS);
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
    ALL_HAVE_RUN(pool, items, futures, TASKS);
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
    if (ends) EXPECT(tpool_future_result(ended, CALL_LIMIT, NULL) == TPOOL_BROKEN);
    for (int i = 0; i < taken; i++) {
        tpool_status status = tpool_future_result(futures[i], CALL_LIMIT, NULL);
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

/* Given up by its owner, or by a task; where the thread that frees it is refused, it is still the caller's. */
static void *detach_own_pool(void *arg) {
    *(tpool_status *)arg = tpool_shutdown(tpool_current(), TPOOL_DETACH);
    return arg;
}
static void scenario_a_detached_pool(void) {
    enum { TASKS = 20 };
    static item items[2 * TASKS];
    memset(items, 0, sizeof items);
    for (int way = 0; way < 2; way++) {
        tpool_status detached = TPOOL_INVALID;
        tpool_future *futures[TASKS] = { NULL }, *detaches = NULL;
        tpool *pool = pool_with((tpool_config){ .max_workers = 2 });
        if (!pool) continue;
        for (int i = 0; i < TASKS; i++)
            items[way * TASKS + i].taken =
                OKAY(tpool_submit_task(
                         pool, &(tpool_task){ .fn = item_run, .arg = &items[way * TASKS + i], .arg_free = item_free },
                         &futures[i]),
                     REFUSED);
        if (way == 0) detached = tpool_shutdown(pool, TPOOL_DETACH);
        else if (OKAY(tpool_submit(pool, detach_own_pool, &detached, &detaches), REFUSED))
            EXPECT(tpool_future_result(detaches, CALL_LIMIT, NULL) == TPOOL_OK);
        if (way == 0 || detaches) OKAY(detached, BIT(TPOOL_NO_THREAD));
        for (int i = 0; i < TASKS; i++) {
            if (futures[i]) ENDS_WELL(futures[i], &items[way * TASKS + i], false);
            tpool_future_release(futures[i]);
        }
        tpool_future_release(detaches);
        if (detached != TPOOL_OK) pool_end(pool);
        else tpool__await_detached();
        tpool__cache_flush(tpool__self()); /* a destroy would have done so */
        tpool__depot_trim(false);
    }
    CHECK_ITEMS(items, 2 * TASKS, ALL_RAN);
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
        EXPECT(tpool_future_result(futures[i], CALL_LIMIT, NULL) == TPOOL_BROKEN);
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
    if (!OKAY(tpool_resources_get(w->tools, CALL_LIMIT, &tool), BIT(TPOOL_NO_THREAD))) {
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
    if (!OKAY(tpool_channel_receive(b->channel, &thing, CALL_LIMIT), BIT(TPOOL_NO_THREAD))) return NULL;
    EXPECT(thing == 17);
    atomic_fetch_add(&b->received, 1);
    return NULL;
}
static void *load_belt(void *arg) {
    belt *b = arg;
    int thing = 17;
    if (OKAY(tpool_channel_send(b->channel, &thing, CALL_LIMIT), BIT(TPOOL_NO_THREAD))) atomic_fetch_add(&b->sent, 1);
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
    ALL_HAVE_RUN(pool, items, futures, TASKS);
}

static int submit_some_plain(tpool *pool, atomic_int *runs, int count) {
    int taken = 0;
    for (int i = 0; i < count; i++) taken += OKAY(tpool_submit(pool, count_up, runs, NULL), REFUSED);
    return taken;
}

static bool ignores_text(const char *bytes, size_t size, void *context) {
    (void)bytes, (void)size, (void)context;
    return true;
}
static void scenario_tracing(void) {
    atomic_int runs = 0;
    tpool *pool = pool_with((tpool_config){ .max_workers = 2, .max_tasks_per_worker = 3 });
    if (!pool) return;
    int taken = submit_some_plain(pool, &runs, 1); /* a worker that is there when the trace begins, and later ones */
    bool traced = OKAY(tpool_trace_start(pool, 500), NO_MEMORY);
    taken += submit_some_plain(pool, &runs, 9);
    if (traced) {
        OKAY(tpool_trace_write(pool, ignores_text, NULL), 0);
        OKAY(tpool_trace_stop(pool), 0);
    }
    pool_end(pool);
    EXPECT(atomic_load(&runs) == taken);
}

/* ---- Scenarios: pools of every kind ---- */

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
        OKAY(tpool_drain(pool, CALL_LIMIT), BIT(TPOOL_NO_THREAD));
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
    OKAY(tpool_drain(pool, CALL_LIMIT), 0);
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

/* The thread that makes room queues what a blocked submitter has brought, and that may want memory. */
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
#endif
