/* A future for contestants that have none, as one would write it: a block of malloc's that is also the task; who waits for
 * it waits at one condition that all share. Included after peer_submit. */
typedef struct own_future {
    bench_fn fn;
    void *arg;
    void *result;
    int done;
} own_future;
typedef own_future *peer_future;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t done;
    int waiters;
} own_futures = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0 };

static void *own_future_run(void *arg) {
    own_future *future = (own_future *)arg;
    future->result = future->fn(future->arg);
    /* Either the waiter sees that it is done, or this sees the waiter: both are in one order. */
    __atomic_store_n(&future->done, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&own_futures.waiters, __ATOMIC_SEQ_CST) == 0) return NULL;
    pthread_mutex_lock(&own_futures.lock);
    pthread_cond_broadcast(&own_futures.done);
    pthread_mutex_unlock(&own_futures.lock);
    return NULL;
}
static BENCH_UNUSED void peer_submit_future(peer_pool *pool, bench_fn fn, void *arg, peer_future *future) {
    *future = (own_future *)malloc(sizeof **future);
    (*future)->fn = fn;
    (*future)->arg = arg;
    (*future)->done = 0;
    peer_submit(pool, own_future_run, *future);
}
static BENCH_UNUSED uintptr_t peer_result(peer_future *future) {
    if (!__atomic_load_n(&(*future)->done, __ATOMIC_ACQUIRE)) {
        pthread_mutex_lock(&own_futures.lock);
        __atomic_add_fetch(&own_futures.waiters, 1, __ATOMIC_SEQ_CST);
        while (!__atomic_load_n(&(*future)->done, __ATOMIC_SEQ_CST))
            pthread_cond_wait(&own_futures.done, &own_futures.lock);
        __atomic_sub_fetch(&own_futures.waiters, 1, __ATOMIC_SEQ_CST);
        pthread_mutex_unlock(&own_futures.lock);
    }
    uintptr_t result = (uintptr_t)(*future)->result;
    free(*future);
    return result;
}
