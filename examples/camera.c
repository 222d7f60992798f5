/* camera: a capture loop that never waits for the program that looks at its pictures.
 *
 *     cc -std=c11 -O2 -pthread -I. examples/camera.c -o camera && ./camera
 *
 * A camera delivers a frame every two milliseconds; finding the bright spot in one takes four times as long.
 * The pool's queue is short and drops the oldest frame when a new one comes (TPOOL_FULL_DROP_OLDEST): the
 * submit never blocks, and what is looked at is always nearly the present. No frame is lost track of: each ends
 * as looked at or as dropped.
 *
 * Frames come from a fixed set of buffers, as a camera driver has them. A submitted frame belongs to the pool
 * until arg_free gives its buffer back, once, whether it was looked at or dropped. So the number of buffers
 * needed is known: those that wait in the queue, one for each worker, and the one being captured.
 */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FRAMES = 150, WIDTH = 160, HEIGHT = 120, WORKERS = 1, QUEUED_AT_MOST = 2 };
enum { BUFFERS = QUEUED_AT_MOST + WORKERS + 1 };
enum { CAPTURE_MS = 2, LOOK_MS = 8 };

static void require(tpool_status status, const char *what) {
    if (status == TPOOL_OK) return;
    fprintf(stderr, "camera: %s: %s\n", what, tpool_status_text(status));
    exit(EXIT_FAILURE);
}

static void sleep_ms(int ms) {
    struct timespec left = { ms / 1000, (long)(ms % 1000) * 1000000 };
    while (nanosleep(&left, &left) != 0 && errno == EINTR) { }
}

/* -------------------------------------------------------------------------------------------------------------
 *  The camera and its buffers
 * ---------------------------------------------------------------------------------------------------------- */

typedef struct camera_frame {
    atomic_bool in_use;
    int number;
    unsigned char pixels[HEIGHT][WIDTH];
} camera_frame;

static camera_frame buffers[BUFFERS];
static atomic_int buffers_given_back;

static int spot_x(int number) { return 2 + number * 3 % (WIDTH - 4); }
static int spot_y(int number) { return 2 + number * 5 % (HEIGHT - 4); }

/* NULL: all buffers are in use. */
static camera_frame *capture(int number) {
    for (int i = 0; i < BUFFERS; i++) {
        camera_frame *frame = &buffers[i];
        if (atomic_exchange(&frame->in_use, true)) continue;
        sleep_ms(CAPTURE_MS); /* the camera's rate */
        frame->number = number;
        memset(frame->pixels, 10, sizeof frame->pixels);
        for (int y = -1; y <= 1; y++) memset(&frame->pixels[spot_y(number) + y][spot_x(number) - 1], 200, 3);
        return frame;
    }
    return NULL;
}

/* Called by the pool once for every frame that it has taken. */
static void give_back(void *arg) {
    camera_frame *frame = (camera_frame *)arg;
    atomic_fetch_add(&buffers_given_back, 1);
    atomic_store(&frame->in_use, false);
}

/* -------------------------------------------------------------------------------------------------------------
 *  Looking at frames
 * ---------------------------------------------------------------------------------------------------------- */

typedef struct spot_sighting {
    int frame;
    int x, y;
} spot_sighting;

/* The task: where is the bright spot? The result is copied, since the frame is given back before the future is
 * done. */
static void *find_spot(void *arg) {
    const camera_frame *frame = (const camera_frame *)arg;
    long weight = 0, sum_x = 0, sum_y = 0;
    for (int y = 0; y < HEIGHT; y++) {
        for (int x = 0; x < WIDTH; x++) {
            if (frame->pixels[y][x] < 128) continue;
            weight++;
            sum_x += x;
            sum_y += y;
        }
    }
    sleep_ms(LOOK_MS); /* a real detector has more to do */
    if (weight == 0) return tpool_raise(ENOENT, "no spot in frame %d", frame->number);
    spot_sighting sighting = { frame->number, (int)(sum_x / weight), (int)(sum_y / weight) };
    return tpool_return(&sighting, sizeof sighting);
}

typedef struct frame_tally {
    atomic_int seen, dropped, failed, misplaced, out_of_order;
    atomic_int newest; /* number of the newest frame looked at */
} frame_tally;

/* Called when a frame's future is done: in the worker that looked at it, or in the capture loop when its frame
 * pushed this one out. Nothing else is kept of a frame, so the loop could go on for ever. */
static void frame_done(tpool_future *future, void *context) {
    frame_tally *tally = (frame_tally *)context;
    void *result;
    switch (tpool_future_result(future, 0, &result)) {
    case TPOOL_OK: {
        const spot_sighting *sighting = (const spot_sighting *)result;
        if (sighting->x != spot_x(sighting->frame) || sighting->y != spot_y(sighting->frame))
            atomic_fetch_add(&tally->misplaced, 1);
        if (atomic_exchange(&tally->newest, sighting->frame) >= sighting->frame)
            atomic_fetch_add(&tally->out_of_order, 1);
        atomic_fetch_add(&tally->seen, 1);
        break;
    }
    case TPOOL_CANCELLED: atomic_fetch_add(&tally->dropped, 1); break;
    default: fprintf(stderr, "camera: %s\n", tpool_future_message(future)); atomic_fetch_add(&tally->failed, 1);
    }
}

int main(void) {
    tpool_config config = {
        .name = "detector",
        .max_workers = WORKERS,
        .queue_capacity = QUEUED_AT_MOST,
        .on_full = TPOOL_FULL_DROP_OLDEST,
    };
    tpool *pool;
    require(tpool_create(&pool, &config), "creating the pool");

    static frame_tally tally;
    tally.newest = -1;
    int64_t slowest_submit_ns = 0;
    int missed = 0;
    for (int number = 0; number < FRAMES; number++) {
        camera_frame *frame = capture(number);
        if (frame == NULL) {
            missed++;
            continue;
        }
        tpool_task task = { .fn = find_spot, .arg = frame, .arg_free = give_back, .name = "find the spot" };
        tpool_future *future;
        int64_t start = tpool_now();
        tpool_status status = tpool_submit_task(pool, &task, &future);
        if (tpool_now() - start > slowest_submit_ns) slowest_submit_ns = tpool_now() - start;
        if (status != TPOOL_OK) give_back(frame); /* not taken: still ours */
        require(status, "submitting a frame");
        require(tpool_future_add_done_callback(future, frame_done, &tally), "adding a callback");
        tpool_future_release(future);
    }
    require(tpool_drain(pool, TPOOL_FOREVER), "waiting for the last frames");
    tpool_stats stats;
    require(tpool_get_stats(pool, &stats), "statistics");
    require(tpool_destroy(pool), "destroying the pool");

    printf("%d frames captured: %d looked at, %d dropped; newest looked at: %d\n", FRAMES, tally.seen, tally.dropped,
           tally.newest);
    printf("the slowest submit took %.0f microseconds\n", (double)slowest_submit_ns / 1e3);

    bool right = missed == 0 && tally.failed == 0 && tally.misplaced == 0 && tally.out_of_order == 0;
    right &= tally.seen + tally.dropped == FRAMES && buffers_given_back == FRAMES;
    right &= stats.dropped == (uint64_t)tally.dropped && stats.cancelled == 0;
    right &= stats.completed == (uint64_t)tally.seen && stats.submitted == FRAMES;
    right &= tally.newest == FRAMES - 1; /* the newest frame always wins */
    right &= tally.dropped > 0;          /* else this has shown nothing */
    if (!right) puts("WRONG");
    return right ? EXIT_SUCCESS : EXIT_FAILURE;
}
