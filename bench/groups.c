/* Groups.
 *
 *   serial  1,000,000 tiny tasks over so many serial groups (strands), in turn, from one outside thread
 *   scope   a group is created, runs ten tiny tasks, and is waited for and ended: within one task, and by an outside
 *           thread that helps
 *   tree    1,000,000 tasks, each parent awaiting its children in a group of its own
 *   memory  of a serial group that nobody waits for */
#include "bench.h"

#if PEER_STRANDS && PEER_PLAIN
typedef struct serial_data {
    size_t strands;
    peer_strand *all;
} serial_data;

static void serial_submit(bench_submitter *self) {
    const serial_data *data = (const serial_data *)self->context;
    size_t strand = 0;
    for (size_t i = self->begin; i < self->end; i++) {
        peer_strand_submit(self->pool, &data->all[strand], bench_tiny, (void *)i);
        if (++strand == data->strands) strand = 0;
    }
    peer_flush(self->pool);
}
static void serial_run(const bench_case *c) {
    size_t count = bench_count(1000000);
    serial_data data;
    data.strands = (size_t)c->option;
    data.all = (peer_strand *)bench_memory(data.strands * sizeof *data.all);
    peer_pool *pool = peer_create(c->workers);
    peer_warm_up(pool, c->workers);
    for (size_t i = 0; i < data.strands; i++) peer_strand_create(pool, &data.all[i]);
    for (int pass = 0; pass < 2; pass++) {
        bench_tally_reset();
        int64_t began = bench_submit_from(1, serial_submit, pool, count, &data);
        bench_drain(pool, count);
        int64_t ended = bench_now();
        bench_tally_verify(count);
        if (pass == 1) bench_report("time", "ns/task", (double)(ended - began) / (double)count);
        bench_sleep(20000000);
    }
    for (size_t i = 0; i < data.strands; i++) peer_strand_destroy(&data.all[i]);
    peer_destroy(pool);
    free(data.all);
}

static const bench_case serial_cases[] = {
    { "groups/serial-1", "1,000,000 tiny tasks over one serial group", serial_run, 1, 2, 1 },
    { "groups/serial-64", "the same over 64", serial_run, 1, 2, 64 },
    { "groups/serial-10000", "the same over 10,000", serial_run, 1, 2, 10000 },
};
BENCH_WORKLOAD(serial_cases)
#endif

#if PEER_SCOPES
enum { SCOPE_TASKS = 10, SCOPE_WITHIN = 0, SCOPE_OUTSIDE = 1 };

typedef struct scope_data {
    peer_pool *pool;
    size_t scopes;
    int64_t took;
} scope_data;

static void scope_body(void *of) {
    scope_data *data = (scope_data *)of;
    void *args[SCOPE_TASKS];
    int64_t began = bench_now();
    for (size_t i = 0; i < data->scopes; i++) {
        for (size_t k = 0; k < SCOPE_TASKS; k++) args[k] = (void *)(i * SCOPE_TASKS + k);
        peer_scope(data->pool, bench_tiny, args, SCOPE_TASKS);
    }
    data->took = bench_now() - began;
}
static void *scope_task(void *of) {
    scope_body(of);
    return NULL;
}
static void scope_run(const bench_case *c) {
    scope_data data;
    data.scopes = bench_count(100000);
    data.pool = peer_create(c->workers);
    peer_warm_up(data.pool, c->workers);
    for (int pass = 0; pass < 2; pass++) {
        bench_tally_reset();
        if (c->option == SCOPE_WITHIN) {
            (void)peer_root(data.pool, scope_task, &data);
        } else {
#if PEER_OUTSIDE
            peer_outside(data.pool, scope_body, &data);
#else
            scope_body(&data);
#endif
        }
        bench_tally_verify(data.scopes * SCOPE_TASKS);
    }
    bench_report("time", "ns/scope", (double)data.took / (double)data.scopes);
    peer_destroy(data.pool);
}

static peer_pool *grouped_pool;
static size_t grouped_count, grouped_fan_out;

/* The children of task i are i * fan_out + 1 and the following. */
static void *grouped_task(void *arg) {
    size_t number = (size_t)arg, child = number * grouped_fan_out + 1;
    int children = 0;
    void *args[16];
    bench_tally_add(number);
    while ((size_t)children < grouped_fan_out && child < grouped_count) args[children++] = (void *)child++;
    if (children > 0) peer_scope(grouped_pool, grouped_task, args, children);
    return NULL;
}
static void grouped_run(const bench_case *c) {
    grouped_count = bench_count(1000000);
    grouped_fan_out = (size_t)c->option;
    grouped_pool = peer_create(c->workers);
    peer_warm_up(grouped_pool, c->workers);
    int64_t took = 0;
    for (int pass = 0; pass < 2; pass++) {
        bench_tally_reset();
        int64_t began = bench_now();
        (void)peer_root(grouped_pool, grouped_task, NULL);
        took = bench_now() - began;
        bench_tally_verify(grouped_count);
        bench_sleep(20000000);
    }
    bench_report("time", "ns/task", (double)took / (double)grouped_count);
    peer_destroy(grouped_pool);
}

static const bench_case scope_cases[] = {
    { "groups/scope-within", "a group of ten tiny tasks, begin to end, within a task", scope_run, 1, 2, SCOPE_WITHIN },
    { "groups/scope-outside", "the same from outside, the thread that waits helps", scope_run, 1, 2, SCOPE_OUTSIDE },
    { "groups/tree-2", "a tree of 1,000,000 tasks awaiting their children in groups, 2 each", grouped_run, 1, 2, 2 },
    { "groups/tree-10", "the same, 10 each", grouped_run, 1, 2, 10 },
};
BENCH_WORKLOAD(scope_cases)
#endif

#if PEER_OURS
static void group_memory_run(const bench_case *c) {
    size_t count = bench_count(1000000);
    peer_strand *all = (peer_strand *)bench_memory(count * sizeof *all);
    peer_pool *pool = peer_create(c->workers);
    peer_warm_up(pool, c->workers);
    long before = bench_resident();
    for (size_t i = 0; i < count; i++) peer_strand_create(pool, &all[i]);
    bench_report("resident", "bytes/group", (double)(bench_resident() - before) / (double)count);
    for (size_t i = 0; i < count; i++) peer_strand_destroy(&all[i]);
    peer_destroy(pool);
    free(all);
}
static const bench_case group_memory_cases[] = {
    { "groups/memory", "memory of a serial group", group_memory_run, 1, 2, 0 },
};
BENCH_WORKLOAD(group_memory_cases)
#endif
