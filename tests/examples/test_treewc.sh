#!/bin/sh
# Compares treewc with GNU coreutils' wc, byte for byte, in the C locale: the counts, the columns, the total, the
# messages and the exit status.
#
# usage: test_treewc.sh PATH_TO_TREEWC
set -u
LC_ALL=C
export LC_ALL

if [ $# -ne 1 ]; then
    echo "usage: $0 PATH_TO_TREEWC" >&2
    exit 2
fi
case $1 in
    /*) treewc=$1 ;;
    *) treewc=$PWD/$1 ;;
esac
case $(wc --version 2>/dev/null) in
    *"GNU coreutils"*) ;;
    *) echo "no GNU wc here to compare with"; exit 77 ;;
esac

scratch=$(mktemp -d) || exit 1
trap 'chmod -R u+rwx "$scratch"; rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM
mkdir "$scratch/data" "$scratch/out"
cd "$scratch/data" || exit 1
out=$scratch/out
failures=0

# treewc counts words as wc 9.1 does. Should this wc take bytes that do not print for words, leave words out.
if [ "$(printf '\001\n' | wc -w)" -eq 0 ]; then
    comparable() { sort "$1"; }
else
    echo "this wc counts other words in binary data: comparing lines and bytes only"
    comparable() { sed 's/^\( *[0-9]* \) *[0-9]* /\1/' "$1" | sort; }
fi

# check WHAT ARGUMENT...: what treewc does with the arguments is what wc, run before, has left in $out/wc.*
check() {
    what=$1
    shift
    "$treewc" "$@" >"$out/treewc.out" 2>"$out/treewc.raw"
    status=$?
    sed 's/^treewc: /wc: /' "$out/treewc.raw" >"$out/treewc.err"
    for stream in out err; do
        comparable "$out/wc.$stream" >"$out/expected"
        comparable "$out/treewc.$stream" >"$out/found"
        if ! cmp -s "$out/expected" "$out/found"; then
            echo "FAILED: $what: the sorted std$stream is not that of wc:"
            diff "$out/expected" "$out/found" | head -20
            failures=$((failures + 1))
        fi
    done
    if [ "$status" -ne "$wc_status" ]; then
        echo "FAILED: $what: exit status $status instead of $wc_status"
        failures=$((failures + 1))
    fi
}

# like_wc WHAT ARGUMENT...: both with the same arguments, files that is.
like_wc() {
    wc_what=$1
    shift
    wc -- "$@" >"$out/wc.out" 2>"$out/wc.err"
    wc_status=$?
    check "$wc_what" "$@"
}

# like_find WHAT ARGUMENT...: the arguments are trees, for wc the files that find finds there.
like_find() {
    find_what=$1
    shift
    find -H "$@" -type f -print0 >"$out/list"
    wc --files0-from="$out/list" >"$out/wc.out" 2>"$out/wc.err"
    wc_status=$?
    check "$find_what" "$@"
}

expect() {
    if [ "$2" != "$3" ]; then
        echo "FAILED: $1: \"$2\" instead of \"$3\""
        failures=$((failures + 1))
    fi
}

# --- what files contain ---------------------------------------------------------------------------------------
mkdir contents
: >contents/empty
printf 'one two\nthree' >contents/no-final-newline
printf '\n\n \t\n' >contents/no-words
printf ' a\tb\013c\014d\015e ' >contents/every-space
printf 'x\000y \001 \001z\001 \200\201 \240q\240\n' >contents/not-printing
printf '\342\202\254 \303\244 a\303\244b\n' >contents/utf-8
head -c 500000 /dev/urandom >contents/random
head -c 300000 /dev/urandom | tr '\000-\377' 'a-z \n\t\001a-z \n\t\200a-z \n\ta-z' >contents/random-text
head -c 300000 /dev/urandom | tr '\000-\377' 'a-e    \n' >contents/random-words
awk 'BEGIN { for (i = 0; i < 70000; i++) printf "word%d%s", i, i % 9 ? " " : "\n" }' >contents/long
awk 'BEGIN { for (i = 0; i < 300000; i++) printf "x" }' >contents/one-word
# Words, and bytes that do not print, at every place relative to the ends of the blocks that are read and counted.
for length in 62 63 64 65 126 127 128 129 65534 65535 65536 65537; do
    head -c "$length" contents/random-words >contents/words-$length
    { head -c "$length" contents/random-words; printf '\001a\200 \001'; head -c 100 contents/random-words; } \
        >contents/mixed-$length
done
like_find "contents" contents
for file in contents/*; do
    like_wc "a single file: $file" "$file"
done
expect "counts stated here" "$("$treewc" contents/no-final-newline)" " 1  3 13 contents/no-final-newline"

# --- trees ----------------------------------------------------------------------------------------------------
like_find "a real tree" /usr/include

mkdir empty-tree
like_find "an empty directory" empty-tree
expect "an empty directory prints" "$("$treewc" empty-tree 2>&1)" ""

mkdir -p tree/a/b/c tree/d tree/e
echo one >tree/1
echo one two >tree/a/2
echo one two three >tree/a/b/c/3
ln -s ../1 tree/a/link-to-file
ln -s .. tree/a/link-to-directory
ln -s nothing tree/d/dangling
mkfifo tree/d/fifo
like_find "links and a fifo in a tree are passed over" tree
ln -s tree link-to-tree
like_find "a link to a tree as the argument is followed" link-to-tree
like_find "names of trees that end in a slash" tree/ link-to-tree/
like_find "several trees, one twice" tree contents tree
(cd tree && "$treewc" | sort) >"$out/here"
(cd tree && "$treewc" . | sort) >"$out/dot"
expect "no argument means the current directory" "$(cat "$out/here")" "$(cat "$out/dot")"
for workers in 1 2 7; do
    like_find "-j $workers" tree contents
    "$treewc" -j $workers contents | sort >"$out/found"
    "$treewc" contents | sort >"$out/expected"
    expect "-j $workers" "$(cat "$out/found")" "$(cat "$out/expected")"
done
mkdir many
awk 'BEGIN { for (i = 0; i < 5000; i++) { name = "many/" i; print i >name; close(name) } }'
like_find "more files than are kept in flight" many
deep=deep
for level in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
    deep=$deep/$(printf '%0200d' "$level")
done
mkdir -p "$deep" && echo at the bottom >"$deep/file"
like_find "deep directories and long paths" deep
(
    ulimit -n 24
    "$treewc" -j 4 many deep 2>&1 | sort >"$out/found"
)
find many deep -type f -print0 >"$out/list"
wc --files0-from="$out/list" | sort >"$out/expected"
expect "few open files allowed" "$(cksum <"$out/found")" "$(cksum <"$out/expected")"

# --- names ----------------------------------------------------------------------------------------------------
mkdir names
newline='
'
for name in 'with space' "two${newline}lines" "${newline}" "quote's" "quote's${newline}and more" 'back\slash' \
    '"double"' "tab	bed" "-n" "~tilde" "#hash" "{" "semi;colon" "100%" "$(printf 'umlaut-\303\244')" \
    "$(printf 'bell\a\nx\001y')"; do
    echo some words >"names/$name"
    like_wc "the single name $name" "names/$name"
    # Messages quote more names than the counts do.
    like_wc "the missing name $name" "missing-$name" "missing/$name" contents/empty
    cd names || exit 1
    like_wc "the bare name $name" "./$name"
    cd ..
done
like_find "names" names
like_wc "missing: names that need quotes only alone or in front" '~a' '#a' '{' '}' '{}' 'a~#' '=' "it's" \
    "it's \"it\"" "'" "it's \$HOME" "it's a!" 'a b'

# --- what cannot be read --------------------------------------------------------------------------------------
like_wc "a missing file" missing
like_wc "a missing file among others" tree/1 missing contents/long
like_wc "a file taken for a directory" tree/1/2
ln -s loop loop
ln -s nothing dangling
like_wc "links that lead nowhere" loop dangling
if [ -f /proc/self/mem ]; then       # its first page is never there: even root cannot read it
    like_wc "a file whose reading fails" /proc/self/mem tree/1
fi
mkdir locked
echo secret >locked/file
chmod 000 locked/file
like_find "a file without permission" locked tree      # root reads it, and so does root's wc
mkdir closed
echo hidden >closed/file
chmod 000 closed
"$treewc" closed tree >"$out/found" 2>"$out/messages"
status=$?
if [ "$(id -u)" -eq 0 ] || ls closed >/dev/null 2>&1; then
    expect "a directory that can be listed after all" "$status" 0
else
    expect "a directory that cannot be listed: exit status" "$status" 1
    expect "a directory that cannot be listed: message" "$(cat "$out/messages")" "treewc: closed: Permission denied"
    expect "a directory that cannot be listed: the others" "$(sort "$out/found")" "$("$treewc" tree | sort)"
fi
chmod 755 closed
like_wc "devices" /dev/null tree/1

# --- the command line -----------------------------------------------------------------------------------------
for bad in "-j 0" "-j x" "-j" "-j 1x" "-j -1" "-j 99999999999999999999" "-z"; do
    # shellcheck disable=SC2086
    "$treewc" $bad tree >"$out/found" 2>"$out/messages" </dev/null
    status=$?
    [ "$bad" = "-j" ] && continue    # takes "tree" for the number, which the message says too
    expect "$bad: exit status" "$status" 1
    expect "$bad: output" "$(cat "$out/found")" ""
    [ -s "$out/messages" ] || expect "$bad: message" "" "something"
done
"$treewc" -j tree >/dev/null 2>&1
expect "-j without a number: exit status" "$?" 1
"$treewc" -h >"$out/found" 2>"$out/messages"
expect "-h: exit status" "$?" 0
case $(cat "$out/found") in
    Usage:*) ;;
    *) expect "-h: output" "$(cat "$out/found")" "Usage: ..." ;;
esac
if [ -c /dev/full ]; then
    "$treewc" tree >/dev/full 2>"$out/messages"
    expect "a full disk: exit status" "$?" 1
    expect "a full disk: message" "$(cat "$out/messages")" "treewc: write error: No space left on device"
fi

if [ "$failures" -gt 0 ]; then
    echo "$failures failures"
    exit 1
fi
echo "the same as $(wc --version | head -n 1)"
