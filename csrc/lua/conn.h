/*
 * conn.h - the userdata of a connection, for conn.c (life, receive,
 * close), send.c and stream.c (readers and writers).
 */
#ifndef LCWS_CONN_H
#define LCWS_CONN_H

#include "binding.h"

#include "../proto/utf8.h"

/* Upvalues of receive: no lookup by name on the way of a message. */
#define WS_TEXT lua_upvalueindex(1) /* "text" */
#define WS_BINARY lua_upvalueindex(2)
#define WS_UPVALUES 2
/* A shorter text is never s->checked. */
#define LCWS_CHECKED_MIN ((size_t)4 * 1024)

/* User values of the userdata. */
#define WS_PROTOCOL 1 /* the subprotocol, or nil */
#define WS_HANDLERS 2 /* table of on_* functions, made on demand */

struct ws_note;

/* Pieces of a message for which a reader had asked and then gave up. */
struct ws_joined {
    struct cws_buf buf;
    uint8_t opcode;
};

struct lcws_ws {
    const char *magic; /* says that it is one, until __gc */
    struct lcws *s;
    struct cws_conn *conn;     /* NULL before lcws_ws_set; until __gc */
    struct cws_link receivers; /* struct lcws_wait; at most one */
    struct cws_link senders;   /* first come, first served */
    struct cws_link behind;    /* senders that wait for the writer's end */
    struct cws_link closers;
    struct ws_calls *calls;   /* what on_* functions will be told, or NULL */
    struct ws_joined *joined; /* pieces that receive() puts together, or NULL */
    struct ws_writer *writer; /* the one that is open, or NULL */
    uint32_t serial;          /* counts messages that were read in pieces */
    bool reading;             /* the message `serial` is not read to its end */
    bool turn;                /* the sender that runs now has waited its turn */
};

/* The connection at index 1; raises unless it is one. */
struct lcws_ws *lcws_ws_check(lua_State *L);
/* NULL unless it is one that has not been collected. */
struct lcws_ws *lcws_ws_test(lua_State *L, int index);

/* True once the end is decided. */
bool lcws_ws_ended(const struct lcws_ws *ws);
/* nil, message, "closed" [, code]. */
int lcws_ws_closed(lua_State *L, const struct lcws_ws *ws);

/* Pushes the results of a failed send: the error of layer 2. */
int lcws_ws_send_failed(lua_State *L, const struct lcws_ws *ws, int err,
                        const char *what);

/* Throws away what is left of the message that is read in pieces: its reader
 * gets nothing more. False when its end has not come yet. */
bool lcws_ws_drain(struct lcws_ws *ws);

/* Gives away what a receive has gathered of the message under way, in `buf`
 * (empty before). Its opcode, or 0 when there is nothing. */
uint8_t lcws_ws_take_joined(struct lcws_ws *ws, struct cws_buf *buf);

/* nil, "...: ...", "busy" when another coroutine receives, else 0 pushed. */
int lcws_ws_receiver_busy(lua_State *L, const struct lcws_ws *ws,
                          const char *what);

/* Arms a wait for a message, for room to send, or for the end of the writer
 * that is open. */
void lcws_ws_arm_receive(struct lcws_ws *ws, struct lcws_wait *wait);
void lcws_ws_arm_send(struct lcws_ws *ws, struct lcws_wait *wait);
void lcws_ws_arm_behind(struct lcws_ws *ws, struct lcws_wait *wait);
/* True when the caller may queue now. */
bool lcws_ws_may_send(struct lcws_ws *ws);

/* Reads {type =, compress =, timeout =}, or a type, at `arg`; the timeout at
 * `arg + 1`. */
struct ws_how {
    uint8_t opcode;
    int flags; /* CWS_CONN_COMPRESS */
    double timeout;
};
void lcws_ws_check_how(lua_State *L, int arg, const struct lcws_ws *ws,
                       struct ws_how *how);

/* The open writer was forgotten: nobody will end its message. */
void lcws_ws_writer_lost(struct ws_writer *writer);
/* True when the coroutine that runs now has opened it: to wait for its end
 * would be to wait for oneself. */
bool lcws_ws_writer_own(const struct ws_writer *writer);
/* It is closed: who waited for that goes on. */
void lcws_ws_writer_closed(struct lcws_ws *ws);

/* send.c: adds send, flush, ping and pong to the methods table on top. */
void lcws_open_send(lua_State *L);
/* info.c: what can be asked, the same way. */
void lcws_open_info(lua_State *L);
/* stream.c: reader and writer, the same way. */
void lcws_open_stream(lua_State *L);
/* calls.c: on_ping, on_pong, on_close, the same way. */
void lcws_open_calls(lua_State *L);
/* calls.c: notes an event for the functions of on_*. */
void lcws_ws_note(struct lcws_ws *ws, const struct cws_event *event);
void lcws_ws_note_end(struct lcws_ws *ws);
/* The userdata at index 1 is collected: what was not told yet, and its end, is
 * told all the same. */
void lcws_ws_tell_rest(lua_State *L, struct lcws_ws *ws);
void lcws_ws_free_calls(struct lcws_ws *ws);
/* broadcast.c: adds prepare and broadcast to the module table on top. */
void lcws_open_broadcast(lua_State *L);
struct cws_prepared *lcws_test_prepared(lua_State *L, int arg);

#endif
