/* What white tests of process pools share: fork that is refused or held, a worker that dies at a point inside, memory
   that cannot be had, and messages that a worker might send. */
#ifndef TPOOL_TESTS_WHITE_PROCESSES_H
#define TPOOL_TESTS_WHITE_PROCESSES_H
#define _GNU_SOURCE
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
static void at_point(uint32_t kind);
static void *failing_malloc(size_t size);
static void counted_free(void *ptr);
#define TPOOL_MALLOC(size) failing_malloc(size)
#define TPOOL_FREE(ptr) counted_free(ptr)
#define TPOOL__FORK() refused_fork()
#define TPOOL__PROCESS_POINT(kind) at_point(kind)
#define TPOOL__HANG_MS hang_ms
#define TPOOL__SERVER_CHECK_MS check_ms
static _Atomic(int) hang_ms, check_ms;
static pid_t refused_fork(void);
#include "internals/check.h"
#include "support/children.h"
#include <sys/socket.h>
#include <sys/time.h>
#include <limits.h>

typedef struct common {
    shared_gate gate;
    _Atomic(int) refused, die_at, deaths, begun, left, program, spoiling, slow_ms, slow_one, beside, holding, held,
        fork_held, keeper, servers_end, servers_forks;
    _Atomic(int) executed[4];
} common;
static common *all;

/* A process that the program forks for itself, in another thread, while the pool's is about to be forked. */
static void *fork_beside(void *unused) {
    pid_t pid = fork();
    if (pid == 0) {
        atomic_store(&all->left, descriptors_open());
        _exit(0);
    }
    assert_int_equal(pid, waitpid(pid, NULL, 0));
    return unused;
}
static pid_t refused_fork(void) {
    pthread_t thread;
    if (atomic_exchange(&all->beside, 0) > 0) {
        assert_int_equal(0, pthread_create(&thread, NULL, fork_beside, NULL));
        assert_int_equal(0, pthread_join(thread, NULL));
    }
    if (atomic_load(&all->refused) > 0) {
        atomic_fetch_sub(&all->refused, 1);
        errno = EAGAIN;
        return -1;
    }
    if (atomic_load(&all->fork_held) == getpid()) {
        atomic_fetch_add(&all->gate.arrived, 1);
        while (atomic_load(&all->fork_held)) sleep_ms(1);
    }
    if (getpid() != (pid_t)atomic_load(&all->program) &&
        (atomic_load(&all->slow_one) == 0 || getpid() == (pid_t)atomic_load(&all->slow_one)))
        sleep_ms(atomic_load(&all->slow_ms));
    if (getppid() == (pid_t)atomic_load(&all->keeper)) atomic_fetch_add(&all->servers_forks, 1);
    pid_t pid = fork();
    if (pid == 0 && atomic_load(&all->servers_end) && getppid() == (pid_t)atomic_load(&all->keeper)) {
        atomic_fetch_add(&all->deaths, 1);
        if (atomic_load(&all->servers_end) == SIGKILL) raise(SIGKILL);
        _exit(TPOOL__NOT_PREPARED);
    }
    return pid;
}

/* In the worker, once: it is not killed with its server, and goes on when the gate opens. */
static void outlive_the_server(void) {
    if (atomic_load(&all->holding) == 0 || atomic_fetch_sub(&all->holding, 1) != 1) return;
    atomic_store(&all->held, getpid());
#if defined(__linux__)
    prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
#endif
    shared_gate_pass(&all->gate);
}
/* In the worker: between taking a task and beginning it. */
static void at_point(uint32_t kind) {
    if ((kind == TPOOL__RUN || kind == TPOOL__RUN_ITEMS) && atomic_load(&all->die_at) > 0) {
        atomic_fetch_sub(&all->die_at, 1);
        atomic_fetch_add(&all->deaths, 1);
        raise(SIGKILL);
    }
    if (kind == TPOOL__RUN) outlive_the_server();
}

static _Atomic(long) allocated;
static _Atomic(int) fail_after; /* -1: never */
static void (*_Atomic at_next_allocation)(void);
static void *failing_malloc(size_t size) {
    void (*hook)(void) = atomic_load(&at_next_allocation);
    if (hook) hook();
    int left = atomic_load(&fail_after);
    if (left >= 0 && atomic_fetch_sub(&fail_after, 1) == 0) return NULL;
    void *at = malloc(size);
    if (at) atomic_fetch_add(&allocated, 1);
    return at;
}
static void counted_free(void *ptr) {
    if (ptr) atomic_fetch_sub(&allocated, 1);
    free(ptr);
}

static int set_up(void **state) {
    (void)state;
    memset((void *)all, 0, sizeof *all);
    atomic_store(&fail_after, -1);
    atomic_store(&at_next_allocation, NULL);
    hang_ms = 60000;
    check_ms = 60000; /* what is told is known without a look */
    return 0;
}
static void *count_and_getpid(void *arg) {
    (void)arg;
    atomic_fetch_add(&all->begun, 1);
    return (void *)(intptr_t)getpid();
}

static void *item_task(void *item, void *context) {
    (void)context;
    return (void *)(intptr_t)(*(int *)item + 1);
}

static void say(tpool__message message) {
    if (write(tpool__in_child.replies, &message, sizeof message) < 0) _exit(1);
    sleep_ms(20000);
}
static tpool__message well(void) {
    tpool__message message;
    memset(&message, 0, sizeof message);
    message.number = tpool__in_child.number;
    message.kind = TPOOL__DONE;
    message.answer.kind = TPOOL__SOME_BYTES;
    return message;
}

static bool is_gone(pid_t pid) { return kill(pid, 0) != 0 && errno == ESRCH; }
static pid_t server_of(tpool *pool) {
    void *result;
    result = take(submitted(pool, getppid_task, NULL));
    return (pid_t)(intptr_t)result;
}
#endif
