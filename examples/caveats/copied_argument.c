/* The task may start long after submit has returned, and goes on running after a wait for it has timed out: so it gets
 * a copy of its argument (arg_size), or memory that arg_free frees.
 *
 *     cc -std=c11 -pthread -I. examples/caveats/implementation.c examples/caveats/copied_argument.c && ./a.out
 */
#include "tpool.h"
#include <string.h>

typedef struct request {
    char path[32];
    int attempts;
} request;

static void *fetch(void *arg) {
    request *r = arg; // this task's own copy
    while (!tpool_stop_requested() && r->attempts < 1000000000) r->attempts++;
    return tpool_stop_requested() ? tpool_raise(1, "gave up on %s", r->path) : NULL;
}
static tpool_status fetch_soon(tpool *pool, const char *path) {
    request r = { .attempts = 0 };
    strncpy(r.path, path, sizeof r.path - 1);
    tpool_task task = { .fn = fetch, .arg = &r, .arg_size = sizeof r, .name = "fetch" };
    return tpool_run_with_timeout(pool, &task, TPOOL_MS(5), NULL);
} // r is gone, and the task may still run: it has its copy

int main(void) {
    tpool *pool;
    if (tpool_create(&pool, NULL) != TPOOL_OK) return 1;
    tpool_status status = fetch_soon(pool, "/index.html");
    tpool_destroy(pool);
    return status == TPOOL_TIMEOUT || status == TPOOL_OK ? 0 : 1;
}
