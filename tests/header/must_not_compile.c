/* Built with one of these defined, this must not compile (see compile_fails.sh); with none it must. */
#ifdef ONE_ALLOCATOR_MACRO
#define TPOOL_MALLOC(size) 0
#define TPOOL_IMPLEMENTATION
#endif
#include "tpool.h"

void *raises(void *arg);
void *raises(void *arg) {
#ifdef RAISE_WITH_A_WRONG_FORMAT
    return tpool_raise(1, "%d", "text");
#else
    return tpool_raise(1, "%s of %zu", (const char *)arg, sizeof arg);
#endif
}

tpool_status creates(tpool **pool, tpool_future *future);
tpool_status creates(tpool **pool, tpool_future *future) {
#ifdef SET_ERROR_WITH_A_WRONG_FORMAT
    return tpool_future_set_error(future, 1, "%s", 4711);
#endif
#ifdef CREATE_UNCHECKED
    tpool_create(pool, NULL);
#endif
#ifdef SUBMIT_UNCHECKED
    tpool_submit(*pool, raises, NULL, NULL);
#endif
#ifdef SUBMIT_TASK_UNCHECKED
    tpool_submit_task(*pool, NULL, NULL);
#endif
#ifdef SUBMIT_COPY_UNCHECKED
    tpool_submit_copy(*pool, raises, NULL, 0, NULL);
#endif
#ifdef SHARED_LOCK_UNCHECKED
    tpool_shared_lock(NULL, 0);
#endif
    (void)future;
    return tpool_create(pool, NULL);
}
