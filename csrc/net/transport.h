/*
 * transport.h - a byte stream under HTTP and WebSocket: tcp now, tls with the
 * same table. The owner drives it from its ev_io; a transport never waits.
 */
#ifndef CWS_NET_TRANSPORT_H
#define CWS_NET_TRANSPORT_H

#include <sys/types.h>
#include <sys/uio.h>

#include "../cws.h"

#define CWS_TRANSPORT_AGAIN (-1000) /* not now: wait for `want` */

struct cws_transport;

struct cws_transport_ops {
    const char *name; /* "tcp", "tls" */
    /* Bytes read; 0 at the end of the stream; CWS_TRANSPORT_AGAIN; CWS_EIO or
     * CWS_ETLS with t->error. EINTR is handled inside. */
    ssize_t (*read)(struct cws_transport *t, void *data, size_t len);
    /* Bytes taken (1 or more); CWS_TRANSPORT_AGAIN; CWS_EIO, CWS_ETLS. Raises
     * no SIGPIPE. At most CWS_TRANSPORT_IOV parts. */
    ssize_t (*write)(struct cws_transport *t, const struct iovec *iov,
                     int count);
    /* Ends the write side (FIN, close_notify). Best effort. */
    void (*shutdown)(struct cws_transport *t);
    /* Closes the descriptor and frees what the transport owns. With `abort`
     * the peer gets a reset where that is possible. Idempotent. */
    void (*close)(struct cws_transport *t, bool abort);
};

#define CWS_TRANSPORT_IOV 64

struct cws_transport {
    const struct cws_transport_ops *ops;
    int fd;    /* -1 when closed */
    int error; /* errno of the last CWS_EIO */
    void *tls; /* owned by the tls transport */
};

/* tcp.c: takes a connected, non-blocking, close-on-exec socket without Nagle's
 * delay. */
void cws_tcp_init(struct cws_transport *t, int fd);

#endif
