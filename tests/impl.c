/* The implementation, compiled once for the tests that use only the public interface. */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
