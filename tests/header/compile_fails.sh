#!/bin/sh
# Runs a compiler that must fail, and must say why.
# Usage: compile_fails.sh TEXT COMPILER ARGUMENT...  (TEXT: a part of what it must print)
text=$1
shift
if output=$("$@" 2>&1); then
    echo "compiled, and should not have: $*" >&2
    exit 1
fi
printf '%s\n' "$output"
case $output in
    *"$text"*) exit 0 ;;
esac
echo "failed for another reason than: $text" >&2
exit 1
