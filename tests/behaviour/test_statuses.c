/* Which status comes first, when a call has several to choose from; and what a map, a submit of many, a full queue and
   a child of fork give at the end of a pool. */
#include "support.h"

static void no_body(size_t begin, size_t end, void *context) {
    (void)begin;
    (void)end;
    (void)context;
}

/* ---- Which status comes first ---- */

static void a_shut_pool_is_shut_before_it_is_full(void **state) {
    (void)state;
    for (int policy = TPOOL_FULL_BLOCK; policy <= TPOOL_FULL_DROP_OLDEST; policy++) {
        static gate hold;
        static atomic_int runs;
        hold = (gate)GATE_CLOSED;
        tpool *pool =
            new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1, .on_full = (tpool_full_policy)policy });
        tpool_future *holder = submitted(pool, gate_task, &hold);
        gate_await_arrivals(&hold, 1);
        tpool_future *filler = submitted(pool, nothing, NULL), *none = filler;
        assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
        tpool_status late = tpool_submit(pool, count_up, &runs, &none);
        tpool_status limited = tpool_run_with_timeout(pool, &(tpool_task){ .fn = count_up, .arg = &runs }, 0, NULL);
        tpool_status paused = tpool_pause(pool), resumed = tpool_resume(pool), resized = tpool_resize(pool, 2);
        tpool_status warmed = tpool_warm_up(pool, 2);
        gate_open(&hold);
        assert_status(TPOOL_OK, end_of(holder));
        assert_status(TPOOL_OK, end_of(filler));
        tpool_stats stats = stats_of(pool);
        assert_status(TPOOL_OK, tpool_destroy(pool));
        assert_status(TPOOL_SHUTDOWN, late);
        assert_null(none);
        assert_status(TPOOL_SHUTDOWN, limited);
        assert_status(TPOOL_SHUTDOWN, paused);
        assert_status(TPOOL_OK, resumed);
        assert_status(TPOOL_SHUTDOWN, resized);
        assert_status(TPOOL_SHUTDOWN, warmed);
        assert_int_equal(0, atomic_load(&runs));
        assert_int_equal(2, stats.submitted);
        assert_int_equal(0, stats.rejected);
        assert_int_equal(0, stats.dropped);
    }
}

static void a_bad_argument_is_invalid_whatever_state_the_pool_is_in(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 2, .min_workers = 2 });
    assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
    tpool_future *future = (tpool_future *)pool;
    assert_status(TPOOL_INVALID, tpool_submit(pool, NULL, NULL, &future));
    assert_null(future);
    future = (tpool_future *)pool;
    assert_status(TPOOL_INVALID, tpool_submit_task(pool, &(tpool_task){ .fn = nothing, .arg_size = 1 }, &future));
    assert_null(future);
    assert_status(TPOOL_INVALID, tpool_resize(pool, 1));
    assert_status(TPOOL_INVALID, tpool_warm_up(pool, -1));
    assert_status(TPOOL_INVALID, tpool_shutdown(pool, 16u));
    tpool_map_iter *iter = (tpool_map_iter *)pool;
    assert_status(TPOOL_INVALID, tpool_map(pool, &(tpool_map_spec){ .fn = NULL }, &iter));
    assert_null(iter);
    assert_status(TPOOL_INVALID, tpool_for(pool, 2, 1, 1, no_body, NULL));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static bool fail_to_start(void *context) {
    (void)context;
    return false;
}
static void a_broken_pool_stays_broken_after_a_shutdown(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .initializer = fail_to_start });
    tpool_future *first = NULL, *future = (tpool_future *)pool;
    tpool_status status = tpool_submit(pool, nothing, NULL, &first); /* it starts the worker, which may be faster */
    assert_status(TPOOL_BROKEN, status == TPOOL_OK ? end_of(first) : status);
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT));
    assert_status(TPOOL_BROKEN, tpool_submit(pool, nothing, NULL, &future));
    assert_null(future);
    assert_status(TPOOL_BROKEN, tpool_warm_up(pool, 1));
    assert_status(TPOOL_BROKEN, tpool_for(pool, 0, 1, 1, no_body, NULL));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void what_is_done_is_told_before_any_reason_not_to_wait(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    tpool_future *done = submitted(pool, nothing, pool);
    assert_status(TPOOL_OK, tpool_future_result(done, LIMIT, NULL));
    void *result = NULL;
    assert_status(TPOOL_OK, tpool_future_result(done, 0, &result));
    assert_ptr_equal(pool, result);
    result = NULL;
    assert_status(TPOOL_OK, tpool_future_result(done, INT64_MIN, &result));
    assert_ptr_equal(pool, result);
    tpool_future *cancelled = NULL;
    assert_status(TPOOL_OK, tpool_future_create(&cancelled));
    assert_true(tpool_future_cancel(cancelled));
    assert_status(TPOOL_CANCELLED, tpool_future_result(cancelled, INT64_MIN, &result));
    assert_null(result);
    tpool_future_release(cancelled);
    tpool_future_release(done);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* A pointer to fill holds NULL afterwards on every status but the one that gives something. */
static void every_refusal_hands_out_null(void **state) {
    (void)state;
    static gate hold;
    hold = (gate)GATE_CLOSED;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    void *junk = &hold;
    tpool_future *holder = submitted(pool, gate_task, &hold);
    gate_await_arrivals(&hold, 1);
    void *result = junk;
    tpool_status timeout = tpool_future_result(holder, 0, &result);
    void *no_future = junk;
    tpool_status without = tpool_future_result(NULL, 0, &no_future);
    const tpool_error *error = junk, *no_error = junk;
    tpool_status error_timeout = tpool_future_error(holder, 0, &error);
    tpool_status error_without = tpool_future_error(NULL, 0, &no_error);
    tpool_completions *completions = NULL;
    assert_status(TPOOL_OK, tpool_as_completed(&holder, 1, &completions));
    tpool_future *next = junk, *no_next = junk;
    tpool_status next_timeout = tpool_completions_next(completions, 0, &next);
    tpool_status next_without = tpool_completions_next(NULL, 0, &no_next);
    int item = 1;
    tpool_map_spec spec = { .fn = same_item, .items = &item, .count = 1, .stride = sizeof item };
    tpool_map_iter *iter = NULL;
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    void *mapped = junk, *no_mapped = junk;
    tpool_status map_timeout = tpool_map_next(iter, 0, &mapped);
    tpool_status map_without = tpool_map_next(NULL, 0, &no_mapped);
    tpool_map_close(iter);
    tpool_completions_destroy(completions);
    gate_open(&hold);
    assert_status(TPOOL_OK, end_of(holder));
    assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
    tpool_future *future = junk, *copied = junk, *tasked = junk, *limited = junk, *many[2] = { junk, junk };
    tpool_task tasks[2] = { { .fn = nothing }, { .fn = nothing } };
    size_t taken = 7;
    tpool_status refused[6] = {
        tpool_submit(pool, nothing, NULL, &future),      tpool_submit_copy(pool, nothing, &item, sizeof item, &copied),
        tpool_submit_task(pool, &tasks[0], &tasked),     tpool_run_with_timeout(pool, &tasks[0], LIMIT, &limited),
        tpool_submit_many(pool, tasks, 2, many, &taken), TPOOL_SHUTDOWN
    };
    iter = junk;
    refused[5] = tpool_map(pool, &spec, &iter);
    tpool *none = junk;
    tpool_status bad = tpool_create(&none, &(tpool_config){ .max_workers = -1 });
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_status(TPOOL_TIMEOUT, timeout);
    assert_status(TPOOL_INVALID, without);
    assert_status(TPOOL_TIMEOUT, error_timeout);
    assert_status(TPOOL_INVALID, error_without);
    assert_status(TPOOL_TIMEOUT, next_timeout);
    assert_status(TPOOL_INVALID, next_without);
    assert_status(TPOOL_TIMEOUT, map_timeout);
    assert_status(TPOOL_INVALID, map_without);
    assert_status(TPOOL_INVALID, bad);
    for (int i = 0; i < 6; i++) assert_status(TPOOL_SHUTDOWN, refused[i]);
    assert_int_equal(0, taken);
    const void *all[] = { result, no_future, error,  no_error, next,    no_next, mapped, no_mapped,
                          future, copied,    tasked, limited,  many[0], many[1], iter,   none };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) assert_null(all[i]);
}

/* ---- Map ---- */

typedef struct source {
    int next, ends_at, given, freed, asked;
} source;
static bool next_number(void *context, void **item) {
    source *s = context;
    s->asked++;
    if (s->next == s->ends_at) return false;
    *item = (void *)(intptr_t)++s->next;
    s->given++;
    return true;
}
static void count_item_free(void *item, void *context) {
    (void)item;
    ((source *)context)->freed++;
}

/* After a shutdown in the middle every item taken still has its own end, and after the last comes TPOOL_END. */
static void a_source_shut_down_in_the_middle_ends_with_what_was_taken(void **state) {
    (void)state;
    for (unsigned flags = 0; flags <= TPOOL_CANCEL_PENDING; flags += TPOOL_CANCEL_PENDING) {
        static source s;
        s = (source){ .ends_at = 1000000 };
        tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
        tpool_map_spec spec = { .fn = same_item,
                                .context = &s,
                                .next = next_number,
                                .chunk_size = 1,
                                .buffer_size = 4,
                                .item_free = count_item_free };
        tpool_map_iter *iter = NULL;
        assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
        assert_int_equal(4, s.given);
        void *result = NULL;
        for (intptr_t i = 1; i <= 10; i++) {
            assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, &result));
            assert_int_equal(i, (intptr_t)result);
            assert_int_equal(i + 4, s.given); /* exactly four ahead */
        }
        assert_status(TPOOL_OK, tpool_shutdown(pool, flags));
        int taken = s.given, ok = 0, cancelled = 0, other = 0;
        tpool_status status;
        while ((status = tpool_map_next(iter, LIMIT, &result)) != TPOOL_END && other == 0) {
            if (status == TPOOL_OK && cancelled == 0) ok++;
            else if (status == TPOOL_CANCELLED && !result) cancelled++;
            else other++;
        }
        assert_status(TPOOL_END, tpool_map_next(iter, LIMIT, &result));
        assert_null(result);
        tpool_map_close(iter);
        assert_status(TPOOL_OK, tpool_destroy(pool));
        assert_int_equal(0, other);
        assert_int_equal(s.given, 10 + ok + cancelled); /* one end for each item taken */
        assert_true(s.given < s.ends_at);               /* and no run on to the source's end */
        if (flags == 0) assert_true(ok >= taken - 10);  /* what was taken before completes */
        assert_int_equal(s.given, s.freed);
    }
}

static void a_timeout_of_map_next_takes_nothing_from_the_source(void **state) {
    (void)state;
    static source s;
    static gate hold;
    s = (source){ .ends_at = 9 };
    hold = (gate)GATE_CLOSED;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    tpool_future *holder = submitted(pool, gate_task, &hold);
    gate_await_arrivals(&hold, 1);
    tpool_map_spec spec = { .fn = same_item, .context = &s, .next = next_number, .buffer_size = 3 };
    tpool_map_iter *iter = NULL;
    tpool_status mapped = tpool_map(pool, &spec, &iter);
    int asked = s.asked;
    tpool_status timeouts[2] = { tpool_map_next(iter, 0, NULL), tpool_map_next(iter, TPOOL_MS(5), NULL) };
    int asked_after = s.asked;
    const tpool_error *error = NULL;
    tpool_status before_any = tpool_map_error(iter, &error);
    gate_open(&hold);
    int ok = 0;
    while (tpool_map_next(iter, LIMIT, NULL) == TPOOL_OK) ok++;
    tpool_map_close(iter);
    assert_status(TPOOL_OK, end_of(holder));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_status(TPOOL_OK, mapped);
    assert_int_equal(3, asked);
    assert_int_equal(3, asked_after);
    for (int i = 0; i < 2; i++) assert_status(TPOOL_TIMEOUT, timeouts[i]);
    assert_status(TPOOL_INVALID_STATE, before_any);
    assert_int_equal(9, ok);
}

/* ---- Submit many, on a shutdown in between ---- */

typedef struct many_in_back {
    tpool *pool;
    tpool_task tasks[5];
    tpool_future *futures[5];
    size_t taken;
    tpool_status got;
} many_in_back;
static void *submit_many_in_back(void *arg) {
    many_in_back *m = arg;
    m->got = tpool_submit_many(m->pool, m->tasks, 5, m->futures, &m->taken);
    return NULL;
}
static void submit_many_that_waits_for_room_tells_what_a_shutdown_left(void **state) {
    (void)state;
    static many_in_back m;
    static gate hold;
    static atomic_int freed;
    hold = (gate)GATE_CLOSED;
    m.pool = new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 2 });
    tpool_future *holder = submitted(m.pool, gate_task, &hold);
    gate_await_arrivals(&hold, 1);
    for (int i = 0; i < 5; i++) {
        m.tasks[i] = (tpool_task){ .fn = nothing, .arg = &freed, .arg_free = count_free };
        m.futures[i] = holder;
    }
    pthread_t thread;
    assert_int_equal(0, pthread_create(&thread, NULL, submit_many_in_back, &m));
    EVENTUALLY(stats_of(m.pool).queued == 2);
    assert_status(TPOOL_OK, tpool_shutdown(m.pool, 0));
    pthread_join(thread, NULL);
    gate_open(&hold);
    assert_status(TPOOL_OK, end_of(holder));
    assert_status(TPOOL_OK, tpool_drain(m.pool, LIMIT));
    int frees = atomic_load(&freed);
    assert_status(TPOOL_SHUTDOWN, m.got);
    assert_int_equal(2, m.taken);
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, end_of(m.futures[i]));
    for (int i = 2; i < 5; i++) assert_null(m.futures[i]);
    assert_int_equal(2, frees);
    assert_status(TPOOL_OK, tpool_destroy(m.pool));
}

/* ---- Priorities and a full queue ---- */

typedef struct line {
    int at;
    int order[8];
} line;
typedef struct numbered {
    line *line;
    int number;
} numbered;
static void *note_number(void *arg) {
    numbered *n = arg;
    n->line->order[n->line->at++] = n->number; /* one worker: one at a time */
    return NULL;
}
typedef struct blocked_task {
    tpool *pool;
    tpool_task task;
    tpool_status got;
} blocked_task;
static void *submit_blocked(void *arg) {
    blocked_task *b = arg;
    b->got = tpool_submit_task(b->pool, &b->task, NULL);
    return NULL;
}
/* A submitter that waited for room is late to the queue, but its task's priority holds from then on. */
static void a_task_that_waited_for_room_has_its_priority(void **state) {
    (void)state;
    static gate hold, second;
    static line l;
    static numbered n[4];
    static blocked_task b;
    hold = second = (gate)GATE_CLOSED;
    l.at = 0;
    for (int i = 0; i < 4; i++) n[i] = (numbered){ &l, i };
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 3 });
    tpool_future *holder = submitted(pool, gate_task, &hold);
    gate_await_arrivals(&hold, 1);
    tpool_future *next = submitted_task(pool, (tpool_task){ .fn = gate_task, .arg = &second, .priority = 9 });
    tpool_future *normal = submitted_task(pool, (tpool_task){ .fn = note_number, .arg = &n[0] });
    tpool_future *low = submitted_task(pool, (tpool_task){ .fn = note_number, .arg = &n[1], .priority = -1 });
    b = (blocked_task){ pool, { .fn = note_number, .arg = &n[2], .priority = 5 }, TPOOL_INVALID };
    pthread_t thread;
    assert_int_equal(0, pthread_create(&thread, NULL, submit_blocked, &b));
    sleep_ms(20);     /* it is about to wait; were it not, it would be taken all the same */
    gate_open(&hold); /* the second gate's task starts, and makes room */
    gate_await_arrivals(&second, 1);
    pthread_join(thread, NULL);
    gate_open(&second);
    assert_status(TPOOL_OK, end_of(holder));
    assert_status(TPOOL_OK, end_of(next));
    assert_status(TPOOL_OK, end_of(normal));
    assert_status(TPOOL_OK, end_of(low));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_status(TPOOL_OK, b.got);
    assert_int_equal(3, l.at);
    assert_int_equal(2, l.order[0]);
    assert_int_equal(0, l.order[1]);
    assert_int_equal(1, l.order[2]);
}

/* ---- fork ---- */

static void after_a_fork_even_calls_that_threads_do_not_know_give_broken(void **state) {
    (void)state;
#if HAVE_FORK
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int wrong = 0;
        wrong |= tpool_kill_workers(pool) != TPOOL_BROKEN;
        wrong |= (tpool_run_with_timeout(pool, &(tpool_task){ .fn = nothing }, 0, NULL) != TPOOL_BROKEN) << 1;
        wrong |= (tpool_resume(pool) != TPOOL_BROKEN) << 2;
        _exit(wrong);
    }
    int status = 0;
    assert_int_equal(child, waitpid(child, &status, 0));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_true(WIFEXITED(status));
    assert_int_equal(0, WEXITSTATUS(status));
#else
    skip();
#endif
}

static const struct CMUnitTest tests[] = {
    TEST(a_shut_pool_is_shut_before_it_is_full),
    TEST(a_bad_argument_is_invalid_whatever_state_the_pool_is_in),
    TEST(a_broken_pool_stays_broken_after_a_shutdown),
    TEST(what_is_done_is_told_before_any_reason_not_to_wait),
    TEST(every_refusal_hands_out_null),
    TEST(a_source_shut_down_in_the_middle_ends_with_what_was_taken),
    TEST(a_timeout_of_map_next_takes_nothing_from_the_source),
    TEST(submit_many_that_waits_for_room_tells_what_a_shutdown_left),
    TEST(a_task_that_waited_for_room_has_its_priority),
    TEST(after_a_fork_even_calls_that_threads_do_not_know_give_broken),
};
RUN_TESTS(tests)
