/* The one file that brings the implementation; each other file here is a program that only uses it:
 *
 *     cc -std=c11 -pthread -I. examples/caveats/implementation.c examples/caveats/deadline.c && ./a.out
 */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
