/* test_unload for Windows, where the plug-in is a DLL: loaded, used and unloaded, again and again, while threads that
   called in live on; and still loaded as the process exits. tests/platforms.sh builds and runs it: windows PLUGIN. */
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "plugin.h"

#define CHECK(holds) \
    do { \
        if (!(holds)) { \
            fprintf(stderr, "%s:%d: FAILED: %s\n", __FILE__, __LINE__, #holds); \
            ExitProcess(1); \
        } \
    } while (0)

static const char *plugin_path;

typedef struct plugin {
    HMODULE module;
    int (*call_in)(void), (*end_shared)(void);
    int (*use_own)(int *counter, int tasks), (*use_shared)(int *counter, int tasks);
    int (*use_times)(int *counter, int times), (*end_times)(int *counter, int times);
} plugin;
static void find_function(plugin *p, const char *name, void *function) {
    FARPROC found = GetProcAddress(p->module, name);
    CHECK(found);
    memcpy(function, &found, sizeof found);
}
static plugin load(void) {
    plugin p = { .module = LoadLibraryA(plugin_path) };
    CHECK(p.module);
    find_function(&p, "plugin_call_in", &p.call_in);
    find_function(&p, "plugin_end_shared", &p.end_shared);
    find_function(&p, "plugin_use_own", &p.use_own);
    find_function(&p, "plugin_use_shared", &p.use_shared);
    find_function(&p, "plugin_use_times", &p.use_times);
    find_function(&p, "plugin_end_times", &p.end_times);
    return p;
}
/* True: it has gone at once. A thread that runs a function of its timers may hold it for a moment. */
static bool unload(plugin p) {
    CHECK(FreeLibrary(p.module));
    bool at_once = !GetModuleHandleA(plugin_path);
    for (int looks = 0; looks < 2000 && GetModuleHandleA(plugin_path); looks++) Sleep(1);
    CHECK(!GetModuleHandleA(plugin_path));
    return at_once;
}

/* A thread that calls in, and lives on until it is told to end. */
typedef struct survivor {
    HANDLE thread, has_called, may_end;
    plugin p;
} survivor;
static DWORD WINAPI survive(void *arg) {
    survivor *s = (survivor *)arg;
    CHECK(s->p.call_in() == 0);
    SetEvent(s->has_called);
    WaitForSingleObject(s->may_end, INFINITE);
    return 0;
}
static void survivor_start(survivor *s, plugin p) {
    s->p = p;
    s->has_called = CreateEventA(NULL, TRUE, FALSE, NULL);
    s->may_end = CreateEventA(NULL, TRUE, FALSE, NULL);
    s->thread = CreateThread(NULL, 0, survive, s, 0, NULL);
    CHECK(s->has_called && s->may_end && s->thread);
    CHECK(WaitForSingleObject(s->has_called, 20000) == WAIT_OBJECT_0);
}
static void survivor_end(survivor *s) {
    DWORD code = 9;
    SetEvent(s->may_end);
    CHECK(WaitForSingleObject(s->thread, 20000) == WAIT_OBJECT_0);
    CHECK(GetExitCodeThread(s->thread, &code) && code == 0);
    CloseHandle(s->thread);
    CloseHandle(s->has_called);
    CloseHandle(s->may_end);
}

static void threads_that_called_in_outlive_the_plugin(void) {
    enum { SURVIVORS = 10 };
    survivor survivors[SURVIVORS];
    int counter = 0;
    for (int i = 0; i < SURVIVORS; i++) {
        plugin p = load();
        CHECK(p.use_own(&counter, 10) == 0);
        survivor_start(&survivors[i], p);
        unload(p);
    }
    for (int i = 0; i < SURVIVORS; i++) survivor_end(&survivors[i]);
    CHECK(counter == 10 * SURVIVORS);
}

/* Few slots for values of threads are free, and each load takes one and gives it back. (Not more often: the compiler's
   own library takes a slot of the other kind for each load, and keeps it.) */
static void a_plugin_can_be_loaded_any_number_of_times(void) {
    enum { LOADS = 500, FREE = 20, MOST = 10000 };
    static DWORD slots[MOST];
    int count = 0;
    while (count < MOST && (slots[count] = FlsAlloc(NULL)) != FLS_OUT_OF_INDEXES) count++;
    CHECK(count > FREE && count < MOST);
    for (int i = 0; i < FREE; i++) CHECK(FlsFree(slots[--count]));
    for (int i = 0; i < LOADS; i++) {
        plugin p = load();
        CHECK(p.call_in() == 0);
        unload(p);
    }
    while (count > 0) CHECK(FlsFree(slots[--count]));
}

static void the_work_of_its_shared_pools_is_done_once_they_are_shut_down(void) {
    for (int i = 0; i < 5; i++) {
        int counter = 0;
        plugin p = load();
        CHECK(p.use_shared(&counter, 5) == 0);
        CHECK(p.end_shared() == 0);
        CHECK(counter == 15);
        unload(p);
    }
}

static void threads_that_keep_its_times_end_before_it_is_unloaded(void) {
    int at_once = 0;
    for (int loads = 0, counter = 0; loads < 10; loads++) {
        plugin p = load();
        CHECK(p.use_times(&counter, 1 + loads % 4) == 0);
        Sleep(loads); /* so that a function of its timers has returned in some */
        CHECK(p.call_in() == 0);
        at_once += unload(p);
    }
    CHECK(at_once > 0); /* none of them lingers, as it does in a program */
    Sleep(300);         /* one that was left behind would have ended by now, in code that is gone */
}

/* A thread that its function has ended does not hold the plug-in for ever. */
static void nor_does_one_that_was_ended_hold_it(void) {
    for (int loads = 0, counter = 0; loads < 5; loads++) {
        plugin p = load();
        CHECK(p.end_times(&counter, 1 + loads % 4) == 0);
        unload(p);
    }
    Sleep(300);
}

/* The process exits while the plug-in is loaded. `ended`: its shared pools have been shut down before, and have done
   their work. If not, that work is lost; the exit neither hangs nor crashes. */
static int exit_with_it_loaded(int ended) {
    static int counter;
    survivor s;
    plugin p = load();
    CHECK(p.use_shared(&counter, 10) == 0);
    survivor_start(&s, p);
    if (ended) {
        CHECK(p.end_shared() == 0);
        CHECK(counter == 30);
    }
    exit(3);
}
static void a_process_exits_with_it_loaded(const char *program, const char *argument) {
    char command[2 * MAX_PATH + 20];
    STARTUPINFOA with = { .cb = sizeof with };
    PROCESS_INFORMATION made;
    DWORD code = 9;
    snprintf(command, sizeof command, "\"%s\" \"%s\" %s", program, plugin_path, argument);
    CHECK(CreateProcessA(NULL, command, NULL, NULL, FALSE, 0, NULL, NULL, &with, &made));
    CHECK(WaitForSingleObject(made.hProcess, 30000) == WAIT_OBJECT_0);
    CHECK(GetExitCodeProcess(made.hProcess, &code));
    CHECK(code == 3);
    CloseHandle(made.hThread);
    CloseHandle(made.hProcess);
}

/* A hang under the loader's lock, and a call into code that is gone, end it, too. */
static LONG WINAPI tells_of_a_crash(EXCEPTION_POINTERS *how) {
    fprintf(stderr, "FAILED: exception 0x%lX\n", how->ExceptionRecord->ExceptionCode);
    TerminateProcess(GetCurrentProcess(), 1);
    return EXCEPTION_EXECUTE_HANDLER;
}
static DWORD WINAPI watches(void *unused) {
    (void)unused;
    Sleep(60000);
    fprintf(stderr, "FAILED: it hangs\n");
    TerminateProcess(GetCurrentProcess(), 1);
    return 0;
}

int main(int argc, char **argv) {
    CHECK(argc > 1);
    SetUnhandledExceptionFilter(tells_of_a_crash);
    CHECK(CreateThread(NULL, 0, watches, NULL, 0, NULL));
    plugin_path = argv[1];
    if (argc > 2) return exit_with_it_loaded(strcmp(argv[2], "ended") == 0);
    threads_that_called_in_outlive_the_plugin();
    a_plugin_can_be_loaded_any_number_of_times();
    the_work_of_its_shared_pools_is_done_once_they_are_shut_down();
    threads_that_keep_its_times_end_before_it_is_unloaded();
    nor_does_one_that_was_ended_hold_it();
    a_process_exits_with_it_loaded(argv[0], "ended");
    a_process_exits_with_it_loaded(argv[0], "not_ended");
    return 0;
}
