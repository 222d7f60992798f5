/* P14: a worker process claims each item of a chunk before it calls fn, and the program revokes what it gives to
   another worker. So no item is executed twice, and one look tells which have ended and whether one more has begun.
   Here the two sides are threads, as in page.c; the program executes by itself what it has revoked. */
#include "model.h"

#ifdef MODEL_CHECKER
enum { ITEMS = 2 };
#else
enum { ITEMS = 1000 }; /* so that the two sides meet */
#endif
static tpool__page page;
static int executed[ITEMS]; /* not atomic: to execute one twice is a race, too */
static uint32_t ended, begun;

static void model_reset(void) {
    tpool__store_relaxed(&page.items_begun, 0);
    tpool__store_relaxed(&page.items_done, 0);
    tpool__store_relaxed(&page.items_used, 0);
    for (int i = 0; i < ITEMS; i++) executed[i] = 0;
}
static void *work(void *arg) {
    for (uint32_t i = 0; i < ITEMS; i++) {
        if (!tpool__page_claim(&page.items_begun, i, i + 1)) break;
        executed[i]++;
        tpool__page_write(&page, i + 1, i + 1);
    }
    return arg;
}
static void *give_to_another(void *arg) {
    uintptr_t used;
    begun = tpool__page_revoke(&page.items_begun, TPOOL__NO_ITEM);
    ended = tpool__page_read(&page, &used);
    MODEL_CHECK(begun <= ended + 1); /* the claim of an item publishes those before it */
    for (uint32_t i = 0; i < ended; i++) MODEL_CHECK(executed[i] == 1);
    for (uint32_t i = begun > ended ? begun : ended; i < ITEMS; i++) executed[i]++;
    return arg;
}
static void model_check(void) {
    for (int i = 0; i < ITEMS; i++) MODEL_CHECK(executed[i] == 1);
}
MODEL(work, give_to_another)
