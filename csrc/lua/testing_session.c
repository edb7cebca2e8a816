/*
 * testing_session.c - a session (proto/session.h) without a socket, for specs:
 * bytes in, a table of events out.
 *
 *   session = testing.session(role, { max_message =, max_fragments =,
 *                                     max_ratio =, deflate = { ... } })
 *   events = session:feed(bytes [, way])
 *
 * `way` is how the bytes get in: "feed" (the default), "place" (through
 * cws_session_place wherever it is offered) or "rest" (the rest is taken back
 * and fed again from other memory after every event). Every event is answered
 * at once; its field `answer` holds the frame. Input lies in memory of exactly
 * its size, which is overwritten afterwards, so that a stale pointer shows.
 */
#include <lauxlib.h>
#include <lua.h>

#include <string.h>

#include "../proto/mask.h"
#include "../proto/session.h"
#include "testing.h"

#define SESSION "cws.testing.session"

enum way { WAY_FEED, WAY_PLACE, WAY_REST };
static const char *const ways[] = {"feed", "place", "rest", NULL};
static const char *const roles[] = {"server", "client", NULL};
static const char *const states[] = {"open", "close_sent", "close_received",
                                     "failed", "closed"};

struct testing_session {
    struct cws_session session;
    struct cws_session_limits limits;
    struct cws_deflate_pool *pool;
    bool live; /* session is initialized and not freed */
};

/* What one call of feed collects. */
struct feeding {
    struct testing_session *self;
    int events; /* stack index of the list */
    int buffer; /* stack slot that keeps the input alive */
};

static struct testing_session *check(lua_State *L) {
    struct testing_session *self = luaL_checkudata(L, 1, SESSION);
    luaL_argcheck(L, self->live, 1, "freed");
    return self;
}

/* --- making one ---------------------------------------------------------- */

static size_t limit_field(lua_State *L, const char *name) {
    size_t value = SIZE_MAX;
    if (lua_istable(L, 2) && lua_getfield(L, 2, name) != LUA_TNIL)
        value = (size_t)luaL_checkinteger(L, -1);
    lua_settop(L, 2);
    return value;
}

static void release(struct testing_session *self) {
    if (self->live)
        cws_session_free(&self->session);
    self->live = false;
    cws_deflate_pool_free(self->pool);
    self->pool = NULL;
}

/* nil, "memory" when there is none. */
static int no_memory(lua_State *L) {
    lua_pushnil(L);
    lua_pushliteral(L, "memory");
    return 2;
}

static int new_session(lua_State *L) {
    enum cws_role role = (enum cws_role)luaL_checkoption(L, 1, NULL, roles);
    lua_settop(L, 2);
    struct cws_session_limits limits = {limit_field(L, "max_message"),
                                        limit_field(L, "max_fragments"),
                                        limit_field(L, "max_ratio")};
    bool deflated =
        lua_istable(L, 2) && lua_getfield(L, 2, "deflate") == LUA_TTABLE;
    lua_settop(L, 3);
    struct testing_session *self = lua_newuserdatauv(L, sizeof *self, 0);
    memset(self, 0, sizeof *self);
    luaL_setmetatable(L, SESSION);
    self->limits = limits;
    struct cws_deflate *deflate = NULL;
    if (deflated) {
        struct cws_deflate_config config =
            cws_testing_deflate_config(L, 3, role);
        if (!(self->pool = cws_deflate_pool_new()) ||
            !(deflate = cws_deflate_new(&config, self->pool)))
            return no_memory(L);
    }
    cws_session_init(&self->session, role, &self->limits, deflate);
    self->live = true;
    return 1;
}

static int free_session(lua_State *L) {
    release(luaL_checkudata(L, 1, SESSION));
    return 0;
}

/* --- events -------------------------------------------------------------- */

static const char *type_name(enum cws_event_type type) {
    static const char *const names[] = {"message", "piece", "ping",
                                        "pong",    "close", "fail"};
    return names[type];
}

/* The fields `answer`, or `answer_error` with the kind. */
static void add_answer(lua_State *L, struct feeding *f,
                       const struct cws_event *event) {
    uint8_t out[CWS_SESSION_CONTROL_MAX];
    int n = cws_session_answer(&f->self->session, event, out);
    if (n < 0) {
        lua_pushstring(L, cws_err_kind((enum cws_err)n));
        lua_setfield(L, -2, "answer_error");
    } else if (n > 0) {
        lua_pushlstring(L, (const char *)out, (size_t)n);
        lua_setfield(L, -2, "answer");
    }
}

static void push_event(lua_State *L, const struct cws_event *event) {
    lua_createtable(L, 0, 6);
    lua_pushstring(L, type_name(event->type));
    lua_setfield(L, -2, "type");
    lua_pushlstring(L, event->data ? (const char *)event->data : "",
                    event->len);
    lua_setfield(L, -2, "data");
    if (event->type <= CWS_EVENT_PIECE) {
        lua_pushinteger(L, event->opcode);
        lua_setfield(L, -2, "opcode");
        lua_pushboolean(L, event->fin);
        lua_setfield(L, -2, "fin");
        lua_pushboolean(L, event->compressed);
        lua_setfield(L, -2, "compressed");
    }
    if (event->type >= CWS_EVENT_CLOSE) {
        lua_pushinteger(L, event->code);
        lua_setfield(L, -2, "code");
    }
}

static void append(lua_State *L, int list) {
    lua_rawseti(L, list, (lua_Integer)lua_rawlen(L, list) + 1);
}

/* The input moves to other memory, as when a connection keeps it for later. */
static void feed_rest_again(lua_State *L, struct feeding *f) {
    uint8_t *rest;
    size_t n = cws_session_rest(&f->self->session, &rest);
    if (!n)
        return;
    uint8_t *copy = lua_newuserdatauv(L, n, 0);
    memcpy(copy, rest, n);
    memset(rest, 0xDD, n);
    lua_replace(L, f->buffer);
    cws_session_feed(&f->self->session, copy, n);
}

static void pull(lua_State *L, struct feeding *f, enum way way) {
    enum cws_parse result;
    for (;;) {
        struct cws_event event;
        memset(&event, 0xEE, sizeof event);
        result = cws_session_next(&f->self->session, &event);
        if (result != CWS_ITEM)
            break;
        push_event(L, &event);
        add_answer(L, f, &event);
        append(L, f->events);
        if (way == WAY_REST)
            feed_rest_again(L, f);
    }
    if (result == CWS_BAD) {
        lua_createtable(L, 0, 1);
        lua_pushliteral(L, "memory");
        lua_setfield(L, -2, "type");
        append(L, f->events);
    }
}

/* --- feeding ------------------------------------------------------------- */

static void feed_part(lua_State *L, struct feeding *f, const char *bytes,
                      size_t n, enum way way) {
    uint8_t *copy = lua_newuserdatauv(L, n, 0);
    memcpy(copy, bytes, n);
    lua_replace(L, f->buffer);
    cws_session_feed(&f->self->session, copy, n);
    pull(L, f, way);
    if (way != WAY_REST)
        memset(copy, 0xDD, n);
}

/* One byte, or as many as fit the place that the session offers. */
static size_t place_part(lua_State *L, struct feeding *f, const char *bytes,
                         size_t n) {
    size_t room;
    uint8_t *place = cws_session_place(&f->self->session, 1, &room);
    if (!place) {
        feed_part(L, f, bytes, 1, WAY_FEED);
        return 1;
    }
    if (room > n)
        room = n;
    memcpy(place, bytes, room);
    cws_session_placed(&f->self->session, room);
    pull(L, f, WAY_PLACE);
    return room;
}

static void feed_all(lua_State *L, struct feeding *f, const char *bytes,
                     size_t n, enum way way) {
    if (way != WAY_PLACE) {
        feed_part(L, f, bytes, n, way);
        return;
    }
    while (n) {
        size_t used = place_part(L, f, bytes, n);
        bytes += used;
        n -= used;
    }
}

static int feed(lua_State *L) {
    struct feeding f = {.self = check(L)};
    size_t n;
    const char *bytes = luaL_checklstring(L, 2, &n);
    enum way way = (enum way)luaL_checkoption(L, 3, "feed", ways);
    lua_settop(L, 3);
    lua_newtable(L);
    f.events = 4;
    lua_pushnil(L);
    f.buffer = 5;
    feed_all(L, &f, bytes, n, way);
    lua_settop(L, f.events);
    return 1;
}

/* --- the rest of session.h ----------------------------------------------- */

static int stream(lua_State *L) {
    cws_session_stream(&check(L)->session);
    return 0;
}

static int partial(lua_State *L) {
    lua_pushboolean(L, cws_session_partial(&check(L)->session));
    return 1;
}

static int pending(lua_State *L) {
    lua_pushboolean(L, cws_session_pending(&check(L)->session));
    return 1;
}

static int memory(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)cws_session_memory(&check(L)->session));
    return 1;
}

static int shrink(lua_State *L) {
    cws_session_shrink(&check(L)->session);
    return 0;
}

static int state(lua_State *L) {
    lua_pushstring(L, states[check(L)->session.state]);
    return 1;
}

static int fail_session(lua_State *L) {
    cws_session_fail(&check(L)->session);
    return 0;
}

/* session:place(least) -> room, or nil. */
static int place(lua_State *L) {
    size_t room;
    size_t least = (size_t)luaL_checkinteger(L, 2);
    if (!cws_session_place(&check(L)->session, least, &room))
        return 0;
    lua_pushinteger(L, (lua_Integer)room);
    return 1;
}

/* n bytes, or nil and the error. */
static int push_bytes(lua_State *L, int n, const uint8_t *bytes) {
    if (n >= 0) {
        lua_pushlstring(L, (const char *)bytes, (size_t)n);
        return 1;
    }
    lua_pushnil(L);
    lua_pushstring(L, cws_err_kind((enum cws_err)n));
    return 2;
}

/* session:header(opcode, fin, compressed, len) -> header, key */
static int header(lua_State *L) {
    struct testing_session *self = check(L);
    struct cws_frame frame = {0};
    uint8_t out[CWS_FRAME_HEADER_MAX];
    int n = cws_session_header(&self->session, (uint8_t)luaL_checkinteger(L, 2),
                               lua_toboolean(L, 3), lua_toboolean(L, 4),
                               (size_t)luaL_checkinteger(L, 5), &frame, out);
    if (n < 0)
        return push_bytes(L, n, out);
    push_bytes(L, n, out);
    lua_pushlstring(L, (const char *)frame.key, frame.masked ? 4 : 0);
    return 2;
}

/* Pushes header and payload as they go on the wire. */
static int push_frame(lua_State *L, struct testing_session *self,
                      struct cws_frame *frame, const char *data, size_t len) {
    uint8_t head[CWS_FRAME_HEADER_MAX];
    int n = cws_session_header(&self->session, frame->opcode, frame->fin,
                               frame->rsv, len, frame, head);
    if (n < 0)
        return push_bytes(L, n, head);
    luaL_Buffer out;
    char *to = luaL_buffinitsize(L, &out, (size_t)n + len);
    memcpy(to, head, (size_t)n);
    if (len)
        memcpy(to + n, data, len);
    if (frame->masked)
        cws_mask((uint8_t *)to + n, len, frame->key, 0);
    luaL_pushresultsize(&out, (size_t)n + len);
    return 1;
}

/* session:send(opcode, data [, fin [, compressed]]) -> frame */
static int send_data(lua_State *L) {
    struct testing_session *self = check(L);
    size_t len;
    const char *data = luaL_checklstring(L, 3, &len);
    struct cws_frame frame = {.opcode = (uint8_t)luaL_checkinteger(L, 2),
                              .fin =
                                  lua_isnoneornil(L, 4) || lua_toboolean(L, 4),
                              .rsv = lua_toboolean(L, 5) ? 4 : 0};
    return push_frame(L, self, &frame, data, len);
}

/* session:compress(data, last) -> bytes */
static int compress(lua_State *L) {
    struct testing_session *self = check(L);
    size_t len;
    const char *data = luaL_checklstring(L, 2, &len);
    if (!cws_session_can_compress(&self->session))
        return push_bytes(L, CWS_EUSAGE, NULL);
    struct cws_buf out = {0};
    int err = cws_session_compress(&self->session, (const uint8_t *)data, len,
                                   lua_toboolean(L, 3), &out);
    if (err == 0 && cws_buf_len(&out) == 0)
        lua_pushliteral(L, "");
    else if (err == 0)
        lua_pushlstring(L, (const char *)cws_buf_bytes(&out),
                        cws_buf_len(&out));
    cws_buf_free(&out);
    return err < 0 ? push_bytes(L, err, NULL) : 1;
}

/* session:control(opcode, data) -> frame */
static int control(lua_State *L) {
    struct testing_session *self = check(L);
    uint8_t out[CWS_SESSION_CONTROL_MAX];
    size_t len;
    const char *data = luaL_optlstring(L, 3, "", &len);
    luaL_argcheck(L, len <= CWS_FRAME_CONTROL_MAX, 3, "too long");
    int n =
        cws_session_control(&self->session, (uint8_t)luaL_checkinteger(L, 2),
                            (const uint8_t *)data, len, out);
    return push_bytes(L, n, out);
}

/* session:close([code [, reason]]) -> frame, or "" when it was sent before */
static int close_session(lua_State *L) {
    struct testing_session *self = check(L);
    uint8_t out[CWS_SESSION_CONTROL_MAX];
    size_t len;
    uint16_t code = (uint16_t)luaL_optinteger(L, 2, 0);
    const char *reason = luaL_optlstring(L, 3, "", &len);
    return push_bytes(
        L, cws_session_close(&self->session, code, reason, len, out), out);
}

static int close_code_valid(lua_State *L) {
    lua_pushboolean(L, cws_session_code_valid((int)luaL_checkinteger(L, 1)));
    return 1;
}

static const luaL_Reg methods[] = {
    {"feed", feed},       {"stream", stream},       {"partial", partial},
    {"pending", pending}, {"memory", memory},       {"shrink", shrink},
    {"state", state},     {"fail", fail_session},   {"place", place},
    {"header", header},   {"send", send_data},      {"compress", compress},
    {"control", control}, {"close", close_session}, {"free", free_session},
    {NULL, NULL}};

void cws_testing_open_session(lua_State *L) {
    luaL_newmetatable(L, SESSION);
    lua_pushcfunction(L, free_session);
    lua_setfield(L, -2, "__gc");
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_pushcfunction(L, new_session);
    lua_setfield(L, -2, "session");
    lua_pushcfunction(L, close_code_valid);
    lua_setfield(L, -2, "close_code_valid");
}
