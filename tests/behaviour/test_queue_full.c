/* A full queue: what each policy does with one more task, and what makes room. What tasks touch is static, so that it
   is still there when a failed assertion has left the test. */
#include "support.h"
#include "support/full.h"
#include <ctype.h>

static tpool *new_busy_pool(size_t capacity, tpool_full_policy on_full, gate *hold) {
    return new_busy_pool_as((tpool_config){ .queue_capacity = capacity, .on_full = on_full }, hold);
}

static tpool_status call_run_with_timeout(void *context) {
    submit_call *s = context;
    return tpool_run_with_timeout(s->pool, &s->task, s->timeout_ns, &s->future);
}
static tpool_status call_result(void *future) { return tpool_future_result(future, LIMIT, NULL); }

/* --- capacity */

static void capacity_counts_what_waits_to_start_exactly(void **state) {
    (void)state;
    static const size_t capacities[] = { 1, 2, 3, 64, 100, 1000 };
    for (size_t c = 0; c < sizeof capacities / sizeof capacities[0]; c++) {
        static gate hold = GATE_CLOSED;
        static atomic_int runs, freed;
        gate_close(&hold);
        atomic_store(&runs, 0);
        atomic_store(&freed, 0);
        size_t capacity = capacities[c];
        tpool *pool = new_busy_pool(capacity, TPOOL_FULL_REJECT, &hold);
        for (size_t i = 0; i < capacity; i++) {
            tpool_task task = { .fn = count_up, .arg = &runs, .priority = (int)(i % 3) - 1 };
            assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
        }
        assert_int_equal(capacity, stats_of(pool).queued);
        for (int i = 0; i < 3; i++) {
            tpool_future *future = (tpool_future *)&runs;
            tpool_task task = { .fn = count_up, .arg = &freed, .arg_free = count_free, .priority = i - 1 };
            assert_status(TPOOL_FULL, tpool_submit_task(pool, &task, &future));
            assert_null(future);
        }
        assert_int_equal(capacity, stats_of(pool).queued);
        assert_int_equal(capacity + 1, stats_of(pool).submitted);
        assert_int_equal(3, stats_of(pool).rejected);
        gate_open(&hold);
        end_pool(pool);
        assert_int_equal(capacity, atomic_load(&runs));
        assert_int_equal(0, atomic_load(&freed));
    }
}

static void a_start_makes_room_for_exactly_one(void **state) {
    (void)state;
    static gate first = GATE_CLOSED, second = GATE_CLOSED;
    tpool *pool = new_busy_pool(2, TPOOL_FULL_REJECT, &first);
    assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &second, NULL));
    assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
    assert_status(TPOOL_FULL, tpool_submit(pool, nothing, NULL, NULL));
    gate_open(&first);
    AWAIT_ARRIVALS(&second, 1);
    assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
    assert_status(TPOOL_FULL, tpool_submit(pool, nothing, NULL, NULL));
    gate_open(&second);
    end_pool(pool);
}

static void a_paused_pool_has_its_capacity_too(void **state) {
    (void)state;
    static atomic_int runs;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 4, .queue_capacity = 2, .on_full = TPOOL_FULL_REJECT });
    assert_status(TPOOL_OK, tpool_pause(pool));
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, tpool_submit(pool, count_up, &runs, NULL));
    assert_status(TPOOL_FULL, tpool_submit(pool, count_up, &runs, NULL));
    assert_status(TPOOL_OK, tpool_resume(pool));
    end_pool(pool);
    assert_int_equal(2, atomic_load(&runs));
}

static void without_a_capacity_the_queue_takes_everything(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static atomic_int runs;
    int count = COUNT(50000);
    tpool *pool = new_busy_pool(0, TPOOL_FULL_REJECT, &hold);
    for (int i = 0; i < count; i++) assert_status(TPOOL_OK, tpool_submit(pool, count_up, &runs, NULL));
    assert_int_equal(count, stats_of(pool).queued);
    gate_open(&hold);
    end_pool(pool);
    assert_int_equal(count, atomic_load(&runs));
}

typedef struct pushers {
    tpool *pool;
    atomic_int runs, taken, refused, other;
} pushers;
static void *push_50(void *arg) {
    pushers *p = arg;
    for (int i = 0; i < 50; i++) {
        tpool_status status = tpool_submit(p->pool, count_up, &p->runs, NULL);
        atomic_fetch_add(status == TPOOL_OK ? &p->taken : status == TPOOL_FULL ? &p->refused : &p->other, 1);
    }
    return NULL;
}

static void many_submitters_together_never_pass_the_capacity(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static pushers p;
    pthread_t threads[8];
    p.pool = new_busy_pool(100, TPOOL_FULL_REJECT, &hold);
    for (int i = 0; i < 8; i++) assert_int_equal(0, pthread_create(&threads[i], NULL, push_50, &p));
    for (int i = 0; i < 8; i++) pthread_join(threads[i], NULL);
    assert_int_equal(100, atomic_load(&p.taken));
    assert_int_equal(300, atomic_load(&p.refused));
    assert_int_equal(0, atomic_load(&p.other));
    assert_int_equal(300, stats_of(p.pool).rejected);
    gate_open(&hold);
    end_pool(p.pool);
    assert_int_equal(100, atomic_load(&p.runs));
}

static void a_cancel_makes_room_at_once(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    tpool *pool = new_busy_pool(3, TPOOL_FULL_REJECT, &hold);
    tpool_future *futures[3];
    for (int i = 0; i < 3; i++) futures[i] = submitted_task(pool, (tpool_task){ .fn = nothing, .priority = i - 1 });
    for (int i = 0; i < 3; i++) {
        assert_status(TPOOL_FULL, tpool_submit(pool, nothing, NULL, NULL));
        assert_true(tpool_future_cancel(futures[i]));
        assert_int_equal(2, stats_of(pool).queued);
        assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
    }
    assert_status(TPOOL_FULL, tpool_submit(pool, nothing, NULL, NULL));
    assert_true(tpool_future_cancel(futures[0])); /* again: true, and no second room */
    assert_status(TPOOL_FULL, tpool_submit(pool, nothing, NULL, NULL));
    for (int i = 0; i < 3; i++) tpool_future_release(futures[i]);
    gate_open(&hold);
    end_pool(pool);
}

static void an_expiry_makes_room_as_soon_as_somebody_notices_it(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static atomic_int freed;
    tpool *pool = new_busy_pool(1, TPOOL_FULL_REJECT, &hold);
    tpool_future *future =
        submitted_task(pool, (tpool_task){ .fn = nothing, .arg = &freed, .arg_free = count_free, .expires_ns = 1 });
    sleep_ms(1);
    assert_true(tpool_future_done(future));
    assert_int_equal(1, stats_of(pool).expired);
    assert_int_equal(0, stats_of(pool).queued);
    assert_int_equal(1, atomic_load(&freed));
    assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
    assert_status(TPOOL_FULL, tpool_submit(pool, nothing, NULL, NULL));
    tpool_future_release(future);
    gate_open(&hold);
    end_pool(pool);
}

typedef struct in_place_story {
    atomic_int runs;
    tpool_status first, wait, second, wait_again;
} in_place_story;
static void *wait_in_full_pool(void *arg) {
    in_place_story *s = arg;
    tpool_future *future;
    s->first = tpool_submit(tpool_current(), count_up, &s->runs, &future);
    if (s->first != TPOOL_OK) return NULL;
    s->wait = tpool_future_result(future, TPOOL_FOREVER, NULL);
    tpool_future_release(future);
    s->second = tpool_submit(tpool_current(), count_up, &s->runs, &future);
    if (s->second != TPOOL_OK) return NULL;
    s->wait_again = tpool_future_result(future, TPOOL_FOREVER, NULL);
    tpool_future_release(future);
    return NULL;
}

static void a_task_run_by_its_waiter_leaves_room(void **state) {
    (void)state;
    static in_place_story s;
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1, .on_full = TPOOL_FULL_REJECT });
    assert_status(TPOOL_OK, end_of(submitted(pool, wait_in_full_pool, &s)));
    assert_status(TPOOL_OK, s.first);
    assert_status(TPOOL_OK, s.wait);
    assert_status(TPOOL_OK, s.second);
    assert_status(TPOOL_OK, s.wait_again);
    assert_int_equal(2, atomic_load(&s.runs));
    end_pool(pool);
}

static void submit_many_stops_where_the_queue_is_full(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static atomic_int runs, freed;
    tpool *pool = new_busy_pool(2, TPOOL_FULL_REJECT, &hold);
    tpool_task tasks[5];
    tpool_future *futures[5];
    for (int i = 0; i < 5; i++) {
        tasks[i] = (tpool_task){ .fn = count_up, .arg = &runs };
        futures[i] = (tpool_future *)&runs;
    }
    tasks[2].arg = &freed;
    tasks[2].arg_free = count_free;
    size_t taken = 99;
    assert_status(TPOOL_FULL, tpool_submit_many(pool, tasks, 5, futures, &taken));
    assert_int_equal(2, taken);
    for (int i = 2; i < 5; i++) assert_null(futures[i]);
    gate_open(&hold);
    for (int i = 0; i < 2; i++) assert_status(TPOOL_OK, end_of(futures[i]));
    end_pool(pool);
    assert_int_equal(2, atomic_load(&runs));
    assert_int_equal(0, atomic_load(&freed));
}

/* --- BLOCK */

static void a_blocked_submitter_goes_on_when_a_task_starts(void **state) {
    (void)state;
    static gate first = GATE_CLOSED, second = GATE_CLOSED;
    static atomic_int runs;
    static background submitter;
    static submit_call call;
    tpool *pool = new_busy_pool(1, TPOOL_FULL_BLOCK, &first);
    assert_status(TPOOL_OK, tpool_submit(pool, gate_task, &second, NULL));
    call = (submit_call){ .pool = pool, .task = { .fn = count_up, .arg = &runs } };
    background_start(&submitter, call_submit, &call);
    background_await_block(&submitter);
    assert_int_equal(1, stats_of(pool).queued);
    gate_open(&first); /* the second starts, and holds its own gate */
    assert_status(TPOOL_OK, background_join(&submitter));
    assert_int_equal(TPOOL_PENDING, tpool_future_state(call.future));
    assert_int_equal(1, stats_of(pool).queued);
    gate_open(&second);
    assert_status(TPOOL_OK, end_of(call.future));
    assert_int_equal(1, atomic_load(&runs));
    end_pool(pool);
}

static void a_blocked_submitter_goes_on_when_a_task_is_cancelled_or_seen_to_expire(void **state) {
    (void)state;
    for (int expires = 0; expires < 2; expires++) {
        static gate hold = GATE_CLOSED;
        static background submitter;
        static submit_call call;
        gate_close(&hold);
        tpool *pool = new_busy_pool(1, TPOOL_FULL_BLOCK, &hold);
        tpool_future *queued =
            submitted_task(pool, (tpool_task){ .fn = nothing, .expires_ns = expires * TPOOL_MS(500) });
        call = (submit_call){ .pool = pool, .task = { .fn = nothing } };
        background_start(&submitter, call_submit, &call);
        background_await_block(&submitter);
        if (expires) EVENTUALLY(tpool_future_state(queued) == TPOOL_FINISHED);
        else assert_true(tpool_future_cancel(queued));
        assert_status(TPOOL_OK, background_join(&submitter)); /* the gate is still closed */
        assert_int_equal(TPOOL_PENDING, tpool_future_state(call.future));
        gate_open(&hold);
        assert_status(TPOOL_OK, end_of(call.future));
        tpool_future_release(queued);
        end_pool(pool);
    }
}

static void a_blocked_submitter_learns_of_a_shutdown(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static atomic_int runs, freed;
    static background submitters[3];
    static submit_call calls[3];
    tpool *pool = new_busy_pool(1, TPOOL_FULL_BLOCK, &hold);
    assert_status(TPOOL_OK, tpool_submit(pool, count_up, &runs, NULL));
    for (int i = 0; i < 3; i++) {
        calls[i] = (submit_call){ .pool = pool,
                                  .future = (tpool_future *)pool,
                                  .timeout_ns = LIMIT,
                                  .task = { .fn = count_up, .arg = &freed, .arg_free = count_free, .priority = i } };
        background_start(&submitters[i], i == 2 ? call_run_with_timeout : call_submit, &calls[i]);
    }
    for (int i = 0; i < 3; i++) background_await_block(&submitters[i]);
    assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
    for (int i = 0; i < 3; i++) {
        assert_status(TPOOL_SHUTDOWN, background_join(&submitters[i]));
        assert_null(calls[i].future);
    }
    gate_open(&hold);
    assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
    assert_int_equal(1, atomic_load(&runs)); /* what was queued before */
    assert_int_equal(0, atomic_load(&freed));
    assert_int_equal(2, stats_of(pool).submitted);
    end_pool(pool);
}

static struct {
    atomic_int count;
    int values[16];
} order;
static void *record(void *arg) {
    int at = atomic_fetch_add(&order.count, 1);
    if (at < 16) order.values[at] = (int)(intptr_t)arg;
    return NULL;
}

static void blocked_submitters_get_room_first_come_first_served(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static background submitters[4];
    static submit_call calls[4];
    tpool *pool = new_busy_pool(2, TPOOL_FULL_BLOCK, &hold);
    tpool_future *queued[2];
    for (int i = 0; i < 2; i++) queued[i] = submitted(pool, nothing, NULL);
    for (int i = 0; i < 4; i++) {
        calls[i] = (submit_call){ .pool = pool, .task = { .fn = record, .arg = (void *)(intptr_t)i } };
        background_start(&submitters[i], call_submit, &calls[i]);
        background_await_block(&submitters[i]);
    }
    for (int i = 0; i < 2; i++) { /* each cancel lets one go on, the one that came first */
        assert_true(tpool_future_cancel(queued[i]));
        assert_status(TPOOL_OK, background_join(&submitters[i]));
        for (int j = i + 1; j < 4; j++) background_await_block(&submitters[j]);
    }
    gate_open(&hold);
    for (int i = 2; i < 4; i++) assert_status(TPOOL_OK, background_join(&submitters[i]));
    for (int i = 0; i < 4; i++) assert_status(TPOOL_OK, end_of(calls[i].future));
    for (int i = 0; i < 4; i++) assert_int_equal(i, order.values[i]);
    for (int i = 0; i < 2; i++) tpool_future_release(queued[i]);
    end_pool(pool);
}

typedef struct many_call {
    tpool *pool;
    tpool_task tasks[5];
    tpool_future *futures[5];
    size_t taken;
} many_call;
static tpool_status call_submit_many(void *context) {
    many_call *m = context;
    return tpool_submit_many(m->pool, m->tasks, 5, m->futures, &m->taken);
}

static void submit_many_waits_for_room_and_tells_how_many_were_taken(void **state) {
    (void)state;
    for (int ended = 0; ended < 2; ended++) {
        static gate hold = GATE_CLOSED;
        static atomic_int runs;
        static background submitter;
        static many_call many;
        gate_close(&hold);
        atomic_store(&runs, 0);
        many.pool = new_busy_pool(2, TPOOL_FULL_BLOCK, &hold);
        for (int i = 0; i < 5; i++) {
            many.tasks[i] = (tpool_task){ .fn = count_up, .arg = &runs };
            many.futures[i] = (tpool_future *)&many;
        }
        background_start(&submitter, call_submit_many, &many);
        background_await_block(&submitter);
        assert_int_equal(2, stats_of(many.pool).queued);
        size_t expected = ended ? 2 : 5;
        if (ended) {
            assert_status(TPOOL_OK, tpool_shutdown(many.pool, 0));
            assert_status(TPOOL_SHUTDOWN, background_join(&submitter));
            gate_open(&hold);
        } else {
            gate_open(&hold);
            assert_status(TPOOL_OK, background_join(&submitter));
        }
        assert_int_equal(expected, many.taken);
        for (size_t i = 0; i < 5; i++) {
            if (i < expected) assert_status(TPOOL_OK, end_of(many.futures[i]));
            else assert_null(many.futures[i]);
        }
        end_pool(many.pool);
        assert_int_equal(expected, atomic_load(&runs));
    }
}

typedef struct flood {
    tpool *pool;
    int depth;
    atomic_int *runs, *refused;
} flood;
static void *submit_flood(void *arg) {
    flood f = *(flood *)arg;
    atomic_fetch_add(f.runs, 1);
    if (f.depth == 0) return NULL;
    f.depth--;
    for (int i = 0; i < 5; i++) {
        if (tpool_submit_copy(f.pool, submit_flood, &f, sizeof f, NULL) != TPOOL_OK) atomic_fetch_add(f.refused, 1);
    }
    return NULL;
}

static void a_worker_that_blocks_on_its_own_full_queue_gets_a_spare(void **state) {
    (void)state;
    for (int workers = 1; workers <= 2; workers++) {
        static atomic_int runs, refused;
        atomic_store(&runs, 0);
        tpool *pool = new_pool_as((tpool_config){ .max_workers = workers, .queue_capacity = 1 });
        flood f = { .pool = pool, .depth = 3, .runs = &runs, .refused = &refused };
        assert_status(TPOOL_OK, tpool_submit_copy(pool, submit_flood, &f, sizeof f, NULL));
        assert_status(TPOOL_OK, tpool_drain(pool, LIMIT));
        assert_int_equal(1 + 5 + 25 + 125, atomic_load(&runs));
        assert_int_equal(0, atomic_load(&refused));
        if (workers == 1) assert_true(stats_of(pool).spared >= 1);
        end_pool(pool);
    }
}

typedef struct crossing {
    tpool *full;
    gate *hold;
    tpool_status submit;
} crossing;
static void *submit_to_full(void *arg) {
    crossing *c = arg;
    c->submit = tpool_submit(c->full, nothing, NULL, NULL);
    return NULL;
}
static void *open_hold(void *arg) {
    gate_open(((crossing *)arg)->hold);
    return NULL;
}

static void a_worker_that_blocks_on_another_pools_full_queue_gets_a_spare(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static crossing c;
    c.hold = &hold;
    c.full = new_busy_pool(1, TPOOL_FULL_BLOCK, &hold);
    assert_status(TPOOL_OK, tpool_submit(c.full, nothing, NULL, NULL));
    tpool *pool = new_pool_as((tpool_config){ .max_workers = 1 });
    tpool_future *blocked = submitted(pool, submit_to_full, &c);
    tpool_future *opener = submitted(pool, open_hold, &c); /* only a spare can run it */
    assert_status(TPOOL_OK, end_of(opener));
    assert_status(TPOOL_OK, end_of(blocked));
    assert_status(TPOOL_OK, c.submit);
    end_pool(pool);
    end_pool(c.full);
}

static void *push_many_blocking(void *arg) {
    pushers *p = arg;
    for (int i = 0; i < COUNT(1000); i++) {
        tpool_status status = tpool_submit(p->pool, count_up, &p->runs, NULL);
        atomic_fetch_add(status == TPOOL_OK ? &p->taken : &p->other, 1);
    }
    return NULL;
}

static void many_blocking_submitters_lose_nothing(void **state) {
    (void)state;
    for (size_t capacity = 1; capacity <= 4; capacity *= 4) {
        static pushers p;
        pthread_t threads[4];
        atomic_store(&p.runs, 0);
        atomic_store(&p.taken, 0);
        p.pool = new_pool_as((tpool_config){ .max_workers = 2, .queue_capacity = capacity });
        for (int i = 0; i < 4; i++) assert_int_equal(0, pthread_create(&threads[i], NULL, push_many_blocking, &p));
        for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
        assert_int_equal(4 * COUNT(1000), atomic_load(&p.taken));
        assert_int_equal(0, atomic_load(&p.other));
        end_pool(p.pool);
        assert_int_equal(4 * COUNT(1000), atomic_load(&p.runs));
    }
}

/* --- run_with_timeout on a full queue */

static void the_limit_of_run_with_timeout_includes_the_wait_for_room(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static atomic_int runs; /* arg_free would count here too */
    tpool *pool = new_busy_pool(1, TPOOL_FULL_BLOCK, &hold);
    assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
    tpool_task task = { .fn = count_up, .arg = &runs, .arg_free = count_free };
    static const int64_t limits[] = { TPOOL_MS(30), 0, -1 };
    for (int i = 0; i < 3; i++) {
        tpool_future *future = (tpool_future *)pool;
        int64_t before = tpool_now();
        assert_status(TPOOL_TIMEOUT, tpool_run_with_timeout(pool, &task, limits[i], &future));
        assert_true(tpool_now() - before >= limits[i]);
        assert_null(future); /* not taken */
        assert_int_equal(1, stats_of(pool).queued);
        assert_int_equal(2, stats_of(pool).submitted);
    }
    gate_open(&hold);
    end_pool(pool);
    assert_int_equal(0, atomic_load(&runs));
}

static void run_with_timeout_gets_room_within_its_limit(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static atomic_int runs;
    static background runner;
    static submit_call call;
    tpool *pool = new_busy_pool(1, TPOOL_FULL_BLOCK, &hold);
    assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
    call = (submit_call){ .pool = pool, .task = { .fn = count_up, .arg = &runs }, .timeout_ns = LIMIT };
    background_start(&runner, call_run_with_timeout, &call);
    background_await_block(&runner);
    gate_open(&hold);
    assert_status(TPOOL_OK, background_join(&runner));
    assert_status(TPOOL_OK, end_of(call.future));
    assert_int_equal(1, atomic_load(&runs));
    end_pool(pool);
}

/* --- submit_within: the same whatever the policy */

static const tpool_full_policy all_policies[] = { TPOOL_FULL_BLOCK, TPOOL_FULL_REJECT, TPOOL_FULL_CALLER_RUNS,
                                                  TPOOL_FULL_DROP_OLDEST };
static tpool_status call_submit_within(void *context) {
    submit_call *c = context;
    return tpool_submit_within(c->pool, &c->task, c->timeout_ns, &c->future);
}

static void submit_within_gives_up_when_its_limit_has_passed(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static atomic_int runs; /* arg_free would count here too */
    static const int64_t limits[] = { TPOOL_MS(30), 0, -1, INT64_MIN };
    tpool_task task = { .fn = count_up, .arg = &runs, .arg_free = count_free };
    for (size_t p = 0; p < 4; p++) {
        gate_close(&hold);
        tpool *pool = new_busy_pool(1, all_policies[p], &hold);
        tpool_future *waiting = submitted(pool, nothing, NULL);
        for (int i = 0; i < 4; i++) {
            tpool_future *future = (tpool_future *)pool;
            int64_t before = tpool_now();
            assert_status(TPOOL_TIMEOUT, tpool_submit_within(pool, &task, limits[i], &future));
            assert_true(limits[i] < 0 || tpool_now() - before >= limits[i]);
            assert_null(future);
            assert_status(TPOOL_TIMEOUT, tpool_submit_within(pool, &task, limits[i], NULL));
        }
        assert_int_equal(1, stats_of(pool).queued);
        assert_int_equal(2, stats_of(pool).submitted);
        assert_int_equal(0, stats_of(pool).dropped + stats_of(pool).rejected);
        assert_int_equal(TPOOL_PENDING, tpool_future_state(waiting));
        assert_status(TPOOL_INVALID, tpool_submit_within(pool, NULL, 0, NULL));
        assert_status(TPOOL_INVALID, tpool_submit_within(NULL, &task, 0, NULL));
        gate_open(&hold);
        assert_status(TPOOL_OK, end_of(waiting));
        end_pool(pool);
        assert_int_equal(0, atomic_load(&runs));
    }
}

static void submit_within_waits_for_room(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static const int64_t limits[] = { LIMIT, TPOOL_FOREVER };
    for (size_t p = 0; p < 8; p++) {
        static atomic_int runs;
        static background submitter;
        static submit_call call;
        atomic_store(&runs, 0);
        gate_close(&hold);
        tpool *pool = new_busy_pool(1, all_policies[p % 4], &hold);
        tpool_future *waiting = submitted(pool, nothing, NULL);
        call = (submit_call){ .pool = pool, .task = { .fn = count_up, .arg = &runs }, .timeout_ns = limits[p / 4] };
        background_start(&submitter, call_submit_within, &call);
        background_await_block(&submitter);
        gate_open(&hold);
        assert_status(TPOOL_OK, background_join(&submitter));
        assert_status(TPOOL_OK, end_of(call.future));
        assert_status(TPOOL_OK, end_of(waiting)); /* neither dropped nor run by the submitter */
        assert_int_equal(1, atomic_load(&runs));
        tpool_future *at_once = NULL; /* with room the limit does not matter */
        EVENTUALLY(stats_of(pool).queued == 0);
        assert_status(TPOOL_OK, tpool_submit_within(pool, &call.task, 0, &at_once));
        assert_status(TPOOL_OK, end_of(at_once));
        end_pool(pool);
    }
}

static void who_waits_in_submit_within_learns_of_a_shutdown(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    for (size_t p = 0; p < 4; p++) {
        static background submitter;
        static submit_call call;
        gate_close(&hold);
        tpool *pool = new_busy_pool(1, all_policies[p], &hold);
        assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
        call = (submit_call){ .pool = pool, .task = { .fn = nothing }, .timeout_ns = TPOOL_FOREVER };
        background_start(&submitter, call_submit_within, &call);
        background_await_block(&submitter);
        assert_status(TPOOL_OK, tpool_shutdown(pool, 0));
        assert_status(TPOOL_SHUTDOWN, background_join(&submitter));
        assert_null(call.future);
        gate_open(&hold);
        end_pool(pool);
    }
}

typedef struct own_within {
    tpool_status first, timed, second;
    atomic_int runs;
} own_within;
static void *submit_within_own_pool(void *arg) {
    own_within *o = arg;
    tpool_task task = { .fn = count_up, .arg = &o->runs };
    o->first = tpool_submit_within(tpool_current(), &task, 0, NULL);
    o->timed = tpool_submit_within(tpool_current(), &task, 0, NULL);
    o->second = tpool_submit_within(tpool_current(), &task, TPOOL_FOREVER, NULL); /* a spare worker makes room */
    return NULL;
}
static void a_worker_may_wait_in_submit_within_for_room_in_its_own_pool(void **state) {
    (void)state;
    for (size_t p = 0; p < 4; p++) {
        static own_within o;
        memset(&o, 0, sizeof o);
        tpool *pool = new_pool_as((tpool_config){ .max_workers = 1, .queue_capacity = 1, .on_full = all_policies[p] });
        assert_status(TPOOL_OK, end_of(submitted(pool, submit_within_own_pool, &o)));
        assert_status(TPOOL_OK, o.first);
        assert_status(TPOOL_TIMEOUT, o.timed);
        assert_status(TPOOL_OK, o.second);
        end_pool(pool);
        assert_int_equal(2, atomic_load(&o.runs));
    }
}

static void run_with_timeout_is_rejected_like_any_submit(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    tpool *pool = new_busy_pool(1, TPOOL_FULL_REJECT, &hold);
    assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
    tpool_future *future = (tpool_future *)pool;
    assert_status(TPOOL_FULL, tpool_run_with_timeout(pool, &(tpool_task){ .fn = nothing }, LIMIT, &future));
    assert_null(future);
    gate_open(&hold);
    end_pool(pool);
}

/* --- DROP_OLDEST */

static bool contains_ignoring_case(const char *text, const char *word) {
    size_t length = strlen(word);
    for (; *text; text++) {
        size_t i = 0;
        while (i < length && tolower((unsigned char)text[i]) == word[i]) i++;
        if (i == length) return true;
    }
    return false;
}

static void drop_oldest_cancels_what_has_waited_longest(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static atomic_int runs, freed, called_back;
    static background waiter;
    tpool *pool = new_busy_pool_as(
        (tpool_config){ .queue_capacity = 2, .on_full = TPOOL_FULL_DROP_OLDEST, .on_failure = note_failure }, &hold);
    atomic_store(&failures, 0);
    /* The oldest has the highest priority: that does not save it. */
    tpool_future *oldest = submitted_task(
        pool, (tpool_task){ .fn = nothing, .arg = &freed, .arg_free = count_free, .priority = 5, .name = "oldest" });
    tpool_future *second = submitted_task(pool, (tpool_task){ .fn = count_up, .arg = &runs, .priority = -5 });
    assert_status(TPOOL_OK, tpool_future_add_done_callback(oldest, count_callback, &called_back));
    background_start(&waiter, call_result, oldest);
    background_await_block(&waiter);
    tpool_future *third = submitted(pool, count_up, &runs);
    assert_true(tpool_future_cancelled(oldest));
    assert_int_equal(TPOOL_STATE_CANCELLED, tpool_future_state(oldest));
    assert_int_equal(1, atomic_load(&freed));
    assert_int_equal(1, atomic_load(&called_back));
    assert_status(TPOOL_CANCELLED, background_join(&waiter));
    const tpool_error *error = NULL;
    assert_status(TPOOL_CANCELLED, tpool_future_error(oldest, 0, &error));
    assert_status(TPOOL_CANCELLED, error->status);
    assert_true(contains_ignoring_case(error->message, "dropped"));
    assert_string_equal("oldest", error->task);
    assert_true(contains_ignoring_case(tpool_future_message(oldest), "dropped"));
    tpool_stats stats = stats_of(pool);
    assert_int_equal(1, stats.dropped);
    assert_int_equal(0, stats.cancelled);
    assert_int_equal(0, stats.rejected);
    assert_int_equal(2, stats.queued);
    assert_int_equal(4, stats.submitted);

    tpool_future *fourth = submitted(pool, count_up, &runs);
    assert_true(tpool_future_cancelled(second));
    gate_open(&hold);
    assert_status(TPOOL_OK, end_of(third));
    assert_status(TPOOL_OK, end_of(fourth));
    tpool_future_release(oldest);
    tpool_future_release(second);
    end_pool(pool);
    assert_int_equal(2, atomic_load(&runs));
    assert_int_equal(1, atomic_load(&freed));
    assert_int_equal(0, atomic_load(&failures)); /* a drop is no failure */
}

static void an_ordinary_cancel_does_not_say_dropped(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    tpool *pool = new_busy_pool(2, TPOOL_FULL_DROP_OLDEST, &hold);
    tpool_future *future = submitted(pool, nothing, NULL);
    assert_true(tpool_future_cancel(future));
    const tpool_error *error = NULL;
    assert_status(TPOOL_CANCELLED, tpool_future_error(future, 0, &error));
    assert_false(contains_ignoring_case(error->message, "dropped"));
    assert_int_equal(0, stats_of(pool).dropped);
    assert_int_equal(1, stats_of(pool).cancelled);
    tpool_future_release(future);
    gate_open(&hold);
    end_pool(pool);
}

static void drop_oldest_keeps_the_newest(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static atomic_int freed;
    for (int paused = 0; paused < 2; paused++) {
        gate_close(&hold);
        atomic_store(&order.count, 0);
        atomic_store(&freed, 0);
        tpool *pool = new_busy_pool(3, TPOOL_FULL_DROP_OLDEST, &hold);
        if (paused) assert_status(TPOOL_OK, tpool_pause(pool));
        for (int i = 0; i < 100; i++) { /* without futures */
            assert_status(TPOOL_OK, tpool_submit(pool, record, (void *)(intptr_t)i, NULL));
        }
        for (int i = 0; i < 10; i++) {
            tpool_task task = { .fn = nothing, .arg = &freed, .arg_free = count_free };
            assert_status(TPOOL_OK, tpool_submit_task(pool, &task, NULL));
        }
        assert_int_equal(7, atomic_load(&freed));
        for (int i = 100; i < 103; i++) {
            assert_status(TPOOL_OK, tpool_submit(pool, record, (void *)(intptr_t)i, NULL));
        }
        assert_int_equal(10, atomic_load(&freed));
        assert_int_equal(110, stats_of(pool).dropped);
        assert_int_equal(3, stats_of(pool).queued);
        gate_open(&hold);
        assert_status(TPOOL_OK, tpool_resume(pool));
        end_pool(pool);
        assert_int_equal(3, atomic_load(&order.count));
        for (int i = 0; i < 3; i++) assert_int_equal(100 + i, order.values[i]);
    }
}

static void many_submitters_that_drop_lose_no_count(void **state) {
    (void)state;
    static pushers p;
    pthread_t threads[4];
    p.pool = new_pool_as((tpool_config){ .max_workers = 2, .queue_capacity = 2, .on_full = TPOOL_FULL_DROP_OLDEST });
    for (int i = 0; i < 4; i++) assert_int_equal(0, pthread_create(&threads[i], NULL, push_many_blocking, &p));
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    assert_int_equal(4 * COUNT(1000), atomic_load(&p.taken));
    assert_int_equal(0, atomic_load(&p.other));
    assert_status(TPOOL_OK, tpool_drain(p.pool, LIMIT));
    tpool_stats stats = stats_of(p.pool);
    assert_int_equal(stats.completed, atomic_load(&p.runs));
    assert_int_equal(4 * COUNT(1000), stats.completed + stats.dropped);
    end_pool(p.pool);
}

/* A map's next chunk goes past the capacity, so that a dropping submit finds one more than may wait. */
static tpool_future *dropped_first;
static tpool_status waited;
static void wait_for_the_first(void *arg) {
    (void)arg;
    waited = tpool_future_result(dropped_first, TPOOL_SEC(20), NULL);
}
static void a_drop_holds_no_other_task_while_it_ends_one(void **state) {
    (void)state;
    static gate hold = GATE_CLOSED;
    static int items[4];
    gate_close(&hold);
    tpool *pool = new_busy_pool(2, TPOOL_FULL_DROP_OLDEST, &hold);
    tpool_map_spec spec = { .fn = same_item, .items = items, .count = 4, .stride = sizeof items[0], .chunk_size = 1 };
    tpool_map_iter *iter;
    assert_status(TPOOL_OK, tpool_map(pool, &spec, &iter));
    dropped_first = submitted(pool, nothing, NULL);
    tpool_task second = { .fn = nothing, .arg_free = wait_for_the_first, .arg = &hold };
    assert_status(TPOOL_OK, tpool_submit_task(pool, &second, NULL)); /* drops a chunk, which queues the next */
    assert_int_equal(3, stats_of(pool).queued);
    waited = TPOOL_INVALID;
    assert_status(TPOOL_OK, tpool_submit(pool, nothing, NULL, NULL));
    assert_status(TPOOL_CANCELLED, tpool_future_result(dropped_first, 0, NULL));
    assert_int_equal(2, stats_of(pool).dropped);
    gate_open(&hold);
    tpool_map_close(iter);
    end_pool(pool);
    assert_status(TPOOL_CANCELLED, waited);
    tpool_future_release(dropped_first);
}

static const struct CMUnitTest tests[] = {
    TEST(capacity_counts_what_waits_to_start_exactly),
    TEST(a_start_makes_room_for_exactly_one),
    TEST(a_paused_pool_has_its_capacity_too),
    TEST(without_a_capacity_the_queue_takes_everything),
    TEST(many_submitters_together_never_pass_the_capacity),
    TEST(a_cancel_makes_room_at_once),
    TEST(an_expiry_makes_room_as_soon_as_somebody_notices_it),
    TEST(a_task_run_by_its_waiter_leaves_room),
    TEST(submit_many_stops_where_the_queue_is_full),
    TEST(a_blocked_submitter_goes_on_when_a_task_starts),
    TEST(a_blocked_submitter_goes_on_when_a_task_is_cancelled_or_seen_to_expire),
    TEST(a_blocked_submitter_learns_of_a_shutdown),
    TEST(blocked_submitters_get_room_first_come_first_served),
    TEST(submit_many_waits_for_room_and_tells_how_many_were_taken),
    TEST(a_worker_that_blocks_on_its_own_full_queue_gets_a_spare),
    TEST(a_worker_that_blocks_on_another_pools_full_queue_gets_a_spare),
    TEST(many_blocking_submitters_lose_nothing),
    TEST(the_limit_of_run_with_timeout_includes_the_wait_for_room),
    TEST(run_with_timeout_gets_room_within_its_limit),
    TEST(submit_within_gives_up_when_its_limit_has_passed),
    TEST(submit_within_waits_for_room),
    TEST(who_waits_in_submit_within_learns_of_a_shutdown),
    TEST(a_worker_may_wait_in_submit_within_for_room_in_its_own_pool),
    TEST(run_with_timeout_is_rejected_like_any_submit),
    TEST(drop_oldest_cancels_what_has_waited_longest),
    TEST(an_ordinary_cancel_does_not_say_dropped),
    TEST(drop_oldest_keeps_the_newest),
    TEST(many_submitters_that_drop_lose_no_count),
    TEST(a_drop_holds_no_other_task_while_it_ends_one),
};
RUN_TESTS(tests)
