/* The implementation for a compiler that has none of GNU's extensions. */
#include "dialect.h"

#define TPOOL_IMPLEMENTATION
#include "tpool.h"
