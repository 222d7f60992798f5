/* A count that a lock guards. */
#ifndef TPOOL_TESTS_COUNTED_H
#define TPOOL_TESTS_COUNTED_H
#include "model.h"

static tpool__lock_word lock;
static int count;
static void reset_count(void) {
    tpool__store_relaxed(&lock, 0);
    count = 0;
}
static void *add(void *arg) {
    tpool__lock(&lock);
    count++;
    tpool__unlock(&lock);
    return arg;
}
#endif
