#include "utf8.h"

#include <string.h>

/* What may follow a lead byte: how many continuation bytes, and the range of
 * the first of them (RFC 3629 section 4: no overlong forms, no surrogates,
 * nothing above U+10FFFF). */
static bool lead(struct cws_utf8 *s, uint8_t c) {
    s->low = 0x80;
    s->high = 0xBF;
    if (c >= 0xC2 && c <= 0xDF) {
        s->need = 1;
    } else if (c >= 0xE0 && c <= 0xEF) {
        s->need = 2;
        if (c == 0xE0)
            s->low = 0xA0;
        else if (c == 0xED)
            s->high = 0x9F;
    } else if (c >= 0xF0 && c <= 0xF4) {
        s->need = 3;
        if (c == 0xF0)
            s->low = 0x90;
        else if (c == 0xF4)
            s->high = 0x8F;
    } else {
        return false;
    }
    return true;
}

static bool is_ascii(const uint8_t *data) {
    uint64_t words[2];
    memcpy(words, data, sizeof words);
    return ((words[0] | words[1]) & 0x8080808080808080u) == 0;
}

bool cws_utf8_feed(struct cws_utf8 *s, const uint8_t *data, size_t len) {
    size_t i = 0;
    while (i < len) {
        if (s->need) {
            if (data[i] < s->low || data[i] > s->high)
                return false;
            s->low = 0x80;
            s->high = 0xBF;
            s->need--;
            i++;
            continue;
        }
        while (i + 16 <= len && is_ascii(data + i))
            i += 16;
        while (i < len && data[i] < 0x80)
            i++;
        if (i < len && !lead(s, data[i++]))
            return false;
    }
    return true;
}

bool cws_utf8_valid(const uint8_t *data, size_t len) {
    struct cws_utf8 state = {0};
    return cws_utf8_feed(&state, data, len) && cws_utf8_complete(&state);
}

const char *cws_utf8_implementation(void) {
    return "portable";
}

bool cws_utf8_force(const char *name) {
    return strcmp(name, "portable") == 0;
}
