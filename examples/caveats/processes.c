/* Code that may crash belongs into a process. What it needs goes in by value, what it finds comes out by value, and a
 * crash is an error like any other.
 *
 *     cc -std=c11 -pthread -I. examples/caveats/implementation.c examples/caveats/processes.c && ./a.out
 */
#include "tpool.h"
#include <signal.h>
#include <string.h>

static void *letters(void *arg) {
    const char *text = arg;
    size_t count = strlen(text);
    if (strcmp(text, "poison") == 0) raise(SIGKILL); // stands for a crash
    return tpool_return(&count, sizeof count);       // not a pointer to memory of this process
}

int main(void) {
    static const char *const texts[] = { "one", "poison", "three" };
    tpool_config config = { .kind = TPOOL_PROCESSES, .max_workers = 2 };
    tpool *pool;
    tpool_future *futures[3];
    size_t sum = 0;
    int crashed = 0;
    tpool_status status = tpool_create(&pool, &config);
    if (status == TPOOL_UNSUPPORTED) return 0; // no processes on this system
    if (status != TPOOL_OK) return 1;
    for (int i = 0; i < 3; i++)
        if (tpool_submit_copy(pool, letters, texts[i], strlen(texts[i]) + 1, &futures[i]) != TPOOL_OK) return 1;
    for (int i = 0; i < 3; i++) {
        const tpool_error *error;
        void *result;
        if (tpool_future_result(futures[i], TPOOL_FOREVER, &result) == TPOOL_OK) sum += *(size_t *)result;
        else if (tpool_future_error(futures[i], 0, &error) == TPOOL_OK && error->code == -SIGKILL) crashed++;
        tpool_future_release(futures[i]);
    }
    tpool_destroy(pool);
    return sum == 8 && crashed == 1 ? 0 : 1;
}
