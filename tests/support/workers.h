/* Workers that are numbered and counted, and what a thread sees of the pool that it works for. */
#ifndef TPOOL_TESTS_WORKERS_H
#define TPOOL_TESTS_WORKERS_H
#include "../support.h"

/* Initializer and finalizer that number the workers from 1 and count. */
static atomic_int initialized, finalized, finalized_elsewhere;
static _Thread_local int worker_number;
static inline bool number_worker(void *context) {
    (void)context;
    worker_number = atomic_fetch_add(&initialized, 1) + 1;
    return true;
}
static inline void count_finalized(void *context) {
    (void)context;
    if (worker_number == 0) atomic_fetch_add(&finalized_elsewhere, 1);
    atomic_fetch_add(&finalized, 1);
}

static inline void reset_counts(void) {
    atomic_store(&initialized, 0);
    atomic_store(&finalized, 0);
    atomic_store(&finalized_elsewhere, 0);
}

static inline tpool *new_counted_pool(int workers) {
    reset_counts();
    return new_pool_as(
        (tpool_config){ .max_workers = workers, .initializer = number_worker, .finalizer = count_finalized });
}

typedef struct whereabouts {
    tpool *pool;
    int worker;
    pthread_t thread;
    char name[96];
    bool has_name;
} whereabouts;
static inline void look_around(whereabouts *w) {
    w->pool = tpool_current();
    w->worker = tpool_current_worker();
    w->thread = pthread_self();
    w->has_name = thread_name(w->name, sizeof w->name);
}
typedef struct look_task {
    whereabouts seen;
    gate *hold;
} look_task;
static inline void *look_and_pass(void *arg) {
    look_task *look = arg;
    look_around(&look->seen);
    if (look->hold) gate_pass(look->hold);
    return NULL;
}
#endif
