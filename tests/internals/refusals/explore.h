/* Each scenario with each fault in each place. */
#ifndef TPOOL_TESTS_REFUSALS_EXPLORE_H
#define TPOOL_TESTS_REFUSALS_EXPLORE_H
#include "scenario.h"

/* ---- Each scenario with each fault in each place ---- */

/* STARTS_NO_THREAD: there is none to fail. WITHOUT_HOOKS: it expects what happens when threads cannot have their exit
   hooks. WITH_PROCESSES: it has a pool of them. SLOW: it waits for time to pass. */
enum { STARTS_NO_THREAD = 1, WITHOUT_HOOKS = 2, WITH_PROCESSES = 4, SLOW = 8 };

/* A call without a limit may hang until its caller's limit, and then nothing can be cleaned up. */
static const char *volatile playing;
static void tell_hang(int signal_number) {
    static const char told[] = "FAILED: this scenario hangs: ";
    (void)signal_number;
    if (write(STDERR_FILENO, told, sizeof told - 1) < 0 || write(STDERR_FILENO, playing, strlen(playing)) < 0 ||
        write(STDERR_FILENO, "\n", 1) < 0)
        _exit(2);
    _exit(1);
}

static bool coarse = SLOW_TOOL, all;
static const char *only_scenario;

/* A thread that keeps times lingers; it would take the next run's faults. */
static void end_keepers(void) {
    tpool__times_end(true);
    tpool__lock(&tpool__times.lock);
    tpool__times.over = false;
    tpool__unlock(&tpool__times.lock);
}

/* One run, with this fault. False: it did not come to it. */
static bool play(void (*scenario)(void), const char *name, int mode, long at) {
    tpool__self()->armed = false; /* as in a thread that comes to the library for the first time */
    fault->at = at;
    fault->interrupts = (mode == ONE_PLACE ? atomic_load(&fault->places[fault->place].once) : mode) == ONE_INTERRUPT;
    atomic_store(&fault->seen, 0);
    atomic_store(&fault->injected, 0);
    problem[0] = 0;
    scenario_end = tpool_now() + LIMIT / 2;
    playing = name;
    signal(SIGALRM, tell_hang);
    alarm(3 * LIMIT_SECONDS / 2);
    atomic_store(&fault->is, mode);
    scenario();
    atomic_store(&fault->is, NO_FAULT);
    end_keepers();
    alarm(0);
    /* A wait may have missed its wakeup and found the end only when its time was up. */
    if (CALL_LIMIT == 0) report(__LINE__, "a wait", "lasted as long as it could");
    long kept = atomic_exchange(&live_blocks, 0);
    atomic_store(&live_bytes, 0);
    if (problem[0]) fail_msg("%s (%s %ld refused): %s", name, fault_names[mode], at, problem);
    if (kept) fail_msg("%s (%s %ld refused): %ld allocations kept", name, fault_names[mode], at, kept);
    return atomic_load(&fault->injected) > 0;
}

#if FAULT_PLACES
extern const fault_place *const __start_fault_places[], *const __stop_fault_places[];
/* How many positions there are varies, and so does what is there: where nothing has failed yet that this scenario
   passes, it fails once more, there. */
static void explore_places(void (*scenario)(void), const char *name, int flags, const long *passed) {
    for (const fault_place *const *at = __start_fault_places; at < __stop_fault_places; at++) {
        int number = (*at)->number, once = atomic_load(&fault->places[number].once);
        if (atomic_load(&fault->places[number].failed) ||
            atomic_load(&fault->places[number].passed) == passed[number] || once == FAULT_MODES ||
            (once == ONE_KEY && !(flags & WITHOUT_HOOKS)) || (once == ONE_SLEEP && flags & WITH_PROCESSES))
            continue;
        fault->place = number;
        (void)play(scenario, name, ONE_PLACE, (*at)->line);
    }
}
#endif
static void explore(void (*scenario)(void), const char *name, int flags) {
    long places[FAULT_MODES] = { 0 }, passed[MOST_PLACES];
    if (only_scenario && strcmp(only_scenario, name) != 0) skip();
    for (int i = 0; i < MOST_PLACES; i++) passed[i] = atomic_load(&fault->places[i].passed);
    for (int mode = NO_FAULT; mode < ONE_PLACE; mode++) {
        if ((mode == ONE_KEY || mode == KEYS_FROM) && !(flags & WITHOUT_HOOKS)) continue;
        bool about_processes = mode == ONE_CALL || mode == CALLS_FROM || mode == ONE_INTERRUPT;
        if (about_processes && !(flags & WITH_PROCESSES)) continue;
        if ((mode == ONE_SLEEP || mode == ALL_SLEEPS) && flags & WITH_PROCESSES) continue;
        /* Here what is refused again and again is tried again and again, after pauses. */
        bool again = mode == ALLOCATIONS_FROM || mode == THREADS_FROM || mode == QUESTIONS_FROM || mode == CALLS_FROM;
        bool some = coarse || (flags & WITH_PROCESSES && (again || flags & SLOW) && !all);
        long share = !(flags & WITH_PROCESSES) ? 12 : coarse || flags & SLOW ? 2 : 6;
        if (UNDER_TSAN) share = flags & WITH_PROCESSES ? 1 : 3; /* each play takes it seconds */
        /* Any sleep may end early, so some will do; and if all do, nobody sleeps, which takes its time. */
        long most = mode == ALL_SLEEPS ? 1 : mode == ONE_SLEEP ? 6 : 100000;
        /* Every place; but with slow tools, after the first ones, only some of them. */
        int misses = 0; /* how many positions there are may vary by a few */
        for (long at = 1; at <= most && misses < 3; at += some ? 1 + at / share : 1) {
            misses = play(scenario, name, mode, at) ? 0 : misses + 1;
            if (mode == NO_FAULT) break;
            if (misses > 0) continue;
            if (at == 100000) fail_msg("%s: no end of faults", name);
            places[mode] = at;
        }
    }
#if FAULT_PLACES
    if (!coarse) explore_places(scenario, name, flags, passed);
#endif
    print_message(
        "%s: of each alone, and of all from there on: %ld and %ld allocations, %ld and %ld thread starts, %ld and "
        "%ld questions to the system; %ld sleeps ended early\n",
        name, places[ONE_ALLOCATION], places[ALLOCATIONS_FROM], places[ONE_THREAD], places[THREADS_FROM],
        places[ONE_QUESTION], places[QUESTIONS_FROM], places[ONE_SLEEP]);
    if (flags & WITH_PROCESSES)
        print_message("    and with processes %ld and %ld calls, %ld interrupted\n", places[ONE_CALL],
                      places[CALLS_FROM], places[ONE_INTERRUPT]);
    if (flags & WITH_PROCESSES) assert_true(places[ONE_CALL] > (UNDER_TSAN ? 10 : 20) && places[CALLS_FROM] > 0);
    if (flags & WITH_PROCESSES) assert_true(places[ONE_INTERRUPT] > (UNDER_TSAN ? 10 : 20));
    assert_true(places[ONE_ALLOCATION] > 0 && places[ALLOCATIONS_FROM] > 0);
    if (!(flags & STARTS_NO_THREAD)) assert_true(places[ONE_THREAD] > 0 && places[THREADS_FROM] > 0);
    if (flags & WITHOUT_HOOKS) assert_true(places[ONE_KEY] > 0 && places[KEYS_FROM] > 0);
}
#endif
