/*
 * conn_private.h - the inside of a connection, for conn.c (life, reading),
 * conn_out.c (writing), conn_prepared.c (for many) and conn_end.c (closing,
 * time).
 */
#ifndef CWS_NET_CONN_PRIVATE_H
#define CWS_NET_CONN_PRIVATE_H

#include "conn.h"

#include "../proto/deflate.h"
#include "../proto/session.h"

enum conn_phase {
    CONN_OPEN,     /* frames go both ways */
    CONN_CLOSING,  /* we sent close; the peer's is to come */
    CONN_FLUSHING, /* nothing more to say: the queue leaves */
    CONN_DRAINING, /* all is sent; until the peer ends its side */
    CONN_CLOSED    /* no descriptor */
};

/* Made when the end is decided. */
struct conn_end {
    uint16_t code;
    bool clean;
    uint8_t len;
    char text[CWS_FRAME_CONTROL_MAX + 1];
};

/* The newest pong that waits behind bytes which the kernel refused. */
struct conn_pong {
    uint8_t len;
    uint8_t frame[CWS_SESSION_CONTROL_MAX];
};

/* Messages for many that came inside a message of this connection's own: they
 * wait for its end. */
struct conn_behind {
    struct conn_behind_node *first, *last;
    size_t bytes;
};

struct cws_conn {
    struct cws_link link; /* loop->conns */
    struct cws_loop *loop;
    const struct cws_conn_events *events; /* NULL once released */
    void *user;
    struct cws_options *options;
    struct cws_listener *listener; /* its place, until closed */
    struct cws_transport transport;
    struct cws_session session;
    ev_io io;
    ev_timer timer;
    struct cws_job work;  /* parses raw, tells, frees */
    struct cws_job dirty; /* flushes */
    struct cws_outq out;
    struct cws_buf raw;   /* received, not parsed yet */
    struct cws_buf inbox; /* messages that wait, each behind a conn_entry */
    size_t inbox_count;
    struct conn_end *end;
    struct conn_end *held; /* an end that waits for what came before it */
    struct conn_pong *pong;
    struct conn_behind *behind; /* or NULL */
    double alive;               /* last sign of life of the peer */
    double active;              /* last data message, either way */
    double deadline;            /* of CLOSING, FLUSHING, DRAINING */
    double ping_at; /* when the ping that waits for its pong left; 0: none */
    uint64_t ping_mark; /* it has left when bytes_sent reaches this; 0: has */
    uint64_t messages_received, messages_sent, bytes_received, bytes_sent;
    float rtt;        /* seconds; negative: not known */
    uint32_t ping_id; /* payload of our newest keepalive ping */
    uint32_t drained; /* bytes thrown away in FLUSHING and DRAINING */
    uint32_t turn;    /* the loop's, of `burst` */
    size_t burst;     /* bytes that were sent in that turn */
    union cws_address remote;
    uint8_t phase;
    bool released : 1;
    bool want : 1;
    bool want_send : 1;
    bool blocked : 1;     /* the kernel refused bytes: the write watcher runs */
    bool eof : 1;         /* the peer has ended its side */
    bool broken : 1;      /* writing failed; what is received still counts */
    bool paused : 1;      /* the inbox is over its high mark */
    bool compressing : 1; /* inside a message that we send compressed */
    bool watch_pings : 1;
    bool watch_pongs : 1;
    bool told_ended : 1;
    bool told_closed : 1;
};

/* conn.c */
void cws_conn_update_io(struct cws_conn *c);
void cws_conn_post(struct cws_conn *c);

/* conn_out.c */
int cws_conn_queue(struct cws_conn *c, const void *data, size_t len);
void cws_conn_mark_dirty(struct cws_conn *c);
/* Writes what it can; may close the connection. */
void cws_conn_write(struct cws_conn *c);
void cws_conn_pong(struct cws_conn *c, const uint8_t *frame, size_t len);
/* Queues the frame that the event demands. */
void cws_conn_answer(struct cws_conn *c, const struct cws_event *event);
/* Queues the pong that was held back: before a close frame, since nothing is
 * sent after one (RFC 6455 5.5.1). */
void cws_conn_release_pong(struct cws_conn *c);
void cws_conn_run_dirty(struct cws_job *job);
/* The message had begun, or was compressed into the window that the peer does
 * not have, or memory ran out between header and payload: the peer cannot make
 * sense of what would follow. Fails the connection; returns err. */
int cws_conn_send_failed(struct cws_conn *c, int err);
/* A frame of so many bytes has been queued. */
void cws_conn_queued(struct cws_conn *c, size_t size, bool fin);
/* Bound of calls that cannot wait: 0, CWS_ECLOSED, CWS_EBUSY or CWS_ELIMIT. */
int cws_conn_fits(const struct cws_conn *c, size_t len);
/* A compressed message has left the loop's buffer. */
void cws_conn_trim_scratch(struct cws_loop *loop);

/* conn_prepared.c */
void cws_conn_free_behind(struct cws_conn *c);
/* Our message has ended: what came meanwhile goes on its way. */
void cws_conn_send_behind(struct cws_conn *c);

/* conn_end.c */
void cws_conn_end(struct cws_conn *c, uint16_t code, bool clean,
                  const void *text, size_t len);
void cws_conn_free_end(struct cws_conn *c);
void cws_conn_lost(struct cws_conn *c, const char *cause);
void cws_conn_got_close(struct cws_conn *c, const struct cws_event *event);
/* Ends, after what was held back: when there is such an end. */
void cws_conn_release_held(struct cws_conn *c);
void cws_conn_got_pong(struct cws_conn *c, const struct cws_event *event);
void cws_conn_flushed(struct cws_conn *c);
void cws_conn_close_transport(struct cws_conn *c, bool abort);
void cws_conn_free_input(struct cws_conn *c);
void cws_conn_on_timer(struct ev_loop *ev, ev_timer *timer, int revents);
void cws_conn_schedule(struct cws_conn *c);

#endif
