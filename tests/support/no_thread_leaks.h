/* For a file whose tests fork beside other threads: to ThreadSanitizer these are leaks of the child. */
#ifndef TPOOL_TESTS_NO_THREAD_LEAKS_H
#define TPOOL_TESTS_NO_THREAD_LEAKS_H
#include "tools.h"

#if SLOW_TOOL
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "report_thread_leaks=0"; }
#endif
#endif
