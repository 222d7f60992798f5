/* data_sets: several data sets, one after the other, on one managed pool. Each part of the program asks for the pool
 * that it wants and gives it back when it is through, without knowing of the others; the pool and its threads are there
 * all the time, and are made once.
 *
 *     cc -std=c11 -pthread -I. examples/data_sets.c -o data_sets && ./data_sets
 *
 * A data set is a series of measurements. For each the program finds mean, least and most, by a map over its blocks. */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
#include <stdio.h>

enum { SETS = 10, READINGS = 200000, BLOCK = 5000, WORKERS = 4 };

typedef struct summary {
    double sum;
    float least, most;
    size_t count;
} summary;

typedef struct data_set {
    int number;
    float *readings;
    summary whole;
} data_set;

/* A made-up sensor: the same numbers in every run, and an exact mean to check against. */
static float reading(int set, size_t i) { return (float)((i * 7919 + (size_t)set * 31) % 1000) / 10.0f; }

static void *summarize(void *item, void *context) {
    const float *at = item;
    summary s = { 0, at[0], at[0], BLOCK };
    (void)context;
    for (int i = 0; i < BLOCK; i++) {
        s.sum += at[i];
        if (at[i] < s.least) s.least = at[i];
        if (at[i] > s.most) s.most = at[i];
    }
    return tpool_return(&s, sizeof s);
}

/* What tpool_with_pool calls; whatever this gives, the pool is released. */
static tpool_status process(tpool *pool, void *context) {
    data_set *set = context;
    tpool_map_iter *blocks;
    tpool_map_spec spec = {
        .fn = summarize, .items = set->readings, .count = READINGS / BLOCK, .stride = BLOCK * sizeof *set->readings
    };
    void *result;
    tpool_status status = tpool_map(pool, &spec, &blocks);
    if (status != TPOOL_OK) return status;
    while ((status = tpool_map_next(blocks, TPOOL_SEC(30), &result)) == TPOOL_OK) {
        const summary *part = result;
        if (set->whole.count == 0) set->whole = *part;
        else {
            set->whole.sum += part->sum;
            set->whole.count += part->count;
            if (part->least < set->whole.least) set->whole.least = part->least;
            if (part->most > set->whole.most) set->whole.most = part->most;
        }
    }
    tpool_map_close(blocks);
    return status == TPOOL_END ? TPOOL_OK : status;
}

int main(void) {
    static float readings[READINGS];
    int wrong = 0;
    for (int number = 0; number < SETS; number++) {
        data_set set = { .number = number, .readings = readings };
        for (size_t i = 0; i < READINGS; i++) readings[i] = reading(number, i);
        tpool_status status = tpool_with_pool(NULL, WORKERS, TPOOL_THREADS, process, &set);
        if (status != TPOOL_OK) {
            fprintf(stderr, "data set %d: %s\n", number, tpool_status_text(status));
            return 1;
        }
        printf("data set %2d: %zu readings, mean %.3f, from %.1f to %.1f\n", number, set.whole.count,
               set.whole.sum / (double)set.whole.count, (double)set.whole.least, (double)set.whole.most);
        /* each of the thousand values comes 200 times, so the mean is 49.95 */
        double off = set.whole.sum / (double)set.whole.count - 49.95;
        if (set.whole.count != READINGS || off > 0.001 || off < -0.001) wrong++;
    }
    tpool_manager_stats stats;
    if (tpool_manager_get_stats(NULL, &stats) != TPOOL_OK) return 1;
    printf("%llu pool made, lent %llu times more\n", (unsigned long long)stats.created,
           (unsigned long long)stats.reused);
    return wrong == 0 && stats.created == 1 && stats.reused == SETS - 1 && stats.in_use == 0 ? 0 : 1;
}
