/* make: runs the commands of a dependency file, each as soon as what it depends on is there, some at a time.
 *
 *     cc -std=c11 -O2 -pthread -I. examples/make.c -o make
 *     ./make [-j JOBS] [-k] [-f FILE] [TARGET...]
 *
 * The file is a small part of a makefile: `target: dependency...`, and below it commands, each behind a tab. A target
 * is made if it is missing, older than a dependency, or a dependency has been made. A dependency without a rule is a
 * file that must be there. Without a TARGET the first one is made.
 *
 * How it uses the pool:
 *  - One task a target. It is submitted at once, with `after`: the futures of what it depends on. So the pool knows
 *    the whole graph, and -j is just the number of workers: no list of what is ready, no counters.
 *  - A task that fails cancels those that depend on it (TPOOL_AFTER_SUCCESS), and these the next. With -k the rest
 *    goes on. Without -k, and on ^C, a shutdown cancels all that has not started.
 *  - The error of a cancelled task is that of the one that failed first, however long the chain: `cause`.
 *  - tpool_dependency tells a task what became of its dependencies: whether they have been made just now.
 */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

typedef struct target {
    char *name, *commands; /* one after the other, each with a newline */
    struct target **needs;
    size_t need_count;
    tpool_future *made;
    enum { NEW, UNDER_WAY, SUBMITTED } state;
    bool has_rule;
} target;

static target **targets;
static size_t target_count;
static volatile sig_atomic_t interrupted;
static void on_interrupt(int number) { interrupted = number; }

static _Noreturn void die(const char *what, const char *why) {
    fprintf(stderr, "make: %s: %s\n", what, why);
    exit(2);
}
static void *grown(void *memory, size_t size) {
    memory = realloc(memory, size);
    if (!memory) die("memory", strerror(ENOMEM));
    return memory;
}

/* -------------------------------------------------------------------------------------------------------------
 *  The file
 * ---------------------------------------------------------------------------------------------------------- */
static target *target_of(const char *name) {
    for (size_t i = 0; i < target_count; i++)
        if (strcmp(targets[i]->name, name) == 0) return targets[i];
    target *made = grown(NULL, sizeof *made);
    *made = (target){ .name = strcpy(grown(NULL, strlen(name) + 1), name) };
    targets = grown(targets, (target_count + 1) * sizeof *targets);
    return targets[target_count++] = made;
}
static target *read_rules(const char *path) {
    char line[4096];
    target *first = NULL, *current = NULL;
    FILE *file = fopen(path, "r");
    if (!file) die(path, strerror(errno));
    while (fgets(line, sizeof line, file)) {
        if (line[0] == '\t' && current) {
            size_t before = current->commands ? strlen(current->commands) : 0;
            current->commands = grown(current->commands, before + strlen(line) + 1);
            strcpy(current->commands + before, line + 1);
            continue;
        }
        line[strcspn(line, "#\n")] = 0;
        char *colon = strchr(line, ':');
        if (!colon) continue;
        *colon = 0;
        char *name = strtok(line, " \t");
        if (!name) die(path, "a rule without a target");
        current = target_of(name);
        if (!first) first = current;
        current->has_rule = true;
        for (char *need = strtok(colon + 1, " \t"); need; need = strtok(NULL, " \t")) {
            current->needs = grown(current->needs, (current->need_count + 1) * sizeof *current->needs);
            current->needs[current->need_count++] = target_of(need);
        }
    }
    fclose(file);
    return first;
}

/* -------------------------------------------------------------------------------------------------------------
 *  Making one target
 * ---------------------------------------------------------------------------------------------------------- */
static bool is_newer(const struct stat *a, const struct stat *b) {
    return a->st_mtim.tv_sec != b->st_mtim.tv_sec ? a->st_mtim.tv_sec > b->st_mtim.tv_sec
                                                  : a->st_mtim.tv_nsec > b->st_mtim.tv_nsec;
}
/* Workers have signals blocked, which a child would inherit. */
static int run(char *commands) {
    char *words[] = { (char[]){ "sh" }, (char[]){ "-ec" }, commands, NULL };
    posix_spawnattr_t attributes;
    sigset_t none;
    pid_t child;
    int status = 0;
    sigemptyset(&none);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    int failed = posix_spawnp(&child, "sh", NULL, &attributes, words, environ);
    posix_spawnattr_destroy(&attributes);
    if (failed) return failed;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) { }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
static void *make_target(void *arg) {
    target *t = arg;
    struct stat own, other;
    bool outdated = stat(t->name, &own) != 0;
    for (size_t i = 0; i < t->need_count && !outdated; i++)
        outdated = stat(t->needs[i]->name, &other) != 0 || is_newer(&other, &own);
    void *made = NULL;
    for (size_t i = 0; tpool_dependency(i) && !outdated; i++)
        outdated = tpool_future_result(tpool_dependency(i), 0, &made) == TPOOL_OK && made;
    if (!outdated) return NULL;
    int code = t->commands ? run(t->commands) : 0;
    return code ? tpool_raise(code, "Error %d", code) : t;
}

/* -------------------------------------------------------------------------------------------------------------
 *  The graph
 * ---------------------------------------------------------------------------------------------------------- */
static void submit(tpool *pool, tpool_completions *all, target *t) {
    if (t->state == SUBMITTED) return;
    if (t->state == UNDER_WAY) die(t->name, "depends on itself");
    if (!t->has_rule && access(t->name, F_OK) != 0) die(t->name, "no rule to make it");
    t->state = UNDER_WAY;
    tpool_future **before = grown(NULL, (t->need_count + 1) * sizeof *before);
    size_t count = 0;
    for (size_t i = 0; i < t->need_count; i++) {
        submit(pool, all, t->needs[i]);
        if (t->needs[i]->made) before[count++] = t->needs[i]->made;
    }
    t->state = SUBMITTED;
    if (t->has_rule) {
        tpool_task task = { .fn = make_target, .arg = t, .name = t->name, .tag = t, .completions = all };
        task.after = before;
        task.after_count = count;
        tpool_status status = tpool_submit_task(pool, &task, &t->made);
        if (status != TPOOL_OK) die(t->name, tpool_status_text(status));
    }
    free(before);
}
static bool tell(tpool_future *future) {
    const target *t = tpool_future_tag(future);
    const tpool_error *error = NULL;
    (void)tpool_future_error(future, 0, &error);
    if (!error) return true;
    if (error->status == TPOOL_FAILED) fprintf(stderr, "make: *** [%s] %s\n", t->name, error->message);
    else if (error->cause != TPOOL_CANCELLED)
        fprintf(stderr, "make: %s not made, because of %s\n", t->name, error->task);
    return false;
}

int main(int argc, char **argv) {
    const char *path = "Makefile";
    bool keeps_going = false;
    int jobs = 1, option;
    while ((option = getopt(argc, argv, "j:kf:")) != -1) {
        if (option == 'j') jobs = atoi(optarg);
        else if (option == 'k') keeps_going = true;
        else if (option == 'f') path = optarg;
        else return 2;
    }
    target *first = read_rules(path);
    if (!first) die(path, "no targets");
    tpool *pool;
    tpool_completions *all;
    tpool_status status = tpool_create(&pool, &(tpool_config){ .max_workers = jobs > 0 ? jobs : 1 });
    if (status == TPOOL_OK) status = tpool_as_completed(NULL, 0, &all);
    if (status != TPOOL_OK) die("pool", tpool_status_text(status));
    struct sigaction action = { .sa_handler = on_interrupt };
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    for (int i = optind; i < argc; i++) submit(pool, all, target_of(argv[i]));
    if (optind == argc) submit(pool, all, first);

    bool well = true, stopped = false;
    tpool_future *future;
    while ((status = tpool_completions_next(all, TPOOL_MS(50), &future)) != TPOOL_END) {
        if (status == TPOOL_OK) well = tell(future) && well;
        if (stopped || !(interrupted || (!well && !keeps_going))) continue;
        (void)tpool_shutdown(pool, TPOOL_CANCEL_PENDING); /* what runs goes on to its end */
        stopped = true;
    }
    if (interrupted) fprintf(stderr, "make: interrupted\n");
    tpool_completions_destroy(all);
    for (size_t i = 0; i < target_count; i++) tpool_future_release(targets[i]->made);
    (void)tpool_destroy(pool);
    for (size_t i = 0; i < target_count; i++) {
        free(targets[i]->name);
        free(targets[i]->commands);
        free(targets[i]->needs);
        free(targets[i]);
    }
    free(targets);
    return interrupted ? 128 + (int)interrupted : well ? 0 : 2;
}
