/* Faults that only the inside can bring about: fork refused, a worker that dies with its task taken and not begun, one
   that sends what is not true, and memory that cannot be had. */
#define _GNU_SOURCE
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
static void at_point(uint32_t kind);
static void *failing_malloc(size_t size);
static void counted_free(void *ptr);
#define TPOOL_MALLOC(size) failing_malloc(size)
#define TPOOL_FREE(ptr) counted_free(ptr)
#define TPOOL__FORK() refused_fork()
#define TPOOL__PROCESS_POINT(kind) at_point(kind)
#define TPOOL__PATIENCE_MS patience_ms
#define TPOOL__SERVER_CHECK_MS check_ms
static _Atomic(int) patience_ms, check_ms;
static pid_t refused_fork(void);
#include "internals/check.h"
#include "support/children.h"
#include <sys/socket.h>
#include <sys/time.h>
#include <limits.h>

typedef struct common {
    shared_gate gate;
    _Atomic(int) refused, die_at, deaths, begun, left, program, spoiling, slow_ms, slow_one, beside, holding, held,
        fork_held, keeper, servers_end, servers_forks;
    _Atomic(int) executed[4];
} common;
static common *all;

/* A process that the program forks for itself, in another thread, while the pool's is about to be forked. */
static void *fork_beside(void *unused) {
    pid_t pid = fork();
    if (pid == 0) {
        atomic_store(&all->left, descriptors_open());
        _exit(0);
    }
    assert_int_equal(pid, waitpid(pid, NULL, 0));
    return unused;
}
static pid_t refused_fork(void) {
    pthread_t thread;
    if (atomic_exchange(&all->beside, 0) > 0) {
        assert_int_equal(0, pthread_create(&thread, NULL, fork_beside, NULL));
        assert_int_equal(0, pthread_join(thread, NULL));
    }
    if (atomic_load(&all->refused) > 0) {
        atomic_fetch_sub(&all->refused, 1);
        errno = EAGAIN;
        return -1;
    }
    if (atomic_load(&all->fork_held) == getpid()) {
        atomic_fetch_add(&all->gate.arrived, 1);
        while (atomic_load(&all->fork_held)) sleep_ms(1);
    }
    if (getpid() != (pid_t)atomic_load(&all->program) &&
        (atomic_load(&all->slow_one) == 0 || getpid() == (pid_t)atomic_load(&all->slow_one)))
        sleep_ms(atomic_load(&all->slow_ms));
    if (getppid() == (pid_t)atomic_load(&all->keeper)) atomic_fetch_add(&all->servers_forks, 1);
    pid_t pid = fork();
    if (pid == 0 && atomic_load(&all->servers_end) && getppid() == (pid_t)atomic_load(&all->keeper)) {
        atomic_fetch_add(&all->deaths, 1);
        if (atomic_load(&all->servers_end) == SIGKILL) raise(SIGKILL);
        _exit(TPOOL__NOT_PREPARED);
    }
    return pid;
}

/* In the worker, once: it is not killed with its server, and goes on when the gate opens. */
static void outlive_the_server(void) {
    if (atomic_load(&all->holding) == 0 || atomic_fetch_sub(&all->holding, 1) != 1) return;
    atomic_store(&all->held, getpid());
#if defined(__linux__)
    prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
#endif
    shared_gate_pass(&all->gate);
}
/* In the worker: between taking a task and beginning it. */
static void at_point(uint32_t kind) {
    if ((kind == TPOOL__RUN || kind == TPOOL__RUN_ITEMS) && atomic_load(&all->die_at) > 0) {
        atomic_fetch_sub(&all->die_at, 1);
        atomic_fetch_add(&all->deaths, 1);
        raise(SIGKILL);
    }
    if (kind == TPOOL__RUN) outlive_the_server();
}

static _Atomic(long) allocated;
static _Atomic(int) fail_after; /* -1: never */
static void at_allocation(void);
static void *failing_malloc(size_t size) {
    at_allocation();
    int left = atomic_load(&fail_after);
    if (left >= 0 && atomic_fetch_sub(&fail_after, 1) == 0) return NULL;
    void *at = malloc(size);
    if (at) atomic_fetch_add(&allocated, 1);
    return at;
}
static void counted_free(void *ptr) {
    if (ptr) atomic_fetch_sub(&allocated, 1);
    free(ptr);
}

static int set_up(void **state) {
    (void)state;
    memset((void *)all, 0, sizeof *all);
    atomic_store(&fail_after, -1);
    patience_ms = 60000;
    check_ms = 60000; /* what is told is known without a look */
    return 0;
}
static void *count_and_getpid(void *arg) {
    (void)arg;
    atomic_fetch_add(&all->begun, 1);
    return (void *)(intptr_t)getpid();
}

#if defined(__linux__)
/* A child that no handler of fork knows of holds the worker's end of the replies. */
static void *crashes_beside_a_grandchild(void *arg) {
    pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (child == 0) {
        alarm(60);
        setsid();
        while (atomic_load(&all->gate.open) == 0) sleep_ms(1);
        _exit(0);
    }
    while (getsid(child) != child) sleep_ms(1);
    raise(SIGKILL);
    return arg;
}
static void a_death_is_told_in_the_workers_place(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    tpool_future *future = submitted(pool, crashes_beside_a_grandchild, NULL);
    assert_status(TPOOL_BROKEN, tpool_future_result(future, TPOOL_SEC(20), NULL));
    tpool_future_release(future);
    atomic_store(&all->gate.open, 1);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
#endif

/* Else it would hold them for as long as it lives, and destroy would wait for their end. */
static void a_process_forked_beside_create_keeps_none_of_its_descriptors(void **state) {
    (void)state;
    int before = descriptors_open();
    atomic_store(&all->beside, 1);
    tpool *pool = process_pool(1);
    assert_int_equal(0, atomic_load(&all->beside));
    assert_int_equal(before, atomic_load(&all->left));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(before, descriptors_open());
}
static void fork_refused_at_create(void **state) {
    (void)state;
    tpool *pool = (tpool *)&state;
    atomic_store(&all->refused, 1);
    assert_status(TPOOL_NO_THREAD, tpool_create(&pool, &(tpool_config){ .kind = TPOOL_PROCESSES }));
    assert_null(pool);
    pool = process_pool(1);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* Of the two forks at create the second, in the process in between. */
static void fork_refused_to_a_spare_is_no_harm(void **state) {
    (void)state;
    tpool_future *future;
    tpool *pool = process_pool(1);
    atomic_store(&all->refused, 1);
    assert_status(TPOOL_NO_THREAD, tpool_submit(pool, count_and_getpid, NULL, &future)); /* no worker: nothing taken */
    assert_null(future);
    assert_status(TPOOL_OK, end_of(submitted(pool, count_and_getpid, NULL)));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void work_waits_for_the_worker_that_runs_if_a_second_is_refused(void **state) {
    (void)state;
    enum { TASKS = 20 };
    tpool_future *futures[TASKS];
    tpool *pool = process_pool(4);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 1));
    atomic_store(&all->refused, 1000000);
    for (int i = 0; i < TASKS; i++) assert_status(TPOOL_OK, tpool_submit(pool, count_and_getpid, NULL, &futures[i]));
    for (int i = 0; i < TASKS; i++) {
        assert_status(TPOOL_OK, end_of(futures[i]));
    }
    tpool_stats stats;
    EVENTUALLY(tpool_get_stats(pool, &stats) == TPOOL_OK && stats.workers == 1); /* the others give up */
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* A worker dies of its task, and its replacement is refused so often: the end of the next task. */
static void a_worker_dies_whose_replacement_is_refused(tpool *pool, int times, tpool_status end_of_next) {
    assert_status(TPOOL_OK, tpool_warm_up(pool, 1));
    atomic_store(&all->refused, times);
    tpool_future *broken = submitted(pool, aborts, NULL), *next = submitted(pool, count_and_getpid, NULL);
    assert_status(TPOOL_BROKEN, end_of(broken));
    assert_status(end_of_next, end_of(next));
}
/* Refused for a moment only: the worker that has died is replaced, and nothing else is lost. */
static void a_replacement_refused_for_a_moment_is_tried_again(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    a_worker_dies_whose_replacement_is_refused(pool, 3, TPOOL_OK);
    assert_int_equal(0, atomic_load(&all->refused));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* Refused for good: what waits has an end too, drain returns, and later the pool goes on. */
static void a_replacement_refused_for_good_strands_nobody(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    a_worker_dies_whose_replacement_is_refused(pool, 1000000, TPOOL_BROKEN);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    tpool_future *next;
    assert_status(TPOOL_NO_THREAD, tpool_submit(pool, count_and_getpid, NULL, &next));
    atomic_store(&all->refused, 0);
    assert_status(TPOOL_OK, end_of(submitted(pool, count_and_getpid, NULL)));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_task_taken_and_not_begun_runs_on_another_worker(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    atomic_store(&all->die_at, 2);
    assert_status(TPOOL_OK, end_of(submitted(pool, count_and_getpid, NULL)));
    assert_int_equal(2, atomic_load(&all->deaths));
    assert_int_equal(1, atomic_load(&all->begun));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_task_that_no_worker_lives_to_begin_is_broken(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    atomic_store(&all->die_at, 3);
    assert_status(TPOOL_BROKEN, end_of(submitted(pool, count_and_getpid, NULL)));
    assert_int_equal(0, atomic_load(&all->begun));
    assert_status(TPOOL_OK, end_of(submitted(pool, count_and_getpid, NULL)));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void *item_task(void *item, void *context) {
    (void)context;
    return (void *)(intptr_t)(*(int *)item + 1);
}
static void a_chunk_taken_and_not_begun_runs_on_another_worker(void **state) {
    (void)state;
    int items[10];
    for (int i = 0; i < 10; i++) items[i] = i;
    tpool *pool = process_pool(1);
    atomic_store(&all->die_at, 2);
    tpool_map_iter *iter = map_over_ints(pool, item_task, items, 10, 5);
    for (int i = 0; i < 10; i++) {
        void *result;
        assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, &result));
        assert_int_equal(i + 1, (intptr_t)result);
    }
    tpool_map_close(iter);
    assert_int_equal(2, atomic_load(&all->deaths));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- what a damaged worker might send */

static void say(tpool__message message) {
    if (write(tpool__in_child.replies, &message, sizeof message) < 0) _exit(1);
    sleep_ms(20000);
}
static tpool__message well(void) {
    tpool__message message;
    memset(&message, 0, sizeof message);
    message.number = tpool__in_child.number;
    message.kind = TPOOL__DONE;
    message.answer.kind = TPOOL__SOME_BYTES;
    return message;
}
static void *another_number(void *arg) {
    tpool__message m = well();
    m.number++;
    say(m);
    return arg;
}
static void *another_kind(void *arg) {
    tpool__message m = well();
    m.kind = 77;
    say(m);
    return arg;
}
static void *a_reply_out_of_turn(void *arg) {
    tpool__message m = well();
    m.kind = TPOOL__READY;
    say(m);
    return arg;
}
static void *too_many_bytes(void *arg) {
    tpool__message m = well();
    m.answer.size = UINT64_MAX;
    say(m);
    return arg;
}
static void *just_too_many(void *arg) {
    tpool__message m = well();
    m.answer.size = tpool__in_child.result.mapped + 1;
    say(m);
    return arg;
}
static void *value_outside(void *arg) {
    tpool__message m = well();
    m.answer.kind = TPOOL__BYTES_AT;
    m.answer.size = 8;
    m.answer.value = 9;
    say(m);
    return arg;
}
static void *unknown_answer(void *arg) {
    tpool__message m = well();
    m.answer.kind = 9;
    say(m);
    return arg;
}
static void *an_error_without_end(void *arg) {
    tpool__message m = well();
    m.answer.kind = TPOOL__AN_ERROR;
    m.answer.size = (uint64_t)1 << 40;
    say(m);
    return arg;
}
static void *half_a_message(void *arg) {
    if (write(tpool__in_child.replies, "?", 1) != 1) _exit(1);
    sleep_ms(20000);
    return arg;
}
/* A GiB of nothing: a file of that length, in which no byte has been written. */
static void *claims_what_it_has_not_written(void *arg) {
    tpool__message m = well();
    m.answer.size = (uint64_t)1 << 30;
    if (ftruncate(tpool__in_child.memory, (off_t)(((size_t)1 << 30) + tpool__in_child.result.start)) != 0) _exit(1);
    say(m);
    return arg;
}
static void *full_without_items(void *arg) {
    tpool__message m = well();
    m.kind = TPOOL__ITEMS_FULL;
    say(m);
    return arg;
}
static void what_is_not_true_breaks_that_worker_only(void **state) {
    (void)state;
    const tpool_fn liars[] = {
        another_number,    another_kind,   a_reply_out_of_turn,  too_many_bytes, just_too_many,
        value_outside,     unknown_answer, an_error_without_end, half_a_message, claims_what_it_has_not_written,
        full_without_items
    };
    tpool *pool = process_pool(2);
    for (size_t i = 0; i < sizeof liars / sizeof *liars; i++) {
        tpool_future *liar, *honest;
        liar = submitted(pool, liars[i], NULL);
        honest = submitted(pool, count_and_getpid, NULL);
        assert_status(TPOOL_BROKEN, tpool_future_result(liar, LIMIT, NULL));
        assert_non_null(strstr(tpool_future_message(liar), "damaged"));
        assert_status(TPOOL_OK, tpool_future_result(honest, LIMIT, NULL));
        tpool_future_release(liar);
        tpool_future_release(honest);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void *lying_item(void *item, void *context) {
    (void)context;
    int n = *(int *)item;
    if (n == 3) { /* more done than there are, in a window of nonsense */
        memset(tpool__in_child.result.bytes, 0xEE, tpool__in_child.result.mapped);
        atomic_store(&tpool__in_child.page->items_done, 1000000);
        say(well());
    }
    return (void *)(intptr_t)n;
}
static void a_chunk_of_lies_has_an_end(void **state) {
    (void)state;
    int items[6];
    for (int i = 0; i < 6; i++) items[i] = i;
    tpool *pool = process_pool(1);
    tpool_map_iter *iter = map_over_ints(pool, lying_item, items, 6, 6);
    int broken = 0;
    for (int i = 0; i < 6; i++) broken += tpool_map_next(iter, LIMIT, NULL) == TPOOL_BROKEN;
    assert_true(broken >= 1);
    assert_status(TPOOL_END, tpool_map_next(iter, LIMIT, NULL));
    tpool_map_close(iter);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* One that says it is done before it is costs the item at hand, and no more: it executes no other, and another does. */
static void *item_that_says_it_is_done(void *item, void *context) {
    (void)context;
    int n = *(int *)item;
    atomic_fetch_add(&all->executed[n], 1);
    if (n == 1) {
        tpool__message m = well();
        m.answer.kind = 0;
        say(m);
    }
    return (void *)(intptr_t)n;
}
static void a_chunk_that_is_done_too_early_is_no_chunk_done(void **state) {
    (void)state;
    int items[] = { 0, 1, 2, 3 };
    tpool *pool = process_pool(1);
    tpool_map_iter *iter = map_over_ints(pool, item_that_says_it_is_done, items, 4, 4);
    for (int i = 0; i < 4; i++) {
        assert_status(i == 1 ? TPOOL_BROKEN : TPOOL_OK, tpool_map_next(iter, TPOOL_SEC(20), NULL));
        assert_int_equal(1, atomic_load(&all->executed[i]));
    }
    assert_status(TPOOL_END, tpool_map_next(iter, LIMIT, NULL));
    tpool_map_close(iter);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* A result that is longer than its bytes are crashes the task, as it would elsewhere, before anybody pays for it. */
static void note_memory(int number) {
    struct stat is;
    if (fstat(tpool__in_child.memory, &is) == 0) atomic_store(&all->left, (int)(is.st_blocks / 2048)); /* MiB */
    signal(number, SIG_DFL);
    raise(number);
}
static void *returns_more_than_there_is(void *arg) {
    (void)arg;
    char *bytes = mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(bytes + (1 << 20), 1 << 20);
    signal(SIGSEGV, note_memory);
    return tpool_return(bytes, (size_t)1 << 30);
}
static void nobody_pays_for_a_result_that_is_not_there(void **state) {
    (void)state;
    if (SLOW_TOOL) skip(); /* which end the task in a way of their own */
    tpool_future *future;
    tpool *pool = process_pool(1);
    atomic_store(&all->left, -1);
    future = submitted(pool, returns_more_than_there_is, NULL);
    assert_status(TPOOL_BROKEN, tpool_future_result(future, LIMIT, NULL));
    assert_non_null(strstr(tpool_future_message(future), "SIGSEGV"));
    assert_in_range(atomic_load(&all->left), 0, 100);
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* Numbers of requests come again after 2^32 of them, with whatever earlier ones have left in the page. */
static void numbers_of_requests_may_come_again(void **state) {
    (void)state;
    int items[10];
    for (int i = 0; i < 10; i++) items[i] = i;
    tpool *pool = process_pool(1);
    tpool_map_spec spec = {
        .fn = item_task, .items = items, .count = 10, .stride = sizeof(int), .item_size = sizeof(int), .chunk_size = 2
    };
    assert_status(TPOOL_OK, tpool_warm_up(pool, 1));
    tpool__worker *worker = tpool__first_worker(pool);
    for (int round = 0; round < 4; round++) {
        tpool_map_iter *iter;
        assert_status(TPOOL_OK, end_of(submitted(pool, count_and_getpid, NULL)));
        assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
        /* across 0; and what was before */
        tpool__child_of(worker)->number = round == 0 ? UINT32_MAX - 2 : round == 1 ? 76 : 98;
        if (round == 1) tpool__store_relaxed(&tpool__child_of(worker)->page->cut, 78);
        if (round == 2) tpool__store_relaxed(&tpool__child_of(worker)->page->stop, 100);
        if (round == 3) { /* one that was begun under this number, when the worker was lost before it began this one */
            tpool__store_relaxed(&tpool__child_of(worker)->page->begun, 99);
            atomic_store(&all->die_at, 1);
            assert_status(TPOOL_OK, end_of(submitted(pool, count_and_getpid, NULL)));
        }
        assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
        for (int i = 0; i < 10; i++) {
            void *result;
            assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, &result));
            assert_int_equal(i + 1, (intptr_t)result);
        }
        tpool_map_close(iter);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- what a worker that is no longer the program's friend might do to what they share */

/* Cut short, it would be SIGBUS for the program; filled from behind, a request would wait for ever. */
static void *cuts_the_memory(void *arg) {
    (void)arg;
    bool cut = ftruncate(tpool__in_child.memory, 0) == 0;
#if defined(F_GET_SEALS)
    /* nor can it seal */
    if (fcntl(tpool__in_child.memory, F_ADD_SEALS, F_SEAL_GROW) == 0 || errno != EPERM) return (void *)2;
#endif
    return (void *)(intptr_t)cut;
}
static void the_shared_memory_cannot_be_cut(void **state) {
    (void)state;
    tpool_future *future;
    void *result;
    char large[200000] = { 5 };
    tpool *pool = process_pool(1);
    future = submitted(pool, cuts_the_memory, NULL);
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
    assert_null(result);
    tpool_future_release(future);
    /* it can still grow */
    assert_status(TPOOL_OK, tpool_submit_copy(pool, cuts_the_memory, large, sizeof large, &future));
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
    assert_null(result);
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void *fills_its_requests(void *item, void *context) {
    (void)item;
    (void)context;
    char path[64], bytes[4096] = { 0 };
    snprintf(path, sizeof path, "/proc/self/fd/%d", tpool__in_child.requests);
    int fd = open(path, O_WRONLY | O_NONBLOCK);
    while (fd >= 0 && write(fd, bytes, sizeof bytes) > 0) { }
    atomic_store(&all->left, fd >= 0);
    tpool__message message = well();
    message.kind = TPOOL__ITEMS_FULL; /* which is to be answered */
    say(message);
    return NULL;
}
static void a_worker_that_fills_its_requests_stops_nobody(void **state) {
    (void)state;
    tpool_future *next;
    tpool *pool = process_pool(1);
    tpool_map_spec spec = { .fn = fills_its_requests, .items = all, .count = 1, .stride = 1, .item_size = 1 };
    tpool_map_iter *iter;
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    next = submitted(pool, count_and_getpid, NULL);
    assert_status(TPOOL_BROKEN, tpool_map_next(iter, LIMIT, NULL));
    assert_int_equal(1, atomic_load(&all->left));
    assert_status(TPOOL_OK, tpool_future_result(next, LIMIT, NULL));
    tpool_map_close(iter);
    tpool_future_release(next);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* A process that the worker leaves behind, which writes over the answers and the page all the time, so also between the
 * program's look at a length and its use. */
static void spoil(void) {
    static const uint64_t sizes[] = { 0, 16, 4096, UINT64_MAX, (uint64_t)1 << 63, 65536, 7 };
    tpool__page *page = tpool__in_child.page;
    char *bytes = tpool__in_child.result.bytes;
    pid_t program = (pid_t)atomic_load(&all->program);
    alarm(10); /* whatever becomes of the program: it holds what the program writes to */
    for (uint64_t turn = 0; atomic_load(&all->spoiling) && kill(program, 0) == 0; turn++) {
        for (size_t at = turn % 5 * 16; at + sizeof(tpool__answer) < 8192; at += 80) {
            tpool__answer *answer = (tpool__answer *)(void *)(bytes + at);
            answer->kind = (uint32_t)(turn + at / 16) % 7;
            answer->size = sizes[(turn + at) % 7];
            answer->value = sizes[turn % 7];
        }
        atomic_store(&page->items_used, (uintptr_t)sizes[turn % 7]);
        atomic_store(&page->items_done, (uint32_t)turn % 40);
    }
    _exit(0);
}
static void *spoiled_item(void *item, void *context) {
    int n = *(int *)item;
    char bytes[100];
    (void)context;
    if (n % 400 == 1) {
        void *kept[] = { tpool__in_child.page, tpool__in_child.result.bytes };
        pid_t child = fork();
        if (child == 0) {
            tpool__in_child.page = kept[0]; /* a child of fork is no worker, but what is mapped stays */
            tpool__in_child.result.bytes = kept[1];
            spoil();
        }
    }
    memset(bytes, n, sizeof bytes);
    return n % 3 ? tpool_return(bytes, (size_t)(n % 100)) : n % 2 ? tpool_raise(n, "%d", n) : NULL;
}
static void answers_that_change_while_they_are_read_harm_nobody(void **state) {
    (void)state;
    enum { ITEMS = 2000 };
    static int items[ITEMS];
    for (int i = 0; i < ITEMS; i++) items[i] = i;
    tpool *pool = process_pool(2);
    uintptr_t sum = 0;
    atomic_store(&all->program, getpid());
    atomic_store(&all->spoiling, 1);
    tpool_map_iter *iter = map_over_ints(pool, spoiled_item, items, ITEMS, 40);
    for (int i = 0; i < ITEMS; i++) { /* whatever it says of them, what it gives is there */
        void *result;
        const tpool_error *error;
        tpool_status status = tpool_map_next(iter, LIMIT, &result);
        assert_true(status == TPOOL_OK || status == TPOOL_FAILED || status == TPOOL_BROKEN);
        assert_status(TPOOL_OK, tpool_map_error(iter, &error));
        if (error) sum += strlen(error->message);
        size_t size = tpool_map_result_size(iter);
        assert_true(size <= 65536);
    }
    assert_status(TPOOL_END, tpool_map_next(iter, LIMIT, NULL));
    tpool_map_close(iter);
    atomic_store(&all->spoiling, 0);
    assert_true(sum < UINTPTR_MAX);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* Each field of an answer, wrong in each way, in a copy as the program has it. */
static void no_answer_is_believed_beyond_its_bytes(void **state) {
    (void)state;
    static const uint64_t sizes[] = { 0, 1, 15, 16, 17, 1000, UINT32_MAX, INT64_MAX, UINT64_MAX - 15, UINT64_MAX };
    tpool__page page;
    for (uint32_t kind = 0; kind < 8; kind++)
        for (int s = 0; s < 10; s++)
            for (int v = 0; v < 10; v++)
                for (size_t used = 0; used <= 256; used += 8) {
                    _Alignas(max_align_t) char *window = malloc(256); /* so that a look beyond is seen by the tools */
                    tpool__slot slots[2] = { { NULL, NULL }, { NULL, NULL } };
                    tpool__chunk chunk;
                    tpool__child child;
                    memset(&chunk, 0, sizeof chunk);
                    memset(&child, 0, sizeof child);
                    memset(window, 0, 256);
                    chunk.slots = slots;
                    chunk.count = 2;
                    child.page = &page;
                    child.result.bytes = window;
                    child.result.mapped = 256;
                    child.memory = -1;
                    tpool__answer answer = { sizes[v], kind, 3, sizes[s], 0 };
                    memcpy(window, &answer, sizeof answer);
                    size_t believed = tpool__read_items(&child, &chunk, 0, 2, used);
                    if (believed >= 1 && slots[0].outcome && slots[0].outcome->kind == TPOOL__BYTES) {
                        assert_true(TPOOL__ANSWER_ROOM + slots[0].outcome->size <= used);
                        assert_true(kind == TPOOL__SOME_BYTES || sizes[v] <= sizes[s]);
                    }
                    assert_true(believed == 0 || (kind >= TPOOL__A_VALUE && kind <= TPOOL__NO_ROOM));
                    for (int i = 0; i < 2; i++) tpool__outcome_free(slots[i].outcome);
                    tpool__results_free(&chunk);
                    free(window);
                    size_t beyond = 257 + used;
                    assert_int_equal(0, tpool__read_items(&child, &chunk, 0, 2, beyond));
                }
}

/* --- a server that does not answer, since somebody has stopped it */

static void *gate_task_of_processes(void *arg) {
    shared_gate_pass(&all->gate);
    return arg;
}
static bool is_gone(pid_t pid) { return kill(pid, 0) != 0 && errno == ESRCH; }

/* No submit waits for a worker that is being started: all this happens while the server stands still. */
static void a_stopped_server_stalls_no_submit(void **state) {
    (void)state;
    enum { TASKS = 20 };
    tpool_future *futures[TASKS];
    tpool *pool = process_pool(4);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 1));
    assert_int_equal(0, kill(tpool__server_of(pool)->pid, SIGSTOP));
    for (int i = 0; i < TASKS; i++) assert_status(TPOOL_OK, tpool_submit(pool, count_and_getpid, NULL, &futures[i]));
    for (int i = 0; i < TASKS; i++) {
        assert_status(TPOOL_OK, end_of(futures[i]));
    }
    assert_int_equal(0, kill(tpool__server_of(pool)->pid, SIGCONT));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_server_that_stays_stopped_is_replaced_by_its_spare(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    pid_t stopped = tpool__server_of(pool)->pid;
    patience_ms = 200;
    assert_int_equal(0, kill(stopped, SIGSTOP));
    assert_status(TPOOL_OK, end_of(submitted(pool, count_and_getpid, NULL)));
    EVENTUALLY(is_gone(stopped));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_run_limit_holds_with_a_stopped_server(void **state) {
    (void)state;
    tpool_future *future;
    tpool *pool = process_pool(1);
    patience_ms = 200;
    tpool_task task = { .fn = gate_task_of_processes, .run_limit_ns = TPOOL_MS(100) };
    future = submitted_task(pool, task);
    EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
    assert_int_equal(0, kill(tpool__server_of(pool)->pid, SIGSTOP));
    assert_status(TPOOL_BROKEN, end_of(future));
    assert_status(TPOOL_OK, end_of(submitted(pool, count_and_getpid, NULL)));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_stopped_server_does_not_outlive_its_pool(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    patience_ms = 200;
    assert_status(TPOOL_OK, end_of(submitted(pool, count_and_getpid, NULL)));
    pid_t stopped = tpool__server_of(pool)->pid;
    assert_int_equal(0, kill(stopped, SIGSTOP));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    EVENTUALLY(is_gone(stopped));
}

/* As tpool_run_with_timeout submits it with a limit of 0, and a proxy takes it before the caller cancels it. */
static void a_task_whose_time_had_passed_at_its_submit_is_killed(void **state) {
    (void)state;
    tpool_future *future = NULL;
    tpool *pool = process_pool(1);
    tpool_task task = { .fn = gate_task_of_processes };
    assert_status(TPOOL_OK, tpool__submit_task(pool, &task, &future, tpool__deadline(0), TPOOL__TIMED));
    assert_status(TPOOL_BROKEN, tpool_future_result(future, TPOOL_SEC(20), NULL));
    assert_true(tpool__outcome_load(future)->is_timeout);
    tpool_future_release(future);
    assert_true(value_of(pool, count_and_getpid) > 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* Each fork of the server's takes its time, as that of a large program does: longer, all together, than anybody's
   patience with one that does nothing. */
static void a_server_that_has_much_to_do_is_left_alone(void **state) {
    (void)state;
    enum { WORKERS = 12, FORK_MS = 150 };
    tpool_future *futures[WORKERS];
    atomic_store(&all->program, getpid());
    tpool *pool = process_pool(WORKERS);
    pid_t server = tpool__server_of(pool)->pid;
    patience_ms = 4 * FORK_MS;
    atomic_store(&all->slow_ms, FORK_MS);
    for (int i = 0; i < WORKERS; i++) futures[i] = submitted(pool, gate_task_of_processes, NULL);
    EVENTUALLY(atomic_load(&all->gate.arrived) == WORKERS);
    atomic_store(&all->gate.open, 1);
    for (int i = 0; i < WORKERS; i++) {
        assert_status(TPOOL_OK, end_of(futures[i]));
    }
    assert_false(is_gone(server));
    patience_ms = 60000;
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static pid_t server_of(tpool *pool) {
    void *result;
    result = take(submitted(pool, getppid_task, NULL));
    return (pid_t)(intptr_t)result;
}
/* Of several proxies that lose patience with one server at the same time, only the first may cost a server. */
static void who_has_lost_patience_with_a_server_harms_no_other(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    pid_t first = server_of(pool);
    tpool__server_replace(tpool__server_of(pool), 0);
    tpool__server_replace(tpool__server_of(pool), 2);
    sleep_ms(50);
    assert_int_equal(first, server_of(pool));
    tpool__server_replace(tpool__server_of(pool), 1);
    EVENTUALLY(is_gone(first));
    pid_t second = server_of(pool);
    assert_int_not_equal(first, second);
    tpool__server_replace(tpool__server_of(pool), 1);
    sleep_ms(50);
    assert_int_equal(second, server_of(pool));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* A worker may outlive its server for a moment, or until the keeper kills it. It is given up meanwhile: what it has
   begun is lost, and what it has not begun runs on another, and only there. */
static bool has_given_it_up(tpool *pool) {
    tpool__child *child = tpool__child_of(tpool__first_worker(pool));
    tpool__lock(&child->lock);
    bool given_up = child->status < 0 || child->number == 0; /* nothing leads to it, or something to the next */
    tpool__unlock(&child->lock);
    return given_up;
}
static void lose_the_server_and_go_on(tpool *pool) {
    EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
    assert_int_equal(0, kill(tpool__server_of(pool)->keeper_pid, SIGSTOP)); /* so that the worker lives on */
    assert_int_equal(0, kill(tpool__server_of(pool)->pid, SIGKILL));
    EVENTUALLY(has_given_it_up(pool));
    atomic_store(&all->gate.open, 1);
    EVENTUALLY(!is_alive(atomic_load(&all->held)));
    assert_int_equal(0, kill(tpool__server_of(pool)->keeper_pid, SIGCONT));
}
static void a_task_whose_worker_outlives_its_server_runs_once(void **state) {
    (void)state;
    check_ms = 50;
    tpool *pool = process_pool(1);
    atomic_store(&all->holding, 1);
    tpool_future *future = submitted(pool, count_and_getpid, NULL);
    lose_the_server_and_go_on(pool);
    assert_int_not_equal(atomic_load(&all->held), (intptr_t)take(future));
    assert_int_equal(1, atomic_load(&all->begun));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void *counted_item(void *item, void *context) {
    (void)context;
    int n = *(int *)item;
    atomic_fetch_add(&all->executed[n], 1);
    if (n == 1) outlive_the_server();
    return NULL;
}
static void items_whose_worker_outlives_its_server_run_once(void **state) {
    (void)state;
    int items[] = { 0, 1, 2, 3 };
    check_ms = 50;
    tpool *pool = process_pool(1);
    atomic_store(&all->holding, 1);
    tpool_map_iter *iter = map_over_ints(pool, counted_item, items, 4, 4);
    lose_the_server_and_go_on(pool);
    for (int i = 0; i < 4; i++) {
        assert_status(i == 1 ? TPOOL_BROKEN : TPOOL_OK, tpool_map_next(iter, LIMIT, NULL));
        assert_int_equal(1, atomic_load(&all->executed[i]));
    }
    tpool_map_close(iter);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* The worker ends the item at hand after the program has looked at the last: between two looks, the second of which would
   find the item ended, and its answer nowhere. The program reads answers with bytes in between, and that takes memory. */
static _Atomic(bool) at_answers; /* the next allocation in the program is theirs */
static void at_allocation(void) {
    if (!atomic_load(&at_answers) || getpid() != (pid_t)atomic_load(&all->program)) return;
    if (!atomic_exchange(&at_answers, false)) return;
    atomic_store(&all->gate.open, 1);
    EVENTUALLY(!is_alive(atomic_load(&all->held)));
}
static void *counted_item_with_bytes(void *item, void *context) {
    counted_item(item, context);
    return tpool_return(item, sizeof(int));
}
static void an_item_that_ends_between_two_looks_runs_once(void **state) {
    (void)state;
    int items[] = { 0, 1, 2, 3 };
    check_ms = 50;
    tpool *pool = process_pool(1);
    pid_t keeper = tpool__server_of(pool)->keeper_pid;
    atomic_store(&all->program, getpid());
    atomic_store(&all->holding, 1);
    tpool_map_iter *iter = map_over_ints(pool, counted_item_with_bytes, items, 4, 4);
    EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
    atomic_store(&at_answers, true);
    assert_int_equal(0, kill(keeper, SIGSTOP)); /* so that the worker lives on */
    assert_int_equal(0, kill(tpool__server_of(pool)->pid, SIGKILL));
    EVENTUALLY(!atomic_load(&at_answers) && !is_alive(atomic_load(&all->held)));
    assert_int_equal(0, kill(keeper, SIGCONT));
    for (int i = 0; i < 4; i++) {
        assert_status(i == 1 ? TPOOL_BROKEN : TPOOL_OK, tpool_map_next(iter, LIMIT, NULL));
        assert_int_equal(1, atomic_load(&all->executed[i]));
    }
    tpool_map_close(iter);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* The number that a server had may be another's by now: nobody is killed by it. */
static void no_stranger_is_killed_for_a_server(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    pid_t server = tpool__server_of(pool)->pid, stranger = fork();
    if (stranger == 0)
        for (;;) sleep_ms(1000);
    tpool__server_of(pool)->pid = stranger;
    patience_ms = SLOW_TOOL ? 4000 : 1000; /* a fork of the keeper's may take long */
    assert_int_equal(0, kill(server, SIGSTOP));
    assert_status(TPOOL_OK, end_of(submitted(pool, count_and_getpid, NULL)));
    assert_int_equal(0, waitpid(stranger, NULL, WNOHANG));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(0, waitpid(stranger, NULL, WNOHANG));
    kill(stranger, SIGKILL);
    assert_int_equal(stranger, waitpid(stranger, NULL, 0));
}
static void *crashes_behind_the_gate(void *arg) {
    shared_gate_pass(&all->gate);
    raise(SIGKILL);
    return arg;
}
/* Nobody but the server hears of a worker's death, and nobody needs the server otherwise. */
static void a_death_is_known_though_the_server_stands_still(void **state) {
    (void)state;
    tpool_future *future;
    patience_ms = 300; /* the keeper's */
    tpool *pool = process_pool(1);
    patience_ms = 60000;
    future = submitted(pool, crashes_behind_the_gate, NULL);
    EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
    assert_int_equal(0, kill(tpool__server_of(pool)->pid, SIGSTOP));
    atomic_store(&all->gate.open, 1);
    assert_status(TPOOL_BROKEN, tpool_future_result(future, TPOOL_SEC(20), NULL));
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* The keeper kills no server that stands still, since it is dead, or stands still too: the proxy notices it, whether it
   waits without a limit or with one. */
static void a_death_is_known_though_keeper_and_server_stand_still(void **state) {
    (void)state;
    for (int round = 0; round < 4; round++) {
        set_up(NULL);
        patience_ms = 400;
        check_ms = 50;
        tpool *pool = process_pool(1);
        tpool_task task = { .fn = crashes_behind_the_gate, .run_limit_ns = round % 2 * TPOOL_SEC(1000) };
        tpool_future *future = submitted_task(pool, task);
        EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
        assert_int_equal(0, kill(tpool__server_of(pool)->keeper_pid, round < 2 ? SIGKILL : SIGSTOP));
        assert_int_equal(0, kill(tpool__server_of(pool)->pid, SIGSTOP));
        atomic_store(&all->gate.open, 1);
        assert_status(TPOOL_BROKEN, tpool_future_result(future, TPOOL_SEC(20), NULL));
        tpool_future_release(future);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}
/* Likewise before the worker is ready: that wait consists of many short ones. */
static bool crashes_if_told(void *context) {
    (void)context;
    if (atomic_fetch_add(&all->begun, 1) > 0) return true;
    shared_gate_pass(&all->gate);
    raise(SIGKILL);
    return true;
}
static void a_death_in_the_initializer_is_known_though_the_server_stands_still(void **state) {
    (void)state;
    patience_ms = 1000; /* a wait of that kind takes 50 ms */
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .initializer = crashes_if_told });
    tpool_future *future = submitted(pool, getpid_task, NULL);
    EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
    assert_int_equal(0, kill(tpool__server_of(pool)->keeper_pid, SIGKILL));
    assert_int_equal(0, kill(tpool__server_of(pool)->pid, SIGSTOP));
    atomic_store(&all->gate.open, 1);
    tpool_status end = tpool_future_result(future, TPOOL_SEC(20), NULL);
    assert_true(end == TPOOL_OK || end == TPOOL_BROKEN); /* the server was lost with its keeper */
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* A server that could neither answer nor be killed comes back when its proxy has given it up. The worker lives. */
static void *answer_as_the_server(void *socket) {
    int far = *(int *)socket;
    char byte = 0;
    tpool__notice ended = { TPOOL__ENDED, SIGKILL, 0 };
    if (read(far, &byte, 1) != 1 || byte != TPOOL__KILL_IT) return NULL;
    assert_int_equal(sizeof ended, write(far, &ended, sizeof ended));
    return NULL;
}
static void a_worker_that_was_given_up_with_its_server_is_killed(void **state) {
    (void)state;
    int status[2], control[2];
    pthread_t thread;
    tpool__life life;
    tpool__server server;
    tpool__child child;
    memset((void *)&life, 0, sizeof life);
    memset(&server, 0, sizeof server);
    memset((void *)&child, 0, sizeof child);
    assert_int_equal(0, socketpair(AF_UNIX, SOCK_STREAM, 0, status));
    assert_int_equal(0, socketpair(AF_UNIX, SOCK_STREAM, 0, control));
    server.life = &life;
    server.control = control[0];
    server.keeper = -1;
    server.keeper_pid = INT_MAX; /* no process: no order to kill it has an effect */
    child.server = &server;
    child.requests = child.replies = child.memory = -1;
    child.status = status[0];
    patience_ms = 1000;
    assert_int_equal(0, pthread_create(&thread, NULL, answer_as_the_server, &status[1]));
    tpool__death death = tpool__child_collect(&child, TPOOL__SILENT, TPOOL__NOT_KILLED);
    assert_true(death.known);
    assert_int_equal(SIGKILL, death.signal);
    assert_int_equal(TPOOL__NOT_KILLED, death.killed_for);
    shutdown(status[1], SHUT_RDWR);
    pthread_join(thread, NULL);
    close(status[1]);
    close(control[0]);
    close(control[1]);
}
/* A keeper that is only slow (a busy machine), or that was stopped with its server, is not killed for it: it does what
   it is asked to as soon as it can, and the pool keeps it. */
static void a_keeper_that_stands_still_with_its_server_goes_on(void **state) {
    (void)state;
    check_ms = 50;
    tpool *pool = process_pool(1);
    pid_t server = server_of(pool), keeper = tpool__server_of(pool)->keeper_pid;
    patience_ms = SLOW_TOOL ? 2000 : 200;
    assert_int_equal(0, kill(keeper, SIGSTOP));
    assert_int_equal(0, kill(server, SIGSTOP));
    assert_status(TPOOL_BROKEN, end_of(submitted(pool, aborts, NULL)));
    assert_int_not_equal(server, server_of(pool));
    assert_true(is_alive(keeper));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_keeper_whose_fork_takes_long_is_awaited(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    pid_t server = server_of(pool), keeper = tpool__server_of(pool)->keeper_pid;
    patience_ms = SLOW_TOOL ? 2000 : 400;
    atomic_store(&all->slow_one, keeper);
    atomic_store(&all->slow_ms, 3 * patience_ms);
    assert_int_equal(0, kill(server, SIGKILL));
    EVENTUALLY(!is_alive(server));
    assert_int_not_equal(server, server_of(pool));
    assert_true(is_alive(keeper));
    patience_ms = 60000;
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* The keeper tries on, and says so: what waits for a server has an end, and what comes later has a server again. */
static void what_waits_while_no_server_can_be_forked_has_an_end(void **state) {
    (void)state;
    tpool_future *next = NULL;
    tpool *pool = process_pool(1);
    pid_t server = server_of(pool), keeper = tpool__server_of(pool)->keeper_pid;
    patience_ms = SLOW_TOOL ? 2000 : 400;
    atomic_store(&all->refused, 1000000);
    assert_int_equal(0, kill(server, SIGKILL));
    EVENTUALLY(atomic_load(&all->refused) < 1000000);
    tpool_status status = tpool_submit(pool, count_and_getpid, NULL, &next);
    if (status == TPOOL_OK) assert_status(TPOOL_BROKEN, tpool_future_result(next, TPOOL_SEC(20), NULL));
    else assert_status(TPOOL_NO_THREAD, status);
    tpool_future_release(next);
    assert_int_equal(0, atomic_load(&all->begun));
    assert_true(is_alive(keeper));
    atomic_store(&all->refused, 0);
    EVENTUALLY(tpool_submit(pool, getppid_task, NULL, &next) == TPOOL_OK);
    assert_true((intptr_t)take(next) != server);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* Likewise where each server that is forked dies at once: the system refuses it what it needs, or kills it. */
static void what_waits_while_each_server_dies_at_once_has_an_end(void **state) {
    (void)state;
    const int ends[] = { TPOOL__NOT_PREPARED, SIGKILL };
    for (int i = 0; i < 2; i++) {
        set_up(NULL);
        tpool_future *next = NULL;
        tpool *pool = process_pool(1);
        pid_t server = server_of(pool), keeper = tpool__server_of(pool)->keeper_pid;
        patience_ms = SLOW_TOOL ? 2000 : 400;
        atomic_store(&all->keeper, keeper);
        atomic_store(&all->servers_end, ends[i]);
        assert_int_equal(0, kill(server, SIGKILL));
        EVENTUALLY(atomic_load(&all->deaths) > 1);
        tpool_status status = tpool_submit(pool, count_and_getpid, NULL, &next);
        if (status == TPOOL_OK) assert_status(TPOOL_BROKEN, tpool_future_result(next, TPOOL_SEC(20), NULL));
        else assert_status(TPOOL_NO_THREAD, status);
        tpool_future_release(next);
        assert_int_equal(0, atomic_load(&all->begun));
        assert_true(is_alive(keeper));
        patience_ms = 60000;
        atomic_store(&all->servers_end, 0);
        EVENTUALLY(tpool_submit(pool, getppid_task, NULL, &next) == TPOOL_OK);
        assert_true((intptr_t)take(next) != server);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}
/* A first task is taken although there is no server yet. Its worker gives up once, not once for each try that a refusal
   is worth; and when the server comes it starts no process for a worker that has given up. */
static void a_first_task_waits_once_for_a_server_that_does_not_come(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    pid_t server = tpool__server_of(pool)->pid, keeper = tpool__server_of(pool)->keeper_pid;
    patience_ms = SLOW_TOOL ? 1500 : 300;
    atomic_store(&all->keeper, keeper);
    atomic_store(&all->slow_one, keeper);
    atomic_store(&all->slow_ms, 14 * patience_ms);
    assert_int_equal(0, kill(server, SIGKILL));
    EVENTUALLY(is_gone(server));
    assert_status(TPOOL_BROKEN, end_of(submitted(pool, count_and_getpid, NULL)));
    patience_ms = 60000;
    assert_true(value_of(pool, count_and_getpid) > 0);
    assert_int_equal(1, atomic_load(&all->servers_forks));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* Servers that die while a worker is initialized, again and again, break the pool; what it says of that is true. */
static bool kills_its_server(void *context) {
    (void)context;
    kill(getppid(), SIGKILL);
    sleep_ms(20000);
    return true;
}
static void a_pool_whose_servers_die_again_and_again_says_nothing_untrue(void **state) {
    (void)state;
    check_ms = 50;
    const tpool_error *error = NULL;
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .initializer = kills_its_server });
    tpool_future *future = submitted(pool, getpid_task, NULL);
    assert_status(TPOOL_BROKEN, tpool_future_result(future, TPOOL_SEC(20), NULL));
    assert_status(TPOOL_OK, tpool_future_error(future, 0, &error));
    assert_string_equal("The worker could not be initialized.", error->message);
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- what one item leaves to the next */

static bool slow_after_the_first(void *context) {
    if (atomic_fetch_add(&all->begun, 1) > 0) sleep_ms(1000);
    return context == NULL;
}
static void *aborts_as_the_first(void *item, void *context) {
    (void)context;
    if (*(int *)item == 0) abort();
    return NULL;
}
static void a_slow_initializer_does_not_cost_the_next_items_their_time(void **state) {
    (void)state;
    int items[] = { 0, 1, 2 };
    tpool_map_iter *iter = NULL;
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .initializer = slow_after_the_first });
    tpool_map_spec spec = { .fn = aborts_as_the_first,
                            .items = items,
                            .count = 3,
                            .stride = sizeof(int),
                            .item_size = sizeof(int),
                            .chunk_size = 3,
                            .run_limit_ns = TPOOL_MS(500) };
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    assert_status(TPOOL_BROKEN, tpool_map_next(iter, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, NULL));
    tpool_map_close(iter);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static bool hangs_after_the_first(void *context) {
    while (atomic_load(&all->begun) > 0) sleep_ms(10);
    atomic_fetch_add(&all->begun, 1);
    return context == NULL;
}
static void an_initializer_that_hangs_does_not_hold_up_items_for_ever(void **state) {
    (void)state;
    int items[] = { 0, 1, 2, 3 };
    tpool_map_iter *iter = NULL;
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .initializer = hangs_after_the_first });
    assert_status(TPOOL_OK, end_of(submitted(pool, getpid_task, NULL)));
    patience_ms = 500;
    tpool_map_spec spec = { .fn = aborts_as_the_first,
                            .items = items,
                            .count = 4,
                            .stride = sizeof(int),
                            .item_size = sizeof(int),
                            .chunk_size = 4,
                            .run_limit_ns = TPOOL_MS(100) };
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    for (int i = 0; i < 4; i++) assert_status(TPOOL_BROKEN, tpool_map_next(iter, TPOOL_SEC(20), NULL));
    assert_status(TPOOL_END, tpool_map_next(iter, LIMIT, NULL));
    tpool_map_close(iter);
    atomic_store(&all->begun, 0);
    patience_ms = 60000;
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* For a chunk the system is asked for a while, not for a while for each item; then once more, before the next task. */
static void a_process_that_is_refused_is_asked_for_once_for_a_chunk(void **state) {
    (void)state;
    enum { ITEMS = 8, REFUSED = 1000000, FOR_A_WHILE = 6 };
    int items[ITEMS];
    for (int i = 0; i < ITEMS; i++) items[i] = i;
    tpool *pool = process_pool(1);
    assert_status(TPOOL_OK, tpool_warm_up(pool, 1));
    atomic_store(&all->refused, REFUSED);
    tpool_map_iter *iter = map_over_ints(pool, aborts_as_the_first, items, ITEMS, ITEMS);
    for (int i = 0; i < ITEMS; i++) assert_status(TPOOL_BROKEN, tpool_map_next(iter, LIMIT, NULL));
    tpool_map_close(iter);
    assert_in_range(REFUSED - atomic_load(&all->refused), FOR_A_WHILE, 3 * FOR_A_WHILE);
    atomic_store(&all->refused, 0);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- what a worker that ends leaves behind, and does last */

static void *exits_later(void *unused) {
    while (atomic_load(&all->gate.open) == 0) sleep_ms(1);
    _exit(0);
    return unused;
}
static void *ends_when_told_beside_a_child(void *arg) {
    pthread_t thread;
    pid_t child = fork();
    if (child == 0) {
        child_begin(60);
        while (atomic_load(&all->gate.open) < 2) sleep_ms(1);
        _exit(0);
    }
    atomic_store(&all->held, child);
    atomic_store(&all->left, getpid());
    (void)arg;
    return (void *)(intptr_t)(pthread_create(&thread, NULL, exits_later, NULL) == 0);
}
static void *warm_up_two(void *pool) { return (void *)(intptr_t)tpool_warm_up(pool, 2); }
/* Its proxy finds it dead before its server does, which is about to fork another, and asks for no kill: what would be
   killed is what it has left behind. */
static void what_a_worker_that_exits_leaves_behind_lives_on(void **state) {
    (void)state;
    SKIP_UNDER_TSAN(); /* the worker starts a thread */
    pthread_t warmer;
    tpool *pool = process_pool(2);
    assert_true(value_of(pool, ends_when_told_beside_a_child) != 0);
    pid_t child = atomic_load(&all->held);
    atomic_store(&all->fork_held, tpool__server_of(pool)->pid);
    assert_int_equal(0, pthread_create(&warmer, NULL, warm_up_two, pool));
    EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
    atomic_store(&all->gate.open, 1);
    EVENTUALLY(!is_alive(atomic_load(&all->left)));
    tpool_future *next = submitted(pool, getpid_task, NULL);
    sleep_ms(100); /* so that an order would be there when the server goes on */
    atomic_store(&all->fork_held, 0);
    (void)take(next);
    assert_int_equal(0, pthread_join(warmer, NULL));
    assert_true(is_alive(child));
    atomic_store(&all->gate.open, 2);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    EVENTUALLY(!is_alive(child));
}
static void note_exit_handler(void) { atomic_store(&all->executed[1], 1); }
static void *ends_its_thread(void *arg) {
    (void)atexit(note_exit_handler); /* the program's handlers do not run in a worker */
    pthread_exit(arg);
    return arg;
}
static void count_finalizers(void *context) {
    (void)context;
    atomic_fetch_add(&all->left, 1);
    if (atomic_load(&all->spoiling)) pthread_exit(NULL);
}
static void a_worker_whose_thread_ends_runs_its_finalizer_once(void **state) {
    (void)state;
    SKIP_UNDER_TSAN(); /* where a worker whose main thread ends hangs */
    for (int ends_again = 0; ends_again < 2; ends_again++) {
        set_up(NULL);
        atomic_store(&all->spoiling, ends_again);
        tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .finalizer = count_finalizers });
        assert_status(TPOOL_BROKEN, end_of(submitted(pool, ends_its_thread, NULL)));
        assert_int_equal(1, atomic_load(&all->left));
        assert_int_equal(0, atomic_load(&all->executed[1]));
        assert_true(value_of(pool, getpid_task) > 0);
        assert_status(TPOOL_OK, tpool_destroy(pool));
        assert_int_equal(2, atomic_load(&all->left));
    }
}
/* A task ends its thread in a loop of a pool of its own, while a thread of that pool is in the loop too, which uses the
   stack that the task leaves: the finalizer comes after it. */
static void body_that_ends_the_first_thread(size_t begin, size_t end, void *first) {
    (void)begin, (void)end;
    if (pthread_equal(*(pthread_t *)first, pthread_self())) {
        while (atomic_load(&all->executed[0]) == 0) sleep_ms(1);
        pthread_exit(NULL);
    }
    atomic_store(&all->executed[0], 1);
    sleep_ms(100);
    atomic_store(&all->executed[2], 1);
}
static void *ends_its_thread_in_a_loop(void *arg) {
    static pthread_t first;
    tpool *own = NULL;
    first = pthread_self();
    if (tpool_create(&own, &(tpool_config){ .max_workers = 1 }) != TPOOL_OK) return arg;
    (void)tpool_for(own, 0, 2, 1, body_that_ends_the_first_thread, &first);
    return arg;
}
static void note_whether_it_was_alone(void *context) {
    (void)context;
    atomic_store(&all->executed[3], 1 + atomic_load(&all->executed[2]));
}
static void a_finalizer_waits_for_who_uses_the_left_stack(void **state) {
    (void)state;
    SKIP_UNDER_TSAN(); /* the worker starts a thread */
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .finalizer = note_whether_it_was_alone });
    assert_status(TPOOL_BROKEN, end_of(submitted(pool, ends_its_thread_in_a_loop, NULL)));
    assert_int_equal(2, atomic_load(&all->executed[3]));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- limits and ends of others */

/* A worker that is to be killed, by a server that stands still, holds up the next task no longer than that permits. */
static void a_run_limit_holds_while_the_last_process_is_awaited(void **state) {
    (void)state;
    SKIP_UNDER_TSAN(); /* this thread stands in for the proxy, which sleeps */
    tpool *pool = process_pool(1);
    tpool_task task = { .fn = getpid_task, .run_limit_ns = TPOOL_MS(100) };
    assert_status(TPOOL_OK, tpool_warm_up(pool, 1));
    tpool__child *child = tpool__child_of(tpool__first_worker(pool));
    assert_int_equal(0, kill(tpool__server_of(pool)->pid, SIGSTOP));
    int64_t begin = tpool_now();
    tpool__worker *worker = tpool__first_worker(pool);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    tpool__lock(&child->lock);
    tpool__child_kill(child, TPOOL__KILLED_ALL);
    tpool__unlock(&child->lock);
    assert_status(TPOOL_TIMEOUT, tpool__child_ensure_until(worker, tpool__deadline(task.run_limit_ns)));
    assert_true(tpool_now() - begin < TPOOL_SEC(20));
    assert_int_equal(0, kill(tpool__server_of(pool)->pid, SIGCONT));
    assert_status(TPOOL_OK, end_of(submitted_task(pool, (tpool_task){ .fn = getpid_task })));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* The initializer of a process fails beneath a task whose callback holds the worker up afterwards. */
static bool fails_behind_the_gate(void *context) {
    (void)context;
    if (atomic_fetch_add(&all->begun, 1) == 0) return true;
    shared_gate_pass(&all->gate);
    return false;
}
static gate in_callback = GATE_CLOSED;
static void hold_in_callback(tpool_future *future, void *context) {
    (void)future;
    (void)context;
    gate_pass(&in_callback);
}
static void *submit_to_the_full_queue(void *pool) {
    return (void *)(intptr_t)tpool_submit(pool, getpid_task, NULL, NULL);
}
static bool somebody_waits_for_room(tpool *pool) {
    tpool__spin_lock(&pool->inject.lock);
    bool waits = pool->room != NULL;
    tpool__spin_unlock(&pool->inject.lock);
    return waits;
}
static void a_blocked_submitter_learns_at_once_that_an_initializer_failed(void **state) {
    (void)state;
    pthread_t submitter;
    void *status = NULL;
    tpool *pool =
        process_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1, .initializer = fails_behind_the_gate });
    pid_t first = (pid_t)value_of(pool, getpid_task);
    assert_int_equal(0, kill(first, SIGKILL)); /* the task is taken, and its worker found to be dead */
    EVENTUALLY(!is_alive(first));
    tpool_future *taken = submitted(pool, getpid_task, NULL);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(taken, hold_in_callback, NULL));
    EVENTUALLY(atomic_load(&all->gate.arrived) == 1);
    assert_status(TPOOL_OK, tpool_submit(pool, getpid_task, NULL, NULL));
    assert_int_equal(0, pthread_create(&submitter, NULL, submit_to_the_full_queue, pool));
    EVENTUALLY(somebody_waits_for_room(pool));
    atomic_store(&all->gate.open, 1);
    assert_status(TPOOL_BROKEN, tpool_future_result(taken, LIMIT, NULL));
    EVENTUALLY(!somebody_waits_for_room(pool));
    gate_open(&in_callback);
    assert_int_equal(0, pthread_join(submitter, &status));
    assert_status(TPOOL_BROKEN, (tpool_status)(intptr_t)status);
    tpool_future_release(taken);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void on_alarm(int number) { (void)number; }
/* A timer that interrupts each wait does not make it begin anew. */
static int destroy_amid_signals(int who) {
    struct sigaction action;
    struct itimerval each = { { 0, 20000 }, { 0, 20000 } };
    memset(&action, 0, sizeof action);
    action.sa_handler = on_alarm;
    tpool *pool = process_pool(1);
    pid_t server = server_of(pool), keeper = tpool__server_of(pool)->keeper_pid;
    patience_ms = 300;
    if ((who & 1 && kill(server, SIGSTOP) != 0) || (who & 2 && kill(keeper, SIGSTOP) != 0)) return 1;
    if (sigaction(SIGALRM, &action, NULL) != 0 || setitimer(ITIMER_REAL, &each, NULL) != 0) return 2;
    if (tpool_destroy(pool) != TPOOL_OK) return 3;
    EVENTUALLY(is_gone(server) && is_gone(keeper));
    return 0;
}
static void destroy_ends_whoever_stands_still_amid_signals(void **state) {
    (void)state;
    SKIP_UNDER_TSAN();
    for (int who = 1; who < 4; who++) {
        int how = -1;
        pid_t ended = 0, child = fork();
        if (child == 0) _exit(destroy_amid_signals(who));
        for (int64_t end = tpool_now() + TPOOL_SEC(20); ended == 0 && tpool_now() < end; sleep_ms(10))
            ended = waitpid(child, &how, WNOHANG);
        if (ended == 0) {
            kill(child, SIGKILL);
            waitpid(child, NULL, 0);
        }
        assert_int_equal(child, ended);
        assert_int_equal(0, how);
    }
}
static void a_server_goes_on_without_its_keeper(void **state) {
    (void)state;
    tpool *pool = process_pool(2);
    pid_t server = server_of(pool);
    assert_int_equal(0, kill(tpool__server_of(pool)->keeper_pid, SIGKILL));
    EVENTUALLY(is_gone(tpool__server_of(pool)->keeper_pid));
    for (int i = 0; i < 3; i++) {
        assert_status(TPOOL_BROKEN, end_of(submitted(pool, aborts, NULL)));
        assert_int_equal(server, server_of(pool));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
    EVENTUALLY(is_gone(server));
}
/* A worker may say that it has ended: that costs it its life, and nobody any patience. */
static void *says_that_it_is_gone(void *arg) {
    tpool__message message = well();
    message.kind = TPOOL__GONE;
    say(message);
    return arg;
}
static void who_says_that_it_is_gone_is_not_believed(void **state) {
    (void)state;
    tpool_future *future;
    tpool *pool = process_pool(1);
    pid_t server = server_of(pool);
    future = submitted(pool, says_that_it_is_gone, NULL);
    assert_status(TPOOL_BROKEN, tpool_future_result(future, TPOOL_SEC(10), NULL));
    assert_non_null(strstr(tpool_future_message(future), "damaged"));
    tpool_future_release(future);
    assert_int_equal(server, server_of(pool));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* Refused the fork of another server, the keeper tries again. */
static void a_server_that_cannot_be_replaced_at_once_is_later(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    pid_t server = server_of(pool);
    atomic_store(&all->refused, 3);
    assert_int_equal(0, kill(server, SIGKILL));
    EVENTUALLY(is_gone(server) && atomic_load(&all->refused) == 0);
    assert_int_not_equal(server, server_of(pool));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- memory */

static bool scenario(void) {
    tpool *pool = NULL;
    tpool_future *future = NULL;
    tpool_map_iter *iter = NULL;
    int items[4] = { 1, 2, 3, 4 };
    bool whole = tpool_create(&pool, &(tpool_config){ .kind = TPOOL_PROCESSES, .max_workers = 2 }) == TPOOL_OK;
    if (!whole) return false;
    if (tpool_submit_copy(pool, echo, items, sizeof items, &future) == TPOOL_OK) {
        tpool_status end = tpool_future_result(future, LIMIT, NULL);
        assert_true(end == TPOOL_OK || end == TPOOL_FAILED);
        whole &= end == TPOOL_OK;
        tpool_future_release(future);
    } else {
        whole = false;
    }
    if (tpool_submit(pool, aborts, NULL, &future) == TPOOL_OK) {
        tpool_status end = tpool_future_result(future, LIMIT, NULL);
        assert_true(end == TPOOL_BROKEN);
        tpool_future_release(future);
    } else {
        whole = false;
    }
    tpool_map_spec spec = {
        .fn = item_task, .items = items, .count = 4, .stride = sizeof(int), .item_size = sizeof(int), .chunk_size = 2
    };
    if (tpool_map(pool, &spec, &iter) == TPOOL_OK) {
        for (tpool_status status; (status = tpool_map_next(iter, LIMIT, NULL)) != TPOOL_END;) {
            assert_true(status == TPOOL_OK || status == TPOOL_FAILED || status == TPOOL_NO_MEMORY);
            whole &= status == TPOOL_OK;
        }
        tpool_map_close(iter);
    } else {
        whole = false;
    }
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    return whole;
}
/* In the program, and in the server and the workers, which begin with the count as it was at create. */
static void each_allocation_may_fail(void **state) {
    (void)state;
    int n = 0;
    for (bool whole = false; n < 200; n++) {
        long before = atomic_load(&allocated);
        atomic_store(&fail_after, n);
        whole = scenario();
        bool failed = atomic_load(&fail_after) < 0;
        atomic_store(&fail_after, -1);
        assert_int_equal(before, atomic_load(&allocated));
        if (whole && !failed) break;
    }
    assert_true(n > 8 && n < 200);
}

int main(void) {
    all = shared_memory(sizeof *all);
#define T(name) cmocka_unit_test_setup(name, set_up)
    const struct CMUnitTest tests[] = {
#if defined(__linux__)
        T(a_death_is_told_in_the_workers_place),
#endif
        T(a_process_forked_beside_create_keeps_none_of_its_descriptors),
        T(fork_refused_at_create),
        T(fork_refused_to_a_spare_is_no_harm),
        T(work_waits_for_the_worker_that_runs_if_a_second_is_refused),
        T(a_replacement_refused_for_a_moment_is_tried_again),
        T(a_replacement_refused_for_good_strands_nobody),
        T(a_task_taken_and_not_begun_runs_on_another_worker),
        T(a_task_that_no_worker_lives_to_begin_is_broken),
        T(a_chunk_taken_and_not_begun_runs_on_another_worker),
        T(what_is_not_true_breaks_that_worker_only),
        T(a_chunk_of_lies_has_an_end),
        T(a_chunk_that_is_done_too_early_is_no_chunk_done),
        T(nobody_pays_for_a_result_that_is_not_there),
        T(numbers_of_requests_may_come_again),
        T(the_shared_memory_cannot_be_cut),
        T(a_worker_that_fills_its_requests_stops_nobody),
        T(answers_that_change_while_they_are_read_harm_nobody),
        T(no_answer_is_believed_beyond_its_bytes),
        T(a_stopped_server_stalls_no_submit),
        T(a_server_that_stays_stopped_is_replaced_by_its_spare),
        T(a_run_limit_holds_with_a_stopped_server),
        T(a_stopped_server_does_not_outlive_its_pool),
        T(a_task_whose_time_had_passed_at_its_submit_is_killed),
        T(a_server_that_has_much_to_do_is_left_alone),
        T(who_has_lost_patience_with_a_server_harms_no_other),
        T(a_task_whose_worker_outlives_its_server_runs_once),
        T(items_whose_worker_outlives_its_server_run_once),
        T(an_item_that_ends_between_two_looks_runs_once),
        T(no_stranger_is_killed_for_a_server),
        T(a_death_is_known_though_the_server_stands_still),
        T(a_death_is_known_though_keeper_and_server_stand_still),
        T(a_death_in_the_initializer_is_known_though_the_server_stands_still),
        T(a_worker_that_was_given_up_with_its_server_is_killed),
        T(a_keeper_that_stands_still_with_its_server_goes_on),
        T(a_keeper_whose_fork_takes_long_is_awaited),
        T(what_waits_while_no_server_can_be_forked_has_an_end),
        T(what_waits_while_each_server_dies_at_once_has_an_end),
        T(a_first_task_waits_once_for_a_server_that_does_not_come),
        T(a_pool_whose_servers_die_again_and_again_says_nothing_untrue),
        T(a_slow_initializer_does_not_cost_the_next_items_their_time),
        T(an_initializer_that_hangs_does_not_hold_up_items_for_ever),
        T(a_process_that_is_refused_is_asked_for_once_for_a_chunk),
        T(what_a_worker_that_exits_leaves_behind_lives_on),
        T(a_worker_whose_thread_ends_runs_its_finalizer_once),
        T(a_finalizer_waits_for_who_uses_the_left_stack),
        T(a_run_limit_holds_while_the_last_process_is_awaited),
        T(a_blocked_submitter_learns_at_once_that_an_initializer_failed),
        T(destroy_ends_whoever_stands_still_amid_signals),
        T(a_server_goes_on_without_its_keeper),
        T(who_says_that_it_is_gone_is_not_believed),
        T(a_server_that_cannot_be_replaced_at_once_is_later),
        T(each_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
