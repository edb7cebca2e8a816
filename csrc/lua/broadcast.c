/*
 * broadcast.c - one message for many connections, encoded once.
 */
#include "conn.h"

#include <string.h>

struct prepared {
    struct cws_prepared *p;
};

struct cws_prepared *lcws_test_prepared(lua_State *L, int arg) {
    struct prepared *prepared = luaL_testudata(L, arg, LCWS_PREPARED);
    return prepared ? prepared->p : NULL;
}

static int prepared_gc(lua_State *L) {
    struct prepared *prepared = lua_touserdata(L, 1);
    cws_prepared_drop(prepared->p);
    prepared->p = NULL;
    return 0;
}

/* Pushes a prepared message made of the arguments at `arg` and `arg + 1`, or
 * returns the number of error results. */
static int push_prepared(lua_State *L, int arg, const char *what) {
    luaL_checktype(L, arg, LUA_TSTRING);
    size_t len;
    const char *data = lua_tolstring(L, arg, &len);
    uint8_t opcode = lcws_check_type(L, arg + 1);
    if (opcode == CWS_OP_TEXT && !cws_utf8_valid((const uint8_t *)data, len))
        return lcws_fail(L, CWS_EUSAGE, 0,
                         "%s: text is not valid UTF-8 (send it as \"binary\")",
                         what);
    (void)lcws_get(L); /* no __gc comes any more when that has been closed */
    struct prepared *prepared = lua_newuserdatauv(L, sizeof *prepared, 0);
    prepared->p = NULL;
    luaL_setmetatable(L, LCWS_PREPARED);
    prepared->p = cws_prepared_new(opcode, data, len);
    if (!prepared->p)
        return lcws_fail(L, CWS_EMEMORY, 0, "%s: out of memory", what);
    return 0;
}

static int l_prepare(lua_State *L) {
    int failed = push_prepared(L, 1, "prepare");
    return failed ? failed : 1;
}

/* The connection in the pair on top of the stack: a list's value, or a set's
 * key. */
static struct lcws_ws *pair_ws(lua_State *L) {
    struct lcws_ws *ws = lcws_ws_test(L, -1);
    if (!ws)
        ws = lcws_ws_test(L, -2);
    if (!ws)
        ws = luaL_testudata(L, -1, LCWS_WS); /* collected */
    if (!ws)
        ws = luaL_testudata(L, -2, LCWS_WS);
    if (!ws)
        luaL_argerror(L, 1, "list of connections expected");
    return ws;
}

/* Fills s->list with the connections of the table at index 1: before anything
 * is sent all are known to be some, and to be able to take the message. */
static bool list_all(lua_State *L, struct lcws *s, size_t len) {
    bool fits = true;
    cws_buf_clear(&s->list);
    lua_pushnil(L);
    while (lua_next(L, 1)) {
        struct lcws_ws *ws = pair_ws(L);
        if (ws->conn && len > cws_conn_options(ws->conn)->max_queue)
            fits = false;
        if (cws_buf_append(&s->list, &ws, sizeof ws) < 0)
            luaL_error(L, "not enough memory");
        lua_pop(L, 1);
    }
    return fits;
}

static bool send_to(struct lcws_ws *ws, struct cws_prepared *p) {
    if (!ws->conn)
        return false;
    int err = cws_conn_send_prepared(ws->conn, p, CWS_CONN_COMPRESS, true);
    if (err == CWS_EBUSY)
        cws_conn_fail(ws->conn, CWS_CLOSE_TRY_AGAIN_LATER, "slow consumer");
    return err == 0;
}

/* No Lua has run since they were listed: the table holds them all. */
static lua_Integer send_to_all(struct lcws *s, struct cws_prepared *p) {
    lua_Integer count = 0;
    struct lcws_ws *ws;
    while (cws_buf_len(&s->list)) {
        memcpy(&ws, cws_buf_bytes(&s->list), sizeof ws);
        cws_buf_consume(&s->list, sizeof ws);
        count += send_to(ws, p);
    }
    return count;
}

static int l_broadcast(lua_State *L) {
    struct lcws *s = lcws_peek(L);
    lcws_check_own(L, s);
    luaL_checktype(L, 1, LUA_TTABLE);
    struct cws_prepared *given = lcws_test_prepared(L, 2);
    if (!given)
        luaL_checktype(L, 2, LUA_TSTRING);
    lua_settop(L, 3);
    int failed = given ? 0 : push_prepared(L, 2, "broadcast"); /* 4 */
    if (failed)
        return failed;
    struct cws_prepared *p = given ? given : lcws_test_prepared(L, 4);
    bool fits = list_all(L, s, cws_prepared_len(p));
    lua_Integer count = fits ? send_to_all(s, p) : 0;
    if (!given) { /* not kept until the next collection */
        lua_replace(L, 1);
        (void)prepared_gc(L);
    }
    if (!fits)
        return lcws_fail(L, CWS_ELIMIT, 0, "broadcast: longer than max_queue");
    lua_pushinteger(L, count);
    return 1;
}

void lcws_open_broadcast(lua_State *L) {
    static const luaL_Reg none[] = {{NULL, NULL}};
    static const luaL_Reg meta[] = {{"__gc", prepared_gc}, {NULL, NULL}};
    static const luaL_Reg functions[] = {
        {"prepare", l_prepare}, {"broadcast", l_broadcast}, {NULL, NULL}};
    lcws_new_class(L, LCWS_PREPARED, none, meta);
    luaL_setfuncs(L, functions, 0);
}
