/*
 * testing_shared.c - how the parts of cws.testing take spans and give results.
 */
#include "testing.h"

#include <string.h>

struct cws_span cws_testing_span(lua_State *L, int index) {
    struct cws_span span = {NULL, 0};
    if (lua_isnoneornil(L, index))
        return span;
    index = lua_absindex(L, index);
    const char *text = luaL_checklstring(L, index, &span.len);
    char *copy = lua_newuserdatauv(L, span.len, 0);
    memcpy(copy, text, span.len);
    lua_replace(L, index);
    span.data = copy;
    return span;
}

struct cws_span cws_testing_field(lua_State *L, int index, const char *name) {
    luaL_checkstack(L, 4, NULL);
    lua_getfield(L, index, name);
    return cws_testing_span(L, -1);
}

int cws_testing_error(lua_State *L, int err) {
    lua_pushnil(L);
    lua_pushstring(L, cws_err_kind((enum cws_err)err));
    return 2;
}

void cws_testing_push(lua_State *L, struct cws_span span) {
    if (span.data)
        lua_pushlstring(L, span.data, span.len);
    else
        lua_pushnil(L);
}

int cws_testing_result(lua_State *L, struct cws_buf *b, int err) {
    if (err >= 0 && cws_buf_len(b))
        lua_pushlstring(L, (const char *)cws_buf_bytes(b), cws_buf_len(b));
    else if (err >= 0)
        lua_pushliteral(L, "");
    cws_buf_free(b);
    return err < 0 ? cws_testing_error(L, err) : 1;
}
