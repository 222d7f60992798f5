/* Exit in a task or callback, in handlers of the program, and in a forked child. */
#include "exits.h"

/* --- exit in a task or callback: nothing is waited for */

static void say_e_at_exit(void) { say("e"); }

static void *exit_with_7(void *arg) {
    (void)arg;
    leave_things_behind();
    exit(7);
}

/* The only worker of pool calls exit, with work behind it, and tasks that never end elsewhere. */
static _Noreturn void exit_in_task_of(tpool *pool, tpool *blocked, tpool *also_blocked) {
    CHECK(atexit(say_e_at_exit) == 0); /* the program's own handlers run */
    block_for_ever(blocked);
    if (also_blocked) block_for_ever(also_blocked);
    CHECK_STATUS(TPOOL_OK, tpool_pause(pool));
    submit(pool, exit_with_7, NULL);
    for (int i = 0; i < 5; i++) submit(pool, say_task, "x");
    CHECK_STATUS(TPOOL_OK, tpool_resume(pool));
    sleep_for_ever();
}

static int exit_in_a_high_level_task_waits_for_nothing(void) {
    configure(1, 1);
    exit_in_task_of(tpool_high_level(), tpool_low_level(), NULL);
}

static int exit_in_a_low_level_task_waits_for_nothing(void) {
    configure(1, 1);
    exit_in_task_of(tpool_low_level(), tpool_high_level(), NULL);
}

static int exit_in_a_task_of_the_programs_own_pool_waits_for_nothing(void) {
    configure(1, 1);
    create_own((tpool_config){ .max_workers = 1 });
    exit_in_task_of(own, tpool_high_level(), tpool_low_level());
}

static int exit_in_a_task_of_a_managed_pool_waits_for_nothing(void) {
    configure(1, 1);
    exit_in_task_of(managed(NULL, 1), tpool_low_level(), tpool_high_level());
}

static void *wait_for_exit_with_7(void *arg) {
    (void)arg;
    tpool_future *future;
    if (tpool_submit(tpool_current(), exit_with_7, NULL, &future) != TPOOL_OK) _exit(103);
    (void)tpool_future_result(future, TPOOL_FOREVER, NULL); /* run in place, above this task */
    _exit(104);
}

static int exit_in_a_task_that_its_waiter_runs_waits_for_nothing(void) {
    configure(1, 1);
    block_for_ever(tpool_low_level());
    submit(tpool_high_level(), wait_for_exit_with_7, NULL);
    sleep_for_ever();
}

static void exit_in_callback(tpool_future *future, void *context) {
    (void)future;
    (void)context;
    leave_things_behind();
    exit(8);
}

static int exit_in_a_callback_on_a_worker_waits_for_nothing(void) {
    configure(1, 1);
    block_for_ever(tpool_low_level());
    static gate start = GATE_CLOSED;
    static tpool_future *future;
    CHECK_STATUS(TPOOL_OK, tpool_submit(tpool_high_level(), gate_task, &start, &future));
    AWAIT_ARRIVALS(&start, 1);
    submit(tpool_high_level(), say_task, "x");
    CHECK_STATUS(TPOOL_OK, tpool_future_add_done_callback(future, exit_in_callback, NULL));
    gate_open(&start);
    sleep_for_ever();
}

static int exit_in_a_callback_of_a_cancel_waits_for_nothing(void) {
    configure(1, 1);
    block_for_ever(tpool_low_level());
    block_for_ever(tpool_high_level());
    static tpool_future *future;
    CHECK_STATUS(TPOOL_OK, tpool_submit(tpool_high_level(), say_task, "x", &future));
    CHECK_STATUS(TPOOL_OK, tpool_future_add_done_callback(future, exit_in_callback, NULL));
    (void)tpool_future_cancel(future); /* in this thread, the main one */
    _exit(104);
}

static int exit_in_a_task_run_by_the_caller_waits_for_nothing(void) {
    configure(1, 1);
    block_for_ever(tpool_low_level());
    create_own((tpool_config){ .max_workers = 1, .queue_capacity = 1, .on_full = TPOOL_FULL_CALLER_RUNS });
    block_for_ever(own);
    submit(own, exit_with_7, NULL); /* in this thread, the main one */
    _exit(104);
}

/* --- the program's own handlers */

static void submit_in_early_handler(void) { /* registered after the first use: the pools still work */
    tpool_future *future;
    CHECK_STATUS(TPOOL_OK, tpool_submit(tpool_high_level(), say_task, "a", &future));
    CHECK_STATUS(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
    tpool_future_release(future);
}

static void submit_in_late_handler(void) { /* registered before it: they may be at an end, but nothing hangs */
    tpool_future *future = NULL;
    tpool_status status = tpool_submit(tpool_low_level(), say_task, "b", &future);
    if (status == TPOOL_OK) CHECK_STATUS(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
    else CHECK_STATUS(TPOOL_SHUTDOWN, status);
    tpool_future_release(future);
    if (status != TPOOL_OK) say("b");
}

static int handlers_registered_before_and_after_the_pools_may_use_them(void) {
    configure(1, 1);
    CHECK(atexit(submit_in_late_handler) == 0);
    queue_until_exit(tpool_high_level(), "H", "h");
    submit(tpool_low_level(), say_task, "l");
    CHECK(atexit(submit_in_early_handler) == 0);
    open_hold_at_exit();
    return 0;
}

/* --- a forked child has nothing to wait for */

/* Handlers run in the opposite order: this one, registered before the library's, runs after it, when the program's own
   pool has been stopped for good, whatever state it was in. */
static void submit_to_own_in_late_handler(void) {
    tpool_future *future = (tpool_future *)own;
    for (int i = 0; i < 2; i++) {
        CHECK_STATUS(TPOOL_SHUTDOWN, tpool_submit(own, say_task, "x", NULL));
        CHECK_STATUS(TPOOL_SHUTDOWN, tpool_submit(own, say_task, "x", &future));
        CHECK(!future);
    }
    say("s");
}
static int after_its_end_the_programs_own_pool_takes_nothing(void) {
    CHECK(atexit(submit_to_own_in_late_handler) == 0);
    create_own((tpool_config){ .max_workers = 1 });
    submit(own, gate_task, &never);
    AWAIT_ARRIVALS(&never, 1);
    return 0;
}
static int after_its_end_the_programs_own_pool_without_a_worker_takes_nothing(void) {
    CHECK(atexit(submit_to_own_in_late_handler) == 0);
    create_own((tpool_config){ .max_workers = 1 });
    return 0;
}
static int after_its_end_the_programs_own_full_pool_takes_nothing(void) {
    CHECK(atexit(submit_to_own_in_late_handler) == 0);
    create_own((tpool_config){ .max_workers = 1, .queue_capacity = 1 }); /* whose submit blocks when it is full */
    submit(own, gate_task, &never);
    AWAIT_ARRIVALS(&never, 1);
    submit(own, say_task, "x");
    return 0;
}
#if HAVE_FORK

static int a_forked_child_exits_without_the_parents_work(void) {
    configure(1, 1);
    queue_until_exit(tpool_high_level(), "H", "h");
    pid_t child = fork();
    if (child == 0) {
        alarm(STORY_SECONDS);
        leave_things_behind();
        exit(0);
    }
    int ended;
    CHECK(child > 0 && waitpid(child, &ended, 0) == child);
    CHECK(WIFEXITED(ended) && WEXITSTATUS(ended) == 0);
    open_hold_at_exit();
    return 0;
}
#endif

#define STORY(function, code, said) \
    { #function, function, code, said }

static const story stories[] = {
    STORY(exit_in_a_task_of_a_managed_pool_waits_for_nothing, 7, "e"),
    STORY(exit_in_a_high_level_task_waits_for_nothing, 7, "e"),
    STORY(exit_in_a_low_level_task_waits_for_nothing, 7, "e"),
    STORY(exit_in_a_task_of_the_programs_own_pool_waits_for_nothing, 7, "e"),
    STORY(exit_in_a_task_that_its_waiter_runs_waits_for_nothing, 7, ""),
    STORY(exit_in_a_callback_on_a_worker_waits_for_nothing, 8, ""),
    STORY(exit_in_a_callback_of_a_cancel_waits_for_nothing, 8, ""),
    STORY(exit_in_a_task_run_by_the_caller_waits_for_nothing, 7, ""),
    STORY(handlers_registered_before_and_after_the_pools_may_use_them, 0, "Habhhhl"),
    STORY(after_its_end_the_programs_own_pool_takes_nothing, 0, "s"),
    STORY(after_its_end_the_programs_own_pool_without_a_worker_takes_nothing, 0, "s"),
    STORY(after_its_end_the_programs_own_full_pool_takes_nothing, 0, "s"),
#if HAVE_FORK
    STORY(a_forked_child_exits_without_the_parents_work, 0, "Hhhh"),
#endif
};

int main(int argc, char **argv) { return play_stories(argc, argv, stories, sizeof stories / sizeof *stories); }
