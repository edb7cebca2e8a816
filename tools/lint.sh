#!/bin/sh
# What a reviewer should not have to look for. Says each thing that is wrong,
# and fails when there was one.
set -u
cd "$(dirname "$0")/.." || exit
sh tools/needs.sh check build lint || exit
mkdir -p build
failed=0

report() { # report TITLE TEXT: TEXT is empty when all is well
    [ -n "$2" ] || return 0
    printf '%s\n%s\n' "$1" "$2" | sed '2,$s/^/  /'
    failed=1
}

# The layers (csrc/README is in cws.h): proto knows libc, zlib and libcrypto;
# net knows libev and OpenSSL; only lua knows Lua.
report "layer 1 includes what is above it:" "$(grep -nE \
    '#include (<(ev|lua|lauxlib|lualib|openssl/ssl)\.h>|"\.\./(net|lua)/)' \
    csrc/cws.[ch] csrc/proto/*.[ch])"
report "only deflate.c may include zlib.h, only crypto.c OpenSSL:" "$(grep -nE \
    '#include <(zlib\.h|openssl/)' csrc/proto/*.[ch] |
    grep -vE '^csrc/proto/(deflate\.c:.*zlib|crypto\.c:.*openssl)')"
report "layer 2 includes Lua:" "$(grep -nE \
    '#include (<(lua|lauxlib|lualib)\.h>|"\.\./lua/)' csrc/net/*.[ch])"
make -s proto B=build/lint/proto >build/lint.log 2>&1 ||
    report "layer 1 does not link alone:" "$(tail -n 20 build/lint.log)"

# Warnings, with each compiler that is here.
for compiler in gcc clang; do
    command -v $compiler >/dev/null 2>&1 || continue
    make -s modules B=build/lint/$compiler CC=$compiler WERROR=1 \
        >build/lint.log 2>&1 ||
        report "$compiler:" "$(grep -E 'error|warning' build/lint.log | head -n 20)"
done

# One symbol for each module.
for name in core testing; do
    for module in build/lint/*/cws/$name.so; do
        [ -f "$module" ] || continue
        symbols=$(nm -D --defined-only "$module" | awk '{ print $3 }' |
            grep -vE '^(_init|_fini|__.*|_edata|_end)$')
        [ "$symbols" = "luaopen_cws_$name" ] ||
            report "$module exports:" "$symbols"
    done
done

# The format of one version of clang-format; others differ in details.
if clang-format --version 2>/dev/null | grep -q 'version 14\.'; then
    report "not as clang-format writes it:" "$(clang-format --dry-run \
        csrc/*.h csrc/*/*.[ch] csrc/*.c 2>&1 | grep -E 'warning' | head -n 10)"
fi

lua=$(sh tools/needs.sh lua)
report "the Lua files:" "$("$lua" tools/lint.lua 2>&1)"

[ $failed -eq 0 ] && echo "lint: nothing found"
exit $failed
