/*
 * url.c - URLs, authorities, percent-decoding. The first byte of the input
 * says whether http and https are allowed; the rest is taken for each of them.
 */
#include "../proto/url.h"

#include "../proto/handshake.h"
#include "span_fuzz.h"

static bool within(struct cws_span part, struct cws_span text) {
    return part.data >= text.data &&
           part.data + part.len <= text.data + text.len;
}

static void check_authority(const struct cws_authority *a,
                            struct cws_span text) {
    MUST(a->host.len > 0 && within(a->host, text));
    MUST(a->port == -1 || (a->port >= 1 && a->port <= 65535));
    MUST(a->ipv6 == (text.data[0] == '['));
    for (size_t i = 0; i < text.len; i++)
        MUST(text.data[i] > 0x20 && text.data[i] < 0x7F &&
             !strchr("/?#@\\\"<>{}|^`", text.data[i]));
}

/* Whatever has no path is an Origin, and the same as its own host. */
static void check_origin(const struct cws_url *url, struct cws_span text) {
    if ((text.data[0] | 0x20) == 'h')
        MUST(cws_handshake_same_origin(text, url->authority_text) ==
             !url->target.len);
    else
        MUST(!cws_handshake_same_origin(text, url->authority_text));
}

static void check_url(struct cws_span text, bool allow_http) {
    struct cws_url url, again;
    const char *why = cws_url_parse(text.data, text.len, allow_http, &url);
    if (why) {
        MUST(*why);
        return;
    }
    /* scheme, authority and target are all of it */
    size_t scheme = (size_t)(url.authority_text.data - text.data);
    MUST(scheme >= 5 && memcmp(text.data + scheme - 3, "://", 3) == 0);
    MUST(scheme + url.authority_text.len + url.target.len == text.len);
    MUST(!url.target.len || *url.target.data == '/' || *url.target.data == '?');
    MUST(url.secure == ((text.data[scheme - 4] | 0x20) == 's' && scheme != 5));
    check_authority(&url.authority, url.authority_text);
    check_origin(&url, text);
    /* the authority alone is the same */
    struct cws_span alone =
        span_copy(url.authority_text.data, url.authority_text.len);
    MUST(cws_url_authority(alone.data, alone.len, &again.authority));
    MUST(span_same(url.authority.host, again.authority.host));
    MUST(url.authority.port == again.authority.port);
    span_free(alone);
}

static int hex(char c) {
    const char *digits = "0123456789abcdef0123456789ABCDEF";
    const char *found = c ? strchr(digits, c) : NULL;
    return found ? (int)(found - digits) % 16 : -1;
}

/* The slow way; -1 likewise. */
static int decode(struct cws_span text, char *out) {
    int n = 0;
    for (size_t i = 0; i < text.len; i++, n++) {
        out[n] = text.data[i];
        if (text.data[i] != '%')
            continue;
        if (i + 2 >= text.len || hex(text.data[i + 1]) < 0 ||
            hex(text.data[i + 2]) < 0)
            return -1;
        out[n] = (char)(hex(text.data[i + 1]) * 16 + hex(text.data[i + 2]));
        if (!out[n])
            return -1;
        i += 2;
    }
    return n;
}

static void check_decode(struct cws_span text) {
    char *expected = (char *)exact_copy((const uint8_t *)text.data, text.len);
    char *out = (char *)exact_copy((const uint8_t *)text.data, text.len);
    int n = decode(text, expected);
    MUST(cws_url_decode(text.data, text.len, out) == n);
    MUST(n <= 0 || memcmp(out, expected, (size_t)n) == 0);
    if (text.len)
        memcpy(out, text.data, text.len);
    MUST(cws_url_decode(out, text.len, out) == n); /* in place */
    MUST(n <= 0 || memcmp(out, expected, (size_t)n) == 0);
    free(expected);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct cws_authority authority;
    if (size < 1)
        return 0;
    struct cws_span text = span_copy(data + 1, size - 1);
    check_url(text, data[0] & 1);
    if (cws_url_authority(text.data, text.len, &authority))
        check_authority(&authority, text);
    check_decode(text);
    span_free(text);
    return 0;
}
