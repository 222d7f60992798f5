/* Memory with an endless producer against a slow consumer: a task's argument, or a result of a map, is 64 KiB that are
 * allocated and touched, as fast as it is let. Resident memory is looked at all along: `most` is the most of it beyond
 * the start, and `grown` the most of the last half less the most of the first, about zero where memory is bounded. The
 * cases `no-buffer` and `unbounded` do the same without a bound. */
#include "bench.h"
#if PEER_OURS
#include <malloc.h>

enum { BOUNDED_BYTES = 64 * 1024, BOUNDED_BUFFER = 32 };

static double bounded_resident(void) { return (double)bench_resident() / 1024 / 1024; }

static struct {
    double start, first, second;
    size_t looks;
    long consumed, freed, made;
} bounded;

static void bounded_begin(void) {
    mallopt(M_MMAP_THRESHOLD, 32 * 1024); /* what is freed goes back to the system, and is seen to */
    memset(&bounded, 0, sizeof bounded);
    bounded_resident();
    bounded.start = bounded_resident();
}
static void bounded_look(size_t done, size_t count) {
    double now = bounded_resident() - bounded.start, *most = done < count / 2 ? &bounded.first : &bounded.second;
    if (now > *most) *most = now;
    bounded.looks++;
}
static void bounded_end(void) {
    bench_check(bounded.looks > 8);
    bench_check(__atomic_load_n(&bounded.freed, __ATOMIC_ACQUIRE) == __atomic_load_n(&bounded.made, __ATOMIC_ACQUIRE));
    bench_report("most", "MiB", bounded.second > bounded.first ? bounded.second : bounded.first);
    bench_report("grown", "MiB", bounded.second - bounded.first);
    bench_report("consumed", "items", (double)__atomic_load_n(&bounded.consumed, __ATOMIC_ACQUIRE));
    bench_report("produced", "items", (double)bounded.made);
}

static void *bounded_item(void) {
    char *item = (char *)malloc(BOUNDED_BYTES);
    bench_check(item != NULL);
    memset(item, 1, BOUNDED_BYTES);
    __atomic_fetch_add(&bounded.made, 1, __ATOMIC_RELAXED);
    return item;
}
static void bounded_free(void *item) {
    free(item);
    __atomic_fetch_add(&bounded.freed, 1, __ATOMIC_RELEASE);
}

/* --- buffer_size: a map whose results are large, and are taken slowly: over a source without end, or over an array */

static bool bounded_next(void *context, void **item) {
    *item = context;
    return true;
}
static void *bounded_make(void *item, void *context) {
    (void)item;
    (void)context;
    return tpool_return_owned(bounded_item(), bounded_free);
}
static void bounded_map(const bench_case *c) {
    size_t count = bench_quick ? 40 : 2000;
    tpool_map_spec spec;
    tpool_map_iter *iter = NULL;
    tpool_config config;
    tpool *pool = NULL;
    char *items = (char *)bench_memory(count);
    memset(&spec, 0, sizeof spec);
    memset(&config, 0, sizeof config);
    config.max_workers = c->workers;
    bench_check(tpool_create(&pool, &config) == TPOOL_OK);
    spec.fn = bounded_make;
    spec.context = items;
    spec.chunk_size = 1;
    if (c->option) {
        spec.next = bounded_next;
        spec.buffer_size = BOUNDED_BUFFER;
    } else {
        spec.items = items;
        spec.stride = 1;
        spec.count = count;
    }
    bounded_begin();
    bench_check(tpool_map(pool, &spec, &iter) == TPOOL_OK);
    for (size_t i = 0; i < count; i++) {
        void *result = NULL;
        bench_check(tpool_map_next(iter, TPOOL_FOREVER, &result) == TPOOL_OK);
        bench_check(((char *)result)[0] == 1 && ((char *)result)[BOUNDED_BYTES - 1] == 1);
        bounded.consumed++;
        bench_sleep(500000);
        if (i % (bench_quick ? 4 : 32) == 0) bounded_look(i, count);
    }
    tpool_map_close(iter);
    bench_check(tpool_destroy(pool) == TPOOL_OK);
    free(items);
    bounded_end();
}

/* --- queue_capacity and expires_ns: tasks that are submitted faster than they run */

static void *bounded_slow(void *item) {
    bench_check(((char *)item)[0] == 1);
    bench_sleep(500000);
    __atomic_fetch_add(&bounded.consumed, 1, __ATOMIC_RELAXED);
    return NULL;
}
enum { BOUNDED_NOT, BOUNDED_BY_CAPACITY, BOUNDED_BY_DROPPING, BOUNDED_BY_EXPIRY };
static void bounded_queue(const bench_case *c) {
    tpool_config config;
    tpool_task task;
    tpool *pool = NULL;
    int64_t until = bench_now() + (bench_quick ? 60 : 2000) * INT64_C(1000000), began = bench_now();
    memset(&config, 0, sizeof config);
    memset(&task, 0, sizeof task);
    config.max_workers = c->workers;
    if (c->option == BOUNDED_BY_CAPACITY || c->option == BOUNDED_BY_DROPPING) config.queue_capacity = BOUNDED_BUFFER;
    if (c->option == BOUNDED_BY_DROPPING) config.on_full = TPOOL_FULL_DROP_OLDEST;
    bench_check(tpool_create(&pool, &config) == TPOOL_OK);
    task.fn = bounded_slow;
    task.arg_free = bounded_free;
    if (c->option == BOUNDED_BY_EXPIRY) task.expires_ns = TPOOL_MS(20);
    bounded_begin();
    for (size_t i = 0; bench_now() < until || bounded.looks <= 8; i++) { /* however slow the machine is */
        task.arg = bounded_item();
        bench_check(tpool_submit_task(pool, &task, NULL) == TPOOL_OK);
        if (c->option != BOUNDED_BY_CAPACITY) bench_sleep(100000); /* five times as fast as a worker is */
        if (i % (bench_quick ? 8 : 128) == 0) bounded_look((size_t)(bench_now() - began), (size_t)(until - began));
    }
    bench_check(tpool_shutdown(pool, TPOOL_CANCEL_PENDING) == TPOOL_OK && tpool_destroy(pool) == TPOOL_OK);
    bounded_end();
}

static const bench_case bounded_cases[] = {
    { "bounded/buffer_size", "a map over an endless source, a buffer of 32", bounded_map, 1, 2, 1 },
    { "bounded/no-buffer", "a map over an array of 2,000, without a buffer", bounded_map, 1, 2, 0 },
    { "bounded/queue_capacity", "an endless producer, a queue of 32 that blocks", bounded_queue, 1, 1,
      BOUNDED_BY_CAPACITY },
    { "bounded/drop_oldest", "the same, a queue of 32 that drops", bounded_queue, 1, 1, BOUNDED_BY_DROPPING },
    { "bounded/expires_ns", "the same, tasks that expire after 20 ms", bounded_queue, 1, 1, BOUNDED_BY_EXPIRY },
    { "bounded/unbounded", "the same without a bound, for two seconds", bounded_queue, 1, 1, BOUNDED_NOT },
};
BENCH_WORKLOAD(bounded_cases)
#endif
