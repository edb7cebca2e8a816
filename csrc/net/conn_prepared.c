/*
 * conn_prepared.c - one message for many connections: encoded once, compressed
 * once where no connection has a context of its own, shared by their queues.
 */
#include "conn_private.h"

#include <string.h>

/* Shorter frames are cheaper to copy than to share. */
#define SHARE_MIN 4096

struct cws_prepared {
    size_t refs;
    uint8_t opcode;
    uint8_t header_len;
    uint32_t packing;          /* of `packed`: cws_session_packing */
    struct cws_shared *frame;  /* a server's frame: header and payload */
    struct cws_shared *packed; /* the same compressed, once it was needed */
};

/* A server's frame with the whole of a message; NULL when memory is out. */
static struct cws_shared *make_frame(uint8_t opcode, bool compressed,
                                     const void *data, size_t len,
                                     uint8_t *header_len) {
    struct cws_frame frame = {
        .len = len, .opcode = opcode, .fin = true, .rsv = compressed ? 4 : 0};
    uint8_t header[CWS_FRAME_HEADER_MAX];
    *header_len = (uint8_t)cws_frame_write(&frame, header);
    struct cws_shared *made = cws_shared_new(*header_len + len);
    if (!made)
        return NULL;
    memcpy(made->data, header, *header_len);
    if (len)
        memcpy(made->data + *header_len, data, len);
    return made;
}

struct cws_prepared *cws_prepared_new(uint8_t opcode, const void *data,
                                      size_t len) {
    struct cws_prepared *p = cws_calloc(sizeof *p);
    if (!p)
        return NULL;
    p->refs = 1;
    p->opcode = opcode;
    p->frame = make_frame(opcode, false, data, len, &p->header_len);
    if (p->frame)
        return p;
    cws_free(p);
    return NULL;
}

void cws_prepared_drop(struct cws_prepared *p) {
    if (!p || --p->refs)
        return;
    cws_shared_drop(p->frame);
    cws_shared_drop(p->packed);
    cws_free(p);
}

size_t cws_prepared_len(const struct cws_prepared *p) {
    return p->frame->len - p->header_len;
}

static const uint8_t *payload(const struct cws_prepared *p) {
    return p->frame->data + p->header_len;
}

/* Fills p->packed as this connection would compress the message. 0 or
 * CWS_EMEMORY. */
static int pack(struct cws_conn *c, struct cws_prepared *p) {
    struct cws_buf *scratch = &c->loop->scratch;
    uint8_t header_len;
    cws_buf_clear(scratch);
    int err = cws_session_compress(&c->session, payload(p), cws_prepared_len(p),
                                   true, scratch);
    if (err < 0)
        return cws_conn_send_failed(c, err);
    p->packed = make_frame(p->opcode, true, cws_buf_bytes(scratch),
                           cws_buf_len(scratch), &header_len);
    cws_conn_trim_scratch(c->loop);
    p->packing = cws_session_packing(&c->session);
    return p->packed ? 0 : CWS_EMEMORY;
}

static int send_shared(struct cws_conn *c, struct cws_shared *frame) {
    if (c->broken)
        return 0;
    int err = frame->len < SHARE_MIN
                  ? cws_outq_append(&c->out, c->loop, frame->data, frame->len)
                  : cws_outq_share(&c->out, c->loop, frame, 0);
    if (err == 0)
        cws_conn_queued(c, frame->len, true);
    return err;
}

/* Where a frame cannot be shared (masked, with a context of its own, at an end
 * that has begun) the message goes the way of any other. */
static int send_prepared(struct cws_conn *c, struct cws_prepared *p,
                         int flags) {
    size_t len = cws_prepared_len(p);
    bool compress = (flags & CWS_CONN_COMPRESS) &&
                    cws_session_can_compress(&c->session) &&
                    len >= c->options->compression_threshold;
    uint32_t packing = compress ? cws_session_packing(&c->session) : 0;
    if (!cws_session_plain(&c->session) ||
        (compress && (!packing || (p->packed && p->packing != packing))))
        return cws_conn_send(c, p->opcode, flags | CWS_CONN_FIN, payload(p),
                             len);
    if (!compress)
        return send_shared(c, p->frame);
    int err = p->packed ? 0 : pack(c, p);
    return err < 0 ? err : send_shared(c, p->packed);
}

/* --- behind a message of our own ------------------------------------------ */

struct conn_behind_node {
    struct conn_behind_node *next;
    struct cws_prepared *prepared; /* a reference */
    int flags;
};

static int put_behind(struct cws_conn *c, struct cws_prepared *p, int flags) {
    if (!c->behind)
        c->behind = cws_calloc(sizeof *c->behind);
    struct conn_behind_node *node = c->behind ? cws_calloc(sizeof *node) : NULL;
    if (!node)
        return CWS_EMEMORY;
    node->prepared = p;
    p->refs++;
    node->flags = flags;
    if (c->behind->last)
        c->behind->last->next = node;
    else
        c->behind->first = node;
    c->behind->last = node;
    c->behind->bytes += p->frame->len;
    return 0;
}

static void free_behind(struct conn_behind *behind) {
    struct conn_behind_node *node = behind ? behind->first : NULL;
    while (node) {
        struct conn_behind_node *next = node->next;
        cws_prepared_drop(node->prepared);
        cws_free(node);
        node = next;
    }
    cws_free(behind);
}

void cws_conn_free_behind(struct cws_conn *c) {
    free_behind(c->behind);
    c->behind = NULL;
}

void cws_conn_send_behind(struct cws_conn *c) {
    struct conn_behind *behind = c->behind;
    int err = 0;
    c->behind = NULL;
    for (struct conn_behind_node *node = behind->first; node && err == 0;
         node = node->next)
        err = send_prepared(c, node->prepared, node->flags);
    if (err < 0 && err != CWS_ECLOSED)
        (void)cws_conn_send_failed(c, err);
    free_behind(behind);
}

int cws_conn_send_prepared(struct cws_conn *c, struct cws_prepared *p,
                           int flags, bool now) {
    int err = now ? cws_conn_fits(c, p->frame->len) : 0;
    if (err < 0)
        return err;
    if (c->phase != CONN_OPEN)
        return CWS_ECLOSED;
    if (now && cws_session_sending(&c->session))
        return put_behind(c, p, flags);
    return send_prepared(c, p, flags);
}
