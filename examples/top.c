/* top: a live table of what several pools do, as top shows processes, and of what is stuck.
 *
 *     cc -std=c11 -pthread -I. examples/top.c -o top && ./top [SECONDS]
 *
 * In a terminal the table is drawn again and again in place; SECONDS 0 (the default there): until Ctrl-C. When the
 * output is no terminal, it is one JSON object a second on a line of its own, for a log or a program to read.
 *
 * The pools measure (config.measure), so that besides the counts there are times: how long tasks waited in the queue,
 * how long they ran, half of them and 99 of 100, and how busy the workers were since the line before. Below stands what
 * is stuck: the workers that have been at their task for a second or longer, from tpool_describe, which says so even if
 * all of them hang. (Here an upload does now and then, as if its server did not answer.) */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* --- what is watched: three pools, and a thread for each that gives them work */

typedef struct watched {
    const char *name;
    int workers;
    int task_us, every_us; /* how long a task takes, how often one comes */
    bool computes;         /* else it sleeps */
    int hangs_in;          /* of so many tasks one takes two seconds; 0: none does */
    tpool *pool;
    tpool *feeder;       /* of one worker */
    int64_t busy_ns, at; /* when they were looked at last */
} watched;

static watched pools[] = {
    { .name = "decode", .workers = 2, .task_us = 300, .every_us = 1000, .computes = true },
    { .name = "upload", .workers = 8, .task_us = 9000, .every_us = 1500, .hangs_in = 1000 },
    { .name = "thumbs", .workers = 1, .task_us = 2500, .every_us = 2400 },
};
enum { POOLS = sizeof pools / sizeof pools[0] };

static volatile sig_atomic_t asked_to_end;
static void on_signal(int number) {
    (void)number;
    asked_to_end = 1;
}

static void sleep_ns(int64_t ns) {
    struct timespec t = { (time_t)(ns / 1000000000), (long)(ns % 1000000000) };
    nanosleep(&t, NULL);
}

static void *hang(void *arg) {
    for (int64_t end = tpool_now() + TPOOL_SEC(2); tpool_now() < end && !tpool_stop_requested();)
        sleep_ns(TPOOL_MS(10));
    return arg;
}
static void *work(void *arg) {
    const watched *w = *(watched **)arg;
    if (!w->computes) sleep_ns(TPOOL_US(w->task_us));
    else
        for (int64_t end = tpool_now() + TPOOL_US(w->task_us); tpool_now() < end;) { }
    return (uintptr_t)tpool_now() / 1000 % 97 == 0 ? tpool_raise(1, "one in a hundred fails") : NULL;
}
static void *feed(void *arg) {
    watched *w = *(watched **)arg;
    for (int i = 1; !tpool_stop_requested(); i++) {
        bool hangs = w->hangs_in && i % w->hangs_in == 20;
        tpool_task task = { .fn = hangs ? hang : work, .arg = &w, .arg_size = sizeof w, .name = w->name };
        (void)!tpool_submit_task(w->pool, &task, NULL); /* a full queue: counted as rejected */
        sleep_ns(TPOOL_US(w->every_us));
    }
    return NULL;
}

static bool start(watched *w) {
    tpool_config config = {
        .name = w->name, .max_workers = w->workers, .measure = true, .queue_capacity = 200, .on_full = TPOOL_FULL_REJECT
    };
    tpool_config one = { .name = "feeder", .max_workers = 1 };
    w->at = tpool_now();
    return tpool_create(&w->pool, &config) == TPOOL_OK && tpool_create(&w->feeder, &one) == TPOOL_OK &&
           tpool_submit_copy(w->feeder, feed, &w, sizeof w, NULL) == TPOOL_OK;
}

/* --- how it is shown */

/* The share of its workers' time that the pool was busy since the last look, in percent. */
static double busy_percent(watched *w, const tpool_stats *s) {
    int64_t now = tpool_now(), passed = now - w->at;
    double percent = passed > 0 ? 100.0 * (double)(s->busy_ns - w->busy_ns) / ((double)passed * w->workers) : 0;
    w->at = now;
    w->busy_ns = s->busy_ns;
    return percent;
}
static const char *time_text(int64_t ns, char *text, size_t size) {
    if (ns < 10000) snprintf(text, size, "%" PRId64 " ns", ns);
    else if (ns < 10000000) snprintf(text, size, "%.1f us", (double)ns / 1e3);
    else snprintf(text, size, "%.1f ms", (double)ns / 1e6);
    return text;
}

/* A line of tpool_describe, such as:  upload_3: task "upload" for 1.204 s
 * Those that have been at it for a second or longer say so in seconds, the others in milliseconds. */
static bool is_stuck(const char *line, size_t size) { return size > 3 && memcmp(line + size - 3, " s\n", 3) == 0; }
static bool show_stuck(const char *line, size_t size, void *context) {
    (void)context;
    if (is_stuck(line, size)) printf("stuck: %.*s", (int)size, line);
    return true;
}
static bool show_stuck_as_json(const char *line, size_t size, void *context) {
    int *count = context;
    if (!is_stuck(line, size)) return true;
    fputs((*count)++ ? ", \"" : "\"", stdout);
    for (const char *at = line; at < line + size - 1; at++) {
        if (*at == '"' || *at == '\\') putchar('\\');
        putchar(*at);
    }
    putchar('"');
    return true;
}

static bool show_table(void) {
    printf("\033[H\033[J%-8s %7s %6s %6s %6s %9s %7s %6s %10s %10s %10s %10s\n", "POOL", "WORKERS", "ACTIVE", "BUSY%",
           "QUEUED", "DONE", "FAILED", "REJ", "WAIT p50", "WAIT p99", "RUN p50", "RUN p99");
    for (int i = 0; i < POOLS; i++) {
        tpool_stats s;
        char text[4][32];
        if (tpool_get_stats(pools[i].pool, &s) != TPOOL_OK) return false;
        printf("%-8s %3d/%-3d %6d %6.1f %6zu %9" PRIu64 " %7" PRIu64 " %6" PRIu64 " %10s %10s %10s %10s\n",
               pools[i].name, s.workers, s.max_workers, s.active, busy_percent(&pools[i], &s), s.queued, s.completed,
               s.failed, s.rejected, time_text(s.wait_p50_ns, text[0], sizeof text[0]),
               time_text(s.wait_p99_ns, text[1], sizeof text[1]), time_text(s.run_p50_ns, text[2], sizeof text[2]),
               time_text(s.run_p99_ns, text[3], sizeof text[3]));
    }
    for (int i = 0; i < POOLS; i++)
        if (tpool_describe(pools[i].pool, show_stuck, NULL) != TPOOL_OK) return false;
    return fflush(stdout) == 0;
}
static bool show_line(void) {
    printf("{\"time\": %lld, \"pools\": [", (long long)time(NULL));
    for (int i = 0; i < POOLS; i++) {
        tpool_stats s;
        if (tpool_get_stats(pools[i].pool, &s) != TPOOL_OK) return false;
        printf("%s{\"name\": \"%s\", \"max_workers\": %d, \"workers\": %d, \"active\": %d, \"busy_percent\": %.1f, "
               "\"queued\": %zu, \"submitted\": %" PRIu64 ", \"completed\": %" PRIu64 ", \"failed\": %" PRIu64
               ", \"rejected\": %" PRIu64 ", \"wait_p50_ns\": %" PRId64 ", \"wait_p99_ns\": %" PRId64
               ", \"run_p50_ns\": %" PRId64 ", \"run_p99_ns\": %" PRId64 ", \"busy_ns\": %" PRId64 "}",
               i ? ", " : "", pools[i].name, s.max_workers, s.workers, s.active, busy_percent(&pools[i], &s), s.queued,
               s.submitted, s.completed, s.failed, s.rejected, s.wait_p50_ns, s.wait_p99_ns, s.run_p50_ns, s.run_p99_ns,
               s.busy_ns);
    }
    fputs("], \"stuck\": [", stdout);
    for (int i = 0, count = 0; i < POOLS; i++)
        if (tpool_describe(pools[i].pool, show_stuck_as_json, &count) != TPOOL_OK) return false;
    puts("]}");
    return fflush(stdout) == 0; /* whoever reads has gone: over */
}

int main(int argc, char **argv) {
    bool terminal = isatty(STDOUT_FILENO);
    double seconds = argc > 1 ? atof(argv[1]) : terminal ? 0 : 5;
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < POOLS; i++)
        if (!start(&pools[i])) return 1;

    int64_t begin = tpool_now(), next = begin, step = terminal ? TPOOL_MS(250) : TPOOL_SEC(1);
    bool shown = true;
    while (shown && !asked_to_end && (seconds <= 0 || next - begin + step <= TPOOL_SEC(seconds))) {
        next += step;
        while (!asked_to_end && tpool_now() < next) sleep_ns(tpool_until(next)); /* a signal wakes it too */
        if (!asked_to_end) shown = terminal ? show_table() : show_line();
    }

    for (int i = 0; i < POOLS; i++) {
        tpool_shutdown(pools[i].feeder, TPOOL_STOP_RUNNING);
        tpool_destroy(pools[i].feeder);
        tpool_shutdown(pools[i].pool, TPOOL_CANCEL_PENDING | TPOOL_STOP_RUNNING);
        tpool_destroy(pools[i].pool);
    }
    return shown ? 0 : 1;
}
