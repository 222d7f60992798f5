/* gather: the results of many worker processes, taken in the order in which they finish, while others still work; one
 * that takes too long is given up, one that dies is asked for again.
 *
 *     cc -std=c11 -O2 -pthread -I. examples/gather.c -o gather && ./gather
 */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { PROBES = 24 };

/* To the worker by value, and back. */
typedef struct probe {
    int number, attempt;
} probe;
typedef struct finding {
    int number;
    long process;
    double value;
} finding;

static void require(tpool_status status, const char *what) {
    if (status == TPOOL_OK) return;
    fprintf(stderr, "gather: %s: %s\n", what, tpool_status_text(status));
    exit(EXIT_FAILURE);
}

/* The later ones take less time; number 5 dies at its first attempt, number 9 never comes to an end. */
static void *measure(void *arg) {
    const probe *p = (const probe *)arg;
    finding f = { p->number, (long)getpid(), 0 };
    if (p->number == 5 && p->attempt == 1) abort();
    for (long rounds = (PROBES - p->number) * 20000L, i = 1; p->number == 9 || i <= rounds; i++)
        f.value += 1.0 / ((double)i * (double)i);
    return tpool_return(&f, sizeof f);
}

static tpool_status ask(tpool *pool, tpool_completions *completions, probe p) {
    tpool_task task = {
        .fn = measure, .arg = &p, .arg_size = sizeof p, .run_limit_ns = TPOOL_SEC(1), .name = "measure"
    };
    tpool_future *future;
    tpool_status status = tpool_submit_task(pool, &task, &future);
    if (status != TPOOL_OK) return status;
    status = tpool_completions_add(completions, future);
    tpool_future_release(future);
    return status;
}

int main(void) {
    tpool_config config = { .name = "probe", .kind = TPOOL_PROCESSES, .max_workers = 4 };
    probe probes[PROBES + 1]; /* by position in the iterator; one is asked for twice */
    int asked = 0, found = 0, given_up = 0, died = 0;
    tpool_completions *completions;
    tpool_future *future;
    tpool *pool;
    tpool_status status = tpool_create(&pool, &config);
    if (status == TPOOL_UNSUPPORTED) return EXIT_SUCCESS; /* no processes on this system */
    require(status, "create");
    require(tpool_as_completed(NULL, 0, &completions), "as_completed");
    for (; asked < PROBES; asked++) {
        probes[asked] = (probe){ asked, 1 };
        require(ask(pool, completions, probes[asked]), "ask");
    }
    while (tpool_completions_next(completions, TPOOL_FOREVER, &future) == TPOOL_OK) {
        probe p = probes[tpool_completions_index(completions)];
        const tpool_error *error;
        void *result;
        if (tpool_future_result(future, 0, &result) == TPOOL_OK) {
            const finding *f = (const finding *)result;
            printf("probe %2d: %.9f, from process %ld\n", f->number, f->value, f->process);
            found++;
            continue;
        }
        printf("probe %2d, attempt %d: %s\n", p.number, p.attempt, tpool_future_message(future));
        require(tpool_future_error(future, 0, &error), "error");
        if (error->code == -SIGABRT && p.attempt == 1 && asked < PROBES + 1) {
            died++;
            probes[asked] = (probe){ p.number, 2 };
            require(ask(pool, completions, probes[asked++]), "ask again");
        } else {
            given_up++;
        }
    }
    tpool_completions_destroy(completions);
    require(tpool_destroy(pool), "destroy");
    return found == PROBES - 1 && died == 1 && given_up == 1 ? EXIT_SUCCESS : EXIT_FAILURE;
}
