/* P18: a channel between threads. One sends, one receives up to the END, one closes at any moment. Each item that was
   sent comes, whole and once, and its place is used again only when it is read. The sender takes the lock of one end
   alone, and the receiver that of the other: so the positions alone order the items' bytes. Not for a model checker,
   which knows no memcpy of what it does not see. */
#include "turns.h"

enum { ITEMS = 6, CAPACITY = 3 }; /* with 2 both ends share a cache line */
static item ring[CAPACITY];
static tpool_channel channel;
static int sent, received;

static void model_reset(void) {
    memset((void *)&channel, 0, sizeof channel);
    channel.capacity = CAPACITY;
    channel.item_size = sizeof(item);
    channel.items = (unsigned char *)ring;
    channel.generation = tpool__generation();
    tpool__channel_lay_out(&channel, false);
    sent = received = 0;
}
static void *sends(void *arg) {
    for (long i = 1; i <= ITEMS; i++) {
        item it = item_of(i);
        tpool_status status;
        while ((status = tpool__channel_try_send(&channel, &it)) == TPOOL_TIMEOUT) sched_yield();
        if (status != TPOOL_OK) {
            MODEL_CHECK(status == TPOOL_SHUTDOWN);
            break;
        }
        sent++;
    }
    return arg;
}
static void *receives(void *arg) {
    for (;;) {
        item it = { 0, 0 };
        tpool_status status;
        while ((status = tpool__channel_try_receive(&channel, &it)) == TPOOL_TIMEOUT) sched_yield();
        if (status != TPOOL_OK) {
            MODEL_CHECK(status == TPOOL_END);
            return arg;
        }
        received++;
        MODEL_CHECK(item_is(&it, received));
    }
}
static void *closes(void *arg) {
    for (int i = 0; i < 200; i++) model_turn();
    MODEL_CHECK(tpool_channel_close(&channel) == TPOOL_OK);
    return arg;
}
static void model_check(void) { MODEL_CHECK(sent == received); }
MODEL(sends, receives, closes)
