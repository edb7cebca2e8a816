#!/bin/sh
# Probes for what the build needs and writes the answers as make variables.
#   configure.sh build/config.mk
set -eu
out=$1
here=$(dirname "$0")

sh "$here/needs.sh" check build
eval "$(sh "$here/needs.sh" paths)"

zlib=no
if sh "$here/needs.sh" has zlib.h; then
    zlib=yes
else
    echo "zlib.h not found: permessage-deflate is left out"
fi

dirs() { # dirs FLAG DIR...: each once
    flag=$1
    shift
    for dir in "$@"; do
        echo "$flag$dir"
    done | awk '!seen[$0]++' | xargs
}

mkdir -p "$(dirname "$out")"
{
    echo "# Written by tools/configure.sh; 'make clean' drops it."
    echo "LUA := $(sh "$here/needs.sh" lua)"
    echo "LUA_CFLAGS := $(sh "$here/needs.sh" lua-cflags)"
    echo "HAVE_ZLIB := $zlib"
    echo "INC_PATHS := $(dirs -I ${EV_INCDIR:-} ${OPENSSL_INCDIR:-})"
    echo "LIB_PATHS := $(dirs -L ${EV_LIBDIR:-} ${OPENSSL_LIBDIR:-})"
} >"$out.new"
mv "$out.new" "$out"
