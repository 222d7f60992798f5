/* Inside libclash_other. Not for the program, which means other functions by these names. */
#ifndef OTHER_H
#define OTHER_H
#include "clash.h"

#define OTHER_DESTROYED 4711
other_pool *tpool_create(unsigned least, unsigned most, unsigned linger, void *attributes);
int tpool_destroy(other_pool *pool);
#endif
