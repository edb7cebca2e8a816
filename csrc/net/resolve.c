/*
 * resolve.c - getaddrinfo in threads of its own.
 *
 * A query belongs to the thread that answers it and to the loop that asked,
 * each with a reference. The thread tells the loop through a pipe that the
 * query owns: it never touches the loop itself, so the loop may go at
 * any time.
 */
#include "resolve.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define HOST_MAX 256

/* What the thread touches: plain memory, no hooks (they are not for threads).
 */
struct query {
    atomic_int refs;
    int pipe[2]; /* a byte in it: answered */
    struct query *next;
    bool passive;
    int port;
    int count;
    const char *why;
    union cws_address addresses[CWS_RESOLVE_MAX];
    char host[HOST_MAX];
};

struct cws_resolve {
    struct cws_loop *loop;
    struct query *query;
    ev_io io;
    cws_resolve_done *done;
    void *user;
};

/* --- asking --------------------------------------------------------------- */

static const char *why_text(int error) {
    switch (error) {
    case EAI_NONAME:
#ifdef EAI_NODATA
    case EAI_NODATA:
#endif
        return "no such host";
    case EAI_AGAIN:
        return "temporary failure in name resolution";
    case EAI_MEMORY:
        return "out of memory";
    default:
        return "name resolution failed";
    }
}

static int copy_addresses(const struct addrinfo *list,
                          union cws_address out[CWS_RESOLVE_MAX]) {
    int count = 0;
    for (; list && count < CWS_RESOLVE_MAX; list = list->ai_next) {
        if (list->ai_family != AF_INET && list->ai_family != AF_INET6)
            continue;
        memset(&out[count], 0, sizeof out[count]);
        memcpy(&out[count++], list->ai_addr, list->ai_addrlen);
    }
    return count;
}

/* RFC 6761 6.3: localhost and all names below it are this machine. */
static bool is_localhost(const char *host) {
    static const char name[] = "localhost";
    size_t len = strlen(host), n = sizeof name - 1;
    if (len < n || strcasecmp(host + len - n, name) != 0)
        return false;
    return len == n || host[len - n - 1] == '.';
}

/* For a system that knows no localhost (a container without /etc/hosts). */
static int loopback(int port, union cws_address out[CWS_RESOLVE_MAX]) {
    (void)cws_address_parse("127.0.0.1", port, &out[0]);
    (void)cws_address_parse("::1", port, &out[1]);
    return 2;
}

int cws_resolve_now(const char *host, int port, bool passive,
                    union cws_address out[CWS_RESOLVE_MAX], const char **why) {
    struct addrinfo hints = {0}, *list = NULL;
    char service[16];
    snprintf(service, sizeof service, "%d", port);
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICSERV | (passive ? AI_PASSIVE : 0);
    bool local = is_localhost(host);
    if (local)
        host = "localhost";
    int error = getaddrinfo(*host ? host : NULL, service, &hints, &list);
    if (error && local)
        return loopback(port, out);
    if (error) {
        *why = why_text(error);
        return CWS_EDNS;
    }
    int count = copy_addresses(list, out);
    freeaddrinfo(list);
    *why = "no such host";
    return count ? count : CWS_EDNS;
}

/* --- threads -------------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct query *waiting, **waiting_end = &waiting;
static int threads;

static void drop(struct query *q) {
    if (atomic_fetch_sub(&q->refs, 1) > 1)
        return;
    close(q->pipe[0]);
    close(q->pipe[1]);
    free(q);
}

/* NULL: nothing waits, the thread ends. */
static struct query *next_query(void) {
    pthread_mutex_lock(&lock);
    struct query *q = waiting;
    if (q) {
        waiting = q->next;
        if (!waiting)
            waiting_end = &waiting;
    } else {
        threads--;
    }
    pthread_mutex_unlock(&lock);
    return q;
}

static void *work(void *unused) {
    struct query *q;
    while ((q = next_query()) != NULL) {
        if (atomic_load(&q->refs) > 1) /* somebody still wants to know */
            q->count = cws_resolve_now(q->host, q->port, q->passive,
                                       q->addresses, &q->why);
        if (q->count < 0)
            q->count = 0;
        while (write(q->pipe[1], "", 1) < 0)
            ; /* EINTR: an empty pipe has room for a byte */
        drop(q);
    }
    return unused;
}

/* Signals are for the program's threads. */
static bool start_thread(void) {
    sigset_t all, old;
    pthread_t thread;
    pthread_attr_t attributes;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    bool ok = pthread_create(&thread, &attributes, work, NULL) == 0;
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return ok;
}

/* Under the lock; false when no thread will ever take it. */
static bool enqueue(struct query *q) {
    q->next = NULL;
    *waiting_end = q;
    waiting_end = &q->next;
    if (threads >= CWS_RESOLVE_THREADS)
        return true;
    threads++;
    if (start_thread())
        return true;
    threads--;
    return threads > 0;
}

static void unqueue(struct query *q) {
    struct query **at = &waiting;
    while (*at && *at != q)
        at = &(*at)->next;
    if (*at)
        *at = q->next;
    waiting_end = &waiting;
    while (*waiting_end)
        waiting_end = &(*waiting_end)->next;
}

static bool submit(struct query *q) {
    pthread_mutex_lock(&lock);
    bool ok = enqueue(q);
    if (!ok)
        unqueue(q);
    pthread_mutex_unlock(&lock);
    return ok;
}

/* --- the loop's side ------------------------------------------------------ */

static bool open_pipe(int fds[2]) {
#ifdef __linux__
    return pipe2(fds, O_CLOEXEC) == 0;
#else
    if (pipe(fds) < 0)
        return false;
    (void)fcntl(fds[0], F_SETFD, FD_CLOEXEC);
    (void)fcntl(fds[1], F_SETFD, FD_CLOEXEC);
    return true;
#endif
}

static struct query *new_query(const char *host, int port, bool passive) {
    size_t len = strlen(host);
    struct query *q = calloc(1, sizeof *q);
    if (!q)
        return NULL;
    if (!open_pipe(q->pipe)) {
        free(q); /* which keeps errno */
        return NULL;
    }
    atomic_init(&q->refs, 1);
    if (len < HOST_MAX)
        memcpy(q->host, host, len + 1);
    q->port = port;
    q->passive = passive;
    return q;
}

static void free_resolve(struct cws_resolve *r) {
    ev_io_stop(r->loop->ev, &r->io);
    r->loop->live--;
    drop(r->query);
    cws_free(r);
}

static void on_answer(struct ev_loop *ev, ev_io *io, int revents) {
    struct cws_resolve *r = io->data;
    struct cws_loop *loop = r->loop;
    (void)ev;
    bool nested = loop->running;
    loop->running = true;
    struct query *q = r->query;
    atomic_fetch_add(&q->refs, 1);
    cws_resolve_done *done = r->done;
    void *user = r->user;
    free_resolve(r);
    if (revents & EV_ERROR) /* libev gave the pipe up: it may not be answered */
        done(user, NULL, 0, "the system cannot watch the query");
    else
        done(user, q->addresses, (size_t)q->count, q->why);
    drop(q);
    loop->running = nested;
}

/* A number needs no thread, nor does what is longer than any name: the pipe is
 * filled at once. */
static bool answer_now(struct query *q, const char *host) {
    if (strlen(host) >= HOST_MAX)
        q->why = "no such host";
    else if (cws_address_parse(q->host, q->port, &q->addresses[0]))
        q->count = 1;
    else
        return false;
    return write(q->pipe[1], "", 1) == 1;
}

struct cws_resolve *cws_resolve_start(struct cws_loop *loop, const char *host,
                                      int port, bool passive,
                                      cws_resolve_done *done, void *user) {
    errno = ENOMEM; /* cws_calloc does not say so */
    struct cws_resolve *r = cws_calloc(sizeof *r);
    struct query *q = r ? new_query(host, port, passive) : NULL;
    if (!q) {
        cws_free(r);
        return NULL;
    }
    if (!answer_now(q, host)) {
        atomic_fetch_add(&q->refs, 1); /* the thread's */
        if (!submit(q)) {
            atomic_fetch_sub(&q->refs, 1);
            drop(q);
            cws_free(r);
            errno = EAGAIN; /* of pthread_create */
            return NULL;
        }
    }
    r->loop = loop;
    r->query = q;
    r->done = done;
    r->user = user;
    ev_io_init(&r->io, on_answer, q->pipe[0], EV_READ);
    r->io.data = r;
    ev_io_start(loop->ev, &r->io);
    loop->live++;
    return r;
}

void cws_resolve_cancel(struct cws_resolve *resolve) {
    if (resolve)
        free_resolve(resolve);
}
