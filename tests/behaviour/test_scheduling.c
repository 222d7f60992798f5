/* Workers are as the thread that created their pool is, whichever thread happens to start them: its CPUs, policy,
   priority and niceness, a plain floating-point environment, and a signal mask of their own. */
#include "support.h"
#include <fenv.h>
#include <sched.h>
#include <signal.h>
#ifndef _WIN32
#include <sys/resource.h>
#endif
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

static int lower_bit(int n) { return n & -n; }

/* What a thread has. */
typedef struct looks {
    int cpus, policy, priority, nice, rounding;
} looks;
static looks own_looks(void) {
    looks seen = { 0, 0, 0, 0, fegetround() };
#ifdef __linux__
    cpu_set_t mask;
    struct sched_param parameters;
    CPU_ZERO(&mask);
    (void)sched_getaffinity(0, sizeof mask, &mask);
    for (int cpu = 0; cpu < 31; cpu++)
        if (CPU_ISSET(cpu, &mask)) seen.cpus |= 1 << cpu;
    (void)pthread_getschedparam(pthread_self(), &seen.policy, &parameters);
    seen.priority = parameters.sched_priority;
    seen.nice = getpriority(PRIO_PROCESS, 0);
#endif
    return seen;
}
static void *look(void *arg) {
    *(looks *)arg = own_looks();
    return NULL;
}
static looks looks_of_a_worker(tpool *pool) {
    looks seen;
    REQUIRE_STATUS(TPOOL_OK, end_of(submitted(pool, look, &seen)));
    return seen;
}
static void assert_alike(looks expected, looks seen) {
    assert_int_equal(expected.cpus, seen.cpus);
    assert_int_equal(expected.policy, seen.policy);
    assert_int_equal(expected.priority, seen.priority);
    assert_int_equal(expected.nice, seen.nice);
    assert_int_equal(FE_TONEAREST, seen.rounding);
}

/* A thread that makes itself different in one way, and then does something with a pool. */
typedef struct odd_thread {
    bool (*become_odd)(void);
    void (*act)(struct odd_thread *odd);
    tpool *pool;
    bool is_odd;
    looks its, seen;
    int counted;
} odd_thread;
static void *odd_main(void *arg) {
    odd_thread *odd = (odd_thread *)arg;
    odd->is_odd = odd->become_odd();
    odd->its = own_looks();
    if (odd->is_odd) odd->act(odd);
    return NULL;
}
static void run_odd(odd_thread *odd) {
    pthread_t thread;
    assert_int_equal(0, pthread_create(&thread, NULL, odd_main, odd));
    assert_int_equal(0, pthread_join(thread, NULL));
}

static bool round_up(void) { return fesetround(FE_UPWARD) == 0; }
#ifdef __linux__
static bool bind_to_one_cpu(void) {
    int cpus = own_looks().cpus, first = lower_bit(cpus);
    cpu_set_t mask;
    CPU_ZERO(&mask);
    for (int cpu = 0; cpu < 31; cpu++)
        if (first == 1 << cpu) CPU_SET(cpu, &mask);
    return first != cpus && sched_setaffinity(0, sizeof mask, &mask) == 0;
}
static bool set_policy(int policy, int priority) {
    struct sched_param parameters = { .sched_priority = priority };
    return pthread_setschedparam(pthread_self(), policy, &parameters) == 0;
}
static bool become_batch(void) { return set_policy(SCHED_BATCH, 0); }
static bool become_realtime(void) { return set_policy(SCHED_FIFO, 3); }
static bool may_take_niceness_back(void) {
    struct rlimit limit;
    return geteuid() == 0 || (getrlimit(RLIMIT_NICE, &limit) == 0 && limit.rlim_cur >= 20);
}
static bool become_nice(void) { return may_take_niceness_back() && setpriority(PRIO_PROCESS, 0, 7) == 0; }
/* What it has is for itself alone: the kernel gives none of it to the threads that it starts. */
static bool set_own_policy(int policy, int priority) { return set_policy(policy | SCHED_RESET_ON_FORK, priority); }
static bool become_batch_alone(void) { return set_own_policy(SCHED_BATCH, 0); }
static bool become_realtime_alone(void) { return set_own_policy(SCHED_FIFO, 3); }
/* niceness too: after a real-time thread it is the kernel's 0, not the thread's own */
static bool become_nice_realtime_alone(void) { return become_nice() && become_realtime_alone(); }
static bool become_preferred_alone(void) {
    return setpriority(PRIO_PROCESS, 0, -5) == 0 && set_own_policy(SCHED_OTHER, 0);
}
#endif

/* Each way in which a thread may be odd, as far as the machine and the test's rights go. */
static const struct {
    const char *name;
    bool (*become)(void);
} oddities[] = {
    { "rounds up", round_up },
#ifdef __linux__
    { "is bound to a CPU", bind_to_one_cpu },
    { "is for batches", become_batch },
    { "is in real time", become_realtime },
    { "is nice", become_nice },
#endif
};
enum { ODDITIES = sizeof oddities / sizeof *oddities };

static void submit_first(odd_thread *odd) { odd->seen = looks_of_a_worker(odd->pool); }
static void a_worker_is_as_the_creator_though_an_odd_thread_starts_it(void **state) {
    (void)state;
    for (int i = 0; i < ODDITIES; i++) {
        odd_thread odd = { .become_odd = oddities[i].become, .act = submit_first, .pool = new_pool(1) };
        run_odd(&odd);
        if (odd.is_odd) assert_alike(own_looks(), odd.seen);
        assert_status(TPOOL_OK, tpool_destroy(odd.pool));
    }
}

static void create_only(odd_thread *odd) { odd->pool = new_pool(1); }
static void a_worker_is_as_an_odd_creator_though_another_starts_it(void **state) {
    (void)state;
    for (int i = 0; i < ODDITIES; i++) {
        odd_thread odd = { .become_odd = oddities[i].become, .act = create_only };
        run_odd(&odd);
        if (!odd.is_odd) continue;
        assert_alike(odd.its, looks_of_a_worker(odd.pool));
        assert_status(TPOOL_OK, tpool_destroy(odd.pool));
    }
}

#ifdef __linux__
/* The C library's copy of the policy may be that of the thread that started this one. */
static void *look_in_the_kernel(void *arg) {
    looks *seen = (looks *)arg;
    struct sched_param parameters = { 0 };
    *seen = own_looks();
    seen->policy = (int)syscall(SYS_sched_getscheduler, 0);
    (void)syscall(SYS_sched_getparam, 0, &parameters);
    seen->priority = parameters.sched_priority;
    return NULL;
}
static void create_and_start_a_thread(odd_thread *odd) {
    pthread_t thread;
    create_only(odd);
    REQUIRE(pthread_create(&thread, NULL, look_in_the_kernel, &odd->seen) == 0 && pthread_join(thread, NULL) == 0);
}
static void what_a_creator_has_for_itself_alone_no_worker_takes_on(void **state) {
    (void)state;
    bool (*const ways[])(void) = { become_batch_alone, become_realtime_alone, become_nice_realtime_alone,
                                   become_preferred_alone };
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        odd_thread odd = { .become_odd = ways[i], .act = create_and_start_a_thread };
        run_odd(&odd);
        if (!odd.is_odd) continue;
        looks seen;
        assert_status(TPOOL_OK, end_of(submitted(odd.pool, look_in_the_kernel, &seen)));
        assert_alike(odd.seen, seen);
        assert_status(TPOOL_OK, tpool_destroy(odd.pool));
    }
}
#endif

/* A task makes its worker odd, and waits, so that this worker starts a spare one. */
typedef struct odd_task {
    bool (*become)(void);
    bool is_odd;
    looks seen;
} odd_task;
static void *be_odd_and_wait(void *arg) {
    odd_task *task = (odd_task *)arg;
    tpool_future *future;
    task->is_odd = task->become();
    REQUIRE_STATUS(TPOOL_OK, tpool_submit(tpool_current(), look, &task->seen, &future));
    /* with a limit, since it would run in place without */
    REQUIRE_STATUS(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
    tpool_future_release(future);
    return NULL;
}
static void a_spare_worker_is_as_the_creator_though_an_odd_worker_starts_it(void **state) {
    (void)state;
    for (int i = 0; i < ODDITIES; i++) {
        odd_task task = { .become = oddities[i].become };
        tpool *pool = new_pool(1);
        assert_status(TPOOL_OK, end_of(submitted(pool, be_odd_and_wait, &task)));
        if (task.is_odd) assert_alike(own_looks(), task.seen);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

#ifdef __linux__
static void count_cpus(odd_thread *odd) { odd->counted = tpool_cpu_count(); }
static void a_thread_bound_to_a_cpu_counts_those_of_the_process(void **state) {
    (void)state;
    odd_thread odd = { .become_odd = bind_to_one_cpu, .act = count_cpus };
    run_odd(&odd);
    if (odd.is_odd) assert_int_equal(tpool_cpu_count(), odd.counted);
    else assert_int_equal(1, lower_bit(own_looks().cpus) == own_looks().cpus);
}

/* The first call that asks for what belongs to all. */
static void ask_first(odd_thread *odd) {
    odd->pool = tpool_low_level();
    odd->seen = looks_of_a_worker(odd->pool);
}
static void ask_a_manager_first(odd_thread *odd) {
    REQUIRE_STATUS(TPOOL_OK, tpool_manager_get(NULL, 1, TPOOL_THREADS, 0, &odd->pool));
    odd->seen = looks_of_a_worker(odd->pool);
    REQUIRE_STATUS(TPOOL_OK, tpool_manager_release(NULL, odd->pool));
}
static void the_pools_of_all_are_as_the_main_thread(void **state) {
    (void)state;
    odd_thread asks[2] = { { .become_odd = bind_to_one_cpu, .act = ask_first },
                           { .become_odd = bind_to_one_cpu, .act = ask_a_manager_first } };
    for (int i = 0; i < 2; i++) {
        run_odd(&asks[i]);
        if (asks[i].is_odd) assert_alike(own_looks(), asks[i].seen);
    }
    assert_status(TPOOL_OK, tpool_manager_global_shutdown());
    assert_status(TPOOL_OK, tpool_dual_shutdown(TPOOL_WAIT));
}
#endif

#ifndef _WIN32
static void *get_mask(void *arg) {
    pthread_sigmask(SIG_BLOCK, NULL, (sigset_t *)arg);
    return NULL;
}
static void what_profilers_send_reaches_workers_and_nothing_else(void **state) {
    (void)state;
    sigset_t blocked, all, before;
    sigfillset(&all);
    for (int starter_blocks = 0; starter_blocks < 2; starter_blocks++) {
        tpool *pool = new_pool(1);
        if (starter_blocks) pthread_sigmask(SIG_BLOCK, &all, &before);
        assert_status(TPOOL_OK, end_of(submitted(pool, get_mask, &blocked)));
        if (starter_blocks) pthread_sigmask(SIG_SETMASK, &before, NULL);
        assert_int_equal(0, sigismember(&blocked, SIGPROF));
        assert_int_equal(0, sigismember(&blocked, SIGVTALRM));
        assert_int_equal(0, sigismember(&blocked, SIGSEGV));
        assert_int_equal(1, sigismember(&blocked, SIGALRM));
        assert_int_equal(1, sigismember(&blocked, SIGINT));
        assert_int_equal(1, sigismember(&blocked, SIGCHLD));
        assert_int_equal(1, sigismember(&blocked, SIGUSR1));
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

/* A signal that the starter has blocked, and that waits for it, is not let through while a worker is started. */
static volatile sig_atomic_t came;
static void note_signal(int number) {
    (void)number;
    came = 1;
}
static void what_the_starter_blocks_stays_blocked_there(void **state) {
    (void)state;
    static const int numbers[] = { SIGPROF, SIGTRAP, SIGUSR1 };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        struct sigaction action, former;
        sigset_t one, before;
        memset(&action, 0, sizeof action);
        action.sa_handler = note_signal;
        assert_int_equal(0, sigaction(numbers[i], &action, &former));
        sigemptyset(&one);
        sigaddset(&one, numbers[i]);
        pthread_sigmask(SIG_BLOCK, &one, &before);
        came = 0;
        assert_int_equal(0, pthread_kill(pthread_self(), numbers[i]));
        tpool *pool = new_pool(1);
        assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
        assert_status(TPOOL_OK, tpool_destroy(pool));
        assert_int_equal(0, came);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        assert_int_equal(1, came);
        assert_int_equal(0, sigaction(numbers[i], &former, NULL));
    }
}

static void *round_in_process(void *arg) {
    int rounding = fegetround();
    (void)arg;
    return tpool_return(&rounding, sizeof rounding);
}
static void create_processes(odd_thread *odd) {
    odd->pool = new_pool_as((tpool_config){ .kind = TPOOL_PROCESSES, .max_workers = 1 });
}
static void a_worker_process_rounds_as_ever(void **state) {
    (void)state;
    odd_thread odd = { .become_odd = round_up, .act = create_processes };
    tpool_future *future;
    void *rounding;
    run_odd(&odd);
    assert_true(odd.is_odd);
    future = submitted(odd.pool, round_in_process, NULL);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &rounding));
    assert_int_equal(FE_TONEAREST, *(int *)rounding);
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(odd.pool));
}
#endif

static const struct CMUnitTest tests[] = {
    TEST(a_worker_is_as_the_creator_though_an_odd_thread_starts_it),
    TEST(a_worker_is_as_an_odd_creator_though_another_starts_it),
    TEST(a_spare_worker_is_as_the_creator_though_an_odd_worker_starts_it),
#ifdef __linux__
    TEST(what_a_creator_has_for_itself_alone_no_worker_takes_on),
    TEST(a_thread_bound_to_a_cpu_counts_those_of_the_process),
    TEST(the_pools_of_all_are_as_the_main_thread),
#endif
#ifndef _WIN32
    TEST(what_profilers_send_reaches_workers_and_nothing_else),
    TEST(what_the_starter_blocks_stays_blocked_there),
    TEST(a_worker_process_rounds_as_ever),
#endif
};
RUN_TESTS(tests)
