/* Groups and their members. */
#ifndef TPOOL_TESTS_GROUPS_H
#define TPOOL_TESTS_GROUPS_H
#include "../support.h"

static inline tpool_group *new_group_as(tpool_group_config config) {
    tpool_group *group = NULL;
    REQUIRE_STATUS(TPOOL_OK, tpool_group_create(&group, &config));
    REQUIRE(group != NULL);
    return group;
}
static inline tpool_group *new_group(void) { return new_group_as((tpool_group_config){ 0 }); }
/* Its members run one after the other. */
static inline tpool_group *new_serial(void) { return new_group_as((tpool_group_config){ .limit = 1 }); }
static inline tpool_group *new_subgroup(tpool_group *parent) {
    return new_group_as((tpool_group_config){ .parent = parent });
}

static inline void add_member(tpool *pool, tpool_group *group, tpool_fn fn, void *arg) {
    tpool_task task = { .fn = fn, .arg = arg, .group = group };
    REQUIRE_STATUS(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
}
/* A member with a future. */
static inline tpool_future *kept_member(tpool *pool, tpool_group *group, tpool_fn fn, void *arg) {
    return submitted_task(pool, (tpool_task){ .fn = fn, .arg = arg, .group = group });
}
/* Adds a member that stands at the gate when this returns. */
static inline void add_member_at(tpool *pool, tpool_group *group, gate *g) {
    int before = gate_arrived(g);
    add_member(pool, group, gate_task, g);
    AWAIT_ARRIVALS(g, before + 1);
}
#endif
