/* Windows: a C++ program whose static object creates pools in its constructor, which comes before tpool_main, and so in
   each worker too. A pool of processes is refused there, or the program would start itself for ever; one of threads works
   in the program and in its workers, until the destructor. platforms.sh runs it. */
#include "tpool.h"

#include <windows.h>
#include <stdio.h>
#include <stdlib.h>

static void *doubles(void *arg) { return (void *)(2 * (intptr_t)arg); }

static tpool_config config_of(tpool_kind kind) {
    tpool_config config = tpool_config();
    config.kind = kind;
    config.max_workers = 1;
    return config;
}
static intptr_t value_of(tpool *pool, tpool_fn fn, void *arg) {
    tpool_future *future = NULL;
    void *value = NULL;
    if (tpool_submit(pool, fn, arg, &future) != TPOOL_OK) return -1;
    tpool_status status = tpool_future_result(future, TPOOL_SEC(60), &value);
    tpool_future_release(future);
    return status == TPOOL_OK ? (intptr_t)value : -1;
}

class early {
public:
    early() : processes(NULL), threads(NULL) {
        tpool_config of_processes = config_of(TPOOL_PROCESSES), of_threads = config_of(TPOOL_THREADS);
        refused = tpool_create(&processes, &of_processes);
        created = tpool_create(&threads, &of_threads);
        count();
    }
    ~early() {
        if (!tpool_destroy(threads)) return;
        fprintf(stderr, "the destructor's destroy failed\n");
        TerminateProcess(GetCurrentProcess(), 2);
    }
    bool as_it_should() const {
        return refused == TPOOL_INVALID_STATE && !processes && created == TPOOL_OK &&
               value_of(threads, doubles, (void *)21) == 42;
    }
    /* how many processes have constructed it; the program's and its workers' share the count by its name */
    static LONG constructed() {
        LONG before = -1;
        return ReleaseSemaphore(counter, 1, &before) ? before : -1;
    }

private:
    static HANDLE counter;
    tpool *processes, *threads;
    tpool_status refused, created;

    static void count() {
        char name[60];
        if (!getenv("TEST_COUNTER")) {
            snprintf(name, sizeof name, "Local\\tpool-test-%lu", (unsigned long)GetCurrentProcessId());
            SetEnvironmentVariableA("TEST_COUNTER", name);
        } else GetEnvironmentVariableA("TEST_COUNTER", name, sizeof name);
        counter = CreateSemaphoreA(NULL, 0, 1000, name);
        (void)ReleaseSemaphore(counter, 1, NULL);
    }
};
HANDLE early::counter;
static early object;

static void *constructed_here(void *arg) {
    (void)arg;
    return (void *)(intptr_t)(object.as_it_should() ? GetCurrentProcessId() : 0);
}

int main(int argc, char **argv) {
    if (tpool_main(&argc, &argv) != TPOOL_OK) return 1;
    tpool *pool = NULL;
    tpool_config config = config_of(TPOOL_PROCESSES);
    if (!object.as_it_should() || tpool_create(&pool, &config) != TPOOL_OK) return 3;
    for (int i = 0; i < 10; i++) {
        intptr_t worker = value_of(pool, constructed_here, NULL);
        if (worker <= 0 || worker == (intptr_t)GetCurrentProcessId()) return 4;
    }
    if (tpool_destroy(pool) != TPOOL_OK) return 5;
    LONG constructed = early::constructed();
    printf("%ld processes have constructed it\n", constructed);
    return constructed == 2 ? 0 : 6; /* the program and its worker */
}
