/*
 * options.c - the limits and times of a connection as a table of Lua: names,
 * ranges, what is said about a wrong one. options.h of layer 2 has the
 * defaults and the meaning.
 */
#include "binding.h"

#include <math.h>
#include <string.h>

enum option_kind {
    SECONDS, /* above 0; math.huge is none */
    SIZE,    /* 1 or more; math.huge is unlimited */
    BITS,    /* uint8_t: min..max */
    INTEGER, /* int: min..max */
    FLAG
};

struct option {
    const char *name;
    enum option_kind kind;
    size_t at; /* in struct cws_options */
    int min, max;
};

#define HEAD_MAX (1 << 30)
#define AT(field) offsetof(struct cws_options, field)

static const struct option limits[] = {
    {"connect_timeout", SECONDS, AT(connect_timeout), 0, 0},
    {"handshake_timeout", SECONDS, AT(handshake_timeout), 0, 0},
    {"handler_timeout", SECONDS, AT(handler_timeout), 0, 0},
    {"response_timeout", SECONDS, AT(response_timeout), 0, 0},
    {"send_timeout", SECONDS, AT(send_timeout), 0, 0},
    {"close_timeout", SECONDS, AT(close_timeout), 0, 0},
    {"ping_interval", SECONDS, AT(ping_interval), 0, 0},
    {"pong_timeout", SECONDS, AT(pong_timeout), 0, 0},
    {"idle_timeout", SECONDS, AT(idle_timeout), 0, 0},
    {"max_message", SIZE, AT(session.max_message), 0, 0},
    {"max_fragments", SIZE, AT(session.max_fragments), 0, 0},
    {"max_ratio", SIZE, AT(session.max_ratio), 0, 0},
    /* offsets into a head have 32 bits */
    {"request_line", SIZE, AT(http.line), 0, HEAD_MAX},
    {"header_bytes", SIZE, AT(http.header), 0, HEAD_MAX},
    {"header_fields", SIZE, AT(http.fields), 0, CWS_HTTP_FIELDS_MAX},
    {"send_buffer", SIZE, AT(send_buffer), 0, 0},
    {"max_queue", SIZE, AT(max_queue), 0, 0},
    {"inbox_bytes", SIZE, AT(inbox_bytes), 0, 0},
    {"inbox_messages", SIZE, AT(inbox_messages), 0, 0},
    {"max_connections", SIZE, AT(max_connections), 0, 0},
    {NULL, FLAG, 0, 0, 0}};

static const struct option compression[] = {
    {"server_no_context_takeover", FLAG, AT(deflate.server_no_context_takeover),
     0, 0},
    {"client_no_context_takeover", FLAG, AT(deflate.client_no_context_takeover),
     0, 0},
    /* zlib has no raw deflate with a window of 8 bits */
    {"server_max_window_bits", BITS, AT(deflate.server_max_window_bits), 9, 15},
    {"client_max_window_bits", BITS, AT(deflate.client_max_window_bits), 9, 15},
    {"level", INTEGER, AT(compression_level), 1, 9},
    {"memory", INTEGER, AT(compression_memory), 1, 9},
    {"threshold", SIZE, AT(compression_threshold), 0, 0},
    {NULL, FLAG, 0, 0, 0}};

/* --- reading ----------------------------------------------------------------
 */

/* The table that is read, for error texts. */
struct reading {
    lua_State *L;
    const char *what;   /* the function */
    const char *prefix; /* "compression.", or "" */
    struct cws_options *out;
};

static int bad(const struct reading *r, const char *name,
               const char *expected) {
    return luaL_error(r->L, "bad option '%s%s' to '%s' (%s expected, got %s)",
                      r->prefix, name, r->what, expected,
                      luaL_tolstring(r->L, -1, NULL));
}

static void read_seconds(const struct reading *r, const struct option *o) {
    double value = lua_tonumber(r->L, -1);
    if (lua_type(r->L, -1) != LUA_TNUMBER || !(value > 0) ||
        (value > 1e9 && isfinite(value)))
        bad(r, o->name, "seconds above 0, up to 1e9, or math.huge");
    memcpy((char *)r->out + o->at, &value, sizeof value);
}

static void read_size(const struct reading *r, const struct option *o) {
    int exact;
    lua_Integer n = lua_tointegerx(r->L, -1, &exact);
    size_t value = (size_t)n;
    bool number = lua_type(r->L, -1) == LUA_TNUMBER;
    if (number && !exact && lua_tonumber(r->L, -1) == HUGE_VAL)
        value = o->max ? (size_t)o->max : SIZE_MAX;
    else if (!number || !exact || n < 1)
        bad(r, o->name, "integer from 1, or math.huge");
    if (o->max && value > (size_t)o->max)
        bad(r, o->name, lua_pushfstring(r->L, "integer from 1 to %d", o->max));
    memcpy((char *)r->out + o->at, &value, sizeof value);
}

static void read_integer(const struct reading *r, const struct option *o) {
    int exact;
    lua_Integer n = lua_tointegerx(r->L, -1, &exact);
    if (lua_type(r->L, -1) != LUA_TNUMBER || !exact || n < o->min || n > o->max)
        luaL_error(r->L,
                   "bad option '%s%s' to '%s' (integer from %d to %d "
                   "expected, got %s)",
                   r->prefix, o->name, r->what, o->min, o->max,
                   luaL_tolstring(r->L, -1, NULL));
    int value = (int)n;
    if (o->kind == BITS)
        *((uint8_t *)r->out + o->at) = (uint8_t)value;
    else
        memcpy((char *)r->out + o->at, &value, sizeof value);
}

static void read_flag(const struct reading *r, const struct option *o) {
    if (!lua_isboolean(r->L, -1))
        bad(r, o->name, "boolean");
    bool value = lua_toboolean(r->L, -1);
    memcpy((char *)r->out + o->at, &value, sizeof value);
}

static void read_one(const struct reading *r, const struct option *o) {
    switch (o->kind) {
    case SECONDS:
        read_seconds(r, o);
        break;
    case SIZE:
        read_size(r, o);
        break;
    case BITS:
    case INTEGER:
        read_integer(r, o);
        break;
    case FLAG:
        read_flag(r, o);
        break;
    }
}

static const struct option *find(const struct option *list, const char *name) {
    for (; list->name; list++)
        if (strcmp(list->name, name) == 0)
            return list;
    return NULL;
}

/* The key of the pair on top of the stack. */
static const char *check_key(const struct reading *r) {
    if (lua_type(r->L, -2) != LUA_TSTRING)
        luaL_error(r->L, "bad options to '%s' (names are strings, got a %s)",
                   r->what, luaL_typename(r->L, -2));
    return lua_tostring(r->L, -2);
}

static int unknown(const struct reading *r, const char *name) {
    return luaL_error(r->L, "bad option '%s%s' to '%s' (unknown)", r->prefix,
                      name, r->what);
}

/* `compression`: a boolean, or a table of its own (which means yes). */
static void read_compression(const struct reading *r) {
    lua_State *L = r->L;
    struct reading inner = {L, r->what, "compression.", r->out};
    r->out->compression = !lua_isboolean(L, -1) || lua_toboolean(L, -1);
    if (lua_isboolean(L, -1))
        return;
    if (!lua_istable(L, -1))
        bad(r, "compression", "boolean or table");
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        const char *name = check_key(&inner);
        const struct option *o = find(compression, name);
        if (!o)
            unknown(&inner, name);
        read_one(&inner, o);
        lua_pop(L, 1);
    }
}

static void read_table(const struct reading *r, int arg) {
    lua_State *L = r->L;
    luaL_checkstack(L, 10, NULL);
    lua_pushnil(L);
    while (lua_next(L, arg)) {
        const char *name = check_key(r);
        const struct option *o = find(limits, name);
        if (o)
            read_one(r, o);
        else if (strcmp(name, "compression") == 0)
            read_compression(r);
        else
            unknown(r, name);
        lua_pop(L, 1);
    }
}

struct cws_options *lcws_check_options(lua_State *L, int arg, const char *what,
                                       struct cws_options *base) {
    if (lua_isnoneornil(L, arg) && base)
        return cws_options_keep(base);
    struct cws_options read = base ? *base : cws_options_default;
    if (!lua_isnoneornil(L, arg)) {
        luaL_checktype(L, arg, LUA_TTABLE);
        struct reading r = {L, what, "", &read};
        read_table(&r, arg);
    }
    struct cws_options *options = cws_options_new(&read);
    if (!options)
        luaL_error(L, "not enough memory");
    return options;
}

/* --- the defaults as a table --------------------------------------------- */

static void push_value(lua_State *L, const struct option *o) {
    const char *at = (const char *)&cws_options_default + o->at;
    double seconds;
    size_t size;
    int integer;
    switch (o->kind) {
    case SECONDS:
        memcpy(&seconds, at, sizeof seconds);
        lua_pushnumber(L, seconds);
        break;
    case SIZE:
        memcpy(&size, at, sizeof size);
        lua_pushinteger(L, (lua_Integer)size);
        break;
    case BITS:
        lua_pushinteger(L, *(const uint8_t *)at);
        break;
    case INTEGER:
        memcpy(&integer, at, sizeof integer);
        lua_pushinteger(L, integer);
        break;
    case FLAG:
        lua_pushboolean(L, *at);
        break;
    }
}

static void push_values(lua_State *L, const struct option *list) {
    lua_newtable(L);
    for (; list->name; list++) {
        push_value(L, list);
        lua_setfield(L, -2, list->name);
    }
}

void lcws_open_options(lua_State *L) {
    push_values(L, limits);
    push_values(L, compression);
    lua_setfield(L, -2, "compression");
    lua_setfield(L, -2, "defaults");
}
