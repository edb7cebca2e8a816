/*
 * outq.h - bytes on their way out of one connection: a list of nodes, gathered
 * into one sendmsg. Small pieces share a node; a node comes from the loop's
 * spare ones and goes back to them, so that a connection without unsent bytes
 * holds nothing.
 */
#ifndef CWS_NET_OUTQ_H
#define CWS_NET_OUTQ_H

#include <sys/uio.h>

#include "loop.h"

#define CWS_OUTQ_NODE (64 * 1024)           /* bytes of a node, with its head */
#define CWS_OUTQ_SMALL 1024                 /* of the first one of a queue */
#define CWS_OUTQ_SPARE (16 * CWS_OUTQ_NODE) /* of each that a loop keeps */

/* Bytes shared by several queues: one encoded frame of a broadcast. */
struct cws_shared {
    size_t refs;
    size_t len;
    uint8_t data[];
};
/* One reference; NULL when memory is out. */
struct cws_shared *cws_shared_new(size_t len);
struct cws_shared *cws_shared_keep(struct cws_shared *shared);
void cws_shared_drop(struct cws_shared *shared); /* NULL is fine */

struct cws_outq {
    struct cws_out_node *first;
    struct cws_out_node *last;
    size_t bytes; /* unsent */
};

/* Room for exactly `len` bytes in a row at the tail; NULL when memory is out.
 * Follow with cws_outq_added, with no other call between. */
uint8_t *cws_outq_room(struct cws_outq *q, struct cws_loop *loop, size_t len);
void cws_outq_added(struct cws_outq *q, size_t len);

/* Copies, over several nodes where needed. 0 or CWS_EMEMORY (then nothing was
 * appended). */
int cws_outq_append(struct cws_outq *q, struct cws_loop *loop, const void *data,
                    size_t len);

/* Shares bytes from `at` on: keeps a reference of its own. 0 or CWS_EMEMORY. */
int cws_outq_share(struct cws_outq *q, struct cws_loop *loop,
                   struct cws_shared *shared, size_t at);

/* The first parts, at most `max`; returns how many. Lent until the next call.
 */
int cws_outq_iov(const struct cws_outq *q, struct iovec *iov, int max);

/* The first n <= bytes have left. */
void cws_outq_consume(struct cws_outq *q, struct cws_loop *loop, size_t n);

/* The kernel is slow: moves a small rest out of a large node. */
void cws_outq_trim(struct cws_outq *q, struct cws_loop *loop);

void cws_outq_free(struct cws_outq *q, struct cws_loop *loop);

/* Frees the loop's spare nodes. */
void cws_outq_free_spare(struct cws_loop *loop);

#endif
