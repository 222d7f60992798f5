/* An iterator in somebody else's event loop: what each loop must come to. The file that includes this has defined
   loop_new, loop_poll, loop_wake and so on with its library's own means. */
#ifndef TPOOL_TESTS_LOOPS_H
#define TPOOL_TESTS_LOOPS_H
#include "support.h"

typedef struct event_loop event_loop;
static event_loop *loop_new(void (*ready)(void *of), void *of);
static void loop_poll(event_loop *loop,
                      intptr_t descriptor); /* level-triggered: `ready` runs as long as it is readable */
static void loop_wake(void *program);       /* from any thread: `ready` runs once more, soon */
static void loop_run(event_loop *loop);     /* until the stop, which `ready` calls */
static void loop_stop(event_loop *loop);
static void loop_free(event_loop *loop);

/* A program that lives in its loop: it starts tasks, and takes what has completed when the loop says so. */
enum { TASKS = 3000, AT_ONCE = 40 };
typedef struct program {
    event_loop *loop;
    tpool *pool;
    tpool_completions *completions;
    bool descriptor;
    int started, taken, cancelled, expired;
    int readies, empties; /* calls of `ready`; nexts that found nothing */
    atomic_int wakes;
    unsigned char seen[TASKS];
    gate held;
} program;
static void start_some(program *p) {
    while (p->started < TASKS && p->started - p->taken < AT_ONCE) {
        int i = p->started++;
        tpool_task task = { .fn = nothing, .tag = &p->seen[i], .completions = p->completions };
        if (i % 50 == 7) task.expires_ns = 1;
        tpool_future *future = NULL;
        REQUIRE_STATUS(TPOOL_OK, tpool_submit_task(p->pool, &task, &future));
        if (i % 50 == 13) (void)tpool_future_cancel(future); /* in the loop's own thread */
        tpool_future_release(future);
    }
}
static void take_what_is_there(void *of) {
    program *p = of;
    tpool_future *future = NULL;
    tpool_status status;
    p->readies++;
    while ((status = tpool_completions_next(p->completions, 0, &future)) == TPOOL_OK) {
        unsigned char *seen = tpool_future_tag(future);
        REQUIRE(++*seen == 1);
        p->taken++;
        tpool_status end = tpool_future_result(future, 0, NULL);
        p->cancelled += end == TPOOL_CANCELLED;
        p->expired += end == TPOOL_EXPIRED;
        REQUIRE(end == TPOOL_OK || end == TPOOL_CANCELLED || end == TPOOL_EXPIRED);
        start_some(p);
    }
    p->empties++;
    REQUIRE(status == TPOOL_TIMEOUT || status == TPOOL_END);
    if (status == TPOOL_END) loop_stop(p->loop);
}
static void wake_program(void *of) {
    program *p = of;
    atomic_fetch_add(&p->wakes, 1);
    loop_wake(p);
}
static void live(program *p, bool descriptor) {
    *p = (program){ .descriptor = descriptor };
    p->pool = new_pool(2);
    p->loop = loop_new(take_what_is_there, p);
    REQUIRE_STATUS(TPOOL_OK, tpool_as_completed(NULL, 0, &p->completions));
    start_some(p);
    if (descriptor) {
        intptr_t number = -1;
        REQUIRE_STATUS(TPOOL_OK, tpool_completions_descriptor(p->completions, &number));
        loop_poll(p->loop, number);
    } else {
        REQUIRE_STATUS(TPOOL_OK, tpool_completions_on_ready(p->completions, wake_program, p));
    }
    loop_run(p->loop);
    REQUIRE(p->taken == TASKS);
    for (int i = 0; i < TASKS; i++) REQUIRE(p->seen[i] == 1);
}
static void end_life(program *p) {
    loop_free(p->loop); /* no poll of a descriptor outlives its file */
    tpool_completions_destroy(p->completions);
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(p->pool));
}

static void all_comes_once_to_a_loop_that_polls(void **unused) {
    (void)unused;
    static program p;
    live(&p, true);
    end_life(&p);
}
static void all_comes_once_to_a_loop_that_is_woken(void **unused) {
    (void)unused;
    static program p;
    live(&p, false);
    assert_true(atomic_load(&p.wakes) <= p.empties + 1); /* one for each next that found nothing, and the first */
    end_life(&p);
}
/* TPOOL_END means for now: what is added later comes to the loop like the first. */
static void what_is_added_after_the_end_comes_too(void **unused) {
    (void)unused;
    static program p;
    for (int descriptor = 0; descriptor < 2; descriptor++) {
        live(&p, descriptor);
        for (int again = 0; again < 3; again++) {
            p.started = p.taken = TASKS - 10;
            memset(p.seen, 0, sizeof p.seen);
            start_some(&p);
            loop_run(p.loop);
            assert_int_equal(TASKS, p.taken);
        }
        end_life(&p);
    }
}
/* A task that expires while every worker is busy comes within 10 ms or so, and nothing but the loop looks. */
static void what_expires_comes_while_all_workers_are_busy(void **unused) {
    (void)unused;
    static program p;
    for (int descriptor = 0; descriptor < 2; descriptor++) {
        live(&p, descriptor);
        gate busy = GATE_CLOSED;
        tpool_future *held[2] = { held_at(p.pool, &busy), held_at(p.pool, &busy) };
        tpool_task task = { .fn = nothing, .tag = &p.seen[0], .completions = p.completions, .expires_ns = TPOOL_MS(5) };
        p.seen[0] = 0;
        int expired = p.expired;
        assert_status(TPOOL_OK, tpool_submit_task(p.pool, &task, NULL));
        loop_run(p.loop);
        assert_int_equal(expired + 1, p.expired);
        gate_open(&busy);
        for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, end_of(held[i]));
        end_life(&p);
    }
}
static int run_loop_tests(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_comes_once_to_a_loop_that_polls),
        cmocka_unit_test(all_comes_once_to_a_loop_that_is_woken),
        cmocka_unit_test(what_is_added_after_the_end_comes_too),
        cmocka_unit_test(what_expires_comes_while_all_workers_are_busy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
