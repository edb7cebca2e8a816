/*
 * http.h - the head of an HTTP/1.1 message (RFC 9112), as strict as the RFC
 * allows: CRLF only, no obs-fold, no space before the colon.
 *
 * The parser keeps no bytes: the caller keeps the head in one buffer that only
 * grows, and calls cws_http_parse with all of it each time more came. No byte
 * is looked at twice (linear, however the input is cut). Spans of the result
 * are offsets into that buffer, so the buffer may move.
 */
#ifndef CWS_PROTO_HTTP_H
#define CWS_PROTO_HTTP_H

#include "../cws.h"

#define CWS_HTTP_FIELDS_MAX 100
#define CWS_HTTP_LINE_MAX 8192    /* request or status line, without CRLF */
#define CWS_HTTP_HEADER_MAX 16384 /* all field lines, with their CRLF */

/* Offset and length within the head. */
struct cws_http_part {
    uint32_t at;
    uint32_t len;
};

struct cws_http_field {
    struct cws_http_part name;
    struct cws_http_part value; /* without white space around it */
};

struct cws_http_limits {
    size_t line;   /* CWS_HTTP_LINE_MAX by default */
    size_t header; /* CWS_HTTP_HEADER_MAX */
    size_t fields; /* at most CWS_HTTP_FIELDS_MAX */
};

/* Zero value plus kind and limits is a parser at its start. */
struct cws_http {
    bool response;                 /* set by the caller: which kind to parse */
    struct cws_http_limits limits; /* set by the caller */

    /* The result, complete after CWS_ITEM. */
    struct cws_http_part method; /* request */
    struct cws_http_part target;
    int minor;  /* HTTP/1.minor */
    int status; /* response: 100..599 */
    struct cws_http_part reason;
    size_t field_count;
    struct cws_http_field fields[CWS_HTTP_FIELDS_MAX];
    size_t size; /* bytes of the head with the empty line that ends it */

    /* After CWS_BAD: for a request the status to answer (400, 414, 431, 501,
     * 505), for a response 0 (malformed) or 431 (a limit), and a static
     * text that says what is wrong. */
    int fail_status;
    const char *fail_text;

    /* Private. */
    size_t scanned; /* bytes looked at */
    size_t line;    /* start of the current line */
    size_t header;  /* start of the field lines */
    uint8_t state;
};

/*
 * Parses the head in data[0..len). Call again with the same bytes and more
 * after them while it returns CWS_MORE. Checks each limit at the first byte
 * that breaks it. One empty line before a request line is skipped.
 */
enum cws_parse cws_http_parse(struct cws_http *http, const char *data,
                              size_t len);

/* The part as a span of the buffer it was parsed from. */
static inline struct cws_span cws_http_span(const char *data,
                                            struct cws_http_part part) {
    struct cws_span span = {data + part.at, part.len};
    return span;
}

/* The n-th (from 0) field of that name, compared without case; NULL when there
 * is none. */
const struct cws_http_field *cws_http_find(const struct cws_http *http,
                                           const char *data, const char *name,
                                           size_t n);

/* Case-insensitive comparison of ASCII. */
bool cws_http_equal(struct cws_span a, const char *b);

bool cws_http_is_token(const char *text, size_t len); /* RFC 9110 5.6.2 */
bool cws_http_is_value(const char *text, size_t len); /* RFC 9110 5.5 */

/* True when one of the fields of that name holds the token in its
 * comma-separated list, without case (RFC 9110 5.6.1). */
bool cws_http_has_token(const struct cws_http *http, const char *data,
                        const char *name, const char *token);

/* Walks a comma-separated list of tokens with optional white space. *at starts
 * at 0. CWS_ITEM gives the next element (empty ones are skipped), CWS_MORE is
 * the end, CWS_BAD a malformed element. */
enum cws_parse cws_http_list_next(struct cws_span list, size_t *at,
                                  struct cws_span *element);

/* The standard reason phrase, "" when there is none. */
const char *cws_http_reason(int status);

/* IMF-fixdate of `time` (seconds since the epoch), 29 bytes and a NUL. */
void cws_http_date(int64_t time, char out[30]);

#endif
