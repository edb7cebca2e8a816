/*
 * head_fuzz.h - what the targets of request and response heads share. A head
 * is parsed whole, cut, and byte by byte; all must give the same.
 *
 * The first three bytes of the input are options:
 *   0    limits: bits 0-1 line, 2-3 header, 4-5 fields
 *   1-2  seed of the cuts, and more (see the target)
 */
#ifndef CWS_FUZZ_HEAD_FUZZ_H
#define CWS_FUZZ_HEAD_FUZZ_H

#include <sanitizer/asan_interface.h>

#include "../proto/handshake.h"
#include "span_fuzz.h"

#define OPTIONS 3

struct head {
    struct cws_http http;
    enum cws_parse result;
    struct cws_span bytes;
};

static struct cws_http start(uint8_t options, bool response) {
    static const size_t line[] = {CWS_HTTP_LINE_MAX, 8192, 40, 16};
    static const size_t header[] = {CWS_HTTP_HEADER_MAX, 16384, 200, 30};
    static const size_t fields[] = {CWS_HTTP_FIELDS_MAX, 1000, 5, 1};
    struct cws_http http = {.response = response,
                            .limits = {line[options & 3],
                                       header[options >> 2 & 3],
                                       fields[options >> 4 & 3]}};
    return http;
}

/* --- the same in every cutting ---------------------------------------------
 */

static bool same_part(struct cws_http_part a, struct cws_http_part b) {
    return a.at == b.at && a.len == b.len;
}

static void must_be_same(const struct head *a, const struct head *b) {
    const struct cws_http *x = &a->http, *y = &b->http;
    MUST(a->result == b->result);
    if (a->result == CWS_BAD)
        MUST(x->fail_status == y->fail_status && x->fail_text == y->fail_text);
    if (a->result != CWS_ITEM)
        return;
    MUST(x->size == y->size && x->minor == y->minor && x->status == y->status);
    MUST(same_part(x->method, y->method) && same_part(x->target, y->target));
    MUST(same_part(x->reason, y->reason));
    MUST(x->field_count == y->field_count);
    for (size_t i = 0; i < x->field_count; i++)
        MUST(same_part(x->fields[i].name, y->fields[i].name) &&
             same_part(x->fields[i].value, y->fields[i].value));
}

/* No byte is looked at twice, but a CR at the end. */
static void feed(struct head *h, struct cws_span all, size_t len) {
    size_t before = h->http.scanned;
    h->result = cws_http_parse(&h->http, all.data, len);
    MUST(h->http.scanned >= before && h->http.scanned <= len);
    MUST(h->result != CWS_MORE || h->http.scanned + 1 >= len);
}

static void compare_cut(const struct head *whole, struct cws_http http,
                        uint32_t seed) {
    struct head h = {.http = http};
    size_t len = whole->bytes.len;
    for (size_t at = 0; at < len && h.result == CWS_MORE;) {
        at = next_cut(&seed, at, len);
        h.bytes = span_copy(whole->bytes.data, at);
        feed(&h, h.bytes, at);
        span_free(h.bytes);
    }
    must_be_same(whole, &h);
}

static void compare_bytewise(const struct head *whole, struct cws_http http) {
    struct head h = {.http = http};
    h.bytes = span_copy(whole->bytes.data, whole->bytes.len);
    __asan_poison_memory_region(h.bytes.data, h.bytes.len);
    for (size_t n = 1; n <= h.bytes.len && h.result == CWS_MORE; n++) {
        __asan_unpoison_memory_region(h.bytes.data, n);
        feed(&h, h.bytes, n);
    }
    __asan_unpoison_memory_region(h.bytes.data, h.bytes.len);
    span_free(h.bytes);
    must_be_same(whole, &h);
}

/* --- what was accepted ------------------------------------------------------
 */

/* A walk over the head that takes what must come next. */
struct reader {
    const struct head *head;
    size_t at;
};

static void take(struct reader *r, const char *text) {
    size_t n = strlen(text);
    MUST(r->at + n <= r->head->http.size);
    MUST(memcmp(r->head->bytes.data + r->at, text, n) == 0);
    r->at += n;
}

static void take_part(struct reader *r, struct cws_http_part part) {
    MUST(r->at == part.at && part.len <= r->head->http.size - part.at);
    r->at += part.len;
}

static void take_space(struct reader *r) {
    const char *data = r->head->bytes.data;
    while (data[r->at] == ' ' || data[r->at] == '\t')
        r->at++;
}

static struct cws_span text_of(const struct head *h,
                               struct cws_http_part part) {
    return cws_http_span(h->bytes.data, part);
}

static void take_field(struct reader *r, const struct cws_http_field *field) {
    struct cws_span name = text_of(r->head, field->name);
    struct cws_span value = text_of(r->head, field->value);
    take_part(r, field->name);
    MUST(cws_http_is_token(name.data, name.len));
    take(r, ":");
    if (value.len)
        take_space(r);
    MUST(r->at == field->value.at || !value.len);
    r->at = field->value.at + value.len;
    MUST(cws_http_is_value(value.data, value.len));
    take_space(r);
    take(r, "\r\n");
}

/* The fields and the empty line are all that comes after the first line. */
static void take_fields(struct reader *r) {
    const struct cws_http *http = &r->head->http;
    size_t start = r->at;
    MUST(http->field_count <= http->limits.fields);
    MUST(http->field_count <= CWS_HTTP_FIELDS_MAX);
    for (size_t i = 0; i < http->field_count; i++)
        take_field(r, &http->fields[i]);
    MUST(r->at - start <= http->limits.header);
    take(r, "\r\n");
    MUST(r->at == http->size);
}

static void take_version(struct reader *r) {
    char minor[2] = {(char)('0' + r->head->http.minor), 0};
    take(r, "HTTP/1.");
    take(r, minor);
}

/* --- the run -----------------------------------------------------------------
 */

static void parse_all_ways(struct head *h, const uint8_t *data, size_t size,
                           bool response) {
    struct cws_http http = start(data[0], response);
    uint32_t seed = (uint32_t)data[1] << 8 | data[2];
    h->http = http;
    h->result = CWS_MORE;
    h->bytes = span_copy(data + OPTIONS, size - OPTIONS);
    if (h->bytes.len)
        feed(h, h->bytes, h->bytes.len);
    compare_cut(h, http, seed);
    compare_bytewise(h, http);
}

#endif
