/*
 * exchange.h - the server's side of one HTTP request: reads the head, answers
 * what is wrong with it, hands it on, writes the answer, or becomes a
 * WebSocket. One request a connection (Connection: close always).
 *
 *   READING ──head──▶ WAITING ──respond()──▶ WRITING ──▶ DRAINING ──▶ gone
 *      │                 └────upgrade()────▶ (a struct cws_conn) gone
 *      └─bad or late: respond() by itself
 *
 * READING ends at handshake_timeout (408 once a byte has arrived, else just
 * closed), WAITING at handler_timeout (503 and `gone`), WRITING at
 * response_timeout, DRAINING after 64 KiB or 1 s.
 */
#ifndef CWS_NET_EXCHANGE_H
#define CWS_NET_EXCHANGE_H

#include "../proto/handshake.h"
#include "conn.h"
#include "loop.h"

struct cws_exchange_events {
    /* The head is there and satisfies cws_handshake_request. The receiver must
     * (now or later) respond or upgrade. */
    void (*request)(struct cws_exchange *x, void *user);
    /* A WAITING exchange is over before it was answered (handler_timeout): x
     * must not be used any more, in this call neither. `owner` is what
     * cws_exchange_own set. */
    void (*gone)(struct cws_exchange *x, void *owner);
    /* The last exchange or connection of the listener has ended. It notes that
     * and returns. */
    void (*idle)(void *user);
    /* One line for the log: accept errors, a TLS hello on a plain port. */
    void (*log)(void *user, const char *line);
};

void cws_exchange_start(struct cws_loop *loop, struct cws_listener *listener,
                        int fd, const union cws_address *remote,
                        const struct cws_exchange_events *events, void *user);
void cws_exchange_own(struct cws_exchange *x, void *owner);

/* Answers 503 at once, whatever the peer will ask: for one connection too
 * many. Takes a place of its listener too. */
void cws_exchange_turn_away(struct cws_loop *loop,
                            struct cws_listener *listener, int fd,
                            const union cws_address *remote);

/* Valid while WAITING; spans are lent until it is answered or upgraded. */
const struct cws_request *cws_exchange_request(const struct cws_exchange *x);
const struct cws_http *cws_exchange_http(const struct cws_exchange *x);
const char *cws_exchange_head(const struct cws_exchange *x);
const union cws_address *cws_exchange_remote(const struct cws_exchange *x);
struct cws_listener *cws_exchange_listener(const struct cws_exchange *x);

/*
 * Answers; x is not to be used any more. `fields` are complete header lines,
 * checked by the caller. HEAD gets no body, nor do 204, 205 and 304. body is
 * copied as far as the kernel does not take it at once.
 */
void cws_exchange_respond(struct cws_exchange *x, int status,
                          struct cws_span fields, struct cws_span body);

/* A short plain-text answer, as bad-input.md's H(n): body is "status text\n"
 * unless given. */
void cws_exchange_refuse(struct cws_exchange *x, int status, const char *text);

/* The checks of cws_handshake_upgrade, for the caller's policy on top. Returns
 * 0, or the status with *why: the caller refuses. *out borrows from the head.
 */
int cws_exchange_check(struct cws_exchange *x, struct cws_upgrade *out,
                       const char **why);

/*
 * Becomes a WebSocket. `upgrade` from cws_exchange_check; protocol and fields
 * as in cws_handshake_write_101; options is kept (deflate is negotiated by it).
 * On success x is gone and *conn is open with events and user. Otherwise
 * CWS_EMEMORY or CWS_EINTERNAL, x has answered 500 and is gone.
 */
int cws_exchange_upgrade(struct cws_exchange *x,
                         const struct cws_upgrade *upgrade,
                         struct cws_span protocol, struct cws_span fields,
                         struct cws_options *options,
                         const struct cws_conn_events *events, void *user,
                         struct cws_conn **conn);

/* For the listener: closes those of its exchanges that have not sent a byte
 * yet; those too whose head is not complete, so that `request` and `log` are
 * not called any more; or all, where a WAITING one is `gone` in the next
 * turn. */
enum cws_exchange_stop {
    CWS_EXCHANGE_SILENT,
    CWS_EXCHANGE_READING,
    CWS_EXCHANGE_ALL
};
void cws_exchange_stop(struct cws_loop *loop, struct cws_listener *listener,
                       enum cws_exchange_stop which);

/* For the loop's teardown: closes and frees, without a callback. */
void cws_exchange_abort(struct cws_exchange *x);
struct cws_exchange *cws_exchange_from_link(struct cws_link *link);

#endif
