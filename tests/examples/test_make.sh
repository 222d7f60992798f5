#!/bin/sh
# Plays the example make with graphs of shell commands: order, what is outdated, -j, -k, failures, ^C.
#
# usage: test_make.sh PATH_TO_MAKE
set -u
case $1 in
    /*) make=$1 ;;
    *) make=$PWD/$1 ;;
esac
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 1
failures=0
expect() {
    if [ "$2" != "$3" ]; then
        echo "FAILED: $1: \"$2\" instead of \"$3\""
        failures=$((failures + 1))
    fi
}

cat >order <<'END'
all: left right
	echo all >>log; touch all
left: base
	echo left >>log; touch left
right: base left
	echo right >>log; touch right
base: source
	echo base >>log; touch base
END
touch source
"$make" -f order -j 3
expect "exit code" $? 0
expect "order" "$(tr '\n' ' ' <log)" "base left right all "
: >log
"$make" -f order -j 3
expect "nothing is outdated" "$(cat log)" ""
sleep 0.02
touch left
: >log
"$make" -f order
expect "what depends on a newer file" "$(tr '\n' ' ' <log)" "right all "
rm base
: >log
"$make" -f order left
expect "only what was asked for" "$(tr '\n' ' ' <log)" "base left "

cat >failing <<'END'
all: good bad after
	touch never
after: bad
	touch never
bad:
	exit 3
good: slow
	touch kept
slow:
	sleep 2; touch slow
END
"$make" -f failing -j 2 -k 2>messages
expect "exit code of a failure" $? 2
expect "-k makes the rest" "$(ls kept never 2>/dev/null)" "kept"
expect "the one that failed" "$(grep -c '\[bad\] Error 3' messages)" 1
expect "those that depend on it" "$(grep -c 'because of bad' messages)" 2
rm -f kept slow
"$make" -f failing -j 2 2>messages
expect "without -k" $? 2
expect "what has not started is not made" "$(ls kept never 2>/dev/null)" ""

cat >side_by_side <<'END'
all: one two
	true
one:
	touch one.began; while [ ! -f two.began ]; do sleep 0.01; done
two:
	touch two.began; while [ ! -f one.began ]; do sleep 0.01; done
END
"$make" -f side_by_side -j 2
expect "two at a time" $? 0

printf 'a: b\nb: a\n' >circle
"$make" -f circle 2>messages
expect "a circle" $? 2
printf 'a: missing\n' >lacks
"$make" -f lacks 2>messages
expect "a missing file" $? 2

cat >interrupted <<'END'
all: long
	touch never
long:
	touch began; sleep 3
END
"$make" -f interrupted 2>messages &
pid=$!
while [ ! -f began ]; do sleep 0.01; done
kill -TERM $pid
wait $pid
expect "exit code when interrupted" $? 143
expect "what has not started when interrupted" "$(ls never 2>/dev/null)" ""

[ $failures -eq 0 ]
