/* A module of its own, for tests of functions that lie elsewhere in the worker, of what happens when that exits, and of
   two copies of the library in a process (test_start.c). */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
#include <windows.h>
__declspec(dllexport) void *in_a_module(void *arg);
void *in_a_module(void *arg) {
    (void)arg;
    return (void *)(uintptr_t)in_a_module;
}

__declspec(dllexport) void (*at_detach)(void);
BOOL WINAPI DllMain(HINSTANCE module, DWORD reason, LPVOID reserved);
BOOL WINAPI DllMain(HINSTANCE module, DWORD reason, LPVOID reserved) {
    (void)module, (void)reserved;
    if (reason == DLL_PROCESS_DETACH && at_detach) at_detach();
    return TRUE;
}

static void *doubles(void *arg) {
    int number;
    if (tpool_arg_size() != sizeof number) return NULL;
    memcpy(&number, arg, sizeof number);
    number *= 2;
    return tpool_return(&number, sizeof number);
}
__declspec(dllexport) void start_of_module(void);
void start_of_module(void) { (void)tpool_main(NULL, NULL); }
/* What a pool of this copy of the library gives for one task: 0, or what went wrong. */
__declspec(dllexport) int task_of_module(void);
int task_of_module(void) {
    tpool *pool = NULL;
    tpool_future *future = NULL;
    int number = 21;
    void *result = NULL;
    if (tpool_create(&pool, &(tpool_config){ .kind = TPOOL_PROCESSES, .max_workers = 1 }) != TPOOL_OK) return 21;
    if (tpool_submit_copy(pool, doubles, &number, sizeof number, &future) != TPOOL_OK) return 22;
    if (tpool_future_result(future, TPOOL_SEC(20), &result) != TPOOL_OK) return 23;
    if (!result || *(int *)result != 42) return 24;
    tpool_future_release(future);
    return tpool_destroy(pool) == TPOOL_OK ? 0 : 25;
}
