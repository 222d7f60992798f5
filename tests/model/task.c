/* P2, P4 for a task: its end gives up the claimer's reference in the same exchange. The thread that gives up the last,
   also the claimer, sees all that the other did, and frees the result. */
#include "model.h"

static tpool_future block;
static tpool__outcome outcome;
static int result, noted, used;
static void free_result(void *payload) { *(int *)payload += used; }
static void model_reset(void) {
    tpool__task_init(&block, NULL, NULL, NULL, NULL, TPOOL__PHASE_PENDING | TPOOL__END_RELEASED | 2 * TPOOL__REFERENCE);
    outcome.kind = TPOOL__OWNED; /* as tpool_return_owned leaves it */
    outcome.is_static = true;
    outcome.payload = &result;
    outcome.payload_free = free_result;
    result = noted = used = 0;
    tpool__depot.home = 0;
    tpool__depot.total = 1;
    tpool__depot.loose = NULL;
}
static void *run(void *arg) {
    MODEL_CHECK(tpool__claim(&block, TPOOL__PHASE_RUNNING));
    result = 1;
    MODEL_CHECK(tpool__set_outcome(&block, &outcome));
    block.value = &result;
    tpool__publish(&block, TPOOL_OK);
    return arg;
}
static void *look(void *arg) {
    for (int i = 0; i < MODEL_TRIES && !noted; i++) {
        if (!tpool_future_done(&block)) continue;
        MODEL_CHECK(*(int *)block.value == 1);
        noted = 1;
    }
    used = 1; /* what a holder does before it gives its reference up */
    tpool_future_release(&block);
    return arg;
}
static void model_check(void) {
    MODEL_CHECK(result == 2);
    MODEL_CHECK(tpool__depot.home == 0 && tpool__depot.total == 0); /* given back once */
}
MODEL(run, look)
