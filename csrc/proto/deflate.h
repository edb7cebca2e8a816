/*
 * deflate.h - the message transformation of permessage-deflate, RFC 7692
 * section 7.2, on zlib. Without zlib (CWS_NO_ZLIB) cws_deflate_available is
 * false and cws_deflate_new gives NULL; a pool is then empty for ever.
 *
 * Contexts are made at first use. Where context takeover was not agreed a
 * direction borrows its zlib stream from the pool of its loop for one message
 * and gives it back, so an idle connection holds none.
 */
#ifndef CWS_PROTO_DEFLATE_H
#define CWS_PROTO_DEFLATE_H

#include "buf.h"
#include "extension.h"

bool cws_deflate_available(void);
const char *cws_deflate_version(void); /* zlib's, or NULL */

/* zlib streams that nobody uses now, a few of each direction; one pool a loop.
 * NULL when memory is out. */
struct cws_deflate_pool;
struct cws_deflate_pool *cws_deflate_pool_new(void);
void cws_deflate_pool_free(struct cws_deflate_pool *pool); /* NULL is fine */

struct cws_deflate_config {
    struct cws_deflate_params params; /* what was agreed */
    enum cws_role role;
    int level;        /* 1..9, or -1 for zlib's default */
    int memory_level; /* 1..9, 8 is zlib's default */
};

struct cws_deflate;

/* The pool is borrowed and must live longer. NULL when memory is out. */
struct cws_deflate *cws_deflate_new(const struct cws_deflate_config *config,
                                    struct cws_deflate_pool *pool);
void cws_deflate_free(struct cws_deflate *d); /* NULL is fine */

/*
 * Compresses a piece of a message and appends it to `out`; with `last` the
 * message ends and the tail 00 00 FF FF is taken off (7.2.1). Without `last`
 * zlib may hold back all of it. An empty message becomes one byte 00. 0 or
 * CWS_EMEMORY; the windows of the two ends differ after an error, so all later
 * calls give it again. With an agreed window of 256 bytes it only shortens
 * runs of one byte: zlib has no raw deflate for that window.
 */
int cws_deflate_compress(struct cws_deflate *d, const uint8_t *data, size_t len,
                         bool last, struct cws_buf *out);

/* Of what a whole message compresses to: the same for contexts that give the
 * same bytes; 0 where context takeover makes it depend on those before. */
uint32_t cws_deflate_packing(const struct cws_deflate *d);

/*
 * Inflates a piece. Input: *data and *len are moved on by what was used.
 * `last` says that the input ends with the message: the tail is added. Output:
 * at most `room` bytes more are appended to `out`, so the caller decides how
 * much may come at once.
 * Returns CWS_ITEM when all input is used and, with `last`, the message is
 * complete; CWS_MORE when `room` is full and there may be more to come: call
 * again; CWS_BAD for data that is not DEFLATE, or that ends inside a block
 * (with `last`), and from then on. cws_deflate_error is then CWS_EPROTOCOL, or
 * CWS_EMEMORY when memory ran out. After a block with BFINAL set further blocks
 * are read with the same window (7.2.3.4). Matches may reach back 32 KiB
 * whatever window was agreed, so the outcome never depends on how the input or
 * the room was cut.
 */
enum cws_parse cws_deflate_expand(struct cws_deflate *d, const uint8_t **data,
                                  size_t *len, bool last, struct cws_buf *out,
                                  size_t room);
enum cws_err cws_deflate_error(const struct cws_deflate *d);

/* Bytes of memory that its own contexts hold now (not the pool's). */
size_t cws_deflate_memory(const struct cws_deflate *d);

#endif
