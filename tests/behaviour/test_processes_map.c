/* Maps over pools of processes, and limits of items and tasks that kill a process. */
#include "processes.h"

/* --- managed pools */

static void *for_ever(void *arg) {
    (void)arg;
    atomic_fetch_add(&all->gate.arrived, 1);
    for (;;) sleep_ms(1000);
    return NULL;
}
static void a_run_limit_kills_the_process_and_only_that_task(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    tpool_future *future, *next;
    const tpool_error *error;
    tpool_task task = { .fn = for_ever, .run_limit_ns = TPOOL_MS(20), .name = "slow" };
    future = submitted_task(pool, task);
    next = submitted(pool, getpid_task, NULL);
    assert_status(TPOOL_BROKEN, tpool_future_result(future, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_future_error(future, 0, &error));
    assert_int_equal(CODE_OF_KILL, error->code);
    assert_status(TPOOL_BROKEN, error->cause);
    if (HAVE_FORK) assert_non_null(strstr(error->message, "SIGKILL"));
    assert_non_null(strstr(error->message, "run_limit_ns"));
    assert_string_equal("slow", error->task);
    assert_status(TPOOL_OK, tpool_future_result(next, LIMIT, NULL));
    tpool_future_release(future);
    tpool_future_release(next);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void run_with_timeout_kills_the_process_and_only_that_task(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    tpool_future *future, *next;
    tpool_task task = { .fn = for_ever };
    assert_true(value_of(pool, getpid_task) > 0); /* the process is there */
    tpool_status end = TPOOL_CANCELLED;           /* again and longer where it had not even started */
    for (int64_t limit = TPOOL_MS(20); end == TPOOL_CANCELLED && limit < LIMIT; limit *= 2) {
        assert_status(TPOOL_TIMEOUT, tpool_run_with_timeout(pool, &task, limit, &future));
        end = tpool_future_result(future, LIMIT, NULL);
        if (end == TPOOL_CANCELLED) tpool_future_release(future);
    }
    assert_status(TPOOL_BROKEN, end);
    next = submitted(pool, getpid_task, NULL);
    assert_non_null(strstr(tpool_future_message(future), "tpool_run_with_timeout"));
    assert_status(TPOOL_OK, tpool_future_result(next, LIMIT, NULL));
    tpool_future_release(future);
    tpool_future_release(next);
    tpool_stats stats;
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_status(TPOOL_OK, tpool_get_stats(pool, &stats));
    assert_int_equal(1, stats.failed);
    assert_int_equal(2, stats.completed);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *end_when_asked_to_stop(void *arg) {
    while (!tpool_stop_requested()) { }
    return arg;
}
/* Whether the worker is killed, and whether another try follows, does not depend on which of two threads sees first that
 * the time is over. */
static void run_with_timeout_kills_a_task_that_would_stop_and_one_that_would_be_tried_again(void **state) {
    (void)state;
    enum { ROUNDS = 30 };
    tpool *pool = process_pool(1);
    assert_true(value_of(pool, getpid_task) > 0);
    int64_t limit = TPOOL_MS(8), enough = tpool_now() + LIMIT;
    int killed = 0;
    while (killed < ROUNDS && (killed < 4 || tpool_now() < enough)) { /* fewer where a process takes long to start */
        tpool_task task = { .fn = killed % 2 ? for_ever : end_when_asked_to_stop };
        if (killed % 2) task.retries = 2, task.retry_ns = LIMIT;
        tpool_future *future;
        assert_status(TPOOL_TIMEOUT, tpool_run_with_timeout(pool, &task, limit, &future));
        tpool_status end = end_of(future);
        if (end == TPOOL_CANCELLED && limit < LIMIT) { /* it had not even started */
            limit *= 2;
            continue;
        }
        assert_status(TPOOL_BROKEN, end);
        killed++;
    }
    assert_int_equal(killed, stats_of(pool).failed);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static gate ended = GATE_CLOSED;
static void wait_at_the_end(const tpool_event *event, void *context) {
    (void)context;
    if (event->kind == TPOOL_EVENT_ENDED && event->status == TPOOL_FAILED) gate_pass(&ended);
}
static void *fail_at_once(void *arg) { return tpool_raise(1, "%p", arg); }
/* The try is over, and the next one not yet awaited, as the time is over: there is nothing to kill. */
static void run_with_timeout_between_two_tries_lets_no_other_follow(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){
        .kind = TPOOL_PROCESSES, .max_workers = 1, .observer = wait_at_the_end, .observed = TPOOL_EVENT_ENDED });
    tpool_task task = { .fn = fail_at_once, .retries = 2, .retry_ns = 3 * LIMIT };
    tpool_future *future;
    assert_true(value_of(pool, getpid_task) > 0); /* the start of a process is not in the limit */
    for (int64_t limit = TPOOL_MS(100); gate_arrived(&ended) == 0 && limit < LIMIT; limit *= 2) {
        assert_status(TPOOL_TIMEOUT, tpool_run_with_timeout(pool, &task, limit, &future));
        if (gate_arrived(&ended) == 0) assert_status(TPOOL_CANCELLED, end_of(future)); /* it had not even started */
    }
    gate_open(&ended);
    assert_status(TPOOL_FAILED, end_of(future));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void kill_workers_breaks_what_runs_and_nothing_else(void **state) {
    (void)state;
    enum { RUNNING = 2, WAITING = 10 };
    tpool *pool = process_pool_as((tpool_config){ .max_workers = RUNNING });
    tpool_future *running[RUNNING], *waiting[WAITING];
    assert_status(TPOOL_OK, tpool_kill_workers(pool)); /* none yet */
    for (int i = 0; i < RUNNING; i++) assert_status(TPOOL_OK, tpool_submit(pool, for_ever, NULL, &running[i]));
    EVENTUALLY(atomic_load(&all->gate.arrived) == RUNNING);
    for (int i = 0; i < WAITING; i++) assert_status(TPOOL_OK, tpool_submit(pool, getpid_task, NULL, &waiting[i]));
    assert_status(TPOOL_OK, tpool_kill_workers(pool));
    for (int i = 0; i < RUNNING; i++) {
        assert_status(TPOOL_BROKEN, tpool_future_result(running[i], LIMIT, NULL));
        assert_non_null(strstr(tpool_future_message(running[i]), "tpool_kill_workers"));
        tpool_future_release(running[i]);
    }
    for (int i = 0; i < WAITING; i++) {
        assert_status(TPOOL_OK, end_of(waiting[i]));
    }
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_status(TPOOL_OK, tpool_kill_workers(pool)); /* idle ones */
    assert_true(value_of(pool, getpid_task) > 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- map */

static void *add_context(void *item, void *context) { return (void *)(intptr_t)(*(int *)item + *(int *)context); }
static void map_over_an_array(void **state) {
    (void)state;
    enum { ITEMS = 1000 };
    static const size_t chunks[] = { 0, 1, 7, 1000 };
    int items[ITEMS], context = 5;
    for (int i = 0; i < ITEMS; i++) items[i] = i;
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 2 });
    for (int c = 0; c < 4; c++) {
        tpool_map_spec spec = { .fn = add_context,
                                .context = &context,
                                .context_size = sizeof context,
                                .items = items,
                                .count = ITEMS,
                                .stride = sizeof(int),
                                .item_size = sizeof(int),
                                .chunk_size = chunks[c] };
        tpool_map_iter *iter;
        void *result;
        assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
        for (int i = 0; i < ITEMS; i++) {
            assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, &result));
            assert_int_equal(i + 5, (intptr_t)result);
        }
        assert_status(TPOOL_END, tpool_map_next(iter, LIMIT, &result));
        tpool_map_close(iter);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

typedef struct record {
    char pad[5];
    unsigned char n;
    char rest[94];
} record;
static void *bytes_or_error(void *item, void *context) {
    record *r = item;
    unsigned char bytes[10000];
    (void)context;
    if (r->n % 10 == 3) return tpool_raise(r->n, "item %d", r->n);
    if (r->n % 10 == 5) return tpool_return_owned(malloc(1), free);
    memset(bytes, r->n, sizeof bytes);
    return tpool_return(bytes, (size_t)r->n * 40);
}
static void each_item_has_its_own_result_bytes_and_error(void **state) {
    (void)state;
    enum { ITEMS = 200 }; /* their results are more than fits at once */
    record items[ITEMS];
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 2 });
    memset(items, 0, sizeof items);
    for (int i = 0; i < ITEMS; i++) items[i].n = (unsigned char)i;
    tpool_map_spec spec = {
        .fn = bytes_or_error, .items = items, .count = ITEMS, .stride = sizeof *items, .item_size = 6, .chunk_size = 100
    };
    tpool_map_iter *iter;
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    for (int i = 0; i < ITEMS; i++) {
        void *result;
        const tpool_error *error;
        tpool_status status = tpool_map_next(iter, LIMIT, &result);
        assert_status(TPOOL_OK, tpool_map_error(iter, &error));
        if (i % 10 == 3 || i % 10 == 5) {
            assert_status(TPOOL_FAILED, status);
            assert_int_equal(i % 10 == 3 ? i : EINVAL, error->code);
        } else {
            assert_status(TPOOL_OK, status);
            assert_null(error);
            assert_int_equal(i * 40, tpool_map_result_size(iter));
            if (i) assert_int_equal(i, ((unsigned char *)result)[i * 40 - 1]);
        }
    }
    tpool_map_close(iter);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

typedef struct source {
    int next, end;
} source;
static bool next_item(void *context, void **item) {
    source *s = context;
    if (s->next == s->end) return false;
    int *n = malloc(sizeof *n);
    *n = s->next++;
    *item = n;
    return true;
}
static void free_item(void *item, void *context) {
    (void)context;
    free(item);
    atomic_fetch_add(&all->second, 1);
}
static void *twice(void *item, void *context) { return context ? NULL : (void *)(intptr_t)(2 * *(int *)item); }
static void map_over_a_source(void **state) {
    (void)state;
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 2 });
    source s = { 0, 300 };
    tpool_map_spec spec = { .fn = twice,
                            .context = &s,
                            .next = next_item,
                            .buffer_size = 16,
                            .item_free = free_item,
                            .item_size = sizeof(int),
                            .chunk_size = 4 };
    tpool_map_iter *iter;
    void *result;
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    for (int i = 0; i < 200; i++) {
        assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, &result));
        assert_int_equal(2 * i, (intptr_t)result);
        assert_int_equal(i, *(int *)tpool_map_item(iter));
        assert_int_equal(i, atomic_load(&all->second)); /* freed in the next call */
    }
    tpool_map_close(iter);
    assert_int_equal(s.next, atomic_load(&all->second));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* An item beyond its limit is killed, and is the only one that ends so; the others' times do not add up to it. */
static void *sleep_item(void *item, void *context) {
    (void)context;
    sleep_ms(*(int *)item);
    return tpool_return(item, sizeof(int));
}
static void an_item_that_runs_too_long_is_killed_alone(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    int items[] = { 250, 250, 100000, 0, 250, 100000, 0 };
    for (size_t chunk = 1; chunk <= 7; chunk += 6) {
        tpool_map_spec spec = { .fn = sleep_item,
                                .items = items,
                                .count = 7,
                                .stride = sizeof(int),
                                .item_size = sizeof(int),
                                .chunk_size = chunk,
                                .run_limit_ns = TPOOL_MS(700) };
        tpool_map_iter *iter;
        void *result;
        const tpool_error *error;
        assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
        for (int i = 0; i < 7; i++) {
            tpool_status status = tpool_map_next(iter, LIMIT, &result);
            assert_ptr_equal(&items[i], tpool_map_item(iter));
            assert_status(items[i] > 1000 ? TPOOL_BROKEN : TPOOL_OK, status);
            if (status == TPOOL_OK) assert_int_equal(items[i], *(int *)result);
            if (status == TPOOL_OK) continue;
            assert_status(TPOOL_OK, tpool_map_error(iter, &error));
            assert_int_equal(CODE_OF_KILL, error->code);
            assert_non_null(strstr(error->message, "run_limit_ns"));
        }
        assert_status(TPOOL_END, tpool_map_next(iter, LIMIT, &result));
        tpool_map_close(iter);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *gate_item(void *item, void *context) {
    (void)context;
    shared_gate_pass(&all->gate);
    atomic_fetch_add(&all->count, 1);
    return item;
}
static tpool_status call_close(void *iter) {
    tpool_map_close(iter);
    return TPOOL_OK;
}
static void closing_a_map_leaves_out_the_rest_of_a_chunk(void **state) {
    (void)state;
    int items[50] = { 0 };
    background closing;
    tpool *pool = process_pool(1);
    tpool_map_iter *iter = map_over_ints(pool, gate_item, items, 50, 50);
    EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
    background_start(&closing, call_close, iter);
    background_await_block(&closing); /* it has told the process, and waits for the item that runs */
    atomic_store(&all->gate.open, 1);
    background_join(&closing);
    assert_int_equal(1, atomic_load(&all->count));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void map_needs_sizes(void **state) {
    (void)state;
    int items[2] = { 0 };
    tpool *pool = process_pool(1);
    tpool_map_iter *iter = (tpool_map_iter *)items;
    tpool_map_spec spec = { .fn = twice, .items = items, .count = 2, .stride = sizeof(int) };
    assert_status(TPOOL_INVALID, tpool_map(pool, &spec, &iter));
    assert_null(iter);
    spec.item_size = sizeof(int);
    spec.context_size = 1;
    assert_status(TPOOL_INVALID, tpool_map(pool, &spec, &iter));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static const struct CMUnitTest tests[] = {
    PROCESS_TEST(a_run_limit_kills_the_process_and_only_that_task),
    PROCESS_TEST(run_with_timeout_kills_the_process_and_only_that_task),
    PROCESS_TEST(run_with_timeout_kills_a_task_that_would_stop_and_one_that_would_be_tried_again),
    PROCESS_TEST(run_with_timeout_between_two_tries_lets_no_other_follow),
    PROCESS_TEST(kill_workers_breaks_what_runs_and_nothing_else),
    PROCESS_TEST(map_over_an_array),
    PROCESS_TEST(each_item_has_its_own_result_bytes_and_error),
    PROCESS_TEST(map_over_a_source),
    PROCESS_TEST(an_item_that_runs_too_long_is_killed_alone),
    PROCESS_TEST(closing_a_map_leaves_out_the_rest_of_a_chunk),
    PROCESS_TEST(map_needs_sizes),
};
RUN_PROCESS_TESTS(tests)
