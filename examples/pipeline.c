/* pipeline: load -> three analyses in parallel -> gather.
 *
 *     cc -std=c11 -O2 -pthread -I. examples/pipeline.c -o pipeline && ./pipeline
 *
 * Documents are loaded (here: generated) by tasks of a pool. As each arrives, three more tasks look at it: how
 * often every word occurs, which line is the longest, and a checksum. The main thread gathers what they found.
 *
 * What owns what, from one end to the other:
 *  - The loading task allocates the document and hands it to its own future (tpool_return_owned). From then on
 *    the document lives exactly as long as somebody holds a reference to that future.
 *  - Each analysis gets such a reference as its argument, and gives it back in arg_free. The pool calls that
 *    exactly once for every task that it has taken, run or not, so there is no path on which the reference is
 *    lost.
 *  - The main thread keeps none. The last of the three analyses to end frees the document, on whichever thread
 *    that is; nobody counts and nobody waits.
 *  - The findings are small and come back by value (tpool_return): they live with the analysis' future.
 *
 * Memory stays bounded however many documents there are: a new load is submitted only when an earlier one is
 * done, and only a few documents may have been analysed and not yet been gathered. Analyses have a higher
 * priority than loads, so what is in memory is dealt with first.
 */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DOCUMENTS = 24, WORDS_PER_DOCUMENT = 20000, WORD_SLOTS = 256, WORD_MAX = 15 };
enum { LOADS_AHEAD = 4, ANALYSED_AHEAD = 4 };

/* Ends the program when the pool itself fails; what a task may run into is handled where it is gathered. */
static void require(tpool_status status, const char *what) {
    if (status == TPOOL_OK) return;
    fprintf(stderr, "pipeline: %s: %s\n", what, tpool_status_text(status));
    exit(EXIT_FAILURE);
}

/* -------------------------------------------------------------------------------------------------------------
 *  Documents
 * ---------------------------------------------------------------------------------------------------------- */

typedef struct text_document {
    size_t size;
    char text[];
} text_document;

static atomic_int documents_alive, documents_alive_at_most;

static void document_free(void *memory) {
    atomic_fetch_sub(&documents_alive, 1);
    free(memory);
}

static unsigned next_random(unsigned *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 16;
}

/* The same text for the same number, whoever asks. NULL: out of memory. */
static text_document *document_create(unsigned number) {
    static const char *const vocabulary[] = {
        "the",    "of",        "and",   "to",     "in",      "worker",       "task",       "future",
        "pool",   "queue",     "waits", "runs",   "ends",    "result",       "error",      "cancels",
        "steals", "sleeps",    "wakes", "never",  "always",  "before",       "after",      "another",
        "thread", "completes", "owner", "shares", "nothing", "synchronizes", "eventually", "starves",
    };
    enum { VOCABULARY = sizeof vocabulary / sizeof vocabulary[0] };
    text_document *document = malloc(sizeof *document + (size_t)WORDS_PER_DOCUMENT * (WORD_MAX + 1));
    if (document == NULL) return NULL;

    unsigned random = number;
    char *end = document->text;
    for (int i = 0; i < WORDS_PER_DOCUMENT; i++) {
        const char *word = vocabulary[next_random(&random) % (1 + next_random(&random) % VOCABULARY)];
        size_t length = strlen(word);
        memcpy(end, word, length);
        end += length;
        *end++ = next_random(&random) % 12 == 0 ? '\n' : ' ';
    }
    document->size = (size_t)(end - document->text);

    int alive = 1 + atomic_fetch_add(&documents_alive, 1);
    int most = atomic_load(&documents_alive_at_most);
    while (alive > most && !atomic_compare_exchange_weak(&documents_alive_at_most, &most, alive)) { }
    return document;
}

/* The first stage, a task: gives the document, owned by this task's future. */
static void *load(void *arg) {
    unsigned number = *(const unsigned *)arg;
    text_document *document = document_create(number);
    if (document == NULL) return tpool_raise(ENOMEM, "document %u: out of memory", number);
    return tpool_return_owned(document, document_free);
}

/* -------------------------------------------------------------------------------------------------------------
 *  The analyses: plain functions, and the tasks around them
 * ---------------------------------------------------------------------------------------------------------- */

typedef struct word_table {
    struct {
        unsigned count; /* 0: a free slot */
        char word[WORD_MAX + 1];
    } slots[WORD_SLOTS];
} word_table;

/* False: the table is full. */
static bool add_word(word_table *table, const char *word, size_t length, unsigned count) {
    if (length > WORD_MAX) length = WORD_MAX;
    unsigned hash = 2166136261u;
    for (size_t i = 0; i < length; i++) hash = (hash ^ (unsigned char)word[i]) * 16777619u;
    for (unsigned tried = 0; tried < WORD_SLOTS; tried++) {
        unsigned slot = (hash + tried) % WORD_SLOTS;
        char *known = table->slots[slot].word;
        if (table->slots[slot].count == 0) {
            memcpy(known, word, length);
            known[length] = '\0';
        } else if (strlen(known) != length || memcmp(known, word, length) != 0) {
            continue;
        }
        table->slots[slot].count += count;
        return true;
    }
    return false;
}

static bool count_words(const text_document *document, word_table *table) {
    const char *end = document->text + document->size;
    for (const char *at = document->text; at < end;) {
        const char *word = at;
        while (at < end && *at != ' ' && *at != '\n') at++;
        if (at > word && !add_word(table, word, (size_t)(at - word), 1)) return false;
        if (at < end) at++;
    }
    return true;
}

static size_t longest_line(const text_document *document) {
    const char *end = document->text + document->size;
    size_t longest = 0;
    for (const char *line = document->text; line < end;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        if (stop == NULL) stop = end;
        if ((size_t)(stop - line) > longest) longest = (size_t)(stop - line);
        line = stop + 1;
    }
    return longest;
}

static uint32_t checksum(const text_document *document) { /* Adler-32 */
    uint32_t a = 1, b = 0;
    for (size_t i = 0; i < document->size; i++) {
        a = (a + (unsigned char)document->text[i]) % 65521;
        b = (b + a) % 65521;
    }
    return b << 16 | a;
}

/* An analysis is submitted when the load is done, so this neither waits nor fails. The argument's reference
 * keeps the document alive while the task uses it. */
static const text_document *loaded_document(void *load_future) {
    void *result;
    return tpool_future_result(load_future, 0, &result) == TPOOL_OK ? (const text_document *)result : NULL;
}

static void release_load(void *load_future) { tpool_future_release(load_future); }

static void *count_words_task(void *load_future) {
    const text_document *document = loaded_document(load_future);
    word_table table = { 0 };
    if (document == NULL) return tpool_raise(EINVAL, "no document");
    if (!count_words(document, &table)) return tpool_raise(ERANGE, "more than %d different words", WORD_SLOTS);
    return tpool_return(&table, sizeof table);
}

static void *longest_line_task(void *load_future) {
    const text_document *document = loaded_document(load_future);
    if (document == NULL) return tpool_raise(EINVAL, "no document");
    size_t length = longest_line(document);
    return tpool_return(&length, sizeof length);
}

static void *checksum_task(void *load_future) {
    const text_document *document = loaded_document(load_future);
    if (document == NULL) return tpool_raise(EINVAL, "no document");
    uint32_t sum = checksum(document);
    return tpool_return(&sum, sizeof sum);
}

enum { WORDS, LINE, SUM, ANALYSES };
static const tpool_task analyses[ANALYSES] = {
    [WORDS] = { .fn = count_words_task, .name = "count words", .priority = 1, .arg_free = release_load },
    [LINE] = { .fn = longest_line_task, .name = "longest line", .priority = 1, .arg_free = release_load },
    [SUM] = { .fn = checksum_task, .name = "checksum", .priority = 1, .arg_free = release_load },
};

/* -------------------------------------------------------------------------------------------------------------
 *  The pipeline
 * ---------------------------------------------------------------------------------------------------------- */

typedef struct text_findings {
    word_table words;
    size_t longest;
    uint32_t sums; /* of all documents, combined by exclusive or */
} text_findings;

static bool add_table(word_table *total, const word_table *table) {
    for (int i = 0; i < WORD_SLOTS; i++) {
        const char *word = table->slots[i].word;
        unsigned count = table->slots[i].count;
        if (count > 0 && !add_word(total, word, strlen(word), count)) return false;
    }
    return true;
}

/* Submits the analyses of one loaded document. A submit that is refused has not taken its argument. */
static void analyse(tpool *pool, tpool_future *loaded, tpool_future *found[ANALYSES]) {
    for (int i = 0; i < ANALYSES; i++) {
        tpool_task task = analyses[i];
        task.arg = tpool_future_retain(loaded);
        tpool_status status = tpool_submit_task(pool, &task, &found[i]);
        if (status != TPOOL_OK) tpool_future_release(loaded);
        require(status, task.name);
    }
}

/* Adds what the three analyses of one document found, and drops their futures. False: one of them failed. */
static bool gather(tpool_future *found[ANALYSES], text_findings *findings) {
    void *result[ANALYSES];
    bool complete = true;
    require(tpool_wait(found, ANALYSES, TPOOL_ALL_COMPLETED, TPOOL_FOREVER, NULL), "waiting for the analyses");
    for (int i = 0; i < ANALYSES; i++) {
        if (tpool_future_result(found[i], 0, &result[i]) == TPOOL_OK) continue;
        fprintf(stderr, "pipeline: %s: %s\n", analyses[i].name, tpool_future_message(found[i]));
        complete = false;
    }
    if (complete) {
        complete = add_table(&findings->words, result[WORDS]);
        if (*(size_t *)result[LINE] > findings->longest) findings->longest = *(size_t *)result[LINE];
        findings->sums ^= *(uint32_t *)result[SUM];
    }
    for (int i = 0; i < ANALYSES; i++) tpool_future_release(found[i]);
    return complete;
}

static void submit_load(tpool *pool, unsigned number, tpool_completions *loads) {
    tpool_task task = { .fn = load, .arg = &number, .arg_size = sizeof number, .name = "load" };
    tpool_future *future;
    require(tpool_submit_task(pool, &task, &future), "submitting a load");
    require(tpool_completions_add(loads, future), "as_completed");
    tpool_future_release(future); /* the iterator has its own reference, until it goes on to the next one */
}

static bool run_pipeline(tpool *pool, text_findings *findings) {
    tpool_completions *loads;
    unsigned submitted = 0;
    require(tpool_as_completed(NULL, 0, &loads), "as_completed");
    while (submitted < LOADS_AHEAD) submit_load(pool, submitted++, loads);

    tpool_future *found[ANALYSED_AHEAD][ANALYSES];
    size_t analysed = 0, gathered = 0;
    bool complete = true;
    for (;;) {
        tpool_future *loaded;
        tpool_status status = tpool_completions_next(loads, TPOOL_FOREVER, &loaded);
        if (status == TPOOL_END) break;
        require(status, "waiting for a document");
        if (tpool_future_result(loaded, 0, NULL) == TPOOL_OK) {
            if (analysed - gathered == ANALYSED_AHEAD) complete &= gather(found[gathered++ % ANALYSED_AHEAD], findings);
            analyse(pool, loaded, found[analysed++ % ANALYSED_AHEAD]);
        } else {
            fprintf(stderr, "pipeline: load: %s\n", tpool_future_message(loaded));
            complete = false;
        }
        if (submitted < DOCUMENTS) submit_load(pool, submitted++, loads);
    }
    tpool_completions_destroy(loads);
    while (gathered < analysed) complete &= gather(found[gathered++ % ANALYSED_AHEAD], findings);
    return complete;
}

/* The same without a pool, to compare with. */
static bool run_serially(text_findings *findings) {
    for (unsigned number = 0; number < DOCUMENTS; number++) {
        text_document *document = document_create(number);
        if (document == NULL || !count_words(document, &findings->words)) return false;
        if (longest_line(document) > findings->longest) findings->longest = longest_line(document);
        findings->sums ^= checksum(document);
        document_free(document);
    }
    return true;
}

static unsigned count_of(const word_table *table, const char *word) {
    for (int i = 0; i < WORD_SLOTS; i++)
        if (table->slots[i].count > 0 && strcmp(table->slots[i].word, word) == 0) return table->slots[i].count;
    return 0;
}

static bool same_findings(const text_findings *one, const text_findings *other) {
    for (int i = 0; i < WORD_SLOTS; i++) {
        if (count_of(&other->words, one->words.slots[i].word) != one->words.slots[i].count) return false;
        if (count_of(&one->words, other->words.slots[i].word) != other->words.slots[i].count) return false;
    }
    return one->longest == other->longest && one->sums == other->sums;
}

int main(void) {
    static text_findings found, expected;
    tpool *pool;
    require(tpool_create(&pool, &(tpool_config){ .name = "pipeline", .max_workers = 4 }), "creating the pool");
    bool complete = run_pipeline(pool, &found);
    require(tpool_destroy(pool), "destroying the pool");

    int left = atomic_load(&documents_alive), most = atomic_load(&documents_alive_at_most);
    printf("%d documents, at most %d in memory at a time, %d left\n", DOCUMENTS, most, left);
    printf("\"the\" %u times, \"starves\" %u times, ", count_of(&found.words, "the"),
           count_of(&found.words, "starves"));
    printf("longest line %zu bytes, checksum %08x\n", found.longest, (unsigned)found.sums);

    bool right = complete && left == 0 && most <= LOADS_AHEAD + ANALYSED_AHEAD;
    right = right && run_serially(&expected) && same_findings(&found, &expected);
    puts(right ? "the same as one after the other" : "WRONG");
    return right ? EXIT_SUCCESS : EXIT_FAILURE;
}
