/*
 * session_keep.c - the life of a session, and the bytes that it keeps from one
 * call to the next.
 */
#include "session.h"

#include <string.h>

#include "deflate.h"
#include "session_private.h"

void cws_session_init(struct cws_session *s, enum cws_role role,
                      const struct cws_session_limits *limits,
                      struct cws_deflate *deflate) {
    memset(s, 0, sizeof *s);
    s->role = (uint8_t)role;
    s->limits = limits;
    s->deflate = deflate;
}

void cws_session_free(struct cws_session *s) {
    cws_buf_free(&s->message);
    cws_free(s->control);
    s->control = NULL;
    cws_deflate_free(s->deflate);
    s->deflate = NULL;
}

bool cws_session_partial(const struct cws_session *s) {
    return !cws_session_idle(s) || s->cut;
}

bool cws_session_pending(const struct cws_session *s) {
    if (s->state > CWS_SESSION_CLOSE_SENT)
        return false;
    bool kept = s->streaming && cws_buf_len(&s->message) > s->lent;
    bool open = s->state == CWS_SESSION_OPEN;
    return s->input_len || s->placed || (open && (kept || s->inflating));
}

void cws_session_stream(struct cws_session *s) {
    s->streaming = true;
}

uint8_t *cws_session_place(struct cws_session *s, size_t least, size_t *room) {
    if (!s->in_frame || cws_session_is_control(s->frame_opcode) ||
        s->compressed || s->streaming || s->state != CWS_SESSION_OPEN ||
        s->lent || s->left < least)
        return NULL;
    size_t have = cws_buf_len(&s->message);
    size_t want =
        have > CWS_SESSION_PIECE ? have : CWS_SESSION_PIECE; /* doubles */
    *room = s->left < want ? (size_t)s->left : want;
    return cws_buf_room(&s->message, *room);
}

void cws_session_placed(struct cws_session *s, size_t n) {
    s->placed = n;
}

size_t cws_session_memory(const struct cws_session *s) {
    return s->message.cap + (s->control ? CWS_FRAME_CONTROL_MAX : 0) +
           (s->deflate ? cws_deflate_memory(s->deflate) : 0);
}

void cws_session_shrink(struct cws_session *s) {
    if (s->message.cap && !cws_buf_len(&s->message))
        cws_buf_free(&s->message);
    if (s->control && !s->cut) {
        cws_free(s->control);
        s->control = NULL;
    }
}
