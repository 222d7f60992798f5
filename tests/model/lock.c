/* P1: what one holder of the lock did is seen by the next, and there is one at a time. */
#include "counted.h"

static void model_reset(void) { reset_count(); }
static void model_check(void) { MODEL_CHECK(count == 3); }
MODEL(add, add, add)
