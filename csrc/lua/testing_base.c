/*
 * testing_base.c - the small parts of layer 1 for specs: cws.c, buf, mask,
 * frame, crypto, utf8 and url. What a function fails with is nil and the kind.
 */
#include "testing.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../proto/crypto.h"
#include "../proto/frame.h"
#include "../proto/mask.h"
#include "../proto/url.h"
#include "../proto/utf8.h"

#define BUF "cws.testing.buf"

/* --- cws.c ---------------------------------------------------------------- */

static int err_kind(lua_State *L) {
    lua_pushstring(L, cws_err_kind((enum cws_err)luaL_checkinteger(L, 1)));
    return 1;
}

static int close_text(lua_State *L) {
    lua_pushstring(L, cws_close_text((int)luaL_checkinteger(L, 1)));
    return 1;
}

/* error_set(err, code, text) -> what it returned, err, code, text */
static int error_set(lua_State *L) {
    struct cws_error error;
    enum cws_err err = (enum cws_err)luaL_checkinteger(L, 1);
    int code = (int)luaL_checkinteger(L, 2);
    const char *text = luaL_checkstring(L, 3);
    memset(&error, 0xEE, sizeof error);
    lua_pushinteger(L, cws_error_set(NULL, err, code, "%s", text));
    (void)cws_error_set(&error, err, code, "%s", text);
    lua_pushinteger(L, error.err);
    lua_pushinteger(L, error.code);
    lua_pushstring(L, error.text);
    return 4;
}

/* escape(text, cap, keep_utf8) -> text, nil without room for the NUL */
static int escape(lua_State *L) {
    struct cws_span text = cws_testing_span(L, 1);
    size_t cap = (size_t)luaL_checkinteger(L, 2);
    char *out = lua_newuserdatauv(L, cap, 0);
    memset(out, 0xEE, cap);
    size_t n = cws_escape(out, cap, text.data, text.len, lua_toboolean(L, 3));
    if (!cap)
        return 0;
    luaL_argcheck(L, n < cap && out[n] == 0, 2, "no NUL at the end");
    lua_pushlstring(L, out, n);
    return 1;
}

/* --- buf ------------------------------------------------------------------ */

static struct cws_buf *check_buf(lua_State *L) {
    return luaL_checkudata(L, 1, BUF);
}

static int buf_new(lua_State *L) {
    struct cws_buf *b = lua_newuserdatauv(L, sizeof *b, 0);
    memset(b, 0, sizeof *b);
    luaL_setmetatable(L, BUF);
    return 1;
}

static int buf_append(lua_State *L) {
    struct cws_span bytes = cws_testing_span(L, 2);
    int err = cws_buf_append(check_buf(L), bytes.data, bytes.len);
    if (err < 0)
        return cws_testing_error(L, err);
    lua_pushboolean(L, true);
    return 1;
}

/* buf:room(n [, bytes]) -> false, or true with the bytes put into it */
static int buf_room(lua_State *L) {
    struct cws_buf *b = check_buf(L);
    uint8_t *room = cws_buf_room(b, (size_t)luaL_checkinteger(L, 2));
    size_t len = 0;
    const char *bytes = luaL_optlstring(L, 3, "", &len);
    if (room && len) {
        memcpy(room, bytes, len);
        cws_buf_added(b, len);
    }
    lua_pushboolean(L, room != NULL);
    return 1;
}

static int buf_consume(lua_State *L) {
    cws_buf_consume(check_buf(L), (size_t)luaL_checkinteger(L, 2));
    return 0;
}

static int buf_clear(lua_State *L) {
    cws_buf_clear(check_buf(L));
    return 0;
}

static int buf_free(lua_State *L) {
    cws_buf_free(check_buf(L));
    return 0;
}

static int buf_bytes(lua_State *L) {
    struct cws_buf *b = check_buf(L);
    size_t len = cws_buf_len(b);
    lua_pushlstring(L, len ? (const char *)cws_buf_bytes(b) : "", len);
    return 1;
}

/* buf:sizes() -> bytes before the content, in it, of memory */
static int buf_sizes(lua_State *L) {
    struct cws_buf *b = check_buf(L);
    lua_pushinteger(L, (lua_Integer)b->head);
    lua_pushinteger(L, (lua_Integer)cws_buf_len(b));
    lua_pushinteger(L, (lua_Integer)b->cap);
    return 3;
}

/* --- mask ----------------------------------------------------------------- */

/* A byte before and after, which must stay, and the bytes `shift` further on
 * than memory for any type. */
static int masked(lua_State *L, bool copy) {
    struct cws_span from = cws_testing_span(L, 1);
    struct cws_span key = cws_testing_span(L, 2);
    size_t offset = (size_t)luaL_optinteger(L, 3, 0);
    size_t shift = (size_t)luaL_optinteger(L, 4, 0);
    luaL_argcheck(L, key.len == 4, 2, "four bytes expected");
    uint8_t *to = lua_newuserdatauv(L, shift + from.len, 0);
    memset(to, 0xEE, shift + from.len);
    if (copy)
        cws_mask_copy(to + shift, (const uint8_t *)from.data, from.len,
                      (const uint8_t *)key.data, offset);
    else
        memcpy(to + shift, from.data, from.len);
    if (!copy)
        cws_mask(to + shift, from.len, (const uint8_t *)key.data, offset);
    for (size_t i = 0; i < shift; i++)
        luaL_argcheck(L, to[i] == 0xEE, 4, "a byte before was written");
    lua_pushlstring(L, (const char *)to + shift, from.len);
    return 1;
}

/* mask(data, key [, offset [, shift]]) */
static int mask(lua_State *L) {
    return masked(L, false);
}

static int mask_copy(lua_State *L) {
    return masked(L, true);
}

/* --- frame ---------------------------------------------------------------- */

static void push_frame(lua_State *L, const struct cws_frame *frame) {
    lua_createtable(L, 0, 6);
    lua_pushinteger(L, (lua_Integer)frame->len);
    lua_setfield(L, -2, "len");
    lua_pushinteger(L, frame->opcode);
    lua_setfield(L, -2, "opcode");
    lua_pushboolean(L, frame->fin);
    lua_setfield(L, -2, "fin");
    lua_pushinteger(L, frame->rsv);
    lua_setfield(L, -2, "rsv");
    lua_pushboolean(L, frame->masked);
    lua_setfield(L, -2, "masked");
    lua_pushlstring(L, (const char *)frame->key, frame->masked ? 4 : 0);
    lua_setfield(L, -2, "key");
}

/* frame_read(bytes) -> "more", "bad", or "item", frame, bytes used */
static int frame_read(lua_State *L) {
    struct cws_span bytes = cws_testing_span(L, 1);
    struct cws_frame frame;
    size_t used = 0;
    memset(&frame, 0xEE, sizeof frame);
    switch (
        cws_frame_read((const uint8_t *)bytes.data, bytes.len, &frame, &used)) {
    case CWS_MORE:
        lua_pushliteral(L, "more");
        return 1;
    case CWS_BAD:
        lua_pushliteral(L, "bad");
        return 1;
    default:
        lua_pushliteral(L, "item");
        push_frame(L, &frame);
        lua_pushinteger(L, (lua_Integer)used);
        return 3;
    }
}

static lua_Integer number(lua_State *L, const char *name) {
    lua_getfield(L, 1, name);
    lua_Integer n = luaL_checkinteger(L, -1);
    lua_pop(L, 1);
    return n;
}

static bool boolean(lua_State *L, const char *name) {
    lua_getfield(L, 1, name);
    bool is = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return is;
}

/* The inverse. */
static int frame_write(lua_State *L) {
    struct cws_frame frame = {.len = (uint64_t)number(L, "len"),
                              .opcode = (uint8_t)number(L, "opcode"),
                              .fin = boolean(L, "fin"),
                              .rsv = (uint8_t)number(L, "rsv"),
                              .masked = boolean(L, "masked")};
    uint8_t out[CWS_FRAME_HEADER_MAX];
    struct cws_span key = cws_testing_field(L, 1, "key");
    if (frame.masked && key.len == sizeof frame.key)
        memcpy(frame.key, key.data, sizeof frame.key);
    lua_pushlstring(L, (const char *)out, cws_frame_write(&frame, out));
    return 1;
}

/* --- crypto --------------------------------------------------------------- */

static int accept_key(lua_State *L) {
    char out[CWS_CRYPTO_ACCEPT_LEN + 1];
    struct cws_span key = cws_testing_span(L, 1);
    int err = cws_crypto_accept(key.data, key.len, out);
    if (err < 0)
        return cws_testing_error(L, err);
    lua_pushstring(L, out);
    return 1;
}

static int new_key(lua_State *L) {
    char out[CWS_CRYPTO_KEY_LEN + 1];
    int err = cws_crypto_key(out);
    if (err < 0)
        return cws_testing_error(L, err);
    lua_pushstring(L, out);
    return 1;
}

static int key_valid(lua_State *L) {
    struct cws_span key = cws_testing_span(L, 1);
    lua_pushboolean(L, cws_crypto_key_valid(key.data, key.len));
    return 1;
}

static int random_bytes(lua_State *L) {
    size_t n = (size_t)luaL_checkinteger(L, 1);
    char *out = lua_newuserdatauv(L, n, 0);
    int err = cws_crypto_random(out, n);
    if (err < 0)
        return cws_testing_error(L, err);
    lua_pushlstring(L, out, n);
    return 1;
}

static int random_fail(lua_State *L) {
    cws_crypto_fail((unsigned)luaL_checkinteger(L, 1));
    return 0;
}

/* mask_keys(n) -> n keys, one after the other */
static int mask_keys(lua_State *L) {
    size_t n = (size_t)luaL_checkinteger(L, 1);
    uint8_t *out = lua_newuserdatauv(L, 4 * n, 0);
    for (size_t i = 0; i < n; i++) {
        int err = cws_crypto_mask_key(out + 4 * i);
        if (err < 0)
            return cws_testing_error(L, err);
    }
    lua_pushlstring(L, (const char *)out, 4 * n);
    return 1;
}

/* In the child: sends its next key to the parent. */
static void send_key(int fd) {
    uint8_t key[4];
    bool ok = cws_crypto_mask_key(key) == 0 && write(fd, key, 4) == 4;
    _exit(ok ? 0 : 1);
}

/* forked_mask_key() -> the next key of a forked child, or nil */
static int forked_mask_key(lua_State *L) {
    int ends[2];
    char key[4];
    if (pipe(ends) != 0)
        return luaL_error(L, "pipe failed");
    pid_t child = fork();
    if (child == 0)
        send_key(ends[1]);
    (void)close(ends[1]);
    ssize_t n = child > 0 ? read(ends[0], key, sizeof key) : 0;
    (void)close(ends[0]);
    if (child > 0)
        (void)waitpid(child, NULL, 0);
    if (n != sizeof key)
        return 0;
    lua_pushlstring(L, key, sizeof key);
    return 1;
}

/* --- utf8 ----------------------------------------------------------------- */

/* utf8_feed(segment...) -> the number of the first segment that was refused,
 * or 0, and whether the text may end here */
static int utf8_feed(lua_State *L) {
    struct cws_utf8 state = {0};
    int count = lua_gettop(L);
    for (int i = 1; i <= count; i++) {
        struct cws_span s = cws_testing_span(L, i);
        if (!cws_utf8_feed(&state, (const uint8_t *)s.data, s.len)) {
            lua_pushinteger(L, i);
            return 1;
        }
    }
    lua_pushinteger(L, 0);
    lua_pushboolean(L, cws_utf8_complete(&state));
    return 2;
}

/* utf8_valid(text [, shift]): `shift` bytes further on than memory for any
 * type */
static int utf8_valid(lua_State *L) {
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    size_t shift = (size_t)luaL_optinteger(L, 2, 0);
    uint8_t *copy = lua_newuserdatauv(L, shift + len, 0);
    memset(copy, 0xEE, shift);
    memcpy(copy + shift, text, len);
    lua_pushboolean(L, cws_utf8_valid(copy + shift, len));
    return 1;
}

static int utf8_implementation(lua_State *L) {
    lua_pushstring(L, cws_utf8_implementation());
    return 1;
}

static int utf8_force(lua_State *L) {
    lua_pushboolean(L, cws_utf8_force(luaL_checkstring(L, 1)));
    return 1;
}

/* --- url ------------------------------------------------------------------ */

static void set_span(lua_State *L, const char *name, struct cws_span span) {
    cws_testing_push(L, span);
    lua_setfield(L, -2, name);
}

static void set_authority(lua_State *L, const struct cws_authority *a) {
    set_span(L, "host", a->host);
    lua_pushboolean(L, a->ipv6);
    lua_setfield(L, -2, "ipv6");
    lua_pushinteger(L, a->port);
    lua_setfield(L, -2, "port");
}

/* url_parse(text, allow_http) -> table, or nil and what is wrong */
static int url_parse(lua_State *L) {
    struct cws_url url;
    struct cws_span text = cws_testing_span(L, 1);
    bool allow_http = lua_toboolean(L, 2);
    memset(&url, 0xEE, sizeof url);
    const char *why = cws_url_parse(text.data, text.len, allow_http, &url);
    if (why) {
        lua_pushnil(L);
        lua_pushstring(L, why);
        return 2;
    }
    lua_newtable(L);
    lua_pushboolean(L, url.secure);
    lua_setfield(L, -2, "secure");
    set_authority(L, &url.authority);
    set_span(L, "authority", url.authority_text);
    set_span(L, "target", url.target);
    return 1;
}

/* url_authority(text) -> table or nil */
static int url_authority(lua_State *L) {
    struct cws_authority authority;
    struct cws_span text = cws_testing_span(L, 1);
    memset(&authority, 0xEE, sizeof authority);
    if (!cws_url_authority(text.data, text.len, &authority))
        return 0;
    lua_newtable(L);
    set_authority(L, &authority);
    return 1;
}

/* url_decode(text) -> text or nil */
static int url_decode(lua_State *L) {
    struct cws_span text = cws_testing_span(L, 1);
    char *out = lua_newuserdatauv(L, text.len, 0);
    int n = cws_url_decode(text.data, text.len, out);
    if (n < 0)
        return 0;
    lua_pushlstring(L, out, (size_t)n);
    return 1;
}

/* --- opening -------------------------------------------------------------- */

static const luaL_Reg buf_methods[] = {
    {"append", buf_append}, {"room", buf_room}, {"consume", buf_consume},
    {"clear", buf_clear},   {"free", buf_free}, {"bytes", buf_bytes},
    {"sizes", buf_sizes},   {"__gc", buf_free}, {NULL, NULL}};

static const luaL_Reg functions[] = {
    {"err_kind", err_kind},
    {"close_text", close_text},
    {"error_set", error_set},
    {"escape", escape},
    {"buf", buf_new},
    {"mask", mask},
    {"mask_copy", mask_copy},
    {"frame_read", frame_read},
    {"frame_write", frame_write},
    {"accept_key", accept_key},
    {"new_key", new_key},
    {"key_valid", key_valid},
    {"random_bytes", random_bytes},
    {"random_fail", random_fail},
    {"mask_keys", mask_keys},
    {"forked_mask_key", forked_mask_key},
    {"utf8_feed", utf8_feed},
    {"utf8_valid", utf8_valid},
    {"utf8_implementation", utf8_implementation},
    {"utf8_force", utf8_force},
    {"url_parse", url_parse},
    {"url_authority", url_authority},
    {"url_decode", url_decode},
    {NULL, NULL}};

void cws_testing_open_base(lua_State *L) {
    luaL_newmetatable(L, BUF);
    luaL_setfuncs(L, buf_methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_setfuncs(L, functions, 0);
}
