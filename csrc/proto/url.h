/*
 * url.h - ws and wss URLs (RFC 6455 section 3), the authority of Host and
 * Origin (RFC 3986 section 3.2), percent-decoding of paths.
 */
#ifndef CWS_PROTO_URL_H
#define CWS_PROTO_URL_H

#include "../cws.h"

/* Spans borrow from the parsed text. */
struct cws_authority {
    struct cws_span host; /* without the brackets of an IPv6 literal */
    bool ipv6;            /* host stood in brackets */
    int port;             /* 1..65535, or -1 when it is missing */
};

struct cws_url {
    bool secure; /* wss */
    struct cws_authority authority;
    struct cws_span authority_text; /* as it stands, for Host */
    struct cws_span target;         /* path and query; may be empty, or start
                                       with '?': then "/" belongs before it */
};

/* host[:port], nothing else. An empty port ("a:") counts as missing. Returns
 * false on anything RFC 3986 does not allow, on user information, and on what
 * may stand in brackets but is no IPv6 address. */
bool cws_url_authority(const char *text, size_t len, struct cws_authority *out);

/*
 * A ws:// or wss:// URL (http and https are taken too when allow_http),
 * without user information.
 * Returns NULL, or what is wrong with it as a static text for people
 * ("no host", "a space or control byte", "a fragment", "port out of range"…).
 */
const char *cws_url_parse(const char *text, size_t len, bool allow_http,
                          struct cws_url *out);

/* Decodes %XX in place of a path; returns the new length or -1 when an escape
 * is malformed or decodes to NUL. `out` has room for len bytes. */
int cws_url_decode(const char *text, size_t len, char *out);

#endif
