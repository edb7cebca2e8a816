#!/bin/sh
# Runs fuzz targets.   fuzz.sh TARGET...
# From make: T (only targets whose name matches), FUZZ_SECONDS for each, or
# FUZZ_RUNS. New inputs go to build/fuzz/corpus; what crashes is kept in
# build/fuzz/crash-* and belongs into csrc/fuzz/corpus once it is mended.
set -u
failed=0
for target in "$@"; do
    case $target in *"${T:-}"*) ;; *) continue ;; esac
    seeds=csrc/fuzz/corpus/$target
    found=build/fuzz/corpus/$target
    log=build/fuzz/$target.log
    mkdir -p "$found"
    limit=-max_total_time=${FUZZ_SECONDS:-10}
    [ -z "${FUZZ_RUNS:-}" ] || limit=-runs=$FUZZ_RUNS
    if "build/fuzz/bin/$target" "$limit" -timeout=10 -rss_limit_mb=2048 \
        -max_len=4096 -print_final_stats=1 \
        "-artifact_prefix=build/fuzz/crash-$target-" \
        "$found" "$seeds" >"$log" 2>&1; then
        echo "fuzz $target: $(awk '/number_of_executed_units/ { print $2 }' \
            "$log") runs, nothing found"
    else
        echo "fuzz $target: FAILED, see $log"
        tail -n 30 "$log"
        failed=1
    fi
done
exit $failed
