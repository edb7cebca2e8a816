#include "mask.h"

#include <string.h>

/* The key as it applies from `offset` on, eight bytes wide. */
static uint64_t wide_key(const uint8_t key[4], size_t offset) {
    uint8_t bytes[8];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = key[(offset + i) & 3];
    uint64_t wide;
    memcpy(&wide, bytes, sizeof wide);
    return wide;
}

static inline void mask_word(uint8_t *dst, const uint8_t *src, uint64_t wide) {
    uint64_t word;
    memcpy(&word, src, sizeof word);
    word ^= wide;
    memcpy(dst, &word, sizeof word);
}

/* The loops are shaped so that compilers vectorise the first. */
static inline void mask(uint8_t *dst, const uint8_t *src, size_t len,
                        const uint8_t key[4], size_t offset) {
    uint64_t wide = wide_key(key, offset);
    size_t i = 0;
    for (; i + 32 <= len; i += 32)
        for (size_t j = 0; j < 32; j += 8)
            mask_word(dst + i + j, src + i + j, wide);
    for (; i + 8 <= len; i += 8)
        mask_word(dst + i, src + i, wide);
    for (; i < len; i++)
        dst[i] = src[i] ^ key[(offset + i) & 3];
}

void cws_mask(uint8_t *data, size_t len, const uint8_t key[4], size_t offset) {
    mask(data, data, len, key, offset);
}

void cws_mask_copy(uint8_t *dst, const uint8_t *src, size_t len,
                   const uint8_t key[4], size_t offset) {
    mask(dst, src, len, key, offset);
}
