/* chaos: what it draws of fork and join, of loops and of maps. */
#ifndef TPOOL_CHAOS_LOOPS_H
#define TPOOL_CHAOS_LOOPS_H
#include "acts.h"

/* ---- Fork and join */
enum { JOB_RUNS = 4000 };
typedef struct job_run {
    scope scope;
    uint64_t seed;
    unsigned where, depth;
    bool forked;
    atomic_int runs, joined;
} job_run;
static job_run job_runs[JOB_RUNS];
static atomic_int job_count;
static job_run *new_job(rng *g, unsigned where, unsigned depth, bool forked) {
    int at = atomic_fetch_add(&job_count, 1);
    if (at >= JOB_RUNS) {
        atomic_store(&job_count, JOB_RUNS);
        return NULL;
    }
    job_run *run = &job_runs[at];
    atomic_store(&run->joined, 0);
    run->scope = (scope){ .kind = A_JOB, .outer = innermost() };
    run->seed = draw64(g);
    run->where = where;
    run->depth = depth;
    run->forked = forked; /* else its caller's own */
    return run;
}
static void *job_body(void *arg) {
    job_run *run = arg;
    rng g = { run->seed };
    record *r = task_of(&run->scope);
    begin("a job of", id_of(r));
    if (atomic_fetch_add(&run->runs, 1)) fail("a job runs twice");
    enter(&run->scope);
    stop_own(&g, r);
    if (r) check_stop(r);
    wake_note *hears = r && run->forked ? hear_of_stops(&g, r, &run->joined, NULL) : NULL;
    if (run->depth > 0) {
        tpool_job job[2];
        job_run *args[2];
        int n = 0, most = 1 + (int)draw(&g, 2);
        for (; n < most && (args[n] = new_job(&g, run->where, run->depth - 1, true)) != NULL; n++)
            DO(id_of(r), tpool_fork(&job[n], job_body, args[n]));
        if (one_in(&g, 2)) acts(&g, run->where, 2, 2);
        for (int i = n; i-- > 0;) {
            void *got = CALL(id_of(r), tpool_join(&job[i]));
            atomic_store(&args[i]->joined, 1);
            bool ended = atomic_load(&args[i]->scope.ended);
            if (got != &args[i]->runs && !ended) fail("a job gives another value");
            if (atomic_load(&args[i]->runs) != 1) fail("a job is joined, and was not run");
        }
    } else if (one_in(&g, 4)) {
        acts(&g, run->where, 1, 2);
    }
    if (one_in(&g, 6)) sleep_us((long)draw(&g, 60));
    if (one_in(&g, 40)) raise_error(&g);
    await_wake(&g, hears);
    if (may_end(ENDS_IN_JOBS, &g, 12)) end_thread(&g);
    if (r) check_stop(r);
    leave();
    end();
    return &run->runs;
}
static void fork_and_join(rng *g, unsigned where) {
    job_run *run = new_job(g, where, 1 + draw(g, 3), false);
    if (run) job_body(run);
}

/* ---- Loops */
typedef struct loop_run {
    scope scope;
    uint64_t seed;
    unsigned where;
    int count;
    atomic_int cells[LOOP_CELLS], returned;
} loop_run;
static loop_run loops[LOOPS];
static atomic_int loop_count;
static void loop_body(size_t from, size_t to, void *context) {
    loop_run *l = context;
    rng g = { mix(l->seed, from) };
    record *r = task_of(&l->scope);
    begin("a loop's body of", id_of(r));
    if (atomic_load(&l->returned)) fail("a loop's body after its end");
    if (from >= to || to > (size_t)l->count) fail("a loop's body from %zu to %zu", from, to);
    enter(&l->scope);
    for (size_t i = from; i < to; i++)
        if (atomic_fetch_add(&l->cells[i], 1)) fail("a loop did %zu twice", i);
    stop_own(&g, r);
    if (r) check_stop(r);
    wake_note *hears = r ? hear_of_stops(&g, r, &l->returned, NULL) : NULL;
    if (one_in(&g, 6)) acts(&g, l->where, 1, 2);
    if (one_in(&g, 4)) sleep_us((long)draw(&g, 60));
    await_wake(&g, hears);
    if (one_in(&g, 30)) raise_error(&g);
    if (may_end(ENDS_IN_LOOPS, &g, 12)) end_thread(&g);
    leave();
    if (atomic_load(&l->returned)) fail("a loop's body after its end");
    end();
}
static void loop(rng *g, int p, unsigned where) {
    int at = atomic_fetch_add(&loop_count, 1);
    if (at >= LOOPS) return;
    loop_run *l = &loops[at];
    l->scope = (scope){ .kind = A_LOOP, .outer = innermost() };
    l->seed = draw64(g);
    l->where = (where & (PURE | IN_LIMITED)) | IN_TASK;
    l->count = (int)draw(g, LOOP_CELLS + 1);
    atomic_fetch_add(&pools[p].others, 1);
    tpool_status status = CALL(p, tpool_for(pools[p].handle, 0, (size_t)l->count, draw(g, 6), loop_body, l));
    atomic_store(&l->returned, 1);
    int done = 0;
    for (int i = 0; i < l->count; i++) done += atomic_load(&l->cells[i]);
    bool well = false;
    switch (status) {
    case TPOOL_OK: well = done == l->count && !atomic_load(&l->scope.raised) && !atomic_load(&l->scope.ended); break;
    case TPOOL_FAILED: well = atomic_load(&l->scope.raised); break;
    case TPOOL_BROKEN:
        well = atomic_load(&l->scope.ended) || atomic_load(&l->scope.may_break) || atomic_load(&pools[p].may_break);
        break;
    case TPOOL_SHUTDOWN: well = atomic_load(&pools[p].shut); break;
    case TPOOL_NO_MEMORY:
    case TPOOL_NO_THREAD: well = may_refuse(); break;
    case TPOOL_DEADLOCK: well = self()->frame_count > 0 || self()->hooks > 0; break;
    default: break;
    }
    if (!well)
        fail("tpool_for gave %s, %d of %d done, %d raised, %d ended", tpool_status_name(status), done, l->count,
             atomic_load(&l->scope.raised), atomic_load(&l->scope.ended));
}

/* ---- Maps; one of tpool_map_auto has a pool of a manager's */
static tpool_manager *manager;
static atomic_bool manager_shut, global_manager_shut;
typedef struct map_run {
    scope scopes[MAP_ITEMS];
    uint64_t seed;
    unsigned where;
    int count, pool, at;
    bool source, unordered;
    bool chosen, of_global;    /* by tpool_map_auto; with the global manager */
    bool left;                 /* its maker's thread ended within tpool_map */
    bool closer_is_waited_for; /* perhaps: an item may wait for the task that closes, which then does not wait for it */
    bool given[MAP_ITEMS];     /* to the consumer */
    atomic_int cells[MAP_ITEMS], frees[MAP_ITEMS], asked, ended, closed;
} map_run;
static map_run maps[MAPS];
static const atomic_int never_over; /* a close may leave this item running */
static atomic_int map_count;
static int fate_of_item(const map_run *m, int i) { return (int)(mix(m->seed, (uint64_t)i) >> 33) % 10; }
static void *map_body(void *item, void *context) {
    map_run *m = context;
    int i = (int)((atomic_int *)item - m->cells);
    rng g = { mix(m->seed, 100 + (uint64_t)i) };
    begin("an item of map", m->at);
    if (i < 0 || i >= m->count) fail("a map's item that is not there");
    if (atomic_load(&m->closed) && !m->closer_is_waited_for) fail("a map's item after its close");
    if (atomic_fetch_add(&m->cells[i], 1)) fail("a map's item twice");
    if (m->source && atomic_load(&m->frees[i])) fail("a map's item after its item_free");
    enter(&m->scopes[i]);
    wake_note *hears = hear_of_stops(&g, NULL, m->closer_is_waited_for ? &never_over : &m->closed, NULL);
    if (one_in(&g, 5)) acts(&g, m->where, 1, 2);
    if (one_in(&g, 4)) sleep_us((long)draw(&g, 60));
    await_wake(&g, hears);
    if (may_end(ENDS_IN_MAPS, &g, 15)) {
        atomic_store(&m->ended, 1);
        end_thread(&g);
    }
    void *value = item;
    unsigned char bytes[50];
    switch (fate_of_item(m, i)) {
    case 0: value = tpool_raise(i, "item %d", i); break;
    case 1:
        memset(bytes, i, sizeof bytes);
        value = tpool_return(bytes, sizeof bytes);
        break;
    default: break;
    }
    leave();
    if (atomic_load(&m->closed) && !m->closer_is_waited_for) fail("a map's item after its close");
    end();
    return value;
}
static bool map_source(void *context, void **item) {
    map_run *m = context;
    int i = atomic_fetch_add(&m->asked, 1);
    rng g = { mix(m->seed, 200 + (uint64_t)i) };
    begin("the source of map", m->at);
    if (i >= m->count) {
        atomic_store(&m->asked, m->count);
        end();
        return false;
    }
    if (one_in(&g, 10) && has(BUSY_CALLBACKS)) acts(&g, IN_LIMITED, 1, 2);
    if (may_end(ENDS_IN_MAPS, &g, 60)) {
        atomic_store(&m->asked, i);
        atomic_store(&m->ended, 1);
        end_thread(&g);
    }
    *item = &m->cells[i];
    end();
    return true;
}
static void map_item_free(void *item, void *context) {
    map_run *m = context;
    int i = (int)((atomic_int *)item - m->cells);
    rng g = { mix(m->seed, 300 + (uint64_t)i) };
    begin("item_free of map", m->at);
    if (i < 0 || i >= m->count) fail("item_free of an item that is not there");
    if (atomic_fetch_add(&m->frees[i], 1)) fail("item_free twice");
    if (has(BUSY_FREES) && one_in(&g, 4)) acts(&g, IN_LIMITED, 1, 2);
    end();
}
static void close_map(map_run *m, tpool_map_iter *iter, bool orphan) {
    DO(m->at, tpool_map_close(iter));
    atomic_store(&m->closed, 1);
    if (!m->source || orphan || m->closer_is_waited_for) return;
    for (int i = 0; i < m->count; i++)
        if (atomic_load(&m->frees[i]) != (i < atomic_load(&m->asked)))
            fail("map %d: item_free of item %d did not come once", m->at, i);
}
/* What a map's pool may come to. */
static bool map_is_shut(const map_run *m) {
    return m->chosen ? atomic_load(m->of_global ? &global_manager_shut : &manager_shut)
                     : atomic_load(&pools[m->pool].shut) || atomic_load(&pools[m->pool].ends);
}
static bool map_may_cancel(const map_run *m) {
    const a_pool *p = &pools[m->pool];
    return map_is_shut(m) ||
           (!m->chosen && (atomic_load(&p->may_cancel) || p->config.on_full == TPOOL_FULL_DROP_OLDEST));
}
static bool map_may_break(const map_run *m) { return !m->chosen && atomic_load(&pools[m->pool].may_break); }
static bool map_rejects(const map_run *m) { return !m->chosen && pools[m->pool].config.on_full == TPOOL_FULL_REJECT; }
/* Its first items run before it returns, in this thread; all others here, within map_next, or elsewhere. */
static tpool_status choose(map_run *m, const tpool_map_spec *spec, tpool_map_iter **iter) {
    tpool_choice choice;
    tpool_status status = CALL(m->at, tpool_map_auto(m->of_global ? NULL : manager, spec, 0, iter, &choice));
    if (status != TPOOL_OK) return status;
    size_t run = 0;
    for (int i = 0; i < m->count; i++) run += (size_t)atomic_load(&m->cells[i]);
    if (choice.kind != TPOOL_THREADS || choice.tried > run || !choice.reason[0] ||
        (spec->chunk_size == 1 ? choice.tried != 0 : choice.tried == 0 && m->count > 0))
        fail("map %d: %zu of %zu items were tried: %s", m->at, choice.tried, run, choice.reason);
    return status;
}
typedef struct open_map {
    tpool_map_iter *iter;
    map_run *run;
} open_map;
static open_map open_maps[MAPS];
static void map(rng *g, int p, unsigned where) {
    int at = atomic_fetch_add(&map_count, 1), delivered = 0;
    if (at >= MAPS) return;
    map_run *m = &maps[at];
    *m = (map_run){ .seed = draw64(g),
                    .where = (where & PURE) | IN_LIMITED,
                    .count = (int)draw(g, MAP_ITEMS + 1),
                    .pool = p,
                    .at = at,
                    .source = one_in(g, 2),
                    .unordered = one_in(g, 3) };
    m->closer_is_waited_for = (innermost() && !(where & PURE)) || self()->hooks;
    for (int i = 0; i < MAP_ITEMS; i++) m->scopes[i].kind = AN_ITEM;
    tpool_map_spec spec = { .fn = map_body, .context = m, .chunk_size = draw(g, 4), .buffer_size = draw(g, 8) };
    spec.unordered = m->unordered;
    spec.run_limit_ns = one_in(g, 4) ? TPOOL_US(draw(g, 50)) : 0;
    if (m->source) {
        spec.next = map_source;
        spec.item_free = map_item_free;
        if (!spec.buffer_size) spec.buffer_size = 3;
    } else {
        spec.items = m->cells;
        spec.count = (size_t)m->count;
        spec.stride = sizeof m->cells[0];
    }
    tpool_map_iter *iter = NULL;
    m->chosen = has(MAPS_AUTO) && manager && one_in(g, 2);
    m->of_global = m->chosen && has(GLOBAL_MANAGER) && one_in(g, 2);
    if (!m->chosen) atomic_fetch_add(&pools[p].others, 1);
    m->left = true;
    tpool_status status = m->chosen ? choose(m, &spec, &iter) : CALL(p, tpool_map(pools[p].handle, &spec, &iter));
    m->left = false;
    if (status != TPOOL_OK) {
        bool well = status == TPOOL_SHUTDOWN   ? map_is_shut(m)
                    : status == TPOOL_BROKEN   ? map_may_break(m)
                    : status == TPOOL_FULL     ? map_rejects(m)
                    : status == TPOOL_DEADLOCK ? self()->hooks > 0
                                               : may_refuse();
        if (iter || !well) fail("tpool_map gave %s", tpool_status_name(status));
        return;
    }
    open_maps[at].run = m;
    open_maps[at].iter = iter;
    keep(A_MAP, &open_maps[at]);
    unsigned most = one_in(g, 3) ? draw(g, MAP_ITEMS) : 1000;
    bool outside = where == IN_PROGRAM && self()->frame_count == 0;
    bool outlives = outside && !m->chosen && has(DESTROYS) && one_in(g, 2), alone = false;
    for (unsigned tries = 0; tries < most && tries < 300; tries++) {
        void *value = NULL;
        if (outlives && !alone && one_in(g, 4)) { /* the pool may be destroyed beneath the iterator */
            alone = true;
            unuse(p);
            sleep_us((long)draw(g, 4000));
        }
        int64_t limit = limit_of_wait(g, where, true);
        status = CALL(at, tpool_map_next(iter, limit, &value));
        if (status == TPOOL_END) break;
        const tpool_error *error = NULL;
        int i = delivered;
        bool ended = status == TPOOL_OK || status == TPOOL_FAILED;
        if (ended && m->unordered) {
            i = (int)tpool_map_index(iter);
            if (i < 0 || i >= m->count || m->given[i]) fail("map %d: item %d comes, perhaps again", at, i);
            m->given[i] = true;
        } else if (ended && tpool_map_index(iter) != (size_t)i) {
            fail("map %d: index of item %d", at, i);
        }
        if (status == TPOOL_CANCELLED && m->unordered) i = (int)tpool_map_index(iter);
        bool shows = status == TPOOL_OK || status == TPOOL_FAILED || status == TPOOL_CANCELLED;
        if (shows ? tpool_map_item(iter) != &m->cells[i] || (m->source && atomic_load(&m->frees[i]))
                  : status != TPOOL_BROKEN && tpool_map_item(iter))
            fail("map %d: the item delivered is not item %d, or it is gone", at, i);
        bool may = atomic_load(&m->ended) || map_may_break(m) || may_be_stranded();
        for (int k = 0; k < m->count; k++)
            may = may || atomic_load(&m->scopes[k].ended) || atomic_load(&m->scopes[k].may_break);
        switch (status) {
        case TPOOL_OK:
            if (i >= m->count || fate_of_item(m, i) == 0 || atomic_load(&m->scopes[i].raised))
                fail("map %d: item %d is OK", at, i);
            if (atomic_load(&m->cells[i]) != 1) fail("map %d: item %d is OK, and was not run", at, i);
            if (fate_of_item(m, i) == 1 ? tpool_map_result_size(iter) != 50 || *(unsigned char *)value != i
                                        : value != &m->cells[i])
                fail("map %d: item %d gives another value", at, i);
            delivered++;
            break;
        case TPOOL_FAILED:
            if (tpool_map_error(iter, &error) != TPOOL_OK || !error) fail("map %d: no error", at);
            if (i >= m->count || (fate_of_item(m, i) != 0 && !atomic_load(&m->scopes[i].raised) && !may_refuse()))
                fail("map %d: item %d FAILED", at, i);
            delivered++;
            break;
        case TPOOL_CANCELLED:
            if (!map_may_cancel(m)) fail("map %d: item %d CANCELLED", at, i);
            delivered++;
            break;
        case TPOOL_BROKEN:
            if (!may) fail("map %d: item %d BROKEN", at, i);
            delivered++;
            break;
        case TPOOL_FULL:
            if (!map_rejects(m)) fail("map_next gave TPOOL_FULL");
            break;
        case TPOOL_SHUTDOWN: fail("map_next gave TPOOL_SHUTDOWN");
        default: about_wait(status, limit, where, "tpool_map_next"); break;
        }
        if (status == TPOOL_NO_THREAD || status == TPOOL_DEADLOCK) break;
    }
    if (status == TPOOL_END && delivered != m->count && !atomic_load(&m->ended) && !map_is_shut(m) &&
        !map_may_break(m) && !may_refuse())
        fail("map %d: %d of %d items", at, delivered, m->count);
    if (status == TPOOL_END && CALL(at, tpool_map_next(iter, 0, &(void *){ NULL })) != TPOOL_END)
        fail("map %d goes on after its end", at);
    unkeep(&open_maps[at]);
    close_map(m, iter, atomic_load(&m->ended));
    if (alone && !use(p)) keep(A_USE, NULL); /* for the caller's unuse */
}
#endif
