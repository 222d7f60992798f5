/* The search of ../schedule.h, which includes this: which schedules are tried, what is told of them, and the
   options. */
#ifndef TPOOL_TESTS_SCHEDULE_SEARCH_H
#define TPOOL_TESTS_SCHEDULE_SEARCH_H

/* ---- The search */
#undef pthread_create
#undef fopen
extern char __data_start[], _end[];

static void *schedule_scenario_main(void *arg) {
    (void)arg;
    S->scenario->run();
    return NULL;
}
static void schedule_crashed(int number) {
    snprintf(S->failure, sizeof S->failure, "a crash: %s, after %s", strsignal(number),
             schedule_place(schedule_self()));
    siglongjmp(S->crash, 1);
}
/* Runs the scenario once. */
static schedule_end schedule_execute(void) {
    memcpy(S->first_data, S->data_copy, S->data_size);
    memset(S->live, 0, S->arena_used / SCHEDULE_GRAIN + 1);
    S->arena_used = S->block_count = S->live_blocks = 0;
    S->execution++;
    S->started = 0;
    S->alive = S->ready = S->timed = S->yielded = S->settling = 0;
    S->now = 1000000000;
    S->queue_count = S->steps = S->clock_steps = 0;
    S->state = 0;
    S->exit_handler_count = S->key_count = 0;
    S->refused_allocation = S->refused_thread = 0;
    S->depth = S->used = 0;
    S->lowest = 0x80000000u;
    S->end = SCHEDULE_OVER;
    S->current = -1;
    S->current = schedule_thread_start(schedule_scenario_main, NULL);
    if (sigsetjmp(S->crash, 0) == 0) {
        schedule_switch(&S->explorer, S->threads[0].stack_pointer);
    } else {
        S->end = SCHEDULE_FAILED;
    }
    S->current = -1;
    if (S->steps > S->longest) S->longest = S->steps;
    if (S->arena_used > S->arena_most) S->arena_most = S->arena_used;
    if (S->started > S->most_threads) S->most_threads = S->started;
    if (S->end == SCHEDULE_OVER) schedule_check_memory();
    return S->end;
}
static double schedule_seconds(void) {
    struct timespec t;
    (clock_gettime)(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
static void schedule_forget(void) {
    S->search++;
    S->seen_count = 0;
}
static void schedule_adopt_shared(void) {
    for (size_t i = 0; i < SCHEDULE_WORDS; i++) S->words[i].shared = S->words[i].found_shared;
    S->more_shared = false;
}
/* To the next path that has not been taken. False: there is none. */
static bool schedule_backtrack(void) {
    while (S->depth > 0) {
        schedule_choice *choice = &S->path[S->depth - 1];
        unsigned next = choice->chosen + 1u;
        if (next < choice->count && choice->used + (next >= choice->free) <= S->preemptions) {
            choice->chosen = (uint8_t)next;
            S->replayed = S->depth;
            return true;
        }
        S->depth--;
    }
    return false;
}

/* False, unless the scenario is there to fail like this. */
static bool schedule_print_failure(const char *program, const char *how) {
    bool wanted = S->scenario->fails && strstr(S->failure, S->scenario->fails);
    printf("%s: %s: %s\n    replay: %s %s %s\n", S->scenario->name, wanted ? "found, as it must be" : "FAILED",
           S->failure, program, how, S->scenario->name);
    fflush(stdout);
    return wanted;
}
/* Everything was tried, and nothing failed. With fewer preemptions than in a quick run not all outcomes need come. */
static bool schedule_print_lack(bool few) {
    uint32_t lacking = ((UINT32_C(1) << S->scenario->outcomes) - 1) & ~S->outcomes;
    if (few) return true;
    if (S->scenario->fails) printf("%s: FAILED: it was not found: %s\n", S->scenario->name, S->scenario->fails);
    if (lacking) printf("%s: FAILED: outcome %d is never reached\n", S->scenario->name, __builtin_ctz(lacking));
    fflush(stdout);
    return !S->scenario->fails && !lacking;
}
/* The choices that are not the first, as place=choice. */
static void schedule_path_text(char *text, size_t size) {
    size_t length = (size_t)snprintf(text, size, "--preemptions %d --replay ", S->preemptions);
    for (size_t i = 0; i < S->depth && length < size; i++)
        if (S->path[i].chosen)
            length += (size_t)snprintf(text + length, size - length, "%zu=%u,", i, S->path[i].chosen);
    if (length < size) snprintf(text + length, size - length, ".");
}

typedef struct schedule_options {
    const char *program, *replay;
    int preemptions; /* -1: the scenario's */
    bool quick, trace, seeded;
    uint64_t seed;
    unsigned chance, part;
    double seconds, until;
    bool plain;  /* without the reductions */
    int warm_up; /* only this run of the warming up */
} schedule_options;
typedef struct schedule_count {
    uint64_t runs, whole, ends; /* of one search: in all; not cut short; different states at the end */
    uint64_t all;               /* of all searches */
    bool in_time;
} schedule_count;

/* Finds out which words are shared, by chance: a start for the search. The same every time, so that paths replay. Tells
   the run that failed, or -1. */
enum { SCHEDULE_WARM_UP = 200 };
static int schedule_warm_up(int first) {
    S->mode = SCHEDULE_AT_RANDOM;
    for (int i = first; i < SCHEDULE_WARM_UP; i++) {
        S->random = schedule_mix((uint64_t)i, 33);
        if (schedule_execute() == SCHEDULE_FAILED) return i;
    }
    return -1;
}
static void schedule_forget_words(void) {
    memset(S->words, 0, SCHEDULE_WORDS * sizeof *S->words);
    S->word_count = 0;
    S->execution = 0;
    S->more_shared = false;
}

/* One search with so many preemptions, with the words that are known to be shared. */
static bool schedule_search(const schedule_options *options, int preemptions, schedule_count *count) {
    schedule_forget();
    S->mode = SCHEDULE_DEPTH_FIRST;
    S->caching = !options->plain;
    S->all_shared = options->plain;
    S->preemptions = preemptions;
    S->depth = S->replayed = 0;
    count->runs = count->whole = count->ends = 0;
    do {
        schedule_end end = schedule_execute();
        count->runs++;
        count->all++;
        if (end == SCHEDULE_FAILED) return false;
        if (end == SCHEDULE_OVER) {
            count->whole++;
            S->used = 0;
            S->current = SCHEDULE_THREADS; /* no thread: the state at the end */
            S->replayed = 0;
            S->caching = true;
            count->ends += !schedule_was_seen(false, true);
            S->caching = !options->plain;
            S->current = -1;
        }
        if (count->runs % 1024 == 0 && options->seconds > 0 && schedule_seconds() > options->until) {
            count->in_time = false;
            return true;
        }
    } while (schedule_backtrack());
    count->in_time = true;
    return true;
}
static bool schedule_explore(schedule_options *options, schedule_count *count) {
    char text[4096];
    int searches = 0, most = S->preemptions, failed_by_chance;
    double began = schedule_seconds();
    options->until = began + options->seconds;
    S->longest = 0;
    schedule_forget_words();
    failed_by_chance = schedule_warm_up(0);
    schedule_adopt_shared();
    /* fewer preemptions first, so that a failure is shown with as few as possible */
    for (int preemptions = 0; preemptions <= most;) {
        searches++;
        if (!schedule_search(options, preemptions, count)) {
            schedule_path_text(text, sizeof text);
            return schedule_print_failure(options->program, text);
        }
        if (!count->in_time) break;
        if (S->more_shared) schedule_adopt_shared(); /* once more */
        else preemptions++;
    }
    if (failed_by_chance >= 0) {
        S->preemptions = most;
        snprintf(text, sizeof text, "--warm-up %d", failed_by_chance);
        (void)schedule_warm_up(failed_by_chance);
        return schedule_print_failure(options->program, text);
    }
    double took = schedule_seconds() - began;
    printf(
        "%s: %llu schedules (%llu to the end, with %llu ends; the rest cut where they met one seen), %s with at most %d "
        "preemptions; %d searches, %.2f s of CPU, %.0f schedules a second; up to %llu steps, %d threads\n",
        S->scenario->name, (unsigned long long)count->runs, (unsigned long long)count->whole,
        (unsigned long long)count->ends, count->in_time ? "space exhausted" : "NOT EXHAUSTED", S->preemptions, searches,
        took, (double)count->all / (took > 0 ? took : 1), (unsigned long long)S->longest, S->most_threads);
    fflush(stdout);
    return schedule_print_lack(most < S->scenario->quick) && count->in_time;
}
static bool schedule_by_chance(const schedule_options *options, uint64_t seed, unsigned runs) {
    double began = schedule_seconds();
    S->mode = SCHEDULE_PCT;
    S->longest = 0;
    unsigned depth = S->scenario->depth ? S->scenario->depth : 3;
    schedule_forget_words();
    S->random = 1;
    S->change_count = 0;
    schedule_end end = schedule_execute(); /* once, to know about how many steps there are */
    uint64_t length = S->longest ? S->longest : 1;
    for (unsigned i = 0; i < runs; i++) {
        if (end != SCHEDULE_FAILED) {
            S->random = schedule_mix(seed + i, 77);
            S->change_count = depth - 1;
            for (unsigned k = 0; k + 1 < depth; k++) S->changes[k] = 1 + schedule_random() % length;
            S->tracing = options->trace && options->seeded;
            end = schedule_execute();
            S->tracing = false;
        }
        if (end == SCHEDULE_FAILED) {
            char text[64];
            snprintf(text, sizeof text, "--seed %llu", (unsigned long long)(seed + i));
            return schedule_print_failure(options->program, text);
        }
    }
    double took = schedule_seconds() - began;
    printf(
        "%s: %u schedules by chance (PCT, depth %u, seeds from %llu), %.2f s of CPU, %.0f schedules a second; up to %llu steps, "
        "%d threads\n",
        S->scenario->name, runs, depth, (unsigned long long)seed, took, (double)runs / (took > 0 ? took : 1),
        (unsigned long long)S->longest, S->most_threads);
    fflush(stdout);
    return options->seeded || schedule_print_lack(false);
}
static bool schedule_replay(const schedule_options *options) {
    schedule_forget_words();
    (void)schedule_warm_up(0);
    schedule_adopt_shared();
    S->mode = SCHEDULE_DEPTH_FIRST;
    S->caching = false;
    memset(S->path, 0, SCHEDULE_PATH * sizeof *S->path);
    unsigned long wanted[64];
    unsigned chosen[64];
    int count = 0, read = 0;
    for (const char *at = options->replay;
         count < 64 && sscanf(at, "%lu=%u,%n", &wanted[count], &chosen[count], &read) == 2; at += read)
        count++;
    /* run with the choices so far, then force the next one */
    S->replayed = 0;
    schedule_end end = SCHEDULE_OVER;
    for (int i = 0; i <= count; i++) {
        S->tracing = i == count && options->trace;
        end = schedule_execute();
        S->tracing = false;
        if (i == count) break;
        if (wanted[i] >= S->depth || chosen[i] >= S->path[wanted[i]].count) {
            printf("%s: this does not fit the program: place %lu\n", S->scenario->name, wanted[i]);
            return false;
        }
        S->path[wanted[i]].chosen = (uint8_t)chosen[i];
        S->replayed = wanted[i] + 1;
    }
    printf("%s: %s\n", S->scenario->name, end == SCHEDULE_FAILED ? S->failure : "no failure");
    return end != SCHEDULE_FAILED;
}

static bool schedule_run(const schedule_scenario *scenario, schedule_options *options) {
    schedule_count count = { 0 };
    S->scenario = scenario;
    S->cpus = scenario->cpus ? scenario->cpus : 1;
    S->preemptions = options->preemptions >= 0 ? options->preemptions
                     : options->quick          ? scenario->quick
                                               : scenario->preemptions;
    S->most_threads = 0;
    S->outcomes = 0;
    if (options->warm_up >= 0) {
        S->tracing = options->trace;
        (void)schedule_warm_up(options->warm_up);
        S->tracing = false;
        printf("%s: %s\n", scenario->name, S->end == SCHEDULE_FAILED ? S->failure : "no failure");
        return S->end != SCHEDULE_FAILED;
    }
    if (options->replay) return schedule_replay(options);
    if (options->seeded) return schedule_by_chance(options, options->seed, 1);
    if (options->chance) return schedule_by_chance(options, 1, options->chance);
    if (scenario->chance)
        return schedule_by_chance(options, 1,
                                  scenario->chance / (options->part    ? options->part
                                                      : options->quick ? 50
                                                                       : 1));
    return schedule_explore(options, &count);
}

static int schedule_main(int argc, char **argv, const schedule_scenario *scenarios, size_t count) {
    schedule_options options = { .program = argv[0], .preemptions = -1, .warm_up = -1 };
    S = mmap(NULL, sizeof *S, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t stacks = (size_t)SCHEDULE_THREADS * SCHEDULE_STACK;
    /* the same addresses every time, since some of them are hashed by the library */
    S->arena = mmap((void *)UINT64_C(0x200000000000), SCHEDULE_ARENA, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    S->stacks =
        mmap((void *)UINT64_C(0x210000000000), stacks, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < SCHEDULE_THREADS; i++) mprotect(S->stacks + (size_t)i * SCHEDULE_STACK, 4096, PROT_NONE);
    S->live = calloc(SCHEDULE_ARENA / SCHEDULE_GRAIN, 1);
    S->blocks = calloc(SCHEDULE_ALLOCATIONS, sizeof *S->blocks);
    S->words = calloc(SCHEDULE_WORDS, sizeof *S->words);
    S->path = calloc(SCHEDULE_PATH, sizeof *S->path);
    S->seen_size = 1 << 14;
    S->seen = calloc(S->seen_size, sizeof *S->seen);
    void *signal_stack = malloc(65536);
    sigaltstack(&(stack_t){ .ss_sp = signal_stack, .ss_size = 65536 }, NULL);
    struct sigaction action = { .sa_handler = schedule_crashed, .sa_flags = SA_ONSTACK | SA_NODEFER };
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGFPE, &action, NULL);

    bool any_named = false, ok = true;
    bool *wanted = calloc(count, sizeof *wanted);
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--preemptions") == 0) options.preemptions = atoi(value), i++;
        else if (strcmp(argv[i], "--replay") == 0) options.replay = value, i++;
        else if (strcmp(argv[i], "--seed") == 0) options.seed = strtoull(value, NULL, 10), options.seeded = true, i++;
        else if (strcmp(argv[i], "--chance") == 0) options.chance = (unsigned)atoi(value), i++;
        else if (strcmp(argv[i], "--part") == 0) options.part = (unsigned)atoi(value), i++;
        else if (strcmp(argv[i], "--seconds") == 0) options.seconds = atof(value), i++;
        else if (strcmp(argv[i], "--warm-up") == 0) options.warm_up = atoi(value), i++;
        else if (strcmp(argv[i], "--plain") == 0) options.plain = true;
        else if (strcmp(argv[i], "--measure") == 0) S->measure = true;
        else if (strcmp(argv[i], "--quick") == 0) options.quick = true;
        else if (strcmp(argv[i], "--trace") == 0) options.trace = true;
        else {
            bool known = false;
            for (size_t k = 0; k < count; k++)
                if (strcmp(argv[i], scenarios[k].name) == 0) known = wanted[k] = any_named = true;
            if (!known) {
                fprintf(stderr, "%s: no such option or scenario: %s\n", argv[0], argv[i]);
                return 2;
            }
        }
    }
    S->first_data = __data_start;
    S->data_size = (size_t)(_end - __data_start);
    S->data_copy = malloc(S->data_size);
    memcpy(S->data_copy, S->first_data, S->data_size);
    for (size_t i = 0; i < count; i++)
        if (!any_named || wanted[i]) ok = schedule_run(&scenarios[i], &options) && ok;
    return ok ? 0 : 1;
}
#define SCENARIO(function, ...) \
    { .name = #function, .run = function, __VA_ARGS__ }
#define SCHEDULES(...) \
    int main(int argc, char **argv) { \
        static const schedule_scenario scenarios[] = { __VA_ARGS__ }; \
        return schedule_main(argc, argv, scenarios, sizeof scenarios / sizeof *scenarios); \
    }
#endif
