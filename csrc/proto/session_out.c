/*
 * session_out.c - what an open connection sends (RFC 6455 5.5, 6.1, 7.1.2):
 * headers of data frames, whole control frames.
 */
#include "session.h"

#include <string.h>

#include "crypto.h"
#include "deflate.h"
#include "mask.h"
#include "session_private.h"

/* --- out: data ----------------------------------------------------------- */

/* 5.3: "a fresh masking key, for each frame", from a strong source. */
static int write_header(struct cws_session *s, struct cws_frame *frame,
                        uint8_t *out) {
    frame->masked = s->role == CWS_CLIENT;
    if (frame->masked && cws_crypto_mask_key(frame->key) < 0)
        return CWS_EINTERNAL;
    return (int)cws_frame_write(frame, out);
}

/* 5.5.1: nothing after our close frame; before it, also when the peer's has
 * come. */
static bool is_over(const struct cws_session *s) {
    return s->said_close || s->state == CWS_SESSION_CLOSED;
}

int cws_session_header(struct cws_session *s, uint8_t opcode, bool fin,
                       bool compressed, size_t len, struct cws_frame *frame,
                       uint8_t out[CWS_FRAME_HEADER_MAX]) {
    if (is_over(s))
        return CWS_ECLOSED;
    if (s->sending != (opcode == CWS_OP_CONTINUATION))
        return CWS_EUSAGE;
    frame->len = len;
    frame->opcode = opcode;
    frame->fin = fin;
    /* RFC 7692 6: MUST NOT be set on "non-first fragments" */
    frame->rsv = compressed && opcode != CWS_OP_CONTINUATION ? 4 : 0;
    int n = write_header(s, frame, out);
    if (n > 0)
        s->sending = !fin;
    return n;
}

uint32_t cws_session_packing(const struct cws_session *s) {
    return s->deflate ? cws_deflate_packing(s->deflate) : 0;
}

int cws_session_compress(struct cws_session *s, const uint8_t *data, size_t len,
                         bool last, struct cws_buf *out) {
    return cws_deflate_compress(s->deflate, data, len, last, out);
}

/* --- out: control -------------------------------------------------------- */

static int write_control(struct cws_session *s, uint8_t opcode,
                         const uint8_t *data, size_t len, uint8_t *out) {
    struct cws_frame frame = {.len = len, .opcode = opcode, .fin = true};
    int n = write_header(s, &frame, out);
    if (n < 0)
        return n;
    if (frame.masked)
        cws_mask_copy(out + n, data, len, frame.key, 0);
    else if (len)
        memcpy(out + n, data, len);
    return n + (int)len;
}

int cws_session_control(struct cws_session *s, uint8_t opcode,
                        const uint8_t *data, size_t len,
                        uint8_t out[CWS_SESSION_CONTROL_MAX]) {
    if (is_over(s))
        return CWS_ECLOSED;
    return write_control(s, opcode, data, len, out);
}

int cws_session_close(struct cws_session *s, uint16_t code, const char *reason,
                      size_t len, uint8_t out[CWS_SESSION_CONTROL_MAX]) {
    uint8_t payload[CWS_FRAME_CONTROL_MAX];
    if (s->said_close) /* 5.5.1: at most one, and nothing after it */
        return 0;
    size_t n = 0;
    if (code) {
        payload[n++] = (uint8_t)(code >> 8);
        payload[n++] = (uint8_t)(code & 0xFF);
        if (len > sizeof payload - n)
            len = sizeof payload - n;
        if (len)
            memcpy(payload + n, reason, len);
        n += len;
    }
    int size = write_control(s, CWS_OP_CLOSE, payload, n, out);
    if (size < 0)
        return size;
    s->said_close = true;
    cws_session_set_state(s, s->state == CWS_SESSION_OPEN
                                 ? CWS_SESSION_CLOSE_SENT
                                 : CWS_SESSION_CLOSED);
    return size;
}

int cws_session_answer(struct cws_session *s, const struct cws_event *event,
                       uint8_t out[CWS_SESSION_CONTROL_MAX]) {
    switch (event->type) {
    case CWS_EVENT_PING: /* 5.5.3: "identical Application data" */
        if (s->said_close)
            return 0;
        return write_control(s, CWS_OP_PONG, event->data, event->len, out);
    case CWS_EVENT_CLOSE: { /* 5.5.1: "typically echos the status code" */
        bool none = event->code == CWS_CLOSE_NO_STATUS;
        return cws_session_close(s, none ? 0 : event->code, NULL, 0, out);
    }
    case CWS_EVENT_FAIL:
        return cws_session_close(s, event->code, (const char *)event->data,
                                 event->len, out);
    default:
        return 0;
    }
}

void cws_session_fail(struct cws_session *s) {
    if (s->state == CWS_SESSION_OPEN)
        cws_session_set_state(s, CWS_SESSION_FAILED);
}
