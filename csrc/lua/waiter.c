/*
 * waiter.c - what channels are made of: an object that one waits on and another
 * wakes.
 */
#include "binding.h"

#include <math.h>

struct waiter {
    bool woken;
    struct cws_link queue; /* struct lcws_wait: who waits now */
};

static struct waiter *check_waiter(lua_State *L) {
    return luaL_checkudata(L, 1, LCWS_WAITER);
}

static int waiter_attempt(lua_State *L, struct lcws *s) {
    struct waiter *w = lua_touserdata(L, 1);
    (void)s;
    if (!w->woken)
        return -1;
    w->woken = false;
    lua_pushboolean(L, 1);
    return 1;
}

static void waiter_arm(lua_State *L, struct lcws_wait *wait) {
    struct waiter *w = lua_touserdata(L, 1);
    cws_link_append(&w->queue, &wait->link);
}

static const struct lcws_op wait_op = {
    .attempt = waiter_attempt, .arm = waiter_arm, .given = true};

/* waiter, timeout, the operation's name for texts */
static int waiter_wait(lua_State *L) {
    (void)check_waiter(L);
    luaL_checkstring(L, 3);
    return lcws_perform(L, &wait_op, lcws_check_timeout(L, 2, INFINITY));
}

static int waiter_wake(lua_State *L) {
    struct waiter *w = check_waiter(L);
    w->woken = true;
    lcws_wake_all(&w->queue);
    return 0;
}

/* A coroutine that the program closed may have left its wait behind. */
static int waiter_gc(lua_State *L) {
    struct waiter *w = lua_touserdata(L, 1);
    if (!lcws_peek(L)->closed)
        lcws_wake_all(&w->queue);
    return 0;
}

static int l_waiter(lua_State *L) {
    (void)lcws_get(L);
    struct waiter *w = lua_newuserdatauv(L, sizeof *w, 0);
    w->woken = false;
    cws_link_init(&w->queue);
    luaL_setmetatable(L, LCWS_WAITER);
    return 1;
}

void lcws_open_waiter(lua_State *L) {
    static const luaL_Reg methods[] = {
        {"wait", waiter_wait}, {"wake", waiter_wake}, {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__gc", waiter_gc}, {NULL, NULL}};
    static const luaL_Reg functions[] = {{"waiter", l_waiter}, {NULL, NULL}};
    lcws_new_class(L, LCWS_WAITER, methods, meta);
    luaL_setfuncs(L, functions, 0);
}
