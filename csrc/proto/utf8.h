/*
 * utf8.h - strict UTF-8 (RFC 3629: no surrogates, no overlong forms, nothing
 * above U+10FFFF), checked as bytes arrive.
 *
 * A struct cws_utf8 of zero is the start of a text. An invalid byte is
 * reported at the call that brings it, even inside an unfinished character,
 * as soon as no continuation could make it valid.
 */
#ifndef CWS_PROTO_UTF8_H
#define CWS_PROTO_UTF8_H

#include "../cws.h"

struct cws_utf8 {
    uint8_t need; /* continuation bytes still to come, 0..3 */
    uint8_t low;  /* range of the next one */
    uint8_t high;
};

/* True while all bytes so far are the beginning of valid UTF-8. After false
 * the state must be reset before it is used again. */
bool cws_utf8_feed(struct cws_utf8 *state, const uint8_t *data, size_t len);

/* True when the text may end here. */
static inline bool cws_utf8_complete(const struct cws_utf8 *state) {
    return state->need == 0;
}

/* The whole of a text at once. */
bool cws_utf8_valid(const uint8_t *data, size_t len);

/* The implementation chosen for this processor: "avx2", "ssse3" or
 * "portable". cws_utf8_force (tests) picks one by name; false when this
 * processor lacks it. */
const char *cws_utf8_implementation(void);
bool cws_utf8_force(const char *name);

#endif
