/* Client programs for tpool.h's structures, small enough for a stateless model checker of C11's memory model, which tries
   every execution that the orders of the accesses allow. Each is a whole program of two or three threads:

       static void model_reset(void)             before the threads
       static void *model_a(void *), ...         the threads
       static void model_check(void)             after them
       MODEL(model_a, model_b, ...)

   As an ordinary program it runs them many times, for three seconds at most (a litmus test; under ThreadSanitizer, where
   a thread's start takes long, it also checks every access for races). For a model checker define MODEL_CHECKER: it runs once; what blocks in the system ends that execution, since
   the others, in which the word has changed before, are tried as well; mutexes of the parking table order nothing, so
   that every order comes from the header's own accesses. See README.md in this folder. */
#ifndef TPOOL_TESTS_MODEL_H
#define TPOOL_TESTS_MODEL_H
#ifdef MODEL_CHECKER
#undef __unix__ /* of the system only what C11 has, */
#undef __linux__
#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>
#include <time.h>
#include <genmc.h>
typedef int once_flag; /* ... as far as the model checker has that, */
#define ONCE_FLAG_INIT 0
#define call_once(flag, fn) ((void)(flag), (void)(fn))
typedef int cnd_t;
#define cnd_init(c) ((void)(c))
#define cnd_broadcast(c) ((void)(c))
#define cnd_timedwait(c, m, t) ((void)(c), (void)(m), (void)(t), __VERIFIER_assume(false)) /* sleeps */
#define mtx_init(m, kind) ((void)(m)) /* ... without orders of its own */
#define mtx_lock(m) ((void)(m))
#define mtx_unlock(m) ((void)(m))
#define timespec_get(t, base) ((t)->tv_sec = 0, (t)->tv_nsec = 0)
typedef int tss_t;
#define tss_create(key, destructor) (*(key) = 0, (void)(destructor), thrd_success)
#define tss_set(key, value) ((void)(value), (key) == 0 ? thrd_success : thrd_error) /* reads the key */
#define atexit(handler) ((void)(handler), 0)
/* In a loop that only reads: a read that ends no loop leaves nothing behind, so it is enough to try the executions in
   which the first look is the last. So no loop needs a bound. */
#define __builtin_ia32_pause() __VERIFIER_assume(false)
#define __builtin_frame_address(level) ((void *)UINTPTR_MAX)
static _Thread_local int model_self; /* thread-local variables of simple types only */
#define TPOOL__PER_THREAD(type, name) \
    static type name##_storage[5]; \
    static inline type *name(void) { return &name##_storage[model_self]; }
extern int snprintf(char *text, size_t size, const char *format, ...);
extern int vsnprintf(char *text, size_t size, const char *format, __builtin_va_list arguments);
#define MODEL_CHECK(x) assert(x)
enum { MODEL_TRIES = 1 }; /* how often to look for what may come: once does here */
#ifdef MODEL_FRESH_MEMORY /* each thread's own, zero from the start: the model checker knows no memset of what it does not
                                see, so the program tells in MODEL_ZERO which writes of a memset count */
static void model_zero(void *fresh, size_t size);
static uintptr_t model_memory[5][2048];
static size_t model_used[5];
static inline void *model_allocate(size_t size) {
    uintptr_t *fresh = &model_memory[model_self][model_used[model_self]];
    model_used[model_self] += (size + sizeof *fresh - 1) / sizeof *fresh;
    return fresh;
}
#define TPOOL_MALLOC(size) model_allocate(size)
#define TPOOL_FREE(pointer) ((void)(pointer))
#undef memset
#undef memcpy
#define memset(to, value, size) ((void)(value), model_zero((to), (size)), (to))
#define memcpy(to, from, size) \
    (*(void **)(void *)(to) = *(void *const *)(const void *)(from), (void)(size)) /* pointers */
#else /* the programs run none; a call of these would be an error */
extern void *model_no_memset(void *, int, size_t), *model_no_memcpy(void *, const void *, size_t);
#define memset model_no_memset
#define memcpy model_no_memcpy
#endif
#else
#ifndef TPOOL_THREADS_POSIX
#define TPOOL_THREADS_POSIX
#endif
enum { MODEL_TRIES = 1000 };
#define MODEL_CHECK(x) ((x) ? (void)0 : (fprintf(stderr, "%s:%d: FAILED: %s\n", __FILE__, __LINE__, #x), abort()))
#endif
#if defined(__GNUC__)
#define MODEL_ZERO(fresh, size) __attribute__((unused)) static void model_zero(void *fresh, size_t size)
#else
#define MODEL_ZERO(fresh, size) static void model_zero(void *fresh, size_t size)
#endif
#define TPOOL_STATIC
#include "tpool.h"

/* A lane with nothing in it, whatever the run before has left. */
#if defined(__GNUC__)
__attribute__((unused))
#endif
static void
model_reset_lane(tpool__lane *lane, tpool__segment *segment) {
    lane->head = lane->tail = segment;
    lane->head_position = lane->tail_position = lane->tail_entries = 0;
    lane->submitted = 0;
    lane->dead = 0;
    tpool__store_relaxed(&lane->count, 0);
    tpool__store_relaxed(&lane->batch, 0);
    tpool__store_relaxed(&lane->claims, 0);
    tpool__store_relaxed(&lane->lock, 0);
}

#ifdef MODEL_CHECKER
static void *(*model_fns[4])(void *);
static void *model_thread(void *number) {
    model_self = 1 + (int)(intptr_t)number;
    return model_fns[(intptr_t)number](NULL);
}
#define MODEL(...) \
    int main(void) { \
        void *(*const fns[])(void *) = { __VA_ARGS__ }; \
        enum { COUNT = sizeof fns / sizeof *fns }; \
        pthread_t threads[COUNT]; \
        for (int i = 0; i < COUNT; i++) model_fns[i] = fns[i]; \
        model_reset(); \
        for (int i = 0; i < COUNT; i++) pthread_create(&threads[i], NULL, model_thread, (void *)(intptr_t)i); \
        for (int i = 0; i < COUNT; i++) pthread_join(threads[i], NULL); \
        model_check(); \
        return 0; \
    }
#else
static atomic_int model_ready;
static void *(*model_fns[4])(void *);
static int model_count;
static void *model_thread(void *fn) { /* all begin together */
    atomic_fetch_add(&model_ready, 1);
    for (int i = 0; atomic_load(&model_ready) < model_count; i++)
        if (i > 100) sched_yield();
    return (*(void *(**)(void *))fn)(NULL);
}
#define MODEL(...) \
    int main(int argc, char **argv) { \
        void *(*const fns[])(void *) = { __VA_ARGS__ }; \
        int runs = argc > 1 ? atoi(argv[1]) : 2000; \
        if (!tpool__exit_hook_create()) return 2; /* as before any use: else a thread that arms takes another's key */ \
        model_count = (int)(sizeof fns / sizeof *fns); \
        for (int i = 0; i < model_count; i++) model_fns[i] = fns[i]; \
        int64_t end = tpool_now() + TPOOL_SEC(3); \
        for (int run = 0; run < runs && (run < 100 || tpool_now() < end); run++) { \
            pthread_t threads[4]; \
            atomic_store(&model_ready, 0); \
            model_reset(); \
            for (int i = 0; i < model_count; i++) \
                if (pthread_create(&threads[i], NULL, model_thread, &model_fns[i]) != 0) abort(); \
            for (int i = 0; i < model_count; i++) pthread_join(threads[i], NULL); \
            model_check(); \
        } \
        return 0; \
    }
#endif
#endif
