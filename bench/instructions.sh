#!/bin/sh
# Instructions that cws spends on one message, counted by callgrind on the way
# from one sleep of the loop to the next: the same in every run, whatever else
# the machine does. A rise of more than 3 % over bench/instructions.txt fails.
#
#   instructions.sh              counts and compares
#   instructions.sh record       counts and writes bench/instructions.txt
#   ONLY=WORD instructions.sh    only the scenarios whose name contains it
#
# The figures depend on the compiler, the libraries and the processor's kind:
# they stand in the file, and where they differ nothing is compared.
set -eu
cd "$(dirname "$0")/.."
out=build/instructions
recorded=bench/instructions.txt
lua=$(command -v "$(sh tools/needs.sh lua)")
export LC_ALL=C

# name|what bench/feed.c plays|arguments of the server
scenarios() {
    cat <<'END'
echo-20|echo 1 1 20 text 10000 /echo|
echo-20-batch-16|echo 1 16 20 text 2000 /echo|
echo-20-send-in-a-task|echo 1 1 20 text 8000 /task|
echo-16k-ascii|echo 1 4 16384 text 200 /echo|
echo-16k-utf8|echo 1 4 16384 utf8 200 /echo|
echo-1m-binary|echo 1 1 1048576 binary 40 /echo|
echo-1k-deflate|echo 1 1 1024 deflate 300 /echo|--deflate
handshake|handshake 200|
connect-echo-close|cycle 200|
broadcast-100|broadcast 100 20 200|
END
}

probe() { # probe: what the counts depend on, one line each
    echo "compiler: $(${CC:-cc} --version | head -n 1), ${CFLAGS:--O2 -g}"
    "$lua" - <<'END'
package.path = "lua/?.lua;lua/?/init.lua;" .. package.path
package.cpath = "build/?.so;" .. package.cpath
local versions, lines = require("cws").versions(), {}
for name, version in pairs(versions) do
  if name ~= "cws" then lines[#lines + 1] = name .. ": " .. tostring(version) end
end
table.sort(lines)
print(table.concat(lines, "\n"))
END
    echo "libc: $(getconf GNU_LIBC_VERSION 2>/dev/null || echo other)"
    echo "interpreter: $(cksum <"$lua")"
    valgrind --version
    # libraries choose by them, as far as valgrind offers them
    echo "processor: $(uname -m) $(grep -m 1 -owE 'avx2|ssse3' /proc/cpuinfo |
        sort | xargs) $(grep -m 1 '^vendor_id' /proc/cpuinfo | cut -d: -f2)"
}

build_feed() {
    for flags in "-lz" "-DWITHOUT_ZLIB"; do
        # shellcheck disable=SC2086
        ${CC:-cc} -std=gnu11 -O2 -shared -fPIC -o $out/feed.so bench/feed.c \
            $flags -ldl 2>$out/feed.log && return
    done
    cat $out/feed.log >&2
    echo "bench-instructions: bench/feed.c does not compile" >&2
    exit 1
}

# Prints the total and the functions of one scenario, per message.
count() { # count NAME SCRIPT ARGUMENTS
    rm -f "$out/$1.cg"
    # a clean environment: its size moves the stack, and that the hashes' seed
    # shellcheck disable=SC2086
    messages=$(env -i PATH=/usr/bin:/bin LC_ALL=C FEED="$2" \
        LD_PRELOAD="$out/feed.so" timeout 60 valgrind --quiet \
        --tool=callgrind --collect-atstart=no \
        --callgrind-out-file="$out/$1.cg" \
        "$lua" bench/peers/cws.lua 0 $3 2>"$out/$1.log") || {
        cat "$out/$1.log" >&2
        echo "bench-instructions: $1 failed" >&2
        return 1
    }
    callgrind_annotate --threshold=100 "$out/$1.cg" 2>/dev/null |
        awk -v name="$1" -v messages="$messages" '
            { gsub(",", "", $1) }
            /PROGRAM TOTALS/ { total = $1 }
            / \[/ && $1 > 0 {
                what = $0
                sub(/^[^)]*\) */, "", what)
                object = what
                sub(/.*\[(.*\/)?/, "", object); sub(/\].*/, "", object)
                sub(/ \[.*/, "", what); sub(/.*:/, "", what)
                sub(/\x27[0-9]+$/, "", what)
                sub(/^0x0*/, "0x", what)
                sum[object ":" what] += $1
            }
            END {
                printf "%s %.1f\n", name, total / messages
                for (f in sum)
                    if (sum[f] > total / 300)
                        printf "\t%s %.1f\n", f, sum[f] / messages | "sort -k2,2rn"
            }'
}

count_all() {
    scenarios | while IFS='|' read -r name script arguments; do
        case $name in *"${ONLY:-}"*) ;; *) continue ;; esac
        count "$name" "$script" "$arguments" </dev/null || exit 1
    done
}

# Says what rose, and with it the functions that did; fails when one did.
compare() { # compare RECORDED COUNTED
    awk '
        /^#/ || !NF { next }
        !/^\t/ { name = $1; total[FILENAME, name] = $2 }
        !/^\t/ && FILENAME == ARGV[2] { order[++n] = name }
        /^\t/ { part[FILENAME, name, $1] = $2; known[name, ++count[name]] = $1 }
        function grew(name, least,    i, f, by, seen) {
            for (i = 1; i <= count[name]; i++) {
                f = known[name, i]
                by = part[ARGV[2], name, f] - part[ARGV[1], name, f]
                if (by > least && !seen[f]++)
                    printf "    %+10.1f  %s\n", by, f | "sort -k1,1rn"
            }
            close("sort -k1,1rn")
        }
        END {
            for (i = 1; i <= n; i++) {
                name = order[i]; was = total[ARGV[1], name]; is = total[ARGV[2], name]
                if (!was) { printf "%-24s %12.1f  (not recorded)\n", name, is; continue }
                change = 100 * (is - was) / was
                printf "%-24s %12.1f  %+.1f %%\n", name, is, change
                if (change <= 3) continue
                bad = 1
                print "  more than 3 % over bench/instructions.txt; what grew:"
                fflush()
                grew(name, was / 300)
            }
            exit bad
        }' "$1" "$2"
}

mkdir -p $out
build_feed
probe | sed 's/^/# /' >$out/versions
count_all >$out/counts
if [ "${1:-}" = record ]; then
    {
        echo "# Instructions per message and the functions that take most of them."
        echo "# Written by: make bench-instructions RECORD=1"
        cat $out/versions $out/counts
    } >$recorded
    grep -v "^[#	]" $recorded
elif ! grep '^# [a-z]*[:-]' $recorded 2>/dev/null | grep -v Written |
    cmp -s - $out/versions; then
    grep -v '^	' $out/counts
    echo "not compared: $recorded was recorded with other versions:"
    { grep '^# [a-z]*[:-]' $recorded || true; } | grep -v Written |
        diff - $out/versions | grep '^[<>]' || true
else
    compare $recorded $out/counts || {
        echo "bench-instructions: FAILED (if it is worth it: make" \
            "bench-instructions RECORD=1)" >&2
        exit 1
    }
fi
