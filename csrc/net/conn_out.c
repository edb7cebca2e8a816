/*
 * conn_out.c - the sending side of a connection: cork, queue, back-pressure.
 *
 * Inside the loop everything is gathered and leaves in one sendmsg at the end
 * of the batch or the turn. A large message of a server goes to the kernel
 * straight from where it lies; only what the kernel refuses is copied.
 */
#include "conn_private.h"

#include <string.h>

#include "../proto/mask.h"

/* From here on a message is worth a system call of its own. */
#define DIRECT_MIN (32 * 1024)
/* Of the loop's buffer for compressed messages, between two of them. */
#define SCRATCH_KEPT ((size_t)256 * 1024)
/* The cork is never larger than what one read can bring. */
#define CORK_MAX ((size_t)CWS_LOOP_INPUT)
/* After this much others have their turn, however fast the peer is. */
#define BURST_MAX ((size_t)CWS_LOOP_INPUT)

/* --- writing ------------------------------------------------------------- */

static void broken(struct cws_conn *c) {
    c->broken = true;
    c->blocked = false;
    cws_outq_free(&c->out, c->loop);
    if (c->phase >= CONN_FLUSHING)
        cws_conn_close_transport(c, false);
    else /* read what the peer sent before, then report the end */
        cws_conn_post(c);
}

static void wrote(struct cws_conn *c, size_t n) {
    c->bytes_sent += n;
    if (c->blocked) /* the peer takes bytes: it lives */
        c->alive = cws_loop_now(c->loop);
    if (c->ping_mark && c->bytes_sent >= c->ping_mark) {
        c->ping_mark = 0;
        cws_loop_update(c->loop); /* this turn may have taken long */
        c->ping_at = cws_loop_now(c->loop);
    }
}

void cws_conn_release_pong(struct cws_conn *c) {
    struct conn_pong *pong = c->pong;
    c->pong = NULL;
    if (pong)
        (void)cws_conn_queue(c, pong->frame, pong->len);
    cws_free(pong);
}

/* One sendmsg. True when there may be room for more. */
static bool write_once(struct cws_conn *c) {
    struct iovec iov[CWS_TRANSPORT_IOV];
    int count = cws_outq_iov(&c->out, iov, CWS_TRANSPORT_IOV);
    size_t offered = 0;
    for (int i = 0; i < count; i++)
        offered += iov[i].iov_len;
    ssize_t n = c->transport.ops->write(&c->transport, iov, count);
    if (n < 0 && n != CWS_TRANSPORT_AGAIN) {
        broken(c);
        return false;
    }
    if (n > 0) {
        cws_outq_consume(&c->out, c->loop, (size_t)n);
        wrote(c, (size_t)n);
    }
    return n > 0 && (size_t)n == offered;
}

void cws_conn_write(struct cws_conn *c) {
    if (c->phase == CONN_CLOSED)
        return;
    bool room = true;
    while (c->out.bytes && room)
        room = write_once(c);
    if (c->phase == CONN_CLOSED)
        return;
    if (!c->out.bytes && c->pong) {
        cws_conn_release_pong(c);
        if (room)
            (void)write_once(c);
    }
    bool blocked = c->out.bytes > 0;
    if (blocked && !c->blocked)
        cws_outq_trim(&c->out, c->loop);
    if (blocked != c->blocked) {
        c->blocked = blocked;
        cws_conn_update_io(c);
    }
    if (!blocked && c->phase == CONN_FLUSHING)
        cws_conn_flushed(c);
}

void cws_conn_run_dirty(struct cws_job *job) {
    struct cws_conn *c =
        (struct cws_conn *)(void *)((char *)job -
                                    offsetof(struct cws_conn, dirty));
    if (!c->blocked)
        cws_conn_write(c);
}

/* Bytes were queued: who sends them, and when. What the batch under way queued
 * for its own connection before leaves before. */
void cws_conn_mark_dirty(struct cws_conn *c) {
    struct cws_loop *loop = c->loop;
    struct cws_conn *batch = loop->batch.conn;
    if (c->blocked || batch == c)
        return;
    if (!loop->running) {
        cws_conn_write(c);
        return;
    }
    if (batch && batch->out.bytes && cws_link_empty(&loop->dirty))
        cws_loop_post_flush(loop, &batch->dirty);
    cws_loop_post_flush(loop, &c->dirty);
}

void cws_conn_flush(struct cws_conn *c) {
    if (c->out.bytes && !c->blocked)
        cws_conn_write(c);
}

/* --- queueing ------------------------------------------------------------ */

int cws_conn_queue(struct cws_conn *c, const void *data, size_t len) {
    if (c->broken)
        return 0;
    return cws_outq_append(&c->out, c->loop, data, len);
}

/* Pongs collapse to the newest behind bytes that the kernel refused, so that
 * a peer that pings and never reads costs nothing (RFC 6455 5.5.3). */
void cws_conn_pong(struct cws_conn *c, const uint8_t *frame, size_t len) {
    if (!c->blocked) {
        if (cws_conn_queue(c, frame, len) == 0)
            cws_conn_mark_dirty(c);
        return;
    }
    if (!c->pong)
        c->pong = cws_calloc(sizeof *c->pong);
    if (!c->pong)
        return; /* a pong less is allowed, a crash is not */
    memcpy(c->pong->frame, frame, len);
    c->pong->len = (uint8_t)len;
}

void cws_conn_answer(struct cws_conn *c, const struct cws_event *event) {
    uint8_t frame[CWS_SESSION_CONTROL_MAX];
    if (event->type != CWS_EVENT_PING)
        cws_conn_release_pong(c);
    int n = cws_session_answer(&c->session, event, frame);
    if (n < 0)
        cws_conn_lost(c, "no randomness for a masking key");
    else if (n > 0 && event->type == CWS_EVENT_PING)
        cws_conn_pong(c, frame, (size_t)n);
    else if (n > 0 && cws_conn_queue(c, frame, (size_t)n) < 0)
        cws_conn_lost(c, "out of memory");
}

/* Header and masked payload in one piece. */
static int queue_masked(struct cws_conn *c, const struct cws_frame *frame,
                        const uint8_t *header, size_t header_len,
                        const uint8_t *data, size_t len) {
    uint8_t *room = cws_outq_room(&c->out, c->loop, header_len + len);
    if (!room)
        return CWS_EMEMORY;
    memcpy(room, header, header_len);
    cws_mask_copy(room + header_len, data, len, frame->key, 0);
    cws_outq_added(&c->out, header_len + len);
    return 0;
}

static int queue_copied(struct cws_conn *c, const uint8_t *header,
                        size_t header_len, const uint8_t *data, size_t len) {
    if (header_len + len <= CWS_OUTQ_NODE / 2) {
        uint8_t *room = cws_outq_room(&c->out, c->loop, header_len + len);
        if (!room)
            return CWS_EMEMORY;
        memcpy(room, header, header_len);
        if (len)
            memcpy(room + header_len, data, len);
        cws_outq_added(&c->out, header_len + len);
        return 0;
    }
    int err = cws_outq_append(&c->out, c->loop, header, header_len);
    return err < 0 ? err : cws_outq_append(&c->out, c->loop, data, len);
}

/* What is corked, the header and the message itself in one sendmsg; the rest
 * is copied. */
static int send_direct(struct cws_conn *c, const uint8_t *header,
                       size_t header_len, const uint8_t *data, size_t len) {
    int err = cws_outq_append(&c->out, c->loop, header, header_len);
    if (err < 0)
        return err;
    size_t before = c->out.bytes;
    struct iovec iov[CWS_TRANSPORT_IOV];
    int count = cws_outq_iov(&c->out, iov, CWS_TRANSPORT_IOV - 1);
    size_t corked = 0;
    for (int i = 0; i < count; i++)
        corked += iov[i].iov_len;
    if (corked < before) /* more parts than one call takes */
        return cws_outq_append(&c->out, c->loop, data, len);
    iov[count].iov_base = (void *)(uintptr_t)data;
    iov[count].iov_len = len;
    ssize_t n = c->transport.ops->write(&c->transport, iov, count + 1);
    if (n < 0 && n != CWS_TRANSPORT_AGAIN) {
        broken(c);
        return 0;
    }
    size_t sent = n > 0 ? (size_t)n : 0;
    size_t own = sent < before ? sent : before;
    cws_outq_consume(&c->out, c->loop, own);
    wrote(c, sent);
    if (sent == before + len)
        return 0;
    err = cws_outq_append(&c->out, c->loop, data + (sent - own),
                          len - (sent - own));
    c->blocked = true;
    cws_conn_update_io(c);
    return err;
}

static int queue_frame(struct cws_conn *c, const struct cws_frame *frame,
                       const uint8_t *header, size_t header_len,
                       const uint8_t *data, size_t len) {
    if (c->broken)
        return 0;
    if (frame->masked)
        return queue_masked(c, frame, header, header_len, data, len);
    if (len >= DIRECT_MIN && !c->blocked)
        return send_direct(c, header, header_len, data, len);
    return queue_copied(c, header, header_len, data, len);
}

/* --- messages ------------------------------------------------------------ */

static void count_burst(struct cws_conn *c, size_t len) {
    if (c->turn != c->loop->turn)
        c->burst = 0;
    c->turn = c->loop->turn;
    c->burst += len;
}

bool cws_conn_can_send(struct cws_conn *c) {
    if (c->burst >= BURST_MAX && c->turn == c->loop->turn)
        return false;
    size_t bound = c->blocked ? c->options->send_buffer : CORK_MAX;
    if (c->out.bytes <= bound)
        return true;
    if (!c->blocked)
        cws_conn_write(c);
    return c->out.bytes <= c->options->send_buffer;
}

void cws_conn_want_send(struct cws_conn *c, bool want) {
    c->want_send = want;
    if (want && (c->end || !c->blocked))
        cws_conn_post(c);
}

int cws_conn_send_failed(struct cws_conn *c, int err) {
    cws_conn_fail(c, CWS_CLOSE_INTERNAL_ERROR,
                  err == CWS_EMEMORY ? "sending failed: out of memory"
                                     : "sending failed");
    return err;
}

void cws_conn_queued(struct cws_conn *c, size_t size, bool fin) {
    c->messages_sent += fin;
    count_burst(c, size);
    c->active = cws_loop_now(c->loop);
    cws_conn_mark_dirty(c);
}

static int send_frame(struct cws_conn *c, uint8_t opcode, int flags,
                      const void *data, size_t len) {
    struct cws_frame frame;
    uint8_t header[CWS_FRAME_HEADER_MAX];
    bool fin = flags & CWS_CONN_FIN;
    bool first = opcode != CWS_OP_CONTINUATION;
    int n = cws_session_header(&c->session, opcode, fin,
                               first && c->compressing, len, &frame, header);
    if (n < 0)
        return n;
    int err = queue_frame(c, &frame, header, (size_t)n, data, len);
    if (err < 0)
        return cws_conn_send_failed(c, err);
    cws_conn_queued(c, (size_t)n + len, fin);
    if (fin && c->behind)
        cws_conn_send_behind(c);
    return 0;
}

/* Nearly every message of a server: a short one, put behind its header in the
 * queue at once. */
static int send_short(struct cws_conn *c, uint8_t opcode, const void *data,
                      size_t len) {
    size_t size = CWS_SESSION_SHORT + len;
    uint8_t *room = cws_outq_room(&c->out, c->loop, size);
    if (!room)
        return cws_conn_send_failed(c, CWS_EMEMORY);
    cws_session_short_header(opcode, len, room);
    if (len)
        memcpy(room + CWS_SESSION_SHORT, data, len);
    cws_outq_added(&c->out, size);
    cws_conn_queued(c, size, true);
    return 0;
}

/* The message is one, and nothing about the connection is out of the ordinary.
 */
static bool is_short(const struct cws_conn *c, uint8_t opcode, int flags,
                     size_t len) {
    return len < 126 && opcode != CWS_OP_CONTINUATION &&
           (flags & CWS_CONN_FIN) && c->phase == CONN_OPEN && !c->behind &&
           !c->broken && cws_session_plain(&c->session) &&
           !cws_session_can_compress(&c->session);
}

void cws_conn_trim_scratch(struct cws_loop *loop) {
    if (loop->scratch.cap > SCRATCH_KEPT)
        cws_buf_free(&loop->scratch);
}

/* A piece of a compressed message. What zlib holds back needs no frame. */
static int send_compressed(struct cws_conn *c, uint8_t opcode, int flags,
                           const void *data, size_t len) {
    struct cws_buf *scratch = &c->loop->scratch;
    cws_buf_clear(scratch);
    bool fin = flags & CWS_CONN_FIN;
    int err = cws_session_compress(&c->session, data, len, fin, scratch);
    if (err < 0)
        return cws_conn_send_failed(c, err);
    if (opcode == CWS_OP_CONTINUATION && !fin && !cws_buf_len(scratch))
        return 0;
    err = send_frame(c, opcode, flags, cws_buf_bytes(scratch),
                     cws_buf_len(scratch));
    cws_conn_trim_scratch(c->loop);
    return err == CWS_EINTERNAL ? cws_conn_send_failed(c, err) : err;
}

static int send_any(struct cws_conn *c, uint8_t opcode, int flags,
                    const void *data, size_t len) {
    if (c->phase != CONN_OPEN)
        return CWS_ECLOSED;
    /* before anything of it is compressed into the message under way */
    if (cws_session_sending(&c->session) != (opcode == CWS_OP_CONTINUATION))
        return CWS_EUSAGE;
    if (opcode != CWS_OP_CONTINUATION)
        c->compressing = (flags & CWS_CONN_COMPRESS) &&
                         cws_session_can_compress(&c->session) &&
                         (!(flags & CWS_CONN_FIN) ||
                          len >= c->options->compression_threshold);
    if (c->compressing)
        return send_compressed(c, opcode, flags, data, len);
    return send_frame(c, opcode, flags, data, len);
}

int cws_conn_send(struct cws_conn *c, uint8_t opcode, int flags,
                  const void *data, size_t len) {
    return is_short(c, opcode, flags, len)
               ? send_short(c, opcode, data, len)
               : send_any(c, opcode, flags, data, len);
}

int cws_conn_fits(const struct cws_conn *c, size_t len) {
    size_t max = c->options->max_queue;
    if (c->phase != CONN_OPEN)
        return CWS_ECLOSED;
    if (len > max)
        return CWS_ELIMIT;
    size_t queued = c->out.bytes + (c->behind ? c->behind->bytes : 0);
    return queued > max - len ? CWS_EBUSY : 0;
}

int cws_conn_try_send(struct cws_conn *c, uint8_t opcode, int flags,
                      const void *data, size_t len) {
    int err = cws_conn_fits(c, len);
    return err < 0 ? err : cws_conn_send(c, opcode, flags, data, len);
}

int cws_conn_control(struct cws_conn *c, uint8_t opcode, const void *data,
                     size_t len) {
    uint8_t frame[CWS_SESSION_CONTROL_MAX];
    int err = cws_conn_fits(c, sizeof frame);
    if (err < 0)
        return err;
    int n = cws_session_control(&c->session, opcode, data, len, frame);
    if (n < 0)
        return n;
    err = cws_conn_queue(c, frame, (size_t)n);
    if (err < 0)
        return err;
    if (opcode == CWS_OP_PING && !c->ping_mark && c->ping_at <= 0)
        c->ping_mark = c->bytes_sent + c->out.bytes;
    cws_conn_mark_dirty(c);
    return 0;
}
