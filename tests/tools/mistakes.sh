#!/bin/sh
# mistakes.sh TOOL HEADER_FOLDER WORK: the tool (asan, asan-gcc, lsan, valgrind, assert) tells of each mistake that
# mistakes.c makes with a future, and names the function that makes it; of a program without a mistake, and of the
# pools of the whole process, it tells nothing. $CC compiles.
set -u
tool=$1 header=$2 work=$3
here=$(cd "$(dirname "$0")" && pwd)
: "${CC:=cc}"
mkdir -p "$work"
program=$work/$tool
uses='use_after_release release_too_often release_of_a_waiting_one'
case $tool in
    asan-gcc) CC=gcc tool=asan ;;   # the one that keeps the arrays of functions which never returned
esac
case $tool in
    asan) flags=-fsanitize=address mistakes="leak leak_of_a_promise $uses" told='ERROR: (Address|Leak)Sanitizer' ;;
    lsan) flags=-fsanitize=leak mistakes='leak leak_of_a_promise' told='ERROR: LeakSanitizer' ;;
    valgrind) flags= mistakes="leak leak_of_a_promise $uses" told='Invalid (read|write)|(definitely|possibly) lost in loss' ;;
    assert) flags=-DWITH_ASSERT mistakes='release_too_often release_of_a_waiting_one' told='asserted in' ;;
esac
# shellcheck disable=SC2086
$CC -std=c11 -g -O1 -fno-omit-frame-pointer -fno-inline -pthread $flags -I"$header" -o "$program" "$here/mistakes.c" || exit 1
run() {
    case $tool in
        valgrind) valgrind --leak-check=full --show-leak-kinds=definite,possible "$program" "$1" ;;
        *) "$program" "$1" ;;
    esac
}
status=0
for mistake in none shared $mistakes; do
    ended=0
    run "$mistake" >"$work/$tool.log" 2>&1 || ended=$?
    if [ "$mistake" = none ] || [ "$mistake" = shared ]; then
        [ "$ended" -eq 0 ] && ! grep -qE "$told" "$work/$tool.log"
    else
        grep -qE "$told" "$work/$tool.log" && grep -qE "[ :]$mistake([ :(]|\$)" "$work/$tool.log"
    fi || { echo "FAILED: $tool does not tell of $mistake, or of more:"; cat "$work/$tool.log"; status=1; }
done
exit $status
