/* The end of the program. Each story is played by a process of its own: this program again, with the story's name as
   its argument. What its tasks say goes to its standard output, one letter each, also after main has returned; the
   test compares that and the exit code, and a story that hangs is killed. */
#include "story.h"

static void say(const char *letter) {
    if (write(STDOUT_FILENO, letter, 1) != 1) _exit(101);
}
/* A task that says the letter that is its argument. */
static void *say_task(void *arg) {
    say(arg);
    return NULL;
}

/* Where exit cuts a task or callback short, or a forked child leaves without its parent's threads, what they had in
   hand stays behind: no leak that LeakSanitizer should report. It asks at exit; elsewhere nobody does. */
static bool leaves_things_behind;
#if SLOW_TOOL
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void) { return leaves_things_behind; }
#endif

static gate hold = GATE_CLOSED;  /* opened at exit, by open_hold */
static gate never = GATE_CLOSED; /* never opened */
static tpool *own;               /* never destroyed */

static void open_hold(void) { gate_open(&hold); }

/* Registered after the pools' first use, so before they are drained. */
static void open_hold_at_exit(void) { CHECK(atexit(open_hold) == 0); }

static void configure(int high_workers, int low_workers) {
    CHECK_STATUS(TPOOL_OK, tpool_dual_configure(&(tpool_config){ .max_workers = high_workers },
                                                &(tpool_config){ .max_workers = low_workers }));
}

static void create_own(tpool_config config) { CHECK_STATUS(TPOOL_OK, tpool_create(&own, &config)); }

static void submit(tpool *pool, tpool_fn fn, void *arg) { CHECK_STATUS(TPOOL_OK, tpool_submit(pool, fn, arg, NULL)); }

static void *say_after_hold(void *arg) {
    gate_pass(&hold);
    say(arg);
    return NULL;
}

/* Holds the only worker of a pool until exit has begun, and queues three tasks behind that. */
static void queue_until_exit(tpool *pool, char *first, char *later) {
    submit(pool, say_after_hold, first);
    AWAIT_ARRIVALS(&hold, 1);
    for (int i = 0; i < 3; i++) submit(pool, say_task, later);
}

/* Somewhere a task that never ends, and work that waits behind it: whoever waited for that would hang. */
static void block_for_ever(tpool *pool) {
    int blocked_before = gate_arrived(&never);
    submit(pool, gate_task, &never);
    AWAIT_ARRIVALS(&never, blocked_before + 1);
    submit(pool, say_task, "x");
}

static _Noreturn void sleep_for_ever(void) {
    for (;;) sleep_ms(1000);
}

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

/* --- a pool of the program's own is not */

static int the_programs_own_pool_loses_its_waiting_work(void) {
    create_own((tpool_config){ .max_workers = 1 });
    submit(own, gate_task, &never);
    AWAIT_ARRIVALS(&never, 1);
    static char kept[] = "x";
    for (int i = 0; i < 10; i++) submit(own, say_task, kept);
    return 0;
}

/* The thread that waits for its end does not make it a pool that is being destroyed: nothing starts after the halt. */
static void let_its_worker_go_on(void) {
    gate_open(&never);
    sleep_ms(50); /* time to start what must not start */
}
static int a_detached_pool_loses_its_waiting_work(void) {
    CHECK(atexit(let_its_worker_go_on) == 0); /* before the pools' first use: it runs after their handler */
    (void)the_programs_own_pool_loses_its_waiting_work();
    CHECK_STATUS(TPOOL_OK, tpool_shutdown(own, TPOOL_DETACH));
    return 0;
}

static int the_programs_own_paused_pool_loses_its_waiting_work(void) {
    create_own((tpool_config){ .max_workers = 2, .queue_capacity = 5 });
    CHECK_STATUS(TPOOL_OK, tpool_pause(own));
    for (int i = 0; i < 5; i++) submit(own, say_task, "x");
    return 0;
}

static int the_programs_own_pool_beside_the_shared_ones(void) {
    configure(1, 1);
    create_own((tpool_config){ .max_workers = 1 });
    block_for_ever(own);
    queue_until_exit(tpool_low_level(), "L", "l");
    open_hold_at_exit();
    return 0;
}

/* What a lost task's functions would work on may be gone; but who waits for it learns. */
static void say_freed(void *arg) {
    (void)arg;
    say("x");
}
static void say_called(tpool_future *future, void *context) {
    (void)future;
    say(context);
}
static void *say_if_lost(void *arg) {
    tpool_future *lost = arg;
    const tpool_error *error = NULL;
    say(tpool_future_result(lost, TPOOL_FOREVER, NULL) == TPOOL_BROKEN ? "L" : "R");
    CHECK_STATUS(TPOOL_BROKEN, tpool_future_error(lost, TPOOL_FOREVER, &error));
    CHECK(!error && !tpool_future_done(lost));
    tpool_future_release(lost);
    return NULL;
}
static int waiters_learn_of_what_the_programs_own_pool_loses(void) {
    static char x[] = "x";
    configure(1, 1);
    create_own((tpool_config){ .max_workers = 1 });
    block_for_ever(own);
    tpool_future *lost[2] = { NULL };
    for (int i = 0; i < 2; i++) {
        tpool_task task = { .fn = say_task, .arg = x, .arg_free = i ? say_freed : NULL };
        CHECK_STATUS(TPOOL_OK, tpool_submit_task(own, &task, &lost[i]));
        for (int k = 0; k < 2 * i; k++) CHECK_STATUS(TPOOL_OK, tpool_future_add_done_callback(lost[i], say_called, x));
        submit(tpool_low_level(), say_if_lost, lost[i]);
    }
    return 0;
}

/* --- who destroys it later, from a handler or a static destructor, loses nothing */

static void destroy_own(void) {
    CHECK_STATUS(TPOOL_OK, tpool_destroy(own));
    say("d");
}
static int a_destroy_that_comes_later_finishes_the_work(void) {
    CHECK(atexit(destroy_own) == 0); /* registered before the pool is made, so it runs after our own handler */
    create_own((tpool_config){ .max_workers = 1 });
    queue_until_exit(own, "O", "o");
    open_hold_at_exit();
    return 0;
}
static int a_destroy_that_comes_earlier_finishes_the_work(void) {
    create_own((tpool_config){ .max_workers = 1 });
    queue_until_exit(own, "O", "o");
    CHECK(atexit(destroy_own) == 0);
    open_hold_at_exit();
    return 0;
}
static int a_destroy_that_comes_later_finishes_what_is_paused_and_full(void) {
    CHECK(atexit(destroy_own) == 0);
    create_own((tpool_config){ .max_workers = 2, .queue_capacity = 4 });
    CHECK_STATUS(TPOOL_OK, tpool_pause(own));
    for (int i = 0; i < 4; i++) {
        tpool_task task = { .fn = say_task, .arg = (char[]){ "o" }, .arg_size = 2, .priority = i % 2 };
        CHECK_STATUS(TPOOL_OK, tpool_submit_task(own, &task, NULL));
    }
    return 0;
}

/* What runs at exit goes on to spread, and to wait for what it has spread, in place or not. */
static void *spread(void *arg) {
    tpool_future *future[3];
    gate_pass(&hold);
    sleep_ms(50); /* the pool is halted by now */
    for (int i = 0; i < 3; i++) CHECK_STATUS(TPOOL_OK, tpool_submit(tpool_current(), say_task, "o", &future[i]));
    CHECK_STATUS(TPOOL_OK, tpool_future_result(future[0], TPOOL_FOREVER, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_future_result(future[1], LIMIT, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_wait(&future[2], 1, TPOOL_FIRST_COMPLETED, LIMIT, NULL));
    for (int i = 0; i < 3; i++) tpool_future_release(future[i]);
    say(arg);
    return NULL;
}
static void destroy_own_late(void) {
    sleep_ms(200);
    destroy_own();
}
static int a_destroy_that_comes_later_finishes_what_runs_and_spreads(void) {
    CHECK(atexit(destroy_own_late) == 0);
    create_own((tpool_config){ .max_workers = 1 });
    submit(own, spread, "O");
    AWAIT_ARRIVALS(&hold, 1);
    open_hold_at_exit();
    return 0;
}

/* Waits by other handlers, before the destroy. */
static tpool_future *waited_for[2];
static tpool_completions *also_waited_for;
static tpool_map_iter *mapped;
static void wait_in_late_handler(void) {
    tpool_future *future;
    CHECK_STATUS(TPOOL_BROKEN, tpool_future_result(waited_for[0], TPOOL_FOREVER, NULL));
    CHECK_STATUS(TPOOL_BROKEN, tpool_wait(waited_for, 2, TPOOL_ALL_COMPLETED, TPOOL_FOREVER, NULL));
    CHECK_STATUS(TPOOL_BROKEN, tpool_wait(waited_for, 2, TPOOL_FIRST_COMPLETED, TPOOL_FOREVER, NULL));
    CHECK_STATUS(TPOOL_BROKEN, tpool_completions_next(also_waited_for, TPOOL_FOREVER, &future));
    CHECK_STATUS(TPOOL_BROKEN, tpool_map_next(mapped, TPOOL_FOREVER, NULL));
    CHECK_STATUS(TPOOL_BROKEN, tpool_drain(own, TPOOL_FOREVER));
    CHECK(!tpool_future_done(waited_for[0]));
    gate_open(&hold);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(own));
    CHECK_STATUS(TPOOL_OK, tpool_future_result(waited_for[0], 0, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_completions_next(also_waited_for, 0, &future));
    CHECK_STATUS(TPOOL_OK, tpool_map_next(mapped, 0, NULL));
    tpool_map_close(mapped);
    tpool_completions_destroy(also_waited_for);
    for (int i = 0; i < 2; i++) tpool_future_release(waited_for[i]);
}
static int items[3];
static void queue_to_wait_for(void) {
    create_own((tpool_config){ .max_workers = 1 });
    submit(own, say_after_hold, "O");
    AWAIT_ARRIVALS(&hold, 1);
    for (int i = 0; i < 2; i++) CHECK_STATUS(TPOOL_OK, tpool_submit(own, say_task, "o", &waited_for[i]));
}
static int a_wait_for_what_has_not_started_gives_broken(void) {
    CHECK(atexit(wait_in_late_handler) == 0);
    queue_to_wait_for();
    CHECK_STATUS(TPOOL_OK, tpool_as_completed(waited_for, 2, &also_waited_for));
    CHECK_STATUS(TPOOL_OK,
                 tpool_map(own,
                           &(tpool_map_spec){ .fn = same_item, .items = items, .count = 3, .stride = sizeof *items },
                           &mapped));
    return 0;
}

/* Threads that wait already when exit comes, and that a handler joins before it destroys the pool. */
static background waits[5];
static tpool_status wait_for_one(void *context) {
    return tpool_future_result(*(tpool_future **)context, TPOOL_FOREVER, NULL);
}
static tpool_status wait_for_first(void *context) {
    return tpool_wait((tpool_future **)context, 2, TPOOL_FIRST_COMPLETED, TPOOL_FOREVER, NULL);
}
static tpool_status wait_for_next(void *context) {
    tpool_future *future;
    return tpool_completions_next((tpool_completions *)context, TPOOL_FOREVER, &future);
}
static tpool_status wait_for_drain(void *context) { return tpool_drain((tpool *)context, TPOOL_FOREVER); }
static tpool_status wait_for_end(void *context) { return tpool_shutdown((tpool *)context, TPOOL_WAIT); }
static void join_and_destroy(void) {
    for (int i = 0; i < 5; i++) CHECK_STATUS(TPOOL_BROKEN, background_join(&waits[i]));
    gate_open(&hold);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(own));
    tpool_completions_destroy(also_waited_for);
    for (int i = 0; i < 2; i++) tpool_future_release(waited_for[i]);
}
static int waits_under_way_give_broken(void) {
    CHECK(atexit(join_and_destroy) == 0);
    queue_to_wait_for();
    CHECK_STATUS(TPOOL_OK, tpool_as_completed(waited_for, 2, &also_waited_for));
    background_start(&waits[0], wait_for_one, &waited_for[1]);
    background_start(&waits[1], wait_for_first, waited_for);
    background_start(&waits[2], wait_for_next, also_waited_for);
    background_start(&waits[3], wait_for_drain, own);
    background_start(&waits[4], wait_for_end, own);
    for (int i = 0; i < 3; i++) background_await_block(&waits[i]);
    return 0;
}

static tpool_manager *own_manager;
static void destroy_own_manager(void) {
    gate_open(&hold);
    tpool_manager_destroy(own_manager);
}
static tpool *managed(tpool_manager *manager, int workers);
static int a_manager_that_is_destroyed_later_finishes_the_work(void) {
    CHECK(atexit(destroy_own_manager) == 0);
    CHECK_STATUS(TPOOL_OK, tpool_manager_create(&own_manager, NULL));
    tpool *pool = managed(own_manager, 1);
    queue_until_exit(pool, "M", "m");
    CHECK_STATUS(TPOOL_OK, tpool_manager_release(own_manager, pool));
    return 0;
}

/* --- managed pools */

static tpool *managed(tpool_manager *manager, int workers) {
    tpool *pool = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_manager_get(manager, workers, TPOOL_THREADS, 0, &pool));
    return pool;
}

static int work_of_the_global_manager_completes(void) {
    tpool *kept = managed(NULL, 1), *released = managed(NULL, 2);
    queue_until_exit(kept, "M", "m");
    submit(released, say_after_hold, "N");
    CHECK_STATUS(TPOOL_OK, tpool_manager_release(NULL, released));
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
    leaves_things_behind = true;
    block_for_ever(managed(manager, 1));
    return 0;
}

/* --- exit in a task or callback: nothing is waited for */

static void say_e_at_exit(void) { say("e"); }

static void *exit_with_7(void *arg) {
    (void)arg;
    leaves_things_behind = true;
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
    leaves_things_behind = true;
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
        leaves_things_behind = true;
        exit(0);
    }
    int ended;
    CHECK(child > 0 && waitpid(child, &ended, 0) == child);
    CHECK(WIFEXITED(ended) && WEXITSTATUS(ended) == 0);
    open_hold_at_exit();
    return 0;
}
#endif

/* --- one test for each story */

/* Of the process' first use, what the library asks for the end of its threads is its own, not the program's first key. */
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

#define STORY(function, code, said) \
    { #function, function, code, said }
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
    int64_t began = tpool_now();
    while (tpool_completions_next(completions, TPOOL_FOREVER, &future) == TPOOL_OK) ended++;
    if (ended == MANY && tpool_now() - began < TPOOL_SEC(5)) say("n");
    tpool_completions_destroy(completions);
    return arg;
}
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
    leaves_things_behind = true;
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
    leaves_things_behind = true;
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
    leaves_things_behind = true;
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
    leaves_things_behind = true;
    create_own((tpool_config){ .max_workers = 1 });
    block_for_ever(own);
    submit(tpool_high_level(), read_map_to_its_end, NULL);
    AWAIT_ARRIVALS(&own_runs, 1);
    gate_open(&own_runs);
    return 0;
}

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
    STORY(the_programs_own_pool_loses_its_waiting_work, 0, ""),
    STORY(a_detached_pool_loses_its_waiting_work, 0, ""),
    STORY(the_programs_own_paused_pool_loses_its_waiting_work, 0, ""),
    STORY(the_programs_own_pool_beside_the_shared_ones, 0, "Llll"),
    STORY(waiters_learn_of_what_the_programs_own_pool_loses, 0, "LL"),
    STORY(a_destroy_that_comes_later_finishes_the_work, 0, "Odooo"),
    STORY(a_destroy_that_comes_earlier_finishes_the_work, 0, "Odooo"),
    STORY(a_destroy_that_comes_later_finishes_what_is_paused_and_full, 0, "doooo"),
    STORY(a_destroy_that_comes_later_finishes_what_runs_and_spreads, 0, "Odooo"),
    STORY(a_wait_for_what_has_not_started_gives_broken, 0, "Ooo"),
    STORY(waits_under_way_give_broken, 0, "Ooo"),
    STORY(a_manager_that_is_destroyed_later_finishes_the_work, 0, "Mmmm"),
    STORY(work_of_the_global_manager_completes, 0, "MNmmm"),
    STORY(the_global_manager_ends_between_the_high_and_the_low_level_pool, 0, "hlm"),
    STORY(handlers_before_and_after_may_ask_the_global_manager, 0, "ab"),
    STORY(a_global_manager_first_asked_for_after_the_end_is_over, 0, "b"),
    STORY(a_manager_of_the_programs_own_loses_its_waiting_work, 0, ""),
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
