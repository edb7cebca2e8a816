/*
 * testing_socket.c - plain non-blocking TCP sockets of loopback, for peers that
 * say what no WebSocket would. Nothing here waits: spec/support/raw.lua does,
 * between the turns of the loop.
 *
 *   socket = testing.tcp_connect(port [, { receive =, send = }])
 *   socket = testing.tcp_listen([backlog [, buffers]])
 *
 * What fails gives nil and a word: "again", "reset", "refused", "pipe", or the
 * text of errno.
 */
#include "testing.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SOCKET "cws.testing.socket"

struct testing_socket {
    int fd; /* -1: closed */
};

static struct testing_socket *check(lua_State *L) {
    struct testing_socket *self = luaL_checkudata(L, 1, SOCKET);
    luaL_argcheck(L, self->fd >= 0, 1, "closed");
    return self;
}

static int failed(lua_State *L, int code) {
    lua_pushnil(L);
    if (code == EAGAIN || code == EWOULDBLOCK || code == EINPROGRESS)
        lua_pushliteral(L, "again");
    else if (code == ECONNRESET)
        lua_pushliteral(L, "reset");
    else if (code == ECONNREFUSED)
        lua_pushliteral(L, "refused");
    else if (code == EPIPE)
        lua_pushliteral(L, "pipe");
    else
        lua_pushstring(L, strerror(code));
    return 2;
}

/* --- making one ---------------------------------------------------------- */

static struct testing_socket *push_socket(lua_State *L) {
    struct testing_socket *self = lua_newuserdatauv(L, sizeof *self, 0);
    self->fd = -1;
    luaL_setmetatable(L, SOCKET);
    return self;
}

/* The size of a kernel buffer, from the table at `index`. */
static void set_size(lua_State *L, int index, int fd, const char *name,
                     int option) {
    if (!lua_istable(L, index))
        return;
    if (lua_getfield(L, index, name) == LUA_TNUMBER) {
        int size = (int)lua_tointeger(L, -1);
        (void)setsockopt(fd, SOL_SOCKET, option, &size, sizeof size);
    }
    lua_pop(L, 1);
}

static int open_socket(lua_State *L, struct testing_socket *self, int sizes) {
    int one = 1;
    self->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (self->fd < 0)
        return -1;
    (void)fcntl(self->fd, F_SETFL, O_NONBLOCK);
    (void)fcntl(self->fd, F_SETFD, FD_CLOEXEC);
    (void)setsockopt(self->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    set_size(L, sizes, self->fd, "receive", SO_RCVBUF);
    set_size(L, sizes, self->fd, "send", SO_SNDBUF);
    return 0;
}

static struct sockaddr_in loopback(int port) {
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons((uint16_t)port);
    return address;
}

/* Starts to connect; socket:connected() tells how it went. */
static int tcp_connect(lua_State *L) {
    struct sockaddr_in to = loopback((int)luaL_checkinteger(L, 1));
    struct testing_socket *self = push_socket(L);
    if (open_socket(L, self, 2) < 0)
        return failed(L, errno);
    if (connect(self->fd, (struct sockaddr *)&to, sizeof to) < 0 &&
        errno != EINPROGRESS)
        return failed(L, errno);
    return 1;
}

static int tcp_listen(lua_State *L) {
    struct sockaddr_in at = loopback(0);
    int backlog = (int)luaL_optinteger(L, 1, 16);
    struct testing_socket *self = push_socket(L);
    if (open_socket(L, self, 2) < 0 ||
        bind(self->fd, (struct sockaddr *)&at, sizeof at) < 0 ||
        listen(self->fd, backlog) < 0)
        return failed(L, errno);
    return 1;
}

/* --- using it ------------------------------------------------------------ */

static int socket_port(lua_State *L) {
    struct sockaddr_in at;
    socklen_t size = sizeof at;
    if (getsockname(check(L)->fd, (struct sockaddr *)&at, &size) < 0)
        return failed(L, errno);
    lua_pushinteger(L, ntohs(at.sin_port));
    return 1;
}

static int socket_accept(lua_State *L) {
    struct testing_socket *self = check(L), *peer = push_socket(L);
    int one = 1;
    peer->fd = accept(self->fd, NULL, NULL);
    if (peer->fd < 0)
        return failed(L, errno);
    (void)fcntl(peer->fd, F_SETFL, O_NONBLOCK);
    (void)fcntl(peer->fd, F_SETFD, FD_CLOEXEC);
    (void)setsockopt(peer->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return 1;
}

/* true, or nil and why not (yet). */
static int socket_connected(lua_State *L) {
    struct pollfd p = {.fd = check(L)->fd, .events = POLLOUT};
    int code = 0;
    socklen_t size = sizeof code;
    if (poll(&p, 1, 0) <= 0)
        return failed(L, EAGAIN);
    (void)getsockopt(p.fd, SOL_SOCKET, SO_ERROR, &code, &size);
    if (code)
        return failed(L, code);
    lua_pushboolean(L, 1);
    return 1;
}

/* send(bytes [, first]) -> how many the kernel took, from the byte `first` */
static int socket_send(lua_State *L) {
    struct testing_socket *self = check(L);
    size_t len;
    const char *bytes = luaL_checklstring(L, 2, &len);
    lua_Integer first = luaL_optinteger(L, 3, 1);
    luaL_argcheck(L, first >= 1 && (size_t)first <= len + 1, 3, "out of range");
    size_t from = (size_t)first - 1;
    ssize_t n = send(self->fd, bytes + from, len - from, MSG_NOSIGNAL);
    if (n < 0)
        return failed(L, errno);
    lua_pushinteger(L, n);
    return 1;
}

/* recv([max]) -> bytes; "" is the end of the stream */
static int socket_recv(lua_State *L) {
    struct testing_socket *self = check(L);
    size_t max = (size_t)luaL_optinteger(L, 2, 65536);
    luaL_Buffer b;
    char *room = luaL_buffinitsize(L, &b, max);
    ssize_t n = recv(self->fd, room, max, 0);
    int code = errno;
    luaL_pushresultsize(&b, n > 0 ? (size_t)n : 0);
    return n < 0 ? failed(L, code) : 1;
}

/* Ends our side of the stream. */
static int socket_shutdown(lua_State *L) {
    (void)shutdown(check(L)->fd, SHUT_WR);
    return 0;
}

static int socket_close(lua_State *L) {
    struct testing_socket *self = luaL_checkudata(L, 1, SOCKET);
    if (self->fd >= 0)
        close(self->fd);
    self->fd = -1;
    return 0;
}

/* Closes it so that the peer gets a reset. */
static int socket_reset(lua_State *L) {
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(check(L)->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    return socket_close(L);
}

/* --- opening ------------------------------------------------------------- */

static const luaL_Reg methods[] = {
    {"port", socket_port},           {"accept", socket_accept},
    {"connected", socket_connected}, {"send", socket_send},
    {"recv", socket_recv},           {"shutdown", socket_shutdown},
    {"close", socket_close},         {"reset", socket_reset},
    {"__gc", socket_close},          {NULL, NULL}};

void cws_testing_open_socket(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"tcp_connect", tcp_connect}, {"tcp_listen", tcp_listen}, {NULL, NULL}};
    luaL_newmetatable(L, SOCKET);
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_setfuncs(L, functions, 0);
}
