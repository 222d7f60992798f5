/* Ownership along a pipeline: each stage owns what it was given and hands on what it made. The next task's arg_free
 * frees it on every path, a cancel too; only a stage whose submit was refused frees it itself.
 *
 *     cc -std=c11 -pthread -I. examples/caveats/implementation.c examples/caveats/pipeline.c && ./a.out
 */
#include "tpool.h"
#include <stdlib.h>
#include <string.h>

typedef struct text {
    tpool *pool;
    size_t *total;
    char bytes[64];
} text;

static void *measure(void *arg) {
    text *t = arg;
    *t->total += strlen(t->bytes); // one worker: no lock needed
    return NULL;
}
static void *load(void *arg) {
    text *t = malloc(sizeof *t);
    if (!t) return tpool_raise(1, "out of memory");
    *t = *(text *)arg;
    strcpy(t->bytes, "loaded");
    tpool_task next = { .fn = measure, .arg = t, .arg_free = free, .name = "measure" };
    if (tpool_submit_task(t->pool, &next, NULL) != TPOOL_OK) {
        free(t);
        return tpool_raise(2, "not handed on");
    }
    return NULL; // t is the next task's now
}

int main(void) {
    tpool *pool;
    size_t total = 0;
    tpool_config config = { .max_workers = 1 };
    if (tpool_create(&pool, &config) != TPOOL_OK) return 1;
    text first = { .pool = pool, .total = &total };
    for (int i = 0; i < 10; i++)
        if (tpool_submit_copy(pool, load, &first, sizeof first, NULL) != TPOOL_OK) return 1;
    tpool_drain(pool, TPOOL_FOREVER); // until nothing is queued or running: the spreading has ended
    tpool_destroy(pool);
    return total == 60 ? 0 : 1;
}
