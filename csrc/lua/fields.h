/*
 * fields.h - header fields between Lua and HTTP: what a program gives, checked,
 * and what a peer sent.
 */
#ifndef LCWS_FIELDS_H
#define LCWS_FIELDS_H

#include "binding.h"

#include "../proto/http.h"

/* The list {name, value, name, value, ...} at `arg` (or nil) as complete
 * header lines, pushed as one string. Raises, naming `what`, for a name that is
 * no token, a value with CR, LF, NUL or another control byte, and a field that
 * belongs to the handshake or to the connection. */
void lcws_push_fields(lua_State *L, int arg, const char *what);

/* A table of lower-case names to values, repeated fields joined by ", ", which
 * finds names in any case. */
void lcws_push_headers(lua_State *L, const struct cws_http *http,
                       const char *head);

/* The value of one field, joined, or nil. */
void lcws_push_header(lua_State *L, const struct cws_http *http,
                      const char *head, const char *name);

/* fields.c: the metatable of header tables. */
void lcws_open_fields(lua_State *L);

#endif
