/*
 * loop.c - run, stop, step, timers: the loop as the program sees it.
 */
#include "binding.h"

#include <math.h>
#include <string.h>

/* --- run ----------------------------------------------------------------- */

static struct lcws *check_can_drive(lua_State *L, const char *name) {
    struct lcws *s = lcws_get(L);
    if (lcws_loop_runs(s))
        luaL_error(L, "cannot wait here: %s while the loop runs; use cws.spawn",
                   name);
    return s;
}

/* A job that is ready may start a task: an on_close that has to be told. */
static bool has_work(const struct lcws *s) {
    return s->tasks || s->listeners || !cws_link_empty(&s->loop->ready);
}

/* The last task and the last listener end a drive; nobody tells of jobs. */
static bool turn(lua_State *L, struct lcws *s, bool *more) {
    if (s->tasks || s->listeners)
        return lcws_turn_on(L, s, more);
    return lcws_turn(L, s, INFINITY, more);
}

/* NULL, or what luaL_error says. */
static const char *run(lua_State *L, struct lcws *s) {
    while (!s->stopping && has_work(s)) {
        bool more;
        if (!turn(L, s, &more))
            return "interrupted!";
        if (!more && s->tasks && !s->signals && !s->stopping)
            return "deadlock: run: all tasks wait and nothing is left that "
                   "could wake one";
    }
    return NULL;
}

static int l_run(lua_State *L) {
    struct lcws *s = check_can_drive(L, "run");
    s->stopping = false;
    lcws_sigint_begin(s);
    const char *why = run(L, s);
    lcws_sigint_end(s);
    s->stopping = false;
    if (why)
        return luaL_error(L, why);
    lua_pushboolean(L, 1);
    return 1;
}

static int l_stop(lua_State *L) {
    struct lcws *s = lcws_get(L);
    s->stopping = true;
    if (s->running) /* a loop that the program runs is not ours to end */
        ev_break(s->loop->ev, EVBREAK_ONE);
    return 0;
}

static int l_step(lua_State *L) {
    struct lcws *s = check_can_drive(L, "step");
    double timeout = lcws_check_timeout(L, 1, 0);
    bool more;
    lcws_sigint_begin(s);
    bool calm = lcws_turn(L, s, timeout, &more);
    lcws_sigint_end(s);
    if (!calm)
        return luaL_error(L, "interrupted!");
    lua_pushboolean(L, more);
    return 1;
}

static int l_is_running(lua_State *L) {
    struct lcws *s = lcws_get(L);
    lua_pushboolean(L, lcws_loop_runs(s));
    return 1;
}

static int l_use_loop(lua_State *L) {
    struct lcws *s = lcws_peek(L);
    if (!lua_islightuserdata(L, 1))
        return luaL_typeerror(L, 1, "light userdata");
    luaL_argcheck(L, lua_touserdata(L, 1), 1, "loop expected, got NULL");
    if (s->loop)
        return luaL_error(L, "use_loop: the loop is in use already; call "
                             "use_loop before anything else of cws");
    s->loop = cws_loop_new(lua_touserdata(L, 1));
    if (!s->loop)
        return luaL_error(L, "not enough memory");
    return 0;
}

/* --- timers: tickers and `after` are made of them ------------------------ */

struct timer {
    struct cws_link link; /* first: s->timers, while it runs */
    struct lcws *s;
    ev_timer timer;
};

/* While it runs the loop refers to it: registry[timer] = userdata, whose user
 * value 1 is the function. */
static int call_timer(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, lua_touserdata(L, 1));
    lua_getiuservalue(L, -1, 1);
    lua_call(L, 0, 0);
    return 0;
}

static int forget_timer(lua_State *L) {
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, lua_touserdata(L, 1));
    return 0;
}

static void on_timer(struct ev_loop *ev, ev_timer *timer, int revents) {
    struct timer *t = timer->data;
    (void)ev, (void)revents;
    struct lcws *s = t->s;
    bool once = !ev_is_active(timer);
    if (once)
        cws_link_remove(&t->link);
    (void)lcws_protect(s, call_timer, t);
    if (once)
        (void)lcws_protect(s, forget_timer, t);
}

static int l_timer(lua_State *L) {
    double after = lcws_check_timeout(L, 1, 0);
    double interval = lcws_check_timeout(L, 2, 0);
    luaL_checktype(L, 3, LUA_TFUNCTION);
    luaL_argcheck(L, isfinite(after), 1, "finite seconds expected");
    luaL_argcheck(L, isfinite(interval), 2, "finite seconds expected");
    struct lcws *s = lcws_get(L);
    struct timer *t = lua_newuserdatauv(L, sizeof *t, 1);
    memset(t, 0, sizeof *t);
    t->s = s;
    ev_timer_init(&t->timer, on_timer, after, interval);
    t->timer.data = t;
    luaL_setmetatable(L, LCWS_TIMER);
    lua_pushvalue(L, 3);
    lua_setiuservalue(L, -2, 1);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, t);
    ev_now_update(s->loop->ev);
    ev_timer_start(s->loop->ev, &t->timer);
    cws_link_append(&s->timers, &t->link);
    return 1;
}

static void stop(struct timer *t) {
    if (t->s->loop)
        ev_timer_stop(t->s->loop->ev, &t->timer);
    cws_link_remove(&t->link);
}

void lcws_timers_close(struct lcws *s) {
    while (!cws_link_empty(&s->timers))
        stop((struct timer *)(void *)s->timers.next);
}

static int timer_stop(lua_State *L) {
    struct timer *t = luaL_checkudata(L, 1, LCWS_TIMER);
    stop(t);
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, t);
    return 0;
}

void lcws_open_loop(lua_State *L) {
    static const luaL_Reg methods[] = {{"stop", timer_stop}, {NULL, NULL}};
    static const luaL_Reg meta[] = {{NULL, NULL}};
    static const luaL_Reg functions[] = {
        {"run", l_run},     {"stop", l_stop},
        {"step", l_step},   {"use_loop", l_use_loop},
        {"timer", l_timer}, {"is_running", l_is_running},
        {NULL, NULL}};
    lcws_new_class(L, LCWS_TIMER, methods, meta);
    luaL_setfuncs(L, functions, 0);
}
