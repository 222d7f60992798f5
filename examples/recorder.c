/* recorder: a camera that drops nothing, beside one that drops the oldest.
 *
 *     cc -std=c11 -O2 -pthread -I. examples/recorder.c -o recorder && ./recorder
 *
 * The same frames go two ways, and what is to happen when the other side is slow is said where each way begins:
 *
 *      to whoever wants the present     tpool_submit_task to a pool with TPOOL_FULL_DROP_OLDEST (see camera.c): never
 *                                       waits; what is seen is always nearly the newest frame
 *      to whoever wants every frame     tpool_channel_send with TPOOL_FOREVER: waits while the channel is full, so the
 *                                       camera goes no faster than the recorder, and no frame is lost
 *
 * A frame is counted by those who have it: the camera, the viewer's task, the recorder. The last one gives it back. So
 * the number of frames in memory is bounded: those in the queue, in the channel, and in hands. */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FRAMES = 200, PIXELS = 4096, QUEUED = 2, PLACES = 8 };
enum { MOST_IN_MEMORY = QUEUED + PLACES + 3 }; /* in hands: the camera's, the viewer's, the recorder's */

typedef struct frame {
    atomic_int users;
    int number;
    unsigned char pixels[PIXELS];
} frame;

static atomic_int in_memory, at_most;
static frame *capture(int number) {
    frame *f = (frame *)malloc(sizeof *f);
    if (!f) exit(EXIT_FAILURE);
    atomic_init(&f->users, 1);
    f->number = number;
    memset(f->pixels, number & 255, sizeof f->pixels);
    int now = 1 + atomic_fetch_add(&in_memory, 1), most = atomic_load(&at_most);
    while (now > most && !atomic_compare_exchange_weak(&at_most, &most, now)) { }
    return f;
}
static frame *shared(frame *f) {
    atomic_fetch_add(&f->users, 1);
    return f;
}
static void give_back(void *arg) {
    frame *f = (frame *)arg;
    if (atomic_fetch_sub(&f->users, 1) > 1) return;
    free(f);
    atomic_fetch_sub(&in_memory, 1);
}
static void sleep_us(long us) {
    struct timespec left = { us / 1000000, us % 1000000 * 1000 };
    while (nanosleep(&left, &left) != 0 && errno == EINTR) { }
}

/* Sees what it comes to. */
static atomic_int seen, newest = -1, backwards;
static void *view(void *arg) {
    const frame *f = (const frame *)arg;
    sleep_us(3000);
    if (atomic_exchange(&newest, f->number) >= f->number) atomic_fetch_add(&backwards, 1);
    atomic_fetch_add(&seen, 1);
    return NULL;
}

/* Writes every frame, in order; now and then the disk is slow. */
typedef struct recording {
    tpool_channel *frames;
    int written;
    bool whole;
} recording;
static void *record(void *arg) {
    recording *r = (recording *)arg;
    void *item;
    while (tpool_channel_receive(r->frames, &item, TPOOL_FOREVER) == TPOOL_OK) {
        frame *f = (frame *)item;
        r->whole = r->whole && f->number == r->written && f->pixels[PIXELS - 1] == (f->number & 255);
        r->written++;
        if (f->number % 50 == 20) sleep_us(30000);
        give_back(f);
    }
    return NULL;
}

static void need(tpool_status status, const char *what) {
    if (status == TPOOL_OK) return;
    fprintf(stderr, "recorder: %s: %s\n", what, tpool_status_text(status));
    exit(EXIT_FAILURE);
}
int main(void) {
    tpool *viewer, *disk;
    tpool_config present = { .max_workers = 1, .queue_capacity = QUEUED, .on_full = TPOOL_FULL_DROP_OLDEST };
    tpool_config all = { .max_workers = 1 };
    tpool_channel_config places = { .capacity = PLACES, .item_free = give_back }; /* items are pointers */
    recording r = { NULL, 0, true };
    tpool_future *recorded;
    need(tpool_create(&viewer, &present), "the viewer's pool");
    need(tpool_create(&disk, &all), "the recorder's pool");
    need(tpool_channel_create(&r.frames, &places), "the channel");
    need(tpool_submit(disk, record, &r, &recorded), "the recorder");

    int64_t viewers = 0, recorders = 0; /* the longest that the camera has waited for each */
    for (int number = 0; number < FRAMES; number++) {
        frame *f = capture(number);
        tpool_task task = { .fn = view, .arg = shared(f), .arg_free = give_back };
        int64_t began = tpool_now();
        need(tpool_submit_task(viewer, &task, NULL), "a frame to the viewer");
        int64_t submitted = tpool_now();
        need(tpool_channel_send(r.frames, f, TPOOL_FOREVER), "a frame to the recorder");
        int64_t sent = tpool_now();
        if (submitted - began > viewers) viewers = submitted - began;
        if (sent - submitted > recorders) recorders = sent - submitted;
        sleep_us(500);
    }
    need(tpool_channel_close(r.frames), "the end of the frames"); /* what is in it is still written */
    need(tpool_future_result(recorded, TPOOL_FOREVER, NULL), "the recorder's end");
    tpool_future_release(recorded);
    need(tpool_drain(viewer, TPOOL_FOREVER), "the last frames");
    tpool_stats stats;
    need(tpool_get_stats(viewer, &stats), "statistics");
    need(tpool_channel_destroy(r.frames), "the channel's end");
    need(tpool_destroy(viewer), "the viewer's end");
    need(tpool_destroy(disk), "the recorder's end");

    printf("%d frames: %d written, none lost; %d seen, %d dropped, the newest seen is %d\n", FRAMES, r.written, seen,
           (int)stats.dropped, newest);
    printf("the camera waited for the viewer %.1f ms at most, for the recorder %.1f ms; at most %d frames in memory\n",
           (double)viewers / 1e6, (double)recorders / 1e6, at_most);
    bool right = r.whole && r.written == FRAMES && seen + (int)stats.dropped == FRAMES && backwards == 0;
    right = right && newest == FRAMES - 1 && in_memory == 0 && at_most <= MOST_IN_MEMORY;
    if (!right) puts("WRONG");
    return right ? EXIT_SUCCESS : EXIT_FAILURE;
}
