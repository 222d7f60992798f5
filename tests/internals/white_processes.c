/* Faults that only the inside can bring about: fork refused, a worker that dies with its task taken and not begun or
   leaves something behind, and memory that cannot be had. In several files and one program, since each copy of the
   implementation takes longer to compile than all tests of it. */
#include "processes.h"
#include "processes_lies.h"
#include "processes_servers.h"
#include "processes_items.h"

#if defined(__linux__)

/* A child that no handler of fork knows of holds the worker's end of the replies. */
static void *crashes_beside_a_grandchild(void *arg) {
    pid_t child = bare_fork();
    if (child == 0) {
        alarm(60);
        setsid();
        while (atomic_load(&all->gate.open) == 0) sleep_ms(1);
        _exit(0);
    }
    while (getsid(child) != child) sleep_ms(1);
    raise(SIGKILL);
    return arg;
}
static void a_death_is_told_in_the_workers_place(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    tpool_future *future = submitted(pool, crashes_beside_a_grandchild, NULL);
    assert_status(TPOOL_BROKEN, tpool_future_result(future, TPOOL_SEC(20), NULL));
    tpool_future_release(future);
    atomic_store(&all->gate.open, 1);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
#endif

/* Else it would hold them for as long as it lives, and destroy would wait for their end. */
static void a_process_forked_beside_create_keeps_none_of_its_descriptors(void **state) {
    (void)state;
    int before = descriptors_open();
    atomic_store(&all->beside, 1);
    tpool *pool = process_pool(1);
    assert_int_equal(0, atomic_load(&all->beside));
    assert_int_equal(before, atomic_load(&all->left));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(before, descriptors_open());
}
static void fork_refused_at_create(void **state) {
    (void)state;
    tpool *pool = (tpool *)&state;
    atomic_store(&all->refused, 1);
    assert_status(TPOOL_NO_THREAD, tpool_create(&pool, &(tpool_config){ .kind = TPOOL_PROCESSES }));
    assert_null(pool);
    pool = process_pool(1);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* Of the two forks at create the second, in the process in between. */
static void fork_refused_to_a_spare_is_no_harm(void **state) {
    (void)state;
    tpool_future *future;
    tpool *pool = process_pool(1);
    atomic_store(&all->refused, 1);
    assert_status(TPOOL_NO_THREAD, tpool_submit(pool, count_and_getpid, NULL, &future)); /* no worker: nothing taken */
    assert_null(future);
    assert_status(TPOOL_OK, end_of(submitted(pool, count_and_getpid, NULL)));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void work_waits_for_the_worker_that_runs_if_a_second_is_refused(void **state) {
    (void)state;
    enum { TASKS = 20 };
    tpool_future *futures[TASKS];
    tpool *pool = process_pool(4);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 1));
    atomic_store(&all->refused, 1000000);
    for (int i = 0; i < TASKS; i++) assert_status(TPOOL_OK, tpool_submit(pool, count_and_getpid, NULL, &futures[i]));
    for (int i = 0; i < TASKS; i++) {
        assert_status(TPOOL_OK, end_of(futures[i]));
    }
    tpool_stats stats;
    EVENTUALLY(tpool_get_stats(pool, &stats) == TPOOL_OK && stats.workers == 1); /* the others give up */
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* A worker dies of its task, and its replacement is refused so often: the end of the next task. */
static void a_worker_dies_whose_replacement_is_refused(tpool *pool, int times, tpool_status end_of_next) {
    assert_status(TPOOL_OK, tpool_warm_up(pool, 1));
    atomic_store(&all->refused, times);
    tpool_future *broken = submitted(pool, aborts, NULL), *next = submitted(pool, count_and_getpid, NULL);
    assert_status(TPOOL_BROKEN, end_of(broken));
    assert_status(end_of_next, end_of(next));
}
/* Refused for a moment only: the worker that has died is replaced, and nothing else is lost. */
static void a_replacement_refused_for_a_moment_is_tried_again(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    a_worker_dies_whose_replacement_is_refused(pool, 3, TPOOL_OK);
    assert_int_equal(0, atomic_load(&all->refused));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* Refused for good: what waits has an end too, drain returns, and later the pool goes on. */
static void a_replacement_refused_for_good_strands_nobody(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    a_worker_dies_whose_replacement_is_refused(pool, 1000000, TPOOL_BROKEN);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    tpool_future *next;
    assert_status(TPOOL_NO_THREAD, tpool_submit(pool, count_and_getpid, NULL, &next));
    atomic_store(&all->refused, 0);
    assert_status(TPOOL_OK, end_of(submitted(pool, count_and_getpid, NULL)));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_task_taken_and_not_begun_runs_on_another_worker(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    atomic_store(&all->die_at, 2);
    assert_status(TPOOL_OK, end_of(submitted(pool, count_and_getpid, NULL)));
    assert_int_equal(2, atomic_load(&all->deaths));
    assert_int_equal(1, atomic_load(&all->begun));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_task_that_no_worker_lives_to_begin_is_broken(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    atomic_store(&all->die_at, 3);
    assert_status(TPOOL_BROKEN, end_of(submitted(pool, count_and_getpid, NULL)));
    assert_int_equal(0, atomic_load(&all->begun));
    assert_status(TPOOL_OK, end_of(submitted(pool, count_and_getpid, NULL)));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_chunk_taken_and_not_begun_runs_on_another_worker(void **state) {
    (void)state;
    int items[10];
    for (int i = 0; i < 10; i++) items[i] = i;
    tpool *pool = process_pool(1);
    atomic_store(&all->die_at, 2);
    tpool_map_iter *iter = map_over_ints(pool, item_task, items, 10, 5);
    for (int i = 0; i < 10; i++) {
        void *result;
        assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, &result));
        assert_int_equal(i + 1, (intptr_t)result);
    }
    tpool_map_close(iter);
    assert_int_equal(2, atomic_load(&all->deaths));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- what a worker that ends leaves behind, and does last */

static void *exits_later(void *unused) {
    while (atomic_load(&all->gate.open) == 0) sleep_ms(1);
    _exit(0);
    return unused;
}
static void *ends_when_told_beside_a_child(void *arg) {
    pthread_t thread;
    pid_t child = fork();
    if (child == 0) {
        child_begin(60);
        while (atomic_load(&all->gate.open) < 2) sleep_ms(1);
        _exit(0);
    }
    atomic_store(&all->held, child);
    atomic_store(&all->left, getpid());
    (void)arg;
    return (void *)(intptr_t)(pthread_create(&thread, NULL, exits_later, NULL) == 0);
}
static void *warm_up_two(void *pool) { return (void *)(intptr_t)tpool_warm_up(pool, 2); }
/* Its proxy finds it dead before its server does, which is about to fork another, and asks for no kill: what would be
   killed is what it has left behind. */
static void what_a_worker_that_exits_leaves_behind_lives_on(void **state) {
    (void)state;
    SKIP_UNDER_TSAN(); /* the worker starts a thread */
    pthread_t warmer;
    tpool *pool = process_pool(2);
    assert_true(value_of(pool, ends_when_told_beside_a_child) != 0);
    pid_t child = atomic_load(&all->held);
    atomic_store(&all->fork_held, tpool__server_of(pool)->pid);
    assert_int_equal(0, pthread_create(&warmer, NULL, warm_up_two, pool));
    EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
    atomic_store(&all->gate.open, 1);
    EVENTUALLY(!is_alive(atomic_load(&all->left)));
    tpool_future *next = submitted(pool, getpid_task, NULL);
    sleep_ms(100); /* so that an order would be there when the server goes on */
    atomic_store(&all->fork_held, 0);
    (void)take(next);
    assert_int_equal(0, pthread_join(warmer, NULL));
    assert_true(is_alive(child));
    atomic_store(&all->gate.open, 2);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    EVENTUALLY(!is_alive(child));
}
static void note_exit_handler(void) { atomic_store(&all->executed[1], 1); }
static void *ends_its_thread(void *arg) {
    (void)atexit(note_exit_handler); /* the program's handlers do not run in a worker */
    pthread_exit(arg);
    return arg;
}
static void count_finalizers(void *context) {
    (void)context;
    atomic_fetch_add(&all->left, 1);
    if (atomic_load(&all->spoiling)) pthread_exit(NULL);
}
static void a_worker_whose_thread_ends_runs_its_finalizer_once(void **state) {
    (void)state;
    SKIP_UNDER_TSAN(); /* where a worker whose main thread ends hangs */
    for (int ends_again = 0; ends_again < 2; ends_again++) {
        set_up(NULL);
        atomic_store(&all->spoiling, ends_again);
        tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .finalizer = count_finalizers });
        assert_status(TPOOL_BROKEN, end_of(submitted(pool, ends_its_thread, NULL)));
        assert_int_equal(1, atomic_load(&all->left));
        assert_int_equal(0, atomic_load(&all->executed[1]));
        assert_true(value_of(pool, getpid_task) > 0);
        assert_status(TPOOL_OK, tpool_destroy(pool));
        assert_int_equal(2, atomic_load(&all->left));
    }
}
/* A task ends its thread in a loop of a pool of its own, while a thread of that pool is in the loop too, which uses the
   stack that the task leaves: the finalizer comes after it. */
static void body_that_ends_the_first_thread(size_t begin, size_t end, void *first) {
    (void)begin, (void)end;
    if (pthread_equal(*(pthread_t *)first, pthread_self())) {
        while (atomic_load(&all->executed[0]) == 0) sleep_ms(1);
        pthread_exit(NULL);
    }
    atomic_store(&all->executed[0], 1);
    sleep_ms(100);
    atomic_store(&all->executed[2], 1);
}
static void *ends_its_thread_in_a_loop(void *arg) {
    static pthread_t first;
    tpool *own = NULL;
    first = pthread_self();
    if (tpool_create(&own, &(tpool_config){ .max_workers = 1 }) != TPOOL_OK) return arg;
    (void)tpool_for(own, 0, 2, 1, body_that_ends_the_first_thread, &first);
    return arg;
}
static void note_whether_it_was_alone(void *context) {
    (void)context;
    atomic_store(&all->executed[3], 1 + atomic_load(&all->executed[2]));
}
static void a_finalizer_waits_for_who_uses_the_left_stack(void **state) {
    (void)state;
    SKIP_UNDER_TSAN(); /* the worker starts a thread */
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .finalizer = note_whether_it_was_alone });
    assert_status(TPOOL_BROKEN, end_of(submitted(pool, ends_its_thread_in_a_loop, NULL)));
    assert_int_equal(2, atomic_load(&all->executed[3]));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- memory */

static bool scenario(void) {
    tpool *pool = NULL;
    tpool_future *future = NULL;
    tpool_map_iter *iter = NULL;
    int items[4] = { 1, 2, 3, 4 };
    bool whole = tpool_create(&pool, &(tpool_config){ .kind = TPOOL_PROCESSES, .max_workers = 2 }) == TPOOL_OK;
    if (!whole) return false;
    if (tpool_submit_copy(pool, echo, items, sizeof items, &future) == TPOOL_OK) {
        tpool_status end = tpool_future_result(future, LIMIT, NULL);
        assert_true(end == TPOOL_OK || end == TPOOL_FAILED);
        whole &= end == TPOOL_OK;
        tpool_future_release(future);
    } else {
        whole = false;
    }
    if (tpool_submit(pool, aborts, NULL, &future) == TPOOL_OK) {
        tpool_status end = tpool_future_result(future, LIMIT, NULL);
        assert_true(end == TPOOL_BROKEN);
        tpool_future_release(future);
    } else {
        whole = false;
    }
    tpool_map_spec spec = {
        .fn = item_task, .items = items, .count = 4, .stride = sizeof(int), .item_size = sizeof(int), .chunk_size = 2
    };
    if (tpool_map(pool, &spec, &iter) == TPOOL_OK) {
        for (tpool_status status; (status = tpool_map_next(iter, LIMIT, NULL)) != TPOOL_END;) {
            assert_true(status == TPOOL_OK || status == TPOOL_FAILED || status == TPOOL_NO_MEMORY);
            whole &= status == TPOOL_OK;
        }
        tpool_map_close(iter);
    } else {
        whole = false;
    }
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    return whole;
}
/* In the program, and in the server and the workers, which begin with the count as it was at create. */
static void each_allocation_may_fail(void **state) {
    (void)state;
    int n = 0;
    for (bool whole = false; n < 200; n++) {
        long before = atomic_load(&allocated);
        atomic_store(&fail_after, n);
        whole = scenario();
        bool failed = atomic_load(&fail_after) < 0;
        atomic_store(&fail_after, -1);
        assert_int_equal(before, atomic_load(&allocated));
        if (whole && !failed) break;
    }
    assert_true(n > 8 && n < 200);
}

/* A number that stays would be an entry less for the workers to come. */
static int numbers_listed(tpool *pool) {
    tpool__owners *owners = tpool__server_of(pool)->region->owners;
    int count = 0;
    for (uint32_t i = 0; i < tpool__load_relaxed(&owners->used); i++)
        count += tpool__load_relaxed(&owners->all[i].number) != 0;
    return count;
}
static void numbers_of_the_dead_are_taken_out(void **state) {
    (void)state;
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 2, .min_workers = 2, .shared_size = 1 << 16 });
    assert_status(TPOOL_OK, tpool_warm_up(pool, 2));
    for (int i = 0; i < 3;
         i++) { /* by the server; and by the keeper, where that is told of what a dead server leaves */
        if (i < 2) assert_status(TPOOL_BROKEN, end_of(submitted(pool, aborts, NULL)));
#if defined(__linux__) && !defined(TPOOL__PLAIN_POSIX)
        pid_t server = living_server_of(pool);
        if (i == 2) assert_int_equal(0, kill(server, SIGKILL));
        if (i == 2) EVENTUALLY(!is_alive(server));
#endif
        while (end_of(submitted(pool, nothing, NULL)) == TPOOL_BROKEN) { }
        assert_status(TPOOL_OK, tpool_warm_up(pool, 2));
        EVENTUALLY(numbers_listed(pool) <= 2);
    }
    assert_true(tpool__load_relaxed(&tpool__server_of(pool)->region->owners->used) <= 6);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

int main(void) {
    all = shared_memory(sizeof *all);
#define T(name) cmocka_unit_test_setup(name, set_up)
    const struct CMUnitTest tests[] = {
#if defined(__linux__)
        T(a_death_is_told_in_the_workers_place),
#endif
        T(a_process_forked_beside_create_keeps_none_of_its_descriptors),
        T(numbers_of_the_dead_are_taken_out),
        T(fork_refused_at_create),
        T(fork_refused_to_a_spare_is_no_harm),
        T(work_waits_for_the_worker_that_runs_if_a_second_is_refused),
        T(a_replacement_refused_for_a_moment_is_tried_again),
        T(a_replacement_refused_for_good_strands_nobody),
        T(a_task_taken_and_not_begun_runs_on_another_worker),
        T(a_task_that_no_worker_lives_to_begin_is_broken),
        T(a_chunk_taken_and_not_begun_runs_on_another_worker),
        T(what_is_not_true_breaks_that_worker_only),
        T(a_chunk_of_lies_has_an_end),
        T(a_chunk_that_is_done_too_early_is_no_chunk_done),
        T(nobody_pays_for_a_result_that_is_not_there),
        T(numbers_of_requests_may_come_again),
        T(the_shared_memory_cannot_be_cut),
        T(a_worker_that_fills_its_requests_stops_nobody),
        T(answers_that_change_while_they_are_read_harm_nobody),
        T(no_answer_is_believed_beyond_its_bytes),
        T(a_stopped_server_stalls_no_submit),
        T(a_server_that_stays_stopped_is_replaced_by_its_spare),
        T(a_run_limit_holds_with_a_stopped_server),
        T(a_stopped_server_does_not_outlive_its_pool),
        T(a_task_whose_time_had_passed_at_its_submit_is_killed),
        T(a_server_that_has_much_to_do_is_left_alone),
        T(a_proxy_that_gives_up_a_server_harms_no_other),
        T(a_task_whose_worker_outlives_its_server_runs_once),
        T(items_whose_worker_outlives_its_server_run_once),
        T(an_item_that_ends_between_two_looks_runs_once),
        T(no_stranger_is_killed_for_a_server),
        T(a_death_is_known_though_the_server_stands_still),
        T(a_death_is_known_though_keeper_and_server_stand_still),
        T(a_death_in_the_initializer_is_known_though_the_server_stands_still),
        T(a_worker_that_was_given_up_with_its_server_is_killed),
#if defined(SYS_pidfd_send_signal) && defined(SYS_pidfd_open)
        T(no_stranger_is_killed_for_a_keeper),
        T(no_stranger_is_continued_for_a_keeper),
        T(a_keeper_that_has_ended_meanwhile_is_not_watched),
#endif
        T(without_pidfds_a_group_is_killed_by_its_number_while_it_is_its_own),
        T(a_keeper_that_stands_still_with_its_server_goes_on),
        T(a_keeper_whose_fork_takes_long_is_awaited),
        T(what_waits_while_no_server_can_be_forked_has_an_end),
        T(a_first_task_is_refused_while_no_server_is_to_be_had),
        T(what_waits_while_each_server_dies_at_once_has_an_end),
        T(a_first_task_waits_once_for_a_server_that_does_not_come),
        T(a_pool_whose_servers_die_again_and_again_says_nothing_untrue),
        T(a_slow_initializer_does_not_cost_the_next_items_their_time),
        T(an_initializer_that_hangs_does_not_hold_up_items_for_ever),
        T(limits_do_not_kill_each_process_that_starts_slowly),
        T(a_process_that_is_refused_is_asked_for_once_for_a_chunk),
        T(what_a_worker_that_exits_leaves_behind_lives_on),
        T(a_worker_whose_thread_ends_runs_its_finalizer_once),
        T(a_finalizer_waits_for_who_uses_the_left_stack),
        T(a_run_limit_holds_while_the_last_process_is_awaited),
        T(a_limit_that_passes_before_the_task_begins_is_told),
        T(a_blocked_submitter_learns_at_once_that_an_initializer_failed),
        T(destroy_ends_whoever_stands_still_amid_signals),
        T(a_server_goes_on_without_its_keeper),
        T(who_says_that_it_is_gone_is_not_believed),
        T(a_server_that_cannot_be_replaced_at_once_is_later),
        T(each_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
