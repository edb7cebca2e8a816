/*
 * list_fields.c - the lists of a handshake: tokens, subprotocols, extensions.
 * Each against a slow reference, and cut at a comma into two fields.
 *
 * The first byte of the input is what our server allows, and at which comma;
 * the rest is the list.
 */
#include "../proto/handshake.h"
#include "span_fuzz.h"

/* --- the reference: pieces between separators ------------------------------
 */

static bool is_space(char c) {
    return c == ' ' || c == '\t';
}

static struct cws_span trim(struct cws_span text) {
    while (text.len && is_space(text.data[0]))
        text.data++, text.len--;
    while (text.len && is_space(text.data[text.len - 1]))
        text.len--;
    return text;
}

/* Cuts the piece before the separator off *text. False: there is none left. */
static bool piece(struct cws_span *text, char separator, struct cws_span *out) {
    if (!text->data)
        return false;
    const char *end =
        text->len ? memchr(text->data, separator, text->len) : NULL;
    *out = *text;
    if (end)
        out->len = (size_t)(end - text->data);
    text->data = end ? end + 1 : NULL;
    text->len = end ? text->len - out->len - 1 : 0;
    *out = trim(*out);
    return true;
}

static bool is_token(struct cws_span text) {
    return cws_http_is_token(text.data, text.len);
}

/* token, or a quoted one that may be empty and hold escapes */
static bool is_value(struct cws_span text) {
    if (is_token(text))
        return true;
    if (text.len < 2 || text.data[0] != '"' || text.data[text.len - 1] != '"')
        return false;
    for (size_t i = 1; i + 1 < text.len; i++) {
        i += text.data[i] == '\\';
        if (i + 1 >= text.len || !cws_http_is_token(text.data + i, 1))
            return false;
    }
    return true;
}

static bool is_param(struct cws_span text) {
    struct cws_span rest = text, name;
    (void)piece(&rest, '=', &name);
    return is_token(name) && (!rest.data || is_value(trim(rest)));
}

static bool is_extension(struct cws_span text) {
    struct cws_span part;
    if (!piece(&text, ';', &part) || !is_token(part))
        return false;
    while (piece(&text, ';', &part))
        if (!is_param(part))
            return false;
    return true;
}

static bool are_extensions(struct cws_span list) {
    struct cws_span part;
    while (piece(&list, ',', &part))
        if (part.len && !is_extension(part))
            return false;
    return true;
}

static bool is_first(struct cws_span list, const char *before,
                     struct cws_span token) {
    struct cws_span part;
    while (piece(&list, ',', &part) && part.data < before)
        if (part.len && span_same(part, token))
            return false;
    return true;
}

static bool are_protocols(struct cws_span list) {
    struct cws_span rest = list, part;
    size_t count = 0;
    while (piece(&rest, ',', &part)) {
        if (part.len && (!is_token(part) || !is_first(list, part.data, part)))
            return false;
        count += part.len > 0;
    }
    return count <= CWS_HANDSHAKE_PROTOCOLS_MAX;
}

/* --- what must hold ---------------------------------------------------------
 */

static void check_tokens(struct cws_span list) {
    struct cws_span rest = list, part, element;
    size_t at = 0;
    while (piece(&rest, ',', &part)) {
        if (!part.len)
            continue;
        enum cws_parse result = cws_http_list_next(list, &at, &element);
        MUST(result == (is_token(part) ? CWS_ITEM : CWS_BAD));
        MUST(element.data == part.data && element.len == part.len);
    }
    MUST(cws_http_list_next(list, &at, &element) == CWS_MORE);
    MUST(at == list.len);
}

/* What is agreed on is a list that a client which allows all agrees to. */
static void check_negotiation(struct cws_span list, uint8_t options) {
    struct cws_deflate_params all = {.server_max_window_bits = 15,
                                     .client_max_window_bits = 15};
    struct cws_deflate_params mine = {
        .server_no_context_takeover = options & 1,
        .client_no_context_takeover = options & 2,
        .server_max_window_bits = options & 4 ? 10 : 15,
        .client_max_window_bits = options & 8 ? 9 : 15};
    struct cws_deflate_params agreed, other;
    struct cws_buf out = {0};
    const char *why;
    if (!cws_extension_negotiate(list, &mine, &agreed))
        return;
    MUST(agreed.server_max_window_bits >= 9);
    MUST(agreed.server_max_window_bits <= mine.server_max_window_bits);
    MUST(!cws_extension_write_answer(&agreed, &out));
    struct cws_span answer = span_copy(cws_buf_bytes(&out), cws_buf_len(&out));
    cws_buf_free(&out);
    MUST(are_extensions(answer));
    MUST(cws_extension_check_answer(answer, &all, &other, &why) == 1);
    MUST(agreed.server_max_window_bits == other.server_max_window_bits);
    MUST(agreed.client_max_window_bits == other.client_max_window_bits);
    MUST(agreed.server_no_context_takeover == other.server_no_context_takeover);
    MUST(agreed.client_no_context_takeover == other.client_no_context_takeover);
    span_free(answer);
}

static void put_text(struct cws_buf *out, const char *text) {
    MUST(!cws_buf_append(out, text, strlen(text)));
}

static void put_field(struct cws_buf *out, const char *name,
                      struct cws_span value) {
    put_text(out, name);
    put_text(out, ": ");
    MUST(!cws_buf_append(out, value.data, value.len));
    put_text(out, "\r\n");
}

/* An upgrade that has the list in two fields of that name, or in one. */
static int upgrade(const char *name, struct cws_span first,
                   struct cws_span second) {
    struct cws_buf head = {0};
    struct cws_http http = {.limits = {8192, 16384, 100}};
    struct cws_upgrade out;
    const char *why;
    put_text(&head, "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n"
                    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n");
    put_field(&head, name, first);
    if (second.data)
        put_field(&head, name, second);
    put_text(&head, "\r\n");
    const char *bytes = (const char *)cws_buf_bytes(&head);
    MUST(cws_http_parse(&http, bytes, cws_buf_len(&head)) == CWS_ITEM);
    int status = cws_handshake_upgrade(&http, bytes, &out, &why);
    cws_upgrade_free(&out);
    cws_buf_free(&head);
    return status;
}

/* RFC 9110 5.6.1.2: a field needs one. */
static bool has_element(struct cws_span list) {
    for (size_t i = 0; i < list.len; i++)
        if (!strchr(", \t", list.data[i]))
            return true;
    return false;
}

/* The n-th comma, or the last one; NULL when there is none. */
static const char *comma(struct cws_span list, size_t n) {
    const char *found = NULL;
    for (size_t i = 0; i < list.len; i++) {
        if (list.data[i] != ',')
            continue;
        found = list.data + i;
        if (n-- == 0)
            break;
    }
    return found;
}

static void check_fields(const char *name, struct cws_span list, size_t cut,
                         bool fine) {
    struct cws_span none = {NULL, 0};
    int status = fine && has_element(list) ? 0 : 400;
    MUST(upgrade(name, list, none) == status);
    const char *at = comma(list, cut);
    if (!at)
        return;
    size_t n = (size_t)(at - list.data);
    struct cws_span first = {list.data, n};
    struct cws_span second = {at + 1, list.len - n - 1};
    MUST(upgrade(name, first, second) == status);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1)
        return 0;
    struct cws_span list = span_copy(data + 1, size - 1);
    bool extensions = are_extensions(list);
    check_tokens(list);
    MUST(cws_extension_valid(list) == extensions);
    if (extensions)
        check_negotiation(list, data[0]);
    if (list.len < 4096 && cws_http_is_value(list.data, list.len)) {
        check_fields("Sec-WebSocket-Extensions", list, data[0] >> 4,
                     extensions);
        check_fields("Sec-WebSocket-Protocol", list, data[0] >> 4,
                     are_protocols(list));
    }
    span_free(list);
    return 0;
}
