/*
 * dial_body.c - the start of a refusal's body.
 */
#include "dial_body.h"

#include <string.h>

enum body_state {
    DATA,  /* bytes of the body; `left` of them */
    SIZE,  /* the digits of a chunk size */
    EXT,   /* the rest of its line */
    CHUNK, /* bytes of a chunk */
    CR,    /* what follows a chunk */
    LF,
    DONE
};

/* A size with more digits has no honest reason. */
#define DIGITS_MAX 15

/* Digits only; anything else counts as "until the end of the stream". */
static uint64_t content_length(struct cws_span value) {
    uint64_t n = 0;
    if (!value.len || value.len > DIGITS_MAX)
        return UINT64_MAX;
    for (size_t i = 0; i < value.len; i++) {
        if (value.data[i] < '0' || value.data[i] > '9')
            return UINT64_MAX;
        n = n * 10 + (uint64_t)(value.data[i] - '0');
    }
    return n;
}

/* RFC 9112 6.3: no body with 204 and 304; Transfer-Encoding overrides
 * Content-Length; without both the end of the stream ends the body. */
void cws_dial_body_init(struct cws_dial_body *body, const struct cws_http *http,
                        const char *head) {
    memset(body, 0, sizeof *body);
    body->state = DATA;
    body->left = UINT64_MAX;
    if (http->status == 204 || http->status == 304) {
        body->state = DONE;
        return;
    }
    if (cws_http_has_token(http, head, "Transfer-Encoding", "chunked")) {
        body->state = SIZE;
        return;
    }
    if (cws_http_find(http, head, "Transfer-Encoding", 0))
        return;
    const struct cws_http_field *field =
        cws_http_find(http, head, "Content-Length", 0);
    if (field)
        body->left = content_length(cws_http_span(head, field->value));
    if (!body->left)
        body->state = DONE;
}

static int hex(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A byte of a chunk's size line, RFC 9112 7.1. */
static void feed_size(struct cws_dial_body *body, char c) {
    int digit = hex(c);
    if (digit >= 0 && body->digits < DIGITS_MAX) {
        body->left = body->left << 4 | (uint64_t)digit;
        body->digits++;
    } else if (!body->digits || digit >= 0) {
        body->state = DONE;
    } else {
        body->state = EXT;
    }
}

static void start_chunk(struct cws_dial_body *body) {
    body->digits = 0;
    body->state = body->left ? CHUNK : DONE; /* no use for trailers */
}

static void feed_frame(struct cws_dial_body *body, char c) {
    switch (body->state) {
    case SIZE:
        if (!body->digits)
            body->left = 0;
        feed_size(body, c);
        if (body->state != EXT || c != '\n')
            break;
        /* fallthrough */
    case EXT:
        if (c == '\n')
            start_chunk(body);
        break;
    case CR:
        body->state = c == '\r' ? LF : DONE;
        break;
    case LF:
        body->state = c == '\n' ? SIZE : DONE;
        break;
    default:
        break;
    }
}

/* Takes payload bytes; returns how many belonged to it. */
static size_t feed_data(struct cws_dial_body *body, const char *data,
                        size_t len) {
    size_t n = len < body->left ? len : (size_t)body->left;
    size_t room = CWS_DIAL_BODY - body->len;
    size_t kept = n < room ? n : room;
    memcpy(body->data + body->len, data, kept);
    body->len += kept;
    if (body->left != UINT64_MAX)
        body->left -= n;
    if (!body->left)
        body->state = body->state == CHUNK ? CR : DONE;
    return n;
}

bool cws_dial_body_feed(struct cws_dial_body *body, const char *data,
                        size_t len) {
    body->seen += len;
    while (len && body->state != DONE && body->len < CWS_DIAL_BODY) {
        size_t n = 1;
        if (body->state == DATA || body->state == CHUNK)
            n = feed_data(body, data, len);
        else
            feed_frame(body, *data);
        data += n;
        len -= n;
    }
    return body->state == DONE || body->len == CWS_DIAL_BODY ||
           body->seen >= CWS_DIAL_BODY_READ;
}
