/*
 * info.c - what can be asked about a connection.
 */
#include "conn.h"

/* False, with nil pushed, until it has ended. */
static bool get_ending(lua_State *L, struct cws_conn_ending *ending) {
    struct lcws_ws *ws = lcws_ws_check(L);
    if (ws->conn && cws_conn_ending(ws->conn, ending))
        return true;
    lua_pushnil(L);
    return false;
}

static int ws_close_code(lua_State *L) {
    struct cws_conn_ending ending;
    if (get_ending(L, &ending))
        lua_pushinteger(L, ending.code);
    return 1;
}

static int ws_close_reason(lua_State *L) {
    struct cws_conn_ending ending;
    if (get_ending(L, &ending))
        lua_pushlstring(L, ending.text, ending.len);
    return 1;
}

static int ws_close_clean(lua_State *L) {
    struct cws_conn_ending ending;
    if (get_ending(L, &ending))
        lua_pushboolean(L, ending.clean);
    return 1;
}

static int ws_is_open(lua_State *L) {
    struct lcws_ws *ws = lcws_ws_check(L);
    lua_pushboolean(L, ws->conn && cws_conn_open(ws->conn));
    return 1;
}

static int ws_protocol(lua_State *L) {
    (void)lcws_ws_check(L);
    lua_getiuservalue(L, 1, WS_PROTOCOL);
    return 1;
}

static int ws_remote_address(lua_State *L) {
    struct lcws_ws *ws = lcws_ws_check(L);
    char text[CWS_ADDRESS_TEXT] = "";
    if (ws->conn)
        cws_conn_remote(ws->conn, text);
    lua_pushstring(L, text);
    return 1;
}

static int ws_local_address(lua_State *L) {
    struct lcws_ws *ws = lcws_ws_check(L);
    char text[CWS_ADDRESS_TEXT] = "";
    if (ws->conn)
        cws_conn_local(ws->conn, text);
    lua_pushstring(L, text);
    return 1;
}

/* nil: the connection is not encrypted. */
static int ws_tls_info(lua_State *L) {
    (void)lcws_ws_check(L);
    lua_pushnil(L);
    return 1;
}

static void set_integer(lua_State *L, const char *name, uint64_t value) {
    lua_pushinteger(L, (lua_Integer)value);
    lua_setfield(L, -2, name);
}

static int ws_stats(lua_State *L) {
    struct lcws_ws *ws = lcws_ws_check(L);
    struct cws_conn_stats stats = {.rtt = -1};
    if (ws->conn)
        cws_conn_get_stats(ws->conn, &stats);
    lua_createtable(L, 0, 7);
    set_integer(L, "messages_received", stats.messages_received);
    set_integer(L, "messages_sent", stats.messages_sent);
    set_integer(L, "bytes_received", stats.bytes_received);
    set_integer(L, "bytes_sent", stats.bytes_sent);
    set_integer(L, "queued", stats.queued);
    set_integer(L, "inbox", stats.inbox);
    if (stats.rtt >= 0) {
        lua_pushnumber(L, stats.rtt);
        lua_setfield(L, -2, "rtt");
    }
    return 1;
}

/* --- opening -------------------------------------------------------------- */

void lcws_open_info(lua_State *L) {
    static const luaL_Reg methods[] = {{"close_code", ws_close_code},
                                       {"close_reason", ws_close_reason},
                                       {"close_clean", ws_close_clean},
                                       {"is_open", ws_is_open},
                                       {"protocol", ws_protocol},
                                       {"local_address", ws_local_address},
                                       {"remote_address", ws_remote_address},
                                       {"tls_info", ws_tls_info},
                                       {"stats", ws_stats},
                                       {NULL, NULL}};
    luaL_setfuncs(L, methods, 0);
}
