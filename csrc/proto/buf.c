#include "buf.h"

#include <string.h>

#define BUF_MIN 256

/* Room comes from the front first: moving is cheaper than growing. */
static void move_to_front(struct cws_buf *b) {
    size_t len = cws_buf_len(b);
    if (len)
        memmove(b->data, b->data + b->head, len);
    b->head = 0;
    b->tail = len;
}

static bool grow(struct cws_buf *b, size_t need) {
    size_t cap = b->cap ? b->cap : BUF_MIN;
    while (cap < need) {
        if (cap > SIZE_MAX / 2) {
            cap = need;
            break;
        }
        cap *= 2;
    }
    uint8_t *data = cws_realloc(b->data, cap);
    if (!data)
        return false;
    b->data = data;
    b->cap = cap;
    return true;
}

uint8_t *cws_buf_room(struct cws_buf *b, size_t more) {
    size_t len = cws_buf_len(b);
    if (more > SIZE_MAX - b->tail)
        return NULL;
    if (b->data && b->cap - b->tail >= more)
        return b->data + b->tail;
    /* at least half of it is free in front: each byte is moved once at most */
    if (b->data && b->head >= len && b->cap - len >= more)
        move_to_front(b);
    else if (!grow(b, b->tail + more))
        return NULL;
    return b->data + b->tail;
}

int cws_buf_append(struct cws_buf *b, const void *data, size_t len) {
    if (!len)
        return 0;
    uint8_t *room = cws_buf_room(b, len);
    if (!room)
        return CWS_EMEMORY;
    memcpy(room, data, len);
    b->tail += len;
    return 0;
}

void cws_buf_consume(struct cws_buf *b, size_t n) {
    b->head += n;
    if (b->head == b->tail)
        b->head = b->tail = 0;
}

void cws_buf_clear(struct cws_buf *b) {
    b->head = b->tail = 0;
}

void cws_buf_free(struct cws_buf *b) {
    cws_free(b->data);
    *b = (struct cws_buf){0};
}
