/* task.name is kept as a pointer for as long as the future lives, so it is static text; config.name is copied.
 * config.context must live until the last worker has ended.
 *
 *     cc -std=c11 -pthread -I. examples/caveats/implementation.c examples/caveats/names_and_contexts.c && ./a.out
 */
#include "tpool.h"
#include <string.h>

typedef struct shop {
    int opened;
} shop;

static bool open_shop(void *context) {
    ((shop *)context)->opened++;
    return true;
}
static void *fail(void *arg) {
    (void)arg;
    return tpool_raise(7, "out of stock");
}

int main(void) {
    shop context = { 0 }; // lives longer than the pool
    tpool_config config = { .name = "shop", .max_workers = 1, .initializer = open_shop, .context = &context };
    tpool *pool;
    tpool_future *future;
    const tpool_error *error = NULL;
    if (tpool_create(&pool, &config) != TPOOL_OK) return 1;
    tpool_task task = { .fn = fail, .name = "buy" }; // a literal: static
    if (tpool_submit_task(pool, &task, &future) != TPOOL_OK) return 1;
    tpool_destroy(pool);
    tpool_future_error(future, 0, &error); // the future outlives its pool
    bool well = error && error->code == 7 && strcmp(error->task, "buy") == 0 && context.opened == 1;
    tpool_future_release(future);
    return well ? 0 : 1;
}
