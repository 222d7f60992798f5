/* Forks beside the library's own work, where it is called into with the program's things: an allocator with a lock that
   its fork handlers take; and descriptors, each of which is closed once. */
#include "support.h"
#include "support/children.h"
#include <signal.h>
#include <sys/wait.h>

/* ---- An allocator with a lock, which is held over a fork, as those of C libraries are. It counts what threads other
   than the one that forks ask it for; at the call that `stops_at` counts down to, the thread waits until the fork has
   begun and holds the lock. */
static pthread_mutex_t memory_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool stands, forking, over;
static atomic_int stops_at; /* 0: at none */
static pid_t counted;       /* in this process alone */
static _Thread_local bool forks_here;
static void memory_enter(void) {
    if (getpid() == counted && !forks_here && atomic_load(&stops_at) > 0 && atomic_fetch_sub(&stops_at, 1) == 1) {
        atomic_store(&stands, true);
        CHECK_EVENTUALLY(atomic_load(&forking));
    }
    pthread_mutex_lock(&memory_lock);
}
static void *locked_malloc(size_t size) {
    memory_enter();
    void *memory = malloc(size);
    pthread_mutex_unlock(&memory_lock);
    return memory;
}
static void locked_free(void *memory) {
    memory_enter();
    free(memory);
    pthread_mutex_unlock(&memory_lock);
}
static void memory_prepare(void) {
    pthread_mutex_lock(&memory_lock);
    if (forks_here) atomic_store(&forking, true);
}
static void memory_release(void) { pthread_mutex_unlock(&memory_lock); }

/* ---- Descriptors: one that is closed and not open was closed twice, by any process here. */
static atomic_int *closed_twice;
static int checked_close(int fd) {
    int closed = close(fd);
    if (closed != 0 && errno == EBADF && closed_twice) atomic_fetch_add(closed_twice, 1);
    return closed;
}

#define TPOOL_MALLOC(size) locked_malloc(size)
#define TPOOL_FREE(memory) locked_free(memory)
#define close(fd) checked_close(fd)
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
#undef close

static void *give(void *arg) { return tpool_return(arg, sizeof(int)); }
static void *die(void *arg) {
    (void)arg;
    abort();
}
static void use(tpool_kind kind) {
    tpool *pool = NULL;
    tpool_config config = { .max_workers = 2, .kind = kind };
    CHECK_STATUS(TPOOL_OK, tpool_create(&pool, &config));
    for (int i = 0; i < 2; i++) {
        tpool_future *future;
        CHECK_STATUS(TPOOL_OK, tpool_submit_copy(pool, give, &i, sizeof i, &future));
        CHECK_STATUS(TPOOL_OK, tpool_future_result(future, LIMIT, NULL));
        tpool_future_release(future);
        if (kind == TPOOL_THREADS || i) continue;
        CHECK_STATUS(TPOOL_OK, tpool_submit(pool, die, NULL, &future));
        CHECK_STATUS(TPOOL_BROKEN, tpool_future_result(future, LIMIT, NULL));
        tpool_future_release(future);
    }
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
}
static void *use_both(void *arg) {
    use(TPOOL_THREADS);
    use(TPOOL_PROCESSES);
    atomic_store(&over, true);
    return arg;
}

/* One use for each call of the allocator, and a fork that begins within it. */
static void a_locked_allocator_once_for_each_call(void *unused) {
    (void)unused;
    int calls = 1, every = IS_SLOW ? 9 : 2;
    forks_here = true;
    counted = getpid();
    CHECK(pthread_atfork(memory_prepare, memory_release, memory_release) == 0);
    for (bool came = true; came; calls += every) {
        pthread_t thread;
        alarm(LIMIT_SECONDS);
        atomic_store(&stands, false);
        atomic_store(&forking, false);
        atomic_store(&over, false);
        atomic_store(&stops_at, calls);
        CHECK(pthread_create(&thread, NULL, use_both, NULL) == 0);
        while (!atomic_load(&stands) && !atomic_load(&over)) sleep_ms(1);
        came = atomic_load(&stands);
        pid_t child = fork();
        if (child == 0) {
            child_begin(LIMIT_SECONDS);
            atomic_store(&stops_at, 0);
            if (CHILD_MAY_START_THREADS) use(TPOOL_THREADS);
            child_ends();
        }
        int ended;
        CHECK(child > 0 && waitpid(child, &ended, 0) == child && WIFEXITED(ended) && WEXITSTATUS(ended) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    CHECK(calls > 20 && atomic_load(&stops_at) > 0);
}
static void an_allocator_may_be_locked_over_a_fork(void **state) {
    (void)state;
    if (SLOW_TOOL) skip(); /* whose own allocator may be locked for ever in the child */
    in_child(a_locked_allocator_once_for_each_call, NULL);
}

/* Forks of the program, of the library, and children that end what they have inherited, beside each other. */
static void *use_processes(void *rounds) {
    for (int i = 0; i < *(const int *)rounds; i++) use(TPOOL_PROCESSES);
    atomic_store(&over, true);
    return NULL;
}
static void fork_beside(void *unused) {
    (void)unused;
    pthread_t thread;
    int rounds = COUNT(20);
    tpool *pool = NULL;
    tpool_config config = { .max_workers = 1, .kind = TPOOL_PROCESSES };
    CHECK(pthread_atfork(memory_prepare, memory_release, memory_release) == 0);
    CHECK_STATUS(TPOOL_OK, tpool_create(&pool, &config));
    CHECK(pthread_create(&thread, NULL, use_processes, &rounds) == 0);
    do {
        pid_t child = fork();
        if (child == 0) {
            child_begin(LIMIT_SECONDS);
            CHECK_STATUS(TPOOL_BROKEN, tpool_destroy(pool));
            if (CHILD_MAY_START_THREADS) use(TPOOL_PROCESSES);
            child_ends();
        }
        int ended;
        CHECK(child > 0 && waitpid(child, &ended, 0) == child && WIFEXITED(ended) && WEXITSTATUS(ended) == 0);
    } while (!atomic_load(&over));
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
}
static void no_descriptor_is_closed_twice_around_a_fork(void **state) {
    (void)state;
    closed_twice = shared_memory(sizeof *closed_twice);
    assert_non_null(closed_twice);
    if (SLOW_TOOL) skip(); /* whose own allocator may be locked for ever in the child */
    in_child(fork_beside, NULL);
    assert_int_equal(0, atomic_load(closed_twice));
}

static const struct CMUnitTest tests[] = {
    TEST(an_allocator_may_be_locked_over_a_fork),
    TEST(no_descriptor_is_closed_twice_around_a_fork),
};
RUN_TESTS(tests)
