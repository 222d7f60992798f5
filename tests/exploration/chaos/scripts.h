/* Situations that chance alone would seldom bring about, each with its numbers drawn: a destroy beside blocked
   submitters, drains and cancels; broods of children; chains of callbacks; callbacks of pools that are gone. */
#ifndef TPOOL_TESTS_CHAOS_SCRIPTS_H
#define TPOOL_TESTS_CHAOS_SCRIPTS_H
#include "calls.h"

static atomic_int initialized[POOLS], finalized[POOLS];
/* As many ends as submits, as many workers that end as begin, where both are observed. */
static atomic_long unended[POOLS], workers_left[POOLS];
static void forget_counts(int p) {
    atomic_store(&initialized[p], 0);
    atomic_store(&finalized[p], 0);
    atomic_store(&unended[p], 0);
    atomic_store(&workers_left[p], 0);
}
static bool initializer(void *context);
static void finalizer(void *context);
static tpool_config draw_config(rng *g, a_pool *p);

/* ---- A pool that only this script knows, and its tasks. */
typedef struct helper {
    pthread_t thread;
    atomic_bool is_back;
    int pool;
    uint64_t seed;
    record *victims[8];
    int victim_count, rounds;
} helper;
static void *blocked_submitter(void *arg) {
    helper *h = arg;
    rng g = { h->seed };
    self()->program = 1;
    atomic_store(&self()->name, "submitter");
    submit(&g, h->pool, IN_LIMITED, 2, one_in(&g, 2));
    atomic_store(&h->is_back, true);
    return NULL;
}
static void *drainer(void *arg) {
    helper *h = arg;
    rng g = { h->seed };
    self()->program = 1;
    atomic_store(&self()->name, "drainer");
    for (int round = 0; round == 0 || round < h->rounds; round++) {
        int64_t limit = one_in(&g, 3) ? TPOOL_US(draw(&g, 3000)) : TPOOL_FOREVER;
        tpool_status status = CALL(h->pool, tpool_drain(pools[h->pool].handle, limit));
        if (status != TPOOL_OK && !(status == TPOOL_TIMEOUT && limit != TPOOL_FOREVER) &&
            !(status == TPOOL_NO_THREAD && may_refuse()))
            fail("a drain beside a destroy gave %s", tpool_status_name(status));
    }
    atomic_store(&h->is_back, true);
    return NULL;
}
static void *canceller(void *arg) {
    helper *h = arg;
    rng g = { h->seed };
    self()->program = 1;
    atomic_store(&self()->name, "canceller");
    for (int i = 0; i < h->victim_count; i++) {
        record *r = h->victims[i];
        pthread_mutex_lock(&r->lock);
        tpool_future *future = r->future ? tpool_future_retain(r->future) : NULL;
        pthread_mutex_unlock(&r->lock);
        if (!future) continue;
        keep(A_FUTURE, future);
        if (one_in(&g, 2)) {
            atomic_store(&r->cancel_tried, true);
            (void)CALL(id_of(r), tpool_future_cancel(future));
        } else {
            (void)observe(r, future, one_in(&g, 2) ? 0 : TPOOL_FOREVER, IN_PROGRAM);
        }
        release(future);
        if (one_in(&g, 4)) drop(r);
    }
    atomic_store(&h->is_back, true);
    return NULL;
}
static atomic_int gate_numbers, gates_open; /* tasks of a script hold a worker until this is above their number */
static void *held_task(void *arg) {
    int number = (int)(intptr_t)arg;
    while (atomic_load(&gates_open) <= number) sleep_us(50);
    return arg;
}
static void destroy_beside(rng *g) {
    enum { HELPERS = 6 };
    bool drips = one_in(g, 3);
    bool paused = one_in(g, 2) && !may_refuse(), held = false; /* paused, its tasks may not fill it */
    pthread_mutex_lock(&pool_making);
    int p = atomic_load(&pool_count);
    if (p < POOLS) {
        memset(&pools[p], 0, sizeof pools[p]);
        forget_counts(p);
        snprintf(pools[p].name, sizeof pools[p].name, "own%d", p);
        pools[p].config = draw_config(g, &pools[p]);
        pools[p].config.max_workers = 1 + (int)draw(g, 2);
        if (pools[p].config.min_workers > pools[p].config.max_workers) pools[p].config.min_workers = 0;
        if (one_in(g, 2)) pools[p].config.idle_timeout_ns = one_in(g, 2) ? 1000 : TPOOL_US(draw(g, 500));
        if (one_in(g, 2)) pools[p].config.max_tasks_per_worker = 1;
        pools[p].config.queue_capacity = 1 + draw(g, 3);
        pools[p].config.on_full = TPOOL_FULL_BLOCK;
        pools[p].is_of_script = true;
        pools[p].feeds_itself = !paused && one_in(g, 2);
        tpool_status status = CALL(p, tpool_create(&pools[p].handle, &pools[p].config));
        if (status != TPOOL_OK && !may_refuse()) fail("tpool_create gave %s", tpool_status_name(status));
        if (status == TPOOL_OK) atomic_fetch_add(&pool_count, 1);
        else p = POOLS;
    }
    pthread_mutex_unlock(&pool_making);
    if (p >= POOLS) return;
    tpool *pool = pools[p].handle;
    helper helpers[HELPERS], *cancels = NULL;
    int count = 0, gate = -1, wanted = (int)draw(g, 5);
    record *own_ones[8];
    int own_count = 0;
    if (drips) { /* tasks one after the other, as workers end and are replaced, beside drains */
        helper drains[2];
        int drain_count = 1 + (int)draw(g, 2);
        for (int i = 0; i < drain_count; i++) {
            drains[i] = (helper){ .pool = p, .seed = draw64(g), .rounds = 5 + (int)draw(g, 20) };
            if (pthread_create(&drains[i].thread, NULL, drainer, &drains[i]) != 0) fail("no thread");
        }
        for (int n = 5 + (int)draw(g, 20); n > 0; n--) {
            submit(g, p, IN_LIMITED | PURE, 3, one_in(g, 4));
            if (one_in(g, 3)) sleep_us((long)draw(g, 60));
        }
        for (int i = 0; i < drain_count; i++) pthread_join(drains[i].thread, NULL);
    }
    for (int i = 0; i < wanted && i < 8; i++)
        if ((own_ones[own_count] = submit(g, p, IN_LIMITED, 1 + (int)draw(g, 2), true)) != NULL) own_count++;
    if (atomic_load(&pools[p].may_break) || may_refuse()) paused = false;
    if (paused && CALL(p, tpool_pause(pool)) != TPOOL_OK) paused = false;
    if (!paused && one_in(g, 2) &&
        !may_refuse()) { /* one worker is held, so that the drains have something to wait for */
        gate = atomic_fetch_add(&gate_numbers, 1);
        held = CALL(p, tpool_submit(pool, held_task, (void *)(intptr_t)gate, NULL)) == TPOOL_OK;
        if (held) atomic_fetch_add(&pools[p].taken, 1);
    }
    if (paused) { /* filled, so that submitters surely block */
        for (tpool_stats s;;) {
            if (tpool_get_stats(pool, &s) != TPOOL_OK) fail("no stats");
            if (s.queued >= pools[p].config.queue_capacity) break;
            if (!submit(g, p, IN_LIMITED, 2, one_in(g, 2))) break;
        }
        for (int n = (int)draw(g, 3); n > 0; n--) helpers[count++] = (helper){ .pool = p, .seed = draw64(g) };
        for (int i = 0; i < count; i++)
            if (pthread_create(&helpers[i].thread, NULL, blocked_submitter, &helpers[i]) != 0) fail("no thread");
    }
    if (!pools[p].feeds_itself && (paused || held || one_in(g, 2))) /* its own tasks would count, too */
        for (int n = (int)draw(g, 3); n > 0; n--, count++) {
            helpers[count] = (helper){ .pool = p, .seed = draw64(g) };
            if (pthread_create(&helpers[count].thread, NULL, drainer, &helpers[count]) != 0) fail("no thread");
        }
    for (;;) { /* until all of them are in: a destroy may begin from then on */
        int in = 0;
        for (int i = 0; i < count; i++) in += atomic_load(&helpers[i].is_back);
        tpool__spin_lock(&pool->inject.lock);
        in += (int)pool->callers;
        tpool__spin_unlock(&pool->inject.lock);
        if (in >= count) break;
        sleep_us(100);
    }
    if (own_count && one_in(g, 2)) {
        cancels = &helpers[count];
        *cancels = (helper){ .pool = p, .seed = draw64(g), .victim_count = own_count };
        memcpy(cancels->victims, own_ones, sizeof own_ones);
        if (pthread_create(&helpers[count++].thread, NULL, canceller, cancels) != 0) fail("no thread");
    }
    if (held && one_in(g, 2)) {
        atomic_store(&gates_open, INT_MAX);
        held = false;
    }
    if (!held && one_in(g, 4)) {
        unsigned flags = draw(g, 8);
        atomic_store(&pools[p].shut, true);
        if (flags & TPOOL_CANCEL_PENDING) atomic_store(&pools[p].may_cancel, true);
        if (flags & TPOOL_STOP_RUNNING) atomic_store(&pools[p].may_stop, true);
        tpool_status status = CALL(p, tpool_shutdown(pool, flags));
        if (status != TPOOL_OK && !(status == TPOOL_NO_THREAD && may_refuse()))
            fail("shutdown gave %s", tpool_status_name(status));
        for (int looks = 0; status == TPOOL_OK && (flags & TPOOL_WAIT) && looks < 3; looks++) {
            tpool_stats s;
            if (tpool_get_stats(pool, &s) != TPOOL_OK || s.workers != 0)
                fail("pool %d: %d workers after its end", p, s.workers);
            sleep_us(100);
        }
    }
    atomic_store(&pools[p].shut, true); /* submitters that it finds blocked may be told so */
    if (held) atomic_store(&gates_open, INT_MAX);
    destroy_pool(p, true);
    begin("joining a script's helpers", p);
    for (int i = 0; i < count; i++) pthread_join(helpers[i].thread, NULL);
    end();
}

/* ---- A task with hundreds of children, awaited where they lie: in place, most of them. */
static void brood(rng *g, unsigned where, int depth) {
    enum { MOST = 160 };
    static atomic_int broods;
    record *children[MOST];
    int p = pool_of_life(g), count = 0, wanted = 20 + (int)draw(g, MOST - 20);
    if (atomic_fetch_add(&broods, 1) > 30 || atomic_load(&record_count) > RECORDS / 2 || !use(p)) return;
    for (int i = 0; i < wanted; i++) {
        record *r = submit(g, p, where | PURE, depth < 3 ? 3 : depth + 1, true);
        if (r) children[count++] = r;
    }
    unuse(p);
    bool backwards = one_in(g, 2);
    for (int i = 0; i < count; i++) {
        record *r = children[backwards ? count - 1 - i : i];
        pthread_mutex_lock(&r->lock);
        tpool_future *future = r->future ? tpool_future_retain(r->future) : NULL;
        pthread_mutex_unlock(&r->lock);
        if (!future) continue;
        keep(A_FUTURE, future);
        (void)observe(r, future, TPOOL_FOREVER, where | PURE);
        release(future);
    }
}

/* ---- Chains: each callback completes the next future, each result_free releases the next; on a small stack. */
enum { LINKS = 3000 };
static tpool_future *links[LINKS + 1];
static atomic_int links_done, links_freed;
static void link_done(tpool_future *future, void *context) {
    intptr_t i = (intptr_t)context;
    (void)future;
    atomic_fetch_add(&links_done, 1);
    if (i + 1 < LINKS && tpool_future_set_result(links[i + 1], NULL) != TPOOL_OK)
        fail("link %d cannot be completed", (int)i + 1);
}
static void link_freed(void *result) {
    intptr_t i = (intptr_t)result;
    atomic_fetch_add(&links_freed, 1);
    if (i < LINKS) tpool_future_release(links[i]);
}
static void *give_link(void *arg) { return tpool_return_owned(arg, link_freed); }
static tpool *link_pool;
static void link_shuts_down(tpool_future *future, void *context) {
    (void)future;
    (void)context;
    atomic_fetch_add(&links_done, 1);
    if (tpool_shutdown(link_pool, TPOOL_CANCEL_PENDING) != TPOOL_OK) fail("a shutdown in a callback");
}
static void *link_submits(void *arg) {
    intptr_t i = (intptr_t)arg;
    atomic_fetch_add(&links_done, 1);
    if (i + 1 < LINKS && tpool_submit(link_pool, link_submits, (void *)(i + 1), NULL) != TPOOL_OK)
        fail("link %d is not taken", (int)i + 1);
    return NULL;
}
/* It waits for what a callback of a future brings that it has itself completed. */
static void link_waits(tpool_future *future, void *context) {
    intptr_t i = (intptr_t)context;
    (void)future;
    atomic_fetch_add(&links_done, 1);
    if (i % 3 == 2) return;
    if (tpool_future_set_result(links[i + 1], NULL) != TPOOL_OK) fail("link %d cannot be completed", (int)i + 1);
    if (i % 3 == 0 && tpool_future_result(links[i + 2], TPOOL_FOREVER, NULL) != TPOOL_OK)
        fail("link %d has no result", (int)i + 2);
}
typedef enum link_kind { COMPLETES, FREES, SHUTS_DOWN, RUNS_DEEPER, WAITS_FOR_IT, LINK_KINDS } link_kind;
static void *chain_thread(void *arg) {
    link_kind kind = *(link_kind *)arg;
    self()->program = 1;
    atomic_store(&self()->name, "chain");
    if (kind == FREES) tpool_future_release(links[0]);
    else if (kind == SHUTS_DOWN) (void)tpool_future_cancel(links[0]);
    else if (kind == RUNS_DEEPER) (void)link_submits(NULL);
    else if (kind == WAITS_FOR_IT)
        for (int i = 0; i < LINKS; i += 3) (void)tpool_future_set_result(links[i], NULL);
    else if (tpool_future_set_result(links[0], NULL) != TPOOL_OK) fail("the first link cannot be completed");
    return NULL;
}
static void chain(rng *g) {
    static pthread_mutex_t one_chain = PTHREAD_MUTEX_INITIALIZER;
    if (has(REFUSED_MEMORY) || has(REFUSED_THREADS) || pthread_mutex_trylock(&one_chain) != 0) return;
    link_kind kind = (link_kind)draw(g, LINK_KINDS);
    tpool *pool = NULL;
    atomic_store(&links_done, 0);
    atomic_store(&links_freed, 0);
    begin("a chain", (int)kind);
    tpool_config config = { .max_workers = 1,
                            .queue_capacity = kind == RUNS_DEEPER,
                            .on_full = TPOOL_FULL_CALLER_RUNS };
    bool by_hand = kind == COMPLETES || kind == WAITS_FOR_IT;
    if (!by_hand && tpool_create(&pool, &config) != TPOOL_OK) fail("no pool for a chain");
    link_pool = pool;
    if (kind == SHUTS_DOWN && tpool_pause(pool) != TPOOL_OK) fail("no pause");
    int gate = -1;
    if (kind == RUNS_DEEPER) { /* the worker is held, and the queue full, so that the caller runs all */
        gate = atomic_fetch_add(&gate_numbers, 1);
        if (tpool_submit(pool, held_task, (void *)(intptr_t)gate, NULL) != TPOOL_OK) fail("no task for a chain");
        tpool_stats s;
        do (void)tpool_get_stats(pool, &s);
        while (s.queued > 0);
        if (tpool_submit(pool, managed_task, &links_freed, NULL) != TPOOL_OK) fail("no task for a chain");
    } else {
        for (intptr_t i = LINKS - 1; i >= 0; i--) {
            tpool_status status = by_hand ? tpool_future_create(&links[i])
                                          : tpool_submit(pool, kind == FREES ? give_link : managed_task,
                                                         kind == FREES ? (void *)(i + 1) : &links_freed, &links[i]);
            if (status != TPOOL_OK) fail("a link gave %s", tpool_status_name(status));
            if (kind == FREES) continue;
            status = tpool_future_add_done_callback(links[i],
                                                    kind == COMPLETES      ? link_done
                                                    : kind == WAITS_FOR_IT ? link_waits
                                                                           : link_shuts_down,
                                                    (void *)i);
            if (status != TPOOL_OK) fail("a link without callback");
        }
    }
    if (kind == FREES) tpool_destroy(pool);
    pthread_attr_t small;
    pthread_t thread;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, SLOW ? 1 << 20 : 128 << 10);
    if (pthread_create(&thread, &small, chain_thread, &kind) != 0) fail("no thread for a chain");
    pthread_attr_destroy(&small);
    if (kind == RUNS_DEEPER) {
        sleep_us(20000);
        atomic_store(&gates_open, INT_MAX);
    }
    pthread_join(thread, NULL);
    if (kind == SHUTS_DOWN || kind == RUNS_DEEPER) tpool_destroy(pool);
    if (kind == FREES ? atomic_load(&links_freed) != LINKS : atomic_load(&links_done) != LINKS)
        fail("a chain of %d: %d done, %d freed", LINKS, atomic_load(&links_done), atomic_load(&links_freed));
    for (int i = 0; i < LINKS && (by_hand || kind == SHUTS_DOWN); i++) tpool_future_release(links[i]);
    end();
    pthread_mutex_unlock(&one_chain);
}

/* ---- A callback of a pool that is gone waits, while others come and go at the same address. */
static atomic_int lingers;
static void linger(tpool_future *future, void *context) {
    (void)future;
    (void)context;
    atomic_store(&lingers, 1);
    while (atomic_load(&lingers) == 1) sleep_us(50);
}
static void *linger_thread(void *arg) {
    self()->program = 1;
    atomic_store(&self()->name, "linger");
    if (tpool_future_add_done_callback(arg, linger, NULL) != TPOOL_OK) fail("no callback");
    return NULL;
}
static void gone(rng *g) {
    static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
    if (has(REFUSED_MEMORY) || has(REFUSED_THREADS) || pthread_mutex_trylock(&one) != 0) return;
    tpool *pool = NULL;
    tpool_future *future = NULL;
    pthread_t thread;
    atomic_int ran = 0;
    begin("pools that come and go", -1);
    if (tpool_create(&pool, NULL) != TPOOL_OK || tpool_submit(pool, managed_task, &ran, &future) != TPOOL_OK)
        fail("no pool");
    if (tpool_destroy(pool) != TPOOL_OK) fail("no destroy");
    atomic_store(&lingers, 0);
    if (pthread_create(&thread, NULL, linger_thread, future) != 0) fail("no thread");
    while (atomic_load(&lingers) == 0) sleep_us(50);
    for (int n = 60 + (int)draw(g, 80); n > 0; n--) {
        if (tpool_create(&pool, NULL) != TPOOL_OK) fail("no pool");
        tpool_status status = tpool_destroy(pool);
        if (status != TPOOL_OK) fail("a destroy beside a callback of another pool gave %s", tpool_status_name(status));
    }
    atomic_store(&lingers, 2);
    pthread_join(thread, NULL);
    tpool_future_release(future);
    end();
    pthread_mutex_unlock(&one);
}

/* ---- A burst of plain tasks and, amid them, some that leave tombstones in the lane of their worker. */
typedef struct burst_run {
    tpool *pool;
    atomic_int ran, given, open;
    uint64_t seed;
    bool cancels;
} burst_run;
static burst_run bursts[64];
static void *burst_leaf(void *arg) {
    atomic_fetch_add(&((burst_run *)arg)->ran, 1);
    return arg;
}
static void *burst_holds(void *arg) {
    burst_run *b = arg;
    atomic_fetch_add(&b->ran, 1);
    for (int i = 0; i < 40 && !atomic_load(&b->open); i++) sleep_us(100);
    return arg;
}
static void *burst_many(void *arg) {
    burst_run *b = arg;
    rng g = { mix(b->seed, 3) };
    static _Thread_local tpool_future *futures[300];
    int count = 0, wanted = 20 + (int)draw(&g, b->cancels ? 2000 : 280);
    atomic_fetch_add(&b->ran, 1);
    for (int i = 0; i < wanted; i++) {
        tpool_future *future = NULL;
        tpool_status status = tpool_submit(b->pool, burst_leaf, b, &future);
        if (status == TPOOL_OK) {
            atomic_fetch_add(&b->given, 1);
            futures[count++] = future;
        } else if (!may_refuse()) fail("a submit in a burst gave %s", tpool_status_name(status));
        if (!b->cancels || !count || status != TPOOL_OK) continue;
        if (tpool_future_cancel(future)) atomic_fetch_sub(&b->given, 1);
        tpool_future_release(future);
        count--;
    }
    tpool_future *awaited[300];
    memcpy(awaited, futures, sizeof awaited);
    for (int i = 0; i < count; i++) {
        tpool_status status = tpool_future_result(awaited[i], TPOOL_FOREVER, NULL);
        if (status != TPOOL_OK && !may_refuse()) fail("a child in a burst gave %s", tpool_status_name(status));
        tpool_future_release(awaited[i]);
    }
    atomic_store(&b->open, 1);
    return arg;
}
static void burst(rng *g) {
    static atomic_int count;
    int at = atomic_fetch_add(&count, 1) % 64;
    burst_run *b = &bursts[at];
    if (has(REFUSED_MEMORY) || has(REFUSED_THREADS)) return;
    *b = (burst_run){ .seed = draw64(g), .cancels = one_in(g, 2) };
    begin("a burst", at);
    tpool_config config = { .max_workers = 1 + (int)draw(g, 3), .measure = has(MEASURE) && !one_in(g, 4) };
    if (tpool_create(&b->pool, &config) != TPOOL_OK) fail("no pool for a burst");
    int tasks = 50 + (int)draw(g, 300), special = (int)draw(g, (unsigned)tasks);
    if (one_in(g, 2) && tpool_submit(b->pool, burst_holds, b, NULL) == TPOOL_OK) {
        atomic_fetch_add(&b->given, 1);
        while (atomic_load(&b->ran) == 0) sleep_us(50);
    }
    if (tpool_pause(b->pool) != TPOOL_OK) fail("no pause");
    for (int i = 0; i < tasks; i++) {
        if (tpool_submit(b->pool, i == special ? burst_many : burst_leaf, b, NULL) != TPOOL_OK)
            fail("a submit in a burst");
        atomic_fetch_add(&b->given, 1);
    }
    if (tpool_resume(b->pool) != TPOOL_OK) fail("no resume");
    if (tpool_drain(b->pool, TPOOL_FOREVER) != TPOOL_OK) fail("no drain");
    if (atomic_load(&b->ran) != atomic_load(&b->given))
        fail("a burst: %d ran of %d", atomic_load(&b->ran), atomic_load(&b->given));
    if (tpool_destroy(b->pool) != TPOOL_OK) fail("no destroy");
    end();
}

/* ---- A full queue of expired tasks takes the next. */
static void count_expired(tpool_future *future, void *context) {
    if (tpool_future_result(future, 0, NULL) == TPOOL_EXPIRED) atomic_fetch_add((atomic_int *)context, 1);
}
static void expired_queue(rng *g) {
    tpool_config config = { .max_workers = 1 + (int)draw(g, 2),
                            .queue_capacity = 1 + draw(g, 4),
                            .on_full = (tpool_full_policy)draw(g, 4),
                            .measure = has(MEASURE) };
    tpool *pool = NULL;
    atomic_int ran = 0, expired = 0;
    if (has(REFUSED_MEMORY) || has(REFUSED_THREADS)) return;
    begin("a queue of expired tasks", (int)config.on_full);
    if (tpool_create(&pool, &config) != TPOOL_OK) fail("no pool");
    if (one_in(g, 2) && tpool_warm_up(pool, 1) != TPOOL_OK) fail("no worker");
    if (tpool_pause(pool) != TPOOL_OK) fail("no pause");
    for (size_t i = 0; i < config.queue_capacity; i++) {
        tpool_task task = { .fn = managed_task, .arg = &ran, .expires_ns = TPOOL_US(1 + draw(g, 500)) };
        tpool_future *future = NULL;
        if (one_in(g, 3)) task.priority = (int)draw(g, 3) - 1;
        if (tpool_submit_task(pool, &task, &future) != TPOOL_OK ||
            tpool_future_add_done_callback(future, count_expired, &expired) != TPOOL_OK)
            fail("no task that expires");
        tpool_future_release(future);
    }
    sleep_us(1000);
    tpool_status status = tpool_submit(pool, managed_task, &ran, NULL);
    if (status != TPOOL_OK) fail("a queue of expired tasks gave %s", tpool_status_name(status));
    if (config.on_full == TPOOL_FULL_CALLER_RUNS && atomic_load(&ran)) fail("the caller runs, and there is room");
    if (tpool_resume(pool) != TPOOL_OK || tpool_destroy(pool) != TPOOL_OK) fail("no end of a pool");
    if (atomic_load(&ran) != 1 || atomic_load(&expired) != (int)config.queue_capacity)
        fail("%d ran, %d expired of %d", atomic_load(&ran), atomic_load(&expired), (int)config.queue_capacity);
    end();
}

static void script(rng *g) {
    if (has(BROODS) && one_in(g, 8)) {
        burst(g);
        return;
    }
    if (has(EXPIRIES) && one_in(g, 8)) {
        expired_queue(g);
        return;
    }
    switch (draw(g, 10)) {
    case 0:
        if (has(CHAINS)) {
            chain(g);
            break;
        } /* fall through */
    case 1:
        if (has(GONE)) {
            gone(g);
            break;
        } /* fall through */
    default: destroy_beside(g); break;
    }
}
#endif
