/* A serial group in a pool: its members run one after the other, at first one at a gate. */
#ifndef TPOOL_TESTS_SERIAL_H
#define TPOOL_TESTS_SERIAL_H
#include "../support.h"

typedef struct serial {
    tpool *pool;
    tpool_group *group;
    gate gate;
    gate second; /* of serial_reach_second; the test opens it */
    atomic_int ran;
} serial;

static inline tpool_group *new_serial(void) {
    tpool_group *group = NULL;
    assert_status(TPOOL_OK, tpool_group_create(&group, &(tpool_group_config){ .limit = 1 }));
    return group;
}
static inline void add_member(tpool *pool, tpool_group *group, tpool_fn fn, void *arg) {
    tpool_task task = { .fn = fn, .arg = arg, .group = group };
    assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
}
static inline void serial_add(serial *b, tpool_fn fn, void *arg, int count) {
    for (int i = 0; i < count; i++) add_member(b->pool, b->group, fn, arg);
}
/* A member stands at the gate: what the test adds waits behind it. */
static inline void serial_begin(serial *b, tpool_config config) {
    *b = (serial){ .gate = GATE_CLOSED, .second = GATE_CLOSED };
    b->pool = new_pool_as(config);
    b->group = new_serial();
    serial_add(b, gate_task, &b->gate, 1);
    AWAIT_ARRIVALS(&b->gate, 1);
}
/* Adds a member at the second gate, and `count` others behind it. The first one ends, and the second gate is reached: an
 * entry of the carrier runs, and others wait behind it. */
static inline void serial_reach_second(serial *b, tpool_fn fn, void *arg, int count) {
    serial_add(b, gate_task, &b->second, 1);
    serial_add(b, fn, arg, count);
    gate_open(&b->gate);
    AWAIT_ARRIVALS(&b->second, 1);
}
/* All members run. */
static inline void serial_finish(serial *b) {
    gate_open(&b->gate);
    assert_status(TPOOL_OK, tpool_group_wait(b->group, LIMIT, NULL));
}
/* `status`: what the group comes to. */
static inline void serial_end(serial *b, tpool_status status) {
    gate_open(&b->gate);
    assert_status(status, tpool_group_destroy(b->group));
    assert_status(TPOOL_OK, tpool_destroy(b->pool));
}
#endif
