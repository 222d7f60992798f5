/* web: a web service on an epoll loop of its own, with its work on a pool, limits, metrics and an orderly end.
 *
 *     cc -std=c11 -pthread -I. examples/web.c -o web && ./web [PORT [WAIT_MS [RUN_MS]]]
 *     curl http://127.0.0.1:PORT/primes?below=100000
 *
 * One thread has all the connections. It never computes, and waits for nothing but its epoll: each request becomes a
 * task, and the tasks' ends come in by an iterator whose descriptor the epoll watches like any socket. So nothing here
 * needs a lock. A client may send requests without waiting for their answers: they run side by side, and are answered
 * in the order in which they came. Limits keep the service alive under load:
 *  - at most MOST_AT_ONCE requests are in the house; the others get 503 at once, which costs next to nothing;
 *  - a request that has not started after most_wait is not worth starting: expires_ns, and 503;
 *  - one that runs longer than most_run is asked to stop, which it does: run_limit_ns, and 504;
 *  - where MOST_CONNECTIONS are open, or no descriptor is left, the next ones wait until one closes; one whose client
 *    neither sends nor reads for most_idle is closed.
 * If a client goes, what it has asked for is cancelled, or asked to stop. A client that closes just its own direction
 * (as nc -N does) counts as gone.
 *
 * /primes?below=N counts primes, /slow?ms=N takes its time, /metrics tells Prometheus what the pool does. SIGTERM ends
 * it: no new connections, what is in the house is answered, then all ends; a client that does not read its answers
 * delays that by most_read. */
#define _GNU_SOURCE /* accept4 */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { WORKERS = 4, MOST_AT_ONCE = 16, MOST_OF_ONE = 8, MOST_INPUT = 4096, MOST_OUTPUT = 65536 };
enum { MOST_CONNECTIONS = 500 };

typedef struct request {
    struct connection *of; /* NULL: the client has gone */
    struct request *next;  /* the next one of this connection */
    tpool_future *future;  /* its task; NULL: none, or it has ended */
    int code;              /* the answer; 0: not there yet */
    const char *type;      /* of its text; NULL: plain */
    bool last;             /* the connection is closed after it */
    char *text;
} request;

typedef struct connection {
    int socket;
    bool ends;            /* no more is read */
    int64_t active_at;    /* when something last came, was sent, or was done for it */
    request *first;       /* requests that are not answered, the oldest first */
    int waiting;          /* how many */
    size_t in_used;       /* bytes that have come and are no request yet */
    size_t out_used, out; /* bytes to send, and how many of them are sent */
    char *output, input[MOST_INPUT + 1];
    struct connection *next, **link; /* all of them */
} connection;

static int64_t most_wait = TPOOL_MS(400), most_run = TPOOL_MS(300), most_idle = TPOOL_SEC(30), most_read = TPOOL_SEC(1);
static tpool *pool;
static tpool_completions *ends; /* of all the tasks */
static int loop, door = -1, at_once, open_connections;
static connection *connections;
static unsigned long long answers[600]; /* by code */
static volatile sig_atomic_t asked_to_end;

static void on_signal(int number) {
    (void)number;
    asked_to_end = 1;
}
static void *must(void *memory) {
    if (!memory) abort();
    return memory;
}

/* --- the work, on the pool: a task gets a copy of its question, and needs nothing else */

typedef struct question {
    enum { PRIMES, SLOW } kind;
    long n;
} question;

static void *answer(void *arg) {
    const question *q = arg;
    char text[64];
    long found = 0;
    if (q->n < 0) return tpool_raise(400, "the number is negative\n");
    if (q->kind == SLOW) {
        struct timespec moment = { 0, 1000000 };
        for (int64_t end = tpool_now() + TPOOL_MS(q->n); tpool_now() < end; nanosleep(&moment, NULL))
            if (tpool_stop_requested()) return tpool_raise(504, "stopped\n");
        return tpool_return("done\n", 6);
    }
    for (long i = 2; i < q->n; i++) {
        long d = 2;
        while (d * d <= i && i % d) d++;
        found += d * d > i;
        if (i % 64 == 0 && tpool_stop_requested()) return tpool_raise(504, "stopped at %ld\n", i);
    }
    int length = snprintf(text, sizeof text, "%ld primes below %ld\n", found, q->n);
    return tpool_return(text, (size_t)length + 1);
}

/* --- what Prometheus reads: its own format, or OpenMetrics for those who ask for that */

typedef struct metrics {
    FILE *to;
    bool open;
} metrics;
static void metric(metrics *m, const char *name, const char *type, const char *help) {
    const char *total = strcmp(type, "counter") == 0 && !m->open ? "_total" : "";
    fprintf(m->to, "# HELP %s%s %s\n# TYPE %s%s %s\n", name, total, help, name, total, type);
}
static void counter(metrics *m, const char *name, const char *help, unsigned long long value) {
    metric(m, name, "counter", help);
    fprintf(m->to, "%s_total %llu\n", name, value);
}
static void gauge(metrics *m, const char *name, const char *help, double value) {
    metric(m, name, "gauge", help);
    fprintf(m->to, "%s %g\n", name, value);
}
static void quantiles(metrics *m, const char *name, const char *help, int64_t p50_ns, int64_t p99_ns) {
    metric(m, name, "summary", help);
    fprintf(m->to, "%s{quantile=\"0.5\"} %.9f\n%s{quantile=\"0.99\"} %.9f\n", name, (double)p50_ns / 1e9, name,
            (double)p99_ns / 1e9);
}
static char *metrics_text(bool open) {
    char *text = NULL;
    size_t size;
    tpool_stats s;
    metrics m = { must(open_memstream(&text, &size)), open };
    if (tpool_get_stats(pool, &s) != TPOOL_OK) abort();
    gauge(&m, "tpool_workers", "Workers that there are.", s.workers);
    gauge(&m, "tpool_workers_active", "Workers that run a task.", s.active);
    gauge(&m, "tpool_tasks_queued", "Tasks that wait for a worker.", (double)s.queued);
    counter(&m, "tpool_tasks_submitted", "Tasks that the pool has taken.", s.submitted);
    metric(&m, "tpool_tasks_ended", "counter", "Tasks that have ended, by how.");
    fprintf(m.to, "tpool_tasks_ended_total{how=\"completed\"} %llu\n", (unsigned long long)s.completed);
    fprintf(m.to, "tpool_tasks_ended_total{how=\"failed\"} %llu\n", (unsigned long long)s.failed);
    fprintf(m.to, "tpool_tasks_ended_total{how=\"cancelled\"} %llu\n", (unsigned long long)s.cancelled);
    fprintf(m.to, "tpool_tasks_ended_total{how=\"expired\"} %llu\n", (unsigned long long)s.expired);
    metric(&m, "tpool_busy_seconds", "counter", "Time that the workers have spent in tasks.");
    fprintf(m.to, "tpool_busy_seconds_total %.9f\n", (double)s.busy_ns / 1e9);
    quantiles(&m, "tpool_wait_seconds", "From a task's submit to its start.", s.wait_p50_ns, s.wait_p99_ns);
    quantiles(&m, "tpool_run_seconds", "From a task's start to its end.", s.run_p50_ns, s.run_p99_ns);
    gauge(&m, "web_requests_in_house", "Requests whose task has not ended.", at_once);
    metric(&m, "web_answers", "counter", "Answers, by code.");
    for (int code = 200; code < 600; code++)
        if (answers[code]) fprintf(m.to, "web_answers_total{code=\"%d\"} %llu\n", code, answers[code]);
    if (open) fputs("# EOF\n", m.to);
    if (fclose(m.to) != 0) abort();
    return text;
}

/* --- connections */

static bool may_ask(const connection *c) { return !c->ends && c->waiting < MOST_OF_ONE && c->out_used < MOST_OUTPUT; }
/* What epoll is to wait for. Input that may not be taken yet is left where it is: so the client learns to wait. */
static bool watch(connection *c, int how) {
    struct epoll_event event = { .events = EPOLLRDHUP, .data.ptr = c };
    if (may_ask(c) && c->in_used < MOST_INPUT) event.events |= EPOLLIN;
    if (c->out_used > c->out) event.events |= EPOLLOUT;
    return epoll_ctl(loop, how, c->socket, &event) == 0;
}
/* While it is not watched, those who knock wait. */
static void watch_door(bool watched) {
    struct epoll_event event = { .events = watched ? EPOLLIN : 0, .data.ptr = &door };
    if (door >= 0 && epoll_ctl(loop, EPOLL_CTL_MOD, door, &event) != 0) abort();
}
/* What still runs for this client need not go on. */
static void hang_up(connection *c) {
    while (c->first) {
        request *r = c->first;
        c->first = r->next;
        r->of = NULL;
        if (!r->future) {
            free(r->text);
            free(r);
        } else if (!tpool_future_cancel(r->future)) {
            tpool_future_request_stop(r->future);
        }
    }
    *c->link = c->next;
    if (c->next) c->next->link = c->link;
    close(c->socket);
    free(c->output);
    free(c);
    open_connections--;
    watch_door(true);
}
/* False: the connection is over. */
static bool send_output(connection *c) {
    while (c->out < c->out_used) {
        ssize_t sent = send(c->socket, c->output + c->out, c->out_used - c->out, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) return errno == EAGAIN;
        c->out += (size_t)sent;
        c->active_at = tpool_now();
    }
    c->out = c->out_used = 0;
    return !c->ends || c->first;
}
/* Puts the answers that are there behind each other, up to the first that is not. */
static void put_answers(connection *c) {
    for (request *r; (r = c->first) != NULL && r->code != 0;) {
        size_t size = strlen(r->text), most = size + 300;
        c->output = must(realloc(c->output, c->out_used + most));
        c->out_used += (size_t)snprintf(
            c->output + c->out_used, most, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s%s\r\n%s",
            r->code, r->code == 200 ? "OK" : "Sorry", r->type ? r->type : "text/plain", size,
            r->code == 503 ? "Retry-After: 1\r\n" : "", r->last ? "Connection: close\r\n" : "", r->text);
        c->first = r->next;
        c->waiting--;
        answers[r->code]++;
        free(r->text);
        free(r);
    }
}
static void answer_is(request *r, int code, const char *text) {
    r->code = code;
    r->text = must(strdup(text));
}

/* --- requests */

static void submit(request *r, const question *q) {
    tpool_task task = { .fn = answer,
                        .arg = (void *)(uintptr_t)q,
                        .arg_size = sizeof *q,
                        .name = q->kind == PRIMES ? "primes" : "slow",
                        .expires_ns = most_wait,
                        .run_limit_ns = most_run,
                        .tag = r,
                        .completions = ends };
    if (at_once >= MOST_AT_ONCE || tpool_submit_task(pool, &task, &r->future) != TPOOL_OK)
        answer_is(r, 503, "too busy\n");
    else at_once++;
}
/* A request's head, from its first line to its empty one. */
static void take_request(request *r, const char *head) {
    char method[8] = "", url[200] = "";
    int version = 0;
    question q = { 0 };
    (void)sscanf(head, "%7s %199s HTTP/1.%d", method, url, &version);
    r->last = version == 0 || strcasestr(head, "\nConnection: close") != NULL;
    if (strcmp(method, "GET") != 0) { /* what follows may be its body: no more is read */
        r->last = true;
        answer_is(r, 405, "only GET\n");
    } else if (strcmp(url, "/metrics") == 0) {
        bool open = strcasestr(head, "application/openmetrics-text") != NULL;
        r->code = 200;
        r->text = metrics_text(open);
        r->type = open ? "application/openmetrics-text; version=1.0.0; charset=utf-8" : "text/plain; version=0.0.4";
    } else if (sscanf(url, "/primes?below=%ld", &q.n) == 1) {
        submit(r, &q);
    } else if (sscanf(url, "/slow?ms=%ld", &q.n) == 1) {
        q.kind = SLOW;
        submit(r, &q);
    } else {
        answer_is(r, 404, "no such page\n");
    }
}
/* False: there is none that may be taken now. */
static bool take_request_of(connection *c) {
    c->input[c->in_used] = 0;
    char *end = strstr(c->input, "\r\n\r\n");
    if (c->in_used == MOST_INPUT && !end) c->ends = true; /* a head so long is refused */
    if (!end || !may_ask(c)) return false;
    request *r = must(calloc(1, sizeof *r)), **last = &c->first;
    while (*last) last = &(*last)->next;
    *last = r;
    r->of = c;
    c->waiting++;
    end[2] = 0;
    take_request(r, c->input);
    c->ends = r->last;
    c->in_used -= (size_t)(end + 4 - c->input);
    memmove(c->input, end + 4, c->in_used);
    return true;
}
/* After anything that has happened to it: takes what may be taken, sends what may be sent, says what to wait for. */
static void go_on(connection *c) {
    for (bool more = true; more;) {
        bool might = may_ask(c);
        more = take_request_of(c);
        put_answers(c);
        if (!send_output(c)) {
            hang_up(c);
            return;
        }
        if (!might && may_ask(c)) more = true; /* there is room again: the next may be here already */
    }
    if (!watch(c, EPOLL_CTL_MOD)) hang_up(c);
}
static void read_input(connection *c) {
    ssize_t got = recv(c->socket, c->input + c->in_used, MOST_INPUT - c->in_used, 0);
    if (got > 0) {
        c->in_used += (size_t)got;
        c->active_at = tpool_now();
    }
    if (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR))) go_on(c);
    else hang_up(c);
}
static void read_or_write(connection *c, unsigned events) {
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) hang_up(c); /* a client that sends no more has gone */
    else if (events & EPOLLIN) read_input(c);
    else go_on(c);
}
static void open_connection(void) {
    int socket = accept4(door, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (socket < 0) { /* where none can be had the door would stay ready: this would come again at once */
        if (connections && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM))
            watch_door(false);
        return;
    }
    connection *c = must(calloc(1, sizeof *c));
    c->socket = socket;
    c->active_at = tpool_now();
    c->next = connections;
    c->link = &connections;
    if (c->next) c->next->link = &c->next;
    connections = c;
    if (++open_connections >= MOST_CONNECTIONS) watch_door(false);
    if (!watch(c, EPOLL_CTL_ADD)) hang_up(c);
}
/* Of clients that have done nothing for so long. What such a one has asked for has long ended. */
static void hang_up_idle(int64_t idle) {
    int64_t now = tpool_now();
    for (connection *c = connections, *next; c; c = next) {
        next = c->next;
        if (now - c->active_at >= idle) hang_up(c);
    }
}

/* --- answers */

static void task_ended(tpool_future *future) {
    request *r = tpool_future_tag(future);
    const tpool_error *error = NULL;
    void *text = NULL;
    at_once--;
    switch (tpool_future_result(future, 0, &text)) {
    case TPOOL_OK: answer_is(r, 200, text); break;
    case TPOOL_EXPIRED: answer_is(r, 503, "too busy: nobody came to it in time\n"); break;
    case TPOOL_FAILED:
        (void)tpool_future_error(future, 0, &error);
        answer_is(r, error->code >= 400 && error->code < 600 ? error->code : 500, error->message);
        break;
    default: answer_is(r, 500, "internal error\n"); break;
    }
    tpool_future_release(r->future);
    r->future = NULL;
    if (r->of) {
        r->of->active_at = tpool_now();
        go_on(r->of);
    } else {
        free(r->text);
        free(r);
    }
}
static void take_ends(void) {
    tpool_future *future;
    while (tpool_completions_next(ends, 0, &future) == TPOOL_OK) task_ended(future);
}

static void open_the_door(int port) {
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    socklen_t size = sizeof address;
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = &door };
    int on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    door = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (door < 0 || setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(door, (struct sockaddr *)&address, size) != 0 || listen(door, 500) != 0 ||
        getsockname(door, (struct sockaddr *)&address, &size) != 0 ||
        epoll_ctl(loop, EPOLL_CTL_ADD, door, &event) != 0) {
        perror("web");
        exit(1);
    }
    printf("http://127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
}
/* The end has been asked for: who has been answered is let go. */
static void close_the_door(void) {
    if (door >= 0) close(door);
    door = -1;
    for (connection *c = connections, *next; c; c = next) {
        next = c->next;
        c->ends = true;
        go_on(c);
    }
}

int main(int argc, char **argv) {
    sigset_t signals, none;
    struct sigaction on_end = { .sa_handler = on_signal };
    if (argc > 2) most_wait = TPOOL_MS(atoi(argv[2]));
    if (argc > 3) most_run = TPOOL_MS(atoi(argv[3]));
    most_idle += most_wait + most_run;
    sigemptyset(&none);
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL); /* the workers inherit it: a signal comes only where this thread waits */
    sigaction(SIGTERM, &on_end, NULL);
    sigaction(SIGINT, &on_end, NULL);

    tpool_config config = { .name = "web", .max_workers = WORKERS, .measure = true };
    struct epoll_event events[64], event = { .events = EPOLLIN, .data.ptr = &ends };
    intptr_t descriptor;
    loop = epoll_create1(EPOLL_CLOEXEC);
    if (loop < 0 || tpool_create(&pool, &config) != TPOOL_OK || tpool_as_completed(NULL, 0, &ends) != TPOOL_OK ||
        tpool_completions_descriptor(ends, &descriptor) != TPOOL_OK ||
        epoll_ctl(loop, EPOLL_CTL_ADD, (int)descriptor, &event) != 0)
        return 1;
    open_the_door(argc > 1 ? atoi(argv[1]) : 0);

    int64_t over_at = TPOOL_FOREVER;
    while (!asked_to_end || connections) {
        int count = epoll_pwait(loop, events, 64, connections ? 500 : -1, &none); /* then to look for idle ones */
        bool have_ended = false;
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == &door) open_connection();
            else if (events[i].data.ptr == &ends) have_ended = true;
            else read_or_write(events[i].data.ptr, events[i].events);
        }
        if (have_ended) take_ends(); /* last: this may close connections that are still among the events */
        hang_up_idle(tpool_now() < over_at ? most_idle : 0);
        if (!asked_to_end) continue;
        if (door >= 0) over_at = tpool_now() + most_wait + most_run + most_read;
        close_the_door();
    }

    (void)tpool_destroy(pool); /* waits for what clients that have gone had asked for */
    take_ends();
    tpool_completions_destroy(ends);
    close(loop);
    printf("answered %llu, sent away %llu\n", answers[200], answers[503]);
    return at_once == 0 ? 0 : 1;
}
