/*
 * host.c - a program that embeds Lua, for specs of what only a host can do:
 *
 *   host run SCRIPT              one state, then says what is left open
 *   host threads N SCRIPT        a state in each of N threads at the same time
 *   host states N SCRIPT         N states in one thread, whose global `turn` is
 *                                called in turn until each has returned true
 *
 * The scripts' `host` has fork(), wait(pid), exit(status).
 * Status 0 when all went well; else there is a line on stderr.
 */
#include <dirent.h>
#include <lauxlib.h>
#include <lualib.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define STATES_MAX 16

/* --- what scripts call -------------------------------------------------- */

static int l_fork(lua_State *L) {
    fflush(NULL);
    lua_pushinteger(L, fork());
    return 1;
}

static int l_wait(lua_State *L) {
    int status = 0;
    waitpid((pid_t)luaL_checkinteger(L, 1), &status, 0);
    lua_pushinteger(L, WIFEXITED(status) ? WEXITSTATUS(status)
                                         : -WTERMSIG(status));
    return 1;
}

static int l_exit(lua_State *L) {
    fflush(NULL);
    _exit((int)luaL_checkinteger(L, 1));
}

static lua_State *new_state(void) {
    static const luaL_Reg functions[] = {
        {"fork", l_fork}, {"wait", l_wait}, {"exit", l_exit}, {NULL, NULL}};
    lua_State *L = luaL_newstate();
    if (!L)
        abort();
    luaL_openlibs(L);
    luaL_newlib(L, functions);
    lua_setglobal(L, "host");
    return L;
}

static bool said(lua_State *L, const char *what) {
    const char *text = lua_tostring(L, -1);
    fprintf(stderr, "%s: %s\n", what, text ? text : "error");
    return false;
}

static bool run(lua_State *L, const char *script) {
    return luaL_dofile(L, script) == LUA_OK || said(L, script);
}

static int descriptors(void) {
    int count = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir && readdir(dir))
        count++;
    if (dir)
        closedir(dir);
    return count;
}

/* --- the ways to run ----------------------------------------------------- */

static bool run_one(const char *script) {
    int before = descriptors();
    pid_t self = getpid();
    lua_State *L = new_state();
    bool fine = run(L, script);
    lua_close(L);
    if (getpid() != self) /* a child leaves its parent's alone */
        return fine;
    int left = descriptors() - before;
    /* a thread that looks for a name may outlive its state */
    for (int i = 0; left > 0 && i < 500; i++) {
        usleep(10000);
        left = descriptors() - before;
    }
    if (left != 0)
        fprintf(stderr, "%d descriptors are left open\n", left);
    return fine && left == 0;
}

static void *run_thread(void *script) {
    lua_State *L = new_state();
    bool fine = run(L, script);
    lua_close(L);
    return fine ? script : NULL;
}

static bool run_threads(int count, char *script) {
    pthread_t threads[STATES_MAX];
    bool fine = true;
    for (int i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, run_thread, script) != 0)
            abort();
    for (int i = 0; i < count; i++) {
        void *result;
        pthread_join(threads[i], &result);
        fine = fine && result;
    }
    return fine;
}

/* True while it has more to do. */
static bool turn(lua_State *L, bool *fine) {
    lua_getglobal(L, "turn");
    if (lua_pcall(L, 0, 1, 0) != LUA_OK)
        return *fine = said(L, "turn");
    bool done = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return !done;
}

static bool run_states(int count, const char *script) {
    lua_State *states[STATES_MAX];
    bool fine = true, more = true;
    for (int i = 0; i < count; i++) {
        states[i] = new_state();
        fine = run(states[i], script) && fine;
    }
    while (fine && more) {
        more = false;
        for (int i = 0; i < count; i++)
            more = turn(states[i], &fine) || more;
    }
    for (int i = 0; i < count; i++)
        lua_close(states[i]);
    return fine;
}

int main(int argc, char **argv) {
    bool fine = false;
    if (argc == 3 && strcmp(argv[1], "run") == 0)
        fine = run_one(argv[2]);
    else if (argc == 4 && strcmp(argv[1], "threads") == 0)
        fine = run_threads(atoi(argv[2]), argv[3]);
    else if (argc == 4 && strcmp(argv[1], "states") == 0)
        fine = run_states(atoi(argv[2]), argv[3]);
    else
        fprintf(stderr, "usage: see host.c\n");
    return fine ? 0 : 1;
}
