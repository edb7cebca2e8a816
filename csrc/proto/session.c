/*
 * session.c - the rules of RFC 6455 for one open connection. What we send is in
 * session_out.c, what it keeps in session_keep.c. From top to bottom: state,
 * input, frame headers, control frames, data frames, events.
 */
#include "session.h"

#include <string.h>

#include "deflate.h"
#include "mask.h"
#include "session_private.h"

/* Inflating less than this is never called a bomb. */
#define RATIO_FREE ((size_t)64 * 1024)
static const char ratio_text[] = "message inflates too much";

/* What a step of the parser came to; the first three are enum cws_parse. */
enum step { STEP_BAD = -1, STEP_MORE = 0, STEP_ITEM = 1, STEP_ON = 2 };

/* --- state --------------------------------------------------------------- */

/* "Fail the WebSocket Connection" (RFC 6455 7.1.7). */
static enum step fail(struct cws_session *s, struct cws_event *event,
                      uint16_t code, const char *why) {
    cws_session_set_state(s, s->state == CWS_SESSION_OPEN ? CWS_SESSION_FAILED
                                                          : CWS_SESSION_CLOSED);
    event->type = CWS_EVENT_FAIL;
    event->code = code;
    event->data = (const uint8_t *)why;
    event->len = strlen(why);
    return STEP_ITEM;
}

static enum step out_of_memory(struct cws_session *s) {
    cws_session_set_state(s, CWS_SESSION_CLOSED);
    return STEP_BAD;
}

/* --- input --------------------------------------------------------------- */

void cws_session_feed(struct cws_session *s, uint8_t *data, size_t len) {
    s->input = data;
    s->input_len = len;
}

size_t cws_session_rest(struct cws_session *s, uint8_t **data) {
    size_t len = s->input_len;
    *data = s->input;
    s->input_len = 0;
    return len;
}

static void advance(struct cws_session *s, size_t n) {
    s->input += n;
    s->input_len -= n;
}

/* How much of the frame's payload is in the input. */
static size_t at_hand(const struct cws_session *s) {
    return s->left < s->input_len ? (size_t)s->left : s->input_len;
}

/* Takes n bytes of payload off the input, unmasked. */
static const uint8_t *take(struct cws_session *s, size_t n) {
    uint8_t *data = s->input;
    if (s->role == CWS_SERVER) {
        size_t plain = s->plain < n ? s->plain : n;
        cws_mask(data + plain, n - plain, s->key, s->masked);
        s->masked = (uint8_t)((s->masked + (n - plain)) & 3);
        s->plain -= (uint32_t)plain;
    }
    advance(s, n);
    s->left -= n;
    return data;
}

/* --- frame headers ------------------------------------------------------- */

/* What is wrong with a header by itself (all are 1002), or NULL. Of the length
 * it needs, as bad_place does, only the seven bits of the second byte. */
static const char *bad_form(const struct cws_session *s,
                            const struct cws_frame *f) {
    /* 5.1: "a client MUST mask all frames", "a server MUST NOT mask any" */
    if (f->masked != (s->role == CWS_SERVER))
        return f->masked ? "masked frame from a server"
                         : "unmasked frame from a client";
    /* 5.2: "If a nonzero value is received and none of the negotiated
     * extensions defines the meaning"; RFC 7692 6: RSV1 only on the first
     * fragment of a data message */
    if (f->rsv & 3)
        return "reserved bit set";
    if ((f->rsv & 4) && (!s->deflate || f->opcode == CWS_OP_CONTINUATION ||
                         cws_session_is_control(f->opcode)))
        return "reserved bit 1 set";
    if ((f->opcode > CWS_OP_BINARY && f->opcode < CWS_OP_CLOSE) ||
        f->opcode > CWS_OP_PONG)
        return "unknown opcode";
    return NULL;
}

/* What is wrong with a header at this place in the stream, or NULL. */
static const char *bad_place(const struct cws_session *s,
                             const struct cws_frame *f) {
    if (cws_session_is_control(f->opcode)) {
        /* 5.5: "MUST have a payload length of 125 bytes or less and MUST NOT
         * be fragmented" */
        if (!f->fin)
            return "fragmented control frame";
        return f->len > CWS_FRAME_CONTROL_MAX ? "control frame too long" : NULL;
    }
    if (f->opcode == CWS_OP_CONTINUATION)
        return s->opcode ? NULL : "continuation without a message";
    /* 5.4: "the fragments of one message MUST NOT be interleaved" */
    return s->opcode ? "new message inside a fragmented message" : NULL;
}

/* Of a message within the limit, not inflated: the longest codes take 9 bits
 * for a byte, and a sender may flush after each fragment. */
static size_t longest_wire(size_t max, size_t fragments) {
    size_t more = max / 8 + 1024 + 16 * fragments;
    return max > SIZE_MAX - more ? max : max + more;
}

/* Limits by the header alone, by subtraction: nothing wraps. */
static const char *over_limit(const struct cws_session *s,
                              const struct cws_frame *f, uint16_t *code) {
    bool first = f->opcode != CWS_OP_CONTINUATION;
    bool compressed = first ? f->rsv & 4 : s->compressed;
    size_t before = first ? 0 : compressed ? s->wire : s->total;
    size_t max = s->limits->max_message;
    if (compressed)
        max = longest_wire(max, first ? 1 : s->fragments + 1);
    *code = CWS_CLOSE_TOO_BIG;
    if (before > max || f->len > max - before)
        return "message too big";
    *code = CWS_CLOSE_POLICY_VIOLATION;
    if (!first && s->fragments >= s->limits->max_fragments)
        return "too many fragments";
    return NULL;
}

static void begin_frame(struct cws_session *s, const struct cws_frame *f) {
    s->in_frame = true;
    s->fin = f->fin;
    s->frame_opcode = f->opcode;
    s->left = f->len;
    s->masked = 0;
    s->plain = 0;
    memcpy(s->key, f->key, sizeof s->key);
    if (cws_session_is_control(f->opcode))
        return;
    if (f->opcode != CWS_OP_CONTINUATION) {
        s->opcode = f->opcode;
        s->compressed = f->rsv & 4;
        s->total = s->wire = s->fragments = 0;
        s->utf8 = (struct cws_utf8){0};
    }
    s->fragments++;
}

/* A header in two parts: the first waits in cut_header. */
static enum cws_parse read_parts(struct cws_session *s, struct cws_frame *f) {
    size_t used, have = s->cut;
    size_t n = sizeof s->cut_header - have;
    if (n > s->input_len)
        n = s->input_len;
    if (n)
        memcpy(s->cut_header + have, s->input, n);
    enum cws_parse result = cws_frame_read(s->cut_header, have + n, f, &used);
    if (result == CWS_ITEM)
        n = used - have;
    s->cut = result == CWS_MORE ? (uint8_t)(have + n) : 0;
    advance(s, n);
    return result;
}

/* The first two bytes of a header, once, as soon as both are there: they say
 * all but the length. */
static bool peek(const struct cws_session *s, struct cws_frame *f) {
    if (s->cut >= 2 || s->cut + s->input_len < 2)
        return false;
    uint8_t first = s->cut ? s->cut_header[0] : s->input[0];
    uint8_t second = s->input[s->cut ? 0 : 1];
    *f = (struct cws_frame){.len = second & 0x7F,
                            .opcode = first & 0x0F,
                            .fin = first & 0x80,
                            .rsv = first >> 4 & 7,
                            .masked = second & 0x80};
    return true;
}

static enum step header(struct cws_session *s, struct cws_event *event) {
    struct cws_frame f;
    const char *why = NULL;
    size_t used = 0;
    if (!s->input_len)
        return STEP_MORE;
    enum cws_parse result =
        s->cut ? CWS_MORE : cws_frame_read(s->input, s->input_len, &f, &used);
    if ((result == CWS_ITEM || peek(s, &f)) && !(why = bad_form(s, &f)))
        why = bad_place(s, &f);
    if (why)
        return fail(s, event, CWS_CLOSE_PROTOCOL_ERROR, why);
    advance(s, used);
    if (result == CWS_MORE)
        result = read_parts(s, &f);
    if (result == CWS_MORE)
        return STEP_MORE;
    if (result == CWS_BAD) /* 5.2: the minimal number of bytes MUST be used */
        return fail(s, event, CWS_CLOSE_PROTOCOL_ERROR, "bad frame length");
    uint16_t code;
    if (!cws_session_is_control(f.opcode) && s->state == CWS_SESSION_OPEN &&
        (why = over_limit(s, &f, &code)) != NULL)
        return fail(s, event, code, why);
    begin_frame(s, &f);
    return STEP_ON;
}

/* --- control frames ------------------------------------------------------ */

bool cws_session_code_valid(int code) {
    /* 7.4.1, 7.4.2; 1004-1006 and 1015 "MUST NOT be set as a status code" */
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}

static enum step got_close(struct cws_session *s, struct cws_event *event) {
    event->code = CWS_CLOSE_NO_STATUS;
    if (event->len == 1)
        return fail(s, event, CWS_CLOSE_PROTOCOL_ERROR, "bad close frame");
    if (event->len) {
        event->code = (uint16_t)(event->data[0] << 8 | event->data[1]);
        event->data += 2;
        event->len -= 2;
        if (!cws_session_code_valid(event->code))
            return fail(s, event, CWS_CLOSE_PROTOCOL_ERROR, "bad close code");
        if (!cws_utf8_valid(event->data, event->len)) /* 8.1 */
            return fail(s, event, CWS_CLOSE_INVALID_PAYLOAD,
                        "close reason is not UTF-8");
    }
    event->type = CWS_EVENT_CLOSE;
    cws_session_set_state(s, s->state == CWS_SESSION_OPEN
                                 ? CWS_SESSION_CLOSE_RECEIVED
                                 : CWS_SESSION_CLOSED);
    return STEP_ITEM;
}

/* Collects the payload of a control frame that came in several parts. It has
 * a place of its own: a fragmented message may be under way. */
static const uint8_t *collect(struct cws_session *s, size_t n) {
    if (!s->control && !(s->control = cws_calloc(CWS_FRAME_CONTROL_MAX)))
        return NULL;
    if (n)
        memcpy(s->control + s->cut, take(s, n), n);
    s->cut = (uint8_t)(s->cut + n);
    return s->control;
}

static enum step control_payload(struct cws_session *s,
                                 struct cws_event *event) {
    size_t n = at_hand(s);
    if (n < s->left || s->cut) {
        if (!(event->data = collect(s, n)))
            return out_of_memory(s);
        if (s->left)
            return STEP_MORE;
        event->len = s->cut;
        s->cut = 0;
    } else {
        event->data = take(s, n);
        event->len = n;
    }
    s->in_frame = false;
    event->opcode = s->frame_opcode;
    if (s->frame_opcode == CWS_OP_CLOSE)
        return got_close(s, event);
    event->type =
        s->frame_opcode == CWS_OP_PING ? CWS_EVENT_PING : CWS_EVENT_PONG;
    return STEP_ITEM;
}

/* --- data frames --------------------------------------------------------- */

/* Fills the event of a message or piece. */
static enum step give(struct cws_session *s, struct cws_event *event,
                      const uint8_t *data, size_t len, bool last) {
    event->type = s->streaming ? CWS_EVENT_PIECE : CWS_EVENT_MESSAGE;
    event->opcode = s->opcode;
    event->fin = last;
    event->compressed = s->compressed;
    event->data = data;
    event->len = len;
    if (last) {
        s->opcode = 0;
        s->streaming = false;
    }
    return STEP_ITEM;
}

/* 8.1: bytes of a text message that are not UTF-8 fail the connection, as
 * soon as they are seen. */
static bool text_ok(struct cws_session *s, const uint8_t *data, size_t len) {
    return s->opcode != CWS_OP_TEXT || cws_utf8_feed(&s->utf8, data, len);
}

static enum step not_utf8(struct cws_session *s, struct cws_event *event) {
    return fail(s, event, CWS_CLOSE_INVALID_PAYLOAD, "text is not UTF-8");
}

/* The last frame's payload is complete. The rest of the message, perhaps
 * nothing, stands in `message`. */
static enum step message_complete(struct cws_session *s,
                                  struct cws_event *event) {
    if (s->opcode == CWS_OP_TEXT && !cws_utf8_complete(&s->utf8))
        return not_utf8(s, event);
    s->lent = cws_buf_len(&s->message);
    const uint8_t *data = s->lent ? cws_buf_bytes(&s->message) : s->input;
    return give(s, event, data, s->lent, true);
}

/* The whole message lies in the input: nothing is copied. */
static enum step in_place(struct cws_session *s, struct cws_event *event) {
    size_t len = (size_t)s->left;
    const uint8_t *data = take(s, len);
    s->in_frame = false;
    if (s->opcode == CWS_OP_TEXT && !cws_utf8_valid(data, len))
        return not_utf8(s, event);
    return give(s, event, data, len, true);
}

/* Nearly every frame: a short message, all of it at hand, between messages.
 * 0x81 or 0x82 and the right mask bit before a length below 126 leave nothing
 * of the rules for headers to ask. Returns the bytes of its header, or 0. */
static size_t short_header(const struct cws_session *s) {
    const uint8_t *in = s->input;
    bool masked = s->role == CWS_SERVER;
    size_t head = masked ? 6 : 2;
    if (s->input_len < head || s->in_frame || s->opcode || s->cut ||
        s->state != CWS_SESSION_OPEN)
        return 0;
    size_t len = in[1] ^ (masked ? 0x80u : 0u);
    bool data =
        in[0] == (0x80 | CWS_OP_TEXT) || in[0] == (0x80 | CWS_OP_BINARY);
    bool whole = len < 126 && len <= s->input_len - head;
    return data && whole && len <= s->limits->max_message ? head : 0;
}

static enum step short_message(struct cws_session *s, struct cws_event *event,
                               size_t head) {
    uint8_t *data = s->input + head;
    size_t len = s->input[1] & 0x7F;
    s->opcode = s->input[0] & 0x0F;
    s->compressed = false;
    if (head > 2)
        cws_mask(data, len, data - sizeof s->key, 0);
    advance(s, head + len);
    if (s->opcode == CWS_OP_TEXT && !cws_utf8_valid(data, len))
        return not_utf8(s, event);
    return give(s, event, data, len, true);
}

/* All input was used, nothing is under way, nothing is kept: what the call
 * behind the last message nearly always finds. */
static bool at_rest(const struct cws_session *s) {
    return !s->input_len && cws_session_idle(s) && !s->cut && !s->message.cap &&
           !s->control && s->state == CWS_SESSION_OPEN;
}

/* Streaming: what a message left in `message` before it was streamed. */
static enum step buffered_piece(struct cws_session *s,
                                struct cws_event *event) {
    size_t len = cws_buf_len(&s->message);
    s->lent = len < CWS_SESSION_PIECE ? len : CWS_SESSION_PIECE;
    return give(s, event, cws_buf_bytes(&s->message), s->lent, false);
}

/* Bytes that cws_session_place let the caller read into `message`. */
static bool accept_placed(struct cws_session *s) {
    uint8_t *data = cws_buf_bytes(&s->message) + cws_buf_len(&s->message);
    size_t n = s->placed;
    s->placed = 0;
    if (s->state != CWS_SESSION_OPEN) { /* closed since it was offered */
        s->left -= n;
        s->masked = (uint8_t)((s->masked + n) & 3);
        return true;
    }
    if (s->role == CWS_SERVER) {
        cws_mask(data, n, s->key, s->masked);
        s->masked = (uint8_t)((s->masked + n) & 3);
    }
    cws_buf_added(&s->message, n);
    s->left -= n;
    s->total += n;
    return text_ok(s, data, n);
}

/* Uncompressed payload that is not given in place. */
static enum step plain_payload(struct cws_session *s, struct cws_event *event) {
    size_t n = at_hand(s);
    if (s->streaming && n > CWS_SESSION_PIECE)
        n = CWS_SESSION_PIECE;
    const uint8_t *data = take(s, n);
    s->total += n;
    if (!text_ok(s, data, n))
        return not_utf8(s, event);
    if (s->left == 0)
        s->in_frame = false;
    bool last = s->left == 0 && s->fin;
    if (s->streaming) {
        if (last && s->opcode == CWS_OP_TEXT && !cws_utf8_complete(&s->utf8))
            return not_utf8(s, event);
        if (n || last)
            return give(s, event, data, n, last);
    } else if (cws_buf_append(&s->message, data, n) < 0) {
        return out_of_memory(s);
    }
    if (last)
        return message_complete(s, event);
    return s->left ? STEP_MORE : STEP_ON;
}

static void unmask_ahead(struct cws_session *s, size_t have) {
    if (s->role == CWS_CLIENT || have <= s->plain)
        return;
    cws_mask(s->input + s->plain, have - s->plain, s->key, s->masked);
    s->masked = (uint8_t)((s->masked + (have - s->plain)) & 3);
}

/* Appends what is at hand to `message`, at most `room`. */
static enum cws_parse inflate(struct cws_session *s, size_t room) {
    size_t have = at_hand(s), len = have;
    unmask_ahead(s, have);
    const uint8_t *data = s->input;
    bool last = s->fin && have == s->left;
    enum cws_parse result =
        cws_deflate_expand(s->deflate, &data, &len, last, &s->message, room);
    s->plain = s->role == CWS_SERVER ? (uint32_t)len : 0;
    s->left -= have - len;
    s->wire += have - len;
    advance(s, have - len);
    s->inflating = result == CWS_MORE;
    return result;
}

/* Up to the next look at the ratio; one byte over the limit tells. */
static size_t inflate_room(const struct cws_session *s) {
    size_t step = CWS_SESSION_PIECE - s->total % CWS_SESSION_PIECE;
    size_t left = s->limits->max_message - s->total;
    return left < step ? left + 1 : step;
}

static bool inflates_too_much(const struct cws_session *s) {
    return s->total > RATIO_FREE && s->total / s->limits->max_ratio > s->wire;
}

/* The ratio is looked at every 64 KiB and at the end. What zlib has taken when
 * it is there depends on how the input was cut; what it takes until it has no
 * room for the next byte does not. */
static enum cws_parse inflate_step(struct cws_session *s, bool *too_much) {
    *too_much = false;
    if (s->total % CWS_SESSION_PIECE || s->total <= RATIO_FREE)
        return inflate(s, inflate_room(s));
    size_t before = cws_buf_len(&s->message);
    enum cws_parse result = inflate(s, 0);
    bool over = inflates_too_much(s);
    if (result == CWS_MORE)
        result = inflate(s, inflate_room(s));
    *too_much = over && cws_buf_len(&s->message) > before;
    return result;
}

static enum step check_inflated(struct cws_session *s, struct cws_event *event,
                                size_t got, bool last) {
    size_t before = cws_buf_len(&s->message) - got;
    s->total += got;
    if (got && !text_ok(s, cws_buf_bytes(&s->message) + before, got))
        return not_utf8(s, event);
    if (s->total > s->limits->max_message)
        return fail(s, event, CWS_CLOSE_TOO_BIG, "message too big");
    if (last && inflates_too_much(s))
        return fail(s, event, CWS_CLOSE_TOO_BIG, ratio_text);
    return STEP_ON;
}

/* One step of inflating the frame's payload (RFC 7692 7.2.2). */
static enum step compressed_payload(struct cws_session *s,
                                    struct cws_event *event) {
    size_t before = cws_buf_len(&s->message);
    bool too_much;
    enum cws_parse result = inflate_step(s, &too_much);
    if (result == CWS_BAD && cws_deflate_error(s->deflate) == CWS_EMEMORY)
        return out_of_memory(s);
    if (too_much)
        return fail(s, event, CWS_CLOSE_TOO_BIG, ratio_text);
    size_t got = cws_buf_len(&s->message) - before;
    bool frame_done = result == CWS_ITEM && s->left == 0;
    bool last = frame_done && s->fin;
    enum step step = check_inflated(s, event, got, last);
    if (step != STEP_ON)
        return step;
    if (result == CWS_BAD)
        return fail(s, event, CWS_CLOSE_INVALID_PAYLOAD, "bad compressed data");
    s->in_frame = !frame_done;
    if (last)
        return message_complete(s, event);
    if (s->streaming && got)
        return buffered_piece(s, event);
    return result == CWS_ITEM && s->left ? STEP_MORE : STEP_ON;
}

static enum step data_payload(struct cws_session *s, struct cws_event *event) {
    if (s->state == CWS_SESSION_CLOSE_SENT) { /* 1.4: data is discarded */
        (void)take(s, at_hand(s));
        if (s->left)
            return STEP_MORE;
        s->in_frame = false;
        if (s->fin)
            s->opcode = 0;
        return STEP_ON;
    }
    if (!s->input_len && s->left && !s->inflating)
        return STEP_MORE;
    if (s->compressed)
        return compressed_payload(s, event);
    if (s->fragments == 1 && s->fin && !s->streaming && !s->total &&
        s->left <= s->input_len)
        return in_place(s, event);
    return plain_payload(s, event);
}

/* --- events -------------------------------------------------------------- */

enum cws_parse cws_session_next(struct cws_session *s,
                                struct cws_event *event) {
    if (s->lent) {
        cws_buf_consume(&s->message, s->lent);
        s->lent = 0;
    }
    if (at_rest(s))
        return CWS_MORE;
    enum step step = STEP_ON;
    size_t head = short_header(s);
    if (head)
        step = short_message(s, event, head);
    else if (s->placed && !accept_placed(s))
        step = not_utf8(s, event);
    else if (s->streaming && s->state == CWS_SESSION_OPEN &&
             cws_buf_len(&s->message))
        step = buffered_piece(s, event);
    while (step == STEP_ON && s->state <= CWS_SESSION_CLOSE_SENT) {
        if (!s->in_frame)
            step = header(s, event);
        else if (cws_session_is_control(s->frame_opcode))
            step = control_payload(s, event);
        else
            step = data_payload(s, event);
    }
    if (step == STEP_BAD || step == STEP_ITEM)
        return (enum cws_parse)step;
    if (s->state > CWS_SESSION_CLOSE_SENT)
        s->input_len = 0;
    if (s->state != CWS_SESSION_OPEN) /* nobody gets what is in it */
        cws_buf_clear(&s->message);
    if (cws_session_idle(s) || s->state != CWS_SESSION_OPEN)
        cws_session_shrink(s);
    return CWS_MORE;
}
