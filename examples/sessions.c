/* sessions: a server's messages, handled in order within each connection and side by side between connections, without a
 * lock and without a thread a connection: each has a serial group.
 *
 *     cc -std=c11 -O2 -pthread -I. examples/sessions.c -o sessions && ./sessions
 *
 * One thread reads all the connections (here it makes their messages up) and hands each message on as a task of its
 * connection's group, whose limit is 1: the next message starts when the one before it is done, on whichever worker is
 * free. So the session's state needs no lock. All these groups lie beneath one, which bounds how many messages are in
 * the house at once: the reader then waits, as a server should. A client that hangs up takes what it has sent with it:
 * its group is cancelled. At the end one call waits for everything.
 */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { SESSIONS = 100, MESSAGES = 200, MOST_IN_HOUSE = 500, HANGS_UP = 7, LAST_OF_IT = 50 };

/* Only its messages touch it, one after another. */
typedef struct session {
    tpool_group *group;
    int next;         /* the number of the message that comes next */
    bool confused;    /* one came out of turn */
    uint64_t balance; /* what the messages make of it depends on their order */
} session;

typedef struct message {
    session *to;
    int number;
    uint64_t amount;
} message;

static void require(tpool_status status, const char *what) {
    if (status == TPOOL_OK) return;
    fprintf(stderr, "sessions: %s: %s\n", what, tpool_status_text(status));
    exit(EXIT_FAILURE);
}
static uint64_t apply(uint64_t balance, uint64_t amount) { return balance * 31 + amount; }

static void *handle(void *arg) {
    const message *m = (const message *)arg;
    session *s = m->to;
    if (m->number != s->next) s->confused = true;
    s->next = m->number + 1;
    s->balance = apply(s->balance, m->amount);
    return NULL;
}

/* False: the client has hung up. */
static bool receive(tpool *pool, session *s, int number) {
    message m = { s, number, (uint64_t)number * 17 };
    tpool_task task = { .fn = handle, .arg = &m, .arg_size = sizeof m, .name = "message", .group = s->group };
    tpool_status status = tpool_submit_task(pool, &task, NULL);
    if (status == TPOOL_CANCELLED) return false;
    require(status, "submit");
    return true;
}

int main(void) {
    static session sessions[SESSIONS];
    tpool_config config = { .name = "server", .max_workers = 4 };
    tpool_group_config in_house = { .capacity = MOST_IN_HOUSE, .on_failure = TPOOL_GROUP_KEEP_GOING };
    tpool_group *house;
    tpool *pool;
    int wrong = 0, lost = 0;
    uint64_t expected = 0;

    require(tpool_create(&pool, &config), "create");
    require(tpool_group_create(&house, &in_house), "a group");
    tpool_group_config in_turn = { .limit = 1, .parent = house };
    for (int i = 0; i < SESSIONS; i++) require(tpool_group_create(&sessions[i].group, &in_turn), "a session's group");

    for (int number = 0; number < MESSAGES; number++) {
        for (int i = 0; i < SESSIONS; i++) lost += !receive(pool, &sessions[i], number);
        expected = apply(expected, (uint64_t)number * 17);
        if (number == LAST_OF_IT) require(tpool_group_cancel(sessions[HANGS_UP].group), "a client hangs up");
    }
    /* A handle may be given up while messages wait: the house keeps them. */
    for (int i = 0; i < SESSIONS; i++) require(tpool_group_release(sessions[i].group), "release");
    tpool_status end = tpool_group_destroy(house);
    require(tpool_destroy(pool), "destroy");

    for (int i = 0; i < SESSIONS; i++) {
        const session *s = &sessions[i];
        wrong += s->confused || (i == HANGS_UP ? s->next > LAST_OF_IT + 1 : s->next != MESSAGES);
        wrong += i != HANGS_UP && s->balance != expected;
    }
    printf("%d sessions of %d messages, each in order; balance %" PRIu64 "\n", SESSIONS, MESSAGES, sessions[0].balance);
    printf("the client that hung up: %d handled, %d not taken any more\n", sessions[HANGS_UP].next, lost);
    bool ended = end == TPOOL_OK || end == TPOOL_CANCELLED; /* whether the one that left had messages waiting */
    return ended && wrong == 0 && lost == MESSAGES - 1 - LAST_OF_IT ? EXIT_SUCCESS : EXIT_FAILURE;
}
