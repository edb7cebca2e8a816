/*
 * exchange.c - one HTTP request on an accepted socket, from its first byte to
 * the answer or the switch to WebSocket.
 *
 * Whoever calls a function that may end the exchange does so as its last act:
 * x may be gone afterwards.
 */
#include "exchange.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "listener.h"

/* A read of the head; what a connection can make us keep beyond the limits of
 * the head is at most this. */
#define READ_MAX (16 * 1024)
#define DRAIN_MAX (64 * 1024)
#define DRAIN_TIME 1.0
/* Bodies of refusals: short and fixed. */
#define BODY_MAX 256

enum exchange_state { READING, WAITING, WRITING, DRAINING };

struct cws_exchange {
    struct cws_link link; /* loop->exchanges */
    struct cws_loop *loop;
    struct cws_listener *listener; /* NULL once its place went to a conn */
    const struct cws_exchange_events *events;
    void *user;
    void *owner;
    struct cws_transport transport;
    ev_io io;
    ev_timer timer;
    enum exchange_state state;
    size_t drained;
    struct cws_buf head;
    struct cws_buf out; /* the answer, as far as it has not left */
    char *path;
    struct cws_http http;
    struct cws_request request;
    union cws_address remote;
};

static const struct cws_options *options_of(const struct cws_exchange *x) {
    return cws_listener_options(x->listener);
}

/* --- watchers ------------------------------------------------------------ */

static void watch(struct cws_exchange *x, int events) {
    ev_io_stop(x->loop->ev, &x->io);
    if (!events)
        return;
    ev_io_set(&x->io, x->transport.fd, events);
    ev_io_start(x->loop->ev, &x->io);
}

static void enter(struct cws_exchange *x, enum exchange_state state,
                  double seconds) {
    x->state = state;
    ev_timer_stop(x->loop->ev, &x->timer);
    if (!isfinite(seconds))
        return;
    cws_loop_update(x->loop); /* a handler may have computed for long */
    ev_timer_set(&x->timer, seconds, 0.);
    ev_timer_start(x->loop->ev, &x->timer);
}

/* --- the end ------------------------------------------------------------- */

/* Everything but the transport. */
static void free_exchange(struct cws_exchange *x) {
    ev_io_stop(x->loop->ev, &x->io);
    ev_timer_stop(x->loop->ev, &x->timer);
    cws_link_remove(&x->link);
    x->loop->live--;
    if (x->listener)
        cws_listener_leave(x->listener);
    cws_buf_free(&x->head);
    cws_buf_free(&x->out);
    cws_free(x->path);
    cws_free(x);
}

static void destroy(struct cws_exchange *x, bool abort) {
    ev_io_stop(x->loop->ev, &x->io);
    x->transport.ops->close(&x->transport, abort);
    free_exchange(x);
}

void cws_exchange_abort(struct cws_exchange *x) {
    destroy(x, false);
}

struct cws_exchange *cws_exchange_from_link(struct cws_link *link) {
    return (struct cws_exchange *)(void *)((char *)link -
                                           offsetof(struct cws_exchange, link));
}

static void stop_one(struct cws_exchange *x, enum cws_exchange_stop which) {
    bool silent = x->state == READING && !cws_buf_len(&x->head);
    if (x->state == WAITING && which == CWS_EXCHANGE_ALL)
        enter(x, WAITING, 0); /* its callback is the loop's matter */
    else if (which == CWS_EXCHANGE_ALL || silent ||
             (which == CWS_EXCHANGE_READING && x->state == READING))
        destroy(x, false);
}

void cws_exchange_stop(struct cws_loop *loop, struct cws_listener *listener,
                       enum cws_exchange_stop which) {
    struct cws_link *next;
    for (struct cws_link *link = loop->exchanges.next; link != &loop->exchanges;
         link = next) {
        struct cws_exchange *x = cws_exchange_from_link(link);
        next = link->next;
        if (x->listener == listener)
            stop_one(x, which);
    }
}

/* --- the answer ---------------------------------------------------------- */

/* The write side is shut first and what the peer still sends is read for a
 * while: a close() with unread bytes makes the kernel send a reset that would
 * destroy the answer (RFC 9112 9.6). */
static void start_draining(struct cws_exchange *x) {
    cws_buf_free(&x->out);
    x->transport.ops->shutdown(&x->transport);
    enter(x, DRAINING, DRAIN_TIME);
    watch(x, EV_READ);
}

static void drain(struct cws_exchange *x) {
    ssize_t n =
        x->transport.ops->read(&x->transport, x->loop->input, DRAIN_MAX);
    if (n == CWS_TRANSPORT_AGAIN)
        return;
    if (n > 0)
        x->drained += (size_t)n;
    if (n <= 0 || x->drained >= DRAIN_MAX)
        destroy(x, false);
}

/* Offers the rest of the answer, with `body` behind it, to the kernel; what it
 * does not take is kept. */
static void write_answer(struct cws_exchange *x, struct cws_span body) {
    size_t len = cws_buf_len(&x->out);
    struct iovec iov[2] = {
        {cws_buf_bytes(&x->out), len},
        {(void *)(uintptr_t)body.data, body.len},
    };
    ssize_t n = x->transport.ops->write(&x->transport, iov, body.len ? 2 : 1);
    if (n < 0 && n != CWS_TRANSPORT_AGAIN) {
        destroy(x, false);
        return;
    }
    size_t sent = n > 0 ? (size_t)n : 0;
    size_t own = sent < len ? sent : len;
    cws_buf_consume(&x->out, own);
    size_t rest = body.len - (sent - own);
    if (rest && cws_buf_append(&x->out, body.data + (sent - own), rest) < 0)
        destroy(x, true);
    else if (cws_buf_len(&x->out))
        watch(x, EV_WRITE);
    else
        start_draining(x);
}

static bool is_head(const struct cws_exchange *x) {
    struct cws_http_part method = x->http.method;
    return method.len == 4 &&
           memcmp(cws_buf_bytes(&x->head) + method.at, "HEAD", 4) == 0;
}

void cws_exchange_respond(struct cws_exchange *x, int status,
                          struct cws_span fields, struct cws_span body) {
    x->owner = NULL;
    /* RFC 9110 15.3.5, 15.3.6, 15.4.5: these have no content. */
    if (status == 204 || status == 205 || status == 304)
        body.len = 0;
    int err = cws_handshake_write_response(&x->out, status, fields, body.len,
                                           cws_loop_time(x->loop));
    if (err < 0) {
        destroy(x, false);
        return;
    }
    /* RFC 9110 9.3.2: "The HEAD method is identical to GET except that the
     * server MUST NOT send content in the response." */
    if (is_head(x))
        body.len = 0;
    enter(x, WRITING, options_of(x)->response_timeout);
    write_answer(x, body);
}

void cws_exchange_refuse(struct cws_exchange *x, int status, const char *text) {
    static const char type[] = "Content-Type: text/plain; charset=utf-8\r\n";
    char body[BODY_MAX];
    int len = text ? snprintf(body, sizeof body, "%s\n", text)
                   : snprintf(body, sizeof body, "%d %s\n", status,
                              cws_http_reason(status));
    if (len >= (int)sizeof body)
        len = (int)sizeof body - 1;
    cws_exchange_respond(x, status, (struct cws_span){type, sizeof type - 1},
                         (struct cws_span){body, (size_t)len});
}

/* --- the request --------------------------------------------------------- */

/* The head is complete: hands it on, or says what is wrong. */
static void got_head(struct cws_exchange *x) {
    const char *why = NULL;
    x->path = cws_realloc(NULL, (size_t)x->http.target.len + 1);
    if (!x->path) {
        cws_exchange_refuse(x, 503, NULL);
        return;
    }
    int status = cws_handshake_request(&x->http, cws_exchange_head(x), x->path,
                                       &x->request, &why);
    if (status) {
        cws_exchange_refuse(x, status, why);
        return;
    }
    watch(x, 0); /* more bytes wait in the kernel until it is decided */
    enter(x, WAITING, options_of(x)->handler_timeout);
    x->events->request(x, x->user);
}

/* RFC 8446 5.1: a record of type handshake (22), version 3.x. */
static bool is_tls_hello(const struct cws_exchange *x) {
    const uint8_t *bytes = cws_buf_bytes(&x->head);
    return bytes[0] == 0x16 && (cws_buf_len(&x->head) < 2 || bytes[1] == 3);
}

static void got_bad_head(struct cws_exchange *x) {
    if (is_tls_hello(x)) {
        char remote[CWS_ADDRESS_TEXT], line[CWS_ADDRESS_TEXT + 64];
        cws_address_format(&x->remote, remote);
        snprintf(line, sizeof line, "http: TLS hello on a plain port from %s",
                 remote);
        x->state = WAITING; /* whatever the log does, x stays */
        x->events->log(x->user, line);
    }
    cws_exchange_refuse(x, x->http.fail_status, x->http.fail_text);
}

static void read_head(struct cws_exchange *x) {
    uint8_t *input = x->loop->input;
    ssize_t n = x->transport.ops->read(&x->transport, input, READ_MAX);
    if (n == CWS_TRANSPORT_AGAIN)
        return;
    if (n <= 0 || cws_buf_append(&x->head, input, (size_t)n) < 0) {
        destroy(x, false);
        return;
    }
    enum cws_parse result =
        cws_http_parse(&x->http, cws_exchange_head(x), cws_buf_len(&x->head));
    if (result == CWS_ITEM)
        got_head(x);
    else if (result == CWS_BAD)
        got_bad_head(x);
}

/* --- callbacks of the loop ----------------------------------------------- */

static void on_io(struct ev_loop *ev, ev_io *io, int revents) {
    struct cws_exchange *x = io->data;
    struct cws_loop *loop = x->loop;
    (void)ev;
    bool nested = loop->running;
    loop->running = true;
    if (revents & EV_ERROR) /* libev gave the descriptor up */
        destroy(x, false);
    else if (x->state == READING)
        read_head(x);
    else if (x->state == WRITING)
        write_answer(x, (struct cws_span){NULL, 0});
    else if (x->state == DRAINING)
        drain(x);
    loop->running = nested;
}

static void handler_too_slow(struct cws_exchange *x) {
    x->events->gone(x, x->owner);
    cws_exchange_refuse(x, 503, NULL);
}

static void on_timer(struct ev_loop *ev, ev_timer *timer, int revents) {
    struct cws_exchange *x = timer->data;
    struct cws_loop *loop = x->loop;
    (void)ev, (void)revents;
    bool nested = loop->running;
    loop->running = true;
    if (x->state == WAITING)
        handler_too_slow(x);
    else if (x->state == READING && cws_buf_len(&x->head))
        cws_exchange_refuse(x, 408, NULL);
    else /* the rest of an answer that nobody reads is not worth memory */
        destroy(x, x->state == WRITING);
    loop->running = nested;
}

/* --- life ---------------------------------------------------------------- */

static struct cws_exchange *new_exchange(struct cws_loop *loop,
                                         struct cws_listener *listener, int fd,
                                         const union cws_address *remote) {
    struct cws_transport transport;
    cws_tcp_init(&transport, fd);
    struct cws_exchange *x = cws_calloc(sizeof *x);
    if (!x) {
        transport.ops->close(&transport, false);
        return NULL;
    }
    x->loop = loop;
    x->listener = listener;
    x->transport = transport;
    x->remote = *remote;
    x->http.limits = cws_listener_options(listener)->http;
    ev_io_init(&x->io, on_io, fd, EV_READ);
    x->io.data = x;
    ev_init(&x->timer, on_timer);
    x->timer.data = x;
    cws_listener_enter(listener);
    cws_link_append(&loop->exchanges, &x->link);
    loop->live++;
    return x;
}

void cws_exchange_start(struct cws_loop *loop, struct cws_listener *listener,
                        int fd, const union cws_address *remote,
                        const struct cws_exchange_events *events, void *user) {
    struct cws_exchange *x = new_exchange(loop, listener, fd, remote);
    if (!x)
        return;
    x->events = events;
    x->user = user;
    enter(x, READING, options_of(x)->handshake_timeout);
    watch(x, EV_READ);
}

void cws_exchange_turn_away(struct cws_loop *loop,
                            struct cws_listener *listener, int fd,
                            const union cws_address *remote) {
    struct cws_exchange *x = new_exchange(loop, listener, fd, remote);
    if (x)
        cws_exchange_refuse(x, 503, NULL);
}

void cws_exchange_own(struct cws_exchange *x, void *owner) {
    x->owner = owner;
}

const struct cws_request *cws_exchange_request(const struct cws_exchange *x) {
    return &x->request;
}

const struct cws_http *cws_exchange_http(const struct cws_exchange *x) {
    return &x->http;
}

const char *cws_exchange_head(const struct cws_exchange *x) {
    return (const char *)cws_buf_bytes(&x->head);
}

const union cws_address *cws_exchange_remote(const struct cws_exchange *x) {
    return &x->remote;
}

struct cws_listener *cws_exchange_listener(const struct cws_exchange *x) {
    return x->listener;
}

/* --- the switch ---------------------------------------------------------- */

int cws_exchange_check(struct cws_exchange *x, struct cws_upgrade *out,
                       const char **why) {
    return cws_handshake_upgrade(&x->http, cws_exchange_head(x), out, why);
}

static struct cws_span span_of(const struct cws_buf *b) {
    return (struct cws_span){(const char *)cws_buf_bytes(b), cws_buf_len(b)};
}

/* What is agreed on with the peer's offers; false: nothing. */
static bool agree(const struct cws_upgrade *upgrade,
                  const struct cws_options *options,
                  struct cws_deflate_params *agreed) {
    return options->compression && cws_deflate_available() &&
           cws_buf_len(&upgrade->extensions) &&
           cws_extension_negotiate(span_of(&upgrade->extensions),
                                   &options->deflate, agreed);
}

/* The 101, with the extension's answer (`deflate` NULL: none). */
static int write_switch(struct cws_buf *out, const struct cws_exchange *x,
                        const struct cws_upgrade *upgrade,
                        struct cws_span protocol, struct cws_span fields,
                        const struct cws_deflate_params *deflate) {
    struct cws_buf extension = {0};
    int err = deflate ? cws_extension_write_answer(deflate, &extension) : 0;
    if (err >= 0)
        err = cws_handshake_write_101(out, upgrade->key, protocol,
                                      span_of(&extension), fields,
                                      cws_loop_time(x->loop));
    cws_buf_free(&extension);
    return err;
}

int cws_exchange_upgrade(struct cws_exchange *x,
                         const struct cws_upgrade *upgrade,
                         struct cws_span protocol, struct cws_span fields,
                         struct cws_options *options,
                         const struct cws_conn_events *events, void *user,
                         struct cws_conn **conn) {
    struct cws_buf out = {0};
    struct cws_deflate_params agreed;
    bool deflate = agree(upgrade, options, &agreed);
    int err = write_switch(&out, x, upgrade, protocol, fields,
                           deflate ? &agreed : NULL);
    if (err < 0) {
        cws_buf_free(&out);
        cws_exchange_refuse(x, 500, NULL);
        return err;
    }
    struct cws_conn_start start = {
        .role = CWS_SERVER,
        .transport = x->transport,
        .remote = x->remote,
        .options = options,
        .deflate = deflate ? &agreed : NULL,
        .listener = x->listener,
        .input = cws_buf_bytes(&x->head) + x->http.size,
        .input_len = cws_buf_len(&x->head) - x->http.size,
        .output = cws_buf_bytes(&out),
        .output_len = cws_buf_len(&out),
        .events = events,
        .user = user,
    };
    *conn = cws_conn_new(x->loop, &start);
    cws_buf_free(&out);
    if (*conn) /* the place among max_connections is the connection's now */
        x->listener = NULL;
    free_exchange(x); /* the transport was taken in either case */
    return *conn ? 0 : CWS_EMEMORY;
}
