/* Of two workers that run out of work at the same time one finds the pool quiet: each clears `busy`, passes the inject
   spinlock, and then looks at the other. That is a store and a load of another word, which only the spinlock between
   them keeps in this order. */
#include "model.h"

static tpool pool;
static tpool__worker workers[2];
static int found_quiet[2];
static void model_reset(void) {
    tpool__store_relaxed(&pool.workers, &workers[0]);
    tpool__store_relaxed(&workers[0].next, &workers[1]);
    tpool__store_relaxed(&pool.draining, 1);
    for (int i = 0; i < 2; i++) {
        workers[i].pool = &pool;
        tpool__store_relaxed(&workers[i].busy, true);
        tpool__store_relaxed(&workers[i].counts[TPOOL__COMPLETED], 0);
        found_quiet[i] = 0;
    }
}
static void *end(int number) {
    tpool__count_own(&workers[number], TPOOL__COMPLETED);
    tpool__set_busy(&workers[number], false);
    tpool__wake_drainers_if_any(&pool, false);
    found_quiet[number] = tpool__ended(&pool) == 2 && !tpool__any_busy(&pool); /* how tpool__is_quiet begins */
    return NULL;
}
static void *end_one(void *arg) {
    (void)arg;
    return end(0);
}
static void *end_another(void *arg) {
    (void)arg;
    return end(1);
}
static void model_check(void) { MODEL_CHECK(found_quiet[0] || found_quiet[1]); }
MODEL(end_one, end_another)
