/* A web service whose requests run on a managed pool, with time limits and load shedding.
 *
 *     cc -std=c11 -pthread -I. examples/web.c -lmicrohttpd -o web && ./web [PORT [WAIT_MS [RUN_MS]]]
 *     curl http://127.0.0.1:PORT/primes?below=100000
 *
 * HTTP is libmicrohttpd's business, in one thread that never computes: it suspends the connection, submits the request,
 * and goes on to the next; the task's done callback resumes the connection. Three limits keep the service alive under
 * any load:
 *  - at most MOST_AT_ONCE requests are in the house; the others get 503 at once, which costs next to nothing;
 *  - a request that has not started after most_wait is not worth starting: expires_ns, and 503;
 *  - one that runs longer than most_run is asked to stop, which it does: run_limit_ns, and 504.
 *
 * /primes?below=N counts primes, /slow?ms=N takes its time, /stats tells what the pool does. SIGTERM ends it: no new
 * connections, what runs is answered, then the pool and the server end. */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
#include <arpa/inet.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WORKERS = 4, MOST_AT_ONCE = 16 };

static int64_t most_wait = TPOOL_MS(400), most_run = TPOOL_MS(300);
static tpool *pool;
static atomic_int at_once; /* requests between their submit and their answer */
static atomic_ulong answered, shed;

typedef struct request {
    struct MHD_Connection *connection;
    tpool_future *future; /* set by the callback, on which the server's thread goes on */
    bool submitted;
} request;

/* What a task gets: by value, so that it needs nothing of the connection. */
typedef struct question {
    enum { PRIMES, SLOW } kind;
    long n;
} question;

/* --- the work, on the pool */

static void *answer(void *arg) {
    const question *q = arg;
    char text[64];
    long found = 0;
    if (q->n < 0) return tpool_raise(400, "the number is negative");
    if (q->kind == SLOW) {
        struct timespec moment = { 0, 1000000 };
        for (int64_t end = tpool_now() + TPOOL_MS(q->n); tpool_now() < end; nanosleep(&moment, NULL))
            if (tpool_stop_requested()) return tpool_raise(504, "stopped");
        return tpool_return("done\n", 5);
    }
    for (long i = 2; i < q->n; i++) {
        long d = 2;
        while (d * d <= i && i % d) d++;
        found += d * d > i;
        if (i % 64 == 0 && tpool_stop_requested()) return tpool_raise(504, "stopped at %ld", i);
    }
    int length = snprintf(text, sizeof text, "%ld primes below %ld\n", found, q->n);
    return tpool_return(text, (size_t)length);
}

/* In the thread that ended the task, whatever became of it. */
static void resume(tpool_future *future, void *context) {
    request *r = context;
    r->future = tpool_future_retain(future);
    atomic_fetch_sub(&at_once, 1);
    MHD_resume_connection(r->connection);
}

/* --- the protocol, in the server's thread */

static enum MHD_Result reply(struct MHD_Connection *connection, unsigned code, const void *bytes, size_t size) {
    struct MHD_Response *response =
        MHD_create_response_from_buffer(size, (void *)(uintptr_t)bytes, MHD_RESPMEM_MUST_COPY);
    if (!response) return MHD_NO;
    MHD_add_response_header(response, "Content-Type", "text/plain");
    if (code == 503) MHD_add_response_header(response, "Retry-After", "1");
    enum MHD_Result queued = MHD_queue_response(connection, code, response);
    MHD_destroy_response(response);
    atomic_fetch_add(code == 503 ? &shed : &answered, 1);
    return queued;
}
static enum MHD_Result reply_text(struct MHD_Connection *connection, unsigned code, const char *text) {
    return reply(connection, code, text, strlen(text));
}

static enum MHD_Result reply_stats(struct MHD_Connection *connection) {
    char text[200];
    tpool_stats s;
    if (tpool_get_stats(pool, &s) != TPOOL_OK) return reply_text(connection, 500, "no statistics\n");
    snprintf(text, sizeof text,
             "{\"answered\": %lu, \"shed\": %lu, \"in_house\": %d, \"queued\": %zu, \"completed\": %llu, "
             "\"failed\": %llu, \"expired\": %llu}\n",
             atomic_load(&answered), atomic_load(&shed), atomic_load(&at_once), s.queued,
             (unsigned long long)s.completed, (unsigned long long)s.failed, (unsigned long long)s.expired);
    return reply_text(connection, 200, text);
}

static enum MHD_Result reply_result(request *r) {
    const tpool_error *error = NULL;
    void *bytes = NULL;
    switch (tpool_future_result(r->future, 0, &bytes)) {
    case TPOOL_OK: return reply(r->connection, 200, bytes, tpool_future_result_size(r->future));
    case TPOOL_EXPIRED: return reply_text(r->connection, 503, "too busy: nobody came to it in time\n");
    case TPOOL_FAILED:
        if (tpool_future_error(r->future, 0, &error) != TPOOL_OK || !error) break;
        return reply_text(r->connection, error->code == 400 || error->code == 504 ? (unsigned)error->code : 500,
                          error->message);
    case TPOOL_CANCELLED: return reply_text(r->connection, 503, "the service ends\n");
    default: break;
    }
    return reply_text(r->connection, 500, "internal error\n");
}

static bool question_of(struct MHD_Connection *connection, const char *url, question *q) {
    const char *name = strcmp(url, "/primes") == 0 ? "below" : strcmp(url, "/slow") == 0 ? "ms" : NULL;
    if (!name) return false;
    const char *number = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, name);
    q->kind = name[0] == 'b' ? PRIMES : SLOW;
    q->n = number ? strtol(number, NULL, 10) : 0;
    return true;
}

static enum MHD_Result submit(request *r, const question *q) {
    tpool_task task = { .fn = answer,
                        .arg = (void *)(uintptr_t)q,
                        .arg_size = sizeof *q,
                        .name = "request",
                        .expires_ns = most_wait,
                        .run_limit_ns = most_run };
    tpool_future *future;
    if (atomic_fetch_add(&at_once, 1) >= MOST_AT_ONCE) {
        atomic_fetch_sub(&at_once, 1);
        return reply_text(r->connection, 503, "too busy\n");
    }
    MHD_suspend_connection(r->connection); /* before anyone can resume it */
    r->submitted = true;
    tpool_status status = tpool_submit_task(pool, &task, &future);
    if (status == TPOOL_OK) {
        status = tpool_future_add_done_callback(future, resume, r);
        if (status != TPOOL_OK) { /* out of memory: wait for it here */
            (void)tpool_future_result(future, TPOOL_FOREVER, NULL);
            resume(future, r);
        }
        tpool_future_release(future);
        return MHD_YES;
    }
    atomic_fetch_sub(&at_once, 1);
    MHD_resume_connection(r->connection); /* comes back here without a future */
    return MHD_YES;
}

static enum MHD_Result handle(void *context, struct MHD_Connection *connection, const char *url, const char *method,
                              const char *version, const char *upload, size_t *upload_size, void **per_request) {
    request *r = *per_request;
    question q;
    (void)context, (void)version, (void)upload;
    if (!r) { /* the headers are there: answer when the whole request is */
        r = calloc(1, sizeof *r);
        if (!r) return MHD_NO;
        r->connection = connection;
        *per_request = r;
        return MHD_YES;
    }
    if (*upload_size) { /* nobody wants it */
        *upload_size = 0;
        return MHD_YES;
    }
    if (r->future) return reply_result(r);
    if (r->submitted) return reply_text(connection, 503, "the service ends\n");
    if (strcmp(method, "GET") != 0) return reply_text(connection, 405, "only GET\n");
    if (strcmp(url, "/stats") == 0) return reply_stats(connection);
    if (!question_of(connection, url, &q)) return reply_text(connection, 404, "no such page\n");
    return submit(r, &q);
}
static void completed(void *context, struct MHD_Connection *connection, void **per_request,
                      enum MHD_RequestTerminationCode how) {
    request *r = *per_request;
    (void)context, (void)connection, (void)how;
    if (!r) return;
    tpool_future_release(r->future);
    free(r);
}

int main(int argc, char **argv) {
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)(argc > 1 ? atoi(argv[1]) : 0)) };
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sigset_t ends;
    int number;
    if (argc > 2) most_wait = TPOOL_MS(atoi(argv[2]));
    if (argc > 3) most_run = TPOOL_MS(atoi(argv[3]));
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    pthread_sigmask(SIG_BLOCK, &ends, NULL); /* all threads; main waits for them */

    if (tpool_manager_get(NULL, WORKERS, TPOOL_THREADS, 0, &pool) != TPOOL_OK) return 1;
    struct MHD_Daemon *server = MHD_start_daemon(MHD_USE_AUTO_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL,
                                                 handle, NULL, MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&address,
                                                 MHD_OPTION_NOTIFY_COMPLETED, completed, NULL, MHD_OPTION_END);
    if (!server) return 1;
    const union MHD_DaemonInfo *bound = MHD_get_daemon_info(server, MHD_DAEMON_INFO_BIND_PORT);
    printf("http://127.0.0.1:%d\n", bound ? bound->port : -1);
    fflush(stdout);

    sigwait(&ends, &number);
    MHD_socket door = MHD_quiesce_daemon(server); /* no new connections */
    tpool_manager_global_shutdown();              /* what is in the house is worked off, with its callbacks */
    MHD_stop_daemon(server);                      /* and answered */
    if (door != MHD_INVALID_SOCKET) close(door);
    tpool_manager_release(NULL, pool);
    printf("answered %lu, shed %lu\n", atomic_load(&answered), atomic_load(&shed));
    return atomic_load(&at_once) == 0 ? 0 : 1;
}
