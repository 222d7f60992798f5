/* Linked with a program, ends it and its children at a system call that Android ends an app for: one newer than those
   that the C library of Android 8 to 11 knows. So the code that tpool.h has for Android, which is compiled with
   -D__ANDROID__ -D__ANDROID_API__=24, runs on Linux. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static void tell(int number) {
    static const char text[] = "FAILED: a system call that Android ends an app for\n";
    (void)!write(2, text, sizeof text - 1);
    _exit(number);
}
__attribute__((constructor)) static void forbid_new_calls(void) {
    enum { FIRST = 424 }; /* pidfd_send_signal; from there on the numbers are the same on all processors but one */
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, FIRST, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1), /* by which glibc, not bionic, starts a thread */
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
    };
    struct sock_fprog program = { sizeof rules / sizeof *rules, rules };
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = tell;
    if (sigaction(SIGSYS, &action, NULL) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1ul, 0ul, 0ul, 0ul) == 0 &&
        prctl(PR_SET_SECCOMP, (unsigned long)SECCOMP_MODE_FILTER, &program) == 0)
        return;
    fputs("there are no such filters here\n", stderr);
    exit(77);
}
