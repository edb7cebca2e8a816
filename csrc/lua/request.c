/*
 * request.c - one HTTP request in the hands of its handler, and the switch to
 * WebSocket.
 *
 * While the exchange waits for its answer everything is read from its head.
 * After that only what a log line needs is kept.
 */
#include "server.h"

#include <string.h>

#include "../net/exchange.h"
#include "fields.h"

/* Part of the userdata of the handler's task, which is the request as well:
 * every open connection holds one. */
struct request {
    struct lcws *s;
    struct cws_exchange *x; /* NULL: answered, upgraded or too late */
    struct lcws_ws *ws;     /* what it was upgraded to */
    bool too_late;          /* handler_timeout answered for us */
    bool held; /* x is in use, and must stay though finalizers run */
};

/* User values: the texts that stay, in one string (set before the exchange
 * goes), the table of header fields if it was asked for, and the response while
 * the handler may still write one, then the connection. */
enum { TEXTS = LCWS_TASK_OWNER, HEADERS, RESPONSE, WS = RESPONSE };

#define MORE_VALUES (WS - LCWS_TASK_OWNER)

/* The texts, in the order in which they stand behind their lengths. REMOTE is
 * empty after an upgrade: the connection knows. */
enum { METHOD, TARGET, PATH, QUERY, HOST, REMOTE, TEXT_COUNT };

static struct request *check_request(lua_State *L) {
    struct request *r = lcws_task_bytes(luaL_checkudata(L, 1, LCWS_REQUEST));
    lcws_check_own(L, r->s);
    return r;
}

/* --- a request arrives ------------------------------------------------------
 */

struct arrival {
    struct lcws_server *server;
    struct cws_exchange *x;
    struct lcws_task *task;
};

/* Whether it can be answered now. After an error of memory it stays held, and
 * gets 500 when its handler has ended. */
static bool is_free(const struct request *r) {
    return r->x && !r->held;
}

/* Returns what `held` becomes again. */
static bool hold(struct request *r) {
    bool before = r->held;
    r->held = true;
    return before;
}

static void push_span(lua_State *L, struct cws_span span) {
    lua_pushlstring(L, span.data, span.len);
}

/* Argument: the request. Sends what its handler wrote. */
static int send_response(lua_State *L) {
    struct request *r = lua_touserdata(L, 1);
    luaL_checkstack(L, 6, NULL);
    lcws_push_hook(L, r->s, "respond");
    lcws_task_push(L, r);
    lua_getiuservalue(L, -1, RESPONSE);
    lua_insert(L, -2);
    lua_call(L, 2, 0);
    return 0;
}

/* The handler returned or raised. */
static void handler_ended(void *owner, enum lcws_task_result result) {
    struct request *r = owner;
    if (r->x && result == LCWS_TASK_OK)
        (void)lcws_protect(r->s, send_response, r);
    struct cws_exchange *x = r->x;
    r->x = NULL;
    if (x)
        cws_exchange_refuse(x, 500, NULL);
    else if (r->ws)
        lcws_ws_handler_ended(r->ws, result);
}

/* Pushes the handler of a path and a new response. */
static void match(lua_State *L, struct arrival *a) {
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, a->server) != LUA_TUSERDATA)
        luaL_error(L, "the server is gone");
    lua_getiuservalue(L, -1, 1);
    lua_remove(L, -2);
    push_span(L, cws_exchange_request(a->x)->path);
    lua_call(L, 1, 2);
}

/* Argument: the arrival. */
static int start_handler(lua_State *L) {
    struct arrival *a = lua_touserdata(L, 1);
    luaL_checkstack(L, 8, NULL);
    match(L, a); /* 2, 3 */
    struct lcws *s = a->server->s;
    struct request *r =
        lcws_task_make(L, s, sizeof *r, MORE_VALUES, handler_ended); /* 4 */
    r->s = s;
    luaL_setmetatable(L, LCWS_REQUEST);
    lua_pushvalue(L, 3);
    lua_setiuservalue(L, 4, RESPONSE);
    lua_pushvalue(L, 2);
    lua_pushvalue(L, 4);
    lua_pushvalue(L, 3);
    a->task = lcws_task_begin(L, 4, 2);
    r->x = a->x;
    cws_exchange_own(a->x, r);
    return 0;
}

void lcws_request_arrived(struct cws_exchange *x, void *user) {
    struct arrival arrival = {user, x, NULL};
    struct lcws *s = arrival.server->s;
    if (lcws_protect(s, start_handler, &arrival))
        lcws_task_start(arrival.task);
    else if (!arrival.task)
        cws_exchange_refuse(x, 503, NULL);
}

/* --- fields ------------------------------------------------------------------
 */

static struct cws_span text_of(const struct request *r, int which) {
    const struct cws_request *request = cws_exchange_request(r->x);
    switch (which) {
    case METHOD:
        return request->method;
    case TARGET:
        return request->target;
    case PATH:
        return request->path;
    case QUERY:
        return request->query;
    default:
        return request->host;
    }
}

/* Before the exchange goes: what stays of it. Request at index 1. */
static void keep_texts(lua_State *L, struct request *r, bool remote) {
    char address[CWS_ADDRESS_TEXT] = "";
    struct cws_span texts[TEXT_COUNT];
    uint16_t lengths[TEXT_COUNT]; /* a head is shorter than 64 KiB */
    luaL_Buffer buffer;
    if (remote)
        cws_address_format(cws_exchange_remote(r->x), address);
    texts[REMOTE] = (struct cws_span){address, strlen(address)};
    for (int i = METHOD; i < REMOTE; i++)
        texts[i] = text_of(r, i);
    for (int i = METHOD; i < TEXT_COUNT; i++)
        lengths[i] = (uint16_t)texts[i].len;
    bool held = hold(r);
    luaL_buffinit(L, &buffer);
    luaL_addlstring(&buffer, (const char *)lengths, sizeof lengths);
    for (int i = METHOD; i < TEXT_COUNT; i++)
        luaL_addlstring(&buffer, texts[i].data, texts[i].len);
    luaL_pushresult(&buffer);
    r->held = held;
    lua_setiuservalue(L, 1, TEXTS);
}

/* Pushes one of them. */
static void push_kept(lua_State *L, int which) {
    uint16_t lengths[TEXT_COUNT];
    lua_getiuservalue(L, 1, TEXTS);
    const char *text = lua_tostring(L, -1);
    if (!text) { /* there was no memory to keep it in */
        lua_pushliteral(L, "");
        return;
    }
    memcpy(lengths, text, sizeof lengths);
    text += sizeof lengths;
    for (int i = METHOD; i < which; i++)
        text += lengths[i];
    lua_pushlstring(L, text, lengths[which]);
    lua_remove(L, -2);
}

/* Argument: the request. */
static int keep_of_task(lua_State *L) {
    struct request *r = lua_touserdata(L, 1);
    lcws_task_push(L, r);
    lua_replace(L, 1);
    keep_texts(L, r, true);
    return 0;
}

void lcws_request_gone(struct cws_exchange *x, void *owner) {
    struct request *r = owner;
    (void)x;
    if (!r)
        return;
    (void)lcws_protect(r->s, keep_of_task, r);
    r->x = NULL;
    r->too_late = true;
}

static int push_text(lua_State *L, const struct request *r, int which) {
    if (r->x)
        push_span(L, text_of(r, which));
    else
        push_kept(L, which);
    return 1;
}

static int push_remote(lua_State *L, const struct request *r) {
    char text[CWS_ADDRESS_TEXT];
    struct cws_conn *conn = r->ws ? lcws_ws_conn(r->ws) : NULL;
    if (conn)
        cws_conn_remote(conn, text);
    else if (r->x)
        cws_address_format(cws_exchange_remote(r->x), text);
    else
        return push_text(L, r, REMOTE);
    lua_pushstring(L, text);
    return 1;
}

static void push_header(lua_State *L, struct request *r, const char *name) {
    bool held = hold(r);
    lcws_push_header(L, cws_exchange_http(r->x), cws_exchange_head(r->x), name);
    r->held = held;
}

/* The table, made at first use. */
static int push_headers(lua_State *L, struct request *r) {
    if (lua_getiuservalue(L, 1, HEADERS) == LUA_TTABLE)
        return 1;
    if (!r->x)
        return luaL_error(L, "headers: not kept after the request was answered "
                             "or upgraded; read them before");
    bool held = hold(r);
    lcws_push_headers(L, cws_exchange_http(r->x), cws_exchange_head(r->x));
    r->held = held;
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, HEADERS);
    return 1;
}

static int request_header(lua_State *L) {
    struct request *r = check_request(L);
    const char *name = luaL_checkstring(L, 2);
    if (r->x) {
        push_header(L, r, name);
        return 1;
    }
    (void)push_headers(L, r);
    lua_getfield(L, -1, name);
    return 1;
}

static int push_field(lua_State *L, struct request *r, const char *name) {
    static const char *const texts[] = {"method", "target", "path", "query",
                                        "host"};
    for (int i = METHOD; i <= HOST; i++)
        if (strcmp(name, texts[i - METHOD]) == 0)
            return push_text(L, r, i);
    if (strcmp(name, "headers") == 0)
        return push_headers(L, r);
    if (strcmp(name, "remote") == 0)
        return push_remote(L, r);
    if (strcmp(name, "answered") == 0)
        lua_pushboolean(L, !r->x);
    else if (strcmp(name, "tls") == 0)
        lua_pushboolean(L, false);
    else
        lua_pushnil(L);
    return 1;
}

/* Upvalue 1: the methods. */
static int request_index(lua_State *L) {
    struct request *r = check_request(L);
    lua_settop(L, 2);
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL ||
        lua_type(L, 2) != LUA_TSTRING)
        return 1;
    return push_field(L, r, lua_tostring(L, 2));
}

static int request_tostring(lua_State *L) {
    struct request *r = check_request(L);
    (void)push_text(L, r, METHOD);
    (void)push_text(L, r, TARGET);
    (void)push_remote(L, r);
    lua_pushfstring(L, "cws.request: %s %s from %s", lua_tostring(L, -3),
                    lua_tostring(L, -2), lua_tostring(L, -1));
    return 1;
}

/* --- answering ---------------------------------------------------------------
 */

/* nil, message, kind for a request that is out of our hands. */
static int over(lua_State *L, const struct request *r, const char *what) {
    if (r->too_late)
        return lcws_fail(L, CWS_ECLOSED, 0,
                         "%s: the handler took longer than handler_timeout",
                         what);
    return lcws_fail(L, CWS_EUSAGE, 0, "%s: the request is answered already",
                     what);
}

static struct cws_span span_at(lua_State *L, int index) {
    struct cws_span span;
    span.data = lua_tolstring(L, index, &span.len);
    if (!span.data)
        span = (struct cws_span){"", 0};
    return span;
}

/* request, status, fields, body */
static int request_respond(lua_State *L) {
    struct request *r = check_request(L);
    lua_Integer status = luaL_checkinteger(L, 2);
    luaL_argcheck(L, status >= 200 && status <= 999, 2,
                  "status from 200 to 999 expected");
    lua_settop(L, 4);
    luaL_optstring(L, 4, "");
    lcws_push_fields(L, 3, "respond"); /* 5 */
    if (!is_free(r))
        return over(L, r, "respond");
    keep_texts(L, r, true);
    struct cws_exchange *x = r->x;
    r->x = NULL;
    cws_exchange_respond(x, (int)status, span_at(L, 5), span_at(L, 4));
    lua_pushboolean(L, 1);
    return 1;
}

/* --- upgrading ---------------------------------------------------------------
 */

static int refused(lua_State *L, int status, const char *why) {
    return lcws_fail(L, CWS_EHANDSHAKE, status, "handshake: %s", why);
}

static int request_check_upgrade(lua_State *L) {
    struct request *r = check_request(L);
    struct cws_upgrade upgrade;
    const char *why;
    if (!is_free(r))
        return over(L, r, "upgrade");
    int status = cws_exchange_check(r->x, &upgrade, &why);
    cws_upgrade_free(&upgrade);
    if (status)
        return refused(L, status, why);
    lua_pushboolean(L, 1);
    return 1;
}

static int request_offered_protocols(lua_State *L) {
    struct request *r = check_request(L);
    struct cws_span element;
    size_t at = 0;
    lua_newtable(L);
    if (!r->x)
        return 1;
    push_header(L, r, "Sec-WebSocket-Protocol");
    struct cws_span list = span_at(L, -1);
    for (lua_Integer i = 1; cws_http_list_next(list, &at, &element) == CWS_ITEM;
         i++) {
        push_span(L, element);
        lua_rawseti(L, -3, i);
    }
    lua_pop(L, 1);
    return 1;
}

static bool same_origin(const struct cws_exchange *x) {
    const char *head = cws_exchange_head(x);
    const struct cws_http *http = cws_exchange_http(x);
    const struct cws_http_field *origin =
        cws_http_find(http, head, "Origin", 0);
    if (!origin)
        return true;
    return !cws_http_find(http, head, "Origin", 1) &&
           cws_handshake_same_origin(cws_http_span(head, origin->value),
                                     cws_exchange_request(x)->host);
}

static int request_same_origin(lua_State *L) {
    struct request *r = check_request(L);
    if (!r->x)
        return 0;
    lua_pushboolean(L, same_origin(r->x));
    return 1;
}

/* Request at index 1. Pushes the new connection's userdata. */
static struct lcws_ws *new_ws(lua_State *L, struct request *r) {
    bool held = hold(r);
    struct lcws_ws *ws = lcws_ws_new(L, r->s);
    keep_texts(L, r, false);
    r->held = held;
    return ws;
}

/* The switch itself, with the userdata on top of the stack: pushes what upgrade
 * returns. `upgrade` and `options` are freed, and x is gone. */
static int switch_over(lua_State *L, struct request *r, struct lcws_ws *ws,
                       struct cws_upgrade *upgrade, struct cws_span protocol,
                       struct cws_span fields, struct cws_options *options) {
    struct cws_conn *conn;
    struct cws_exchange *x = r->x;
    r->x = NULL;
    int err = cws_exchange_upgrade(x, upgrade, protocol, fields, options,
                                   &lcws_ws_events, NULL, &conn);
    cws_upgrade_free(upgrade);
    cws_options_drop(options);
    if (err < 0)
        return lcws_fail(L, err, 0, "handshake: %s",
                         err == CWS_EMEMORY ? "out of memory" : "failed");
    r->ws = ws; /* kept in the place of the response */
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, WS);
    lcws_ws_set(L, -1, ws, conn, protocol);
    if (cws_listener_stopped(cws_conn_listener(conn))) /* it came too late */
        (void)cws_conn_close(conn, CWS_CLOSE_GOING_AWAY, NULL, 0);
    return 1;
}

/* request, protocol, fields, options */
static int request_switch(lua_State *L) {
    struct request *r = check_request(L);
    struct cws_upgrade upgrade;
    const char *why;
    lua_settop(L, 4);
    size_t len;
    const char *protocol = luaL_optlstring(L, 2, "", &len);
    luaL_argcheck(L, !len || cws_http_is_token(protocol, len), 2,
                  "token expected");
    lcws_push_fields(L, 3, "upgrade"); /* 5 */
    if (!is_free(r))
        return over(L, r, "upgrade");
    struct lcws_ws *ws = new_ws(L, r); /* 6 */
    struct cws_options *options = lcws_check_options(
        L, 4, "upgrade", cws_listener_options(cws_exchange_listener(r->x)));
    if (cws_exchange_check(r->x, &upgrade, &why) == 0)
        return switch_over(L, r, ws, &upgrade, span_at(L, 2), span_at(L, 5),
                           options);
    cws_upgrade_free(&upgrade);
    cws_options_drop(options);
    struct cws_exchange *x = r->x;
    r->x = NULL;
    cws_exchange_refuse(x, 503, NULL); /* all else has passed before */
    return lcws_fail(L, CWS_EMEMORY, 0, "handshake: out of memory");
}

/* Whether the handler has written nothing yet. Leaves the response on the
 * stack. */
static bool is_unwritten(lua_State *L) {
    if (lua_getiuservalue(L, 1, RESPONSE) != LUA_TTABLE)
        return false;
    lua_pushliteral(L, "body");
    bool none = lua_rawget(L, -2) == LUA_TNIL;
    lua_pop(L, 1);
    return none;
}

/* No options, nothing written, the same origin, a good request: the Lua
 * function would come to the same, with more coroutine stack than a connection
 * needs afterwards. 0: let it see what is in the way. */
static int upgrade_simply(lua_State *L, struct request *r) {
    struct cws_upgrade upgrade;
    const char *why;
    if (!is_free(r) || !lua_isnoneornil(L, 2) || !is_unwritten(L) ||
        !same_origin(r->x))
        return 0;
    lua_pushliteral(L, "the request was upgraded");
    lua_setfield(L, -2, "over");
    struct lcws_ws *ws = new_ws(L, r);
    if (cws_exchange_check(r->x, &upgrade, &why) != 0) {
        cws_upgrade_free(&upgrade);
        return 0;
    }
    const struct cws_span none = {"", 0};
    return switch_over(
        L, r, ws, &upgrade, none, none,
        cws_options_keep(cws_listener_options(cws_exchange_listener(r->x))));
}

static int upgraded(lua_State *L, int status, lua_KContext context) {
    (void)status, (void)context;
    return lua_gettop(L);
}

/* Upvalue 1: the function that can do it all. */
static int request_upgrade(lua_State *L) {
    struct request *r = check_request(L);
    int n = upgrade_simply(L, r);
    if (n)
        return n;
    lua_settop(L, 2);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_callk(L, 2, LUA_MULTRET, 0, upgraded);
    return lua_gettop(L);
}

/* core.upgrader(function): the method of requests. */
static int l_upgrader(lua_State *L) {
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    lua_pushcclosure(L, request_upgrade, 1);
    return 1;
}

/* core.response(request [, false]): what its handler may still write to, or
 * nil; false: nothing any more. */
static int l_response(lua_State *L) {
    (void)check_request(L);
    if (lua_getiuservalue(L, 1, RESPONSE) != LUA_TTABLE)
        return 0; /* the connection */
    if (lua_isboolean(L, 2)) {
        lua_pushnil(L);
        lua_setiuservalue(L, 1, RESPONSE);
    }
    return 1;
}

/* --- opening -----------------------------------------------------------------
 */

void lcws_open_request(lua_State *L) {
    static const luaL_Reg methods[] = {
        {"header", request_header},
        {"respond", request_respond},
        {"check_upgrade", request_check_upgrade},
        {"offered_protocols", request_offered_protocols},
        {"same_origin", request_same_origin},
        {"switch", request_switch},
        {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__tostring", request_tostring},
                                    {NULL, NULL}};
    static const luaL_Reg functions[] = {
        {"upgrader", l_upgrader}, {"response", l_response}, {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
    lcws_new_class(L, LCWS_REQUEST, methods, meta);
    luaL_getmetatable(L, LCWS_REQUEST);
    lua_getfield(L, -1, "__index");
    lua_pushvalue(L, -1);
    lua_setfield(L, -4, "request");
    lua_pushcclosure(L, request_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}
