/* Another file of the library, which calls what the first one exports: through the dynamic linker, as it is in any
   library that exports what it calls. (In one file, clang would inline the calls.) The zeros are harmless to our
   tpool_create, should it be reached: it refuses them. */
#include "other.h"
#include <stddef.h>

other_pool *other_open(void) {
    int before = other_times_created();
    other_pool *pool = tpool_create(0, 0, 0, NULL);
    if (other_times_created() != before + 1) return NULL;
    return tpool_destroy(pool) == OTHER_DESTROYED ? pool : NULL;
}
