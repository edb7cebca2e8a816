/*
 * session_private.h - what session.c and session_out.c share.
 */
#ifndef CWS_PROTO_SESSION_PRIVATE_H
#define CWS_PROTO_SESSION_PRIVATE_H

#include "session.h"

/* The only place where the state changes. */
static inline void cws_session_set_state(struct cws_session *s,
                                         enum cws_session_state state) {
    s->state = (uint8_t)state;
}

#endif
