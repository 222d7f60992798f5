/* Borrow a pool from the manager instead of starting threads in each function: everybody who asks for as many workers
 * gets the same one. Expensive things that tasks share, here two buffers, are lent first come, first served.
 *
 *     cc -std=c11 -pthread -I. examples/caveats/implementation.c examples/caveats/borrowed.c && ./a.out
 */
#include "tpool.h"
#include <stdlib.h>

typedef struct sums {
    tpool_resources *buffers;
    int count;
    long total;
} sums;

static void *make(void *context) {
    (void)context;
    return malloc(1 << 16);
}
static void destroy(void *buffer, void *context) {
    (void)context;
    free(buffer);
}

static void *sum(void *item, void *context) {
    sums *s = context;
    void *buffer;
    if (tpool_resources_get(s->buffers, TPOOL_SEC(10), &buffer) != TPOOL_OK) return tpool_raise(1, "no buffer");
    long *n = buffer;
    for (*n = 0; *(int *)item > 0; --*(int *)item) *n += *(int *)item;
    long result = *n;
    tpool_resources_put(s->buffers, buffer); // on every path
    return tpool_return(&result, sizeof result);
}
static tpool_status add_up(tpool *pool, void *context) {
    sums *s = context;
    int items[] = { 10, 20, 30, 40 };
    tpool_map_spec spec = { .fn = sum, .context = s, .items = items, .count = 4, .stride = sizeof *items };
    tpool_map_iter *iter;
    void *result;
    tpool_status status = tpool_map(pool, &spec, &iter);
    if (status != TPOOL_OK) return status;
    while ((status = tpool_map_next(iter, TPOOL_FOREVER, &result)) == TPOOL_OK) s->total += *(long *)result;
    tpool_map_close(iter);
    return status == TPOOL_END ? TPOOL_OK : status;
}

int main(void) {
    sums s = { .total = 0 };
    if (tpool_resources_create(&s.buffers, 2, make, destroy, NULL) != TPOOL_OK) return 1;
    for (int i = 0; i < 3; i++) // three times the same pool
        if (tpool_with_pool(NULL, 4, TPOOL_THREADS, add_up, &s) != TPOOL_OK) return 1;
    tpool_manager_stats stats;
    if (tpool_manager_get_stats(NULL, &stats) != TPOOL_OK || stats.created != 1) return 1;
    tpool_resources_destroy(s.buffers);
    return s.total == 3 * (55 + 210 + 465 + 820) ? 0 : 1;
}
