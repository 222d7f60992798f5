/* external: futures completed from outside, by an event loop.
 *
 *     cc -std=c11 -O2 -pthread -I. examples/external.c -o external && ./external
 *
 * A service at the other end of two pipes computes square roots, and answers in an order of its own. Tasks of a
 * pool ask it for several at once and wait for the answers as for any other futures. No thread is spent on an
 * open question: one event loop (poll) sends them all and completes each future when its answer arrives.
 *
 * The life of such a future:
 *  - tpool_future_create: pending. The thread that asked may cancel it, and then it is done.
 *  - tpool_future_set_running, just before the question is sent: from now on it cannot be cancelled. If it has
 *    been already, this says TPOOL_CANCELLED, and nothing is sent.
 *  - tpool_future_set_result or tpool_future_set_error: done, exactly once.
 * It has two references: that of the asker, who may give up and release it at any time, and that of the loop.
 */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { CLIENTS = 6, ROOTS_EACH = 4, OPEN_AT_MOST = 64 };
enum { UNANSWERABLE = 13, HANG_UP = INT32_MAX }; /* the service never answers the one, and ends at the other */

static void require(bool succeeded, const char *what) {
    if (succeeded) return;
    fprintf(stderr, "external: failed: %s\n", what);
    exit(EXIT_FAILURE);
}

/* What goes through a pipe here is so short that it is written, and read, in one piece, whoever else writes. */
static void send_piece(int pipe, const void *bytes, size_t size) {
    ssize_t written;
    do written = write(pipe, bytes, size);
    while (written < 0 && errno == EINTR);
    require(written == (ssize_t)size, "writing to a pipe");
}

static size_t receive_pieces(int pipe, void *bytes, size_t most) {
    ssize_t size;
    do size = read(pipe, bytes, most);
    while (size < 0 && errno == EINTR);
    require(size >= 0, "reading from a pipe");
    return (size_t)size;
}

/* -------------------------------------------------------------------------------------------------------------
 *  The service: some program at the other end of the pipes
 * ---------------------------------------------------------------------------------------------------------- */

typedef struct message {
    int32_t id;
    int32_t number; /* the question, or the answer; an answer below 0 is minus an error code */
} message;

typedef struct service_pipes {
    int questions, answers; /* pipes, to read and to write */
} service_pipes;

static int32_t integer_root(int32_t number) {
    int32_t root = 0;
    if (number < 0) return -EDOM;
    while ((int64_t)(root + 1) * (root + 1) <= number) root++;
    return root;
}

/* Takes what questions there are and answers the last first. */
static void *run_service(void *arg) {
    const service_pipes *service = (const service_pipes *)arg;
    message messages[16];
    size_t count;
    while ((count = receive_pieces(service->questions, messages, sizeof messages) / sizeof *messages) > 0) {
        while (count-- > 0) {
            if (messages[count].number == HANG_UP) return NULL;
            if (messages[count].number == UNANSWERABLE) continue;
            messages[count].number = integer_root(messages[count].number);
            send_piece(service->answers, &messages[count], sizeof *messages);
        }
    }
    return NULL;
}

/* -------------------------------------------------------------------------------------------------------------
 *  The event loop
 * ---------------------------------------------------------------------------------------------------------- */

typedef struct event_loop {
    int asked_in, asked_out;          /* a pipe of `asked`: it is the queue of questions, and it wakes the loop */
    int questions, answers;           /* the pipes to and from the service */
    tpool_future *open[OPEN_AT_MOST]; /* sent and not yet answered; the index is the message's id */
    int sent, answered, cancelled, abandoned;
} event_loop;

typedef struct asked_root {
    tpool_future *future; /* the loop's reference; NULL: a client is done */
    intptr_t number;
} asked_root;

/* Asks for the root of a number, from any thread. The caller owns a reference to *future, as after a submit. */
static tpool_status ask(event_loop *loop, int32_t number, tpool_future **future) {
    tpool_status status = tpool_future_create(future);
    if (status != TPOOL_OK) return status;
    asked_root asked = { tpool_future_retain(*future), number };
    send_piece(loop->asked_in, &asked, sizeof asked);
    return TPOOL_OK;
}

static void send_question(event_loop *loop, asked_root asked) {
    int32_t id = 0;
    while (id < OPEN_AT_MOST && loop->open[id] != NULL) id++;
    switch (tpool_future_set_running(asked.future)) {
    case TPOOL_OK:
        if (id == OPEN_AT_MOST) {
            (void)tpool_future_set_error(asked.future, EBUSY, "too many open questions");
            tpool_future_release(asked.future);
            break;
        }
        loop->open[id] = asked.future;
        loop->sent++;
        send_piece(loop->questions, &(message){ id, (int32_t)asked.number }, sizeof(message));
        break;
    case TPOOL_CANCELLED: /* its waiters know already */
        loop->cancelled++;
        tpool_future_release(asked.future);
        break;
    default: require(false, "starting a future"); /* somebody else has started or completed it: a mistake */
    }
}

static void take_answer(event_loop *loop, message answer) {
    if (answer.id < 0 || answer.id >= OPEN_AT_MOST || loop->open[answer.id] == NULL) return;
    tpool_future *future = loop->open[answer.id];
    tpool_status status;
    loop->open[answer.id] = NULL;
    /* The number travels in the pointer. A larger result would be memory that asker and loop agree upon. */
    if (answer.number >= 0) status = tpool_future_set_result(future, (void *)(intptr_t)answer.number);
    else status = tpool_future_set_error(future, -answer.number, "the service says error %d", -answer.number);
    require(status == TPOOL_OK, "completing a future");
    tpool_future_release(future);
    loop->answered++;
}

/* Runs until all clients are done. */
static void run_loop(event_loop *loop, int clients) {
    while (clients > 0) {
        struct pollfd ready[] = { { loop->asked_out, POLLIN, 0 }, { loop->answers, POLLIN, 0 } };
        int count = poll(ready, 2, -1);
        require(count > 0 || errno == EINTR, "poll");
        if (count < 0) continue;
        if (ready[0].revents != 0) {
            asked_root asked;
            require(receive_pieces(loop->asked_out, &asked, sizeof asked) == sizeof asked, "reading a question");
            if (asked.future == NULL) clients--;
            else send_question(loop, asked);
        }
        if (ready[1].revents != 0) {
            message answer;
            require(receive_pieces(loop->answers, &answer, sizeof answer) == sizeof answer, "reading an answer");
            take_answer(loop, answer);
        }
    }
    send_piece(loop->questions, &(message){ 0, HANG_UP }, sizeof(message));
    for (int id = 0; id < OPEN_AT_MOST; id++) {
        if (loop->open[id] == NULL) continue;
        (void)tpool_future_set_error(loop->open[id], ETIMEDOUT, "the service never answered");
        tpool_future_release(loop->open[id]);
        loop->abandoned++;
    }
}

/* -------------------------------------------------------------------------------------------------------------
 *  The clients: tasks that ask and wait
 * ---------------------------------------------------------------------------------------------------------- */

typedef struct client_input {
    event_loop *loop;
    int32_t number;
} client_input;

/* Asks for several roots at once and gives their sum. */
static void *sum_roots(void *arg) {
    const client_input *client = (const client_input *)arg;
    tpool_future *roots[ROOTS_EACH];
    size_t count = 0;
    tpool_status status = TPOOL_OK;
    intptr_t sum = 0;
    while (count < ROOTS_EACH && status == TPOOL_OK) {
        status = ask(client->loop, client->number + 100 * (int32_t)count, &roots[count]);
        if (status == TPOOL_OK) count++;
    }
    if (status == TPOOL_OK) status = tpool_wait(roots, count, TPOOL_ALL_COMPLETED, TPOOL_SEC(30), NULL);
    for (size_t i = 0; i < count; i++) {
        void *root;
        if (status == TPOOL_OK) status = tpool_future_result(roots[i], 0, &root);
        if (status == TPOOL_OK) sum += (intptr_t)root;
        tpool_future_release(roots[i]);
    }
    if (status != TPOOL_OK) return tpool_raise((int)status, "asking for roots: %s", tpool_status_text(status));
    return tpool_return(&sum, sizeof sum);
}

/* Asks for one root and passes the service's error on. */
static void *root_or_error(void *arg) {
    const client_input *client = (const client_input *)arg;
    tpool_future *root;
    const tpool_error *error = NULL;
    tpool_status status = ask(client->loop, client->number, &root);
    if (status != TPOOL_OK) return tpool_raise((int)status, "asking: %s", tpool_status_text(status));
    status = tpool_future_error(root, TPOOL_FOREVER, &error);
    if (status != TPOOL_OK) tpool_raise((int)status, "waiting: %s", tpool_status_text(status));
    else if (error != NULL) tpool_raise(error->code, "%s", error->message);
    tpool_future_release(root);
    return NULL;
}

/* Asks what the service will not answer, and gives up. The question is on its way then and cannot be cancelled;
 * the loop still has its reference, and completes the future for nobody. */
static void *give_up(void *arg) {
    const client_input *client = (const client_input *)arg;
    tpool_future *root;
    tpool_status status = ask(client->loop, UNANSWERABLE, &root);
    if (status != TPOOL_OK) return tpool_raise((int)status, "asking: %s", tpool_status_text(status));
    while (tpool_future_state(root) == TPOOL_PENDING) (void)tpool_future_result(root, TPOOL_MS(1), NULL);
    status = tpool_future_result(root, TPOOL_MS(20), NULL);
    if (status == TPOOL_TIMEOUT && tpool_future_cancel(root)) status = TPOOL_CANCELLED;
    tpool_future_release(root);
    return tpool_raise((int)status, "gave up: %s", tpool_status_text(status));
}

static void client_done(tpool_future *future, void *context) {
    (void)future;
    send_piece(((event_loop *)context)->asked_in, &(asked_root){ NULL, 0 }, sizeof(asked_root));
}

int main(void) {
    int asked_pipe[2], question_pipe[2], answer_pipe[2];
    require(pipe(asked_pipe) == 0 && pipe(question_pipe) == 0 && pipe(answer_pipe) == 0, "pipe");
    service_pipes service = { question_pipe[0], answer_pipe[1] };
    static event_loop loop;
    loop.asked_out = asked_pipe[0], loop.asked_in = asked_pipe[1];
    loop.questions = question_pipe[1], loop.answers = answer_pipe[0];

    tpool *service_pool, *client_pool;
    tpool_config service_config = { .name = "service", .max_workers = 1 };
    tpool_config client_config = { .name = "client", .max_workers = 2, .max_spares = CLIENTS + 2 };
    require(tpool_create(&service_pool, &service_config) == TPOOL_OK, "creating a pool");
    require(tpool_create(&client_pool, &client_config) == TPOOL_OK, "creating a pool");
    require(tpool_submit(service_pool, run_service, &service, NULL) == TPOOL_OK, "submitting the service");

    /* A question thought better of before the loop has seen it. */
    tpool_future *regretted;
    require(ask(&loop, 4, &regretted) == TPOOL_OK, "asking");
    bool right = tpool_future_cancel(regretted) && tpool_future_result(regretted, 0, NULL) == TPOOL_CANCELLED;

    /* All clients can wait at the same time, although the pool has two workers: as many spare ones stand in. */
    tpool_future *clients[CLIENTS + 2];
    for (int i = 0; i < CLIENTS + 2; i++) {
        client_input client = { &loop, i < CLIENTS ? 1000 * i : -1 };
        tpool_fn fn = i < CLIENTS ? sum_roots : i == CLIENTS ? root_or_error : give_up;
        tpool_status status = tpool_submit_copy(client_pool, fn, &client, sizeof client, &clients[i]);
        require(status == TPOOL_OK, "submitting a client");
        require(tpool_future_add_done_callback(clients[i], client_done, &loop) == TPOOL_OK, "a callback");
    }
    run_loop(&loop, CLIENTS + 2);

    for (int i = 0; i < CLIENTS; i++) {
        void *result;
        intptr_t expected = 0;
        for (int k = 0; k < ROOTS_EACH; k++) expected += integer_root(1000 * i + 100 * k);
        tpool_status status = tpool_future_result(clients[i], 0, &result);
        if (status == TPOOL_OK) printf("client %d: sum of roots %ld\n", i, (long)*(intptr_t *)result);
        else printf("client %d: %s\n", i, tpool_future_message(clients[i]));
        right &= status == TPOOL_OK && *(intptr_t *)result == expected;
    }
    const tpool_error *refused = NULL, *gave_up = NULL;
    right &= tpool_future_error(clients[CLIENTS], 0, &refused) == TPOOL_OK;
    right &= tpool_future_error(clients[CLIENTS + 1], 0, &gave_up) == TPOOL_OK;
    right &= refused != NULL && refused->code == EDOM && gave_up != NULL && gave_up->code == TPOOL_TIMEOUT;
    printf("root of -1: %s\nroot of %d: %s\n", tpool_future_message(clients[CLIENTS]), UNANSWERABLE,
           tpool_future_message(clients[CLIENTS + 1]));
    printf("%d questions sent, %d answered, %d cancelled, %d abandoned\n", loop.sent, loop.answered, loop.cancelled,
           loop.abandoned);
    right &= loop.sent == CLIENTS * ROOTS_EACH + 2 && loop.answered == loop.sent - 1;
    right &= loop.cancelled == 1 && loop.abandoned == 1;

    for (int i = 0; i < CLIENTS + 2; i++) tpool_future_release(clients[i]);
    tpool_future_release(regretted);
    require(tpool_destroy(client_pool) == TPOOL_OK, "destroying a pool");
    require(tpool_destroy(service_pool) == TPOOL_OK, "destroying a pool");
    for (int i = 0; i < 2; i++) close(asked_pipe[i]), close(question_pipe[i]), close(answer_pipe[i]);
    if (!right) puts("WRONG");
    return right ? EXIT_SUCCESS : EXIT_FAILURE;
}
