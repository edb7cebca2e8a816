/*
 * task.h - the inside of a task, for task.c (its life) and wait.c (its waits).
 */
#ifndef CWS_LUA_TASK_H
#define CWS_LUA_TASK_H

#include "binding.h"

struct lcws_task {
    struct lcws *s;
    lua_State *co;   /* its thread; also its user value 1 */
    ev_timer *timer; /* of waits with a timeout; made for the first */
    struct cws_job job;
    struct lcws_wait wait;
    union {
        struct cws_link joiners; /* struct lcws_wait; of a spawned task */
        struct {                 /* of one of ours: nobody can join it */
            void (*ended)(void *owner, enum lcws_task_result result);
            void *owner;
        };
    };
    int anchor; /* place in the table of live tasks; 0: ended */
    int nargs;  /* on co's stack, for the first resume */
    bool ours;
    bool started;
    bool cancelled; /* cancel() found no wait to end */
    bool failed;    /* it raised; its error text is user value 2 */
};

#endif
