/* crash_parser: a parser that crashes on some inputs, run over all files of a directory. Each file is a task in a
 * worker process: the files that kill it, or on which it would run for ever, are reported, and all others are parsed.
 *
 *     cc -std=c11 -O2 -pthread -I. examples/crash_parser.c -o crash_parser && ./crash_parser /etc
 *
 * Without an argument it makes a directory of files of its own, good ones and bad ones, and checks what it finds.
 */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_FILES = 4096, MOST_DEPTH = 64 };

/* Travels to the task by value. */
typedef struct input {
    char path[1024];
} input;

/* Comes back by value. */
typedef struct outline {
    long bytes, groups, deepest;
} outline;

static void require(tpool_status status, const char *what) {
    if (status == TPOOL_OK) return;
    fprintf(stderr, "crash_parser: %s: %s\n", what, tpool_status_text(status));
    exit(EXIT_FAILURE);
}

/* -------------------------------------------------------------------------------------------------------------
 *  The parser, as one finds them: it counts nested brackets, and believes that nobody nests deeper than it has
 *  room for, and that what opens is closed
 * ---------------------------------------------------------------------------------------------------------- */

typedef struct parser {
    FILE *file;
    outline *found;
    long opened_at[MOST_DEPTH];
    long *nobody_expects; /* after the array: what is written beyond it makes this a bad pointer */
} parser;

static void parse(parser *p) {
    long depth = 0;
    for (int c; (c = getc(p->file)) != EOF; p->found->bytes++) {
        if (c == '{') {
            volatile long *place = &p->opened_at[0];
            place[depth++] = p->found->bytes;
            p->found->groups++;
            if (depth > p->found->deepest) p->found->deepest = depth;
            if (depth > MOST_DEPTH) *p->nobody_expects = depth; /* an address that was never one */
        } else if (c == '}') {
            if (depth == 0) abort(); /* an assertion, say */
            depth--;
        } else if (c == 0x04) {
            for (;;) /* waits for what never comes, deaf to the wish to stop */
                if (tpool_stop_requested()) { }
        }
    }
}

static void *parse_file(void *arg) {
    const input *in = (const input *)arg;
    outline found = { 0, 0, 0 };
    parser p = { fopen(in->path, "rb"), &found, { 0 }, NULL };
    if (!p.file) return tpool_raise(1, "cannot be opened");
    parse(&p);
    fclose(p.file);
    return tpool_return(&found, sizeof found);
}

/* In each worker process: a parser that crashes need not leave a core file each time. */
static bool without_cores(void *context) {
    struct rlimit none = { 0, 0 };
    (void)context;
    return setrlimit(RLIMIT_CORE, &none) == 0;
}

/* -------------------------------------------------------------------------------------------------------------
 *  All files of a directory
 * ---------------------------------------------------------------------------------------------------------- */

typedef struct tally {
    int parsed, failed, crashed;
    long bytes, groups;
} tally;

static tally parse_directory(tpool *pool, const char *directory) {
    static input inputs[MOST_FILES];
    tally all = { 0, 0, 0, 0, 0 };
    tpool_completions *completions;
    tpool_future *future;
    struct dirent *entry;
    DIR *listing = opendir(directory);
    if (!listing) {
        perror(directory);
        exit(EXIT_FAILURE);
    }
    require(tpool_as_completed(NULL, 0, &completions), "as_completed");
    for (int count = 0; count < MOST_FILES && (entry = readdir(listing)) != NULL;) {
        struct stat about;
        int length = snprintf(inputs[count].path, sizeof inputs[count].path, "%s/%s", directory, entry->d_name);
        if (length < 0 || (size_t)length >= sizeof inputs[count].path) continue;
        if (stat(inputs[count].path, &about) != 0 || !S_ISREG(about.st_mode)) continue;
        tpool_task task = { .fn = parse_file,
                            .arg = &inputs[count],
                            .arg_size = sizeof inputs[count],
                            .run_limit_ns = TPOOL_SEC(2),
                            .name = "parse" };
        require(tpool_submit_task(pool, &task, &future), "submit");
        require(tpool_completions_add(completions, future), "add");
        tpool_future_release(future);
        count++;
    }
    closedir(listing);
    while (tpool_completions_next(completions, TPOOL_FOREVER, &future) == TPOOL_OK) {
        const char *path = inputs[tpool_completions_index(completions)].path;
        void *result;
        tpool_status status = tpool_future_result(future, 0, &result);
        if (status == TPOOL_OK) {
            const outline *found = (const outline *)result;
            all.parsed++;
            all.bytes += found->bytes;
            all.groups += found->groups;
        } else {
            printf("%s: %s\n", path, tpool_future_message(future));
            all.failed += status == TPOOL_FAILED;
            all.crashed += status == TPOOL_BROKEN;
        }
    }
    tpool_completions_destroy(completions);
    return all;
}

/* -------------------------------------------------------------------------------------------------------------
 *  Files of our own
 * ---------------------------------------------------------------------------------------------------------- */

enum { OWN_FILES = 30 };

static void write_own(const char *directory, int i) {
    char path[600];
    snprintf(path, sizeof path, "%s/input%02d", directory, i);
    FILE *file = fopen(path, "wb");
    if (!file) exit(EXIT_FAILURE);
    for (int k = 0; k < (i == 7 ? 100000 : 5); k++) putc('{', file);
    if (i == 11) fputs("\004", file);
    for (int k = 0; k < (i == 13 ? 6 : 5); k++) putc('}', file);
    fclose(file);
}
static void remove_own(const char *directory) {
    char path[600];
    for (int i = 0; i < OWN_FILES; i++) {
        snprintf(path, sizeof path, "%s/input%02d", directory, i);
        remove(path);
    }
    rmdir(directory);
}

int main(int count, char **words) {
    char own[] = "/tmp/crash_parserXXXXXX";
    const char *directory = count > 1 ? words[1] : mkdtemp(own);
    tpool_config config = { .name = "parser", .kind = TPOOL_PROCESSES, .max_workers = 4, .initializer = without_cores };
    tpool *pool;
    if (!directory) return EXIT_FAILURE;
    tpool_status status = tpool_create(&pool, &config);
    if (status == TPOOL_UNSUPPORTED) return EXIT_SUCCESS; /* no processes on this system */
    require(status, "create");
    for (int i = 0; count == 1 && i < OWN_FILES; i++) write_own(directory, i);
    tally all = parse_directory(pool, directory);
    printf("%d files parsed (%ld bytes, %ld groups), %d not readable, %d killed the parser\n", all.parsed, all.bytes,
           all.groups, all.failed, all.crashed);
    require(tpool_destroy(pool), "destroy");
    if (count > 1) return EXIT_SUCCESS;
    remove_own(directory);
    return all.parsed == OWN_FILES - 3 && all.crashed == 3 && all.failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
