/*
 * utf8_simd.c - UTF-8 checked 16 or 32 bytes at a time.
 *
 * All rules of RFC 3629 but one are about two neighbouring bytes: which byte
 * may follow which. Three tables of 16 entries know them: one bit for each kind
 * of error, set in the entries of the high half and of the low half of the
 * first byte and of the high half of the second. A pair is wrong in that way
 * when all three have the bit, so an AND of three look-ups finds every kind at
 * once.
 *
 * The rule that is left is where a continuation byte may follow another one:
 * two bytes after the lead of three or four (E0 and above) and three bytes
 * after the lead of four (F0 and above), and there it must. The tables call it
 * a pair; an XOR with what the bytes two and three places before demand leaves
 * what is wrong.
 *
 * A vector always starts on a character, as if zeros came before it. The next
 * one starts where the last unfinished character did.
 */
#include "utf8_simd.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

enum pair {
    SHORT = 1,      /* a lead, not followed by a continuation */
    LONG = 2,       /* ASCII, then a continuation */
    OVERLONG2 = 4,  /* C0, C1 */
    OVERLONG3 = 8,  /* E0 80..9F */
    SURROGATE = 16, /* ED A0..BF */
    LARGE = 32,     /* F4 90.., F5.. 90.. */
    LARGE4 = 64,    /* F0 80..8F (overlong), F5.. 80..8F */
    PAIR = 128      /* two continuations */
};

#define FOUR(x) x, x, x, x
#define SIXTEEN(x) FOUR(x), FOUR(x), FOUR(x), FOUR(x)

/* By the high half of the first byte: 0-7 ASCII, 8-B continuation, C-F lead. */
static const uint8_t first_high[16] = {FOUR(LONG),
                                       FOUR(LONG),
                                       FOUR(PAIR),
                                       SHORT | OVERLONG2,
                                       SHORT,
                                       SHORT | OVERLONG3 | SURROGATE,
                                       SHORT | LARGE | LARGE4};

/* By its low half. */
#define ANY (SHORT | LONG | PAIR)
#define OVER (ANY | LARGE | LARGE4)
static const uint8_t first_low[16] = {ANY | OVERLONG2 | OVERLONG3 | LARGE4,
                                      ANY | OVERLONG2,
                                      ANY,
                                      ANY,
                                      ANY | LARGE,
                                      FOUR(OVER),
                                      FOUR(OVER),
                                      OVER | SURROGATE,
                                      OVER,
                                      OVER};

/* By the high half of the second byte. */
#define FOLLOWS (LONG | OVERLONG2 | PAIR)
static const uint8_t second_high[16] = {FOUR(SHORT),
                                        FOUR(SHORT),
                                        FOLLOWS | OVERLONG3 | LARGE4,
                                        FOLLOWS | OVERLONG3 | LARGE,
                                        FOLLOWS | SURROGATE | LARGE,
                                        FOLLOWS | SURROGATE | LARGE,
                                        FOUR(SHORT)};

/* A vector of it read at n keeps the last n bytes of another, by AND. */
static const uint8_t keep_last[64] = {SIXTEEN(0), SIXTEEN(0), SIXTEEN(0xFF),
                                      SIXTEEN(0xFF)};

/* How many bytes before `end`, in a text without errors, begin a character
 * that goes on after it. At most one of the three holds. */
static inline size_t unfinished(const uint8_t *end) {
    return (size_t)(end[-1] >= 0xC0) + 2 * (size_t)(end[-2] >= 0xE0) +
           3 * (size_t)(end[-3] >= 0xF0);
}

/* --- 32 bytes ------------------------------------------------------------- */

#define AVX2 __attribute__((target("avx2")))

AVX2 static inline __m256i load32(const uint8_t *data) {
    return _mm256_loadu_si256((const __m256i *)(const void *)data);
}

AVX2 static inline __m256i find32(const uint8_t table[16], __m256i index) {
    __m128i half = _mm_loadu_si128((const __m128i *)(const void *)table);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(half), index);
}

/* What is wrong in v, which comes after the vector `before`: not zero. */
AVX2 static inline __m256i wrong32(__m256i before, __m256i v) {
    const __m256i low = _mm256_set1_epi8(0x0F);
    __m256i middle = _mm256_permute2x128_si256(before, v, 0x21);
    __m256i one = _mm256_alignr_epi8(v, middle, 15);
    __m256i two = _mm256_alignr_epi8(v, middle, 14);
    __m256i three = _mm256_alignr_epi8(v, middle, 13);
    __m256i one_high = _mm256_and_si256(_mm256_srli_epi16(one, 4), low);
    __m256i v_high = _mm256_and_si256(_mm256_srli_epi16(v, 4), low);
    __m256i pairs = _mm256_and_si256(
        find32(first_high, one_high),
        _mm256_and_si256(find32(first_low, _mm256_and_si256(one, low)),
                         find32(second_high, v_high)));
    /* the top bit is left where two >= E0 or three >= F0 */
    __m256i must =
        _mm256_or_si256(_mm256_subs_epu8(two, _mm256_set1_epi8(0xE0 - 0x80)),
                        _mm256_subs_epu8(three, _mm256_set1_epi8(0xF0 - 0x80)));
    return _mm256_xor_si256(
        pairs, _mm256_and_si256(must, _mm256_set1_epi8((char)0x80)));
}

AVX2 static inline bool any32(__m256i wrong) {
    return !_mm256_testz_si256(wrong, wrong);
}

static size_t check16(const uint8_t *data, size_t len);

AVX2 static size_t check32(const uint8_t *data, size_t len) {
    const uint8_t *at = data, *end = data + len;
    const __m256i zero = _mm256_setzero_si256();
    if (len < 32)
        return check16(data, len);
    while (end - at >= 64) {
        __m256i v = load32(at), w = load32(at + 32);
        if (!_mm256_movemask_epi8(_mm256_or_si256(v, w))) {
            at += 64;
            continue;
        }
        if (any32(_mm256_or_si256(wrong32(zero, v), wrong32(v, w))))
            return (size_t)(at - data);
        at += 64 - unfinished(at + 64);
    }
    while (end - at >= 32) {
        if (any32(wrong32(zero, load32(at))))
            return (size_t)(at - data);
        at += 32 - unfinished(at + 32);
    }
    __m256i rest =
        _mm256_and_si256(load32(end - 32), load32(keep_last + (end - at)));
    if (any32(wrong32(zero, rest)))
        return (size_t)(at - data);
    return len - unfinished(end);
}

/* --- 16 bytes ------------------------------------------------------------- */

#define SSSE3 __attribute__((target("ssse3")))

SSSE3 static inline __m128i load16(const uint8_t *data) {
    return _mm_loadu_si128((const __m128i *)(const void *)data);
}

SSSE3 static inline __m128i find16(const uint8_t table[16], __m128i index) {
    return _mm_shuffle_epi8(load16(table), index);
}

SSSE3 static inline __m128i wrong16(__m128i before, __m128i v) {
    const __m128i low = _mm_set1_epi8(0x0F);
    __m128i one = _mm_alignr_epi8(v, before, 15);
    __m128i two = _mm_alignr_epi8(v, before, 14);
    __m128i three = _mm_alignr_epi8(v, before, 13);
    __m128i one_high = _mm_and_si128(_mm_srli_epi16(one, 4), low);
    __m128i v_high = _mm_and_si128(_mm_srli_epi16(v, 4), low);
    __m128i pairs =
        _mm_and_si128(find16(first_high, one_high),
                      _mm_and_si128(find16(first_low, _mm_and_si128(one, low)),
                                    find16(second_high, v_high)));
    __m128i must =
        _mm_or_si128(_mm_subs_epu8(two, _mm_set1_epi8(0xE0 - 0x80)),
                     _mm_subs_epu8(three, _mm_set1_epi8(0xF0 - 0x80)));
    return _mm_xor_si128(pairs, _mm_and_si128(must, _mm_set1_epi8((char)0x80)));
}

SSSE3 static inline bool any16(__m128i wrong) {
    __m128i zero = _mm_setzero_si128();
    return _mm_movemask_epi8(_mm_cmpeq_epi8(wrong, zero)) != 0xFFFF;
}

SSSE3 static size_t check16(const uint8_t *data, size_t len) {
    const uint8_t *at = data, *end = data + len;
    const __m128i zero = _mm_setzero_si128();
    while (end - at >= 32) {
        __m128i v = load16(at), w = load16(at + 16);
        if (!_mm_movemask_epi8(_mm_or_si128(v, w))) {
            at += 32;
            continue;
        }
        if (any16(_mm_or_si128(wrong16(zero, v), wrong16(v, w))))
            return (size_t)(at - data);
        at += 32 - unfinished(at + 32);
    }
    while (end - at >= 16) {
        if (any16(wrong16(zero, load16(at))))
            return (size_t)(at - data);
        at += 16 - unfinished(at + 16);
    }
    __m128i rest =
        _mm_and_si128(load16(end - 16), load16(keep_last + 16 + (end - at)));
    if (any16(wrong16(zero, rest)))
        return (size_t)(at - data);
    return len - unfinished(end);
}

/* --- which ---------------------------------------------------------------- */

const struct cws_utf8_simd *cws_utf8_simd_get(size_t n) {
    static const struct cws_utf8_simd avx2 = {"avx2", check32};
    static const struct cws_utf8_simd ssse3 = {"ssse3", check16};
    if (__builtin_cpu_supports("avx2"))
        return n == 0 ? &avx2 : n == 1 ? &ssse3 : NULL;
    return n == 0 && __builtin_cpu_supports("ssse3") ? &ssse3 : NULL;
}

#else

const struct cws_utf8_simd *cws_utf8_simd_get(size_t n) {
    (void)n;
    return NULL;
}

#endif
