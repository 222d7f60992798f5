#!/bin/sh
# Builds and runs every complete program that the documentation shows: each must compile without a warning and exit
# with 0 within 20 seconds.
#   In tpool.h a program stands between the lines "    >>program NAME" and "    >>end", indented by four spaces.
#   In README.md it is a ```c block with a main.
# Usage: doc_programs.sh header|readme FILE LEAST WORK_FOLDER [COMPILER_FLAG...], with the C compiler in CC.
# LEAST: with fewer programs than that, something is wrong with the text or with this script.
set -eu
kind=$1 file=$2 least=$3 work=$4
shift 4
include=$(cd "$(dirname "$0")/.." && pwd)

rm -rf "$work"
mkdir -p "$work"

case $kind in
    header)
        awk -v work="$work" '
            { sub(/\r$/, "") }
            /^    >>program [A-Za-z0-9_]+$/ {
                if (out) { print "line " NR ": a program within a program" > "/dev/stderr"; exit 1 }
                out = work "/" $2 ".c"
                if (seen[out]++) { print "line " NR ": a second program " $2 > "/dev/stderr"; exit 1 }
                next
            }
            /^    >>end$/ {
                if (!out) { print "line " NR ": an end without a program" > "/dev/stderr"; exit 1 }
                close(out); out = ""; next
            }
            # A mark that is spelled a little differently would otherwise be taken for text, and its program lost.
            /^ *>>program( |$)/ || /^ *>>end *$/ { print "line " NR ": odd mark: " $0 > "/dev/stderr"; exit 1 }
            out { sub(/^    /, ""); print > out }
            END { if (out) { print "the last program has no end" > "/dev/stderr"; exit 1 } }
        ' "$file" ;;
    readme)
        awk -v work="$work" '
            { sub(/\r$/, "") }
            /^```c$/ { inside = 1; text = ""; program = 0; next }
            /^```$/ && inside {
                if (program) { out = work "/readme_" ++count ".c"; printf "%s", text > out; close(out) }
                inside = 0; next
            }
            inside { text = text $0 "\n"; if ($0 ~ /int main/) program = 1 }
        ' "$file" ;;
    *) echo "header or readme, not $kind" >&2; exit 1 ;;
esac

cc="${CC:-cc} -std=c11 -Wall -Wextra -Werror -pthread -I$include"   # CC may be several words
if command -v timeout >/dev/null; then limit="timeout 20"; else limit=; fi

found=0 failed=0
for source in "$work"/*.c; do
    [ -e "$source" ] || break
    found=$((found + 1))
    program=${source%.c}
    name=${program##*/}
    # The first program brings the implementation, as it shows, and so do those with a copy to themselves; the others
    # are linked with it, to save the time.
    if [ "$found" -gt 1 ]; then
        sed 's/^ *# *define *TPOOL_IMPLEMENTATION.*//' "$source" >"$source.new"
        mv "$source.new" "$source"
    fi
    if grep -Eq '^ *# *define +TPOOL_(IMPLEMENTATION|STATIC)' "$source"; then
        implementation=
    else
        implementation=$work/implementation.o
        [ -e "$implementation" ] || $cc "$@" -c -o "$implementation" "$include/tests/impl.c"
    fi
    if ! $cc "$@" -o "$program" "$source" $implementation; then
        echo "$name: DOES NOT COMPILE"
        failed=$((failed + 1))
        continue
    fi
    status=0
    (cd "$work" && $limit "$program" >"$program.out" 2>&1 </dev/null) || status=$?
    if [ "$status" -eq 0 ]; then
        echo "$name: fine"
    else
        echo "$name: ENDED WITH $status"
        sed 's/^/    /' "$program.out"
        failed=$((failed + 1))
    fi
done

echo "$found programs, $failed failed"
if [ "$found" -lt "$least" ]; then
    echo "expected $least or more" >&2
    exit 1
fi
[ "$failed" -eq 0 ]
