#include "url.h"

#include <arpa/inet.h>
#include <string.h>

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static int hex(char c) {
    if (is_digit(c))
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* unreserved, sub-delims (RFC 3986 section 2) */
static bool is_name_char(char c) {
    return is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ||
           (c && strchr("-._~!$&'()*+,;=", c));
}

/* reg-name: percent escapes must be whole. */
static bool valid_name(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '%') {
            if (len - i < 3 || hex(text[i + 1]) < 0 || hex(text[i + 2]) < 0)
                return false;
            i += 2;
        } else if (!is_name_char(text[i])) {
            return false;
        }
    }
    return len > 0;
}

static bool valid_ipv6(const char *text, size_t len) {
    char copy[INET6_ADDRSTRLEN];
    struct in6_addr address;
    if (len >= sizeof copy || memchr(text, 0, len))
        return false;
    memcpy(copy, text, len);
    copy[len] = 0;
    return inet_pton(AF_INET6, copy, &address) == 1;
}

/* "" is no port; -1 wrong, -2 out of range. */
static int parse_port(const char *text, size_t len, int *port) {
    long value = 0;
    *port = -1;
    if (!len)
        return 0;
    for (size_t i = 0; i < len; i++) {
        if (!is_digit(text[i]))
            return -1;
        value = value * 10 + (text[i] - '0');
        if (value > 65535)
            return -2;
    }
    *port = (int)value;
    return value ? 0 : -2;
}

/* Where the host ends: at the port's colon or the end. 0: malformed. */
static size_t parse_host(const char *text, size_t len,
                         struct cws_authority *out) {
    const char *end;
    out->ipv6 = len && text[0] == '[';
    if (out->ipv6) {
        end = memchr(text, ']', len);
        if (!end || !valid_ipv6(text + 1, (size_t)(end - text) - 1))
            return 0;
        out->host = (struct cws_span){text + 1, (size_t)(end - text) - 1};
        return (size_t)(end - text) + 1;
    }
    end = len ? memchr(text, ':', len) : NULL;
    size_t host = end ? (size_t)(end - text) : len;
    out->host = (struct cws_span){text, host};
    return valid_name(text, host) ? host : 0;
}

/* NULL, or what is wrong. */
static const char *parse_authority(const char *text, size_t len,
                                   struct cws_authority *out) {
    out->port = -1;
    size_t host = parse_host(text, len, out);
    if (!host)
        return len == 0 || text[0] == ':' ? "no host" : "bad host";
    if (host == len)
        return NULL;
    if (text[host] != ':')
        return "bad host";
    switch (parse_port(text + host + 1, len - host - 1, &out->port)) {
    case 0:
        return NULL;
    case -2:
        return "port out of range";
    default:
        return "bad port";
    }
}

bool cws_url_authority(const char *text, size_t len,
                       struct cws_authority *out) {
    return parse_authority(text, len, out) == NULL;
}

/* --- URLs ----------------------------------------------------------------- */

static bool skip_prefix(const char **text, size_t *len, const char *prefix) {
    size_t n = strlen(prefix);
    if (*len < n)
        return false;
    for (size_t i = 0; i < n; i++) {
        char c = (*text)[i];
        if (c >= 'A' && c <= 'Z')
            c |= 0x20;
        if (c != prefix[i])
            return false;
    }
    *text += n;
    *len -= n;
    return true;
}

static bool parse_scheme(const char **text, size_t *len, bool allow_http,
                         bool *secure) {
    *secure = false;
    if (skip_prefix(text, len, "ws://") ||
        (allow_http && skip_prefix(text, len, "http://")))
        return true;
    *secure = true;
    return skip_prefix(text, len, "wss://") ||
           (allow_http && skip_prefix(text, len, "https://"));
}

const char *cws_url_parse(const char *text, size_t len, bool allow_http,
                          struct cws_url *out) {
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c <= 0x20 || c == 0x7F)
            return "a space or control byte";
        if (c >= 0x80)
            return "a byte that is not ASCII";
        if (c == '#') /* RFC 6455 section 3: "MUST NOT be used" */
            return "a fragment";
    }
    if (!parse_scheme(&text, &len, allow_http, &out->secure))
        return "not ws:// or wss://";
    size_t end = 0;
    while (end < len && text[end] != '/' && text[end] != '?')
        end++;
    out->target = (struct cws_span){text + end, len - end};
    /* RFC 6455 section 3 has none, RFC 9110 4.2.4: "treat its presence as an
     * error" */
    if (end && memchr(text, '@', end))
        return "user information";
    out->authority_text = (struct cws_span){text, end};
    return parse_authority(text, end, &out->authority);
}

int cws_url_decode(const char *text, size_t len, char *out) {
    int n = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] != '%') {
            out[n++] = text[i];
            continue;
        }
        int high = len - i > 2 ? hex(text[i + 1]) : -1;
        int low = high >= 0 ? hex(text[i + 2]) : -1;
        if (low < 0 || high + low == 0)
            return -1;
        out[n++] = (char)(high << 4 | low);
        i += 2;
    }
    return n;
}
