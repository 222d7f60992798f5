/* Two files of one program. Without TPOOL_STATIC they share one implementation, so that the second may wait for
   the first one's future. With it each has its own, and neither knows the other's pools. */
#ifndef TPOOL_STATIC
#define TPOOL_IMPLEMENTATION
#endif
#include "tpool.h"
#include "smoke.h"
#include "two_files.h"

static void *seen_here, *seen_there;
static int answer = 42;

static void *look(void *arg) {
    seen_here = tpool_current();
    seen_there = second_file_current();
    return arg;
}

int main(void) {
    SMOKE(smoke() == 0);
    SMOKE(second_file_runs() == 0);

    tpool *pool = NULL;
    tpool_future *future = NULL;
    SMOKE(tpool_create(&pool, NULL) == TPOOL_OK);
    SMOKE(tpool_submit(pool, look, &answer, &future) == TPOOL_OK);
    SMOKE(tpool_future_result(future, TPOOL_FOREVER, NULL) == TPOOL_OK);
    SMOKE(seen_here == pool);
#ifdef TPOOL_STATIC
    SMOKE(seen_there == NULL);
#else
    SMOKE(seen_there == pool);
    int result = 0;
    SMOKE(second_file_reads(future, &result) == TPOOL_OK);
    SMOKE(result == 42);
#endif
    tpool_future_release(future);
    SMOKE(tpool_destroy(pool) == TPOOL_OK);
    return 0;
}
