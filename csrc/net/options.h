/*
 * options.h - limits and times of connections, with the defaults of design
 * section 4. Shared by all connections of a server; freed with the last
 * reference.
 */
#ifndef CWS_NET_OPTIONS_H
#define CWS_NET_OPTIONS_H

#include "../proto/deflate.h"
#include "../proto/http.h"
#include "../proto/session.h"

/* Seconds; INFINITY is none. Bytes and counts; SIZE_MAX is unlimited. */
struct cws_options {
    size_t refs;
    double connect_timeout;   /* 10: name and TCP */
    double handshake_timeout; /* 10: absolute, TLS included */
    double handler_timeout;   /* 60: until it upgrades or answers; 503 */
    double response_timeout;  /* 30: until the answer is written */
    double send_timeout;      /* 60 */
    double close_timeout;     /* 5 */
    double ping_interval;     /* 30 */
    double pong_timeout;      /* 20 */
    double idle_timeout;      /* none */
    struct cws_session_limits session; /* 1 MiB, 131072, 200 */
    struct cws_http_limits http;       /* 8192, 16384, 100 */
    size_t send_buffer;                /* 64 KiB */
    size_t max_queue;                  /* 4 MiB */
    size_t inbox_bytes;                /* 64 KiB */
    size_t inbox_messages;             /* 256 */
    size_t max_connections;            /* 0: descriptor limit - 32 */
    bool compression;                  /* false */
    struct cws_deflate_params deflate; /* takeover both ways, 15, 15 */
    int compression_level;             /* 1..9, -1: zlib's own; 1 by default */
    int compression_memory;            /* 1..9; 8 */
    size_t compression_threshold;      /* shorter messages go plain; 128 */
};

extern const struct cws_options cws_options_default;

/* A copy of `from` with one reference. NULL when memory is out. */
struct cws_options *cws_options_new(const struct cws_options *from);
struct cws_options *cws_options_keep(struct cws_options *options);
void cws_options_drop(struct cws_options *options); /* NULL is fine */

#endif
