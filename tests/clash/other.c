/* A library that exports its own tpool_create and tpool_destroy, with parameters as others have them. */
#include "other.h"

static int times_created;
static other_pool the_pool;

other_pool *tpool_create(unsigned least, unsigned most, unsigned linger, void *attributes) {
    (void)least;
    (void)most;
    (void)linger;
    (void)attributes;
    the_pool.magic = OTHER_MAGIC;
    the_pool.made = ++times_created;
    return &the_pool;
}

int tpool_destroy(other_pool *pool) { return pool == &the_pool ? OTHER_DESTROYED : 0; }

int other_times_created(void) { return times_created; }
