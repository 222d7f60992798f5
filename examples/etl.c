/* etl: extract, transform, load: three stages on three managed pools, each of the size that its work wants, with a
 * fixed number of buffers that travel through all of them.
 *
 *     cc -std=c11 -pthread -I. examples/etl.c -o etl && ./etl
 *
 * Extract reads log files (it waits for disks: more workers than CPUs), transform parses their lines and counts bytes
 * by status and day (it computes: as many workers as CPUs), load adds the counts to the one table (one worker, so it
 * needs no lock). The buffers are resources: extract waits for one, load gives it back, so that memory is bounded
 * however much faster one stage is than the next. A line that cannot be parsed fails its buffer, which is counted and
 * goes home. */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILES = 12, LINES = 4000, BUFFERS = 5, DAYS = 7, STATUSES = 3, BUFFER_BYTES = 160 * 1024 };

typedef struct table {
    unsigned long lines[DAYS][STATUSES], bytes[DAYS][STATUSES];
} table;

typedef struct buffer {
    size_t length;
    table part;
    char text[BUFFER_BYTES];
} buffer;

/* What all stages know. */
static struct {
    tpool *extract, *transform, *load;
    tpool_resources *buffers;
    char folder[64];
    table whole;        /* of the one worker of load */
    int loaded, failed; /* likewise */
} etl;

/* One file on its way. */
typedef struct journey {
    int file;
    buffer *at;
    bool failed;
} journey;

static void *make_buffer(void *context) {
    (void)context;
    return calloc(1, sizeof(buffer));
}
static void free_buffer(void *resource, void *context) {
    (void)context;
    free(resource);
}

static void path_of(int file, char *path, size_t size) { snprintf(path, size, "%s/access.%d.log", etl.folder, file); }

/* --- load: the last stage, on one worker */
static void *load(void *arg) {
    journey *j = arg;
    if (j->failed) etl.failed++;
    else {
        etl.loaded++;
        for (int day = 0; day < DAYS; day++)
            for (int status = 0; status < STATUSES; status++) {
                etl.whole.lines[day][status] += j->at->part.lines[day][status];
                etl.whole.bytes[day][status] += j->at->part.bytes[day][status];
            }
    }
    (void)tpool_resources_put(etl.buffers, j->at);
    return NULL;
}
/* Hands on to the next stage. The copy that travels is small: the buffer itself is only pointed to. */
static void *hand_on(tpool *pool, tpool_fn stage, const journey *j, const char *name) {
    tpool_task task = { .fn = stage, .arg = (void *)(uintptr_t)j, .arg_size = sizeof *j, .name = name };
    tpool_status status = tpool_submit_task(pool, &task, NULL);
    if (status == TPOOL_OK) return NULL;
    (void)tpool_resources_put(etl.buffers, j->at);
    return tpool_raise((int)status, "file %d was not handed on to %s", j->file, name);
}

/* --- transform */
static void *transform(void *arg) {
    journey *j = arg;
    char *line = j->at->text, *end = line + j->at->length;
    memset(&j->at->part, 0, sizeof j->at->part);
    for (; line < end && !j->failed; line = memchr(line, '\n', (size_t)(end - line)), line = line ? line + 1 : end) {
        int day, status;
        unsigned long bytes;
        if (sscanf(line, "2026-03-%d GET /page %d %lu", &day, &status, &bytes) != 3 || day < 1 || day > DAYS ||
            status < 200 || status >= 200 + 100 * STATUSES)
            j->failed = true;
        else {
            j->at->part.lines[day - 1][status / 100 - 2]++;
            j->at->part.bytes[day - 1][status / 100 - 2] += bytes;
        }
    }
    return hand_on(etl.load, load, j, "load");
}

/* --- extract */
static void *extract(void *arg) {
    journey j = { .file = *(int *)arg };
    void *resource;
    char path[128];
    tpool_status status = tpool_resources_get(etl.buffers, TPOOL_SEC(30), &resource); /* waits for the later stages */
    if (status != TPOOL_OK) return tpool_raise((int)status, "no buffer for file %d", j.file);
    j.at = resource;
    path_of(j.file, path, sizeof path);
    FILE *file = fopen(path, "r");
    if (file) {
        j.at->length = fread(j.at->text, 1, BUFFER_BYTES - 1, file);
        j.at->text[j.at->length] = 0;
        fclose(file);
    } else {
        j.failed = true;
    }
    return hand_on(etl.transform, transform, &j, "transform");
}

static int write_logs(void) {
    static const int statuses[STATUSES] = { 200, 302, 404 };
    for (int number = 0; number < FILES; number++) {
        char path[128];
        path_of(number, path, sizeof path);
        FILE *file = fopen(path, "w");
        if (!file) return -1;
        for (int i = 0; i < LINES; i++)
            fprintf(file, "2026-03-%02d GET /page %d %d\n", i % DAYS + 1, statuses[i % STATUSES], i % 1000);
        if (number == FILES - 1) fputs("and here somebody pulled the plu", file);
        fclose(file);
    }
    return 0;
}

int main(void) {
    strcpy(etl.folder, "/tmp/etl_XXXXXX");
    if (!mkdtemp(etl.folder) || write_logs() != 0) return 1;
    if (tpool_resources_create(&etl.buffers, BUFFERS, make_buffer, free_buffer, NULL) != TPOOL_OK ||
        tpool_manager_get(NULL, tpool_workers_for(TPOOL_WORK_IO), TPOOL_THREADS, 0, &etl.extract) != TPOOL_OK ||
        tpool_manager_get(NULL, tpool_workers_for(TPOOL_WORK_CPU) + 1, TPOOL_THREADS, 0, &etl.transform) != TPOOL_OK ||
        tpool_manager_get(NULL, 1, TPOOL_THREADS, 0, &etl.load) != TPOOL_OK)
        return 1;

    tpool_future *files[FILES];
    int bad = 0;
    for (int i = 0; i < FILES; i++)
        if (tpool_submit_copy(etl.extract, extract, &i, sizeof i, &files[i]) != TPOOL_OK) return 1;
    for (int i = 0; i < FILES; i++) {
        if (tpool_future_result(files[i], TPOOL_FOREVER, NULL) != TPOOL_OK) {
            fprintf(stderr, "%s\n", tpool_future_message(files[i]));
            bad++;
        }
        tpool_future_release(files[i]);
    }
    /* stage after stage runs empty; each is drained when nothing more can come from the one before */
    tpool_drain(etl.transform, TPOOL_FOREVER);
    tpool_drain(etl.load, TPOOL_FOREVER);

    unsigned long lines = 0;
    for (int day = 0; day < DAYS; day++) {
        printf("2026-03-%02d", day + 1);
        for (int status = 0; status < STATUSES; status++) {
            printf("   %dxx: %6lu lines %9lu bytes", status + 2, etl.whole.lines[day][status],
                   etl.whole.bytes[day][status]);
            lines += etl.whole.lines[day][status];
        }
        putchar('\n');
    }
    printf("%d files loaded, %d not; %lu lines\n", etl.loaded, etl.failed, lines);
    tpool_manager_release(NULL, etl.extract);
    tpool_manager_release(NULL, etl.transform);
    tpool_manager_release(NULL, etl.load);
    if (tpool_resources_destroy(etl.buffers) != TPOOL_OK) bad++; /* all are back */
    for (int i = 0; i < FILES; i++) {
        char path[128];
        path_of(i, path, sizeof path);
        remove(path);
    }
    remove(etl.folder);
    bool all = etl.loaded == FILES - 1 && etl.failed == 1 && lines == (unsigned long)(FILES - 1) * LINES;
    return bad == 0 && all ? 0 : 1;
}
