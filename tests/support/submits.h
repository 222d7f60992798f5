/* Submits that may block, for background threads. */
#ifndef TPOOL_TESTS_SUBMITS_H
#define TPOOL_TESTS_SUBMITS_H
#include "../support.h"

typedef struct submit_call {
    tpool *pool;
    tpool_task task;
    int64_t timeout_ns;
    tpool_future *future;
} submit_call;
static inline tpool_status call_submit(void *context) {
    submit_call *s = context;
    return tpool_submit_task(s->pool, &s->task, &s->future);
}
static inline tpool_status call_submit_without_future(void *context) {
    submit_call *s = context;
    return tpool_submit_task(s->pool, &s->task, NULL);
}
/* By tpool_submit, which takes no more of the task than fn and arg. */
static inline tpool_status call_plain_submit(void *context) {
    submit_call *s = context;
    return tpool_submit(s->pool, s->task.fn, s->task.arg, &s->future);
}
#endif
