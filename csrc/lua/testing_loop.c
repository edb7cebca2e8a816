/*
 * testing_loop.c - a host program in small: a libev loop that is not cws's, and
 * Lua states that come and go beside it.
 *
 *   loop = testing.loop([pointer])   a new one, or another's
 *   loop:pointer()        for cws.use_loop
 *   loop:run(seconds)     as a host runs it, for at most that long; true when
 *                         it ended by itself: nothing was left to wait for
 *   loop:call(fn)         runs fn once, from a callback of the host's own
 *   loop:free()           with nothing active in it
 *   testing.state(code, ...)   runs code in a Lua state of its own with these
 *                         arguments and closes it: true, or nil and the error
 *   testing.failing_state(code, ...)   the same with a global function
 *                         fail_lua(n [, all]): the n-th allocation of this Lua
 *                         state from now on fails (0: none), and all after it;
 *                         returns how many were asked for since the last call
 */
#include "testing.h"

#include <ev.h>
#include <lualib.h>
#include <stdlib.h>

#define LOOP "cws.testing.loop"

struct testing_loop {
    struct ev_loop *ev;
    bool own;
    lua_State *L; /* that runs it now */
    ev_timer limit;
    ev_timer call;
};

static struct testing_loop *check(lua_State *L) {
    struct testing_loop *self = luaL_checkudata(L, 1, LOOP);
    luaL_argcheck(L, self->ev, 1, "freed");
    return self;
}

static int new_loop(lua_State *L) {
    struct ev_loop *other = lua_touserdata(L, 1);
    struct testing_loop *self = lua_newuserdatauv(L, sizeof *self, 1);
    *self = (struct testing_loop){.ev = other, .own = !other};
    luaL_setmetatable(L, LOOP);
    if (self->own)
        self->ev = ev_loop_new(EVFLAG_AUTO | EVFLAG_NOENV);
    return self->ev ? 1 : luaL_error(L, "not enough memory");
}

static int loop_free(lua_State *L) {
    struct testing_loop *self = luaL_checkudata(L, 1, LOOP);
    if (self->ev && self->own)
        ev_loop_destroy(self->ev);
    self->ev = NULL;
    return 0;
}

static int loop_pointer(lua_State *L) {
    lua_pushlightuserdata(L, check(L)->ev);
    return 1;
}

/* --- running -------------------------------------------------------------- */

static void on_limit(struct ev_loop *ev, ev_timer *timer, int revents) {
    (void)timer, (void)revents;
    ev_break(ev, EVBREAK_ALL);
}

static int loop_run(lua_State *L) {
    struct testing_loop *self = check(L);
    ev_timer_init(&self->limit, on_limit, luaL_checknumber(L, 2), 0.);
    ev_now_update(self->ev); /* it may have rested for long */
    ev_timer_start(self->ev, &self->limit);
    ev_unref(self->ev); /* it is no reason to go on */
    self->L = L;
    ev_run(self->ev, 0);
    bool in_time = ev_is_active(&self->limit);
    ev_ref(self->ev);
    ev_timer_stop(self->ev, &self->limit);
    lua_pushboolean(L, in_time);
    return 1;
}

/* An error of the function is the test's: it is given to warn. */
static void on_call(struct ev_loop *ev, ev_timer *timer, int revents) {
    struct testing_loop *self = timer->data;
    lua_State *L = self->L;
    (void)ev, (void)revents;
    lua_getiuservalue(L, 1, 1);
    if (lua_pcall(L, 0, 0, 0) == LUA_OK)
        return;
    lua_warning(L, luaL_tolstring(L, -1, NULL), 0);
    lua_pop(L, 2);
}

static int loop_call(lua_State *L) {
    struct testing_loop *self = check(L);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    lua_setiuservalue(L, 1, 1);
    ev_timer_init(&self->call, on_call, 0., 0.);
    self->call.data = self;
    ev_timer_start(self->ev, &self->call);
    return 0;
}

/* --- states --------------------------------------------------------------- */

static int traceback(lua_State *L) {
    luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
    return 1;
}

/* The paths of `from`: the other state may not have the environment's. */
static void copy_path(lua_State *L, lua_State *from, const char *name) {
    lua_getglobal(from, "package");
    lua_getfield(from, -1, name);
    lua_getglobal(L, "package");
    lua_pushstring(L, lua_tostring(from, -1));
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
    lua_pop(from, 2);
}

static void copy_value(lua_State *L, lua_State *from, int index) {
    switch (lua_type(from, index)) {
    case LUA_TLIGHTUSERDATA:
        lua_pushlightuserdata(L, lua_touserdata(from, index));
        break;
    case LUA_TBOOLEAN:
        lua_pushboolean(L, lua_toboolean(from, index));
        break;
    case LUA_TNUMBER:
        lua_pushnumber(L, lua_tonumber(from, index));
        break;
    default:
        lua_pushstring(L, lua_tostring(from, index));
    }
}

static int run_state(lua_State *from, lua_State *L) {
    int count = lua_gettop(from);
    const char *code = luaL_checkstring(from, 1);
    copy_path(L, from, "path");
    copy_path(L, from, "cpath");
    luaL_checkstack(L, count + 2, NULL);
    lua_pushcfunction(L, traceback);
    int status = luaL_loadstring(L, code);
    for (int i = 2; i <= count; i++)
        copy_value(L, from, i);
    if (status == LUA_OK)
        status = lua_pcall(L, count - 1, 0, 1);
    lua_pushboolean(from, status == LUA_OK);
    lua_pushstring(from, status == LUA_OK ? NULL : lua_tostring(L, 2));
    lua_close(L);
    return 2;
}

static int state(lua_State *from) {
    lua_State *L = luaL_newstate();
    if (!L)
        return luaL_error(from, "not enough memory");
    luaL_openlibs(L);
    return run_state(from, L);
}

/* What the allocator of a failing state has to do. */
struct failing {
    size_t asked;
    size_t at; /* this one fails; 0: none */
    bool all;
};

/* Lua tries again after a collection: a failure is a failure of two. Shrinking
 * must not fail. */
static bool fails(struct failing *f, size_t old, size_t new) {
    if (new <= old)
        return false;
    f->asked++;
    if (!f->at || f->asked < f->at)
        return false;
    return f->all || f->asked < f->at + 2;
}

static void *allocate(void *user, void *memory, size_t old, size_t new) {
    if (new == 0) {
        free(memory);
        return NULL;
    }
    if (fails(user, memory ? old : 0, new))
        return NULL;
    return realloc(memory, new);
}

static int fail_lua(lua_State *L) {
    struct failing *f = lua_touserdata(L, lua_upvalueindex(1));
    size_t asked = f->asked;
    *f = (struct failing){.at = (size_t)luaL_checkinteger(L, 1),
                          .all = lua_toboolean(L, 2)};
    lua_pushinteger(L, (lua_Integer)asked);
    return 1;
}

static int failing_state(lua_State *from) {
    struct failing failing = {0};
    lua_State *L = lua_newstate(allocate, &failing);
    if (!L)
        return luaL_error(from, "not enough memory");
    luaL_openlibs(L);
    lua_pushlightuserdata(L, &failing);
    lua_pushcclosure(L, fail_lua, 1);
    lua_setglobal(L, "fail_lua");
    return run_state(from, L);
}

void cws_testing_open_loop(lua_State *L) {
    static const luaL_Reg methods[] = {{"pointer", loop_pointer},
                                       {"run", loop_run},
                                       {"call", loop_call},
                                       {"free", loop_free},
                                       {NULL, NULL}};
    luaL_newmetatable(L, LOOP);
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, loop_free);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    lua_pushcfunction(L, new_loop);
    lua_setfield(L, -2, "loop");
    lua_pushcfunction(L, state);
    lua_setfield(L, -2, "state");
    lua_pushcfunction(L, failing_state);
    lua_setfield(L, -2, "failing_state");
}
