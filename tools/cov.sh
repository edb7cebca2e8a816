#!/bin/sh
# Line coverage of the C sources after an instrumented run.   cov.sh build/cov
set -eu
cd "$1"
find build/obj -name '*.gcda' | sort | while IFS= read -r data; do
    (cd ../.. && gcov -n -s "$PWD" "$1/$data" 2>/dev/null) |
        awk -F"'" '/^File/ { file = $2 }
            /^Lines executed/ && file ~ /^csrc\/.*\.c$/ {
                split($0, part, /[:% ]+/)
                printf "%6.2f %% of %5d lines  %s\n", part[3], part[5], file
                file = "" }'
done | sort -u | sort -n
