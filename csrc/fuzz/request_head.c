/*
 * request_head.c - a request, from its bytes to the 101 that answers it. The
 * second byte of the seed also says which allocation fails.
 */
#include "../proto/crypto.h"

#include "head_fuzz.h"

static void check_accepted(const struct head *h) {
    struct reader r = {h, 0};
    if (h->bytes.data[0] == '\r')
        take(&r, "\r\n");
    size_t start_of_line = r.at;
    take_part(&r, h->http.method);
    MUST(
        cws_http_is_token(text_of(h, h->http.method).data, h->http.method.len));
    take(&r, " ");
    take_part(&r, h->http.target);
    MUST(h->http.target.len > 0);
    take(&r, " ");
    take_version(&r);
    MUST(r.at - start_of_line <= h->http.limits.line);
    take(&r, "\r\n");
    take_fields(&r);
}

static bool is(struct cws_span text, const char *expected) {
    return text.len == strlen(expected) &&
           memcmp(text.data, expected, text.len) == 0;
}

static void check_request(const struct head *h,
                          const struct cws_request *request) {
    struct cws_authority authority;
    MUST(is(request->method, "GET") || is(request->method, "HEAD"));
    MUST(request->head_only == is(request->method, "HEAD"));
    MUST(request->path.len > 0 && request->path.data[0] == '/');
    MUST(!memchr(request->path.data, 0, request->path.len));
    MUST(request->host.len ? cws_url_authority(request->host.data,
                                               request->host.len, &authority)
                           : h->http.minor == 0);
    MUST(!cws_http_find(&h->http, h->bytes.data, "Transfer-Encoding", 0));
    MUST(!cws_http_find(&h->http, h->bytes.data, "Host", 1));
    MUST(!request->wants_upgrade || h->http.minor > 0);
}

static struct cws_span buf_span(const struct cws_buf *b) {
    struct cws_span span = {"", cws_buf_len(b)};
    if (span.len)
        span.data = (const char *)cws_buf_bytes(b);
    return span;
}

/* What we answer is what our client takes for its answer. */
static void check_101(const struct cws_upgrade *upgrade) {
    struct cws_span none = {NULL, 0}, protocol, list = {NULL, 0};
    struct cws_buf out = {0}, extensions = {0};
    size_t at = 0;
    const char *why;
    struct cws_span offered = buf_span(&upgrade->protocols);
    (void)cws_http_list_next(offered, &at, &list);
    MUST(!cws_handshake_write_101(&out, upgrade->key, list, none, none, 0));
    struct head h = {.http = start(0, true), .bytes = buf_span(&out)};
    feed(&h, h.bytes, h.bytes.len);
    MUST(h.result == CWS_ITEM && h.http.size == h.bytes.len);
    MUST(h.http.status == 101);
    struct cws_handshake_offer offer = {.key = upgrade->key,
                                        .protocols = offered};
    MUST(!cws_handshake_check_response(&h.http, h.bytes.data, &offer, &protocol,
                                       &extensions, &why));
    MUST(span_same(protocol, list));
    cws_buf_free(&extensions);
    cws_buf_free(&out);
}

static void check_upgrade(const struct head *h,
                          const struct cws_upgrade *upgrade,
                          struct cws_span host) {
    struct cws_span element, protocols = buf_span(&upgrade->protocols);
    enum cws_parse result;
    size_t at = 0;
    MUST(h->http.minor > 0);
    MUST(cws_crypto_key_valid(upgrade->key.data, upgrade->key.len));
    MUST(cws_extension_valid(buf_span(&upgrade->extensions)));
    while ((result = cws_http_list_next(protocols, &at, &element)) == CWS_ITEM)
        ;
    MUST(result == CWS_MORE);
    if (upgrade->origin.data)
        (void)cws_handshake_same_origin(upgrade->origin, host);
    check_101(upgrade);
}

/* The checks of an upgrade; with and without memory. */
static void upgrade(const struct head *h, struct cws_span host, uint8_t fails) {
    struct cws_upgrade out;
    const char *why = NULL, *other = NULL;
    int status = cws_handshake_upgrade(&h->http, h->bytes.data, &out, &why);
    MUST(!status == !why);
    MUST(!status || status == 400 || status == 405 || status == 426);
    if (!status)
        check_upgrade(h, &out, host);
    cws_upgrade_free(&out);
    cws_alloc_fail(1 + fails % 4, fails & 4);
    int again = cws_handshake_upgrade(&h->http, h->bytes.data, &out, &other);
    cws_alloc_fail(0, false);
    MUST(again == status || again == 503);
    cws_upgrade_free(&out);
}

static void request(const struct head *h, uint8_t fails) {
    struct cws_request request;
    const char *why = NULL;
    char *path = malloc(h->http.target.len + 1);
    MUST(path);
    int status =
        cws_handshake_request(&h->http, h->bytes.data, path, &request, &why);
    MUST(!status == !why);
    MUST(!status || status == 400 || status == 405 || status == 501);
    if (!status) {
        check_request(h, &request);
        upgrade(h, request.host, fails);
    }
    free(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct head h;
    if (size < OPTIONS)
        return 0;
    parse_all_ways(&h, data, size, false);
    if (h.result == CWS_BAD)
        MUST(h.http.fail_status == 400 || h.http.fail_status == 414 ||
             h.http.fail_status == 431 || h.http.fail_status == 505);
    if (h.result == CWS_ITEM) {
        check_accepted(&h);
        request(&h, data[2]);
    }
    span_free(h.bytes);
    return 0;
}
