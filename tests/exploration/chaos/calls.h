/* The calls of chaos.c over many futures, by hand, and on pools as a whole; and the one place where it is drawn
   which. */
#ifndef TPOOL_TESTS_CHAOS_CALLS_H
#define TPOOL_TESTS_CHAOS_CALLS_H
#include "loops.h"

/* ---- Futures that the program completes: each by a thread of its own, unless somebody else comes first. */
enum { PRODUCERS = 60 };
static pthread_t producers[PRODUCERS];
static atomic_int producer_count, producers_started;
static atomic_bool no_more_externals;
static void free_external(void *what) {
    record *r = what;
    if (atomic_fetch_add(&r->owned_freed, 1)) fail("task %d: result_free twice", id_of(r));
}
static bool complete(rng *g, record *r, tpool_future *future) {
    tpool_status status;
    if (one_in(g, 3)) {
        status = CALL(id_of(r), tpool_future_set_running(future));
        if (status != TPOOL_OK && status != TPOOL_CANCELLED && status != TPOOL_INVALID_STATE)
            fail("set_running gave %s", tpool_status_name(status));
    }
    atomic_fetch_add(&r->sets, 1); /* before it can be seen; taken back if another was first */
    if (one_in(g, 2)) {
        if (one_in(g, 2)) status = CALL(id_of(r), tpool_future_set_error(future, 3, "by hand, %d", id_of(r)));
        else status = CALL(id_of(r), tpool_future_set_error_text(future, 3, "by hand, %d"));
        if (status == TPOOL_NO_MEMORY && may_refuse()) status = TPOOL_OK;
        if (status != TPOOL_OK) atomic_fetch_sub(&r->sets, 1);
        if (status != TPOOL_OK && status != TPOOL_INVALID_STATE) fail("set_error gave %s", tpool_status_name(status));
        return status == TPOOL_OK;
    }
    if (!has(RESULT_FREES) || one_in(g, 2)) status = CALL(id_of(r), tpool_future_set_result(future, r));
    else status = CALL(id_of(r), tpool_future_set_result_owned(future, r, free_external));
    if (status == TPOOL_NO_MEMORY && may_refuse()) status = TPOOL_OK; /* it has failed, and the result is freed */
    if (status != TPOOL_OK) atomic_fetch_sub(&r->sets, 1);
    if (status != TPOOL_OK && status != TPOOL_INVALID_STATE) fail("set_result gave %s", tpool_status_name(status));
    return status == TPOOL_OK;
}
static void *producer(void *arg) {
    record *r = arg;
    tpool_future *future = r->produced;
    rng g = { mix(r->seed, 5) };
    self()->program = 1;
    atomic_store(&self()->name, "producer");
    keep(A_FUTURE, future);
    sleep_us((long)draw(&g, 3000));
    if (complete(&g, r, future) && !tpool_future_done(future))
        fail("task %d: completed by hand, and not done", id_of(r));
    release(future);
    return NULL;
}
static void external(rng *g) {
    int at = atomic_fetch_add(&producer_count, 1);
    if (atomic_load(&no_more_externals)) return;
    if (at >= PRODUCERS) {
        atomic_store(&producer_count, PRODUCERS);
        return;
    }
    record *r = new_record(g, -1, 0);
    tpool_future *future = NULL;
    if (r) {
        r->has_future = true;
        tpool_status status = CALL(-1, tpool_future_create(&future));
        if (status != TPOOL_OK && !(status == TPOOL_NO_MEMORY && may_refuse()))
            fail("future_create gave %s", tpool_status_name(status));
        r->produced = tpool_future_retain(future);
        taken(r, future, status);
    }
    static pthread_mutex_t starting = PTHREAD_MUTEX_INITIALIZER;
    if (!future) return;
    pthread_mutex_lock(&starting);
    int n = atomic_load(&producers_started);
    if (pthread_create(&producers[n], NULL, producer, r) != 0) fail("no thread for a producer");
    atomic_store(&producers_started, n + 1);
    pthread_mutex_unlock(&starting);
}

/* ---- Many futures */
static int pick_some(rng *g, tpool_future **futures, record **which, int most) {
    int count = 0;
    for (int i = 0; i < most; i++) {
        futures[count] = pick(g, &which[count], false);
        if (!futures[count]) continue;
        count++;
    }
    return count;
}
/* Children of the caller's own, for pure waits. */
static int make_some(rng *g, tpool_future **futures, record **which, int most, unsigned where, int depth) {
    int count = 0;
    for (int i = 0; i < most; i++) {
        int p = pool_of_life(g);
        if (!use(p)) continue;
        record *r = submit(g, p, where | PURE, depth + 1, true);
        unuse(p);
        if (!r) continue;
        pthread_mutex_lock(&r->lock);
        tpool_future *future = r->future ? tpool_future_retain(r->future) : NULL;
        pthread_mutex_unlock(&r->lock);
        if (!future) continue;
        keep(A_FUTURE, future);
        which[count] = r;
        futures[count++] = future;
    }
    return count;
}
static void wait_for_some(rng *g, tpool_future **futures, record **which, int count, unsigned where) {
    tpool_future *array[16], *before[16];
    for (int i = 0; i < count; i++) array[i] = before[i] = futures[i];
    tpool_return_when when = (tpool_return_when)draw(g, 3);
    size_t done = 99, expected = 0;
    int64_t limit = limit_of_wait(g, where, when == TPOOL_ALL_COMPLETED || count == 1);
    tpool_status status = CALL(count, tpool_wait(array, (size_t)count, when, limit, &done));
    if (status != TPOOL_OK) about_wait(status, limit, where, "tpool_wait");
    if (status == TPOOL_NO_MEMORY) return;
    if (done > (size_t)count) fail("tpool_wait: %zu done of %d", done, count);
    for (size_t i = 0; i < done; i++)
        if (!tpool_future_done(array[i])) fail("tpool_wait: %zu done, but not all of them are", done);
    for (int i = 0, k = 0; i < count; i++) /* each part in its order: the done ones are a subsequence of what was */
        if (k < (int)done && before[i] == array[k]) {
            k++;
            expected++;
        }
    if (expected != done) fail("tpool_wait: the done ones are not in order");
    if (status == TPOOL_OK && when == TPOOL_ALL_COMPLETED && done != (size_t)count)
        fail("tpool_wait for all: %zu of %d", done, count);
    if (status == TPOOL_OK && when == TPOOL_FIRST_COMPLETED && count > 0 && done == 0)
        fail("tpool_wait for the first: none");
    (void)which;
}
/* ---- Event loops: an iterator with a descriptor or an on_ready. A call of on_ready runs alone, and not once the destroy
   has returned; one that is owed comes, and a descriptor gets readable, or the loop hangs. */
enum { EVENT_LOOPS_MOST = 4000 };
typedef struct event_loop {
    uint64_t seed;
    intptr_t descriptor;
    atomic_bool over;
    atomic_int running, woken;
} event_loop;
static event_loop event_loops[EVENT_LOOPS_MOST];
static atomic_int event_loop_count;
static void wake_loop(void *context) {
    event_loop *loop = context;
    int before = atomic_fetch_add(&loop->woken, 1);
    rng g = { mix(loop->seed, (uint64_t)before) };
    begin("an on_ready", (int)(loop - event_loops));
    /* what it runs may have ended its thread before it has taken itself out */
    if (atomic_fetch_add(&loop->running, 1) != 0 && !atomic_load(&threads_ended) && !has(SELF_CANCELS))
        fail("on_ready runs twice at a time");
    if (atomic_load(&loop->over)) fail("on_ready after the destroy");
    if (has(BUSY_CALLBACKS) && one_in(&g, 2)) acts(&g, IN_LIMITED, 1, 2);
    if (one_in(&g, 3)) sleep_us((long)draw(&g, 300));
    if (atomic_load(&loop->over)) fail("on_ready runs after the destroy");
    atomic_fetch_sub(&loop->running, 1);
    if (may_end(ENDS_IN_CALLBACKS, &g, 8)) end_thread(&g);
    end();
}
static event_loop *poll_it(rng *g, tpool_completions *c) {
    if (!has(EVENT_LOOPS) || one_in(g, 3)) return NULL;
    int at = atomic_fetch_add(&event_loop_count, 1);
    if (at >= EVENT_LOOPS_MOST) return NULL;
    event_loop *loop = &event_loops[at];
    loop->seed = draw64(g);
    loop->descriptor = -1;
    bool polls = one_in(g, 2);
    tpool_status status = polls ? CALL(at, tpool_completions_descriptor(c, &loop->descriptor))
                                : CALL(at, tpool_completions_on_ready(c, wake_loop, loop));
    if (status != TPOOL_OK && !(status == TPOOL_NO_MEMORY && may_refuse()))
        fail("on_ready or a descriptor: %s", tpool_status_name(status));
    if ((polls && status == TPOOL_OK) != (loop->descriptor >= 0)) fail("descriptor %d", (int)loop->descriptor);
    return status == TPOOL_OK ? loop : NULL;
}
/* As a next without a limit; for the program's own threads, since the library does not see that they wait. Where
   threads are refused an expiry may go unnoticed until somebody looks. */
static tpool_status next_of_loop(tpool_completions *c, event_loop *loop, tpool_future **future) {
    for (;;) {
        int woken = atomic_load(&loop->woken), looks = 0;
        tpool_status status = CALL(-1, tpool_completions_next(c, 0, future));
        if (status != TPOOL_TIMEOUT) return status;
        struct pollfd polled = { .fd = (int)loop->descriptor, .events = POLLIN };
        begin("an event loop", (int)(loop - event_loops));
        for (;; looks++) {
            if (loop->descriptor >= 0 ? poll(&polled, 1, 1) > 0 : atomic_load(&loop->woken) != woken) break;
            if (looks > 20 && (may_refuse() || atomic_load(&threads_ended))) break;
            if (loop->descriptor < 0) sleep_us(500);
        }
        end();
    }
}
static tpool_status next_one(rng *g, tpool_completions *c, event_loop *loop, int64_t limit, unsigned where,
                             tpool_future **future) {
    if (loop && limit == TPOOL_FOREVER && where == IN_PROGRAM && self()->frame_count == 0 && !one_in(g, 3))
        return next_of_loop(c, loop, future);
    return CALL(-1, tpool_completions_next(c, limit, future));
}
static void end_iterator(tpool_completions *c, event_loop *loop, int count) {
    unkeep(c);
    DO(count, tpool_completions_destroy(c));
    if (loop) atomic_store(&loop->over, true);
}
static void iterate(rng *g, tpool_future **futures, record **which, int count, unsigned where) {
    tpool_completions *c = NULL;
    int start = count ? (int)draw(g, (unsigned)count + 1) : 0, given = 0;
    bool yielded[16] = { false };
    tpool_status status = CALL(start, tpool_as_completed(futures, (size_t)start, &c));
    if (status != TPOOL_OK) {
        if (status != TPOOL_NO_MEMORY || !may_refuse()) fail("as_completed gave %s", tpool_status_name(status));
        return;
    }
    keep(AN_ITERATOR, c);
    event_loop *loop = poll_it(g, c);
    for (int i = start; i < count; i++) {
        status = CALL(i, tpool_completions_add(c, futures[i]));
        if (status != TPOOL_OK && !(status == TPOOL_NO_MEMORY && may_refuse()))
            fail("completions_add gave %s", tpool_status_name(status));
        if (status != TPOOL_OK) count = i;
    }
    for (int tries = 0; tries < 40; tries++) {
        tpool_future *future = NULL;
        int64_t limit = limit_of_wait(g, where, false);
        status = next_one(g, c, loop, limit, where, &future);
        if (status == TPOOL_END) break;
        if (status != TPOOL_OK) {
            about_wait(status, limit, where, "completions_next");
            if (future) fail("completions_next gave a future with %s", tpool_status_name(status));
            if (status != TPOOL_TIMEOUT) break;
            continue;
        }
        size_t index = tpool_completions_index(c);
        if (index >= (size_t)count || futures[index] != future) fail("completions: index %zu", index);
        if (yielded[index]) fail("completions: twice index %zu", index);
        yielded[index] = true;
        given++;
        if (!is_end(observe(which[index], future, 0, where))) fail("completions: yielded, and not done");
    }
    if (status == TPOOL_END) {
        for (int i = 0; i < count; i++) {
            bool first = true;
            for (int k = 0; k < i; k++) first = first && futures[k] != futures[i];
            if (first != yielded[i]) fail("completions: %d given of %d at the end, not index %d", given, count, i);
        }
        if (tpool_completions_remaining(c) != 0) fail("completions: some remain after the end");
    }
    end_iterator(c, loop, count);
}
/* The submits add what the iterator yields: all that was taken, and nothing else. */
static void iterate_submits(rng *g, unsigned where, int depth) {
    tpool_completions *c = NULL;
    record *which[6];
    bool yielded[6] = { false };
    int count = 0, given = 0;
    tpool_status status = CALL(0, tpool_as_completed(NULL, 0, &c));
    if (status != TPOOL_OK) {
        if (status != TPOOL_NO_MEMORY || !may_refuse()) fail("as_completed gave %s", tpool_status_name(status));
        return;
    }
    keep(AN_ITERATOR, c);
    event_loop *loop = poll_it(g, c);
    for (int i = 1 + (int)draw(g, 6); i > 0; i--) {
        int p = pool_of_life(g);
        if (!use(p)) continue;
        self()->into = c;
        record *r = submit(g, p, where, depth + 1, one_in(g, 2));
        self()->into = NULL;
        unuse(p);
        if (r) which[count++] = r;
        if (tpool_completions_remaining(c) != (size_t)count) fail("completions: not what was submitted");
    }
    for (int tries = 0; tries < 20; tries++) {
        tpool_future *future = NULL;
        int64_t limit = limit_of_wait(g, where, false);
        status = next_one(g, c, loop, limit, where, &future);
        if (status == TPOOL_END) break;
        if (status != TPOOL_OK) {
            about_wait(status, limit, where, "completions_next");
            if (status != TPOOL_TIMEOUT) break;
            continue;
        }
        size_t index = tpool_completions_index(c);
        if (index >= (size_t)count || yielded[index]) fail("completions: index %zu of %d", index, count);
        yielded[index] = true;
        given++;
        if (!is_end(observe(which[index], future, 0, where))) fail("completions: yielded, and not done");
    }
    if (status == TPOOL_END && given != count) fail("completions: %d given of %d", given, count);
    end_iterator(c, loop, count);
}
static void over_many(rng *g, unsigned where, int depth) {
    if (has(COMPLETIONS) && one_in(g, 3)) {
        iterate_submits(g, where, depth);
        return;
    }
    tpool_future *futures[10];
    record *which[10];
    int count = where & PURE ? make_some(g, futures, which, 1 + (int)draw(g, 3), where, depth)
                             : pick_some(g, futures, which, (int)draw(g, 10));
    switch (draw(g, 3)) {
    case 0:
        if (has(WAITS)) {
            wait_for_some(g, futures, which, count, where);
            break;
        } /* fall through */
    case 1:
        if (has(COMPLETIONS)) {
            iterate(g, futures, which, count, where);
            break;
        } /* fall through */
    default:
        for (int i = 0; i < count; i++) {
            tpool_status status = observe(which[i], futures[i], limit_of_wait(g, where, true), where);
            if ((where & PURE) && !is_end(status) && status != TPOOL_NO_THREAD && !self()->hooks)
                fail("a pure wait gave %s", tpool_status_name(status));
        }
        break;
    }
    for (int i = count; i-- > 0;) {
        release(futures[i]);
        if ((where & PURE) && one_in(g, 2)) drop(which[i]);
    }
}

/* ---- Resources: held without waiting for anything else, so that a get ends. */
static tpool_resources *resources;
static char resource_cells[3];
static atomic_int resources_out[3], resources_made;
static void *make_resource(void *context) {
    (void)context;
    return &resource_cells[atomic_fetch_add(&resources_made, 1) % 3];
}
static void destroy_resource(void *resource, void *context) {
    (void)resource;
    (void)context;
    atomic_fetch_sub(&resources_made, 1);
}
static void borrow(rng *g, unsigned where) {
    void *resource = NULL;
    int64_t limit = limit_of_wait(g, where & ~(unsigned)IN_TASK, true);
    if (!resources) return;
    tpool_status status = CALL(-1, tpool_resources_get(resources, limit, &resource));
    if (status != TPOOL_OK) {
        about_wait(status, limit, where & ~(unsigned)PURE, "resources_get");
        return;
    }
    int i = (int)((char *)resource - resource_cells);
    if (i < 0 || i > 2 || atomic_fetch_add(&resources_out[i], 1)) fail("a resource that is out is given out");
    if (one_in(g, 2)) sleep_us((long)draw(g, 60));
    atomic_fetch_sub(&resources_out[i], 1);
    status = CALL(-1, tpool_resources_put(resources, resource));
    if (status != TPOOL_OK) fail("resources_put gave %s", tpool_status_name(status));
}

/* ---- Channels: each item that was sent is received once, or freed at the end. Limits are short: nobody promises to send. */
enum { CHANNEL_ITEMS = 4096 };
static tpool_channel *channels[2];
static atomic_int channel_items;
static atomic_bool channel_closed[2];
static _Atomic(char) item_sent[CHANNEL_ITEMS + 1], item_taken[CHANNEL_ITEMS + 1];
static void take_item(const void *item) {
    uint32_t number;
    memcpy(&number, item, sizeof number);
    if (number == 0 || number > CHANNEL_ITEMS) fail("an item %u that nobody sent", number);
    if (atomic_fetch_add(&item_taken[number], 1)) fail("item %u comes twice", number);
}
static void free_item(void *item) { take_item(item); }
static void pass_on(rng *g, unsigned where) {
    unsigned which = draw(g, 2), k = draw(g, 10);
    tpool_channel *channel = channels[which];
    if (!channel) return;
    int64_t limit = k < 3 ? -(int64_t)draw(g, 2) : k < 8 ? TPOOL_US(draw(g, 500)) : TPOOL_MS(draw(g, 4));
    bool sends = one_in(g, 2);
    tpool_status status;
    char item[3 * sizeof(uint32_t) + 1] = { 0 }; /* an odd size */
    if (one_in(g, 60)) {
        atomic_store(&channel_closed[which], true);
        if (CALL(-1, tpool_channel_close(channel)) != TPOOL_OK) fail("channel_close failed");
        return;
    }
    if (sends) {
        uint32_t number = (uint32_t)atomic_fetch_add(&channel_items, 1) + 1;
        if (number > CHANNEL_ITEMS) return;
        memcpy(item, &number, sizeof number);
        status = CALL(-1, tpool_channel_send(channel, item, limit));
        if (status == TPOOL_OK) atomic_store(&item_sent[number], 1);
    } else {
        status = CALL(-1, tpool_channel_receive(channel, item, limit));
        if (status == TPOOL_OK) take_item(item);
    }
    if (tpool_channel_count(channel) > 3) fail("more items than places");
    if (status == TPOOL_OK) return;
    if (status == (sends ? TPOOL_SHUTDOWN : TPOOL_END)) {
        if (!atomic_load(&channel_closed[which])) fail("a channel that is not closed says so");
    } else if (status == TPOOL_CANCELLED) {
        if (where == IN_PROGRAM && self()->frame_count == 0) fail("a wait in no task was stopped");
    } else {
        about_wait(status, limit, where & ~(unsigned)PURE, "a channel");
    }
}
static void open_channels(rng *g) {
    atomic_store(&channel_items, 0);
    for (int i = 0; i < 2; i++) {
        tpool_channel_config config = { .capacity = 1 + draw(g, 3), .item_size = 13, .item_free = free_item };
        atomic_store(&channel_closed[i], false);
        if (tpool_channel_create(&channels[i], &config) != TPOOL_OK) fail("no channel");
    }
    memset((void *)item_sent, 0, sizeof item_sent);
    memset((void *)item_taken, 0, sizeof item_taken);
}
static void end_channels(void) {
    for (int i = 0; i < 2; i++) {
        if (!channels[i]) return;
        if (tpool_channel_destroy(channels[i]) != TPOOL_OK) fail("a channel is still awaited");
        channels[i] = NULL;
    }
    for (int n = 1; n <= CHANNEL_ITEMS; n++)
        if (atomic_load(&item_sent[n]) != atomic_load(&item_taken[n])) fail("item %d is lost, or was never sent", n);
}

/* ---- Managers */
static void *managed_task(void *arg) {
    atomic_fetch_add((atomic_int *)arg, 1);
    return arg;
}
static tpool_status with_managed(tpool *pool, void *context) {
    rng g = { *(uint64_t *)context };
    static atomic_int ran;
    tpool_future *future = NULL;
    tpool_status status = CALL(-2, tpool_submit(pool, managed_task, &ran, &future));
    if (status == TPOOL_OK) {
        keep(A_FUTURE, future);
        if (one_in(&g, 2)) CALL(-2, tpool_future_result(future, TPOOL_MS(3), NULL));
        if (one_in(&g, 3)) CALL(-2, tpool_drain(pool, TPOOL_US(300)));
        release(future);
    } else if (status != TPOOL_SHUTDOWN && !may_refuse()) {
        fail("a submit to a managed pool gave %s", tpool_status_name(status));
    }
    return status;
}
static void manage(rng *g, unsigned where) {
    if (!manager) return;
    bool of_all = has(GLOBAL_MANAGER) && one_in(g, 2);
    tpool_manager *of = of_all ? CALL(-2, tpool_manager_global()) : manager;
    if (!of && may_refuse()) return;
    uint64_t seed = draw64(g);
    tpool *pool = NULL;
    tpool_manager_stats stats;
    switch (draw(g, 8)) {
    case 0: CALL(-2, tpool_manager_clear(of)); break;
    case 1:
        if (tpool_manager_get_stats(of, &stats) != TPOOL_OK) fail("no stats of a manager");
        break;
    case 2:
        if (where != IN_PROGRAM || !one_in(g, 6)) break;
        atomic_store(of_all ? &global_manager_shut : &manager_shut, true);
        if (of_all) {
            tpool_status status = CALL(-2, tpool_manager_global_shutdown());
            if (status != TPOOL_OK && !may_refuse() && self()->frame_count == 0)
                fail("global_shutdown gave %s", tpool_status_name(status));
        } else {
            CALL(-2, tpool_manager_shutdown(manager, one_in(g, 2)));
        }
        break;
    case 3: CALL(-2, tpool_with_pool(of, 1 + (int)draw(g, 2), TPOOL_THREADS, with_managed, &seed)); break;
    default: {
        tpool_status status = CALL(
            -2, tpool_manager_get(of, 1 + (int)draw(g, 2), TPOOL_THREADS, one_in(g, 4) ? TPOOL_FORCE_NEW : 0, &pool));
        if (status != TPOOL_OK) {
            if (status != TPOOL_SHUTDOWN && !may_refuse()) fail("manager_get gave %s", tpool_status_name(status));
            break;
        }
        with_managed(pool, &seed);
        status = CALL(-2, tpool_manager_release(of, pool));
        if (status != TPOOL_OK) fail("manager_release gave %s", tpool_status_name(status));
        break;
    }
    }
}

/* ---- Pools that nobody destroys */
static void *give_up_own(void *arg) {
    *(tpool_status *)arg = CALL(-2, tpool_shutdown(tpool_current(), TPOOL_DETACH));
    return arg;
}
static void give_up(rng *g) {
    static atomic_int ran;
    tpool *pool = NULL;
    tpool_future *future = NULL;
    tpool_config config = { .max_workers = 1 + (int)draw(g, 3), .queue_capacity = draw(g, 4) };
    tpool_status status = CALL(-2, tpool_create(&pool, &config)), detached = TPOOL_NO_THREAD;
    if (status != TPOOL_OK) {
        if (status != TPOOL_NO_MEMORY || !may_refuse()) fail("create gave %s", tpool_status_name(status));
        return;
    }
    for (int i = (int)draw(g, 9); i > 0; i--) {
        status = CALL(-2, tpool_submit(pool, managed_task, &ran, NULL));
        if (status != TPOOL_OK && !may_refuse()) fail("a submit gave %s", tpool_status_name(status));
    }
    if (one_in(g, 2)) {
        unsigned flags = TPOOL_DETACH | (one_in(g, 3) ? TPOOL_CANCEL_PENDING : 0);
        detached = CALL(-2, tpool_shutdown(pool, flags | (one_in(g, 3) ? TPOOL_STOP_RUNNING : 0)));
    } else {
        status = CALL(-2, tpool_submit(pool, give_up_own, &detached, &future));
        if (status != TPOOL_OK && !may_refuse()) fail("a submit gave %s", tpool_status_name(status));
        if (status == TPOOL_OK) status = CALL(-2, tpool_future_result(future, TPOOL_FOREVER, NULL));
        if (future && status != TPOOL_OK) fail("the task that detaches its pool gave %s", tpool_status_name(status));
        tpool_future_release(future);
    }
    if (detached != TPOOL_OK && !(detached == TPOOL_NO_THREAD && may_refuse()))
        fail("a detach gave %s", tpool_status_name(detached));
    while (detached != TPOOL_OK && (detached = CALL(-2, tpool_destroy(pool))) != TPOOL_OK) sleep_us(1000);
}

/* ---- fork */
static void fork_program(rng *g) {
    static pthread_mutex_t forking = PTHREAD_MUTEX_INITIALIZER;
    static int forks;
    record *r = NULL;
    tpool_future *future = pick(g, &r, false);
    int p = pool_of_life(g);
    bool used = use(p);
    tpool *pool = used ? pools[p].handle : NULL;
    pthread_mutex_lock(&forking);
    bool few = ++forks < 60;
    pthread_mutex_unlock(&forking);
    bool ends = one_in(g, 3);
    begin("fork", p);
    fflush(NULL);
    pid_t child = few ? fork() : -1;
    if (child == 0) {
        signal(SIGALRM, SIG_DFL);
        alarm(SLOW ? 60 : 20);
        atomic_store(&refuse_memory, 0);
        atomic_store(&refuse_threads, 0);
        if (pool) {
            if (tpool_submit(pool, task_body, NULL, NULL) != TPOOL_BROKEN) _exit(3);
            if (tpool_drain(pool, TPOOL_FOREVER) != TPOOL_BROKEN) _exit(4);
        }
        if (future) {
            bool done = tpool_future_done(future);
            tpool_status status = tpool_future_result(future, TPOOL_FOREVER, NULL);
            if (!done && status != TPOOL_BROKEN) _exit(5);
            if (!is_end(status)) _exit(6);
            tpool_future_release(future);
        }
        if (!TSAN) {
            tpool *own_pool = NULL;
            tpool_future *mine = NULL;
            atomic_int ran = 0;
            if (tpool_create(&own_pool, NULL) != TPOOL_OK) _exit(7);
            if (tpool_submit(own_pool, managed_task, &ran, &mine) != TPOOL_OK) _exit(8);
            if (tpool_future_result(mine, TPOOL_FOREVER, NULL) != TPOOL_OK) _exit(9);
            tpool_future_release(mine);
            if (tpool_destroy(own_pool) != TPOOL_OK) _exit(10);
            ending = true;
            if (ends) pthread_exit(NULL); /* the only thread, and the process with it */
        }
        _exit(0);
    }
    if (child > 0) {
        int status = 0;
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) { }
        if (status != 0) fail("a child of fork ended with %d, signal %d", WEXITSTATUS(status), WTERMSIG(status));
    }
    end();
    if (used) unuse(p);
    if (future) release(future);
}

/* ---- Pools as a whole */
static bool takes_text(const char *bytes, size_t size, void *context) {
    (void)context;
    if (size == 0 || bytes[size - 1] != '\n') fail("a line without an end");
    return true;
}
/* Other threads start and stop traces of the pool too. */
static bool takes_events(const char *bytes, size_t size, void *context) {
    (void)bytes;
    return size > 0 && !one_in((rng *)context, 50);
}
static void trace(rng *g, int p, tpool *pool) {
    tpool_status status;
    switch (draw(g, 4)) {
    case 0: status = tpool_trace_stop(pool); break;
    case 1: status = tpool_trace_write(pool, takes_events, g); break;
    default: status = tpool_trace_start(pool, one_in(g, 2) ? draw(g, 2000) : 0); break;
    }
    if (status != TPOOL_OK && status != TPOOL_INVALID_STATE && status != TPOOL_FAILED && status != TPOOL_NO_MEMORY)
        fail("a trace of pool %d: %s", p, tpool_status_name(status));
}
static void check_rest(int p) {
    tpool_stats s;
    if (tpool_get_stats(pools[p].handle, &s) != TPOOL_OK) fail("no stats of pool %d", p);
    uint64_t ended = s.completed + s.failed + s.cancelled + s.expired + s.dropped;
    if (s.submitted != ended || s.queued != 0 || s.held != 0)
        fail("pool %d at rest: %zu queued, %zu held, %llu submitted, %llu ended", p, s.queued, s.held,
             (unsigned long long)s.submitted, (unsigned long long)ended);
    uint64_t count = atomic_load(&pools[p].taken);
    if (!pools[p].dual && atomic_load(&pools[p].others) == 0 && atomic_load(&pools[p].unsure) == 0 &&
        s.submitted != count)
        fail("pool %d: %llu submitted of %llu", p, (unsigned long long)s.submitted, (unsigned long long)count);
}
static bool create_pool(rng *g);
static void script(rng *g);
static void brood(rng *g, unsigned where, int depth);
static void free_uses_of_orphans(void) {
    pthread_mutex_lock(&orphan_lock);
    for (int i = 0; i < atomic_load(&orphan_count) && i < (int)(sizeof orphans / sizeof *orphans); i++)
        if (orphans[i].kind == A_USE) {
            orphans[i].kind = NOTHING;
            atomic_fetch_sub(&((a_pool *)orphans[i].what)->uses, 1);
        }
    pthread_mutex_unlock(&orphan_lock);
}
static void destroy_pool(int p, bool force) {
    a_pool *of = &pools[p];
    int none = 0;
    for (int tries = 0; !atomic_compare_exchange_strong(&of->uses, &none, INT_MIN); tries++, none = 0) {
        if (none < 0 || (tries > 40 && !force)) return;
        if (force && tries > 10) free_uses_of_orphans(); /* of calls that have not come back */
        sleep_us(300);
    }
    unsigned threads = atomic_exchange(&refuse_threads, 0); /* whoever destroys must get it done */
    tpool_status status;
    atomic_store(&of->ends, true);
    begin("tpool_destroy", p);
    for (int tries = 0;; tries++) {
        status = tpool_destroy(of->handle);
        if (status != TPOOL_NO_THREAD || tries > 1000 || !may_refuse()) break;
    }
    end();
    if (status != TPOOL_OK) fail("tpool_destroy gave %s", tpool_status_name(status));
    atomic_store(&of->alive, false);
    if (atomic_load(&of->may_cancel) == false) atomic_store(&of->shut, true);
    atomic_store(&refuse_threads, threads);
}
/* Both, for the rest of the process. */
static void shut_dual(rng *g) {
    unsigned flags = draw(g, 8);
    atomic_store(&dual_shut, true);
    for (int p = 0; p < atomic_load(&pool_count); p++) {
        if (!pools[p].dual) continue;
        atomic_store(&pools[p].shut, true);
        if (flags & TPOOL_CANCEL_PENDING) atomic_store(&pools[p].may_cancel, true);
        if (flags & TPOOL_STOP_RUNNING) atomic_store(&pools[p].may_stop, true);
    }
    tpool_status status = CALL(-1, tpool_dual_shutdown(flags));
    if (status != TPOOL_OK && !((status == TPOOL_NO_THREAD || status == TPOOL_NO_MEMORY) && may_refuse()))
        fail("dual_shutdown gave %s", tpool_status_name(status));
    tpool_stats high, low;
    if (status != TPOOL_OK || !(flags & TPOOL_WAIT)) return;
    if (tpool_get_stats(tpool_high_level(), &high) != TPOOL_OK || tpool_get_stats(tpool_low_level(), &low) != TPOOL_OK)
        fail("no stats of the dual pools");
    if (high.workers || low.workers) fail("%d and %d workers after dual_shutdown", high.workers, low.workers);
}
static void change_pool(rng *g, int p, unsigned where, int depth) {
    a_pool *of = &pools[p];
    tpool *pool = of->handle;
    bool mine = own(p);
    bool outside = where == IN_PROGRAM && self()->frame_count == 0 && self()->hooks == 0;
    tpool_status status = TPOOL_OK;
    tpool_stats stats;
    switch (draw(g, 12)) {
    case 0:
        if (!has(PAUSES) || mine) break; /* beside a destroy nobody would resume it */
        atomic_store(&of->paused, true);
        status = CALL(p, tpool_pause(pool));
        atomic_store(&of->paused, true);
        if (status != TPOOL_OK && status != TPOOL_SHUTDOWN && status != TPOOL_BROKEN)
            fail("pause gave %s", tpool_status_name(status));
        break;
    case 1:
        status = CALL(p, tpool_resume(pool));
        if (status != TPOOL_OK && status != TPOOL_BROKEN && !may_refuse())
            fail("resume gave %s", tpool_status_name(status));
        break;
    case 2:
    case 3:
        if (!has(RESIZES)) break;
        status = CALL(p, tpool_resize(pool, of->config.min_workers + 1 + (int)draw(g, 3)));
        if (status != TPOOL_OK && status != TPOOL_SHUTDOWN && status != TPOOL_BROKEN && !may_refuse())
            fail("resize gave %s", tpool_status_name(status));
        break;
    case 4:
        status = CALL(p, tpool_warm_up(pool, (int)draw(g, 4)));
        if (status != TPOOL_OK && status != TPOOL_SHUTDOWN && status != TPOOL_BROKEN && !may_refuse())
            fail("warm_up gave %s", tpool_status_name(status));
        break;
    case 5:
    case 6: {
        if (!has(DRAINS)) break;
        int64_t limit = outside ? limit_of_wait(g, where, true) : TPOOL_US(draw(g, 800));
        status = CALL(p, tpool_drain(pool, limit));
        if (mine && status != TPOOL_DEADLOCK) fail("a drain by its own task gave %s", tpool_status_name(status));
        if (status != TPOOL_OK && status != TPOOL_BROKEN)
            about_wait(status, limit, mine || !outside ? IN_TASK : where, "tpool_drain");
        break;
    }
    case 7:
        if (has(SHUTDOWNS) && of->dual && outside && one_in(g, 5)) shut_dual(g);
        if (!has(SHUTDOWNS) || of->dual || !one_in(g, 6)) break;
        {
            unsigned flags = draw(g, 8);
            if (!outside && !mine) flags &= ~TPOOL_WAIT;
            if (mine && (flags & TPOOL_WAIT)) {
                status = CALL(p, tpool_shutdown(pool, flags));
                if (status != TPOOL_DEADLOCK) fail("a shutdown by its own task gave %s", tpool_status_name(status));
                break;
            }
            atomic_store(&of->shut, true);
            if (flags & TPOOL_CANCEL_PENDING) atomic_store(&of->may_cancel, true);
            if (flags & TPOOL_STOP_RUNNING) atomic_store(&of->may_stop, true);
            status = CALL(p, tpool_shutdown(pool, flags));
            if (status != TPOOL_OK && !(status == TPOOL_NO_THREAD && may_refuse())) {
                if (status == TPOOL_DEADLOCK && !outside) break;
                fail("shutdown gave %s", tpool_status_name(status));
            }
        }
        break;
    case 8:
        if (tpool_kill_workers(pool) != TPOOL_UNSUPPORTED) fail("kill_workers of threads");
        if (mine && CALL(p, tpool_destroy(pool)) != (of->dual ? TPOOL_INVALID_STATE : TPOOL_DEADLOCK))
            fail("a destroy by its own task");
        break;
    case 9:
        if (has(DESTROYS) && outside && !of->dual && one_in(g, 4)) {
            unuse(p);
            destroy_pool(p, false);
            if (atomic_load(&pool_count) < POOLS) create_pool(g);
            if (!use(p)) keep(A_USE, NULL);
            break;
        } /* fall through */
    default:
        if (tpool_get_stats(pool, &stats) != TPOOL_OK) fail("no stats of pool %d", p);
        if (stats.active < 0 || stats.workers < 0 || stats.idle < 0)
            fail("pool %d: %d workers, %d active, %d idle", p, stats.workers, stats.active, stats.idle);
        if (one_in(g, 2) && tpool_describe(pool, takes_text, NULL) != TPOOL_OK) fail("no description of pool %d", p);
        if (one_in(g, 3)) trace(g, p, pool);
        break;
    }
    (void)depth;
}

/* What only looks. */
static void look(rng *g) {
    int64_t until = tpool_now() + (int64_t)draw(g, 1000) - 500, left = tpool_until(until);
    if (left < 0 || left > 500 || tpool_until(TPOOL_FOREVER) != TPOOL_FOREVER)
        fail("%lld ns are left", (long long)left);
    tpool_status status = (tpool_status)draw(g, 20);
    if (!tpool_status_text(status) || !tpool_status_name(status) || !tpool_version()[0]) fail("no text");
    if (one_in(g, 20) && tpool_workers_for((tpool_work)draw(g, 4)) < tpool_cpu_count()) fail("too few workers");
    tpool *current = tpool_current();
    int index = tpool_current_worker();
    if (index >= 0 && !current) fail("worker %d of no pool", index);
    if (has(DUAL) && dual_used && tpool_default() != tpool_low_level()) fail("the default pool is another");
}

/* The pool of a script, if the caller is one of its tasks. */
static int own_pool_of_script(void) {
    record *r = task_of(innermost());
    return r && r->pool >= 0 && pools[r->pool].feeds_itself ? r->pool : -1;
}

/* ---- One of all that can be done */
/* ---- Groups */
static void about_group(tpool_status status, int64_t limit, unsigned where) {
    if (!is_end(status)) about_wait(status, limit, where, "a wait for a group");
}
static void over_group(rng *g, unsigned where) {
    a_group *group = &groups[draw(g, (unsigned)group_count)];
    bool alone = where == IN_PROGRAM && self()->frame_count == 0;
    switch (draw(g, 12)) {
    case 0:
        if (!has(CANCELS) || !one_in(g, 3)) break;
        atomic_store(&group->may_cancel, true);
        if (CALL(-1, tpool_group_cancel(group->handle)) != TPOOL_OK) fail("a group is not cancelled");
        break;
    case 1:
    case 2: {
        tpool_future *future = NULL;
        tpool_status status = CALL(-1, tpool_group_future(group->handle, &future));
        if (status == TPOOL_NO_MEMORY && may_refuse()) break;
        if (status != TPOOL_OK) fail("tpool_group_future gave %s", tpool_status_name(status));
        keep(A_FUTURE, future);
        if (one_in(g, 3)) tpool_future_cancel(future);
        int64_t limit = TPOOL_US(draw(g, 300));
        status = CALL(-1, tpool_future_result(future, limit, NULL));
        about_group(status, limit, where);
        release(future);
        break;
    }
    case 3:
    case 4: (void)CALL(-1, (tpool_status)(tpool_group_count(group->handle) & 1)); break;
    default: {
        int64_t limit = alone && one_in(g, 2) ? TPOOL_FOREVER : TPOOL_US(draw(g, 500));
        const tpool_error *error = NULL;
        tpool_status status = CALL(-1, tpool_group_wait(group->handle, limit, &error));
        about_group(status, limit, where);
        if (error && (error->cause != status || !error->message)) fail("another error of a group");
    }
    }
}
/* A scope: leaves are submitted, and waited for. */
static void scoped(rng *g, unsigned where) {
    int at = atomic_fetch_add(&scope_count, 1), p = pool_of_life(g);
    if (at >= SCOPES) {
        atomic_store(&scope_count, SCOPES);
        return;
    }
    if (!use(p)) return;
    a_group *group = &scopes[at];
    tpool_group_config config = { .limit = one_in(g, 3) ? 1 + (int)draw(g, 2) : 0,
                                  .on_failure = (tpool_group_failure)draw(g, 3),
                                  .waiter_runs = one_in(g, 2) };
    group->limit = config.limit;
    group->keeps_going = config.on_failure == TPOOL_GROUP_KEEP_GOING;
    atomic_store(&group->may_cancel, true); /* by a failure, or by a stop of its maker */
    tpool_status status = CALL(-1, tpool_group_create(&group->handle, &config));
    if (status == TPOOL_NO_MEMORY && may_refuse()) {
        unuse(p);
        return;
    }
    if (status != TPOOL_OK) fail("tpool_group_create gave %s", tpool_status_name(status));
    keep(A_GROUP, group->handle);
    int first = atomic_load(&record_count);
    for (unsigned n = draw(g, 12); n > 0; n--) {
        self()->group = group;
        (void)submit(g, p, where & ~(unsigned)PURE, 3, one_in(g, 3));
        self()->group = NULL;
    }
    if (has(CANCELS) && one_in(g, 5)) (void)CALL(-1, tpool_group_cancel(group->handle));
    unkeep(group->handle); /* a destroy releases it, also if the thread ends in there */
    begin("the end of a scope", p);
    status = tpool_group_destroy(group->handle);
    end();
    unuse(p);
    about_group(status, TPOOL_FOREVER, where & ~(unsigned)PURE);
    if (!is_end(status)) return;
    if (atomic_load(&group->running)) fail("a scope has ended, and members run");
    for (int i = first; i < atomic_load(&record_count) && i < RECORDS; i++) {
        const record *r = &records[i];
        if (atomic_load(&r->taken) == 1 && r->group == group && atomic_load(&r->frees) != r->wants_free)
            fail("a scope has ended before an arg_free");
    }
}
static void act(rng *g, unsigned where, int depth) {
    record *r = NULL;
    tpool_future *future;
    int p;
    switch (draw(g, 29)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
        p = pool_of_life(g);
        if (own_pool_of_script() >= 0 && one_in(g, 2)) p = own_pool_of_script();
        if (!use(p)) break;
        if (one_in(g, 8)) submit_many(g, p, where, depth + 1);
        else if (has(TIMEOUTS) && one_in(g, 6)) run_with_timeout(g, p, where, depth + 1);
        else submit(g, p, where, depth + 1, !one_in(g, 4));
        unuse(p);
        break;
    case 6:
    case 7:
    case 8:
    case 9: over_many(g, where, depth); break;
    case 10:
        if (has(JOBS) && !(where & IN_LIMITED)) fork_and_join(g, where);
        break;
    case 11:
    case 12:
        p = pool_of_life(g);
        if (!(has(FOR_LOOPS) || has(MAP_CALLS)) || !use(p)) break;
        if (has(FOR_LOOPS) && (!has(MAP_CALLS) || one_in(g, 2))) {
            if (!(where & IN_LIMITED)) loop(g, p, where);
        } else map(g, p, where);
        unuse(p);
        break;
    case 13:
        if (has(EXTERNALS)) external(g);
        break;
    case 14:
        if (has(CHANNELS) && one_in(g, 2)) pass_on(g, where);
        else if (has(RESOURCES)) borrow(g, where);
        break;
    case 15:
        if (has(DESTROYS) && where == IN_PROGRAM && self()->frame_count == 0 && one_in(g, 3)) give_up(g);
        else if (has(MANAGERS) && !(where & IN_LIMITED) && one_in(g, 2)) manage(g, where);
        break;
    case 16:
        if (has(FORKS) && one_in(g, TSAN ? 200 : 30)) fork_program(g);
        break;
    case 24:
        if (has(SCRIPTS) && where == IN_PROGRAM && self()->frame_count == 0 && one_in(g, 2)) script(g);
        break;
    case 25:
        if (has(BROODS) && (where & IN_TASK) && !(where & IN_LIMITED) && one_in(g, 4)) brood(g, where, depth);
        break;
    case 26: look(g); break;
    case 27:
        if (has(GROUPS) && group_count > 0 && !(where & PURE)) over_group(g, where);
        break;
    case 28:
        if (has(GROUPS) && !(where & (IN_LIMITED | PURE)) && one_in(g, 2)) scoped(g, where);
        break;
    case 17:
        if (where & PURE) break;
        p = pool_of_life(g);
        if (!use(p)) break;
        if (has(PAUSES) && one_in(g, 4) && !own(p)) {
            atomic_store(&pools[p].paused, true);
            (void)CALL(p, tpool_pause(pools[p].handle));
            atomic_store(&pools[p].paused, true);
        }
        change_pool(g, p, where, depth);
        unuse(p);
        break;
    default:
        future = pick(g, &r, one_in(g, 8));
        if (!future) break;
        switch (where & PURE ? 20 + draw(g, 3) : draw(g, 10)) {
        case 0:
        case 1:
            if (!has(CANCELS)) break;
            atomic_store(&r->cancel_tried, true);
            if (CALL(id_of(r), tpool_future_cancel(future)) && atomic_load(&r->runs)) {
                tell(r);
                fail("task %d: cancelled, and run", id_of(r));
            }
            break;
        case 2:
            if (!has(STOPS)) break;
            atomic_store(&r->stop_tried, true);
            DO(id_of(r), tpool_future_request_stop(future));
            if (tpool_future_running(future)) atomic_store(&r->stop_asked, true);
            break;
        case 3:
            if (has(CALLBACKS)) add_callback(g, r, future, false);
            break;
        case 4:
            if (has(EXTERNALS) && r->pool == -1) complete(g, r, future);
            break;
        case 5: drop(r); break;
        case 6: {
            const tpool_error *error = NULL;
            tpool_status status = CALL(id_of(r), tpool_future_error(future, 0, &error));
            if (error && status != TPOOL_OK && status != TPOOL_CANCELLED) fail("an error without an end");
            if (error && (error->status == TPOOL_OK || error->cause == TPOOL_OK)) fail("an error of TPOOL_OK");
            if (error && !error->message) fail("an error without a message");
            bool passed_on = r->depends && error && error->status == TPOOL_CANCELLED; /* the root's name, then */
            if (error && error->task && r->pool >= 0 && error->task != r->name && !passed_on)
                fail("task %d: another's name", id_of(r));
            if (!tpool_future_message(future)) fail("no message");
            break;
        }
        case 7: {
            bool cancelled = tpool_future_cancelled(future);
            tpool_state state = CALL(id_of(r), tpool_future_state(future));
            if (cancelled && state != TPOOL_STATE_CANCELLED) fail("cancelled, and in state %d", (int)state);
            if (r->pool == -1 && tpool_future_stop_requested(future) && !atomic_load(&r->stop_tried))
                fail("a stop that nobody has asked for");
            break;
        }
        case 20: (void)CALL(id_of(r), tpool_future_state(future)); break;
        case 21:
        case 22: (void)observe(r, future, 0, where & ~(unsigned)PURE); break;
        default: (void)observe(r, future, limit_of_wait(g, where, true), where); break;
        }
        release(future);
        break;
    }
}
static void acts(rng *g, unsigned where, int most, int depth) {
    if (depth > 3 || self()->frame_count > 40) return;
    if (self()->temp_count > TEMPS - 40 || atomic_load(&self()->depth) > 60) return;
    for (unsigned n = draw(g, (unsigned)most + 1); n > 0; n--) act(g, where, depth);
}
#endif
