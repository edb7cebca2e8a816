/*
 * response_head.c - a server's answer, from its bytes to what was agreed. The
 * seed also says what was offered.
 */
#include "head_fuzz.h"

/* RFC 6455 1.3 */
static const struct cws_span key = {"dGhlIHNhbXBsZSBub25jZQ==", 24};

static void check_accepted(const struct head *h) {
    struct reader r = {h, 0};
    take_version(&r);
    take(&r, " ");
    MUST(h->http.status >= 100 && h->http.status <= 599);
    r.at += 3;
    if (h->bytes.data[r.at] == ' ')
        r.at++;
    MUST(!h->http.reason.len || r.at == h->http.reason.at);
    r.at += h->http.reason.len;
    MUST(r.at <= h->http.limits.line);
    take(&r, "\r\n");
    take_fields(&r);
}

static bool is_bits(uint8_t n) {
    return n >= 8 && n <= 15;
}

static void check_extensions(struct cws_span list, const uint8_t *options) {
    struct cws_deflate_params agreed;
    struct cws_deflate_params offered = {
        .server_no_context_takeover = options[2] & 1,
        .client_no_context_takeover = options[2] & 2,
        .server_max_window_bits = options[2] & 4 ? 10 : 15,
        .client_max_window_bits = options[2] & 8    ? 0
                                  : options[2] & 16 ? 10
                                                    : 15};
    const char *why = NULL;
    bool offers = !(options[1] & 1);
    int n = cws_extension_check_answer(list, offers ? &offered : NULL, &agreed,
                                       &why);
    MUST(n == 0 || n == 1 || (n == CWS_EHANDSHAKE && why));
    MUST(n == CWS_EHANDSHAKE || cws_extension_valid(list));
    if (n != 1)
        return;
    MUST(offers);
    MUST(is_bits(agreed.server_max_window_bits));
    MUST(is_bits(agreed.client_max_window_bits));
    MUST(agreed.server_max_window_bits <= offered.server_max_window_bits);
    MUST(!offered.client_max_window_bits ||
         agreed.client_max_window_bits <= offered.client_max_window_bits);
    MUST(agreed.server_no_context_takeover ||
         !offered.server_no_context_takeover);
}

static void answer(const struct head *h, const uint8_t *options) {
    struct cws_handshake_offer offer = {.key = key};
    struct cws_span protocol;
    struct cws_buf extensions = {0};
    const char *why = NULL;
    if (options[1] & 2)
        offer.protocols = (struct cws_span){"chat, superchat", 15};
    int err = cws_handshake_check_response(&h->http, h->bytes.data, &offer,
                                           &protocol, &extensions, &why);
    MUST(err == 0 || (err == CWS_EHANDSHAKE && why));
    if (err == 0) {
        struct cws_span list =
            span_copy(cws_buf_bytes(&extensions), cws_buf_len(&extensions));
        MUST(!protocol.len || offer.protocols.len);
        check_extensions(list, options);
        span_free(list);
    }
    cws_buf_free(&extensions);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct head h;
    if (size < OPTIONS)
        return 0;
    parse_all_ways(&h, data, size, true);
    if (h.result == CWS_BAD)
        MUST(h.http.fail_status == 0 || h.http.fail_status == 431);
    if (h.result == CWS_ITEM) {
        check_accepted(&h);
        answer(&h, data);
    }
    span_free(h.bytes);
    return 0;
}
