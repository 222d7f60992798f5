/* P1, where there are CPUs to spare: who finds the lock held looks again before it sleeps. */
#include "counted.h"

static void model_reset(void) {
    tpool__store_relaxed(&tpool__spare_cpus, 1);
    reset_count();
}
static void model_check(void) { MODEL_CHECK(count == 2); }
MODEL(add, add)
