/* Everything at once, as nobody thought of it: worlds are drawn from a seed, of pools, configurations and calls, tasks,
 * callbacks, frees and hooks that call everything themselves, raise, wait, end their threads; played by a few threads for
 * some milliseconds under delays at random in the atomic accesses (chaos/hooks.h), while memory and threads are refused
 * by chance; and ended. What must have come of it is known exactly (chaos/account.h): each argument is freed once, each
 * callback runs once and in order, a task runs at most once and ends as somebody has given reason for, the counts add
 * up, nothing is left. A watchdog tells what hangs. Each world leaves out most kinds of things, another part each time.
 *
 * chaos [--seconds N] [--seed S] [--what threads|processes|all] [--without NAME,...] [--with NAME,...] [--only NAME,...]
 *       [--worlds N] [--hang SECONDS]
 *
 * Prints its seed first. Some worlds share a process of their own, a child of this one; a failure tells the seed of that
 * process, and `--replay S` plays its worlds again, as far as threads allow that. CHAOS_GDB=1 shows all stacks. */
#include "chaos/world.h"
#include "chaos/processes.h"

#if TSAN /* children of fork start threads here */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "die_after_fork=0 report_thread_leaks=0"; }
#endif

static int hang_seconds = SLOW ? 90 : 20;
static atomic_int worlds_ended;
static void *watchdog(void *arg) {
    (void)arg;
    int last = -1, looks = 0;
    for (;;) {
        sleep_us(100000);
        int now = atomic_load(&worlds_ended);
        looks = now == last ? looks + 1 : 0;
        last = now;
        if (looks > hang_seconds * 10) fail("HANG");
    }
    return NULL;
}
static void ignore(int number) { (void)number; }
static void crashed(int number) { fail("signal %d", number); }
static const char *what = "all";
static bool verbose;

static void quieten(void) { /* what tasks print */
    int null = open("/dev/null", O_WRONLY);
    if (null < 0 || dup2(null, 1) < 0) abort();
    close(null);
}

/* Some worlds, one after the other, in this process. */
static _Noreturn void play(uint64_t seed, int worlds) {
    rng g = { seed };
    pthread_t watching;
    signal(SIGUSR1, ignore);
    if (!SLOW)
        for (int i = 0; i < 3; i++) signal((int[]){ SIGSEGV, SIGBUS, SIGILL }[i], crashed);
    if (pthread_key_create(&actor_key, actor_ends) != 0) abort();
    for (int i = 0; i < RECORDS; i++) pthread_mutex_init(&records[i].lock, NULL);
    atomic_store(&self()->name, "main");
    self()->program = 1;
    if (tpool_on_stop(NULL, NULL) != TPOOL_INVALID_STATE) fail("a task in no task"); /* so that each job has its own */
    if (pthread_create(&watching, NULL, watchdog, NULL) != 0) abort();
    bool processes = strcmp(what, "processes") == 0 || (strcmp(what, "all") == 0 && one_in(&g, 4));
    int count = worlds ? worlds : 1 + (int)draw(&g, processes ? 3 : 12), operations = SLOW ? 25 : 60;
    for (world_number = 0; world_number < count; world_number++) {
        if (processes && world_number == 0) quieten();
        if (processes) play_processes(draw64(&g));
        else play_world(draw64(&g), operations);
        world_seed = seed;
        atomic_fetch_add(&worlds_ended, 1);
    }
    exit(0);
}
static uint64_t named(const char *list) {
    uint64_t set = 0;
    for (const char *at = list; *at;) {
        size_t length = strcspn(at, ",");
        bool found = false;
        for (int f = 0; f < FEATURES; f++)
            if (strlen(feature_names[f]) == length && strncmp(feature_names[f], at, length) == 0) {
                set |= UINT64_C(1) << f;
                found = true;
            }
        if (length >= 4 && strncmp(at, "ends", length) == 0)
            for (int f = ENDS_IN_TASKS; f <= SELF_CANCELS; f++) {
                set |= UINT64_C(1) << f;
                found = true;
            }
        for (int d = 0; d < DEEDS; d++)
            if (strlen(deed_names[d]) == length && strncmp(deed_names[d], at, length) == 0) {
                deeds_never |= UINT64_C(1) << d;
                found = true;
            }
        if (!found) {
            fprintf(stderr, "chaos: no such thing: %s\n", at);
            exit(2);
        }
        at += length + (at[length] == ',');
    }
    return set;
}
int main(int argc, char **argv) {
    uint64_t seed = (uint64_t)tpool_now() ^ (uint64_t)getpid() << 40;
    double seconds = 3;
    bool replay = false;
    int worlds = 0;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--verbose") == 0) {
            verbose = true;
            continue;
        }
        if (strcmp(argv[i], "--seconds") == 0) seconds = atof(value);
        else if (strcmp(argv[i], "--seed") == 0) seed = strtoull(value, NULL, 0);
        else if (strcmp(argv[i], "--replay") == 0) {
            seed = strtoull(value, NULL, 0);
            replay = true;
        } else if (strcmp(argv[i], "--what") == 0) what = value;
        else if (strcmp(argv[i], "--without") == 0) features_never = named(value);
        else if (strcmp(argv[i], "--with") == 0) features_always = named(value);
        else if (strcmp(argv[i], "--only") == 0) {
            features_always = named(value);
            features_never = ~features_always;
        } else if (strcmp(argv[i], "--worlds") == 0) worlds = atoi(value);
        else if (strcmp(argv[i], "--hang") == 0) hang_seconds = atoi(value);
        else {
            fprintf(stderr, "chaos: %s?\n", argv[i]);
            return 2;
        }
        i++;
    }
    /* its allocator is not locked over fork: a child waits in malloc for a thread that it does not have. (The library's
       own children, in worlds of processes, allocate little.) */
    if (ASAN) features_never |= UINT64_C(1) << FORKS;
    if (ASAN) deeds_never |= UINT64_C(1) << P_SMALL_MEMORY; /* it ends a process that has no addresses left */
    seed %= UINT64_C(1000000000000);
    printf("chaos: seed %llu\n", (unsigned long long)seed);
    fflush(stdout);
    rng g = { seed };
    int64_t end = tpool_now() + TPOOL_SEC(seconds);
    int played = 0, failures = 0;
    do {
        uint64_t own_seed = replay ? seed : draw64(&g) % UINT64_C(1000000000000);
        pid_t child = fork();
        if (child < 0) return 3;
        if (child == 0) {
            setpgid(0, 0);
            world_seed = own_seed;
            play(own_seed, worlds);
        }
        int status = 0;
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) { }
        if (status != 0) {
            fprintf(stderr, "FAILED: --replay %llu: exit code %d, signal %d\n", (unsigned long long)own_seed,
                    WIFEXITED(status) ? WEXITSTATUS(status) : 0, WIFSIGNALED(status) ? WTERMSIG(status) : 0);
            failures++;
            kill(-child, SIGKILL);
        }
        played++;
    } while ((replay ? played < 20 : tpool_now() < end) && failures == 0);
    printf("chaos: %d processes of worlds, %d failed\n", played, failures);
    return failures > 0;
}
