/* config.observer: what it is told, in which order, where. */
#if !defined(_WIN32)
#include "support/children.h"
#else
#include "support.h"
#endif
#include "support/held.h"

/* ---- What an observer has seen ---- */

enum { MOST = 200000, ALL = 255 };
typedef struct diary {
    pthread_mutex_t lock;
    size_t count;
    tpool_event events[MOST];
    pthread_t threads[MOST];
} diary;
static diary book = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void ignores(const tpool_event *event, void *context) {
    (void)event;
    (void)context;
}
static void note(const tpool_event *event, void *context) {
    diary *d = context;
    int64_t now = tpool_now();
    pthread_mutex_lock(&d->lock);
    if (d->count < MOST) {
        d->events[d->count] = *event;
        if (event->now_ns > now) d->events[d->count].now_ns = -1; /* of the future */
        d->threads[d->count++] = pthread_self();
    }
    pthread_mutex_unlock(&d->lock);
}
static tpool_config observed(int workers) {
    book.count = 0;
    return (tpool_config){ .max_workers = workers, .observer = note, .context = &book, .observed = ALL };
}
static size_t count_of(unsigned kinds, uint64_t task) {
    size_t count = 0;
    pthread_mutex_lock(&book.lock);
    for (size_t i = 0; i < book.count; i++)
        count += (book.events[i].kind & kinds) != 0 && (task == 0 || book.events[i].task == task);
    pthread_mutex_unlock(&book.lock);
    return count;
}
static const tpool_event *nth(unsigned kinds, size_t n) {
    for (size_t i = 0; i < book.count; i++)
        if (book.events[i].kind & kinds && n-- == 0) return &book.events[i];
    fail_msg("no event of kind %u", kinds);
    return NULL;
}
static const tpool_event *the(unsigned kind, uint64_t task) {
    for (size_t i = 0; i < book.count; i++)
        if (book.events[i].kind & kind && book.events[i].task == task) return &book.events[i];
    fail_msg("task %llu has no event of kind %u", (unsigned long long)task, kind);
    return NULL;
}
static uint64_t number_of(const char *name) {
    for (size_t i = 0; i < book.count; i++)
        if (book.events[i].kind == TPOOL_EVENT_SUBMITTED && book.events[i].name && !strcmp(book.events[i].name, name))
            return book.events[i].task;
    fail_msg("no task is named %s", name);
    return 0;
}
/* Each task has one SUBMITTED, then one READY, at most one STARTED, one ENDED, all with its name. The pool is at rest
   or gone. */
static size_t check_order(void) {
    static unsigned char seen[MOST];
    static const char *names[MOST];
    uint64_t first = UINT64_MAX;
    size_t tasks = 0;
    memset(seen, 0, sizeof seen);
    for (size_t i = 0; i < book.count; i++)
        if (book.events[i].task && book.events[i].task < first) first = book.events[i].task;
    for (size_t i = 0; i < book.count; i++) {
        const tpool_event *e = &book.events[i];
        assert_true(e->now_ns > 0);
        if (!(e->kind & 15)) continue;
        assert_true(e->task >= first && e->task - first < MOST);
        unsigned char *of = &seen[e->task - first], before = *of;
        *of |= (unsigned char)e->kind;
        switch (e->kind) {
        case TPOOL_EVENT_SUBMITTED:
            assert_int_equal(0, before);
            names[e->task - first] = e->name;
            tasks++;
            break;
        case TPOOL_EVENT_READY: assert_int_equal(TPOOL_EVENT_SUBMITTED, before); break;
        case TPOOL_EVENT_STARTED: assert_int_equal(3, before); break;
        default: assert_true(before == 3 || before == 7); break;
        }
        assert_ptr_equal(names[e->task - first], e->name);
    }
    for (size_t i = 0; i < MOST; i++) assert_true(seen[i] == 0 || seen[i] & TPOOL_EVENT_ENDED);
    return tasks;
}
static tpool_future *named(tpool *pool, const char *name, tpool_fn fn, void *arg) {
    return submitted_task(pool, (tpool_task){ .fn = fn, .arg = arg, .name = name });
}

/* ---- A task's way ---- */

static void a_task_has_four_events(void **state) {
    (void)state;
    tpool *pool = new_pool_as(observed(1));
    REQUIRE_STATUS(TPOOL_OK, end_of(named(pool, "load", nothing, NULL)));
    REQUIRE_STATUS(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL)); /* without a future, without a name */
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(2, check_order());
    uint64_t load = number_of("load"), other = nth(TPOOL_EVENT_SUBMITTED, 1)->task;
    assert_true(load != other);
    for (unsigned kind = 1; kind <= 8; kind *= 2) {
        assert_string_equal("load", the(kind, load)->name);
        assert_null(the(kind, other)->name);
        assert_int_equal(kind <= 2 ? -1 : 0, the(kind, load)->worker);
        assert_int_equal(0, the(kind, load)->other);
    }
    assert_status(TPOOL_OK, the(TPOOL_EVENT_ENDED, load)->status);
    assert_true(the(TPOOL_EVENT_ENDED, load)->now_ns >= the(TPOOL_EVENT_STARTED, load)->now_ns);
    assert_int_equal(TPOOL_EVENT_WORKER_STARTED, nth(TPOOL_EVENT_WORKER_STARTED | TPOOL_EVENT_STARTED, 0)->kind);
    assert_int_equal(TPOOL_EVENT_WORKER_ENDED, book.events[book.count - 1].kind);
    assert_int_equal(0, book.events[book.count - 1].worker);
}

static void only_the_kinds_asked_for_are_told(void **state) {
    (void)state;
    tpool_config config = observed(1);
    config.observed = TPOOL_EVENT_STARTED;
    tpool *pool = new_pool_as(config);
    REQUIRE_STATUS(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(1, book.count);
    assert_int_equal(TPOOL_EVENT_STARTED, book.events[0].kind);
    config = observed(1);
    config.observed = TPOOL_EVENT_WORKER_STARTED | TPOOL_EVENT_WORKER_ENDED;
    pool = new_pool_as(config);
    REQUIRE_STATUS(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(2, book.count);
    /* tasks of a pool that is observed for its workers only cost nothing: this thread gives them no number */
    uint64_t numbers[2];
    for (int i = 0; i < 2; i++) {
        config = observed(1);
        config.observed = TPOOL_EVENT_SUBMITTED;
        pool = new_pool_as(config);
        REQUIRE_STATUS(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
        REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
        numbers[i] = nth(TPOOL_EVENT_SUBMITTED, 0)->task;
        config = observed(1);
        config.observed = TPOOL_EVENT_WORKER_STARTED;
        pool = new_pool_as(config);
        for (int k = 0; k < 3; k++) REQUIRE_STATUS(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
        REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
    }
    assert_int_equal(numbers[0] + 1, numbers[1]);
    config = observed(1);
    config.observed = 0;
    pool = new_pool_as(config);
    REQUIRE_STATUS(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(0, book.count);
}

typedef struct submitter {
    tpool *pool;
    int index;
} submitter;
static void *submits_many(void *arg) {
    submitter *s = arg;
    for (int i = 0; i < 1500; i++) {
        tpool_future *future = NULL;
        tpool_task task = { .fn = nothing, .name = i % 3 ? NULL : "third", .priority = i % 5 == 0 };
        if (tpool_submit_task(s->pool, &task, i % 2 ? &future : NULL) != TPOOL_OK) return NULL;
        if (i % 7 == 0) (void)tpool_future_cancel(future);
        tpool_future_release(future);
    }
    return s;
}
static void each_task_keeps_the_order_under_eight_submitters(void **state) {
    (void)state;
    tpool *pool = new_pool_as(observed(3));
    pthread_t threads[8];
    submitter all[8];
    for (int i = 0; i < 8; i++) {
        all[i] = (submitter){ pool, i };
        REQUIRE(pthread_create(&threads[i], NULL, submits_many, &all[i]) == 0);
    }
    for (int i = 0; i < 8; i++) {
        void *end = NULL;
        REQUIRE(pthread_join(threads[i], &end) == 0);
        assert_ptr_equal(&all[i], end);
    }
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(8 * 1500, check_order());
    assert_int_equal(count_of(TPOOL_EVENT_WORKER_STARTED, 0), count_of(TPOOL_EVENT_WORKER_ENDED, 0));
}

/* ---- Ends of all kinds ---- */

static void *raises(void *arg) {
    (void)arg;
    return tpool_raise(7, "no");
}
static void each_end_has_its_status(void **state) {
    (void)state;
    gate at = GATE_CLOSED;
    tpool_config config = observed(1);
    config.queue_capacity = 4;
    config.on_full = TPOOL_FULL_REJECT;
    tpool *pool = new_pool_as(config);
    tpool_future *holder = held_at(pool, &at), *refused = NULL;
    tpool_future *failing = named(pool, "failing", raises, NULL), *gone = named(pool, "gone", nothing, NULL);
    tpool_future *ending = named(pool, "ending", end_thread, NULL);
    tpool_future *late = submitted_task(pool, (tpool_task){ .fn = nothing, .name = "late", .expires_ns = 1 });
    tpool_task last = { .fn = nothing, .name = "refused" };
    sleep_ms(1);
    assert_true(tpool_future_cancel(gone));
    assert_status(TPOOL_EXPIRED, end_of(late));
    tpool_future *more[2] = { named(pool, "more", nothing, NULL), named(pool, "more", nothing, NULL) };
    assert_status(TPOOL_FULL, tpool_submit_task(pool, &last, &refused));
    gate_open(&at);
    assert_status(TPOOL_FAILED, end_of(failing));
    assert_status(TPOOL_CANCELLED, end_of(gone));
    assert_status(TPOOL_BROKEN, end_of(ending));
    assert_status(TPOOL_OK, end_of(holder));
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, end_of(more[i]));
    REQUIRE_STATUS(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT));
    last.name = "shut";
    assert_status(TPOOL_SHUTDOWN, tpool_submit_task(pool, &last, &refused));
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
    (void)check_order();
    static const struct {
        const char *name;
        tpool_status status;
        size_t starts;
    } ends[] = { { "failing", TPOOL_FAILED, 1 }, { "gone", TPOOL_CANCELLED, 0 }, { "ending", TPOOL_BROKEN, 1 },
                 { "late", TPOOL_EXPIRED, 0 },   { "refused", TPOOL_FULL, 0 },   { "shut", TPOOL_SHUTDOWN, 0 } };
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        uint64_t number = number_of(ends[i].name);
        assert_status(ends[i].status, the(TPOOL_EVENT_ENDED, number)->status);
        assert_int_equal(ends[i].starts, count_of(TPOOL_EVENT_STARTED, number));
    }
    assert_int_equal(count_of(TPOOL_EVENT_WORKER_STARTED, 0), count_of(TPOOL_EVENT_WORKER_ENDED, 0));
}

static void what_is_dropped_and_what_its_submitter_runs_end_too(void **state) {
    (void)state;
    gate at = GATE_CLOSED;
    tpool_config config = observed(1);
    config.queue_capacity = 1;
    config.on_full = TPOOL_FULL_DROP_OLDEST;
    tpool *pool = new_pool_as(config);
    tpool_future *holder = held_at(pool, &at), *dropped = named(pool, "dropped", nothing, NULL);
    tpool_future *stays = named(pool, "stays", nothing, NULL);
    gate_open(&at);
    assert_status(TPOOL_CANCELLED, end_of(dropped));
    assert_status(TPOOL_OK, end_of(stays));
    assert_status(TPOOL_OK, end_of(holder));
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(3, check_order());
    assert_status(TPOOL_CANCELLED, the(TPOOL_EVENT_ENDED, number_of("dropped"))->status);

    gate_close(&at);
    config = observed(1);
    config.queue_capacity = 1;
    config.on_full = TPOOL_FULL_CALLER_RUNS;
    pool = new_pool_as(config);
    holder = held_at(pool, &at);
    stays = named(pool, "stays", nothing, NULL);
    tpool_future *own = named(pool, "own", nothing, NULL);
    assert_true(tpool_future_done(own));
    gate_open(&at);
    assert_status(TPOOL_OK, end_of(own));
    assert_status(TPOOL_OK, end_of(stays));
    assert_status(TPOOL_OK, end_of(holder));
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(3, check_order());
    assert_int_equal(-1, the(TPOOL_EVENT_STARTED, number_of("own"))->worker);
    assert_int_equal(-1, the(TPOOL_EVENT_ENDED, number_of("own"))->worker);
}

/* READY of a held task comes when it is free, on the thread that has freed it. What ends while it is held has none, nor
   has what runs nothing. */
static void held_tasks_are_ready_when_they_are_free(void **state) {
    (void)state;
    enum { TASKS = 7 };
    static const struct {
        const char *name;
        unsigned kinds;
        tpool_status end;
    } told[TASKS] = { { "after a task", 15, TPOOL_OK },
                      { "after another future", 15, TPOOL_OK },
                      { "after a time", 15, TPOOL_OK },
                      { "runs nothing", 9, TPOOL_OK },
                      { "after what fails", 9, TPOOL_CANCELLED },
                      { "cancelled", 9, TPOOL_CANCELLED },
                      { "late", 9, TPOOL_EXPIRED } };
    gate at = GATE_CLOSED;
    tpool *pool = new_pool_as(observed(1));
    tpool_future *first = bare(), *holder = held_at(pool, &at), *failing = named(pool, "failing", raises, NULL);
    tpool_future *held[TASKS], *const *const of[TASKS] = { &holder, &first, NULL, &first, &failing, &first, &first };
    for (int i = 0; i < TASKS; i++) {
        tpool_task task = after(i == 3 ? NULL : nothing, NULL, of[i], of[i] != NULL, TPOOL_AFTER_SUCCESS);
        task.name = told[i].name;
        if (i == 2) task.delay_ns = 1;
        if (i == 6) task.timeout_ns = 1;
        held[i] = submitted_task(pool, task);
    }
    REQUIRE_EVENTUALLY(tpool_future_done(held[6]));
    assert_true(tpool_future_cancel(held[5]));
    complete(first);
    gate_open(&at);
    assert_status(TPOOL_OK, end_of(holder));
    assert_status(TPOOL_FAILED, end_of(failing));
    for (int i = 0; i < TASKS; i++) assert_status(told[i].end, end_of(held[i]));
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
    for (int i = 0; i < TASKS; i++) {
        uint64_t task = number_of(told[i].name);
        unsigned seen = 0;
        for (size_t k = 0; k < book.count; k++) {
            const tpool_event *e = &book.events[k];
            if (e->task != task) continue;
            assert_true((unsigned)e->kind > seen); /* one of each, in this order */
            seen |= (unsigned)e->kind;
            assert_int_equal(0, e->other);
            assert_string_equal(told[i].name, e->name);
        }
        assert_int_equal(told[i].kinds, seen);
        assert_status(told[i].end, the(TPOOL_EVENT_ENDED, task)->status);
    }
    assert_int_equal(0, the(TPOOL_EVENT_READY, number_of("after a task"))->worker); /* it has ended the holder */
    const tpool_event *ready = the(TPOOL_EVENT_READY, number_of("after another future"));
    assert_int_equal(-1, ready->worker);
    assert_true(pthread_equal(pthread_self(), book.threads[ready - book.events]));
}

/* Its one worker is held at the gate, and the one task in its queue has expired: a submit ends that one. */
static tpool *new_pool_full_of_what_is_late(gate *at, void (*arg_free)(void *), tpool_future **holder) {
    tpool_config config = observed(1);
    config.queue_capacity = 1;
    tpool *pool = new_pool_as(config);
    *holder = held_at(pool, at);
    tpool_task late = { .fn = nothing, .arg_free = arg_free, .expires_ns = 1 };
    REQUIRE_STATUS(TPOOL_OK, tpool_submit_task(pool, &late, NULL));
    sleep_ms(1);
    return pool;
}

/* A submit that neither places its task nor returns. */
static void free_ends_its_thread(void *arg) { (void)end_thread(arg); }
static void *submit_lost(void *pool) {
    tpool_task lost = { .fn = nothing, .name = "lost" };
    return tpool_submit_task(pool, &lost, NULL) == TPOOL_OK ? pool : NULL;
}
static void a_submitters_end_is_its_tasks_end(void **state) {
    (void)state;
    gate at = GATE_CLOSED;
    tpool_future *holder = NULL;
    tpool *pool = new_pool_full_of_what_is_late(&at, free_ends_its_thread, &holder);
    in_own_thread(submit_lost, pool); /* it ends what is late, and with that itself */
    gate_open(&at);
    assert_status(TPOOL_OK, end_of(holder));
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(3, check_order());
    assert_status(TPOOL_BROKEN, the(TPOOL_EVENT_ENDED, number_of("lost"))->status);
}

/* The last events of a cancelled task come before its future is done, after its arg_free. */
static void *seen_at_free;
static void free_notes(void *arg) {
    seen_at_free = (void *)(uintptr_t)(count_of(TPOOL_EVENT_ENDED, 0) + 1);
    (void)arg;
}
static void seen_by_callback(tpool_future *future, void *context) {
    (void)future;
    *(size_t *)context = count_of(TPOOL_EVENT_ENDED, 0);
}
static void the_end_is_told_before_it_can_be_seen(void **state) {
    (void)state;
    for (int cancels = 0; cancels < 2; cancels++) {
        gate at = GATE_CLOSED;
        size_t at_callback = 0;
        tpool_config config = observed(1);
        tpool *pool = new_pool_as(config);
        tpool_future *holder = held_at(pool, &at);
        tpool_future *task =
            submitted_task(pool, (tpool_task){ .fn = nothing, .arg = &at, .arg_free = free_notes, .name = "task" });
        REQUIRE_STATUS(TPOOL_OK, tpool_future_add_done_callback(task, seen_by_callback, &at_callback));
        if (cancels) assert_true(tpool_future_cancel(task));
        gate_open(&at);
        (void)end_of(task);
        (void)end_of(holder);
        REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
        assert_int_equal(cancels ? 0 + 1 : 1 + 1, (int)(uintptr_t)seen_at_free);
        assert_int_equal(cancels ? 1 : 2, (int)at_callback);
        (void)check_order();
    }
}

/* ---- Who submits whom, who waits for whom ---- */

typedef struct family {
    tpool *pool;
    tpool_future *child;
    gate at;
} family;
static void *child_of(void *arg) {
    family *f = arg;
    return gate_task(&f->at);
}
static void *parent_of(void *arg) {
    family *f = arg;
    tpool_task task = { .fn = child_of, .arg = f, .name = "child" };
    if (tpool_submit_task(f->pool, &task, &f->child) != TPOOL_OK) return NULL;
    gate_await_arrivals(&f->at, 1); /* it runs on another worker */
    void *value = NULL;
    (void)tpool_future_result(f->child, TPOOL_FOREVER, &value);
    tpool_future_release(f->child);
    return value;
}
static void *in_place_parent(void *arg) {
    family *f = arg;
    tpool_task task = { .fn = nothing, .arg = f, .name = "inner" };
    if (tpool_submit_task(f->pool, &task, &f->child) != TPOOL_OK) return NULL;
    void *value = NULL;
    (void)tpool_future_result(f->child, TPOOL_FOREVER, &value); /* runs in place, since it has no limit */
    tpool_future_release(f->child);
    return value;
}
static void submits_and_waits_name_the_other_task(void **state) {
    (void)state;
    tpool *pool = new_pool_as(observed(2));
    family f = { pool, NULL, GATE_CLOSED };
    tpool_future *parent = named(pool, "parent", parent_of, &f);
    REQUIRE_EVENTUALLY(count_of(TPOOL_EVENT_BLOCKED, 0) == 1);
    gate_open(&f.at);
    assert_ptr_equal(&f.at, take(parent));
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(2, check_order());
    uint64_t outer = number_of("parent"), inner = number_of("child");
    assert_int_equal(outer, the(TPOOL_EVENT_SUBMITTED, inner)->other);
    const tpool_event *blocked = nth(TPOOL_EVENT_BLOCKED, 0), *unblocked = nth(TPOOL_EVENT_UNBLOCKED, 0);
    assert_int_equal(0, unblocked->other);
    assert_int_equal(outer, blocked->task);
    assert_int_equal(inner, blocked->other);
    assert_int_equal(outer, unblocked->task);
    assert_int_equal(blocked->worker, unblocked->worker);
    assert_true(unblocked->now_ns >= the(TPOOL_EVENT_ENDED, inner)->now_ns);

    pool = new_pool_as(observed(1));
    f.pool = pool;
    assert_ptr_equal(&f, take(named(pool, "outer", in_place_parent, &f)));
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(2, check_order());
    assert_int_equal(0, count_of(TPOOL_EVENT_BLOCKED, 0));
    assert_int_equal(number_of("outer"), the(TPOOL_EVENT_SUBMITTED, number_of("inner"))->other);
    assert_true(the(TPOOL_EVENT_ENDED, number_of("inner")) < the(TPOOL_EVENT_ENDED, number_of("outer")));
}

/* A task that its submitter runs, which is a worker of another pool: its own pool's observer is told of its wait. */
static void *waits_for_the_bare(void *arg) {
    return tpool_future_result((tpool_future *)arg, LIMIT, NULL) == TPOOL_OK ? arg : NULL;
}
static void *submits_to_the_full(void *arg) {
    family *f = arg;
    tpool_task task = { .fn = waits_for_the_bare, .arg = f->child, .name = "inner" };
    tpool_future *inner = NULL;
    if (tpool_submit_task(f->pool, &task, &inner) != TPOOL_OK) return NULL;
    tpool_status status = tpool_future_result(inner, 0, NULL);
    tpool_future_release(inner);
    return status == TPOOL_OK ? f : NULL;
}
static void a_wait_is_told_to_the_observer_of_its_tasks_pool(void **state) {
    (void)state;
    for (int both = 0; both < 2; both++) {
        family f = { .at = GATE_CLOSED };
        tpool_config config = observed(1);
        config.queue_capacity = 1;
        config.on_full = TPOOL_FULL_CALLER_RUNS;
        f.pool = new_pool_as(config);
        tpool *caller =
            both ? new_pool_as((tpool_config){ .max_workers = 1, .observer = ignores, .observed = ALL }) : new_pool(1);
        tpool_future *holder = held_at(f.pool, &f.at), *queued = submitted(f.pool, nothing, NULL);
        REQUIRE_STATUS(TPOOL_OK, tpool_future_create(&f.child));
        tpool_future *submitter = submitted(caller, submits_to_the_full, &f);
        REQUIRE_EVENTUALLY(count_of(TPOOL_EVENT_BLOCKED, 0) == 1);
        REQUIRE_STATUS(TPOOL_OK, tpool_future_set_result(f.child, NULL));
        assert_ptr_equal(&f, take(submitter));
        gate_open(&f.at);
        REQUIRE_STATUS(TPOOL_OK, end_of(holder));
        REQUIRE_STATUS(TPOOL_OK, end_of(queued));
        tpool_future_release(f.child);
        REQUIRE_STATUS(TPOOL_OK, tpool_destroy(caller));
        REQUIRE_STATUS(TPOOL_OK, tpool_destroy(f.pool));
        assert_int_equal(3, check_order());
        assert_int_equal(number_of("inner"), nth(TPOOL_EVENT_BLOCKED, 0)->task);
        assert_int_equal(-1, nth(TPOOL_EVENT_BLOCKED, 0)->worker);
        assert_int_equal(number_of("inner"), nth(TPOOL_EVENT_UNBLOCKED, 0)->task);
        assert_int_equal(1, count_of(TPOOL_EVENT_UNBLOCKED, 0));
    }
}

/* A helper's part of a loop waits in the name of the helper, which runs on that worker. */
typedef struct parts {
    tpool *pool;
    tpool_future *bare;
    atomic_int begun;
} parts;
static void part_waits(size_t begin, size_t end, void *context) {
    parts *p = context;
    (void)begin;
    (void)end;
    atomic_fetch_add(&p->begun, 1);
    (void)tpool_future_result(p->bare, LIMIT, NULL);
}
static void *loops_in_parts(void *arg) {
    parts *p = arg;
    return tpool_for(p->pool, 0, 2, 1, part_waits, p) == TPOOL_OK ? p : NULL;
}
static void a_part_of_a_loop_waits_in_the_name_of_the_task_that_runs_it(void **state) {
    (void)state;
    parts p = { .pool = new_pool_as(observed(2)) };
    REQUIRE_STATUS(TPOOL_OK, tpool_future_create(&p.bare));
    tpool_future *looping = named(p.pool, "loop", loops_in_parts, &p);
    REQUIRE_EVENTUALLY(count_of(TPOOL_EVENT_BLOCKED, 0) == 2);
    REQUIRE_STATUS(TPOOL_OK, tpool_future_set_result(p.bare, NULL));
    assert_ptr_equal(&p, take(looping));
    tpool_future_release(p.bare);
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(p.pool));
    assert_int_equal(2, check_order());
    for (size_t i = 0; i < 2; i++) {
        const tpool_event *blocked = nth(TPOOL_EVENT_BLOCKED, i);
        assert_int_equal(blocked->worker, the(TPOOL_EVENT_STARTED, blocked->task)->worker);
    }
    assert_true(nth(TPOOL_EVENT_BLOCKED, 0)->task != nth(TPOOL_EVENT_BLOCKED, 1)->task);
}

static void *item_waits(void *item, void *context) {
    (void)item;
    return tpool_future_result((tpool_future *)context, LIMIT, NULL) == TPOOL_OK ? context : NULL;
}
static void meets_the_other_part(size_t begin, size_t end, void *context) {
    atomic_int *arrived = context;
    atomic_fetch_add(arrived, (int)(end - begin));
    CHECK_EVENTUALLY(atomic_load(arrived) == 2);
}
static void chunks_and_helpers_are_tasks_of_the_librarys_names(void **state) {
    (void)state;
    tpool *pool = new_pool_as(observed(2));
    int items[4] = { 0 };
    atomic_int arrived = 0;
    tpool_map_spec spec = { .fn = item_waits, .items = items, .count = 4, .stride = sizeof(int), .chunk_size = 2 };
    tpool_map_iter *iter = NULL;
    tpool_future *bare = NULL;
    REQUIRE_STATUS(TPOOL_OK, tpool_future_create(&bare));
    spec.context = bare;
    REQUIRE_STATUS(TPOOL_OK, tpool_map(pool, &spec, &iter));
    REQUIRE_EVENTUALLY(count_of(TPOOL_EVENT_BLOCKED, 0) > 0);
    REQUIRE_STATUS(TPOOL_OK, tpool_future_set_result(bare, NULL));
    for (int i = 0; i < 4; i++) REQUIRE_STATUS(TPOOL_OK, tpool_map_next(iter, LIMIT, NULL));
    tpool_map_close(iter);
    tpool_future_release(bare);
    REQUIRE_STATUS(TPOOL_OK, tpool_for(pool, 0, 2, 1, meets_the_other_part, &arrived)); /* so a helper takes a part */
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(2, arrived);
    assert_true(check_order() >= 3);
    (void)number_of("for");
    const tpool_event *blocked = nth(TPOOL_EVENT_BLOCKED, 0); /* an item waits in the name of its chunk */
    assert_string_equal("map", the(TPOOL_EVENT_STARTED, blocked->task)->name);
}

static void gate_arrive_and_end(gate *at) {
    pthread_mutex_lock(&at->lock);
    at->arrived++;
    pthread_cond_broadcast(&at->changed);
    pthread_mutex_unlock(&at->lock);
    (void)end_thread(NULL);
}
static void range_ends_helper(size_t begin, size_t end, void *context) {
    gate *at = context;
    (void)begin;
    (void)end;
    if (tpool_current_worker() == 0) gate_await_arrivals(at, 1);
    else gate_arrive_and_end(at);
}
/* A chunk that is cancelled with its pool, and a helper whose body ends its thread. */
static void *loops_at(void *arg) {
    family *f = arg;
    return tpool_for(f->pool, 0, 2, 1, range_ends_helper, &f->at) == TPOOL_BROKEN ? f : NULL;
}
static void chunks_and_helpers_that_did_not_end_by_themselves_keep_their_names(void **state) {
    (void)state;
    gate at = GATE_CLOSED;
    tpool *pool = new_pool_as(observed(1));
    tpool_future *holder = held_at(pool, &at);
    int items[4] = { 0 };
    tpool_map_spec spec = { .fn = item_waits, .items = items, .count = 4, .stride = sizeof(int), .chunk_size = 4 };
    tpool_map_iter *iter = NULL;
    REQUIRE_STATUS(TPOOL_OK, tpool_map(pool, &spec, &iter));
    REQUIRE_STATUS(TPOOL_OK, tpool_shutdown(pool, TPOOL_CANCEL_PENDING));
    gate_open(&at);
    assert_status(TPOOL_OK, end_of(holder));
    tpool_map_close(iter);
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(2, check_order());
    assert_status(TPOOL_CANCELLED, the(TPOOL_EVENT_ENDED, number_of("map"))->status);

    family f = { new_pool_as(observed(2)), NULL, GATE_CLOSED };
    assert_status(TPOOL_BROKEN, end_of(named(f.pool, "loops", loops_at, &f)));
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(f.pool));
    assert_int_equal(2, check_order());
    assert_status(TPOOL_BROKEN, the(TPOOL_EVENT_ENDED, number_of("for"))->status);
}

/* ---- Where it is called ---- */

static void each_event_is_told_on_its_own_thread(void **state) {
    (void)state;
    tpool *pool = new_pool_as(observed(1));
    REQUIRE_STATUS(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
    for (size_t i = 0; i < book.count; i++)
        assert_int_equal((book.events[i].kind & 3) != 0, pthread_equal(book.threads[i], pthread_self()) != 0);
}

static void with_measure_both_count(void **state) {
    (void)state;
    tpool_config config = observed(2);
    config.measure = true;
    tpool *pool = new_pool_as(config);
    for (int i = 0; i < 100; i++) REQUIRE_STATUS(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
    REQUIRE_STATUS(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_true(stats_of(pool).busy_ns > 0);
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(100, check_order());
}

/* The observer takes time when a task starts and when it ends: neither is a task's. One worker executes the tasks from
   one batch; between them one expires. Each thread's times come in order. */
static void takes_time(const tpool_event *event, void *context) {
    note(event, context);
    if (event->kind & (TPOOL_EVENT_STARTED | TPOOL_EVENT_ENDED)) sleep_ms(5);
}
static void the_observers_time_is_no_tasks(void **state) {
    (void)state;
    enum { TASKS = 20 };
    gate at = GATE_CLOSED;
    tpool_config config = observed(2);
    config.observer = takes_time;
    config.measure = true;
    tpool *pool = new_pool_as(config);
    tpool_future *holders[2] = { held_at(pool, &at), held_at(pool, &at) };
    for (int i = 0; i < TASKS; i++) {
        REQUIRE_STATUS(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
        tpool_task late = { .fn = nothing, .expires_ns = 1 };
        REQUIRE_STATUS(TPOOL_OK, tpool_submit_task(pool, &late, NULL));
    }
    sleep_ms(1);
    gate_open(&at);
    for (int i = 0; i < 2; i++) REQUIRE_STATUS(TPOOL_OK, end_of(holders[i]));
    REQUIRE_STATUS(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_true(stats_of(pool).run_p50_ns < TPOOL_MS(5));
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(2 + 2 * TASKS, check_order());
    for (int worker = 0; worker < 2; worker++) {
        int64_t before = 0;
        for (size_t i = 0; i < book.count; i++) {
            if (book.events[i].worker != worker) continue;
            assert_true(book.events[i].now_ns >= before);
            before = book.events[i].now_ns;
        }
    }
}

#if HAVE_FORK
static pid_t forked = -1;
static void free_forks(void *arg) {
    (void)arg;
    fflush(NULL);
    forked = fork();
}
/* A submit into a full queue ends what has expired there; an arg_free forks. In the child the submit is refused. */
static void a_child_of_fork_tells_nothing(void **state) {
    (void)state;
    gate at = GATE_CLOSED;
    tpool_future *holder = NULL;
    tpool *pool = new_pool_full_of_what_is_late(&at, free_forks, &holder);
    size_t before = book.count;
    tpool_status status = tpool_submit(pool, nothing, NULL, NULL);
    if (forked == 0) _exit(status == TPOOL_BROKEN && book.count == before + 2 ? 0 : 1); /* the submit's, before it */
    assert_status(TPOOL_OK, status);
    assert_child_succeeds(forked);
    gate_open(&at);
    assert_status(TPOOL_OK, end_of(holder));
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(3, check_order());
}

static void tasks_of_worker_processes_are_told_by_their_proxies(void **state) {
    (void)state;
    book.count = 0;
    tpool *pool =
        process_pool_as((tpool_config){ .max_workers = 1, .observer = note, .context = &book, .observed = ALL });
    assert_true(value_of(pool, getpid_task) != getpid());
    assert_status(TPOOL_BROKEN, end_of(named(pool, "aborts", aborts, NULL)));
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(2, check_order());
    assert_status(TPOOL_BROKEN, the(TPOOL_EVENT_ENDED, number_of("aborts"))->status);
    assert_int_equal(0, the(TPOOL_EVENT_STARTED, number_of("aborts"))->worker);
}
#endif

static const struct CMUnitTest tests[] = {
    TEST(a_task_has_four_events),
    TEST(only_the_kinds_asked_for_are_told),
    TEST(each_task_keeps_the_order_under_eight_submitters),
    TEST(each_end_has_its_status),
    TEST(what_is_dropped_and_what_its_submitter_runs_end_too),
    TEST(held_tasks_are_ready_when_they_are_free),
    TEST(a_submitters_end_is_its_tasks_end),
    TEST(the_end_is_told_before_it_can_be_seen),
    TEST(submits_and_waits_name_the_other_task),
    TEST(chunks_and_helpers_are_tasks_of_the_librarys_names),
    TEST(a_wait_is_told_to_the_observer_of_its_tasks_pool),
    TEST(a_part_of_a_loop_waits_in_the_name_of_the_task_that_runs_it),
    TEST(chunks_and_helpers_that_did_not_end_by_themselves_keep_their_names),
    TEST(each_event_is_told_on_its_own_thread),
    TEST(with_measure_both_count),
    TEST(the_observers_time_is_no_tasks),
#if HAVE_FORK
    TEST(a_child_of_fork_tells_nothing),
    TEST(tasks_of_worker_processes_are_told_by_their_proxies),
#endif
};
RUN_TESTS(tests)
