/*
 * wait.c - the one way to wait: an operation (struct lcws_op) is tried, armed,
 * and tried again after each wake. In a task it yields meanwhile; in the main
 * program it turns the loop.
 */
#include "task.h"

#include <math.h>

/* --- giving up ------------------------------------------------------------ */

static const char *name_of(lua_State *L, const struct lcws_op *op) {
    return op->name ? op->name : lua_tostring(L, 3);
}

static int gave_up(lua_State *L, const struct lcws_op *op,
                   const struct lcws_wait *w) {
    if (op->abandon)
        op->abandon(L);
    if (w->cancelled)
        return lcws_fail(L, CWS_ECLOSED, 0, "%s: task cancelled",
                         name_of(L, op));
    if (!op->expires)
        return lcws_fail_timeout(L);
    lua_pushboolean(L, 1);
    return 1;
}

static int give_up_loudly(lua_State *L, const struct lcws_op *op,
                          const char *format) {
    if (op->abandon)
        op->abandon(L);
    return luaL_error(L, format, name_of(L, op));
}

/* --- in a task ------------------------------------------------------------ */

static int perform_k(lua_State *L, int status, lua_KContext context);

static int yield(lua_State *L, const struct lcws_op *op, struct lcws_task *t) {
    struct lcws_wait *w = &t->wait;
    w->armed = true;
    w->woken = false;
    op->arm(L, w);
    return lua_yieldk(L, 0, (lua_KContext)(intptr_t)op, perform_k);
}

static int perform_k(lua_State *L, int status, lua_KContext context) {
    const struct lcws_op *op = (const struct lcws_op *)(intptr_t)context;
    struct lcws *s = lcws_peek(L);
    struct lcws_task *t = s->current;
    (void)status;
    if (!t || t->co != L)
        return luaL_error(L, "cannot wait here: this coroutine was resumed by "
                             "the program while it waited in cws");
    struct lcws_wait *w = &t->wait;
    w->armed = false;
    cws_link_remove(&w->link);
    int n = w->cancelled && !op->given ? -1 : op->attempt(L, s);
    if (n < 0 && !w->cancelled && !w->timed_out)
        return yield(L, op, t);
    if (t->timer)
        ev_timer_stop(s->loop->ev, t->timer);
    if (n < 0)
        n = gave_up(L, op, w);
    else if (w->cancelled) /* the next wait is */
        t->cancelled = true;
    w->cancelled = w->timed_out = false;
    return n;
}

static void on_timeout(struct ev_loop *ev, ev_timer *timer, int revents) {
    struct lcws_task *t = timer->data;
    (void)ev, (void)revents;
    t->wait.timed_out = true;
    lcws_wake(&t->wait);
}

static void start_timer(lua_State *L, struct lcws_task *t, double timeout) {
    if (!t->timer) {
        t->timer = cws_calloc(sizeof *t->timer);
        if (!t->timer)
            luaL_error(L, "not enough memory");
        ev_init(t->timer, on_timeout);
        t->timer->data = t;
    }
    /* the loop's clock may lag behind what the task did meanwhile */
    ev_now_update(t->s->loop->ev);
    ev_timer_set(t->timer, timeout, 0.);
    ev_timer_start(t->s->loop->ev, t->timer);
}

static int wait_in_task(lua_State *L, const struct lcws_op *op,
                        struct lcws_task *t, double timeout) {
    t->wait.timed_out = false;
    if (t->cancelled) {
        t->cancelled = false;
        t->wait.cancelled = true;
        int n = gave_up(L, op, &t->wait);
        t->wait.cancelled = false;
        return n;
    }
    if (isfinite(timeout))
        start_timer(L, t, timeout);
    else if (t->timer) /* of a wait whose attempt raised */
        ev_timer_stop(t->s->loop->ev, t->timer);
    return yield(L, op, t);
}

/* --- in the main program -------------------------------------------------- */

bool lcws_loop_runs(const struct lcws *s) {
    return s->running || s->loop->running || ev_depth(s->loop->ev) > 0;
}

/* timeout negative: until cws_loop_break. */
static bool turn(lua_State *L, struct lcws *s, double timeout, bool *more) {
    bool signals = s->signals > 0; /* one may end what nothing else would */
    s->running = L;
    if (signals)
        ev_ref(s->loop->ev);
    *more =
        timeout < 0 ? cws_loop_run(s->loop) : cws_loop_turn(s->loop, timeout);
    if (signals) /* even when the last one was stopped meanwhile */
        ev_unref(s->loop->ev);
    s->running = NULL;
    return !lcws_interrupted(s);
}

bool lcws_turn(lua_State *L, struct lcws *s, double timeout, bool *more) {
    return turn(L, s, timeout, more);
}

bool lcws_turn_on(lua_State *L, struct lcws *s, bool *more) {
    return turn(L, s, -1, more);
}

/* Turns the loop until the wait is over: woken, or timed out. False with *why
 * for luaL_error. It keeps its place in the queue meanwhile. */
static bool turn_until_woken(lua_State *L, struct lcws_wait *w, double until,
                             const char **why) {
    struct lcws *s = w->s;
    bool bounded = isfinite(until), more, calm;
    while (!w->woken && !w->timed_out) {
        double left = bounded ? until - lcws_clock() : INFINITY;
        w->timed_out = left <= 0;
        calm = bounded ? lcws_turn(L, s, left > 0 ? left : 0, &more)
                       : lcws_turn_on(L, s, &more);
        *why = "interrupted!";
        if (!calm)
            return false;
        *why = "deadlock: %s: nothing is left that could end this wait";
        if (!more && !w->woken && !bounded && s->signals == 0)
            return false;
    }
    return true;
}

/* Turns the loop until the operation is done: the number of its results, or
 * -1 with *why for luaL_error. */
static int drive(lua_State *L, struct lcws *s, const struct lcws_op *op,
                 double timeout, const char **why) {
    struct lcws_wait w = {.s = s};
    double until = lcws_clock() + timeout;
    for (;;) {
        w.woken = false;
        w.armed = true;
        op->arm(L, &w);
        lcws_sigint_begin(s);
        bool over = turn_until_woken(L, &w, until, why);
        lcws_sigint_end(s); /* before the attempt, which may raise */
        w.armed = false;
        cws_link_remove(&w.link);
        if (!over)
            return -1;
        int n = op->attempt(L, s);
        if (n >= 0)
            return n;
        if (w.timed_out)
            return gave_up(L, op, &w);
    }
}

static int drive_in_main(lua_State *L, struct lcws *s, const struct lcws_op *op,
                         double timeout) {
    const char *why;
    int n = drive(L, s, op, timeout, &why);
    return n >= 0 ? n : give_up_loudly(L, op, why);
}

/* --- either --------------------------------------------------------------- */

int lcws_wait(lua_State *L, struct lcws *s, const struct lcws_op *op,
              double timeout) {
    struct lcws_task *t = s->current;
    if (t && t->co == L && lua_isyieldable(L)) {
        if (timeout > 0 || op->expires)
            return wait_in_task(L, op, t, timeout);
    } else if (!lcws_loop_runs(s)) {
        return drive_in_main(L, s, op, timeout);
    } else if (timeout > 0) {
        return give_up_loudly(
            L, op,
            "cannot wait here: %s would have to wait where cws "
            "cannot resume it; use cws.spawn");
    }
    struct lcws_wait none = {.s = s};
    return gave_up(L, op, &none);
}

int lcws_perform(lua_State *L, const struct lcws_op *op, double timeout) {
    struct lcws *s = lcws_get(L);
    int n = op->attempt(L, s);
    return n >= 0 ? n : lcws_wait(L, s, op, timeout);
}
