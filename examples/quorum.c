/* quorum: a question to twenty replicas at once, of which the first three answers will do; the others are cancelled, or
 * asked to stop, and none is left behind.
 *
 *     cc -std=c11 -O2 -pthread -I. examples/quorum.c -o quorum && ./quorum
 *
 * The questions are members of one group, and an iterator yields their futures as they are done. Some replicas are
 * down, and some never answer. A replica that is down is no reason to give up the others: the group keeps going. Once
 * there are three answers, one call cancels what has not started and asks the rest to stop, and one more waits for it.
 */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { REPLICAS = 20, ENOUGH = 3, AT_ONCE = 16 };

static atomic_int asked, answering;

static void require(tpool_status status, const char *what) {
    if (status == TPOOL_OK) return;
    fprintf(stderr, "quorum: %s: %s\n", what, tpool_status_text(status));
    exit(EXIT_FAILURE);
}

/* Every fourth one is down; of the others those from 8 up never come to an end by themselves. */
static void *ask(void *arg) {
    int replica = *(const int *)arg;
    double value = 0;
    atomic_fetch_add(&asked, 1);
    if (replica % 4 == 0) return tpool_raise(111, "replica %d is down", replica);
    atomic_fetch_add(&answering, 1);
    for (long i = 1; replica >= 8 || i <= 100000L * replica; i++) {
        value += 1.0 / ((double)i * (double)i);
        if (i % 1000 == 0 && tpool_stop_requested()) break;
    }
    atomic_fetch_sub(&answering, 1);
    return tpool_return(&value, sizeof value);
}

int main(void) {
    tpool_config config = { .name = "ask", .max_workers = AT_ONCE };
    tpool_group_config keeps_going = { .on_failure = TPOOL_GROUP_KEEP_GOING };
    tpool_completions *answers;
    tpool_group *questions;
    tpool_future *future;
    tpool *pool;
    int found = 0, down = 0;
    require(tpool_create(&pool, &config), "create");
    require(tpool_group_create(&questions, &keeps_going), "a group");
    require(tpool_as_completed(NULL, 0, &answers), "as_completed");
    for (int replica = 0; replica < REPLICAS; replica++) {
        tpool_task task = { .fn = ask,
                            .arg = &replica,
                            .arg_size = sizeof replica,
                            .name = "question",
                            .group = questions,
                            .completions = answers };
        require(tpool_submit_task(pool, &task, NULL), "submit");
    }
    while (found < ENOUGH) {
        void *value;
        require(tpool_completions_next(answers, TPOOL_FOREVER, &future), "next");
        if (tpool_future_result(future, 0, &value) == TPOOL_OK) {
            printf("replica %2zu says %.9f\n", tpool_completions_index(answers), *(double *)value);
            found++;
        } else {
            printf("%s\n", tpool_future_message(future));
            down++;
        }
    }
    require(tpool_group_cancel(questions), "cancel");
    tpool_status end = tpool_group_destroy(questions); /* what the first that was down has come to; or CANCELLED */
    int late = atomic_load(&answering);
    tpool_completions_destroy(answers);
    require(tpool_destroy(pool), "destroy");
    printf("%d answers were enough; %d replicas were down, %d were never asked, and none is left\n", found, down,
           REPLICAS - atomic_load(&asked));
    return found == ENOUGH && late == 0 && (end == TPOOL_FAILED || end == TPOOL_CANCELLED) ? EXIT_SUCCESS
                                                                                           : EXIT_FAILURE;
}
