/* What the two shared libraries of this test offer. */
#ifndef CLASH_H
#define CLASH_H

/* libclash_other: a library with pools of its own, whose public names happen to be ours. Its tpool_create,
   which this header does not declare, returns an object that begins with OTHER_MAGIC. */
#define OTHER_MAGIC 0x6f746865
typedef struct other_pool {
    int magic;
    int made;
} other_pool;
other_pool *other_open(void);  /* what its own tpool_create gave it; NULL if it was not its own */
int other_times_created(void); /* how often its tpool_create ran */

/* libclash_copy, and libclash_static (TPOOL_STATIC): each with a copy of tpool.h of its own inside. */
typedef struct copy_report {
    int status;          /* of the first call that went wrong, else 0 */
    int in_own_pool;     /* its task saw itself in its copy's pool ... */
    int in_callers_pool; /* ... and, asked through the program's copy, in a pool of the program */
    void (*create_address)(void);
} copy_report;
typedef int copy_ask(void); /* tells whether the calling thread is a worker, as the program's copy sees it */
void copy_run(copy_report *report, copy_ask *ask_caller);
void static_run(copy_report *report, copy_ask *ask_caller);
#endif
