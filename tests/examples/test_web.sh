#!/bin/sh
# Drives examples/web.c with curl, and with ab where that is there: answers, errors, time limits, load shedding, and an
# orderly end.     test_web.sh WEB CURL [AB]
set -u
web=$1 curl=$2 ab=${3:-}
work=$(mktemp -d) || exit 1
server=
trap 'kill "$server" 2>/dev/null; rm -rf "$work"' EXIT
unset http_proxy https_proxy all_proxy ALL_PROXY

fail() { echo "failed: $*"; exit 1; }

# The limits are wide, since this may run on a machine that has other things to do: a request may wait for 1 s and run
# for 0.8 s.
"$web" 0 1000 800 >"$work/log" 2>&1 &
server=$!
tries=0
until [ -s "$work/log" ]; do
    tries=$((tries + 1)); [ $tries -le 200 ] || fail "the server does not start"
    sleep 0.05
done
url=$(head -n 1 "$work/log")
echo "$url"

# expect CODE TEXT PATH...: the status, and what the body begins with
expect() {
    wanted=$1 text=$2
    shift 2
    body=$work/body.$wanted
    code=$("$curl" -s -m 20 -o "$body" -w '%{http_code}' "$@") || fail "curl $*: $?"
    [ "$code" = "$wanted" ] || fail "$* gave $code, not $wanted: $(cat "$body")"
    case $(cat "$body") in "$text"*) ;; *) fail "$* gave: $(cat "$body")" ;; esac
}
expect 200 '25 primes below 100' "$url/primes?below=100"
expect 200 'done' "$url/slow?ms=10"
expect 404 'no such page' "$url/nowhere"
expect 405 'only GET' -d x=1 "$url/primes?below=100"
expect 400 'the number is negative' "$url/primes?below=-4"
expect 504 'stopped' "$url/slow?ms=5000"
expect 504 'stopped' "$url/primes?below=2000000000"

# 40 slow requests in little time: 4 run, others wait and run, or wait too long, or are sent away at the door.
clients=
for i in $(seq 40); do
    "$curl" -s -m 30 -o /dev/null -w '%{http_code}\n' "$url/slow?ms=400" >>"$work/codes.$i" &
    clients="$clients $!"
done
for client in $clients; do wait "$client"; done
cat "$work"/codes.* | sort | uniq -c
good=$(cat "$work"/codes.* | grep -c '^200$')
away=$(cat "$work"/codes.* | grep -c '^503$')
[ "$good" -ge 4 ] || fail "only $good of the slow requests were answered"
[ "$away" -ge 10 ] || fail "only $away were sent away"
[ $((good + away)) -eq 40 ] || fail "$good and $away are not 40"
expect 200 '{"answered"' "$url/stats"
cat "$work/body.200"

if [ -n "$ab" ]; then
    # As many as fit at once: each is answered.
    "$ab" -q -n 3000 -c 8 "$url/primes?below=100" >"$work/ab" 2>&1 || fail "ab: $(cat "$work/ab")"
    grep -E 'Requests per second|Time per request|Failed requests|Non-2xx' "$work/ab"
    grep -qE '^Complete requests: +3000$' "$work/ab" || fail "not all requests were completed"
    grep -qE '^Failed requests: +0$' "$work/ab" || fail "some requests failed"
    ! grep -q 'Non-2xx' "$work/ab" || fail "some requests were not answered with 200"
    # Ten times as many as may be: the others are sent away at once, so that none waits for long.
    "$ab" -q -n 400 -c 160 -s 20 "$url/slow?ms=100" >"$work/ab" 2>&1 || fail "ab: $(cat "$work/ab")"
    grep -E 'Requests per second|Non-2xx|  99%' "$work/ab"
    grep -qE '^Complete requests: +400$' "$work/ab" || fail "not all requests were completed"
    grep -q 'Non-2xx' "$work/ab" || fail "no load was shed"
fi
expect 200 '168 primes below 1000' "$url/primes?below=1000"

# An end while something runs: it is answered.
"$curl" -s -m 20 "$url/slow?ms=400" >"$work/last" &
client=$!
tries=0
until "$curl" -s -m 20 "$url/stats" | grep -q '"in_house": 1,'; do
    tries=$((tries + 1)); [ $tries -le 200 ] || fail "the last request does not run"
done
kill -TERM "$server"
wait "$server" || fail "the server ended with $?"
wait "$client" || fail "the last request was not answered"
[ "$(cat "$work/last")" = 'done' ] || fail "the last request was answered with $(cat "$work/last")"
tail -n 1 "$work/log"
server=
