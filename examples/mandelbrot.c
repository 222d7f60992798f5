/* mandelbrot: a loop on all CPUs whose rows differ in cost, by tpool_for: a picture, and how much faster it came.
 *
 *     cc -std=c11 -O2 -pthread -I. examples/mandelbrot.c -o mandelbrot && ./mandelbrot >picture.pgm
 *
 * tpool_for calls the body for parts of the range, side by side, and returns when all are done; the caller takes part.
 * Rows through the middle of the set cost a hundred times as much as those at its edge. Nobody has to know that: parts
 * are made as workers become free. The body writes to its own rows only, so it needs no lock.
 */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 640, HEIGHT = 480, DEEPEST = 500 };

typedef struct picture {
    unsigned char grey[HEIGHT][WIDTH];
} picture;

static unsigned char point(double re, double im) {
    double x = 0, y = 0;
    for (int steps = 0; steps < DEEPEST; steps++) {
        double next = x * x - y * y + re;
        y = 2 * x * y + im;
        x = next;
        if (x * x + y * y > 4) return (unsigned char)(255 - steps % 256);
    }
    return 0;
}

/* The body: rows begin to end, end not included. */
static void draw_rows(size_t begin, size_t end, void *context) {
    picture *p = context;
    for (size_t row = begin; row < end; row++)
        for (size_t column = 0; column < WIDTH; column++)
            p->grey[row][column] = point(-2.2 + 3.2 * (double)column / WIDTH, -1.2 + 2.4 * (double)row / HEIGHT);
}

static void require(tpool_status status, const char *what) {
    if (status == TPOOL_OK) return;
    fprintf(stderr, "mandelbrot: %s: %s\n", what, tpool_status_text(status));
    exit(EXIT_FAILURE);
}

int main(void) {
    static picture alone, together;
    tpool *pool;
    require(tpool_create(&pool, NULL), "tpool_create");

    int64_t began = tpool_now();
    draw_rows(0, HEIGHT, &alone);
    int64_t one = tpool_now() - began;

    began = tpool_now();
    require(tpool_for(pool, 0, HEIGHT, 0, draw_rows, &together), "tpool_for");
    int64_t all = tpool_now() - began;
    require(tpool_destroy(pool), "tpool_destroy");

    fprintf(stderr, "%.1f ms on one CPU, %.1f ms on %d: %.2f times as fast\n", (double)one / 1e6, (double)all / 1e6,
            tpool_cpu_count(), (double)one / (double)all);
    printf("P5\n%d %d\n255\n", WIDTH, HEIGHT);
    fwrite(together.grey, 1, sizeof together.grey, stdout);
    return memcmp(&alone, &together, sizeof alone) == 0 && fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
