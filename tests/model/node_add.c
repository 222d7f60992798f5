/* P2, P3: a node is notified of the end, or not added because of it; the result is seen, and no thread touches the
   node after it was removed. */
#include "model.h"

static tpool_future block;
static tpool__parker parker;
static int result, told;
static void model_reset(void) {
    tpool__task_init(&block, NULL, NULL, NULL, NULL, TPOOL__PHASE_PENDING | 3 * TPOOL__REFERENCE);
    tpool__store_relaxed(&parker, 0);
    result = told = 0;
}
static tpool__parker *notify(tpool__node *node, tpool_future *future, tpool__parker *asleep) {
    (void)node;
    (void)future;
    told++;
    return tpool__unpark_begin_another(asleep, &parker);
}
static void *finish(void *arg) {
    result = 1;
    MODEL_CHECK(tpool_future_set_result(&block, &result) == TPOOL_OK);
    return arg;
}
static void *await(void *arg) {
    tpool__node node = { NULL, NULL, notify };
    if (tpool__node_add(&block, &node)) {
        MODEL_CHECK(tpool__park(&parker, TPOOL_FOREVER));
        MODEL_CHECK(told == 1 && tpool__is_done(&block));
        tpool__node_remove(&block, &node);
    }
    MODEL_CHECK(*(int *)block.value == 1);
    return arg;
}
static void model_check(void) { MODEL_CHECK(told <= 1 && !block.nodes); }
MODEL(finish, await)
