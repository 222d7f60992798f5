/* tpool_for: every index once, whoever calls it and whatever the pool is busy with. */
#include "support.h"

/* ---- Marks: each index is counted. */

typedef struct marks {
    size_t begin, end;
    atomic_uchar *counts;
    atomic_int wrong_parts; /* empty ones and ones outside the range */
    atomic_int parts;
} marks;

static void mark(size_t begin, size_t end, void *context) {
    marks *m = context;
    atomic_fetch_add(&m->parts, 1);
    if (begin >= end || begin < m->begin || end > m->end) {
        atomic_fetch_add(&m->wrong_parts, 1);
        return;
    }
    for (size_t i = begin; i < end; i++) atomic_fetch_add_explicit(&m->counts[i - m->begin], 1, memory_order_relaxed);
}

/* How many indices were not marked exactly once, and parts were wrong. */
static int count_wrong(const marks *m) {
    int wrong = atomic_load(&m->wrong_parts);
    for (size_t i = 0; i < m->end - m->begin; i++) wrong += atomic_load(&m->counts[i]) != 1;
    return wrong;
}

static const size_t grains[] = { 0, 1, 2, 7, 1000, SIZE_MAX };
#define GRAINS (sizeof grains / sizeof grains[0])

static void check_range(tpool *pool, size_t begin, size_t end, size_t grain) {
    marks m = { .begin = begin, .end = end, .counts = calloc(end - begin + 1, sizeof *m.counts) };
    assert_non_null(m.counts);
    assert_status(TPOOL_OK, tpool_for(pool, begin, end, grain, mark, &m));
    assert_int_equal(0, count_wrong(&m));
    if (begin == end) assert_int_equal(0, atomic_load(&m.parts));
    free(m.counts);
}

static void every_index_comes_once_from_outside(void **state) {
    (void)state;
    static const size_t sizes[] = { 0, 1, 2, 3, 10, 1000, 4097 };
    static const size_t begins[] = { 0, 1, 12345 };
    for (int workers = 1; workers <= 4; workers++) {
        tpool *pool = new_pool(workers);
        for (size_t g = 0; g < GRAINS; g++) {
            for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
                for (size_t b = 0; b < sizeof begins / sizeof begins[0]; b++) {
                    check_range(pool, begins[b], begins[b] + sizes[s], grains[g]);
                }
                check_range(pool, SIZE_MAX - sizes[s], SIZE_MAX, grains[g]); /* where sums overflow */
            }
        }
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

static void sum_up(size_t begin, size_t end, void *context) {
    uint64_t sum = 0;
    for (size_t i = begin; i < end; i++) sum += i;
    atomic_fetch_add((_Atomic uint64_t *)context, sum);
}

static void ten_million_cheap_indices(void **state) {
    (void)state;
    uint64_t count = COUNT(10000000);
    tpool *pool = new_pool(2);
    for (size_t g = 0; g < GRAINS; g++) {
        if (grains[g] != 0 && grains[g] < 1000) continue; /* a part for each index is another test */
        _Atomic uint64_t sum = 0;
        assert_status(TPOOL_OK, tpool_for(pool, 0, (size_t)count, grains[g], sum_up, &sum));
        assert_true(atomic_load(&sum) == count * (count - 1) / 2);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_hundred_thousand_parts_of_one(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    check_range(pool, 0, COUNT(100000), 1);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void only_remember(size_t begin, size_t end, void *context) {
    (void)begin;
    (void)end;
    atomic_fetch_add((atomic_int *)context, 1);
}

static void bad_arguments_are_invalid_and_run_nothing(void **state) {
    (void)state;
    atomic_int parts = 0;
    tpool *pool = new_pool(1);
    assert_status(TPOOL_INVALID, tpool_for(pool, 1, 0, 0, only_remember, &parts));
    assert_status(TPOOL_INVALID, tpool_for(pool, SIZE_MAX, 0, 1, only_remember, &parts));
    assert_status(TPOOL_INVALID, tpool_for(NULL, 0, 10, 0, only_remember, &parts));
    assert_status(TPOOL_INVALID, tpool_for(pool, 0, 10, 0, NULL, &parts));
    assert_int_equal(0, atomic_load(&parts));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_pool_that_takes_no_work_is_told_and_nothing_runs(void **state) {
    (void)state;
    atomic_int parts = 0;
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT));
    assert_status(TPOOL_SHUTDOWN, tpool_for(pool, 0, 10, 1, only_remember, &parts));
    assert_int_equal(0, atomic_load(&parts));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Who calls it. */

typedef struct caller {
    tpool *pool;
    size_t begin, end, grain;
    tpool_status got;
    int wrong;
} caller;

static void loop_and_check(caller *c) {
    marks m = { .begin = c->begin, .end = c->end, .counts = calloc(c->end - c->begin + 1, sizeof *m.counts) };
    if (m.counts == NULL) abort();
    c->got = tpool_for(c->pool, c->begin, c->end, c->grain, mark, &m);
    c->wrong += count_wrong(&m);
    free(m.counts);
}

static void *loop_in_task(void *arg) {
    loop_and_check(arg);
    return arg;
}

static void every_index_comes_once_from_a_task_of_the_same_pool(void **state) {
    (void)state;
    for (int workers = 1; workers <= 4; workers++) {
        tpool *pool = new_pool(workers);
        for (size_t g = 0; g < GRAINS; g++) {
            caller c = { .pool = pool, .begin = 5, .end = 2005, .grain = grains[g] };
            take(submitted(pool, loop_in_task, &c));
            assert_status(TPOOL_OK, c.got);
            assert_int_equal(0, c.wrong);
        }
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

static void every_index_comes_once_from_a_task_of_another_pool(void **state) {
    (void)state;
    tpool *home = new_pool(1), *away = new_pool(2);
    for (size_t g = 0; g < GRAINS; g++) {
        caller c = { .pool = away, .begin = 5, .end = 2005, .grain = grains[g] };
        take(submitted(home, loop_in_task, &c));
        assert_status(TPOOL_OK, c.got);
        assert_int_equal(0, c.wrong);
    }
    assert_status(TPOOL_OK, tpool_destroy(home));
    assert_status(TPOOL_OK, tpool_destroy(away));
}

static void *loop_in_thread(void *arg) {
    caller *c = arg;
    for (int round = 0; round < COUNT(100); round++) {
        loop_and_check(c);
        if (c->got != TPOOL_OK) c->wrong++;
    }
    return NULL;
}

static void several_threads_and_tasks_loop_at_once(void **state) {
    (void)state;
    enum { callers = 4 };
    tpool *pool = new_pool(2);
    caller c[2 * callers];
    pthread_t threads[callers];
    tpool_future *futures[callers];
    for (int i = 0; i < 2 * callers; i++) {
        c[i] = (caller){ .pool = pool, .begin = (size_t)i, .end = 700, .grain = grains[(size_t)i % GRAINS] };
    }
    for (int i = 0; i < callers; i++) {
        futures[i] = submitted(pool, loop_in_thread, &c[callers + i]);
        assert_int_equal(0, pthread_create(&threads[i], NULL, loop_in_thread, &c[i]));
    }
    for (int i = 0; i < callers; i++) {
        assert_int_equal(0, pthread_join(threads[i], NULL));
        take(futures[i]);
    }
    for (int i = 0; i < 2 * callers; i++) assert_int_equal(0, c[i].wrong);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Nested loops, and bodies that wait. */

typedef struct rows {
    tpool *pool;
    size_t columns;
    marks marks; /* of all cells */
    atomic_int troubles;
} rows;

typedef struct row {
    rows *all;
    size_t number;
} row;

static void mark_columns(size_t begin, size_t end, void *context) {
    row *r = context;
    mark(r->number * r->all->columns + begin, r->number * r->all->columns + end, &r->all->marks);
}

static void loop_over_columns(size_t begin, size_t end, void *context) {
    rows *all = context;
    for (size_t i = begin; i < end; i++) {
        row r = { all, i };
        if (tpool_for(all->pool, 0, all->columns, i % 3, mark_columns, &r) != TPOOL_OK) {
            atomic_fetch_add(&all->troubles, 1);
        }
    }
}

static void *loop_over_rows(void *arg) {
    rows *all = arg;
    if (tpool_for(all->pool, 0, all->marks.end / all->columns, 1, loop_over_columns, all) != TPOOL_OK) {
        atomic_fetch_add(&all->troubles, 1);
    }
    return NULL;
}

static void loops_nest(void **state) {
    (void)state;
    for (int workers = 1; workers <= 4; workers++) {
        tpool *pool = new_pool(workers);
        for (int in_task = 0; in_task <= 1; in_task++) {
            rows all = { .pool = pool, .columns = 50 };
            all.marks.end = 60 * all.columns;
            all.marks.counts = calloc(all.marks.end, sizeof *all.marks.counts);
            assert_non_null(all.marks.counts);
            if (in_task == 1) take(submitted(pool, loop_over_rows, &all));
            else loop_over_rows(&all);
            assert_int_equal(0, atomic_load(&all.troubles));
            assert_int_equal(0, count_wrong(&all.marks));
            free(all.marks.counts);
        }
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

static void submit_and_await(size_t begin, size_t end, void *context) {
    rows *all = context;
    for (size_t i = begin; i < end; i++) {
        tpool_future *future = NULL;
        if (tpool_submit(all->pool, nothing, NULL, &future) != TPOOL_OK ||
            tpool_future_result(future, i % 2 == 0 ? TPOOL_FOREVER : LIMIT, NULL) != TPOOL_OK) {
            atomic_fetch_add(&all->troubles, 1);
        }
        tpool_future_release(future);
    }
    mark(begin, end, &all->marks);
}

static void *loop_over_waits(void *arg) {
    rows *all = arg;
    if (tpool_for(all->pool, 0, all->marks.end, 1, submit_and_await, all) != TPOOL_OK) {
        atomic_fetch_add(&all->troubles, 1);
    }
    return NULL;
}

static void bodies_may_wait_for_tasks_of_the_same_pool(void **state) {
    (void)state;
    for (int workers = 1; workers <= 2; workers++) {
        tpool *pool = new_pool(workers);
        for (int in_task = 0; in_task <= 1; in_task++) {
            rows all = { .pool = pool };
            all.marks.end = COUNT(200);
            all.marks.counts = calloc(all.marks.end, sizeof *all.marks.counts);
            assert_non_null(all.marks.counts);
            if (in_task == 1) take(submitted(pool, loop_over_waits, &all));
            else loop_over_waits(&all);
            assert_int_equal(0, atomic_load(&all.troubles));
            assert_int_equal(0, count_wrong(&all.marks));
            free(all.marks.counts);
        }
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

/* ---- In parallel, and when nobody can help. */

enum { MEETING = 2 };

typedef struct meeting {
    tpool *pool;
    atomic_int here;
    atomic_int met; /* parts that saw all the others */
    pthread_t threads[MEETING];
    atomic_int stop_seen;
    gate started;
    tpool_status got;
} meeting;

/* Each part waits until the other one has begun too: they must run on two threads. */
static void meet(size_t begin, size_t end, void *context) {
    meeting *m = context;
    int64_t give_up = tpool_now() + TPOOL_SEC(10);
    for (size_t i = begin; i < end; i++) {
        m->threads[i] = pthread_self();
        if (tpool_stop_requested()) atomic_fetch_add(&m->stop_seen, 1);
        atomic_fetch_add(&m->here, 1);
        while (atomic_load(&m->here) < MEETING && tpool_now() < give_up) sleep_ms(1);
        if (atomic_load(&m->here) == MEETING) atomic_fetch_add(&m->met, 1);
    }
}

static void *hold_meeting(void *arg) {
    meeting *m = arg;
    gate_pass(&m->started);
    m->got = tpool_for(m->pool, 0, MEETING, 1, meet, m);
    return NULL;
}

static void the_caller_and_the_workers_share_the_range(void **state) {
    (void)state;
    /* From outside one worker is enough, since the caller takes part; in a task a second one is needed. */
    for (int in_task = 0; in_task <= 1; in_task++) {
        meeting m = { .pool = new_pool(1 + in_task), .started = GATE_CLOSED };
        gate_open(&m.started);
        pthread_t caller_thread = pthread_self();
        if (in_task == 1) take(submitted(m.pool, hold_meeting, &m));
        else hold_meeting(&m);
        assert_status(TPOOL_OK, m.got);
        assert_int_equal(MEETING, atomic_load(&m.met));
        assert_false(pthread_equal(m.threads[0], m.threads[1]));
        if (in_task == 0) {
            assert_true(pthread_equal(caller_thread, m.threads[0]) || pthread_equal(caller_thread, m.threads[1]));
        }
        assert_int_equal(0, atomic_load(&m.stop_seen));
        assert_status(TPOOL_OK, tpool_destroy(m.pool));
    }
}

static void a_stop_request_is_seen_in_every_part(void **state) {
    (void)state;
    meeting m = { .pool = new_pool(2), .started = GATE_CLOSED };
    tpool_future *future = submitted(m.pool, hold_meeting, &m);
    EVENTUALLY(gate_arrived(&m.started) == 1);
    tpool_future_request_stop(future);
    gate_open(&m.started);
    take(future);
    assert_status(TPOOL_OK, m.got);
    assert_int_equal(MEETING, atomic_load(&m.met)); /* on two threads, so on another than the task's as well */
    assert_int_equal(MEETING, atomic_load(&m.stop_seen));
    assert_status(TPOOL_OK, tpool_destroy(m.pool));
}

typedef struct alone {
    tpool *pool;
    pthread_t caller;
    atomic_int indices, by_others;
    gate started;
    tpool_status got;
} alone;

static void note_thread(size_t begin, size_t end, void *context) {
    alone *a = context;
    atomic_fetch_add(&a->indices, (int)(end - begin));
    if (!pthread_equal(pthread_self(), a->caller)) atomic_fetch_add(&a->by_others, (int)(end - begin));
}

static void *loop_alone(void *arg) {
    alone *a = arg;
    gate_pass(&a->started);
    a->caller = pthread_self();
    a->got = tpool_for(a->pool, 0, 1000, 1, note_thread, a);
    return NULL;
}

static void on_a_paused_pool_the_caller_does_it_all(void **state) {
    (void)state;
    for (int in_task = 0; in_task <= 1; in_task++) {
        alone a = { .pool = new_pool(3), .started = GATE_CLOSED };
        tpool_future *future = NULL;
        assert_status(TPOOL_OK, tpool_warm_up(a.pool, 3));
        if (in_task == 1) {
            future = submitted(a.pool, loop_alone, &a);
            EVENTUALLY(gate_arrived(&a.started) == 1);
        }
        assert_status(TPOOL_OK, tpool_pause(a.pool));
        gate_open(&a.started);
        if (in_task == 1) take(future);
        else loop_alone(&a);
        assert_status(TPOOL_OK, a.got);
        assert_int_equal(1000, atomic_load(&a.indices));
        assert_int_equal(0, atomic_load(&a.by_others));
        assert_status(TPOOL_OK, tpool_resume(a.pool));
        assert_status(TPOOL_OK, tpool_destroy(a.pool));
    }
}

static void on_a_busy_pool_with_a_full_queue_the_caller_does_it_all(void **state) {
    (void)state;
    static const tpool_full_policy policies[] = { TPOOL_FULL_BLOCK, TPOOL_FULL_REJECT, TPOOL_FULL_CALLER_RUNS,
                                                  TPOOL_FULL_DROP_OLDEST };
    for (size_t p = 0; p < sizeof policies / sizeof policies[0]; p++) {
        gate held = GATE_CLOSED;
        alone a = { .started = GATE_CLOSED };
        tpool_config config = { .max_workers = 1, .queue_capacity = 1, .on_full = policies[p] };
        assert_status(TPOOL_OK, tpool_create(&a.pool, &config));
        tpool_future *holder = submitted(a.pool, gate_task, &held);
        EVENTUALLY(gate_arrived(&held) == 1);
        tpool_future *queued = submitted(a.pool, nothing, &a); /* the queue is full now, and nobody works it off */
        gate_open(&a.started);
        loop_alone(&a);
        assert_status(TPOOL_OK, a.got);
        assert_int_equal(1000, atomic_load(&a.indices));
        assert_int_equal(0, atomic_load(&a.by_others));
        assert_false(tpool_future_done(queued)); /* neither run nor dropped for it */
        gate_open(&held);
        take(holder);
        take(queued);
        assert_status(TPOOL_OK, tpool_destroy(a.pool));
    }
}

static void a_loop_leaves_nothing_behind_in_the_pool(void **state) {
    (void)state;
    gate held = GATE_CLOSED;
    alone a = { .pool = new_pool(1), .started = GATE_CLOSED };
    tpool_future *holder = submitted(a.pool, gate_task, &held);
    EVENTUALLY(gate_arrived(&held) == 1);
    gate_open(&a.started);
    loop_alone(&a); /* what it offered to the busy worker is of no use any more */
    atomic_store(&a.indices, 0);
    gate_open(&held);
    take(holder);
    assert_status(TPOOL_OK, tpool_drain(a.pool, LIMIT));
    assert_int_equal(0, atomic_load(&a.indices));
    assert_status(TPOOL_OK, tpool_destroy(a.pool));
}

/* ---- Bodies that raise. */

typedef struct raising {
    tpool *pool;
    gate started;
    bool everywhere; /* each part raises, or the one that has this index */
    size_t raise_at;
    atomic_int parts;
    tpool_status got;
} raising;

static void raise_at_index(size_t begin, size_t end, void *context) {
    raising *r = context;
    atomic_fetch_add(&r->parts, 1);
    if (r->everywhere || (begin <= r->raise_at && r->raise_at < end)) tpool_raise(42, "at %d", (int)r->raise_at);
}

static void *loop_that_raises(void *arg) {
    raising *r = arg;
    gate_pass(&r->started);
    r->got = tpool_for(r->pool, 0, 1000, 1, raise_at_index, r);
    return r;
}

static void a_body_that_raises_fails_the_loop(void **state) {
    (void)state;
    for (int workers = 1; workers <= 3; workers++) {
        raising r = { .pool = new_pool(workers), .started = GATE_CLOSED };
        gate_open(&r.started);
        for (r.raise_at = 0; r.raise_at < 1000; r.raise_at += 111) {
            loop_that_raises(&r);
            assert_status(TPOOL_FAILED, r.got);
        }
        r.raise_at = 1000; /* nowhere: a later loop knows nothing of it */
        loop_that_raises(&r);
        assert_status(TPOOL_OK, r.got);
        assert_status(TPOOL_OK, tpool_destroy(r.pool));
    }
}

static void parts_not_yet_started_are_skipped_after_a_raise(void **state) {
    (void)state;
    for (int in_task = 0; in_task <= 1; in_task++) {
        for (int raises = 0; raises <= 1; raises++) {
            raising r = {
                .pool = new_pool(2), .started = GATE_CLOSED, .everywhere = raises == 1, .raise_at = SIZE_MAX
            };
            tpool_future *future = NULL;
            if (in_task == 1) {
                future = submitted(r.pool, loop_that_raises, &r);
                EVENTUALLY(gate_arrived(&r.started) == 1);
            }
            assert_status(TPOOL_OK, tpool_pause(r.pool)); /* the caller is alone: one part comes after the other */
            gate_open(&r.started);
            if (in_task == 1) {
                assert_status(raises == 1 ? TPOOL_FAILED : TPOOL_OK, end_of(future));
            } else {
                loop_that_raises(&r);
            }
            assert_status(raises == 1 ? TPOOL_FAILED : TPOOL_OK, r.got);
            if (raises == 1) assert_int_equal(1, atomic_load(&r.parts));
            else assert_true(atomic_load(&r.parts) > 1); /* so there was something to skip */
            assert_status(TPOOL_OK, tpool_resume(r.pool));
            assert_status(TPOOL_OK, tpool_destroy(r.pool));
        }
    }
}

static void the_error_belongs_to_the_task_that_loops(void **state) {
    (void)state;
    for (int workers = 1; workers <= 2; workers++) {
        raising r = { .pool = new_pool(workers), .started = GATE_CLOSED, .raise_at = 500 };
        const tpool_error *error = NULL;
        gate_open(&r.started);
        tpool_future *future = submitted(r.pool, loop_that_raises, &r);
        assert_status(TPOOL_FAILED, tpool_future_result(future, LIMIT, NULL));
        assert_status(TPOOL_FAILED, r.got);
        assert_status(TPOOL_OK, tpool_future_error(future, 0, &error));
        assert_non_null(error);
        assert_int_equal(42, error->code);
        assert_string_equal("at 500", error->message);
        tpool_future_release(future);
        take(submitted(r.pool, nothing, NULL)); /* and to no other */
        assert_status(TPOOL_OK, tpool_destroy(r.pool));
    }
}

/* One of two parts raises, the one that runs elsewhere than in the task. */
typedef struct split_raise {
    meeting meeting;
    pthread_t task;
} split_raise;

static void raise_elsewhere(size_t begin, size_t end, void *context) {
    split_raise *s = context;
    meet(begin, end, &s->meeting);
    if (!pthread_equal(pthread_self(), s->task)) tpool_raise(43, "elsewhere");
}

static void *loop_with_a_part_that_raises_elsewhere(void *arg) {
    split_raise *s = arg;
    s->task = pthread_self();
    s->meeting.got = tpool_for(s->meeting.pool, 0, MEETING, 1, raise_elsewhere, s);
    return NULL;
}

static void an_error_raised_on_another_thread_belongs_to_the_task_that_loops(void **state) {
    (void)state;
    split_raise s = { .meeting = { .pool = new_pool(2) } };
    const tpool_error *error = NULL;
    tpool_future *future = submitted(s.meeting.pool, loop_with_a_part_that_raises_elsewhere, &s);
    assert_status(TPOOL_FAILED, tpool_future_result(future, LIMIT, NULL));
    assert_int_equal(MEETING, atomic_load(&s.meeting.met));
    assert_status(TPOOL_FAILED, s.meeting.got);
    assert_status(TPOOL_OK, tpool_future_error(future, 0, &error));
    assert_non_null(error);
    assert_int_equal(43, error->code);
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(s.meeting.pool));
}

/* ---- When it is shared. */

typedef struct shared {
    pthread_t caller;
    size_t count, long_from; /* the items from there on take 100 us each */
    gate both;
    atomic_int by_caller, by_others;
} shared;
static void count_part(size_t begin, size_t end, void *context) {
    shared *s = context;
    for (size_t i = begin; i < end; i++)
        if (i >= s->long_from) compute_for(TPOOL_US(100));
    atomic_fetch_add(pthread_equal(pthread_self(), s->caller) ? &s->by_caller : &s->by_others, (int)(end - begin));
}
static void meet_other(size_t begin, size_t end, void *context) {
    shared *s = context;
    gate_pass(&s->both);
    atomic_fetch_add(pthread_equal(pthread_self(), s->caller) ? &s->by_caller : &s->by_others, (int)(end - begin));
}
static void *loop_to_meet(void *context) {
    shared *s = context;
    s->caller = pthread_self();
    tpool *pool = new_pool(1);
    if (tpool_for(pool, 0, 2, 1, meet_other, s) != TPOOL_OK) abort();
    if (tpool_destroy(pool) != TPOOL_OK) abort();
    return NULL;
}
static void a_loop_of_few_items_is_shared_before_the_first_has_ended(void **state) {
    (void)state;
    static shared s;
    s = (shared){ .both = GATE_CLOSED };
    pthread_t thread;
    assert_int_equal(0, pthread_create(&thread, NULL, loop_to_meet, &s));
    AWAIT_ARRIVALS(&s.both, 2);
    gate_open(&s.both);
    assert_int_equal(0, pthread_join(thread, NULL));
    assert_int_equal(1, atomic_load(&s.by_caller));
    assert_int_equal(1, atomic_load(&s.by_others));
}
static void check_shared(size_t count, size_t long_from) {
    tpool *pool = new_pool(1);
    for (int i = 0; i < 5; i++) { /* in the first, a part may be long only because its code is new to the CPU */
        shared s = { .caller = pthread_self(), .count = count, .long_from = long_from };
        assert_status(TPOOL_OK, tpool_for(pool, 0, count, 0, count_part, &s));
        assert_int_equal(count, atomic_load(&s.by_caller) + atomic_load(&s.by_others));
        assert_true(atomic_load(&s.by_others) > 0);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_loop_of_long_items_is_shared(void **state) {
    (void)state;
    check_shared(300, 0);
}
/* Even if nothing could be told from the first three quarters. */
static void a_loop_is_shared_once_its_items_become_long(void **state) {
    (void)state;
    check_shared(1000, 750);
}
/* Of the loops that took less than a helper costs, hardly one had a helper: where the system took the CPU away in its
 * first item, it looked long. */
static void check_alone(tpool *pool, shared *s, size_t grain) {
    int alone = 0, shared_ones = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t before = stats_of(pool).submitted;
        int64_t began = tpool_now();
        assert_status(TPOOL_OK, tpool_for(pool, 0, s->count, grain, count_part, s));
        if (tpool_now() - began > TPOOL_US(5)) continue;
        if (stats_of(pool).submitted > before) shared_ones++;
        else alone++;
    }
    assert_true(shared_ones <= 10 + alone / 10);
    assert_int_equal(1000 * s->count, atomic_load(&s->by_caller) + atomic_load(&s->by_others));
}
static void a_loop_that_takes_a_microsecond_stays_with_its_caller(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    shared s = { .caller = pthread_self(), .count = 100, .long_from = 100 };
    check_alone(pool, &s, 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* The first one is shared, and found to be short. */
static void a_loop_of_few_items_is_remembered_as_short(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    shared s = { .caller = pthread_self(), .count = 4, .long_from = 4 };
    check_alone(pool, &s, 1);
    s.long_from = 0; /* and now it is long: that is noticed after its first item */
    assert_status(TPOOL_OK, tpool_for(pool, 0, s.count, 1, count_part, &s));
    assert_int_equal(4004, atomic_load(&s.by_caller) + atomic_load(&s.by_others));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static const struct CMUnitTest tests[] = {
    TEST(a_loop_of_few_items_is_shared_before_the_first_has_ended),
    TEST(a_loop_of_long_items_is_shared),
    TEST(a_loop_is_shared_once_its_items_become_long),
    TEST(a_loop_that_takes_a_microsecond_stays_with_its_caller),
    TEST(a_loop_of_few_items_is_remembered_as_short),
    TEST(every_index_comes_once_from_outside),
    TEST(ten_million_cheap_indices),
    TEST(a_hundred_thousand_parts_of_one),
    TEST(bad_arguments_are_invalid_and_run_nothing),
    TEST(a_pool_that_takes_no_work_is_told_and_nothing_runs),
    TEST(every_index_comes_once_from_a_task_of_the_same_pool),
    TEST(every_index_comes_once_from_a_task_of_another_pool),
    TEST(several_threads_and_tasks_loop_at_once),
    TEST(loops_nest),
    TEST(bodies_may_wait_for_tasks_of_the_same_pool),
    TEST(the_caller_and_the_workers_share_the_range),
    TEST(a_stop_request_is_seen_in_every_part),
    TEST(on_a_paused_pool_the_caller_does_it_all),
    TEST(on_a_busy_pool_with_a_full_queue_the_caller_does_it_all),
    TEST(a_loop_leaves_nothing_behind_in_the_pool),
    TEST(a_body_that_raises_fails_the_loop),
    TEST(parts_not_yet_started_are_skipped_after_a_raise),
    TEST(the_error_belongs_to_the_task_that_loops),
    TEST(an_error_raised_on_another_thread_belongs_to_the_task_that_loops),
};
RUN_TESTS(tests)
