/* P13: "only the active worker looks at the inject lane alone". Another one, which is active no more since it blocks in
   a wait, has left a task in its own lane. */
#include "active.h"

static void model_reset(void) { reset_pool(TPOOL__SEARCHER, 2, 2); }
static void *submit_and_block(void *arg) {
    tpool__thread *self = tpool__self();
    static tpool__waiter waiter;
    self->worker = &workers[1];
    submit_own(&workers[1]);
    MODEL_CHECK(tpool__wait_begin(self, &waiter));
    self->worker = NULL;
    return arg;
}
MODEL(find_a_task, submit_and_block)
