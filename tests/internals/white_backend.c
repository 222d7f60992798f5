/* What stands behind a worker (>>backend): a table of the test's own, whose backings are mere flags and which executes
   tasks in the proxy, serves a pool as that of process pools does. Each of its operations checks what the contract says
   about its caller: the locks, the thread, the order. */
#include "support.h"
static void require(bool holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "white_backend: FAILED: %s\n", what);
    abort();
}
#define TPOOL_NO_PROCESSES
#define TPOOL__BACKEND_OF_PROCESSES flags_backend
#define TPOOL_ASSERT(x) require((x) != 0, #x)
#include <stdint.h>
static int64_t drainers_look = 5000000;
#define TPOOL__DRAINER_LOOKS drainers_look
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
#define MUST(x) require((x) != 0, #x)

typedef struct backing {
    atomic_bool runs, lost;
    _Atomic(tpool_future *) task;
} backing;

static struct {
    tpool_status on_check, on_start;
    _Atomic(tpool_status) on_ready;
    atomic_int refused_launches;
    atomic_bool loses, times_out, tells_late; /* it takes more than LAUNCH_LEAST to say that it refuses */
    gate *_Atomic at_launch, *_Atomic at_ready, *_Atomic at_kill;
    _Atomic int64_t time_to_launch;
    atomic_int checks, starts, stops, workers, launches, readies, ends, tasks, items, kills, requests;
    atomic_int left; /* backings that still ran at the stop */
    atomic_int forks_begun, forks_ended, inherited, in_program;
    _Atomic(const tpool_future *) asked;
} seen;

static backing *backing_of(const tpool__worker *worker) { return worker->backing; }
static bool is_proxy_of(const tpool__worker *worker) { return tpool__self()->worker == worker; }
static bool cancellation_is_off(void) {
#if HAVE_FORK
    int before, unused;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    pthread_setcancelstate(before, &unused);
    return before == PTHREAD_CANCEL_DISABLE;
#else
    return true;
#endif
}

static tpool_status flags_check(const tpool_config *config) {
    MUST(tpool__holds_none() && config->kind == TPOOL_PROCESSES);
    atomic_fetch_add(&seen.checks, 1);
    return seen.on_check;
}
static tpool_status flags_start(tpool *pool) {
    MUST(tpool__holds_none() && cancellation_is_off() && !pool->backing && !pool->newest);
    atomic_fetch_add(&seen.starts, 1);
    pool->backing = malloc(1);
    return seen.on_start;
}
static void flags_stop(tpool *pool) {
    MUST(tpool__holds_none() && cancellation_is_off());
    for (tpool__worker *worker = pool->newest; worker; worker = worker->before)
        atomic_fetch_add(&seen.left, atomic_load(&backing_of(worker)->runs));
    atomic_fetch_add(&seen.stops, 1);
    free(pool->backing);
    pool->backing = NULL;
}
static void flags_kill(tpool *pool) {
    MUST(tpool__holds_none() && cancellation_is_off() && pool->backing);
    atomic_fetch_add(&seen.kills, 1);
    gate *at_kill = atomic_load(&seen.at_kill);
    if (at_kill) gate_pass(at_kill);
}
static void flags_request_stop(tpool *pool, const tpool_future *task, bool cut) {
    MUST(pool->backing && !tpool__held(&pool->lock));
    for (tpool__worker *worker = tpool__first_worker(pool); worker && !cut; worker = tpool__next_worker(worker))
        if (task && atomic_load(&backing_of(worker)->task) == task) atomic_store(&seen.asked, task);
    atomic_fetch_add(&seen.requests, 1);
}
static bool flags_worker_new(tpool__worker *worker) {
    MUST(tpool__held(&worker->pool->lock) && !worker->backing && !worker->listed);
    atomic_fetch_add(&seen.workers, 1);
    return (worker->backing = calloc(1, sizeof(backing))) != NULL;
}
static tpool_status flags_launch(tpool__worker *worker, int64_t deadline) {
    MUST(cancellation_is_off() && !is_proxy_of(worker) && deadline > 0);
    MUST(tpool__holds_none() && !atomic_load(&backing_of(worker)->runs));
    atomic_store(&seen.time_to_launch, tpool_until(deadline));
    atomic_fetch_add(&seen.launches, 1);
    gate *at_launch = atomic_load(&seen.at_launch);
    if (at_launch) gate_pass(at_launch);
    if (atomic_load(&seen.tells_late) && tpool_until(deadline) <= TPOOL__LAUNCH_LEAST) return TPOOL_OK;
    if (atomic_fetch_sub(&seen.refused_launches, 1) > 0) return TPOOL_NO_THREAD;
    atomic_store(&seen.refused_launches, 0);
    atomic_store(&backing_of(worker)->lost, false);
    atomic_store(&backing_of(worker)->runs, true);
    return TPOOL_OK;
}
static tpool_status flags_ready(tpool__worker *worker) {
    MUST(tpool__holds_none() && cancellation_is_off() && is_proxy_of(worker));
    MUST(worker->in_setup && !tpool__load_relaxed(&worker->busy));
    atomic_fetch_add(&seen.readies, 1);
    if (seen.at_ready) gate_pass(seen.at_ready);
    tpool_status status = atomic_load(&seen.on_ready);
    atomic_store(&backing_of(worker)->lost, false);
    atomic_store(&backing_of(worker)->runs, status == TPOOL_OK);
    return status;
}
static bool flags_is_lost(tpool__worker *worker) {
    MUST(tpool__holds_none() && is_proxy_of(worker));
    return atomic_load(&backing_of(worker)->lost);
}
static void flags_end(tpool__worker *worker) {
    MUST(cancellation_is_off());
    MUST(is_proxy_of(worker) ? !tpool__load_relaxed(&worker->busy) : !worker->handle.valid);
    atomic_fetch_add(&seen.ends, 1);
    atomic_store(&backing_of(worker)->runs, false);
}
static void *flags_execute(tpool__thread *self, tpool_future *task, tpool_fn fn) {
    backing *b = backing_of(self->worker);
    size_t size = tpool__extra_of(task) ? tpool__extra_of(task)->arg_size : 0;
    MUST(tpool__holds_none() && cancellation_is_off() && self->context->task == task);
    MUST(atomic_load(&b->runs) && !atomic_load(&b->lost) && (size > 0) == (task->value != NULL));
    atomic_fetch_add(&seen.tasks, 1);
    bool late = atomic_exchange(&seen.times_out, false);
    if (atomic_exchange(&seen.loses, false) || late) {
        tpool__outcome *outcome = malloc(sizeof *outcome);
        MUST(outcome && (!late || tpool__extra_of(task)->limit == TPOOL__RUN_WITH_TIMEOUT));
        *outcome = *tpool__fixed(TPOOL__LOST_PROCESS);
        outcome->is_static = false;
        outcome->is_timeout = late;
        atomic_store(&b->lost, true);
        atomic_store(&b->runs, false);
        MUST(tpool__set_outcome(task, outcome));
        return NULL;
    }
    atomic_store(&b->task, task);
    void *value = fn(task->value);
    atomic_store(&b->task, NULL);
    return value;
}
static size_t flags_execute_items(tpool__thread *self, tpool__chunk *chunk) {
    const tpool_map_spec *spec = &chunk->iter->spec;
    MUST(tpool__holds_none() && cancellation_is_off() && atomic_load(&backing_of(self->worker)->runs));
    for (size_t i = 0; i < chunk->count; i++) {
        int item;
        MUST(spec->item_size == sizeof item);
        memcpy(&item, tpool__item_pointer(chunk, i, NULL), sizeof item);
        chunk->slots[i].value = spec->fn(&item, spec->context);
        chunk->slots[i].outcome = NULL;
        atomic_fetch_add(&seen.items, 1);
    }
    return chunk->count;
}
static void flags_around_fork(bool begins) {
    MUST(tpool__holds_none());
    atomic_fetch_add(begins ? &seen.forks_begun : &seen.forks_ended, 1);
}
static void flags_in_child_of_fork(tpool *pools) {
    for (; pools; pools = pools->next) seen.inherited += pools->backend == &flags_backend && pools->backing;
}
static bool flags_give_back(const tpool_future *task, const void *bytes, size_t size, void **payload) {
    (void)task, (void)bytes, (void)size, (void)payload;
    return false; /* no process works for this backend */
}
static bool flags_should_stop(const tpool_future *task) {
    (void)task;
    return false;
}
static void flags_thread_ends(tpool__thread *self) { (void)self; }
static void *out_of_reach(void *arg) { return arg; }
static void *item_out_of_reach(void *item, void *context) {
    (void)context;
    return item;
}
static bool flags_has_function(uintptr_t fn) {
    return fn != (uintptr_t)out_of_reach && fn != (uintptr_t)item_out_of_reach;
}

static const tpool__backend flags_backend = {
    10 * TPOOL__CHUNK_NS, flags_check,         flags_start,        flags_stop,
    flags_has_function,   flags_kill,          flags_request_stop, flags_worker_new,
    flags_launch,         flags_ready,         flags_is_lost,      flags_end,
    flags_execute,        flags_execute_items, flags_around_fork,  flags_in_child_of_fork,
    flags_give_back,      flags_should_stop,   flags_thread_ends
};

static int nothing_seen(void **state) {
    (void)state;
    memset(&seen, 0, sizeof seen);
    return 0;
}
static tpool *flags_pool(int workers) {
    return new_pool_as((tpool_config){ .kind = TPOOL_PROCESSES, .max_workers = workers });
}
/* Destroys the pool; nothing may be left of it. */
static void ended(tpool *pool) {
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(1, seen.stops);
    assert_int_equal(0, seen.left);
    assert_int_equal(0, tpool__load_relaxed(&tpool__process.pool_count));
}

static void *doubled(void *arg) {
    int value = *(int *)arg;
    return (void *)(intptr_t)(2 * value);
}
static void *doubled_item(void *item, void *context) {
    (void)context;
    return doubled(item);
}
static void *one(void *arg) {
    (void)arg;
    return (void *)(intptr_t)1;
}
static bool initializes(void *context) {
    (void)context;
    atomic_fetch_add(&seen.in_program, 1);
    return true;
}
static void finalizes(void *context) {
    (void)context;
    atomic_fetch_add(&seen.in_program, 1);
}
static void body(size_t begin, size_t end, void *context) { (void)begin, (void)end, (void)context; }

static void all_goes_through_the_table_by_value(void **state) {
    enum { TASKS = 20, ITEMS = 30 };
    tpool_future *futures[TASKS], *none;
    tpool_map_iter *iter;
    int items[ITEMS], out = 0;
    (void)state;
    tpool *pool = new_pool_as((tpool_config){
        .kind = TPOOL_PROCESSES, .max_workers = 2, .initializer = initializes, .finalizer = finalizes });
    assert_status(TPOOL_INVALID, tpool_submit(pool, doubled, &out, &none));
    assert_status(TPOOL_INVALID, tpool_submit(pool, out_of_reach, NULL, &none));
    assert_status(TPOOL_UNSUPPORTED, tpool_for(pool, 0, 2, 1, body, NULL));
    for (int i = 0; i < TASKS; i++)
        assert_status(TPOOL_OK, tpool_submit_copy(pool, doubled, &i, sizeof i, &futures[i]));
    for (int i = 0; i < TASKS; i++) assert_int_equal(2 * i, (intptr_t)take(futures[i]));
    for (int i = 0; i < ITEMS; i++) items[i] = i;
    tpool_map_spec spec = { .fn = doubled_item, .items = items, .count = ITEMS, .stride = sizeof(int) };
    assert_status(TPOOL_INVALID, tpool_map(pool, &spec, &iter));
    spec.item_size = sizeof(int);
    spec.fn = item_out_of_reach;
    assert_status(TPOOL_INVALID, tpool_map(pool, &spec, &iter));
    spec.fn = doubled_item;
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    for (void *value; tpool_map_next(iter, LIMIT, &value) == TPOOL_OK; out++)
        assert_int_equal(2 * out, (intptr_t)value);
    tpool_map_close(iter);
    assert_int_equal(ITEMS, out);
    ended(pool);
    assert_int_equal(TASKS, seen.tasks);
    assert_int_equal(ITEMS, seen.items);
    assert_int_equal(0, seen.in_program);
    assert_int_equal(1, seen.checks);
    assert_int_equal(1, seen.starts);
    assert_in_range(seen.workers, 1, 2);
    assert_int_equal(seen.readies, seen.ends);
}

static void a_start_that_fails_is_unmade(void **state) {
    static const tpool_status statuses[] = { TPOOL_NO_THREAD, TPOOL_NO_MEMORY };
    (void)state;
    tpool *pool;
    for (int i = 0; i < 2; i++) {
        seen.on_start = statuses[i];
        assert_status(statuses[i], tpool_create(&pool, &(tpool_config){ .kind = TPOOL_PROCESSES, .measure = true }));
        assert_int_equal(i + 1, seen.stops);
        assert_int_equal(0, tpool__load_relaxed(&tpool__process.pool_count));
    }
    seen.on_check = TPOOL_INVALID;
    assert_status(TPOOL_INVALID, tpool_create(&pool, &(tpool_config){ .kind = TPOOL_PROCESSES }));
    assert_int_equal(2, seen.starts);
}

/* The first backing is launched before any work is taken, others by their proxies, or by a warm-up. */
static void a_refused_launch_refuses_the_first_task(void **state) {
    (void)state;
    tpool *pool = flags_pool(3);
    tpool_future *future = NULL;
    atomic_store(&seen.refused_launches, 1);
    assert_status(TPOOL_NO_THREAD, tpool_submit(pool, one, NULL, &future));
    assert_null(future);
    assert_int_equal(0, seen.tasks);
    assert_int_equal(1, (intptr_t)take(submitted(pool, one, NULL)));
    assert_int_equal(2, seen.launches);
    atomic_store(&seen.refused_launches, 1);
    assert_status(TPOOL_NO_THREAD, tpool_warm_up(pool, 2));
    assert_status(TPOOL_OK, tpool_warm_up(pool, 3));
    assert_int_equal(5, seen.launches);
    ended(pool);
    assert_int_equal(seen.readies + 2, seen.ends); /* two were refused, and had no thread */
}
/* However long that takes, no other call on the pool waits for it; but other submitters do, and no second one is
   launched. */
static tpool_status submit_one(void *pool) {
    tpool_future *future = NULL;
    tpool_status status = tpool_submit(pool, one, NULL, &future);
    return status == TPOOL_OK ? end_of(future) : status;
}
static tpool_status ask_for_stats(void *pool) {
    tpool_stats stats;
    return tpool_get_stats(pool, &stats);
}
static void nobody_waits_for_a_launch_under_the_lock(void **state) {
    gate at_launch = GATE_CLOSED;
    background first, second, asks;
    (void)state;
    tpool *pool = flags_pool(2);
    seen.at_launch = &at_launch;
    background_start(&first, submit_one, pool);
    AWAIT_ARRIVALS(&at_launch, 1);
    background_start(&second, submit_one, pool);
    background_start(&asks, ask_for_stats, pool);
    EVENTUALLY(atomic_load(&asks.returned));
    gate_open(&at_launch);
    assert_status(TPOOL_OK, background_join(&asks));
    assert_status(TPOOL_OK, background_join(&first));
    assert_status(TPOOL_OK, background_join(&second));
    assert_int_equal(1, seen.launches);
    ended(pool);
}

/* Work that waits in a pool whose workers have gone is not lost where the system refuses a backing: the call that would
   have it done says so. */
static void a_resume_tells_that_no_backing_is_to_be_had(void **state) {
    (void)state;
    tpool *pool =
        new_pool_as((tpool_config){ .kind = TPOOL_PROCESSES, .max_workers = 1, .idle_timeout_ns = TPOOL_MS(1) });
    assert_int_equal(1, (intptr_t)take(submitted(pool, one, NULL)));
    assert_status(TPOOL_OK, tpool_pause(pool));
    tpool_future *waits = submitted(pool, one, NULL);
    EVENTUALLY(stats_of(pool).workers == 0);
    atomic_store(&seen.on_ready, TPOOL_NO_THREAD);
    atomic_store(&seen.refused_launches, 1000);
    assert_status(TPOOL_NO_THREAD, tpool_resume(pool));
    assert_false(tpool_future_done(waits));
    atomic_store(&seen.on_ready, TPOOL_OK);
    atomic_store(&seen.refused_launches, 0);
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_int_equal(1, (intptr_t)take(waits));
    ended(pool);
}

/* A pool of one worker, which has gone; a task waits in it, and it is paused. */
static tpool *deserted_pool(tpool_fn fn, tpool_future **waits) {
    tpool *pool =
        new_pool_as((tpool_config){ .kind = TPOOL_PROCESSES, .max_workers = 1, .idle_timeout_ns = TPOOL_MS(1) });
    assert_int_equal(1, (intptr_t)take(submitted(pool, one, NULL)));
    assert_status(TPOOL_OK, tpool_pause(pool));
    *waits = submitted(pool, fn, NULL);
    EVENTUALLY(stats_of(pool).workers == 0);
    return pool;
}
/* Nor does any other call wait for a launch by a resume or a drain, or by a worker in whose place another comes. */
static tpool_status call_resume(void *pool) { return tpool_resume(pool); }
static tpool_status call_drain(void *pool) { return tpool_drain(pool, LIMIT); }
static void nobody_waits_for_a_launch_by_a_resume_or_a_drain(void **state) {
    (void)state;
    for (int by_drain = 0; by_drain < 2; by_drain++) {
        gate at_launch = GATE_CLOSED;
        background launches, asks;
        tpool_future *waits;
        tpool *pool = deserted_pool(one, &waits);
        if (by_drain) {
            atomic_store(&seen.refused_launches, 1);
            assert_status(TPOOL_NO_THREAD, tpool_resume(pool));
            assert_int_equal(0, atomic_load(&seen.refused_launches)); /* it has tried once */
        }
        seen.at_launch = &at_launch;
        background_start(&launches, by_drain ? call_drain : call_resume, pool);
        AWAIT_ARRIVALS(&at_launch, 1);
        background_start(&asks, ask_for_stats, pool);
        EVENTUALLY(atomic_load(&asks.returned));
        seen.at_launch = NULL;
        gate_open(&at_launch);
        assert_status(TPOOL_OK, background_join(&asks));
        assert_status(TPOOL_OK, background_join(&launches));
        assert_int_equal(1, (intptr_t)take(waits));
        ended(pool);
        nothing_seen(NULL);
    }
}
static void nobody_waits_for_a_launch_in_a_workers_place(void **state) {
    (void)state;
    gate at_launch = GATE_CLOSED;
    background asks;
    tpool *pool = new_pool_as((tpool_config){ .kind = TPOOL_PROCESSES, .max_workers = 1, .max_tasks_per_worker = 1 });
    assert_status(TPOOL_OK, tpool_pause(pool));
    tpool_future *first = submitted(pool, one, NULL), *second = submitted(pool, one, NULL);
    seen.at_launch = &at_launch;
    assert_status(TPOOL_OK, tpool_resume(pool));
    AWAIT_ARRIVALS(&at_launch, 1);
    background_start(&asks, submit_one, pool);
    seen.at_launch = NULL;
    assert_int_equal(1, (intptr_t)take(first));
    EVENTUALLY(stats_of(pool).queued == 2); /* the second, and the submit */
    gate_open(&at_launch);
    assert_status(TPOOL_OK, background_join(&asks));
    assert_int_equal(1, (intptr_t)take(second));
    ended(pool);
}
/* It says so before it ends itself: then it stays, since one is needed. */
static gate tasks_gate = GATE_CLOSED;
static void *waits_at_the_gate(void *arg) {
    (void)arg;
    gate_pass(&tasks_gate);
    return NULL;
}
static void a_worker_without_a_successor_stays(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .kind = TPOOL_PROCESSES, .max_workers = 1, .max_tasks_per_worker = 1 });
    gate_close(&tasks_gate);
    tpool_future *first = submitted(pool, waits_at_the_gate, NULL), *second = submitted(pool, one, NULL);
    AWAIT_ARRIVALS(&tasks_gate, 1);
    atomic_store(&seen.on_ready, TPOOL_NO_THREAD);
    atomic_store(&seen.refused_launches, 1);
    gate_open(&tasks_gate);
    take(first);
    assert_int_equal(1, (intptr_t)take(second));
    assert_int_equal(2, seen.launches);
    atomic_store(&seen.on_ready, TPOOL_OK);
    ended(pool);
}
/* A launch takes no longer than its caller may, though not less than a fork takes. */
static void a_launch_has_the_limit_of_its_caller(void **state) {
    (void)state;
    tpool_future *waits;
    tpool *pool = deserted_pool(one, &waits);
    atomic_store(&seen.refused_launches, 4);
    assert_status(TPOOL_NO_THREAD, tpool_resume(pool));
    assert_in_range(atomic_load(&seen.time_to_launch), TPOOL_MS(21), TPOOL__LAUNCH_MOST);
    assert_status(TPOOL_NO_THREAD, tpool_drain(pool, TPOOL_MS(1)));
    assert_in_range(atomic_load(&seen.time_to_launch), 0, TPOOL__LAUNCH_LEAST);
    assert_status(TPOOL_NO_THREAD, tpool_drain(pool, TPOOL_FOREVER));
    assert_in_range(atomic_load(&seen.time_to_launch), TPOOL_MS(21), TPOOL__LAUNCH_MOST);
    assert_status(TPOOL_NO_THREAD, tpool_shutdown(pool, 0));
    assert_in_range(atomic_load(&seen.time_to_launch), 0, TPOOL__LAUNCH_LEAST);
    assert_int_equal(0, atomic_load(&seen.refused_launches)); /* each of them has tried once */
    assert_status(TPOOL_OK, tpool_shutdown(pool, 0));         /* a pool that is shut down, too */
    assert_int_equal(1, (intptr_t)take(waits));
    ended(pool);
}
static void a_pool_that_breaks_during_a_launch_lacks_no_thread(void **state) {
    (void)state;
    gate at_launch = GATE_CLOSED;
    background resumes;
    tpool_future *waits;
    tpool *pool = deserted_pool(one, &waits);
    seen.at_launch = &at_launch;
    background_start(&resumes, call_resume, pool);
    AWAIT_ARRIVALS(&at_launch, 1);
    tpool__set_flags(pool, TPOOL__BREAK, 0); /* an initializer fails; what waits is about to end */
    gate_open(&at_launch);
    assert_status(TPOOL_OK, background_join(&resumes));
    tpool__break(pool);
    (void)end_of(waits); /* broken, or a worker was faster */
    ended(pool);
}
/* What a resume sets free does not depend on what comes of the launch of another. Nor does that other one's own task,
   once there is a worker. */
static void a_resume_beside_a_launch_in_vain_strands_nothing(void **state) {
    (void)state;
    static gate at_launch = GATE_CLOSED;
    static background submits;
    tpool_future *waits;
    gate_close(&tasks_gate);
    tpool *pool = deserted_pool(waits_at_the_gate, &waits);
    seen.at_launch = &at_launch;
    background_start(&submits, submit_one, pool);
    AWAIT_ARRIVALS(&at_launch, 1);
    seen.at_launch = NULL;
    assert_status(TPOOL_OK, tpool_resume(pool));
    AWAIT_ARRIVALS(&tasks_gate, 1);
    atomic_store(&seen.refused_launches, 1);
    gate_open(&at_launch);
    EVENTUALLY(stats_of(pool).queued == 1);
    gate_open(&tasks_gate);
    take(waits);
    assert_status(TPOOL_OK, background_join(&submits));
    ended(pool);
}
/* If that other one's launch comes to nothing, the resume launches by itself, and says so if it is refused, too. */
static void a_resume_tells_what_has_come_of_a_launch_beside_it(void **state) {
    (void)state;
    for (int refused = 1; refused <= 2; refused++) {
        static gate at_launch = GATE_CLOSED;
        static background submits, resumes; /* which a failure may leave */
        gate_close(&at_launch);
        tpool_future *waits;
        tpool *pool = deserted_pool(one, &waits);
        seen.at_launch = &at_launch;
        atomic_store(&seen.refused_launches, refused);
        if (refused == 2) atomic_store(&seen.on_ready, TPOOL_NO_THREAD);
        background_start(&submits, submit_one, pool);
        AWAIT_ARRIVALS(&at_launch, 1);
        background_start(&resumes, call_resume, pool);
        EVENTUALLY(!(tpool__flags(pool) & TPOOL__PAUSED));
        sleep_ms(5); /* it may have come back */
        seen.at_launch = NULL;
        gate_open(&at_launch);
        assert_status(refused == 1 ? TPOOL_OK : TPOOL_NO_THREAD, background_join(&resumes));
        assert_status(TPOOL_NO_THREAD, background_join(&submits));
        atomic_store(&seen.on_ready, TPOOL_OK);
        if (refused == 2) assert_false(tpool_future_done(waits));
        assert_status(TPOOL_OK, tpool_resume(pool));
        assert_int_equal(1, (intptr_t)take(waits));
        ended(pool);
        nothing_seen(NULL);
    }
}
/* Tasks that wait after a refusal wait on, whatever other call fails to start a worker for them; also if the refusal is
   reported late, so that a caller without time starts a worker on trust. */
static void what_waits_outlives_calls_in_vain(void **state) {
    (void)state;
    for (int late = 0; late < 2; late++) {
        tpool_future *waits;
        tpool *pool = deserted_pool(one, &waits);
        atomic_store(&seen.on_ready, TPOOL_NO_THREAD);
        atomic_store(&seen.refused_launches, 1000);
        atomic_store(&seen.tells_late, late);
        assert_status(TPOOL_NO_THREAD, tpool_resume(pool));
        assert_status(TPOOL_NO_THREAD, tpool_warm_up(pool, 1));
        assert_int_equal(0, stats_of(pool).workers);
        assert_status(TPOOL_OK, tpool_resize(pool, 2));
        assert_int_equal(0, stats_of(pool).workers);
        tpool__set_flags(pool, TPOOL__HALTED, 0); /* as at exit */
        assert_status(TPOOL_NO_THREAD, tpool_destroy(pool));
        assert_int_equal(0, stats_of(pool).workers);
        assert_status(TPOOL_NO_THREAD, tpool_shutdown(pool, TPOOL_WAIT));
        if (!late) assert_status(TPOOL_NO_THREAD, tpool_shutdown(pool, 0));
        assert_false(tpool_future_done(waits));
        atomic_store(&seen.on_ready, TPOOL_OK);
        atomic_store(&seen.refused_launches, 0);
        assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
        assert_int_equal(1, (intptr_t)take(waits));
        ended(pool);
        nothing_seen(NULL);
    }
}
/* Nor does it end because another one has come meanwhile: that has no backing yet. */
static void a_worker_without_a_successor_trusts_no_newcomer(void **state) {
    static gate at_launch = GATE_CLOSED, at_ready = GATE_CLOSED;
    (void)state;
    gate_close(&at_launch);
    gate_close(&at_ready);
    gate_close(&tasks_gate);
    tpool *pool = new_pool_as((tpool_config){ .kind = TPOOL_PROCESSES, .max_workers = 1, .max_tasks_per_worker = 1 });
    tpool_future *first = submitted(pool, waits_at_the_gate, NULL), *second = submitted(pool, one, NULL);
    AWAIT_ARRIVALS(&tasks_gate, 1);
    seen.at_launch = &at_launch;
    seen.at_ready = &at_ready;
    atomic_store(&seen.on_ready, TPOOL_NO_THREAD);
    atomic_store(&seen.refused_launches, 1);
    gate_open(&tasks_gate);
    AWAIT_ARRIVALS(&at_launch, 1);
    assert_status(TPOOL_OK, tpool_resize(pool, 2));
    AWAIT_ARRIVALS(&at_ready, 1); /* the newcomer */
    gate_open(&at_launch);
    tpool_status status = tpool_future_result(second, TPOOL_SEC(20), NULL);
    gate_open(&at_ready);
    assert_status(TPOOL_OK, status);
    take(first);
    tpool_future_release(second);
    atomic_store(&seen.on_ready, TPOOL_OK);
    seen.at_launch = NULL;
    seen.at_ready = NULL;
    ended(pool);
}
/* A warm-up or a kill that is under way when a task gives the pool up keeps the pool, and its backend. */
static tpool_status warm_up(void *pool) { return tpool_warm_up(pool, 1); }
static tpool_status kill_workers(void *pool) { return tpool_kill_workers(pool); }
static void stays_beside(tpool_status (*call)(void *pool), gate *_Atomic *at, tpool_status expected) {
    gate g = GATE_CLOSED;
    background calls;
    tpool *pool = flags_pool(1);
    *at = &g;
    background_start(&calls, call, pool);
    AWAIT_ARRIVALS(&g, 1);
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_DETACH));
    sleep_ms(50); /* it would end by now */
    assert_int_equal(0, atomic_load(&seen.stops));
    gate_open(&g);
    assert_status(expected, background_join(&calls));
    EVENTUALLY(atomic_load(&seen.stops) == 1);
    tpool__await_detached();
}
static void a_warm_up_keeps_its_pool(void **state) {
    (void)state;
    stays_beside(warm_up, &seen.at_launch, TPOOL_SHUTDOWN);
}
static void a_kill_keeps_its_pool(void **state) {
    (void)state;
    stays_beside(kill_workers, &seen.at_kill, TPOOL_OK);
}

/* Three items, each a chunk; the next is queued once one has been taken. */
static tpool_map_spec one_at_a_time(int *items) {
    return (tpool_map_spec){ .fn = doubled_item,
                             .items = items,
                             .count = 3,
                             .stride = sizeof *items,
                             .item_size = sizeof *items,
                             .chunk_size = 1,
                             .buffer_size = 1 };
}

/* A consumer of a map may be the one that launches, and no worker of the pool is there to keep it. */
static tpool_status next_of(void *iter) { return tpool_map_next(iter, LIMIT, NULL); }
static void a_launch_holds_up_the_end_of_its_pool(void **state) {
    gate at_launch = GATE_CLOSED;
    int items[3] = { 1, 2, 3 };
    background next;
    tpool_map_iter *iter;
    (void)state;
    tpool *pool =
        new_pool_as((tpool_config){ .kind = TPOOL_PROCESSES, .max_workers = 1, .idle_timeout_ns = TPOOL_MS(1) });
    tpool_map_spec spec = one_at_a_time(items);
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    EVENTUALLY(atomic_load(&seen.items) == 1 && stats_of(pool).workers == 0);
    seen.at_launch = &at_launch;
    background_start(&next, next_of, iter);
    AWAIT_ARRIVALS(&at_launch, 1);
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_DETACH));
    sleep_ms(50); /* it would end by now */
    assert_int_equal(0, atomic_load(&seen.stops));
    gate_open(&at_launch);
    assert_status(TPOOL_OK, background_join(&next));
    EVENTUALLY(atomic_load(&seen.stops) == 1);
    tpool_map_close(iter);
    tpool__await_detached();
}

/* An end that waits for a launch alone is woken by it. */
static tpool_status shut_down_wait(void *pool) { return tpool_shutdown(pool, TPOOL_WAIT); }
static void a_launch_that_is_over_wakes_who_waits_for_the_end(void **state) {
    gate at_launch = GATE_CLOSED;
    background first, shuts;
    (void)state;
    tpool *pool = flags_pool(1);
    drainers_look = TPOOL_FOREVER;
    seen.at_launch = &at_launch;
    background_start(&first, submit_one, pool);
    AWAIT_ARRIVALS(&at_launch, 1);
    background_start(&shuts, shut_down_wait, pool);
    EVENTUALLY(tpool__load_relaxed(&pool->draining) == 1);
    sleep_ms(50); /* it has looked, and sleeps */
    assert_false(atomic_load(&shuts.returned));
    gate_open(&at_launch);
    assert_status(TPOOL_SHUTDOWN, background_join(&first));
    assert_status(TPOOL_OK, background_join(&shuts));
    drainers_look = TPOOL_MS(5);
    ended(pool);
}

/* Nor does a submitter that waits for room, whom the place that comes free finds without a worker. */
static tpool_status submit_within_a_moment(void *pool) {
    return tpool_submit_within(pool, &(tpool_task){ .fn = one }, TPOOL_SEC(3), NULL);
}
static void who_waits_for_room_waits_for_no_launch_beyond_its_limit(void **state) {
    gate at_launch = GATE_CLOSED;
    int items[3] = { 1, 2, 3 };
    background next, waits;
    tpool_map_iter *iter;
    (void)state;
    tpool *pool = new_pool_as((tpool_config){
        .kind = TPOOL_PROCESSES, .max_workers = 1, .queue_capacity = 1, .idle_timeout_ns = TPOOL_MS(1) });
    tpool_map_spec spec = one_at_a_time(items);
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    EVENTUALLY(atomic_load(&seen.items) == 1);
    assert_status(TPOOL_OK, tpool_pause(pool));
    tpool_future *queued = submitted(pool, one, NULL);
    EVENTUALLY(stats_of(pool).workers == 0);
    background_start(&waits, submit_within_a_moment, pool);
    background_await_block(&waits);
    EVENTUALLY(stats_of(pool).workers == 0); /* it has launched one, too */
    seen.at_launch = &at_launch;
    background_start(&next, next_of, iter);
    AWAIT_ARRIVALS(&at_launch, 1);
    assert_true(tpool_future_cancel(queued));
    EVENTUALLY(atomic_load(&waits.returned));
    assert_status(TPOOL_TIMEOUT, background_join(&waits));
    gate_open(&at_launch);
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_status(TPOOL_OK, background_join(&next));
    tpool_future_release(queued);
    tpool_map_close(iter);
    ended(pool);
}

/* While another backing gets ready the worker is not busy, so no drain waits for it. */
static void a_lost_backing_is_replaced_after_its_task(void **state) {
    gate at_ready = GATE_CLOSED;
    (void)state;
    tpool *pool = flags_pool(1);
    assert_int_equal(1, (intptr_t)take(submitted(pool, one, NULL)));
    seen.at_ready = &at_ready;
    atomic_store(&seen.loses, true);
    assert_status(TPOOL_BROKEN, end_of(submitted(pool, one, NULL)));
    AWAIT_ARRIVALS(&at_ready, 1);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    gate_open(&at_ready);
    assert_int_equal(1, (intptr_t)take(submitted(pool, one, NULL)));
    assert_int_equal(2, seen.readies);
    ended(pool);
    assert_int_equal(1, seen.ends);
}
static void a_proxy_without_a_backing_ends(void **state) {
    gate at_ready = GATE_CLOSED;
    (void)state;
    tpool *pool = flags_pool(1);
    assert_int_equal(1, (intptr_t)take(submitted(pool, one, NULL)));
    seen.at_ready = &at_ready;
    atomic_store(&seen.on_ready, TPOOL_NO_THREAD);
    atomic_store(&seen.refused_launches, 1000);
    atomic_store(&seen.loses, true);
    assert_status(TPOOL_BROKEN, end_of(submitted(pool, one, NULL)));
    AWAIT_ARRIVALS(&at_ready, 1);
    tpool_future *waits = submitted(pool, one, NULL);
    gate_open(&at_ready);
    assert_status(TPOOL_BROKEN, end_of(waits)); /* no worker is left, and the system refuses one */
    seen.at_ready = NULL;
    atomic_store(&seen.on_ready, TPOOL_OK);
    atomic_store(&seen.refused_launches, 0);
    assert_int_equal(1, (intptr_t)take(submitted(pool, one, NULL)));
    ended(pool);
    assert_int_equal(2, seen.ends);
}
static void an_initializer_that_fails_there_breaks_the_pool(void **state) {
    (void)state;
    tpool *pool = flags_pool(1);
    atomic_store(&seen.on_ready, TPOOL_BROKEN);
    tpool_future *future = NULL;
    tpool_status status = tpool_submit(pool, one, NULL, &future); /* the worker that it starts may be faster */
    assert_status(TPOOL_BROKEN, status == TPOOL_OK ? end_of(future) : status);
    assert_status(TPOOL_BROKEN, tpool_submit(pool, one, NULL, &future));
    ended(pool);
    assert_int_equal(0, seen.tasks);
}

static void requests_to_stop_and_to_kill_reach_the_backend(void **state) {
    (void)state;
    gate_close(&tasks_gate);
    tpool *pool = flags_pool(1), *threads = new_pool(1);
    tpool_future *future = submitted(pool, waits_at_the_gate, NULL), *queued = submitted(pool, one, NULL);
    AWAIT_ARRIVALS(&tasks_gate, 1);
    tpool_future_request_stop(queued); /* it is not there yet: its STOP flag will do */
    assert_int_equal(0, seen.requests);
    tpool_future_request_stop(future);
    assert_int_equal(1, seen.requests);
    assert_ptr_equal(future, atomic_load(&seen.asked));
    assert_status(TPOOL_OK, tpool_kill_workers(pool));
    assert_int_equal(1, seen.kills);
    assert_status(TPOOL_UNSUPPORTED, tpool_kill_workers(threads));
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_STOP_RUNNING));
    assert_int_equal(2, seen.requests);
    gate_open(&tasks_gate);
    tpool_future_release(future);
    tpool_future_release(queued);
    assert_status(TPOOL_OK, tpool_destroy(threads));
    ended(pool);
}

/* The time limit goes with the task, and what the backend ends for it is a time-out of the call. */
static void a_time_limit_goes_with_the_task(void **state) {
    (void)state;
    tpool *pool = flags_pool(1);
    tpool_future *future;
    tpool_task task = { .fn = one };
    atomic_store(&seen.times_out, true);
    assert_status(TPOOL_TIMEOUT, tpool_run_with_timeout(pool, &task, LIMIT, &future));
    assert_status(TPOOL_BROKEN, end_of(future));
    atomic_store(&seen.loses, true);
    assert_status(TPOOL_BROKEN, tpool_run_with_timeout(pool, &task, LIMIT, NULL));
    ended(pool);
}

#if HAVE_FORK
static void a_fork_is_told_to_every_backend(void **state) {
    int how;
    (void)state;
    tpool *pool = flags_pool(1);
    pid_t child = fork();
    if (child == 0) _exit(seen.inherited == 1 && seen.forks_begun == 1 && seen.forks_ended == 0 ? 0 : 1);
    assert_int_equal(child, waitpid(child, &how, 0));
    assert_int_equal(0, how);
    assert_int_equal(1, seen.forks_begun);
    assert_int_equal(1, seen.forks_ended);
    assert_int_equal(0, seen.inherited);
    ended(pool);
}
#endif

int main(void) {
#define T(name) cmocka_unit_test_setup(name, nothing_seen)
    const struct CMUnitTest tests[] = {
        T(all_goes_through_the_table_by_value),
        T(a_start_that_fails_is_unmade),
        T(a_refused_launch_refuses_the_first_task),
        T(a_resume_tells_that_no_backing_is_to_be_had),
        T(nobody_waits_for_a_launch_by_a_resume_or_a_drain),
        T(nobody_waits_for_a_launch_in_a_workers_place),
        T(a_worker_without_a_successor_stays),
        T(a_launch_has_the_limit_of_its_caller),
        T(a_pool_that_breaks_during_a_launch_lacks_no_thread),
        T(a_resume_beside_a_launch_in_vain_strands_nothing),
        T(a_resume_tells_what_has_come_of_a_launch_beside_it),
        T(what_waits_outlives_calls_in_vain),
        T(a_worker_without_a_successor_trusts_no_newcomer),
        T(a_warm_up_keeps_its_pool),
        T(a_kill_keeps_its_pool),
        T(a_launch_holds_up_the_end_of_its_pool),
        T(a_launch_that_is_over_wakes_who_waits_for_the_end),
        T(nobody_waits_for_a_launch_under_the_lock),
        T(who_waits_for_room_waits_for_no_launch_beyond_its_limit),
        T(a_lost_backing_is_replaced_after_its_task),
        T(a_proxy_without_a_backing_ends),
        T(an_initializer_that_fails_there_breaks_the_pool),
        T(requests_to_stop_and_to_kill_reach_the_backend),
        T(a_time_limit_goes_with_the_task),
#if HAVE_FORK
        T(a_fork_is_told_to_every_backend),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
