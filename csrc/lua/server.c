/*
 * server.c - core.listen: a listening socket as an object of Lua.
 */
#include "server.h"

#include <math.h>
#include <string.h>

static struct lcws_server *check_server(lua_State *L) {
    struct lcws_server *server = luaL_checkudata(L, 1, LCWS_SERVER);
    lcws_check_own(L, server->s);
    return server;
}

static size_t open_count(const struct lcws_server *server) {
    return server->listener ? cws_listener_open_count(server->listener) : 0;
}

/* --- what keeps it alive ------------------------------------------------- */

static void anchor(lua_State *L, struct lcws_server *server, int index) {
    lua_pushvalue(L, index);
    lua_rawsetp(L, LUA_REGISTRYINDEX, server);
}

/* Does not raise: the field exists, or stays absent. */
static void unanchor_unused(struct lcws_server *server) {
    lua_State *L = lcws_stack(server->s);
    if (server->listening || open_count(server) || !lua_checkstack(L, 1))
        return;
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, server);
}

/* --- callbacks of layer 2 ---------------------------------------------------
 */

static void on_idle(void *user) {
    struct lcws_server *server = user;
    if (!server->s->loop)
        return;
    lcws_wake_all(&server->idlers);
    unanchor_unused(server);
}

static void on_log(void *user, const char *line) {
    struct lcws_server *server = user;
    lcws_log(server->s, "%s", line);
}

static const struct cws_exchange_events events = {.request =
                                                      lcws_request_arrived,
                                                  .gone = lcws_request_gone,
                                                  .idle = on_idle,
                                                  .log = on_log};

/* --- listening --------------------------------------------------------------
 */

static struct cws_listener *open_listener(struct lcws_server *server,
                                          struct cws_span address,
                                          struct cws_options *options,
                                          struct cws_error *error) {
    if (strlen(address.data) == address.len)
        return cws_listener_open(server->s->loop, address.data, options,
                                 &events, server, error);
    (void)cws_error_set(error, CWS_ELISTEN, 0,
                        "listen: bad address '%.40s' (host:port expected)",
                        address.data);
    return NULL;
}

/* address, options, handler, name of the function that the program called */
static int l_listen(lua_State *L) {
    struct cws_error error;
    struct cws_span address;
    address.data = luaL_checklstring(L, 1, &address.len);
    luaL_checktype(L, 3, LUA_TFUNCTION);
    const char *name = luaL_optstring(L, 4, "listen");
    struct lcws *s = lcws_get(L);
    struct lcws_server *server = lua_newuserdatauv(L, sizeof *server, 1);
    memset(server, 0, sizeof *server);
    server->s = s;
    cws_link_init(&server->idlers);
    luaL_setmetatable(L, LCWS_SERVER);
    lua_pushvalue(L, 3);
    lua_setiuservalue(L, -2, 1);
    struct cws_options *options = lcws_check_options(L, 2, name, NULL);
    server->listener = open_listener(server, address, options, &error);
    cws_options_drop(options);
    if (!server->listener)
        return lcws_fail_error(L, &error);
    anchor(L, server, -1); /* if that raises, __gc ends it */
    server->listening = true;
    s->listeners++;
    return 1;
}

static void stop_listening(struct lcws_server *server) {
    if (!server->listening)
        return;
    server->listening = false;
    if (--server->s->listeners == 0)
        cws_loop_break(server->s->loop); /* run() may be over */
    cws_listener_stop(server->listener);
    unanchor_unused(server);
}

static int server_stop_listening(lua_State *L) {
    stop_listening(check_server(L));
    return 0;
}

static int server_gc(lua_State *L) {
    struct lcws_server *server = lua_touserdata(L, 1);
    struct cws_listener *listener = server->listener;
    server->listener = NULL;
    if (!listener || !lcws_own_loop(server->s))
        return 0;
    if (server->listening)
        server->s->listeners--;
    server->listening = false;
    cws_listener_release(listener);
    lcws_wake_all(&server->idlers);
    return 0;
}

/* --- what came from it ------------------------------------------------------
 */

static void go_away(struct cws_conn *c, void *count) {
    if (cws_conn_close(c, CWS_CLOSE_GOING_AWAY, NULL, 0) == 0)
        ++*(lua_Integer *)count;
}

static int server_close_all(lua_State *L) {
    struct lcws_server *server = check_server(L);
    lua_Integer count = 0;
    if (server->listener)
        cws_listener_each(server->listener, go_away, &count);
    lua_pushinteger(L, count);
    return 1;
}

static int server_abort_all(lua_State *L) {
    struct lcws_server *server = check_server(L);
    if (server->listener)
        cws_listener_terminate(server->listener);
    return 0;
}

static int server_count(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)open_count(check_server(L)));
    return 1;
}

static int idle_attempt(lua_State *L, struct lcws *s) {
    struct lcws_server *server = lua_touserdata(L, 1);
    (void)s;
    if (open_count(server))
        return -1;
    lua_pushboolean(L, 1);
    return 1;
}

static void idle_arm(lua_State *L, struct lcws_wait *wait) {
    struct lcws_server *server = lua_touserdata(L, 1);
    cws_link_append(&server->idlers, &wait->link);
}

static const struct lcws_op idle_op = {
    .name = "stop", .attempt = idle_attempt, .arm = idle_arm};

static int server_wait_idle(lua_State *L) {
    (void)check_server(L);
    return lcws_perform(L, &idle_op, lcws_check_timeout(L, 2, INFINITY));
}

static int server_address(lua_State *L) {
    struct lcws_server *server = check_server(L);
    char text[CWS_ADDRESS_TEXT] = "";
    if (server->listener)
        cws_listener_address(server->listener, text);
    lua_pushstring(L, text);
    return 1;
}

/* --- opening ----------------------------------------------------------------
 */

void lcws_open_server(lua_State *L) {
    static const luaL_Reg methods[] = {
        {"address", server_address},
        {"stop_listening", server_stop_listening},
        {"close_all", server_close_all},
        {"abort_all", server_abort_all},
        {"count", server_count},
        {"wait_idle", server_wait_idle},
        {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__gc", server_gc}, {NULL, NULL}};
    static const luaL_Reg functions[] = {{"listen", l_listen}, {NULL, NULL}};
    lcws_new_class(L, LCWS_SERVER, methods, meta);
    luaL_setfuncs(L, functions, 0);
    luaL_getmetatable(L, LCWS_SERVER);
    lua_getfield(L, -1, "__index");
    lua_setfield(L, -3, "server");
    lua_pop(L, 1);
}
