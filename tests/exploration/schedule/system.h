/* What stands between tpool.h and the scheduler of ../schedule.h, which includes this: the system beneath it, and
   atomics and POSIX calls by the same names. */
#ifndef TPOOL_TESTS_SCHEDULE_SYSTEM_H
#define TPOOL_TESTS_SCHEDULE_SYSTEM_H

/* ---- The system beneath tpool.h */
static int schedule_clock_gettime(struct timespec *t) {
    schedule_word *clock = schedule_step(&S->now, false, "clock_gettime", 0);
    schedule_happened(clock, false);
    t->tv_sec = (time_t)(S->now / 1000000000);
    t->tv_nsec = (long)(S->now % 1000000000);
    return 0;
}
/* Sleeps on a word if it has that value. `ns` below 0: without a limit. False: the time was over. */
static bool schedule_futex_wait(const volatile void *address, uint32_t expected, int64_t ns, const char *function,
                                int line) {
    schedule_word *word = schedule_step(address, true, function, line);
    uint32_t now;
    memcpy(&now, (const void *)(uintptr_t)address, sizeof now);
    if (S->tracing)
        schedule_tell("sleeps on %p: %u%s", (void *)(uintptr_t)address, expected,
                      now == expected ? "" : ", but it is another");
    schedule_happened(word, now == expected);
    if (now != expected) return true;
    schedule_thread *self = schedule_self();
    self->status = SCHEDULE_ASLEEP;
    self->asleep_on = (const void *)(uintptr_t)address;
    self->queued = ++S->queue_count;
    self->timed_out = false;
    if (ns >= 0 && ns < SCHEDULE_NS_A_LONG_TIME) {
        self->wake_at = S->now + ns;
        S->timed |= schedule_bit(S->current);
    }
    schedule_block_here();
    if (self->timed_out) schedule_happened(schedule_find_word(&S->now), false);
    return !self->timed_out;
}
static long schedule_futex_wake(const volatile void *address, unsigned most, const char *function, int line) {
    schedule_word *word = schedule_step(address, false, function, line);
    schedule_happened(word, true);
    long woken = 0;
    for (; most > 0; most--) {
        int first = -1;
        for (int i = 0; i < S->started; i++)
            if (S->threads[i].status == SCHEDULE_ASLEEP &&
                S->threads[i].asleep_on == (const void *)(uintptr_t)address &&
                (first < 0 || S->threads[i].queued < S->threads[first].queued))
                first = i;
        if (first < 0) break;
        schedule_make_ready(first, false);
        woken++;
    }
    if (S->tracing) schedule_tell("wakes %ld at %p", woken, (void *)(uintptr_t)address);
    return woken;
}
static long schedule_syscall(const char *function, int line, long number, ...) {
    va_list arguments;
    va_start(arguments, number);
    long result = 0;
    if (number == SYS_futex) {
        void *word = va_arg(arguments, void *);
        int operation = va_arg(arguments, int) & 127;
        uint32_t value = va_arg(arguments, uint32_t);
        if (operation == 0 /* FUTEX_WAIT */) {
            struct {
                long sec, nsec;
            } *t = va_arg(arguments, void *);
            if (!schedule_futex_wait(word, value, t ? t->sec * 1000000000 + t->nsec : -1, function, line)) {
                errno = ETIMEDOUT;
                result = -1;
            }
        } else if (operation == 1 /* FUTEX_WAKE */) {
            result = schedule_futex_wake(word, value, function, line);
        } else {
            schedule_fail("a futex operation that the explorer does not know: %d", operation);
        }
    } else if (number == SYS_sched_getaffinity) {
        (void)va_arg(arguments, int);
        size_t size = va_arg(arguments, size_t);
        unsigned char *mask = va_arg(arguments, void *);
        memset(mask, 0, size);
        for (int i = 0; i < S->cpus; i++) mask[i / 8] |= (unsigned char)(1u << i % 8);
        result = 128;
    } else if (number == SYS_sched_getscheduler || number == SYS_sched_getparam) { /* 0: an ordinary thread */
        result = 0;
#if defined(SYS_sched_getattr)
    } else if (number == SYS_sched_getattr) { /* likewise, in what the caller has cleared */
        result = 0;
#endif
#if defined(SYS_membarrier)
    } else if (number == SYS_membarrier) { /* accesses are in order here anyway */
        result = 0;
#endif
    } else {
        schedule_fail("a system call that the explorer does not know: %ld", number);
    }
    va_end(arguments);
    return result;
}

static void schedule_thread_end(void *result) {
    schedule_thread *self = schedule_self();
    for (bool again = true; again;) {
        again = false;
        for (int i = 0; i < S->key_count; i++) {
            const void *value = self->specific[i];
            self->specific[i] = NULL;
            if (!value || !S->key_destructors[i]) continue;
            S->key_destructors[i]((void *)(uintptr_t)value);
            again = true;
        }
    }
    schedule_happened(schedule_step(self, false, "the end of a thread", 0), true);
    self->result = result;
    self->status = SCHEDULE_ENDED;
    S->alive &= ~schedule_bit(S->current);
    for (int i = 0; i < S->started; i++)
        if (S->threads[i].status == SCHEDULE_JOINING && S->threads[i].asleep_on == self) schedule_make_ready(i, false);
    if (S->tracing) schedule_tell("ends");
    schedule_block_here();
}
static void schedule_thread_entry(void) {
    schedule_thread *self = schedule_self();
    schedule_thread_end(self->fn(self->arg));
    abort();
}
static int schedule_thread_start(void *(*fn)(void *), void *arg) {
    int i = S->started++;
    if (i >= SCHEDULE_THREADS) {
        S->started--;
        schedule_fail("more than %d threads", SCHEDULE_THREADS);
    }
    schedule_thread *thread = &S->threads[i];
    memset(thread, 0, sizeof *thread);
    thread->status = SCHEDULE_READY;
    thread->fn = fn;
    thread->arg = arg;
    thread->past = schedule_mix((uint64_t)i + 1, S->current >= 0 ? schedule_self()->past : 0);
    S->state ^= thread->past;
    snprintf(thread->name, sizeof thread->name, "%s", i == 0 ? "main" : "helper");
    thread->stack_pointer = schedule_new_stack(S->stacks + (size_t)(i + 1) * SCHEDULE_STACK, schedule_thread_entry);
    S->ready |= schedule_bit(i);
    S->alive |= schedule_bit(i);
    if (S->mode == SCHEDULE_PCT) S->priorities[i] = (uint32_t)(schedule_random() >> 33) | 0x80000000u;
    return i;
}
static int schedule_pthread_create(pthread_t *thread, void *(*fn)(void *), void *arg, const char *function, int line) {
    schedule_happened(schedule_step(&S->started, false, function, line), true);
    if (S->refused_thread && --S->refused_thread == 0) return EAGAIN;
    int i = schedule_thread_start(fn, arg);
    *thread = (pthread_t)(i + 1);
    if (S->tracing) schedule_tell("starts T%d", i);
    return 0;
}
static int schedule_pthread_join(pthread_t thread, void **result, const char *function, int line) {
    int i = (int)thread - 1;
    schedule_thread *other = &S->threads[i], *self = schedule_self();
    if (i < 0 || i >= S->started) schedule_fail("a join of a thread that there is not");
    schedule_word *word = schedule_step(other, false, function, line);
    if (other->status != SCHEDULE_ENDED) {
        self->status = SCHEDULE_JOINING;
        self->asleep_on = other;
        schedule_block_here();
    }
    schedule_happened(word, false);
    if (result) *result = other->result;
    return 0;
}
static int schedule_key_create(pthread_key_t *key, void (*destructor)(void *)) {
    *key = (pthread_key_t)S->key_count;
    if (S->key_count == 4) return EAGAIN;
    S->key_destructors[S->key_count++] = destructor;
    return 0;
}
static int schedule_setspecific(pthread_key_t key, const void *value) {
    schedule_self()->specific[key] = value;
    return 0;
}
static int schedule_atexit(void (*handler)(void)) {
    S->exit_handlers[S->exit_handler_count++] = handler;
    return 0;
}
static int schedule_prctl(int option, unsigned long value) {
    if (option == PR_SET_NAME) snprintf(schedule_self()->name, sizeof schedule_self()->name, "%.15s", (char *)value);
    return 0;
}
static int schedule_nothing(const void *a, const void *b) {
    (void)a;
    (void)b;
    return 0;
}
/* A timed wait for nothing: whatever follows may happen at any moment, each at the price of a preemption. */
__attribute__((unused)) static void schedule_sleep(int64_t ns) {
    static const uint32_t nothing = 0;
    (void)schedule_futex_wait(&nothing, 0, ns, "schedule_sleep", 0);
}
/* Sleeps until nobody else can go on, other than by letting time pass. */
__attribute__((unused)) static void schedule_settle(void) {
    schedule_thread *self = schedule_self();
    schedule_is_at(self, "schedule_settle", 0);
    self->status = SCHEDULE_ASLEEP;
    S->settling |= schedule_bit(S->current);
    schedule_block_here();
    uint64_t before = self->past; /* all that was done by all has happened before */
    self->past = schedule_mix(before, S->state);
    S->state ^= before ^ self->past;
}
/* What the program's end does. */
__attribute__((unused)) static void schedule_run_exit(void) {
    while (S->exit_handler_count > 0) S->exit_handlers[--S->exit_handler_count]();
}

/* ---- <stdatomic.h>, by the same names */
#if defined(__clang__)
#define SCHEDULE_LOAD(p) __c11_atomic_load((p), __ATOMIC_RELAXED)
#define SCHEDULE_STORE(p, v) __c11_atomic_store((p), (v), __ATOMIC_RELAXED)
#define SCHEDULE_EXCHANGE(p, v) __c11_atomic_exchange((p), (v), __ATOMIC_RELAXED)
#define SCHEDULE_CAS(p, s, v) __c11_atomic_compare_exchange_strong((p), (s), (v), __ATOMIC_RELAXED, __ATOMIC_RELAXED)
#define SCHEDULE_FETCH(op, p, v) __c11_atomic_fetch_##op((p), (v), __ATOMIC_RELAXED)
#else
#define SCHEDULE_LOAD(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define SCHEDULE_STORE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define SCHEDULE_EXCHANGE(p, v) __atomic_exchange_n((p), (v), __ATOMIC_RELAXED)
#define SCHEDULE_CAS(p, s, v) __atomic_compare_exchange_n((p), (s), (v), 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)
#define SCHEDULE_FETCH(op, p, v) __atomic_fetch_##op((p), (v), __ATOMIC_RELAXED)
#endif
/* Tells a step in a trace. */
static inline void schedule_trace(const char *what, const volatile void *address, uint64_t value) {
    if (S->tracing) schedule_tell("%-8s %p: %llx", what, (void *)(uintptr_t)address, (unsigned long long)value);
}
/* The operand first, since it may itself be an access: nothing else comes between the step and the access. */
#define SCHEDULE_ACCESS(kind, pointer, operand, writes, operation) \
    __extension__({ \
        __auto_type schedule_operand = (operand); \
        __auto_type schedule_at = (pointer); \
        schedule_word *schedule_here = schedule_step(schedule_at, true, __func__, __LINE__); \
        __auto_type schedule_value = (operation); \
        schedule_happened(schedule_here, (writes)); \
        schedule_trace(kind, schedule_at, (uint64_t)(uintptr_t)schedule_value); \
        (void)schedule_operand; \
        schedule_value; \
    })
#undef atomic_load_explicit
#undef atomic_store_explicit
#undef atomic_exchange_explicit
#undef atomic_compare_exchange_strong_explicit
#undef atomic_compare_exchange_weak_explicit
#undef atomic_fetch_add_explicit
#undef atomic_fetch_sub_explicit
#undef atomic_fetch_or_explicit
#undef atomic_fetch_and_explicit
#undef atomic_fetch_xor_explicit
#undef atomic_load
#undef atomic_store
#undef atomic_exchange
#undef atomic_fetch_add
#undef atomic_fetch_sub
#undef atomic_thread_fence
#define atomic_load_explicit(p, o) SCHEDULE_ACCESS("load", p, 0, false, SCHEDULE_LOAD(schedule_at))
#define atomic_store_explicit(p, v, o) \
    ((void)SCHEDULE_ACCESS("store", p, v, true, (SCHEDULE_STORE(schedule_at, schedule_operand), schedule_operand)))
#define atomic_exchange_explicit(p, v, o) \
    SCHEDULE_ACCESS("exchange", p, v, true, SCHEDULE_EXCHANGE(schedule_at, schedule_operand))
#define atomic_compare_exchange_strong_explicit(p, s, v, o, f) \
    SCHEDULE_ACCESS("cas", p, v, schedule_value, SCHEDULE_CAS(schedule_at, s, schedule_operand))
#define atomic_compare_exchange_weak_explicit(p, s, v, o, f) atomic_compare_exchange_strong_explicit(p, s, v, o, f)
#define SCHEDULE_FETCH_ACCESS(op, p, v) \
    SCHEDULE_ACCESS(#op, p, v, true, SCHEDULE_FETCH(op, schedule_at, schedule_operand))
#define atomic_fetch_add_explicit(p, v, o) SCHEDULE_FETCH_ACCESS(add, p, v)
#define atomic_fetch_sub_explicit(p, v, o) SCHEDULE_FETCH_ACCESS(sub, p, v)
#define atomic_fetch_or_explicit(p, v, o) SCHEDULE_FETCH_ACCESS(or, p, v)
#define atomic_fetch_and_explicit(p, v, o) SCHEDULE_FETCH_ACCESS(and, p, v)
#define atomic_fetch_xor_explicit(p, v, o) SCHEDULE_FETCH_ACCESS(xor, p, v)
#define atomic_load(p) atomic_load_explicit(p, memory_order_seq_cst)
#define atomic_store(p, v) atomic_store_explicit(p, v, memory_order_seq_cst)
#define atomic_exchange(p, v) atomic_exchange_explicit(p, v, memory_order_seq_cst)
#define atomic_fetch_add(p, v) atomic_fetch_add_explicit(p, v, memory_order_seq_cst)
#define atomic_fetch_sub(p, v) atomic_fetch_sub_explicit(p, v, memory_order_seq_cst)
#define atomic_thread_fence(o) ((void)0) /* accesses are in order here anyway */

/* ---- The POSIX calls, by the same names */
#define __builtin_ia32_pause() schedule_yield_here(__func__, __LINE__)
#define sched_yield() schedule_yield_here(__func__, __LINE__)
/* A thread that gives way once may be chosen again at once, so to be preempted there is all that it can come to. */
#define TPOOL__GIVE_WAY() ((void)0)
#define TPOOL__LOOP_LEAST 0                /* loops of a few items are shared */
#define TPOOL__DRAINER_LOOKS TPOOL_FOREVER /* a wake that is lost is a hang */
#define clock_gettime(clock, t) schedule_clock_gettime(t)
#define syscall(...) schedule_syscall(__func__, __LINE__, __VA_ARGS__)
#define pthread_create(t, a, fn, arg) ((void)(a), schedule_pthread_create((t), (fn), (arg), __func__, __LINE__))
#define pthread_join(t, r) schedule_pthread_join((t), (r), __func__, __LINE__)
#define pthread_exit(r) schedule_thread_end(r)
#define pthread_self() ((pthread_t)(S->current + 1))
#define pthread_sigmask(how, set, old) schedule_nothing((set), (old))
#define pthread_attr_init(a) schedule_nothing((a), NULL)
#define pthread_attr_destroy(a) schedule_nothing((a), NULL)
#define pthread_attr_setstacksize(a, size) ((void)(a), (void)(size), 0)
#define pthread_getattr_np(t, a) ((void)(t), (void)(a), 0)
#define pthread_attr_getstack(a, base, size) \
    ((void)(a), *(base) = S->stacks + (size_t)S->current * SCHEDULE_STACK, *(size) = SCHEDULE_STACK, 0)
#define pthread_key_create(key, destructor) schedule_key_create((key), (destructor))
#define pthread_setspecific(key, value) schedule_setspecific((key), (value))
#define pthread_atfork(prepare, parent, child) ((void)(prepare), (void)(parent), (void)(child), 0)
#define atexit(handler) schedule_atexit(handler)
#define prctl(option, value, ...) schedule_prctl((option), (value))
#define fopen(path, mode) ((void)(path), (FILE *)NULL) /* no cgroups */
#define TPOOL__PER_THREAD(type, name) \
    static type name##_storage[SCHEDULE_THREADS]; \
    static inline type *name(void) { return &name##_storage[S->current]; }

/* Coroutines may not share the list of what is to be called at a thread's end: the destructor of its key does it
   all. */
#define TPOOL__FINALLY_BEGIN(function, argument) \
    { \
        void (*tpool__last)(void *) = (function), *tpool__of = (argument);
#define TPOOL__FINALLY_END \
    tpool__last(tpool__of); \
    }

#define TPOOL_THREADS_POSIX
#define TPOOL__BARE_ALLOCATOR
#define TPOOL_MALLOC(size) schedule_malloc(size)
#define TPOOL_FREE(pointer) schedule_free(pointer)
#define TPOOL_ASSERT(x) CHECK(x)
#define CHECK_FAILURE(what) schedule_fail("%s", what)
#define CHECK_WITHOUT_LOCKS true
#define TPOOL_STATIC
#define TPOOL__NOT_AT_LOAD /* what runs before main and after it runs in no schedule */
#endif
