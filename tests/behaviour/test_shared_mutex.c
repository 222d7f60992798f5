/* The mutex in shared memory: one thread at a time, of the program and of all workers; whoever comes after one that
   died in it is told so, and soon; what a worker writes there harms nobody for longer than it stays there. */
#include "support/children.h"
#include <sys/resource.h>
#if defined(__linux__)
#include <sys/prctl.h>
#endif

enum { MIB = 1 << 20 };

/* What a test shares with its workers. */
typedef struct shared {
    tpool_shared_mutex mutex, other, many[8];
    shared_gate gate;
    int guarded, twin; /* by the mutex: equal but within it */
    atomic_int inside, broken, done;
} shared;
static tpool *pool;
static shared *all;

static int set_up(void **state) {
    (void)state;
    pool = process_pool_as((tpool_config){ .max_workers = 3, .shared_size = MIB });
    all = tpool_shared_alloc(pool, sizeof *all);
    return all ? 0 : 1;
}
static int tear_down(void **state) {
    (void)state;
    (void)tpool_kill_workers(pool); /* a test that has failed may have left tasks that do not end */
    return tpool_destroy(pool) != TPOOL_OK;
}

static tpool_status lock(tpool_shared_mutex *mutex) { return tpool_shared_lock(mutex, TPOOL_SEC(20)); }
static void unlock(tpool_shared_mutex *mutex) { assert_status(TPOOL_OK, tpool_shared_unlock(mutex)); }

/* What a worker does with a mutex. */
typedef struct order {
    shared *all;
    tpool_shared_mutex *mutex;
    int64_t limit;
    int times;
} order;
static tpool_future *ordered(tpool_fn fn, order o) {
    tpool_future *future = NULL;
    o.all = all;
    if (!o.mutex) o.mutex = &all->mutex;
    assert_status(TPOOL_OK, tpool_submit_copy(pool, fn, &o, sizeof o, &future));
    return future;
}
static tpool_status status_of(tpool_future *future) { return (tpool_status)(intptr_t)take(future); }

static void *locks(void *arg) {
    const order *o = arg;
    return (void *)(intptr_t)tpool_shared_lock(o->mutex, o->limit);
}
static void *unlocks(void *arg) {
    const order *o = arg;
    return (void *)(intptr_t)tpool_shared_unlock(o->mutex);
}
static void *locks_and_unlocks(void *arg) {
    const order *o = arg;
    tpool_status status = tpool_shared_lock(o->mutex, o->limit);
    if (status != TPOOL_OK && status != TPOOL_BROKEN) return (void *)(intptr_t)status;
    atomic_fetch_add(&o->all->inside, 1);
    return (void *)(intptr_t)(tpool_shared_unlock(o->mutex) == TPOOL_OK ? status : TPOOL_FAILED);
}
/* Has the mutex until the gate opens. */
static void *holds(void *arg) {
    const order *o = arg;
    tpool_status status = tpool_shared_lock(o->mutex, LIMIT);
    shared_gate_pass(&o->all->gate);
    return (void *)(intptr_t)(tpool_shared_unlock(o->mutex) == TPOOL_OK ? status : TPOOL_FAILED);
}
static void *holds_and_dies(void *arg) {
    const order *o = arg;
    tpool_status status = tpool_shared_lock(o->mutex, LIMIT);
    atomic_store(&o->all->inside, (int)status);
    shared_gate_pass(&o->all->gate);
    raise(SIGKILL);
    return NULL;
}
/* Has it, and does nothing any more: to be killed. */
static void *locks_and_tells(void *arg) {
    const order *o = arg;
    (void)!tpool_shared_lock(o->mutex, LIMIT);
    atomic_store(&o->all->done, (int)getpid());
    atomic_fetch_add(&o->all->gate.arrived, 1);
    for (;;) pause();
    return NULL;
}
static tpool_future *held_by_worker(tpool_fn fn) {
    int before = atomic_load(&all->gate.arrived);
    atomic_store(&all->gate.open, 0);
    tpool_future *holder = ordered(fn, (order){ 0 });
    EVENTUALLY(atomic_load(&all->gate.arrived) == before + 1);
    return holder;
}
static void open_gate(void) { atomic_store(&all->gate.open, 1); }

static tpool_status locks_and_unlocks_here(void *context) {
    tpool_status status = lock((tpool_shared_mutex *)context);
    return tpool_shared_unlock((tpool_shared_mutex *)context) == TPOOL_OK ? status : TPOOL_FAILED;
}

/* ---- Statuses ---- */

static void it_is_ready_when_zeroed(void **s) {
    (void)s;
    assert_int_equal(32, sizeof(tpool_shared_mutex));
    for (int i = 0; i < 3; i++) {
        assert_status(TPOOL_OK, tpool_shared_lock(&all->mutex, 0));
        assert_status(TPOOL_DEADLOCK, tpool_shared_lock(&all->mutex, 0));
        assert_status(TPOOL_DEADLOCK, tpool_shared_lock(&all->mutex, LIMIT));
        assert_status(TPOOL_OK, tpool_shared_lock(&all->other, TPOOL_FOREVER));
        unlock(&all->mutex);
        unlock(&all->other);
        assert_status(TPOOL_INVALID_STATE, tpool_shared_unlock(&all->mutex));
        assert_status(TPOOL_OK, status_of(ordered(locks_and_unlocks, (order){ .limit = LIMIT })));
        assert_status(TPOOL_INVALID_STATE, status_of(ordered(unlocks, (order){ 0 })));
    }
}
static void outside_shared_memory_there_is_none(void **s) {
    (void)s;
    tpool_shared_mutex local = { { 0 } }, *end = NULL;
    char *begin = (char *)all;
    assert_status(TPOOL_INVALID, tpool_shared_lock(NULL, 0));
    assert_status(TPOOL_INVALID, tpool_shared_unlock(NULL));
    assert_status(TPOOL_INVALID, tpool_shared_lock(&local, 0));
    assert_status(TPOOL_INVALID, tpool_shared_unlock(&local));
    assert_status(TPOOL_INVALID, tpool_shared_lock((tpool_shared_mutex *)(void *)(begin - sizeof local), 0));
    assert_status(TPOOL_INVALID, tpool_shared_lock((tpool_shared_mutex *)(void *)(begin + MIB - 16), 0));
    assert_status(TPOOL_INVALID, tpool_shared_lock((tpool_shared_mutex *)((uintptr_t)begin + 1), 0));
    assert_status(TPOOL_INVALID, status_of(ordered(locks, (order){ .mutex = &local })));
    assert_status(TPOOL_INVALID, status_of(ordered(unlocks, (order){ .mutex = &local })));
    end = &all->many[7];
    assert_status(TPOOL_OK, tpool_shared_lock(end, 0));
    unlock(end);
    /* of a worker's own pool it is not */
    tpool *second = process_pool_as((tpool_config){ .max_workers = 1, .shared_size = MIB });
    order o = { .all = all, .mutex = &all->mutex };
    assert_status(TPOOL_INVALID, (tpool_status)value_of_copy(second, locks, &o, sizeof o));
    shared *seconds = tpool_shared_alloc(second, sizeof *seconds);
    o.mutex = &seconds->mutex;
    assert_status(TPOOL_INVALID, status_of(ordered(locks, o)));
    for (int i = 0; i < 3; i++) { /* of two pools by turns */
        assert_status(TPOOL_OK, tpool_shared_lock(&all->mutex, 0));
        assert_status(TPOOL_OK, tpool_shared_lock(&seconds->mutex, 0));
        assert_status(TPOOL_DEADLOCK, tpool_shared_lock(&all->mutex, 0));
        assert_status(TPOOL_DEADLOCK, tpool_shared_lock(&seconds->mutex, 0));
        unlock(&all->mutex);
        unlock(&seconds->mutex);
    }
    assert_status(TPOOL_OK, tpool_destroy(second));
    assert_status(TPOOL_INVALID, tpool_shared_lock(&seconds->mutex, 0));
    assert_status(TPOOL_OK, tpool_shared_lock(&all->mutex, 0));
    unlock(&all->mutex);
}
static void a_thread_may_have_many(void **s) {
    (void)s;
    for (int i = 0; i < 8; i++) assert_status(TPOOL_OK, tpool_shared_lock(&all->many[i], 0));
    for (int i = 0; i < 8; i++) assert_status(TPOOL_DEADLOCK, tpool_shared_lock(&all->many[i], 0));
    for (int i = 0; i < 8; i++)
        assert_status(TPOOL_TIMEOUT, status_of(ordered(locks_and_unlocks, (order){ .mutex = &all->many[i] })));
    for (int i = 0; i < 8; i++) unlock(&all->many[(i * 3) % 8]);
    for (int i = 0; i < 8; i++)
        assert_status(TPOOL_OK, status_of(ordered(locks_and_unlocks, (order){ .mutex = &all->many[i] })));
}
static void a_limit_ends_the_wait(void **s) {
    (void)s;
    tpool_future *holder = held_by_worker(holds);
    errno = ENOENT; /* of an earlier call, which says nothing about the owner */
    assert_status(TPOOL_TIMEOUT, tpool_shared_lock(&all->mutex, 0));
    assert_int_equal(ENOENT, errno);
    assert_status(TPOOL_TIMEOUT, tpool_shared_lock(&all->mutex, -5));
    int64_t began = tpool_now();
    assert_status(TPOOL_TIMEOUT, tpool_shared_lock(&all->mutex, TPOOL_MS(60)));
    assert_true(tpool_now() - began >= TPOOL_MS(60));
    assert_status(TPOOL_TIMEOUT, status_of(ordered(locks_and_unlocks, (order){ .limit = TPOOL_MS(60) })));
    assert_status(TPOOL_INVALID_STATE, tpool_shared_unlock(&all->mutex));
    assert_status(TPOOL_INVALID_STATE, status_of(ordered(unlocks, (order){ 0 })));
    open_gate();
    assert_status(TPOOL_OK, status_of(holder));
    assert_status(TPOOL_OK, tpool_shared_lock(&all->mutex, 0));
    assert_status(TPOOL_TIMEOUT, status_of(ordered(locks_and_unlocks, (order){ .limit = TPOOL_MS(10) })));
    unlock(&all->mutex);
}
/* A task that has no descriptor left for the question whether the owner lives. */
static void *locks_without_descriptors(void *arg) {
    struct rlimit limit;
    if (close(0) != 0 || getrlimit(RLIMIT_NOFILE, &limit) != 0) return (void *)(intptr_t)TPOOL_FAILED;
    limit.rlim_cur = 3;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) return (void *)(intptr_t)TPOOL_FAILED;
    return locks(arg);
}
static void a_living_owner_keeps_it_without_descriptors(void **s) {
    (void)s;
    tpool_future *holder = held_by_worker(holds);
    assert_status(TPOOL_TIMEOUT, status_of(ordered(locks_without_descriptors, (order){ 0 })));
    open_gate();
    assert_status(TPOOL_OK, status_of(holder));
}
static void waiters_get_it_when_it_is_free(void **s) {
    (void)s;
    background threads[2];
    tpool_future *workers[2], *holder = held_by_worker(holds);
    for (int i = 0; i < 2; i++) {
        background_start(&threads[i], locks_and_unlocks_here, &all->mutex);
        background_await_block(&threads[i]);
        workers[i] = ordered(locks_and_unlocks, (order){ .limit = LIMIT });
    }
    open_gate();
    assert_status(TPOOL_OK, status_of(holder));
    for (int i = 0; i < 2; i++) {
        assert_status(TPOOL_OK, background_join(&threads[i]));
        assert_status(TPOOL_OK, status_of(workers[i]));
    }
}

/* ---- One at a time ---- */

static tpool_status counts_guarded(shared *at, int times) {
    for (int i = 0; i < times; i++) {
        tpool_status status = tpool_shared_lock(&at->mutex, LIMIT);
        if (status != TPOOL_OK) return status;
        if (atomic_fetch_add(&at->inside, 1) != 0 || at->guarded != at->twin) return TPOOL_FAILED;
        at->guarded++;
        at->twin++;
        atomic_fetch_sub(&at->inside, 1);
        status = tpool_shared_unlock(&at->mutex);
        if (status != TPOOL_OK) return status;
    }
    return TPOOL_OK;
}
static void *counts_in_worker(void *arg) {
    const order *o = arg;
    return (void *)(intptr_t)counts_guarded(o->all, o->times);
}
static tpool_status counts_here(void *context) { return counts_guarded(context, COUNT(20000)); }
/* A thread that a task starts is one of its own. */
static void *counts_in_thread(void *arg) { return counts_in_worker(arg); }
static void *counts_in_threads(void *arg) {
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        if (pthread_create(&threads[i], NULL, counts_in_thread, arg) != 0) return (void *)(intptr_t)TPOOL_NO_THREAD;
    for (int i = 0; i < 2; i++) {
        void *status = NULL;
        pthread_join(threads[i], &status);
        if ((tpool_status)(intptr_t)status != TPOOL_OK) return status;
    }
    return (void *)(intptr_t)TPOOL_OK;
}
static void one_at_a_time(void **s) {
    (void)s;
    enum { TIMES = COUNT(20000) };
    background threads[2];
    tpool_future *workers[3];
    for (int i = 0; i < 2; i++) background_start(&threads[i], counts_here, all);
    for (int i = 0; i < 3; i++)
        workers[i] = ordered(i == 2 ? counts_in_threads : counts_in_worker, (order){ .times = TIMES });
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, background_join(&threads[i]));
    for (int i = 0; i < 3; i++) assert_status(TPOOL_OK, status_of(workers[i]));
    assert_int_equal(6 * TIMES, all->guarded);
    assert_int_equal(6 * TIMES, all->twin);
}

/* ---- Deaths ---- */

static void the_next_one_learns_of_a_death(void **s) {
    (void)s;
    for (int twice = 0; twice < 2; twice++) {
        tpool_future *holder = held_by_worker(holds_and_dies);
        assert_int_equal(TPOOL_OK, atomic_load(&all->inside));
        open_gate();
        assert_status(TPOOL_BROKEN, end_of(holder));
        assert_status(TPOOL_BROKEN, lock(&all->mutex));
        unlock(&all->mutex);
        assert_status(TPOOL_OK, status_of(ordered(locks_and_unlocks, (order){ .limit = LIMIT })));
    }
}
static void a_waiter_learns_of_it_too(void **s) {
    (void)s;
    for (int i = 0; i < 4; i++) { /* in the program, and in a worker */
        background thread;
        tpool_future *holder = held_by_worker(holds_and_dies), *worker = NULL;
        if (i % 2 == 0) background_start(&thread, locks_and_unlocks_here, &all->mutex);
        else worker = ordered(locks_and_unlocks, (order){ .limit = LIMIT });
        if (i % 2 == 0) background_await_block(&thread);
        else sleep_ms(30);
        open_gate();
        assert_status(TPOOL_BROKEN, i % 2 == 0 ? background_join(&thread) : status_of(worker));
        assert_status(TPOOL_BROKEN, end_of(holder));
        assert_status(TPOOL_OK, tpool_shared_lock(&all->mutex, 0));
        unlock(&all->mutex);
    }
}
static void one_death_after_another(void **s) {
    (void)s;
    tpool_future *holders[3];
    atomic_store(&all->gate.open, 1);
    for (int i = 0; i < 3; i++) {
        holders[i] = ordered(holds_and_dies, (order){ 0 });
        EVENTUALLY(atomic_load(&all->gate.arrived) == i + 1);
        assert_int_equal(i == 0 ? TPOOL_OK : TPOOL_BROKEN, atomic_load(&all->inside));
    }
    for (int i = 0; i < 3; i++) assert_status(TPOOL_BROKEN, end_of(holders[i]));
    assert_status(TPOOL_BROKEN, lock(&all->mutex));
    unlock(&all->mutex);
}
/* The middle of several times, and of several more where others want the CPUs. In the program and in a worker; for a
   worker that dies of its task, one that is idle, and a thread that ends. */
static int by_time(const void *a, const void *b) {
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}
static void *holds_and_ends_thread(void *mutex) {
    assert_status(TPOOL_OK, lock(mutex));
    shared_gate_pass(&all->gate);
    return NULL;
}
static void *tells_when(void *arg) {
    const order *o = arg;
    tpool_status status = tpool_shared_lock(o->mutex, o->limit);
    int64_t at = tpool_now(); /* the clock of the system, which is the same for all processes */
    if (status != TPOOL_BROKEN || tpool_shared_unlock(o->mutex) != TPOOL_OK) at = 0;
    return tpool_return(&at, sizeof at);
}
static void a_death_is_known_within_50_ms(void **s) {
    (void)s;
    enum { TIMES = 5, MOST_TRIES = 10, KINDS = 6 };
    const int64_t limit = TPOOL_MS(50) * (IS_SLOW ? 10 : 1);
    for (int kind = 0, tries = 1; kind < KINDS;) {
        int64_t took[TIMES];
        for (int i = 0; i < TIMES; i++) {
            pthread_t ends;
            tpool_future *holder = NULL;
            tpool *threads = new_pool(1);
            if (kind / 2 == 2) {
                int before = atomic_load(&all->gate.arrived);
                atomic_store(&all->gate.open, 0);
                assert_int_equal(0, pthread_create(&ends, NULL, holds_and_ends_thread, &all->mutex));
                EVENTUALLY(atomic_load(&all->gate.arrived) == before + 1);
            } else {
                holder = held_by_worker(kind / 2 ? locks_and_tells : holds_and_dies);
            }
            order o = { .all = all, .mutex = &all->mutex, .limit = LIMIT };
            tpool_future *waiter = NULL;
            assert_status(TPOOL_OK, tpool_submit_copy(kind % 2 ? pool : threads, tells_when, &o, sizeof o, &waiter));
            sleep_ms(5); /* it sleeps by then, as a rule */
            int64_t began = tpool_now();
            if (kind / 2 == 1) assert_int_equal(0, kill((pid_t)atomic_load(&all->done), SIGKILL));
            open_gate();
            void *at = NULL;
            assert_status(TPOOL_OK, tpool_future_result(waiter, TPOOL_FOREVER, &at));
            assert_true(*(int64_t *)at > 0);
            took[i] = *(int64_t *)at - began;
            tpool_future_release(waiter);
            if (holder) (void)end_of(holder);
            else pthread_join(ends, NULL);
            assert_status(TPOOL_OK, tpool_destroy(threads));
        }
        qsort(took, TIMES, sizeof *took, by_time);
        if (took[TIMES / 2] < limit) {
            kind++;
            tries = 1;
        } else if (tries++ == MOST_TRIES) {
            fail_msg("kind %d: %d us", kind, (int)(took[TIMES / 2] / 1000));
        }
    }
}
/* No task runs there, and none needs it: it is the server that learns of the death. */
static void the_death_of_an_idle_worker_is_known(void **s) {
    (void)s;
    intptr_t pid = value_of(pool, getpid_task);
    assert_status(TPOOL_OK, tpool_resize(pool, 1));
    assert_status(TPOOL_OK, status_of(ordered(locks, (order){ .limit = LIMIT })));
    assert_status(TPOOL_DEADLOCK, status_of(ordered(locks, (order){ .limit = LIMIT }))); /* it still has it */
    assert_status(TPOOL_TIMEOUT, tpool_shared_lock(&all->mutex, TPOOL_MS(50)));
    assert_int_equal(0, kill((pid_t)pid, SIGKILL));
    assert_status(TPOOL_BROKEN, lock(&all->mutex));
    unlock(&all->mutex);
}
static void a_worker_that_has_it_gives_it_back_in_a_later_task(void **s) {
    (void)s;
    assert_status(TPOOL_OK, tpool_resize(pool, 1));
    assert_status(TPOOL_OK, status_of(ordered(locks, (order){ .limit = LIMIT })));
    assert_status(TPOOL_OK, status_of(ordered(unlocks, (order){ 0 })));
    assert_status(TPOOL_OK, tpool_shared_lock(&all->mutex, 0));
    unlock(&all->mutex);
}
static void the_server_dies_with_its_workers(void **s) {
    (void)s;
    assert_status(TPOOL_OK, tpool_resize(pool, 1)); /* else a task could go to one that is about to die */
    pid_t server = living_server_of(pool);
    for (int i = 0; i < 3; i++) {
        tpool_future *holder = held_by_worker(holds);
        if (i == 1) {
            background thread;
            background_start(&thread, locks_and_unlocks_here, &all->mutex);
            background_await_block(&thread);
            assert_int_equal(0, kill(server, SIGKILL));
            assert_status(TPOOL_BROKEN, background_join(&thread));
        } else {
            assert_int_equal(0, kill(server, SIGKILL));
            assert_status(TPOOL_BROKEN, lock(&all->mutex));
            unlock(&all->mutex);
        }
        assert_status(TPOOL_BROKEN, end_of(holder));
        server = other_server_of(pool, server);
        assert_status(TPOOL_OK, status_of(ordered(locks_and_unlocks, (order){ .limit = LIMIT })));
    }
}
#if defined(__linux__) && !defined(TPOOL__PLAIN_POSIX)
static pid_t parent_of(pid_t pid) {
    process_stat stat;
    assert_true(read_process_stat(pid, &stat));
    return (pid_t)stat.parent;
}
static void server_and_keeper_die(void **s) {
    (void)s;
    assert_status(TPOOL_OK, tpool_resize(pool, 1));
    pid_t server = living_server_of(pool), keeper = 0;
    assert_int_equal(0, kill(server, SIGKILL)); /* the next one has told of itself, which nobody has read */
    server = other_server_of(pool, server);
    keeper = parent_of(server);
    tpool_future *holder = held_by_worker(holds);
    assert_int_equal(0, kill(keeper, SIGKILL));
    EVENTUALLY(!is_alive(keeper));
    assert_status(TPOOL_TIMEOUT, tpool_shared_lock(&all->mutex, TPOOL_MS(50)));
    assert_int_equal(0, kill(server, SIGKILL));
    assert_status(TPOOL_BROKEN, lock(&all->mutex));
    unlock(&all->mutex);
    assert_status(TPOOL_BROKEN, end_of(holder));
}
/* Nothing kills a worker with its server if its task has changed its credentials. It lives, and has the mutex. */
static void *survives_its_server(void *arg) {
    prctl(PR_SET_PDEATHSIG, 0L, 0L, 0L, 0L);
    return locks_and_tells(arg);
}
static void a_living_owner_keeps_it_without_server_and_keeper(void **s) {
    (void)s;
    pid_t server = living_server_of(pool), keeper = parent_of(server);
    tpool_future *holder = held_by_worker(survives_its_server);
    assert_int_equal(0, kill(keeper, SIGKILL));
    assert_int_equal(0, kill(server, SIGKILL));
    EVENTUALLY(!is_alive(keeper) && !is_alive(server));
    assert_status(TPOOL_BROKEN, end_of(holder)); /* the pool knows nothing of it any more */
    for (int i = 0; i < 10; i++) assert_status(TPOOL_TIMEOUT, tpool_shared_lock(&all->mutex, 0));
    assert_status(TPOOL_TIMEOUT, tpool_shared_lock(&all->mutex, TPOOL_MS(100)));
    assert_int_equal(0, kill((pid_t)atomic_load(&all->done), SIGKILL));
    assert_status(TPOOL_BROKEN, lock(&all->mutex));
    unlock(&all->mutex);
}
static void *begins_and_locks(void *arg) {
    atomic_fetch_add(&((const order *)arg)->all->gate.arrived, 1);
    return locks_and_unlocks(arg);
}
/* A server that stands still takes out no number: the system tells, too. In the program, and in a worker. */
static void a_server_that_stands_still_hides_no_death(void **s) {
    (void)s;
    for (int in_worker = 0; in_worker < 2; in_worker++) {
        pid_t server = living_server_of(pool);
        tpool_future *holder = held_by_worker(locks_and_tells), *waiter = NULL;
        int before = atomic_load(&all->gate.arrived);
        if (in_worker) waiter = ordered(begins_and_locks, (order){ .limit = TPOOL_SEC(8) });
        EVENTUALLY(atomic_load(&all->gate.arrived) == before + in_worker);
        assert_int_equal(0, kill(server, SIGSTOP)); /* the keeper gives it 10 s */
        assert_int_equal(0, kill((pid_t)atomic_load(&all->done), SIGKILL));
        tpool_status status = in_worker ? TPOOL_OK : tpool_shared_lock(&all->mutex, TPOOL_SEC(8));
        if (in_worker) status = status_of(waiter);
        assert_int_equal(0, kill(server, SIGCONT));
        assert_status(TPOOL_BROKEN, status);
        if (!in_worker) unlock(&all->mutex);
        assert_status(TPOOL_BROKEN, end_of(holder));
    }
}
/* Tries at two by turns: that the one's owner was found alive keeps nobody from asking for the other's. */
static void tries_by_turns_hide_no_death(void **s) {
    (void)s;
    pid_t server = living_server_of(pool);
    tpool_future *living = ordered(holds, (order){ .mutex = &all->other });
    EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
    tpool_future *holder = held_by_worker(locks_and_tells);
    tpool_status status = TPOOL_TIMEOUT, other = TPOOL_TIMEOUT;
    assert_int_equal(0, kill(server, SIGSTOP));
    assert_int_equal(0, kill((pid_t)atomic_load(&all->done), SIGKILL));
    for (int i = 0; i < 40 && status == TPOOL_TIMEOUT && other == TPOOL_TIMEOUT; i++) {
        other = tpool_shared_lock(&all->other, 0);
        status = tpool_shared_lock(&all->mutex, 0);
        sleep_ms(25);
    }
    assert_int_equal(0, kill(server, SIGCONT));
    assert_status(TPOOL_TIMEOUT, other);
    assert_status(TPOOL_BROKEN, status);
    unlock(&all->mutex);
    open_gate();
    assert_status(TPOOL_BROKEN, end_of(holder));
    assert_status(TPOOL_OK, status_of(living));
}
#endif

static void *locks_and_ends(void *arg) {
    assert_status(TPOOL_OK, lock(arg));
    return arg;
}
static void *locks_in_ending_thread(void *arg) {
    const order *o = arg;
    pthread_t thread;
    if (pthread_create(&thread, NULL, locks_and_ends, o->mutex) != 0 || pthread_join(thread, NULL) != 0) return arg;
    return locks_and_unlocks(arg);
}
static void a_thread_that_ends_is_no_owner(void **s) {
    (void)s;
    in_own_thread(locks_and_ends, &all->mutex);
    assert_status(TPOOL_BROKEN, tpool_shared_lock(&all->mutex, 0));
    unlock(&all->mutex);
    in_own_thread(locks_and_ends, &all->mutex);
    assert_status(TPOOL_BROKEN, status_of(ordered(locks_and_unlocks, (order){ .limit = LIMIT })));
    assert_status(TPOOL_BROKEN, status_of(ordered(locks_in_ending_thread, (order){ .limit = LIMIT })));
    assert_status(TPOOL_OK, tpool_shared_lock(&all->mutex, 0));
    unlock(&all->mutex);
}
typedef struct ending {
    tpool_shared_mutex *mutex;
    gate has, ends;
} ending;
static void *locks_and_ends_later(void *arg) {
    ending *e = arg;
    assert_status(TPOOL_OK, lock(e->mutex));
    gate_open(&e->has);
    gate_pass(&e->ends);
    return NULL;
}
static void its_end_wakes_a_waiter(void **s) {
    (void)s;
    ending e = { &all->mutex, GATE_CLOSED, GATE_CLOSED };
    pthread_t thread;
    background waiter;
    assert_int_equal(0, pthread_create(&thread, NULL, locks_and_ends_later, &e));
    gate_pass(&e.has);
    background_start(&waiter, locks_and_unlocks_here, e.mutex);
    background_await_block(&waiter);
    tpool_future *worker = ordered(locks_and_unlocks, (order){ .limit = LIMIT });
    gate_open(&e.ends);
    tpool_status ends[2] = { background_join(&waiter), status_of(worker) };
    assert_true((ends[0] == TPOOL_BROKEN && ends[1] == TPOOL_OK) || (ends[0] == TPOOL_OK && ends[1] == TPOOL_BROKEN));
    pthread_join(thread, NULL);
}
static void its_end_comes_after_the_pools(void **s) {
    (void)s;
    tpool *second = process_pool_as((tpool_config){ .max_workers = 1, .shared_size = MIB });
    tpool_shared_mutex *mutex = tpool_shared_alloc(second, sizeof *mutex);
    ending e = { mutex, GATE_CLOSED, GATE_CLOSED };
    pthread_t thread;
    assert_int_equal(0, pthread_create(&thread, NULL, locks_and_ends_later, &e));
    gate_pass(&e.has);
    assert_status(TPOOL_OK, tpool_destroy(second));
    /* another's memory may lie where it was, and a thread of the program have a mutex just there */
    second = process_pool_as((tpool_config){ .max_workers = 1, .shared_size = MIB });
    tpool_shared_mutex *again = tpool_shared_alloc(second, sizeof *again);
    assert_status(TPOOL_OK, tpool_shared_lock(again, 0));
    gate_open(&e.ends);
    pthread_join(thread, NULL);
    assert_status(TPOOL_OK, tpool_shared_unlock(again));
    assert_status(TPOOL_OK, tpool_destroy(second));
}
static void *is_killed_waiting(void *arg) {
    (void)locks_and_unlocks(arg);
    return NULL;
}
/* One that was about to get it dies: the others do not wait for it. */
static void waiters_die(void **s) {
    (void)s;
    for (int i = 0; i < COUNT(30); i++) {
        background waiter;
        assert_status(TPOOL_OK, lock(&all->mutex));
        intptr_t pid = value_of(pool, getpid_task);
        tpool_future *worker = ordered(is_killed_waiting, (order){ .limit = LIMIT });
        background_start(&waiter, locks_and_unlocks_here, &all->mutex);
        background_await_block(&waiter);
        if (i % 2) kill((pid_t)pid, SIGKILL);
        unlock(&all->mutex);
        if (i % 2 == 0) kill((pid_t)pid, SIGKILL);
        tpool_status status = background_join(&waiter);
        assert_true(status == TPOOL_OK || status == TPOOL_BROKEN);
        (void)end_of(worker);
        assert_true(lock(&all->mutex) != TPOOL_TIMEOUT);
        unlock(&all->mutex);
    }
}

/* ---- Killed at any instant ---- */

static void *counts_and_mends(void *arg) {
    shared *at = ((const order *)arg)->all;
    atomic_fetch_add(&at->inside, 1);
    for (;;) {
        tpool_status status = tpool_shared_lock(&at->mutex, LIMIT);
        if (status == TPOOL_BROKEN) {
            atomic_fetch_add(&at->broken, 1);
            at->twin = at->guarded;
        } else if (status != TPOOL_OK) {
            return (void *)(intptr_t)status;
        }
        if (at->guarded != at->twin) return (void *)(intptr_t)TPOOL_FAILED;
        at->guarded++;
        atomic_fetch_add(&at->done, 1);
        at->twin++;
        if (tpool_shared_unlock(&at->mutex) != TPOOL_OK) return (void *)(intptr_t)TPOOL_INVALID_STATE;
    }
}
static void a_storm_of_kills(void **s) {
    (void)s;
    enum { KILLS = COUNT(300) };
    tpool_future *workers[3];
    unsigned seed = 7;
    for (int i = 0; i < 3; i++) workers[i] = ordered(counts_and_mends, (order){ 0 });
    for (int i = 0; i < KILLS; i++) {
        int before = atomic_load(&all->done);
        seed = seed * 1103515245u + 12345u;
        EVENTUALLY(atomic_load(&all->inside) == 3 * (i + 1) &&
                   atomic_load(&all->done) > before + (int)(seed >> 16) % 50); /* it goes on */
        assert_status(TPOOL_OK, tpool_kill_workers(pool));
        for (int j = 0; j < 3; j++) {
            assert_status(TPOOL_BROKEN, end_of(workers[j]));
            workers[j] = ordered(counts_and_mends, (order){ 0 });
        }
    }
    EVENTUALLY(atomic_load(&all->inside) == 3 * (KILLS + 1));
    assert_status(TPOOL_OK, tpool_kill_workers(pool));
    for (int j = 0; j < 3; j++) assert_status(TPOOL_BROKEN, end_of(workers[j]));
    tpool_status status = lock(&all->mutex);
    assert_true(status == TPOOL_OK || status == TPOOL_BROKEN);
    if (status == TPOOL_OK) assert_int_equal(all->guarded, all->twin);
    assert_true(all->guarded - all->twin <= 1);
    unlock(&all->mutex);
    assert_true(atomic_load(&all->broken) > 0);
}

/* ---- What a worker writes there ---- */

static void *writes_into_it(void *arg) {
    const order *o = arg;
    unsigned seed = (unsigned)o->times;
    for (size_t i = 0; i < sizeof *o->mutex; i++) {
        seed = seed * 1103515245u + 12345u;
        ((volatile unsigned char *)o->mutex)[i] = (unsigned char)(seed >> 16);
    }
    return NULL;
}
static void what_a_worker_writes_there_ends_no_wait_for_ever(void **s) {
    (void)s;
    for (int i = 0; i < COUNT(300); i++) {
        if (i % 3 == 0) assert_true(tpool_shared_lock(&all->mutex, TPOOL_MS(1)) != TPOOL_INVALID);
        take(ordered(writes_into_it, (order){ .times = i }));
        tpool_status status = tpool_shared_unlock(&all->mutex);
        assert_true(status == TPOOL_OK || status == TPOOL_INVALID_STATE);
        status = tpool_shared_lock(&all->mutex, TPOOL_SEC(20)); /* no number of a process that lives: it is free */
        assert_status(TPOOL_BROKEN, status);
        status = status_of(ordered(locks_and_unlocks, (order){ .limit = 0 }));
        assert_status(TPOOL_TIMEOUT, status);
        unlock(&all->mutex);
        assert_status(TPOOL_OK, status_of(ordered(locks_and_unlocks, (order){ .limit = 0 })));
    }
}

/* The number of a process that lives, or the program's: held for as long as it stays there, and within each limit. */
static void *writes_a_living_number(void *arg) {
    const order *o = arg;
    uint32_t number = (uint32_t)o->times;
    if (!number) { /* its own, as it stands in a mutex that it has */
        if (tpool_shared_lock(&o->all->other, LIMIT) != TPOOL_OK) return NULL;
        memcpy(&number, &o->all->other, sizeof number);
        number &= 0x3fffffff;
        if (tpool_shared_unlock(&o->all->other) != TPOOL_OK) return NULL;
    }
    memcpy(o->mutex, &number, sizeof number);
    return (void *)(intptr_t)getpid();
}
static void *frees_by_writing(void *arg) {
    memset(((const order *)arg)->mutex, 0, sizeof(tpool_shared_mutex));
    return NULL;
}
static void the_number_of_a_living_process_holds_it_within_limits(void **s) {
    (void)s;
    assert_status(TPOOL_OK, tpool_resize(pool, 1));
    for (int programs = 0; programs < 2; programs++) {
        pid_t pid = (pid_t)(intptr_t)take(ordered(writes_a_living_number, (order){ .times = programs }));
        assert_true(pid > 0);
        assert_status(TPOOL_TIMEOUT, tpool_shared_lock(&all->mutex, 0));
        int64_t began = tpool_now();
        assert_status(TPOOL_TIMEOUT, tpool_shared_lock(&all->mutex, TPOOL_MS(60)));
        assert_true(tpool_now() - began >= TPOOL_MS(60) && tpool_now() - began < LIMIT / 2);
        assert_status(TPOOL_INVALID_STATE, tpool_shared_unlock(&all->mutex));
        assert_status(TPOOL_TIMEOUT, status_of(ordered(locks_and_unlocks, (order){ .limit = TPOOL_MS(30) })));
        assert_status(TPOOL_INVALID_STATE, status_of(ordered(unlocks, (order){ 0 })));
        if (programs) (void)take(ordered(frees_by_writing, (order){ 0 }));
        else assert_int_equal(0, kill(pid, SIGKILL));
        assert_status(programs ? TPOOL_OK : TPOOL_BROKEN, lock(&all->mutex));
        unlock(&all->mutex);
        if (!programs) EVENTUALLY(!is_alive(pid));
        while (end_of(submitted(pool, nothing, NULL)) == TPOOL_BROKEN) { }
    }
}

/* ---- Tasks ---- */

typedef struct in_task {
    tpool_shared_mutex *mutex;
    tpool_status status;
    gate gate;
} in_task;
static void *locks_in_task(void *arg) {
    in_task *t = arg;
    gate_open(&t->gate);
    t->status = locks_and_unlocks_here(t->mutex);
    return NULL;
}
/* A spare worker goes on meanwhile. */
static void a_task_of_threads_waits_like_in_any_call(void **s) {
    (void)s;
    tpool *threads = new_pool(1);
    in_task t = { .mutex = &all->mutex, .gate = GATE_CLOSED };
    tpool_future *holder = held_by_worker(holds), *waiter = submitted(threads, locks_in_task, &t);
    gate_pass(&t.gate);
    assert_ptr_equal(&t, take(submitted(threads, nothing, &t)));
    open_gate();
    assert_status(TPOOL_OK, status_of(holder));
    (void)take(waiter);
    assert_status(TPOOL_OK, t.status);
    assert_status(TPOOL_OK, tpool_destroy(threads));
}
static void *has_it_and_ends_its_thread(void *arg) {
    CHECK_STATUS(TPOOL_OK, lock(arg));
    pthread_exit(NULL);
}
static void a_task_ends_its_thread_within_it(void **s) {
    (void)s;
    tpool *threads = new_pool(1);
    assert_status(TPOOL_BROKEN, end_of(submitted(threads, has_it_and_ends_its_thread, &all->mutex)));
    assert_status(TPOOL_BROKEN, lock(&all->mutex));
    unlock(&all->mutex);
    assert_status(TPOOL_OK, tpool_destroy(threads));
}
/* A callback runs within the wait, and uses mutexes of another pool, and more of this one. */
typedef struct inner {
    tpool_future *future;
    tpool_shared_mutex *others;
    tpool_status status;
} inner;
static void locks_within_a_wait(tpool_future *future, void *context) {
    inner *in = context;
    (void)future;
    for (int i = 0; i < 4; i++) assert_status(TPOOL_OK, tpool_shared_lock(&all->many[i], 0));
    assert_status(TPOOL_INVALID_STATE, tpool_shared_unlock(in->others)); /* it was there last; and four fill the room */
    open_gate();                                                         /* the worker has had it all the time */
}
static void waits_in_a_callback(tpool_future *future, void *context) {
    inner *in = context;
    (void)future;
    assert_status(TPOOL_OK, tpool_future_set_result(in->future, NULL)); /* its callback comes with the next wait */
    in->status = lock(&all->mutex);
}
static void a_callback_within_the_wait_may_use_others(void **s) {
    (void)s;
    tpool *second = process_pool_as((tpool_config){ .max_workers = 1, .shared_size = MIB });
    inner in = { .others = tpool_shared_alloc(second, sizeof *in.others) };
    tpool_future *outer = NULL, *holder = held_by_worker(holds);
    assert_status(TPOOL_OK, tpool_future_create(&outer));
    assert_status(TPOOL_OK, tpool_future_create(&in.future));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(in.future, locks_within_a_wait, &in));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(outer, waits_in_a_callback, &in));
    assert_status(TPOOL_OK, tpool_future_set_result(outer, NULL));
    assert_status(TPOOL_OK, in.status);
    assert_status(TPOOL_OK, status_of(holder));
    unlock(&all->mutex);
    for (int i = 0; i < 4; i++) unlock(&all->many[i]);
    tpool_future_release(outer);
    tpool_future_release(in.future);
    assert_status(TPOOL_OK, tpool_destroy(second));
}
static void in_forked(void *context) {
    tpool_shared_mutex *mutex = context;
    CHECK_STATUS(TPOOL_INVALID, tpool_shared_lock(mutex, 0));
    CHECK_STATUS(TPOOL_INVALID, tpool_shared_unlock(mutex));
}
static void *locks_in_forked(void *arg) {
    const order *o = arg;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        in_forked(o->mutex);
        child_ends();
    }
    int ended = 0;
    waitpid(child, &ended, 0);
    return (void *)(intptr_t)(ended ? TPOOL_FAILED : tpool_shared_unlock(o->mutex));
}
static void a_child_of_fork_has_no_part_in_it(void **s) {
    (void)s;
    assert_status(TPOOL_OK, lock(&all->mutex));
    in_child(in_forked, &all->mutex);
    unlock(&all->mutex);
    assert_status(TPOOL_OK, tpool_resize(pool, 1));
    assert_status(TPOOL_OK, status_of(ordered(locks, (order){ .limit = LIMIT })));
    assert_status(TPOOL_OK, status_of(ordered(locks_in_forked, (order){ 0 })));
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(it_is_ready_when_zeroed),
        T(outside_shared_memory_there_is_none),
        T(a_thread_may_have_many),
        T(a_limit_ends_the_wait),
        T(a_living_owner_keeps_it_without_descriptors),
        T(waiters_get_it_when_it_is_free),
        T(one_at_a_time),
        T(the_next_one_learns_of_a_death),
        T(a_waiter_learns_of_it_too),
        T(one_death_after_another),
        T(a_death_is_known_within_50_ms),
        T(the_death_of_an_idle_worker_is_known),
        T(a_worker_that_has_it_gives_it_back_in_a_later_task),
        T(the_server_dies_with_its_workers),
#if defined(__linux__) && !defined(TPOOL__PLAIN_POSIX)
        T(server_and_keeper_die),
        T(a_living_owner_keeps_it_without_server_and_keeper),
        T(a_server_that_stands_still_hides_no_death),
        T(tries_by_turns_hide_no_death),
#endif
        T(a_thread_that_ends_is_no_owner),
        T(its_end_wakes_a_waiter),
        T(its_end_comes_after_the_pools),
        T(waiters_die),
        T(a_storm_of_kills),
        T(what_a_worker_writes_there_ends_no_wait_for_ever),
        T(the_number_of_a_living_process_holds_it_within_limits),
        T(a_task_of_threads_waits_like_in_any_call),
        T(a_task_ends_its_thread_within_it),
        T(a_callback_within_the_wait_may_use_others),
        T(a_child_of_fork_has_no_part_in_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
