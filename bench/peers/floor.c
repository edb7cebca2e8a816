/*
 * floor.c - what an echo costs at least: libev, one shared buffer, parse the
 * header, unmask in place, write back. No checks, no limits, no scripting; the
 * ratio to it is the price of everything else.
 *
 *   floor PORT
 * /echo echoes; /sub receives what comes in on /pub.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER (512 * 1024)
#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

enum role { HANDSHAKE, ECHO, SUB, PUB };

struct peer {
    ev_io io;
    enum role role;
    int slot; /* among the subscribers */
    unsigned char *rest; /* received, incomplete */
    size_t rest_len, rest_cap;
    unsigned char *out; /* unsent */
    size_t out_len;
};

static unsigned char input[BUFFER + 16];
static unsigned char output[4 * BUFFER];
static struct peer *subscribers[20000];
static int subscriber_count;

static void drop(struct ev_loop *loop, struct peer *p) {
    ev_io_stop(loop, &p->io);
    close(p->io.fd);
    if (p->role == SUB) {
        subscribers[p->slot] = subscribers[--subscriber_count];
        subscribers[p->slot]->slot = p->slot;
    }
    free(p->rest);
    free(p->out);
    free(p);
}

static void watch(struct ev_loop *loop, struct peer *p, int events) {
    if (events == (p->io.events & (EV_READ | EV_WRITE)))
        return;
    ev_io_stop(loop, &p->io);
    ev_io_set(&p->io, p->io.fd, events);
    ev_io_start(loop, &p->io);
}

static void put(struct ev_loop *loop, struct peer *p, const unsigned char *data,
                size_t len) {
    ssize_t n = 0;
    if (!p->out_len) {
        n = send(p->io.fd, data, len, MSG_NOSIGNAL);
        if (n < 0)
            n = 0;
        if ((size_t)n == len)
            return;
    }
    p->out = realloc(p->out, p->out_len + len - (size_t)n);
    memcpy(p->out + p->out_len, data + n, len - (size_t)n);
    p->out_len += len - (size_t)n;
    watch(loop, p, EV_WRITE); /* the simplest back-pressure */
}

static void flush(struct ev_loop *loop, struct peer *p) {
    ssize_t n = send(p->io.fd, p->out, p->out_len, MSG_NOSIGNAL);
    if (n <= 0)
        return;
    p->out_len -= (size_t)n;
    memmove(p->out, p->out + n, p->out_len);
    if (!p->out_len)
        watch(loop, p, EV_READ);
}

static size_t write_header(unsigned char *out, unsigned char first,
                           size_t len) {
    out[0] = first;
    if (len < 126) {
        out[1] = (unsigned char)len;
        return 2;
    }
    if (len < 65536) {
        out[1] = 126;
        out[2] = (unsigned char)(len >> 8);
        out[3] = (unsigned char)len;
        return 4;
    }
    out[1] = 127;
    for (int i = 0; i < 8; i++)
        out[2 + i] = (unsigned char)((unsigned long long)len >> (56 - 8 * i));
    return 10;
}

static void unmask(unsigned char *data, size_t len, const unsigned char *key) {
    unsigned long long wide;
    unsigned char keys[8];
    size_t i = 0;
    memcpy(keys, key, 4);
    memcpy(keys + 4, key, 4);
    memcpy(&wide, keys, 8);
    for (; i + 8 <= len; i += 8) {
        unsigned long long word;
        memcpy(&word, data + i, 8);
        word ^= wide;
        memcpy(data + i, &word, 8);
    }
    for (; i < len; i++)
        data[i] ^= key[i & 3];
}

static void publish(struct ev_loop *loop, const unsigned char *data,
                    size_t len) {
    for (int i = 0; i < subscriber_count; i++)
        put(loop, subscribers[i], data, len);
}

/* Handles the complete frames of data; returns how many bytes they took. */
static size_t frames(struct ev_loop *loop, struct peer *p, unsigned char *data,
                     size_t len) {
    size_t used = 0, out = 0;
    for (;;) {
        unsigned char *f = data + used;
        size_t have = len - used, head = 6, payload;
        if (have < head)
            break;
        payload = f[1] & 127;
        if (payload == 126) {
            head = 8;
            payload = have < head ? have : (size_t)f[2] << 8 | f[3];
        } else if (payload == 127) {
            head = 14;
            payload = 0;
            for (int i = 0; i < 8 && have >= head; i++)
                payload = payload << 8 | f[2 + i];
        }
        if (have < head || have - head < payload)
            break;
        unmask(f + head, payload, f + head - 4);
        if (out + payload + 10 > sizeof output) {
            put(loop, p, output, out);
            out = 0;
        }
        out += write_header(output + out, f[0], payload);
        memcpy(output + out, f + head, payload);
        out += payload;
        used += head + payload;
        if ((f[0] & 15) == 8) { /* close: echo and go */
            put(loop, p, output, out);
            shutdown(p->io.fd, SHUT_WR);
            return used;
        }
    }
    if (out && p->role == PUB)
        publish(loop, output, out);
    if (out)
        put(loop, p, output, out);
    return used;
}

static void upgrade(struct ev_loop *loop, struct peer *p, char *head) {
    unsigned char digest[20], accept[32];
    char text[128], reply[256];
    char *key = strcasestr(head, "sec-websocket-key:");
    if (!key) {
        drop(loop, p);
        return;
    }
    key += 18;
    key += strspn(key, " ");
    key[strcspn(key, "\r\n ")] = 0;
    snprintf(text, sizeof text, "%s" GUID, key);
    SHA1((unsigned char *)text, strlen(text), digest);
    EVP_EncodeBlock(accept, digest, 20);
    int n = snprintf(reply, sizeof reply,
                     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket"
                     "\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n"
                     "\r\n",
                     accept);
    p->role = !strncmp(head, "GET /sub", 8)   ? SUB
              : !strncmp(head, "GET /pub", 8) ? PUB
                                              : ECHO;
    if (p->role == SUB) {
        p->slot = subscriber_count;
        subscribers[subscriber_count++] = p;
    }
    put(loop, p, (unsigned char *)reply, (size_t)n);
}

static void keep(struct peer *p, const unsigned char *data, size_t len) {
    if (p->rest_cap < len) {
        p->rest_cap = len < 4096 ? 4096 : 2 * len;
        p->rest = realloc(p->rest, p->rest_cap);
    }
    memmove(p->rest, data, len);
    p->rest_len = len;
}

static void on_bytes(struct ev_loop *loop, struct peer *p, unsigned char *data,
                     size_t len) {
    if (p->role == HANDSHAKE) {
        data[len] = 0;
        if (strstr((char *)data, "\r\n\r\n"))
            upgrade(loop, p, (char *)data);
        return;
    }
    size_t used = frames(loop, p, data, len);
    if (used == len && p->rest) {
        free(p->rest);
        p->rest = NULL;
        p->rest_len = p->rest_cap = 0;
    } else if (used < len) {
        keep(p, data + used, len - used);
    }
}

static void on_io(struct ev_loop *loop, ev_io *io, int events) {
    struct peer *p = io->data;
    if (events & EV_WRITE)
        flush(loop, p);
    if (!(events & EV_READ) || p->out_len)
        return;
    unsigned char *at = input;
    size_t room = BUFFER;
    if (p->rest_len) { /* large messages: read to where they stand */
        if (p->rest_cap - p->rest_len < BUFFER / 2) {
            p->rest_cap = 2 * p->rest_cap + BUFFER;
            p->rest = realloc(p->rest, p->rest_cap);
        }
        at = p->rest + p->rest_len;
        room = p->rest_cap - p->rest_len - 1;
    }
    ssize_t n = recv(io->fd, at, room, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        drop(loop, p);
        return;
    }
    if (p->rest_len)
        on_bytes(loop, p, p->rest, p->rest_len += (size_t)n);
    else
        on_bytes(loop, p, input, (size_t)n);
}

static void on_accept(struct ev_loop *loop, ev_io *io, int events) {
    (void)events;
    for (int i = 0; i < 64; i++) {
        int one = 1, fd = accept4(io->fd, NULL, NULL,
                                  SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct peer *p = calloc(1, sizeof *p);
        ev_io_init(&p->io, on_io, fd, EV_READ);
        p->io.data = p;
        ev_io_start(loop, &p->io);
    }
}

int main(int argc, char **argv) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    ev_io io;
    address.sin_port = htons((unsigned short)atoi(argc > 1 ? argv[1] : "9001"));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) ||
        listen(fd, 4096)) {
        perror("floor");
        return 1;
    }
    struct ev_loop *loop = ev_default_loop(0);
    ev_io_init(&io, on_accept, fd, EV_READ);
    ev_io_start(loop, &io);
    ev_run(loop, 0);
}
