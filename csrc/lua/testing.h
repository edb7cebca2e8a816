/*
 * testing.h - what the parts of cws.testing share. Input of layer 1 lies in
 * memory of exactly its size, so that the sanitizer sees a read beyond it.
 */
#ifndef CWS_LUA_TESTING_H
#define CWS_LUA_TESTING_H

#include <lauxlib.h>
#include <lua.h>

#include "../proto/deflate.h"

/* Each adds its functions to the table on top of the stack. */
void cws_testing_open_base(lua_State *L);
void cws_testing_open_deflate(lua_State *L);
void cws_testing_open_extension(lua_State *L);
void cws_testing_open_handshake(lua_State *L);
void cws_testing_open_http(lua_State *L);
void cws_testing_open_loop(lua_State *L);
void cws_testing_open_process(lua_State *L);
void cws_testing_open_socket(lua_State *L);
void cws_testing_open_session(lua_State *L);

/* The string at `index`, which is replaced by its copy; data is NULL where
 * there is none. Valid as long as the stack slot. */
struct cws_span cws_testing_span(lua_State *L, int index);

/* The field of the table at `index`, likewise; pushes one value. */
struct cws_span cws_testing_field(lua_State *L, int index, const char *name);

/* nil and the kind. */
int cws_testing_error(lua_State *L, int err);

/* A span as a string; nil where data is NULL. */
void cws_testing_push(lua_State *L, struct cws_span span);

/* Pushes what the buffer holds, or nil and the kind when err is negative, and
 * frees it. */
int cws_testing_result(lua_State *L, struct cws_buf *b, int err);

/* The table at `index`, whose fields have the names of the struct's. */
struct cws_deflate_params cws_testing_params(lua_State *L, int index);

/* The same table, which may also have `level` and `memory`. */
struct cws_deflate_config cws_testing_deflate_config(lua_State *L, int index,
                                                     enum cws_role role);

#endif
