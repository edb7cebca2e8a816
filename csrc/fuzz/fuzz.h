/*
 * fuzz.h - what the targets share.
 */
#ifndef CWS_FUZZ_FUZZ_H
#define CWS_FUZZ_FUZZ_H

#include <stdlib.h>
#include <string.h>

#include "../cws.h"

/* Stops the fuzzer: something that must hold does not. */
#define MUST(condition)                                                        \
    do {                                                                       \
        if (!(condition))                                                      \
            abort();                                                           \
    } while (0)

/* Bytes that the fuzzer keeps; no allocation of the library's kind. */
struct bytes {
    uint8_t *data;
    size_t len;
    size_t cap;
};

static inline void put(struct bytes *b, const void *data, size_t len) {
    if (b->cap - b->len < len) {
        b->cap = (b->len + len) * 2;
        b->data = realloc(b->data, b->cap);
        MUST(b->data);
    }
    if (len)
        memcpy(b->data + b->len, data, len);
    b->len += len;
}

static inline void put_byte(struct bytes *b, unsigned value) {
    uint8_t byte = (uint8_t)value;
    put(b, &byte, 1);
}

static inline bool same(const struct bytes *a, const struct bytes *b) {
    return a->len == b->len && (!a->len || !memcmp(a->data, b->data, a->len));
}

static inline uint32_t random_below(uint32_t *seed, size_t n) {
    *seed = *seed * 1664525u + 1013904223u;
    return n ? (*seed >> 8) % (uint32_t)n : 0;
}

/* A copy of its exact size, for the sanitizer. */
static inline uint8_t *exact_copy(const uint8_t *data, size_t len) {
    uint8_t *copy = malloc(len ? len : 1);
    MUST(copy);
    if (len)
        memcpy(copy, data, len);
    return copy;
}

#endif
