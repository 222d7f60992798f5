/* Traces: what is kept, what is written of it. With TRACE_FOLDER in the environment each test leaves there what it has
   written, for tools/trace_json.py, which reads it as strictly as a reader of JSON may. */
#if !defined(_WIN32)
#include "support/children.h"
#else
#include "support.h"
#endif
#include "support/held.h"

/* ---- What was written: an event a line ---- */

enum { MOST_EVENTS = 40000 };
typedef struct event {
    char phase, category[16], name[800];
    int thread;
    double ts;
    unsigned long long task, other, arrow;
    bool comes, goes; /* the arrow */
    char status[24];
} event;
static struct {
    char *text;
    size_t used, size;
    int calls, most_calls; /* most_calls > 0: gives false in that call */
} written;
static event *events;
static int count;

static bool keep(const char *bytes, size_t size, void *context) {
    (void)context;
    written.calls++;
    if (written.used + size + 1 > written.size) {
        written.size = 2 * (written.used + size + 1);
        written.text = realloc(written.text, written.size);
        REQUIRE(written.text != NULL);
    }
    memcpy(written.text + written.used, bytes, size);
    written.used += size;
    written.text[written.used] = 0;
    return written.calls != written.most_calls;
}
/* An end says only its status: of what, the beginning on the same line has said. */
static void close_slices(void) {
    for (int thread = 1; thread < 200; thread++) {
        static event *stack[400];
        int depth = 0;
        for (int i = 0; i < count; i++) {
            event *e = &events[i];
            if (e->thread != thread) continue;
            assert_true(depth < 400);
            if (e->phase == 'B') stack[depth++] = e;
            if (e->phase != 'E') continue;
            assert_true(depth > 0);
            const event *begun = stack[--depth];
            e->task = begun->task;
            memcpy(e->category, begun->category, sizeof e->category);
            memcpy(e->name, begun->name, sizeof e->name);
            assert_true(!e->status[0] || strcmp(e->category, "task") == 0);
        }
    }
}
static const char *behind(const char *text, const char *key) {
    const char *at = strstr(text, key);
    return at ? at + strlen(key) : NULL;
}
static void parse(void) {
    count = 0;
    for (char *line = written.text; line && *line; line = strchr(line, '\n'), line += line != NULL) {
        event *e = &events[count];
        memset(e, 0, sizeof *e);
        char text[1200];
        (void)snprintf(text, sizeof text, "%.*s", (int)strcspn(line, "\n"), line);
        if (sscanf(text, "{\"ph\":\"%c\",\"pid\":1,\"tid\":%d,\"ts\":%lf", &e->phase, &e->thread, &e->ts) != 3)
            continue;
        e->thread -= 2; /* a worker's index plus one; 0: other threads */
        const char *at;
        if ((at = behind(text, "\"cat\":\"")) != NULL) (void)sscanf(at, "%15[a-z]", e->category);
        if ((at = behind(text, "\"name\":\"")) != NULL) (void)sscanf(at, "%799[^\"]", e->name);
        if ((at = behind(text, "\"task\":")) != NULL) e->task = strtoull(at, NULL, 10);
        else if ((at = behind(text, "\"id\":")) != NULL) e->task = strtoull(at, NULL, 10);
        if ((at = behind(text, "\"by\":")) != NULL || (at = behind(text, "\"for\":")) != NULL)
            e->other = strtoull(at, NULL, 10);
        if ((at = behind(text, "\"bind_id\":\"0x")) != NULL) e->arrow = strtoull(at, NULL, 16);
        e->comes = strstr(text, "\"flow_in\":true") != NULL;
        e->goes = strstr(text, "\"flow_out\":true") != NULL;
        assert_int_equal(e->arrow != 0, e->comes || e->goes);
        if ((at = behind(text, "\"status\":\"")) != NULL) (void)sscanf(at, "%23[A-Z_]", e->status);
        assert_int_equal(0, strcmp(text + strlen(text) - 2, count >= 0 && text[strlen(text) - 1] == ',' ? "}," : "}}"));
        assert_true(++count < MOST_EVENTS);
    }
    close_slices();
}
static void dump(void) {
    const char *folder = getenv("TRACE_FOLDER");
    static int number;
    char name[500];
    if (!folder) return;
    (void)snprintf(name, sizeof name, "%s/%d.json", folder, number++);
    FILE *file = fopen(name, "w");
    assert_non_null(file);
    assert_int_equal(written.used, fwrite(written.text, 1, written.used, file));
    fclose(file);
}
static void write_trace(tpool *pool) {
    written.used = 0;
    written.calls = written.most_calls = 0;
    assert_status(TPOOL_OK, tpool_trace_write(pool, keep, NULL));
    assert_non_null(strstr(written.text, "\n]}\n"));
    parse();
    dump();
}
static int number_of(char phase, const char *category) {
    int number = 0;
    for (int i = 0; i < count; i++) number += events[i].phase == phase && strcmp(events[i].category, category) == 0;
    return number;
}
static const event *the(char phase, const char *name) {
    for (int i = 0; i < count; i++)
        if (events[i].phase == phase && strcmp(events[i].name, name) == 0) return &events[i];
    fail_msg("no event %c of \"%s\" in:\n%s", phase, name, written.text);
    return NULL;
}
/* On each worker's line what begins ends, the last one first, and time goes on. Returns what is still open. */
static int check_nesting(void) {
    int open = 0;
    for (int thread = 1; thread < 200; thread++) {
        int depth = 0;
        double last = 0;
        for (int i = 0; i < count; i++) {
            const event *e = &events[i];
            if (e->thread != thread) continue;
            assert_true(e->ts >= last);
            last = e->ts;
            depth += (e->phase == 'B') - (e->phase == 'E');
        }
        open += depth;
    }
    return open;
}
static tpool *traced(tpool_config config) {
    tpool *pool = new_pool_as(config);
    assert_status(TPOOL_OK, tpool_trace_start(pool, 0));
    return pool;
}
static void stopped_at_rest(tpool *pool) {
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_status(TPOOL_OK, tpool_trace_stop(pool));
    write_trace(pool);
}

/* ---- what is written ---- */

static void *fails(void *arg) {
    (void)arg;
    return tpool_raise(3, "as asked");
}
static void it_shows_what_ran_where_and_how_it_ended(void **unused) {
    (void)unused;
    tpool *pool = traced((tpool_config){ .max_workers = 1, .name = "line" });
    int64_t begin = tpool_now();
    assert_status(TPOOL_OK, end_of(submitted_task(pool, (tpool_task){ .fn = nothing, .name = "one" })));
    assert_status(TPOOL_FAILED, end_of(submitted_task(pool, (tpool_task){ .fn = fails, .name = "two" })));
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL)); /* a plain one */
    stopped_at_rest(pool);
    assert_int_equal(4, number_of('B', "task"));
    assert_int_equal(4, number_of('E', "task"));
    assert_int_equal(4, number_of('X', "submit"));
    assert_int_equal(1, number_of('B', "worker"));
    assert_int_equal(1, check_nesting()); /* the worker lives */
    assert_int_equal(1, the('B', "one")->thread);
    assert_true(the('B', "one")->ts * 1000 >= (double)begin && the('E', "one")->ts >= the('B', "one")->ts);
    assert_true(the('B', "one")->task != the('B', "two")->task && the('B', "one")->task == the('E', "one")->task);
    assert_string_equal("TPOOL_OK", the('E', "one")->status);
    assert_string_equal("TPOOL_FAILED", the('E', "two")->status);
    assert_int_equal(0, the('X', "submit")->thread);
    assert_non_null(strstr(written.text, "\"name\":\"line_0\""));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *submits_two(void *arg) {
    tpool *pool = arg;
    tpool_future *inner = submitted_task(pool, (tpool_task){ .fn = nothing, .name = "inner" });
    CHECK_STATUS(TPOOL_OK, tpool_future_result(inner, TPOOL_FOREVER, NULL)); /* in place: it has no limit */
    tpool_future_release(inner);
    return arg;
}
static void what_a_waiter_runs_in_place_lies_in_its_task(void **unused) {
    (void)unused;
    tpool *pool = traced((tpool_config){ .max_workers = 1 });
    assert_status(TPOOL_OK,
                  end_of(submitted_task(pool, (tpool_task){ .fn = submits_two, .arg = pool, .name = "outer" })));
    stopped_at_rest(pool);
    assert_int_equal(1, check_nesting());
    const event *outer = the('B', "outer"), *inner = the('B', "inner");
    assert_true(inner > outer && the('E', "inner") < the('E', "outer"));
    bool by_outer = false;
    for (int i = 0; i < count; i++)
        by_outer =
            by_outer || (events[i].phase == 'X' && events[i].task == inner->task && events[i].other == outer->task);
    assert_true(by_outer);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* Arrows: from a submit to the start, and from the end to a wait that it ends; not to one that has given up. */
static gate may_end = GATE_CLOSED;
static void *waits_twice(void *arg) {
    CHECK_STATUS(TPOOL_TIMEOUT, tpool_future_result(arg, TPOOL_MS(20), NULL));
    gate_open(&may_end);
    CHECK_STATUS(TPOOL_OK, tpool_future_result(arg, LIMIT, NULL));
    return arg;
}
static void *ends_late(void *arg) {
    gate_pass(&may_end);
    sleep_ms(20); /* so that the second wait has begun */
    return arg;
}
static void arrows_show_what_led_to_what(void **unused) {
    (void)unused;
    int submits = 0, woken = 0;
    gate_close(&may_end);
    tpool *pool = traced((tpool_config){ .max_workers = 2 });
    tpool_future *late = submitted_task(pool, (tpool_task){ .fn = ends_late, .name = "late" });
    assert_status(TPOOL_OK,
                  end_of(submitted_task(pool, (tpool_task){ .fn = waits_twice, .arg = late, .name = "waits" })));
    stopped_at_rest(pool);
    const event *run = the('B', "late"), *end = the('E', "late");
    assert_true(run->arrow == run->task && run->comes && run->goes);
    for (int i = 0; i < count; i++) {
        const event *e = &events[i];
        if (e == run || e->arrow != run->arrow) continue;
        assert_int_equal('X', e->phase);
        if (strcmp(e->category, "submit") == 0) {
            assert_true(e->goes && !e->comes && e->ts <= run->ts && e->task == run->task);
            submits++;
        } else {
            assert_string_equal("woken", e->name);
            assert_true(e->comes && !e->goes && e->ts >= end->ts && e->task == the('B', "waits")->task);
            assert_int_equal(run->task, e->other);
            woken++;
        }
    }
    assert_int_equal(1, submits);
    assert_in_range(number_of('B', "wait"), 1, 2);
    assert_int_equal(1, woken);
    tpool_future_release(late);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* A held task: the arrow from its submit comes by the moment in which it is ready, to which one comes from what held
   it, if that was a task. */
static const event *arrow_at(const char *name, unsigned long long arrow) {
    for (int i = 0; i < count; i++)
        if (events[i].phase == 'X' && events[i].arrow == arrow && strcmp(events[i].name, name) == 0) return &events[i];
    return NULL;
}
static void arrows_show_what_freed_what(void **unused) {
    (void)unused;
    gate g = GATE_CLOSED;
    tpool *pool = traced((tpool_config){ .max_workers = 1 });
    tpool_future *first = bare(), *held[4];
    tpool_future *frees = submitted_task(pool, (tpool_task){ .fn = gate_task, .arg = &g, .name = "frees" });
    tpool_task task = after(nothing, NULL, &frees, 1, TPOOL_AFTER_SUCCESS);
    task.name = "after a task";
    held[0] = submitted_task(pool, task);
    task.after = &first;
    task.name = "after another future";
    held[1] = submitted_task(pool, task);
    held[2] = submitted_task(pool, (tpool_task){ .fn = nothing, .delay_ns = 1, .name = "after a time" });
    held[3] = submitted_task(pool, (tpool_task){ .after = &frees, .after_count = 1, .name = "runs nothing" });
    complete(first);
    AWAIT_ARRIVALS(&g, 1);
    gate_open(&g);
    for (int i = 0; i < 4; i++) assert_status(TPOOL_OK, end_of(held[i]));
    assert_status(TPOOL_OK, end_of(frees));
    stopped_at_rest(pool);
    const event *by = the('B', "frees"), *end = the('E', "frees");
    for (int i = 0; i < 3; i++) {
        static const char *const names[] = { "after a task", "after another future", "after a time" };
        const event *run = the('B', names[i]), *submit = arrow_at("submit", run->task);
        const event *ready = arrow_at("ready", run->task);
        assert_true(submit && submit->goes && !submit->comes && ready && ready->comes && ready->goes);
        assert_true(submit->ts <= ready->ts && ready->ts <= run->ts && ready->task == run->task);
        assert_true(run->comes && run->goes && run->arrow == run->task);
        if (i > 0) continue;
        const event *woken = arrow_at("woken", by->task);
        assert_true(woken && woken->comes && !woken->goes && woken->task == run->task && woken->other == by->task);
        assert_true(woken->ts >= end->ts && woken->thread == end->thread && ready->thread == end->thread);
        assert_int_equal(by->task, ready->other);
    }
    assert_int_equal(3, number_of('X', "ready"));
    assert_int_equal(1, number_of('X', "wait"));
    assert_string_equal("TPOOL_OK", the('i', "runs nothing")->status);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *waits_for(void *arg) {
    CHECK_STATUS(TPOOL_OK, tpool_future_result(arg, LIMIT, NULL));
    return arg;
}
static void it_shows_what_waited_for_what_and_spare_workers(void **unused) {
    (void)unused;
    gate g = GATE_CLOSED;
    tpool *pool = traced((tpool_config){ .max_workers = 1, .name = "one" });
    tpool *other = traced((tpool_config){ .max_workers = 1 });
    tpool_future *held = submitted_task(other, (tpool_task){ .fn = gate_task, .arg = &g, .name = "held" });
    tpool_future *waits = submitted_task(pool, (tpool_task){ .fn = waits_for, .arg = held, .name = "waits for it" });
    EVENTUALLY(tpool_future_running(waits));
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL))); /* on a spare worker, if the wait has begun */
    gate_open(&g);
    assert_status(TPOOL_OK, end_of(waits));
    stopped_at_rest(other);
    unsigned long long number = the('B', "held")->task;
    stopped_at_rest(pool);
    assert_int_equal(1, number_of('B', "wait"));
    assert_int_equal(number, the('B', "wait")->other);
    assert_true(the('B', "wait") > the('B', "waits for it") && the('E', "wait") < the('E', "waits for it"));
    assert_true(check_nesting() <= 2);
    tpool_future_release(held);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_status(TPOOL_OK, tpool_destroy(other));
}

static void what_ends_without_having_run_is_a_moment(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    assert_status(TPOOL_OK, tpool_trace_start(h.pool, 4096));
    tpool_future *cancelled = submitted_task(h.pool, (tpool_task){ .fn = nothing, .name = "cancelled" });
    tpool_future *expired = submitted_task(h.pool, (tpool_task){ .fn = nothing, .name = "expired", .expires_ns = 1 });
    assert_true(tpool_future_cancel(cancelled));
    assert_status(TPOOL_EXPIRED, end_of(expired));
    tpool_future_release(cancelled);
    gate_open(&h.gate);
    stopped_at_rest(h.pool);
    assert_string_equal("TPOOL_CANCELLED", the('i', "cancelled")->status);
    assert_string_equal("TPOOL_EXPIRED", the('i', "expired")->status);
    assert_string_equal("task", the('i', "expired")->category);
    assert_int_equal(0, number_of('B', "task"));
    assert_int_equal(0, number_of('E', "task")); /* nor that of the holder, which began before the trace */
    held_destroy(&h);
}

static void what_other_threads_run_stands_on_a_line_of_its_own(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, &(tpool_config){ .queue_capacity = 1, .on_full = TPOOL_FULL_CALLER_RUNS });
    assert_status(TPOOL_OK, tpool_trace_start(h.pool, 4096));
    assert_status(TPOOL_OK, tpool_submit(h.pool, nothing, NULL, NULL));
    assert_status(TPOOL_OK, end_of(submitted_task(h.pool, (tpool_task){ .fn = nothing, .name = "by the caller" })));
    write_trace(h.pool);
    assert_int_equal(0, the('b', "by the caller")->thread);
    assert_int_equal(the('b', "by the caller")->task, the('e', "by the caller")->task);
    held_destroy(&h);
}

static void names_may_hold_anything(void **unused) {
    (void)unused;
    static char long_name[1000];
    memset(long_name, 1, sizeof long_name - 1); /* six bytes each, as JSON has it */
    static const struct {
        const char *name, *shown;
    } names[] = {
        { "a \"quoted\" name", "a \\u0022quoted\\u0022 name" },
        { "back\\slash", "back\\u005cslash" },
        { "line\nfeed", "line\\u000afeed" },
        { "gr\xc3\xbc\xc3\x9f\x65 \xe2\x82\xac \xf0\x9f\x98\x80",
          "gr\xc3\xbc\xc3\x9f\x65 \xe2\x82\xac \xf0\x9f\x98\x80" },
        { "cut \xe2\x82", "cut \\ufffd\\ufffd" },
        { "\xc0\xaf \xed\xa0\x80 \xf5", "\\ufffd\\ufffd \\ufffd\\ufffd\\ufffd \\ufffd" },
        { long_name, NULL },
    };
    tpool *pool = traced((tpool_config){ .max_workers = 1, .name = "a \"pool\" \xff" });
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_status(TPOOL_OK, end_of(submitted_task(pool, (tpool_task){ .fn = nothing, .name = names[i].name })));
    stopped_at_rest(pool);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].shown) (void)the('B', names[i].shown);
    assert_int_equal(sizeof names / sizeof *names, number_of('E', "task"));
    assert_non_null(strstr(written.text, "a \\u0022pool\\u0022 \\ufffd_0"));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void *waits_a_while(void *arg) {
    tpool_future *future = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&future));
    CHECK_STATUS(TPOOL_TIMEOUT, tpool_future_result(future, TPOOL_US(10), NULL));
    tpool_future_release(future);
    return arg;
}
static void a_ring_keeps_the_newest(void **unused) {
    (void)unused;
    tpool *pool = new_pool(1);
    for (size_t bytes = 1; bytes < 40 * 32; bytes += 37) { /* the oldest that is left lies within a task, or a wait */
        assert_status(TPOOL_OK, tpool_trace_start(pool, bytes));
        for (int i = 0; i < 20; i++)
            assert_status(TPOOL_OK, end_of(submitted_task(pool, (tpool_task){ .fn = waits_a_while, .name = "early" })));
        assert_status(TPOOL_OK, end_of(submitted_task(pool, (tpool_task){ .fn = nothing, .name = "last" })));
        stopped_at_rest(pool);
        assert_true(count <= 2 * (int)(bytes / 32 + 1));
        assert_int_equal(0, check_nesting());
        if (bytes >= 64) (void)the('E', "last");
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- how it begins and ends ---- */

static bool writes_nothing(const char *bytes, size_t size, void *context) {
    (void)bytes, (void)size;
    atomic_fetch_add((atomic_int *)context, 1);
    return false;
}
/* More lines than the text holds, from workers that have done nothing, with the longest of names. */
static void many_workers_that_did_nothing_are_written_too(void **unused) {
    (void)unused;
    enum { WORKERS = 60 };
    char name[200];
    memset(name, 1, sizeof name - 1);
    name[sizeof name - 1] = 0;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = WORKERS, .name = name });
    assert_status(TPOOL_OK, tpool_warm_up(pool, WORKERS));
    for (int round = 0; round < 2; round++) {
        assert_status(TPOOL_OK, tpool_trace_start(pool, 0));
        if (round) assert_status(TPOOL_OK, end_of(submitted_task(pool, (tpool_task){ .fn = nothing, .name = name })));
        stopped_at_rest(pool);
        int tracks = 0;
        for (const char *at = written.text; (at = behind(at, "thread_name")) != NULL;) tracks++;
        assert_int_equal(WORKERS + 1, tracks);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* The ring goes round while it is written: what was open has an end, and nothing is cut. */
static tpool *goes_round;
static void *descends(void *arg) {
    int depth = (int)(intptr_t)arg;
    if (depth == 0) return arg;
    tpool_future *next =
        submitted_task(goes_round, (tpool_task){ .fn = descends, .arg = (void *)(intptr_t)(depth - 1) });
    CHECK_STATUS(TPOOL_OK, tpool_future_result(next, TPOOL_FOREVER, NULL));
    tpool_future_release(next);
    return arg;
}
static bool writes_while_all_goes_on(const char *bytes, size_t size, void *context) {
    if (++*(int *)context == 2)
        for (int i = 0; i < 5; i++)
            CHECK_STATUS(TPOOL_OK,
                         end_of(submitted_task(goes_round, (tpool_task){ .fn = descends, .arg = (void *)30 })));
    return keep(bytes, size, NULL);
}
static void a_ring_that_goes_round_meanwhile_leaves_nothing_open(void **unused) {
    (void)unused;
    int calls = 0;
    goes_round = new_pool(1);
    assert_status(TPOOL_OK, tpool_trace_start(goes_round, 128 * 32));
    assert_status(TPOOL_OK, end_of(submitted_task(goes_round, (tpool_task){ .fn = descends, .arg = (void *)50 })));
    written.used = 0;
    written.most_calls = 0;
    assert_status(TPOOL_OK, tpool_trace_write(goes_round, writes_while_all_goes_on, &calls));
    assert_non_null(strstr(written.text, "\n]}\n"));
    parse();
    dump();
    assert_true(calls > 2 && number_of('B', "task") > 5);
    assert_int_equal(0, check_nesting());
    assert_status(TPOOL_OK, tpool_destroy(goes_round));
}

static void statuses(void **unused) {
    (void)unused;
    atomic_int calls = 0;
    tpool *pool = new_pool(1);
    assert_status(TPOOL_INVALID, tpool_trace_start(NULL, 0));
    assert_status(TPOOL_INVALID, tpool_trace_stop(NULL));
    assert_status(TPOOL_INVALID, tpool_trace_write(NULL, keep, NULL));
    assert_status(TPOOL_INVALID, tpool_trace_write(pool, NULL, NULL));
    assert_status(TPOOL_INVALID_STATE, tpool_trace_write(pool, writes_nothing, &calls));
    assert_status(TPOOL_INVALID_STATE, tpool_trace_stop(pool));
    assert_int_equal(0, atomic_load(&calls));
    assert_status(TPOOL_NO_MEMORY, tpool_trace_start(pool, SIZE_MAX));
    assert_status(TPOOL_INVALID_STATE, tpool_trace_write(pool, writes_nothing, &calls));
    assert_status(TPOOL_OK, tpool_trace_start(pool, 0));
    assert_status(TPOOL_INVALID_STATE, tpool_trace_start(pool, 0));
    assert_status(TPOOL_OK, end_of(submitted_task(pool, (tpool_task){ .fn = nothing, .name = "kept" })));
    assert_status(TPOOL_OK, tpool_trace_stop(pool));
    assert_status(TPOOL_NO_MEMORY, tpool_trace_start(pool, SIZE_MAX)); /* changes nothing */
    write_trace(pool);
    (void)the('B', "kept");
    assert_status(TPOOL_OK, tpool_trace_start(pool, 0));
    for (int i = 0; i < 100; i++) assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    assert_status(TPOOL_FAILED, tpool_trace_write(pool, writes_nothing, &calls));
    assert_int_equal(1, atomic_load(&calls));
    written.used = 0;
    written.calls = 0;
    written.most_calls = 3;
    assert_status(TPOOL_FAILED, tpool_trace_write(pool, keep, NULL));
    assert_int_equal(3, written.calls);
    assert_status(TPOOL_OK, tpool_trace_stop(pool));
    assert_status(TPOOL_INVALID_STATE, tpool_trace_stop(pool));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_new_trace_drops_the_old_one_and_a_stop_keeps_it(void **unused) {
    (void)unused;
    gate g = GATE_CLOSED;
    tpool *pool = traced((tpool_config){ .max_workers = 2 });
    for (int i = 0; i < 2; i++) /* on both workers, of which the second trace sees one */
        assert_status(TPOOL_OK,
                      tpool_submit_task(pool, &(tpool_task){ .fn = gate_task, .arg = &g, .name = "first" }, NULL));
    gate_await_arrivals(&g, 2);
    gate_open(&g);
    stopped_at_rest(pool);
    assert_status(TPOOL_OK, end_of(submitted_task(pool, (tpool_task){ .fn = nothing, .name = "between" })));
    write_trace(pool);
    (void)the('E', "first");
    assert_null(strstr(written.text, "between"));
    assert_status(TPOOL_OK, tpool_trace_start(pool, 200));
    assert_status(TPOOL_OK, end_of(submitted_task(pool, (tpool_task){ .fn = nothing, .name = "second" })));
    stopped_at_rest(pool);
    (void)the('E', "second");
    assert_null(strstr(written.text, "first"));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static void a_task_that_began_or_waited_before_the_trace_spoils_nothing(void **unused) {
    (void)unused;
    for (int measure = 0; measure < 2; measure++) {
        held_pool h;
        held_create(&h, &(tpool_config){ .measure = measure });
        assert_status(TPOOL_OK, tpool_submit(h.pool, nothing, NULL, NULL)); /* a plain one, without a number */
        tpool_future *queued = submitted_task(h.pool, (tpool_task){ .fn = nothing, .name = "queued before" });
        assert_status(TPOOL_OK, tpool_trace_start(h.pool, 0));
        gate_open(&h.gate);
        assert_status(TPOOL_OK, end_of(queued));
        stopped_at_rest(h.pool);
        assert_int_equal(2, number_of('B', "task"));
        assert_int_equal(2, number_of('E', "task"));
        assert_true(the('B', "queued before")->task > 0);
        assert_int_equal(0, check_nesting());
        held_destroy(&h);
    }
}

/* What runs between two traces, on a worker that goes straight from task to task, is no part of the second trace. The
   worker takes these tasks from one batch. */
enum { BATCH = 30 };
static struct {
    tpool *pool;
    int steps;
    int64_t again; /* just before the second trace began */
} between;
static void *stops_and_starts(void *arg) {
    switch (between.steps++) {
    case BATCH / 2 + 3: CHECK_STATUS(TPOOL_OK, tpool_trace_stop(between.pool)); break;
    case BATCH / 2 + 4:
        sleep_ms(1);
        between.again = tpool_now();
        CHECK_STATUS(TPOOL_OK, tpool_trace_start(between.pool, 0));
        break;
    default: break;
    }
    return arg;
}
static void a_trace_begins_anew_on_a_busy_worker(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL);
    between.steps = 0;
    between.pool = h.pool;
    assert_status(TPOOL_OK, tpool_trace_start(h.pool, 0));
    for (int i = 0; i < BATCH; i++) assert_status(TPOOL_OK, tpool_submit(h.pool, stops_and_starts, NULL, NULL));
    gate_open(&h.gate);
    stopped_at_rest(h.pool);
    assert_int_equal(BATCH, between.steps);
    assert_int_equal(BATCH / 2 - 5, number_of('B', "task"));
    for (int i = 0; i < count; i++)
        if (events[i].phase == 'B') assert_true(events[i].ts * 1000 >= (double)between.again - 1);
    held_destroy(&h);
}

/* A worker that goes straight from one plain task to the next calls on_failure in between: that time is no part of the
   next one. What comes first takes no time, so that the batches grow. */
static void takes_a_moment(const tpool_error *error, void *context) {
    (void)error, (void)context;
    sleep_ms(1);
}
static void the_time_of_on_failure_is_no_tasks(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, &(tpool_config){ .on_failure = takes_a_moment });
    for (int i = 0; i < 2 * BATCH; i++)
        assert_status(TPOOL_OK, tpool_submit(h.pool, i < 18 || i > 22 ? nothing : fails, NULL, NULL));
    assert_status(TPOOL_OK, tpool_trace_start(h.pool, 0)); /* later: a submit in a trace makes no plain task */
    gate_open(&h.gate);
    stopped_at_rest(h.pool);
    assert_int_equal(2 * BATCH, number_of('B', "task"));
    double ended = 0;
    int failures = 0;
    for (int i = 0; i < count; i++) {
        if (events[i].phase == 'B' && ended > 0) assert_true(events[i].ts - ended >= 999); /* microseconds */
        if (events[i].phase != 'E') continue;
        bool failed = strcmp(events[i].status, "TPOOL_FAILED") == 0;
        ended = failed ? events[i].ts : 0;
        failures += failed;
    }
    assert_int_equal(5, failures);
    held_destroy(&h);
}

static void a_worker_that_comes_and_goes_is_shown(void **unused) {
    (void)unused;
    tpool *pool = traced((tpool_config){ .max_workers = 1, .max_tasks_per_worker = 1 });
    for (int i = 0; i < 5; i++) assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT));
    stopped_at_rest(pool);
    assert_int_equal(5, number_of('E', "worker"));
    assert_int_equal(5, number_of('B', "worker"));
    assert_int_equal(0, check_nesting());
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

/* ---- beside what else happens ---- */

static void end_in_callback(tpool_future *future, void *context) {
    (void)future, (void)context;
    end_here();
}
static tpool_future *never;
static void *ends_within_a_wait(void *arg) {
    tpool_future *future = NULL;
    CHECK_STATUS(TPOOL_OK, tpool_future_create(&future));
    CHECK_STATUS(TPOOL_OK, tpool_future_add_done_callback(future, end_in_callback, NULL));
    tpool_future_release(future);
    tpool_task task = { .fn = nothing, .expires_ns = TPOOL_MS(1) };
    CHECK_STATUS(TPOOL_OK, tpool_submit_task(arg, &task, &never)); /* the test releases it: the thread ends here */
    CHECK_STATUS(TPOOL_OK, tpool_future_add_done_callback(never, end_in_callback, NULL));
    (void)tpool_future_result(never, LIMIT, NULL);
    return arg;
}
static void threads_that_end_spoil_nothing(void **unused) {
    (void)unused;
    held_pool h;
    held_create(&h, NULL); /* what expires there ends in the wait, whose callback ends the thread */
    tpool *pool = traced((tpool_config){ .max_workers = 1 });
    for (int i = 0; i < 3; i++) {
        assert_status(TPOOL_BROKEN, end_of(submitted_task(pool, (tpool_task){ .fn = end_thread, .name = "ends" })));
        (void)end_of(
            submitted_task(pool, (tpool_task){ .fn = ends_within_a_wait, .arg = h.pool, .name = "in a wait" }));
        tpool_future_release(never);
    }
    assert_status(TPOOL_OK, tpool_shutdown(pool, TPOOL_WAIT));
    stopped_at_rest(pool);
    assert_int_equal(6, number_of('B', "task"));
    assert_int_equal(0, check_nesting());
    assert_string_equal("TPOOL_BROKEN", the('E', "ends")->status);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    held_destroy(&h);
}

static pthread_mutex_t of_the_program = PTHREAD_MUTEX_INITIALIZER;
static void *takes_the_lock(void *arg) {
    gate_pass(arg);
    pthread_mutex_lock(&of_the_program);
    pthread_mutex_unlock(&of_the_program);
    return arg;
}
static bool writes_and_submits(const char *bytes, size_t size, void *context) {
    CHECK_STATUS(TPOOL_OK, tpool_submit(context, nothing, NULL, NULL));
    return keep(bytes, size, NULL);
}
static void it_is_written_while_all_workers_hang_and_write_may_call(void **unused) {
    (void)unused;
    gate g = GATE_CLOSED;
    tpool *pool = traced((tpool_config){ .max_workers = 2 });
    pthread_mutex_lock(&of_the_program);
    for (int i = 0; i < 2; i++)
        assert_status(TPOOL_OK,
                      tpool_submit_task(pool, &(tpool_task){ .fn = takes_the_lock, .arg = &g, .name = "hangs" }, NULL));
    gate_await_arrivals(&g, 2);
    gate_open(&g);
    written.used = 0;
    written.most_calls = 0;
    assert_status(TPOOL_OK, tpool_trace_write(pool, writes_and_submits, pool));
    parse();
    assert_int_equal(2, number_of('B', "task"));
    assert_int_equal(0, number_of('E', "task"));
    pthread_mutex_unlock(&of_the_program);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

static atomic_bool over;
static void *starts_and_stops(void *pool) {
    for (size_t i = 0; !atomic_load(&over); i++) {
        tpool_status started = tpool_trace_start(pool, 32 + i % 5000), stopped;
        if (i % 3 == 0) sched_yield();
        stopped = tpool_trace_stop(pool);
        CHECK(started == TPOOL_OK || started == TPOOL_INVALID_STATE);
        CHECK(stopped == TPOOL_OK || stopped == TPOOL_INVALID_STATE);
    }
    return NULL;
}
static bool takes_all(const char *bytes, size_t size, void *context) {
    (void)context;
    CHECK(size > 0 && bytes[size - 1] != '\0' && (bytes[size - 1] == '}' || bytes[size - 1] == '\n'));
    return true;
}
static void *writes_again_and_again(void *pool) {
    while (!atomic_load(&over)) {
        tpool_status status = tpool_trace_write(pool, takes_all, NULL);
        CHECK(status == TPOOL_OK || status == TPOOL_INVALID_STATE);
    }
    return NULL;
}
static void traces_begin_end_and_are_written_beside_all_work(void **unused) {
    (void)unused;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 3, .max_tasks_per_worker = 50, .idle_timeout_ns = 1 });
    pthread_t threads[4];
    atomic_store(&over, false);
    for (int i = 0; i < 4; i++)
        assert_int_equal(0, pthread_create(&threads[i], NULL, i < 2 ? starts_and_stops : writes_again_and_again, pool));
    for (int i = 0; i < 3000; i++) {
        if (i % 10 == 0) assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
        assert_status(TPOOL_OK,
                      end_of(submitted_task(pool, (tpool_task){ .fn = submits_two, .arg = pool, .name = "n" })));
    }
    atomic_store(&over, true);
    for (int i = 0; i < 4; i++) assert_int_equal(0, pthread_join(threads[i], NULL));
    assert_status(TPOOL_OK, tpool_destroy(pool));
}

#if !defined(_WIN32)
static int in_the_child(void *pool) {
    return tpool_trace_start(pool, 0) == TPOOL_BROKEN && tpool_trace_stop(pool) == TPOOL_BROKEN &&
                   tpool_trace_write(pool, takes_all, NULL) == TPOOL_BROKEN
               ? 0
               : 1;
}
static void in_a_child_of_fork_it_is_the_parents(void **unused) {
    (void)unused;
    tpool *pool = traced((tpool_config){ .max_workers = 1 });
    assert_status(TPOOL_OK, end_of(submitted(pool, nothing, NULL)));
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) _exit(in_the_child(pool));
    int how = -1;
    assert_int_equal(child, waitpid(child, &how, 0));
    assert_int_equal(0, how);
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
static void *exits(void *arg) {
    (void)arg;
    _exit(3);
}
static void tasks_of_processes_stand_on_the_same_line(void **unused) {
    (void)unused;
    tpool *pool = NULL;
    tpool_status status = tpool_create(&pool, &(tpool_config){ .kind = TPOOL_PROCESSES, .max_workers = 2 });
    if (status == TPOOL_UNSUPPORTED) skip();
    assert_status(TPOOL_OK, status);
    assert_status(TPOOL_OK, tpool_trace_start(pool, 0));
    int64_t begin = tpool_now();
    assert_status(TPOOL_OK, end_of(submitted_task(pool, (tpool_task){ .fn = nothing, .name = "there" })));
    assert_status(TPOOL_BROKEN, end_of(submitted_task(pool, (tpool_task){ .fn = exits, .name = "dies" })));
    stopped_at_rest(pool);
    assert_string_equal("TPOOL_OK", the('E', "there")->status);
    assert_string_equal("TPOOL_BROKEN", the('E', "dies")->status);
    assert_true(check_nesting() <= 2); /* the workers live */
    const char *const names[] = { "there", "dies" };
    for (int i = 0; i < 2; i++) { /* on a worker's line, by this process' clock */
        const event *begun = the('B', names[i]), *ended = the('E', names[i]);
        assert_true(begun->thread >= 1 && begun->thread == ended->thread);
        assert_true(begun->ts * 1000 >= (double)begin - 1 && begun->ts < ended->ts);
        assert_true(ended->ts * 1000 <= (double)tpool_now() + 1);
    }
    assert_status(TPOOL_OK, tpool_destroy(pool));
}
#endif

int main(void) {
    events = calloc(MOST_EVENTS, sizeof *events);
    if (!events) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_shows_what_ran_where_and_how_it_ended),
        cmocka_unit_test(what_a_waiter_runs_in_place_lies_in_its_task),
        cmocka_unit_test(it_shows_what_waited_for_what_and_spare_workers),
        cmocka_unit_test(arrows_show_what_led_to_what),
        cmocka_unit_test(arrows_show_what_freed_what),
        cmocka_unit_test(what_ends_without_having_run_is_a_moment),
        cmocka_unit_test(what_other_threads_run_stands_on_a_line_of_its_own),
        cmocka_unit_test(names_may_hold_anything),
        cmocka_unit_test(a_ring_keeps_the_newest),
        cmocka_unit_test(many_workers_that_did_nothing_are_written_too),
        cmocka_unit_test(a_ring_that_goes_round_meanwhile_leaves_nothing_open),
        cmocka_unit_test(statuses),
        cmocka_unit_test(a_new_trace_drops_the_old_one_and_a_stop_keeps_it),
        cmocka_unit_test(a_task_that_began_or_waited_before_the_trace_spoils_nothing),
        cmocka_unit_test(a_trace_begins_anew_on_a_busy_worker),
        cmocka_unit_test(the_time_of_on_failure_is_no_tasks),
        cmocka_unit_test(a_worker_that_comes_and_goes_is_shown),
        cmocka_unit_test(threads_that_end_spoil_nothing),
        cmocka_unit_test(it_is_written_while_all_workers_hang_and_write_may_call),
        cmocka_unit_test(traces_begin_end_and_are_written_beside_all_work),
#if !defined(_WIN32)
        cmocka_unit_test(in_a_child_of_fork_it_is_the_parents),
        cmocka_unit_test(tasks_of_processes_stand_on_the_same_line),
#endif
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(events);
    free(written.text);
    return failed;
}
