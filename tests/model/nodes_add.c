/* P3: two threads add a waiter node each, and remove it again. */
#include "model.h"

static tpool_future block;
static tpool__node nodes[2];
static void model_reset(void) {
    tpool__task_init(&block, NULL, NULL, NULL, NULL, TPOOL__PHASE_PENDING | 2 * TPOOL__REFERENCE);
}
static void *add_and_remove(int number) {
    MODEL_CHECK(tpool__node_add(&block, &nodes[number]));
    tpool__node_remove(&block, &nodes[number]);
    return NULL;
}
static void *watch_one(void *arg) {
    (void)arg;
    return add_and_remove(0);
}
static void *watch_another(void *arg) {
    (void)arg;
    return add_and_remove(1);
}
static void model_check(void) { MODEL_CHECK(!block.nodes); }
MODEL(watch_one, watch_another)
