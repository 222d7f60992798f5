/* Races about a future's end: cancelling against start, finish and each other, releasing against the end, rival
   producers. */
#include "support.h"
#include <sched.h>

/* ---- Races of cancel ---- */

typedef struct racer {
    atomic_int runs, frees, callbacks;
    tpool_status seen_in_callback;
} racer;
static void *racer_run(void *arg) {
    racer *r = arg;
    atomic_fetch_add(&r->runs, 1);
    return r;
}
static void racer_free(void *arg) { atomic_fetch_add(&((racer *)arg)->frees, 1); }
static void racer_callback(tpool_future *future, void *context) {
    racer *r = context;
    r->seen_in_callback = tpool_future_result(future, 0, NULL);
    atomic_fetch_add(&r->callbacks, 1);
}
static void *spin_until_set(void *arg) {
    atomic_bool *go = arg;
    while (!atomic_load_explicit(go, memory_order_acquire)) sched_yield();
    return NULL;
}
/* Enough of a stress: on a busy machine its rounds may last long. */
static bool enough(int64_t begin, int some, int others) {
    return some > 0 && others > 0 && tpool_now() - begin > TPOOL_MS(700);
}
static void spin(int rounds) {
    for (volatile int i = 0; i < rounds; i++) { }
}

/* The worker leaves a task and takes up the next one while the main thread cancels that. The canceller's delay
   grows when it came first and shrinks when it came too late, so that it stays where both happen. */
static void stress_cancel_against_start_has_one_outcome(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    int rounds = COUNT(1000), cancelled = 0, ran = 0, delay = 0;
    int64_t begin = tpool_now();
    while (cancelled + ran < rounds && !enough(begin, cancelled, ran)) {
        racer r = { 0 };
        atomic_bool go = false;
        tpool_task task = { .fn = racer_run, .arg = &r, .arg_free = racer_free };
        tpool_future *future = NULL;
        assert_status(TPOOL_OK, tpool_submit(pool, spin_until_set, &go, NULL));
        future = submitted_task(pool, task);
        assert_status(TPOOL_OK, tpool_future_add_done_callback(future, racer_callback, &r));
        atomic_store_explicit(&go, true, memory_order_release);
        spin(delay);
        bool answer = tpool_future_cancel(future);
        void *result = NULL;
        tpool_status status = tpool_future_result(future, LIMIT, &result);
        assert_status(answer ? TPOOL_CANCELLED : TPOOL_OK, status);
        assert_ptr_equal(answer ? NULL : &r, result);
        assert_int_equal(answer ? 0 : 1, atomic_load(&r.runs));
        assert_int_equal(1, atomic_load(&r.frees));
        EVENTUALLY(atomic_load(&r.callbacks) == 1);
        assert_status(status, r.seen_in_callback);
        assert_true(tpool_future_cancel(future) == answer);
        /* The task that spins must be gone before its flag is. */
        assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
        assert_int_equal(answer ? 0 : 1, atomic_load(&r.runs));
        assert_int_equal(1, atomic_load(&r.callbacks));
        tpool_future_release(future);
        if (answer) {
            cancelled++;
            if (delay < 1 << 24) delay += delay / 4 + 16;
        } else {
            ran++;
            delay -= delay / 4;
        }
    }
    print_message("%d cancelled, %d ran\n", cancelled, ran);
    assert_true(cancelled > 0 && ran > 0);
    tpool_stats stats = { 0 };
    assert_status(TPOOL_OK, tpool_get_stats(pool, &stats));
    assert_int_equal(cancelled, stats.cancelled);
    assert_int_equal(cancelled + 2 * ran, stats.completed);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

typedef struct flags {
    atomic_bool started, go;
} flags;
static void *start_and_spin(void *arg) {
    flags *f = arg;
    atomic_store(&f->started, true);
    while (!atomic_load_explicit(&f->go, memory_order_acquire)) sched_yield();
    return f;
}

/* The task ends while it is cancelled, which must always be too late. */
static void stress_cancel_against_finish_is_always_too_late(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    int rounds = COUNT(800), before = 0, after = 0, delay = 0;
    int64_t begin = tpool_now();
    while (before + after < rounds && !enough(begin, before, after)) {
        flags f = { false, false };
        atomic_int callbacks = 0;
        tpool_future *future = submitted(pool, start_and_spin, &f);
        assert_status(TPOOL_OK, tpool_future_add_done_callback(future, count_callback, &callbacks));
        while (!atomic_load(&f.started)) sched_yield();
        atomic_store_explicit(&f.go, true, memory_order_release);
        spin(delay);
        bool early = !tpool_future_done(future);
        assert_false(tpool_future_cancel(future));
        void *result = NULL;
        assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
        assert_ptr_equal(&f, result);
        assert_false(tpool_future_cancel(future));
        assert_false(tpool_future_cancelled(future));
        EVENTUALLY(atomic_load(&callbacks) == 1);
        tpool_future_release(future);
        if (early) {
            before++;
            if (delay < 1 << 24) delay += delay / 4 + 16;
        } else {
            after++;
            delay -= delay / 4;
        }
    }
    print_message("%d before the end, %d after it\n", before, after);
    assert_true(before > 0 && after > 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

typedef struct rival {
    pthread_t thread;
    pthread_barrier_t *barrier;
    tpool_future **future;
    bool *answers;
    int rounds;
} rival;
static void *cancel_each_round(void *arg) {
    rival *r = arg;
    for (int i = 0; i < r->rounds; i++) {
        pthread_barrier_wait(r->barrier); /* the future is there */
        r->answers[i] = tpool_future_cancel(*r->future);
        pthread_barrier_wait(r->barrier); /* done with it */
    }
    return NULL;
}

static void stress_rival_cancels_agree_with_each_other_and_with_the_end(void **unused) {
    (void)unused;
    enum { RIVALS = 2 };
    int rounds = COUNT(1000);
    tpool *pool = new_pool(1);
    tpool_future *future = NULL;
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, RIVALS + 1);
    rival rivals[RIVALS];
    for (int k = 0; k < RIVALS; k++) {
        rivals[k] = (rival){
            .barrier = &barrier, .future = &future, .rounds = rounds, .answers = calloc((size_t)rounds, sizeof(bool))
        };
        assert_int_equal(0, pthread_create(&rivals[k].thread, NULL, cancel_each_round, &rivals[k]));
    }
    int wrong = 0;
    for (int i = 0; i < rounds; i++) {
        racer r = { 0 };
        atomic_bool go = false;
        tpool_task task = { .fn = racer_run, .arg = &r, .arg_free = racer_free };
        tpool_status spinning = tpool_submit(pool, spin_until_set, &go, NULL);
        tpool_status submitted = tpool_submit_task(pool, &task, &future);
        tpool_status added = tpool_future_add_done_callback(future, racer_callback, &r);
        pthread_barrier_wait(&barrier);
        spin(i % 64 * 8);
        atomic_store_explicit(&go, true, memory_order_release);
        pthread_barrier_wait(&barrier);
        tpool_status status = tpool_future_result(future, LIMIT, NULL);
        tpool_status drained = tpool_drain(pool, LIMIT);
        bool cancelled = status == TPOOL_CANCELLED;
        /* No assertion here: the rivals would wait at their barrier for ever. */
        if (spinning != TPOOL_OK || submitted != TPOOL_OK || added != TPOOL_OK || drained != TPOOL_OK ||
            (!cancelled && status != TPOOL_OK) || rivals[0].answers[i] != cancelled ||
            rivals[1].answers[i] != cancelled || atomic_load(&r.runs) != !cancelled || atomic_load(&r.frees) != 1 ||
            atomic_load(&r.callbacks) != 1 || r.seen_in_callback != status)
            wrong++;
        tpool_future_release(future);
    }
    for (int k = 0; k < RIVALS; k++) {
        pthread_join(rivals[k].thread, NULL);
        free(rivals[k].answers);
    }
    pthread_barrier_destroy(&barrier);
    assert_int_equal(0, wrong);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- References ---- */

/* The caller's release against the end of the task: whoever is last frees, once. */
static void *give_owned(void *arg) { return tpool_return_owned(arg, count_free); }

static void stress_release_against_the_end_frees_once(void **unused) {
    (void)unused;
    tpool *pool = new_pool(2);
    int rounds = COUNT(10000);
    atomic_int *freed = calloc((size_t)rounds, sizeof *freed);
    for (int i = 0; i < rounds; i++) {
        tpool_future *future = submitted(pool, give_owned, &freed[i]);
        spin(i % 100 * 10);
        if (i % 3 == 0) assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
        tpool_future_release(future);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
    for (int i = 0; i < rounds; i++) assert_int_equal(1, atomic_load(&freed[i]));
    free(freed);
}

/* ---- Races of the producing side ---- */

typedef struct producer {
    pthread_t thread;
    pthread_barrier_t *barrier;
    tpool_future **future;
    int number, rounds;
    tpool_status *statuses; /* of each round */
} producer;

static void *complete_each_round(void *arg) {
    producer *p = arg;
    for (int i = 0; i < p->rounds; i++) {
        pthread_barrier_wait(p->barrier);
        if (p->number == 0) {
            p->statuses[i] = tpool_future_cancel(*p->future) ? TPOOL_CANCELLED : TPOOL_INVALID_STATE;
        } else if (p->number == 1) {
            p->statuses[i] = tpool_future_set_error(*p->future, 1, "by the first producer");
        } else {
            p->statuses[i] = tpool_future_set_result(*p->future, &p->statuses[i]);
        }
        pthread_barrier_wait(p->barrier);
    }
    return NULL;
}

static void stress_of_rival_producers_and_a_canceller_one_wins(void **unused) {
    (void)unused;
    enum { PRODUCERS = 4 }; /* one cancels, one sets an error, the others set results */
    int rounds = COUNT(1000), wrong = 0;
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, PRODUCERS + 1);
    tpool_future *future = NULL;
    producer producers[PRODUCERS];
    for (int k = 0; k < PRODUCERS; k++) {
        producers[k] = (producer){ .barrier = &barrier,
                                   .future = &future,
                                   .number = k,
                                   .rounds = rounds,
                                   .statuses = calloc((size_t)rounds, sizeof(tpool_status)) };
        assert_int_equal(0, pthread_create(&producers[k].thread, NULL, complete_each_round, &producers[k]));
    }
    for (int i = 0; i < rounds; i++) {
        /* No assertion here: the producers would wait at their barrier for ever. */
        racer r = { 0 };
        if (tpool_future_create(&future) != TPOOL_OK) wrong++;
        if (tpool_future_add_done_callback(future, racer_callback, &r) != TPOOL_OK) wrong++;
        bool running = i % 3 == 0 && tpool_future_set_running(future) == TPOOL_OK;
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        void *result = NULL;
        tpool_status end = tpool_future_result(future, 0, &result);
        int winners = 0;
        for (int k = 0; k < PRODUCERS; k++) {
            tpool_status its = producers[k].statuses[i];
            if (its == TPOOL_INVALID_STATE) continue;
            winners++;
            if (k == 0 && (its != TPOOL_CANCELLED || end != TPOOL_CANCELLED || running)) wrong++;
            if (k == 1 && (its != TPOOL_OK || end != TPOOL_FAILED)) wrong++;
            if (k > 1 && (its != TPOOL_OK || end != TPOOL_OK || result != &producers[k].statuses[i])) wrong++;
        }
        if (winners != 1 || atomic_load(&r.callbacks) != 1 || r.seen_in_callback != end) wrong++;
        tpool_future_release(future);
    }
    for (int k = 0; k < PRODUCERS; k++) {
        pthread_join(producers[k].thread, NULL);
        free(producers[k].statuses);
    }
    pthread_barrier_destroy(&barrier);
    assert_int_equal(0, wrong);
}

static void stress_set_running_against_cancel_has_one_winner(void **unused) {
    (void)unused;
    int rounds = COUNT(1000), wrong = 0;
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, 2);
    tpool_future *future = NULL;
    rival canceller_thread = {
        .barrier = &barrier, .future = &future, .rounds = rounds, .answers = calloc((size_t)rounds, sizeof(bool))
    };
    assert_int_equal(0, pthread_create(&canceller_thread.thread, NULL, cancel_each_round, &canceller_thread));
    for (int i = 0; i < rounds; i++) {
        if (tpool_future_create(&future) != TPOOL_OK) wrong++;
        pthread_barrier_wait(&barrier);
        spin(i % 64);
        tpool_status status = tpool_future_set_running(future);
        pthread_barrier_wait(&barrier);
        bool cancelled = canceller_thread.answers[i];
        if (status != (cancelled ? TPOOL_CANCELLED : TPOOL_OK)) wrong++;
        if (tpool_future_state(future) != (cancelled ? TPOOL_STATE_CANCELLED : TPOOL_RUNNING)) wrong++;
        if (tpool_future_set_result(future, NULL) != (cancelled ? TPOOL_INVALID_STATE : TPOOL_OK)) wrong++;
        tpool_future_release(future);
    }
    pthread_join(canceller_thread.thread, NULL);
    free(canceller_thread.answers);
    pthread_barrier_destroy(&barrier);
    assert_int_equal(0, wrong);
}

static const struct CMUnitTest tests[] = {
    TEST(stress_cancel_against_start_has_one_outcome),
    TEST(stress_cancel_against_finish_is_always_too_late),
    TEST(stress_rival_cancels_agree_with_each_other_and_with_the_end),
    TEST(stress_release_against_the_end_frees_once),
    TEST(stress_of_rival_producers_and_a_canceller_one_wins),
    TEST(stress_set_running_against_cancel_has_one_winner),
};
RUN_TESTS(tests)
