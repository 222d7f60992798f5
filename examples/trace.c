/* trace: a trace of what a pool did: what ran where, what waited for what, which workers came when.
 *
 *     cc -std=c11 -pthread -I. examples/trace.c -o trace && ./trace trace.json
 *
 * Open trace.json at ui.perfetto.dev (the file stays on your machine), or in chrome://tracing; or draw it with
 * examples/trace_svg.py, as in the README.
 *
 * Here pages are made of images and a style, by two workers. Each page waits for its images and for the style that all
 * pages share; a spare worker stands in for one that is blocked, so that the images of the others are loaded meanwhile.
 * A program that traces for long need do nothing else: the newest events are kept, in as much memory as it says. */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
#include <stdio.h>
#include <time.h>

enum { PAGES = 4, IMAGES = 3 };
static tpool *pool;
static tpool_future *style;

static void take_ms(int ms) {
    struct timespec t = { 0, ms * 1000000L };
    nanosleep(&t, NULL);
}
static void *load_style(void *arg) {
    take_ms(12);
    return arg;
}
static void *load_image(void *arg) {
    take_ms(3);
    return arg;
}
static void *make_page(void *arg) {
    tpool_future *images[IMAGES];
    tpool_task image = { .fn = load_image, .name = "image" };
    int count = 0;
    while (count < IMAGES && tpool_submit_task(pool, &image, &images[count]) == TPOOL_OK) count++;
    take_ms(2);
    tpool_status status = tpool_future_result(style, TPOOL_FOREVER, NULL); /* on another worker: this one is blocked */
    for (int i = 0; i < count; i++) {
        if (tpool_future_result(images[i], TPOOL_FOREVER, NULL) != TPOOL_OK) status = TPOOL_FAILED; /* or here */
        tpool_future_release(images[i]);
    }
    take_ms(1);
    return status == TPOOL_OK && count == IMAGES ? arg : tpool_raise(1, "a part is missing");
}

static bool write_file(const char *bytes, size_t size, void *file) { return fwrite(bytes, 1, size, file) == size; }

int main(int argc, char **argv) {
    tpool_config config = { .name = "pages", .max_workers = 2 };
    tpool_task page = { .fn = make_page, .name = "page" }, shared = { .fn = load_style, .name = "style" };
    tpool_future *pages[PAGES];
    FILE *file = argc > 1 ? fopen(argv[1], "w") : stdout;
    if (!file || tpool_create(&pool, &config) != TPOOL_OK || tpool_trace_start(pool, 0) != TPOOL_OK) return 1;

    if (tpool_submit_task(pool, &shared, &style) != TPOOL_OK) return 1;
    for (int i = 0; i < PAGES; i++)
        if (tpool_submit_task(pool, &page, &pages[i]) != TPOOL_OK) return 1;
    bool made = tpool_wait(pages, PAGES, TPOOL_ALL_COMPLETED, TPOOL_FOREVER, NULL) == TPOOL_OK;
    for (int i = 0; i < PAGES; i++) {
        made = tpool_future_result(pages[i], 0, NULL) == TPOOL_OK && made;
        tpool_future_release(pages[i]);
    }
    tpool_future_release(style);

    /* At any time, from any thread, also while all workers hang. */
    made = tpool_trace_write(pool, write_file, file) == TPOOL_OK && made;
    made = fclose(file) == 0 && made;
    return tpool_destroy(pool) == TPOOL_OK && made ? 0 : 1;
}
