/* What a package manager builds to see that the package is whole: a result from another thread. */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
#include <stdio.h>

static void *twice(void *arg) { return (void *)((intptr_t)arg * 2); }

int main(void) {
    tpool *pool;
    tpool_future *future;
    void *result = NULL;

    if (tpool_create(&pool, NULL) != TPOOL_OK) return 1;
    if (tpool_submit(pool, twice, (void *)21, &future) != TPOOL_OK) return 1;
    if (tpool_future_result(future, TPOOL_FOREVER, &result) != TPOOL_OK) return 1;
    tpool_future_release(future);
    printf("tpool.h %s: %d\n", tpool_version(), (int)(intptr_t)result);
    return tpool_destroy(pool) == TPOOL_OK && result == (void *)42 ? 0 : 1;
}
