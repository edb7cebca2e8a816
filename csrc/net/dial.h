/*
 * dial.h - the client's way to an open WebSocket: name, TCP (each address in
 * turn), request, answer. The counterpart of exchange.h.
 *
 *   RESOLVING ──▶ CONNECTING ──▶ SENDING ──▶ READING ──101──▶ a conn
 *                  └─▶ next address             └─other──▶ REFUSED ──▶ done
 *
 * RESOLVING and CONNECTING together end at connect_timeout; an address that
 * does not answer gets its share of what is left of it. SENDING and READING end
 * at handshake_timeout, and so does REFUSED, with as much of the body as came.
 */
#ifndef CWS_NET_DIAL_H
#define CWS_NET_DIAL_H

#include "../proto/handshake.h"
#include "conn.h"
#include "loop.h"

#define CWS_DIAL_BODY 1024      /* bytes of a refusal's body that are kept */
#define CWS_DIAL_INTERIM_MAX 10 /* 1xx answers that are skipped */

struct cws_dial;

struct cws_dial_events {
    /* Exactly once unless cancelled. On success error is NULL and conn is open
     * (give it its user with cws_conn_set_user). Otherwise conn is NULL; the
     * dial's response is there when the server answered. The dial is freed
     * after the call. */
    void (*done)(struct cws_dial *d, struct cws_conn *conn,
                 const struct cws_error *error, void *user);
};

struct cws_dial_start {
    const char *url; /* checked before with cws_url_parse; copied */
    size_t url_len;
    struct cws_span protocols;            /* joined by ", "; copied */
    struct cws_span fields;               /* complete lines; copied */
    struct cws_options *options;          /* kept */
    const struct cws_conn_events *events; /* of the connection, borrowed */
};

/* NULL when memory is out. Nothing is called back inside. */
struct cws_dial *cws_dial_start(struct cws_loop *loop,
                                const struct cws_dial_start *start,
                                const struct cws_dial_events *events,
                                void *user);
/* Closes and frees; no callback. NULL is fine. Inside `done` it does
 * nothing. */
void cws_dial_cancel(struct cws_dial *d);
struct cws_dial *cws_dial_from_link(struct cws_link *link); /* loop->dials */

/* Inside `done`: the answer's head, lent; NULL when none came. */
const struct cws_http *cws_dial_response(const struct cws_dial *d,
                                         const char **head);
struct cws_span cws_dial_body(const struct cws_dial *d); /* <= CWS_DIAL_BODY */
struct cws_span cws_dial_protocol(const struct cws_dial *d);

#endif
