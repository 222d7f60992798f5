/* Interleavings that happen inside a call and that no gate of the public interface can force. The implementation is
   included, so that its atomic accesses and its allocations come by here: a thread can be stopped before one of them,
   told by the function that makes it, until the test lets it go on. */
#ifndef TPOOL_TESTS_INTERLEAVINGS_H
#define TPOOL_TESTS_INTERLEAVINGS_H
#include "support.h"

/* ---- Stops. A thread that has armed one waits at its gate when it next comes to an atomic access in the function
   `at`; with `after`, the next one that follows an access in that other function. */
typedef struct stop {
    const char *at, *after;
    bool behind;          /* behind a load, and not before it */
    bool (*unless)(void); /* not where this is true: the test wants a lock that is held there */
    gate gate;
} stop;
static _Thread_local stop *armed_stop;
static _Atomic(stop *) for_first_worker; /* what the initializer below arms */

static inline void come_to_access(const char *function, bool behind) {
    stop *s = armed_stop;
    if (!s || s->behind != behind) return;
    if (s->after) {
        if (strcmp(function, s->after) == 0) s->after = NULL;
        return;
    }
    if (strcmp(function, s->at) != 0 || (s->unless && s->unless())) return;
    armed_stop = NULL;
    gate_pass(&s->gate);
}
static inline bool arm_first_worker(void *context) {
    (void)context;
    armed_stop = atomic_exchange(&for_first_worker, NULL);
    return true;
}

/* ---- Allocations. */
typedef union allocation {
    struct {
        size_t size;
        union allocation *next;
    } head;
    max_align_t aligned;
} allocation;
static atomic_bool keep_freed; /* what is freed is overwritten with zeros, and stays readable for now */
static allocation *kept;
static pthread_mutex_t kept_lock = PTHREAD_MUTEX_INITIALIZER;
static void *watched_place;         /* when the allocation that holds it is freed, ... */
static void (*watched_freed)(void); /* ... this is called before */

static inline void *zeroing_malloc(size_t size) {
    if (size > SIZE_MAX - sizeof(allocation)) return NULL;
    allocation *a = malloc(sizeof *a + size);
    if (!a) return NULL;
    a->head.size = size;
    return a + 1;
}
static inline void zeroing_free(void *pointer) {
    if (!pointer) return;
    allocation *a = (allocation *)pointer - 1;
    uintptr_t begin = (uintptr_t)pointer, place = (uintptr_t)watched_place;
    if (place && place >= begin && place - begin < a->head.size) watched_freed();
    if (!atomic_load(&keep_freed)) {
        free(a);
        return;
    }
    memset(pointer, 0, a->head.size);
    pthread_mutex_lock(&kept_lock);
    a->head.next = kept;
    kept = a;
    pthread_mutex_unlock(&kept_lock);
}
static inline void free_kept(void) {
    atomic_store(&keep_freed, false);
    while (kept) {
        allocation *next = kept->head.next;
        free(kept);
        kept = next;
    }
}

#if defined(__clang__)
#define LOAD_NOW(pointer, order) __c11_atomic_load((pointer), (order))
#else
#define LOAD_NOW(pointer, order) __atomic_load_n((pointer), (order))
#endif
#pragma push_macro("atomic_load_explicit")
#undef atomic_load_explicit
#define atomic_load_explicit(pointer, order) \
    __extension__({ \
        __auto_type loaded_now = LOAD_NOW(pointer, order); \
        come_to_access(__func__, true); \
        loaded_now; \
    })
#define TPOOL__SCHEDULE_POINT() come_to_access(__func__, false)
#define TPOOL_MALLOC(size) zeroing_malloc(size)
#define TPOOL_FREE(pointer) zeroing_free(pointer)
#include "internals/check.h"
#include "support/sleepers.h"
#pragma pop_macro("atomic_load_explicit")

#define STOP_AT(function) \
    { .at = (function), .gate = GATE_CLOSED }
#define STOP_AT_AFTER(function, before) \
    { .at = (function), .after = (before), .gate = GATE_CLOSED }
#define STOP_BEHIND_LOAD_IN(function) \
    { .at = (function), .behind = true, .gate = GATE_CLOSED }

static inline pthread_t started(void *(*call)(void *), void *arg) {
    pthread_t thread;
    assert_int_equal(0, pthread_create(&thread, NULL, call, arg));
    return thread;
}

/* Forks a job that others can take, even if all of them are busy just now. */
static inline void fork_in_public(tpool_job *job, tpool_fn fn, void *arg) {
    tpool_fork(job, fn, arg);
    tpool__worker *worker = tpool__self()->worker;
    tpool__spin_lock(&worker->jobs_lock);
    bool is_private = !worker->offer.job && worker->oldest_private_job;
    tpool__spin_unlock(&worker->jobs_lock);
    if (is_private) tpool__publish_job(worker);
}
static inline void *arm_at(void *arg) {
    armed_stop = arg;
    return NULL;
}
#endif
