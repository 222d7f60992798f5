/* What the tests of the ends of processes share. */
#ifndef TPOOL_TESTS_PROCESS_ENDS_H
#define TPOOL_TESTS_PROCESS_ENDS_H
#include "processes.h"
#if HAVE_FORK
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#endif
#ifdef __linux__
#include <sys/prctl.h>
#endif
#if defined(__linux__) && defined(__has_include)
#if __has_include(<linux/seccomp.h>) && __has_include(<linux/filter.h>)
#define HAVE_SECCOMP 1
#include <linux/filter.h>
#include <linux/seccomp.h>
#endif
#endif

static inline void *waits_for_ever(void *arg) {
    atomic_store(&all->pid, getpid());
#if HAVE_FORK
    atomic_store(&all->server, getppid());
#endif
    atomic_fetch_add(&all->gate.arrived, 1);
    for (;;) sleep_ms(1000);
    return arg;
}
#if HAVE_FORK
/* In a process of its own, with whatever it does to itself. */
static inline int in_a_child(int (*story)(void)) {
    int how = -1;
    pid_t child = fork();
    if (child == 0) {
        alarm(100);
        _exit(story());
    }
    assert_int_equal(child, waitpid(child, &how, 0));
    return WIFEXITED(how) ? WEXITSTATUS(how) : 1000 + how;
}
#endif

#endif
