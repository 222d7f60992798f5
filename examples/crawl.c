/* crawl: a crawler on libcurl that asks many hosts at once, but each for only a few pages at a time.
 *
 *     cc -std=c11 -O2 -pthread -I. examples/crawl.c $(pkg-config --cflags --libs libcurl) -o crawl
 *     ./crawl [-n MOST_PAGES] [-p PAGES_PER_HOST] [-t SECONDS] http://127.0.0.1:8000/ ...
 *
 * It follows the links of each page to pages of the hosts that it was given, and prints status, size and address of
 * each page as it comes.
 *
 * The limit of a host is kept where the pages are handed out, and no thread waits for it: the main thread has a line of
 * pages for each host, submits the first of it whenever the host has less than its share on the way, and takes what is
 * done from an iterator. A task's future is in the iterator as soon as the pool has the task (task.completions), and
 * brings back which page it was (task.tag).
 *
 * A connection lives as long as its curl handle. So there is a handle for each worker, as a resource that a task takes
 * and gives back. A page that takes longer than its time (task.timeout_ns) is asked to stop; curl asks now and then
 * whether to go on, and the task's answer is tpool_stop_requested.
 */
#define _GNU_SOURCE /* strcasestr */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WORKERS = 16, MOST_BYTES = 1 << 20, BUCKETS = 4096 };

typedef struct page {
    struct page *next, *same_bucket; /* in its host's line; with the same hash */
    struct host *host;
    char url[];
} page;

typedef struct host {
    struct host *next;
    page *first, **last; /* what is to be asked for */
    int on_the_way;
    char name[]; /* with its port */
} host;

/* What a task gives back: the page's status and size, and its links, each a string. */
typedef struct answer {
    long status;
    size_t bytes, links_size;
    char *links;
} answer;

static tpool *pool;
static tpool_resources *handles;

static void require(bool right, const char *what) {
    if (right) return;
    fprintf(stderr, "crawl: %s\n", what);
    exit(EXIT_FAILURE);
}

/* --- the task */

typedef struct text {
    char *bytes;
    size_t size;
} text;

static size_t take_bytes(char *bytes, size_t one, size_t count, void *of) {
    text *t = of;
    if (t->size + count > MOST_BYTES) return 0; /* curl gives up */
    char *more = realloc(t->bytes, t->size + count + 1);
    if (!more) return 0;
    memcpy(more + t->size, bytes, count * one);
    t->bytes = more;
    t->size += count;
    more[t->size] = '\0';
    return count;
}

static int asked_to_stop(void *of, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
    (void)of, (void)a, (void)b, (void)c, (void)d;
    return tpool_stop_requested();
}

/* The value of each href, as a whole address without a fragment. */
static void find_links(answer *a, const char *base, const char *html) {
    for (const char *at = html; at && (at = strcasestr(at, "href=")) != NULL;) {
        char quote = at[5];
        at += 5;
        if (quote != '"' && quote != '\'') continue;
        size_t length = strcspn(++at, quote == '"' ? "\"" : "'");
        char *link = strndup(at, length), *whole = NULL;
        CURLU *url = curl_url();
        if (link && url && curl_url_set(url, CURLUPART_URL, base, 0) == CURLUE_OK &&
            curl_url_set(url, CURLUPART_URL, link, 0) == CURLUE_OK &&
            curl_url_set(url, CURLUPART_FRAGMENT, NULL, 0) == CURLUE_OK &&
            curl_url_get(url, CURLUPART_URL, &whole, 0) == CURLUE_OK) {
            char *more = realloc(a->links, a->links_size + strlen(whole) + 1);
            if (more) {
                a->links = more;
                strcpy(more + a->links_size, whole);
                a->links_size += strlen(whole) + 1;
            }
        }
        curl_free(whole);
        curl_url_cleanup(url);
        free(link);
        at += length;
    }
}

static void free_answer(void *of) {
    free(((answer *)of)->links);
    free(of);
}

static void *get_page(void *arg) {
    const char *url = ((const page *)arg)->url;
    char why[CURL_ERROR_SIZE] = "";
    text body = { NULL, 0 };
    void *handle;
    answer *a = calloc(1, sizeof *a);
    if (!a) return tpool_raise(CURLE_OUT_OF_MEMORY, "out of memory");
    if (tpool_resources_get(handles, TPOOL_FOREVER, &handle) != TPOOL_OK) {
        free(a);
        return tpool_raise(CURLE_FAILED_INIT, "no handle");
    }
    curl_easy_setopt(handle, CURLOPT_URL, url);
    curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(handle, CURLOPT_WRITEDATA, &body);
    CURLcode code = curl_easy_perform(handle);
    curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &a->status);
    tpool_resources_put(handles, handle); /* on every path, and with it its connection */
    a->bytes = body.size;
    if (code == CURLE_OK && a->status == 200 && body.bytes) find_links(a, url, body.bytes);
    free(body.bytes);
    if (code != CURLE_OK) {
        free_answer(a);
        return tpool_raise((int)code, "%s", code == CURLE_ABORTED_BY_CALLBACK ? "took too long" : why);
    }
    return tpool_return_owned(a, free_answer);
}

static void *make_handle(void *context) {
    CURL *handle = curl_easy_init();
    (void)context;
    if (!handle) return NULL;
    curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, take_bytes);
    curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L); /* there are threads */
    curl_easy_setopt(handle, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(handle, CURLOPT_XFERINFOFUNCTION, asked_to_stop);
    curl_easy_setopt(handle, CURLOPT_USERAGENT, "tpool.h-example/1");
    curl_easy_setopt(handle, CURLOPT_PROXY, ""); /* it is for hosts nearby */
    return handle;
}
static void destroy_handle(void *handle, void *context) {
    (void)context;
    curl_easy_cleanup(handle);
}

/* --- the main thread: what is known, and what is handed out */

static page *known[BUCKETS];
static host *hosts;
static tpool_completions *under_way;
static int found, most_pages = 1000, per_host = 2;
static double seconds = 10;

/* The page is asked for once, if its host is one of ours; with `start` the host becomes one. */
static void add_page(const char *address, bool start) {
    char *scheme = NULL, *name = NULL, *port = NULL;
    CURLU *url = curl_url();
    require(url != NULL, "out of memory");
    if (curl_url_set(url, CURLUPART_URL, address, 0) != CURLUE_OK ||
        curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK || strncmp(scheme, "http", 4) != 0 ||
        curl_url_get(url, CURLUPART_HOST, &name, 0) != CURLUE_OK ||
        curl_url_get(url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) != CURLUE_OK) {
        require(!start, "an address that is none of http");
        goto out;
    }
    size_t length = strlen(name);
    host *h = hosts;
    while (h &&
           (strncmp(h->name, name, length) != 0 || h->name[length] != ':' || strcmp(h->name + length + 1, port) != 0))
        h = h->next;
    if (!h && start) {
        h = calloc(1, sizeof *h + length + strlen(port) + 2);
        require(h != NULL, "out of memory");
        sprintf(h->name, "%s:%s", name, port);
        h->last = &h->first;
        h->next = hosts;
        hosts = h;
    }
    unsigned hash = 5381;
    for (const char *at = address; *at; at++) hash = hash * 33 + (unsigned char)*at;
    page **bucket = &known[hash % BUCKETS], *p = *bucket;
    while (p && strcmp(p->url, address) != 0) p = p->same_bucket;
    if (!h || p || found == most_pages) goto out;
    p = calloc(1, sizeof *p + strlen(address) + 1);
    require(p != NULL, "out of memory");
    strcpy(p->url, address);
    p->host = h;
    p->same_bucket = *bucket;
    *bucket = p;
    *h->last = p;
    h->last = &p->next;
    found++;
out:
    curl_free(scheme);
    curl_free(name);
    curl_free(port);
    curl_url_cleanup(url);
}

static void hand_out(host *h) {
    while (h->first && h->on_the_way < per_host) {
        page *p = h->first;
        tpool_task task = { .fn = get_page,
                            .arg = p,
                            .name = "page",
                            .timeout_ns = TPOOL_SEC(seconds),
                            .tag = p,
                            .completions = under_way };
        require(tpool_submit_task(pool, &task, NULL) == TPOOL_OK, "no task"); /* the page stays ours: it lives on */
        h->first = p->next;
        if (!h->first) h->last = &h->first;
        h->on_the_way++;
    }
}

int main(int argc, char **argv) {
    tpool_future *future;
    int option, failed = 0;
    while ((option = getopt(argc, argv, "n:p:t:")) != -1) {
        if (option == 'n') most_pages = atoi(optarg);
        else if (option == 'p') per_host = atoi(optarg);
        else if (option == 't') seconds = atof(optarg);
        else optind = argc;
    }
    if (optind >= argc || most_pages < 1 || per_host < 1 || seconds <= 0) {
        fprintf(stderr, "Usage: %s [-n MOST_PAGES] [-p PAGES_PER_HOST] [-t SECONDS] URL...\n", argv[0]);
        return 2;
    }
    require(curl_global_init(CURL_GLOBAL_DEFAULT) == 0, "no curl");
    tpool_config config = { .name = "crawl", .max_workers = WORKERS };
    require(tpool_create(&pool, &config) == TPOOL_OK, "no pool");
    require(tpool_resources_create(&handles, WORKERS, make_handle, destroy_handle, NULL) == TPOOL_OK, "no handles");
    require(tpool_as_completed(NULL, 0, &under_way) == TPOOL_OK, "no iterator");
    for (; optind < argc; optind++) add_page(argv[optind], true);
    for (host *h = hosts; h; h = h->next) hand_out(h);

    while (tpool_completions_next(under_way, TPOOL_FOREVER, &future) == TPOOL_OK) {
        page *p = tpool_future_tag(future);
        void *result;
        p->host->on_the_way--;
        if (tpool_future_result(future, 0, &result) == TPOOL_OK) {
            answer *a = result;
            printf("%ld %zu %s\n", a->status, a->bytes, p->url);
            for (char *link = a->links; link && link < a->links + a->links_size; link += strlen(link) + 1)
                add_page(link, false);
        } else {
            printf("failed %s: %s\n", p->url, tpool_future_message(future));
            failed++;
        }
        for (host *h = hosts; h; h = h->next) hand_out(h);
    } /* TPOOL_END: nothing is on the way, and so nothing is in line */

    fprintf(stderr, "crawl: %d pages, %d failed\n", found, failed);
    tpool_completions_destroy(under_way);
    tpool_destroy(pool);
    tpool_resources_destroy(handles);
    for (int i = 0; i < BUCKETS; i++) {
        for (page *p = known[i], *next; p; p = next) {
            next = p->same_bucket;
            free(p);
        }
    }
    for (host *h = hosts, *next; h; h = next) {
        next = h->next;
        free(h);
    }
    curl_global_cleanup();
    return failed > 0;
}
