"""Reads traces, as strictly as a reader of JSON may, and checks what Chrome's trace event format asks of each event and of
all together. trace_json.py TEST_TRACE: runs test_trace, and reads each trace that it has written."""
import json, os, re, subprocess, sys, tempfile

PLACE = {"pid": int, "tid": int}
EVENT = {**PLACE, "ts": float, "args": dict}
NEEDED = {
    "M": {**PLACE, "name": str, "args": dict},
    "B": {**EVENT, "name": str, "cat": str},
    "E": EVENT,
    "X": {**EVENT, "name": str, "cat": str, "dur": int},
    "i": {**EVENT, "name": str, "cat": str, "s": str},
    "b": {**EVENT, "name": str, "cat": str, "id": int},
    "e": {**EVENT, "name": str, "cat": str, "id": int},
}


def once(pairs):
    keys = [key for key, _ in pairs]
    assert len(keys) == len(set(keys)), f"a key twice: {keys}"
    return dict(pairs)


def refuse(constant):
    raise ValueError(f"{constant} is no JSON")


def read(path):
    """The events of the trace, each checked by itself."""
    with open(path, "rb") as file:
        trace = json.loads(file.read().decode("utf-8", "strict"), object_pairs_hook=once, parse_constant=refuse)
    assert set(trace) == {"displayTimeUnit", "traceEvents"} and trace["displayTimeUnit"] in ("ms", "ns"), path
    for event in trace["traceEvents"]:
        for key, kind in NEEDED[event["ph"]].items():
            assert type(event[key]) is kind, (path, event)
        assert event["pid"] > 0 and event["tid"] > 0, (path, event)  # 0 is the idle process, or thread
        assert event.get("ts", 0) >= 0, (path, event)
        assert event.get("s", "t") in ("t", "p", "g"), (path, event)
        ways = [key for key in ("flow_in", "flow_out") if key in event]
        assert all(event[way] is True for way in ways) and ("bind_id" in event) == bool(ways), (path, event)
        if ways:
            assert event["ph"] in "BX" and re.fullmatch("0x[1-9a-f][0-9a-f]*", event["bind_id"]), (path, event)
    return trace["traceEvents"]


def check(path):
    """Checks the events of the trace together, and returns them."""
    events = read(path)
    names = [event["tid"] for event in events if event["ph"] == "M" and event["name"] == "thread_name"]
    assert len(names) == len(set(names)), (path, "a thread has two names")
    assert {event["tid"] for event in events} <= set(names), (path, "a thread has no name")
    assert all(isinstance(event["args"]["name"], str) for event in events if event["ph"] == "M"), path
    assert len({event["pid"] for event in events}) == 1, (path, "more than one process")
    opened, latest, overlapping = {}, {}, {}
    for event in events:
        phase, tid = event["ph"], event["tid"]
        if phase in "BE":  # they nest on each thread, in the order of their times; what is open at the end goes on
            assert event["ts"] >= latest.get(tid, 0), (path, event)
            latest[tid] = event["ts"]
            stack = opened.setdefault(tid, [])
            if phase == "B":
                stack.append(event)
            else:
                assert stack, (path, event, "an end without a beginning")
                begun = stack.pop()
                assert begun.get("cat") == event.get("cat", begun["cat"]), (path, begun, event)
        if phase in "be":  # pairs of one category, name and number, which may overlap others
            key = event["cat"], event["name"], event["id"]
            if phase == "b":
                overlapping[key] = event["ts"]
            else:
                assert event["ts"] >= overlapping.pop(key, 0), (path, event)
    arrows = {}
    for event in events:
        if "bind_id" in event:
            arrows.setdefault(event["bind_id"], []).append(event)
    for chain in arrows.values():  # from one beginning, unless that is lost, on to what comes later
        chain.sort(key=lambda event: (event["ts"], "flow_in" in event, "flow_out" not in event))
        begins = [event for event in chain if "flow_in" not in event]
        assert len(begins) <= 1 and (not begins or begins[0] is chain[0]), (path, chain)
        passes = [event for event in chain if "flow_in" in event and "flow_out" in event]
        assert [event["cat"] for event in passes] in ([], ["task"], ["ready"], ["ready", "task"]), (path, chain)
        assert passes == chain[len(begins):len(begins) + len(passes)], (path, chain)
    return events


def check_the_checks(folder):
    """A trace that is right passes, and one with a mistake does not."""
    name = '{"ph":"M","pid":1,"tid":3,"name":"thread_name","args":{"name":"a"}}'
    begin = '{"ph":"B","pid":1,"tid":3,"ts":2.5,"cat":"task","name":"a","args":{}}'
    end = '{"ph":"E","pid":1,"tid":3,"ts":3.5,"args":{}}'
    goes = '{"ph":"X","pid":1,"tid":3,"ts":1.5,"dur":0,"cat":"submit","name":"submit","bind_id":"0x1a","flow_out":true,"args":{}}'
    passes = begin.replace('"args"', '"bind_id":"0x1a","flow_in":true,"flow_out":true,"args"')
    comes = goes.replace("1.5", "4.5").replace("flow_out", "flow_in")
    ready = passes.replace('"B"', '"X"').replace("2.5", "1.75").replace('"cat":"task"', '"dur":0,"cat":"ready"')
    for right, lines in [
        (True, [name, begin, end]), (True, [name, begin]),
        (False, [begin, end]), (False, [name, end]), (False, [name, begin, end, end]), (False, [name, name, begin, end]),
        (False, [name, begin, end.replace("3.5", "1.5")]), (False, [name, begin.replace('"ts":2.5,', ""), end]),
        (False, [name, begin.replace('"tid":3', '"tid":0'), end]), (False, [name, begin.replace('"a"', '"\xff"'), end]),
        (False, [name, begin.replace("{}", '{"task":NaN}'), end]), (False, [name, begin + ",", end]),
        (True, [name, goes, passes, end, comes, comes]), (True, [name, passes, end]), (True, [name, goes]),
        (True, [name, goes, ready, passes, end, comes]), (True, [name, ready, passes, end]),
        (False, [name, goes, ready, ready, passes, end]), (False, [name, goes, ready.replace("1.75", "2.75"), passes, end]),
        (False, [name, goes.replace("1.5", "2.75"), passes, end]), (False, [name, goes, goes, passes, end]),
        (False, [name, comes.replace("4.5", "2.25"), goes, passes, end]), (False, [name, goes.replace("0x1a", "1a")]),
        (False, [name, goes.replace('"bind_id":"0x1a",', "")]), (False, [name, goes.replace("true", "1")]),
        (False, [name, goes.replace('"flow_out":true,', "")]), (False, [name, goes.replace('"dur":0,', "")]),
        (False, [name, begin.replace('"cat"', '"name"'), end]), (False, [name, begin.replace('"B"', '"Q"')]),
    ]:
        path = os.path.join(folder, "check.json")
        with open(path, "w", encoding="latin-1") as file:
            file.write('{"displayTimeUnit":"ns","traceEvents":[' + ",".join(lines) + "]}")
        try:
            check(path)
            passed = True
        except (AssertionError, ValueError, KeyError):
            passed = False
        assert passed == right, lines


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        check_the_checks(folder)
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run([sys.argv[1]], env={**os.environ, "TRACE_FOLDER": folder}, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        counts = [len(check(os.path.join(folder, name))) for name in os.listdir(folder)]
    assert len(counts) > 20 and max(counts) > 50, counts
