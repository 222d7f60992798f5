/* Faults: each allocation, each thread start and each system call that can fail does so once, at every position of
   every scenario, and from there on. Each call must answer with a status that its documentation names, no task that was
   taken may be lost, none that was refused may be touched, the statistics must add up, the pool must work again once
   the fault is over, it must be destroyed in the end, and all memory must have been given back. The implementation is
   included, so that its allocations and calls come here, and each of their places in the header is known by its line:
   at the end each must have failed. In pools of processes that goes for each process of theirs. Run as `white_faults
   --coarse` it leaves out positions, for slow tools; `--coarse NAME` plays one scenario only, `--all` all positions of
   those with processes too, of which a quick run leaves some out. With `--measure` besides, all pools of the scenarios
   collect latency figures. */
#include "refusals/injection.h"
#include "refusals/scenario.h"
#include "refusals/submits.h"
#include "refusals/futures.h"
#include "refusals/loops.h"
#include "refusals/pools.h"
#include "refusals/ends.h"
#include "refusals/held.h"
#include "refusals/groups.h"
#include "refusals/processes.h"
#include "refusals/explore.h"

#if SLOW_TOOL
/* ThreadSanitizer waits for a second at each exit beside other threads, which is long for so many processes. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "atexit_sleep_ms=50"; }
#endif

#define SCENARIO(name, flags) \
    static void refusals_in_##name(void **unused) { \
        (void)unused; \
        explore(scenario_##name, #name, flags); \
    }
SCENARIO(submit_and_result, 0)
SCENARIO(many_without_futures, 0)
SCENARIO(held_tasks, SLOW)
SCENARIO(repeating_tasks, SLOW)
SCENARIO(long_running_tasks, 0)
SCENARIO(held_tasks_fill_the_queue, 0)
SCENARIO(held_tasks_expire_beside_the_queue, 0)
SCENARIO(a_wait_for_a_chain_of_held_tasks, 0)
SCENARIO(groups, 0)
SCENARIO(groups_that_are_full, 0)
SCENARIO(a_long_line, 0)
SCENARIO(groups_that_fail, 0)
SCENARIO(members_of_one_carrier, 0)
SCENARIO(scopes_in_tasks, 0)
SCENARIO(a_stop_beside_a_member_in_place, 0)
SCENARIO(a_wait_for_a_group_of_held_tasks, 0)
SCENARIO(copies_names_and_expiry, 0)
SCENARIO(submit_many, 0)
SCENARIO(run_with_timeout, 0)
SCENARIO(priorities, 0)
SCENARIO(full_queue_that_blocks, 0)
SCENARIO(full_queue_that_rejects, 0)
SCENARIO(full_queue_whose_caller_runs, 0)
SCENARIO(full_queue_that_drops, 0)
SCENARIO(raise, 0)
SCENARIO(return, 0)
SCENARIO(callbacks, 0)
SCENARIO(futures_of_the_program, STARTS_NO_THREAD)
SCENARIO(wait, 0)
SCENARIO(as_completed, 0)
SCENARIO(submits_that_add_to_completions, 0)
SCENARIO(completions_that_grow, 0)
SCENARIO(map_over_an_array, 0)
SCENARIO(map_over_a_source, 0)
SCENARIO(a_map_that_chooses, 0)
SCENARIO(loops, 0)
SCENARIO(fork_and_join, 0)
SCENARIO(waits_in_place, 0)
SCENARIO(waits_with_spare_workers, 0)
SCENARIO(waits_for_the_first, 0)
SCENARIO(a_wait_for_something_outside, 0)
SCENARIO(warm_up_resize_and_pause, 0)
SCENARIO(workers_are_replaced, 0)
SCENARIO(a_task_ends_its_thread, 0)
SCENARIO(shutdown_cancels, 0)
SCENARIO(a_detached_pool, 0)
SCENARIO(a_broken_initializer, 0)
SCENARIO(futures_released_after_their_pool, 0)
SCENARIO(managed_pools, 0)
SCENARIO(a_managed_scope, 0)
SCENARIO(resources, 0)
SCENARIO(channels, 0)
SCENARIO(measuring, 0)
SCENARIO(tracing, 0)
SCENARIO(a_pool_with_all_defaults, 0)
SCENARIO(workers_with_stacks_hooks_and_idle_ends, 0)
SCENARIO(many_from_a_worker, 0)
SCENARIO(full_queue_of_plain_tasks, 0)
SCENARIO(a_blocked_submitter, 0)
SCENARIO(a_task_fills_its_own_queue, 0)
SCENARIO(failures_that_nobody_asks_for, 0)
SCENARIO(a_thread_ends_beneath_two_tasks, 0)
SCENARIO(limits_stops_and_cancels, 0)
SCENARIO(completions_in_a_task, 0)
SCENARIO(a_map_in_a_task_whose_items_fail, 0)
SCENARIO(a_loop_that_fails, 0)
SCENARIO(a_helper_of_a_loop_in_a_loop_ends_its_thread, 0)
SCENARIO(the_shared_pools, 0)
SCENARIO(threads_without_exit_hooks, WITHOUT_HOOKS)
SCENARIO(tasks_in_processes, WITH_PROCESSES)
SCENARIO(a_map_over_processes, WITH_PROCESSES)
SCENARIO(memory_that_processes_share, WITH_PROCESSES)
SCENARIO(processes_that_die, WITH_PROCESSES)
SCENARIO(a_server_that_is_stopped, WITH_PROCESSES + SLOW)
#if defined(__linux__) && !defined(TPOOL__PLAIN_POSIX)
SCENARIO(processes_of_a_program_that_adopts, WITH_PROCESSES)
#endif
#ifdef FORKS
SCENARIO(pools_of_a_forked_child, 0)
#endif

/* The first use of the library in a process. Each step that succeeded is not done again. */
static void what_the_process_needs_once_is_tried_again(void **unused) {
    (void)unused;
    static const long from[] = { 1, 2,
                                 2 }; /* the first step; having done that, the second; having done that, the third */
    tpool *pool = NULL;
    if (only_scenario) skip();
    for (size_t i = 0; i < sizeof from / sizeof *from; i++) {
        fault->at = from[i];
        atomic_store(&fault->seen, 0);
        atomic_store(&fault->is, SETUP_FROM);
        for (int again = 0; again < 2; again++) {
            tpool_future *future = (tpool_future *)&pool;
            tpool_task task = { .fn = nothing };
            pool = (tpool *)&future;
            assert_status(TPOOL_NO_MEMORY, tpool_create(&pool, NULL));
            assert_null(pool);
            assert_status(TPOOL_NO_MEMORY, tpool_future_create(&future));
            assert_null(future);
            future = (tpool_future *)&pool;
            assert_status(TPOOL_NO_MEMORY, tpool_run_with_timeout(NULL, &task, TPOOL_FOREVER, &future));
            assert_null(future);
            assert_null(tpool_high_level());
            assert_null(tpool_low_level());
            assert_null(tpool_default());
            assert_status(TPOOL_NO_MEMORY, tpool_dual_configure(NULL, NULL));
            assert_status(TPOOL_NO_MEMORY, tpool_dual_shutdown(TPOOL_WAIT));
        }
        atomic_store(&fault->is, NO_FAULT);
    }
    scenario_end = tpool_now() + TPOOL_SEC(20);
    assert_status(TPOOL_OK, tpool_create(&pool, NULL));
    check_works(__LINE__, pool);
    assert_string_equal("", problem);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(0, atomic_exchange(&live_blocks, 0));
}

/* The next worker cannot have its exit hook. Others find what it was to do, or it ends, or a wait for a spare
   worker. */
static void fail_next_hook(void) {
    fault->at = 1;
    atomic_store(&fault->seen, 0);
    atomic_store(&fault->injected, 0);
    atomic_store(&fault->is, ONE_KEY);
}
static void await_hook_failed(void) {
    while (!atomic_load(&fault->injected) && CALL_LIMIT > 0) sched_yield();
    atomic_store(&fault->is, NO_FAULT);
    assert_int_equal(1, atomic_load(&fault->injected));
}
/* Until then it would be refused before there is anything to do, and another worker started for what comes. */
static tpool *hooked_pool;
static void await_a_task(void) {
    while (tpool__lane_count(&hooked_pool->inject) == 0 && CALL_LIMIT > 0) sched_yield();
}
static void *submit_and_wait_with_limit(void *arg) {
    tpool_future *inner = NULL;
    if (tpool_submit(tpool_current(), nothing, NULL, &inner) != TPOOL_OK) return NULL;
    fail_next_hook(); /* the spare worker's */
    *(tpool_status *)arg = tpool_future_result(inner, CALL_LIMIT, NULL);
    tpool_future_release(inner);
    return arg;
}
static void a_worker_without_its_exit_hook_is_like_one_whose_thread_was_refused(void **unused) {
    (void)unused;
    if (only_scenario) skip();
    tpool *pool = NULL;
    tpool_future *held = NULL, *waits = NULL;
    const tpool_error *error = NULL;
    tpool_status inner = TPOOL_OK;
    gate g = GATE_CLOSED;
    problem[0] = 0;
    scenario_end = tpool_now() + LIMIT / 2;
    assert_status(TPOOL_OK, tpool_create(&pool, &(tpool_config){ .max_workers = 2 }));
    assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &g, &held));
    while (gate_arrived(&g) == 0) sched_yield();
    fail_next_hook();
    assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, &waits));
    await_hook_failed();
    assert_int_equal(TPOOL_PENDING, tpool_future_state(waits)); /* for the worker that is busy */
    gate_open(&g);
    assert_status(TPOOL_OK, end_of(held));
    assert_status(TPOOL_OK, end_of(waits));
    assert_status(TPOOL_OK, tpool_destroy(pool));

    assert_status(TPOOL_OK, tpool_create(&pool, &(tpool_config){ .max_workers = 1 }));
    hooked_pool = pool;
    before_hook_fails = await_a_task;
    fail_next_hook();
    assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, &waits));
    assert_status(TPOOL_BROKEN, tpool_future_result(waits, CALL_LIMIT, NULL));
    before_hook_fails = NULL;
    assert_status(TPOOL_OK, tpool_future_error(waits, 0, &error));
    assert_string_equal("No worker is left, and none could be started.", error->message);
    tpool_future_release(waits);
    await_hook_failed();
    check_works(__LINE__, pool);
    assert_string_equal("", problem);
    assert_status(TPOOL_OK, tpool_submit(pool, submit_and_wait_with_limit, &inner, &waits));
    assert_status(TPOOL_OK, tpool_future_result(waits, CALL_LIMIT, NULL));
    tpool_future_release(waits);
    await_hook_failed();
    assert_status(TPOOL_OK, inner); /* the next spare can */
    check_works(__LINE__, pool);
    assert_string_equal("", problem);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(0, atomic_exchange(&live_blocks, 0));
}

/* Its thread would not learn of its own end, so it does not begin: whether the task is held or ready. */
static void a_long_running_task_whose_thread_has_no_exit_hook_is_broken(void **unused) {
    (void)unused;
    if (only_scenario) skip();
    tpool *pool = NULL;
    const tpool_error *error = NULL;
    problem[0] = 0;
    scenario_end = tpool_now() + LIMIT / 2;
    assert_status(TPOOL_OK, tpool_create(&pool, &(tpool_config){ .max_workers = 1 }));
    check_works(__LINE__, pool);
    for (int i = 0; i < 2; i++) {
        tpool_task task = { .fn = nothing, .delay_ns = i ? TPOOL_SEC(1000) : 0, .long_running = true };
        tpool_future *future = NULL;
        fail_next_hook();
        assert_status(TPOOL_OK, tpool_submit_task(pool, &task, &future));
        assert_status(TPOOL_BROKEN, tpool_future_result(future, CALL_LIMIT, NULL));
        assert_status(TPOOL_OK, tpool_future_error(future, 0, &error));
        assert_string_equal("No worker is left, and none could be started.", error->message);
        tpool_future_release(future);
        await_hook_failed();
        check_works(__LINE__, pool);
    }
    assert_string_equal("", problem);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(0, atomic_exchange(&live_blocks, 0));
}

/* The thread that is refused ends what waits. Meanwhile the program, or what it calls, submits again. */
static atomic_int added_callback;
static void await_the_callback(void) {
    while (!atomic_load(&added_callback) && CALL_LIMIT > 0) sched_yield();
}
static void submit_again(tpool_future *future, void *again) {
    (void)future;
    atomic_store(&fault->is, NO_FAULT);
    if (tpool_submit(hooked_pool, nothing, NULL, (tpool_future **)again) != TPOOL_OK) *(tpool_future **)again = NULL;
}
static void what_comes_after_the_last_worker_was_refused_has_a_worker(void **unused) {
    (void)unused;
    if (only_scenario) skip();
    scenario_end = tpool_now() + LIMIT / 2;
    for (int max_workers = 1; max_workers <= 2; max_workers++) {
        tpool *pool = NULL;
        tpool_future *stranded = NULL, *again = NULL;
        assert_status(TPOOL_OK, tpool_create(&pool, &(tpool_config){ .max_workers = max_workers }));
        hooked_pool = pool;
        atomic_store(&added_callback, 0);
        before_hook_fails = await_the_callback;
        fail_next_hook();
        assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, &stranded));
        assert_status(TPOOL_OK, tpool_future_add_done_callback(stranded, submit_again, &again));
        atomic_store(&added_callback, 1);
        assert_status(TPOOL_BROKEN, end_of(stranded));
        before_hook_fails = NULL;
        await_hook_failed();
        assert_status(TPOOL_OK, tpool_drain(pool, CALL_LIMIT));
        assert_non_null(again);
        assert_status(TPOOL_OK, end_of(again));
        assert_status(TPOOL_OK, tpool_destroy(pool));
        assert_int_equal(0, atomic_exchange(&live_blocks, 0));
    }
}

/* ---- What only the allocator sees ---- */

static void *return_megabytes(void *arg) {
    size_t size = 1u << 20;
    unsigned char *bytes = calloc(1, size);
    void *last = NULL;
    long before = atomic_load(&live_bytes);
    for (int i = 0; i < 10; i++) last = tpool_return(bytes, size);
    *(long *)arg = atomic_load(&live_bytes) - before;
    free(bytes);
    return last;
}
static void *raise_after_megabyte(void *arg) {
    size_t size = 1u << 20;
    unsigned char *bytes = calloc(1, size);
    tpool_return(bytes, size);
    free(bytes);
    tpool_raise(1, "it was all for nothing");
    return arg;
}

static void an_earlier_payload_is_freed_at_once_and_all_are_on_failure(void **unused) {
    (void)unused;
    tpool *pool = NULL;
    tpool_future *future = NULL;
    long growth = 0, megabyte = 1L << 20;
    scenario_end = tpool_now() + TPOOL_SEC(20);
    assert_status(TPOOL_OK, tpool_create(&pool, &(tpool_config){ .max_workers = 1 }));
    assert_status(TPOOL_OK, tpool_submit(pool, return_megabytes, &growth, &future));
    assert_status(TPOOL_OK, tpool_future_result(future, CALL_LIMIT, NULL));
    assert_true(growth >= megabyte && growth < 2 * megabyte);
    assert_true(atomic_load(&live_bytes) >= megabyte);
    tpool_future_release(future);
    assert_true(atomic_load(&live_bytes) < megabyte);
    assert_status(TPOOL_OK, tpool_submit(pool, raise_after_megabyte, NULL, &future));
    assert_status(TPOOL_FAILED, tpool_future_result(future, CALL_LIMIT, NULL));
    assert_true(atomic_load(&live_bytes) < megabyte); /* though the future is held */
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(0, atomic_load(&live_blocks));
}

static void *count_allocations_of_jobs(void *arg) {
    long before = atomic_load(&allocations);
    void *result = fibonacci((void *)(intptr_t)15);
    *(long *)arg = atomic_load(&allocations) - before;
    return result;
}

static void fork_and_join_allocate_nothing(void **unused) {
    (void)unused;
    tpool *pool = NULL;
    tpool_future *future = NULL;
    void *result = NULL;
    long made = -1;
    scenario_end = tpool_now() + TPOOL_SEC(20);
    assert_status(TPOOL_OK, tpool_create(&pool, &(tpool_config){ .max_workers = 1 }));
    assert_status(TPOOL_OK, tpool_submit(pool, count_allocations_of_jobs, &made, &future));
    assert_status(TPOOL_OK, tpool_future_result(future, CALL_LIMIT, &result));
    assert_int_equal(610, (intptr_t)result);
    assert_int_equal(0, made);
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *return_small(void *arg) { return tpool_return(&arg, sizeof arg); }

static void memory_does_not_grow_with_the_number_of_tasks(void **unused) {
    (void)unused;
    tpool *pool = NULL;
    assert_status(TPOOL_OK, tpool_create(&pool, &(tpool_config){ .max_workers = 2 }));
    int rounds = COUNT(20000);
    long early = 0;
    scenario_end = tpool_now() + TPOOL_SEC(60);
    for (int i = 0; i < rounds; i++) {
        tpool_future *future = NULL;
        assert_status(TPOOL_OK, tpool_submit_copy(pool, return_small, &i, sizeof i, &future));
        assert_status(TPOOL_OK, tpool_future_result(future, CALL_LIMIT, NULL));
        tpool_future_release(future);
        if (i == rounds / 10) {
            early = atomic_load(&live_bytes);
            atomic_store(&peak_bytes, early);
        }
    }
    assert_true(atomic_load(&peak_bytes) <= early + 64 * 1024);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(0, atomic_load(&live_blocks));
}

/* Two threads that wait for a group by futures, and give up in turn: one of the futures always lives. */
static void memory_does_not_grow_with_cancelled_futures_of_a_group(void **unused) {
    (void)unused;
    tpool *pool = NULL;
    tpool_group *group = NULL;
    tpool_future *before = NULL, *last = NULL;
    if (only_scenario) skip();
    assert_status(TPOOL_OK, tpool_create(&pool, &(tpool_config){ .max_workers = 1 }));
    assert_status(TPOOL_OK, tpool_group_create(&group, NULL));
    assert_status(TPOOL_OK, tpool_future_create(&before));
    tpool_task task = { .fn = nothing, .after = &before, .after_count = 1, .group = group };
    assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    assert_status(TPOOL_OK, tpool_group_future(group, &last));
    int rounds = COUNT(20000);
    long early = 0;
    for (int i = 0; i < rounds; i++) {
        tpool_future *next = NULL;
        assert_status(TPOOL_OK, tpool_group_future(group, &next));
        assert_true(tpool_future_cancel(last));
        tpool_future_release(last);
        last = next;
        if (i == rounds / 10) {
            early = atomic_load(&live_bytes);
            atomic_store(&peak_bytes, early);
        }
    }
    assert_true(atomic_load(&peak_bytes) <= early + 64 * 1024);
    assert_status(TPOOL_OK, tpool_future_set_result(before, NULL));
    assert_status(TPOOL_OK, tpool_group_destroy(group));
    assert_status(TPOOL_OK, tpool_future_result(last, TPOOL_FOREVER, NULL)); /* maybe just after the destroy */
    tpool_future_release(last);
    tpool_future_release(before);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(0, atomic_load(&live_blocks));
}

#if FAULT_PLACES
static void each_place_in_the_header_has_failed(void **unused) {
    (void)unused;
    int places = 0, missed = 0;
    if (only_scenario || coarse) skip();
    for (const fault_place *const *at = __start_fault_places; at < __stop_fault_places; at++, places++) {
        if (atomic_load(&fault->places[(*at)->number].failed)) continue;
        missed++;
        print_message("line %d: %s never failed, in %ld passes\n", (*at)->line, (*at)->call,
                      atomic_load(&fault->places[(*at)->number].passed));
    }
    print_message("%d places in the header can fail\n", places);
    assert_true(places > 20);
    assert_int_equal(0, missed);
}
#endif

/* Groups of both versions, with quotas. */
static void write_file(const char *name, const char *text) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", fault_folder, name);
    FILE *file = fopen(path, "w");
    if (!file || fputs(text, file) < 0 || fclose(file) != 0) abort();
}
static const char *const quota_folders[] = { "", "/a", "/cpu", "/cpu/b" };
static const char *const quota_files[] = { "cgroup", "a/cpu.max", "cpu/b/cpu.cfs_quota_us", "cpu/b/cpu.cfs_period_us" };
static void write_quotas(void) {
    static const char *const texts[] = { "0::/a\n4:cpuset,cpu:/b\n", "250000 100000\n", "600000\n", "100000\n" };
    strcpy(fault_folder, "/tmp/white_faults_XXXXXX");
    if (!mkdtemp(fault_folder)) abort();
    snprintf(fault_groups, sizeof fault_groups, "%s/cgroup", fault_folder);
    for (int i = 1; i < 4; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s%s", fault_folder, quota_folders[i]);
        if (mkdir(path, 0700) != 0) abort();
    }
    for (int i = 0; i < 4; i++) write_file(quota_files[i], texts[i]);
}
static void remove_quotas(void) {
    char path[128];
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", fault_folder, quota_files[i]);
        remove(path);
    }
    for (int i = 3; i >= 0; i--) {
        snprintf(path, sizeof path, "%s%s", fault_folder, quota_folders[i]);
        remove(path);
    }
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--coarse") == 0) coarse = true;
        else if (strcmp(argv[i], "--all") == 0) all = true;
        else if (strcmp(argv[i], "--measure") == 0) measure = true;
        else only_scenario = argv[i];
    }
    fault = mmap(NULL, sizeof *fault, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (fault == MAP_FAILED || __COUNTER__ > MOST_PLACES) abort();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_process_needs_once_is_tried_again), /* the first: nothing has used the library */
        cmocka_unit_test(refusals_in_submit_and_result),
        cmocka_unit_test(refusals_in_many_without_futures),
        cmocka_unit_test(refusals_in_held_tasks),
        cmocka_unit_test(refusals_in_repeating_tasks),
        cmocka_unit_test(refusals_in_long_running_tasks),
        cmocka_unit_test(refusals_in_held_tasks_fill_the_queue),
        cmocka_unit_test(refusals_in_held_tasks_expire_beside_the_queue),
        cmocka_unit_test(refusals_in_a_wait_for_a_chain_of_held_tasks),
        cmocka_unit_test(refusals_in_groups),
        cmocka_unit_test(refusals_in_groups_that_are_full),
        cmocka_unit_test(refusals_in_a_long_line),
        cmocka_unit_test(refusals_in_groups_that_fail),
        cmocka_unit_test(refusals_in_members_of_one_carrier),
        cmocka_unit_test(refusals_in_scopes_in_tasks),
        cmocka_unit_test(refusals_in_a_stop_beside_a_member_in_place),
        cmocka_unit_test(refusals_in_a_wait_for_a_group_of_held_tasks),
        cmocka_unit_test(refusals_in_copies_names_and_expiry),
        cmocka_unit_test(refusals_in_submit_many),
        cmocka_unit_test(refusals_in_run_with_timeout),
        cmocka_unit_test(refusals_in_priorities),
        cmocka_unit_test(refusals_in_full_queue_that_blocks),
        cmocka_unit_test(refusals_in_full_queue_that_rejects),
        cmocka_unit_test(refusals_in_full_queue_whose_caller_runs),
        cmocka_unit_test(refusals_in_full_queue_that_drops),
        cmocka_unit_test(refusals_in_raise),
        cmocka_unit_test(refusals_in_return),
        cmocka_unit_test(refusals_in_callbacks),
        cmocka_unit_test(refusals_in_futures_of_the_program),
        cmocka_unit_test(refusals_in_wait),
        cmocka_unit_test(refusals_in_as_completed),
        cmocka_unit_test(refusals_in_submits_that_add_to_completions),
        cmocka_unit_test(refusals_in_completions_that_grow),
        cmocka_unit_test(refusals_in_map_over_an_array),
        cmocka_unit_test(refusals_in_map_over_a_source),
        cmocka_unit_test(refusals_in_a_map_that_chooses),
        cmocka_unit_test(refusals_in_loops),
        cmocka_unit_test(refusals_in_fork_and_join),
        cmocka_unit_test(refusals_in_waits_in_place),
        cmocka_unit_test(refusals_in_waits_with_spare_workers),
        cmocka_unit_test(refusals_in_waits_for_the_first),
        cmocka_unit_test(refusals_in_a_wait_for_something_outside),
        cmocka_unit_test(refusals_in_warm_up_resize_and_pause),
        cmocka_unit_test(refusals_in_workers_are_replaced),
        cmocka_unit_test(refusals_in_a_task_ends_its_thread),
        cmocka_unit_test(refusals_in_shutdown_cancels),
        cmocka_unit_test(refusals_in_a_detached_pool),
        cmocka_unit_test(refusals_in_a_broken_initializer),
        cmocka_unit_test(refusals_in_futures_released_after_their_pool),
        cmocka_unit_test(refusals_in_managed_pools),
        cmocka_unit_test(refusals_in_a_managed_scope),
        cmocka_unit_test(refusals_in_resources),
        cmocka_unit_test(refusals_in_channels),
        cmocka_unit_test(refusals_in_measuring),
        cmocka_unit_test(refusals_in_tracing),
        cmocka_unit_test(refusals_in_a_pool_with_all_defaults),
        cmocka_unit_test(refusals_in_workers_with_stacks_hooks_and_idle_ends),
        cmocka_unit_test(refusals_in_many_from_a_worker),
        cmocka_unit_test(refusals_in_full_queue_of_plain_tasks),
        cmocka_unit_test(refusals_in_a_blocked_submitter),
        cmocka_unit_test(refusals_in_a_task_fills_its_own_queue),
        cmocka_unit_test(refusals_in_failures_that_nobody_asks_for),
        cmocka_unit_test(refusals_in_a_thread_ends_beneath_two_tasks),
        cmocka_unit_test(refusals_in_limits_stops_and_cancels),
        cmocka_unit_test(refusals_in_completions_in_a_task),
        cmocka_unit_test(refusals_in_a_map_in_a_task_whose_items_fail),
        cmocka_unit_test(refusals_in_a_loop_that_fails),
        cmocka_unit_test(refusals_in_a_helper_of_a_loop_in_a_loop_ends_its_thread),
        cmocka_unit_test(refusals_in_the_shared_pools),
        cmocka_unit_test(refusals_in_threads_without_exit_hooks),
        cmocka_unit_test(refusals_in_tasks_in_processes),
        cmocka_unit_test(refusals_in_a_map_over_processes),
        cmocka_unit_test(refusals_in_memory_that_processes_share),
        cmocka_unit_test(refusals_in_processes_that_die),
        cmocka_unit_test(refusals_in_a_server_that_is_stopped),
#if defined(__linux__) && !defined(TPOOL__PLAIN_POSIX)
        cmocka_unit_test(refusals_in_processes_of_a_program_that_adopts),
#endif
#ifdef FORKS
        cmocka_unit_test(refusals_in_pools_of_a_forked_child),
#endif
        cmocka_unit_test(a_worker_without_its_exit_hook_is_like_one_whose_thread_was_refused),
        cmocka_unit_test(a_long_running_task_whose_thread_has_no_exit_hook_is_broken),
        cmocka_unit_test(what_comes_after_the_last_worker_was_refused_has_a_worker),
        cmocka_unit_test(an_earlier_payload_is_freed_at_once_and_all_are_on_failure),
        cmocka_unit_test(fork_and_join_allocate_nothing),
        cmocka_unit_test(memory_does_not_grow_with_the_number_of_tasks),
        cmocka_unit_test(memory_does_not_grow_with_cancelled_futures_of_a_group),
#if FAULT_PLACES
        cmocka_unit_test(each_place_in_the_header_has_failed),
#endif
    };
    write_quotas();
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    remove_quotas();
    return failures;
}
