#include "frame.h"

#include <string.h>

static uint64_t read_length(const uint8_t *data, size_t bytes) {
    uint64_t len = 0;
    for (size_t i = 0; i < bytes; i++)
        len = len << 8 | data[i];
    return len;
}

enum cws_parse cws_frame_read(const uint8_t *data, size_t len,
                              struct cws_frame *frame, size_t *used) {
    if (len < 2)
        return CWS_MORE;
    uint8_t first = data[0], second = data[1];
    uint64_t payload = second & 0x7F;
    size_t extended = payload < 126 ? 0 : payload == 126 ? 2 : 8;
    bool masked = second & 0x80;
    size_t head = 2 + extended;
    if (extended && len >= head) {
        payload = read_length(data + 2, extended);
        /* 5.2: "the minimal number of bytes MUST be used", "the most
         * significant bit MUST be 0" */
        if (payload < (extended == 2 ? 126u : 65536u) || payload >> 63)
            return CWS_BAD;
    }
    if (len < head + (masked ? 4 : 0))
        return CWS_MORE;
    frame->len = payload;
    frame->opcode = first & 0x0F;
    frame->fin = first & 0x80;
    frame->rsv = first >> 4 & 7;
    frame->masked = masked;
    if (masked)
        memcpy(frame->key, data + head, sizeof frame->key);
    *used = head + (masked ? 4 : 0);
    return CWS_ITEM;
}

static size_t write_length(uint8_t *out, uint64_t len) {
    size_t bytes = len < 126 ? 0 : len < 65536 ? 2 : 8;
    out[1] = (uint8_t)(bytes == 0 ? len : bytes == 2 ? 126 : 127);
    for (size_t i = 0; i < bytes; i++)
        out[2 + i] = (uint8_t)(len >> 8 * (bytes - 1 - i));
    return 2 + bytes;
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
