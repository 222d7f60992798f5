/* What tpool_map_auto decides from given figures, and what happens where it has decided. */
#include "support.h"

static int64_t choice_begin; /* what it is thought to take to begin elsewhere: so a test forces the decision */
#define TPOOL__CHOICE_BEGIN choice_begin
static int64_t cpu_clock_needs = 1;
#define TPOOL__CPU_CLOCK_NEEDS cpu_clock_needs
static int64_t join_chunk = 20000;
#define TPOOL__JOIN_CHUNK join_chunk
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
#include "behaviour/maps.h"
#include "support/managers.h"
#if HAVE_FORK
#include "support/children.h"
#endif
#define NEVER TPOOL_SEC(1000000)

/* ---- Figures. */

static tpool__choosing_iter figures(int cpus, size_t left) {
    tpool__choosing_iter made;
    choice_begin = TPOOL_US(40);
    memset(&made, 0, sizeof made);
    made.iter.spec.count = left;
    made.chooser.cpus = (unsigned)cpus;
    made.chooser.most = (unsigned)tpool__workers_for_io(cpus);
    return made;
}
/* After `measured` items that took `each`, and computed `percent` of that; 0: not known. */
static unsigned chosen(tpool__choosing_iter *of, int64_t each, size_t measured, int percent) {
    of->iter.chooser = &of->chooser;
    of->iter.cost_ns = each * (int64_t)measured;
    of->iter.measured = (double)measured;
    of->chooser.cpu_wall_ns = percent ? TPOOL__CPU_CLOCK_NEEDS * 100 : 0;
    of->chooser.cpu_ns = of->chooser.cpu_wall_ns / 100 * percent;
    tpool__lock(&of->iter.lock);
    tpool__choose(&of->iter);
    tpool__unlock(&of->iter.lock);
    return of->chooser.at_once;
}
static unsigned choice_of(int cpus, size_t left, int64_t each, int percent) {
    tpool__choosing_iter of = figures(cpus, left);
    return chosen(&of, each, 10, percent);
}

static tpool_choice report_of(tpool__choosing_iter *of) {
    tpool_choice choice;
    tpool__lock(&of->iter.lock);
    tpool__choice_report(&of->iter, &choice);
    tpool__unlock(&of->iter.lock);
    return choice;
}

static void items_that_compute_run_one_a_cpu(void **state) {
    (void)state;
    assert_int_equal(2, choice_of(2, 100, TPOOL_US(100), 100));
    assert_int_equal(2, choice_of(2, 100, TPOOL_US(100), 0));
    assert_int_equal(2, choice_of(2, 100, TPOOL_US(100), 80)); /* the system does something else too */
    assert_int_equal(8, choice_of(8, 100, TPOOL_US(100), 100));
    assert_int_equal(0, choice_of(1, 1000000, TPOOL_MS(1), 100));
    assert_int_equal(0, choice_of(1, 1000000, TPOOL_MS(1), 0));
}
static void items_that_wait_run_more_at_once_than_there_are_cpus(void **state) {
    (void)state;
    assert_int_equal(2, choice_of(1, 100, TPOOL_MS(1), 1));
    assert_int_equal(4, choice_of(2, 100, TPOOL_MS(1), 1));
    assert_int_equal(4, choice_of(2, 100, TPOOL_MS(1), 50));
    assert_int_equal(3, choice_of(2, 100, TPOOL_MS(1), 70));
    assert_int_equal(32, choice_of(20, 100, TPOOL_MS(1), 1));
}
static void little_work_stays_in_the_caller(void **state) {
    (void)state;
    assert_int_equal(0, choice_of(2, 79, TPOOL_US(1), 100));
    assert_int_equal(2, choice_of(2, 81, TPOOL_US(1), 100));
    assert_int_equal(0, choice_of(2, 1, TPOOL_SEC(1), 100)); /* one item is no faster elsewhere */
    assert_int_equal(2, choice_of(2, 2, TPOOL_SEC(1), 100));
}
static void a_small_buffer_keeps_short_items_in_the_caller(void **state) {
    (void)state;
    tpool__choosing_iter of = figures(2, 1000000);
    of.iter.spec.buffer_size = 4;
    assert_int_equal(0, chosen(&of, 1000, 10, 100));
    assert_int_equal(2, chosen(&of, 10000, 10, 100));
    assert_int_equal(2, chosen(&of, 1500, 10, 100)); /* what has gone does not return for a little ... */
    assert_int_equal(0, chosen(&of, 100, 10, 100));  /* ... except this */
    of.iter.spec.buffer_size = 0;
    of.iter.spec.chunk_size = 3;
    assert_int_equal(0, chosen(&of, 1000, 10, 100));
}
static void no_more_gain_than_there_are_chunks(void **state) {
    (void)state;
    tpool__choosing_iter of = figures(2, 1000);
    of.iter.spec.buffer_size = 1;
    assert_int_equal(0, chosen(&of, TPOOL_MS(1), 10, 100));
    assert_int_equal(0, chosen(&of, TPOOL_MS(1), 10, 1));
    of.chooser.at_once = 2;
    assert_int_equal(0, chosen(&of, TPOOL_MS(1), 10, 100)); /* the other way too */
    of.iter.spec.buffer_size = 2;
    assert_int_equal(2, chosen(&of, TPOOL_MS(1), 10, 100));
    of = figures(2, 1000);
    of.iter.spec.chunk_size = 1000;
    assert_int_equal(0, chosen(&of, TPOOL_MS(1), 10, 100));
    of.iter.spec.chunk_size = 999;
    assert_int_equal(2, chosen(&of, TPOOL_MS(1), 10, 100));
    of = figures(8, 1000);
    of.iter.spec.buffer_size = 3;
    assert_int_equal(8, chosen(&of, TPOOL_MS(1), 10, 100));
    of.iter.available = 3;
    tpool pool = { 0 };
    of.iter.pool = &pool;
    tpool_choice choice = report_of(&of);
    assert_true(choice.speedup > 2.9 && choice.speedup < 3.1);
    of = figures(2, 1000);
    of.iter.spec.buffer_size = 100;
    of.iter.pool = &pool;
    of.iter.taken = 99;
    of.iter.available = 100;
    assert_int_equal(2, chosen(&of, TPOOL_US(10), 10, 100));
    choice = report_of(&of);
    assert_int_equal(1, choice.chunk_size); /* no more is there */
}
static void the_last_items_end_where_they_are(void **state) {
    (void)state;
    tpool__choosing_iter of = figures(2, 100);
    assert_int_equal(2, chosen(&of, TPOOL_US(100), 10, 100));
    of.iter.spec.count = 2;
    assert_int_equal(2, chosen(&of, 10, 10, 100));
    of.iter.spec.count = 3;
    assert_int_equal(0, chosen(&of, 10, 10, 100));
}
static void items_that_may_wait_for_the_consumer_keep_off(void **state) {
    (void)state;
    tpool__choosing_iter of = figures(2, 100);
    of.chooser.keeps_off = true;
    of.chooser.at_once = of.chooser.most;
    assert_int_equal(4, chosen(&of, 10, 10, 100));
    assert_int_equal(4, chosen(&of, TPOOL_MS(10), 10, 1));
}
static void of_a_source_as_much_is_left_as_it_has_given(void **state) {
    (void)state;
    tpool__choosing_iter of = figures(2, 0);
    tpool__source_item place;
    of.iter.places = &place;
    of.iter.taken = 100;
    of.iter.available = 110;
    of.iter.spec.buffer_size = 100;
    assert_int_equal(2, chosen(&of, 1000, 10, 100));
    of.chooser.at_once = 0;
    of.iter.source_ended = true;
    assert_int_equal(0, chosen(&of, 1000, 10, 100));
}
static void what_was_long_ago_counts_little(void **state) {
    (void)state;
    tpool__choosing_iter of = figures(2, 100000);
    of.iter.chooser = &of.chooser;
    tpool__lock(&of.iter.lock);
    tpool__note_cost(&of.iter, TPOOL_SEC(10), 1);
    for (int i = 0; i < 24; i++) tpool__note_cost(&of.iter, 100, 1);
    assert_true(tpool__choice_each(&of.iter) < 1000);
    for (int i = 0; i < 1000; i++) tpool__note_cost(&of.iter, 8 * 10, 8);
    tpool__note_cost(&of.iter, TPOOL_MS(1), 1);
    assert_true(tpool__choice_each(&of.iter) > 50000);
    tpool__unlock(&of.iter.lock);
    tpool__note_cpu(&of.chooser, 0, TPOOL_SEC(10));
    for (int i = 0; i < 40; i++) tpool__note_cpu(&of.chooser, 1000, 1000);
    assert_true(tpool__choice_busy(&of.chooser, 0) > 0.9);
}

static void what_is_known_of_cpu_time_remains_so(void **state) {
    (void)state;
    tpool__choosing_iter of = figures(2, 100000);
    cpu_clock_needs = TPOOL_MS(60);
    for (int i = 0; i < 1000; i++) {
        bool knew = tpool__choice_busy(&of.chooser, 2) < 2;
        tpool__note_cpu(&of.chooser, TPOOL_US(100), TPOOL_MS(1));
        bool knows = tpool__choice_busy(&of.chooser, 2) < 2;
        assert_true(knows || !knew);
        assert_int_equal(i + 1 >= 60, knows);
    }
    cpu_clock_needs = 1;
}
static void what_an_item_takes_is_told_as_it_is(void **state) {
    (void)state;
    for (size_t ran = 1; ran < 10; ran++) {
        tpool__choosing_iter of = figures(2, 100000);
        of.iter.chooser = &of.chooser;
        tpool__lock(&of.iter.lock);
        for (int i = 0; i < 30; i++) {
            tpool__note_cost(&of.iter, 1000 * (int64_t)ran, ran);
            assert_true(tpool__choice_each(&of.iter) > 990 && tpool__choice_each(&of.iter) < 1010);
        }
        tpool__unlock(&of.iter.lock);
    }
}

/* ---- In the caller, whatever the items take. */

static void *give(void *item, void *context) {
    (void)context;
    return item;
}
static void nothing_is_submitted_for_items_in_the_caller(void **state) {
    (void)state;
    static char items[20000];
    tpool_manager *manager = new_manager();
    choice_begin = NEVER;
    for (int unordered = 0; unordered < 2; unordered++)
        for (size_t buffer = 0; buffer < 300; buffer += 99) {
            tpool_map_spec spec = { .fn = give,
                                    .items = items,
                                    .count = sizeof items,
                                    .stride = 1,
                                    .buffer_size = buffer,
                                    .unordered = unordered };
            tpool_map_iter *iter = NULL;
            tpool_choice choice;
            assert_status(TPOOL_OK, tpool_map_auto(manager, &spec, 0, &iter, &choice));
            assert_int_equal(0, choice.workers);
            assert_int_equal(0, choice.chunk_size);
            assert_true(choice.tried >= 1 && (!buffer || choice.tried <= buffer));
            for (size_t i = 0; i < sizeof items; i++) {
                void *result = NULL;
                assert_status(TPOOL_OK, tpool_map_next(iter, 0, &result)); /* the limit interrupts none */
                assert_ptr_equal(&items[i], result);
                assert_int_equal(i, tpool_map_index(iter));
            }
            void *none;
            assert_status(TPOOL_END, tpool_map_next(iter, 0, &none));
            tpool_stats stats;
            assert_status(TPOOL_OK, tpool_get_stats(iter->pool, &stats));
            assert_int_equal(0, stats.submitted);
            tpool_map_close(iter);
        }
    tpool_manager_destroy(manager);
}

enum { FEW = 30, AHEAD = 4 };
typedef struct told {
    tpool_map_iter *iter;
    int items[FEW];
    int delivered;
    pid_t child;
} told;
static void *do_as_told(void *item, void *context) {
    told *t = context;
    (void)t;
    if (*(const int *)item == 1) end_here();
#if HAVE_FORK
    if (*(const int *)item == 2) {
        fflush(NULL);
        t->child = fork();
        if (t->child == 0) child_begin(LIMIT_SECONDS);
    }
#endif
    return item;
}
static void told_start(tpool_manager *manager, told *t) {
    tpool_map_spec spec = { .fn = do_as_told,
                            .context = t,
                            .items = t->items,
                            .count = FEW,
                            .stride = sizeof t->items[0],
                            .buffer_size = AHEAD };
    choice_begin = NEVER;
    assert_status(TPOOL_OK, tpool_map_auto(manager, &spec, 0, &t->iter, NULL));
}
static void *consume_till_the_end(void *context) {
    told *t = context;
    void *result;
    while (tpool_map_next(t->iter, LIMIT, &result) == TPOOL_OK) t->delivered++;
    return NULL;
}
static void another_thread_goes_on_where_an_item_has_ended_the_consumer(void **state) {
    (void)state;
    for (int broken = AHEAD; broken < FEW; broken++) {
        tpool_manager *manager = new_manager();
        told t = { .items = { 0 } };
        t.items[broken] = 1;
        told_start(manager, &t);
        in_own_thread(consume_till_the_end, &t);
        assert_true(t.delivered <= broken && t.delivered >= broken - AHEAD);
        for (int i = t.delivered; i < FEW; i++) {
            void *result = NULL;
            assert_status(i == broken ? TPOOL_BROKEN : TPOOL_OK, tpool_map_next(t.iter, LIMIT, &result));
            assert_ptr_equal(i == broken ? NULL : &t.items[i], result);
        }
        assert_status(TPOOL_END, tpool_map_next(t.iter, LIMIT, NULL));
        tpool_map_close(t.iter);
        assert_int_equal(0, manager_stats_of(manager).in_use);
        tpool_manager_destroy(manager);
    }
}
#if HAVE_FORK
static void the_child_of_an_item_in_map_next_goes_no_further(void **state) {
    (void)state;
    tpool_manager *manager = new_manager();
    told t = { .items = { [AHEAD + 3] = 2 }, .child = -1 };
    told_start(manager, &t);
    for (int i = 0; i < FEW; i++) {
        void *result = NULL;
        tpool_status status = tpool_map_next(t.iter, LIMIT, &result);
        if (t.child == 0) {
            bool right = status == TPOOL_BROKEN && !result;
            tpool_map_close(t.iter);
            _exit(right ? 0 : 1);
        }
        assert_status(TPOOL_OK, status);
        assert_ptr_equal(&t.items[i], result);
    }
    assert_child_succeeds(t.child);
    tpool_map_close(t.iter);
    tpool_manager_destroy(manager);
}
#endif

/* ---- Elsewhere. */

typedef struct gated {
    gate *at;
    bool waits;
} gated;
static void *pass_if_it_waits(void *item, void *context) {
    gated *g = item;
    (void)context;
    if (g->waits) gate_pass(g->at);
    return item;
}
static void no_more_chunks_run_than_were_chosen(void **state) {
    (void)state;
    enum { COUNT_OF_ALL = 200, AT_FIRST = 16 };
    gate held = GATE_CLOSED;
    gated items[COUNT_OF_ALL];
    for (int i = 0; i < COUNT_OF_ALL; i++) items[i] = (gated){ &held, i >= AT_FIRST };
    tpool_manager *manager = new_manager();
    tpool__store_relaxed(&manager->cpus, 4); /* so its pool has 8 workers */
    tpool_map_spec spec = { .fn = pass_if_it_waits,
                            .items = items,
                            .count = COUNT_OF_ALL,
                            .stride = sizeof items[0],
                            .buffer_size = AT_FIRST };
    tpool_map_iter *iter = NULL;
    choice_begin = NEVER;
    assert_status(TPOOL_OK, tpool_map_auto(manager, &spec, 0, &iter, NULL));
    tpool__lock(&iter->lock); /* some that wait for nothing have run here; from now on three chunks run elsewhere */
    iter->chooser->at_once = iter->chooser->cpus = iter->chooser->most = 3;
    iter->cost_ns = NEVER; /* so long that it remains so, whatever the next ones take */
    iter->measured = 1;
    tpool__unlock(&iter->lock);
    void *result = NULL;
    int delivered = 0;
    for (int64_t end = tpool_now() + LIMIT; gate_arrived(&held) < 3 && tpool_now() < end;) {
        tpool_status status = tpool_map_next(iter, TPOOL_MS(1), &result);
        if (status == TPOOL_OK) assert_ptr_equal(&items[delivered++], result);
        else assert_status(TPOOL_TIMEOUT, status);
    }
    AWAIT_ARRIVALS(&held, 3);
    tpool__lock(&iter->lock);
    unsigned running = iter->chooser->running;
    bool waits = iter->waiting != NULL, more = tpool__chunk_size(iter) > 0;
    tpool__unlock(&iter->lock);
    assert_int_equal(3, running);
    assert_true(more && !waits);
    assert_status(TPOOL_TIMEOUT, tpool_map_next(iter, TPOOL_MS(1), NULL));
    assert_int_equal(3, gate_arrived(&held));
    gate_open(&held);
    for (; delivered < COUNT_OF_ALL; delivered++) {
        assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, &result));
        assert_ptr_equal(&items[delivered], result);
    }
    assert_status(TPOOL_END, tpool_map_next(iter, LIMIT, NULL));
    assert_int_equal(0, iter->chooser->running);
    tpool_map_close(iter);
    tpool_manager_destroy(manager);
}
/* What map_next has decided takes effect at once, not when all that ran before is delivered. */
static void a_change_of_mind_queues_a_chunk_at_once(void **state) {
    (void)state;
    static char items[2 * TPOOL__HERE_MOST]; /* more than are tried */
    tpool_manager *manager = new_manager();
    tpool__store_relaxed(&manager->cpus, 4);
    tpool_map_spec spec = { .fn = give, .items = items, .count = sizeof items, .stride = 1 };
    tpool_map_iter *iter = NULL;
    tpool_choice choice;
    size_t delivered = 0;
    choice_begin = NEVER;
    assert_status(TPOOL_OK, tpool_map_auto(manager, &spec, 0, &iter, &choice));
    for (; delivered < choice.tried; delivered++) assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, NULL));
    tpool__lock(&iter->lock);
    assert_null(iter->front);
    choice_begin = 0;
    iter->cost_ns = NEVER;
    iter->measured = 1;
    iter->chooser->seen_ns = TPOOL__CHOICE_SEEN;
    tpool__unlock(&iter->lock);
    assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, NULL));
    delivered++;
    assert_ptr_equal(&iter->chooser->here, iter->reading);
    tpool__lock(&iter->lock);
    bool queued = iter->front != NULL;
    tpool__unlock(&iter->lock);
    assert_true(queued);
    for (; delivered < sizeof items; delivered++) {
        void *result = NULL;
        assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, &result));
        assert_ptr_equal(&items[delivered], result);
    }
    assert_status(TPOOL_END, tpool_map_next(iter, LIMIT, NULL));
    tpool_map_close(iter);
    tpool_manager_destroy(manager);
}
/* From now on map_next decides for the pool, if it is asked. */
static void would_move(tpool_map_iter *iter) {
    tpool__lock(&iter->lock);
    choice_begin = 0;
    iter->cost_ns = NEVER;
    iter->measured = 1;
    iter->chooser->seen_ns = TPOOL__CHOICE_SEEN;
    tpool__unlock(&iter->lock);
}
static bool is_in_the_pool(tpool_map_iter *iter) {
    tpool__lock(&iter->lock);
    bool is = iter->front != NULL || iter->chooser->at_once > 0;
    tpool__unlock(&iter->lock);
    return is;
}
typedef enum pool_that { IS_SHUT, IS_PAUSED, HAS_REFUSED } pool_that;
static void all_runs_in_the_caller_of_a_pool(pool_that state) {
    static char items[2 * TPOOL__HERE_MOST];
    tpool_manager *manager = new_manager();
    tpool__store_relaxed(&manager->cpus, 4);
    tpool_map_spec spec = { .fn = give, .items = items, .count = sizeof items, .stride = 1 };
    tpool_map_iter *iter = NULL;
    choice_begin = NEVER;
    assert_status(TPOOL_OK, tpool_map_auto(manager, &spec, 0, &iter, NULL));
    if (state == IS_SHUT) assert_status(TPOOL_OK, tpool_manager_shutdown(manager, false));
    if (state == IS_PAUSED) assert_status(TPOOL_OK, tpool_pause(iter->pool));
    if (state == HAS_REFUSED) iter->chooser->stays_until = INT64_MAX;
    for (size_t i = 0; i < sizeof items; i++) {
        void *result = NULL;
        if (i % 1000 == 0) would_move(iter);
        assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, &result));
        assert_ptr_equal(&items[i], result);
        assert_false(is_in_the_pool(iter));
    }
    assert_status(TPOOL_END, tpool_map_next(iter, LIMIT, NULL));
    if (state == IS_SHUT) assert_true(iter->chooser->stays_until > 0); /* it was asked */
    if (state == IS_PAUSED) assert_status(TPOOL_OK, tpool_resume(iter->pool));
    tpool_map_close(iter);
    tpool_manager_destroy(manager);
}
static void a_pool_that_takes_nothing_leaves_the_items_to_the_caller(void **state) {
    (void)state;
    for (int which = IS_SHUT; which <= HAS_REFUSED; which++) all_runs_in_the_caller_of_a_pool((pool_that)which);
}
static void *take_long(void *item, void *context) {
    compute_for(TPOOL_US(300)); /* so one is tried, and the others would move */
    return give(item, context);
}
static void it_is_told_that_the_pool_takes_nothing(void **state) {
    (void)state;
    char items[20];
    tpool_manager *manager = new_manager();
    tpool__store_relaxed(&manager->cpus, 4);
    tpool *pool = NULL;
    assert_status(TPOOL_OK, tpool_manager_get(manager, tpool__workers_for_io(4), TPOOL_THREADS, 0, &pool));
    assert_status(TPOOL_OK, tpool_pause(pool));
    tpool_map_spec spec = { .fn = take_long, .items = items, .count = sizeof items, .stride = 1 };
    tpool_map_iter *iter = NULL;
    tpool_choice choice;
    choice_begin = 0;
    assert_status(TPOOL_OK, tpool_map_auto(manager, &spec, 0, &iter, &choice));
    assert_ptr_equal(pool, iter->pool);
    assert_int_equal(0, choice.workers);
    assert_non_null(strstr(choice.reason, "the pool takes nothing"));
    assert_status(TPOOL_OK, tpool_resume(pool));
    for (size_t i = 0; i < sizeof items; i++) assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, NULL));
    tpool_map_close(iter);
    assert_status(TPOOL_OK, tpool_manager_release(manager, pool));
    tpool_manager_destroy(manager);
}
/* The pool is shut down while as many chunks run as were chosen, so that none is queued; then their items end their
 * threads. What is left runs. */
static void *pass_and_end(void *item, void *context) {
    gated *g = item;
    if (!g->waits) return give(item, context);
    gate_pass(g->at);
    end_here();
    return NULL;
}
static void chunks_that_end_their_threads_go_on_in_a_pool_that_was_shut_down(void **state) {
    (void)state;
    enum { COUNT_OF_ALL = 30, TRIED = 1, ENDING = 3 };
    static gate held = GATE_CLOSED;
    static gated items[COUNT_OF_ALL];
    held = (gate)GATE_CLOSED;
    for (int i = 0; i < COUNT_OF_ALL; i++) items[i] = (gated){ &held, i >= TRIED && i < TRIED + ENDING };
    tpool_manager *manager = new_manager();
    tpool__store_relaxed(&manager->cpus, 4);
    tpool_map_spec spec = {
        .fn = pass_and_end, .items = items, .count = COUNT_OF_ALL, .stride = sizeof items[0], .buffer_size = TRIED
    };
    tpool_map_iter *iter = NULL;
    choice_begin = NEVER;
    assert_status(TPOOL_OK, tpool_map_auto(manager, &spec, 0, &iter, NULL));
    tpool__lock(&iter->lock);
    iter->chooser->at_once = iter->chooser->cpus = iter->chooser->most = ENDING;
    iter->spec.buffer_size = 0; /* from now on all are there */
    iter->available = COUNT_OF_ALL;
    iter->cost_ns = NEVER;
    iter->measured = 1;
    tpool__unlock(&iter->lock);
    void *result = NULL;
    assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, &result));
    assert_status(TPOOL_TIMEOUT, tpool_map_next(iter, TPOOL_MS(1), NULL));
    AWAIT_ARRIVALS(&held, ENDING);
    assert_status(TPOOL_OK, tpool_shutdown(iter->pool, 0));
    gate_open(&held);
    for (int i = TRIED; i < COUNT_OF_ALL; i++) {
        tpool_status status = tpool_map_next(iter, LIMIT, &result);
        assert_status(items[i].waits ? TPOOL_BROKEN : TPOOL_OK, status);
        if (i != TRIED + ENDING - 1) continue;
        tpool__lock(&iter->lock);
        bool refused = iter->chooser->stays_until > 0;
        tpool__unlock(&iter->lock);
        assert_false(refused);
    }
    assert_status(TPOOL_END, tpool_map_next(iter, LIMIT, NULL));
    tpool_map_close(iter);
    tpool_manager_destroy(manager);
}
/* A thread remembers the functions that it knows as short. Functions begin at multiples of 16. */
static void functions_in_turn_are_remembered_each(void **state) {
    (void)state;
    for (uintptr_t step = 16; step <= 64; step += 16) {
        bool taken[TPOOL__LOOPS_REMEMBERED] = { false };
        int places = 0;
        for (uintptr_t i = 0; i < TPOOL__LOOPS_REMEMBERED; i++) {
            size_t place =
                (size_t)(tpool__loop_known(tpool__self(), (0x401000 + i * step) | 1) - tpool__self()->cheap_loops);
            assert_true(place < TPOOL__LOOPS_REMEMBERED);
            places += !taken[place];
            taken[place] = true;
        }
        assert_true(places >= TPOOL__LOOPS_REMEMBERED / 2);
    }
}
/* The first item waits until the consumer has what the others give, and so do more than there are CPUs. */
static void waiting_items_keep_none_from_starting(void **state) {
    (void)state;
    enum { COUNT_OF_ALL = 60, THAT_WAIT = 2 };
    static gate held = GATE_CLOSED; /* as the items: these outlast a test that fails */
    static gated items[COUNT_OF_ALL];
    for (int i = 0; i < COUNT_OF_ALL; i++) items[i] = (gated){ &held, i < THAT_WAIT };
    for (unsigned cpus = 1; cpus < 3; cpus++) {
        tpool_manager *manager = new_manager();
        held = (gate)GATE_CLOSED;
        tpool__store_relaxed(&manager->cpus, cpus + 1);
        tpool_map_spec spec = { .fn = pass_if_it_waits,
                                .items = items,
                                .count = COUNT_OF_ALL,
                                .stride = sizeof items[0],
                                .chunk_size = 1,
                                .unordered = true };
        tpool_map_iter *iter = NULL;
        assert_status(TPOOL_OK, tpool_map_auto(manager, &spec, 0, &iter, NULL));
        for (int i = 0; i < COUNT_OF_ALL; i++) {
            assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, NULL));
            if (i == COUNT_OF_ALL - THAT_WAIT - 1) gate_open(&held);
        }
        assert_status(TPOOL_END, tpool_map_next(iter, LIMIT, NULL));
        tpool_map_close(iter);
        tpool_manager_destroy(manager);
    }
}
/* Chunks of one, elsewhere: each of so many items ends its worker. None of them may count for ever. */
static tpool_status consume_all(void *context) {
    told *t = context;
    tpool_status status;
    while ((status = tpool_map_next(t->iter, LIMIT, NULL)) == TPOOL_OK || status == TPOOL_BROKEN) {
        if ((status == TPOOL_BROKEN) != (t->items[t->delivered] == 1)) return TPOOL_INVALID;
        t->delivered++;
    }
    return status;
}
static void a_chunk_that_ends_its_thread_makes_room_for_the_next(void **state) {
    (void)state;
    static told t;
    static background consumer;
    tpool_manager *manager = new_manager();
    for (int i = 0; i < FEW; i++) t.items[i] = i % 3 != 0;
    tpool_map_spec spec = {
        .fn = do_as_told, .context = &t, .items = t.items, .count = FEW, .stride = sizeof t.items[0], .chunk_size = 1
    };
    assert_status(TPOOL_OK, tpool_map_auto(manager, &spec, 0, &t.iter, NULL));
    background_start(&consumer, consume_all, &t);
    assert_status(TPOOL_END, background_join(&consumer));
    assert_int_equal(FEW, t.delivered);
    assert_int_equal(0, t.iter->chooser->running);
    tpool_map_close(t.iter);
    tpool_manager_destroy(manager);
}

/* ---- The consumer beside the pool. */

enum { BLOCKERS = 4 };
typedef struct beside {
    told t;
    tpool_manager *manager;
    tpool *pool;
    gate held; /* each worker of the pool waits here */
    pthread_t consumer;
    atomic_int here;
    void (*in_item)(struct beside *); /* NULL, or what an item does */
} beside;
static void *wait_at(void *arg) {
    gate_pass(arg);
    return NULL;
}
static void *compute_as_told(void *item, void *context) {
    beside *b = context;
    if (pthread_equal(pthread_self(), b->consumer)) atomic_fetch_add(&b->here, 1);
    compute_for(TPOOL_US(5));
    if (b->in_item) b->in_item(b);
    return do_as_told(item, &b->t);
}
/* The map has moved to the pool, where a chunk is queued, but no worker is free. Its items compute, and are short
   enough for the consumer. AHEAD of them have run. */
static void beside_start(beside *b, size_t buffer) {
    b->manager = new_manager();
    b->held = (gate)GATE_CLOSED;
    b->consumer = pthread_self();
    tpool__store_relaxed(&b->manager->cpus, 2);
    choice_begin = NEVER;
    cpu_clock_needs = NEVER;
    join_chunk = NEVER;
    assert_status(TPOOL_OK, tpool_manager_get(b->manager, tpool__workers_for_io(2), TPOOL_THREADS, 0, &b->pool));
    for (int i = 0; i < BLOCKERS; i++) assert_status(TPOOL_OK, tpool_submit(b->pool, wait_at, &b->held, NULL));
    AWAIT_ARRIVALS(&b->held, BLOCKERS);
    tpool_map_spec spec = { .fn = compute_as_told,
                            .context = b,
                            .items = b->t.items,
                            .count = FEW,
                            .stride = sizeof b->t.items[0],
                            .buffer_size = AHEAD };
    assert_status(TPOOL_OK, tpool_map_auto(b->manager, &spec, 0, &b->t.iter, NULL));
    tpool_map_iter *iter = b->t.iter;
    for (; iter->delivered < iter->taken; b->t.delivered++)
        assert_status(TPOOL_OK, tpool_map_next(iter, TPOOL_FOREVER, NULL));
    tpool__lock(&iter->lock);
    choice_begin = 0;
    iter->spec.buffer_size = buffer;
    if (!buffer) iter->available = FEW;
    iter->cost_ns = TPOOL_US(5);
    iter->measured = 1;
    iter->chooser->at_once = 2;
    assert_status(TPOOL_OK, tpool__chunk_queue(iter, TPOOL__PAST_CAPACITY));
    assert_non_null(iter->waiting);
    tpool__unlock(&iter->lock);
    atomic_store(&b->here, 0);
}
static void beside_end(beside *b) {
    tpool_map_close(b->t.iter);
    gate_open(&b->held);
    assert_status(TPOOL_OK, tpool_manager_release(b->manager, b->pool));
    tpool_manager_destroy(b->manager);
    cpu_clock_needs = 1;
    join_chunk = 20000;
}
static tpool_status consume_without_a_limit(void *context) {
    beside *b = context;
    b->consumer = pthread_self();
    for (; b->t.delivered < FEW; b->t.delivered++) {
        void *result = NULL;
        tpool_status status = tpool_map_next(b->t.iter, TPOOL_FOREVER, &result);
        if (status != TPOOL_OK) return status;
        if (result != &b->t.items[b->t.delivered]) return TPOOL_INVALID;
    }
    return tpool_map_next(b->t.iter, TPOOL_FOREVER, NULL);
}
static void the_consumer_runs_items_instead_of_a_wait(void **state) {
    (void)state;
    static beside b;
    static background consumer;
    for (size_t buffer = 0; buffer <= AHEAD; buffer += AHEAD) {
        b = (beside){ .held = GATE_CLOSED };
        beside_start(&b, buffer);
        int left = FEW - b.t.delivered;
        background_start(&consumer, consume_without_a_limit, &b);
        assert_status(TPOOL_END, background_join(&consumer));
        assert_int_equal(left, atomic_load(&b.here));
        beside_end(&b);
    }
}
static void with_a_limit_the_consumer_waits(void **state) {
    (void)state;
    static beside b;
    b = (beside){ .held = GATE_CLOSED };
    beside_start(&b, 0);
    assert_status(TPOOL_TIMEOUT, tpool_map_next(b.t.iter, TPOOL_MS(1), NULL));
    assert_int_equal(0, atomic_load(&b.here));
    beside_end(&b);
}
static void long_items_are_left_to_the_pool(void **state) {
    (void)state;
    static beside b;
    b = (beside){ .held = GATE_CLOSED };
    beside_start(&b, 0);
    tpool__lock(&b.t.iter->lock);
    assert_true(tpool__map_may_join(b.t.iter));
    join_chunk = 1;
    assert_false(tpool__map_may_join(b.t.iter));
    join_chunk = NEVER;
    b.t.iter->chooser->at_once = 4; /* they wait */
    assert_false(tpool__map_may_join(b.t.iter));
    b.t.iter->chooser->at_once = 2;
    tpool__unlock(&b.t.iter->lock);
    assert_status(TPOOL_OK, tpool_pause(b.pool));
    tpool__lock(&b.t.iter->lock);
    assert_false(tpool__map_may_join(b.t.iter));
    tpool__unlock(&b.t.iter->lock);
    assert_status(TPOOL_OK, tpool_resume(b.pool));
    beside_end(&b);
}
/* While the consumer runs a chunk, the pool refuses the next one, or somebody pauses the pool after the map has moved to
   the caller. */
static void be_refused(beside *b) {
    tpool__lock(&b->t.iter->lock);
    tpool__map_stays(b->t.iter);
    b->t.iter->chooser->stays_until = tpool_now() + NEVER;
    tpool__unlock(&b->t.iter->lock);
}
static void be_paused(beside *b) {
    tpool__lock(&b->t.iter->lock);
    b->t.iter->chooser->at_once = 0;
    tpool__unlock(&b->t.iter->lock);
    assert_status(TPOOL_OK, tpool_pause(b->pool));
}
static void check_left_after(void (*in_item)(beside *)) {
    static beside b;
    b = (beside){ .held = GATE_CLOSED };
    beside_start(&b, 0);
    b.in_item = in_item;
    assert_status(TPOOL_OK, tpool_map_next(b.t.iter, TPOOL_FOREVER, NULL));
    b.in_item = NULL;
    assert_true(atomic_load(&b.here) > 0);
    assert_int_equal(0, b.t.iter->chooser->at_once);
    assert_status(TPOOL_OK, tpool_resume(b.pool));
    beside_end(&b);
}
static void a_consumer_beside_a_pool_that_takes_nothing_does_not_choose_it(void **state) {
    (void)state;
    check_left_after(be_refused);
    check_left_after(be_paused);
}
/* The pool that the map is in is paused, and no longer pays. */
static void be_paused_and_useless(beside *b) {
    tpool__lock(&b->t.iter->lock);
    b->t.iter->chooser->cpus = 1;
    tpool__unlock(&b->t.iter->lock);
    assert_status(TPOOL_OK, tpool_pause(b->pool));
}
static void a_consumer_beside_a_paused_pool_may_leave_it(void **state) {
    (void)state;
    check_left_after(be_paused_and_useless);
}
/* As many chunks run as were chosen, so no other is due as the queued one is cancelled. */
static void be_cancelled(beside *b) {
    tpool__lock(&b->t.iter->lock);
    b->t.iter->chooser->at_once = 1;
    tpool__unlock(&b->t.iter->lock);
    assert_status(TPOOL_OK, tpool_shutdown(b->pool, TPOOL_CANCEL_PENDING));
}
static void a_chunk_that_a_shutdown_cancels_ends_the_map(void **state) {
    (void)state;
    static beside b;
    b = (beside){ .held = GATE_CLOSED };
    beside_start(&b, 0);
    b.in_item = be_cancelled;
    assert_status(TPOOL_OK, tpool_map_next(b.t.iter, TPOOL_FOREVER, NULL));
    b.in_item = NULL;
    assert_int_equal(TPOOL_CANCELLED, b.t.iter->aborted);
    for (int k = b.t.delivered + 1; k < FEW; k++) (void)!tpool_map_next(b.t.iter, LIMIT, NULL);
    assert_status(TPOOL_END, tpool_map_next(b.t.iter, LIMIT, NULL));
    beside_end(&b);
}
/* The map has left the pool, which is then paused; a chunk that still runs there ends. */
static void a_chunk_that_ends_in_a_paused_pool_does_not_choose_it(void **state) {
    (void)state;
    static gate held;
    static gated items[FEW];
    held = (gate)GATE_CLOSED;
    for (int i = 0; i < FEW; i++) items[i] = (gated){ &held, true };
    tpool_manager *manager = new_manager();
    tpool__store_relaxed(&manager->cpus, 2);
    tpool_map_spec spec = {
        .fn = pass_if_it_waits, .items = items, .count = FEW, .stride = sizeof items[0], .buffer_size = 1
    };
    tpool_map_iter *iter = NULL;
    choice_begin = NEVER;
    cpu_clock_needs = NEVER;
    gate_open(&held); /* the items that are tried */
    assert_status(TPOOL_OK, tpool_map_auto(manager, &spec, 0, &iter, NULL));
    held = (gate)GATE_CLOSED;
    tpool__lock(&iter->lock);
    choice_begin = 0;
    iter->spec.buffer_size = 0;
    iter->available = FEW;
    iter->cost_ns = NEVER; /* chunks of one */
    iter->measured = 1;
    iter->chooser->at_once = 1;
    assert_status(TPOOL_OK, tpool__chunk_queue(iter, TPOOL__PAST_CAPACITY));
    tpool__unlock(&iter->lock);
    AWAIT_ARRIVALS(&held, 1);
    tpool__lock(&iter->lock);
    iter->chooser->at_once = 0;
    tpool__unlock(&iter->lock);
    assert_status(TPOOL_OK, tpool_pause(iter->pool));
    gate_open(&held);
    for (unsigned running = 1; running > 0;) {
        tpool__lock(&iter->lock);
        running = iter->chooser->running;
        tpool__unlock(&iter->lock);
    }
    assert_int_equal(0, iter->chooser->at_once);
    assert_null(iter->waiting);
    assert_status(TPOOL_OK, tpool_resume(iter->pool));
    for (int i = 0; i < FEW; i++) assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, NULL));
    assert_status(TPOOL_END, tpool_map_next(iter, LIMIT, NULL));
    tpool_map_close(iter);
    tpool_manager_destroy(manager);
    cpu_clock_needs = 1;
}
/* Between the consumer's look and its chunk, a worker has started one, or all items have been taken. */
static void a_consumer_whose_place_the_pool_has_taken_runs_no_chunk(void **state) {
    (void)state;
    static beside b;
    for (int none_left = 0; none_left < 2; none_left++) {
        b = (beside){ .held = GATE_CLOSED };
        beside_start(&b, 0);
        tpool_map_iter *iter = b.t.iter;
        tpool__lock(&iter->lock);
        unsigned running = iter->chooser->running;
        size_t available = iter->available;
        if (none_left) iter->available = iter->taken;
        else iter->chooser->running = iter->chooser->at_once;
        tpool__unlock(&iter->lock);
        tpool__chunk *chunk = tpool__alloc(sizeof *chunk), *front = iter->front;
        assert_non_null(chunk);
        assert_true(tpool__run_beside(tpool__self(), iter, chunk));
        assert_int_equal(0, atomic_load(&b.here));
        assert_false(iter->chooser->joined);
        assert_ptr_equal(front, iter->front);
        tpool__lock(&iter->lock);
        iter->chooser->running = running;
        iter->available = available;
        tpool__unlock(&iter->lock);
        beside_end(&b);
    }
}
static tpool_status close_it(void *context) {
    tpool_map_close(((beside *)context)->t.iter);
    return TPOOL_OK;
}
/* The close gets what was not delivered. */
static void a_map_may_be_closed_when_the_consumer_has_run_a_chunk(void **state) {
    (void)state;
    for (int given = 1; given < 4; given++) {
        static beside b;
        static background closer;
        b = (beside){ .held = GATE_CLOSED };
        beside_start(&b, 0);
        for (int i = 0; i < given; i++) assert_status(TPOOL_OK, tpool_map_next(b.t.iter, TPOOL_FOREVER, NULL));
        assert_true(atomic_load(&b.here) > 3);
        background_start(&closer, close_it, &b);
        assert_status(TPOOL_OK, background_join(&closer));
        b.t.iter = NULL;
        beside_end(&b);
    }
}
static void *consume_till_it_ends(void *context) {
    (void)consume_without_a_limit(context);
    return NULL;
}
static void another_thread_goes_on_where_an_item_beside_the_pool_has_ended_the_consumer(void **state) {
    (void)state;
    for (int broken = AHEAD; broken < FEW; broken++) {
        static beside b;
        static background consumer;
        b = (beside){ .held = GATE_CLOSED };
        b.t.items[broken] = 1;
        beside_start(&b, 0);
        in_own_thread(consume_till_it_ends, &b);
        int before = b.t.delivered;
        assert_true(before <= broken && atomic_load(&b.here) > broken - AHEAD);
        for (; b.t.delivered < broken; b.t.delivered++) /* they have run, with it: no limit passes */
            assert_status(TPOOL_OK, tpool_map_next(b.t.iter, LIMIT, NULL));
        void *result = &b;
        assert_status(TPOOL_BROKEN, tpool_map_next(b.t.iter, LIMIT, &result));
        assert_null(result);
        b.t.delivered++;
        background_start(&consumer, consume_without_a_limit, &b);
        assert_status(TPOOL_END, background_join(&consumer));
        beside_end(&b);
    }
}
#if HAVE_FORK
static void the_child_of_an_item_beside_the_pool_goes_no_further(void **state) {
    (void)state;
    static beside b;
    b = (beside){ .t = { .items = { [AHEAD + 3] = 2 }, .child = -1 }, .held = GATE_CLOSED };
    beside_start(&b, 0);
    for (int i = b.t.delivered; i < FEW; i++) {
        void *result = NULL;
        tpool_status status = tpool_map_next(b.t.iter, TPOOL_FOREVER, &result);
        if (b.t.child == 0) {
            bool right = status == TPOOL_BROKEN && !result;
            tpool_map_close(b.t.iter);
            _exit(right ? 0 : 1);
        }
        assert_status(TPOOL_OK, status);
        assert_ptr_equal(&b.t.items[i], result);
    }
    assert_child_succeeds(b.t.child);
    beside_end(&b);
}
#endif
/* While the consumer counts among those that run chunks, one worker goes on with the queue, and wakes no other. When
   the consumer has not come back for long, another one comes. */
static void a_consumer_that_stays_away_is_replaced(void **state) {
    (void)state;
    enum { FREE = 20 };
    static gate held;
    static gated items[FREE + 40];
    for (int comes_back = 0; comes_back < 2; comes_back++) {
        held = (gate)GATE_CLOSED;
        for (int i = 0; i < FREE + 40; i++) items[i] = (gated){ &held, i >= FREE };
        tpool_manager *manager = new_manager();
        tpool__store_relaxed(&manager->cpus, 2);
        tpool_map_spec spec = {
            .fn = pass_if_it_waits, .items = items, .count = FREE + 40, .stride = sizeof items[0], .buffer_size = 1
        };
        tpool_map_iter *iter = NULL;
        choice_begin = NEVER;
        cpu_clock_needs = NEVER;
        assert_status(TPOOL_OK, tpool_map_auto(manager, &spec, 0, &iter, NULL));
        tpool__lock(&iter->lock);
        choice_begin = 0;
        iter->spec.buffer_size = 0;
        iter->available = FREE + 40;
        iter->cost_ns = NEVER; /* chunks of one */
        iter->measured = 1;
        iter->chooser->at_once = 2;
        iter->chooser->joined = true;
        iter->chooser->joined_until = comes_back ? TPOOL_FOREVER : 0;
        iter->chooser->running = 1;
        assert_status(TPOOL_OK, tpool__chunk_queue(iter, TPOOL__PAST_CAPACITY));
        tpool__unlock(&iter->lock);
        AWAIT_ARRIVALS(&held, comes_back ? 1 : 2);
        tpool__lock(&iter->lock);
        assert_int_equal(2, iter->chooser->running);
        assert_int_equal(comes_back, iter->chooser->joined);
        assert_null(iter->waiting);
        tpool__unlock(&iter->lock);
        tpool_stats stats;
        assert_status(TPOOL_OK, tpool_get_stats(iter->pool, &stats));
        if (comes_back) assert_int_equal(1, stats.workers);
        gate_open(&held);
        for (int i = 0; i < FREE + 40; i++) assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, NULL));
        assert_status(TPOOL_END, tpool_map_next(iter, LIMIT, NULL));
        assert_int_equal(0, iter->chooser->running);
        tpool_map_close(iter);
        tpool_manager_destroy(manager);
        cpu_clock_needs = 1;
    }
}

/* ---- What an item has listed ends the thread, in tpool_map_auto: all is closed and given back. */
static void end_in_due(tpool__thread *self, tpool__due *due) {
    (void)self;
    (void)due;
    end_here();
}
static void *list_an_end(void *item, void *context) {
    (void)context;
    static tpool__due ends;
    ends.call = end_in_due;
    tpool__list(tpool__self(), (uintptr_t)&ends | 2);
    return item;
}
typedef struct auto_call {
    tpool_manager *manager;
    tpool_map_iter *iter;
    bool returned;
} auto_call;
static void *map_what_lists(void *context) {
    auto_call *call = context;
    char items[3];
    tpool_map_spec spec = { .fn = list_an_end, .items = items, .count = 1, .stride = 1 };
    (void)!tpool_map_auto(call->manager, &spec, 0, &call->iter, NULL);
    call->returned = true;
    return NULL;
}
static void what_an_item_leaves_may_end_the_call(void **state) {
    (void)state;
    auto_call call = { .manager = new_manager() };
    choice_begin = NEVER;
    in_own_thread(map_what_lists, &call);
    assert_false(call.returned);
    assert_null(call.iter);
    assert_int_equal(0, manager_stats_of(call.manager).in_use);
    tpool_manager_destroy(call.manager);
}

/* ---- A source that ends the thread that asks it, in map_next, as often as the buffer holds items: none is left. */
typedef struct ending_source {
    told t;
    int given, ends_at, ends;
} ending_source;
static bool give_or_end(void *context, void **item) {
    ending_source *from = context;
    if (from->given == from->ends_at && from->ends-- > 0) end_here();
    if (from->given == FEW) return false;
    *item = &from->t.items[from->given++];
    return true;
}
static tpool_status deliver_the_rest(void *context) {
    ending_source *from = context;
    for (int i = from->ends_at; i < FEW; i++) {
        void *result = NULL;
        tpool_status status = tpool_map_next(from->t.iter, LIMIT, &result);
        if (status != TPOOL_OK) return status;
        if (result != &from->t.items[i]) return TPOOL_INVALID;
    }
    return tpool_map_next(from->t.iter, LIMIT, NULL);
}
static void a_source_that_ended_its_threads_is_asked_again(void **state) {
    (void)state;
    enum { MAP, CHUNKS_OF_ONE, HERE, KINDS };
    for (int kind = MAP; kind < KINDS; kind++)
        for (int buffer = 1; buffer <= AHEAD; buffer++) {
            static ending_source from;
            static background consumer;
            tpool_manager *manager = new_manager();
            from = (ending_source){ .ends_at = 9, .ends = buffer };
            tpool_map_spec spec = { .fn = give,
                                    .context = &from,
                                    .next = give_or_end,
                                    .chunk_size = kind != HERE,
                                    .buffer_size = (size_t)buffer };
            tpool *pool = NULL;
            choice_begin = NEVER;
            if (kind == MAP) {
                assert_status(TPOOL_OK, tpool_manager_get(manager, 2, TPOOL_THREADS, 0, &pool));
                assert_status(TPOOL_OK, tpool_map(pool, &spec, &from.t.iter));
            } else {
                assert_status(TPOOL_OK, tpool_map_auto(manager, &spec, 0, &from.t.iter, NULL));
            }
            for (int i = 0; i < buffer; i++) in_own_thread(consume_till_the_end, &from.t);
            assert_int_equal(from.ends_at - buffer, from.t.delivered); /* and so many were, as their threads ended */
            background_start(&consumer, deliver_the_rest, &from);
            assert_status(TPOOL_END, background_join(&consumer));
            tpool_map_close(from.t.iter);
            if (pool) assert_status(TPOOL_OK, tpool_manager_release(manager, pool));
            tpool_manager_destroy(manager);
        }
}

/* It ends the thread just as all items of a chunk are delivered, and fewer than a chunk needs are in the buffer. */
static void a_source_that_ended_its_thread_before_a_full_chunk_leaves_the_rest_to_the_next(void **state) {
    (void)state;
    static ending_source from;
    static background consumer;
    tpool *pool = new_pool(2);
    from = (ending_source){ .ends_at = AHEAD + 3, .ends = 1 };
    tpool_map_spec spec = {
        .fn = give, .context = &from, .next = give_or_end, .chunk_size = AHEAD, .buffer_size = AHEAD
    };
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &from.t.iter));
    in_own_thread(consume_till_the_end, &from.t);
    from.ends_at = from.t.delivered + 1; /* the item that was delivered as the thread ended is gone */
    background_start(&consumer, deliver_the_rest, &from);
    assert_status(TPOOL_END, background_join(&consumer));
    tpool_map_close(from.t.iter);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static const struct CMUnitTest tests[] = {
    TEST(items_that_compute_run_one_a_cpu),
    TEST(items_that_wait_run_more_at_once_than_there_are_cpus),
    TEST(little_work_stays_in_the_caller),
    TEST(a_small_buffer_keeps_short_items_in_the_caller),
    TEST(no_more_gain_than_there_are_chunks),
    TEST(the_last_items_end_where_they_are),
    TEST(items_that_may_wait_for_the_consumer_keep_off),
    TEST(of_a_source_as_much_is_left_as_it_has_given),
    TEST(what_was_long_ago_counts_little),
    TEST(what_is_known_of_cpu_time_remains_so),
    TEST(what_an_item_takes_is_told_as_it_is),
    TEST(nothing_is_submitted_for_items_in_the_caller),
    TEST(another_thread_goes_on_where_an_item_has_ended_the_consumer),
#if HAVE_FORK
    TEST(the_child_of_an_item_in_map_next_goes_no_further),
#endif
    TEST(no_more_chunks_run_than_were_chosen),
    TEST(a_change_of_mind_queues_a_chunk_at_once),
    TEST(a_pool_that_takes_nothing_leaves_the_items_to_the_caller),
    TEST(it_is_told_that_the_pool_takes_nothing),
    TEST(chunks_that_end_their_threads_go_on_in_a_pool_that_was_shut_down),
    TEST(functions_in_turn_are_remembered_each),
    TEST(waiting_items_keep_none_from_starting),
    TEST(a_chunk_that_ends_its_thread_makes_room_for_the_next),
    TEST(the_consumer_runs_items_instead_of_a_wait),
    TEST(with_a_limit_the_consumer_waits),
    TEST(long_items_are_left_to_the_pool),
    TEST(a_consumer_beside_a_pool_that_takes_nothing_does_not_choose_it),
    TEST(a_consumer_beside_a_paused_pool_may_leave_it),
    TEST(a_chunk_that_a_shutdown_cancels_ends_the_map),
    TEST(a_chunk_that_ends_in_a_paused_pool_does_not_choose_it),
    TEST(a_consumer_whose_place_the_pool_has_taken_runs_no_chunk),
    TEST(a_map_may_be_closed_when_the_consumer_has_run_a_chunk),
    TEST(another_thread_goes_on_where_an_item_beside_the_pool_has_ended_the_consumer),
#if HAVE_FORK
    TEST(the_child_of_an_item_beside_the_pool_goes_no_further),
#endif
    TEST(a_consumer_that_stays_away_is_replaced),
    TEST(what_an_item_leaves_may_end_the_call),
    TEST(a_source_that_ended_its_threads_is_asked_again),
    TEST(a_source_that_ended_its_thread_before_a_full_chunk_leaves_the_rest_to_the_next),
};
RUN_TESTS(tests)
