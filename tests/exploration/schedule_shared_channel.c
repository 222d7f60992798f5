/* Every interleaving of a channel that processes share: here each process is a thread with a number of its own. One of
   them may die before any of its accesses: then the rest have all that was sent, whole and in order, and none waits for
   the dead one. Where none dies, the looks that a sleeper takes now and then do not come, so a lost wake is a hang. */
static long long owner_check;
#define TPOOL__OWNER_CHECK owner_check
static void dies_here(void);
#define TPOOL__SCHEDULE_POINT() dies_here()
#include "schedule.h"

enum { PROCESSES = 3, FIRST = 5, VICTIM = 6 }; /* numbers */
typedef struct item {
    intptr_t number, twice;
} item;
/* The beginning of a tpool__owners. The rest is a megabyte that nobody touches, and would be put back each time. */
static _Alignas(
    tpool__owners) unsigned char owners_begin[offsetof(tpool__owners, all) + PROCESSES * sizeof(tpool__owner)];
static tpool__shared_ends ends;
static tpool__region region;
static item ring[2];
static tpool_channel channel;
static int sent[PROCESSES], received[PROCESSES], first_received[PROCESSES];

static _Atomic(uint32_t) dying;
static bool victim_exists;
static pthread_t victim;
static void dies_here(void) {
    if (!victim_exists || pthread_self() != victim) return;
    if (atomic_load_explicit(&dying, memory_order_relaxed)) pthread_exit(NULL);
}

static void open_channel(size_t capacity, int64_t check) {
    owner_check = check;
    region.owners = (tpool__owners *)(void *)owners_begin;
    channel.capacity = capacity;
    channel.item_size = sizeof(item);
    channel.items = (unsigned char *)ring;
    channel.shared = &ends;
    for (uint32_t i = 0; i < PROCESSES; i++) region.owners->all[i].number = FIRST + i;
    region.owners->used = PROCESSES;
}
static tpool__holds *become(uint32_t number) {
    tpool__holds *holds = &tpool__self()->holds;
    holds->region = &region;
    holds->owner = number;
    return holds;
}
/* What the public calls do once they know the channel. */
static tpool_status put(intptr_t number, uint32_t who) {
    tpool__holds *holds = become(who);
    item it = { number, 2 * number };
    tpool__as as = tpool__as_noted(holds);
    tpool_status status = tpool__shared_try_send(&as, &channel, &it);
    if (status != TPOOL_TIMEOUT && status != (tpool_status)TPOOL__NO_LOCK) return status;
    return tpool__shared_channel_wait(holds, &channel, false, &it, TPOOL_FOREVER);
}
static tpool_status get(intptr_t *number, uint32_t who) {
    tpool__holds *holds = become(who);
    item it = { 0, 0 };
    tpool__as as = tpool__as_noted(holds);
    tpool_status status = tpool__shared_try_receive(&as, &channel, &it);
    if (status == TPOOL_TIMEOUT || status == (tpool_status)TPOOL__NO_LOCK)
        status = tpool__shared_channel_wait(holds, &channel, true, &it, TPOOL_FOREVER);
    CHECK((it.number != 0) == (status == TPOOL_OK) && it.twice == 2 * it.number);
    *number = it.number;
    return status;
}
static void *sends_both(void *arg) {
    uint32_t who = (uint32_t)(uintptr_t)arg;
    for (int i = 1; i <= 2; i++) {
        tpool_status status = put(i, who);
        CHECK(status == TPOOL_OK || status == TPOOL_SHUTDOWN);
        if (status != TPOOL_OK) break;
        sent[who - FIRST]++;
    }
    return arg;
}
/* Up to the END. The numbers rise. */
static void *receives_all(void *arg) {
    uint32_t who = (uint32_t)(uintptr_t)arg;
    intptr_t last = 0, number;
    tpool_status status;
    while ((status = get(&number, who)) == TPOOL_OK) {
        CHECK(number > last);
        if (!last) first_received[who - FIRST] = (int)number;
        last = number;
        received[who - FIRST]++;
    }
    CHECK_STATUS(TPOOL_END, status);
    return arg;
}
static void *as_process(uint32_t number) { return (void *)(uintptr_t)number; }
/* SIGKILL, and what the server does when it has reaped it. */
static void kill_victim(void) {
    atomic_store_explicit(&dying, 1, memory_order_relaxed);
    join(victim);
    tpool__store_release(&region.owners->all[VICTIM - FIRST].number, 0);
}

static void send_against_receive(void) {
    open_channel(1, SCHEDULE_NS_A_LONG_TIME);
    pthread_t receiver = started(receives_all, as_process(FIRST));
    sends_both(as_process(FIRST + 2));
    tpool__shared_close(&channel);
    join(receiver);
    CHECK(sent[2] == 2 && received[0] == 2);
}
static void close_against_send_and_receive(void) {
    open_channel(1, SCHEDULE_NS_A_LONG_TIME);
    pthread_t sender = started(sends_both, as_process(FIRST)), receiver = started(receives_all, as_process(FIRST + 2));
    tpool__shared_close(&channel);
    join(sender);
    join(receiver);
    CHECK(received[2] == sent[0]);
    outcome(received[2]);
}
/* Both may sleep as the first item comes: no later call wakes the one that the sender did not wake. */
static void *receives_one(void *arg) {
    uint32_t who = (uint32_t)(uintptr_t)arg;
    intptr_t number;
    CHECK_STATUS(TPOOL_OK, get(&number, who));
    received[who - FIRST] = (int)number;
    return arg;
}
static void two_receivers(void) {
    open_channel(2, SCHEDULE_NS_A_LONG_TIME);
    pthread_t one = started(receives_one, as_process(FIRST)), other = started(receives_one, as_process(FIRST + 1));
    sends_both(as_process(FIRST + 2));
    join(one);
    join(other);
    CHECK(received[0] + received[1] == 3);
    outcome(received[0] - 1);
}
/* An item of the dead one is there or is not; none is there twice, and none that was not sent. */
static void sender_dies(void) {
    open_channel(1, TPOOL_MS(20));
    victim = started(sends_both, as_process(VICTIM));
    victim_exists = true;
    pthread_t receiver = started(receives_all, as_process(FIRST));
    kill_victim();
    CHECK_STATUS(TPOOL_OK, put(3, FIRST + 2));
    tpool__shared_close(&channel);
    join(receiver);
    CHECK(received[0] == sent[VICTIM - FIRST] + 1 || received[0] == sent[VICTIM - FIRST] + 2);
    outcome(received[0] - 1);
}
/* The one that it was about to take comes to the other, or is gone with it. */
static void receiver_dies(void) {
    open_channel(1, TPOOL_MS(20));
    victim = started(receives_all, as_process(VICTIM));
    victim_exists = true;
    pthread_t receiver = started(receives_all, as_process(FIRST));
    CHECK_STATUS(TPOOL_OK, put(1, FIRST + 2));
    kill_victim();
    CHECK_STATUS(TPOOL_OK, put(2, FIRST + 2));
    tpool__shared_close(&channel);
    join(receiver);
    CHECK(received[0] == 2 || (received[0] == 1 && first_received[0] == 2));
    outcome(received[0] == 1 ? 1 + received[VICTIM - FIRST] : 0);
}

SCHEDULES(SCENARIO(send_against_receive, .quick = 2, .preemptions = 4),
          SCENARIO(close_against_send_and_receive, .quick = 2, .preemptions = 3, .outcomes = 3),
          SCENARIO(two_receivers, .quick = 2, .preemptions = 3, .outcomes = 2),
          SCENARIO(sender_dies, .quick = 2, .preemptions = 3, .outcomes = 3),
          SCENARIO(receiver_dies, .quick = 2, .preemptions = 3, .outcomes = 3))
