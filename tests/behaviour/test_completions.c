/* tpool_as_completed: each future once, in the order of completion, in a set that may grow and be left half-way. */
#include "support.h"
#include "support/completions.h"
#if HAVE_FORK
#include "support/children.h"
#endif

/* ---- Order, index, remaining. */

static void futures_come_in_the_order_of_completion(void **state) {
    (void)state;
    enum { count = 6 };
    static const int order[count] = { 4, 0, 5, 2, 1, 3 };
    tpool_future *f[count];
    create_bare(f, count);
    tpool_completions *completions = start(f, count);
    assert_int_equal(count, tpool_completions_remaining(completions));
    for (int i = 0; i < 3; i++) { /* one by one */
        check_none(completions, 0, TPOOL_TIMEOUT);
        succeed(f[order[i]]);
        assert_ptr_equal(f[order[i]], next(completions));
        assert_int_equal(order[i], tpool_completions_index(completions));
        assert_int_equal(count - 1 - i, tpool_completions_remaining(completions));
    }
    for (int i = 3; i < count; i++) succeed(f[order[i]]); /* all before the next is asked for */
    assert_int_equal(3, tpool_completions_remaining(completions));
    for (int i = 3; i < count; i++) {
        assert_ptr_equal(f[order[i]], next(completions));
        assert_int_equal(order[i], tpool_completions_index(completions));
    }
    assert_int_equal(0, tpool_completions_remaining(completions));
    check_none(completions, TPOOL_FOREVER, TPOOL_END);
    tpool_completions_destroy(completions);
    release_all(f, count);
}

static void tasks_come_in_the_order_in_which_they_end(void **state) {
    (void)state;
    enum { count = 3 };
    static const int order[count] = { 2, 0, 1 };
    gate gates[count] = { GATE_CLOSED, GATE_CLOSED, GATE_CLOSED };
    tpool *pool = new_pool(count);
    tpool_future *f[count];
    for (int i = 0; i < count; i++) f[i] = submitted(pool, gate_task, &gates[i]);
    tpool_completions *completions = start(f, count);
    for (int i = 0; i < count; i++) {
        check_none(completions, 0, TPOOL_TIMEOUT);
        gate_open(&gates[order[i]]);
        assert_ptr_equal(f[order[i]], next(completions));
        assert_int_equal(order[i], tpool_completions_index(completions));
    }
    check_none(completions, 0, TPOOL_END);
    tpool_completions_destroy(completions);
    release_all(f, count);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void those_already_done_come_first(void **state) {
    (void)state;
    enum { count = 6 };
    tpool_future *f[count];
    create_bare(f, count);
    succeed(f[5]);
    succeed(f[1]);
    assert_true(tpool_future_cancel(f[3]));
    tpool_completions *completions = start(f, count);
    succeed(f[2]);
    succeed(f[0]);
    bool seen[count] = { false };
    for (int i = 0; i < 3; i++) {
        tpool_future *future = next(completions);
        size_t place = tpool_completions_index(completions);
        assert_true(place == 5 || place == 1 || place == 3);
        assert_false(seen[place]);
        seen[place] = true;
        assert_ptr_equal(f[place], future);
    }
    assert_ptr_equal(f[2], next(completions));
    assert_ptr_equal(f[0], next(completions));
    check_none(completions, 0, TPOOL_TIMEOUT);
    succeed(f[4]);
    assert_ptr_equal(f[4], next(completions));
    check_none(completions, 0, TPOOL_END);
    tpool_completions_destroy(completions);
    release_all(f, count);
}

/* While an iterator is made a task is found expired, and its callback completes what stands before it. */
static void complete_other(tpool_future *future, void *other) {
    (void)future;
    succeed(other);
}
/* A task that has expired, and nobody has noticed. */
static tpool_future *submitted_expired(tpool *pool, tpool_future **completes) {
    for (int64_t expires = TPOOL_MS(10);; expires *= 2) {
        assert_status(TPOOL_OK, tpool_future_create(completes));
        tpool_future *expired = submitted_task(pool, (tpool_task){ .fn = nothing, .expires_ns = expires });
        assert_status(TPOOL_OK, tpool_future_add_done_callback(expired, complete_other, *completes));
        int64_t submitted = tpool_now();
        if (!tpool_future_done(*completes)) { /* else it expired as the callback was added */
            while (tpool_now() < submitted + expires) sleep_ms(1);
            return expired;
        }
        tpool_future_release(expired);
        tpool_future_release(*completes);
    }
}
static void what_ends_as_it_is_made_comes_after_what_was_done(void **state) {
    (void)state;
    held_pool h;
    tpool_future *late = NULL, *before = NULL;
    held_create(&h, NULL);
    assert_status(TPOOL_OK, tpool_future_create(&before));
    succeed(before);
    tpool_future *expired = submitted_expired(h.pool, &late);
    tpool_completions *completions = start((tpool_future *[]){ late, expired, before }, 3);
    assert_ptr_equal(expired, next(completions));
    assert_ptr_equal(before, next(completions));
    assert_int_equal(2, tpool_completions_index(completions));
    assert_ptr_equal(late, next(completions));
    assert_int_equal(0, tpool_completions_index(completions));
    check_none(completions, 0, TPOOL_END);
    tpool_completions_destroy(completions);
    tpool_future_release(expired);
    tpool_future_release(late);

    expired = submitted_expired(h.pool, &late);
    completions = start((tpool_future *[]){ late, expired, late, before }, 4);
    assert_ptr_equal(expired, next(completions));
    assert_ptr_equal(late, next(completions));
    assert_int_equal(0, tpool_completions_index(completions)); /* its first place, though found done at the second */
    assert_ptr_equal(before, next(completions));
    assert_int_equal(3, tpool_completions_index(completions));
    assert_status(TPOOL_OK, tpool_completions_add(completions, before));
    (void)next(completions);
    assert_int_equal(4, tpool_completions_index(completions));
    tpool_completions_destroy(completions);
    tpool_future_release(expired);
    tpool_future_release(late);
    tpool_future_release(before);
    held_destroy(&h);
}
static void a_future_is_yielded_once_however_often_it_is_in_the_set(void **state) {
    (void)state;
    tpool_future *f[3];
    create_bare(f, 3);
    tpool_future *set[7] = { f[0], f[1], f[0], f[1], f[0], f[2], f[2] };
    tpool_completions *completions = start(set, 7);
    assert_int_equal(3, tpool_completions_remaining(completions));
    assert_status(TPOOL_OK, tpool_completions_add(completions, f[2])); /* it is in the set already */
    assert_int_equal(3, tpool_completions_remaining(completions));
    succeed(f[2]);
    assert_ptr_equal(f[2], next(completions));
    assert_int_equal(5, tpool_completions_index(completions)); /* its first place */
    succeed(f[0]);
    assert_ptr_equal(f[0], next(completions));
    assert_int_equal(0, tpool_completions_index(completions));
    assert_int_equal(1, tpool_completions_remaining(completions));
    check_none(completions, 0, TPOOL_TIMEOUT);
    succeed(f[1]);
    assert_ptr_equal(f[1], next(completions));
    assert_int_equal(1, tpool_completions_index(completions));
    check_none(completions, 0, TPOOL_END);
    tpool_completions_destroy(completions);
    /* The same with all of them done before. */
    completions = start(set, 7);
    bool seen[7] = { false };
    for (int i = 0; i < 3; i++) {
        tpool_future *future = next(completions);
        size_t place = tpool_completions_index(completions);
        assert_true(place == 0 || place == 1 || place == 5);
        assert_false(seen[place]);
        seen[place] = true;
        assert_ptr_equal(set[place], future);
    }
    check_none(completions, 0, TPOOL_END);
    tpool_completions_destroy(completions);
    release_all(f, 3);
}

static void every_end_is_yielded(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *f[4];
    assert_status(TPOOL_OK, tpool_pause(pool)); /* so that the task stays queued */
    f[0] = submitted(pool, nothing, NULL);
    create_bare(&f[1], 3);
    tpool_completions *completions = start(f, 4);
    assert_true(tpool_future_cancel(f[0]));
    assert_ptr_equal(f[0], next(completions));
    assert_status(TPOOL_CANCELLED, tpool_future_result(f[0], 0, NULL));
    assert_true(tpool_future_cancel(f[1]));
    assert_ptr_equal(f[1], next(completions));
    assert_status(TPOOL_OK, tpool_future_set_error(f[2], 3, "failed"));
    assert_ptr_equal(f[2], next(completions));
    assert_status(TPOOL_FAILED, tpool_future_result(f[2], 0, NULL));
    assert_status(TPOOL_OK, tpool_future_set_result(f[3], pool));
    void *value = NULL;
    assert_status(TPOOL_OK, tpool_future_result(next(completions), 0, &value));
    assert_ptr_equal(pool, value);
    check_none(completions, 0, TPOOL_END);
    tpool_completions_destroy(completions);
    release_all(f, 4);
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_task_that_expires_while_next_waits_is_yielded(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_task short_lived = { .fn = nothing, .expires_ns = TPOOL_MS(20) };
    tpool_future *f[2];
    static gate hold = GATE_CLOSED;
    gate_close(&hold); /* nobody's turn comes, and no worker is idle: only the iterator can notice */
    assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
    AWAIT_ARRIVALS(&hold, 1);
    f[0] = submitted(pool, nothing, NULL);
    tpool_completions *completions = start(f, 1);
    for (int i = 0; i < 2; i++) { /* in the set from the start, and added */
        f[1] = submitted_task(pool, short_lived);
        if (i == 0) {
            tpool_completions_destroy(completions);
            completions = start(f, 2);
        } else {
            assert_status(TPOOL_OK, tpool_completions_add(completions, f[1]));
        }
        assert_ptr_equal(f[1], next(completions));
        assert_status(TPOOL_EXPIRED, tpool_future_result(f[1], 0, NULL));
        tpool_future_release(f[1]);
    }
    check_none(completions, 0, TPOOL_TIMEOUT);
    tpool_completions_destroy(completions);
    gate_open(&hold);
    take(f[0]);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* The callback runs in next, which ends what has expired. */
static tpool_completions *consumed;
static int yielded_within;
static void consume_one(tpool_future *future, void *context) {
    (void)future;
    (void)context;
    tpool_future *other;
    if (tpool_completions_next(consumed, 0, &other) == TPOOL_OK) yielded_within++;
}
static void a_callback_that_consumes_too_leaves_the_rest(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_task short_lived = { .fn = nothing, .expires_ns = TPOOL_MS(300) }; /* not before its callback is added */
    tpool_future *f[2], *future;
    yielded_within = 0;
    static gate hold = GATE_CLOSED;
    gate_close(&hold); /* nobody's turn comes, and no worker is idle: only the iterator can notice */
    assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
    AWAIT_ARRIVALS(&hold, 1);
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_submit_task(pool, &short_lived, &f[i]));
    consumed = start(f, 2);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(f[1], consume_one, NULL));
    release_all(f, 2);
    int yielded = 0;
    while (tpool_completions_next(consumed, LIMIT, &future) == TPOOL_OK) yielded++;
    assert_int_equal(1, yielded_within);
    assert_int_equal(1, yielded);
    check_none(consumed, 0, TPOOL_END);
    tpool_completions_destroy(consumed);
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Time limits and the end. */

static void a_timeout_consumes_nothing(void **state) {
    (void)state;
    tpool_future *f[2];
    create_bare(f, 2);
    tpool_completions *completions = start(f, 2);
    check_none(completions, 0, TPOOL_TIMEOUT);
    check_none(completions, -1, TPOOL_TIMEOUT);
    int64_t begin = tpool_now();
    check_none(completions, TPOOL_MS(20), TPOOL_TIMEOUT);
    assert_true(tpool_now() - begin >= TPOOL_MS(20));
    assert_int_equal(2, tpool_completions_remaining(completions));
    succeed(f[1]);
    assert_ptr_equal(f[1], next(completions));
    check_none(completions, TPOOL_MS(1), TPOOL_TIMEOUT);
    assert_int_equal(1, tpool_completions_remaining(completions));
    succeed(f[0]);
    assert_ptr_equal(f[0], next(completions));
    tpool_completions_destroy(completions);
    release_all(f, 2);
}

static void the_end_comes_again_and_again_until_something_is_added(void **state) {
    (void)state;
    tpool_future *f[2];
    create_bare(f, 2);
    tpool_completions *completions = start(f, 1);
    succeed(f[0]);
    assert_ptr_equal(f[0], next(completions));
    for (int i = 0; i < 3; i++) {
        check_none(completions, 0, TPOOL_END);
        check_none(completions, TPOOL_FOREVER, TPOOL_END);
    }
    assert_status(TPOOL_OK, tpool_completions_add(completions, f[1]));
    assert_int_equal(1, tpool_completions_remaining(completions));
    check_none(completions, 0, TPOOL_TIMEOUT);
    succeed(f[1]);
    assert_ptr_equal(f[1], next(completions));
    assert_int_equal(1, tpool_completions_index(completions));
    for (int i = 0; i < 3; i++) check_none(completions, TPOOL_FOREVER, TPOOL_END);
    tpool_completions_destroy(completions);
    release_all(f, 2);
}

static void a_set_may_start_empty(void **state) {
    (void)state;
    tpool_future *f[2];
    create_bare(f, 2);
    for (int with_array = 0; with_array <= 1; with_array++) {
        tpool_completions *completions = start(with_array == 1 ? f : NULL, 0);
        assert_int_equal(0, tpool_completions_remaining(completions));
        check_none(completions, TPOOL_FOREVER, TPOOL_END);
        for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_completions_add(completions, f[i]));
        assert_int_equal(2, tpool_completions_remaining(completions));
        if (with_array == 0) {
            succeed(f[1]);
            succeed(f[0]);
            assert_ptr_equal(f[1], next(completions));
            assert_int_equal(1, tpool_completions_index(completions));
            assert_ptr_equal(f[0], next(completions));
            assert_int_equal(0, tpool_completions_index(completions));
        } else { /* done before they were added */
            next(completions);
            next(completions);
        }
        check_none(completions, TPOOL_FOREVER, TPOOL_END);
        tpool_completions_destroy(completions);
    }
    release_all(f, 2);
}

/* ---- Sets that grow. */

static void added_ones_are_counted_on(void **state) {
    (void)state;
    enum { count = 4 };
    tpool_future *f[count];
    create_bare(f, count);
    tpool_completions *completions = start(f, 2);
    succeed(f[1]);
    assert_ptr_equal(f[1], next(completions));
    assert_status(TPOOL_OK, tpool_completions_add(completions, f[2])); /* while iterating */
    succeed(f[3]);
    assert_status(TPOOL_OK, tpool_completions_add(completions, f[3])); /* done already */
    assert_int_equal(3, tpool_completions_remaining(completions));
    assert_ptr_equal(f[3], next(completions));
    assert_int_equal(3, tpool_completions_index(completions));
    succeed(f[2]);
    assert_ptr_equal(f[2], next(completions));
    assert_int_equal(2, tpool_completions_index(completions));
    succeed(f[0]);
    assert_ptr_equal(f[0], next(completions));
    assert_int_equal(0, tpool_completions_index(completions));
    check_none(completions, 0, TPOOL_END);
    tpool_completions_destroy(completions);
    release_all(f, count);
}

static void one_added_again_after_it_was_yielded_is_yielded_again(void **state) {
    (void)state;
    tpool_future *f[2];
    create_bare(f, 2);
    succeed(f[0]);
    tpool_completions *completions = start(f, 2);
    for (int i = 0; i < 5; i++) {
        assert_ptr_equal(f[0], next(completions));
        assert_int_equal(1, tpool_completions_remaining(completions));
        check_none(completions, 0, TPOOL_TIMEOUT);
        assert_status(TPOOL_OK, tpool_completions_add(completions, f[0]));
        assert_status(TPOOL_OK, tpool_completions_add(completions, f[0])); /* and that once */
        assert_int_equal(2, tpool_completions_remaining(completions));
    }
    assert_ptr_equal(f[0], next(completions));
    succeed(f[1]);
    assert_ptr_equal(f[1], next(completions));
    check_none(completions, 0, TPOOL_END);
    tpool_completions_destroy(completions);
    release_all(f, 2);
}

typedef struct adder {
    tpool_completions *completions;
    tpool_future *future;
    atomic_int consumer; /* the thread that is to block in next first */
    bool complete_after; /* else the future is done before it is added */
    tpool_status added, completed;
} adder;

static void *add_while_next_blocks(void *arg) {
    adder *a = arg;
    await_thread_asleep(&a->consumer);
    if (!a->complete_after) a->completed = tpool_future_set_result(a->future, NULL);
    a->added = tpool_completions_add(a->completions, a->future);
    if (a->complete_after) a->completed = tpool_future_set_result(a->future, NULL);
    return NULL;
}

static void another_thread_may_add_while_next_blocks(void **state) {
    (void)state;
    for (int after = 0; after <= 1; after++) {
        tpool_future *f[2];
        pthread_t thread;
        create_bare(f, 2);
        tpool_completions *completions = start(f, 1);
        adder a = {
            .completions = completions, .future = f[1], .consumer = system_thread(), .complete_after = after == 1
        };
        assert_int_equal(0, pthread_create(&thread, NULL, add_while_next_blocks, &a));
        assert_ptr_equal(f[1], next(completions)); /* f[0] is not done: this one wakes the call */
        assert_int_equal(1, tpool_completions_index(completions));
        assert_int_equal(0, pthread_join(thread, NULL));
        assert_status(TPOOL_OK, a.added);
        assert_status(TPOOL_OK, a.completed);
        succeed(f[0]);
        assert_ptr_equal(f[0], next(completions));
        check_none(completions, 0, TPOOL_END);
        tpool_completions_destroy(completions);
        release_all(f, 2);
    }
}

/* What is added may be the first that can expire. */
typedef struct late_adder {
    tpool *pool;
    tpool_completions *completions;
    tpool_future *future, *pending;
    atomic_int consumer;
    atomic_int noticed;
    tpool_status submitted, added;
} late_adder;
static void *add_what_expires(void *arg) {
    late_adder *a = arg;
    tpool_task short_lived = { .fn = nothing, .expires_ns = TPOOL_MS(20) };
    await_thread_asleep(&a->consumer);
    a->submitted = tpool_submit_task(a->pool, &short_lived, &a->future);
    a->added = tpool_completions_add(a->completions, a->future);
    int64_t limit = tpool_now() + LIMIT / 4;
    while (!atomic_load(&a->noticed) && tpool_now() < limit) await_thread_asleep(&a->consumer);
    succeed(a->pending); /* so next returns, whatever it has noticed */
    return NULL;
}
static void what_expires_is_noticed_though_it_was_added_while_next_slept(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *pending, *future;
    pthread_t thread;
    create_bare(&pending, 1);
    static gate hold = GATE_CLOSED;
    gate_close(&hold); /* nobody's turn comes, and no worker is idle: only the iterator can notice */
    assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
    AWAIT_ARRIVALS(&hold, 1);
    tpool_completions *completions = start(&pending, 1);
    late_adder a = { .pool = pool, .completions = completions, .pending = pending, .consumer = system_thread() };
    assert_int_equal(0, pthread_create(&thread, NULL, add_what_expires, &a));
    assert_status(TPOOL_OK, tpool_completions_next(completions, TPOOL_FOREVER, &future));
    atomic_store(&a.noticed, 1);
    assert_int_equal(0, pthread_join(thread, NULL));
    assert_status(TPOOL_OK, a.submitted);
    assert_status(TPOOL_OK, a.added);
    assert_ptr_equal(a.future, future);
    assert_status(TPOOL_EXPIRED, tpool_future_result(future, 0, NULL));
    tpool_completions_destroy(completions);
    tpool_future_release(a.future);
    tpool_future_release(pending);
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* Several threads submit, add and release, while this one consumes. */
enum { FEEDERS = 4 };

typedef struct feeder {
    tpool *pool;
    tpool_completions *completions;
    gate *start;
    atomic_int *counts; /* how often each task ran */
    int first, count, troubles;
} feeder;

static void *feed(void *arg) {
    feeder *fd = arg;
    gate_pass(fd->start);
    for (int i = 0; i < fd->count; i++) {
        tpool_future *future = NULL;
        if (tpool_submit(fd->pool, count_up, &fd->counts[fd->first + i], &future) != TPOOL_OK) fd->troubles++;
        else if (tpool_completions_add(fd->completions, future) != TPOOL_OK) fd->troubles++;
        tpool_future_release(future);
    }
    return NULL;
}

static void several_threads_may_add_while_one_consumes(void **state) {
    (void)state;
    int each = COUNT(5000), total = FEEDERS * each;
    gate begin = GATE_CLOSED;
    tpool *pool = new_pool(2);
    tpool_future *last = NULL;
    assert_status(TPOOL_OK, tpool_future_create(&last)); /* keeps the set from running empty meanwhile */
    tpool_completions *completions = start(&last, 1);
    atomic_int *counts = calloc((size_t)total, sizeof *counts);
    char *places = calloc((size_t)total + 1, 1);
    pthread_t threads[FEEDERS];
    feeder feeders[FEEDERS];
    assert_non_null(counts);
    assert_non_null(places);
    for (int i = 0; i < FEEDERS; i++) {
        feeders[i] = (feeder){ pool, completions, &begin, counts, i * each, each, 0 };
        assert_int_equal(0, pthread_create(&threads[i], NULL, feed, &feeders[i]));
    }
    gate_open(&begin);
    for (int i = 0; i < total; i++) {
        void *value = NULL;
        assert_status(TPOOL_OK, tpool_future_result(next(completions), 0, &value));
        assert_int_equal(1, atomic_fetch_add((atomic_int *)value, 1)); /* run once, not yielded before */
        size_t place = tpool_completions_index(completions);
        assert_true(place >= 1 && place <= (size_t)total && places[place] == 0);
        places[place] = 1;
    }
    for (int i = 0; i < FEEDERS; i++) {
        assert_int_equal(0, pthread_join(threads[i], NULL));
        assert_int_equal(0, feeders[i].troubles);
    }
    assert_int_equal(1, tpool_completions_remaining(completions));
    check_none(completions, 0, TPOOL_TIMEOUT);
    succeed(last);
    assert_ptr_equal(last, next(completions));
    check_none(completions, 0, TPOOL_END);
    tpool_completions_destroy(completions);
    tpool_future_release(last);
    free(counts);
    free(places);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- References. */

static atomic_int payloads_freed;

static void free_payload(void *payload) {
    atomic_fetch_add(&payloads_freed, 1);
    free(payload);
}

static void *return_payload(void *arg) {
    int *payload = malloc(sizeof *payload);
    if (payload == NULL) abort();
    *payload = (int)(intptr_t)arg;
    return tpool_return_owned(payload, free_payload);
}

/* What a callback within next was given last is let go of by that call, as by any other. */
static tpool_future *within[2];
static void add_two_consume_two(tpool_future *future, void *context) {
    tpool_future *other;
    (void)future;
    (void)context;
    for (int i = 0; i < 2; i++) {
        assert_status(TPOOL_OK, tpool_completions_add(consumed, within[i]));
        tpool_future_release(within[i]);
    }
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_completions_next(consumed, 0, &other));
}
static void what_was_yielded_within_next_is_let_go_of_by_it(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_task short_lived = { .fn = nothing, .expires_ns = TPOOL_MS(300) }; /* not before its callback is added */
    tpool_future *expires;
    atomic_store(&payloads_freed, 0);
    for (int i = 0; i < 2; i++) {
        within[i] = submitted(pool, return_payload, NULL);
        assert_status(TPOOL_OK, tpool_future_result(within[i], LIMIT, NULL));
    }
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT)); /* the worker has let go of them */
    gate hold = GATE_CLOSED;                           /* so that next notices, and no idle worker */
    assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
    AWAIT_ARRIVALS(&hold, 1);
    expires = submitted_task(pool, short_lived);
    consumed = start(&expires, 1);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(expires, add_two_consume_two, NULL));
    tpool_future_release(expires);
    (void)next(consumed);
    assert_int_equal(1, atomic_load(&payloads_freed));
    tpool_completions_destroy(consumed);
    assert_int_equal(2, atomic_load(&payloads_freed));
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void submit_add_release_is_safe_and_what_is_yielded_lives_until_the_following_next(void **state) {
    (void)state;
    enum { window = 16 };
    int total = COUNT(5000), given = 0, yielded = 0;
    long sum = 0;
    tpool *pool = new_pool(2);
    tpool_completions *completions = start(NULL, 0);
    atomic_store(&payloads_freed, 0);
    while (yielded < total) {
        while (given < total && given - yielded < window) {
            tpool_future *future = submitted(pool, return_payload, (void *)(intptr_t)given++);
            assert_status(TPOOL_OK, tpool_completions_add(completions, future));
            tpool_future_release(future);
        }
        int *payload = NULL;
        void *value = NULL;
        tpool_future *future = next(completions);
        assert_status(TPOOL_OK, tpool_future_result(future, 0, &value));
        payload = value;
        assert_int_equal((int)tpool_completions_index(completions), *payload);
        sum += *payload;
        yielded++;
        assert_true(atomic_load(&payloads_freed) <= yielded - 1);
    }
    check_none(completions, 0, TPOOL_END);
    tpool_completions_destroy(completions);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal((long)total * (total - 1) / 2, sum);
    assert_int_equal(total, atomic_load(&payloads_freed));
}

static void what_is_yielded_last_lives_until_the_destroy(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    void *value = NULL;
    atomic_store(&payloads_freed, 0);
    tpool_future *future = submitted(pool, return_payload, (void *)(intptr_t)77), *kept = NULL;
    tpool_completions *completions = start(&future, 1);
    tpool_future_release(future);
    kept = next(completions);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_status(TPOOL_OK, tpool_future_result(kept, 0, &value));
    assert_int_equal(77, *(int *)value);
    assert_int_equal(0, atomic_load(&payloads_freed));
    tpool_future_retain(kept);
    tpool_completions_destroy(completions);
    assert_int_equal(77, *(int *)value); /* a reference of one's own keeps it longer */
    assert_int_equal(0, atomic_load(&payloads_freed));
    tpool_future_release(kept);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(1, atomic_load(&payloads_freed));
}

/* ---- Left half-way. */

static void a_set_may_be_left_half_way(void **state) {
    (void)state;
    enum { count = 8 };
    tpool_future *f[count];
    create_bare(f, count);
    succeed(f[0]);
    succeed(f[1]);
    succeed(f[2]);
    tpool_completions *completions = start(f, count);
    next(completions);
    tpool_completions_destroy(completions); /* done and not yielded ones, and pending ones */
    for (int i = 3; i < 6; i++) succeed(f[i]);
    completions = start(f, count);
    for (int i = 0; i < 6; i++) next(completions);
    tpool_completions_destroy(completions);
    assert_true(tpool_future_cancel(f[6]));
    succeed(f[7]);
    release_all(f, count);
    tpool_completions_destroy(start(NULL, 0));
    tpool_completions_destroy(NULL);
}

static void a_set_may_hold_the_last_reference_to_what_is_pending(void **state) {
    (void)state;
    gate held = GATE_CLOSED;
    tpool *pool = new_pool(1);
    tpool_future *f[3];
    atomic_store(&payloads_freed, 0);
    f[0] = submitted(pool, gate_task, &held);
    for (int i = 1; i < 3; i++) f[i] = submitted(pool, return_payload, NULL);
    tpool_completions *completions = start(f, 3);
    release_all(f, 3);
    tpool_completions_destroy(completions); /* the tasks run all the same */
    gate_open(&held);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(2, atomic_load(&payloads_freed));
}

static void leaving_while_futures_end_in_other_threads_is_safe(void **state) {
    (void)state;
    enum { count = 20 };
    tpool *pool = new_pool(2);
    for (int round = 0; round < COUNT(2000); round++) {
        tpool_future *f[count];
        for (int i = 0; i < count; i++) f[i] = submitted(pool, nothing, NULL);
        tpool_completions *completions = start(f, count);
        for (int i = 0; i < round % 4; i++) next(completions);
        tpool_completions_destroy(completions);
        release_all(f, count);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Many futures, several pools, inside a task. */

static void a_hundred_thousand_futures_come_once_each(void **state) {
    (void)state;
    size_t count = COUNT(100000);
    tpool *pool = new_pool(2);
    tpool_future **f = calloc(count, sizeof *f);
    char *seen = calloc(count, 1);
    assert_non_null(f);
    assert_non_null(seen);
    for (size_t i = 0; i < count; i++) f[i] = submitted(pool, nothing, &seen[i]);
    tpool_completions *completions = start(f, count);
    for (size_t i = 0; i < count; i++) {
        void *value = NULL;
        assert_int_equal(count - i, tpool_completions_remaining(completions));
        tpool_future *future = next(completions);
        size_t place = tpool_completions_index(completions);
        assert_true(place < count);
        assert_ptr_equal(f[place], future);
        assert_int_equal(0, seen[place]);
        seen[place] = 1;
        assert_status(TPOOL_OK, tpool_future_result(future, 0, &value));
        assert_ptr_equal(&seen[place], value);
    }
    check_none(completions, TPOOL_FOREVER, TPOOL_END);
    tpool_completions_destroy(completions);
    for (size_t i = 0; i < count; i++) tpool_future_release(f[i]);
    free(f);
    free(seen);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void futures_of_several_pools_and_of_none_mix(void **state) {
    (void)state;
    enum { count = 300 };
    tpool *pools[2] = { new_pool(1), new_pool(2) };
    tpool_future *f[count];
    bool seen[count] = { false };
    for (int i = 0; i < count; i++) {
        if (i % 3 == 2) create_bare(&f[i], 1);
        else f[i] = submitted(pools[i % 3], nothing, NULL);
    }
    tpool_completions *completions = start(f, count);
    for (int i = 2; i < count; i += 3) succeed(f[i]);
    for (int i = 0; i < count; i++) {
        tpool_future *future = next(completions);
        size_t place = tpool_completions_index(completions);
        assert_true(place < count && !seen[place]);
        assert_ptr_equal(f[place], future);
        seen[place] = true;
    }
    check_none(completions, 0, TPOOL_END);
    tpool_completions_destroy(completions);
    release_all(f, count);
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_destroy(pools[i]));
}

static void a_set_outlives_the_pool_of_its_futures(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_future *f[2] = { submitted(pool, nothing, NULL), submitted(pool, nothing, NULL) };
    tpool_completions *completions = start(f, 2);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    next(completions);
    next(completions);
    check_none(completions, 0, TPOOL_END);
    tpool_completions_destroy(completions);
    release_all(f, 2);
}

static void two_sets_over_the_same_futures_are_independent(void **state) {
    (void)state;
    tpool_future *f[2];
    create_bare(f, 2);
    tpool_future *reversed[2] = { f[1], f[0] };
    tpool_completions *one = start(f, 2), *two = start(reversed, 2);
    succeed(f[1]);
    assert_ptr_equal(f[1], next(one));
    assert_int_equal(1, tpool_completions_index(one));
    check_none(one, 0, TPOOL_TIMEOUT);
    succeed(f[0]);
    assert_ptr_equal(f[0], next(one));
    assert_ptr_equal(f[1], next(two));
    assert_int_equal(0, tpool_completions_index(two));
    tpool_completions_destroy(two);
    check_none(one, 0, TPOOL_END);
    tpool_completions_destroy(one);
    release_all(f, 2);
}

typedef struct inside {
    tpool *pool;
    int count, yielded, troubles;
} inside;

static void *consume_own_children(void *arg) {
    inside *in = arg;
    tpool_completions *completions = NULL;
    tpool_future *future = NULL;
    if (tpool_as_completed(NULL, 0, &completions) != TPOOL_OK) abort();
    for (int i = 0; i < in->count; i++) {
        if (tpool_submit(in->pool, nothing, in, &future) != TPOOL_OK ||
            tpool_completions_add(completions, future) != TPOOL_OK) {
            in->troubles++;
        }
        tpool_future_release(future);
    }
    while (tpool_completions_next(completions, TPOOL_FOREVER, &future) == TPOOL_OK) {
        void *value = NULL;
        if (tpool_future_result(future, 0, &value) != TPOOL_OK || value != in) in->troubles++;
        in->yielded++;
    }
    tpool_completions_destroy(completions);
    return NULL;
}

static void a_task_consumes_its_own_children_in_a_pool_of_one(void **state) {
    (void)state;
    inside in = { .pool = new_pool(1), .count = COUNT(1000) };
    take(submitted(in.pool, consume_own_children, &in));
    assert_int_equal(0, in.troubles);
    assert_int_equal(in.count, in.yielded);
    assert_status(TPOOL_OK, tpool_destroy(in.pool));
}

/* ---- Bad arguments. */

static void bad_arguments_are_invalid_and_change_nothing(void **state) {
    (void)state;
    tpool_future *f[2], *future = NULL;
    create_bare(f, 2);
    tpool_future *with_hole[3] = { f[0], NULL, f[1] };
    tpool_completions *completions = (tpool_completions *)(void *)f;
    assert_status(TPOOL_INVALID, tpool_as_completed(with_hole, 3, &completions));
    assert_null(completions);
    completions = (tpool_completions *)(void *)f;
    assert_status(TPOOL_INVALID, tpool_as_completed(NULL, 1, &completions));
    assert_null(completions);
    assert_status(TPOOL_INVALID, tpool_as_completed(f, 2, NULL));
    completions = start(f, 2);
    assert_status(TPOOL_INVALID, tpool_completions_add(completions, NULL));
    assert_status(TPOOL_INVALID, tpool_completions_add(NULL, f[0]));
    assert_status(TPOOL_INVALID, tpool_completions_next(completions, 0, NULL));
    assert_status(TPOOL_INVALID, tpool_completions_next(NULL, 0, &future));
    assert_int_equal(2, tpool_completions_remaining(completions));
    for (int i = 0; i < 2; i++) {
        succeed(f[i]);
        assert_ptr_equal(f[i], next(completions));
        assert_int_equal(i, tpool_completions_index(completions));
    }
    tpool_completions_destroy(completions);
    release_all(f, 2);
}

static const struct CMUnitTest tests[] = {
    TEST(futures_come_in_the_order_of_completion),
    TEST(tasks_come_in_the_order_in_which_they_end),
    TEST(those_already_done_come_first),
    TEST(what_ends_as_it_is_made_comes_after_what_was_done),
    TEST(a_future_is_yielded_once_however_often_it_is_in_the_set),
    TEST(every_end_is_yielded),
    TEST(a_task_that_expires_while_next_waits_is_yielded),
    TEST(a_callback_that_consumes_too_leaves_the_rest),
    TEST(a_timeout_consumes_nothing),
    TEST(the_end_comes_again_and_again_until_something_is_added),
    TEST(a_set_may_start_empty),
    TEST(added_ones_are_counted_on),
    TEST(one_added_again_after_it_was_yielded_is_yielded_again),
    TEST(another_thread_may_add_while_next_blocks),
    TEST(what_expires_is_noticed_though_it_was_added_while_next_slept),
    TEST(several_threads_may_add_while_one_consumes),
    TEST(submit_add_release_is_safe_and_what_is_yielded_lives_until_the_following_next),
    TEST(what_was_yielded_within_next_is_let_go_of_by_it),
    TEST(what_is_yielded_last_lives_until_the_destroy),
    TEST(a_set_may_be_left_half_way),
    TEST(a_set_may_hold_the_last_reference_to_what_is_pending),
    TEST(leaving_while_futures_end_in_other_threads_is_safe),
    TEST(a_hundred_thousand_futures_come_once_each),
    TEST(futures_of_several_pools_and_of_none_mix),
    TEST(a_set_outlives_the_pool_of_its_futures),
    TEST(two_sets_over_the_same_futures_are_independent),
    TEST(a_task_consumes_its_own_children_in_a_pool_of_one),
    TEST(bad_arguments_are_invalid_and_change_nothing),
};
RUN_TESTS(tests)
