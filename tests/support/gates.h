/* Gates, which force an interleaving. */
#ifndef TPOOL_TESTS_GATES_H
#define TPOOL_TESTS_GATES_H
#include "checks.h"

/* A gate is closed at first: who passes waits until it is opened, and others can wait until n have arrived. */
typedef struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool open;
    int arrived;
} gate;
#define GATE_CLOSED \
    { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0 }

static inline void gate_pass(gate *g) {
    pthread_mutex_lock(&g->lock);
    g->arrived++;
    pthread_cond_broadcast(&g->changed);
    while (!g->open) pthread_cond_wait(&g->changed, &g->lock);
    pthread_mutex_unlock(&g->lock);
}
static inline void gate_close(gate *g) {
    pthread_mutex_lock(&g->lock);
    g->open = false;
    g->arrived = 0;
    pthread_mutex_unlock(&g->lock);
}
static inline void gate_open(gate *g) {
    pthread_mutex_lock(&g->lock);
    g->open = true;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}
static inline void gate_await_arrivals(gate *g, int n) {
    pthread_mutex_lock(&g->lock);
    while (g->arrived < n) pthread_cond_wait(&g->changed, &g->lock);
    pthread_mutex_unlock(&g->lock);
}
static inline int gate_arrived(gate *g) {
    pthread_mutex_lock(&g->lock);
    int n = g->arrived;
    pthread_mutex_unlock(&g->lock);
    return n;
}
/* A task that passes the gate given as its argument and returns it. */
static inline void *gate_task(void *arg) {
    gate_pass((gate *)arg);
    return arg;
}

#define AWAIT_ARRIVALS(g, n) REQUIRE_EVENTUALLY(gate_arrived(g) >= (n))
#endif
