/*
 * conn.c - the life of a connection and its reading side: read, batch, inbox.
 */
#include "conn_private.h"

#include <stdlib.h>
#include <string.h>

#include "errtext.h"
#include "listener.h"

/* A batch gives way to other connections after this much (design, section 6).
 */
#define BATCH_MESSAGES 1024
#define BATCH_BYTES (64 * 1024)
/* A payload with this much to come is read straight to where it will stand. */
#define PLACE_MIN (32 * 1024)
#define DRAIN_MAX (64 * 1024)
#define CACHE_LINE 64
/* One read of so much says that more of it will come. */
#define BULK (32 * 1024)

/* What stands before each message in the inbox. */
struct conn_entry {
    size_t len;
    uint8_t type; /* enum cws_event_type */
    uint8_t opcode;
    bool fin;
    bool compressed;
};

/* --- inbox --------------------------------------------------------------- */

static size_t inbox_bytes(const struct cws_conn *c) {
    return cws_buf_len(&c->inbox) - c->inbox_count * sizeof(struct conn_entry);
}

/* One message always fits, however large. */
static bool inbox_full(const struct cws_conn *c) {
    return c->inbox_count >= c->options->inbox_messages ||
           inbox_bytes(c) >= c->options->inbox_bytes;
}

static bool inbox_low(const struct cws_conn *c) {
    return c->inbox_count <= c->options->inbox_messages / 2 &&
           inbox_bytes(c) <= c->options->inbox_bytes / 2;
}

static void inbox_put(struct cws_conn *c, const struct cws_event *event) {
    struct conn_entry entry = {event->len, (uint8_t)event->type, event->opcode,
                               event->fin, event->compressed};
    uint8_t *room = cws_buf_room(&c->inbox, sizeof entry + event->len);
    if (!room) {
        cws_conn_fail(c, CWS_CLOSE_INTERNAL_ERROR, "out of memory");
        return;
    }
    memcpy(room, &entry, sizeof entry);
    if (event->len)
        memcpy(room + sizeof entry, event->data, event->len);
    cws_buf_added(&c->inbox, sizeof entry + event->len);
    c->inbox_count++;
    if (c->phase == CONN_OPEN && inbox_full(c)) /* later nothing more comes */
        c->paused = true;
}

/* The event is lent: the bytes stay where they are until the next call. */
static void inbox_take(struct cws_conn *c, struct cws_event *event) {
    struct conn_entry entry;
    memcpy(&entry, cws_buf_bytes(&c->inbox), sizeof entry);
    event->type = entry.type;
    event->opcode = entry.opcode;
    event->fin = entry.fin;
    event->compressed = entry.compressed;
    event->data = cws_buf_bytes(&c->inbox) + sizeof entry;
    event->len = entry.len;
    c->inbox.head += sizeof entry + entry.len;
    c->inbox_count--;
    if (c->paused && inbox_low(c)) {
        c->paused = false;
        c->active = cws_loop_now(c->loop);
        if (c->ping_at > 0) /* the pong may lie unread: its time starts anew */
            c->ping_at = c->active;
        cws_conn_post(c);
    }
}

/* --- events -------------------------------------------------------------- */

static void on_control(struct cws_conn *c, const struct cws_event *event) {
    if (event->type == CWS_EVENT_PING)
        cws_conn_answer(c, event);
    else
        cws_conn_got_pong(c, event);
    bool watched =
        event->type == CWS_EVENT_PING ? c->watch_pings : c->watch_pongs;
    if (watched && c->events)
        c->events->control(c, c->user, event);
}

/* The next data event of the input at hand. Control frames are served on the
 * way: nobody has to be receiving for that. */
static enum cws_parse pull(struct cws_conn *c, struct cws_event *event) {
    while (c->phase <= CONN_CLOSING) {
        enum cws_parse result = cws_session_next(&c->session, event);
        if (result == CWS_BAD)
            cws_conn_lost(c, "out of memory");
        if (result != CWS_ITEM)
            return CWS_MORE;
        switch (event->type) {
        case CWS_EVENT_MESSAGE:
        case CWS_EVENT_PIECE:
            c->messages_received += event->fin;
            return CWS_ITEM;
        case CWS_EVENT_PING:
        case CWS_EVENT_PONG:
            on_control(c, event);
            break;
        case CWS_EVENT_CLOSE:
        case CWS_EVENT_FAIL:
            cws_conn_got_close(c, event);
            break;
        }
    }
    return CWS_MORE;
}

/* Part of a message and the contexts of deflate are not what the program can
 * still ask for. It may hold a closed connection for long: its collector sees
 * none of our memory. */
void cws_conn_free_input(struct cws_conn *c) {
    cws_buf_free(&c->raw);
    cws_session_free(&c->session);
}

/* --- a batch ------------------------------------------------------------- */

/* Others wait and this connection has had its share. */
static bool batch_over(const struct cws_loop *loop) {
    return (loop->batch.messages >= BATCH_MESSAGES ||
            loop->batch.bytes >= BATCH_BYTES) &&
           cws_loop_others(loop);
}

static void batch_count(struct cws_loop *loop, const struct cws_event *event) {
    loop->batch.messages++;
    loop->batch.bytes += event->len + 6; /* about a header */
}

static void batch_deliver(struct cws_conn *c, struct cws_event *event) {
    struct cws_loop *loop = c->loop;
    batch_count(loop, event);
    if (!c->want || !c->events) {
        inbox_put(c, event);
        return;
    }
    c->want = false;
    loop->batch.held = event;
    c->events->readable(c, c->user);
    if (loop->batch.held) { /* woken, but it did not take the message */
        loop->batch.held = NULL;
        inbox_put(c, event);
    }
}

/* Something to go on with before more is read. */
static bool has_input(const struct cws_conn *c) {
    return cws_buf_len(&c->raw) || cws_session_pending(&c->session);
}

/* The unparsed rest is kept: at the end of raw, or it is raw itself. */
static void keep_rest(struct cws_conn *c, bool from_raw) {
    uint8_t *rest;
    size_t len = cws_session_rest(&c->session, &rest);
    if (c->phase > CONN_CLOSING)
        len = 0;
    if (from_raw)
        cws_buf_consume(&c->raw, cws_buf_len(&c->raw) - len);
    else if (len && cws_buf_append(&c->raw, rest, len) < 0)
        cws_conn_lost(c, "out of memory");
    if (!cws_buf_len(&c->raw))
        cws_buf_free(&c->raw);
}

/* What a batch made leaves in the order in which it was made. The reply of who
 * sends to many does not overtake what is for the others: its next message then
 * meets a kernel that is done with this one, and more of them leave together.
 */
static void uncork(struct cws_conn *c) {
    if (!c->out.bytes || c->blocked)
        return;
    if (cws_link_empty(&c->loop->dirty))
        cws_conn_write(c);
    else
        cws_loop_post_flush(c->loop, &c->dirty);
}

/* Handles what the session was fed. A receiver that wants a message is
 * resumed with it and takes the following ones by itself (cws_conn_receive);
 * what nobody takes goes to the inbox. */
static void run_batch(struct cws_conn *c, bool from_raw) {
    struct cws_loop *loop = c->loop;
    struct cws_event event;
    loop->batch.conn = c;
    loop->batch.messages = loop->batch.bytes = 0;
    while (!c->paused && !batch_over(loop) && pull(c, &event) == CWS_ITEM)
        batch_deliver(c, &event);
    loop->batch.conn = NULL;
    keep_rest(c, from_raw);
    if (loop->batch.messages)
        c->active = cws_loop_now(loop);
    uncork(c);
    if (c->phase == CONN_CLOSED) {
        cws_conn_free_input(c);
        return;
    }
    if ((has_input(c) && !c->paused) || c->end)
        cws_conn_post(c);
    cws_conn_update_io(c);
}

/* --- reading ------------------------------------------------------------- */

static bool reading(const struct cws_conn *c) {
    switch (c->phase) {
    case CONN_OPEN:
        return !c->paused && !c->held && !cws_buf_len(&c->raw);
    case CONN_CLOSING: /* data is thrown away from now on */
        return !cws_buf_len(&c->raw);
    case CONN_FLUSHING:
        return !c->eof && c->drained < DRAIN_MAX;
    default:
        return true;
    }
}

void cws_conn_update_io(struct cws_conn *c) {
    if (c->phase == CONN_CLOSED)
        return;
    int events = (reading(c) ? EV_READ : 0) | (c->blocked ? EV_WRITE : 0);
    if (ev_is_active(&c->io) && events == (c->io.events & (EV_READ | EV_WRITE)))
        return;
    ev_io_stop(c->loop->ev, &c->io);
    if (!events)
        return;
    /* not ev_io_set, which means another descriptor and costs an epoll_ctl even
     * when the next sleep waits for the same events again */
    ev_io_modify(&c->io, events);
    ev_io_start(c->loop->ev, &c->io);
}

static void end_of_stream(struct cws_conn *c, ssize_t n) {
    char text[CWS_ERRTEXT_MAX];
    if (n == 0 && c->phase == CONN_FLUSHING) { /* it may still be reading */
        c->eof = true;
        cws_conn_update_io(c);
    } else if (c->phase >= CONN_FLUSHING && c->end)
        cws_conn_close_transport(c, false);
    else if (n == 0)
        cws_conn_lost(c, "unexpected EOF");
    else
        cws_conn_lost(c, cws_errtext(c->transport.error, text));
}

static void discard(struct cws_conn *c, size_t n) {
    c->drained += (uint32_t)n;
    if (c->drained < DRAIN_MAX)
        return;
    if (c->phase == CONN_DRAINING)
        cws_conn_close_transport(c, false);
    else
        cws_conn_update_io(c);
}

static void read_some(struct cws_conn *c) {
    struct cws_loop *loop = c->loop;
    size_t room = CWS_LOOP_INPUT;
    uint8_t *place = NULL;
    if (c->phase <= CONN_CLOSING)
        place = cws_session_place(&c->session, PLACE_MIN, &room);
    uint8_t *at = place ? place : loop->input;
    ssize_t n = c->transport.ops->read(&c->transport, at,
                                       place ? room : CWS_LOOP_INPUT);
    if (n == CWS_TRANSPORT_AGAIN && !c->broken)
        return;
    if (n <= 0) {
        end_of_stream(c, n);
        return;
    }
    c->alive = cws_loop_now(loop);
    c->bytes_received += (uint64_t)n;
    if (n >= BULK)
        cws_loop_expect_bulk(loop);
    if (c->phase > CONN_CLOSING) {
        discard(c, (size_t)n);
        return;
    }
    if (place)
        cws_session_placed(&c->session, (size_t)n);
    else
        cws_session_feed(&c->session, at, (size_t)n);
    run_batch(c, false);
}

/* A sender who waits goes on: now, or in the next turn. */
static void tell_writable(struct cws_conn *c) {
    if (!c->want_send || !c->events)
        return;
    if (c->end || c->broken || cws_conn_can_send(c)) {
        c->want_send = false;
        c->events->writable(c, c->user);
    } else if (!c->blocked) {
        cws_conn_post(c);
    }
}

/* Among a thousand connections each is out of the cache when its turn comes:
 * its lines are fetched together, and its user's while the kernel reads. */
static void warm(const struct cws_conn *c) {
    uintptr_t at = (uintptr_t)c, user = (uintptr_t)c->user;
    for (size_t i = 0; i < sizeof *c; i += CACHE_LINE)
        __builtin_prefetch((const void *)(at + i));
    __builtin_prefetch((const void *)(user - CACHE_LINE));
    __builtin_prefetch((const void *)user);
    __builtin_prefetch((const void *)(user + CACHE_LINE));
}

static void on_io(struct ev_loop *ev, ev_io *io, int revents) {
    struct cws_conn *c = io->data;
    (void)ev;
    warm(c);
    bool nested = c->loop->running;
    c->loop->running = true;
    if (revents & EV_ERROR) /* libev gave the descriptor up */
        cws_conn_lost(c, "the system cannot watch the socket");
    if (revents & EV_WRITE && c->blocked) {
        cws_conn_write(c);
        tell_writable(c);
    }
    if (c->phase != CONN_CLOSED && (revents & EV_READ) && reading(c))
        read_some(c);
    c->loop->running = nested;
}

/* --- the job: everything that must not happen inside another call -------- */

void cws_conn_post(struct cws_conn *c) {
    cws_loop_post(c->loop, &c->work);
}

static void free_conn(struct cws_conn *c) {
    cws_job_cancel(&c->work);
    cws_job_cancel(&c->dirty);
    cws_link_remove(&c->link);
    cws_conn_free_input(c);
    cws_buf_free(&c->inbox);
    cws_outq_free(&c->out, c->loop);
    cws_options_drop(c->options);
    cws_conn_free_end(c);
    cws_conn_free_behind(c);
    cws_free(c->pong);
    c->loop->live--;
    cws_free(c);
}

/* Each callback may release the connection: events is looked at each time.
 * Between the end of a dial and cws_conn_set_user nobody is there to be told.
 */
static void tell(struct cws_conn *c) {
    if (!c->user)
        return;
    tell_writable(c); /* first: its reader may have to go on to see the end */
    if (!c->end)
        return;
    if (c->want && c->events) {
        c->want = false;
        c->events->readable(c, c->user);
    }
    if (!c->told_ended && c->events) {
        c->told_ended = true;
        c->events->ended(c, c->user);
    }
    if (c->phase == CONN_CLOSED && !c->told_closed && c->events) {
        c->told_closed = true;
        c->events->closed(c, c->user);
    }
}

static void run_work(struct cws_job *job) {
    struct cws_conn *c =
        (struct cws_conn *)(void *)((char *)job -
                                    offsetof(struct cws_conn, work));
    if (c->phase <= CONN_CLOSING && !c->paused && has_input(c)) {
        cws_session_feed(&c->session, cws_buf_bytes(&c->raw),
                         cws_buf_len(&c->raw));
        run_batch(c, true);
    } else if (c->broken && c->phase <= CONN_CLOSING && !c->paused) {
        read_some(c);
    }
    if (c->broken && c->phase <= CONN_CLOSING && !c->paused)
        cws_conn_post(c); /* until nothing is left to read */
    cws_conn_update_io(c);
    tell(c);
    if (c->released && c->phase == CONN_CLOSED)
        free_conn(c);
}

/* --- life ---------------------------------------------------------------- */

/* The whole of what can fail before the connection stands. */
static struct cws_conn *allocate(struct cws_loop *loop,
                                 const struct cws_conn_start *start,
                                 struct cws_deflate **deflate) {
    struct cws_conn *c = cws_calloc(sizeof *c);
    *deflate = NULL;
    if (!c)
        return NULL;
    if (start->deflate) {
        struct cws_deflate_config config = {*start->deflate, start->role,
                                            start->options->compression_level,
                                            start->options->compression_memory};
        *deflate = cws_deflate_new(&config, loop->deflate);
        if (!*deflate) {
            cws_free(c);
            return NULL;
        }
    }
    return c;
}

struct cws_conn *cws_conn_new(struct cws_loop *loop,
                              const struct cws_conn_start *start) {
    struct cws_deflate *deflate;
    struct cws_conn *c = allocate(loop, start, &deflate);
    if (!c) {
        struct cws_transport transport = start->transport;
        transport.ops->close(&transport, false);
        return NULL;
    }
    c->loop = loop;
    c->transport = start->transport;
    c->events = start->events;
    c->user = start->user;
    c->options = cws_options_keep(start->options);
    c->remote = start->remote;
    c->rtt = -1;
    c->alive = c->active = cws_loop_now(loop);
    c->work.run = run_work;
    c->dirty.run = cws_conn_run_dirty;
    cws_session_init(&c->session, start->role, &c->options->session, deflate);
    ev_io_init(&c->io, on_io, c->transport.fd, EV_READ);
    /* not a new descriptor: libev has watched it for the handshake */
    c->io.events = EV_READ;
    c->io.data = c;
    ev_init(&c->timer, cws_conn_on_timer);
    /* after a long pause what has arrived is seen before time is judged */
    ev_set_priority(&c->timer, EV_MINPRI);
    c->timer.data = c;
    loop->live++;
    cws_link_append(&loop->conns, &c->link);
    if (cws_buf_append(&c->raw, start->input, start->input_len) < 0 ||
        cws_outq_append(&c->out, loop, start->output, start->output_len) < 0) {
        cws_conn_release(c);
        return NULL;
    }
    c->listener = start->listener;
    if (c->out.bytes)
        cws_conn_mark_dirty(c);
    if (cws_buf_len(&c->raw))
        cws_conn_post(c);
    cws_conn_update_io(c);
    cws_conn_schedule(c);
    return c;
}

void cws_conn_release(struct cws_conn *c) {
    c->events = NULL;
    c->released = true;
    c->want = c->want_send = false;
    if (c->phase == CONN_OPEN)
        cws_conn_terminate(c);
    cws_buf_free(&c->inbox);
    c->inbox_count = 0;
    c->paused = false;
    cws_conn_post(c);
}

void cws_conn_abort(struct cws_conn *c) {
    c->events = NULL;
    cws_conn_flush(c);
    if (c->phase != CONN_CLOSED)
        cws_conn_close_transport(c, false);
    free_conn(c);
}

/* --- receiving ----------------------------------------------------------- */

int cws_conn_receive(struct cws_conn *c, struct cws_event *event) {
    struct cws_batch *batch = &c->loop->batch;
    if (c->inbox_count) {
        inbox_take(c, event);
        return CWS_ITEM;
    }
    if (c->inbox.cap)
        cws_buf_free(&c->inbox);
    if (c->held)
        cws_conn_release_held(c);
    if (batch->conn == c) {
        if (batch->held) {
            *event = *batch->held;
            batch->held = NULL;
            return CWS_ITEM;
        }
        if (!batch_over(c->loop) && pull(c, event) == CWS_ITEM) {
            batch_count(c->loop, event);
            return CWS_ITEM;
        }
    }
    return c->end ? CWS_ECLOSED : CWS_MORE;
}

void cws_conn_want(struct cws_conn *c, bool want) {
    c->want = want;
    if (want && c->end)
        cws_conn_post(c);
}

void cws_conn_stream(struct cws_conn *c) {
    cws_session_stream(&c->session);
    if (cws_session_pending(&c->session)) /* what came of it before */
        cws_conn_post(c);
}

/* --- other --------------------------------------------------------------- */

struct cws_conn *cws_conn_from_link(struct cws_link *link) {
    return (struct cws_conn *)(void *)((char *)link -
                                       offsetof(struct cws_conn, link));
}

struct cws_listener *cws_conn_listener(const struct cws_conn *c) {
    return c->listener;
}

void cws_conn_set_user(struct cws_conn *c, void *user) {
    c->user = user;
    if (user && c->end)
        cws_conn_post(c);
}

void *cws_conn_user(const struct cws_conn *c) {
    return c->user;
}

void cws_conn_watch(struct cws_conn *c, bool pings, bool pongs) {
    c->watch_pings = pings;
    c->watch_pongs = pongs;
}

void cws_conn_get_stats(const struct cws_conn *c, struct cws_conn_stats *out) {
    out->messages_received = c->messages_received;
    out->messages_sent = c->messages_sent;
    out->bytes_received = c->bytes_received;
    out->bytes_sent = c->bytes_sent;
    out->queued = c->out.bytes + (c->behind ? c->behind->bytes : 0);
    out->inbox = c->inbox_count ? inbox_bytes(c) : 0;
    out->rtt = (double)c->rtt;
}

void cws_conn_remote(const struct cws_conn *c, char out[CWS_ADDRESS_TEXT]) {
    cws_address_format(&c->remote, out);
}

void cws_conn_local(const struct cws_conn *c, char out[CWS_ADDRESS_TEXT]) {
    union cws_address local = {.sa = {.sa_family = AF_UNSPEC}};
    socklen_t size = sizeof local;
    if (c->transport.fd >= 0)
        (void)getsockname(c->transport.fd, &local.sa, &size);
    cws_address_format(&local, out);
}

const struct cws_options *cws_conn_options(const struct cws_conn *c) {
    return c->options;
}

struct cws_session *cws_conn_session(struct cws_conn *c) {
    return &c->session;
}
