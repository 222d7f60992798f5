/* Invariants, checked. Include this in place of tpool.h: it brings the implementation, with two kinds of checks in it.
     TPOOL_ASSERT     what must hold at a line, such as which locks a thread holds, where the program has not defined it
     tpool__check     what must hold of a pool at rest: it walks all that the pool consists of, and returns NULL or a text
                      that says what is wrong
   A pool is at rest while no call on it is under way and every worker sleeps or has ended; it may be paused, with tasks
   queued. Every pool is checked as it is freed (TPOOL__AT_REST). A test that has a pool at rest asks for more:
     CHECK_AT_REST(pool)    takes the locks, and waits first for the workers to fall asleep
   A tree of groups is at rest while no call on it, no submit into it and no end of a member is under way; members may be
   queued, held and in line. Every group is checked as it is freed (TPOOL__GROUP_AT_REST), and a test asks for more:
     CHECK_GROUP(root)      walks the tree, and takes its lock
   White-box: it reads the header's structures and none of its functions that access an atomic, since the explorer takes
   each such access for a step of the scenario. */
#ifndef TPOOL_TESTS_CHECK_H
#define TPOOL_TESTS_CHECK_H
struct tpool;
struct tpool_group;
#ifndef TPOOL_ASSERT
static inline void check_failed(const char *file, int line, const char *what);
#define TPOOL_ASSERT(x) ((x) ? (void)0 : check_failed(__FILE__, __LINE__, #x))
#define CHECK_FAILS check_failed
#endif
static inline void check_when_freed(struct tpool *pool);
#define TPOOL__AT_REST(pool) check_when_freed(pool)
static inline void check_group_when_freed(struct tpool_group *group);
#define TPOOL__GROUP_AT_REST(group) check_group_when_freed(group)
#ifndef CHECK_WITHOUT_LOCKS
#define CHECK_WITHOUT_LOCKS false
#endif
#ifndef TPOOL_STATIC
#define TPOOL_IMPLEMENTATION
#endif
#include "tpool.h"

#ifdef CHECK_FAILS
static inline void check_failed(const char *file, int line, const char *what) {
    fprintf(stderr, "%s:%d: FAILED: %s\n", file, line, what);
    abort();
}
#else /* of a program with an assertion of its own, which defines this too */
#define CHECK_FAILS(file, line, what) CHECK_FAILURE(what)
#endif

typedef struct check_walk {
    tpool *pool;
    bool locks; /* other threads exist: takes each lock. Else each must be free */
    char *text; /* what is wrong; empty: nothing so far */
    size_t size;
    size_t pending, tombstones; /* entries in the queues; a tombstone is of a task claimed elsewhere */
    bool stale;                 /* there are stale entries among them, so the numbers say nothing */
    size_t held;                /* tasks in no queue */
    size_t periodic;            /* of both, that are periodic */
    size_t expiring;            /* of these, that are among the expiries */
    intptr_t dead;
    uint64_t submitted, ended, executed, begun;
    size_t listed, sleepers, leftovers, unused, searchers;
} check_walk;

/* The first complaint stays. */
#define CHECK_SAY(walk, ...) ((void)((walk)->text[0] ? 0 : snprintf((walk)->text, (walk)->size, __VA_ARGS__)))
#define CHECK_THAT(walk, condition) \
    do { \
        if (!(condition)) CHECK_SAY(walk, "check.h:%d: not true: %s", __LINE__, #condition); \
    } while (0)

static inline void check_lock(check_walk *walk, tpool__spinlock *lock, const char *name) {
    if (walk->locks) tpool__spin_lock(lock);
    else if (*lock != TPOOL__LOCK_FREE) CHECK_SAY(walk, "%s is held at rest", name);
}
static inline void check_unlock(const check_walk *walk, tpool__spinlock *lock) {
    if (walk->locks) tpool__spin_unlock(lock);
}

/* ---- The queues */

/* What is queued or held, and a member of a group, is in its group's lists: so a cancel finds it. */
static inline void check_member(check_walk *walk, const tpool__hold *hold, uint32_t expected) {
    if (!hold || !(hold->kind & TPOOL__HOLD_MEMBER)) return;
    const tpool__member *member = (const tpool__member *)(const void *)hold - 1;
    CHECK_THAT(walk, (member->bits & (TPOOL__MEMBER_LISTED | TPOOL__MEMBER_HELD)) == expected);
    CHECK_THAT(walk, !expected == !!(member->bits & TPOOL__MEMBER_OVER));
    CHECK_THAT(walk, !expected || (member->bits & TPOOL__MEMBER_COUNTED && member->group));
    CHECK_THAT(walk, !(member->bits & (TPOOL__MEMBER_USES | TPOOL__MEMBER_KEPT))); /* of calls under way */
    if (expected & TPOOL__MEMBER_HELD)
        CHECK_THAT(walk, !(member->bits & TPOOL__MEMBER_IN_LINE) == (hold->count != TPOOL__HOLD_IN_LINE) ||
                             member->bits & TPOOL__MEMBER_OPEN); /* has been in the queue */
}
static inline void check_task(check_walk *walk, tpool_future *task) {
    uintptr_t state = task->state, phase = state & TPOOL__PHASE;
    CHECK_THAT(walk, tpool__pool_of(task) == walk->pool);
    CHECK_THAT(walk, state >= TPOOL__REFERENCE); /* the entry's own */
    const tpool__repeat *repeat = tpool__repeat_of(task);
    if (tpool__stale_of(task) &&
        (*tpool__stale_of(task) & TPOOL__HOLD_STALE) > 0) { /* which of its entries is the task's nobody knows */
        walk->stale = true;
        return;
    }
    CHECK_THAT(walk, !(state & TPOOL__POPPED)); /* the entry is here */
    CHECK_THAT(walk, !(state & TPOOL__LOCKED)); /* by a call under way */
    CHECK_THAT(walk, phase <= TPOOL__PHASE_TRY_EXPIRED || phase >= TPOOL__PHASE_DONE);
    if (phase == TPOOL__PHASE_PENDING) {
        CHECK_THAT(walk, !(state & TPOOL__END_RELEASED));
        CHECK_THAT(walk, !(state & TPOOL__HAS_NODES) == !task->nodes);
        walk->pending++;
        walk->periodic += repeat && repeat->period > 0;
    } else {
        CHECK_THAT(walk, phase >= TPOOL__PHASE_DONE); /* its claimer is done with it */
        walk->tombstones++;
    }
    if (task->extra_word & 1) return; /* a number; the explorer may not switch in here */
    const tpool__hold *hold = tpool__hold_of_word(task->extra_word);
    check_member(walk, hold, phase == TPOOL__PHASE_PENDING ? TPOOL__MEMBER_LISTED : 0);
    uintptr_t word = hold ? hold->extra_word : task->extra_word;
    const tpool__extra *extra = word & 1 ? NULL : (const tpool__extra *)word;
    if (!tpool__may_expire(extra)) return;
    size_t place = extra->expiring_place;
    int64_t at = extra->expires_at, until = extra->ready_until;
    if (!at || (until && until < at)) at = until;
    CHECK_THAT(walk, place > 0 || phase != TPOOL__PHASE_PENDING || hold); /* hold: there may have been no memory */
    CHECK_THAT(walk, place <= walk->pool->expiring.count);
    if (place == 0 || walk->text[0]) return;
    CHECK_THAT(walk, walk->pool->expiring.heap[place - 1].of == task);
    CHECK_THAT(walk, walk->pool->expiring.heap[place - 1].at == at);
    walk->expiring++;
}
/* Entries that lie side by side. */
static inline void check_entries(check_walk *walk, const uintptr_t *words, size_t begin, size_t end, size_t entries) {
    CHECK_THAT(walk, begin <= end);
    CHECK_THAT(walk, end <= TPOOL__SEGMENT_WORDS);
    for (; entries > 0 && !walk->text[0]; entries--) {
        tpool__entry entry;
        memset(&entry, 0, sizeof entry);
        begin += tpool__entry_read(&words[begin], &entry);
        CHECK_THAT(walk, begin <= end);
        if (walk->text[0]) return;
        if (entry.task) check_task(walk, entry.task);
        else walk->pending++;
    }
    CHECK_THAT(walk, begin == end);
}
static inline void check_lane(check_walk *walk, tpool__lane *lane, bool has_batch) {
    size_t count = lane->front != 0, spares = 0;
    CHECK_THAT(walk, (lane->batch_segment != NULL) == has_batch);
    if (has_batch && lane->batch_segment) {
        uint32_t batch = lane->batch, flags = walk->pool->flags & TPOOL__NO_BATCHES;
        CHECK_THAT(walk, lane->front == 0);
        CHECK_THAT(walk, flags || !(batch & TPOOL__BATCH_CLOSED));
        if (tpool__batch_entries(batch) > 0) {
            CHECK_THAT(walk, !flags || batch & TPOOL__BATCH_CLOSED);
            check_entries(walk, lane->batch_segment->words, batch & TPOOL__BATCH_MASK,
                          batch >> TPOOL__BATCH_BITS & TPOOL__BATCH_MASK, tpool__batch_entries(batch));
        }
    }
    if (lane->front) {
        tpool_future *first = tpool__task_of_word(lane->front);
        CHECK_THAT(walk, first != NULL);
        if (first) check_task(walk, first);
    }
    CHECK_THAT(walk, (lane->head != NULL) == (lane->tail != NULL));
    size_t begin = lane->head_position;
    for (tpool__segment *segment = lane->head; segment && !walk->text[0]; segment = segment->next, begin = 0) {
        bool last = segment == lane->tail;
        size_t end = last ? lane->tail_position : segment->end, entries = last ? lane->tail_entries : segment->entries;
        check_entries(walk, segment->words, begin, end, entries);
        count += entries;
        CHECK_THAT(walk, last == !segment->next);
        if (last) break;
    }
    CHECK_THAT(walk, count == lane->count);
    for (const tpool__segment *spare = lane->spare; spare; spare = spare->next) spares++;
    CHECK_THAT(walk, spares == lane->spares);
    CHECK_THAT(walk, spares <= TPOOL__SPARE_SEGMENTS);
    if (walk->pool->ordered) CHECK_THAT(walk, count == 0); /* all goes into the heap */
    walk->dead += lane->dead;
    walk->submitted += lane->submitted;
}
static inline void check_heap(check_walk *walk) {
    const tpool *pool = walk->pool;
    size_t size = pool->heap_size, linked = 0;
    CHECK_THAT(walk, pool->heap_count <= size);
    CHECK_THAT(walk,
               (pool->heap_count > 0 || pool->held[TPOOL__HELD_LATE].first) == ((pool->flags & TPOOL__RANKED) != 0));
    for (size_t i = 0; i < pool->heap_count && !walk->text[0]; i++) {
        const tpool__ranked *ranked = &pool->heap[i];
        if (i > 0) CHECK_THAT(walk, !tpool__ranks_before(ranked, &pool->heap[(i - 1) / 2]));
        CHECK_THAT(walk, ranked->order < pool->heap_order);
        CHECK_THAT(walk, ranked->newer == size || pool->heap[ranked->newer].order > ranked->order);
        check_task(walk, ranked->task);
    }
    for (size_t i = size; size > 0 && !walk->text[0] && linked <= pool->heap_count; linked++) {
        size_t newer = pool->heap[i].newer;
        CHECK_THAT(walk, newer < pool->heap_count || newer == size);
        if (walk->text[0]) return;
        CHECK_THAT(walk, pool->heap[newer].older == i);
        if ((i = newer) == size) break;
    }
    CHECK_THAT(walk, linked == pool->heap_count);
}
static inline void check_held(check_walk *walk) {
    const tpool *pool = walk->pool;
    size_t runs = 0, periods = 0;
    for (uint32_t in = 0; in < TPOOL__HELD_LISTS; in++) {
        size_t count = 0;
        const tpool_future *before = NULL;
        for (const tpool_future *task = pool->held[in].first; task; before = task, task = tpool__held_next(task)) {
            const tpool__hold *hold = tpool__hold_of_word(task->extra_word);
            CHECK_THAT(walk, tpool__pool_of(task) == pool);
            CHECK_THAT(walk, hold != NULL);
            CHECK_THAT(walk, tpool__state_is_held(task->state)); /* its claimer is done with it */
            CHECK_THAT(walk, !(task->state & (TPOOL__LOCKED | TPOOL__END_RELEASED)));
            CHECK_THAT(walk, task->state >= TPOOL__REFERENCE);
            CHECK_THAT(walk, count++ < pool->held[in].count);
            if (walk->text[0] || !hold) return;
            CHECK_THAT(walk, (uintptr_t)task->runner == (uintptr_t)before + 1);
            CHECK_THAT(walk, hold->place == in + 1);
            CHECK_THAT(walk, (in >= TPOOL__HELD_LATE) == (hold->count == 0));
            CHECK_THAT(walk, (in == TPOOL__HELD_TIMED) == (hold->count == TPOOL__HOLD_DELAYED));
            /* what had no memory for its queue has its permits, and stays where it is */
            check_member(walk, hold, TPOOL__MEMBER_LISTED | TPOOL__MEMBER_HELD);
            CHECK_THAT(walk, in != TPOOL__HELD_LATE || tpool__needs_one(task));
            runs += tpool__needs_one(task);
            periods += in == TPOOL__HELD_TIMED && tpool__is_periodic(task);
            walk->periodic += tpool__is_periodic(task);
        }
        CHECK_THAT(walk, count == pool->held[in].count);
        CHECK_THAT(walk, before == pool->held[in].last);
        walk->held += count;
    }
    CHECK_THAT(walk, runs + pool->backlog_count == pool->held_runs);
    CHECK_THAT(walk, periods == pool->periods);
    if (pool->held_runs > 0) CHECK_THAT(walk, pool->live > 0); /* so that none is refused a worker when it is ready */
}
static inline void check_inject(check_walk *walk) {
    tpool *pool = walk->pool;
    check_lock(walk, &pool->inject.lock, "the inject spinlock");
    size_t before = walk->pending;
    check_lane(walk, &pool->inject, false);
    check_heap(walk);
    if (pool->capacity && !walk->stale) /* exact in a bounded pool, where everything waits here */
        CHECK_THAT(walk, walk->pending - before ==
                             (size_t)((intptr_t)(pool->inject.count + pool->heap_count) - pool->inject.dead));
    check_held(walk);
    CHECK_THAT(walk, pool->enders == 0);
    CHECK_THAT(walk, pool->callers == 0);
    CHECK_THAT(walk, !pool->room);
    CHECK_THAT(walk, pool->room_end == &pool->room);
    CHECK_THAT(walk, !pool->drainers);
    CHECK_THAT(walk, pool->draining == 0);
    check_unlock(walk, &pool->inject.lock);
}
static inline void check_expiries(check_walk *walk) {
    tpool *pool = walk->pool;
    const tpool__expiries *expiring = &pool->expiring;
    check_lock(walk, &pool->expiring_lock, "the expiries' spinlock");
    CHECK_THAT(walk, expiring->count <= expiring->size);
    for (size_t i = 1; i < expiring->count; i++)
        CHECK_THAT(walk, expiring->heap[i].at >= expiring->heap[(i - 1) / 2].at);
    CHECK_THAT(walk, expiring->count == walk->expiring); /* each is in a queue */
    check_unlock(walk, &pool->expiring_lock);
}

/* ---- The workers */

static inline void check_counts(check_walk *walk, const tpool__word *counts) {
    walk->ended += counts[TPOOL__COMPLETED] + counts[TPOOL__FAILED_COUNT];
    walk->executed += counts[TPOOL__COMPLETED] + counts[TPOOL__FAILED_COUNT];
    walk->begun += counts[TPOOL__BEGUN_COUNT];
}
static inline uint64_t check_measures(check_walk *walk, const tpool__measures *measures, bool listed) {
    uint64_t waits = 0, runs = 0;
    CHECK_THAT(walk, (measures != NULL) == (walk->pool->observed & TPOOL__MEASURED && listed));
    for (unsigned i = 0; measures && i < TPOOL__BUCKETS; i++) {
        waits += measures->waits[i];
        runs += measures->runs[i];
    }
    CHECK_THAT(walk, waits == runs);
    if (measures) CHECK_THAT(walk, measures->busy_low >> 30 == 0);
    return runs;
}
static inline bool check_is_unused(const tpool *pool, const tpool__worker *worker) {
    for (size_t i = 0; i < pool->unused_count; i++)
        if (pool->unused[i] == worker) return true;
    return false;
}
/* A list through sleep_next; returns its length. */
static inline size_t check_links(check_walk *walk, const tpool__worker *first, bool asleep) {
    size_t length = 0;
    const tpool__worker *previous = NULL;
    for (const tpool__worker *w = first; w && !walk->text[0]; previous = w, w = w->sleep_next, length++) {
        CHECK_THAT(walk, w->sleep_previous == previous);
        CHECK_THAT(walk, w->asleep == asleep);
        CHECK_THAT(walk, w->listed);
        CHECK_THAT(walk, check_is_unused(walk->pool, w) == !asleep);
    }
    return length;
}
static inline void check_worker(check_walk *walk, tpool__worker *worker) {
    tpool *pool = walk->pool;
    bool unused = check_is_unused(pool, worker);
    CHECK_THAT(walk, worker->pool == pool);
    CHECK_THAT(walk, worker->index == (worker->before ? worker->before->index + 1 : 0));
    CHECK_THAT(walk, unused != worker->asleep);
    CHECK_THAT(walk, unused || worker->listed);
    CHECK_THAT(walk, !worker->busy);
    CHECK_THAT(walk, !worker->in_setup);
    CHECK_THAT(walk, worker->handle.valid != unused);
    CHECK_THAT(walk, !worker->searching);
    CHECK_THAT(walk, !worker->kept && !worker->fetched.carrier && worker->fetched.parts.count == 0);
    CHECK_THAT(walk, !worker->fetched.parts.first && !worker->fetched.parts.last && !worker->fetched.cut);
    CHECK_THAT(walk, worker->fetched.ran == 0 && !(worker->fetched.open & ~TPOOL__FETCHED_CLOSED));
    CHECK_THAT(walk, worker->taking == 0);
    CHECK_THAT(walk, !worker->newest_job && !worker->oldest_private_job && !worker->stolen);
    check_lock(walk, &worker->jobs_lock, "a worker's jobs_lock");
    CHECK_THAT(walk, worker->public_jobs == 0);
    CHECK_THAT(walk, !worker->offer.job);
    check_unlock(walk, &worker->jobs_lock);
    check_lock(walk, &worker->lane.lock, "a worker's spinlock");
    check_lane(walk, &worker->lane, worker->listed);
    if (pool->capacity) CHECK_THAT(walk, worker->lane.count == 0);
    if (!worker->listed) { /* its figures are the pool's now */
        CHECK_THAT(walk, worker->lane.submitted == 0 && worker->lane.dead == 0 && worker->lane.claims == 0);
        for (int i = 0; i < TPOOL__OWN_COUNTS; i++) CHECK_THAT(walk, worker->counts[i] == 0);
    }
    check_unlock(walk, &worker->lane.lock);
    check_counts(walk, worker->counts);
    walk->searchers += worker->searching;
    walk->listed += worker->listed;
    walk->leftovers += unused && worker->listed;
    walk->unused++;
}
static inline void check_workers(check_walk *walk) {
    tpool *pool = walk->pool;
    size_t listed = 0;
    tpool__worker *previous = NULL;
    for (tpool__worker *w = pool->newest; w && !walk->text[0]; w = w->before) check_worker(walk, w);
    for (tpool__worker *w = pool->workers; w && !walk->text[0]; previous = w, w = w->next, listed++) {
        CHECK_THAT(walk, w->listed);
        CHECK_THAT(walk, w->previous == previous);
        CHECK_THAT(walk, !previous || previous->index < w->index);
    }
    CHECK_THAT(walk, listed == walk->listed);
    walk->sleepers = check_links(walk, pool->sleepers, true);
    CHECK_THAT(walk, check_links(walk, pool->leftovers, false) == walk->leftovers);
    CHECK_THAT(walk, pool->live == walk->sleepers);
    CHECK_THAT(walk, walk->unused == pool->unused_count + walk->sleepers); /* each worker is one or the other */
    CHECK_THAT(walk, pool->unused_count <= pool->unused_size);
    for (size_t i = 1; i < pool->unused_count; i++)
        CHECK_THAT(walk, pool->unused[i]->index > pool->unused[(i - 1) / 2]->index);
    CHECK_THAT(walk, pool->active == 0);
    CHECK_THAT(walk, pool->blocked == 0);
    CHECK_THAT(walk, !pool->blocked_waiters);
    CHECK_THAT(walk, pool->starting == 0);
    CHECK_THAT(walk, pool->ending == 0 && pool->apart == 0);
    CHECK_THAT(walk, pool->gate / TPOOL__SEARCHER == walk->searchers);
    if (!(pool->flags & TPOOL__HALTED)) /* which is set without the lock; a look at the lanes sees it */
        CHECK_THAT(walk, (pool->gate & TPOOL__ROOM) ==
                             (!(pool->flags & TPOOL__PAUSED) && pool->max_workers > 0 ? TPOOL__ROOM : 0));
    if (pool->expiry_sleeper)
        CHECK_THAT(walk, pool->expiry_sleeper->asleep && pool->expiry_sleeper_until != TPOOL_FOREVER);
}

/* ---- The whole */

static inline void check_sums(check_walk *walk) {
    tpool *pool = walk->pool;
    uint64_t measured = check_measures(walk, pool->measures, true);
    for (tpool__worker *w = pool->newest; w; w = w->before) measured += check_measures(walk, w->measures, w->listed);
    check_counts(walk, pool->own_counts);
    walk->ended +=
        pool->counts[TPOOL__CANCELLED_COUNT] + pool->counts[TPOOL__EXPIRED_COUNT] + pool->counts[TPOOL__DROPPED_COUNT];
    uintptr_t entries = pool->entries - (uintptr_t)walk->begun; /* what waits behind carriers */
    walk->submitted += pool->entries;
    CHECK_THAT(walk, entries == 0 || walk->pending > 0);
    if (walk->submitted != walk->ended + walk->pending + walk->held + entries && !walk->stale)
        CHECK_SAY(walk, "submitted: %llu, ended: %llu, waiting: %zu, held: %zu", (unsigned long long)walk->submitted,
                  (unsigned long long)walk->ended, walk->pending, walk->held);
    if (walk->dead != (intptr_t)walk->tombstones && !walk->stale)
        CHECK_SAY(walk, "tombstones: %zu, counted: %lld", walk->tombstones, (long long)walk->dead);
    CHECK_THAT(walk, measured <= walk->executed + pool->reruns);
    CHECK_THAT(walk, walk->periodic == pool->periodic);
    if (pool->flags & (TPOOL__BREAK | TPOOL__CANCELLED)) CHECK_THAT(walk, walk->pending + walk->held == 0);
    if (!(pool->flags & (TPOOL__PAUSED | TPOOL__HALTED)) && pool->live > 0 && walk->pending > 0)
        CHECK_SAY(walk, "%zu tasks wait, and every worker sleeps: a wake was lost", walk->pending);
}
/* The depot and the slabs, which all pools share; and the calling thread's own cache. */
static inline tpool__slab *check_slab_of(const tpool_future *block) {
    for (tpool__slab *slab = tpool__depot.slabs; slab; slab = slab->next)
        if ((uintptr_t)block - (uintptr_t)slab->tasks < slab->cut * sizeof(tpool_future)) return slab;
    return NULL;
}
static inline void check_blocks(check_walk *walk) {
    enum { FEW = 4096 }; /* in more, whose slabs are many, it only counts */
    const tpool__thread *self = tpool__self();
    size_t home = 0, cut = 0, slabs = 0;
    if (tpool__process.unpooled) return;
    CHECK_THAT(walk, self->cached <= 2 * TPOOL__MAGAZINE);
    if (walk->locks) tpool__lock(&tpool__depot.lock);
    if ((walk->locks || tpool__depot.lock == TPOOL__LOCK_FREE) && !tpool__depot.tidied) {
        for (const tpool__slab *slab = tpool__depot.slabs; slab; slab = slab->next, slabs++) {
            CHECK_THAT(walk, slab->cut <= TPOOL__SLAB_TASKS);
            CHECK_THAT(walk, slab == tpool__depot.slabs || slab->cut == TPOOL__SLAB_TASKS);
            cut += slab->cut;
        }
        bool few = cut <= FEW;
        CHECK_THAT(walk, slabs == tpool__depot.slab_count);
        for (tpool_future *first = tpool__depot.magazines; first && !walk->text[0]; home += TPOOL__MAGAZINE) {
            tpool_future *tasks[TPOOL__MAGAZINE];
            tpool__magazine_pop(&first, tasks); /* only reads */
            for (unsigned i = 0; i < TPOOL__MAGAZINE && few; i++) CHECK_THAT(walk, check_slab_of(tasks[i]));
        }
        for (const tpool_future *block = tpool__depot.loose; block && !walk->text[0]; block = block->u.next, home++)
            if (few) CHECK_THAT(walk, check_slab_of(block));
        CHECK_THAT(walk, home == tpool__depot.home);
        CHECK_THAT(walk, cut == tpool__depot.total || tpool__depot.total >= SIZE_MAX / 2);
        CHECK_THAT(walk, home + self->cached <= cut);
        for (unsigned i = 0; i < self->cached && few; i++) {
            CHECK_THAT(walk, check_slab_of(self->cache[i]));
            CHECK_THAT(walk, self->cache[i]->state == 0); /* what is free has no reference */
        }
    }
    if (walk->locks) tpool__unlock(&tpool__depot.lock);
}
/* A thread that is in no call has nothing of a call left. (A child of fork may have begun in the middle of one.) */
static inline void check_thread(check_walk *walk) {
    const tpool__thread *self = tpool__self();
    if (self->context || tpool__process.generation > 0) return;
    CHECK_THAT(walk, self->context_next == self->context_first);
    CHECK_THAT(walk, !self->pieces && !self->spare_piece);
    CHECK_THAT(walk, !self->listed);
    CHECK_THAT(walk, self->callers == 0 && self->freeing == 0 && self->nested == 0);
    CHECK_THAT(walk, !self->waits && !self->blocked && !self->caller_pool);
}
/* What never changes. */
static inline void check_constants(check_walk *walk) {
    tpool *pool = walk->pool;
    CHECK_THAT(walk, pool->home == ((uintptr_t)pool | (pool->generation & TPOOL__GENERATIONS)));
    CHECK_THAT(walk, pool->tag & 1);
    CHECK_THAT(walk, pool->ordered == (pool->capacity && pool->config.on_full == TPOOL_FULL_DROP_OLDEST));
    CHECK_THAT(walk, pool->max_workers >= 1 && pool->max_workers >= (uintptr_t)pool->config.min_workers);
}
static inline void check_pool(check_walk *walk) {
    check_constants(walk);
    check_workers(walk);
    check_inject(walk);
    check_expiries(walk);
    if (!walk->text[0]) check_sums(walk);
    check_blocks(walk);
    check_thread(walk);
}
static inline char *check_text(void) {
    static TPOOL__THREAD_LOCAL char text[256];
    text[0] = 0;
    return text;
}

/* No worker is awake, or about to be. Under pool->lock, or where no other thread can run. */
static inline bool check_has_settled(const tpool *pool) {
    return pool->active == 0 && pool->blocked == 0 && pool->starting == 0 && pool->ending == 0;
}
/* The same, and no thread is about to do anything under a lock. */
static inline bool check_is_at_rest(const tpool *pool) {
    bool free_locks = pool->lock == TPOOL__LOCK_FREE && pool->inject.lock == TPOOL__LOCK_FREE &&
                      pool->expiring_lock == TPOOL__LOCK_FREE;
    for (const tpool__worker *w = pool->newest; w && free_locks; w = w->before)
        free_locks = w->lane.lock == TPOOL__LOCK_FREE && w->jobs_lock == TPOOL__LOCK_FREE;
    return free_locks && pool->callers == 0 && check_has_settled(pool);
}
/* The pool is at rest, except its workers, for which this waits. NULL: all is well. */
static inline const char *tpool__check(tpool *pool) {
    check_walk walk;
    memset(&walk, 0, sizeof walk);
    walk.pool = pool;
    walk.locks = true;
    walk.text = check_text();
    walk.size = 256;
    int64_t end = tpool__clock() + TPOOL_SEC(20);
    tpool__lock(&pool->lock);
    while (!check_has_settled(pool)) {
        tpool__unlock(&pool->lock);
        if (tpool__clock() > end) return "its workers do not come to rest";
        tpool__u32 nothing = 0;
        tpool__word_wait(&nothing, 0, 100000);
        tpool__lock(&pool->lock);
    }
    check_pool(&walk);
    tpool__unlock(&pool->lock);
    return walk.text[0] ? walk.text : NULL;
}
/* Of a pool that no other thread knows any more; in the explorer (CHECK_WITHOUT_LOCKS), where no other thread runs
   meanwhile, of any pool at rest. */
static inline const char *tpool__check_alone(tpool *pool) {
    check_walk walk;
    memset(&walk, 0, sizeof walk);
    walk.pool = pool;
    walk.locks = !CHECK_WITHOUT_LOCKS;
    walk.text = check_text();
    walk.size = 256;
    if (pool->lock != TPOOL__LOCK_FREE) return "pool->lock is held at rest";
    check_pool(&walk);
    return walk.text[0] ? walk.text : NULL;
}
/* As a pool is freed, its workers have been joined, nothing is queued, and no iterator or waiter knows it. */
static inline void check_when_freed(struct tpool *pool) {
    const char *wrong = tpool__check_alone(pool);
    if (!wrong && pool->live) wrong = "a pool is freed under its workers";
    if (!wrong && (pool->inject.count || pool->heap_count || pool->expiring.count || tpool__held_count(pool)))
        wrong = "something is left in a pool that is freed";
    if (!wrong && pool->later_chunks) wrong = "chunks that no map has are announced to a pool that is freed";
    if (!wrong && pool->iterators) wrong = "an iterator of a pool that is freed";
    if (!wrong && pool->last_ended.valid) wrong = "a thread of a pool that is freed is not joined";
    for (const tpool__worker *w = pool->newest; w && !wrong; w = w->before)
        if (w->lane.count) wrong = "something is left in a worker's lane";
    for (const tpool__worker *w = pool->newest; w && !wrong; w = w->before)
        if (w->left.valid) wrong = "a left thread of a pool that is freed is not joined";
    if (wrong) CHECK_FAILS(__FILE__, __LINE__, wrong);
}

/* ---- Groups */

static inline const tpool__member *check_member_of(const tpool_future *task) {
    const tpool__hold *hold = tpool__hold_of_word(task->extra_word);
    return hold && hold->kind & TPOOL__HOLD_MEMBER ? (const tpool__member *)(const void *)hold - 1 : NULL;
}
/* How many groups lie between a member's and this one; it has passed the lines of those below `level`. */
static inline uint32_t check_distance(const tpool_group *from, const tpool_group *to) {
    uint32_t distance = 0;
    for (; from && from != to; distance++)
        from = from->kind & TPOOL__GROUP_MORE ? ((const tpool__group_more *)(const void *)(from + 1))->parent : NULL;
    return from ? distance : UINT32_MAX;
}
/* The next group of the tree, without the steps that the explorer would see. */
static inline tpool_group *check_next_group(tpool_group *group, const tpool_group *top) {
    if (group->children) return group->children;
    for (; group != top; group = tpool__group_more_of(group)->parent)
        if (tpool__group_more_of(group)->next) return tpool__group_more_of(group)->next;
    return NULL;
}
static inline size_t check_ring(check_walk *walk, const tpool_group *group, tpool_future *first, bool held) {
    size_t count = 0;
    for (tpool_future *task = first; task && !walk->text[0];) {
        const tpool__member *member = check_member_of(task);
        CHECK_THAT(walk, member && member->group == group && count < SIZE_MAX / 2);
        if (walk->text[0]) break;
        uintptr_t phase = task->state & TPOOL__PHASE;
        CHECK_THAT(walk, check_member_of(member->next) && check_member_of(member->next)->previous == task);
        CHECK_THAT(walk, (member->bits & (TPOOL__MEMBER_LISTED | TPOOL__MEMBER_HELD)) ==
                             (held ? TPOOL__MEMBER_LISTED | TPOOL__MEMBER_HELD : TPOOL__MEMBER_LISTED));
        CHECK_THAT(walk, member->bits & TPOOL__MEMBER_COUNTED && !(member->bits & TPOOL__MEMBER_OVER));
        CHECK_THAT(walk, phase == TPOOL__PHASE_PENDING || (!held && phase < TPOOL__PHASE_DONE));
        CHECK_THAT(walk, tpool__state_is_held(task->state) == held);
        CHECK_THAT(walk, held || !(member->bits & TPOOL__MEMBER_IN_LINE));
        count++;
        task = member->next == first ? NULL : member->next;
    }
    return count;
}
/* How many entries wait behind carriers. At most one has a backlog, and it has the permit. */
static inline size_t check_backlogs(check_walk *walk, tpool_future *first) {
    size_t count = 0;
    for (tpool_future *task = first; task && !walk->text[0];) {
        const tpool__member *member = check_member_of(task);
        bool open = member->bits & TPOOL__MEMBER_OPEN;
        size_t entries = 0;
        CHECK_THAT(walk, !open || (tpool__is_carrier(task) && member->group->holder == task && member->level == 1));
        const tpool__backlog *backlog = open ? member->u.backlog : NULL;
        CHECK_THAT(walk, !backlog || (backlog->carrier == task && backlog->group == member->group));
        if (backlog) {
            for (const tpool__part *part = backlog->parts.first; part; part = part->next) {
                CHECK_THAT(walk, part->begin < part->end && part->end <= TPOOL__PART_ENTRIES);
                CHECK_THAT(walk, !(part->next) == (part == backlog->parts.last));
                entries += (size_t)(part->end - part->begin);
            }
            CHECK_THAT(walk, entries == backlog->parts.count);
        }
        count += entries;
        task = member->next == first ? NULL : member->next;
    }
    return count;
}
/* Members of the groups beneath `group`, itself included, that have its permit. */
static inline uint32_t check_permits(tpool_group *group, const tpool_future **holder) {
    uint32_t count = 0;
    for (tpool_group *g = group; g; g = check_next_group(g, group)) {
        tpool_future *firsts[2] = { g->ready, g->held };
        uint32_t distance = check_distance(g, group);
        for (int i = 0; i < 2; i++)
            for (tpool_future *task = firsts[i]; task;) {
                if (check_member_of(task)->level > distance) {
                    count++;
                    *holder = task;
                }
                task = check_member_of(task)->next == firsts[i] ? NULL : check_member_of(task)->next;
            }
    }
    return count;
}
static inline void check_line(check_walk *walk, const tpool_group *group) {
    const tpool_future *task = group->line_end ? check_member_of(group->line_end)->u.next_in_line : NULL;
    uint32_t count = 0, dead = 0;
    while (task && !walk->text[0]) {
        const tpool__member *member = check_member_of(task);
        CHECK_THAT(walk, member && member->bits & TPOOL__MEMBER_IN_LINE && count < group->in_line);
        if (walk->text[0]) return;
        bool over = member->bits & TPOOL__MEMBER_OVER;
        dead += over;
        count++;
        if (!over) {
            CHECK_THAT(walk, check_distance(member->group, group) == member->level);
            CHECK_THAT(walk, tpool__hold_of_word(task->extra_word)->count == TPOOL__HOLD_IN_LINE);
        }
        task = task == group->line_end ? NULL : member->u.next_in_line;
    }
    CHECK_THAT(walk, count == group->in_line && dead == group->dead);
    CHECK_THAT(walk, count == 0 || group->used == group->limit); /* else a permit is left lying */
}
/* `alone`: nothing has it any more, and all that was in it is gone. */
static inline void check_group(check_walk *walk, tpool_group *group, bool alone) {
    const tpool_future *holder = NULL;
    const tpool__group_more *more = group->kind & TPOOL__GROUP_MORE ? tpool__group_more_of(group) : NULL;
    size_t count = check_ring(walk, group, group->ready, false) + check_ring(walk, group, group->held, true);
    uint32_t children = 0;
    for (tpool_group *child = alone ? NULL : group->children; child && !walk->text[0]; children++) {
        const tpool__group_more *its = tpool__group_more_of(child);
        CHECK_THAT(walk, child->kind & TPOOL__GROUP_MORE && its->parent == group && *its->link == child);
        CHECK_THAT(walk, its->root == (more ? more->root : group));
        CHECK_THAT(walk, !(group->kind & ~child->kind & (TPOOL__GROUP_LIMITED | TPOOL__GROUP_BOUNDED)));
        count += child->count;
        child = its->next;
    }
    if (walk->text[0]) return;
    count += check_backlogs(walk, group->ready) + check_backlogs(walk, group->held);
    CHECK_THAT(walk, group->count == count);
    CHECK_THAT(walk, group->ends == 0);
    CHECK_THAT(walk, !group->waiters);
    CHECK_THAT(walk, group->uses >= children);
    CHECK_THAT(walk, group->uses <= children + !(group->bits & TPOOL__GROUP_CLOSED));
    if (alone) CHECK_THAT(walk, group->uses == 0 && count == 0 && !group->line_end && !group->futures);
    check_line(walk, group);
    CHECK_THAT(walk, group->used <= group->limit);
    if (!alone && !walk->text[0]) {
        CHECK_THAT(walk, !group->limit || group->used == check_permits(group, &holder));
        CHECK_THAT(walk, group->holder == (group->limit == 1 && group->used ? holder : NULL));
    }
    if (alone) CHECK_THAT(walk, group->used == 0 && !group->holder);
    CHECK_THAT(walk, !more || (!more->room && more->room_end == &more->room));
    CHECK_THAT(walk, !group->failed || (group->failed->state & TPOOL__PHASE) >= TPOOL__PHASE_DONE);
    for (const tpool_future *future = group->futures; future && !walk->text[0];) {
        const tpool__hold *hold = tpool__hold_of_word(future->extra_word);
        CHECK_THAT(walk, hold && !tpool__pool_of(future) && future->state >= TPOOL__REFERENCE);
        if (walk->text[0]) return;
        bool done = (future->state & TPOOL__PHASE) >= TPOOL__PHASE_DONE; /* cancelled; its edge is its error's */
        CHECK_THAT(walk, done || tpool__edges(hold)->u.group == group);
        future = tpool__edges(hold)->task;
    }
}
static inline const char *check_tree(tpool_group *root, bool locks) {
    check_walk walk;
    memset(&walk, 0, sizeof walk);
    walk.locks = locks;
    walk.text = check_text();
    walk.size = 256;
    tpool__spinlock *lock = root->kind & TPOOL__GROUP_MORE ? &tpool__group_more_of(root)->root->lock : &root->lock;
    check_lock(&walk, lock, "the spinlock of a tree of groups");
    for (tpool_group *group = root; group && !walk.text[0]; group = check_next_group(group, root))
        check_group(&walk, group, false);
    check_unlock(&walk, lock);
    return walk.text[0] ? walk.text : NULL;
}
/* As a group is freed, no other thread knows it. Its `children` chains those that are freed with it. */
static inline void check_group_when_freed(struct tpool_group *group) {
    check_walk walk;
    memset(&walk, 0, sizeof walk);
    walk.text = check_text();
    walk.size = 256;
    check_group(&walk, group, true);
    if (walk.text[0]) CHECK_FAILS(__FILE__, __LINE__, walk.text);
}
#define CHECK_GROUP(root) \
    do { \
        const char *check_wrong = check_tree(root, !CHECK_WITHOUT_LOCKS); \
        if (check_wrong) CHECK_FAILS(__FILE__, __LINE__, check_wrong); \
    } while (0)

#define CHECK_AT_REST(pool) \
    do { \
        const char *check_wrong = tpool__check(pool); \
        if (check_wrong) CHECK_FAILS(__FILE__, __LINE__, check_wrong); \
    } while (0)

/* How many workers of the pool sleep in a wait. tpool_stats counts these among the active ones. */
static inline uintptr_t blocked_of(tpool *pool) {
    tpool__lock(&pool->lock);
    uintptr_t blocked = pool->blocked;
    tpool__unlock(&pool->lock);
    return blocked;
}
#endif
