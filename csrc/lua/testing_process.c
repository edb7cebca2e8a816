/*
 * testing_process.c - programs for the specs to start: without a shell, with
 * the signals as a terminal leaves them (a shell's `&` ignores SIGINT), in a
 * process group of their own, so that all of one can be ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <lua.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#include "testing.h"

#define ARGS_MAX 64

static int push_errno(lua_State *L) {
    lua_pushnil(L);
    lua_pushstring(L, strerror(errno));
    return 2;
}

static void redirect(int target, const char *path, int flags) {
    int fd = open(path, flags, 0600);
    if (fd < 0 || dup2(fd, target) < 0)
        _exit(126);
    close(fd);
}

/* In the child. It dies with the specs, however they end. */
static void run(const char *argv[], const char *dir, const char *out,
                const char *err) {
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    for (int number = 1; number < NSIG; number++)
        (void)signal(number, SIG_DFL);
    (void)setpgid(0, 0);
#ifdef __linux__
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
    redirect(0, "/dev/null", O_RDONLY);
    redirect(1, out, O_WRONLY | O_CREAT | O_TRUNC);
    redirect(2, err, O_WRONLY | O_CREAT | O_TRUNC);
    if (dir && chdir(dir) != 0)
        _exit(126);
    execvp(argv[0], (char *const *)argv);
    _exit(127);
}

/* spawn(argv, out, err [, dir]) -> pid: what it writes goes to two files.
 * Exit status 127: there is no such program. */
static int spawn(lua_State *L) {
    const char *argv[ARGS_MAX + 1] = {0};
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_Integer count = luaL_len(L, 1);
    luaL_argcheck(L, count >= 1 && count <= ARGS_MAX, 1, "1 to 64 strings");
    const char *out = luaL_checkstring(L, 2);
    const char *err = luaL_checkstring(L, 3);
    const char *dir = luaL_optstring(L, 4, NULL);
    luaL_checkstack(L, (int)count + 5, NULL);
    for (int i = 0; i < count; i++) {
        lua_rawgeti(L, 1, i + 1);
        argv[i] = luaL_checkstring(L, -1); /* stays on the stack */
    }
    pid_t pid = fork();
    if (pid == 0)
        run(argv, dir, out, err);
    if (pid < 0)
        return push_errno(L);
    (void)setpgid(pid, pid); /* whoever comes first */
    lua_pushinteger(L, pid);
    return 1;
}

/* wait(pid) -> nil while it runs; then its exit status, or minus the signal
 * that ended it. Does not wait. */
static int wait_for(lua_State *L) {
    int status;
    pid_t pid = waitpid((pid_t)luaL_checkinteger(L, 1), &status, WNOHANG);
    if (pid < 0)
        return push_errno(L);
    if (pid == 0)
        lua_pushnil(L);
    else
        lua_pushinteger(L, WIFEXITED(status) ? WEXITSTATUS(status)
                                             : -WTERMSIG(status));
    return 1;
}

/* kill(pid, signal): pid below 0 is a group. */
static int send_signal(lua_State *L) {
    pid_t pid = (pid_t)luaL_checkinteger(L, 1);
    luaL_argcheck(L, pid > 1 || pid < -1, 1, "a process or a group");
    if (kill(pid, (int)luaL_checkinteger(L, 2)) != 0)
        return push_errno(L);
    lua_pushboolean(L, 1);
    return 1;
}

/* ignore(signal): in this process, as nohup does before a program starts. */
static int ignore(lua_State *L) {
    int number = (int)luaL_checkinteger(L, 1);
    lua_pushboolean(L, signal(number, SIG_IGN) != SIG_ERR);
    return 1;
}

/* Numbers differ between systems. */
static void push_signals(lua_State *L) {
    static const struct {
        const char *name;
        int number;
    } signals[] = {{"HUP", SIGHUP},   {"INT", SIGINT},   {"KILL", SIGKILL},
                   {"PIPE", SIGPIPE}, {"TERM", SIGTERM}, {"USR1", SIGUSR1},
                   {"USR2", SIGUSR2}, {"STOP", SIGSTOP}, {"CONT", SIGCONT}};
    lua_newtable(L);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        lua_pushinteger(L, signals[i].number);
        lua_setfield(L, -2, signals[i].name);
    }
}

void cws_testing_open_process(lua_State *L) {
    static const luaL_Reg functions[] = {{"spawn", spawn},
                                         {"wait", wait_for},
                                         {"kill", send_signal},
                                         {"ignore", ignore},
                                         {NULL, NULL}};
    luaL_newlib(L, functions);
    push_signals(L);
    lua_setfield(L, -2, "signals");
    lua_setfield(L, -2, "process");
}
