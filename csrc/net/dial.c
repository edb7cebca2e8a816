/*
 * dial.c - a client's connection until it is open.
 *
 * Each function that may end the dial does so as its last act: d is gone
 * afterwards.
 */
#include "dial.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../proto/crypto.h"
#include "dial_body.h"
#include "errtext.h"
#include "resolve.h"

/* A read of the answer's head: bytes behind it that are frames already must
 * not pile up before the connection's own limits hold. */
#define READ_MAX (16 * 1024)
/* No address gets less than this, as long as there is as much left (Go's
 * Dialer). */
#define ADDRESS_TIME_MIN 2.0

enum dial_state { RESOLVING, CONNECTING, SENDING, READING, REFUSED };

struct cws_dial {
    struct cws_link link; /* loop->dials */
    struct cws_loop *loop;
    const struct cws_dial_events *events;
    void *user;
    struct cws_options *options;
    const struct cws_conn_events *conn_events;
    struct cws_resolve *resolve;
    struct cws_job refuse; /* what fails before any I/O */
    struct cws_transport transport;
    ev_io io;
    ev_timer timer;
    enum dial_state state;
    bool finished; /* inside `done` */
    bool answered; /* http is a whole head */
    bool secure;
    double deadline; /* of the connecting as a whole; INFINITY: none */
    size_t address_count;
    size_t address; /* the one that is tried */
    union cws_address addresses[CWS_RESOLVE_MAX];
    struct cws_error connect_error; /* of the first address that failed; of
                                       `refuse` */
    struct cws_buf out;             /* the request */
    struct cws_buf extensions;      /* our offer */
    struct cws_buf head;
    struct cws_http http;
    int interim;
    struct cws_span protocol; /* what was agreed; in head */
    struct cws_dial_body body;
    struct cws_handshake_offer offer;
    char key[CWS_CRYPTO_KEY_LEN + 1];
    int port;
    char *host; /* in text */
    char text[];
};

/* --- the end ------------------------------------------------------------- */

static void stop_watching(struct cws_dial *d) {
    ev_io_stop(d->loop->ev, &d->io);
    ev_timer_stop(d->loop->ev, &d->timer);
}

static void close_transport(struct cws_dial *d) {
    ev_io_stop(d->loop->ev, &d->io);
    if (d->transport.ops)
        d->transport.ops->close(&d->transport, false);
    d->transport.ops = NULL;
}

static void free_dial(struct cws_dial *d) {
    stop_watching(d);
    close_transport(d);
    cws_resolve_cancel(d->resolve);
    cws_job_cancel(&d->refuse);
    cws_link_remove(&d->link);
    d->loop->live--;
    cws_buf_free(&d->out);
    cws_buf_free(&d->extensions);
    cws_buf_free(&d->head);
    cws_options_drop(d->options);
    cws_free(d);
}

void cws_dial_cancel(struct cws_dial *d) {
    if (d && !d->finished)
        free_dial(d);
}

struct cws_dial *cws_dial_from_link(struct cws_link *link) {
    return (struct cws_dial *)(void *)((char *)link -
                                       offsetof(struct cws_dial, link));
}

static void finish(struct cws_dial *d, struct cws_conn *conn,
                   const struct cws_error *error) {
    stop_watching(d);
    close_transport(d);
    d->finished = true;
    d->events->done(d, conn, error, d->user);
    free_dial(d);
}

static void fail(struct cws_dial *d, enum cws_err err, int code,
                 const char *what) {
    struct cws_error error;
    if (err == CWS_ETIMEOUT)
        cws_error_set(&error, err, 0, "timeout");
    else
        cws_error_set(&error, err, code, "%s", what);
    finish(d, NULL, &error);
}

static void fail_handshake(struct cws_dial *d, enum cws_err err, int code,
                           const char *what) {
    struct cws_error error;
    cws_error_set(&error, err, code, "handshake: %s", what);
    finish(d, NULL, &error);
}

/* --- watchers ------------------------------------------------------------ */

static void watch(struct cws_dial *d, int events) {
    ev_io_stop(d->loop->ev, &d->io);
    ev_io_set(&d->io, d->transport.fd, events);
    ev_io_start(d->loop->ev, &d->io);
}

static void set_timer(struct cws_dial *d, double seconds) {
    ev_timer_stop(d->loop->ev, &d->timer);
    if (!isfinite(seconds))
        return;
    cws_loop_update(d->loop);
    ev_timer_set(&d->timer, seconds > 0 ? seconds : 0., 0.);
    ev_timer_start(d->loop->ev, &d->timer);
}

/* --- the answer ---------------------------------------------------------- */

static struct cws_span span_of(const struct cws_buf *b) {
    return (struct cws_span){(const char *)cws_buf_bytes(b), cws_buf_len(b)};
}

static const char *head_of(const struct cws_dial *d) {
    return (const char *)cws_buf_bytes(&d->head);
}

static void refused(struct cws_dial *d) {
    const char *reason = cws_http_reason(d->http.status);
    char what[128];
    snprintf(what, sizeof what, "the server answered %d%s%s", d->http.status,
             *reason ? " " : "", reason);
    fail_handshake(d, CWS_EHANDSHAKE, d->http.status, what);
}

static void start_refused(struct cws_dial *d) {
    size_t size = d->http.size;
    d->state = REFUSED;
    cws_dial_body_init(&d->body, &d->http, head_of(d));
    if (cws_dial_body_feed(&d->body, head_of(d) + size,
                           cws_buf_len(&d->head) - size))
        refused(d);
}

static void become_open(struct cws_dial *d,
                        const struct cws_deflate_params *deflate) {
    struct cws_conn_start start = {
        .role = CWS_CLIENT,
        .transport = d->transport,
        .remote = d->addresses[d->address],
        .options = d->options,
        .deflate = deflate,
        .input = cws_buf_bytes(&d->head) + d->http.size,
        .input_len = cws_buf_len(&d->head) - d->http.size,
        .events = d->conn_events,
    };
    stop_watching(d);
    d->transport.ops = NULL; /* taken in either case */
    struct cws_conn *conn = cws_conn_new(d->loop, &start);
    if (conn)
        finish(d, conn, NULL);
    else
        fail(d, CWS_EMEMORY, 0, "connect: out of memory");
}

/* The checks of RFC 6455 4.1 on a 101. */
static void switched(struct cws_dial *d) {
    const char *why = "bad answer";
    struct cws_buf extensions = {0};
    struct cws_deflate_params agreed;
    int err = cws_handshake_check_response(&d->http, head_of(d), &d->offer,
                                           &d->protocol, &extensions, &why);
    if (err >= 0)
        err = cws_extension_check_answer(
            span_of(&extensions),
            cws_buf_len(&d->extensions) ? &d->options->deflate : NULL, &agreed,
            &why);
    cws_buf_free(&extensions);
    if (err == CWS_EMEMORY)
        fail(d, err, 0, "connect: out of memory");
    else if (err < 0)
        fail_handshake(d, CWS_EHANDSHAKE, 101, why);
    else
        become_open(d, err == 1 ? &agreed : NULL);
}

static void start_head(struct cws_dial *d) {
    memset(&d->http, 0, sizeof d->http);
    d->http.response = true;
    d->http.limits = d->options->http;
}

static void bad_head(struct cws_dial *d) {
    bool limit = d->http.fail_status != 0;
    fail_handshake(d, limit ? CWS_ELIMIT : CWS_EHANDSHAKE, 0,
                   d->http.fail_text);
}

/* RFC 9110 15.2: "A client MUST be able to parse one or more 1xx responses
 * received prior to a final response". True when there may be a next head. */
static bool skip_interim(struct cws_dial *d) {
    if (d->http.status >= 200 || d->http.status == 101)
        return false;
    if (++d->interim > CWS_DIAL_INTERIM_MAX)
        return false;
    cws_buf_consume(&d->head, d->http.size);
    start_head(d);
    return true;
}

static void parse_answer(struct cws_dial *d) {
    enum cws_parse result;
    do
        result = cws_http_parse(&d->http, head_of(d), cws_buf_len(&d->head));
    while (result == CWS_ITEM && skip_interim(d));
    if (result == CWS_BAD) {
        bad_head(d);
        return;
    }
    if (result == CWS_MORE)
        return;
    d->answered = true;
    if (d->http.status == 101)
        switched(d);
    else if (d->http.status < 200)
        fail_handshake(d, CWS_EHANDSHAKE, d->http.status,
                       "too many interim answers");
    else
        start_refused(d);
}

/* The stream ended, or failed, before the answer was complete. */
static void cut_off(struct cws_dial *d, ssize_t n) {
    char text[CWS_ERRTEXT_MAX];
    if (d->state == REFUSED)
        refused(d);
    else if (n == 0)
        fail_handshake(d, CWS_EHANDSHAKE, 0, "unexpected EOF");
    else
        fail_handshake(d, CWS_EHANDSHAKE, d->transport.error,
                       cws_errtext(d->transport.error, text));
}

static void read_answer(struct cws_dial *d) {
    uint8_t *input = d->loop->input;
    ssize_t n = d->transport.ops->read(&d->transport, input, READ_MAX);
    if (n == CWS_TRANSPORT_AGAIN)
        return;
    if (n <= 0) {
        cut_off(d, n);
    } else if (d->state == REFUSED) {
        if (cws_dial_body_feed(&d->body, (const char *)input, (size_t)n))
            refused(d);
    } else if (cws_buf_append(&d->head, input, (size_t)n) < 0) {
        fail(d, CWS_EMEMORY, 0, "connect: out of memory");
    } else {
        parse_answer(d);
    }
}

/* --- the request --------------------------------------------------------- */

static void send_request(struct cws_dial *d) {
    struct iovec iov = {cws_buf_bytes(&d->out), cws_buf_len(&d->out)};
    ssize_t n = d->transport.ops->write(&d->transport, &iov, 1);
    if (n == CWS_TRANSPORT_AGAIN)
        return;
    /* A server may answer and close before it has read all of the request:
     * reading tells more than the error of writing does. */
    cws_buf_consume(&d->out, n < 0 ? iov.iov_len : (size_t)n);
    if (cws_buf_len(&d->out))
        return;
    cws_buf_free(&d->out);
    d->state = READING;
    watch(d, EV_READ);
}

static int write_request(struct cws_dial *d) {
    int err = cws_crypto_key(d->key);
    if (err < 0)
        return err;
    d->offer.key = (struct cws_span){d->key, CWS_CRYPTO_KEY_LEN};
    if (d->options->compression && cws_deflate_available()) {
        err = cws_extension_write_offer(&d->options->deflate, &d->extensions);
        if (err < 0)
            return err;
        d->offer.extensions = span_of(&d->extensions);
    }
    return cws_handshake_write_request(&d->out, &d->offer);
}

static void connected(struct cws_dial *d) {
    int err = write_request(d);
    if (err == CWS_EMEMORY) {
        fail(d, err, 0, "connect: out of memory");
        return;
    }
    if (err < 0) {
        fail(d, CWS_EINTERNAL, 0, "connect: no randomness for the key");
        return;
    }
    start_head(d);
    d->state = SENDING;
    set_timer(d, d->options->handshake_timeout);
    watch(d, EV_WRITE);
    send_request(d);
}

/* --- TCP, each address in turn ------------------------------------------- */

static void keep_error(struct cws_dial *d, int code) {
    char text[CWS_ERRTEXT_MAX], where[CWS_ADDRESS_TEXT];
    if (d->connect_error.err)
        return;
    cws_address_format(&d->addresses[d->address], where);
    cws_error_set(&d->connect_error, CWS_ECONNECT, code, "connect: %s: %s",
                  where, cws_errtext(code, text));
}

/* This address gets its share of what is left of the time for all. */
static double share(struct cws_dial *d) {
    double left = d->deadline - cws_loop_now(d->loop);
    double part = left / (double)(d->address_count - d->address);
    if (part < ADDRESS_TIME_MIN)
        part = ADDRESS_TIME_MIN;
    return part < left ? part : left;
}

static bool try_address(struct cws_dial *d) {
    int fd = cws_tcp_connect(&d->addresses[d->address]);
    if (fd < 0) {
        keep_error(d, errno);
        return false;
    }
    cws_tcp_init(&d->transport, fd);
    watch(d, EV_WRITE);
    set_timer(d, share(d));
    return true;
}

/* From d->address on. */
static void try_addresses(struct cws_dial *d) {
    d->state = CONNECTING;
    for (; d->address < d->address_count; d->address++)
        if (try_address(d))
            return;
    if (d->connect_error.err) {
        struct cws_error error = d->connect_error;
        finish(d, NULL, &error);
    } else {
        fail(d, CWS_ETIMEOUT, 0, NULL);
    }
}

static void try_next(struct cws_dial *d) {
    close_transport(d);
    d->address++;
    try_addresses(d);
}

/* A connect to a closed port of this machine can meet itself when the kernel
 * chose the same port for our side. */
static bool is_self(int fd) {
    union cws_address local, remote;
    socklen_t a = sizeof local, b = sizeof remote;
    memset(&local, 0, sizeof local);
    memset(&remote, 0, sizeof remote);
    if (getsockname(fd, &local.sa, &a) < 0 ||
        getpeername(fd, &remote.sa, &b) < 0)
        return false;
    return a == b && memcmp(&local, &remote, sizeof local) == 0;
}

static void on_connect(struct cws_dial *d) {
    int code = cws_tcp_connect_result(d->transport.fd);
    if (!code && is_self(d->transport.fd))
        code = ECONNREFUSED;
    if (!code) {
        connected(d);
        return;
    }
    keep_error(d, code);
    try_next(d);
}

static void on_resolved(void *user, const union cws_address *addresses,
                        size_t count, const char *why) {
    struct cws_dial *d = user;
    d->resolve = NULL;
    if (!count) {
        struct cws_error error;
        cws_error_set(&error, CWS_EDNS, 0, "connect: %.80s: %s", d->host, why);
        finish(d, NULL, &error);
        return;
    }
    d->address_count = count < CWS_RESOLVE_MAX ? count : CWS_RESOLVE_MAX;
    memcpy(d->addresses, addresses, d->address_count * sizeof *addresses);
    try_addresses(d);
}

/* --- callbacks of the loop ----------------------------------------------- */

static void on_io(struct ev_loop *ev, ev_io *io, int revents) {
    struct cws_dial *d = io->data;
    struct cws_loop *loop = d->loop;
    (void)ev;
    bool nested = loop->running;
    loop->running = true;
    if (revents & EV_ERROR) /* libev gave the descriptor up */
        fail(d, CWS_EIO, 0, "connect: the system cannot watch the socket");
    else if (d->state == CONNECTING)
        on_connect(d);
    else if (d->state == SENDING)
        send_request(d);
    else
        read_answer(d);
    loop->running = nested;
}

static void timed_out(struct cws_dial *d) {
    if (d->state == REFUSED)
        refused(d);
    else if (d->state == CONNECTING && cws_loop_now(d->loop) < d->deadline &&
             d->address + 1 < d->address_count)
        try_next(d);
    else
        fail(d, CWS_ETIMEOUT, 0, NULL);
}

static void on_timer(struct ev_loop *ev, ev_timer *timer, int revents) {
    struct cws_dial *d = timer->data;
    struct cws_loop *loop = d->loop;
    (void)ev, (void)revents;
    bool nested = loop->running;
    loop->running = true;
    timed_out(d);
    loop->running = nested;
}

static void run_refuse(struct cws_job *job) {
    struct cws_dial *d =
        (struct cws_dial *)(void *)((char *)job -
                                    offsetof(struct cws_dial, refuse));
    struct cws_error error = d->connect_error;
    finish(d, NULL, &error);
}

/* --- starting ------------------------------------------------------------ */

/* Copies to *at, which moves on; the copy ends with a NUL. */
static struct cws_span keep_text(char **at, const char *data, size_t len) {
    struct cws_span kept = {*at, len};
    if (len)
        memcpy(*at, data, len);
    (*at)[len] = 0;
    *at += len + 1;
    return kept;
}

/* The Host value: RFC 6455 4.1 (4), without the default port. */
static struct cws_span authority_of(const struct cws_url *url) {
    const struct cws_authority *a = &url->authority;
    if (a->port >= 0 && a->port != (url->secure ? 443 : 80))
        return url->authority_text;
    size_t brackets = a->ipv6 ? 1 : 0;
    return (struct cws_span){a->host.data - brackets,
                             a->host.len + 2 * brackets};
}

/* A missing path is "/"; the fragment was refused before. */
static struct cws_span keep_target(char **at, struct cws_span target) {
    if (target.len && target.data[0] == '/')
        return keep_text(at, target.data, target.len);
    char *start = *at;
    *(*at)++ = '/';
    (void)keep_text(at, target.data, target.len);
    return (struct cws_span){start, target.len + 1};
}

static void keep_texts(struct cws_dial *d, const struct cws_url *url,
                       const struct cws_dial_start *start) {
    char *at = d->text;
    struct cws_span host = url->authority.host;
    struct cws_span authority = authority_of(url);
    d->host = at;
    (void)keep_text(&at, host.data, host.len);
    d->offer.authority = keep_text(&at, authority.data, authority.len);
    d->offer.target = keep_target(&at, url->target);
    d->offer.protocols =
        keep_text(&at, start->protocols.data, start->protocols.len);
    d->offer.fields = keep_text(&at, start->fields.data, start->fields.len);
}

static struct cws_dial *new_dial(const struct cws_dial_start *start) {
    struct cws_url url;
    if (cws_url_parse(start->url, start->url_len, false, &url))
        return NULL;
    /* host, authority and target are parts of the URL; the host comes twice;
     * five NULs and a '/' */
    struct cws_dial *d =
        cws_calloc(sizeof *d + 2 * start->url_len + start->protocols.len +
                   start->fields.len + 6);
    if (!d)
        return NULL;
    keep_texts(d, &url, start);
    d->secure = url.secure;
    d->port = url.authority.port;
    if (d->port < 0)
        d->port = url.secure ? 443 : 80;
    return d;
}

/* The error is told in the next turn. */
static bool refuse(struct cws_dial *d) {
    cws_loop_post(d->loop, &d->refuse);
    return true;
}

/* Without descriptors or threads there is no asking for the address. */
static bool refuse_resolving(struct cws_dial *d, int code) {
    char text[CWS_ERRTEXT_MAX];
    cws_error_set(&d->connect_error, CWS_ECONNECT, code, "connect: %.80s: %s",
                  d->host, cws_errtext(code, text));
    return refuse(d);
}

/* False when memory is out. */
static bool begin(struct cws_dial *d) {
    if (d->secure) {
        cws_error_set(&d->connect_error, CWS_ETLS, 0, "tls: not in this build");
        return refuse(d);
    }
    cws_loop_update(d->loop); /* the caller may have computed for long */
    d->deadline = cws_loop_now(d->loop) + d->options->connect_timeout;
    set_timer(d, d->options->connect_timeout);
    d->resolve =
        cws_resolve_start(d->loop, d->host, d->port, false, on_resolved, d);
    return d->resolve || (errno != ENOMEM && refuse_resolving(d, errno));
}

struct cws_dial *cws_dial_start(struct cws_loop *loop,
                                const struct cws_dial_start *start,
                                const struct cws_dial_events *events,
                                void *user) {
    struct cws_dial *d = new_dial(start);
    if (!d)
        return NULL;
    d->loop = loop;
    d->events = events;
    d->user = user;
    d->options = cws_options_keep(start->options);
    d->conn_events = start->events;
    d->refuse.run = run_refuse;
    ev_init(&d->io, on_io);
    d->io.data = d;
    ev_init(&d->timer, on_timer);
    d->timer.data = d;
    cws_link_append(&loop->dials, &d->link);
    loop->live++;
    if (begin(d))
        return d;
    free_dial(d);
    return NULL;
}

/* --- inside done --------------------------------------------------------- */

const struct cws_http *cws_dial_response(const struct cws_dial *d,
                                         const char **head) {
    *head = d->answered ? head_of(d) : NULL;
    return d->answered ? &d->http : NULL;
}

struct cws_span cws_dial_body(const struct cws_dial *d) {
    return (struct cws_span){d->body.data, d->body.len};
}

struct cws_span cws_dial_protocol(const struct cws_dial *d) {
    return d->protocol;
}
