/* Carriers of plain members without memory: what goes on with a serial group asks for none. The implementation is
   included. */
#include <stddef.h>
static void *refusing_malloc(size_t size);
#define TPOOL_MALLOC(size) refusing_malloc(size)
#define TPOOL_FREE(pointer) free(pointer)
#include "support.h"
#include "support/serial.h"
#include "internals/check.h"

static atomic_bool refuses;
static void *refusing_malloc(size_t size) { return atomic_load(&refuses) ? NULL : malloc(size); }

/* Uses up the blocks that are left, and keeps them. */
static int use_up(tpool *pool, tpool_future **kept, int most) {
    int count = 0;
    while (count < most && tpool_submit(pool, nothing, NULL, &kept[count]) == TPOOL_OK) count++;
    return count;
}
enum { MOST_KEPT = 100000 };
static tpool_future *kept[MOST_KEPT];

/* The queue has no room for the carrier, which has to let others go first. */
static void a_turn_ends_without_memory(void **state) {
    (void)state;
    serial b;
    atomic_int others = 0;
    int wanted = 0;
    serial_begin(&b, (tpool_config){ .max_workers = 1 });
    serial_add(&b, count_up, &b.ran, 50);
    atomic_store(&refuses, true);
    while (tpool_submit(b.pool, count_up, &others, NULL) == TPOOL_OK) wanted++;
    assert_true(wanted > 0);
    int count = use_up(b.pool, kept, MOST_KEPT);
    serial_finish(&b);
    assert_status(TPOOL_OK, tpool_drain(b.pool, LIMIT));
    assert_int_equal(50, atomic_load(&b.ran));
    assert_int_equal(wanted, atomic_load(&others));
    atomic_store(&refuses, false);
    while (count > 0) tpool_future_release(kept[--count]);
    serial_end(&b, TPOOL_OK);
}
/* The pool cancels what has not begun, and is shut down. */
static void a_shutdown_needs_no_memory(void **state) {
    (void)state;
    serial b;
    serial_begin(&b, (tpool_config){ .max_workers = 1 });
    serial_add(&b, count_up, &b.ran, 50);
    atomic_store(&refuses, true);
    int count = use_up(b.pool, kept, MOST_KEPT);
    assert_status(TPOOL_OK, tpool_shutdown(b.pool, TPOOL_CANCEL_PENDING));
    gate_open(&b.gate);
    assert_status(TPOOL_CANCELLED, tpool_group_wait(b.group, LIMIT, NULL));
    assert_int_equal(0, atomic_load(&b.ran));
    atomic_store(&refuses, false);
    assert_int_equal(50 + count, stats_of(b.pool).cancelled);
    while (count > 0) tpool_future_release(kept[--count]);
    serial_end(&b, TPOOL_CANCELLED);
}

int main(void) {
    const struct CMUnitTest tests[] = { TEST(a_turn_ends_without_memory), TEST(a_shutdown_needs_no_memory) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
