/*
 * frame.h - the header of one frame, RFC 6455 section 5.2. Knows the form,
 * not the meaning: which opcodes and bits are right now is session's matter.
 */
#ifndef CWS_PROTO_FRAME_H
#define CWS_PROTO_FRAME_H

#include "../cws.h"

#define CWS_FRAME_HEADER_MAX 14
#define CWS_FRAME_CONTROL_MAX 125 /* payload of a control frame, 5.5 */

struct cws_frame {
    uint64_t len; /* payload bytes, 0..2^63-1 */
    uint8_t opcode;
    bool fin;
    uint8_t rsv; /* RSV1 = 4, RSV2 = 2, RSV3 = 1 */
    bool masked;
    uint8_t key[4]; /* when masked */
};

/*
 * Reads a header from the first `len` bytes. CWS_ITEM: *frame is filled and
 * *used says how many bytes the header took. CWS_MORE: not all there yet.
 * CWS_BAD: the length is not in its shortest form or has its top bit set
 * (5.2: "the minimal number of bytes MUST be used").
 */
enum cws_parse cws_frame_read(const uint8_t *data, size_t len,
                              struct cws_frame *frame, size_t *used);

/* Writes the header of *frame (with the key when masked) and returns its
 * length, 2..14. */
size_t cws_frame_write(const struct cws_frame *frame,
                       uint8_t out[CWS_FRAME_HEADER_MAX]);

#endif
