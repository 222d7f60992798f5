/* TPOOL_ASSERT replaces assert: nothing that the smoke test does breaks an assertion, and none calls abort. */
#define _GNU_SOURCE /* system headers come before tpool.h here, so it cannot ask for what it needs itself */
#include <stdatomic.h>

static atomic_int broken_assertions;
#define TPOOL_ASSERT(x) ((x) ? (void)0 : (void)atomic_fetch_add(&broken_assertions, 1))
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
#include "smoke.h"

int main(void) {
    SMOKE(smoke() == 0);
    SMOKE(atomic_load(&broken_assertions) == 0);
    return 0;
}
