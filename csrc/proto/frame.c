#include "frame.h"

#include <string.h>

/* A compiler makes one load of it, and one store of write_32. */
static inline uint64_t read_32(const uint8_t *data) {
    return (uint32_t)data[0] << 24 | (uint32_t)data[1] << 16 |
           (uint32_t)data[2] << 8 | data[3];
}

static inline void write_32(uint8_t *out, uint64_t n) {
    out[0] = (uint8_t)(n >> 24);
    out[1] = (uint8_t)(n >> 16);
    out[2] = (uint8_t)(n >> 8);
    out[3] = (uint8_t)n;
}

static inline bool read_length(const uint8_t *data, size_t bytes,
                               uint64_t *len) {
    if (bytes == 2)
        *len = (uint64_t)data[0] << 8 | data[1];
    else
        *len = read_32(data) << 32 | read_32(data + 4);
    /* 5.2: "the minimal number of bytes MUST be used", "the most significant
     * bit MUST be 0" */
    return *len >= (bytes == 2 ? 126u : 65536u) && !(*len >> 63);
}

enum cws_parse cws_frame_read(const uint8_t *data, size_t len,
                              struct cws_frame *frame, size_t *used) {
    if (len < 2)
        return CWS_MORE;
    uint8_t first = data[0], second = data[1];
    frame->opcode = first & 0x0F;
    frame->fin = first & 0x80;
    frame->rsv = first >> 4 & 7;
    frame->masked = second & 0x80;
    size_t head = 2;
    uint64_t payload = second & 0x7F;
    if (payload >= 126) {
        size_t bytes = payload == 126 ? 2 : 8;
        head += bytes;
        if (len >= head && !read_length(data + 2, bytes, &payload))
            return CWS_BAD;
    }
    size_t whole = head + (second & 0x80 ? sizeof frame->key : 0);
    if (len < whole)
        return CWS_MORE;
    if (whole > head)
        memcpy(frame->key, data + head, sizeof frame->key);
    frame->len = payload;
    *used = whole;
    return CWS_ITEM;
}

static inline size_t write_length(uint8_t *out, uint64_t len) {
    if (len < 126) {
        out[1] = (uint8_t)len;
        return 2;
    }
    if (len < 65536) {
        out[1] = 126;
        out[2] = (uint8_t)(len >> 8);
        out[3] = (uint8_t)len;
        return 4;
    }
    out[1] = 127;
    write_32(out + 2, len >> 32);
    write_32(out + 6, len);
    return 10;
}

size_t cws_frame_write(const struct cws_frame *frame,
                       uint8_t out[CWS_FRAME_HEADER_MAX]) {
    out[0] = (uint8_t)((frame->fin ? 0x80 : 0) | (frame->rsv & 7) << 4 |
                       (frame->opcode & 0x0F));
    size_t n = write_length(out, frame->len);
    if (!frame->masked)
        return n;
    out[1] |= 0x80;
    memcpy(out + n, frame->key, sizeof frame->key);
    return n + sizeof frame->key;
}
