/* The one file that brings the implementation; the other file of each program here only uses it. */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
