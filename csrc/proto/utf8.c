#include "utf8.h"

#include <stdatomic.h>
#include <string.h>

#include "utf8_simd.h"

/* What may follow a lead byte: how many continuation bytes, and the range of
 * the first of them (RFC 3629 section 4: no overlong forms, no surrogates,
 * nothing above U+10FFFF). */
static bool lead(struct cws_utf8 *s, uint8_t c) {
    s->low = 0x80;
    s->high = 0xBF;
    if (c >= 0xC2 && c <= 0xDF) {
        s->need = 1;
    } else if (c >= 0xE0 && c <= 0xEF) {
        s->need = 2;
        if (c == 0xE0)
            s->low = 0xA0;
        else if (c == 0xED)
            s->high = 0x9F;
    } else if (c >= 0xF0 && c <= 0xF4) {
        s->need = 3;
        if (c == 0xF0)
            s->low = 0x90;
        else if (c == 0xF4)
            s->high = 0x8F;
    } else {
        return false;
    }
    return true;
}

static inline bool follow(struct cws_utf8 *s, uint8_t c) {
    if (c < s->low || c > s->high)
        return false;
    s->low = 0x80;
    s->high = 0xBF;
    s->need--;
    return true;
}

static inline uint64_t word(const uint8_t *data) {
    uint64_t bytes;
    memcpy(&bytes, data, sizeof bytes);
    return bytes;
}

#define HIGH_BITS 0x8080808080808080u

/* The reference: byte by byte but for runs of ASCII. */
static bool feed_bytes(struct cws_utf8 *s, const uint8_t *data, size_t len) {
    size_t i = 0;
    while (i < len) {
        if (s->need) {
            if (!follow(s, data[i++]))
                return false;
            continue;
        }
        while (i + 16 <= len &&
               !((word(data + i) | word(data + i + 8)) & HIGH_BITS))
            i += 16;
        while (i < len && data[i] < 0x80)
            i++;
        if (i < len && !lead(s, data[i++]))
            return false;
    }
    return true;
}

/* --- which implementation ------------------------------------------------- */

/* Skips nothing: feed_bytes does it all. */
static size_t check_nothing(const uint8_t *data, size_t len) {
    (void)data;
    (void)len;
    return 0;
}

static const struct cws_utf8_simd portable = {"portable", check_nothing};

/* Set at first use. Threads that come together set the same. */
static const struct cws_utf8_simd *_Atomic chosen;

static const struct cws_utf8_simd *choose(void) {
    const struct cws_utf8_simd *best = cws_utf8_simd_get(0);
    if (!best)
        best = &portable;
    atomic_store_explicit(&chosen, best, memory_order_relaxed);
    return best;
}

static inline const struct cws_utf8_simd *implementation(void) {
    const struct cws_utf8_simd *it =
        atomic_load_explicit(&chosen, memory_order_relaxed);
    return it ? it : choose();
}

const char *cws_utf8_implementation(void) {
    return implementation()->name;
}

bool cws_utf8_force(const char *name) {
    const struct cws_utf8_simd *it = &portable;
    for (size_t n = 0; it && strcmp(it->name, name) != 0; n++)
        it = cws_utf8_simd_get(n);
    if (it)
        atomic_store_explicit(&chosen, it, memory_order_relaxed);
    return it != NULL;
}

/* --- feeding -------------------------------------------------------------- */

/* Most messages are short and ASCII: for them this costs less than a call. */
static inline bool is_short_ascii(const uint8_t *data, size_t len) {
    if (len >= 128)
        return false;
    if (len < 8) {
        for (; len && *data < 0x80; len--)
            data++;
        return len == 0;
    }
    const uint8_t *last = data + len - 8;
    uint64_t bits = word(last);
    for (; data < last; data += 8)
        bits |= word(data);
    return !(bits & HIGH_BITS);
}

static bool feed(struct cws_utf8 *s, const uint8_t *data, size_t len) {
    size_t i = 0;
    if (len < 3 + CWS_UTF8_SIMD_MIN)
        return feed_bytes(s, data, len);
    while (s->need)
        if (!follow(s, data[i++]))
            return false;
    i += implementation()->check(data + i, len - i);
    return i == len || feed_bytes(s, data + i, len - i);
}

bool cws_utf8_feed(struct cws_utf8 *s, const uint8_t *data, size_t len) {
    return (!s->need && is_short_ascii(data, len)) || feed(s, data, len);
}

bool cws_utf8_valid(const uint8_t *data, size_t len) {
    struct cws_utf8 state = {0};
    return is_short_ascii(data, len) ||
           (feed(&state, data, len) && cws_utf8_complete(&state));
}
