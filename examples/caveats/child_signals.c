/* A process that a worker starts inherits its blocked signals, so that SIGTERM would not end it: it unblocks them.
 *
 *     cc -std=c11 -pthread -I. examples/caveats/implementation.c examples/caveats/child_signals.c && ./a.out
 */
#include "tpool.h"
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

static void *run_true(void *arg) {
    char *const argv[] = { "true", NULL };
    posix_spawnattr_t attributes;
    sigset_t none;
    pid_t child;
    int ended = -1;
    (void)arg;
    sigemptyset(&none);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    if (posix_spawnp(&child, "true", NULL, &attributes, argv, environ) != 0) ended = -2;
    else
        while (waitpid(child, &ended, 0) < 0 && errno == EINTR) { }
    posix_spawnattr_destroy(&attributes);
    return ended == 0 ? NULL : tpool_raise(ended, "the child did not end well");
}

int main(void) {
    tpool *pool;
    if (tpool_create(&pool, NULL) != TPOOL_OK) return 1;
    tpool_task task = { .fn = run_true };
    tpool_status status = tpool_run_with_timeout(pool, &task, TPOOL_SEC(15), NULL);
    tpool_destroy(pool);
    return status == TPOOL_OK ? 0 : 1;
}
