/*
 * broadcast.c - one message for many connections, encoded once.
 */
#include "conn.h"

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
    struct lcws_ws *ws = luaL_testudata(L, -1, LCWS_WS);
    if (!ws)
        ws = luaL_testudata(L, -2, LCWS_WS);
    if (!ws)
        luaL_argerror(L, 1, "list of connections expected");
    return ws;
}

/* True when a message of `len` bytes can never be queued for one of them. */
static bool too_long(lua_State *L, size_t len) {
    bool over = false;
    lua_pushnil(L);
    while (lua_next(L, 1)) {
        struct lcws_ws *ws = pair_ws(L);
        if (ws->conn && len > cws_conn_options(ws->conn)->max_queue)
            over = true;
        lua_pop(L, 1);
    }
    return over;
}

static bool send_to(struct lcws_ws *ws, struct cws_prepared *p) {
    if (!ws->conn)
        return false;
    int err = cws_conn_send_prepared(ws->conn, p, CWS_CONN_COMPRESS, true);
    if (err == CWS_EBUSY)
        cws_conn_fail(ws->conn, CWS_CLOSE_TRY_AGAIN_LATER, "slow consumer");
    return err == 0;
}

/* No Lua runs inside: the table cannot change under the walk. */
static int l_broadcast(lua_State *L) {
    lcws_check_own(L, lcws_peek(L));
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checktype(L, 2, LUA_TSTRING);
    lua_settop(L, 3);
    if (too_long(L, lua_rawlen(L, 2)))
        return lcws_fail(L, CWS_ELIMIT, 0, "broadcast: longer than max_queue");
    int failed = push_prepared(L, 2, "broadcast");
    if (failed)
        return failed;
    struct cws_prepared *p = lcws_test_prepared(L, 4);
    lua_Integer count = 0;
    lua_pushnil(L);
    while (lua_next(L, 1)) {
        count += send_to(pair_ws(L), p);
        lua_pop(L, 1);
    }
    lua_replace(L, 1); /* not kept until the next collection */
    (void)prepared_gc(L);
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
