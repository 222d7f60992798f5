/* P3: a thread that gives up its wait removes its node as the end comes: either the end notifies the node, or it never
   does; afterwards no thread touches the node. */
#include "model.h"

static tpool_future block;
static int told;
static void model_reset(void) {
    tpool__task_init(&block, NULL, NULL, NULL, NULL, TPOOL__PHASE_PENDING | 3 * TPOOL__REFERENCE);
    told = 0;
}
static tpool__parker *notify(tpool__node *node, tpool_future *future, tpool__parker *asleep) {
    (void)node;
    (void)future;
    told++;
    return asleep;
}
static void *finish(void *arg) {
    MODEL_CHECK(tpool_future_set_result(&block, &told) == TPOOL_OK);
    return arg;
}
static void *give_up(void *arg) {
    tpool__node node = { NULL, NULL, notify };
    if (tpool__node_add(&block, &node)) {
        tpool__node_remove(&block, &node);
        MODEL_CHECK(told <= 1);
        node.done = NULL; /* its memory is the caller's again */
    }
    return arg;
}
static void model_check(void) { MODEL_CHECK(!block.nodes); }
MODEL(finish, give_up)
