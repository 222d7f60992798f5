/* Memory that a pool of processes shares: the same bytes at the same address for the program and every worker, zero and
   there when they are handed out, given back when they are freed; and nothing that a worker writes there harms the
   program. */
#include "support/children.h"
#ifdef __linux__
#include <sched.h>
#include <sys/mount.h>
#endif
#include <sys/resource.h>
#include <sys/stat.h>

enum { MIB = 1 << 20 };

static tpool *sharing_pool(int workers, size_t size) {
    return process_pool_as((tpool_config){ .max_workers = workers, .shared_size = size });
}
static int shared_mappings(void) {
    int mappings = 0;
    char line[1024];
    FILE *file = fopen("/proc/self/maps", "r");
    while (file && fgets(line, sizeof line, file))
        mappings += strstr(line, "/memfd:tpool") || strstr(line, "/tmp/tpool");
    if (file) fclose(file);
    return mappings;
}
static int open_before, mapped_before;
static int set_up(void **state) {
    (void)state;
    open_before = descriptors_open();
    mapped_before = shared_mappings();
    return 0;
}
/* The last one of a test leaves nothing behind. */
static void end_pools(tpool *const *pools, int count) {
    for (int i = 0; i < count; i++) assert_status(TPOOL_OK, tpool_destroy(pools[i]));
    assert_int_equal(open_before, descriptors_open());
    assert_int_equal(mapped_before, shared_mappings());
}
static void end_pool(tpool *pool) { end_pools(&pool, 1); }

static void *shared_of(tpool *pool, size_t size) {
    void *memory = tpool_shared_alloc(pool, size);
    assert_non_null(memory);
    assert_int_equal(0, (uintptr_t)memory % _Alignof(max_align_t));
    for (size_t i = 0; i < size; i++)
        if (((const unsigned char *)memory)[i]) fail_msg("byte %zu is not zero", i);
    return memory;
}
/* The descriptor of the shared memory of a pool that has no workers yet. */
static int file_of_shared_memory(void) {
    for (int fd = 0; fd < 2000; fd++) {
        char path[64], target[256];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(path, target, sizeof target - 1);
        if (n < 0) continue;
        target[n] = 0;
        if (strstr(target, "/memfd:tpool") || strstr(target, "/tmp/tpool")) return fd;
    }
    return -1;
}

/* ---- The same bytes for all ---- */

typedef struct numbers {
    atomic_int count;
    int plain[1000];
    shared_gate gate;
    struct numbers *self;
} numbers;

static void *counts_in(void *arg) {
    numbers *shared = *(numbers **)arg;
    if (shared->self != shared) return NULL;
    for (int i = 0; i < 1000; i++) shared->plain[i] += i;
    return (void *)(intptr_t)(1 + atomic_fetch_add(&shared->count, 1));
}
static intptr_t counted(tpool *pool, numbers *shared) { return value_of_copy(pool, counts_in, &shared, sizeof shared); }
static numbers *numbers_in(tpool *pool) {
    numbers *shared = shared_of(pool, sizeof *shared);
    shared->self = shared;
    return shared;
}
static void assert_counted(const numbers *shared, int times) {
    assert_int_equal(times, atomic_load(&shared->count));
    for (int i = 0; i < 1000; i++) assert_int_equal(times * i, shared->plain[i]);
}

static void a_pointer_is_an_argument(void **s) {
    (void)s;
    tpool *pool = sharing_pool(1, MIB);
    numbers *before = numbers_in(pool);
    assert_int_equal(1, counted(pool, before));
    numbers *later = numbers_in(pool); /* the worker runs already */
    assert_int_equal(1, counted(pool, later));
    assert_int_equal(2, counted(pool, before));
    assert_counted(before, 2);
    assert_counted(later, 1);
    end_pool(pool);
}

static void *is_killed(void *arg) {
    raise(SIGKILL);
    return arg;
}
static void workers_that_start_later_see_it_too(void **s) {
    (void)s;
    tpool *pool = sharing_pool(1, MIB);
    numbers *shared = numbers_in(pool);
    assert_int_equal(1, counted(pool, shared));
    assert_status(TPOOL_BROKEN, end_of(submitted(pool, is_killed, NULL)));
    assert_int_equal(2, counted(pool, shared));
    assert_status(TPOOL_OK, tpool_kill_workers(pool));
    assert_int_equal(3, counted(pool, shared));
    assert_counted(shared, 3);
    end_pool(pool);
}
static void workers_of_another_server_see_it_too(void **s) {
    (void)s;
    tpool *pool = sharing_pool(1, MIB);
    numbers *shared = numbers_in(pool);
    assert_int_equal(1, counted(pool, shared));
    pid_t server = living_server_of(pool);
    for (int i = 2; i <= 4; i++) {
        assert_int_equal(0, kill(server, SIGKILL));
        numbers *later = numbers_in(pool);
        server = other_server_of(pool, server);
        assert_int_equal(1, counted(pool, later));
        assert_int_equal(i, counted(pool, shared));
    }
    end_pool(pool);
}

/* A worker of one pool has nothing to do with the memory of the other, which goes with its own pool. */
static void each_pool_has_its_own(void **s) {
    (void)s;
    tpool *pools[2] = { sharing_pool(1, MIB), sharing_pool(1, MIB) };
    numbers *shared[2] = { numbers_in(pools[0]), numbers_in(pools[1]) };
    for (int i = 0; i < 2; i++) assert_int_equal(1, counted(pools[i], shared[i]));
    tpool_shared_free(pools[1], shared[0]); /* no piece of that pool */
    assert_counted(shared[0], 1);
    assert_status(TPOOL_OK, tpool_destroy(pools[0]));
    assert_int_equal(2, counted(pools[1], shared[1]));
    end_pool(pools[1]);
}

/* ---- Who may allocate, and where ---- */

static void *allocates(void *arg) {
    tpool *pool = *(tpool **)arg;
    tpool_shared_free(pool, NULL);
    return tpool_shared_alloc(pool, 16);
}
static void *frees_in_worker(void *arg) {
    void *both[2];
    memcpy(both, arg, sizeof both);
    tpool_shared_free((tpool *)both[0], both[1]);
    return NULL;
}
static void only_the_program_allocates(void **s) {
    (void)s;
    tpool *pool = sharing_pool(1, MIB);
    numbers *shared = numbers_in(pool);
    void *both[2] = { pool, shared };
    assert_int_equal(0, value_of_copy(pool, allocates, &pool, sizeof pool));
    assert_int_equal(0, value_of_copy(pool, frees_in_worker, both, sizeof both));
    assert_int_equal(1, counted(pool, shared));
    assert_true((void *)numbers_in(pool) != (void *)shared);
    end_pool(pool);
}
static void other_pools_have_none(void **s) {
    (void)s;
    tpool *pools[2] = { new_pool_as((tpool_config){ .max_workers = 1, .shared_size = MIB }), process_pool(1) };
    assert_null(tpool_shared_alloc(NULL, 1));
    tpool_shared_free(NULL, NULL);
    for (int i = 0; i < 2; i++) {
        int local;
        assert_null(tpool_shared_alloc(pools[i], 1));
        tpool_shared_free(pools[i], &local);
        tpool_shared_free(pools[i], NULL);
        assert_works(pools[i]);
    }
    end_pools(pools, 2);
}

typedef struct of_fork {
    tpool *pool;
    numbers *shared;
} of_fork;
static void in_forked(void *context) {
    of_fork *f = context;
    CHECK(!tpool_shared_alloc(f->pool, 16));
    tpool_shared_free(f->pool, f->shared);
    CHECK(atomic_fetch_add(&f->shared->count, 1) == 1);
    CHECK_STATUS(TPOOL_BROKEN, tpool_destroy(f->pool));
    CHECK(atomic_load(&f->shared->count) == 2);
    tpool *own = process_pool_as((tpool_config){ .max_workers = 1, .shared_size = MIB });
    numbers *shared = tpool_shared_alloc(own, sizeof *shared);
    CHECK(shared);
    shared->self = shared;
    CHECK(value_of_copy(own, counts_in, &shared, sizeof shared) == 1);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(own));
}
static void a_child_of_fork_has_pools_of_its_own(void **s) {
    (void)s;
    if (!CHILD_MAY_START_THREADS) skip();
    of_fork f = { sharing_pool(1, MIB), NULL };
    f.shared = numbers_in(f.pool);
    assert_int_equal(1, counted(f.pool, f.shared));
    in_child(in_forked, &f);
    assert_int_equal(3, counted(f.pool, f.shared));
    end_pool(f.pool);
}
/* A worker has a pool of its own: of that one it is the program. */
static void *has_a_pool_of_its_own(void *arg) {
    tpool *pool = NULL;
    tpool_config config = { .kind = TPOOL_PROCESSES, .max_workers = 1, .shared_size = MIB };
    numbers *outer = *(numbers **)arg;
    if (tpool_create(&pool, &config) != TPOOL_OK) return NULL;
    numbers *shared = tpool_shared_alloc(pool, sizeof *shared);
    if (!shared) return NULL;
    shared->self = shared;
    tpool_future *future = NULL;
    void *value = NULL;
    if (tpool_submit_copy(pool, counts_in, &shared, sizeof shared, &future) != TPOOL_OK) return NULL;
    if (tpool_future_result(future, LIMIT, &value) != TPOOL_OK) return NULL;
    tpool_future_release(future);
    atomic_fetch_add(&outer->count, atomic_load(&shared->count));
    tpool_shared_free(pool, shared);
    return tpool_destroy(pool) == TPOOL_OK ? value : NULL;
}
static void a_worker_may_have_a_pool_that_shares(void **s) {
    (void)s;
    if (!CHILD_MAY_START_THREADS) skip();
    tpool *pool = sharing_pool(1, MIB);
    numbers *shared = numbers_in(pool);
    assert_int_equal(1, value_of_copy(pool, has_a_pool_of_its_own, &shared, sizeof shared));
    assert_int_equal(2, counted(pool, shared));
    end_pool(pool);
}

/* ---- Pieces ---- */

static void pieces_fill_it_and_no_more(void **s) {
    (void)s;
    enum { SIZE = 100 * 1000, PIECES = SIZE / 100 };
    static char *pieces[PIECES];
    tpool *pool = sharing_pool(1, SIZE);
    assert_null(tpool_shared_alloc(pool, SIZE + 1));
    assert_null(tpool_shared_alloc(pool, SIZE_MAX));
    void *all = shared_of(pool, SIZE);
    assert_null(tpool_shared_alloc(pool, 0));
    memset(all, 0xff, SIZE);
    tpool_shared_free(pool, all);
    int count = 0;
    while ((pieces[count] = tpool_shared_alloc(pool, 100)) != NULL) {
        for (int i = 0; i < 100; i++) assert_int_equal(0, pieces[count][i]);
        memset(pieces[count], count + 1, 100);
        count++;
    }
    assert_true(count >= SIZE / 112 && count <= PIECES);
    for (int i = 0; i < count; i++)
        for (int j = 0; j < 100; j++) assert_int_equal((char)(i + 1), pieces[i][j]);
    while (tpool_shared_alloc(pool, 1)) { }  /* what is left at the end */
    tpool_shared_free(pool, pieces[10] + 1); /* no piece */
    assert_null(tpool_shared_alloc(pool, 1));
    tpool_shared_free(pool, pieces[10]);
    tpool_shared_free(pool, pieces[10]); /* no piece any more */
    assert_null(tpool_shared_alloc(pool, 113));
    assert_ptr_equal(pieces[10], shared_of(pool, 100));
    assert_null(tpool_shared_alloc(pool, 1));
    end_pool(pool);
}

/* Whatever is taken and given back: no two pieces overlap, and each is zero. */
static void pieces_by_chance(void **s) {
    (void)s;
    enum { SIZE = 4 * MIB, MOST = 200, ROUNDS = 5000 };
    static struct {
        unsigned char *at;
        size_t size;
    } pieces[MOST];
    tpool *pool = sharing_pool(1, SIZE);
    unsigned seed = 1, refused = 0;
    for (int round = 0; round < ROUNDS; round++) {
        seed = seed * 1103515245u + 12345u;
        unsigned i = (seed >> 8) % MOST;
        if (pieces[i].at) {
            for (size_t j = 0; j < pieces[i].size; j++) assert_int_equal((unsigned char)(i + 1), pieces[i].at[j]);
            tpool_shared_free(pool, pieces[i].at);
            pieces[i].at = NULL;
        } else {
            size_t size = (seed >> 16) % 16 == 0 ? (seed >> 4) % (SIZE / 8) : (seed >> 4) % 6000;
            unsigned char *at = tpool_shared_alloc(pool, size);
            refused += !at;
            if (!at) continue;
            for (size_t j = 0; j < size; j++)
                if (at[j]) fail_msg("not zero");
            memset(at, (int)i + 1, size);
            pieces[i].at = at;
            pieces[i].size = size;
        }
    }
    assert_true(refused < ROUNDS / 4);
    for (unsigned i = 0; i < MOST; i++) {
        for (size_t j = 0; pieces[i].at && j < pieces[i].size; j++)
            assert_int_equal((unsigned char)(i + 1), pieces[i].at[j]);
        tpool_shared_free(pool, pieces[i].at);
    }
    shared_of(pool, SIZE);
    end_pool(pool);
}

/* ---- Memory ---- */

static void memory_is_taken_where_it_is_used(void **s) {
    (void)s;
#ifdef __linux__
    tpool *pool = sharing_pool(1, (size_t)1 << 30);
    int file = file_of_shared_memory();
    struct stat is;
    assert_true(file >= 0 && fstat(file, &is) == 0);
    assert_int_equal(0, is.st_blocks);
    char *small = shared_of(pool, 100), *large = shared_of(pool, 64 * MIB), *last = shared_of(pool, 100);
    assert_int_equal(0, fstat(file, &is));
    assert_true(is.st_blocks >= 64 * MIB / 512 && is.st_blocks <= 65 * MIB / 512);
#ifndef TPOOL__PLAIN_POSIX /* only at the end */
    tpool_shared_free(pool, large);
    assert_int_equal(0, fstat(file, &is));
    assert_true(is.st_blocks <= 2 * 65536 / 512);
    memset(small, 1, 100); /* their pages are still there */
    memset(last, 1, 100);
#endif
    tpool_shared_free(pool, small);
    tpool_shared_free(pool, last);
#ifdef TPOOL__PLAIN_POSIX
    tpool_shared_free(pool, large);
#endif
    assert_int_equal(0, fstat(file, &is));
    assert_int_equal(0, is.st_blocks);
    end_pool(pool);
#endif
}

/* A worker goes on writing to what has been freed: it may not show in what is handed out next. */
static void *writes_all(void *arg) {
    void *at[2];
    memcpy(at, arg, sizeof at);
    memset(at[0], 0xff, (size_t)(uintptr_t)at[1]);
    return NULL;
}
static void what_a_worker_leaves_in_freed_memory_is_gone(void **s) {
    (void)s;
    enum { SIZE = 300 * 1000 };
    tpool *pool = sharing_pool(1, SIZE);
    char *memory = shared_of(pool, SIZE);
    char *small[3];
    tpool_shared_free(pool, memory);
    for (int i = 0; i < 3; i++) small[i] = shared_of(pool, 1000);
    tpool_shared_free(pool, small[1]);
    void *at[2] = { memory, (void *)(uintptr_t)4096 };
    (void)value_of_copy(pool, writes_all, at, sizeof at);
    assert_ptr_equal(small[1], shared_of(pool, 1000));
    end_pool(pool);
}

/* All that a worker can reach is overwritten, and the program goes on. */
static void a_worker_that_overwrites_it_all_harms_nothing_else(void **s) {
    (void)s;
    enum { SIZE = MIB };
    tpool *pool = sharing_pool(2, SIZE);
    char *memory = shared_of(pool, SIZE);
    void *at[2] = { memory, (void *)(uintptr_t)SIZE };
    for (int round = 0; round < 20; round++) {
        (void)value_of_copy(pool, writes_all, at, sizeof at);
        for (int i = 0; i < SIZE; i += 4096) assert_int_equal((char)0xff, memory[i]);
        tpool_shared_free(pool, memory);
        char *pieces[10];
        for (int i = 0; i < 10; i++) pieces[i] = shared_of(pool, (size_t)1000 * (size_t)(i + 1));
        for (int i = 9; i >= 0; i--) tpool_shared_free(pool, pieces[i]);
        assert_ptr_equal(memory, shared_of(pool, SIZE));
    }
    end_pool(pool);
}

static void limits_in_child(void *context) {
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .shared_size = 64 * MIB });
    struct rlimit before, low;
    (void)context;
    signal(SIGXFSZ, SIG_DFL);
    CHECK(getrlimit(RLIMIT_FSIZE, &before) == 0);
    low = before;
    low.rlim_cur = MIB;
    CHECK(setrlimit(RLIMIT_FSIZE, &low) == 0);
    char *small = tpool_shared_alloc(pool, 1000);
    CHECK(small);
    CHECK(!tpool_shared_alloc(pool, 2 * MIB));
    char *next = tpool_shared_alloc(pool, 1000);
    CHECK(next);
    memset(next, 1, 1000);
    CHECK(setrlimit(RLIMIT_FSIZE, &before) == 0);
    char *large = tpool_shared_alloc(pool, 2 * MIB);
    CHECK(large);
    memset(large, 1, 2 * MIB);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
}
static void memory_that_limits_forbid_is_refused(void **s) {
    (void)s;
    in_child(limits_in_child, NULL);
}
#ifdef __linux__
/* A cgroup that this process may make, with a limit of memory. */
static char group[512];
static bool write_to_group(const char *name, const char *text) {
    char path[600];
    snprintf(path, sizeof path, "%s/%s", group, name);
    int file = open(path, O_WRONLY | O_CLOEXEC);
    bool done = file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text);
    if (file >= 0) close(file);
    return done;
}
static bool make_group(const char *bytes) {
    char line[400], own[400] = "";
    FILE *file = fopen("/proc/self/cgroup", "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, "0::", 3) == 0) sscanf(line + 3, "%399s", own);
    if (file) fclose(file);
    snprintf(group, sizeof group, "/sys/fs/cgroup/memory/tpool_test_%d", (int)getpid());
    if (mkdir(group, 0700) == 0) return write_to_group("memory.limit_in_bytes", bytes);
    snprintf(group, sizeof group, "/sys/fs/cgroup%s/tpool_test_%d", own, (int)getpid());
    return mkdir(group, 0700) == 0 && write_to_group("memory.max", bytes);
}
static void in_full_group(void *context) {
    char self[32];
    (void)context;
    snprintf(self, sizeof self, "%d", (int)getpid());
    if (!write_to_group("cgroup.procs", self)) _exit(77);
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .shared_size = 512 * MIB });
    CHECK(value_of(pool, getpid_task) > 0);
    CHECK(!tpool_shared_alloc(pool, 128 * MIB));
    tpool_channel *channel = NULL;
    tpool_channel_config config = { .capacity = 128, .item_size = MIB, .shared_with = pool };
    CHECK_STATUS(TPOOL_NO_MEMORY, tpool_channel_create(&channel, &config));
    char *small = tpool_shared_alloc(pool, MIB);
    CHECK(small);
    memset(small, 1, MIB);
    CHECK(value_of(pool, getpid_task) > 0);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
}
/* Without a look at its limit the system would kill one of the processes, in the very allocation. */
static void memory_that_a_cgroup_does_not_have_is_refused(void **s) {
    (void)s;
    bool made = !SLOW_TOOL && make_group("67108864");
    int code = 77;
    if (made) {
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) {
            child_begin(LIMIT_SECONDS);
            in_full_group(NULL);
            child_ends();
        }
        code = exit_code_of(child);
    }
    for (int i = 0; i < 1000 && rmdir(group) != 0 && errno == EBUSY; i++) sleep_ms(1);
    if (code == 77) skip();
    assert_int_equal(0, code);
}
/* In memory of the system's, and not in a file of /tmp. */
static bool shared_memory_is_elsewhere(void) {
    char path[64], target[256];
    snprintf(path, sizeof path, "/proc/self/fd/%d", file_of_shared_memory());
    ssize_t n = readlink(path, target, sizeof target - 1);
    return n > 0 && strncmp(target, "/memfd:", 7) == 0;
}

/* A file system that is full, which is where the memory comes from if the system has no memory without a name. And a full
   /dev/shm, from which nothing comes. */
static void in_full_file_system(void *context) {
    (void)context;
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tpool", "/tmp", "tmpfs", 0, "size=4m") != 0 || mount("tpool", "/dev/shm", "tmpfs", 0, "size=4k") != 0)
        _exit(77);
    int file = open("/dev/shm/full", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    CHECK(file >= 0 && write(file, "full", 4) == 4);
    close(file);
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .shared_size = 64 * MIB });
    bool refused = !tpool_shared_alloc(pool, 8 * MIB);
    CHECK(refused || shared_memory_is_elsewhere());
    tpool_channel *channel = NULL;
    tpool_channel_config config = { .capacity = 8, .item_size = MIB, .shared_with = pool };
    CHECK_STATUS(refused ? TPOOL_NO_MEMORY : TPOOL_OK, tpool_channel_create(&channel, &config));
    CHECK((channel == NULL) == refused);
    char *small = tpool_shared_alloc(pool, MIB);
    CHECK(small);
    memset(small, 1, MIB);
    CHECK(value_of(pool, getpid_task) > 0);
    CHECK_STATUS(TPOOL_OK, tpool_channel_destroy(channel));
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
}
static void memory_that_a_file_system_does_not_have_is_refused(void **s) {
    (void)s;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        child_begin(LIMIT_SECONDS);
        in_full_file_system(NULL);
        child_ends();
    }
    int code = exit_code_of(child);
    if (code == 77) skip();
    assert_int_equal(0, code);
}
#endif
static void addresses_in_child(void *context) {
    struct rlimit low = { (rlim_t)4 << 30, (rlim_t)4 << 30 };
    tpool *pool = NULL;
    tpool_config config = { .kind = TPOOL_PROCESSES,
                            .max_workers = 1,
                            .shared_size = (size_t)1 << (sizeof(void *) > 4 ? 36 : 31) };
    int before = descriptors_open();
    (void)context;
    if (sizeof(void *) > 4) CHECK(setrlimit(RLIMIT_AS, &low) == 0);
    CHECK_STATUS(TPOOL_NO_MEMORY, tpool_create(&pool, &config));
    CHECK(!pool);
    config.shared_size = SIZE_MAX;
    CHECK_STATUS(TPOOL_NO_MEMORY, tpool_create(&pool, &config));
    CHECK(descriptors_open() == before);
    config.shared_size = MIB;
    CHECK_STATUS(TPOOL_OK, tpool_create(&pool, &config));
    CHECK(tpool_shared_alloc(pool, MIB));
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    CHECK(descriptors_open() == before);
}
static void without_addresses_there_is_no_pool(void **s) {
    (void)s;
    if (SLOW_TOOL) skip(); /* it takes addresses for itself */
    in_child(addresses_in_child, NULL);
}

static tpool_status allocates_and_frees(void *context) {
    tpool *pool = context;
    for (int i = 0; i < 2000; i++) {
        unsigned char *memory = tpool_shared_alloc(pool, 100 + (size_t)i % 5000);
        if (!memory) return TPOOL_NO_MEMORY;
        if (memory[0] || memory[99]) return TPOOL_FAILED;
        memory[0] = memory[99] = 1;
        tpool_shared_free(pool, memory);
    }
    return TPOOL_OK;
}
static void threads_allocate_at_once(void **s) {
    (void)s;
    tpool *pool = sharing_pool(1, MIB);
    background threads[4];
    for (int i = 0; i < 4; i++) background_start(&threads[i], allocates_and_frees, pool);
    for (int i = 0; i < 4; i++) assert_status(TPOOL_OK, background_join(&threads[i]));
    shared_of(pool, MIB);
    end_pool(pool);
}

int main(void) {
#define T(name) cmocka_unit_test_setup(name, set_up)
    const struct CMUnitTest tests[] = {
        T(a_pointer_is_an_argument),
        T(workers_that_start_later_see_it_too),
        T(workers_of_another_server_see_it_too),
        T(each_pool_has_its_own),
        T(only_the_program_allocates),
        T(other_pools_have_none),
        T(a_child_of_fork_has_pools_of_its_own),
        T(a_worker_may_have_a_pool_that_shares),
        T(pieces_fill_it_and_no_more),
        T(pieces_by_chance),
        T(memory_is_taken_where_it_is_used),
        T(what_a_worker_leaves_in_freed_memory_is_gone),
        T(a_worker_that_overwrites_it_all_harms_nothing_else),
        T(memory_that_limits_forbid_is_refused),
#ifdef __linux__
        T(memory_that_a_cgroup_does_not_have_is_refused),
        T(memory_that_a_file_system_does_not_have_is_refused),
#endif
        T(without_addresses_there_is_no_pool),
        T(threads_allocate_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
