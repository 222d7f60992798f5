"""Runs test_trace, and reads each trace that it has written: strict JSON, and what Chrome's trace event format asks of
each phase. trace_json.py TEST_TRACE"""
import json, os, subprocess, sys, tempfile

NEEDED = {
    "M": {"name": str, "pid": int, "tid": int, "args": dict},
    "B": {"name": str, "cat": str, "pid": int, "tid": int, "ts": float, "args": dict},
    "E": {"pid": int, "tid": int, "ts": float, "args": dict},
    "i": {"name": str, "cat": str, "pid": int, "tid": int, "ts": float, "s": str, "args": dict},
    "b": {"name": str, "cat": str, "pid": int, "tid": int, "ts": float, "id": int, "args": dict},
    "e": {"name": str, "cat": str, "pid": int, "tid": int, "ts": float, "id": int, "args": dict},
}


def once(pairs):
    keys = [key for key, _ in pairs]
    assert len(keys) == len(set(keys)), f"a key twice: {keys}"
    return dict(pairs)


def refuse(constant):
    raise ValueError(f"{constant} is no JSON")


def check(path):
    with open(path, "rb") as file:
        trace = json.loads(file.read().decode("utf-8", "strict"), object_pairs_hook=once, parse_constant=refuse)
    open_slices = {}
    for event in trace["traceEvents"]:
        for key, kind in NEEDED[event["ph"]].items():
            assert isinstance(event[key], kind), (path, event)
        if event["ph"] == "B":
            open_slices.setdefault(event["tid"], []).append(event["cat"])
        if event["ph"] == "E":
            open_slices[event["tid"]].pop()
    return len(trace["traceEvents"])


with tempfile.TemporaryDirectory() as folder:
    run = subprocess.run([sys.argv[1]], env={**os.environ, "TRACE_FOLDER": folder}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    counts = [check(os.path.join(folder, name)) for name in os.listdir(folder)]
assert len(counts) > 20 and max(counts) > 50, counts
