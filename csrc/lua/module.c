/*
 * module.c - luaopen_cws_core: puts the module together; versions, clocks and
 * what Lua needs of layer 1.
 */
#include "binding.h"

#include <openssl/crypto.h>
#include <pthread.h>
#include <time.h>

#include "../proto/crypto.h"
#include "../proto/deflate.h"
#include "../proto/http.h"
#include "../proto/utf8.h"
#include "fields.h"

#define LOG_LINE_MAX 512

static double loaded; /* monotonic seconds; of the first Lua state */
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* --- versions and clocks ------------------------------------------------- */

static int l_versions(lua_State *L) {
    lua_pushliteral(L, CWS_VERSION);
    lua_pushstring(L, &LUA_RELEASE[sizeof "Lua " - 1]);
    lua_pushfstring(L, "%d.%d", ev_version_major(), ev_version_minor());
    lua_pushstring(L, OpenSSL_version(OPENSSL_VERSION_STRING));
    lua_pushstring(L, cws_deflate_version());
    lua_pushstring(L, cws_utf8_implementation());
    return 6;
}

static void set_loaded(void) {
    loaded = lcws_clock();
}

static int l_now(lua_State *L) {
    lua_pushnumber(L, lcws_clock() - loaded);
    return 1;
}

static int l_time(lua_State *L) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    lua_pushinteger(L, t.tv_sec);
    lua_pushinteger(L, t.tv_nsec);
    return 2;
}

/* What is open, for tests that look for leaks: connections, requests, dials,
 * listeners and resolutions of the loop; and tasks. */
static int l_counts(lua_State *L) {
    struct lcws *s = lcws_peek(L);
    lua_pushinteger(L, s->loop ? (lua_Integer)s->loop->live : 0);
    lua_pushinteger(L, (lua_Integer)s->tasks);
    return 2;
}

/* fail("memory", n [, all]) lets the n-th allocation of layers 1 and 2 from now
 * on fail, and all later ones; fail("random", n) the next n reads of the random
 * generator. For the specs; returns how many allocations there were. */
static int l_fail(lua_State *L) {
    static const char *const names[] = {"memory", "random", NULL};
    bool random = luaL_checkoption(L, 1, NULL, names);
    lua_Integer n = luaL_checkinteger(L, 2);
    if (random)
        cws_crypto_fail((unsigned)n);
    else
        lua_pushinteger(
            L, (lua_Integer)cws_alloc_fail((size_t)n, lua_toboolean(L, 3)));
    return !random;
}

/* --- layer 1 ------------------------------------------------------------ */

static int l_reason(lua_State *L) {
    lua_pushstring(L, cws_http_reason((int)luaL_checkinteger(L, 1)));
    return 1;
}

static int l_escape(lua_State *L) {
    char line[LOG_LINE_MAX + 1];
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    lua_pushlstring(L, line, cws_escape(line, sizeof line, text, len, true));
    return 1;
}

static int l_is_token(lua_State *L) {
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    lua_pushboolean(L, cws_http_is_token(text, len));
    return 1;
}

static int l_is_value(lua_State *L) {
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    lua_pushboolean(L, cws_http_is_value(text, len));
    return 1;
}

/* --- opening ------------------------------------------------------------- */

__attribute__((visibility("default"))) int luaopen_cws_core(lua_State *L);

static const char module_key; /* registry: the module's table */

static void open_module(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"versions", l_versions}, {"now", l_now},
        {"time", l_time},         {"reason", l_reason},
        {"escape", l_escape},     {"is_token", l_is_token},
        {"is_value", l_is_value}, {"counts", l_counts},
        {"fail", l_fail},         {NULL, NULL}};
    (void)pthread_once(&once, set_loaded);
    struct lcws *s = lcws_open(L);
    luaL_newlib(L, functions);
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->hooks);
    lua_setfield(L, -2, "hooks");
    lcws_open_options(L);
    lcws_open_task(L);
    lcws_open_waiter(L);
    lcws_open_loop(L);
    lcws_open_signal(L);
    lcws_open_fields(L);
    lcws_open_ws(L);
    lcws_open_dial(L);
    lcws_open_request(L);
    lcws_open_server(L);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &module_key);
}

/* Loaded again (a test runner or a reloader cleared package.loaded), it is the
 * same module: what is open belongs to its state. */
int luaopen_cws_core(lua_State *L) {
    luaL_checkversion(L);
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &module_key) != LUA_TTABLE)
        open_module(L);
    return 1;
}
