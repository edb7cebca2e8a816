/*
 * aux.c - the state of cws in a Lua state, results, and calls into Lua.
 */
#include "binding.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

const char lcws_key; /* its address is the key in the registry */

/* --- the state ----------------------------------------------------------- */

struct cws_loop *lcws_own_loop(const struct lcws *s) {
    return s->loop && !cws_loop_forked(s->loop) ? s->loop : NULL;
}

void lcws_check_own(lua_State *L, const struct lcws *s) {
    if (s->loop && cws_loop_forked(s->loop))
        luaL_error(L, "cws: this process was forked from one that was using "
                      "cws, whose connections these are; start a new program "
                      "instead");
}

/* What a forked child leaves as it is. Only here so that looking for leaks
 * finds it. */
static struct cws_loop *volatile left;

static int close_state(lua_State *L) {
    struct lcws *s = lua_touserdata(L, 1);
    struct cws_loop *loop = lcws_own_loop(s);
    s->closed = true;
    cws_buf_free(&s->list);
    if (s->loop && !loop) {
        left = s->loop;
        s->loop = NULL;
        return 0;
    }
    lcws_signals_close(s);
    if (loop) {
        lcws_timers_close(s);
        lcws_tasks_close(s);
    }
    s->loop = NULL;
    if (loop)
        cws_loop_free(loop);
    return 0;
}

struct lcws *lcws_open(lua_State *L) {
    struct lcws *s = lua_newuserdatauv(L, sizeof *s, 0);
    memset(s, 0, sizeof *s);
    cws_link_init(&s->timers);
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    s->main = lua_tothread(L, -1);
    lua_pop(L, 1);
    lua_newtable(L);
    s->hooks = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_newtable(L);
    s->anchors = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushboolean(L, 0);
    s->checked_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_newtable(L);
    lua_pushcfunction(L, close_state);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &lcws_key);
    return s;
}

struct lcws *lcws_peek(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &lcws_key);
    struct lcws *s = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return s;
}

struct lcws *lcws_get(lua_State *L) {
    struct lcws *s = lcws_peek(L);
    if (s->closed)
        luaL_error(L, "cws: this Lua state is being closed");
    lcws_check_own(L, s);
    if (!s->loop) {
        s->loop = cws_loop_new(NULL);
        if (!s->loop)
            luaL_error(L, "not enough memory");
    }
    return s;
}

double lcws_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* --- results and errors -------------------------------------------------- */

static int push_failure(lua_State *L, enum cws_err err, int code,
                        const char *text) {
    luaL_checkstack(L, 4, NULL);
    lua_pushnil(L);
    lua_pushstring(L, text);
    lua_pushstring(L, cws_err_kind(err));
    if (code == 0)
        return 3;
    lua_pushinteger(L, code);
    return 4;
}

int lcws_fail_error(lua_State *L, const struct cws_error *error) {
    return push_failure(L, error->err, error->code, error->text);
}

int lcws_fail(lua_State *L, enum cws_err err, int code, const char *format,
              ...) {
    char text[200];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return push_failure(L, err, code, text);
}

int lcws_fail_timeout(lua_State *L) {
    return push_failure(L, CWS_ETIMEOUT, 0, "timeout");
}

double lcws_check_timeout(lua_State *L, int arg, double fallback) {
    if (lua_isnoneornil(L, arg))
        return fallback;
    luaL_checktype(L, arg, LUA_TNUMBER);
    double seconds = lua_tonumber(L, arg);
    /* a million years is a mistake in units; math.huge says "none" */
    if (!(seconds >= 0) || (seconds > 1e9 && isfinite(seconds)))
        luaL_argerror(L, arg, "seconds from 0 to 1e9, or math.huge, expected");
    return seconds;
}

uint8_t lcws_check_type(lua_State *L, int arg) {
    if (lua_isnoneornil(L, arg))
        return CWS_OP_TEXT;
    if (lua_type(L, arg) == LUA_TNUMBER) {
        int exact;
        lua_Integer n = lua_tointegerx(L, arg, &exact);
        if (exact && (n == CWS_OP_TEXT || n == CWS_OP_BINARY))
            return (uint8_t)n;
    } else if (lua_type(L, arg) == LUA_TSTRING) {
        const char *name = lua_tostring(L, arg);
        if (strcmp(name, "text") == 0)
            return CWS_OP_TEXT;
        if (strcmp(name, "binary") == 0)
            return CWS_OP_BINARY;
    }
    luaL_argerror(L, arg, "\"text\", \"binary\", 1 or 2 expected");
    return 0;
}

/* --- calling Lua from callbacks ------------------------------------------ */

/* With a loop of the program's own nobody told us who runs it. */
lua_State *lcws_stack(const struct lcws *s) {
    return s->running ? s->running : s->main;
}

static int add_traceback(lua_State *L) {
    const char *text = luaL_tolstring(L, 1, NULL);
    luaL_traceback(L, L, text, 1);
    return 1;
}

void lcws_push_hook(lua_State *L, struct lcws *s, const char *name) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->hooks);
    lua_getfield(L, -1, name);
    lua_remove(L, -2);
}

static int call_log(lua_State *L) {
    struct lcws *s = lcws_peek(L);
    lcws_push_hook(L, s, "log");
    lua_pushstring(L, lua_touserdata(L, 1));
    if (lua_isfunction(L, -2))
        lua_call(L, 1, 0);
    else
        fprintf(stderr, "%s\n", (const char *)lua_touserdata(L, 1));
    return 0;
}

void lcws_log(struct lcws *s, const char *format, ...) {
    char line[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    lua_State *L = lcws_stack(s);
    if (!lua_checkstack(L, 4))
        return;
    lua_pushcfunction(L, call_log);
    lua_pushlightuserdata(L, line);
    if (lua_pcall(L, 1, 0, 0) != LUA_OK)
        lua_pop(L, 1); /* a log that raises must not end the loop */
}

bool lcws_protect(struct lcws *s, int (*fn)(lua_State *L), void *arg) {
    lua_State *L = lcws_stack(s);
    if (!lua_checkstack(L, 6))
        return false;
    int top = lua_gettop(L);
    lua_pushcfunction(L, add_traceback);
    lua_pushcfunction(L, fn);
    lua_pushlightuserdata(L, arg);
    bool ok = lua_pcall(L, 1, 0, top + 1) == LUA_OK;
    if (!ok) {
        const char *text = lua_tostring(L, -1);
        lcws_log(s, "cws: %s", text ? text : "error without a text");
    }
    lua_settop(L, top);
    return ok;
}
