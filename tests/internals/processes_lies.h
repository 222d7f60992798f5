/* Part of white_processes: what a damaged worker might send, and what one that is no longer a friend of the program
   might do to what they share: only that worker breaks. */
#include "processes.h"

/* --- what a damaged worker might send */

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
