/* Pools over MPI's ranks, with at least three of them. Rank 0 is the test; the others serve it. */
#include "support.h"

#include "stop.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <signal.h>

static pid_t host; /* the rank's process, as its workers see it */

/* A pool of `workers`, 0: one a rank. */
static tpool *rank_pool(int workers) {
    tpool *pool = NULL;
    assert_status(TPOOL_OK, tpool_create(&pool, &(tpool_config){ .kind = TPOOL_MPI_RANKS, .max_workers = workers }));
    return pool;
}
static tpool_future *sent(tpool *pool, tpool_fn fn, const void *arg, size_t size) {
    tpool_future *future = NULL;
    assert_status(TPOOL_OK,
                  size ? tpool_submit_copy(pool, fn, arg, size, &future) : tpool_submit(pool, fn, NULL, &future));
    return future;
}
static tpool_status ended(tpool_future *future, void **value) { /* within a time that only a hang exceeds */
    return tpool_future_result(future, TPOOL_SEC(60), value);
}
static intptr_t value_of(tpool *pool, tpool_fn fn) {
    void *value = NULL;
    tpool_future *future = sent(pool, fn, NULL, 0);
    assert_status(TPOOL_OK, ended(future, &value));
    tpool_future_release(future);
    return (intptr_t)value;
}
static void *host_of(void *unused) {
    (void)unused;
    return (void *)(intptr_t)host;
}
static void *answers(void *unused) {
    (void)unused;
    return (void *)42;
}
static void assert_serves(tpool *pool) { assert_int_equal(42, value_of(pool, answers)); }

/* --- a task's way there and back */

static void tasks_run_on_other_ranks(void **state) {
    (void)state;
    tpool *pool = rank_pool(1);
    intptr_t there = value_of(pool, host_of);
    assert_true(there != 0 && there != getpid());
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *shown_name(void *unused) { /* what ps shows */
    char name[32] = "";
    (void)unused;
    FILE *file = fopen("/proc/self/comm", "r");
    if (!file || !fgets(name, sizeof name, file)) return NULL;
    fclose(file);
    return tpool_return(name, strlen(name) + 1);
}
static void a_ranks_process_has_its_workers_name(void **state) {
    (void)state;
    tpool *pool = NULL;
    void *name = NULL;
    tpool_config config = { .kind = TPOOL_MPI_RANKS, .max_workers = 1, .name = "fitter" };
    assert_status(TPOOL_OK, tpool_create(&pool, &config));
    tpool_future *future = sent(pool, shown_name, NULL, 0);
    assert_status(TPOOL_OK, ended(future, &name));
    assert_string_equal("fitter_0\n", name);
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *reversed(void *arg) {
    size_t size = tpool_arg_size();
    char *out = malloc(size);
    for (size_t i = 0; i < size; i++) out[i] = ((char *)arg)[size - 1 - i];
    void *result = tpool_return(out, size);
    free(out);
    return result;
}
/* In the letter, just in it, in one piece, and in several. */
static void bytes_of_every_size_come_back(void **state) {
    (void)state;
    static const size_t sizes[] = { 1, 1000, 32000, 32700, 40000, (size_t)4 << 20, ((size_t)9 << 20) + 1 };
    tpool *pool = rank_pool(0);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char *bytes = malloc(sizes[i]), *back = NULL;
        for (size_t j = 0; j < sizes[i]; j++) bytes[j] = (char)(j * 7 + j / 251);
        tpool_future *future = sent(pool, reversed, bytes, sizes[i]);
        assert_status(TPOOL_OK, ended(future, (void **)&back));
        assert_int_equal(sizes[i], tpool_future_result_size(future));
        size_t wrong = 0;
        for (size_t j = 0; j < sizes[i]; j++) wrong += back[j] != bytes[sizes[i] - 1 - j];
        assert_int_equal(0, wrong);
        tpool_future_release(future);
        free(bytes);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *raises(void *unused) {
    (void)unused;
    return tpool_raise(17, "no %s today", "result");
}
static void an_error_comes_back_as_it_was_raised(void **state) {
    (void)state;
    tpool *pool = rank_pool(0);
    const tpool_error *error = NULL;
    tpool_future *future = sent(pool, raises, NULL, 0);
    assert_status(TPOOL_FAILED, ended(future, NULL));
    assert_status(TPOOL_OK, tpool_future_error(future, 0, &error));
    assert_int_equal(17, error->code);
    assert_string_equal("no result today", error->message);
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- tasks that end badly: the job goes on */

static void *aborts(void *unused) {
    (void)unused;
    abort();
}
static void *exits(void *unused) {
    (void)unused;
    exit(3);
}
static void *kills_itself(void *unused) {
    (void)unused;
    raise(SIGKILL);
    return NULL;
}
static void *kills_its_group(void *unused) {
    (void)unused;
    kill(0, SIGKILL);
    return NULL;
}
static void *runs_for_ever(void *unused) {
    (void)unused;
    for (;;) pause();
    return NULL;
}
static void bad_ends_cost_their_own_task_only(void **state) {
    (void)state;
    static const struct {
        tpool_fn fn;
        int code;
        const char *text;
    } bad[] = { { aborts, -SIGABRT, "SIGABRT" },
                { exits, 3, "exited with code 3" },
                { kills_itself, -SIGKILL, "SIGKILL" },
                { kills_its_group, -SIGKILL, "SIGKILL" } };
    tpool *pool = rank_pool(0);
    for (size_t i = 0; i < 3 * sizeof bad / sizeof *bad; i++) {
        size_t which = i % (sizeof bad / sizeof *bad);
        const tpool_error *error = NULL;
        tpool_future *future = sent(pool, bad[which].fn, NULL, 0);
        assert_status(TPOOL_BROKEN, ended(future, NULL));
        assert_status(TPOOL_OK, tpool_future_error(future, 0, &error));
        assert_int_equal(bad[which].code, error->code);
        assert_non_null(strstr(error->message, bad[which].text));
        assert_non_null(strstr(error->message, "Rank "));
        tpool_future_release(future);
        assert_serves(pool);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void limits_kill_the_worker_process(void **state) {
    (void)state;
    tpool *pool = rank_pool(1);
    tpool_future *future = NULL;
    assert_status(TPOOL_OK,
                  tpool_submit_task(pool, &(tpool_task){ .fn = runs_for_ever, .run_limit_ns = TPOOL_MS(50) }, &future));
    assert_status(TPOOL_BROKEN, ended(future, NULL));
    assert_non_null(strstr(tpool_future_message(future), "run_limit_ns"));
    tpool_future_release(future);
    assert_status(TPOOL_OK,
                  tpool_submit_task(pool, &(tpool_task){ .fn = runs_for_ever, .timeout_ns = TPOOL_MS(50) }, &future));
    assert_status(TPOOL_BROKEN, ended(future, NULL));
    assert_non_null(strstr(tpool_future_message(future), "timeout_ns"));
    tpool_future_release(future);
    assert_status(TPOOL_TIMEOUT,
                  tpool_run_with_timeout(pool, &(tpool_task){ .fn = runs_for_ever }, TPOOL_MS(50), &future));
    tpool_future_release(future);
    assert_serves(pool);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void kill_workers_ends_what_runs(void **state) {
    (void)state;
    tpool *pool = rank_pool(1);
    assert_serves(pool);
    tpool_future *first = sent(pool, runs_for_ever, NULL, 0), *second = sent(pool, answers, NULL, 0);
    while (!tpool_future_running(first)) sleep_ms(1);
    while (!tpool_future_done(first)) { /* it may not have got there yet */
        assert_status(TPOOL_OK, tpool_kill_workers(pool));
        sleep_ms(20);
    }
    assert_status(TPOOL_BROKEN, ended(first, NULL));
    void *value = NULL;
    assert_status(TPOOL_OK, ended(second, &value));
    assert_int_equal(42, (intptr_t)value);
    tpool_future_release(first);
    tpool_future_release(second);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *stops_when_asked(void *unused) {
    (void)unused;
    while (!tpool_stop_requested()) usleep(1000);
    return (void *)7;
}
static void a_stop_request_reaches_the_task(void **state) {
    (void)state;
    tpool *pool = rank_pool(1);
    tpool_future *future = sent(pool, stops_when_asked, NULL, 0);
    while (!tpool_future_running(future)) sleep_ms(1);
    sleep_ms(20);
    tpool_future_request_stop(future);
    void *value = NULL;
    assert_status(TPOOL_OK, ended(future, &value));
    assert_int_equal(7, (intptr_t)value);
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- maps */

static void *is_asked_to_stop(void *unused) {
    (void)unused;
    sleep_ms(2);
    return (void *)(intptr_t)tpool_stop_requested();
}
static void *square(void *item, void *context) {
    long x = *(long *)item, add = context ? *(long *)context : 0;
    if (x == 4242) abort();
    if (x == 4243) return tpool_raise(9, "not this one");
    if (x % 1000 == 77) {
        x = x * x + add;
        return tpool_return(&x, sizeof x);
    }
    return (void *)(x * x + add);
}
static void a_map_runs_over_ranks(void **state) {
    (void)state;
    enum { COUNT = 20000 };
    static long items[COUNT];
    long add = 5, wrong = 0;
    for (long i = 0; i < COUNT; i++) items[i] = i;
    tpool *pool = rank_pool(0);
    tpool_map_iter *iter = NULL;
    assert_status(TPOOL_OK, tpool_map(pool,
                                      &(tpool_map_spec){ .fn = square,
                                                         .items = items,
                                                         .count = COUNT,
                                                         .stride = sizeof(long),
                                                         .item_size = sizeof(long),
                                                         .context = &add,
                                                         .context_size = sizeof add },
                                      &iter));
    for (long i = 0; i < COUNT; i++) {
        void *value = NULL;
        tpool_status status = tpool_map_next(iter, TPOOL_SEC(60), &value);
        long is = i % 1000 == 77 && value ? *(long *)value : (long)value;
        tpool_status should = i == 4242 ? TPOOL_BROKEN : i == 4243 ? TPOOL_FAILED : TPOOL_OK;
        wrong += status != should || (status == TPOOL_OK && is != i * i + add);
    }
    assert_int_equal(0, wrong);
    assert_status(TPOOL_END, tpool_map_next(iter, 0, NULL));
    tpool_map_close(iter);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void *item_for_ever(void *item, void *context) {
    (void)item;
    (void)context;
    while (!tpool_stop_requested()) usleep(1000);
    return NULL;
}
static void closing_a_map_stops_its_items(void **state) {
    (void)state;
    static long items[100];
    tpool *pool = rank_pool(0);
    tpool_map_iter *iter = NULL;
    assert_status(
        TPOOL_OK,
        tpool_map(
            pool,
            &(tpool_map_spec){
                .fn = item_for_ever, .items = items, .count = 100, .stride = sizeof(long), .item_size = sizeof(long) },
            &iter));
    assert_status(TPOOL_TIMEOUT, tpool_map_next(iter, TPOOL_MS(100), NULL));
    tpool_map_close(iter);
    assert_serves(pool);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- initializers */

static int given;
static bool takes(void *context) {
    given = *(int *)context;
    return given != 13;
}
static void *what_was_given(void *unused) {
    (void)unused;
    return (void *)(intptr_t)given;
}
static void leaves_a_mark(void *context) {
    char path[64];
    snprintf(path, sizeof path, "/tmp/tpool_mark_%d", *(int *)context);
    FILE *file = fopen(path, "w");
    if (file) fclose(file);
}
static void initializer_and_finalizer_get_the_context(void **state) {
    (void)state;
    int number = getpid();
    char path[64];
    snprintf(path, sizeof path, "/tmp/tpool_mark_%d", number);
    unlink(path);
    tpool *pool = NULL;
    tpool_config config = { .kind = TPOOL_MPI_RANKS,
                            .max_workers = 1,
                            .initializer = takes,
                            .finalizer = leaves_a_mark,
                            .context = &number,
                            .context_size = sizeof number };
    assert_status(TPOOL_OK, tpool_create(&pool, &config));
    assert_int_equal(number, value_of(pool, what_was_given));
    tpool_future *future = sent(pool, aborts, NULL, 0);
    assert_status(TPOOL_BROKEN, ended(future, NULL));
    tpool_future_release(future);
    assert_int_equal(number, value_of(pool, what_was_given)); /* a new process has been initialized */
    assert_int_not_equal(0, access(path, F_OK));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(0, access(path, F_OK));
    unlink(path);
}
static void an_initializer_that_fails_breaks_the_pool(void **state) {
    (void)state;
    int number = 13;
    tpool *pool = NULL;
    tpool_config config = { .kind = TPOOL_MPI_RANKS,
                            .max_workers = 1,
                            .initializer = takes,
                            .context = &number,
                            .context_size = sizeof number };
    assert_status(TPOOL_OK, tpool_create(&pool, &config));
    tpool_future *future = sent(pool, answers, NULL, 0);
    assert_status(TPOOL_BROKEN, ended(future, NULL));
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_context_needs_its_size(void **state) {
    (void)state;
    int number = 1;
    tpool *pool = NULL;
    tpool_config config = { .kind = TPOOL_MPI_RANKS, .initializer = takes, .context = &number };
    assert_status(TPOOL_INVALID, tpool_create(&pool, &config));
    config.initializer = NULL;
    config.shared_size = 4096;
    assert_status(TPOOL_UNSUPPORTED, tpool_create(&pool, &config));
}
static void workers_are_replaced_after_so_many_tasks(void **state) {
    (void)state;
    tpool *pool = NULL;
    tpool_config config = { .kind = TPOOL_MPI_RANKS, .max_workers = 1, .max_tasks_per_worker = 3 };
    assert_status(TPOOL_OK, tpool_create(&pool, &config));
    for (int i = 0; i < 10; i++) assert_serves(pool);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- several pools, more workers than ranks */

static void pools_beside_each_other_share_the_ranks(void **state) {
    (void)state;
    tpool *pools[3] = { rank_pool(0), rank_pool(8), rank_pool(1) };
    tpool_future *futures[300];
    for (int i = 0; i < 300; i++) futures[i] = sent(pools[i % 3], answers, NULL, 0);
    for (int i = 0; i < 300; i++) {
        void *value = NULL;
        assert_status(TPOOL_OK, ended(futures[i], &value));
        assert_int_equal(42, (intptr_t)value);
        tpool_future_release(futures[i]);
    }
    for (int i = 0; i < 3; i++) assert_status(TPOOL_OK, tpool_destroy(pools[i]));
}

/* --- pools within a task */

static void *makes_pools(void *unused) {
    (void)unused;
    static const tpool_kind kinds[] = { TPOOL_THREADS, TPOOL_PROCESSES, TPOOL_MPI_RANKS };
    intptr_t sum = 0;
    for (int i = 0; i < 3; i++) {
        tpool *pool = NULL;
        void *value = NULL;
        tpool_future *future = NULL;
        if (tpool_create(&pool, &(tpool_config){ .kind = kinds[i], .max_workers = 2 }) != TPOOL_OK) continue;
        if (tpool_submit(pool, answers, NULL, &future) == TPOOL_OK &&
            tpool_future_result(future, TPOOL_SEC(20), &value) == TPOOL_OK)
            sum += (intptr_t)value;
        tpool_future_release(future);
        if (tpool_destroy(pool) != TPOOL_OK) sum = 0;
    }
    return (void *)sum;
}
static void a_task_may_have_pools_of_its_own(void **state) {
    (void)state;
    tpool *pool = rank_pool(0);
    assert_int_equal(3 * 42, value_of(pool, makes_pools));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- functions */

static void functions_that_cannot_be_named_are_refused(void **state) {
    (void)state;
    tpool *pool = rank_pool(0);
    tpool_future *future = NULL;
    char data[16] = "";
    assert_status(TPOOL_INVALID, tpool_submit(pool, (tpool_fn)(uintptr_t)data, NULL, &future));
#if !defined(NON_PIE) /* there its address is in the program, and calls what is right for each machine */
    void *libc = dlopen("libc.so.6", RTLD_NOW);
    assert_non_null(libc);
    assert_status(TPOOL_INVALID, tpool_submit(pool, (tpool_fn)(uintptr_t)dlsym(libc, "memcpy"), NULL, &future));
    dlclose(libc);
#endif
    assert_serves(pool);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void *library;
static void functions_of_a_loaded_library_run(void **state) {
    (void)state;
    tpool *pool = rank_pool(0);
    assert_non_null(library);
    assert_int_equal(99, value_of(pool, (tpool_fn)(uintptr_t)dlsym(library, "in_the_library")));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_library_that_a_rank_has_not_loaded_is_named(void **state) {
    (void)state;
    tpool *pool = rank_pool(0);
    void *late = dlopen(getenv("LATE_LIBRARY"), RTLD_NOW);
    assert_non_null(late);
    tpool_future *future = sent(pool, (tpool_fn)(uintptr_t)dlsym(late, "in_the_library"), NULL, 0);
    assert_status(TPOOL_BROKEN, ended(future, NULL));
    assert_non_null(strstr(tpool_future_message(future), "has not loaded"));
    assert_non_null(strstr(tpool_future_message(future), "late"));
    tpool_future_release(future);
    assert_serves(pool);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    dlclose(late);
}

/* What MPI_Init loads comes after a host's processes have begun: they do not have it. */
static size_t loaded_first;
typedef struct late_code {
    size_t seen;
    uintptr_t address;
} late_code;
static int count_module(struct dl_phdr_info *module, size_t size, void *of) {
    (void)module;
    (void)size;
    ++*(size_t *)of;
    return 0;
}
static int find_late_code(struct dl_phdr_info *module, size_t size, void *of) {
    late_code *late = of;
    (void)size;
    if (late->seen++ < loaded_first) return 0;
    for (size_t i = 0; i < module->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &module->dlpi_phdr[i];
        if (part->p_type == PT_LOAD && part->p_flags & PF_X) late->address = module->dlpi_addr + part->p_vaddr;
    }
    return late->address != 0;
}
static void what_mpi_has_loaded_is_not_in_a_ranks_processes(void **state) {
    (void)state;
    late_code late = { 0 };
    (void)dl_iterate_phdr(find_late_code, &late);
    if (!late.address) skip(); /* MPICH loads nothing */
    tpool *pool = rank_pool(0);
    tpool_future *future = sent(pool, (tpool_fn)late.address, NULL, 0);
    assert_status(TPOOL_BROKEN, ended(future, NULL));
    assert_non_null(strstr(tpool_future_message(future), "has not loaded"));
    tpool_future_release(future);
    assert_serves(pool);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- ranks that stand still, and idle ones */

static void *naps(void *unused) {
    (void)unused;
    usleep(2000);
    return (void *)1;
}
static void a_rank_that_stands_still_holds_up_its_own_tasks_only(void **state) {
    (void)state;
    tpool *pool = rank_pool(0);
    pid_t stopped = (pid_t)value_of(pool, host_of);
    stop_process(stopped);
    tpool_future *futures[60];
    int done = 0;
    for (int i = 0; i < 60; i++) futures[i] = sent(pool, naps, NULL, 0);
    while (done < 55) { /* all but those few that wait for that rank */
        done = 0;
        for (int i = 0; i < 60; i++) done += tpool_future_done(futures[i]);
        sleep_ms(5);
    }
    assert_int_equal(0, kill(stopped, SIGCONT));
    for (int i = 0; i < 60; i++) {
        assert_status(TPOOL_OK, ended(futures[i], NULL));
        tpool_future_release(futures[i]);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* The rank counts from when it has seen the task, which is too late: it is killed soon after it has begun. */
static void *naps_long(void *unused) {
    (void)unused;
    sleep_ms(1800);
    return (void *)1;
}
static void a_limit_counts_while_the_rank_stands_still(void **state) {
    (void)state;
    tpool *pool = rank_pool(1);
    tpool_future *future = NULL;
    pid_t stopped = (pid_t)value_of(pool, host_of);
    stop_process(stopped);
    assert_status(TPOOL_OK,
                  tpool_submit_task(pool, &(tpool_task){ .fn = naps_long, .run_limit_ns = TPOOL_SEC(2) }, &future));
    while (!tpool_future_running(future)) sleep_ms(1);
    sleep_ms(1900);
    assert_int_equal(0, kill(stopped, SIGCONT));
    assert_status(TPOOL_BROKEN, ended(future, NULL));
    assert_non_null(strstr(tpool_future_message(future), "run_limit_ns"));
    tpool_future_release(future);
    assert_serves(pool);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* The CPU time that a process has used: what others do beside it does not lengthen it. */
static int64_t cpu_ns_of(pid_t pid) {
    clockid_t clock;
    struct timespec used;
    assert_int_equal(0, clock_getcpuclockid(pid, &clock));
    assert_int_equal(0, clock_gettime(clock, &used));
    return TPOOL_SEC((int64_t)used.tv_sec) + used.tv_nsec;
}
/* At most 2 % of a CPU, in one second of ten: a wake is dearer where others use the caches. One that looks for letters
 * all the time takes what it gets. */
static void idle_ranks_sleep(void **state) {
    (void)state;
    tpool *pool = rank_pool(1);
    pid_t other = (pid_t)value_of(pool, host_of);
    bool both = false;
    sleep_ms(100);
    for (int i = 0; i < 10 && !both; i++) {
        int64_t began = tpool_now(), there = cpu_ns_of(other), here = cpu_ns_of(getpid());
        sleep_ms(1000);
        there = cpu_ns_of(other) - there;
        here = cpu_ns_of(getpid()) - here;
        int64_t most = (tpool_now() - began) / 50;
        both = there <= most && here <= most;
        printf("%.2f %% and %.2f %%\n", (double)there * 2 / (double)most, (double)here * 2 / (double)most);
    }
    assert_true(both);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- one task's stop, cut or kill, and another's */

/* What comes when a task has just ended is for that task alone. */
static void a_kill_or_stop_does_not_reach_the_next_task(void **state) {
    (void)state;
    tpool *pool = rank_pool(1);
    for (int i = 0; i < 300; i++) {
        tpool_future *before = sent(pool, answers, NULL, 0);
        assert_status(TPOOL_OK, ended(before, NULL));
        tpool_future_request_stop(before);
        assert_status(TPOOL_OK, tpool_kill_workers(pool));
        tpool_future *future = sent(pool, is_asked_to_stop, NULL, 0);
        void *value = NULL;
        assert_status(TPOOL_OK, ended(future, &value));
        assert_null(value);
        tpool_future_release(before);
        tpool_future_release(future);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_stop_does_not_reach_the_next_task(void **state) {
    (void)state;
    tpool *pool = rank_pool(1);
    for (int i = 0; i < 500; i++) {
        tpool_future *asked = sent(pool, answers, NULL, 0), *next = sent(pool, is_asked_to_stop, NULL, 0);
        while (!tpool_future_running(asked) && !tpool_future_done(asked)) { }
        int64_t until = tpool_now() + i * TPOOL_US(1);
        while (tpool_now() < until) { }
        tpool_future_request_stop(asked);
        void *value = NULL;
        assert_status(TPOOL_OK, ended(next, &value));
        assert_null(value);
        tpool_future_release(asked);
        tpool_future_release(next);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_closed_map_cuts_no_other(void **state) {
    (void)state;
    static long items[40];
    tpool *pool = rank_pool(1);
    tpool_map_spec spec = {
        .fn = square, .items = items, .count = 40, .stride = sizeof(long), .item_size = sizeof(long), .chunk_size = 4
    };
    for (int i = 0; i < 100; i++) {
        tpool_map_iter *closed = NULL, *other = NULL;
        assert_status(TPOOL_OK, tpool_map(pool, &spec, &closed));
        assert_status(TPOOL_OK, tpool_map(pool, &spec, &other));
        assert_status(TPOOL_OK, tpool_map_next(closed, TPOOL_SEC(60), NULL));
        tpool_map_close(closed);
        for (int j = 0; j < 40; j++) assert_status(TPOOL_OK, tpool_map_next(other, TPOOL_SEC(60), NULL));
        tpool_map_close(other);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- while an argument is on its way */

enum { MUCH = 20 << 20 };
static void stops_and_kills_reach_a_task_whose_argument_is_on_its_way(void **state) {
    (void)state;
    tpool *pool = rank_pool(1);
    char *much = calloc(MUCH, 1);
    assert_serves(pool);
    for (int i = 0; i < 6; i++) {
        void *value = NULL;
        tpool_future *future = sent(pool, i % 2 ? runs_for_ever : stops_when_asked, much, MUCH);
        while (!tpool_future_running(future)) { }
        sleep_ms(i / 2);
        if (i % 2) assert_status(TPOOL_OK, tpool_kill_workers(pool));
        else tpool_future_request_stop(future);
        assert_status(i % 2 ? TPOOL_BROKEN : TPOOL_OK, ended(future, &value));
        if (i % 2 == 0) assert_int_equal(7, (intptr_t)value);
        tpool_future_release(future);
    }
    assert_serves(pool);
    free(much);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_limit_counts_while_the_argument_is_on_its_way(void **state) {
    (void)state;
    tpool *pool = rank_pool(1);
    char *much = calloc(MUCH, 1);
    tpool_future *future = NULL;
    assert_serves(pool);
    tpool_task task = { .fn = answers, .arg = much, .arg_size = MUCH, .run_limit_ns = TPOOL_US(100) };
    assert_status(TPOOL_OK, tpool_submit_task(pool, &task, &future));
    assert_status(TPOOL_BROKEN, ended(future, NULL));
    assert_non_null(strstr(tpool_future_message(future), "run_limit_ns"));
    tpool_future_release(future);
    assert_serves(pool);
    free(much);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void closing_a_map_whose_context_is_on_its_way_stops_its_items(void **state) {
    (void)state;
    static long items[40];
    tpool *pool = rank_pool(1);
    char *much = calloc(MUCH, 1);
    assert_serves(pool);
    for (unsigned ms = 0; ms < 12; ms++) {
        tpool_map_iter *iter = NULL;
        assert_status(TPOOL_OK, tpool_map(pool,
                                          &(tpool_map_spec){ .fn = item_for_ever,
                                                             .items = items,
                                                             .count = 40,
                                                             .stride = sizeof(long),
                                                             .item_size = sizeof(long),
                                                             .context = much,
                                                             .context_size = MUCH },
                                          &iter));
        sleep_ms(ms);
        tpool_map_close(iter);
    }
    assert_serves(pool);
    free(much);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void *first_for_ever(void *item, void *context) {
    (void)context;
    while (*(long *)item == 0) pause();
    return (void *)*(long *)item;
}
/* It costs the item that would have come next, as it costs the one that runs: the last, or one before others. */
static void a_kill_reaches_a_map_whose_context_is_on_its_way(void **state) {
    (void)state;
    static const long items[3] = { 0, 1, 2 };
    tpool *pool = rank_pool(1);
    char *much = calloc(MUCH, 1);
    pid_t there = (pid_t)value_of(pool, host_of);
    for (size_t count = 1; count <= 3; count += 2) {
        tpool_map_iter *iter = NULL;
        tpool_map_spec spec = { .fn = first_for_ever,
                                .items = (void *)(uintptr_t)items,
                                .count = count,
                                .chunk_size = count,
                                .stride = sizeof(long),
                                .item_size = sizeof(long),
                                .context = much,
                                .context_size = MUCH };
        stop_process(there);
        assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
        sleep_ms(50);
        assert_status(TPOOL_OK, tpool_kill_workers(pool));
        sleep_ms(20);
        assert_int_equal(0, kill(there, SIGCONT));
        for (size_t i = 0; i < count; i++) {
            void *value = NULL;
            assert_status(i ? TPOOL_OK : TPOOL_BROKEN, tpool_map_next(iter, TPOOL_SEC(60), &value));
            assert_int_equal(i, (intptr_t)value);
        }
        tpool_map_close(iter);
    }
    assert_serves(pool);
    free(much);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

int main(int argc, char **argv) {
    const char *path = getenv("LIBRARY");
    host = getpid();
    if (path) library = dlopen(path, RTLD_NOW);
    (void)dl_iterate_phdr(count_module, &loaded_first);
    if (tpool_main(&argc, &argv) != TPOOL_OK) return 1;
    host = 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tasks_run_on_other_ranks),
        cmocka_unit_test(a_ranks_process_has_its_workers_name),
        cmocka_unit_test(bytes_of_every_size_come_back),
        cmocka_unit_test(an_error_comes_back_as_it_was_raised),
        cmocka_unit_test(bad_ends_cost_their_own_task_only),
        cmocka_unit_test(limits_kill_the_worker_process),
        cmocka_unit_test(kill_workers_ends_what_runs),
        cmocka_unit_test(a_stop_request_reaches_the_task),
        cmocka_unit_test(a_map_runs_over_ranks),
        cmocka_unit_test(closing_a_map_stops_its_items),
        cmocka_unit_test(initializer_and_finalizer_get_the_context),
        cmocka_unit_test(an_initializer_that_fails_breaks_the_pool),
        cmocka_unit_test(a_context_needs_its_size),
        cmocka_unit_test(workers_are_replaced_after_so_many_tasks),
        cmocka_unit_test(pools_beside_each_other_share_the_ranks),
        cmocka_unit_test(a_task_may_have_pools_of_its_own),
        cmocka_unit_test(functions_that_cannot_be_named_are_refused),
        cmocka_unit_test(functions_of_a_loaded_library_run),
        cmocka_unit_test(a_library_that_a_rank_has_not_loaded_is_named),
        cmocka_unit_test(what_mpi_has_loaded_is_not_in_a_ranks_processes),
        cmocka_unit_test(a_rank_that_stands_still_holds_up_its_own_tasks_only),
        cmocka_unit_test(a_limit_counts_while_the_rank_stands_still),
        cmocka_unit_test(a_kill_or_stop_does_not_reach_the_next_task),
        cmocka_unit_test(a_stop_does_not_reach_the_next_task),
        cmocka_unit_test(a_closed_map_cuts_no_other),
        cmocka_unit_test(stops_and_kills_reach_a_task_whose_argument_is_on_its_way),
        cmocka_unit_test(a_limit_counts_while_the_argument_is_on_its_way),
        cmocka_unit_test(closing_a_map_whose_context_is_on_its_way_stops_its_items),
        cmocka_unit_test(a_kill_reaches_a_map_whose_context_is_on_its_way),
        cmocka_unit_test(idle_ranks_sleep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
