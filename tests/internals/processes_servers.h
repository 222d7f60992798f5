/* Part of white_processes: servers and keepers that do not answer, since somebody has stopped them, or that always
   end. */
#include "processes.h"

static void *gate_task_of_processes(void *arg) {
    shared_gate_pass(&all->gate);
    return arg;
}

/* No submit waits for a worker that is being started: all this happens while the server stands still. */
static void a_stopped_server_stalls_no_submit(void **state) {
    (void)state;
    enum { TASKS = 20 };
    tpool_future *futures[TASKS];
    tpool *pool = process_pool(4);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 1));
    assert_int_equal(0, kill(tpool__server_of(pool)->pid, SIGSTOP));
    for (int i = 0; i < TASKS; i++) assert_status(TPOOL_OK, tpool_submit(pool, count_and_getpid, NULL, &futures[i]));
    for (int i = 0; i < TASKS; i++) {
        assert_status(TPOOL_OK, end_of(futures[i]));
    }
    assert_int_equal(0, kill(tpool__server_of(pool)->pid, SIGCONT));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_server_that_stays_stopped_is_replaced_by_its_spare(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    pid_t stopped = tpool__server_of(pool)->pid;
    hang_ms = SLOW_TOOL ? 2000 : 500; /* the next one needs less, be the machine busy */
    assert_int_equal(0, kill(stopped, SIGSTOP));
    assert_status(TPOOL_OK, end_of(submitted(pool, count_and_getpid, NULL)));
    EVENTUALLY(is_gone(stopped));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_run_limit_holds_with_a_stopped_server(void **state) {
    (void)state;
    tpool_future *future = NULL;
    tpool *pool = process_pool(1);
    tpool_task task = { .fn = gate_task_of_processes, .run_limit_ns = TPOOL_MS(100) };
    for (; !future; task.run_limit_ns *= 2) { /* until it has begun within its limit */
        future = submitted_task(pool, task);
        EVENTUALLY(atomic_load(&all->gate.arrived) == 1 || tpool_future_done(future));
        if (atomic_load(&all->gate.arrived) == 1) continue;
        tpool_future_release(future);
        future = NULL;
    }
    hang_ms = SLOW_TOOL ? 2000 : 500;
    assert_int_equal(0, kill(tpool__server_of(pool)->pid, SIGSTOP));
    assert_status(TPOOL_BROKEN, end_of(future));
    assert_status(TPOOL_OK, end_of(submitted(pool, count_and_getpid, NULL)));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_stopped_server_does_not_outlive_its_pool(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    assert_status(TPOOL_OK, end_of(submitted(pool, count_and_getpid, NULL)));
    hang_ms = 200;
    pid_t stopped = tpool__server_of(pool)->pid;
    assert_int_equal(0, kill(stopped, SIGSTOP));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    EVENTUALLY(is_gone(stopped));
}

/* As tpool_run_with_timeout submits it with a limit of 0, and a proxy takes it before the caller cancels it. */
static void a_task_whose_time_had_passed_at_its_submit_is_killed(void **state) {
    (void)state;
    tpool_future *future = NULL;
    tpool *pool = process_pool(1);
    tpool_task task = { .fn = gate_task_of_processes };
    assert_status(TPOOL_OK, tpool__submit_task(pool, &task, &future, tpool__deadline(0), TPOOL__TIMED));
    assert_status(TPOOL_BROKEN, tpool_future_result(future, TPOOL_SEC(20), NULL));
    assert_true(tpool__outcome_load(future)->is_timeout);
    tpool_future_release(future);
    assert_true(value_of(pool, count_and_getpid) > 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* Each fork of the server's takes its time, as that of a large program does: longer, all together, than a
   proxy waits for a silent server. */
static void a_server_that_has_much_to_do_is_left_alone(void **state) {
    (void)state;
    enum { WORKERS = 12, FORK_MS = SLOW_TOOL ? 400 : 150 };
    tpool_future *futures[WORKERS];
    atomic_store(&all->program, getpid());
    tpool *pool = process_pool(WORKERS);
    pid_t server = tpool__server_of(pool)->pid;
    hang_ms = 8 * FORK_MS;
    atomic_store(&all->slow_ms, FORK_MS);
    for (int i = 0; i < WORKERS; i++) futures[i] = submitted(pool, gate_task_of_processes, NULL);
    EVENTUALLY(atomic_load(&all->gate.arrived) == WORKERS);
    atomic_store(&all->gate.open, 1);
    for (int i = 0; i < WORKERS; i++) {
        assert_status(TPOOL_OK, end_of(futures[i]));
    }
    assert_false(is_gone(server));
    hang_ms = 60000;
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* Of several proxies that give up one server at the same time, only the first may cost a server. */
static void a_proxy_that_gives_up_a_server_harms_no_other(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    pid_t first = server_of(pool);
    tpool__server_replace(tpool__server_of(pool), 0);
    tpool__server_replace(tpool__server_of(pool), 2);
    sleep_ms(50);
    assert_int_equal(first, server_of(pool));
    tpool__server_replace(tpool__server_of(pool), 1);
    EVENTUALLY(is_gone(first));
    pid_t second = server_of(pool);
    assert_int_not_equal(first, second);
    tpool__server_replace(tpool__server_of(pool), 1);
    sleep_ms(50);
    assert_int_equal(second, server_of(pool));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* A worker may outlive its server for a moment, or until the keeper kills it. It is given up meanwhile: what it has
   begun is lost, and what it has not begun runs on another, and only there. */
static bool has_given_it_up(tpool *pool) {
    tpool__child *child = tpool__child_of(tpool__first_worker(pool));
    tpool__lock(&child->lock);
    bool given_up = child->status < 0 || child->number == 0; /* nothing leads to it, or something to the next */
    tpool__unlock(&child->lock);
    return given_up;
}
static void lose_the_server_and_go_on(tpool *pool) {
    EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
    assert_int_equal(0, kill(tpool__server_of(pool)->keeper_pid, SIGSTOP)); /* so that the worker lives on */
    assert_int_equal(0, kill(tpool__server_of(pool)->pid, SIGKILL));
    EVENTUALLY(has_given_it_up(pool));
    atomic_store(&all->gate.open, 1);
    EVENTUALLY(!is_alive(atomic_load(&all->held)));
    assert_int_equal(0, kill(tpool__server_of(pool)->keeper_pid, SIGCONT));
}
static void a_task_whose_worker_outlives_its_server_runs_once(void **state) {
    (void)state;
    check_ms = 50;
    tpool *pool = process_pool(1);
    atomic_store(&all->holding, 1);
    tpool_future *future = submitted(pool, count_and_getpid, NULL);
    lose_the_server_and_go_on(pool);
    assert_int_not_equal(atomic_load(&all->held), (intptr_t)take(future));
    assert_int_equal(1, atomic_load(&all->begun));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void *counted_item(void *item, void *context) {
    (void)context;
    int n = *(int *)item;
    atomic_fetch_add(&all->executed[n], 1);
    if (n == 1) outlive_the_server();
    return NULL;
}
static void items_whose_worker_outlives_its_server_run_once(void **state) {
    (void)state;
    int items[] = { 0, 1, 2, 3 };
    check_ms = 50;
    tpool *pool = process_pool(1);
    atomic_store(&all->holding, 1);
    tpool_map_iter *iter = map_over_ints(pool, counted_item, items, 4, 4);
    lose_the_server_and_go_on(pool);
    for (int i = 0; i < 4; i++) {
        assert_status(i == 1 ? TPOOL_BROKEN : TPOOL_OK, tpool_map_next(iter, LIMIT, NULL));
        assert_int_equal(1, atomic_load(&all->executed[i]));
    }
    tpool_map_close(iter);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* The worker ends the item at hand after the program has looked at the last: between two looks, the second of which
   would find the item ended, and its answer nowhere. The program reads answers with bytes in between, and that takes
   memory. */
/* The next allocation in the program is that of the answers. */
static void at_answers(void) {
    if (getpid() != (pid_t)atomic_load(&all->program) || !atomic_exchange(&at_next_allocation, NULL)) return;
    atomic_store(&all->gate.open, 1);
    EVENTUALLY(!is_alive(atomic_load(&all->held)));
}
static void *counted_item_with_bytes(void *item, void *context) {
    counted_item(item, context);
    return tpool_return(item, sizeof(int));
}
static void an_item_that_ends_between_two_looks_runs_once(void **state) {
    (void)state;
    int items[] = { 0, 1, 2, 3 };
    check_ms = 50;
    tpool *pool = process_pool(1);
    pid_t keeper = tpool__server_of(pool)->keeper_pid;
    atomic_store(&all->program, getpid());
    atomic_store(&all->holding, 1);
    tpool_map_iter *iter = map_over_ints(pool, counted_item_with_bytes, items, 4, 4);
    EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
    atomic_store(&at_next_allocation, at_answers);
    assert_int_equal(0, kill(keeper, SIGSTOP)); /* so that the worker lives on */
    assert_int_equal(0, kill(tpool__server_of(pool)->pid, SIGKILL));
    EVENTUALLY(!atomic_load(&at_next_allocation) && !is_alive(atomic_load(&all->held)));
    assert_int_equal(0, kill(keeper, SIGCONT));
    for (int i = 0; i < 4; i++) {
        assert_status(i == 1 ? TPOOL_BROKEN : TPOOL_OK, tpool_map_next(iter, LIMIT, NULL));
        assert_int_equal(1, atomic_load(&all->executed[i]));
    }
    tpool_map_close(iter);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* The number that a server had may be another's by now: nobody is killed by it. */
static void no_stranger_is_killed_for_a_server(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    pid_t server = tpool__server_of(pool)->pid, stranger = fork();
    if (stranger == 0)
        for (;;) sleep_ms(1000);
    tpool__server_of(pool)->pid = stranger;
    hang_ms = SLOW_TOOL ? 4000 : 1000; /* a fork of the keeper's may take long */
    assert_int_equal(0, kill(server, SIGSTOP));
    assert_status(TPOOL_OK, end_of(submitted(pool, count_and_getpid, NULL)));
    assert_int_equal(0, waitpid(stranger, NULL, WNOHANG));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(0, waitpid(stranger, NULL, WNOHANG));
    kill(stranger, SIGKILL);
    assert_int_equal(stranger, waitpid(stranger, NULL, 0));
}
static void *crashes_behind_the_gate(void *arg) {
    shared_gate_pass(&all->gate);
    raise(SIGKILL);
    return arg;
}
/* Nobody but the server hears of a worker's death, and nobody needs the server otherwise. */
static void a_death_is_known_though_the_server_stands_still(void **state) {
    (void)state;
    tpool_future *future;
    hang_ms = 300; /* the keeper's */
    tpool *pool = process_pool(1);
    hang_ms = 60000;
    future = submitted(pool, crashes_behind_the_gate, NULL);
    EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
    assert_int_equal(0, kill(tpool__server_of(pool)->pid, SIGSTOP));
    atomic_store(&all->gate.open, 1);
    assert_status(TPOOL_BROKEN, tpool_future_result(future, TPOOL_SEC(20), NULL));
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* The keeper kills no server that stands still, since it is dead, or stands still too: the proxy notices it, whether it
   waits without a limit or with one. */
static void a_death_is_known_though_keeper_and_server_stand_still(void **state) {
    (void)state;
    for (int round = 0; round < 4; round++) {
        set_up(NULL);
        check_ms = 50;
        tpool *pool = process_pool(1);
        assert_true(value_of(pool, getpid_task) > 0); /* the worker is there before the limit is short */
        hang_ms = 400;
        tpool_task task = { .fn = crashes_behind_the_gate, .run_limit_ns = round % 2 * TPOOL_SEC(1000) };
        tpool_future *future = submitted_task(pool, task);
        EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
        assert_int_equal(0, kill(tpool__server_of(pool)->keeper_pid, round < 2 ? SIGKILL : SIGSTOP));
        assert_int_equal(0, kill(tpool__server_of(pool)->pid, SIGSTOP));
        atomic_store(&all->gate.open, 1);
        assert_status(TPOOL_BROKEN, tpool_future_result(future, TPOOL_SEC(20), NULL));
        tpool_future_release(future);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}
/* Likewise before the worker is ready: that wait consists of many short ones. */
static bool crashes_if_told(void *context) {
    (void)context;
    if (atomic_fetch_add(&all->begun, 1) > 0) return true;
    shared_gate_pass(&all->gate);
    raise(SIGKILL);
    return true;
}
static void a_death_in_the_initializer_is_known_though_the_server_stands_still(void **state) {
    (void)state;
    hang_ms = 1000; /* a wait of that kind takes 50 ms */
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .initializer = crashes_if_told });
    tpool_future *future = submitted(pool, getpid_task, NULL);
    EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
    assert_int_equal(0, kill(tpool__server_of(pool)->keeper_pid, SIGKILL));
    assert_int_equal(0, kill(tpool__server_of(pool)->pid, SIGSTOP));
    atomic_store(&all->gate.open, 1);
    tpool_status end = tpool_future_result(future, TPOOL_SEC(20), NULL);
    assert_true(end == TPOOL_OK || end == TPOOL_BROKEN); /* the server was lost with its keeper */
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* A server that could neither answer nor be killed comes back when its proxy has given it up. The worker lives. */
static void *answer_as_the_server(void *socket) {
    int far = *(int *)socket;
    char byte = 0;
    tpool__notice ended = { TPOOL__ENDED, SIGKILL, 0 };
    if (read(far, &byte, 1) != 1 || byte != TPOOL__KILL_IT) return NULL;
    assert_int_equal(sizeof ended, write(far, &ended, sizeof ended));
    return NULL;
}
static void a_worker_that_was_given_up_with_its_server_is_killed(void **state) {
    (void)state;
    int status[2], control[2];
    pthread_t thread;
    tpool__life life;
    tpool__server server;
    tpool__child child;
    memset((void *)&life, 0, sizeof life);
    memset(&server, 0, sizeof server);
    memset((void *)&child, 0, sizeof child);
    assert_int_equal(0, socketpair(AF_UNIX, SOCK_STREAM, 0, status));
    assert_int_equal(0, socketpair(AF_UNIX, SOCK_STREAM, 0, control));
    server.life = &life;
    server.control = control[0];
    server.keeper = server.keeper_process = -1;
    server.keeper_pid = INT_MAX; /* no process: no order to kill it has an effect */
    child.server = &server;
    child.requests = child.replies = child.memory = -1;
    child.status = status[0];
    hang_ms = 1000;
    assert_int_equal(0, pthread_create(&thread, NULL, answer_as_the_server, &status[1]));
    tpool__death death = tpool__child_collect(&child, TPOOL__SILENT, TPOOL__NOT_KILLED);
    assert_true(death.known);
    assert_int_equal(SIGKILL, death.signal);
    assert_int_equal(TPOOL__NOT_KILLED, death.killed_for);
    shutdown(status[1], SHUT_RDWR);
    pthread_join(thread, NULL);
    close(status[1]);
    close(control[0]);
    close(control[1]);
}
#if defined(SYS_pidfd_send_signal) && defined(SYS_pidfd_open)
/* Where the system kills by pidfd, the keeper's number may belong to another one when destroy kills it and its server,
   which stand still: they are killed all the same, and the other one's group lives. */
static void no_stranger_is_killed_for_a_keeper(void **state) {
    (void)state;
    int self = (int)syscall(SYS_pidfd_open, getpid(), 0u);
    bool by_pidfd = self >= 0 && (syscall(SYS_pidfd_send_signal, self, 0, NULL, (unsigned)TPOOL__PROCESS_GROUP) == 0 ||
                                  errno == ESRCH); /* it leads no group */
    if (self >= 0) close(self);
    if (!by_pidfd) skip();
    check_ms = 50;
    tpool *pool = process_pool(1);
    pid_t server = tpool__server_of(pool)->pid, keeper = tpool__server_of(pool)->keeper_pid, stranger = fork();
    if (stranger == 0) {
        setpgid(0, 0);
        for (;;) pause();
    }
    assert_true(stranger > 0);
    EVENTUALLY(getpgid(stranger) == stranger);
    tpool__server_of(pool)->keeper_pid = stranger;
    hang_ms = SLOW_TOOL ? 1000 : 100;
    assert_int_equal(0, kill(keeper, SIGSTOP));
    assert_int_equal(0, kill(server, SIGSTOP));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    EVENTUALLY(is_gone(keeper) && is_gone(server));
    assert_int_equal(0, waitpid(stranger, NULL, WNOHANG));
    kill(stranger, SIGKILL);
    assert_int_equal(stranger, waitpid(stranger, NULL, 0));
}
/* Nor is one continued that was stopped by somebody else. */
static void no_stranger_is_continued_for_a_keeper(void **state) {
    (void)state;
    int how = 0;
    check_ms = 50;
    tpool *pool = process_pool(1);
    if (tpool__server_of(pool)->keeper_process < 0) {
        assert_status(TPOOL_OK, tpool_destroy(pool));
        skip();
    }
    pid_t server = server_of(pool), keeper = tpool__server_of(pool)->keeper_pid, stranger = fork();
    if (stranger == 0)
        for (;;) raise(SIGSTOP);
    assert_int_equal(stranger, waitpid(stranger, &how, WUNTRACED));
    tpool__server_of(pool)->keeper_pid = stranger;
    hang_ms = SLOW_TOOL ? 2000 : 200;
    assert_int_equal(0, kill(keeper, SIGSTOP));
    assert_int_equal(0, kill(server, SIGSTOP));
    assert_status(TPOOL_BROKEN, end_of(submitted(pool, aborts, NULL)));
    assert_int_equal(0, waitpid(stranger, &how, WNOHANG | WCONTINUED | WUNTRACED));
    tpool__server_of(pool)->keeper_pid = keeper;
    assert_status(TPOOL_OK, tpool_destroy(pool));
    kill(stranger, SIGKILL);
    assert_int_equal(stranger, waitpid(stranger, NULL, 0));
}
/* A number is taken for the keeper's only if that lives after the number's process was opened. */
static void a_keeper_that_has_ended_meanwhile_is_not_watched(void **state) {
    (void)state;
    tpool__server server;
    int ends[2];
    memset(&server, 0, sizeof server);
    server.keeper_process = -1;
    server.keeper_pid = getpid();
    assert_int_equal(0, socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    server.keeper = ends[0];
    tpool__keeper_watch(&server);
    bool has_pidfds = server.keeper_process >= 0;
    if (has_pidfds) tpool__close(&server.keeper_process);
    close(ends[1]);
    if (has_pidfds) tpool__keeper_watch(&server);
    close(ends[0]);
    if (!has_pidfds) skip();
    assert_int_equal(-1, server.keeper_process);
}
#endif
/* Where the system kills no group by a pidfd (Linux before 6.9), keeper and server are killed by their number, but only
   while one of them holds the control socket: afterwards the number may be another's. */
static void without_pidfds_a_group_is_killed_by_its_number_while_it_is_its_own(void **state) {
    (void)state;
    check_ms = 50;
    tpool *pool = process_pool(1);
    pid_t server = tpool__server_of(pool)->pid, keeper = tpool__server_of(pool)->keeper_pid;
    if (tpool__server_of(pool)->keeper_process >= 0) tpool__close(&tpool__server_of(pool)->keeper_process);
    hang_ms = SLOW_TOOL ? 1000 : 100;
    assert_int_equal(0, kill(keeper, SIGSTOP));
    assert_int_equal(0, kill(server, SIGSTOP));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    EVENTUALLY(is_gone(keeper) && is_gone(server));

    tpool__server gone;
    int ends[2];
    pid_t stranger = fork();
    if (stranger == 0) {
        setpgid(0, 0);
        for (;;) pause();
    }
    assert_true(stranger > 0);
    EVENTUALLY(getpgid(stranger) == stranger);
    memset(&gone, 0, sizeof gone);
    assert_int_equal(0, socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    gone.keeper_process = -1;
    gone.keeper_pid = stranger;
    gone.control = ends[0];
    close(ends[1]);
    tpool__server_kill(&gone);
    close(ends[0]);
    sleep_ms(20); /* a kill takes a moment */
    assert_int_equal(0, waitpid(stranger, NULL, WNOHANG));
    kill(stranger, SIGKILL);
    assert_int_equal(stranger, waitpid(stranger, NULL, 0));
}
/* A keeper that is only slow (a busy machine), or that was stopped with its server, is not killed for it: it does what
   it is asked to as soon as it can, and the pool keeps it. */
static void a_keeper_that_stands_still_with_its_server_goes_on(void **state) {
    (void)state;
    check_ms = 50;
    tpool *pool = process_pool(1);
    pid_t server = server_of(pool), keeper = tpool__server_of(pool)->keeper_pid;
    hang_ms = SLOW_TOOL ? 2000 : 200;
    assert_int_equal(0, kill(keeper, SIGSTOP));
    assert_int_equal(0, kill(server, SIGSTOP));
    assert_status(TPOOL_BROKEN, end_of(submitted(pool, aborts, NULL)));
    hang_ms = SLOW_TOOL ? 4000 : 1000;
    assert_int_not_equal(server, server_of(pool));
    assert_true(is_alive(keeper));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_keeper_whose_fork_takes_long_is_awaited(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    pid_t server = server_of(pool), keeper = tpool__server_of(pool)->keeper_pid;
    hang_ms = SLOW_TOOL ? 2500 : 1000; /* the keeper has so long, and as much again */
    atomic_store(&all->slow_one, keeper);
    atomic_store(&all->slow_ms, 3 * hang_ms);
    assert_int_equal(0, kill(server, SIGKILL));
    EVENTUALLY(!is_alive(server));
    assert_int_not_equal(server, server_of(pool));
    assert_true(is_alive(keeper));
    hang_ms = 60000;
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* The keeper tries on, and says so: what waits for a server has an end, and what comes later has a server again. */
static void what_waits_while_no_server_can_be_forked_has_an_end(void **state) {
    (void)state;
    tpool_future *next = NULL;
    tpool *pool = process_pool(1);
    pid_t server = server_of(pool), keeper = tpool__server_of(pool)->keeper_pid;
    hang_ms = SLOW_TOOL ? 2000 : 400;
    atomic_store(&all->refused, 1000000);
    assert_int_equal(0, kill(server, SIGKILL));
    EVENTUALLY(atomic_load(&all->refused) < 1000000);
    tpool_status status = tpool_submit(pool, count_and_getpid, NULL, &next);
    if (status == TPOOL_OK) assert_status(TPOOL_BROKEN, tpool_future_result(next, TPOOL_SEC(20), NULL));
    else assert_status(TPOOL_NO_THREAD, status);
    tpool_future_release(next);
    assert_int_equal(0, atomic_load(&all->begun));
    assert_true(is_alive(keeper));
    atomic_store(&all->refused, 0);
    EVENTUALLY(tpool_submit(pool, getppid_task, NULL, &next) == TPOOL_OK);
    assert_true((intptr_t)take(next) != server);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* A first task is not taken: it would have no worker to wait for. */
static void a_first_task_is_refused_while_no_server_is_to_be_had(void **state) {
    (void)state;
    tpool_future *next = NULL;
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .idle_timeout_ns = TPOOL_MS(1) });
    pid_t server = server_of(pool);
    EVENTUALLY(stats_of(pool).workers == 0);
    atomic_store(&all->refused, 1000000);
    assert_int_equal(0, kill(server, SIGKILL));
    EVENTUALLY(tpool__load_relaxed(&tpool__server_of(pool)->life->refused) == 1);
    assert_status(TPOOL_NO_THREAD, tpool_submit(pool, count_and_getpid, NULL, &next));
    assert_null(next);
    atomic_store(&all->refused, 0);
    EVENTUALLY(tpool_submit(pool, getppid_task, NULL, &next) == TPOOL_OK);
    assert_true((intptr_t)take(next) != server);
    assert_int_equal(0, atomic_load(&all->begun));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* Likewise where each server that is forked dies at once: the system refuses it what it needs, or kills it. */
static void what_waits_while_each_server_dies_at_once_has_an_end(void **state) {
    (void)state;
    const int ends[] = { TPOOL__NOT_PREPARED, SIGKILL };
    for (int i = 0; i < 2; i++) {
        set_up(NULL);
        tpool_future *next = NULL;
        tpool *pool = process_pool(1);
        pid_t server = server_of(pool), keeper = tpool__server_of(pool)->keeper_pid;
        hang_ms = SLOW_TOOL ? 2000 : 400;
        atomic_store(&all->keeper, keeper);
        atomic_store(&all->servers_end, ends[i]);
        assert_int_equal(0, kill(server, SIGKILL));
        EVENTUALLY(atomic_load(&all->deaths) > 1);
        tpool_status status = tpool_submit(pool, count_and_getpid, NULL, &next);
        if (status == TPOOL_OK) assert_status(TPOOL_BROKEN, tpool_future_result(next, TPOOL_SEC(20), NULL));
        else assert_status(TPOOL_NO_THREAD, status);
        tpool_future_release(next);
        assert_int_equal(0, atomic_load(&all->begun));
        assert_true(is_alive(keeper));
        hang_ms = 60000;
        atomic_store(&all->servers_end, 0);
        EVENTUALLY(tpool_submit(pool, getppid_task, NULL, &next) == TPOOL_OK);
        assert_true((intptr_t)take(next) != server);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}
/* A first task is taken although there is no server yet. Its worker gives up once, not once for each try that a refusal
   is worth; and when the server comes it starts no process for a worker that has given up. */
static void a_first_task_waits_once_for_a_server_that_does_not_come(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    pid_t server = tpool__server_of(pool)->pid, keeper = tpool__server_of(pool)->keeper_pid;
    hang_ms = SLOW_TOOL ? 1500 : 300;
    atomic_store(&all->keeper, keeper);
    atomic_store(&all->slow_one, keeper);
    atomic_store(&all->slow_ms, 14 * hang_ms);
    assert_int_equal(0, kill(server, SIGKILL));
    EVENTUALLY(is_gone(server));
    assert_status(TPOOL_BROKEN, end_of(submitted(pool, count_and_getpid, NULL)));
    hang_ms = 60000;
    assert_true(value_of(pool, count_and_getpid) > 0);
    assert_int_equal(1, atomic_load(&all->servers_forks));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* Servers that die while a worker is initialized, again and again, break the pool; what it says of that is true. */
static bool kills_its_server(void *context) {
    (void)context;
    kill(getppid(), SIGKILL);
    sleep_ms(20000);
    return true;
}
static void a_pool_whose_servers_die_again_and_again_says_nothing_untrue(void **state) {
    (void)state;
    check_ms = 50;
    const tpool_error *error = NULL;
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .initializer = kills_its_server });
    tpool_future *future = submitted(pool, getpid_task, NULL);
    assert_status(TPOOL_BROKEN, tpool_future_result(future, TPOOL_SEC(20), NULL));
    assert_status(TPOOL_OK, tpool_future_error(future, 0, &error));
    assert_string_equal("The worker could not be initialized.", error->message);
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- limits and ends of others */

static void a_server_goes_on_without_its_keeper(void **state) {
    (void)state;
    tpool *pool = process_pool(2);
    pid_t server = server_of(pool);
    assert_int_equal(0, kill(tpool__server_of(pool)->keeper_pid, SIGKILL));
    EVENTUALLY(is_gone(tpool__server_of(pool)->keeper_pid));
    for (int i = 0; i < 3; i++) {
        assert_status(TPOOL_BROKEN, end_of(submitted(pool, aborts, NULL)));
        assert_int_equal(server, server_of(pool));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
    EVENTUALLY(is_gone(server));
}
/* Refused the fork of another server, the keeper tries again. */
static void a_server_that_cannot_be_replaced_at_once_is_later(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    pid_t server = server_of(pool);
    atomic_store(&all->refused, 3);
    assert_int_equal(0, kill(server, SIGKILL));
    EVENTUALLY(is_gone(server) && atomic_load(&all->refused) == 0);
    assert_int_not_equal(server, server_of(pool));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
