/* How arguments travel: copied bytes of any size, and arg_free, exactly once on every path. */
#include "support.h"
#include "support/box.h"
#include "support/bytes.h"

static void *box_exit_thread(void *arg) {
    box_run(arg);
    pthread_exit(NULL);
}

/* Submits and, if the bytes were copied, overwrites the caller's at once: nobody may look at those again. */
static tpool_status box_submit(tpool *pool, tpool_task task, tpool_future **future) {
    tpool_status status = tpool_submit_task(pool, &task, future);
    if (status == TPOOL_OK && task.arg_size > 0) memset(task.arg, 0xA5, sizeof(payload));
    return status;
}
/* The pool takes the box's task. */
static void box_submitted(box *b, tpool *pool, tpool_fn fn, bool copied) {
    box_init(b);
    assert_status(TPOOL_OK, box_submit(pool, box_task(fn, b, copied), &b->future));
}
/* Its end, with which its argument has been freed. */
static void check_box_end(box *b, tpool_status expected, bool copied, bool ran) {
    assert_status(expected, tpool_future_result(b->future, LIMIT, NULL));
    check_freed_once(b, copied, ran);
}
/* What comes after the end frees the argument no second time. */
static void release_boxes_and_pool(box *const *boxes, int count, held_pool *h) {
    for (int i = 0; i < count; i++) {
        tpool_future_release(boxes[i]->future);
        boxes[i]->future = NULL;
    }
    held_destroy(h);
    for (int i = 0; i < count; i++) assert_int_equal(1, atomic_load(&boxes[i]->frees));
}

/* ---- Copied bytes ---- */

/* The bytes are all of the argument, so what was seen of it goes here, by the order in which they ran. */
typedef struct sighting {
    size_t size;
    uintptr_t misaligned;
    bool intact;
} sighting;
static sighting sightings[2 * SIZES];
static size_t sighted;

static void *see_bytes(void *arg) {
    sighting *s = &sightings[sighted++];
    s->size = tpool_arg_size();
    s->misaligned = (uintptr_t)arg % _Alignof(max_align_t);
    s->intact = has_pattern(arg, s->size);
    return NULL;
}

static void copies_of_any_size_are_whole_aligned_and_apart_from_the_callers(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    sighted = 0;
    tpool_future *futures[2 * SIZES] = { NULL };
    for (size_t i = 0; i < SIZES; i++) {
        unsigned char *bytes = pattern(sizes[i]);
        assert_status(TPOOL_OK, tpool_submit_copy(h.pool, see_bytes, bytes, sizes[i], &futures[2 * i]));
        tpool_task task = {
            .fn = see_bytes, .arg = bytes, .arg_size = sizes[i], .name = "with all", .expires_ns = TPOOL_FOREVER
        };
        assert_status(TPOOL_OK, tpool_submit_task(h.pool, &task, &futures[2 * i + 1]));
        memset(bytes, 0, sizes[i]); /* while the worker is held: both copies must have been made by now */
        free(bytes);
    }
    gate_open(&h.gate);
    for (size_t i = 0; i < 2 * SIZES; i++) {
        assert_status(TPOOL_OK, tpool_future_result(futures[i], LIMIT, NULL));
        assert_int_equal(sizes[i / 2], sightings[i].size);
        assert_int_equal(0, sightings[i].misaligned);
        assert_true(sightings[i].intact);
        tpool_future_release(futures[i]);
    }
    held_destroy(&h);
}

/* The argument of a task that looks at its copy, waits at a gate, and looks again. */
typedef struct long_copy {
    gate *gate;
    atomic_int *intact_looks;
    unsigned char bytes[200];
} long_copy;

static void *look_twice(void *arg) {
    long_copy *copy = arg;
    if (has_pattern(copy->bytes, sizeof copy->bytes)) atomic_fetch_add(copy->intact_looks, 1);
    gate_pass(copy->gate);
    if (has_pattern(copy->bytes, sizeof copy->bytes)) atomic_fetch_add(copy->intact_looks, 1);
    return NULL;
}
static void look_a_last_time(void *arg) {
    long_copy *copy = arg;
    if (has_pattern(copy->bytes, sizeof copy->bytes)) atomic_fetch_add(copy->intact_looks, 1);
}

static void a_copy_lives_until_the_task_and_its_arg_free_have_ended(void **unused) {
    (void)unused;
    tpool *pool = new_pool(2);
    gate g = GATE_CLOSED;
    atomic_int intact_looks = 0, others = 0;
    long_copy copy = { &g, &intact_looks, { 0 } };
    for (size_t i = 0; i < sizeof copy.bytes; i++) copy.bytes[i] = pattern_at(sizeof copy.bytes, i);
    tpool_task task = { .fn = look_twice, .arg = &copy, .arg_size = sizeof copy, .arg_free = look_a_last_time };
    tpool_future *future = submitted_task(pool, task);
    memset(&copy, 0, sizeof copy);
    gate_await_arrivals(&g, 1);
    /* Other copies of this size come and go meanwhile, and would take the place of one given back too early. */
    for (int i = 0; i < 100; i++) {
        unsigned char noise[sizeof copy];
        memset(noise, i, sizeof noise);
        tpool_future *other = NULL;
        assert_status(TPOOL_OK, tpool_submit_copy(pool, nothing, noise, sizeof noise, &other));
        if (tpool_future_result(other, LIMIT, NULL) == TPOOL_OK) atomic_fetch_add(&others, 1);
        tpool_future_release(other);
    }
    assert_int_equal(100, atomic_load(&others));
    gate_open(&g);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
    assert_int_equal(3, atomic_load(&intact_looks));
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *tell_arg_size(void *arg) {
    size_t *size = arg;
    *size = tpool_arg_size();
    return arg;
}

static void arg_size_is_zero_by_pointer_and_outside_tasks(void **unused) {
    (void)unused;
    assert_int_equal(0, tpool_arg_size());
    tpool *pool = new_pool(1);
    tpool_future *future = NULL;
    unsigned char some[100] = { 0 };
    void *result = NULL;
    for (int i = 0; i < 2; i++) {
        size_t size = 99;
        future = submitted(pool, tell_arg_size, &size);
        assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
        assert_int_equal(0, size);
        tpool_future_release(future);
        /* The worker's next task, by pointer again, must not see the size of this one. */
        assert_status(TPOOL_OK, tpool_submit_copy(pool, nothing, some, sizeof some, NULL));
    }
    /* No bytes: nothing to copy, so fn gets what was given. */
    assert_status(TPOOL_OK, tpool_submit_copy(pool, nothing, some, 0, &future));
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
    assert_ptr_equal(some, result);
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- arg_free: exactly once, on every path, before the future is done ---- */

static void arg_free_after_a_run(void **unused) {
    (void)unused;
    for (int copied = 0; copied < 2; copied++) {
        held_pool h;
        held_create(&h, NULL);
        box ran, failed;
        box_submitted(&ran, h.pool, box_run, copied);
        box_submitted(&failed, h.pool, box_fail, copied);
        void *result = NULL;
        assert_int_equal(0, atomic_load(&ran.frees));
        gate_open(&h.gate);
        assert_status(TPOOL_OK, tpool_future_result(ran.future, LIMIT, &result));
        assert_ptr_equal(&ran, result);
        check_freed_once(&ran, copied, true);
        check_box_end(&failed, TPOOL_FAILED, copied, true);
        release_boxes_and_pool((box *[]){ &ran, &failed }, 2, &h);
    }
}

static void arg_free_after_a_cancel(void **unused) {
    (void)unused;
    for (int copied = 0; copied < 2; copied++) {
        held_pool h;
        held_create(&h, NULL);
        box b;
        box_submitted(&b, h.pool, box_run, copied);
        assert_true(tpool_future_cancel(b.future));
        check_freed_once(&b, copied, false);
        assert_int_equal(TPOOL_PENDING, b.state_at_free);
        assert_int_equal(TPOOL_STATE_CANCELLED, tpool_future_state(b.future));
        assert_true(tpool_future_cancel(b.future));
        release_boxes_and_pool((box *[]){ &b }, 1, &h);
        assert_int_equal(0, atomic_load(&b.runs));
    }
}

static void arg_free_after_an_expiry(void **unused) {
    (void)unused;
    for (int copied = 0; copied < 2; copied++) {
        held_pool h;
        held_create(&h, NULL);
        box b;
        box_init(&b);
        tpool_task task = box_task(box_run, &b, copied);
        task.expires_ns = TPOOL_MS(20);
        tpool_future *future = NULL;
        assert_status(TPOOL_OK, box_submit(h.pool, task, &future));
        b.future = future; /* in time: only the next line can notice the expiry, since the worker is held */
        check_box_end(&b, TPOOL_EXPIRED, copied, false);
        release_boxes_and_pool((box *[]){ &b }, 1, &h);
    }
}

static void arg_free_after_a_drop(void **unused) {
    (void)unused;
    for (int copied = 0; copied < 2; copied++) {
        held_pool h;
        held_create(&h, &(tpool_config){ .queue_capacity = 1, .on_full = TPOOL_FULL_DROP_OLDEST });
        box old, new;
        box_submitted(&old, h.pool, box_run, copied);
        box_submitted(&new, h.pool, box_run, copied);
        check_box_end(&old, TPOOL_CANCELLED, copied, false);
        gate_open(&h.gate);
        check_box_end(&new, TPOOL_OK, copied, true);
        release_boxes_and_pool((box *[]){ &old, &new }, 2, &h);
    }
}

static void arg_free_after_a_broken_initializer(void **unused) {
    (void)unused;
    for (int copied = 0; copied < 2; copied++) {
        gate g = GATE_CLOSED;
        tpool_config config = { .max_workers = 1, .initializer = pass_gate_and_fail, .context = &g };
        tpool *pool = new_pool_as(config);
        enum { TASKS = 3 };
        box boxes[TASKS] = { 0 };
        for (int i = 0; i < TASKS; i++) {
            box_submitted(&boxes[i], pool, box_run, copied);
        }
        gate_await_arrivals(&g, 1);
        gate_open(&g);
        for (int i = 0; i < TASKS; i++) {
            check_box_end(&boxes[i], TPOOL_BROKEN, copied, false);
        }
        /* What comes later is refused, and stays the caller's. */
        box late;
        box_init(&late);
        tpool_future *future = boxes[0].future;
        assert_status(TPOOL_BROKEN, box_submit(pool, box_task(box_run, &late, copied), &future));
        assert_null(future);
        assert_status(TPOOL_OK, tpool_destroy(pool));
        for (int i = 0; i < TASKS; i++) {
            assert_int_equal(1, atomic_load(&boxes[i].frees));
            tpool_future_release(boxes[i].future);
        }
        assert_int_equal(0, atomic_load(&late.frees));
    }
}

static void arg_free_after_a_task_that_ended_its_thread(void **unused) {
    (void)unused;
    for (int copied = 0; copied < 2; copied++) {
        held_pool h;
        held_create(&h, NULL);
        box b;
        box_submitted(&b, h.pool, box_exit_thread, copied);
        gate_open(&h.gate);
        check_box_end(&b, TPOOL_BROKEN, copied, true);
        release_boxes_and_pool((box *[]){ &b }, 1, &h);
    }
}

static void arg_free_after_a_shutdown_that_cancels(void **unused) {
    (void)unused;
    for (int copied = 0; copied < 2; copied++) {
        held_pool h;
        held_create(&h, NULL);
        enum { TASKS = 5 };
        box boxes[TASKS] = { 0 };
        for (int i = 0; i < TASKS; i++) {
            box_init(&boxes[i]);
            /* Every other one has nobody who asks. */
            assert_status(TPOOL_OK,
                          box_submit(h.pool, box_task(box_run, &boxes[i], copied), i % 2 ? NULL : &boxes[i].future));
        }
        assert_status(TPOOL_OK, tpool_shutdown(h.pool, TPOOL_CANCEL_PENDING));
        for (int i = 0; i < TASKS; i += 2) {
            assert_status(TPOOL_CANCELLED, end_of(boxes[i].future));
        }
        held_destroy(&h);
        for (int i = 0; i < TASKS; i++) check_freed_once(&boxes[i], copied, false);
    }
}

static void arg_free_of_what_destroy_finds_queued(void **unused) {
    (void)unused;
    for (int copied = 0; copied < 2; copied++) {
        held_pool h;
        held_create(&h, NULL);
        enum { TASKS = 20 };
        box boxes[TASKS] = { 0 };
        for (int i = 0; i < TASKS; i++) {
            box_init(&boxes[i]);
            assert_status(TPOOL_OK, box_submit(h.pool, box_task(box_run, &boxes[i], copied), NULL));
        }
        held_destroy(&h);
        for (int i = 0; i < TASKS; i++) check_freed_once(&boxes[i], copied, true);
    }
}

static void arg_free_after_a_run_by_the_caller(void **unused) {
    (void)unused;
    for (int copied = 0; copied < 2; copied++) {
        held_pool h;
        held_create(&h, &(tpool_config){ .queue_capacity = 1, .on_full = TPOOL_FULL_CALLER_RUNS });
        atomic_int fillers = 0;
        assert_status(TPOOL_OK, tpool_submit(h.pool, count_up, &fillers, NULL));
        box b;
        box_init(&b);
        tpool_future *future = NULL;
        assert_status(TPOOL_OK, box_submit(h.pool, box_task(box_run, &b, copied), &future));
        assert_true(tpool_future_done(future));
        check_freed_once(&b, copied, true);
        assert_status(TPOOL_OK, tpool_future_result(future, 0, NULL));
        tpool_future_release(future);

        box alone;
        box_init(&alone);
        assert_status(TPOOL_OK, box_submit(h.pool, box_task(box_fail, &alone, copied), NULL));
        check_freed_once(&alone, copied, true);
        assert_int_equal(0, atomic_load(&fillers));
        held_destroy(&h);
        assert_int_equal(1, atomic_load(&b.frees));
        assert_int_equal(1, atomic_load(&alone.frees));
        assert_int_equal(1, atomic_load(&fillers));
    }
}

/* The future becomes NULL, whatever stood there. */
static void check_refused(tpool_status expected, tpool *pool, const tpool_task *task) {
    char other;
    tpool_future *future = (tpool_future *)&other;
    assert_status(expected, tpool_submit_task(pool, task, &future));
    assert_null(future);
}
static void no_arg_free_and_no_future_on_a_refused_submit(void **unused) {
    (void)unused;
    for (int copied = 0; copied < 2; copied++) {
        held_pool h;
        held_create(&h, &(tpool_config){ .queue_capacity = 1, .on_full = TPOOL_FULL_REJECT });
        atomic_int fillers = 0;
        assert_status(TPOOL_OK, tpool_submit(h.pool, count_up, &fillers, NULL));
        box b;
        box_init(&b);
        tpool_task task = box_task(box_run, &b, copied);

        check_refused(TPOOL_FULL, h.pool, &task);
        tpool_future *future = h.holder;
        assert_status(TPOOL_FULL, tpool_submit(h.pool, count_up, &fillers, &future));
        assert_null(future);
        future = h.holder;
        assert_status(TPOOL_FULL, tpool_submit_copy(h.pool, nothing, &b.given, sizeof b.given, &future));
        assert_null(future);
        assert_status(TPOOL_FULL, tpool_submit_task(h.pool, &task, NULL));

        tpool_task nothing_to_run = task;
        nothing_to_run.fn = NULL;
        check_refused(TPOOL_INVALID, h.pool, &nothing_to_run);
        tpool_task no_bytes = task;
        no_bytes.arg = NULL;
        no_bytes.arg_size = 8;
        check_refused(TPOOL_INVALID, h.pool, &no_bytes);
        check_refused(TPOOL_INVALID, NULL, &task);

        gate_open(&h.gate);
        assert_status(TPOOL_OK, tpool_shutdown(h.pool, 0));
        check_refused(TPOOL_SHUTDOWN, h.pool, &task);
        held_destroy(&h);
        assert_int_equal(0, atomic_load(&b.frees));
        assert_int_equal(0, atomic_load(&b.runs));
        assert_true(payload_intact(&b.given));
        assert_int_equal(1, atomic_load(&fillers));
    }
}

typedef struct submitter {
    pthread_t thread;
    tpool *pool;
    box *boxes;
    int count, refused;
} submitter;

static void *submit_boxes(void *arg) {
    submitter *s = arg;
    for (int i = 0; i < s->count; i++) {
        box_init(&s->boxes[i]);
        tpool_future *future = NULL;
        bool asked = i % 3 == 0;
        tpool_task task = box_task(i % 5 ? box_run : box_fail, &s->boxes[i], true);
        if (box_submit(s->pool, task, asked ? &future : NULL) != TPOOL_OK) s->refused++;
        if (asked && i % 2) tpool_future_cancel(future);
        tpool_future_release(future);
    }
    return NULL;
}

static void stress_arg_free_exactly_once_whoever_submits_runs_or_cancels(void **unused) {
    (void)unused;
    enum { THREADS = 3 };
    int each = COUNT(5000);
    tpool *pool = new_pool(2);
    submitter submitters[THREADS];
    for (int t = 0; t < THREADS; t++) {
        submitters[t] = (submitter){ .pool = pool, .boxes = calloc((size_t)each, sizeof(box)), .count = each };
        assert_int_equal(0, pthread_create(&submitters[t].thread, NULL, submit_boxes, &submitters[t]));
    }
    for (int t = 0; t < THREADS; t++) pthread_join(submitters[t].thread, NULL);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    for (int t = 0; t < THREADS; t++) {
        assert_int_equal(0, submitters[t].refused);
        for (int i = 0; i < each; i++) {
            box *b = &submitters[t].boxes[i];
            assert_int_equal(1, atomic_load(&b->frees));
            assert_true(b->intact_at_free);
            bool may_be_cancelled = i % 3 == 0 && i % 2;
            if (!may_be_cancelled) assert_int_equal(1, atomic_load(&b->runs));
            if (atomic_load(&b->runs)) assert_ptr_equal(b->fn_got, b->free_got);
        }
        free(submitters[t].boxes);
    }
}

static const struct CMUnitTest tests[] = {
    TEST(copies_of_any_size_are_whole_aligned_and_apart_from_the_callers),
    TEST(a_copy_lives_until_the_task_and_its_arg_free_have_ended),
    TEST(arg_size_is_zero_by_pointer_and_outside_tasks),
    TEST(arg_free_after_a_run),
    TEST(arg_free_after_a_cancel),
    TEST(arg_free_after_an_expiry),
    TEST(arg_free_after_a_drop),
    TEST(arg_free_after_a_broken_initializer),
    TEST(arg_free_after_a_task_that_ended_its_thread),
    TEST(arg_free_after_a_shutdown_that_cancels),
    TEST(arg_free_of_what_destroy_finds_queued),
    TEST(arg_free_after_a_run_by_the_caller),
    TEST(no_arg_free_and_no_future_on_a_refused_submit),
    TEST(stress_arg_free_exactly_once_whoever_submits_runs_or_cancels),
};
RUN_TESTS(tests)
