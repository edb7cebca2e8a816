/*
 * stream.c - messages of any size in bounded memory: readers and writers.
 */
#include "conn.h"

#include <math.h>
#include <string.h>

#include "../proto/session.h"

#define LCWS_READER "cws.reader"
#define LCWS_WRITER "cws.writer"

/* A writer gathers small writes into frames of this size. */
#define FRAME_SIZE (16 * 1024)
/* reader:lines() and read("l") do not look further for the end of a line. */
#define LINE_MAX_BYTES (1024 * 1024)

/* User value 1 of both: the connection. */

/* --- reader --------------------------------------------------------------- */

struct reader {
    struct lcws_ws *ws;
    uint32_t serial;    /* of its message */
    bool last;          /* the last piece is in `buf` */
    struct cws_buf buf; /* received, not read yet */
};

static struct reader *check_reader(lua_State *L) {
    return luaL_checkudata(L, 1, LCWS_READER);
}

static int reader_gc(lua_State *L) {
    struct reader *r = lua_touserdata(L, 1);
    cws_buf_free(&r->buf);
    return 0;
}

static bool keep(struct reader *r, const struct cws_event *event) {
    r->last = event->type == CWS_EVENT_MESSAGE || event->fin;
    r->ws->reading = !r->last;
    return cws_buf_append(&r->buf, event->data, event->len) == 0;
}

/* The reader, its message and its type: from now on it reads. */
static int push_reader(lua_State *L, struct lcws_ws *ws, uint8_t opcode) {
    struct reader *r = lua_touserdata(L, 2);
    r->ws = ws;
    r->serial = ++ws->serial;
    lua_pushvalue(L, 2);
    lua_pushstring(L, opcode == CWS_OP_TEXT ? "text" : "binary");
    return 2;
}

/* The first piece of the next message; an unread rest is thrown away first.
 * 1 the connection, 2 the new reader, empty. */
static int open_attempt(lua_State *L, struct lcws *s) {
    struct lcws_ws *ws = lua_touserdata(L, 1);
    struct reader *r = lua_touserdata(L, 2);
    struct cws_event event;
    (void)s;
    if (!ws->conn)
        return lcws_ws_closed(L, ws);
    if (ws->reading && !lcws_ws_drain(ws))
        return -1;
    uint8_t opcode = lcws_ws_take_joined(ws, &r->buf);
    if (opcode) {
        ws->reading = true;
        return push_reader(L, ws, opcode);
    }
    cws_conn_stream(ws->conn);
    int result = cws_conn_receive(ws->conn, &event);
    if (result == CWS_MORE)
        return -1;
    if (result == CWS_ECLOSED)
        return lcws_ws_closed(L, ws);
    r->ws = ws;
    if (!keep(r, &event))
        return luaL_error(L, "not enough memory");
    return push_reader(L, ws, event.opcode);
}

static void open_arm(lua_State *L, struct lcws_wait *wait) {
    lcws_ws_arm_receive(lua_touserdata(L, 1), wait);
}

static void open_abandon(lua_State *L) {
    struct lcws_ws *ws = lua_touserdata(L, 1);
    if (ws->conn)
        cws_conn_want(ws->conn, false);
}

static const struct lcws_op open_op = {.name = "reader",
                                       .attempt = open_attempt,
                                       .arm = open_arm,
                                       .abandon = open_abandon};

static int ws_reader(lua_State *L) {
    struct lcws_ws *ws = lcws_ws_check(L);
    double timeout = lcws_check_timeout(L, 2, INFINITY);
    int busy = lcws_ws_receiver_busy(L, ws, "reader");
    if (busy)
        return busy;
    lua_settop(L, 1);
    struct reader *r = lua_newuserdatauv(L, sizeof *r, 1);
    memset(r, 0, sizeof *r);
    luaL_setmetatable(L, LCWS_READER);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, 2, 1);
    return lcws_perform(L, &open_op, timeout);
}

/* What read was asked for. */
enum want { WANT_SOME, WANT_COUNT, WANT_ALL, WANT_LINE, WANT_LINE_END };

static enum want check_want(lua_State *L, size_t *count) {
    *count = 0;
    if (lua_isnoneornil(L, 2))
        return WANT_SOME;
    if (lua_type(L, 2) == LUA_TNUMBER) {
        lua_Integer n = luaL_checkinteger(L, 2);
        luaL_argcheck(L, n >= 0, 2, "count of 0 or more expected");
        *count = (size_t)n;
        return WANT_COUNT;
    }
    const char *format = luaL_checkstring(L, 2);
    format += *format == '*'; /* as Lua's own read */
    switch (*format) {
    case 'a':
        return WANT_ALL;
    case 'l':
        return WANT_LINE;
    case 'L':
        return WANT_LINE_END;
    default:
        luaL_argerror(L, 2, "count, \"a\", \"l\" or \"L\" expected");
        return WANT_SOME;
    }
}

static int push_bytes(lua_State *L, struct reader *r, size_t n, size_t skip) {
    size_t len = cws_buf_len(&r->buf);
    lua_pushlstring(L, (const char *)cws_buf_bytes(&r->buf), n);
    if (cws_buf_len(&r->buf) == len) /* no finalizer has read from it */
        cws_buf_consume(&r->buf, n + skip);
    if (!cws_buf_len(&r->buf))
        cws_buf_free(&r->buf);
    return 1;
}

static int push_line(lua_State *L, struct reader *r, bool keep_end) {
    size_t len = cws_buf_len(&r->buf);
    const uint8_t *bytes = cws_buf_bytes(&r->buf);
    const uint8_t *end = len ? memchr(bytes, '\n', len) : NULL;
    if (end)
        return push_bytes(L, r, (size_t)(end - bytes) + keep_end, !keep_end);
    if (r->last && len)
        return push_bytes(L, r, len, 0);
    return len >= LINE_MAX_BYTES ? push_bytes(L, r, len, 0) : -1;
}

/* The results when the buffer holds enough, or -1. */
static int push_wanted(lua_State *L, struct reader *r) {
    size_t count, len = cws_buf_len(&r->buf);
    enum want want = check_want(L, &count);
    if (want == WANT_ALL && r->last) /* "" at the end, as Lua's own read */
        return push_bytes(L, r, len, 0);
    if (r->last && !len) {
        lua_pushnil(L);
        return 1;
    }
    if (want == WANT_SOME && len)
        return push_bytes(L, r, len, 0);
    if (want == WANT_COUNT && (len >= count || r->last))
        return push_bytes(L, r, len < count ? len : count, 0);
    if (want >= WANT_LINE)
        return push_line(L, r, want == WANT_LINE_END);
    return -1;
}

/* 1 the reader, 2 what is wanted. */
static int read_attempt(lua_State *L, struct lcws *s) {
    struct reader *r = lua_touserdata(L, 1);
    struct cws_event event;
    (void)s;
    for (;;) {
        int n = push_wanted(L, r);
        if (n > 0)
            return n;
        if (r->serial != r->ws->serial || !r->ws->reading)
            return lcws_fail(L, CWS_EUSAGE, 0,
                             "read: the rest of this message was thrown away "
                             "by a later receive");
        if (!r->ws->conn)
            return lcws_ws_closed(L, r->ws);
        int result = cws_conn_receive(r->ws->conn, &event);
        if (result == CWS_MORE)
            return -1;
        if (result == CWS_ECLOSED)
            return lcws_ws_closed(L, r->ws);
        if (!keep(r, &event))
            return luaL_error(L, "not enough memory");
    }
}

static void read_arm(lua_State *L, struct lcws_wait *wait) {
    struct reader *r = lua_touserdata(L, 1);
    lcws_ws_arm_receive(r->ws, wait);
}

static void read_abandon(lua_State *L) {
    struct reader *r = lua_touserdata(L, 1);
    if (r->ws->conn)
        cws_conn_want(r->ws->conn, false);
}

static const struct lcws_op read_op = {.name = "read",
                                       .attempt = read_attempt,
                                       .arm = read_arm,
                                       .abandon = read_abandon};

static int reader_read(lua_State *L) {
    struct reader *r = check_reader(L);
    size_t count;
    (void)check_want(L, &count);
    double timeout = lcws_check_timeout(L, 3, INFINITY);
    int busy = lcws_ws_receiver_busy(L, r->ws, "read");
    if (busy)
        return busy;
    lua_settop(L, 2);
    return lcws_perform(L, &read_op, timeout);
}

/* The iterator of lines: upvalue 1 the reader, 2 the format. */
static int next_line(lua_State *L) {
    lua_settop(L, 0);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, lua_upvalueindex(2));
    return reader_read(L);
}

static int reader_lines(lua_State *L) {
    size_t count;
    (void)check_reader(L);
    (void)check_want(L, &count);
    lua_settop(L, 2);
    if (lua_isnil(L, 2)) {
        lua_pushliteral(L, "l");
        lua_replace(L, 2);
    }
    lua_pushcclosure(L, next_line, 2);
    return 1;
}

/* --- writer --------------------------------------------------------------- */

struct ws_writer {
    struct lcws_ws *ws;            /* NULL: closed */
    const struct lcws_task *owner; /* opened it; NULL: the main program */
    struct cws_buf buf;            /* gathered, not sent yet */
    struct cws_utf8 utf8;
    uint8_t opcode; /* of the next frame */
    bool text;
    int flags;
    double timeout;
};

static struct ws_writer *check_writer(lua_State *L) {
    return luaL_checkudata(L, 1, LCWS_WRITER);
}

bool lcws_ws_writer_own(const struct ws_writer *w) {
    return w->owner == w->ws->s->current;
}

static void let_go(struct ws_writer *w) {
    struct lcws_ws *ws = w->ws;
    w->ws = NULL;
    cws_buf_free(&w->buf);
    if (!ws)
        return;
    ws->writer = NULL;
    lcws_ws_writer_closed(ws);
}

/* A message that nobody will end must not look whole to the peer. */
void lcws_ws_writer_lost(struct ws_writer *w) {
    struct cws_conn *conn = w->ws ? w->ws->conn : NULL;
    let_go(w);
    if (conn)
        cws_conn_fail(conn, CWS_CLOSE_INTERNAL_ERROR, "writer was not closed");
}

static int writer_gc(lua_State *L) {
    struct ws_writer *w = lua_touserdata(L, 1);
    if (w->ws && lcws_own_loop(w->ws->s))
        lcws_ws_writer_lost(w);
    else
        let_go(w);
    return 0;
}

/* 1 the connection, 2 the new writer: waits until it is the only one. */
static int opened_attempt(lua_State *L, struct lcws *s) {
    struct lcws_ws *ws = lua_touserdata(L, 1);
    struct ws_writer *w = lua_touserdata(L, 2);
    if (!ws->conn || !cws_conn_open(ws->conn))
        return lcws_ws_closed(L, ws);
    if (ws->writer && lcws_ws_writer_own(ws->writer))
        return lcws_ws_send_failed(L, ws, CWS_EUSAGE, "writer");
    if (ws->writer)
        return -1;
    w->ws = ws;
    w->owner = s->current;
    ws->writer = w;
    lua_pushvalue(L, 2);
    return 1;
}

static void opened_arm(lua_State *L, struct lcws_wait *wait) {
    lcws_ws_arm_behind(lua_touserdata(L, 1), wait);
}

static const struct lcws_op opened_op = {
    .name = "writer", .attempt = opened_attempt, .arm = opened_arm};

static int ws_open_writer(lua_State *L) {
    struct lcws_ws *ws = lcws_ws_check(L);
    struct ws_how how;
    lcws_ws_check_how(L, 2, ws, &how);
    lua_settop(L, 1);
    struct ws_writer *w = lua_newuserdatauv(L, sizeof *w, 1);
    memset(w, 0, sizeof *w);
    luaL_setmetatable(L, LCWS_WRITER);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, 2, 1);
    w->opcode = how.opcode;
    w->text = how.opcode == CWS_OP_TEXT;
    w->flags = how.flags;
    w->timeout = how.timeout;
    return lcws_perform(L, &opened_op, how.timeout);
}

static int send_frame(struct ws_writer *w, const void *data, size_t len,
                      bool fin) {
    int err = cws_conn_send(w->ws->conn, w->opcode,
                            w->flags | (fin ? CWS_CONN_FIN : 0), data, len);
    if (err == 0)
        w->opcode = CWS_OP_CONTINUATION;
    return err;
}

static int send_gathered(struct ws_writer *w, bool fin) {
    int err = send_frame(w, cws_buf_bytes(&w->buf), cws_buf_len(&w->buf), fin);
    cws_buf_clear(&w->buf);
    return err;
}

static int write_bytes(struct ws_writer *w, const char *data, size_t len) {
    size_t have = cws_buf_len(&w->buf);
    if (len < FRAME_SIZE - have)
        return cws_buf_append(&w->buf, data, len);
    int err = have ? send_gathered(w, false) : 0;
    if (err < 0 || len < FRAME_SIZE)
        return err < 0 ? err : cws_buf_append(&w->buf, data, len);
    return send_frame(w, data, len, false);
}

static int writer_failed(lua_State *L, struct ws_writer *w, int err,
                         const char *what) {
    struct lcws_ws *ws = w->ws;
    if (err == CWS_EMEMORY && w->opcode == CWS_OP_CONTINUATION)
        lcws_ws_writer_lost(w); /* a part of its message is */
    else
        let_go(w);
    return lcws_ws_send_failed(L, ws, err, what);
}

/* Whether text may go on with the strings at index 2 and behind. */
static bool goes_on(lua_State *L, const struct ws_writer *w,
                    struct cws_utf8 *utf8) {
    *utf8 = w->utf8;
    for (int i = 2; i <= lua_gettop(L) && w->text; i++) {
        size_t len;
        const char *data = lua_tolstring(L, i, &len);
        if (!cws_utf8_feed(utf8, (const uint8_t *)data, len))
            return false;
    }
    return true;
}

/* 1 the writer, then strings: waits for its turn, then takes all of them. Only
 * now it is known what stands before them: others may have written meanwhile,
 * and what was given up is as if it had never been. */
static int write_attempt(lua_State *L, struct lcws *s) {
    struct ws_writer *w = lua_touserdata(L, 1);
    struct lcws_ws *ws = w->ws;
    struct cws_utf8 utf8;
    (void)s;
    if (!ws)
        return lcws_fail(L, CWS_EUSAGE, 0, "write: the writer is closed");
    if (!ws->conn || cws_conn_ending(ws->conn, NULL))
        return writer_failed(L, w, CWS_ECLOSED, "write");
    if (!lcws_ws_may_send(ws))
        return -1;
    if (!goes_on(L, w, &utf8))
        return lcws_fail(L, CWS_EUSAGE, 0, "write: text is not valid UTF-8");
    w->utf8 = utf8;
    for (int i = 2; i <= lua_gettop(L); i++) {
        size_t len;
        const char *data = lua_tolstring(L, i, &len);
        int err = write_bytes(w, data, len);
        if (err < 0)
            return writer_failed(L, w, err, "write");
    }
    lua_settop(L, 1);
    return 1;
}

static void write_arm(lua_State *L, struct lcws_wait *wait) {
    struct ws_writer *w = lua_touserdata(L, 1);
    lcws_ws_arm_send(w->ws, wait);
}

static const struct lcws_op write_op = {
    .name = "write", .attempt = write_attempt, .arm = write_arm};

static int writer_write(lua_State *L) {
    struct ws_writer *w = check_writer(L);
    for (int i = 2; i <= lua_gettop(L); i++)
        (void)luaL_checkstring(L, i); /* numbers become strings */
    return lcws_perform(L, &write_op, w->timeout);
}

/* Ends the message with what was gathered. */
static int finish(lua_State *L, struct ws_writer *w) {
    struct lcws_ws *ws = w->ws;
    if (w->text && !cws_utf8_complete(&w->utf8)) {
        lcws_ws_writer_lost(w);
        return lcws_fail(L, CWS_EUSAGE, 0,
                         "close: the text ends inside a UTF-8 character");
    }
    int err = send_gathered(w, true);
    let_go(w);
    if (err < 0)
        return lcws_ws_send_failed(L, ws, err, "close");
    lua_pushboolean(L, 1);
    return 1;
}

static int finish_attempt(lua_State *L, struct lcws *s) {
    struct ws_writer *w = lua_touserdata(L, 1);
    struct lcws_ws *ws = w->ws;
    (void)s;
    if (!ws)
        return lcws_fail(L, CWS_EUSAGE, 0, "close: the writer is closed");
    if (!ws->conn || cws_conn_ending(ws->conn, NULL))
        return writer_failed(L, w, CWS_ECLOSED, "close");
    return lcws_ws_may_send(ws) ? finish(L, w) : -1;
}

static const struct lcws_op finish_op = {
    .name = "close", .attempt = finish_attempt, .arm = write_arm};

static int writer_close(lua_State *L) {
    struct ws_writer *w = check_writer(L);
    double timeout = lcws_check_timeout(L, 2, w->timeout);
    lua_settop(L, 1);
    return lcws_perform(L, &finish_op, timeout);
}

/* Never waits. With an error the connection fails with 1011: half a message
 * must not look whole. */
static int writer_close_variable(lua_State *L) {
    struct ws_writer *w = lua_touserdata(L, 1);
    if (!w->ws || !lcws_own_loop(w->ws->s))
        return 0;
    if (!lua_isnoneornil(L, 2))
        lcws_ws_writer_lost(w);
    else if (!w->ws->conn || cws_conn_ending(w->ws->conn, NULL))
        let_go(w);
    else
        (void)finish(L, w);
    return 0;
}

/* --- opening -------------------------------------------------------------- */

void lcws_open_stream(lua_State *L) {
    static const luaL_Reg reader_methods[] = {
        {"read", reader_read}, {"lines", reader_lines}, {NULL, NULL}};
    static const luaL_Reg reader_meta[] = {{"__gc", reader_gc}, {NULL, NULL}};
    static const luaL_Reg writer_methods[] = {
        {"write", writer_write}, {"close", writer_close}, {NULL, NULL}};
    static const luaL_Reg writer_meta[] = {
        {"__gc", writer_gc}, {"__close", writer_close_variable}, {NULL, NULL}};
    static const luaL_Reg methods[] = {
        {"reader", ws_reader}, {"writer", ws_open_writer}, {NULL, NULL}};
    lcws_new_class(L, LCWS_READER, reader_methods, reader_meta);
    lcws_new_class(L, LCWS_WRITER, writer_methods, writer_meta);
    luaL_setfuncs(L, methods, 0);
}
