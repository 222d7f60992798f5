/* P5: what was done before the unpark is seen after the park, whichever comes first; none is lost. */
#include "model.h"

static tpool__parker parker;
static int message, answers;
static void model_reset(void) {
    tpool__store_relaxed(&parker, 0);
    message = answers = 0;
}
static void *sends(void *arg) {
    message = 1;
    tpool__unpark(&parker);
    return arg;
}
static void *receive(void *arg) {
    if (tpool__park(&parker, TPOOL_FOREVER)) {
        MODEL_CHECK(message == 1);
        answers++;
    }
    return arg;
}
static void model_check(void) { MODEL_CHECK(answers == 1 && tpool__load_relaxed(&parker) == 0); }
MODEL(receive, sends)
