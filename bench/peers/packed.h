/* Function and argument in one pointer, for contestants whose tasks are one pointer: else each task would need a block
 * of malloc's, which a program with one kind of task does not pay. The arguments of the workloads are small numbers;
 * a future's block is aligned and goes as it is. */
enum { PACKED_FUNCTIONS = 8, PACKED_SHIFT = 4 };
static bench_fn packed_functions[PACKED_FUNCTIONS]; /* [0] is own_future_run */
static int packed_count = 1;
static pthread_mutex_t packed_lock = PTHREAD_MUTEX_INITIALIZER;

static BENCH_UNUSED int packed_add(bench_fn fn) {
    int index = 1;
    pthread_mutex_lock(&packed_lock);
    while (index < packed_count && packed_functions[index] != fn) index++;
    if (index == PACKED_FUNCTIONS) abort();
    packed_functions[index] = fn;
    if (index == packed_count) __atomic_store_n(&packed_count, index + 1, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&packed_lock);
    return index;
}
static inline void *packed(bench_fn fn, void *arg) {
    int count = __atomic_load_n(&packed_count, __ATOMIC_ACQUIRE), index = 0;
    if (fn == packed_functions[0]) return arg;
    for (int i = 1; i < count; i++)
        if (packed_functions[i] == fn) index = i;
    if (index == 0) index = packed_add(fn);
    return (void *)((uintptr_t)arg << PACKED_SHIFT | (uintptr_t)index);
}
static inline void packed_run(void *task) {
    uintptr_t index = (uintptr_t)task & ((1 << PACKED_SHIFT) - 1);
    if (index == 0) packed_functions[0](task);
    else packed_functions[index]((void *)((uintptr_t)task >> PACKED_SHIFT));
}
