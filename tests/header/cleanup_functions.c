/* Where pthread_cleanup_push and _pop are functions, as on OpenBSD, and not macros that open and close a block. */
#include <pthread.h>
#undef pthread_cleanup_push
#undef pthread_cleanup_pop
void pthread_cleanup_push(void (*function)(void *), void *argument);
void pthread_cleanup_pop(int execute);

#define TPOOL_IMPLEMENTATION
#include "tpool.h"
