/*
 * dial_body.h - the start of a refusal's body (RFC 9112 section 6): as many
 * bytes as are wanted, without the framing of the transfer. No I/O.
 */
#ifndef CWS_NET_DIAL_BODY_H
#define CWS_NET_DIAL_BODY_H

#include "../proto/http.h"
#include "dial.h"

#define CWS_DIAL_BODY_READ (64 * 1024) /* bytes of it that are read at most */

struct cws_dial_body {
    size_t len;
    char data[CWS_DIAL_BODY];
    /* Private. */
    uint8_t state;
    uint8_t digits; /* of the chunk size under way */
    size_t seen;    /* bytes fed, framing too */
    uint64_t left;  /* of the body or the chunk; UINT64_MAX: until the end */
};

/* Starts from the head of the answer. */
void cws_dial_body_init(struct cws_dial_body *body, const struct cws_http *http,
                        const char *head);

/* Takes bytes; returns true when no more are wanted: the body is complete or
 * malformed, enough was kept or CWS_DIAL_BODY_READ was read. */
bool cws_dial_body_feed(struct cws_dial_body *body, const char *data,
                        size_t len);

#endif
