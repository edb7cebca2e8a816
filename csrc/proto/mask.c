#include "mask.h"

#include <string.h>

static inline uint64_t load(const uint8_t *data) {
    uint64_t word;
    memcpy(&word, data, sizeof word);
    return word;
}

static inline void store(uint8_t *data, uint64_t word) {
    memcpy(data, &word, sizeof word);
}

/* The key as it applies from `offset` on, eight bytes wide. */
static inline uint64_t wide_key(const uint8_t key[4], size_t offset) {
    const uint64_t twice = 0x100000001; /* in either byte order */
    uint8_t bytes[8];
    uint32_t once;
    memcpy(&once, key, sizeof once);
    store(bytes, once * twice);
    memcpy(&once, bytes + (offset & 3), sizeof once);
    return once * twice;
}

/* What the compiler makes of it where there are no vectors is right as well. */
typedef uint64_t vector __attribute__((vector_size(16)));

static inline void mask_64(uint8_t *dst, const uint8_t *src, vector wide) {
    vector a, b, c, d;
    memcpy(&a, src, sizeof a);
    memcpy(&b, src + 16, sizeof b);
    memcpy(&c, src + 32, sizeof c);
    memcpy(&d, src + 48, sizeof d);
    a ^= wide;
    b ^= wide;
    c ^= wide;
    d ^= wide;
    memcpy(dst, &a, sizeof a);
    memcpy(dst + 16, &b, sizeof b);
    memcpy(dst + 32, &c, sizeof c);
    memcpy(dst + 48, &d, sizeof d);
}

/* The last word is taken first and written last: it may overlap the one before
 * it. */
static inline void mask(uint8_t *dst, const uint8_t *src, size_t len,
                        const uint8_t key[4], size_t offset) {
    size_t i = 0;
    if (len < 8) {
        for (; i < len; i++)
            dst[i] = src[i] ^ key[(offset + i) & 3];
        return;
    }
    uint64_t wide = wide_key(key, offset);
    uint64_t last = load(src + len - 8) ^ wide_key(key, offset + len);
    for (; i + 64 <= len; i += 64)
        mask_64(dst + i, src + i, (vector){wide, wide});
    for (; i + 8 < len; i += 8)
        store(dst + i, load(src + i) ^ wide);
    store(dst + len - 8, last);
}

void cws_mask(uint8_t *data, size_t len, const uint8_t key[4], size_t offset) {
    mask(data, data, len, key, offset);
}

void cws_mask_copy(uint8_t *dst, const uint8_t *src, size_t len,
                   const uint8_t key[4], size_t offset) {
    mask(dst, src, len, key, offset);
}
