/* P21: a mutex in shared memory: one owner at a time, and each sees what those before it wrote. Here the processes are
   threads, as in page.c; each has a number of its own, and nobody sleeps. Not for a model checker, which has no process
   pools. */
#include "model.h"
#include <sched.h>
#include <unistd.h>

static tpool__owners owners;
static tpool__region region = { .owners = &owners };
static tpool__u32 word;
static int count, twin; /* the mutex guards them */

static void model_reset(void) {
    tpool__store_relaxed(&word, 0);
    count = twin = 0;
    for (uint32_t i = 0; i < 3; i++) { /* all live */
        tpool__store_relaxed(&owners.all[i].pid, (uint32_t)getpid());
        tpool__store_relaxed(&owners.all[i].number, 5 + i);
    }
    tpool__store_relaxed(&owners.used, 3);
}
static void add_as(uint32_t number) {
    tpool__mutex_waiter caller = { .as = { &region, number }, .word = &word };
    for (int i = 0; i < 3; i++) {
        tpool_status status;
        while ((status = tpool__mutex_try(&caller, false)) == TPOOL_TIMEOUT) sched_yield();
        MODEL_CHECK(status == TPOOL_OK);
        MODEL_CHECK(count == twin);
        count++;
        twin++;
        tpool__mutex_free(&word, 0);
    }
}
static void *first(void *arg) {
    add_as(5);
    return arg;
}
static void *second(void *arg) {
    add_as(6);
    return arg;
}
static void *third(void *arg) {
    add_as(7);
    return arg;
}
static void model_check(void) { MODEL_CHECK(count == 9 && twin == 9); }
MODEL(first, second, third)
