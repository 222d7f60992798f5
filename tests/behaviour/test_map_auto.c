/* tpool_map_auto: a map that chooses by itself where its items run. Where the choice matters, items sleep so long that
   no machine can take them for short ones. */
#include "maps.h"
#include "support/managers.h"
#ifdef __linux__
#include <sched.h>
#endif
#if HAVE_FORK
#include "support/children.h"
#endif

static tpool_map_iter *start_auto(tpool_manager *manager, const tpool_map_spec *spec, tpool_choice *choice) {
    tpool_map_iter *iter = NULL;
    assert_status(TPOOL_OK, tpool_map_auto(manager, spec, 0, &iter, choice));
    assert_non_null(iter);
    return iter;
}
/* Nothing is lent any more, and the manager goes. */
static void destroy(tpool_manager *manager) {
    assert_int_equal(0, manager_stats_of(manager).in_use);
    tpool_manager_destroy(manager);
}

/* ---- The same as tpool_map. */

static void check_array(tpool_manager *manager, size_t count, size_t chunk_size, size_t buffer_size, bool unordered) {
    cell *cells = make_cells(count);
    bool *came = calloc(count + 1, sizeof *came);
    assert_non_null(came);
    int add = 7;
    tpool_map_spec spec = { .fn = run_cell,
                            .context = &add,
                            .items = cells,
                            .count = count,
                            .stride = sizeof *cells,
                            .chunk_size = chunk_size,
                            .buffer_size = buffer_size,
                            .unordered = unordered };
    tpool_choice choice;
    tpool_map_iter *iter = start_auto(manager, &spec, &choice);
    assert_int_equal(TPOOL_THREADS, choice.kind);
    assert_true(choice.reason[0] && choice.speedup >= 1 && choice.tried <= count &&
                (choice.tried || !count) == (chunk_size != 1 || !count));
    assert_true((choice.workers == 0) == (choice.chunk_size == 0) || choice.tried == count);
    for (size_t i = 0; i < count; i++) {
        intptr_t got = (intptr_t)next(iter);
        size_t index = tpool_map_index(iter);
        assert_true(index < count && !came[index] && (unordered || index == i));
        came[index] = true;
        assert_int_equal(2 * (intptr_t)index + 7, got);
        assert_ptr_equal(&cells[index], tpool_map_item(iter));
    }
    check_none(iter, LIMIT, TPOOL_END);
    check_none(iter, 0, TPOOL_END);
    tpool_map_close(iter);
    for (size_t i = 0; i < count; i++) assert_int_equal(1, atomic_load(&cells[i].runs));
    free(cells);
    free(came);
}
static void each_item_runs_once_and_comes_in_order(void **state) {
    (void)state;
    static const size_t counts[] = { 0, 1, 2, 9, 100, 3000 }, buffers[] = { 0, 1, 5, 200 };
    tpool_manager *manager = new_manager();
    for (size_t i = 0; i < CHUNK_SIZES; i++)
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++)
            for (size_t b = 0; b < sizeof buffers / sizeof buffers[0]; b++)
                for (int unordered = 0; unordered < 2; unordered++)
                    check_array(manager, counts[c], chunk_sizes[i], buffers[b], unordered);
    destroy(manager);
}
static void the_global_manager_lends_the_pool(void **state) {
    (void)state;
    check_array(NULL, 300, 0, 0, false);
    assert_int_equal(0, manager_stats_of(tpool_manager_global()).in_use);
}

static void a_source_is_asked_for_no_more_than_the_buffer_holds(void **state) {
    (void)state;
    tpool_manager *manager = new_manager();
    for (size_t i = 0; i < CHUNK_SIZES; i++) {
        source s = { .most = 500, .consumer = pthread_self() };
        tpool_map_spec spec = source_spec(&s, chunk_sizes[i], 20);
        tpool_map_iter *iter = start_auto(manager, &spec, NULL);
        assert_int_equal(20, s.taken);
        for (int n = 0; n < 500; n++) {
            check_source_item(iter, n);
            assert_int_equal(n + 21 < 500 ? n + 21 : 500, s.taken);
            assert_int_equal(n, atomic_load(&s.freed));
        }
        check_none(iter, LIMIT, TPOOL_END);
        tpool_map_close(iter);
        assert_int_equal(500, atomic_load(&s.ran));
        assert_int_equal(500, atomic_load(&s.freed));
        assert_int_equal(0, atomic_load(&s.freed_twice));
        assert_false(s.strange_thread);
    }
    destroy(manager);
}
static void it_may_be_closed_at_any_point(void **state) {
    (void)state;
    tpool_manager *manager = new_manager();
    for (int round = 0; round < COUNT(300); round++) {
        source s = { .most = round % 3 == 0 ? 12 : -1, .consumer = pthread_self() };
        tpool_map_spec spec = source_spec(&s, chunk_sizes[(size_t)round % CHUNK_SIZES], (size_t)(round % 37) + 1);
        tpool_map_iter *iter = start_auto(manager, &spec, NULL);
        for (int i = 0; i < round % 11; i++) check_source_item(iter, i);
        tpool_map_close(iter);
        assert_int_equal(s.taken, atomic_load(&s.freed));
        assert_int_equal(0, atomic_load(&s.freed_twice));
    }
    destroy(manager);
}

static void *give_bytes(void *item, void *context) {
    (void)context;
    int n = *(const int *)item;
    if (n % 3 == 0) return tpool_raise(n, "item %d", n);
    if (n % 3 == 1) return tpool_return(&n, sizeof n);
    char *owned = malloc(8);
    if (owned) snprintf(owned, 8, "%d", n);
    return tpool_return_owned(owned, free);
}
static void results_and_errors_are_each_items_own(void **state) {
    (void)state;
    int numbers[300];
    for (int i = 0; i < 300; i++) numbers[i] = i;
    tpool_manager *manager = new_manager();
    for (int given_up = 0; given_up <= 300; given_up += 100) { /* what is not asked for is freed */
        tpool_map_spec spec = { .fn = give_bytes, .items = numbers, .count = 300, .stride = sizeof numbers[0] };
        tpool_map_iter *iter = start_auto(manager, &spec, NULL);
        for (int i = 0; i < given_up; i++) {
            void *result = NULL;
            const tpool_error *error = NULL;
            assert_status(i % 3 == 0 ? TPOOL_FAILED : TPOOL_OK, tpool_map_next(iter, LIMIT, &result));
            assert_status(TPOOL_OK, tpool_map_error(iter, &error));
            assert_int_equal(i % 3 == 1 ? sizeof(int) : 0, tpool_map_result_size(iter));
            if (i % 3 == 0) assert_int_equal(i, error->code);
            if (i % 3 == 1) assert_int_equal(i, *(int *)result);
            if (i % 3 == 2) assert_int_equal(i, atoi(result));
        }
        tpool_map_close(iter);
    }
    destroy(manager);
}

static void *until_stopped(void *item, void *context) {
    int64_t end = tpool_now() + LIMIT;
    (void)item;
    while (!tpool_stop_requested() && tpool_now() < end) sleep_ms(1);
    atomic_fetch_add((atomic_int *)context, tpool_stop_requested());
    return NULL;
}
static void an_item_in_the_caller_has_its_run_limit(void **state) {
    (void)state;
    atomic_int stopped = 0;
    char items[3];
    tpool_manager *manager = new_manager();
    tpool_map_spec spec = {
        .fn = until_stopped, .context = &stopped, .items = items, .count = 3, .stride = 1, .run_limit_ns = TPOOL_MS(5)
    };
    tpool_choice choice;
    tpool_map_iter *iter = start_auto(manager, &spec, &choice);
    assert_int_equal(1, choice.tried);
    for (int i = 0; i < 3; i++) (void)next(iter);
    assert_int_equal(3, atomic_load(&stopped));
    tpool_map_close(iter);
    destroy(manager);
}

static void bad_calls_are_invalid(void **state) {
    (void)state;
    cell cells[2] = { { .value = 0 } };
    int context = 0;
    tpool_map_spec good = {
        .fn = run_cell, .context = &context, .items = cells, .count = 2, .stride = sizeof cells[0]
    };
    source s = { .most = 1, .consumer = pthread_self() };
    tpool_map_spec no_fn = good, both = source_spec(&s, 0, 3), no_buffer = source_spec(&s, 0, 0), neither = good;
    no_fn.fn = NULL;
    both.items = cells;
    neither.items = NULL;
    const tpool_map_spec *bad[] = { NULL, &no_fn, &both, &no_buffer, &neither };
    tpool_manager *manager = new_manager();
    tpool_map_iter *iter;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        iter = (tpool_map_iter *)&context;
        assert_status(TPOOL_INVALID, tpool_map_auto(manager, bad[i], 0, &iter, NULL));
        assert_null(iter);
    }
    assert_status(TPOOL_INVALID, tpool_map_auto(manager, &good, 0, NULL, NULL));
    assert_status(TPOOL_INVALID, tpool_map_auto(manager, &good, TPOOL_FORCE_NEW, &iter, NULL));
    assert_status(TPOOL_INVALID, tpool_map_auto(manager, &good, TPOOL_ISOLATE, &iter, NULL)); /* no item_size */
    assert_status(TPOOL_OK, tpool_manager_shutdown(manager, false));
    assert_status(TPOOL_SHUTDOWN, tpool_map_auto(manager, &good, 0, &iter, NULL));
    assert_null(iter);
    assert_int_equal(0, atomic_load(&cells[0].runs));
    destroy(manager);
}

/* ---- The hard cases. */

/* Counts what runs in the consumer's thread and elsewhere; sleeps for the items from `begin` on, or for those before
   `end`. */
typedef struct sleepers {
    pthread_t consumer;
    size_t begin, end; /* those from begin to end sleep */
    int ms;
    atomic_int here, elsewhere;
} sleepers;
static void *sleep_in_some(void *item, void *context) {
    sleepers *s = context;
    size_t index = *(const size_t *)item;
    atomic_fetch_add(pthread_equal(pthread_self(), s->consumer) ? &s->here : &s->elsewhere, 1);
    if (index >= s->begin && index < s->end) sleep_ms(s->ms);
    return (void *)(index + 1);
}
static void run_sleepers(tpool_manager *manager, sleepers *s, size_t count, tpool_choice *choice) {
    size_t *numbers = malloc((count + 1) * sizeof *numbers);
    assert_non_null(numbers);
    for (size_t i = 0; i < count; i++) numbers[i] = i;
    s->consumer = pthread_self();
    tpool_map_spec spec = {
        .fn = sleep_in_some, .context = s, .items = numbers, .count = count, .stride = sizeof *numbers
    };
    tpool_map_iter *iter = start_auto(manager, &spec, choice);
    for (size_t i = 0; i < count; i++) assert_int_equal(i + 1, (size_t)next(iter));
    check_none(iter, LIMIT, TPOOL_END);
    tpool_map_close(iter);
    free(numbers);
    assert_int_equal(count, atomic_load(&s->here) + atomic_load(&s->elsewhere));
}
static void items_that_sleep_run_many_at_once(void **state) {
    (void)state;
    tpool_manager *manager = new_manager();
    sleepers s = { .end = 40, .ms = 10 };
    tpool_choice choice;
    run_sleepers(manager, &s, 40, &choice);
    assert_int_equal(1, choice.tried);
    assert_int_equal(1, atomic_load(&s.here));
    assert_true(choice.workers > 1 && choice.speedup > 1 && choice.chunk_size >= 1);
    assert_true(choice.item_ns >= TPOOL_MS(5) && choice.cpu_ns <= choice.item_ns);
    destroy(manager);
}
static void a_long_first_item_may_have_nothing_behind_it(void **state) {
    (void)state;
    tpool_manager *manager = new_manager();
    sleepers s = { .end = 1, .ms = 100 };
    tpool_choice choice;
    run_sleepers(manager, &s, 50000, &choice);
    assert_int_equal(1, choice.tried);
    destroy(manager);
}
static void a_thousand_short_items_may_have_long_ones_behind_them(void **state) {
    (void)state;
    tpool_manager *manager = new_manager();
    sleepers s = { .begin = 1000, .end = 1080, .ms = 10 };
    run_sleepers(manager, &s, 1080, NULL);
    assert_true(atomic_load(&s.elsewhere) >= 40);
    destroy(manager);
}
static void none_and_one(void **state) {
    (void)state;
    tpool_manager *manager = new_manager();
    sleepers s = { .end = 1, .ms = 20 };
    tpool_choice choice;
    run_sleepers(manager, &s, 0, &choice);
    assert_int_equal(0, choice.tried + (size_t)choice.workers);
    run_sleepers(manager, &s, 1, &choice);
    assert_int_equal(1, choice.tried);
    assert_int_equal(0, choice.workers);
    assert_int_equal(1, atomic_load(&s.here));
    destroy(manager);
}

typedef struct slow_source {
    size_t given, count;
    sleepers s;
    size_t numbers[60];
} slow_source;
static bool next_number(void *context, void **item) {
    slow_source *from = context;
    if (from->given == from->count) return false;
    from->numbers[from->given] = from->given;
    *item = &from->numbers[from->given++];
    return true;
}
static void *sleep_of_source(void *item, void *context) { return sleep_in_some(item, &((slow_source *)context)->s); }
static void a_source_may_be_of_any_length(void **state) {
    (void)state;
    tpool_manager *manager = new_manager();
    for (size_t count = 0; count <= 60; count += 20) {
        slow_source from = { .count = count, .s = { .end = 60, .ms = 10, .consumer = pthread_self() } };
        tpool_map_spec spec = { .fn = sleep_of_source, .context = &from, .next = next_number, .buffer_size = 10 };
        tpool_choice choice;
        tpool_map_iter *iter = start_auto(manager, &spec, &choice);
        assert_true(count == 0 || choice.workers > 1);
        for (size_t i = 0; i < count; i++) assert_int_equal(i + 1, (size_t)next(iter));
        check_none(iter, LIMIT, TPOOL_END);
        tpool_map_close(iter);
        if (count) assert_int_equal(1, atomic_load(&from.s.here));
    }
    destroy(manager);
}

static void an_item_may_wait_for_the_consumer_if_it_is_a_chunk(void **state) {
    (void)state;
    enum { count = 20 };
    gate gates[count];
    for (int i = 0; i < count; i++) gates[i] = (gate)GATE_CLOSED;
    tpool_manager *manager = new_manager();
    tpool_map_spec spec = {
        .fn = pass_own_gate, .items = gates, .count = count, .stride = sizeof gates[0], .chunk_size = 1
    };
    tpool_choice choice;
    tpool_map_iter *iter = start_auto(manager, &spec, &choice);
    assert_int_equal(0, choice.tried);
    assert_true(choice.workers > 0 && choice.chunk_size == 1);
    for (int i = 0; i < count; i++) {
        check_none(iter, 0, TPOOL_TIMEOUT);
        gate_open(&gates[i]);
        assert_ptr_equal(&gates[i], next(iter));
    }
    check_none(iter, LIMIT, TPOOL_END);
    tpool_map_close(iter);
    destroy(manager);
}

/* In a worker of the very pool: each item is a map itself. */
typedef struct outer {
    tpool_manager *manager;
    atomic_int wrong;
} outer;
static void *map_within(void *item, void *context) {
    outer *o = context;
    size_t numbers[12], sum = 0, got = 0;
    sleepers s = { .end = *(const size_t *)item % 2 ? 12 : 0, .ms = 2, .consumer = pthread_self() };
    for (size_t i = 0; i < 12; i++) numbers[i] = i;
    tpool_map_spec spec = {
        .fn = sleep_in_some, .context = &s, .items = numbers, .count = 12, .stride = sizeof numbers[0]
    };
    tpool_map_iter *iter = NULL;
    void *result;
    if (tpool_map_auto(o->manager, &spec, 0, &iter, NULL) != TPOOL_OK) atomic_fetch_add(&o->wrong, 1);
    while (tpool_map_next(iter, TPOOL_FOREVER, &result) == TPOOL_OK) {
        sum += (size_t)result;
        got++;
    }
    tpool_map_close(iter);
    if (got != 12 || sum != 78) atomic_fetch_add(&o->wrong, 1);
    return (void *)(sum + 1);
}
static void a_map_may_run_in_a_worker_of_its_pool(void **state) {
    (void)state;
    outer o = { .manager = new_manager() };
    size_t numbers[30];
    for (size_t i = 0; i < 30; i++) numbers[i] = i + 1;
    tpool_map_spec spec = {
        .fn = map_within, .context = &o, .items = numbers, .count = 30, .stride = sizeof numbers[0]
    };
    tpool_map_iter *iter = start_auto(o.manager, &spec, NULL);
    for (size_t i = 0; i < 30; i++) assert_int_equal(79, (size_t)next(iter));
    check_none(iter, LIMIT, TPOOL_END);
    tpool_map_close(iter);
    assert_int_equal(0, atomic_load(&o.wrong));
    destroy(o.manager);
}

#ifdef __linux__
static void items_that_wait_gain_on_one_cpu_too(void **state) {
    (void)state;
    cpu_set_t mine, one;
    assert_int_equal(0, sched_getaffinity(0, sizeof mine, &mine));
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++)
        if (CPU_ISSET(cpu, &mine)) CPU_SET(cpu, &one);
    assert_int_equal(0, sched_setaffinity(0, sizeof one, &one));
    tpool_manager *manager = new_manager();
    sleepers s = { .end = 30, .ms = 10 };
    tpool_choice choice;
    run_sleepers(manager, &s, 30, &choice);
    assert_int_equal(0, sched_setaffinity(0, sizeof mine, &mine));
    assert_int_equal(2, choice.workers);
    assert_int_equal(29, atomic_load(&s.elsewhere));
    destroy(manager);
}
#endif

/* ---- Items that end their thread. */

static void *end_if_told(void *item, void *context) {
    (void)context;
    if (*(const int *)item == 1) end_here();
    if (*(const int *)item == 2) sleep_ms(10);
    return item;
}
typedef struct ender {
    tpool_manager *manager;
    int items[40];
    tpool_map_iter *iter;
    atomic_bool returned;
} ender;
static tpool_map_spec ender_spec(ender *e) {
    return (tpool_map_spec){ .fn = end_if_told, .items = e->items, .count = 40, .stride = sizeof e->items[0] };
}
static void *map_and_end(void *context) {
    ender *e = context;
    tpool_map_spec spec = ender_spec(e);
    (void)!tpool_map_auto(e->manager, &spec, 0, &e->iter, NULL);
    atomic_store(&e->returned, true);
    return NULL;
}
static void an_item_that_ends_the_caller_closes_the_map(void **state) {
    (void)state;
    ender e = { .manager = new_manager(), .items = { 1 } };
    in_own_thread(map_and_end, &e);
    assert_false(atomic_load(&e.returned));
    assert_null(e.iter);
    destroy(e.manager);
}
static void an_item_that_ends_a_worker_is_broken_and_the_rest_goes_on(void **state) {
    (void)state;
    ender e = { .manager = new_manager() };
    tpool_map_spec spec = ender_spec(&e);
    for (int i = 0; i < 40; i++) e.items[i] = i > 4 && i % 3 == 1 ? 1 : 2;
    tpool_map_iter *iter = start_auto(e.manager, &spec, NULL);
    for (int i = 0; i < 40; i++) {
        void *result = NULL;
        assert_status(e.items[i] == 1 ? TPOOL_BROKEN : TPOOL_OK, tpool_map_next(iter, LIMIT, &result));
        assert_ptr_equal(e.items[i] == 1 ? NULL : &e.items[i], result);
    }
    check_none(iter, LIMIT, TPOOL_END);
    tpool_map_close(iter);
    destroy(e.manager);
}

#if HAVE_FORK
static void *fork_in_first(void *item, void *context) {
    pid_t *child = context;
    if (*(const int *)item == 1) {
        fflush(NULL);
        *child = fork();
        if (*child == 0) child_begin(LIMIT_SECONDS);
    }
    return item;
}
static void the_child_of_an_item_in_the_caller_gets_no_iterator(void **state) {
    (void)state;
    int items[3] = { 1 };
    pid_t child = 0;
    tpool_manager *manager = new_manager();
    tpool_map_spec spec = {
        .fn = fork_in_first, .context = &child, .items = items, .count = 3, .stride = sizeof items[0]
    };
    tpool_map_iter *iter = NULL;
    tpool_status status = tpool_map_auto(manager, &spec, 0, &iter, NULL);
    if (child == 0) _exit(status == TPOOL_BROKEN && !iter ? 0 : 1);
    assert_status(TPOOL_OK, status);
    assert_child_succeeds(child);
    for (int i = 0; i < 3; i++) assert_ptr_equal(&items[i], next(iter));
    tpool_map_close(iter);
    destroy(manager);
}

static void *die_in_one(void *item, void *context) {
    (void)context;
    if (*(const int *)item == 3) _exit(7);
    return (void *)(intptr_t)(*(const int *)item * 2 + (getppid() != 0));
}
static void isolated_items_run_in_processes_from_the_first_on(void **state) {
    (void)state;
    NO_PROCESSES();
    int items[9];
    for (int i = 0; i < 9; i++) items[i] = i;
    tpool_manager *manager = new_manager();
    tpool_map_spec spec = {
        .fn = die_in_one, .items = items, .count = 9, .stride = sizeof items[0], .item_size = sizeof items[0]
    };
    tpool_map_iter *iter = NULL;
    tpool_choice choice;
    assert_status(TPOOL_OK, tpool_map_auto(manager, &spec, TPOOL_ISOLATE, &iter, &choice));
    assert_int_equal(TPOOL_PROCESSES, choice.kind);
    assert_int_equal(0, choice.tried);
    assert_true(choice.workers >= 1 && choice.chunk_size >= 1);
    for (int i = 0; i < 9; i++) {
        void *result = NULL;
        assert_status(i == 3 ? TPOOL_BROKEN : TPOOL_OK, tpool_map_next(iter, LIMIT, &result));
        if (i != 3) assert_int_equal(i * 2 + 1, (intptr_t)result);
    }
    check_none(iter, LIMIT, TPOOL_END);
    tpool_map_close(iter);
    destroy(manager);
}
#endif

static const struct CMUnitTest tests[] = {
    TEST(each_item_runs_once_and_comes_in_order),
    TEST(the_global_manager_lends_the_pool),
    TEST(a_source_is_asked_for_no_more_than_the_buffer_holds),
    TEST(it_may_be_closed_at_any_point),
    TEST(results_and_errors_are_each_items_own),
    TEST(an_item_in_the_caller_has_its_run_limit),
    TEST(bad_calls_are_invalid),
    TEST(items_that_sleep_run_many_at_once),
    TEST(a_long_first_item_may_have_nothing_behind_it),
    TEST(a_thousand_short_items_may_have_long_ones_behind_them),
    TEST(none_and_one),
    TEST(a_source_may_be_of_any_length),
    TEST(an_item_may_wait_for_the_consumer_if_it_is_a_chunk),
    TEST(a_map_may_run_in_a_worker_of_its_pool),
#ifdef __linux__
    TEST(items_that_wait_gain_on_one_cpu_too),
#endif
    TEST(an_item_that_ends_the_caller_closes_the_map),
    TEST(an_item_that_ends_a_worker_is_broken_and_the_rest_goes_on),
#if HAVE_FORK
    TEST(the_child_of_an_item_in_the_caller_gets_no_iterator),
    TEST(isolated_items_run_in_processes_from_the_first_on),
#endif
};
RUN_TESTS(tests)
