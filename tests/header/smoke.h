/* A little of everything, for programs that check a way to build the header rather than what it does. */
#ifndef SMOKE_H
#define SMOKE_H
#include <stdio.h>
#include <string.h>

#define SMOKE(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            return 1; \
        } \
    } while (0)

static void *smoke_return(void *arg) { return tpool_return(arg, strlen((const char *)arg) + 1); }
static void *smoke_raise(void *arg) { return tpool_raise(7, "no %s today", (const char *)arg); }
static void smoke_double(size_t begin, size_t end, void *context) {
    for (size_t i = begin; i < end; i++) ((int *)context)[i] *= 2;
}
static void *smoke_fib(void *arg) {
    int n = *(int *)arg;
    if (n < 2) return arg;
    int less = n - 1, lesser = n - 2;
    tpool_job job;
    tpool_fork(&job, smoke_fib, &less);
    smoke_fib(&lesser);
    tpool_join(&job);
    *(int *)arg = less + lesser;
    return arg;
}

/* Gives 0 when all is well, else 1 and says on stderr what is not. */
static int smoke(void) {
    tpool_config config;
    memset(&config, 0, sizeof config);
    config.name = "smoke";
    config.max_workers = 2;
    tpool *pool = NULL;
    SMOKE(tpool_create(&pool, &config) == TPOOL_OK);

    tpool_future *future = NULL;
    void *result = NULL;
    char text[] = "smoke";
    SMOKE(tpool_submit_copy(pool, smoke_return, text, sizeof text, &future) == TPOOL_OK);
    SMOKE(tpool_future_result(future, TPOOL_FOREVER, &result) == TPOOL_OK);
    SMOKE(strcmp((const char *)result, "smoke") == 0 && result != text);
    tpool_future_release(future);

    SMOKE(tpool_submit(pool, smoke_raise, text, &future) == TPOOL_OK);
    SMOKE(tpool_future_result(future, TPOOL_SEC(60), &result) == TPOOL_FAILED);
    SMOKE(strcmp(tpool_future_message(future), "no smoke today") == 0);
    tpool_future_release(future);

    SMOKE(tpool_future_create(&future) == TPOOL_OK);
    SMOKE(!tpool_future_stop_requested(future) && tpool_future_tag(future) == NULL);
    SMOKE(tpool_future_set_error_text(future, 3, "100 %s") == TPOOL_OK);
    SMOKE(strcmp(tpool_future_message(future), "100 %s") == 0);
    tpool_future_release(future);

    int numbers[1000];
    for (int i = 0; i < 1000; i++) numbers[i] = i;
    SMOKE(tpool_for(pool, 0, 1000, 10, smoke_double, numbers) == TPOOL_OK);
    for (int i = 0; i < 1000; i++) SMOKE(numbers[i] == 2 * i);

    int n = 12;
    SMOKE(tpool_submit(pool, smoke_fib, &n, &future) == TPOOL_OK);
    SMOKE(tpool_future_result(future, TPOOL_FOREVER, NULL) == TPOOL_OK);
    SMOKE(n == 144);
    tpool_future_release(future);

    SMOKE(tpool_destroy(pool) == TPOOL_OK);
    return 0;
}
#endif
