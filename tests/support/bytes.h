/* Bytes of many sizes, each size with a pattern of its own. */
#ifndef TPOOL_TESTS_BYTES_H
#define TPOOL_TESTS_BYTES_H
#include "../support.h"

static const size_t sizes[] = { 1,   2,   3,   7,   8,    9,    15,   16,   17,    24,     31,      32,
                                33,  40,  47,  48,  49,   56,   63,   64,   65,    72,     96,      127,
                                128, 129, 255, 256, 1000, 4095, 4096, 4097, 65536, 100001, 1u << 20 };
#define SIZES (sizeof sizes / sizeof sizes[0])

static inline unsigned char pattern_at(size_t size, size_t i) {
    return (unsigned char)(i * 31 + (i >> 8) + size * 5 + 1);
}
static inline unsigned char *pattern(size_t size) {
    unsigned char *bytes = malloc(size ? size : 1);
    for (size_t i = 0; i < size; i++) bytes[i] = pattern_at(size, i);
    return bytes;
}
static inline bool has_pattern(const unsigned char *bytes, size_t size) {
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != pattern_at(size, i)) return false;
    return true;
}
#endif
