/*
 * listener.c - accepts connections.
 */
#include "listener.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "errtext.h"
#include "resolve.h"

/* Accepted in one go before others have their turn. */
#define ACCEPT_BATCH 64
/* Without descriptors or memory accept() would fail in every turn of the loop:
 * it is tried again after this time, or when a connection of ours ends. */
#define RETRY_TIME 0.2
/* Descriptors that connections leave for the rest of the program. */
#define SPARE_FDS 32
/* libev's table for so many costs a mebibyte; more grows when it comes. */
#define RESERVE_MAX 65536
#define HOST_MAX 255

struct cws_listener {
    struct cws_link link; /* loop->listeners */
    struct cws_loop *loop;
    struct cws_options *options;
    const struct cws_exchange_events *events;
    void *user;
    ev_io io;
    ev_timer retry;
    int fd;       /* -1: stopped */
    int reported; /* errno of accept that was logged last */
    size_t open;  /* exchanges, connections, and a call of ours under way */
    size_t max;
    bool released;
    union cws_address address;
};

struct cws_listener *cws_listener_from_link(struct cws_link *link) {
    return (struct cws_listener *)(void *)((char *)link -
                                           offsetof(struct cws_listener, link));
}

/* --- life ---------------------------------------------------------------- */

static void free_listener(struct cws_listener *l) {
    cws_link_remove(&l->link);
    cws_options_drop(l->options);
    cws_free(l);
}

/* One of `open` less. Returns true when that was the end of the listener. */
static bool give_place(struct cws_listener *l) {
    if (--l->open)
        return false;
    if (!l->released) {
        l->events->idle(l->user);
        return false;
    }
    free_listener(l);
    return true;
}

/* --- accepting ----------------------------------------------------------- */

static int accept_one(int fd, union cws_address *remote) {
    socklen_t size = sizeof *remote;
    memset(remote, 0, sizeof *remote);
    int result;
    do
        result = accept4(fd, &remote->sa, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    while (result < 0 && errno == EINTR);
    return result;
}

/* An error of the connection that was to be accepted, not of the listener
 * (accept(2): "already-pending network errors on the new socket"). */
static bool is_of_peer(int error) {
    switch (error) {
    case ECONNABORTED:
    case EPROTO:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case EPERM: /* a firewall rule */
        return true;
    default:
        return false;
    }
}

static void pause_accepting(struct cws_listener *l, int error) {
    ev_io_stop(l->loop->ev, &l->io);
    ev_timer_stop(l->loop->ev, &l->retry);
    ev_timer_set(&l->retry, RETRY_TIME, 0.);
    ev_timer_start(l->loop->ev, &l->retry);
    if (l->reported == error || l->released)
        return;
    l->reported = error;
    char text[CWS_ERRTEXT_MAX], line[CWS_ERRTEXT_MAX + CWS_ADDRESS_TEXT + 32];
    char address[CWS_ADDRESS_TEXT];
    cws_address_format(&l->address, address);
    snprintf(line, sizeof line, "accept: %s: %s", address,
             cws_errtext(error, text));
    l->events->log(l->user, line);
}

static void resume_accepting(struct cws_listener *l) {
    ev_timer_stop(l->loop->ev, &l->retry);
    if (l->fd >= 0 && !ev_is_active(&l->io))
        ev_io_start(l->loop->ev, &l->io);
}

static void admit(struct cws_listener *l, int fd,
                  const union cws_address *remote) {
    size_t others = l->open - 1; /* without on_accept itself */
    if (others < l->max)
        cws_exchange_start(l->loop, l, fd, remote, l->events, l->user);
    else if (others - l->max < CWS_LISTENER_EXTRA)
        cws_exchange_turn_away(l->loop, l, fd, remote);
    else
        close(fd);
}

static void accept_batch(struct cws_listener *l) {
    for (int i = 0; i < ACCEPT_BATCH && l->fd >= 0; i++) {
        union cws_address remote;
        int fd = accept_one(l->fd, &remote);
        if (fd >= 0) {
            admit(l, fd, &remote);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } else if (!is_of_peer(errno)) {
            pause_accepting(l, errno);
            return;
        }
    }
}

static void on_accept(struct ev_loop *ev, ev_io *io, int revents) {
    struct cws_listener *l = io->data;
    struct cws_loop *loop = l->loop;
    (void)ev;
    bool nested = loop->running;
    loop->running = true;
    l->open++;              /* the log callback may release it */
    if (revents & EV_ERROR) /* libev could not watch it, and gave it up */
        pause_accepting(l, ENOMEM);
    else
        accept_batch(l);
    (void)give_place(l);
    loop->running = nested;
}

static void on_retry(struct ev_loop *ev, ev_timer *timer, int revents) {
    (void)ev, (void)revents;
    resume_accepting(timer->data);
}

/* --- opening ------------------------------------------------------------- */

static bool parse_port(const char *text, int *port) {
    int value = 0;
    if (!*text)
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return false;
        value = value * 10 + (*text - '0');
        if (value > 65535)
            return false;
    }
    *port = value;
    return true;
}

/* "host:port", ":port", "[::1]:port". */
static bool split_address(const char *address, char host[HOST_MAX + 1],
                          int *port) {
    const char *colon = strrchr(address, ':');
    if (!colon || !parse_port(colon + 1, port))
        return false;
    size_t len = (size_t)(colon - address);
    if (len && address[0] == '[') {
        if (len < 3 || address[len - 1] != ']')
            return false;
        address++;
        len -= 2;
    } else if (memchr(address, ':', len)) {
        return false; /* an IPv6 address needs its brackets */
    }
    if (len > HOST_MAX || memchr(address, '[', len) ||
        memchr(address, ']', len))
        return false;
    memcpy(host, address, len);
    host[len] = 0;
    return true;
}

/* Go's net.Listen: the first IPv4 address, else the first. */
static const union cws_address *choose(const union cws_address *all, int n) {
    for (int i = 0; i < n; i++)
        if (all[i].sa.sa_family == AF_INET)
            return &all[i];
    return all;
}

static int open_socket(const union cws_address *address,
                       struct cws_error *error) {
    int fd = cws_tcp_listen(address, SOMAXCONN);
    if (fd >= 0)
        return fd;
    int code = errno;
    char text[CWS_ERRTEXT_MAX], where[CWS_ADDRESS_TEXT];
    cws_address_format(address, where);
    return cws_error_set(error, CWS_ELISTEN, code, "listen: %s: %s", where,
                         cws_errtext(code, text));
}

/* Every address of both kinds, as Go's; IPv4 where there is no other. */
static int open_any(int port, struct cws_error *error) {
    union cws_address any;
    (void)cws_address_parse("::", port, &any);
    int fd = open_socket(&any, error);
    if (fd >= 0 ||
        (error->code != EAFNOSUPPORT && error->code != EADDRNOTAVAIL))
        return fd;
    (void)cws_address_parse("0.0.0.0", port, &any);
    return open_socket(&any, error);
}

/* The socket, or an error in *error. */
static int open_address(const char *text, struct cws_error *error) {
    char host[HOST_MAX + 1];
    int port;
    if (!split_address(text, host, &port))
        return cws_error_set(error, CWS_ELISTEN, 0,
                             "listen: bad address '%.40s' (host:port expected)",
                             text);
    if (!*host)
        return open_any(port, error);
    union cws_address all[CWS_RESOLVE_MAX];
    const char *why = "no such host";
    int n = cws_resolve_now(host, port, true, all, &why);
    if (n <= 0)
        return cws_error_set(error, CWS_EDNS, 0, "listen: %.80s: %s", host,
                             why);
    return open_socket(choose(all, n), error);
}

static size_t max_connections(const struct cws_options *options) {
    size_t limit = cws_tcp_raise_limit();
    if (options->max_connections)
        return options->max_connections;
    return limit > 2 * SPARE_FDS ? limit - SPARE_FDS : limit / 2;
}

static void init(struct cws_listener *l, int fd) {
    socklen_t size = sizeof l->address;
    (void)getsockname(fd, &l->address.sa, &size);
    l->fd = fd;
    ev_io_init(&l->io, on_accept, fd, EV_READ);
    l->io.data = l;
    ev_init(&l->retry, on_retry);
    l->retry.data = l;
    cws_link_append(&l->loop->listeners, &l->link);
    l->loop->live++;
    cws_loop_reserve(l->loop, l->max < RESERVE_MAX ? l->max : RESERVE_MAX);
    ev_io_start(l->loop->ev, &l->io);
}

struct cws_listener *cws_listener_open(struct cws_loop *loop,
                                       const char *address,
                                       struct cws_options *options,
                                       const struct cws_exchange_events *events,
                                       void *user, struct cws_error *error) {
    int fd = open_address(address, error);
    if (fd < 0)
        return NULL;
    struct cws_listener *l = cws_calloc(sizeof *l);
    if (!l) {
        close(fd);
        cws_error_set(error, CWS_EMEMORY, 0, "listen: out of memory");
        return NULL;
    }
    l->loop = loop;
    l->options = cws_options_keep(options);
    l->events = events;
    l->user = user;
    l->max = max_connections(options);
    init(l, fd);
    return l;
}

/* --- for its owner ------------------------------------------------------- */

void cws_listener_address(const struct cws_listener *l,
                          char out[CWS_ADDRESS_TEXT]) {
    cws_address_format(&l->address, out);
}

void cws_listener_stop(struct cws_listener *l) {
    if (l->fd < 0)
        return;
    ev_io_stop(l->loop->ev, &l->io);
    ev_timer_stop(l->loop->ev, &l->retry);
    close(l->fd);
    l->fd = -1;
    l->loop->live--;
    cws_exchange_stop(l->loop, l, CWS_EXCHANGE_SILENT);
}

bool cws_listener_stopped(const struct cws_listener *l) {
    return l->fd < 0;
}

size_t cws_listener_open_count(const struct cws_listener *l) {
    return l->open;
}

void cws_listener_each(struct cws_listener *l,
                       void (*fn)(struct cws_conn *c, void *arg), void *arg) {
    struct cws_link *head = &l->loop->conns;
    struct cws_link *next;
    for (struct cws_link *link = head->next; link != head; link = next) {
        next = link->next; /* memory is freed in a later turn only */
        struct cws_conn *c = cws_conn_from_link(link);
        if (cws_conn_listener(c) == l)
            fn(c, arg);
    }
}

static void terminate(struct cws_conn *c, void *unused) {
    (void)unused;
    cws_conn_terminate(c);
}

void cws_listener_release(struct cws_listener *l) {
    cws_listener_stop(l);
    l->released = true;
    l->open++; /* the exchanges give their places back */
    cws_exchange_stop(l->loop, l, CWS_EXCHANGE_READING);
    (void)give_place(l);
}

void cws_listener_terminate(struct cws_listener *l) {
    l->open++; /* the exchanges give their places back */
    cws_exchange_stop(l->loop, l, CWS_EXCHANGE_ALL);
    cws_listener_each(l, terminate, NULL);
    (void)give_place(l);
}

void cws_listener_abort(struct cws_listener *l) {
    cws_listener_stop(l);
    free_listener(l);
}

void cws_listener_enter(struct cws_listener *l) {
    l->open++;
}

void cws_listener_leave(struct cws_listener *l) {
    if (!give_place(l) && ev_is_active(&l->retry))
        resume_accepting(l); /* a descriptor has become free */
}

struct cws_options *cws_listener_options(const struct cws_listener *l) {
    return l->options;
}
