/*
 * signal.c - signals as the program sees them, and Ctrl-C for a main program
 * that waits.
 *
 * A handler of our own (the old one is put back after the last watcher) sets a
 * flag for every Lua state and wakes its loop; Lua runs from there. No
 * ev_signal: it allows one loop a signal and forgets the handler that was
 * there.
 */
#include "binding.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#define LCWS_WATCH "cws.signal"
#define SIGNALS 65
#define STATES_MAX 64 /* Lua states of one process that watch signals */

/* What signals mean to one Lua state. */
struct lcws_signals {
    struct lcws *s;
    struct ev_loop *ev;
    ev_async async;
    atomic_bool pending[SIGNALS];
    struct cws_link watches; /* struct watch, that are active */
    bool driving;            /* its main program waits: SIGINT ends that */
    bool interrupted;
};

struct watch {
    struct cws_link link; /* first: lists of links are lists of watches */
    struct lcws *s;
    int number;
    bool unless_ignored;
    bool active;
    bool due;
};

/* --- the process ---------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct handler {
    int users;
    int insisting; /* of them: those that want it though it was ignored */
    bool installed;
    struct sigaction old; /* while there are users */
} handlers[SIGNALS];
static _Atomic(struct lcws_signals *) states[STATES_MAX];
static atomic_int walking; /* handlers that look at `states` now */

static void on_signal(int number) {
    int saved = errno;
    atomic_fetch_add(&walking, 1);
    for (int i = 0; i < STATES_MAX; i++) {
        struct lcws_signals *box = atomic_load(&states[i]);
        if (!box)
            continue;
        atomic_store(&box->pending[number], true);
        ev_async_send(box->ev, &box->async);
    }
    atomic_fetch_sub(&walking, 1);
    errno = saved;
}

static void set_handler(int number) {
    struct sigaction action = {0};
    action.sa_handler = on_signal;
    sigemptyset(&action.sa_mask);
    action.sa_flags = SA_RESTART;
    (void)sigaction(number, &action, NULL);
}

/* Not when another took our place meanwhile. */
static void restore_handler(int number) {
    struct sigaction now;
    if (sigaction(number, NULL, &now) == 0 && now.sa_handler == on_signal)
        (void)sigaction(number, &handlers[number].old, NULL);
}

/* A signal that is ignored (nohup) stays so unless the program watches it. */
static void update_handler(int number) {
    struct handler *h = &handlers[number];
    bool wanted = h->insisting || (h->users && h->old.sa_handler != SIG_IGN);
    if (wanted && !h->installed)
        set_handler(number);
    else if (!wanted && h->installed)
        restore_handler(number);
    h->installed = wanted;
}

static void install(int number, bool unless_ignored) {
    struct handler *h = &handlers[number];
    pthread_mutex_lock(&lock);
    if (h->users++ == 0)
        (void)sigaction(number, NULL, &h->old);
    h->insisting += !unless_ignored;
    update_handler(number);
    pthread_mutex_unlock(&lock);
}

static void uninstall(int number, bool unless_ignored) {
    struct handler *h = &handlers[number];
    pthread_mutex_lock(&lock);
    h->users--;
    h->insisting -= !unless_ignored;
    update_handler(number);
    pthread_mutex_unlock(&lock);
}

static bool add_state(struct lcws_signals *box) {
    for (int i = 0; i < STATES_MAX; i++) {
        struct lcws_signals *none = NULL;
        if (atomic_compare_exchange_strong(&states[i], &none, box))
            return true;
    }
    return false;
}

/* A handler of another thread may be looking at it still. */
static void remove_state(struct lcws_signals *box) {
    for (int i = 0; i < STATES_MAX; i++) {
        struct lcws_signals *own = box;
        (void)atomic_compare_exchange_strong(&states[i], &own, NULL);
    }
    while (atomic_load(&walking) > 0)
        sched_yield();
}

/* --- one Lua state -------------------------------------------------------- */

static bool watched(const struct lcws_signals *box, int number) {
    const struct cws_link *head = &box->watches;
    for (const struct cws_link *at = head->next; at != head; at = at->next)
        if (((const struct watch *)(const void *)at)->number == number)
            return true;
    return false;
}

static int call_watch(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, lua_touserdata(L, 1));
    lua_getiuservalue(L, -1, 1);
    lua_call(L, 0, 0);
    return 0;
}

static struct watch *next_due(struct lcws_signals *box) {
    struct cws_link *head = &box->watches;
    for (struct cws_link *at = head->next; at != head; at = at->next) {
        struct watch *w = (struct watch *)(void *)at;
        if (w->due)
            return w;
    }
    return NULL;
}

static void mark_due(struct lcws_signals *box, int number) {
    struct cws_link *head = &box->watches;
    bool any = false;
    for (struct cws_link *at = head->next; at != head; at = at->next) {
        struct watch *w = (struct watch *)(void *)at;
        if (w->number == number)
            any = w->due = true;
    }
    if (!any && number == SIGINT && box->driving) {
        box->interrupted = true;
        ev_break(box->ev, EVBREAK_ONE);
    }
}

static void on_async(struct ev_loop *ev, ev_async *async, int revents) {
    struct lcws_signals *box = async->data;
    struct watch *w;
    (void)ev, (void)revents;
    for (int number = 1; number < SIGNALS; number++)
        if (atomic_exchange(&box->pending[number], false))
            mark_due(box, number);
    while ((w = next_due(box)) != NULL) { /* a call may stop others */
        w->due = false;
        (void)lcws_protect(box->s, call_watch, w);
    }
}

/* Made at first use. NULL when it cannot be. */
static struct lcws_signals *get_box(struct lcws *s) {
    if (s->signal_box)
        return s->signal_box;
    struct lcws_signals *box = cws_calloc(sizeof *box);
    if (!box)
        return NULL;
    box->s = s;
    box->ev = s->loop->ev;
    cws_link_init(&box->watches);
    ev_async_init(&box->async, on_async);
    box->async.data = box;
    ev_async_start(box->ev, &box->async);
    ev_unref(box->ev); /* a signal does not keep a loop alive */
    if (!add_state(box)) {
        ev_ref(box->ev);
        ev_async_stop(box->ev, &box->async);
        cws_free(box);
        return NULL;
    }
    s->signal_box = box;
    return box;
}

static void stop_watch(struct watch *w) {
    if (!w->active)
        return;
    w->active = w->due = false;
    cws_link_remove(&w->link);
    if (--w->s->signals == 0 && w->s->loop)
        cws_loop_break(w->s->loop); /* none can end a wait any more */
    uninstall(w->number, w->unless_ignored);
}

void lcws_signals_close(struct lcws *s) {
    struct lcws_signals *box = s->signal_box;
    s->signal_box = NULL;
    if (!box)
        return;
    while (!cws_link_empty(&box->watches))
        stop_watch((struct watch *)(void *)box->watches.next);
    remove_state(box);
    ev_ref(box->ev);
    ev_async_stop(box->ev, &box->async);
    cws_free(box);
}

void lcws_sigint_begin(struct lcws *s) {
    struct lcws_signals *box = get_box(s);
    if (!box || box->driving)
        return;
    box->driving = true;
    box->interrupted = false;
    install(SIGINT, true);
}

void lcws_sigint_end(struct lcws *s) {
    if (!s->signal_box || !s->signal_box->driving)
        return;
    s->signal_box->driving = false;
    uninstall(SIGINT, true);
}

bool lcws_interrupted(struct lcws *s) {
    bool came = s->signal_box && s->signal_box->interrupted;
    if (came)
        s->signal_box->interrupted = false;
    return came;
}

/* --- the module's functions ----------------------------------------------- */

static const struct {
    const char *name;
    int number;
} names[] = {{"HUP", SIGHUP},   {"INT", SIGINT},    {"QUIT", SIGQUIT},
             {"USR1", SIGUSR1}, {"USR2", SIGUSR2},  {"PIPE", SIGPIPE},
             {"ALRM", SIGALRM}, {"TERM", SIGTERM},  {"CHLD", SIGCHLD},
             {"CONT", SIGCONT}, {"TSTP", SIGTSTP},  {"TTIN", SIGTTIN},
             {"TTOU", SIGTTOU}, {"WINCH", SIGWINCH}};

static int check_signal(lua_State *L, int arg) {
    const char *name = luaL_checkstring(L, arg);
    if (strncmp(name, "SIG", 3) == 0)
        name += 3;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i].name, name) == 0)
            return names[i].number;
    return luaL_argerror(L, arg,
                         "name of a signal that can be watched "
                         "expected (\"INT\", \"TERM\", \"HUP\", ...)");
}

/* name, function, whether a signal that is ignored stays so */
static int l_watch_signal(lua_State *L) {
    int number = check_signal(L, 1);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    bool unless_ignored = lua_toboolean(L, 3);
    struct lcws *s = lcws_get(L);
    struct lcws_signals *box = get_box(s);
    if (!box)
        return luaL_error(L, "watch_signal: too many Lua states watch signals");
    struct watch *w = lua_newuserdatauv(L, sizeof *w, 1);
    memset(w, 0, sizeof *w);
    w->s = s;
    w->number = number;
    w->unless_ignored = unless_ignored;
    luaL_setmetatable(L, LCWS_WATCH);
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, -2, 1);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, w);
    cws_link_append(&box->watches, &w->link);
    w->active = true;
    s->signals++;
    install(number, w->unless_ignored);
    return 1;
}

static int watch_stop(lua_State *L) {
    struct watch *w = luaL_checkudata(L, 1, LCWS_WATCH);
    stop_watch(w);
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, w);
    return 0;
}

static int watch_gc(lua_State *L) {
    stop_watch(lua_touserdata(L, 1));
    return 0;
}

static int l_is_watched(lua_State *L) {
    int number = check_signal(L, 1);
    struct lcws *s = lcws_peek(L);
    lua_pushboolean(L, s->signal_box && watched(s->signal_box, number));
    return 1;
}

void lcws_open_signal(lua_State *L) {
    static const luaL_Reg methods[] = {{"stop", watch_stop}, {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__gc", watch_gc}, {NULL, NULL}};
    static const luaL_Reg functions[] = {{"watch_signal", l_watch_signal},
                                         {"is_watched", l_is_watched},
                                         {NULL, NULL}};
    lcws_new_class(L, LCWS_WATCH, methods, meta);
    luaL_setfuncs(L, functions, 0);
}
