/*
 * testing_http.c - the parser of HTTP heads (proto/http.h), and what
 * proto/handshake.h makes of a head, for specs.
 *
 *   http = testing.http("request" or "response" [, { line =, header =,
 *                                                    fields = }])
 *   result, scanned = http:feed(bytes)    "more", "item" or "bad"
 *
 * The head moves to other memory, of exactly its size, at every call of feed.
 */
#include "testing.h"

#include <string.h>

#include "../proto/handshake.h"

#define HTTP "cws.testing.http"

struct testing_http {
    struct cws_http http;
    struct cws_request request;
    size_t len; /* of the head, the first user value; the second is the path */
};

static const char *const kinds[] = {"request", "response", NULL};

static struct testing_http *check(lua_State *L) {
    return luaL_checkudata(L, 1, HTTP);
}

static const char *head_of(lua_State *L) {
    lua_getiuservalue(L, 1, 1);
    const char *head = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return head;
}

static int push_result(lua_State *L, enum cws_parse result) {
    static const char *const names[] = {"bad", "more", "item"};
    lua_pushstring(L, names[result + 1]);
    return 1;
}

/* --- parsing -------------------------------------------------------------- */

static size_t limit(lua_State *L, const char *name, size_t otherwise) {
    if (!lua_istable(L, 2))
        return otherwise;
    lua_getfield(L, 2, name);
    size_t value = (size_t)luaL_optinteger(L, -1, (lua_Integer)otherwise);
    lua_pop(L, 1);
    return value;
}

static void init(lua_State *L, struct cws_http *http) {
    memset(http, 0, sizeof *http);
    http->response = luaL_checkoption(L, 1, NULL, kinds) == 1;
    http->limits =
        (struct cws_http_limits){limit(L, "line", CWS_HTTP_LINE_MAX),
                                 limit(L, "header", CWS_HTTP_HEADER_MAX),
                                 limit(L, "fields", CWS_HTTP_FIELDS_MAX)};
}

static int new_http(lua_State *L) {
    struct testing_http *self = lua_newuserdatauv(L, sizeof *self, 2);
    memset(self, 0, sizeof *self);
    init(L, &self->http);
    luaL_setmetatable(L, HTTP);
    return 1;
}

static int feed(lua_State *L) {
    size_t n;
    struct testing_http *self = check(L);
    const char *bytes = luaL_checklstring(L, 2, &n);
    lua_getiuservalue(L, 1, 1);
    char *old = lua_touserdata(L, -1);
    char *head = lua_newuserdatauv(L, self->len + n, 0);
    if (old) {
        memcpy(head, old, self->len);
        memset(old, 0xDD, self->len);
    }
    memcpy(head + self->len, bytes, n);
    self->len += n;
    lua_setiuservalue(L, 1, 1);
    push_result(L, cws_http_parse(&self->http, head, self->len));
    lua_pushinteger(L, (lua_Integer)self->http.scanned);
    return 2;
}

/* http_bytewise(kind, limits, bytes) -> result: as feed, byte by byte, but in
 * one place, so that its time is the parser's. */
static int bytewise(lua_State *L) {
    struct cws_http http;
    enum cws_parse result = CWS_MORE;
    struct cws_span bytes = cws_testing_span(L, 3);
    init(L, &http);
    for (size_t n = 1; n <= bytes.len && result == CWS_MORE; n++)
        result = cws_http_parse(&http, bytes.data, n);
    return push_result(L, result);
}

/* --- the result ----------------------------------------------------------- */

static void set_span(lua_State *L, const char *name, struct cws_span span) {
    cws_testing_push(L, span);
    lua_setfield(L, -2, name);
}

static void set_part(lua_State *L, const char *name, const char *head,
                     struct cws_http_part part) {
    set_span(L, name, cws_http_span(head, part));
}

static void set_integer(lua_State *L, const char *name, lua_Integer n) {
    lua_pushinteger(L, n);
    lua_setfield(L, -2, name);
}

/* { name, value, name, value... } */
static void set_fields(lua_State *L, const struct cws_http *http,
                       const char *head) {
    lua_newtable(L);
    for (size_t i = 0; i < http->field_count; i++) {
        const struct cws_http_field *field = &http->fields[i];
        cws_testing_push(L, cws_http_span(head, field->name));
        lua_rawseti(L, -2, (lua_Integer)(2 * i + 1));
        cws_testing_push(L, cws_http_span(head, field->value));
        lua_rawseti(L, -2, (lua_Integer)(2 * i + 2));
    }
    lua_setfield(L, -2, "fields");
}

/* http:head() -> table, after "item" */
static int head_table(lua_State *L) {
    const struct cws_http *http = &check(L)->http;
    const char *head = head_of(L);
    lua_newtable(L);
    set_fields(L, http, head);
    set_integer(L, "minor", http->minor);
    set_integer(L, "size", (lua_Integer)http->size);
    if (http->response) {
        set_integer(L, "status", http->status);
        set_part(L, "reason", head, http->reason);
    } else {
        set_part(L, "method", head, http->method);
        set_part(L, "target", head, http->target);
    }
    return 1;
}

/* http:failure() -> status, text, after "bad" */
static int failure(lua_State *L) {
    const struct cws_http *http = &check(L)->http;
    lua_pushinteger(L, http->fail_status);
    lua_pushstring(L, http->fail_text);
    return 2;
}

/* http:find(name, n) -> value, or nil */
static int find(lua_State *L) {
    const struct cws_http *http = &check(L)->http;
    const char *head = head_of(L);
    const struct cws_http_field *field = cws_http_find(
        http, head, luaL_checkstring(L, 2), (size_t)luaL_optinteger(L, 3, 0));
    if (!field)
        return 0;
    cws_testing_push(L, cws_http_span(head, field->value));
    return 1;
}

/* http:has_token(name, token) */
static int has_token(lua_State *L) {
    lua_pushboolean(L, cws_http_has_token(&check(L)->http, head_of(L),
                                          luaL_checkstring(L, 2),
                                          luaL_checkstring(L, 3)));
    return 1;
}

/* --- the handshake -------------------------------------------------------- */

/* The status and why. */
static int push_refusal(lua_State *L, int status, const char *why) {
    lua_pushinteger(L, status);
    lua_pushstring(L, why);
    return 2;
}

static void push_request(lua_State *L, const struct cws_request *request) {
    lua_newtable(L);
    set_span(L, "method", request->method);
    set_span(L, "target", request->target);
    set_span(L, "path", request->path);
    set_span(L, "query", request->query);
    set_span(L, "host", request->host);
    lua_pushboolean(L, request->head_only);
    lua_setfield(L, -2, "head_only");
    lua_pushboolean(L, request->wants_upgrade);
    lua_setfield(L, -2, "wants_upgrade");
}

/* http:request() -> table, or status and why */
static int request(lua_State *L) {
    struct testing_http *self = check(L);
    const char *why = NULL;
    char *path = lua_newuserdatauv(L, self->http.target.len + 1, 0);
    lua_setiuservalue(L, 1, 2);
    memset(&self->request, 0xEE, sizeof self->request);
    int status = cws_handshake_request(&self->http, head_of(L), path,
                                       &self->request, &why);
    if (status)
        return push_refusal(L, status, why);
    push_request(L, &self->request);
    return 1;
}

static struct cws_span buf_span(const struct cws_buf *b) {
    size_t len = cws_buf_len(b);
    struct cws_span span = {len ? (const char *)cws_buf_bytes(b) : "", len};
    return span;
}

/* http:upgrade() -> table, or status and why */
static int upgrade(lua_State *L) {
    struct testing_http *self = check(L);
    struct cws_upgrade out;
    const char *why = NULL;
    int status = cws_handshake_upgrade(&self->http, head_of(L), &out, &why);
    if (status) {
        cws_upgrade_free(&out);
        return push_refusal(L, status, why);
    }
    lua_newtable(L);
    set_span(L, "key", out.key);
    set_span(L, "origin", out.origin);
    set_span(L, "protocols", buf_span(&out.protocols));
    set_span(L, "extensions", buf_span(&out.extensions));
    cws_upgrade_free(&out);
    return 1;
}

/* http:check_response({ key =, protocols = }) -> protocol, extensions, or
 * nil, the kind, and why */
static int check_response(lua_State *L) {
    struct testing_http *self = check(L);
    luaL_checktype(L, 2, LUA_TTABLE);
    struct cws_handshake_offer offer = {
        .key = cws_testing_field(L, 2, "key"),
        .protocols = cws_testing_field(L, 2, "protocols")};
    struct cws_span protocol;
    struct cws_buf extensions = {0};
    const char *why = NULL;
    int err = cws_handshake_check_response(&self->http, head_of(L), &offer,
                                           &protocol, &extensions, &why);
    if (err < 0) {
        cws_buf_free(&extensions);
        cws_testing_error(L, err);
        lua_pushstring(L, why);
        return 3;
    }
    cws_testing_push(L, protocol);
    return 1 + cws_testing_result(L, &extensions, 0);
}

/* --- characters and texts ------------------------------------------------- */

static int is_token(lua_State *L) {
    struct cws_span text = cws_testing_span(L, 1);
    lua_pushboolean(L, cws_http_is_token(text.data, text.len));
    return 1;
}

static int is_value(lua_State *L) {
    struct cws_span text = cws_testing_span(L, 1);
    lua_pushboolean(L, cws_http_is_value(text.data, text.len));
    return 1;
}

static int equal(lua_State *L) {
    struct cws_span text = cws_testing_span(L, 1);
    lua_pushboolean(L, cws_http_equal(text, luaL_checkstring(L, 2)));
    return 1;
}

/* http_list(text) -> its elements; false in the place of a malformed one */
static int list(lua_State *L) {
    struct cws_span text = cws_testing_span(L, 1);
    struct cws_span element;
    size_t at = 0;
    enum cws_parse result;
    lua_newtable(L);
    while ((result = cws_http_list_next(text, &at, &element)) != CWS_MORE) {
        if (result == CWS_ITEM)
            cws_testing_push(L, element);
        else
            lua_pushboolean(L, false);
        lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    }
    return 1;
}

static int reason(lua_State *L) {
    lua_pushstring(L, cws_http_reason((int)luaL_checkinteger(L, 1)));
    return 1;
}

static int date(lua_State *L) {
    char out[30];
    cws_http_date(luaL_checkinteger(L, 1), out);
    lua_pushstring(L, out);
    return 1;
}

/* --- opening -------------------------------------------------------------- */

static const luaL_Reg methods[] = {{"feed", feed},
                                   {"head", head_table},
                                   {"failure", failure},
                                   {"find", find},
                                   {"has_token", has_token},
                                   {"request", request},
                                   {"upgrade", upgrade},
                                   {"check_response", check_response},
                                   {NULL, NULL}};

static const luaL_Reg functions[] = {{"http", new_http},
                                     {"http_bytewise", bytewise},
                                     {"is_token", is_token},
                                     {"is_value", is_value},
                                     {"http_equal", equal},
                                     {"http_list", list},
                                     {"http_reason", reason},
                                     {"http_date", date},
                                     {NULL, NULL}};

void cws_testing_open_http(lua_State *L) {
    luaL_newmetatable(L, HTTP);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_setfuncs(L, functions, 0);
}
