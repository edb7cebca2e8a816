/*
 * handshake.h - the opening handshake of RFC 6455 section 4, both roles, on
 * top of a head that http.h has parsed. No I/O, no policy: which origins or
 * subprotocols are wanted is the caller's matter.
 */
#ifndef CWS_PROTO_HANDSHAKE_H
#define CWS_PROTO_HANDSHAKE_H

#include "buf.h"
#include "http.h"
#include "url.h"
#include "extension.h"

/* A request that offers more subprotocols is malformed. */
#define CWS_HANDSHAKE_PROTOCOLS_MAX 64

/* A request, understood. Spans borrow from the head or, for path, from the
 * caller's buffer. */
struct cws_request {
    struct cws_span method;
    struct cws_span target; /* raw, origin-form (scheme and authority of an
                               absolute-form are cut off; what is left may
                               start with '?') */
    struct cws_span path;   /* decoded, starts with '/' */
    struct cws_span query;  /* raw, without '?' */
    struct cws_span host;   /* host[:port]; the target's when it was absolute,
                               "" for HTTP/1.0 without Host */
    bool head_only;         /* HEAD: the answer has no body */
    bool wants_upgrade;     /* an Upgrade field names websocket */
};

/*
 * What every request must satisfy (RFC 9112 3.2, 6.1, 6.3; design: no bodies).
 * `path` has room for at least http->target.len + 1 bytes. Returns 0 and fills
 * *out, or the status to answer with (400, 405, 501) and a static text.
 * Order: a method that HTTP does not know 501, Host 400, body 400, a method
 * that is neither GET nor HEAD 405, form of the target 400 (last, because only
 * then it must be a path: CONNECT and OPTIONS have forms of their own).
 */
int cws_handshake_request(const struct cws_http *http, const char *head,
                          char *path, struct cws_request *out,
                          const char **why);

/* An upgrade request that was checked. Spans borrow from the head. */
struct cws_upgrade {
    struct cws_span key;
    struct cws_span origin;    /* data NULL when there is no Origin field */
    struct cws_buf protocols;  /* the offered ones joined by ", "; owned */
    struct cws_buf extensions; /* likewise; owned */
};

/*
 * The server's checks in the order of the design, section 4: HTTP/1.0 426,
 * method 405, Connection 400, Upgrade 426, version 400 or 426, key 400, more
 * than one Origin 400, subprotocols or extensions malformed 400, memory out
 * 503. Returns 0 and fills *out (to be freed with cws_upgrade_free in any
 * case), or the status and a static text in gorilla's wording where it has one
 * ("websocket: ..." is not included).
 */
int cws_handshake_upgrade(const struct cws_http *http, const char *head,
                          struct cws_upgrade *out, const char **why);
void cws_upgrade_free(struct cws_upgrade *upgrade);

/* The default origin rule: scheme http or https (any case), host and port equal
 * to Host's without case; a missing port is the default of the Origin's
 * scheme. `null` and anything unparsable is not the same origin. */
bool cws_handshake_same_origin(struct cws_span origin, struct cws_span host);

/*
 * Appends a 101 answer. `protocol` and `extension` may be empty; `fields` is
 * zero or more complete lines, each with CRLF. 0, CWS_EMEMORY, CWS_EINTERNAL.
 */
int cws_handshake_write_101(struct cws_buf *out, struct cws_span key,
                            struct cws_span protocol, struct cws_span extension,
                            struct cws_span fields, int64_t now);

/*
 * Appends the head of any other answer: status line, Date, Connection: close,
 * Content-Length, then `fields` (complete lines). A 426 gets Upgrade,
 * Connection and Sec-WebSocket-Version as the design says; a 405 gets Allow.
 * A field that the caller gave (Content-Type, Date...) is not written twice.
 */
int cws_handshake_write_response(struct cws_buf *out, int status,
                                 struct cws_span fields, size_t content_length,
                                 int64_t now);

/* Appends a client's request (RFC 6455 4.1). `authority` is the Host value
 * without a default port, `target` starts with '/'. Empty spans leave a field
 * out. */
struct cws_handshake_offer {
    struct cws_span authority;
    struct cws_span target;
    struct cws_span key;
    struct cws_span protocols; /* joined by ", " */
    struct cws_span extensions;
    struct cws_span fields; /* complete lines with CRLF */
};
int cws_handshake_write_request(struct cws_buf *out,
                                const struct cws_handshake_offer *offer);

/*
 * The client's checks of an answer with status 101 (4.1, items 2 to 6).
 * Returns 0 and fills protocol (empty when none), extensions, or
 * CWS_EHANDSHAKE or CWS_EMEMORY with a static text. Extensions are only joined
 * here; their meaning is checked with cws_extension_check_answer.
 */
int cws_handshake_check_response(const struct cws_http *http, const char *head,
                                 const struct cws_handshake_offer *offer,
                                 struct cws_span *protocol,
                                 struct cws_buf *extensions, const char **why);

/* True when a program may not set this field by hand (Host, Connection,
 * Upgrade, Content-Length, Transfer-Encoding, Sec-WebSocket-*). */
bool cws_handshake_reserved(struct cws_span name);

#endif
