/*
 * cws.h - the vocabulary that all three layers share.
 *
 * Convention for every function that returns int: 0 or a count is success,
 * a negative value is one of enum cws_err. A parser returns one of enum
 * cws_parse and keeps what went wrong in its own object.
 */
#ifndef CWS_H
#define CWS_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

#define CWS_VERSION "0.1.0"

/* What can go wrong; the names (cws_err_kind) are the `kind` of the Lua API. */
enum cws_err {
    CWS_OK = 0,
    CWS_ETIMEOUT = -1,   /* timeout */
    CWS_ECLOSED = -2,    /* closed */
    CWS_EDNS = -3,       /* dns */
    CWS_ECONNECT = -4,   /* connect */
    CWS_ETLS = -5,       /* tls */
    CWS_EHANDSHAKE = -6, /* handshake */
    CWS_EPROTOCOL = -7,  /* protocol */
    CWS_ELIMIT = -8,     /* limit */
    CWS_EBUSY = -9,      /* busy */
    CWS_EUSAGE = -10,    /* usage */
    CWS_ELISTEN = -11,   /* listen */
    CWS_EMEMORY = -12,   /* memory */
    CWS_EIO = -13,       /* io */
    CWS_EINTERNAL = -14  /* internal */
};

/* The three results of a parser: "need more" is never "malformed". */
enum cws_parse { CWS_BAD = -1, CWS_MORE = 0, CWS_ITEM = 1 };

/* RFC 6455 section 5.2. */
enum cws_opcode {
    CWS_OP_CONTINUATION = 0x0,
    CWS_OP_TEXT = 0x1,
    CWS_OP_BINARY = 0x2,
    CWS_OP_CLOSE = 0x8,
    CWS_OP_PING = 0x9,
    CWS_OP_PONG = 0xA
};

/* RFC 6455 section 7.4.1 and the IANA registry. */
enum cws_close_code {
    CWS_CLOSE_NORMAL = 1000,
    CWS_CLOSE_GOING_AWAY = 1001,
    CWS_CLOSE_PROTOCOL_ERROR = 1002,
    CWS_CLOSE_UNSUPPORTED_DATA = 1003,
    CWS_CLOSE_NO_STATUS = 1005, /* never on the wire */
    CWS_CLOSE_ABNORMAL = 1006,  /* never on the wire */
    CWS_CLOSE_INVALID_PAYLOAD = 1007,
    CWS_CLOSE_POLICY_VIOLATION = 1008,
    CWS_CLOSE_TOO_BIG = 1009,
    CWS_CLOSE_MANDATORY_EXTENSION = 1010,
    CWS_CLOSE_INTERNAL_ERROR = 1011,
    CWS_CLOSE_SERVICE_RESTART = 1012,
    CWS_CLOSE_TRY_AGAIN_LATER = 1013,
    CWS_CLOSE_BAD_GATEWAY = 1014,
    CWS_CLOSE_TLS_HANDSHAKE = 1015 /* never on the wire */
};

enum cws_role { CWS_SERVER, CWS_CLIENT };

/* Bytes that somebody else owns. Not NUL-terminated. */
struct cws_span {
    const char *data;
    size_t len;
};

/*
 * An error for people and programs. `text` has the shape "operation: what"
 * (exactly "timeout" for CWS_ETIMEOUT), printable ASCII, at most 199 bytes;
 * `code` is a close code, an HTTP status, an errno, or 0.
 */
struct cws_error {
    enum cws_err err;
    int code;
    char text[200];
};

#if defined(__GNUC__)
#define CWS_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define CWS_PRINTF(fmt, args)
#endif

/* Fills *error (which may be NULL) and returns err. Control and non-ASCII
 * bytes of the formatted text become \xNN. */
int cws_error_set(struct cws_error *error, enum cws_err err, int code,
                  const char *format, ...) CWS_PRINTF(4, 5);

/* The API's short word for an error, e.g. "timeout". Static storage. */
const char *cws_err_kind(enum cws_err err);

/* gorilla's text for a close code, e.g. "normal"; NULL when it has none.
 * Static storage. */
const char *cws_close_text(int code);

/*
 * Escapes for a log line or an error text: bytes outside 0x20..0x7E and the
 * backslash become \xNN (the backslash stays when keep_utf8 is set and valid
 * UTF-8 above 0x9F stays too). Writes at most cap - 1 bytes and a NUL, never
 * half an escape. Returns the bytes written without the NUL.
 */
size_t cws_escape(char *out, size_t cap, const char *data, size_t len,
                  bool keep_utf8);

/*
 * Every allocation of layers 1 and 2 goes through these, so that a test can
 * let the n-th one fail. Contract of realloc and free.
 */
void *cws_realloc(void *memory, size_t size);
void cws_free(void *memory);
/* Zeroed memory, or NULL. */
void *cws_calloc(size_t size);
/* For tests: fail the n-th allocation from now on (1 = the next), all later
 * ones as well when `all`; n = 0 turns it off. Returns how many were asked
 * for since the last call. */
size_t cws_alloc_fail(size_t n, bool all);

#endif
