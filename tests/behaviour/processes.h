/* What the tests of process pools share. */
#ifndef TPOOL_TESTS_PROCESSES_H
#define TPOOL_TESTS_PROCESSES_H
#include "support/children.h"

/* What the program and its workers share: made before any pool, so that each worker inherits it. */
typedef struct common {
    shared_gate gate;
    _Atomic(int) count, second, order_next, order[64], hang, deaths;
    _Atomic(long) pid, other, server, pids[4];
} common;
static common *all;

static inline int set_up(void **state) {
    (void)state;
    memset((void *)all, 0, sizeof *all);
    return 0;
}
#define PROCESS_TEST(name) cmocka_unit_test_setup(name, set_up)
/* The program's main. The workers' processes come here too, and go no further than tpool_main. */
#define RUN_PROCESS_TESTS(tests) \
    int main(int argc, char **argv) { \
        all = shared_memory(sizeof *all); \
        if (tpool_main(&argc, &argv) != TPOOL_OK) return 1; \
        return cmocka_run_group_tests(tests, NULL, NULL); \
    }

/* In a worker: waits at a gate that the program opens. */
static inline void *gate_of_processes(void *arg) {
    shared_gate_pass(&all->gate);
    return arg;
}
static inline void *count_task(void *arg) {
    (void)arg;
    atomic_fetch_add(&all->count, 1);
    return NULL;
}

static inline void *square(void *arg) {
    int n = *(int *)arg * *(int *)arg;
    return tpool_return(&n, sizeof n);
}

static inline void *until_stopped(void *arg) {
    atomic_fetch_add(&all->gate.arrived, 1);
    while (!tpool_stop_requested()) sleep_ms(1);
    return tpool_return(arg, tpool_arg_size());
}

#endif
