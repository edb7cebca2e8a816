#!/bin/sh
# What the build and the tests need, how it is looked for, and what it is
# called on each system.
#
#   needs.sh check GROUP...    names what is missing and how to get it
#   needs.sh install GROUP...  installs it on Debian and Ubuntu, else as check
#   needs.sh lua               prints the name of a Lua 5.4 interpreter
#   needs.sh lua-cflags        prints the compiler flags for its headers
#   needs.sh paths             prints where to look for libraries, for eval
#   needs.sh python            prints a Python that has websockets
#   needs.sh bun               prints the Bun that install brought, if it did
#   needs.sh chromium          prints a Chromium, or a browser made from it
#   needs.sh node-modules      installs into build/node_modules
#
# Groups: build test lint asan fuzz valgrind. Nothing that is installed here
# changes which Lua `lua` is.
set -u
cc=${CC:-cc}
# later versions of playwright-core want more than the Node.js 18 of Debian 12
node_modules="ws@8 playwright-core@1.56 bun@1"

# group|what|Debian, Ubuntu|Fedora|Alpine|Arch|macOS
table() {
    cat <<'END'
build|a C compiler|gcc libc6-dev|gcc|gcc musl-dev|gcc|gcc
build|the Lua 5.4 interpreter|lua5.4|lua|lua5.4|lua54|lua@5.4
build|lua.h of Lua 5.4|liblua5.4-dev|lua-devel|lua5.4-dev|lua54|lua@5.4
build|ev.h of libev|libev-dev|libev-devel|libev-dev|libev|libev
build|openssl/ssl.h of OpenSSL 3|libssl-dev|openssl-devel|openssl-dev|openssl|openssl@3
zlib|zlib.h|zlib1g-dev|zlib-devel|zlib-dev|zlib|zlib
test|busted for Lua 5.4|lua-busted|luarocks|lua5.4-busted|lua54-busted|luarocks
test|curl|curl|curl|curl|curl|curl
test|openssl|openssl|openssl|openssl|openssl|openssl@3
test|python3|python3|python3|python3|python|python
test|websockets for Python|python3-websockets|python3-websockets|py3-websockets|python-websockets|python
test|node|nodejs|nodejs|nodejs|nodejs|node
test|npm|npm|nodejs-npm|npm|npm|node
test|chromium|chromium|chromium|chromium|chromium|chromium
lint|clang-format|clang-format|clang-tools-extra|clang-extra-tools|clang|clang-format
lint|nm|binutils|binutils|binutils|binutils|binutils
fuzz|clang with libFuzzer|clang libclang-rt-dev|clang compiler-rt|clang compiler-rt|clang compiler-rt|llvm
valgrind|valgrind|valgrind|valgrind|valgrind|valgrind|valgrind
END
}

# Homebrew keeps its libraries where no compiler looks.
if [ "$(uname -s)" = Darwin ]; then
    brew=$(brew --prefix 2>/dev/null)
    : "${EV_INCDIR:=$brew/include}" "${EV_LIBDIR:=$brew/lib}"
    : "${OPENSSL_INCDIR:=$brew/opt/openssl@3/include}"
    : "${OPENSSL_LIBDIR:=$brew/opt/openssl@3/lib}"
fi

find_lua() {
    for name in ${LUA:-} lua5.4 lua54 lua-5.4 lua \
        "${brew:-}/opt/lua@5.4/bin/lua"; do
        if [ "$("$name" -e 'print(_VERSION)' 2>/dev/null)" = "Lua 5.4" ]; then
            echo "$name"
            return 0
        fi
    done
    return 1
}

# The first python3 on PATH may be one that does not see the system's packages.
find_python() {
    for name in ${PYTHON:-} python3 /usr/bin/python3 /opt/homebrew/bin/python3; do
        "$name" -c 'import websockets' 2>/dev/null && echo "$name" && return 0
    done
    return 1
}

find_chromium() {
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        command -v "$name" && return 0
    done
    return 1
}

# Its package puts the program in its place with a script; where npm runs no
# scripts it stays in the package that came with it.
find_bun() {
    for path in build/node_modules/bun/bin/bun.exe \
        build/node_modules/@oven/bun-*/bin/bun; do
        "$path" --version >/dev/null 2>&1 && echo "$(pwd)/$path" && return 0
    done
    return 1
}

compiles() { # compiles FLAGS: a program on standard input
    # shellcheck disable=SC2086
    $cc -fsyntax-only ${1:-} -x c - 2>/dev/null
}

lua_header() { # lua_header FLAGS
    printf '#include <lua.h>\n#if LUA_VERSION_NUM != 504\n#error\n#endif\n' |
        compiles "$1"
}

find_lua_cflags() {
    if [ -n "${LUA_INCDIR:-}" ]; then
        lua_header "-I$LUA_INCDIR" && echo "-I$LUA_INCDIR"
        return
    fi
    for name in lua5.4 lua-5.4 lua54 lua; do
        flags=$(pkg-config --cflags "$name" 2>/dev/null) || continue
        lua_header "$flags" && echo "$flags" && return 0
    done
    for dir in /usr/include/lua5.4 /usr/include/lua54 /usr/local/include \
        /usr/local/include/lua5.4 "${brew:-}/opt/lua@5.4/include/lua"; do
        lua_header "-I$dir" && echo "-I$dir" && return 0
    done
    lua_header "" && echo ""
}

inc() { # inc DIR: the flag for it, or nothing
    [ -z "$1" ] || echo "-I$1"
}

has() {
    case $1 in
    'a C compiler') echo '#include <stdio.h>' | compiles ;;
    'the Lua 5.4 interpreter') find_lua >/dev/null ;;
    'lua.h of Lua 5.4') find_lua_cflags >/dev/null ;;
    'ev.h of libev')
        echo '#include <ev.h>' | compiles "$(inc "${EV_INCDIR:-}")"
        ;;
    'openssl/ssl.h of OpenSSL 3')
        printf '#include <openssl/ssl.h>\n%s\n' '#if OPENSSL_VERSION_MAJOR < 3
#error
#endif' | compiles "$(inc "${OPENSSL_INCDIR:-}")"
        ;;
    zlib.h) echo '#include <zlib.h>' | compiles ;;
    'busted for Lua 5.4')
        lua=$(find_lua) && "$lua" -e 'require "busted.runner"' 2>/dev/null
        ;;
    'websockets for Python') find_python >/dev/null ;;
    chromium) find_chromium >/dev/null ;;
    'clang with libFuzzer')
        probe=${TMPDIR:-/tmp}/cws-fuzzer.$$
        echo 'int LLVMFuzzerTestOneInput(const char *p, unsigned long n);
              int LLVMFuzzerTestOneInput(const char *p, unsigned long n) {
                  return p && n ? 0 : 0; }' |
            clang -fsanitize=fuzzer,address -x c - -o "$probe" 2>/dev/null
        found=$?
        rm -f "$probe"
        return $found
        ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

system() {
    if [ "$(uname -s)" = Darwin ]; then
        echo macos
        return
    fi
    ids=$(. "${OS_RELEASE:-/etc/os-release}" 2>/dev/null &&
        echo "${ID:-} ${ID_LIKE:-}")
    for id in $ids; do
        case $id in
        debian | ubuntu) echo debian && return ;;
        fedora | rhel | centos) echo fedora && return ;;
        alpine) echo alpine && return ;;
        arch) echo arch && return ;;
        esac
    done
    echo unknown
}

column() {
    case $1 in
    debian) echo 3 ;; fedora) echo 4 ;; alpine) echo 5 ;; arch) echo 6 ;;
    macos) echo 7 ;;
    esac
}

command_for() {
    case $1 in
    debian) echo "apt-get install -y --no-install-recommends" ;;
    fedora) echo "dnf install -y" ;;
    alpine) echo "apk add" ;;
    arch) echo "pacman -S --needed" ;;
    macos) echo "brew install" ;;
    esac
}

label() {
    case $1 in
    debian) echo "Debian, Ubuntu" ;; fedora) echo Fedora ;;
    alpine) echo Alpine ;; arch) echo Arch ;; macos) echo macOS ;;
    esac
}

# The rows of $groups that are not there, on standard output.
missing() {
    table | while IFS= read -r row; do
        what=$(echo "$row" | cut -d'|' -f2)
        case " $groups " in
        *" ${row%%|*} "*) has "$what" </dev/null || echo "$row" ;;
        esac
    done
}

packages() { # packages SYSTEM: those of the rows on standard input
    cut -d'|' -f"$(column "$1")" | tr ' ' '\n' | awk '!seen[$0]++' | xargs
}

prefix() {
    [ "$(id -u)" = 0 ] || [ "$1" = macos ] || echo "sudo "
}

tell_command() { # tell_command SYSTEM ROWS
    printf '  %-15s %s%s %s\n' "$(label "$1"):" "$(prefix "$1")" \
        "$(command_for "$1")" "$(echo "$2" | packages "$1")"
}

# Names each missing thing with its package here, then the command.
tell() { # tell ROWS
    rows=$1
    here=$(system)
    echo "cws cannot go on; missing:"
    echo "$rows" | while IFS= read -r row; do
        what=$(echo "$row" | cut -d'|' -f2)
        if [ "$here" = unknown ]; then
            echo "  $what"
        else
            echo "  $what (package: $(echo "$row" | packages "$here"))"
        fi
    done
    echo "Get it with:"
    if [ "$here" = unknown ]; then
        for name in debian fedora alpine arch macos; do
            tell_command "$name" "$rows"
        done
    else
        tell_command "$here" "$rows"
    fi
}

tell_extra() { # what the package manager alone does not do
    case $1 in
    *'|luarocks|'*) echo "  and then: luarocks --lua-version 5.4 install busted" ;;
    esac
    case $(system)$1 in
    macos*'|websockets for Python|'*)
        echo "  and then: python3 -m pip install websockets"
        ;;
    fedora*'|the Lua 5.4 interpreter|'*)
        echo "  (Fedora 45 has Lua 5.5: build 5.4 from www.lua.org, and give" \
            "make LUA=... LUA_INCDIR=...)"
        ;;
    esac
}

check() {
    rows=$(missing)
    [ -z "$rows" ] && return 0
    tell "$rows" >&2
    [ "$(system)" = fedora ] || [ "$(system)" = macos ] || return 1
    tell_extra "$rows" >&2
    return 1
}

apt_install() { # apt_install PACKAGE...
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    if [ -n "$sudo" ] && ! command -v sudo >/dev/null 2>&1; then
        tell "$rows" >&2
        return 1
    fi
    echo "installing: $*"
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get update -qq &&
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
            --no-install-recommends "$@"
}

# All at once: npm takes away what a call does not name.
install_node_modules() {
    missing_modules=
    for name in $node_modules; do
        [ -f "build/node_modules/${name%@*}/package.json" ] ||
            missing_modules="$missing_modules $name"
    done
    [ -n "$missing_modules" ] || return 0
    mkdir -p build
    echo "installing into build/node_modules:$missing_modules"
    # shellcheck disable=SC2086
    npm install --prefix build --no-save --no-audit --no-fund --loglevel=error \
        $node_modules
}

install() {
    case " $groups " in
    *' build '*) groups="$groups zlib" ;;
    esac
    rows=$(missing)
    if [ -n "$rows" ] && [ "$(system)" = debian ]; then
        # shellcheck disable=SC2046
        apt_install $(echo "$rows" | packages debian) || return 1
        rm -f build/config.mk
        groups=$(echo "$groups" | sed 's/ zlib//')
        check || return 1
    elif [ -n "$rows" ]; then
        groups=$(echo "$groups" | sed 's/ zlib//')
        check || return 1
    fi
    case " $groups " in
    *' test '*) install_node_modules ;;
    esac
}

verb=${1:-check}
[ $# -eq 0 ] || shift
groups=$*
case $verb in
check) check ;;
install) install ;;
lua) find_lua || { groups=build && check; } ;;
lua-cflags) find_lua_cflags ;;
paths)
    echo "EV_INCDIR='${EV_INCDIR:-}' EV_LIBDIR='${EV_LIBDIR:-}'" \
        "OPENSSL_INCDIR='${OPENSSL_INCDIR:-}' OPENSSL_LIBDIR='${OPENSSL_LIBDIR:-}'"
    ;;
python) find_python ;;
bun) find_bun ;;
chromium) find_chromium ;;
node-modules) install_node_modules ;;
has) has "$*" ;;
*)
    echo "needs.sh: unknown verb: $verb" >&2
    exit 2
    ;;
esac
