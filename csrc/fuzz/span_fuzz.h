/*
 * span_fuzz.h - spans in memory of their exact size, and cuts.
 */
#ifndef CWS_FUZZ_SPAN_FUZZ_H
#define CWS_FUZZ_SPAN_FUZZ_H

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A copy, to be freed. */
static inline struct cws_span span_copy(const void *data, size_t len) {
    struct cws_span span = {(char *)exact_copy(data, len), len};
    return span;
}

static inline void span_free(struct cws_span span) {
    free((void *)(uintptr_t)span.data);
}

static inline bool span_same(struct cws_span a, struct cws_span b) {
    return a.len == b.len && (!a.len || memcmp(a.data, b.data, a.len) == 0);
}

/* Where the segment that starts at `at` ends. */
static inline size_t next_cut(uint32_t *seed, size_t at, size_t len) {
    size_t longest = random_below(seed, 4) ? 16 : 1 + len;
    size_t n = 1 + random_below(seed, longest);
    return n < len - at ? at + n : len;
}

#endif
