/* P2: whoever sees the end sees the result. P4: whoever gives up the last reference sees all that the others did,
   once. */
#include "model.h"

static tpool_future block;
static tpool__outcome outcome;
static int result, noted;
static void free_result(void *payload) { ++*(int *)payload; }
static void model_reset(void) {
    tpool__task_init(&block, NULL, NULL, NULL, NULL, TPOOL__PHASE_PENDING | 2 * TPOOL__REFERENCE);
    outcome.kind = TPOOL__OWNED; /* as tpool_return_owned leaves it */
    outcome.is_static = true;
    outcome.payload = &result;
    outcome.payload_free = free_result;
    tpool__store_relaxed(&block.outcome, tpool__outcome_word(&outcome));
    result = noted = 0;
    tpool__depot.home = 0;
    tpool__depot.total = 1;
    tpool__depot.loose = NULL;
}
static void *finish(void *arg) {
    result = 1;
    MODEL_CHECK(tpool_future_set_result(&block, &result) == TPOOL_OK);
    MODEL_CHECK(result == 1); /* not freed yet */
    tpool_future_release(&block);
    return arg;
}
static void *look(void *arg) {
    for (int i = 0; i < MODEL_TRIES && !noted; i++) {
        if (!tpool_future_done(&block)) continue;
        void *got = NULL;
        MODEL_CHECK(tpool_future_result(&block, 0, &got) == TPOOL_OK);
        MODEL_CHECK(*(int *)got == 1);
        noted = 1;
    }
    tpool_future_release(&block);
    return arg;
}
static void model_check(void) {
    MODEL_CHECK(result == 2);
    MODEL_CHECK(tpool__depot.home == 0 && tpool__depot.total == 0); /* given back once */
}
MODEL(finish, look)
