/* Every interleaving of an iterator that an event loop polls: completions, adds and expiries against an empty look, a
   wait in next, and the destroy. The loop sleeps until on_ready wakes it: a lost call is a thread that sleeps for
   ever. */
#include "schedule.h"

static counter first, second;
static tpool_completions *completions;
static tpool__u32 calls; /* of on_ready */
static void wake_the_loop(void *context) {
    (void)context;
    tpool__add_release(&calls, 1);
    tpool__word_wake(&calls);
}
/* What a loop does: takes all that has come, then sleeps until it is woken. */
static int take_until_the_end(void) {
    tpool_future *future;
    tpool_status status;
    for (int taken = 0;;) {
        uint32_t before = tpool__load_acquire(&calls);
        while ((status = tpool_completions_next(completions, 0, &future)) == TPOOL_OK) taken++;
        if (status == TPOOL_END) return taken;
        CHECK_STATUS(TPOOL_TIMEOUT, status);
        while (tpool__load_acquire(&calls) == before) tpool__word_wait(&calls, before, TPOOL_FOREVER);
    }
}
static void begin(tpool_future *const *futures, size_t count) {
    CHECK_STATUS(TPOOL_OK, tpool_as_completed(futures, count, &completions));
    CHECK_STATUS(TPOOL_OK, tpool_completions_on_ready(completions, wake_the_loop, NULL));
}
static void end(void) {
    tpool_completions_destroy(completions);
    tpool__times_end(false);
}

/* Two tasks end on their worker while the loop looks, finds nothing, and goes to sleep. */
static void completions_against_an_empty_look(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *futures[2] = { submitted(pool, count_task, &first), submitted(pool, count_task, &second) };
    begin(futures, 2);
    CHECK(take_until_the_end() == 2);
    end();
    for (int i = 0; i < 2; i++) tpool_future_release(futures[i]);
    end_pool(pool);
}

/* next waits, with a limit, as the first ends; whatever came of that, the loop gets the rest. */
static void a_wait_in_next_against_completions(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *future = submitted(pool, count_task, &first), *yielded = NULL;
    begin(&future, 1);
    tpool_status status = tpool_completions_next(completions, TPOOL_MS(1), &yielded);
    CHECK(status == TPOOL_OK || status == TPOOL_TIMEOUT);
    outcome(status == TPOOL_OK);
    CHECK(take_until_the_end() == (status == TPOOL_TIMEOUT));
    end();
    tpool_future_release(future);
    end_pool(pool);
}

/* Nor is it called for what a wait in next gets, once it has had its call: none is owed before next gives nothing. */
static void a_wait_in_next_calls_nobody(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *done = submitted(pool, count_task, &first), *future = NULL, *yielded = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_future_result(done, TPOOL_FOREVER, NULL));
    uint32_t before = tpool__load_acquire(&calls);
    begin(&done, 1); /* calls at once */
    CHECK_STATUS(TPOOL_OK, tpool_completions_next(completions, 0, &yielded));
    future = submitted(pool, count_task, &second);
    CHECK_STATUS(TPOOL_OK, tpool_completions_add(completions, future));
    tpool_status status = tpool_completions_next(completions, TPOOL_MS(1), &yielded);
    CHECK(status == TPOOL_OK || status == TPOOL_TIMEOUT);
    outcome(status == TPOOL_OK);
    if (status == TPOOL_TIMEOUT) CHECK(take_until_the_end() == 1);
    end();
    tpool_future_release(done);
    tpool_future_release(future);
    end_pool(pool);
    CHECK(tpool__load_acquire(&calls) - before <= 1u + (status == TPOOL_TIMEOUT)); /* the destroy may come first */
}

/* One that expires before all others is added as next goes to sleep: the notifier is fired without an item. */
static void *add(void *future) {
    CHECK_STATUS(TPOOL_OK, tpool_completions_add(completions, future));
    return NULL;
}
static void an_add_that_expires_against_a_wait_in_next(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    CHECK_STATUS(TPOOL_OK, tpool_pause(pool));
    tpool_task task = { .fn = count_task, .arg = &first, .expires_ns = TPOOL_MS(1) };
    tpool_future *pending = NULL, *future = NULL, *yielded = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&pending));
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, &future));
    begin(&pending, 1);
    pthread_t helper = started(add, future);
    CHECK_STATUS(TPOOL_OK, tpool_completions_next(completions, TPOOL_FOREVER, &yielded));
    CHECK(yielded == future);
    join(helper);
    end();
    tpool_future_release(pending);
    tpool_future_release(future);
    CHECK(end_pool(pool).expired == 1 && first.runs == 0);
}

/* The iterator is destroyed as its last future completes: no call begins, or still runs, afterwards. */
static void destroy_against_the_last_completion(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *future = submitted(pool, count_task, &first);
    begin(&future, 1);
    tpool_future_release(future);
    tpool_completions_destroy(completions);
    uint32_t before = tpool__load_acquire(&calls);
    end_pool(pool);
    CHECK(tpool__load_acquire(&calls) == before);
    outcome(before == 1);
    tpool__times_end(false);
}

/* The call for the first expiry returns only after the call for the second, which is armed meanwhile. The pool's only
   worker cannot notice either. */
static tpool__u32 second_called, may_end;
static void await_word(tpool__u32 *word) {
    while (tpool__load_acquire(word) == 0) tpool__word_wait(word, 0, TPOOL_FOREVER);
}
static void set_word(tpool__u32 *word) {
    tpool__store_release(word, 1);
    tpool__word_wake(word);
}
static void *hold_the_worker(void *unused) {
    (void)unused;
    await_word(&may_end);
    return NULL;
}
static void wait_for_the_second(void *unused) {
    (void)unused;
    await_word(&second_called);
    wake_the_loop(NULL);
}
static void second_wake(void *unused) {
    (void)unused;
    set_word(&second_called);
}
static void a_slow_wake_against_the_next_time(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_completions *iterators[2];
    tpool_future *future;
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, hold_the_worker, NULL, NULL));
    for (int i = 0; i < 2; i++) {
        tpool_task task = { .fn = count_task, .arg = &first, .expires_ns = TPOOL_MS(1) };
        CHECK_STATUS(TPOOL_OK, tpool_as_completed(NULL, 0, &iterators[i]));
        task.completions = iterators[i];
        CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
        CHECK_STATUS(TPOOL_OK, tpool_completions_on_ready(iterators[i], i ? second_wake : wait_for_the_second, NULL));
    }
    await_word(&calls);
    for (int i = 0; i < 2; i++) {
        CHECK_STATUS(TPOOL_OK, tpool_completions_next(iterators[i], 0, &future));
        CHECK_STATUS(TPOOL_EXPIRED, tpool_future_result(future, 0, NULL));
        tpool_completions_destroy(iterators[i]);
    }
    set_word(&may_end);
    tpool__times_end(false);
    end_pool(pool);
}

SCHEDULES(SCENARIO(completions_against_an_empty_look, .quick = 1, .preemptions = 2),
          SCENARIO(a_wait_in_next_against_completions, .quick = 2, .preemptions = 3, .outcomes = 2),
          SCENARIO(a_wait_in_next_calls_nobody, .quick = 2, .preemptions = 3, .outcomes = 2),
          SCENARIO(an_add_that_expires_against_a_wait_in_next, .quick = 1, .preemptions = 2),
          SCENARIO(destroy_against_the_last_completion, .quick = 2, .preemptions = 3, .outcomes = 2),
          SCENARIO(a_slow_wake_against_the_next_time, .quick = 1, .preemptions = 2))
