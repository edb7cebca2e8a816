/*
 * utf8.c - every implementation against a slow reference, whole and cut. The
 * first two bytes of the input are the seed of the cuts, the third is how far
 * from aligned memory the text lies.
 */
#include "../proto/utf8.h"

#include "span_fuzz.h"

#define OPTIONS 3

/* --- the reference: what code points could these bytes begin? ------------- */

/* Bytes of a character by its first; 0: none begins so. */
static size_t length(uint8_t first) {
    return first < 0x80   ? 1
           : first < 0xC0 ? 0
           : first < 0xE0 ? 2
           : first < 0xF0 ? 3
           : first < 0xF8 ? 4
                          : 0;
}

/* True when some code point of that range has just this length (RFC 3629). */
static bool any(uint32_t low, uint32_t high, size_t len) {
    static const uint32_t first[] = {0, 0, 0x80, 0x800, 0x10000};
    static const uint32_t last[] = {0, 0x7F, 0x7FF, 0xFFFF, 0x10FFFF};
    if (low < first[len])
        low = first[len];
    if (high > last[len])
        high = last[len];
    if (low >= 0xD800 && low <= 0xDFFF)
        low = 0xE000;
    return low <= high;
}

/* True when the n bytes begin a character, or are one. */
static bool begins(const uint8_t *bytes, size_t n) {
    static const uint8_t bits[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    size_t len = length(bytes[0]);
    if (!len || n > len)
        return false;
    uint32_t low = bytes[0] & bits[len], high = low;
    for (size_t i = 1; i < len; i++) {
        if (i < n && (bytes[i] & 0xC0) != 0x80)
            return false;
        low = low << 6 | (i < n ? bytes[i] & 0x3Fu : 0);
        high = high << 6 | (i < n ? bytes[i] & 0x3Fu : 0x3Fu);
    }
    return any(low, high, len);
}

/* The place of the first byte that nothing can make valid, or len; *complete:
 * the text may end there. */
static size_t reference(const uint8_t *text, size_t len, bool *complete) {
    size_t start = 0;
    for (size_t i = 0; i < len; i++) {
        if (!begins(text + start, i + 1 - start))
            return i;
        if (i + 1 - start == length(text[start]))
            start = i + 1;
    }
    *complete = start == len;
    return len;
}

/* --- what must hold --------------------------------------------------------
 */

static void check_whole(const uint8_t *text, size_t len, size_t shift,
                        size_t bad, bool complete) {
    uint8_t *memory = malloc(shift + len);
    MUST(memory || !(shift + len));
    if (len)
        memcpy(memory + shift, text, len);
    MUST(cws_utf8_valid(memory + shift, len) == (bad == len && complete));
    free(memory);
}

static void check_cut(const uint8_t *text, size_t len, uint32_t seed,
                      size_t bad, bool complete) {
    struct cws_utf8 state = {0};
    for (size_t at = 0; at < len;) {
        size_t end = next_cut(&seed, at, len);
        struct cws_span part = span_copy(text + at, end - at);
        bool fine = cws_utf8_feed(&state, (const uint8_t *)part.data, part.len);
        span_free(part);
        MUST(fine == (bad >= end));
        if (!fine)
            return;
        at = end;
    }
    MUST(cws_utf8_complete(&state) == complete);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const names[] = {"portable", "ssse3", "avx2"};
    if (size < OPTIONS)
        return 0;
    uint32_t seed = (uint32_t)data[0] << 8 | data[1];
    size_t shift = data[2] % 64, len = size - OPTIONS;
    bool complete = false;
    size_t bad = reference(data + OPTIONS, len, &complete);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!cws_utf8_force(names[i]))
            continue;
        check_whole(data + OPTIONS, len, shift, bad, complete);
        check_cut(data + OPTIONS, len, seed, bad, complete);
    }
    return 0;
}
