/* Tasks that wait outside the queues: what the scenarios of held, repeating and long-running tasks share. */
#ifndef TPOOL_SCHEDULE_HELD_H
#define TPOOL_SCHEDULE_HELD_H
#include "../schedule.h"

static counter ran, freed;
static void count_free(void *arg) {
    (void)arg;
    atomic_fetch_add(&freed.runs, 1);
}
static unsigned failures; /* so many runs of counted_run fail */
__attribute__((unused)) static void *counted_run(void *arg) {
    (void)arg;
    unsigned n = (unsigned)atomic_fetch_add(&ran.runs, 1);
    return n < failures ? tpool_raise((int)n, "no") : NULL;
}
static tpool_future *submitted_task(tpool *pool, tpool_task task) {
    tpool_future *future = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, &future));
    return future;
}
/* A future that the scenario completes. */
__attribute__((unused)) static tpool_future *bare(void) {
    tpool_future *future = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&future));
    return future;
}
__attribute__((unused)) static void *complete(void *future) {
    CHECK_STATUS(TPOOL_OK, tpool_future_set_result(future, NULL));
    tpool_future_release(future);
    return NULL;
}
#endif
