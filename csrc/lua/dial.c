/*
 * dial.c - core.connect: the client's side of the opening handshake as an
 * operation that waits.
 */
#include "binding.h"

#include <math.h>
#include <string.h>

#include "../net/dial.h"
#include "fields.h"

#define LCWS_DIALING "cws.dialing"

/* A connect under way: a userdata on the stack of its coroutine. Its outcome is
 * copied in the callback and turned into Lua values by the next attempt. */
struct dialing {
    struct lcws *s;
    struct cws_dial *dial; /* NULL: over */
    struct cws_conn *conn; /* success, until the ws userdata has it */
    bool done;
    bool refused; /* the server answered, and `head` holds it */
    struct cws_error error;
    struct cws_http http;
    struct cws_buf head;
    struct cws_buf body;
    struct cws_buf protocol;
    struct cws_link waiters; /* struct lcws_wait */
};

/* --- the callback --------------------------------------------------------- */

static void keep_answer(struct dialing *d, struct cws_dial *dial) {
    const char *head;
    const struct cws_http *http = cws_dial_response(dial, &head);
    struct cws_span body = cws_dial_body(dial);
    struct cws_span protocol = cws_dial_protocol(dial);
    if (!http)
        return;
    if (cws_buf_append(&d->head, head, http->size) < 0 ||
        cws_buf_append(&d->body, body.data, body.len) < 0 ||
        cws_buf_append(&d->protocol, protocol.data, protocol.len) < 0)
        return; /* the outcome without its answer */
    d->http = *http;
    d->refused = true;
}

static void on_done(struct cws_dial *dial, struct cws_conn *conn,
                    const struct cws_error *error, void *user) {
    struct dialing *d = user;
    keep_answer(d, dial);
    d->dial = NULL;
    d->conn = conn;
    d->done = true;
    if (error)
        d->error = *error;
    lcws_wake_all(&d->waiters);
}

static const struct cws_dial_events events = {on_done};

static int dialing_gc(lua_State *L) {
    struct dialing *d = lua_touserdata(L, 1);
    if (lcws_own_loop(d->s)) {
        cws_dial_cancel(d->dial);
        if (d->conn)
            cws_conn_release(d->conn);
        /* a coroutine that the program closed left its wait behind */
        lcws_wake_all(&d->waiters);
    }
    d->dial = NULL;
    d->conn = NULL;
    cws_buf_free(&d->head);
    cws_buf_free(&d->body);
    cws_buf_free(&d->protocol);
    return 0;
}

/* --- results -------------------------------------------------------------- */

static const char *bytes(const struct cws_buf *b) {
    return cws_buf_len(b) ? (const char *)cws_buf_bytes(b) : "";
}

/* {status, reason, headers, body} */
static void push_response(lua_State *L, const struct dialing *d) {
    const char *head = bytes(&d->head);
    struct cws_span reason = cws_http_span(head, d->http.reason);
    lua_createtable(L, 0, 4);
    lua_pushinteger(L, d->http.status);
    lua_setfield(L, -2, "status");
    lua_pushlstring(L, reason.data, reason.len);
    lua_setfield(L, -2, "reason");
    lcws_push_headers(L, &d->http, head);
    lua_setfield(L, -2, "headers");
    lua_pushlstring(L, bytes(&d->body), cws_buf_len(&d->body));
    lua_setfield(L, -2, "body");
}

static int failed(lua_State *L, const struct dialing *d) {
    int n = lcws_fail_error(L, &d->error);
    if (!d->refused || d->error.err != CWS_EHANDSHAKE)
        return n;
    if (n == 3) {
        lua_pushinteger(L, d->http.status);
        n = 4;
    }
    push_response(L, d);
    return n + 1;
}

static int succeeded(lua_State *L, struct dialing *d) {
    struct cws_span protocol = {bytes(&d->protocol), cws_buf_len(&d->protocol)};
    struct lcws_ws *ws = lcws_ws_new(L, d->s);
    push_response(L, d);
    struct cws_conn *conn = d->conn;
    d->conn = NULL;
    lcws_ws_set(L, -2, ws, conn, protocol);
    return 2;
}

/* 1 the dialing. */
static int connect_attempt(lua_State *L, struct lcws *s) {
    struct dialing *d = lua_touserdata(L, 1);
    (void)s;
    if (!d->done)
        return -1;
    return d->conn ? succeeded(L, d) : failed(L, d);
}

static void connect_arm(lua_State *L, struct lcws_wait *wait) {
    struct dialing *d = lua_touserdata(L, 1);
    cws_link_append(&d->waiters, &wait->link);
}

/* Given up (a cancelled task): the socket goes at once. */
static void connect_abandon(lua_State *L) {
    struct dialing *d = lua_touserdata(L, 1);
    cws_dial_cancel(d->dial);
    d->dial = NULL;
    if (d->conn)
        cws_conn_release(d->conn);
    d->conn = NULL;
}

static const struct lcws_op connect_op = {.name = "connect",
                                          .attempt = connect_attempt,
                                          .arm = connect_arm,
                                          .abandon = connect_abandon};

/* --- connect -------------------------------------------------------------- */

/* Raises unless it is a list of different tokens (RFC 6455 4.1 (10)); pushes
 * them joined by ", ". */
static void push_protocols(lua_State *L, int arg) {
    luaL_Buffer b;
    if (lua_isnoneornil(L, arg)) {
        lua_pushliteral(L, "");
        return;
    }
    luaL_checktype(L, arg, LUA_TTABLE);
    lua_Integer count = luaL_len(L, arg);
    lua_newtable(L); /* seen */
    int seen = lua_gettop(L);
    for (lua_Integer i = 1; i <= count; i++) {
        size_t len = 0;
        lua_geti(L, arg, i);
        const char *name =
            lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;
        if (!name || !cws_http_is_token(name, len))
            luaL_error(L, "bad option 'protocols' to 'connect' (list of tokens "
                          "expected)");
        if (lua_pushvalue(L, -1), lua_rawget(L, seen) != LUA_TNIL)
            luaL_error(L,
                       "bad option 'protocols' to 'connect' ('%s' is there "
                       "twice)",
                       name);
        lua_pop(L, 1);
        lua_pushboolean(L, 1);
        lua_rawset(L, seen);
    }
    luaL_buffinit(L, &b);
    for (lua_Integer i = 1; i <= count; i++) {
        if (i > 1)
            luaL_addstring(&b, ", ");
        lua_geti(L, arg, i);
        luaL_addvalue(&b);
    }
    luaL_pushresult(&b);
    lua_remove(L, seen);
}

static void check_url(lua_State *L, int arg) {
    size_t len;
    struct cws_url url;
    luaL_checktype(L, arg, LUA_TSTRING);
    const char *text = lua_tolstring(L, arg, &len);
    const char *why = cws_url_parse(text, len, false, &url);
    if (why)
        luaL_argerror(
            L, arg,
            lua_pushfstring(L, "ws:// or wss:// URL expected: %s", why));
}

static struct cws_span span_at(lua_State *L, int index) {
    struct cws_span span;
    span.data = lua_tolstring(L, index, &span.len);
    return span;
}

static struct dialing *new_dialing(lua_State *L, struct lcws *s) {
    struct dialing *d = lua_newuserdatauv(L, sizeof *d, 0);
    memset(d, 0, sizeof *d);
    d->s = s;
    cws_link_init(&d->waiters);
    luaL_setmetatable(L, LCWS_DIALING);
    return d;
}

/* url, protocols, fields, options */
static int l_connect(lua_State *L) {
    lua_settop(L, 4);
    check_url(L, 1);
    push_protocols(L, 2);              /* 5 */
    lcws_push_fields(L, 3, "connect"); /* 6 */
    struct lcws *s = lcws_get(L);
    struct dialing *d = new_dialing(L, s); /* 7 */
    struct cws_options *options = lcws_check_options(L, 4, "connect", NULL);
    struct cws_dial_start start = {.protocols = span_at(L, 5),
                                   .fields = span_at(L, 6),
                                   .options = options,
                                   .events = &lcws_ws_events};
    start.url = lua_tolstring(L, 1, &start.url_len);
    d->dial = cws_dial_start(s->loop, &start, &events, d);
    cws_options_drop(options);
    if (!d->dial)
        return luaL_error(L, "not enough memory");
    lua_replace(L, 1);
    lua_settop(L, 1);
    return lcws_perform(L, &connect_op, INFINITY);
}

void lcws_open_dial(lua_State *L) {
    static const luaL_Reg none[] = {{NULL, NULL}};
    static const luaL_Reg meta[] = {{"__gc", dialing_gc}, {NULL, NULL}};
    static const luaL_Reg functions[] = {{"connect", l_connect}, {NULL, NULL}};
    lcws_new_class(L, LCWS_DIALING, none, meta);
    luaL_setfuncs(L, functions, 0);
}
