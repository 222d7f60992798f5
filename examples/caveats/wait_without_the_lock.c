/* A wait inside a task may run the wanted task on the same stack, under the same locks: leave a lock before the wait.
 *
 *     cc -std=c11 -pthread -I. examples/caveats/implementation.c examples/caveats/wait_without_the_lock.c && ./a.out
 */
#include "tpool.h"
#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int sum;

static void *add(void *arg) {
    pthread_mutex_lock(&lock);
    sum += *(int *)arg;
    pthread_mutex_unlock(&lock);
    return NULL;
}
static void *add_both(void *arg) {
    int one = 1;
    tpool_future *future;
    if (tpool_submit_copy(arg, add, &one, sizeof one, &future) != TPOOL_OK) return tpool_raise(1, "refused");
    pthread_mutex_lock(&lock);
    sum += 10;
    pthread_mutex_unlock(&lock); // before the wait, not after
    tpool_future_result(future, TPOOL_FOREVER, NULL);
    tpool_future_release(future);
    return NULL;
}

int main(void) {
    tpool *pool;
    tpool_config config = { .max_workers = 1 };
    if (tpool_create(&pool, &config) != TPOOL_OK) return 1;
    if (tpool_submit(pool, add_both, pool, NULL) != TPOOL_OK) return 1;
    tpool_destroy(pool);
    return sum == 11 ? 0 : 1;
}
