/* The workers of a pool: when they start and end, how many there are, what they are called, what happens when they
   cannot start or when a task ends its thread. What tasks touch is static, so that it is still there when a failed
   assertion has left the test. */
#include "support.h"
#include "support/workers.h"
#include <signal.h>
#include <time.h>
#ifdef __linux__
#include <sys/resource.h>
#endif
#if defined(__has_include) && !defined(_WIN32) /* there a compiler may find the header of another system */
#if defined(__GLIBC__) && __GLIBC_MINOR__ < 28 /* it has none, though the compiler may have a later one's headers */
#elif __has_include(<threads.h>) && !SLOW_TOOL /* ThreadSanitizer does not know C11 threads */
#include <threads.h>
#define HAVE_THRD_EXIT 1
#endif
#endif

#ifndef HAVE_THRD_EXIT
#define HAVE_THRD_EXIT 0
#endif

static void *give_worker_number(void *arg) {
    (void)arg;
    return (void *)(intptr_t)worker_number;
}

static int number_from(tpool_future *future) {
    void *result = take(future);
    return (int)(intptr_t)result;
}

/* --- workers start when they are needed */

static void three_submits_each_awaited_use_one_thread(void **state) {
    (void)state;
    for (int round = 0; round < COUNT(100); round++) {
        tpool *pool = new_counted_pool(4);
        for (int i = 0; i < 3; i++) {
            tpool_future *future = submitted(pool, give_worker_number, NULL);
            if (round % 2) {
                while (!tpool_future_done(future)) { } /* learns it without a wait, at the first moment */
            }
            assert_int_equal(1, number_from(future));
        }
        assert_int_equal(1, stats_of(pool).workers);
        assert_int_equal(1, atomic_load(&initialized));
        assert_status(TPOOL_OK, tpool_destroy(pool));
        assert_int_equal(1, atomic_load(&initialized));
        assert_int_equal(1, atomic_load(&finalized));
    }
}

static void a_submit_starts_a_worker_only_when_none_is_free(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    tpool *pool = new_counted_pool(3);
    assert_int_equal(0, stats_of(pool).workers);
    for (int i = 1; i <= 3; i++) {
        assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
        AWAIT_ARRIVALS(&hold, i);
        assert_int_equal(i, stats_of(pool).workers);
        assert_int_equal(i, stats_of(pool).active);
    }
    assert_int_equal(3, atomic_load(&initialized));
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    EVENTUALLY(stats_of(pool).idle == 3);
    assert_int_equal(0, stats_of(pool).active);
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    assert_int_equal(3, atomic_load(&initialized));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* A worker counts as looking for work as soon as its task's end is decided; but not while it still runs the program's
   code, here to free what a task that nobody asks for has returned. */
static void pass_gate_in_free(void *result) { gate_pass(result); }
static void *return_owned_gate(void *arg) { return tpool_return_owned(arg, pass_gate_in_free); }

static void while_a_worker_frees_a_result_another_runs_the_next_task(void **state) {
    (void)state;
    static gate freeing;
    freeing = (gate)GATE_CLOSED;
    tpool *pool = new_pool(2);
    tpool_task task = { .fn = return_owned_gate, .arg = &freeing, .name = "named, so that it has a future inside" };
    assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    AWAIT_ARRIVALS(&freeing, 1);
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    gate_open(&freeing);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static atomic_int first_initialized; /* the system's number of the first worker's thread */
static gate slow_initializer;
static bool be_slow_after_the_first(void *context) {
    (void)context;
    if (atomic_exchange(&first_initialized, system_thread()) != 0) gate_pass(&slow_initializer);
    return true;
}

static void beside_a_slow_initializer_a_sleeper_runs_what_comes(void **state) {
    (void)state;
    slow_initializer = (gate)GATE_CLOSED;
    atomic_store(&first_initialized, 0);
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 2, .initializer = be_slow_after_the_first });
    assert_status(TPOOL_OK, tpool_warm_up(pool, 1));
    int looks = 0;
    EVENTUALLY((looks = thread_sleeps(atomic_load(&first_initialized)) ? looks + 1 : 0) >= 5);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 2));
    AWAIT_ARRIVALS(&slow_initializer, 1);
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    gate_open(&slow_initializer);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* As many workers start at once as there are tasks for them, and no more. */
static bool wait_in_initializer(void *context) {
    gate_pass((gate *)context);
    return true;
}
static void *give_item(void *item, void *context) {
    (void)context;
    return item;
}
static tpool_map_iter *mapped(tpool *pool, int count) {
    static int items[8];
    tpool_map_iter *iter = NULL;
    tpool_map_spec spec = {
        .fn = give_item, .items = items, .count = (size_t)count, .stride = sizeof(int), .chunk_size = 1
    };
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    return iter;
}
static void check_that_start(tpool *pool, gate *initializers, int count) {
    AWAIT_ARRIVALS(initializers, count);
    sleep_ms(20);
    assert_int_equal(count, gate_arrived(initializers));
    gate_open(initializers);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
}
static void initializers_run_side_by_side(void **state) {
    (void)state;
    for (int count = 1; count <= 4; count++) {
        for (int way = 0; way < 4; way++) {
            gate initializers = GATE_CLOSED;
            tpool *pool = new_pool_as(
                (tpool_config){ .max_workers = 4, .initializer = wait_in_initializer, .context = &initializers });
            tpool_map_iter *iter = NULL, *other = NULL;
            tpool_task task = { .fn = nothing, .priority = way == 1 };
            if (way < 2) {
                for (int i = 0; i < count; i++) assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
            } else {
                int first = way == 2 ? count : count / 2 + 1;
                iter = mapped(pool, first);
                if (count > first) other = mapped(pool, count - first);
            }
            check_that_start(pool, &initializers, count);
            if (iter) tpool_map_close(iter);
            if (other) tpool_map_close(other);
            assert_status(TPOOL_OK, tpool_destroy(pool));
        }
    }
}

static atomic_int at_once, most_at_once;
static void *note_how_many_at_once(void *arg) {
    int now = atomic_fetch_add(&at_once, 1) + 1, most = atomic_load(&most_at_once);
    while (now > most && !atomic_compare_exchange_weak(&most_at_once, &most, now)) { }
    if (arg) sleep_ms(1);
    atomic_fetch_sub(&at_once, 1);
    return NULL;
}

static void never_more_than_max_workers_run_at_once(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    atomic_store(&most_at_once, 0);
    tpool *pool = new_pool(3);
    for (int i = 0; i < 20; i++) assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
    AWAIT_ARRIVALS(&hold, 3);
    sleep_ms(20);
    assert_int_equal(3, gate_arrived(&hold));
    tpool_stats stats = stats_of(pool);
    assert_int_equal(3, stats.workers);
    assert_int_equal(3, stats.active);
    assert_int_equal(0, stats.idle);
    assert_int_equal(17, stats.queued);
    for (int i = 0; i < 500; i++) {
        assert_status(TPOOL_OK, tpool_submit(pool, note_how_many_at_once, i % 20 ? NULL : &hold, NULL));
    }
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_in_range(atomic_load(&most_at_once), 1, 3);
    assert_int_equal(3, stats_of(pool).workers);
    assert_int_equal(0, stats_of(pool).spared);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void all_workers_are_used_when_there_is_work_for_them(void **state) {
    (void)state;
    for (int round = 0; round < COUNT(50); round++) {
        static gate hold = GATE_CLOSED;
        gate_close(&hold);
        tpool *pool = new_pool(4);
        for (int i = 0; i < 4; i++) assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
        AWAIT_ARRIVALS(&hold, 4); /* fails if two of them share a worker */
        gate_open(&hold);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

static void warm_up_starts_workers_up_to_max_workers(void **state) {
    (void)state;
    tpool *pool = new_counted_pool(4);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 0));
    assert_int_equal(0, stats_of(pool).workers);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 3));
    assert_int_equal(3, stats_of(pool).workers);
    EVENTUALLY(atomic_load(&initialized) == 3);
    EVENTUALLY(stats_of(pool).idle == 3);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 2)); /* there are more already */
    assert_int_equal(3, stats_of(pool).workers);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 1000));
    assert_int_equal(4, stats_of(pool).workers);
    EVENTUALLY(atomic_load(&initialized) == 4); /* one whose thread has not come that far counts as idle too */
    EVENTUALLY(stats_of(pool).idle == 4);
    for (int i = 0; i < 10; i++) assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    assert_int_equal(4, atomic_load(&initialized));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(4, atomic_load(&finalized));
}

/* --- idle workers */

static void idle_workers_end_down_to_min_workers(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    reset_counts();
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 4,
                                              .min_workers = 1,
                                              .idle_timeout_ns = TPOOL_MS(20),
                                              .initializer = number_worker,
                                              .finalizer = count_finalized });
    for (int i = 0; i < 4; i++) assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
    AWAIT_ARRIVALS(&hold, 4);
    sleep_ms(60);
    assert_int_equal(4, stats_of(pool).workers); /* busy is not idle */
    gate_open(&hold);
    EVENTUALLY(stats_of(pool).workers == 1);
    EVENTUALLY(atomic_load(&finalized) == 3);
    sleep_ms(100);
    assert_int_equal(1, stats_of(pool).workers);
    assert_int_equal(3, atomic_load(&finalized));
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    assert_int_equal(4, atomic_load(&initialized)); /* the one that stayed ran it */
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(4, atomic_load(&finalized));
}

static void without_min_workers_all_idle_ones_end_and_new_ones_start(void **state) {
    (void)state;
    reset_counts();
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 3,
                                              .idle_timeout_ns = TPOOL_MS(10),
                                              .initializer = number_worker,
                                              .finalizer = count_finalized });
    for (int i = 1; i <= 3; i++) {
        assert_status(TPOOL_OK, tpool_warm_up(pool, 3));
        EVENTUALLY(stats_of(pool).workers == 0);
        EVENTUALLY(atomic_load(&finalized) == atomic_load(&initialized));
        assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(atomic_load(&initialized), atomic_load(&finalized));
}

static void without_an_idle_timeout_workers_stay(void **state) {
    (void)state;
    tpool *pool = new_counted_pool(3);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 3));
    EVENTUALLY(stats_of(pool).idle == 3);
    sleep_ms(60);
    assert_int_equal(3, stats_of(pool).workers);
    assert_int_equal(0, atomic_load(&finalized));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

#if !defined(_WIN32) /* whose clock() is not the processor's time */
/* Workers that have had work and have none left look for it for a moment and then sleep. */
static void idle_workers_take_no_time_of_the_cpus(void **state) {
    (void)state;
    static atomic_int runs;
    atomic_store(&runs, 0);
    tpool *pool = new_counted_pool(4);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 4));
    for (int i = 0; i < 20; i++) assert_status(TPOOL_OK, end_of(submitted(pool, count_up, &runs)));
    EVENTUALLY(stats_of(pool).idle == 4);
    sleep_ms(20);
    clock_t before = clock();
    sleep_ms(300);
    assert_true(clock() - before < CLOCKS_PER_SEC / 10);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
#endif

/* Work that arrives just as workers end must not be lost. */
static void submits_that_meet_ending_workers_are_run(void **state) {
    (void)state;
    static atomic_int runs;
    atomic_store(&runs, 0);
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 2, .idle_timeout_ns = TPOOL_US(50) });
    int count = COUNT(500);
    for (int i = 0; i < count; i++) {
        int64_t until = tpool_now() + TPOOL_US(30 + i % 50);
        while (tpool_now() < until) { }
        assert_status(TPOOL_OK, end_of(submitted(pool, count_up, &runs)));
    }
    assert_int_equal(count, atomic_load(&runs));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- who and where */

static void current_tells_pool_and_index_of_the_worker(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static look_task looks[2][3];
    tpool *pools[2];
    assert_null(tpool_current());
    assert_int_equal(-1, tpool_current_worker());
    for (int p = 0; p < 2; p++) {
        pools[p] = new_pool(3);
        for (int i = 0; i < 3; i++) {
            looks[p][i].hold = &hold;
            assert_status(TPOOL_OK, tpool_submit(pools[p], look_and_pass, &looks[p][i], NULL));
        }
    }
    AWAIT_ARRIVALS(&hold, 6);
    gate_open(&hold);
    for (int p = 0; p < 2; p++) {
        assert_status(TPOOL_OK, tpool_drain(pools[p], LIMIT));
        int seen = 0;
        for (int i = 0; i < 3; i++) {
            assert_ptr_equal(pools[p], looks[p][i].seen.pool);
            assert_in_range(looks[p][i].seen.worker, 0, 2);
            seen |= 1 << looks[p][i].seen.worker;
            assert_false(pthread_equal(pthread_self(), looks[p][i].seen.thread));
        }
        assert_int_equal(7, seen); /* each index once */
        assert_status(TPOOL_OK, tpool_destroy(pools[p]));
    }
    assert_null(tpool_current());
    assert_int_equal(-1, tpool_current_worker());
}

static void workers_carry_the_name_of_the_pool_and_their_index(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static look_task looks[12];
    static const char *const names[] = { "crunch", "a-name-that-no-system-takes-whole", "exactly-15-long" };
    for (int n = 0; n < 3; n++) {
        char name[64], expected[96];
        snprintf(name, sizeof name, "%s", names[n]);
        gate_close(&hold);
        tpool *pool = new_pool_as((tpool_config){ .name = name, .max_workers = 12 });
        memset(name, 'x', sizeof name - 1); /* the pool has a copy */
        for (int i = 0; i < 12; i++) {
            looks[i].hold = &hold;
            assert_status(TPOOL_OK, tpool_submit(pool, look_and_pass, &looks[i], NULL));
        }
        AWAIT_ARRIVALS(&hold, 12);
        gate_open(&hold);
        assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
        int seen = 0;
        for (int i = 0; i < 12; i++) {
            int index = looks[i].seen.worker;
            assert_in_range(index, 0, 11);
            seen |= 1 << index;
            char ending[16];
            int ending_length = snprintf(ending, sizeof ending, "_%d", index);
#ifdef __linux__
            int kept = 15 - ending_length; /* it takes 15 characters */
#else
            int kept = 80 - ending_length;
#endif
            snprintf(expected, sizeof expected, "%.*s%s", kept, names[n], ending);
            if (looks[i].seen.has_name) assert_string_equal(expected, looks[i].seen.name);
        }
        assert_int_equal((1 << 12) - 1, seen);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
    if (!looks[0].seen.has_name) skip();
}

/* --- replacement after so many tasks */

static void a_worker_is_replaced_after_max_tasks_per_worker(void **state) {
    (void)state;
    for (int round = 0; round < COUNT(60) + 2; round++) {
        bool awaited = round % 2;
        reset_counts();
        tpool *pool = new_pool_as((tpool_config){
            .max_workers = 1, .max_tasks_per_worker = 3, .initializer = number_worker, .finalizer = count_finalized });
        tpool_future *futures[10];
        if (!awaited) assert_status(TPOOL_OK, tpool_pause(pool));
        for (int i = 0; i < 10; i++) {
            futures[i] = submitted(pool, give_worker_number, NULL);
            if (awaited) assert_status(TPOOL_OK, tpool_future_result(futures[i], LIMIT, NULL));
        }
        assert_status(TPOOL_OK, tpool_resume(pool));
        for (int i = 0; i < 10; i++) assert_int_equal(1 + i / 3, number_from(futures[i]));
        EVENTUALLY(atomic_load(&finalized) == 3);
        EVENTUALLY(stats_of(pool).workers == 1);
        assert_int_equal(4, atomic_load(&initialized));
        assert_int_equal(0, stats_of(pool).spared); /* a replacement is no spare */
        assert_status(TPOOL_OK, tpool_destroy(pool));
        assert_int_equal(4, atomic_load(&initialized));
        assert_int_equal(4, atomic_load(&finalized));
    }
}

static void with_one_task_per_worker_each_task_has_a_fresh_thread(void **state) {
    (void)state;
    reset_counts();
    int count = COUNT(200);
    tpool *pool = new_pool_as((tpool_config){
        .max_workers = 3, .max_tasks_per_worker = 1, .initializer = number_worker, .finalizer = count_finalized });
    int most = count + 3; /* up to three may have started for nothing at the end */
    static bool seen[204];
    tpool_future *futures[200];
    for (int i = 0; i < count; i++) futures[i] = submitted(pool, give_worker_number, NULL);
    for (int i = 0; i < count; i++) {
        int number = number_from(futures[i]);
        assert_in_range(number, 1, most);
        assert_false(seen[number]);
        seen[number] = true;
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_in_range(atomic_load(&initialized), count, most);
    assert_int_equal(atomic_load(&initialized), atomic_load(&finalized));
}

/* A task waits for one that it runs itself, of which only the entry in the queue is left then. The worker comes upon
   that on its way to its last task. */
static atomic_int owned_freed;
static void count_owned(void *owned) {
    (void)owned;
    atomic_fetch_add(&owned_freed, 1);
}
static void *return_counted(void *arg) { return tpool_return_owned(arg, count_owned); }
static tpool_future *awaited_last;
static void *await_and_let_go(void *arg) {
    tpool_status status = tpool_future_result(awaited_last, TPOOL_FOREVER, NULL);
    tpool_future_release(awaited_last);
    return status == TPOOL_OK ? arg : tpool_raise(status, "not run");
}
static void a_worker_that_is_replaced_frees_first_what_its_last_look_let_go(void **state) {
    (void)state;
    static int counted;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .max_tasks_per_worker = 2 });
    tpool_task first = { .fn = await_and_let_go, .priority = 1 };
    tpool_task awaited = { .fn = return_counted, .arg = &counted, .priority = 1 };
    tpool_future *future = NULL;
    atomic_store(&owned_freed, 0);
    assert_status(TPOOL_OK, tpool_pause(pool));
    future = submitted_task(pool, first);
    awaited_last = submitted_task(pool, awaited);
    assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
    assert_status(TPOOL_OK, tpool_resume(pool));
    assert_status(TPOOL_OK, end_of(future));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(1, atomic_load(&owned_freed));
}

/* --- signals and stacks */

#if !defined(_WIN32)
static sigset_t worker_mask;
static void *read_mask(void *arg) {
    (void)arg;
    pthread_sigmask(SIG_SETMASK, NULL, &worker_mask);
    return NULL;
}

static void workers_block_asynchronous_signals_and_no_others(void **state) {
    (void)state;
    static const int asynchronous[] = { SIGHUP,  SIGINT,  SIGQUIT, SIGTERM,  SIGUSR1, SIGUSR2,
                                        SIGALRM, SIGCHLD, SIGTSTP, SIGWINCH, SIGURG,  SIGIO };
    static const int synchronous[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
    sigset_t before, after;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    tpool *pool = new_pool(1);
    assert_status(TPOOL_OK, end_of(submitted(pool, read_mask, NULL)));
    for (size_t i = 0; i < sizeof asynchronous / sizeof asynchronous[0]; i++) {
        assert_int_equal(1, sigismember(&worker_mask, asynchronous[i]));
    }
    for (size_t i = 0; i < sizeof synchronous / sizeof synchronous[0]; i++) {
        assert_int_equal(0, sigismember(&worker_mask, synchronous[i]));
    }
    pthread_sigmask(SIG_SETMASK, NULL, &after); /* that of the submitting thread is as it was */
    for (int signal_number = 1; signal_number < 32; signal_number++) {
        assert_int_equal(sigismember(&before, signal_number), sigismember(&after, signal_number));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static pthread_t main_thread;
static volatile sig_atomic_t handled_on_main, handled_elsewhere;
static void note_thread_of_signal(int signal_number) {
    (void)signal_number;
    if (pthread_equal(pthread_self(), main_thread)) handled_on_main++;
    else handled_elsewhere++;
}

static void handlers_run_on_the_threads_of_the_program(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    main_thread = pthread_self();
    struct sigaction action, old;
    memset(&action, 0, sizeof action);
    action.sa_handler = note_thread_of_signal;
    assert_int_equal(0, sigaction(SIGUSR1, &action, &old));
    tpool *pool = new_pool(4);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 4));
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &hold, NULL));
    AWAIT_ARRIVALS(&hold, 2);
    for (int i = 1; i <= 10; i++) {
        assert_int_equal(0, kill(getpid(), SIGUSR1));
        EVENTUALLY(handled_on_main + handled_elsewhere == i);
    }
    assert_int_equal(10, handled_on_main);
    assert_int_equal(0, handled_elsewhere);
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(0, sigaction(SIGUSR1, &old, NULL));
}
#endif

static void *give_stack_size(void *arg) {
    size_t *size = arg;
#ifdef __linux__
    pthread_attr_t attributes;
    void *lowest;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        pthread_attr_getstack(&attributes, &lowest, size);
        pthread_attr_destroy(&attributes);
    }
#elif defined(_WIN32)
    ULONG_PTR low = 0, high = 0;
    GetCurrentThreadStackLimits(&low, &high);
    *size = (size_t)(high - low);
#else
    (void)size;
#endif
    return NULL;
}

static void workers_get_the_stack_size_asked_for(void **state) {
    (void)state;
#if defined(__linux__) || defined(_WIN32)
    static const size_t sizes[] = { (size_t)512 << 10, (size_t)24 << 20 };
    for (int i = 0; i < 2; i++) {
        static size_t got;
        got = 0;
        tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .stack_size = sizes[i] });
        assert_status(TPOOL_OK, end_of(submitted(pool, give_stack_size, &got)));
        /* The C library may take some pages of it, or use up a left-over stack of up to four times the size. */
        assert_in_range(got, sizes[i] - 65536, 4 * sizes[i]);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
#else
    skip();
#endif
}

/* --- threads refused */

/* A stack that fits into no address space: the system refuses every thread. */
#if SIZE_MAX > UINT32_MAX
#define ABSURD_STACK ((size_t)1 << 60)
#else
#define ABSURD_STACK ((size_t)4000 << 20)
#endif

static void when_every_thread_is_refused_nothing_is_taken(void **state) {
    (void)state;
    static atomic_int runs, freed;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 4, .stack_size = ABSURD_STACK });
    for (int i = 0; i < 3; i++) {
        tpool_future *futures[3] = { (tpool_future *)pool, (tpool_future *)pool, (tpool_future *)pool };
        assert_status(TPOOL_NO_THREAD, tpool_submit(pool, count_up, &runs, &futures[0]));
        assert_null(futures[0]);
        assert_status(TPOOL_NO_THREAD, tpool_submit(pool, count_up, &runs, NULL));
        tpool_task task = { .fn = count_up, .arg = &freed, .arg_free = count_free };
        futures[0] = (tpool_future *)pool;
        assert_status(TPOOL_NO_THREAD, tpool_submit_task(pool, &task, &futures[0]));
        assert_null(futures[0]);
        task.priority = -1;
        task.expires_ns = 1;
        assert_status(TPOOL_NO_THREAD, tpool_submit_task(pool, &task, NULL));
        task.arg_size = sizeof freed;
        assert_status(TPOOL_NO_THREAD, tpool_submit_task(pool, &task, NULL));
        tpool_task tasks[3] = { { .fn = count_up, .arg = &runs },
                                { .fn = count_up, .arg = &runs },
                                { .fn = count_up, .arg = &runs } };
        size_t taken = 9;
        assert_status(TPOOL_NO_THREAD, tpool_submit_many(pool, tasks, 3, futures, &taken));
        assert_int_equal(0, taken);
        for (int j = 0; j < 3; j++) assert_null(futures[j]);
        assert_status(TPOOL_NO_THREAD, tpool_run_with_timeout(pool, &tasks[0], LIMIT, &futures[0]));
        assert_null(futures[0]);
        assert_status(TPOOL_NO_THREAD, tpool_warm_up(pool, 2));
    }
    tpool_stats stats = stats_of(pool);
    assert_int_equal(0, stats.submitted);
    assert_int_equal(0, stats.queued);
    assert_int_equal(0, stats.workers);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(0, atomic_load(&runs));
    assert_int_equal(0, atomic_load(&freed));
}

static void when_at_least_one_worker_runs_the_work_waits_for_it(void **state) {
    (void)state;
#if defined(__linux__) && !SLOW_TOOL
    static gate hold = GATE_CLOSED;
    static atomic_int runs;
    /* Huge stacks, and after the first of them no address space for another; the sanitizers need theirs. */
    size_t stack = (size_t)512 << 20;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 4, .stack_size = stack });
    tpool_future *running = submitted(pool, gate_task, &hold), *waiting[3];
    AWAIT_ARRIVALS(&hold, 1);
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    assert_non_null(file);
    assert_int_equal(1, fscanf(file, "%lu", &pages));
    fclose(file);
    struct rlimit old, tight;
    assert_int_equal(0, getrlimit(RLIMIT_AS, &old));
    tight = old;
    tight.rlim_cur = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + stack / 2;
    assert_int_equal(0, setrlimit(RLIMIT_AS, &tight));
    tpool_status statuses[3];
    for (int i = 0; i < 3; i++) statuses[i] = tpool_submit(pool, count_up, &runs, &waiting[i]);
    tpool_status warm_up = tpool_warm_up(pool, 2);
    assert_int_equal(0, setrlimit(RLIMIT_AS, &old));
    for (int i = 0; i < 3; i++) assert_status(TPOOL_OK, statuses[i]);
    assert_status(TPOOL_NO_THREAD, warm_up);
    assert_int_equal(1, stats_of(pool).workers);
    assert_int_equal(0, atomic_load(&runs));
    gate_open(&hold);
    for (int i = 0; i < 3; i++) assert_status(TPOOL_OK, end_of(waiting[i]));
    assert_status(TPOOL_OK, end_of(running));
    assert_int_equal(3, atomic_load(&runs));
    assert_status(TPOOL_OK, tpool_warm_up(pool, 2)); /* and now there is room again */
    assert_int_equal(2, stats_of(pool).workers);
    assert_status(TPOOL_OK, tpool_destroy(pool));
#else
    skip();
#endif
}

/* --- a task that ends its thread */

#if defined(_WIN32)
static void *end_by_ExitThread(void *arg) {
    (void)arg;
    ExitThread(3);
}
#endif
#if HAVE_THRD_EXIT
static void *end_by_thrd_exit(void *arg) {
    (void)arg;
    thrd_exit(3);
}
#endif

static void a_task_that_ends_its_thread_breaks_only_itself(void **state) {
    (void)state;
    static const tpool_fn ways[] = {
        end_thread,
#if defined(_WIN32)
        end_by_ExitThread,
#endif
#if HAVE_THRD_EXIT
        end_by_thrd_exit,
#endif
    };
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        static atomic_int runs, freed;
        atomic_store(&runs, 0);
        atomic_store(&freed, 0);
        tpool *pool = new_counted_pool(1);
        assert_status(TPOOL_OK, tpool_pause(pool));
        tpool_future *before = submitted(pool, give_worker_number, NULL);
        tpool_future *broken =
            submitted_task(pool, (tpool_task){ .fn = ways[i], .arg = &freed, .name = "ender", .arg_free = count_free });
        tpool_future *after = submitted(pool, give_worker_number, NULL);
        for (int j = 0; j < 5; j++) assert_status(TPOOL_OK, tpool_submit(pool, count_up, &runs, NULL));
        assert_status(TPOOL_OK, tpool_resume(pool));

        const tpool_error *error = NULL;
        void *result = &freed;
        assert_status(TPOOL_BROKEN, tpool_future_result(broken, LIMIT, &result));
        assert_null(result);
        assert_int_equal(1, atomic_load(&freed));
        assert_int_equal(TPOOL_FINISHED, tpool_future_state(broken));
        assert_status(TPOOL_OK, tpool_future_error(broken, 0, &error));
        assert_status(TPOOL_BROKEN, error->status);
        assert_non_null(error->message);
        assert_string_equal("ender", error->task);
        assert_int_equal(1, number_from(before));
        assert_int_equal(2, number_from(after)); /* the worker was replaced */
        assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
        assert_int_equal(5, atomic_load(&runs));
        EVENTUALLY(atomic_load(&finalized) == 1);
        EVENTUALLY(stats_of(pool).workers == 1);
        tpool_stats stats = stats_of(pool);
        assert_int_equal(8, stats.submitted);
        assert_int_equal(7, stats.completed);
        assert_int_equal(1, stats.failed);
        tpool_future_release(broken);
        assert_status(TPOOL_OK, tpool_destroy(pool));
        assert_int_equal(2, atomic_load(&initialized));
        assert_int_equal(2, atomic_load(&finalized));
        assert_int_equal(0, atomic_load(&finalized_elsewhere));
        assert_int_equal(1, atomic_load(&freed));
    }
}

/* Each level waits for the next, which its waiter runs in place; the deepest ends the thread beneath all. */
typedef struct level {
    int depth;
    struct levels *all;
} level;
typedef struct levels {
    tpool *pool;
    level each[4];
    tpool_future *futures[4];
    atomic_int freed, survived;
} levels;
static void *descend(void *arg) {
    level *here = arg;
    levels *all = here->all;
    if (here->depth == 3) pthread_exit(NULL);
    level *next = &all->each[here->depth + 1];
    tpool_task task = { .fn = descend, .arg = next };
    if (tpool_submit_task(all->pool, &task, &all->futures[next->depth]) == TPOOL_OK) {
        (void)tpool_future_result(all->futures[next->depth], TPOOL_FOREVER, NULL);
    }
    atomic_fetch_add(&all->survived, 1); /* never reached: the stack is gone */
    return NULL;
}

static void the_tasks_beneath_one_that_ends_its_thread_break_too(void **state) {
    (void)state;
    static levels all;
    all.pool = new_counted_pool(1);
    for (int i = 0; i < 4; i++) all.each[i] = (level){ .depth = i, .all = &all };
    all.futures[0] = submitted_task(all.pool, (tpool_task){ .fn = descend, .arg = &all.each[0] });
    tpool_future *other = submitted(all.pool, give_worker_number, NULL);
    assert_status(TPOOL_BROKEN, tpool_future_result(all.futures[0], LIMIT, NULL));
    assert_int_equal(2, number_from(other));
    assert_status(TPOOL_OK, tpool_drain(all.pool, LIMIT));
    assert_int_equal(0, atomic_load(&all.survived));
    for (int i = 0; i < 4; i++) {
        assert_status(TPOOL_BROKEN, tpool_future_result(all.futures[i], 0, NULL));
        tpool_future_release(all.futures[i]);
    }
    assert_int_equal(4, stats_of(all.pool).failed);
    assert_int_equal(1, stats_of(all.pool).completed);
    EVENTUALLY(atomic_load(&finalized) == 1);
    assert_status(TPOOL_OK, tpool_destroy(all.pool));
    assert_int_equal(2, atomic_load(&finalized));
}

typedef struct told {
    atomic_int count;
    tpool_status status;
    char task[32];
    bool has_message;
} told;
static void note_told(const tpool_error *error, void *context) {
    told *t = context;
    t->status = error->status;
    t->has_message = error->message != NULL;
    snprintf(t->task, sizeof t->task, "%s", error->task ? error->task : "");
    atomic_fetch_add(&t->count, 1);
}

static void on_failure_learns_of_a_task_that_ended_its_thread_when_nobody_holds_it(void **state) {
    (void)state;
    static told t;
    static atomic_int freed;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .on_failure = note_told, .context = &t });
    tpool_task task = { .fn = end_thread, .arg = &freed, .arg_free = count_free, .name = "unheld" };
    assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(1, atomic_load(&t.count));
    assert_status(TPOOL_BROKEN, t.status);
    assert_string_equal("unheld", t.task);
    assert_true(t.has_message);
    assert_int_equal(1, atomic_load(&freed));
    /* A held one is its holder's affair. */
    task.name = "held";
    assert_status(TPOOL_BROKEN, end_of(submitted_task(pool, task)));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(1, atomic_load(&t.count));
    assert_int_equal(2, atomic_load(&freed));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void many_tasks_that_end_their_threads_leave_a_working_pool(void **state) {
    (void)state;
    static atomic_int runs;
    tpool *pool = new_counted_pool(3);
    int count = COUNT(100);
    for (int i = 0; i < count; i++) {
        assert_status(TPOOL_OK, tpool_submit(pool, end_thread, NULL, NULL));
        assert_status(TPOOL_OK, tpool_submit(pool, count_up, &runs, NULL));
    }
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(count, atomic_load(&runs));
    assert_int_equal(count, stats_of(pool).failed);
    EVENTUALLY(stats_of(pool).workers <= 3);
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(atomic_load(&initialized), atomic_load(&finalized));
}

static const struct CMUnitTest tests[] = {
    TEST(three_submits_each_awaited_use_one_thread),
    TEST(a_submit_starts_a_worker_only_when_none_is_free),
    TEST(while_a_worker_frees_a_result_another_runs_the_next_task),
    TEST(beside_a_slow_initializer_a_sleeper_runs_what_comes),
    TEST(initializers_run_side_by_side),
    TEST(never_more_than_max_workers_run_at_once),
    TEST(all_workers_are_used_when_there_is_work_for_them),
    TEST(warm_up_starts_workers_up_to_max_workers),
    TEST(idle_workers_end_down_to_min_workers),
    TEST(without_min_workers_all_idle_ones_end_and_new_ones_start),
    TEST(without_an_idle_timeout_workers_stay),
#if !defined(_WIN32)
    TEST(idle_workers_take_no_time_of_the_cpus),
#endif
    TEST(submits_that_meet_ending_workers_are_run),
    TEST(current_tells_pool_and_index_of_the_worker),
    TEST(workers_carry_the_name_of_the_pool_and_their_index),
    TEST(a_worker_is_replaced_after_max_tasks_per_worker),
    TEST(with_one_task_per_worker_each_task_has_a_fresh_thread),
    TEST(a_worker_that_is_replaced_frees_first_what_its_last_look_let_go),
#if !defined(_WIN32) /* there are no signals between processes */
    TEST(workers_block_asynchronous_signals_and_no_others),
    TEST(handlers_run_on_the_threads_of_the_program),
#endif
    TEST(workers_get_the_stack_size_asked_for),
    TEST(when_every_thread_is_refused_nothing_is_taken),
    TEST(when_at_least_one_worker_runs_the_work_waits_for_it),
    TEST(a_task_that_ends_its_thread_breaks_only_itself),
    TEST(the_tasks_beneath_one_that_ends_its_thread_break_too),
    TEST(on_failure_learns_of_a_task_that_ended_its_thread_when_nobody_holds_it),
    TEST(many_tasks_that_end_their_threads_leave_a_working_pool),
};
RUN_TESTS(tests)
