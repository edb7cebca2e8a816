/*
 * testing_extension.c - proto/extension.h for specs. Parameters are a table
 * with the names of struct cws_deflate_params.
 */
#include "testing.h"

#include <string.h>

#include "../proto/extension.h"

static bool flag(lua_State *L, int index, const char *name) {
    lua_getfield(L, index, name);
    bool is = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return is;
}

static uint8_t bits(lua_State *L, int index, const char *name) {
    lua_getfield(L, index, name);
    uint8_t n = (uint8_t)luaL_optinteger(L, -1, 15);
    lua_pop(L, 1);
    return n;
}

struct cws_deflate_params cws_testing_params(lua_State *L, int index) {
    luaL_checktype(L, index, LUA_TTABLE);
    struct cws_deflate_params p = {
        .server_no_context_takeover =
            flag(L, index, "server_no_context_takeover"),
        .client_no_context_takeover =
            flag(L, index, "client_no_context_takeover"),
        .server_max_window_bits = bits(L, index, "server_max_window_bits"),
        .client_max_window_bits = bits(L, index, "client_max_window_bits")};
    return p;
}

static void push_params(lua_State *L, const struct cws_deflate_params *p) {
    lua_createtable(L, 0, 4);
    lua_pushboolean(L, p->server_no_context_takeover);
    lua_setfield(L, -2, "server_no_context_takeover");
    lua_pushboolean(L, p->client_no_context_takeover);
    lua_setfield(L, -2, "client_no_context_takeover");
    lua_pushinteger(L, p->server_max_window_bits);
    lua_setfield(L, -2, "server_max_window_bits");
    lua_pushinteger(L, p->client_max_window_bits);
    lua_setfield(L, -2, "client_max_window_bits");
}

static int valid(lua_State *L) {
    lua_pushboolean(L, cws_extension_valid(cws_testing_span(L, 1)));
    return 1;
}

/* extension_negotiate(list, mine) -> the answer and what was agreed, or nil,
 * with the kind when memory is out */
static int negotiate(lua_State *L) {
    struct cws_span list = cws_testing_span(L, 1);
    struct cws_deflate_params mine = cws_testing_params(L, 2), agreed;
    memset(&agreed, 0xEE, sizeof agreed);
    if (!cws_extension_negotiate(list, &mine, &agreed))
        return 0;
    struct cws_buf out = {0};
    int err = cws_extension_write_answer(&agreed, &out);
    int n = cws_testing_result(L, &out, err);
    if (err < 0)
        return n;
    push_params(L, &agreed);
    return 2;
}

/* extension_offer(wish) -> the field's value, or nil and the kind */
static int offer(lua_State *L) {
    struct cws_buf out = {0};
    struct cws_deflate_params wish = cws_testing_params(L, 1);
    return cws_testing_result(L, &out, cws_extension_write_offer(&wish, &out));
}

/* extension_check(list, offered or nil) -> what was agreed, false for nothing,
 * or nil, the kind, and why */
static int check_answer(lua_State *L) {
    struct cws_span list = cws_testing_span(L, 1);
    struct cws_deflate_params offered, agreed;
    const char *why = NULL;
    bool offers = !lua_isnoneornil(L, 2);
    memset(&agreed, 0xEE, sizeof agreed);
    if (offers)
        offered = cws_testing_params(L, 2);
    int n = cws_extension_check_answer(list, offers ? &offered : NULL, &agreed,
                                       &why);
    if (n < 0) {
        cws_testing_error(L, n);
        lua_pushstring(L, why);
        return 3;
    }
    if (n > 0)
        push_params(L, &agreed);
    else
        lua_pushboolean(L, false);
    return 1;
}

void cws_testing_open_extension(lua_State *L) {
    static const luaL_Reg functions[] = {{"extension_valid", valid},
                                         {"extension_negotiate", negotiate},
                                         {"extension_offer", offer},
                                         {"extension_check", check_answer},
                                         {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
