/* hashtree: the SHA-256 of each file below some directories, in order, with bounded memory, progress and Ctrl-C.
 *
 *     cc -std=c11 -O2 -pthread -I. examples/hashtree.c -o hashtree && ./hashtree /usr/share/doc | tail
 *
 * It prints what sha256sum prints, in the order of the names, however many files there are and however their sizes
 * differ. tpool_map asks a source for the next file whenever a result has been delivered: so at most `ahead` files are
 * known and not yet printed, and each worker has one piece of one file in memory. Nothing else grows with the tree but
 * the lists of the directories that the walk is in.
 *
 * On a terminal a line tells how far it has come: the wait for the next result has a limit, and when that passes the
 * line is drawn again. Ctrl-C only sets a flag. Then the map is closed: what has not started never does, what runs
 * sees that it is to stop between two pieces of its file, and the program says where it has stopped.
 */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE = 64 * 1024, HASH = 32 };

/* --- SHA-256, as FIPS 180-4 has it */

typedef struct sha256 {
    uint32_t state[8];
    uint64_t length;
    unsigned char block[64];
} sha256;

static const uint32_t constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2
};

static uint32_t turned(uint32_t x, int bits) { return x >> bits | x << (32 - bits); }

static void sha256_block(sha256 *s, const unsigned char *bytes) {
    uint32_t w[64], a = s->state[0], b = s->state[1], c = s->state[2], d = s->state[3];
    uint32_t e = s->state[4], f = s->state[5], g = s->state[6], h = s->state[7];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)bytes[4 * i] << 24 | (uint32_t)bytes[4 * i + 1] << 16 | (uint32_t)bytes[4 * i + 2] << 8 |
               bytes[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        uint32_t x = w[i - 15], y = w[i - 2];
        w[i] =
            w[i - 16] + (turned(x, 7) ^ turned(x, 18) ^ x >> 3) + w[i - 7] + (turned(y, 17) ^ turned(y, 19) ^ y >> 10);
    }
    for (int i = 0; i < 64; i++) {
        uint32_t one = h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) + ((e & f) ^ (~e & g)) + constants[i] + w[i];
        uint32_t two = (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + one, d = c, c = b, b = a, a = one + two;
    }
    s->state[0] += a, s->state[1] += b, s->state[2] += c, s->state[3] += d;
    s->state[4] += e, s->state[5] += f, s->state[6] += g, s->state[7] += h;
}

static void sha256_add(sha256 *s, const unsigned char *bytes, size_t size) {
    size_t held = s->length % 64;
    s->length += size;
    if (held + size < 64) {
        memcpy(s->block + held, bytes, size);
        return;
    }
    if (held) {
        memcpy(s->block + held, bytes, 64 - held);
        sha256_block(s, s->block);
        bytes += 64 - held, size -= 64 - held;
    }
    for (; size >= 64; bytes += 64, size -= 64) sha256_block(s, bytes);
    memcpy(s->block, bytes, size);
}

static void sha256_end(sha256 *s, unsigned char hash[HASH]) {
    static const unsigned char padding[64] = { 0x80 };
    unsigned char length[8];
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)(s->length * 8 >> (56 - 8 * i));
    sha256_add(s, padding, 1 + (119 - s->length % 64) % 64);
    sha256_add(s, length, sizeof length);
    for (int i = 0; i < HASH; i++) hash[i] = (unsigned char)(s->state[i / 4] >> (24 - 8 * (i % 4)));
}

/* --- the work, on the pool */

static atomic_uint_fast64_t bytes_read; /* by all workers: for the line of progress */

static void *hash_file(void *item, void *context) {
    const char *path = item;
    unsigned char piece[PIECE], hash[HASH];
    sha256 s = { .state = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab,
                            0x5be0cd19 } };
    ssize_t n;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    (void)context;
    if (file < 0) return tpool_raise(errno, "%s", strerror(errno));
    while ((n = read(file, piece, sizeof piece)) != 0) {
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 || tpool_stop_requested()) break;
        sha256_add(&s, piece, (size_t)n);
        atomic_fetch_add_explicit(&bytes_read, (uint_fast64_t)n, memory_order_relaxed);
    }
    int error = n < 0 ? errno : 0;
    close(file);
    if (n < 0) return tpool_raise(error, "%s", strerror(error));
    if (n > 0) return tpool_raise(EINTR, "stopped");
    sha256_end(&s, hash);
    return tpool_return(hash, sizeof hash);
}

/* --- the source: the next file of a walk over the tree. It runs on the consumer's thread, one call at a time. */

typedef struct level {
    struct level *above;
    char *path; /* of the directory, or NULL for the arguments */
    struct dirent **entries;
    int count, next;
} level;

typedef struct walk {
    level *at;
    char **arguments;
    bool failed;
} walk;

static char *joined(const char *folder, const char *name) {
    size_t length = strlen(folder), slash = length > 0 && folder[length - 1] != '/';
    char *path = malloc(length + slash + strlen(name) + 1);
    if (path) sprintf(path, "%s%s%s", folder, slash ? "/" : "", name);
    return path;
}

static int not_itself(const struct dirent *entry) {
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}
static int by_bytes(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static void complain(walk *w, const char *path, const char *text) {
    fprintf(stderr, "hashtree: %s: %s\n", path, text);
    w->failed = true;
}

/* path is the level's from now on. */
static void enter(walk *w, char *path) {
    level *l = calloc(1, sizeof *l);
    if (l) l->count = scandir(path, &l->entries, not_itself, by_bytes);
    if (!l || l->count < 0) {
        complain(w, path, strerror(errno));
        free(path);
        free(l);
        return;
    }
    l->path = path;
    l->above = w->at;
    w->at = l;
}

static void leave(walk *w) {
    level *l = w->at;
    while (l->next < l->count) free(l->entries[l->next++]);
    w->at = l->above;
    free(l->entries);
    free(l->path);
    free(l);
}

static bool next_file(void *context, void **item) {
    walk *w = context;
    for (;;) {
        char *path;
        if (w->at && w->at->next == w->at->count) {
            leave(w);
            continue;
        }
        if (w->at) {
            struct dirent *entry = w->at->entries[w->at->next++];
            path = joined(w->at->path, entry->d_name);
            free(entry);
        } else if (*w->arguments) {
            path = strdup(*w->arguments++);
        } else {
            return false;
        }
        struct stat about;
        if (!path) {
            complain(w, "the tree", strerror(ENOMEM));
            return false;
        }
        if (lstat(path, &about) != 0) complain(w, path, strerror(errno));
        else if (S_ISDIR(about.st_mode)) {
            enter(w, path);
            continue;
        } else if (S_ISREG(about.st_mode)) {
            *item = path;
            return true;
        }
        free(path);
    }
}

static void free_path(void *item, void *context) {
    (void)context;
    free(item);
}

/* --- the consumer */

static volatile sig_atomic_t interrupted;
static void on_interrupt(int number) {
    (void)number;
    interrupted = 1;
}

static void print_line(const unsigned char *hash, const char *path) {
    bool odd = strpbrk(path, "\\\n\r") != NULL; /* as sha256sum marks such names */
    if (odd) putchar('\\');
    for (int i = 0; i < HASH; i++) printf("%02x", hash[i]);
    printf("  ");
    for (; *path; path++) {
        if (odd && *path == '\\') printf("\\\\");
        else if (odd && *path == '\n') printf("\\n");
        else if (odd && *path == '\r') printf("\\r");
        else putchar(*path);
    }
    putchar('\n');
}

static void draw(size_t files, int64_t began) {
    double seconds = (double)(tpool_now() - began) / 1e9;
    double mib = (double)atomic_load_explicit(&bytes_read, memory_order_relaxed) / (1 << 20);
    fprintf(stderr, "\r%zu files, %.1f MiB, %.1f MiB/s\033[K", files, mib, seconds > 0 ? mib / seconds : 0);
}

int main(int argc, char **argv) {
    walk w = { .arguments = argv + 1 };
    tpool *pool;
    tpool_map_iter *hashes;
    size_t files = 0;
    int64_t began = tpool_now(), drawn = began;
    bool terminal = isatty(STDERR_FILENO);
    size_t ahead = 4 * (size_t)tpool_cpu_count();
    tpool_map_spec spec = {
        .fn = hash_file, .context = &w, .next = next_file, .item_free = free_path, .chunk_size = 1, .buffer_size = ahead
    };

    if (argc < 2) {
        fprintf(stderr, "Usage: %s FILE_OR_DIRECTORY...\n", argv[0]);
        return 2;
    }
    struct sigaction act = { .sa_handler = on_interrupt };
    sigaction(SIGINT, &act, NULL);
    if (tpool_create(&pool, &(tpool_config){ .name = "hash" }) != TPOOL_OK) return 1;
    tpool_status status = tpool_map(pool, &spec, &hashes);
    while (status == TPOOL_OK && !interrupted) {
        void *hash;
        status = tpool_map_next(hashes, TPOOL_MS(100), &hash);
        if (terminal && tpool_now() - drawn >= TPOOL_MS(100)) {
            drawn = tpool_now();
            draw(files, began);
        }
        if (status == TPOOL_TIMEOUT) status = TPOOL_OK;
        else if (status == TPOOL_OK) {
            if (terminal && isatty(STDOUT_FILENO)) fprintf(stderr, "\r\033[K");
            print_line(hash, tpool_map_item(hashes));
            files++;
        } else if (status == TPOOL_FAILED) {
            const tpool_error *error;
            tpool_map_error(hashes, &error);
            complain(&w, tpool_map_item(hashes), error->message);
            status = TPOOL_OK;
        }
    }
    tpool_map_close(hashes); /* what runs is asked to stop, and has stopped when this returns */
    if (terminal) fprintf(stderr, "\r\033[K");
    if (interrupted) fprintf(stderr, "hashtree: stopped after %zu files\n", files);
    else if (status != TPOOL_END) complain(&w, "the tree", tpool_status_text(status));
    while (w.at) leave(&w);
    tpool_destroy(pool);
    if (fflush(stdout) != 0) complain(&w, "write error", strerror(errno));
    return interrupted ? 130 : w.failed;
}
