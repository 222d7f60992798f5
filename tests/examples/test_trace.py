"""examples/trace.c and examples/trace_svg.py: the trace is one of Chrome's format; it says what ran where, what waited
for what, and which workers stood in; the picture shows it. test_trace.py TRACE"""
import os, subprocess, sys, tempfile
import xml.etree.ElementTree as xml

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "..", "tools"))
import trace_json

with tempfile.TemporaryDirectory() as folder:
    trace, picture = os.path.join(folder, "trace.json"), os.path.join(folder, "trace.svg")
    # Where the machine has other things to do the second worker may come so late that nothing waits for the style: again.
    for attempt in range(20):
        subprocess.run([sys.argv[1], trace], check=True)
        events = trace_json.check(trace)
        threads = {e["tid"]: e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "thread_name"}
        tasks = {e["args"]["task"]: e for e in events if e["ph"] == "B" and e["cat"] == "task"}
        waits = [e for e in events if e["ph"] == "B" and e["cat"] == "wait"]
        spares = {tid for tid, name in threads.items() if name.endswith(" (spare)")}
        if spares and any(tasks[wait["args"]["for"]]["name"] == "style" for wait in waits): break
    else: raise AssertionError(threads)
    count = lambda name: sum(e["name"] == name for e in tasks.values())
    assert (count("style"), count("page"), count("image")) == (1, 4, 12), tasks
    assert all(threads[e["tid"]].startswith("pages_") for e in tasks.values())
    assert all(tasks[wait["args"]["task"]]["name"] == "page" for wait in waits), waits
    assert spares and all(any(e["ph"] == "B" and e["cat"] == "worker" and e["tid"] == tid for e in events)
                          for tid in spares), threads
    submitted = {e["args"]["task"]: e["args"].get("by") for e in events if e["ph"] == "X" and e["cat"] == "submit"}
    assert set(submitted) == set(tasks)
    assert all((e["name"] == "image") == (submitted[task] is not None) for task, e in tasks.items())
    subprocess.run([sys.executable, os.path.join(here, "..", "..", "examples", "trace_svg.py"), trace, picture], check=True)
    shown = " ".join(xml.parse(picture).getroot().itertext())
    assert all(word in shown for word in ("pages_0", "(spare)", "style", "waits for style", "image", " ms")), shown
