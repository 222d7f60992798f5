/* Held tasks and the end of the program: those of the shared pools are cancelled once nothing else is left, those of
   the program's own are lost, and waits for them give TPOOL_BROKEN. */
#include "exits.h"

static tpool_future *before;
static void say_freed(void *arg) { say(arg); }
static void say_end(tpool_future *future, void *context) {
    (void)context;
    say(tpool_future_cancelled(future) ? "c" : "d");
    tpool_future_release(future);
}
static void submit_after(tpool *pool, tpool_future *future, const char *letter, int64_t delay) {
    tpool_task task = { .fn = say_task,
                        .arg = (void *)(uintptr_t)letter,
                        .arg_free = say_freed,
                        .after = &future,
                        .after_count = future != NULL,
                        .delay_ns = delay };
    tpool_future *held = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, &held));
    CHECK_STATUS(TPOOL_OK, tpool_future_add_done_callback(held, say_end, NULL));
}

/* What is held for a future that nobody completes, or for long, is cancelled; what is held for queued work runs. */
static int the_shared_pools_cancel_what_is_still_held(void) {
    configure(1, 1);
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&before));
    submit_after(tpool_high_level(), before, "a", 0);
    submit_after(tpool_low_level(), NULL, "b", TPOOL_FOREVER);
    tpool_future *slow = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_submit(tpool_low_level(), gate_task, &hold, &slow));
    submit_after(tpool_high_level(), slow, "e", 0);
    tpool_future_release(slow);
    open_hold_at_exit();
    return 0;
}
static tpool *managed_pool;
static int a_managed_pool_cancels_what_is_still_held(void) {
    CHECK_STATUS(TPOOL_OK, tpool_manager_get(NULL, 1, TPOOL_THREADS, 0, &managed_pool));
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&before));
    submit_after(managed_pool, before, "a", 0);
    return 0;
}

/* An own pool's is lost; a handler that waits for it learns; a destroy in a handler finishes it. */
static tpool_future *lost;
static void wait_for_lost(void) {
    say(tpool_future_result(lost, TPOOL_FOREVER, NULL) == TPOOL_BROKEN ? "L" : "R");
    tpool_future_release(lost);
    tpool_future_release(before);
}
static int the_programs_own_pool_loses_what_is_held(void) {
    CHECK(atexit(wait_for_lost) == 0); /* before the pools' first use: it runs after their handler */
    create_own((tpool_config){ .max_workers = 1 });
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&before));
    tpool_task task = { .fn = say_task, .arg = (void *)"x", .after = &before, .after_count = 1 };
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(own, &task, &lost));
    leave_things_behind();
    return 0;
}
static background waits;
static tpool_status wait_for_held(void *of) { return tpool_future_result((tpool_future *)of, TPOOL_FOREVER, NULL); }
static void join_wait(void) {
    say(background_join(&waits) == TPOOL_BROKEN ? "L" : "R");
    tpool_future_release(lost);
    tpool_future_release(before);
}
static int a_wait_under_way_gives_broken(void) {
    CHECK(atexit(join_wait) == 0);
    create_own((tpool_config){ .max_workers = 1 });
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&before));
    tpool_task task = { .fn = say_task, .arg = (void *)"x", .after = &before, .after_count = 1 };
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(own, &task, &lost));
    background_start(&waits, wait_for_held, lost);
    background_await_block(&waits);
    leave_things_behind();
    return 0;
}
/* The wait is for a try that runs as its pool is halted, and fails: the next one is queued there. */
static void *fail_after_hold(void *arg) {
    gate_pass(&hold);
    say(arg);
    return tpool_raise(1, "no");
}
static void open_and_join_wait(void) {
    gate_open(&hold);
    say(background_join(&waits) == TPOOL_BROKEN ? "L" : "R");
    tpool_future_release(lost);
}
static int a_wait_for_a_try_after_the_halt_gives_broken(void) {
    CHECK(atexit(open_and_join_wait) == 0);
    create_own((tpool_config){ .max_workers = 1 });
    tpool_task task = { .fn = fail_after_hold, .arg = (void *)"t", .retries = 1 };
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(own, &task, &lost));
    AWAIT_ARRIVALS(&hold, 1);
    background_start(&waits, wait_for_held, lost);
    background_await_block(&waits);
    leave_things_behind();
    return 0;
}
static void complete_and_destroy(void) {
    CHECK_STATUS(TPOOL_OK, tpool_future_set_result(before, NULL));
    tpool_future_release(before);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(own));
}
static int a_destroy_that_comes_later_finishes_what_is_held(void) {
    CHECK(atexit(complete_and_destroy) == 0);
    create_own((tpool_config){ .max_workers = 1 });
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&before));
    submit_after(own, before, "f", 0);
    submit_after(own, NULL, "g", TPOOL_FOREVER);
    return 0;
}
/* dual_shutdown with TPOOL_WAIT does not wait for times. */
static int dual_shutdown_cancels_times(void) {
    configure(1, 1);
    submit_after(tpool_high_level(), NULL, "a", TPOOL_FOREVER);
    submit_after(tpool_low_level(), NULL, "b", TPOOL_FOREVER);
    CHECK_STATUS(TPOOL_OK, tpool_dual_shutdown(TPOOL_WAIT));
    return 0;
}

/* What an end of a cancelled task would free is cancelled too, in whichever order they were submitted. */
static int what_a_cancelled_task_would_free_is_cancelled(void) {
    configure(1, 1);
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&before));
    tpool_task task = { .fn = say_task, .after = &before, .after_count = 1, .after_when = TPOOL_AFTER_DONE };
    tpool_future *chain[4];
    task.arg = (void *)(uintptr_t) "x";
    for (int i = 0; i < 4; i++) {
        CHECK_STATUS(TPOOL_OK, tpool_submit_task(tpool_high_level(), &task, &chain[i]));
        CHECK_STATUS(TPOOL_OK, tpool_future_add_done_callback(chain[i], say_end, NULL));
        task.after = &chain[i];
    }
    return 0;
}
/* A task that runs at exit, in a pool of the global manager alone, submits what nothing will free. */
static void *submit_what_nothing_frees(void *arg) {
    gate_pass(&hold);
    submit_after((tpool *)arg, before, "a", 0);
    submit_after((tpool *)arg, NULL, "b", TPOOL_FOREVER);
    return NULL;
}
static int what_a_managed_pools_last_task_submits_is_cancelled(void) {
    CHECK_STATUS(TPOOL_OK, tpool_manager_get(NULL, 1, TPOOL_THREADS, 0, &managed_pool));
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&before));
    CHECK_STATUS(TPOOL_OK, tpool_submit(managed_pool, submit_what_nothing_frees, managed_pool, NULL));
    open_hold_at_exit();
    return 0;
}
/* The high-level pool holds what a task frees that still runs in the low-level one. */
static void *complete_before(void *arg) {
    gate_pass(&hold);
    CHECK_STATUS(TPOOL_OK, tpool_future_set_result(before, NULL));
    return arg;
}
static int what_another_shared_pools_task_frees_runs(void) {
    configure(1, 1);
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&before));
    submit_after(tpool_high_level(), before, "a", 0);
    CHECK_STATUS(TPOOL_OK, tpool_submit(tpool_low_level(), complete_before, NULL, NULL));
    open_hold_at_exit();
    return 0;
}

/* ---- The end of the dual pools */
/* Without TPOOL_WAIT: the high-level pool holds a task for a time of the low-level one. */
static int dual_shutdown_without_wait_cancels_times_of_both(void) {
    configure(1, 1);
    tpool_task waits = { .fn = say_task, .arg = (void *)(uintptr_t) "a", .delay_ns = TPOOL_FOREVER };
    tpool_future *low = NULL, *high = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(tpool_low_level(), &waits, &low));
    tpool_task follows = {
        .fn = say_task, .arg = (void *)(uintptr_t) "h", .after = &low, .after_count = 1, .after_when = TPOOL_AFTER_DONE
    };
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(tpool_high_level(), &follows, &high));
    CHECK_STATUS(TPOOL_OK, tpool_dual_shutdown(0));
    CHECK_STATUS(TPOOL_OK, tpool_future_result(high, LIMIT, NULL));
    CHECK_STATUS(TPOOL_CANCELLED, tpool_future_result(low, LIMIT, NULL));
    tpool_future_release(low);
    tpool_future_release(high);
    return 0;
}
/* The high-level pool has no worker: it holds a task without a function, whose callback uses the low-level pool. */
static void use_low(tpool_future *future, void *context) {
    (void)context;
    sleep_ms(20); /* the worker that was to wait for this has found that nothing is held any more */
    CHECK_STATUS(TPOOL_OK, tpool_submit(tpool_low_level(), say_task, (void *)(uintptr_t) "l", NULL));
    tpool_future_release(future);
}
static int the_low_level_pool_outlasts_what_the_high_level_one_holds(void) {
    configure(1, 1);
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&before));
    tpool_task all = { .after = &before, .after_count = 1 };
    tpool_future *future = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(tpool_high_level(), &all, &future));
    CHECK_STATUS(TPOOL_OK, tpool_future_add_done_callback(future, use_low, NULL));
    CHECK(tpool_low_level() != NULL);
    CHECK_STATUS(TPOOL_OK, tpool_dual_shutdown(0));
    CHECK_STATUS(TPOOL_OK, tpool_future_set_result(before, NULL));
    CHECK_EVENTUALLY(stats_of(tpool_high_level()).workers == 0); /* the one that has waited for the callback */
    CHECK_STATUS(TPOOL_OK, tpool_shutdown(tpool_high_level(), TPOOL_WAIT));
    CHECK_STATUS(TPOOL_OK, tpool_shutdown(tpool_low_level(), TPOOL_WAIT)); /* its end was passed on */
    CHECK_STATUS(TPOOL_SHUTDOWN, tpool_submit(tpool_low_level(), say_task, (void *)(uintptr_t) "x", NULL));
    return 0;
}
/* The thread ends in the arg_free of what it cancels: both pools go on, and take times again. */
static void say_and_end(void *arg) {
    say(arg);
    (void)end_thread(NULL);
}
static void *shuts_both_down(void *arg) {
    (void)tpool_dual_shutdown(TPOOL_WAIT);
    return arg;
}
static int a_dual_shutdown_whose_thread_ends(void) {
    configure(1, 1);
    tpool_task waits = {
        .fn = say_task, .arg = (void *)(uintptr_t) "f", .arg_free = say_and_end, .delay_ns = TPOOL_FOREVER
    };
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(tpool_high_level(), &waits, NULL));
    CHECK(tpool_low_level() != NULL);
    in_own_thread(shuts_both_down, NULL);
    for (int i = 0; i < 2; i++) {
        tpool_task next = { .fn = say_task, .arg = (void *)(uintptr_t) "n", .delay_ns = 1 };
        tpool_future *future = NULL;
        CHECK_STATUS(TPOOL_OK, tpool_submit_task(i ? tpool_high_level() : tpool_low_level(), &next, &future));
        CHECK_STATUS(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
        tpool_future_release(future);
    }
    return 0;
}

/* ---- Periodic tasks, between two runs and in one: the shared pools' end with the run at hand, the others are lost. */
static void *say_and_count(void *arg) {
    if (atomic_fetch_add((atomic_int *)arg, 1) == 0) say("p");
    return arg;
}
static void *pass_hold(void *arg) {
    gate_pass(&hold);
    return arg;
}
static void submit_every(tpool *pool, tpool_fn fn, void *arg, int64_t period) {
    tpool_task task = { .fn = fn, .arg = arg, .period_ns = period };
    tpool_future *future = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, &future));
    CHECK_STATUS(TPOOL_OK, tpool_future_add_done_callback(future, say_end, NULL));
}
static int the_shared_pools_end_what_is_periodic(void) {
    static atomic_int slow, gapless;
    configure(2, 2);
    submit_every(tpool_high_level(), say_and_count, &slow, TPOOL_FOREVER); /* waits for its time */
    submit_every(tpool_low_level(), say_and_count, &gapless, 1);           /* is due as it ends */
    submit_every(tpool_low_level(), pass_hold, NULL, TPOOL_FOREVER);       /* runs */
    CHECK_EVENTUALLY(atomic_load(&slow) > 0 && atomic_load(&gapless) > 0);
    AWAIT_ARRIVALS(&hold, 1);
    open_hold_at_exit();
    return 0;
}
static int the_programs_own_pool_loses_what_is_periodic(void) {
    static atomic_int slow, gapless;
    create_own((tpool_config){ .max_workers = 3 });
    submit_every(own, say_and_count, &slow, TPOOL_FOREVER);
    submit_every(own, say_and_count, &gapless, 1);
    submit_every(own, pass_hold, NULL, TPOOL_FOREVER);
    CHECK_EVENTUALLY(atomic_load(&slow) > 0 && atomic_load(&gapless) > 0);
    AWAIT_ARRIVALS(&hold, 1);
    leave_things_behind();
    return 0;
}

#define STORY(function, code, said) \
    { #function, function, code, said }

static const story stories[] = {
    STORY(the_shared_pools_cancel_what_is_still_held, 0, "abccdee"),
    STORY(a_managed_pool_cancels_what_is_still_held, 0, "ac"),
    STORY(the_programs_own_pool_loses_what_is_held, 0, "L"),
    STORY(a_wait_under_way_gives_broken, 0, "L"),
    STORY(a_wait_for_a_try_after_the_halt_gives_broken, 0, "Lt"),
    STORY(a_destroy_that_comes_later_finishes_what_is_held, 0, "cdffg"),
    STORY(dual_shutdown_cancels_times, 0, "abcc"),
    STORY(what_a_cancelled_task_would_free_is_cancelled, 0, "cccc"),
    STORY(what_a_managed_pools_last_task_submits_is_cancelled, 0, "abcc"),
    STORY(what_another_shared_pools_task_frees_runs, 0, "aad"),
    STORY(dual_shutdown_without_wait_cancels_times_of_both, 0, "h"),
    STORY(the_low_level_pool_outlasts_what_the_high_level_one_holds, 0, "l"),
    STORY(a_dual_shutdown_whose_thread_ends, 0, "fnn"),
    STORY(the_shared_pools_end_what_is_periodic, 0, "cccpp"),
    STORY(the_programs_own_pool_loses_what_is_periodic, 0, "pp"),
};

int main(int argc, char **argv) { return play_stories(argc, argv, stories, sizeof stories / sizeof *stories); }
