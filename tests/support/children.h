/* Children of fork: what they run, how they end, and pools whose workers are processes. Where there is no fork, of a
   worker process what tests need to know. */
#ifndef TPOOL_TESTS_CHILDREN_H
#define TPOOL_TESTS_CHILDREN_H
#include "../support.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>

#if HAVE_FORK
#include <sys/mman.h>

/* The code of a worker that was killed. */
#define CODE_OF_KILL (-SIGKILL)

/* The first thing in a child: an alarm against hanging, which a fork inside a worker has inherited blocked. */
static inline void child_begin(unsigned seconds) {
    sigset_t alarm_only;
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    signal(SIGALRM, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, &alarm_only, NULL);
    alarm(seconds);
}
/* The last thing in a child that has succeeded. What ThreadSanitizer says there is about the parent: its threads that
   had ended, and that the child cannot join, and what they did. The child itself has one thread. */
static inline _Noreturn void child_ends(void) {
#if UNDER_TSAN && defined(__linux__)
    (void)syscall(SYS_exit_group, 0);
#endif
    _exit(0);
}
/* Waits for the child's end, which must be by itself; its exit code. */
static inline int exit_code_of(pid_t child) {
    int ended = 0;
    REQUIRE(child > 0);
    REQUIRE(waitpid(child, &ended, 0) == child);
    if (WIFSIGNALED(ended)) fail_msg("the child ended by signal %d", WTERMSIG(ended));
    REQUIRE(WIFEXITED(ended));
    return WEXITSTATUS(ended);
}
static inline void assert_child_succeeds(pid_t child) { assert_int_equal(0, exit_code_of(child)); }

/* Forks, and runs body in the child. */
static inline void in_child(void (*body)(void *context), void *context) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        child_begin(LIMIT_SECONDS);
        body(context);
        child_ends();
    }
    assert_child_succeeds(child);
}

/* What a test shares with its children, zero at first. */
static inline void *shared_memory(size_t size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}
static inline int descriptors_open(void) {
    int count = 0;
    for (int fd = 0; fd < 1000; fd++) count += fcntl(fd, F_GETFD) >= 0;
    return count;
}
/* What /proc tells of a process. False: there is none of that number. */
typedef struct process_stat {
    char state;
    long parent, threads;
} process_stat;
static inline bool read_process_stat(long pid, process_stat *stat) {
    char path[64], line[512];
    *stat = (process_stat){ .state = 'X' };
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file) return false;
    char *end = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
    if (end)
        (void)sscanf(end + 1, " %c %ld %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %ld", &stat->state,
                     &stat->parent, &stat->threads);
    fclose(file);
    return end != NULL;
}
/* Running or stopped; a zombie is not, whoever is to reap it. A process whose first thread has ended is shown as one
   too while other threads of it still live, as those of a sanitizer do: that is alive, and its children keep it as
   their parent. */
static inline bool is_alive(long pid) {
    process_stat stat;
    if (!read_process_stat(pid, &stat)) return false;
    return (stat.state != 'Z' && stat.state != 'X') || stat.threads > 1;
}
#ifdef __linux__
/* A child that no handler of fork knows of: it holds what its parent held. */
#if defined(__s390__) /* there the flags come second */
static inline pid_t bare_fork(void) { return (pid_t)syscall(SYS_clone, 0, SIGCHLD, 0, 0, 0); }
#else
static inline pid_t bare_fork(void) { return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }
#endif
#endif
#else
#define CODE_OF_KILL ((int)0xC000013Au)
#define SIGKILL 9

/* What a test shares with its workers, zero at first: once in a program, before tpool_main. A worker finds it by the
   environment, and has it at the same address. */
static inline void *shared_memory(size_t size) {
    char text[80], name[60];
    unsigned long long at = 0;
    HANDLE section;
    if (GetEnvironmentVariableA("TEST_SHARES", text, sizeof text) && sscanf(text, "%59s %llx", name, &at) == 2) {
        section = OpenFileMappingA(FILE_MAP_WRITE, FALSE, name);
        return section ? MapViewOfFileEx(section, FILE_MAP_WRITE, 0, 0, size, (void *)(uintptr_t)at) : NULL;
    }
    snprintf(name, sizeof name, "Local\\tpool-test-%lu", (unsigned long)GetCurrentProcessId());
    section = CreateFileMappingA(INVALID_HANDLE_VALUE, NULL, PAGE_READWRITE, 0, (DWORD)size, name);
    void *memory = section ? MapViewOfFile(section, FILE_MAP_WRITE, 0, 0, size) : NULL;
    snprintf(text, sizeof text, "%s %llx", name, (unsigned long long)(uintptr_t)memory);
    SetEnvironmentVariableA("TEST_SHARES", text);
    return memory;
}
static inline bool is_alive(long pid) {
    HANDLE process = OpenProcess(SYNCHRONIZE, FALSE, (DWORD)pid);
    bool alive = process && WaitForSingleObject(process, 0) == WAIT_TIMEOUT;
    if (process) CloseHandle(process);
    return alive;
}
/* As on POSIX, where the code of one that was killed is another. */
static inline int kill(pid_t pid, int number) {
    HANDLE process = OpenProcess(PROCESS_TERMINATE, FALSE, (DWORD)pid);
    bool alive = is_alive((long)pid);
    if (alive && process && number) TerminateProcess(process, (UINT)number);
    if (process) CloseHandle(process);
    errno = ESRCH;
    return alive ? 0 : -1;
}
#endif

/* ---- Pools of processes ---- */

static inline tpool *process_pool_as(tpool_config config) {
    config.kind = TPOOL_PROCESSES;
    return new_pool_as(config);
}
static inline tpool *process_pool(int workers) { return process_pool_as((tpool_config){ .max_workers = workers }); }
static inline intptr_t value_of(tpool *pool, tpool_fn fn) { return (intptr_t)take(submitted(pool, fn, NULL)); }
static inline intptr_t value_of_copy(tpool *pool, tpool_fn fn, const void *arg, size_t size) {
    tpool_future *future = NULL;
    REQUIRE_STATUS(TPOOL_OK, tpool_submit_copy(pool, fn, arg, size, &future));
    return (intptr_t)take(future);
}

/* A map over ints, which travel in chunks; its iterator. */
static inline tpool_map_iter *map_over_ints(tpool *pool, void *(*fn)(void *item, void *context), int *items,
                                            size_t count, size_t chunk) {
    tpool_map_spec spec = {
        .fn = fn, .items = items, .count = count, .stride = sizeof(int), .item_size = sizeof(int), .chunk_size = chunk
    };
    tpool_map_iter *iter = NULL;
    REQUIRE_STATUS(TPOOL_OK, tpool_map(pool, &spec, &iter));
    return iter;
}

/* A gate in memory that a test shares with its workers. */
typedef struct shared_gate {
    _Atomic(int) arrived, open;
} shared_gate;
static inline void shared_gate_pass(shared_gate *g) {
    atomic_fetch_add(&g->arrived, 1);
    while (!atomic_load(&g->open)) sleep_ms(1);
}

static inline void *getpid_task(void *arg) {
    (void)arg;
    return (void *)(intptr_t)getpid();
}
#if HAVE_FORK
static inline void *getppid_task(void *arg) {
    (void)arg;
    return (void *)(intptr_t)getppid();
}
/* A server lives, and is in the group of its keeper, which is its parent. */
static inline bool is_server(pid_t pid) {
#ifdef __linux__
    process_stat stat;
    /* the first process of a container, which adopts a server's workers, has 0 for both */
    return pid > 1 && read_process_stat(pid, &stat) && is_alive(pid) && stat.parent == getpgid(pid);
#else
    return pid > 1 && getpgid(pid) != pid;
#endif
}
/* The server of a pool of one worker, which is not the one given. After a server was killed its last worker may still
   answer: its parent is the one that was killed, or whoever has adopted it. */
static inline pid_t other_server_of(tpool *pool, pid_t not_this) {
    for (int64_t end = tpool_now() + LIMIT;; sleep_ms(1)) {
        void *parent = NULL;
        tpool_future *future = submitted(pool, getppid_task, NULL);
        tpool_status status = tpool_future_result(future, LIMIT, &parent);
        tpool_future_release(future);
        REQUIRE(status == TPOOL_OK || status == TPOOL_BROKEN);
        pid_t server = (pid_t)(intptr_t)parent;
        if (status == TPOOL_OK && server != not_this && is_server(server)) return server;
        REQUIRE(tpool_now() < end);
    }
}
static inline pid_t living_server_of(tpool *pool) { return other_server_of(pool, 0); }
#endif
static inline void *echo(void *arg) { return tpool_return(arg, tpool_arg_size()); }
static inline void *aborts(void *arg) {
    (void)arg;
    abort();
}
#endif
