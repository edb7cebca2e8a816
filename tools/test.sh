#!/bin/sh
# Runs the specs with busted under Lua 5.4, against this checkout.
#   test.sh plain|asan|valgrind|cov
# From make: T (name of tests), F (one spec file), TEST_TIMEOUT (seconds; a file
# that takes longer is ended and has failed), TEST_FLAGS (for busted).
# CWS_LONG=1 makes long what can be long; CWS_SEED is where the random ones begin.
#
# The specs find in the environment: CWS_LUA (the interpreter to start for a
# program under test; lua5.4 on PATH is the same), CWS_MODE (the word above),
# CWS_BUILD (the folder that holds cws/core.so), and of the peers CWS_PYTHON (one
# that has websockets), CWS_CHROMIUM and CWS_BUN (empty: there is none).
set -eu
mode=$1
top=$(pwd)
tree=$top
lua=$(command -v "$(sh tools/needs.sh lua)")
node_modules=$top/build/node_modules
CWS_PYTHON=$(sh tools/needs.sh python || true)
CWS_CHROMIUM=$(sh tools/needs.sh chromium || true)
CWS_BUN=$(sh tools/needs.sh bun || true)
export CWS_PYTHON CWS_CHROMIUM CWS_BUN

# A tree of links in which build/ is the instrumented one, so that the examples,
# which look for build/ beside themselves, use it too: their folder is no link,
# because "examples/.." would be the one that it leads to.
link_tree() {
    tree=$top/build/$1
    for entry in "$top"/*; do
        case $entry in "$top/build" | "$top/examples") continue ;; esac
        ln -sfn "$entry" "$tree/"
    done
    rm -rf "$tree/examples"
    mkdir "$tree/examples"
    ln -s "$top"/examples/* "$tree/examples/"
    ln -sfn "$top/.busted" "$tree/.busted"
    [ ! -d "$node_modules" ] || ln -sfn "$node_modules" "$tree/build/"
}

# A folder whose lua5.4 starts Lua under $1; the environment of the programs
# that Lua starts (browsers, node, curl) stays clean.
wrap_lua() {
    mkdir -p "$top/build/$mode/bin"
    printf '#!/bin/sh\nexec %s "%s" "$@"\n' "$1" "$lua" \
        >"$top/build/$mode/bin/lua5.4"
    chmod +x "$top/build/$mode/bin/lua5.4"
    PATH=$top/build/$mode/bin:$PATH
    lua=$top/build/$mode/bin/lua5.4
}

use_asan() {
    link_tree asan
    ${CC:-cc} -shared -fPIC -O1 -o build/asan/unpreload.so tools/unpreload.c
    asan=$(${CC:-cc} -print-file-name=libasan.so)
    [ "$asan" != libasan.so ] ||
        asan=$(${CC:-cc} -print-file-name=libclang_rt.asan-x86_64.so)
    export ASAN_OPTIONS="detect_leaks=1:abort_on_error=0:exitcode=99"
    export LSAN_OPTIONS="suppressions=$top/tools/lsan.supp:print_suppressions=0"
    export UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1"
    wrap_lua "env LD_PRELOAD=\"$asan $top/build/asan/unpreload.so \$CWS_PRELOAD\""
}

use_valgrind() {
    wrap_lua "valgrind --quiet --error-exitcode=99 --leak-check=full \
--errors-for-leak-kinds=definite --show-leak-kinds=definite \
--suppressions='$top/tools/valgrind.supp'"
}

case $mode in
plain) ;;
asan) use_asan ;;
valgrind) use_valgrind ;;
cov)
    find build/cov -name '*.gcda' -delete
    link_tree cov
    ;;
esac

# On a terminal Ctrl-C has to reach the run; elsewhere a group of its own lets
# the limit end what the specs started as well.
limit=
if timeout 1 true 2>/dev/null; then
    limit="timeout -k 10"
    [ ! -t 0 ] || limit="timeout --foreground -k 10"
    limit="$limit ${TEST_TIMEOUT:-900}"
fi

cd "$tree"
export LUA_PATH="$tree/lua/?.lua;$tree/lua/?/init.lua;;"
export LUA_CPATH="$tree/build/?.so;;"
export NODE_PATH="$node_modules"
export CWS_LUA="$lua" CWS_MODE="$mode" CWS_BUILD="$tree/build"
unset LUA_INIT LUA_INIT_5_4 LUA_PATH_5_4 LUA_CPATH_5_4

run() { # run FILE
    # shellcheck disable=SC2086
    $limit "$lua" tools/busted.lua ${TEST_FLAGS:-} ${T:+"--filter=$T"} "$1"
}

# Each file has a Lua of its own: none finds what another one left, and full
# collections, of which there are some after every test, stay cheap. A line for
# each file, all that a failed one printed, and busted's summary of the whole.
run_all() {
    out=$top/build/test-$mode.out
    counts=$top/build/test-$mode.counts
    : >"$counts"
    started=$(date +%s)
    for file in spec/*_spec.lua; do
        code=0
        run "$file" >"$out" 2>&1 || code=$?
        summary=$(sed 's/\x1b\[[0-9;]*m//g' "$out" | grep -a ' success' | head -n 1)
        case $summary in *' / '*) ;; *) summary="0 / 0 / 0 / 0 : 0 s" ;; esac
        echo "$code $summary" >>"$counts"
        [ $code -ne 0 ] || echo "$file: ${summary%% *} in ${summary##* : }"
        [ $code -eq 0 ] || sed "s|^|  |; 1s|^|$file: status $code\n|" "$out"
    done
    # a file that ends badly without a failed test has failed as a whole
    awk -v seconds=$(($(date +%s) - started)) '{
        split($0, part, " / ")
        split(part[1], first, " ")
        s += first[2]; f += part[2]; e += part[3]; p += part[4]
        if (first[1] && part[2] + part[3] == 0) e++
    } END {
        printf "%d success%s / %d failure%s / %d error%s / %d pending : %d seconds\n",
            s, s == 1 ? "" : "es", f, f == 1 ? "" : "s", e, e == 1 ? "" : "s",
            p, seconds
        exit f + e > 0
    }' "$counts"
}

status=0
if [ -n "${F:-}" ]; then
    run "$F" || status=$?
else
    run_all || status=$?
fi
[ $status -ne 124 ] ||
    echo "the run was ended: over ${TEST_TIMEOUT:-900} s (TEST_TIMEOUT)" >&2

if [ "$mode" = cov ]; then
    cd "$top" && sh tools/cov.sh build/cov
fi
exit $status
