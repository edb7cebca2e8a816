/*
 * conn.c - an open WebSocket in Lua: receive and close. Callbacks of layer 2
 * come in, waiting coroutines go on.
 */
#include "conn.h"

#include <math.h>
#include <string.h>

#include "../proto/session.h"

/* --- the userdata --------------------------------------------------------- */

/* In the first field of a live connection; nobody else knows the address. */
static const char magic;

/* Two calls of Lua instead of the six that comparing metatables takes. */
struct lcws_ws *lcws_ws_test(lua_State *L, int index) {
    if (lua_rawlen(L, index) != sizeof(struct lcws_ws))
        return NULL;
    struct lcws_ws *ws = lua_touserdata(L, index);
    return ws && ws->magic == &magic ? ws : NULL;
}

struct lcws_ws *lcws_ws_check(lua_State *L) {
    struct lcws_ws *ws = lcws_ws_test(L, 1);
    if (!ws)
        return luaL_checkudata(L, 1, LCWS_WS);
    lcws_check_own(L, ws->s);
    return ws;
}

struct lcws_ws *lcws_ws_new(lua_State *L, struct lcws *s) {
    struct lcws_ws *ws = lua_newuserdatauv(L, sizeof *ws, 2);
    memset(ws, 0, sizeof *ws);
    ws->magic = &magic;
    ws->s = s;
    cws_link_init(&ws->receivers);
    cws_link_init(&ws->senders);
    cws_link_init(&ws->behind);
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

struct cws_conn *lcws_ws_conn(const struct lcws_ws *ws) {
    return ws->conn;
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
    ws->magic = NULL; /* the memory may become somebody else's userdata */
    free_joined(ws);
    if (conn && lcws_own_loop(ws->s)) {
        (void)cws_conn_close(conn, CWS_CLOSE_GOING_AWAY, NULL, 0);
        cws_conn_set_user(conn, NULL);
        cws_conn_release(conn); /* freed in a later turn */
        lcws_wake_all(&ws->receivers);
        lcws_wake_all(&ws->senders);
        lcws_wake_all(&ws->behind);
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
    if (lcws_own_loop(ws->s))
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

bool lcws_ws_ended(const struct lcws_ws *ws) {
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
    ws->serial += ws->reading; /* what comes is not its reader's any more */
    while (ws->reading) {
        int result = cws_conn_receive(ws->conn, &event);
        if (result == CWS_MORE)
            return false;
        ws->reading = result == CWS_ITEM && !event.fin;
    }
    return true;
}

/* An echo of a large text need not be checked again when it is sent. It is kept
 * until the next receive, whoever calls it, and never so much that it would be
 * missed. */
#define CHECKED_MAX ((size_t)1024 * 1024)

/* The message and its type are on top of the stack. */
static void keep_checked(lua_State *L, struct lcws *s, size_t len) {
    if (len > CHECKED_MAX || !lua_rawequal(L, -1, WS_TEXT))
        return;
    s->checked = lua_topointer(L, -2);
    lua_pushvalue(L, -2);
    lua_rawseti(L, LUA_REGISTRYINDEX, s->checked_ref);
}

static void forget_checked(lua_State *L, struct lcws *s) {
    s->checked = NULL;
    lua_pushboolean(L, 0);
    lua_rawseti(L, LUA_REGISTRYINDEX, s->checked_ref);
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
    ws->joined->opcode = event->opcode;
    if (!event->fin)
        return -1;
    struct cws_buf *buf = &ws->joined->buf;
    int n =
        push_message(L, cws_buf_bytes(buf), cws_buf_len(buf), event->opcode);
    free_joined(ws);
    return n;
}

uint8_t lcws_ws_take_joined(struct lcws_ws *ws, struct cws_buf *buf) {
    if (!ws->joined)
        return 0;
    uint8_t opcode = ws->joined->opcode;
    *buf = ws->joined->buf;
    ws->joined->buf = (struct cws_buf){0};
    free_joined(ws);
    return opcode;
}

static int receive(lua_State *L, struct lcws_ws *ws) {
    struct cws_event event;
    if (ws->s->checked)
        forget_checked(L, ws->s);
    if (!ws->conn)
        return lcws_ws_closed(L, ws);
    if (ws->reading && !lcws_ws_drain(ws))
        return -1;
    int result;
    while ((result = cws_conn_receive(ws->conn, &event)) == CWS_ITEM) {
        if (event.type == CWS_EVENT_MESSAGE) {
            int n = push_message(L, event.data, event.len, event.opcode);
            if (event.len >= LCWS_CHECKED_MIN)
                keep_checked(L, ws->s, event.len);
            return n;
        }
        int n = join_piece(L, ws, &event);
        if (n > 0)
            return n;
    }
    return result == CWS_MORE ? -1 : lcws_ws_closed(L, ws);
}

static int receive_attempt(lua_State *L, struct lcws *s) {
    (void)s;
    return receive(L, lua_touserdata(L, 1));
}

static void receive_arm(lua_State *L, struct lcws_wait *wait) {
    lcws_ws_arm_receive(lua_touserdata(L, 1), wait);
}

static const struct lcws_op receive_op = {.name = "receive",
                                          .attempt = receive_attempt,
                                          .arm = receive_arm,
                                          .abandon = abandon_receive};

static int receive_or_wait(lua_State *L, struct lcws_ws *ws, double timeout) {
    int n = lcws_ws_receiver_busy(L, ws, "receive");
    if (n == 0)
        n = receive(L, ws);
    return n >= 0 ? n : lcws_wait(L, ws->s, &receive_op, timeout);
}

static int ws_receive(lua_State *L) {
    struct lcws_ws *ws = lcws_ws_check(L);
    return receive_or_wait(L, ws, lcws_check_timeout(L, 2, INFINITY));
}

/* receive for a generic for, which passes its control variable. */
static int ws_next(lua_State *L) {
    return receive_or_wait(L, lcws_ws_check(L), INFINITY);
}

/* `for message, type in ws:each()`: no Lua function between. Upvalue 1: the
 * iterator. */
static int ws_each(lua_State *L) {
    (void)lcws_ws_check(L);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, 1);
    return 2;
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
    if (lcws_ws_ended(ws))
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

/* First come, first served; the resumed sender may drop the connection. The
 * main program goes on after this turn of the loop: its turn to send stays. */
static void on_writable(struct cws_conn *conn, void *user) {
    struct lcws_ws *ws = user;
    while (!cws_link_empty(&ws->senders) &&
           (lcws_ws_ended(ws) || cws_conn_can_send(conn))) {
        struct lcws_wait *wait = first(&ws->senders);
        bool main = !wait->in_task;
        ws->turn = true;
        lcws_wake_now(wait);
        if (cws_conn_user(conn) != ws) /* collected meanwhile */
            return;
        if (main)
            break;
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
    lcws_wake_all(&ws->behind);
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

static const luaL_Reg methods[] = {{"receive", ws_receive},
                                   {"close", ws_close},
                                   {"terminate", ws_terminate},
                                   {NULL, NULL}};

static const luaL_Reg metamethods[] = {{"__gc", ws_gc},
                                       {"__close", ws_close_variable},
                                       {"__tostring", ws_tostring},
                                       {NULL, NULL}};

/* Pushes the upvalues of receive and the iterator; they keep alive what the
 * addresses are of. */
static void push_types(lua_State *L) {
    struct lcws *s = lcws_peek(L);
    lua_pushliteral(L, "text");
    s->text = lua_topointer(L, -1);
    lua_pushliteral(L, "binary");
    s->binary = lua_topointer(L, -1);
}

/* One iterator for all: a closure each would stay as long as a connection. */
static void add_each(lua_State *L) {
    push_types(L);
    lua_pushcclosure(L, ws_next, WS_UPVALUES);
    lua_pushcclosure(L, ws_each, 1);
    lua_setfield(L, -2, "each");
}

void lcws_open_ws(lua_State *L) {
    static const luaL_Reg none[] = {{NULL, NULL}};
    lcws_new_class(L, LCWS_WS, none, metamethods);
    luaL_getmetatable(L, LCWS_WS);
    lua_getfield(L, -1, "__index");
    lua_remove(L, -2);
    push_types(L);
    luaL_setfuncs(L, methods, WS_UPVALUES);
    add_each(L);
    lcws_open_send(L);
    lcws_open_info(L);
    lcws_open_stream(L);
    lcws_open_calls(L);
    lua_setfield(L, -2, "ws");
    lcws_open_broadcast(L);
}
