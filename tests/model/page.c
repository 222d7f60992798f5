/* P14: whoever sees how many answers a worker process has given sees these answers, and how long they are, also while
   the worker goes on. Here the two sides are threads: what they share is the page, and its orders are C11's. */
#include "model.h"

enum { ANSWERS = 2, BYTES = 16 };
static tpool__page page;
static uint32_t answers[ANSWERS];

static void model_reset(void) {
    tpool__store_relaxed(&page.items_done, 0);
    tpool__store_relaxed(&page.items_used, 0);
    answers[0] = answers[1] = 0;
}
static void *answer(void *arg) {
    for (uint32_t i = 0; i < ANSWERS; i++) {
        answers[i] = 42 + i;
        tpool__page_write(&page, i + 1, (uintptr_t)(i + 1) * BYTES);
    }
    return arg;
}
static void *look(void *arg) {
    uintptr_t used;
    uint32_t done = tpool__page_read(&page, &used);
    MODEL_CHECK(used >= (uintptr_t)done * BYTES);
    for (uint32_t i = 0; i < done; i++) MODEL_CHECK(answers[i] == 42 + i);
    return arg;
}
static void model_check(void) { MODEL_CHECK(tpool__load_relaxed(&page.items_done) == ANSWERS); }
MODEL(answer, look)
