/* Ending on SIGTERM: the handler sets a flag, nothing else. Then no more work; a time to finish; then cancel and ask to
 * stop; then destroy, which waits. Workers block the signal, so the handler runs on the main thread.
 *
 *     cc -std=c11 -pthread -I. examples/caveats/implementation.c examples/caveats/sigterm.c && ./a.out
 */
#include "tpool.h"
#include <signal.h>

static volatile sig_atomic_t asked_to_end;
static void on_sigterm(int number) {
    (void)number;
    asked_to_end = 1;
}

static void *work(void *arg) {
    for (int64_t end = tpool_now() + TPOOL_SEC(60); tpool_now() < end;)
        if (tpool_stop_requested()) break;
    return arg;
}

int main(void) {
    tpool *pool;
    if (tpool_create(&pool, NULL) != TPOOL_OK) return 1;
    signal(SIGTERM, on_sigterm);
    for (int i = 0; i < 100; i++)
        if (tpool_submit(pool, work, NULL, NULL) != TPOOL_OK) return 1;
    raise(SIGTERM);           // somebody sends it
    while (!asked_to_end) { } // the program's main loop
    tpool_shutdown(pool, 0);
    if (tpool_drain(pool, TPOOL_MS(50)) == TPOOL_TIMEOUT)
        tpool_shutdown(pool, TPOOL_CANCEL_PENDING | TPOOL_STOP_RUNNING);
    tpool_destroy(pool);
    return 0;
}
