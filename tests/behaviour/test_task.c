/* Tasks: how arguments travel and are given back, what tasks raise and return, how they are asked to stop, what
   run_with_timeout leaves behind, and who hears of a failure that nobody asks for. */
#include "support.h"

#include <errno.h>
#include <limits.h>

/* ---- One argument and what became of it ---- */

/* What fn gets: by pointer the box's own, by arg_size a copy. */
typedef struct payload {
    struct box *box;
    unsigned char filler[43];
} payload;

typedef struct box {
    atomic_int runs, frees;
    void *fn_got, *free_got;
    tpool_future *future; /* set while the task cannot end, so that arg_free can look at it */
    tpool_state state_at_free;
    bool done_at_free, intact_at_run, intact_at_free;
    payload given;
} box;

static void payload_fill(payload *p, box *b) {
    p->box = b;
    for (size_t i = 0; i < sizeof p->filler; i++) p->filler[i] = (unsigned char)(i * 7 + 3);
}
static void box_init(box *b) {
    *b = (box){ .runs = 0 };
    payload_fill(&b->given, b);
}
static bool payload_intact(const payload *p) {
    for (size_t i = 0; i < sizeof p->filler; i++) {
        if (p->filler[i] != (unsigned char)(i * 7 + 3)) return false;
    }
    return true;
}

static void *box_run(void *arg) {
    payload *p = arg;
    p->box->fn_got = arg;
    p->box->intact_at_run = payload_intact(p);
    atomic_fetch_add(&p->box->runs, 1);
    return p->box;
}
static void *box_fail(void *arg) {
    box_run(arg);
    return tpool_raise(17, "as asked");
}
static void *box_exit_thread(void *arg) {
    box_run(arg);
    pthread_exit(NULL);
}
static void box_free(void *arg) {
    payload *p = arg;
    box *b = p->box;
    b->free_got = arg;
    b->intact_at_free = payload_intact(p);
    if (b->future) {
        b->state_at_free = tpool_future_state(b->future);
        b->done_at_free = tpool_future_done(b->future);
    }
    atomic_fetch_add(&b->frees, 1);
}

static tpool_task box_task(tpool_fn fn, box *b, bool copied) {
    return (tpool_task){ .fn = fn, .arg = &b->given, .arg_size = copied ? sizeof b->given : 0, .arg_free = box_free };
}

/* Submits and, if the bytes were copied, overwrites the caller's at once: nobody may look at those again. */
static tpool_status box_submit(tpool *pool, tpool_task task, tpool_future **future) {
    tpool_status status = tpool_submit_task(pool, &task, future);
    if (status == TPOOL_OK && task.arg_size > 0) memset(task.arg, 0xA5, sizeof(payload));
    return status;
}

static void check_freed_once(box *b, bool copied, bool ran) {
    assert_int_equal(ran ? 1 : 0, atomic_load(&b->runs));
    assert_int_equal(1, atomic_load(&b->frees));
    assert_true(b->intact_at_free);
    if (ran) {
        assert_true(b->intact_at_run);
        assert_ptr_equal(b->fn_got, b->free_got);
    }
    if (copied) assert_ptr_not_equal(&b->given, b->free_got);
    else assert_ptr_equal(&b->given, b->free_got);
    if (b->future) {
        assert_false(b->done_at_free);
        assert_true(b->state_at_free == TPOOL_PENDING || b->state_at_free == TPOOL_RUNNING);
    }
}

/* ---- Submitting ---- */

static void fn_gets_the_pointer_and_its_result_is_the_futures(void **unused) {
    (void)unused;
    tpool *pool = new_pool(2);
    int value = 0;
    void *result = NULL;
    tpool_future *future = submitted(pool, nothing, &value);
    assert_non_null(future);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
    assert_ptr_equal(&value, result);
    tpool_future_release(future);

    future = submitted(pool, nothing, NULL);
    result = &value;
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
    assert_null(result);
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_task_without_a_future_runs(void **unused) {
    (void)unused;
    tpool *pool = new_pool(2);
    atomic_int count = 0;
    tpool_task task = { .fn = count_up, .arg = &count };
    atomic_int *address = &count;
    assert_status(TPOOL_OK, tpool_submit(pool, count_up, &count, NULL));
    assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    assert_status(TPOOL_OK, tpool_submit_copy(pool, nothing, &address, sizeof address, NULL));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(2, atomic_load(&count));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* The task struct itself may die with the submit, whatever of it is used later. */
static void the_task_struct_is_copied(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    box b;
    box_init(&b);
    tpool_task task = box_task(box_fail, &b, false);
    task.name = "short lived";
    tpool_future *future = submitted_task(h.pool, task);
    memset(&task, 0xA5, sizeof task);
    b.future = future;
    gate_open(&h.gate);
    const tpool_error *error = NULL;
    assert_status(TPOOL_OK, tpool_future_error(future, LIMIT, &error));
    assert_string_equal("short lived", error->task);
    check_freed_once(&b, false, true);
    tpool_future_release(future);
    held_destroy(&h);
}

/* ---- Copied bytes ---- */

static const size_t sizes[] = { 1,   2,   3,   7,   8,    9,    15,   16,   17,    24,     31,      32,
                                33,  40,  47,  48,  49,   56,   63,   64,   65,    72,     96,      127,
                                128, 129, 255, 256, 1000, 4095, 4096, 4097, 65536, 100001, 1u << 20 };
#define SIZES (sizeof sizes / sizeof sizes[0])

static unsigned char pattern_at(size_t size, size_t i) { return (unsigned char)(i * 31 + (i >> 8) + size * 5 + 1); }
static unsigned char *pattern(size_t size) {
    unsigned char *bytes = malloc(size ? size : 1);
    for (size_t i = 0; i < size; i++) bytes[i] = pattern_at(size, i);
    return bytes;
}
static bool has_pattern(const unsigned char *bytes, size_t size) {
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != pattern_at(size, i)) return false;
    return true;
}

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
        box_init(&ran);
        box_init(&failed);
        void *result = NULL;
        assert_status(TPOOL_OK, box_submit(h.pool, box_task(box_run, &ran, copied), &ran.future));
        assert_status(TPOOL_OK, box_submit(h.pool, box_task(box_fail, &failed, copied), &failed.future));
        assert_int_equal(0, atomic_load(&ran.frees));
        gate_open(&h.gate);
        assert_status(TPOOL_OK, tpool_future_result(ran.future, LIMIT, &result));
        assert_ptr_equal(&ran, result);
        check_freed_once(&ran, copied, true);
        assert_status(TPOOL_FAILED, tpool_future_result(failed.future, LIMIT, NULL));
        check_freed_once(&failed, copied, true);
        tpool_future_release(ran.future);
        tpool_future_release(failed.future);
        held_destroy(&h);
        assert_int_equal(1, atomic_load(&ran.frees));
        assert_int_equal(1, atomic_load(&failed.frees));
    }
}

static void arg_free_after_a_cancel(void **unused) {
    (void)unused;
    for (int copied = 0; copied < 2; copied++) {
        held_pool h;
        held_create(&h, NULL);
        box b;
        box_init(&b);
        assert_status(TPOOL_OK, box_submit(h.pool, box_task(box_run, &b, copied), &b.future));
        assert_true(tpool_future_cancel(b.future));
        check_freed_once(&b, copied, false);
        assert_int_equal(TPOOL_PENDING, b.state_at_free);
        assert_int_equal(TPOOL_STATE_CANCELLED, tpool_future_state(b.future));
        assert_true(tpool_future_cancel(b.future));
        tpool_future_release(b.future);
        b.future = NULL;
        held_destroy(&h);
        assert_int_equal(1, atomic_load(&b.frees));
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
        assert_status(TPOOL_EXPIRED, tpool_future_result(future, LIMIT, NULL));
        check_freed_once(&b, copied, false);
        tpool_future_release(future);
        b.future = NULL;
        held_destroy(&h);
        assert_int_equal(1, atomic_load(&b.frees));
    }
}

static void arg_free_after_a_drop(void **unused) {
    (void)unused;
    for (int copied = 0; copied < 2; copied++) {
        held_pool h;
        held_create(&h, &(tpool_config){ .queue_capacity = 1, .on_full = TPOOL_FULL_DROP_OLDEST });
        box old, new;
        box_init(&old);
        box_init(&new);
        assert_status(TPOOL_OK, box_submit(h.pool, box_task(box_run, &old, copied), &old.future));
        assert_status(TPOOL_OK, box_submit(h.pool, box_task(box_run, &new, copied), &new.future));
        assert_status(TPOOL_CANCELLED, tpool_future_result(old.future, LIMIT, NULL));
        check_freed_once(&old, copied, false);
        gate_open(&h.gate);
        assert_status(TPOOL_OK, tpool_future_result(new.future, LIMIT, NULL));
        check_freed_once(&new, copied, true);
        tpool_future_release(old.future);
        tpool_future_release(new.future);
        held_destroy(&h);
        assert_int_equal(1, atomic_load(&old.frees));
        assert_int_equal(1, atomic_load(&new.frees));
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
            box_init(&boxes[i]);
            tpool_task task = box_task(box_run, &boxes[i], copied);
            assert_status(TPOOL_OK, box_submit(pool, task, &boxes[i].future));
        }
        gate_await_arrivals(&g, 1);
        gate_open(&g);
        for (int i = 0; i < TASKS; i++) {
            assert_status(TPOOL_BROKEN, tpool_future_result(boxes[i].future, LIMIT, NULL));
            check_freed_once(&boxes[i], copied, false);
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
        box_init(&b);
        assert_status(TPOOL_OK, box_submit(h.pool, box_task(box_exit_thread, &b, copied), &b.future));
        gate_open(&h.gate);
        assert_status(TPOOL_BROKEN, tpool_future_result(b.future, LIMIT, NULL));
        check_freed_once(&b, copied, true);
        tpool_future_release(b.future);
        b.future = NULL;
        held_destroy(&h);
        assert_int_equal(1, atomic_load(&b.frees));
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

        tpool_future *future = h.holder;
        assert_status(TPOOL_FULL, tpool_submit_task(h.pool, &task, &future));
        assert_null(future);
        future = h.holder;
        assert_status(TPOOL_FULL, tpool_submit(h.pool, count_up, &fillers, &future));
        assert_null(future);
        future = h.holder;
        assert_status(TPOOL_FULL, tpool_submit_copy(h.pool, nothing, &b.given, sizeof b.given, &future));
        assert_null(future);
        assert_status(TPOOL_FULL, tpool_submit_task(h.pool, &task, NULL));

        tpool_task nothing_to_run = task;
        nothing_to_run.fn = NULL;
        future = h.holder;
        assert_status(TPOOL_INVALID, tpool_submit_task(h.pool, &nothing_to_run, &future));
        assert_null(future);
        tpool_task no_bytes = task;
        no_bytes.arg = NULL;
        no_bytes.arg_size = 8;
        future = h.holder;
        assert_status(TPOOL_INVALID, tpool_submit_task(h.pool, &no_bytes, &future));
        assert_null(future);
        future = h.holder;
        assert_status(TPOOL_INVALID, tpool_submit_task(NULL, &task, &future));
        assert_null(future);

        gate_open(&h.gate);
        assert_status(TPOOL_OK, tpool_shutdown(h.pool, 0));
        future = h.holder;
        assert_status(TPOOL_SHUTDOWN, tpool_submit_task(h.pool, &task, &future));
        assert_null(future);
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

/* ---- submit_many ---- */

typedef struct order {
    atomic_int next;
} order;
typedef struct place {
    order *order;
    int at;
} place;
static void *note_place(void *arg) {
    place *p = arg;
    p->at = atomic_fetch_add(&p->order->next, 1);
    return p;
}

static void submit_many_takes_all_in_order(void **unused) {
    (void)unused;
    enum { TASKS = 100 };
    tpool *pool = new_pool(1);
    order o = { 0 };
    place places[TASKS];
    tpool_task tasks[TASKS] = { 0 };
    tpool_future *futures[TASKS] = { NULL };
    for (int i = 0; i < TASKS; i++) {
        places[i] = (place){ &o, -1 };
        tasks[i] = (tpool_task){ .fn = note_place, .arg = &places[i] };
    }
    size_t submitted = 12345;
    assert_status(TPOOL_OK, tpool_submit_many(pool, tasks, TASKS, futures, &submitted));
    assert_int_equal(TASKS, submitted);
    for (int i = 0; i < TASKS; i++) {
        void *result = NULL;
        assert_status(TPOOL_OK, tpool_future_result(futures[i], LIMIT, &result));
        assert_ptr_equal(&places[i], result);
        assert_int_equal(i, places[i].at);
        tpool_future_release(futures[i]);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void submit_many_needs_neither_futures_nor_a_count(void **unused) {
    (void)unused;
    tpool *pool = new_pool(2);
    atomic_int count = 0;
    tpool_task tasks[3] = { { .fn = count_up, .arg = &count },
                            { .fn = count_up, .arg = &count },
                            { .fn = count_up, .arg = &count } };
    size_t submitted = 12345;
    assert_status(TPOOL_OK, tpool_submit_many(pool, tasks, 3, NULL, &submitted));
    assert_int_equal(3, submitted);
    assert_status(TPOOL_OK, tpool_submit_many(pool, tasks, 3, NULL, NULL));
    tpool_future *futures[3] = { NULL };
    assert_status(TPOOL_OK, tpool_submit_many(pool, tasks, 3, futures, NULL));
    submitted = 12345;
    assert_status(TPOOL_OK, tpool_submit_many(pool, tasks, 0, futures + 3, &submitted));
    assert_int_equal(0, submitted);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(9, atomic_load(&count));
    for (int i = 0; i < 3; i++) {
        assert_true(tpool_future_done(futures[i]));
        tpool_future_release(futures[i]);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void submit_many_stops_at_the_first_that_finds_the_queue_full(void **unused) {
    (void)unused;
    for (int copied = 0; copied < 2; copied++) {
        held_pool h;
        held_create(&h, &(tpool_config){ .queue_capacity = 3, .on_full = TPOOL_FULL_REJECT });
        enum { TASKS = 5, TAKEN = 3 };
        box boxes[TASKS] = { 0 };
        tpool_task tasks[TASKS];
        tpool_future *futures[TASKS];
        for (int i = 0; i < TASKS; i++) {
            box_init(&boxes[i]);
            tasks[i] = box_task(box_run, &boxes[i], copied);
            futures[i] = h.holder;
        }
        size_t submitted = 12345;
        assert_status(TPOOL_FULL, tpool_submit_many(h.pool, tasks, TASKS, futures, &submitted));
        assert_int_equal(TAKEN, submitted);
        for (int i = 0; i < TAKEN; i++) assert_non_null(futures[i]);
        for (int i = TAKEN; i < TASKS; i++) assert_null(futures[i]);
        gate_open(&h.gate);
        for (int i = 0; i < TAKEN; i++) {
            assert_status(TPOOL_OK, tpool_future_result(futures[i], LIMIT, NULL));
            check_freed_once(&boxes[i], copied, true);
            tpool_future_release(futures[i]);
        }
        held_destroy(&h);
        for (int i = TAKEN; i < TASKS; i++) {
            assert_int_equal(0, atomic_load(&boxes[i].frees));
            assert_int_equal(0, atomic_load(&boxes[i].runs));
        }
    }
}

static void submit_many_stops_at_a_bad_task_and_at_a_shutdown(void **unused) {
    (void)unused;
    tpool *pool = new_pool(2);
    atomic_int count = 0;
    tpool_task tasks[4] = { { .fn = count_up, .arg = &count },
                            { .fn = count_up, .arg = &count },
                            { .fn = NULL, .arg = &count },
                            { .fn = count_up, .arg = &count } };
    tpool_future *futures[4] = { NULL };
    size_t submitted = 12345;
    assert_status(TPOOL_INVALID, tpool_submit_many(pool, tasks, 4, futures, &submitted));
    assert_int_equal(2, submitted);
    assert_null(futures[2]);
    assert_null(futures[3]);
    for (int i = 0; i < 2; i++) {
        assert_status(TPOOL_OK, end_of(futures[i]));
    }
    assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
    submitted = 12345;
    assert_status(TPOOL_SHUTDOWN, tpool_submit_many(pool, tasks, 2, futures, &submitted));
    assert_int_equal(0, submitted);
    assert_null(futures[0]);
    assert_null(futures[1]);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(2, atomic_load(&count));
}

static void submit_many_follows_the_policy_of_a_full_queue(void **unused) {
    (void)unused;
    enum { TASKS = 5 };
    atomic_int count = 0;
    tpool_task tasks[TASKS];
    for (int i = 0; i < TASKS; i++) tasks[i] = (tpool_task){ .fn = count_up, .arg = &count };
    tpool_future *futures[TASKS] = { NULL };
    size_t submitted = 0;
    held_pool h;

    /* One fits, the caller runs the other four. */
    held_create(&h, &(tpool_config){ .queue_capacity = 1, .on_full = TPOOL_FULL_CALLER_RUNS });
    assert_status(TPOOL_OK, tpool_submit_many(h.pool, tasks, TASKS, futures, &submitted));
    assert_int_equal(TASKS, submitted);
    assert_int_equal(TASKS - 1, atomic_load(&count));
    assert_int_equal(TPOOL_PENDING, tpool_future_state(futures[0]));
    for (int i = 1; i < TASKS; i++) assert_int_equal(TPOOL_FINISHED, tpool_future_state(futures[i]));
    held_destroy(&h);
    for (int i = 0; i < TASKS; i++) {
        assert_status(TPOOL_OK, tpool_future_result(futures[i], 0, NULL));
        tpool_future_release(futures[i]);
    }
    assert_int_equal(TASKS, atomic_load(&count));

    /* Two fit, and the newest win. */
    atomic_store(&count, 0);
    held_create(&h, &(tpool_config){ .queue_capacity = 2, .on_full = TPOOL_FULL_DROP_OLDEST });
    assert_status(TPOOL_OK, tpool_submit_many(h.pool, tasks, TASKS, futures, &submitted));
    assert_int_equal(TASKS, submitted);
    held_destroy(&h);
    for (int i = 0; i < TASKS; i++) {
        assert_status(i < TASKS - 2 ? TPOOL_CANCELLED : TPOOL_OK, tpool_future_result(futures[i], 0, NULL));
        tpool_future_release(futures[i]);
    }
    assert_int_equal(2, atomic_load(&count));
}

/* ---- raise ---- */

static void *raise_code(void *arg) {
    int code = *(int *)arg;
    return tpool_raise(code, "code %d", code);
}

static void any_code_raised_is_a_failure(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    int codes[] = { 0, 1, -1, 42, INT_MAX, INT_MIN };
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        tpool_future *future = submitted(pool, raise_code, &codes[i]);
        int junk = 0;
        void *result = &junk;
        assert_status(TPOOL_FAILED, tpool_future_result(future, LIMIT, &result));
        assert_null(result);
        const tpool_error *error = NULL;
        assert_status(TPOOL_OK, tpool_future_error(future, 0, &error));
        assert_non_null(error);
        assert_int_equal(TPOOL_FAILED, error->status);
        assert_true(error->code == codes[i]);
        char expected[32];
        snprintf(expected, sizeof expected, "code %d", codes[i]);
        assert_string_equal(expected, error->message);
        assert_string_equal(expected, tpool_future_message(future));
        assert_null(error->task);
        assert_int_equal(TPOOL_FINISHED, tpool_future_state(future));
        tpool_future_release(future);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *raise_text(void *arg) {
    /* From memory that is gone when the message is read: the message must be a copy. */
    char *text = strdup(arg);
    tpool_raise(1, "%s", text);
    memset(text, 'x', strlen(text));
    free(text);
    return NULL;
}

static void a_message_may_have_any_length(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    size_t lengths[] = {
        0, 1, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256, 511, 512, 1023, 1024, 4095, 4096, 100 * 1024
    };
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        char *text = malloc(lengths[i] + 1);
        for (size_t k = 0; k < lengths[i]; k++) text[k] = (char)('a' + (k * 7 + k / 26) % 26);
        text[lengths[i]] = 0;
        tpool_future *future = NULL;
        const tpool_error *error = NULL;
        future = submitted(pool, raise_text, text);
        assert_status(TPOOL_OK, tpool_future_error(future, LIMIT, &error));
        assert_string_equal(text, error->message);
        assert_string_equal(text, tpool_future_message(future));
        tpool_future_release(future);
        /* Nobody asks, and nothing of it stays. */
        assert_status(TPOOL_OK, tpool_submit(pool, raise_text, text, NULL));
        assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
        free(text);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

#define FORMAT "%s: %d of %zu, %.3f, %c, %% and %5d|%-5s|%lld"
#define FORMATTED "text", -7, (size_t)9, 2.5, 'q', 42, "ab", -1234567890123LL
static void *raise_formats(void *arg) {
    (void)arg;
    return tpool_raise(2, FORMAT, FORMATTED);
}

static void a_message_is_formatted_like_printf(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    tpool_future *future = submitted(pool, raise_formats, NULL);
    assert_status(TPOOL_FAILED, tpool_future_result(future, LIMIT, NULL));
    char expected[128];
    snprintf(expected, sizeof expected, FORMAT, FORMATTED);
    assert_string_equal(expected, tpool_future_message(future));
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static bool raise_gave_null;
static void *raise_twice_and_return(void *arg) {
    void *first = tpool_raise(3, "the first");
    void *second = tpool_raise(4, "the second, which is longer than the first and would not fit in its place");
    raise_gave_null = first == NULL && second == NULL;
    return arg;
}
static void *raise_and_return_bytes(void *arg) {
    tpool_raise(5, "no good");
    tpool_return("bytes", 6);
    return arg;
}
static void *return_bytes_and_raise(void *arg) {
    (void)arg;
    void *bytes = tpool_return("bytes", 6);
    tpool_raise(6, "too late");
    return bytes;
}

static void *raise_as_text(void *arg) { return tpool_raise_text(-4, arg); }
static void *raise_text_twice(void *arg) {
    tpool_raise_text(1, arg);
    tpool_raise(2, "the second");
    return tpool_raise_text(3, "the third");
}
static void check_raised(tpool *pool, tpool_fn fn, void *arg, int code, const char *message) {
    tpool_future *future = submitted_task(pool, (tpool_task){ .fn = fn, .arg = arg, .name = "raiser" });
    const tpool_error *error = NULL;
    assert_status(TPOOL_FAILED, tpool_future_result(future, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_future_error(future, LIMIT, &error));
    assert_status(TPOOL_FAILED, error->status);
    assert_status(error->status, error->cause);
    assert_int_equal(code, error->code);
    assert_string_equal(message, error->message);
    assert_string_equal("raiser", error->task);
    tpool_future_release(future);
}
static void a_text_is_raised_as_it_is(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    char text[] = "100 %d of %%, %d", longest[100001];
    memset(longest, '%', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    check_raised(pool, raise_as_text, text, -4, "100 %d of %%, %d");
    check_raised(pool, raise_as_text, longest, -4, longest);
    check_raised(pool, raise_as_text, NULL, -4, "");
    char first[] = "the first";
    check_raised(pool, raise_text_twice, first, 1, "the first");
    tpool_future *future = submitted(pool, raise_as_text, text);
    assert_status(TPOOL_FAILED, tpool_future_result(future, LIMIT, NULL));
    memset(text, 'x', sizeof text - 1); /* it is a copy */
    assert_string_equal("100 %d of %%, %d", tpool_future_message(future));
    tpool_future_release(future);
    assert_null(tpool_raise_text(1, "outside"));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void raised_twice_the_first_counts_and_raised_and_returned_it_failed(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    int value = 0;
    struct {
        tpool_fn fn;
        int code;
        const char *message;
    } cases[] = {
        { raise_twice_and_return, 3, "the first" },
        { raise_and_return_bytes, 5, "no good" },
        { return_bytes_and_raise, 6, "too late" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tpool_future *future = NULL;
        const tpool_error *error = NULL;
        void *result = &value;
        future = submitted(pool, cases[i].fn, &value);
        assert_status(TPOOL_FAILED, tpool_future_result(future, LIMIT, &result));
        assert_null(result);
        assert_int_equal(0, tpool_future_result_size(future));
        assert_status(TPOOL_OK, tpool_future_error(future, 0, &error));
        assert_int_equal(cases[i].code, error->code);
        assert_string_equal(cases[i].message, error->message);
        tpool_future_release(future);
    }
    assert_true(raise_gave_null);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void note_free(void *arg) { atomic_fetch_add((atomic_int *)arg, 1); }

static void outside_a_task_raise_and_return_do_nothing(void **unused) {
    (void)unused;
    atomic_int freed = 0;
    assert_null(tpool_raise(1, "nobody %s", "listens"));
    assert_null(tpool_return("bytes", 6));
    assert_null(tpool_return_owned(&freed, note_free));
    assert_false(tpool_stop_requested());
    assert_int_equal(0, tpool_arg_size());

    /* Nor does it reach a task that this very thread runs next. */
    held_pool h;
    held_create(&h, &(tpool_config){ .queue_capacity = 1, .on_full = TPOOL_FULL_CALLER_RUNS });
    assert_status(TPOOL_OK, tpool_submit(h.pool, nothing, NULL, NULL));
    tpool_future *future = NULL;
    void *result = NULL;
    assert_null(tpool_raise(1, "nobody listens"));
    future = submitted(h.pool, nothing, &freed);
    assert_status(TPOOL_OK, tpool_future_result(future, 0, &result));
    assert_ptr_equal(&freed, result);
    tpool_future_release(future);
    /* Nor does what a task raised here stay with the thread. */
    int code = 8;
    future = submitted(h.pool, raise_code, &code);
    assert_status(TPOOL_FAILED, tpool_future_result(future, 0, NULL));
    tpool_future_release(future);
    assert_null(tpool_return("bytes", 6));
    held_destroy(&h);
    assert_int_equal(0, atomic_load(&freed));
}

static void a_failure_does_not_reach_the_workers_next_task(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    int code = 9;
    for (int i = 0; i < 3; i++) {
        assert_status(TPOOL_OK, tpool_submit(pool, raise_code, &code, NULL));
        assert_status(TPOOL_OK, end_of(submitted(pool, nothing, &code)));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- return ---- */

typedef struct returning {
    size_t size;
    void *address; /* what tpool_return gave */
} returning;

static void *return_pattern(void *arg) {
    returning *r = arg;
    unsigned char *bytes = pattern(r->size);
    r->address = tpool_return(bytes, r->size);
    memset(bytes, 0, r->size);
    free(bytes);
    return r->address;
}

static void returned_bytes_of_any_size_are_a_copy_that_the_future_owns(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    tpool_future *futures[SIZES] = { NULL };
    returning returned[SIZES];
    for (size_t i = 0; i < SIZES; i++) {
        returned[i] = (returning){ .size = sizes[i] };
        futures[i] = submitted(pool, return_pattern, &returned[i]);
    }
    /* They outlive the pool. */
    assert_status(TPOOL_OK, tpool_destroy(pool));
    for (size_t i = 0; i < SIZES; i++) {
        void *result = NULL;
        assert_status(TPOOL_OK, tpool_future_result(futures[i], 0, &result));
        assert_non_null(result);
        assert_ptr_equal(returned[i].address, result);
        assert_int_equal(sizes[i], tpool_future_result_size(futures[i]));
        assert_true(has_pattern(result, sizes[i]));
        assert_int_equal(0, (uintptr_t)result % _Alignof(max_align_t));
        tpool_future_release(futures[i]);
    }
}

static void *return_no_bytes(void *arg) {
    tpool_return(arg, 0);
    return NULL;
}

static void no_bytes_can_be_returned(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    char here = 'x';
    char *bytes[] = { &here, NULL };
    for (int i = 0; i < 2; i++) {
        tpool_future *future = submitted(pool, return_no_bytes, bytes[i]);
        assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
        assert_int_equal(0, tpool_future_result_size(future));
        tpool_future_release(future);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *return_small_then_large(void *arg) {
    size_t *last_size = arg;
    returning small = { .size = 3 }, middle = { .size = 500 }, large = { .size = 5000 };
    return_pattern(&small);
    return_pattern(&middle);
    *last_size = large.size;
    return return_pattern(&large);
}
static void *return_large_then_small(void *arg) {
    size_t *last_size = arg;
    returning small = { .size = 3 }, large = { .size = 5000 };
    return_pattern(&large);
    *last_size = small.size;
    return return_pattern(&small);
}

static void of_several_returned_payloads_the_last_counts(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    tpool_fn both[] = { return_small_then_large, return_large_then_small };
    for (int i = 0; i < 2; i++) {
        size_t last_size = 0;
        tpool_future *future = NULL;
        void *result = NULL;
        future = submitted(pool, both[i], &last_size);
        assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
        assert_int_equal(last_size, tpool_future_result_size(future));
        assert_true(has_pattern(result, last_size));
        tpool_future_release(future);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *return_bytes_but_give_arg(void *arg) {
    tpool_return("kept all the same", 18);
    return arg;
}

static void the_result_is_what_fn_returns_whatever_payload_it_gave(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    int value = 0;
    void *result = NULL;
    tpool_future *future = submitted(pool, return_bytes_but_give_arg, &value);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
    assert_ptr_equal(&value, result);
    assert_int_equal(18, tpool_future_result_size(future));
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *return_then_wait(void *arg) {
    void *bytes = tpool_return("twelve bytes", 12);
    gate_pass(arg);
    return bytes;
}

static void result_size_is_zero_but_for_a_success_with_bytes(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    gate g = GATE_CLOSED;
    tpool_future *bytes = NULL, *plain = NULL, *cancelled = NULL;
    bytes = submitted(h.pool, return_then_wait, &g);
    plain = submitted(h.pool, nothing, &g);
    cancelled = submitted(h.pool, nothing, &g);
    assert_int_equal(0, tpool_future_result_size(bytes));
    assert_true(tpool_future_cancel(cancelled));
    assert_int_equal(0, tpool_future_result_size(cancelled));
    gate_open(&h.gate);
    gate_await_arrivals(&g, 1);
    assert_int_equal(TPOOL_RUNNING, tpool_future_state(bytes));
    assert_int_equal(0, tpool_future_result_size(bytes));
    gate_open(&g);
    assert_status(TPOOL_OK, tpool_future_result(bytes, LIMIT, NULL));
    assert_int_equal(12, tpool_future_result_size(bytes));
    assert_status(TPOOL_OK, tpool_future_result(plain, LIMIT, NULL));
    assert_int_equal(0, tpool_future_result_size(plain));
    tpool_future_release(bytes);
    tpool_future_release(plain);
    tpool_future_release(cancelled);
    held_destroy(&h);
}

static void *return_owned(void *arg) { return tpool_return_owned(arg, note_free); }
static void *return_owned_at_gate(void *arg) {
    void **both = arg; /* what is owned, and the gate */
    tpool_return_owned(both[0], note_free);
    gate_pass(both[1]);
    return both[0];
}

static void an_owned_result_is_freed_once_with_the_last_reference(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    atomic_int freed = 0;
    tpool_future *future = NULL;
    void *result = NULL;
    future = submitted(pool, return_owned, &freed);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
    assert_ptr_equal(&freed, result);
    assert_int_equal(0, tpool_future_result_size(future));
    assert_ptr_equal(future, tpool_future_retain(future));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    tpool_future_release(future);
    assert_int_equal(0, atomic_load(&freed));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(0, atomic_load(&freed));
    tpool_future_release(future);
    assert_int_equal(1, atomic_load(&freed));
}

static void an_owned_result_that_nobody_asks_for_is_freed_once(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    atomic_int never_asked = 0, given_up = 0;
    assert_status(TPOOL_OK, tpool_submit(pool, return_owned, &never_asked, NULL));
    gate g = GATE_CLOSED;
    void *both[] = { &given_up, &g };
    tpool_future *future = submitted(pool, return_owned_at_gate, both);
    gate_await_arrivals(&g, 1);
    tpool_future_release(future);
    assert_int_equal(0, atomic_load(&given_up));
    gate_open(&g);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(1, atomic_load(&never_asked));
    assert_int_equal(1, atomic_load(&given_up));
}

typedef struct three_owned {
    atomic_int first, second, third;
    int first_after_second, second_after_bytes, third_at_end;
} three_owned;

static void *return_owned_over_and_over(void *arg) {
    three_owned *o = arg;
    tpool_return_owned(&o->first, note_free);
    tpool_return_owned(&o->second, note_free);
    o->first_after_second = atomic_load(&o->first);
    tpool_return("bytes", 6);
    o->second_after_bytes = atomic_load(&o->second);
    tpool_return_owned(&o->third, note_free);
    o->third_at_end = atomic_load(&o->third);
    return &o->third;
}

static void an_earlier_owned_result_is_freed_at_once(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    three_owned o = { 0 };
    tpool_future *future = NULL;
    void *result = NULL;
    future = submitted(pool, return_owned_over_and_over, &o);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
    assert_ptr_equal(&o.third, result);
    assert_int_equal(0, tpool_future_result_size(future));
    assert_int_equal(1, o.first_after_second);
    assert_int_equal(1, o.second_after_bytes);
    assert_int_equal(0, o.third_at_end);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(0, atomic_load(&o.third));
    tpool_future_release(future);
    assert_int_equal(1, atomic_load(&o.first));
    assert_int_equal(1, atomic_load(&o.second));
    assert_int_equal(1, atomic_load(&o.third));
}

static void *return_owned_then_raise(void *arg) {
    void *owned = tpool_return_owned(arg, note_free);
    tpool_raise(1, "after all");
    return owned;
}
static void *raise_then_return_owned(void *arg) {
    tpool_raise(1, "before");
    tpool_return_owned(arg, note_free);
    return NULL;
}
static void *return_owned_then_end_thread(void *arg) {
    tpool_return_owned(arg, note_free);
    pthread_exit(NULL);
}
static void *return_bytes_then_end_thread(void *arg) {
    (void)arg;
    returning large = { .size = 5000 };
    return_pattern(&large); /* a leak if it is not freed */
    pthread_exit(NULL);
}

static void on_failure_an_owned_result_is_freed_before_the_last_reference(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    struct {
        tpool_fn fn;
        tpool_status end;
        int freed;
    } cases[] = {
        { return_owned_then_raise, TPOOL_FAILED, 1 },
        { raise_then_return_owned, TPOOL_FAILED, 1 },
        { return_owned_then_end_thread, TPOOL_BROKEN, 1 },
        { return_bytes_then_end_thread, TPOOL_BROKEN, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        atomic_int freed = 0;
        tpool_future *future = NULL;
        void *result = &freed;
        future = submitted(pool, cases[i].fn, &freed);
        assert_status(cases[i].end, tpool_future_result(future, LIMIT, &result));
        assert_null(result);
        assert_int_equal(0, tpool_future_result_size(future));
        assert_int_equal(cases[i].freed, atomic_load(&freed));
        tpool_future_release(future);
        assert_int_equal(cases[i].freed, atomic_load(&freed));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- Tasks within tasks: raise, return, arg_size and stop_requested speak of the innermost ---- */

typedef struct nest {
    tpool *pool;
    gate asked_to_stop;
    pthread_t outer_thread, inner_thread;
    tpool_status inner_submit, inner_end;
    bool outer_stop_before, inner_stop, outer_stop_after;
    size_t outer_size_before, inner_size, outer_size_after;
} nest;

static void *inner_task(void *arg) {
    nest *n = *(nest **)(void *)((char *)arg + 8);
    n->inner_thread = pthread_self();
    n->inner_stop = tpool_stop_requested();
    n->inner_size = tpool_arg_size();
    tpool_return("inner", 6);
    return tpool_raise(31, "the inner one failed");
}
static void *outer_task(void *arg) {
    nest *n = *(nest **)arg;
    n->outer_thread = pthread_self();
    gate_pass(&n->asked_to_stop);
    n->outer_stop_before = tpool_stop_requested();
    n->outer_size_before = tpool_arg_size();
    void *bytes = tpool_return("outer", 6);
    struct {
        char pad[8];
        nest *nest;
    } inner_arg = { "", n };
    tpool_future *inner = NULL;
    n->inner_submit = tpool_submit_copy(n->pool, inner_task, &inner_arg, sizeof inner_arg, &inner);
    n->inner_end = tpool_future_result(inner, TPOOL_FOREVER, NULL);
    tpool_future_release(inner);
    n->outer_stop_after = tpool_stop_requested();
    n->outer_size_after = tpool_arg_size();
    return bytes;
}

static void a_task_run_in_place_by_another_has_its_own_error_result_size_and_stop(void **unused) {
    (void)unused;
    nest n = { .pool = new_pool(1), .asked_to_stop = GATE_CLOSED, .inner_stop = true };
    nest *address = &n;
    tpool_future *future = NULL;
    void *result = NULL;
    assert_status(TPOOL_OK, tpool_submit_copy(n.pool, outer_task, &address, sizeof address, &future));
    gate_await_arrivals(&n.asked_to_stop, 1);
    tpool_future_request_stop(future);
    gate_open(&n.asked_to_stop);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
    assert_string_equal("outer", result);
    assert_int_equal(6, tpool_future_result_size(future));
    assert_status(TPOOL_OK, n.inner_submit);
    assert_status(TPOOL_FAILED, n.inner_end);
    assert_true(pthread_equal(n.outer_thread, n.inner_thread));
    assert_true(n.outer_stop_before);
    assert_false(n.inner_stop);
    assert_true(n.outer_stop_after);
    assert_int_equal(sizeof address, n.outer_size_before);
    assert_int_equal(8 + sizeof address, n.inner_size);
    assert_int_equal(sizeof address, n.outer_size_after);
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(n.pool));
}

static void *job_raises(void *arg) {
    (void)arg;
    return tpool_raise(41, "raised in a job");
}
static void *fork_and_join(void *arg) {
    tpool_job job;
    tpool_fork(&job, job_raises, NULL);
    tpool_join(&job);
    return arg;
}
static void body_raises(size_t begin, size_t end, void *context) {
    (void)context;
    for (size_t i = begin; i < end; i++)
        if (i == 5) tpool_raise(42, "raised at %zu", i);
}
static void *loop_over(void *arg) {
    tpool_status *status = arg;
    *status = tpool_for(tpool_current(), 0, 100, 1, body_raises, NULL);
    return arg;
}

static void what_a_job_or_a_loop_body_raises_is_the_error_of_the_task_around_it(void **unused) {
    (void)unused;
    for (int workers = 1; workers <= 2; workers++) {
        tpool *pool = new_pool(workers);
        tpool_future *future = NULL;
        const tpool_error *error = NULL;
        tpool_status loop_status = TPOOL_OK;
        future = submitted(pool, fork_and_join, &loop_status);
        assert_status(TPOOL_OK, tpool_future_error(future, LIMIT, &error));
        assert_non_null(error);
        assert_int_equal(41, error->code);
        assert_string_equal("raised in a job", error->message);
        tpool_future_release(future);

        future = submitted(pool, loop_over, &loop_status);
        assert_status(TPOOL_OK, tpool_future_error(future, LIMIT, &error));
        assert_status(TPOOL_FAILED, loop_status);
        assert_non_null(error);
        assert_int_equal(42, error->code);
        assert_string_equal("raised at 5", error->message);
        tpool_future_release(future);

        /* Without a task around it the error is the loop's alone. */
        assert_status(TPOOL_FAILED, tpool_for(pool, 0, 100, 1, body_raises, NULL));
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

/* ---- Asking to stop ---- */

/* Runs until it is asked to stop, or fails the test by telling that it was not. */
typedef struct stoppable {
    gate *started;
    int64_t stopped_at; /* 0: never asked */
} stoppable;

static void *run_until_stopped(void *arg) {
    stoppable *s = arg;
    int64_t end = tpool_now() + LIMIT;
    s->stopped_at = 0;
    if (s->started) gate_pass(s->started);
    while (tpool_now() < end) {
        if (tpool_stop_requested()) {
            s->stopped_at = tpool_now();
            break;
        }
        sleep_ms(1);
    }
    return arg;
}
static void *tell_stop(void *arg) {
    *(bool *)arg = tpool_stop_requested();
    return arg;
}

static void request_stop_reaches_the_running_task_and_only_it(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    gate started = GATE_CLOSED;
    stoppable s = { .started = &started };
    bool next_stopped = true;
    tpool_future *future = NULL, *next = NULL;
    future = submitted(pool, run_until_stopped, &s);
    next = submitted(pool, tell_stop, &next_stopped);
    gate_await_arrivals(&started, 1);
    gate_open(&started);
    tpool_future_request_stop(future);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, NULL)); /* to stop early is no failure */
    assert_true(s.stopped_at > 0);
    assert_status(TPOOL_OK, tpool_future_result(next, LIMIT, NULL));
    assert_false(next_stopped);
    tpool_future_request_stop(next); /* done: it does not care */
    assert_status(TPOOL_OK, tpool_future_result(next, 0, NULL));
    tpool_future_release(future);
    tpool_future_release(next);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_stop_asked_of_a_queued_task_is_seen_when_it_runs(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    bool first_stopped = false, second_stopped = true;
    tpool_future *first = NULL, *second = NULL;
    first = submitted(h.pool, tell_stop, &first_stopped);
    second = submitted(h.pool, tell_stop, &second_stopped);
    tpool_future_request_stop(first);
    assert_int_equal(TPOOL_PENDING, tpool_future_state(first));
    gate_open(&h.gate);
    assert_status(TPOOL_OK, tpool_future_result(first, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_future_result(second, LIMIT, NULL));
    assert_true(first_stopped);
    assert_false(second_stopped);
    tpool_future_release(first);
    tpool_future_release(second);
    held_destroy(&h);
}

static atomic_int parts_told, parts_not_told;
static void *job_tells_stop(void *arg) {
    atomic_fetch_add(tpool_stop_requested() ? &parts_told : &parts_not_told, 1);
    return arg;
}
static void body_tells_stop(size_t begin, size_t end, void *context) {
    for (size_t i = begin; i < end; i++) job_tells_stop(context);
}
static void *pass_stop_on(void *arg) {
    run_until_stopped(arg);
    tpool_job job;
    tpool_fork(&job, job_tells_stop, NULL);
    tpool_join(&job);
    tpool_status looped = tpool_for(tpool_current(), 0, 50, 1, body_tells_stop, NULL);
    if (looped != TPOOL_OK) atomic_fetch_add(&parts_not_told, 1);
    return arg;
}

static void jobs_and_loop_bodies_inherit_the_stop(void **unused) {
    (void)unused;
    tpool *pool = new_pool(2);
    stoppable s = { 0 };
    tpool_future *future = NULL;
    atomic_store(&parts_told, 0);
    atomic_store(&parts_not_told, 0);
    future = submitted(pool, pass_stop_on, &s);
    tpool_future_request_stop(future);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
    assert_int_equal(51, atomic_load(&parts_told));
    assert_int_equal(0, atomic_load(&parts_not_told));
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void run_limit_asks_the_task_to_stop(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    stoppable s = { 0 };
    bool next_stopped = true;
    tpool_task limited = { .fn = run_until_stopped, .arg = &s, .run_limit_ns = TPOOL_MS(30) };
    for (int round = 0; round < 2; round++) {
        /* The worker's next task has no limit, and inherits none. */
        int64_t begin = tpool_now();
        assert_status(TPOOL_OK, tpool_submit_task(pool, &limited, NULL));
        tpool_future *next = submitted(pool, tell_stop, &next_stopped);
        assert_status(TPOOL_OK, tpool_future_result(next, LIMIT, NULL));
        assert_true(s.stopped_at - begin >= TPOOL_MS(30));
        assert_false(next_stopped);
        tpool_future_release(next);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void run_limit_counts_from_the_start_and_not_from_the_submit(void **unused) {
    (void)unused;
    /* The first thing the task does is to look. That it loses the processor for the whole limit just there is
       possible, three times in a row it is not. */
    bool stopped = true;
    for (int attempt = 0; attempt < 3 && stopped; attempt++) {
        held_pool h;
        held_create(&h, NULL);
        tpool_task task = { .fn = tell_stop, .arg = &stopped, .run_limit_ns = TPOOL_MS(100) };
        assert_status(TPOOL_OK, tpool_submit_task(h.pool, &task, NULL));
        sleep_ms(120);
        held_destroy(&h);
    }
    assert_false(stopped);
}

static void shutdown_can_ask_what_runs_to_stop(void **unused) {
    (void)unused;
    tpool *pool = new_pool(2);
    gate started = GATE_CLOSED;
    stoppable both[2] = { { .started = &started }, { .started = &started } };
    tpool_future *futures[2] = { NULL };
    for (int i = 0; i < 2; i++) {
        futures[i] = submitted(pool, run_until_stopped, &both[i]);
    }
    gate_await_arrivals(&started, 2);
    gate_open(&started);
    assert_status(TPOOL_OK, tpool_shutdown(pool, 0)); /* without the flag they go on; it can be added */
    sleep_ms(20);
    assert_true(tpool_future_running(futures[0]) && tpool_future_running(futures[1]));
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_STOP_RUNNING | TPOOL_WAIT));
    for (int i = 0; i < 2; i++) {
        assert_status(TPOOL_OK, tpool_future_result(futures[i], 0, NULL));
        assert_true(both[i].stopped_at > 0);
        tpool_future_release(futures[i]);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- run_with_timeout ---- */

static void run_with_timeout_gives_the_tasks_own_end(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    int value = 0, code = 12;
    int64_t limits[] = { LIMIT, TPOOL_FOREVER };
    for (int i = 0; i < 2; i++) {
        tpool_task good = { .fn = nothing, .arg = &value }, bad = { .fn = raise_code, .arg = &code };
        tpool_future *future = NULL;
        void *result = NULL;
        assert_status(TPOOL_OK, tpool_run_with_timeout(pool, &good, limits[i], &future));
        assert_status(TPOOL_OK, tpool_future_result(future, 0, &result));
        assert_ptr_equal(&value, result);
        tpool_future_release(future);
        assert_status(TPOOL_OK, tpool_run_with_timeout(pool, &good, limits[i], NULL));

        future = NULL;
        assert_status(TPOOL_FAILED, tpool_run_with_timeout(pool, &bad, limits[i], &future));
        assert_string_equal("code 12", tpool_future_message(future));
        tpool_future_release(future);
        assert_status(TPOOL_FAILED, tpool_run_with_timeout(pool, &bad, limits[i], NULL));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void run_with_timeout_tells_of_expiry(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    box b;
    box_init(&b);
    tpool_task task = box_task(box_run, &b, false);
    task.expires_ns = TPOOL_MS(5);
    tpool_future *future = NULL;
    assert_status(TPOOL_EXPIRED, tpool_run_with_timeout(h.pool, &task, LIMIT, &future));
    assert_status(TPOOL_EXPIRED, tpool_future_result(future, 0, NULL));
    tpool_future_release(future);
    held_destroy(&h);
    check_freed_once(&b, false, false);
}

static void *cancel_what_is_queued(void *arg) {
    tpool *pool = arg;
    tpool_stats stats = { 0 };
    int64_t end = tpool_now() + LIMIT;
    while (tpool_now() < end && !(tpool_get_stats(pool, &stats) == TPOOL_OK && stats.queued == 1)) sleep_ms(1);
    tpool_shutdown(pool, TPOOL_CANCEL_PENDING);
    return NULL;
}

static void run_with_timeout_tells_of_a_cancel(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    pthread_t canceller;
    assert_int_equal(0, pthread_create(&canceller, NULL, cancel_what_is_queued, h.pool));
    tpool_task task = { .fn = nothing };
    tpool_future *future = NULL;
    assert_status(TPOOL_CANCELLED, tpool_run_with_timeout(h.pool, &task, 2 * LIMIT, &future));
    assert_true(tpool_future_cancelled(future));
    tpool_future_release(future);
    pthread_join(canceller, NULL);
    held_destroy(&h);
}

static void run_with_timeout_cancels_a_task_still_queued(void **unused) {
    (void)unused;
    int64_t limits[] = { TPOOL_MS(20), TPOOL_US(1), 0, -1, INT64_MIN };
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        for (int copied = 0; copied < 2; copied++) {
            held_pool h;
            held_create(&h, NULL);
            box asked, alone;
            box_init(&asked);
            box_init(&alone);
            tpool_task task = box_task(box_run, &asked, copied);
            int64_t begin = tpool_now();
            tpool_future *future = NULL;
            assert_status(TPOOL_TIMEOUT, tpool_run_with_timeout(h.pool, &task, limits[i], &future));
            assert_true(tpool_now() - begin >= limits[i]);
            assert_non_null(future);
            assert_status(TPOOL_CANCELLED, tpool_future_result(future, 0, NULL));
            check_freed_once(&asked, copied, false);
            tpool_future_release(future);

            task = box_task(box_run, &alone, copied);
            assert_status(TPOOL_TIMEOUT, tpool_run_with_timeout(h.pool, &task, limits[i], NULL));
            check_freed_once(&alone, copied, false);
            held_destroy(&h);
            assert_int_equal(1, atomic_load(&asked.frees));
            assert_int_equal(1, atomic_load(&alone.frees));
        }
    }
}

/* A task that goes on until it is asked to stop, and then until its gate opens, using its copied argument. */
typedef struct lasting {
    payload payload;
    atomic_int *started;
    atomic_int *stop_seen;
    gate *gate;
} lasting;

static void *last_beyond_the_stop(void *arg) {
    lasting *l = arg;
    atomic_fetch_add(l->started, 1);
    int64_t end = tpool_now() + LIMIT;
    while (!tpool_stop_requested() && tpool_now() < end) sleep_ms(1);
    if (tpool_stop_requested()) atomic_store(l->stop_seen, 1);
    gate_pass(l->gate);
    return box_run(&l->payload);
}

static void run_with_timeout_asks_a_running_task_to_stop_and_leaves_it(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 1));
    atomic_int started = 0;
    int64_t limit = TPOOL_MS(20);
    /* A busy machine may not start it in time; then it is cancelled, which is not what this test is about. */
    for (int attempt = 0;; attempt++, limit *= 2) {
        assert_true(attempt < 10);
        gate g = GATE_CLOSED;
        atomic_int stop_seen = 0;
        box b = { 0 };
        lasting given = { .started = &started, .stop_seen = &stop_seen, .gate = &g };
        payload_fill(&given.payload, &b);
        tpool_task task = { .fn = last_beyond_the_stop, .arg = &given, .arg_size = sizeof given, .arg_free = box_free };
        tpool_future *future = NULL;
        assert_status(TPOOL_TIMEOUT, tpool_run_with_timeout(pool, &task, limit, &future));
        memset(&given, 0xA5, sizeof given);
        assert_non_null(future);
        if (tpool_future_cancelled(future)) {
            tpool_future_release(future);
            continue;
        }
        gate_await_arrivals(&g, 1); /* it has seen the stop, or has been patient in vain */
        assert_int_equal(1, atomic_load(&stop_seen));
        assert_int_equal(TPOOL_RUNNING, tpool_future_state(future));
        assert_int_equal(0, atomic_load(&b.frees));
        gate_open(&g);
        void *result = NULL;
        assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
        assert_ptr_equal(&b, result);
        assert_true(b.intact_at_run && b.intact_at_free);
        assert_int_equal(1, atomic_load(&b.frees));
        tpool_future_release(future);
        break;
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(1, atomic_load(&started));
}

static void *take_a_while(void *arg) {
    sleep_ms(30);
    return arg;
}

static void run_with_timeout_of_a_task_that_has_ended_when_it_is_stopped_gives_its_end(void **unused) {
    (void)unused;
    /* Run by the caller, the task takes longer than the limit and has ended before anyone could stop it. */
    held_pool h;
    held_create(&h, &(tpool_config){ .queue_capacity = 1, .on_full = TPOOL_FULL_CALLER_RUNS });
    assert_status(TPOOL_OK, tpool_submit(h.pool, nothing, NULL, NULL));
    int value = 0;
    tpool_task task = { .fn = take_a_while, .arg = &value };
    tpool_future *future = NULL;
    void *result = NULL;
    assert_status(TPOOL_OK, tpool_run_with_timeout(h.pool, &task, TPOOL_MS(2), &future));
    assert_status(TPOOL_OK, tpool_future_result(future, 0, &result));
    assert_ptr_equal(&value, result);
    tpool_future_release(future);
    held_destroy(&h);
}

/* The task ends at about the time limit: whichever came first, the answer and the future agree. The limit grows
   when it was too short and shrinks when it was long enough, so that it stays where both happen. */
static void stress_run_with_timeout_agrees_with_its_future(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    int rounds = COUNT(1000), in_time = 0, late = 0;
    int64_t limit = TPOOL_US(50), begin = tpool_now();
    for (int i = 0; i < rounds; i++) {
        /* Enough of it: on a busy machine its rounds may last long. */
        if (in_time > 0 && late > 0 && tpool_now() - begin > TPOOL_MS(700)) break;
        /* On one CPU the worker may be through before its waker goes on, however short the limit. */
        if (i % 20 == 19) assert_status(TPOOL_OK, tpool_submit(pool, take_a_while, NULL, NULL));
        box b;
        box_init(&b);
        tpool_task task = box_task(box_run, &b, true);
        tpool_future *future = NULL;
        tpool_status status = tpool_run_with_timeout(pool, &task, limit, &future);
        assert_non_null(future);
        if (status == TPOOL_OK) {
            in_time++;
            limit /= 2;
            assert_status(TPOOL_OK, tpool_future_result(future, 0, NULL));
            assert_int_equal(1, atomic_load(&b.runs));
        } else {
            assert_status(TPOOL_TIMEOUT, status);
            late++;
            limit = limit * 2 + 500;
            tpool_status end = tpool_future_result(future, LIMIT, NULL);
            assert_true(end == TPOOL_OK || end == TPOOL_CANCELLED);
            assert_int_equal(end == TPOOL_OK, atomic_load(&b.runs));
        }
        assert_int_equal(1, atomic_load(&b.frees));
        tpool_future_release(future);
    }
    print_message("%d in time, %d late\n", in_time, late);
    assert_true(in_time > 0 && late > 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void run_with_timeout_takes_nothing_while_the_queue_stays_full(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, &(tpool_config){ .queue_capacity = 1, .on_full = TPOOL_FULL_BLOCK });
    atomic_int fillers = 0;
    assert_status(TPOOL_OK, tpool_submit(h.pool, count_up, &fillers, NULL));
    int64_t limits[] = { TPOOL_MS(20), 0, -1 };
    box b;
    box_init(&b);
    tpool_task task = box_task(box_run, &b, true);
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        tpool_future *future = h.holder;
        int64_t begin = tpool_now();
        assert_status(TPOOL_TIMEOUT, tpool_run_with_timeout(h.pool, &task, limits[i], &future));
        assert_true(tpool_now() - begin >= limits[i]);
        assert_null(future);
        assert_status(TPOOL_TIMEOUT, tpool_run_with_timeout(h.pool, &task, limits[i], NULL));
    }
    held_destroy(&h);
    assert_int_equal(0, atomic_load(&b.frees));
    assert_int_equal(0, atomic_load(&b.runs));
    assert_int_equal(1, atomic_load(&fillers));
}

static void run_with_timeout_tells_why_a_task_was_not_taken(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, &(tpool_config){ .queue_capacity = 1, .on_full = TPOOL_FULL_REJECT });
    assert_status(TPOOL_OK, tpool_submit(h.pool, nothing, NULL, NULL));
    box b;
    box_init(&b);
    tpool_task task = box_task(box_run, &b, true), nothing = { .fn = NULL };
    tpool_future *future = h.holder;
    assert_status(TPOOL_FULL, tpool_run_with_timeout(h.pool, &task, LIMIT, &future));
    assert_null(future);
    future = h.holder;
    assert_status(TPOOL_INVALID, tpool_run_with_timeout(h.pool, &nothing, LIMIT, &future));
    assert_null(future);
    future = h.holder;
    assert_status(TPOOL_INVALID, tpool_run_with_timeout(h.pool, NULL, LIMIT, &future));
    assert_null(future);
    assert_status(TPOOL_OK, tpool_shutdown(h.pool, 0));
    future = h.holder;
    assert_status(TPOOL_SHUTDOWN, tpool_run_with_timeout(h.pool, &task, LIMIT, &future));
    assert_null(future);
    held_destroy(&h);
    assert_int_equal(0, atomic_load(&b.frees));
}

static void *tell_pool(void *arg) {
    (void)arg;
    return tpool_current();
}

static void run_with_timeout_without_a_pool_means_the_low_level_pool(void **unused) {
    (void)unused;
    tpool_task task = { .fn = tell_pool };
    tpool_future *future = NULL;
    void *where = NULL;
    assert_status(TPOOL_OK, tpool_run_with_timeout(NULL, &task, LIMIT, &future));
    assert_status(TPOOL_OK, tpool_future_result(future, 0, &where));
    assert_non_null(where);
    assert_ptr_equal(tpool_low_level(), where);
    tpool_future_release(future);
}

/* ---- Names ---- */

static void errors_carry_the_tasks_name(void **unused) {
    (void)unused;
    enum { FAILS, EXPIRES, IS_CANCELLED, IS_DROPPED, BREAKS, NAMELESS, TASKS };
    held_pool h;
    held_create(&h, &(tpool_config){ .queue_capacity = 5, .on_full = TPOOL_FULL_DROP_OLDEST });
    int code = 1;
    atomic_int freed = 0;
    tpool_task tasks[TASKS] = {
        [IS_DROPPED] = { .fn = nothing, .name = "is dropped" },
        [FAILS] = { .fn = raise_code, .arg = &code, .name = "fails" },
        [EXPIRES] = { .fn = nothing, .name = "expires", .expires_ns = TPOOL_MS(50) },
        [IS_CANCELLED] = { .fn = nothing, .name = "is cancelled" },
        [BREAKS] = { .fn = return_owned_then_end_thread, .arg = &freed, .name = "breaks" },
        [NAMELESS] = { .fn = raise_code, .arg = &code },
    };
    tpool_status ends[TASKS] = {
        [IS_DROPPED] = TPOOL_CANCELLED,   [FAILS] = TPOOL_FAILED,  [EXPIRES] = TPOOL_EXPIRED,
        [IS_CANCELLED] = TPOOL_CANCELLED, [BREAKS] = TPOOL_BROKEN, [NAMELESS] = TPOOL_FAILED,
    };
    tpool_future *futures[TASKS] = { NULL };
    /* The oldest, for which there is no room in the end. */
    futures[IS_DROPPED] = submitted_task(h.pool, tasks[IS_DROPPED]);
    for (int i = 0; i < TASKS; i++) {
        if (i != IS_DROPPED) assert_status(TPOOL_OK, tpool_submit_task(h.pool, &tasks[i], &futures[i]));
    }
    assert_true(tpool_future_cancel(futures[IS_CANCELLED]));
    assert_status(TPOOL_EXPIRED, tpool_future_result(futures[EXPIRES], LIMIT, NULL));
    held_destroy(&h);
    for (int i = 0; i < TASKS; i++) {
        const tpool_error *error = NULL;
        tpool_status asked = ends[i] == TPOOL_CANCELLED ? TPOOL_CANCELLED : TPOOL_OK;
        assert_status(asked, tpool_future_error(futures[i], 0, &error));
        assert_non_null(error);
        assert_status(ends[i], error->status);
        assert_status(error->status, error->cause);
        assert_non_null(error->message);
        if (i == NAMELESS) {
            assert_null(error->task);
        } else {
            assert_non_null(error->task);
            assert_string_equal(tasks[i].name, error->task);
        }
        tpool_future_release(futures[i]);
    }
}

/* ---- on_failure ---- */

typedef struct failures {
    gate *gate; /* the initializer waits here, if there is one */
    atomic_int count;
    tpool_status status;
    int code;
    char message[64], task[64];
    pthread_t thread;
} failures;

static void note_failure(const tpool_error *error, void *context) {
    failures *f = context;
    f->status = error->status;
    f->code = error->code;
    snprintf(f->message, sizeof f->message, "%s", error->message);
    snprintf(f->task, sizeof f->task, "%s", error->task ? error->task : "(none)");
    f->thread = pthread_self();
    atomic_fetch_add(&f->count, 1);
}

static void on_failure_hears_of_a_failure_that_nobody_can_ask_for(void **unused) {
    (void)unused;
    failures f = { 0 };
    held_pool h;
    held_create(&h, &(tpool_config){ .on_failure = note_failure, .context = &f });
    int code = 77;
    tpool_task task = { .fn = raise_code, .arg = &code, .name = "unwatched" };
    assert_status(TPOOL_OK, tpool_submit_task(h.pool, &task, NULL));
    held_destroy(&h);
    assert_int_equal(1, atomic_load(&f.count));
    assert_status(TPOOL_FAILED, f.status);
    assert_int_equal(77, f.code);
    assert_string_equal("code 77", f.message);
    assert_string_equal("unwatched", f.task);
    assert_false(pthread_equal(pthread_self(), f.thread));
}

static void on_failure_hears_of_a_future_given_up_before_the_end(void **unused) {
    (void)unused;
    failures f = { 0 };
    held_pool h;
    held_create(&h, &(tpool_config){ .on_failure = note_failure, .context = &f });
    int code = 78;
    tpool_future *given_up = NULL, *kept = NULL;
    given_up = submitted(h.pool, raise_code, &code);
    kept = submitted(h.pool, raise_code, &code);
    tpool_future_retain(kept);
    tpool_future_release(given_up);
    tpool_future_release(kept); /* one of two references: somebody still holds it */
    held_destroy(&h);
    assert_int_equal(1, atomic_load(&f.count));
    assert_string_equal("code 78", f.message);
    assert_string_equal("(none)", f.task);
    tpool_future_release(kept);
    assert_int_equal(1, atomic_load(&f.count));
}

static void on_failure_is_silent_about_the_rest(void **unused) {
    (void)unused;
    failures f = { 0 };
    held_pool h;
    held_create(
        &h, &(tpool_config){
                .on_failure = note_failure, .context = &f, .queue_capacity = 3, .on_full = TPOOL_FULL_DROP_OLDEST });
    int code = 79;
    tpool_future *asked = NULL, *cancelled = NULL;
    assert_status(TPOOL_OK, tpool_submit(h.pool, raise_code, &code, NULL)); /* is dropped, by the fourth */
    assert_status(TPOOL_OK, tpool_submit(h.pool, raise_code, &code, NULL));
    asked = submitted(h.pool, raise_code, &code);
    cancelled = submitted(h.pool, raise_code, &code);
    assert_true(tpool_future_cancel(cancelled));
    tpool_future_release(cancelled);
    assert_status(TPOOL_OK, tpool_shutdown(h.pool, TPOOL_CANCEL_PENDING)); /* cancels the other two */
    held_destroy(&h);
    assert_status(TPOOL_CANCELLED, tpool_future_result(asked, 0, NULL));
    tpool_future_release(asked);
    assert_int_equal(0, atomic_load(&f.count));

    held_create(&h, &(tpool_config){ .on_failure = note_failure, .context = &f });
    assert_status(TPOOL_OK, tpool_submit(h.pool, nothing, NULL, NULL));
    asked = submitted(h.pool, raise_code, &code);
    held_destroy(&h);
    assert_status(TPOOL_FAILED, tpool_future_result(asked, 0, NULL));
    tpool_future_release(asked);
    assert_int_equal(0, atomic_load(&f.count));
}

static void on_failure_hears_of_expiry_and_of_broken_workers(void **unused) {
    (void)unused;
    failures f = { 0 };
    held_pool h;
    held_create(&h, &(tpool_config){ .on_failure = note_failure, .context = &f });
    tpool_task expires = { .fn = nothing, .name = "expires", .expires_ns = TPOOL_US(1) };
    assert_status(TPOOL_OK, tpool_submit_task(h.pool, &expires, NULL));
    sleep_ms(2);
    held_destroy(&h);
    assert_int_equal(1, atomic_load(&f.count));
    assert_status(TPOOL_EXPIRED, f.status);
    assert_string_equal("expires", f.task);
    assert_true(strlen(f.message) > 0);

    f = (failures){ 0 };
    held_create(&h, &(tpool_config){ .on_failure = note_failure, .context = &f });
    atomic_int owned = 0;
    tpool_task ends_thread = { .fn = return_owned_then_end_thread, .arg = &owned, .name = "ends its thread" };
    assert_status(TPOOL_OK, tpool_submit_task(h.pool, &ends_thread, NULL));
    held_destroy(&h);
    assert_int_equal(1, atomic_load(&f.count));
    assert_status(TPOOL_BROKEN, f.status);
    assert_string_equal("ends its thread", f.task);
    assert_int_equal(1, atomic_load(&owned));
}

static bool pass_failures_gate_and_fail(void *context) {
    gate_pass(((failures *)context)->gate);
    return false;
}

static void on_failure_hears_of_what_a_broken_initializer_left(void **unused) {
    (void)unused;
    gate g = GATE_CLOSED;
    failures f = { .gate = &g };
    tpool_config config = {
        .max_workers = 1, .initializer = pass_failures_gate_and_fail, .context = &f, .on_failure = note_failure
    };
    tpool *pool = new_pool_as(config);
    tpool_future *asked = NULL;
    tpool_task unasked = { .fn = nothing, .name = "never ran" };
    assert_status(TPOOL_OK, tpool_submit_task(pool, &unasked, NULL));
    asked = submitted(pool, nothing, NULL);
    gate_await_arrivals(&g, 1);
    gate_open(&g);
    assert_status(TPOOL_BROKEN, tpool_future_result(asked, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(1, atomic_load(&f.count));
    assert_status(TPOOL_BROKEN, f.status);
    assert_string_equal("never ran", f.task);
    tpool_future_release(asked);
}

static const struct CMUnitTest tests[] = {
    TEST(fn_gets_the_pointer_and_its_result_is_the_futures),
    TEST(a_task_without_a_future_runs),
    TEST(the_task_struct_is_copied),
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
    TEST(submit_many_takes_all_in_order),
    TEST(submit_many_needs_neither_futures_nor_a_count),
    TEST(submit_many_stops_at_the_first_that_finds_the_queue_full),
    TEST(submit_many_stops_at_a_bad_task_and_at_a_shutdown),
    TEST(submit_many_follows_the_policy_of_a_full_queue),
    TEST(any_code_raised_is_a_failure),
    TEST(a_message_may_have_any_length),
    TEST(a_message_is_formatted_like_printf),
    TEST(a_text_is_raised_as_it_is),
    TEST(raised_twice_the_first_counts_and_raised_and_returned_it_failed),
    TEST(outside_a_task_raise_and_return_do_nothing),
    TEST(a_failure_does_not_reach_the_workers_next_task),
    TEST(returned_bytes_of_any_size_are_a_copy_that_the_future_owns),
    TEST(no_bytes_can_be_returned),
    TEST(of_several_returned_payloads_the_last_counts),
    TEST(the_result_is_what_fn_returns_whatever_payload_it_gave),
    TEST(result_size_is_zero_but_for_a_success_with_bytes),
    TEST(an_owned_result_is_freed_once_with_the_last_reference),
    TEST(an_owned_result_that_nobody_asks_for_is_freed_once),
    TEST(an_earlier_owned_result_is_freed_at_once),
    TEST(on_failure_an_owned_result_is_freed_before_the_last_reference),
    TEST(a_task_run_in_place_by_another_has_its_own_error_result_size_and_stop),
    TEST(what_a_job_or_a_loop_body_raises_is_the_error_of_the_task_around_it),
    TEST(request_stop_reaches_the_running_task_and_only_it),
    TEST(a_stop_asked_of_a_queued_task_is_seen_when_it_runs),
    TEST(jobs_and_loop_bodies_inherit_the_stop),
    TEST(run_limit_asks_the_task_to_stop),
    TEST(run_limit_counts_from_the_start_and_not_from_the_submit),
    TEST(shutdown_can_ask_what_runs_to_stop),
    TEST(run_with_timeout_gives_the_tasks_own_end),
    TEST(run_with_timeout_tells_of_expiry),
    TEST(run_with_timeout_tells_of_a_cancel),
    TEST(run_with_timeout_cancels_a_task_still_queued),
    TEST(run_with_timeout_asks_a_running_task_to_stop_and_leaves_it),
    TEST(run_with_timeout_of_a_task_that_has_ended_when_it_is_stopped_gives_its_end),
    TEST(stress_run_with_timeout_agrees_with_its_future),
    TEST(run_with_timeout_takes_nothing_while_the_queue_stays_full),
    TEST(run_with_timeout_tells_why_a_task_was_not_taken),
    TEST(run_with_timeout_without_a_pool_means_the_low_level_pool),
    TEST(errors_carry_the_tasks_name),
    TEST(on_failure_hears_of_a_failure_that_nobody_can_ask_for),
    TEST(on_failure_hears_of_a_future_given_up_before_the_end),
    TEST(on_failure_is_silent_about_the_rest),
    TEST(on_failure_hears_of_expiry_and_of_broken_workers),
    TEST(on_failure_hears_of_what_a_broken_initializer_left),
};
RUN_TESTS(tests)
