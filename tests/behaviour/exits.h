/* What the stories of the end of the program share. */
#ifndef TPOOL_TESTS_EXITS_H
#define TPOOL_TESTS_EXITS_H
#include "story.h"

static inline void say(const char *letter) {
    if (write(STDOUT_FILENO, letter, 1) != 1) _exit(101);
}
/* A task that says the letter that is its argument. */
static inline void *say_task(void *arg) {
    say(arg);
    return NULL;
}

/* Where exit cuts a task or callback short, or a forked child leaves without its parent's threads, what they had in
   hand stays behind: no leak that LeakSanitizer should report. It asks at exit; elsewhere nobody does. */
static bool leaves_things_behind;
static inline void leave_things_behind(void) { leaves_things_behind = true; }
#if SLOW_TOOL
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void) { return leaves_things_behind; }
#endif

static gate hold = GATE_CLOSED;  /* opened at exit, by open_hold */
static gate never = GATE_CLOSED; /* never opened */
static tpool *own;               /* never destroyed */

static inline void open_hold(void) { gate_open(&hold); }

/* Registered after the pools' first use, so before they are drained. */
static inline void open_hold_at_exit(void) { CHECK(atexit(open_hold) == 0); }

static inline void configure(int high_workers, int low_workers) {
    CHECK_STATUS(TPOOL_OK, tpool_dual_configure(&(tpool_config){ .max_workers = high_workers },
                                                &(tpool_config){ .max_workers = low_workers }));
}

static inline void create_own(tpool_config config) { CHECK_STATUS(TPOOL_OK, tpool_create(&own, &config)); }

static inline void submit(tpool *pool, tpool_fn fn, void *arg) {
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, fn, arg, NULL));
}

static inline void *say_after_hold(void *arg) {
    gate_pass(&hold);
    say(arg);
    return NULL;
}

/* Holds the only worker of a pool until exit has begun, and queues three tasks behind that. */
static inline void queue_until_exit(tpool *pool, char *first, char *later) {
    submit(pool, say_after_hold, first);
    AWAIT_ARRIVALS(&hold, 1);
    for (int i = 0; i < 3; i++) submit(pool, say_task, later);
}

/* Somewhere a task that never ends, and work that waits behind it: whoever waited for that would hang. */
static inline void block_for_ever(tpool *pool) {
    int blocked_before = gate_arrived(&never);
    submit(pool, gate_task, &never);
    AWAIT_ARRIVALS(&never, blocked_before + 1);
    submit(pool, say_task, "x");
}

static inline _Noreturn void sleep_for_ever(void) {
    for (;;) sleep_ms(1000);
}

static inline tpool *managed(tpool_manager *manager, int workers) {
    tpool *pool = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_manager_get(manager, workers, TPOOL_THREADS, 0, &pool));
    return pool;
}

#endif
