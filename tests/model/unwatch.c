/* P3: a watch is removed by somebody who does not wait for the end any more, as it comes: either the end tells it, or it
   never does; afterwards nobody touches it. */
#include "model.h"

static tpool_future block;
static int told;
static void model_reset(void) {
    tpool__task_init(&block, NULL, NULL, NULL, NULL, TPOOL__PHASE_PENDING | 3 * TPOOL__REFERENCE);
    told = 0;
}
static tpool__parker *tell(tpool__node *watch, tpool_future *future, tpool__parker *asleep) {
    (void)watch;
    (void)future;
    told++;
    return asleep;
}
static void *finish(void *arg) {
    MODEL_CHECK(tpool_future_set_result(&block, &told) == TPOOL_OK);
    return arg;
}
static void *give_up(void *arg) {
    tpool__node watch = { NULL, NULL, tell };
    if (tpool__node_add(&block, &watch)) {
        tpool__node_remove(&block, &watch);
        MODEL_CHECK(told <= 1);
        watch.done = NULL; /* its memory is the caller's again */
    }
    return arg;
}
static void model_check(void) { MODEL_CHECK(!block.nodes); }
MODEL(finish, give_up)
