/* TPOOL_STATIC asks for the implementation, which is C: from C++ the header must refuse, and say what to do. */
#define TPOOL_STATIC
#include "tpool.h"

int main() { return 0; }
