/*
 * conn_end.c - how a connection ends, and what it does as time passes.
 *
 * The end for the program (cws_conn_end) comes when it is decided; the end of
 * the socket comes later, so that a peer that still sends can read our close
 * frame (RFC 6455 7.1.1: data unread at close() makes the kernel send a reset
 * that would destroy it).
 */
#include "conn_private.h"

#include <math.h>
#include <string.h>

#include "listener.h"

#define DRAIN_TIME 1.0 /* seconds that a server waits for the peer's end */
#define HOLD_TIME 1.0  /* and that an end waits for a program that is busy */

static void enter(struct cws_conn *c, enum conn_phase phase, double seconds) {
    c->phase = (uint8_t)phase;
    cws_loop_update(c->loop);
    c->deadline = cws_loop_now(c->loop) + seconds;
    cws_conn_schedule(c);
}

/* --- deciding ------------------------------------------------------------ */

/* The end of those for whom there is no memory left to say more. */
static struct conn_end no_memory = {CWS_CLOSE_ABNORMAL, false, 13,
                                    "out of memory"};

void cws_conn_free_end(struct cws_conn *c) {
    if (c->end != &no_memory)
        cws_free(c->end);
    cws_free(c->held);
}

static struct conn_end *new_end(uint16_t code, bool clean, const void *text,
                                size_t len) {
    struct conn_end *end = cws_calloc(sizeof *end);
    if (!end)
        return NULL;
    if (len > CWS_FRAME_CONTROL_MAX)
        len = CWS_FRAME_CONTROL_MAX;
    end->code = code;
    end->clean = clean;
    end->len = (uint8_t)len;
    if (len)
        memcpy(end->text, text, len);
    return end;
}

void cws_conn_end(struct cws_conn *c, uint16_t code, bool clean,
                  const void *text, size_t len) {
    if (c->end)
        return;
    c->end = new_end(code, clean, text, len);
    if (!c->end)
        c->end = &no_memory;
    cws_free(c->held); /* another end came first */
    c->held = NULL;
    cws_conn_post(c);
}

void cws_conn_close_transport(struct cws_conn *c, bool abort) {
    if (c->phase == CONN_CLOSED)
        return;
    c->phase = CONN_CLOSED;
    ev_io_stop(c->loop->ev, &c->io);
    ev_timer_stop(c->loop->ev, &c->timer);
    c->transport.ops->close(&c->transport, abort);
    c->blocked = false;
    cws_outq_free(&c->out, c->loop);
    cws_conn_free_behind(c);
    if (c->loop->batch.conn != c) /* else at the end of the batch */
        cws_conn_free_input(c);
    if (c->listener)
        cws_listener_leave(c->listener);
    c->listener = NULL;
    cws_conn_post(c);
}

/* The connection is gone; a close frame of the peer's that waits counts. */
void cws_conn_lost(struct cws_conn *c, const char *cause) {
    struct conn_end *held = c->held;
    c->held = NULL;
    if (held)
        cws_conn_end(c, held->code, held->clean, held->text, held->len);
    cws_free(held);
    cws_conn_end(c, CWS_CLOSE_ABNORMAL, false, cause, strlen(cause));
    cws_conn_close_transport(c, false);
}

/* --- the closing handshake ----------------------------------------------- */

static void start_flushing(struct cws_conn *c) {
    enter(c, CONN_FLUSHING, c->options->close_timeout);
    cws_buf_clear(&c->raw);
    if (c->out.bytes)
        cws_conn_mark_dirty(c);
    else
        cws_conn_flushed(c);
}

void cws_conn_flushed(struct cws_conn *c) {
    if (c->session.role == CWS_SERVER) {
        c->transport.ops->shutdown(&c->transport);
        enter(c, CONN_DRAINING, DRAIN_TIME);
    } else { /* the server closes first: no TIME_WAIT for it to keep */
        enter(c, CONN_DRAINING, c->options->close_timeout);
    }
    cws_conn_update_io(c);
}

/* The program has not seen all messages that came before: it can answer them
 * until it has, for a time (5.5.1: "An endpoint MAY delay sending a Close frame
 * until its current message is sent"). */
static bool hold(struct cws_conn *c, const struct cws_event *event) {
    if (!c->inbox_count || !c->events || c->phase != CONN_OPEN || c->broken)
        return false;
    bool clean = event->type == CWS_EVENT_CLOSE;
    c->held = new_end(event->code, clean, event->data, event->len);
    if (!c->held)
        return false;
    enter(c, CONN_OPEN, HOLD_TIME);
    return true;
}

static void take_close(struct cws_conn *c, const struct cws_event *event) {
    cws_conn_answer(c, event);
    cws_conn_end(c, event->code, event->type == CWS_EVENT_CLOSE, event->data,
                 event->len);
    if (c->phase != CONN_CLOSED) /* there was memory for the answer */
        start_flushing(c);
}

void cws_conn_got_close(struct cws_conn *c, const struct cws_event *event) {
    if (!hold(c, event))
        take_close(c, event);
}

void cws_conn_release_held(struct cws_conn *c) {
    struct conn_end *held = c->held;
    if (!held)
        return;
    c->held = NULL;
    struct cws_event event = {.type = held->clean ? CWS_EVENT_CLOSE
                                                  : CWS_EVENT_FAIL,
                              .code = held->code,
                              .data = (const uint8_t *)held->text,
                              .len = held->len};
    take_close(c, &event);
    cws_free(held);
}

/* Queues our close frame. */
static void say_close(struct cws_conn *c, uint16_t code, const char *reason,
                      size_t len) {
    uint8_t frame[CWS_SESSION_CONTROL_MAX];
    cws_conn_release_pong(c);
    int n = cws_session_close(&c->session, code, reason, len, frame);
    if (n < 0 || cws_conn_queue(c, frame, (size_t)n) < 0)
        cws_conn_lost(c, n < 0 ? "no randomness for a masking key"
                               : "out of memory");
}

int cws_conn_close(struct cws_conn *c, uint16_t code, const char *reason,
                   size_t len) {
    cws_conn_release_held(c);
    if (c->phase != CONN_OPEN)
        return CWS_ECLOSED;
    say_close(c, code, reason, len);
    if (c->phase == CONN_CLOSED)
        return 0;
    enter(c, CONN_CLOSING, c->options->close_timeout);
    c->paused = false;
    if (cws_buf_len(&c->raw))
        cws_conn_post(c);
    cws_conn_mark_dirty(c);
    cws_conn_update_io(c);
    return 0;
}

void cws_conn_fail(struct cws_conn *c, uint16_t code, const char *why) {
    if (c->phase >= CONN_FLUSHING)
        return;
    cws_conn_end(c, code, false, why, strlen(why));
    cws_session_fail(&c->session);
    say_close(c, code, why, strlen(why));
    if (c->phase != CONN_CLOSED)
        start_flushing(c);
}

void cws_conn_terminate(struct cws_conn *c) {
    if (c->phase == CONN_CLOSED)
        return;
    if (c->out.bytes && !c->blocked)
        cws_conn_write(c);
    cws_conn_lost(c, "connection terminated");
}

bool cws_conn_ending(const struct cws_conn *c, struct cws_conn_ending *ending) {
    if (c->end && ending) {
        ending->code = c->end->code;
        ending->clean = c->end->clean;
        ending->text = c->end->text;
        ending->len = c->end->len;
    }
    return c->end != NULL;
}

bool cws_conn_closed(const struct cws_conn *c) {
    return c->phase == CONN_CLOSED;
}

bool cws_conn_open(const struct cws_conn *c) {
    return c->phase == CONN_OPEN;
}

const char *cws_conn_state(const struct cws_conn *c) {
    if (c->phase == CONN_OPEN)
        return "open";
    return c->phase == CONN_CLOSED ? "closed" : "closing";
}

/* --- time ---------------------------------------------------------------- */

/* When the last message passed, or a part of one. Not reading is no idleness of
 * the peer's. */
static double busy_until(const struct cws_conn *c) {
    if (c->paused)
        return cws_loop_now(c->loop);
    bool passing = c->blocked || cws_session_partial(&c->session);
    return passing && c->alive > c->active ? c->alive : c->active;
}

/* When something has to be looked at next, as things stand now. Nothing
 * re-arms the timer as messages pass: it looks when it fires. */
static double next_look(const struct cws_conn *c) {
    const struct cws_options *o = c->options;
    if (c->phase != CONN_OPEN || c->held)
        return c->deadline;
    double at = c->alive + o->ping_interval;
    if (c->ping_at > 0)
        at = c->ping_at + o->pong_timeout;
    else if (c->ping_mark) /* stuck behind bytes that do not drain */
        at += o->pong_timeout;
    if (c->paused) /* the pong timer stands still */
        at = cws_loop_now(c->loop) + o->ping_interval;
    double idle = busy_until(c) + o->idle_timeout;
    return idle < at ? idle : at;
}

void cws_conn_schedule(struct cws_conn *c) {
    double at = next_look(c);
    ev_timer_stop(c->loop->ev, &c->timer);
    if (!isfinite(at))
        return;
    double after = at - cws_loop_now(c->loop);
    ev_timer_set(&c->timer, after > 0 ? after : 0., 0.);
    ev_timer_start(c->loop->ev, &c->timer);
}

static void keepalive_ping(struct cws_conn *c) {
    uint8_t data[4];
    c->ping_id++;
    memcpy(data, &c->ping_id, sizeof data);
    /* With a full queue nothing is lost: bytes that drain are a sign of life
     * too, and bytes that do not drain end at the next look. */
    if (cws_conn_control(c, CWS_OP_PING, data, sizeof data) < 0)
        c->ping_at = cws_loop_now(c->loop);
}

void cws_conn_got_pong(struct cws_conn *c, const struct cws_event *event) {
    (void)event;
    if (c->ping_at <= 0)
        return;
    c->rtt = (float)(cws_loop_now(c->loop) - c->ping_at);
    c->ping_at = 0;
    cws_conn_schedule(c); /* the next ping, which may be due before the pong */
}

static void on_time_open(struct cws_conn *c, double now) {
    const struct cws_options *o = c->options;
    if (now >= busy_until(c) + o->idle_timeout) {
        cws_conn_lost(c, "idle timeout");
        return;
    }
    if (c->ping_at > 0 && c->alive > c->ping_at)
        c->ping_at = 0; /* any byte is a sign of life */
    if (c->paused) {
        if (c->ping_at > 0)
            c->ping_at = now;
    } else if ((c->ping_at > 0 || c->ping_mark) && now >= next_look(c)) {
        cws_conn_lost(c, "ping timeout");
        return;
    } else if (now >= next_look(c)) {
        keepalive_ping(c);
    }
    cws_conn_schedule(c);
}

void cws_conn_on_timer(struct ev_loop *ev, ev_timer *timer, int revents) {
    struct cws_conn *c = timer->data;
    (void)ev, (void)revents;
    bool nested = c->loop->running;
    c->loop->running = true;
    double now = cws_loop_now(c->loop);
    if (c->held && now >= c->deadline)
        cws_conn_release_held(c);
    else if (c->phase == CONN_OPEN && !c->held)
        on_time_open(c, now);
    else if (now >= c->deadline && !c->end)
        cws_conn_lost(c, "close timeout");
    else if (now >= c->deadline)
        cws_conn_close_transport(c, false);
    else
        cws_conn_schedule(c);
    c->loop->running = nested;
}
