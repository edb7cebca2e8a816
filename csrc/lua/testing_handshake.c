/*
 * testing_handshake.c - what proto/handshake.h writes, and its smaller
 * decisions, for specs. What it makes of a head is in testing_http.c.
 */
#include "testing.h"

#include "../proto/handshake.h"

/* same_origin(origin or nil, host) */
static int same_origin(lua_State *L) {
    struct cws_span origin = cws_testing_span(L, 1);
    struct cws_span host = cws_testing_span(L, 2);
    lua_pushboolean(L, cws_handshake_same_origin(origin, host));
    return 1;
}

static int reserved(lua_State *L) {
    lua_pushboolean(L, cws_handshake_reserved(cws_testing_span(L, 1)));
    return 1;
}

static lua_Integer number(lua_State *L, const char *name) {
    lua_getfield(L, 1, name);
    lua_Integer n = luaL_optinteger(L, -1, 0);
    lua_pop(L, 1);
    return n;
}

/* write_101{ key =, protocol =, extension =, fields =, now = } -> head, or nil
 * and the kind */
static int write_101(lua_State *L) {
    struct cws_buf out = {0};
    lua_settop(L, 1);
    int err = cws_handshake_write_101(&out, cws_testing_field(L, 1, "key"),
                                      cws_testing_field(L, 1, "protocol"),
                                      cws_testing_field(L, 1, "extension"),
                                      cws_testing_field(L, 1, "fields"),
                                      number(L, "now"));
    return cws_testing_result(L, &out, err);
}

/* write_response{ status =, fields =, length =, now = } likewise */
static int write_response(lua_State *L) {
    struct cws_buf out = {0};
    lua_settop(L, 1);
    int err = cws_handshake_write_response(
        &out, (int)number(L, "status"), cws_testing_field(L, 1, "fields"),
        (size_t)number(L, "length"), number(L, "now"));
    return cws_testing_result(L, &out, err);
}

/* write_request{ authority =, target =, key =, protocols =, extensions =,
 * fields = } likewise */
static int write_request(lua_State *L) {
    struct cws_buf out = {0};
    lua_settop(L, 1);
    struct cws_handshake_offer offer = {
        .authority = cws_testing_field(L, 1, "authority"),
        .target = cws_testing_field(L, 1, "target"),
        .key = cws_testing_field(L, 1, "key"),
        .protocols = cws_testing_field(L, 1, "protocols"),
        .extensions = cws_testing_field(L, 1, "extensions"),
        .fields = cws_testing_field(L, 1, "fields")};
    return cws_testing_result(L, &out,
                              cws_handshake_write_request(&out, &offer));
}

void cws_testing_open_handshake(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"same_origin", same_origin},     {"reserved", reserved},
        {"write_101", write_101},         {"write_response", write_response},
        {"write_request", write_request}, {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
