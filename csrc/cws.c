#include "cws.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/utf8.h"

/* --- errors --------------------------------------------------------------- */

const char *cws_err_kind(enum cws_err err) {
    static const char *const kinds[] = {
        "ok",    "timeout",   "closed",   "dns",   "connect",
        "tls",   "handshake", "protocol", "limit", "busy",
        "usage", "listen",    "memory",   "io",    "internal"};
    return kinds[-err];
}

const char *cws_close_text(int code) {
    static const char *const texts[] = {"normal",
                                        "going away",
                                        "protocol error",
                                        "unsupported data",
                                        NULL,
                                        "no status",
                                        "abnormal closure",
                                        "invalid payload data",
                                        "policy violation",
                                        "message too big",
                                        "mandatory extension missing",
                                        "internal server error",
                                        "service restart",
                                        "try again later",
                                        "bad gateway",
                                        "TLS handshake error"};
    if (code < 1000 || code > 1015)
        return NULL;
    return texts[code - 1000];
}

int cws_error_set(struct cws_error *error, enum cws_err err, int code,
                  const char *format, ...) {
    char text[1024];
    va_list args;
    if (!error)
        return err;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t len = n < 0 ? 0 : (size_t)n;
    if (len >= sizeof text)
        len = sizeof text - 1;
    error->err = err;
    error->code = code;
    cws_escape(error->text, sizeof error->text, text, len, false);
    return err;
}

/* --- escaping ------------------------------------------------------------- */

/* U+0080 to U+009F: control characters too, and U+009B does what ESC [ does. */
static bool is_c1(const uint8_t *data, size_t len) {
    return len >= 2 && data[0] == 0xC2 && data[1] < 0xA0;
}

/* Length of the UTF-8 character at the start of data, or 0. */
static size_t character(const uint8_t *data, size_t len) {
    size_t n = data[0] < 0xC2 ? 0 : data[0] < 0xE0 ? 2 : data[0] < 0xF0 ? 3 : 4;
    if (!n || n > len || is_c1(data, len))
        return 0;
    return cws_utf8_valid(data, n) ? n : 0;
}

static size_t plain(const uint8_t *data, size_t len, bool keep_utf8) {
    if (data[0] >= 0x20 && data[0] < 0x7F)
        return data[0] != '\\' || keep_utf8;
    return keep_utf8 && data[0] >= 0x80 ? character(data, len) : 0;
}

size_t cws_escape(char *out, size_t cap, const char *data, size_t len,
                  bool keep_utf8) {
    const uint8_t *bytes = (const uint8_t *)data;
    size_t at = 0;
    for (size_t i = 0; i < len;) {
        size_t n = plain(bytes + i, len - i, keep_utf8);
        if (at + (n ? n : 4) >= cap)
            break;
        if (n)
            memcpy(out + at, bytes + i, n);
        else
            snprintf(out + at, cap - at, "\\x%02X", bytes[i]);
        at += n ? n : 4;
        i += n ? n : 1;
    }
    if (cap)
        out[at] = 0;
    return at;
}

/* --- memory --------------------------------------------------------------- */

/* Since the last cws_alloc_fail; two threads may lose a count. */
static atomic_size_t asked;
static size_t fail_at; /* 0: never */
static bool fail_all;

static bool must_fail(void) {
    size_t n = atomic_load_explicit(&asked, memory_order_relaxed) + 1;
    atomic_store_explicit(&asked, n, memory_order_relaxed);
    return fail_at && (n == fail_at || (fail_all && n > fail_at));
}

void *cws_realloc(void *memory, size_t size) {
    return must_fail() ? NULL : realloc(memory, size);
}

void *cws_calloc(size_t size) {
    return must_fail() ? NULL : calloc(1, size);
}

void cws_free(void *memory) {
    free(memory);
}

size_t cws_alloc_fail(size_t n, bool all) {
    size_t before = asked;
    asked = 0;
    fail_at = n;
    fail_all = all;
    return before;
}
