/* Waiting inside tasks where there is much of it: deep, wide, for long, and in a recursion with all kinds of waits. */
#include "support.h"
#include "support/waits.h"

/* ---- Depth: each task submits the next one and waits for it. */

#define BIG_FRAME (SLOW_TOOL ? 16384 : 4096)

typedef struct chain {
    tpool *pool;
    tpool_fn fn;
    int depth;
    atomic_int troubles; /* submits and waits that did not give TPOOL_OK */
} chain;

typedef struct chain_link {
    chain *chain;
    int level;
    int worker;
    pthread_t thread;
} chain_link;

static void *descend(void *arg) {
    chain_link *here = arg;
    chain *c = here->chain;
    here->thread = pthread_self();
    here->worker = tpool_current_worker();
    if (here->level + 1 == c->depth) return (void *)(intptr_t)1;
    tpool_future *next = NULL;
    void *below = NULL;
    if (tpool_submit(c->pool, c->fn, here + 1, &next) != TPOOL_OK) atomic_fetch_add(&c->troubles, 1);
    else if (tpool_future_result(next, TPOOL_FOREVER, &below) != TPOOL_OK) atomic_fetch_add(&c->troubles, 1);
    tpool_future_release(next);
    return (void *)((intptr_t)below + 1);
}

/* The same with so much on the stack that a default stack cannot hold all the levels. */
static volatile char *volatile seen_frame; /* lets no compiler keep only the bytes that are used */
static void *descend_with_big_frames(void *arg) {
    volatile char frame[BIG_FRAME];
    seen_frame = frame;
    frame[0] = 1;
    frame[sizeof frame - 1] = 1;
    void *result = descend(arg);
    frame[0] = 0; /* after the call, so that the frame has to stay */
    return result;
}

static chain_link *make_links(chain *c) {
    chain_link *links = calloc((size_t)c->depth, sizeof *links);
    assert_non_null(links);
    for (int i = 0; i < c->depth; i++) {
        links[i].chain = c;
        links[i].level = i;
    }
    return links;
}

static void ten_thousand_deep_in_place_on_one_big_stack(void **state) {
    (void)state;
    tpool *pool = create_pool(1, (size_t)256 << 20);
    chain c = { .pool = pool, .fn = descend, .depth = COUNT(10000) };
    chain_link *links = make_links(&c);
    assert_int_equal(c.depth, (intptr_t)take(submitted(pool, descend, links)));
    assert_int_equal(0, atomic_load(&c.troubles));
    for (int i = 0; i < c.depth; i++) {
        assert_true(pthread_equal(links[0].thread, links[i].thread));
        assert_int_equal(0, links[i].worker);
    }
    tpool_stats stats = stats_at_rest(pool);
    assert_int_equal(c.depth - 1, stats.inlined);
    assert_int_equal(0, stats.spared);
    assert_int_equal(1, stats.workers);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    free(links);
}

/* Gives how many levels ran on another thread than the one above them. */
static int descend_on_too_small_stacks(size_t stack_size, int depth) {
    tpool *pool = create_pool(1, stack_size);
    chain c = { .pool = pool, .fn = descend_with_big_frames, .depth = depth };
    chain_link *links = make_links(&c);
    int changes = 0;
    assert_int_equal(depth, (intptr_t)take(submitted(pool, descend_with_big_frames, links)));
    assert_int_equal(0, atomic_load(&c.troubles));
    assert_int_equal(0, links[0].worker);
    for (int i = 1; i < depth; i++) {
        if (pthread_equal(links[i - 1].thread, links[i].thread)) {
            assert_int_equal(links[i - 1].worker, links[i].worker);
        } else {
            changes++;
            assert_true(links[i].worker >= 1); /* spares count from max_workers up */
        }
    }
    tpool_stats stats = stats_at_rest(pool);
    assert_int_equal(depth - 1 - changes, stats.inlined);
    assert_true(changes == 0 || stats.spared > 0);
    EVENTUALLY(stats_of(pool).workers <= 1);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    free(links);
    return changes;
}

static void ten_thousand_deep_with_spares_on_default_stacks(void **state) {
    (void)state;
    pthread_attr_t attributes;
    size_t default_size = 0;
    assert_int_equal(0, pthread_attr_init(&attributes));
    assert_int_equal(0, pthread_attr_getstacksize(&attributes, &default_size));
    pthread_attr_destroy(&attributes);
    int depth = COUNT(10000);
    int changes = descend_on_too_small_stacks(0, depth);
    if ((size_t)depth * BIG_FRAME > default_size) assert_true(changes > 0);
}

static void a_thousand_deep_with_spares_on_small_stacks(void **state) {
    (void)state;
    /* The sanitizers keep data of their own on each stack, and double the frames. */
    assert_true(descend_on_too_small_stacks((size_t)(SLOW_TOOL ? 2048 : 512) << 10, 1000) > 0);
}

/* Two pools of one worker: each level waits for a task of the other pool. */
typedef struct pingpong {
    tpool *pools[2];
    int depth;
    atomic_int troubles;
    atomic_int astray; /* tasks that ran on a thread of the other pool */
} pingpong;

typedef struct pingpong_level {
    pingpong *game;
    int level;
} pingpong_level;

static void *play(void *arg) {
    pingpong_level *here = arg;
    pingpong *game = here->game;
    if (tpool_current() != game->pools[here->level % 2]) atomic_fetch_add(&game->astray, 1);
    if (here->level + 1 == game->depth) return NULL;
    tpool_future *next = NULL;
    if (tpool_submit(game->pools[(here->level + 1) % 2], play, here + 1, &next) != TPOOL_OK ||
        tpool_future_result(next, TPOOL_FOREVER, NULL) != TPOOL_OK) {
        atomic_fetch_add(&game->troubles, 1);
    }
    tpool_future_release(next);
    return NULL;
}

static void a_hundred_deep_to_and_fro_between_two_pools_of_one(void **state) {
    (void)state;
    enum { depth = 100 };
    pingpong game = { .pools = { create_pool(1, 0), create_pool(1, 0) }, .depth = depth };
    pingpong_level levels[depth];
    for (int i = 0; i < depth; i++) levels[i] = (pingpong_level){ &game, i };
    take(submitted(game.pools[0], play, &levels[0]));
    assert_int_equal(0, atomic_load(&game.troubles));
    assert_int_equal(0, atomic_load(&game.astray));
    for (int i = 0; i < 2; i++) {
        tpool_stats stats = stats_at_rest(game.pools[i]);
        assert_int_equal(0, stats.inlined);
        assert_true(stats.spared >= 1);
        EVENTUALLY(stats_of(game.pools[i]).workers <= 1);
        assert_status(TPOOL_OK, tpool_destroy(game.pools[i]));
    }
}

/* ---- Width: one task waits for many. */

#define WIDTH 1000

typedef struct wide {
    tpool *pool;
    bool all_at_once; /* by one tpool_wait, else by a result each */
    atomic_int ran;
    int order[WIDTH]; /* the numbers in the order in which they ran */
    int troubles;
    int strangers; /* children that ran on another thread than their parent */
    pthread_t parent;
} wide;

typedef struct wide_child {
    wide *wide;
    int number;
    pthread_t thread;
} wide_child;

static void *note_order(void *arg) {
    wide_child *child = arg;
    child->thread = pthread_self();
    child->wide->order[atomic_fetch_add(&child->wide->ran, 1)] = child->number;
    return child;
}

/* Waits for the children from the last to the first. */
static void *wait_backwards(void *arg) {
    wide *w = arg;
    wide_child *children = calloc(WIDTH, sizeof *children);
    tpool_future **futures = calloc(WIDTH, sizeof *futures);
    size_t done = 0;
    w->parent = pthread_self();
    if (children == NULL || futures == NULL) abort();
    for (int i = 0; i < WIDTH; i++) {
        children[i] = (wide_child){ .wide = w, .number = i };
        if (tpool_submit(w->pool, note_order, &children[i], &futures[WIDTH - 1 - i]) != TPOOL_OK) abort();
    }
    if (w->all_at_once) {
        if (tpool_wait(futures, WIDTH, TPOOL_ALL_COMPLETED, TPOOL_FOREVER, &done) != TPOOL_OK || done != WIDTH) {
            w->troubles++;
        }
    }
    for (int i = 0; i < WIDTH; i++) {
        void *value = NULL;
        if (tpool_future_result(futures[i], TPOOL_FOREVER, &value) != TPOOL_OK) w->troubles++;
        if (value != &children[WIDTH - 1 - i]) w->troubles++;
        if (!pthread_equal(children[WIDTH - 1 - i].thread, w->parent)) w->strangers++;
        tpool_future_release(futures[i]);
    }
    free(children);
    free(futures);
    return NULL;
}

static void check_backwards(bool all_at_once) {
    tpool *pool = create_pool(1, 0);
    wide *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->pool = pool;
    w->all_at_once = all_at_once;
    take(submitted(pool, wait_backwards, w));
    assert_int_equal(0, w->troubles);
    assert_int_equal(WIDTH, atomic_load(&w->ran));
    assert_int_equal(0, w->strangers);
    for (int i = 0; i < WIDTH; i++) assert_int_equal(WIDTH - 1 - i, w->order[i]);
    tpool_stats stats = stats_at_rest(pool);
    assert_int_equal(WIDTH, stats.inlined);
    assert_int_equal(0, stats.spared);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    free(w);
}

static void a_thousand_wide_in_the_order_in_which_results_are_asked(void **state) {
    (void)state;
    check_backwards(false);
}

static void a_thousand_wide_in_the_order_of_the_array_of_a_wait_for_all(void **state) {
    (void)state;
    check_backwards(true);
}

/* ---- Memory and load. */

typedef struct long_task {
    tpool *pool;
    long rounds, troubles, grown_kib;
} long_task;

static void submit_and_await(long_task *l, long rounds) {
    for (long i = 0; i < rounds; i++) {
        tpool_future *child = NULL;
        void *value = NULL;
        if (tpool_submit(l->pool, nothing, l, &child) != TPOOL_OK ||
            tpool_future_result(child, TPOOL_FOREVER, &value) != TPOOL_OK || value != l) {
            l->troubles++;
        }
        tpool_future_release(child);
    }
}

static void *submit_and_await_long(void *arg) {
    long_task *l = arg;
    submit_and_await(l, l->rounds / 20); /* caches fill up first */
    long before = resident_kib();
    submit_and_await(l, l->rounds);
    l->grown_kib = before < 0 ? 0 : resident_kib() - before;
    return NULL;
}

static void a_million_awaits_in_one_long_task_keep_memory_bounded(void **state) {
    (void)state;
    long_task l = { .pool = create_pool(1, 0), .rounds = COUNT(1000000) };
    take(submitted(l.pool, submit_and_await_long, &l));
    assert_int_equal(0, l.troubles);
    assert_int_equal(l.rounds + l.rounds / 20, stats_at_rest(l.pool).inlined);
    /* Even eight bytes left behind by each would be 8 MiB. The sanitizers' allocators keep freed memory for a while. */
    if (!SLOW_TOOL) assert_in_range(l.grown_kib < 0 ? 0 : l.grown_kib, 0, 4096);
    assert_status(TPOOL_OK, tpool_destroy(l.pool));
}

typedef struct fib_call {
    tpool *pool;
    int n;
} fib_call;

static atomic_int fib_troubles;

/* Fibonacci with a task for each call, half of the waits timed. */
static void *fib(void *arg) {
    fib_call *call = arg;
    if (call->n < 2) return (void *)(intptr_t)call->n;
    fib_call calls[2] = { { call->pool, call->n - 1 }, { call->pool, call->n - 2 } };
    tpool_future *futures[2] = { NULL, NULL };
    intptr_t sum = 0;
    for (int i = 0; i < 2; i++) {
        if (tpool_submit_copy(call->pool, fib, &calls[i], sizeof calls[i], &futures[i]) != TPOOL_OK) {
            atomic_fetch_add(&fib_troubles, 1);
            continue;
        }
        if (call->n % 4 == 0 && tpool_wait(futures, (size_t)i + 1, TPOOL_FIRST_COMPLETED, LIMIT, NULL) != TPOOL_OK) {
            atomic_fetch_add(&fib_troubles, 1);
        }
    }
    for (int i = 0; i < 2; i++) {
        void *part = NULL;
        if (tpool_future_result(futures[i], TPOOL_FOREVER, &part) != TPOOL_OK) atomic_fetch_add(&fib_troubles, 1);
        sum += (intptr_t)part;
        tpool_future_release(futures[i]);
    }
    return (void *)sum;
}

static void recursion_with_all_kinds_of_waits_gives_the_right_result(void **state) {
    (void)state;
    static const int fibonacci[] = { 0, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610 };
    int n = SLOW_TOOL ? 10 : 15;
    for (int workers = 1; workers <= 4; workers++) {
        tpool *pool = create_pool(workers, 0);
        fib_call call = { pool, n };
        atomic_store(&fib_troubles, 0);
        assert_int_equal(fibonacci[n], (intptr_t)take(submitted(pool, fib, &call)));
        assert_int_equal(0, atomic_load(&fib_troubles));
        EVENTUALLY(stats_of(pool).workers <= workers);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

static const struct CMUnitTest tests[] = {
    TEST(ten_thousand_deep_in_place_on_one_big_stack),
    TEST(ten_thousand_deep_with_spares_on_default_stacks),
    TEST(a_thousand_deep_with_spares_on_small_stacks),
    TEST(a_hundred_deep_to_and_fro_between_two_pools_of_one),
    TEST(a_thousand_wide_in_the_order_in_which_results_are_asked),
    TEST(a_thousand_wide_in_the_order_of_the_array_of_a_wait_for_all),
    TEST(a_million_awaits_in_one_long_task_keep_memory_bounded),
    TEST(recursion_with_all_kinds_of_waits_gives_the_right_result),
};
RUN_TESTS(tests)
