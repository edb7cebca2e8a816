/*
 * handshake.c - the opening handshake of RFC 6455 section 4. First what a
 * server demands of a request, then what it answers, then the client's side.
 */
#include "handshake.h"

#include <stdio.h>
#include <string.h>

#include "crypto.h"

static struct cws_span span_of(const char *text) {
    struct cws_span span = {text, strlen(text)};
    return span;
}

static bool same(struct cws_span a, const char *b) {
    return a.len == strlen(b) && memcmp(a.data, b, a.len) == 0;
}

/* The value of the n-th field of that name; data NULL when there is none. */
static struct cws_span value_of(const struct cws_http *http, const char *head,
                                const char *name, size_t n) {
    const struct cws_http_field *field = cws_http_find(http, head, name, n);
    if (field)
        return cws_http_span(head, field->value);
    return (struct cws_span){NULL, 0};
}

/* All fields of that name joined by ", " (RFC 9110 5.3). */
static int join(const struct cws_http *http, const char *head, const char *name,
                struct cws_buf *out) {
    const struct cws_http_field *field;
    int err = 0;
    for (size_t n = 0;
         err == 0 && (field = cws_http_find(http, head, name, n)) != NULL;
         n++) {
        struct cws_span value = cws_http_span(head, field->value);
        if (n)
            err = cws_buf_append(out, ", ", 2);
        if (err == 0)
            err = cws_buf_append(out, value.data, value.len);
    }
    return err;
}

static struct cws_span buf_span(const struct cws_buf *b) {
    struct cws_span span = {"", cws_buf_len(b)};
    if (span.len)
        span.data = (const char *)cws_buf_bytes(b);
    return span;
}

/* The field is there and holds nothing but commas: both lists of ours are
 * 1#element, and "at least one non-empty element is required" (RFC 9110
 * 5.6.1.2). */
static bool lacks_element(const struct cws_http *http, const char *head,
                          const char *name, const struct cws_buf *joined) {
    struct cws_span element;
    size_t at = 0;
    return cws_http_find(http, head, name, 0) &&
           cws_http_list_next(buf_span(joined), &at, &element) == CWS_MORE;
}

static int refuse(int status, const char **why, const char *text) {
    *why = text;
    return status;
}

/* --- what every request must satisfy -------------------------------------- */

/* The absolute-form (RFC 9112 3.2.2): its authority wins over Host. */
static bool split_absolute(struct cws_request *out) {
    struct cws_url url;
    if (cws_url_parse(out->target.data, out->target.len, true, &url))
        return false;
    out->host = url.authority_text;
    out->target = url.target.len ? url.target : span_of("/");
    return true;
}

static bool parse_target(struct cws_request *out, char *path) {
    const char *text = out->target.data;
    size_t len = out->target.len;
    if (memchr(text, '#', len))
        return false;
    const char *mark = memchr(text, '?', len);
    size_t size = mark ? (size_t)(mark - text) : len;
    int n = cws_url_decode(text, size, path);
    if (n < 0)
        return false;
    if (n == 0) /* an absolute-form with a query and no path */
        path[n++] = '/';
    out->path = (struct cws_span){path, (size_t)n};
    out->query = (struct cws_span){mark ? mark + 1 : text + len,
                                   mark ? len - size - 1 : 0};
    return true;
}

/* RFC 9112 3.2: one Host field in every HTTP/1.1 request, and a valid one. */
static bool parse_host(const struct cws_http *http, const char *head,
                       struct cws_request *out) {
    struct cws_authority authority;
    out->host = value_of(http, head, "Host", 0);
    if (value_of(http, head, "Host", 1).data)
        return false;
    if (!out->host.data) {
        out->host = span_of("");
        return http->minor == 0;
    }
    return cws_url_authority(out->host.data, out->host.len, &authority);
}

/* No bodies: nothing that a second reader could take for a second request. */
static bool has_body(const struct cws_http *http, const char *head) {
    struct cws_span length = value_of(http, head, "Content-Length", 0);
    if (value_of(http, head, "Transfer-Encoding", 0).data ||
        value_of(http, head, "Content-Length", 1).data)
        return true;
    return length.data && !same(length, "0");
}

/* 0 for GET and HEAD. */
static int method_status(struct cws_span method) {
    static const char *const known[] = {"POST",    "PUT",   "DELETE", "CONNECT",
                                        "OPTIONS", "TRACE", "PATCH"};
    if (same(method, "GET") || same(method, "HEAD"))
        return 0;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (same(method, known[i]))
            return 405;
    return 501;
}

int cws_handshake_request(const struct cws_http *http, const char *head,
                          char *path, struct cws_request *out,
                          const char **why) {
    memset(out, 0, sizeof *out);
    out->method = cws_http_span(head, http->method);
    out->target = cws_http_span(head, http->target);
    out->head_only = same(out->method, "HEAD");
    int status = method_status(out->method);
    if (status == 501)
        return refuse(501, why, "method not implemented");
    if (!parse_host(http, head, out))
        return refuse(400, why, "missing or malformed Host");
    if (has_body(http, head))
        return refuse(400, why, "requests with a body are not accepted");
    if (status)
        return refuse(405, why, "method not allowed");
    if (out->target.data[0] != '/' && !split_absolute(out))
        return refuse(400, why, "bad request target");
    if (!parse_target(out, path))
        return refuse(400, why, "bad request target");
    out->wants_upgrade = http->minor > 0 &&
                         cws_http_has_token(http, head, "Upgrade", "websocket");
    return 0;
}

/* --- the server's checks of an upgrade ------------------------------------ */

/* 426 for a version that we do not speak, 400 for none at all. */
static int check_version(struct cws_span text, bool twice) {
    int value = 0;
    if (!text.data || twice || !text.len || text.len > 3 ||
        (text.len > 1 && text.data[0] == '0'))
        return 400;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return 400;
        value = value * 10 + (text.data[i] - '0');
    }
    return value == 13 ? 0 : value > 255 ? 400 : 426;
}

static bool is_among(const struct cws_span *list, size_t count,
                     struct cws_span element) {
    for (size_t i = 0; i < count; i++)
        if (list[i].len == element.len &&
            memcmp(list[i].data, element.data, element.len) == 0)
            return true;
    return false;
}

/* RFC 6455 4.1 (10): tokens, "MUST all be unique strings". */
static bool valid_protocols(struct cws_span list) {
    struct cws_span seen[CWS_HANDSHAKE_PROTOCOLS_MAX], element;
    size_t at = 0, count = 0;
    enum cws_parse result;
    while ((result = cws_http_list_next(list, &at, &element)) == CWS_ITEM) {
        if (count == CWS_HANDSHAKE_PROTOCOLS_MAX ||
            is_among(seen, count, element))
            return false;
        seen[count++] = element;
    }
    return result == CWS_MORE;
}

/* The fields that are lists. */
static int check_lists(const struct cws_http *http, const char *head,
                       struct cws_upgrade *out, const char **why) {
    static const char protocols[] = "Sec-WebSocket-Protocol";
    static const char extensions[] = "Sec-WebSocket-Extensions";
    if (join(http, head, protocols, &out->protocols) < 0 ||
        join(http, head, extensions, &out->extensions) < 0)
        return refuse(503, why, "out of memory");
    if (!valid_protocols(buf_span(&out->protocols)) ||
        lacks_element(http, head, protocols, &out->protocols))
        return refuse(400, why, "malformed 'Sec-WebSocket-Protocol' header");
    if (!cws_extension_valid(buf_span(&out->extensions)) ||
        lacks_element(http, head, extensions, &out->extensions))
        return refuse(400, why, "malformed 'Sec-WebSocket-Extensions' header");
    return 0;
}

int cws_handshake_upgrade(const struct cws_http *http, const char *head,
                          struct cws_upgrade *out, const char **why) {
    memset(out, 0, sizeof *out);
    if (http->minor == 0)
        return refuse(426, why, "HTTP/1.1 is needed");
    if (!same(cws_http_span(head, http->method), "GET"))
        return refuse(405, why, "request method is not GET");
    if (!cws_http_has_token(http, head, "Connection", "upgrade"))
        return refuse(400, why,
                      "'upgrade' token not found in 'Connection' "
                      "header");
    if (!cws_http_has_token(http, head, "Upgrade", "websocket"))
        return refuse(426, why,
                      "'websocket' token not found in 'Upgrade' "
                      "header");
    static const char version[] = "Sec-WebSocket-Version";
    int status = check_version(value_of(http, head, version, 0),
                               value_of(http, head, version, 1).data != NULL);
    if (status)
        return refuse(status, why,
                      "unsupported version: 13 not found in "
                      "'Sec-WebSocket-Version' header");
    out->key = value_of(http, head, "Sec-WebSocket-Key", 0);
    if (!out->key.data || value_of(http, head, "Sec-WebSocket-Key", 1).data ||
        !cws_crypto_key_valid(out->key.data, out->key.len))
        return refuse(400, why,
                      "'Sec-WebSocket-Key' header must be base64 of "
                      "16 bytes");
    /* RFC 6454 7.3: "MUST NOT include more than one Origin header field": which
     * one is checked would be a guess */
    out->origin = value_of(http, head, "Origin", 0);
    if (value_of(http, head, "Origin", 1).data)
        return refuse(400, why, "more than one 'Origin' header");
    return check_lists(http, head, out, why);
}

void cws_upgrade_free(struct cws_upgrade *upgrade) {
    cws_buf_free(&upgrade->protocols);
    cws_buf_free(&upgrade->extensions);
}

static bool same_host(struct cws_span a, struct cws_span b) {
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++) {
        unsigned char x = (unsigned char)a.data[i],
                      y = (unsigned char)b.data[i];
        if (x != y &&
            ((x | 0x20) != (y | 0x20) || (x | 0x20) < 'a' || (x | 0x20) > 'z'))
            return false;
    }
    return true;
}

/* Origin is scheme "://" host [ ":" port ] and nothing after it (RFC 6454
 * section 7). */
bool cws_handshake_same_origin(struct cws_span origin, struct cws_span host) {
    struct cws_url url;
    struct cws_authority own;
    if (!origin.data || cws_url_parse(origin.data, origin.len, true, &url) ||
        url.target.len || (origin.data[0] | 0x20) != 'h' ||
        !cws_url_authority(host.data, host.len, &own))
        return false;
    int fallback = url.secure ? 443 : 80;
    int theirs = url.authority.port < 0 ? fallback : url.authority.port;
    int ours = own.port < 0 ? fallback : own.port;
    return theirs == ours && url.authority.ipv6 == own.ipv6 &&
           same_host(url.authority.host, own.host);
}

/* --- answers -------------------------------------------------------------- */

/* A growing head; the first failure sticks. */
struct head {
    struct cws_buf *out;
    int err;
};

static void put(struct head *h, struct cws_span text) {
    if (h->err == 0)
        h->err = cws_buf_append(h->out, text.data, text.len);
}

static void put_text(struct head *h, const char *text) {
    put(h, span_of(text));
}

/* Nothing when there is no value. */
static void put_field(struct head *h, const char *name, struct cws_span value) {
    if (!value.len)
        return;
    put_text(h, name);
    put_text(h, ": ");
    put(h, value);
    put_text(h, "\r\n");
}

static void put_status(struct head *h, int status) {
    char line[32];
    snprintf(line, sizeof line, "HTTP/1.1 %03d ", status);
    put_text(h, line);
    put_text(h, cws_http_reason(status));
    put_text(h, "\r\n");
}

/* True when one of the complete lines in `fields` has that name. */
static bool given(struct cws_span fields, const char *name) {
    size_t n = strlen(name);
    const char *end = fields.len ? fields.data + fields.len : fields.data;
    for (const char *at = fields.data; at < end;) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop)
            stop = end - 1;
        struct cws_span start = {at, n};
        if ((size_t)(stop - at) > n && at[n] == ':' &&
            cws_http_equal(start, name))
            return true;
        at = stop + 1;
    }
    return false;
}

static void put_date(struct head *h, struct cws_span fields, int64_t now) {
    char date[30];
    if (given(fields, "Date"))
        return;
    cws_http_date(now, date);
    put_field(h, "Date", span_of(date));
}

int cws_handshake_write_101(struct cws_buf *out, struct cws_span key,
                            struct cws_span protocol, struct cws_span extension,
                            struct cws_span fields, int64_t now) {
    char accept[CWS_CRYPTO_ACCEPT_LEN + 1];
    struct head h = {out, 0};
    int err = cws_crypto_accept(key.data, key.len, accept);
    if (err < 0)
        return err;
    put_status(&h, 101);
    put_date(&h, fields, now);
    put_text(&h, "Upgrade: websocket\r\nConnection: Upgrade\r\n");
    put_field(&h, "Sec-WebSocket-Accept", span_of(accept));
    put_field(&h, "Sec-WebSocket-Protocol", protocol);
    put_field(&h, "Sec-WebSocket-Extensions", extension);
    put(&h, fields);
    put_text(&h, "\r\n");
    return h.err;
}

int cws_handshake_write_response(struct cws_buf *out, int status,
                                 struct cws_span fields, size_t content_length,
                                 int64_t now) {
    char digits[24];
    struct head h = {out, 0};
    put_status(&h, status);
    put_date(&h, fields, now);
    if (status == 426) /* RFC 9110 15.5.22, RFC 6455 4.4 */
        put_text(&h, "Connection: Upgrade, close\r\nUpgrade: websocket\r\n"
                     "Sec-WebSocket-Version: 13\r\n");
    else
        put_text(&h, "Connection: close\r\n");
    if (status == 405 && !given(fields, "Allow")) /* RFC 9110 15.5.6 */
        put_text(&h, "Allow: GET, HEAD\r\n");
    snprintf(digits, sizeof digits, "%zu", content_length);
    if (status != 204 && status != 304)
        put_field(&h, "Content-Length", span_of(digits));
    put(&h, fields);
    put_text(&h, "\r\n");
    return h.err;
}

/* --- the client ----------------------------------------------------------- */

int cws_handshake_write_request(struct cws_buf *out,
                                const struct cws_handshake_offer *offer) {
    struct head h = {out, 0};
    put_text(&h, "GET ");
    if (!offer->target.len || offer->target.data[0] != '/')
        put_text(&h, "/");
    put(&h, offer->target);
    put_text(&h, " HTTP/1.1\r\n");
    put_field(&h, "Host", offer->authority);
    put_text(&h, "Upgrade: websocket\r\nConnection: Upgrade\r\n");
    put_field(&h, "Sec-WebSocket-Key", offer->key);
    put_text(&h, "Sec-WebSocket-Version: 13\r\n");
    put_field(&h, "Sec-WebSocket-Protocol", offer->protocols);
    put_field(&h, "Sec-WebSocket-Extensions", offer->extensions);
    put(&h, offer->fields);
    put_text(&h, "\r\n");
    return h.err;
}

/* 4.1 (2): "not an ASCII case-insensitive match for the value "websocket"". */
static bool upgrades_to_websocket(const struct cws_http *http,
                                  const char *head) {
    struct cws_span value = value_of(http, head, "Upgrade", 0);
    return value.data && cws_http_equal(value, "websocket") &&
           !value_of(http, head, "Upgrade", 1).data;
}

static bool accept_matches(const struct cws_http *http, const char *head,
                           struct cws_span key) {
    static const char name[] = "Sec-WebSocket-Accept";
    char accept[CWS_CRYPTO_ACCEPT_LEN + 1];
    struct cws_span value = value_of(http, head, name, 0);
    return value.data && !value_of(http, head, name, 1).data &&
           cws_crypto_accept(key.data, key.len, accept) == 0 &&
           same(value, accept);
}

static bool was_offered(struct cws_span offer, struct cws_span protocol) {
    struct cws_span element;
    size_t at = 0;
    while (cws_http_list_next(offer, &at, &element) == CWS_ITEM)
        if (element.len == protocol.len &&
            memcmp(element.data, protocol.data, protocol.len) == 0)
            return true;
    return false;
}

static int unusable(const char **why, const char *text) {
    *why = text;
    return CWS_EHANDSHAKE;
}

int cws_handshake_check_response(const struct cws_http *http, const char *head,
                                 const struct cws_handshake_offer *offer,
                                 struct cws_span *protocol,
                                 struct cws_buf *extensions, const char **why) {
    static const char name[] = "Sec-WebSocket-Protocol";
    static const char list[] = "Sec-WebSocket-Extensions";
    *protocol = span_of("");
    if (http->minor == 0)
        return unusable(why, "the answer is HTTP/1.0");
    if (!upgrades_to_websocket(http, head))
        return unusable(why, "'Upgrade' of the answer is not 'websocket'");
    if (!cws_http_has_token(http, head, "Connection", "upgrade"))
        return unusable(why, "'Connection' of the answer has no 'upgrade'");
    if (!accept_matches(http, head, offer->key))
        return unusable(why, "'Sec-WebSocket-Accept' does not match the key");
    struct cws_span chosen = value_of(http, head, name, 0);
    if (chosen.data) { /* 4.1 (6) */
        if (value_of(http, head, name, 1).data ||
            !was_offered(offer->protocols, chosen))
            return unusable(why, "a subprotocol that was not offered");
        *protocol = chosen;
    }
    if (value_of(http, head, list, 1).data)
        return unusable(why, "'Sec-WebSocket-Extensions' more than once");
    *why = "out of memory";
    int err = join(http, head, list, extensions);
    if (err == 0 && lacks_element(http, head, list, extensions))
        return unusable(why, "'Sec-WebSocket-Extensions' without an element");
    return err;
}

bool cws_handshake_reserved(struct cws_span name) {
    static const char *const names[] = {"Host",
                                        "Connection",
                                        "Upgrade",
                                        "Content-Length",
                                        "Transfer-Encoding",
                                        "Trailer",
                                        "TE",
                                        "Keep-Alive"};
    static const char prefix[] = "Sec-WebSocket-";
    struct cws_span start = {name.data, sizeof prefix - 1};
    if (name.len >= start.len && cws_http_equal(start, prefix))
        return true;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (cws_http_equal(name, names[i]))
            return true;
    return false;
}
