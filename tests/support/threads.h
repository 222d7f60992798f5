/* Threads of a test's own: calls that block, and what the system tells of threads. */
#ifndef TPOOL_TESTS_THREADS_H
#define TPOOL_TESTS_THREADS_H
#include "checks.h"

/* The name that the system knows the calling thread by. False: it does not tell. */
static inline bool thread_name(char *name, size_t size) {
#if defined(__linux__)
    return pthread_getname_np(pthread_self(), name, size) == 0;
#elif defined(_WIN32)
    typedef HRESULT(WINAPI * get_description)(HANDLE, PWSTR *); /* since Windows 10 */
    FARPROC found = GetProcAddress(GetModuleHandleA("kernel32.dll"), "GetThreadDescription");
    get_description get;
    PWSTR wide = NULL;
    memcpy(&get, &found, sizeof get);
    if (!found || FAILED(get(GetCurrentThread(), &wide))) return false;
    int length = WideCharToMultiByte(CP_UTF8, 0, wide, -1, name, (int)size, NULL, NULL);
    LocalFree(wide);
    return length > 0;
#else
    (void)name;
    (void)size;
    return false;
#endif
}

/* The system's number of the calling thread, for thread_sleeps; elsewhere than on Linux just not 0. */
static inline int system_thread(void) {
#ifdef __linux__
    return (int)syscall(SYS_gettid);
#else
    return 1;
#endif
}
/* The system says that the thread of this number (0: not known yet) sleeps. Where it does not tell, a pause must do. */
static inline bool thread_sleeps(int id) {
    if (id == 0) return false;
#ifdef __linux__
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", id);
    FILE *file = fopen(path, "r");
    if (!file) return false;
    char *got = fgets(line, sizeof line, file);
    fclose(file);
    char *name_end = got ? strrchr(line, ')') : NULL;
    return name_end && name_end[1] == ' ' && name_end[2] == 'S';
#else
    sleep_ms(20);
    return true;
#endif
}
/* Waits until it sleeps: at several looks in a row, so that a short sleep on a lock does not count. */
static inline void await_thread_asleep(const atomic_int *id) {
    int looks = 0;
    REQUIRE_EVENTUALLY((looks = thread_sleeps(atomic_load(id)) ? looks + 1 : 0) >= 5);
}

/* A call that may block, made by a thread of its own. */
typedef struct background {
    pthread_t thread;
    tpool_status (*call)(void *context);
    void *context;
    atomic_int thread_id; /* the system's number; 0 until it is about to call */
    atomic_bool returned;
    tpool_status status;
} background;

static inline void *background_main(void *arg) {
    background *b = (background *)arg;
    atomic_store(&b->thread_id, system_thread());
    b->status = b->call(b->context);
    atomic_store(&b->returned, true);
    return NULL;
}
static inline void background_start(background *b, tpool_status (*call)(void *context), void *context) {
    b->call = call;
    b->context = context;
    atomic_store(&b->thread_id, 0);
    atomic_store(&b->returned, false);
    REQUIRE(pthread_create(&b->thread, NULL, background_main, b) == 0);
}

/* Returns once the call blocks: asleep at several looks in a row, so that a short sleep on a lock does not count. */
static inline void background_await_block(background *b) {
    int looks = 0;
    REQUIRE_EVENTUALLY((looks = thread_sleeps(atomic_load(&b->thread_id)) ? looks + 1 : 0) >= 5 ||
                       atomic_load(&b->returned));
    REQUIRE(!atomic_load(&b->returned));
}
/* Starts a call that must block: it does so when this returns. */
static inline void background_start_blocked(background *b, tpool_status (*call)(void *context), void *context) {
    background_start(b, call, context);
    background_await_block(b);
}
static inline tpool_status background_join(background *b) {
    REQUIRE_EVENTUALLY(atomic_load(&b->returned));
    pthread_join(b->thread, NULL);
    return b->status;
}

/* 0: the system does not tell. */
static inline int threads_of_this_process(void) {
    int threads = 0;
#if defined(__linux__)
    char line[256];
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "Threads: %d", &threads) == 1) break;
    if (file) fclose(file);
#endif
    return threads;
}
/* Runs fn in a thread of its own, which may end there, and waits for that end. */
static inline void in_own_thread(void *(*fn)(void *), void *arg) {
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, fn, arg) == 0);
    REQUIRE(pthread_join(thread, NULL) == 0);
}
#endif
