/* What it costs to be told. One worker runs tiny tasks that a task of its own pool has submitted, so that a task's time
 * is that thread's, and no cache line goes to another CPU. Pools that differ in what is observed take turns, a thousand
 * tasks each time; a figure is the difference of their shortest turns.
 *
 *   call    one call of an observer that does nothing, of SUBMITTED and STARTED, over a pool that is observed and has
 *           nothing to tell; `end`: of ENDED (with STARTED, too, the next start would have to ask the clock again)
 *   trace   a traced task (three events) in a pool with config.measure, over one without the trace
 *   write   a million events, written as JSON to a function that only counts the bytes
 *   describe, of a pool of 64 workers whose tasks all wait */
#include "bench.h"
#if PEER_OURS

enum { OBSERVED_TASKS = 1000, OBSERVED_MOST = 4 };

typedef struct observed_pool {
    unsigned kinds;
    bool measure, trace;
    tpool *pool;
    double least; /* ns a task */
} observed_pool;

static void observed_ignore(const tpool_event *event, void *context) {
    (void)event;
    (void)context;
}
static void *observed_submit(void *pool) {
    for (size_t i = 0; i < OBSERVED_TASKS; i++) peer_submit((peer_pool *)pool, bench_tiny, (void *)i);
    return NULL;
}
static void observed_turn(observed_pool *of) {
    int64_t began = bench_now();
    peer_submit(of->pool, observed_submit, of->pool);
    peer_drain(of->pool);
    double took = (double)(bench_now() - began) / OBSERVED_TASKS;
    if (of->least == 0 || took < of->least) of->least = took;
}
static void observed_compare(observed_pool *all, int count) {
    for (int i = 0; i < count; i++) {
        tpool_config config = { .max_workers = 1,
                                .measure = all[i].measure,
                                .observer = all[i].kinds ? observed_ignore : NULL,
                                .observed = all[i].kinds };
        PEER_MUST(tpool_create(&all[i].pool, &config));
        if (all[i].trace) PEER_MUST(tpool_trace_start(all[i].pool, 0));
    }
    size_t turns = bench_count(3000);
    for (size_t turn = 0; turn < turns; turn++)
        for (int i = 0; i < count; i++) observed_turn(&all[i]);
    for (int i = 0; i < count; i++) peer_destroy(all[i].pool);
}
static void observed_run(const bench_case *c) {
    (void)c;
    observed_pool all[OBSERVED_MOST] = { { .kinds = TPOOL_EVENT_BLOCKED },
                                         { .kinds = TPOOL_EVENT_SUBMITTED | TPOOL_EVENT_STARTED },
                                         { .kinds = TPOOL_EVENT_ENDED } };
    observed_compare(all, 3);
    bench_report("call", "ns", (all[1].least - all[0].least) / 2);
    bench_report("end", "ns", all[2].least - all[0].least);
}
static void observed_trace_run(const bench_case *c) {
    (void)c;
    observed_pool all[OBSERVED_MOST] = { { .measure = true }, { .measure = true, .trace = true } };
    observed_compare(all, 2);
    bench_report("trace", "ns/task", all[1].least - all[0].least);
}

static bool observed_count_bytes(const char *bytes, size_t size, void *context) {
    (void)bytes;
    *(size_t *)context += size;
    return true;
}
static void observed_write_run(const bench_case *c) {
    size_t events = bench_count(1000000), size = 0;
    peer_pool *pool = peer_create(c->workers);
    PEER_MUST(tpool_trace_start(pool, (events + events / 2) * 32));
    for (size_t i = 0; i < events / 3; i += OBSERVED_TASKS) peer_submit(pool, observed_submit, pool);
    peer_drain(pool);
    int64_t began = bench_now();
    PEER_MUST(tpool_trace_write(pool, observed_count_bytes, &size));
    bench_report("time", "s", (double)(bench_now() - began) / 1e9);
    bench_report("size", "bytes/event", (double)size / (double)events);
    peer_destroy(pool);
}

static void observed_describe_run(const bench_case *c) {
    enum { TIMES = 1000 };
    static int64_t samples[TIMES];
    size_t size = 0, times = bench_quick ? 10 : TIMES;
    peer_pool *pool = peer_create_configured(c->workers, true);
    for (int i = 0; i < c->workers; i++) peer_submit(pool, bench_wait_at_gate, NULL);
    bench_gate_await(c->workers);
    for (size_t i = 0; i < times; i++) {
        int64_t began = bench_now();
        PEER_MUST(tpool_describe(pool, observed_count_bytes, &size));
        samples[i] = bench_now() - began;
    }
    bench_gate_open();
    peer_destroy(pool);
    bench_report_samples(samples, times, "us", 1000);
}

static const bench_case observed_cases[] = {
    { "observation/observer", "an observer that does nothing", observed_run, 1, 1, 0 },
    { "observation/trace", "a trace, over config.measure", observed_trace_run, 1, 1, 0 },
    { "observation/write", "a million events of a trace written", observed_write_run, 1, 1, 0 },
    { "observation/describe", "tpool_describe of 64 workers", observed_describe_run, 1, 64, 0 },
};
BENCH_WORKLOAD(observed_cases)
#endif
