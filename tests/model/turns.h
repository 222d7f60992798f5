/* model.h, with turns at random between the accesses: without them the windows are too narrow for two thousand runs. And
   items of channels that show whether they are whole. Not for a model checker. */
#ifndef TPOOL_TESTS_TURNS_H
#define TPOOL_TESTS_TURNS_H
#define TPOOL__SCHEDULE_POINT() model_turn()
static void model_turn(void);
#include "model.h"
#include <sched.h>

static _Thread_local unsigned model_chance;
static void model_turn(void) {
    static _Atomic(unsigned) seeds;
    if (!model_chance) model_chance = 2654435761u * (1 + atomic_fetch_add(&seeds, 1)) | 1;
    model_chance = model_chance * 1664525u + 1013904223u;
    if (model_chance >> 28 == 0) sched_yield();
}

typedef struct item {
    long number, twice;
} item;
static inline item item_of(long number) { return (item){ number, 2 * number }; }
static inline bool item_is(const item *it, long number) { return it->number == number && it->twice == 2 * number; }
#endif
