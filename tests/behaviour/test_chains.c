/* Ends within ends: what a callback, an arg_free or a result_free completes, cancels or releases. Chains of any length
   need no stack, and everything runs once, in order, on the thread that began it. */
#include "support.h"
#ifndef _WIN32
#include <sys/mman.h>
#endif

/* Runs on a thread with 64 KiB of stack, more under the sanitizers, whose frames are larger. What is too deep for it
   finds memory beneath, so that the test fails in place of the program. */
#define STACK_SIZE ((size_t)(SLOW_TOOL ? 1024 : 64) * 1024)
static void *on_small_stack(void *(*fn)(void *), void *arg) {
    pthread_attr_t attr;
    pthread_t thread;
    void *result = NULL;
    assert_int_equal(0, pthread_attr_init(&attr));
#ifdef _WIN32
    assert_int_equal(0, pthread_attr_setstacksize(&attr, STACK_SIZE));
#else
    size_t beneath = (size_t)(sizeof(void *) == 8 ? 512 : 64) << 20;
    char *memory = (char *)mmap(NULL, beneath + STACK_SIZE, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true((void *)memory != MAP_FAILED);
    assert_int_equal(0, pthread_attr_setstack(&attr, memory + beneath, STACK_SIZE));
#endif
    assert_int_equal(0, pthread_create(&thread, &attr, fn, arg));
    assert_int_equal(0, pthread_join(thread, &result));
    pthread_attr_destroy(&attr);
#ifndef _WIN32
    for (size_t i = 0; i < STACK_SIZE; i++) assert_int_equal(0, memory[beneath - 1 - i]);
    munmap(memory, beneath + STACK_SIZE);
#endif
    return result;
}

/* ---- Chains */
enum { LINKS = 1000000 };
static tpool_future *links[LINKS];
static long count, reached;

static void make_bare_links(long n) {
    count = n;
    reached = 0;
    for (long i = 0; i < n; i++) assert_status(TPOOL_OK, tpool_future_create(&links[i]));
}
static void release_links(void) {
    for (long i = 0; i < count; i++) tpool_future_release(links[i]);
}
static void add_to_links(void (*callback)(tpool_future *, void *)) {
    for (long i = 0; i < count; i++)
        assert_status(TPOOL_OK, tpool_future_add_done_callback(links[i], callback, (void *)(intptr_t)i));
}

static void complete_next(tpool_future *future, void *context) {
    long i = (long)(intptr_t)context;
    (void)future;
    if (i == reached) reached++; /* in order, and none runs before its predecessor */
    if (i + 1 < count && tpool_future_set_result(links[i + 1], NULL) != TPOOL_OK) reached = -1;
}
static void *complete_first(void *arg) {
    (void)arg;
    return (void *)(intptr_t)(tpool_future_set_result(links[0], NULL) == TPOOL_OK);
}
static void callbacks_that_complete_the_next_future_need_no_stack(void **state) {
    (void)state;
    make_bare_links(COUNT(LINKS));
    add_to_links(complete_next);
    assert_non_null(on_small_stack(complete_first, NULL));
    assert_int_equal(count, reached);
    release_links();
}

static void cancel_next(tpool_future *future, void *context) {
    long i = (long)(intptr_t)context;
    if (i == reached && tpool_future_cancelled(future)) reached++;
    if (i + 1 < count && !tpool_future_cancel(links[i + 1])) reached = -1;
}
static void *cancel_first(void *arg) {
    (void)arg;
    return (void *)(intptr_t)tpool_future_cancel(links[0]);
}
static void callbacks_that_cancel_the_next_future_need_no_stack(void **state) {
    (void)state;
    make_bare_links(COUNT(LINKS));
    add_to_links(cancel_next);
    assert_non_null(on_small_stack(cancel_first, NULL));
    assert_int_equal(count, reached);
    release_links();
}

/* Each added to a future that is done already, so that it runs at once. */
static void add_next(tpool_future *future, void *context) {
    long i = (long)(intptr_t)context;
    (void)future;
    if (i == reached) reached++;
    if (i + 1 < count && tpool_future_add_done_callback(links[i + 1], add_next, (void *)(intptr_t)(i + 1)) != TPOOL_OK)
        reached = -1;
}
static void *add_first(void *arg) {
    (void)arg;
    return (void *)(intptr_t)(tpool_future_add_done_callback(links[0], add_next, NULL) == TPOOL_OK);
}
static void callbacks_that_add_the_next_to_a_done_future_need_no_stack(void **state) {
    (void)state;
    make_bare_links(COUNT(LINKS));
    for (long i = 0; i < count; i++) assert_status(TPOOL_OK, tpool_future_set_result(links[i], NULL));
    assert_non_null(on_small_stack(add_first, NULL));
    assert_int_equal(count, reached);
    release_links();
}

/* The result of each is the one before it. */
static void release_result(void *future) {
    reached++;
    tpool_future_release((tpool_future *)future);
}
static void *own_the_future_before(void *before) { return tpool_return_owned(before, before ? release_result : NULL); }
static void *release_future(void *future) {
    tpool_future_release((tpool_future *)future);
    return future;
}
static void results_that_release_the_next_future_need_no_stack(void **state) {
    (void)state;
    long n = COUNT(LINKS);
    tpool *pool = new_pool(1);
    tpool_future *last = NULL;
    for (long i = 0; i < n; i++) last = submitted(pool, own_the_future_before, last);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    reached = 0;
    assert_non_null(on_small_stack(release_future, last));
    assert_int_equal(n - 1, reached);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* Each task's argument is the place of the one after it. */
static void cancel_the_next_task(void *place) {
    reached++;
    if (*(tpool_future **)place && !tpool_future_cancel(*(tpool_future **)place)) reached = -1;
}
static void arg_frees_that_cancel_the_next_task_need_no_stack(void **state) {
    (void)state;
    long n = COUNT(100000);
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, tpool_pause(pool));
    count = n;
    reached = 0;
    for (long i = 0; i < n; i++)
        links[i] =
            submitted_task(pool, (tpool_task){ .fn = nothing, .arg = &links[i + 1], .arg_free = cancel_the_next_task });
    links[n] = NULL;
    assert_non_null(on_small_stack(cancel_first, NULL));
    assert_int_equal(n, reached);
    for (long i = 0; i < n; i++) assert_true(tpool_future_cancelled(links[i]));
    release_links();
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* Each, as it ends, submits the next, which a full queue takes in its place once that has expired. */
static void submit_the_next(void *pool) {
    tpool_task task = { .fn = nothing, .arg = pool, .arg_free = submit_the_next, .expires_ns = 1 };
    if (++reached < count && tpool_submit_task((tpool *)pool, &task, NULL) != TPOOL_OK) reached = -1;
}
static void *submit_two(void *pool) {
    submit_the_next(pool);
    submit_the_next(pool);
    return pool;
}
static void ends_of_expired_tasks_that_fill_the_queue_again_need_no_stack(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1 });
    assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL)); /* so that no worker notices the expiries */
    AWAIT_ARRIVALS(&hold, 1);
    count = COUNT(100000);
    reached = 0;
    assert_non_null(on_small_stack(submit_two, pool));
    assert_true(reached >= count);
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* Each, as it is dropped from the full queue, submits two, of which one drops the other or what is there. */
static void submit_two_more(void *pool) {
    tpool_task task = { .fn = nothing, .arg = pool, .arg_free = submit_two_more };
    reached++;
    for (int i = 0; i < 2 && reached > 0 && reached < count; i++)
        if (tpool_submit_task((tpool *)pool, &task, NULL) != TPOOL_OK) reached = -LINKS;
}
static void *submit_what_is_dropped(void *pool) {
    submit_two_more(pool);
    return pool;
}
static void dropped_tasks_that_submit_the_next_need_no_stack(void **state) {
    (void)state;
    tpool *pool =
        new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1, .on_full = TPOOL_FULL_DROP_OLDEST });
    assert_status(TPOOL_OK, tpool_pause(pool));
    count = COUNT(100000);
    reached = 0;
    assert_non_null(on_small_stack(submit_what_is_dropped, pool));
    assert_true(reached >= count);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* Each failure, an expiry, submits the next task, which finds the queue full of one that has expired. */
static tpool *failing;
static void submit_on_failure(const tpool_error *error, void *context) {
    (void)context;
    tpool_task task = { .fn = nothing, .expires_ns = 1 };
    if (error->status == TPOOL_EXPIRED && ++reached < count && tpool_submit_task(failing, &task, NULL) != TPOOL_OK)
        reached = -1;
}
static void *submit_two_that_expire(void *arg) {
    tpool_task task = { .fn = nothing, .expires_ns = 1 };
    for (int i = 0; i < 2; i++)
        if (tpool_submit_task(failing, &task, NULL) != TPOOL_OK) reached = -1;
    return arg;
}
static void failures_that_submit_the_next_task_need_no_stack(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    gate_close(&hold);
    failing = new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1, .on_failure = submit_on_failure });
    assert_status(TPOOL_OK, tpool_submit(failing, gate_task, &hold, NULL));
    AWAIT_ARRIVALS(&hold, 1);
    count = COUNT(100000);
    reached = 0;
    assert_non_null(on_small_stack(submit_two_that_expire, failing));
    assert_true(reached >= count);
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_destroy(failing));
}

/* ---- What is closed or destroyed by what the close or destroy before it calls */
static int one_thing;
static void *make_thing(void *context) {
    (void)context;
    return &one_thing;
}

/* Each map's only item leads to the next map. */
typedef struct owner {
    tpool_map_iter *map;
    tpool_resources *resources;
    struct owner *next;
    bool given;
} owner;
static owner *chain;
static bool at_once; /* what a close within a close is to free it has freed when it returns */
static bool give_next(void *of, void **item) {
    owner *l = (owner *)of;
    *item = l;
    bool first = !l->given;
    l->given = true;
    return first;
}
static void close_next(void *item, void *context) {
    owner *l = (owner *)item;
    (void)context;
    long before = ++reached;
    if (l->next && l->next->map) tpool_map_close(l->next->map);
    if (l->next && l->next->resources && tpool_resources_destroy(l->next->resources) != TPOOL_OK) reached = -LINKS;
    at_once = at_once && reached - before == count - 1 - (l - chain);
}
static void destroy_next(void *resource, void *of) {
    (void)resource;
    close_next(of, NULL);
}
static void make_map(tpool *pool, owner *l) {
    tpool_map_spec spec = {
        .fn = same_item, .context = l, .next = give_next, .buffer_size = 1, .item_free = close_next
    };
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &l->map));
}
static void make_resources(owner *l) {
    assert_status(TPOOL_OK, tpool_resources_create(&l->resources, 1, make_thing, destroy_next, l));
}
static void make_chain(long n) {
    count = n;
    reached = 0;
    at_once = true;
    chain = calloc((size_t)n, sizeof *chain);
    assert_non_null(chain);
    for (long i = 0; i + 1 < n; i++) chain[i].next = &chain[i + 1];
}
static void *close_first(void *arg) {
    if (chain->map) tpool_map_close(chain->map);
    return chain->resources && tpool_resources_destroy(chain->resources) != TPOOL_OK ? NULL : arg;
}
static void items_that_close_the_next_map_need_no_stack(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, tpool_pause(pool));
    make_chain(COUNT(200000));
    for (long i = 0; i < count; i++) make_map(pool, &chain[i]);
    assert_non_null(on_small_stack(close_first, pool));
    assert_int_equal(count, reached);
    free(chain);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* The consumer, which frees the first item, is a task. */
static void *consume_first(void *arg) {
    void *result = NULL;
    REQUIRE_STATUS(TPOOL_OK, tpool_map_next(chain->map, LIMIT, &result));
    REQUIRE_STATUS(TPOOL_END, tpool_map_next(chain->map, LIMIT, &result));
    tpool_map_close(chain->map);
    return arg;
}
static void items_that_close_the_next_map_on_a_worker_need_no_stack(void **state) {
    (void)state;
    tpool *pool = new_pool(1), *running = new_pool(1);
    tpool *consuming = new_pool_as((tpool_config){ .max_workers = 1, .stack_size = 64 * 1024 });
    assert_status(TPOOL_OK, tpool_pause(pool));
    make_chain(COUNT(200000));
    for (long i = 1; i < count; i++) make_map(pool, &chain[i]);
    make_map(running, &chain[0]);
    assert_status(TPOOL_OK, end_of(submitted(consuming, consume_first, NULL)));
    assert_int_equal(count, reached);
    free(chain);
    assert_status(TPOOL_OK, tpool_destroy(consuming));
    assert_status(TPOOL_OK, tpool_destroy(running));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void resources_that_destroy_the_next_need_no_stack(void **state) {
    (void)state;
    make_chain(COUNT(LINKS));
    for (long i = 0; i < count; i++) make_resources(&chain[i]);
    assert_non_null(on_small_stack(close_first, &count));
    assert_int_equal(count, reached);
    free(chain);
}
static void maps_and_resources_that_free_each_other_need_no_stack(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, tpool_pause(pool));
    make_chain(COUNT(100000));
    for (long i = 0; i < count; i++) {
        if (i % 2) make_resources(&chain[i]);
        else make_map(pool, &chain[i]);
    }
    assert_non_null(on_small_stack(close_first, pool));
    assert_int_equal(count, reached);
    free(chain);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* Where there is stack: a context may go when the close or destroy has returned. */
static void what_a_close_within_a_close_frees_is_freed_when_it_returns(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, tpool_pause(pool));
    make_chain(100);
    for (long i = 0; i < count; i++) {
        if (i % 3 == 0) make_resources(&chain[i]);
        else make_map(pool, &chain[i]);
    }
    assert_non_null(close_first(pool));
    assert_int_equal(count, reached);
    assert_true(at_once);
    free(chain);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* The result of each is a group of things, and with it the future before it. */
typedef struct group {
    tpool_future *before;
    tpool_completions *completions;
    tpool *pool;
    tpool_manager *manager;
} group;
static void free_group(void *result) {
    group *g = (group *)result;
    reached++;
    tpool_future_release(g->before);
    tpool_completions_destroy(g->completions);
    if (tpool_destroy(g->pool) != TPOOL_OK) reached = -LINKS;
    tpool_manager_destroy(g->manager);
    free(g);
}
static void *own_group(void *g) { return tpool_return_owned(g, free_group); }
static void release_groups(long n, void (*fill)(group *)) {
    tpool *pool = new_pool(1);
    tpool_future *last = NULL;
    for (long i = 0; i < n; i++) {
        group *g = calloc(1, sizeof *g);
        assert_non_null(g);
        g->before = last;
        fill(g);
        last = submitted(pool, own_group, g);
    }
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    reached = 0;
    assert_non_null(on_small_stack(release_future, last));
    assert_int_equal(n, reached);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void fill_completions(group *g) {
    assert_status(TPOOL_OK, tpool_as_completed(&g->before, g->before != NULL, &g->completions));
    tpool_future_release(g->before);
    g->before = NULL;
}
static void results_that_destroy_the_next_iterator_need_no_stack(void **state) {
    (void)state;
    release_groups(COUNT(200000), fill_completions);
}
static void fill_pool(group *g) { g->pool = new_pool(1); }
static void results_that_destroy_pools_need_no_stack(void **state) {
    (void)state;
    release_groups(COUNT(5000), fill_pool);
}
static void fill_manager(group *g) { assert_status(TPOOL_OK, tpool_manager_create(&g->manager, NULL)); }
static void results_that_destroy_managers_need_no_stack(void **state) {
    (void)state;
    release_groups(COUNT(20000), fill_manager);
}

/* "When one does not succeed, cancel the rest." */
static tpool *shut;
static void shut_down(tpool_future *future, void *context) {
    (void)context;
    reached++;
    if (!tpool_future_cancelled(future) || tpool_shutdown(shut, TPOOL_CANCEL_PENDING) != TPOOL_OK) reached = -LINKS;
}
static void *shut_down_first(void *arg) {
    (void)arg;
    return (void *)(intptr_t)(tpool_shutdown(shut, TPOOL_CANCEL_PENDING) == TPOOL_OK);
}
static void callbacks_that_cancel_all_the_rest_need_no_stack(void **state) {
    (void)state;
    count = COUNT(50000);
    reached = 0;
    shut = new_pool(1);
    assert_status(TPOOL_OK, tpool_pause(shut));
    for (long i = 0; i < count; i++) links[i] = submitted(shut, nothing, NULL);
    add_to_links(shut_down);
    assert_non_null(on_small_stack(shut_down_first, NULL));
    assert_int_equal(count, reached);
    release_links();
    assert_status(TPOOL_OK, tpool_destroy(shut));
}

/* Each completes the next, whose callback is then due, and waits for a task that takes no time. */
static tpool *elsewhere;
static void complete_next_and_wait(tpool_future *future, void *context) {
    complete_next(future, context);
    tpool_future *task = NULL;
    if (tpool_submit(elsewhere, nothing, NULL, &task) != TPOOL_OK || end_of(task) != TPOOL_OK) reached = -1;
}
static void callbacks_that_complete_the_next_future_and_wait_need_no_stack(void **state) {
    (void)state;
    elsewhere = new_pool(1);
    make_bare_links(COUNT(20000));
    for (long i = 0; i < count; i++)
        assert_status(TPOOL_OK, tpool_future_add_done_callback(links[i], complete_next_and_wait, (void *)(intptr_t)i));
    assert_non_null(on_small_stack(complete_first, NULL));
    assert_int_equal(count, reached);
    release_links();
    assert_status(TPOOL_OK, tpool_destroy(elsewhere));
}

/* A task that the submitter runs submits the next. The pool's worker is kept busy until nobody goes deeper. */
static tpool *full;
static atomic_long levels, most_levels;
static pthread_t caller;
static void *submit_next(void *arg) {
    intptr_t left = (intptr_t)arg;
    bool here = pthread_equal(pthread_self(), caller);
    if (here && atomic_fetch_add(&levels, 1) >= atomic_load(&most_levels)) atomic_fetch_add(&most_levels, 1);
    tpool_status status = left > 0 ? tpool_submit(full, submit_next, (void *)(left - 1), NULL) : TPOOL_OK;
    if (here) atomic_fetch_sub(&levels, 1);
    return status == TPOOL_OK ? NULL : tpool_raise(1, "%s", tpool_status_name(status));
}
static atomic_int caller_thread;
static void *submit_many_levels(void *arg) {
    caller = pthread_self();
    atomic_store(&caller_thread, system_thread());
    return (void *)(intptr_t)(tpool_submit(full, submit_next, arg, NULL) == TPOOL_OK);
}
static void a_caller_runs_tasks_within_tasks_some_levels_deep_and_then_waits_for_room(void **state) {
    (void)state;
    static gate busy = GATE_CLOSED;
    gate_close(&busy);
    full = new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1, .on_full = TPOOL_FULL_CALLER_RUNS });
    assert_status(TPOOL_OK, tpool_submit(full, gate_task, &busy, NULL));
    gate_await_arrivals(&busy, 1);
    assert_status(TPOOL_OK, tpool_submit(full, nothing, NULL, NULL));
    pthread_t thread;
    void *submitted_all = NULL;
    assert_int_equal(0, pthread_create(&thread, NULL, submit_many_levels, (void *)(intptr_t)500));
    await_thread_asleep(&caller_thread);
    assert_true(atomic_load(&levels) >= 10 && atomic_load(&levels) <= 32);
    gate_open(&busy);
    assert_int_equal(0, pthread_join(thread, &submitted_all));
    assert_non_null(submitted_all);
    assert_status(TPOOL_OK, tpool_drain(full, LIMIT));
    assert_int_equal(501 + 2, stats_of(full).completed);
    assert_int_equal(0, stats_of(full).failed);
    assert_true(atomic_load(&most_levels) <= 32);
    assert_status(TPOOL_OK, tpool_destroy(full));
}

/* ---- What ends at once, and what comes later, in which order */
static char notes[64];
static void note(char what) { notes[strlen(notes)] = what; }
static void note_arg_free(void *arg) { note(*(char *)arg); }
static void note_result_free(void *result) { note(*(char *)result); }
static void note_callback(tpool_future *future, void *context) {
    (void)future;
    note(*(char *)context);
}
static void *own(void *result) { return tpool_return_owned(result, note_result_free); }

typedef struct others {
    tpool_future *bare, *task, *owned;
    bool all_ended, waits;
} others;
static void end_others(tpool_future *future, void *context) {
    others *o = (others *)context;
    (void)future;
    note('<');
    bool completed = tpool_future_set_result(o->bare, NULL) == TPOOL_OK && tpool_future_done(o->bare);
    tpool_future_release(o->owned);
    bool cancelled = tpool_future_cancel(o->task) && tpool_future_cancelled(o->task);
    o->all_ended = completed && cancelled;
    if (o->waits) {
        tpool_future *never = NULL;
        if (tpool_future_create(&never) != TPOOL_OK || tpool_future_result(never, TPOOL_MS(1), NULL) != TPOOL_TIMEOUT)
            o->all_ended = false;
        tpool_future_release(never);
    }
    note('>');
}
static void end_others_in_a_callback(bool waits, const char *expected) {
    tpool *pool = new_pool(1);
    tpool_future *first = NULL;
    others o = { .waits = waits };
    memset(notes, 0, sizeof notes);
    o.owned = submitted(pool, own, "o");
    assert_status(TPOOL_OK, tpool_future_result(o.owned, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_status(TPOOL_OK, tpool_pause(pool));
    o.task = submitted_task(pool, (tpool_task){ .fn = nothing, .arg = "a", .arg_free = note_arg_free });
    assert_status(TPOOL_OK, tpool_future_create(&o.bare));
    assert_status(TPOOL_OK, tpool_future_create(&first));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(o.bare, note_callback, "1"));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(o.bare, note_callback, "2"));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(o.task, note_callback, "3"));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(first, end_others, &o));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(first, note_callback, "4"));
    assert_status(TPOOL_OK, tpool_future_set_result(first, NULL));
    assert_string_equal(expected, notes);
    assert_true(o.all_ended);
    tpool_future_release(first);
    tpool_future_release(o.bare);
    tpool_future_release(o.task);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void what_a_callback_ends_has_its_own_callbacks_after_it_has_returned(void **state) {
    (void)state;
    end_others_in_a_callback(false, "<a>412o3");
}
static void what_a_callback_ends_has_its_own_callbacks_when_it_waits(void **state) {
    (void)state;
    end_others_in_a_callback(true, "<a12o3>4");
}

static tpool_future *wanted;
static void complete_wanted(tpool_future *future, void *context) {
    (void)future;
    (void)context;
    if (tpool_future_set_result(wanted, NULL) != TPOOL_OK) note('!');
}
static void complete_and_want(tpool_future *future, void *context) {
    (void)future;
    if (tpool_future_set_result((tpool_future *)context, NULL) != TPOOL_OK) note('!');
    if (tpool_future_result(wanted, LIMIT, NULL) == TPOOL_OK) note('w');
}
static void a_callback_may_wait_for_what_a_callback_of_its_own_doing_brings(void **state) {
    (void)state;
    tpool_future *first = NULL, *second = NULL;
    memset(notes, 0, sizeof notes);
    assert_status(TPOOL_OK, tpool_future_create(&first));
    assert_status(TPOOL_OK, tpool_future_create(&second));
    assert_status(TPOOL_OK, tpool_future_create(&wanted));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(first, complete_and_want, second));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(second, complete_wanted, NULL));
    assert_status(TPOOL_OK, tpool_future_set_result(first, NULL));
    assert_string_equal("w", notes);
    tpool_future_release(first);
    tpool_future_release(second);
    tpool_future_release(wanted);
}

/* What an iterator has yielded is released by the following next, and the result_free of that calls next, too. */
static tpool_completions *iterator;
static tpool_future *yielded_within;
static void call_next(void *result) {
    note(*(char *)result);
    if (!yielded_within && tpool_completions_next(iterator, 0, &yielded_within) != TPOOL_OK) note('!');
}
static void *own_and_call_next(void *result) { return tpool_return_owned(result, call_next); }
static void the_result_free_of_what_was_yielded_may_call_next(void **state) {
    (void)state;
    static char names[2] = { 'a', 'b' };
    tpool_future *first = NULL, *none = NULL;
    memset(notes, 0, sizeof notes);
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, tpool_as_completed(NULL, 0, &iterator));
    for (int i = 0; i < 2; i++) {
        tpool_future *future = submitted(pool, own_and_call_next, &names[i]);
        assert_status(TPOOL_OK, tpool_completions_add(iterator, future));
        tpool_future_release(future);
    }
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_status(TPOOL_OK, tpool_completions_next(iterator, LIMIT, &first));
    assert_status(TPOOL_END, tpool_completions_next(iterator, LIMIT, &none));
    assert_string_equal("a", notes);
    assert_true(yielded_within && yielded_within != first);
    tpool_completions_destroy(iterator);
    assert_string_equal("ab", notes);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Drain and destroy return after all of it */
static gate hold = GATE_CLOSED;
static void hold_callback(tpool_future *future, void *context) {
    (void)future;
    (void)context;
    gate_pass(&hold);
}
static void cancel_and_hold(tpool_future *future, void *context) {
    (void)future;
    (void)tpool_future_cancel((tpool_future *)context);
    gate_pass(&hold);
}
static tpool_status set_first(void *future) { return tpool_future_set_result((tpool_future *)future, NULL); }
static tpool_status destroy_pool(void *pool) { return tpool_destroy((tpool *)pool); }
static void destroy_waits_for_callbacks_that_are_still_to_come(void **state) {
    (void)state;
    static background completer, destroyer;
    static char late[] = "l";
    memset(notes, 0, sizeof notes);
    gate_close(&hold);
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, tpool_pause(pool));
    tpool_future *task = submitted(pool, nothing, NULL), *first = NULL;
    assert_status(TPOOL_OK, tpool_future_add_done_callback(task, note_callback, late));
    assert_status(TPOOL_OK, tpool_future_create(&first));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(first, cancel_and_hold, task));
    background_start(&completer, set_first, first);
    gate_await_arrivals(&hold, 1);
    assert_true(tpool_future_cancelled(task)); /* and its callback is still to come, on that thread */
    assert_status(TPOOL_TIMEOUT, tpool_drain(pool, TPOOL_MS(1)));
    background_start(&destroyer, destroy_pool, pool);
    background_await_block(&destroyer);
    assert_string_equal("", notes);
    gate_open(&hold);
    assert_status(TPOOL_OK, background_join(&destroyer));
    assert_string_equal("l", notes);
    assert_status(TPOOL_OK, background_join(&completer));
    tpool_future_release(task);
    tpool_future_release(first);
}

/* A worker finishes a task whose callback leaves another of the pool's callbacks to come. */
static void a_drain_waits_for_what_a_workers_callback_has_left_to_come(void **state) {
    (void)state;
    static char late[] = "l";
    memset(notes, 0, sizeof notes);
    gate_close(&hold);
    tpool *pool = new_pool(1);
    static gate start = GATE_CLOSED;
    gate_close(&start);
    tpool_future *first = submitted(pool, gate_task, &start), *task = submitted(pool, nothing, NULL);
    gate_await_arrivals(&start, 1);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(first, cancel_and_hold, task));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(task, note_callback, late));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(task, hold_callback, NULL));
    gate_open(&start);
    gate_await_arrivals(&hold, 1);
    assert_true(tpool_future_cancelled(task));
    assert_status(TPOOL_TIMEOUT, tpool_drain(pool, TPOOL_MS(1)));
    assert_string_equal("", notes);
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_string_equal("l", notes);
    tpool_future_release(first);
    tpool_future_release(task);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- A thread that ends in the midst of it */
static void end_in_callback(tpool_future *future, void *context) {
    (void)future;
    (void)tpool_future_set_result((tpool_future *)context, NULL);
    pthread_exit(NULL);
}
static void *set_result_of(void *future) {
    (void)tpool_future_set_result((tpool_future *)future, NULL);
    return future;
}
static void the_rest_runs_if_a_callback_ends_its_thread(void **state) {
    (void)state;
    tpool_future *first = NULL, *second = NULL;
    pthread_t thread;
    memset(notes, 0, sizeof notes);
    assert_status(TPOOL_OK, tpool_future_create(&first));
    assert_status(TPOOL_OK, tpool_future_create(&second));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(first, note_callback, "1"));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(first, end_in_callback, second));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(first, note_callback, "2"));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(second, note_callback, "3"));
    assert_int_equal(0, pthread_create(&thread, NULL, set_result_of, first));
    assert_int_equal(0, pthread_join(thread, NULL));
    assert_string_equal("123", notes);
    tpool_future_release(first);
    tpool_future_release(second);
}

static const struct CMUnitTest tests[] = {
    TEST(callbacks_that_complete_the_next_future_need_no_stack),
    TEST(callbacks_that_cancel_the_next_future_need_no_stack),
    TEST(callbacks_that_add_the_next_to_a_done_future_need_no_stack),
    TEST(results_that_release_the_next_future_need_no_stack),
    TEST(arg_frees_that_cancel_the_next_task_need_no_stack),
    TEST(ends_of_expired_tasks_that_fill_the_queue_again_need_no_stack),
    TEST(dropped_tasks_that_submit_the_next_need_no_stack),
    TEST(failures_that_submit_the_next_task_need_no_stack),
    TEST(items_that_close_the_next_map_need_no_stack),
    TEST(items_that_close_the_next_map_on_a_worker_need_no_stack),
    TEST(resources_that_destroy_the_next_need_no_stack),
    TEST(maps_and_resources_that_free_each_other_need_no_stack),
    TEST(what_a_close_within_a_close_frees_is_freed_when_it_returns),
    TEST(results_that_destroy_the_next_iterator_need_no_stack),
    TEST(results_that_destroy_pools_need_no_stack),
    TEST(results_that_destroy_managers_need_no_stack),
    TEST(callbacks_that_cancel_all_the_rest_need_no_stack),
    TEST(callbacks_that_complete_the_next_future_and_wait_need_no_stack),
    TEST(a_caller_runs_tasks_within_tasks_some_levels_deep_and_then_waits_for_room),
    TEST(what_a_callback_ends_has_its_own_callbacks_after_it_has_returned),
    TEST(what_a_callback_ends_has_its_own_callbacks_when_it_waits),
    TEST(a_callback_may_wait_for_what_a_callback_of_its_own_doing_brings),
    TEST(the_result_free_of_what_was_yielded_may_call_next),
    TEST(destroy_waits_for_callbacks_that_are_still_to_come),
    TEST(a_drain_waits_for_what_a_workers_callback_has_left_to_come),
    TEST(the_rest_runs_if_a_callback_ends_its_thread),
};
RUN_TESTS(tests)
