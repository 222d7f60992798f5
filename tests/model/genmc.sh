#!/bin/sh
# genmc.sh HEADERS [PROGRAM...]: has GenMC check the programs in this folder (all of them, or those named, without .c)
# against the tpool.h in the folder HEADERS, and prints for each the executions that it explored. $GENMC is the checker
# (README.md here tells which), with options of its own behind it if there are any, such as --imm. Fails if one of them
# has an error, as a weakened order is, or has no execution that comes to its end.
set -u
headers=$1
shift
here=$(dirname "$0")
[ $# -gt 0 ] || set -- $(cd "$here" && grep -L 'Not for a model checker' *.c | sed 's/\.c$//')
: "${GENMC:=genmc}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
for program in "$@"; do
    # It replays each execution whole: what it remembers of instructions takes frames of functions for each other.
    # shellcheck disable=SC2086
    if $GENMC --disable-instruction-caching --disable-function-inliner --disable-ipr --disable-estimation -- \
        -DMODEL_CHECKER -std=c11 -O0 -w -I"$headers" -I"$here" "$here/$program.c" >"$log" 2>&1; then
        complete=$(sed -n 's/^Number of complete executions explored: //p' "$log")
        blocked=$(sed -n 's/^Number of blocked executions seen: //p' "$log" | grep . || echo 0)
        echo "$program: $complete complete, $blocked blocked"
        [ "${complete:-0}" -gt 0 ] || status=1
    else
        status=1
        if grep -q '^Error: ' "$log"; then
            echo "$program: FAILED: $(sed -n 's/^Error: //p' "$log" | head -n 1)"
        else
            echo "$program: not checked:"
            tail -n 5 "$log"
        fi
    fi
done
exit $status
