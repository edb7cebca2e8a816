/*
 * extension.c - one walk over the grammar of RFC 6455 section 9.1 gives
 * extensions and parameters; negotiation looks at what it gives.
 */
#include "extension.h"

#include <string.h>

#include "http.h"

/* --- the grammar ---------------------------------------------------------- */

struct walk {
    const char *text;
    size_t len, at;
};

struct param {
    struct cws_span name;
    struct cws_span value; /* data NULL: none */
};

static void skip_space(struct walk *w) {
    while (w->at < w->len && (w->text[w->at] == ' ' || w->text[w->at] == '\t'))
        w->at++;
}

static bool next_is(struct walk *w, char c) {
    skip_space(w);
    if (w->at == w->len || w->text[w->at] != c)
        return false;
    w->at++;
    return true;
}

static bool token(struct walk *w, struct cws_span *out) {
    skip_space(w);
    size_t start = w->at;
    while (w->at < w->len && cws_http_is_token(w->text + w->at, 1))
        w->at++;
    *out = (struct cws_span){w->text + start, w->at - start};
    return out->len > 0;
}

/* "the value after quoted-string unescaping MUST conform to the token" (9.1).
 * The backslashes stay in *out: no parameter that we know needs one, and with
 * one, or empty, its value is refused. */
static bool quoted(struct walk *w, struct cws_span *out) {
    size_t start = ++w->at;
    while (w->at < w->len && w->text[w->at] != '"') {
        w->at += w->text[w->at] == '\\';
        if (w->at == w->len || !cws_http_is_token(w->text + w->at, 1))
            return false;
        w->at++;
    }
    *out = (struct cws_span){w->text + start, w->at - start};
    return next_is(w, '"');
}

static bool value(struct walk *w, struct cws_span *out) {
    skip_space(w);
    if (w->at < w->len && w->text[w->at] == '"')
        return quoted(w, out);
    return token(w, out);
}

static bool param(struct walk *w, struct param *out) {
    out->value = (struct cws_span){NULL, 0};
    if (!token(w, &out->name))
        return false;
    return !next_is(w, '=') || value(w, &out->value);
}

/* The start of the next extension. CWS_MORE: the end of the list. */
static enum cws_parse extension(struct walk *w, struct cws_span *name) {
    while (next_is(w, ',')) /* RFC 9110 5.6.1: empty elements */
        ;
    if (w->at == w->len)
        return CWS_MORE;
    return token(w, name) ? CWS_ITEM : CWS_BAD;
}

/* Its next parameter. CWS_MORE: it has no more. */
static enum cws_parse next_param(struct walk *w, struct param *out) {
    if (next_is(w, ';'))
        return param(w, out) ? CWS_ITEM : CWS_BAD;
    skip_space(w);
    return w->at == w->len || w->text[w->at] == ',' ? CWS_MORE : CWS_BAD;
}

bool cws_extension_valid(struct cws_span list) {
    struct walk w = {list.data, list.len, 0};
    struct cws_span name;
    struct param p;
    enum cws_parse result;
    while ((result = extension(&w, &name)) == CWS_ITEM) {
        while ((result = next_param(&w, &p)) == CWS_ITEM)
            ;
        if (result == CWS_BAD)
            return false;
    }
    return result == CWS_MORE;
}

/* --- parameters of permessage-deflate ------------------------------------- */

static const char deflate_name[] = "permessage-deflate";

/* What one element says. */
struct said {
    bool server_no_takeover, client_no_takeover;
    bool server_bits, client_bits;
    uint8_t server_value, client_value; /* 0: without a value */
};

static bool is(struct cws_span text, const char *name) {
    return text.len == strlen(name) && memcmp(text.data, name, text.len) == 0;
}

/* RFC 7692 7.1.2: "a decimal integer value without leading zeroes between 8
 * to 15, inclusive". 0 when it is not. */
static uint8_t window_bits(struct cws_span text) {
    int n = 0;
    if (!text.len || text.len > 2 || text.data[0] == '0')
        return 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return 0;
        n = n * 10 + (text.data[i] - '0');
    }
    return n >= 8 && n <= 15 ? (uint8_t)n : 0;
}

static bool flag(bool *seen, const struct param *p) {
    if (*seen || p->value.data)
        return false;
    return *seen = true;
}

static bool bits(bool *seen, uint8_t *out, const struct param *p) {
    if (*seen)
        return false;
    *seen = true;
    *out = window_bits(p->value);
    return *out != 0;
}

/* False for a parameter that is unknown, repeated or malformed. */
static bool take(struct said *s, const struct param *p) {
    if (is(p->name, "server_no_context_takeover"))
        return flag(&s->server_no_takeover, p);
    if (is(p->name, "client_no_context_takeover"))
        return flag(&s->client_no_takeover, p);
    if (is(p->name, "server_max_window_bits"))
        return bits(&s->server_bits, &s->server_value, p);
    if (!is(p->name, "client_max_window_bits"))
        return false;
    if (p->value.data || s->client_bits)
        return bits(&s->client_bits, &s->client_value, p);
    return s->client_bits = true; /* 7.1.2.2: a hint, without a value */
}

/* All parameters of the element; *fine is false when one is not acceptable. */
static enum cws_parse read_params(struct walk *w, struct said *s, bool *fine) {
    struct param p;
    enum cws_parse result;
    memset(s, 0, sizeof *s);
    *fine = true;
    while ((result = next_param(w, &p)) == CWS_ITEM)
        *fine = take(s, &p) && *fine;
    return result;
}

/* --- server --------------------------------------------------------------- */

static uint8_t smaller(uint8_t a, uint8_t b) {
    return a < b ? a : b;
}

static bool agree(const struct said *s, const struct cws_deflate_params *mine,
                  struct cws_deflate_params *out) {
    /* zlib has no raw deflate with a window of 256 bytes */
    if (s->server_bits && s->server_value == 8)
        return false;
    out->server_no_context_takeover =
        s->server_no_takeover || mine->server_no_context_takeover;
    out->client_no_context_takeover =
        s->client_no_takeover || mine->client_no_context_takeover;
    out->server_max_window_bits = smaller(s->server_bits ? s->server_value : 15,
                                          mine->server_max_window_bits);
    out->server_bits_offered = s->server_bits;
    out->client_max_window_bits = 15;
    /* 7.1.2.2: only a client that knows the parameter can be told */
    if (s->client_bits)
        out->client_max_window_bits =
            smaller(s->client_value ? s->client_value : 15,
                    mine->client_max_window_bits);
    return true;
}

bool cws_extension_negotiate(struct cws_span list,
                             const struct cws_deflate_params *mine,
                             struct cws_deflate_params *agreed) {
    struct walk w = {list.data, list.len, 0};
    struct cws_span name;
    struct said said;
    bool fine;
    while (extension(&w, &name) == CWS_ITEM) {
        if (read_params(&w, &said, &fine) == CWS_BAD)
            return false;
        if (cws_http_equal(name, deflate_name) && fine &&
            agree(&said, mine, agreed))
            return true;
    }
    return false;
}

/* --- writing -------------------------------------------------------------- */

static int put(struct cws_buf *out, const char *text) {
    return cws_buf_append(out, text, strlen(text));
}

static int put_bits(struct cws_buf *out, const char *name, int n) {
    char digits[4] = "=15";
    digits[1] = (char)('0' + n / 10);
    digits[2] = (char)('0' + n % 10);
    int err = put(out, name);
    if (err < 0)
        return err;
    return n < 10 ? put(out, "=") | cws_buf_append(out, digits + 2, 1)
                  : put(out, digits);
}

static int write_params(const struct cws_deflate_params *p, bool offer,
                        struct cws_buf *out) {
    int err = put(out, deflate_name);
    if (err == 0 && p->server_no_context_takeover)
        err = put(out, "; server_no_context_takeover");
    if (err == 0 && p->client_no_context_takeover)
        err = put(out, "; client_no_context_takeover");
    if (err == 0 &&
        (p->server_max_window_bits < 15 || (p->server_bits_offered && !offer)))
        err = put_bits(out, "; server_max_window_bits",
                       p->server_max_window_bits);
    if (err == 0 && p->client_max_window_bits && p->client_max_window_bits < 15)
        err = put_bits(out, "; client_max_window_bits",
                       p->client_max_window_bits);
    else if (err == 0 && offer && p->client_max_window_bits == 15)
        err = put(out, "; client_max_window_bits");
    return err < 0 ? CWS_EMEMORY : 0;
}

int cws_extension_write_answer(const struct cws_deflate_params *agreed,
                               struct cws_buf *out) {
    return write_params(agreed, false, out);
}

int cws_extension_write_offer(const struct cws_deflate_params *wish,
                              struct cws_buf *out) {
    return write_params(wish, true, out);
}

/* --- client --------------------------------------------------------------- */

/* 7.1: what the server may answer to this offer. */
static const char *bad_answer(const struct said *s,
                              const struct cws_deflate_params *offered) {
    if (offered->server_no_context_takeover && !s->server_no_takeover)
        return "server_no_context_takeover was asked for and not agreed to";
    if (s->client_bits && !s->client_value)
        return "client_max_window_bits without a value";
    if (s->client_bits && !offered->client_max_window_bits)
        return "client_max_window_bits was not offered";
    if (s->client_value > offered->client_max_window_bits)
        return "client_max_window_bits is larger than offered";
    if (offered->server_max_window_bits < 15 &&
        (!s->server_bits || s->server_value > offered->server_max_window_bits))
        return "server_max_window_bits is larger than asked for";
    return NULL;
}

static void adopt(const struct said *s,
                  const struct cws_deflate_params *offered,
                  struct cws_deflate_params *agreed) {
    uint8_t own = offered->client_max_window_bits;
    agreed->server_no_context_takeover = s->server_no_takeover;
    agreed->client_no_context_takeover =
        s->client_no_takeover || offered->client_no_context_takeover;
    agreed->server_max_window_bits = s->server_bits ? s->server_value : 15;
    agreed->server_bits_offered = false;
    agreed->client_max_window_bits = own ? own : 15;
    if (s->client_bits)
        agreed->client_max_window_bits = s->client_value;
}

int cws_extension_check_answer(struct cws_span list,
                               const struct cws_deflate_params *offered,
                               struct cws_deflate_params *agreed,
                               const char **why) {
    struct walk w = {list.data, list.len, 0};
    struct cws_span name;
    struct said said;
    bool fine;
    enum cws_parse result = extension(&w, &name);
    if (result == CWS_MORE)
        return 0;
    *why = "malformed extension in the answer";
    if (result == CWS_BAD || read_params(&w, &said, &fine) == CWS_BAD)
        return CWS_EHANDSHAKE;
    *why = "an extension that was not offered";
    if (!offered || !cws_http_equal(name, deflate_name))
        return CWS_EHANDSHAKE;
    *why = "bad parameters of permessage-deflate";
    if (!fine)
        return CWS_EHANDSHAKE;
    if ((*why = bad_answer(&said, offered)) != NULL)
        return CWS_EHANDSHAKE;
    *why = "more than one extension in the answer";
    if (extension(&w, &name) != CWS_MORE)
        return CWS_EHANDSHAKE;
    *why = NULL;
    adopt(&said, offered, agreed);
    return 1;
}
