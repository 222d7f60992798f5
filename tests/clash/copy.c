/* A shared library with a private copy of tpool.h inside. Built twice: with hidden symbols, as the header has it,
   and with TPOOL_STATIC. COPY_RUN is the name of the one function that it exports. */
#ifndef TPOOL_STATIC
#define TPOOL_IMPLEMENTATION
#endif
#include "tpool.h"
#include "clash.h"

struct question {
    copy_report *report;
    copy_ask *ask_caller;
    tpool *pool;
};

static void *look_around(void *arg) {
    struct question *question = (struct question *)arg;
    question->report->in_own_pool = tpool_current() == question->pool;
    question->report->in_callers_pool = question->ask_caller();
    return NULL;
}

void COPY_RUN(copy_report *report, copy_ask *ask_caller) {
    struct question question = { report, ask_caller, NULL };
    tpool_future *future = NULL;
    report->in_own_pool = report->in_callers_pool = -1;
    report->create_address = (void (*)(void))tpool_create;
    tpool_status status = tpool_create(&question.pool, NULL);
    if (status == TPOOL_OK) status = tpool_submit(question.pool, look_around, &question, &future);
    if (status == TPOOL_OK) status = tpool_future_result(future, TPOOL_FOREVER, NULL);
    tpool_future_release(future);
    tpool_status destroyed = tpool_destroy(question.pool);
    report->status = (int)(status != TPOOL_OK ? status : destroyed);
}
