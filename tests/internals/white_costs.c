/* What must not cost more the more there is, and what a pool's life may cost: counted in atomic accesses of one thread,
   and in calls of the system, not in time. */
#include <stddef.h>
static _Thread_local size_t accesses;
static void count_access(void) { accesses++; } /* a call: one expression may have several */
#define TPOOL__SCHEDULE_POINT() count_access()
#include "support.h"

#if defined(__linux__)
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
static atomic_size_t mappings, questions; /* of memory; of how a thread is scheduled */
static void count_call(long number) {
    if (number == SYS_sched_getaffinity || number == SYS_sched_getscheduler || number == SYS_sched_getparam ||
        number == SYS_sched_getattr)
        atomic_fetch_add(&questions, 1);
}
#define mmap(...) (atomic_fetch_add(&mappings, 1), mmap(__VA_ARGS__))
#define getpriority(...) (atomic_fetch_add(&questions, 1), getpriority(__VA_ARGS__))
#define syscall(number, ...) (count_call(number), syscall(number, __VA_ARGS__))
#endif
#include "internals/check.h"
#undef mmap
#undef getpriority
#undef syscall

enum { MANY = 4000, A_FEW = 40 }; /* a few per future and look would be more than that by far */
static tpool_future *futures[MANY];

static void *nap(void *arg) { /* now and then, so that who waits sleeps */
    if (arg) sleep_ms(1);
    return arg;
}
static void submit_expiring(tpool *pool, int64_t expires_ns) {
    for (size_t i = 0; i < MANY; i++) {
        tpool_task task = { .fn = nap, .arg = i % 20 ? NULL : &futures[i], .expires_ns = expires_ns };
        futures[i] = submitted_task(pool, task);
    }
}
static void release_all(void) {
    for (size_t i = 0; i < MANY; i++) tpool_future_release(futures[i]);
}

/* Of a million futures that might expire in an hour, an iterator looks at none. */
static void an_iterator_does_not_look_through_what_may_expire(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    submit_expiring(h.pool, TPOOL_SEC(3600));
    tpool_completions *completions;
    tpool_future *future;
    assert_status(TPOOL_OK, tpool_as_completed(futures, MANY, &completions));
    accesses = 0;
    assert_status(TPOOL_TIMEOUT, tpool_completions_next(completions, TPOOL_MS(30), &future));
    assert_status(TPOOL_TIMEOUT, tpool_completions_next(completions, 0, &future));
    assert_true(accesses < MANY);
    gate_open(&h.gate);
    for (size_t i = 0; i < MANY; i++) assert_status(TPOOL_OK, tpool_completions_next(completions, LIMIT, &future));
    assert_int_equal(0, completions->expiries.count); /* each has left them with its item */
    assert_status(TPOOL_END, tpool_completions_next(completions, LIMIT, &future));
    tpool_completions_destroy(completions);
    release_all();
    held_destroy(&h);
}

/* Nor does it forget any: they expire in another order than that in which they were added, and others that would have
 * expired later, or sooner, leave before. */
static int next_that_expired(tpool_completions *completions) {
    tpool_future *future;
    assert_status(TPOOL_OK, tpool_completions_next(completions, TPOOL_SEC(20), &future)); /* before any other expires */
    if (tpool_future_cancelled(future)) return 0;
    assert_status(TPOOL_EXPIRED, tpool_future_result(future, 0, NULL));
    assert_true(tpool_now() >= tpool__extra_of(future)->expires_at);
    return 1;
}
static void an_iterator_ends_each_at_its_time(void **state) {
    (void)state;
    enum { SOME = 300, OTHERS = 100 };
    int expired = 0;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    tpool_completions *completions;
    assert_status(TPOOL_OK, tpool_pause(pool));
    assert_status(TPOOL_OK, tpool_as_completed(NULL, 0, &completions));
    for (size_t i = 0; i < OTHERS; i++) {
        tpool_task task = { .fn = nothing, .expires_ns = TPOOL_SEC(i % 2 ? 3600 : 60) };
        assert_status(TPOOL_OK, tpool_submit_task(pool, &task, &futures[SOME + i]));
        assert_status(TPOOL_OK, tpool_completions_add(completions, futures[SOME + i]));
    }
    for (size_t i = 0; i < SOME; i++) {
        tpool_task task = { .fn = nothing, .expires_ns = TPOOL_MS(200) + (int64_t)(i * 7919 % SOME) * 100000 };
        futures[i] = submitted_task(pool, task);
        assert_status(TPOOL_OK, tpool_completions_add(completions, futures[i]));
        tpool_future_release(futures[i]);
    }
    for (size_t i = 0; i < OTHERS; i++) {
        assert_true(tpool_future_cancel(futures[SOME + i]));
        expired += next_that_expired(completions); /* none, unless the machine is that late */
        tpool_future_release(futures[SOME + i]);
    }
    /* each that is left knows its place, so that no other is taken out for it */
    for (size_t i = 0; i < completions->expiries.count; i++)
        assert_int_equal(i, ((tpool__expiring_item *)completions->expiries.heap[i].of)->place);
    for (size_t i = 0; i < SOME; i++) expired += next_that_expired(completions);
    assert_int_equal(SOME, expired);
    tpool_completions_destroy(completions);
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* A full queue finds the one task that has expired among all that may, though it looks anew for each. */
static void a_full_queue_does_not_look_through_what_may_expire(void **state) {
    (void)state;
    enum { EARLY = 20 };
    static gate hold = GATE_CLOSED;
    gate_close(&hold);
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = MANY, .on_full = TPOOL_FULL_REJECT });
    assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
    AWAIT_ARRIVALS(&hold, 1);
    for (size_t i = 0; i < MANY; i++) {
        bool early = i % (MANY / EARLY) == 0;
        size_t number = i / (MANY / EARLY) * 7 % EARLY;
        tpool_task task = { .fn = nothing,
                            .priority = i % 400 == 200,
                            .expires_ns = early ? TPOOL_MS(200) + (int64_t)number * TPOOL_MS(10) : TPOOL_SEC(3600) };
        assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    }
    size_t most = 0, taken = 0;
    for (int64_t end = tpool_now() + LIMIT; taken < EARLY && tpool_now() < end; sleep_ms(1)) {
        accesses = 0;
        tpool_status status = tpool_submit(pool, nothing, NULL, NULL);
        if (status == TPOOL_OK) taken++;
        else assert_status(TPOOL_FULL, status);
        if (accesses > most) most = accesses;
    }
    assert_int_equal(EARLY, taken);
    assert_true(most < MANY / 2); /* all of them together, if the machine was that late */
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    tpool_stats stats;
    assert_status(TPOOL_OK, tpool_get_stats(pool, &stats));
    assert_int_equal(EARLY, stats.expired);
    assert_int_equal(0, pool->expiring.count); /* each has left with its entry */
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_wait_does_not_look_through_what_may_expire(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    submit_expiring(h.pool, TPOOL_SEC(3600));
    accesses = 0;
    gate_open(&h.gate);
    assert_status(TPOOL_OK, tpool_wait(futures, MANY, TPOOL_ALL_COMPLETED, LIMIT, NULL));
    assert_true(accesses < (size_t)A_FEW * MANY);
    release_all();
    held_destroy(&h);
}

/* A task that waits for many sleeps often; it is recorded once. */
static size_t searched;
static void *wait_for_all(void *arg) {
    accesses = 0;
    assert_status(TPOOL_OK, tpool_wait(futures, MANY, TPOOL_ALL_COMPLETED, TPOOL_FOREVER, NULL));
    searched = accesses;
    return arg;
}
static void a_task_that_waits_for_many_is_not_searched_at_each_sleep(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    tpool_future *waits;
    for (size_t i = 0; i < MANY; i++) assert_status(TPOOL_OK, tpool_future_create(&futures[i]));
    waits = submitted(pool, wait_for_all, NULL);
    for (size_t i = 0; i < MANY; i++) {
        if (i % 4 == 0) sleep_ms(1); /* so that it sleeps a thousand times at least */
        assert_status(TPOOL_OK, tpool_future_set_result(futures[i], NULL));
    }
    assert_status(TPOOL_OK, tpool_future_result(waits, LIMIT, NULL));
    /* what a sleep costs by itself counts too, and on a busy machine there may be one for each future */
    assert_true(searched < (size_t)10 * A_FEW * MANY);
    tpool_future_release(waits);
    release_all();
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* In a task an iterator looks at what is left only if the task is part of an initializer. */
static void *drip(void *arg) {
    tpool_completions *completions = arg;
    tpool_future *future;
    accesses = 0;
    for (int i = 0; i < 20; i++)
        assert_status(TPOOL_TIMEOUT, tpool_completions_next(completions, TPOOL_MS(1), &future));
    searched = accesses;
    return arg;
}
static gate in_initializer = GATE_CLOSED;
static bool stay_in_initializer(void *context) {
    (void)gate_task(context);
    return true;
}
static void a_task_does_not_look_through_what_its_iterator_holds(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    tpool *other =
        new_pool_as((tpool_config){ .max_workers = 1, .initializer = stay_in_initializer, .context = &in_initializer });
    assert_status(TPOOL_OK, tpool_submit(other, nothing, NULL, NULL)); /* now there is an initializer that runs */
    AWAIT_ARRIVALS(&in_initializer, 1);
    tpool_future *drips;
    tpool_completions *completions;
    for (size_t i = 0; i < MANY; i++) assert_status(TPOOL_OK, tpool_submit(other, nothing, NULL, &futures[i]));
    assert_status(TPOOL_OK, tpool_as_completed(futures, MANY, &completions));
    drips = submitted(pool, drip, completions);
    assert_status(TPOOL_OK, tpool_future_result(drips, LIMIT, NULL));
    assert_true(searched < MANY);
    gate_open(&in_initializer);
    tpool_future_release(drips);
    tpool_completions_destroy(completions);
    release_all();
    assert_status(TPOOL_OK, tpool_destroy(other));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* A submit that drops the oldest of a million costs what it costs with 10,000: as many atomic accesses, and no more of
 * the heap than a path through it. The heap's pages are closed before, and each that is touched is counted. */
#if defined(__linux__)
static char *closed_from, *closed_to;
static size_t page_size;
static volatile size_t touched;
static void open_page(int number, siginfo_t *info, void *context) {
    char *page = (char *)((uintptr_t)info->si_addr & ~(uintptr_t)(page_size - 1));
    (void)context;
    if (page < closed_from || page >= closed_to || mprotect(page, page_size, PROT_READ | PROT_WRITE) != 0)
        signal(number, SIG_DFL); /* a crash: the access comes again */
    touched++;
}
static void most_of_a_drop(size_t waiting, size_t *most_accesses, size_t *most_pages) {
    static gate hold = GATE_CLOSED;
    gate_close(&hold);
    tpool *pool =
        new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = waiting, .on_full = TPOOL_FULL_DROP_OLDEST });
    assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
    AWAIT_ARRIVALS(&hold, 1);
    for (size_t i = 0; i < waiting; i++) assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
    assert_int_equal(waiting, pool->heap_count);
    size_t bytes = (pool->heap_size + 2) * sizeof *pool->heap;
    closed_from = (char *)(((uintptr_t)pool->heap + page_size) & ~(uintptr_t)(page_size - 1));
    closed_to = (char *)(((uintptr_t)pool->heap + bytes) & ~(uintptr_t)(page_size - 1));
    *most_accesses = *most_pages = 0;
    for (int i = 0; i < 20; i++) {
        assert_int_equal(0, mprotect(closed_from, (size_t)(closed_to - closed_from), PROT_NONE));
        accesses = touched = 0;
        assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
        if (accesses > *most_accesses) *most_accesses = accesses;
        if (touched > *most_pages) *most_pages = touched;
    }
    assert_int_equal(0, mprotect(closed_from, (size_t)(closed_to - closed_from), PROT_READ | PROT_WRITE));
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_CANCEL_PENDING));
    gate_open(&hold);
    assert_int_equal(20, stats_of(pool).dropped);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_drop_does_not_look_through_what_waits(void **state) {
    (void)state;
    struct sigaction action = { .sa_flags = SA_SIGINFO }, before;
    size_t few_accesses, few_pages, many_accesses, many_pages;
    if (tpool__memory_is_checked()) skip(); /* valgrind takes a closed page for one that was never there */
    page_size = (size_t)sysconf(_SC_PAGESIZE);
    action.sa_sigaction = open_page;
    assert_int_equal(0, sigaction(SIGSEGV, &action, &before));
    most_of_a_drop(10000, &few_accesses, &few_pages);
    most_of_a_drop(COUNT(1000000), &many_accesses, &many_pages);
    assert_int_equal(0, sigaction(SIGSEGV, &before, NULL));
    assert_true(many_accesses <= few_accesses + A_FEW);
    assert_true(few_pages > 0 && many_pages <= 4 * 20); /* the depth of the heap and the neighbours, twice */
}
#endif

/* A worker's looks for work cost what they did before the pool once had many workers. It tells between two tasks. */
static void *tell_accesses(void *arg) {
    *(size_t *)arg = accesses;
    accesses = 0;
    return arg;
}
static int compare_sizes(const void *a, const void *b) {
    size_t left = *(const size_t *)a, right = *(const size_t *)b;
    return (left > right) - (left < right);
}
/* The median: a look is longer where others hold a lock that it needs, and shorter where work comes in the midst. */
static size_t usual_look(tpool *pool) {
    enum { LOOKS = 11 };
    size_t told[LOOKS] = { 0 };
    for (int i = -1; i < LOOKS; i++) { /* the first tells of what was before */
        assert_status(TPOOL_OK, end_of(submitted(pool, tell_accesses, &told[i < 0 ? 0 : i])));
        REQUIRE_EVENTUALLY(stats_of(pool).idle == 1);
    }
    qsort(told, LOOKS, sizeof told[0], compare_sizes);
    return told[LOOKS / 2];
}
static void a_look_costs_no_more_after_a_burst(void **state) {
    (void)state;
    enum { BURST = COUNT(300) };
    static gate hold = GATE_CLOSED;
    gate_close(&hold);
    tpool *pool = new_pool_as((tpool_config){ .max_workers = BURST, .min_workers = 1, .idle_timeout_ns = TPOOL_MS(5) });
    size_t before = usual_look(pool);
    for (int i = 0; i < BURST; i++) assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
    AWAIT_ARRIVALS(&hold, BURST);
    gate_open(&hold);
    REQUIRE_EVENTUALLY(stats_of(pool).workers == 1);
    REQUIRE_EVENTUALLY(!pool->leftovers);
    size_t after = usual_look(pool);
    assert_true(before > 0 && after <= before + A_FEW);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* A pool whose workers are all blocked has settled once the timer is armed: further submits find no more to do than
 * where its worker computes. */
static void *wait_for_it(void *task) {
    assert_status(TPOOL_OK, tpool_future_result(task, TPOOL_FOREVER, NULL));
    return NULL;
}
static size_t cost_of_a_submit(tpool *pool) {
    size_t least = SIZE_MAX;
    for (int i = 0; i < 10; i++) {
        accesses = 0;
        assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
        if (i > 0 && accesses < least) least = accesses;
    }
    return least;
}
static void a_submit_into_a_stalled_pool_costs_no_more(void **state) {
    (void)state;
    held_pool busy;
    held_create(&busy, NULL);
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .max_spares = -1 });
    assert_status(TPOOL_OK, tpool_submit(pool, wait_for_it, busy.holder, NULL));
    REQUIRE_EVENTUALLY(tpool__spares_used_up(pool)); /* the wait is for a task: one comes after a second */
    size_t into_busy = cost_of_a_submit(busy.pool), into_stalled = cost_of_a_submit(pool);
    gate_open(&busy.gate); /* so the wait ends */
    assert_status(TPOOL_OK, tpool_destroy(pool));
    held_destroy(&busy);
    assert_true(into_stalled <= into_busy + 2);
}

/* A search for what a pool needs takes a short look at an iterator, and the next one goes on behind it. */
static void short_looks_see_all_of_an_iterator_in_turn(void **state) {
    (void)state;
    enum { BARE = 2000, LOOKS = 20 };
    held_pool h;
    held_create(&h, NULL);
    for (int round = 0; round < 8; round++) {
        tpool_completions *completions = NULL;
        tpool_future *some[TPOOL__MOST_NEEDED], *pending = submitted(h.pool, nothing, NULL);
        bool all = false, seen = false;
        for (size_t i = 0; i < BARE; i++) assert_status(TPOOL_OK, tpool_future_create(&futures[i]));
        assert_status(TPOOL_OK, tpool_as_completed(futures, BARE, &completions));
        assert_status(TPOOL_OK, tpool_completions_add(completions, pending));
        for (int look = 0; look < BARE / TPOOL__MOST_NEEDED + LOOKS && !seen; look++) {
            tpool__lock(&tpool__cycles.lock);
            size_t count = tpool__completions_some(completions, some, TPOOL__MOST_NEEDED, &all);
            tpool__unlock(&tpool__cycles.lock);
            for (size_t i = 0; i < count; i++) seen = seen || some[i] == pending;
        }
        tpool_completions_destroy(completions);
        for (size_t i = 0; i < BARE; i++) tpool_future_release(futures[i]);
        tpool_future_release(pending);
        assert_true(seen);
    }
    held_destroy(&h);
}

#if defined(__linux__)
static void live_once(void) {
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* The next pool finds the memory of the last, and two questions tell how a thread is scheduled: the creator's and the
 * worker's. */
static void a_short_life_maps_nothing_and_asks_little(void **state) {
    (void)state;
    enum { LIVES = 10, THREADS = 2 };
    uint64_t room[6] = { 0 }; /* for what the kernel's first version of this call tells */
    bool has_one_for_all = syscall(SYS_sched_getattr, 0, room, sizeof room, 0u) == 0;
    live_once();
    atomic_store(&mappings, 0);
    atomic_store(&questions, 0);
    for (int i = 0; i < LIVES; i++) live_once();
    assert_int_equal(0, atomic_load(&mappings));
    assert_true(atomic_load(&questions) <= (has_one_for_all ? 2 : 5) * LIVES * THREADS);
}
#endif

int main(void) {
    assert_true(tpool__process_ready());
    tpool__store_relaxed(&tpool__spare_cpus, 0); /* nobody looks on, which would be accesses */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_iterator_does_not_look_through_what_may_expire),
        cmocka_unit_test(an_iterator_ends_each_at_its_time),
        cmocka_unit_test(a_full_queue_does_not_look_through_what_may_expire),
        cmocka_unit_test(a_wait_does_not_look_through_what_may_expire),
        cmocka_unit_test(a_task_that_waits_for_many_is_not_searched_at_each_sleep),
        cmocka_unit_test(a_task_does_not_look_through_what_its_iterator_holds),
        cmocka_unit_test(a_look_costs_no_more_after_a_burst),
        cmocka_unit_test(a_submit_into_a_stalled_pool_costs_no_more),
        cmocka_unit_test(short_looks_see_all_of_an_iterator_in_turn),
#if defined(__linux__)
        cmocka_unit_test(a_drop_does_not_look_through_what_waits),
        cmocka_unit_test(a_short_life_maps_nothing_and_asks_little),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
