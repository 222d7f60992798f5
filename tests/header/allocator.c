/* TPOOL_MALLOC and TPOOL_FREE replace the allocator everywhere: what is freed by the one came from the other, and
   the C library's functions are not called beside them. */
#define _GNU_SOURCE /* system headers come before tpool.h here, so it cannot ask for what it needs itself */
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* In front of each block; a pointer that is not ours has no such mark (freed ones lose it). */
typedef union mark {
    uint64_t word;
    max_align_t align;
} mark;
#define OURS UINT64_C(0x7470686561707321)
static atomic_int handed_out, taken_back, foreign;

static void *counted_malloc(size_t size) {
    mark *block = malloc(sizeof(mark) + size);
    if (!block) return NULL;
    block->word = OURS;
    atomic_fetch_add(&handed_out, 1);
    return block + 1;
}
static void counted_free(void *pointer) {
    if (!pointer) return;
    mark *block = (mark *)pointer - 1;
    if (block->word != OURS) {
        atomic_fetch_add(&foreign, 1);
        return;
    }
    block->word = 0;
    atomic_fetch_add(&taken_back, 1);
    free(block);
}

#define TPOOL_MALLOC(size) counted_malloc(size)
#define TPOOL_FREE(pointer) counted_free(pointer)
/* From here on the header has no other way to memory. */
#define malloc(size) not_through_TPOOL_MALLOC(size)
#define calloc(count, size) not_through_TPOOL_MALLOC(count, size)
#define realloc(pointer, size) not_through_TPOOL_MALLOC(pointer, size)
#define aligned_alloc(alignment, size) not_through_TPOOL_MALLOC(alignment, size)
#define free(pointer) not_through_TPOOL_FREE(pointer)
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
#include "smoke.h"

int main(void) {
    SMOKE(smoke() == 0);
    printf("%d blocks handed out, %d taken back, %d foreign\n", atomic_load(&handed_out), atomic_load(&taken_back),
           atomic_load(&foreign));
    SMOKE(atomic_load(&handed_out) > 0);
    SMOKE(atomic_load(&taken_back) > 0);
    SMOKE(atomic_load(&foreign) == 0);
    return 0;
}
