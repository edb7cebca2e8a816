/*
 * http.c - the head of an HTTP/1.1 message, line by line. A line is looked for
 * byte by byte from where the last call stopped; a whole line is then taken
 * apart at once.
 */
#include "http.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum state { START, FIELDS, DONE, FAILED };

static enum cws_parse bad(struct cws_http *http, int status, const char *text) {
    http->state = FAILED;
    http->fail_status = http->response && status != 431 ? 0 : status;
    http->fail_text = text;
    return CWS_BAD;
}

/* --- characters ----------------------------------------------------------- */

/* 1: token (RFC 9110 5.6.2), 2: field value (5.5: HTAB, SP, VCHAR, obs-text) */
#define TOKEN 1
#define VALUE 2
/* clang-format off */
static const uint8_t classes[256] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    2, 3, 2, 3, 3, 3, 3, 3, 2, 2, 3, 3, 2, 3, 3, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 2, 2, 2, 2, 2, 2,
    2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 2, 2, 2, 3, 3,
    3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 2, 3, 2, 3, 0,
    2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
    2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
    2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
    2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
};
/* clang-format on */

static bool all(const char *text, size_t len, uint8_t class) {
    for (size_t i = 0; i < len; i++)
        if (!(classes[(unsigned char)text[i]] & class))
            return false;
    return true;
}

bool cws_http_is_token(const char *text, size_t len) {
    return len > 0 && all(text, len, TOKEN);
}

bool cws_http_is_value(const char *text, size_t len) {
    return all(text, len, VALUE);
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static struct cws_http_part part(size_t at, size_t len) {
    struct cws_http_part p = {(uint32_t)at, (uint32_t)len};
    return p;
}

/* --- the first line ------------------------------------------------------- */

/* RFC 9112 2.3: HTTP-name is case-sensitive, one digit, a dot, one digit. */
static bool parse_version(const char *text, size_t len, int *major,
                          int *minor) {
    if (len != 8 || memcmp(text, "HTTP/", 5) != 0 || !is_digit(text[5]) ||
        text[6] != '.' || !is_digit(text[7]))
        return false;
    *major = text[5] - '0';
    *minor = text[7] - '0';
    return true;
}

static enum cws_parse request_line(struct cws_http *http, const char *data,
                                   size_t at, size_t len) {
    const char *line = data + at;
    const char *first = memchr(line, ' ', len);
    size_t method = first ? (size_t)(first - line) : 0;
    if (!cws_http_is_token(line, method))
        return bad(http, 400, "malformed request line");
    size_t start = method + 1;
    const char *second = memchr(line + start, ' ', len - start);
    if (!second || second == line + start)
        return bad(http, 400, "malformed request line");
    size_t target = (size_t)(second - line) - start;
    for (size_t i = 0; i < target; i++)
        if ((unsigned char)line[start + i] <= 0x20 ||
            (unsigned char)line[start + i] >= 0x7F)
            return bad(http, 400, "bad byte in the request target");
    size_t version = start + target + 1;
    int major;
    if (!parse_version(line + version, len - version, &major, &http->minor))
        return bad(http, 400, "malformed HTTP version");
    if (major != 1)
        return bad(http, 505, "HTTP version not supported");
    http->method = part(at, method);
    http->target = part(at + start, target);
    return CWS_ITEM;
}

/* RFC 9112 4: status-line = HTTP-version SP status-code SP [ reason ]; many
 * servers leave out the second space when there is no reason. */
static enum cws_parse status_line(struct cws_http *http, const char *data,
                                  size_t at, size_t len) {
    const char *line = data + at;
    int major;
    if (len < 12 || !parse_version(line, 8, &major, &http->minor) ||
        major != 1 || line[8] != ' ')
        return bad(http, 0, "malformed status line");
    for (int i = 9; i < 12; i++)
        if (!is_digit(line[i]))
            return bad(http, 0, "malformed status code");
    if (len > 12 && line[12] != ' ')
        return bad(http, 0, "malformed status code");
    http->status =
        (line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0');
    if (http->status < 100 || http->status > 599)
        return bad(http, 0, "malformed status code");
    size_t reason = len > 13 ? len - 13 : 0;
    if (!cws_http_is_value(line + (len - reason), reason))
        return bad(http, 0, "bad byte in the status line");
    http->reason = part(at + len - reason, reason);
    return CWS_ITEM;
}

/* --- fields --------------------------------------------------------------- */

static bool is_space(char c) {
    return c == ' ' || c == '\t';
}

static enum cws_parse field_line(struct cws_http *http, const char *data,
                                 size_t at, size_t len) {
    const char *line = data + at;
    const char *colon = memchr(line, ':', len);
    if (is_space(line[0])) /* RFC 9112 5.2: obs-fold; 2.2: space before */
        return bad(http, 400, "line folding is not allowed");
    if (!colon)
        return bad(http, 400, "field line without a colon");
    size_t name = (size_t)(colon - line);
    /* RFC 9112 5.1: "No whitespace is allowed between the name and colon" */
    if (!cws_http_is_token(line, name))
        return bad(http, 400, "malformed field name");
    size_t start = name + 1, end = len;
    while (start < end && is_space(line[start]))
        start++;
    while (end > start && is_space(line[end - 1]))
        end--;
    if (!cws_http_is_value(line + start, end - start))
        return bad(http, 400, "bad byte in a field value");
    if (http->field_count >= http->limits.fields ||
        http->field_count >= CWS_HTTP_FIELDS_MAX)
        return bad(http, 431, "too many header fields");
    struct cws_http_field *field = &http->fields[http->field_count++];
    field->name = part(at, name);
    field->value = part(at + start, end - start);
    return CWS_ITEM;
}

/* --- lines ---------------------------------------------------------------- */

/* A whole line without its CRLF. CWS_MORE: go on with the next one. */
static enum cws_parse line(struct cws_http *http, const char *data, size_t at,
                           size_t len, size_t next) {
    if (http->state == START) {
        if (len == 0 && at == 0 && !http->response)
            return CWS_MORE; /* RFC 9112 2.2: "at least one empty line" */
        enum cws_parse result = http->response
                                    ? status_line(http, data, at, len)
                                    : request_line(http, data, at, len);
        if (result == CWS_BAD)
            return CWS_BAD;
        http->state = FIELDS;
        http->header = next;
        return CWS_MORE;
    }
    if (len == 0) {
        http->state = DONE;
        http->size = next;
        return CWS_ITEM;
    }
    return field_line(http, data, at, len) == CWS_BAD ? CWS_BAD : CWS_MORE;
}

/* The limits at the byte that breaks them. The final empty line counts for
 * nothing. */
static enum cws_parse over_limit(struct cws_http *http, size_t end,
                                 bool complete) {
    if (http->state == START) {
        if (end - http->line <= http->limits.line)
            return CWS_MORE;
        return http->response ? bad(http, 431, "status line too long")
                              : bad(http, 414, "request line too long");
    }
    size_t bytes = end - http->header + (complete ? 2 : 0);
    bool empty = end == http->line;
    if (bytes > http->limits.header && !empty)
        return bad(http, 431, "header fields too large");
    return CWS_MORE;
}

enum cws_parse cws_http_parse(struct cws_http *http, const char *data,
                              size_t len) {
    if (http->state >= DONE)
        return http->state == DONE ? CWS_ITEM : CWS_BAD;
    /* what is no HTTP at all (a TLS hello) is known by its first byte */
    if (len && !http->scanned && data[0] != '\r' && !cws_http_is_token(data, 1))
        return bad(http, 400, "not HTTP");
    while (http->scanned < len) {
        size_t i = http->scanned;
        const char *end = memchr(data + i, '\n', len - i);
        const char *stop = end ? end : data + len;
        const char *cr = memchr(data + i, '\r', (size_t)(stop - data) - i);
        bool bare = cr && cr + 1 < stop;
        size_t content = (size_t)((cr ? cr : stop) - data);
        /* the first byte that is wrong decides, however the input is cut */
        if (over_limit(http, content, end && !bare) == CWS_BAD)
            return CWS_BAD;
        /* RFC 9112 2.2: a bare CR is invalid; a bare LF we refuse as well */
        if (bare)
            return bad(http, 400, "bare CR");
        if (!end) { /* a CR at the end is looked at again */
            http->scanned = content;
            return CWS_MORE;
        }
        if (!cr)
            return bad(http, 400, "bare LF");
        size_t at = http->line;
        http->scanned = http->line = (size_t)(end - data) + 1;
        enum cws_parse result =
            line(http, data, at, content - at, http->scanned);
        if (result != CWS_MORE)
            return result;
    }
    return CWS_MORE;
}

/* --- looking things up ---------------------------------------------------- */

static bool equal(struct cws_span a, const char *b, size_t len) {
    if (a.len != len) /* most of the names that are asked for */
        return false;
    for (size_t i = 0; i < len; i++)
        if (a.data[i] != b[i] && lower(a.data[i]) != lower(b[i]))
            return false;
    return true;
}

bool cws_http_equal(struct cws_span a, const char *b) {
    return equal(a, b, strlen(b));
}

const struct cws_http_field *cws_http_find(const struct cws_http *http,
                                           const char *data, const char *name,
                                           size_t n) {
    size_t len = strlen(name);
    for (size_t i = 0; i < http->field_count; i++)
        if (equal(cws_http_span(data, http->fields[i].name), name, len) &&
            n-- == 0)
            return &http->fields[i];
    return NULL;
}

static bool is_separator(char c) {
    return c == ',' || is_space(c);
}

enum cws_parse cws_http_list_next(struct cws_span list, size_t *at,
                                  struct cws_span *element) {
    size_t i = *at;
    while (i < list.len && is_separator(list.data[i]))
        i++;
    size_t start = i;
    while (i < list.len && list.data[i] != ',')
        i++;
    *at = i;
    if (start == i)
        return CWS_MORE;
    size_t end = i;
    while (is_space(list.data[end - 1]))
        end--;
    *element = (struct cws_span){list.data + start, end - start};
    return cws_http_is_token(element->data, element->len) ? CWS_ITEM : CWS_BAD;
}

static bool list_has(struct cws_span list, const char *token) {
    size_t at = 0;
    struct cws_span element;
    enum cws_parse result;
    while ((result = cws_http_list_next(list, &at, &element)) != CWS_MORE)
        if (result == CWS_ITEM && cws_http_equal(element, token))
            return true;
    return false;
}

bool cws_http_has_token(const struct cws_http *http, const char *data,
                        const char *name, const char *token) {
    for (size_t i = 0; i < http->field_count; i++)
        if (cws_http_equal(cws_http_span(data, http->fields[i].name), name) &&
            list_has(cws_http_span(data, http->fields[i].value), token))
            return true;
    return false;
}

/* --- writing -------------------------------------------------------------- */

const char *cws_http_reason(int status) {
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {{100, "Continue"},
                   {101, "Switching Protocols"},
                   {200, "OK"},
                   {201, "Created"},
                   {202, "Accepted"},
                   {204, "No Content"},
                   {206, "Partial Content"},
                   {301, "Moved Permanently"},
                   {302, "Found"},
                   {303, "See Other"},
                   {304, "Not Modified"},
                   {307, "Temporary Redirect"},
                   {308, "Permanent Redirect"},
                   {400, "Bad Request"},
                   {401, "Unauthorized"},
                   {402, "Payment Required"},
                   {403, "Forbidden"},
                   {404, "Not Found"},
                   {405, "Method Not Allowed"},
                   {406, "Not Acceptable"},
                   {408, "Request Timeout"},
                   {409, "Conflict"},
                   {410, "Gone"},
                   {411, "Length Required"},
                   {412, "Precondition Failed"},
                   {413, "Content Too Large"},
                   {414, "URI Too Long"},
                   {415, "Unsupported Media Type"},
                   {417, "Expectation Failed"},
                   {418, "I'm a teapot"},
                   {421, "Misdirected Request"},
                   {422, "Unprocessable Content"},
                   {426, "Upgrade Required"},
                   {428, "Precondition Required"},
                   {429, "Too Many Requests"},
                   {431, "Request Header Fields Too Large"},
                   {451, "Unavailable For Legal Reasons"},
                   {500, "Internal Server Error"},
                   {501, "Not Implemented"},
                   {502, "Bad Gateway"},
                   {503, "Service Unavailable"},
                   {504, "Gateway Timeout"},
                   {505, "HTTP Version Not Supported"},
                   {507, "Insufficient Storage"},
                   {511, "Network Authentication Required"}};
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (reasons[i].status == status)
            return reasons[i].reason;
    return "";
}

static void put_two(char *out, int n) {
    out[0] = (char)('0' + n / 10 % 10);
    out[1] = (char)('0' + n % 10);
}

/* Each answer has one: without the detour of printf. */
void cws_http_date(int64_t time, char out[30]) {
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t seconds = (time_t)time;
    struct tm tm = {0};
    (void)gmtime_r(&seconds, &tm);
    memcpy(out, "Sun, 00 Jan 0000 00:00:00 GMT", 30);
    memcpy(out, days + 3 * tm.tm_wday, 3);
    put_two(out + 5, tm.tm_mday);
    memcpy(out + 8, months + 3 * tm.tm_mon, 3);
    put_two(out + 12, (tm.tm_year + 1900) / 100);
    put_two(out + 14, (tm.tm_year + 1900) % 100);
    put_two(out + 17, tm.tm_hour);
    put_two(out + 20, tm.tm_min);
    put_two(out + 23, tm.tm_sec);
}
