/* On anything but TPOOL_OK the argument is still the caller's, and arg_free is not called.
 *
 *     cc -std=c11 -pthread -I. examples/caveats/implementation.c examples/caveats/refused_submit.c && ./a.out
 */
#include "tpool.h"
#include <stdlib.h>

static void *use(void *arg) { return arg; }

int main(void) {
    tpool *pool;
    int refused = 0;
    tpool_config config = { .max_workers = 1, .queue_capacity = 2, .on_full = TPOOL_FULL_REJECT };
    if (tpool_create(&pool, &config) != TPOOL_OK) return 1;
    tpool_pause(pool); // nothing starts, so the queue fills up
    for (int i = 0; i < 3; i++) {
        tpool_task task = { .fn = use, .arg = malloc(100), .arg_free = free };
        tpool_status status = tpool_submit_task(pool, &task, NULL);
        if (status == TPOOL_OK) continue;
        free(task.arg); // not taken: arg_free will not be called
        refused += status == TPOOL_FULL;
    }
    tpool_destroy(pool); // resumes it, and finishes what waits
    return refused == 1 ? 0 : 1;
}
