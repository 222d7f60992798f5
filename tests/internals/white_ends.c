/* What a call leaves behind whose thread ends in what the call runs: no memory, no reference, nobody who waits for
   ever. The implementation is included, so that memory is counted and the last entry before a sweep is known. */
#include <stddef.h>
static void *counted_malloc(size_t size);
static void counted_free(void *memory);
#define TPOOL_MALLOC(size) counted_malloc(size)
#define TPOOL_FREE(pointer) counted_free(pointer)
#include "support.h"
static atomic_bool refuses_threads;
#if !defined(_WIN32)
#include <errno.h>
#if !defined(__STDC_NO_THREADS__)
#include <threads.h>
#endif
#define pthread_create(thread, attributes, start, arg) \
    (atomic_load(&refuses_threads) ? EAGAIN : pthread_create(thread, attributes, start, arg))
#define thrd_create(thread, start, arg) (atomic_load(&refuses_threads) ? thrd_error : thrd_create(thread, start, arg))
#endif
#include "internals/check.h"
#undef pthread_create
#undef thrd_create

#if HAVE_FORK
#include "support/children.h"
#endif

static atomic_long live_blocks;
static atomic_bool refuses_memory;
static void *counted_malloc(size_t size) {
    void *memory = atomic_load(&refuses_memory) ? NULL : malloc(size);
    if (memory) atomic_fetch_add(&live_blocks, 1);
    return memory;
}
static void counted_free(void *memory) {
    if (memory) atomic_fetch_sub(&live_blocks, 1);
    free(memory);
}
static void end_in_callback(tpool_future *future, void *context) {
    (void)future;
    (void)context;
    pthread_exit(NULL);
}
static void nothing_is_left(tpool *pool) {
    assert_status(TPOOL_OK, tpool_destroy(pool));
    EVENTUALLY(atomic_load(&live_blocks) == 0);
}

/* ---- Expiries that a call notices, and a callback that ends its thread. */

enum { MANY = 3 * TPOOL__FEW };
typedef struct looker {
    tpool *pool;
    tpool_future *futures[MANY];
    int count;
    tpool_return_when when;
} looker;
static gate busy = GATE_CLOSED;
/* Behind a busy worker. They expire after so long, and the last one's callback ends the thread that notices. A wait for
   the first of them must notice that one, so the others may expire later, by more than a thread is ever held up. */
static void make_expiring(looker *l, int count, int64_t after, int64_t others_after) {
    l->pool = new_pool(1);
    l->count = count;
    gate_close(&busy);
    assert_status(TPOOL_OK, tpool_submit(l->pool, gate_task, &busy, NULL));
    AWAIT_ARRIVALS(&busy, 1);
    for (int i = 0; i < count; i++) {
        tpool_task task = { .fn = nothing, .expires_ns = i + 1 < count ? others_after : after };
        assert_status(TPOOL_OK, tpool_submit_task(l->pool, &task, &l->futures[i]));
    }
    assert_status(TPOOL_OK, tpool_future_add_done_callback(l->futures[count - 1], end_in_callback, NULL));
}
static bool came_back; /* the call that was to end the thread */
static void all_have_expired(looker *l) {
    assert_false(came_back);
    for (int i = 0; i < l->count; i++) assert_status(TPOOL_EXPIRED, end_of(l->futures[i]));
    gate_open(&busy);
    nothing_is_left(l->pool);
}
static tpool_completions *iterator;
static void *look_by_next(void *arg) {
    looker *l = arg;
    tpool_future *future = NULL;
    assert_status(TPOOL_OK, tpool_as_completed(l->futures, (size_t)l->count, &iterator));
    sleep_ms(250);
    (void)!tpool_completions_next(iterator, 0, &future);
    came_back = true;
    return NULL;
}
static void a_thread_that_ends_in_completions_next_loses_no_reference(void **state) {
    (void)state;
    looker l;
    make_expiring(&l, 1, TPOOL_MS(200), TPOOL_MS(200));
    in_own_thread(look_by_next, &l);
    tpool_completions_destroy(iterator);
    all_have_expired(&l);
}
static void *look_by_as_completed(void *arg) {
    looker *l = arg;
    sleep_ms(250);
    (void)!tpool_as_completed(l->futures, (size_t)l->count, &iterator);
    came_back = true;
    return NULL;
}
static void a_thread_that_ends_in_as_completed_leaves_no_iterator(void **state) {
    (void)state;
    looker l;
    make_expiring(&l, 3, TPOOL_MS(200), TPOOL_MS(200));
    in_own_thread(look_by_as_completed, &l);
    all_have_expired(&l);
}
static void *look_by_wait(void *arg) {
    looker *l = arg;
    tpool_future *futures[MANY];
    memcpy(futures, l->futures, sizeof futures);
    (void)!tpool_wait(futures, (size_t)l->count, l->when, TPOOL_FOREVER, NULL);
    came_back = true;
    return NULL;
}
static void a_thread_that_ends_in_a_wait_for_many_leaves_no_memory(void **state) {
    (void)state;
    for (int all = 0; all < 2; all++) {
        looker l;
        make_expiring(&l, MANY, TPOOL_MS(200), TPOOL_SEC(2));
        l.when = all ? TPOOL_ALL_COMPLETED : TPOOL_FIRST_EXCEPTION;
        in_own_thread(look_by_wait, &l);
        all_have_expired(&l);
    }
}

/* ---- A submit sweeps the last reference to a result away, and its result_free ends the thread. */

static int ended;
static void end_by_result_free(void *result) {
    (void)result;
    if (ended++ == 0) pthread_exit(NULL);
}
static void *give_owned(void *arg) { return tpool_return_owned(arg, end_by_result_free); }
/* By a task of a pool of one worker. The entry of what it awaits in place stays, behind one of two words. */
static void leave_a_tombstone(tpool *pool) {
    tpool_future *future = NULL;
    assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
    future = submitted(pool, give_owned, &ended);
    assert_status(TPOOL_OK, tpool_future_result(future, TPOOL_FOREVER, NULL));
    tpool_future_release(future);
    assert_int_equal(0, ended);
}
/* The next submit looks through the lane. */
static void fill_the_segment(tpool *pool) {
    while (pool->inject.tail_position + TPOOL__ENTRY_WORDS <= TPOOL__SEGMENT_WORDS) {
        tpool_future *future = submitted(pool, nothing, NULL);
        assert_true(tpool_future_cancel(future));
        tpool_future_release(future);
    }
    assert_int_equal(0, ended);
}
static void *submit_at_the_end(void *pool) {
    tpool_future *future = NULL;
    leave_a_tombstone(pool);
    fill_the_segment(pool);
    assert_status(TPOOL_INVALID, tpool_submit(pool, nothing, NULL, &future)); /* it does not return */
    return NULL;
}
static void a_thread_that_ends_after_its_submit_loses_no_reference(void **state) {
    (void)state;
    ended = 0;
    tpool *pool = new_pool(1);
    assert_status(TPOOL_BROKEN, end_of(submitted(pool, submit_at_the_end, pool)));
    assert_int_equal(1, ended);
    nothing_is_left(pool);
}

enum { ITEMS = 12 };
static atomic_int runs[ITEMS];
static tpool_map_iter *mapping;
static void *count_item(void *item, void *context) {
    (void)context;
    atomic_fetch_add((atomic_int *)item, 1);
    return item;
}
/* The first chunk runs in place, and queues the second. */
static void *map_at_the_end(void *pool) {
    tpool_map_spec spec = {
        .fn = count_item, .items = runs, .count = ITEMS, .stride = sizeof runs[0], .chunk_size = 4
    };
    leave_a_tombstone(pool);
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &mapping));
    fill_the_segment(pool);
    (void)!tpool_map_next(mapping, TPOOL_FOREVER, NULL);
    return NULL;
}
static void a_chunk_whose_thread_ends_as_it_queues_the_next_breaks_no_item(void **state) {
    (void)state;
    ended = 0;
    tpool *pool = new_pool(1);
    assert_status(TPOOL_BROKEN, end_of(submitted(pool, map_at_the_end, pool)));
    assert_int_equal(1, ended);
    int items = 0;
    while (tpool_map_next(mapping, LIMIT, NULL) == TPOOL_OK) items++;
    assert_in_range(items, ITEMS - 1, ITEMS); /* the one that was just being delivered may be lost */
    for (int i = 0; i < ITEMS; i++) assert_int_equal(1, atomic_load(&runs[i]));
    tpool_map_close(mapping);
    nothing_is_left(pool);
}

/* Futures that are done expire no more, so a wait for many of them needs no memory. */
static void a_wait_for_what_is_done_needs_no_memory(void **state) {
    (void)state;
    tpool_future *futures[MANY];
    tpool *pool = new_pool(1);
    for (int i = 0; i < MANY; i++)
        futures[i] = submitted_task(pool, (tpool_task){ .fn = nothing, .expires_ns = TPOOL_SEC(1000) });
    assert_status(TPOOL_OK, tpool_wait(futures, MANY, TPOOL_ALL_COMPLETED, LIMIT, NULL));
    atomic_store(&refuses_memory, true);
    tpool_status status = tpool_wait(futures, MANY, TPOOL_ALL_COMPLETED, LIMIT, NULL);
    atomic_store(&refuses_memory, false);
    assert_status(TPOOL_OK, status);
    for (int i = 0; i < MANY; i++) tpool_future_release(futures[i]);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* Of two that end a pool, one gives up: no pause comes between the other and its end. */
static void a_finisher_that_gives_up_leaves_the_others(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool__finish_begin(pool);
    tpool__finish_begin(pool);
    tpool__finish_failed(pool);
    assert_status(TPOOL_SHUTDOWN, tpool_pause(pool));
    tpool__finish_failed(pool);
    assert_status(TPOOL_OK, tpool_pause(pool));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* The program, which is told to destroy its pool once more, has it alone, even if a task gives it up meanwhile. */
#if !defined(_WIN32)
static void *detach_own(void *arg) {
    (void)arg;
    return (void *)(intptr_t)tpool_shutdown(tpool_current(), TPOOL_DETACH);
}
static void a_pool_has_one_owner_after_a_destroy_that_gave_up(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .idle_timeout_ns = TPOOL_MS(1) });
    assert_status(TPOOL_OK, tpool_pause(pool));
    tpool_future *next = submitted(pool, detach_own, NULL);
    REQUIRE_EVENTUALLY(stats_of(pool).workers == 0);
    atomic_store(&refuses_threads, true);
    assert_status(TPOOL_NO_THREAD, tpool_destroy(pool));
    atomic_store(&refuses_threads, false);
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_status(TPOOL_OK, (tpool_status)(intptr_t)take(next));
    assert_int_equal(0, tpool__process.detached);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    EVENTUALLY(atomic_load(&live_blocks) == 0);
}
/* A callback detaches the pool that its thread is destroying, and ends that thread: the pool frees itself. */
typedef struct detached_then_left {
    tpool *pool;
    tpool_future *first, *other;
    tpool_status status;
} detached_then_left;
static void completes_other_and_destroys(tpool_future *future, void *of) {
    (void)future;
    (void)tpool_future_set_result(((detached_then_left *)of)->other, NULL);
    (void)tpool_destroy(((detached_then_left *)of)->pool); /* runs the other's callback */
}
static void detaches_and_ends(tpool_future *future, void *of) {
    (void)future;
    ((detached_then_left *)of)->status = tpool_shutdown(((detached_then_left *)of)->pool, TPOOL_DETACH);
    pthread_exit(NULL);
}
static void *completes_first(void *of) {
    (void)!tpool_future_set_result(((detached_then_left *)of)->first, NULL);
    return NULL;
}
static void a_detached_pool_outlives_the_thread_of_its_destroy(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    detached_then_left left = { .pool = new_pool(1) };
    gate_close(&hold);
    assert_status(TPOOL_OK, tpool_submit(left.pool, gate_task, &hold, NULL));
    AWAIT_ARRIVALS(&hold, 1);
    assert_status(TPOOL_OK, tpool_future_create(&left.first));
    assert_status(TPOOL_OK, tpool_future_create(&left.other));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(left.first, completes_other_and_destroys, &left));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(left.other, detaches_and_ends, &left));
    pthread_t thread;
    assert_int_equal(0, pthread_create(&thread, NULL, completes_first, &left));
    pthread_join(thread, NULL);
    tpool_future_release(left.first);
    tpool_future_release(left.other);
    gate_open(&hold);
    assert_status(TPOOL_OK, left.status);
    EVENTUALLY(tpool__load_relaxed(&tpool__process.pool_count) == 0);
    assert_status(TPOOL_OK, tpool_destroy(new_pool(1))); /* takes what this thread keeps of the futures */
    EVENTUALLY(atomic_load(&live_blocks) == 0);
}
#endif

/* ---- A map that was refused the memory for its next chunk. */

typedef struct refused_map {
    gate first_runs, second_ran;
} refused_map;
static void *first_waits_for_the_second(void *item, void *context) {
    refused_map *map = context;
    if (*(int *)item == 0) {
        gate_pass(&map->first_runs);
        gate_pass(&map->second_ran);
    } else {
        gate_open(&map->second_ran);
    }
    return item;
}
static void a_map_that_was_refused_memory_goes_on_with_the_next_call(void **state) {
    (void)state;
    for (int unordered = 0; unordered < 2; unordered++) {
        int items[2] = { 0, 1 };
        static refused_map map;
        map = (refused_map){ GATE_CLOSED, GATE_CLOSED };
        tpool *pool = new_pool(2);
        tpool_map_spec spec = { .fn = first_waits_for_the_second,
                                .items = items,
                                .count = 2,
                                .stride = sizeof *items,
                                .context = &map,
                                .chunk_size = 1,
                                .unordered = unordered };
        tpool_map_iter *iter = NULL;
        assert_status(TPOOL_OK, tpool_warm_up(pool, 2));
        assert_status(TPOOL_OK, tpool_pause(pool));
        assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
        atomic_store(&refuses_memory, true);
        assert_status(TPOOL_OK, tpool_resume(pool));
        gate_await_arrivals(&map.first_runs, 1); /* its chunk was refused the next */
        atomic_store(&refuses_memory, false);
        gate_open(&map.first_runs);
        tpool_status first = tpool_map_next(iter, TPOOL_SEC(20), NULL);
        gate_open(&map.second_ran);
        tpool_status second = tpool_map_next(iter, TPOOL_SEC(20), NULL);
        tpool_map_close(iter);
        assert_status(TPOOL_OK, first);
        assert_status(TPOOL_OK, second);
        nothing_is_left(pool);
    }
}

/* ---- A pool that is detached frees itself, in whatever thread and whatever ends it. */

static void *detach_with_cancels(void *arg) {
    (void)tpool_shutdown(arg, TPOOL_DETACH | TPOOL_CANCEL_PENDING);
    came_back = true;
    return NULL;
}
static void *detach_its_pool(void *arg) {
    (void)tpool_shutdown(tpool_current(), TPOOL_DETACH);
    return arg;
}
static void a_detached_pool_gives_all_its_memory_back(void **state) {
    (void)state;
    for (int way = 0; way < 3; way++) {
        tpool *pool = new_pool(2);
        came_back = false;
        gate_close(&busy);
        assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &busy, NULL));
        AWAIT_ARRIVALS(&busy, 1);
        if (way == 0) assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_DETACH));
        if (way == 1) assert_status(TPOOL_OK, tpool_submit(pool, detach_its_pool, NULL, NULL));
        if (way == 2) { /* a callback of a cancelled task ends the thread that shuts the pool down */
            static gate hold = GATE_CLOSED;
            assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
            AWAIT_ARRIVALS(&hold, 1);
            tpool_future *queued = submitted(pool, nothing, NULL);
            assert_status(TPOOL_OK, tpool_future_add_done_callback(queued, end_in_callback, NULL));
            in_own_thread(detach_with_cancels, pool);
            assert_false(came_back);
            assert_status(TPOOL_CANCELLED, end_of(queued));
            gate_open(&hold);
        }
        gate_open(&busy);
        EVENTUALLY(tpool__load_relaxed(&tpool__process.pool_count) == 0);
        tpool__await_detached();      /* joins the thread, which TSan would miss */
        nothing_is_left(new_pool(1)); /* which takes this thread's cache along */
    }
}

/* As a result_free may end the thread that frees a detached pool: the exit hook waits for no worker's end. Here another
   thread is taken for that one, at that point. */
static gate finalizing = GATE_CLOSED;
static void finalize_at_gate(void *context) { gate_pass(context); }
static void *end_as_the_one_that_frees(void *arg) {
    tpool *pool = arg;
    tpool__thread *self = tpool__self();
    assert_true(tpool__arm(self));
    tpool__lock(&tpool__process.lock);
    pool->detached = true;
    tpool__unlock(&tpool__process.lock);
    (void)tpool__call_push(self, tpool__detached_left, pool);
    return end_thread(NULL);
}
static void another_thread_goes_on_for_the_one_that_frees_a_pool(void **state) {
    (void)state;
    tpool_config config = { .max_workers = 1, .finalizer = finalize_at_gate, .context = &finalizing };
    tpool *pool = NULL;
    assert_status(TPOOL_OK, tpool_create(&pool, &config));
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, end_as_the_one_that_frees, pool) == 0);
    AWAIT_ARRIVALS(&finalizing, 1);
    EVENTUALLY(tpool__load_relaxed(&tpool__process.ending) == 0);
    assert_int_equal(1, tpool__load_relaxed(&tpool__process.pool_count));
    gate_open(&finalizing);
    REQUIRE(pthread_join(thread, NULL) == 0);
    EVENTUALLY(tpool__load_relaxed(&tpool__process.pool_count) == 0);
    tpool__await_detached();
    nothing_is_left(new_pool(1));
}

#if HAVE_FORK
/* The exit joins the last thread that has freed a pool. The first handler that is registered runs last, and looks. */
static bool looks_at_exit;
static void look_at_exit(void) {
    if (looks_at_exit) _exit(tpool__process.detacher.valid ? 1 : 0);
}
__attribute__((constructor)) static void register_the_first_handler(void) { (void)atexit(look_at_exit); }
static void exits_after_a_detached_pool(void *context) {
    (void)context;
    CHECK_STATUS(TPOOL_OK, tpool_shutdown(new_pool(1), TPOOL_DETACH));
    for (bool valid = false; !valid; sleep_ms(1)) {
        tpool__lock(&tpool__process.lock);
        valid = tpool__process.detacher.valid;
        tpool__unlock(&tpool__process.lock);
    }
    looks_at_exit = true;
    exit(1);
}
static void the_exit_joins_the_thread_that_freed_a_pool(void **state) {
    (void)state;
    if (UNDER_TSAN) skip(); /* it starts no threads in a child */
    in_child(exits_after_a_detached_pool, NULL);
}
#endif

/* What a drain does not wait for does not wake it: a submit that has to wake a worker. */
static void a_submit_that_wakes_a_worker_wakes_no_drainer(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    gate_close(&busy);
    assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &busy, NULL));
    AWAIT_ARRIVALS(&busy, 1);
    static tpool__drainer drainer;
    static const tpool__parker never_woken;
    drainer.pool = pool;
    drainer.over = tpool__is_quiet;
    tpool__spin_lock(&pool->inject.lock);
    drainer.waiter.next_in_line = pool->drainers;
    pool->drainers = &drainer.waiter;
    tpool__spin_unlock(&pool->inject.lock);
    assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL)); /* no worker is idle: it starts one */
    tpool__spin_lock(&pool->inject.lock);
    pool->drainers = drainer.waiter.next_in_line;
    tpool__spin_unlock(&pool->inject.lock);
    assert_int_equal(0, memcmp(&never_woken, &drainer.waiter.parker, sizeof never_woken));
    gate_open(&busy);
    nothing_is_left(pool);
}

static const struct CMUnitTest tests[] = {
    TEST(a_map_that_was_refused_memory_goes_on_with_the_next_call),
    TEST(a_thread_that_ends_in_completions_next_loses_no_reference),
    TEST(a_thread_that_ends_in_as_completed_leaves_no_iterator),
    TEST(a_thread_that_ends_in_a_wait_for_many_leaves_no_memory),
    TEST(a_thread_that_ends_after_its_submit_loses_no_reference),
    TEST(a_chunk_whose_thread_ends_as_it_queues_the_next_breaks_no_item),
    TEST(a_finisher_that_gives_up_leaves_the_others),
#if !defined(_WIN32)
    TEST(a_pool_has_one_owner_after_a_destroy_that_gave_up),
    TEST(a_detached_pool_outlives_the_thread_of_its_destroy),
#endif
    TEST(a_wait_for_what_is_done_needs_no_memory),
    TEST(a_detached_pool_gives_all_its_memory_back),
    TEST(another_thread_goes_on_for_the_one_that_frees_a_pool),
    TEST(a_submit_that_wakes_a_worker_wakes_no_drainer),
#if HAVE_FORK
    TEST(the_exit_joins_the_thread_that_freed_a_pool),
#endif
};
RUN_TESTS(tests)
