#!/bin/sh
# examples/top.c: JSON lines where its output is no terminal, a table where it is; both say what is stuck.
#     test_top.sh TOP PYTHON
set -u
top=$1 python=$2
"$top" 2.5 | "$python" -c '
import json, re, sys
lines = [json.loads(line) for line in sys.stdin]
assert len(lines) == 2, lines
for line in lines:
    assert [pool["name"] for pool in line["pools"]] == ["decode", "upload", "thumbs"]
    for stuck in line["stuck"]: assert re.fullmatch(r"upload_\d+: task \"upload\" for \d+\.\d\d\d s", stuck), stuck
assert lines[1]["stuck"], lines
for before, after in zip(lines[0]["pools"], lines[1]["pools"]):
    assert after["completed"] > before["completed"] > 0
    assert after["busy_ns"] > before["busy_ns"] > 0
    for p in (before, after):
        assert p["wait_p50_ns"] <= p["wait_p99_ns"] and 0 < p["run_p50_ns"] <= p["run_p99_ns"]
        assert p["workers"] <= p["max_workers"]
' || exit 1
"$python" -c '
import os, pty, sys
pieces = []
def read(fd):
    piece = os.read(fd, 1000)
    pieces.append(piece)
    return piece
status = pty.spawn([sys.argv[1], "2.2"], read)
said = b"".join(pieces).decode()
assert status == 0, status
assert said.count("\033[H") >= 2 and "POOL" in said and "decode" in said and "WAIT p99" in said, said
assert "stuck: upload_" in said, said
' "$top" </dev/null || exit 1
