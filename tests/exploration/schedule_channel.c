/* Every interleaving of channels: close, send, receive, limits, stops and refused spare workers against each other. No
   item is lost, none comes twice, none overtakes another, and nobody sleeps on for what has come. */
#include "schedule.h"

static tpool_channel *channel;
static intptr_t sent[2], received[4];
static int received_count;
static tpool_status statuses[3];

static void open_channel(size_t capacity) {
    tpool_channel_config config = { .capacity = capacity };
    CHECK_STATUS(TPOOL_OK, tpool_channel_create(&channel, &config));
}
static tpool_status put(intptr_t item, int64_t limit) { return tpool_channel_send(channel, (void *)item, limit); }
static tpool_status get(intptr_t *item, int64_t limit) {
    void *pointer;
    tpool_status status = tpool_channel_receive(channel, &pointer, limit);
    *item = (intptr_t)pointer;
    CHECK((*item != 0) == (status == TPOOL_OK));
    return status;
}
/* What is still in it, behind what was received. */
static void take_the_rest(void) {
    intptr_t item;
    tpool_status status;
    while ((status = get(&item, 0)) == TPOOL_OK) received[received_count++] = item;
    CHECK(status == TPOOL_TIMEOUT || status == TPOOL_END);
}
static void end_channel(void) { CHECK_STATUS(TPOOL_OK, tpool_channel_destroy(channel)); }

static void *sends_one(void *arg) {
    statuses[0] = put((intptr_t)arg, TPOOL_FOREVER);
    return NULL;
}
static void *sends_both(void *arg) {
    for (int i = 0; i < 2; i++) {
        tpool_status status = put(i + 1, TPOOL_FOREVER);
        CHECK(status == TPOOL_OK || status == TPOOL_SHUTDOWN);
        sent[i] = status == TPOOL_OK;
    }
    return arg;
}
static void *receives_all(void *arg) {
    tpool_status status;
    while ((status = get(&received[received_count], TPOOL_FOREVER)) == TPOOL_OK) received_count++;
    CHECK_STATUS(TPOOL_END, status);
    return arg;
}
static void *receives_one(void *arg) {
    intptr_t which = (intptr_t)arg;
    statuses[which] = get(&received[which], TPOOL_FOREVER);
    return NULL;
}

/* Two threads at one place: each waits for the other, in turn. */
static void send_against_receive(void) {
    open_channel(1);
    pthread_t receiver = started(receives_all, NULL);
    for (intptr_t i = 1; i <= 3; i++) CHECK_STATUS(TPOOL_OK, put(i, TPOOL_FOREVER));
    CHECK_STATUS(TPOOL_OK, tpool_channel_close(channel));
    join(receiver);
    CHECK(received_count == 3);
    for (int i = 0; i < 3; i++) CHECK(received[i] == i + 1);
    end_channel();
}
/* What was sent before the close is received, in order, and nothing else. Both ends learn of it, whether they sleep. */
static void close_against_send_and_receive(void) {
    open_channel(1);
    pthread_t sender = started(sends_both, NULL), receiver = started(receives_all, NULL);
    CHECK_STATUS(TPOOL_OK, tpool_channel_close(channel));
    join(sender);
    join(receiver);
    CHECK(sent[0] >= sent[1] && received_count == sent[0] + sent[1]);
    for (int i = 0; i < received_count; i++) CHECK(received[i] == i + 1);
    outcome(received_count);
    end_channel();
}
/* A sender in line, or about to be, for a full channel: the close turns it away, or its item has got a place. */
static void close_against_sender_and_room(void) {
    open_channel(1);
    CHECK_STATUS(TPOOL_OK, put(7, 0));
    pthread_t sender = started(sends_one, (void *)8), receiver = started(receives_one, (void *)1);
    CHECK_STATUS(TPOOL_OK, tpool_channel_close(channel));
    join(sender);
    join(receiver);
    CHECK(statuses[1] == TPOOL_OK && received[1] == 7);
    received_count = 2;
    take_the_rest();
    CHECK(received_count == 2 + (statuses[0] == TPOOL_OK));
    if (received_count == 3) CHECK(received[2] == 8);
    else CHECK_STATUS(TPOOL_SHUTDOWN, statuses[0]);
    outcome(received_count - 2);
    end_channel();
}
/* One about to sleep, at either end, and only the close can wake it. */
static void close_against_sender(void) {
    open_channel(1);
    CHECK_STATUS(TPOOL_OK, put(7, 0));
    pthread_t sender = started(sends_one, (void *)8);
    CHECK_STATUS(TPOOL_OK, tpool_channel_close(channel));
    join(sender);
    CHECK_STATUS(TPOOL_SHUTDOWN, statuses[0]);
    CHECK(tpool_channel_count(channel) == 1);
    end_channel();
}
static void close_against_receiver(void) {
    open_channel(1);
    pthread_t receiver = started(receives_one, (void *)0);
    CHECK_STATUS(TPOOL_OK, tpool_channel_close(channel));
    join(receiver);
    CHECK_STATUS(TPOOL_END, statuses[0]);
    end_channel();
}
/* Two wait, two items come: each gets one. */
static void two_receivers(void) {
    open_channel(1);
    pthread_t first = started(receives_one, (void *)0), second = started(receives_one, (void *)1);
    CHECK_STATUS(TPOOL_OK, put(1, TPOOL_FOREVER));
    CHECK_STATUS(TPOOL_OK, put(2, TPOOL_FOREVER));
    join(first);
    join(second);
    CHECK(statuses[0] == TPOOL_OK && statuses[1] == TPOOL_OK && received[0] + received[1] == 3);
    outcome((int)received[0] - 1);
    end_channel();
}
/* The place that becomes free belongs to the sender in line; a later one does not get it first. */
static void *sends_first(void *arg) {
    CHECK_STATUS(TPOOL_OK, put(2, TPOOL_FOREVER));
    return arg;
}
static void *sends_later(void *arg) {
    sent[0] = put(3, 0) == TPOOL_OK;
    return arg;
}
static void later_sender_against_room(void) {
    open_channel(1);
    CHECK_STATUS(TPOOL_OK, put(1, 0));
    pthread_t first = started(sends_first, NULL);
    while (!channel->out->awaited) sched_yield();
    pthread_t later = started(sends_later, NULL);
    for (int i = 0; i < 2; i++) CHECK_STATUS(TPOOL_OK, get(&received[i], TPOOL_FOREVER));
    join(first);
    join(later);
    received_count = 2;
    take_the_rest();
    for (int i = 0; i < received_count; i++) CHECK(received[i] == i + 1);
    CHECK(received_count == 2 + (int)sent[0]);
    outcome((int)sent[0]);
    end_channel();
}
/* A limit passes as an item comes: it is received, or still there. */
static void *receives_within_a_second(void *arg) {
    statuses[0] = get(&received[0], TPOOL_SEC(1));
    return arg;
}
static void limit_against_item(void) {
    open_channel(1);
    pthread_t receiver = started(receives_within_a_second, NULL);
    CHECK_STATUS(TPOOL_OK, put(5, 0));
    join(receiver);
    CHECK(statuses[0] == TPOOL_OK || statuses[0] == TPOOL_TIMEOUT);
    CHECK(tpool_channel_count(channel) == (statuses[0] == TPOOL_TIMEOUT));
    outcome(statuses[0] == TPOOL_OK);
    end_channel();
}
/* A limit passes as room comes: the item is in the channel, or still the sender's. */
static void *sends_within_a_second(void *arg) {
    statuses[0] = put(6, TPOOL_SEC(1));
    return arg;
}
static void limit_against_room(void) {
    open_channel(1);
    CHECK_STATUS(TPOOL_OK, put(5, 0));
    pthread_t sender = started(sends_within_a_second, NULL);
    CHECK_STATUS(TPOOL_OK, get(&received[0], 0));
    join(sender);
    CHECK(statuses[0] == TPOOL_OK || statuses[0] == TPOOL_TIMEOUT);
    received_count = 1;
    take_the_rest();
    CHECK(received[0] == 5 && received_count == 1 + (statuses[0] == TPOOL_OK));
    if (received_count == 2) CHECK(received[1] == 6);
    outcome(statuses[0] == TPOOL_OK);
    end_channel();
}
/* A task is asked to stop as it begins to wait, sleeps, or gets its item. */
static void *receives_in_task(void *arg) {
    statuses[0] = get(&received[0], TPOOL_FOREVER);
    return arg;
}
static void stop_against_item(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    open_channel(1);
    tpool_future *future = submitted(pool, receives_in_task, NULL);
    pthread_t sender = started(sends_one, (void *)4);
    tpool_future_request_stop(future);
    CHECK_STATUS(TPOOL_OK, tpool_future_result(future, TPOOL_FOREVER, NULL));
    join(sender);
    tpool_future_release(future);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    CHECK(tpool_channel_count(channel) == (received[0] == 0));
    outcome(received[0] != 0);
    end_channel();
}
/* The same for what else asks a task to stop: the cancel of its group, and its own limit. */
static void ended_against_item(tpool_group *group, int64_t run_limit) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_task task = { .fn = receives_in_task, .group = group, .run_limit_ns = run_limit };
    tpool_future *future;
    open_channel(1);
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, &future));
    pthread_t sender = started(sends_one, (void *)4);
    if (group) CHECK_STATUS(TPOOL_OK, tpool_group_cancel(group));
    (void)!tpool_future_result(future, TPOOL_FOREVER, NULL); /* the cancel may come before the task begins */
    join(sender);
    tpool_future_release(future);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    CHECK(tpool_channel_count(channel) == (received[0] == 0));
    outcome(received[0] != 0);
    end_channel();
}
static void group_cancel_against_item(void) {
    tpool_group *group = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_group_create(&group, NULL));
    ended_against_item(group, 0);
    tpool_status status = tpool_group_destroy(group);
    CHECK(status == TPOOL_OK || status == TPOOL_CANCELLED);
}
static void run_limit_against_item(void) { ended_against_item(NULL, TPOOL_SEC(1)); }
/* Nothing comes: the stop alone ends the wait, or it would hang. */
static void stop_against_sleep(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    open_channel(1);
    tpool_future *future = submitted(pool, receives_in_task, NULL);
    tpool_future_request_stop(future);
    CHECK_STATUS(TPOOL_OK, tpool_future_result(future, TPOOL_FOREVER, NULL));
    CHECK_STATUS(TPOOL_CANCELLED, statuses[0]);
    tpool_future_release(future);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    end_channel();
}
static gate begun;
static void *begins_and_receives(void *arg) {
    gate_open(&begun);
    return receives_in_task(arg);
}
static void group_cancel_against_sleep(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_group *group = NULL;
    tpool_future *future;
    open_channel(1);
    CHECK_STATUS(TPOOL_OK, tpool_group_create(&group, NULL));
    tpool_task task = { .fn = begins_and_receives, .group = group };
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, &future));
    gate_pass(&begun);
    CHECK_STATUS(TPOOL_OK, tpool_group_cancel(group));
    CHECK_STATUS(TPOOL_OK, tpool_future_result(future, TPOOL_FOREVER, NULL)); /* a destroy of the group may wake it */
    CHECK_STATUS(TPOOL_CANCELLED, statuses[0]);
    tpool_future_release(future);
    CHECK_STATUS(TPOOL_OK, tpool_group_destroy(group));
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    end_channel();
}
static void stopping_shutdown_against_sleep(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    open_channel(1);
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, begins_and_receives, NULL, NULL));
    gate_pass(&begun); /* one that begins later is not stopped */
    CHECK_STATUS(TPOOL_OK, tpool_shutdown(pool, TPOOL_STOP_RUNNING | TPOOL_WAIT));
    CHECK_STATUS(TPOOL_CANCELLED, statuses[0]);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    end_channel();
}
/* Producer and consumer on one worker: a spare runs the second; where it is refused, the wait says so. */
static void *sends_in_task(void *arg) {
    statuses[1] = put(9, TPOOL_FOREVER);
    return arg;
}
static void one_worker(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    open_channel(1);
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, receives_in_task, NULL, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, sends_in_task, NULL, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    CHECK(statuses[0] == TPOOL_OK && statuses[1] == TPOOL_OK && received[0] == 9);
    end_channel();
}
static void refused_spare(void) {
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    open_channel(1);
    refuse_thread(2);
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, receives_in_task, NULL, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, sends_in_task, NULL, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    CHECK_STATUS(TPOOL_OK, statuses[1]);
    CHECK(statuses[0] == TPOOL_NO_THREAD || statuses[0] == TPOOL_OK); /* another was tried, and was not refused */
    CHECK(tpool_channel_count(channel) == (statuses[0] == TPOOL_NO_THREAD));
    end_channel();
}
/* Two senders at one end: one finds the end's lock held, and naps until the unlock wakes it, or has looked just
   before. */
static void two_at_one_end(void) {
    open_channel(2);
    pthread_t sender = started(sends_one, (void *)1);
    CHECK_STATUS(TPOOL_OK, put(2, TPOOL_FOREVER));
    join(sender);
    CHECK_STATUS(TPOOL_OK, statuses[0]);
    take_the_rest();
    CHECK(received_count == 2 && received[0] + received[1] == 3);
    outcome((int)received[0] - 1);
    end_channel();
}

SCHEDULES(SCENARIO(send_against_receive, .quick = 1, .preemptions = 3),
          SCENARIO(close_against_send_and_receive, .quick = 2, .preemptions = 3, .outcomes = 3),
          SCENARIO(close_against_sender_and_room, .quick = 1, .preemptions = 3, .outcomes = 2),
          SCENARIO(close_against_sender, .quick = 2, .preemptions = 3),
          SCENARIO(close_against_receiver, .quick = 2, .preemptions = 3),
          SCENARIO(two_receivers, .quick = 1, .preemptions = 3, .outcomes = 2),
          SCENARIO(later_sender_against_room, .quick = 1, .preemptions = 3, .outcomes = 2),
          SCENARIO(limit_against_item, .quick = 2, .preemptions = 3, .outcomes = 2),
          SCENARIO(limit_against_room, .quick = 2, .preemptions = 3, .outcomes = 2),
          SCENARIO(stop_against_item, .quick = 2, .preemptions = 2, .outcomes = 2),
          SCENARIO(group_cancel_against_item, .quick = 2, .preemptions = 2, .outcomes = 2),
          SCENARIO(run_limit_against_item, .quick = 2, .preemptions = 2, .outcomes = 2),
          SCENARIO(group_cancel_against_sleep, .quick = 1, .preemptions = 2),
          SCENARIO(stop_against_sleep, .quick = 2, .preemptions = 3),
          SCENARIO(stopping_shutdown_against_sleep, .quick = 1, .preemptions = 2),
          SCENARIO(one_worker, .quick = 1, .preemptions = 2), SCENARIO(refused_spare, .quick = 1, .preemptions = 2),
          SCENARIO(two_at_one_end, .quick = 2, .preemptions = 3, .outcomes = 2))
