/* The calls that fuzz_calls.c makes, each of which checks what it was told against the model. */
#ifndef TPOOL_TESTS_FUZZ_CALLS_H
#define TPOOL_TESTS_FUZZ_CALLS_H
#include "model.h"
#if !defined(_WIN32)
#include <poll.h>
#endif

/* ---- calls ---- */
static record *new_record(int pool, behaviour does, int thread, int priority) {
    int n = atomic_fetch_add(&record_count, 1);
    if (n >= RECORDS) return NULL;
    record *r = &records[n];
    r->ticket.record = r;
    r->ticket.mark = MARK;
    r->order = (unsigned)n + 1;
    r->pool = pool;
    r->does = does;
    r->thread = thread;
    r->priority = priority;
    snprintf(r->name, sizeof r->name, "r%d", n);
    return r;
}
static int records_used(void) {
    int n = atomic_load(&record_count);
    return n < RECORDS ? n : RECORDS;
}

static tpool_future *take_slot(unsigned slot, record **r) {
    pthread_mutex_lock(&slots_lock);
    tpool_future *future = tpool_future_retain(slots[slot % SLOTS].future);
    *r = slots[slot % SLOTS].record;
    pthread_mutex_unlock(&slots_lock);
    return future;
}
static void complete_by_hand(tpool_future *future, record *r) {
    atomic_store(&r->may_be_cancelled, true);
    if (tpool_future_cancel(future)) atomic_store(&r->cancelled, true);
    else if (tpool_future_set_result(future, r) == TPOOL_OK) REQUIRE(atomic_fetch_add(&r->completions_by_hand, 1) == 0);
}
static void put_slot(unsigned slot, tpool_future *future, record *r) {
    pthread_mutex_lock(&slots_lock);
    tpool_future *earlier = slots[slot % SLOTS].future;
    record *of_earlier = slots[slot % SLOTS].record;
    slots[slot % SLOTS].future = future;
    slots[slot % SLOTS].record = r;
    pthread_mutex_unlock(&slots_lock);
    if (earlier && of_earlier->does == BY_HAND) complete_by_hand(earlier, of_earlier); /* somebody may wait for it */
    tpool_future_release(earlier);
}

static void dress(record *r, tpool_task *task, unsigned extras) {
    memset(task, 0, sizeof *task);
    task->fn = run_task;
    task->arg = &r->ticket;
    if (extras & 1) {
        task->arg_size = sizeof r->ticket;
        r->copied = true;
    }
    if (extras & 2) {
        task->arg_free = argument_free;
        r->wants_free = true;
    }
    if (extras & 4) {
        task->name = r->name;
        r->named = true;
    }
    if (extras & 8 && !pools[r->pool].quiet) {
        *(extras & 64 ? &task->timeout_ns : &task->expires_ns) = 1 + (extras & 0xf0) * 500;
        r->may_expire = true;
    }
    if (extras & 16) task->run_limit_ns = 1000;
    task->priority = r->priority;
}

/* One right answer: the pool is paused and at rest, and only this thread makes calls. */
static tpool_status expect_quiet(a_pool *p, record *r, record **dropped) {
    *dropped = NULL;
    if (p->fails_to_start || atomic_load(&p->shut)) fail("the model: such a pool is never quiet");
    if (p->config.queue_capacity && p->waiting_count >= (int)p->config.queue_capacity) {
        if (p->config.on_full == TPOOL_FULL_REJECT) return TPOOL_FULL;
        *dropped = p->waiting[0];
        memmove(p->waiting, p->waiting + 1, sizeof *p->waiting * (size_t)--p->waiting_count);
    }
    p->waiting[p->waiting_count++] = r;
    return TPOOL_OK;
}
static bool would_block(const a_pool *p) {
    if (p->waiting_count >= QUEUE * 8 - 4) return true;
    return p->config.queue_capacity && p->waiting_count >= (int)p->config.queue_capacity &&
           (p->config.on_full == TPOOL_FULL_BLOCK || p->config.on_full == TPOOL_FULL_CALLER_RUNS);
}

/* What a submit may give; `shut` is whether a shutdown had returned before it began. */
static void check_submit(record *r, tpool_status status, bool shut, bool broken) {
    a_pool *p = &pools[r->pool];
    switch (status) {
    case TPOOL_OK:
        REQUIRE(!shut && !broken);
        atomic_store(&r->taken, true);
        return;
    case TPOOL_SHUTDOWN: REQUIRE(atomic_load(&p->shut_asked)); return;
    case TPOOL_FULL:
        REQUIRE(p->config.queue_capacity && p->config.on_full == TPOOL_FULL_REJECT);
        atomic_fetch_add(&p->full, 1);
        return;
    case TPOOL_BROKEN:
        REQUIRE(p->fails_to_start);
        atomic_fetch_add(&p->broken, 1);
        return;
    default: UNEXPECTED("a submit", status);
    }
}
static tpool_status submit(record *r, call_kind form, unsigned extras, bool keep, tpool_future **future) {
    a_pool *p = &pools[r->pool];
    tpool_task task;
    tpool_future *given = (tpool_future *)r, **asked = keep ? &given : NULL;
    bool shut = atomic_load(&p->shut), broken = atomic_load(&p->broken) > 0;
    r->held = keep;
    if (form == SUBMIT) extras = 0;
    if (form == SUBMIT_COPY) extras = 1;
    if (form != SUBMIT_TASK) r->priority = 0;
    dress(r, &task, extras);
    record *dropped = NULL;
    tpool_status expected = p->quiet ? expect_quiet(p, r, &dropped) : TPOOL_OK;
    tpool_status status = form == SUBMIT ? tpool_submit(p->handle, run_task, &r->ticket, asked)
                          : form == SUBMIT_COPY
                              ? tpool_submit_copy(p->handle, run_task, &r->ticket, sizeof r->ticket, asked)
                              : tpool_submit_task(p->handle, &task, asked);
    check_submit(r, status, shut, broken);
    if (keep) REQUIRE((given != NULL) == (status == TPOOL_OK));
    if (p->quiet) {
        REQUIRE(status == expected);
        if (status == TPOOL_OK && keep) REQUIRE(tpool_future_state(given) == TPOOL_PENDING);
        if (dropped) REQUIRE(atomic_load(&dropped->frees) == (dropped->wants_free ? 1 : 0));
    } else if (status == TPOOL_OK && keep && thread_count == 1 && p->config.on_full == TPOOL_FULL_CALLER_RUNS &&
               atomic_load(&r->runs) == 0 && tpool_future_done(given)) {
        check_wait(tpool_future_result(given, 0, NULL), r, 0, false);
    }
    if (future) *future = given;
    return status;
}
static void submit_many(int pool, int thread, unsigned b, unsigned c) {
    a_pool *p = &pools[pool];
    tpool_task tasks[4];
    record *rs[4];
    tpool_future *futures[4] = { (tpool_future *)rs, NULL, NULL, (tpool_future *)rs };
    size_t count = 1 + b % 4, taken = 99;
    if (p->quiet) return;
    bool shut = atomic_load(&p->shut), broken = atomic_load(&p->broken) > 0, bad = c & 64;
    for (size_t i = 0; i < count; i++) {
        rs[i] = new_record(pool, (behaviour)((b >> 2) + i) % WAITS_TO_BE_STOPPED, thread, 0);
        if (!rs[i]) {
            count = i;
            break;
        }
        dress(rs[i], &tasks[i], c + (unsigned)i);
        rs[i]->held = c & 128;
    }
    if (!count) return;
    if (bad) tasks[count - 1].fn = NULL;
    tpool_status status = tpool_submit_many(p->handle, tasks, count, c & 128 ? futures : NULL, &taken);
    REQUIRE(taken <= count && (status == TPOOL_OK) == (taken == count));
    for (size_t i = 0; i < taken; i++) check_submit(rs[i], TPOOL_OK, shut, broken);
    if (status == TPOOL_INVALID) REQUIRE(bad && taken == count - 1);
    else if (status != TPOOL_OK) check_submit(rs[taken], status, shut, broken);
    for (size_t i = 0; c & 128 && i < count; i++) {
        REQUIRE((futures[i] != NULL) == (i < taken));
        if (futures[i]) put_slot((unsigned)i + b, futures[i], rs[i]);
    }
}
static void run_with_timeout(int pool, int thread, unsigned b, unsigned c) {
    a_pool *p = &pools[pool];
    record *r = p->quiet ? NULL : new_record(pool, (behaviour)(b % WAITS_TO_BE_STOPPED), thread, 0);
    if (!r) return;
    tpool_task task;
    tpool_future *future = NULL;
    bool shut = atomic_load(&p->shut), broken = atomic_load(&p->broken) > 0;
    int64_t timeout = some_time(c);
    dress(r, &task, b >> 4);
    r->held = true;
    atomic_store(&r->may_be_cancelled, true);
    tpool_status status = tpool_run_with_timeout(p->handle, &task, timeout, &future);
    if (!future) {
        if (status == TPOOL_TIMEOUT) REQUIRE(timeout != TPOOL_FOREVER && p->config.queue_capacity);
        else check_submit(r, status, shut, broken);
        REQUIRE(status != TPOOL_OK);
        return;
    }
    check_submit(r, TPOOL_OK, shut, broken);
    if (status == TPOOL_TIMEOUT) REQUIRE(timeout != TPOOL_FOREVER);
    else check_end(r, status);
    put_slot(b, future, r);
}

static void cancel(unsigned slot) {
    record *r;
    tpool_future *future = take_slot(slot, &r);
    if (!future) return;
    a_pool *p = r->pool >= 0 ? &pools[r->pool] : NULL;
    int waits = -1;
    for (int i = 0; p && p->quiet && i < p->waiting_count; i++)
        if (p->waiting[i] == r) waits = i;
    bool before = tpool_future_cancelled(future), done = tpool_future_done(future);
    atomic_store(&r->may_be_cancelled, true);
    bool cancelled = tpool_future_cancel(future);
    REQUIRE(!before || cancelled);
    if (done) REQUIRE(cancelled == before);
    if (cancelled) atomic_store(&r->cancelled, true);
    else REQUIRE(tpool_future_state(future) != TPOOL_PENDING || r->may_expire || (p && p->fails_to_start));
    if (p && p->quiet) REQUIRE(waits < 0 || (cancelled && tpool_future_state(future) == TPOOL_STATE_CANCELLED));
    if (waits >= 0) {
        memmove(p->waiting + waits, p->waiting + waits + 1,
                sizeof *p->waiting * (size_t)(p->waiting_count - waits - 1));
        p->waiting_count--;
    }
    tpool_future_release(future);
}
static bool is_waiting(const record *r) {
    const a_pool *p = r->pool >= 0 ? &pools[r->pool] : NULL;
    for (int i = 0; p && p->quiet && i < p->waiting_count; i++)
        if (p->waiting[i] == r) return true;
    return false;
}
/* Where one thread waits for what it keeps from happening itself, only a look. */
static int64_t bounded(int64_t timeout, const record *r) {
    if (is_waiting(r)) return timeout > TPOOL_US(40) ? TPOOL_US(40) : timeout;
    return timeout;
}
static void check_result(tpool_future *future, record *r, int64_t timeout) {
    void *value = r;
    bool waiting = is_waiting(r);
    tpool_status status = tpool_future_result(future, timeout, &value);
    if (waiting) REQUIRE(status == TPOOL_TIMEOUT);
    if (status == TPOOL_OK) {
        if (r->does == RETURNS_BYTES) REQUIRE(tpool_future_result_size(future) == sizeof(unsigned));
        if (r->does == RETURNS_BYTES || r->does == RETURNS_OWNED) REQUIRE(*(unsigned *)value == r->order);
        else REQUIRE(value == r);
    } else {
        REQUIRE(value == NULL);
    }
    check_wait(status, r, timeout, false);
}
static void check_error(tpool_future *future, record *r, int64_t timeout) {
    const tpool_error *error = (const tpool_error *)r;
    tpool_status status = tpool_future_error(future, timeout, &error);
    if (status == TPOOL_TIMEOUT) {
        REQUIRE(!error);
        return;
    }
    if (status == TPOOL_CANCELLED) REQUIRE(error && error->status == TPOOL_CANCELLED);
    else REQUIRE(status == TPOOL_OK);
    check_end(r, error ? error->status : TPOOL_OK);
    if (!error) return;
    REQUIRE(error->message);
    if (error->status == TPOOL_FAILED) REQUIRE(!strcmp(error->message, tpool_future_message(future)));
    if (error->status == TPOOL_FAILED && r->does != BY_HAND) REQUIRE(error->code == (int)r->order);
    REQUIRE(r->named ? error->task && !strcmp(error->task, r->name) : !error->task);
}
static void look(tpool_future *future, record *r) {
    bool done = tpool_future_done(future);
    tpool_state state = tpool_future_state(future);
    if (done) REQUIRE(state >= TPOOL_STATE_CANCELLED && !tpool_future_running(future));
    if (is_waiting(r)) REQUIRE(!done && state == TPOOL_PENDING && atomic_load(&r->runs) == 0);
    if (state >= TPOOL_STATE_CANCELLED) {
        REQUIRE(tpool_future_cancelled(future) == (state == TPOOL_STATE_CANCELLED));
        check_result(future, r, 0);
        check_error(future, r, 0);
    }
    REQUIRE(tpool_future_message(future) != NULL);
}
static void add_callback(unsigned slot, unsigned does) {
    record *r;
    tpool_future *future = take_slot(slot, &r);
    int n = future ? atomic_fetch_add(&note_count, 1) : NOTES;
    if (n < NOTES) {
        notes[n].record = r;
        notes[n].does = (int)(does % 4);
        notes[n].added = true;
        if (notes[n].does == 1) tpool_future_retain(future);
        bool done = tpool_future_done(future);
        REQUIRE(tpool_future_add_done_callback(future, call_back, &notes[n]) == TPOOL_OK);
        if (done) REQUIRE(atomic_load(&notes[n].ran) == 1);
    }
    tpool_future_release(future);
}

/* Up to `most` futures of the slots from `first` on, with a reference each. */
static size_t gather(unsigned first, unsigned most, tpool_future **futures, record **rs, bool *blocked) {
    size_t count = 0;
    *blocked = false;
    for (unsigned i = 0; i < most; i++) {
        futures[count] = take_slot(first + i, &rs[count]);
        if (!futures[count]) continue;
        *blocked |= is_waiting(rs[count]);
        count++;
    }
    return count;
}
static void wait_for(unsigned a, unsigned b, unsigned c) {
    tpool_future *futures[6] = { NULL }, *before[6];
    record *rs[6];
    bool blocked;
    size_t count = gather(a, b % 5, futures, rs, &blocked), done = 99;
    if (count && b & 8) { /* one of them twice */
        rs[count] = rs[0];
        futures[count++] = tpool_future_retain(futures[0]);
    }
    memcpy(before, futures, sizeof before);
    tpool_return_when when = (tpool_return_when)(c % 3);
    int64_t timeout = some_time(c >> 2);
    if (blocked && timeout > TPOOL_US(40)) timeout = TPOOL_US(40);
    tpool_status status = tpool_wait(futures, count, when, timeout, &done);
    REQUIRE(done <= count && (status == TPOOL_OK || (status == TPOOL_TIMEOUT && timeout <= TPOOL_US(300))));
    if (status == TPOOL_OK && when == TPOOL_ALL_COMPLETED) REQUIRE(done == count);
    if (status == TPOOL_OK && count && when == TPOOL_FIRST_COMPLETED) REQUIRE(done > 0);
    size_t front = 0, back = done;
    bool exception = false;
    for (size_t i = 0; i < count; i++) { /* each part keeps its order: a merge of the two gives the array as it was */
        if (front < done && futures[front] == before[i]) {
            REQUIRE(tpool_future_done(before[i]));
            exception |= !tpool_future_cancelled(before[i]) && tpool_future_result(before[i], 0, NULL) != TPOOL_OK;
            front++;
        } else {
            REQUIRE(back < count && futures[back] == before[i]);
            back++;
        }
    }
    if (status == TPOOL_OK && when == TPOOL_FIRST_EXCEPTION) REQUIRE(done == count || exception);
    for (size_t i = 0; i < count; i++) tpool_future_release(futures[i]);
}
/* What tells an event loop that the iterator has something: NEXT waits itself. */
typedef enum telling { NEXT, ON_READY, DESCRIPTOR, TELLINGS } telling;
typedef struct event_loop {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned wakes, seen, may; /* calls of on_ready, those that the loop has acted upon, and as many as may come */
    bool exact;                /* the loop never waits in next: that may make a call too many */
    bool over;                 /* the iterator is gone */
} event_loop;
static void wake_loop(void *context) {
    event_loop *l = context;
    pthread_mutex_lock(&l->lock);
    REQUIRE(!l->over);
    if (++l->wakes > l->may && l->exact) fail("%u calls of on_ready, not %u", l->wakes, l->may);
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
}
static void calls_may_come(event_loop *l, int more) {
    pthread_mutex_lock(&l->lock);
    l->may += (unsigned)more;
    pthread_mutex_unlock(&l->lock);
}
/* Something comes in the end, or next would not wait for it either. */
static void await_wake(event_loop *l) {
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 20;
    pthread_mutex_lock(&l->lock);
    while (l->wakes == l->seen) REQUIRE(pthread_cond_timedwait(&l->changed, &l->lock, &end) == 0);
    l->seen = l->wakes;
    pthread_mutex_unlock(&l->lock);
}
static void await_descriptor(intptr_t descriptor) {
#if !defined(_WIN32)
    struct pollfd asked = { .fd = (int)descriptor, .events = POLLIN };
    REQUIRE(poll(&asked, 1, 20000) == 1);
#else
    REQUIRE(WaitForSingleObject((HANDLE)descriptor, 20000) == WAIT_OBJECT_0);
#endif
}
static void complete(unsigned a, unsigned b, unsigned c) {
    tpool_future *futures[6], *next;
    record *rs[6];
    bool blocked, yielded[6] = { false };
    size_t count = gather(a, b % 7, futures, rs, &blocked), at_first = b & 16 ? count / 2 : count, distinct = 0;
    tpool_completions *completions;
    REQUIRE(tpool_as_completed(futures, at_first, &completions) == TPOOL_OK);
    for (size_t i = at_first; i < count; i++) REQUIRE(tpool_completions_add(completions, futures[i]) == TPOOL_OK);
    for (size_t i = 0; i < count; i++) {
        bool again = false;
        for (size_t j = 0; j < i; j++) again |= futures[j] == futures[i];
        distinct += !again;
    }
    REQUIRE(tpool_completions_remaining(completions) == distinct);
    int64_t timeout = some_time(c);
    if (blocked && timeout > TPOOL_US(40)) timeout = TPOOL_US(40);
    size_t seen = 0;
    telling tells = (telling)((c >> 3) % TELLINGS);
    bool polls = tells != NEXT && timeout > TPOOL_US(300); /* it waits in its loop, and only looks at the iterator */
    event_loop loop = {
        .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .may = 1, .exact = polls
    };
    intptr_t descriptor = -1;
    if (tells == ON_READY) REQUIRE(tpool_completions_on_ready(completions, wake_loop, &loop) == TPOOL_OK);
    if (tells == DESCRIPTOR) REQUIRE(tpool_completions_descriptor(completions, &descriptor) == TPOOL_OK);
    for (;;) {
        calls_may_come(&loop, 1); /* after a next that finds nothing, and even before it returns */
        tpool_status status = tpool_completions_next(completions, polls ? 0 : timeout, &next);
        if (status == TPOOL_OK) calls_may_come(&loop, -1);
        if (status == TPOOL_TIMEOUT && polls) {
            REQUIRE(seen < distinct);
            if (tells == ON_READY) await_wake(&loop);
            else await_descriptor(descriptor);
            continue;
        }
        if (status == TPOOL_TIMEOUT) {
            REQUIRE(timeout <= TPOOL_US(300) && seen < distinct);
            break;
        }
        if (status == TPOOL_END) {
            REQUIRE(seen == distinct && next == NULL);
            break;
        }
        REQUIRE(status == TPOOL_OK);
        size_t index = tpool_completions_index(completions);
        REQUIRE(index < count && futures[index] == next && !yielded[index]);
        yielded[index] = true;
        seen++;
        REQUIRE(tpool_completions_remaining(completions) == distinct - seen);
        look(next, rs[index]);
        if (c & 128 && seen == 2) break;
    }
    tpool_completions_destroy(completions);
    pthread_mutex_lock(&loop.lock);
    loop.over = true;
    pthread_mutex_unlock(&loop.lock);
    for (size_t i = 0; i < count; i++) tpool_future_release(futures[i]);
}

typedef struct mapping {
    bool limited; /* an item runs until its run_limit_ns has passed */
    unsigned count, taken, delivered, buffer, rule;
    atomic_int runs[40], frees[40];
} mapping;
static void *map_item(void *item, void *context) {
    mapping *m = context;
    size_t i = (size_t)((atomic_int *)item - m->runs);
    REQUIRE(i < m->count && atomic_fetch_add(&m->runs[i], 1) == 0 && atomic_load(&m->frees[i]) == 0);
    while (m->limited && !tpool_stop_requested()) sched_yield();
    return m->rule && i % m->rule == 1 ? tpool_raise((int)i, "item") : item;
}
static bool map_source(void *context, void **item) {
    mapping *m = context;
    if (m->taken == m->count) return false;
    REQUIRE(m->taken < m->delivered + m->buffer);
    *item = &m->runs[m->taken++];
    return true;
}
static void map_free(void *item, void *context) {
    mapping *m = context;
    REQUIRE(atomic_fetch_add(&m->frees[(atomic_int *)item - m->runs], 1) == 0);
}
static void map(int pool, unsigned a, unsigned b, unsigned d) {
    a_pool *p = &pools[pool];
    mapping m = { .count = a % 40, .buffer = b & 7, .rule = b >> 3 & 3, .limited = d & 2 };
    tpool_map_spec spec = { .fn = map_item, .context = &m, .chunk_size = a / 40, .unordered = d & 1 };
    bool came[40] = { false };
    spec.run_limit_ns = m.limited ? 1 : d & 4 ? TPOOL_SEC(100) : 0;
    bool source = b & 32;
    if (p->quiet) return;
    if (source) {
        m.buffer += !m.buffer;
        spec.next = map_source;
        spec.item_free = map_free;
    } else {
        spec.items = m.runs;
        spec.count = m.count;
        spec.stride = sizeof m.runs[0];
    }
    spec.buffer_size = m.buffer;
    atomic_store(&p->helpers, true);
    tpool_map_iter *iter;
    tpool_status status = tpool_map(p->handle, &spec, &iter);
    REQUIRE((iter != NULL) == (status == TPOOL_OK));
    if (status == TPOOL_SHUTDOWN) REQUIRE(atomic_load(&p->shut_asked));
    else if (status == TPOOL_BROKEN) REQUIRE(p->fails_to_start);
    else if (status == TPOOL_FULL) REQUIRE(p->config.on_full == TPOOL_FULL_REJECT);
    else REQUIRE(status == TPOOL_OK);
    bool whole = (b & 0xc0) != 0, ended = false;
    for (unsigned i = 0; iter && !ended && (whole || i < 5);) {
        int64_t timeout = b & 64 ? TPOOL_FOREVER : TPOOL_US(b);
        void *result = &m;
        if (i == m.count) REQUIRE(m.delivered == i);
        if (source) m.delivered = i + 1; /* asked for the next, it has let go of the one before */
        status = tpool_map_next(iter, timeout, &result);
        m.delivered = i;
        size_t index = tpool_map_index(iter);
        bool delivers = status != TPOOL_TIMEOUT && status != TPOOL_END;
        bool raises = m.rule && index % m.rule == 1;
        if (delivers) {
            REQUIRE(i < m.count && index < m.count && !came[index] && (index == i || spec.unordered));
            REQUIRE(tpool_map_item(iter) == &m.runs[index]);
            came[index] = true;
        } else {
            REQUIRE(tpool_map_item(iter) == NULL);
        }
        switch (status) {
        case TPOOL_OK: REQUIRE(result == &m.runs[index] && !raises && atomic_load(&m.runs[index]) == 1); break;
        case TPOOL_FAILED: REQUIRE(raises && atomic_load(&m.runs[index]) == 1); break;
        case TPOOL_CANCELLED:
            REQUIRE(atomic_load(&p->cancel_asked) || atomic_load(&p->shut_asked) ||
                    p->config.on_full == TPOOL_FULL_DROP_OLDEST);
            break;
        case TPOOL_BROKEN: REQUIRE(p->fails_to_start); break;
        case TPOOL_TIMEOUT: REQUIRE(timeout != TPOOL_FOREVER); break;
        case TPOOL_END:
            REQUIRE(i == m.count || atomic_load(&p->shut_asked) || p->fails_to_start);
            ended = true;
            break;
        default: UNEXPECTED("a map", status);
        }
        if (status != TPOOL_OK) REQUIRE(result == NULL);
        if (status == TPOOL_TIMEOUT) sched_yield();
        else if (!ended) m.delivered = ++i;
        if (status == TPOOL_TIMEOUT && !(b & 128)) break;
    }
    if (ended) REQUIRE(tpool_map_next(iter, 0, NULL) == TPOOL_END || tpool_map_next(iter, 0, NULL) == TPOOL_INVALID);
    tpool_map_close(iter);
    for (unsigned i = 0; i < m.count; i++) REQUIRE(atomic_load(&m.frees[i]) == (i < m.taken ? 1 : 0));
}

typedef struct looping {
    size_t begin, end;
    unsigned rule;
    atomic_int counts[200];
} looping;
static void loop_body(size_t begin, size_t end, void *context) {
    looping *l = context;
    REQUIRE(begin < end && begin >= l->begin && end <= l->end);
    for (size_t i = begin; i < end; i++) REQUIRE(atomic_fetch_add(&l->counts[i - l->begin], 1) == 0);
    if (l->rule && begin / l->rule % 3 == 1) tpool_raise(5, "body");
}
static void loop(int pool, unsigned a, unsigned b) {
    a_pool *p = &pools[pool];
    looping l = { .begin = a, .end = a + a % 200, .rule = b & 1 ? 1 + b / 16 : 0 };
    if (p->quiet) return;
    atomic_store(&p->helpers, true);
    bool shut = atomic_load(&p->shut);
    int failed = 0, least = 1, most = 0;
    tpool_status status = tpool_for(p->handle, l.begin, l.end, b >> 1 & 7, loop_body, &l);
    for (size_t i = 0; i < l.end - l.begin; i++) {
        int n = atomic_load(&l.counts[i]);
        if (n < least) least = n;
        if (n > most) most = n;
    }
    failed = status == TPOOL_FAILED;
    if (status == TPOOL_OK) REQUIRE(least == 1 && (!shut || l.begin == l.end));
    else if (failed) REQUIRE(l.rule && most == 1);
    else if (status == TPOOL_SHUTDOWN) REQUIRE(atomic_load(&p->shut_asked) && most == 0);
    else if (status == TPOOL_BROKEN) REQUIRE(p->fails_to_start && most == 0);
    else UNEXPECTED("a loop", status);
}

static void read_stats(int pool) {
    a_pool *p = &pools[pool];
    tpool_stats s;
    REQUIRE(tpool_get_stats(p->handle, &s) == TPOOL_OK);
    REQUIRE(s.max_workers >= 1 && s.workers >= 0 && s.active >= 0 && s.idle >= 0);
    if (p->config.queue_capacity && !atomic_load(&p->helpers)) REQUIRE(s.queued <= p->config.queue_capacity);
    if (p->quiet) REQUIRE(s.queued == (size_t)p->waiting_count && s.active == 0);
}
/* Where one thread makes all calls, and nothing runs: from here to the resume the model is exact. */
static void pause_pool(int pool) {
    a_pool *p = &pools[pool];
    tpool_status status;
    bool exact = thread_count == 1 && !p->fails_to_start && !atomic_load(&p->shut_asked) && !p->quiet;
    for (int again = 0; exact && again < 3; again++)
        for (int i = 0; i < pool_count && i < POOLS; i++)
            if (!pools[i].quiet && tpool_drain(pools[i].handle, TPOOL_SEC(20)) != TPOOL_OK) exact = false;
    if (thread_count == 1 && !exact) return; /* it would wait for itself */
    bool shut = atomic_load(&p->shut);
    status = tpool_pause(p->handle);
    if (status == TPOOL_SHUTDOWN) REQUIRE(atomic_load(&p->shut_asked));
    else if (status == TPOOL_BROKEN) REQUIRE(p->fails_to_start);
    else if (status != TPOOL_OK || shut) UNEXPECTED("a pause", status);
    if (exact && status == TPOOL_OK) {
        p->quiet = true;
        p->waiting_count = 0;
    }
}
static void resume_pool(int pool) {
    pools[pool].quiet = false;
    tpool_status status = tpool_resume(pools[pool].handle);
    REQUIRE(status == TPOOL_OK || (status == TPOOL_BROKEN && pools[pool].fails_to_start));
}
static void shut_down(int pool, unsigned a) {
    a_pool *p = &pools[pool];
    unsigned flags = a & (TPOOL_WAIT | TPOOL_CANCEL_PENDING | TPOOL_STOP_RUNNING);
    p->quiet = false;
    atomic_store(&p->shut_asked, true);
    if (flags & TPOOL_CANCEL_PENDING) atomic_store(&p->cancel_asked, true);
    REQUIRE(tpool_shutdown(p->handle, flags) == TPOOL_OK);
    atomic_store(&p->shut, true);
    REQUIRE(tpool_pause(p->handle) == TPOOL_SHUTDOWN || p->fails_to_start);
}
static void set_by_hand(call_kind kind, unsigned slot) {
    record *r;
    tpool_future *future = take_slot(slot, &r);
    if (!future) return;
    bool ours = r->does == BY_HAND, done = tpool_future_done(future);
    tpool_status status;
    if (kind == SET_RUNNING) {
        status = tpool_future_set_running(future);
        if (!ours || (done && !tpool_future_cancelled(future))) REQUIRE(status == TPOOL_INVALID_STATE);
        if (status == TPOOL_OK) REQUIRE(!atomic_load(&r->cancelled));
        REQUIRE(status == TPOOL_OK || status == TPOOL_INVALID_STATE || status == TPOOL_CANCELLED);
    } else {
        status = kind == SET_RESULT ? tpool_future_set_result(future, r)
                                    : tpool_future_set_error(future, 9, "by %s", "hand");
        REQUIRE(status == TPOOL_OK ? ours && !done : status == TPOOL_INVALID_STATE);
        if (status == TPOOL_OK) REQUIRE(atomic_fetch_add(&r->completions_by_hand, 1) == 0);
    }
    tpool_future_release(future);
}
/* A scope: members are submitted, perhaps cancelled, and waited for. Then each that was taken has ended, and the group
 * tells what they have come to. */
static void scope(int pool, int thread, unsigned a, unsigned b, unsigned c) {
    a_pool *p = &pools[pool];
    tpool_group_config config = { .limit = (int)(a & 3) % 3,
                                  .capacity = a & 4 ? 1 + (a >> 3 & 1) : 0,
                                  .on_full = b & 1 ? TPOOL_FULL_REJECT : TPOOL_FULL_DROP_OLDEST,
                                  .on_failure = (tpool_group_failure)((b >> 1 & 3) % 3),
                                  .waiter_runs = b & 8 };
    tpool_group *group = NULL, *top = NULL;
    record *rs[4];
    int count = 0, run = 0, failed = 0, taken = 0, broken_at_once = 0;
    bool may_cancel = config.on_failure != TPOOL_GROUP_KEEP_GOING || b & 16 || c & 16; /* the one above it stops it */
    if (any_quiet()) return;
    if (config.limit && p->config.queue_capacity) atomic_store(&p->helpers, true); /* what becomes ready overfills it */
    REQUIRE(tpool_group_create(&top, NULL) == TPOOL_OK);
    config.parent = b & 16 ? top : NULL;
    REQUIRE(tpool_group_create(&group, &config) == TPOOL_OK && tpool_group_count(group) == 0);
    for (unsigned i = 0; i < 1 + (c & 3); i++) {
        record *r = new_record(pool, (behaviour)((b >> 5) + i) % WAITS_TO_BE_STOPPED, thread, 0);
        tpool_task task;
        if (!r) break;
        bool shut = atomic_load(&p->shut), broken = atomic_load(&p->broken) > 0;
        dress(r, &task, (c >> 5) * 3 + i);
        task.group = group;
        r->held = true; /* its failure is the group's, unless that keeps going */
        atomic_store(&r->may_be_cancelled, true);
        tpool_status status = tpool_submit_task(p->handle, &task, NULL);
        if (status == TPOOL_OK) rs[count++] = r;
        if (status == TPOOL_CANCELLED) REQUIRE(may_cancel);
        else if (status == TPOOL_FULL && config.capacity) continue; /* by the one or by the other */
        else check_submit(r, status, shut, broken);
        if (c & 16 && i == (c >> 2 & 3)) REQUIRE(tpool_group_cancel(c & 8 && config.parent ? top : group) == TPOOL_OK);
    }
    if (config.capacity) atomic_store(&p->helpers, true); /* it does not know whose FULL that was */
    if (config.capacity && config.on_full == TPOOL_FULL_DROP_OLDEST) atomic_store(&p->drops, true);
    REQUIRE(tpool_group_count(group) <= (size_t)count);
    const tpool_error *error = NULL;
    tpool_status status = tpool_group_wait(group, TPOOL_FOREVER, &error);
    for (int i = 0; i < count; i++) {
        record *r = rs[i];
        bool has_run = atomic_load(&r->runs) == 1;
        REQUIRE(!has_run || atomic_load(&r->ended) == 1);
        REQUIRE(atomic_load(&r->frees) == (r->wants_free ? 1 : 0));
        taken++;
        run += has_run;
        failed += has_run && fails(r);
        broken_at_once += !has_run && (r->may_expire || p->fails_to_start);
    }
    REQUIRE(tpool_group_count(group) == 0);
    if (failed == 0 && broken_at_once == 0) REQUIRE(status == (run == taken ? TPOOL_OK : TPOOL_CANCELLED));
    else if (failed == 0) REQUIRE(status != TPOOL_OK && status != TPOOL_FAILED);
    else REQUIRE(status == TPOOL_FAILED || broken_at_once > 0);
    REQUIRE((error != NULL) == (status != TPOOL_OK && status != TPOOL_CANCELLED));
    if (error) REQUIRE(error->cause == status && error->message);
    REQUIRE(tpool_group_destroy(group) == status);
    REQUIRE(tpool_group_destroy(top) == (config.parent ? status : TPOOL_OK));
}
static void call_badly(int pool, unsigned a) {
    tpool *handle = pools[pool].handle;
    tpool_future *future = (tpool_future *)handle;
    tpool_map_spec spec = { .fn = map_item };
    tpool_map_iter *iter = (tpool_map_iter *)handle;
    tpool_completions *completions = (tpool_completions *)handle;
    size_t count = 7;
    switch (a % 8) {
    case 0: REQUIRE(tpool_submit(handle, NULL, NULL, &future) == TPOOL_INVALID && !future); break;
    case 1: REQUIRE(tpool_submit(NULL, run_task, NULL, &future) == TPOOL_INVALID && !future); break;
    case 2: REQUIRE(tpool_resize(handle, 0) == TPOOL_INVALID && tpool_shutdown(handle, 64) == TPOOL_INVALID); break;
    case 3: REQUIRE(tpool_map(handle, &spec, &iter) == TPOOL_INVALID && !iter); break;
    case 4: REQUIRE(tpool_for(handle, 2, 1, 0, loop_body, NULL) == TPOOL_INVALID); break;
    case 5:
        future = NULL;
        REQUIRE(tpool_wait(&future, 1, TPOOL_ALL_COMPLETED, 0, &count) == TPOOL_INVALID);
        REQUIRE(tpool_as_completed(&future, 1, &completions) == TPOOL_INVALID && !completions);
        break;
    case 6: REQUIRE(tpool_submit_copy(handle, run_task, NULL, 4, &future) == TPOOL_INVALID && !future); break;
    default: REQUIRE(tpool_submit_many(handle, NULL, 2, NULL, &count) == TPOOL_INVALID && count == 0); break;
    }
}

static void make(int thread, const call *c) {
    int pool = (c->a >> 4) % pool_count;
    a_pool *p = &pools[pool];
    tpool_future *future;
    record *r;
    switch (c->kind) {
    case SUBMIT:
    case SUBMIT_TASK:
    case SUBMIT_COPY: {
        behaviour does = (behaviour)((c->a & 15) % BEHAVIOURS);
        if (does == ENDS_THREAD && (!orderly || p->config.on_full == TPOOL_FULL_CALLER_RUNS)) does = RETURNS;
        if (does >= NESTING && any_quiet()) does = YIELDS;
        if (p->quiet && would_block(p)) return;
        r = new_record(pool, does, thread, (int)(c->b >> 4) % 3 - 1);
        if (!r) return;
        bool keep = c->b & 128 || (c->b & 15) < SLOTS;
        if (submit(r, c->kind, c->c, keep, &future) == TPOOL_OK && keep) put_slot(c->b & 15, future, r);
        return;
    }
    case SUBMIT_MANY: submit_many(pool, thread, c->b, c->c); return;
    case RUN_WITH_TIMEOUT: run_with_timeout(pool, thread, c->b, c->c); return;
    case CANCEL: cancel(c->a); return;
    case RESULT:
    case LOOK:
    case REQUEST_STOP:
        future = take_slot(c->a, &r);
        if (!future) return;
        if (c->kind == REQUEST_STOP) tpool_future_request_stop(future);
        else if (c->kind == LOOK) look(future, r);
        else if (c->b & 1) check_error(future, r, bounded(some_time(c->c), r));
        else check_result(future, r, bounded(some_time(c->c), r));
        tpool_future_release(future);
        return;
    case ADD_CALLBACK: add_callback(c->a, c->b); return;
    case RELEASE: put_slot(c->a, NULL, NULL); return;
    case WAIT: wait_for(c->a, c->b, c->c); return;
    case COMPLETIONS: complete(c->a, c->b, c->c); return;
    case MAP:
        if (!any_quiet()) map(pool, c->b, c->c, c->a);
        return;
    case FOR: loop(pool, c->b, c->c); return;
    case PAUSE: pause_pool(pool); return;
    case RESUME: resume_pool(pool); return;
    case RESIZE: {
        atomic_store(&p->resized, true);
        tpool_status status = tpool_resize(p->handle, 1 + (int)(c->b % 4));
        REQUIRE(status == TPOOL_OK || (status == TPOOL_SHUTDOWN && atomic_load(&p->shut_asked)) ||
                (status == TPOOL_BROKEN && p->fails_to_start));
        return;
    }
    case WARM_UP: {
        tpool_status status = tpool_warm_up(p->handle, (int)(c->b % 5));
        REQUIRE(status == TPOOL_OK || (status == TPOOL_SHUTDOWN && atomic_load(&p->shut_asked)) ||
                (status == TPOOL_BROKEN && p->fails_to_start));
        return;
    }
    case DRAIN: {
        int64_t timeout = some_time(c->b);
        if (p->quiet && timeout > TPOOL_US(40)) timeout = TPOOL_US(40);
        tpool_status status = tpool_drain(p->handle, timeout);
        REQUIRE(status == TPOOL_OK || (status == TPOOL_TIMEOUT && timeout <= TPOOL_US(300)));
        if (p->quiet) REQUIRE((status == TPOOL_OK) == (p->waiting_count == 0) || timeout == 0);
        return;
    }
    case STATS: read_stats(pool); return;
    case SHUTDOWN:
        if (c->b % 4 == 0) shut_down(pool, c->c);
        return;
    case CREATE_FUTURE:
        r = new_record(-1, BY_HAND, thread, 0);
        if (!r) return;
        REQUIRE(tpool_future_create(&future) == TPOOL_OK);
        put_slot(c->a, future, r);
        return;
    case SET_RUNNING:
    case SET_RESULT:
    case SET_ERROR: set_by_hand(c->kind, c->a); return;
    case SCOPE: scope(pool, thread, c->a, c->b, c->c); return;
    default: call_badly(pool, c->a); return;
    }
}
#endif
