/*
 * session.h - one WebSocket connection after the handshake, RFC 6455 sections
 * 5 to 8 and RFC 7692, both roles: bytes in, events out. Knows no socket, no
 * clock, no Lua.
 *
 * In:  feed() lends it bytes, next() gives one event after the other until it
 *      says "need more". Payload is unmasked and checked in place; a message
 *      that lies whole in the fed bytes is never copied.
 * Out: it makes headers and control frames; the caller puts them on the wire
 *      in the order it asked for them.
 *
 * State (one enum, one setter):
 *
 *   OPEN ──close()──▶ CLOSE_SENT ──peer's close──▶ CLOSED
 *     ├─peer's close─▶ CLOSE_RECEIVED ──answer()──▶ CLOSED
 *     └─bad input───▶ FAILED ──answer()──▶ CLOSED
 *   bad input in CLOSE_SENT ──▶ CLOSED
 *
 * In CLOSE_SENT data frames are still checked for form but not delivered
 * (RFC 6455 1.4). In CLOSE_RECEIVED, FAILED and CLOSED all input is dropped.
 */
#ifndef CWS_PROTO_SESSION_H
#define CWS_PROTO_SESSION_H

#include "buf.h"
#include "frame.h"
#include "utf8.h"

struct cws_deflate;

enum cws_session_state {
    CWS_SESSION_OPEN,
    CWS_SESSION_CLOSE_SENT,
    CWS_SESSION_CLOSE_RECEIVED,
    CWS_SESSION_FAILED,
    CWS_SESSION_CLOSED
};

/* SIZE_MAX: unlimited. */
struct cws_session_limits {
    size_t max_message;   /* payload bytes, joined and inflated; 1009 */
    size_t max_fragments; /* frames of one message, empty ones too; 1008 */
    size_t max_ratio;     /* inflated : compressed, above 64 KiB; 1009 */
};

enum cws_event_type {
    CWS_EVENT_MESSAGE, /* data/len, opcode: a whole message */
    CWS_EVENT_PIECE,   /* data/len, opcode, fin: streaming, see stream() */
    CWS_EVENT_PING,    /* data/len; then answer() makes the pong */
    CWS_EVENT_PONG,    /* data/len */
    CWS_EVENT_CLOSE,   /* code (1005: none), data/len: the reason, UTF-8;
                          then answer() makes the echo, if one is due */
    CWS_EVENT_FAIL     /* code, data/len: why, ASCII; then answer() makes our
                          close frame, if one is due */
};

/* data is lent until the next call of next(), feed() or answer(). */
struct cws_event {
    enum cws_event_type type;
    uint8_t opcode;
    bool fin;
    bool compressed; /* the message came with RSV1 */
    uint16_t code;
    const uint8_t *data;
    size_t len;
};

#define CWS_SESSION_CONTROL_MAX (CWS_FRAME_HEADER_MAX + CWS_FRAME_CONTROL_MAX)

/* Private to session.c; here so that it can be embedded. Laid out small: an
 * idle connection pays for every byte. */
struct cws_session {
    uint8_t state; /* enum cws_session_state */
    uint8_t role;  /* enum cws_role */

    /* The frame under way. */
    bool in_frame : 1; /* its header has been read */
    bool fin : 1;
    /* The message under way. */
    bool compressed : 1;
    bool streaming : 1;
    bool inflating : 1; /* there is output to come without more input */
    /* What we send. */
    bool sending : 1; /* a fragmented message has begun */
    bool said_close : 1;
    uint8_t frame_opcode;
    uint8_t opcode; /* of the message under way; 0: none */
    uint8_t cut;    /* bytes in cut_header, or in control */
    uint8_t cut_header[CWS_FRAME_HEADER_MAX];
    uint8_t key[4];
    uint8_t masked; /* payload bytes of the frame that came before, mod 4 */
    struct cws_utf8 utf8;
    uint32_t plain; /* bytes at the front of the input already unmasked */
    uint64_t left;  /* payload bytes of the frame still to come */

    uint8_t *input;
    size_t input_len;
    struct cws_buf message; /* a message that is not whole in the input */
    size_t lent;            /* bytes at the front of `message`: given */
    size_t placed;          /* bytes at its end: not unmasked yet */
    size_t total;           /* payload bytes of the message, inflated */
    size_t wire;            /* the same before inflating */
    size_t fragments;
    uint8_t *control; /* payload of a control frame that was cut */
    const struct cws_session_limits *limits;
    struct cws_deflate *deflate;
};

/* `limits` is borrowed and must live as long as the session. `deflate` (NULL:
 * not agreed) is taken: cws_session_free frees it. */
void cws_session_init(struct cws_session *s, enum cws_role role,
                      const struct cws_session_limits *limits,
                      struct cws_deflate *deflate);
void cws_session_free(struct cws_session *s);

/* Lends `data` (mutable: it is unmasked in place) until next() returns
 * CWS_MORE or the rest is taken back. Nothing fed earlier may be left. */
void cws_session_feed(struct cws_session *s, uint8_t *data, size_t len);

/*
 * CWS_ITEM: *event is one event. CWS_MORE: all input is used; what is not
 * complete has been kept. CWS_BAD: memory is out; the session is CLOSED.
 * After the event CLOSE or FAIL it only returns CWS_MORE.
 */
enum cws_parse cws_session_next(struct cws_session *s, struct cws_event *event);

/* Takes back the input that next() has not used; it is empty afterwards. The
 * same bytes must be fed before any others. Must not be called while a lent
 * event is in use. */
size_t cws_session_rest(struct cws_session *s, uint8_t **data);

/*
 * From now on the message that comes next, or is under way, is given in pieces
 * as bytes arrive (CWS_EVENT_PIECE, at most 64 KiB each, the last with `fin`;
 * pieces of text are checked but may cut a character). Ends by itself with
 * the message. max_message holds for the sum.
 */
void cws_session_stream(struct cws_session *s);

/*
 * A place for large payloads: when the session is inside a frame whose payload
 * goes to its own buffer and that has at least `least` bytes to come, returns
 * where the next bytes of the socket may be read to and sets *room; NULL
 * otherwise. After reading n bytes call cws_session_placed(s, n), then next()
 * as after a feed. Buffers grow with what has arrived, never with the length
 * announced.
 */
uint8_t *cws_session_place(struct cws_session *s, size_t least, size_t *room);
void cws_session_placed(struct cws_session *s, size_t n);

/*
 * True when next() has more to do without more input: bytes fed or placed, a
 * part of the message that was kept before stream(), or output that zlib still
 * holds. Who stops calling next() before it says CWS_MORE, or calls stream(),
 * must call it again as long as this is true, whether rest() gave bytes or not.
 */
bool cws_session_pending(const struct cws_session *s);

/* True inside a frame, a fragmented message or its inflation: an end of the
 * stream now would lose something. */
bool cws_session_partial(const struct cws_session *s);

/* Bytes that it holds in buffers of its own. Frees them when they are not
 * needed (called when a connection goes idle). */
size_t cws_session_memory(const struct cws_session *s);
void cws_session_shrink(struct cws_session *s);

/* --- out ---------------------------------------------------------------- */

/*
 * Header of a data frame: opcode TEXT or BINARY starts a message,
 * CONTINUATION goes on with it. For a client *frame->key is filled with a
 * fresh key: the caller masks. Returns 2..14, or CWS_ECLOSED after our close
 * frame (until answer() also in CLOSE_RECEIVED and FAILED: what came before may
 * be replied to), CWS_EUSAGE when it does not fit the fragments sent so far,
 * CWS_EINTERNAL without randomness.
 */
int cws_session_header(struct cws_session *s, uint8_t opcode, bool fin,
                       bool compressed, size_t len, struct cws_frame *frame,
                       uint8_t out[CWS_FRAME_HEADER_MAX]);

/* True inside a fragmented message that we send. */
static inline bool cws_session_sending(const struct cws_session *s) {
    return s->sending;
}

/* True when cws_session_header would make a header for a whole message of a
 * server, uncompressed and between others: it need not be asked then. */
static inline bool cws_session_plain(const struct cws_session *s) {
    return s->role == CWS_SERVER && s->state == CWS_SESSION_OPEN && !s->sending;
}

/* The header of such a message, of less than 126 bytes (5.2: FIN, no mask). */
#define CWS_SESSION_SHORT 2
static inline void cws_session_short_header(uint8_t opcode, size_t len,
                                            uint8_t out[CWS_SESSION_SHORT]) {
    out[0] = 0x80 | opcode;
    out[1] = (uint8_t)len;
}

static inline bool cws_session_can_compress(const struct cws_session *s) {
    return s->deflate != NULL;
}

/* Where deflate was agreed: appends the compressed piece to `out`. 0 or
 * CWS_EMEMORY; after an error the message cannot go on: fail the connection. */
int cws_session_compress(struct cws_session *s, const uint8_t *data, size_t len,
                         bool last, struct cws_buf *out);
/* What a compressed message of ours depends on besides itself: equal numbers
 * mean equal bytes; 0: on the messages before it, or nothing is compressed. */
uint32_t cws_session_packing(const struct cws_session *s);

/* A whole ping or pong, masked when it must be. len <= 125. Returns its size,
 * CWS_ECLOSED after our close frame, CWS_EINTERNAL. */
int cws_session_control(struct cws_session *s, uint8_t opcode,
                        const uint8_t *data, size_t len,
                        uint8_t out[CWS_SESSION_CONTROL_MAX]);

/* Our close frame: code 0 sends none (an empty close). OPEN → CLOSE_SENT. In
 * FAILED or CLOSE_RECEIVED it is the answer. Returns its size, or 0 when one
 * has been sent already, or CWS_EINTERNAL. */
int cws_session_close(struct cws_session *s, uint16_t code, const char *reason,
                      size_t len, uint8_t out[CWS_SESSION_CONTROL_MAX]);

/* The frame that the event just given demands: the pong of a PING, the echo
 * of a CLOSE, the close frame of a FAIL. Returns its size, 0 when none is due
 * (we have sent close already), or CWS_EINTERNAL. */
int cws_session_answer(struct cws_session *s, const struct cws_event *event,
                       uint8_t out[CWS_SESSION_CONTROL_MAX]);

/* Fails the session from outside (policy, internal error): OPEN → FAILED, no
 * more input is parsed; close() makes the frame. */
void cws_session_fail(struct cws_session *s);

/* True for a code that may stand on the wire: 1000-1003, 1007-1014,
 * 3000-4999. */
bool cws_session_code_valid(int code);

#endif
