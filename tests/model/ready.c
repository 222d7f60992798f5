/* P8: who sees that the process is ready uses what was made for it, here the key of the hooks at a thread's end. */
#include "model.h"

static void model_reset(void) { tpool__store_relaxed(&tpool__process.ready, 0); }
static void *use(void *arg) {
    MODEL_CHECK(tpool__process_ready());
    MODEL_CHECK(tpool__exit_hook_arm(tpool__self()));
    return arg;
}
static void model_check(void) { MODEL_CHECK(tpool__load_relaxed(&tpool__process.ready) == 1); }
MODEL(use, use)
