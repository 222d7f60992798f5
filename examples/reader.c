/* reader: a task for each connection, which waits in read() and ends at once when it is asked to stop.
 *
 *     cc -std=c11 -O2 -pthread -I. examples/reader.c -o reader && ./reader
 *
 * A task in a wait of the library's learns of a stop there. One in a call of the system does not: it gives
 * tpool_on_stop a function that ends this call. For a socket that is shutdown(), after which read() gives 0.
 *
 * The task withdraws the function before it closes the socket: afterwards the number may be that of another file.
 */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int failures;

static void check(bool right, const char *what) {
    printf("  %s: %s\n", what, right ? "yes" : "NO");
    if (!right) failures++;
}

static void require(bool right, const char *what) {
    if (right) return;
    fprintf(stderr, "reader: %s\n", what);
    exit(EXIT_FAILURE);
}

static void hang_up(void *socket) { (void)shutdown(*(const int *)socket, SHUT_RD); }

/* Counts the lines that come in, until the peer hangs up or someone asks the task to stop. */
static void *count_lines(void *arg) {
    int socket = *(const int *)arg;
    long lines = 0;
    char bytes[512];
    ssize_t got;
    if (tpool_on_stop(hang_up, &socket) != TPOOL_OK) {
        (void)close(socket);
        return tpool_raise(ENOMEM, "no memory");
    }
    do {
        got = read(socket, bytes, sizeof bytes);
        for (ssize_t i = 0; i < got; i++) lines += bytes[i] == '\n';
    } while (got > 0 || (got < 0 && errno == EINTR));
    (void)tpool_on_stop(NULL, NULL); /* waits, should hang_up be running */
    (void)close(socket);
    return tpool_return(&lines, sizeof lines);
}

/* Gives the other end of the new connection. */
static int serve(tpool *pool, tpool_future **future) {
    int ends[2];
    require(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0, "no sockets");
    require(tpool_submit_copy(pool, count_lines, &ends[0], sizeof ends[0], future) == TPOOL_OK, "no task");
    return ends[1];
}

static void send_lines(int socket, const char *text) {
    require(write(socket, text, strlen(text)) == (ssize_t)strlen(text), "cannot write");
}

/* The task's count, once it has ended, or -1. */
static long lines_of(tpool_future *future) {
    void *lines;
    bool well = tpool_future_result(future, TPOOL_SEC(30), &lines) == TPOOL_OK;
    return well ? *(const long *)lines : -1;
}

int main(void) {
    tpool *pool;
    tpool_future *polite, *silent, *silent_too;
    require(tpool_create(&pool, &(tpool_config){ .max_workers = 3 }) == TPOOL_OK, "no pool");
    int to_polite = serve(pool, &polite), to_silent = serve(pool, &silent), to_silent_too = serve(pool, &silent_too);

    send_lines(to_polite, "one\ntwo\nthree\n");
    send_lines(to_silent, "one\n");
    (void)close(to_polite);
    check(lines_of(polite) == 3, "a peer that hangs up has sent three lines");
    check(tpool_future_result(silent, TPOOL_MS(20), NULL) == TPOOL_TIMEOUT,
          "one that does not holds its task in read()");

    tpool_future_request_stop(silent);
    check(lines_of(silent) >= 0, "asked to stop, the task ends");

    require(tpool_shutdown(pool, TPOOL_STOP_RUNNING | TPOOL_WAIT) == TPOOL_OK, "no shutdown");
    check(lines_of(silent_too) == 0, "and so does the last one, with the pool");

    (void)close(to_silent);
    (void)close(to_silent_too);
    tpool_future_release(polite);
    tpool_future_release(silent);
    tpool_future_release(silent_too);
    require(tpool_destroy(pool) == TPOOL_OK, "no end of the pool");
    return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
