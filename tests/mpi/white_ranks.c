/* Ranks that are short of memory or threads, and whose pools end slowly. The implementation is included, so that what a
   rank's own process asks for can be refused, and so that each receive can be looked at. All ranks share a page. */
#include <stddef.h>
static void *refusable_malloc(size_t size);
#define TPOOL_MALLOC(size) refusable_malloc(size)
#define TPOOL_FREE(pointer) free(pointer)
#define TPOOL_THREADS_POSIX
#include "support.h"
static int refusable_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *arg);
#define pthread_create refusable_create
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
#undef pthread_create

#include "stop.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>

static struct page {
    atomic_size_t least, most; /* sizes that hosts' processes are refused; at first none */
    atomic_bool refuses_threads;
    atomic_size_t refused;
    atomic_bool finalizes, may_finalize;
    atomic_int initializing;
    atomic_bool may_not_initialize;
} * page;
static pid_t host; /* of a rank's own process, and of its workers' */

/* --- what the implementation asks for */

static bool is_host(void) { return page && host == getpid(); }
static void *refusable_malloc(size_t size) {
    if (!is_host() || size < atomic_load(&page->least) || size > atomic_load(&page->most)) return malloc(size);
    atomic_fetch_add(&page->refused, 1);
    return NULL;
}
static int refusable_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *arg) {
    if (!is_host() || !atomic_load(&page->refuses_threads)) return pthread_create(thread, attributes, start, arg);
    atomic_fetch_add(&page->refused, 1);
    return EAGAIN;
}
static void refuse_sizes(size_t least, size_t most) {
    atomic_store(&page->refused, 0);
    atomic_store(&page->most, most);
    atomic_store(&page->least, least);
}
static void refuse_nothing(void) { refuse_sizes(SIZE_MAX, 0); }

/* Two threads that are in MPI at once, and receives whose buffers overlap, or whose bytes could take each other's
   place, end the rank, and with it the program. */
static atomic_int inside;
static void enter(void) {
    if (atomic_fetch_add(&inside, 1) == 0) return;
    fprintf(stderr, "FAILED: two threads call MPI\n");
    abort();
}
static int leave(int result) {
    atomic_fetch_sub(&inside, 1);
    return result;
}
int MPI_Testsome(int count, MPI_Request *requests, int *over, int *which, MPI_Status *statuses) {
    enter();
    return leave(PMPI_Testsome(count, requests, over, which, statuses));
}
enum { RECEIVES = 64 };
static struct {
    MPI_Request *request;
    char *begin, *end;
    int from, tag;
} receives[RECEIVES];
int MPI_Irecv(void *at, int count, MPI_Datatype type, int from, int tag, MPI_Comm comm, MPI_Request *request) {
    int place = 0;
    for (int i = 0; i < RECEIVES; i++) {
        if (!receives[i].request) place = i;
        else if ((char *)at < receives[i].end && receives[i].begin < (char *)at + count) {
            fprintf(stderr, "FAILED: two receives share a buffer\n");
            abort();
        } else if (receives[i].from == from && receives[i].tag == tag) {
            fprintf(stderr, "FAILED: two receives share a tag\n");
            abort();
        }
    }
    receives[place].request = request;
    receives[place].begin = at;
    receives[place].end = receives[place].begin + count;
    receives[place].from = from;
    receives[place].tag = tag;
    enter();
    return leave(PMPI_Irecv(at, count, type, from, tag, comm, request));
}
int MPI_Test(MPI_Request *request, int *over, MPI_Status *status) {
    enter();
    int result = leave(PMPI_Test(request, over, status));
    for (int i = 0; *over && i < RECEIVES; i++)
        if (receives[i].request == request) receives[i].request = NULL;
    return result;
}

/* --- tools */

static void *answers(void *unused) {
    (void)unused;
    return (void *)42;
}
static void *host_of(void *unused) {
    (void)unused;
    return (void *)(intptr_t)host;
}
static void *size_of(void *unused) {
    (void)unused;
    return (void *)tpool_arg_size();
}
static void finalizes_slowly(void *unused) {
    (void)unused;
    atomic_store(&page->finalizes, true);
    while (!atomic_load(&page->may_finalize)) usleep(1000);
}
static tpool *rank_pool(int workers, void (*finalizer)(void *context)) {
    tpool *pool = NULL;
    assert_status(TPOOL_OK,
                  tpool_create(&pool, &(tpool_config){
                                          .kind = TPOOL_MPI_RANKS, .max_workers = workers, .finalizer = finalizer }));
    return pool;
}
static intptr_t value_of(tpool *pool, tpool_fn fn) {
    tpool_future *future = NULL;
    void *value = NULL;
    assert_status(TPOOL_OK, tpool_submit(pool, fn, NULL, &future));
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &value));
    tpool_future_release(future);
    return (intptr_t)value;
}
static void assert_serves(tpool *pool) { assert_int_equal(42, value_of(pool, answers)); }
/* Of the process's main thread, user and system time in clock ticks. */
static long ticks_of(pid_t pid) {
    char path[80], text[1024];
    long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", (int)pid, (int)pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t size = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[size] = 0;
    const char *end = strrchr(text, ')');
    assert_non_null(end);
    assert_int_equal(2, sscanf(end + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %ld %ld", &user, &system));
    return user + system;
}

/* --- memory */

/* A rank that waits for memory looks for it now and then. One that looks all the time takes 100 ticks a second. */
static void a_rank_without_memory_sleeps(void **state) {
    (void)state;
    tpool *pool = rank_pool(1, NULL), *other = NULL;
    pid_t there = (pid_t)value_of(pool, host_of);
    for (int i = 0; i < 2; i++) { /* it cannot answer; it cannot begin a worker */
        tpool_future *future = NULL;
        void *value = NULL;
        refuse_sizes(0, SIZE_MAX);
        if (i) other = rank_pool(1, NULL);
        assert_status(TPOOL_OK, tpool_submit(i ? other : pool, answers, NULL, &future));
        EVENTUALLY(atomic_load(&page->refused) > 3);
        long before = ticks_of(there);
        sleep_ms(1500);
        long took = ticks_of(there) - before;
        refuse_nothing();
        tpool_status status = tpool_future_result(future, LIMIT, &value);
        assert_true(status == TPOOL_OK || status == TPOOL_FAILED || (i && status == TPOOL_BROKEN));
        tpool_future_release(future);
        assert_true(took <= 20);
    }
    assert_status(TPOOL_OK, tpool_destroy(other));
    assert_serves(pool);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void *triple_item(void *item, void *context) {
    (void)context;
    return (void *)(*(intptr_t *)item * 3);
}
/* A rank that has no memory for a chunk's results at once executes its items one by one. */
static void a_chunk_without_memory_goes_on_item_by_item(void **state) {
    (void)state;
    enum { COUNT = 100 };
    intptr_t items[COUNT], wrong = 0;
    tpool *pool = rank_pool(1, NULL);
    tpool_map_iter *iter = NULL;
    assert_serves(pool);
    for (intptr_t i = 0; i < COUNT; i++) items[i] = i;
    tpool_map_spec spec = { .fn = triple_item,
                            .items = items,
                            .count = COUNT,
                            .chunk_size = COUNT,
                            .stride = sizeof *items,
                            .item_size = sizeof *items };
    refuse_sizes(COUNT * sizeof(tpool__slot), COUNT * sizeof(tpool__slot));
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    for (intptr_t i = 0; i < COUNT; i++) {
        void *value = NULL;
        wrong += tpool_map_next(iter, LIMIT, &value) != TPOOL_OK || (intptr_t)value != 3 * i;
    }
    assert_int_equal(0, wrong);
    assert_true(atomic_load(&page->refused) > 0);
    refuse_nothing();
    tpool_map_close(iter);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* A rank that has no memory to be told of a task's end looks for it. */
static void an_end_that_tells_nobody_is_seen(void **state) {
    (void)state;
    tpool *pool = rank_pool(1, NULL);
    assert_serves(pool);
    refuse_sizes(sizeof(tpool__callback), sizeof(tpool__callback));
    do assert_serves(pool); /* one that has ended at once tells it without memory */
    while (atomic_load(&page->refused) == 0);
    refuse_nothing();
    assert_serves(pool);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
enum { MUCH = 20 << 20 };
/* A letter whose bytes cannot be awaited yet stays where it is. */
static void a_letter_waits_for_memory(void **state) {
    (void)state;
    tpool *pool = rank_pool(1, NULL);
    char *much = calloc(MUCH, 1);
    tpool_future *future = NULL;
    void *value = NULL;
    assert_serves(pool);
    refuse_sizes(sizeof(tpool__transfer), sizeof(tpool__transfer));
    assert_status(TPOOL_OK, tpool_submit_copy(pool, size_of, much, MUCH, &future));
    EVENTUALLY(atomic_load(&page->refused) > 3);
    assert_false(tpool_future_done(future));
    refuse_nothing();
    assert_status(TPOOL_OK, tpool_future_result(future, LIMIT, &value));
    assert_int_equal(MUCH, (intptr_t)value);
    tpool_future_release(future);
    free(much);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* What there is no memory for is received all the same, one after the other. */
static void bytes_without_memory_are_received_one_by_one(void **state) {
    (void)state;
    enum { TASKS = 12 };
    tpool *pool = rank_pool(TASKS, NULL); /* four on each rank */
    char *much = calloc(MUCH, 1);
    tpool_future *futures[TASKS];
    assert_status(TPOOL_OK, tpool_warm_up(pool, TASKS));
    refuse_sizes(MUCH, SIZE_MAX);
    for (int i = 0; i < TASKS; i++) assert_status(TPOOL_OK, tpool_submit_copy(pool, size_of, much, MUCH, &futures[i]));
    for (int i = 0; i < TASKS; i++) {
        assert_status(TPOOL_FAILED, tpool_future_result(futures[i], LIMIT, NULL));
        assert_non_null(strstr(tpool_future_message(futures[i]), "Memory ran out"));
        tpool_future_release(futures[i]);
    }
    assert_true(atomic_load(&page->refused) >= TASKS);
    refuse_nothing();
    assert_serves(pool);
    free(much);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- bytes beside each other */

static void *ignored(void *item, void *context) {
    (void)item;
    return context ? NULL : item;
}
/* While the bytes of one worker are on their way, more of others' go than MPI has tags for. */
static void bytes_on_their_way_share_no_tag(void **state) {
    (void)state;
    enum { SOME = 40000, TAGS = TPOOL__TAG_MOST };
    tpool *first = rank_pool(1, NULL), *others = rank_pool(2, NULL), *last = rank_pool(1, NULL);
    tpool_future *futures[2];
    char *much = calloc(MUCH, 1);
    static char items[TAGS - 1];
    tpool_map_iter *iter = NULL;
    tpool_map_spec spec = { .fn = ignored,
                            .items = items,
                            .count = TAGS - 1,
                            .stride = 1,
                            .item_size = 1,
                            .chunk_size = 1,
                            .context = much,
                            .context_size = SOME,
                            .unordered = true };
    pid_t there = (pid_t)value_of(first, host_of);
    assert_serves(last);
    assert_status(TPOOL_OK, tpool_warm_up(others, 2));
    sleep_ms(100); /* both workers are ready; if one is not, the other executes all items */
    stop_process(there);
    assert_status(TPOOL_OK, tpool_submit_copy(first, size_of, much, MUCH, &futures[0]));
    EVENTUALLY(tpool_future_running(futures[0]));
    sleep_ms(20); /* it has been sent */
    assert_status(TPOOL_OK, tpool_map(others, &spec, &iter));
    /* one comes no further than the rank that stands still */
    for (int i = 0; i < TAGS - 2; i++) assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_submit_copy(last, size_of, much, MUCH, &futures[1]));
    EVENTUALLY(tpool_future_running(futures[1]));
    sleep_ms(20);
    assert_int_equal(0, kill(there, SIGCONT));
    for (int i = 0; i < 2; i++) {
        assert_status(TPOOL_OK, tpool_future_result(futures[i], LIMIT, NULL));
        tpool_future_release(futures[i]);
    }
    assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, NULL));
    tpool_map_close(iter);
    free(much);
    assert_status(TPOOL_OK, tpool_destroy(first));
    assert_status(TPOOL_OK, tpool_destroy(others));
    assert_status(TPOOL_OK, tpool_destroy(last));
}

/* --- threads, and pools that end */

static void a_slow_finalizer_holds_up_no_other_pool(void **state) {
    (void)state;
    tpool *slow = rank_pool(1, finalizes_slowly), *pool = rank_pool(1, NULL); /* both on rank 1 */
    atomic_store(&page->finalizes, false);
    atomic_store(&page->may_finalize, false);
    assert_serves(slow);
    assert_serves(pool);
    atomic_store(&page->refuses_threads, true);
    assert_status(TPOOL_OK, tpool_shutdown(slow, 0));
    EVENTUALLY(atomic_load(&page->finalizes));
    assert_serves(pool);
    atomic_store(&page->refuses_threads, false);
    atomic_store(&page->may_finalize, true);
    assert_status(TPOOL_OK, tpool_destroy(slow));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void kill_workers_ends_a_finalizer(void **state) {
    (void)state;
    tpool *pool = rank_pool(1, finalizes_slowly);
    atomic_store(&page->finalizes, false);
    atomic_store(&page->may_finalize, false);
    assert_serves(pool);
    assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
    EVENTUALLY(atomic_load(&page->finalizes));
    assert_status(TPOOL_OK, tpool_kill_workers(pool));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    atomic_store(&page->may_finalize, true);
}
/* While a process that has died is replaced, its worker takes no task. So the time of the initializer counts against no
   task's limit, a waiting task can be cancelled, and a kill is for the process, not for that task. */
static bool initializes_slowly(void *unused) {
    (void)unused;
    atomic_fetch_add(&page->initializing, 1);
    while (atomic_load(&page->may_not_initialize)) usleep(1000);
    return true;
}
static void *dies(void *unused) {
    (void)unused;
    _exit(3);
}
static void *dies_in_item(void *item, void *context) {
    (void)context;
    return dies(item);
}
static void a_worker_takes_no_task_while_its_process_is_replaced(void **state) {
    (void)state;
    tpool *pool = NULL;
    tpool_config config = { .kind = TPOOL_MPI_RANKS, .max_workers = 1, .initializer = initializes_slowly };
    tpool_task limited = { .fn = answers, .run_limit_ns = TPOOL_MS(50) };
    assert_status(TPOOL_OK, tpool_create(&pool, &config));
    for (int i = 0; i < 3; i++) {
        tpool_future *dead = NULL, *waits = NULL, *cancelled = NULL;
        tpool_map_iter *iter = NULL;
        char item = 0;
        tpool_map_spec spec = { .fn = dies_in_item, .items = &item, .count = 1, .stride = 1, .item_size = 1 };
        assert_serves(pool);
        atomic_store(&page->initializing, 0);
        atomic_store(&page->may_not_initialize, true);
        if (i == 0) { /* in a map */
            assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
            assert_status(TPOOL_BROKEN, tpool_map_next(iter, LIMIT, NULL));
            tpool_map_close(iter);
        } else {
            assert_status(TPOOL_OK, tpool_submit(pool, dies, NULL, &dead));
            assert_status(TPOOL_BROKEN, tpool_future_result(dead, LIMIT, NULL));
            tpool_future_release(dead);
        }
        assert_status(TPOOL_OK, tpool_submit_task(pool, &limited, &waits));
        assert_status(TPOOL_OK, tpool_submit(pool, answers, NULL, &cancelled));
        EVENTUALLY(atomic_load(&page->initializing) == 1);
        sleep_ms(100);
        if (i == 2) {
            assert_status(TPOOL_OK, tpool_kill_workers(pool));
            EVENTUALLY(atomic_load(&page->initializing) == 2);
        }
        assert_true(tpool_future_cancel(cancelled));
        atomic_store(&page->may_not_initialize, false);
        assert_status(TPOOL_OK, tpool_future_result(waits, LIMIT, NULL));
        tpool_future_release(cancelled);
        tpool_future_release(waits);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- names */

/* Without a build-id (how this program is linked) a module is named by its bytes, as they were when it first was. */
__attribute__((noinline, noclone)) static void *has_a_breakpoint(void *unused) {
    (void)unused;
    return (void *)43;
}
static void *named_later(void *unused) {
    (void)unused;
    return (void *)44;
}
static void a_breakpoint_changes_no_name(void **state) {
    (void)state;
    tpool *pool = rank_pool(1, NULL);
    assert_serves(pool);
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    volatile char *code = (char *)(uintptr_t)has_a_breakpoint;
    char *first = (char *)((uintptr_t)code & ~(uintptr_t)(size - 1)), was = *code;
    assert_int_equal(0, mprotect(first, size, PROT_READ | PROT_WRITE | PROT_EXEC));
    *code = (char)(was ^ 0x55);
    intptr_t value = value_of(pool, named_later);
    *code = was;
    assert_int_equal(0, mprotect(first, size, PROT_READ | PROT_EXEC));
    assert_int_equal(44, value);
    assert_int_equal(43, value_of(pool, has_a_breakpoint));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* The page of all ranks on this machine, which have one parent: the launcher. */
static bool page_open(char *path, size_t size) {
    snprintf(path, size, "/tmp/tpool_ranks_%d", (int)getppid());
    int file = open(path, O_RDWR | O_CREAT, 0600);
    if (file < 0 || ftruncate(file, sizeof *page) != 0) return false;
    void *at = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    (void)close(file);
    if (at == MAP_FAILED) return false;
    page = at;
    atomic_store(&page->least, SIZE_MAX);
    atomic_store(&page->refuses_threads, false);
    return true;
}
int main(int argc, char **argv) {
    char path[64];
    if (!page_open(path, sizeof path)) return 1;
    host = getpid();
    if (tpool_main(&argc, &argv) != TPOOL_OK) return 1;
    host = 0;
    unlink(path);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rank_without_memory_sleeps),
        cmocka_unit_test(a_chunk_without_memory_goes_on_item_by_item),
        cmocka_unit_test(an_end_that_tells_nobody_is_seen),
        cmocka_unit_test(a_letter_waits_for_memory),
        cmocka_unit_test(bytes_without_memory_are_received_one_by_one),
        cmocka_unit_test(bytes_on_their_way_share_no_tag),
        cmocka_unit_test(a_slow_finalizer_holds_up_no_other_pool),
        cmocka_unit_test(kill_workers_ends_a_finalizer),
        cmocka_unit_test(a_worker_takes_no_task_while_its_process_is_replaced),
        cmocka_unit_test(a_breakpoint_changes_no_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
