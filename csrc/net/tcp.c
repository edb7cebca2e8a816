#include "tcp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "transport.h"

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* macOS: SO_NOSIGPIPE, see set_flags */
#endif

/* --- addresses ------------------------------------------------------------ */

socklen_t cws_address_size(const union cws_address *a) {
    return a->sa.sa_family == AF_INET6 ? sizeof a->in6 : sizeof a->in4;
}

/* Where the four bytes of an IPv4 address stand, or NULL: the peer of a socket
 * that listens for both kinds has its address mapped into IPv6. */
static const void *ipv4_of(const union cws_address *a) {
    if (a->sa.sa_family == AF_INET)
        return &a->in4.sin_addr;
    if (a->sa.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr))
        return &a->in6.sin6_addr.s6_addr[12];
    return NULL;
}

void cws_address_format(const union cws_address *a,
                        char out[CWS_ADDRESS_TEXT]) {
    char host[INET6_ADDRSTRLEN];
    const void *ipv4 = ipv4_of(a);
    out[0] = 0;
    if (ipv4) { /* the port is at the same place in both */
        if (inet_ntop(AF_INET, ipv4, host, sizeof host))
            snprintf(out, CWS_ADDRESS_TEXT, "%s:%d", host,
                     ntohs(a->in4.sin_port));
    } else if (a->sa.sa_family == AF_INET6) {
        if (inet_ntop(AF_INET6, &a->in6.sin6_addr, host, sizeof host))
            snprintf(out, CWS_ADDRESS_TEXT, "[%s]:%d", host,
                     ntohs(a->in6.sin6_port));
    }
}

bool cws_address_parse(const char *host, int port, union cws_address *out) {
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, host, &out->in4.sin_addr) == 1) {
        out->in4.sin_family = AF_INET;
        out->in4.sin_port = htons((uint16_t)port);
        return true;
    }
    if (inet_pton(AF_INET6, host, &out->in6.sin6_addr) == 1) {
        out->in6.sin6_family = AF_INET6;
        out->in6.sin6_port = htons((uint16_t)port);
        return true;
    }
    return false;
}

/* --- sockets -------------------------------------------------------------- */

static void set_option(int fd, int level, int name) {
    int one = 1;
    (void)setsockopt(fd, level, name, &one, sizeof one);
}

static int new_socket(int family) {
#ifdef SOCK_NONBLOCK
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
#else
    int fd = socket(family, SOCK_STREAM, 0);
    if (fd >= 0) {
        (void)fcntl(fd, F_SETFL, O_NONBLOCK);
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
#endif
#ifdef SO_NOSIGPIPE
    if (fd >= 0)
        set_option(fd, SOL_SOCKET, SO_NOSIGPIPE);
#endif
    return fd;
}

static int close_keeping_errno(int fd, int err) {
    int saved = errno;
    close(fd);
    errno = saved;
    return err;
}

static bool is_any6(const union cws_address *a) {
    return a->sa.sa_family == AF_INET6 &&
           IN6_IS_ADDR_UNSPECIFIED(&a->in6.sin6_addr);
}

int cws_tcp_listen(const union cws_address *a, int backlog) {
    int fd = new_socket(a->sa.sa_family);
    if (fd < 0)
        return CWS_ELISTEN;
    set_option(fd, SOL_SOCKET, SO_REUSEADDR);
    set_option(fd, IPPROTO_TCP, TCP_NODELAY); /* accept() hands it on */
    if (is_any6(a)) { /* IPv4 as well, whatever the system's default is */
        int no = 0;
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
    }
    if (bind(fd, &a->sa, cws_address_size(a)) < 0 || listen(fd, backlog) < 0)
        return close_keeping_errno(fd, CWS_ELISTEN);
    return fd;
}

int cws_tcp_connect(const union cws_address *a) {
    int fd = new_socket(a->sa.sa_family);
    if (fd < 0)
        return CWS_ECONNECT;
    set_option(fd, IPPROTO_TCP, TCP_NODELAY);
    if (connect(fd, &a->sa, cws_address_size(a)) < 0 && errno != EINPROGRESS &&
        errno != EINTR)
        return close_keeping_errno(fd, CWS_ECONNECT);
    return fd;
}

int cws_tcp_connect_result(int fd) {
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
        return errno;
    return error;
}

size_t cws_tcp_raise_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 1024;
    if (limit.rlim_cur < limit.rlim_max) {
        struct rlimit raised = {limit.rlim_max, limit.rlim_max};
        if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
            limit = raised;
    }
    return limit.rlim_cur == RLIM_INFINITY ? 1 << 20 : (size_t)limit.rlim_cur;
}

/* --- the transport -------------------------------------------------------- */

static ssize_t failed(struct cws_transport *t) {
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return CWS_TRANSPORT_AGAIN;
    t->error = errno;
    return CWS_EIO;
}

static ssize_t tcp_read(struct cws_transport *t, void *data, size_t len) {
    ssize_t n;
    do
        n = recv(t->fd, data, len, 0);
    while (n < 0 && errno == EINTR);
    return n < 0 ? failed(t) : n;
}

/* sendmsg and not writev: a peer that is gone must not raise SIGPIPE. */
static ssize_t tcp_write(struct cws_transport *t, const struct iovec *iov,
                         int count) {
    struct msghdr message = {0};
    message.msg_iov = (struct iovec *)(uintptr_t)iov;
    message.msg_iovlen = (size_t)count;
    ssize_t n;
    do
        n = count == 1 ? send(t->fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL)
                       : sendmsg(t->fd, &message, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? failed(t) : n;
}

static void tcp_shutdown(struct cws_transport *t) {
    (void)shutdown(t->fd, SHUT_WR);
}

static void tcp_close(struct cws_transport *t, bool abort) {
    if (t->fd < 0)
        return;
    if (abort) {
        struct linger reset = {.l_onoff = 1, .l_linger = 0};
        (void)setsockopt(t->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
    close(t->fd);
    t->fd = -1;
}

static const struct cws_transport_ops tcp_ops = {.name = "tcp",
                                                 .read = tcp_read,
                                                 .write = tcp_write,
                                                 .shutdown = tcp_shutdown,
                                                 .close = tcp_close};

void cws_tcp_init(struct cws_transport *t, int fd) {
    *t = (struct cws_transport){.ops = &tcp_ops, .fd = fd};
}
