/* tpool_fork and tpool_join: jobs that may run elsewhere between the two, and belong to the task that joins them. */
#include "support.h"

#include <sched.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

static tpool *create_pool(int workers, size_t stack_size) {
    tpool_config config = { .max_workers = workers, .stack_size = stack_size };
    tpool *pool = new_pool_as(config);
    assert_status(TPOOL_OK, tpool_warm_up(pool, workers)); /* so that there is somebody to take a job */
    return pool;
}

/* ---- Results, breadth and depth. */

static void *fib(void *arg) {
    intptr_t n = (intptr_t)arg;
    if (n < 2) return arg;
    tpool_job job;
    tpool_fork(&job, fib, (void *)(n - 1));
    intptr_t second = (intptr_t)fib((void *)(n - 2));
    intptr_t first = (intptr_t)tpool_join(&job);
    return (void *)(first + second);
}

static intptr_t plain_fib(intptr_t n) { return n < 2 ? n : plain_fib(n - 1) + plain_fib(n - 2); }

static void divide_and_conquer_gives_the_right_result(void **state) {
    (void)state;
    intptr_t n = SLOW_TOOL ? 18 : 25;
    static const int workers[] = { 1, 2, 4 };
    for (int w = 0; w < 3; w++) {
        tpool *pool = create_pool(workers[w], 0);
        assert_int_equal(plain_fib(n), (intptr_t)take(submitted(pool, fib, (void *)n)));
        /* Several at once share the workers. */
        tpool_future *futures[6];
        for (intptr_t i = 0; i < 6; i++) futures[i] = submitted(pool, fib, (void *)(n - 10 + i));
        for (intptr_t i = 0; i < 6; i++) assert_int_equal(plain_fib(n - 10 + i), (intptr_t)take(futures[i]));
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

/* Each job forks the next one and joins it at once. */
static void *dig(void *arg) {
    intptr_t depth = (intptr_t)arg;
    if (depth == 0) return NULL;
    tpool_job job;
    tpool_fork(&job, dig, (void *)(depth - 1));
    return (void *)((intptr_t)tpool_join(&job) + 1);
}

static void jobs_nest_a_hundred_thousand_deep(void **state) {
    (void)state;
    tpool *pool = create_pool(1, (size_t)256 << 20);
    intptr_t depth = COUNT(100000);
    assert_int_equal(depth, (intptr_t)take(submitted(pool, dig, (void *)depth)));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    pool = create_pool(3, (size_t)64 << 20);
    depth = COUNT(5000);
    for (int i = 0; i < 3; i++) assert_int_equal(depth, (intptr_t)take(submitted(pool, dig, (void *)depth)));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

typedef struct pile {
    int count, wrong;
    tpool_job *jobs;
    atomic_int *runs;
} pile;

static void *fork_all_then_join_all(void *arg) {
    pile *p = arg;
    for (int i = 0; i < p->count; i++) tpool_fork(&p->jobs[i], count_up, &p->runs[i]);
    for (int i = p->count - 1; i >= 0; i--) {
        if (tpool_join(&p->jobs[i]) != &p->runs[i]) p->wrong++;
        if (atomic_load(&p->runs[i]) != 1) p->wrong++;
    }
    return NULL;
}

static void a_hundred_thousand_jobs_may_be_pending(void **state) {
    (void)state;
    for (int workers = 1; workers <= 3; workers++) {
        tpool *pool = create_pool(workers, 0);
        pile p = { .count = COUNT(100000) };
        p.jobs = calloc((size_t)p.count, sizeof *p.jobs);
        p.runs = calloc((size_t)p.count, sizeof *p.runs);
        assert_non_null(p.jobs);
        assert_non_null(p.runs);
        take(submitted(pool, fork_all_then_join_all, &p));
        assert_int_equal(0, p.wrong);
        for (int i = 0; i < p.count; i++) assert_int_equal(1, atomic_load(&p.runs[i]));
        free(p.jobs);
        free(p.runs);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

/* The bytes of memory that are allocated, or 0 where the system does not tell. */
static size_t allocated_bytes(void) {
#if defined(__GLIBC__) && !SLOW_TOOL
#if __GLIBC_PREREQ(2, 33)
    return mallinfo2().uordblks;
#endif
#endif
    return 0;
}

typedef struct thrift {
    pile pile;
    size_t before, pending, after;
} thrift;

static void *watch_allocation(void *arg) {
    thrift *t = arg;
    pile *p = &t->pile;
    t->before = allocated_bytes();
    for (int i = 0; i < p->count; i++) tpool_fork(&p->jobs[i], count_up, &p->runs[i]);
    t->pending = allocated_bytes();
    for (int i = p->count - 1; i >= 0; i--) tpool_join(&p->jobs[i]);
    t->after = allocated_bytes();
    return NULL;
}

static void fork_and_join_allocate_nothing(void **state) {
    (void)state;
    if (allocated_bytes() == 0) skip();
    tpool *pool = create_pool(1, 0);
    thrift t = { .pile = { .count = 10000 } };
    t.pile.jobs = calloc((size_t)t.pile.count, sizeof *t.pile.jobs);
    t.pile.runs = calloc((size_t)t.pile.count, sizeof *t.pile.runs);
    assert_non_null(t.pile.jobs);
    assert_non_null(t.pile.runs);
    take(submitted(pool, watch_allocation, &t));
    assert_int_equal(t.before, t.pending);
    assert_int_equal(t.before, t.after);
    free(t.pile.jobs);
    free(t.pile.runs);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *give_null(void *arg) {
    (void)arg;
    return NULL;
}

static void *join_results(void *arg) {
    int *wrong = arg;
    tpool_job jobs[3];
    tpool_fork(&jobs[0], nothing, wrong);
    tpool_fork(&jobs[1], give_null, wrong);
    tpool_fork(&jobs[2], nothing, NULL);
    if (tpool_join(&jobs[2]) != NULL) ++*wrong;
    if (tpool_join(&jobs[1]) != NULL) ++*wrong;
    tpool_fork(&jobs[1], nothing, jobs); /* a job may be used again once it is joined */
    if (tpool_join(&jobs[1]) != jobs) ++*wrong;
    if (tpool_join(&jobs[0]) != wrong) ++*wrong;
    return NULL;
}

static void join_gives_what_the_job_returned(void **state) {
    (void)state;
    tpool *pool = create_pool(2, 0);
    int wrong = 0;
    for (int round = 0; round < COUNT(1000); round++) take(submitted(pool, join_results, &wrong));
    assert_int_equal(0, wrong);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Outside a worker. */

typedef struct deferred {
    int runs;
    pthread_t thread;
} deferred;

static void *note_deferred(void *arg) {
    deferred *d = arg;
    d->runs++;
    d->thread = pthread_self();
    tpool_raise(1, "nobody is there"); /* does nothing */
    return tpool_stop_requested() ? NULL : d;
}

static void *fork_outside(void *arg) {
    deferred *d = arg;
    tpool_job first, second;
    int wrong = 0;
    tpool_fork(&first, note_deferred, &d[0]);
    tpool_fork(&second, note_deferred, &d[1]);
    if (d[0].runs != 0 || d[1].runs != 0) wrong++;
    if (tpool_join(&second) != &d[1]) wrong++;
    if (d[0].runs != 0 || d[1].runs != 1) wrong++;
    if (tpool_join(&first) != &d[0]) wrong++;
    if (d[0].runs != 1 || d[1].runs != 1) wrong++;
    for (int i = 0; i < 2; i++) wrong += !pthread_equal(d[i].thread, pthread_self());
    if ((intptr_t)fib((void *)(intptr_t)15) != 610) wrong++;
    return (void *)(intptr_t)wrong;
}

static void outside_a_worker_fork_defers_to_join(void **state) {
    (void)state;
    tpool *pool = create_pool(2, 0); /* somebody would be there, but is not asked */
    deferred in_main[2] = { { .runs = 0 } }, in_thread[2] = { { .runs = 0 } };
    pthread_t thread;
    void *wrong = NULL;
    assert_int_equal(0, (intptr_t)fork_outside(in_main));
    assert_int_equal(0, pthread_create(&thread, NULL, fork_outside, in_thread));
    assert_int_equal(0, pthread_join(thread, &wrong));
    assert_int_equal(0, (intptr_t)wrong);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Jobs that run on another worker. A job is offered until another thread has begun it. */

typedef struct offer {
    pthread_t owner, thread;
    atomic_int state; /* OFFERED, then one of the others */
    tpool_fn fn;
    void *arg;
} offer;

enum { OFFERED, TAKEN, WITHDRAWN };

static void *run_offer(void *arg) {
    offer *o = arg;
    int offered = OFFERED;
    if (pthread_equal(pthread_self(), o->owner)) return NULL; /* its owner's join runs it: it is offered again */
    o->thread = pthread_self();
    if (!atomic_compare_exchange_strong(&o->state, &offered, TAKEN)) return NULL;
    return o->fn(o->arg);
}

/* Forks fn(arg) so that it runs on another thread. True: it does, and is to be joined. False: nobody has taken it in
   10 seconds, and nothing is forked. */
static bool fork_elsewhere(tpool_job *job, offer *o, tpool_fn fn, void *arg) {
    int64_t give_up = tpool_now() + TPOOL_SEC(10);
    do {
        int64_t again = tpool_now() + TPOOL_MS(20);
        int offered = OFFERED;
        *o = (offer){ .owner = pthread_self(), .fn = fn, .arg = arg };
        tpool_fork(job, run_offer, o);
        while (atomic_load(&o->state) == OFFERED && tpool_now() < again) sched_yield();
        if (!atomic_compare_exchange_strong(&o->state, &offered, WITHDRAWN)) return true;
        tpool_join(job);
    } while (tpool_now() < give_up);
    return false;
}

typedef struct theft {
    tpool *pool;
    bool elsewhere;
    offer offer;
    tpool *ran_in;
    int ran_by, owner_index;
    void *joined;
    bool stop_seen, stop_seen_by_owner;
    gate started;
} theft;

static void *note_thief(void *arg) {
    theft *t = arg;
    t->ran_in = tpool_current();
    t->ran_by = tpool_current_worker();
    t->stop_seen = tpool_stop_requested();
    return t;
}

static void *let_it_be_stolen(void *arg) {
    theft *t = arg;
    tpool_job job;
    gate_pass(&t->started);
    t->owner_index = tpool_current_worker();
    t->stop_seen_by_owner = tpool_stop_requested();
    t->elsewhere = fork_elsewhere(&job, &t->offer, note_thief, t);
    if (t->elsewhere) t->joined = tpool_join(&job);
    return NULL;
}

static void an_idle_worker_takes_a_forked_job(void **state) {
    (void)state;
    for (int round = 0; round < COUNT(100); round++) {
        theft t = { .pool = create_pool(2, 0), .started = GATE_CLOSED };
        gate_open(&t.started);
        take(submitted(t.pool, let_it_be_stolen, &t));
        assert_true(t.elsewhere);
        assert_ptr_equal(&t, t.joined);
        assert_false(pthread_equal(t.offer.owner, t.offer.thread));
        assert_ptr_equal(t.pool, t.ran_in);
        assert_int_not_equal(t.owner_index, t.ran_by);
        assert_false(t.stop_seen);
        EVENTUALLY(stats_of(t.pool).stolen >= 1);
        assert_status(TPOOL_OK, tpool_destroy(t.pool));
    }
}

static void a_stop_request_is_seen_in_a_job_that_runs_elsewhere(void **state) {
    (void)state;
    theft t = { .pool = create_pool(2, 0), .started = GATE_CLOSED };
    tpool_future *future = submitted(t.pool, let_it_be_stolen, &t);
    EVENTUALLY(gate_arrived(&t.started) == 1);
    tpool_future_request_stop(future);
    gate_open(&t.started);
    take(future);
    assert_true(t.elsewhere);
    assert_true(t.stop_seen_by_owner);
    assert_true(t.stop_seen);
    assert_status(TPOOL_OK, tpool_destroy(t.pool));
}

/* The request comes while the job runs. */
typedef struct late_stop {
    gate started;
    offer offer;
    bool elsewhere, seen;
} late_stop;

static void *await_stop(void *arg) {
    late_stop *l = arg;
    int64_t give_up = tpool_now() + TPOOL_SEC(10);
    gate_pass(&l->started);
    while (!tpool_stop_requested() && tpool_now() < give_up) sleep_ms(1);
    l->seen = tpool_stop_requested();
    return NULL;
}

static void *fork_one_that_awaits_stop(void *arg) {
    late_stop *l = arg;
    tpool_job job;
    l->elsewhere = fork_elsewhere(&job, &l->offer, await_stop, l);
    if (l->elsewhere) tpool_join(&job);
    return NULL;
}

static void a_stop_request_reaches_a_job_that_runs_already(void **state) {
    (void)state;
    tpool *pool = create_pool(2, 0);
    late_stop l = { .started = GATE_CLOSED };
    tpool_future *future = submitted(pool, fork_one_that_awaits_stop, &l);
    EVENTUALLY(gate_arrived(&l.started) == 1);
    tpool_future_request_stop(future);
    gate_open(&l.started);
    take(future);
    assert_true(l.elsewhere);
    assert_true(l.seen);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *note_stop(void *arg) {
    *(bool *)arg = tpool_stop_requested();
    return NULL;
}

typedef struct own_stop {
    gate started;
    bool seen;
} own_stop;

static void *fork_one_that_notes_stop(void *arg) {
    own_stop *o = arg;
    tpool_job job;
    gate_pass(&o->started);
    tpool_fork(&job, note_stop, &o->seen);
    tpool_join(&job);
    return NULL;
}

static void a_stop_request_is_seen_in_a_job_that_its_join_runs(void **state) {
    (void)state;
    for (int stop = 0; stop <= 1; stop++) {
        tpool *pool = create_pool(1, 0);
        own_stop o = { .started = GATE_CLOSED };
        tpool_future *future = submitted(pool, fork_one_that_notes_stop, &o);
        EVENTUALLY(gate_arrived(&o.started) == 1);
        if (stop == 1) tpool_future_request_stop(future);
        gate_open(&o.started);
        take(future);
        assert_int_equal(stop, o.seen);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

/* ---- Errors. */

typedef struct mishap {
    bool at_once; /* raise in a job that the join runs, else in one that runs elsewhere */
    bool elsewhere;
    offer offer;
    void *joined;
} mishap;

static void *raise_in_job(void *arg) {
    (void)arg;
    return tpool_raise(11, "in the job");
}

static void *join_one_that_raises(void *arg) {
    mishap *m = arg;
    tpool_job job;
    m->joined = m;
    if (m->at_once) {
        tpool_fork(&job, raise_in_job, NULL);
    } else {
        m->elsewhere = fork_elsewhere(&job, &m->offer, raise_in_job, NULL);
        if (!m->elsewhere) return NULL;
    }
    m->joined = tpool_join(&job);
    return m; /* the task fails all the same */
}

static void an_error_raised_in_a_job_belongs_to_the_task_that_joins(void **state) {
    (void)state;
    for (int at_once = 0; at_once <= 1; at_once++) {
        tpool *pool = create_pool(at_once == 1 ? 1 : 2, 0);
        mishap m = { .at_once = at_once == 1 };
        const tpool_error *error = NULL;
        tpool_future *future = submitted(pool, join_one_that_raises, &m);
        assert_status(TPOOL_FAILED, tpool_future_result(future, LIMIT, NULL));
        assert_true(m.at_once || m.elsewhere);
        assert_null(m.joined);
        assert_status(TPOOL_OK, tpool_future_error(future, 0, &error));
        assert_non_null(error);
        assert_int_equal(11, error->code);
        assert_string_equal("in the job", error->message);
        tpool_future_release(future);
        for (int i = 0; i < 4; i++) take(submitted(pool, nothing, NULL)); /* and to no other */
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

/* Jobs at any depth: the innermost raises. */
static void *dig_and_raise(void *arg) {
    intptr_t depth = (intptr_t)arg;
    if (depth == 0) return tpool_raise(12, "at the bottom");
    tpool_job job;
    tpool_fork(&job, dig_and_raise, (void *)(depth - 1));
    return tpool_join(&job);
}

static void an_error_comes_up_from_any_depth(void **state) {
    (void)state;
    tpool *pool = create_pool(3, 0);
    for (int round = 0; round < COUNT(300); round++) {
        tpool_future *future = submitted(pool, dig_and_raise, (void *)(intptr_t)(round % 20));
        const tpool_error *error = NULL;
        assert_status(TPOOL_OK, tpool_future_error(future, LIMIT, &error));
        assert_non_null(error);
        assert_int_equal(12, error->code);
        tpool_future_release(future);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* A task that a job runs in place has its own errors. */
typedef struct inner_task {
    tpool *pool;
    tpool_status got;
} inner_task;

static void *await_one_that_raises(void *arg) {
    inner_task *i = arg;
    tpool_future *future = NULL;
    if (tpool_submit(i->pool, raise_in_job, NULL, &future) != TPOOL_OK) abort();
    i->got = tpool_future_result(future, TPOOL_FOREVER, NULL);
    tpool_future_release(future);
    return i;
}

static void *join_one_that_awaits(void *arg) {
    tpool_job job;
    tpool_fork(&job, await_one_that_raises, arg);
    return tpool_join(&job);
}

static void an_error_of_a_task_that_a_job_awaits_is_not_the_jobs(void **state) {
    (void)state;
    for (int workers = 1; workers <= 2; workers++) {
        inner_task i = { .pool = create_pool(workers, 0) };
        for (int round = 0; round < COUNT(100); round++) {
            assert_ptr_equal(&i, take(submitted(i.pool, join_one_that_awaits, &i)));
            assert_status(TPOOL_FAILED, i.got);
        }
        assert_status(TPOOL_OK, tpool_destroy(i.pool));
    }
}

/* ---- While the pool is paused. */

typedef struct paused_jobs {
    gate started;
    pthread_t owner;
    atomic_int jobs, by_others;
} paused_jobs;

static paused_jobs *paused; /* so that the recursion can keep its argument for the number */

static void *fib_in_pause(void *arg) {
    intptr_t n = (intptr_t)arg;
    atomic_fetch_add(&paused->jobs, 1);
    if (!pthread_equal(pthread_self(), paused->owner)) atomic_fetch_add(&paused->by_others, 1);
    if (n < 2) return arg;
    tpool_job job;
    tpool_fork(&job, fib_in_pause, (void *)(n - 1));
    intptr_t second = (intptr_t)fib_in_pause((void *)(n - 2));
    return (void *)((intptr_t)tpool_join(&job) + second);
}

static void *start_fib_in_pause(void *arg) {
    gate_pass(&paused->started);
    paused->owner = pthread_self();
    return fib_in_pause(arg);
}

static void during_a_pause_joins_go_on_and_nothing_is_taken_over(void **state) {
    (void)state;
    paused_jobs p = { .started = GATE_CLOSED };
    paused = &p;
    tpool *pool = create_pool(3, 0);
    tpool_future *future = submitted(pool, start_fib_in_pause, (void *)(intptr_t)15);
    EVENTUALLY(gate_arrived(&p.started) == 1);
    assert_status(TPOOL_OK, tpool_pause(pool));
    gate_open(&p.started);
    assert_int_equal(610, (intptr_t)take(future));
    assert_true(atomic_load(&p.jobs) > 1000);
    assert_int_equal(0, atomic_load(&p.by_others));
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- A join that has to wait. */

typedef struct long_join {
    tpool *pool;
    offer offer;
    bool elsewhere;
    tpool_future *bare;
    tpool_status submitted, job_got;
    pthread_t setter;
} long_join;

static void *complete_bare(void *arg) {
    long_join *l = arg;
    l->setter = pthread_self();
    if (tpool_future_set_result(l->bare, NULL) != TPOOL_OK) abort();
    return NULL;
}

static void *await_bare(void *arg) {
    long_join *l = arg;
    l->job_got = tpool_future_result(l->bare, TPOOL_FOREVER, NULL);
    return l;
}

static void *join_one_that_needs_the_queue(void *arg) {
    long_join *l = arg;
    tpool_job job;
    l->elsewhere = fork_elsewhere(&job, &l->offer, await_bare, l);
    if (!l->elsewhere) return NULL;
    l->submitted = tpool_submit(l->pool, complete_bare, l, NULL);
    if (l->submitted != TPOOL_OK) tpool_future_set_result(l->bare, NULL);
    return tpool_join(&job);
}

static void a_join_of_a_job_that_waits_for_a_queued_task_does_not_hang(void **state) {
    (void)state;
    for (int round = 0; round < COUNT(100); round++) {
        long_join l = { .pool = create_pool(2, 0) };
        assert_status(TPOOL_OK, tpool_future_create(&l.bare));
        assert_ptr_equal(&l, take(submitted(l.pool, join_one_that_needs_the_queue, &l)));
        assert_true(l.elsewhere);
        assert_status(TPOOL_OK, l.submitted);
        assert_status(TPOOL_OK, l.job_got);
        assert_status(TPOOL_OK, tpool_destroy(l.pool));
        tpool_future_release(l.bare);
    }
}

/* The joiner blocks while its job passes a gate elsewhere: only a spare worker can run what is queued then. */
typedef struct gated_join {
    offer offer;
    bool elsewhere;
    gate held;
} gated_join;

static void *join_one_at_a_gate(void *arg) {
    gated_join *g = arg;
    tpool_job job;
    g->elsewhere = fork_elsewhere(&job, &g->offer, gate_task, &g->held);
    return g->elsewhere ? tpool_join(&job) : NULL;
}

static void a_join_that_blocks_gets_a_spare_worker(void **state) {
    (void)state;
    tpool *pool = create_pool(2, 0);
    gated_join g = { .held = GATE_CLOSED };
    tpool_future *future = submitted(pool, join_one_at_a_gate, &g);
    EVENTUALLY(gate_arrived(&g.held) == 1);
    take(submitted(pool, nothing, NULL)); /* one worker is at the gate, the other one in the join */
    assert_false(tpool_future_done(future));
    EVENTUALLY(stats_of(pool).spared >= 1);
    gate_open(&g.held);
    assert_ptr_equal(&g.held, take(future));
    assert_true(g.elsewhere);
    EVENTUALLY(stats_of(pool).workers <= 2);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* A join that waits runs nothing but jobs from beneath its own. The task holds a lock (one that checks for errors, so
   that a mistake does not hang) while it joins; a queued task and another task's job want the same lock. */
typedef struct locked_join {
    tpool *pool;
    pthread_mutex_t lock;
    offer offer;
    bool elsewhere;
    gate held;         /* for the job that runs elsewhere */
    gate other_held;   /* for the other task, between its fork and its join */
    atomic_int joiner; /* its thread's number, once it is about to join */
    pthread_t joiner_thread;
    tpool_future *queued;
    atomic_bool queued_started;
    atomic_int refused; /* locks that were not given */
    pthread_t queued_thread;
} locked_join;

static void take_lock(locked_join *l) {
    if (pthread_mutex_lock(&l->lock) != 0) {
        atomic_fetch_add(&l->refused, 1);
        return;
    }
    pthread_mutex_unlock(&l->lock);
}

static void *queued_wants_lock(void *arg) {
    locked_join *l = arg;
    l->queued_thread = pthread_self();
    atomic_store(&l->queued_started, true);
    take_lock(l);
    return NULL;
}

static void *job_wants_lock(void *arg) {
    locked_join *l = arg;
    take_lock(l);
    return NULL;
}

static void *fork_one_that_wants_the_lock(void *arg) {
    locked_join *l = arg;
    tpool_job job;
    tpool_fork(&job, job_wants_lock, l);
    gate_pass(&l->other_held);
    tpool_join(&job);
    return NULL;
}

static void *join_under_lock(void *arg) {
    locked_join *l = arg;
    tpool_job job;
    l->elsewhere = fork_elsewhere(&job, &l->offer, gate_task, &l->held);
    if (!l->elsewhere) return NULL;
    if (pthread_mutex_lock(&l->lock) != 0) abort();
    if (tpool_submit(l->pool, queued_wants_lock, l, &l->queued) != TPOOL_OK) abort();
    l->joiner_thread = pthread_self();
    atomic_store(&l->joiner, system_thread());
    tpool_join(&job);
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

static void init_locked_join(locked_join *l) {
    pthread_mutexattr_t attributes;
    assert_int_equal(0, pthread_mutexattr_init(&attributes));
    assert_int_equal(0, pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK));
    assert_int_equal(0, pthread_mutex_init(&l->lock, &attributes));
    pthread_mutexattr_destroy(&attributes);
}

static void a_join_that_waits_runs_no_queued_task(void **state) {
    (void)state;
    locked_join l = { .pool = create_pool(2, 0), .held = GATE_CLOSED };
    init_locked_join(&l);
    tpool_future *future = submitted(l.pool, join_under_lock, &l);
    EVENTUALLY(atomic_load(&l.queued_started)); /* while both workers are taken: on a spare */
    assert_false(tpool_future_done(future));
    gate_open(&l.held);
    take(future);
    take(l.queued);
    assert_true(l.elsewhere);
    assert_int_equal(0, atomic_load(&l.refused));
    assert_false(pthread_equal(l.joiner_thread, l.queued_thread));
    assert_status(TPOOL_OK, tpool_destroy(l.pool));
    pthread_mutex_destroy(&l.lock);
}

static void a_join_that_waits_runs_no_other_tasks_job(void **state) {
    (void)state;
    locked_join l = { .pool = create_pool(3, 0), .held = GATE_CLOSED, .other_held = GATE_CLOSED };
    init_locked_join(&l);
    tpool_future *future = submitted(l.pool, join_under_lock, &l);
    EVENTUALLY(atomic_load(&l.joiner) != 0);
    tpool_future *other = submitted(l.pool, fork_one_that_wants_the_lock, &l);
    EVENTUALLY(gate_arrived(&l.other_held) == 1); /* its job is on offer now, and the joiner has nothing to do */
    await_thread_asleep(&l.joiner);
    gate_open(&l.held);
    take(future);
    gate_open(&l.other_held);
    take(other);
    take(l.queued);
    assert_true(l.elsewhere);
    assert_int_equal(0, atomic_load(&l.refused));
    assert_status(TPOOL_OK, tpool_destroy(l.pool));
    pthread_mutex_destroy(&l.lock);
}

/* ---- Together with waits and loops: brackets stay brackets. */

static atomic_int mixed_troubles;

typedef struct mixed_call {
    tpool *pool;
    int n;
} mixed_call;

static void *mixed_fib(void *arg);

static void mixed_part(size_t begin, size_t end, void *context) {
    mixed_call *parts = context;
    for (size_t i = begin; i < end; i++) parts[i].n = (int)(intptr_t)mixed_fib(&parts[i]);
}

/* One half by a fork; the other one by a task, by a loop or by hand. */
static void *mixed_fib(void *arg) {
    mixed_call *call = arg;
    if (call->n < 2) return (void *)(intptr_t)call->n;
    mixed_call first = { call->pool, call->n - 1 }, second = { call->pool, call->n - 2 };
    tpool_future *future = NULL;
    void *part = NULL;
    tpool_job job;
    tpool_fork(&job, mixed_fib, &first);
    if (call->n % 3 == 0) {
        if (tpool_submit(call->pool, mixed_fib, &second, &future) != TPOOL_OK ||
            tpool_future_result(future, TPOOL_FOREVER, &part) != TPOOL_OK) {
            atomic_fetch_add(&mixed_troubles, 1);
        }
        tpool_future_release(future);
    } else if (call->n % 3 == 1) {
        if (tpool_for(call->pool, 0, 1, 1, mixed_part, &second) != TPOOL_OK) atomic_fetch_add(&mixed_troubles, 1);
        part = (void *)(intptr_t)second.n;
    } else {
        part = mixed_fib(&second);
    }
    return (void *)((intptr_t)tpool_join(&job) + (intptr_t)part);
}

static void forks_waits_and_loops_mix(void **state) {
    (void)state;
    int n = SLOW_TOOL ? 11 : 16;
    for (int workers = 1; workers <= 4; workers++) {
        tpool *pool = create_pool(workers, 0);
        atomic_store(&mixed_troubles, 0);
        mixed_call call = { pool, n };
        assert_int_equal(plain_fib(n), (intptr_t)take(submitted(pool, mixed_fib, &call)));
        mixed_call outside = { pool, n };
        assert_int_equal(plain_fib(n), (intptr_t)mixed_fib(&outside));
        assert_int_equal(0, atomic_load(&mixed_troubles));
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

/* ---- Stops: a job asks for the task that it belongs to, also from within a loop's body or a map's item. */

typedef struct stopper {
    tpool *pool, *other;
    tpool_future *future; /* of the task that loops */
    gate started, asked;
    bool before, after; /* as the job, on another worker, sees it before and after its task is asked to stop */
} stopper;
static void *look_for_stops(void *arg) {
    stopper *s = arg;
    s->before = tpool_stop_requested();
    gate_pass(&s->asked);
    s->after = tpool_stop_requested();
    return NULL;
}
static void *fork_a_look(void *item, void *context) {
    stopper *s = context;
    tpool_job job;
    (void)item;
    tpool_fork(&job, look_for_stops, s);
    AWAIT_THEFT(gate_arrived(&s->asked) == 1);
    (void)tpool_join(&job);
    return NULL;
}
static void fork_a_look_in_body(size_t begin, size_t end, void *context) {
    (void)begin;
    (void)end;
    (void)fork_a_look(NULL, context);
}
static void *loop_with_a_look(void *arg) {
    stopper *s = arg;
    gate_pass(&s->started);
    assert_status(TPOOL_OK, tpool_for(s->other, 0, 1, 1, fork_a_look_in_body, s));
    return NULL;
}
static void a_job_forked_in_a_loop_asks_for_its_task(void **state) {
    (void)state;
    stopper s = { .started = GATE_CLOSED, .asked = GATE_CLOSED };
    gate busy = GATE_CLOSED;
    s.pool = create_pool(2, 0);
    s.other = create_pool(1, 0);
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_submit(s.pool, gate_task, &busy, NULL));
    gate_await_arrivals(&busy, 2);
    s.future = submitted(s.pool, loop_with_a_look, &s);
    assert_status(TPOOL_OK, tpool_shutdown(s.pool, TPOOL_STOP_RUNNING)); /* it does not run yet */
    gate_open(&s.started);
    gate_open(&busy);
    gate_await_arrivals(&s.asked, 1);
    tpool_future_request_stop(s.future);
    gate_open(&s.asked);
    (void)take(s.future);
    assert_false(s.before);
    assert_true(s.after);
    assert_status(TPOOL_OK, tpool_destroy(s.pool));
    assert_status(TPOOL_OK, tpool_destroy(s.other));
}
static void a_job_forked_in_an_item_asks_for_its_chunk(void **state) {
    (void)state;
    stopper s = { .started = GATE_CLOSED, .asked = GATE_CLOSED };
    gate busy = GATE_CLOSED;
    char item = 0;
    tpool_map_spec spec = { .fn = fork_a_look, .context = &s, .items = &item, .count = 1, .stride = 1 };
    tpool_map_iter *iter = NULL;
    s.pool = create_pool(2, 0);
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_submit(s.pool, gate_task, &busy, NULL));
    gate_await_arrivals(&busy, 2);
    assert_status(TPOOL_OK, tpool_map(s.pool, &spec, &iter));
    assert_status(TPOOL_OK, tpool_shutdown(s.pool, TPOOL_STOP_RUNNING));
    gate_open(&busy);
    gate_await_arrivals(&s.asked, 1);
    assert_status(TPOOL_OK, tpool_shutdown(s.pool, TPOOL_STOP_RUNNING));
    gate_open(&s.asked);
    assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, NULL));
    assert_false(s.before);
    assert_true(s.after);
    tpool_map_close(iter);
    assert_status(TPOOL_OK, tpool_destroy(s.pool));
}

static const struct CMUnitTest tests[] = {
    TEST(divide_and_conquer_gives_the_right_result),
    TEST(jobs_nest_a_hundred_thousand_deep),
    TEST(a_hundred_thousand_jobs_may_be_pending),
    TEST(fork_and_join_allocate_nothing),
    TEST(join_gives_what_the_job_returned),
    TEST(outside_a_worker_fork_defers_to_join),
    TEST(an_idle_worker_takes_a_forked_job),
    TEST(a_stop_request_is_seen_in_a_job_that_runs_elsewhere),
    TEST(a_stop_request_reaches_a_job_that_runs_already),
    TEST(a_stop_request_is_seen_in_a_job_that_its_join_runs),
    TEST(an_error_raised_in_a_job_belongs_to_the_task_that_joins),
    TEST(an_error_comes_up_from_any_depth),
    TEST(an_error_of_a_task_that_a_job_awaits_is_not_the_jobs),
    TEST(during_a_pause_joins_go_on_and_nothing_is_taken_over),
    TEST(a_join_of_a_job_that_waits_for_a_queued_task_does_not_hang),
    TEST(a_join_that_blocks_gets_a_spare_worker),
    TEST(a_join_that_waits_runs_no_queued_task),
    TEST(a_join_that_waits_runs_no_other_tasks_job),
    TEST(forks_waits_and_loops_mix),
    TEST(a_job_forked_in_a_loop_asks_for_its_task),
    TEST(a_job_forked_in_an_item_asks_for_its_chunk),
};
RUN_TESTS(tests)
