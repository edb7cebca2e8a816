/*
 * utf8_simd.h - the parts of utf8.c that the vector units of a processor do.
 *
 * They only skip: `check` says how many bytes at the start of a text are whole
 * valid characters, and utf8.c goes on from there byte by byte. So the verdict
 * and the state are always those of utf8.c.
 */
#ifndef CWS_PROTO_UTF8_SIMD_H
#define CWS_PROTO_UTF8_SIMD_H

#include "../cws.h"

#define CWS_UTF8_SIMD_MIN ((size_t)16)

struct cws_utf8_simd {
    const char *name;
    /* data[0] starts a character; len >= CWS_UTF8_SIMD_MIN. In a text without
     * an invalid byte the result is len, or less by the one to three bytes of
     * a character that is not complete; otherwise it ends at most 64 bytes
     * before the first invalid byte. */
    size_t (*check)(const uint8_t *data, size_t len);
};

/* The n-th of those that this processor can run, best first; NULL when there
 * are no more. Static storage. */
const struct cws_utf8_simd *cws_utf8_simd_get(size_t n);

#endif
