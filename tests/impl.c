/* The implementation, compiled once for the tests that use only the public interface. Unless NDEBUG is defined, it
   checks its own invariants. */
#ifdef NDEBUG
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
#else
#include "internals/check.h"
#endif
