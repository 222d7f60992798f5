/* P9: forked jobs of a task may give it outcomes at the same time. The last one stays; who takes out another sees it
   whole, frees what it holds, and nobody else does. */
#include "model.h"

static tpool_future task;
static tpool__outcome outcomes[2];
static int frees[2];
static void count_free(void *payload) { ++*(int *)payload; }
static void model_reset(void) {
    tpool__store_relaxed(&task.outcome, 0);
    frees[0] = frees[1] = 0;
}
static void *give(int number) {
    tpool__outcome *outcome = &outcomes[number];
    outcome->kind = TPOOL__OWNED;
    outcome->is_static = true;
    outcome->payload = &frees[number];
    outcome->payload_free = count_free;
    MODEL_CHECK(tpool__set_outcome(&task, outcome));
    return NULL;
}
static void *give_one(void *arg) {
    (void)arg;
    return give(0);
}
static void *give_another(void *arg) {
    (void)arg;
    return give(1);
}
static void model_check(void) {
    int kept = (int)(tpool__outcome_of(tpool__load_relaxed(&task.outcome)) - outcomes);
    MODEL_CHECK(frees[kept] == 0 && frees[1 - kept] == 1);
}
MODEL(give_one, give_another)
