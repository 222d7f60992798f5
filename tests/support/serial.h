/* A serial group in a pool: its members run one after the other, at first one at a gate. */
#ifndef TPOOL_TESTS_SERIAL_H
#define TPOOL_TESTS_SERIAL_H
#include "groups.h"

typedef struct serial {
    tpool *pool;
    tpool_group *group;
    gate gate;
    gate second; /* of serial_reach_second; the test opens it */
    atomic_int ran;
} serial;

static inline void serial_add(serial *b, tpool_fn fn, void *arg, int count) {
    for (int i = 0; i < count; i++) add_member(b->pool, b->group, fn, arg);
}
/* A member stands at the gate: what the test adds waits behind it. */
static inline void serial_begin_as(serial *b, tpool_config config, tpool_group_config group) {
    *b = (serial){ .gate = GATE_CLOSED, .second = GATE_CLOSED };
    group.limit = 1;
    b->pool = new_pool_as(config);
    b->group = new_group_as(group);
    add_member_at(b->pool, b->group, &b->gate);
}
static inline void serial_begin(serial *b, tpool_config config) {
    serial_begin_as(b, config, (tpool_group_config){ 0 });
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
