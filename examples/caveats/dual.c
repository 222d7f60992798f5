/* Work that starts other work and waits for it goes to the high-level pool, the leaf calls that it makes to the
 * low-level one: nested work on these two cannot starve.
 *
 *     cc -std=c11 -pthread -I. examples/caveats/implementation.c examples/caveats/dual.c && ./a.out
 */
#include "tpool.h"

static void *step(void *arg) { return (void *)(*(intptr_t *)arg * 2); }
static void *score(void *arg) {
    tpool_task leaf = { .fn = step, .arg = arg, .arg_size = sizeof(intptr_t) };
    tpool_future *future;
    void *result = NULL;
    if (tpool_run_with_timeout(tpool_low_level(), &leaf, TPOOL_SEC(10), &future) == TPOOL_OK)
        tpool_future_result(future, 0, &result);
    tpool_future_release(future);
    return result;
}

int main(void) {
    tpool_future *scores[5];
    intptr_t sum = 0;
    for (intptr_t i = 0; i < 5; i++)
        if (tpool_submit_copy(tpool_high_level(), score, &i, sizeof i, &scores[i]) != TPOOL_OK) return 1;
    for (int i = 0; i < 5; i++) {
        void *result = NULL;
        if (tpool_future_result(scores[i], TPOOL_FOREVER, &result) != TPOOL_OK) return 1;
        sum += (intptr_t)result;
        tpool_future_release(scores[i]);
    }
    return sum == 20 ? 0 : 1; // at exit both pools are drained and ended
}
