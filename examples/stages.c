/* stages: three stages of one pool, joined by two short channels.
 *
 *     cc -std=c11 -O2 -pthread -I. examples/stages.c -o stages && ./stages
 *
 * One task reads (here: makes) blocks of numbers, three tasks sort them, one task writes (here: checks) them. Each
 * stage is as fast as the slowest allows: who sends into a full channel waits, and a spare worker runs other
 * tasks meanwhile. So there are never more blocks in memory than the channels and the tasks hold.
 *
 *  - A block is sent as a pointer, and belongs to whoever has received it. What is left when the program gives up is
 *    freed by item_free.
 *  - The end goes downstream: the reader closes its channel, the last sorter to see TPOOL_END closes the next.
 *  - A failure goes upstream: the writer closes the channel that it reads, and every send gives TPOOL_SHUTDOWN.
 */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { BLOCKS = 200, NUMBERS = 2000, PLACES = 4, SORTERS = 3 };
enum { BLOCKS_AT_MOST = 2 * PLACES + SORTERS + 2 };

typedef struct block {
    int number, values[NUMBERS];
} block;

typedef struct stages {
    tpool_channel *unsorted, *sorted;
    atomic_int sorters;        /* that have not seen the end */
    atomic_int alive, at_most; /* blocks */
    atomic_bool give_up;       /* the writer fails in the middle */
    int written;
} stages;

static stages line = { .sorters = SORTERS };

static void block_free(void *item) {
    atomic_fetch_sub(&line.alive, 1);
    free(item);
}

static void *reader(void *arg) {
    unsigned random = 1;
    for (int i = 0; i < BLOCKS; i++) {
        block *b = malloc(sizeof *b);
        if (!b) {
            (void)tpool_channel_close(line.unsorted);
            return tpool_raise(1, "out of memory");
        }
        int alive = 1 + atomic_fetch_add(&line.alive, 1), most = atomic_load(&line.at_most);
        while (alive > most && !atomic_compare_exchange_weak(&line.at_most, &most, alive)) { }
        b->number = i;
        for (int k = 0; k < NUMBERS; k++) b->values[k] = (int)((random = random * 1664525u + 1013904223u) >> 8);
        if (tpool_channel_send(line.unsorted, b, TPOOL_FOREVER) != TPOOL_OK) { /* nobody wants it: it is still ours */
            block_free(b);
            break;
        }
    }
    (void)tpool_channel_close(line.unsorted);
    return arg;
}

static int compare(const void *left, const void *right) {
    int a = *(const int *)left, b = *(const int *)right;
    return (a > b) - (a < b);
}
static void *sorter(void *arg) {
    void *item;
    while (tpool_channel_receive(line.unsorted, &item, TPOOL_FOREVER) == TPOOL_OK) {
        block *b = item;
        qsort(b->values, NUMBERS, sizeof b->values[0], compare);
        if (tpool_channel_send(line.sorted, b, TPOOL_FOREVER) != TPOOL_OK) {
            block_free(b);
            (void)tpool_channel_close(line.unsorted); /* tells the reader */
            break;
        }
    }
    if (atomic_fetch_sub(&line.sorters, 1) == 1) (void)tpool_channel_close(line.sorted);
    return arg;
}

static void *writer(void *arg) {
    void *item;
    while (tpool_channel_receive(line.sorted, &item, TPOOL_FOREVER) == TPOOL_OK) {
        const block *b = item;
        int wrong = 0;
        for (int k = 1; k < NUMBERS; k++) wrong += b->values[k - 1] > b->values[k];
        block_free(item);
        if (wrong) return tpool_raise(2, "%d numbers out of order", wrong);
        line.written++;
        if (atomic_load(&line.give_up) && line.written == BLOCKS / 4) {
            (void)tpool_channel_close(line.sorted);
            return tpool_raise(3, "the disk is full");
        }
    }
    return arg;
}

/* True: it went as it should. */
static bool run(tpool *pool, bool give_up) {
    tpool_channel_config config = { .capacity = PLACES, .item_free = block_free };
    tpool_future *tasks[SORTERS + 2];
    bool well = true;
    atomic_store(&line.give_up, give_up);
    atomic_store(&line.sorters, SORTERS);
    line.written = 0;
    if (tpool_channel_create(&line.unsorted, &config) != TPOOL_OK) return false;
    if (tpool_channel_create(&line.sorted, &config) != TPOOL_OK) return false;
    for (int i = 0; i < SORTERS + 2; i++)
        if (tpool_submit(pool, i == 0 ? reader : i <= SORTERS ? sorter : writer, NULL, &tasks[i]) != TPOOL_OK)
            return false;
    for (int i = 0; i < SORTERS + 2; i++) {
        tpool_status status = tpool_future_result(tasks[i], TPOOL_FOREVER, NULL);
        if (status != TPOOL_OK) printf("stage %d: %s\n", i, tpool_future_message(tasks[i]));
        well = well && status == (give_up && i == SORTERS + 1 ? TPOOL_FAILED : TPOOL_OK);
        tpool_future_release(tasks[i]);
    }
    (void)tpool_channel_destroy(line.unsorted); /* frees what nobody has received */
    (void)tpool_channel_destroy(line.sorted);
    printf("%d blocks written, at most %d in memory, %d left\n", line.written, atomic_load(&line.at_most),
           atomic_load(&line.alive));
    return well && line.written == (give_up ? BLOCKS / 4 : BLOCKS) && atomic_load(&line.alive) == 0 &&
           atomic_load(&line.at_most) <= BLOCKS_AT_MOST;
}

int main(void) {
    tpool *pool;
    /* fewer than there are stages: spare workers do the rest */
    tpool_config config = { .max_workers = 2, .max_spares = 5 };
    if (tpool_create(&pool, &config) != TPOOL_OK) return EXIT_FAILURE;
    bool well = run(pool, false);
    well = run(pool, true) && well;
    if (tpool_destroy(pool) != TPOOL_OK) return EXIT_FAILURE;
    return well ? EXIT_SUCCESS : EXIT_FAILURE;
}
