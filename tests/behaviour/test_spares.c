/* Spare workers: how many of the blocked workers of a pool are replaced, and what a pool gets beyond that. */
#include "support.h"
#include "support/stalls.h"

/* ---- Beyond max_spares. */

static void *wait_for_bare(void *bare) {
    note(tpool_future_result(bare, TPOOL_FOREVER, NULL));
    return NULL;
}
static void *set_bare(void *bare) {
    if (tpool_future_set_result(bare, NULL) != TPOOL_OK) abort();
    return NULL;
}
/* Ten tasks wait for what only the eleventh brings, and no search can tell that. */
static void a_pool_that_waits_for_no_task_gets_more_spares_after_a_while(void **state) {
    (void)state;
    for (int spares = -1; spares <= 2; spares++) {
        begin_counts();
        tpool_future *bare = NULL;
        tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .max_spares = spares });
        int at_once = spares < 0 ? 1 : spares == 0 ? 2 : 1 + spares;
        assert_status(TPOOL_OK, tpool_future_create(&bare));
        int64_t began = tpool_now();
        for (int i = 0; i < at_once + 3; i++) assert_status(TPOOL_OK, tpool_submit(pool, wait_for_bare, bare, NULL));
        assert_status(TPOOL_OK, tpool_submit(pool, set_bare, bare, NULL));
        assert_status(TPOOL_OK, tpool_future_result(bare, LIMIT, NULL));
        int64_t took = tpool_now() - began;
        assert_true(took >= TPOOL_MS(10 + 20 + 40 + 80)); /* for the last three, and for what brings it */
        assert_true(stats_of(pool).spared >= (uint64_t)at_once + 3);
        if (took < TPOOL_SEC(1)) assert_int_equal(at_once + 3, stats_of(pool).spared); /* none for one that is late */
        assert_status(TPOOL_OK, tpool_destroy(pool));
        tpool_future_release(bare);
    }
}

static atomic_int about_to_wait, waiting[3];
static void *wait_and_count(void *arg) {
    atomic_store(&waiting[atomic_fetch_add(&about_to_wait, 1)], system_thread());
    note(tpool_future_result(arg, TPOOL_FOREVER, NULL));
    atomic_fetch_add(&tasks_ended, 1);
    return NULL;
}
/* Two workers of four may be replaced. */
static void no_more_than_max_spares_replace_blocked_workers(void **state) {
    (void)state;
    begin_counts();
    tpool_future *bare = NULL;
    gate closed = GATE_CLOSED;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 4, .max_spares = 2 });
    assert_status(TPOOL_OK, tpool_future_create(&bare));
    for (int i = 0; i < 3; i++) assert_status(TPOOL_OK, tpool_submit(pool, wait_and_count, bare, NULL));
    EVENTUALLY(stats_of(pool).queued == 0);
    EVENTUALLY(atomic_load(&about_to_wait) == 3);
    for (int i = 0; i < 3; i++) await_thread_asleep(&waiting[i]);
    for (int i = 0; i < 8; i++) assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &closed, NULL));
    gate_await_arrivals(&closed, 3); /* 3 blocked, of which 2 are replaced: 4 - 1 at work */
    assert_int_equal(5, stats_of(pool).queued);
    assert_int_equal(6, stats_of(pool).workers);
    gate_open(&closed);
    assert_status(TPOOL_OK, tpool_future_set_result(bare, NULL));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(3, atomic_load(&tasks_ended));
    tpool_future_release(bare);
}

/* ---- What came by need does not go on with the queue; what ends by its limit is no progress. */

/* Each task's step is on its own pool, so that each wait needs a worker at once. */
static tpool *own_pool;
static void *return_it(void *arg) {
    count_threads();
    return arg;
}
static void *step_on_the_own_pool(void *arg) {
    tpool_task task = { .fn = return_it };
    note(tpool_run_with_timeout(own_pool, &task, TPOOL_SEC(60), NULL));
    atomic_fetch_add(&tasks_ended, 1);
    return arg;
}
static void many_steps_with_a_limit_on_their_own_pool_get_few_threads(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++) {
        int workers = i == 2 ? 4 : 1;
        begin_counts();
        own_pool = new_pool_as((tpool_config){ .max_workers = workers, .max_tasks_per_worker = i == 1 });
        atomic_store(&counted, own_pool);
        int64_t began = tpool_now();
        for (int j = 0; j < MANY; j++)
            assert_status(TPOOL_OK, tpool_submit(own_pool, step_on_the_own_pool, NULL, NULL));
        assert_status(TPOOL_OK, tpool_destroy(own_pool));
        atomic_store(&counted, NULL);
        check_threads(workers + 1, MANY, began); /* a step needs one more */
    }
}

/* One task alternates: it submits what blocks, and needs a worker. */
static void *wait_for_gate_future(void *bare) {
    note(tpool_future_result(bare, TPOOL_FOREVER, NULL));
    return NULL;
}
static void *block_one_and_run_a_step(void *bare) {
    for (int i = 0; i < MANY / 4; i++) {
        tpool_task task = { .fn = return_it };
        note(tpool_submit(own_pool, wait_for_gate_future, bare, NULL));
        note(tpool_run_with_timeout(own_pool, &task, TPOOL_SEC(60), NULL));
        atomic_fetch_add(&tasks_ended, 1);
    }
    return NULL;
}
static void a_worker_that_a_step_needed_leaves_the_queue_alone(void **state) {
    (void)state;
    tpool_future *bare = NULL;
    begin_counts();
    own_pool = new_pool(1);
    atomic_store(&counted, own_pool);
    assert_status(TPOOL_OK, tpool_future_create(&bare));
    int64_t began = tpool_now();
    take(submitted(own_pool, block_one_and_run_a_step, bare));
    check_threads(2, MANY / 4, began);
    assert_status(TPOOL_OK, tpool_future_set_result(bare, NULL));
    assert_status(TPOOL_OK, tpool_destroy(own_pool));
    atomic_store(&counted, NULL);
    tpool_future_release(bare);
}

/* Consumers that look now and then hold all workers; what they look for is brought by a task behind them. */
typedef struct polling {
    tpool_channel *channel;
    int64_t limit;
} polling;
static void *poll_the_channel(void *arg) {
    polling *p = arg;
    int item = 0;
    tpool_status status;
    while ((status = tpool_channel_receive(p->channel, &item, p->limit)) == TPOOL_TIMEOUT) { }
    note(status);
    atomic_fetch_add(&tasks_ended, 1);
    return NULL;
}
static void *send_to_the_channel(void *arg) {
    polling *p = arg;
    int item = 1;
    for (int i = 0; i < 2; i++) note(tpool_channel_send(p->channel, &item, TPOOL_FOREVER));
    return NULL;
}
static void waits_that_end_by_their_limit_hold_no_spare_off(void **state) {
    (void)state;
    static const int64_t limits[] = { TPOOL_US(20), TPOOL_MS(5), TPOOL_MS(30), TPOOL_MS(300) };
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        begin_counts();
        polling p = { NULL, limits[i] };
        tpool *pool = new_pool(1);
        assert_status(TPOOL_OK, tpool_channel_create(
                                    &p.channel, &(tpool_channel_config){ .item_size = sizeof(int), .capacity = 2 }));
        for (int j = 0; j < 2; j++) assert_status(TPOOL_OK, tpool_submit(pool, poll_the_channel, &p, NULL));
        tpool_future *sends = submitted(pool, send_to_the_channel, &p);
        assert_status(TPOOL_OK, tpool_future_result(sends, LIMIT, NULL));
        tpool_future_release(sends);
        assert_status(TPOOL_OK, tpool_destroy(pool));
        assert_int_equal(2, atomic_load(&tasks_ended));
        assert_status(TPOOL_OK, tpool_channel_destroy(p.channel));
    }
}

/* Long waits have used up all spares. One more came by time: it stays, and tasks that come later need no other one. */
static void a_spare_that_time_brought_stays_while_it_is_needed(void **state) {
    (void)state;
    begin_counts();
    tpool_future *bare = NULL;
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, tpool_future_create(&bare));
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_submit(pool, wait_for_gate_future, bare, NULL));
    for (int i = 0; i < 20; i++) {
        take(submitted(pool, nothing, NULL));
        if (i % 4 == 3) sleep_ms(25); /* longer than a spare lingers */
    }
    assert_int_equal(2, stats_of(pool).spared);
    assert_status(TPOOL_OK, tpool_future_set_result(bare, NULL));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    tpool_future_release(bare);
}

/* ---- At once: the very task that is waited for, at any depth, in every kind of wait. */

typedef enum manner { TIMED, FIRST, NEXT, MANNERS } manner;
typedef struct nest {
    tpool *pools[2];
    manner manner;
    tpool_future *decoy;
} nest;
static nest the_nest;
static void *descend(void *arg) {
    intptr_t level = (intptr_t)arg;
    tpool_completions *completions = NULL;
    tpool_future *below = NULL, *next = NULL;
    if (level == 0) return arg;
    if (tpool_submit(the_nest.pools[level % 2], descend, (void *)(level - 1), &below) != TPOOL_OK) abort();
    switch (the_nest.manner) {
    case TIMED: note(tpool_future_result(below, LIMIT, NULL)); break;
    case FIRST: {
        tpool_future *two[2] = { the_nest.decoy, below };
        note(tpool_wait(two, 2, TPOOL_FIRST_COMPLETED, TPOOL_FOREVER, NULL));
        break;
    }
    default:
        if (tpool_as_completed(&below, 1, &completions) != TPOOL_OK) abort();
        note(tpool_completions_next(completions, TPOOL_FOREVER, &next));
        tpool_completions_destroy(completions);
        break;
    }
    tpool_future_release(below);
    return arg;
}
#if defined(__EMSCRIPTEN__) /* starts threads slowly: on a busy machine 200 take longer than the 20 s below */
#define NESTED 50
#else
#define NESTED 200
#endif
static void nested_waits_of_each_kind_get_their_spares_at_once(void **state) {
    (void)state;
    for (int two = 0; two < 2; two++)
        for (manner m = TIMED; m < MANNERS; m++) {
            begin_counts();
            tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .stack_size = 256 << 10 });
            tpool *other = new_pool_as((tpool_config){ .max_workers = 1, .stack_size = 256 << 10 });
            the_nest = (nest){ { pool, two ? other : pool }, m, NULL };
            assert_status(TPOOL_OK, tpool_future_create(&the_nest.decoy));
            int64_t began = tpool_now();
            take(submitted(pool, descend, (void *)(intptr_t)NESTED));
            assert_true(SLOW_TOOL || tpool_now() - began < TPOOL_SEC(20)); /* a second each otherwise */
            assert_int_equal(0, atomic_load(&waits_refused));
            assert_status(TPOOL_OK, tpool_future_set_result(the_nest.decoy, NULL));
            tpool_future_release(the_nest.decoy);
            assert_status(TPOOL_OK, tpool_destroy(pool));
            assert_status(TPOOL_OK, tpool_destroy(other));
        }
}

/* Waits for the task in a way that runs nothing in place. */
static void wait_outside(tpool_future *task) {
    note(tpool_future_result(task, 10 * LIMIT, NULL));
    tpool_future_release(task);
}

/* Each worker of four waits for a task of its own, and these run until all four do. */
static gate all_four = GATE_CLOSED;
static void *wait_for_one_of_four(void *gate) {
    gate_pass(gate); /* so that all four are there before one of them submits */
    wait_outside(submitted(own_pool, gate_task, &all_four));
    return NULL;
}
static void several_needed_tasks_get_their_spares_at_once_each(void **state) {
    (void)state;
    gate begin = GATE_CLOSED;
    tpool_future *waits[4];
    own_pool = new_pool_as((tpool_config){ .max_workers = 4, .max_spares = -1 });
    for (int i = 0; i < 4; i++) waits[i] = submitted(own_pool, wait_for_one_of_four, &begin);
    gate_await_arrivals(&begin, 4);
    gate_open(&begin);
    gate_await_arrivals(&all_four, 4);
    assert_int_equal(8, stats_of(own_pool).workers);
    gate_open(&all_four);
    for (int i = 0; i < 4; i++) take(waits[i]);
    assert_status(TPOOL_OK, tpool_destroy(own_pool));
}

/* The spare comes at once, and its initializer blocks: no other one comes at once, and one by time after a second. */
static tpool_future *_Atomic held_initializers;
static bool wait_in_initializer(void *context) {
    (void)context;
    tpool_future *future = atomic_load(&held_initializers);
    return !future || tpool_future_result(future, TPOOL_FOREVER, NULL) == TPOOL_OK;
}
static void *wait_for_a_task_behind(void *gate) {
    gate_pass(gate);
    wait_outside(submitted(own_pool, nothing, NULL));
    return NULL;
}
static void a_spare_that_blocks_in_its_initializer_brings_no_other(void **state) {
    (void)state;
    gate begin = GATE_CLOSED;
    tpool_future *bare = NULL;
    assert_status(TPOOL_OK, tpool_future_create(&bare));
    atomic_store(&held_initializers, NULL);
    own_pool = new_pool_as((tpool_config){ .max_workers = 1, .max_spares = -1, .initializer = wait_in_initializer });
    tpool_future *waits = submitted(own_pool, wait_for_a_task_behind, &begin);
    gate_await_arrivals(&begin, 1);
    atomic_store(&held_initializers, bare);
    int64_t began = tpool_now();
    gate_open(&begin);
    EVENTUALLY(stats_of(own_pool).workers >= 2);
    sleep_ms(100);
    int workers = stats_of(own_pool).workers;
    if (tpool_now() - began < TPOOL_SEC(1)) assert_int_equal(2, workers);
    assert_status(TPOOL_OK, tpool_future_set_result(bare, NULL));
    take(waits);
    assert_status(TPOOL_OK, tpool_destroy(own_pool));
    tpool_future_release(bare);
}

/* So many are needed at once, and so many spares are still in their initializers, that one search does not hold all. */
static gate many_begin = GATE_CLOSED;
static atomic_bool spares_begin;
static bool begin_at_the_gate(void *context) {
    if (atomic_load(&spares_begin)) gate_pass(context);
    return true;
}
static void needs_beyond_what_one_search_holds_are_met(void **state) {
    (void)state;
    enum { WORKERS = 90 };
    gate begin = GATE_CLOSED;
    tpool_future *waits[WORKERS];
    own_pool = new_pool_as((tpool_config){
        .max_workers = WORKERS, .max_spares = -1, .initializer = begin_at_the_gate, .context = &many_begin });
    for (int i = 0; i < WORKERS; i++) waits[i] = submitted(own_pool, wait_for_a_task_behind, &begin);
    gate_await_arrivals(&begin, WORKERS);
    atomic_store(&spares_begin, true);
    gate_open(&begin);
    EVENTUALLY(gate_arrived(&many_begin) >= 64);
    gate_open(&many_begin);
    for (int i = 0; i < WORKERS; i++) take(waits[i]);
    assert_status(TPOOL_OK, tpool_destroy(own_pool));
}

/* Time has brought spares; then all but a few of the waits end. */
static void spares_end_when_they_are_no_longer_needed(void **state) {
    (void)state;
    enum { STAY = 3, GO = 7 };
    tpool_future *stay = NULL, *go = NULL;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 2, .max_spares = 2 });
    assert_status(TPOOL_OK, tpool_future_create(&stay));
    assert_status(TPOOL_OK, tpool_future_create(&go));
    for (int i = 0; i < STAY; i++) assert_status(TPOOL_OK, tpool_submit(pool, wait_for_bare, stay, NULL));
    for (int i = 0; i < GO; i++) assert_status(TPOOL_OK, tpool_submit(pool, wait_for_bare, go, NULL));
    EVENTUALLY(stats_of(pool).queued == 0);
    assert_int_equal(STAY + GO, stats_of(pool).workers);
    assert_status(TPOOL_OK, tpool_future_set_result(go, NULL));
    EVENTUALLY(stats_of(pool).workers == STAY + 1); /* one of the two is at work: two of three are replaced */
    assert_status(TPOOL_OK, tpool_future_set_result(stay, NULL));
    EVENTUALLY(stats_of(pool).workers == 2);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    tpool_future_release(stay);
    tpool_future_release(go);
}

/* The waits of three workers end while their three spares sleep. */
static gate at_work = GATE_CLOSED;
static void *wait_and_work(void *bare) {
    note(tpool_future_result(bare, TPOOL_FOREVER, NULL));
    gate_pass(&at_work);
    return NULL;
}
static void spares_end_while_those_that_they_replaced_are_at_work(void **state) {
    (void)state;
    enum { WORKERS = 3 };
    for (int idles = 0; idles < 2; idles++) {
        gate together = GATE_CLOSED;
        tpool_future *bare = NULL;
        at_work = (gate)GATE_CLOSED;
        tpool *pool =
            new_pool_as((tpool_config){ .max_workers = WORKERS, .idle_timeout_ns = idles ? TPOOL_SEC(3600) : 0 });
        assert_status(TPOOL_OK, tpool_future_create(&bare));
        for (int i = 0; i < WORKERS; i++) assert_status(TPOOL_OK, tpool_submit(pool, wait_and_work, bare, NULL));
        for (int i = 0; i < WORKERS; i++) assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &together, NULL));
        gate_await_arrivals(&together, WORKERS);
        gate_open(&together);
        EVENTUALLY(stats_of(pool).idle == WORKERS);
        assert_status(TPOOL_OK, tpool_future_set_result(bare, NULL));
        gate_await_arrivals(&at_work, WORKERS);
        EVENTUALLY(stats_of(pool).workers == WORKERS);
        gate_open(&at_work);
        assert_status(TPOOL_OK, tpool_destroy(pool));
        tpool_future_release(bare);
    }
}

/* A worker waits until its limit, computes for longer than a spare takes, and waits again. */
typedef struct stalls {
    tpool_future *first, *second;
    int64_t waited, blocked_at, queued_ran_at;
} stalls;
static void *wait_compute_and_wait(void *arg) {
    stalls *p = arg;
    p->waited = -tpool_now();
    note(tpool_future_result(p->first, TPOOL_MS(2), NULL));
    p->waited += tpool_now();
    sleep_ms(300);
    p->blocked_at = tpool_now();
    note(tpool_future_result(p->second, LIMIT, NULL));
    return NULL;
}
static void *note_time(void *arg) {
    stalls *p = arg;
    p->queued_ran_at = tpool_now();
    note(tpool_future_set_result(p->second, NULL));
    return NULL;
}
static void time_in_which_a_worker_computes_brings_no_spare(void **state) {
    (void)state;
    stalls p = { 0 };
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .max_spares = -1 });
    assert_status(TPOOL_OK, tpool_future_create(&p.first));
    assert_status(TPOOL_OK, tpool_future_create(&p.second));
    tpool_future *waits = submitted(pool, wait_compute_and_wait, &p), *queued = submitted(pool, note_time, &p);
    take(waits);
    take(queued);
    if (p.waited < TPOOL_MS(10)) assert_true(p.queued_ran_at - p.blocked_at >= TPOOL_MS(10) - p.waited);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    tpool_future_release(p.first);
    tpool_future_release(p.second);
}

/* Each task submits two more into the queue of its own pool, which is full: they are executed depth first. */
#define DEPTH 10
static void *submit_two(void *arg) {
    intptr_t depth = (intptr_t)arg;
    tpool_task task = { .fn = submit_two, .arg = (void *)(depth - 1), .name = "has memory of its own" };
    for (int i = 0; i < 2 && depth > 0; i++) note(tpool_submit_task(own_pool, &task, NULL));
    return end_one(NULL);
}
static void a_tree_of_submits_into_its_own_full_queue_gets_few_threads(void **state) {
    (void)state;
    for (int workers = 1; workers <= 4; workers += 3) {
        begin_counts();
        own_pool = new_pool_as((tpool_config){ .max_workers = workers, .queue_capacity = 8 });
        atomic_store(&counted, own_pool);
        note(tpool_submit(own_pool, submit_two, (void *)(intptr_t)DEPTH, NULL));
        assert_status(TPOOL_OK, tpool_drain(own_pool, LIMIT)); /* by time alone it takes minutes */
        assert_status(TPOOL_OK, tpool_destroy(own_pool));
        atomic_store(&counted, NULL);
        assert_int_equal((2 << DEPTH) - 1, atomic_load(&tasks_ended));
        assert_int_equal(0, atomic_load(&waits_refused));
        /* Some 30 to 70, the more the busier the machine; and not one a task. */
        assert_in_range(atomic_load(&most_threads), 1, (2 << DEPTH) / 8);
    }
}

/* ---- Nothing that could go on starves: waits that end, needs that are met, workers that compute, spares that begin. */

#define SOON TPOOL_SEC(SLOW_TOOL ? 40 : 15) /* by time alone it would take far longer, or for ever */

/* Two tasks hold the workers: one waits again and again, each time with success, and one for what the task behind both
 * brings. */
typedef enum ending { TICKS, TICKS_WITH_TASKS_IN_PLACE, STEPS_BY_NEED, ENDINGS } ending;
typedef struct ticking {
    tpool *pool;
    tpool_channel *ticks, *items;
    ending ending;
    atomic_bool over;
} ticking;
static ticking clockwork;
/* The worker that a need has brought goes to sleep while the other one is at work: no moment is without a need. */
static void *set_bare_and_go_on(void *bare) {
    set_bare(bare);
    sleep_ms(100);
    return NULL;
}
static void run_a_step_by_need(tpool *pool) {
    tpool_future *bare = NULL;
    assert_status(TPOOL_OK, tpool_future_create(&bare));
    tpool_future *both[2] = { submitted(pool, set_bare_and_go_on, bare), bare };
    note(tpool_wait(both, 2, TPOOL_FIRST_COMPLETED, TPOOL_FOREVER, NULL));
    sleep_ms(200);
    note(tpool_wait(both, 2, TPOOL_ALL_COMPLETED, LIMIT, NULL));
    for (int i = 0; i < 2; i++) tpool_future_release(both[i]);
}
static void *wait_again_and_again(void *arg) {
    ticking *t = arg;
    int item = 0;
    while (t->ending == STEPS_BY_NEED && !atomic_load(&t->over)) run_a_step_by_need(t->pool);
    while (t->ending != STEPS_BY_NEED && tpool_channel_receive(t->ticks, &item, TPOOL_FOREVER) == TPOOL_OK)
        if (t->ending == TICKS_WITH_TASKS_IN_PLACE) take(submitted(t->pool, nothing, NULL));
    return NULL;
}
static void *receive_an_item(void *arg) {
    int item = 0;
    note(tpool_channel_receive(((ticking *)arg)->items, &item, TPOOL_FOREVER));
    atomic_fetch_add(&tasks_ended, 1);
    return NULL;
}
static void *send_an_item(void *arg) {
    int item = 1;
    note(tpool_channel_send(((ticking *)arg)->items, &item, TPOOL_FOREVER));
    return NULL;
}
static void waits_that_end_hold_no_spare_off(void **state) {
    (void)state;
    tpool_channel_config config = { .item_size = sizeof(int), .capacity = 1 };
    for (ending ending = TICKS; ending < ENDINGS; ending++) {
        ticking *t = &clockwork;
        int tick = 0;
        begin_counts();
        *t = (ticking){ .pool = new_pool(1), .ending = ending };
        assert_status(TPOOL_OK, tpool_channel_create(&t->ticks, &config));
        assert_status(TPOOL_OK, tpool_channel_create(&t->items, &config));
        assert_status(TPOOL_OK, tpool_submit(t->pool, receive_an_item, t, NULL));
        assert_status(TPOOL_OK, tpool_submit(t->pool, wait_again_and_again, t, NULL));
        assert_status(TPOOL_OK, tpool_submit(t->pool, send_an_item, t, NULL));
        int64_t end = tpool_now() + SOON;
        while (atomic_load(&tasks_ended) == 0 && tpool_now() < end) {
            assert_status(TPOOL_OK, tpool_channel_send(t->ticks, &tick, ending == STEPS_BY_NEED ? 0 : LIMIT));
            if (ending == STEPS_BY_NEED) assert_status(TPOOL_OK, tpool_channel_receive(t->ticks, &tick, 0));
            sleep_ms(5);
        }
        int ended = atomic_load(&tasks_ended);
        atomic_store(&t->over, true);
        tpool_channel_close(t->ticks);
        assert_status(TPOOL_OK, tpool_destroy(t->pool));
        assert_status(TPOOL_OK, tpool_channel_destroy(t->ticks));
        assert_status(TPOOL_OK, tpool_channel_destroy(t->items));
        assert_int_equal(1, ended);
    }
}

/* One worker computes, and so many are blocked beside it that the spares are used up. */
static atomic_int met;
static void *need_a_task_behind(void *arg) {
    tpool_future *task = submitted(own_pool, nothing, NULL);
    if (tpool_future_result(task, SOON, NULL) == TPOOL_OK) atomic_fetch_add(&met, 1);
    tpool_future_release(task);
    return end_one(arg);
}
static void needs_are_met_beside_a_worker_that_computes(void **state) {
    (void)state;
    for (int spares = -1; spares <= 2; spares++) {
        gate computes = GATE_CLOSED;
        int waits = spares < 0 ? 1 : spares == 0 ? 3 : 1 + spares;
        begin_counts();
        atomic_store(&met, 0);
        own_pool = new_pool_as((tpool_config){ .max_workers = 2, .max_spares = spares });
        atomic_store(&counted, own_pool);
        assert_status(TPOOL_OK, tpool_submit(own_pool, gate_task, &computes, NULL));
        gate_await_arrivals(&computes, 1);
        int64_t began = tpool_now();
        for (int i = 0; i < waits; i++) assert_status(TPOOL_OK, tpool_submit(own_pool, need_a_task_behind, NULL, NULL));
        EVENTUALLY(atomic_load(&tasks_ended) == waits);
        gate_open(&computes);
        assert_status(TPOOL_OK, tpool_destroy(own_pool));
        atomic_store(&counted, NULL);
        assert_int_equal(waits, atomic_load(&met));
        assert_true(atomic_load(&most_threads) <= 2 + waits + (int)((tpool_now() - began) / TPOOL_SEC(1)));
    }
}

/* The tasks of two pools wait for tasks of the other one, which are queued behind many such tasks. */
static tpool *crossing[2];
static void *cross(void *arg) {
    count_threads();
    note(tpool_future_result(arg, TPOOL_FOREVER, NULL));
    tpool_future_release(arg);
    return end_one(NULL);
}
static void *submit_and_cross(void *other) { return cross(submitted(other, nothing, NULL)); }
static void two_pools_that_cross_get_few_threads(void **state) {
    (void)state;
    enum { WORKERS = 2 };
    int tasks = SLOW_TOOL ? 100 : 500;
    begin_counts();
    for (int i = 0; i < 2; i++) {
        crossing[i] = new_pool(WORKERS);
        assert_status(TPOOL_OK, tpool_pause(crossing[i]));
    }
    int64_t began = tpool_now();
    for (int i = 0; i < 2 * tasks; i++)
        assert_status(TPOOL_OK, tpool_submit(crossing[i % 2], submit_and_cross, crossing[!(i % 2)], NULL));
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_resume(crossing[i]));
    while (atomic_load(&tasks_ended) < 2 * tasks && tpool_now() - began < SOON) sleep_ms(1);
    assert_int_equal(2 * tasks, atomic_load(&tasks_ended));
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_destroy(crossing[i]));
    check_threads(2 * WORKERS + 1, 2 * tasks, began); /* each pool needs one more */
}

/* A thread holds what all workers wait for, and waits for a task behind them: it runs no task, or one of another
   pool. */
static tpool_future *behind_all;
static atomic_bool came;
static bool another_waits; /* first, for one that blocks: what comes at once is one thread, and the next ones by time */
static void *wait_for_a_user(void *arg) {
    tpool_future *user = submitted(own_pool, use_the_resource, NULL);
    note(tpool_future_result(user, TPOOL_FOREVER, NULL));
    tpool_future_release(user);
    return arg;
}
static void *hold_and_wait(void *arg) {
    void *handle = NULL;
    assert_status(TPOOL_OK, tpool_resources_get(resources, TPOOL_FOREVER, &handle));
    for (int i = 0; i < MANY; i++) assert_status(TPOOL_OK, tpool_submit(own_pool, use_the_resource, NULL, NULL));
    pthread_t other;
    if (another_waits) {
        EVENTUALLY(stats_of(own_pool).queued <= MANY - 2);
        assert_int_equal(0, pthread_create(&other, NULL, wait_for_a_user, NULL));
        EVENTUALLY(stats_of(own_pool).workers >= 3);
    }
    behind_all = submitted(own_pool, end_one, NULL);
    tpool_status status = tpool_future_result(behind_all, TPOOL_FOREVER, NULL);
    atomic_store(&came, status == TPOOL_OK);
    assert_status(TPOOL_OK, tpool_resources_put(resources, handle));
    if (another_waits) assert_int_equal(0, pthread_join(other, NULL));
    return arg;
}
static void what_a_thread_elsewhere_waits_for_comes_at_once(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        bool in_task = i % 2 == 1;
        pthread_t thread;
        begin_counts();
        another_waits = i >= 2;
        atomic_store(&came, false);
        tpool *other = new_pool(1);
        own_pool = new_pool(1);
        atomic_store(&counted, own_pool);
        assert_status(TPOOL_OK, tpool_resources_create(&resources, 1, make_handle, NULL, NULL));
        int64_t began = tpool_now();
        if (in_task) assert_status(TPOOL_OK, tpool_submit(other, hold_and_wait, NULL, NULL));
        else assert_int_equal(0, pthread_create(&thread, NULL, hold_and_wait, NULL));
        while (!atomic_load(&came) && tpool_now() - began < SOON) sleep_ms(1);
        assert_true(atomic_load(&came));
        if (!in_task) assert_int_equal(0, pthread_join(thread, NULL));
        assert_status(TPOOL_OK, tpool_destroy(other));
        assert_status(TPOOL_OK, tpool_destroy(own_pool));
        atomic_store(&counted, NULL);
        tpool_future_release(behind_all);
        assert_status(TPOOL_OK, tpool_resources_destroy(resources));
        check_threads(1, MANY + 1 + another_waits, began);
    }
}

/* A task collects what it has submitted, each of which wants the one handle; or a held task for each, or one for
   all. */
static tpool_return_when collected_how; /* with an iterator, or all with a limit, or the first */
enum { BY_ITERATOR = 3 };
static enum { DIRECTLY, OVER_A_HELD_TASK_EACH, OVER_ONE_HELD_TASK, COLLECTED_OVER } collected_over;
static int hold_over(tpool_future **users, int count) {
    int each = collected_over == OVER_ONE_HELD_TASK ? count : 1;
    for (int i = 0; i < count; i += each) {
        tpool_task held = { .after = &users[i], .after_count = (size_t)each, .after_when = TPOOL_AFTER_DONE };
        tpool_future *future = submitted_task(own_pool, held);
        for (int j = i; j < i + each; j++) tpool_future_release(users[j]);
        users[i] = future;
    }
    return count / each;
}
static void *collect(void *arg) {
    static tpool_future *users[3000];
    int count = MANY;
    tpool_completions *completions = NULL;
    tpool_future *next = NULL;
    for (int i = 0; i < count; i++) users[i] = submitted(own_pool, use_the_resource, NULL);
    if (collected_over != DIRECTLY) count = hold_over(users, count);
    if ((int)collected_how == BY_ITERATOR) {
        if (tpool_as_completed(users, (size_t)count, &completions) != TPOOL_OK) abort();
        for (int i = 0; i < count; i++) note(tpool_completions_next(completions, TPOOL_FOREVER, &next));
        tpool_completions_destroy(completions);
    } else {
        note(tpool_wait(users, (size_t)count, collected_how, collected_how ? TPOOL_FOREVER : LIMIT, NULL));
    }
    for (int i = 0; i < count; i++) tpool_future_release(users[i]);
    return arg;
}
static void a_task_that_collects_its_own_gets_few_threads(void **state) {
    (void)state;
    for (int i = 0; i < 4 * COLLECTED_OVER; i++) {
        void *handle = NULL;
        begin_counts();
        collected_how = (tpool_return_when)(i % 4); /* the last is BY_ITERATOR */
        collected_over = i / 4;
        own_pool = new_pool(4);
        atomic_store(&counted, own_pool);
        assert_status(TPOOL_OK, tpool_resources_create(&resources, 1, make_handle, NULL, NULL));
        assert_status(TPOOL_OK, tpool_resources_get(resources, LIMIT, &handle)); /* all of them meet */
        int64_t began = tpool_now();
        assert_status(TPOOL_OK, tpool_submit(own_pool, collect, NULL, NULL));
        EVENTUALLY(stats_of(own_pool).queued > 0 && stats_of(own_pool).queued <= MANY - 7);
        sleep_ms(5);
        assert_status(TPOOL_OK, tpool_resources_put(resources, handle));
        assert_status(TPOOL_OK, tpool_destroy(own_pool));
        atomic_store(&counted, NULL);
        assert_status(TPOOL_OK, tpool_resources_destroy(resources));
        check_threads(4 + 1, MANY, began); /* one that it needs */
    }
}

/* Many threads outside wait for a task each, and all of these for one load. */
static void *wait_for_bare_and_count(void *bare) {
    note(tpool_future_result(bare, TPOOL_FOREVER, NULL));
    atomic_fetch_add(&tasks_ended, 1);
    return NULL;
}
static void *run_one(void *bare) {
    tpool_future *task = submitted(own_pool, wait_for_bare_and_count, bare);
    note(tpool_future_result(task, TPOOL_FOREVER, NULL));
    tpool_future_release(task);
    return NULL;
}
static void many_threads_outside_get_few_threads(void **state) {
    (void)state;
    enum { THREADS = SLOW_TOOL ? 60 : 300 };
    pthread_t threads[THREADS];
    tpool_future *bare = NULL;
    begin_counts();
    own_pool = new_pool(4);
    atomic_store(&counted, own_pool);
    assert_status(TPOOL_OK, tpool_future_create(&bare));
    int64_t began = tpool_now();
    for (int i = 0; i < THREADS; i++) assert_int_equal(0, pthread_create(&threads[i], NULL, run_one, bare));
    EVENTUALLY(stats_of(own_pool).submitted == THREADS);
    sleep_ms(20);
    count_threads();
    assert_status(TPOOL_OK, tpool_future_set_result(bare, NULL));
    for (int i = 0; i < THREADS; i++) assert_int_equal(0, pthread_join(threads[i], NULL));
    assert_status(TPOOL_OK, tpool_destroy(own_pool));
    atomic_store(&counted, NULL);
    tpool_future_release(bare);
    check_threads(4, THREADS, began);
}

/* Two tasks take many tasks of their own pool from iterators. */
static void *take_from_an_iterator(void *arg) {
    enum { ITEMS = 1000 };
    static tpool_future *all[2][ITEMS];
    tpool_future **items = all[(intptr_t)arg], *next = NULL;
    tpool_completions *completions = NULL;
    for (int i = 0; i < ITEMS; i++) items[i] = submitted(own_pool, end_one, NULL);
    if (tpool_as_completed(items, ITEMS, &completions) != TPOOL_OK) abort();
    for (int i = 0; i < ITEMS; i++) note(tpool_completions_next(completions, TPOOL_FOREVER, &next));
    tpool_completions_destroy(completions);
    for (int i = 0; i < ITEMS; i++) tpool_future_release(items[i]);
    return end_one(NULL);
}
static void iterators_of_many_tasks_get_them_at_once(void **state) {
    (void)state;
    begin_counts();
    own_pool = new_pool(1);
    atomic_store(&counted, own_pool);
    int64_t began = tpool_now();
    for (intptr_t i = 0; i < 2; i++)
        assert_status(TPOOL_OK, tpool_submit(own_pool, take_from_an_iterator, (void *)i, NULL));
    while (atomic_load(&tasks_ended) < 2 * 1001 && tpool_now() - began < SOON) sleep_ms(1);
    assert_int_equal(2 * 1001, atomic_load(&tasks_ended));
    assert_status(TPOOL_OK, tpool_destroy(own_pool));
    atomic_store(&counted, NULL);
    check_threads(1, 2 * 1001, began);
}

/* The first spare waits in its initializer for what a queued task sends: the next one comes by time, and goes on. */
static ticking beginning;
static atomic_int initializers;
static bool receive_in_the_second_initializer(void *context) {
    int item = 0;
    return atomic_fetch_add(&initializers, 1) != 1 ||
           tpool_channel_receive(((ticking *)context)->ticks, &item, TPOOL_FOREVER) == TPOOL_OK;
}
static void *send_both(void *arg) {
    int item = 1;
    note(tpool_channel_send(((ticking *)arg)->ticks, &item, TPOOL_FOREVER));
    return send_an_item(arg);
}
static void a_spare_that_blocks_in_its_initializer_is_followed_by_time(void **state) {
    (void)state;
    tpool_channel_config config = { .item_size = sizeof(int), .capacity = 1 };
    begin_counts();
    atomic_store(&initializers, 0);
    assert_status(TPOOL_OK, tpool_channel_create(&beginning.ticks, &config));
    assert_status(TPOOL_OK, tpool_channel_create(&beginning.items, &config));
    tpool *pool = new_pool_as((tpool_config){
        .max_workers = 1, .max_spares = -1, .initializer = receive_in_the_second_initializer, .context = &beginning });
    int64_t began = tpool_now();
    assert_status(TPOOL_OK, tpool_submit(pool, receive_an_item, &beginning, NULL));
    assert_status(TPOOL_OK, tpool_submit(pool, send_both, &beginning, NULL));
    while (atomic_load(&tasks_ended) == 0 && tpool_now() - began < SOON) sleep_ms(1);
    assert_int_equal(1, atomic_load(&tasks_ended));
    assert_true(stats_of(pool).spared >= 2);
    assert_true(stats_of(pool).spared <= 2 + (uint64_t)((tpool_now() - began) / TPOOL_SEC(1)));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_status(TPOOL_OK, tpool_channel_destroy(beginning.ticks));
    assert_status(TPOOL_OK, tpool_channel_destroy(beginning.items));
}

static const struct CMUnitTest tests[] = {
    TEST(many_tasks_that_want_one_resource_get_few_threads),
    TEST(many_steps_with_a_limit_on_another_pool_get_few_threads),
    TEST(many_tasks_that_wait_for_one_load_get_few_threads),
    TEST(a_stage_before_a_full_queue_gets_few_threads),
    TEST(a_crawler_with_fewer_handles_than_workers_gets_few_threads),
    TEST(a_pool_that_waits_for_no_task_gets_more_spares_after_a_while),
    TEST(no_more_than_max_spares_replace_blocked_workers),
    TEST(many_steps_with_a_limit_on_their_own_pool_get_few_threads),
    TEST(a_worker_that_a_step_needed_leaves_the_queue_alone),
    TEST(waits_that_end_by_their_limit_hold_no_spare_off),
    TEST(a_spare_that_time_brought_stays_while_it_is_needed),
    TEST(nested_waits_of_each_kind_get_their_spares_at_once),
    TEST(several_needed_tasks_get_their_spares_at_once_each),
    TEST(a_tree_of_submits_into_its_own_full_queue_gets_few_threads),
    TEST(a_spare_that_blocks_in_its_initializer_brings_no_other),
    TEST(needs_beyond_what_one_search_holds_are_met),
    TEST(spares_end_when_they_are_no_longer_needed),
    TEST(spares_end_while_those_that_they_replaced_are_at_work),
    TEST(time_in_which_a_worker_computes_brings_no_spare),
    TEST(waits_that_end_hold_no_spare_off),
    TEST(needs_are_met_beside_a_worker_that_computes),
    TEST(two_pools_that_cross_get_few_threads),
    TEST(what_a_thread_elsewhere_waits_for_comes_at_once),
    TEST(a_task_that_collects_its_own_gets_few_threads),
    TEST(many_threads_outside_get_few_threads),
    TEST(iterators_of_many_tasks_get_them_at_once),
    TEST(a_spare_that_blocks_in_its_initializer_is_followed_by_time),
};
RUN_TESTS(tests)
