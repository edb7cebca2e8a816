/*
 * task.c - coroutines that cws runs: only this file resumes them. How they wait
 * is in wait.c.
 */
#include "task.h"

#include <math.h>
#include <string.h>

#define TASK_THREAD 1 /* user values */
#define TASK_ERROR 2  /* of a spawned task; LCWS_TASK_OWNER of one of ours */
#define TASK_VALUES 2

/* --- anchoring: a list of free slots in a table -------------------------- */

static void anchor(lua_State *L, struct lcws *s, struct lcws_task *t) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->anchors);
    int slot = s->free_anchor;
    if (slot) {
        lua_rawgeti(L, -1, slot);
        s->free_anchor = (int)lua_tointeger(L, -1);
        lua_pop(L, 1);
    } else {
        slot = (int)lua_rawlen(L, -1) + 1;
    }
    lua_pushvalue(L, -2);
    lua_rawseti(L, -2, slot);
    lua_pop(L, 1);
    t->anchor = slot;
    s->tasks++;
}

/* Does not raise: the slot exists. */
static void unanchor(lua_State *L, struct lcws_task *t) {
    struct lcws *s = t->s;
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->anchors);
    lua_pushinteger(L, s->free_anchor);
    lua_rawseti(L, -2, t->anchor);
    lua_pop(L, 1);
    s->free_anchor = t->anchor;
    t->anchor = 0;
    if (--s->tasks == 0)
        cws_loop_break(s->loop); /* run() may be over */
}

/* Pushes the userdata of a live task. */
static void push_task(lua_State *L, struct lcws_task *t) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, t->s->anchors);
    lua_rawgeti(L, -1, t->anchor);
    lua_remove(L, -2);
}

/* --- ending -------------------------------------------------------------- */

void lcws_wake_all(struct cws_link *queue) {
    while (!cws_link_empty(queue)) {
        struct lcws_wait *w = (struct lcws_wait *)(void *)queue->next;
        cws_link_remove(&w->link);
        lcws_wake(w);
    }
}

static int tostring(lua_State *L) {
    luaL_tolstring(L, 1, NULL);
    return 1;
}

/* Pushes the text of the error that ended the task. */
static void push_error_text(lua_State *L, struct lcws_task *t) {
    if (lua_status(t->co) == LUA_OK) {
        lua_pushliteral(L,
                        "the coroutine was closed or resumed by the program");
        return;
    }
    lua_pushcfunction(L, tostring);
    lua_xmove(t->co, L, 1);
    if (lua_pcall(L, 1, 1, 0) == LUA_OK)
        return;
    lua_pop(L, 1);
    lua_pushliteral(L, "an error whose __tostring raises");
}

/* Runs protected: the traceback needs memory. Argument: the task. */
static int report_error(lua_State *L) {
    struct lcws_task *t = lua_touserdata(L, 1);
    luaL_checkstack(L, 10, NULL);
    push_error_text(L, t);
    luaL_traceback(L, t->co, lua_tostring(L, -1), 0);
    if (!t->ours) {
        push_task(L, t);
        lua_pushvalue(L, -3);
        lua_setiuservalue(L, -2, TASK_ERROR);
        lua_pop(L, 1);
    }
    lcws_push_hook(L, t->s, "log");
    lua_pushvalue(L, -2);
    lua_call(L, 1, 0);
    return 0;
}

/* The program resumed it: it runs now, or waits for one that does. */
static bool is_taken(lua_State *co) {
    lua_Debug frame;
    return lua_status(co) == LUA_OK && lua_getstack(co, 0, &frame);
}

static void task_failed(struct lcws_task *t) {
    t->failed = true;
    lcws_protect(t->s, report_error, t);
    if (is_taken(t->co))
        return;
    /* only this runs the pending to-be-closed variables */
    (void)lua_resetthread(t->co);
    lua_settop(t->co, 0);
}

static void free_timer(struct lcws_task *t) {
    if (t->timer)
        ev_timer_stop(t->s->loop->ev, t->timer);
    cws_free(t->timer);
    t->timer = NULL;
}

static void task_end(struct lcws_task *t, int status) {
    struct lcws *s = t->s;
    lua_State *L = lcws_stack(s);
    if (status != LUA_OK)
        task_failed(t);
    free_timer(t);
    cws_job_cancel(&t->job);
    cws_link_remove(&t->wait.link);
    t->wait.armed = false;
    push_task(L, t); /* alive until the last line */
    if (t->ours) {
        t->ended(t->owner, status == LUA_OK ? LCWS_TASK_OK : LCWS_TASK_ERROR);
        lua_pushnil(L); /* the program may keep a request, but not this */
        lua_setiuservalue(L, -2, TASK_THREAD);
    }
    unanchor(L, t);
    if (!t->ours)
        lcws_wake_all(&t->joiners);
    lua_pop(L, 1);
}

/* --- resuming ------------------------------------------------------------ */

static void resume(struct lcws_task *t, int nargs) {
    struct lcws *s = t->s;
    struct lcws_task *outer = s->current;
    lua_State *from = lcws_stack(s);
    int results;
    if (!lua_checkstack(from, 8)) /* for what the end of the task pushes */
        return;
    s->current = t;
    int status = lua_resume(t->co, from, nargs, &results);
    s->current = outer;
    if (status != LUA_YIELD) {
        task_end(t, status);
    } else if (!t->wait.armed) { /* a bare coroutine.yield(): others go first */
        lua_pop(t->co, results);
        cws_loop_post(s->loop, &t->job);
    }
}

/* The program may have closed or resumed our coroutine behind our back. */
static void resume_waiting(struct lcws_task *t) {
    t->wait.woken = true;
    if (lua_status(t->co) != LUA_YIELD)
        task_end(t, LUA_ERRRUN);
    else
        resume(t, 0);
}

static void run_task(struct cws_job *job) {
    struct lcws_task *t =
        (struct lcws_task *)(void *)((char *)job -
                                     offsetof(struct lcws_task, job));
    if (t->started) {
        resume_waiting(t);
        return;
    }
    t->started = true;
    resume(t, t->nargs);
}

void lcws_task_start(struct lcws_task *t) {
    cws_job_cancel(&t->job);
    run_task(&t->job);
}

static struct lcws_task *task_of(struct lcws_wait *w) {
    return (struct lcws_task *)(void *)((char *)w -
                                        offsetof(struct lcws_task, wait));
}

/* A finalizer may come when the loop has gone. */
void lcws_wake(struct lcws_wait *w) {
    w->woken = true;
    if (!w->s->loop)
        return;
    if (!w->in_task)
        cws_loop_break(w->s->loop);
    else if (w->armed)
        cws_loop_post(w->s->loop, &task_of(w)->job);
}

void lcws_wake_now(struct lcws_wait *w) {
    if (!w->in_task || !w->armed) {
        lcws_wake(w);
        return;
    }
    cws_job_cancel(&task_of(w)->job);
    resume_waiting(task_of(w));
}

/* --- tasks --------------------------------------------------------------- */

/* Pushes the userdata of one that has no function yet. */
static struct lcws_task *make(lua_State *L, struct lcws *s, size_t size,
                              int values) {
    struct lcws_task *t =
        lua_newuserdatauv(L, sizeof *t + size, TASK_VALUES + values);
    memset(t, 0, sizeof *t + size);
    t->s = s;
    t->job.run = run_task;
    t->wait.in_task = true;
    t->wait.s = s;
    return t;
}

struct lcws_task *lcws_task_begin(lua_State *L, int index, int nargs) {
    struct lcws_task *t = lua_touserdata(L, index);
    index = lua_absindex(L, index);
    t->co = lua_newthread(L);
    if (!lua_checkstack(t->co, nargs + 4))
        luaL_error(L, "stack overflow");
    lua_setiuservalue(L, index, TASK_THREAD);
    lua_xmove(L, t->co, nargs + 1);
    t->nargs = nargs;
    lua_pushvalue(L, index);
    anchor(L, t->s, t);
    lua_pop(L, 1);
    cws_loop_post(t->s->loop, &t->job);
    return t;
}

void *lcws_task_bytes(void *userdata) {
    return (struct lcws_task *)userdata + 1;
}

void lcws_task_push(lua_State *L, void *bytes) {
    push_task(L, (struct lcws_task *)bytes - 1);
}

void *lcws_task_make(lua_State *L, struct lcws *s, size_t size, int values,
                     void (*ended)(void *bytes, enum lcws_task_result result)) {
    struct lcws_task *t = make(L, s, size, values);
    t->ours = true;
    t->ended = ended;
    t->owner = lcws_task_bytes(t);
    return t->owner;
}

struct lcws_task *lcws_task_new(lua_State *L, struct lcws *s, int nargs,
                                void (*ended)(void *owner,
                                              enum lcws_task_result result),
                                void *owner) {
    luaL_checkstack(L, 6, NULL);
    struct lcws_task *t = make(L, s, 0, 0);
    luaL_setmetatable(L, LCWS_TASK);
    if (ended) {
        t->ours = true;
        t->ended = ended;
        t->owner = owner;
    } else {
        cws_link_init(&t->joiners);
    }
    lua_insert(L, -nargs - 2);
    return lcws_task_begin(L, -nargs - 2, nargs);
}

void lcws_tasks_close(struct lcws *s) {
    lua_State *L = s->main;
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->anchors);
    for (lua_Integer i = (lua_Integer)lua_rawlen(L, -1); i > 0; i--) {
        if (lua_rawgeti(L, -1, i) == LUA_TUSERDATA) {
            struct lcws_task *t = lua_touserdata(L, -1);
            free_timer(t);
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

static int l_spawn(lua_State *L) {
    struct lcws *s = lcws_get(L);
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lcws_task_new(L, s, lua_gettop(L) - 1, NULL, NULL);
    return 1;
}

static struct lcws_task *check_task(lua_State *L) {
    return luaL_checkudata(L, 1, LCWS_TASK);
}

static int join_attempt(lua_State *L, struct lcws *s) {
    struct lcws_task *t = check_task(L);
    (void)s;
    if (t->anchor)
        return -1;
    if (t->failed) {
        lua_pushnil(L);
        lua_getiuservalue(L, 1, TASK_ERROR);
        if (lua_type(L, -1) != LUA_TSTRING) {
            lua_pop(L, 1);
            lua_pushliteral(L, "out of memory");
        }
        lua_pushfstring(L, "task: %s", lua_tostring(L, -1));
        lua_remove(L, -2);
        lua_pushstring(L, cws_err_kind(CWS_EINTERNAL));
        return 3;
    }
    int n = lua_gettop(t->co);
    luaL_checkstack(L, n + 1, "too many results");
    if (!lua_checkstack(t->co, n))
        return luaL_error(L, "too many results");
    lua_pushboolean(L, 1);
    for (int i = 1; i <= n; i++)
        lua_pushvalue(t->co, i);
    lua_xmove(t->co, L, n);
    return n + 1;
}

static void join_arm(lua_State *L, struct lcws_wait *w) {
    struct lcws_task *t = lua_touserdata(L, 1);
    cws_link_append(&t->joiners, &w->link);
}

static const struct lcws_op join_op = {
    .name = "join", .attempt = join_attempt, .arm = join_arm};

static int task_join(lua_State *L) {
    struct lcws_task *t = check_task(L);
    double timeout = lcws_check_timeout(L, 2, INFINITY);
    if (t->anchor && t == t->s->current)
        return luaL_error(L, "join: a task cannot join itself");
    return lcws_perform(L, &join_op, timeout);
}

static int task_cancel(lua_State *L) {
    struct lcws_task *t = check_task(L);
    if (!t->anchor)
        return 0;
    if (t->wait.armed) {
        t->wait.cancelled = true;
        lcws_wake(&t->wait);
    } else {
        t->cancelled = true;
    }
    return 0;
}

static int task_tostring(lua_State *L) {
    struct lcws_task *t = check_task(L);
    const char *state = "ended";
    if (t->anchor)
        state = t->wait.armed ? "waiting" : "running";
    lua_pushfstring(L, "cws.task: %p (%s)", (void *)t, state);
    return 1;
}

/* --- sleep --------------------------------------------------------------- */

static int sleep_attempt(lua_State *L, struct lcws *s) {
    (void)L, (void)s;
    return -1;
}

static void sleep_arm(lua_State *L, struct lcws_wait *w) {
    (void)L, (void)w;
}

static const struct lcws_op sleep_op = {.name = "sleep",
                                        .attempt = sleep_attempt,
                                        .arm = sleep_arm,
                                        .expires = true};

static int l_sleep(lua_State *L) {
    luaL_checktype(L, 1, LUA_TNUMBER);
    return lcws_perform(L, &sleep_op, lcws_check_timeout(L, 1, 0));
}

/* --- opening ------------------------------------------------------------- */

void lcws_new_class(lua_State *L, const char *name, const luaL_Reg *methods,
                    const luaL_Reg *metamethods) {
    luaL_newmetatable(L, name);
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "__index");
    lua_pushliteral(L, "locked");
    lua_setfield(L, -2, "__metatable");
    luaL_setfuncs(L, metamethods, 0);
    lua_pop(L, 1);
}

void lcws_open_task(lua_State *L) {
    static const luaL_Reg task_methods[] = {
        {"join", task_join}, {"cancel", task_cancel}, {NULL, NULL}};
    static const luaL_Reg functions[] = {
        {"spawn", l_spawn}, {"sleep", l_sleep}, {NULL, NULL}};
    static const luaL_Reg task_meta[] = {{"__tostring", task_tostring},
                                         {NULL, NULL}};
    lcws_new_class(L, LCWS_TASK, task_methods, task_meta);
    luaL_setfuncs(L, functions, 0);
}
