/* Time: sleeping, and an alarm for a test that hangs. */
#ifndef TPOOL_TESTS_CLOCK_H
#define TPOOL_TESTS_CLOCK_H
static inline void sleep_ms(int ms) {
    struct timespec t = { ms / 1000, (long)(ms % 1000) * 1000000L };
    while (nanosleep(&t, &t) != 0) { }
}
/* For the first item of a loop that is to be shared: the rest must be worth it. */
static inline void compute_for(int64_t ns) {
    for (int64_t end = tpool_now() + ns; tpool_now() < end;) { }
}

/* CPU time of all threads of the process. */
static inline int64_t cpu_of_process(void) {
#if defined(_WIN32)
    FILETIME times[4]; /* the last two are those of the system and of the program, in units of 100 ns */
    (void)GetProcessTimes(GetCurrentProcess(), &times[0], &times[1], &times[2], &times[3]);
    int64_t units = 0;
    for (int i = 2; i < 4; i++) units += ((int64_t)times[i].dwHighDateTime << 32) + times[i].dwLowDateTime;
    return 100 * units;
#else
    struct timespec now = { 0, 0 };
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec * TPOOL_SEC(1) + now.tv_nsec;
#endif
}

#if defined(_WIN32)
/* As that of POSIX, for a test that hangs. */
static inline VOID CALLBACK alarm_rings(PVOID unused, BOOLEAN fired) {
    (void)unused;
    (void)fired;
    TerminateProcess(GetCurrentProcess(), 142); /* as a shell tells of SIGALRM */
}
static inline void alarm(unsigned seconds) {
    static HANDLE timer;
    if (timer) (void)DeleteTimerQueueTimer(NULL, timer, NULL);
    timer = NULL;
    if (seconds)
        (void)CreateTimerQueueTimer(&timer, NULL, alarm_rings, NULL, seconds * 1000, 0, WT_EXECUTEINTIMERTHREAD);
}
#endif
#endif
