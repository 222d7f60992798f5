/* The same for contestants in C++. */
#include "all.c"
