/* Bytes become calls of the interface, on up to four threads and three pools; what comes of them is checked against a
 * simple model. For libFuzzer, for AFL++ (both define FUZZ_ENGINE, see fuzz.sh), and as a program of its own:
 *
 *      fuzz_calls [--measure] [--random N [SEED]] [--input HEX] [FILE OR FOLDER...]
 *
 * replays the files, then N pseudo-random inputs, and one given in hexadecimal, with any compiler.
 *
 * An input is one byte for the number of threads and pools, two bytes a pool, then four bytes a call: who makes it and
 * which, and three that say with what. Every file of any length means something.
 *
 * The model. A task that was taken has one record, which tells what may become of it: it runs at most once, ends exactly
 * once, as a status that somebody has given reason for, with arg_free called before that, its callbacks after that, and
 * at rest the counts of each pool are those of the records. Where one thread works on a pool that is at rest and paused,
 * the model is exact: it is a list of tasks, and each call has one right answer. */
#include "calls.h"
#include <dirent.h>
#include <sys/stat.h>

/* ---- one input ---- */
static void *make_calls(void *arg) {
    int thread = (int)(intptr_t)arg;
    for (int i = 0; i < call_counts[thread]; i++) make(thread, &calls[thread][i]);
    return NULL;
}

static bool all_measured;
static uint8_t next_byte(size_t *at) { return *at < input_size ? input[(*at)++] : 0; }
static void decode(void) {
    size_t at = 0;
    uint8_t first = next_byte(&at);
    thread_count = 1 + (first & 3);
    pool_count = 1 + (first >> 2) % POOLS;
    memset(call_counts, 0, sizeof call_counts);
    for (int i = 0; i < pool_count; i++) {
        uint8_t a = next_byte(&at), b = next_byte(&at);
        a_pool *p = &pools[i];
        memset(p, 0, sizeof *p);
        p->config.max_workers = 1 + (a & 3) % 3;
        p->config.on_full = (tpool_full_policy)(a >> 2 & 3);
        p->config.queue_capacity = a & 16 ? 1 + (a >> 5) : 0;
        p->config.idle_timeout_ns = (b & 3) == 3 ? 1 + (b >> 2 & 3) * 50000 : 0;
        p->config.max_tasks_per_worker = b & 16 ? 1 + (b & 3) : 0;
        p->config.measure = b & 32 || all_measured;
        p->config.on_failure = on_failure;
        p->config.initializer = initialize;
        p->config.finalizer = finalize;
        p->config.context = p;
        p->fails_to_start = (b >> 6) == 3;
        atomic_init(&p->starts_left, b & 3);
    }
    orderly = first & 64;
    while (at < input_size) {
        uint8_t which = next_byte(&at);
        int thread = (which >> 5) % thread_count;
        call_kind kind = (which & 31) == 31 ? SCOPE : (call_kind)((which & 31) % SCOPE);
        call c = { kind, next_byte(&at), next_byte(&at), next_byte(&at) };
        if (call_counts[thread] == CALLS) continue;
        if (orderly && c.kind <= SUBMIT_COPY && (c.a & 15) % BEHAVIOURS >= NESTING) c.a &= 0xf7;
        calls[thread][call_counts[thread]++] = c;
    }
}

/* What can be told of each task, and of each pool, once nothing moves any more. */
static void check_at_rest(void) {
    for (int i = 0; i < pool_count; i++) {
        a_pool *p = &pools[i];
        uint64_t taken = 0, completed = 0, failed = 0, unstarted = 0;
        for (int n = 0; n < records_used(); n++) {
            record *r = &records[n];
            if (r->pool != i) continue;
            bool was_taken = atomic_load(&r->taken);
            int runs = atomic_load(&r->runs);
            REQUIRE(runs <= (was_taken ? 1 : 0));
            REQUIRE(atomic_load(&r->frees) == (was_taken && r->wants_free ? 1 : 0));
            REQUIRE(runs == 0 || r->does == ENDS_THREAD || atomic_load(&r->ended) == 1);
            REQUIRE(runs == 0 || !atomic_load(&r->cancelled));
            taken += was_taken;
            completed += runs && !fails(r);
            failed += runs && fails(r);
            unstarted += was_taken && !runs;
            if (was_taken && !r->held && r->named && runs) REQUIRE(atomic_load(&r->failures) == (fails(r) ? 1 : 0));
            if (was_taken && !runs && !r->may_expire && !p->fails_to_start && !atomic_load(&r->may_be_cancelled) &&
                !atomic_load(&p->cancel_asked))
                REQUIRE(p->config.queue_capacity && p->config.on_full == TPOOL_FULL_DROP_OLDEST);
        }
        tpool_stats s;
        REQUIRE(tpool_get_stats(p->handle, &s) == TPOOL_OK);
        REQUIRE(s.queued == 0 && s.active == 0);
        REQUIRE(s.submitted == s.completed + s.failed + s.cancelled + s.expired + s.dropped);
        if (!(p->config.queue_capacity && p->config.on_full == TPOOL_FULL_DROP_OLDEST) && !atomic_load(&p->drops))
            REQUIRE(s.dropped == 0);
        if (atomic_load(&p->helpers)) {
            REQUIRE(s.submitted >= taken && s.completed >= completed && s.failed >= failed);
            continue;
        }
        REQUIRE(s.submitted == taken && s.completed == completed && s.rejected == atomic_load(&p->full));
        REQUIRE(s.failed == failed || (s.failed > failed && p->fails_to_start));
        REQUIRE(s.failed - failed + s.cancelled + s.expired + s.dropped == unstarted);
    }
}

static void complete_all_by_hand(void) {
    for (unsigned i = 0; i < SLOTS; i++) {
        record *r;
        tpool_future *future = take_slot(i, &r);
        if (future && r->does == BY_HAND) complete_by_hand(future, r);
        tpool_future_release(future);
    }
}
/* The tests' own rule, so that nothing waits for ever for a good reason: as long as the threads make calls, two more
 * resume pools and complete futures that nobody completes. The callbacks of such a future submit, and so may wait for room
 * in a pool that was paused again meanwhile: the thread that resumes runs no callback. The exact model has no need of
 * them, and must not be disturbed. */
static bool moment_passes(void) {
    struct timespec moment;
    clock_gettime(CLOCK_REALTIME, &moment);
    moment.tv_nsec += 1000000;
    moment.tv_sec += moment.tv_nsec / 1000000000;
    moment.tv_nsec %= 1000000000;
    pthread_mutex_lock(&stopping_lock);
    if (!stopping) pthread_cond_timedwait(&stopping_changed, &stopping_lock, &moment);
    bool over = stopping;
    pthread_mutex_unlock(&stopping_lock);
    return !over;
}
static void *resume_all(void *arg) {
    (void)arg;
    while (moment_passes())
        if (thread_count > 1)
            for (int i = 0; i < pool_count; i++) tpool_resume(pools[i].handle);
    return NULL;
}
static void *complete_all(void *arg) {
    (void)arg;
    while (moment_passes()) complete_all_by_hand();
    return NULL;
}

static void drain_all(void) {
    for (int again = 0; again < 3; again++) /* tasks of one pool submit to others */
        for (int i = 0; i < pool_count; i++) REQUIRE(tpool_drain(pools[i].handle, TPOOL_FOREVER) == TPOOL_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    input = bytes;
    input_size = size;
    memset(records, 0, sizeof *records * (size_t)records_used());
    memset(notes, 0, sizeof notes);
    atomic_store(&record_count, 0);
    atomic_store(&note_count, 0);
    stopping = false;
    decode();
    for (int i = 0; i < pool_count; i++) REQUIRE(tpool_create(&pools[i].handle, &pools[i].config) == TPOOL_OK);

    pthread_t threads[THREADS], helpers[2];
    REQUIRE(pthread_create(&helpers[0], NULL, resume_all, NULL) == 0);
    REQUIRE(pthread_create(&helpers[1], NULL, complete_all, NULL) == 0);
    for (int i = 1; i < thread_count; i++)
        REQUIRE(pthread_create(&threads[i], NULL, make_calls, (void *)(intptr_t)i) == 0);
    make_calls(NULL);
    for (int i = 1; i < thread_count; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < pool_count; i++) resume_pool(i);
    complete_all_by_hand(); /* their callbacks may still submit */
    drain_all();
    pthread_mutex_lock(&stopping_lock);
    stopping = true;
    pthread_cond_broadcast(&stopping_changed);
    pthread_mutex_unlock(&stopping_lock);
    for (int i = 0; i < 2; i++) pthread_join(helpers[i], NULL);
    drain_all(); /* the second may have been in a callback, which submits */

    check_at_rest();
    for (int i = 0; i < pool_count; i++) CHECK_AT_REST(pools[i].handle);
    for (unsigned i = 0; i < SLOTS; i++) {
        record *r;
        tpool_future *future = take_slot(i, &r);
        if (future && r->does != BY_HAND) REQUIRE(tpool_future_done(future));
        if (future) look(future, r);
        tpool_future_release(future);
        if (i % 2) put_slot(i, NULL, NULL);
    }
    for (int i = 0; i < pool_count; i++) {
        REQUIRE(tpool_destroy(pools[i].handle) == TPOOL_OK);
        REQUIRE(atomic_load(&pools[i].finalized) == atomic_load(&pools[i].initialized));
    }
    for (unsigned i = 0; i < SLOTS; i++) { /* futures outlive their pool */
        record *r;
        tpool_future *future = take_slot(i, &r);
        if (future) look(future, r);
        tpool_future_release(future);
        put_slot(i, NULL, NULL);
    }
    for (int n = 0; n < NOTES; n++) REQUIRE(!notes[n].added || atomic_load(&notes[n].ran) == 1);
    for (int n = 0; n < records_used(); n++)
        if (records[n].does == BY_HAND)
            REQUIRE(atomic_load(&records[n].completions_by_hand) + atomic_load(&records[n].cancelled) == 1);
    REQUIRE(atomic_load(&owned_alive) == 0); /* every future that had a result to free is gone */
    return 0;
}

#ifndef FUZZ_ENGINE
/* ---- a program of its own ---- */
static atomic_ulong inputs_done;

static void *watch(void *arg) {
    (void)arg;
    for (unsigned long before = 0, still = 0;; before = atomic_load(&inputs_done)) {
        struct timespec second = { 1, 0 };
        nanosleep(&second, NULL);
        still = atomic_load(&inputs_done) == before ? still + 1 : 0;
        if (still >= 30) fail("no end after 30 s");
    }
    return NULL;
}
static void on_crash(int number) {
    signal(number, SIG_DFL);
    fail("signal %d", number);
}
static void play(const char *from, const uint8_t *bytes, size_t size) {
    snprintf(origin, sizeof origin, "%s", from);
    LLVMFuzzerTestOneInput(bytes, size);
    atomic_fetch_add(&inputs_done, 1);
}
static bool play_path(const char *path) {
    static uint8_t bytes[1 << 16];
    struct stat status;
    if (stat(path, &status) != 0) return false;
    if (!S_ISDIR(status.st_mode)) {
        FILE *file = fopen(path, "rb");
        if (!file) return false;
        size_t size = fread(bytes, 1, sizeof bytes, file);
        fclose(file);
        play(path, bytes, size);
        return true;
    }
    DIR *folder = opendir(path);
    if (!folder) return false;
    bool well = true;
    for (struct dirent *entry; (entry = readdir(folder));) {
        char name[1000];
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (entry->d_name[0] != '.') well &= play_path(name);
    }
    closedir(folder);
    return well;
}
static void play_random(unsigned long count, uint64_t seed) {
    for (unsigned long i = 0; i < count; i++) {
        uint8_t bytes[260];
        char name[60];
        uint64_t state = (seed + i) * UINT64_C(0x9E3779B97F4A7C15) | 1;
        for (size_t at = 0; at < sizeof bytes; at++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes[at] = (uint8_t)(state >> 37);
        }
        snprintf(name, sizeof name, "--random 1 %llu", (unsigned long long)(seed + i));
        play(name, bytes, 7 + (size_t)(state >> 20) % (sizeof bytes - 7));
    }
}
int main(int argc, char **argv) {
    pthread_t watcher;
    bool well = true;
    signal(SIGSEGV, on_crash);
    signal(SIGBUS, on_crash);
    pthread_create(&watcher, NULL, watch, NULL);
    pthread_detach(watcher);
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--random") && i + 1 < argc) {
            unsigned long count = strtoul(argv[++i], NULL, 10);
            bool seeded = i + 1 < argc && argv[i + 1][0] >= '0' && argv[i + 1][0] <= '9';
            play_random(count, seeded ? strtoull(argv[++i], NULL, 10) : 1);
        } else if (!strcmp(argv[i], "--measure")) {
            all_measured = true;
        } else if (!strcmp(argv[i], "--input") && i + 1 < argc) {
            static uint8_t bytes[1 << 12];
            size_t size = 0;
            for (const char *text = argv[++i]; size < sizeof bytes && text[0] && text[1]; text += 2) {
                char pair[3] = { text[0], text[1], 0 };
                bytes[size++] = (uint8_t)strtoul(pair, NULL, 16);
            }
            play("as given", bytes, size);
        } else if (!play_path(argv[i])) {
            fprintf(stderr, "cannot read %s\n", argv[i]);
            well = false;
        }
    }
    printf("%lu inputs\n", atomic_load(&inputs_done));
    return well && atomic_load(&inputs_done) > 0 ? 0 : 1;
}
#endif
