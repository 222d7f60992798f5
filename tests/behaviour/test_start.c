/* The program's start. Where a worker is the program started anew, as on Windows: what that must not break. */
#include "support/children.h"

#if !HAVE_FORK
#include <wchar.h>

typedef struct common {
    shared_gate gate;
    _Atomic(int) count, constructed, begun;
    _Atomic(long) pid, other;
} common;
static common *all;
static int set_up(void **state) {
    (void)state;
    memset((void *)all, 0, sizeof *all);
    return 0;
}

/* --- programs that this one starts: itself, with the name of a story */

typedef struct program {
    PROCESS_INFORMATION process;
} program;
static void path_of_this(WCHAR path[MAX_PATH]) {
    DWORD length = GetModuleFileNameW(NULL, path, MAX_PATH);
    REQUIRE(length > 0 && length < MAX_PATH);
}
static program started(const WCHAR *path, const char *story, STARTUPINFOW *as, DWORD flags) {
    WCHAR command[100];
    STARTUPINFOW plain = { .cb = sizeof plain };
    program p;
    swprintf(command, 100, L"test_start %hs", story);
    REQUIRE(CreateProcessW(path, command, NULL, NULL, FALSE, flags, NULL, NULL, as ? as : &plain, &p.process));
    return p;
}
static program started_story(const char *story) {
    WCHAR path[MAX_PATH];
    path_of_this(path);
    return started(path, story, NULL, 0);
}
static void forget(const program *p) {
    CloseHandle(p->process.hThread);
    CloseHandle(p->process.hProcess);
}
static DWORD code_of(program p) {
    DWORD code = 1000;
    REQUIRE(WaitForSingleObject(p.process.hProcess, LIMIT_SECONDS * 1000) == WAIT_OBJECT_0);
    REQUIRE(GetExitCodeProcess(p.process.hProcess, &code));
    forget(&p);
    return code;
}

/* What a pool gives for one task: 0, or what went wrong. */
static int one_task(tpool_config config) {
    tpool *pool = NULL;
    tpool_future *future = NULL;
    config.kind = TPOOL_PROCESSES;
    if (tpool_create(&pool, &config) != TPOOL_OK) return 2;
    if (tpool_submit(pool, getpid_task, NULL, &future) != TPOOL_OK) return 3;
    void *pid = NULL;
    tpool_status status = tpool_future_result(future, LIMIT, &pid);
    tpool_future_release(future);
    if (status != TPOOL_OK) return 4;
    if ((intptr_t)pid == getpid()) return 5;
    return tpool_destroy(pool) == TPOOL_OK ? 0 : 6;
}

/* --- no tpool_main */

static tpool_status created_early = TPOOL_OK;
static tpool *early;
__attribute__((constructor)) static void constructed(void) {
    if (!getenv("TEST_CONSTRUCTS")) return;
    created_early = tpool_create(&early, &(tpool_config){ .kind = TPOOL_PROCESSES, .max_workers = 1 });
}
static void one_that_is_created_before_main_is_refused(void **state) {
    (void)state;
    SetEnvironmentVariableA("TEST_CONSTRUCTS", "1");
    DWORD code = code_of(started_story("constructs"));
    SetEnvironmentVariableA("TEST_CONSTRUCTS", NULL);
    assert_int_equal(0, code);
    assert_int_equal(2, atomic_load(&all->constructed)); /* the program and its worker */
}
static void constructs(void) {
    if (created_early != TPOOL_INVALID_STATE || early) ExitProcess(1);
    atomic_fetch_add(&all->constructed, 1);
    if (tpool_main(NULL, NULL) != TPOOL_OK) ExitProcess(1);
    ExitProcess((UINT)one_task((tpool_config){ .max_workers = 1 }));
}

static void forgets(void) {
    tpool *pool = (tpool *)&all;
    tpool_status status = tpool_create(&pool, &(tpool_config){ .kind = TPOOL_PROCESSES });
    ExitProcess(status == TPOOL_INVALID_STATE && !pool ? 0 : 1);
}
static void without_tpool_main_create_says_so(void **state) {
    (void)state;
    assert_int_equal(0, code_of(started_story("forgets")));
}

static char *utf8_of_this(void) {
    WCHAR path[MAX_PATH];
    static char text[3 * MAX_PATH];
    path_of_this(path);
    return WideCharToMultiByte(CP_UTF8, 0, path, -1, text, sizeof text, NULL, NULL) > 0 ? text : NULL;
}
/* A program that is started for a pool, without coming to tpool_main, and wants such a pool itself. */
static void starts_itself(void) {
    tpool *pool = NULL;
    tpool_future *future = NULL;
    tpool_config config = { .kind = TPOOL_PROCESSES, .max_workers = 1, .program = utf8_of_this() };
    bool first = atomic_fetch_add(&all->count, 1) == 0;
    tpool_status status = tpool_create(&pool, &config);
    if (!first && status != TPOOL_INVALID_STATE) atomic_fetch_add(&all->begun, 1);
    if (!first) ExitProcess(7);
    if (status != TPOOL_OK) ExitProcess(1);
    if (tpool_submit(pool, getpid_task, NULL, &future) != TPOOL_OK) ExitProcess(2);
    status = tpool_future_result(future, LIMIT, NULL);
    tpool_future_release(future);
    ExitProcess(status == TPOOL_BROKEN && tpool_destroy(pool) == TPOOL_OK ? 0 : 3);
}
static void a_program_that_never_serves_is_not_started_for_ever(void **state) {
    (void)state;
    SetEnvironmentVariableA("TEST_FORGETS", "1");
    DWORD code = code_of(started_story("starts_itself"));
    SetEnvironmentVariableA("TEST_FORGETS", NULL);
    assert_int_equal(0, code);
    assert_int_equal(0, atomic_load(&all->begun));
    assert_int_equal(9, atomic_load(&all->count)); /* itself, and as many as may die before they are ready */
}

/* What is started for a pool starts the program: so the process that comes to tpool_main is not the one that the pool
   has started. */
static void launches(void) {
    SetEnvironmentVariableA("TEST_LAUNCHES", NULL);
    atomic_fetch_add(&all->count, 1);
    ExitProcess(code_of(started_story("is_launched")));
}
static void is_launched(void) {
    (void)tpool_main(NULL, NULL);
    atomic_fetch_add(&all->begun, 1);
    ExitProcess(9);
}
static void uses_a_launcher(void) {
    tpool *pool = NULL;
    tpool_future *future = NULL;
    tpool_config config = { .kind = TPOOL_PROCESSES, .max_workers = 1, .program = utf8_of_this() };
    SetEnvironmentVariableA("TEST_LAUNCHES", "1");
    if (tpool_create(&pool, &config) != TPOOL_OK) ExitProcess(1);
    if (tpool_submit(pool, getpid_task, NULL, &future) != TPOOL_OK) ExitProcess(2);
    tpool_status status = tpool_future_result(future, LIMIT, NULL);
    tpool_future_release(future);
    ExitProcess(status == TPOOL_BROKEN && tpool_destroy(pool) == TPOOL_OK ? 0 : 3);
}
static void a_worker_that_cannot_be_served_runs_no_main(void **state) {
    (void)state;
    SetEnvironmentVariableA("TPOOL_WORKER_OF", "Local\\tpool-there is no such mailbox");
    DWORD code = code_of(started_story("is_launched"));
    SetEnvironmentVariableA("TPOOL_WORKER_OF", NULL);
    assert_int_equal(1, code);
    assert_int_equal(0, atomic_load(&all->begun));
    assert_int_equal(0, code_of(started_story("uses_a_launcher")));
    assert_int_equal(8, atomic_load(&all->count)); /* as many as may die before they are ready */
    assert_int_equal(0, atomic_load(&all->begun));
}

static void hosts(void) { ExitProcess((UINT)one_task((tpool_config){ .max_workers = 1, .program = utf8_of_this() })); }
static void a_host_without_tpool_main_names_a_program(void **state) {
    (void)state;
    assert_int_equal(0, code_of(started_story("hosts")));
    tpool *pool = NULL;
    tpool_config config = { .kind = TPOOL_PROCESSES, .max_workers = 1, .program = "C:\\there is no such program.exe" };
    assert_status(TPOOL_OK, tpool_create(&pool, &config));
    assert_status(TPOOL_NO_THREAD, tpool_submit(pool, getpid_task, NULL, NULL));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    config.program = "not UTF-8: \xff";
    assert_status(TPOOL_INVALID, tpool_create(&pool, &config));
    config.program = "";
    assert_status(TPOOL_INVALID, tpool_create(&pool, &config));
}
static void a_relative_program_is_that_of_create(void **state) {
    (void)state;
    WCHAR path[MAX_PATH], before[MAX_PATH];
    char *name;
    path_of_this(path);
    assert_true(GetCurrentDirectoryW(MAX_PATH, before) > 0);
    WCHAR *last = wcsrchr(path, L'\\');
    assert_non_null(last);
    *last = 0;
    assert_true(SetCurrentDirectoryW(path));
    name = strrchr(utf8_of_this(), '\\') + 1;
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .program = name });
    assert_true(SetCurrentDirectoryW(L"C:\\"));
    tpool_future *future = NULL;
    tpool_status status = tpool_submit(pool, getpid_task, NULL, &future);
    assert_true(SetCurrentDirectoryW(before));
    assert_status(TPOOL_OK, status);
    assert_status(TPOOL_OK, end_of(future));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* --- where the program is, and what it is in */

static void works(void) { ExitProcess((UINT)one_task((tpool_config){ .max_workers = 1 })); }
static void the_path_may_have_spaces_and_any_letters(void **state) {
    (void)state;
    WCHAR path[MAX_PATH], copy[MAX_PATH];
    path_of_this(path);
    DWORD length = GetTempPathW(MAX_PATH, copy);
    assert_true(length > 0 && length + 40 < MAX_PATH);
    swprintf(copy + length, 40, L"tpool z\x00f3\x0142\x0107 \x65e5\x672c %lu.exe", GetCurrentProcessId());
    assert_true(CopyFileW(path, copy, FALSE));
    DWORD code = code_of(started(copy, "works", NULL, 0));
    EVENTUALLY(DeleteFileW(copy));
    assert_int_equal(0, code);
}
static void a_program_in_a_job_has_workers(void **state) {
    (void)state;
    WCHAR path[MAX_PATH];
    path_of_this(path);
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION limits = { 0 };
    limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
    HANDLE job = CreateJobObjectW(NULL, NULL);
    assert_true(SetInformationJobObject(job, JobObjectExtendedLimitInformation, &limits, sizeof limits));
    program p = started(path, "works", NULL, CREATE_SUSPENDED);
    assert_true(AssignProcessToJobObject(job, p.process.hProcess));
    assert_int_equal(1, ResumeThread(p.process.hThread));
    assert_int_equal(0, code_of(p));
    CloseHandle(job);
}
static void *prints(void *arg) {
    printf("to nowhere\n");
    fprintf(stderr, "to nowhere\n");
    return arg;
}
static void prints_in_vain(void) {
    tpool *pool = NULL;
    tpool_future *future = NULL;
    if (tpool_create(&pool, &(tpool_config){ .kind = TPOOL_PROCESSES, .max_workers = 1 }) != TPOOL_OK) ExitProcess(1);
    if (tpool_submit(pool, prints, NULL, &future) != TPOOL_OK) ExitProcess(2);
    tpool_status status = tpool_future_result(future, LIMIT, NULL);
    tpool_future_release(future);
    ExitProcess(status == TPOOL_OK && tpool_destroy(pool) == TPOOL_OK ? 0 : 3);
}
static void a_program_without_standard_handles_has_workers(void **state) {
    (void)state;
    WCHAR path[MAX_PATH];
    path_of_this(path);
    STARTUPINFOW none = { .cb = sizeof none, .dwFlags = STARTF_USESTDHANDLES };
    assert_int_equal(0, code_of(started(path, "prints_in_vain", &none, DETACHED_PROCESS)));
}

/* --- ends */

static void *computes(void *arg) {
    atomic_store(&all->pid, getpid());
    atomic_fetch_add(&all->begun, 1);
    for (volatile int i = 0;; i++) { }
    return arg;
}
static void lets_compute(void) {
    tpool *pool = NULL;
    if (tpool_create(&pool, &(tpool_config){ .kind = TPOOL_PROCESSES, .max_workers = 1 }) != TPOOL_OK) ExitProcess(1);
    if (tpool_submit(pool, computes, NULL, NULL) != TPOOL_OK) ExitProcess(2);
    for (;;) Sleep(1000);
}
static void no_worker_outlives_a_program_that_is_killed(void **state) {
    (void)state;
    for (int i = 1; i <= 100; i++) {
        program p = started_story("lets_compute");
        EVENTUALLY(atomic_load(&all->begun) == i);
        assert_true(is_alive(atomic_load(&all->pid)));
        assert_true(TerminateProcess(p.process.hProcess, 9));
        EVENTUALLY(!is_alive(atomic_load(&all->pid)));
        forget(&p);
    }
}

static int deeper(volatile int n) {
    volatile char bytes[4000];
    bytes[0] = (char)n;
    return n ? deeper(n + 1) + bytes[0] : 0;
}
static void *overflows(void *arg) {
    (void)arg;
    return (void *)(intptr_t)deeper(1);
}
static void *writes_nowhere(void *arg) {
    volatile int *nowhere = (volatile int *)(uintptr_t)8;
    *nowhere = 1;
    return arg;
}
static void *exits_at_once(void *arg) {
    ExitProcess(5);
    return arg;
}
static void *exits(void *arg) {
    exit(6);
    return arg;
}
static void *terminates_its_thread(void *arg) {
    TerminateThread(GetCurrentThread(), 7);
    return arg;
}
static void *ends_its_thread(void *arg) {
    ExitThread(8);
    return arg;
}
static DWORD WINAPI lives_on(void *unused) {
    (void)unused;
    for (;;) Sleep(1000);
    return 0;
}
static void *leaves_a_thread(void *arg) {
    CloseHandle(CreateThread(NULL, 0, lives_on, NULL, 0, NULL));
    TerminateThread(GetCurrentThread(), 9);
    return arg;
}
static void *ends_its_thread_beside_another(void *arg) {
    CloseHandle(CreateThread(NULL, 0, lives_on, NULL, 0, NULL));
    ExitThread(8);
    return arg;
}
static void counts(void *context) {
    (void)context;
    atomic_fetch_add(&all->count, 1);
}
static void a_task_that_ends_its_thread_ends_the_worker_without_its_finalizer(void **state) {
    (void)state;
    for (size_t stack = 0; stack <= 1 << 20; stack += 1 << 20) {
        tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .stack_size = stack, .finalizer = counts });
        tpool_future *future = submitted(pool, ends_its_thread_beside_another, NULL);
        const tpool_error *error = NULL;
        assert_status(TPOOL_BROKEN, tpool_future_result(future, LIMIT, NULL));
        assert_status(TPOOL_OK, tpool_future_error(future, 0, &error));
        assert_int_equal(8, error->code);
        tpool_future_release(future);
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
    assert_int_equal(0, atomic_load(&all->count));
}
static void the_code_tells_how_a_worker_ended(void **state) {
    (void)state;
    static const struct {
        tpool_fn fn;
        unsigned code;
    } cases[] = { { writes_nowhere, 0xC0000005u }, { overflows, 0xC00000FDu },   { exits_at_once, 5 },  { exits, 6 },
                  { ends_its_thread, 8 },          { terminates_its_thread, 7 }, { leaves_a_thread, 9 } };
    for (size_t stack = 0; stack <= 1 << 20; stack += 1 << 20) {
        tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .stack_size = stack });
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            tpool_future *future = submitted(pool, cases[i].fn, NULL);
            const tpool_error *error = NULL;
            assert_status(TPOOL_BROKEN, tpool_future_result(future, LIMIT, NULL));
            assert_status(TPOOL_OK, tpool_future_error(future, 0, &error));
            assert_int_equal((int)cases[i].code, error->code);
            tpool_future_release(future);
            assert_true(value_of(pool, getpid_task) > 0);
        }
        assert_status(TPOOL_BROKEN, end_of(submitted(pool, aborts, NULL)));
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

static void *dies_of_seven_and_eight(void *item, void *context) {
    int n = *(int *)item;
    (void)context;
    if (n % 10 == 7) writes_nowhere(NULL);
    if (n % 10 == 8) ExitProcess(9);
    return (void *)(intptr_t)(3 * n);
}
static void an_item_that_dies_takes_only_itself_with_it(void **state) {
    (void)state;
    enum { ITEMS = 20 };
    static const size_t chunks[] = { 1, 7, 20, 0 };
    int items[ITEMS];
    for (int i = 0; i < ITEMS; i++) items[i] = i;
    tpool *pool = process_pool(2);
    for (int c = 0; c < 4; c++) {
        tpool_map_iter *iter = map_over_ints(pool, dies_of_seven_and_eight, items, ITEMS, chunks[c]);
        for (int i = 0; i < ITEMS; i++) {
            bool dies = i % 10 == 7 || i % 10 == 8;
            void *result = NULL;
            const tpool_error *error = NULL;
            assert_status(dies ? TPOOL_BROKEN : TPOOL_OK, tpool_map_next(iter, LIMIT, &result));
            assert_status(TPOOL_OK, tpool_map_error(iter, &error));
            if (dies) assert_int_equal(i % 10 == 7 ? (int)0xC0000005u : 9, error->code);
            else assert_int_equal(3 * i, (intptr_t)result);
        }
        assert_status(TPOOL_END, tpool_map_next(iter, LIMIT, NULL));
        tpool_map_close(iter);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void a_worker_that_others_end_costs_what_it_executes(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    const tpool_error *error = NULL;
    long idle = (long)value_of(pool, getpid_task);
    assert_int_equal(0, kill((pid_t)idle, 5)); /* while it waits for work: nothing is lost */
    EVENTUALLY(!is_alive(idle));
    tpool_future *future = submitted(pool, computes, NULL);
    EVENTUALLY(atomic_load(&all->begun) == 1);
    assert_int_not_equal(idle, atomic_load(&all->pid));
    assert_int_equal(0, kill((pid_t)atomic_load(&all->pid), 5));
    assert_status(TPOOL_BROKEN, tpool_future_result(future, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_future_error(future, 0, &error));
    assert_int_equal(5, error->code);
    tpool_future_release(future);
    assert_true(value_of(pool, getpid_task) > 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void counts_crashes(const tpool_error *error, void *reported) {
    if (error->status == TPOOL_BROKEN && error->code == (int)0xC0000005u) ++*(int *)reported;
}
static void a_crash_that_nobody_asks_for_is_reported(void **state) {
    (void)state;
    int reported = 0;
    tpool *pool = process_pool_as((tpool_config){
        .max_workers = 1, .on_failure = counts_crashes, .context = &reported, .context_size = sizeof reported });
    for (int i = 0; i < 3; i++) assert_status(TPOOL_OK, tpool_submit(pool, writes_nowhere, NULL, NULL));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_int_equal(3, reported);
}

static void waits_alone(void) {
    for (;;) Sleep(1000);
}
/* A task that starts another program. */
static void *starts_another(void *arg) {
    program p = started_story("waits_alone");
    atomic_store(&all->other, (long)p.process.dwProcessId);
    forget(&p);
    return arg;
}
static void *crashes_after_that(void *arg) { return writes_nowhere(starts_another(arg)); }
static void what_a_task_has_started_ends_with_a_worker_that_dies(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    assert_status(TPOOL_OK, end_of(submitted(pool, starts_another, NULL)));
    long other = atomic_load(&all->other);
    assert_true(is_alive(other));
    assert_status(TPOOL_OK, tpool_destroy(pool)); /* the worker exits with 0: it lives on */
    assert_true(is_alive(other));
    assert_int_equal(0, kill((pid_t)other, SIGKILL));
    pool = process_pool(1);
    assert_status(TPOOL_BROKEN, end_of(submitted(pool, crashes_after_that, NULL)));
    EVENTUALLY(!is_alive(atomic_load(&all->other)));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* exit() ends the other threads first, then come the DLLs: that takes a while after the end of the first thread. */
static void is_detached_slowly(void) {
    Sleep(300);
    atomic_fetch_add(&all->count, 1);
}
static void *exits_slowly(void *arg) {
    HMODULE module = LoadLibraryA("start_module.dll");
    FARPROC found = module ? GetProcAddress(module, "at_detach") : NULL;
    void (**at_detach)(void) = NULL;
    memcpy(&at_detach, &found, sizeof at_detach);
    if (!at_detach) return arg;
    *at_detach = is_detached_slowly;
    (void)starts_another(NULL);
    exit(0);
    return arg;
}
static DWORD WINAPI exits_for_the_task(void *unused) {
    (void)exits_slowly(unused);
    return 0;
}
static void *exits_in_another_thread(void *arg) {
    WaitForSingleObject(CreateThread(NULL, 0, exits_for_the_task, NULL, 0, NULL), INFINITE);
    return arg;
}
static void a_worker_exits_in_peace_whichever_thread_does_it(void **state) {
    (void)state;
    for (int i = 1; i <= 3; i++) {
        tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .stack_size = i == 2 ? 1 << 20 : 0 });
        assert_status(TPOOL_BROKEN, end_of(submitted(pool, i == 3 ? exits_in_another_thread : exits_slowly, NULL)));
        assert_int_equal(i, atomic_load(&all->count));
        assert_true(is_alive(atomic_load(&all->other))); /* it has exited with 0 */
        assert_int_equal(0, kill((pid_t)atomic_load(&all->other), SIGKILL));
        assert_status(TPOOL_OK, tpool_destroy(pool));
    }
}

/* --- many */

static void seventy_workers(void **state) {
    (void)state;
    enum { WORKERS = 70 };
    tpool *pool = process_pool(WORKERS);
    tpool_future *futures[WORKERS];
    atomic_store(&all->gate.open, 0);
    for (int i = 0; i < WORKERS; i++) futures[i] = submitted(pool, getpid_task, NULL);
    for (int i = 0; i < WORKERS; i++) (void)take(futures[i]);
    assert_status(TPOOL_OK, tpool_warm_up(pool, WORKERS));
    for (int i = 0; i < WORKERS; i++) futures[i] = submitted(pool, (tpool_fn)computes, NULL);
    EVENTUALLY(atomic_load(&all->begun) == WORKERS);
    assert_status(TPOOL_OK, tpool_kill_workers(pool));
    for (int i = 0; i < WORKERS; i++) assert_status(TPOOL_BROKEN, end_of(futures[i]));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* The end of a pipe that the program's other children inherit is in no worker. */
typedef struct creator {
    pthread_t thread;
    tpool *pool;
    intptr_t pid;
} creator;
static void *creates(void *arg) {
    creator *c = arg;
    c->pool = process_pool(1);
    c->pid = value_of(c->pool, getpid_task);
    return NULL;
}
static void pools_created_at_once_keep_no_pipe_open(void **state) {
    (void)state;
    for (int round = 0; round < 5; round++) {
        creator creators[2];
        HANDLE read = NULL, write = NULL;
        SECURITY_ATTRIBUTES inherited = { sizeof inherited, NULL, TRUE };
        assert_true(CreatePipe(&read, &write, &inherited, 0));
        for (int i = 0; i < 2; i++)
            assert_int_equal(0, pthread_create(&creators[i].thread, NULL, creates, &creators[i]));
        for (int i = 0; i < 2; i++) assert_int_equal(0, pthread_join(creators[i].thread, NULL));
        assert_true(is_alive((long)creators[0].pid) && is_alive((long)creators[1].pid));
        CloseHandle(write);
        EVENTUALLY(!PeekNamedPipe(read, NULL, 0, NULL, NULL, NULL) && GetLastError() == ERROR_BROKEN_PIPE);
        CloseHandle(read);
        for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_destroy(creators[i].pool));
    }
}

/* --- functions and what travels */

/* The module where it wants to lie: in the program something else is there already, so there it lies elsewhere. */
static HMODULE module_elsewhere(void) {
    void *there = VirtualAlloc((void *)(uintptr_t)0x5a0000000ull, 65536, MEM_RESERVE, PAGE_NOACCESS);
    HMODULE module = there ? LoadLibraryA("start_module.dll") : NULL;
    return (uintptr_t)module == 0x5a0000000ull ? NULL : module;
}
static tpool_fn function_of(HMODULE module) {
    FARPROC found = GetProcAddress(module, "in_a_module");
    tpool_fn fn = NULL;
    memcpy(&fn, &found, sizeof fn);
    return fn;
}
static void calls_elsewhere(void) {
    HMODULE module = atomic_fetch_add(&all->count, 1) == 0 ? module_elsewhere() : LoadLibraryA("start_module.dll");
    if (!module) ExitProcess(11);
    if (tpool_main(NULL, NULL) != TPOOL_OK) ExitProcess(12);
    tpool *pool = NULL;
    tpool_future *future = NULL;
    void *there = NULL;
    tpool_fn fn = function_of(module);
    if (tpool_create(&pool, &(tpool_config){ .kind = TPOOL_PROCESSES, .max_workers = 1 }) != TPOOL_OK) ExitProcess(13);
    if (tpool_submit(pool, fn, NULL, &future) != TPOOL_OK) ExitProcess(14);
    if (tpool_future_result(future, LIMIT, &there) != TPOOL_OK) ExitProcess(15);
    tpool_future_release(future);
    if (tpool_destroy(pool) != TPOOL_OK) ExitProcess(16);
    ExitProcess(there && (uintptr_t)there != (uintptr_t)fn ? 0 : 17); /* it was called where it lies in the worker */
}
static void a_function_is_found_wherever_its_module_lies(void **state) {
    (void)state;
    assert_int_equal(0, code_of(started_story("calls_elsewhere")));
    assert_int_equal(2, atomic_load(&all->count));
}
static void *item_of_module(void *item, void *context) {
    (void)context;
    return item;
}
/* Two copies of the library in a process: the program's, and that of a module. */
static int (*module_loaded(FARPROC *start))(void) {
    HMODULE module = LoadLibraryA("start_module.dll");
    if (!module) ExitProcess(11);
    FARPROC task = GetProcAddress(module, "task_of_module");
    int (*task_of_module)(void) = NULL;
    *start = GetProcAddress(module, "start_of_module");
    memcpy(&task_of_module, &task, sizeof task_of_module);
    return task_of_module;
}
static void *returns_bytes(void *arg) { return tpool_return(arg, tpool_arg_size()); }
static void two_copies(bool module_first) {
    FARPROC start;
    int (*task_of_module)(void) = module_loaded(&start);
    if (module_first) (void)start();
    if (tpool_main(NULL, NULL) != TPOOL_OK) ExitProcess(12);
    if (!module_first) (void)start();
    atomic_fetch_add(&all->count, 1);
    tpool *pool = NULL;
    tpool_future *future = NULL;
    void *bytes = NULL;
    if (tpool_create(&pool, &(tpool_config){ .kind = TPOOL_PROCESSES, .max_workers = 1 }) != TPOOL_OK) ExitProcess(13);
    if (tpool_submit_copy(pool, returns_bytes, "own", 4, &future) != TPOOL_OK) ExitProcess(14);
    if (tpool_future_result(future, LIMIT, &bytes) != TPOOL_OK) ExitProcess(15);
    if (!bytes || strcmp(bytes, "own") != 0) ExitProcess(16);
    tpool_future_release(future);
    if (tpool_destroy(pool) != TPOOL_OK) ExitProcess(17);
    ExitProcess((UINT)task_of_module());
}
static void module_first(void) { two_copies(true); }
static void program_first(void) { two_copies(false); }
static void each_copy_of_the_library_serves_its_own_pools(void **state) {
    (void)state;
    assert_int_equal(0, code_of(started_story("module_first")));
    assert_int_equal(0, code_of(started_story("program_first")));
    assert_int_equal(2, atomic_load(&all->count)); /* no worker has gone on as the program */
}
static void a_function_that_the_worker_lacks_breaks_the_task(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    HMODULE module = LoadLibraryA("start_module.dll"); /* not in the worker */
    assert_non_null(module);
    int items[3] = { 0 };
    tpool_fn fn = function_of(module);
    tpool_future *future = submitted(pool, fn, NULL);
    assert_status(TPOOL_BROKEN, tpool_future_result(future, LIMIT, NULL));
    assert_non_null(strstr(tpool_future_message(future), "has not loaded"));
    tpool_future_release(future);
    intptr_t pid = value_of(pool, getpid_task);
    void *(*item_fn)(void *, void *) = (void *(*)(void *, void *))(uintptr_t)fn;
    tpool_map_iter *iter = map_over_ints(pool, item_fn, items, 3, 3);
    for (int i = 0; i < 3; i++) assert_status(TPOOL_BROKEN, tpool_map_next(iter, LIMIT, NULL));
    tpool_map_close(iter);
    iter = map_over_ints(pool, item_of_module, items, 3, 3);
    for (int i = 0; i < 3; i++) assert_status(TPOOL_OK, tpool_map_next(iter, LIMIT, NULL));
    tpool_map_close(iter);
    assert_int_equal(pid, value_of(pool, getpid_task)); /* that has cost no worker */
    FreeLibrary(module);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
/* What its headers say of its contents; builds that are to be the same have no time in them. */
static bool has_another_checksum(const WCHAR *path) {
    FILE *file = _wfopen(path, L"r+b");
    uint32_t nt = 0, sum = 0;
    if (!file) return false;
    bool read = fseek(file, 60, SEEK_SET) == 0 && fread(&nt, sizeof nt, 1, file) == 1 &&
                fseek(file, (long)nt + 88, SEEK_SET) == 0 && fread(&sum, sizeof sum, 1, file) == 1;
    sum = ~sum;
    bool written = read && fseek(file, (long)nt + 88, SEEK_SET) == 0 && fwrite(&sum, sizeof sum, 1, file) == 1;
    return fclose(file) == 0 && written;
}
static void a_worker_of_another_build_breaks_the_task(void **state) {
    (void)state;
    WCHAR path[MAX_PATH];
    char program[MAX_PATH];
    path_of_this(path);
    assert_true(CopyFileW(path, L"test_start_of_another_build.exe", FALSE));
    assert_true(has_another_checksum(L"test_start_of_another_build.exe"));
    DWORD length = GetFullPathNameA("test_start_of_another_build.exe", sizeof program, program, NULL);
    assert_true(length > 0 && length < sizeof program);
    tpool *pool = process_pool_as((tpool_config){ .max_workers = 1, .program = program });
    tpool_future *future = submitted(pool, getpid_task, NULL);
    assert_status(TPOOL_BROKEN, tpool_future_result(future, LIMIT, NULL));
    assert_non_null(strstr(tpool_future_message(future), "has not loaded"));
    tpool_future_release(future);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    EVENTUALLY(DeleteFileA(program));
}
static void a_function_in_no_module_is_refused(void **state) {
    (void)state;
    tpool *pool = process_pool(1);
    void *code = malloc(64);
    int item = 0;
    tpool_fn fn = (tpool_fn)(uintptr_t)code;
    tpool_map_iter *iter = (tpool_map_iter *)code;
    tpool_map_spec spec = { .fn = (void *(*)(void *, void *))(uintptr_t)code,
                            .items = &item,
                            .count = 1,
                            .stride = sizeof item,
                            .item_size = sizeof item };
    assert_status(TPOOL_INVALID, tpool_submit(pool, fn, NULL, NULL));
    assert_status(TPOOL_INVALID, tpool_map(pool, &spec, &iter));
    assert_null(iter);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    tpool_config config = { .kind = TPOOL_PROCESSES, .finalizer = (void (*)(void *))(uintptr_t)code };
    assert_status(TPOOL_INVALID, tpool_create(&pool, &config));
    free(code);
}
static bool has_context(void *context) { return strcmp(context, "a context") == 0; }
static void a_context_travels_with_its_size(void **state) {
    (void)state;
    char context[] = "a context";
    tpool *pool = process_pool_as((tpool_config){
        .max_workers = 1, .initializer = has_context, .context = context, .context_size = sizeof context });
    assert_true(value_of(pool, getpid_task) > 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    char *passing = malloc(sizeof context);
    assert_non_null(passing);
    memcpy(passing, context, sizeof context);
    pool = process_pool_as((tpool_config){
        .max_workers = 1, .initializer = has_context, .context = passing, .context_size = sizeof context });
    memset(passing, 'x', sizeof context); /* workers have it as it was at create, as everywhere */
    free(passing);
    assert_true(value_of(pool, getpid_task) > 0);
    assert_status(TPOOL_BROKEN, end_of(submitted(pool, exits_at_once, NULL)));
    assert_true(value_of(pool, getpid_task) > 0);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    tpool_config config = { .kind = TPOOL_PROCESSES, .context = context };
    assert_status(TPOOL_INVALID, tpool_create(&pool, &config));
    config = (tpool_config){ .kind = TPOOL_PROCESSES, .context_size = 1 };
    assert_status(TPOOL_INVALID, tpool_create(&pool, &config));
}
static void what_does_not_go_here_is_unsupported(void **state) {
    (void)state;
    int descriptor = 1;
    tpool *pool = NULL;
    tpool_config config = { .kind = TPOOL_PROCESSES, .shared_size = 4096 };
    assert_status(TPOOL_UNSUPPORTED, tpool_create(&pool, &config));
    config = (tpool_config){ .kind = TPOOL_PROCESSES, .descriptors = &descriptor, .descriptor_count = 1 };
    assert_status(TPOOL_UNSUPPORTED, tpool_create(&pool, &config));
}

static const struct {
    const char *name;
    void (*story)(void);
    bool leaves_main; /* to the story */
} stories[] = {
    { "constructs", constructs, true },
    { "forgets", forgets, true },
    { "starts_itself", starts_itself, true },
    { "hosts", hosts, true },
    { "works", works, false },
    { "is_launched", is_launched, true },
    { "uses_a_launcher", uses_a_launcher, true },
    { "prints_in_vain", prints_in_vain, false },
    { "lets_compute", lets_compute, false },
    { "waits_alone", waits_alone, true },
    { "calls_elsewhere", calls_elsewhere, true },
    { "module_first", module_first, true },
    { "program_first", program_first, true },
};
#endif

static void elsewhere_the_start_does_nothing(void **state) {
    (void)state;
    int argc = 1;
    char *arguments[] = { "program", NULL }, **argv = arguments;
    assert_status(TPOOL_OK, tpool_main(&argc, &argv));
    assert_int_equal(1, argc);
    assert_ptr_equal(arguments, argv);
    assert_status(TPOOL_OK, tpool_main(NULL, NULL));
}

int main(int argc, char **argv) {
#if !HAVE_FORK
    all = shared_memory(sizeof *all);
    if (getenv("TEST_FORGETS")) starts_itself();
    if (getenv("TEST_LAUNCHES")) launches();
    for (size_t i = 0; argc > 1 && i < sizeof stories / sizeof *stories; i++) {
        if (strcmp(stories[i].name, argv[1]) != 0) continue;
        if (!stories[i].leaves_main && tpool_main(&argc, &argv) != TPOOL_OK) return 100;
        stories[i].story();
    }
#define T(name) cmocka_unit_test_setup(name, set_up)
#else
#define T(name) cmocka_unit_test(name)
#endif
    if (tpool_main(&argc, &argv) != TPOOL_OK) return 1;
    const struct CMUnitTest tests[] = {
        T(elsewhere_the_start_does_nothing),
#if !HAVE_FORK
        T(one_that_is_created_before_main_is_refused),
        T(without_tpool_main_create_says_so),
        T(a_program_that_never_serves_is_not_started_for_ever),
        T(a_worker_that_cannot_be_served_runs_no_main),
        T(a_host_without_tpool_main_names_a_program),
        T(a_relative_program_is_that_of_create),
        T(the_path_may_have_spaces_and_any_letters),
        T(a_program_in_a_job_has_workers),
        T(a_program_without_standard_handles_has_workers),
        T(no_worker_outlives_a_program_that_is_killed),
        T(the_code_tells_how_a_worker_ended),
        T(a_task_that_ends_its_thread_ends_the_worker_without_its_finalizer),
        T(an_item_that_dies_takes_only_itself_with_it),
        T(a_worker_that_others_end_costs_what_it_executes),
        T(a_crash_that_nobody_asks_for_is_reported),
        T(what_a_task_has_started_ends_with_a_worker_that_dies),
        T(a_worker_exits_in_peace_whichever_thread_does_it),
        T(seventy_workers),
        T(pools_created_at_once_keep_no_pipe_open),
        T(a_function_is_found_wherever_its_module_lies),
        T(each_copy_of_the_library_serves_its_own_pools),
        T(a_function_that_the_worker_lacks_breaks_the_task),
        T(a_worker_of_another_build_breaks_the_task),
        T(a_function_in_no_module_is_refused),
        T(a_context_travels_with_its_size),
        T(what_does_not_go_here_is_unsupported),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
