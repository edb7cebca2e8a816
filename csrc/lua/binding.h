/*
 * binding.h - what the files of layer 3 share: the state of cws in one Lua
 * state, tasks, waiting, and small helpers.
 *
 * Rules (design, section 7): callbacks of layer 2 push only on s->running; no
 * Lua error crosses ev_run (everything Lua that a callback starts runs inside
 * lua_resume or lcws_protect); a resource is acquired after its userdata
 * stands; nobody resumes from inside another task's call: wakes are posted.
 */
#ifndef CWS_LUA_BINDING_H
#define CWS_LUA_BINDING_H

#include <lauxlib.h>
#include <lua.h>

#include "../net/conn.h"
#include "../net/loop.h"
#include "../net/options.h"

/* Names of the metatables, and what tostring and __name show. */
#define LCWS_WS "cws.ws"
#define LCWS_TASK "cws.task"
#define LCWS_WAITER "cws.waiter"
#define LCWS_TIMER "cws.timer"
#define LCWS_SERVER "cws.server"
#define LCWS_REQUEST "cws.request"
#define LCWS_PREPARED "cws.prepared"

struct lcws_task;

/* cws in one Lua state: a userdata kept in the registry; every C function of
 * the module finds it by lcws_get. */
struct lcws {
    lua_State *main;           /* the main thread of this Lua state */
    lua_State *running;        /* what callbacks push on; NULL: no loop runs */
    struct cws_loop *loop;     /* NULL until first used, and after closing */
    struct lcws_task *current; /* the task that is resumed now */
    size_t tasks;              /* tasks that have not ended */
    size_t listeners;          /* servers that listen */
    size_t signals;            /* signal watchers: they can end a wait */
    struct cws_link timers;    /* loop.c's, that run */
    struct lcws_signals *signal_box; /* signal.c's, made at first use */
    bool stopping;                   /* cws.stop() was called */
    bool closed;                     /* the Lua state ends: no call any more */
    int hooks;                       /* registry references: core.hooks, */
    int anchors;                     /* strong table of live tasks */
    int free_anchor;                 /* head of its free list */
    const void *text, *binary;       /* lua_topointer of "text" and "binary" */
    int checked_ref;     /* the text received last, when that is large, or */
    const void *checked; /* false: known to be UTF-8; lua_topointer, or NULL */
    struct cws_buf list; /* the connections of a broadcast under way */
};

extern const char lcws_key; /* its address is the key in the registry */

/* Creates the state when the module is opened. */
struct lcws *lcws_open(lua_State *L);
/* The state; creates the loop at first use (raises "not enough memory"). */
struct lcws *lcws_get(lua_State *L);
struct lcws *lcws_peek(lua_State *L); /* the same without making a loop */

/* The loop for who tidies up: NULL when there is none, or when it is a parent
 * process's (cws_loop_forked). */
struct cws_loop *lcws_own_loop(const struct lcws *s);
/* Raises in a child that was forked while cws was in use. */
void lcws_check_own(lua_State *L, const struct lcws *s);

/* --- results and errors ------------------------------------------------- */

/* nil, message, kind [, code]: pushes 3 values, or 4 when code is not 0. */
int lcws_fail(lua_State *L, enum cws_err err, int code, const char *format, ...)
    CWS_PRINTF(4, 5);
int lcws_fail_error(lua_State *L, const struct cws_error *error);
/* nil, "timeout", "timeout" */
int lcws_fail_timeout(lua_State *L);

/* The last argument of calls that wait: nil or none gives `fallback`; raises
 * unless it is a number >= 0 (math.huge is none). */
double lcws_check_timeout(lua_State *L, int arg, double fallback);

/* A message's type: nil, "text", "binary", 1, 2; raises otherwise. */
uint8_t lcws_check_type(lua_State *L, int arg);

/* A class: metatable with __name, __index = methods, __metatable locked. */
void lcws_new_class(lua_State *L, const char *name, const luaL_Reg *methods,
                    const luaL_Reg *metamethods);

/* --- calling Lua from callbacks ----------------------------------------- */

/* The thread that callbacks may push on. */
lua_State *lcws_stack(const struct lcws *s);

/* Runs fn(L, arg) protected on s->running with a clean stack; an error is
 * logged with its traceback. Returns false after an error. */
bool lcws_protect(struct lcws *s, int (*fn)(lua_State *L), void *arg);

/* One line to core.hooks.log (cws.log); never raises. */
void lcws_log(struct lcws *s, const char *format, ...) CWS_PRINTF(2, 3);

/* Pushes core.hooks[name]. */
void lcws_push_hook(lua_State *L, struct lcws *s, const char *name);

/* --- waiting ------------------------------------------------------------ */

/* One who waits: part of a task, or on the C stack of the main program. Zero
 * value: waits for nothing. */
struct lcws_wait {
    struct cws_link link; /* for whoever keeps a queue of them */
    struct lcws *s;
    bool in_task; /* false: the main program drives the loop */
    bool armed;   /* inside a wait */
    bool woken;
    bool timed_out;
    bool cancelled;
};

/*
 * An operation that may have to wait. Its arguments stand on the Lua stack of
 * the C function that started it, from index 1, and stay there.
 */
struct lcws_op {
    const char *name; /* "receive": for error texts; NULL: the string at 3 */
    /* Tries: pushes the results and returns their number, or -1 when it has to
     * wait. May raise. Called again after each wake. */
    int (*attempt)(lua_State *L, struct lcws *s);
    /* Appends wait->link to a queue of the object that will wake it (it is
     * unlinked before the next attempt). Does not raise. An object that is
     * freed first wakes its queues: lcws_wake_all. */
    void (*arm)(lua_State *L, struct lcws_wait *wait);
    /* The wait was given up (timeout, cancel, error); may be NULL. */
    void (*abandon)(lua_State *L);
    bool expires; /* its timeout is its success: sleep */
    bool given;   /* what it waits for is handed to it, and not lost when the
                     task is cancelled just then */
};

/*
 * Runs an operation: design section 3, "Waiting". In a task it yields, in the
 * main program while no loop runs it drives the loop, elsewhere it raises
 * "cannot wait here". timeout in seconds, 0 does not wait, INFINITY is none.
 * After a timeout it gives nil, "timeout", "timeout"; when the task was
 * cancelled nil, "NAME: task cancelled", "closed". Use:
 * `return lcws_perform(L, &op, timeout);`
 */
int lcws_perform(lua_State *L, const struct lcws_op *op, double timeout);
/* The same after an attempt that has to wait. */
int lcws_wait(lua_State *L, struct lcws *s, const struct lcws_op *op,
              double timeout);

/* One turn of the loop on behalf of L, between begin and end of a drive. *more:
 * something could still happen. False when an unwatched SIGINT came: the
 * caller ends the drive and raises "interrupted!". */
bool lcws_turn(lua_State *L, struct lcws *s, double timeout, bool *more);

/* The same until lcws_wake, or something else that whoever drives the loop has
 * to look at (cws_loop_break). */
bool lcws_turn_on(lua_State *L, struct lcws *s, bool *more);

/* Whether a loop runs: also one of the program's, which then called us. */
bool lcws_loop_runs(const struct lcws *s);

/* Before the loop goes: it may go on without us. */
void lcws_timers_close(struct lcws *s);
void lcws_tasks_close(struct lcws *s);

/* Monotonic seconds now. */
double lcws_clock(void);

/* signal.c: while the main program drives the loop SIGINT is caught. */
void lcws_sigint_begin(struct lcws *s);
void lcws_sigint_end(struct lcws *s);
bool lcws_interrupted(struct lcws *s);   /* one arrived, unwatched */
void lcws_signals_close(struct lcws *s); /* before the loop goes */

/* Wakes at the next turn (from anywhere; twice is once). */
void lcws_wake(struct lcws_wait *wait);
/* Wakes now: only from a callback of the loop that holds nothing. */
void lcws_wake_now(struct lcws_wait *wait);
/* Unlinks and wakes all of a queue of struct lcws_wait. */
void lcws_wake_all(struct cws_link *queue);

/* --- tasks -------------------------------------------------------------- */

enum lcws_task_result { LCWS_TASK_OK, LCWS_TASK_ERROR };

/*
 * Makes a task of the function and its nargs arguments on top of L's stack
 * (popped) and pushes its userdata. Starts at the next turn, or now with
 * lcws_task_start. `ended` (may be NULL) is called once from the loop when it
 * returned or raised (the error has been logged), never after lcws_closing.
 */
struct lcws_task *lcws_task_new(lua_State *L, struct lcws *s, int nargs,
                                void (*ended)(void *owner,
                                              enum lcws_task_result result),
                                void *owner);
/* A user value of the userdata of a task with `ended`: what has to live until
 * then. */
#define LCWS_TASK_OWNER 2

/*
 * A task whose userdata is something else as well, and saves the memory of
 * another: pushes it with `values` user values more, from LCWS_TASK_OWNER + 1
 * on, and returns `size` zeroed bytes of it, which `ended` will be given. The
 * caller sets its metatable.
 */
void *lcws_task_make(lua_State *L, struct lcws *s, size_t size, int values,
                     void (*ended)(void *bytes, enum lcws_task_result result));
void *lcws_task_bytes(void *userdata);
/* The userdata of the bytes, until the task has ended. */
void lcws_task_push(lua_State *L, void *bytes);
/* Gives it its function and arguments, as lcws_task_new. */
struct lcws_task *lcws_task_begin(lua_State *L, int index, int nargs);

/* Only from a callback of the loop: no need to wait for the next turn. */
void lcws_task_start(struct lcws_task *task);

/* --- options ------------------------------------------------------------ */

/*
 * The options in the table at index `arg` on top of `base` (NULL: the
 * defaults); without a table `base` itself, with a reference more. Raises for
 * an unknown key or a bad value, naming the option; `what` names the function.
 * Drop the result.
 */
struct cws_options *lcws_check_options(lua_State *L, int arg, const char *what,
                                       struct cws_options *base);

/* --- connections -------------------------------------------------------- */

struct lcws_ws;
extern const struct cws_conn_events lcws_ws_events;

/* Pushes an empty ws userdata (state closed until lcws_ws_set). */
struct lcws_ws *lcws_ws_new(lua_State *L, struct lcws *s);
/* Gives it its open connection. protocol may be empty: kept as a Lua string in
 * the userdata at stack index `index` of L. */
void lcws_ws_set(lua_State *L, int index, struct lcws_ws *ws,
                 struct cws_conn *conn, struct cws_span protocol);
/* NULL before that and after __gc. */
struct cws_conn *lcws_ws_conn(const struct lcws_ws *ws);
/* The handler that owns it returned (1000) or raised (1011): closes in the
 * background. */
void lcws_ws_handler_ended(struct lcws_ws *ws, enum lcws_task_result result);

/* --- parts of the module: each adds functions to the table on top ------- */

void lcws_open_task(lua_State *L);    /* task.c */
void lcws_open_waiter(lua_State *L);  /* waiter.c */
void lcws_open_loop(lua_State *L);    /* loop.c: run, step, timers */
void lcws_open_signal(lua_State *L);  /* signal.c: watch_signal */
void lcws_open_options(lua_State *L); /* options.c: defaults */
void lcws_open_ws(lua_State *L);      /* conn.c: methods of ws, broadcast */
void lcws_open_dial(lua_State *L);    /* dial.c: connect */
void lcws_open_request(lua_State *L); /* request.c: methods of requests */
void lcws_open_server(lua_State *L);  /* server.c: listen */

#endif
