/* Interleavings inside calls: queues, shutdowns, jobs, ends of pools, stops, traces, spares, tries. */
#include "internals/interleavings.h"

/* ---- Full queues */

static stop in_cancel = STOP_AT_AFTER("tpool__spin_try_lock", "tpool__claim_outside");
static void *cancel_and_stop(void *arg) {
    armed_stop = &in_cancel;
    return tpool_future_cancel(arg) ? arg : NULL;
}

/* The queue counts the task that is being cancelled, but there is nothing left in it to drop. */
static void dropping_the_oldest_beside_a_cancel_of_the_only_one_drops_nothing(void **state) {
    (void)state;
    tpool *pool =
        new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1, .on_full = TPOOL_FULL_DROP_OLDEST });
    assert_status(TPOOL_OK, tpool_pause(pool));
    tpool_future *cancelled = submitted(pool, nothing, NULL), *later = NULL;
    void *was_cancelled;
    pthread_t canceller = started(cancel_and_stop, cancelled);
    AWAIT_ARRIVALS(&in_cancel.gate, 1);
    tpool_status status = tpool_submit(pool, nothing, NULL, &later);
    gate_open(&in_cancel.gate);
    pthread_join(canceller, &was_cancelled);
    assert_status(TPOOL_OK, status);
    assert_ptr_equal(cancelled, was_cancelled);
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_status(TPOOL_OK, end_of(later));
    assert_status(TPOOL_CANCELLED, end_of(cancelled));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Outcomes */

static stop in_return = STOP_BEHIND_LOAD_IN("tpool__set_outcome");
static void *return_last(void *arg) {
    armed_stop = &in_return;
    tpool_return("last", 5);
    return arg;
}
static void *return_three(void *arg) {
    tpool_job job;
    tpool_return("1", 2);
    fork_in_public(&job, return_last, arg);
    gate_await_arrivals(&in_return.gate, 1); /* it has seen the first */
    atomic_store(&keep_freed, true);
    void *replaced = tpool_return("22", 3); /* which is freed now */
    gate_open(&in_return.gate);
    tpool_join(&job);
    return replaced ? arg : NULL;
}

/* Zeros where the first was look as an error would, which is never replaced. */
static void a_returned_payload_replaces_one_that_another_thread_replaced_meanwhile(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 2 });
    assert_status(TPOOL_OK, tpool_warm_up(pool, 2));
    tpool_future *future = submitted(pool, return_three, pool);
    void *result = NULL;
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
    size_t size = tpool_future_result_size(future);
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    free_kept();
    assert_ptr_equal(pool, result);
    assert_int_equal(5, size);
}

/* ---- Shutdowns that cancel */

static tpool *fetched_from;
static bool under_pool_lock(void) { return tpool__held(&fetched_from->lock); }
static stop in_fetch = STOP_AT_AFTER("tpool__spin_try_lock", "tpool__spin_unlock");

/* A worker takes one task, and a batch of others with it into its own lane. */
static void a_shutdown_that_cancels_finds_what_a_worker_takes_just_then(void **state) {
    (void)state;
    static gate running = GATE_CLOSED;
    enum { WORKERS = 2, TASKS = 20 };
    tpool *pool = new_pool_as((tpool_config){ .max_workers = WORKERS, .initializer = arm_first_worker });
    fetched_from = pool;
    in_fetch.unless = under_pool_lock;
    atomic_store(&for_first_worker, &in_fetch);
    assert_status(TPOOL_OK, tpool_pause(pool));
    for (int i = 0; i < TASKS; i++) assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &running, NULL));
    assert_status(TPOOL_OK, tpool_resume(pool));
    /* It stops with the batch in its hands, or holds none in its hands and begins the first. */
    EVENTUALLY(gate_arrived(&in_fetch.gate) + gate_arrived(&running) >= 1);
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_CANCEL_PENDING));
    gate_open(&in_fetch.gate);
    gate_open(&running);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_true(gate_arrived(&running) <= WORKERS); /* those that it had begun, one for each worker */
}

static stop in_chunk = STOP_AT("tpool__chunk_queue");
static void *count_item(void *item, void *context) {
    atomic_fetch_add((atomic_int *)context, 1);
    return item;
}

/* A chunk queues the next one as it starts, which a shutdown lets pass, but not one that cancels. */
static void a_chunk_that_starts_beside_a_shutdown_that_cancels_is_the_last(void **state) {
    (void)state;
    static char items[10];
    static atomic_int runs;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .initializer = arm_first_worker });
    atomic_store(&for_first_worker, &in_chunk);
    tpool_map_spec spec = {
        .fn = count_item, .context = &runs, .items = items, .count = sizeof items, .stride = 1, .chunk_size = 1
    };
    tpool_map_iter *iter;
    assert_status(TPOOL_OK, tpool_pause(pool)); /* the stop holds the iterator's lock, which tpool_map still needs */
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    assert_status(TPOOL_OK, tpool_resume(pool));
    AWAIT_ARRIVALS(&in_chunk.gate, 1);
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_CANCEL_PENDING));
    gate_open(&in_chunk.gate);
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT));
    assert_int_equal(1, atomic_load(&runs));
    assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, NULL));
    assert_status(TPOOL_CANCELLED, tpool_map_next(iter, LIMIT, NULL));
    tpool_map_close(iter);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Jobs */

static stop in_join = STOP_AT("tpool__steal_job");
static gate first_job = GATE_CLOSED, second_job = GATE_CLOSED, joined = GATE_CLOSED;
static pthread_t first_thief, second_thief;
static _Thread_local bool joins_first_job;
static atomic_bool second_is_public, inner_is_public, inner_ran_in_join;

static void *note_where(void *arg) {
    if (joins_first_job) atomic_store(&inner_ran_in_join, true);
    return arg;
}
static void *be_first_job(void *arg) {
    first_thief = pthread_self();
    gate_pass(&first_job);
    return arg;
}
static void *be_second_job(void *arg) {
    tpool_job inner;
    second_thief = pthread_self();
    gate_pass(&second_job);
    fork_in_public(&inner, note_where, NULL);
    atomic_store(&inner_is_public, true);
    gate_pass(&joined);
    tpool_join(&inner);
    return arg;
}
static void *join_first_job(void *arg) {
    tpool_job job;
    fork_in_public(&job, be_first_job, NULL);
    gate_await_arrivals(&first_job, 1);
    joins_first_job = true;
    armed_stop = &in_join;
    tpool_join(&job);
    joins_first_job = false;
    gate_open(&joined);
    return arg;
}
static void *offer_second_job(void *arg) {
    tpool_job job;
    fork_in_public(&job, be_second_job, NULL);
    atomic_store(&second_is_public, true);
    gate_await_arrivals(&second_job, 1);
    gate_open(&second_job);
    gate_pass(&joined);
    tpool_join(&job);
    return arg;
}

/* The thief's next job runs at the same depth of its stack, so at the same address, as the one that is joined did. */
static void a_join_helps_with_no_job_that_its_thief_took_later(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 3 });
    assert_status(TPOOL_OK, tpool_warm_up(pool, 3));
    tpool_future *first = submitted(pool, join_first_job, NULL);
    AWAIT_ARRIVALS(&in_join.gate, 1); /* about to help the thief with what it forked in the first job */
    tpool_future *second = submitted(pool, offer_second_job, NULL);
    EVENTUALLY(atomic_load(&second_is_public)); /* by the third worker, so that only the thief is free for it */
    gate_open(&first_job);
    EVENTUALLY(atomic_load(&inner_is_public));
    gate_open(&in_join.gate);
    assert_status(TPOOL_OK, end_of(first));
    assert_status(TPOOL_OK, end_of(second));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_true(pthread_equal(first_thief, second_thief));
    assert_false(atomic_load(&inner_ran_in_join));
}

/* ---- Ends of pools */

static stop in_drain = STOP_AT("tpool__ended");
static tpool_status drained;
static atomic_bool destroyed;
static void *drain_and_stop(void *arg) {
    armed_stop = &in_drain;
    drained = tpool_drain(arg, TPOOL_FOREVER);
    armed_stop = NULL;
    return NULL;
}
static void *destroy(void *arg) {
    if (tpool_destroy(arg) == TPOOL_OK) atomic_store(&destroyed, true);
    return NULL;
}
/* The caller is stopped within the pool: it would go on in memory that is freed. */
static void destroy_waits_for(tpool *pool, pthread_t caller, gate *stopped) {
    atomic_store(&destroyed, false);
    pthread_t destroyer = started(destroy, pool);
    sleep_ms(50); /* for a destroy that does not wait */
    assert_false(atomic_load(&destroyed));
    gate_open(stopped);
    pthread_join(caller, NULL);
    pthread_join(destroyer, NULL);
    assert_true(atomic_load(&destroyed));
}

static void destroy_waits_for_a_drain_in_its_first_look(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    pthread_t drainer = started(drain_and_stop, pool);
    AWAIT_ARRIVALS(&in_drain.gate, 1);
    destroy_waits_for(pool, drainer, &in_drain.gate);
    assert_status(TPOOL_OK, drained);
}

/* It has seen the queue full, and does not wait yet: nobody but the library can tell it from one that does. */
static stop before_blocking = STOP_AT("tpool__within_setup");
static tpool_status came_late;
static void *submit_and_stop(void *arg) {
    armed_stop = &before_blocking;
    came_late = tpool_submit(arg, nothing, NULL, NULL);
    return NULL;
}
static void destroy_waits_for_a_submitter_about_to_block(void **state) {
    (void)state;
    static gate running = GATE_CLOSED;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1 });
    assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &running, NULL));
    AWAIT_ARRIVALS(&running, 1);
    assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
    pthread_t submitter = started(submit_and_stop, pool);
    AWAIT_ARRIVALS(&before_blocking.gate, 1);
    gate_open(&running);
    destroy_waits_for(pool, submitter, &before_blocking.gate);
    assert_true(came_late == TPOOL_OK || came_late == TPOOL_SHUTDOWN);
}

/* The same, of a pool that only takes what another pool's tasks submit: its worker sleeps when the submitter comes. */
static stop before_closing_line = STOP_AT("tpool__within_setup");
static tpool *closing;
static void *submit_within_and_stop(void *arg) {
    armed_stop = &before_closing_line;
    came_late = tpool_submit(closing, nothing, NULL, NULL);
    return arg;
}
static void a_submitter_that_a_closing_pool_waits_for_finds_the_room_that_came(void **state) {
    (void)state;
    static gate running = GATE_CLOSED;
    tpool *high = new_pool_as((tpool_config){ .max_workers = 1 });
    closing = new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1 });
    assert_status(TPOOL_OK, tpool_submit(closing, gate_task, &running, NULL));
    AWAIT_ARRIVALS(&running, 1);
    assert_status(TPOOL_OK, tpool_submit(closing, nothing, NULL, NULL));
    closing->closing_for = high;
    tpool__set_flags(closing, TPOOL__CLOSING, 0);
    came_late = TPOOL_TIMEOUT;
    tpool_future *submitter = submitted(high, submit_within_and_stop, NULL);
    AWAIT_ARRIVALS(&before_closing_line.gate, 1);
    gate_open(&running);
    assert_status(TPOOL_OK, tpool_drain(high, 0) == TPOOL_TIMEOUT ? TPOOL_OK : TPOOL_FAILED); /* it still submits */
    EVENTUALLY(stats_of(closing).completed == 2 && stats_of(closing).active == 0);
    sleep_ms(20); /* for its worker to sleep */
    gate_open(&before_closing_line.gate);
    assert_status(TPOOL_OK, end_of(submitter));
    assert_status(TPOOL_OK, came_late);
    assert_status(TPOOL_OK, tpool_destroy(closing));
    assert_status(TPOOL_OK, tpool_destroy(high));
}

static tpool *ending;
static int workers_freed, workers_freed_in_the_list;
static void look_for_pool_in_list(void) {
    workers_freed++;
    tpool__lock(&tpool__process.lock);
    for (tpool *p = tpool__process.pools; p; p = p->next) workers_freed_in_the_list += p == ending;
    tpool__unlock(&tpool__process.lock);
}

/* The exit handler of another thread walks that list, and the workers of its pools. */
static void destroy_takes_the_pool_off_the_list_before_it_frees_workers(void **state) {
    (void)state;
    ending = new_pool_as((tpool_config){ .max_workers = 1 });
    assert_status(TPOOL_OK, tpool_warm_up(ending, 1));
    watched_place = tpool__first_worker(ending);
    watched_freed = look_for_pool_in_list;
    assert_status(TPOOL_OK, tpool_destroy(ending));
    watched_place = NULL;
    assert_int_equal(1, workers_freed);
    assert_int_equal(0, workers_freed_in_the_list);
}

/* A halt walks the batches of an exiting program's pools. A destroy in another thread may open them again just
   before. */
static stop in_halt = STOP_AT_AFTER("tpool__notify_waiters_queued", "tpool__batch_open");
static void *notify_and_stop(void *arg) {
    tpool__worker *worker = arg;
    armed_stop = &in_halt;
    tpool__notify_waiters_in(worker->pool, &worker->lane, worker);
    armed_stop = NULL;
    return NULL;
}
static tpool__worker *worker_with_batch(tpool *pool) {
    for (tpool__worker *w = tpool__first_worker(pool); w; w = tpool__next_worker(w)) {
        tpool__spin_lock(&w->lane.lock);
        bool has = tpool__batch_count(&w->lane) > 0;
        tpool__spin_unlock(&w->lane.lock);
        if (has) return w;
    }
    return NULL;
}
static void a_halt_closes_each_batch_that_it_walks(void **state) {
    (void)state;
    static gate running = GATE_CLOSED;
    enum { WORKERS = 2, TASKS = 40 };
    tpool_future *futures[TASKS];
    tpool *pool = new_pool_as((tpool_config){ .max_workers = WORKERS });
    assert_status(TPOOL_OK, tpool_warm_up(pool, WORKERS));
    assert_status(TPOOL_OK, tpool_pause(pool));
    for (tpool__worker *w = tpool__first_worker(pool); w; w = tpool__next_worker(w))
        w->fetch_size = TPOOL__SEGMENT_WORDS; /* as after many tiny tasks */
    for (int i = 0; i < TASKS; i++) futures[i] = submitted(pool, gate_task, &running);
    assert_status(TPOOL_OK, tpool_resume(pool));
    tpool__worker *worker = NULL;
    AWAIT_ARRIVALS(&running, WORKERS);
    EVENTUALLY((worker = worker_with_batch(pool)) != NULL);
    pthread_t halting = started(notify_and_stop, worker);
    AWAIT_ARRIVALS(&in_halt.gate, 1);
    assert_true(tpool__load_relaxed(&worker->lane.batch) & TPOOL__BATCH_CLOSED);
    gate_open(&in_halt.gate);
    pthread_join(halting, NULL);
    assert_false(tpool__load_relaxed(&worker->lane.batch) & TPOOL__BATCH_CLOSED);
    gate_open(&running);
    for (int i = 0; i < TASKS; i++) assert_status(TPOOL_OK, end_of(futures[i]));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* A thread that has set the flag of one task is about to call its wake; a stop of another task comes first. */
static void a_stop_calls_no_wake_of_another_task(void **state) {
    (void)state;
    sleeper first, second;
    tpool *pool = new_pool(2);
    tpool_future *asked = asleep(pool, &first), *other = asleep(pool, &second);
    tpool__or_relaxed(&asked->state, TPOOL__STOP);
    tpool_future_request_stop(other);
    assert_int_equal(0, first.wakes);
    assert_int_equal(1, second.wakes);
    tpool__wake_stopped(asked);
    tpool__run_unless_held(tpool__self());
    assert_int_equal(1, first.wakes);
    assert_status(TPOOL_OK, end_of(asked));
    assert_status(TPOOL_OK, end_of(other));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* An idle worker ends what has expired in a full queue, just when a submitter finds the queue full. */
static stop between_claim_and_count = { .at = "tpool__spin_try_lock", .after = "tpool__claim", .gate = GATE_CLOSED };
static atomic_bool expirer_is_done;
static void *expires_what_waits(void *pool) {
    armed_stop = &between_claim_and_count;
    (void)tpool__expire_waiting(tpool__self(), pool);
    tpool__run_unless_held(tpool__self());
    armed_stop = NULL;
    atomic_store(&expirer_is_done, true);
    return NULL;
}
static void a_full_queue_whose_expired_task_another_thread_ends_takes_the_next(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, &(tpool_config){ .queue_capacity = 1, .on_full = TPOOL_FULL_REJECT });
    tpool_future *expired = submitted_task(h.pool, (tpool_task){ .fn = nothing, .expires_ns = 1 });
    pthread_t expirer = started(expires_what_waits, h.pool);
    EVENTUALLY(atomic_load(&expirer_is_done) || gate_arrived(&between_claim_and_count.gate));
    assert_status(TPOOL_OK, tpool_submit(h.pool, nothing, NULL, NULL));
    gate_open(&between_claim_and_count.gate);
    pthread_join(expirer, NULL);
    assert_status(TPOOL_EXPIRED, end_of(expired));
    held_destroy(&h);
}

/* A thread ends what has expired in a queue, and nobody has its future. It is about to ask for those who do, as a
   worker pops the entry. */
static tpool_future *popped_task;
static bool is_not_popped(void) { return !(tpool__load_relaxed(&popped_task->state) & TPOOL__POPPED); }
static stop before_report = STOP_AT("tpool__others_refer");
static stop within_drop = { .at = "tpool__tombstone_drop", .unless = is_not_popped, .gate = GATE_CLOSED };
static atomic_int reports_of_expired;
static void count_expired(const tpool_error *error, void *context) {
    (void)context;
    if (error->status == TPOOL_EXPIRED) atomic_fetch_add(&reports_of_expired, 1);
}
static void *arm_within_drop(void *arg) {
    gate_pass((gate *)arg);
    armed_stop = &within_drop;
    return arg;
}
static void *expire_and_report(void *pool) {
    armed_stop = &before_report;
    (void)tpool__expire_waiting(tpool__self(), pool);
    tpool__run_unless_held(tpool__self());
    armed_stop = NULL;
    return NULL;
}
static void what_expires_as_its_entry_is_popped_goes_to_on_failure(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1, .on_failure = count_expired });
    tpool_future *first = submitted(pool, arm_within_drop, &g);
    AWAIT_ARRIVALS(&g, 1);
    popped_task = submitted_task(pool, (tpool_task){ .fn = nothing, .expires_ns = 1 });
    tpool_future_release(popped_task); /* it stays until the thread that ends it gives it up */
    pthread_t expirer = started(expire_and_report, pool);
    AWAIT_ARRIVALS(&before_report.gate, 1);
    gate_open(&g);
    EVENTUALLY(!is_not_popped());
    gate_open(&before_report.gate);
    EVENTUALLY(atomic_load(&reports_of_expired) > 0 || tpool__is_done(popped_task));
    gate_open(&within_drop.gate);
    pthread_join(expirer, NULL);
    assert_ptr_equal(&g, take(first));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(1, atomic_load(&reports_of_expired));
}

/* A worker has taken a task when the trace begins, and begins it afterwards. The trace has both ends of a task or
   none. */
static bool counts_tasks(const char *bytes, size_t size, void *context) {
    static const char wanted[] = "\"cat\":\"task\"";
    for (size_t i = 0; i + sizeof wanted <= size; i++)
        *(int *)context += memcmp(bytes + i, wanted, sizeof wanted - 1) == 0;
    return true;
}
static void a_trace_that_begins_as_a_task_does_has_both_ends_or_none(void **state) {
    (void)state;
    static stop begins = { .at = "tpool__execute_task_under", .gate = GATE_CLOSED };
    int lines = 0;
    atomic_store(&for_first_worker, &begins);
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .initializer = arm_first_worker, .measure = true });
    tpool_future *future = submitted(pool, nothing, NULL);
    AWAIT_ARRIVALS(&begins.gate, 1);
    assert_status(TPOOL_OK, tpool_trace_start(pool, 0));
    gate_open(&begins.gate);
    assert_status(TPOOL_OK, end_of(future));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_status(TPOOL_OK, tpool_trace_write(pool, counts_tasks, &lines));
    assert_int_equal(0, lines);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_trace_that_was_stopped_leaves_tasks_nothing_to_look_at(void **state) {
    (void)state;
    for (int measure = 0; measure < 2; measure++) {
        tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .measure = measure });
        assert_status(TPOOL_OK, tpool_trace_start(pool, 0));
        assert_status(TPOOL_OK, tpool_trace_stop(pool));
        assert_int_equal(measure ? TPOOL__MEASURED : 0, tpool__observed(pool));
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

/* ---- Spares. A thread waits for a group; its pool's worker is blocked, so a spare comes for the member that is queued.
   Before it has taken that, another worker comes, and the member fails there. Nobody has its future: so the failure is
   on_failure's, whatever the spare keeps meanwhile. */
static tpool *asking;
static bool under_its_lock(void) { return tpool__held(&asking->lock); }
static stop in_take_needed = STOP_AT_AFTER("tpool__spin_try_lock", "tpool_future_retain");
static atomic_int reports_of_member;
static void count_report(const tpool_error *error, void *context) {
    (void)context;
    if (error->status == TPOOL_FAILED) atomic_fetch_add(&reports_of_member, 1);
}
static bool arm_second_worker(void *context) {
    static atomic_int workers;
    (void)context;
    if (atomic_fetch_add(&workers, 1) == 1) armed_stop = &in_take_needed;
    return true;
}
static void *wait_for_group(void *arg) {
    assert_status(TPOOL_FAILED, tpool_group_wait(arg, TPOOL_FOREVER, NULL));
    return NULL;
}
static void *wait_for_future(void *arg) {
    assert_status(TPOOL_OK, tpool_future_result(arg, TPOOL_FOREVER, NULL));
    return NULL;
}
static atomic_bool has_failed;
static void *fail_task(void *arg) {
    atomic_store(&has_failed, true);
    return tpool_raise_text(1, arg);
}
static void what_fails_as_a_spare_comes_for_it_goes_to_on_failure(void **state) {
    (void)state;
    tpool_future *bare = NULL;
    tpool_group *group = NULL;
    in_take_needed.unless = under_its_lock;
    assert_status(TPOOL_OK, tpool_future_create(&bare));
    assert_status(TPOOL_OK, tpool_group_create(&group, &(tpool_group_config){ .on_failure = TPOOL_GROUP_KEEP_GOING }));
    tpool *pool = asking = new_pool_as((tpool_config){
        .max_workers = 1, .max_spares = -1, .on_failure = count_report, .initializer = arm_second_worker });
    tpool_future *blocked = submitted(pool, wait_for_future, bare);
    EVENTUALLY(blocked_of(pool) == 1);
    tpool_task member = { .fn = fail_task, .arg = "by itself", .group = group };
    assert_status(TPOOL_OK, tpool_submit_task(pool, &member, NULL));
    pthread_t waiter = started(wait_for_group, group);
    AWAIT_ARRIVALS(&in_take_needed.gate, 1);
    assert_status(TPOOL_OK, tpool_resize(pool, 3));
    assert_status(TPOOL_OK, tpool_warm_up(pool, 3));
    EVENTUALLY(atomic_load(&has_failed));
    sleep_ms(20); /* long enough for a mistake; what is right waits for the spare */
    gate_open(&in_take_needed.gate);
    pthread_join(waiter, NULL);
    assert_status(TPOOL_OK, tpool_future_set_result(bare, NULL));
    assert_status(TPOOL_OK, end_of(blocked));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_status(TPOOL_FAILED, tpool_group_destroy(group));
    assert_int_equal(1, atomic_load(&reports_of_member));
    tpool_future_release(bare);
}

/* ---- Long-running tasks */

static void *hold_own_lane(void *arg) {
    tpool__lane *lane = &tpool__self()->worker->lane;
    tpool__spin_lock(&lane->lock);
    gate_pass((gate *)arg);
    tpool__spin_unlock(&lane->lock);
    return arg;
}
static void *note_begin(void *arg) {
    atomic_store((atomic_bool *)arg, true);
    return arg;
}
/* What it adds may not be seen yet, and its look at the gate may have been earlier: a worker that leaves the searchers
 * passes the spinlock of its lane, even if it is the only active one. */
static void the_only_active_worker_looks_at_what_a_long_running_task_submits(void **state) {
    (void)state;
    gate g = GATE_CLOSED;
    atomic_bool begun = false;
    tpool *pool = new_pool(2);
    tpool_future *own = submitted_task(pool, (tpool_task){ .fn = hold_own_lane, .arg = &g, .long_running = true });
    AWAIT_ARRIVALS(&g, 1);
    tpool_future *future = submitted(pool, note_begin, &begun);
    /* It has left them. Or it looks at that lane while it searches, if its thread took long to start: then it stays. */
    for (int looks = 0; looks < 500 && tpool__load_relaxed(&pool->gate) != TPOOL__ROOM; looks++) sleep_ms(1);
    sleep_ms(20);
    bool too_early = atomic_load(&begun);
    gate_open(&g);
    assert_ptr_equal(&begun, take(future));
    assert_false(too_early);
    assert_ptr_equal(&g, take(own));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- A run whose time is up */

static stop in_request_stop = STOP_AT_AFTER("tpool__is_done", "tpool__stop_set");
static void *fail_when_stopped(void *arg) {
    int64_t end = tpool_now() + LIMIT;
    while (!tpool_stop_requested() && tpool_now() < end) sleep_ms(1);
    return tpool_raise(1, "stopped: %p", arg);
}
typedef struct timed_run {
    tpool *pool;
    tpool_future *future;
    tpool_status status;
    atomic_bool over;
} timed_run;
static void *run_for_a_moment(void *arg) {
    timed_run *run = arg;
    tpool_task task = { .fn = fail_when_stopped };
    armed_stop = &in_request_stop;
    run->status = tpool_run_with_timeout(run->pool, &task, TPOOL_MS(10), &run->future);
    atomic_store(&run->over, true);
    return NULL;
}

/* The task sees the stop and fails while the call that asked for it is still under way. */
static void a_run_with_timeout_whose_stop_ends_the_task_at_once_has_timed_out(void **state) {
    (void)state;
    timed_run run = { .pool = new_pool_as((tpool_config){ .max_workers = 1 }) };
    tpool_status status;
    assert_status(TPOOL_OK, tpool_warm_up(run.pool, 1));
    do { /* on a busy machine the task may not have started within its time */
        atomic_store(&run.over, false);
        pthread_t caller = started(run_for_a_moment, &run);
        EVENTUALLY(gate_arrived(&in_request_stop.gate) == 1 || atomic_load(&run.over));
        assert_status(TPOOL_OK, tpool_drain(run.pool, LIMIT));
        gate_open(&in_request_stop.gate);
        pthread_join(caller, NULL);
        status = end_of(run.future);
    } while (status == TPOOL_CANCELLED);
    assert_status(TPOOL_FAILED, status);
    assert_int_equal(1, gate_arrived(&in_request_stop.gate));
    assert_status(TPOOL_TIMEOUT, run.status);
    assert_status(TPOOL_OK, tpool_destroy(run.pool));
}

/* ---- Tries that expire. A thread has claimed a task since its try has expired, and has not decided yet whether another
   follows: the task is as pending as it was a moment before. */

static atomic_int expired_runs;
static void *count_expired_run(void *arg) {
    atomic_fetch_add(&expired_runs, 1);
    return arg;
}
typedef struct asker {
    stop *stops_at;
    tpool_future *future;
} asker;
static void *ask_for_state(void *arg) {
    asker *a = arg;
    armed_stop = a->stops_at;
    (void)tpool_future_state(a->future);
    armed_stop = NULL;
    return NULL;
}
/* The future comes to CANCELLED, if tpool_future_cancel gives true, and does not run. */
static void cancel_beside_an_asker(tpool_task task, stop *stops_at) {
    held_pool h;
    held_create(&h, NULL);
    atomic_store(&expired_runs, 0);
    task.fn = count_expired_run;
    asker a = { stops_at, submitted_task(h.pool, task) };
    pthread_t thread = started(ask_for_state, &a);
    AWAIT_ARRIVALS(&stops_at->gate, 1);
    bool cancelled = tpool_future_cancel(a.future);
    tpool_state then = tpool_future_state(a.future);
    gate_open(&stops_at->gate);
    pthread_join(thread, NULL);
    assert_int_equal(TPOOL_PENDING, then);
    assert_true(cancelled);
    assert_status(TPOOL_CANCELLED, end_of(a.future));
    assert_int_equal(1, stats_of(h.pool).cancelled);
    held_destroy(&h);
    assert_int_equal(0, atomic_load(&expired_runs));
}
static void a_try_that_has_expired_is_cancelled_though_another_follows(void **state) {
    (void)state;
    static stop before_look = STOP_AT("tpool__tries_again"), before_hold = STOP_AT("tpool__hold_again");
    tpool_task task = { .retries = 1, .retry_ns = TPOOL_SEC(1000), .expires_ns = 1 };
    cancel_beside_an_asker(task, &before_look);
    cancel_beside_an_asker(task, &before_hold);
}
static void a_last_try_that_has_expired_is_cancelled_until_that_is_settled(void **state) {
    (void)state;
    static stop before_settle = STOP_AT("tpool__try_expired_finish");
    cancel_beside_an_asker((tpool_task){ .retries = 1, .timeout_ns = 1 }, &before_settle);
}

/* The worker has taken a member that has expired, and has not seen it yet. */
static void a_cancel_of_a_group_cancels_a_try_that_has_expired_as_it_is_taken(void **state) {
    (void)state;
    static stop before_expiry = STOP_AT("tpool__try_begins");
    held_pool h;
    tpool_group *group = NULL;
    const tpool_error *error = NULL;
    held_create(&h, NULL);
    atomic_store(&expired_runs, 0);
    assert_status(TPOOL_OK, tpool_group_create(&group, NULL));
    assert_status(TPOOL_OK, tpool_submit(h.pool, arm_at, &before_expiry, NULL));
    tpool_task task = { .fn = count_expired_run, .retries = 1, .expires_ns = 1, .group = group };
    assert_status(TPOOL_OK, tpool_submit_task(h.pool, &task, NULL));
    gate_open(&h.gate);
    AWAIT_ARRIVALS(&before_expiry.gate, 1);
    tpool_status cancelled = tpool_group_cancel(group);
    gate_open(&before_expiry.gate);
    assert_status(TPOOL_OK, cancelled);
    assert_status(TPOOL_CANCELLED, tpool_group_wait(group, LIMIT, &error));
    held_destroy(&h);
    assert_status(TPOOL_CANCELLED, tpool_group_destroy(group));
    assert_int_equal(0, atomic_load(&expired_runs));
}

static const struct CMUnitTest tests[] = {
    TEST(dropping_the_oldest_beside_a_cancel_of_the_only_one_drops_nothing),
    TEST(a_returned_payload_replaces_one_that_another_thread_replaced_meanwhile),
    TEST(a_shutdown_that_cancels_finds_what_a_worker_takes_just_then),
    TEST(a_chunk_that_starts_beside_a_shutdown_that_cancels_is_the_last),
    TEST(a_join_helps_with_no_job_that_its_thief_took_later),
    TEST(destroy_waits_for_a_drain_in_its_first_look),
    TEST(destroy_waits_for_a_submitter_about_to_block),
    TEST(a_submitter_that_a_closing_pool_waits_for_finds_the_room_that_came),
    TEST(destroy_takes_the_pool_off_the_list_before_it_frees_workers),
    TEST(a_halt_closes_each_batch_that_it_walks),
    TEST(a_stop_calls_no_wake_of_another_task),
    TEST(a_full_queue_whose_expired_task_another_thread_ends_takes_the_next),
    TEST(what_expires_as_its_entry_is_popped_goes_to_on_failure),
    TEST(a_trace_that_begins_as_a_task_does_has_both_ends_or_none),
    TEST(a_trace_that_was_stopped_leaves_tasks_nothing_to_look_at),
    TEST(what_fails_as_a_spare_comes_for_it_goes_to_on_failure),
    TEST(the_only_active_worker_looks_at_what_a_long_running_task_submits),
    TEST(a_run_with_timeout_whose_stop_ends_the_task_at_once_has_timed_out),
    TEST(a_try_that_has_expired_is_cancelled_though_another_follows),
    TEST(a_last_try_that_has_expired_is_cancelled_until_that_is_settled),
    TEST(a_cancel_of_a_group_cancels_a_try_that_has_expired_as_it_is_taken),
};
RUN_TESTS(tests)
