/* A module of its own, for tests of functions that lie elsewhere in the worker (test_start.c). */
#include <stdint.h>
__declspec(dllexport) void *in_a_module(void *arg);
void *in_a_module(void *arg) {
    (void)arg;
    return (void *)(uintptr_t)in_a_module;
}
