/* What chaos.c does: tasks, callbacks and everything else that the library calls, and the calls that they and the
   threads of the program make. */
#ifndef TPOOL_TESTS_CHAOS_ACTS_H
#define TPOOL_TESTS_CHAOS_ACTS_H
#include "account.h"

/* Where a call is made decides how long it may wait: the program's own threads for anything, since nobody waits for
   them; tasks without a limit only for what is searched for cycles; callbacks and the like briefly. What is pure waits
   for children of its own that are pure too: any wait for such a one ends. */
enum { IN_PROGRAM = 1, IN_TASK = 2, IN_LIMITED = 4, PURE = 8 };
static void acts(rng *g, unsigned where, int most, int depth);
static int pool_of_life(rng *g);

static int64_t limit_of_wait(rng *g, unsigned where, bool searched) {
    if (where & PURE) return TPOOL_FOREVER;
    if (!(where & IN_LIMITED) && (searched || !(where & IN_TASK)) && !one_in(g, 3)) return TPOOL_FOREVER;
    unsigned k = draw(g, 10);
    return k < 3 ? -(int64_t)draw(g, 2) : k < 8 ? TPOOL_US(draw(g, 500)) : TPOOL_MS(draw(g, 4));
}
/* The statuses that a wait may give for reasons of its own. */
static bool may_refuse(void) { return atomic_load(&refused_once) != 0; }
static void about_wait(tpool_status status, int64_t limit, unsigned where, const char *what) {
    actor *a = self();
    bool well = status == TPOOL_TIMEOUT     ? limit != TPOOL_FOREVER
                : status == TPOOL_NO_THREAD ? may_refuse()
                : status == TPOOL_NO_MEMORY ? may_refuse()
                : status == TPOOL_DEADLOCK
                    ? a->hooks > 0 || (!(where & PURE) && (where != IN_PROGRAM || a->frame_count > 0))
                    : false;
    if (!well) fail("%s gave %s", what, tpool_status_name(status));
}

/* ---- The end of a thread, wherever it is */
static void stops_running(record *r) {
    for (a_group *group = r->group; group; group = group->parent) atomic_fetch_sub(&group->running, 1);
}
/* Each run of a member has a permit of its group, and of all above it. */
static void starts_running(record *r) {
    for (a_group *group = r->group; group; group = group->parent) {
        int running = atomic_fetch_add(&group->running, 1) + 1;
        if (group->limit && running > group->limit)
            fail("%d members of a group with %d permits", running, group->limit);
    }
    if (tpool_current_group() != (r->group ? r->group->handle : NULL)) fail("task %d: another group", id_of(r));
}
static bool may_end(feature f, rng *g, unsigned n) {
    actor *a = self();
    return has(f) && (a->program == 0 || a->may_end) && !ending && one_in(g, n);
}
static void mark_ended(void) {
    actor *a = self();
    for (int i = 0; i < a->frame_count; i++) mark(a->frames[i], false);
    for (int p = 0; p < atomic_load(&pool_count) && a->hooks; p++) atomic_store(&pools[p].may_break, true);
}
static _Noreturn void end_thread(rng *g) {
    actor *a = self();
    mark_ended();
    for (int i = 0; i < a->frame_count; i++)
        if (a->frames[i]->kind == A_TASK) stops_running(a->frames[i]->record);
    pthread_mutex_lock(&orphan_lock);
    for (int i = 0; i < a->temp_count; i++) {
        if (a->temps[i].kind == NOTHING || !a->temps[i].what) continue;
        int at = atomic_fetch_add(&orphan_count, 1);
        if (at < (int)(sizeof orphans / sizeof *orphans)) orphans[at] = a->temps[i];
    }
    pthread_mutex_unlock(&orphan_lock);
    a->temp_count = a->frame_count = a->hooks = 0;
    ending = true;
    atomic_store(&threads_ended, true);
    begin("ending its thread", -1);
    switch (draw(g, 3)) {
    case 0: pthread_exit(NULL);
#if defined(TPOOL__THREADS_C11)
    case 1: thrd_exit(0);
#endif
    default:
        pthread_cancel(pthread_self());
        pthread_testcancel();
        pthread_exit(NULL); /* it ends already, and the system ignores that it is cancelled */
    }
}

/* ---- Looking at the end of a task */
static tpool_status observe(record *r, tpool_future *future, int64_t limit, unsigned where) {
    void *value = &value;
    tpool_status status = CALL(id_of(r), tpool_future_result(future, limit, &value));
    if (tpool_future_tag(future) != (r->tagged ? r : NULL)) fail("task %d has another tag", id_of(r));
    if (!is_end(status)) {
        if (value) fail("a result without an end");
        about_wait(status, limit, where, "a wait for a result");
        return status;
    }
    judge(r, status);
    if (status == TPOOL_OK) judge_value(r, future, value);
    else if (value) fail("task %d: a result though it is %s", id_of(r), tpool_status_name(status));
    return status;
}
/* Some task's future, with a reference of the caller's own; NULL: none. */
static tpool_future *pick(rng *g, record **which, bool external) {
    int count = atomic_load(&record_count);
    if (count > RECORDS) count = RECORDS;
    for (int tries = 0; tries < 6 && count > 0; tries++) {
        record *r = &records[one_in(g, 3) || count < 30 ? (int)draw(g, (unsigned)count) : count - 1 - (int)draw(g, 30)];
        tpool_future *future = NULL;
        pthread_mutex_lock(&r->lock);
        if (r->future && (!external || r->pool == -1)) future = tpool_future_retain(r->future);
        pthread_mutex_unlock(&r->lock);
        if (!future) continue;
        keep(A_FUTURE, future);
        *which = r;
        return future;
    }
    return NULL;
}
static void drop(record *r) {
    pthread_mutex_lock(&r->lock);
    tpool_future *future = r->future;
    r->future = NULL;
    pthread_mutex_unlock(&r->lock);
    if (future) DO(id_of(r), tpool_future_release(future));
}

/* ---- Callbacks */
static void callback(tpool_future *future, void *context) {
    note *n = context;
    rng g = { n->seed };
    record *r = n->record;
    begin("a callback of", id_of(r));
    if (atomic_fetch_add(&n->runs, 1)) fail("a callback of task %d runs twice", id_of(r));
    if (!tpool_future_done(future)) fail("a callback of task %d before the end", id_of(r));
    /* one that was added after the end may be listed by its adder, and come before those that the ender still has */
    if (n->index >= 0 && !pthread_equal(n->adder, pthread_self()) &&
        atomic_exchange(&r->last_note, n->index + 1) > n->index)
        fail("a callback of task %d out of order", id_of(r));
    tpool_future_retain(future);
    keep(A_FUTURE, future);
    if (!is_end(observe(r, future, 0, IN_LIMITED))) fail("task %d has no end in its callback", id_of(r));
    release(future);
    if (has(BUSY_CALLBACKS)) acts(&g, IN_LIMITED | (one_in(&g, 4) ? PURE : 0), 2, 2);
    if (may_end(ENDS_IN_CALLBACKS, &g, 8)) end_thread(&g);
    end();
}
static void add_callback(rng *g, record *r, tpool_future *future, bool ordered) {
    int at = atomic_fetch_add(&note_count, 1);
    if (at >= NOTES) return;
    note *n = &notes[at];
    n->record = r;
    n->index = ordered ? atomic_fetch_add(&r->notes, 1) : -1;
    n->seed = draw64(g);
    n->adder = pthread_self();
    tpool_status status = CALL(id_of(r), tpool_future_add_done_callback(future, callback, n));
    if (status != TPOOL_OK && !(status == TPOOL_NO_MEMORY && may_refuse()))
        fail("adding a callback gave %s", tpool_status_name(status));
    atomic_store(&n->added, status == TPOOL_OK ? 1 : 2);
}

/* ---- Tasks */
static void free_argument(void *arg) {
    ticket t;
    memcpy(&t, arg, sizeof t);
    if (t.mark != MARK) fail("arg_free of no argument");
    record *r = t.record;
    rng g = { mix(r->seed, 91) };
    begin("arg_free of", id_of(r));
    atomic_store(&r->over, 1);
    if (!r->wants_free) fail("task %d: an arg_free that is not there", id_of(r));
    if (atomic_fetch_add(&r->frees, 1)) fail("task %d: arg_free twice", id_of(r));
    if (atomic_load(&r->seen)) fail("task %d: arg_free after its end", id_of(r));
    enter(&r->free_scope);
    if (has(BUSY_FREES)) acts(&g, IN_LIMITED | (one_in(&g, 3) ? PURE : 0), 2, 2);
    if (may_end(ENDS_IN_FREES, &g, 8)) end_thread(&g);
    leave();
    end();
}
static void free_owned(void *what) {
    record *r = (record *)(void *)((char *)what - offsetof(record, owned_freed));
    rng g = { mix(r->seed, 92) };
    begin("result_free of", id_of(r));
    if (atomic_fetch_add(&r->owned_freed, 1)) fail("task %d: result_free twice", id_of(r));
    if (has(BUSY_FREES)) acts(&g, IN_LIMITED | (one_in(&g, 3) ? PURE : 0), 2, 2);
    if (may_end(ENDS_IN_FREES, &g, 8)) end_thread(&g);
    end();
}
static void failed(const tpool_error *error, void *context) {
    a_pool *p = context;
    if (!error || error->status == TPOOL_OK || error->status == TPOOL_CANCELLED || !error->message || !error->cause)
        fail("on_failure without a failure");
    if (!error->task || error->task < (const char *)records || error->task >= (const char *)(records + RECORDS)) return;
    record *r = &records[(size_t)(error->task - (const char *)records) / sizeof(record)];
    rng g = { mix(r->seed, 93) };
    begin("on_failure of", id_of(r));
    if (r->pool >= 0 && &pools[r->pool] != p) fail("on_failure of another pool");
    if (atomic_fetch_add(&r->failures, 1)) fail("task %d: on_failure twice", id_of(r));
    judge(r, error->status);
    if (has(BUSY_CALLBACKS)) acts(&g, IN_LIMITED, 2, 2);
    if (may_end(ENDS_IN_CALLBACKS, &g, 8)) end_thread(&g);
    end();
}
/* Did somebody ask this task to stop? Then it must know; if nobody did, it may not think so. */
static void check_stop(const record *r) {
    a_pool *p = r->pool >= 0 ? &pools[r->pool] : NULL;
    bool asked = atomic_load(&r->stop_asked);
    bool says = tpool_stop_requested();
    if (asked && !says) {
        tell(r);
        fail("task %d does not hear that it shall stop", id_of(r));
    }
    if (says && !r->limited && !r->by_manager && !r->group && !atomic_load(&r->stop_tried) &&
        !atomic_load(&r->timeout_tried) && !(p && atomic_load(&p->may_stop))) {
        tell(r);
        fail("task %d is told to stop, by nobody", id_of(r));
    }
}
static void check_wake(const wake_note *n) {
    if (atomic_load(n->over)) fail("a wake of task %d after its end", id_of(n->record));
    if (atomic_load(&n->withdrawn)) fail("a wake of task %d after its withdrawal", id_of(n->record));
}
static void wake(void *context) {
    wake_note *n = context;
    rng g = { n->seed };
    record *which = NULL;
    begin("a wake of", id_of(n->record));
    check_wake(n);
    if (atomic_fetch_add(&n->calls, 1)) fail("a wake of task %d comes twice", id_of(n->record));
    if (one_in(&g, 3)) sleep_us((long)draw(&g, 100));
    tpool_future *future = has(BUSY_CALLBACKS) && one_in(&g, 3) ? pick(&g, &which, false) : NULL;
    if (future) {                         /* it may not wait for a task */
        bool may_free = !has(BUSY_FREES); /* an arg_free may wait for room, and the task of this wake for its return */
        if (has(STOPS) && one_in(&g, 2)) {
            bool may_end_it = which->early || which->periodic; /* held between two tries or runs */
            if (may_free || !may_end_it) {
                atomic_store(&which->stop_tried, true);
                DO(id_of(which), tpool_future_request_stop(future));
            }
        } else if (has(CANCELS) && may_free) {
            atomic_store(&which->cancel_tried, true);
            (void)CALL(id_of(which), tpool_future_cancel(future));
        }
        release(future);
    }
    if (may_end(ENDS_IN_CALLBACKS, &g, 12)) end_thread(&g);
    check_wake(n);
    end();
}
/* Where a task runs, or a job, a body or an item. `before`: the note that this one replaces. */
static wake_note *hear_of_stops(rng *g, record *r, const atomic_int *over, wake_note *before) {
    if (!has(ON_STOPS) || !one_in(g, 2)) return before;
    int at = atomic_fetch_add(&wake_count, 1);
    if (at >= WAKES) return before;
    wake_note *n = &wake_notes[at];
    *n = (wake_note){ .record = r, .over = over, .seed = draw64(g) };
    bool asked = tpool_stop_requested();
    tpool_status status = CALL(id_of(r), tpool_on_stop(wake, n));
    if (status == TPOOL_NO_MEMORY && may_refuse()) return before;
    scope_kind kind = innermost()->kind; /* a job or a loop may be a callback's */
    if (status == TPOOL_INVALID_STATE && (kind == A_JOB || kind == A_LOOP)) return before;
    if (status != TPOOL_OK) fail("tpool_on_stop gave %s", tpool_status_name(status));
    if (before) atomic_store(&before->withdrawn, 1);
    /* an item that the map's caller runs: if that is a callback, or an arg_free, the wake comes once it has returned */
    bool later = ending || (kind == AN_ITEM && atomic_load(&self()->depth) > 1);
    if (asked && !atomic_load(&n->calls) && !may_refuse() && !later)
        fail("task %d is asked to stop already, and its wake does not come at once", id_of(r));
    return n;
}
/* Before it returns: if it has been asked, its wake comes. Waits of the library's, in which the thread calls the wakes
   of others. */
static void await_wake(rng *g, wake_note *n) {
    tpool_future *never = NULL;
    if (!n) return;
    if (tpool_stop_requested() && !may_refuse() && tpool_future_create(&never) == TPOOL_OK) {
        keep(A_FUTURE, never);
        begin("awaiting its wake", id_of(n->record));
        while (!atomic_load(&n->calls) && !may_refuse())
            if (tpool_future_result(never, TPOOL_US(50), NULL) != TPOOL_TIMEOUT) sleep_us(50);
        end();
        release(never);
    }
    if (!one_in(g, 3)) return;
    tpool_status status = CALL(id_of(n->record), tpool_on_stop(NULL, NULL));
    if (status != TPOOL_OK) fail("a withdrawal gave %s", tpool_status_name(status));
    atomic_store(&n->withdrawn, 1);
}
/* It asks itself, wherever it is. */
static void stop_own(rng *g, record *r) {
    if (!has(STOPS) || !r || r->pool < 0 || !one_in(g, 12)) return;
    pthread_mutex_lock(&r->lock);
    tpool_future *future = r->future ? tpool_future_retain(r->future) : NULL;
    pthread_mutex_unlock(&r->lock);
    if (!future) return;
    keep(A_FUTURE, future);
    atomic_store(&r->stop_tried, true);
    DO(id_of(r), tpool_future_request_stop(future));
    atomic_store(&r->stop_asked, true);
    release(future);
}
static void *raise_error(rng *g) {
    mark(innermost(), true);
    if (one_in(g, 8)) return tpool_raise((int)draw64(g), "%0*d", (int)draw(g, 3000), 7);
    if (one_in(g, 4)) return tpool_raise_text((int)draw(g, 3), "by chance, %d and no more");
    return tpool_raise((int)draw(g, 3) - 1, "by chance, %d", id_of(task_of(innermost())));
}
static void *task_body(void *arg) {
    ticket t;
    memcpy(&t, arg, sizeof t);
    if (t.mark != MARK) fail("a task without its argument");
    record *r = t.record;
    rng g = { r->seed };
    begin("task", id_of(r));
    if (atomic_fetch_add(&r->runs, 1)) {
        tell(r);
        fail("task %d runs twice", id_of(r));
    }
    if (atomic_load(&r->frees)) {
        tell(r);
        fail("task %d runs after its arg_free", id_of(r));
    }
    if (atomic_load(&r->seen)) {
        tell(r);
        fail("task %d runs after its end", id_of(r));
    }
    if (r->pool >= 0 && tpool_current() != pools[r->pool].handle) fail("task %d runs in another pool", id_of(r));
    if (tpool_arg_size() != r->size) fail("task %d: %zu bytes of argument", id_of(r), tpool_arg_size());
    for (size_t i = sizeof t; i < r->size; i++)
        if (((unsigned char *)arg)[i] != (unsigned char)(r->seed ^ i))
            fail("task %d: byte %zu of its argument", id_of(r), i);
    starts_running(r);
    enter(&r->scope);
    if (one_in(&g, 12)) raise_error(&g);
    wake_note *hears = hear_of_stops(&g, r, &r->over, NULL);
    if (has(NESTING) && r->depth < 3) acts(&g, IN_TASK | (r->pure ? PURE : 0), r->depth == 0 ? 4 : 2, r->depth);
    if (one_in(&g, 6)) sleep_us((long)draw(&g, 200));
    check_stop(r);
    hears = hear_of_stops(&g, r, &r->over, hears);
    await_wake(&g, hears);
    if (may_end(ENDS_IN_TASKS, &g, 10)) {
        atomic_store(&r->ended_itself, true);
        end_thread(&g);
    }
    void *value = r;
    unsigned k = draw(&g, 12);
    bool raises = k == 0 || atomic_load(&r->scope.raised);
    if (raises) {
        value = raise_error(&g);
        atomic_store(&r->fate, RAISES);
    } else if (k < 4) {
        unsigned char bytes[3100];
        for (size_t i = 0; i < bytes_of(r); i++) bytes[i] = byte_of(r, i);
        atomic_store(&r->fate, GIVES_BYTES);
        value = tpool_return(bytes, bytes_of(r));
    } else if (k < 6 && has(RESULT_FREES)) {
        atomic_store(&r->fate, GIVES_OWNED);
        value = tpool_return_owned(&r->owned_freed, free_owned);
        if (!value && may_refuse()) atomic_store(&r->owned_freed, 1); /* it failed for want of memory, and it is ours */
    } else {
        atomic_store(&r->fate, GIVES_POINTER);
    }
    leave();
    stops_running(r);
    end();
    return value;
}

/* The runs, or the tries, before the one that counts: they look at the account, and end it now and then. */
static void *repeated_body(void *arg) {
    ticket t;
    memcpy(&t, arg, sizeof t);
    if (t.mark != MARK) fail("a task without its argument");
    record *r = t.record;
    if (atomic_fetch_add(&r->at_once, 1)) fail("task %d: two runs at once", id_of(r));
    if (atomic_load(&r->runs)) fail("task %d runs again after its last run", id_of(r));
    if (atomic_load(&r->frees)) fail("task %d runs again after its arg_free", id_of(r));
    if (atomic_load(&r->seen)) fail("task %d runs again after its end", id_of(r));
    if (r->periodic && atomic_load(&r->early_end)) fail("task %d runs again after a run that failed", id_of(r));
    int before = atomic_fetch_add(&r->begun, 1);
    if (before >= r->early) {
        atomic_fetch_sub(&r->at_once, 1);
        if (r->periodic) tpool_last_run();
        return task_body(arg);
    }
    rng g = { mix(r->seed, 400 + (uint64_t)before) };
    begin("an early run of", id_of(r));
    starts_running(r);
    if (one_in(&g, 4)) sleep_us((long)draw(&g, 100));
    bool raises = !r->periodic || one_in(&g, 12), ends = may_end(ENDS_IN_TASKS, &g, 12);
    if (ends) atomic_store(&r->early_end, ENDED_EARLY);
    else if (raises) atomic_store(&r->early_end, RAISED_EARLY);
    stops_running(r);
    atomic_fetch_sub(&r->at_once, 1);
    if (ends) end_thread(&g);
    end();
    return raises ? tpool_raise_text(1, "not yet") : (void *)r;
}
static void repeat(rng *g, record *r, tpool_task *task, bool only_tries) {
    if (r->empty) return;
    r->early = 1 + (int)draw(g, 4);
    r->periodic = !only_tries && !r->expires && task->timeout_ns == 0 && one_in(g, 2);
    int64_t time = one_in(g, 3) ? 0 : 1 + draw(g, 300000);
    task->fn = repeated_body;
    if (r->periodic) task->period_ns = 1 + time;
    else task->retries = (unsigned)r->early;
    if (!r->periodic) task->retry_ns = time;
    r->timed = true;
    atomic_store(&pools[r->pool].repeats, true);
}

static record *new_record(rng *g, int pool, int depth) {
    int at = atomic_fetch_add(&record_count, 1);
    if (at >= RECORDS) {
        atomic_store(&record_count, RECORDS);
        return NULL;
    }
    record *r = &records[at];
    r->ticket = (ticket){ r, MARK };
    r->scope.record = r;
    r->free_scope = (scope){ .kind = A_FREE, .outer = &r->scope };
    r->seed = draw64(g);
    r->pool = pool;
    r->depth = depth;
    snprintf(r->name, sizeof r->name, "t%d", at);
    return r;
}
static int64_t some_expiry(rng *g) {
    return one_in(g, 3) ? 1 : one_in(g, 2) ? TPOOL_US(1 + draw(g, 500)) : TPOOL_MS(1 + draw(g, 20));
}
/* What a submit may give. */
static void about_submit(record *r, tpool_status status, unsigned where, bool pool_shut) {
    a_pool *p = r->pool >= 0 ? &pools[r->pool] : NULL;
    actor *a = self();
    bool well = false;
    switch (status) {
    case TPOOL_OK: well = true; break;
    case TPOOL_SHUTDOWN: well = pool_shut || r->by_manager; break;
    case TPOOL_FULL: well = (p && p->config.on_full == TPOOL_FULL_REJECT) || group_may_be_full(r->group); break;
    case TPOOL_CANCELLED: well = group_may_cancel(r->group); break;
    case TPOOL_BROKEN: well = p && atomic_load(&p->may_break); break;
    case TPOOL_DEADLOCK: well = a->hooks > 0; break;
    case TPOOL_NO_THREAD:
    case TPOOL_NO_MEMORY: well = may_refuse(); break;
    default: break;
    }
    (void)where;
    if (!well) {
        tell(r);
        fail("a submit gave %s", tpool_status_name(status));
    }
}
/* Fills in what the task is to be. */
static tpool_task task_for(rng *g, record *r, unsigned char *bytes, size_t size) {
    tpool_task task = { .fn = task_body, .arg = &r->ticket, .name = r->name };
    r->named = true;
    if (has(ARG_FREES) && one_in(g, 2)) {
        task.arg_free = free_argument;
        r->wants_free = true;
    }
    if (one_in(g, 3)) {
        task.tag = r;
        r->tagged = true;
    }
    if (has(PRIORITIES) && one_in(g, 3)) task.priority = (int)draw(g, 5) - 2;
    if (has(EXPIRIES) && one_in(g, 3)) {
        task.expires_ns = some_expiry(g);
        r->expires = true;
    }
    if (has(LIMITS) && one_in(g, 6)) {
        task.run_limit_ns = 1 + draw(g, 200000);
        r->limited = true;
    }
    if (has(EXPIRIES) && has(LIMITS) && one_in(g, 6)) {
        task.timeout_ns = some_expiry(g);
        r->expires = r->limited = true;
    }
    if (bytes && has(COPIES) && one_in(g, 2)) {
        r->size = sizeof r->ticket + draw(g, one_in(g, 6) ? (unsigned)(size - sizeof r->ticket) : 90);
        for (size_t i = sizeof r->ticket; i < r->size; i++) bytes[i] = (unsigned char)(r->seed ^ i);
        memcpy(bytes, &r->ticket, sizeof r->ticket);
        task.arg = bytes;
        task.arg_size = r->size;
    }
    return task;
}
static void about_to_submit(record *r) {
    atomic_store(&r->left, 1);
    atomic_fetch_add(&pools[r->pool].unsure, 1);
}
static void taken(record *r, tpool_future *future, tpool_status status) {
    if (atomic_load(&r->left)) atomic_fetch_sub(&pools[r->pool].unsure, 1);
    if (status == TPOOL_OK && r->pool >= 0) atomic_fetch_add(&pools[r->pool].taken, 1);
    pthread_mutex_lock(&r->lock);
    r->future = future;
    pthread_mutex_unlock(&r->lock);
    atomic_store(&r->taken, status == TPOOL_OK ? 1 : 2);
    atomic_store(&r->left, 0);
    if (status != TPOOL_OK && (atomic_load(&r->runs) || atomic_load(&r->frees)))
        fail("task %d: refused, and touched", id_of(r));
}
/* One task into pool p, which is in use; NULL: not taken. */
/* Lets the pool hold the task: for futures that end whatever else waits, and for a time. Gives how many futures to
   release once it is submitted. */
enum { MOST_BEFORE = 4 };
static int hold_back(rng *g, record *r, tpool_task *task, unsigned where, tpool_future **before) {
    int count = 0;
    record *which;
    if (one_in(g, 2)) task->delay_ns = one_in(g, 8) ? TPOOL_MS(draw(g, 20)) : TPOOL_US(draw(g, 300));
    r->timed = task->delay_ns > 0;
    for (int wanted = where & PURE ? 0 : (int)draw(g, MOST_BEFORE + 1); wanted > 0; wanted--) {
        tpool_future *future = pick(g, &which, false);
        if (!future) continue;
        before[count++] = future;
        if (which != r && (which->pool == -1 || which->pure)) continue;
        release(future);
        count--;
    }
    task->after = before;
    task->after_count = (size_t)count;
    task->after_when = (tpool_after)draw(g, 3);
    if (count > 0) r->pure = false;
    r->depends = count > 0 && task->after_when == TPOOL_AFTER_SUCCESS;
    r->empty = (count > 0 || r->timed) && one_in(g, 6);
    if (r->empty) task->fn = NULL;
    return count;
}
static record *submit(rng *g, int p, unsigned where, int depth, bool wants_future) {
    record *r = new_record(g, p, depth);
    if (!r) return NULL;
    r->pure = (where & PURE) || one_in(g, 3);
    r->has_future = wants_future;
    about_to_submit(r);
    tpool_completions *into = self()->into;
    self()->into = NULL; /* what runs within the submit submits its own */
    tpool_future *future = NULL, **want = wants_future ? &future : NULL;
    tpool *pool = pools[p].handle;
    unsigned char bytes[600];
    tpool_status status;
    bool shut = false, within = false;
    switch (into ? 2 : draw(g, 5)) {
    case 0: status = CALL(p, tpool_submit(pool, task_body, &r->ticket, want)); break;
    case 1:
        if (has(COPIES)) {
            r->size = sizeof r->ticket + draw(g, 40);
            for (size_t i = sizeof r->ticket; i < r->size; i++) bytes[i] = (unsigned char)(r->seed ^ i);
            memcpy(bytes, &r->ticket, sizeof r->ticket);
            status = CALL(p, tpool_submit_copy(pool, task_body, bytes, r->size, want));
            break;
        } /* fall through */
    default: {
        /* a member with nothing but a function may come with others as one task */
        bool plain = !want && !into && has(GROUPS) && one_in(g, self()->group ? 2 : 4);
        tpool_task task = { .fn = task_body, .arg = &r->ticket };
        if (!plain) task = task_for(g, r, bytes, sizeof bytes);
        if (into) {
            task.completions = into;
            task.tag = r;
            r->tagged = r->in_set = true;
        }
        tpool_future *before[MOST_BEFORE];
        bool counted = pools[p].is_of_script && pools[p].config.queue_capacity; /* what becomes ready overfills it */
        int held = has(HELD) && !counted && !plain && one_in(g, 2) ? hold_back(g, r, &task, where, before) : 0;
        if (self()->group) {
            r->group = self()->group;
            self()->group = NULL;
        } else if (has(GROUPS) && group_count > 0 && one_in(g, 3)) {
            a_group *group = &groups[draw(g, (unsigned)group_count)];
            /* who has a permit waits for nothing that may want one */
            if ((depth >= 3 || r->empty) && !(where & PURE)) r->group = group;
            for (const a_group *up = group; up && !r->group; up = up->parent)
                if (up->limit || up->bounded) group = NULL;
            if (group && !(where & PURE)) r->group = group; /* a member is not pure, and its parent waits for it */
        }
        if (r->group) {
            task.group = r->group->handle;
            r->pure = false;
        }
        if (has(REPEATS) && !counted && !plain && one_in(g, 4)) repeat(g, r, &task, false);
        if (has(LONG_RUNNING) && !counted && !plain && one_in(g, 5)) task.long_running = true;
        if (!plain && one_in(g, 3) && !group_may_be_full(r->group)) {
            int64_t limit = limit_of_wait(g, where & ~(unsigned)PURE, true);
            status = CALL(p, tpool_submit_within(pool, &task, limit, want));
            within = limit != TPOOL_FOREVER;
            if (status == TPOOL_FULL) fail("submit_within gave TPOOL_FULL");
        } else {
            status = CALL(p, tpool_submit_task(pool, &task, want));
        }
        while (held > 0) release(before[--held]);
        break;
    }
    }
    shut = atomic_load(&pools[p].shut);
    if (!within || status != TPOOL_TIMEOUT) about_submit(r, status, where, shut);
    if ((future != NULL) != (wants_future && status == TPOOL_OK)) fail("task %d: a future, or none", id_of(r));
    taken(r, future, status);
    if (status != TPOOL_OK) return NULL;
    if (wants_future && has(CALLBACKS) && one_in(g, 3))
        for (unsigned n = 1 + draw(g, 3); n > 0; n--) {
            tpool_future *own_one;
            pthread_mutex_lock(&r->lock);
            own_one = r->future ? tpool_future_retain(r->future) : NULL;
            pthread_mutex_unlock(&r->lock);
            if (!own_one) break;
            keep(A_FUTURE, own_one);
            add_callback(g, r, own_one, true);
            release(own_one);
        }
    return r;
}
static void submit_many(rng *g, int p, unsigned where, int depth) {
    enum { MOST = 8 };
    tpool_task tasks[MOST];
    tpool_future *futures[MOST];
    record *made[MOST];
    size_t count = 0, submitted = 99, wanted = 1 + draw(g, MOST);
    bool with = one_in(g, 2);
    for (; count < wanted && (made[count] = new_record(g, p, depth)) != NULL; count++) {
        made[count]->pure = (where & PURE) || one_in(g, 3);
        made[count]->has_future = with;
        about_to_submit(made[count]);
        tasks[count] = task_for(g, made[count], NULL, 0);
        if (has(LONG_RUNNING) && one_in(g, 8)) tasks[count].long_running = true;
    }
    tpool_status status = CALL(p, tpool_submit_many(pools[p].handle, tasks, count, with ? futures : NULL, &submitted));
    if (submitted > count || (status == TPOOL_OK) != (submitted == count))
        fail("submit_many took %zu of %zu", submitted, count);
    for (size_t i = 0; i < count; i++) {
        if (i == submitted) about_submit(made[i], status, where, atomic_load(&pools[p].shut));
        if (with && (futures[i] != NULL) != (i < submitted)) fail("task %d: a future, or none", id_of(made[i]));
        taken(made[i], with ? futures[i] : NULL, i < submitted ? TPOOL_OK : TPOOL_SHUTDOWN);
    }
}
static void run_with_timeout(rng *g, int p, unsigned where, int depth) {
    record *r = new_record(g, p, depth);
    if (!r) return;
    r->pure = (where & PURE) || one_in(g, 3);
    r->has_future = true;
    about_to_submit(r);
    unsigned char bytes[600];
    tpool_future *future = NULL;
    tpool_task task = task_for(g, r, bytes, sizeof bytes);
    int64_t limit = limit_of_wait(g, where & ~(unsigned)PURE, true);
    atomic_store(&r->timeout_tried, true);
    tpool_status status = CALL(p, tpool_run_with_timeout(pools[p].handle, &task, limit, &future));
    taken(r, future, future ? TPOOL_OK : TPOOL_SHUTDOWN);
    if (!future) {
        if (status == TPOOL_OK) fail("task %d: OK, and not taken", id_of(r));
        if (status != TPOOL_TIMEOUT || limit == TPOOL_FOREVER)
            about_submit(r, status, where, atomic_load(&pools[p].shut));
    } else if (is_end(status)) {
        judge(r, status);
    } else {
        about_wait(status, limit, where, "run_with_timeout");
    }
}
#endif
