/* decoders: pictures from strangers, decoded in processes, since some of them kill the decoder.
 *
 *     cc -std=c11 -O2 -pthread -I. examples/decoders.c -o decoders && ./decoders
 *
 * The decoders tell over a channel how far they have come, count in shared memory what they have done, and leave each
 * picture where the program finds it. A decoder that dies takes its own picture with it. The channel stays whole, at
 * whatever instant that was: what was sent has come, and nobody waits for the dead. In Python, whose Queue may be left
 * locked, or half written, by a process that is killed ("likely to become corrupted", says multiprocessing):
 *
 *      from multiprocessing import Process, Queue, Value     tpool_config config = { .kind = TPOOL_PROCESSES,
 *      from multiprocessing import shared_memory                 .shared_size = ... };
 *      progress = Queue(16)                                  tpool_channel_create(&progress, &(tpool_channel_config){
 *                                                                .capacity = 16, .item_size = sizeof(report),
 *                                                                .shared_with = pool })
 *      pixels = Value('l', 0)                                atomic_long pixels;   in tpool_shared_alloc(pool, ...)
 *      picture = shared_memory.SharedMemory(create=True,     tpool_shared_alloc(pool, WIDTH * HEIGHT)
 *                                           size=W * H)
 *
 *      def decode(code, ...):                                static void *decode(void *arg)
 *          for y in range(H):
 *              ...
 *              with pixels.get_lock(): pixels.value += W         atomic_fetch_add(&shared->pixels, WIDTH)
 *              progress.put((number, y + 1))                     tpool_channel_send(progress, &r, TPOOL_FOREVER)
 *
 *      while True:
 *          number, rows = progress.get()                     tpool_channel_receive(progress, &r, TPOOL_FOREVER)
 *                                                            ... until TPOOL_END
 *
 * Python gives Queue and Value to each process as it starts it. Here a channel and a pointer are arguments. */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { PICTURES = 60, WIDTH = 64, HEIGHT = 32, CODE = 2 * WIDTH * HEIGHT, REPORT_EACH = 8 };

typedef struct report {
    int number, rows;
} report;

/* What all processes see. */
typedef struct studio {
    atomic_long pixels;
    atomic_int decoded;
    unsigned char pictures[PICTURES][HEIGHT][WIDTH];
} studio;

/* A picture as it comes: pairs of a length and a grey; no run goes beyond its row. */
typedef struct order {
    studio *studio;
    tpool_channel *progress;
    int number, size;
    unsigned char code[CODE];
} order;

static bool is_broken(int number) { return number % 13 == 5; }
static unsigned char grey_of(int number, int x, int y) {
    return (unsigned char)(number * 7 + (x / (1 + y % 5)) * 3 + y);
}
static void encode(order *o, int number) {
    o->number = number;
    o->size = 0;
    for (int y = 0; y < HEIGHT; y++) {
        for (int x = 0, run; x < WIDTH; x += run) {
            for (run = 1; x + run < WIDTH && grey_of(number, x + run, y) == grey_of(number, x, y); run++) { }
            if (is_broken(number) && y == HEIGHT / 2 && x == 0) run = 255;
            o->code[o->size++] = (unsigned char)run;
            o->code[o->size++] = grey_of(number, x, y);
        }
    }
}

/* In a worker. Its fault: it believes what a run says. */
static void *decode(void *arg) {
    const order *o = (const order *)arg;
    unsigned char row[WIDTH];
    int at = 0;
    for (int y = 0; y < HEIGHT; y++) {
        for (int x = 0, run; x < WIDTH; x += run, at += 2) {
            run = o->code[at];
            if (x + run > WIDTH) raise(SIGSEGV); /* as memset would do some pages later */
            memset(&row[x], o->code[at + 1], (size_t)run);
        }
        memcpy(o->studio->pictures[o->number][y], row, sizeof row);
        atomic_fetch_add(&o->studio->pixels, WIDTH);
        report r = { o->number, y + 1 };
        if (r.rows % REPORT_EACH == 0 && tpool_channel_send(o->progress, &r, TPOOL_FOREVER) != TPOOL_OK)
            return tpool_raise(1, "nobody wants to know");
    }
    atomic_fetch_add(&o->studio->decoded, 1);
    return NULL;
}

/* Each picture has an end, of whatever kind: the last one ends the reports. */
static tpool_channel *progress;
static atomic_int left = PICTURES, crashed;
static void picture_done(tpool_future *future, void *context) {
    (void)context;
    if (tpool_future_result(future, 0, NULL) == TPOOL_BROKEN) atomic_fetch_add(&crashed, 1);
    if (atomic_fetch_sub(&left, 1) == 1) (void)tpool_channel_close(progress);
}

int main(void) {
    tpool *pool;
    tpool_config config = { .kind = TPOOL_PROCESSES, .max_workers = 4, .shared_size = 4 << 20 };
    if (tpool_create(&pool, &config) != TPOOL_OK) return 1;
    studio *s = (studio *)tpool_shared_alloc(pool, sizeof *s); /* zeroed */
    tpool_channel_config reports = { .capacity = 16, .item_size = sizeof(report), .shared_with = pool };
    if (!s || tpool_channel_create(&progress, &reports) != TPOOL_OK) return 1;

    for (int n = 0; n < PICTURES; n++) {
        static order o;
        tpool_future *future;
        o.studio = s;
        o.progress = progress;
        encode(&o, n);
        if (tpool_submit_copy(pool, decode, &o, sizeof o, &future) != TPOOL_OK) return 1;
        if (tpool_future_add_done_callback(future, picture_done, NULL) != TPOOL_OK) return 1;
        tpool_future_release(future);
    }

    int rows[PICTURES] = { 0 }, came = 0;
    bool right = true;
    report r;
    while (tpool_channel_receive(progress, &r, TPOOL_FOREVER) == TPOOL_OK) {
        right = right && r.rows == rows[r.number] + REPORT_EACH; /* in order, none twice */
        rows[r.number] = r.rows;
        came++;
    }

    int whole = 0;
    for (int n = 0; n < PICTURES; n++) {
        bool same = true;
        for (int y = 0; y < HEIGHT; y++)
            for (int x = 0; x < WIDTH; x++) same = same && s->pictures[n][y][x] == grey_of(n, x, y);
        whole += same;
        right = right && same == !is_broken(n) && rows[n] == (is_broken(n) ? HEIGHT / 2 : HEIGHT);
    }
    printf("%d pictures: %d decoded, %d killed their decoder; %d reports, %ld pixels\n", PICTURES,
           atomic_load(&s->decoded), atomic_load(&crashed), came, atomic_load(&s->pixels));
    right = right && whole == atomic_load(&s->decoded) && whole + atomic_load(&crashed) == PICTURES &&
            atomic_load(&crashed) > 0;
    if (tpool_channel_destroy(progress) != TPOOL_OK) return 1;
    tpool_shared_free(pool, s);
    if (!right) puts("WRONG");
    return tpool_destroy(pool) == TPOOL_OK && right ? 0 : 1;
}
