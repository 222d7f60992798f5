/* divide: nested divide and conquer with fork and join: a parallel merge sort.
 *
 *     cc -std=c11 -O2 -pthread -I. examples/divide.c -o divide && ./divide [COUNT]
 *
 * Inside a task, tpool_fork offers a call to the pool's other workers and tpool_join waits for it, or makes the
 * call itself if nobody has taken it. Neither allocates anything: the job lives on the stack, as does its
 * argument, which is safe because every fork is joined before the function returns. A fork costs little, but
 * not nothing, so small ranges are sorted in place.
 */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SMALL = 32, FORK_ABOVE = 8192 };

static void require(tpool_status status, const char *what) {
    if (status == TPOOL_OK) return;
    fprintf(stderr, "divide: %s: %s\n", what, tpool_status_text(status));
    exit(EXIT_FAILURE);
}

static void insertion_sort(int *values, size_t count) {
    for (size_t i = 1; i < count; i++) {
        int value = values[i];
        size_t at = i;
        for (; at > 0 && values[at - 1] > value; at--) values[at] = values[at - 1];
        values[at] = value;
    }
}

static void merge(const int *left, size_t left_count, const int *right, size_t right_count, int *out) {
    const int *left_end = left + left_count, *right_end = right + right_count;
    while (left < left_end && right < right_end) {
        bool take_left = *left <= *right;
        *out++ = take_left ? *left : *right;
        left += take_left;
        right += !take_left;
    }
    memcpy(out, left, (size_t)(left_end - left) * sizeof *left);
    out += left_end - left;
    memcpy(out, right, (size_t)(right_end - right) * sizeof *right);
}

typedef struct sort_part {
    int *values;
    int *scratch; /* as large as values; their roles change from one level to the next */
    size_t count;
    bool into_scratch; /* where the sorted values are wanted */
    bool parallel;
} sort_part;

static void *sort_range(void *arg) {
    sort_part *range = (sort_part *)arg;
    size_t half = range->count / 2;
    if (range->count <= SMALL) {
        insertion_sort(range->values, range->count);
        if (range->into_scratch) memcpy(range->scratch, range->values, range->count * sizeof *range->values);
        return NULL;
    }

    sort_part left = *range, right = *range;
    left.count = half;
    right.values += half;
    right.scratch += half;
    right.count -= half;
    left.into_scratch = right.into_scratch = !range->into_scratch;
    if (range->parallel && range->count > FORK_ABOVE) {
        tpool_job job;
        tpool_fork(&job, sort_range, &left); /* perhaps elsewhere */
        sort_range(&right);                  /* meanwhile here */
        tpool_join(&job);                    /* on every path out of this block */
    } else {
        sort_range(&left);
        sort_range(&right);
    }

    int *from = range->into_scratch ? range->values : range->scratch;
    int *to = range->into_scratch ? range->scratch : range->values;
    merge(from, half, from + half, range->count - half, to);
    return NULL;
}

/* Sorts on the pool's workers. */
static tpool_status sort_in_pool(tpool *pool, int *values, int *scratch, size_t count) {
    sort_part range = { values, scratch, count, false, true };
    tpool_future *future;
    tpool_status status = tpool_submit(pool, sort_range, &range, &future);
    if (status != TPOOL_OK) return status;
    status = tpool_future_result(future, TPOOL_FOREVER, NULL); /* `range` is used until here */
    tpool_future_release(future);
    return status;
}

/* The sum of all values hashed one by one: the same whatever their order. */
static uint64_t fingerprint(const int *values, size_t count) {
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t hash = (uint32_t)values[i] + UINT64_C(0x9e3779b97f4a7c15);
        hash = (hash ^ hash >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        sum += hash ^ hash >> 27;
    }
    return sum;
}

static bool is_sorted(const int *values, size_t count) {
    for (size_t i = 1; i < count; i++)
        if (values[i - 1] > values[i]) return false;
    return true;
}

int main(int argc, char **argv) {
    long wanted = argc > 1 ? strtol(argv[1], NULL, 10) : 2000000;
    if (wanted < 1 || (unsigned long)wanted > SIZE_MAX / sizeof(int)) {
        fprintf(stderr, "Usage: divide [COUNT]\n");
        return EXIT_FAILURE;
    }
    size_t count = (size_t)wanted;
    int *original = malloc(count * sizeof *original), *scratch = malloc(count * sizeof *scratch);
    int *serial = malloc(count * sizeof *serial), *parallel = malloc(count * sizeof *parallel);
    bool right = original != NULL && scratch != NULL && serial != NULL && parallel != NULL;
    if (!right) {
        fprintf(stderr, "divide: out of memory\n");
    } else {
        uint64_t random = 42;
        for (size_t i = 0; i < count; i++) {
            random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            original[i] = (int)(random >> 33) - (1 << 30);
        }
        memcpy(serial, original, count * sizeof *serial);
        memcpy(parallel, original, count * sizeof *parallel);
        memset(scratch, 0, count * sizeof *scratch); /* so that neither pays for the first touch */

        int64_t start = tpool_now();
        sort_range(&(sort_part){ serial, scratch, count, false, false });
        int64_t serial_ns = tpool_now() - start;

        tpool *pool;
        require(tpool_create(&pool, &(tpool_config){ .name = "sort" }), "creating the pool");
        require(tpool_warm_up(pool, tpool_cpu_count()), "starting the workers");
        start = tpool_now();
        require(sort_in_pool(pool, parallel, scratch, count), "sorting");
        int64_t parallel_ns = tpool_now() - start;
        require(tpool_destroy(pool), "destroying the pool");

        printf("%zu ints: %.0f ms alone, %.0f ms with %d workers, %.2f times faster\n", count, (double)serial_ns / 1e6,
               (double)parallel_ns / 1e6, tpool_cpu_count(), (double)serial_ns / (double)parallel_ns);
        right = is_sorted(parallel, count) && fingerprint(parallel, count) == fingerprint(original, count) &&
                memcmp(parallel, serial, count * sizeof *serial) == 0;
        if (!right) puts("WRONG");
    }
    free(original), free(scratch), free(serial), free(parallel);
    return right ? EXIT_SUCCESS : EXIT_FAILURE;
}
