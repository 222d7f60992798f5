/* P13, the other side: a worker that is woken meanwhile, finds something, and puts a task into its own lane. */
#include "active.h"

static void model_reset(void) {
    reset_pool(TPOOL__ROOM | TPOOL__SEARCHER, 1, 3);
    reset_sleeper(&workers[1], &workers[2]);
}
static void *wake_and_submit(void *arg) {
    tpool__lock(&pool.lock);
    bool roused = workers[1].asleep;
    if (roused) tpool__wake_worker(&pool, &workers[1]);
    tpool__unlock(&pool.lock);
    MODEL_CHECK(roused);
    tpool__stop_searching(&workers[1]);
    submit_own(&workers[1]);
    return arg;
}
MODEL(find_a_task, wake_and_submit)
