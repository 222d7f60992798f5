/* What the tests share. Gates force an interleaving (support/gates.h); checks have a time limit (checks.h); calls that
   block run in threads of their own (threads.h); pools.h has pools whose workers are held, and what tests give to
   pools. A file about children of fork includes support/children.h besides. POSIX threads are used, not C11 ones,
   because ThreadSanitizer sees through them. */
#ifndef TPOOL_TESTS_SUPPORT_H
#define TPOOL_TESTS_SUPPORT_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif
#if defined(_WIN32)
#define HAVE_FORK 0
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#else
#define HAVE_FORK 1
#include <sys/types.h>
#include <sys/wait.h>
#endif
#include <cmocka.h>
#if defined(__EMSCRIPTEN__) /* has no fork, and no processes */
#define fork() (skip(), (pid_t)-1)
#define NO_PROCESSES() skip()
#else
#define NO_PROCESSES() ((void)0)
#endif

#include "tpool.h"

#if HAVE_FORK
/* This program anew, by the emulator that TEST_RUNNER names, if it needs one (tests/platforms.sh). */
static inline _Noreturn void become_program(const char *program, const char *argument) {
    const char *runner = getenv("TEST_RUNNER");
    if (runner && *runner) execlp(runner, runner, program, argument, (char *)NULL);
    else execl(program, program, argument, (char *)NULL);
    _exit(127);
}
#endif

#include "support/clock.h"
#include "support/tools.h"

#include "support/checks.h"
#include "support/gates.h"
#include "support/pools.h"
#include "support/threads.h"
#endif
