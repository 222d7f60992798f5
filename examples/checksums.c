/* checksums: work beside a GLib main loop that never waits, with a progress line and Ctrl-C: what cksum prints.
 *
 *     cc -std=gnu11 -pthread -I. examples/checksums.c $(pkg-config --cflags --libs glib-2.0) -o checksums
 *     ./checksums /usr/bin/[a-f]*
 *
 * The main loop never waits and never computes, as in a program with windows, which this one could be. Files are read
 * on a pool; the loop watches the descriptor of an iterator over their tasks, a timer draws the progress line, and
 * Ctrl-C cancels what has not started, asks what runs to stop, and lets the loop end in order. */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- the work, on the pool */

static uint32_t table[256];
static atomic_ullong bytes_read; /* by all tasks: the progress line's */

static uint32_t add(uint32_t sum, unsigned byte) { return sum << 8 ^ table[(sum >> 24 ^ byte) & 255]; }
static void make_table(void) {
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i << 24;
        for (int bit = 0; bit < 8; bit++) table[i] = table[i] << 1 ^ (table[i] >> 31 ? 0x04c11db7 : 0);
    }
}

typedef struct checksum {
    uint32_t sum;
    uint64_t size;
} checksum;

static void *check(void *name) {
    checksum c = { 0, 0 };
    unsigned char bytes[1 << 16];
    ssize_t got;
    int file = open(name, O_RDONLY | O_CLOEXEC);
    if (file < 0) return tpool_raise(errno, "%s", strerror(errno));
    while ((got = read(file, bytes, sizeof bytes)) > 0 && !tpool_stop_requested()) {
        for (ssize_t i = 0; i < got; i++) c.sum = add(c.sum, bytes[i]);
        c.size += (uint64_t)got;
        atomic_fetch_add_explicit(&bytes_read, (unsigned long long)got, memory_order_relaxed);
    }
    int error = errno;
    close(file);
    if (got != 0) return got < 0 ? tpool_raise(error, "%s", strerror(error)) : tpool_raise(ECANCELED, "stopped");
    for (uint64_t size = c.size; size > 0; size >>= 8) c.sum = add(c.sum, (unsigned)(size & 255));
    c.sum = ~c.sum;
    return tpool_return(&c, sizeof c);
}

/* --- the program, in its main loop */

typedef struct program {
    GMainLoop *loop;
    tpool *pool;
    tpool_completions *ends;
    int files, done, failed;
    unsigned long long bytes; /* of all files */
    bool shows_progress;
} program;

static void clear_progress(const program *p) {
    if (p->shows_progress) fputs("\r\033[K", stderr);
}
static gboolean draw_progress(gpointer of) {
    const program *p = of;
    unsigned long long now = atomic_load_explicit(&bytes_read, memory_order_relaxed);
    int percent = p->bytes && now < p->bytes ? (int)(100 * now / p->bytes) : 100;
    fprintf(stderr, "\r[%-25.*s] %3d %%, %d of %d files\033[K", percent / 4, "#########################", percent,
            p->done, p->files);
    return G_SOURCE_CONTINUE;
}
static void file_is_done(program *p, tpool_future *future) {
    const char *name = tpool_future_tag(future);
    void *result;
    clear_progress(p);
    if (tpool_future_result(future, 0, &result) == TPOOL_OK) {
        const checksum *c = result;
        printf("%" PRIu32 " %" PRIu64 " %s\n", c->sum, c->size, name);
    } else {
        fprintf(stderr, "checksums: %s: %s\n", name, tpool_future_message(future));
        p->failed++;
    }
    p->done++;
}
/* Takes all that there is, up to the answer that there is no more now: from then on the descriptor tells of more. */
static gboolean on_ends(gint descriptor, GIOCondition condition, gpointer of) {
    program *p = of;
    tpool_future *future;
    tpool_status status;
    (void)descriptor, (void)condition;
    while ((status = tpool_completions_next(p->ends, 0, &future)) == TPOOL_OK) file_is_done(p, future);
    if (p->shows_progress) draw_progress(p);
    if (status == TPOOL_END) g_main_loop_quit(p->loop);
    return G_SOURCE_CONTINUE;
}
/* Each file still comes to an end, so the loop ends as ever. */
static gboolean on_interrupt(gpointer of) {
    tpool_shutdown(((program *)of)->pool, TPOOL_CANCEL_PENDING | TPOOL_STOP_RUNNING);
    return G_SOURCE_CONTINUE;
}

static bool submit(program *p, char *name) {
    struct stat info;
    if (stat(name, &info) == 0) p->bytes += (unsigned long long)info.st_size;
    tpool_task task = { .fn = check, .arg = name, .name = "check", .tag = name, .completions = p->ends };
    return tpool_submit_task(p->pool, &task, NULL) == TPOOL_OK;
}

int main(int argc, char **argv) {
    program p = { .files = argc - 1, .shows_progress = isatty(STDERR_FILENO) };
    tpool_config config = { .name = "check", .max_workers = tpool_workers_for(TPOOL_WORK_MIXED) };
    intptr_t descriptor;
    make_table();
    if (tpool_create(&p.pool, &config) != TPOOL_OK || tpool_as_completed(NULL, 0, &p.ends) != TPOOL_OK ||
        tpool_completions_descriptor(p.ends, &descriptor) != TPOOL_OK)
        return 1;
    for (int i = 1; i < argc; i++)
        if (!submit(&p, argv[i])) return 1;

    p.loop = g_main_loop_new(NULL, FALSE);
    g_unix_fd_add((gint)descriptor, G_IO_IN, on_ends, &p);
    g_unix_signal_add(SIGINT, on_interrupt, &p);
    if (p.shows_progress) g_timeout_add(100, draw_progress, &p);
    if (p.files > 0) g_main_loop_run(p.loop);
    clear_progress(&p);

    g_main_loop_unref(p.loop);
    tpool_completions_destroy(p.ends);
    return tpool_destroy(p.pool) == TPOOL_OK && p.failed == 0 ? 0 : 1;
}
