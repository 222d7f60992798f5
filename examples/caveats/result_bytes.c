/* What tpool_return gave is freed with the last reference to the future: copy it first. A variable of type void * takes
 * the result; (void **)&typed is undefined behaviour.
 *
 *     cc -std=c11 -pthread -I. examples/caveats/implementation.c examples/caveats/result_bytes.c && ./a.out
 */
#include "tpool.h"

static void *half(void *arg) {
    double value = *(double *)arg / 2;
    return tpool_return(&value, sizeof value);
}
static tpool_status ask(tpool *pool, double of, double *answer) {
    tpool_future *future;
    void *bytes; // not (void **)&answer
    tpool_status status = tpool_submit_copy(pool, half, &of, sizeof of, &future);
    if (status != TPOOL_OK) return status;
    status = tpool_future_result(future, TPOOL_FOREVER, &bytes);
    if (status == TPOOL_OK) *answer = *(double *)bytes;
    tpool_future_release(future); // and with it the bytes
    return status;
}

int main(void) {
    tpool *pool;
    double answer = 0;
    if (tpool_create(&pool, NULL) != TPOOL_OK) return 1;
    tpool_status status = ask(pool, 5, &answer);
    tpool_destroy(pool);
    return status == TPOOL_OK && answer == 2.5 ? 0 : 1;
}
