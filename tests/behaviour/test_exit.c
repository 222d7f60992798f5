/* The end of the program, and the shared pools. Each story is played by a process of its own: this program again, with
   the story's name as its argument. What its tasks say goes to its standard output, one letter each, also after main
   has returned; the test compares that and the exit code, and a story that hangs is killed. */
#include "exits.h"

/* --- the shared pools are drained */

static int high_level_work_completes(void) {
    configure(1, 1);
    queue_until_exit(tpool_high_level(), "H", "h");
    open_hold_at_exit();
    return 0;
}

static int low_level_work_completes(void) {
    configure(1, 1);
    queue_until_exit(tpool_low_level(), "L", "l");
    open_hold_at_exit();
    return 4;
}

static void *say_and_spread(void *arg) {
    const char *letter = arg;
    say(letter);
    /* A task that is being drained may still hand on. */
    if (*letter == 'l' && tpool_submit(tpool_low_level(), say_task, "m", NULL) != TPOOL_OK) say("R");
    return NULL;
}

static void *use_low_and_high(void *arg) {
    (void)arg;
    gate_pass(&hold);
    say("h");
    if (tpool_submit(tpool_high_level(), say_task, "g", NULL) != TPOOL_OK) say("R");
    tpool_future *future;
    if (tpool_submit(tpool_low_level(), say_and_spread, "l", &future) != TPOOL_OK) {
        say("R");
        return NULL;
    }
    if (tpool_future_result(future, TPOOL_FOREVER, NULL) != TPOOL_OK) say("F");
    tpool_future_release(future);
    if (tpool_submit(tpool_low_level(), say_and_spread, "l", NULL) != TPOOL_OK) say("R"); /* nobody waits */
    return NULL;
}

static int the_high_level_pool_is_drained_before_the_low_level_one(void) {
    configure(1, 1);
    for (int i = 0; i < 3; i++) submit(tpool_high_level(), use_low_and_high, NULL);
    AWAIT_ARRIVALS(&hold, 1);
    submit(tpool_low_level(), say_task, "k");
    CHECK_STATUS(TPOOL_OK, tpool_drain(tpool_low_level(), LIMIT)); /* idle: it must still be there when needed */
    open_hold_at_exit();
    return 0;
}

static int the_low_level_pool_works_while_the_high_level_one_is_drained(void) {
    configure(1, 1);
    submit(tpool_low_level(), say_task, "k");
    submit(tpool_high_level(), use_low_and_high, NULL);
    AWAIT_ARRIVALS(&hold, 1);
    for (int i = 0; i < 3; i++) submit(tpool_low_level(), say_after_hold, "L");
    open_hold_at_exit();
    return 0;
}

/* Late, so that whoever looked for the low-level pool too early has looked, and whoever does not wait is gone. */
static void *say_late(void *arg) {
    sleep_ms(50);
    say(arg);
    return NULL;
}
static void *use_low_late(void *arg) {
    gate_pass(&hold);
    sleep_ms(50);
    for (int i = 0; i < 3; i++) {
        if (tpool_submit(tpool_low_level(), say_late, arg, NULL) != TPOOL_OK) say("R");
    }
    return NULL;
}

static int the_low_level_pool_may_be_first_used_while_the_high_level_one_is_drained(void) {
    configure(1, 3);
    submit(tpool_high_level(), use_low_late, "l");
    AWAIT_ARRIVALS(&hold, 1);
    open_hold_at_exit();
    return 0;
}

static void *exit_with_11(void *arg) {
    (void)arg;
    exit(11);
}

static int exit_by_a_thread_of_the_programs_own_drains_too(void) {
    configure(1, 1);
    queue_until_exit(tpool_high_level(), "H", "h");
    open_hold_at_exit();
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, exit_with_11, NULL) == 0);
    sleep_for_ever();
}

static int work_queued_before_a_shutdown_without_wait_completes(void) {
    configure(1, 1);
    queue_until_exit(tpool_high_level(), "H", "h");
    open_hold_at_exit();
    CHECK_STATUS(TPOOL_OK, tpool_dual_shutdown(0));
    return 0;
}

static int exit_after_a_waiting_shutdown_is_quiet(void) {
    submit(tpool_high_level(), say_task, "h");
    submit(tpool_low_level(), say_task, "l");
    CHECK_STATUS(TPOOL_OK, tpool_dual_shutdown(TPOOL_WAIT));
    return 5;
}

static int exit_without_any_pool_is_quiet(void) { return 6; }

static int idle_pools_do_not_hold_up_exit(void) {
    CHECK_STATUS(TPOOL_OK, tpool_warm_up(tpool_high_level(), 4));
    CHECK_STATUS(TPOOL_OK, tpool_warm_up(tpool_low_level(), 4));
    create_own((tpool_config){ .max_workers = 2 });
    CHECK_STATUS(TPOOL_OK, tpool_warm_up(own, 2));
    return 0;
}

/* What becomes of the work is not promised; that the program ends is. */
static int a_paused_shared_pool_does_not_hang_exit(void) {
    CHECK_STATUS(TPOOL_OK, tpool_pause(tpool_high_level()));
    CHECK_STATUS(TPOOL_OK, tpool_pause(tpool_low_level()));
    submit(tpool_high_level(), say_task, "h");
    submit(tpool_low_level(), say_task, "l");
    return 0;
}

/* --- managed pools */

static int work_of_the_global_manager_completes(void) {
    tpool *kept = managed(NULL, 1), *released = managed(NULL, 2);
    queue_until_exit(kept, "M", "m");
    submit(released, say_after_hold, "N");
    CHECK_STATUS(TPOOL_OK, tpool_manager_release(NULL, released));
    open_hold_at_exit();
    return 0;
}

/* No dual pool is there, and the work takes longer than the rest of the exit. */
static void *say_much_later(void *arg) {
    gate_pass(&hold);
    sleep_ms(50);
    return say_task(arg);
}
static int exit_waits_for_the_global_manager_alone(void) {
    submit(managed(NULL, 1), say_much_later, "M");
    AWAIT_ARRIVALS(&hold, 1);
    open_hold_at_exit();
    return 0;
}

/* A task of a managed pool may use the low-level pool, and the high-level pool's tasks a managed one. */
static void *use_low_from_managed(void *arg) {
    (void)arg;
    tpool_future *future;
    tpool_status refused; /* soon the high-level pool is drained, and takes no more */
    int64_t end = tpool_now() + LIMIT;
    while ((refused = tpool_submit(tpool_high_level(), nothing, NULL, NULL)) == TPOOL_OK && tpool_now() < end)
        sleep_ms(5);
    if (refused != TPOOL_SHUTDOWN) say("R");
    if (tpool_submit(tpool_low_level(), say_task, "l", &future) != TPOOL_OK) {
        say("R");
        return NULL;
    }
    if (tpool_future_result(future, LIMIT, NULL) != TPOOL_OK) say("R");
    tpool_future_release(future);
    say("m");
    return NULL;
}
static void *use_managed_from_high(void *arg) {
    gate_pass(arg);
    tpool *pool = managed(NULL, 1); /* asked for the first time while the high-level pool is drained */
    submit(pool, use_low_from_managed, NULL);
    CHECK_STATUS(TPOOL_OK, tpool_manager_release(NULL, pool));
    say("h");
    return NULL;
}
static int the_global_manager_ends_between_the_high_and_the_low_level_pool(void) {
    configure(1, 1);
    submit(tpool_high_level(), use_managed_from_high, &hold);
    open_hold_at_exit();
    return 0;
}

static void ask_in_early_handler(void) { /* registered after the first use: all still works */
    tpool *pool = managed(NULL, 3);
    submit(pool, say_task, "a");
    CHECK_STATUS(TPOOL_OK, tpool_manager_release(NULL, pool));
}
static void ask_in_late_handler(void) { /* registered before it: over for good, and nothing hangs */
    tpool *pool = own;
    CHECK_STATUS(TPOOL_SHUTDOWN, tpool_manager_get(NULL, 3, TPOOL_THREADS, 0, &pool));
    CHECK(!pool);
    CHECK_STATUS(TPOOL_OK, tpool_manager_global_shutdown());
    CHECK_STATUS(TPOOL_SHUTDOWN, tpool_manager_get(NULL, 3, TPOOL_THREADS, 0, &pool));
    say("b");
}
static int handlers_before_and_after_may_ask_the_global_manager(void) {
    CHECK(atexit(ask_in_late_handler) == 0);
    CHECK_STATUS(TPOOL_OK, tpool_manager_release(NULL, managed(NULL, 1)));
    CHECK(atexit(ask_in_early_handler) == 0);
    return 0;
}
static int a_global_manager_first_asked_for_after_the_end_is_over(void) {
    CHECK(atexit(ask_in_late_handler) == 0);
    create_own((tpool_config){ 0 });
    return 0;
}

static int a_manager_of_the_programs_own_loses_its_waiting_work(void) {
    tpool_manager *manager = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_manager_create(&manager, NULL));
    leave_things_behind();
    block_for_ever(managed(manager, 1));
    return 0;
}

/* --- one test for each story */

/* Of the process' first use, what the library asks for the end of its threads is its own, not the program's first
   key. */
static int completions_before_any_pool_leave_the_programs_keys_alone(void) {
    pthread_key_t key;
    int own_value = 0;
    tpool_completions *completions = NULL;
    CHECK(pthread_key_create(&key, NULL) == 0 && pthread_setspecific(key, &own_value) == 0);
    CHECK_STATUS(TPOOL_OK, tpool_as_completed(NULL, 0, &completions));
    tpool_completions_destroy(completions);
    CHECK(pthread_getspecific(key) == &own_value);
    return 6;
}
static void *say_after(void *pool) {
    CHECK_STATUS(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    say("a");
    return NULL;
}
static int a_paused_shared_pool_holds_up_no_task_of_another(void) {
    tpool *managed = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_manager_get(NULL, 1, TPOOL_THREADS, 0, &managed));
    CHECK_STATUS(TPOOL_OK, tpool_pause(managed));
    CHECK_STATUS(TPOOL_OK, tpool_pause(tpool_low_level()));
    submit(tpool_high_level(), say_after, managed);
    submit(tpool_high_level(), say_after, tpool_low_level());
    submit(managed, say_after, tpool_low_level());
    return 0;
}

/* A task of a shared pool would wait for room that no task makes any more. */
static void *say_if_shut(void *arg) {
    if (tpool_submit(own, say_task, "x", NULL) == TPOOL_SHUTDOWN) say("s");
    return arg;
}
static int a_shared_pools_task_that_is_blocked_on_a_full_halted_queue_is_refused(void) {
    create_own((tpool_config){ .max_workers = 1, .queue_capacity = 1 });
    block_for_ever(own);
    submit(tpool_high_level(), say_if_shut, NULL);
    sleep_ms(20); /* mostly it is blocked by then; else it comes later, and must be refused as well */
    return 0;
}
/* It waits for a serial group of which one member runs for ever, and others wait. */
static tpool_group *own_group;
static void add_to_own(tpool_fn fn, void *arg) {
    tpool_task task = { .fn = fn, .arg = arg, .group = own_group };
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(own, &task, NULL));
}
static void *say_if_given_up(void *arg) {
    if (tpool_group_wait(own_group, TPOOL_FOREVER, NULL) == TPOOL_BROKEN) say("b");
    return arg;
}
static int wait_for_a_halted_group(int before) {
    create_own((tpool_config){ .max_workers = 1 });
    CHECK_STATUS(TPOOL_OK, tpool_group_create(&own_group, &(tpool_group_config){ .limit = 1 }));
    add_to_own(gate_task, &hold);
    for (int i = 0; i < before; i++) add_to_own(nothing, NULL);
    add_to_own(gate_task, &never);
    for (int i = 0; i < 3; i++) add_to_own(say_task, "x");
    gate_open(&hold);
    AWAIT_ARRIVALS(&never, 1);
    submit(tpool_high_level(), say_if_given_up, NULL);
    sleep_ms(20); /* mostly it waits by then */
    return 0;
}
static int a_halted_serial_group_is_given_up(void) { return wait_for_a_halted_group(0); }
static int a_halted_serial_group_in_hand_is_given_up(void) { return wait_for_a_halted_group(5); }
#if HAVE_FORK

static void fork_and_ask(void) {
    pid_t child = fork();
    if (child == 0) {
        tpool *pool = NULL;
        if (tpool_manager_get(NULL, 1, TPOOL_THREADS, 0, &pool) == TPOOL_OK) say("g");
        _exit(0);
    }
    CHECK(waitpid(child, NULL, 0) == child);
}
static int a_child_forked_by_a_late_handler_has_a_manager_of_its_own(void) {
    CHECK(atexit(fork_and_ask) == 0); /* before the first use, so it runs after the pools have ended */
    tpool *pool = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_manager_get(NULL, 1, TPOOL_THREADS, 0, &pool));
    return 0;
}
#endif

/* The task that a shared pool's task waits for waits itself for tasks of its own, halted pool, in each way there is. */
static gate own_runs = GATE_CLOSED;
static void halted_by_now(void) {
    gate_pass(&own_runs);
    sleep_ms(20); /* mostly; else the wait begins before the halt */
}
static void *wait_for_the_first(void *arg) {
    tpool_future *futures[2];
    for (int i = 0; i < 2; i++) CHECK_STATUS(TPOOL_OK, tpool_submit(own, nothing, NULL, &futures[i]));
    halted_by_now();
    if (tpool_wait(futures, 2, TPOOL_FIRST_COMPLETED, TPOOL_FOREVER, NULL) == TPOOL_OK) say("f");
    return arg;
}
static void *wait_for_the_next(void *arg) {
    tpool_future *futures[2], *future;
    tpool_completions *completions = NULL;
    for (int i = 0; i < 2; i++) CHECK_STATUS(TPOOL_OK, tpool_submit(own, nothing, NULL, &futures[i]));
    CHECK_STATUS(TPOOL_OK, tpool_as_completed(futures, 2, &completions));
    halted_by_now();
    for (int i = 0; i < 2; i++)
        if (tpool_completions_next(completions, TPOOL_FOREVER, &future) == TPOOL_OK) say("n");
    return arg;
}
/* Each next executes one, and finds it at once. */
static void *wait_for_many(void *arg) {
    enum { MANY = SLOW_TOOL ? 5000 : 100000 };
    tpool_completions *completions = NULL;
    tpool_future *future;
    int ended = 0;
    CHECK_STATUS(TPOOL_OK, tpool_as_completed(NULL, 0, &completions));
    for (int i = 0; i < MANY; i++)
        CHECK_STATUS(TPOOL_OK,
                     tpool_submit_task(own, &(tpool_task){ .fn = nothing, .completions = completions }, NULL));
    halted_by_now();
    clock_t began = clock();
    while (tpool_completions_next(completions, TPOOL_FOREVER, &future) == TPOOL_OK) ended++;
    if (ended == MANY && clock() - began < 5 * CLOCKS_PER_SEC) say("n");
    tpool_completions_destroy(completions);
    return arg;
}
static int items[3];
static void *wait_for_items(void *arg) {
    tpool_map_iter *iter = NULL;
    CHECK_STATUS(TPOOL_OK,
                 tpool_map(own,
                           &(tpool_map_spec){ .fn = same_item, .items = items, .count = 3, .stride = sizeof *items },
                           &iter));
    halted_by_now();
    while (tpool_map_next(iter, TPOOL_FOREVER, NULL) == TPOOL_OK) say("m");
    tpool_map_close(iter);
    return arg;
}
static void *await_own(void *fn) {
    tpool_fn wait;
    memcpy(&wait, fn, sizeof wait);
    CHECK_STATUS(TPOOL_OK, end_of(submitted(own, wait, NULL)));
    say("h");
    return NULL;
}
static int exit_beside(tpool_fn wait) {
    static tpool_fn kept;
    kept = wait;
    leave_things_behind();
    create_own((tpool_config){ .max_workers = 1 });
    submit(tpool_high_level(), await_own, &kept);
    AWAIT_ARRIVALS(&own_runs, 1);
    gate_open(&own_runs);
    return 0;
}
static int a_halted_pools_task_may_wait_for_the_first_of_its_own(void) { return exit_beside(wait_for_the_first); }
static int a_halted_pools_task_may_wait_for_the_next_of_its_own(void) { return exit_beside(wait_for_the_next); }
static int a_halted_pools_task_finds_the_next_of_many_at_once(void) { return exit_beside(wait_for_many); }
static int a_halted_pools_task_may_map_over_its_own_pool(void) { return exit_beside(wait_for_items); }

/* The same in waits for one future, or for all of several, that have a limit: each gives up again and again. */
static void *wait_with_limits(void *arg) {
    tpool_future *futures[4];
    const tpool_error *error = NULL;
    tpool_map_iter *iter = NULL;
    for (int i = 0; i < 4; i++) CHECK_STATUS(TPOOL_OK, tpool_submit(own, nothing, NULL, &futures[i]));
    CHECK_STATUS(TPOOL_OK,
                 tpool_map(own,
                           &(tpool_map_spec){ .fn = same_item, .items = items, .count = 3, .stride = sizeof *items },
                           &iter));
    halted_by_now();
    while (tpool_future_result(futures[0], TPOOL_MS(1), NULL) == TPOOL_TIMEOUT) continue;
    say("r");
    while (tpool_future_error(futures[1], TPOOL_MS(1), &error) == TPOOL_TIMEOUT) continue;
    say("e");
    while (tpool_wait(futures, 4, TPOOL_ALL_COMPLETED, TPOOL_MS(1), NULL) == TPOOL_TIMEOUT) continue;
    say("a");
    for (tpool_status status; (status = tpool_map_next(iter, TPOOL_MS(1), NULL)) != TPOOL_END;)
        if (status == TPOOL_OK) say("m");
    tpool_map_close(iter);
    return arg;
}
/* A wait that began in a paused pool does not execute in place. The worker that would execute the task hangs in its
   initializer when exit begins. */
static bool only_the_first_begins(void *context) {
    static atomic_int begun;
    (void)context;
    if (atomic_fetch_add(&begun, 1) > 0) gate_pass(&never);
    return true;
}
static void *wait_while_paused(void *arg) {
    tpool_future *future = submitted(own, nothing, NULL);
    CHECK_STATUS(TPOOL_OK, tpool_pause(own));
    gate_pass(&own_runs);
    tpool_status status = tpool_future_result(future, TPOOL_FOREVER, NULL);
    say(status == TPOOL_OK ? "o" : status == TPOOL_BROKEN ? "b" : "?");
    return arg;
}
static int exit_beside_one_who_waited_in_a_pause(bool resumes) {
    static tpool_fn kept = wait_while_paused;
    leave_things_behind();
    create_own((tpool_config){ .max_workers = 1, .initializer = only_the_first_begins });
    submit(tpool_high_level(), await_own, &kept);
    AWAIT_ARRIVALS(&own_runs, 1);
    gate_open(&own_runs);
    if (!resumes) return 0;
    sleep_ms(20); /* mostly it is parked by then; else it executes its task as ever */
    CHECK_STATUS(TPOOL_OK, tpool_resume(own));
    for (int i = 0; i < 20 && gate_arrived(&never) == 0; i++) sleep_ms(1);
    return 0;
}
static int a_halted_pools_task_may_have_begun_to_wait_in_a_pause(void) {
    return exit_beside_one_who_waited_in_a_pause(true);
}
static int a_halted_pools_task_that_waits_in_a_pause_is_refused(void) {
    return exit_beside_one_who_waited_in_a_pause(false);
}
/* Each task of a halted pool executes the next, until the stack is used up. */
static void *wait_ever_deeper(void *arg) {
    tpool_future *future = NULL;
    if (!arg) halted_by_now();
    CHECK_STATUS(TPOOL_OK, tpool_submit(own, wait_ever_deeper, &own, &future));
    if (tpool_future_result(future, TPOOL_FOREVER, NULL) == TPOOL_BROKEN) say("b");
    tpool_future_release(future);
    return arg;
}

static int a_halted_pools_task_may_wait_for_its_own_with_a_limit(void) { return exit_beside(wait_with_limits); }
static int a_halted_pools_task_that_can_execute_nothing_is_refused(void) { return exit_beside(wait_ever_deeper); }

/* A destroy whose thread has ended leaves the pool to the program, which never destroys it. */
static tpool_future *completed_first, *completed_next;
static void end_thread_in_callback(tpool_future *future, void *context) {
    (void)future, (void)context;
    pthread_exit(NULL);
}
static void destroy_in_callback(tpool_future *future, void *context) {
    (void)future, (void)context;
    CHECK_STATUS(TPOOL_OK, tpool_future_set_result(completed_next, NULL)); /* its callback runs in the next wait */
    (void)tpool_destroy(own);
}
static void open_hold_late(void) {
    open_hold();
    sleep_ms(100);
}
static void *complete_first(void *arg) {
    CHECK_STATUS(TPOOL_OK, tpool_future_set_result(completed_first, NULL));
    return arg;
}
static int a_pool_whose_destroy_was_left_loses_its_waiting_work(void) {
    pthread_t thread;
    leave_things_behind();
    CHECK(atexit(open_hold_late) == 0); /* registered before the pool is made, so it runs when the pool is halted */
    create_own((tpool_config){ .max_workers = 1 });
    queue_until_exit(own, "O", "o");
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&completed_first));
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&completed_next));
    CHECK_STATUS(TPOOL_OK, tpool_future_add_done_callback(completed_first, destroy_in_callback, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_future_add_done_callback(completed_next, end_thread_in_callback, NULL));
    CHECK(pthread_create(&thread, NULL, complete_first, NULL) == 0 && pthread_join(thread, NULL) == 0);
    return 0;
}

/* The first use of a shared pool comes when all of them have ended. */
static void use_low_first(void) {
    tpool_status status = tpool_submit(tpool_low_level(), say_task, "x", NULL);
    if (status == TPOOL_SHUTDOWN) say("s");
}
static int a_late_handler_that_is_the_first_to_use_a_shared_pool_is_refused(void) {
    CHECK(atexit(use_low_first) == 0);
    CHECK_STATUS(TPOOL_OK, end_of(submitted(tpool_high_level(), nothing, NULL))); /* the first use of all */
    return 0;
}
static void *pause_own_pool(void *arg) {
    halted_by_now();
    while (tpool_pause(tpool_current()) != TPOOL_SHUTDOWN) {
        CHECK_STATUS(TPOOL_OK, tpool_resume(tpool_current())); /* exit has not begun */
        sleep_ms(1);
    }
    say("p");
    return arg;
}
static int no_task_pauses_a_shared_pool_that_exit_drains(void) {
    configure(1, 1);
    submit(tpool_high_level(), pause_own_pool, NULL);
    submit(tpool_high_level(), say_task, "q");
    AWAIT_ARRIVALS(&own_runs, 1);
    gate_open(&own_runs);
    return 0;
}
/* What waits in a halted pool ends item by item, so that the usual loop ends. */
static void *read_map_to_its_end(void *arg) {
    static int many[50];
    tpool_map_iter *iter = NULL;
    CHECK_STATUS(TPOOL_OK,
                 tpool_map(own,
                           &(tpool_map_spec){
                               .fn = same_item, .items = many, .count = 50, .chunk_size = 1, .stride = sizeof *many },
                           &iter));
    gate_pass(&own_runs);
    int ended = 0;
    while (tpool_map_next(iter, TPOOL_FOREVER, NULL) != TPOOL_END) ended++;
    if (ended == 50) say("e");
    tpool_map_close(iter);
    return arg;
}
static int a_map_on_a_halted_pool_comes_to_its_end(void) {
    leave_things_behind();
    create_own((tpool_config){ .max_workers = 1 });
    block_for_ever(own);
    submit(tpool_high_level(), read_map_to_its_end, NULL);
    AWAIT_ARRIVALS(&own_runs, 1);
    gate_open(&own_runs);
    return 0;
}

#define STORY(function, code, said) \
    { #function, function, code, said }

static const story stories[] = {
    STORY(high_level_work_completes, 0, "Hhhh"),
    STORY(low_level_work_completes, 4, "Llll"),
    STORY(the_high_level_pool_is_drained_before_the_low_level_one, 0, "ggghhhkllllllmmmmmm"),
    STORY(the_low_level_pool_works_while_the_high_level_one_is_drained, 0, "LLLghkllmm"),
    STORY(the_low_level_pool_may_be_first_used_while_the_high_level_one_is_drained, 0, "lll"),
    STORY(exit_by_a_thread_of_the_programs_own_drains_too, 11, "Hhhh"),
    STORY(work_queued_before_a_shutdown_without_wait_completes, 0, "Hhhh"),
    STORY(exit_after_a_waiting_shutdown_is_quiet, 5, "hl"),
    STORY(exit_without_any_pool_is_quiet, 6, ""),
    STORY(completions_before_any_pool_leave_the_programs_keys_alone, 6, ""),
    STORY(idle_pools_do_not_hold_up_exit, 0, ""),
    STORY(a_paused_shared_pool_does_not_hang_exit, 0, NULL),
    STORY(a_paused_shared_pool_holds_up_no_task_of_another, 0, "aaa"),
    STORY(a_shared_pools_task_that_is_blocked_on_a_full_halted_queue_is_refused, 0, "s"),
    STORY(a_halted_serial_group_is_given_up, 0, "b"),
    STORY(a_halted_serial_group_in_hand_is_given_up, 0, "b"),
    STORY(a_halted_pools_task_may_wait_for_the_first_of_its_own, 0, "fh"),
    STORY(a_halted_pools_task_may_wait_for_the_next_of_its_own, 0, "hnn"),
    STORY(a_halted_pools_task_finds_the_next_of_many_at_once, 0, "hn"),
    STORY(a_halted_pools_task_may_map_over_its_own_pool, 0, "hmmm"),
    STORY(a_halted_pools_task_may_wait_for_its_own_with_a_limit, 0, "aehmmmr"),
    STORY(a_halted_pools_task_may_have_begun_to_wait_in_a_pause, 0, "ho"),
    STORY(a_halted_pools_task_that_waits_in_a_pause_is_refused, 0, "bh"),
    STORY(a_halted_pools_task_that_can_execute_nothing_is_refused, 0, "bh"),
    STORY(a_pool_whose_destroy_was_left_loses_its_waiting_work, 0, "O"),
    STORY(a_late_handler_that_is_the_first_to_use_a_shared_pool_is_refused, 0, "s"),
    STORY(no_task_pauses_a_shared_pool_that_exit_drains, 0, "pq"),
    STORY(a_map_on_a_halted_pool_comes_to_its_end, 0, "e"),
#if HAVE_FORK
    STORY(a_child_forked_by_a_late_handler_has_a_manager_of_its_own, 0, "g"),
#endif
    STORY(work_of_the_global_manager_completes, 0, "MNmmm"),
    STORY(exit_waits_for_the_global_manager_alone, 0, "M"),
    STORY(the_global_manager_ends_between_the_high_and_the_low_level_pool, 0, "hlm"),
    STORY(handlers_before_and_after_may_ask_the_global_manager, 0, "ab"),
    STORY(a_global_manager_first_asked_for_after_the_end_is_over, 0, "b"),
    STORY(a_manager_of_the_programs_own_loses_its_waiting_work, 0, ""),
};

int main(int argc, char **argv) { return play_stories(argc, argv, stories, sizeof stories / sizeof *stories); }
