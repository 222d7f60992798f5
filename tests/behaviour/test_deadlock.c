/* Cycles of tasks that wait for each other: TPOOL_DEADLOCK at once to the task that closes one, to no other, and to
   nobody where there is no cycle. */
#include "support.h"

static tpool_future *create_bare(void) {
    tpool_future *future = NULL;
    assert_status(TPOOL_OK, tpool_future_create(&future));
    return future;
}

/* Runs a task from outside. With every worker of the pool busy this ends only once one of them has begun to block. */
static void probe(tpool *pool) { take(submitted(pool, nothing, NULL)); }

/* ---- A task that waits for itself. */

typedef struct selfish {
    tpool *pool;
    gate started;
    tpool_future *own, *other;
    tpool_status by_result, by_error, by_wait_for_all, by_wait_for_first_of_one, again, by_wait_for_several;
    tpool_status timed_result, timed_error, timed_wait, look, other_wait;
    void *value;
    const tpool_error *error, *timed_error_given;
} selfish;

static void *wait_for_self(void *arg) {
    selfish *s = arg;
    gate_pass(&s->started); /* until main has stored this task's own future */
    tpool_future *one[1] = { s->own }, *several[2];
    s->value = s;
    s->error = (const tpool_error *)(const void *)s;
    s->by_result = tpool_future_result(s->own, TPOOL_FOREVER, &s->value);
    s->by_error = tpool_future_error(s->own, TPOOL_FOREVER, &s->error);
    s->by_wait_for_all = tpool_wait(one, 1, TPOOL_ALL_COMPLETED, TPOOL_FOREVER, NULL);
    s->by_wait_for_first_of_one = tpool_wait(one, 1, TPOOL_FIRST_COMPLETED, TPOOL_FOREVER, NULL);
    s->again = tpool_future_result(s->own, TPOOL_FOREVER, NULL);
    if (tpool_submit(s->pool, nothing, s, &s->other) != TPOOL_OK) abort();
    several[0] = s->other;
    several[1] = s->own;
    s->by_wait_for_several = tpool_wait(several, 2, TPOOL_ALL_COMPLETED, TPOOL_FOREVER, NULL);
    /* Waits with a time limit are not searched: they time out. */
    s->timed_result = tpool_future_result(s->own, TPOOL_MS(5), NULL);
    s->timed_error = tpool_future_error(s->own, TPOOL_MS(5), &s->timed_error_given);
    s->timed_wait = tpool_wait(one, 1, TPOOL_ALL_COMPLETED, TPOOL_MS(5), NULL);
    s->look = tpool_future_result(s->own, 0, NULL);
    /* And what can end can still be waited for. */
    s->other_wait = tpool_future_result(s->other, TPOOL_FOREVER, NULL);
    tpool_future_release(s->other);
    return s;
}

static void a_task_that_waits_for_itself_gets_deadlock(void **state) {
    (void)state;
    for (int workers = 1; workers <= 2; workers++) {
        selfish s = { .pool = new_pool(workers), .started = GATE_CLOSED };
        s.own = submitted(s.pool, wait_for_self, &s);
        gate_open(&s.started);
        void *value = NULL;
        assert_status(TPOOL_OK, tpool_future_result(s.own, LIMIT, &value));
        assert_ptr_equal(&s, value); /* it was its wait that failed, not the task */
        assert_status(TPOOL_DEADLOCK, s.by_result);
        assert_null(s.value);
        assert_status(TPOOL_DEADLOCK, s.by_error);
        assert_null(s.error);
        assert_status(TPOOL_DEADLOCK, s.by_wait_for_all);
        assert_status(TPOOL_DEADLOCK, s.by_wait_for_first_of_one);
        assert_status(TPOOL_DEADLOCK, s.again);
        assert_status(TPOOL_DEADLOCK, s.by_wait_for_several);
        assert_status(TPOOL_TIMEOUT, s.timed_result);
        assert_status(TPOOL_TIMEOUT, s.timed_error);
        assert_null(s.timed_error_given);
        assert_status(TPOOL_TIMEOUT, s.timed_wait);
        assert_status(TPOOL_TIMEOUT, s.look);
        assert_status(TPOOL_OK, s.other_wait);
        tpool_future_release(s.own);
        assert_status(TPOOL_OK, tpool_destroy(s.pool));
    }
}

/* ---- Tasks that wait for each other, all of them running. */

typedef enum knot_way { BY_RESULT, BY_ERROR, BY_SET } knot_way;

typedef struct knot {
    gate *start;
    knot_way way;
    tpool_future *wanted; /* stored before the gate opens */
    tpool_future *first;  /* BY_SET: another member of the set, before the wanted one */
    tpool_status got;
    atomic_int *deadlocks;
} knot;

static void *wait_for_wanted(void *arg) {
    knot *k = arg;
    const tpool_error *error = NULL;
    tpool_future *set[2];
    gate_pass(k->start);
    switch (k->way) {
    case BY_RESULT: k->got = tpool_future_result(k->wanted, TPOOL_FOREVER, NULL); break;
    case BY_ERROR: k->got = tpool_future_error(k->wanted, TPOOL_FOREVER, &error); break;
    default:
        set[0] = k->first;
        set[1] = k->wanted;
        k->got = tpool_wait(set, 2, TPOOL_ALL_COMPLETED, TPOOL_FOREVER, NULL);
    }
    if (k->got == TPOOL_DEADLOCK) atomic_fetch_add(k->deadlocks, 1);
    return k;
}

/* A ring of running tasks, the i-th in pools[i % pool_count], each waiting for the next. */
static void check_ring(tpool **pools, int pool_count, int size, knot_way way) {
    enum { most = 8 };
    gate start = GATE_CLOSED;
    atomic_int deadlocks = 0;
    knot knots[most];
    tpool_future *futures[most], *bare = create_bare();
    assert_true(size <= most);
    for (int i = 0; i < size; i++) {
        knots[i] = (knot){ .start = &start, .way = way, .first = bare, .got = TPOOL_INVALID, .deadlocks = &deadlocks };
        futures[i] = submitted(pools[i % pool_count], wait_for_wanted, &knots[i]);
    }
    gate_await_arrivals(&start, size);
    for (int i = 0; i < size; i++) knots[i].wanted = futures[(i + 1) % size];
    gate_open(&start);
    if (way == BY_SET) EVENTUALLY(atomic_load(&deadlocks) == 1); /* before the other member of the sets is done */
    assert_status(TPOOL_OK, tpool_future_set_result(bare, NULL));
    for (int i = 0; i < size; i++) assert_status(TPOOL_OK, tpool_future_result(futures[i], LIMIT, NULL));
    for (int i = 0; i < size; i++) tpool_future_release(futures[i]); /* not before: the others wait for it */
    int found = 0;
    for (int i = 0; i < size; i++) {
        if (knots[i].got == TPOOL_DEADLOCK) found++;
        else assert_status(TPOOL_OK, knots[i].got);
    }
    assert_int_equal(1, found);
    tpool_future_release(bare);
}

static void of_two_tasks_that_wait_for_each_other_one_gets_deadlock(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    for (int round = 0; round < COUNT(300); round++) {
        check_ring(&pool, 1, 2, BY_RESULT);
        check_ring(&pool, 1, 2, BY_ERROR);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void of_two_pools_tasks_that_wait_for_each_other_one_gets_deadlock(void **state) {
    (void)state;
    tpool *pools[2] = { new_pool(1), new_pool(1) };
    for (int round = 0; round < COUNT(300); round++) check_ring(pools, 2, 2, BY_RESULT);
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_destroy(pools[i]));
}

static void a_cycle_through_three_pools_gives_deadlock_once(void **state) {
    (void)state;
    tpool *pools[3] = { new_pool(1), new_pool(1), new_pool(1) };
    for (int round = 0; round < COUNT(300); round++) check_ring(pools, 3, 3, BY_RESULT);
    for (int i = 0; i < 3; i++) assert_status(TPOOL_OK, tpool_destroy(pools[i]));
}

static void a_later_member_of_a_wait_for_all_closes_a_cycle(void **state) {
    (void)state;
    tpool *pool = new_pool(4);
    tpool *pools[3] = { new_pool(1), new_pool(1), new_pool(1) };
    for (int round = 0; round < COUNT(50); round++) {
        check_ring(&pool, 1, 2, BY_SET);
        check_ring(&pool, 1, 4, BY_SET);
        check_ring(pools, 3, 3, BY_SET);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
    for (int i = 0; i < 3; i++) assert_status(TPOOL_OK, tpool_destroy(pools[i]));
}

/* ---- Rings of tasks that have not started: partly run in place, partly on spares. */

typedef struct ring {
    _Atomic(tpool_future *) *futures;
    int size;
    atomic_int deadlocks, others;
} ring;

typedef struct ring_member {
    ring *ring;
    int place;
} ring_member;

static void *wait_for_next(void *arg) {
    ring_member *m = arg;
    tpool_status got =
        tpool_future_result(atomic_load(&m->ring->futures[(m->place + 1) % m->ring->size]), TPOOL_FOREVER, NULL);
    if (got == TPOOL_DEADLOCK) atomic_fetch_add(&m->ring->deadlocks, 1);
    else if (got != TPOOL_OK) atomic_fetch_add(&m->ring->others, 1);
    return m;
}

static void check_queued_ring(tpool **pools, int pool_count, int size) {
    ring r = { .futures = calloc((size_t)size, sizeof *r.futures), .size = size };
    ring_member *members = calloc((size_t)size, sizeof *members);
    assert_non_null(r.futures);
    assert_non_null(members);
    for (int i = 0; i < pool_count; i++) assert_status(TPOOL_OK, tpool_pause(pools[i]));
    for (int i = 0; i < size; i++) {
        members[i] = (ring_member){ &r, i };
        atomic_store(&r.futures[i], submitted(pools[i % pool_count], wait_for_next, &members[i]));
    }
    for (int i = 0; i < pool_count; i++) assert_status(TPOOL_OK, tpool_resume(pools[i]));
    for (int i = 0; i < size; i++) {
        void *value = NULL;
        assert_status(TPOOL_OK, tpool_future_result(atomic_load(&r.futures[i]), LIMIT, &value));
        assert_ptr_equal(&members[i], value);
    }
    for (int i = 0; i < size; i++) tpool_future_release(atomic_load(&r.futures[i]));
    assert_int_equal(1, atomic_load(&r.deadlocks));
    assert_int_equal(0, atomic_load(&r.others));
    free(r.futures);
    free(members);
}

static void a_ring_of_queued_tasks_gives_deadlock_once(void **state) {
    (void)state;
    for (int workers = 1; workers <= 3; workers++) {
        tpool *pools[2] = { new_pool(workers), new_pool(workers) };
        for (int round = 0; round < COUNT(100); round++) {
            check_queued_ring(pools, 1, 2);
            check_queued_ring(pools, 1, 11);
            check_queued_ring(pools, 2, 10);
        }
        check_queued_ring(pools, 1, COUNT(1000));
        for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_destroy(pools[i]));
    }
}

/* ---- A cycle through a task that lies beneath another on the same stack: bottom waits for top, which runs in place
   on it; top waits for `away`, a task of another pool; that one waits for bottom. */

typedef struct stacked {
    tpool *pool;
    gate started;
    tpool_future *bottom_future, *away_future;
    pthread_t bottom_thread, top_thread;
    tpool_status bottom_got, top_got, away_got;
} stacked;

static void *top_of_stack(void *arg) {
    stacked *s = arg;
    s->top_thread = pthread_self();
    s->top_got = tpool_future_result(s->away_future, TPOOL_FOREVER, NULL);
    return NULL;
}

static void *bottom_of_stack(void *arg) {
    stacked *s = arg;
    tpool_future *top = NULL;
    gate_pass(&s->started);
    s->bottom_thread = pthread_self();
    if (tpool_submit(s->pool, top_of_stack, s, &top) != TPOOL_OK) abort();
    s->bottom_got = tpool_future_result(top, TPOOL_FOREVER, NULL);
    tpool_future_release(top);
    return NULL;
}

static void *away_from_stack(void *arg) {
    stacked *s = arg;
    gate_pass(&s->started);
    s->away_got = tpool_future_result(s->bottom_future, TPOOL_FOREVER, NULL);
    return NULL;
}

static void a_cycle_through_a_task_beneath_another_gives_deadlock(void **state) {
    (void)state;
    tpool *home = new_pool(1), *away = new_pool(1);
    for (int round = 0; round < COUNT(200); round++) {
        stacked s = { .pool = home, .started = GATE_CLOSED };
        s.bottom_future = submitted(s.pool, bottom_of_stack, &s);
        s.away_future = submitted(away, away_from_stack, &s);
        gate_await_arrivals(&s.started, 2);
        gate_open(&s.started);
        assert_status(TPOOL_OK, tpool_future_result(s.bottom_future, LIMIT, NULL));
        assert_status(TPOOL_OK, tpool_future_result(s.away_future, LIMIT, NULL));
        tpool_future_release(s.bottom_future);
        tpool_future_release(s.away_future);
        assert_true(pthread_equal(s.bottom_thread, s.top_thread));
        assert_status(TPOOL_OK, s.bottom_got); /* top ends, one way or the other */
        if (s.top_got == TPOOL_DEADLOCK) {
            assert_status(TPOOL_OK, s.away_got);
        } else {
            assert_status(TPOOL_OK, s.top_got);
            assert_status(TPOOL_DEADLOCK, s.away_got);
        }
    }
    assert_status(TPOOL_OK, tpool_destroy(home));
    assert_status(TPOOL_OK, tpool_destroy(away));
}

/* A task run in place that waits for the one beneath it: that can never end, and only the upper one can be told. */
static void *wait_for_bottom(void *arg) {
    stacked *s = arg;
    s->top_got = tpool_future_result(s->bottom_future, TPOOL_FOREVER, NULL);
    return NULL;
}

static void *run_one_that_waits_for_this(void *arg) {
    stacked *s = arg;
    tpool_future *top = NULL;
    gate_pass(&s->started);
    if (tpool_submit(s->pool, wait_for_bottom, s, &top) != TPOOL_OK) abort();
    s->bottom_got = tpool_future_result(top, TPOOL_FOREVER, NULL);
    tpool_future_release(top);
    return NULL;
}

static void a_task_in_place_that_waits_for_its_own_waiter_gets_deadlock(void **state) {
    (void)state;
    stacked s = { .pool = new_pool(1), .started = GATE_CLOSED };
    s.bottom_future = submitted(s.pool, run_one_that_waits_for_this, &s);
    gate_open(&s.started);
    take(s.bottom_future);
    assert_status(TPOOL_OK, s.bottom_got);
    assert_status(TPOOL_DEADLOCK, s.top_got);
    assert_status(TPOOL_OK, tpool_destroy(s.pool));
}

/* ---- Forked jobs, parts of a loop and items of a map. */

enum { JOBS = 4 };

typedef struct parts {
    tpool *pool;
    gate started;
    tpool_future *own, *other;
    atomic_int deadlocks, ok, others;
    tpool_status loop;
    char items[1];
} parts;

static void note_status(parts *p, tpool_status got) {
    atomic_fetch_add(got == TPOOL_DEADLOCK ? &p->deadlocks : got == TPOOL_OK ? &p->ok : &p->others, 1);
}

/* The task makes JOBS that wait for it, each of which is told. */
static void each_of_these_gets_deadlock(tpool_fn fn) {
    for (int workers = 1; workers <= 3; workers++) {
        tpool *pool = new_pool(workers);
        assert_status(TPOOL_OK, tpool_warm_up(pool, workers));
        for (int round = 0; round < COUNT(200); round++) {
            parts p = { .pool = pool, .started = GATE_CLOSED, .loop = TPOOL_OK };
            p.own = submitted(pool, fn, &p);
            gate_open(&p.started);
            assert_status(TPOOL_OK, end_of(p.own));
            assert_status(TPOOL_OK, p.loop);
            assert_int_equal(JOBS, atomic_load(&p.deadlocks));
            assert_int_equal(0, atomic_load(&p.ok) + atomic_load(&p.others));
        }
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

static void *job_waits_for_owner(void *arg) {
    parts *p = arg;
    note_status(p, tpool_future_result(p->own, TPOOL_FOREVER, NULL));
    return NULL;
}

static void *fork_jobs_that_wait_for_this(void *arg) {
    parts *p = arg;
    tpool_job jobs[JOBS];
    gate_pass(&p->started);
    for (int i = 0; i < JOBS; i++) tpool_fork(&jobs[i], job_waits_for_owner, p);
    for (int i = JOBS - 1; i >= 0; i--) tpool_join(&jobs[i]);
    return NULL;
}

static void a_forked_job_that_waits_for_its_own_task_gets_deadlock(void **state) {
    (void)state;
    each_of_these_gets_deadlock(fork_jobs_that_wait_for_this);
}

static void part_waits_for_owner(size_t begin, size_t end, void *context) {
    parts *p = context;
    for (size_t i = begin; i < end; i++) note_status(p, tpool_future_result(p->own, TPOOL_FOREVER, NULL));
}

static void *loop_over_parts_that_wait_for_this(void *arg) {
    parts *p = arg;
    gate_pass(&p->started);
    p->loop = tpool_for(p->pool, 0, JOBS, 1, part_waits_for_owner, p);
    return NULL;
}

static void a_part_of_a_loop_that_waits_for_its_own_task_gets_deadlock(void **state) {
    (void)state;
    each_of_these_gets_deadlock(loop_over_parts_that_wait_for_this);
}

/* A job or a part waits for a task of another pool, and that one for the task that joins or loops. */
static void *job_waits_for_other(void *arg) {
    parts *p = arg;
    note_status(p, tpool_future_result(p->other, TPOOL_FOREVER, NULL));
    return NULL;
}

static void part_waits_for_other(size_t begin, size_t end, void *context) {
    (void)begin;
    (void)end;
    job_waits_for_other(context);
}

static void *join_a_job_that_waits(void *arg) {
    parts *p = arg;
    tpool_job job;
    gate_pass(&p->started);
    tpool_fork(&job, job_waits_for_other, p);
    tpool_join(&job);
    return NULL;
}

static void *loop_over_a_part_that_waits(void *arg) {
    parts *p = arg;
    gate_pass(&p->started);
    p->loop = tpool_for(p->pool, 0, 1, 1, part_waits_for_other, p);
    return NULL;
}

static void *other_waits_for_owner(void *arg) {
    parts *p = arg;
    gate_pass(&p->started);
    note_status(p, tpool_future_result(p->own, TPOOL_FOREVER, NULL));
    return NULL;
}

static void a_cycle_through_a_job_or_a_part_gives_deadlock_once(void **state) {
    (void)state;
    for (int workers = 1; workers <= 2; workers++) {
        tpool *home = new_pool(workers), *away = new_pool(1);
        assert_status(TPOOL_OK, tpool_warm_up(home, workers));
        for (int round = 0; round < COUNT(200); round++) {
            parts p = { .pool = home, .started = GATE_CLOSED };
            p.own = submitted(home, round % 2 == 0 ? join_a_job_that_waits : loop_over_a_part_that_waits, &p);
            p.other = submitted(away, other_waits_for_owner, &p);
            gate_await_arrivals(&p.started, 2);
            gate_open(&p.started);
            assert_status(TPOOL_OK, tpool_future_result(p.own, LIMIT, NULL));
            assert_status(TPOOL_OK, tpool_future_result(p.other, LIMIT, NULL));
            tpool_future_release(p.own);
            tpool_future_release(p.other);
            assert_int_equal(1, atomic_load(&p.deadlocks));
            assert_int_equal(1, atomic_load(&p.ok));
            assert_int_equal(0, atomic_load(&p.others));
        }
        assert_status(TPOOL_OK, tpool_destroy(home));
        assert_status(TPOOL_OK, tpool_destroy(away));
    }
}

/* The task consumes a map whose item waits for the task: either the item or map_next is told. */
static void *item_waits_for_consumer(void *item, void *context) {
    parts *p = context;
    note_status(p, tpool_future_result(p->own, TPOOL_FOREVER, NULL));
    return item;
}

static void *consume_map_that_waits_for_this(void *arg) {
    parts *p = arg;
    tpool_map_spec spec = {
        .fn = item_waits_for_consumer, .context = p, .items = p->items, .count = 1, .stride = 1, .chunk_size = 1
    };
    tpool_map_iter *iter = NULL;
    void *result = NULL;
    gate_pass(&p->started);
    if (tpool_map(p->pool, &spec, &iter) != TPOOL_OK) abort();
    tpool_status got = tpool_map_next(iter, TPOOL_FOREVER, &result);
    if (got == TPOOL_DEADLOCK) {
        /* The item goes on waiting for this task; a task that gives up here leaves its map to others. */
        note_status(p, got);
        return iter;
    }
    if (got != TPOOL_OK || result != p->items) note_status(p, TPOOL_INVALID);
    tpool_map_close(iter);
    return NULL;
}

static void a_cycle_through_an_item_of_a_map_gives_deadlock_once(void **state) {
    (void)state;
    for (int workers = 1; workers <= 2; workers++) {
        tpool *pool = new_pool(workers);
        for (int round = 0; round < COUNT(200); round++) {
            void *left_over = NULL;
            parts p = { .pool = pool, .started = GATE_CLOSED };
            p.own = submitted(pool, consume_map_that_waits_for_this, &p);
            gate_open(&p.started);
            assert_status(TPOOL_OK, tpool_future_result(p.own, LIMIT, &left_over));
            if (left_over != NULL) tpool_map_close((tpool_map_iter *)left_over);
            assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
            tpool_future_release(p.own);
            assert_int_equal(1, atomic_load(&p.deadlocks));
            assert_int_equal(0, atomic_load(&p.others));
        }
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

/* ---- Where there is no cycle, or none that is searched for. */

typedef struct pair {
    gate started;
    tpool_future *patient, *impatient, *bare;
    tpool_status patient_got, impatient_got;
    atomic_int ended;
    bool by_completions;
} pair;

static void *wait_without_limit(void *arg) {
    pair *p = arg;
    gate_pass(&p->started);
    p->patient_got = tpool_future_result(p->impatient, TPOOL_FOREVER, NULL);
    atomic_fetch_add(&p->ended, 1);
    return NULL;
}

static void *wait_a_tenth_of_a_second(void *arg) {
    pair *p = arg;
    gate_pass(&p->started);
    p->impatient_got = tpool_future_result(p->patient, TPOOL_MS(100), NULL);
    return NULL;
}

static void a_wait_with_a_limit_in_a_cycle_times_out(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    pair p = { .started = GATE_CLOSED };
    p.patient = submitted(pool, wait_without_limit, &p);
    p.impatient = submitted(pool, wait_a_tenth_of_a_second, &p);
    gate_open(&p.started);
    assert_status(TPOOL_OK, tpool_future_result(p.patient, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_future_result(p.impatient, LIMIT, NULL));
    assert_status(TPOOL_OK, p.patient_got);
    assert_status(TPOOL_TIMEOUT, p.impatient_got);
    tpool_future_release(p.patient);
    tpool_future_release(p.impatient);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *wait_for_first_of_two(void *arg) {
    pair *p = arg;
    tpool_future *both[2], *yielded = NULL;
    tpool_completions *completions = NULL;
    gate_pass(&p->started);
    both[0] = p->patient;
    both[1] = p->bare;
    if (p->by_completions) {
        if (tpool_as_completed(both, 2, &completions) != TPOOL_OK) abort();
        p->impatient_got = tpool_completions_next(completions, TPOOL_FOREVER, &yielded);
        if (yielded != p->bare) p->impatient_got = TPOOL_INVALID;
        tpool_completions_destroy(completions);
    } else {
        p->impatient_got = tpool_wait(both, 2, TPOOL_FIRST_COMPLETED, TPOOL_FOREVER, NULL);
    }
    atomic_fetch_add(&p->ended, 1);
    return NULL;
}

static void waits_for_the_first_of_several_are_no_part_of_a_cycle(void **state) {
    (void)state;
    for (int by_completions = 0; by_completions <= 1; by_completions++) {
        tpool *pools[2] = { new_pool(1), new_pool(1) };
        pair p = { .started = GATE_CLOSED, .bare = create_bare(), .by_completions = by_completions == 1 };
        p.patient = submitted(pools[0], wait_without_limit, &p);
        p.impatient = submitted(pools[1], wait_for_first_of_two, &p);
        EVENTUALLY(gate_arrived(&p.started) == 2);
        gate_open(&p.started);
        probe(pools[0]); /* on a spare: both have begun to block */
        probe(pools[1]);
        assert_int_equal(0, atomic_load(&p.ended));
        assert_status(TPOOL_OK, tpool_future_set_result(p.bare, NULL));
        assert_status(TPOOL_OK, tpool_future_result(p.patient, LIMIT, NULL));
        assert_status(TPOOL_OK, tpool_future_result(p.impatient, LIMIT, NULL));
        assert_status(TPOOL_OK, p.patient_got);
        assert_status(TPOOL_OK, p.impatient_got);
        tpool_future_release(p.patient);
        tpool_future_release(p.impatient);
        tpool_future_release(p.bare);
        for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_destroy(pools[i]));
    }
}

/* A task waits for a future that another task completes, which waits for the first with a limit: nothing to search. */
static void *wait_for_bare(void *arg) {
    pair *p = arg;
    p->patient_got = tpool_future_result(p->bare, TPOOL_FOREVER, NULL);
    return NULL;
}

static void a_wait_for_a_future_completed_from_outside_is_no_deadlock(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    pair p = { .bare = create_bare() };
    tpool_future *waiter = submitted(pool, wait_for_bare, &p);
    probe(pool);
    assert_false(tpool_future_done(waiter));
    assert_status(TPOOL_OK, tpool_future_set_result(p.bare, NULL));
    take(waiter);
    assert_status(TPOOL_OK, p.patient_got);
    tpool_future_release(p.bare);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* Many tasks in two pools, each waiting for up to three later ones, one by one or all at once: no cycle, so no
   TPOOL_DEADLOCK, however the waits, the runs in place and the spares meet. */
enum { NODES = 120 };

typedef struct graph {
    _Atomic(tpool_future *) futures[NODES];
    atomic_int troubles;
} graph;

typedef struct graph_node {
    graph *graph;
    int wanted[3], wanted_count;
    bool all_at_once;
} graph_node;

static void *wait_for_later_nodes(void *arg) {
    graph_node *n = arg;
    tpool_future *futures[3];
    for (int i = 0; i < n->wanted_count; i++) futures[i] = atomic_load(&n->graph->futures[n->wanted[i]]);
    if (n->all_at_once) {
        if (tpool_wait(futures, (size_t)n->wanted_count, TPOOL_ALL_COMPLETED, TPOOL_FOREVER, NULL) != TPOOL_OK) {
            atomic_fetch_add(&n->graph->troubles, 1);
        }
        return n;
    }
    for (int i = 0; i < n->wanted_count; i++) {
        if (tpool_future_result(futures[i], TPOOL_FOREVER, NULL) != TPOOL_OK) atomic_fetch_add(&n->graph->troubles, 1);
    }
    return n;
}

static void tasks_without_a_cycle_never_get_deadlock(void **state) {
    (void)state;
    tpool *pools[2] = { new_pool(2), new_pool(2) };
    unsigned seed = 1;
    for (int round = 0; round < COUNT(30); round++) {
        graph g = { .troubles = 0 };
        graph_node nodes[NODES];
        for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_pause(pools[i]));
        for (int i = 0; i < NODES; i++) {
            int later = NODES - 1 - i;
            nodes[i] = (graph_node){ .graph = &g, .wanted_count = later < 3 ? later : 3, .all_at_once = i % 3 == 0 };
            for (int w = 0; w < nodes[i].wanted_count; w++) {
                seed = seed * 1103515245u + 12345u;
                nodes[i].wanted[w] = i + 1 + (int)(seed >> 16) % (later < 12 ? later : 12);
            }
        }
        for (int i = 0; i < NODES; i++) {
            seed = seed * 1103515245u + 12345u;
            atomic_store(&g.futures[i], submitted(pools[(seed >> 16) % 2], wait_for_later_nodes, &nodes[i]));
        }
        for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_resume(pools[i]));
        for (int i = 0; i < NODES; i++) {
            void *value = NULL;
            assert_status(TPOOL_OK, tpool_future_result(atomic_load(&g.futures[i]), LIMIT, &value));
            assert_ptr_equal(&nodes[i], value);
        }
        for (int i = 0; i < NODES; i++) tpool_future_release(atomic_load(&g.futures[i]));
        assert_int_equal(0, atomic_load(&g.troubles));
    }
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_destroy(pools[i]));
}

/* ---- Initializers and finalizers. */

typedef struct hook {
    tpool *pool;
    gate started, task_started;
    tpool_future *task, *other_pools;
    tpool_status waited, submitted, other_waited;
    atomic_int calls;
    atomic_bool finalized;
    bool try_submit;
} hook;

static bool initialize_with_a_wait(void *context) {
    hook *h = context;
    if (atomic_fetch_add(&h->calls, 1) > 0) return true;
    gate_pass(&h->started);
    h->waited = tpool_future_result(h->task, TPOOL_FOREVER, NULL);
    if (h->other_pools != NULL) h->other_waited = tpool_future_result(h->other_pools, TPOOL_FOREVER, NULL);
    if (h->try_submit) h->submitted = tpool_submit(h->pool, nothing, NULL, NULL);
    return true;
}

static void a_wait_for_its_own_pool_in_an_initializer_gives_deadlock(void **state) {
    (void)state;
    hook h = { .started = GATE_CLOSED, .other_waited = TPOOL_INVALID };
    tpool *other = new_pool(1);
    tpool_config config = { .max_workers = 1, .initializer = initialize_with_a_wait, .context = &h };
    assert_status(TPOOL_OK, tpool_create(&h.pool, &config));
    h.other_pools = submitted(other, nothing, NULL);
    h.task = submitted(h.pool, nothing, &h);
    gate_open(&h.started);
    assert_ptr_equal(&h, take(h.task));             /* the pool is not broken by it */
    assert_status(TPOOL_OK, tpool_destroy(h.pool)); /* the initializer has returned: a spare may have run the task */
    assert_status(TPOOL_DEADLOCK, h.waited);
    assert_status(TPOOL_OK, h.other_waited); /* another pool's work it may wait for */
    take(h.other_pools);
    assert_status(TPOOL_OK, tpool_destroy(other));
}

static void a_submit_that_would_block_in_an_initializer_gives_deadlock(void **state) {
    (void)state;
    hook h = { .started = GATE_CLOSED, .try_submit = true };
    tpool_config config = {
        .max_workers = 1, .queue_capacity = 1, .initializer = initialize_with_a_wait, .context = &h
    };
    assert_status(TPOOL_OK, tpool_create(&h.pool, &config));
    h.task = submitted(h.pool, nothing, &h); /* fills the queue until the initializer is done */
    gate_open(&h.started);
    assert_ptr_equal(&h, take(h.task));
    assert_status(TPOOL_DEADLOCK, h.waited);
    assert_status(TPOOL_DEADLOCK, h.submitted);
    assert_status(TPOOL_OK, tpool_destroy(h.pool));
}

static void finalize_with_a_wait(void *context) {
    hook *h = context;
    if (atomic_fetch_add(&h->calls, 1) > 0) return;
    h->waited = tpool_future_result(h->task, TPOOL_FOREVER, NULL);
    h->submitted = tpool_submit(h->pool, nothing, NULL, NULL);
    atomic_store(&h->finalized, true);
}

static void waits_and_blocking_submits_in_a_finalizer_give_deadlock(void **state) {
    (void)state;
    hook h = { .task_started = GATE_CLOSED };
    tpool_config config = { .max_workers = 1,
                            .max_tasks_per_worker = 1,
                            .queue_capacity = 1,
                            .finalizer = finalize_with_a_wait,
                            .context = &h };
    assert_status(TPOOL_OK, tpool_create(&h.pool, &config));
    tpool_future *last_of_worker = submitted(h.pool, gate_task, &h.task_started);
    EVENTUALLY(gate_arrived(&h.task_started) == 1);
    assert_status(TPOOL_OK, tpool_pause(h.pool)); /* so that what is queued stays queued when the worker ends */
    h.task = submitted(h.pool, nothing, &h);
    gate_open(&h.task_started);
    take(last_of_worker);
    EVENTUALLY(atomic_load(&h.finalized));
    assert_status(TPOOL_OK, tpool_resume(h.pool));
    assert_ptr_equal(&h, take(h.task));
    assert_status(TPOOL_OK, tpool_destroy(h.pool));
    assert_status(TPOOL_DEADLOCK, h.waited);
    assert_status(TPOOL_DEADLOCK, h.submitted);
}

static const struct CMUnitTest tests[] = {
    TEST(a_task_that_waits_for_itself_gets_deadlock),
    TEST(of_two_tasks_that_wait_for_each_other_one_gets_deadlock),
    TEST(of_two_pools_tasks_that_wait_for_each_other_one_gets_deadlock),
    TEST(a_cycle_through_three_pools_gives_deadlock_once),
    TEST(a_later_member_of_a_wait_for_all_closes_a_cycle),
    TEST(a_ring_of_queued_tasks_gives_deadlock_once),
    TEST(a_cycle_through_a_task_beneath_another_gives_deadlock),
    TEST(a_task_in_place_that_waits_for_its_own_waiter_gets_deadlock),
    TEST(a_forked_job_that_waits_for_its_own_task_gets_deadlock),
    TEST(a_part_of_a_loop_that_waits_for_its_own_task_gets_deadlock),
    TEST(a_cycle_through_a_job_or_a_part_gives_deadlock_once),
    TEST(a_cycle_through_an_item_of_a_map_gives_deadlock_once),
    TEST(a_wait_with_a_limit_in_a_cycle_times_out),
    TEST(waits_for_the_first_of_several_are_no_part_of_a_cycle),
    TEST(a_wait_for_a_future_completed_from_outside_is_no_deadlock),
    TEST(tasks_without_a_cycle_never_get_deadlock),
    TEST(a_wait_for_its_own_pool_in_an_initializer_gives_deadlock),
    TEST(a_submit_that_would_block_in_an_initializer_gives_deadlock),
    TEST(waits_and_blocking_submits_in_a_finalizer_give_deadlock),
};
RUN_TESTS(tests)
