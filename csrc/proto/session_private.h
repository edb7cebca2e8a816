/*
 * session_private.h - what session.c, session_keep.c and session_out.c share.
 */
#ifndef CWS_PROTO_SESSION_PRIVATE_H
#define CWS_PROTO_SESSION_PRIVATE_H

#include "session.h"

/* The only place where the state changes. */
static inline void cws_session_set_state(struct cws_session *s,
                                         enum cws_session_state state) {
    s->state = (uint8_t)state;
}

/* Between two messages. */
static inline bool cws_session_idle(const struct cws_session *s) {
    return !s->in_frame && !s->opcode;
}

static inline bool cws_session_is_control(uint8_t opcode) {
    return opcode & 8;
}

/* A streamed piece, and one step of inflating. */
#define CWS_SESSION_PIECE ((size_t)64 * 1024)

#endif
