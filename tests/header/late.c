/* The implementation after the system's own headers, as in a file that grew: what they left undeclared is not used. */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TPOOL_IMPLEMENTATION
#include "tpool.h"
