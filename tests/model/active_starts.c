/* P13, the other side: a worker is started meanwhile, finds something, and puts a task into its own lane, before
   whoever starts it has come to tpool__update_room: that it leaves the searchers must tell that another is active. The
   starter holds the pool's lock; without it here more is tried than can be. */
#include "active.h"

static void model_reset(void) { reset_pool(TPOOL__ROOM | TPOOL__SEARCHER, 1, 3); }
static void *start_and_submit(void *arg) {
    tpool__active_add(&pool, 1); /* as tpool__start_prepared */
    tpool__add_relaxed(&pool.gate, TPOOL__SEARCHER);
    workers[1].searching = true; /* the new worker, which is not waited for */
    tpool__stop_searching(&workers[1]);
    submit_own(&workers[1]);
    tpool__update_room(&pool); /* the starter */
    return arg;
}
MODEL(find_a_task, start_and_submit)
