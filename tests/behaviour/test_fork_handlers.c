/* The program's own fork handlers take a lock of the program's, under which another thread calls in here: whichever
   handlers were registered first, neither side waits for the other, and the child works. */
#include "story.h"

static pthread_mutex_t of_program = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool forking, is_held;

static void prepare(void) {
    atomic_store(&forking, true);
    pthread_mutex_lock(&of_program);
}
static void release(void) { pthread_mutex_unlock(&of_program); }
static void register_handlers(void) { CHECK(pthread_atfork(prepare, release, release) == 0); }

/* Others are registered as the program is loaded, before those of the library: they run within the library's. */
static bool early_ones_act;
static void prepare_early(void) {
    if (early_ones_act) prepare();
}
static void release_early(void) {
    if (early_ones_act) release();
}
__attribute__((constructor(101))) static void register_early_handlers(void) {
    CHECK(pthread_atfork(prepare_early, release_early, release_early) == 0);
}

static void await_flag(atomic_bool *flag) {
    int64_t end = tpool_now() + LIMIT;
    while (!atomic_load(flag)) {
        CHECK(tpool_now() < end);
        sleep_ms(1);
    }
}
static void *ten(void *arg) {
    (void)arg;
    return tpool_return(&(int){ 10 }, sizeof(int));
}
static tpool_status use_pool(tpool *pool, void *context) {
    (void)context;
    return end_of(submitted(pool, ten, NULL));
}
static tpool *of_processes;

static void use_everything(tpool_kind kind) {
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 2, .kind = kind });
    for (int i = 0; i < 100; i++) CHECK_STATUS(TPOOL_OK, end_of(submitted(pool, ten, NULL)));
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    CHECK_STATUS(TPOOL_OK, end_of(submitted(tpool_low_level(), ten, NULL)));
    CHECK_STATUS(TPOOL_OK, end_of(submitted(tpool_high_level(), ten, NULL)));
    CHECK_STATUS(TPOOL_OK, tpool_with_pool(NULL, 1, TPOOL_THREADS, use_pool, NULL));
}
/* What the program completes itself: of the library it needs all but threads. */
static void use_own_futures(void) {
    for (int i = 0; i < 100; i++) {
        tpool_future *future;
        CHECK_STATUS(TPOOL_OK, tpool_future_create(&future));
        CHECK_STATUS(TPOOL_OK, tpool_future_set_result(future, NULL));
        CHECK_STATUS(TPOOL_OK, end_of(future));
    }
}
static void *use_under_lock(void *arg) {
    (void)arg;
    pthread_mutex_lock(&of_program);
    atomic_store(&is_held, true);
    await_flag(&forking);
    sleep_ms(20); /* so that the one who forks waits for the lock, in its handler */
    use_everything(TPOOL_THREADS);
    if (of_processes) CHECK_STATUS(TPOOL_OK, end_of(submitted(of_processes, ten, NULL)));
    pthread_mutex_unlock(&of_program);
    return NULL;
}

static int fork_beside_use(void) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, use_under_lock, NULL) == 0);
    await_flag(&is_held);
    pid_t child = fork();
    if (child == 0) {
        alarm(STORY_SECONDS);
        if (of_processes) CHECK_STATUS(TPOOL_BROKEN, tpool_submit(of_processes, ten, NULL, NULL));
        use_own_futures();
        if (CHILD_MAY_START_THREADS) use_everything(of_processes ? TPOOL_PROCESSES : TPOOL_THREADS);
        _exit(0);
    }
    int ended;
    CHECK(child > 0 && waitpid(child, &ended, 0) == child);
    CHECK(WIFEXITED(ended) && WEXITSTATUS(ended) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    if (of_processes) CHECK_STATUS(TPOOL_OK, tpool_destroy(of_processes));
    return 0;
}

static int handlers_registered_before_those_of_the_library(void) {
    early_ones_act = true;
    return fork_beside_use();
}
static int handlers_registered_before_the_first_use(void) {
    register_handlers();
    return fork_beside_use();
}
static int handlers_registered_after_the_first_use(void) {
    use_everything(TPOOL_THREADS);
    register_handlers();
    return fork_beside_use();
}
static int handlers_registered_before_a_pool_that_was_used_before(void) {
    register_handlers();
    use_everything(TPOOL_THREADS);
    return fork_beside_use();
}
/* A submit that starts a process, beside a fork. */
static int handlers_beside_the_start_of_a_process(void) {
    register_handlers();
    of_processes = new_pool_as((tpool_config){ .max_workers = 1, .kind = TPOOL_PROCESSES });
    atomic_store(&forking, false);
    return fork_beside_use();
}
/* The library forks itself where a pool of processes is made: it holds no lock meanwhile either. */
static void *create_processes(void *arg) {
    (void)arg;
    of_processes = new_pool_as((tpool_config){ .max_workers = 1, .kind = TPOOL_PROCESSES });
    return NULL;
}
static int handlers_while_a_pool_of_processes_is_made(void) {
    pthread_t user, maker;
    register_handlers();
    use_everything(TPOOL_THREADS);
    CHECK(pthread_create(&user, NULL, use_under_lock, NULL) == 0);
    await_flag(&is_held);
    CHECK(pthread_create(&maker, NULL, create_processes, NULL) == 0);
    CHECK(pthread_join(user, NULL) == 0);
    CHECK(pthread_join(maker, NULL) == 0);
    CHECK_STATUS(TPOOL_OK, end_of(submitted(of_processes, ten, NULL)));
    CHECK_STATUS(TPOOL_OK, tpool_destroy(of_processes));
    return 0;
}

#define STORY(function) \
    { #function, function, 0, "" }
static const story stories[] = {
    STORY(handlers_registered_before_those_of_the_library),
    STORY(handlers_registered_before_the_first_use),
    STORY(handlers_registered_after_the_first_use),
    STORY(handlers_registered_before_a_pool_that_was_used_before),
    STORY(handlers_beside_the_start_of_a_process),
    STORY(handlers_while_a_pool_of_processes_is_made),
};

int main(int argc, char **argv) { return play_stories(argc, argv, stories, sizeof stories / sizeof *stories); }
