/* What a program over MPI's ranks does at its start and end: run by run.sh, a story each. */
#if defined(OTHER_VERSION) /* version.sed's */
#define TPOOL_IMPLEMENTATION
#include OTHER_VERSION
#endif
#include "support.h"

#include <mpi.h>
#include <signal.h>

static pid_t host;
static void *host_of(void *unused) {
    (void)unused;
    return (void *)(intptr_t)host;
}
static void *runs_for_ever(void *unused) {
    (void)unused;
    for (;;) pause();
    return NULL;
}
static void *naps(void *unused) {
    (void)unused;
    sleep_ms(20);
    return (void *)1;
}
static tpool *made(tpool_config config) {
    tpool *pool = NULL;
    config.kind = TPOOL_MPI_RANKS;
    CHECK_STATUS(TPOOL_OK, tpool_create(&pool, &config));
    return pool;
}
static tpool_future *sent(tpool *pool, tpool_fn fn) {
    tpool_future *future = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_submit(pool, fn, NULL, &future));
    return future;
}

/* Some tasks run, some wait, and the program leaves main, by exit. */
static int exits_in_the_middle(void) {
    tpool *pool = made((tpool_config){ 0 });
    tpool_future *first = sent(pool, runs_for_ever);
    for (int i = 0; i < 100; i++) tpool_future_release(sent(pool, i % 2 ? naps : runs_for_ever));
    CHECK_EVENTUALLY(tpool_future_running(first));
    puts("leaves");
    exit(5);
}
/* The same by MPI_Finalize: all that is left breaks, and later calls say so. */
static int finalizes_with_work_queued(void) {
    tpool *pool = made((tpool_config){ 0 }), *late = NULL;
    tpool_future *futures[50];
    for (int i = 0; i < 50; i++) futures[i] = sent(pool, runs_for_ever);
    CHECK_EVENTUALLY(tpool_future_running(futures[0]));
    CHECK(MPI_Finalize() == MPI_SUCCESS);
    for (int i = 0; i < 50; i++) {
        CHECK_STATUS(TPOOL_BROKEN, tpool_future_result(futures[i], LIMIT, NULL));
        tpool_future_release(futures[i]);
    }
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    CHECK_STATUS(TPOOL_INVALID_STATE, tpool_create(&late, &(tpool_config){ .kind = TPOOL_MPI_RANKS }));
    return 0;
}
/* MPI may take its locks for needless from the beginning of MPI_Finalize on: so no other thread calls it from then on.
   MPI deletes the attribute that was set last first, before that of tpool_main. */
static atomic_int finalizing, calls_beside;
int MPI_Testsome(int count, MPI_Request requests[], int *completed, int which[], MPI_Status statuses[]) {
    if (atomic_load(&finalizing)) atomic_fetch_add(&calls_beside, 1);
    return PMPI_Testsome(count, requests, completed, which, statuses);
}
static int begins_to_finalize(MPI_Comm comm, int key, void *value, void *state) {
    (void)comm;
    (void)key;
    (void)value;
    (void)state;
    atomic_store(&finalizing, 1);
    sleep_ms(50);
    CHECK(atomic_load(&calls_beside) == 0);
    return MPI_SUCCESS;
}
static tpool *works_until_the_end(void) {
    int key = 0;
    tpool *pool = made((tpool_config){ 0 });
    MPI_Comm_create_keyval(MPI_COMM_NULL_COPY_FN, begins_to_finalize, &key, NULL);
    MPI_Comm_set_attr(MPI_COMM_SELF, key, NULL);
    tpool_future *future = sent(pool, runs_for_ever);
    CHECK_EVENTUALLY(tpool_future_running(future));
    tpool_future_release(future);
    return pool;
}
static int finalizes_alone(void) {
    tpool *pool = works_until_the_end();
    CHECK(MPI_Finalize() == MPI_SUCCESS);
    CHECK(atomic_load(&finalizing));
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    return 0;
}
/* The same by leaving main, in a program with a profiler. */
static void has_reported(void) { CHECK(getenv("REPORTED")); }
static int leaves_alone(void) {
    (void)works_until_the_end();
    return 0;
}
/* The profiler is preloaded. */
static int finalizes_with_a_profiler(void) {
    int status = finalizes_alone();
    has_reported();
    return status;
}
static int returns_after_destroy(void) {
    tpool *pool = made((tpool_config){ 0 });
    for (int i = 0; i < 30; i++) tpool_future_release(sent(pool, naps));
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    return 0;
}
static int makes_no_pool(void) { return 0; }

/* One rank, or no launcher: the tasks run in processes of this machine. */
static int is_alone(void) {
    tpool *pool = made((tpool_config){ .max_workers = 2 });
    void *value = NULL;
    tpool_future *future = sent(pool, naps);
    CHECK_STATUS(TPOOL_OK, tpool_future_result(future, LIMIT, &value));
    CHECK(value == (void *)1);
    tpool_future_release(future);
    future = sent(pool, host_of);
    CHECK_STATUS(TPOOL_OK, tpool_future_result(future, LIMIT, &value));
    CHECK((pid_t)(intptr_t)value == getpid());
    tpool_future_release(future);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    return 0;
}

/* Beside another build on some ranks: no task runs, and the error names the first of those ranks. */
static int is_refused_for(const char *what) {
    tpool *pool = made((tpool_config){ 0 });
    for (int i = 0; i < 20; i++) {
        tpool_future *future = sent(pool, naps);
        CHECK_STATUS(TPOOL_BROKEN, tpool_future_result(future, LIMIT, NULL));
        CHECK(strstr(tpool_future_message(future), "Rank 2 is refused"));
        CHECK(strstr(tpool_future_message(future), what));
        tpool_future_release(future);
    }
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    return 0;
}

static int is_one_of_two_builds(void) { return is_refused_for("runs another build"); }
static int is_one_of_two_versions(void) { return is_refused_for("has another version of tpool.h"); }

/* 3 GiB there and back: more than an int counts. */
static void *first_and_last(void *arg) {
    size_t size = tpool_arg_size();
    char *bytes = arg;
    bytes[0]++;
    bytes[size - 1]++;
    return tpool_return(bytes, size);
}
static int sends_much(void) {
    size_t size = ((size_t)3 << 30) + 5;
    tpool *pool = made((tpool_config){ .max_workers = 1 });
    char *bytes = calloc(size, 1), *back = NULL;
    tpool_future *future = NULL;
    CHECK(bytes);
    bytes[0] = 1;
    bytes[size / 2] = 2;
    bytes[size - 1] = 3;
    int64_t began = tpool_now();
    CHECK_STATUS(TPOOL_OK, tpool_submit_copy(pool, first_and_last, bytes, size, &future));
    free(bytes);
    CHECK_STATUS(TPOOL_OK, tpool_future_result(future, 10 * LIMIT, (void **)&back));
    printf("%.1f s\n", (double)(tpool_now() - began) / 1e9);
    CHECK(tpool_future_result_size(future) == size);
    CHECK(back[0] == 2 && back[size / 2] == 2 && back[size - 1] == 4);
    tpool_future_release(future);
    CHECK_STATUS(TPOOL_OK, tpool_destroy(pool));
    return 0;
}

static int has_mpi_already(int argc, char **argv) {
    tpool *pool = NULL;
    MPI_Init(&argc, &argv);
    CHECK_STATUS(TPOOL_INVALID_STATE, tpool_main(&argc, &argv));
    CHECK_STATUS(TPOOL_INVALID_STATE, tpool_create(&pool, &(tpool_config){ .kind = TPOOL_MPI_RANKS }));
    MPI_Finalize();
    return 0;
}
static int forgets_the_start(void) {
    tpool *pool = NULL;
    CHECK_STATUS(TPOOL_INVALID_STATE, tpool_create(&pool, &(tpool_config){ .kind = TPOOL_MPI_RANKS }));
    return 0;
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        int (*story)(void);
    } stories[] = {
        { "exits_in_the_middle", exits_in_the_middle },
        { "finalizes_with_work_queued", finalizes_with_work_queued },
        { "finalizes_alone", finalizes_alone },
        { "finalizes_with_a_profiler", finalizes_with_a_profiler },
        { "leaves_alone", leaves_alone },
        { "returns_after_destroy", returns_after_destroy },
        { "makes_no_pool", makes_no_pool },
        { "is_alone", is_alone },
        { "is_one_of_two_builds", is_one_of_two_builds },
        { "is_one_of_two_versions", is_one_of_two_versions },
        { "sends_much", sends_much },
    };
    const char *name = argc > 1 ? argv[1] : "";
#if defined(OTHER_BUILD) /* any difference */
    if (strcmp(name, "is_the_other_build") == 0) return 1;
#endif
#if defined(CONSTANT) /* a difference in data alone */
    if (strcmp(name, "is_the_build_with_the_constant_" CONSTANT) == 0) return 1;
#endif
    if (strcmp(name, "has_mpi_already") == 0) return has_mpi_already(argc, argv);
    if (strcmp(name, "forgets_the_start") == 0) return forgets_the_start();
    host = getpid();
    if (strcmp(name, "leaves_alone") == 0) atexit(has_reported); /* called after the exit handler of tpool_main */
    CHECK_STATUS(TPOOL_OK, tpool_main(&argc, &argv));
    for (size_t i = 0; i < sizeof stories / sizeof *stories; i++)
        if (strcmp(name, stories[i].name) == 0) return stories[i].story();
    return 1;
}
