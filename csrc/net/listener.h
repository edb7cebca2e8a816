/*
 * listener.h - a listening socket: accepts in batches, counts what is open,
 * starts an exchange for each.
 */
#ifndef CWS_NET_LISTENER_H
#define CWS_NET_LISTENER_H

#include "exchange.h"
#include "loop.h"
#include "options.h"
#include "tcp.h"

struct cws_listener;

/*
 * address: "host:port", ":port" (every address, IPv4 and IPv6), "[::1]:port". A
 * host with several addresses: the first IPv4 one, else the first, as Go's
 * net.Listen. Port 0 lets the
 * kernel choose. options is kept; events are those of its exchanges, with
 * `user`. NULL with *error ("listen: 127.0.0.1:80: permission denied"). A
 * listener in use reports only once for the same accept error (EMFILE...),
 * through events->log, and goes on as soon as descriptors are free.
 */
struct cws_listener *cws_listener_open(struct cws_loop *loop,
                                       const char *address,
                                       struct cws_options *options,
                                       const struct cws_exchange_events *events,
                                       void *user, struct cws_error *error);

/* The real address, with the port that the kernel chose. */
void cws_listener_address(const struct cws_listener *l,
                          char out[CWS_ADDRESS_TEXT]);

/* Closes the socket: nothing is accepted any more. What is open lives on, but
 * for connections that have not sent a byte (browsers open them ahead).
 * Idempotent. */
void cws_listener_stop(struct cws_listener *l);
bool cws_listener_stopped(const struct cws_listener *l);

/* Exchanges and connections that came from it and are open. */
size_t cws_listener_open_count(const struct cws_listener *l);

/* Calls fn for each open connection that came from it; fn may close it. */
void cws_listener_each(struct cws_listener *l,
                       void (*fn)(struct cws_conn *c, void *arg), void *arg);

/* Ends everything that came from it at once: exchanges (one that waits for its
 * handler is `gone` in the next turn) and connections (cws_conn_terminate). */
void cws_listener_terminate(struct cws_listener *l);

/* Owner's end: stops it; freed with the last connection. `user` is not used any
 * more: exchanges that have not handed on their request yet are closed. */
void cws_listener_release(struct cws_listener *l);

/* For the loop's teardown, when no exchange and no connection is left: closes
 * and frees. The owner must not use it any more. */
void cws_listener_abort(struct cws_listener *l);
struct cws_listener *cws_listener_from_link(struct cws_link *link);

/* For exchange and conn: one place among max_connections. One more than that
 * is answered 503, up to CWS_LISTENER_EXTRA at a time; who comes then is only
 * closed. */
#define CWS_LISTENER_EXTRA 16
void cws_listener_enter(struct cws_listener *l);
void cws_listener_leave(struct cws_listener *l);
struct cws_options *cws_listener_options(const struct cws_listener *l);

#endif
