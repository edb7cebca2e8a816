/*
 * buf.h - a growing byte buffer with a cheap front.
 *
 * States: empty (data NULL, the zero value), holding. Grows by doubling with
 * the bytes appended, never with bytes only announced. On CWS_EMEMORY the
 * content is as it was.
 */
#ifndef CWS_PROTO_BUF_H
#define CWS_PROTO_BUF_H

#include "../cws.h"

struct cws_buf {
    uint8_t *data; /* start of the memory; owned */
    size_t head;   /* first byte that is still wanted */
    size_t tail;   /* one past the last byte */
    size_t cap;
};

/* NULL while it never held anything. */
static inline uint8_t *cws_buf_bytes(const struct cws_buf *b) {
    return b->head ? b->data + b->head : b->data; /* NULL + 0 is undefined */
}

static inline size_t cws_buf_len(const struct cws_buf *b) {
    return b->tail - b->head;
}

/* Makes room for `more` bytes at the tail; NULL when memory is out. The
 * pointer is lent until the next call. Follow with cws_buf_added(). */
uint8_t *cws_buf_room(struct cws_buf *b, size_t more);

static inline void cws_buf_added(struct cws_buf *b, size_t n) {
    b->tail += n;
}

/* Copies. Returns 0 or CWS_EMEMORY. */
int cws_buf_append(struct cws_buf *b, const void *data, size_t len);

/* Drops n <= len bytes from the front; memory stays. */
void cws_buf_consume(struct cws_buf *b, size_t n);

/* Drops the content, keeps the memory. */
void cws_buf_clear(struct cws_buf *b);

/* Gives the memory back; the buffer is empty and usable again. */
void cws_buf_free(struct cws_buf *b);

#endif
