/* P11: an owner takes from its batch without the spinlock. A thread that has walked the batch under the spinlock opens
   it again: what the owner takes then, and frees, the walk has finished with. */
#include "model.h"

static tpool pool;
static tpool__worker worker;
static tpool__segment segment;
static tpool_future block;
static int argument, walked; /* argument: what the task has, and what goes with it */
static void model_reset(void) {
    tpool__entry entry = { 0 };
    argument = 1;
    walked = 0;
    entry.task = &block;
    tpool__task_init(&block, NULL, NULL, &argument, NULL, TPOOL__PHASE_PENDING | 2 * TPOOL__REFERENCE);
    model_reset_lane(&worker.lane, &segment);
    worker.pool = &pool;
    worker.lane.batch_segment = &segment;
    tpool__store_relaxed(&worker.taking, 0);
    tpool__batch_set(&worker.lane, 0, tpool__entry_write(segment.words, &entry), 1);
}
static void *own(void *arg) {
    tpool__entry entry = { 0 };
    for (int i = 0; i < MODEL_TRIES; i++)
        if (tpool__take_own(&worker, &entry)) {
            argument = 0; /* its memory is another's */
            break;
        }
    return arg;
}
static bool look(const tpool__entry *entry, void *of) {
    MODEL_CHECK(entry->task == &block);
    MODEL_CHECK(argument == 1);
    ++*(int *)of;
    return true;
}
static void *walk(void *arg) {
    tpool__lane_walk(&pool, &worker.lane, &worker, look, &walked);
    return arg;
}
static void model_check(void) { MODEL_CHECK(walked <= 1); }
MODEL(own, walk)
