/* Worker processes on Windows, beside what the system alone takes: the round trip of a task and a ping-pong over two
   pipes, by turns; the start of a worker and that of a process; how soon a crash is told. tests/platforms.sh runs it
   under Wine, and shows what it says. */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRIPS = 2000, STARTS = 31 };
static int64_t theirs[TRIPS], ours[TRIPS], until_main[STARTS];

static void *nothing(void *arg) { return arg; }
static void *crashes(void *arg) {
    volatile int *nowhere = (volatile int *)(uintptr_t)8;
    *nowhere = 1;
    return arg;
}
static void *aborts(void *arg) {
    abort();
    return arg;
}
static int deeper(volatile int n) {
    volatile char bytes[4000];
    bytes[0] = (char)n;
    return n ? deeper(n + 1) + bytes[0] : 0;
}
static void *overflows(void *arg) { return (void *)(intptr_t)deeper(arg ? 0 : 1); }

static void must(bool holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "bench/windows: %s failed\n", what);
    exit(1);
}
static tpool *pool_of_one(void) {
    tpool *pool = NULL;
    must(tpool_create(&pool, &(tpool_config){ .kind = TPOOL_PROCESSES, .max_workers = 1 }) == TPOOL_OK, "create");
    return pool;
}
static void run(tpool *pool, tpool_fn fn) {
    tpool_future *future = NULL;
    must(tpool_submit(pool, fn, NULL, &future) == TPOOL_OK, "submit");
    (void)tpool_future_result(future, TPOOL_FOREVER, NULL);
    tpool_future_release(future);
}
static PROCESS_INFORMATION started(const char *arguments, bool inherits) {
    WCHAR path[1000], command[200];
    STARTUPINFOW plain = { .cb = sizeof plain };
    PROCESS_INFORMATION process;
    must(GetModuleFileNameW(NULL, path, 1000) > 0, "the path");
    swprintf(command, 200, L"windows %hs", arguments);
    must(CreateProcessW(path, command, NULL, NULL, inherits, 0, NULL, NULL, &plain, &process), "CreateProcess");
    return process;
}

static int by_time(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}
static double middle(int64_t *times, int count) {
    qsort(times, (size_t)count, sizeof *times, by_time);
    return (double)times[count / 2] / 1e3;
}

/* Gives back what comes, until nothing does any more. */
static int answers(char **handles) {
    HANDLE in = (HANDLE)(uintptr_t)strtoull(handles[0], NULL, 10);
    HANDLE out = (HANDLE)(uintptr_t)strtoull(handles[1], NULL, 10);
    char byte;
    for (DWORD n; ReadFile(in, &byte, 1, &n, NULL) && n == 1;) WriteFile(out, &byte, 1, &n, NULL);
    return 0;
}
static void round_trips(void) {
    SECURITY_ATTRIBUTES inherited = { sizeof inherited, NULL, TRUE };
    HANDLE there[2], back[2];
    char arguments[100];
    must(CreatePipe(&there[0], &there[1], &inherited, 0) && CreatePipe(&back[0], &back[1], &inherited, 0), "a pipe");
    snprintf(arguments, sizeof arguments, "answers %llu %llu", (unsigned long long)(uintptr_t)there[0],
             (unsigned long long)(uintptr_t)back[1]);
    PROCESS_INFORMATION other = started(arguments, true);
    tpool *pool = pool_of_one();
    run(pool, nothing);
    for (int i = 0; i < TRIPS; i++) {
        char byte = 1;
        DWORD n;
        int64_t began = tpool_now();
        must(WriteFile(there[1], &byte, 1, &n, NULL) && ReadFile(back[0], &byte, 1, &n, NULL), "a ping-pong");
        theirs[i] = tpool_now() - began;
        began = tpool_now();
        run(pool, nothing);
        ours[i] = tpool_now() - began;
    }
    TerminateProcess(other.hProcess, 0);
    (void)tpool_destroy(pool);
    double pipes = middle(theirs, TRIPS), task = middle(ours, TRIPS);
    printf("round trip: a task %.0f us, a ping-pong over two pipes %.0f us: %.2f times, at most 1.5\n", task, pipes,
           task / pipes);
}
static void starts(void) {
    SECURITY_ATTRIBUTES inherited = { sizeof inherited, NULL, TRUE };
    HANDLE in_main = CreateEventW(&inherited, FALSE, FALSE, NULL);
    char arguments[40];
    must(in_main, "an event");
    snprintf(arguments, sizeof arguments, "says %llu", (unsigned long long)(uintptr_t)in_main);
    for (int i = 0; i < STARTS; i++) {
        int64_t began = tpool_now();
        PROCESS_INFORMATION process = started(arguments, true);
        WaitForSingleObject(in_main, INFINITE);
        until_main[i] = tpool_now() - began;
        WaitForSingleObject(process.hProcess, INFINITE);
        theirs[i] = tpool_now() - began;
        CloseHandle(process.hThread);
        CloseHandle(process.hProcess);
        began = tpool_now();
        tpool *pool = pool_of_one();
        run(pool, nothing);
        ours[i] = tpool_now() - began;
        (void)tpool_destroy(pool);
    }
    CloseHandle(in_main);
    double process = middle(theirs, STARTS), in = middle(until_main, STARTS), worker = middle(ours, STARTS);
    printf("start: create and a task %.0f us, a process that ends at once %.0f us: %.2f times, at most 1.3; "
           "a process until it is in main %.0f us: %.2f times\n",
           worker, process, worker / process, in, worker / in);
}
static void deaths(const char *name, tpool_fn fn) {
    tpool *pool = pool_of_one();
    for (int i = 0; i < STARTS; i++) {
        run(pool, nothing);
        int64_t began = tpool_now();
        run(pool, fn);
        ours[i] = tpool_now() - began;
    }
    (void)tpool_destroy(pool);
    double told = middle(ours, STARTS);
    printf("%s: told after %.0f us, at the latest after %.0f, at most 100000\n", name, told,
           (double)ours[STARTS - 1] / 1e3);
}

int main(int argc, char **argv) {
    /* a worker has the program's arguments */
    if (argc == 4 && strcmp(argv[1], "answers") == 0) return answers(argv + 2);
    if (argc == 3 && strcmp(argv[1], "says") == 0) return !SetEvent((HANDLE)(uintptr_t)strtoull(argv[2], NULL, 10));
    if (tpool_main(&argc, &argv) != TPOOL_OK) return 1;
    round_trips();
    starts();
    deaths("access violation", crashes);
    deaths("abort", aborts);
    deaths("stack overflow", overflows);
    return 0;
}
