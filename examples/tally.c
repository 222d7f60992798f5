/* tally: processes that count into memory which they share, and may crash while they do.
 *
 *     cc -std=c11 -O2 -pthread -I. examples/tally.c -o tally && ./tally
 *
 * Records of letters come from strangers, and the parser has a fault: some records kill it. So it runs in a pool of
 * processes. Each worker adds what it finds to one table, under a mutex. A worker that dies with the mutex leaves the
 * table half written: the next one that takes it gets TPOOL_BROKEN, and mends the table. In Python, where the death of
 * a process within `with lock` stops all others for good:
 *
 *      from multiprocessing import Array, Lock, Process, Value     static tpool_shared_mutex, int, atomic_int
 *                                                                  in a struct that tpool_shared_alloc gives
 *      done = Value('i', 0)                                        atomic_int done;
 *      counts = Array('i', 26, lock=False)                         int counts[26];
 *      lock = Lock()                                               tpool_shared_mutex lock;
 *
 *      def tally(record):                                          static void *tally(void *arg)
 *          found = parse(record)
 *          with lock:                                              tpool_shared_lock(&table->lock, TPOOL_FOREVER)
 *              for letter, n in found: counts[letter] += n
 *                                                                  tpool_shared_unlock(&table->lock)
 *          with done.get_lock(): done.value += 1                   atomic_fetch_add(&table->done, 1)
 *
 * Python hands Value, Array and Lock to each process as it starts it. Here a pointer is an argument like any other. */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { LETTERS = 26, RECORDS = 300, LENGTH = 100 };

typedef struct table {
    tpool_shared_mutex lock;
    int counts[LETTERS]; /* the lock guards these ... */
    int saved[LETTERS];  /* ... as they were before the record that is being added; ... */
    int adding;          /* ... 1: one is */
    atomic_int done, mended;
} table;

typedef struct record {
    table *table;
    char letters[LENGTH];
} record;

static bool is_bad(int number) { return number % 29 == 7; }
static record record_number(table *t, int number) {
    record r = { .table = t };
    for (int i = 0; i < LENGTH; i++) r.letters[i] = (char)('a' + (number * 31 + i * i) % LETTERS);
    if (is_bad(number)) r.letters[LENGTH / 2] = '!';
    return r;
}

/* In a worker. */
static void *tally(void *arg) {
    const record *r = arg;
    table *t = r->table;
    tpool_status status = tpool_shared_lock(&t->lock, TPOOL_FOREVER);
    if (status != TPOOL_OK && status != TPOOL_BROKEN) return tpool_raise(1, "no lock: %s", tpool_status_text(status));
    if (status == TPOOL_BROKEN && t->adding) { /* its record counts as a whole or not at all */
        memcpy(t->counts, t->saved, sizeof t->counts);
        atomic_fetch_add(&t->mended, 1);
    }
    memcpy(t->saved, t->counts, sizeof t->saved);
    t->adding = 1;
    for (int i = 0; i < LENGTH; i++) {
        if (r->letters[i] == '!') raise(SIGKILL); /* the parser's fault, at the worst moment */
        t->counts[r->letters[i] - 'a']++;
    }
    t->adding = 0;
    if (tpool_shared_unlock(&t->lock) != TPOOL_OK) return tpool_raise(2, "no unlock");
    atomic_fetch_add(&t->done, 1);
    return NULL;
}

int main(void) {
    tpool *pool;
    tpool_config config = { .kind = TPOOL_PROCESSES, .max_workers = 4, .shared_size = 1 << 20 };
    if (tpool_create(&pool, &config) != TPOOL_OK) return 1;
    table *t = tpool_shared_alloc(pool, sizeof *t); /* zeroed: the lock is ready */
    if (!t) return 1;

    static tpool_future *futures[RECORDS];
    int expected[LETTERS] = { 0 }, good = 0, broken = 0;
    for (int n = 0; n < RECORDS; n++) {
        record r = record_number(t, n);
        if (tpool_submit_copy(pool, tally, &r, sizeof r, &futures[n]) != TPOOL_OK) return 1;
        good += !is_bad(n);
        for (int i = 0; i < LENGTH && !is_bad(n); i++) expected[r.letters[i] - 'a']++;
    }
    for (int n = 0; n < RECORDS; n++) {
        tpool_status status = tpool_future_result(futures[n], TPOOL_FOREVER, NULL);
        if ((status == TPOOL_BROKEN) != is_bad(n)) return 1;
        broken += status == TPOOL_BROKEN;
        tpool_future_release(futures[n]);
    }
    printf("%d records counted, %d crashed the parser, the table was mended %d times\n", atomic_load(&t->done), broken,
           atomic_load(&t->mended));

    /* the last crash may have left the table to the program */
    tpool_status status = tpool_shared_lock(&t->lock, TPOOL_FOREVER);
    if (status == TPOOL_BROKEN && t->adding) memcpy(t->counts, t->saved, sizeof t->counts);
    bool right = atomic_load(&t->done) == good && memcmp(t->counts, expected, sizeof expected) == 0;
    if (tpool_shared_unlock(&t->lock) != TPOOL_OK) return 1;
    tpool_shared_free(pool, t);
    return tpool_destroy(pool) == TPOOL_OK && right ? 0 : 1;
}
