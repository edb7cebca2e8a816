/*
 * deflate.c - zlib behind the message transformation of RFC 7692 7.2. Read
 * from top to bottom: streams, the pool, a connection's two directions,
 * compressing, inflating.
 */
#include "deflate.h"

#include <string.h>

#ifndef CWS_NO_ZLIB

#include <zlib.h>

/* zlib counts in unsigned int. */
#define SLICE ((size_t)1 << 30)
/* Free memory below which a buffer grows before zlib writes to it. */
#define ROOM_MIN ((size_t)128)
/* Unused streams of each direction that a pool keeps. */
#define SPARE_MAX 4

/* A message of so much that nothing comes before and after in zlib's stream
 * needs no larger window and hash table; clearing 64 KiB of that would cost as
 * much as compressing 1 KiB. */
#define SHORT_MAX ((size_t)4 * 1024)
#define SHORT_BITS 12
#define SHORT_MEMORY 5

/* What is cut off a message, and added again (7.2.1, 7.2.2). */
static const uint8_t tail[4] = {0x00, 0x00, 0xFF, 0xFF};

/* --- streams -------------------------------------------------------------- */

/* Streams of one shape can stand in for each other. */
struct shape {
    bool inflates;
    uint8_t bits;
    int8_t level;
    int8_t memory;
};

struct stream {
    z_stream z;
    struct stream *next; /* in the pool */
    size_t memory;       /* what zlib holds for it, and itself */
    struct shape shape;
};

static bool same_shape(struct shape a, struct shape b) {
    return a.inflates == b.inflates && a.bits == b.bits && a.level == b.level &&
           a.memory == b.memory;
}

/* zlib gives memory back only when a stream ends, so there is no need to count
 * down. */
static void *allocate(void *user, unsigned int count, unsigned int size) {
    struct stream *s = user;
    void *memory = cws_realloc(NULL, (size_t)count * size);
    if (memory)
        s->memory += (size_t)count * size;
    return memory;
}

static void release(void *user, void *memory) {
    (void)user;
    cws_free(memory);
}

/* zlib has no raw deflate with a window of 256 bytes, and with the next larger
 * one it may look back further than the peer can. Z_RLE "limits match
 * distances to one". */
static int start_deflate(z_stream *z, struct shape shape) {
    bool tiny = shape.bits < 9;
    return deflateInit2(z, shape.level, Z_DEFLATED, tiny ? -9 : -shape.bits,
                        shape.memory, tiny ? Z_RLE : Z_DEFAULT_STRATEGY);
}

static struct stream *stream_new(struct shape shape) {
    struct stream *s = cws_calloc(sizeof *s);
    if (!s)
        return NULL;
    s->shape = shape;
    s->memory = sizeof *s;
    s->z.zalloc = allocate;
    s->z.zfree = release;
    s->z.opaque = s;
    int err = shape.inflates ? inflateInit2(&s->z, -shape.bits)
                             : start_deflate(&s->z, shape);
    if (err == Z_OK)
        return s;
    cws_free(s);
    return NULL;
}

static void stream_free(struct stream *s) {
    if (s->shape.inflates)
        inflateEnd(&s->z);
    else
        deflateEnd(&s->z);
    cws_free(s);
}

/* --- the pool ------------------------------------------------------------- */

/* Most recently used first. */
struct cws_deflate_pool {
    struct stream *spare;
};

struct cws_deflate_pool *cws_deflate_pool_new(void) {
    return cws_calloc(sizeof(struct cws_deflate_pool));
}

void cws_deflate_pool_free(struct cws_deflate_pool *pool) {
    if (!pool)
        return;
    while (pool->spare) {
        struct stream *s = pool->spare;
        pool->spare = s->next;
        stream_free(s);
    }
    cws_free(pool);
}

static struct stream *borrow(struct cws_deflate_pool *pool,
                             struct shape shape) {
    struct stream **at = &pool->spare;
    while (*at && !same_shape((*at)->shape, shape))
        at = &(*at)->next;
    if (!*at)
        return stream_new(shape);
    struct stream *s = *at;
    *at = s->next;
    return s;
}

/* Frees the stream of that direction that has waited longest, when there are
 * too many. */
static void trim(struct cws_deflate_pool *pool, bool inflates) {
    struct stream **last = NULL;
    int count = 0;
    for (struct stream **at = &pool->spare; *at; at = &(*at)->next) {
        if ((*at)->shape.inflates != inflates)
            continue;
        last = at;
        count++;
    }
    if (count <= SPARE_MAX)
        return;
    struct stream *s = *last;
    *last = s->next;
    stream_free(s);
}

static void give_back(struct cws_deflate_pool *pool, struct stream *s) {
    int err = s->shape.inflates ? inflateReset(&s->z) : deflateReset(&s->z);
    if (err != Z_OK) {
        stream_free(s);
        return;
    }
    s->next = pool->spare;
    pool->spare = s;
    trim(pool, s->shape.inflates);
}

/* --- a connection --------------------------------------------------------- */

struct direction {
    struct stream *stream; /* NULL until it is needed */
    struct shape shape;
    bool keeps;    /* context takeover: the stream stays */
    bool begun;    /* a message that is not empty is under way */
    int8_t failed; /* enum cws_err; stays */
};

struct cws_deflate {
    struct cws_deflate_pool *pool;
    struct direction out, in;
    uint8_t tail; /* bytes of the tail that inflate has seen */
    bool final;   /* all input so far ends with a block with BFINAL set */
};

static uint8_t bits(uint8_t agreed) {
    return agreed < 8 || agreed > 15 ? 15 : agreed;
}

/* The whole window, whatever the peer promised: with a smaller one inflate
 * refuses a match that reaches too far only when it lies behind the output of
 * this very call, so the outcome would depend on how the input was cut. */
static const struct shape inflater = {true, 15, 0, 0};

struct cws_deflate *cws_deflate_new(const struct cws_deflate_config *config,
                                    struct cws_deflate_pool *pool) {
    const struct cws_deflate_params *p = &config->params;
    bool server = config->role == CWS_SERVER;
    struct cws_deflate *d = cws_calloc(sizeof *d);
    if (!d)
        return NULL;
    d->pool = pool;
    d->out.keeps = !(server ? p->server_no_context_takeover
                            : p->client_no_context_takeover);
    d->in.keeps = !(server ? p->client_no_context_takeover
                           : p->server_no_context_takeover);
    d->out.shape =
        (struct shape){.bits = bits(server ? p->server_max_window_bits
                                           : p->client_max_window_bits),
                       .level = (int8_t)config->level,
                       .memory = (int8_t)config->memory_level};
    d->in.shape = inflater;
    return d;
}

static void drop(struct cws_deflate *d, struct direction *way) {
    if (way->stream)
        give_back(d->pool, way->stream);
    way->stream = NULL;
}

void cws_deflate_free(struct cws_deflate *d) {
    if (!d)
        return;
    drop(d, &d->out);
    drop(d, &d->in);
    cws_free(d);
}

static struct shape short_shape(struct shape shape) {
    if (shape.bits > SHORT_BITS)
        shape.bits = SHORT_BITS;
    if (shape.memory > SHORT_MEMORY)
        shape.memory = SHORT_MEMORY;
    return shape;
}

/* A piece that is not empty has come. `whole`: it is all of a short message. */
static bool begin(struct cws_deflate *d, struct direction *way, bool whole) {
    if (!way->stream)
        way->stream =
            borrow(d->pool,
                   whole && !way->keeps ? short_shape(way->shape) : way->shape);
    way->begun = true;
    return way->stream != NULL;
}

static void end(struct cws_deflate *d, struct direction *way) {
    way->begun = false;
    if (!way->keeps)
        drop(d, way);
}

size_t cws_deflate_memory(const struct cws_deflate *d) {
    return (d->out.stream ? d->out.stream->memory : 0) +
           (d->in.stream ? d->in.stream->memory : 0);
}

/* Where zlib may write: all the free memory of the buffer, which grows by
 * doubling when that is little. NULL when memory is out. */
static uint8_t *writable(struct cws_buf *out, size_t *room) {
    size_t free = out->cap - out->tail;
    uint8_t *to = cws_buf_room(out, free < ROOM_MIN ? ROOM_MIN : free);
    if (!to)
        return NULL;
    *room = out->cap - out->tail;
    if (*room > SLICE)
        *room = SLICE;
    return to;
}

/* --- compressing ---------------------------------------------------------- */

/* One slice of input, until zlib has written all that it wants to. */
static int pack(z_stream *z, const uint8_t *data, size_t len, int flush,
                struct cws_buf *out) {
    z->next_in = (uint8_t *)(uintptr_t)data;
    z->avail_in = (unsigned int)len;
    do {
        size_t room;
        z->next_out = writable(out, &room);
        if (!z->next_out)
            return CWS_EMEMORY;
        z->avail_out = (unsigned int)room;
        if (deflate(z, flush) == Z_STREAM_ERROR)
            return CWS_EINTERNAL;
        cws_buf_added(out, room - z->avail_out);
    } while (z->avail_out == 0);
    return 0;
}

static int pack_all(z_stream *z, const uint8_t *data, size_t len, bool last,
                    struct cws_buf *out) {
    while (len > SLICE) {
        int err = pack(z, data, SLICE, Z_NO_FLUSH, out);
        if (err < 0)
            return err;
        data += SLICE;
        len -= SLICE;
    }
    return pack(z, data, len, last ? Z_SYNC_FLUSH : Z_NO_FLUSH, out);
}

/* After an error the window is not the peer's any more. */
int cws_deflate_compress(struct cws_deflate *d, const uint8_t *data, size_t len,
                         bool last, struct cws_buf *out) {
    static const uint8_t nothing = 0; /* 7.2.3.6 */
    if (d->out.failed)
        return d->out.failed;
    if (!len && !d->out.begun)
        return last ? cws_buf_append(out, &nothing, 1) : 0;
    int err = CWS_EMEMORY;
    if (begin(d, &d->out, last && len <= SHORT_MAX))
        err = pack_all(&d->out.stream->z, data, len, last, out);
    if (err < 0)
        return d->out.failed = (int8_t)err;
    if (!last)
        return 0;
    out->tail -= sizeof tail;
    end(d, &d->out);
    return 0;
}

uint32_t cws_deflate_packing(const struct cws_deflate *d) {
    struct shape shape = d->out.shape;
    if (d->out.keeps)
        return 0;
    return (uint32_t)shape.bits << 16 | (uint32_t)(uint8_t)shape.level << 8 |
           (uint8_t)shape.memory;
}

/* --- inflating ------------------------------------------------------------ */

enum cws_err cws_deflate_error(const struct cws_deflate *d) {
    return (enum cws_err)d->in.failed;
}

static enum cws_parse bad(struct cws_deflate *d, enum cws_err err) {
    d->in.failed = (int8_t)err;
    return CWS_BAD;
}

/* True between two blocks with no bit left over. zlib's manual on data_type:
 * 128 stands for "immediately after an end-of-block code", the low bits for
 * the unused bits of the last byte. */
static bool between_blocks(const struct cws_deflate *d) {
    int type = d->in.stream->z.data_type;
    return d->final || ((type & 128) && !(type & 63));
}

/* 7.2.3.4: a block with BFINAL ends zlib's stream, not the message. The window
 * stays: inflateReset would forget it. */
static int go_on(struct cws_deflate *d) {
    d->final = true;
    return inflateResetKeep(&d->in.stream->z);
}

/* One call of inflate. */
static enum cws_parse unpack(struct cws_deflate *d, const uint8_t **data,
                             size_t *len, struct cws_buf *out, size_t *room) {
    z_stream *z = &d->in.stream->z;
    size_t slice = *len < SLICE ? *len : SLICE, free;
    uint8_t *to = writable(out, &free);
    if (!to)
        return bad(d, CWS_EMEMORY);
    if (free > *room)
        free = *room;
    z->next_in = (uint8_t *)(uintptr_t)*data;
    z->avail_in = (unsigned int)slice;
    z->next_out = to;
    z->avail_out = (unsigned int)free;
    int err = inflate(z, Z_SYNC_FLUSH);
    size_t used = slice - z->avail_in, got = free - z->avail_out;
    *data += used;
    *len -= used;
    *room -= got;
    cws_buf_added(out, got);
    if (used)
        d->final = false;
    if (err == Z_STREAM_END)
        err = go_on(d);
    if (err == Z_MEM_ERROR)
        return bad(d, CWS_EMEMORY);
    return err == Z_OK || err == Z_BUF_ERROR ? CWS_ITEM : bad(d, CWS_EPROTOCOL);
}

/* Until the input is used and nothing is held back, or there is no room for
 * the next byte: where it stops in the input then depends on nothing else. */
static enum cws_parse unpack_all(struct cws_deflate *d, const uint8_t **data,
                                 size_t *len, struct cws_buf *out,
                                 size_t *room) {
    for (;;) {
        enum cws_parse result = unpack(d, data, len, out, room);
        if (result == CWS_BAD)
            return CWS_BAD;
        if (!*len && (d->in.stream->z.avail_out || between_blocks(d)))
            return CWS_ITEM;
        if (!*room && !(d->final && *len))
            return CWS_MORE;
    }
}

/* The tail is the rest of an empty block: nothing comes out of it. Where it
 * would fill up a block that was cut, the message was not complete. A message
 * that ends with a block with BFINAL set is complete for DEFLATE, and the tail
 * beyond its end. */
static enum cws_parse finish(struct cws_deflate *d, struct cws_buf *out,
                             size_t room) {
    const uint8_t *data = tail + d->tail;
    size_t len = sizeof tail - d->tail, left = room;
    if (!d->final || d->tail) {
        enum cws_parse result = unpack_all(d, &data, &len, out, &left);
        d->tail = (uint8_t)(sizeof tail - len);
        out->tail -= room - left;
        if (result == CWS_BAD || (result == CWS_MORE && left == room))
            return result;
    }
    if (left != room || !between_blocks(d))
        return bad(d, CWS_EPROTOCOL);
    d->tail = 0;
    end(d, &d->in);
    return CWS_ITEM;
}

enum cws_parse cws_deflate_expand(struct cws_deflate *d, const uint8_t **data,
                                  size_t *len, bool last, struct cws_buf *out,
                                  size_t room) {
    if (d->in.failed)
        return CWS_BAD;
    if (!*len && !d->in.begun) /* an empty message without even one byte */
        return CWS_ITEM;
    if (!begin(d, &d->in, false))
        return bad(d, CWS_EMEMORY);
    if (!d->tail) {
        enum cws_parse result = unpack_all(d, data, len, out, &room);
        if (result != CWS_ITEM)
            return result;
    }
    return last ? finish(d, out, room) : CWS_ITEM;
}

bool cws_deflate_available(void) {
    return true;
}

const char *cws_deflate_version(void) {
    return zlibVersion();
}

#else /* nothing is agreed without it, so nothing below is ever reached */

bool cws_deflate_available(void) {
    return false;
}

const char *cws_deflate_version(void) {
    return NULL;
}

struct cws_deflate_pool *cws_deflate_pool_new(void) {
    return cws_calloc(1);
}

void cws_deflate_pool_free(struct cws_deflate_pool *pool) {
    cws_free(pool);
}

struct cws_deflate *cws_deflate_new(const struct cws_deflate_config *config,
                                    struct cws_deflate_pool *pool) {
    (void)config;
    (void)pool;
    return NULL;
}

void cws_deflate_free(struct cws_deflate *d) {
    (void)d;
}

int cws_deflate_compress(struct cws_deflate *d, const uint8_t *data, size_t len,
                         bool last, struct cws_buf *out) {
    (void)d;
    (void)data;
    (void)len;
    (void)last;
    (void)out;
    return CWS_EINTERNAL;
}

uint32_t cws_deflate_packing(const struct cws_deflate *d) {
    (void)d;
    return 0;
}

enum cws_parse cws_deflate_expand(struct cws_deflate *d, const uint8_t **data,
                                  size_t *len, bool last, struct cws_buf *out,
                                  size_t room) {
    (void)d;
    (void)data;
    (void)len;
    (void)last;
    (void)out;
    (void)room;
    return CWS_BAD;
}

enum cws_err cws_deflate_error(const struct cws_deflate *d) {
    (void)d;
    return CWS_EINTERNAL;
}

size_t cws_deflate_memory(const struct cws_deflate *d) {
    (void)d;
    return 0;
}

#endif
