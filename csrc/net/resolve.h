/*
 * resolve.h - host names to addresses without stopping the loop: getaddrinfo
 * in a thread of its own. Numeric addresses are answered without a thread
 * (still from the loop, never inside cws_resolve_start).
 *
 * The thread blocks all signals, owns all memory it touches and never touches
 * the loop: a mailbox with its own reference count wakes the loop (through a
 * descriptor it shares), or finds that the loop is gone. At most
 * CWS_RESOLVE_THREADS run at once, the rest wait in a queue.
 */
#ifndef CWS_NET_RESOLVE_H
#define CWS_NET_RESOLVE_H

#include "loop.h"
#include "tcp.h"

#define CWS_RESOLVE_THREADS 8
#define CWS_RESOLVE_MAX 16 /* addresses kept of one name */

struct cws_resolve;

/* `addresses` is lent for the call. count 0: `why` says what getaddrinfo said
 * ("no such host", ...). The cws_resolve is freed after the call. */
typedef void cws_resolve_done(void *user, const union cws_address *addresses,
                              size_t count, const char *why);

/* NULL with errno: ENOMEM, EMFILE, ENFILE, EAGAIN (no thread). passive: for
 * listening (AI_PASSIVE, empty host is the wildcard). */
struct cws_resolve *cws_resolve_start(struct cws_loop *loop, const char *host,
                                      int port, bool passive,
                                      cws_resolve_done *done, void *user);
/* No callback any more. NULL is fine. */
void cws_resolve_cancel(struct cws_resolve *resolve);

/* The same, waiting: for listen(). Returns the count, or CWS_EDNS with *why. */
int cws_resolve_now(const char *host, int port, bool passive,
                    union cws_address out[CWS_RESOLVE_MAX], const char **why);

#endif
