/* P13, the other side: a worker comes back from a wait meanwhile, and puts a task into its own lane. */
#include "active.h"

static tpool__waiter waiter;
static void model_reset(void) {
    reset_pool(TPOOL__ROOM | TPOOL__SEARCHER, 1, 3);
    tpool__waiter_link(&pool.blocked_waiters, &waiter);
    pool.blocked = 1;
}
static void *return_and_submit(void *arg) {
    tpool__thread *self = tpool__self();
    self->worker = &workers[1];
    tpool__wait_end(self, &waiter);
    submit_own(&workers[1]);
    self->worker = NULL;
    return arg;
}
MODEL(find_a_task, return_and_submit)
