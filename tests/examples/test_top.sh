#!/bin/sh
# examples/top.c: JSON lines where its output is no terminal, a table where it is; both say what is stuck. Each runs
# until it has said so, since a line may come late on a machine that has other things to do.
#     test_top.sh TOP PYTHON
set -u
top=$1 python=$2
"$python" - "$top" <<'END' || exit 1
import json, os, pty, re, signal, subprocess, sys

def end(program, number):
    program.send_signal(number)
    program.communicate()
    assert program.returncode == 0, program.returncode

signal.alarm(50)
program = subprocess.Popen([sys.argv[1], "0"], stdout=subprocess.PIPE, text=True)
lines = []
while len(lines) < 2 or not any(line["stuck"] for line in lines):
    lines.append(json.loads(program.stdout.readline()))
end(program, signal.SIGTERM)
for line in lines:
    assert [pool["name"] for pool in line["pools"]] == ["decode", "upload", "thumbs"]
    for stuck in line["stuck"]: assert re.fullmatch(r'upload_\d+: task "upload" for \d+\.\d\d\d s', stuck), stuck
for before, after in zip(lines[0]["pools"], lines[1]["pools"]):
    assert after["completed"] > before["completed"] > 0
    assert after["busy_ns"] > before["busy_ns"] > 0
    for p in (before, after):
        assert p["wait_p50_ns"] <= p["wait_p99_ns"] and 0 < p["run_p50_ns"] <= p["run_p99_ns"]
        assert p["workers"] <= p["max_workers"]
program = subprocess.Popen([sys.argv[1], "1"], stdout=subprocess.PIPE, text=True)
assert len(program.stdout.readlines()) == 1 and program.wait() == 0

terminal, other_side = pty.openpty()
program = subprocess.Popen([sys.argv[1]], stdout=other_side)
said = b""
while said.count(b"\033[H") < 2 or b"stuck: upload_" not in said: said += os.read(terminal, 1000)
end(program, signal.SIGINT)
assert b"POOL" in said and b"decode" in said and b"WAIT p99" in said, said
END
