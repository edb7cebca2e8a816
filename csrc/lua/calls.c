/*
 * calls.c - on_ping, on_pong, on_close: events are noted where they happen
 * (perhaps inside a receive) and told to the program's functions in the order
 * of arrival by one task per connection.
 */
#include "conn.h"

#include <string.h>

/* Pings and pongs beyond this many untold ones are not told. */
#define NOTES_MAX 256

static const char weak_key; /* registry: a weak table, pointer → userdata */

struct ws_note {
    struct ws_note *next;
    enum cws_event_type type; /* PING, PONG, CLOSE */
    double rtt;
    uint8_t len;
    uint8_t data[CWS_FRAME_CONTROL_MAX];
};

struct ws_calls {
    struct lcws_ws *ws;
    struct cws_job job;
    struct ws_note *first, *last;
    size_t count;
    bool telling; /* a task tells them now */
    bool end_told;
};

/* --- noting --------------------------------------------------------------- */

static void post(struct ws_calls *calls) {
    if (calls->first && !calls->telling)
        cws_loop_post(calls->ws->s->loop, &calls->job);
}

static void append(struct ws_calls *calls, struct ws_note *note) {
    if (calls->last)
        calls->last->next = note;
    else
        calls->first = note;
    calls->last = note;
    calls->count++;
    post(calls);
}

void lcws_ws_note(struct lcws_ws *ws, const struct cws_event *event) {
    struct cws_conn_stats stats;
    if (!ws->calls || ws->calls->count >= NOTES_MAX)
        return;
    struct ws_note *note = cws_calloc(sizeof *note);
    if (!note)
        return;
    cws_conn_get_stats(ws->conn, &stats);
    note->type = event->type;
    note->rtt = stats.rtt;
    note->len = (uint8_t)event->len;
    if (event->len)
        memcpy(note->data, event->data, event->len);
    append(ws->calls, note);
}

void lcws_ws_note_end(struct lcws_ws *ws) {
    if (!ws->calls || ws->calls->end_told)
        return;
    struct ws_note *note = cws_calloc(sizeof *note);
    if (!note)
        return;
    ws->calls->end_told = true;
    note->type = CWS_EVENT_CLOSE;
    append(ws->calls, note);
}

static struct ws_note *take(struct ws_calls *calls) {
    struct ws_note *note = calls->first;
    if (!note)
        return NULL;
    calls->first = note->next;
    if (!calls->first)
        calls->last = NULL;
    calls->count--;
    return note;
}

void lcws_ws_free_calls(struct lcws_ws *ws) {
    struct ws_calls *calls = ws->calls;
    ws->calls = NULL;
    if (!calls)
        return;
    cws_job_cancel(&calls->job);
    for (struct ws_note *note; (note = take(calls)) != NULL;)
        cws_free(note);
    cws_free(calls);
}

/* --- telling -------------------------------------------------------------- */

/* Its arguments; returns their number. */
static int push_arguments(lua_State *L, struct lcws_ws *ws,
                          const struct ws_note *note) {
    struct cws_conn_ending ending = {.code = CWS_CLOSE_ABNORMAL, .text = ""};
    switch (note->type) {
    case CWS_EVENT_CLOSE:
        if (ws->conn)
            (void)cws_conn_ending(ws->conn, &ending);
        lua_pushinteger(L, ending.code);
        lua_pushlstring(L, ending.text, ending.len);
        lua_pushboolean(L, ending.clean);
        return 3;
    case CWS_EVENT_PONG:
        lua_pushlstring(L, (const char *)note->data, note->len);
        if (note->rtt < 0)
            return 1;
        lua_pushnumber(L, note->rtt);
        return 2;
    default:
        lua_pushlstring(L, (const char *)note->data, note->len);
        return 1;
    }
}

static const char *name_of(const struct ws_note *note) {
    if (note->type == CWS_EVENT_CLOSE)
        return "on_close";
    return note->type == CWS_EVENT_PING ? "on_ping" : "on_pong";
}

/* Takes notes up to one for which there is a function, and pushes that, from
 * the connection's table of them at index `handlers`. False: none is left. */
static bool push_function(lua_State *L, int handlers, struct ws_calls *calls,
                          struct ws_note *note) {
    while (calls && calls->first) {
        *note = *calls->first;
        cws_free(take(calls));
        if (lua_getfield(L, handlers, name_of(note)) != LUA_TNIL)
            return true;
        lua_pop(L, 1);
    }
    return false;
}

/* Iterator for core.hooks.callbacks, gives name, function, arguments: upvalue 1
 * is the connection. */
static int next_call(lua_State *L) {
    struct lcws_ws *ws = lua_touserdata(L, lua_upvalueindex(1));
    struct ws_note note;
    lua_settop(L, 0);
    luaL_checkstack(L, 8, NULL);
    lua_getiuservalue(L, lua_upvalueindex(1), WS_HANDLERS);
    if (!push_function(L, 1, ws->calls, &note)) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushstring(L, name_of(&note));
    lua_replace(L, 1);
    return 2 + push_arguments(L, ws, &note);
}

/* Nobody may hold the connection any more: each function gets a task of its
 * own. Argument: the connection. */
static int tell_rest(lua_State *L) {
    struct lcws_ws *ws = lua_touserdata(L, 1);
    struct ws_note note;
    lcws_ws_note_end(ws);
    lua_getiuservalue(L, 1, WS_HANDLERS); /* 2 */
    while (push_function(L, 2, ws->calls, &note)) {
        int n = push_arguments(L, ws, &note);
        (void)lcws_task_new(L, ws->s, n, NULL, NULL);
        lua_settop(L, 2);
    }
    return 0;
}

void lcws_ws_tell_rest(lua_State *L, struct lcws_ws *ws) {
    if (!ws->calls)
        return;
    lua_pushcfunction(L, tell_rest);
    lua_pushvalue(L, 1);
    if (lua_pcall(L, 1, 0, 0) != LUA_OK) /* out of memory */
        lua_pop(L, 1);
}

static void told(void *owner, enum lcws_task_result result) {
    struct lcws_ws *ws = owner;
    (void)result;
    if (!ws->calls)
        return;
    ws->calls->telling = false;
    post(ws->calls);
}

/* Argument: the connection. */
static int start_telling(lua_State *L) {
    struct lcws_ws *ws = lua_touserdata(L, 1);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &weak_key);
    if (lua_rawgetp(L, -1, ws) != LUA_TUSERDATA)
        return 0;
    lcws_push_hook(L, ws->s, "callbacks");
    if (!lua_isfunction(L, -1))
        return 0;
    lua_pushvalue(L, -2);
    lua_pushvalue(L, -1);
    lua_pushcclosure(L, next_call, 1);
    (void)lcws_task_new(L, ws->s, 2, told, ws); /* starts after dispatch */
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, -2, LCWS_TASK_OWNER);
    ws->calls->telling = true;
    return 0;
}

static void run_calls(struct cws_job *job) {
    struct ws_calls *calls =
        (struct ws_calls *)(void *)((char *)job -
                                    offsetof(struct ws_calls, job));
    (void)lcws_protect(calls->ws->s, start_telling, calls->ws);
}

/* --- setting -------------------------------------------------------------- */

static void make_calls(lua_State *L, struct lcws_ws *ws) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &weak_key);
    lua_pushvalue(L, 1);
    lua_rawsetp(L, -2, ws);
    lua_pop(L, 1);
    if (ws->calls)
        return;
    ws->calls = cws_calloc(sizeof *ws->calls);
    if (!ws->calls)
        luaL_error(L, "not enough memory");
    ws->calls->ws = ws;
    ws->calls->job.run = run_calls;
}

static void get_handlers(lua_State *L) {
    if (lua_getiuservalue(L, 1, WS_HANDLERS) == LUA_TTABLE)
        return;
    lua_pop(L, 1);
    lua_createtable(L, 0, 3);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, WS_HANDLERS);
}

static bool has(lua_State *L, const char *name) {
    bool yes = lua_getfield(L, -1, name) != LUA_TNIL;
    lua_pop(L, 1);
    return yes;
}

static int set_handler(lua_State *L, const char *name) {
    struct lcws_ws *ws = lcws_ws_check(L);
    if (!lua_isnoneornil(L, 2))
        luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    if (!ws->conn) /* collected: nobody would free what is made now */
        return 0;
    get_handlers(L); /* before there are calls that look into it */
    make_calls(L, ws);
    lua_pushvalue(L, 2);
    lua_setfield(L, -2, name);
    cws_conn_watch(ws->conn, has(L, "on_ping"), has(L, "on_pong"));
    if (has(L, "on_close") && cws_conn_ending(ws->conn, NULL))
        lcws_ws_note_end(ws);
    return 0;
}

static int on_ping(lua_State *L) {
    return set_handler(L, "on_ping");
}

static int on_pong(lua_State *L) {
    return set_handler(L, "on_pong");
}

static int on_close(lua_State *L) {
    return set_handler(L, "on_close");
}

void lcws_open_calls(lua_State *L) {
    static const luaL_Reg methods[] = {{"on_ping", on_ping},
                                       {"on_pong", on_pong},
                                       {"on_close", on_close},
                                       {NULL, NULL}};
    luaL_setfuncs(L, methods, 0);
    lua_newtable(L);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "v");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &weak_key);
}
