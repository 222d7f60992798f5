/* What can go wrong with a process, for real: only the task concerned ends as TPOOL_BROKEN, everything else completes,
   the pool goes on, and nothing is left behind. */
#include "support/children.h"
#include <sys/resource.h>

typedef struct common {
    _Atomic(int) arrived, open, count;
    _Atomic(long) pids[16];
    _Atomic(long) server;
} common;
static common *all;

/* Memory shared with workers: descriptors of it, and mappings. */
static int lines_with(const char *path, const char *part, const char *other) {
    char line[1024];
    int count = 0;
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file)) count += strstr(line, part) || strstr(line, other);
    if (file) fclose(file);
    return count;
}
static int shared_mappings(void) { return lines_with("/proc/self/maps", "/memfd:tpool", "/tmp/tpool"); }
static int shared_descriptors(void) {
    int count = 0;
    for (int fd = 0; fd < 1000; fd++) {
        char path[64], target[256];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(path, target, sizeof target - 1);
        if (n < 0) continue;
        target[n] = 0;
        count += strstr(target, "/memfd:tpool") || strstr(target, "/tmp/tpool");
    }
    return count;
}

static int open_before;
static int set_up(void **state) {
    (void)state;
    memset((void *)all, 0, sizeof *all);
    open_before = descriptors_open();
    return 0;
}
/* Every test leaves as many descriptors as it found, and no child, dead or alive. */
static int tear_down(void **state) {
    (void)state;
    if (descriptors_open() != open_before) {
        print_error("descriptors: %d before, %d after\n", open_before, descriptors_open());
        return 1;
    }
    if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD) {
        print_error("a child is left\n");
        return 1;
    }
    if (shared_mappings() || shared_descriptors()) {
        print_error("shared memory: %d mappings, %d descriptors\n", shared_mappings(), shared_descriptors());
        return 1;
    }
    return 0;
}

static void *double_task(void *arg) { return (void *)(intptr_t)(2 * *(int *)arg); }

/* One bad task in the middle of good ones: it ends as said, they complete, the pool goes on. */
static void one_bad_among_good_ones(const tpool_task *bad, int code, const char *part) {
    enum { GOOD = 20 };
    tpool *pool = process_pool(2);
    tpool_future *good[GOOD], *future;
    const tpool_error *error = NULL;
    for (int i = 0; i < GOOD; i++) {
        if (i == GOOD / 2) assert_status(TPOOL_OK, tpool_submit_task(pool, bad, &future));
        assert_status(TPOOL_OK, tpool_submit_copy(pool, double_task, &i, sizeof i, &good[i]));
    }
    assert_status(TPOOL_BROKEN, tpool_future_result(future, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_future_error(future, 0, &error));
    assert_status(TPOOL_BROKEN, error->status);
    assert_int_equal(code, error->code);
    if (!strstr(error->message, part)) fail_msg("\"%s\" is not in \"%s\"", part, error->message);
    assert_string_equal(error->message, tpool_future_message(future));
    tpool_future_release(future);
    for (int i = 0; i < GOOD; i++) {
        void *result;
        assert_status(TPOOL_OK, tpool_future_result(good[i], LIMIT, &result));
        assert_int_equal(2 * i, (intptr_t)result);
        tpool_future_release(good[i]);
    }
    assert_true(value_of(pool, getpid_task) > 0);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    tpool_stats stats;
    assert_status(TPOOL_OK, tpool_get_stats(pool, &stats));
    assert_int_equal(GOOD + 2, stats.submitted);
    assert_int_equal(GOOD + 1, stats.completed);
    assert_int_equal(1, stats.failed);
#ifdef __linux__ /* of each worker that lives: its memory, and in it a page and two windows */
    /* a worker that was lost may just be replaced: no task waits for that */
    REQUIRE_EVENTUALLY(shared_descriptors() >= 1 && shared_descriptors() <= 2);
    REQUIRE_EVENTUALLY(shared_mappings() >= 1 && shared_mappings() <= 2 * 3);
#endif
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *segfaults(void *arg) {
    char *volatile nobodys = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    signal(SIGSEGV, SIG_DFL); /* a sanitizer's handler would exit */
    signal(SIGBUS, SIG_DFL);
    *nobodys = 1;
    return arg;
}
static void *exits(void *arg) {
    (void)arg;
    exit(3);
}
static void *exits_at_once(void *arg) {
    (void)arg;
    _exit(4);
}
static void *exits_with_zero(void *arg) {
    (void)arg;
    _exit(0);
}
static void *is_killed(void *arg) {
    kill(getpid(), SIGTERM);
    return arg;
}
static void *stops_itself(void *arg) {
    raise(SIGSTOP);
    return arg;
}
static void *closes_all(void *arg) {
    for (int fd = 3; fd < 1000; fd++) close(fd);
    return arg;
}

static void a_task_segfaults(void **s) {
    (void)s;
    one_bad_among_good_ones(&(tpool_task){ .fn = segfaults }, -SIGSEGV, "SIGSEGV");
}
static void a_task_aborts(void **s) {
    (void)s;
    one_bad_among_good_ones(&(tpool_task){ .fn = aborts }, -SIGABRT, "SIGABRT");
}
static void a_task_exits(void **s) {
    (void)s;
    one_bad_among_good_ones(&(tpool_task){ .fn = exits }, 3, "code 3");
}
static void a_task_exits_at_once(void **s) {
    (void)s;
    one_bad_among_good_ones(&(tpool_task){ .fn = exits_at_once }, 4, "code 4");
}
static void a_task_exits_with_zero(void **s) {
    (void)s;
    one_bad_among_good_ones(&(tpool_task){ .fn = exits_with_zero }, 0, "code 0");
}
static void a_task_is_killed(void **s) {
    (void)s;
    one_bad_among_good_ones(&(tpool_task){ .fn = is_killed }, -SIGTERM, "SIGTERM");
}
static void a_task_stops_itself(void **s) {
    (void)s;
    one_bad_among_good_ones(&(tpool_task){ .fn = stops_itself }, -SIGSTOP, "SIGSTOP");
}
static void a_task_closes_all_descriptors(void **s) {
    (void)s;
    one_bad_among_good_ones(&(tpool_task){ .fn = closes_all }, 1, "code 1");
}
static void *never_returns(void *arg) {
    for (volatile int i = 0;; i = !i) { }
    return arg;
}
static void a_task_never_returns(void **s) {
    (void)s;
    one_bad_among_good_ones(&(tpool_task){ .fn = never_returns, .run_limit_ns = TPOOL_MS(30) }, -SIGKILL,
                            "run_limit_ns");
}
static void a_task_ends_its_thread(void **s) {
    (void)s;
    /* the last thread of a process ends it with 0 */
    one_bad_among_good_ones(&(tpool_task){ .fn = end_thread }, 0, "code 0");
}

/* Its source ends in the middle, so the process dies while it hands the bytes over. */
static void *dies_while_returning(void *arg) {
    size_t size = 64 << 20;
    char *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    (void)arg;
    if (bytes == MAP_FAILED) return NULL;
    memset(bytes, 1, size / 2);
    mprotect(bytes + size / 2, size / 2, PROT_NONE);
    signal(SIGSEGV, SIG_DFL);
    signal(SIGBUS, SIG_DFL);
    return tpool_return(bytes, size);
}
static void a_task_dies_while_sending_its_result(void **s) {
    (void)s;
    one_bad_among_good_ones(&(tpool_task){ .fn = dies_while_returning }, -SIGSEGV, "SIGSEGV");
}

static bool limit_memory(void *context) {
    struct rlimit limit = { 512 << 20, 512 << 20 };
    (void)context;
    return setrlimit(RLIMIT_AS, &limit) == 0;
}
char *volatile kept_memory; /* for anyone to see: a compiler may leave out memory that nobody looks at */
static void *eats_memory(void *arg) {
    (void)arg;
    for (;;) {
        char *bytes = malloc(16 << 20);
        if (!bytes) abort();
        memset(bytes, 1, 16 << 20);
        kept_memory = bytes;
    }
    return NULL;
}
static void *returns_too_much(void *arg) {
    static char one;
    (void)arg;
    void *place = tpool_return(&one, SIZE_MAX / 4);
    return place ? place : NULL;
}
static void a_task_eats_its_memory_limit(void **state) {
    (void)state;
    if (SLOW_TOOL) skip(); /* the sanitizers need more address space than that */
    tpool *pool = NULL;
    tpool_future *future;
    const tpool_error *error;
    tpool_config config = { .kind = TPOOL_PROCESSES, .max_workers = 1, .initializer = limit_memory };
    assert_status(TPOOL_OK, tpool_create(&pool, &config));
    future = submitted(pool, eats_memory, NULL);
    assert_status(TPOOL_BROKEN, tpool_future_result(future, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_future_error(future, 0, &error));
    assert_int_equal(-SIGABRT, error->code);
    tpool_future_release(future);
    future = submitted(pool, returns_too_much, NULL);
    assert_status(TPOOL_FAILED, tpool_future_result(future, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_future_error(future, 0, &error));
    assert_int_equal(ENOMEM, error->code);
    tpool_future_release(future);
    assert_true(value_of(pool, getpid_task) > 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- a worker that has less room than the program */

/* A limit that leaves a worker as many bytes of addresses as it has, and some more. */
enum { MORE = 100 << 20, LARGE = 60 << 20 };
static bool limit_what_comes(void *context) {
    long pages = 0;
    (void)context;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%ld", &pages) != 1) return false;
    fclose(file);
    rlim_t most = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + MORE;
    return setrlimit(RLIMIT_AS, &(struct rlimit){ most, most }) == 0;
}
/* What it copies from takes as much as the copy: LARGE twice is more than there is. */
static void *returns_large(void *arg) {
    (void)arg;
    char *bytes = mmap(NULL, LARGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (bytes == MAP_FAILED) return tpool_raise(77, "no bytes");
    void *result = tpool_return(bytes, LARGE);
    munmap(bytes, LARGE);
    return result;
}
static void *small_or_large(void *item, void *context) {
    int n = *(int *)item;
    if (n == 3) return returns_large(context);
    return n == 5 ? tpool_raise(n, "item %d", n) : tpool_return(&n, sizeof n);
}
static void *first_byte(void *arg) { return (void *)(intptr_t) * (unsigned char *)arg; }
static void *first_byte_of_item(void *item, void *context) {
    return (void *)(intptr_t)(*(unsigned char *)item + *(int *)context);
}
static void fails_for_want_of_memory(tpool *pool, tpool_fn fn, const void *arg, size_t size) {
    tpool_future *future;
    const tpool_error *error;
    assert_status(TPOOL_OK, tpool_submit_copy(pool, fn, arg, size, &future));
    assert_status(TPOOL_FAILED, tpool_future_result(future, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_future_error(future, 0, &error));
    assert_int_equal(ENOMEM, error->code);
    assert_true(strlen(error->message) > 10);
    tpool_future_release(future);
}
static tpool *create_limited(void) {
    tpool *pool = NULL;
    assert_status(TPOOL_OK, tpool_create(&pool, &(tpool_config){ .kind = TPOOL_PROCESSES,
                                                                 .max_workers = 1,
                                                                 .initializer = limit_what_comes }));
    return pool;
}
/* Less than it has by then: not one address more. */
static bool limit_to_what_there_is(void *context) {
    (void)context;
    return setrlimit(RLIMIT_AS, &(struct rlimit){ 1 << 20, 1 << 20 }) == 0;
}
static void count_end(void *context) {
    (void)context;
    atomic_fetch_add(&all->count, 1);
}
static void a_worker_without_addresses_is_ended_like_any_other(void **state) {
    (void)state;
    if (SLOW_TOOL) skip(); /* the sanitizers need more address space than that */
    tpool *pool = NULL;
    assert_status(TPOOL_OK, tpool_create(&pool, &(tpool_config){ .kind = TPOOL_PROCESSES,
                                                                 .max_workers = 1,
                                                                 .initializer = limit_to_what_there_is,
                                                                 .finalizer = count_end }));
    assert_true(value_of(pool, getpid_task) > 1);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(1, atomic_load(&all->count));
}
static void what_a_worker_has_no_room_for_fails_and_nothing_else(void **state) {
    (void)state;
#ifndef __linux__
    skip();
#endif
    if (SLOW_TOOL) skip(); /* the sanitizers need more address space than that */
    tpool *pool = create_limited();
    fails_for_want_of_memory(pool, returns_large, NULL, 0);
    char *bytes = calloc(2, LARGE); /* which the program has room for */
    bytes[0] = 7;
    fails_for_want_of_memory(pool, first_byte, bytes, 2 * LARGE);
    int items[8];
    for (int i = 0; i < 8; i++) items[i] = i;
    tpool_map_iter *iter = map_over_ints(pool, small_or_large, items, 8, 8);
    for (int i = 0; i < 8; i++) {
        void *result;
        const tpool_error *error;
        tpool_status status = tpool_map_next(iter, LIMIT, &result);
        assert_status(TPOOL_OK, tpool_map_error(iter, &error));
        if (i == 3) assert_int_equal(ENOMEM, error->code);
        if (i == 5) assert_string_equal("item 5", error->message);
        assert_status(i == 3 || i == 5 ? TPOOL_FAILED : TPOOL_OK, status);
        if (status == TPOOL_OK) assert_int_equal(i, *(int *)result);
    }
    tpool_map_close(iter);
    /* a chunk that is more than it has room for goes there in parts */
    int context = 1;
    tpool_map_spec spec = { .fn = first_byte_of_item,
                            .items = bytes,
                            .count = 8,
                            .stride = LARGE / 4,
                            .item_size = LARGE / 4,
                            .chunk_size = 8,
                            .context = &context,
                            .context_size = sizeof context };
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    for (int i = 0; i < 8; i++) {
        void *result;
        assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, &result));
        assert_int_equal(i == 0 ? 8 : 1, (intptr_t)result);
    }
    tpool_map_close(iter);
    /* an item is more: each fails */
    spec.item_size = spec.stride = 2 * LARGE;
    spec.count = 1;
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    assert_status(TPOOL_FAILED, tpool_map_next(iter, LIMIT, NULL));
    tpool_map_close(iter);
    free(bytes);
    assert_true(value_of(pool, getpid_task) > 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* What a task does to the limits of its worker, and ends well, is not the end of those after it. */
enum { ADDRESSES = 1, FILES = 2, DESCRIPTORS = 4 }; /* which: any of them */
typedef struct lowering {
    int which;
    bool for_ever;
} lowering;
static void *lowers_a_limit(void *arg) {
    lowering l;
    struct rlimit limit;
    int failed = 0;
    memcpy(&l, arg, sizeof l);
    for (int which = ADDRESSES; which <= DESCRIPTORS && !failed; which *= 2) {
        if (!(l.which & which)) continue;
        failed = which == ADDRESSES ? getrlimit(RLIMIT_AS, &limit)
                 : which == FILES   ? getrlimit(RLIMIT_FSIZE, &limit)
                                    : getrlimit(RLIMIT_NOFILE, &limit);
        limit.rlim_cur = which == ADDRESSES ? 1 << 20 : which == FILES ? 0 : 3;
        if (l.for_ever) limit.rlim_max = limit.rlim_cur;
        if (!failed)
            failed = which == ADDRESSES ? setrlimit(RLIMIT_AS, &limit)
                     : which == FILES   ? setrlimit(RLIMIT_FSIZE, &limit)
                                        : setrlimit(RLIMIT_NOFILE, &limit);
    }
    return failed ? tpool_raise(1, "no such limit") : arg;
}
/* A large result, of which no two pages are the same, and who returned it. */
enum { LARGE_WORDS = 100001 };
static void *returns_static(void *arg) {
    static uint32_t words[LARGE_WORDS];
    (void)arg;
    for (uint32_t i = 0; i < LARGE_WORDS; i++) words[i] = i * 2654435761u;
    words[0] = (uint32_t)getpid();
    return (uint32_t *)tpool_return(words, sizeof words) + 1;
}
static uint32_t whose_words(const void *result) {
    const uint32_t *words = (const uint32_t *)result - 1;
    for (uint32_t i = 1; i < LARGE_WORDS; i++) assert_int_equal(i * 2654435761u, words[i]);
    return words[0];
}
static void *echo_item(void *item, void *context) {
    (void)context;
    return tpool_return(item, 200000);
}
static bool becomes_nobody(void *context) { /* root may take its limits back */
    (void)context;
    return geteuid() != 0 || (setgid(65534) == 0 && setuid(65534) == 0);
}
static void limits_that_a_task_sets_are_not_those_of_the_next(void **state) {
    (void)state;
    if (SLOW_TOOL) skip(); /* they need addresses for themselves */
    static char large[2 * 200000];
    static char one;
    for (int i = 0; i < 16; i++) {
        lowering l = { i % 8, i >= 8 };
        for (int next = 0; next < 3; next++) {
            tpool *pool = NULL;
            tpool_future *future;
            tpool_config config = { .kind = TPOOL_PROCESSES, .max_workers = 1, .initializer = becomes_nobody };
            assert_status(TPOOL_OK, tpool_create(&pool, &config));
            assert_status(TPOOL_OK, tpool_submit_copy(pool, lowers_a_limit, &l, sizeof l, &future));
            assert_status(TPOOL_OK, end_of(future));
            if (next == 0) { /* an argument */
                assert_status(TPOOL_OK, tpool_submit_copy(pool, first_byte, large, sizeof large, &future));
                assert_status(TPOOL_OK, end_of(future));
            } else if (next == 1) { /* results; a worker that has given up for ever what they need has one */
                uint32_t before = 0;
                for (int k = 0; k < 3; k++) {
                    void *result;
                    assert_status(TPOOL_OK, tpool_submit_copy(pool, returns_static, &one, 1, &future));
                    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &result));
                    assert_int_equal(LARGE_WORDS * sizeof(uint32_t), tpool_future_result_size(future));
                    uint32_t whose = whose_words(result);
                    bool is_replaced = k == 1 && l.for_ever && (l.which & (ADDRESSES | FILES));
                    if (k > 0) assert_int_equal(is_replaced, whose != before);
                    before = whose;
                    tpool_future_release(future);
                }
            } else if (!(l.which & FILES)) { /* both: the items need another worker */
                tpool_map_iter *iter;
                tpool_map_spec spec = {
                    .fn = echo_item, .items = large, .count = 2, .stride = 200000, .item_size = 200000, .chunk_size = 2
                };
                assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
                for (int k = 0; k < 2; k++) assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, NULL));
                tpool_map_close(iter);
            }
            assert_status(TPOOL_OK, tpool_destroy(pool));
        }
    }
}
/* Nor of the next item in a chunk. Plain results, small ones and an error lie before the large one. */
static void *lowers_or_returns(void *item, void *context) {
    int i = *(int *)item;
    lowering l = { *(int *)context, true };
    if (i == 1) return lowers_a_limit(&l);
    if (i == 2) return tpool_return(&i, sizeof i);
    if (i == 3) return tpool_raise(7, "as it is");
    return i % 2 ? returns_static(NULL) : NULL;
}
static void limits_that_an_item_sets_for_ever_cost_no_result(void **state) {
    (void)state;
    if (SLOW_TOOL) skip();
    enum { COUNT = 10 };
    int items[COUNT];
    for (int i = 0; i < COUNT; i++) items[i] = i;
    for (int which = 0; which < 4; which++) {
        tpool *pool = NULL;
        tpool_config config = {
            .kind = TPOOL_PROCESSES, .max_workers = 1, .initializer = becomes_nobody, .finalizer = count_end
        };
        atomic_store(&all->count, 0);
        assert_status(TPOOL_OK, tpool_create(&pool, &config));
        tpool_map_spec spec = { .fn = lowers_or_returns,
                                .items = items,
                                .count = COUNT,
                                .stride = sizeof(int),
                                .item_size = sizeof(int),
                                .chunk_size = COUNT,
                                .context = &which,
                                .context_size = sizeof which };
        tpool_map_iter *iter;
        uint32_t whose[COUNT];
        assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
        for (int i = 0; i < COUNT; i++) {
            void *result;
            assert_status(i == 3 ? TPOOL_FAILED : TPOOL_OK, tpool_map_next(iter, LIMIT, &result));
            if (i == 2) assert_int_equal(2, *(int *)result);
            if (i > 3 && i % 2) whose[i] = whose_words(result);
        }
        tpool_map_close(iter);
        assert_int_equal(which != 0, whose[7] != whose[5]); /* the rest ran elsewhere, and was left no limit */
        assert_int_equal(whose[9], whose[7]);
        assert_int_equal(which != 0, atomic_load(&all->count)); /* that worker's finalizer has run */
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}
static int files_are_limited(void) {
    enum { SIZE = 70 << 20 };
    tpool *pool = NULL;
    tpool_future *future;
    void *result;
    char *bytes = calloc(1, SIZE);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 2 * SIZE + (1 << 20), 2 * SIZE + (1 << 20) });
    tpool_config config = { .kind = TPOOL_PROCESSES, .max_workers = 1 };
    if (!bytes || tpool_create(&pool, &config) != TPOOL_OK) return 1;
    for (int i = 1; i <= 4; i++) {
        size_t size = (size_t)SIZE - (i == 3 ? 1000003 : 0);
        bytes[size - 1] = (char)i;
        if (tpool_submit_copy(pool, i % 2 ? echo : first_byte, bytes, size, &future) != TPOOL_OK) return 2;
        if (tpool_future_result(future, LIMIT, &result) != TPOOL_OK) return 10 + i;
        if (i % 2 && memcmp(bytes, result, size) != 0) return 3;
        tpool_future_release(future);
    }
    free(bytes);
    bytes = calloc(3, SIZE); /* more than that is refused, and harms nobody */
    if (!bytes || tpool_submit_copy(pool, first_byte, bytes, (size_t)3 * SIZE, &future) != TPOOL_OK) return 4;
    if (tpool_future_result(future, LIMIT, &result) != TPOOL_FAILED) return 5;
    tpool_future_release(future);
    free(bytes);
    if (tpool_submit_copy(pool, echo, "abc", 4, &future) != TPOOL_OK) return 6;
    if (tpool_future_result(future, LIMIT, &result) != TPOOL_OK || strcmp("abc", result) != 0) return 7;
    tpool_future_release(future);
    return tpool_destroy(pool) == TPOOL_OK ? 0 : 8;
}
static int in_a_child(int (*story)(void));
static void large_arguments_take_the_same_place_again(void **state) {
    (void)state;
    SKIP_UNDER_TSAN();
    assert_int_equal(0, in_a_child(files_are_limited));
}

static void *oom_score(void *arg) {
    int score = -1;
    (void)arg;
    FILE *file = fopen("/proc/self/oom_score_adj", "r");
    if (!file || fscanf(file, "%d", &score) != 1) return NULL;
    fclose(file);
    return (void *)(intptr_t)score;
}
static void out_of_memory_a_worker_is_killed_first(void **state) {
    (void)state;
#ifndef __linux__
    skip();
#endif
    tpool *pool = process_pool(1);
    intptr_t score = value_of(pool, oom_score);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(1000, score);
}

static void *waits_for_ever(void *arg) {
    int at = atomic_fetch_add(&all->arrived, 1);
    atomic_store(&all->pids[at], getpid());
    atomic_store(&all->server, getppid());
    atomic_fetch_add(&all->count, 1);
    while (!atomic_load(&all->open)) sleep_ms(5);
    return arg;
}

static void a_worker_is_killed_from_outside(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    tpool_future *future;
    const tpool_error *error;
    intptr_t idle = value_of(pool, getpid_task);
    assert_int_equal(0, kill((pid_t)idle, SIGKILL)); /* while it waits for work: nobody loses anything */
    EVENTUALLY(!is_alive(idle));
    intptr_t next = value_of(pool, getpid_task);
    assert_int_not_equal(idle, next);
    future = submitted(pool, waits_for_ever, NULL);
    EVENTUALLY(atomic_load(&all->count) == 1);
    assert_int_equal(0, kill((pid_t)next, SIGKILL));
    assert_status(TPOOL_BROKEN, tpool_future_result(future, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_future_error(future, 0, &error));
    assert_int_equal(-SIGKILL, error->code);
    tpool_future_release(future);
    assert_true(value_of(pool, getpid_task) > 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* A task that runs for ever, on a worker of a server that has not been killed. A worker of the last one may begin it
   first, and dies then. */
static tpool_future *running_on_another_server(tpool *pool, long killed) {
    for (;;) {
        atomic_store(&all->count, 0);
        atomic_store(&all->arrived, 0);
        tpool_future *running = submitted(pool, waits_for_ever, NULL);
        EVENTUALLY(atomic_load(&all->count) == 1 || tpool_future_done(running));
        long server = atomic_load(&all->server);
        if (!tpool_future_done(running) && server != killed && is_server((pid_t)server)) return running;
        assert_status(TPOOL_BROKEN, end_of(running));
    }
}
/* Whatever was running is lost with its server; the rest runs on workers of the server's spare, again and again. */
static void the_server_is_killed(void **state) {
    (void)state;
    enum { ROUNDS = 4, WAITING = 6 };
    tpool *pool = process_pool(2);
    long servers[ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
        tpool_future *waiting[WAITING];
        tpool_future *running = running_on_another_server(pool, round ? servers[round - 1] : 0);
        for (int i = 0; i < WAITING; i++) assert_status(TPOOL_OK, tpool_submit(pool, getpid_task, NULL, &waiting[i]));
        servers[round] = atomic_load(&all->server);
        for (int i = 0; i < round; i++) assert_int_not_equal(servers[i], servers[round]);
        assert_int_equal(0, kill((pid_t)servers[round], SIGKILL));
        assert_status(TPOOL_BROKEN, tpool_future_result(running, LIMIT, NULL));
        assert_non_null(strstr(tpool_future_message(running), "server"));
        tpool_future_release(running);
        for (int i = 0; i < WAITING; i++) { /* one of them may have been under way */
            tpool_status end = tpool_future_result(waiting[i], LIMIT, NULL);
            assert_true(end == TPOOL_OK || (end == TPOOL_BROKEN && strstr(tpool_future_message(waiting[i]), "server")));
            tpool_future_release(waiting[i]);
        }
        assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
        EVENTUALLY(!is_alive(atomic_load(&all->pids[0])));
    }
    assert_true(value_of(pool, getpid_task) > 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *kills_its_server(void *arg) {
    kill(getppid(), SIGKILL);
    sleep_ms(10000);
    return arg;
}
static void a_task_kills_its_server(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    assert_status(TPOOL_BROKEN, end_of(submitted(pool, kills_its_server, NULL)));
    assert_true(value_of(pool, getpid_task) > 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* A program with a pool of three running workers; gives its pid once they run. */
static pid_t start_program(void) {
    pid_t program = fork();
    if (program == 0) {
        tpool *pool = NULL;
        if (tpool_create(&pool, &(tpool_config){ .kind = TPOOL_PROCESSES, .max_workers = 3 }) != TPOOL_OK) _exit(1);
        for (int i = 0; i < 3; i++)
            if (tpool_submit(pool, waits_for_ever, NULL, NULL) != TPOOL_OK) _exit(2);
        sleep_ms(60000);
        _exit(3);
    }
    EVENTUALLY(atomic_load(&all->count) == 3);
    return program;
}
static void no_worker_outlives(void) {
    int64_t end = tpool_now() + TPOOL_SEC(SLOW_TOOL ? 60 : 8); /* less than the limit for a server that is stopped */
    for (int i = 0; i < 3; i++)
        while (is_alive(atomic_load(&all->pids[i]))) {
            if (tpool_now() > end) fail_msg("worker %d is still there", i);
            sleep_ms(1);
        }
    while (is_alive(atomic_load(&all->server))) {
        if (tpool_now() > end) fail_msg("the server is still there");
        sleep_ms(1);
    }
}
static void the_program_is_killed(void **state) {
    (void)state;
    SKIP_UNDER_TSAN();
    int how;
    pid_t program = start_program();
    assert_int_equal(0, kill(program, SIGKILL));
    assert_int_equal(program, waitpid(program, &how, 0));
    no_worker_outlives();
}
static void the_program_and_the_server_are_killed(void **state) {
    (void)state;
    SKIP_UNDER_TSAN();
    int how;
    pid_t program = start_program();
    assert_int_equal(0, kill(program, SIGSTOP)); /* it sees nothing of what comes first */
    assert_int_equal(0, kill((pid_t)atomic_load(&all->server), SIGKILL));
    assert_int_equal(0, kill(program, SIGKILL));
    assert_int_equal(program, waitpid(program, &how, 0));
    no_worker_outlives();
}
/* A server that somebody has stopped is told to go on, so that it can end its workers. */
static void the_program_is_killed_with_its_server_stopped(void **state) {
    (void)state;
    SKIP_UNDER_TSAN();
    int how;
    pid_t program = start_program();
    assert_int_equal(0, kill((pid_t)atomic_load(&all->server), SIGSTOP));
    assert_int_equal(0, kill(program, SIGKILL));
    assert_int_equal(program, waitpid(program, &how, 0));
    no_worker_outlives();
}
static void the_program_ends_with_a_pool_at_work(void **state) {
    (void)state;
    SKIP_UNDER_TSAN();
    int how;
    pid_t program = fork();
    if (program == 0) {
        tpool *pool = NULL;
        if (tpool_create(&pool, &(tpool_config){ .kind = TPOOL_PROCESSES, .max_workers = 3 }) != TPOOL_OK) _exit(1);
        for (int i = 0; i < 6; i++)
            if (tpool_submit(pool, waits_for_ever, NULL, NULL) != TPOOL_OK) _exit(2);
        while (atomic_load(&all->count) < 3) sleep_ms(1);
        _exit(0);
    }
    assert_int_equal(program, waitpid(program, &how, 0));
    assert_int_equal(0, how);
    no_worker_outlives();
}

/* In a process of its own, whose limits may change. */
static int in_a_child(int (*story)(void)) {
    int how = -1;
    pid_t child = fork();
    if (child == 0) _exit(story());
    assert_int_equal(child, waitpid(child, &how, 0));
    return WIFEXITED(how) ? WEXITSTATUS(how) : 1000 + how;
}
static void limit_descriptors(int more) {
    int limit = 0;
    for (; more > 0; limit++) more -= fcntl(limit, F_GETFD) < 0;
    struct rlimit least = { (rlim_t)limit, (rlim_t)limit };
    setrlimit(RLIMIT_NOFILE, &least);
}
static int none_for_a_pool(void) {
    tpool *pool = NULL;
    limit_descriptors(1);
    if (tpool_create(&pool, &(tpool_config){ .kind = TPOOL_PROCESSES }) != TPOOL_NO_THREAD) return 1;
    return pool != NULL;
}
static int none_for_a_worker(void) {
    tpool *pool = NULL;
    if (tpool_create(&pool, &(tpool_config){ .kind = TPOOL_PROCESSES, .max_workers = 4 }) != TPOOL_OK) return 1;
    limit_descriptors(2);
    tpool_future *future = NULL;
    tpool_status st = tpool_submit(pool, getpid_task, NULL, &future);
    if (st != TPOOL_NO_THREAD || future) return 2;
    if (tpool_warm_up(pool, 1) != TPOOL_NO_THREAD) return 3;
    return tpool_destroy(pool) == TPOOL_OK ? 0 : 4;
}
static int enough_for_one_worker(void) {
    enum { TASKS = 50 };
    tpool *pool = NULL;
    tpool_future *futures[TASKS];
    if (tpool_create(&pool, &(tpool_config){ .kind = TPOOL_PROCESSES, .max_workers = 4 }) != TPOOL_OK) return 1;
    limit_descriptors(7);
    for (int i = 0; i < TASKS; i++)
        if (tpool_submit(pool, getpid_task, NULL, &futures[i]) != TPOOL_OK) return 2;
    for (int i = 0; i < TASKS; i++) {
        if (tpool_future_result(futures[i], LIMIT, NULL) != TPOOL_OK) return 3;
        tpool_future_release(futures[i]);
    }
    if (tpool_submit(pool, aborts, NULL, &futures[0]) != TPOOL_OK) return 4; /* and it can be replaced */
    if (tpool_future_result(futures[0], LIMIT, NULL) != TPOOL_BROKEN) return 5;
    tpool_future_release(futures[0]);
    if (tpool_submit(pool, getpid_task, NULL, &futures[0]) != TPOOL_OK) return 6;
    if (tpool_future_result(futures[0], LIMIT, NULL) != TPOOL_OK) return 7;
    tpool_future_release(futures[0]);
    return tpool_destroy(pool) == TPOOL_OK ? 0 : 8;
}
static void descriptors_run_out(void **state) {
    (void)state;
    SKIP_UNDER_TSAN();
    assert_int_equal(0, in_a_child(none_for_a_pool));
    assert_int_equal(0, in_a_child(none_for_a_worker));
    assert_int_equal(0, in_a_child(enough_for_one_worker));
}

static void *map_item(void *item, void *context) {
    int n = *(int *)item;
    (void)context;
    if (n % 10 == 7) abort();
    if (n % 10 == 8) _exit(9);
    return (void *)(intptr_t)(n * 3);
}
static void an_item_takes_only_itself_with_it(void **state) {
    (void)state;
    enum { ITEMS = 60 };
    static const size_t chunks[] = { 1, 7, 60, 0 };
    int items[ITEMS];
    for (int i = 0; i < ITEMS; i++) items[i] = i;
    tpool *pool = process_pool(2);
    for (int c = 0; c < 4; c++) {
        tpool_map_iter *iter = map_over_ints(pool, map_item, items, ITEMS, chunks[c]);
        for (int i = 0; i < ITEMS; i++) {
            void *result;
            const tpool_error *error;
            tpool_status status = tpool_map_next(iter, LIMIT, &result);
            assert_status(i % 10 == 7 || i % 10 == 8 ? TPOOL_BROKEN : TPOOL_OK, status);
            assert_status(TPOOL_OK, tpool_map_error(iter, &error));
            if (status == TPOOL_OK) assert_int_equal(3 * i, (intptr_t)result);
            else assert_int_equal(i % 10 == 7 ? -SIGABRT : 9, error->code);
        }
        assert_status(TPOOL_END, tpool_map_next(iter, LIMIT, NULL));
        tpool_map_close(iter);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* As many of everything after each fault as before, with the pool still there. */
static void faults_leave_nothing_behind_while_the_pool_lives(void **state) {
    (void)state;
    static const tpool_fn bad[] = {
        segfaults, exits_at_once, is_killed, stops_itself, closes_all, dies_while_returning
    };
    tpool *pool = process_pool(1);
    int descriptors = 0, mappings = 0, memories = 0;
    for (int i = 0; i < 24; i++) {
        assert_true(value_of(pool, getpid_task) > 0);
        if (i == 0) {
            descriptors = descriptors_open();
            mappings = shared_mappings();
            memories = shared_descriptors();
        }
        assert_int_equal(descriptors, descriptors_open());
        assert_int_equal(mappings, shared_mappings());
        assert_int_equal(memories, shared_descriptors());
        assert_status(TPOOL_BROKEN, end_of(submitted(pool, bad[i % 6], NULL)));
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static _Atomic(int) reported;
static void report(const tpool_error *error, void *context) {
    (void)context;
    if (error->status == TPOOL_BROKEN && error->code == -SIGABRT &&
        (!error->task || strcmp(error->task, "forgotten") == 0))
        atomic_fetch_add(&reported, 1);
}
static void a_broken_task_that_nobody_asks_for_is_reported(void **state) {
    (void)state;
    tpool *pool = NULL;
    tpool_config config = { .kind = TPOOL_PROCESSES, .max_workers = 1, .on_failure = report };
    assert_status(TPOOL_OK, tpool_create(&pool, &config));
    tpool_task task = { .fn = aborts, .name = "forgotten" };
    atomic_store(&reported, 0);
    for (int i = 0; i < 3; i++) assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(3, atomic_load(&reported));
    assert_status(TPOOL_OK, tpool_submit(pool, aborts, NULL, NULL)); /* without a block */
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(4, atomic_load(&reported));
}

/* Threads that submit, tasks that die, somebody who kills workers, all at once. */
static _Atomic(int) stop_killing;
static uint64_t ended_in(tpool *pool) {
    tpool_stats stats = { 0 };
    (void)tpool_get_stats(pool, &stats);
    return stats.completed + stats.failed;
}
static void *kill_now_and_then(void *pool) {
    while (!atomic_load(&stop_killing)) {
        uint64_t ended = ended_in((tpool *)pool);
        if (tpool_kill_workers(pool) != TPOOL_OK) return NULL;
        do /* else nothing would run where a process' start takes longer, as under a sanitizer */
            sleep_ms(3);
        while (ended_in((tpool *)pool) == ended && !atomic_load(&stop_killing));
    }
    return pool;
}
static void *dies_sometimes(void *arg) {
    if (*(int *)arg % 5 == 1) abort();
    return (void *)(intptr_t) * (int *)arg;
}
static void everything_at_once(void **state) {
    (void)state;
    enum { TASKS = 300 };
    tpool *pool = process_pool(3);
    tpool_future *futures[TASKS];
    pthread_t killer;
    atomic_store(&stop_killing, 0);
    assert_int_equal(0, pthread_create(&killer, NULL, kill_now_and_then, pool));
    for (int i = 0; i < TASKS; i++)
        assert_status(TPOOL_OK, tpool_submit_copy(pool, dies_sometimes, &i, sizeof i, &futures[i]));
    for (int i = 0; i < TASKS; i++) {
        void *result;
        tpool_status end = tpool_future_result(futures[i], LIMIT, &result);
        if (end == TPOOL_OK) assert_int_equal(i, (intptr_t)result);
        else assert_status(TPOOL_BROKEN, end);
        if (i % 5 == 1) assert_status(TPOOL_BROKEN, end);
        tpool_future_release(futures[i]);
    }
    atomic_store(&stop_killing, 1);
    void *result;
    assert_int_equal(0, pthread_join(killer, &result));
    assert_ptr_equal(pool, result);
    assert_true(value_of(pool, getppid_task) > 1);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

int main(void) {
    all = shared_memory(sizeof *all);
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(a_task_segfaults),
        T(a_task_aborts),
        T(a_task_exits),
        T(a_task_exits_at_once),
        T(a_task_exits_with_zero),
        T(a_task_is_killed),
        T(a_task_stops_itself),
        T(a_task_never_returns),
        T(a_task_closes_all_descriptors),
        T(a_task_ends_its_thread),
        T(a_task_dies_while_sending_its_result),
        T(a_task_eats_its_memory_limit),
        cmocka_unit_test_setup(what_a_worker_has_no_room_for_fails_and_nothing_else, set_up),
        T(a_worker_without_addresses_is_ended_like_any_other),
        cmocka_unit_test_setup(limits_that_a_task_sets_are_not_those_of_the_next, set_up),
        cmocka_unit_test_setup(limits_that_an_item_sets_for_ever_cost_no_result, set_up),
        T(large_arguments_take_the_same_place_again),
        T(out_of_memory_a_worker_is_killed_first),
        T(a_worker_is_killed_from_outside),
        T(the_server_is_killed),
        T(a_task_kills_its_server),
        T(the_program_is_killed),
        T(the_program_and_the_server_are_killed),
        T(the_program_is_killed_with_its_server_stopped),
        T(faults_leave_nothing_behind_while_the_pool_lives),
        T(the_program_ends_with_a_pool_at_work),
        T(descriptors_run_out),
        T(an_item_takes_only_itself_with_it),
        T(a_broken_task_that_nobody_asks_for_is_reported),
        T(everything_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
