#include "fields.h"

#include "../proto/handshake.h"

#define LCWS_HEADERS "cws.headers"

/* --- from Lua ------------------------------------------------------------- */

static void add_field(lua_State *L, int arg, lua_Integer i, const char *what) {
    size_t name_len, value_len;
    lua_geti(L, arg, i);
    lua_geti(L, arg, i + 1);
    const char *name = luaL_tolstring(L, -2, &name_len);
    const char *value = luaL_tolstring(L, -2, &value_len);
    struct cws_span span = {name, name_len};
    if (lua_type(L, -4) != LUA_TSTRING || !cws_http_is_token(name, name_len))
        luaL_error(L, "bad header name to '%s' (token expected)", what);
    if (cws_handshake_reserved(span))
        luaL_error(L, "bad header '%s' to '%s' (cws sets it itself)", name,
                   what);
    if ((lua_type(L, -3) != LUA_TSTRING && lua_type(L, -3) != LUA_TNUMBER) ||
        !cws_http_is_value(value, value_len))
        luaL_error(L,
                   "bad value of header '%s' to '%s' (string without "
                   "control bytes expected)",
                   name, what);
    lua_pushfstring(L, "%s: %s\r\n", name, value);
    lua_replace(L, -5);
    lua_pop(L, 3);
}

void lcws_push_fields(lua_State *L, int arg, const char *what) {
    if (lua_isnoneornil(L, arg)) {
        lua_pushliteral(L, "");
        return;
    }
    luaL_checktype(L, arg, LUA_TTABLE);
    lua_Integer count = luaL_len(L, arg);
    luaL_checkstack(L, 8, NULL);
    lua_pushliteral(L, "");
    for (lua_Integer i = 1; i + 1 <= count; i += 2) {
        add_field(L, arg, i, what);
        lua_concat(L, 2);
    }
}

/* --- to Lua --------------------------------------------------------------- */

static void push_lower(lua_State *L, const char *text, size_t len) {
    luaL_Buffer b;
    char *out = luaL_buffinitsize(L, &b, len);
    for (size_t i = 0; i < len; i++)
        out[i] =
            text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] | 0x20) : text[i];
    luaL_pushresultsize(&b, len);
}

void lcws_push_header(lua_State *L, const struct cws_http *http,
                      const char *head, const char *name) {
    const struct cws_http_field *field = cws_http_find(http, head, name, 0);
    if (!field) {
        lua_pushnil(L);
        return;
    }
    struct cws_span value = cws_http_span(head, field->value);
    lua_pushlstring(L, value.data, value.len);
    for (size_t n = 1; (field = cws_http_find(http, head, name, n)); n++) {
        value = cws_http_span(head, field->value);
        lua_pushliteral(L, ", ");
        lua_pushlstring(L, value.data, value.len);
        lua_concat(L, 3);
    }
}

void lcws_push_headers(lua_State *L, const struct cws_http *http,
                       const char *head) {
    lua_createtable(L, 0, (int)http->field_count);
    for (size_t i = 0; i < http->field_count; i++) {
        struct cws_span name = cws_http_span(head, http->fields[i].name);
        struct cws_span value = cws_http_span(head, http->fields[i].value);
        push_lower(L, name.data, name.len);
        lua_pushvalue(L, -1);
        if (lua_rawget(L, -3) == LUA_TSTRING) {
            lua_pushliteral(L, ", ");
            lua_pushlstring(L, value.data, value.len);
            lua_concat(L, 3);
        } else {
            lua_pop(L, 1);
            lua_pushlstring(L, value.data, value.len);
        }
        lua_rawset(L, -3);
    }
    luaL_setmetatable(L, LCWS_HEADERS);
}

/* headers["Content-Type"] finds "content-type". */
static int headers_index(lua_State *L) {
    size_t len;
    if (lua_type(L, 2) != LUA_TSTRING)
        return 0;
    const char *name = lua_tolstring(L, 2, &len);
    push_lower(L, name, len);
    lua_rawget(L, 1);
    return 1;
}

void lcws_open_fields(lua_State *L) {
    luaL_newmetatable(L, LCWS_HEADERS);
    lua_pushcfunction(L, headers_index);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}
