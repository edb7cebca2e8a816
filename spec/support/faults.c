/*
 * faults.c - preloaded into a program under test: system calls that fail, or
 * that do as little as they may. From the environment:
 *
 *   FAULT_CALL=accept4 FAULT_ERRNO=24 FAULT_FROM=2 FAULT_TIMES=3
 *              of that call the second, third and fourth fail (epoll_ctl: only
 *              those that begin or change a watch)
 *   FAULT_TRICKLE=1
 *              a byte at a time is sent and received, and every second call
 *              finds the socket not ready
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int number(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
}

/* Whether this call of `name` fails; then errno is set. */
static int fails(const char *name) {
    static int calls;
    const char *which = getenv("FAULT_CALL");
    if (!which || strcmp(which, name) != 0)
        return 0;
    int from = number("FAULT_FROM", 1);
    calls++;
    if (calls < from || calls >= from + number("FAULT_TIMES", 1))
        return 0;
    errno = number("FAULT_ERRNO", 0);
    return 1;
}

/* Only of IPv6. */
int socket(int family, int type, int protocol) {
    if (family == AF_INET6 && fails("socket"))
        return -1;
    return NEXT(socket)(family, type, protocol);
}

int accept4(int fd, __SOCKADDR_ARG address, socklen_t *size, int flags) {
    if (fails("accept4"))
        return -1;
    return NEXT(accept4)(fd, address, size, flags);
}

int epoll_ctl(int epoll, int op, int fd, struct epoll_event *event) {
    if (op != EPOLL_CTL_DEL && fails("epoll_ctl"))
        return -1;
    return NEXT(epoll_ctl)(epoll, op, fd, event);
}

static int not_ready(void) {
    static unsigned calls;
    if (!getenv("FAULT_TRICKLE") || calls++ % 2)
        return 0;
    errno = EAGAIN;
    return 1;
}

static size_t little(size_t len) {
    return len && getenv("FAULT_TRICKLE") ? 1 : len;
}

ssize_t recv(int fd, void *data, size_t len, int flags) {
    if (not_ready())
        return -1;
    return NEXT(recv)(fd, data, little(len), flags);
}

ssize_t send(int fd, const void *data, size_t len, int flags) {
    if (not_ready())
        return -1;
    return NEXT(send)(fd, data, little(len), flags);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    if (!getenv("FAULT_TRICKLE"))
        return NEXT(sendmsg)(fd, message, flags);
    for (size_t i = 0; i < message->msg_iovlen; i++)
        if (message->msg_iov[i].iov_len)
            return send(fd, message->msg_iov[i].iov_base,
                        message->msg_iov[i].iov_len, flags);
    return 0;
}
