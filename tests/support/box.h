/* A task's one argument, by pointer or copied, and what became of it: how often it ran and was freed, and whether it
   was whole. */
#ifndef TPOOL_TESTS_BOX_H
#define TPOOL_TESTS_BOX_H
#include "../support.h"

/* What fn gets: by pointer the box's own, by arg_size a copy. */
typedef struct payload {
    struct box *box;
    unsigned char filler[43];
} payload;

typedef struct box {
    atomic_int runs, frees;
    void *fn_got, *free_got;
    tpool_future *future; /* set while the task cannot end, so that arg_free can look at it */
    tpool_state state_at_free;
    bool done_at_free, intact_at_run, intact_at_free;
    payload given;
} box;

static inline void payload_fill(payload *p, box *b) {
    p->box = b;
    for (size_t i = 0; i < sizeof p->filler; i++) p->filler[i] = (unsigned char)(i * 7 + 3);
}
static inline void box_init(box *b) {
    *b = (box){ .runs = 0 };
    payload_fill(&b->given, b);
}
static inline bool payload_intact(const payload *p) {
    for (size_t i = 0; i < sizeof p->filler; i++) {
        if (p->filler[i] != (unsigned char)(i * 7 + 3)) return false;
    }
    return true;
}

static inline void *box_run(void *arg) {
    payload *p = arg;
    p->box->fn_got = arg;
    p->box->intact_at_run = payload_intact(p);
    atomic_fetch_add(&p->box->runs, 1);
    return p->box;
}
static inline void *box_fail(void *arg) {
    box_run(arg);
    return tpool_raise(17, "as asked");
}
static inline void box_free(void *arg) {
    payload *p = arg;
    box *b = p->box;
    b->free_got = arg;
    b->intact_at_free = payload_intact(p);
    if (b->future) {
        b->state_at_free = tpool_future_state(b->future);
        b->done_at_free = tpool_future_done(b->future);
    }
    atomic_fetch_add(&b->frees, 1);
}

static inline tpool_task box_task(tpool_fn fn, box *b, bool copied) {
    return (tpool_task){ .fn = fn, .arg = &b->given, .arg_size = copied ? sizeof b->given : 0, .arg_free = box_free };
}

static inline void check_freed_once(box *b, bool copied, bool ran) {
    assert_int_equal(ran ? 1 : 0, atomic_load(&b->runs));
    assert_int_equal(1, atomic_load(&b->frees));
    assert_true(b->intact_at_free);
    if (ran) {
        assert_true(b->intact_at_run);
        assert_ptr_equal(b->fn_got, b->free_got);
    }
    if (copied) assert_ptr_not_equal(&b->given, b->free_got);
    else assert_ptr_equal(&b->given, b->free_got);
    if (b->future) {
        assert_false(b->done_at_free);
        assert_true(b->state_at_free == TPOOL_PENDING || b->state_at_free == TPOOL_RUNNING);
    }
}
#endif
