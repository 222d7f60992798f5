/* Every fork is joined on every path out of the block: the job lives on the stack that a return would leave.
 *
 *     cc -std=c11 -pthread -I. examples/caveats/implementation.c examples/caveats/join_on_every_path.c && ./a.out
 */
#include "tpool.h"

typedef struct range {
    const int *at;
    size_t count;
} range;

static void *sum(void *arg) {
    range *whole = arg, left, right;
    tpool_job job;
    intptr_t total = 0;
    if (whole->count <= 1000) {
        for (size_t i = 0; i < whole->count; i++) total += whole->at[i];
        return (void *)total;
    }
    left = (range){ whole->at, whole->count / 2 };
    right = (range){ whole->at + left.count, whole->count - left.count };
    tpool_fork(&job, sum, &left);
    if (!tpool_stop_requested()) total = (intptr_t)sum(&right);
    total += (intptr_t)tpool_join(&job); // no return between fork and join
    return (void *)total;
}

int main(void) {
    static int numbers[100000];
    range whole = { numbers, 100000 };
    tpool *pool;
    tpool_future *future;
    void *total;
    for (int i = 0; i < 100000; i++) numbers[i] = i % 10;
    if (tpool_create(&pool, NULL) != TPOOL_OK) return 1;
    if (tpool_submit(pool, sum, &whole, &future) != TPOOL_OK) return 1;
    tpool_status status = tpool_future_result(future, TPOOL_FOREVER, &total);
    tpool_future_release(future);
    tpool_destroy(pool);
    return status == TPOOL_OK && (intptr_t)total == 450000 ? 0 : 1;
}
