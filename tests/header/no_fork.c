/* Built as for a system that has no fork (-D__EMSCRIPTEN__, -D__wasi__): the header leaves process pools out by
   itself. */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
#if !defined(TPOOL_NO_PROCESSES) || defined(TPOOL__PROCESSES)
#error "process pools are not left out"
#endif

static void *task(void *arg) { return arg; }

int main(void) {
    tpool *pool;
    tpool_future *future;
    void *result = NULL;
    tpool_config config = { .kind = TPOOL_PROCESSES };
    if (tpool_create(&pool, &config) != TPOOL_UNSUPPORTED || pool) return 1;
    if (tpool_create(&pool, NULL) != TPOOL_OK) return 2;
    if (tpool_submit(pool, task, &config, &future) != TPOOL_OK) return 3;
    if (tpool_future_result(future, TPOOL_FOREVER, &result) != TPOOL_OK || result != &config) return 4;
    tpool_future_release(future);
    return tpool_destroy(pool) == TPOOL_OK ? 0 : 5;
}
