/* P11: an owner takes from its batch without the spinlock. A thread that closes the batch under the spinlock knows
   afterwards what has started: each task is either still there, or claimed, and never both. */
#include "model.h"

static tpool pool;
static tpool__worker worker;
static tpool__segment segment;
static tpool_future block;
static int argument, owned, closed;
static void model_reset(void) {
    tpool__entry entry = { 0 };
    argument = 1;
    owned = closed = 0;
    entry.task = &block;
    tpool__task_init(&block, NULL, NULL, &argument, NULL, TPOOL__PHASE_PENDING | 2 * TPOOL__REFERENCE);
    worker.pool = &pool;
    worker.lane.batch_segment = &segment;
    tpool__store_relaxed(&worker.lane.lock, 0);
    tpool__store_relaxed(&worker.taking, 0);
    tpool__batch_set(&worker.lane, 0, tpool__entry_write(segment.words, &entry), 1);
}
static void *own(void *arg) {
    tpool__entry entry = { 0 };
    if (tpool__take_own(&worker, &entry)) {
        MODEL_CHECK(entry.task == &block && *(int *)entry.task->value == 1);
        owned++;
    }
    return arg;
}
static void *close_run(void *arg) {
    tpool__entry entry = { 0 };
    tpool__spin_lock(&worker.lane.lock);
    tpool__batch_open(&worker, false);
    if (tpool__batch_pop(&worker.lane, &entry, 0)) {
        MODEL_CHECK(tpool__claim(entry.task, TPOOL__PHASE_CANCELLING));
        closed++;
    }
    MODEL_CHECK((tpool__load_relaxed(&block.state) & TPOOL__PHASE) !=
                TPOOL__PHASE_PENDING); /* nothing starts after this */
    tpool__spin_unlock(&worker.lane.lock);
    return arg;
}
static void model_check(void) { MODEL_CHECK(owned + closed == 1); }
MODEL(own, close_run)
