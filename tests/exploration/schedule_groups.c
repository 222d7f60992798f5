/* Every interleaving of what a group's members, waiters and callers do to it at once: submit, cancel, the count's zero,
   a permit that goes on, release, failures. */
#include "schedule.h"

static counter ran, freed;
static _Atomic(uint32_t) running;
static void count_free(void *arg) {
    (void)arg;
    atomic_fetch_add(&freed.runs, 1);
}
static tpool_group *new_group(tpool_group_config config) {
    tpool_group *group = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_group_create(&group, &config));
    return group;
}
static tpool *the_pool;
static tpool_group *the_group;
static tpool_task member_of(tpool_group *group, tpool_fn fn) {
    return (tpool_task){ .fn = fn, .arg = &ran, .arg_free = count_free, .group = group };
}
static tpool_status submit_member(tpool_group *group, tpool_fn fn) {
    tpool_task task = member_of(group, fn);
    return tpool_submit_task(the_pool, &task, NULL);
}
static tpool_future *kept_member(tpool_group *group, tpool_fn fn) {
    tpool_future *future = NULL;
    tpool_task task = member_of(group, fn);
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(the_pool, &task, &future));
    return future;
}
/* One of a serial queue: no other runs meanwhile. */
static void *run_alone(void *arg) {
    CHECK(atomic_fetch_add(&running, 1) == 0);
    (void)count_task(arg);
    CHECK(atomic_fetch_sub(&running, 1) == 1);
    return arg;
}
static void *fail_member(void *arg) { return tpool_raise((int)atomic_fetch_add(&((counter *)arg)->runs, 1) + 1, "no"); }
static void end_all(tpool_status expected) {
    CHECK_STATUS(expected, tpool_group_wait(the_group, TPOOL_FOREVER, NULL));
    CHECK(tpool_group_count(the_group) == 0);
    CHECK_STATUS(TPOOL_OK, tpool_drain(the_pool, TPOOL_FOREVER));
    CHECK_GROUP(the_group);
    CHECK_STATUS(expected, tpool_group_destroy(the_group));
    end_pool(the_pool);
}
static void *cancel_group(void *group) {
    CHECK_STATUS(TPOOL_OK, tpool_group_cancel((tpool_group *)group));
    return NULL;
}
static tpool_status waited;
static void *wait_for_group(void *group) {
    waited = tpool_group_wait((tpool_group *)group, TPOOL_FOREVER, NULL);
    return NULL;
}

/* A cancel comes as a member is submitted: it is refused, or cancelled, or has run. None is taken and forgotten. */
static void submit_against_cancel(void) {
    the_pool = new_pool((tpool_config){ .max_workers = 1 });
    the_group = new_group((tpool_group_config){ 0 });
    pthread_t helper = started(cancel_group, the_group);
    tpool_status status = submit_member(the_group, count_task);
    CHECK(status == TPOOL_OK || status == TPOOL_CANCELLED);
    join(helper);
    tpool_status end = tpool_group_wait(the_group, TPOOL_FOREVER, NULL);
    CHECK(end == (status == TPOOL_OK && ran.runs == 0 ? TPOOL_CANCELLED : TPOOL_OK));
    CHECK(freed.runs == (status == TPOOL_OK) && ran.runs <= freed.runs);
    CHECK_STATUS(TPOOL_CANCELLED, submit_member(the_group, count_task));
    end_all(end);
    outcome(status != TPOOL_OK ? 0 : ran.runs ? 2 : 1);
}
/* The same in a line for a permit. */
static void line_against_cancel(void) {
    gate g = { 0 };
    the_pool = new_pool((tpool_config){ .max_workers = 1 });
    the_group = new_group((tpool_group_config){ .limit = 1 });
    tpool_task first = { .fn = gate_task, .arg = &g, .group = the_group };
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(the_pool, &first, NULL));
    pthread_t helper = started(cancel_group, the_group);
    tpool_status status = submit_member(the_group, run_alone);
    join(helper);
    gate_open(&g);
    CHECK(ran.runs == 0 && freed.runs == (status == TPOOL_OK));
    tpool_status end = tpool_group_wait(the_group, TPOOL_FOREVER, NULL);
    CHECK(end == TPOOL_CANCELLED || (status != TPOOL_OK && end == TPOOL_OK)); /* the first has run, or not */
    end_all(end);
    outcome(status == TPOOL_OK);
}
/* A submit comes as the count falls to zero and a thread waits: the wait ends, and no member is lost. */
static void submit_against_zero(void) {
    the_pool = new_pool((tpool_config){ .max_workers = 1 });
    the_group = new_group((tpool_group_config){ 0 });
    CHECK_STATUS(TPOOL_OK, submit_member(the_group, count_task));
    pthread_t helper = started(wait_for_group, the_group);
    CHECK_STATUS(TPOOL_OK, submit_member(the_group, count_task));
    join(helper);
    CHECK_STATUS(TPOOL_OK, waited);
    uint32_t by_then = ran.runs;
    CHECK(by_then >= 1);
    end_all(TPOOL_OK);
    CHECK(ran.runs == 2 && freed.runs == 2);
    outcome((int)by_then - 1);
}
/* A thread waits, and the group has a future with a callback, as the last member ends. */
static counter called;
static void count_call(tpool_future *future, void *context) {
    CHECK_STATUS(TPOOL_OK, tpool_future_result(future, 0, NULL));
    atomic_fetch_add(&((counter *)context)->runs, 1);
}
static void wait_against_last(void) {
    tpool_future *end = NULL;
    the_pool = new_pool((tpool_config){ .max_workers = 1 });
    the_group = new_group((tpool_group_config){ 0 });
    pthread_t helper = started(wait_for_group, the_group);
    CHECK_STATUS(TPOOL_OK, submit_member(the_group, count_task));
    CHECK_STATUS(TPOOL_OK, tpool_group_future(the_group, &end));
    CHECK_STATUS(TPOOL_OK, tpool_future_add_done_callback(end, count_call, &called));
    CHECK_STATUS(TPOOL_OK, end_of(end));
    join(helper);
    CHECK_STATUS(TPOOL_OK, waited);
    end_all(TPOOL_OK);
    CHECK(ran.runs == 1 && freed.runs == 1 && called.runs == 1);
}
/* The group's future is cancelled as the last member ends. */
static bool future_cancelled;
static void *cancel_future(void *future) {
    future_cancelled = tpool_future_cancel((tpool_future *)future);
    tpool_future_release((tpool_future *)future);
    return NULL;
}
static void cancel_of_its_future_against_last(void) {
    tpool_future *end = NULL;
    the_pool = new_pool((tpool_config){ .max_workers = 1 });
    the_group = new_group((tpool_group_config){ 0 });
    CHECK_STATUS(TPOOL_OK, submit_member(the_group, count_task));
    CHECK_STATUS(TPOOL_OK, tpool_group_future(the_group, &end));
    pthread_t helper = started(cancel_future, tpool_future_retain(end));
    tpool_status status = end_of(end);
    join(helper);
    CHECK(status == (future_cancelled ? TPOOL_CANCELLED : TPOOL_OK));
    end_all(TPOOL_OK);
    outcome(future_cancelled);
}
/* One permit, which the first member gives to the second as that comes. */
static void *submit_alone(void *group) {
    CHECK_STATUS(TPOOL_OK, submit_member((tpool_group *)group, run_alone));
    return NULL;
}
static void permit_against_line(void) {
    the_pool = new_pool((tpool_config){ .max_workers = 2 });
    the_group = new_group((tpool_group_config){ .limit = 1 });
    pthread_t helper = started(submit_alone, the_group);
    (void)submit_alone(the_group);
    join(helper);
    end_all(TPOOL_OK);
    CHECK(ran.runs == 2 && freed.runs == 2);
}
/* The member that is the next in line is cancelled as it gets the permit; another stands behind it. */
static void permit_against_cancel(void) {
    the_pool = new_pool((tpool_config){ .max_workers = 1 });
    the_group = new_group((tpool_group_config){ .limit = 1 });
    (void)submit_alone(the_group);
    tpool_future *next = kept_member(the_group, run_alone);
    (void)submit_alone(the_group);
    bool cancelled = tpool_future_cancel(next);
    CHECK(end_of(next) == (cancelled ? TPOOL_CANCELLED : TPOOL_OK));
    end_all(cancelled ? TPOOL_CANCELLED : TPOOL_OK);
    CHECK(ran.runs == 3u - cancelled && freed.runs == 3);
    outcome(cancelled);
}
/* Two levels, each with one permit. */
static void permits_of_two_levels(void) {
    the_pool = new_pool((tpool_config){ .max_workers = 1 });
    the_group = new_group((tpool_group_config){ .limit = 1 });
    tpool_group *beneath = new_group((tpool_group_config){ .limit = 1, .parent = the_group });
    pthread_t helper = started(submit_alone, beneath);
    (void)submit_alone(the_group);
    (void)submit_alone(beneath);
    join(helper);
    CHECK_STATUS(TPOOL_OK, tpool_group_wait(beneath, TPOOL_FOREVER, NULL));
    CHECK_STATUS(TPOOL_OK, tpool_group_release(beneath));
    end_all(TPOOL_OK);
    CHECK(ran.runs == 3 && freed.runs == 3);
}
/* The handle is given up as the last member ends: the later of the two frees the group. */
static void release_against_last(void) {
    the_pool = new_pool((tpool_config){ .max_workers = 1 });
    the_group = new_group((tpool_group_config){ 0 });
    tpool_group *beneath = new_group((tpool_group_config){ .parent = the_group });
    CHECK_STATUS(TPOOL_OK, submit_member(beneath, count_task));
    CHECK_STATUS(TPOOL_OK, tpool_group_release(the_group));
    CHECK_STATUS(TPOOL_OK, tpool_group_release(beneath));
    end_pool(the_pool);
    CHECK(ran.runs == 1 && freed.runs == 1);
}
/* The same, with a wait under way. */
static void release_against_wait(void) {
    the_pool = new_pool((tpool_config){ .max_workers = 1 });
    the_group = new_group((tpool_group_config){ 0 });
    CHECK_STATUS(TPOOL_OK, submit_member(the_group, count_task));
    pthread_t helper = started(wait_for_group, the_group);
    schedule_settle();
    CHECK_STATUS(TPOOL_OK, submit_member(the_group, count_task));
    CHECK_STATUS(TPOOL_OK, tpool_group_destroy(the_group));
    join(helper);
    CHECK_STATUS(TPOOL_OK, waited);
    end_pool(the_pool);
    CHECK(ran.runs == 2 && freed.runs == 2);
}
/* Two members fail at once: the first one counts, and what has not started is cancelled. */
static void failure_against_failure(void) {
    const tpool_error *error = NULL;
    the_pool = new_pool((tpool_config){ .max_workers = 2 });
    the_group = new_group((tpool_group_config){ 0 });
    tpool_future *never = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&never));
    tpool_task held = member_of(the_group, count_task);
    held.after = &never;
    held.after_count = 1;
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(the_pool, &held, NULL));
    tpool_status first = submit_member(the_group, fail_member), second = submit_member(the_group, fail_member);
    CHECK_STATUS(TPOOL_OK, first);
    CHECK(second == TPOOL_OK || second == TPOOL_CANCELLED);
    CHECK_STATUS(TPOOL_FAILED, tpool_group_wait(the_group, TPOOL_FOREVER, &error));
    CHECK(error && (error->code == 1 || error->code == 2) && !strcmp(error->message, "no"));
    CHECK(freed.runs == 2 + (second == TPOOL_OK) && ran.runs <= 2);
    int code = error->code;
    tpool_future_release(never);
    end_all(TPOOL_FAILED);
    outcome(ran.runs == 1 ? 0 : code); /* the other did not begin, or which of the two came first */
}
/* A worker that waits executes its member in place, or another has taken it. */
static void *scope(void *arg) {
    tpool_group *group = new_group((tpool_group_config){ 0 });
    CHECK_STATUS(TPOOL_OK, submit_member(group, count_task));
    CHECK_STATUS(TPOOL_OK, tpool_group_destroy(group));
    CHECK(ran.runs == 1 && freed.runs == 1);
    return arg;
}
static void in_place_against_worker(void) {
    the_pool = new_pool((tpool_config){ .max_workers = 2 });
    CHECK_STATUS(TPOOL_OK, end_of(submitted(the_pool, scope, NULL)));
    tpool_stats stats = end_pool(the_pool);
    outcome(stats.inlined > 0);
}
/* A task is asked to stop as it waits for a group that it has created; a member of that waits for the stop. */
static void *until_stopped(void *arg) {
    while (!tpool_stop_requested()) sched_yield();
    return arg;
}
static void *scope_until_stopped(void *arg) {
    tpool_group *group = new_group((tpool_group_config){ 0 });
    CHECK_STATUS(TPOOL_OK, submit_member(group, until_stopped));
    tpool_status status = tpool_group_destroy(group);
    CHECK(status == TPOOL_OK || status == TPOOL_CANCELLED);
    return arg;
}
static void stop_against_wait(void) {
    the_pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *waits = submitted(the_pool, scope_until_stopped, NULL);
    tpool_future_request_stop(waits);
    CHECK_STATUS(TPOOL_OK, end_of(waits));
    end_pool(the_pool);
    CHECK(freed.runs == 1);
}
/* The group is full: a submit that waits for room gets it from the member that ends, or learns of a cancel. */
static tpool_status in_room;
static void *submit_for_room(void *group) {
    in_room = submit_member((tpool_group *)group, count_task);
    return NULL;
}
static void room_against_cancel(void) {
    the_pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_group *bounded = the_group = new_group((tpool_group_config){ .capacity = 1 });
    tpool_group *beneath = new_group((tpool_group_config){ .parent = bounded });
    CHECK_STATUS(TPOOL_OK, submit_member(bounded, count_task));
    pthread_t helper = started(submit_for_room, beneath);
    CHECK_STATUS(TPOOL_OK, tpool_group_cancel(beneath));
    join(helper);
    CHECK(in_room == TPOOL_OK || in_room == TPOOL_CANCELLED);
    (void)tpool_group_destroy(beneath);
    tpool_status end = tpool_group_wait(the_group, TPOOL_FOREVER, NULL);
    CHECK(end == (ran.runs == 1 + (in_room == TPOOL_OK) ? TPOOL_OK : TPOOL_CANCELLED));
    CHECK(freed.runs == 1u + (in_room == TPOOL_OK));
    end_all(end);
    outcome(in_room == TPOOL_OK);
}
static void room_against_release(void) {
    the_pool = new_pool((tpool_config){ .max_workers = 1 });
    the_group = new_group((tpool_group_config){ .capacity = 1 });
    CHECK_STATUS(TPOOL_OK, submit_member(the_group, count_task));
    pthread_t helper = started(submit_for_room, the_group);
    schedule_settle();
    CHECK_STATUS(TPOOL_OK, tpool_group_release(the_group));
    join(helper);
    CHECK(in_room == TPOOL_OK || in_room == TPOOL_SHUTDOWN);
    end_pool(the_pool);
    CHECK(ran.runs == 1u + (in_room == TPOOL_OK) && freed.runs == ran.runs);
}

/* Plain members of a serial group, which come as entries of one carrier: one is added as the carrier finds none left.
   It becomes an entry or a carrier: if it joined the line, so would all behind it. */
static tpool_status submit_plain(void) {
    tpool_task task = { .fn = run_alone, .arg = &ran, .group = the_group };
    return tpool_submit_task(the_pool, &task, NULL);
}
static void begin_plain(unsigned count) {
    the_pool = new_pool((tpool_config){ .max_workers = 1 });
    the_group = new_group((tpool_group_config){ .limit = 1 });
    for (unsigned i = 0; i < count; i++) {
        CHECK_STATUS(TPOOL_OK, submit_plain());
        CHECK(the_group->in_line == 0 || the_pool->measures); /* each that is measured is a task of its own */
    }
}
/* Those that were taken have run, or are counted as cancelled. */
static void end_plain(unsigned taken) {
    tpool_status end = tpool_group_wait(the_group, TPOOL_FOREVER, NULL);
    CHECK(ran.runs <= taken && end == (ran.runs < taken ? TPOOL_CANCELLED : TPOOL_OK));
    tpool_stats stats;
    CHECK_STATUS(TPOOL_OK, tpool_get_stats(the_pool, &stats));
    CHECK(stats.submitted == taken && stats.completed == ran.runs && stats.cancelled == taken - ran.runs);
    CHECK(stats.held == 0);
    end_all(end);
    outcome((int)ran.runs);
}
static void carrier_against_its_end(void) {
    begin_plain(3);
    end_all(TPOOL_OK);
    CHECK(ran.runs == 3);
}
/* A cancel comes between two: what has not begun does not begin, and counts as cancelled. */
static void carrier_against_cancel(void) {
    begin_plain(2);
    pthread_t helper = started(cancel_group, the_group);
    tpool_status status = submit_plain();
    CHECK(status == TPOOL_OK || status == TPOOL_CANCELLED);
    join(helper);
    end_plain(2u + (status == TPOOL_OK));
}
/* A pause comes between two: the carrier goes back into the queue. */
static void *pause_and_resume(void *pool) {
    CHECK_STATUS(TPOOL_OK, tpool_pause((tpool *)pool));
    CHECK_STATUS(TPOOL_OK, tpool_resume((tpool *)pool));
    return NULL;
}
static void carrier_against_pause(void) {
    begin_plain(2);
    pthread_t helper = started(pause_and_resume, the_pool);
    CHECK_STATUS(TPOOL_OK, submit_plain());
    join(helper);
    end_all(TPOOL_OK);
    CHECK(ran.runs == 3);
}
/* ... and is cancelled on the way. */
static void carrier_against_pause_and_cancel(void) {
    begin_plain(4);
    pthread_t helper = started(cancel_group, the_group);
    CHECK_STATUS(TPOOL_OK, tpool_pause(the_pool));
    join(helper);
    (void)tpool_group_wait(the_group, TPOOL_FOREVER, NULL); /* nothing is left to wait in the paused pool */
    CHECK_STATUS(TPOOL_OK, tpool_resume(the_pool));
    end_plain(4);
}
/* A pause that has returned: none but one begins. */
static void carrier_begins_nothing_in_a_pause(void) {
    begin_plain(3);
    CHECK_STATUS(TPOOL_OK, tpool_pause(the_pool));
    unsigned runs = ran.runs;
    (void)tpool_group_count(the_group); /* a while passes */
    CHECK(ran.runs <= runs + 1u);
    CHECK_STATUS(TPOOL_OK, tpool_resume(the_pool));
    end_plain(3);
}
static void *shut_down_cancelling(void *pool) {
    CHECK_STATUS(TPOOL_OK, tpool_shutdown((tpool *)pool, TPOOL_CANCEL_PENDING));
    return NULL;
}
static void carrier_against_shutdown(void) {
    begin_plain(2);
    pthread_t helper = started(shut_down_cancelling, the_pool);
    tpool_status status = submit_plain();
    CHECK(status == TPOOL_OK || status == TPOOL_SHUTDOWN || status == TPOOL_CANCELLED);
    join(helper);
    end_plain(2u + (status == TPOOL_OK));
}
/* A task of a pool of one worker executes them in its wait, beside a cancel. */
static void *add_and_wait(void *arg) {
    (void)arg;
    for (int i = 0; i < 3; i++) (void)submit_plain();
    (void)tpool_group_wait(the_group, TPOOL_FOREVER, NULL);
    return NULL;
}
static void carrier_in_place_against_cancel(void) {
    begin_plain(0);
    tpool_future *future = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_submit(the_pool, add_and_wait, NULL, &future));
    pthread_t helper = started(cancel_group, the_group);
    CHECK_STATUS(TPOOL_OK, tpool_future_result(future, TPOOL_FOREVER, NULL));
    join(helper);
    tpool_future_release(future);
    CHECK(ran.runs <= 3);
    tpool_status end = tpool_group_wait(the_group, TPOOL_FOREVER, NULL);
    tpool_stats stats;
    CHECK_STATUS(TPOOL_OK, tpool_get_stats(the_pool, &stats));
    CHECK(stats.submitted == stats.completed + stats.cancelled && stats.completed == ran.runs + 1u);
    end_all(end);
    outcome((int)ran.runs);
}
/* A waiter from outside and a worker want the same carrier. */
static void carrier_wanted_by_two(void) {
    the_pool = new_pool((tpool_config){ .max_workers = 1 });
    the_group = new_group((tpool_group_config){ .limit = 1, .waiter_runs = true });
    for (int i = 0; i < 3; i++) CHECK_STATUS(TPOOL_OK, submit_plain());
    end_all(TPOOL_OK);
    CHECK(ran.runs == 3);
}

/* A thread executes a member while it waits. Once a drain has returned, the group has none. */
static void drain_against_a_waiter_that_runs(void) {
    the_pool = new_pool((tpool_config){ .max_workers = 1 });
    the_group = new_group((tpool_group_config){ .waiter_runs = true });
    CHECK_STATUS(TPOOL_OK, submit_member(the_group, count_task));
    pthread_t helper = started(wait_for_group, the_group);
    CHECK_STATUS(TPOOL_OK, tpool_drain(the_pool, TPOOL_FOREVER));
    CHECK_STATUS(TPOOL_OK, tpool_group_wait(the_group, 0, NULL));
    join(helper);
    end_all(TPOOL_OK);
}
/* The same if it cancels the member, which has a callback. */
static void note_callback(tpool_future *future, void *of) {
    (void)future;
    atomic_fetch_add(&((counter *)of)->runs, 1);
}
static void *cancel_member(void *future) {
    (void)tpool_future_cancel((tpool_future *)future);
    return NULL;
}
static void drain_against_a_cancel_with_a_callback(void) {
    the_pool = new_pool((tpool_config){ .max_workers = 1 });
    the_group = new_group((tpool_group_config){ 0 });
    tpool_future *future = kept_member(the_group, count_task);
    counter called = { 0 };
    CHECK_STATUS(TPOOL_OK, tpool_future_add_done_callback(future, note_callback, &called));
    pthread_t helper = started(cancel_member, future);
    CHECK_STATUS(TPOOL_OK, tpool_drain(the_pool, TPOOL_FOREVER));
    CHECK(called.runs == 1);
    tpool_status end = tpool_group_wait(the_group, 0, NULL);
    CHECK(end == (ran.runs ? TPOOL_OK : TPOOL_CANCELLED));
    join(helper);
    tpool_future_release(future);
    end_all(end);
    outcome((int)ran.runs);
}

/* A waiter executes one, and the others wait behind it, while the pool is shut down: they are cancelled, or all run. */
static void *shut_down(void *pool) {
    CHECK_STATUS(TPOOL_OK, tpool_shutdown((tpool *)pool, 0));
    return NULL;
}
static void wanted_beside(void *(*how)(void *)) {
    the_pool = new_pool((tpool_config){ .max_workers = 1 });
    the_group = new_group((tpool_group_config){ .limit = 1, .waiter_runs = true });
    for (int i = 0; i < 3; i++) CHECK_STATUS(TPOOL_OK, submit_plain());
    pthread_t helper = started(how, the_pool);
    (void)tpool_group_wait(the_group, TPOOL_FOREVER, NULL);
    join(helper);
    end_plain(3);
}
static void carrier_of_a_waiter_against_cancel(void) { wanted_beside(shut_down_cancelling); }
static void carrier_of_a_waiter_against_shutdown(void) {
    wanted_beside(shut_down);
    CHECK(ran.runs == 3);
}

/* The second worker's initializer fails while the first goes from one to the next: all have run, or the group has
   failed, and those that have not run have broken. */
static _Atomic(uint32_t) setups;
static bool only_one_begins(void *context) {
    (void)context;
    return atomic_fetch_add(&setups, 1) == 0;
}
static void *do_nothing(void *arg) { return arg; }
static void *submit_another(void *pool) {
    tpool_status status = tpool_submit((tpool *)pool, do_nothing, NULL, NULL);
    CHECK(status == TPOOL_OK || status == TPOOL_BROKEN);
    return NULL;
}
static void carrier_against_break(void) {
    atomic_store(&setups, 0);
    the_pool = new_pool((tpool_config){ .max_workers = 2, .initializer = only_one_begins });
    the_group = new_group((tpool_group_config){ .limit = 1 });
    unsigned taken = 0;
    pthread_t helper = started(submit_another, the_pool);
    for (int i = 0; i < 3; i++) {
        tpool_status status = submit_plain();
        CHECK(status == TPOOL_OK || status == TPOOL_BROKEN || status == TPOOL_CANCELLED);
        taken += status == TPOOL_OK;
    }
    join(helper);
    tpool_status end = tpool_group_wait(the_group, TPOOL_FOREVER, NULL);
    CHECK(ran.runs <= taken && end == (ran.runs < taken ? TPOOL_BROKEN : TPOOL_OK));
    tpool_stats stats;
    CHECK_STATUS(TPOOL_OK, tpool_get_stats(the_pool, &stats));
    /* where tasks are measured each is a task of its own: the failure of the group may reach it before the break */
    CHECK(stats.held == 0 && (stats.cancelled == 0 || the_pool->measures));
    end_all(end);
    outcome((int)ran.runs);
}

SCHEDULES(SCENARIO(submit_against_cancel, .quick = 1, .preemptions = 2, .outcomes = 3),
          SCENARIO(line_against_cancel, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(submit_against_zero, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(wait_against_last, .quick = 1, .preemptions = 2),
          SCENARIO(cancel_of_its_future_against_last, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(permit_against_line, .quick = 1, .preemptions = 2),
          SCENARIO(permit_against_cancel, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(permits_of_two_levels, .quick = 1, .preemptions = 1),
          SCENARIO(release_against_last, .quick = 2, .preemptions = 2),
          SCENARIO(release_against_wait, .quick = 1, .preemptions = 2),
          SCENARIO(failure_against_failure, .quick = 1, .preemptions = 2, .outcomes = 3),
          SCENARIO(in_place_against_worker, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(stop_against_wait, .quick = 1, .preemptions = 2),
          SCENARIO(room_against_cancel, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(room_against_release, .quick = 1, .preemptions = 2),
          SCENARIO(carrier_against_its_end, .quick = 2, .preemptions = 2),
          SCENARIO(carrier_against_cancel, .quick = 1, .preemptions = 2, .outcomes = 4),
          SCENARIO(carrier_against_pause, .quick = 1, .preemptions = 2),
          SCENARIO(carrier_against_pause_and_cancel, .quick = 1, .preemptions = 2, .outcomes = 5),
          SCENARIO(carrier_begins_nothing_in_a_pause, .quick = 1, .preemptions = 2),
          SCENARIO(carrier_against_shutdown, .quick = 1, .preemptions = 2, .outcomes = 3),
          SCENARIO(carrier_in_place_against_cancel, .quick = 1, .preemptions = 2, .outcomes = 3),
          SCENARIO(carrier_wanted_by_two, .quick = 1, .preemptions = 2),
          SCENARIO(drain_against_a_waiter_that_runs, .quick = 1, .preemptions = 2),
          SCENARIO(drain_against_a_cancel_with_a_callback, .quick = 1, .preemptions = 2, .outcomes = 2),
          SCENARIO(carrier_against_break, .quick = 1, .preemptions = 1, .outcomes = 4),
          SCENARIO(carrier_of_a_waiter_against_cancel, .quick = 1, .preemptions = 1, .outcomes = 2),
          SCENARIO(carrier_of_a_waiter_against_shutdown, .quick = 1, .preemptions = 1))
