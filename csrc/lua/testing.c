/*
 * testing.c - cws.testing: layer 1 for the specs. Never installed. Each
 * testing_NAME.c opens the functions for its part of layer 1.
 */
#include <lauxlib.h>
#include <lua.h>

#include "../cws.h"
#include "testing.h"

#ifdef __GLIBC__
#include <malloc.h>
#if __GLIBC_PREREQ(2, 33)
#define HAVE_MALLINFO2
#endif
#endif

/* alloc_fail(n [, all]): the n-th allocation from now on fails (0: none), and
 * all later ones. Returns how many were asked for since the last call. */
static int alloc_fail(lua_State *L) {
    lua_Integer n = luaL_checkinteger(L, 1);
    luaL_argcheck(L, n >= 0, 1, "count expected");
    size_t asked = cws_alloc_fail((size_t)n, lua_toboolean(L, 2));
    lua_pushinteger(L, (lua_Integer)asked);
    return 1;
}

/* memory_used() -> bytes that malloc has given out and not got back (those of
 * Lua too), or nil where nobody says: no pages, no gaps, no chance. */
static int memory_used(lua_State *L) {
#ifdef HAVE_MALLINFO2
    struct mallinfo2 info = mallinfo2();
    lua_pushinteger(L, (lua_Integer)(info.uordblks + info.hblkhd));
#else
    lua_pushnil(L);
#endif
    return 1;
}

__attribute__((visibility("default"))) int luaopen_cws_testing(lua_State *L);

int luaopen_cws_testing(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"alloc_fail", alloc_fail}, {"memory_used", memory_used}, {NULL, NULL}};
    luaL_newlib(L, functions);
    cws_testing_open_base(L);
    cws_testing_open_deflate(L);
    cws_testing_open_extension(L);
    cws_testing_open_handshake(L);
    cws_testing_open_http(L);
    cws_testing_open_loop(L);
    cws_testing_open_process(L);
    cws_testing_open_session(L);
    cws_testing_open_socket(L);
    return 1;
}
