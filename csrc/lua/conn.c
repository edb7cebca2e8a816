/*
 * conn.c - an open WebSocket in Lua: receive, send, close and what can be
 * asked about it. Callbacks of layer 2 come in, waiting coroutines go on.
 */
#include "conn.h"

#include <math.h>
#include <string.h>

#include "../proto/session.h"

/* Pieces of a message for which a reader had asked and then gave up. */
struct ws_joined {
    struct cws_buf buf;
};

/* --- the userdata --------------------------------------------------------- */

struct lcws_ws *lcws_ws_check(lua_State *L) {
    struct lcws_ws *ws = lua_touserdata(L, 1);
    if (ws && lua_getmetatable(L, 1)) {
        bool same = lua_rawequal(L, -1, WS_META);
        lua_pop(L, 1);
        if (same)
            return ws;
    }
    return luaL_checkudata(L, 1, LCWS_WS);
}

struct lcws_ws *lcws_ws_new(lua_State *L, struct lcws *s) {
    struct lcws_ws *ws = lua_newuserdatauv(L, sizeof *ws, 2);
    memset(ws, 0, sizeof *ws);
    ws->s = s;
    cws_link_init(&ws->receivers);
    cws_link_init(&ws->senders);
    cws_link_init(&ws->closers);
    luaL_setmetatable(L, LCWS_WS);
    return ws;
}

void lcws_ws_set(lua_State *L, int index, struct lcws_ws *ws,
                 struct cws_conn *conn, struct cws_span protocol) {
    index = lua_absindex(L, index);
    ws->conn = conn;
    cws_conn_set_user(conn, ws);
    if (!protocol.len)
        return;
    lua_pushlstring(L, protocol.data, protocol.len);
    lua_setiuservalue(L, index, WS_PROTOCOL);
}

void lcws_ws_handler_ended(struct lcws_ws *ws, enum lcws_task_result result) {
    if (!ws->conn)
        return;
    if (result == LCWS_TASK_ERROR)
        cws_conn_fail(ws->conn, CWS_CLOSE_INTERNAL_ERROR, "handler failed");
    else if (ws->writer)
        lcws_ws_writer_lost(ws->writer);
    else
        (void)cws_conn_close(ws->conn, CWS_CLOSE_NORMAL, NULL, 0);
}

static void free_joined(struct lcws_ws *ws) {
    if (ws->joined)
        cws_buf_free(&ws->joined->buf);
    cws_free(ws->joined);
    ws->joined = NULL;
}

/* A client that nobody holds goes away (RFC 6455 7.4.1: 1001); what is queued
 * still leaves, bounded by close_timeout. */
static int ws_gc(lua_State *L) {
    struct lcws_ws *ws = lua_touserdata(L, 1);
    struct cws_conn *conn = ws->conn;
    free_joined(ws);
    if (conn && ws->s->loop) {
        (void)cws_conn_close(conn, CWS_CLOSE_GOING_AWAY, NULL, 0);
        cws_conn_set_user(conn, NULL);
        cws_conn_release(conn); /* freed in a later turn */
        lcws_wake_all(&ws->receivers);
        lcws_wake_all(&ws->senders);
        lcws_wake_all(&ws->closers);
        lcws_ws_tell_rest(L, ws);
    }
    ws->conn = NULL;
    lcws_ws_free_calls(ws);
    return 0;
}

/* Never waits: it cannot yield while a coroutine is reset after an error. */
static int ws_close_variable(lua_State *L) {
    struct lcws_ws *ws = lua_touserdata(L, 1);
    bool raised = !lua_isnoneornil(L, 2);
    lcws_ws_handler_ended(ws, raised ? LCWS_TASK_ERROR : LCWS_TASK_OK);
    return 0;
}

static int ws_tostring(lua_State *L) {
    struct lcws_ws *ws = lcws_ws_check(L);
    char peer[CWS_ADDRESS_TEXT] = "?";
    if (ws->conn)
        cws_conn_remote(ws->conn, peer);
    lua_pushfstring(L, "cws.ws: %s (%s)", peer,
                    ws->conn ? cws_conn_state(ws->conn) : "closed");
    return 1;
}

/* --- the end -------------------------------------------------------------- */

/* gorilla's text: "websocket: close 1000 (normal): reason". */
static void push_close_text(lua_State *L,
                            const struct cws_conn_ending *ending) {
    char reason[4 * CWS_FRAME_CONTROL_MAX + 1];
    size_t len = ending->len;
    const char *name = cws_close_text(ending->code);
    if (ending->clean && len > 40) /* the peer's words */
        len = 40;
    cws_escape(reason, sizeof reason, ending->text, len, true);
    lua_pushfstring(L, "websocket: close %d", (int)ending->code);
    if (name)
        lua_pushfstring(L, " (%s)", name);
    if (len)
        lua_pushfstring(L, ": %s", reason);
    lua_concat(L, 1 + (name != NULL) + (len != 0));
}

int lcws_ws_closed(lua_State *L, const struct lcws_ws *ws) {
    struct cws_conn_ending ending;
    luaL_checkstack(L, 8, NULL);
    lua_pushnil(L);
    if (!ws->conn || !cws_conn_ending(ws->conn, &ending)) {
        lua_pushliteral(L, "websocket: close sent");
        lua_pushliteral(L, "closed");
        return 3;
    }
    push_close_text(L, &ending);
    lua_pushliteral(L, "closed");
    lua_pushinteger(L, ending.code);
    return 4;
}

static bool ended(const struct lcws_ws *ws) {
    return !ws->conn || cws_conn_ending(ws->conn, NULL);
}

/* --- receiving ------------------------------------------------------------ */

int lcws_ws_receiver_busy(lua_State *L, const struct lcws_ws *ws,
                          const char *what) {
    if (cws_link_empty(&ws->receivers))
        return 0;
    return lcws_fail(L, CWS_EBUSY, 0,
                     "%s: another coroutine receives on this connection", what);
}

void lcws_ws_arm_receive(struct lcws_ws *ws, struct lcws_wait *wait) {
    cws_link_append(&ws->receivers, &wait->link);
    cws_conn_want(ws->conn, true);
}

static void abandon_receive(lua_State *L) {
    struct lcws_ws *ws = lua_touserdata(L, 1);
    if (ws->conn)
        cws_conn_want(ws->conn, false);
}

bool lcws_ws_drain(struct lcws_ws *ws) {
    struct cws_event event;
    while (ws->reading) {
        int result = cws_conn_receive(ws->conn, &event);
        if (result == CWS_MORE)
            return false;
        ws->reading = result == CWS_ITEM && !event.fin;
    }
    return true;
}

static int push_message(lua_State *L, const uint8_t *data, size_t len,
                        uint8_t opcode) {
    lua_pushlstring(L, (const char *)data, len);
    lua_pushvalue(L, opcode == CWS_OP_TEXT ? WS_TEXT : WS_BINARY);
    return 2;
}

/* A reader asked for this message and gave up before its first piece. */
static int join_piece(lua_State *L, struct lcws_ws *ws,
                      const struct cws_event *event) {
    if (!ws->joined)
        ws->joined = cws_calloc(sizeof *ws->joined);
    if (!ws->joined ||
        cws_buf_append(&ws->joined->buf, event->data, event->len) < 0)
        return luaL_error(L, "not enough memory");
    if (!event->fin)
        return -1;
    struct cws_buf *buf = &ws->joined->buf;
    int n =
        push_message(L, cws_buf_bytes(buf), cws_buf_len(buf), event->opcode);
    free_joined(ws);
    return n;
}

static int receive_attempt(lua_State *L, struct lcws *s) {
    struct lcws_ws *ws = lua_touserdata(L, 1);
    struct cws_event event;
    (void)s;
    if (!ws->conn)
        return lcws_ws_closed(L, ws);
    if (ws->reading && !lcws_ws_drain(ws))
        return -1;
    int result;
    while ((result = cws_conn_receive(ws->conn, &event)) == CWS_ITEM) {
        if (event.type == CWS_EVENT_MESSAGE)
            return push_message(L, event.data, event.len, event.opcode);
        int n = join_piece(L, ws, &event);
        if (n > 0)
            return n;
    }
    return result == CWS_MORE ? -1 : lcws_ws_closed(L, ws);
}

static void receive_arm(lua_State *L, struct lcws_wait *wait) {
    lcws_ws_arm_receive(lua_touserdata(L, 1), wait);
}

static const struct lcws_op receive_op = {.name = "receive",
                                          .attempt = receive_attempt,
                                          .arm = receive_arm,
                                          .abandon = abandon_receive};

static int ws_receive(lua_State *L) {
    struct lcws_ws *ws = lcws_ws_check(L);
    double timeout = lcws_check_timeout(L, 2, INFINITY);
    int busy = lcws_ws_receiver_busy(L, ws, "receive");
    return busy ? busy : lcws_perform(L, &receive_op, timeout);
}

/* receive for a generic for, which passes its control variable. */
static int ws_next(lua_State *L) {
    lua_settop(L, 1);
    return ws_receive(L);
}

/* `for message, type in ws:each()`: no Lua function between. */
static int ws_each(lua_State *L) {
    (void)lcws_ws_check(L);
    lua_settop(L, 1);
    lua_pushvalue(L, WS_META);
    lua_pushvalue(L, WS_TEXT);
    lua_pushvalue(L, WS_BINARY);
    lua_pushcclosure(L, ws_next, WS_UPVALUES);
    lua_insert(L, 1);
    return 2;
}

/* --- sending -------------------------------------------------------------- */

int lcws_ws_send_failed(lua_State *L, const struct lcws_ws *ws, int err,
                        const char *what) {
    switch (err) {
    case CWS_ECLOSED:
        return lcws_ws_closed(L, ws);
    case CWS_EBUSY:
        return lcws_fail(L, err, 0, "%s: the queue of unsent bytes is full",
                         what);
    case CWS_ELIMIT:
        return lcws_fail(L, err, 0, "%s: longer than max_queue", what);
    case CWS_EUSAGE:
        return lcws_fail(L, CWS_EBUSY, 0,
                         "%s: a writer is open on this connection", what);
    case CWS_EMEMORY:
        return lcws_fail(L, err, 0, "%s: out of memory", what);
    default:
        return lcws_fail(L, CWS_EINTERNAL, 0,
                         "%s: no randomness for a masking key", what);
    }
}

void lcws_ws_arm_send(struct lcws_ws *ws, struct lcws_wait *wait) {
    cws_link_append(&ws->senders, &wait->link);
    cws_conn_want_send(ws->conn, true);
}

bool lcws_ws_may_send(struct lcws_ws *ws) {
    bool first = ws->turn || cws_link_empty(&ws->senders);
    ws->turn = false;
    return first && cws_conn_can_send(ws->conn);
}

static void check_how_table(lua_State *L, int arg, struct ws_how *how) {
    static const char *const keys[] = {"type", "compress", "timeout"};
    lua_pushnil(L);
    while (lua_next(L, arg)) {
        const char *key =
            lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
        if (strcmp(key, keys[0]) == 0)
            how->opcode = lcws_check_type(L, lua_gettop(L));
        else if (strcmp(key, keys[1]) == 0 && lua_isboolean(L, -1))
            how->flags = lua_toboolean(L, -1) ? CWS_CONN_COMPRESS : 0;
        else if (strcmp(key, keys[2]) == 0)
            how->timeout = lcws_check_timeout(L, lua_gettop(L), how->timeout);
        else
            luaL_error(L,
                       "bad option '%s' to 'send' (type, compress (boolean) "
                       "and timeout are allowed)",
                       key);
        lua_pop(L, 1);
    }
}

void lcws_ws_check_how(lua_State *L, int arg, const struct lcws_ws *ws,
                       struct ws_how *how) {
    how->flags = CWS_CONN_COMPRESS;
    how->timeout =
        ws->conn ? cws_conn_options(ws->conn)->send_timeout : INFINITY;
    if (lua_type(L, arg) == LUA_TTABLE) {
        how->opcode = CWS_OP_TEXT;
        check_how_table(L, arg, how);
    } else {
        how->opcode = lcws_check_type(L, arg);
    }
    how->timeout = lcws_check_timeout(L, arg + 1, how->timeout);
}

/* 1 the connection, 2 the message or a prepared one, 3 opcode and flags. */
static int send_attempt(lua_State *L, struct lcws *s) {
    struct lcws_ws *ws = lua_touserdata(L, 1);
    int how = (int)lua_tointeger(L, 3), err;
    size_t len;
    (void)s;
    if (ended(ws))
        return lcws_ws_closed(L, ws);
    if (ws->writer)
        return lcws_ws_send_failed(L, ws, CWS_EUSAGE, "send");
    if (!lcws_ws_may_send(ws))
        return -1;
    const char *data = lua_tolstring(L, 2, &len);
    if (data)
        err = cws_conn_send(ws->conn, (uint8_t)(how & 0xF),
                            how >> 4 | CWS_CONN_FIN, data, len);
    else
        err = cws_conn_send_prepared(ws->conn, lcws_test_prepared(L, 2),
                                     how >> 4, false);
    if (err < 0)
        return lcws_ws_send_failed(L, ws, err, "send");
    lua_pushboolean(L, 1);
    return 1;
}

static void send_arm(lua_State *L, struct lcws_wait *wait) {
    lcws_ws_arm_send(lua_touserdata(L, 1), wait);
}

static const struct lcws_op send_op = {
    .name = "send", .attempt = send_attempt, .arm = send_arm};

static int ws_send(lua_State *L) {
    struct lcws_ws *ws = lcws_ws_check(L);
    struct ws_how how = {0};
    size_t len;
    if (lua_type(L, 2) == LUA_TSTRING) {
        lcws_ws_check_how(L, 3, ws, &how);
        const char *data = lua_tolstring(L, 2, &len);
        if (how.opcode == CWS_OP_TEXT &&
            !cws_utf8_valid((const uint8_t *)data, len))
            return lcws_fail(L, CWS_EUSAGE, 0,
                             "send: text is not valid UTF-8 (send it as "
                             "\"binary\")");
    } else if (lcws_test_prepared(L, 2)) {
        lcws_ws_check_how(L, 3, ws, &how);
    } else {
        luaL_typeerror(L, 2, "string");
    }
    lua_settop(L, 2);
    lua_pushinteger(L, how.flags << 4 | how.opcode);
    return lcws_perform(L, &send_op, how.timeout);
}

static int ws_flush(lua_State *L) {
    struct lcws_ws *ws = lcws_ws_check(L);
    if (ended(ws))
        return lcws_ws_closed(L, ws);
    cws_conn_flush(ws->conn);
    lua_pushboolean(L, 1);
    return 1;
}

static int send_control(lua_State *L, uint8_t opcode, const char *what) {
    struct lcws_ws *ws = lcws_ws_check(L);
    size_t len = 0;
    const char *data = "";
    if (!lua_isnoneornil(L, 2)) {
        luaL_checktype(L, 2, LUA_TSTRING);
        data = lua_tolstring(L, 2, &len);
    }
    if (len > CWS_FRAME_CONTROL_MAX) /* RFC 6455 5.5 */
        return lcws_fail(L, CWS_EUSAGE, 0, "%s: longer than 125 bytes", what);
    if (ended(ws))
        return lcws_ws_closed(L, ws);
    int err = cws_conn_control(ws->conn, opcode, data, len);
    if (err < 0)
        return lcws_ws_send_failed(L, ws, err, what);
    lua_pushboolean(L, 1);
    return 1;
}

static int ws_ping(lua_State *L) {
    return send_control(L, CWS_OP_PING, "ping");
}

static int ws_pong(lua_State *L) {
    return send_control(L, CWS_OP_PONG, "pong");
}

/* --- closing -------------------------------------------------------------- */

static int close_attempt(lua_State *L, struct lcws *s) {
    struct lcws_ws *ws = lua_touserdata(L, 1);
    struct cws_conn_ending ending;
    (void)s;
    if (!ws->conn || !cws_conn_ending(ws->conn, &ending))
        return -1;
    if (!ending.clean)
        return lcws_ws_closed(L, ws);
    lua_pushboolean(L, 1);
    return 1;
}

static void close_arm(lua_State *L, struct lcws_wait *wait) {
    struct lcws_ws *ws = lua_touserdata(L, 1);
    cws_link_append(&ws->closers, &wait->link);
}

static const struct lcws_op close_op = {
    .name = "close", .attempt = close_attempt, .arm = close_arm};

static int ws_close(lua_State *L) {
    struct lcws_ws *ws = lcws_ws_check(L);
    lua_Integer code = luaL_optinteger(L, 2, CWS_CLOSE_NORMAL);
    size_t len = 0;
    const char *reason = "";
    if (!lua_isnoneornil(L, 3)) {
        luaL_checktype(L, 3, LUA_TSTRING);
        reason = lua_tolstring(L, 3, &len);
    }
    double timeout = lcws_check_timeout(L, 4, INFINITY);
    if (code != CWS_CLOSE_NO_STATUS && /* 1005: a close frame without a code */
        (code > 4999 || !cws_session_code_valid((int)code)))
        luaL_argerror(L, 2,
                      "close code 1000-1003, 1007-1014 or 3000-4999 "
                      "expected");
    if (len > CWS_FRAME_CONTROL_MAX - 2)
        return lcws_fail(L, CWS_EUSAGE, 0,
                         "close: reason is longer than 123 bytes");
    if (!cws_utf8_valid((const uint8_t *)reason, len))
        return lcws_fail(L, CWS_EUSAGE, 0, "close: reason is not valid UTF-8");
    if (ended(ws))
        return lcws_ws_closed(L, ws);
    bool none = code == CWS_CLOSE_NO_STATUS;
    (void)cws_conn_close(ws->conn, none ? 0 : (uint16_t)code, reason,
                         none ? 0 : len);
    return lcws_perform(L, &close_op, timeout);
}

static int ws_terminate(lua_State *L) {
    struct lcws_ws *ws = lcws_ws_check(L);
    if (ws->conn)
        cws_conn_terminate(ws->conn);
    lua_pushboolean(L, 1);
    return 1;
}

/* --- callbacks of layer 2 ------------------------------------------------- */

static struct lcws_wait *first(struct cws_link *queue) {
    struct lcws_wait *wait = (struct lcws_wait *)(void *)queue->next;
    cws_link_remove(&wait->link);
    return wait;
}

static void on_readable(struct cws_conn *conn, void *user) {
    struct lcws_ws *ws = user;
    (void)conn;
    if (!cws_link_empty(&ws->receivers))
        lcws_wake_now(first(&ws->receivers));
}

/* First come, first served; the resumed sender may drop the connection. */
static void on_writable(struct cws_conn *conn, void *user) {
    struct lcws_ws *ws = user;
    while (!cws_link_empty(&ws->senders) &&
           (ended(ws) || cws_conn_can_send(conn))) {
        struct lcws_wait *wait = first(&ws->senders);
        ws->turn = true;
        lcws_wake_now(wait);
        if (cws_conn_user(conn) != ws) /* collected meanwhile */
            return;
        ws->turn = false;
    }
    if (!cws_link_empty(&ws->senders))
        cws_conn_want_send(conn, true);
}

static void on_control(struct cws_conn *conn, void *user,
                       const struct cws_event *event) {
    (void)conn;
    lcws_ws_note(user, event);
}

static void on_ended(struct cws_conn *conn, void *user) {
    struct lcws_ws *ws = user;
    (void)conn;
    lcws_wake_all(&ws->closers);
    lcws_ws_note_end(ws);
}

static void on_closed(struct cws_conn *conn, void *user) {
    (void)conn, (void)user;
}

const struct cws_conn_events lcws_ws_events = {.readable = on_readable,
                                               .writable = on_writable,
                                               .control = on_control,
                                               .ended = on_ended,
                                               .closed = on_closed};

/* --- opening -------------------------------------------------------------- */

static const luaL_Reg methods[] = {
    {"receive", ws_receive}, {"each", ws_each},           {"send", ws_send},
    {"flush", ws_flush},     {"ping", ws_ping},           {"pong", ws_pong},
    {"close", ws_close},     {"terminate", ws_terminate}, {NULL, NULL}};

static const luaL_Reg metamethods[] = {{"__gc", ws_gc},
                                       {"__close", ws_close_variable},
                                       {"__tostring", ws_tostring},
                                       {NULL, NULL}};

void lcws_open_ws(lua_State *L) {
    static const luaL_Reg none[] = {{NULL, NULL}};
    lcws_new_class(L, LCWS_WS, none, none);
    luaL_getmetatable(L, LCWS_WS);
    lua_pushliteral(L, "text");
    lua_pushliteral(L, "binary");
    lua_getfield(L, -3, "__index");
    for (int i = 0; i < WS_UPVALUES; i++)
        lua_pushvalue(L, -1 - WS_UPVALUES);
    luaL_setfuncs(L, methods, WS_UPVALUES);
    lcws_open_info(L);
    lcws_open_stream(L);
    lcws_open_calls(L);
    lua_pop(L, 1); /* now: module, metatable, "text", "binary" */
    lua_pushvalue(L, -3);
    for (int i = 0; i < WS_UPVALUES; i++)
        lua_pushvalue(L, -1 - WS_UPVALUES);
    luaL_setfuncs(L, metamethods, WS_UPVALUES);
    lua_pop(L, 1 + WS_UPVALUES);
    luaL_getmetatable(L, LCWS_WS);
    lua_getfield(L, -1, "__index");
    lua_setfield(L, -3, "ws");
    lua_pop(L, 1);
    lcws_open_broadcast(L);
}
