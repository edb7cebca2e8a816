/*
 * feed.c - the client of bench/instructions.sh, inside the server's process.
 *
 * Loaded with LD_PRELOAD it takes the place of epoll_wait: whenever the server
 * is about to sleep, the client does what it can without waiting (send,
 * receive) over loopback. One thread, no clock: every run takes the same way
 * through the server, and callgrind counts only between two sleeps of the
 * measured part.
 *
 *   FEED="echo CONNECTIONS BATCH SIZE text|utf8|binary|deflate ROUNDS [PATH]"
 *   FEED="handshake CONNECTIONS"          each: connect, 101
 *   FEED="cycle CONNECTIONS"              each: connect, 101, echo, close
 *   FEED="broadcast SUBSCRIBERS SIZE ROUNDS"
 *
 * At the end it prints the number of messages (deliveries, handshakes, cycles)
 * and ends the process.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <valgrind/callgrind.h>
#ifndef WITHOUT_ZLIB
#include <zlib.h>
#endif

#define CLIENTS_MAX 1024
#define SECONDS_MAX 60
#define UNKNOWN (SIZE_MAX - 1)

struct client {
    int fd;
    const uint8_t *out; /* not sent yet */
    size_t out_len;
    size_t expect;  /* bytes that have to come; SIZE_MAX: up to the end */
    bool in_head;   /* they come after an HTTP head */
    unsigned match; /* bytes of the end of the head seen */
};

static struct client clients[CLIENTS_MAX];
static int client_count;
static struct sockaddr_in server;
static bool measuring;

static void die(const char *what) {
    fprintf(stderr, "feed: %s: %s\n", what, strerror(errno));
    _exit(3);
}

/* --- frames ----------------------------------------------------------------
 */

static uint8_t *frames; /* BATCH masked frames, back to back */
static size_t frames_len;
static size_t numbers_at, frame_len; /* 0: the messages are all the same */
static int frame_count;
static size_t reply_len; /* bytes of one batch of echoes */

static size_t put_header(uint8_t *out, int first, size_t size, bool masked) {
    size_t n = 0, bytes = size < 126 ? 0 : size < 65536 ? 2 : 8;
    uint8_t length = bytes == 0 ? (uint8_t)size : bytes == 2 ? 126 : 127;
    out[n++] = (uint8_t)first;
    out[n++] = (uint8_t)((masked ? 0x80 : 0) | length);
    while (bytes-- > 0)
        out[n++] = (uint8_t)((uint64_t)size >> (8 * bytes));
    return n;
}

static const uint8_t key[4] = {0x37, 0xfa, 0x21, 0x3d};

static size_t put_frame(uint8_t *out, int first, const uint8_t *data,
                        size_t size) {
    size_t n = put_header(out, first, size, true);
    memcpy(out + n, key, 4);
    n += 4;
    for (size_t i = 0; i < size; i++)
        out[n + i] = data[i] ^ key[i & 3];
    return n + size;
}

/* Words as bench/wsload.c has them. */
static void fill(uint8_t *data, size_t size, const char *kind) {
    static const char *const ascii[] = {
        "alpha ", "12", "{\"id\":",    "foxtrot ",
        "6789",   "x",  ",\"ok\":1} ", "zzz "};
    static const char *const mixed[] = {"caf\xc3\xa9 ",
                                        "na\xc3\xafve ",
                                        "\xe2\x82\xac",
                                        "plain ",
                                        "\xe6\x97\xa5\xe6\x9c\xac",
                                        "\xf0\x9f\x98\x80",
                                        "\xce\xb1\xce\xb2 ",
                                        "\xd0\xbf\xd1\x80 "};
    uint32_t random = 12345;
    for (size_t used = 0; used < size;) {
        random = random * 1664525 + 1013904223;
        unsigned pick = random >> 29;
        const char *word = strcmp(kind, "utf8") ? ascii[pick] : mixed[pick];
        size_t n = strlen(word);
        if (n > size - used) { /* no character is cut */
            memset(data + used, '.', size - used);
            return;
        }
        memcpy(data + used, word, n);
        used += n;
    }
}

static size_t deflated(uint8_t *out, size_t room, uint8_t *data, size_t size) {
#ifdef WITHOUT_ZLIB
    (void)out, (void)room, (void)data, (void)size;
    die("no zlib");
    return 0;
#else
    z_stream z = {0};
    if (deflateInit2(&z, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        die("deflate");
    z.next_in = data;
    z.avail_in = (uInt)size;
    z.next_out = out;
    z.avail_out = (uInt)room;
    (void)deflate(&z, Z_SYNC_FLUSH);
    deflateEnd(&z);
    return room - z.avail_out - 4;
#endif
}

static void make_frames(int batch, size_t size, const char *kind) {
    bool binary = !strcmp(kind, "binary"), squeeze = !strcmp(kind, "deflate");
    uint8_t *data = malloc(size + 1), *small = malloc(size + 256), head[16];
    frames = malloc((size + 256) * (size_t)batch);
    fill(data, size, kind);
    memset(data, '0', 8);
    const uint8_t *payload = data;
    int first = 0x80 | (binary ? 2 : 1) | (squeeze ? 0x40 : 0);
    if (squeeze) {
        size = deflated(small, size + 256, data, size);
        payload = small;
    }
    for (int i = 0; i < batch; i++)
        frames_len += put_frame(frames + frames_len, first, payload, size);
    frame_count = batch;
    frame_len = frames_len / (size_t)batch;
    numbers_at = squeeze ? 0 : frame_len - size;
    reply_len = (size_t)batch * (put_header(head, first, size, false) + size);
    if (squeeze) /* the server compresses in its own way: the first tells */
        reply_len = UNKNOWN;
}

/* No two messages are the same: each begins with its number. */
static void number_frames(void) {
    static unsigned number;
    char digits[9];
    for (int i = 0; i < frame_count && numbers_at; i++) {
        uint8_t *at = frames + (size_t)i * frame_len + numbers_at;
        snprintf(digits, sizeof digits, "%08x", number++);
        for (int k = 0; k < 8; k++)
            at[k] = (uint8_t)digits[k] ^ key[k & 3];
    }
}

/* --- sockets ---------------------------------------------------------------
 */

static void find_server(void) {
    for (int fd = 3; fd < 256; fd++) {
        int listens = 0;
        socklen_t size = sizeof listens, length = sizeof server;
        if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 &&
            listens && !getsockname(fd, (struct sockaddr *)&server, &length))
            return;
    }
    die("nobody listens");
}

static struct client *dial(const char *path, bool deflate) {
    static char request[512];
    struct client *c = &clients[client_count++];
    int one = 1, room = 4 << 20;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    if (c->fd < 0 ||
        connect(c->fd, (struct sockaddr *)&server, sizeof server) < 0)
        die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    snprintf(request, sizeof request,
             "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
             "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n",
             path,
             deflate ? "Sec-WebSocket-Extensions: permessage-deflate; "
                       "client_no_context_takeover; "
                       "server_no_context_takeover\r\n"
                     : "");
    if (send(c->fd, request, strlen(request), 0) < 0)
        die("send");
    c->in_head = true;
    return c;
}

static void hang_up(struct client *c) {
    close(c->fd);
    memset(c, 0, sizeof *c);
    client_count--;
}

/* The bytes of data that are behind the HTTP head. */
static size_t skip_head(struct client *c, const char *data, size_t n) {
    static const char end[] = "\r\n\r\n";
    for (size_t i = 0; i < n && c->in_head; i++) {
        c->match = data[i] == end[c->match] ? c->match + 1 : data[i] == '\r';
        if (c->match == 4) {
            c->in_head = false;
            return n - i - 1;
        }
    }
    return 0;
}

/* Sends and receives what it can. True when all came that has to. */
static bool advance(struct client *c) {
    static char input[1 << 20];
    ssize_t n;
    while (c->out_len &&
           (n = send(c->fd, c->out, c->out_len, MSG_DONTWAIT)) > 0) {
        c->out += n;
        c->out_len -= (size_t)n;
    }
    while ((c->expect || c->in_head) &&
           (n = recv(c->fd, input, sizeof input, MSG_DONTWAIT)) >= 0) {
        if (n == 0 && c->expect != SIZE_MAX)
            die("the server closed");
        if (n == 0)
            c->expect = 0;
        size_t rest = c->in_head ? skip_head(c, input, (size_t)n) : (size_t)n;
        if (c->expect == SIZE_MAX)
            continue;
        if (c->expect == UNKNOWN && rest)
            c->expect = reply_len = rest;
        if (rest > c->expect)
            die("more came than was sent");
        c->expect -= rest;
    }
    return !c->out_len && !c->expect && !c->in_head;
}

static bool all_done(void) {
    bool done = true;
    for (int i = 0; i < client_count; i++)
        done = advance(&clients[i]) && done;
    return done;
}

static void say(struct client *c, const uint8_t *data, size_t len,
                size_t expect) {
    c->out = data;
    c->out_len = len;
    c->expect = expect;
    (void)advance(c);
}

/* --- what is played --------------------------------------------------------
 */

static char mode[16], kind[16] = "text", path[32] = "/echo";
static int connections = 1, batch = 1, rounds, played, warm;
static size_t size = 20;

static void finish(long messages) {
    measuring = false;
    printf("%ld\n", messages);
    fflush(stdout);
    _exit(0);
}

static void read_script(void) {
    const char *script = getenv("FEED");
    if (!script || sscanf(script, "%15s", mode) != 1)
        die("FEED says nothing");
    if (!strcmp(mode, "echo"))
        sscanf(script, "%*s %d %d %zu %15s %d %31s", &connections, &batch,
               &size, kind, &rounds, path);
    else
        sscanf(script, "%*s %d %zu %d", &connections, &size, &rounds);
    if (!strcmp(mode, "broadcast"))
        connections++; /* the last one publishes */
    if (connections >= CLIENTS_MAX)
        die("too many connections");
    warm = rounds / 4 + 1;
    make_frames(batch, size, kind);
}

static void next_echo(void) {
    bool deflate = !strcmp(kind, "deflate");
    if (client_count < connections) {
        (void)dial(path, deflate);
        return;
    }
    if (played == warm + rounds)
        finish((long)rounds * batch * connections);
    measuring = played++ >= warm;
    number_frames();
    for (int i = 0; i < connections; i++)
        say(&clients[i], frames, frames_len, reply_len);
}

static void next_broadcast(void) {
    if (client_count < connections) {
        (void)dial(client_count < connections - 1 ? "/sub" : "/pub", false);
        return;
    }
    if (played == warm + rounds)
        finish((long)rounds * (connections - 1));
    measuring = played++ >= warm;
    number_frames();
    for (int i = 0; i < connections - 1; i++)
        clients[i].expect = reply_len;
    say(&clients[connections - 1], frames, frames_len, reply_len);
}

static void next_handshake(void) {
    warm = 16;
    if (client_count == warm + connections)
        finish(connections);
    measuring = client_count >= warm;
    (void)dial(path, false);
}

static void next_cycle(void) {
    static const uint8_t bye[] = {0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8};
    static int stage;
    warm = 16;
    switch (stage++) {
    case 0:
        if (played == warm + connections)
            finish(connections);
        measuring = played++ >= warm;
        (void)dial(path, false);
        break;
    case 1:
        number_frames();
        say(&clients[0], frames, frames_len, reply_len);
        break;
    case 2:
        say(&clients[0], bye, sizeof bye, SIZE_MAX);
        break;
    default:
        hang_up(&clients[0]);
        stage = 0;
    }
}

static void play(void) {
    static bool ready;
    if (!ready) {
        ready = true;
        alarm(SECONDS_MAX);
        read_script();
        find_server();
        fprintf(stderr, "feed: %s\n", getenv("FEED"));
    }
    if (!all_done())
        return;
    if (!strcmp(mode, "echo"))
        next_echo();
    else if (!strcmp(mode, "broadcast"))
        next_broadcast();
    else if (!strcmp(mode, "handshake"))
        next_handshake();
    else if (!strcmp(mode, "cycle"))
        next_cycle();
    else
        die("no such mode");
}

int epoll_wait(int epfd, struct epoll_event *events, int max, int timeout) {
    static int (*real)(int, struct epoll_event *, int, int);
    if (measuring)
        CALLGRIND_TOGGLE_COLLECT;
    if (!real)
        real = (int (*)(int, struct epoll_event *, int, int))dlsym(
            RTLD_NEXT, "epoll_wait");
    play();
    int n = real(epfd, events, max, timeout < 0 ? 1000 : timeout);
    if (measuring)
        CALLGRIND_TOGGLE_COLLECT;
    return n;
}

/* Lua mixes it into the seed of its hashes: the same in every run. */
time_t time(time_t *out) {
    if (out)
        *out = 1700000000;
    return 1700000000;
}
