/* Resource pools: who gets one and in which order, limits, what is given back, what goes wrong while they are made, and
   waiting for one inside a task. The implementation is included, so that the test can see who stands in line. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdlib.h>
/* Memory that a test watches is not freed before it says so. */
static void *watched;
static int watched_frees;
static inline void watching_free(void *memory) {
    if (memory && memory == watched) watched_frees++;
    else free(memory);
}
#define TPOOL_MALLOC(size) malloc(size)
#define TPOOL_FREE(memory) watching_free(memory)
#include "internals/check.h"

#include "support.h"

/* Things that count what happens to them. */
typedef struct shop {
    int made, destroyed, fails_at; /* fails_at: the number of the one that cannot be made, from 1 */
    int things[64];
    char order[256];
    bool same_thing;
} shop;
static void *make_thing(void *context) {
    shop *s = context;
    if (s->made + 1 == s->fails_at) return NULL;
    s->made++;
    return &s->things[s->same_thing ? 0 : s->made - 1];
}
static void destroy_thing(void *resource, void *context) {
    shop *s = context;
    int *thing = resource;
    assert_true(thing >= s->things && thing < s->things + 64);
    ++*thing;
    s->destroyed++;
}
static tpool_resources *open_shop(shop *s, size_t count) {
    tpool_resources *resources = NULL;
    assert_status(TPOOL_OK, tpool_resources_create(&resources, count, make_thing, destroy_thing, s));
    assert_non_null(resources);
    return resources;
}
static void *take_from(tpool_resources *resources) {
    void *resource = NULL;
    assert_status(TPOOL_OK, tpool_resources_get(resources, LIMIT, &resource));
    assert_non_null(resource);
    return resource;
}
static void give(tpool_resources *resources, void *resource) {
    assert_status(TPOOL_OK, tpool_resources_put(resources, resource));
}
static void close_shop(tpool_resources *resources, shop *s) {
    assert_status(TPOOL_OK, tpool_resources_destroy(resources));
    assert_int_equal(s->made, s->destroyed);
}

static void each_is_made_once_lent_once_and_destroyed_once(void **state) {
    (void)state;
    shop s = { 0 };
    tpool_resources *resources = open_shop(&s, 5);
    assert_int_equal(5, s.made);
    void *out[5], *none = &s;
    for (int i = 0; i < 5; i++) {
        out[i] = take_from(resources);
        for (int k = 0; k < i; k++) assert_ptr_not_equal(out[i], out[k]);
    }
    assert_status(TPOOL_TIMEOUT, tpool_resources_get(resources, 0, &none));
    assert_null(none);
    assert_status(TPOOL_TIMEOUT, tpool_resources_get(resources, -5, &none));
    give(resources, out[3]);
    assert_ptr_equal(out[3], take_from(resources)); /* the one used last */
    for (int i = 0; i < 5; i++) give(resources, out[i]);
    close_shop(resources, &s);
    for (int i = 0; i < 5; i++) assert_int_equal(1, s.things[i]);
}

static void bad_arguments_are_refused(void **state) {
    (void)state;
    shop s = { 0 };
    tpool_resources *resources = (tpool_resources *)(void *)&s;
    void *resource = &s;
    assert_status(TPOOL_INVALID, tpool_resources_create(NULL, 1, make_thing, destroy_thing, &s));
    assert_status(TPOOL_INVALID, tpool_resources_create(&resources, 1, NULL, destroy_thing, &s));
    assert_null(resources);
    assert_status(TPOOL_NO_MEMORY, tpool_resources_create(&resources, SIZE_MAX, make_thing, destroy_thing, &s));
    assert_status(TPOOL_NO_MEMORY, tpool_resources_create(&resources, SIZE_MAX / 16, make_thing, destroy_thing, &s));
    assert_null(resources);
    assert_int_equal(0, s.made);
    assert_status(TPOOL_INVALID, tpool_resources_get(NULL, 0, &resource));
    assert_null(resource);
    assert_status(TPOOL_INVALID, tpool_resources_put(NULL, &s));
    assert_status(TPOOL_OK, tpool_resources_destroy(NULL));
    resources = open_shop(&s, 1);
    assert_status(TPOOL_INVALID, tpool_resources_get(resources, 0, NULL));
    assert_status(TPOOL_INVALID, tpool_resources_put(resources, NULL));
    close_shop(resources, &s);
    assert_status(TPOOL_OK, tpool_resources_create(&resources, 3, make_thing, NULL, &s)); /* none needs destroying */
    assert_status(TPOOL_OK, tpool_resources_destroy(resources));
}

static void when_one_cannot_be_made_the_others_are_destroyed_again(void **state) {
    (void)state;
    for (int fails_at = 1; fails_at <= 4; fails_at++) {
        shop s = { .fails_at = fails_at };
        tpool_resources *resources = (tpool_resources *)(void *)&s;
        assert_status(TPOOL_BROKEN, tpool_resources_create(&resources, 4, make_thing, destroy_thing, &s));
        assert_null(resources);
        assert_int_equal(fails_at - 1, s.made);
        assert_int_equal(s.made, s.destroyed);
    }
}

static void what_is_not_out_is_not_taken_back(void **state) {
    (void)state;
    shop s = { 0 }, other = { 0 };
    tpool_resources *resources = open_shop(&s, 2), *others = open_shop(&other, 1);
    void *mine = take_from(resources), *theirs = take_from(others);
    int stranger;
    assert_status(TPOOL_INVALID, tpool_resources_put(resources, &stranger));
    assert_status(TPOOL_INVALID, tpool_resources_put(resources, theirs));
    assert_status(TPOOL_INVALID, tpool_resources_put(resources, mine == &s.things[0] ? &s.things[1] : &s.things[0]));
    assert_status(TPOOL_INVALID, tpool_resources_put(resources, (char *)mine + 1));
    give(resources, mine);
    assert_status(TPOOL_INVALID, tpool_resources_put(resources, mine));
    give(others, theirs);
    close_shop(resources, &s);
    close_shop(others, &other);
}

static void the_same_thing_may_be_there_more_than_once(void **state) {
    (void)state;
    shop s = { .same_thing = true }; /* as with permits, which have no identity */
    tpool_resources *resources = open_shop(&s, 3);
    void *none;
    for (int i = 0; i < 3; i++) assert_ptr_equal(&s.things[0], take_from(resources));
    assert_status(TPOOL_TIMEOUT, tpool_resources_get(resources, 0, &none));
    for (int i = 0; i < 3; i++) give(resources, &s.things[0]);
    assert_status(TPOOL_INVALID, tpool_resources_put(resources, &s.things[0]));
    close_shop(resources, &s);
}

static void no_resource_at_all_is_a_pool_too(void **state) {
    (void)state;
    tpool_resources *resources = NULL;
    void *none = &resources;
    assert_status(TPOOL_OK, tpool_resources_create(&resources, 0, NULL, NULL, NULL));
    assert_status(TPOOL_TIMEOUT, tpool_resources_get(resources, TPOOL_MS(5), &none));
    assert_null(none);
    assert_status(TPOOL_INVALID, tpool_resources_put(resources, &none));
    assert_status(TPOOL_OK, tpool_resources_destroy(resources));
}

static void some_out_means_not_destroyed(void **state) {
    (void)state;
    shop s = { 0 };
    tpool_resources *resources = open_shop(&s, 2);
    void *resource = take_from(resources);
    assert_status(TPOOL_INVALID_STATE, tpool_resources_destroy(resources));
    assert_int_equal(0, s.destroyed);
    give(resources, resource);
    close_shop(resources, &s);
}

static void a_limit_passes_on_the_monotonic_clock(void **state) {
    (void)state;
    shop s = { 0 };
    tpool_resources *resources = open_shop(&s, 1);
    void *resource = take_from(resources), *none = &s;
    int64_t began = tpool_now();
    assert_status(TPOOL_TIMEOUT, tpool_resources_get(resources, TPOOL_MS(30), &none));
    assert_true(tpool_now() - began >= TPOOL_MS(30));
    assert_null(none);
    give(resources, resource);
    close_shop(resources, &s);
}

/* ---- First come, first served ---- */

typedef struct line {
    tpool_resources *resources;
    pthread_mutex_t lock;
    int next_place, served[64], count;
} line;
typedef struct customer {
    line *line;
    int place;
    pthread_t thread;
    int64_t timeout_ns;
    tpool_status status;
} customer;

static void *stand_in_line(void *arg) {
    customer *c = arg;
    void *resource = NULL;
    c->status = tpool_resources_get(c->line->resources, c->timeout_ns, &resource);
    if (c->status != TPOOL_OK) return NULL;
    pthread_mutex_lock(&c->line->lock);
    c->line->served[c->line->count++] = c->place;
    pthread_mutex_unlock(&c->line->lock);
    give(c->line->resources, resource);
    return NULL;
}
static int length_of_line(tpool_resources *resources) {
    int length = 0;
    tpool__lock(&resources->lock);
    for (tpool__waiter *at = resources->first; at; at = at->next_in_line) length++;
    tpool__unlock(&resources->lock);
    return length;
}
/* Comes, and stands in line. */
static void come(customer *c) {
    int before = length_of_line(c->line->resources);
    assert_int_equal(0, pthread_create(&c->thread, NULL, stand_in_line, c));
    EVENTUALLY(length_of_line(c->line->resources) > before);
}

static void who_has_waited_longest_is_served_first(void **state) {
    (void)state;
    enum { CUSTOMERS = 12 };
    shop s = { 0 };
    line l = { .resources = open_shop(&s, 1), .lock = PTHREAD_MUTEX_INITIALIZER };
    customer customers[CUSTOMERS];
    void *resource = take_from(l.resources);
    for (int i = 0; i < CUSTOMERS; i++) {
        customers[i] = (customer){ .line = &l, .place = i, .timeout_ns = i % 2 ? LIMIT : TPOOL_FOREVER };
        come(&customers[i]);
    }
    give(l.resources, resource);
    for (int i = 0; i < CUSTOMERS; i++) pthread_join(customers[i].thread, NULL);
    for (int i = 0; i < CUSTOMERS; i++) assert_int_equal(i, l.served[i]);
    close_shop(l.resources, &s);
}

static void nobody_overtakes_those_who_wait(void **state) {
    (void)state;
    shop s = { 0 };
    line l = { .resources = open_shop(&s, 1), .lock = PTHREAD_MUTEX_INITIALIZER };
    for (int round = 0; round < COUNT(200) + 1; round++) {
        void *resource = take_from(l.resources), *none = NULL;
        customer c = { .line = &l, .place = 1, .timeout_ns = LIMIT };
        l.count = 0;
        come(&c);
        give(l.resources, resource);
        /* Given back, it belongs to the one who waits, even if he still sleeps: either he is through, or it is out. */
        tpool_status status = tpool_resources_get(l.resources, 0, &none);
        if (status == TPOOL_OK) {
            pthread_mutex_lock(&l.lock);
            assert_int_equal(1, l.count);
            pthread_mutex_unlock(&l.lock);
            give(l.resources, none);
        }
        pthread_join(c.thread, NULL);
    }
    close_shop(l.resources, &s);
}

static void who_gives_up_leaves_the_line_to_the_others(void **state) {
    (void)state;
    shop s = { 0 };
    line l = { .resources = open_shop(&s, 1), .lock = PTHREAD_MUTEX_INITIALIZER };
    customer customers[5];
    void *resource = take_from(l.resources);
    for (int i = 0; i < 5; i++) { /* the first, one in the middle and the last give up */
        customers[i] = (customer){ .line = &l, .place = i, .timeout_ns = i % 2 ? LIMIT : TPOOL_MS(500) };
        come(&customers[i]);
    }
    for (int i = 0; i < 5; i += 2) {
        pthread_join(customers[i].thread, NULL);
        assert_status(TPOOL_TIMEOUT, customers[i].status);
    }
    customer late = { .line = &l, .place = 9, .timeout_ns = LIMIT };
    come(&late);
    give(l.resources, resource);
    pthread_join(customers[1].thread, NULL);
    pthread_join(customers[3].thread, NULL);
    pthread_join(late.thread, NULL);
    assert_int_equal(3, l.count);
    assert_int_equal(1, l.served[0]);
    assert_int_equal(3, l.served[1]);
    assert_int_equal(9, l.served[2]);
    close_shop(l.resources, &s);
}

/* Impatient and patient ones at once: whatever is handed to one whose time passes is not lost. */
typedef struct rush {
    tpool_resources *resources;
    atomic_int out, got, most;
    int64_t timeout_ns;
} rush;
static void *rush_in(void *arg) {
    rush *r = arg;
    for (int i = 0; i < COUNT(2000); i++) {
        void *resource = NULL;
        tpool_status status = tpool_resources_get(r->resources, (i % 7) * TPOOL_US(7), &resource);
        if (status != TPOOL_OK) {
            assert_status(TPOOL_TIMEOUT, status);
            assert_null(resource);
            continue;
        }
        int out = atomic_fetch_add(&r->out, 1) + 1, most = atomic_load(&r->most);
        while (out > most && !atomic_compare_exchange_weak(&r->most, &most, out)) { }
        atomic_fetch_add(&r->got, 1);
        if (i % 3 == 0) sched_yield();
        atomic_fetch_sub(&r->out, 1);
        give(r->resources, resource);
    }
    return NULL;
}
static void none_is_lost_when_limits_pass_while_they_are_handed_over(void **state) {
    (void)state;
    shop s = { 0 };
    rush r = { .resources = open_shop(&s, 2) };
    pthread_t threads[6];
    for (int i = 0; i < 6; i++) assert_int_equal(0, pthread_create(&threads[i], NULL, rush_in, &r));
    for (int i = 0; i < 6; i++) pthread_join(threads[i], NULL);
    assert_true(atomic_load(&r.got) > 0);
    assert_true(atomic_load(&r.most) <= 2);
    void *first = take_from(r.resources), *second = take_from(r.resources); /* both are there */
    give(r.resources, first);
    give(r.resources, second);
    close_shop(r.resources, &s);
}

/* ---- In tasks ---- */

typedef struct job {
    tpool_resources *resources;
    gate *g;
} job;
static void *take_in_task(void *arg) {
    job *j = arg;
    void *resource = take_from(j->resources);
    give(j->resources, resource);
    return resource;
}
static void *give_in_task(void *arg) {
    void **both = arg;
    give(both[0], both[1]);
    return NULL;
}
static void a_task_that_waits_leaves_its_worker_to_others(void **state) {
    (void)state;
    shop s = { 0 };
    tpool *pool = NULL;
    job j = { open_shop(&s, 1), NULL };
    assert_status(TPOOL_OK, tpool_create(&pool, &(tpool_config){ .max_workers = 1 }));
    void *both[2] = { j.resources, take_from(j.resources) };
    tpool_future *waits, *gives;
    waits = submitted(pool, take_in_task, &j);
    assert_status(TPOOL_OK, tpool_submit(pool, give_in_task, both, &gives)); /* behind it; a spare worker runs it */
    assert_status(TPOOL_OK, tpool_future_result(waits, LIMIT, NULL));
    assert_status(TPOOL_OK, tpool_future_result(gives, LIMIT, NULL));
    tpool_future_release(waits);
    tpool_future_release(gives);
    assert_status(TPOOL_OK, tpool_destroy(pool));
    close_shop(j.resources, &s);
}

static void four_serve_sixteen(void **state) {
    (void)state;
    enum { TASKS = 16 };
    shop s = { 0 };
    tpool *pool = NULL;
    rush r = { .resources = open_shop(&s, 4) };
    assert_status(TPOOL_OK, tpool_create(&pool, &(tpool_config){ .max_workers = TASKS }));
    for (int i = 0; i < TASKS; i++) assert_status(TPOOL_OK, tpool_submit(pool, rush_in, &r, NULL));
    assert_status(TPOOL_OK, tpool_destroy(pool));
    assert_true(atomic_load(&r.most) <= 4);
    close_shop(r.resources, &s);
}

/* ---- The end ---- */

static void *wait_for_none(void *arg) {
    customer *c = arg;
    void *resource = c;
    c->status = tpool_resources_get(c->line->resources, c->timeout_ns, &resource);
    assert_null(resource);
    return NULL;
}
static void a_destroyed_pool_wakes_nobody_and_is_there_until_they_have_given_up(void **state) {
    (void)state;
    line l = { .lock = PTHREAD_MUTEX_INITIALIZER };
    assert_status(TPOOL_OK, tpool_resources_create(&l.resources, 0, NULL, NULL, NULL));
    customer customers[2];
    for (int i = 0; i < 2; i++) {
        customers[i] = (customer){ .line = &l, .timeout_ns = TPOOL_MS(SLOW_TOOL ? 3000 : 1000) };
        assert_int_equal(0, pthread_create(&customers[i].thread, NULL, wait_for_none, &customers[i]));
    }
    EVENTUALLY(length_of_line(l.resources) == 2);
    assert_status(TPOOL_OK, tpool_resources_destroy(l.resources));
    for (int i = 0; i < 2; i++) {
        pthread_join(customers[i].thread, NULL);
        assert_status(TPOOL_TIMEOUT, customers[i].status);
    }
}

/* A callback waits for one. What is listed for the thread runs first, and destroys them. */
typedef struct destroyer {
    tpool_resources *resources;
    tpool_future *other;
    tpool_status status;
    int64_t waited;
    int frees;
    bool ends_thread;
    void *lent;
    void *out; /* the only one, which the other callback gives back first */
} destroyer;
static void end_in_callback(tpool_future *future, void *context) {
    (void)future;
    (void)context;
    pthread_exit(NULL);
}
static void destroy_in_callback(tpool_future *future, void *context) {
    destroyer *d = context;
    (void)future;
    if (d->out) assert_status(TPOOL_OK, tpool_resources_put(d->resources, d->out));
    assert_status(TPOOL_OK, tpool_resources_destroy(d->resources));
    if (d->ends_thread) assert_status(TPOOL_OK, tpool_future_add_done_callback(d->other, end_in_callback, NULL));
}
static void wait_in_callback(tpool_future *future, void *context) {
    destroyer *d = context;
    void *resource = d;
    (void)future;
    assert_true(tpool_future_cancel(d->other));
    int64_t begin = tpool_now();
    d->status = tpool_resources_get(d->resources, TPOOL_MS(50), &resource);
    d->waited = tpool_now() - begin;
    d->frees = watched_frees;
    d->lent = resource;
}
static void *cancel_first(void *arg) {
    assert_true(tpool_future_cancel(arg));
    return NULL;
}
static void *make_itself(void *context) { return context; }
static void destroyed_before_a_piece_of_a_wait(destroyer *d, size_t count) {
    held_pool h;
    held_create(&h, NULL);
    assert_status(TPOOL_OK, tpool_resources_create(&d->resources, count, make_itself, NULL, d));
    if (count > 0) d->out = take_from(d->resources);
    watched = d->resources;
    watched_frees = 0;
    tpool_future *first = submitted(h.pool, nothing, NULL);
    d->other = submitted(h.pool, nothing, NULL);
    assert_status(TPOOL_OK, tpool_future_add_done_callback(first, wait_in_callback, d));
    assert_status(TPOOL_OK, tpool_future_add_done_callback(d->other, destroy_in_callback, d));
    in_own_thread(cancel_first, first);
    tpool_future_release(first);
    tpool_future_release(d->other);
    held_destroy(&h);
    assert_int_equal(1, watched_frees);
    free(watched);
    watched = NULL;
}
static void a_pool_that_is_destroyed_before_a_wait_begins_is_there_until_it_ends(void **state) {
    (void)state;
    destroyer d = { .status = TPOOL_INVALID };
    destroyed_before_a_piece_of_a_wait(&d, 0);
    assert_status(TPOOL_TIMEOUT, d.status);
    assert_int_equal(1, d.frees);
    assert_true(d.waited >= TPOOL_MS(50));
}
static void none_that_is_destroyed_is_lent(void **state) {
    (void)state;
    destroyer d = { .status = TPOOL_INVALID };
    destroyed_before_a_piece_of_a_wait(&d, 1);
    assert_status(TPOOL_TIMEOUT, d.status);
    assert_null(d.lent);
}
static void it_is_freed_though_the_thread_that_waits_ends(void **state) {
    (void)state;
    destroyer d = { .status = TPOOL_INVALID, .ends_thread = true };
    destroyed_before_a_piece_of_a_wait(&d, 0);
    assert_status(TPOOL_INVALID, d.status); /* it has not returned */
}

static void in_a_child_of_fork_they_are_the_parents(void **state) {
    (void)state;
#if HAVE_FORK
    shop s = { 0 };
    tpool_resources *resources = open_shop(&s, 2);
    void *out = take_from(resources);
    pid_t child = fork();
    if (child == 0) {
        void *resource = &s;
        int wrong = 0;
        if (tpool_resources_get(resources, TPOOL_FOREVER, &resource) != TPOOL_BROKEN || resource) wrong |= 1;
        if (tpool_resources_put(resources, out) != TPOOL_BROKEN) wrong |= 2;
        if (tpool_resources_destroy(resources) != TPOOL_BROKEN || s.destroyed) wrong |= 4;
        _exit(wrong);
    }
    int ended = 0;
    assert_true(child > 0 && waitpid(child, &ended, 0) == child);
    assert_true(WIFEXITED(ended));
    assert_int_equal(0, WEXITSTATUS(ended));
    give(resources, out);
    close_shop(resources, &s);
#else
    skip();
#endif
}

static const struct CMUnitTest tests[] = {
    TEST(each_is_made_once_lent_once_and_destroyed_once),
    TEST(bad_arguments_are_refused),
    TEST(when_one_cannot_be_made_the_others_are_destroyed_again),
    TEST(what_is_not_out_is_not_taken_back),
    TEST(the_same_thing_may_be_there_more_than_once),
    TEST(no_resource_at_all_is_a_pool_too),
    TEST(some_out_means_not_destroyed),
    TEST(a_limit_passes_on_the_monotonic_clock),
    TEST(who_has_waited_longest_is_served_first),
    TEST(nobody_overtakes_those_who_wait),
    TEST(who_gives_up_leaves_the_line_to_the_others),
    TEST(none_is_lost_when_limits_pass_while_they_are_handed_over),
    TEST(a_task_that_waits_leaves_its_worker_to_others),
    TEST(four_serve_sixteen),
    TEST(a_destroyed_pool_wakes_nobody_and_is_there_until_they_have_given_up),
    TEST(a_pool_that_is_destroyed_before_a_wait_begins_is_there_until_it_ends),
    TEST(none_that_is_destroyed_is_lent),
    TEST(it_is_freed_though_the_thread_that_waits_ends),
    TEST(in_a_child_of_fork_they_are_the_parents),
};
RUN_TESTS(tests)
