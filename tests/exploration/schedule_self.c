/* Does the explorer find what it should? Small programs with a fault each; and faults that need three preemptions,
   or the clock. Everything here but `sound_...` must fail, in the way that it says. */
#include "schedule.h"

static _Atomic(uint32_t) x, y, z;
static void *in_two_steps(void *arg) {
    uint32_t seen = atomic_load(&x);
    atomic_store(&x, seen + 1);
    return arg;
}
static void lost_update(void) {
    pthread_t helper = started(in_two_steps, NULL);
    (void)in_two_steps(NULL);
    join(helper);
    CHECK(atomic_load(&x) == 2);
}
static void *in_one_step(void *arg) {
    atomic_fetch_add(&x, 1);
    return arg;
}
static void sound_update(void) {
    pthread_t helper = started(in_one_step, NULL);
    (void)in_one_step(NULL);
    join(helper);
    CHECK(atomic_load(&x) == 2);
}

/* Fails only if this thread is stopped before its loads and between them, and the helper between its stores. */
static void *write_both_twice(void *arg) {
    atomic_store(&x, 1);
    atomic_store(&y, 1);
    atomic_store(&x, 2);
    atomic_store(&y, 2);
    return arg;
}
static void needs_three_preemptions(void) {
    pthread_t helper = started(write_both_twice, NULL);
    uint32_t seen_x = atomic_load(&x), seen_y = atomic_load(&y);
    CHECK(!(seen_x == 1 && seen_y == 2));
    join(helper);
}

/* The waker looks whether somebody sleeps before the sleeper says so. */
static void *wake_if_asleep(void *arg) {
    atomic_store(&x, 1);
    if (atomic_load(&y)) (void)schedule_futex_wake(&z, 1, __func__, __LINE__);
    return arg;
}
static void lost_wake(void) {
    pthread_t helper = started(wake_if_asleep, NULL);
    if (!atomic_load(&x)) {
        atomic_store(&y, 1);
        (void)schedule_futex_wait(&z, 0, -1, __func__, __LINE__);
    }
    join(helper);
}

static tpool__lock_word a, b;
static void *lock_b_then_a(void *arg) {
    tpool__lock(&b);
    tpool__lock(&a);
    tpool__unlock(&a);
    tpool__unlock(&b);
    return arg;
}
static void locks_in_two_orders(void) {
    pthread_t helper = started(lock_b_then_a, NULL);
    tpool__lock(&a);
    tpool__lock(&b);
    tpool__unlock(&b);
    tpool__unlock(&a);
    join(helper);
}
static uint32_t plain;
static void *add_under_lock(void *arg) {
    tpool__lock(&a);
    uint32_t seen = plain;
    atomic_store(&y, 1);
    plain = seen + 1;
    tpool__unlock(&a);
    return arg;
}
static void sound_lock(void) {
    pthread_t helpers[2] = { started(add_under_lock, NULL), started(add_under_lock, NULL) };
    (void)add_under_lock(NULL);
    for (int i = 0; i < 2; i++) join(helpers[i]);
    CHECK(plain == 3);
}

/* The second thread frees, but both may think that they are the second. */
typedef struct shared {
    _Atomic(uint32_t) references;
} shared;
static void *leave_shared(void *arg) {
    shared *s = arg;
    uint32_t left = atomic_load(&s->references) - 1;
    atomic_store(&s->references, left);
    if (left == 0) TPOOL_FREE(s);
    return NULL;
}
static void *leave_shared_early(void *arg) {
    shared *s = arg;
    if (atomic_fetch_sub(&s->references, 1) == 1) TPOOL_FREE(s);
    else (void)atomic_load(&s->references);
    return NULL;
}
static void with_two(void *(*leave)(void *)) {
    shared *s = TPOOL_MALLOC(sizeof *s);
    atomic_store(&s->references, 2);
    pthread_t helper = started(leave, s);
    (void)leave(s);
    join(helper);
}
static void lost_reference(void) { with_two(leave_shared); }
static void use_after_free(void) { with_two(leave_shared_early); }
static void *free_it(void *arg) {
    if (!atomic_exchange(&x, 1)) atomic_store(&y, 1);
    TPOOL_FREE(arg);
    return NULL;
}
static void freed_twice(void) {
    void *p = TPOOL_MALLOC(10);
    pthread_t helper = started(free_it, p);
    join(helper);
    if (atomic_load(&y)) TPOOL_FREE(p);
}
static void written_after_free(void) {
    char *volatile p = TPOOL_MALLOC(10);
    TPOOL_FREE(p);
    p[3] = 1;
}
static void written_past_end(void) {
    char *volatile p = TPOOL_MALLOC(10);
    p[10] = 1;
    TPOOL_FREE(p);
}
static void leaked(void) { (void)TPOOL_MALLOC(10); }

/* The address of something on the stack of a thread that has ended. */
static void *_Atomic hung_out;
static void *hang_out(void *arg) {
    _Atomic(uint32_t) local = 0;
    atomic_store(&hung_out, (void *)(uintptr_t)&local);
    atomic_store(&local, 1);
    return arg;
}
static void stack_that_is_left(void) {
    pthread_t helper = started(hang_out, NULL);
    _Atomic(uint32_t) *there = (_Atomic(uint32_t) *)atomic_load(&hung_out);
    if (there) (void)atomic_load(there);
    join(helper);
}

/* Spinning ends if the other gets its turn: fairness. Two that wait for each other never do. */
static void *set_x(void *arg) {
    atomic_store(&x, 1);
    return arg;
}
static void sound_spinning(void) {
    pthread_t helper = started(set_x, NULL);
    while (!atomic_load(&x)) sched_yield();
    join(helper);
}
static void *spin_for_y(void *arg) {
    while (!atomic_load(&y)) sched_yield();
    atomic_store(&x, 1);
    return arg;
}
static void livelock(void) {
    pthread_t helper = started(spin_for_y, NULL);
    while (!atomic_load(&x)) sched_yield();
    atomic_store(&y, 1);
    join(helper);
}

/* The time limit passes although everybody could have gone on. */
static void timer_before_work(void) {
    pthread_t helper = started(set_x, NULL);
    schedule_sleep(TPOOL_MS(1));
    CHECK(atomic_load(&x) == 1);
    join(helper);
}
static void crash(void) {
    pthread_t helper = started(set_x, NULL);
    if (atomic_load(&x)) *(volatile int *)NULL = 1;
    join(helper);
}

SCHEDULES(SCENARIO(lost_update, .quick = 2, .preemptions = 2, .fails = "CHECK"),
          SCENARIO(sound_update, .quick = 3, .preemptions = 3),
          SCENARIO(needs_three_preemptions, .quick = 3, .preemptions = 3, .fails = "CHECK"),
          SCENARIO(lost_wake, .quick = 2, .preemptions = 2, .fails = "hang"),
          SCENARIO(locks_in_two_orders, .quick = 2, .preemptions = 2, .fails = "hang"),
          SCENARIO(sound_lock, .quick = 3, .preemptions = 4),
          SCENARIO(lost_reference, .quick = 2, .preemptions = 2, .fails = "never freed"),
          SCENARIO(use_after_free, .quick = 2, .preemptions = 2, .fails = "memory that was freed"),
          SCENARIO(freed_twice, .quick = 2, .preemptions = 2, .fails = "freed twice"),
          SCENARIO(written_after_free, .quick = 2, .preemptions = 2, .fails = "written after"),
          SCENARIO(written_past_end, .quick = 2, .preemptions = 2, .fails = "past its end"),
          SCENARIO(leaked, .quick = 2, .preemptions = 2, .fails = "never freed"),
          SCENARIO(stack_that_is_left, .quick = 2, .preemptions = 2, .fails = "of its stack"),
          SCENARIO(sound_spinning, .quick = 3, .preemptions = 4),
          SCENARIO(livelock, .quick = 1, .preemptions = 1, .fails = "no end"),
          SCENARIO(timer_before_work, .quick = 1, .preemptions = 2, .fails = "CHECK"),
          SCENARIO(crash, .quick = 2, .preemptions = 2, .fails = "a crash"))
