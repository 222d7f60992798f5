/* Every interleaving of what concerns a pool as a whole: shutdown, drain, pause, resize, full queues, priorities,
   workers that end, the shared pools. */
#include "schedule.h"

static counter first, second;

/* A submit beside a shutdown is refused, or its task runs. */
static tpool_status helper_status;
static void *submit_second(void *pool) {
    helper_status = tpool_submit(pool, count_task, &second, NULL);
    return NULL;
}
static void shut_down_beside_submit(tpool_config config) {
    tpool *pool = new_pool(config);
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, count_task, &first, NULL));
    pthread_t helper = started(submit_second, pool);
    CHECK_STATUS(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT));
    join(helper);
    CHECK(helper_status == TPOOL_OK || helper_status == TPOOL_SHUTDOWN);
    CHECK(first.runs == 1 && second.runs == (helper_status == TPOOL_OK));
    outcome(helper_status == TPOOL_OK);
    stats_at_rest(pool);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
}
static void shutdown_against_submit(void) { shut_down_beside_submit((tpool_config){ .max_workers = 1 }); }

/* A cancelling shutdown as the worker takes the task that somebody waits for. */
static void *wait_second(void *future) {
    helper_status = end_of(future);
    return NULL;
}
static void cancelling_shutdown_against_claim(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *future = submitted(pool, count_task, &second);
    pthread_t helper = started(wait_second, future);
    CHECK_STATUS(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT | TPOOL_CANCEL_PENDING));
    join(helper);
    CHECK(helper_status == TPOOL_OK || helper_status == TPOOL_CANCELLED);
    CHECK(second.runs == (helper_status == TPOOL_OK));
    outcome(helper_status == TPOOL_OK);
    stats_at_rest(pool);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
}

/* Two threads shut down at once. */
static void *shut_down(void *pool) {
    CHECK_STATUS(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT));
    return NULL;
}
static void shutdown_against_shutdown(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, count_task, &first, NULL));
    pthread_t helper = started(shut_down, pool);
    CHECK_STATUS(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT));
    join(helper);
    CHECK(first.runs == 1);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
}

/* Workers' idle time passes as the pool is resized and work comes. */
static void *resize(void *pool) {
    CHECK_STATUS(TPOOL_OK, tpool_resize(pool, 1));
    return NULL;
}
static void resize_against_idle_end(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 2, .idle_timeout_ns = TPOOL_MS(1) });
    CHECK_STATUS(TPOOL_OK, tpool_warm_up(pool, 2));
    pthread_t helper = started(resize, pool);
    CHECK_STATUS(TPOOL_OK, end_of(submitted(pool, count_task, &first)));
    join(helper);
    tpool_stats stats = end_pool(pool);
    CHECK(stats.max_workers == 1 && stats.completed == 1);
}
/* The last idle worker ends as a task comes. */
static void idle_end_against_submit(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1, .idle_timeout_ns = TPOOL_MS(1) });
    CHECK_STATUS(TPOOL_OK, tpool_warm_up(pool, 1));
    schedule_sleep(TPOOL_MS(1));
    CHECK_STATUS(TPOOL_OK, end_of(submitted(pool, count_task, &first)));
    end_pool(pool);
}

/* A submitter is blocked on a full queue as the pool is shut down. */
static void full_queue_against_shutdown(void) {
    shut_down_beside_submit((tpool_config){ .max_workers = 1, .queue_capacity = 1 });
}
/* Room is made, by a worker and by a cancel, as a submitter begins to wait for it. */
static void full_queue_against_room(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1, .queue_capacity = 1 });
    tpool_future *future = submitted(pool, count_task, &first);
    pthread_t helper = started(submit_second, pool);
    bool cancelled = tpool_future_cancel(future);
    join(helper);
    CHECK(helper_status == TPOOL_OK);
    CHECK(end_of(future) == (cancelled ? TPOOL_CANCELLED : TPOOL_OK));
    outcome(cancelled);
    end_pool(pool);
    CHECK(second.runs == 1 && first.runs == !cancelled);
}
/* A destroy begins while a submitter is blocked. */
static void full_queue_against_destroy(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1, .queue_capacity = 1 });
    CHECK_STATUS(TPOOL_OK, tpool_pause(pool));
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, count_task, &first, NULL));
    pthread_t helper = started(submit_second, pool);
    schedule_settle(); /* the helper waits for room */
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    join(helper);
    CHECK(first.runs == 1 && second.runs == (helper_status == TPOOL_OK));
}
/* The same with a refused one in a pool that is observed: the end of its task is told before the pool is gone. */
static counter told;
static void tell(const tpool_event *event, void *context) {
    (void)context;
    if (event->kind == TPOOL_EVENT_ENDED) (void)count_task(&told);
}
static void observed_submit_against_destroy(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1, .queue_capacity = 1, .observer = tell, .observed = 255 });
    CHECK_STATUS(TPOOL_OK, tpool_pause(pool));
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, count_task, &first, NULL));
    pthread_t helper = started(submit_second, pool);
    schedule_settle(); /* the helper waits for room */
    CHECK_STATUS(TPOOL_OK, tpool_shutdown(pool, 0));
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    join(helper);
    CHECK(first.runs == 1 && second.runs == (helper_status == TPOOL_OK));
    CHECK(told.runs == 2);
}
/* The queue is full as a submitter looks, and empty and without a worker when it comes to place its task: then either a
   worker can be started, or nothing is taken. */
static void full_queue_against_the_last_worker(tpool_full_policy policy) {
    tpool *pool =
        new_pool((tpool_config){ .max_workers = 1, .queue_capacity = 1, .on_full = policy, .max_tasks_per_worker = 2 });
    tpool_future *future = NULL;
    refuse_thread(2);
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, count_task, &first, NULL));
    tpool_status status[2] = { tpool_submit(pool, count_task, &first, NULL),
                               tpool_submit(pool, count_task, &second, &future) };
    for (int i = 0; i < 2; i++) CHECK(status[i] == TPOOL_OK || status[i] == TPOOL_NO_THREAD);
    CHECK((future != NULL) == (status[1] == TPOOL_OK));
    if (future) CHECK_STATUS(TPOOL_OK, end_of(future));
    outcome(status[1] == TPOOL_OK);
    end_pool(pool);
    CHECK(second.runs == (status[1] == TPOOL_OK));
}
static void blocked_submit_against_the_last_worker(void) { full_queue_against_the_last_worker(TPOOL_FULL_BLOCK); }
static void drop_against_the_last_worker(void) { full_queue_against_the_last_worker(TPOOL_FULL_DROP_OLDEST); }
/* Two wait for room that comes when no worker lives, and the first is refused one. */
static int helper_taken, other_taken;
static void submit_first(tpool *pool, int *taken) {
    tpool_status status = tpool_submit(pool, count_task, &first, NULL);
    CHECK(status == TPOOL_OK || status == TPOOL_NO_THREAD);
    *taken = status == TPOOL_OK;
}
static void *submit_as_helper(void *pool) {
    submit_first(pool, &helper_taken);
    return NULL;
}
static void *submit_as_other(void *pool) {
    submit_first(pool, &other_taken);
    return NULL;
}
static void room_without_a_worker_for_two(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1, .queue_capacity = 1, .idle_timeout_ns = TPOOL_MS(1) });
    CHECK_STATUS(TPOOL_OK, tpool_pause(pool));
    tpool_future *future = submitted(pool, count_task, &second);
    pthread_t helper = started(submit_as_helper, pool), other = started(submit_as_other, pool);
    schedule_settle();
    schedule_sleep(TPOOL_MS(5)); /* the worker has ended */
    refuse_thread(1);
    CHECK(tpool_future_cancel(future));
    schedule_settle();
    tpool_status resumed = tpool_resume(pool); /* it may be the one that is refused */
    CHECK(resumed == TPOOL_OK || resumed == TPOOL_NO_THREAD);
    if (resumed == TPOOL_NO_THREAD) CHECK_STATUS(TPOOL_OK, tpool_resume(pool));
    join(helper);
    join(other);
    tpool_future_release(future);
    CHECK(end_pool(pool).completed == (uint64_t)(helper_taken + other_taken));
    CHECK(first.runs == (uint32_t)(helper_taken + other_taken));
    outcome(helper_taken + other_taken - 1);
}
static void drop_oldest_against_claim(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1, .queue_capacity = 1, .on_full = TPOOL_FULL_DROP_OLDEST });
    tpool_future *future = submitted(pool, count_task, &first);
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, count_task, &second, NULL));
    tpool_status end = end_of(future);
    CHECK(end == TPOOL_OK || end == TPOOL_CANCELLED);
    outcome(end == TPOOL_OK);
    tpool_stats stats = end_pool(pool);
    CHECK(second.runs == 1 && first.runs == (end == TPOOL_OK) && stats.dropped == (end == TPOOL_CANCELLED));
}
static void caller_runs_against_claim(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1, .queue_capacity = 1, .on_full = TPOOL_FULL_CALLER_RUNS });
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, count_task, &first, NULL));
    CHECK_STATUS(TPOOL_OK, end_of(submitted(pool, count_task, &second)));
    end_pool(pool);
    CHECK(first.runs == 1 && second.runs == 1);
}

/* A drain returns after what its tasks submitted, and after callbacks. */
static tpool *drained;
static void *submit_another(void *arg) {
    CHECK_STATUS(TPOOL_OK, tpool_submit(drained, count_task, arg, NULL));
    return NULL;
}
static void note_callback(tpool_future *future, void *context) {
    (void)future;
    atomic_fetch_add(&((counter *)context)->runs, 1);
}
static void drain_against_spreading(void) {
    drained = new_pool((tpool_config){ .max_workers = 2 });
    tpool_future *future = submitted(drained, submit_another, &first);
    CHECK_STATUS(TPOOL_OK, tpool_future_add_done_callback(future, note_callback, &second));
    CHECK_STATUS(TPOOL_OK, tpool_drain(drained, TPOOL_FOREVER));
    CHECK(first.runs == 1 && second.runs == 1);
    stats_at_rest(drained);
    tpool_future_release(future);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(drained));
}
/* The task that gives its pool up runs, and the pool is freed, as its submitter is still in the call. */
static void *detach_own_pool(void *arg) {
    CHECK_STATUS(TPOOL_OK, tpool_shutdown(tpool_current(), TPOOL_DETACH));
    return count_task(arg);
}
static void await_the_end_of_all_pools(void) {
    while (tpool__load_relaxed(&tpool__process.pool_count) > 0) schedule_sleep(TPOOL_MS(1)); /* relaxed: only a look */
    tpool__await_detached();
}
static void submit_against_the_detach_in_its_task(void) {
    static gate held;
    held = (gate){ 0 };
    tpool *pool = new_pool((tpool_config){ .max_workers = 2 });
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, gate_task, &held, NULL));
    schedule_sleep(TPOOL_MS(1)); /* until a worker is in it, and none searches */
    gate_open(&held);
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, detach_own_pool, &first, NULL));
    await_the_end_of_all_pools();
    CHECK(first.runs == 1);
}
static void drop_against_the_detach_in_its_task(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 2, .queue_capacity = 1, .on_full = TPOOL_FULL_DROP_OLDEST });
    static gate held;
    held = (gate){ 0 };
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, gate_task, &held, NULL));
    schedule_sleep(TPOOL_MS(1)); /* until a worker is in it, and none searches */
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, count_task, &second, NULL));
    gate_open(&held);
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, detach_own_pool, &first, NULL));
    await_the_end_of_all_pools();
    CHECK(first.runs == 1);
    outcome((unsigned)second.runs);
}

/* A call of the program's that is under way, or its own callback, gives the pool up: the call goes on with it. */
static void detach_in_callback(tpool_future *future, void *context) {
    (void)future;
    CHECK_STATUS(TPOOL_OK, tpool_shutdown(context, TPOOL_DETACH));
}
static void cancelling_shutdown_against_the_detach_in_a_callback(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    CHECK_STATUS(TPOOL_OK, tpool_pause(pool));
    tpool_future *future = submitted(pool, count_task, &first);
    CHECK_STATUS(TPOOL_OK, tpool_future_add_done_callback(future, detach_in_callback, pool));
    CHECK_STATUS(TPOOL_OK, tpool_shutdown(pool, TPOOL_CANCEL_PENDING));
    tpool_future_release(future);
    await_the_end_of_all_pools();
    CHECK(first.runs == 0);
}
static void *detach_again(void *arg) {
    while (tpool_submit(tpool_current(), count_task, &second, NULL) == TPOOL_OK) schedule_sleep(TPOOL_MS(1));
    CHECK_STATUS(TPOOL_OK, tpool_shutdown(tpool_current(), TPOOL_DETACH));
    return count_task(arg);
}
static void detach_against_the_detach_in_a_task(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, detach_again, &first, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_shutdown(pool, TPOOL_DETACH));
    await_the_end_of_all_pools();
    CHECK(first.runs == 1);
}
/* The consumer of a detached pool's map queues the next chunk, or the pool has ended and no chunk follows. */
static void *item_counts(void *item, void *context) {
    atomic_fetch_add(&((counter *)context)->runs, 1);
    return item;
}
static void consumer_against_the_end_of_a_detached_pool(void) {
    static int items[3];
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_map_spec spec = {
        .fn = item_counts, .items = items, .count = 3, .stride = sizeof(int), .context = &first, .buffer_size = 1
    };
    tpool_map_iter *iter = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_map(pool, &spec, &iter));
    CHECK_STATUS(TPOOL_OK, tpool_map_next(iter, TPOOL_FOREVER, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, detach_own_pool, &second, NULL));
    int delivered = 1;
    for (tpool_status status; (status = tpool_map_next(iter, TPOOL_FOREVER, NULL)) != TPOOL_END; delivered++)
        CHECK(status == TPOOL_OK || status == TPOOL_CANCELLED);
    CHECK(delivered == 3 && first.runs <= 3);
    tpool_map_close(iter);
    await_the_end_of_all_pools();
    CHECK(second.runs == 1);
}
/* A body gives the pool up: its address stays the loop's until the loop is over. */
static void body_detaches(size_t begin, size_t end, void *context) {
    (void)begin;
    (void)end;
    CHECK_STATUS(TPOOL_OK, tpool_shutdown(context, TPOOL_DETACH));
    schedule_sleep(TPOOL_MS(100));
    CHECK(tpool__load_relaxed(&tpool__process.pool_count) == 1); /* relaxed: only a look */
}
static void loop_against_the_detach_in_its_body(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    CHECK_STATUS(TPOOL_OK, tpool_for(pool, 0, 1, 1, body_detaches, pool));
    await_the_end_of_all_pools();
}
static void *detach_own_pool_later(void *arg) {
    schedule_sleep(TPOOL_MS(1)); /* as its pool is being destroyed */
    return detach_own_pool(arg);
}
static void destroy_against_the_detach_in_a_task(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, detach_own_pool_later, &first, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    CHECK(first.runs == 1);
    tpool__await_detached();
}
static void many_against_the_detach_in_the_first(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_task both[2] = { { .fn = detach_own_pool, .arg = &first }, { .fn = count_task, .arg = &second } };
    size_t taken = 0;
    tpool_status status = tpool_submit_many(pool, both, 2, NULL, &taken);
    CHECK(status == (taken == 2 ? TPOOL_OK : TPOOL_SHUTDOWN) && taken > 0);
    await_the_end_of_all_pools();
    CHECK(first.runs == 1 && second.runs == taken - 1);
    outcome((unsigned)taken);
}

/* A drain looks beside a destroy, or a shutdown, as workers replace themselves: neither lets a worker start later. */
static void *drain(void *pool) {
    CHECK_STATUS(TPOOL_OK, tpool_drain(pool, TPOOL_FOREVER));
    return NULL;
}
static void drain_against_destroy(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1, .max_tasks_per_worker = 1 });
    CHECK_STATUS(TPOOL_OK, tpool_pause(pool));
    for (int i = 0; i < 2; i++) CHECK_STATUS(TPOOL_OK, tpool_submit(pool, count_task, &first, NULL));
    pthread_t helper = started(drain, pool);
    schedule_settle(); /* the helper drains */
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    join(helper);
    CHECK(first.runs == 2);
}
static bool note_start(void *context) {
    atomic_fetch_add(&((counter *)context)->runs, 1);
    return true;
}
static void drain_against_shutdown(void) {
    tpool *pool = new_pool(
        (tpool_config){ .max_workers = 1, .max_tasks_per_worker = 1, .initializer = note_start, .context = &second });
    for (int i = 0; i < 2; i++) CHECK_STATUS(TPOOL_OK, tpool_submit(pool, count_task, &first, NULL));
    pthread_t helper = started(drain, pool);
    CHECK_STATUS(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT));
    uint32_t starts = second.runs;
    schedule_settle();
    CHECK(second.runs == starts && first.runs == 2);
    join(helper);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
}
static void *cancel(void *future) {
    (void)tpool_future_cancel(future);
    return NULL;
}
static void drain_against_cancel(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    CHECK_STATUS(TPOOL_OK, tpool_pause(pool));
    tpool_future *future = submitted(pool, count_task, &first);
    CHECK_STATUS(TPOOL_OK, tpool_future_add_done_callback(future, note_callback, &second));
    pthread_t helper = started(cancel, future);
    CHECK_STATUS(TPOOL_OK, tpool_drain(pool, TPOOL_FOREVER)); /* the cancel alone can end it */
    CHECK(first.runs == 0 && second.runs == 1);
    CHECK(stats_at_rest(pool).cancelled == 1);
    join(helper);
    tpool_future_release(future);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
}

/* What has not started when a pause returns does not start before the resume. */
static void pause_against_claim(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *future = submitted(pool, count_task, &first);
    CHECK_STATUS(TPOOL_OK, tpool_pause(pool));
    bool pending = tpool_future_state(future) == TPOOL_PENDING;
    schedule_settle();
    CHECK(first.runs == !pending && tpool_future_done(future) == !pending);
    CHECK_STATUS(TPOOL_OK, tpool_resume(pool));
    CHECK_STATUS(TPOOL_OK, end_of(future));
    outcome(pending);
    end_pool(pool);
}
static void *resume(void *pool) {
    CHECK_STATUS(TPOOL_OK, tpool_resume(pool));
    return NULL;
}
static void resume_against_submit(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    CHECK_STATUS(TPOOL_OK, tpool_pause(pool));
    pthread_t helper = started(resume, pool);
    CHECK_STATUS(TPOOL_OK, end_of(submitted(pool, count_task, &first)));
    join(helper);
    end_pool(pool);
}

/* Of what waits, the highest priority starts first; others come while the worker looks. */
static int order[3], ordered;
static void *note_order(void *arg) {
    order[ordered++] = (int)(intptr_t)arg;
    return NULL;
}
static void *submit_urgent(void *pool) {
    tpool_task task = { .fn = note_order, .arg = (void *)3, .priority = 5 };
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    return NULL;
}
static void priorities_against_submit(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    CHECK_STATUS(TPOOL_OK, tpool_pause(pool));
    tpool_task low = { .fn = note_order, .arg = (void *)1, .priority = -1 };
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &low, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, note_order, (void *)2, NULL));
    pthread_t helper = started(submit_urgent, pool);
    CHECK_STATUS(TPOOL_OK, tpool_resume(pool));
    join(helper);
    end_pool(pool);
    CHECK(ordered == 3);
    int at[4] = { 0 };
    for (int i = 0; i < 3; i++) at[order[i]] = i;
    outcome(at[3]);
    CHECK(at[2] < at[1]);
}

/* A task ends its thread; the worker is replaced, and what waits runs. */
static void *end_thread(void *arg) {
    (void)arg;
    pthread_exit(NULL);
    return NULL;
}
static void worker_exit_against_submit(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *future = submitted(pool, end_thread, NULL);
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, count_task, &first, NULL));
    CHECK_STATUS(TPOOL_BROKEN, end_of(future));
    CHECK(end_pool(pool).failed == 1);
    CHECK(first.runs == 1);
}
static void worker_replaced_against_submit(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1, .max_tasks_per_worker = 1 });
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, count_task, &first, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, count_task, &second, NULL));
    CHECK(end_pool(pool).completed == 2);
    CHECK(first.runs == 1 && second.runs == 1);
}
/* An initializer fails as work comes: all of it ends as broken. */
static bool refuse(void *context) {
    (void)context;
    return false;
}
static void broken_against_submit(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1, .initializer = refuse });
    tpool_future *future = NULL;
    tpool_status status[2] = { tpool_submit(pool, count_task, &first, &future),
                               tpool_submit(pool, count_task, &second, NULL) };
    for (int i = 0; i < 2; i++) CHECK(status[i] == TPOOL_OK || status[i] == TPOOL_BROKEN);
    CHECK((future != NULL) == (status[0] == TPOOL_OK));
    if (future) CHECK_STATUS(TPOOL_BROKEN, end_of(future));
    tpool_stats stats = end_pool(pool);
    outcome((status[0] == TPOOL_OK) + (status[1] == TPOOL_OK));
    CHECK(first.runs == 0 && second.runs == 0);
    CHECK(stats.failed == (unsigned)(status[0] == TPOOL_OK) + (status[1] == TPOOL_OK));
}

/* Two threads are the first to ask for a shared pool. */
static tpool *seen_by_helper;
static void *ask(void *arg) {
    seen_by_helper = tpool_low_level();
    CHECK_STATUS(TPOOL_OK, tpool_submit(seen_by_helper, count_task, arg, NULL));
    return NULL;
}
static void dual_create_race(void) {
    pthread_t helper = started(ask, &first);
    tpool *pool = tpool_low_level();
    CHECK(pool != NULL);
    join(helper);
    CHECK(pool == seen_by_helper);
    schedule_run_exit();
    CHECK(first.runs == 1);
    stats_at_rest(pool);
}
/* The high-level pool's task submits to the low-level one as both are shut down without waiting. */
static void *submit_to_low(void *arg) {
    CHECK_STATUS(TPOOL_OK, tpool_submit(tpool_low_level(), count_task, arg, NULL));
    return NULL;
}
static void dual_shutdown_against_nested_submit(void) {
    tpool_config one = { .max_workers = 1 };
    CHECK_STATUS(TPOOL_OK, tpool_dual_configure(&one, &one));
    CHECK_STATUS(TPOOL_OK, tpool_submit(tpool_high_level(), submit_to_low, &first, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_dual_shutdown(0));
    schedule_run_exit();
    CHECK(first.runs == 1);
}

/* The same with the high-level pool paused, whose worker's idle time passes just then. */
static void dual_shutdown_against_idle_end_in_a_pause(void) {
    tpool_config one = { .max_workers = 1 }, idle = { .max_workers = 1, .idle_timeout_ns = TPOOL_MS(1) };
    CHECK_STATUS(TPOOL_OK, tpool_dual_configure(&idle, &one));
    CHECK_STATUS(TPOOL_OK, tpool_pause(tpool_high_level()));
    CHECK_STATUS(TPOOL_OK, tpool_submit(tpool_high_level(), submit_to_low, &first, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_dual_shutdown(0));
    schedule_run_exit();
    CHECK(first.runs == 1);
}

SCHEDULES(SCENARIO(shutdown_against_submit, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(cancelling_shutdown_against_claim, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(shutdown_against_shutdown, .quick = 1, .preemptions = 2),
          SCENARIO(resize_against_idle_end, .quick = 1, .preemptions = 2),
          SCENARIO(idle_end_against_submit, .quick = 1, .preemptions = 2),
          SCENARIO(full_queue_against_shutdown, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(full_queue_against_room, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(full_queue_against_destroy, .quick = 1, .preemptions = 2),
          SCENARIO(observed_submit_against_destroy, .quick = 1, .preemptions = 1),
          SCENARIO(blocked_submit_against_the_last_worker, .quick = 2, .preemptions = 3, .outcomes = 2),
          SCENARIO(drop_against_the_last_worker, .quick = 2, .preemptions = 3, .outcomes = 2),
          SCENARIO(room_without_a_worker_for_two, .quick = 1, .preemptions = 1, .outcomes = 2),
          SCENARIO(drop_oldest_against_claim, .quick = 2, .preemptions = 3, .outcomes = 2),
          SCENARIO(caller_runs_against_claim, .quick = 2, .preemptions = 3),
          SCENARIO(drain_against_spreading, .quick = 1, .preemptions = 2),
          SCENARIO(submit_against_the_detach_in_its_task, .quick = 1, .preemptions = 1),
          SCENARIO(drop_against_the_detach_in_its_task, .quick = 1, .preemptions = 1, .outcomes = 2),
          SCENARIO(cancelling_shutdown_against_the_detach_in_a_callback, .quick = 1, .preemptions = 1),
          SCENARIO(detach_against_the_detach_in_a_task, .quick = 1, .preemptions = 1),
          SCENARIO(destroy_against_the_detach_in_a_task, .quick = 1, .preemptions = 1),
          SCENARIO(many_against_the_detach_in_the_first, .quick = 1, .preemptions = 1),
          SCENARIO(consumer_against_the_end_of_a_detached_pool, .quick = 1, .preemptions = 2),
          SCENARIO(loop_against_the_detach_in_its_body, .quick = 1, .preemptions = 1),
          SCENARIO(drain_against_destroy, .quick = 1, .preemptions = 1),
          SCENARIO(drain_against_shutdown, .quick = 1, .preemptions = 2),
          SCENARIO(drain_against_cancel, .quick = 1, .preemptions = 2),
          SCENARIO(pause_against_claim, .quick = 2, .preemptions = 3, .outcomes = 2),
          SCENARIO(resume_against_submit, .quick = 1, .preemptions = 3),
          SCENARIO(priorities_against_submit, .quick = 1, .preemptions = 2, .outcomes = 3),
          SCENARIO(worker_exit_against_submit, .quick = 1, .preemptions = 2),
          SCENARIO(worker_replaced_against_submit, .quick = 1, .preemptions = 2),
          SCENARIO(broken_against_submit, .quick = 2, .preemptions = 3, .outcomes = 3),
          SCENARIO(dual_create_race, .quick = 1, .preemptions = 3, .keeps = true),
          SCENARIO(dual_shutdown_against_nested_submit, .quick = 1, .preemptions = 2, .keeps = true),
          SCENARIO(dual_shutdown_against_idle_end_in_a_pause, .quick = 1, .preemptions = 2, .keeps = true))
