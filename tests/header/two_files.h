/* Two files of one program. */
#ifndef TWO_FILES_H
#define TWO_FILES_H
int second_file_runs(void);                       /* the smoke test in the second file; 0 when well */
int second_file_reads(void *future, int *result); /* a result of the first file's pool; the status */
void *second_file_current(void);                  /* tpool_current() as the second file sees it */
#endif
