/* How long a thread spins before it sleeps: half as long after each spin that failed, down to what is free; hardly or
   not at all where the other was asleep. Nothing here depends on how long anything takes. */
#include "support.h"
#include <stdatomic.h>
#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#define yield_for_real() ((void)SwitchToThread())
#else
#include <sched.h>
#define yield_for_real() ((void)sched_yield())
#endif
static atomic_int yields;
static void (*while_off_the_cpu)(void); /* of the thread that yields */
static inline void counted_yield(void) {
    atomic_fetch_add(&yields, 1);
    yield_for_real();
    if (while_off_the_cpu) while_off_the_cpu();
}
#if defined(_WIN32)
#define SwitchToThread counted_yield
#else
#define sched_yield counted_yield
#endif
#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
#define COUNTS_PAUSES 1
static atomic_int pauses_of_others;
static _Thread_local bool is_the_test;
static void (*_Atomic while_it_pauses)(void);
static inline void counted_pause(void) {
    void (*hook)(void) = while_it_pauses;
    if (hook) hook();
    if (!is_the_test) atomic_fetch_add(&pauses_of_others, 1);
    __builtin_ia32_pause();
}
#define __builtin_ia32_pause counted_pause
#endif
static void (*_Atomic before_memory)(size_t size);
static void *hooked_malloc(size_t size) {
    void (*hook)(size_t) = before_memory;
    if (hook) hook(size);
    return malloc(size);
}
#define TPOOL_MALLOC hooked_malloc
#define TPOOL_FREE free
#define TPOOL__FIRST_NAP TPOOL_SEC(3600) /* who naps has been woken if he goes on in time */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
#undef sched_yield
#undef SwitchToThread
#undef __builtin_ia32_pause

enum {
    FREE_LOOKS = TPOOL__FREE_TIME / TPOOL__PAUSE_TIME,
    FEW_LOOKS = TPOOL__LITTLE_TIME / TPOOL__PAUSE_TIME,
    MORE_THAN_EVER = 1 << 20,
    OFTEN = 100
};

/* How often it may look again, of a spin that fails. */
static unsigned looks_of(uint32_t *failed_spins, uint32_t free_time) {
    tpool__spin spin = tpool__spin_begin(failed_spins, free_time, TPOOL_FOREVER);
    unsigned looks = 0;
    while (looks < MORE_THAN_EVER && tpool__spin_again(&spin)) looks++;
    tpool__spin_end(&spin, false);
    return looks;
}

static int with_a_cpu_to_spare(void **state) {
    (void)state;
    tpool__store_relaxed(&tpool__spare_cpus, 1);
    tpool__store_relaxed(&tpool__pauses, 1 << 16 | TPOOL__PAUSE_TIME); /* a look is one pause */
    return 0;
}

static void without_a_cpu_to_spare_nobody_looks(void **state) {
    (void)state;
    uint32_t failed_spins = 0;
    tpool__store_relaxed(&tpool__spare_cpus, 0);
    assert_int_equal(0, looks_of(&failed_spins, TPOOL__FREE_TIME));
}

static void some_time_is_free_whatever_failed_before(void **state) {
    (void)state;
    uint32_t failed_spins = OFTEN;
    assert_int_equal(FREE_LOOKS, looks_of(&failed_spins, TPOOL__FREE_TIME));
    assert_int_equal(OFTEN + 1, failed_spins);
}

static void each_failed_spin_halves_the_budget(void **state) {
    (void)state;
    uint32_t failed_spins = 0, budget = TPOOL__SPIN_BUDGET;
    for (; budget > TPOOL__FREE_TIME; budget /= 2)
        assert_int_equal((budget + TPOOL__PAUSE_TIME - 1) / TPOOL__PAUSE_TIME,
                         looks_of(&failed_spins, TPOOL__FREE_TIME));
    assert_int_equal(FREE_LOOKS, looks_of(&failed_spins, TPOOL__FREE_TIME));
    assert_int_equal(0, tpool__load_relaxed(&tpool__spinning));
}

static void a_spin_ends_at_the_deadline(void **state) {
    (void)state;
    uint32_t failed_spins = 0;
    tpool__spin spin = tpool__spin_begin(&failed_spins, 0, tpool__clock());
    unsigned looks = 0;
    while (looks < MORE_THAN_EVER && tpool__spin_again(&spin)) looks++;
    tpool__spin_end(&spin, false);
    assert_int_equal(FREE_LOOKS, looks);
    assert_int_equal(0, tpool__load_relaxed(&tpool__spinning));
}

static void no_more_threads_look_on_than_cpus_are_to_spare(void **state) {
    (void)state;
    uint32_t failed_spins = 0;
    tpool__store_relaxed(&tpool__spinning, 1);
    assert_int_equal(FREE_LOOKS, looks_of(&failed_spins, TPOOL__FREE_TIME));
    assert_int_equal(1, tpool__load_relaxed(&tpool__spinning));
    tpool__store_relaxed(&tpool__spinning, 0);
}

static void only_so_much_is_free_as_told(void **state) {
    (void)state;
    uint32_t failed_spins = OFTEN;
    assert_int_equal(0, looks_of(&failed_spins, 0));
    assert_int_equal(FEW_LOOKS, looks_of(&failed_spins, TPOOL__LITTLE_TIME));
}

static void now_and_then_it_tries_again(void **state) {
    (void)state;
    uint32_t failed_spins = TPOOL__SPIN_ONE_IN;
    assert_true(looks_of(&failed_spins, 0) > 0);
    assert_int_equal(0, looks_of(&failed_spins, 0));
}

static void what_comes_gives_hope(void **state) {
    (void)state;
    uint32_t failed_spins = TPOOL__SPIN_ONE_IN;
    while (failed_spins > 0) {
        uint32_t before = failed_spins;
        tpool__spin spin = tpool__spin_begin(&failed_spins, TPOOL__FREE_TIME, TPOOL_FOREVER);
        assert_true(tpool__spin_again(&spin));
        tpool__spin_end(&spin, true);
        assert_int_equal(before / 2, failed_spins);
    }
}

static void a_spin_that_succeeds_is_tried_again_at_once(void **state) {
    (void)state;
    uint32_t failed_spins = TPOOL__SPIN_ONE_IN;
    tpool__spin spin = tpool__spin_begin(&failed_spins, 0, TPOOL_FOREVER);
    assert_true(tpool__spin_again(&spin)); /* not a free one */
    tpool__spin_end(&spin, true);
    assert_int_equal(0, failed_spins);
    assert_true(looks_of(&failed_spins, 0) > FREE_LOOKS);
}

static int yields_of_a_wait_in_vain(tpool_future *future) {
    atomic_store(&yields, 0);
    assert_false(tpool__spin_for_end(tpool__self(), future, tpool__deadline(TPOOL_MS(1))));
    return atomic_load(&yields);
}
static void who_woke_a_worker_and_may_not_look_gives_way_once(void **state) {
    (void)state;
    tpool__thread *self = tpool__self();
    tpool_future *future;
    assert_status(TPOOL_OK, tpool_future_create(&future));
    tpool__store_relaxed(&tpool__spare_cpus, 1);
    self->failed_spins = 0;
    assert_int_equal(0, yields_of_a_wait_in_vain(future)); /* it has looked */
    self->failed_spins = OFTEN;
    self->woke = true;
    assert_int_equal(1, yields_of_a_wait_in_vain(future));
    assert_int_equal(0, yields_of_a_wait_in_vain(future)); /* it looks, since it has woken nobody */
    tpool__store_relaxed(&tpool__spare_cpus, 0);
    assert_int_equal(0, yields_of_a_wait_in_vain(future));
    self->woke = true;
    assert_int_equal(1, yields_of_a_wait_in_vain(future));
    assert_status(TPOOL_OK, tpool_future_set_result(future, NULL));
    tpool_future_release(future);
}

static void assert_pauses(unsigned number, unsigned time, int64_t took_64) {
    uint32_t pauses = tpool__pauses_for(took_64, 64);
    assert_int_equal(number, pauses >> 16);
    assert_int_equal(time, pauses & 0xffff);
}
static void the_moment_between_two_looks_is_about_the_same_whatever_the_cpus_pause_takes(void **state) {
    (void)state;
    assert_pauses(2, 22, 64 * 11);
    assert_pauses(2, 20, 64 * 10);
    assert_pauses(1, 44, 64 * 44);
    assert_pauses(1, 199, 64 * 199);
    assert_pauses(22, 22, 64);
    assert_pauses(88, 22, 16);
    assert_pauses(1000, 15, 1);
}

static void await_sleeper(tpool *pool) {
    for (bool asleep = false; !asleep; tpool__yield()) {
        tpool__lock(&pool->lock);
        asleep = pool->sleepers != NULL && tpool__load_relaxed(&pool->sleepers->parker) == 2;
        tpool__unlock(&pool->lock);
    }
}
static void a_wake_is_remembered_until_the_next_look(void **state) {
    (void)state;
    tpool_config config = { 0 };
    tpool *pool;
    tpool_future *future;
    tpool__thread *self = tpool__self();
    config.max_workers = 1;
    assert_status(TPOOL_OK, tpool_create(&pool, &config));
    assert_status(TPOOL_OK, tpool_warm_up(pool, 1));
    await_sleeper(pool);
    (void)tpool__free_time(self); /* it may have woken one before */
    assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, &future));
    while (!tpool_future_done(future)) tpool__yield(); /* which waits for nothing */
    assert_int_equal(0, tpool__free_time(self));
    assert_int_equal(TPOOL__FREE_TIME, tpool__free_time(self));
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* The thread has called a shared loop that began `ago` ns ago. Returns for how long it expects the next. */
static int64_t after_loop(tpool *pool, int64_t ago) {
    tpool__loop loop;
    memset(&loop, 0, sizeof loop);
    loop.pool = pool;
    int64_t now = tpool__clock();
    loop.began = now - ago;
    tpool__loop_expect_next(tpool__self(), &loop, now);
    return tpool__self()->loops_expected - now;
}
static void workers_expect_a_loop_once_two_came_soon_after_one_another(void **state) {
    (void)state;
    static tpool pool;
    tpool__thread *self = tpool__self();
    self->loops_expected = 0; /* the last loop was long ago */
    assert_int_equal(TPOOL__LOOP_LONGEST_SPIN, after_loop(&pool, TPOOL_SEC(1)));
    assert_int_equal(0, tpool__load_relaxed(&pool.loop_until));
    self->loops_expected = tpool__clock() + TPOOL_SEC(100); /* whatever passes until the next */
    (void)after_loop(&pool, 0);
    assert_int_not_equal(0, tpool__load_relaxed(&pool.loop_until));
    tpool__store_relaxed(&pool.loop_until, 0);
    self->loops_expected = tpool__clock() - TPOOL_SEC(2);
    (void)after_loop(&pool, TPOOL_SEC(1));
    assert_int_equal(0, tpool__load_relaxed(&pool.loop_until));
}
static void a_loop_is_expected_no_longer_than_it_is_worth(void **state) {
    (void)state;
    static tpool pool;
    assert_int_equal(TPOOL__LOOP_SPINS * TPOOL_US(20), after_loop(&pool, TPOOL_US(20)));
}
static uint32_t units(int64_t at) { return (uint32_t)((uint64_t)at / TPOOL__LOOP_UNIT); }

/* How often the worker yields while it looks for work and finds nothing. */
static int yields_for_loops(tpool__worker *worker) {
    atomic_store(&yields, 0);
    worker->failed_spins = OFTEN;
    assert_false(tpool__spin_for_work(worker, TPOOL__FREE_TIME));
    assert_int_equal(0, tpool__load_relaxed(&tpool__spinning));
    return atomic_load(&yields);
}
static void for_longer_than_a_loop_may_wait(void) {
    for (int64_t until = tpool__clock() + 2 * TPOOL__LOOP_LONGEST_SPIN; tpool__clock() < until;) { }
}
static void a_worker_yields_until_a_loop_is_no_longer_expected(void **state) {
    static tpool__worker worker;
    tpool_config config = { 0 };
    config.max_workers = 1;
    assert_status(TPOOL_OK, tpool_create(&worker.pool, &config)); /* it has no thread yet */
    tpool__u32 *until = &worker.pool->loop_until;
    (void)with_a_cpu_to_spare(state);
    int seen = 0;
    int64_t at = 0;
    for (int tries = 0; tries < 1000 && seen == 0; tries++) { /* again if it did not run for so long */
        at = tpool__clock() + TPOOL_MS(1);
        worker.no_loops_until = 0;
        tpool__store_relaxed(until, units(at));
        seen = yields_for_loops(&worker);
    }
    assert_true(seen > 0);
    assert_true(units(tpool__clock()) >= units(at) || worker.no_loops_until > 0); /* unless it came back late */
    worker.no_loops_until = 0;
    tpool__store_relaxed(until, units(tpool__clock()) - 1);
    assert_int_equal(0, yields_for_loops(&worker)); /* it is over */
    tpool__store_relaxed(until, units(tpool__clock()) + (UINT32_C(1) << 31));
    assert_int_equal(0, yields_for_loops(&worker)); /* it was over long ago */
    tpool__store_relaxed(until, 0);
    assert_int_equal(0, yields_for_loops(&worker)); /* none was expected ever */
    for (int i = 0; i < 100; i++) {
        tpool__store_relaxed(until, units(tpool__clock() + TPOOL__LOOP_LONGEST_SPIN));
        tpool__store_relaxed(&worker.pool->loopers, 3); /* more than two CPUs, or one worker */
        assert_int_equal(0, yields_for_loops(&worker));
        tpool__store_relaxed(&worker.pool->loopers, 0);
        tpool__store_relaxed(&tpool__spare_cpus, 0);
        assert_int_equal(0, yields_for_loops(&worker));
        tpool__store_relaxed(&tpool__spare_cpus, 1);
    }
    assert_status(TPOOL_OK, tpool_destroy(worker.pool));
}
static void a_worker_that_comes_back_late_leaves_the_cpu_to_others(void **state) {
    static tpool__worker worker;
    tpool_config config = { 0 };
    config.max_workers = 1;
    assert_status(TPOOL_OK, tpool_create(&worker.pool, &config));
    (void)with_a_cpu_to_spare(state);
    while_off_the_cpu = for_longer_than_a_loop_may_wait;
    for (int round = 0; round < 2; round++) {
        tpool__store_relaxed(&worker.pool->loop_until, units(tpool__clock() + TPOOL__LOOP_LONGEST_SPIN));
        worker.no_loops_until = 0;
        assert_int_equal(1, yields_for_loops(&worker));
        int64_t now = tpool__clock();
        assert_true(worker.no_loops_until > now);
        assert_true(worker.no_loops_until <= now + TPOOL_MS(160)); /* however long it was stopped */
    }
    while_off_the_cpu = NULL;
    assert_status(TPOOL_OK, tpool_destroy(worker.pool));
}

/* The pool has no worker yet, so a helper would start one. */
static void a_loop_uses_no_more_threads_than_cpus_or_workers(void **state) {
    (void)state;
    for (int i = 0; i < 9; i++) {
        tpool_config config = { 0 };
        tpool *pool;
        uintptr_t workers = (uintptr_t)i % 3 + 1, cpus = (uintptr_t)i / 3 + 1, most = workers > cpus ? workers : cpus;
        if (most < 2) most = 2;
        config.max_workers = (int)workers;
        assert_status(TPOOL_OK, tpool_create(&pool, &config));
        tpool__store_relaxed(&tpool__spare_cpus, (uint32_t)cpus - 1);
        for (uintptr_t callers = 0; callers <= most; callers++) {
            tpool__store_relaxed(&pool->loopers, callers);
            tpool__store_relaxed(&pool->gate, TPOOL__ROOM);
            assert_int_equal(callers + 1 > most, tpool__loop_is_full(pool));
            tpool__store_relaxed(&pool->active, 1); /* and searches */
            tpool__store_relaxed(&pool->gate, TPOOL__SEARCHER);
            assert_int_equal(callers + 1 > most, tpool__loop_is_full(pool));
            tpool__store_relaxed(&pool->active, 2);
            tpool__store_relaxed(&pool->gate, 2 * TPOOL__SEARCHER); /* one of them sleeps soon */
            assert_int_equal(callers + 1 > most, tpool__loop_is_full(pool));
            tpool__store_relaxed(&pool->gate, 0); /* all are busy */
            assert_false(tpool__loop_is_full(pool));
            tpool__store_relaxed(&pool->active, 0);
        }
        tpool__store_relaxed(&pool->loopers, 0);
        tpool__store_relaxed(&pool->gate, TPOOL__ROOM);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

static void await_all(atomic_int *come) {
    atomic_fetch_sub(come, 1);
    while (atomic_load(come) > 0) tpool__yield();
}
static void part_of_all(size_t begin, size_t end, void *come) {
    (void)begin, (void)end;
    await_all((atomic_int *)come);
}
/* The loops have two items for the caller and a worker, and are not the same, so they are shared at once. */
static void a_caller_of_shared_loops_expects_more(void **state) {
    (void)state;
    tpool_config config = { 0 };
    tpool *pool;
    config.max_workers = 1;
    assert_status(TPOOL_OK, tpool_create(&pool, &config));
    assert_status(TPOOL_OK, tpool_warm_up(pool, 1));
    tpool__store_relaxed(&tpool__spare_cpus, 1);
    atomic_int come[] = { 2, 2 };
    for (int expected = 0; expected < 2; expected++) {
        await_sleeper(pool);
        tpool__self()->loops_expected = expected ? tpool__clock() + TPOOL_SEC(100) : 0;
        assert_status(TPOOL_OK, tpool_for(pool, 0, 2, 1, part_of_all, &come[expected]));
        assert_true(tpool__self()->loops_expected > 0);
        assert_int_equal(expected, tpool__load_relaxed(&pool->loop_until) > 0);
        assert_int_equal(0, tpool__load_relaxed(&pool->loopers));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
typedef struct full_loop {
    tpool *pool;
    const tpool__thread *caller;
    size_t most; /* items in a part */
    int parts;   /* of the caller's */
    int callers; /* others, at first */
    atomic_int helped;
    tpool_status status;
} full_loop;
static void part_of_full_loop(size_t begin, size_t end, void *context) {
    full_loop *loop = (full_loop *)context;
    if (tpool__self() != loop->caller) {
        atomic_store(&loop->helped, 1);
        return;
    }
    loop->parts++;
    if (end - begin > loop->most) loop->most = end - begin;
    if (loop->parts == 6) tpool__sub_relaxed(&loop->pool->loopers, (uintptr_t)loop->callers);
    int64_t until = tpool__clock() + (loop->parts == 7 ? LIMIT : TPOOL_MS(1)); /* a part is long */
    while (tpool__clock() < until && !atomic_load(&loop->helped)) tpool__yield();
}
/* Other callers make the loop full, before it is shared or once it is, and go. */
static void a_loop_is_helped_once_it_is_no_longer_full(void **state) {
    tpool_config config = { 0 };
    config.max_workers = 2;
    (void)with_a_cpu_to_spare(state);
    for (size_t items = 8; items <= 8000; items *= 1000) {
        for (int callers = 1; callers <= 2; callers++) {
            full_loop loop = { 0 };
            assert_status(TPOOL_OK, tpool_create(&loop.pool, &config));
            loop.caller = tpool__self();
            loop.callers = callers;
            tpool__store_relaxed(&loop.pool->loopers, (uintptr_t)callers);
            assert_status(TPOOL_OK, tpool_for(loop.pool, 0, items, 0, part_of_full_loop, &loop));
            assert_int_equal(1, atomic_load(&loop.helped));
            assert_true(loop.most <= items / 8); /* so that it looks soon */
            assert_int_equal(0, tpool__load_relaxed(&loop.pool->loopers));
            assert_status(TPOOL_OK, tpool_destroy(loop.pool));
        }
    }
}
static void *calls_full_loop(void *context) {
    full_loop *loop = (full_loop *)context;
    loop->caller = tpool__self();
    loop->status = tpool_for(loop->pool, 0, 8, 0, part_of_full_loop, loop);
    return NULL;
}
/* The same for the loop of a worker: it has one helper at most, and has queued that while it was full. */
static void a_worker_s_loop_is_helped_once_it_is_no_longer_full(void **state) {
    tpool_config config = { 0 };
    full_loop loop = { 0 };
    config.max_workers = 2;
    (void)with_a_cpu_to_spare(state);
    assert_status(TPOOL_OK, tpool_create(&loop.pool, &config));
    loop.callers = 2;
    tpool__store_relaxed(&loop.pool->loopers, (uintptr_t)loop.callers);
    tpool_future *task = submitted(loop.pool, calls_full_loop, &loop);
    assert_status(TPOOL_OK, tpool_future_result(task, LIMIT, NULL));
    assert_status(TPOOL_OK, loop.status);
    assert_int_equal(1, atomic_load(&loop.helped));
    tpool_future_release(task);
    assert_status(TPOOL_OK, tpool_destroy(loop.pool));
}
typedef struct beside_task {
    gate at;
    atomic_int come, alone;
} beside_task;
static void part_beside_task(size_t begin, size_t end, void *context) {
    (void)begin, (void)end;
    beside_task *b = (beside_task *)context;
    gate_open(&b->at);
    atomic_fetch_sub(&b->come, 1);
    for (int64_t until = tpool__clock() + LIMIT; tpool__clock() < until && atomic_load(&b->come) > 0;) tpool__yield();
    if (atomic_load(&b->come) > 0) atomic_store(&b->alone, 1);
}
/* With another caller and a worker that is busy the loop is full. The worker's task ends in the caller's first part. */
static void a_busy_worker_helps_a_full_loop_after_its_task(void **state) {
    (void)state;
    beside_task b = { GATE_CLOSED, 2, 0 };
    tpool_config config = { 0 };
    tpool *pool;
    config.max_workers = 3;
    assert_status(TPOOL_OK, tpool_create(&pool, &config));
    tpool_future *task = held_at(pool, &b.at);
    tpool__store_relaxed(&tpool__spare_cpus, 0);
    tpool__store_relaxed(&pool->loopers, 1);
    assert_status(TPOOL_OK, tpool_for(pool, 0, 2, 1, part_beside_task, &b));
    assert_false(atomic_load(&b.alone));
    assert_int_equal(1, tpool__load_relaxed(&pool->live)); /* it has woken no other */
    tpool__store_relaxed(&pool->loopers, 0);
    tpool_future_release(task);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
typedef struct beside_submit {
    tpool *pool;
    tpool_future *future;
    tpool_status status;
} beside_submit;
static void part_beside_submit(size_t begin, size_t end, void *context) {
    (void)end;
    beside_submit *b = (beside_submit *)context;
    if (begin == 0) b->status = tpool_submit(b->pool, nothing, NULL, &b->future);
}
/* The queue has room for one task, which a third worker would take at once. */
static void a_full_loop_takes_no_room_in_a_bounded_queue(void **state) {
    (void)state;
    gate at = GATE_CLOSED;
    beside_submit b = { NULL, NULL, TPOOL_END };
    tpool_config config = { 0 };
    config.max_workers = 3;
    config.queue_capacity = 1;
    config.on_full = TPOOL_FULL_REJECT;
    assert_status(TPOOL_OK, tpool_create(&b.pool, &config));
    tpool_future *task = held_at(b.pool, &at);
    tpool__store_relaxed(&tpool__spare_cpus, 0);
    tpool__store_relaxed(&b.pool->loopers, 1);
    assert_status(TPOOL_OK, tpool_for(b.pool, 0, 2, 1, part_beside_submit, &b));
    assert_status(TPOOL_OK, b.status);
    tpool__store_relaxed(&b.pool->loopers, 0);
    gate_open(&at);
    tpool_future_release(b.future);
    tpool_future_release(task);
    assert_status(TPOOL_OK, tpool_destroy(b.pool));
}
static beside_task *ends_before_helper;
static tpool *its_pool;
static void task_ends(size_t size) {
    if (size != sizeof(tpool__loop_helper)) return;
    before_memory = NULL;
    gate_open(&ends_before_helper->at);
    await_sleeper(its_pool);
}
/* The worker is busy as the caller looks, and sleeps as the caller queues the helper. */
static void a_worker_that_has_gone_to_sleep_is_woken_for_a_full_loop(void **state) {
    (void)state;
    beside_task b = { GATE_CLOSED, 2, 0 };
    tpool_config config = { 0 };
    config.max_workers = 3;
    assert_status(TPOOL_OK, tpool_create(&its_pool, &config));
    tpool_future *task = held_at(its_pool, &b.at);
    tpool__store_relaxed(&tpool__spare_cpus, 0);
    tpool__store_relaxed(&its_pool->loopers, 1);
    ends_before_helper = &b;
    before_memory = task_ends;
    assert_status(TPOOL_OK, tpool_for(its_pool, 0, 2, 1, part_beside_task, &b));
    assert_null(before_memory);
    assert_false(atomic_load(&b.alone));
    tpool__store_relaxed(&its_pool->loopers, 0);
    tpool_future_release(task);
    assert_status(TPOOL_OK, tpool_destroy(its_pool));
}
static void inner_part(size_t begin, size_t end, void *pool) {
    (void)begin, (void)end;
    assert_int_equal(1, tpool__load_relaxed(&((tpool *)pool)->loopers));
}
static void outer_part(size_t begin, size_t end, void *pool) {
    (void)begin, (void)end;
    assert_status(TPOOL_OK, tpool_for((tpool *)pool, 0, 2, 1, inner_part, pool));
}
/* The pool has so many workers that no loop is full. */
static void a_caller_counts_once_however_deep_its_loops_are(void **state) {
    (void)state;
    tpool_config config = { 0 };
    tpool *pool;
    config.max_workers = 8;
    assert_status(TPOOL_OK, tpool_create(&pool, &config));
    assert_status(TPOOL_OK, tpool_for(pool, 0, 2, 1, outer_part, pool));
    assert_int_equal(0, tpool__load_relaxed(&pool->loopers));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void body_ends_its_thread(size_t begin, size_t end, void *context) {
    (void)begin, (void)end, (void)context;
    (void)end_thread(NULL);
}
static void *caller_that_ends(void *pool) {
    (void)tpool_for((tpool *)pool, 0, 2, 1, body_ends_its_thread, NULL);
    return NULL;
}
static void a_caller_whose_body_ends_its_thread_counts_no_more(void **state) {
    (void)state;
    tpool_config config = { 0 };
    tpool *pool;
    config.max_workers = 1;
    assert_status(TPOOL_OK, tpool_create(&pool, &config));
    in_own_thread(caller_that_ends, pool);
    assert_int_equal(0, tpool__load_relaxed(&pool->loopers));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* The pool of a task that is done may be gone, so nothing is read there. */
static void a_waiter_does_not_look_at_the_pool_of_a_task_that_is_done(void **state) {
    tpool_config config = { 0 };
    tpool *pool;
    tpool_future *ended, *queued;
    config.max_workers = 1;
    assert_status(TPOOL_OK, tpool_create(&pool, &config));
    (void)with_a_cpu_to_spare(state);
    ended = submitted(pool, nothing, NULL);
    assert_status(TPOOL_OK, tpool_future_result(ended, TPOOL_FOREVER, NULL));
    await_sleeper(pool);
    assert_status(TPOOL_OK, tpool_pause(pool));
    queued = submitted(pool, nothing, NULL);
    tpool__lock(&pool->lock);
    tpool__store_relaxed(&pool->active, 2);
    assert_true(tpool__needs_all_cpus(tpool__self(), queued));
    assert_false(tpool__needs_all_cpus(tpool__self(), ended));
    tpool__store_relaxed(&pool->active, 0);
    tpool__unlock(&pool->lock);
    assert_status(TPOOL_OK, tpool_resume(pool));
    take(queued);
    tpool_future_release(ended);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
#if defined(COUNTS_PAUSES)
/* How often this thread looks whether a task has ended, beside so many workers that are awake. */
static int looks_for_end(tpool *pool, tpool_future *task, uintptr_t awake) {
    tpool__lock(&pool->lock);
    tpool__store_relaxed(&pool->active, awake);
    tpool__unlock(&pool->lock);
    tpool__self()->failed_spins = 0;
    tpool__self()->woke = false;
    is_the_test = false;
    atomic_store(&pauses_of_others, 0);
    assert_false(tpool__spin_for_end(tpool__self(), task, TPOOL_FOREVER));
    is_the_test = true;
    tpool__lock(&pool->lock);
    tpool__store_relaxed(&pool->active, 0);
    tpool__unlock(&pool->lock);
    return atomic_load(&pauses_of_others);
}
static void a_waiter_leaves_the_cpus_to_the_workers_that_are_awake(void **state) {
    tpool_config config = { 0 };
    tpool *pool;
    tpool_future *queued;
    is_the_test = true;
    config.max_workers = 4;
    assert_status(TPOOL_OK, tpool_create(&pool, &config));
    (void)with_a_cpu_to_spare(state); /* so there are two */
    assert_status(TPOOL_OK, tpool_warm_up(pool, 1));
    await_sleeper(pool);
    assert_status(TPOOL_OK, tpool_pause(pool));
    assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, &queued));
    await_sleeper(pool);
    int leaves = TPOOL__TIME_TO_LEAVE / TPOOL__PAUSE_TIME;
    assert_true(looks_for_end(pool, queued, 1) > 2 * leaves);
    int looks = looks_for_end(pool, queued, 2);
    assert_in_range(looks, leaves - 10, leaves + 10); /* they may be blocked in calls of the system */
    tpool__worker *other = tpool__self()->worker;
    tpool__self()->worker = tpool__first_worker(pool); /* one of the two is the waiter itself */
    int looks_of_worker = looks_for_end(pool, queued, 2);
    tpool__worker apart;
    memset(&apart, 0, sizeof apart);
    apart.pool = pool;
    apart.apart = apart.retired = true;
    tpool__self()->worker = &apart; /* it is not active */
    int looks_of_apart = looks_for_end(pool, queued, 0);
    tpool__self()->worker = other;
    assert_true(looks_of_worker > 2 * leaves);
    assert_true(looks_of_apart > 2 * leaves);
    assert_status(TPOOL_OK, tpool_resume(pool));
    take(queued);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* The fewest of several times, since a lock that it finds held makes it pause too. */
static int fewest_pauses_after_a_task(tpool *pool, uint32_t failed_spins) {
    int fewest = MORE_THAN_EVER;
    for (int i = 0; i < 20; i++) {
        tpool_future *future;
        await_sleeper(pool);
        tpool__lock(&pool->lock);
        tpool__first_worker(pool)->failed_spins = failed_spins;
        tpool__unlock(&pool->lock);
        atomic_store(&pauses_of_others, 0);
        future = submitted(pool, nothing, NULL);
        while (!tpool_future_done(future)) tpool__yield();
        tpool_future_release(future);
        await_sleeper(pool);
        if (atomic_load(&pauses_of_others) < fewest) fewest = atomic_load(&pauses_of_others);
    }
    return fewest;
}
static void a_worker_woken_for_one_task_looks_on_for_a_moment_only(void **state) {
    tpool_config config = { 0 };
    tpool *pool;
    is_the_test = true;
    config.max_workers = 1;
    assert_status(TPOOL_OK, tpool_create(&pool, &config));
    (void)with_a_cpu_to_spare(state);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 1));
    assert_int_equal(FEW_LOOKS, fewest_pauses_after_a_task(pool, OFTEN));
    assert_true(fewest_pauses_after_a_task(pool, 0) > FREE_LOOKS);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* A task awaits others in turn. Another worker has the first. */
static struct {
    tpool *pool;
    _Atomic(tpool__worker *) awaiting, thief;
    atomic_int begun, may_end, ended, second_begun, paused;
} turns;
static void *first_awaited(void *unused) {
    turns.thief = tpool__self()->worker;
    atomic_store(&turns.begun, 1);
    while (!atomic_load(&turns.may_end)) tpool__yield();
    int64_t until = tpool__clock() + TPOOL__STEAL_PAYS; /* so that it does not delay its next steal */
    while (tpool__clock() < until) { }
    atomic_store(&turns.ended, 1);
    return unused;
}
static void *second_awaited(void *unused) {
    atomic_store(&turns.second_begun, 1);
    return unused;
}
static void *awaits_in_turn(void *unused) {
    turns.awaiting = tpool__self()->worker;
    tpool_future *futures[20];
    assert_status(TPOOL_OK, tpool_pause(turns.pool));
    for (int i = 0; i < 20; i++) futures[i] = submitted(turns.pool, i ? second_awaited : first_awaited, NULL);
    assert_status(TPOOL_OK, tpool_resume(turns.pool));
    while (!atomic_load(&turns.begun)) tpool__yield();
    tpool__self()->failed_spins = 0;
    tpool__self()->woke = false;
    for (int i = 0; i < 20; i++) take(futures[i]);
    return unused;
}
/* The waiter spins on for as long as the thief takes to pause, or to begin the second task. */
static void await_the_thief(void) {
    const tpool__worker *worker = tpool__self()->worker;
    if (worker && worker == turns.thief && atomic_load(&turns.ended) && !atomic_load(&turns.second_begun))
        atomic_store(&turns.paused, 1);
    if (!worker || worker != turns.awaiting || !tpool__load_relaxed(&worker->awaits)) return;
    atomic_store(&turns.may_end, 1);
    while (!atomic_load(&turns.paused) && !atomic_load(&turns.second_begun)) tpool__yield();
}
static void a_thief_lets_a_waiter_that_spins_begin_the_next_task(void **state) {
    (void)state;
    tpool_config config = { 0 };
    config.max_workers = 2;
    assert_status(TPOOL_OK, tpool_create(&turns.pool, &config));
    assert_status(TPOOL_OK, tpool_warm_up(turns.pool, 2));
    tpool__store_relaxed(&tpool__spare_cpus, 2);
    while_it_pauses = await_the_thief;
    take(submitted(turns.pool, awaits_in_turn, NULL));
    while_it_pauses = NULL;
    assert_true(atomic_load(&turns.paused));
    assert_int_equal(0, tpool__load_relaxed(&turns.awaiting->awaits));
    assert_status(TPOOL_OK, tpool_destroy(turns.pool));
}
#endif

/* ---- A lock with a light unlock */
static tpool__lock_word lock;
static _Atomic(bool) lock_awaited;
static tpool_status takes_the_lock(void *context) {
    tpool__light_lock(&lock, &lock_awaited);
    tpool__light_unlock(&lock, &lock_awaited);
    (void)context;
    return TPOOL_OK;
}
static void an_unlock_wakes_one_that_sleeps_and_that_one_the_next(void **state) {
    background sleepers[3];
    (void)state;
    tpool__light_lock(&lock, &lock_awaited);
    for (int i = 0; i < 3; i++) {
        background_start(&sleepers[i], takes_the_lock, NULL);
        background_await_block(&sleepers[i]);
    }
    tpool__light_unlock(&lock, &lock_awaited);
    for (int i = 0; i < 3; i++) assert_status(TPOOL_OK, background_join(&sleepers[i]));
}
static void whoever_an_unlock_has_not_seen_is_woken_by_the_next(void **state) {
    background sleeper;
    (void)state;
    tpool__light_lock(&lock, &lock_awaited);
    background_start(&sleeper, takes_the_lock, NULL);
    background_await_block(&sleeper);
    tpool__note_unlocked(&lock);
    tpool__store_release(&lock, TPOOL__LOCK_FREE); /* it has looked before the sleeper came */
    assert_false(atomic_load(&sleeper.returned));
    assert_status(TPOOL_OK, takes_the_lock(NULL));
    assert_status(TPOOL_OK, background_join(&sleeper));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup(without_a_cpu_to_spare_nobody_looks, with_a_cpu_to_spare),
    cmocka_unit_test_setup(some_time_is_free_whatever_failed_before, with_a_cpu_to_spare),
    cmocka_unit_test_setup(each_failed_spin_halves_the_budget, with_a_cpu_to_spare),
    cmocka_unit_test_setup(a_spin_ends_at_the_deadline, with_a_cpu_to_spare),
    cmocka_unit_test_setup(no_more_threads_look_on_than_cpus_are_to_spare, with_a_cpu_to_spare),
    cmocka_unit_test_setup(only_so_much_is_free_as_told, with_a_cpu_to_spare),
    cmocka_unit_test_setup(now_and_then_it_tries_again, with_a_cpu_to_spare),
    cmocka_unit_test_setup(what_comes_gives_hope, with_a_cpu_to_spare),
    cmocka_unit_test_setup(a_spin_that_succeeds_is_tried_again_at_once, with_a_cpu_to_spare),
    TEST(who_woke_a_worker_and_may_not_look_gives_way_once),
    TEST(the_moment_between_two_looks_is_about_the_same_whatever_the_cpus_pause_takes),
    TEST(a_wake_is_remembered_until_the_next_look),
    TEST(an_unlock_wakes_one_that_sleeps_and_that_one_the_next),
    TEST(whoever_an_unlock_has_not_seen_is_woken_by_the_next),
    TEST(workers_expect_a_loop_once_two_came_soon_after_one_another),
    TEST(a_loop_is_expected_no_longer_than_it_is_worth),
    TEST(a_worker_yields_until_a_loop_is_no_longer_expected),
    TEST(a_worker_that_comes_back_late_leaves_the_cpu_to_others),
    TEST(a_loop_uses_no_more_threads_than_cpus_or_workers),
    TEST(a_caller_of_shared_loops_expects_more),
    TEST(a_caller_whose_body_ends_its_thread_counts_no_more),
    TEST(a_loop_is_helped_once_it_is_no_longer_full),
    TEST(a_worker_s_loop_is_helped_once_it_is_no_longer_full),
    TEST(a_busy_worker_helps_a_full_loop_after_its_task),
    TEST(a_worker_that_has_gone_to_sleep_is_woken_for_a_full_loop),
    TEST(a_full_loop_takes_no_room_in_a_bounded_queue),
    TEST(a_caller_counts_once_however_deep_its_loops_are),
    TEST(a_waiter_does_not_look_at_the_pool_of_a_task_that_is_done),
#if defined(COUNTS_PAUSES)
    TEST(a_waiter_leaves_the_cpus_to_the_workers_that_are_awake),
    TEST(a_worker_woken_for_one_task_looks_on_for_a_moment_only),
    TEST(a_thief_lets_a_waiter_that_spins_begin_the_next_task),
#endif
};
RUN_TESTS(tests)
