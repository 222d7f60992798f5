#!/bin/sh
# Drives examples/web.c with curl, and with ab where that is there: answers, their order, errors, time limits, load
# shedding, metrics (promtool reads them, and must be there in CI), and an orderly end, also where clients do not read.
#     test_web.sh WEB CURL PYTHON [AB]
set -u
web=$1 curl=$2 python=$3 ab=${4:-}
work=$(mktemp -d) || exit 1
server= second=
trap 'kill $server $second 2>/dev/null; rm -rf "$work"' EXIT
unset http_proxy https_proxy all_proxy ALL_PROXY

fail() { echo "failed: $*"; exit 1; }

# url_in LOG: what a server that starts says
url_in() {
    tries=0
    until [ -s "$1" ]; do
        tries=$((tries + 1)); [ $tries -le 200 ] || fail "the server does not start"
        sleep 0.05
    done
    url=$(head -n 1 "$1")
    echo "$url"
}
# The limits are wide, since this may run on a machine that has other things to do: a request may wait for 1 s and run
# for 0.8 s.
"$web" 0 1000 800 >"$work/log" 2>&1 &
server=$!
url_in "$work/log"

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
[ "$away" -ge 1 ] || fail "none was sent away"
[ $((good + away)) -eq 40 ] || fail "$good and $away are not 40"

# Requests that are sent ahead run side by side, and are answered in their order. A client that goes away stops its own.
"$python" - "${url##*:}" <<'END' || fail "requests that are sent ahead"
import socket, sys, time
def connected():
    return socket.create_connection(("127.0.0.1", int(sys.argv[1])), 20)
def get(path):
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
def answers(client, count):
    file, all = client.makefile("rb"), []
    for _ in range(count):
        code = int(file.readline().split()[1])
        headers = dict(line.decode().lower().split(": ", 1) for line in iter(file.readline, b"\r\n"))
        all.append((code, file.read(int(headers["content-length"])).decode().strip()))
    return all
with connected() as client:
    began = time.monotonic()
    client.sendall(get("/slow?ms=250") + get("/primes?below=10") + get("/slow?ms=250") + get("/nowhere")
                   + get("/primes?below=100"))
    assert answers(client, 5) == [(200, "done"), (200, "4 primes below 10"), (200, "done"), (404, "no such page"),
                                  (200, "25 primes below 100")]
    took = time.monotonic() - began
    print(f"five in {took:.3f} s")
import threading
primes = [0, 1, 2, 2, 3, 3, 4]
asked = b"".join(get(f"/primes?below={2 + i % 7}") for i in range(1000))
for _ in range(10):                  # a thousand of them, in pieces of odd sizes
    with connected() as client:
        def send():
            for i in range(0, len(asked), 777):
                client.sendall(asked[i:i + 777])
        sender = threading.Thread(target=send)
        sender.start()
        for i, (code, text) in enumerate(answers(client, 1000)):
            assert (code, text) == (200, f"{primes[i % 7]} primes below {2 + i % 7}"), (i, code, text)
        sender.join()
def in_house():
    with connected() as client:
        client.sendall(get("/metrics"))
        text = answers(client, 1)[0][1]
        return int(next(line for line in text.split("\n") if line.startswith("web_requests_in_house ")).split()[1])
until, seen = time.monotonic() + 40, 0
while seen != 4:                     # again, where the machine is so busy that they end before one has looked
    while in_house() != 0: assert time.monotonic() < until
    client, soon = connected(), time.monotonic() + 0.6
    client.sendall(get("/slow?ms=700") * 4)
    while (seen := in_house()) != 4 and time.monotonic() < soon: pass
    client.close()
while in_house() != 0: assert time.monotonic() < until
END

# The metrics, in both formats, by Prometheus' own parsers.
"$curl" -s -m 20 -i "$url/metrics" >"$work/plain"
grep -q '^web_answers_total{code="200"} [1-9]' "$work/plain" || fail "no metrics"
grep -q '^Content-Type: text/plain; version=0.0.4' "$work/plain" || fail "the type of the metrics"
"$curl" -s -m 20 -i -H 'Accept: application/openmetrics-text; version=1.0.0' "$url/metrics" |
    grep -q '^Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8' ||
    fail "the type of OpenMetrics"
if command -v promtool >/dev/null; then
    "$curl" -s -m 20 "$url/metrics" | promtool check metrics || fail "promtool does not like the metrics"
    "$curl" -s -m 20 -H 'Accept: application/openmetrics-text; version=1.0.0' "$url/metrics" >"$work/open"
    tail -n 1 "$work/open" | grep -qx '# EOF' || fail "no end of OpenMetrics"
    # what reads OpenMetrics wants times
    sed '/^#/!s/$/ 1700000000/' "$work/open" >"$work/timed"
    promtool tsdb create-blocks-from openmetrics "$work/timed" "$work/blocks" || fail "promtool reads no OpenMetrics"
elif [ "${CI-}" ]; then
    fail "there is no promtool (package prometheus)"
else
    echo "skipped: there is no promtool (package prometheus), so no parser has read the metrics"
fi

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
client= tries=0
until "$curl" -s -m 20 "$url/metrics" | grep -q '^web_requests_in_house 1$'; do
    tries=$((tries + 1)); [ $tries -le 200 ] || fail "the last request does not run"
    [ -z "$client" ] || [ -s "$work/last" ] || continue # again, if it was answered before one has looked
    "$curl" -s -m 20 "$url/slow?ms=400" >"$work/last" &
    client=$!
done
kill -TERM "$server"
wait "$server" || fail "the server ended with $?"
wait "$client" || fail "the last request was not answered"
[ "$(cat "$work/last")" = 'done' ] || fail "the last request was answered with $(cat "$work/last")"
tail -n 1 "$work/log"
server=

# More clients than descriptors: they wait, which takes no time of the processor, and their turn comes.
(ulimit -n 40 && exec "$web" 0 1000 800) >"$work/second" 2>&1 &
second=$!
url_in "$work/second"
"$python" - "${url##*:}" $second <<'END' || fail "more clients than descriptors"
import os, signal, socket, sys, time
def connected():
    return socket.create_connection(("127.0.0.1", int(sys.argv[1])), 20)
def ticks():
    with open(f"/proc/{sys.argv[2]}/stat") as file:
        return sum(map(int, file.read().rsplit(") ", 1)[1].split()[11:13]))
clients = [connected() for _ in range(60)]
clients[0].sendall(b"GET /primes?below=3 HTTP/1.1\r\n\r\n")
assert b"1 primes" in clients[0].recv(1000)
before = ticks()
time.sleep(1)
assert ticks() - before <= 10, ticks() - before
for client in clients[:59]: client.close()
clients[59].sendall(b"GET /primes?below=3 HTTP/1.1\r\n\r\n")
assert b"1 primes" in clients[59].recv(1000)
# A client that asks and does not read: when nothing more is taken from it, the service cannot send any more.
deaf = connected()
deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
deaf.settimeout(1)
try:
    while True: deaf.sendall(b"GET /metrics HTTP/1.1\r\n\r\n" * 100)
except TimeoutError:
    pass
os.kill(int(sys.argv[2]), signal.SIGTERM)
until = time.monotonic() + 20
def runs():
    try:
        with open(f"/proc/{sys.argv[2]}/stat") as file:
            return file.read().rsplit(") ", 1)[1][0] != "Z"
    except (FileNotFoundError, ProcessLookupError): # the shell has already asked how it ended
        return False
while runs():
    assert time.monotonic() < until, "it does not end"
    time.sleep(0.05)
END
wait "$second" || fail "the second server ended with $?"
second=
