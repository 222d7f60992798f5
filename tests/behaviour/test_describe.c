/* tpool_describe: what runs where, what it waits for, what is queued. */
#if !defined(_WIN32)
#include "support/children.h"
#else
#include "support.h"
#endif
#include "support/held.h"

/* What was written, and what the function that takes it does besides. */
typedef struct report {
    char text[64 * 1024];
    size_t used;
    int calls, most_calls; /* most_calls > 0: gives false in that call */
} report;
static bool keep(const char *bytes, size_t size, void *context) {
    report *to = context;
    to->calls++;
    if (size < sizeof to->text - to->used) {
        memcpy(to->text + to->used, bytes, size);
        to->used += size;
        to->text[to->used] = 0;
    }
    return to->calls != to->most_calls;
}
static const char *described(tpool *pool) {
    static report now;
    memset(&now, 0, sizeof now);
    REQUIRE_STATUS(TPOOL_OK, tpool_describe(pool, keep, &now));
    return now.text;
}
static bool says(tpool *pool, const char *line) { return strstr(described(pool), line) != NULL; }
#define ASSERT_SAYS(pool, line) \
    do { \
        if (!says(pool, line)) fail_msg("no \"%s\" in:\n%s", line, described(pool)); \
    } while (0)
#define ASSERT_COMES_TO_SAY(pool, line) \
    do { \
        int64_t say_end = tpool_now() + LIMIT; \
        while (!says(pool, line)) { \
            if (tpool_now() > say_end) fail_msg("never \"%s\" in:\n%s", line, described(pool)); \
            sleep_ms(1); \
        } \
    } while (0)

static tpool *named_pool(int workers) { return new_pool_as((tpool_config){ .name = "web", .max_workers = workers }); }
static tpool_future *named(tpool *pool, const char *name, tpool_fn fn, void *arg) {
    return submitted_task(pool, (tpool_task){ .fn = fn, .arg = arg, .name = name });
}

/* --- what runs, and what is queued */

static void it_names_what_runs_and_what_is_queued(void **state) {
    (void)state;
    gate at = GATE_CLOSED;
    tpool *pool = named_pool(1);
    tpool_future *load = named(pool, "load", gate_task, &at), *others[4];
    AWAIT_ARRIVALS(&at, 1);
    others[0] = named(pool, "parse", nothing, NULL);
    others[1] = submitted(pool, nothing, NULL);
    others[2] = named(pool, "parse", nothing, NULL);
    REQUIRE_STATUS(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
    others[3] = named(pool, "write", nothing, NULL);
    assert_string_equal("pool \"web\": 1 of 1 workers, 0 idle, 0 blocked; 5 queued\n"
                        "web_0: task \"load\"\n"
                        "queued: \"parse\" x 2, \"write\" x 1, 2 without a name\n",
                        described(pool));
    gate_open(&at);
    for (int i = 0; i < 4; i++) REQUIRE_STATUS(TPOOL_OK, end_of(others[i]));
    REQUIRE_STATUS(TPOOL_OK, end_of(load));
    ASSERT_COMES_TO_SAY(pool, "web_0: sleeps\n");
    ASSERT_SAYS(pool, "pool \"web\": 1 of 1 workers, 1 idle, 0 blocked; 0 queued\n");
    assert_null(strstr(described(pool), "queued:"));
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
}

static void a_pool_that_has_run_nothing_has_one_line(void **state) {
    (void)state;
    tpool *pool = named_pool(3);
    assert_string_equal("pool \"web\": 0 of 3 workers, 0 idle, 0 blocked; 0 queued\n", described(pool));
    REQUIRE_STATUS(TPOOL_OK, tpool_pause(pool));
    ASSERT_SAYS(pool, "; paused\n");
    REQUIRE_STATUS(TPOOL_OK, tpool_shutdown(pool, 0));
    ASSERT_SAYS(pool, "; shut down\n");
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
}

/* Nine names, of which one finds no place among those shown, in the order of the queue; cancelled ones do not count. */
static void it_counts_what_it_does_not_name(void **state) {
    (void)state;
    static const char *const names[] = { "a", "b", "c", "d", "e", "f", "g", "h", "i" };
    held_pool h;
    tpool_future *futures[9];
    held_create(&h, NULL);
    for (int i = 0; i < 9; i++) futures[i] = named(h.pool, names[i], nothing, NULL);
    ASSERT_SAYS(h.pool, "queued: \"a\" x 1, \"b\" x 1, \"c\" x 1, \"d\" x 1, \"e\" x 1, \"f\" x 1, \"g\" x 1, "
                        "\"h\" x 1, 1 more\n");
    for (int i = 0; i < 9; i++)
        if (i != 4) assert_true(tpool_future_cancel(futures[i]));
    ASSERT_SAYS(h.pool, "queued: \"e\" x 1\n");
    for (int i = 0; i < 9; i++) tpool_future_release(futures[i]);
    for (int i = 0; i < 1000; i++) REQUIRE_STATUS(TPOOL_OK, tpool_submit(h.pool, nothing, NULL, NULL));
    ASSERT_SAYS(h.pool, "1001 queued\n");
    ASSERT_SAYS(h.pool, " more\n");
    held_destroy(&h);
}

/* What is held is not queued, and shows by what holds it; so does a wait for it. */
static void *waits_for_a_held_one(void *future) {
    return tpool_future_result((tpool_future *)future, LIMIT, NULL) == TPOOL_OK ? future : NULL;
}
static void it_tells_what_is_held_and_why(void **state) {
    (void)state;
    tpool *pool = named_pool(1);
    tpool_future *first = bare(), *held[5];
    tpool_task task = after(nothing, NULL, &first, 1, TPOOL_AFTER_SUCCESS);
    held[0] = submitted_task(pool, task);
    task.name = "link";
    held[1] = submitted_task(pool, task);
    held[2] = submitted_task(pool, task);
    task.fn = NULL;
    task.name = "when all";
    held[3] = submitted_task(pool, task);
    held[4] = submitted_task(pool, (tpool_task){ .fn = nothing, .name = "later", .delay_ns = TPOOL_SEC(3600) });
    ASSERT_SAYS(pool, "0 blocked; 0 queued, 5 held\n");
    ASSERT_SAYS(pool, "\nheld for other futures: \"link\" x 2, \"when all\" x 1, 1 without a name\n"
                      "held for their time: \"later\" x 1\n");
    assert_null(strstr(described(pool), "\nqueued:"));
    tpool_future *waits = named(pool, "waits", waits_for_a_held_one, held[1]);
    ASSERT_COMES_TO_SAY(pool, ": task \"waits\", waits for task \"link\" (held)\n");
    assert_true(tpool_future_cancel(held[2]));
    ASSERT_SAYS(pool, "\nheld for other futures: \"link\" x 1, \"when all\" x 1, 1 without a name\n");
    complete(first);
    assert_status(TPOOL_OK, end_of(waits));
    for (int i = 0; i < 4; i++) assert_status(i == 2 ? TPOOL_CANCELLED : TPOOL_OK, end_of(held[i]));
    assert_null(strstr(described(pool), "held for other futures"));
    ASSERT_SAYS(pool, "\nheld for their time: \"later\" x 1\n");
    assert_true(tpool_future_cancel(held[4]));
    tpool_future_release(held[4]);
    assert_null(strstr(described(pool), "held"));
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
}

/* Tasks with priorities wait in a heap, a worker's own in its lane. */
static void *submits_three(void *arg) {
    for (int i = 0; i < 3; i++) {
        tpool_task task = { .fn = nothing, .name = "child" };
        if (tpool_submit_task(tpool_current(), &task, NULL) != TPOOL_OK) return NULL;
    }
    return gate_task(arg);
}
static void it_sees_all_queues(void **state) {
    (void)state;
    gate at = GATE_CLOSED;
    tpool *pool = named_pool(2);
    tpool_future *holder = held_at(pool, &at), *parent = submitted(pool, submits_three, &at);
    AWAIT_ARRIVALS(&at, 2);
    tpool_task urgent = { .fn = nothing, .name = "urgent", .priority = 1 }, plain = { .fn = nothing, .name = "plain" };
    REQUIRE_STATUS(TPOOL_OK, tpool_submit_task(pool, &urgent, NULL));
    REQUIRE_STATUS(TPOOL_OK, tpool_submit_task(pool, &plain, NULL));
    ASSERT_SAYS(pool, "queued: \"urgent\" x 1, \"plain\" x 1, \"child\" x 3\n");
    gate_open(&at);
    REQUIRE_STATUS(TPOOL_OK, end_of(holder));
    REQUIRE_STATUS(TPOOL_OK, end_of(parent));
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
}

/* A task without a name shows by its function. */
static void a_task_without_a_name_shows_its_function(void **state) {
    (void)state;
    char line[64];
    held_pool h;
    held_create(&h, &(tpool_config){ .name = "web" });
    snprintf(line, sizeof line, "web_0: task at 0x%llx\n", (unsigned long long)(uintptr_t)gate_task);
    ASSERT_SAYS(h.pool, line);
    held_destroy(&h);
}

static void a_name_cannot_break_its_line(void **state) {
    (void)state;
    gate at = GATE_CLOSED;
    static char longest[2000];
    memset(longest, 'x', sizeof longest - 1);
    tpool *pool = new_pool_as((tpool_config){ .name = "we\nb", .max_workers = 2 });
    tpool_future *first = named(pool, "a\nb\x7f\t\"", gate_task, &at);
    AWAIT_ARRIVALS(&at, 1);
    tpool_future *second = named(pool, longest, gate_task, &at);
    AWAIT_ARRIVALS(&at, 2);
    ASSERT_SAYS(pool, "we?b_0: task \"a?b???\"\n");
    char line[100];
    snprintf(line, sizeof line, "we?b_1: task \"%.60s...\"\n", longest); /* the rest is cut, and the line goes on */
    ASSERT_SAYS(pool, line);
    gate_open(&at);
    REQUIRE_STATUS(TPOOL_OK, end_of(first));
    REQUIRE_STATUS(TPOOL_OK, end_of(second));
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
}

/* --- since when, with config.measure */

static void with_measure_it_says_since_when(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    assert_null(strstr(described(h.pool), " for "));
    held_destroy(&h);
    held_create(&h, &(tpool_config){ .measure = true });
    sleep_ms(3);
    const char *at = strstr(described(h.pool), " for ");
    assert_non_null(at);
    assert_true(strtod(at + 5, NULL) >= 3 || strstr(at, " s\n"));
    held_destroy(&h);
}

/* --- what a worker waits for */

typedef struct waits {
    tpool *pool;
    gate at;
    tpool_future *of, *second;
    tpool_channel *channel;
} waits;
static void *waits_for_one(void *arg) {
    waits *w = arg;
    gate_pass(&w->at);
    return tpool_future_result(w->of, LIMIT, NULL) == TPOOL_OK ? w : NULL;
}
static void *waits_for_first(void *arg) {
    waits *w = arg;
    tpool_future *futures[2] = { w->of, w->second };
    gate_pass(&w->at);
    return tpool_wait(futures, 2, TPOOL_FIRST_COMPLETED, LIMIT, NULL) == TPOOL_OK ? w : NULL;
}
static void *waits_for_an_item(void *arg) {
    waits *w = arg;
    void *item;
    gate_pass(&w->at);
    return tpool_channel_receive(w->channel, &item, LIMIT) == TPOOL_OK ? w : NULL;
}
static void it_tells_what_a_worker_waits_for(void **state) {
    (void)state;
    gate busy = GATE_CLOSED;
    waits w = { .at = GATE_CLOSED };
    tpool *pool = named_pool(3), *other = new_pool(1);
    gate_open(&w.at);
    tpool_future *load = named(pool, "load", gate_task, &busy);
    AWAIT_ARRIVALS(&busy, 1);
    w.of = load;
    tpool_future *waiter = named(pool, "join", waits_for_one, &w);
    ASSERT_COMES_TO_SAY(pool, "web_1: task \"join\", waits for task \"load\" (on web_0)\n");
    ASSERT_SAYS(pool, " 1 blocked; ");
    gate_open(&busy);
    REQUIRE_STATUS(TPOOL_OK, end_of(waiter));
    REQUIRE_STATUS(TPOOL_OK, end_of(load));

    REQUIRE_STATUS(TPOOL_OK, tpool_pause(other));
    w.of = named(other, "later", nothing, NULL);
    REQUIRE_STATUS(TPOOL_OK, tpool_future_create(&w.second));
    waiter = named(pool, "join", waits_for_one, &w);
    ASSERT_COMES_TO_SAY(pool, "task \"join\", waits for task \"later\" (queued)\n");
    tpool_future *first = named(pool, "any", waits_for_first, &w);
    ASSERT_COMES_TO_SAY(pool, "task \"any\", waits for the first of several futures\n");
    REQUIRE_STATUS(TPOOL_OK, tpool_resume(other));
    REQUIRE_STATUS(TPOOL_OK, end_of(waiter));
    REQUIRE_STATUS(TPOOL_OK, end_of(first));
    tpool_future_release(w.of);

    w.of = w.second;
    waiter = named(pool, "join", waits_for_one, &w);
    ASSERT_COMES_TO_SAY(pool, "task \"join\", waits for a future of the program\n");
    REQUIRE_STATUS(TPOOL_OK, tpool_future_set_result(w.second, NULL));
    REQUIRE_STATUS(TPOOL_OK, end_of(waiter));
    tpool_future_release(w.second);

    REQUIRE_STATUS(TPOOL_OK, tpool_channel_create(&w.channel, NULL));
    waiter = named(pool, "receive", waits_for_an_item, &w);
    ASSERT_COMES_TO_SAY(pool, "task \"receive\", waits for the other end of a channel\n");
    REQUIRE_STATUS(TPOOL_OK, tpool_channel_send(w.channel, &w, LIMIT));
    REQUIRE_STATUS(TPOOL_OK, end_of(waiter));
    REQUIRE_STATUS(TPOOL_OK, tpool_channel_destroy(w.channel));
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(other));
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
}

/* A spare worker runs while the only one is blocked; both show. */
static void a_spare_worker_shows_as_one(void **state) {
    (void)state;
    gate busy = GATE_CLOSED;
    waits w = { .at = GATE_CLOSED };
    tpool *pool = named_pool(1);
    gate_open(&w.at);
    REQUIRE_STATUS(TPOOL_OK, tpool_future_create(&w.of));
    tpool_future *waiter = named(pool, "join", waits_for_one, &w);
    ASSERT_COMES_TO_SAY(pool, "web_0: task \"join\", waits for a future of the program\n");
    tpool_future *load = named(pool, "load", gate_task, &busy);
    AWAIT_ARRIVALS(&busy, 1);
    ASSERT_SAYS(pool, "web_1 (spare): task \"load\"\n");
    gate_open(&busy);
    REQUIRE_STATUS(TPOOL_OK, tpool_future_set_result(w.of, NULL));
    REQUIRE_STATUS(TPOOL_OK, end_of(waiter));
    REQUIRE_STATUS(TPOOL_OK, end_of(load));
    tpool_future_release(w.of);
    REQUIRE_EVENTUALLY(stats_of(pool).active == 0);
    assert_null(strstr(described(pool), "waits for"));
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
}

/* --- what else a worker may be in */

/* A task that awaits a child `left` times, each of which runs in place, on one stack. */
typedef struct nest {
    int left;
    gate at;
} nest;
static void *nested_in_place(void *arg) {
    nest *n = arg;
    if (n->left-- == 0) return gate_task(&n->at);
    tpool_task task = { .fn = nested_in_place, .arg = n, .name = "inner" };
    tpool_future *child = NULL;
    if (tpool_submit_task(tpool_current(), &task, &child) != TPOOL_OK) return NULL;
    void *value = NULL;
    (void)tpool_future_result(child, TPOOL_FOREVER, &value);
    tpool_future_release(child);
    return value;
}
static void tasks_on_one_stack_show_from_the_outside_inwards(void **state) {
    (void)state;
    nest two = { 1, GATE_CLOSED }, many = { 40, GATE_CLOSED };
    tpool *pool = named_pool(1);
    tpool_future *outer = named(pool, "outer", nested_in_place, &two);
    AWAIT_ARRIVALS(&two.at, 1);
    ASSERT_SAYS(pool, "web_0: task \"outer\", in it task \"inner\"\n");
    gate_open(&two.at);
    REQUIRE_STATUS(TPOOL_OK, end_of(outer));
    outer = named(pool, "outer", nested_in_place, &many);
    AWAIT_ARRIVALS(&many.at, 1);
    ASSERT_SAYS(pool, ", in it task \"inner\", in it more\n");
    gate_open(&many.at);
    REQUIRE_STATUS(TPOOL_OK, end_of(outer));
    tpool_future *after = named(pool, "after", gate_task, &two.at); /* nothing of the deep stack is left */
    REQUIRE_STATUS(TPOOL_OK, end_of(after));
    ASSERT_COMES_TO_SAY(pool, "web_0: sleeps\n");
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
}

static void *item_at_gate(void *item, void *context) {
    (void)item;
    return gate_task(context);
}
static void range_at_gate(size_t begin, size_t end, void *context) {
    (void)begin;
    (void)end;
    (void)gate_task(context);
}
static void *loops(void *arg) {
    waits *w = arg;
    return tpool_for(w->pool, 0, 2, 1, range_at_gate, &w->at) == TPOOL_OK ? w : NULL;
}
static void callback_at_gate(tpool_future *future, void *context) {
    (void)future;
    gate_pass(context);
}
static bool setup_at_gate(void *context) {
    gate_pass(context);
    return true;
}
static void items_loops_callbacks_and_initializers_show(void **state) {
    (void)state;
    gate at = GATE_CLOSED;
    waits w = { .pool = new_pool_as(
                    (tpool_config){ .name = "web", .max_workers = 2, .initializer = setup_at_gate, .context = &at }),
                .at = GATE_CLOSED };
    int items[2] = { 0 };
    tpool_map_spec spec = { .fn = item_at_gate, .items = items, .count = 1, .stride = sizeof(int), .context = &w.at };
    tpool_map_iter *iter = NULL;
    REQUIRE_STATUS(TPOOL_OK, tpool_map(w.pool, &spec, &iter));
    AWAIT_ARRIVALS(&at, 1);
    ASSERT_SAYS(w.pool, "web_0: its initializer or finalizer\n");
    gate_open(&at);
    AWAIT_ARRIVALS(&w.at, 1);
    ASSERT_SAYS(w.pool, "web_0: task \"map\", in it an item\n");
    gate_open(&w.at);
    REQUIRE_STATUS(TPOOL_OK, tpool_map_next(iter, LIMIT, NULL));
    tpool_map_close(iter);
    gate_close(&w.at);
    tpool_future *looping = submitted(w.pool, loops, &w);
    AWAIT_ARRIVALS(&w.at, 2);
    ASSERT_SAYS(w.pool, ", in it an item\n");
    ASSERT_SAYS(w.pool, "task \"for\", in it an item\n");
    gate_open(&w.at);
    REQUIRE_STATUS(TPOOL_OK, end_of(looping));
    gate_close(&w.at);
    gate_close(&at);
    looping = submitted(w.pool, gate_task, &at);
    REQUIRE_STATUS(TPOOL_OK, tpool_future_add_done_callback(looping, callback_at_gate, &w.at));
    gate_open(&at);
    AWAIT_ARRIVALS(&w.at, 1);
    ASSERT_SAYS(w.pool, ": a callback\n");
    gate_open(&w.at);
    tpool_future_release(looping);
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(w.pool));
}

/* --- beside everything else */

/* All workers hang on a lock of the program, and what is queued and a submitter wait behind them. */
static pthread_mutex_t program = PTHREAD_MUTEX_INITIALIZER;
static void *locks(void *arg) {
    pthread_mutex_lock(&program);
    pthread_mutex_unlock(&program);
    return arg;
}
static void it_works_while_all_workers_hang_on_a_lock_of_the_program(void **state) {
    (void)state;
    enum { WORKERS = 64 };
    tpool *pool = named_pool(WORKERS);
    tpool_future *futures[WORKERS];
    pthread_mutex_lock(&program);
    for (int i = 0; i < WORKERS; i++) futures[i] = named(pool, "stuck", locks, NULL);
    for (int shown = 0; shown < WORKERS;) {
        shown = 0;
        for (const char *at = described(pool); (at = strstr(at, ": task \"stuck\"\n")) != NULL; at++) shown++;
    }
    ASSERT_SAYS(pool, "web_63: task \"stuck\"\n");
    pthread_mutex_unlock(&program);
    for (int i = 0; i < WORKERS; i++) REQUIRE_STATUS(TPOOL_OK, end_of(futures[i]));
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
}

/* Nothing but what the task's queue orders may be read of it: its ender, which passes that queue's spinlock only
   afterwards, writes to it. Relaxed flags, so that ThreadSanitizer sees no other order. */
typedef struct reading {
    tpool *pool;
    tpool_future *child;
    gate at;
    atomic_int has_read, is_cancelled;
} reading;
static void await_flag(atomic_int *flag) {
    int64_t end = tpool_now() + LIMIT;
    while (!atomic_load_explicit(flag, memory_order_relaxed) && tpool_now() < end) { }
}
static bool waits_after_the_queue(const char *bytes, size_t size, void *context) {
    reading *r = context;
    if (size < 7 || memcmp(bytes, "queued:", 7) != 0) return true;
    atomic_store_explicit(&r->has_read, 1, memory_order_relaxed);
    await_flag(&r->is_cancelled);
    return true;
}
static void *reads(void *arg) {
    reading *r = arg;
    return tpool_describe(r->pool, waits_after_the_queue, r) == TPOOL_OK ? r : NULL;
}
static void *leaves_a_child(void *arg) {
    reading *r = arg;
    if (tpool_submit(tpool_current(), nothing, NULL, &r->child) != TPOOL_OK) return NULL;
    return gate_task(&r->at);
}
static void ignores(tpool_future *future, void *context) {
    (void)future;
    (void)context;
}
static void it_reads_nothing_of_a_queued_task_that_its_ender_writes(void **state) {
    (void)state;
    reading r = { .pool = named_pool(2), .at = GATE_CLOSED };
    pthread_t reader;
    void *end = NULL;
    tpool_future *holder = held_at(r.pool, &r.at), *parent = submitted(r.pool, leaves_a_child, &r);
    AWAIT_ARRIVALS(&r.at, 2);
    REQUIRE_STATUS(TPOOL_OK, tpool_future_add_done_callback(r.child, ignores, NULL));
    REQUIRE(pthread_create(&reader, NULL, reads, &r) == 0);
    await_flag(&r.has_read);
    assert_true(tpool_future_cancel(r.child));
    atomic_store_explicit(&r.is_cancelled, 1, memory_order_relaxed);
    REQUIRE(pthread_join(reader, &end) == 0);
    assert_ptr_equal(&r, end);
    gate_open(&r.at);
    REQUIRE_STATUS(TPOOL_OK, end_of(holder));
    REQUIRE_STATUS(TPOOL_OK, end_of(parent));
    tpool_future_release(r.child);
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(r.pool));
}

/* Workers end after each task, tasks end their threads, cancels leave tombstones, tasks wait for tasks. */
static void it_works_beside_all_that_begins_and_ends(void **state) {
    (void)state;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 3, .max_tasks_per_worker = 2, .measure = true });
    report text = { .used = 0 };
    for (int round = 0; round < 300; round++) {
        tpool_future *futures[8];
        nest inner = { 2, GATE_CLOSED };
        gate_open(&inner.at);
        for (int i = 0; i < 7; i++)
            futures[i] = named(pool, i % 2 ? "odd" : NULL, i == 3 && round % 4 == 0 ? end_thread : nothing, NULL);
        futures[7] = named(pool, "outer", nested_in_place, &inner);
        (void)tpool_future_cancel(futures[round % 7]);
        text.used = 0;
        REQUIRE_STATUS(TPOOL_OK, tpool_describe(pool, keep, &text));
        for (int i = 0; i < 8; i++) (void)end_of(futures[i]);
        REQUIRE_STATUS(TPOOL_OK, tpool_describe(pool, keep, &text));
    }
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
}

/* --- the function that takes the text */

static void one_that_gives_up_ends_it(void **state) {
    (void)state;
    held_pool h;
    held_create(&h, NULL);
    report text = { .most_calls = 1 };
    assert_status(TPOOL_FAILED, tpool_describe(h.pool, keep, &text));
    assert_int_equal(1, text.calls);
    text = (report){ .most_calls = 2 };
    assert_status(TPOOL_FAILED, tpool_describe(h.pool, keep, &text));
    assert_int_equal(2, text.calls);
    held_destroy(&h);
}

static void bad_arguments_are_refused(void **state) {
    (void)state;
    report text = { .used = 0 };
    tpool *pool = new_pool(1);
    assert_status(TPOOL_INVALID, tpool_describe(NULL, keep, &text));
    assert_status(TPOOL_INVALID, tpool_describe(pool, NULL, &text));
    assert_int_equal(0, text.calls);
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
}

/* It may make any call on the pool, from a task too. */
static bool works_in_it(const char *bytes, size_t size, void *context) {
    assert_works((tpool *)context);
    return size > 0 && bytes[size - 1] == '\n';
}
static void *describes(void *arg) {
    report *text = arg;
    return tpool_describe(tpool_current(), keep, text) == TPOOL_OK ? arg : NULL;
}
static void it_may_make_any_call(void **state) {
    (void)state;
    static report text;
    tpool *pool = named_pool(2);
    REQUIRE_STATUS(TPOOL_OK, tpool_describe(pool, works_in_it, pool));
    memset(&text, 0, sizeof text);
    tpool_future *future = named(pool, "describes", describes, &text);
    assert_ptr_equal(&text, take(future));
    assert_non_null(strstr(text.text, ": task \"describes\"\n"));
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
}

static bool ends_its_thread(const char *bytes, size_t size, void *context) {
    (void)bytes;
    (void)size;
    (void)context;
    pthread_exit(NULL);
}
static void *describes_and_ends(void *arg) {
    (void)arg;
    (void)tpool_describe(tpool_current(), ends_its_thread, NULL);
    return NULL;
}
static void it_may_end_its_thread(void **state) {
    (void)state;
    tpool *pool = named_pool(1);
    assert_status(TPOOL_BROKEN, end_of(submitted(pool, describes_and_ends, NULL)));
    assert_works(pool);
    ASSERT_COMES_TO_SAY(pool, ": sleeps\n");
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
}

#if HAVE_FORK
static void asks_in_a_child(void *context) {
    report text = { .used = 0 };
    CHECK_STATUS(TPOOL_BROKEN, tpool_describe((tpool *)context, keep, &text));
    CHECK(text.calls == 0);
}
static int child_exits = -1; /* whether this is the child, once it has forked */
static bool forks(const char *bytes, size_t size, void *context) {
    (void)bytes;
    (void)size;
    pid_t *child = context;
    if (child_exits >= 0) return true;
    fflush(NULL);
    *child = fork();
    child_exits = *child == 0;
    return true;
}
static void in_a_child_of_fork_the_pool_is_the_parents(void **state) {
    (void)state;
    held_pool h;
    pid_t child = -1;
    held_create(&h, NULL);
    in_child(asks_in_a_child, h.pool);
    tpool_status status = tpool_describe(h.pool, forks, &child);
    if (child == 0) _exit(status == TPOOL_BROKEN ? 0 : 1);
    assert_status(TPOOL_OK, status);
    assert_child_succeeds(child);
    held_destroy(&h);
}

static shared_gate *common;
static void *gate_of_processes(void *arg) {
    shared_gate_pass(common);
    return arg;
}
static void what_runs_in_a_worker_process_shows(void **state) {
    (void)state;
    common = shared_memory(sizeof *common);
    tpool *pool = process_pool_as((tpool_config){ .name = "away", .max_workers = 1 });
    tpool_future *task = named(pool, "there", gate_of_processes, NULL);
    REQUIRE_EVENTUALLY(atomic_load(&common->arrived) == 1);
    ASSERT_SAYS(pool, "away_0: task \"there\"\n");
    atomic_store(&common->open, 1);
    REQUIRE_STATUS(TPOOL_OK, end_of(task));
    REQUIRE_STATUS(TPOOL_OK, tpool_destroy(pool));
    munmap(common, sizeof *common);
}
#endif

static const struct CMUnitTest tests[] = {
    TEST(it_names_what_runs_and_what_is_queued),
    TEST(a_pool_that_has_run_nothing_has_one_line),
    TEST(it_counts_what_it_does_not_name),
    TEST(it_tells_what_is_held_and_why),
    TEST(it_sees_all_queues),
    TEST(a_task_without_a_name_shows_its_function),
    TEST(a_name_cannot_break_its_line),
    TEST(with_measure_it_says_since_when),
    TEST(it_tells_what_a_worker_waits_for),
    TEST(a_spare_worker_shows_as_one),
    TEST(tasks_on_one_stack_show_from_the_outside_inwards),
    TEST(items_loops_callbacks_and_initializers_show),
    TEST(it_works_while_all_workers_hang_on_a_lock_of_the_program),
    TEST(it_reads_nothing_of_a_queued_task_that_its_ender_writes),
    TEST(it_works_beside_all_that_begins_and_ends),
    TEST(one_that_gives_up_ends_it),
    TEST(bad_arguments_are_refused),
    TEST(it_may_make_any_call),
    TEST(it_may_end_its_thread),
#if HAVE_FORK
    TEST(in_a_child_of_fork_the_pool_is_the_parents),
    TEST(what_runs_in_a_worker_process_shows),
#endif
};
RUN_TESTS(tests)
