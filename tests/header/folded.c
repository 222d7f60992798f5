/* A linker that makes one function of several that are alike (identical code folding, which is Visual C++'s default in a
 * release) leaves the library's own functions apart from the program's: by their addresses it knows maps and loops. */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
#include <stdio.h>

/* The commonest of trampolines, and what else is like those of the library. */
typedef struct job {
    void *(*run)(void *job);
    void (*end)(void *job);
} job;
void *run_job(void *arg) { return ((const job *)arg)->run(arg); }
void *run_job_for_nothing(void *arg) {
    (void)((const job *)arg)->run(arg);
    return NULL;
}
void end_job(void *arg) { ((const job *)arg)->end(arg); }
/* Two that are alike: where they have one address, the linker folds. */
void *run_job_again(void *arg) { return ((const job *)arg)->run(arg); }

int main(void) {
    /* volatile: to the compiler all functions have different addresses */
    tpool_fn volatile users[] = { run_job, run_job_for_nothing, run_job_again };
    tpool_fn volatile own[] = { tpool__own_chunk, tpool__own_helper };
    void (*volatile ends)(void *) = end_job, (*volatile own_ends)(void *) = tpool__own_chunk_ended;
    printf("%s\n", users[0] == users[2] ? "folded" : "not folded");
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 2; k++)
            if (users[i] == own[k]) return 1;
    return own[0] == own[1] || ends == own_ends;
}
