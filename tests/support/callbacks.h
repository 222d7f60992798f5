/* Callbacks that are counted and told of. */
#ifndef TPOOL_TESTS_CALLBACKS_H
#define TPOOL_TESTS_CALLBACKS_H
#include "../support.h"

static inline void *tell_thread(void *arg) {
    *(pthread_t *)arg = pthread_self();
    return arg;
}

enum { JOURNAL_SIZE = 1100 };
typedef struct journal {
    pthread_mutex_t lock;
    int count;
    int ids[JOURNAL_SIZE];
    pthread_t threads[JOURNAL_SIZE];
    tpool_future *futures[JOURNAL_SIZE];
} journal;
#define JOURNAL_EMPTY \
    { .lock = PTHREAD_MUTEX_INITIALIZER }

static inline void journal_write(journal *j, int id, tpool_future *future) {
    pthread_mutex_lock(&j->lock);
    if (j->count < JOURNAL_SIZE) {
        j->ids[j->count] = id;
        j->threads[j->count] = pthread_self();
        j->futures[j->count] = future;
        j->count++;
    }
    pthread_mutex_unlock(&j->lock);
}
static inline int journal_count(journal *j) {
    pthread_mutex_lock(&j->lock);
    int count = j->count;
    pthread_mutex_unlock(&j->lock);
    return count;
}

typedef struct line {
    journal *journal;
    int id;
} line;
static inline void write_line(tpool_future *future, void *context) {
    line *l = context;
    journal_write(l->journal, l->id, future);
}
static inline void add_lines(tpool_future *future, line *lines, int from, int to) {
    for (int i = from; i < to; i++) {
        assert_status(TPOOL_OK, tpool_future_add_done_callback(future, write_line, &lines[i]));
    }
}
static inline void lines_init(line *lines, int count, journal *j) {
    for (int i = 0; i < count; i++) lines[i] = (line){ j, i };
}
/* Lines from..to-1 are there in order, about this future, written by this thread. */
static inline void check_lines(journal *j, int from, int to, tpool_future *future, pthread_t thread) {
    for (int i = from; i < to; i++) {
        assert_int_equal(i, j->ids[i]);
        assert_ptr_equal(future, j->futures[i]);
        assert_true(pthread_equal(thread, j->threads[i]));
    }
}
#endif
