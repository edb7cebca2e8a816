/*
 * conn.h - one open WebSocket on a loop: a transport, a session, an inbox, an
 * output queue, one timer.
 *
 * Reading: a batch is what one read brought. While a batch is under way
 * cws_conn_receive takes messages straight from it; when nobody receives they
 * go to the inbox, up to its high mark; then reading stops.
 * Writing: while the loop runs, what is sent is corked and leaves at the end of
 * the batch of this connection, or at the end of the turn; large messages and
 * everything outside the loop leave at once.
 *
 * End: decided exactly once (cws_conn_end), when the peer's close, a failure,
 * the end of the stream or a deadline is seen. The peer's close and its errors
 * are seen only when all messages before them have been received, so that they
 * can be answered, or after 1 s; other ends at once, and messages received
 * before can still be received. The descriptor lives on until the closing
 * handshake of the socket is over (server: flush, shut the write side, drain at
 * most 64 KiB or 1 s; client: the peer's end of stream or close_timeout).
 *
 * Callbacks run from the loop only, never inside one of these functions, a
 * parser or a teardown.
 */
#ifndef CWS_NET_CONN_H
#define CWS_NET_CONN_H

#include "loop.h"
#include "options.h"
#include "outq.h"
#include "tcp.h"
#include "transport.h"

struct cws_listener;

struct cws_conn_events {
    /* After cws_conn_want: receive would give something (or the end). */
    void (*readable)(struct cws_conn *c, void *user);
    /* After cws_conn_want_send: cws_conn_can_send may have become true, or the
     * connection has ended. */
    void (*writable)(struct cws_conn *c, void *user);
    /* A PING or PONG arrived. data is lent. Only when cws_conn_watch asked.
     * The one callback that may come from inside cws_conn_receive: it notes
     * the event and returns. */
    void (*control)(struct cws_conn *c, void *user,
                    const struct cws_event *event);
    /* The end was decided; exactly once. */
    void (*ended)(struct cws_conn *c, void *user);
    /* The descriptor is closed; exactly once, after `ended`. */
    void (*closed)(struct cws_conn *c, void *user);
};

struct cws_conn_stats {
    uint64_t messages_received, messages_sent;
    uint64_t bytes_received, bytes_sent; /* on the wire, frames included */
    size_t queued;                       /* unsent bytes */
    size_t inbox;                        /* bytes that wait unread */
    double rtt; /* seconds, of the last answered ping; negative: none yet */
};

/* How it ended. text is NUL-terminated and lives as long as the connection. */
struct cws_conn_ending {
    uint16_t code;    /* 1005, 1006 and our own failure codes too */
    bool clean;       /* both close frames were exchanged */
    const char *text; /* the peer's reason, or what happened */
    size_t len;
};

/* What a new connection is made of. */
struct cws_conn_start {
    enum cws_role role;
    struct cws_transport transport; /* taken */
    union cws_address remote;
    struct cws_options *options;              /* kept */
    const struct cws_deflate_params *deflate; /* NULL: not agreed */
    struct cws_listener *listener; /* its place is taken over; NULL: client */
    const void *input;             /* bytes that came after the handshake */
    size_t input_len;              /* copied */
    const void *output;            /* bytes to send first (the 101); copied */
    size_t output_len;
    const struct cws_conn_events *events; /* borrowed */
    void *user;
};

/* NULL when memory is out: then the transport is closed. `input` is looked at
 * in the next turn, not before. */
struct cws_conn *cws_conn_new(struct cws_loop *loop,
                              const struct cws_conn_start *start);

/*
 * The owner will not call again and gets no callback any more. An open
 * connection is terminated; one that is closing finishes in the background.
 * Its memory is freed when that is over and no callback runs.
 */
void cws_conn_release(struct cws_conn *c);

/* --- receiving ---------------------------------------------------------- */

/*
 * CWS_ITEM: *event is a MESSAGE or (after cws_conn_stream) a PIECE, lent until
 * the next call on this connection. CWS_MORE: nothing now. CWS_ECLOSED: the
 * end, and nothing is left.
 */
int cws_conn_receive(struct cws_conn *c, struct cws_event *event);

/* Somebody waits (or not any more): readable is called once for each want. */
void cws_conn_want(struct cws_conn *c, bool want);

/* The next message, or the one under way, comes in pieces. */
void cws_conn_stream(struct cws_conn *c);

/* --- sending ------------------------------------------------------------ */

/* True when a message may be queued now: what the kernel refused is at most
 * send_buffer. May write. */
bool cws_conn_can_send(struct cws_conn *c);
void cws_conn_want_send(struct cws_conn *c, bool want);

/* Flags of a message or piece. */
#define CWS_CONN_FIN 1      /* the last piece (a whole message has it) */
#define CWS_CONN_COMPRESS 2 /* if deflate was agreed; first piece decides */

/*
 * Queues a data frame (TEXT, BINARY or CONTINUATION) whatever the queue holds.
 * data is borrowed for the call. Returns 0, CWS_ECLOSED, CWS_EUSAGE (does not
 * fit the fragments before), CWS_EMEMORY (whole message lost, or, when the
 * message had begun, the connection failed with 1011).
 */
int cws_conn_send(struct cws_conn *c, uint8_t opcode, int flags,
                  const void *data, size_t len);

/* As cws_conn_send for whole messages that cannot wait: CWS_EBUSY when it does
 * not fit max_queue now, CWS_ELIMIT when it never will. */
int cws_conn_try_send(struct cws_conn *c, uint8_t opcode, int flags,
                      const void *data, size_t len);

/* A message encoded once for many. */
struct cws_prepared;
struct cws_prepared *cws_prepared_new(uint8_t opcode, const void *data,
                                      size_t len); /* copies */
void cws_prepared_drop(struct cws_prepared *p);
size_t cws_prepared_len(const struct cws_prepared *p); /* payload bytes */
/* `now`: bound by max_queue as cws_conn_try_send; inside a message of pieces it
 * is kept, and sent right after that. */
int cws_conn_send_prepared(struct cws_conn *c, struct cws_prepared *p,
                           int flags, bool now);

/* PING or PONG, at most 125 bytes. 0, CWS_ECLOSED, CWS_EBUSY. */
int cws_conn_control(struct cws_conn *c, uint8_t opcode, const void *data,
                     size_t len);

/* Offers corked bytes to the kernel now. */
void cws_conn_flush(struct cws_conn *c);

/* --- the end ------------------------------------------------------------ */

/* Starts the closing handshake (code 0: without a code). 0, or CWS_ECLOSED
 * when it has begun already. Bounded by close_timeout. */
int cws_conn_close(struct cws_conn *c, uint16_t code, const char *reason,
                   size_t len);

/* Fails it: close frame with `code`, then the end with that code. `why` is
 * copied, at most 123 bytes. */
void cws_conn_fail(struct cws_conn *c, uint16_t code, const char *why);

/* Offers corked bytes once, then closes the socket; 1006 unless it had
 * ended. */
void cws_conn_terminate(struct cws_conn *c);

/* True once the end is decided; fills *ending (may be NULL). */
bool cws_conn_ending(const struct cws_conn *c, struct cws_conn_ending *ending);
/* True once the descriptor is closed. */
bool cws_conn_closed(const struct cws_conn *c);
/* True while frames can be sent. */
bool cws_conn_open(const struct cws_conn *c);
/* "open", "closing", "closed". */
const char *cws_conn_state(const struct cws_conn *c);

/* --- other -------------------------------------------------------------- */

struct cws_conn *cws_conn_from_link(struct cws_link *link); /* loop->conns */
struct cws_listener *cws_conn_listener(const struct cws_conn *c);
/* With NULL no callback comes; the end is told when there is a user. */
void cws_conn_set_user(struct cws_conn *c, void *user);
void *cws_conn_user(const struct cws_conn *c);
/* Offers corked bytes once, closes the descriptor and frees at once, without
 * callbacks: for the loop's teardown. */
void cws_conn_abort(struct cws_conn *c);

void cws_conn_watch(struct cws_conn *c, bool pings, bool pongs);
void cws_conn_get_stats(const struct cws_conn *c, struct cws_conn_stats *out);
void cws_conn_remote(const struct cws_conn *c, char out[CWS_ADDRESS_TEXT]);
void cws_conn_local(const struct cws_conn *c, char out[CWS_ADDRESS_TEXT]);
const struct cws_options *cws_conn_options(const struct cws_conn *c);
struct cws_session *cws_conn_session(struct cws_conn *c);

#endif
