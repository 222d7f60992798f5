/* A plug-in with the header inside is loaded and unloaded, again and again, while threads that called in live on.
   UNLOAD_PLUGIN in the environment, or the first argument, says where it is. */
#include "support.h"
#include "support/children.h"
#include <dirent.h>
#include <dlfcn.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <sys/mman.h>

static bool leaves_things_behind; /* what is unloaded while the process exits frees nothing */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void) { return leaves_things_behind; }

static const char *plugin_path;

typedef struct plugin {
    void *handle;
    int (*call_in)(void), (*use_own)(int *counter, int tasks), (*use_shared)(int *counter, int tasks);
    int (*use_times)(int *counter, int times);
    int (*detach)(int *counter, int tasks), (*detach_in_task)(int *counter, int pools), (*time_shared)(int *counter);
} plugin;
static void find_function(plugin *p, const char *name, void *function) {
    void *found = dlsym(p->handle, name);
    CHECK(found);
    memcpy(function, &found, sizeof found);
}
static plugin load(void) {
    plugin p = { .handle = dlopen(plugin_path, RTLD_NOW | RTLD_LOCAL) };
    if (!p.handle) fprintf(stderr, "%s\n", dlerror());
    CHECK(p.handle);
    find_function(&p, "plugin_call_in", &p.call_in);
    find_function(&p, "plugin_use_own", &p.use_own);
    find_function(&p, "plugin_use_shared", &p.use_shared);
    find_function(&p, "plugin_use_times", &p.use_times);
    find_function(&p, "plugin_detach", &p.detach);
    find_function(&p, "plugin_detach_in_task", &p.detach_in_task);
    find_function(&p, "plugin_time_shared", &p.time_shared);
    return p;
}
/* Not every C library unloads what is closed. */
static bool is_loaded(void) {
#if !defined(__GLIBC__)
    return false;
#endif
    void *handle = dlopen(plugin_path, RTLD_NOW | RTLD_NOLOAD);
    if (handle) dlclose(handle);
    return handle != NULL;
}
static size_t bytes_in_use(void) {
#if !defined(__GLIBC__) || SLOW_TOOL
    return 0;
#elif __GLIBC_MINOR__ < 33
    return (unsigned)mallinfo().uordblks;
#else
    return mallinfo2().uordblks;
#endif
}

/* A thread that calls in, and lives on until it is told to end. */
typedef struct survivor {
    pthread_t thread;
    plugin p;
    gate may_end;
} survivor;
static void *survive(void *arg) {
    survivor *s = (survivor *)arg;
    CHECK(s->p.call_in() == 0);
    gate_pass(&s->may_end);
    return NULL;
}
static void survivor_start(survivor *s, plugin p) {
    s->p = p;
    s->may_end = (gate)GATE_CLOSED;
    CHECK(pthread_create(&s->thread, NULL, survive, s) == 0);
    gate_await_arrivals(&s->may_end, 1);
}
static void survivor_end(survivor *s) {
    gate_open(&s->may_end);
    CHECK(pthread_join(s->thread, NULL) == 0);
}

static void unload_beneath_survivors(void *context) {
    (void)context;
    enum { SURVIVORS = 20 };
    survivor survivors[SURVIVORS];
    int counter = 0;
    for (int i = 0; i < SURVIVORS; i++) {
        plugin p = load();
        CHECK(p.use_own(&counter, 10) == 0);
        survivor_start(&survivors[i], p);
        CHECK(dlclose(p.handle) == 0);
        CHECK(!is_loaded());
    }
    for (int i = 0; i < SURVIVORS; i++) survivor_end(&survivors[i]);
    CHECK(counter == 10 * SURVIVORS);
}
static void threads_that_called_in_outlive_the_plugin(void **state) {
    (void)state;
    if (SLOW_TOOL) unload_beneath_survivors(NULL); /* which tells of a crash, and of leaks where it runs */
    else in_child(unload_beneath_survivors, NULL); /* what calls code that is gone crashes */
}

static void a_plugin_can_be_loaded_any_number_of_times(void **state) {
    (void)state;
    survivor last;
    int counter = 0, loads = COUNT(2000);
    size_t before = 0;
    for (int i = 0; i < loads; i++) {
        plugin p = load();
        assert_int_equal(0, p.call_in());
        if (i % 4 == 0) CHECK(p.use_own(&counter, 4) == 0);
        if (i == loads - 1) survivor_start(&last, p);
        assert_int_equal(0, dlclose(p.handle));
        if (i == loads / 10) before = bytes_in_use();
    }
    survivor_end(&last);
    size_t after = bytes_in_use();
    assert_true(after < before + (size_t)loads * 100); /* a load that leaves its blocks behind leaves 8,000 */
}

static void the_work_of_its_shared_pools_is_done_and_their_memory_freed_when_it_is_unloaded(void **state) {
    (void)state;
    enum { LOADS = 40 };
    size_t before = 0;
    for (int i = 0; i < LOADS; i++) {
        int counter = 0;
        if (i == LOADS / 2) before = bytes_in_use();
        plugin p = load();
        CHECK(p.use_shared(&counter, 10) == 0);
        assert_int_equal(0, dlclose(p.handle));
#if !defined(__GLIBC__)
        EVENTUALLY(__atomic_load_n(&counter, __ATOMIC_RELAXED) == 30);
#endif
        assert_int_equal(30, __atomic_load_n(&counter, __ATOMIC_RELAXED));
        assert_false(is_loaded());
    }
    assert_true(bytes_in_use() < before + LOADS / 2 * 300); /* a manager left behind has some 400, its pools 10,000 */
}

/* Its threads that keep times linger for a while after the last; they must be gone before their code is. */
static void threads_that_keep_its_times_end_before_it_is_unloaded(void **state) {
    (void)state;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        alarm(LIMIT_SECONDS);
        for (int loads = 0, counter = 0; loads < 10; loads++) {
            plugin p = load();
            CHECK(p.use_times(&counter, 1 + loads % 4) == 0 && dlclose(p.handle) == 0 && !is_loaded());
        }
        sleep_ms(300); /* one that was left behind would have ended by now, in code that is gone */
        exit(7);
    }
    int ended;
    assert_int_equal(child, waitpid(child, &ended, 0));
    assert_true(WIFEXITED(ended));
    assert_int_equal(7, WEXITSTATUS(ended));
}

static void unloading_waits_for_the_pools_that_it_has_detached(void **state) {
    (void)state;
    enum { LOADS = 20 };
    for (int i = 0; i < LOADS; i++) {
        int counter = 0;
        plugin p = load();
        CHECK(p.detach(&counter, 10) == 0);
        assert_int_equal(0, dlclose(p.handle));
#if !defined(__GLIBC__)
        EVENTUALLY(__atomic_load_n(&counter, __ATOMIC_RELAXED) == 20);
#endif
        assert_int_equal(20, __atomic_load_n(&counter, __ATOMIC_RELAXED));
        assert_false(is_loaded());
    }
}

/* Each thread that has freed a detached pool is joined once, by the next one or by the unloading. */
static void unloading_joins_what_ends_beside_a_task_that_detaches(void **state) {
    (void)state;
    enum { LOADS = 5, POOLS = 10 };
    for (int i = 0; i < LOADS; i++) {
        int counter = 0;
        plugin p = load();
        CHECK(p.detach(&counter, 1) == 0);
        CHECK(p.detach_in_task(&counter, POOLS) == 0);
        assert_int_equal(0, dlclose(p.handle));
#if !defined(__GLIBC__)
        EVENTUALLY(__atomic_load_n(&counter, __ATOMIC_RELAXED) == 2 + 6 * POOLS);
#endif
        assert_int_equal(2 + 6 * POOLS, __atomic_load_n(&counter, __ATOMIC_RELAXED));
        assert_false(is_loaded());
    }
}

/* How many threads the process has, where the system tells that. */
static int threads_there(void) {
    int count = 0;
    DIR *threads = opendir("/proc/self/task");
    if (!threads) return 0;
    for (const struct dirent *entry; (entry = readdir(threads)) != NULL;) count += entry->d_name[0] != '.';
    closedir(threads);
    return count;
}
/* The function began before the unloading ended the shared pools, and comes to use them after that. */
static void what_a_timer_calls_as_it_is_unloaded_may_use_its_shared_pools(void **state) {
    (void)state;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        alarm(LIMIT_SECONDS);
        leaves_things_behind = true; /* its iterator */
        int before = threads_there();
        for (int loads = 0, counter = 0; loads < 5; loads++) {
            plugin p = load();
            CHECK(p.time_shared(&counter) == 0);
            sleep_ms(30); /* mostly the function has begun by then */
            CHECK(dlclose(p.handle) == 0);
            for (int looks = 0; looks < 2000 && threads_there() > before; looks++) sleep_ms(1);
            CHECK(threads_there() <= before); /* one more would be in code that is gone */
        }
        exit(7);
    }
    int ended;
    assert_int_equal(child, waitpid(child, &ended, 0));
    assert_true(WIFEXITED(ended));
    assert_int_equal(7, WEXITSTATUS(ended));
}

static void after_it_is_unloaded_the_program_can_fork_and_exit(void **state) {
    (void)state;
    int counter = 0;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        alarm(LIMIT_SECONDS);
        plugin p = load();
        CHECK(p.use_shared(&counter, 1) == 0 && dlclose(p.handle) == 0);
        pid_t grandchild = fork();
        if (grandchild == 0) exit(0);
        int ended;
        CHECK(grandchild > 0 && waitpid(grandchild, &ended, 0) == grandchild && WIFEXITED(ended) &&
              !WEXITSTATUS(ended));
        exit(7);
    }
    int ended;
    assert_int_equal(child, waitpid(child, &ended, 0));
    assert_true(WIFEXITED(ended));
    assert_int_equal(7, WEXITSTATUS(ended));
}

/* At exit it is not unloaded: its exit handler comes first, and finishes the work. */
static plugin unloaded_late;
static void unload_late(void) { CHECK(dlclose(unloaded_late.handle) == 0); }
static void exit_with_it_loaded_finishes_the_work_of_its_shared_pools(void **state) {
    (void)state;
    for (int late = 0; late < 2; late++) { /* 1: a handler that was registered before it was used unloads it */
        int *counter = mmap(NULL, sizeof *counter, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        assert_true(counter != MAP_FAILED);
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) {
            survivor s;
            alarm(LIMIT_SECONDS);
            leaves_things_behind = late;
            unloaded_late = load();
            if (late) CHECK(atexit(unload_late) == 0);
            CHECK(unloaded_late.use_shared(counter, 10) == 0);
            survivor_start(&s, unloaded_late);
            exit(3);
        }
        int ended;
        assert_int_equal(child, waitpid(child, &ended, 0));
        assert_true(WIFEXITED(ended));
        assert_int_equal(3, WEXITSTATUS(ended));
        assert_int_equal(30, *counter);
        munmap(counter, sizeof *counter);
    }
}

int main(int argc, char **argv) {
    plugin_path = argc > 1 ? argv[1] : getenv("UNLOAD_PLUGIN");
    if (!plugin_path) return 2;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_that_called_in_outlive_the_plugin),
        cmocka_unit_test(a_plugin_can_be_loaded_any_number_of_times),
        cmocka_unit_test(the_work_of_its_shared_pools_is_done_and_their_memory_freed_when_it_is_unloaded),
        cmocka_unit_test(threads_that_keep_its_times_end_before_it_is_unloaded),
        cmocka_unit_test(unloading_waits_for_the_pools_that_it_has_detached),
        cmocka_unit_test(unloading_joins_what_ends_beside_a_task_that_detaches),
        cmocka_unit_test(what_a_timer_calls_as_it_is_unloaded_may_use_its_shared_pools),
        cmocka_unit_test(after_it_is_unloaded_the_program_can_fork_and_exit),
        cmocka_unit_test(exit_with_it_loaded_finishes_the_work_of_its_shared_pools),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
