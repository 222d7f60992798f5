/* Held tasks and the end of the program: those of the shared pools are cancelled once nothing else is left, those of the
   program's own are lost, and waits for them give TPOOL_BROKEN. */
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

#define STORY(function, code, said) \
    { #function, function, code, said }

static const story stories[] = {
    STORY(the_shared_pools_cancel_what_is_still_held, 0, "abccdee"),
    STORY(a_managed_pool_cancels_what_is_still_held, 0, "ac"),
    STORY(the_programs_own_pool_loses_what_is_held, 0, "L"),
    STORY(a_wait_under_way_gives_broken, 0, "L"),
    STORY(a_destroy_that_comes_later_finishes_what_is_held, 0, "cdffg"),
    STORY(dual_shutdown_cancels_times, 0, "abcc"),
};

int main(int argc, char **argv) { return play_stories(argc, argv, stories, sizeof stories / sizeof *stories); }
