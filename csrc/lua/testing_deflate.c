/*
 * testing_deflate.c - permessage-deflate (proto/deflate.h) for specs.
 *
 *   pool = testing.deflate_pool()
 *   d = testing.deflate(role, pool [, { server_no_context_takeover =,
 *       client_no_context_takeover =, server_max_window_bits =,
 *       client_max_window_bits =, level =, memory = }])
 *   bytes = d:compress(data [, last]), or nil and the kind of the error
 *   data, result, used = d:expand(bytes [, last [, room]])
 *
 * `last` is true by default. `result` of expand is "item" or "more"; for bad
 * data it gives nil and the kind of the error. Input lies in memory of exactly
 * its size. Where memory is out for the object itself it gives nil, "memory".
 */
#include "testing.h"

#define DEFLATE "cws.testing.deflate"
#define POOL "cws.testing.deflate_pool"

/* The user value of a testing_deflate keeps its pool. */
struct testing_deflate {
    struct cws_deflate *deflate;
};

struct testing_pool {
    struct cws_deflate_pool *pool;
};

/* --- parameters ---------------------------------------------------------- */

static int int_field(lua_State *L, int table, const char *name, int otherwise) {
    lua_getfield(L, table, name);
    int value = (int)luaL_optinteger(L, -1, otherwise);
    lua_pop(L, 1);
    return value;
}

struct cws_deflate_config cws_testing_deflate_config(lua_State *L, int index,
                                                     enum cws_role role) {
    struct cws_deflate_config config = {
        .params = cws_testing_params(L, index),
        .role = role,
        .level = int_field(L, index, "level", -1),
        .memory_level = int_field(L, index, "memory", 8)};
    return config;
}

/* --- pools --------------------------------------------------------------- */

static int new_pool(lua_State *L) {
    struct testing_pool *self = lua_newuserdatauv(L, sizeof *self, 0);
    self->pool = NULL;
    luaL_setmetatable(L, POOL);
    self->pool = cws_deflate_pool_new();
    return self->pool ? 1 : cws_testing_error(L, CWS_EMEMORY);
}

static int free_pool(lua_State *L) {
    struct testing_pool *self = luaL_checkudata(L, 1, POOL);
    cws_deflate_pool_free(self->pool);
    self->pool = NULL;
    return 0;
}

/* --- one end ------------------------------------------------------------- */

static struct cws_deflate *check(lua_State *L) {
    struct testing_deflate *self = luaL_checkudata(L, 1, DEFLATE);
    luaL_argcheck(L, self->deflate, 1, "freed");
    return self->deflate;
}

static int new_deflate(lua_State *L) {
    static const char *const roles[] = {"server", "client", NULL};
    enum cws_role role = (enum cws_role)luaL_checkoption(L, 1, NULL, roles);
    struct testing_pool *pool = luaL_checkudata(L, 2, POOL);
    lua_settop(L, 3);
    if (lua_isnil(L, 3)) {
        lua_newtable(L);
        lua_replace(L, 3);
    }
    struct cws_deflate_config config = cws_testing_deflate_config(L, 3, role);
    struct testing_deflate *self = lua_newuserdatauv(L, sizeof *self, 1);
    self->deflate = NULL;
    luaL_setmetatable(L, DEFLATE);
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, -2, 1);
    self->deflate = cws_deflate_new(&config, pool->pool);
    return self->deflate ? 1 : cws_testing_error(L, CWS_EMEMORY);
}

static int free_deflate(lua_State *L) {
    struct testing_deflate *self = luaL_checkudata(L, 1, DEFLATE);
    cws_deflate_free(self->deflate);
    self->deflate = NULL;
    return 0;
}

static bool last_argument(lua_State *L) {
    return lua_isnoneornil(L, 3) || lua_toboolean(L, 3);
}

static int compress(lua_State *L) {
    struct cws_deflate *d = check(L);
    bool last = last_argument(L);
    struct cws_span data = cws_testing_span(L, 2);
    struct cws_buf out = {0};
    int err = cws_deflate_compress(d, (const uint8_t *)data.data, data.len,
                                   last, &out);
    return cws_testing_result(L, &out, err);
}

static int expand(lua_State *L) {
    struct cws_deflate *d = check(L);
    bool last = last_argument(L);
    size_t room = (size_t)luaL_optinteger(L, 4, PTRDIFF_MAX);
    struct cws_span input = cws_testing_span(L, 2);
    const uint8_t *data = (const uint8_t *)input.data;
    size_t left = input.len;
    struct cws_buf out = {0};
    enum cws_parse result =
        cws_deflate_expand(d, &data, &left, last, &out, room);
    bool bad = result == CWS_BAD;
    int n = cws_testing_result(L, &out, bad ? (int)cws_deflate_error(d) : 0);
    if (bad)
        return n;
    lua_pushstring(L, result == CWS_ITEM ? "item" : "more");
    lua_pushinteger(L, (lua_Integer)(input.len - left));
    return 3;
}

static int memory(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)cws_deflate_memory(check(L)));
    return 1;
}

static int available(lua_State *L) {
    lua_pushboolean(L, cws_deflate_available());
    return 1;
}

static int version(lua_State *L) {
    lua_pushstring(L, cws_deflate_version());
    return 1;
}

static const luaL_Reg methods[] = {{"compress", compress},
                                   {"expand", expand},
                                   {"memory", memory},
                                   {"free", free_deflate},
                                   {NULL, NULL}};

static const luaL_Reg functions[] = {{"deflate", new_deflate},
                                     {"deflate_pool", new_pool},
                                     {"deflate_available", available},
                                     {"deflate_version", version},
                                     {NULL, NULL}};

void cws_testing_open_deflate(lua_State *L) {
    luaL_newmetatable(L, POOL);
    lua_pushcfunction(L, free_pool);
    lua_setfield(L, -2, "__gc");
    luaL_newmetatable(L, DEFLATE);
    lua_pushcfunction(L, free_deflate);
    lua_setfield(L, -2, "__gc");
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 2);
    luaL_setfuncs(L, functions, 0);
}
