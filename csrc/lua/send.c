/*
 * send.c - what a program sends on a WebSocket: messages, pings and pongs.
 */
#include "conn.h"

#include <math.h>
#include <string.h>

#include "../proto/session.h"

/* --- messages ------------------------------------------------------------- */

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

void lcws_ws_arm_behind(struct lcws_ws *ws, struct lcws_wait *wait) {
    cws_link_append(&ws->behind, &wait->link);
}

void lcws_ws_writer_closed(struct lcws_ws *ws) {
    while (!cws_link_empty(&ws->behind)) {
        struct cws_link *link = ws->behind.next;
        cws_link_remove(link);
        cws_link_append(&ws->senders, link);
    }
    if (ws->conn && !cws_link_empty(&ws->senders))
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
    if (lcws_ws_ended(ws))
        return lcws_ws_closed(L, ws);
    if (ws->writer && lcws_ws_writer_own(ws->writer))
        return lcws_ws_send_failed(L, ws, CWS_EUSAGE, "send");
    if (ws->writer || !lcws_ws_may_send(ws))
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
    struct lcws_ws *ws = lua_touserdata(L, 1);
    if (ws->writer)
        lcws_ws_arm_behind(ws, wait);
    else
        lcws_ws_arm_send(ws, wait);
}

static const struct lcws_op send_op = {
    .name = "send", .attempt = send_attempt, .arm = send_arm};

/* The opcode where "text", "binary" or nothing stands at index 3 and nothing
 * behind it, else 0. A string so short exists once: its address tells. */
static uint8_t plain_type(lua_State *L, const struct lcws *s) {
    int top = lua_gettop(L);
    if (top != 3)
        return top < 3 ? CWS_OP_TEXT : 0;
    const void *type = lua_topointer(L, 3);
    if (type == s->text)
        return CWS_OP_TEXT;
    return type == s->binary ? CWS_OP_BINARY : 0;
}

/* Almost every call: a string and perhaps its type, and there is room. Returns
 * 0 when more has to be looked at. */
static int send_now(lua_State *L, struct lcws_ws *ws) {
    size_t len;
    uint8_t opcode = plain_type(L, ws->s);
    if (!opcode || lua_type(L, 2) != LUA_TSTRING || !ws->conn || ws->writer ||
        !cws_link_empty(&ws->senders) || !cws_conn_can_send(ws->conn))
        return 0;
    const char *data = lua_tolstring(L, 2, &len);
    if (opcode == CWS_OP_TEXT &&
        (len < LCWS_CHECKED_MIN || lua_topointer(L, 2) != ws->s->checked) &&
        !cws_utf8_valid((const uint8_t *)data, len))
        return 0;
    int err = cws_conn_send(ws->conn, opcode, CWS_CONN_COMPRESS | CWS_CONN_FIN,
                            data, len);
    if (err < 0)
        return lcws_ws_send_failed(L, ws, err, "send");
    lua_pushboolean(L, 1);
    return 1;
}

static int ws_send(lua_State *L) {
    struct lcws_ws *ws = lcws_ws_check(L);
    struct ws_how how = {0};
    size_t len;
    int sent = send_now(L, ws);
    if (sent)
        return sent;
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
    if (lcws_ws_ended(ws))
        return lcws_ws_closed(L, ws);
    cws_conn_flush(ws->conn);
    lua_pushboolean(L, 1);
    return 1;
}

/* --- control frames ------------------------------------------------------- */

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
    if (lcws_ws_ended(ws))
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

/* --- opening -------------------------------------------------------------- */

void lcws_open_send(lua_State *L) {
    static const luaL_Reg methods[] = {{"send", ws_send},
                                       {"flush", ws_flush},
                                       {"ping", ws_ping},
                                       {"pong", ws_pong},
                                       {NULL, NULL}};
    luaL_setfuncs(L, methods, 0);
}
