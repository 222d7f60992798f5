/* Limits are durations. A deadline for several calls is a time, and tpool_until gives what is left of it.
 *
 *     cc -std=c11 -pthread -I. examples/caveats/implementation.c examples/caveats/deadline.c && ./a.out
 */
#include "tpool.h"

static void *step(void *arg) { return arg; }

int main(void) {
    tpool *pool;
    int ms = 5000;
    int64_t deadline = tpool_now() + TPOOL_MS(ms);
    if (tpool_create(&pool, NULL) != TPOOL_OK) return 1;
    tpool_status status = TPOOL_OK;
    for (int i = 0; i < 10 && status == TPOOL_OK; i++) {
        tpool_task task = { .fn = step };
        status = tpool_run_with_timeout(pool, &task, tpool_until(deadline), NULL);
    }
    if (status == TPOOL_OK) status = tpool_drain(pool, tpool_until(deadline));
    tpool_destroy(pool);
    return status == TPOOL_OK ? 0 : 1;
}
