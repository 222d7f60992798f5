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
