/* Tasks that end the thread of a caller that executes them, after a raise or a result. */
#include "support.h"

/* ---- Tasks that end their thread ---- */

typedef struct told {
    atomic_int count;
    tpool_status status;
    char task[32];
} told;
static void note_failure(const tpool_error *error, void *context) {
    told *t = context;
    t->status = error->status;
    snprintf(t->task, sizeof t->task, "%s", error->task ? error->task : "");
    atomic_fetch_add(&t->count, 1);
}
typedef struct outside {
    tpool *pool;
    tpool_task task;
    atomic_bool came_back;
    tpool_future *future;
    bool wants;
} outside;
static void *submit_outside(void *arg) {
    outside *o = arg;
    (void)!tpool_submit_task(o->pool, &o->task, o->wants ? &o->future : NULL);
    atomic_store(&o->came_back, true);
    return NULL;
}
static void a_callers_run_that_ends_an_outside_thread_is_broken_and_the_pool_goes_on(void **state) {
    (void)state;
    static told t;
    static outside o;
    static gate hold;
    static atomic_int freed;
    hold = (gate)GATE_CLOSED;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1,
                                              .queue_capacity = 1,
                                              .on_full = TPOOL_FULL_CALLER_RUNS,
                                              .on_failure = note_failure,
                                              .context = &t });
    tpool_future *holder = submitted(pool, gate_task, &hold);
    gate_await_arrivals(&hold, 1);
    tpool_future *filler = submitted(pool, nothing, NULL);
    o.pool = pool;
    for (int round = 0; round < 3; round++) { /* with all the trimmings, with a future that is lost, plain */
        o.wants = round == 1;
        o.task = (tpool_task){ .fn = end_thread };
        if (round == 0) {
            o.task.arg = &freed;
            o.task.arg_free = count_free;
            o.task.name = "ender";
        }
        pthread_t thread;
        assert_int_equal(0, pthread_create(&thread, NULL, submit_outside, &o));
        pthread_join(thread, NULL);
    }
    bool current = tpool_current() != NULL;
    tpool_status early = tpool_drain(pool, 0);
    gate_open(&hold);
    assert_status(TPOOL_OK, end_of(holder));
    assert_status(TPOOL_OK, end_of(filler));
    tpool_status drained = tpool_drain(pool, LIMIT);
    tpool_stats stats = stats_of(pool);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_false(current);
    assert_false(atomic_load(&o.came_back));
    assert_status(TPOOL_TIMEOUT, early);
    assert_status(TPOOL_OK, drained);
    assert_int_equal(1, atomic_load(&freed));
    assert_int_equal(2, atomic_load(&t.count)); /* the lost future counts as held */
    assert_status(TPOOL_BROKEN, t.status);
    assert_int_equal(5, stats.submitted);
    assert_int_equal(2, stats.completed);
    assert_int_equal(3, stats.failed);
}

typedef struct crossing {
    tpool *full;
    atomic_int freed, survived;
    tpool_status submitted;
} crossing;
static void *submit_an_end(void *arg) {
    crossing *c = arg;
    tpool_task task = { .fn = end_thread, .arg = &c->freed, .arg_free = count_free };
    c->submitted = tpool_submit_task(c->full, &task, NULL);
    atomic_fetch_add(&c->survived, 1);
    return NULL;
}
static void a_callers_run_that_ends_a_worker_breaks_that_workers_task_too(void **state) {
    (void)state;
    static crossing c;
    static gate hold;
    hold = (gate)GATE_CLOSED;
    c.full = new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1, .on_full = TPOOL_FULL_CALLER_RUNS });
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    tpool_future *holder = submitted(c.full, gate_task, &hold);
    gate_await_arrivals(&hold, 1);
    tpool_future *filler = submitted(c.full, nothing, NULL);
    tpool_future *beneath = submitted(pool, submit_an_end, &c), *after = submitted(pool, nothing, NULL);
    tpool_status beneath_ended = end_of(beneath), after_ended = end_of(after);
    gate_open(&hold);
    assert_status(TPOOL_OK, end_of(holder));
    assert_status(TPOOL_OK, end_of(filler));
    assert_status(TPOOL_OK, tpool_drain(c.full, LIMIT));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    tpool_stats full = stats_of(c.full), own = stats_of(pool);
    assert_status(TPOOL_OK, tpool_destroy(c.full));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_status(TPOOL_BROKEN, beneath_ended);
    assert_status(TPOOL_OK, after_ended);
    assert_int_equal(0, atomic_load(&c.survived));
    assert_int_equal(1, atomic_load(&c.freed));
    assert_int_equal(1, full.failed);
    assert_int_equal(2, full.completed);
    assert_int_equal(1, own.failed);
    assert_int_equal(1, own.completed);
}

static void *raise_and_end(void *arg) {
    tpool_return_owned(arg, count_free);
    tpool_raise(7, "before the end");
    pthread_exit(NULL);
}
static void *return_and_end(void *arg) {
    tpool_return_owned(arg, count_free);
    pthread_exit(NULL);
}
static void a_thread_that_ends_after_a_raise_or_a_result_leaves_a_broken_task(void **state) {
    (void)state;
    static atomic_int freed[2];
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    tpool_future *raised = submitted(pool, raise_and_end, &freed[0]);
    tpool_future *returned = submitted(pool, return_and_end, &freed[1]);
    assert_status(TPOOL_BROKEN, tpool_future_result(raised, LIMIT, NULL));
    assert_status(TPOOL_BROKEN, tpool_future_result(returned, LIMIT, NULL));
    assert_int_equal(1, atomic_load(&freed[0]));
    assert_int_equal(1, atomic_load(&freed[1]));
    const tpool_error *error = NULL;
    assert_status(TPOOL_OK, tpool_future_error(raised, 0, &error));
    assert_status(TPOOL_BROKEN, error->status);
    assert_string_equal(tpool_status_text(TPOOL_BROKEN), tpool_future_message(returned));
    assert_int_equal(0, tpool_future_result_size(returned));
    tpool_future_release(raised);
    tpool_future_release(returned);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static const struct CMUnitTest tests[] = {
    TEST(a_callers_run_that_ends_an_outside_thread_is_broken_and_the_pool_goes_on),
    TEST(a_callers_run_that_ends_a_worker_breaks_that_workers_task_too),
    TEST(a_thread_that_ends_after_a_raise_or_a_result_leaves_a_broken_task),
};
RUN_TESTS(tests)
