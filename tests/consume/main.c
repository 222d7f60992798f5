/* A program of its own, in a project of its own, that gets tpool.h from elsewhere: the squares of 1 to 10, and their
   sum. */
#define TPOOL_IMPLEMENTATION
#include <tpool.h>
#include <stdio.h>
#include <stdlib.h>

static void *square(void *arg) {
    int *number = arg;
    *number *= *number;
    return number;
}

int main(void) {
    int numbers[10], sum = 0;
    tpool_future *futures[10];
    tpool *pool;
    if (tpool_create(&pool, NULL) != TPOOL_OK) return EXIT_FAILURE;
    for (int i = 0; i < 10; i++) {
        numbers[i] = i + 1;
        if (tpool_submit(pool, square, &numbers[i], &futures[i]) != TPOOL_OK) return EXIT_FAILURE;
    }
    for (int i = 0; i < 10; i++) {
        void *result;
        if (tpool_future_result(futures[i], TPOOL_FOREVER, &result) != TPOOL_OK) return EXIT_FAILURE;
        sum += *(int *)result;
        tpool_future_release(futures[i]);
    }
    if (tpool_destroy(pool) != TPOOL_OK) return EXIT_FAILURE;
    printf("%s %d\n", tpool_version(), sum);
    return EXIT_SUCCESS;
}
