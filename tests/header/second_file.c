#include "tpool.h"
#include "tpool.h" /* twice does no harm */
#include "smoke.h"
#include "two_files.h"

int second_file_runs(void) { return smoke(); }

int second_file_reads(void *future, int *result) {
    void *pointer = NULL;
    tpool_status status = tpool_future_result((tpool_future *)future, TPOOL_FOREVER, &pointer);
    if (pointer) *result = *(int *)pointer;
    return (int)status;
}

void *second_file_current(void) { return tpool_current(); }
