/* The dual pools. Their state is that of the whole process, so each story is played by a process of its own: this
   program again, with the story's name as its argument. A story that goes wrong says so on stderr and ends with 1. */
#include "story.h"

static int default_workers(void) { return tpool_cpu_count() > 4 ? tpool_cpu_count() : 4; }

/* --- creation */

static gate start_together = GATE_CLOSED;
typedef struct asker {
    pthread_t thread;
    int number;
    tpool *high, *low, *standard;
    tpool_status used;
} asker;
static void *ask_for_pools(void *arg) {
    asker *a = arg;
    gate_pass(&start_together);
    /* Each begins with another one. */
    for (int i = 0; i < 3; i++) {
        switch ((a->number + i) % 3) {
        case 0: a->high = tpool_high_level(); break;
        case 1: a->low = tpool_low_level(); break;
        default: a->standard = tpool_default(); break;
        }
    }
    tpool_future *future;
    a->used = tpool_submit(a->number % 2 ? a->high : a->low, nothing, NULL, &future);
    if (a->used == TPOOL_OK) a->used = end_of(future);
    return NULL;
}

static int each_is_created_once_in_a_race_of_64_threads(void) {
    static asker askers[64];
    for (int i = 0; i < 64; i++) {
        askers[i].number = i;
        CHECK(pthread_create(&askers[i].thread, NULL, ask_for_pools, &askers[i]) == 0);
    }
    AWAIT_ARRIVALS(&start_together, 64);
    gate_open(&start_together);
    for (int i = 0; i < 64; i++) pthread_join(askers[i].thread, NULL);
    CHECK(tpool_high_level() && tpool_low_level());
    CHECK(tpool_high_level() != tpool_low_level());
    CHECK(tpool_default() == tpool_low_level());
    for (int i = 0; i < 64; i++) {
        CHECK(askers[i].high == tpool_high_level());
        CHECK(askers[i].low == tpool_low_level());
        CHECK(askers[i].standard == tpool_low_level());
        CHECK_STATUS(TPOOL_OK, askers[i].used);
    }
    CHECK(stats_of(tpool_high_level()).submitted == 32);
    CHECK(stats_of(tpool_low_level()).submitted == 32);
    return 0;
}

typedef struct whereabouts {
    tpool *pool;
    char name[32];
    bool has_name;
    int worker;
} whereabouts;
static void *look_around(void *arg) {
    whereabouts *w = arg;
    w->pool = tpool_current();
    w->worker = tpool_current_worker();
    w->has_name = thread_name(w->name, sizeof w->name);
    return NULL;
}

static int by_default_they_have_their_names_and_sizes(void) {
    tpool *pools[] = { tpool_high_level(), tpool_low_level() };
    static const char *const names[] = { "high_0", "low_0" };
    for (int i = 0; i < 2; i++) {
        CHECK(stats_of(pools[i]).max_workers == default_workers());
        CHECK(stats_of(pools[i]).workers == 0); /* workers start only when needed, here too */
        static whereabouts seen;
        CHECK_STATUS(TPOOL_OK, end_of(submitted(pools[i], look_around, &seen)));
        CHECK(seen.pool == pools[i]);
        CHECK(seen.worker == 0);
        CHECK(!seen.has_name || strcmp(seen.name, names[i]) == 0);
    }
    /* Without a pool a task runs on the low-level one. */
    static whereabouts seen;
    tpool_task task = { .fn = look_around, .arg = &seen };
    CHECK_STATUS(TPOOL_OK, tpool_run_with_timeout(NULL, &task, LIMIT, NULL));
    CHECK(seen.pool == tpool_low_level());
    return 0;
}

static int configured_before_first_use_they_are_as_asked(void) {
    char name[16] = "upper";
    tpool_config high = { .name = name, .max_workers = 2 }, low = { .name = "lower", .max_workers = 9 };
    tpool_config other_low = { .name = "other", .max_workers = 3, .queue_capacity = 1, .on_full = TPOOL_FULL_REJECT };
    CHECK_STATUS(TPOOL_OK, tpool_dual_configure(&high, &low));
    CHECK_STATUS(TPOOL_OK, tpool_dual_configure(NULL, &other_low)); /* the last word counts, NULL says nothing */
    CHECK_STATUS(TPOOL_OK, tpool_dual_configure(NULL, NULL));
    memset(&high, 0xff, sizeof high); /* the configuration and its name have been copied */
    memset(&other_low, 0xff, sizeof other_low);
    memset(name, 'x', sizeof name);
    CHECK(stats_of(tpool_high_level()).max_workers == 2);
    CHECK(stats_of(tpool_low_level()).max_workers == 3);
    static whereabouts seen;
    CHECK_STATUS(TPOOL_OK, end_of(submitted(tpool_high_level(), look_around, &seen)));
    CHECK(!seen.has_name || strcmp(seen.name, "upper_0") == 0);
    CHECK_STATUS(TPOOL_OK, end_of(submitted(tpool_low_level(), look_around, &seen)));
    CHECK(!seen.has_name || strcmp(seen.name, "other_0") == 0);
    static gate hold = GATE_CLOSED;
    for (int i = 0; i < 3; i++) {
        CHECK_STATUS(TPOOL_OK, tpool_submit(tpool_low_level(), gate_task, &hold, NULL));
        AWAIT_ARRIVALS(&hold, i + 1);
    }
    CHECK_STATUS(TPOOL_OK, tpool_submit(tpool_low_level(), nothing, NULL, NULL));
    CHECK_STATUS(TPOOL_FULL, tpool_submit(tpool_low_level(), nothing, NULL, NULL));
    gate_open(&hold);
    return 0;
}

static int only_one_configured_leaves_the_other_at_its_default(void) {
    CHECK_STATUS(TPOOL_OK, tpool_dual_configure(&(tpool_config){ .max_workers = 1 }, NULL));
    CHECK(stats_of(tpool_high_level()).max_workers == 1);
    CHECK(stats_of(tpool_low_level()).max_workers == default_workers());
    return 0;
}

static int configuring_after_first_use_is_refused(void) {
    tpool_config config = { .max_workers = 17 };
    CHECK(tpool_low_level()); /* the first use of one of them */
    CHECK_STATUS(TPOOL_INVALID_STATE, tpool_dual_configure(NULL, &config));
    CHECK_STATUS(TPOOL_INVALID_STATE, tpool_dual_configure(&config, &config));
    CHECK_STATUS(TPOOL_INVALID_STATE, tpool_dual_configure(&config, NULL));
    CHECK(stats_of(tpool_low_level()).max_workers == default_workers());
    CHECK(stats_of(tpool_high_level()).max_workers == default_workers());
    return 0;
}

/* --- what they are for */

typedef struct sample {
    int number;
    tpool_status step;
    int score;
} sample;
static int step_ms = 100;
static void *step(void *arg) {
    sleep_ms(step_ms);
    return arg;
}
static void *score(void *arg) {
    sample *s = arg;
    tpool_task task = { .fn = step, .arg = s };
    s->step = tpool_run_with_timeout(NULL, &task, TPOOL_SEC(20), NULL);
    s->score = s->number * 10;
    return s;
}

static int64_t score_samples(int count) {
    static sample samples[64];
    tpool_future *futures[64];
    int64_t before = tpool_now();
    for (int i = 0; i < count; i++) {
        samples[i] = (sample){ .number = i };
        futures[i] = submitted(tpool_high_level(), score, &samples[i]);
    }
    for (int i = 0; i < count; i++) {
        void *result = NULL;
        CHECK_STATUS(TPOOL_OK, tpool_future_result(futures[i], LIMIT, &result));
        CHECK(result == &samples[i]);
        CHECK_STATUS(TPOOL_OK, samples[i].step);
        CHECK(samples[i].score == i * 10);
        tpool_future_release(futures[i]);
    }
    return tpool_now() - before;
}

/* Four workers for five steps would make it two rounds, so the low-level pool gets as many as there are samples. */
static int five_samples_are_scored_at_least_three_times_faster_than_one_by_one(void) {
    CHECK_STATUS(TPOOL_OK, tpool_dual_configure(NULL, &(tpool_config){ .max_workers = 5 }));
    bool is_faster = false; /* of a few, since others may be using the machine; at last with steps that take longer */
    for (int round = 0; round < 8 && !is_faster; round++) {
        if (round == 5) step_ms = 3000;
        int64_t took = score_samples(5);
        CHECK(took >= TPOOL_MS(step_ms));
        is_faster = took <= 5 * TPOOL_MS(step_ms) / 3;
    }
    CHECK(is_faster);
    return 0;
}

static int more_samples_than_workers_are_scored_without_a_deadlock(void) {
    CHECK_STATUS(TPOOL_OK,
                 tpool_dual_configure(&(tpool_config){ .max_workers = 2 }, &(tpool_config){ .max_workers = 4 }));
    score_samples(12);
    return 0;
}

/* --- shutdown */

typedef struct low_user {
    gate *hold;
    tpool_status submit, result;
} low_user;
static void *use_low_after_gate(void *arg) {
    low_user *user = arg;
    gate_pass(user->hold);
    tpool_future *future;
    user->submit = tpool_submit(tpool_low_level(), nothing, NULL, &future);
    if (user->submit == TPOOL_OK) user->result = end_of(future);
    return NULL;
}

static void check_both_take_nothing(void) {
    tpool_future *future = (tpool_future *)&future;
    CHECK_STATUS(TPOOL_SHUTDOWN, tpool_submit(tpool_high_level(), nothing, NULL, &future));
    CHECK(!future);
    CHECK_STATUS(TPOOL_SHUTDOWN, tpool_submit(tpool_low_level(), nothing, NULL, NULL));
    CHECK_STATUS(TPOOL_SHUTDOWN, tpool_run_with_timeout(NULL, &(tpool_task){ .fn = nothing }, LIMIT, NULL));
}

static void high_tasks_use_the_low_level_pool_after_a_shutdown(void) {
    static gate hold = GATE_CLOSED;
    static low_user users[8];
    tpool_future *futures[8];
    for (int i = 0; i < 8; i++) {
        users[i].hold = &hold;
        futures[i] = submitted(tpool_high_level(), use_low_after_gate, &users[i]);
    }
    AWAIT_ARRIVALS(&hold, 4);
    CHECK_STATUS(TPOOL_OK, tpool_dual_shutdown(0)); /* returns, though the gate is closed */
    CHECK_STATUS(TPOOL_SHUTDOWN, tpool_submit(tpool_high_level(), nothing, NULL, NULL));
    gate_open(&hold);
    for (int i = 0; i < 8; i++) {
        CHECK_STATUS(TPOOL_OK, end_of(futures[i])); /* what was queued completes */
        CHECK_STATUS(TPOOL_OK, users[i].submit);
        CHECK_STATUS(TPOOL_OK, users[i].result);
    }
    CHECK_STATUS(TPOOL_OK, tpool_dual_shutdown(TPOOL_WAIT));
    check_both_take_nothing();
}

static int shutdown_returns_at_once_and_high_tasks_still_use_the_low_level_pool(void) {
    CHECK_STATUS(TPOOL_OK, end_of(submitted(tpool_low_level(), nothing, NULL)));
    high_tasks_use_the_low_level_pool_after_a_shutdown();
    return 0;
}

static int after_a_shutdown_high_tasks_may_be_the_first_to_use_the_low_level_pool(void) {
    high_tasks_use_the_low_level_pool_after_a_shutdown();
    return 0;
}

static atomic_bool shutdown_returned;
static atomic_int shutdown_thread; /* the system's number for the thread that calls it */
static void *shut_down_and_wait(void *arg) {
    atomic_store(&shutdown_thread, system_thread());
    *(tpool_status *)arg = tpool_dual_shutdown(TPOOL_WAIT);
    atomic_store(&shutdown_returned, true);
    return NULL;
}

static int shutdown_with_wait_drains_the_high_level_pool_first(void) {
    static gate hold_high = GATE_CLOSED, hold_low = GATE_CLOSED;
    static low_user user = { .hold = &hold_high };
    static tpool_status status;
    tpool_future *high = submitted(tpool_high_level(), use_low_after_gate, &user);
    tpool_future *low = submitted(tpool_low_level(), gate_task, &hold_low);
    AWAIT_ARRIVALS(&hold_high, 1);
    AWAIT_ARRIVALS(&hold_low, 1);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, shut_down_and_wait, &status) == 0);
    await_thread_asleep(&shutdown_thread);
    CHECK(!atomic_load(&shutdown_returned));
    gate_open(&hold_high);
    CHECK_STATUS(TPOOL_OK, end_of(high));
    CHECK_STATUS(TPOOL_OK, user.submit);
    CHECK_STATUS(TPOOL_OK, user.result);
    sleep_ms(20);
    CHECK(!atomic_load(&shutdown_returned)); /* it waits for the low-level pool too */
    gate_open(&hold_low);
    CHECK_STATUS(TPOOL_OK, end_of(low));
    CHECK_EVENTUALLY(atomic_load(&shutdown_returned));
    pthread_join(thread, NULL);
    CHECK_STATUS(TPOOL_OK, status);
    CHECK(stats_of(tpool_high_level()).workers == 0);
    CHECK(stats_of(tpool_low_level()).workers == 0);
    check_both_take_nothing();
    CHECK_STATUS(TPOOL_OK, tpool_dual_shutdown(0));
    CHECK_STATUS(TPOOL_OK, tpool_dual_shutdown(TPOOL_WAIT | TPOOL_CANCEL_PENDING | TPOOL_STOP_RUNNING));
    return 0;
}

static int while_a_shutdown_waits_high_tasks_may_be_the_first_to_use_the_low_level_pool(void) {
    static gate hold = GATE_CLOSED;
    static low_user user = { .hold = &hold };
    static tpool_status status;
    tpool_future *high = submitted(tpool_high_level(), use_low_after_gate, &user);
    AWAIT_ARRIVALS(&hold, 1);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, shut_down_and_wait, &status) == 0);
    await_thread_asleep(&shutdown_thread);
    gate_open(&hold);
    CHECK_STATUS(TPOOL_OK, end_of(high));
    CHECK_STATUS(TPOOL_OK, user.submit);
    CHECK_STATUS(TPOOL_OK, user.result);
    CHECK_EVENTUALLY(atomic_load(&shutdown_returned));
    pthread_join(thread, NULL);
    CHECK_STATUS(TPOOL_OK, status);
    check_both_take_nothing();
    return 0;
}

static int shutdown_with_cancel_pending_cancels_in_both(void) {
    static gate hold_high = GATE_CLOSED, hold_low = GATE_CLOSED;
    static atomic_int runs;
    tpool_config one = { .max_workers = 1 };
    CHECK_STATUS(TPOOL_OK, tpool_dual_configure(&one, &one));
    tpool_future *high = submitted(tpool_high_level(), gate_task, &hold_high), *high_pending[3];
    tpool_future *low = submitted(tpool_low_level(), gate_task, &hold_low), *low_pending[3];
    AWAIT_ARRIVALS(&hold_high, 1);
    AWAIT_ARRIVALS(&hold_low, 1);
    for (int i = 0; i < 3; i++) {
        high_pending[i] = submitted(tpool_high_level(), count_up, &runs);
        low_pending[i] = submitted(tpool_low_level(), count_up, &runs);
    }
    CHECK_STATUS(TPOOL_OK, tpool_dual_shutdown(TPOOL_CANCEL_PENDING));
    for (int i = 0; i < 3; i++) CHECK(tpool_future_cancelled(high_pending[i]));
    gate_open(&hold_high);
    CHECK_STATUS(TPOOL_OK, end_of(high));
    for (int i = 0; i < 3; i++) CHECK_EVENTUALLY(tpool_future_cancelled(low_pending[i])); /* at the latest now */
    gate_open(&hold_low);
    CHECK_STATUS(TPOOL_OK, end_of(low));
    CHECK_STATUS(TPOOL_OK, tpool_dual_shutdown(TPOOL_WAIT));
    CHECK(atomic_load(&runs) == 0);
    for (int i = 0; i < 3; i++) {
        tpool_future_release(high_pending[i]);
        tpool_future_release(low_pending[i]);
    }
    return 0;
}

static void *arrive_and_await_stop(void *arg) {
    gate_pass((gate *)arg);
    while (!tpool_stop_requested()) sleep_ms(1);
    return NULL;
}

static int shutdown_with_stop_running_reaches_both(void) {
    static gate arrived = GATE_CLOSED;
    gate_open(&arrived);
    tpool_future *high = submitted(tpool_high_level(), arrive_and_await_stop, &arrived);
    tpool_future *low = submitted(tpool_low_level(), arrive_and_await_stop, &arrived);
    AWAIT_ARRIVALS(&arrived, 2);
    CHECK_STATUS(TPOOL_OK, tpool_dual_shutdown(TPOOL_WAIT | TPOOL_STOP_RUNNING));
    CHECK(tpool_future_done(high) && tpool_future_done(low));
    CHECK_STATUS(TPOOL_OK, end_of(high));
    CHECK_STATUS(TPOOL_OK, end_of(low));
    return 0;
}

static int shutdown_of_one_by_its_handle_leaves_the_other(void) {
    CHECK_STATUS(TPOOL_OK, end_of(submitted(tpool_low_level(), nothing, NULL)));
    CHECK_STATUS(TPOOL_OK, tpool_shutdown(tpool_low_level(), TPOOL_WAIT));
    CHECK_STATUS(TPOOL_SHUTDOWN, tpool_submit(tpool_low_level(), nothing, NULL, NULL));
    CHECK(tpool_low_level()); /* the handle stays */
    CHECK(stats_of(tpool_low_level()).workers == 0);
    CHECK_STATUS(TPOOL_OK, end_of(submitted(tpool_high_level(), nothing, NULL)));
    CHECK_STATUS(TPOOL_OK, tpool_dual_shutdown(TPOOL_WAIT));
    check_both_take_nothing();
    return 0;
}

static int shutdown_before_first_use_holds(void) {
    CHECK_STATUS(TPOOL_OK, tpool_dual_shutdown(TPOOL_WAIT));
    check_both_take_nothing();
    return 0;
}

typedef struct attempts {
    tpool_status wait, all, one, destroy_high, destroy_low;
} attempts;
static void try_to_end(attempts *seen) {
    seen->wait = tpool_dual_shutdown(TPOOL_WAIT);
    seen->all = tpool_dual_shutdown(TPOOL_WAIT | TPOOL_CANCEL_PENDING | TPOOL_STOP_RUNNING);
    seen->destroy_high = tpool_destroy(tpool_high_level());
    seen->destroy_low = tpool_destroy(tpool_low_level());
}
static void *try_to_end_in_task(void *arg) {
    try_to_end(arg);
    return NULL;
}
static atomic_int callbacks_run;
static void try_to_end_in_callback(tpool_future *future, void *context) {
    (void)future;
    try_to_end(context);
    atomic_fetch_add(&callbacks_run, 1);
}
static void check_attempts(const attempts *seen) {
    CHECK_STATUS(TPOOL_DEADLOCK, seen->wait);
    CHECK_STATUS(TPOOL_DEADLOCK, seen->all);
    CHECK(seen->destroy_high != TPOOL_OK && seen->destroy_low != TPOOL_OK);
}

static int waiting_shutdown_from_one_of_their_tasks_or_callbacks_is_a_deadlock(void) {
    static attempts in_high, in_low, in_callback, in_canceller;
    CHECK_STATUS(TPOOL_OK, end_of(submitted(tpool_high_level(), try_to_end_in_task, &in_high)));
    check_attempts(&in_high);
    CHECK_STATUS(TPOOL_OK, end_of(submitted(tpool_low_level(), try_to_end_in_task, &in_low)));
    check_attempts(&in_low);
    /* In callbacks: of a done future, and of a cancel in this thread. */
    tpool_future *future = submitted(tpool_low_level(), nothing, NULL);
    CHECK_STATUS(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_future_add_done_callback(future, try_to_end_in_callback, &in_callback));
    CHECK(atomic_load(&callbacks_run) == 1);
    check_attempts(&in_callback);
    tpool_future_release(future);
    CHECK_STATUS(TPOOL_OK, tpool_pause(tpool_high_level()));
    future = submitted(tpool_high_level(), nothing, NULL);
    CHECK_STATUS(TPOOL_OK, tpool_future_add_done_callback(future, try_to_end_in_callback, &in_canceller));
    CHECK(tpool_future_cancel(future));
    CHECK(atomic_load(&callbacks_run) == 2);
    check_attempts(&in_canceller);
    tpool_future_release(future);
    CHECK_STATUS(TPOOL_OK, tpool_resume(tpool_high_level()));
    /* Nothing has changed. */
    CHECK_STATUS(TPOOL_OK, end_of(submitted(tpool_high_level(), nothing, NULL)));
    CHECK_STATUS(TPOOL_OK, end_of(submitted(tpool_low_level(), nothing, NULL)));
    CHECK_STATUS(TPOOL_OK, tpool_dual_shutdown(TPOOL_WAIT));
    return 0;
}

static void *shut_down_without_waiting(void *arg) {
    *(tpool_status *)arg = tpool_dual_shutdown(0);
    return NULL;
}

static int shutdown_without_wait_is_allowed_from_their_tasks(void) {
    static tpool_status status = TPOOL_INVALID;
    CHECK_STATUS(TPOOL_OK, end_of(submitted(tpool_high_level(), shut_down_without_waiting, &status)));
    CHECK_STATUS(TPOOL_OK, status);
    CHECK_STATUS(TPOOL_OK, tpool_dual_shutdown(TPOOL_WAIT));
    check_both_take_nothing();
    return 0;
}

static int destroy_of_a_dual_pool_is_refused(void) {
    CHECK_STATUS(TPOOL_INVALID_STATE, tpool_destroy(tpool_high_level()));
    CHECK_STATUS(TPOOL_INVALID_STATE, tpool_destroy(tpool_low_level()));
    CHECK_STATUS(TPOOL_OK, end_of(submitted(tpool_high_level(), nothing, NULL)));
    CHECK_STATUS(TPOOL_OK, end_of(submitted(tpool_low_level(), nothing, NULL)));
    CHECK_STATUS(TPOOL_OK, tpool_dual_shutdown(TPOOL_WAIT));
    CHECK_STATUS(TPOOL_INVALID_STATE, tpool_destroy(tpool_high_level()));
    CHECK_STATUS(TPOOL_INVALID_STATE, tpool_destroy(tpool_low_level()));
    return 0;
}

/* --- one test for each story */

#define STORY(function) \
    { #function, function, 0, "" }
/* A task of the high-level pool waits for one of the low-level pool, which is paused. */
static void *await_low(void *arg) {
    CHECK_STATUS(TPOOL_OK, end_of(submitted(tpool_low_level(), nothing, NULL)));
    return arg;
}
static tpool_future *high_awaits_paused_low(void) {
    CHECK_STATUS(TPOOL_OK, tpool_pause(tpool_low_level()));
    return submitted(tpool_high_level(), await_low, NULL);
}
static int shutdown_with_wait_resumes_a_paused_low_level_pool_first(void) {
    tpool_future *future = high_awaits_paused_low();
    CHECK_STATUS(TPOOL_OK, tpool_dual_shutdown(TPOOL_WAIT));
    CHECK_STATUS(TPOOL_OK, end_of(future));
    return 0;
}
static int shutdown_resumes_a_paused_low_level_pool_at_once(void) {
    tpool_future *future = high_awaits_paused_low();
    CHECK_STATUS(TPOOL_OK, tpool_dual_shutdown(0));
    CHECK_STATUS(TPOOL_OK, end_of(future));
    return 0;
}

/* A low-level task for which a high-level one waits splits its own work. */
static gate shut_first = GATE_CLOSED;
static void *split_work(void *status) {
    gate_pass(&shut_first);
    *(tpool_status *)status = tpool_submit(tpool_current(), nothing, NULL, NULL);
    return NULL;
}
static void *await_split(void *status) {
    CHECK_STATUS(TPOOL_OK, end_of(submitted(tpool_low_level(), split_work, status)));
    return NULL;
}
static int after_a_shutdown_low_tasks_of_high_ones_still_use_their_own_pool(void) {
    tpool_status status = TPOOL_INVALID;
    tpool_future *future = submitted(tpool_high_level(), await_split, &status);
    AWAIT_ARRIVALS(&shut_first, 1);
    CHECK_STATUS(TPOOL_OK, tpool_dual_shutdown(0));
    gate_open(&shut_first);
    CHECK_STATUS(TPOOL_OK, end_of(future));
    CHECK_STATUS(TPOOL_OK, status);
    return 0;
}

#if HAVE_FORK
static void *write_there(void *fd) { return (void *)(intptr_t)write(*(int *)fd, "w", 1); }
static int configure_copies_the_descriptors(void) {
    int ends[2];
    CHECK(pipe(ends) == 0);
    int *descriptors = malloc(sizeof *descriptors);
    CHECK(descriptors);
    descriptors[0] = ends[1];
    tpool_config config = {
        .kind = TPOOL_PROCESSES, .max_workers = 1, .descriptors = descriptors, .descriptor_count = 1
    };
    CHECK_STATUS(TPOOL_OK, tpool_dual_configure(NULL, &config));
    descriptors[0] = -1;
    int number = ends[1];
    tpool_future *future = NULL;
    void *result = NULL;
    CHECK(tpool_low_level());
    CHECK_STATUS(TPOOL_OK, tpool_submit_copy(tpool_low_level(), write_there, &number, sizeof number, &future));
    CHECK_STATUS(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
    CHECK((intptr_t)result == 1);
    tpool_future_release(future);
    free(descriptors);
    return 0;
}
#endif

static const story stories[] = {
    STORY(each_is_created_once_in_a_race_of_64_threads),
    STORY(by_default_they_have_their_names_and_sizes),
    STORY(configured_before_first_use_they_are_as_asked),
    STORY(only_one_configured_leaves_the_other_at_its_default),
    STORY(configuring_after_first_use_is_refused),
    STORY(five_samples_are_scored_at_least_three_times_faster_than_one_by_one),
    STORY(more_samples_than_workers_are_scored_without_a_deadlock),
    STORY(shutdown_returns_at_once_and_high_tasks_still_use_the_low_level_pool),
    STORY(after_a_shutdown_high_tasks_may_be_the_first_to_use_the_low_level_pool),
    STORY(shutdown_with_wait_drains_the_high_level_pool_first),
    STORY(while_a_shutdown_waits_high_tasks_may_be_the_first_to_use_the_low_level_pool),
    STORY(shutdown_with_wait_resumes_a_paused_low_level_pool_first),
    STORY(shutdown_resumes_a_paused_low_level_pool_at_once),
    STORY(after_a_shutdown_low_tasks_of_high_ones_still_use_their_own_pool),
#if HAVE_FORK
    STORY(configure_copies_the_descriptors),
#endif
    STORY(shutdown_with_cancel_pending_cancels_in_both),
    STORY(shutdown_with_stop_running_reaches_both),
    STORY(shutdown_of_one_by_its_handle_leaves_the_other),
    STORY(shutdown_before_first_use_holds),
    STORY(waiting_shutdown_from_one_of_their_tasks_or_callbacks_is_a_deadlock),
    STORY(shutdown_without_wait_is_allowed_from_their_tasks),
    STORY(destroy_of_a_dual_pool_is_refused),
};

int main(int argc, char **argv) { return play_stories(argc, argv, stories, sizeof stories / sizeof *stories); }
