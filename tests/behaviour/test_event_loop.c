/* An iterator inside an event loop: the descriptor tells the truth, level-triggered; on_ready calls once for each time
   that next has found nothing; expiry, destroy, fork, and waits beside it. */
#include "support.h"
#include "support/held.h"
#if !defined(_WIN32)
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#endif
#ifdef __linux__
#include <sys/epoll.h>
#endif

/* Whether the loop would be woken within that time. */
static bool is_readable_within(intptr_t descriptor, int ms) {
#if defined(_WIN32)
    return WaitForSingleObject((HANDLE)descriptor, (DWORD)ms) == WAIT_OBJECT_0;
#else
    struct pollfd asked = { .fd = (int)descriptor, .events = POLLIN };
    return poll(&asked, 1, ms) == 1 && asked.revents == POLLIN;
#endif
}
static bool is_readable(intptr_t descriptor) { return is_readable_within(descriptor, 0); }

static tpool_completions *iterator(void) {
    tpool_completions *completions = NULL;
    REQUIRE_STATUS(TPOOL_OK, tpool_as_completed(NULL, 0, &completions));
    return completions;
}
static intptr_t descriptor_of(tpool_completions *completions) {
    intptr_t descriptor = -1;
    REQUIRE_STATUS(TPOOL_OK, tpool_completions_descriptor(completions, &descriptor));
    return descriptor;
}
static tpool_status next_now(tpool_completions *completions) {
    tpool_future *future;
    return tpool_completions_next(completions, 0, &future);
}
/* A promise in the iterator, whose own reference is the caller's. */
static tpool_future *promised(tpool_completions *completions) {
    tpool_future *promise = NULL;
    REQUIRE_STATUS(TPOOL_OK, tpool_future_create(&promise));
    REQUIRE_STATUS(TPOOL_OK, tpool_completions_add(completions, promise));
    return promise;
}
static void keep(tpool_future *promise) {
    REQUIRE_STATUS(TPOOL_OK, tpool_future_set_result(promise, NULL));
    tpool_future_release(promise);
}

/* ---- The descriptor */

static void it_is_readable_as_long_as_next_has_something(void **state) {
    (void)state;
    tpool_completions *completions = iterator();
    tpool_future *promises[5];
    for (int i = 0; i < 5; i++) promises[i] = promised(completions);
    intptr_t descriptor = descriptor_of(completions);
    assert_int_equal(descriptor, descriptor_of(completions));
    assert_status(TPOOL_TIMEOUT, next_now(completions));
    for (int round = 0; round < 2; round++) {
        assert_false(is_readable(descriptor));
        for (int i = 0; i < 2; i++) keep(promises[2 * round + i]);
        assert_true(is_readable(descriptor));
        assert_status(TPOOL_OK, next_now(completions));
        assert_true(is_readable(descriptor)); /* one more */
        assert_status(TPOOL_OK, next_now(completions));
        assert_status(TPOOL_TIMEOUT, next_now(completions));
    }
    keep(promises[4]);
    assert_true(is_readable(descriptor));
    assert_status(TPOOL_OK, next_now(completions));
    assert_status(TPOOL_END, next_now(completions));
    assert_false(is_readable(descriptor));
    tpool_completions_destroy(completions);
}
static void what_was_done_before_it_was_asked_for_counts(void **state) {
    (void)state;
    tpool_completions *completions = iterator();
    tpool_future *first = promised(completions), *second = promised(completions);
    keep(first);
    keep(second);
    tpool_future *future;
    assert_status(TPOOL_OK, tpool_completions_next(completions, 0, &future)); /* takes over both */
    assert_true(is_readable(descriptor_of(completions)));
    assert_status(TPOOL_OK, next_now(completions));
    assert_status(TPOOL_END, next_now(completions));
    assert_false(is_readable(descriptor_of(completions)));
    tpool_completions_destroy(completions);
}
static void an_add_of_a_done_future_is_told(void **state) {
    (void)state;
    tpool_completions *completions = iterator();
    intptr_t descriptor = descriptor_of(completions);
    for (int i = 0; i < 3; i++) {
        assert_status(TPOOL_END, next_now(completions));
        assert_false(is_readable(descriptor));
        tpool_future *promise = NULL;
        assert_status(TPOOL_OK, tpool_future_create(&promise));
        assert_status(TPOOL_OK, tpool_future_set_result(promise, NULL));
        assert_status(TPOOL_OK, tpool_completions_add(completions, promise));
        tpool_future_release(promise);
        assert_true(is_readable(descriptor));
        assert_status(TPOOL_OK, next_now(completions));
    }
    tpool_completions_destroy(completions);
}
static void a_cancel_from_the_loop_s_own_thread_is_told(void **state) {
    (void)state;
    held_pool held;
    held_create(&held, NULL);
    tpool_completions *completions = iterator();
    intptr_t descriptor = descriptor_of(completions);
    tpool_future *queued = submitted(held.pool, nothing, NULL), *future = NULL;
    assert_status(TPOOL_OK, tpool_completions_add(completions, queued));
    assert_status(TPOOL_TIMEOUT, next_now(completions));
    assert_false(is_readable(descriptor));
    assert_true(tpool_future_cancel(queued));
    assert_true(is_readable(descriptor));
    assert_status(TPOOL_OK, tpool_completions_next(completions, 0, &future));
    assert_ptr_equal(queued, future);
    tpool_future_release(queued);
    tpool_completions_destroy(completions);
    held_destroy(&held);
}
static void an_expiry_is_noticed_though_every_worker_is_busy(void **state) {
    (void)state;
    held_pool held;
    held_create(&held, NULL);
    tpool_completions *completions = iterator();
    intptr_t descriptor = descriptor_of(completions);
    for (int i = 0; i < 3; i++) { /* added before and after a look; the later one expires first */
        tpool_future *late = submitted_task(held.pool, (tpool_task){ .fn = nothing, .expires_ns = TPOOL_SEC(3600) });
        assert_status(TPOOL_OK, tpool_completions_add(completions, late));
        tpool_future_release(late);
        if (i > 0) assert_status(TPOOL_TIMEOUT, next_now(completions));
        tpool_future *soon = submitted_task(held.pool, (tpool_task){ .fn = nothing, .expires_ns = TPOOL_MS(30) });
        assert_status(TPOOL_OK, tpool_completions_add(completions, soon));
        tpool_future *future = NULL;
        int64_t limit = tpool_now() + LIMIT;
        tpool_status status;
        while ((status = tpool_completions_next(completions, 0, &future)) == TPOOL_TIMEOUT && tpool_now() < limit)
            assert_true(is_readable_within(descriptor, 10000));
        assert_status(TPOOL_OK, status);
        assert_ptr_equal(soon, future);
        assert_status(TPOOL_EXPIRED, tpool_future_result(soon, 0, NULL));
        tpool_future_release(soon);
    }
    tpool_completions_destroy(completions);
    held_destroy(&held);
}
/* Whatever ends a held task, on whatever thread, is told like the end of any other. */
static void a_held_task_is_told_however_it_ends(void **state) {
    (void)state;
    enum { TASKS = 6 };
    static const tpool_status ends[TASKS] = { TPOOL_OK,        TPOOL_OK,      TPOOL_CANCELLED,
                                              TPOOL_CANCELLED, TPOOL_EXPIRED, TPOOL_EXPIRED };
    held_pool held;
    held_create(&held, NULL); /* its worker notices nothing */
    tpool *pool = new_pool(1);
    tpool_completions *completions = iterator();
    intptr_t descriptor = descriptor_of(completions);
    for (int i = 0; i < TASKS; i++) {
        tpool_future *first = bare(), *task = NULL, *future = NULL;
        tpool_task t = after(nothing, NULL, &first, 1, TPOOL_AFTER_SUCCESS);
        t.completions = completions;
        if (i == 1) t.fn = NULL;
        if (i == 4) t.timeout_ns = TPOOL_MS(5);
        if (i == 5) t.expires_ns = 1; /* once it is ready */
        task = submitted_task(i == 0 ? pool : held.pool, t);
        if (i != 4) {
            assert_status(TPOOL_TIMEOUT, next_now(completions));
            assert_false(is_readable(descriptor));
        }
        if (i == 2) assert_status(TPOOL_OK, tpool_future_set_error(first, 1, "as asked"));
        else if (i == 3) assert_true(tpool_future_cancel(task));
        else if (i != 4) assert_status(TPOOL_OK, tpool_future_set_result(first, NULL));
        tpool_status status = TPOOL_TIMEOUT;
        for (int64_t limit = tpool_now() + LIMIT; status == TPOOL_TIMEOUT && tpool_now() < limit;) {
            assert_true(is_readable_within(descriptor, 10000));
            status = tpool_completions_next(completions, 0, &future);
        }
        assert_status(TPOOL_OK, status);
        assert_ptr_equal(task, future);
        assert_status(ends[i], tpool_future_result(task, 0, NULL));
        tpool_future_release(task);
        tpool_future_release(first);
    }
    assert_status(TPOOL_END, next_now(completions));
    tpool_completions_destroy(completions);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    held_destroy(&held);
}
static tpool_status wait_for_next(void *completions) {
    tpool_future *future;
    return tpool_completions_next((tpool_completions *)completions, LIMIT, &future);
}
static void a_next_that_waits_and_a_loop_that_polls_take_turns(void **state) {
    (void)state;
    tpool_completions *completions = iterator();
    intptr_t descriptor = descriptor_of(completions);
    tpool_future *promises[4], *future;
    for (int i = 0; i < 4; i++) promises[i] = promised(completions);
    assert_status(TPOOL_TIMEOUT, tpool_completions_next(completions, TPOOL_MS(5), &future));
    assert_false(is_readable(descriptor));
    background waits;
    background_start(&waits, wait_for_next, completions);
    background_await_block(&waits);
    keep(promises[0]);
    assert_int_equal(TPOOL_OK, background_join(&waits));
    keep(promises[1]);
    assert_true(is_readable(descriptor));
    assert_status(TPOOL_OK, next_now(completions));
    assert_status(TPOOL_TIMEOUT, tpool_completions_next(completions, TPOOL_MS(5), &future));
    assert_false(is_readable(descriptor));
    background_start(&waits, wait_for_next, completions);
    background_await_block(&waits);
    keep(promises[2]);
    keep(promises[3]); /* the wait takes one of them */
    assert_int_equal(TPOOL_OK, background_join(&waits));
    assert_true(is_readable(descriptor));
    assert_status(TPOOL_OK, next_now(completions));
    assert_status(TPOOL_END, next_now(completions));
    assert_false(is_readable(descriptor));
    tpool_completions_destroy(completions);
}
static void bad_input_is_refused(void **state) {
    (void)state;
    tpool_completions *completions = iterator();
    intptr_t descriptor = 5;
    assert_status(TPOOL_INVALID, tpool_completions_descriptor(NULL, &descriptor));
    assert_int_equal(-1, descriptor);
    assert_status(TPOOL_INVALID, tpool_completions_descriptor(completions, NULL));
    assert_status(TPOOL_INVALID, tpool_completions_on_ready(NULL, (void (*)(void *))free, NULL));
    assert_status(TPOOL_INVALID, tpool_completions_on_ready(completions, NULL, NULL));
    (void)descriptor_of(completions);
    assert_status(TPOOL_INVALID_STATE, tpool_completions_on_ready(completions, (void (*)(void *))free, NULL));
    tpool_completions_destroy(completions);
}

/* A loop that polls, takes one or all, and sleeps again loses nothing, whenever the tasks end. */
static void nothing_is_lost_between_an_empty_look_and_the_poll(void **state) {
    (void)state;
    enum { TASKS = 2000 };
    tpool *pool = new_pool(2);
    tpool_completions *completions = iterator();
    intptr_t descriptor = descriptor_of(completions);
    int yielded = 0;
    for (int i = 0; i < TASKS; i++) {
        tpool_future *future = submitted(pool, nothing, NULL);
        assert_status(TPOOL_OK, tpool_completions_add(completions, future));
        tpool_future_release(future);
        if (i % 7 == 0)
            while (next_now(completions) == TPOOL_OK) yielded++;
        if (i % 3 == 0 && next_now(completions) == TPOOL_OK) yielded++;
    }
    while (yielded < TASKS) {
        assert_true(is_readable_within(descriptor, 10000));
        if (yielded % 2 && next_now(completions) == TPOOL_OK) yielded++;
        else
            while (next_now(completions) == TPOOL_OK) yielded++;
    }
    assert_status(TPOOL_END, next_now(completions));
    tpool_completions_destroy(completions);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

#if !defined(_WIN32)
/* The number of a closed descriptor may be another file's: nothing of ours may be written there. */
static void a_destroy_beside_the_last_completion_writes_into_no_other_file(void **state) {
    (void)state;
    tpool *pool = new_pool(2);
    for (int round = 0; round < 2000; round++) {
        tpool_completions *completions = iterator();
        tpool_future *future = submitted(pool, nothing, NULL);
        assert_status(TPOOL_OK, tpool_completions_add(completions, future));
        tpool_future_release(future);
        (void)descriptor_of(completions);
        (void)next_now(completions);
        tpool_completions_destroy(completions);
        int ends[2];
        char byte[8];
        assert_int_equal(0, pipe(ends)); /* takes the numbers that have become free */
        assert_int_equal(0, fcntl(ends[0], F_SETFL, O_NONBLOCK));
        if (round % 16 == 0) assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
        assert_true(read(ends[0], byte, sizeof byte) < 0);
        close(ends[0]);
        close(ends[1]);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_child_of_fork_leaves_the_parents_loop_alone(void **state) {
    (void)state;
    if (UNDER_TSAN) skip(); /* it counts the parent's threads as the child's leaks */
    tpool_completions *completions = iterator();
    tpool_future *promise = promised(completions);
    intptr_t descriptor = descriptor_of(completions);
    assert_status(TPOOL_TIMEOUT, next_now(completions));
    pid_t child = fork();
    if (child == 0) {
        intptr_t own = 0;
        bool broken = tpool_completions_descriptor(completions, &own) == TPOOL_BROKEN && own == -1 &&
                      tpool_completions_on_ready(completions, (void (*)(void *))free, NULL) == TPOOL_BROKEN &&
                      next_now(completions) == TPOOL_BROKEN;
        tpool_completions_destroy(completions);
        _exit(broken ? 0 : 1);
    }
    int ended = 0;
    assert_true(waitpid(child, &ended, 0) == child);
    assert_true(WIFEXITED(ended) && WEXITSTATUS(ended) == 0);
    assert_false(is_readable(descriptor));
    keep(promise);
    assert_true(is_readable(descriptor));
    assert_status(TPOOL_OK, next_now(completions));
    tpool_completions_destroy(completions);
}
static void a_refused_descriptor_is_a_status_and_changes_nothing(void **state) {
    (void)state;
    tpool_completions *completions = iterator();
    tpool_future *promise = promised(completions);
    struct rlimit before, none;
    assert_int_equal(0, getrlimit(RLIMIT_NOFILE, &before));
    none = before;
    none.rlim_cur = 0;
    assert_int_equal(0, setrlimit(RLIMIT_NOFILE, &none));
    intptr_t descriptor = 7;
    tpool_status status = tpool_completions_descriptor(completions, &descriptor);
    assert_int_equal(0, setrlimit(RLIMIT_NOFILE, &before));
    assert_status(TPOOL_NO_THREAD, status);
    assert_int_equal(-1, descriptor);
    assert_status(TPOOL_TIMEOUT, next_now(completions));
    descriptor = descriptor_of(completions);
    assert_status(TPOOL_TIMEOUT, next_now(completions));
    keep(promise);
    assert_true(is_readable(descriptor));
    tpool_completions_destroy(completions);
}
#endif
#ifdef __linux__
/* How often an eventfd was written to since it was cleared. -1: it is no eventfd. */
static long writes_to(intptr_t descriptor) {
    char name[64], line[200];
    long writes = -1;
    (void)snprintf(name, sizeof name, "/proc/self/fdinfo/%d", (int)descriptor);
    FILE *info = fopen(name, "r");
    REQUIRE(info != NULL);
    while (fgets(line, sizeof line, info))
        if (strncmp(line, "eventfd-count:", 14) == 0) writes = strtol(line + 14, NULL, 16);
    (void)fclose(info);
    return writes;
}
static void it_is_written_to_once_for_each_next_that_found_nothing(void **state) {
    (void)state;
    tpool_completions *completions = iterator();
    intptr_t descriptor = descriptor_of(completions);
    for (int round = 0; round < 5; round++) {
        assert_status(TPOOL_END, next_now(completions));
        if (writes_to(descriptor) < 0) skip(); /* a pipe */
        assert_int_equal(0, writes_to(descriptor));
        for (int i = 0; i < 1000; i++) keep(promised(completions));
        assert_int_equal(1, writes_to(descriptor));
        for (int i = 0; i < 1000; i++) assert_status(TPOOL_OK, next_now(completions));
    }
    tpool_completions_destroy(completions);
}
/* A loop that uses epoll's edges drains at each event. */
static void an_edge_comes_for_each_time_that_next_found_nothing(void **state) {
    (void)state;
    tpool_completions *completions = iterator();
    int loop = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = { .events = EPOLLIN | EPOLLET };
    intptr_t descriptor = descriptor_of(completions);
    assert_int_equal(0, epoll_ctl(loop, EPOLL_CTL_ADD, (int)descriptor, &event));
    while (epoll_wait(loop, &event, 1, 0) == 1) { }
    for (int round = 0; round < 100; round++) {
        assert_status(TPOOL_END, next_now(completions));
        tpool_future *first = promised(completions), *second = promised(completions);
        assert_int_equal(0, epoll_wait(loop, &event, 1, 0));
        keep(first);
        keep(second);
        assert_int_equal(1, epoll_wait(loop, &event, 1, 10000));
        assert_status(TPOOL_OK, next_now(completions));
        assert_status(TPOOL_OK, next_now(completions));
    }
    close(loop);
    tpool_completions_destroy(completions);
}
#endif

/* ---- on_ready */

static void count_call(void *counted) { atomic_fetch_add((atomic_int *)counted, 1); }

static void it_calls_once_for_each_next_that_found_nothing(void **state) {
    (void)state;
    atomic_int calls = 0;
    tpool_completions *completions = iterator();
    tpool_future *promises[6];
    for (int i = 0; i < 6; i++) promises[i] = promised(completions);
    assert_status(TPOOL_OK, tpool_completions_on_ready(completions, count_call, &calls));
    assert_status(TPOOL_INVALID_STATE, tpool_completions_on_ready(completions, count_call, &calls));
    intptr_t descriptor;
    assert_status(TPOOL_INVALID_STATE, tpool_completions_descriptor(completions, &descriptor));
    assert_int_equal(0, atomic_load(&calls));
    keep(promises[0]); /* after on_ready itself */
    assert_int_equal(1, atomic_load(&calls));
    keep(promises[1]);
    assert_int_equal(1, atomic_load(&calls));
    assert_status(TPOOL_OK, next_now(completions));
    keep(promises[2]);
    assert_int_equal(1, atomic_load(&calls));
    assert_status(TPOOL_OK, next_now(completions));
    assert_status(TPOOL_OK, next_now(completions));
    assert_status(TPOOL_TIMEOUT, next_now(completions));
    assert_status(TPOOL_TIMEOUT, next_now(completions)); /* still one */
    keep(promises[3]);
    assert_int_equal(2, atomic_load(&calls));
    keep(promises[4]);
    keep(promises[5]);
    for (int i = 0; i < 3; i++) assert_status(TPOOL_OK, next_now(completions));
    assert_status(TPOOL_END, next_now(completions));
    assert_int_equal(2, atomic_load(&calls));
    keep(promised(completions));
    assert_int_equal(3, atomic_load(&calls));
    tpool_completions_destroy(completions);
    assert_int_equal(3, atomic_load(&calls));
}
static void it_calls_at_once_if_there_is_something_already(void **state) {
    (void)state;
    atomic_int calls = 0;
    tpool_completions *completions = iterator();
    keep(promised(completions));
    assert_status(TPOOL_OK, tpool_completions_on_ready(completions, count_call, &calls));
    assert_int_equal(1, atomic_load(&calls));
    tpool_completions_destroy(completions);
}
static void it_calls_when_a_queued_task_expires(void **state) {
    (void)state;
    atomic_int calls = 0;
    held_pool held;
    held_create(&held, NULL);
    tpool_completions *completions = iterator();
    tpool_future *soon = submitted_task(held.pool, (tpool_task){ .fn = nothing, .expires_ns = TPOOL_MS(20) });
    assert_status(TPOOL_OK, tpool_completions_add(completions, soon));
    assert_status(TPOOL_OK, tpool_completions_on_ready(completions, count_call, &calls));
    REQUIRE_EVENTUALLY(atomic_load(&calls) > 0);
    REQUIRE_EVENTUALLY(next_now(completions) == TPOOL_OK);
    assert_status(TPOOL_EXPIRED, tpool_future_result(soon, 0, NULL));
    tpool_future_release(soon);
    tpool_completions_destroy(completions);
    held_destroy(&held);
}

static gate in_call = GATE_CLOSED;
static void call_at_gate(void *context) {
    (void)context;
    gate_pass(&in_call);
}
static tpool_status destroy_iterator(void *completions) {
    tpool_completions_destroy((tpool_completions *)completions);
    return TPOOL_OK;
}
static void a_destroy_waits_for_the_call_that_runs(void **state) {
    (void)state;
    tpool *pool = new_pool(1);
    tpool_completions *completions = iterator();
    gate g = GATE_CLOSED;
    tpool_future *task = held_at(pool, &g);
    assert_status(TPOOL_OK, tpool_completions_add(completions, task));
    assert_status(TPOOL_OK, tpool_completions_on_ready(completions, call_at_gate, NULL));
    gate_open(&g);
    AWAIT_ARRIVALS(&in_call, 1);
    background destroys;
    background_start(&destroys, destroy_iterator, completions);
    sleep_ms(20);
    assert_false(atomic_load(&destroys.returned));
    gate_open(&in_call);
    assert_int_equal(TPOOL_OK, background_join(&destroys));
    tpool_future_release(task);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* A callback completes what the iterator waits for, whose call is listed behind it, and destroys the iterator. */
typedef struct destroyer {
    tpool_completions *completions;
    tpool_future *promise;
    atomic_int calls;
} destroyer;
static void complete_and_destroy(tpool_future *future, void *of) {
    destroyer *d = (destroyer *)of;
    (void)future;
    keep(d->promise);
    tpool_completions_destroy(d->completions);
}
static tpool_status end_in_a_callback(void *of) {
    destroyer *d = (destroyer *)of;
    tpool_future *outer = NULL;
    REQUIRE_STATUS(TPOOL_OK, tpool_future_create(&outer));
    REQUIRE_STATUS(TPOOL_OK, tpool_future_add_done_callback(outer, complete_and_destroy, d));
    keep(outer);
    return TPOOL_OK;
}
static void a_destroy_in_a_callback_takes_back_the_call_that_is_listed(void **state) {
    (void)state;
    destroyer d = { .completions = iterator() };
    d.promise = promised(d.completions);
    assert_status(TPOOL_OK, tpool_completions_on_ready(d.completions, count_call, &d.calls));
    background ends;
    background_start(&ends, end_in_a_callback, &d);
    assert_int_equal(TPOOL_OK, background_join(&ends));
    assert_int_equal(0, atomic_load(&d.calls));
}

/* While a call runs in one thread, next finds nothing again, and something comes: one more call. */
static void what_comes_while_a_call_runs_is_called_for_afterwards(void **state) {
    (void)state;
    static atomic_int calls;
    tpool *pool = new_pool(1);
    tpool_completions *completions = iterator();
    gate g = GATE_CLOSED;
    gate_close(&in_call);
    tpool_future *task = held_at(pool, &g), *second = promised(completions);
    assert_status(TPOOL_OK, tpool_completions_add(completions, task));
    assert_status(TPOOL_OK, tpool_completions_on_ready(completions, call_at_gate, &calls));
    gate_open(&g);
    AWAIT_ARRIVALS(&in_call, 1);
    assert_status(TPOOL_OK, next_now(completions));
    assert_status(TPOOL_TIMEOUT, next_now(completions));
    keep(second);
    assert_int_equal(1, gate_arrived(&in_call));
    gate_open(&in_call);
    AWAIT_ARRIVALS(&in_call, 2);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    tpool_completions_destroy(completions);
    tpool_future_release(task);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* The call waits for room in a pool whose only worker destroys the iterator: a spare worker makes room. */
typedef struct full_pool {
    tpool *pool;
    tpool_completions *completions;
    gate before;
} full_pool;
static gate submits_now = GATE_CLOSED;
static void submit_to_a_full_queue(void *pool) {
    gate_pass(&submits_now);
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
}
static void *destroys_when_told(void *of) {
    full_pool *f = of;
    gate_pass(&f->before);
    tpool_completions_destroy(f->completions);
    return of;
}
static tpool_status keep_it(void *promise) {
    keep(promise);
    return TPOOL_OK;
}
static tpool_status end_of_it(void *future) { return end_of(future); }
static void a_worker_that_destroys_leaves_its_place_while_the_call_waits_for_room(void **state) {
    (void)state;
    full_pool f = { .completions = iterator(), .before = GATE_CLOSED };
    f.pool = new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1 });
    tpool_future *promise = promised(f.completions), *destroys = submitted(f.pool, destroys_when_told, &f);
    gate_await_arrivals(&f.before, 1);
    assert_status(TPOOL_OK, tpool_completions_on_ready(f.completions, submit_to_a_full_queue, f.pool));
    assert_status(TPOOL_OK, tpool_submit(f.pool, nothing, NULL, NULL)); /* it is full */
    background completes, ends;
    background_start(&completes, keep_it, promise);
    gate_await_arrivals(&submits_now, 1);
    background_start(&ends, end_of_it, destroys);
    gate_open(&submits_now);
    gate_open(&f.before);
    assert_int_equal(TPOOL_OK, background_join(&ends));
    assert_int_equal(TPOOL_OK, background_join(&completes));
    assert_status(TPOOL_OK, tpool_destroy(f.pool));
}

static tpool *drained;
static atomic_int drain_status;
static void drain_it(void *context) {
    (void)context;
    atomic_store(&drain_status, (int)tpool_drain(drained, TPOOL_MS(2000)));
}
static void a_call_may_not_wait_for_the_pool_whose_worker_makes_it(void **state) {
    (void)state;
    drained = new_pool(1);
    atomic_store(&drain_status, -1);
    tpool_completions *completions = iterator();
    gate g = GATE_CLOSED;
    tpool_future *task = held_at(drained, &g);
    assert_status(TPOOL_OK, tpool_completions_add(completions, task));
    assert_status(TPOOL_OK, tpool_completions_on_ready(completions, drain_it, NULL));
    gate_open(&g);
    REQUIRE_EVENTUALLY(atomic_load(&drain_status) != -1);
    assert_int_equal(TPOOL_DEADLOCK, atomic_load(&drain_status));
    tpool_completions_destroy(completions);
    tpool_future_release(task);
    assert_status(TPOOL_OK, tpool_destroy(drained));
}

#if !defined(_WIN32)
static void end_the_thread(void *calls) {
    if (atomic_fetch_add((atomic_int *)calls, 1) == 0) pthread_exit(NULL);
}
static void a_call_that_ends_its_thread_is_over(void **state) {
    (void)state;
    static atomic_int calls;
    tpool *pool = new_pool(1);
    tpool_completions *completions = iterator();
    gate g = GATE_CLOSED;
    tpool_future *task = held_at(pool, &g);
    assert_status(TPOOL_OK, tpool_completions_add(completions, task));
    assert_status(TPOOL_OK, tpool_completions_on_ready(completions, end_the_thread, &calls));
    gate_open(&g);
    REQUIRE_EVENTUALLY(atomic_load(&calls) == 1);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_status(TPOOL_OK, next_now(completions));
    assert_status(TPOOL_END, next_now(completions));
    tpool_future *another = submitted(pool, nothing, NULL); /* on the worker that took its place */
    assert_status(TPOOL_OK, tpool_completions_add(completions, another));
    REQUIRE_EVENTUALLY(atomic_load(&calls) == 2);
    tpool_future_release(another);
    tpool_future_release(task);
    tpool_completions_destroy(completions);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* The call of an expiry is the timekeeper's: another takes its place. */
static void a_call_that_ends_the_timekeeper_ends_no_times(void **state) {
    (void)state;
    static atomic_int calls;
    held_pool held;
    held_create(&held, NULL);
    tpool_completions *completions = iterator();
    for (int i = 0; i < 2; i++) {
        tpool_future *soon = submitted_task(held.pool, (tpool_task){ .fn = nothing, .expires_ns = TPOOL_MS(500) });
        assert_status(TPOOL_OK, tpool_completions_add(completions, soon));
        if (i == 0) assert_status(TPOOL_OK, tpool_completions_on_ready(completions, end_the_thread, &calls));
        else assert_status(TPOOL_TIMEOUT, next_now(completions));
        REQUIRE_EVENTUALLY(atomic_load(&calls) > i);
        REQUIRE_EVENTUALLY(next_now(completions) == TPOOL_OK);
        tpool_future_release(soon);
    }
    tpool_completions_destroy(completions);
    held_destroy(&held);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_readable_as_long_as_next_has_something),
        cmocka_unit_test(what_was_done_before_it_was_asked_for_counts),
        cmocka_unit_test(an_add_of_a_done_future_is_told),
        cmocka_unit_test(a_cancel_from_the_loop_s_own_thread_is_told),
        cmocka_unit_test(an_expiry_is_noticed_though_every_worker_is_busy),
        cmocka_unit_test(a_held_task_is_told_however_it_ends),
        cmocka_unit_test(a_next_that_waits_and_a_loop_that_polls_take_turns),
        cmocka_unit_test(bad_input_is_refused),
        cmocka_unit_test(nothing_is_lost_between_an_empty_look_and_the_poll),
#if !defined(_WIN32)
        cmocka_unit_test(a_destroy_beside_the_last_completion_writes_into_no_other_file),
        cmocka_unit_test(a_child_of_fork_leaves_the_parents_loop_alone),
        cmocka_unit_test(a_refused_descriptor_is_a_status_and_changes_nothing),
#endif
#ifdef __linux__
        cmocka_unit_test(it_is_written_to_once_for_each_next_that_found_nothing),
        cmocka_unit_test(an_edge_comes_for_each_time_that_next_found_nothing),
#endif
        cmocka_unit_test(it_calls_once_for_each_next_that_found_nothing),
        cmocka_unit_test(it_calls_at_once_if_there_is_something_already),
        cmocka_unit_test(it_calls_when_a_queued_task_expires),
        cmocka_unit_test(a_destroy_waits_for_the_call_that_runs),
        cmocka_unit_test(a_destroy_in_a_callback_takes_back_the_call_that_is_listed),
        cmocka_unit_test(what_comes_while_a_call_runs_is_called_for_afterwards),
        cmocka_unit_test(a_worker_that_destroys_leaves_its_place_while_the_call_waits_for_room),
        cmocka_unit_test(a_call_may_not_wait_for_the_pool_whose_worker_makes_it),
#if !defined(_WIN32)
        cmocka_unit_test(a_call_that_ends_its_thread_is_over),
        cmocka_unit_test(a_call_that_ends_the_timekeeper_ends_no_times),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
