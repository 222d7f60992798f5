/* Every interleaving of a trace that is read while it is written: a record is whole, or it is not there; none is shown
   twice, and what has an end has had a beginning. */
#include "schedule.h"

enum { ROOM = 2, EVENTS = 5 };
static tpool__ring ring;
static tpool__record_words memory[ROOM];

/* All words of a record say which it is. */
static void *adds_records(void *arg) {
    for (int i = 1; i <= EVENTS; i++) {
        const char *name = (const char *)(uintptr_t)i;
        tpool_event event = { TPOOL_EVENT_STARTED, i, (tpool_status)i, i, (uint64_t)i, 0, name };
        tpool__ring_add(&ring, &event, i % 2);
    }
    return arg;
}
static void check_record(const tpool__traced *record, uint64_t which) {
    CHECK(record->task == which && record->about == which && record->now == (int64_t)which);
    CHECK(record->worker == (int)which && record->status == (tpool_status)which && record->ran == (which % 2 == 1));
    CHECK(record->kind == TPOOL_EVENT_STARTED);
}
static void read_against_writer(uintptr_t counted) {
    memset(&ring, 0, sizeof ring);
    memset(memory, 0, sizeof memory);
    CHECK(tpool__ring_set(&ring, 1, memory, ROOM) == NULL);
    tpool__store_relaxed(&ring.begun, counted);
    tpool__store_relaxed(&ring.next, counted);
    tpool__ring_add(&ring, &(tpool_event){ .kind = TPOOL_EVENT_STARTED }, false);
    pthread_t writer = started(adds_records, NULL);
    uintptr_t end = tpool__load_acquire(&ring.next), next = end - ROOM;
    tpool__traced records[ROOM];
    size_t count, first = tpool__ring_read(&ring, 1, &next, end, records, ROOM, &count);
    CHECK(next == end && count <= ROOM && first <= count);
    for (size_t i = first; i < count; i++)
        if (records[i].kind) check_record(&records[i], end - count + i - counted);
    outcome((int)(count - first));
    join(writer);
}

static void reader_against_writer(void) { read_against_writer(0); }
/* Where a word has 32 bits, the counts wrap some minutes later. */
static void counts_that_wrap(void) { read_against_writer(UINTPTR_MAX - 3); }

/* The same from outside: a worker runs tasks in its ring of two records, and the program writes the trace. */
static int open_slices;
static char last_name;
static double begun_at; /* the clock stands still here: yet each slice has a length */
static double time_of(const char *line) {
    const char *ts = strstr(line, "\"ts\":");
    CHECK(ts != NULL);
    return ts ? strtod(ts + 5, NULL) : 0;
}
static bool reads_lines(const char *bytes, size_t size, void *context) {
    (void)context;
    char text[2100];
    CHECK(size < sizeof text);
    memcpy(text, bytes, size);
    text[size] = 0;
    for (const char *line = text; *line; line++) {
        const char *name = strstr(line, "\"cat\":\"task\",\"name\":\"");
        const char *after = strchr(line, '\n');
        if (!after) break;
        if (strncmp(line, "{\"ph\":\"B\"", 9) == 0 && name && name < after) {
            char which = name[21];
            CHECK(which > last_name && which <= 'd' && open_slices == 0);
            last_name = which;
            open_slices++;
            begun_at = time_of(line);
        }
        if (strncmp(line, "{\"ph\":\"E\"", 9) == 0) CHECK(--open_slices == 0 && time_of(line) > begun_at);
        line = after;
    }
    return true;
}
static void *does_nothing(void *arg) { return arg; }
static void trace_against_tasks(void) {
    static const char *const names[] = { "a", "b", "c", "d" };
    tpool *pool = new_pool((tpool_config){ .max_workers = 1 });
    tpool_future *futures[4];
    open_slices = 0;
    last_name = 0;
    CHECK_STATUS(TPOOL_OK, tpool_trace_start(pool, ROOM * TPOOL__RECORD_BYTES));
    for (int i = 0; i < 4; i++)
        CHECK_STATUS(TPOOL_OK,
                     tpool_submit_task(pool, &(tpool_task){ .fn = does_nothing, .name = names[i] }, &futures[i]));
    CHECK_STATUS(TPOOL_OK, tpool_trace_write(pool, reads_lines, NULL));
    CHECK(open_slices <= 1);
    outcome(last_name ? last_name - 'a' + 1 : 0);
    for (int i = 0; i < 4; i++) CHECK_STATUS(TPOOL_OK, end_of(futures[i]));
    end_pool(pool);
}

SCHEDULES(SCENARIO(reader_against_writer, .quick = 3, .preemptions = 3, .outcomes = 3),
          SCENARIO(counts_that_wrap, .quick = 3, .preemptions = 3, .outcomes = 3),
          SCENARIO(trace_against_tasks, .quick = 1, .preemptions = 2, .outcomes = 3))
