/* P15: two futures' ends put their items into an iterator whose thread in next goes to sleep, or gives up as its time
   is over, or is woken by a wake for all: it gets the items as they were made, and afterwards no thread touches its
   waiter or the iterator. */
#include "model.h"

static tpool_completions completions;
static tpool__item items[2];
static tpool__waiter waiter;
static size_t taken;
static void model_reset(void) {
    tpool__store_relaxed(&completions.arrived, 0);
    tpool__store_relaxed(&completions.lock, 0);
    completions.ready = NULL;
    for (size_t i = 0; i < 2; i++) {
        items[i].owner = &completions;
        items[i].index = 0;
    }
    taken = 0;
}
static void arrive(size_t number) {
    items[number].index = number + 1;
    tpool__unpark_end(tpool__item_done(&items[number].node, NULL, NULL));
}
static void *first(void *arg) {
    tpool__completions_wake(&completions); /* it has added something that may expire */
    arrive(0);
    return arg;
}
static void *second(void *arg) {
    arrive(1);
    return arg;
}
static void take(void) {
    tpool__completions_take(&completions);
    for (tpool__node *node = completions.ready; node; node = node->next, taken++) {
        const tpool__item *item = (const tpool__item *)(void *)node;
        MODEL_CHECK(item == &items[0] || item == &items[1]);
        MODEL_CHECK(item->index == (item == &items[0] ? 1u : 2u));
    }
    completions.ready = NULL;
}
static void *next(void *arg) {
    uint32_t *word = (uint32_t *)(void *)&waiter.parker; /* its memory was something else's, and is so again */
    *word = 0;
    if (tpool__arrivals_enter(&completions, &waiter)) {
        (void)tpool__park(&waiter.parker, 0);
        tpool__arrivals_leave(&completions, &waiter);
    }
    *word = 7;
    take();
    return arg;
}
static void model_check(void) {
    take();
    MODEL_CHECK(taken == 2);
}
MODEL(next, first, second)
