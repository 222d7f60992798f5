/* The end of the program and the pools of its own: their waiting work is lost, and who waits for it learns of that. */
#include "exits.h"

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
static void queue_to_wait_for(void) {
    create_own((tpool_config){ .max_workers = 1 });
    submit(own, say_after_hold, "O");
    AWAIT_ARRIVALS(&hold, 1);
    for (int i = 0; i < 2; i++) CHECK_STATUS(TPOOL_OK, tpool_submit(own, say_task, "o", &waited_for[i]));
}
static int items[3];
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
static int a_manager_that_is_destroyed_later_finishes_the_work(void) {
    CHECK(atexit(destroy_own_manager) == 0);
    CHECK_STATUS(TPOOL_OK, tpool_manager_create(&own_manager, NULL));
    tpool *pool = managed(own_manager, 1);
    queue_until_exit(pool, "M", "m");
    CHECK_STATUS(TPOOL_OK, tpool_manager_release(own_manager, pool));
    return 0;
}

#define STORY(function, code, said) \
    { #function, function, code, said }

static const story stories[] = {
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
};

int main(int argc, char **argv) { return play_stories(argc, argv, stories, sizeof stories / sizeof *stories); }
