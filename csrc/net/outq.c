#include "outq.h"

#include <string.h>

/* A node holds bytes of its own, or a part of shared ones. */
struct cws_out_node {
    struct cws_out_node *next;
    struct cws_shared *shared; /* or NULL */
    size_t head;               /* first unsent byte */
    size_t tail;
    size_t cap; /* bytes that `data` can hold */
    uint8_t data[];
};

#define NODE_CAP (CWS_OUTQ_NODE - sizeof(struct cws_out_node))
#define SMALL_CAP (CWS_OUTQ_SMALL - sizeof(struct cws_out_node))
/* The rest of a node that the kernel refused moves out when it is smaller. */
#define TRIM_MAX (16 * 1024)

/* --- shared bytes --------------------------------------------------------- */

struct cws_shared *cws_shared_new(size_t len) {
    if (len > SIZE_MAX - sizeof(struct cws_shared))
        return NULL;
    struct cws_shared *shared = cws_realloc(NULL, sizeof *shared + len);
    if (!shared)
        return NULL;
    shared->refs = 1;
    shared->len = len;
    return shared;
}

struct cws_shared *cws_shared_keep(struct cws_shared *shared) {
    shared->refs++;
    return shared;
}

void cws_shared_drop(struct cws_shared *shared) {
    if (shared && --shared->refs == 0)
        cws_free(shared);
}

/* --- nodes ---------------------------------------------------------------- */

/* Where nodes of that size are kept, NULL for any other. */
static struct cws_out_spare *spare_of(struct cws_loop *loop, size_t cap) {
    if (cap == SMALL_CAP)
        return &loop->spare[0];
    return cap == NODE_CAP ? &loop->spare[1] : NULL;
}

static struct cws_out_node *take_spare(struct cws_out_spare *spare) {
    struct cws_out_node *node = spare ? spare->first : NULL;
    if (node) {
        spare->first = node->next;
        spare->count--;
    }
    return node;
}

static struct cws_out_node *new_node(struct cws_loop *loop, size_t cap) {
    struct cws_out_node *node = take_spare(spare_of(loop, cap));
    if (!node) {
        if (cap > SIZE_MAX - sizeof *node)
            return NULL;
        node = cws_realloc(NULL, sizeof *node + cap);
        if (!node)
            return NULL;
        node->cap = cap;
    }
    node->next = NULL;
    node->shared = NULL;
    node->head = node->tail = 0;
    return node;
}

static void free_node(struct cws_loop *loop, struct cws_out_node *node) {
    struct cws_out_spare *spare = spare_of(loop, node->cap);
    cws_shared_drop(node->shared);
    if (!spare || spare->count * (sizeof *node + node->cap) >= CWS_OUTQ_SPARE) {
        cws_free(node);
        return;
    }
    node->next = spare->first;
    spare->first = node;
    spare->count++;
}

/* Something short for many connections at once is no reason to take a large
 * node for each. */
static size_t cap_for(const struct cws_outq *q, size_t len) {
    if (!q->first && len <= SMALL_CAP)
        return SMALL_CAP;
    return len > NODE_CAP ? len : NODE_CAP;
}

static void link_node(struct cws_outq *q, struct cws_out_node *node) {
    if (q->last)
        q->last->next = node;
    else
        q->first = node;
    q->last = node;
}

void cws_outq_free_spare(struct cws_loop *loop) {
    struct cws_out_node *node;
    for (size_t i = 0; i < sizeof loop->spare / sizeof *loop->spare; i++)
        while ((node = take_spare(&loop->spare[i])) != NULL)
            cws_free(node);
}

/* --- the queue ------------------------------------------------------------ */

static size_t room_in(const struct cws_out_node *node) {
    return node && !node->shared ? node->cap - node->tail : 0;
}

uint8_t *cws_outq_room(struct cws_outq *q, struct cws_loop *loop, size_t len) {
    if (room_in(q->last) < len || !q->last) {
        struct cws_out_node *node = new_node(loop, cap_for(q, len));
        if (!node)
            return NULL;
        link_node(q, node);
    }
    return q->last->data + q->last->tail;
}

void cws_outq_added(struct cws_outq *q, size_t len) {
    q->last->tail += len;
    q->bytes += len;
}

int cws_outq_append(struct cws_outq *q, struct cws_loop *loop, const void *data,
                    size_t len) {
    const uint8_t *bytes = data;
    if (!len)
        return 0;
    size_t first = room_in(q->last);
    if (first > len)
        first = len;
    struct cws_out_node *node = NULL;
    if (len > first) { /* all that can fail comes before the first byte */
        size_t rest = len - first;
        node = new_node(loop, cap_for(q, rest));
        if (!node)
            return CWS_EMEMORY;
    }
    if (first) {
        memcpy(q->last->data + q->last->tail, bytes, first);
        q->last->tail += first;
    }
    if (node) {
        memcpy(node->data, bytes + first, len - first);
        node->tail = len - first;
        link_node(q, node);
    }
    q->bytes += len;
    return 0;
}

int cws_outq_share(struct cws_outq *q, struct cws_loop *loop,
                   struct cws_shared *shared, size_t at) {
    if (at >= shared->len)
        return 0;
    struct cws_out_node *node = new_node(loop, 0);
    if (!node)
        return CWS_EMEMORY;
    node->shared = cws_shared_keep(shared);
    node->head = at;
    node->tail = shared->len;
    link_node(q, node);
    q->bytes += shared->len - at;
    return 0;
}

int cws_outq_iov(const struct cws_outq *q, struct iovec *iov, int max) {
    int count = 0;
    for (struct cws_out_node *node = q->first; node && count < max;
         node = node->next) {
        if (node->head == node->tail)
            continue;
        uint8_t *bytes = node->shared ? node->shared->data : node->data;
        iov[count].iov_base = bytes + node->head;
        iov[count++].iov_len = node->tail - node->head;
    }
    return count;
}

void cws_outq_consume(struct cws_outq *q, struct cws_loop *loop, size_t n) {
    q->bytes -= n;
    while (q->first) {
        struct cws_out_node *node = q->first;
        size_t have = node->tail - node->head;
        if (n < have) {
            node->head += n;
            return;
        }
        n -= have;
        q->first = node->next;
        free_node(loop, node);
    }
    q->last = NULL;
}

void cws_outq_trim(struct cws_outq *q, struct cws_loop *loop) {
    struct cws_out_node *old = q->first;
    if (!old || old != q->last || old->shared || old->cap != NODE_CAP ||
        q->bytes > TRIM_MAX)
        return;
    struct cws_out_node *node = new_node(loop, q->bytes);
    if (!node)
        return; /* only a saving */
    memcpy(node->data, old->data + old->head, q->bytes);
    node->tail = q->bytes;
    q->first = q->last = node;
    free_node(loop, old);
}

void cws_outq_free(struct cws_outq *q, struct cws_loop *loop) {
    while (q->first) {
        struct cws_out_node *node = q->first;
        q->first = node->next;
        free_node(loop, node);
    }
    q->last = NULL;
    q->bytes = 0;
}
