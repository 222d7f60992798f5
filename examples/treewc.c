/* treewc: counts lines, words and bytes of every file below some directories, on all CPUs.
 *
 *     cc -std=c11 -O2 -pthread -I. examples/treewc.c -o treewc
 *     ./treewc /usr/include
 *
 * It prints what GNU coreutils' wc prints in the C locale for the same files, each line as soon as its file has
 * been counted. Sorted, the output of `treewc DIR` is byte for byte that of
 *
 *     find -H DIR -type f -print0 > LIST; LC_ALL=C wc --files0-from=LIST
 *
 * so: regular files only; a symbolic link is followed when it is an argument, and not when it is met below one.
 * An argument that is no directory is counted whatever it is, as wc does. Words are those of wc 9.1.
 *
 * How it uses the pool:
 *  - One task a file. Its argument is the file's path, copied by the pool (arg_size), its result comes back by
 *    value (tpool_return): nothing is shared between threads, and nobody has to free anything.
 *  - The futures go into an iterator while the walk goes on, and come out of it in the order of completion. At
 *    most MOST_AHEAD of them are in it, so memory stays bounded however large the tree is.
 *  - wc's columns are as wide as the sum of all sizes has digits. That takes a walk of its own, which only
 *    looks at the sizes; it is the first task, and its future is waited for when the first line is printed.
 */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_AHEAD 2048 /* files submitted and not yet printed */
#define PROGRESS_EVERY TPOOL_MS(100)

typedef struct tally {
    uintmax_t lines, words, bytes;
} tally;

/* Travels to a task with the path in it, and back with the counts filled in. */
typedef struct counted_file {
    tally counts;
    int read_error; /* errno of a read that failed half-way: the counts are those up to there */
    char path[];
} counted_file;

static _Noreturn void die(const char *what, const char *why) {
    fprintf(stderr, "treewc: %s: %s\n", what, why);
    exit(EXIT_FAILURE);
}

static void *resize_or_die(void *memory, size_t size) {
    memory = realloc(memory, size);
    if (memory == NULL) die("memory", strerror(ENOMEM));
    return memory;
}

/* -------------------------------------------------------------------------------------------------------------
 *  Counting one file
 * ---------------------------------------------------------------------------------------------------------- */

/* In the C locale a word starts at a printing character that follows a space or the beginning. It ends at a
 * space; any other byte, say a NUL or a piece of UTF-8, neither starts a word nor ends one. */
static inline bool is_space(unsigned char byte) { return (byte == ' ') | ((unsigned char)(byte - '\t') < 5); }
static inline bool is_printing(unsigned char byte) { return (unsigned char)(byte - '!') < 94; }

typedef struct word_counter {
    tally counts;
    bool in_word;
} word_counter;

/* The rule above, one byte after the other. */
static void count_any_bytes(word_counter *counter, const unsigned char *bytes, size_t size) {
    bool in_word = counter->in_word;
    uintmax_t lines = 0, words = 0;
    for (size_t i = 0; i < size; i++) {
        bool printing = is_printing(bytes[i]);
        lines += bytes[i] == '\n';
        words += printing & !in_word;
        in_word = (in_word | printing) & !is_space(bytes[i]);
    }
    counter->in_word = in_word;
    counter->counts.lines += lines;
    counter->counts.words += words;
}

/* The same in blocks, for text that is nothing but spaces and printing characters: there a word starts at each
 * printing character after a space, no byte depends on an earlier result, and compilers turn the loop into
 * vector instructions. bytes[-1] is overwritten: it stands in for what came before. */
static void count_bytes(word_counter *counter, unsigned char *bytes, size_t size) {
    enum { BLOCK = 64 }; /* its counts fit in a byte, which is what makes the loop fast */
    counter->counts.bytes += size;
    while (size >= BLOCK) {
        unsigned char lines = 0, words = 0, others = 0;
        bytes[-1] = counter->in_word ? 'x' : ' ';
        for (int i = 0; i < BLOCK; i++) {
            bool printing = is_printing(bytes[i]);
            lines = (unsigned char)(lines + (bytes[i] == '\n'));
            words = (unsigned char)(words + (printing & is_space(bytes[i - 1])));
            others |= !(printing | is_space(bytes[i]));
        }
        if (others) {
            count_any_bytes(counter, bytes, BLOCK);
        } else {
            counter->counts.lines += lines;
            counter->counts.words += words;
            counter->in_word = !is_space(bytes[BLOCK - 1]);
        }
        bytes += BLOCK;
        size -= BLOCK;
    }
    count_any_bytes(counter, bytes, size);
}

/* The task: gets a counted_file with its path, gives it back with the counts. */
static void *count_file(void *arg) {
    counted_file *file = (counted_file *)arg;
    unsigned char buffer[1 + 64 * 1024]; /* on the worker's stack; the first byte is count_bytes' own */
    word_counter counter = { { 0, 0, 0 }, false };

    int descriptor;
    do descriptor = open(file->path, O_RDONLY | O_CLOEXEC);
    while (descriptor < 0 && errno == EINTR);
    if (descriptor < 0) return tpool_raise(errno, "%s", file->path);

    for (;;) {
        ssize_t size = read(descriptor, buffer + 1, sizeof buffer - 1);
        if (size > 0) {
            count_bytes(&counter, buffer + 1, (size_t)size);
        } else if (size == 0) {
            break;
        } else if (errno != EINTR) {
            file->read_error = errno;
            break;
        }
    }
    close(descriptor);
    file->counts = counter.counts;
    return tpool_return(file, tpool_arg_size());
}

/* -------------------------------------------------------------------------------------------------------------
 *  Walking a tree
 * ---------------------------------------------------------------------------------------------------------- */

/* What a walk tells. size is wanted by one of the two walks only, and costs a system call a file. */
typedef struct tree_visitor {
    bool wants_size;
    void (*file)(void *context, const char *path, const struct stat *info); /* info NULL: not asked or unknown */
    void (*unreadable)(void *context, const char *path, int error);         /* a directory cannot be listed */
    void *context;
} tree_visitor;

typedef struct pending_directory {
    struct pending_directory *next;
    char path[];
} pending_directory;

static void push_directory(pending_directory **stack, const char *path) {
    size_t size = strlen(path) + 1;
    pending_directory *directory = resize_or_die(NULL, sizeof *directory + size);
    memcpy(directory->path, path, size);
    directory->next = *stack;
    *stack = directory;
}

typedef enum entry_kind { ENTRY_FILE, ENTRY_DIRECTORY, ENTRY_OTHER, ENTRY_UNKNOWN } entry_kind;

static entry_kind kind_of_mode(mode_t mode) {
    return S_ISREG(mode) ? ENTRY_FILE : S_ISDIR(mode) ? ENTRY_DIRECTORY : ENTRY_OTHER;
}

/* Many systems tell what an entry is when they list it. */
static entry_kind kind_of_entry(const struct dirent *entry) {
#ifdef DT_DIR
    switch (entry->d_type) {
    case DT_REG: return ENTRY_FILE;
    case DT_DIR: return ENTRY_DIRECTORY;
    case DT_UNKNOWN: return ENTRY_UNKNOWN;
    default: return ENTRY_OTHER;
    }
#else
    (void)entry;
    return ENTRY_UNKNOWN;
#endif
}

/* One directory is open at a time: those met on the way wait on a stack of paths, not of open streams. */
static void walk(const char *top, const tree_visitor *visitor) {
    struct stat info;
    bool known = stat(top, &info) == 0;
    if (!known || !S_ISDIR(info.st_mode)) {
        visitor->file(visitor->context, top, known ? &info : NULL);
        return;
    }

    pending_directory *stack = NULL;
    char *path = NULL;
    size_t path_capacity = 0;
    push_directory(&stack, top);
    while (stack != NULL) {
        pending_directory *directory = stack;
        stack = directory->next;
        DIR *stream = opendir(directory->path);
        if (stream == NULL) {
            visitor->unreadable(visitor->context, directory->path, errno);
            free(directory);
            continue;
        }

        size_t prefix = strlen(directory->path);
        bool slash = directory->path[prefix - 1] != '/';
        const struct dirent *entry;
        while (errno = 0, (entry = readdir(stream)) != NULL) {
            if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;

            entry_kind kind = kind_of_entry(entry);
            known = false;
            if (kind == ENTRY_UNKNOWN || (kind == ENTRY_FILE && visitor->wants_size)) {
                known = fstatat(dirfd(stream), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0;
                if (known) kind = kind_of_mode(info.st_mode);
                else if (kind == ENTRY_UNKNOWN) kind = ENTRY_OTHER; /* gone meanwhile */
            }
            if (kind == ENTRY_OTHER) continue;

            size_t needed = prefix + slash + strlen(entry->d_name) + 1;
            if (needed > path_capacity) {
                path_capacity = 2 * needed;
                path = resize_or_die(path, path_capacity);
            }
            memcpy(path, directory->path, prefix);
            snprintf(path + prefix, path_capacity - prefix, "%s%s", slash ? "/" : "", entry->d_name);
            if (kind == ENTRY_DIRECTORY) push_directory(&stack, path);
            else visitor->file(visitor->context, path, known ? &info : NULL);
        }
        if (errno != 0) visitor->unreadable(visitor->context, directory->path, errno);
        closedir(stream);
        free(directory);
    }
    free(path);
}

/* -------------------------------------------------------------------------------------------------------------
 *  The width of the columns
 * ---------------------------------------------------------------------------------------------------------- */

typedef struct source_list {
    char *const *paths;
    int count;
} source_list;

typedef struct size_sum {
    uintmax_t bytes;
    bool has_irregular; /* a device or a pipe among the arguments: nobody knows its size */
} size_sum;

static void add_size(void *context, const char *path, const struct stat *info) {
    size_sum *sum = (size_sum *)context;
    (void)path;
    if (info == NULL) return;
    if (S_ISREG(info->st_mode)) sum->bytes += (uintmax_t)info->st_size;
    else sum->has_irregular = true;
}

static void ignore_unreadable(void *context, const char *path, int error) {
    (void)context, (void)path, (void)error; /* the other walk reports it */
}

/* A task: gives wc's column width, as a number in the pointer. */
static void *measure_width(void *arg) {
    const source_list *sources = (const source_list *)arg;
    size_sum sum = { 0, false };
    tree_visitor visitor = { true, add_size, ignore_unreadable, &sum };
    for (int i = 0; i < sources->count; i++) walk(sources->paths[i], &visitor);

    int width = 1;
    for (; sum.bytes >= 10; sum.bytes /= 10) width++;
    if (sum.has_irregular && width < 7) width = 7;
    return (void *)(intptr_t)width;
}

/* -------------------------------------------------------------------------------------------------------------
 *  Printing
 * ---------------------------------------------------------------------------------------------------------- */

static bool needs_quotes(const char *name) {
    if (name[0] == '\0' || name[0] == '~' || name[0] == '#' || strcmp(name, "{") == 0 || strcmp(name, "}") == 0)
        return true;
    for (; *name != '\0'; name++)
        if (!is_printing((unsigned char)*name) || strchr("!\"$&'()*:;<=>?[\\^`|", *name) != NULL) return true;
    return false;
}

static bool fits_double_quotes(const char *name) {
    if (strchr(name, '\'') == NULL) return false;
    for (; *name != '\0'; name++)
        if ((!is_printing((unsigned char)*name) && *name != ' ') || strchr("!\"$`\\", *name) != NULL) return false;
    return true;
}

/* Prints a name so that a shell reads it back as it is, in wc's manner: 'two'$'\n''lines'. */
static void print_quoted(FILE *out, const char *name) {
    static const char escapes[] = "\aa\bb\tt\nn\vv\ff\rr";
    if (!needs_quotes(name)) {
        fputs(name, out);
        return;
    }
    if (fits_double_quotes(name)) {
        fprintf(out, "\"%s\"", name);
        return;
    }
    bool escaping = false; /* between $' and ' */
    putc('\'', out);
    for (; *name != '\0'; name++) {
        unsigned char byte = (unsigned char)*name;
        if (byte == '\'') {
            fputs("'\\''", out);
            escaping = false;
        } else if (is_printing(byte) || byte == ' ') {
            if (escaping) fputs("''", out);
            escaping = false;
            putc(byte, out);
        } else {
            if (!escaping) fputs("'$'", out);
            escaping = true;
            const char *escape = strchr(escapes, byte);
            if (escape != NULL) fprintf(out, "\\%c", escape[1]);
            else fprintf(out, "\\%03o", byte);
        }
    }
    putc('\'', out);
}

typedef struct wc_report {
    tpool *pool;
    tpool_completions *completions;
    tpool_future *width_future;
    int width; /* 0: width_future has not been asked yet */
    tally total;
    size_t files; /* submitted */
    size_t printed;
    bool failed;
    counted_file *request; /* the argument of the next submit is put together here */
    size_t request_capacity;
    bool progress_wanted, progress_shown;
    bool same_terminal; /* lines go where the progress is shown: make room for them */
    int64_t progress_next;
} wc_report;

static void erase_progress(wc_report *report) {
    if (!report->progress_shown) return;
    fputs("\r\033[K", stderr);
    report->progress_shown = false;
}

static void show_progress(wc_report *report) {
    int64_t now = tpool_now();
    if (!report->progress_wanted || now < report->progress_next) return;
    report->progress_next = now + PROGRESS_EVERY;
    report->progress_shown = true;
    fprintf(stderr, "\r%zu of %zu files counted, %ju MB\033[K", report->printed, report->files,
            report->total.bytes / 1000000);
}

static void complain(wc_report *report, const char *path, const char *why) {
    erase_progress(report);
    fputs("treewc: ", stderr);
    print_quoted(stderr, path);
    fprintf(stderr, ": %s\n", why);
    report->failed = true;
}

static void print_counts(wc_report *report, const tally *counts, const char *name) {
    if (report->width == 0) {
        void *result;
        tpool_status status = tpool_future_result(report->width_future, TPOOL_FOREVER, &result);
        if (status != TPOOL_OK) die("width", tpool_status_text(status));
        report->width = (int)(intptr_t)result;
    }
    if (report->same_terminal) erase_progress(report);
    int width = report->width;
    printf("%*ju %*ju %*ju ", width, counts->lines, width, counts->words, width, counts->bytes);
    if (strchr(name, '\n') != NULL) print_quoted(stdout, name); /* wc quotes names here only if it must */
    else fputs(name, stdout);
    putchar('\n');
}

static void print_file(wc_report *report, tpool_future *future) {
    void *result;
    tpool_status status = tpool_future_result(future, TPOOL_FOREVER, &result);
    report->printed++;
    if (status == TPOOL_OK) {
        const counted_file *file = (const counted_file *)result;
        if (file->read_error != 0) complain(report, file->path, strerror(file->read_error));
        print_counts(report, &file->counts, file->path);
        report->total.lines += file->counts.lines;
        report->total.words += file->counts.words;
        report->total.bytes += file->counts.bytes;
    } else {
        const tpool_error *error = NULL;
        (void)tpool_future_error(future, 0, &error);
        if (status == TPOOL_FAILED && error != NULL) complain(report, error->message, strerror(error->code));
        else die("a file's task", tpool_status_text(status)); /* nobody cancels, nothing expires here */
    }
}

/* Prints the next file that is done, waiting for it if `wait`; false: none is (if `wait`: none is left). */
static bool print_next(wc_report *report, bool wait) {
    for (;;) {
        int64_t limit = !wait ? 0 : report->progress_wanted ? PROGRESS_EVERY : TPOOL_FOREVER;
        tpool_future *future;
        tpool_status status = tpool_completions_next(report->completions, limit, &future);
        if (status == TPOOL_OK) {
            print_file(report, future);
            show_progress(report);
            return true;
        }
        if (status != TPOOL_TIMEOUT && status != TPOOL_END) die("waiting", tpool_status_text(status));
        show_progress(report);
        if (!wait || status == TPOOL_END) return false;
    }
}

/* -------------------------------------------------------------------------------------------------------------
 *  The program
 * ---------------------------------------------------------------------------------------------------------- */

static void submit_file(void *context, const char *path, const struct stat *info) {
    wc_report *report = (wc_report *)context;
    size_t path_size = strlen(path) + 1;
    size_t size = sizeof *report->request + path_size;
    (void)info;
    if (size > report->request_capacity) {
        report->request = resize_or_die(report->request, 2 * size);
        report->request_capacity = 2 * size;
    }
    memset(report->request, 0, sizeof *report->request);
    memcpy(report->request->path, path, path_size);
    report->files++;

    tpool_future *future;
    tpool_status status = tpool_submit_copy(report->pool, count_file, report->request, size, &future);
    if (status != TPOOL_OK) {
        complain(report, path, tpool_status_text(status));
        return;
    }
    status = tpool_completions_add(report->completions, future);
    if (status != TPOOL_OK) print_file(report, future); /* no memory for it: wait for this one here */
    tpool_future_release(future);                       /* the iterator has its own reference */

    /* Until the width is known let the counting run ahead. */
    if (report->width != 0 || tpool_future_done(report->width_future))
        while (print_next(report, false)) { }
    while (tpool_completions_remaining(report->completions) >= MOST_AHEAD) print_next(report, true);
}

static void report_unreadable(void *context, const char *path, int error) {
    complain((wc_report *)context, path, strerror(error));
}

static void print_help(FILE *out) {
    fputs("Usage: treewc [-j N] [DIRECTORY or FILE]...\n"
          "Prints lines, words and bytes of each file, and the total of all, in the format of wc.\n"
          "Directories are walked for regular files; none given: the current one.\n"
          "  -j N  use N worker threads (default: chosen from the CPUs of this machine)\n"
          "  -h    print this help\n"
          "The exit status is 1 if something could not be read.\n",
          out);
}

int main(int argc, char **argv) {
    tpool_config config = { .name = "treewc" };
    int option;
    while ((option = getopt(argc, argv, "j:h")) != -1) {
        char *end;
        long workers;
        switch (option) {
        case 'j':
            errno = 0;
            workers = strtol(optarg, &end, 10);
            if (errno != 0 || end == optarg || *end != '\0' || workers < 1 || workers > INT_MAX)
                die(optarg, "invalid number of workers");
            config.max_workers = (int)workers;
            break;
        case 'h': print_help(stdout); return EXIT_SUCCESS;
        default: print_help(stderr); return EXIT_FAILURE;
        }
    }
    char *here[] = { "." };
    source_list sources = { argv + optind, argc - optind };
    if (sources.count == 0) sources = (source_list){ here, 1 };

    wc_report report = { .progress_wanted = isatty(STDERR_FILENO) == 1 };
    report.progress_next = tpool_now() + PROGRESS_EVERY;
    report.same_terminal = report.progress_wanted && isatty(STDOUT_FILENO) == 1;
    tpool_status status = tpool_create(&report.pool, &config);
    if (status == TPOOL_OK) status = tpool_submit(report.pool, measure_width, &sources, &report.width_future);
    if (status == TPOOL_OK) status = tpool_as_completed(NULL, 0, &report.completions);
    if (status != TPOOL_OK) die("starting", tpool_status_text(status));

    tree_visitor visitor = { false, submit_file, report_unreadable, &report };
    for (int i = 0; i < sources.count; i++) walk(sources.paths[i], &visitor);
    while (print_next(&report, true)) { }
    if (report.files > 1) print_counts(&report, &report.total, "total");
    erase_progress(&report);

    tpool_completions_destroy(report.completions);
    tpool_future_release(report.width_future);
    status = tpool_destroy(report.pool); /* `sources` and the tasks' code are used until here */
    if (status != TPOOL_OK) die("the end", tpool_status_text(status));
    free(report.request);
    if (fflush(stdout) != 0 || ferror(stdout)) die("write error", strerror(errno));
    return report.failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
