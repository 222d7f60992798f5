/* P18, P21, P25: a channel that processes share. One sends, one closes at any moment, one receives up to the END, and
   sleeps between by `signals` alone, without the looks that a real sleeper takes now and then. So each item that was
   sent comes, whole and once, none comes after the END, and no wake is lost. Here the processes are threads, as in
   page.c; each has a number of its own. Not for a model checker, which has no process pools. */
#include "turns.h"
#include <unistd.h>

enum { ITEMS = 3, CAPACITY = 2 };
static tpool__owners owners;
static tpool__shared_ends ends;
static tpool__region region = { .owners = &owners };
static item ring[CAPACITY];
static tpool_channel channel = {
    .capacity = CAPACITY, .item_size = sizeof(item), .items = (unsigned char *)ring, .shared = &ends
};
static int sent, received, refused;

static void model_reset(void) {
    memset((void *)&ends, 0, sizeof ends);
    sent = received = refused = 0;
    for (uint32_t i = 0; i < 3; i++) { /* all live */
        tpool__store_relaxed(&owners.all[i].pid, (uint32_t)getpid());
        tpool__store_relaxed(&owners.all[i].number, 5 + i);
    }
    tpool__store_relaxed(&owners.used, 3);
}
/* One end of a wait: true: it is over, with a status; false: `signals` has changed. */
static bool waits(tpool__shared_caller *caller) {
    tpool__shared_end *line = tpool__shared_line(caller);
    caller->noted = tpool__load_relaxed(&line->signals) - 1; /* unless it comes into the line, it looks again at once */
    if (tpool__shared_look(&caller->waiter)) return true;
    caller->has_slept = true;
    int64_t end = tpool_now() + TPOOL_SEC(4);
    for (int i = 0; tpool__load_acquire(&line->signals) == caller->noted; i++) {
        if (i % 64 == 63) sched_yield();
        if (i % 1024 == 1023) MODEL_CHECK(tpool_now() < end); /* nobody rings */
    }
    return false;
}
static tpool__shared_caller caller_of(uint32_t number, bool receives, item *it) {
    tpool__shared_caller caller = { .channel = &channel, .as = { &region, number }, .receives = receives, .item = it };
    caller.waiter.self = tpool__self();
    return caller;
}
static void *sends(void *arg) {
    for (long i = 1; i <= ITEMS; i++) {
        item it = item_of(i);
        tpool__shared_caller caller = caller_of(5, false, &it);
        while (!waits(&caller)) { }
        tpool__shared_leave(&caller.waiter);
        if (caller.waiter.status != TPOOL_OK) {
            MODEL_CHECK(caller.waiter.status == TPOOL_SHUTDOWN);
            refused = 1;
            break;
        }
        sent++;
    }
    return arg;
}
static void *receives(void *arg) {
    for (;;) {
        item it = { 0, 0 };
        tpool__shared_caller caller = caller_of(6, true, &it);
        while (!waits(&caller)) { }
        tpool__shared_leave(&caller.waiter);
        if (caller.waiter.status != TPOOL_OK) {
            MODEL_CHECK(caller.waiter.status == TPOOL_END);
            break;
        }
        received++;
        MODEL_CHECK(item_is(&it, received));
    }
    item it;
    MODEL_CHECK(tpool__shared_try_receive(&(tpool__as){ &region, 6 }, &channel, &it) == TPOOL_END);
    return arg;
}
static void *closes(void *arg) {
    tpool__shared_close(&channel);
    return arg;
}
static void model_check(void) {
    MODEL_CHECK(sent == received);
    MODEL_CHECK(sent == ITEMS || refused);
}
MODEL(sends, receives, closes)
