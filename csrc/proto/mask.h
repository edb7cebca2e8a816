/*
 * mask.h - RFC 6455 section 5.3. `key` is the four bytes of the wire in
 * memory order; `offset` is how many payload bytes of the frame came before.
 */
#ifndef CWS_PROTO_MASK_H
#define CWS_PROTO_MASK_H

#include "../cws.h"

/* In place. No alignment is demanded. */
void cws_mask(uint8_t *data, size_t len, const uint8_t key[4], size_t offset);

/* From src to dst (which do not overlap). */
void cws_mask_copy(uint8_t *dst, const uint8_t *src, size_t len,
                   const uint8_t key[4], size_t offset);

#endif
